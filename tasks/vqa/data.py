"""Files of questions as they are published: VQA's v1 and v2 (visualqa.org), and Visual7W's."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vlkit.errors import UserError
from vlkit.judging import parsed, shown, text_of
from vlkit.tasks.vqa.metrics import Asked

VISUAL7W_WRONG = 3  # answers of a question, beside the right one
IDS = ("id", "question_id", "qa_id")  # what sets call the name of a question
ASKED = ("question", "text")  # keys of a question
WANTED = (*ASKED, "choices")  # of which an empty cell of a table is a mistake, not a value that is left out


@dataclass(frozen=True)
class Question:
    """What is asked of which picture."""

    id: int
    image: int | str
    text: str
    choices: tuple[str, ...] = ()  # of multiple choice; empty where any answer may be given
    file: str = ""  # of the picture, where the set tells it


def read_questions(path: str | Path) -> tuple[Question, ...]:
    """A questions file, plain or gzip. UserError that names the entry and the field for whatever is wrong with it."""
    path = Path(path)
    found: list[Question] = []
    known: set[int] = set()
    for where, entry in _entries(path, "questions"):
        number = _number(where, entry, "question_id")
        if number in known:
            raise UserError(f"{where} has question_id {number}, as an earlier one has; each question has its own")
        known.add(number)
        text = entry.get("question")
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where} (question_id {number}) has question {shown(text)}; expected a text")
        image = entry.get("image_id")
        if isinstance(image, bool) or not isinstance(image, int | str):
            raise UserError(f"{where} (question_id {number}) has image_id {shown(image)}; expected a number or a name")
        choices = entry.get("multiple_choices", [])
        if not isinstance(choices, list) or not all(isinstance(each, str) for each in choices):
            raise UserError(f"{where} (question_id {number}) has multiple_choices {shown(choices)}; expected texts")
        file = entry.get("image_file", "")
        found.append(Question(number, image, text, tuple(choices), file if isinstance(file, str) else ""))
    return tuple(found)


def read_annotations(path: str | Path) -> dict[int, Asked]:
    """An annotations file, plain or gzip: the answers by question_id. UserError as `read_questions`."""
    path = Path(path)
    found: dict[int, Asked] = {}
    for where, entry in _entries(path, "annotations"):
        number = _number(where, entry, "question_id")
        if number in found:
            raise UserError(f"{where} has question_id {number}, as an earlier one has; each question is annotated once")
        answers = entry.get("answers")
        if not isinstance(answers, list) or not answers:
            raise UserError(f"{where} (question_id {number}) has answers {shown(answers)}; expected a list of them")
        for answer in answers:
            if not isinstance(answer, dict) or not isinstance(answer.get("answer"), str):
                raise UserError(
                    f"{where} (question_id {number}) has the answer {shown(answer)}; expected an object with a text as answer"
                )
        found[number] = Asked(
            id=number,
            answers=tuple(answer["answer"] for answer in answers),
            people=tuple(
                tuple(sorted((name, repr(value)) for name, value in answer.items() if name != "answer"))
                for answer in answers
            ),
            question_type=str(entry.get("question_type", "")),
            answer_type=str(entry.get("answer_type", "")),
        )
    return found


def _entries(path: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each entry of the list under `key` stands, and the entry."""
    document = parsed(text_of(path), str(path), line=None)
    if isinstance(document, list):  # VQA-CP's files are the lists alone
        document = {key: document}
    if not isinstance(document, dict) or not isinstance(document.get(key), list):
        held = ", ".join(map(shown, document)) if isinstance(document, dict) else type(document).__name__
        raise UserError(f"{path} has no list under {key!r} (it has {held or 'nothing'}); name VQA's {key} file")
    for i, entry in enumerate(document[key]):
        where = f"{path}, {key}[{i}]"
        if not isinstance(entry, dict):
            raise UserError(f"{where} is {shown(entry)}; expected an object")
        yield where, entry


def _number(where: str, entry: dict[str, Any], field: str) -> int:
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where} has {field} {shown(value)}; expected a whole number")
    return value


@dataclass(frozen=True)
class Choice:
    """A question with several answers, one of which is right."""

    id: str
    image: str
    text: str
    choices: tuple[
        str, ...
    ]  # in the file's order; Visual7W has the right one first, so whoever shows them shuffles them
    right: int = 0
    type: str = ""

    @property
    def answer(self) -> str:
        """The right one."""
        return self.choices[self.right]


def read_visual7w(path: str | Path, split: str) -> tuple[Choice, ...]:
    """The questions of a split of Visual7W's dataset.json, telling (answers are texts) or pointing (they are box ids).

    UserError that names the entry and the field for whatever is wrong with it.
    """
    path = Path(path)
    file = path / "dataset.json" if path.is_dir() else path
    return tuple(choice for choice, _ in read_visual7w_entries(file, split))


def read_boxes(file: Path) -> dict[str, tuple[float, float, float, float]]:
    """Boxes of Visual7W's pointing task by id: left, top, right and bottom in pixels; none in a file of the telling task.

    UserError for a box that is none.
    """
    document = parsed(text_of(file), str(file), line=None)
    boxes = document.get("boxes") or [] if isinstance(document, dict) else []  # a list has no boxes, and other mistakes
    if not isinstance(boxes, list):
        raise UserError(f"{file} has boxes {shown(boxes)}; expected a list of them")
    found: dict[str, tuple[float, float, float, float]] = {}
    for i, box in enumerate(boxes):
        where = f"{file}, boxes[{i}]"
        sides = [box.get(name) for name in ("x", "y", "width", "height")] if isinstance(box, dict) else []
        if not sides or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in sides):
            raise UserError(f"{where} is {shown(box)}; expected box_id, x, y, width and height")
        x, y, width, height = (float(cast(float, each)) for each in sides)
        if width <= 0 or height <= 0:
            raise UserError(f"{where} is {width:g} by {height:g} pixels; expected sides above 0")
        found[str(box.get("box_id"))] = (x, y, x + width, y + height)
    return found


def read_visual7w_entries(file: Path, split: str) -> tuple[tuple[Choice, dict[str, Any]], ...]:
    """As `read_visual7w`, each with what the file says of it."""
    found: list[tuple[Choice, dict[str, Any]]] = []
    known: set[str] = set()
    splits: set[str] = set()
    for where, image in _entries(file, "images"):
        name, pairs, own = image.get("filename"), image.get("qa_pairs"), image.get("split")
        if not isinstance(name, str) or not isinstance(own, str) or not isinstance(pairs, list):
            raise UserError(f"{where} has keys {', '.join(map(shown, image))}; expected filename, split and qa_pairs")
        splits.add(own)
        for i, pair in enumerate(pairs if own == split else ()):
            choice = _choice(f"{where}.qa_pairs[{i}]", pair, name)
            if choice.id in known:
                raise UserError(f"{where}.qa_pairs[{i}] has qa_id {choice.id}, as an earlier one has; each has its own")
            known.add(choice.id)
            found.append((choice, pair))
    if not found:
        raise UserError(f"{file} has no questions in the split {split!r}; it has {', '.join(sorted(splits)) or 'none'}")
    return tuple(found)


def _choice(where: str, pair: Any, image: str) -> Choice:
    if not isinstance(pair, dict):
        raise UserError(f"{where} is {shown(pair)}; expected an object")
    number = _number(where, pair, "qa_id")
    text, others = pair.get("question"), pair.get("multiple_choices")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where} (qa_id {number}) has question {shown(text)}; expected a text")
    if not isinstance(others, list) or len(others) != VISUAL7W_WRONG:
        raise UserError(
            f"{where} (qa_id {number}) has multiple_choices {shown(others)}; expected {VISUAL7W_WRONG} wrong answers"
        )
    choices = [pair.get("answer"), *others]
    for each in choices:
        if isinstance(each, bool) or not isinstance(each, int | str):
            raise UserError(f"{where} (qa_id {number}) has the answer {shown(each)}; expected a text, or a box id")
    return Choice(str(number), image, text, tuple(map(str, choices)), type=str(pair.get("type", "")))


def read_choices(path: str | Path) -> tuple[Choice, ...]:
    """The questions of any set of choices. UserError that names the entry and the field for whatever is wrong with it.

    A CSV file with columns question, choices (a JSON list, or texts between |) and answer (a text or a place, from 0); JSON,
    a list or an object a line, with the same fields; POPE's lines (text, label); SugarCrepe's object (caption,
    negative_caption). Fields id or question_id, image or filename, and type may be there.
    """
    path = Path(path)
    found = [any_choice(where, entry, str(i)) for i, (where, entry) in enumerate(any_entries(path))]
    known: set[str] = set()
    for choice in found:
        if choice.id in known:
            raise UserError(f"{path} has two questions with the id {choice.id}; give each its own")
        known.add(choice.id)
    if not found:
        raise UserError(f"{path} holds no question")
    return tuple(found)


def any_entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each entry of a CSV or JSON file stands, and the entry."""
    text = text_of(path)
    if path.name.removesuffix(".gz").endswith(".csv"):
        for i, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            if None in row or None in row.values():
                raise UserError(f"{path}, line {i} has not as many cells as the first line has names")
            yield f"{path}, line {i}", {name: value for name, value in row.items() if value or name in WANTED}
        return
    document = _document(path, text)
    if isinstance(document, dict) and all(isinstance(each, dict) for each in document.values()):
        document = [{"id": name} | entry for name, entry in document.items()]
    document = [document] if isinstance(document, dict) else document
    if not isinstance(document, list):
        raise UserError(f"{path} holds {shown(document)}; expected a list of questions")
    for i, entry in enumerate(document):
        if not isinstance(entry, dict):
            raise UserError(f"{path}, entry {i} is {shown(entry)}; expected an object")
        yield f"{path}, entry {i}", entry


def _document(path: Path, text: str) -> Any:
    """What the JSON says, or the list of what its lines say."""
    try:
        return parsed(text, str(path), line=None)
    except UserError:
        lines = [(i, line) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
        if len(lines) < 2 or not lines[0][1].rstrip().endswith("}"):
            raise
        return [parsed(line, str(path), line=i) for i, line in lines]


def any_choice(where: str, entry: dict[str, Any], place: str) -> Choice:
    """An entry of `any_entries` as a question; `place` is its id where it has none."""
    name = next((str(entry[key]) for key in IDS if key in entry), place)
    image = str(entry.get("image", entry.get("filename", "")))
    text, choices, answer = entry.get("question", entry.get("text")), entry.get("choices"), entry.get("answer")
    if any(key in entry for key in ASKED) and not str(text or "").strip():  # captions to choose from need none
        raise UserError(f"{where} has question {shown(text)}; expected a text")
    if choices is None and entry.get("label") in ("yes", "no"):
        choices, answer = ["yes", "no"], entry["label"]
    elif choices is None and "negative_caption" in entry:
        choices, answer = [entry.get("caption"), entry["negative_caption"]], entry.get("caption")
    elif isinstance(choices, str):
        listed = choices.lstrip().startswith("[")
        choices = parsed(choices, f"{where}, choices", line=None) if listed else [c.strip() for c in choices.split("|")]
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        raise UserError(f"{where} has choices {shown(choices)}; expected two texts or more")
    twice = next((each for each in choices if choices.count(each) > 1), None)
    if twice is not None:
        raise UserError(f"{where} has the choice {shown(twice)} more than once; each differs from the others")
    if isinstance(answer, str) and answer not in choices and answer.isdecimal():
        answer = int(answer)
    if isinstance(answer, str) and answer in choices:
        right = choices.index(answer)
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        right = answer
    else:
        raise UserError(
            f"{where} has answer {shown(answer)}, which is none of its choices: {shown(' | '.join(choices))}"
        )
    return Choice(name, image, str(text or ""), tuple(choices), right, str(entry.get("type", "")))
