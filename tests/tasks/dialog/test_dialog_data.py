"""Files of dialogs are read as they are published, and whatever is wrong with one is named."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tasks.dialog.conftest import visdial
from vlkit.errors import UserError
from vlkit.tasks.dialog.data import Dialogs, read_dense, read_dialogs, read_visdial, set_aside, with_options


def written(folder: Path, document: Any, name: str = "visdial_1.0_val.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(document))
    return file


def test_a_split_comes_with_its_pictures_and_relevance(small_visdial: Path) -> None:
    found = read_dialogs(small_visdial, None, "val")
    assert (len(found.dialogs), found.rounds) == (8, 80)
    first = found.dialogs[0]
    assert (first.id, first.image, first.caption) == ("25", "25", "a blue picture")
    assert (first.turns[1].question, first.turns[1].answer, first.turns[1].needs_history) == ("and now", "blue", True)
    assert found.answers[first.options[0, first.right[0]]] == "blue"
    assert found.relevance["25", 0][first.right[0]] == 1, "round_id counts from 1"
    assert found.relevance["26", 1][found.dialogs[1].right[1]] == 1
    assert len(found.relevance) == 8
    assert len(read_dialogs(small_visdial, None, "train").relevance) == 24, "`relevance` in the files of train"


def test_a_test_split_keeps_its_last_answer_and_may_be_short(tmp_path: Path) -> None:
    document = visdial("test2018", 2)
    for dialog in document["data"]["dialogs"]:
        del dialog["dialog"][4:]
        for turn in dialog["dialog"][:-1]:
            del turn["answer_options"], turn["gt_index"]
        for name in ("answer", "gt_index"):
            del dialog["dialog"][-1][name]
    found = read_visdial(written(tmp_path, document))
    assert [len(dialog.turns) for dialog in found.dialogs] == [4, 4]
    assert found.dialogs[0].turns[3].answer is None
    assert (found.dialogs[0].options[:3] == -1).all()
    assert (found.dialogs[0].options[3] >= 0).all()
    assert found.dialogs[0].right.tolist() == [-1] * 4


def broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = visdial("val2018", 2)
    change(document)
    return document


def turn(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["data"]["dialogs"][1]["dialog"][2]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["data"]["dialogs"][1]["dialog"].__delitem__(slice(3, None)), r"has 3 rounds; VisDial's have 10"),
        (lambda d: d["data"]["dialogs"][1]["dialog"].extend([turn(d)] * 2), r"has 12 rounds"),
        (lambda d: turn(d)["answer_options"].pop(), r"\(image_id 2\), round 3 has 99 answer_options"),
        (lambda d: turn(d).update(gt_index=100), "has gt_index 100; expected 0 to 99"),
        (lambda d: turn(d).update(gt_index=(turn(d)["gt_index"] + 1) % 100), "one of them is wrong"),
        (lambda d: turn(d).update(question=10), "has question 10; expected 0 to 9"),
        (lambda d: turn(d)["answer_options"].__setitem__(4, 120), "has the option 120; expected 0 to 119"),
        (lambda d: turn(d)["answer_options"].__setitem__(4, True), "has the option True"),
        (lambda d: d["data"]["dialogs"][1].update(image_id=1), "has image_id 1, as an earlier one has"),
        (lambda d: d["data"]["dialogs"][1].update(image_id="1"), "image_id 1; expected a whole number"),
        (lambda d: d["data"]["dialogs"][1].pop("caption"), "has caption None; expected a text"),
        (lambda d: d["data"].pop("answers"), r"data.answers is None; expected a list of texts"),
        (lambda d: d.pop("data"), "has no data; expected VisDial's"),
        (lambda d: d["data"].update(dialogs=[]), r"data.dialogs is \[\]"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_visdial(written(tmp_path, broken(change)))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 9, "round_id": 1}, "of which .* has no dialog"),
        ({"image_id": 1, "round_id": 0}, "rounds are counted from 1 to 10"),
        ({"image_id": 1, "round_id": 11}, "round_id 11"),
        ({"image_id": 1, "round_id": 2, "gt_relevance": [0.5] * 99}, "expected 100 numbers"),
        ({"image_id": 1, "round_id": 2, "gt_relevance": [1.5] * 100}, "expected 100 numbers from 0 to 1"),
        ({"image_id": 1, "round_id": 1}, "tells round 1 of image_id 1 again"),
    ],
)
def test_what_is_wrong_with_relevance_is_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    dialogs = read_visdial(written(tmp_path, visdial("val", 2)))
    good = [0.0] * 99 + [1.0]
    entries = [{"image_id": 1, "round_id": 1, "gt_relevance": good}, {"gt_relevance": good} | entry]
    with pytest.raises(UserError, match=message):
        read_dense(written(tmp_path, entries, "dense.json"), dialogs)


def test_games_of_guesswhat_are_read(tmp_path: Path) -> None:
    game = {
        "id": 7,
        "image": {"id": 5, "file_name": "COCO_train2014_000000000005.jpg", "width": 300, "height": 200},
        "objects": [{"id": 1, "bbox": [200, 150, 90, 40], "category": "dog"}, {"id": 2, "bbox": [0, 0, 9, 9]}],
        "object_id": 1,
        "qas": [{"question": "is it alive?", "answer": "Yes"}, {"question": "is it red?", "answer": "N/A"}],
        "status": "success",
    }
    with gzip.open(tmp_path / "guesswhat.train.jsonl.gz", "wt") as file:
        file.write(json.dumps(game) + "\n" + json.dumps(game | {"id": 8, "qas": []}) + "\n")
    found = read_dialogs(tmp_path, None, "train")
    assert len(found.dialogs) == 1, "nobody asked anything in the second"
    assert found.dialogs[0].caption == "dog at the bottom right"
    assert found.dialogs[0].image == "COCO_train2014_000000000005.jpg"
    assert [found.answers[i] for i in found.dialogs[0].right] == ["yes", "n/a"]
    file_ = tmp_path / "guesswhat.valid.jsonl"
    file_.write_text(json.dumps(game | {"object_id": 3}) + "\n")
    with pytest.raises(UserError, match="object_id 3, which is 0 of its objects"):
        read_dialogs(file_, None, "valid")
    file_.write_text(json.dumps(game | {"qas": [{"question": "is it?", "answer": "perhaps"}]}) + "\n")
    with pytest.raises(UserError, match="answered perhaps; expected yes, no or n/a"):
        read_dialogs(file_, None, "valid")


OWN = [
    {"image": "a.png", "turns": [{"question": "what?", "answer": "a cat", "options": ["a dog", "a cat"]}]},
    {"image": "b.png", "caption": "a room", "turns": [{"question": "who?", "answer": "nobody"}] * 12},
]


def test_dialogs_of_ones_own_may_have_any_length_and_no_options(tmp_path: Path) -> None:
    found = read_dialogs(written(tmp_path, OWN, "train.json"), None, "train")
    assert [len(dialog.turns) for dialog in found.dialogs] == [1, 12]
    pool = [f"answer {i}" for i in range(200)]
    offered: Dialogs = with_options(found, pool)
    second = offered.dialogs[1]
    assert second.options.shape == (12, 100)
    assert {offered.answers[second.options[i, second.right[i]]] for i in range(12)} == {"nobody"}
    assert len({offered.answers[i] for i in second.options[0].tolist()}) == 100
    again = with_options(found, pool).dialogs[1]
    np.testing.assert_array_equal(again.options, second.options)
    assert offered.dialogs[0].options.tolist() == found.dialogs[0].options.tolist(), "those with options keep them"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "", "turns": [{"question": "x"}]}, "expected the name of a picture"),
        ({"image": "a", "turns": []}, "is no dialog"),
        ({"image": "a", "turns": [{"question": " "}]}, "turn 1 has question"),
        ({"image": "a", "turns": [{"question": "x", "answer": "y", "options": ["a", "b"]}]}, "none of its 2 options"),
        ({"image": "a", "turns": [{"question": "x", "options": ["a", "a"]}]}, "two or more different ones"),
    ],
)
def test_what_is_wrong_with_ones_own_is_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_dialogs(written(tmp_path, [*OWN, entry], "train.json"), None, "train")


def test_a_file_is_the_split_that_its_name_says(small_visdial: Path, tmp_path: Path) -> None:
    file = small_visdial / "visdial_1.0_train.json"
    assert len(read_dialogs(file, None, "train").dialogs) == 24
    with pytest.raises(UserError, match="does not say that it holds 'test'"):
        read_dialogs(file, None, "test")
    assert len(read_dialogs(file, None, "test", whatever=True).dialogs) == 24
    document = visdial("val", 2)
    document["data"]["answers"][7] = "turns"
    assert len(read_dialogs(written(tmp_path, document), None, "val").dialogs) == 2
    (tmp_path / "visdial_1.0_word_counts_val.json").write_text("{}")
    (tmp_path / "densenet_val.h5").write_bytes(b"\x89HDF")
    assert len(read_dialogs(tmp_path, None, "val").dialogs) == 2


def test_a_split_that_is_not_there_is_told(small_visdial: Path) -> None:
    with pytest.raises(UserError, match=r"has no file of dialogs with 'nowhere' in the name"):
        read_dialogs(small_visdial, None, "nowhere")
    with pytest.raises(UserError, match="name the folder of the dialogs"):
        read_dialogs(small_visdial / "x", None, "val")


def test_setting_aside_parts_the_pictures(small_visdial: Path) -> None:
    train = read_dialogs(small_visdial, None, "train")
    kept, aside = set_aside(train, aside=False), set_aside(train, aside=True)
    assert len(kept.dialogs) + len(aside.dialogs) == 24
    assert not {each.image for each in kept.dialogs} & {each.image for each in aside.dialogs}
    assert {key[0] for key in aside.relevance} == {each.id for each in aside.dialogs}
