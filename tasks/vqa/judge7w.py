"""`vlkit judge visual7w`: scores anybody's choices for Visual7W's questions, telling and pointing, strictly.

A predictions file is the toolkit's own: a JSON list of {qa_id, candidates: [{answer}]}. An answer is right where it is the
right one, letter for letter but for large and small ones. The toolkit scores whatever rows it is handed; here each question
of the split needs an answer.
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
from vlkit.tasks.vqa.data import Choice, read_visual7w
from vlkit.tasks.vqa.metrics import by_type

SCHEMA = 1  # of the output file

KINDS = {
    "not_object": (
        "item is no object",
        "items are no objects",
        'write each as {"qa_id": 1, "candidates": [{"answer": "a red bus"}]}',
    ),
    "id": ("item has no usable qa_id", "items have no usable qa_id", "it is a whole number"),
    "answer": (
        "item has no usable answer",
        "items have no usable answer",
        'give each "candidates": [{"answer": ...}], the best first: a text, or the id of a box',
    ),
    "missing": (
        "question has no answer",
        "questions have no answer",
        "answer each; --allow-missing scores the others",
    ),
    "unknown": (
        "answer has a qa_id that is not in the split",
        "answers have a qa_id that is not in the split",
        "name the split that they are of; --allow-unknown ignores them",
    ),
    "duplicate": (
        "qa_id is used more than once",
        "qa_ids are used more than once",
        "keep one answer each; --allow-duplicates scores the first",
    ),
    "strange": (
        "answer is none of its question's choices",
        "answers are none of their questions' choices",
        "choose one of them; --open scores free answers, --allow-strange counts these as wrong",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options(JudgeOptions):
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
        """Mean and number of questions: what, where, when, who, why, how; which"""
        return by_type(self.right, [question.type for question in self.questions])


def main(arguments: list[str]) -> int:
    """The command: prints the table, writes the output file, returns 0. Raises UserError where a file is refused."""
    options = load(Options, None, arguments, prog="vlkit judge visual7w")
    options.check_output(options.predictions, _file(options.dataset))
    questions = read_visual7w(options.dataset, options.split)
    answers, problems = read_candidates(options.predictions)
    try:
        judgement = judge(answers, questions, most=options.open, allow=options.allowed, problems=problems)
    except UserError as error:
        raise UserError(f"{options.predictions}, against {options.dataset}, was {error}") from error
    interval = options.interval(judgement.right)
    head = {"predictions": options.predictions.name, "dataset": f"{options.dataset.name}, {options.split}"}
    if options.open is None:
        head["chance"] = f"{100 * np.mean([1 / len(question.choices) for question in judgement.questions]):.2f} %"
    if strange := judgement.counts["strange"]:
        head["wrong"] = f"{strange} answers that are none of their questions' choices"
    title = "accuracy" if options.open is None else f"one of {options.open} right"
    print_scores(head, title, float(judgement.right.mean()), interval, judgement.by_type, judgement.counts)
    if options.output is not None:
        text = with_rows(_document(judgement, interval, options), "per_question", _rows(judgement))
        with write_atomic(options.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 0


def read_candidates(path: str | Path) -> tuple[list[tuple[str, tuple[str, ...]]], Problems]:
    """The usable (qa_id, candidates) of a predictions file in its order, and what is wrong with the others."""
    problems = Problems(KINDS)
    answers: list[tuple[str, tuple[str, ...]]] = []
    for where, item in items_of(Path(path)):
        if not isinstance(item, dict):
            problems.add("not_object", f"{where}: {shown(item)}")
            continue
        number, candidates = item.get("qa_id"), item.get("candidates")
        if isinstance(number, bool) or not isinstance(number, int):
            problems.add("id", f"{where}: {shown(number)}")
            continue
        said = [each.get("answer") if isinstance(each, dict) else None for each in candidates or ()]
        if not said or not all(isinstance(each, int | str) and not isinstance(each, bool) for each in said):
            problems.add("answer", f"{where}, {number}: {shown(candidates)}", identifier=str(number))
        else:
            answers.append((str(number), tuple(map(str, said))))
    return answers, problems


def judge(
    answers: Sequence[tuple[str, tuple[str, ...]]],
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


def _document(judgement: Judgement, interval: tuple[float, float], options: Options) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "benchmark": "visual7w",
        "vlkit": __version__,
        "split": options.split,
        "open": options.open,
        "counts": judgement.counts,
        "accuracy": {"mean": float(judgement.right.mean()), "low": interval[0], "high": interval[1]},
        "by_type": {name: {"mean": mean, "questions": count} for name, (mean, count) in judgement.by_type.items()},
        "intervals": options.said(),
        "inputs": {
            "predictions": {"file": options.predictions.name, "sha256": sha256([options.predictions])},
            "dataset": {"file": options.dataset.name, "sha256": sha256([_file(options.dataset)])},
        },
    }


def _file(dataset: Path) -> Path:
    return dataset / "dataset.json" if dataset.is_dir() else dataset


def _rows(judgement: Judgement) -> list[dict[str, Any]]:
    return [
        {"qa_id": int(question.id), "type": question.type, "answer": said[0], "right": bool(right)}
        for question, said, right in zip(judgement.questions, judgement.answers, judgement.right.tolist(), strict=True)
    ]
