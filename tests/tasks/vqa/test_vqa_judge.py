"""`vlkit judge vqa`: official files in, scores out, and one message for everything that is wrong with a file."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from vlkit.cli import main

QUESTIONS = [
    {"question_id": 10, "image_id": 1, "question": "Is it red?"},
    {"question_id": 11, "image_id": 1, "question": "How many?"},
    {"question_id": 12, "image_id": 2, "question": "What is it?"},
]
PEOPLE = {10: ["yes"] * 9 + ["no"], 11: ["2"] * 5 + ["3"] * 5, 12: ["bus"] * 2 + ["red bus"] * 8}
TYPES = {10: "yes/no", 11: "number", 12: "other"}


def files(folder: Path, predictions: Any = None, questions: Any = None, annotations: Any = None) -> list[str]:
    said = [
        {"question_id": 10, "answer": "Yes."},
        {"question_id": 11, "answer": "two"},
        {"question_id": 12, "answer": "bus"},
    ]
    every = [
        {
            "question_id": number,
            "question_type": "what",
            "answer_type": TYPES[number],
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": i} for i, answer in enumerate(answers)
            ],
        }
        for number, answers in PEOPLE.items()
    ]
    documents = {
        "predictions": said if predictions is None else predictions,
        "questions": {"questions": QUESTIONS if questions is None else questions},
        "annotations": {"annotations": every if annotations is None else annotations},
    }
    words = ["judge", "vqa"]
    for name, document in documents.items():
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / f"{name}.json").write_text(text)
        words += [f"--{name}", str(folder / f"{name}.json")]
    return words


def test_scores_stand_in_the_file_by_type_and_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files(tmp_path), "--output", str(tmp_path / "scores.json")]) == 0
    assert "VQA accuracy" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    bus = (2 * (1 / 3) + 8 * (2 / 3)) / 10  # two people say so
    assert [row["accuracy"] for row in scores["per_question"]] == pytest.approx([1.0, 1.0, bus])
    assert scores["accuracy"]["mean"] == pytest.approx((2 + bus) / 3)
    assert scores["summary"]["perAnswerType"] == {"number": 100.0, "other": round(100 * bus, 2), "yes/no": 100.0}
    assert scores["counts"] == {"questions": 3, "scored": 3, "missing": 0, "unknown": 0, "duplicates": 0}


@pytest.mark.parametrize(
    ("predictions", "complaint"),
    [
        ([{"question_id": 10, "answer": "yes"}], "2 questions have no answer"),
        ([{"question_id": "10", "answer": "yes"}], "1 item has no usable question_id"),
        ([{"question_id": 10, "answer": 3}], "1 item has no usable answer"),
        ([{"question_id": 10, "answer": "x" * 1001}], "1 answer is too long"),
        (["yes"], "1 item is no object"),
        ([{"question_id": 99, "answer": "yes"}], "1 answer has a question_id that is not among the questions"),
        ([{"question_id": 10, "answer": "yes"}] * 2, "1 question_id is used more than once"),
        ("[{", "the file ends in the middle"),
        ('{\n"answers": []\n}', "a submission is a JSON list of objects"),
    ],
)
def test_what_is_wrong_with_a_predictions_file_is_told(
    predictions: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*files(tmp_path, predictions), "--output", str(tmp_path / "scores.json")]) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists()


def test_what_is_allowed_is_scored_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [
        {"question_id": 10, "answer": "yes"},
        {"question_id": 10, "answer": "no"},
        {"question_id": 7, "answer": "no"},
    ]
    words = [*files(tmp_path, said), "--allow-missing", "--allow-unknown", "--allow-duplicates"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "PARTIAL: no answer to 2 of 3 questions" in printed
    assert "100.00" in printed


@pytest.mark.parametrize(
    ("which", "entries", "complaint"),
    [
        ("questions", [{"question_id": 1, "image_id": 1, "question": ""}], "has question ''; expected a text"),
        ("questions", [QUESTIONS[0], QUESTIONS[0]], "has question_id 10, as an earlier one has"),
        ("questions", [{"question_id": 1.5}], "has question_id 1.5; expected a whole number"),
        ("questions", [{"question_id": 1, "question": "Who?"}], "has image_id None; expected a number or a name"),
        ("annotations", [{"question_id": 10, "answers": []}], "expected a list of them"),
        ("annotations", [{"question_id": 10, "answers": ["yes"]}], "has the answer yes; expected an object"),
        ("annotations", [], "no answers to 3 of the 3 questions, such as 10"),
    ],
)
def test_files_that_are_not_vqas_are_refused(
    which: str, entries: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(files(tmp_path, **{which: entries})) == 1
    assert complaint in capsys.readouterr().err


def test_an_input_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files(tmp_path), "--output", str(tmp_path / "questions.json")]) == 1
    assert "would overwrite an input" in capsys.readouterr().err


@pytest.mark.reference
def test_the_real_questions_are_judged(tmp_path: Path) -> None:
    if "VLKIT_REFERENCE" not in os.environ:
        pytest.skip("VLKIT_REFERENCE is not set")
    folder = Path(os.environ["VLKIT_REFERENCE"]) / "vqa"
    annotations = json.loads(gzip.decompress((folder / "vqa_annotatons_valid.gzip").read_bytes()))["annotations"]
    said = [{"question_id": each["question_id"], "answer": each["multiple_choice_answer"]} for each in annotations]
    (tmp_path / "said.json").write_text(json.dumps(said))
    words = ["judge", "vqa", "--predictions", str(tmp_path / "said.json"), "--output", str(tmp_path / "scores.json")]
    words += [
        "--questions",
        str(folder / "vqa_questions_valid.gzip"),
        "--annotations",
        str(folder / "vqa_annotatons_valid.gzip"),
    ]
    assert main(words) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["counts"]["scored"] == 8977
    assert scores["accuracy"]["mean"] > 0.85, "the answer that most people gave is nearly always right"
