"""Submission files of the graph benchmarks: what an agent did for each instruction, read strictly and written whole.

Reading keeps going after a mistake and collects every one, so that a file is mended in one round.
"""

import gzip
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from vlkit.envs.r2r import Episode
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.judging import SHOWN, Problems, items_of, shown

ENTRIES_AT_MOST = 10_000  # a 2018 agent writes at most 21, turns included
OWN_NAMES = re.compile(r"submission(-\d+|-seed-?\d+(-draw\d+)?)?\.jsonl?")  # and no other file of a user's folder

ID_KEYS = ("instr_id", "instruction_id")
TRAJECTORY_KEYS = ("trajectory", "path")

# Every kind of problem, in the order of the report: one case, several cases, the remedy.
KINDS = {
    "not_object": (
        "item is no object",
        "items are no objects",
        'write each as {"instr_id": "<path_id>_<k>", "trajectory": [[viewpoint, heading, elevation], ...]}',
    ),
    "keys": (
        "item has no usable id",
        "items have no usable id",
        "give each item an instr_id (R2R, R4R, REVERIE) or instruction_id (RxR)",
    ),
    "no_trajectory": (
        "item has no trajectory",
        "items have no trajectory",
        "give each item a list under trajectory (R2R, R4R, REVERIE) or path (RxR)",
    ),
    "entry": (
        "trajectory has an entry that is no viewpoint",
        "trajectories have an entry that is no viewpoint",
        "an entry is [viewpoint, heading, elevation], or the viewpoint alone",
    ),
    "angle": (
        "trajectory has a heading or elevation that is not a finite number",
        "trajectories have a heading or elevation that is not a finite number",
        "write radians, or leave both out",
    ),
    "empty": (
        "trajectory is empty",
        "trajectories are empty",
        "an agent that never moves still writes its start viewpoint",
    ),
    "long": (
        "trajectory is too long",
        "trajectories are too long",
        f"at most {ENTRIES_AT_MOST} entries are read; does the agent stop?",
    ),
    "missing": (
        "instruction has no trajectory",
        "instructions have no trajectory",
        "write one for each; --allow-missing scores the others",
    ),
    "unknown": (
        "trajectory has an id that is not in the annotations",
        "trajectories have an id that is not in the annotations",
        "name the split that they are of; --allow-unknown ignores them",
    ),
    "duplicate": (
        "id is used more than once",
        "ids are used more than once",
        "keep one trajectory each; --allow-duplicates scores the first",
    ),
    "start": (
        "trajectory does not start where its episode does",
        "trajectories do not start where their episodes do",
        "write the start viewpoint first; of the annotations two versions circulate: did the agent run on this one?",
    ),
    "other_scan": (
        "trajectory visits a viewpoint of another scan",
        "trajectories visit a viewpoint of another scan",
        "were the trajectories given to the wrong ids?",
    ),
    "excluded": (
        "trajectory visits a viewpoint that its graph excludes",
        "trajectories visit a viewpoint that their graph excludes",
        'move only among viewpoints with "included": true in the connectivity file',
    ),
    "viewpoint": (
        "trajectory visits a viewpoint that its scan does not have",
        "trajectories visit a viewpoint that their scan does not have",
        "write the image_id of the connectivity file",
    ),
    "hop": (
        "trajectory hops between viewpoints that are not joined",
        "trajectories hop between viewpoints that are not joined",
        "write every viewpoint on the way, or no length can be measured",
    ),
}


@dataclass(frozen=True)
class Trajectory:
    """Where an agent went for one instruction."""

    id: str
    viewpoints: tuple[str, ...]  # from the start on; repeated where the agent turned on the spot
    headings: tuple[float, ...] = ()  # at each viewpoint, radians; both empty where not recorded
    elevations: tuple[float, ...] = ()


def read_submission(path: str | Path) -> tuple[list[Trajectory], Problems]:
    """The usable trajectories of a submission in the file's order, and what is wrong with the others.

    Takes R2R's JSON list (R4R's and REVERIE's too, whatever else an item holds) and RxR's JSON lines, compressed with
    gzip or not. An entry of a trajectory is [viewpoint, heading, elevation], a viewpoint, or a list of viewpoints (the
    way that some agents write a move of several hops). Raises UserError where the file as a whole cannot be read.
    """
    path = Path(path)
    problems = Problems(KINDS)
    trajectories = []
    for where, item in items_of(path):
        trajectory = _trajectory(where, item, problems)
        if trajectory is not None:
            trajectories.append(trajectory)
    return trajectories, problems


def write_submission(path: str | Path, trajectories: Iterable[Trajectory], episodes: Sequence[Episode]) -> None:
    """Writes one trajectory for each episode, in the episodes' order, in the benchmark's format, atomically.

    A name that ends in .jsonl gives RxR's lines of {instruction_id, path}, any other R2R's list of {instr_id,
    trajectory}; .gz behind either compresses. Angles that were not recorded are written as 0. Raises UserError where an
    episode has no trajectory, or a trajectory no episode, or two share an id: such a file would be refused anyway.
    """
    path = Path(path)
    trajectories = list(trajectories)
    problems = Problems(KINDS)
    found: dict[str, Trajectory] = {}
    wanted = {episode.id for episode in episodes}
    for trajectory in trajectories:
        if trajectory.id in found:
            problems.add("duplicate", shown(trajectory.id))
        elif trajectory.id not in wanted:
            problems.add("unknown", shown(trajectory.id))
        elif not trajectory.viewpoints:
            problems.add("empty", shown(trajectory.id))
        elif not all(map(_finite, trajectory.headings + trajectory.elevations)):
            problems.add("angle", shown(trajectory.id))
        found[trajectory.id] = trajectory
    for identifier in sorted(wanted - set(found)):
        problems.add("missing", shown(identifier))
    if problems.counts:
        raise UserError(f"{path} was not written, for the judge would refuse it:\n{problems}")
    ordered = [found[episode.id] for episode in episodes]
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        text = "".join(json.dumps(_rxr_item(trajectory)) + "\n" for trajectory in ordered)
    else:
        text = "[" + ",\n ".join(json.dumps(_r2r_item(trajectory)) for trajectory in ordered) + "]\n"
    with write_atomic(path) as temporary:
        # Without a time in its header the same trajectories give the same bytes.
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())


def remove_submissions(folder: Path) -> None:
    """Removes what an earlier evaluation left in the folder: it may have been of more seeds, or in another format."""
    for file in folder.glob("submission*"):
        if OWN_NAMES.fullmatch(file.name):
            file.unlink()


def _r2r_item(trajectory: Trajectory) -> dict[str, Any]:
    unknown = (0.0,) * len(trajectory.viewpoints)
    headings, elevations = trajectory.headings or unknown, trajectory.elevations or unknown
    entries = list(map(list, zip(trajectory.viewpoints, headings, elevations, strict=True)))
    return {"instr_id": trajectory.id, "trajectory": entries}


def _rxr_item(trajectory: Trajectory) -> dict[str, Any]:
    number = trajectory.id.isascii() and trajectory.id.isdecimal() and str(int(trajectory.id)) == trajectory.id
    return {"instruction_id": int(trajectory.id) if number else trajectory.id, "path": list(trajectory.viewpoints)}


def _trajectory(where: str, item: Any, problems: Problems) -> Trajectory | None:
    if not isinstance(item, dict):
        problems.add("not_object", f"{where}: {shown(item)}")
        return None
    identifier = next((item[key] for key in ID_KEYS if key in item), None)
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        keys = ", ".join(shown(key) for key in list(item)[:SHOWN]) or "(none)"
        problems.add("keys", f"{where}: {shown(identifier)}" if identifier is not None else f"{where} has keys {keys}")
        return None
    where = f"{where}, {shown(identifier)}"
    entries = next((item[key] for key in TRAJECTORY_KEYS if key in item), None)
    if not isinstance(entries, list):
        problems.add("no_trajectory", f"{where}: {shown(entries)}", identifier=identifier)
    elif not entries:
        problems.add("empty", where, identifier=identifier)
    elif len(entries) > ENTRIES_AT_MOST:
        problems.add("long", f"{where}: {len(entries)} entries", identifier=identifier)
    else:
        return _with_viewpoints(where, identifier, entries, problems)
    return None


def _with_viewpoints(where: str, identifier: str, entries: list[Any], problems: Problems) -> Trajectory | None:
    # Nearly every real trajectory is a list of [str, float, float]; going through its entries one by one, as below,
    # would take longer than all the measures.
    if set(map(type, entries)) == {list} and set(map(len, entries)) == {3}:
        names, *angles = zip(*entries, strict=True)
        if set(map(type, names)) == {str} and all(
            set(map(type, a)) == {float} and all(map(isfinite, a)) for a in angles
        ):
            return Trajectory(identifier, names, *angles)
    viewpoints: list[str] = []
    headings: list[float] = []
    elevations: list[float] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, str):
            viewpoints.append(entry)
        elif not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
            problems.add("entry", f"{where}: trajectory[{i}] is {shown(entry)}", identifier=identifier)
            return None
        elif all(isinstance(part, str) for part in entry):
            viewpoints.extend(entry)
        elif not all(map(_finite, entry[1:3])):
            problems.add("angle", f"{where}: trajectory[{i}] is {shown(entry)}", identifier=identifier)
            return None
        else:
            viewpoints.append(entry[0])
            if len(entry) >= 3:
                headings.append(float(entry[1]))
                elevations.append(float(entry[2]))
    if len(viewpoints) > ENTRIES_AT_MOST:
        problems.add("long", f"{where}: {len(viewpoints)} viewpoints", identifier=identifier)
        return None
    if len(headings) != len(viewpoints):  # recorded at some of the entries alone
        return Trajectory(identifier, tuple(viewpoints))
    return Trajectory(identifier, tuple(viewpoints), tuple(headings), tuple(elevations))


def _finite(angle: Any) -> bool:
    try:
        return isinstance(angle, int | float) and not isinstance(angle, bool) and isfinite(angle)
    except OverflowError:  # a whole number that no float holds
        return False
