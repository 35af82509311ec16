"""`vlkit judge vqa`: scores anybody's answers to VQA's open questions, strictly.

A predictions file is VQA's own: a JSON list of {question_id, answer}. `fixed` and `compat` are those of `metrics`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlkit import __version__
from vlkit.config import load
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.judging import Problems, items_of, sha256, shown, with_rows
from vlkit.statistics import bootstrap_intervals
from vlkit.tasks.vqa.data import Question, read_annotations, read_questions
from vlkit.tasks.vqa.metrics import Asked, Mode, accuracy, by_type

Allowed = Literal["missing", "unknown", "duplicates"]

SCHEMA = 1  # of the output file
CONFIDENCE = 0.95
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


@dataclass(frozen=True)
class Options:
    """Score answers to VQA's open questions (v1, v2, VQA-CP)."""

    predictions: Path
    """JSON list of {question_id, answer}, plain or gzip"""
    questions: Path
    """VQA's questions file, plain or gzip"""
    annotations: Path
    """VQA's annotations file: the answers that people gave"""
    mode: Mode = "fixed"
    """fixed: the rules as they are meant. compat: as the published evaluator counts, to the letter"""
    output: Path | None = None
    """write the scores here, as JSON, in total, by type and for each question"""
    allow_missing: bool = False
    """score what is there where questions have no answer; the mean is then not the benchmark's"""
    allow_unknown: bool = False
    """ignore answers whose question_id is not among the questions"""
    allow_duplicates: bool = False
    """score the first of several answers with one question_id"""
    resamples: int = 2000
    """of the bootstrap behind the intervals"""
    seed: int = 0
    """of the bootstrap"""

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples = {self.resamples}, expected at least 1")


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
    inputs = (options.predictions, options.questions, options.annotations)
    if options.output is not None and options.output.resolve() in [each.resolve() for each in inputs]:
        raise UserError(f"--output {options.output} would overwrite an input; name another file")
    questions, annotations = read_questions(options.questions), read_annotations(options.annotations)
    answers, problems = read_answers(options.predictions)
    names: tuple[Allowed, ...] = ("missing", "unknown", "duplicates")
    allowed = [name for name in names if getattr(options, f"allow_{name}")]
    try:
        judgement = judge(answers, questions, annotations, options.mode, allow=allowed, problems=problems)
    except UserError as error:
        raise UserError(f"{options.predictions}, against {options.questions}, was {error}") from error
    low, high = bootstrap_intervals(
        judgement.scores[:, None], resamples=options.resamples, confidence=CONFIDENCE, seed=options.seed
    )
    interval = float(low[0]), float(high[0])
    _print(judgement, interval, options)
    if options.output is not None:
        text = with_rows(_document(judgement, interval, options), "per_question", _rows(judgement))
        with write_atomic(options.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 0


def read_answers(path: str | Path) -> tuple[list[tuple[int, str]], Problems]:
    """The usable (question_id, answer) of a predictions file in its order, and what is wrong with the others."""
    problems = Problems(KINDS)
    answers: list[tuple[int, str]] = []
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
            answers.append((number, answer))
    return answers, problems


def judge(
    answers: Sequence[tuple[int, str]],
    questions: Sequence[Question],
    annotations: Mapping[int, Asked],
    mode: Mode = "fixed",
    *,
    allow: Collection[Allowed] = (),
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
    known = {question.id for question in questions}
    found: dict[int, str] = {}
    counts = {"questions": len(questions), "scored": 0, "missing": 0, "unknown": 0, "duplicates": 0}
    for number, answer in answers:
        if number not in known:
            counts["unknown"] += 1
            if "unknown" not in allow:
                problems.add("unknown", str(number))
        elif number in found:
            counts["duplicates"] += 1
            if "duplicates" not in allow:
                problems.add("duplicate", str(number))
        else:
            found[number] = answer
    for question in questions:
        if question.id not in found and str(question.id) not in problems.ids:
            counts["missing"] += 1
            if "missing" not in allow:
                problems.add("missing", str(question.id))
    if problems.counts:
        total = sum(problems.counts.values())
        raise UserError(f"not scored: {total} {'problem' if total == 1 else 'problems'}.\n{problems}")
    scored = tuple(question for question in questions if question.id in found)
    if not scored:
        raise UserError(f"not scored: none of the {len(questions)} questions has an answer; is it the right file?")
    counts["scored"] = len(scored)
    asked = tuple(annotations[question.id] for question in scored)
    said = tuple(found[question.id] for question in scored)
    return Judgement(mode, scored, asked, said, accuracy(said, asked, mode), counts)


def _print(judgement: Judgement, interval: tuple[float, float], options: Options) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(
        f"predictions  {options.predictions.name}\nannotations  {options.annotations.name}\nmode         {judgement.mode}"
    )
    table = Table()
    table.add_column("VQA accuracy")
    table.add_column("%", justify="right")
    table.add_column("questions", justify="right")
    counts = judgement.counts
    table.add_row("all", f"{100 * judgement.scores.mean():.2f}", str(counts["scored"]), end_section=True)
    for name, (mean, count) in judgement.by_answer_type.items():
        table.add_row(name or "(no type)", f"{100 * mean:.2f}", str(count))
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
        console.print(f"Ignored: {counts['unknown']} with a question_id that is not among the questions.")
    if counts["duplicates"]:
        console.print(f"Ignored: {counts['duplicates']} with a question_id that an earlier one has.")


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
        "intervals": {
            "method": "bootstrap over questions",
            "confidence": CONFIDENCE,
            "resamples": options.resamples,
            "seed": options.seed,
        },
        "inputs": {name: {"file": path.name, "sha256": sha256([path])} for name, path in inputs.items()},
    }


def _rows(judgement: Judgement) -> list[dict[str, Any]]:
    return [
        {"question_id": question.id, "answer": answer, "accuracy": score}
        for question, answer, score in zip(
            judgement.questions, judgement.answers, judgement.scores.tolist(), strict=True
        )
    ]
