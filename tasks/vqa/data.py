"""Files of questions as they are published: VQA's v1 and v2 (visualqa.org), and Visual7W's."""

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


@dataclass(frozen=True)
class Choice:
    """A question with several answers, one of which is right."""

    id: str
    image: str
    text: str
    choices: tuple[str, ...]  # the right one first, as Visual7W has it: whoever shows them shuffles them
    type: str = ""

    @property
    def answer(self) -> str:
        """The right one."""
        return self.choices[0]


def read_visual7w(path: str | Path, split: str) -> tuple[Choice, ...]:
    """The questions of a split of Visual7W's dataset.json, telling (answers are texts) or pointing (they are box ids).

    UserError that names the entry and the field for whatever is wrong with it.
    """
    path = Path(path)
    file = path / "dataset.json" if path.is_dir() else path
    found: list[Choice] = []
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
            found.append(choice)
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
    if not isinstance(others, list) or not others:
        raise UserError(f"{where} (qa_id {number}) has multiple_choices {shown(others)}; expected the wrong answers")
    choices = [pair.get("answer"), *others]
    for each in choices:
        if isinstance(each, bool) or not isinstance(each, int | str):
            raise UserError(f"{where} (qa_id {number}) has the answer {shown(each)}; expected a text, or a box id")
    return Choice(str(number), image, text, tuple(map(str, choices)), str(pair.get("type", "")))
