"""Writing files so that a reader sees the old file or the new one, never half of one."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlkit.errors import UserError


@contextmanager
def write_atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends, removes it when it fails.

    Raises UserError where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # Without the flush a power cut after the rename could leave an empty file under the final name.
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # where a parent is a file, there is nothing to remove, and that is no better message
            temporary.unlink()


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which takes its place when the block ends and is removed when it fails.

    Raises UserError where it cannot be written or the disk is full.
    """
    path = Path(path).resolve()
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        new = temporary / "new"
        new.mkdir()
        yield new
        if path.exists():
            os.rename(path, temporary / "old")
        os.rename(new, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(folder: Path, own: Collection[str], marker: str, what: str) -> None:
    """UserError where a folder that is about to be replaced holds what is not of `what`, and would be lost.

    own: names of what such folders hold; marker: the file that tells one, which an empty folder need not have.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder to write the {what} to")
    foreign = sorted(each.name for each in folder.iterdir() if each.name not in own)
    if foreign or (any(folder.iterdir()) and not (folder / marker).is_file()):
        raise UserError(
            f"{folder} holds files that are not of generated {what} ({', '.join(foreign[:3] or ['no ' + marker])}); they "
            "would be lost: name a new or an empty folder"
        )


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Two processes that are `doing` the same in one folder would overwrite each other's files: UserError for the second.

    The lock goes with the process, however that ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w", encoding="utf-8")  # noqa: SIM115 - closed by the `with` below
    except OSError as error:
        raise cannot_write(folder / ".lock", error) from error
    with file:
        try:
            import fcntl

            # Not flock: that would stay with the workers of a killed run for as long as they live on.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # Windows has no such locks; there two runs in one folder are the user's to avoid.
        except OSError as error:
            raise UserError(f"another process is {doing} in {folder}; wait for it or name another folder") from error
        yield


def cache_folder(name: str) -> Path:
    """The user's folder for what can be made again: $XDG_CACHE_HOME/vlkit/NAME, or ~/.cache/vlkit/NAME."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG says to ignore a path that is not absolute.
    if os.path.isabs(named):
        return Path(named) / "vlkit" / name
    try:
        return Path.home() / ".cache" / "vlkit" / name
    except RuntimeError as error:
        raise UserError(f"there is no home folder to keep {name} in; set XDG_CACHE_HOME") from error


def cannot_write(path: str | Path, error: OSError) -> UserError:
    """What to tell a user whose `path` could not be written: the file that stands in the way, or the system's reason."""
    path = Path(path)
    for parent in path.parents:
        if os.path.exists(parent):  # false, not an error, where it may not be looked at
            if not parent.is_dir():
                return UserError(f"cannot write {path}: {parent} is a file, not a folder; name another folder")
            break
    if isinstance(error, IsADirectoryError) and os.path.isdir(path):
        return UserError(f"cannot write {path}: it is a folder; name a file")
    return UserError(
        f"cannot write {path}: {error.strerror or error}; free some space or name a folder that can be written"
    )
