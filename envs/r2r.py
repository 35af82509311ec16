"""R2R's files: navigation graphs and annotations, and those of R4R, RxR and REVERIE, which share the machinery.

A building ("scan") is a graph of panoramic viewpoints. An episode is one instruction for one path through it.
Conventions are Matterport3D's: metres, z up; headings in radians, 0 along +y and clockwise positive.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from vlkit.errors import UserError
from vlkit.plugins import nearest

WORDS_AT_MOST = 2000  # R2R's longest instruction has 144 words, RxR's about 600: more is a broken file
APART_AT_LEAST_M = (
    1e-6  # Matterport's shortest edge has 0.17 mm; one of no length would let a shortest path go in circles
)
COORDINATE_AT_MOST_M = 1e5


@dataclass(frozen=True, eq=False)
class Scan:
    """One building: its included viewpoints, where they are and which are joined."""

    name: str
    viewpoints: tuple[str, ...]  # in the file's order, excluded ones left out
    positions: np.ndarray  # (viewpoints, 3) float64, metres
    adjacency: np.ndarray  # (viewpoints, viewpoints) bool, symmetric
    excluded: frozenset[str]  # viewpoints that the file marks as not included

    @cached_property
    def index(self) -> dict[str, int]:
        return {viewpoint: i for i, viewpoint in enumerate(self.viewpoints)}

    @cached_property
    def edges(self) -> np.ndarray:
        """(viewpoints, viewpoints) float64: metres between joined viewpoints, inf elsewhere, 0 on the diagonal."""
        offsets = self.positions[:, None, :] - self.positions[None, :, :]
        lengths = np.where(self.adjacency, np.sqrt((offsets**2).sum(axis=-1)), np.inf)
        np.fill_diagonal(lengths, 0.0)
        return lengths

    @cached_property
    def distances(self) -> np.ndarray:
        """(viewpoints, viewpoints) float64: length in metres of the shortest path, inf where there is none."""
        distances, sums = self.edges.copy(), np.empty_like(self.edges)
        # Floyd and Warshall, one intermediate viewpoint at a time. Those with few neighbours come first: for as long as
        # one reaches few others, only these can come nearer through it.
        for through in np.argsort(self.adjacency.sum(axis=1), kind="stable"):
            reached = np.flatnonzero(np.isfinite(distances[through]))
            if 2 * len(reached) < len(distances):
                some, row = np.ix_(reached, reached), distances[through, reached]
                distances[some] = np.minimum(distances[some], row[:, None] + row)
            else:
                np.add(distances[:, through, None], distances[through], out=sums)
                np.minimum(distances, sums, out=distances)
        return distances

    def shortest_path(self, start: str, goal: str) -> tuple[str, ...]:
        """The viewpoints of a shortest path, both ends included; UserError where there is none.

        Where both are joined it is that hop, even past a viewpoint that lies on the line.
        """
        at, end = self.index[start], self.index[goal]
        if not math.isfinite(self.distances[at, end]):
            raise UserError(f"scan {self.name}: no path from {start} to {goal}")
        path = [at]
        while at != end:
            onward = np.where(self.adjacency[at], self.edges[at] + self.distances[:, end], np.inf)
            at = end if self.adjacency[at, end] else int(onward.argmin())
            path.append(at)
        return tuple(self.viewpoints[i] for i in path)


@dataclass(frozen=True)
class Episode:
    """One instruction and the path it was written for."""

    id: str  # the id of a submission: "<path_id>_<k>" in R2R, instruction_id in RxR
    path_id: str
    scan: str
    path: tuple[str, ...]  # the reference path; only its start in a test split
    heading: float  # radians, at the start
    instruction: str
    language: str
    number: int  # which of the path's instructions this is, from 0

    @property
    def start(self) -> str:
        return self.path[0]

    @property
    def goal(self) -> str:
        return self.path[-1]


def read_scans(folder: str | Path, names: Iterable[str]) -> dict[str, Scan]:
    """The named buildings from `<scan>_connectivity.json` files, each read once."""
    files = _graphs(folder)
    return {name: _scan(_graph(folder, name, files), name) for name in sorted(set(names))}


def read_scan(folder: str | Path, name: str) -> Scan:
    """One building from `<folder>/<name>_connectivity.json` (Matterport3DSimulator's format)."""
    return read_scans(folder, [name])[name]


def _graphs(folder: str | Path) -> dict[str, Path]:
    suffix = "_connectivity.json"
    return {file.name.removesuffix(suffix): file for file in sorted(Path(folder).glob(f"*{suffix}"))}


def _graph(folder: str | Path, name: str, files: dict[str, Path]) -> Path:
    if name not in files:
        raise UserError(
            f"no graph for scan {name!r}: {folder} has no file {name}_connectivity.json, but {len(files)} others."
            + (nearest(name, files) if files else " Point --connectivity at the folder of *_connectivity.json files.")
        )
    return files[name]


def _scan(path: Path, name: str) -> Scan:
    items = _json(path)
    try:
        included = np.array([bool(item["included"]) for item in items], dtype=bool)
        ids = [str(item["image_id"]) for item in items]
        poses = np.array([item["pose"] for item in items], dtype=np.float64).reshape(len(items), 16)
        unobstructed = np.array([item["unobstructed"] for item in items], dtype=bool).reshape(len(items), len(items))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: not a connectivity file ({type(error).__name__}: {error}); each item needs image_id, pose of 16 "
            "numbers, included, and unobstructed with one entry an item"
        ) from error
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: {len(ids) - len(set(ids))} viewpoints appear twice; fetch the file again")
    keep = np.flatnonzero(included)
    if not len(keep):
        raise UserError(f"{path}: none of its {len(ids)} viewpoints is included; fetch the file again")
    positions = poses[keep][:, [3, 7, 11]]
    strange = ~(np.isfinite(poses[keep]).all(axis=1) & (np.abs(positions) <= COORDINATE_AT_MOST_M).all(axis=1))
    if strange.any():
        raise UserError(
            f"{path}: the pose of viewpoint {ids[keep[strange.argmax()]]} holds a number that is not finite, or a "
            f"position beyond {COORDINATE_AT_MOST_M:g} m; fetch the file again"
        )
    adjacency = unobstructed[np.ix_(keep, keep)]
    np.fill_diagonal(adjacency, False)
    if (adjacency != adjacency.T).any():
        a, b = np.argwhere(adjacency != adjacency.T)[0]
        raise UserError(f"{path}: {ids[keep[a]]} and {ids[keep[b]]} are joined in one direction only; fetch it again")
    scan = Scan(
        name=name,
        viewpoints=tuple(ids[i] for i in keep),
        positions=positions,
        adjacency=adjacency,
        excluded=frozenset(ids[i] for i in np.flatnonzero(~included)),
    )
    if (scan.edges[adjacency] < APART_AT_LEAST_M).any():
        a, b = np.argwhere(adjacency & (scan.edges < APART_AT_LEAST_M))[0]
        raise UserError(
            f"{path}: {scan.viewpoints[a]} and {scan.viewpoints[b]} are joined but at one place; mend a pose"
        )
    return scan


def read_episodes(path: str | Path, split: str | None = None) -> list[Episode]:
    """The episodes of an annotations file, or of one split in a folder of them, in the file's order.

    Knows R2R and R4R (`R2R_<split>.json`), RxR (`rxr_<split>_guide.jsonl.gz`; every language is kept) and REVERIE.
    Raises UserError for a file that is missing, truncated, or holds an item it cannot use; nothing is skipped.
    """
    path = annotations_file(path, split)
    episodes: list[Episode] = []
    told: dict[str, int] = {}  # path -> how many of its instructions were read
    for i, item in enumerate(_items(path)):
        new = _episodes(f"{path}: item {i}", item, told)
        told[new[0].path_id] = told.get(new[0].path_id, 0) + len(new)
        episodes += new
    if not episodes:
        raise UserError(f"{path}: holds no instruction; expected a list of R2R items")
    counts: dict[str, int] = {}
    for episode in episodes:
        counts[episode.id] = counts.get(episode.id, 0) + 1
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(
            f"{path}: {len(twice)} instruction ids appear more than once, first {twice[:3]}; fetch it again"
        )
    return episodes


def annotations_file(path: str | Path, split: str | None = None) -> Path:
    """`path` itself, or the file of `split` in the folder `path`."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"no annotations at {path}: give the JSON file, or the folder that holds R2R_<split>.json")
    if split is None:
        raise UserError(
            f"{path} is a folder: say which split of it, one of {', '.join(splits(path)) or '(none found)'}"
        )
    found = [file for file in sorted(path.iterdir()) if _split(file) == split]
    if len(found) > 1:
        raise UserError(
            f"{path} has {len(found)} files of split {split!r} ({', '.join(f.name for f in found)}); name one"
        )
    if not found:
        raise UserError(
            f"{path} has no file of split {split!r}; it holds {', '.join(splits(path)) or 'no annotations'}"
        )
    return found[0]


def splits(folder: str | Path) -> list[str]:
    """Names of the splits whose annotation files lie in `folder`."""
    return sorted({split for file in Path(folder).iterdir() if (split := _split(file))})


def _split(file: Path) -> str | None:
    """'val_seen' for R2R_val_seen.json, rxr_val_seen_guide.jsonl.gz and the like; None for other files."""
    name = file.name.removesuffix(".gz")
    if not name.endswith((".json", ".jsonl")) or "_" not in name:
        return None
    stem = name.rsplit(".", 1)[0].removesuffix("_guide").removesuffix("_enc")
    return stem.split("_", 1)[1]


def _items(path: Path) -> Iterator[Any]:
    if ".jsonl" in path.name:
        return _json_lines(path)
    items = _json(path)
    if not isinstance(items, list):
        raise UserError(f"{path}: expected a list of items, found {type(items).__name__}")
    return iter(items)


def _episodes(place: str, item: Any, told: dict[str, int]) -> list[Episode]:
    """The instructions of one item; `told` counts those of its path that other items brought."""
    if not isinstance(item, dict):
        raise UserError(
            f"{place} is no object but {type(item).__name__}; expected one with scan, path and instructions"
        )
    try:
        scan, path, path_id = (
            _typed(item, "scan", str),
            _typed(item, "path", list),
            str(_typed(item, "path_id", int, str)),
        )
        heading = float(_typed(item, "heading", int, float))
        if "instructions" in item:
            # REVERIE joins path and object into `id`; several objects may share a path.
            prefix = str(_typed(item, "id", int, str)) if "objId" in item and "id" in item else path_id
            texts = [(f"{prefix}_{k}", text, k) for k, text in enumerate(_typed(item, "instructions", list))]
        else:
            identifier = str(_typed(item, "instruction_id", int, str))
            texts = [(identifier, _typed(item, "instruction", str), told.get(path_id, 0))]
    except (KeyError, TypeError, OverflowError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{place} cannot be used: {what}; an item needs scan, path, path_id, heading and instructions (R2R, R4R, "
            "REVERIE) or instruction_id and instruction (RxR)"
        ) from error
    if not path or not all(isinstance(viewpoint, str) for viewpoint in path):
        raise UserError(f"{place} (path {path_id}): its path must list viewpoint ids, at least the start")
    if not math.isfinite(heading):
        raise UserError(f"{place} (path {path_id}) has heading {heading}; expected radians")
    if not texts:
        raise UserError(f"{place} (path {path_id}) has no instruction; write one, or take the item out of the file")
    for identifier, text, _ in texts:
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{place}: instruction {identifier} is empty; write one, or take it out of the file")
        if (words := len(text.split())) > WORDS_AT_MOST:
            raise UserError(
                f"{place}: instruction {identifier} has {words} words, at most {WORDS_AT_MOST} are read; cut it"
            )
    return [
        Episode(
            id=identifier,
            path_id=path_id,
            scan=scan,
            path=tuple(path),
            heading=heading,
            instruction=text,
            language=str(item.get("language", "en")),
            number=number,
        )
        for identifier, text, number in texts
    ]


def _typed(item: dict[str, Any], key: str, *types: type) -> Any:
    value = item[key]
    if not isinstance(value, types) or isinstance(value, bool):
        raise TypeError(f"its {key} is {type(value).__name__}")
    return value


UNREADABLE = (OSError, EOFError, zlib.error, ValueError, RecursionError)  # what a broken file can raise on the way


def _json(path: Path) -> Any:
    try:
        with _opened(path) as file:
            return json.load(file)
    except UNREADABLE as error:
        raise _broken(error, path) from error


def _json_lines(path: Path) -> Iterator[Any]:
    lines = 0
    try:
        with _opened(path) as file:
            for line in file:
                lines += 1
                if line.strip():
                    yield json.loads(line)
    except UNREADABLE as error:
        raise _broken(error, path, lines) from error


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")


def _broken(error: BaseException, path: Path, lines: int | None = None) -> UserError:
    if isinstance(error, json.JSONDecodeError):
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
        line = error.lineno if lines is None else lines
        what = f"ends in the middle of line {line}" if cut else f"is not JSON in line {line} ({error.msg})"
    elif isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return UserError(f"cannot read {path}: {error.strerror or error}; name a file that exists and may be read")
    else:
        what = f"cannot be read{f' after line {lines}' if lines else ''} ({error})"
    return UserError(f"{path} {what}; fetch it again")
