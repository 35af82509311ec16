"""Image features of panoramas, computed beforehand: for each viewpoint 36 views, 12 headings at 3 elevations.

View `row * 12 + column` looks at heading `column * 30` degrees and elevation -30, 0 or 30 degrees (row 0, 1, 2), as in
the files that come with R2R. `vlkit data features` turns those into our own format, a folder that is opened in no time
and read as needed, whatever its size:

    features.npy   (panoramas, 36, dim) float16 or float32: what numpy.load reads
    index.json     format, version, dtype, dim, the source's name and SHA-256, and the viewpoint of each row
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlkit.envs.graph_tables import ELEVATIONS, HEADINGS, TURN
from vlkit.errors import UserError

VIEWS = HEADINGS * ELEVATIONS
FORMAT = "vlkit image features"
VERSION = 1
DATA, INDEX, INCOMPLETE = "features.npy", "index.json", "incomplete.json"
DTYPES = ("float16", "float32")
NAMED_AT_MOST = 3  # in an error, of things that are missing


def main(arguments: Sequence[str]) -> int:
    """`vlkit data features SOURCE --out DIR [--dtype float16]`"""
    from vlkit.config import load
    from vlkit.envs.feature_files import Arguments, convert

    chosen = load(Arguments, None, arguments, prog="vlkit data features")
    convert(chosen.source, chosen.out, dtype=chosen.dtype, dim=chosen.dim, resume=not chosen.restart)
    return 0


@dataclass(frozen=True, eq=False)
class Features:
    """Features of many panoramas. Nothing is written to them; processes that are forked or spawned share the file."""

    path: Path
    index: Mapping[tuple[str, str], int]  # (scan, viewpoint) -> row
    array: np.ndarray  # (panoramas, 36, dim) float16 or float32, in our own format mapped from the file

    @property
    def dim(self) -> int:
        """Numbers a view."""
        return int(self.array.shape[2])

    @property
    def views(self) -> int:
        """Views a panorama."""
        return VIEWS

    def __len__(self) -> int:
        return len(self.array)

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled memory map would be the whole file: a spawned worker opens it by its path instead.
        return open_features, (self.path, self.dim)

    def rows(self, viewpoints: Iterable[tuple[str, str]]) -> Tensor:
        """Pairs of scan and viewpoint -> (viewpoints,) int64. UserError if any is missing: how many, and which first."""
        wanted = list(viewpoints)
        missing = [pair for pair in wanted if pair not in self.index]
        if missing:
            scans = {scan for scan, _ in missing}
            first = ", ".join(f"{scan} {viewpoint}" for scan, viewpoint in missing[:NAMED_AT_MOST])
            raise UserError(
                f"{self.path} has no features for {len(missing)} of {len(wanted)} viewpoints in {len(scans)} scans, "
                f"first {first}; take features and graphs of the same buildings"
            )
        return torch.tensor([self.index[pair] for pair in wanted], dtype=torch.int64)

    def gather(self, rows: Tensor, views: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(envs,) rows, (envs, views) view numbers -> (envs, views, dim); zeros where the view's number is -1

        In the file's dtype unless another is asked for, on the device of `rows`. Reads only what it returns.
        """
        wanted = views.cpu().numpy()
        flat = self.array.reshape(-1, self.dim)  # a view of the map, no copy
        taken = np.take(flat, rows.cpu().numpy()[:, None] * VIEWS + np.maximum(wanted, 0), axis=0)
        taken[wanted < 0] = 0
        return _placed(taken, rows.device, dtype)

    def panoramas(self, rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(envs,) rows -> (envs, 36, dim): all views; as `gather`"""
        return _placed(np.take(self.array, rows.cpu().numpy(), axis=0), rows.device, dtype)


def _placed(taken: np.ndarray, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    values = torch.from_numpy(taken)
    if device.type == "cpu" and dtype == torch.float32 and values.dtype != dtype:
        # NumPy asks the kernel for huge pages and torch does not: six times as fast for 256 panoramas.
        return torch.from_numpy(np.empty(taken.shape, dtype=np.float32)).copy_(values)
    return values.to(device=device).to(dtype=dtype)


def nearest_view(headings: Tensor, elevations: Tensor) -> Tensor:
    """The view whose centre is nearest to a direction in radians: two equal shapes -> that shape, int64"""
    column = torch.floor(headings / TURN + 0.5).long() % HEADINGS
    row = torch.floor(elevations / TURN + 0.5).long() + ELEVATIONS // 2
    return row.clamp(0, ELEVATIONS - 1) * HEADINGS + column


def open_features(path: str | Path, dim: int | None = None) -> Features:
    """Opens a folder of ours, R2R's TSV or an HDF5 file; `dim` numbers a view are taken from an HDF5 file that has more.

    TSV and HDF5 are read into memory and may be no larger than 2 GiB there. Raises UserError for anything else, an
    unfinished conversion included.
    """
    path = Path(path)
    if path.name in (DATA, INDEX):
        path = path.parent
    if path.is_dir():
        features = _mapped(path)
    elif path.is_file():
        from vlkit.envs.feature_files import read_features

        names, array = read_features(path, dim)
        features = Features(path, {name: row for row, name in enumerate(names)}, array)
    else:
        raise UserError(f"no image features at {path}: name a TSV or HDF5 file, or a folder from `vlkit data features`")
    if dim is not None and features.dim != dim:
        raise UserError(f"{path} has {features.dim} numbers a view and {dim} are expected; take the features that fit")
    return features


def _mapped(folder: Path) -> Features:
    if not (folder / INDEX).is_file():
        if (folder / INCOMPLETE).is_file():
            raise UserError(
                f"{folder}: the conversion to it did not finish; run the same `vlkit data features` command again, it "
                "goes on where it stopped"
            )
        raise UserError(f"{folder} has no {INDEX}: name a folder that `vlkit data features` wrote")
    index = read_index(folder / INDEX)
    names = [(scan, viewpoint) for scan, viewpoint in index["rows"]]
    try:
        array = np.load(folder / DATA, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, OverflowError, SyntaxError, TokenError) as error:  # whatever a damaged header raises
        raise UserError(f"{folder / DATA}: cannot be read ({error}); convert the source again") from error
    expected = (len(names), VIEWS, index["dim"])
    if array.shape != expected or array.dtype != np.dtype(index["dtype"]) or not array.flags.c_contiguous:
        raise UserError(
            f"{folder / DATA} holds {array.dtype} {array.shape}, and {INDEX} says {index['dtype']} {expected}; "
            "convert the source again"
        )
    return Features(folder, {name: row for row, name in enumerate(names)}, array.view(np.ndarray))


def read_index(path: Path) -> dict[str, Any]:
    """A folder's index.json, or the incomplete.json of a conversion; UserError where it is neither."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise UserError(f"{path}: its format is {index['format']!r}, not {FORMAT!r}; name another folder")
        if index["version"] != VERSION:
            raise UserError(
                f"{path}: version {index['version']}, and this vlkit reads {VERSION}; convert the source again"
            )
        fits = (
            index["dtype"] in DTYPES
            and isinstance(index["source"], dict)
            and isinstance(index["dim"], int)
            and all(len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in index["rows"])
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not an index of image features ({error}); convert the source again") from error
    if not fits:
        raise UserError(f"{path}: dtype, dim or rows are not as they should be; convert the source again")
    return dict(index)
