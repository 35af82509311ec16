"""`vlkit data houses`: the same files for the same seed, in VLN-CE's formats, and nothing lost."""

import filecmp
import gzip
import json
import math
from pathlib import Path

import pytest

from vlkit.cli import main
from vlkit.envs.episodes import episode_file, ground_truth_file, read_episodes, read_ground_truth
from vlkit.envs.house import benchmark
from vlkit.envs.house.benchmark import MARKER, OWN, RULES, Arguments, is_there
from vlkit.envs.house.house import House
from vlkit.envs.simulator.load import load_scene
from vlkit.errors import UserError
from vlkit.files import check_replaceable

WORDS = ["--seed", "4", "--houses", "3", "--unseen", "1", "--walks", "10", "--processes", "1"]
SPLITS = ("train", "val_seen", "val_unseen", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "houses"
    assert main(["data", "houses", "--out", str(folder), *WORDS]) == 0
    return folder


def files(folder: Path) -> list[str]:
    return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())


def test_the_same_seed_gives_the_same_files(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = tmp_path / "again"
    monkeypatch.setattr(benchmark, "FEWEST_FOR_PROCESSES", 2)  # in processes this time
    assert main(["data", "houses", "--out", str(again), *WORDS[:-1], "2"]) == 0
    assert files(again) == files(data)
    same, different, odd = filecmp.cmpfiles(data, again, files(data), shallow=False)
    assert (different, odd) == ([], [])
    assert len(same) == 5 * 2 + 2 * len(SPLITS) + 2


def test_every_split_has_its_houses(data: Path) -> None:
    scenes = {split: {each.scene for each in read_episodes(episode_file(data, split)).episodes} for split in SPLITS}
    assert scenes["train"] == scenes["val_seen"]
    assert not scenes["train"] & scenes["val_unseen"]
    assert not scenes["test"] & (scenes["train"] | scenes["val_unseen"])
    for scene in set().union(*scenes.values()):
        house = House.from_json((data / "houses" / f"{Path(scene).stem}.json").read_text())
        loaded = load_scene(data / "scenes" / scene)
        assert [room.name for room in loaded.rooms] == [room.kind for room in house.rooms]
        assert len(loaded.objects) == len(house.furniture)


def test_episodes_are_what_their_level_says(data: Path) -> None:
    levels = set()
    for split in SPLITS:
        truth_file = ground_truth_file(data, split)
        assert truth_file is not None
        truth = read_ground_truth(truth_file)
        for episode in read_episodes(episode_file(data, split)).episodes:
            assert episode.level is not None
            levels.add(episode.level)
            rules = RULES[episode.level]  # type: ignore[index]
            demonstration = truth[episode.id]
            assert episode.radius == rules.radius_m
            assert rules.metres[0] <= episode.geodesic_distance <= rules.metres[1]
            assert rules.openings[0] <= episode.info["doors"] <= rules.openings[1]
            assert rules.actions[0] <= len(demonstration.actions) <= rules.actions[1]
            assert demonstration.actions[-1] == 0
            assert 0 not in demonstration.actions[:-1]
            assert len(demonstration.locations) == demonstration.forward_steps + 1
            assert math.dist(demonstration.locations[-1], episode.goal) < episode.radius
    assert levels == {"starter", "standard", "long"}


def test_a_trajectory_has_three_instructions_in_episodes_of_their_own(data: Path) -> None:
    episodes = read_episodes(episode_file(data, "train")).episodes
    by: dict[str, list[str]] = {}
    for episode in episodes:
        by.setdefault(episode.trajectory_id, []).append(episode.instruction)
    assert len(by) == 30
    assert all(len(texts) == len(set(texts)) == 3 for texts in by.values())


def test_tokens_are_places_in_the_files_vocabulary(data: Path) -> None:
    with gzip.open(episode_file(data, "train")) as file:
        content = json.load(file)
    words = content["instruction_vocab"]["word_list"]
    episode = content["episodes"][0]
    assert len(episode["instruction"]["instruction_tokens"]) == 200
    told = [words[token] for token in episode["instruction"]["instruction_tokens"] if token]
    assert told[0] in episode["instruction"]["instruction_text"].lower()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["data", "houses", "--out", str(tmp_path), *WORDS]) == 1
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(UserError, match="is a file; name a folder"):
        check_replaceable(tmp_path / "thesis.txt", OWN, MARKER, "houses")


def test_it_is_known_whether_a_folder_holds_what_is_wanted(data: Path) -> None:
    wanted = Arguments(out=data, seed=4, houses=3, unseen=1, walks=10)
    assert is_there(wanted)
    assert not is_there(Arguments(out=data, seed=5, houses=3, unseen=1, walks=10))
    assert not is_there(Arguments(out=data.parent, seed=4))
    assert json.loads((data / MARKER).read_text())["followed"] >= 0.97


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--houses", "0"], "houses = 0, expected at least 1"),
        (["--houses", "9999"], "at most 9999 have a name"),
        (["--spelling-noise", "1"], "spelling_noise = 1.0"),
        (["--levels", "starter", "starter"], "expected one or more different ones"),
        (["--levels", "hard"], "hard"),
    ],
)
def test_wrong_numbers_are_told(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "houses", "--out", str(tmp_path / "new"), *words]) in (1, 2)
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
