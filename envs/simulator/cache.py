"""Loaded scenes kept on disk: a scene is parsed once for the same files, reader and arguments.

An entry's name holds the hash of the main file, the arguments and the reader's version, then that of every file that
was read. Before an entry is used all of them are read and hashed again, so that a changed texture is noticed; a damaged
entry counts as none.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlkit.envs.simulator.scene import Room, SceneData, SceneObject, Texture
from vlkit.errors import UserError
from vlkit.files import cache_folder, write_atomic

READER_VERSION = 3  # raise it when a reader makes something else of the same file: older entries are then left alone
LARGEST_CACHE = 32 * 2**30  # bytes; beyond it the entries that were not used for longest are removed
ARRAYS = (
    "vertices",
    "faces",
    "uv",
    "texture",
    "colour",
    "vertex_colour",
    "double_sided",
    "instance",
    "semantic",
)
_WRITING = threading.Lock()  # a temporary file is named for its process, so two threads of one may not write at once


class Sources:
    """Reads files, and remembers what was found so that a later run can tell whether anything has changed."""

    def __init__(self, main: Path, data: bytes | None = None) -> None:
        self.main = main
        self.data = data  # of the main file, where somebody has read it already
        self.folder = Path(os.path.abspath(main)).parent
        self.seen: dict[tuple[str, str], str] = {}  # what was asked, of which path or pattern: what came of it

    def read(self, path: Path) -> bytes:
        """The file's bytes; UserError where there is none or it may not be read."""
        try:
            data = self.data if self.data is not None and path == self.main else path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
            raise UserError(cannot_read(path, error)) from error
        self.seen["read", self._relative(path)] = hashlib.sha256(data).hexdigest()
        return data

    def exists(self, path: Path) -> bool:
        """Whether there is such a file."""
        try:
            found = path.is_file()
        except (OSError, ValueError):
            found = False
        self.seen["exists", self._relative(path)] = str(found)
        return found

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        """The files that a pattern names, sorted; `*` stands for any name, `**` for any number of folders."""
        try:
            found = sorted(path for path in folder.glob(pattern) if path.is_file())
        except (OSError, ValueError, NotImplementedError, IndexError) as error:
            raise UserError(f"{pattern!r} in {folder} is no pattern of file names ({error}); correct it") from error
        names = "\n".join(os.path.relpath(path, folder) for path in found)
        key = f"{self._relative(folder)}\n{pattern}"
        self.seen["glob", key] = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()
        return found

    def unchanged(self, seen: list[list[str]]) -> bool:
        """Whether all that an earlier run found is found again."""
        for asked, name, found in seen:
            if (asked, name) not in self.seen:
                path = self.folder / name.partition("\n")[0]
                if asked == "read":
                    if not self.exists(path):
                        return False
                    self.read(path)
                elif asked == "exists":
                    self.exists(path)
                elif asked == "glob":
                    self.glob(path, name.partition("\n")[2])
            if self.seen.get((asked, name)) != found:
                return False
        return True

    def _relative(self, path: Path) -> str:
        return os.path.relpath(os.path.abspath(path), self.folder)


def scene_cache() -> Path:
    """The user's folder for loaded scenes: $XDG_CACHE_HOME/vlkit/scenes, or ~/.cache/vlkit/scenes."""
    return cache_folder("scenes")


def cached(
    sources: Sources, arguments: dict[str, Any], folder: Path, load: Callable[[Sources], SceneData]
) -> SceneData:
    """What `load(sources)` returns, from the folder where that is known already, and kept there where it is not.

    A folder that cannot be written costs the next run its time and nothing else: a warning in the scene says so.
    """
    data = sources.read(sources.main)
    told = json.dumps([READER_VERSION, sources.main.name, hashlib.sha256(data).hexdigest(), arguments], sort_keys=True)
    key = hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:32]
    for entry in sorted(folder.glob(f"{key}.*.npz")):
        scene = _kept(entry, sources)
        if scene is not None:
            return scene
    fresh = Sources(sources.main, data)
    scene = load(fresh)
    seen = [[asked, name, found] for (asked, name), found in sorted(fresh.seen.items())]
    digest = hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16]
    try:
        _keep(scene, seen, folder / f"{key}.{digest}.npz")
    except UserError as error:
        return replace(scene, warnings=(*scene.warnings, f"this scene is not kept for the next run: {error}"))
    return scene


def cannot_read(path: Path, error: Exception) -> str:
    """What to tell a user whose file could not be read."""
    if isinstance(error, FileNotFoundError):
        return f"there is no file {path}; check the name, or the folder it is run from"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder; name a file in it"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"cannot read {path}: {reason}"


def _kept(entry: Path, sources: Sources) -> SceneData | None:
    try:
        with open(entry, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            told = json.loads(arrays["told"].tobytes())
            if not sources.unchanged(told["seen"]):
                return None
            textures = tuple(
                Texture(arrays[f"texture{i}"], tuple(wrap), tuple(filters))
                for i, (wrap, filters) in enumerate(told["samplers"])
            )
            read = {name: arrays[name] for name in ARRAYS}  # the zip's checksum is verified as each is read
        objects = tuple(SceneObject(**each) for each in told["objects"])
        rooms = tuple(Room(**{**each, "outline": tuple((x, z) for x, z in each["outline"])}) for each in told["rooms"])
        scene = SceneData(
            told["name"],
            **read,
            textures=textures,
            categories=tuple(told["categories"]),
            objects=objects,
            rooms=rooms,
            warnings=tuple(told["warnings"]),
        )
    except Exception:  # a damaged zip, header or table can raise anything: the scene is then parsed again
        return None
    with suppress(OSError):  # a folder of somebody else's: then its order of use is not ours to keep
        os.utime(entry)
    return scene


def _keep(scene: SceneData, seen: list[list[str]], entry: Path) -> None:
    told = {
        "seen": seen,
        "name": scene.name,
        "samplers": [(texture.wrap, texture.filters) for texture in scene.textures],
        "categories": scene.categories,
        "objects": [asdict(each) for each in scene.objects],
        "rooms": [asdict(each) for each in scene.rooms],
        "warnings": scene.warnings,
    }
    arrays = {name: getattr(scene, name) for name in ARRAYS}
    arrays |= {f"texture{i}": texture.image for i, texture in enumerate(scene.textures)}
    arrays["told"] = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
    with _WRITING, write_atomic(entry) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    _make_room(entry)


def _make_room(entry: Path) -> None:
    try:
        entries = [(path.stat().st_mtime, path.stat().st_size, path) for path in entry.parent.glob("*.npz")]
    except OSError:  # another process removed one between the two calls; it makes room itself
        return
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LARGEST_CACHE:
            return
        if path != entry:
            with suppress(OSError):  # somebody else's, or gone already
                path.unlink()
            total -= size
