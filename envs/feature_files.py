"""The files in which image features come, and their conversion to the memory-mapped folder of features.py.

TSV, R2R's own: a line a panorama, with the fields scanId, viewpointId, image_w, image_h, vfov, features; the last is
base64 of 36 x dim float32. HDF5: a data set a panorama, called `<scan>_<viewpoint>`, of shape (36, dim or more).
"""

import binascii
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import tyro
from rich.console import Console

from vlkit.envs.features import DATA, DTYPES, FORMAT, INCOMPLETE, INDEX, VERSION, VIEWS, read_index
from vlkit.errors import UserError
from vlkit.files import cannot_write, write_atomic
from vlkit.progress import progress

FIELDS = ("scanId", "viewpointId", "image_w", "image_h", "vfov", "features")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PACKED = {b"PK\x03\x04": "unzip", b"\x1f\x8b": "gunzip"}
LINE_BYTES = 64 * 2**20  # a longer line is no panorama: 36 views of 2048 numbers take 0.4 MB
MEMORY_BYTES = 2 * 2**30  # what is read without a conversion
HEADER_BYTES = 128  # of features.npy: fixed, so that the number of panoramas can be filled in at the end
CHECKPOINT_ROWS = 256  # a killed conversion repeats at most so many


@dataclass(frozen=True)
class Panorama:
    """One row of a source."""

    scan: str
    viewpoint: str
    values: np.ndarray  # (36, dim) float32
    where: str  # "line 3", for messages
    end: int  # how far the source is read after it: bytes of a TSV, data sets of an HDF5 file


class Source(Protocol):
    """A file of features, read from first to last."""

    path: Path
    dim: int | None  # numbers a view; None until they are asked for or the first panorama shows them
    size: int  # the last panorama's `end`
    unit: tuple[int, str]  # to show progress in: how much of `end` that is, and its name

    def memory_bytes(self) -> int:
        """About what all panoramas take as float32."""

    def panoramas(self, start: int) -> Iterator[Panorama]:
        """Those behind `start`, which is 0 or some panorama's `end`."""

    def digest(self, end: int) -> str:
        """SHA-256 of the TSV's first `end` bytes, of a whole HDF5 file"""


@dataclass(frozen=True)
class Arguments:
    """Convert image features (R2R's TSV, or HDF5) to a memory-mapped folder; run again, it goes on where it stopped."""

    source: tyro.conf.Positional[Path]
    """the TSV or HDF5 file"""
    out: Path
    """folder to write"""
    dtype: Literal["float16", "float32"] = "float16"
    """half the size, or the source's numbers to the last bit"""
    dim: int | None = None
    """numbers a view; an HDF5 file may have more, then the first ones are taken"""
    restart: bool = False
    """begin anew where an earlier conversion to this folder did not finish"""


def convert(
    source: str | Path,
    folder: str | Path,
    *,
    dtype: str = "float16",
    dim: int | None = None,
    resume: bool = True,
    checkpoint_rows: int = CHECKPOINT_ROWS,
) -> None:
    """Converts a TSV or HDF5 file, one panorama in memory at a time, and shows progress on the standard error stream.

    Killed at any moment, it goes on where it stopped when called again, and ends in the same bytes. Raises UserError
    for a row that is damaged, not finite, of another width or there twice; what lies before it is kept, so that after
    the source is mended the conversion goes on; where nothing does, the folder is left as it was.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}: features are stored as {' or '.join(DTYPES)}")
    opened, folder = open_source(Path(source), dim), Path(folder)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if _converted(folder, opened, dtype, dim):
        console.print(f"{folder} already holds the features of {opened.path.name}")
        return
    index = _begun(folder, opened, dtype, resume=resume)
    ours = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Before the data: a folder with data and without this file is not ours.
        _save(folder / INCOMPLETE, index)
        with open(folder / DATA, "r+b" if index["rows"] else "wb") as data:
            data.truncate(HEADER_BYTES + len(index["rows"]) * _row_bytes(index))
            data.seek(0, os.SEEK_END)
            _append(opened, index, data, folder, checkpoint_rows, console)
            data.seek(0)
            data.write(_header(index))
            data.flush()
            os.fsync(data.fileno())
        _save(folder / INDEX, {key: value for key, value in index.items() if key != "end"})
        _tidy(folder)
    except OSError as error:
        raise UserError(
            f"{cannot_write(folder, error)}, and run the command again: it goes on where it stopped"
        ) from error
    finally:
        if not index["rows"]:  # nothing to go on from
            (folder / DATA).unlink(missing_ok=True)
            _tidy(folder)
            if ours and folder.is_dir():
                folder.rmdir()
    size = (folder / DATA).stat().st_size
    console.print(f"{len(index['rows'])} panoramas, {VIEWS} x {index['dim']} {dtype}, {_bytes(size)}: {folder}")


def read_features(path: Path, dim: int | None) -> tuple[list[tuple[str, str]], np.ndarray]:
    """All of a TSV or HDF5 file: pairs of scan and viewpoint, and (panoramas, 36, dim) float32."""
    source = open_source(path, dim)
    if source.memory_bytes() > MEMORY_BYTES:
        raise UserError(
            f"{path} would take about {_bytes(source.memory_bytes())} of memory, and at most {_bytes(MEMORY_BYTES)} are "
            f"read at once; convert it first: vlkit data features {path} --out FOLDER"
        )
    names: list[tuple[str, str]] = []
    values: list[np.ndarray] = []
    for panorama in _checked(source, 0, names):
        names.append((panorama.scan, panorama.viewpoint))
        values.append(panorama.values)
    if not names:
        raise UserError(f"{path} holds no panorama; fetch it again")
    return names, np.stack(values)


def open_source(path: Path, dim: int | None) -> Source:
    """The TSV or HDF5 file at `path`."""
    if dim is not None and dim < 1:
        raise UserError(f"dim {dim}: a view has at least one number")
    if not path.is_file():
        raise UserError(f"no image features at {path}: name a TSV or HDF5 file")
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); allow it, or name another file") from error
    if start.startswith(HDF5_SIGNATURE):
        return Hdf5Source(path, dim)
    for signature, tool in PACKED.items():
        if start.startswith(signature):
            raise UserError(f"{path} is packed; {tool} it and name the TSV or HDF5 file that is inside")
    if path.suffix == ".tsv" or b"\t" in start:
        return TsvSource(path, dim)
    raise UserError(f"{path} is neither a TSV file of image features nor HDF5; name one, or a folder of ours")


class TsvSource:
    """R2R's own format; a first line with the fields' names is allowed, and may order them otherwise."""

    def __init__(self, path: Path, dim: int | None) -> None:
        self.path, self.dim, self.size, self.unit = path, dim, path.stat().st_size, (2**20, "MiB")
        self._hash, self._hashed, self._lines = hashlib.sha256(), 0, 0
        with open(path, "rb") as file:
            first = file.readline(LINE_BYTES).decode("utf-8", errors="replace").strip().split("\t")
        self._named = set(first) == set(FIELDS)
        self._order = [first.index(name) for name in FIELDS] if self._named else list(range(len(FIELDS)))

    def memory_bytes(self) -> int:
        """About what all panoramas take as float32."""
        return self.size * 3 // 4

    def panoramas(self, start: int) -> Iterator[Panorama]:
        """Those behind byte `start`."""
        self.digest(start)  # which also counts the lines before it
        with open(self.path, "rb") as file:
            file.seek(start)
            while line := file.readline(LINE_BYTES + 1):
                self._hash.update(line)
                self._hashed += len(line)
                self._lines += 1
                if line.strip() and not (self._named and self._lines == 1):
                    yield self._panorama(line, f"line {self._lines}")

    def digest(self, end: int) -> str:
        """SHA-256 of the first `end` bytes."""
        if end != self._hashed:
            self._hash, self._hashed, self._lines = hashlib.sha256(), end, 0
            with open(self.path, "rb") as file:
                for block in _blocks(file, end):
                    self._hash.update(block)
                    self._lines += block.count(b"\n")
        return self._hash.hexdigest()

    def _panorama(self, line: bytes, where: str) -> Panorama:
        if len(line) > LINE_BYTES:
            raise UserError(
                f"{self.path}, {where}: longer than {_bytes(LINE_BYTES)}; this is no file of image features"
            )
        # csv.reader would stop at its limit of 131072 characters, which is less than one panorama.
        fields = line.rstrip(b"\r\n").split(b"\t")
        cut = "" if line.endswith(b"\n") else "; the file ends in the middle of this line: fetch it again"
        if len(fields) != len(FIELDS):
            raise UserError(
                f"{self.path}, {where}: {len(fields)} fields, expected {len(FIELDS)} ({', '.join(FIELDS)})"
                + (cut or ", with a tab between two")
            )
        scan, viewpoint, *_, encoded = (fields[i] for i in self._order)
        names = [name.decode("utf-8", errors="replace") for name in (scan, viewpoint)]
        for field, name in zip(FIELDS, names, strict=False):
            if not name or " " in name or not name.isprintable() or "\ufffd" in name:
                raise UserError(f"{self.path}, {where}: {field} is {_short(name)}, expected a name without spaces")
        where += f" (scan {_short(names[0])}, viewpoint {_short(names[1])})"
        try:
            decoded = binascii.a2b_base64(encoded, strict_mode=True)
        except binascii.Error as error:
            raise UserError(
                f"{self.path}, {where}: the features are not base64 ({error})" + (cut or "; fetch the file again")
            ) from error
        row = VIEWS * np.dtype("<f4").itemsize
        if self.dim is None and decoded and len(decoded) % row == 0:
            self.dim = len(decoded) // row
        if self.dim is None or len(decoded) != row * self.dim:
            expected = f"{VIEWS} x {self.dim or 'dim'} x 4"
            found = (
                f"which is {VIEWS} x {len(decoded) // row} x 4" if len(decoded) % row == 0 else "no multiple of 36 x 4"
            )
            raise UserError(
                f"{self.path}, {where}: expected {expected} bytes of features, found {len(decoded)}, {found}"
                + (cut or "; fetch the file again, or take one whose views are all equally wide")
            )
        values = np.frombuffer(decoded, dtype="<f4").reshape(VIEWS, self.dim)
        return Panorama(names[0], names[1], values, where, end=self._hashed)


class Hdf5Source:
    """A data set a panorama. Where a row holds more than `dim` numbers (class scores, say), the first are taken."""

    def __init__(self, path: Path, dim: int | None) -> None:
        try:
            import h5py
        except ImportError as error:
            raise UserError(f'{path} is HDF5, which needs h5py: pip install "vlkit[hdf5]"') from error
        self.path, self.dim, self._cut = path, dim, dim is not None
        self._hash = ""
        self._open = h5py.File
        with _readable(path), self._open(path, "r") as file:
            self._keys = sorted(file)
            first = file[self._keys[0]] if self._keys else None
            self._numbers = int(getattr(first, "size", 0))  # in the first data set
        self.size, self.unit = len(self._keys), (1, "panoramas")

    def memory_bytes(self) -> int:
        """About what all panoramas take as float32."""
        return self.size * (VIEWS * self.dim if self.dim else self._numbers) * 4

    def panoramas(self, start: int) -> Iterator[Panorama]:
        """Those behind the first `start` data sets, in the order of their names."""
        with _readable(self.path):
            file = self._open(self.path, "r")
        with file:
            for number, key in enumerate(self._keys[start:], start=start + 1):
                yield self._panorama(file, key, number)

    def digest(self, end: int) -> str:
        """SHA-256 of the whole file, whatever the end: a data set may lie anywhere in it"""
        if not self._hash:
            digest = hashlib.sha256()
            with open(self.path, "rb") as file:
                for block in _blocks(file, self.path.stat().st_size):
                    digest.update(block)
            self._hash = digest.hexdigest()
        return self._hash

    def _panorama(self, file: Any, key: str, number: int) -> Panorama:
        where = f"data set {_short(key)}"
        scan, _, viewpoint = key.rpartition("_")
        if not scan or not viewpoint:
            raise UserError(f"{self.path}, {where}: expected a name of the form <scan>_<viewpoint>")
        with _readable(self.path, where):
            stored = file[key]
            shape, kind = tuple(getattr(stored, "shape", ())), getattr(getattr(stored, "dtype", None), "kind", "")
            if len(shape) != 2 or shape[0] != VIEWS or shape[1] < 1 or kind != "f":
                raise UserError(
                    f"{self.path}, {where}: expected floats of shape (36, dim), found {kind or 'none'} {shape}"
                )
            self.dim = self.dim or shape[1]
            if shape[1] < self.dim or (shape[1] > self.dim and not self._cut):
                raise UserError(
                    f"{self.path}, {where}: expected {self.dim} numbers a view, found {shape[1]}; take a file whose data "
                    "sets are equally wide, or say with --dim how many of the numbers to take"
                )
            values = np.asarray(stored[:, : self.dim], dtype=np.float32)
        return Panorama(scan, viewpoint, values, where, end=number)


def _converted(folder: Path, source: Source, dtype: str, dim: int | None) -> bool:
    """Whether the folder already holds just this; UserError where it holds other features."""
    if not (folder / INDEX).is_file():
        return False
    index = read_index(folder / INDEX)
    same_source = all(index["source"].get(key) == value for key, value in _name(source).items())
    if not same_source or index["dtype"] != dtype or dim not in (None, index["dim"]):
        raise UserError(
            f"{folder} already holds features: of {index['source'].get('name')}, {index['dtype']}, dim {index['dim']}; "
            "name another folder, or remove this one"
        )
    _tidy(folder)
    return True


def _begun(folder: Path, source: Source, dtype: str, *, resume: bool) -> dict[str, Any]:
    """The state of an unfinished conversion in the folder, or that of a new one."""
    unfinished = (folder / INCOMPLETE).is_file()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder to write the features to")
    if folder.exists() and not unfinished and (foreign := sorted(set(folder.iterdir()) - set(_passing(folder)))):
        raise UserError(
            f"{folder} holds {len(foreign)} files that are not of a conversion ({foreign[0].name}); name an empty folder"
        )
    if not (unfinished and resume):
        new = {"format": FORMAT, "version": VERSION, "dtype": dtype, "dim": source.dim or 0, "end": 0, "rows": []}
        return {**new, "source": {**_name(source), "sha256": source.digest(0)}}
    index = read_index(folder / INCOMPLETE)
    remedy = "begin anew with --restart, or name another folder"
    if index["dtype"] != dtype or (source.dim and index["dim"] and source.dim != index["dim"]):
        raise UserError(
            f"{folder}: a conversion to {index['dtype']} with dim {index['dim']} was begun there, and {dtype} with dim "
            f"{source.dim or index['dim']} is asked for; {remedy}"
        )
    end, size = index.get("end"), (folder / DATA).stat().st_size if (folder / DATA).is_file() else 0
    if not isinstance(end, int) or (index["rows"] and size < HEADER_BYTES + len(index["rows"]) * _row_bytes(index)):
        raise UserError(f"{folder}: {DATA} is shorter than {INCOMPLETE} says; {remedy}")
    if not 0 <= end <= source.size or source.digest(end) != index["source"].get("sha256"):
        raise UserError(f"{source.path} is not the file with which the conversion to {folder} was begun; {remedy}")
    source.dim = source.dim or index["dim"] or None
    return {**index, "source": {**_name(source), "sha256": index["source"]["sha256"]}}


def _append(
    source: Source, index: dict[str, Any], data: BinaryIO, folder: Path, checkpoint_rows: int, console: Console
) -> None:
    """Writes what is missing, and every so often how far it is."""
    dtype, saved, first = np.dtype(index["dtype"]).newbyteorder("<"), len(index["rows"]), index["end"]
    names = [(scan, viewpoint) for scan, viewpoint in index["rows"]]
    if saved:
        console.print(f"goes on behind panorama {saved}")

    def checkpoint() -> None:
        data.flush()
        os.fsync(data.fileno())
        index["source"]["sha256"] = source.digest(index["end"])
        _save(folder / INCOMPLETE, index)

    try:
        with progress(source.size // source.unit[0], first=first // source.unit[0], unit=source.unit[1]) as shown:
            for panorama in _checked(source, first, names):
                if len(index["rows"]) == saved:
                    index["dim"] = panorama.values.shape[1]
                    _check_space(folder, _row_bytes(index) * (source.size - first) // (panorama.end - first))
                data.write(_stored(panorama, source, dtype).tobytes())
                index["rows"].append([panorama.scan, panorama.viewpoint])
                index["end"] = panorama.end
                if len(index["rows"]) % checkpoint_rows == 0:
                    checkpoint()
                shown.update(panorama.end // source.unit[0], f"{len(index['rows'])} panoramas")
    finally:
        # After an error in the source too: once that is mended, the rows before it need not be read again.
        checkpoint()
    if not index["rows"]:
        raise UserError(f"{source.path} holds no panorama; fetch it again")
    index["source"]["sha256"] = source.digest(source.size)


def _checked(source: Source, start: int, names: Sequence[tuple[str, str]]) -> Iterator[Panorama]:
    """The source's panoramas, each of them finite, and none there twice or among those named."""
    seen = {name: f"row {row}" for row, name in enumerate(names)}
    for panorama in source.panoramas(start):
        name = (panorama.scan, panorama.viewpoint)
        if name in seen:
            raise UserError(
                f"{source.path}, {panorama.where}: this panorama is there twice, first in {seen[name]}; take one of them out"
            )
        wrong = panorama.values.size - int(np.isfinite(panorama.values).sum())
        if wrong:
            raise UserError(
                f"{source.path}, {panorama.where}: {wrong} of {panorama.values.size} numbers are not finite; compute the "
                "features anew, or take the panorama out"
            )
        seen[name] = panorama.where
        yield panorama


def _stored(panorama: Panorama, source: Source, dtype: np.dtype[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = panorama.values.astype(dtype)
    if not np.isfinite(values).all():
        raise UserError(
            f"{source.path}, {panorama.where}: {np.abs(panorama.values).max():.4g} is too large for float16, which ends at "
            "65504; convert with --dtype float32 (and --restart)"
        )
    return values


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: the features need about {_bytes(needed)} and the disk has {_bytes(free)} free; free some space, "
            "name a folder on another disk, or use --dtype float16"
        )


def _header(index: dict[str, Any]) -> bytes:
    """The .npy header, padded to a fixed length (NumPy's NEP 1, version 1.0)."""
    shape = (len(index["rows"]), VIEWS, index["dim"])
    described = {"descr": np.dtype(index["dtype"]).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    text = repr(described).encode("ascii").ljust(HEADER_BYTES - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _save(path: Path, index: dict[str, Any]) -> None:
    with write_atomic(path) as temporary:
        temporary.write_text(json.dumps(index, separators=(",", ":")) + "\n", encoding="utf-8")


def _tidy(folder: Path) -> None:
    for file in _passing(folder):
        file.unlink()


def _passing(folder: Path) -> list[Path]:
    """Files that only a conversion under way needs, those of a killed one included."""
    return [*folder.glob(INCOMPLETE), *folder.glob(f".{INCOMPLETE}.*.tmp"), *folder.glob(f".{INDEX}.*.tmp")]


def _name(source: Source) -> dict[str, Any]:
    return {"name": source.path.name, "bytes": source.path.stat().st_size}


def _row_bytes(index: dict[str, Any]) -> int:
    return int(VIEWS * index["dim"] * np.dtype(index["dtype"]).itemsize)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file, a few at a time."""
    while size > 0 and (block := file.read(min(size, 2**20))):
        size -= len(block)
        yield block


@contextmanager
def _readable(path: Path, where: str = "") -> Iterator[None]:
    """h5py's errors as ours."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}{', ' if where else ''}{where}: not readable as HDF5 ({error}); fetch it again"
        ) from error


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")


def _bytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
