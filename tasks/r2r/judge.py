"""`vlkit judge r2r`: scores anybody's submission file for R2R, R4R, RxR or REVERIE, strictly.

`fixed` scores every annotated instruction. `compat` does what the reference evaluator of 2018 does: it scores the
instructions 0 to 2 of each path, so 1020 of the 1021 in val_seen. Measures are the same in both, and so is what is
refused. REVERIE's object grounding, and its success where the object is seen, are not scored: navigation alone is.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlkit import __version__
from vlkit.config import load
from vlkit.envs.measures import padded
from vlkit.envs.r2r import Episode, Scan, annotations_file, read_episodes, read_scans
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.judging import Problems, sha256, shown, with_rows
from vlkit.statistics import bootstrap_intervals
from vlkit.tasks.r2r.metrics import LABELS, PUBLISHED, UNITS, scores
from vlkit.tasks.r2r.splits import SPLITS, split_name
from vlkit.tasks.r2r.submission import KINDS, Trajectory, read_submission

Mode = Literal["compat", "fixed"]
Allowed = Literal["missing", "unknown", "duplicates"]

SCHEMA = 1  # of the output file
COMPAT_INSTRUCTIONS = 3  # the reference evaluator makes the ids <path_id>_0, _1 and _2 by itself
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Options:
    """Score a submission file for R2R, R4R, RxR or REVERIE."""

    predictions: Path
    """Submission: R2R's JSON list of {instr_id, trajectory} or RxR's lines of {instruction_id, path}, plain or gzip."""
    annotations: Path
    """Annotations file (R2R_val_unseen.json, rxr_val_seen_guide.jsonl.gz, ...), or the folder of them with --split."""
    connectivity: Path
    """Folder of <scan>_connectivity.json files."""
    split: str | None = None
    """Which file of the folder of annotations, for example val_unseen."""
    mode: Mode = "fixed"
    """fixed: every instruction. compat: as the reference evaluator, instructions 0 to 2 of a path alone."""
    output: Path | None = None
    """Write the scores here, as JSON, in total and per instruction."""
    allow_missing: bool = False
    """Score what is there when instructions have no trajectory; the mean is then not the benchmark's."""
    allow_unknown: bool = False
    """Ignore trajectories whose id is not in the annotations."""
    allow_duplicates: bool = False
    """Score the first of several trajectories with one id."""
    resamples: int = 2000
    """Resamples of the bootstrap behind the intervals."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples = {self.resamples}, expected at least 1")


@dataclass(frozen=True)
class Judgement:
    """The scores of a submission, one row an instruction, in the annotations' order."""

    mode: Mode
    episodes: tuple[Episode, ...]  # (items,)
    columns: dict[str, NDArray[Any]]  # measure -> (items,); metres, and fractions
    counts: dict[str, int]
    without_turns: dict[str, float]  # means of ndtw and sdtw where repeated viewpoints are dropped; empty if none is

    @property
    def means(self) -> dict[str, float]:
        """Measure -> mean over the instructions."""
        return {name: float(column.mean()) for name, column in self.columns.items()}


def main(arguments: list[str]) -> int:
    """The command: prints the table, writes the output file, returns 0. Raises UserError where a file is refused."""
    options = load(Options, None, arguments, prog="vlkit judge r2r")
    if options.output is not None and options.output.resolve() in (
        options.predictions.resolve(),
        options.annotations.resolve(),
    ):
        raise UserError(f"--output {options.output} would overwrite an input; name another file")
    annotations = annotations_file(options.annotations, options.split)
    split = split_name(annotations, options.split)
    episodes = read_episodes(annotations)
    trajectories, problems = read_submission(options.predictions)
    scans = read_scans(options.connectivity, {episode.scan for episode in episodes})
    allowed: list[Allowed] = []
    if options.allow_missing:
        allowed.append("missing")
    if options.allow_unknown:
        allowed.append("unknown")
    if options.allow_duplicates:
        allowed.append("duplicates")
    try:
        judgement = judge(trajectories, episodes, scans, options.mode, allow=allowed, problems=problems)
    except UserError as error:
        advice = _other_split(trajectories, episodes, annotations) if problems.counts.get("unknown") else ""
        raise UserError(f"{options.predictions}, against {annotations}, was {error}{advice}") from error
    intervals = confidence_intervals(judgement, resamples=options.resamples, seed=options.seed)
    _print(judgement, intervals, annotations, options)
    if options.output is not None:
        document = _document(judgement, intervals, annotations, split, options)
        text = with_rows(document, "per_instruction", _rows(judgement))
        with write_atomic(options.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 0


def judge(
    trajectories: Iterable[Trajectory],
    episodes: Sequence[Episode],
    scans: Mapping[str, Scan],
    mode: Mode = "fixed",
    *,
    allow: Collection[Allowed] = (),
    problems: Problems | None = None,
) -> Judgement:
    """Scores one trajectory for each episode.

    `problems` are those that reading the file met; UserError lists them with all that are found here: instructions
    without a trajectory, ids that are unknown or used twice (unless in `allow`; the first is scored), a trajectory that
    starts elsewhere, leaves its graph, or hops where there is no edge.
    """
    problems = Problems(KINDS) if problems is None else problems
    wanted = _scored(episodes, mode)
    known = {episode.id for episode in episodes}
    found: dict[str, Trajectory] = {}
    counts = {
        "annotated": len(known),
        "scored": 0,
        "missing": 0,
        "unknown": 0,
        "duplicates": 0,
        "not_scored": 0,
        "turns": 0,
    }
    for trajectory in trajectories:
        if trajectory.id not in known:
            counts["unknown"] += 1
            if "unknown" not in allow:
                problems.add("unknown", shown(trajectory.id))
        elif trajectory.id in found:
            counts["duplicates"] += 1
            if "duplicates" not in allow:
                problems.add("duplicate", shown(trajectory.id))
        elif trajectory.id not in wanted:
            counts["not_scored"] += 1
        else:
            found[trajectory.id] = trajectory
    for identifier in wanted:
        if identifier not in found and identifier not in problems.ids:
            counts["missing"] += 1
            if "missing" not in allow:
                problems.add("missing", shown(identifier))

    scored = tuple(wanted[identifier] for identifier in wanted if identifier in found)
    references = _references(scored, scans)
    paths = _paths([found[episode.id] for episode in scored], scored, scans, problems)
    if problems.counts:
        total = sum(problems.counts.values())
        raise UserError(f"not scored: {total} {'problem' if total == 1 else 'problems'}.\n{problems}")
    if not scored:
        raise UserError(f"not scored: none of the {len(wanted)} instructions has a trajectory; is it the right file?")
    counts["scored"] = len(scored)
    columns = _columns(scored, paths, references, scans)
    # Turning on the spot lengthens the path that the published nDTW sees, which puts agents that turn far below
    # agents that choose among candidates; so the other number stands beside it.
    moves = [[viewpoint for viewpoint, _ in groupby(path)] for path in paths]
    counts["turns"] = sum(map(len, paths)) - sum(map(len, moves))
    without_turns = {}
    if counts["turns"]:
        moved = _columns(scored, moves, references, scans)
        without_turns = {name: float(moved[name].mean()) for name in ("ndtw", "sdtw")}
    return Judgement(mode, scored, columns, counts, without_turns)


def confidence_intervals(
    judgement: Judgement, *, resamples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Measure -> bounds of the 95 % bootstrap interval of its mean.

    Whole paths are resampled: the instructions of one path succeed or fail together more often than by chance.
    """
    paths = [f"{episode.scan} {episode.path_id}" for episode in judgement.episodes]
    low, high = bootstrap_intervals(
        np.stack(list(judgement.columns.values()), axis=1).astype(np.float64),
        resamples=resamples,
        confidence=CONFIDENCE,
        seed=seed,
        groups=np.unique(paths, return_inverse=True)[1],
    )
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(judgement.columns)}


def _scored(episodes: Sequence[Episode], mode: Mode) -> dict[str, Episode]:
    """The episodes that count in this mode, by id."""
    if all(len(episode.path) == 1 for episode in episodes):
        raise UserError(
            "not scored: the annotations hold no goals, only where each path starts (a test split); judge a validation "
            "split"
        )
    if mode == "fixed":
        return {episode.id: episode for episode in episodes}
    for episode in episodes:
        if episode.id != f"{episode.path_id}_{episode.number}":
            raise UserError(
                "not scored: mode compat is the R2R evaluator, whose ids are <path_id>_<k>, and these annotations have "
                f"{shown(episode.id)}; use --mode fixed"
            )
    return {episode.id: episode for episode in episodes if episode.number < COMPAT_INSTRUCTIONS}


def _references(episodes: Sequence[Episode], scans: Mapping[str, Scan]) -> list[list[int]]:
    """Viewpoint numbers of each reference path."""
    numbers: dict[tuple[str, tuple[str, ...]], list[int]] = {}  # the instructions of a path share them
    for episode in episodes:
        key = (episode.scan, episode.path)
        if key in numbers:
            continue
        scan = scans[episode.scan]
        absent = [viewpoint for viewpoint in episode.path if viewpoint not in scan.index]
        if absent:
            raise UserError(
                f"not scored: the path of {shown(episode.id)} has viewpoint {shown(absent[0])}, which the graph of scan "
                f"{scan.name} does not include; annotations and connectivity are not of one release"
            )
        numbers[key] = [scan.index[viewpoint] for viewpoint in episode.path]
        if not np.isfinite(scan.distances[numbers[key][0], numbers[key]]).all():
            raise UserError(
                f"not scored: the graph of scan {scan.name} does not join the viewpoints on the path of "
                f"{shown(episode.id)}; annotations and connectivity are not of one release"
            )
    return [numbers[episode.scan, episode.path] for episode in episodes]


def _paths(
    trajectories: Sequence[Trajectory], episodes: Sequence[Episode], scans: Mapping[str, Scan], problems: Problems
) -> list[list[int]]:
    """Viewpoint numbers of each trajectory; what is wrong with one goes to `problems`, and it has none."""
    paths: list[list[int]] = []
    for trajectory, episode in zip(trajectories, episodes, strict=True):
        scan = scans[episode.scan]
        path = [scan.index.get(viewpoint, -1) for viewpoint in trajectory.viewpoints]
        if not path:
            problems.add("empty", shown(trajectory.id))
        elif path[0] != scan.index[episode.start]:
            start = shown(trajectory.viewpoints[0])
            problems.add("start", f"{shown(trajectory.id)}: {start}, not {episode.start}")
        if -1 in path:
            i = path.index(-1)
            kind, place = _outside(trajectory.viewpoints[i], scan, scans)
            problems.add(kind, f"{shown(trajectory.id)}: trajectory[{i}] is {shown(trajectory.viewpoints[i])}{place}")
        paths.append([] if -1 in path else path)
    for name, items in _by_scan(episodes).items():
        moves = scans[name].adjacency | np.eye(len(scans[name].viewpoints), dtype=bool)
        steps, _ = padded([paths[i] or [0] for i in items])
        broken = ~moves[steps[:, :-1], steps[:, 1:]]
        for row in np.flatnonzero(broken.any(axis=1)).tolist():
            trajectory, hops = trajectories[items[row]], np.flatnonzero(broken[row]).tolist()
            i = hops[0]
            here, there = trajectory.viewpoints[i : i + 2]
            more = f", and {len(hops) - 1} more" if len(hops) > 1 else ""
            case = f"{shown(trajectory.id)}: trajectory[{i}] to [{i + 1}], {here} to {there}, scan {name}{more}"
            problems.add("hop", case)
    return paths


def _outside(viewpoint: str, scan: Scan, scans: Mapping[str, Scan]) -> tuple[str, str]:
    """Kind of problem, and where it is: a viewpoint that is not among those that `scan` includes."""
    if viewpoint in scan.excluded:
        return "excluded", f", scan {scan.name}"
    for other in scans.values():
        if viewpoint in other.index or viewpoint in other.excluded:
            return "other_scan", f" of {other.name}, not {scan.name}"
    return "viewpoint", f", scan {scan.name}"


def _columns(
    episodes: Sequence[Episode],
    paths: Sequence[list[int]],
    references: Sequence[list[int]],
    scans: Mapping[str, Scan],
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for name, items in _by_scan(episodes).items():
        part = scores(scans[name].distances, [paths[i] for i in items], [references[i] for i in items])
        for measure, values in part.items():
            columns.setdefault(measure, np.empty(len(episodes), dtype=values.dtype))[items] = values
    return columns


def _by_scan(episodes: Sequence[Episode]) -> dict[str, list[int]]:
    """Which of the episodes are in each building."""
    items: dict[str, list[int]] = {}
    for i, episode in enumerate(episodes):
        items.setdefault(episode.scan, []).append(i)
    return items


def _other_split(trajectories: Sequence[Trajectory], episodes: Sequence[Episode], annotations: Path) -> str:
    """A sentence about the file beside `annotations` that has more of these ids, or nothing."""
    ids = {trajectory.id for trajectory in trajectories}
    best, best_file = len(ids & {episode.id for episode in episodes}), None
    for split in SPLITS:
        try:
            file = annotations_file(annotations.parent, split)
            common = len(ids & {episode.id for episode in read_episodes(file)})
        except UserError:  # no file of that split, or several, or a broken one
            continue
        if common > best:
            best, best_file = common, file
    if best_file is None:
        return ""
    return f"\n  {best} of its {len(ids)} ids are in {best_file}: is that the file to judge by?"


def _print(
    judgement: Judgement, intervals: Mapping[str, tuple[float, float]], annotations: Path, options: Options
) -> None:
    from rich.console import Console
    from rich.table import Table

    counts = judgement.counts
    console = Console(highlight=False, markup=False)
    table = Table()
    table.add_column("measure")
    table.add_column("mean", justify="right")
    table.add_column(f"{CONFIDENCE:.0%} interval", justify="right")
    table.add_column("unit")
    for name, mean in judgement.means.items():
        scale, unit = (100, "%") if UNITS[name] == "fraction" else (1, UNITS[name])
        low, high = intervals[name]
        table.add_row(LABELS[name], f"{mean * scale:.2f}", f"{low * scale:.2f} to {high * scale:.2f}", unit)
    paths = len({(episode.scan, episode.path_id) for episode in judgement.episodes})
    buildings = len({episode.scan for episode in judgement.episodes})
    console.print(
        f"predictions  {options.predictions.name}\nannotations  {annotations.name}\nmode         {judgement.mode}"
    )
    console.print(table)
    console.print(f"{counts['scored']} instructions for {paths} paths in {buildings} buildings.")
    if counts["missing"]:
        console.print(
            f"PARTIAL: no trajectory for {counts['missing']} of {counts['missing'] + counts['scored']} instructions; these "
            "are not the scores of the split.",
            style="bold",
        )
    if counts["unknown"]:
        console.print(f"Ignored: {_count(counts['unknown'])} with an id that is not in the annotations.")
    if counts["duplicates"]:
        console.print(f"Ignored: {_count(counts['duplicates'])} with an id that an earlier one has.")
    if counts["not_scored"]:
        console.print(f"Ignored: {_count(counts['not_scored'])}; compat scores instructions 0 to 2 of a path.")
    if judgement.without_turns:
        ndtw, sdtw = judgement.without_turns["ndtw"], judgement.without_turns["sdtw"]
        console.print(
            f"The agent turns on the spot: {counts['turns']} entries repeat a viewpoint, and nDTW counts each, as the "
            f"published code does. Without them nDTW {ndtw:.2%}, SDTW {sdtw:.2%}."
        )
    for language, means in _languages(judgement).items():
        console.print(
            f"{language}: NE {means['nav_error']:.2f} m, SR {means['success']:.2%}, SPL {means['spl']:.2%}, "
            f"nDTW {means['ndtw']:.2%}, SDTW {means['sdtw']:.2%}"
        )
    console.print(f"Intervals: bootstrap over paths, {options.resamples} resamples, seed {options.seed}.")


def _count(trajectories: int) -> str:
    return f"{trajectories} trajectory" if trajectories == 1 else f"{trajectories} trajectories"


def _languages(judgement: Judgement) -> dict[str, dict[str, float]]:
    """Means for each language, where there are several (RxR)."""
    languages = np.array([episode.language for episode in judgement.episodes])
    names = sorted(set(languages.tolist()))
    if len(names) == 1:
        return {}
    return {
        name: {measure: float(column[languages == name].mean()) for measure, column in judgement.columns.items()}
        for name in names
    }


def _document(
    judgement: Judgement,
    intervals: Mapping[str, tuple[float, float]],
    annotations: Path,
    split: str | None,
    options: Options,
) -> dict[str, Any]:
    means = judgement.means
    names = sorted({episode.scan for episode in judgement.episodes})
    return {
        "schema": SCHEMA,
        "benchmark": "r2r",
        "vlkit": __version__,
        "mode": judgement.mode,
        "split": split,
        "counts": judgement.counts,
        "summary": {published: means[name] for published, name in PUBLISHED.items()},
        "metrics": {
            name: {"mean": mean, "low": intervals[name][0], "high": intervals[name][1], "unit": UNITS[name]}
            for name, mean in means.items()
        },
        "without_turns": judgement.without_turns,
        "languages": _languages(judgement),
        "intervals": {
            "method": "bootstrap over paths",
            "confidence": CONFIDENCE,
            "resamples": options.resamples,
            "seed": options.seed,
        },
        "inputs": {
            "predictions": {"file": options.predictions.name, "sha256": sha256([options.predictions])},
            "annotations": {"file": annotations.name, "sha256": sha256([annotations])},
            "connectivity": {
                "scans": names,
                "sha256": sha256([options.connectivity / f"{name}_connectivity.json" for name in names]),
            },
        },
    }


def _rows(judgement: Judgement) -> list[dict[str, Any]]:
    columns = {name: column.tolist() for name, column in judgement.columns.items()}
    return [
        {"instr_id": episode.id, "path_id": episode.path_id, "scan": episode.scan, "language": episode.language}
        | {name: column[i] for name, column in columns.items()}
        for i, episode in enumerate(judgement.episodes)
    ]
