"""The report card: scores with intervals, the probes beside them, and what it takes to get the same numbers again."""

import hashlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

import vlkit
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.statistics import bootstrap_intervals, spread

SCHEMA = 1
Kind = Literal["trained", "test-time", "fixed"]
KINDS: dict[Kind, str] = {
    "trained": "an agent that was trained without it",
    "test-time": "the same agent, with it taken away afterwards",
    "fixed": "needs no training",
}
PACKAGES = ("torch", "numpy", "accelerate", "transformers", "tokenizers", "gymnasium")


@dataclass(frozen=True)
class Row:
    """One metric: its mean, the bounds of its interval, and its value for each seed."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "fraction"
    """fraction is printed as per cent; any other unit as it is"""
    seeds: tuple[float, ...] = ()
    label: str = ""
    """as tables call it; what comes before a comma must do where there is little room"""

    def __post_init__(self) -> None:
        numbers = (self.value, *self.seeds, *(bound for bound in (self.low, self.high) if bound is not None))
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"{self.name} is {self.value} ({self.low} to {self.high}); a report holds finite numbers")

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds, where there are several."""
        return spread(self.seeds).deviation if len(self.seeds) > 1 else None


@dataclass(frozen=True)
class Arm:
    """A probe: the same metrics, on the same items, with something missing."""

    name: str
    kind: Kind
    metrics: tuple[Row, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind of {self.name} is {self.kind!r} and must be one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class Part:
    """The main result on some of the items: those of one kind of question, of one length of path."""

    by: str
    """what the items are told apart by: "path length" """
    name: str
    items: int
    metrics: tuple[Row, ...]


@dataclass(frozen=True)
class DataFile:
    """A file that the numbers depend on."""

    name: str
    sha256: str
    size: int  # bytes
    count: int | None = None  # of the items in it


@dataclass(frozen=True)
class Code:
    """Which program it was."""

    version: str
    files_sha256: str
    """over the package's own files, the same for a checkout and for an installation of it"""
    commit: str | None = None
    dirty: bool | None = None
    """whether the checkout differed from its commit"""


@dataclass(frozen=True)
class Report:
    """What `write` writes and `read` reads."""

    title: str
    task: str
    split: str
    command: str
    """what to type to get it again"""
    items: int
    items_sha256: str
    """of the sorted item ids: two reports can be compared where these are equal"""
    metrics: tuple[Row, ...]
    code: Code
    arms: tuple[Arm, ...] = ()
    seeds: tuple[int, ...] = ()
    data: tuple[DataFile, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    minutes: float | None = None
    notes: tuple[str, ...] = ()
    created: str = ""
    parts: tuple[Part, ...] = ()
    headline: tuple[str, ...] = ()
    """the metrics to show first beside the probes, where there is no room for all"""
    resampled: str = "items"
    """what the bootstrap behind the intervals draws whole"""

    def __post_init__(self) -> None:
        names = [row.name for row in self.metrics]
        absent = [name for name in self.headline if name not in names]
        if absent:
            raise ValueError(f"the headline names {', '.join(absent)}, which the main result lacks")
        for arm in self.arms:
            strange = [row.name for row in arm.metrics if row.name not in names]
            if strange:
                raise ValueError(f"the arm {arm.name} has {', '.join(strange)}, which the main result lacks")


def rows(
    tables: Sequence[ArrayLike],
    units: Mapping[str, str],
    *,
    groups: ArrayLike | None = None,
    labels: Mapping[str, str] | None = None,
    resamples: int = 2000,
) -> tuple[Row, ...]:
    """One table (items, metrics) a seed -> a row for each metric, columns in the order of `units` (name -> unit).

    The interval is that of the items, each taken as its mean over seeds; the spread over seeds is printed beside it.
    `groups` as in `bootstrap_intervals`.
    """
    stacked = np.stack([np.asarray(table, dtype=np.float64) for table in tables])
    if stacked.ndim != 3 or stacked.shape[2] != len(units):
        raise ValueError(f"tables must be (items, {len(units)}) for {', '.join(units)}, not {stacked.shape[1:]}")
    low, high = bootstrap_intervals(stacked.mean(axis=0), groups=groups, resamples=resamples)
    values = stacked.mean(axis=1)
    return tuple(
        Row(
            name,
            value=float(values[:, i].mean()),
            low=float(low[i]),
            high=float(high[i]),
            unit=unit,
            seeds=tuple(values[:, i].tolist()),
            label=(labels or {}).get(name, ""),
        )
        for i, (name, unit) in enumerate(units.items())
    )


def report(
    title: str,
    *,
    task: str,
    split: str,
    ids: Iterable[str],
    metrics: Sequence[Row],
    arms: Sequence[Arm] = (),
    seeds: Sequence[int] = (),
    data: Sequence[DataFile] = (),
    device: str = "",
    minutes: float | None = None,
    notes: Sequence[str] = (),
    headline: Sequence[str] = (),
    resampled: str = "items",
    command: str | None = None,
    parts: Sequence[Part] = (),
) -> Report:
    """A report of what was just measured, with this process's command, code and versions.

    `ids` names the items that were scored, in any order; `headline` the metrics to show first beside the probes;
    `resampled` what was drawn whole for the intervals, which is what `rows` had as groups.
    """
    names = list(ids)
    return Report(
        title=title,
        task=task,
        split=split,
        command=this_command() if command is None else command,
        items=len(names),
        items_sha256=items_sha256(names),
        metrics=tuple(metrics),
        code=this_code(),
        arms=tuple(arms),
        seeds=tuple(seeds),
        data=tuple(data),
        versions=versions(),
        device=device,
        minutes=minutes,
        notes=tuple(notes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        headline=tuple(headline),
        resampled=resampled,
        parts=tuple(parts),
    )


def write(report: Report, folder: str | Path) -> None:
    """Writes `report.json` and `report.md`, each whole or not at all."""
    folder = Path(folder)
    with write_atomic(folder / "report.json") as temporary:
        text = json.dumps({"schema": SCHEMA} | asdict(report), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    with write_atomic(folder / "report.md") as temporary:
        temporary.write_text(markdown(report), encoding="utf-8")


def remove(folder: str | Path) -> None:
    """Removes the report that `write` left there, if any: what is about to be written beside it is of another run."""
    for name in ("report.json", "report.md"):
        (Path(folder) / name).unlink(missing_ok=True)


def read(path: str | Path) -> Report:
    """The report in `path`, a file or the folder that holds its `report.json`."""
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no report {path}; name a folder that `vlkit eval` wrote into") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); run the evaluation again") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, int):
        raise UserError(f"{path} is no report of vlkit: it has no schema number")
    if schema > SCHEMA:
        raise UserError(f"{path} has schema {schema}, and this vlkit reads up to {SCHEMA}; update vlkit")
    del content["schema"]
    try:
        return Report(
            **content
            | {
                "metrics": _read_rows(content["metrics"]),
                "code": Code(**content["code"]),
                "arms": tuple(Arm(**arm | {"metrics": _read_rows(arm["metrics"])}) for arm in content["arms"]),
                "data": tuple(DataFile(**entry) for entry in content["data"]),
                "seeds": tuple(content["seeds"]),
                "notes": tuple(content["notes"]),
                "headline": tuple(content["headline"]),
                "parts": tuple(
                    Part(**part | {"metrics": _read_rows(part["metrics"])}) for part in content.get("parts", [])
                ),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no whole report ({error}); run the evaluation again") from error


def aggregated(reports: Sequence[Report]) -> Report:
    """One report a seed -> mean and spread over the seeds, for the metrics and for each arm that all have.

    Raises UserError where the reports are not of the same items, or two are of the same seed.
    """
    _check_comparable(reports)
    first = reports[0]
    seeds = [seed for each in reports for seed in each.seeds]
    if any(len(each.seeds) != 1 for each in reports) or len(set(seeds)) != len(seeds):
        raise UserError(
            f"a mean over seeds needs one report for each of several seeds, and these are of seeds "
            f"{', '.join(map(str, seeds)) or 'unknown'}; leave out the one that is there twice"
        )
    arms = []
    for arm in first.arms:
        same = [other for each in reports for other in each.arms if (other.name, other.kind) == (arm.name, arm.kind)]
        if len(same) == len(reports):
            arms.append(replace(arm, metrics=_over_seeds([other.metrics for other in same])))
    minutes = [each.minutes for each in reports if each.minutes is not None]
    notes = list(dict.fromkeys(note for each in reports for note in each.notes))
    codes = {each.code.files_sha256 for each in reports}
    if len(codes) > 1:
        notes.append(f"the seeds were run with {len(codes)} different versions of the code")
    return replace(
        first,
        title=f"{first.title}, {len(reports)} seeds",
        metrics=_over_seeds([each.metrics for each in reports]),
        arms=tuple(arms),
        parts=(),
        seeds=tuple(seeds),
        minutes=sum(minutes) / len(minutes) if minutes else None,
        notes=tuple(notes),
        created=max(each.created for each in reports),
    )


def compared(reports: Sequence[Report]) -> str:
    """Several reports on the same items -> a Markdown table, a line for each.

    Raises UserError where they are not of the same items.
    """
    _check_comparable(reports)
    return _markdown_table(_side_by_side([(each.title, "", _ordered(each)) for each in reports], kinds=False))


def markdown(report: Report) -> str:
    """The report as it stands in `report.md`."""
    parts = [f"# {report.title}", _subtitle(report), _markdown_table(_main(report)), _explanation(report)]
    if report.arms:
        parts += ["## Probes", _markdown_table(_side_by_side(_with_main(report))), _legend(report)]
    for by, table in _parts(report):
        parts += [f"## By {by}", _markdown_table(table)]
    parts += [f"- {note}" for note in report.notes]
    parts += ["## To get these numbers again", f"```\n{report.command}\n```"]
    parts.append("\n".join(f"- {name}: {value}" for name, value in _provenance(report, short=False)))
    if report.data:
        parts.append(_markdown_table(_data(report, digits=64)))
    return "\n\n".join(parts) + "\n"


def show(report: Report, console: Any = None) -> None:
    """Prints the report on a terminal: the result, the probes beside it, and where it comes from."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = console or Console(highlight=False)
    console.print(f"\n[bold]{_escaped(report.title)}[/bold]")
    console.print(_subtitle(report), markup=False)
    console.print(_rich_table(_main(report)))
    console.print(_explanation(report), markup=False)
    if report.arms:
        table = _side_by_side(_with_main(report), spreads=False)
        fitting = _fitting(table, console.width)
        console.print()
        console.print(_rich_table(fitting))
        left_out = [_short(row) for row in _ordered(report)[len(fitting[0]) - 2 :]]
        console.print(_legend(report), markup=False)
        if left_out:
            console.print(f"Of the probes, {', '.join(left_out)} are in report.md.", markup=False)
    for by, parted in _parts(report):
        console.print(f"\nBy {by}:", markup=False)
        console.print(_rich_table(_fitting(parted, console.width)))
    for note in report.notes:
        console.print(f"Note: {note}", markup=False)
    console.print("\nTo get these numbers again:")
    console.print(f"  {report.command}", markup=False, soft_wrap=True)
    lines = RichTable.grid(padding=(0, 2))
    for name, value in _provenance(report, short=True):
        lines.add_row(f"  {name}", _escaped(value))
    console.print(lines)
    if report.data:
        console.print(_rich_table(_data(report, digits=12)))


def items_sha256(ids: Iterable[str]) -> str:
    """One number for a set of items: equal for equal ids in any order."""
    digest = hashlib.sha256()
    for name in sorted(ids):
        # The length in front keeps "ab", "c" and "a", "bc" apart.
        digest.update(f"{len(name)}:{name}".encode())
    return digest.hexdigest()


def data_file(path: str | Path, count: int | None = None, name: str | None = None) -> DataFile:
    """The record of a file; `count` is the number of items in it, `name` what to call it instead of its own name."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return DataFile(name or path.name, digest, path.stat().st_size, count)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error


def data_files(paths: Sequence[str | Path], name: str) -> DataFile:
    """One record for many files together, such as the graphs of a split's buildings; in order of their names."""
    digest, size = hashlib.sha256(), 0
    for path in sorted(map(Path, paths), key=lambda path: path.name):
        entry = data_file(path)
        digest.update(f"{entry.name}:{entry.sha256}\n".encode())
        size += entry.size
    return DataFile(name, digest.hexdigest(), size, len(paths))


def this_command() -> str:
    """The command line of this process, quoted for a shell."""
    program = Path(sys.argv[0]).name
    words = ["vlkit"] if program in ("vlkit", "__main__.py") else ["python", sys.argv[0]]
    return shlex.join([*words, *sys.argv[1:]])


def this_code() -> Code:
    """The package that is running: its version, a hash of its files and, in a checkout, the commit."""
    package = Path(vlkit.__file__).parent
    digest = hashlib.sha256()
    for path in _own_files(package):
        digest.update(f"{path.relative_to(package).as_posix()}:".encode() + hashlib.sha256(path.read_bytes()).digest())
    commit = dirty = None
    # Tracked, and not only somewhere inside a repository, as an environment in a project's folder is.
    if _git(package.parent, "ls-files", "--error-unmatch", "vlkit/__init__.py") is not None:
        commit = _git(package.parent, "rev-parse", "HEAD")
        status = _git(package.parent, "status", "--porcelain", "--untracked-files=no")
        dirty = None if status is None else bool(status)
    return Code(version=vlkit.__version__, files_sha256=digest.hexdigest(), commit=commit, dirty=dirty)


def versions() -> dict[str, str]:
    """Of Python, the system and the packages that the numbers may depend on."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def device_name(device: Any) -> str:
    """A torch device -> what it is called, such as "CPU, 2 threads" or "NVIDIA H100"."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} {'thread' if threads == 1 else 'threads'}" if device.type == "cpu" else device.type.upper()


# A table is a list of lines, the first of which names the columns.
Table = list[list[str]]


def _main(report: Report) -> Table:
    intervals = any(row.low is not None for row in report.metrics)
    several = any(row.deviation is not None for row in report.metrics)
    header = ["metric", "mean", *(["95 % interval"] if intervals else []), *(["sd over seeds"] if several else [])]
    table = [[*header, "unit"]]
    for row in report.metrics:
        line = [row.label or row.name, _number(row, row.value)]
        if intervals:
            bounds = (
                "" if row.low is None or row.high is None else f"{_number(row, row.low)} to {_number(row, row.high)}"
            )
            line.append(bounds)
        if several:
            line.append("" if row.deviation is None else _number(row, row.deviation))
        table.append([*line, "%" if row.unit == "fraction" else row.unit])
    return table


def _with_main(report: Report) -> list[tuple[str, str, tuple[Row, ...]]]:
    return [(report.title, "", _ordered(report)), *((arm.name, arm.kind, arm.metrics) for arm in report.arms)]


def _parts(report: Report) -> list[tuple[str, Table]]:
    """A table for each thing that items are told apart by."""
    order = [row.name for row in _ordered(report)]
    tables = []
    for by in dict.fromkeys(part.by for part in report.parts):
        own = [part for part in report.parts if part.by == by]
        lines = [(part.name, "", tuple(sorted(part.metrics, key=lambda row: order.index(row.name)))) for part in own]
        table = _side_by_side(lines, kinds=False)
        for line, count in zip(table, ["items", *(str(part.items) for part in own)], strict=True):
            line.insert(1, count)
        tables.append((by, table))
    return tables


def _ordered(report: Report) -> tuple[Row, ...]:
    """The metrics, those of the headline first."""
    place = {name: i for i, name in enumerate(report.headline)}
    return tuple(sorted(report.metrics, key=lambda row: place.get(row.name, len(place))))


def _side_by_side(lines: Sequence[tuple[str, str, tuple[Row, ...]]], kinds: bool = True, spreads: bool = True) -> Table:
    """A line for each (name, kind, metrics), a column for each metric of the first."""
    columns = lines[0][2]
    heads = [f"{_short(row)} {_unit(row)}".strip() for row in columns]
    table = [["", *(["kind"] if kinds else []), *heads]]
    for name, kind, metrics in lines:
        found = {row.name: row for row in metrics}
        cells = [_cell(found[row.name], spreads) if row.name in found else "" for row in columns]
        table.append([name, *([kind] if kinds else []), *cells])
    return table


def _cell(row: Row, spreads: bool) -> str:
    deviation = row.deviation if spreads else None
    return _number(row, row.value) + (f" ±{_number(row, deviation)}" if deviation is not None else "")


def _number(row: Row, value: float) -> str:
    return f"{100 * value:.1f}" if row.unit == "fraction" else f"{value:.2f}"


def _unit(row: Row) -> str:
    return "%" if row.unit == "fraction" else row.unit


def _short(row: Row) -> str:
    return (row.label or row.name).partition(",")[0]


def _subtitle(report: Report) -> str:
    count = len(report.seeds)
    seeds = f", {'seed' if count == 1 else f'{count} seeds:'} {', '.join(map(str, report.seeds))}" if count else ""
    return f"{report.task}, {report.split}: {report.items} items{seeds}"


def _explanation(report: Report) -> str:
    parts = []
    if any(row.low is not None for row in report.metrics):
        parts.append(f"The interval is a bootstrap over {report.resampled}")
    if any(row.deviation is not None for row in report.metrics):
        parts.append(f"the mean and the standard deviation (sd, ±) are over {len(report.seeds)} seeds")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else "One run, without intervals."


def _legend(report: Report) -> str:
    used = [kind for kind in get_args(Kind) if any(arm.kind == kind for arm in report.arms)]
    notes = [f"{arm.name}: {arm.note}" for arm in report.arms if arm.note]
    return "\n".join(["; ".join(f"{kind}: {KINDS[kind]}" for kind in used) + ".", *notes])


def _provenance(report: Report, short: bool) -> list[tuple[str, str]]:
    code, digits = report.code, 12 if short else 64
    state = f"vlkit {code.version}, files {code.files_sha256[:digits]}"
    if code.commit is not None:
        state += f", commit {code.commit[:digits]}{' with changes' if code.dirty else ''}"
    found = {
        "code": state,
        "versions": ", ".join(f"{name} {value}" for name, value in report.versions.items()),
        "device": report.device,
        "time": "" if report.minutes is None else f"{report.minutes:.1f} minutes of training",
        "items": f"{report.items}, sha256 of their ids {report.items_sha256[:digits]}",
        "created": report.created,
    }
    return [(name, value) for name, value in found.items() if value]


def _data(report: Report, digits: int) -> Table:
    table = [["data", "items", "bytes", "sha256"]]
    for file in report.data:
        count = "" if file.count is None else f"{file.count}"
        table.append([file.name, count, f"{file.size}", file.sha256[:digits]])
    return table


def _fitting(table: Table, width: int) -> Table:
    """The first columns of a table, as many as a terminal has room for."""
    widths = [max(len(line[i]) for line in table) + 3 for i in range(len(table[0]))]
    count = len(widths)
    while count > 2 and sum(widths[:count]) + 1 > width:
        count -= 1
    return [line[:count] for line in table]


def _markdown_table(table: Table) -> str:
    header, *lines = [[cell.replace("|", "\\|") for cell in line] for line in table]
    # Numbers are read from the right; names, kinds and units are not numbers.
    rule = [":--" if _is_text(table, i) else "--:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def _rich_table(table: Table) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    # Without lines between the columns: a terminal of 80 has room for two metrics more.
    result = RichTable(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=True)
    for i, name in enumerate(table[0]):
        text = _is_text(table, i)
        result.add_column(_escaped(name), justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for line in table[1:]:
        result.add_row(*map(_escaped, line))
    return result


def _is_text(table: Table, column: int) -> bool:
    return column == 0 or table[0][column] in ("kind", "unit", "sha256")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _read_rows(entries: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    return tuple(Row(**{**entry, "seeds": tuple(entry["seeds"])}) for entry in entries)


def _over_seeds(tables: Sequence[tuple[Row, ...]]) -> tuple[Row, ...]:
    """The same metrics of several seeds -> their means. An interval over items needs the items' own scores."""
    result = []
    for row in tables[0]:
        values = [other.value for table in tables for other in table if other.name == row.name]
        if len(values) == len(tables):
            mean = spread(values).mean
            result.append(replace(row, value=mean, low=None, high=None, seeds=tuple(values)))
    return tuple(result)


def _check_comparable(reports: Sequence[Report]) -> None:
    if len(reports) < 2:
        raise UserError(f"a comparison needs two reports or more, and there are {len(reports)}; name another")
    first = reports[0]
    for other in reports[1:]:
        if (other.task, other.items_sha256) != (first.task, first.items_sha256):
            raise UserError(
                f"{first.title!r} was scored on {first.items} items of {first.task} {first.split} and {other.title!r} on "
                f"{other.items} items of {other.task} {other.split}, and they are not the same items; "
                "evaluate both on the same split of the same annotations"
            )


def _own_files(package: Path) -> list[Path]:
    """The Python files of the package; tasks and envs are links in a checkout and folders in an installation."""
    found = []
    for folder, _, names in os.walk(package, followlinks=True):
        found += [Path(folder) / name for name in names if name.endswith(".py")]
    return sorted(found, key=lambda path: path.relative_to(package).as_posix())


def _git(folder: Path, *words: str) -> str | None:
    """What git answers, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
