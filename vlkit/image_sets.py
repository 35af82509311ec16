"""Pictures by name, as training reads them: pixels from a folder or a zip file, or features that were computed beforehand.

Pixels are decoded and brought to one size once, and kept in the user's cache, so that no epoch waits for JPEGs. What is
missing or damaged is listed, never left out in silence: whoever opens a set decides what that means.
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from vlkit.errors import UserError
from vlkit.files import cache_folder, cannot_write
from vlkit.images import fitted, read_image
from vlkit.processes import cores
from vlkit.progress import progress

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMAT = 2  # raise it when the same pictures yield other pixels
SHOWN = 3  # names in a message
MOST_AHEAD = 64  # pictures decoded before they are written


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Some pictures, by name."""

    names: tuple[str, ...]  # those that are there, in the order in which they were asked for
    values: np.ndarray  # pixels (images, height, width, 3) uint8, or features (images, patches, dim)
    shape: tuple[int, int] | None  # rows and columns of features; None for pixels
    troubles: Mapping[str, str]  # what is wrong with those that are not there
    sizes: np.ndarray | None = None  # (images, 2) int64: width and height of the files, in pixels; None for features

    @property
    def rows(self) -> dict[str, int]:
        """The place of each picture."""
        return {name: row for row, name in enumerate(self.names)}

    def read(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """Places -> pixels (images, height, width, 3) uint8, or features (images, patches, dim) float32"""
        found = torch.from_numpy(np.ascontiguousarray(self.values[np.asarray(rows)]))
        return found if self.shape is None else found.float()


def missing(images: ImageSet, source: Path, skip: str) -> None:
    """UserError that counts and names what is not there; `skip` is the setting that would leave it out."""
    if not images.troubles:
        return
    told = "; ".join(f"{name}: {reason}" for name, reason in list(images.troubles.items())[:SHOWN])
    raise UserError(
        f"{len(images.troubles)} of {len(images.troubles) + len(images.names)} pictures in {source} cannot be read ({told}"
        f"{'; ...' if len(images.troubles) > SHOWN else ''}); put them there, or set {skip} to leave out, and count, the "
        "questions about them"
    )


def pixels(
    source: Path, names: Iterable[str], *, size: int, fit: str = "stretch", cache: Path | None = None
) -> ImageSet:
    """The pictures of a folder or a zip file, each (size, size, 3) uint8; `fit` as in `images.fitted`.

    A name is a path within the source, the name of a file anywhere in it, that without its ending, or the number at the end
    of that (COCO's 42 for COCO_val2014_000000000042.jpg). UserError where the source is neither folder nor zip file.
    """
    wanted = tuple(dict.fromkeys(names))
    with opened(source) as files:
        found = {name: file for name in wanted if (file := files.find(name)) is not None}
        troubles = {name: "there is no such file" for name in wanted if name not in found}
        told = [FORMAT, str(source.resolve()), size, fit, [[name, *files.stamp(file)] for name, file in found.items()]]
        key = hashlib.sha256(json.dumps(told).encode(errors="surrogateescape")).hexdigest()[:32]
        folder = cache_folder("images") if cache is None else cache
        kept = folder / key
        if not (kept / "told.json").is_file():
            _decode(files, found, kept, size, fit)
    told_of = json.loads((kept / "told.json").read_text(encoding="utf-8"))
    damaged: dict[str, str] = told_of["damaged"]
    names_there = tuple(name for name in found if name not in damaged)
    values = np.load(kept / "pixels.npy", mmap_mode="r")
    order = {name: i for i, name in enumerate(wanted)}
    every = dict(sorted((troubles | damaged).items(), key=lambda item: order[item[0]]))
    sizes = np.array(told_of["sizes"], np.int64).reshape(-1, 2)
    return ImageSet(names_there, values, None, every, sizes)


def _decode(files: "Files", found: Mapping[str, str], kept: Path, size: int, fit: str) -> None:
    """Writes the pixels of all that can be read, and what is wrong with the others; whole or not at all."""
    damaged: dict[str, str] = {}
    sizes: list[tuple[int, int]] = []
    temporary: Path | None = None
    needed = len(found) * size * size * 3
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(kept.parent).free
        if needed > free:
            raise UserError(
                f"{len(found)} pictures of {size}x{size} take {needed / 2**30:.1f} GiB in {kept.parent}, where "
                f"{free / 2**30:.1f} GiB are free; free some, or set XDG_CACHE_HOME to a folder on another disk"
            )
        temporary = Path(tempfile.mkdtemp(prefix=f".{kept.name}.", suffix=".tmp", dir=kept.parent))

        def decoded(name: str) -> tuple[np.ndarray, tuple[int, int]] | UserError:
            try:
                picture = read_image(files.open(found[name]))
            except UserError as error:
                return error
            shown = (fitted(picture, size, fit) * 255).round().to(torch.uint8).permute(1, 2, 0)
            return shown.contiguous().numpy(), (picture.shape[2], picture.shape[1])

        with (
            progress(len(found), unit="pictures") as bar,
            ThreadPoolExecutor(cores()) as pool,
            open(temporary / "raw", "wb") as raw,
        ):
            names = list(found)
            for first in range(0, len(names), MOST_AHEAD):
                part = names[first : first + MOST_AHEAD]
                for name, result in zip(part, pool.map(decoded, part), strict=True):
                    if isinstance(result, UserError):
                        damaged[name] = str(result).partition("\n")[0]
                    else:
                        raw.write(result[0].data)
                        sizes.append(result[1])
                bar.update(first + len(part), "decoding pictures")
        _as_npy(temporary / "raw", temporary / "pixels.npy", (len(sizes), size, size, 3))
        (temporary / "told.json").write_text(json.dumps({"damaged": damaged, "sizes": sizes}) + "\n", encoding="utf-8")
        if not kept.exists():  # another process may have been faster
            os.rename(temporary, kept)
    except OSError as error:
        raise cannot_write(kept, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _as_npy(raw: Path, file: Path, shape: tuple[int, ...]) -> None:
    with open(file, "wb") as target, open(raw, "rb") as source:
        np.lib.format.write_array_header_1_0(target, {"descr": "|u1", "fortran_order": False, "shape": shape})
        shutil.copyfileobj(source, target, 2**22)
    raw.unlink()


# Where files lie


class Files:
    """The pictures in a folder or a zip file."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = sorted(path for path in paths if path.lower().endswith(ENDINGS))
        self.known: dict[str, str] = {}
        for key in (_number, _stem, _file_name, str):  # what says more comes later, and wins
            for path in reversed(self.paths):
                if (name := key(path)) is not None:
                    self.known[name] = path

    def find(self, name: str) -> str | None:
        """The path of a picture, or nothing."""
        plain = str(PurePosixPath(name.replace("\\", "/")))
        for asked in (plain, PurePosixPath(plain).name, str(int(name)) if name.isdecimal() else None):
            if asked is not None and asked in self.known:
                return self.known[asked]
        return None

    def open(self, path: str) -> BinaryIO | Path:
        """What `read_image` takes."""
        raise NotImplementedError

    def stamp(self, path: str) -> tuple[Any, ...]:
        """What changes where the file does."""
        raise NotImplementedError


def _file_name(path: str) -> str:
    return PurePosixPath(path).name


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _number(path: str) -> str | None:
    """The number at the end of a file's name, without leading zeros."""
    stem = PurePosixPath(path).stem
    digits = stem[len(stem.rstrip("0123456789")) :]
    return str(int(digits)) if digits else None


class Folder(Files):
    """Pictures in a folder, at any depth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            (Path(place) / name).relative_to(folder).as_posix()
            for place, _, names in os.walk(folder, followlinks=True)
            for name in names
        )

    def open(self, path: str) -> Path:
        """The file itself."""
        return self.folder / path

    def stamp(self, path: str) -> tuple[Any, ...]:
        """Where it is, its size and when it was written."""
        found = (self.folder / path).stat()
        return path, found.st_size, found.st_mtime_ns


class Zip(Files):
    """Pictures in a zip file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        super().__init__(archive.namelist())

    def open(self, path: str) -> BinaryIO:
        """Its bytes."""
        try:
            data = io.BytesIO(self.archive.read(path))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise UserError(f"{path} in {self.archive.filename} cannot be unpacked ({error})") from error
        data.name = path  # what an error calls it
        return data

    def stamp(self, path: str) -> tuple[Any, ...]:
        """Where it is, its size and checksum."""
        found = self.archive.getinfo(path)
        return path, found.file_size, found.CRC


@contextmanager
def opened(source: Path) -> Iterator[Files]:
    """The pictures of a folder or a zip file; UserError where it is neither."""
    if source.is_dir():
        yield Folder(source)
        return
    try:
        archive = zipfile.ZipFile(source)
    except FileNotFoundError as error:
        raise UserError(f"there is no {source}; name the folder or the zip file of the pictures") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{source} is no folder and no zip file ({error}); name where the pictures are") from error
    with archive:
        yield Zip(archive)


# Features computed beforehand


def features(source: Path, names: Iterable[str]) -> ImageSet:
    """Grid features: a folder of .npy files (patches, dim) or (rows, columns, dim), one a picture, or an HDF5 file with such
    a dataset for each. Names as in `pixels`. UserError where two differ in size, and for numbers that are none.
    """
    wanted = tuple(dict.fromkeys(names))
    if not source.exists():
        raise UserError(f"there are no features in {source}; name a folder of .npy files, or an HDF5 file")
    read = _npy_features if source.is_dir() else _hdf5_features
    found: list[np.ndarray] = []
    there: list[str] = []
    troubles: dict[str, str] = {}
    shape: tuple[int, ...] | None = None
    for name, value in read(source, wanted):
        if isinstance(value, str):
            troubles[name] = value
            continue
        if value.ndim not in (2, 3) or not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            raise UserError(
                f"the features of {name} in {source} are {value.dtype} of shape {value.shape}, or not finite; expected "
                "finite floats (patches, dim) or (rows, columns, dim)"
            )
        if shape is not None and value.shape != shape:
            raise UserError(
                f"the features of {name} in {source} are {value.shape}, earlier ones {shape}; make them alike"
            )
        shape = value.shape
        there.append(name)
        found.append(value.reshape(-1, value.shape[-1]).astype(np.float16))
    if shape is None:
        raise UserError(f"{source} has features of none of the {len(wanted)} pictures; name the right folder or file")
    grid = _grid_shape(shape)
    return ImageSet(tuple(there), np.stack(found), grid, troubles)


def _grid_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns; patches in no known order are a row, unless they make a square."""
    if len(shape) == 3:
        return shape[0], shape[1]
    side = round(shape[0] ** 0.5)
    return (side, side) if side * side == shape[0] else (1, shape[0])


def _npy_features(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray | str]]:
    files = Files(())
    paths = {each.relative_to(folder).as_posix()[: -len(".npy")]: each for each in sorted(folder.rglob("*.npy"))}
    for key in (_number, _file_name, str):
        for path in sorted(paths, reverse=True):
            if (name := key(path)) is not None:
                files.known[name] = path
    for name in names:
        found = files.find(name) or files.find(str(PurePosixPath(name).with_suffix("")))
        if found is None:
            yield name, "there is no such .npy file"
            continue
        try:
            yield name, np.load(paths[found], allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            yield name, f"{paths[found].name} is damaged ({error})"


def _hdf5_features(file: Path, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray | str]]:
    import h5py

    try:
        archive = h5py.File(file)
    except OSError as error:
        raise UserError(
            f"{file} is no HDF5 file, or is damaged ({error}); name a folder of .npy files, or one"
        ) from error
    with archive:
        for name in names:
            for key in (name, PurePosixPath(name).stem):
                if key in archive and isinstance(archive[key], h5py.Dataset):
                    yield name, np.asarray(archive[key])
                    break
            else:
                yield name, "there is no such dataset"
