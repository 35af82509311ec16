"""`vlkit judge vqa`: scores anybody's answers to VQA's open questions, strictly.

A predictions file is VQA's own: a JSON list of {question_id, answer}. `fixed` and `compat` are those of `metrics`.
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
from vlkit.tasks.vqa.data import Question, read_annotations, read_questions
from vlkit.tasks.vqa.metrics import Asked, Mode, accuracy, by_type

SCHEMA = 1  # of the output file
MOST_LETTERS = 1000  # of an answer; people's have at most some dozens

KINDS = {
    "not_object": (
        "item is no object",
        "items are no objects",
        'write each as {"question_id": 458752000, "answer": "yes"}',
    ),
    "id": ("item has no usable question_id", "items have no usable question_id", "it is a whole number"),
    "answer": ("item has no usable answer", "items have no usable answer", 'it is a text; "" where there is none'),
    "long": (
        "answer is too long",
        "answers are too long",
        f"at most {MOST_LETTERS} letters are read; answers are a few words",
    ),
    "missing": (
        "question has no answer",
        "questions have no answer",
        "answer each; --allow-missing scores the others",
    ),
    "unknown": (
        "answer has a question_id that is not among the questions",
        "answers have a question_id that is not among the questions",
        "name the split that they are of; --allow-unknown ignores them",
    ),
    "duplicate": (
        "question_id is used more than once",
        "question_ids are used more than once",
        "keep one answer each; --allow-duplicates scores the first",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options(JudgeOptions):
    """Score answers to VQA's open questions (v1, v2, VQA-CP)."""

    predictions: Path
    """JSON list of {question_id, answer}, plain or gzip"""
    questions: Path
    """VQA's questions file, plain or gzip"""
    annotations: Path
    """VQA's annotations file: the answers that people gave"""
    mode: Mode = "fixed"
    """fixed: the rules as they are meant. compat: as the published evaluator counts, to the letter"""


@dataclass(frozen=True)
class Judgement:
    """The scores of a file of answers, in the questions' order."""

    mode: Mode
    questions: tuple[Question, ...]  # (items,) those that are scored
    asked: tuple[Asked, ...]  # (items,)
    answers: tuple[str, ...]  # (items,)
    scores: NDArray[np.float64]  # (items,) from 0 to 1
    counts: dict[str, int]

    @property
    def by_answer_type(self) -> Mapping[str, tuple[float, int]]:
        """Mean and number of questions: yes/no, number, other"""
        return by_type(self.scores, [item.answer_type for item in self.asked])

    @property
    def by_question_type(self) -> Mapping[str, tuple[float, int]]:
        """The same by how the question begins."""
        return by_type(self.scores, [item.question_type for item in self.asked])


def main(arguments: list[str]) -> int:
    """The command: prints the table, writes the output file, returns 0. Raises UserError where a file is refused."""
    options = load(Options, None, arguments, prog="vlkit judge vqa")
    options.check_output(options.predictions, options.questions, options.annotations)
    questions, annotations = read_questions(options.questions), read_annotations(options.annotations)
    answers, problems = read_answers(options.predictions)
    try:
        judgement = judge(answers, questions, annotations, options.mode, allow=options.allowed, problems=problems)
    except UserError as error:
        raise UserError(f"{options.predictions}, against {options.questions}, was {error}") from error
    interval = options.interval(judgement.scores)
    head = {"predictions": options.predictions.name, "annotations": options.annotations.name, "mode": options.mode}
    mean = float(judgement.scores.mean())
    print_scores(head, "VQA accuracy", mean, interval, judgement.by_answer_type, judgement.counts)
    if options.output is not None:
        text = with_rows(_document(judgement, interval, options), "per_question", _rows(judgement))
        with write_atomic(options.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 0


def read_answers(path: str | Path) -> tuple[list[tuple[str, str]], Problems]:
    """The usable (question_id, answer) of a predictions file in its order, and what is wrong with the others."""
    problems = Problems(KINDS)
    answers: list[tuple[str, str]] = []
    for where, item in items_of(Path(path)):
        if not isinstance(item, dict):
            problems.add("not_object", f"{where}: {shown(item)}")
            continue
        number, answer = item.get("question_id"), item.get("answer")
        if isinstance(number, bool) or not isinstance(number, int):
            problems.add("id", f"{where}: {shown(number)}")
        elif not isinstance(answer, str):
            problems.add("answer", f"{where}, {number}: {shown(answer)}", identifier=str(number))
        elif len(answer) > MOST_LETTERS:
            problems.add("long", f"{where}, {number}: {len(answer)} letters", identifier=str(number))
        else:
            answers.append((str(number), answer))
    return answers, problems


def judge(
    answers: Sequence[tuple[str, str]],
    questions: Sequence[Question],
    annotations: Mapping[int, Asked],
    mode: Mode = "fixed",
    *,
    allow: Collection[str] = (),
    problems: Problems | None = None,
) -> Judgement:
    """Scores one answer for each question.

    `problems` are those that reading the file met; UserError lists them with those that are found here: questions without
    an answer, ids that are unknown or used twice (unless in `allow`; the first is scored).
    """
    problems = Problems(KINDS) if problems is None else problems
    bare = [question.id for question in questions if question.id not in annotations]
    if bare:
        raise UserError(
            f"not scored: the annotations have no answers to {len(bare)} of the {len(questions)} questions, such as "
            f"{bare[0]}; questions and annotations are not of one split"
        )
    found, counts = matched(answers, [str(question.id) for question in questions], problems, allow)
    refuse(problems, counts)
    scored = tuple(question for question in questions if str(question.id) in found)
    asked = tuple(annotations[question.id] for question in scored)
    said = tuple(found[str(question.id)] for question in scored)
    return Judgement(mode, scored, asked, said, accuracy(said, asked, mode), counts)


def _document(judgement: Judgement, interval: tuple[float, float], options: Options) -> dict[str, Any]:
    def table(types: Mapping[str, tuple[float, int]]) -> dict[str, dict[str, float]]:
        return {name: {"mean": mean, "questions": count} for name, (mean, count) in types.items()}

    inputs = {name: getattr(options, name) for name in ("predictions", "questions", "annotations")}
    return {
        "schema": SCHEMA,
        "benchmark": "vqa",
        "vlkit": __version__,
        "mode": judgement.mode,
        "counts": judgement.counts,
        # The published evaluator's names and its rounding.
        "summary": {
            "overall": round(100 * float(judgement.scores.mean()), 2),
            "perAnswerType": {name: round(100 * mean, 2) for name, (mean, _) in judgement.by_answer_type.items()},
            "perQuestionType": {name: round(100 * mean, 2) for name, (mean, _) in judgement.by_question_type.items()},
        },
        "accuracy": {"mean": float(judgement.scores.mean()), "low": interval[0], "high": interval[1]},
        "by_answer_type": table(judgement.by_answer_type),
        "by_question_type": table(judgement.by_question_type),
        "intervals": options.said(),
        "inputs": {name: {"file": path.name, "sha256": sha256([path])} for name, path in inputs.items()},
    }


def _rows(judgement: Judgement) -> list[dict[str, Any]]:
    return [
        {"question_id": question.id, "answer": answer, "accuracy": score}
        for question, answer, score in zip(
            judgement.questions, judgement.answers, judgement.scores.tolist(), strict=True
        )
    ]
