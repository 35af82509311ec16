"""Dialogs about houses: what is answered is so, what hangs on the past is told, and the files are VisDial's."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkit.cli import main
from vlkit.envs.house.dialogs import OPTIONS, ROUNDS, YES, Arguments, Dialog, Pool, Talk, Turn, generate, options
from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.house import Furniture
from vlkit.envs.house.views import Seen, View


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dialogs") / "visdial"
    generate(Arguments(out=out, houses=8, views=8, size=32, processes=1))
    return out


def read(folder: Path, split: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"visdial_1.0_{split}.json").read_text(encoding="utf-8"))
    return found


def view() -> View:
    """A red sofa between a black piano and, on the right, a blue and a green chair."""
    house = random_house("house_0001", "starter", 0)
    placed = (
        ("sofa", "red", 0.0, 0.5),
        ("piano", "black", -2.0, 0.2),
        ("chair", "blue", 2.0, 0.8),
        ("chair", "green", 4.0, 0.95),
    )
    seen = tuple(
        Seen(
            Furniture(i, kind, colour, 0, (x, 0.0, 0.0), 0, (0.5, 0.5, 0.5)),
            0.05,
            middle - 0.05,
            middle,
            middle + 0.05,
            2.0 + i,
        )
        for i, (kind, colour, x, middle) in enumerate(placed, start=1)
    )
    return View(house, house.rooms[0], np.zeros((8, 8, 3), np.uint8), seen)


def test_questions_behind_the_past_are_about_what_was_spoken_of() -> None:
    shown = view()
    talk = Talk(shown, random.Random(0), it=shown.seen[1])  # the piano
    answers = {turn.question: turn for _, turn, _ in talk.behind()}
    assert answers["what color is it?"].answers[0] == "black"
    assert answers["what is to the right of it?"].answers[0] == "a sofa"
    assert answers["what is to the right of it?"].partly == ("a chair",)
    assert answers["what is to the left of it?"].answers[0] == "nothing"
    assert all(turn.needs_history for turn in answers.values())
    talk = Talk(shown, random.Random(0), they=shown.seen[2:])
    answers = {turn.question: turn for _, turn, _ in talk.behind()}
    assert answers["are they the same color?"].answers[0] == "no"
    assert answers["what color is the left one?"].answers[0] == "blue"
    assert "what color are they?" not in answers
    talk = Talk(shown, random.Random(0), beside=("left", shown.seen[0]), other=shown.seen[3])
    answers = {turn.question: turn for _, turn, _ in talk.behind()}
    assert "and to the right?" not in answers, "two chairs are there"
    assert answers["and the other one?"].answers[0] == "green"


def test_questions_that_need_no_past_have_none() -> None:
    turns = {turn.question: turn for _, turn, _ in Talk(view(), random.Random(0)).fresh()}
    assert turns["how many chairs are there?"].answers[0] == "two"
    assert turns["what color is the sofa?"].answers[0] == "red"
    assert "what color is the chair?" not in turns
    assert not any(turn.needs_history for turn in turns.values())
    assert not list(Talk(view(), random.Random(0)).behind()), "nothing was said yet"


def with_thing(shown: View, kind: str, middle: float, half: float, on: int | None = None) -> View:
    """The same view with one more thing."""
    furniture = Furniture(len(shown.seen) + 1, kind, "white", 0, (6.0, 0.0, 0.0), 0, (0.5, 0.5, 0.5), on=on)
    return replace(shown, seen=(*shown.seen, Seen(furniture, 0.05, middle - half, middle, middle + half, 9.0)))


@pytest.mark.parametrize(("middle", "half"), [(0.18, 0.02), (0.22, 0.15)])
def test_what_lies_a_little_to_the_side_is_not_nothing(middle: float, half: float) -> None:
    shown = with_thing(view(), "rug", middle, half)
    talk = Talk(shown, random.Random(0), it=shown.seen[1])  # the piano, whose middle is 0.2
    assert "what is to the left of it?" not in {turn.question for _, turn, _ in talk.behind()}


def test_whether_something_is_on_it_is_asked_of_both() -> None:
    found = {}
    for on in (True, False):
        shown = with_thing(view(), "desk", 0.35, 0.05)
        if on:
            shown = with_thing(shown, "globe", 0.36, 0.02, on=shown.seen[-1].thing.id)
        desk = next(each for each in shown.seen if each.thing.kind == "desk")
        talk = Talk(shown, random.Random(0), it=desk)
        turns = {turn.question: turn.answers[0] for _, turn, _ in talk.behind()}
        found[on] = turns["is there anything on it?"], turns["what is on it?"]
        talk.asked.add(f"on {desk.thing.id}")
        assert "is there anything on it?" not in {turn.question for _, turn, _ in talk.behind()}, "that is known"
    assert found == {True: ("yes", "a globe"), False: ("no", "nothing")}


def test_what_the_caption_tells_is_not_asked_for(folder: Path) -> None:
    answers: Counter[bool] = Counter()
    for split in ("train", "val", "test"):
        data = read(folder, split)["data"]
        for dialog in data["dialogs"]:
            for turn in dialog["dialog"]:
                question = data["questions"][turn["question"]]
                if turn["kind"] != "exists":
                    continue
                thing = question.removeprefix("is there ")
                assert not re.search(rf"\b{thing}\b(?! )|\b{thing} (and|in)\b", dialog["caption"]), question
                answers[data["answers"][turn["answer"]] in YES] += 1
    assert 0.3 < answers[True] / answers.total() < 0.7


def test_nothing_is_asked_twice() -> None:
    for seed in range(5):
        talk = Talk(view(), random.Random(seed))
        turns = talk.turns()
        assert len(talk.asked) == len(turns)


def test_options_hold_every_way_to_say_the_answer() -> None:
    turns = tuple(Turn(f"{i}?", (f"answer {i}", f"other {i}"), "kind", False) for i in range(120))
    pool = Pool.of([Dialog("x", "y", turns)])
    turn = Turn("?", ("answer 5", "other 5", "new"), "kind", True, ("answer 7",))
    offered = options(turn, pool, random.Random(3))
    assert len(set(offered.options)) == OPTIONS
    right = {each for each, how in zip(offered.options, offered.relevance, strict=True) if how == 1}
    assert right == {"answer 5", "other 5", "new"}
    assert offered.options[offered.right] in right
    assert offered.relevance[offered.options.index("answer 7")] == 0.5


def test_the_files_are_visdials(folder: Path) -> None:
    known: set[int] = set()
    for split in ("train", "val", "test"):
        document = read(folder, split)
        assert (document["version"], document["split"]) == ("1.0", split)
        data = document["data"]
        for dialog in data["dialogs"]:
            assert dialog["image_id"] not in known
            known.add(dialog["image_id"])
            with Image.open(folder / "images" / split / f"{dialog['image_id']:012d}.png") as picture:
                assert picture.size == (32, 32)
            assert len(dialog["dialog"]) == ROUNDS
            for turn in dialog["dialog"]:
                assert 0 <= turn["question"] < len(data["questions"])
                assert len(set(turn["answer_options"])) == OPTIONS
                assert turn["answer_options"][turn["gt_index"]] == turn["answer"]
        rounds = [turn for dialog in data["dialogs"] for turn in dialog["dialog"]]
        assert 0.3 < np.mean([turn["needs_history"] for turn in rounds]) < 0.7
        assert not any(dialog["dialog"][0]["needs_history"] for dialog in data["dialogs"])
        dense = json.loads((folder / f"visdial_1.0_{split}_dense_annotations.json").read_text(encoding="utf-8"))
        by_image = {dialog["image_id"]: dialog for dialog in data["dialogs"]}
        for entry in dense:
            relevance = entry["relevance" if split == "train" else "gt_relevance"]
            turn = by_image[entry["image_id"]]["dialog"][entry["round_id"] - 1]
            assert len(relevance) == OPTIONS
            assert relevance[turn["gt_index"]] == 1
    assert json.loads((folder / "dialogs.json").read_text(encoding="utf-8"))["prior"] < 0.25


def test_the_same_seed_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    generate(Arguments(out=again, houses=8, views=8, size=32, processes=1))
    files = sorted(each.relative_to(folder) for each in folder.rglob("*") if each.is_file())
    assert files == sorted(each.relative_to(again) for each in again.rglob("*") if each.is_file())
    assert all((folder / each).read_bytes() == (again / each).read_bytes() for each in files)


def test_too_few_dialogs_for_a_hundred_options_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--houses", "1", "--views", "1", "--size", "32", "--processes", "1"]
    assert main(["data", "house-dialogs", "--out", str(tmp_path / "x"), *words]) == 1
    assert "ask for more houses or more views" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x").exists()
