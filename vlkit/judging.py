"""What judges of submission files share: a file is read strictly, every mistake in it is collected, one message says all.

Reading keeps going after a mistake, so that a file is mended in one round.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlkit.errors import UserError

BYTES_AT_MOST = (
    1 << 30
)  # ten times the longest real submission (RxR's training guides); bounds what gzip unpacks to, too
SHOWN = 5  # cases of each kind of problem
LINE = 80  # characters of ids that still go on one line


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
        text = value if isinstance(value, str) and value and value.isprintable() and value.isascii() else ascii(value)
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
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}; give the file that the agent wrote"
        ) from error
    if len(data) > BYTES_AT_MOST:
        raise UserError(f"{path} has over {BYTES_AT_MOST >> 20} MiB, too much for a submission; is it another file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, byte {error.start}: not UTF-8 text; a submission is JSON, compressed or not"
        ) from error


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
