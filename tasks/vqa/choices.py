"""`vlkit judge visual7w` and `vlkit judge choices`: score anybody's choices, strictly.

An answer is right where it is the right one, letter for letter but for large and small ones. Visual7W's predictions file is
its toolkit's own: a JSON list of {qa_id, candidates: [{answer}]}; the toolkit scores whatever rows it is handed, and here
each question of the split needs an answer. Any other set takes a JSON list, or lines, of {id, answer}.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkit import __version__
from vlkit.config import load
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.judging import JudgeOptions, Problems, items_of, matched, print_scores, refuse, sha256, shown, with_rows
from vlkit.tasks.vqa.data import IDS, Choice, read_choices, read_visual7w
from vlkit.tasks.vqa.metrics import by_type

SCHEMA = 1  # of the output file
YES_NO = {"yes", "no"}

Said = tuple[str, tuple[str, ...]]  # the id of a question, and candidates for its answer, the best first

KINDS = {
    "not_object": (
        "item is no object",
        "items are no objects",
        'write each as {"id": 1, "answer": "a red bus"}; for Visual7W {"qa_id": 1, "candidates": [{"answer": "a red bus"}]}',
    ),
    "id": ("item has no usable id", "items have no usable id", "name the question: a whole number, or a text"),
    "answer": (
        "item has no usable answer",
        "items have no usable answer",
        "it is one of the choices, or its place among them from 0; for Visual7W a text or the id of a box",
    ),
    "missing": (
        "question has no answer",
        "questions have no answer",
        "answer each; --allow-missing scores the others",
    ),
    "unknown": (
        "answer has an id that is not among the questions",
        "answers have an id that is not among the questions",
        "name the split that they are of; --allow-unknown ignores them",
    ),
    "duplicate": (
        "id is used more than once",
        "ids are used more than once",
        "keep one answer each; --allow-duplicates scores the first",
    ),
    "strange": (
        "answer is none of its question's choices",
        "answers are none of their questions' choices",
        "choose one of them; --allow-strange counts these as wrong",
    ),
}


@dataclass(frozen=True, kw_only=True)
class ChoiceOptions(JudgeOptions):
    """Score choices in any set of questions with two answers or more: POPE, SugarCrepe, one's own."""

    predictions: Path
    """JSON list, or lines, of {id, answer}, plain or gzip; an answer is a text, or a place among the choices from 0"""
    dataset: Path
    """the questions: CSV (question, choices, answer), JSON, POPE's lines, SugarCrepe's object"""
    allow_strange: bool = False
    """count answers that are none of the choices as wrong"""


@dataclass(frozen=True, kw_only=True)
class Visual7WOptions(JudgeOptions):
    """Score choices for Visual7W's questions."""

    predictions: Path
    """JSON list of {qa_id, candidates: [{answer}]}, plain or gzip"""
    dataset: Path
    """Visual7W's dataset.json, telling or pointing, or its folder"""
    split: str = "test"
    """train, val or test"""
    open: int | None = None
    """score free answers: right where one of the first so many candidates is"""
    allow_strange: bool = False
    """count answers that are none of the choices as wrong"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.open is not None and self.open < 1:
            raise ValueError(f"open = {self.open}, expected at least 1 candidate")


@dataclass(frozen=True)
class Judgement:
    """The scores of a file of choices, in the questions' order."""

    questions: tuple[Choice, ...]  # (items,) those that are scored
    answers: tuple[tuple[str, ...], ...]  # (items,) candidates
    right: NDArray[np.float64]  # (items,) 0 or 1
    counts: dict[str, int]

    @property
    def by_type(self) -> Mapping[str, tuple[float, int]]:
        """Mean and number of questions of each type."""
        return by_type(self.right, [question.type for question in self.questions])

    @property
    def chance(self) -> float:
        """What guessing reaches."""
        return float(np.mean([1 / len(question.choices) for question in self.questions]))

    @property
    def yes_no(self) -> dict[str, float]:
        """Where all answers are yes or no, POPE's measures of yes and how often it was said; else nothing."""
        if any({choice.lower() for choice in question.choices} != YES_NO for question in self.questions):
            return {}
        said = np.array([answers[0].lower() == "yes" for answers in self.answers])
        true = np.array([question.answer.lower() == "yes" for question in self.questions])
        hits = float((said & true).sum())
        precision, recall = hits / max(said.sum(), 1), hits / max(true.sum(), 1)
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        return {"precision": precision, "recall": recall, "f1": f1, "said_yes": float(said.mean())}


def main(arguments: list[str]) -> int:
    """`vlkit judge choices`: prints the table, writes the output file, returns 0. UserError where a file is refused."""
    options = load(ChoiceOptions, None, arguments, prog="vlkit judge choices")
    options.check_output(options.predictions, options.dataset)
    questions = read_choices(options.dataset)
    answers, problems = read_answers(options.predictions, questions)
    judgement = _judged(answers, questions, options, problems)
    head = {"predictions": options.predictions.name, "dataset": options.dataset.name}
    _finish(judgement, options, options.dataset, head | _beside(judgement), "choices", {})
    return 0


def visual7w(arguments: list[str]) -> int:
    """`vlkit judge visual7w`: as `main`."""
    options = load(Visual7WOptions, None, arguments, prog="vlkit judge visual7w")
    file = options.dataset / "dataset.json" if options.dataset.is_dir() else options.dataset
    options.check_output(options.predictions, file)
    answers, problems = read_candidates(options.predictions)
    judgement = _judged(answers, read_visual7w(file, options.split), options, problems, most=options.open)
    head = {"predictions": options.predictions.name, "dataset": f"{file.name}, {options.split}"}
    head |= _beside(judgement) if options.open is None else {"right": f"where one of the first {options.open} is"}
    _finish(judgement, options, file, head, "visual7w", {"split": options.split, "open": options.open})
    return 0


def read_candidates(path: str | Path) -> tuple[list[Said], Problems]:
    """What of a file in Visual7W's format can be used, in its order, and what is wrong with the rest."""
    problems, answers = Problems(KINDS), list[Said]()
    for where, item in items_of(Path(path)):
        name = _named(where, item, problems)
        if name is None:
            continue
        candidates = item.get("candidates")
        own = candidates if isinstance(candidates, list) else []
        said = [each.get("answer") if isinstance(each, dict) else None for each in own]
        if not said or not all(isinstance(each, int | str) and not isinstance(each, bool) for each in said):
            problems.add("answer", f"{where}, {name}: {shown(candidates)}", identifier=name)
        else:
            answers.append((name, tuple(map(str, said))))
    return answers, problems


def read_answers(path: str | Path, questions: Sequence[Choice]) -> tuple[list[Said], Problems]:
    """What of a file of {id, answer} can be used, in its order, places as the choices that they stand for."""
    problems, answers = Problems(KINDS), list[Said]()
    known = {question.id: question for question in questions}
    for where, item in items_of(Path(path)):
        name = _named(where, item, problems)
        if name is None:
            continue
        said = item.get("answer")
        choices = known[name].choices if name in known else ()
        if isinstance(said, int) and not isinstance(said, bool) and (0 <= said < len(choices) or not choices):
            said = choices[said] if choices else str(said)
        if isinstance(said, str):
            answers.append((name, (said,)))
        else:
            problems.add("answer", f"{where}, {name}: {shown(said)}", identifier=name)
    return answers, problems


def judge(
    answers: Sequence[Said],
    questions: Sequence[Choice],
    *,
    most: int | None = None,
    allow: Collection[str] = (),
    problems: Problems | None = None,
) -> Judgement:
    """Scores the first candidate for each question, which must be one of its choices.

    most: score free answers, the first so many candidates. `problems` are those that reading the file met; UserError lists
    them with all that are found here (unless in `allow`).
    """
    problems = Problems(KINDS) if problems is None else problems
    found, counts = matched(answers, [question.id for question in questions], problems, allow)
    counts["strange"] = 0
    for question in questions if most is None else ():
        choices = [choice.lower() for choice in question.choices]
        if question.id in found and found[question.id][0].lower() not in choices:
            counts["strange"] += 1
            if "strange" not in allow:
                problems.add("strange", f"{question.id}: {shown(found[question.id][0])}")
    refuse(problems, counts)
    scored = tuple(question for question in questions if question.id in found)
    said = tuple(found[question.id][: most or 1] for question in scored)
    right = [
        question.answer.lower() in [each.lower() for each in own] for question, own in zip(scored, said, strict=True)
    ]
    return Judgement(scored, said, np.array(right, dtype=np.float64), counts)


def _named(where: str, item: Any, problems: Problems) -> str | None:
    """The id of an item, or nothing and a problem."""
    if not isinstance(item, dict):
        problems.add("not_object", f"{where}: {shown(item)}")
        return None
    name = next((item[key] for key in IDS if key in item), None)
    if isinstance(name, bool) or not isinstance(name, int | str) or name == "":
        problems.add("id", f"{where}: {shown(name)}")
        return None
    return str(name)


def _judged(
    answers: Sequence[Said],
    questions: Sequence[Choice],
    options: ChoiceOptions | Visual7WOptions,
    problems: Problems,
    most: int | None = None,
) -> Judgement:
    try:
        return judge(answers, questions, most=most, allow=options.allowed, problems=problems)
    except UserError as error:
        raise UserError(f"{options.predictions}, against {options.dataset}, was {error}") from error


def _beside(judgement: Judgement) -> dict[str, str]:
    """What must stand beside the accuracy of choices."""
    beside = {"chance": f"{100 * judgement.chance:.2f} %"}
    if measures := judgement.yes_no:
        beside["yes"] = ", ".join(f"{name.replace('_', ' ')} {100 * value:.2f} %" for name, value in measures.items())
    if strange := judgement.counts["strange"]:
        beside["wrong"] = f"{strange} answers that are none of their questions' choices"
    return beside


def _finish(
    judgement: Judgement,
    options: ChoiceOptions | Visual7WOptions,
    dataset: Path,
    head: Mapping[str, str],
    benchmark: str,
    how: Mapping[str, Any],
) -> None:
    """Prints the table and writes the output file."""
    interval, mean = options.interval(judgement.right), float(judgement.right.mean())
    print_scores(head, "accuracy", mean, interval, judgement.by_type, judgement.counts)
    if options.output is None:
        return
    document = {
        "schema": SCHEMA,
        "benchmark": benchmark,
        "vlkit": __version__,
        **how,
        "counts": judgement.counts,
        "accuracy": {"mean": mean, "low": interval[0], "high": interval[1]},
        "chance": judgement.chance,
        "yes_no": judgement.yes_no,
        "by_type": {name: {"mean": share, "questions": count} for name, (share, count) in judgement.by_type.items()},
        "intervals": options.said(),
        "inputs": {
            "predictions": {"file": options.predictions.name, "sha256": sha256([options.predictions])},
            "dataset": {"file": dataset.name, "sha256": sha256([dataset])},
        },
    }
    rows = [
        {"id": question.id, "type": question.type, "answer": said[0], "right": bool(right)}
        for question, said, right in zip(judgement.questions, judgement.answers, judgement.right.tolist(), strict=True)
    ]
    with write_atomic(options.output) as temporary:
        temporary.write_text(with_rows(document, "per_question", rows), encoding="utf-8")
