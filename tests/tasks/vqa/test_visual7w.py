"""`vlkit judge visual7w`: the toolkit's files, telling and pointing, scored strictly."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlkit.cli import main
from vlkit.tasks.vqa.data import read_visual7w


def pair(number: int, **changes: Any) -> dict[str, Any]:
    usual = {
        "qa_id": number,
        "question": "What is red?",
        "answer": "The bus.",
        "multiple_choices": ["A car.", "The sign.", "A hat."],
        "type": "what",
    }
    return usual | changes


def dataset(folder: Path, *pairs: Any) -> Path:
    images = [
        {"filename": "1.jpg", "split": "test", "qa_pairs": list(pairs) or [pair(1), pair(2, type="who"), pair(3)]},
        {"filename": "2.jpg", "split": "train", "qa_pairs": [pair(9)]},
    ]
    file = folder / "dataset.json"
    file.write_text(json.dumps({"dataset": "Visual7W", "images": images}))
    return file


def judged(folder: Path, said: Any, *words: str, pairs: tuple[Any, ...] = ()) -> int:
    (folder / "said.json").write_text(json.dumps(said))
    file = dataset(folder, *pairs)
    output = folder / "scores.json"
    command = ["judge", "visual7w", "--predictions", str(folder / "said.json"), "--dataset", str(file)]
    return main([*command, "--split", "test", "--output", str(output), *words])


def answer(number: int, *said: Any) -> dict[str, Any]:
    return {"qa_id": number, "question": "What is red?", "candidates": [{"answer": each} for each in said]}


RIGHT, WRONG = "the BUS.", "A car."


def test_a_choice_is_right_letter_for_letter_but_for_large_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, [answer(1, RIGHT), answer(2, WRONG), answer(3, RIGHT)]) == 0
    printed = capsys.readouterr().out
    assert "66.67" in printed
    assert "25.00 %" in printed, "chance stands beside it"
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert scores["by_type"] == {"what": {"mean": 1.0, "questions": 2}, "who": {"mean": 0.0, "questions": 1}}
    assert [row["right"] for row in scores["per_question"]] == [True, False, True]


def test_boxes_are_chosen_by_their_ids(tmp_path: Path) -> None:
    pairs = (pair(1, answer=71, multiple_choices=[72, 73, 74], type="which"),)
    assert judged(tmp_path, [answer(1, 71)], pairs=pairs) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["accuracy"]["mean"] == 1


@pytest.mark.parametrize("others", [["A car.", "A hat."], ["a", "b", "c", "d"], [], None])
def test_visual7w_has_four_choices(tmp_path: Path, others: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(tmp_path, [answer(1, RIGHT)], pairs=(pair(1, multiple_choices=others),)) == 1
    assert "expected 3 wrong answers" in capsys.readouterr().err


def test_free_answers_are_right_where_one_of_the_first_is(tmp_path: Path) -> None:
    said = [answer(1, "bus", "the bus."), answer(2, "a", "b", "The bus."), answer(3, "x")]
    assert judged(tmp_path, said, "--open", "2") == 0
    assert json.loads((tmp_path / "scores.json").read_text())["accuracy"]["mean"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([answer(1, RIGHT)], "2 questions have no answer"),
        ([answer(1, "bus"), answer(2, RIGHT), answer(3, RIGHT)], "1 answer is none of its question's choices"),
        ([{"qa_id": 1}], "1 item has no usable answer"),
        ([{"qa_id": 1, "candidates": 5}], "1 item has no usable answer"),
        ([{"qa_id": 1, "candidates": ["the bus."]}], "1 item has no usable answer"),
        ([{"qa_id": None, "candidates": [{"answer": RIGHT}]}], "1 item has no usable id"),
        ([answer(9, RIGHT)], "1 answer has an id that is not among the questions"),
        ([answer(1, RIGHT), answer(1, WRONG)], "1 id is used more than once"),
        ([3], "1 item is no object"),
    ],
)
def test_what_is_wrong_with_a_predictions_file_is_told(
    said: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, said) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists()


def test_what_is_none_of_the_choices_counts_as_wrong_where_that_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, [answer(1, "bus"), answer(2, RIGHT)], "--allow-strange", "--allow-missing") == 0
    printed = capsys.readouterr().out
    assert "1 answers that are none of their questions' choices" in printed
    assert "PARTIAL: no answer to 1 of 3 questions" in printed
    assert "50.00" in printed


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        ((pair(1, question=" "),), "has question ' '; expected a text"),
        ((pair(1, multiple_choices=[]),), "has multiple_choices []; expected 3 wrong answers"),
        ((pair(1, answer=None),), "has the answer None; expected a text, or a box id"),
        ((pair(1), pair(1)), "has qa_id 1, as an earlier one has"),
        (("pair",), "is pair; expected an object"),
    ],
)
def test_a_dataset_that_is_none_is_refused(
    pairs: tuple[Any, ...], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, [], pairs=pairs) == 1
    assert complaint in capsys.readouterr().err


def test_a_folder_is_read_as_its_dataset_and_an_unknown_split_is_told(tmp_path: Path) -> None:
    dataset(tmp_path)
    first = read_visual7w(tmp_path, "test")[0]
    assert (first.image, first.answer, len(first.choices)) == ("1.jpg", "The bus.", 4)
    with pytest.raises(ValueError, match="no questions in the split 'val'; it has test, train"):
        read_visual7w(tmp_path, "val")
