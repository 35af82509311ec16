"""`vlkit judge choices`: POPE, SugarCrepe and sets of one's own, scored strictly."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlkit.cli import main
from vlkit.errors import UserError
from vlkit.tasks.vqa.data import read_choices

OWN: list[dict[str, Any]] = [
    {
        "id": "a",
        "question": "What colour is it?",
        "choices": ["red", "blue", "green"],
        "answer": "blue",
        "type": "colour",
    },
    {"id": "b", "question": "How many?", "choices": ["1", "2"], "answer": 1, "type": "count"},
]
POPE = "\n".join(
    json.dumps({"question_id": i, "image": "1.jpg", "text": "Is there a dog?", "label": label})
    for i, label in enumerate(["yes", "no", "yes", "no"], start=1)
)
CREPE = json.dumps(
    {str(i): {"filename": "1.jpg", "caption": "a red bus", "negative_caption": "a blue bus"} for i in range(3)}
)


def judged(folder: Path, dataset: str, said: Any, *words: str, name: str = "set.json") -> int:
    (folder / name).write_text(dataset)
    (folder / "said.json").write_text(said if isinstance(said, str) else json.dumps(said))
    command = ["judge", "choices", "--predictions", str(folder / "said.json"), "--dataset", str(folder / name)]
    return main([*command, "--output", str(folder / "scores.json"), *words])


def scores(folder: Path) -> Any:
    return json.loads((folder / "scores.json").read_text())


def test_a_set_of_ones_own_takes_texts_and_places(tmp_path: Path) -> None:
    assert judged(tmp_path, json.dumps(OWN), [{"id": "a", "answer": "Blue"}, {"id": "b", "answer": 0}]) == 0
    found = scores(tmp_path)
    assert found["accuracy"]["mean"] == 0.5
    assert found["chance"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["by_type"]["colour"] == {"mean": 1.0, "questions": 1}
    assert found["yes_no"] == {}


@pytest.mark.parametrize("cell", ["red | blue|green", '"[""red"", ""blue"", ""green""]"'])
def test_a_table_is_read(cell: str, tmp_path: Path) -> None:
    table = f"image,question,choices,answer\n1.jpg,What colour?,{cell},blue\n2.jpg,What colour?,red|blue,0\n"
    assert judged(tmp_path, table, [{"id": 0, "answer": "blue"}, {"id": 1, "answer": "blue"}], name="set.csv") == 0
    assert scores(tmp_path)["accuracy"]["mean"] == 0.5


def test_an_empty_cell_is_no_question(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("image,question,choices,answer\n1.jpg,What?,red|blue,0\n2.jpg,,red|blue,0\n")
    with pytest.raises(UserError, match="line 3 has question ''; expected a text"):
        read_choices(tmp_path / "set.csv")


def test_who_always_says_yes_gets_half_of_pope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "\n".join(json.dumps({"question_id": i, "answer": "Yes"}) for i in range(1, 5))
    assert judged(tmp_path, POPE, said) == 0
    found = scores(tmp_path)
    assert found["accuracy"]["mean"] == found["chance"] == 0.5
    assert found["yes_no"] == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "said_yes": 1.0})
    assert "said yes 100.00 %" in capsys.readouterr().out


def test_captions_are_chosen_from_pairs(tmp_path: Path) -> None:
    said = [{"id": "0", "answer": 0}, {"id": "1", "answer": 1}, {"id": "2", "answer": "a red bus"}]
    assert judged(tmp_path, CREPE, said) == 0
    assert scores(tmp_path)["accuracy"]["mean"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([{"id": "a", "answer": "blue"}], "1 question has no answer"),
        ([{"id": "a", "answer": 3}, {"id": "b", "answer": 0}], "1 item has no usable answer"),
        ([{"id": "a", "answer": "pink"}, {"id": "b", "answer": 0}], "1 answer is none of its question's choices"),
        ([{"id": "c", "answer": "blue"}], "1 answer has an id that is not among the questions"),
        ([{"answer": "blue"}], "1 item has no usable id"),
        ([[]], "1 item is no object"),
    ],
)
def test_what_is_wrong_with_a_predictions_file_is_told(
    said: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(tmp_path, json.dumps(OWN), said) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"choices": ["red"]}, "has choices ['red']; expected two texts or more"),
        ({"choices": None}, "has choices None; expected two texts or more"),
        ({"question": " "}, "entry 0 has question ' '; expected a text"),
        ({"question": None}, "entry 0 has question None; expected a text"),
        ({"answer": "pink"}, "has answer pink, which is none of its choices: red | blue | green"),
        ({"answer": 3}, "has answer 3, which is none of its choices"),
        ({"id": "b"}, "has two questions with the id b"),
    ],
)
def test_a_set_that_is_none_is_refused(entry: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(json.dumps([OWN[0] | entry, OWN[1]]))
    with pytest.raises(UserError) as caught:
        read_choices(tmp_path / "set.json")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "complaint"),
    [
        ("[]", "set.json", "holds no question"),
        ("3", "set.json", "expected a list of questions"),
        ("[3]", "set.json", "entry 0 is 3; expected an object"),
        ("question,choices,answer\nWhat?,a|b\n", "set.csv", "line 2 has not as many cells"),
        ('{"id": 1}\n{"id": ', "set.jsonl", "line 2"),
    ],
)
def test_a_file_that_is_no_set_is_refused(text: str, name: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_choices(tmp_path / name)
    assert complaint in str(caught.value)
