"""Questions about houses: what a picture answers, choices that tell nothing by themselves, Visual7W's file."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlkit.cli import main
from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.house import Furniture
from vlkit.envs.house.questions import (
    CHOICES,
    WORDINGS,
    Arguments,
    Candidate,
    Question,
    balanced,
    candidates,
    generate,
    without_looking,
)
from vlkit.envs.house.views import Seen, View, gap_m, seen_in, views
from vlkit.tasks.vqa.data import read_visual7w


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("questions") / "vqa"
    generate(Arguments(out=out, houses=9, views=10, size=48, questions=4, train_questions=4, processes=1))
    return out


def furniture(number: int, kind: str, colour: str, x: float, z: float, on: int | None = None) -> Furniture:
    return Furniture(number, kind, colour, 0, (x, 0.0, z), 0, (0.5, 0.5, 0.5), on)


def view(*shown: tuple[Furniture, float, float, float]) -> View:
    """Things with the middle, half the width and the distance at which each is seen, all clear."""
    house = random_house("house_0001", "starter", 0)
    seen = tuple(Seen(thing, 0.05, middle - half, middle, middle + half, away) for thing, middle, half, away in shown)
    return View(house, house.rooms[0], np.zeros((8, 8, 3), np.uint8), seen)


def test_a_picture_answers_what_it_shows_and_nothing_doubtful() -> None:
    shown = view(
        (furniture(1, "sofa", "red", 0, 0), 0.5, 0.1, 3.0),
        (furniture(2, "piano", "black", -2, 0), 0.2, 0.1, 2.0),
        (furniture(3, "desk", "blue", 2, 0), 0.8, 0.1, 5.0),
        (furniture(4, "chair", "blue", 2.6, 0), 0.9, 0.05, 4.0),
        (furniture(5, "chair", "green", 4, 0), 0.97, 0.03, 6.0),
    )
    every = list(candidates(shown, 7, random.Random(0)))
    answers = {(each.kind, each.about): each for each in every}
    assert all(each.image == 7 and each.answer not in each.never | each.tempting for each in every)
    assert answers["colour", "sofa"].answer == "red"
    assert ("colour", "chair") not in answers, "there are two"
    assert answers["left", "sofa"].answer == "piano"
    assert answers["left", "sofa"].tempting == {"desk", "chair"}
    assert answers["right", "sofa"].answer == "desk"
    assert answers["right", "sofa"].never == {"chair", "sofa"}, "a chair is on the right too"
    assert answers["nearest", ""].answer == "piano"
    assert answers["count", "chairs"].answer == "two"
    assert answers["count", "blue things"].answer == "two"
    assert answers["count", "bookshelves"].answer == "none"
    assert ("thing", "blue") not in answers
    assert answers["thing", "red"].answer == "sofa"
    assert answers["where", "desk"].answer == "next to the chair"
    assert answers["exists", "piano"].answer == "yes, a black one"
    assert all(
        each.answer.startswith("no,")
        for each in every
        if each.kind == "exists" and each.about not in ("sofa", "piano", "desk")
    )
    assert not any(each.about == "chair" and each.kind == "exists" for each in every)


def test_what_is_hardly_seen_makes_no_question() -> None:
    hint = Seen(furniture(9, "sofa", "red", 0, 0), 0.001, 0.1, 0.12, 0.14, 1.0)
    house = random_house("house_0001", "starter", 0)
    clear = Seen(furniture(2, "piano", "black", -2, 0), 0.05, 0.4, 0.5, 0.6, 3.0)
    every = list(
        candidates(View(house, house.rooms[0], np.zeros((8, 8, 3), np.uint8), (clear, hint)), 0, random.Random(0))
    )
    asked = {(each.kind, each.about) for each in every}
    assert not asked & {
        ("colour", "sofa"),
        ("exists", "sofa"),
        ("count", "red things"),
        ("thing", "red"),
        ("nearest", ""),
    }
    assert ("left", "piano") not in asked
    no = next(each for each in every if each.kind == "exists" and each.answer.startswith("no"))
    assert "no, but there is a sofa" in no.never | {no.answer}


def test_where_things_are_seen_follows_the_pixels() -> None:
    house = random_house("house_0001", "starter", 0)
    instance, depth = torch.zeros(10, 20, dtype=torch.int32), torch.ones(10, 20)
    instance[2:6, 4:8] = 1
    depth[2:6, 4:8] = 2.5
    (seen,) = seen_in(house, instance, depth)
    assert (seen.share, seen.left, seen.middle, seen.right, seen.distance_m) == pytest.approx(
        (0.08, 0.2, 0.3, 0.4, 2.5)
    )


def test_views_come_again_and_are_of_the_house() -> None:
    house = random_house("house_0001", "standard", 0)
    once, again = (views(house, 4, size=32, seed=5, threads=1) for _ in range(2))
    assert len(once) == 4
    assert all((a.pixels == b.pixels).all() and a.seen == b.seen for a, b in zip(once, again, strict=True))
    assert len({each.pixels.tobytes() for each in once}) == 4


def test_the_gap_between_things_is_between_their_sides() -> None:
    assert gap_m(furniture(1, "sofa", "red", 0, 0), furniture(2, "desk", "red", 1.5, 0)) == pytest.approx(1.0)
    assert gap_m(furniture(1, "sofa", "red", 0, 0), furniture(2, "desk", "red", 0.2, 0.1)) == 0


def test_each_choice_of_a_four_is_right_once_and_wrong_for_the_other_pictures() -> None:
    rng = random.Random(1)
    names = "abcdefg"
    every = [
        Candidate(
            i, "thing", "red", rng.choice(names), frozenset(rng.sample(names, 2)), frozenset(rng.sample(names, 2))
        )
        for i in range(200)
    ]
    every = [each for each in every if each.answer not in each.never]
    questions = balanced(every, rng, most=1000)
    assert len(questions) > 60
    for first in range(0, len(questions), CHOICES):
        four = questions[first : first + CHOICES]
        assert len({frozenset((each.answer, *each.others)) for each in four}) == 1
        assert {each.answer for each in four} == {four[0].answer, *four[0].others}
        for each in four:
            assert not set(each.others) & every_of(every, each.image).never
    assert len({each.image for each in questions}) == len(questions), "each candidate is used once"


def every_of(every: list[Candidate], image: int) -> Candidate:
    return next(each for each in every if each.image == image)


def test_who_does_not_look_is_left_at_chance(folder: Path) -> None:
    document = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    pairs = [(image["split"], pair) for image in document["images"] for pair in image["qa_pairs"]]
    train = [pair for split, pair in pairs if split == "train"]
    for key in (lambda pair, choice: choice, lambda pair, choice: (pair["kind"], choice)):
        right = Counter(key(pair, pair["answer"]) for pair in train)
        shown = Counter(key(pair, choice) for pair in train for choice in (pair["answer"], *pair["multiple_choices"]))
        assert all(shown[each] == CHOICES * count for each, count in right.items())
    guessing = json.loads((folder / "questions.json").read_text(encoding="utf-8"))["guessing"]
    assert guessing["answer prior"] == guessing["question prior"] == guessing["chance"] == 0.25
    assert "25.0%" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_prior_is_found_where_there_is_one() -> None:
    biased = [Question(0, "thing", "red", "sofa", ("desk", "bed", "rug")) for _ in range(10)]
    assert without_looking(biased, biased)["answer prior"] == 1
    assert without_looking(biased, biased)["question prior"] == 1


def test_the_files_are_visual7w_and_the_same_again(folder: Path, tmp_path: Path) -> None:
    seen = {}
    for split in ("train", "val", "test"):
        for choice in read_visual7w(folder, split):
            assert len(choice.choices) == len(set(choice.choices)) == CHOICES
            assert choice.type in ("what", "how", "where", "is")
            seen[choice.image] = split
    assert set(seen.values()) == {"train", "val", "test"}
    for name in seen:
        with Image.open(folder / "images" / name) as picture:
            assert (picture.size, picture.mode) == ((48, 48), "RGB")
    document = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    pairs = [pair for image in document["images"] for pair in image["qa_pairs"]]
    assert len({pair["qa_id"] for pair in pairs}) == len(pairs)
    assert all(pair["image_id"] == image["image_id"] for image in document["images"] for pair in image["qa_pairs"])
    tested = [pair for image in document["images"] if image["split"] == "test" for pair in image["qa_pairs"]]
    asked = Counter(pair["same_as"] for pair in tested)
    assert set(asked.values()) == {2}, "each question of test in two wordings"
    assert all("{" not in pair["question"] for pair in pairs)
    again = tmp_path / "again"
    generate(Arguments(out=again, houses=9, views=10, size=48, questions=4, train_questions=4, processes=1))
    files = sorted(each.relative_to(folder) for each in folder.rglob("*") if each.is_file())
    assert files == sorted(each.relative_to(again) for each in again.rglob("*") if each.is_file())
    assert all((folder / each).read_bytes() == (again / each).read_bytes() for each in files)


def test_every_kind_of_question_has_as_many_wordings_as_may_be_asked_for() -> None:
    assert min(map(len, WORDINGS.values())) >= 3
    assert all("{" not in w.replace("{about}", "").replace("{a about}", "") for each in WORDINGS.values() for w in each)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--houses", "0"], "houses = 0"),
        (["--size", "4"], "size = 4, expected 32 to 1024"),
        (["--paraphrases", "9"], "there are 3 wordings"),
    ],
)
def test_wrong_numbers_are_told(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "house-vqa", "--out", str(tmp_path / "x"), *words]) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert main(["data", "house-vqa", "--out", str(tmp_path), "--houses", "3"]) == 1
    assert "they would be lost" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"
