"""Questions of any set as training and judging read them, whatever file they come from."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlkit.errors import UserError
from vlkit.judging import parsed, shown, text_of
from vlkit.tasks.vqa.data import (
    any_choice,
    any_entries,
    read_annotations,
    read_boxes,
    read_questions,
    read_visual7w_entries,
)
from vlkit.tasks.vqa.metrics import Asked, normalised

Format = Literal["visual7w", "vqa", "gqa", "easy-vqa", "own"]
Box = tuple[float, float, float, float]  # left, top, right and bottom
SET_ASIDE = 10  # one picture in so many is for choosing checkpoints where a set has no split for that
MOST_AGREEING = 3  # people who must have said the same for it to count in full


@dataclass(frozen=True)
class Example:
    """A question about a picture."""

    id: str
    image: str  # as the set calls it
    text: str
    choices: tuple[str, ...] = ()  # none where any answer may be given
    right: int | None = None  # place among the choices; None where nobody tells
    answers: tuple[str, ...] = ()  # what people said; none where nobody tells
    type: str = ""  # of the question, as the set has it
    kind: str = ""  # finer, or of the answer
    same_as: str = ""  # id of the question that this one asks in other words
    boxes: tuple[Box, ...] = ()  # where the choices are parts of the picture, each in its pixels; none for texts

    @property
    def told(self) -> bool:
        """Whether it can be learned from and scored."""
        return self.right is not None or bool(self.answers)

    @property
    def said(self) -> str:
        """The right candidate, or what most people answered; nothing where nobody tells."""
        if self.right is not None and self.choices:
            return self.choices[self.right]
        return Counter(self.answers).most_common(1)[0][0] if self.answers else ""


@dataclass(frozen=True)
class Examples:
    """The questions of one split."""

    name: str
    files: tuple[Path, ...]
    examples: tuple[Example, ...]
    images: Path  # folder or zip file
    asked: tuple[Asked, ...] = ()  # of VQA's sets, beside the examples: what ten people answered

    @property
    def pointing(self) -> bool:
        """Whether every choice is a part of a picture."""
        return bool(self.examples) and all(example.boxes for example in self.examples)

    @property
    def multiple_choice(self) -> bool:
        """Whether every question has its choices."""
        return all(example.choices for example in self.examples)


def read_examples(data: Path | None, form: Format | None, split: str) -> Examples:
    """The questions of a split.

    data: folder of the set's own files (for easy-vqa, the installed package where there is none). form: whose files they are;
    found out where it is not given. UserError where there is no such split, and for whatever is wrong with a file.
    """
    if data is None:
        if form not in (None, "easy-vqa"):
            raise UserError(f"questions of form {form} lie in a folder; name it with --data")
        return _easy_vqa(installed_easy_vqa(), split)
    if not data.exists():
        raise UserError(f"there is no {data}; name the folder of the questions with --data")
    if form in ("vqa", "easy-vqa") and not data.is_dir():
        raise UserError(f"{data} is a file, and questions of form {form} lie in a folder; name that")
    read = {"visual7w": _visual7w, "vqa": _vqa, "gqa": _gqa, "easy-vqa": _easy_vqa, "own": _own}
    return read[form or found_form(data)](data, split)


def found_form(data: Path) -> Format:
    """Whose files lie in a folder."""
    if data.is_file():
        return "visual7w" if data.name == "dataset.json" else "own"
    names = [each.name for each in data.iterdir() if each.is_file()]
    if "dataset.json" in names:
        return "visual7w"
    if (data / "train" / "questions.json").is_file() and (data / "train" / "images").is_dir():
        return "easy-vqa"
    if any("annotations" in name for name in names):
        return "vqa"
    if any(name.endswith("_questions.json") for name in names):
        return "gqa"
    return "own"


def set_aside(examples: Examples, *, aside: bool) -> Examples:
    """A tenth of the pictures' questions, or those of the others; which pictures follows from their names."""
    own = [each for each in examples.examples if (zlib.crc32(each.image.encode()) % SET_ASIDE == 0) == aside]
    if not own:
        raise UserError(
            f"{examples.name} has too few pictures to set a tenth aside for choosing; name a select_split that the set has"
        )
    places = {example.id: i for i, example in enumerate(examples.examples)}
    asked = tuple(examples.asked[places[each.id]] for each in own) if examples.asked else ()
    name = f"{examples.name}, set aside" if aside else examples.name
    return replace(examples, name=name, examples=tuple(own), asked=asked)


def _file(data: Path, split: str, *parts: str) -> Path:
    """The one file in the folder whose name has the split and all the parts."""
    there = sorted(each for each in data.iterdir() if each.is_file())
    fitting = [each for each in there if split in each.name and all(part in each.name for part in parts)]
    if len(fitting) != 1:
        what = f"a file with {split!r} and {' and '.join(map(repr, parts))} in its name"
        have = ", ".join(each.name for each in (fitting or there)[:6]) or "no file"
        raise UserError(f"{data} needs {what}, and just one; it has {have}")
    return fitting[0]


def _images(data: Path, split: str) -> Path:
    """Where pictures lie if nothing else is said: a folder or zip file called images, or by the split."""
    folder = data if data.is_dir() else data.parent
    for name in ("images", f"{split}_images", split):
        for place in (folder / name, folder / f"{name}.zip"):
            if place.exists():
                return place
    return folder


def _visual7w(data: Path, split: str) -> Examples:
    file = data / "dataset.json" if data.is_dir() else data
    boxes = read_boxes(file)
    examples = []
    for choice, pair in read_visual7w_entries(file, split):
        own: tuple[Box, ...] = ()
        if boxes:
            gone = [each for each in choice.choices if each not in boxes]
            if gone:
                raise UserError(
                    f"{file}, qa_id {choice.id} names the box {gone[0]}, which is not among its {len(boxes)} boxes"
                )
            own = tuple(boxes[each] for each in choice.choices)
        examples.append(
            Example(
                choice.id,
                choice.image,
                choice.text,
                choice.choices,
                choice.right,
                (choice.answer,),
                choice.type,
                str(pair.get("kind", "")),
                str(pair.get("same_as", "")),
                own,
            )
        )
    return Examples(split, (file,), tuple(examples), _images(file, split))


def _vqa(data: Path, split: str) -> Examples:
    """VQA's v1 and v2, and VQA-CP: questions and annotations; the questions alone where a split keeps its answers."""
    questions_file = _file(data, split, "questions")
    questions = read_questions(questions_file)
    told = any(split in each.name and "annotations" in each.name for each in data.iterdir())
    annotations_file = _file(data, split, "annotations") if told else None
    annotations = read_annotations(annotations_file) if annotations_file else {}
    bare = [question.id for question in questions if question.id not in annotations] if annotations_file else []
    if bare:
        raise UserError(
            f"{annotations_file} has no answers to {len(bare)} of the {len(questions)} questions in {questions_file}, such as "
            f"{bare[0]}; they are not of one split"
        )
    examples = []
    for question in questions:
        asked = annotations.get(question.id)
        right = None
        if asked is not None and question.choices:
            common = normalised(Counter(asked.answers).most_common(1)[0][0])
            right = next((i for i, each in enumerate(question.choices) if normalised(each) == common), None)
        examples.append(
            Example(
                str(question.id),
                question.file or str(question.image),
                question.text,
                question.choices,
                right,
                () if asked is None else asked.answers,
                "" if asked is None else asked.question_type,
                "" if asked is None else asked.answer_type,
            )
        )
    files = (questions_file,) if annotations_file is None else (questions_file, annotations_file)
    every = tuple(annotations[question.id] for question in questions) if annotations else ()
    return Examples(split, files, tuple(examples), _images(data, split), every)


def _gqa(data: Path, split: str) -> Examples:
    """GQA's questions: an object of id -> {question, imageId, answer, types}."""
    file = _file(data, split, "questions") if data.is_dir() else data
    document = parsed(text_of(file), str(file), line=None)
    if not isinstance(document, dict) or not all(isinstance(each, dict) for each in document.values()):
        raise UserError(f"{file} is no object of questions by id, as GQA's are")
    examples = []
    for number, entry in document.items():
        text, image, answer = entry.get("question"), entry.get("imageId"), entry.get("answer")
        if not isinstance(text, str) or not text.strip() or not isinstance(image, str | int):
            raise UserError(f"{file}, question {number} has question {shown(text)} and imageId {shown(image)}")
        if answer is not None and not isinstance(answer, str):
            raise UserError(f"{file}, question {number} has answer {shown(answer)}; expected a text")
        types = entry.get("types") if isinstance(entry.get("types"), dict) else {}
        examples.append(
            Example(
                str(number),
                str(image),
                text,
                answers=() if answer is None else (answer,),
                type=str(types.get("structural", "")),
                kind=str(types.get("semantic", "")),
            )
        )
    return _checked(Examples(split, (file,), tuple(examples), _images(data, split)))


def installed_easy_vqa() -> Path:
    """Where the package easy-vqa, an extra, keeps its questions and pictures."""
    import easy_vqa

    return Path(easy_vqa.__file__).parent / "data"


def _easy_vqa(data: Path, split: str) -> Examples:
    """easy-VQA's folder: train and test, [question, answer, number of the picture]."""
    file = data / split / "questions.json"
    if not file.is_file():
        there = sorted(each.parent.name for each in data.glob("*/questions.json"))
        raise UserError(f"easy-VQA has no split {split!r} in {data}; it has {', '.join(there) or 'none'}")
    document = parsed(text_of(file), str(file), line=None)
    examples = []
    for i, entry in enumerate(document if isinstance(document, list) else [document]):
        if not isinstance(entry, list) or len(entry) != 3 or not all(isinstance(each, str) for each in entry[:2]):
            raise UserError(f"{file}, entry {i} is {shown(entry)}; expected [question, answer, number of the picture]")
        text, answer, image = entry
        if not text.strip():
            raise UserError(f"{file}, entry {i} has question {shown(text)}; expected a text")
        kind = "yes/no" if answer in ("yes", "no") else "colour" if "color" in text else "shape"
        examples.append(Example(f"{split}-{i}", str(image), text, answers=(answer,), type=text.split()[0], kind=kind))
    return _checked(Examples(split, (file,), tuple(examples), data / split / "images"))


def _own(data: Path, split: str) -> Examples:
    """A CSV or JSON file of one's own, with choices or without; POPE's and SugarCrepe's too."""
    file = data
    if data.is_dir():
        there = sorted(each for each in data.iterdir() if each.name.endswith((".csv", ".json", ".jsonl", ".csv.gz")))
        fitting = [each for each in there if each.name.partition(".")[0] == split] or [
            each for each in there if split in each.name
        ]
        if len(fitting) != 1:
            names = ", ".join(each.name for each in (fitting or there)[:6])
            raise UserError(
                f"{data} needs one file of questions called {split}.csv or {split}.json; it has {names or 'none'}"
            )
        file = fitting[0]
    examples = [_own_example(where, entry, str(i)) for i, (where, entry) in enumerate(any_entries(file))]
    return _checked(Examples(split, (file,), tuple(examples), _images(data, split)))


def _own_example(where: str, entry: dict[str, Any], place: str) -> Example:
    open_ended = "choices" not in entry and "label" not in entry and "negative_caption" not in entry
    if open_ended:
        text, answer = entry.get("question"), entry.get("answer", entry.get("answers"))
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where} has question {shown(text)}; expected a text")
        answers = [answer] if isinstance(answer, str) else answer
        if answers is not None and (not isinstance(answers, list) or not all(isinstance(a, str) for a in answers)):
            raise UserError(f"{where} has answer {shown(answer)}; expected a text, or a list of them")
        name = next((str(entry[key]) for key in ("id", "question_id", "qa_id") if key in entry), place)
        image = _image(where, entry)
        return Example(name, image, text, answers=tuple(answers or ()), type=str(entry.get("type", "")))
    choice = any_choice(where, entry, place)
    return Example(
        choice.id,
        _image(where, entry),
        choice.text or "which is true?",
        choice.choices,
        choice.right,
        (choice.answer,),
        choice.type,
        same_as=str(entry.get("same_as", "")),
    )


def _image(where: str, entry: dict[str, Any]) -> str:
    image = entry.get("image", entry.get("filename"))
    if isinstance(image, bool) or not isinstance(image, str | int) or image == "":
        raise UserError(f"{where} has image {shown(image)}; expected the name of a picture")
    return str(image)


def _checked(examples: Examples) -> Examples:
    """UserError where ids come twice, or there are no questions."""
    counts = Counter(example.id for example in examples.examples)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(
            f"{examples.files[0]} has {len(twice)} ids that come twice, such as {twice[0]}; give each its own"
        )
    if not examples.examples:
        raise UserError(f"{examples.files[0]} holds no question")
    return examples


def soft_score(count: int, people: int) -> float:
    """How right an answer is that so many of the people gave: the mean over the ways to leave one of them out; where there are
    too few to agree, whether anybody gave it."""
    if people <= MOST_AGREEING:
        return float(count > 0)
    without = min(max(count - 1, 0) / MOST_AGREEING, 1.0), min(count / MOST_AGREEING, 1.0)
    return (count * without[0] + (people - count) * without[1]) / people


def common_answers(examples: Sequence[Example], most: int) -> tuple[str, ...]:
    """The answers that are given most often, normalised, the most frequent first."""
    counts = Counter(normalised(answer) for example in examples for answer in example.answers)
    return tuple(answer for answer, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])


def common_choices(examples: Sequence[Example], most: int) -> list[str]:
    """The candidates that are offered most often, the most frequent first."""
    counts = Counter(choice for example in examples for choice in example.choices)
    return [choice for choice, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]]


def chosen(example: Example, scores: np.ndarray) -> int:
    """The candidate with the highest score; of equal ones not the first: files have the right one there."""
    best = np.flatnonzero(scores == scores.max()).tolist()
    return best[0] if len(best) == 1 else min(best, key=lambda i: hash_of(example.id, example.choices[i]))


def hash_of(*words: str) -> int:
    """A number that looks drawn, the same each time."""
    return zlib.crc32("\0".join(words).encode())
