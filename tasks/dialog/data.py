"""Files of dialogs as they are published: VisDial v0.9 and v1.0 (visualdialog.org), GuessWhat?!, and JSON of one's own."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlkit.errors import UserError
from vlkit.judging import head_of, items_of, parsed, shown, text_of

Format = Literal["visdial", "guesswhat", "own"]
ROUNDS, OPTIONS = 10, 100  # of VisDial
DRAWN = 100  # options of a round that comes without, where answers must be ranked
ORACLE = ("yes", "no", "n/a")  # what GuessWhat's oracle says
BESIDE = ("dense", "word_counts")  # files of VisDial that hold no dialogs
FORM = "expected VisDial's {version, split, data: {questions, answers, dialogs}}"


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str | None  # None where nobody tells
    needs_history: bool | None = None  # whether it means something only behind what was said; None where nobody tells


@dataclass(frozen=True, eq=False)
class Dialog:
    """What is said about a picture."""

    id: str
    image: str  # as the set calls it
    caption: str
    turns: tuple[Turn, ...]
    options: (
        np.ndarray
    )  # (turns, options) int32, places in the set's answers, -1 where there is none; (turns, 0) without
    right: np.ndarray  # (turns,) int16, the right option; -1 where nobody tells

    @property
    def told(self) -> np.ndarray:
        """(turns,) whether the answer is known"""
        return np.array([turn.answer is not None for turn in self.turns], bool)


@dataclass(frozen=True, eq=False)
class Dialogs:
    """The dialogs of one split."""

    name: str
    files: tuple[Path, ...]
    dialogs: tuple[Dialog, ...]
    answers: tuple[str, ...]  # texts of the options
    images: Path  # folder or zip file
    relevance: Mapping[tuple[str, int], np.ndarray] = field(
        default_factory=dict
    )  # (dialog, round from 0): how right each is

    @property
    def rounds(self) -> int:
        """Rounds of all dialogs."""
        return sum(len(each.turns) for each in self.dialogs)


def read_dialogs(data: Path | None, form: Format | None, split: str, *, whatever: bool = False) -> Dialogs:
    """The dialogs of a split, with their dense relevance where it lies beside.

    data: folder of the set's own files, or one of them, which is the split that its name says, or the one to learn from; with
    `whatever` it is any. form: whose they are; found out where it is not given. UserError where there is no such split, and for
    whatever is wrong with a file.
    """
    if data is None:
        raise UserError("dialogs lie in a folder; name it with --data")
    if not data.exists():
        raise UserError(f"there is no {data}; name the folder of the dialogs with --data")
    file = _file(data, split, whatever=whatever)
    form = form or _form(file)
    read = {"visdial": read_visdial, "guesswhat": read_guesswhat, "own": read_own}[form]
    found = replace(read(file), name=split, images=_images(data if data.is_dir() else data.parent, split))
    dense = _dense_file(data, split) if data.is_dir() and form == "visdial" else None
    if dense is None:
        return found
    return replace(found, files=(file, dense), relevance=read_dense(dense, found))


def read_visdial(path: Path) -> Dialogs:
    """A file of VisDial, v0.9 or v1.0, plain or gzip. UserError that names dialog and round for whatever is wrong with it."""
    document = parsed(text_of(path), str(path), line=None)
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict):
        raise UserError(f"{path} has no data; {FORM}")
    texts = {}
    for name in ("questions", "answers"):
        own = data.get(name)
        if not isinstance(own, list) or not all(isinstance(each, str) for each in own):
            raise UserError(f"{path}, data.{name} is {shown(own)}; expected a list of texts. {FORM}")
        texts[name] = own
    entries = data.get("dialogs")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}, data.dialogs is {shown(entries)}; expected a list of dialogs. {FORM}")
    # Those of test keep their last answer and may be shorter.
    told = not str(document.get("split", "")).startswith("test") or _all_told(entries)
    known: set[str] = set()
    dialogs = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}, dialog {i} is {shown(entry)}; expected {{image_id, caption, dialog}}")
        number = entry.get("image_id")
        if isinstance(number, bool) or not isinstance(number, int):
            raise UserError(f"{path}, dialog {i} has image_id {shown(number)}; expected a whole number")
        if str(number) in known:
            raise UserError(
                f"{path}, dialog {i} has image_id {number}, as an earlier one has; a picture has one dialog"
            )
        known.add(str(number))
        dialogs.append(_visdial_dialog(f"{path}, dialog {i} (image_id {number})", entry, texts, told=told))
    return Dialogs(path.name, (path,), tuple(dialogs), tuple(texts["answers"]), path.parent)


def _all_told(entries: Sequence[Any]) -> bool:
    """Whether a file called test tells every answer, as generated ones do."""
    rounds = [entry.get("dialog") for entry in entries if isinstance(entry, dict)]
    last = [each[-1] for each in rounds if isinstance(each, list) and each]
    return all(isinstance(turn, dict) and "gt_index" in turn for turn in last)


def _visdial_dialog(where: str, entry: Mapping[str, Any], texts: Mapping[str, list[str]], *, told: bool) -> Dialog:
    caption, rounds = entry.get("caption"), entry.get("dialog")
    if not isinstance(caption, str):
        raise UserError(f"{where} has caption {shown(caption)}; expected a text")
    if not isinstance(rounds, list) or not rounds or len(rounds) > ROUNDS or (told and len(rounds) != ROUNDS):
        count = len(rounds) if isinstance(rounds, list) else shown(rounds)
        raise UserError(
            f"{where} has {count} rounds; VisDial's have {ROUNDS}, those of a test split without answers up to {ROUNDS}. "
            "Dialogs of any length are read from JSON of one's own: [{image, caption, turns: [{question, answer}]}]"
        )
    turns = []
    options = np.full((len(rounds), OPTIONS), -1, np.int32)
    right = np.full(len(rounds), -1, np.int16)
    for i, each in enumerate(rounds):
        place = f"{where}, round {i + 1}"
        if not isinstance(each, dict):
            raise UserError(f"{place} is {shown(each)}; expected {{question, answer, answer_options, gt_index}}")
        last = not told and i == len(rounds) - 1
        question = texts["questions"][_index(place, each, "question", len(texts["questions"]))]
        answer = None if last else _index(place, each, "answer", len(texts["answers"]))
        if told or last:  # in a test split only the last round is ranked
            options[i] = _options(place, each.get("answer_options"), len(texts["answers"]))
        if told:
            right[i] = _index(place, each, "gt_index", OPTIONS)
            if options[i, right[i]] != answer:
                raise UserError(
                    f"{place}: gt_index {right[i]} is the option {options[i, right[i]]}, and answer is {answer}; one of them is wrong"
                )
        history = each.get("needs_history")
        turns.append(
            Turn(
                question,
                None if answer is None else texts["answers"][answer],
                history if isinstance(history, bool) else None,
            )
        )
    number = str(entry["image_id"])
    return Dialog(number, number, caption, tuple(turns), options, right)


def _index(where: str, entry: Mapping[str, Any], name: str, count: int) -> int:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{where} has {name} {shown(value)}; expected 0 to {count - 1}")
    return value


def _options(where: str, value: Any, answers: int) -> np.ndarray:
    if not isinstance(value, list) or len(value) != OPTIONS:
        count = len(value) if isinstance(value, list) else shown(value)
        raise UserError(f"{where} has {count} answer_options; VisDial's have {OPTIONS}")
    if not all(type(each) is int and 0 <= each < answers for each in value):
        bad = next(each for each in value if type(each) is not int or not 0 <= each < answers)
        raise UserError(f"{where} has the option {shown(bad)}; expected 0 to {answers - 1}, a place among the answers")
    return np.array(value, np.int32)


def read_dense(path: Path, dialogs: Dialogs) -> dict[tuple[str, int], np.ndarray]:
    """Dense relevance: a list of {image_id, round_id (from 1), gt_relevance} (`relevance` in the files of train).

    (dialog, round from 0) -> (options,) float64. UserError for whatever does not fit the dialogs.
    """
    document = parsed(text_of(path), str(path), line=None)
    if not isinstance(document, list):
        raise UserError(f"{path} is no list; expected [{{image_id, round_id, gt_relevance}}]")
    lengths = {dialog.id: len(dialog.turns) for dialog in dialogs.dialogs}
    found: dict[tuple[str, int], np.ndarray] = {}
    for i, entry in enumerate(document):
        where = f"{path}, entry {i}"
        if not isinstance(entry, dict):
            raise UserError(f"{where} is {shown(entry)}; expected {{image_id, round_id, gt_relevance}}")
        image, number = entry.get("image_id"), entry.get("round_id")
        relevance = entry.get("gt_relevance", entry.get("relevance"))
        if str(image) not in lengths:
            raise UserError(f"{where} has image_id {shown(image)}, of which {dialogs.name} has no dialog")
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= lengths[str(image)]:
            raise UserError(f"{where} has round_id {shown(number)}; rounds are counted from 1 to {lengths[str(image)]}")
        if (str(image), number - 1) in found:
            raise UserError(f"{where} tells round {number} of image_id {image} again")
        if (
            not isinstance(relevance, list)
            or len(relevance) != OPTIONS
            or not all(type(each) in (int, float) and 0 <= each <= 1 for each in relevance)
        ):
            raise UserError(
                f"{where} has gt_relevance {shown(relevance)}; expected {OPTIONS} numbers from 0 to 1, one for each option"
            )
        found[str(image), number - 1] = np.array(relevance, np.float64)
    return found


def read_guesswhat(path: Path) -> Dialogs:
    """GuessWhat?! (de Vries et al. 2017), a game a line: what the oracle says, who knows which thing is meant.

    The caption tells that: its category, and where it is. Each question is answered yes, no, or n/a.
    """
    dialogs = []
    for place, game in items_of(path):
        where = f"{path}, {place}"
        image = game.get("image") if isinstance(game, dict) else None
        said = game.get("qas") if isinstance(game, dict) else None
        if not isinstance(game, dict) or not isinstance(image, dict) or not isinstance(said, list):
            raise UserError(f"{where} is no game of GuessWhat: expected {{id, image, objects, object_id, qas}}")
        objects = game.get("objects")
        listed = list(objects.values()) if isinstance(objects, dict) else objects if isinstance(objects, list) else []
        meant = [
            each for each in listed if isinstance(each, dict) and str(each.get("id")) == str(game.get("object_id"))
        ]
        if len(meant) != 1:
            raise UserError(
                f"{where} has object_id {shown(game.get('object_id'))}, which is {len(meant)} of its objects"
            )
        turns, right = [], []
        for i, each in enumerate(said):
            entry = each if isinstance(each, dict) else {}
            question, answer = entry.get("question", entry.get("q")), entry.get("answer", entry.get("a"))
            if not isinstance(question, str) or not question.strip() or str(answer).lower() not in ORACLE:
                raise UserError(
                    f"{where}, question {i} is {shown(question)}, answered {shown(answer)}; expected yes, no or n/a"
                )
            turns.append(Turn(question, str(answer).lower()))
            right.append(ORACLE.index(str(answer).lower()))
        if not turns:
            continue  # nobody asked
        name = image.get("file_name") or image.get("id")
        options = np.tile(np.arange(len(ORACLE), dtype=np.int32), (len(turns), 1))
        caption = _meant(where, meant[0], image)
        dialogs.append(
            Dialog(str(game.get("id")), str(name), caption, tuple(turns), options, np.array(right, np.int16))
        )
    if not dialogs:
        raise UserError(f"{path} has no game with questions")
    return Dialogs(path.name, (path,), tuple(dialogs), ORACLE, path.parent)


def _meant(where: str, thing: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    """What a game is about, in words: its category, and in which ninth of the picture it is."""
    box, category = thing.get("bbox"), thing.get("category")
    width, height = image.get("width"), image.get("height")
    numbers = [*(box if isinstance(box, list) else []), width, height]
    good = len(numbers) == 6 and all(type(each) in (int, float) and math.isfinite(each) for each in numbers)
    if not good or min(numbers[4:]) <= 0:
        raise UserError(
            f"{where} has bbox {shown(box)} in a picture of {shown(width)} x {shown(height)}; expected [x, y, width, height]"
        )
    x, y, w, h = (float(each) for each in numbers[:4])
    across = ("left", "middle", "right")[min(max(int(3 * (x + w / 2) / float(numbers[4])), 0), 2)]
    down = ("top", "center", "bottom")[min(max(int(3 * (y + h / 2) / float(numbers[5])), 0), 2)]
    return f"{category} at the {down} {across}"


def read_own(path: Path) -> Dialogs:
    """JSON of one's own: [{image, caption, turns: [{question, answer, options}]}], a list or an object a line.

    id, caption, answer and options may be left out. Turns of any number; options are texts, the answer among them.
    """
    answers: dict[str, int] = {}
    dialogs: list[Dialog] = []
    known: set[str] = set()
    for where, entry in items_of(path):
        where = f"{path}, {where}"
        if not isinstance(entry, dict) or not isinstance(entry.get("turns"), list) or not entry["turns"]:
            raise UserError(f"{where} is no dialog: expected {{image, caption, turns: [{{question, answer}}]}}")
        image, caption = entry.get("image"), entry.get("caption", "")
        if isinstance(image, bool) or not isinstance(image, str | int) or image == "":
            raise UserError(f"{where} has image {shown(image)}; expected the name of a picture")
        if not isinstance(caption, str):
            raise UserError(f"{where} has caption {shown(caption)}; expected a text")
        name = str(entry.get("id", f"dialog {len(dialogs)}"))
        if name in known:
            raise UserError(f"{where} has id {shown(name)}, as an earlier one has; each dialog has its own")
        known.add(name)
        turns, options = [], []
        for i, each in enumerate(entry["turns"]):
            turn, texts = _own_turn(f"{where}, turn {i + 1}", each)
            turns.append(turn)
            options.append([answers.setdefault(text, len(answers)) for text in texts])
            if turn.answer is not None:
                answers.setdefault(turn.answer, len(answers))
        table = np.full((len(turns), max(map(len, options))), -1, np.int32)
        right = np.full(len(turns), -1, np.int16)
        for i, (turn, own) in enumerate(zip(turns, options, strict=True)):
            table[i, : len(own)] = own
            if own and turn.answer is not None:
                right[i] = own.index(answers[turn.answer])
        dialogs.append(Dialog(name, str(image), caption, tuple(turns), table, right))
    if not dialogs:
        raise UserError(f"{path} has no dialog")
    return Dialogs(path.name, (path,), tuple(dialogs), tuple(answers), path.parent)


def _own_turn(where: str, entry: Any) -> tuple[Turn, list[str]]:
    question = entry.get("question") if isinstance(entry, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{where} has question {shown(question)}; expected a text")
    answer, options = entry.get("answer"), entry.get("options", [])
    if answer is not None and (not isinstance(answer, str) or not answer.strip()):
        raise UserError(f"{where} has answer {shown(answer)}; expected a text, or none where nobody tells")
    if not isinstance(options, list) or not all(isinstance(each, str) for each in options):
        raise UserError(f"{where} has options {shown(options)}; expected a list of texts")
    if len(set(options)) != len(options) or len(options) == 1:
        raise UserError(f"{where} has options {shown(options)}; expected two or more different ones")
    if options and answer is not None and answer not in options:
        raise UserError(f"{where} has answer {shown(answer)}, which is none of its {len(options)} options")
    history = entry.get("needs_history")
    return Turn(question, answer, history if isinstance(history, bool) else None), options


def with_options(dialogs: Dialogs, pool: Sequence[str]) -> Dialogs:
    """Dialogs without any options get the right answer among some of the pool's in each round, the same ones each time.

    One that has options in some rounds keeps them as they are: VisDial's test split is ranked in its last round alone.
    """
    if not pool or all((dialog.options >= 0).any() for dialog in dialogs.dialogs):
        return dialogs
    answers = {text: i for i, text in enumerate(dialogs.answers)}
    every = [answers.setdefault(text, len(answers)) for text in dict.fromkeys(pool)]
    found = []
    for dialog in dialogs.dialogs:
        wanting = [i for i, turn in enumerate(dialog.turns) if turn.answer is not None]
        if not wanting or (dialog.options >= 0).any():
            found.append(dialog)
            continue
        options = np.full((len(dialog.turns), DRAWN), -1, np.int32)
        right = dialog.right.copy()
        for i in wanting:
            own = answers[str(dialog.turns[i].answer)]
            rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{dialog.id} {i}".encode())))
            others = [each for each in every if each != own]
            drawn = rng.permutation(len(others))[: DRAWN - 1]
            row = rng.permutation([own, *(others[j] for j in drawn)])
            right[i] = int(np.nonzero(row == own)[0][0])
            options[i, : len(row)] = row
        found.append(replace(dialog, options=options, right=right))
    return replace(dialogs, dialogs=tuple(found), answers=tuple(answers))


def set_aside(dialogs: Dialogs, *, aside: bool, one_in: int = 10) -> Dialogs:
    """The dialogs of a tenth of the pictures, or those of the others; which follows from their names."""
    own = [each for each in dialogs.dialogs if (zlib.crc32(each.image.encode()) % one_in == 0) == aside]
    if not own:
        raise UserError(
            f"{dialogs.name} has too few pictures to set a tenth aside for choosing; name a select_split that the set has"
        )
    return some(replace(dialogs, name=f"{dialogs.name}, set aside" if aside else dialogs.name), own)


def some(dialogs: Dialogs, kept: Sequence[Dialog]) -> Dialogs:
    """Some of them, with what is known of those."""
    names = {dialog.id for dialog in kept}
    own = {key: value for key, value in dialogs.relevance.items() if key[0] in names}
    return replace(dialogs, dialogs=tuple(kept), relevance=own)


def _file(data: Path, split: str, *, whatever: bool) -> Path:
    """The one file of dialogs in a folder whose name has the split."""
    if data.is_file():
        if whatever or split == "train" or split in data.name:
            return data
        raise UserError(
            f"{data} is one file, and its name does not say that it holds {split!r}; name the file of that split with --data, or a "
            "folder of all"
        )
    there = sorted(each for each in data.iterdir() if each.is_file() and not any(no in each.name for no in BESIDE))
    there = [each for each in there if each.name.removesuffix(".gz").endswith((".json", ".jsonl"))]
    words = [(each, each.name.replace("-", "_").replace(".", "_").split("_")) for each in there]
    fitting = [each for each, parts in words if split in parts] or [each for each in there if split in each.name]
    if len(fitting) != 1:
        names = ", ".join(each.name for each in (fitting or there)[:6])
        how = "several files" if fitting else "no file"
        raise UserError(f"{data} has {how} of dialogs with {split!r} in the name ({names or 'none at all'})")
    return fitting[0]


def _dense_file(data: Path, split: str) -> Path | None:
    there = (each for each in data.iterdir() if each.is_file() and each.name.removesuffix(".gz").endswith(".json"))
    fitting = sorted(each for each in there if "dense" in each.name and split in each.name)
    return fitting[0] if fitting else None


def _form(file: Path) -> Format:
    if "guesswhat" in file.name:
        return "guesswhat"
    head = head_of(file).lstrip()
    return "visdial" if head.startswith("{") and '"data"' in head else "own"


def _images(data: Path, split: str) -> Path:
    for place in (data / "images" / split, data / "images"):
        if place.is_dir():
            return place
    archive = data / "images.zip"
    return archive if archive.is_file() else data


def messages(dialogs: Sequence[Dialog]) -> Iterator[str]:
    """Every text that is read: captions, questions, answers."""
    for dialog in dialogs:
        yield dialog.caption
        for turn in dialog.turns:
            yield turn.question
            if turn.answer is not None:
                yield turn.answer
