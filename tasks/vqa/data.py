"""VQA's files as visualqa.org publishes them, v1 and v2: questions, and the answers that people gave."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlkit.errors import UserError
from vlkit.judging import parsed, shown, text_of
from vlkit.tasks.vqa.metrics import Asked

CHOICES = 18  # candidates of VQA v1's multiple choice


@dataclass(frozen=True)
class Question:
    """What is asked of which picture."""

    id: int
    image: int | str
    text: str
    choices: tuple[str, ...] = ()  # of multiple choice; empty where any answer may be given


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
        found.append(Question(number, image, text, tuple(choices)))
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
