"""What judges of submission files share: a file is read strictly, every mistake in it is collected, one message says all.

Reading keeps going after a mistake, so that a file is mended in one round.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlkit.errors import UserError
from vlkit.statistics import bootstrap_intervals

BYTES_AT_MOST = 2 << 30  # twice VisDial's training dialogs, the longest real file; bounds what gzip unpacks to, too
SHOWN = 5  # cases of each kind of problem
LINE = 80  # characters of ids that still go on one line
CONFIDENCE = 0.95

Answer = TypeVar("Answer")


class Problems:
    """What is wrong with a submission: each kind counted, with its first cases.

    kinds: every kind in the order of the report, each with one case, several cases, and the remedy in words.
    """

    def __init__(self, kinds: Mapping[str, tuple[str, str, str]]) -> None:
        self.kinds = kinds
        self.counts: dict[str, int] = {}
        self.cases: dict[str, list[str]] = {}
        self.ids: set[str] = set()  # of the items that could not be used

    def add(self, kind: str, case: str, *, identifier: str | None = None) -> None:
        """One more case of a kind; `identifier` where it is known whose."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        cases = self.cases.setdefault(kind, [])
        if len(cases) < SHOWN:
            cases.append(case)
        if identifier is not None:
            self.ids.add(identifier)

    def __str__(self) -> str:
        lines = []
        for kind, (one, several, remedy) in self.kinds.items():
            if count := self.counts.get(kind, 0):
                cases = self.cases[kind] + ([f"and {count - SHOWN} more"] if count > SHOWN else [])
                ids = not any(" " in case for case in self.cases[kind]) and sum(map(len, cases)) < LINE
                lines.append(f"  {count} {one if count == 1 else several}")
                lines.extend([f"    {', '.join(cases)}"] if ids else [f"    {case}" for case in cases])
                lines.append(f"    -> {remedy}")
        return "\n".join(lines)


def shown(value: Any) -> str:
    """A value of somebody's file as it may stand in a message: short, on one line, nothing that a terminal obeys."""
    try:
        text = (
            value
            if isinstance(value, str) and value.strip() and value.isprintable() and value.isascii()
            else ascii(value)
        )
    except RecursionError:
        text = f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= 80 else f"{text[:70]}... ({len(text)} characters)"


def text_of(path: Path) -> str:
    """The text of a file, compressed with gzip or not. UserError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            data = (gzip.GzipFile(fileobj=file) if compressed else file).read(BYTES_AT_MOST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is broken or ends in the middle ({error}); write it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; name a file that is there") from error
    if len(data) > BYTES_AT_MOST:
        raise UserError(f"{path} has over {BYTES_AT_MOST >> 20} MiB, more than any such file; is it another one?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, byte {error.start}: not UTF-8 text; expected text, compressed with gzip or not"
        ) from error


def head_of(path: Path, count: int = 4096) -> str:
    """How a text file begins, compressed with gzip or not; for telling formats apart. UserError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            data = (gzip.GzipFile(fileobj=file) if compressed else file).read(count)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: the gzip file is broken or ends in the middle ({error}); write it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; name a file that is there") from error
    return data.decode("utf-8-sig", errors="replace")


def items_of(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each item of a submission stands in the file, and the item: of a JSON list, or one a line."""
    text = text_of(path)
    if not text.strip():
        raise UserError(f"{path} is empty; a submission is a JSON list, or an object a line")
    if not text.lstrip().startswith("{"):
        document = parsed(text, str(path), line=None)
        if not isinstance(document, list):
            raise UserError(f"{path} holds {type(document).__name__} {shown(document)}; a submission is a JSON list")
        yield from ((f"item {i}", item) for i, item in enumerate(document))
        return
    first_line = text.lstrip().partition("\n")[0].rstrip()
    if not first_line.endswith("}"):
        # A single object over several lines: most likely a result file, or the list under some key.
        document = parsed(text, str(path), line=None)
        keys = ", ".join(shown(key) for key in list(document)[:SHOWN])
        raise UserError(
            f"{path} holds one object, with keys {keys or '(none)'}; a submission is a JSON list of objects"
        )
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip():
            yield f"line {number}", parsed(line, str(path), line=number)


def parsed(text: str, path: str, *, line: int | None) -> Any:
    """What JSON says; UserError that names the place where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text.rstrip())
        what = "the file ends in the middle" if at_end else f"not JSON ({error.msg})"
        place = f"line {line or error.lineno}, column {error.colno}"
        raise UserError(f"{path}, {place}: {what}; write the file again") from error
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        place = f", line {line}" if line else ""
        raise UserError(f"{path}{place}: not a submission ({error}); write the file again") from error


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """What a judge can be told about a file that does not fit, and about its intervals."""

    output: Path | None = None
    """write the scores here, as JSON, in total, by type and for each question"""
    allow_missing: bool = False
    """score what is there where questions have no answer; the mean is then not the benchmark's"""
    allow_unknown: bool = False
    """ignore answers to what is not asked"""
    allow_duplicates: bool = False
    """score the first of several answers with one id"""
    resamples: int = 2000
    """of the bootstrap behind the intervals"""
    seed: int = 0
    """of the bootstrap"""

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples = {self.resamples}, expected at least 1")

    @property
    def allowed(self) -> tuple[str, ...]:
        """What is no problem: `missing`, say, for allow_missing."""
        names = [field.name for field in fields(self) if field.name.startswith("allow_")]
        return tuple(name.removeprefix("allow_") for name in names if getattr(self, name))

    def interval(self, scores: NDArray[np.float64]) -> tuple[float, float]:
        """Bounds of the 95 % bootstrap interval of the mean of scores (items,)."""
        low, high = bootstrap_intervals(
            scores[:, None], resamples=self.resamples, confidence=CONFIDENCE, seed=self.seed
        )
        return float(low[0]), float(high[0])

    def check_output(self, *inputs: Path) -> None:
        """UserError where the scores would be written over an input."""
        if self.output is not None and self.output.resolve() in [each.resolve() for each in inputs]:
            raise UserError(f"--output {self.output} would overwrite an input; name another file")

    def said(self) -> dict[str, Any]:
        """What the output file says of its intervals."""
        over = {"method": "bootstrap over questions", "confidence": CONFIDENCE}
        return over | {"resamples": self.resamples, "seed": self.seed}


def matched(
    answers: Iterable[tuple[str, Answer]], wanted: Collection[str], problems: Problems, allowed: Collection[str]
) -> tuple[dict[str, Answer], dict[str, int]]:
    """The first answer to each id that is wanted, and counts of what did not fit, which goes to `problems` unless allowed.

    Kinds of problem are `unknown`, `duplicate` and `missing`; allowed are unknown, duplicates and missing.
    """
    counts = {"questions": len(wanted), "scored": 0, "missing": 0, "unknown": 0, "duplicates": 0}
    found: dict[str, Answer] = {}
    known = set(wanted)
    for name, answer in answers:
        if name not in known:
            counts["unknown"] += 1
            if "unknown" not in allowed:
                problems.add("unknown", name)
        elif name in found:
            counts["duplicates"] += 1
            if "duplicates" not in allowed:
                problems.add("duplicate", name)
        else:
            found[name] = answer
    for name in wanted:
        if name not in found and name not in problems.ids:
            counts["missing"] += 1
            if "missing" not in allowed:
                problems.add("missing", name)
    counts["scored"] = len(found)
    return found, counts


def refuse(problems: Problems, counts: Mapping[str, int]) -> None:
    """UserError that lists the problems, where there are any, or says that nothing is left to score."""
    if problems.counts:
        total = sum(problems.counts.values())
        raise UserError(f"not scored: {total} {'problem' if total == 1 else 'problems'}.\n{problems}")
    if not counts["scored"]:
        raise UserError(f"not scored: none of the {counts['questions']} questions has an answer; is it the right file?")


def print_scores(
    head: Mapping[str, str],
    title: str,
    mean: float,
    interval: tuple[float, float],
    types: Mapping[str, tuple[float, int]],
    counts: Mapping[str, int],
) -> None:
    """The table of a judge: the mean of all and of each type, its interval, and what was left out."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    for name, value in head.items():
        console.print(f"{name:<13}{value}")
    table = Table()
    table.add_column(title)
    table.add_column("%", justify="right")
    table.add_column("questions", justify="right")
    table.add_row("all", f"{100 * mean:.2f}", str(counts["scored"]), end_section=True)
    for name, (share, count) in types.items():
        table.add_row(name or "(no type)", f"{100 * share:.2f}", str(count))
    console.print(table)
    low, high = interval
    console.print(f"{CONFIDENCE:.0%} interval of all: {100 * low:.2f} to {100 * high:.2f} (bootstrap over questions)")
    if counts["missing"]:
        console.print(
            f"PARTIAL: no answer to {counts['missing']} of {counts['questions']} questions; this is not the score of the "
            "split.",
            style="bold",
        )
    if counts["unknown"]:
        console.print(f"Ignored: {counts['unknown']} to what is not asked.")
    if counts["duplicates"]:
        console.print(f"Ignored: {counts['duplicates']} with the id of an earlier one.")


def with_rows(document: Mapping[str, Any], key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """JSON of the document with `rows` under `key`, one a line: fast to write, and two files can be compared."""
    encode = json.JSONEncoder(allow_nan=False).encode
    head = json.dumps(document, indent=1, allow_nan=False).removesuffix("\n}")
    return head + f',\n "{key}": [\n  ' + ",\n  ".join(map(encode, rows)) + "\n ]\n}\n"


def sha256(files: Iterable[Path]) -> str:
    """Of the files' bytes, one behind the other."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
