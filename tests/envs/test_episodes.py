import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vlkit.envs.episodes import (
    NOWHERE,
    Episode,
    EpisodeFile,
    GroundTruth,
    episode_file,
    ground_truth_file,
    read_episodes,
    read_ground_truth,
    splits,
    word_list,
    write_episodes,
    write_ground_truth,
)
from vlkit.errors import UserError

WORDS = ("<pad>", "<unk>", "go", "to", "the", "bed")
EPISODE = Episode(
    id="1",
    trajectory_id="37",
    scene="house_1/house_1.glb",
    start_position=(1.0, 0.0, -2.5),
    start_rotation=(0.0, math.sin(0.5), 0.0, math.cos(0.5)),
    goal=(3.0, 0.0, -2.5),
    radius=1.5,
    geodesic_distance=2.25,
    instruction="Go to the bed.",
    tokens=(2, 3, 4, 5),
    reference_path=((1.0, 0.0, -2.5), (3.0, 0.0, -2.5)),
    level="starter",
    room=2,
    info={"rooms": 2, "detail": "fine", "doors": [4]},
)
TRUTH = GroundTruth(locations=((1.0, 0.0, -2.5), (1.25, 0.0, -2.5)), actions=(3, 1, 0), forward_steps=1)


def content(file: Path) -> Any:
    return json.loads(gzip.decompress(file.read_bytes()))


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A file of one episode to whose entry something was done."""
    write_episodes(tmp_path / "good.json.gz", [EPISODE], WORDS)
    values = content(tmp_path / "good.json.gz")
    change(values["episodes"][0])
    (tmp_path / "bad.json").write_text(json.dumps(values))
    return tmp_path / "bad.json"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    others = [replace(EPISODE, id="2", tokens=(3,), level=None, room=None, info={}), replace(EPISODE, id="b", info={})]
    write_episodes(tmp_path / "a.json.gz", [EPISODE, *others], WORDS)
    assert read_episodes(tmp_path / "a.json.gz") == EpisodeFile((EPISODE, *others), WORDS)
    write_ground_truth(tmp_path / "a_gt.json.gz", {"1": TRUTH})
    assert read_ground_truth(tmp_path / "a_gt.json.gz") == {"1": TRUTH}


def test_an_entry_has_the_published_keys_and_its_tokens_are_padded(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a.json.gz", [EPISODE], WORDS)
    written = content(tmp_path / "a.json.gz")
    entry = written["episodes"][0]
    assert list(entry) == [
        *("episode_id", "trajectory_id", "scene_id", "start_position", "start_rotation", "info", "goals"),
        *("instruction", "reference_path"),
    ]
    assert (entry["episode_id"], entry["trajectory_id"]) == (1, 37)
    assert entry["goals"] == [{"position": [3.0, 0.0, -2.5], "radius": 1.5}]
    assert entry["info"] == {
        "geodesic_distance": 2.25,
        "level": "starter",
        "goal_room": 2,
        "rooms": 2,
        "detail": "fine",
        "doors": [4],
    }
    assert entry["instruction"]["instruction_tokens"] == [2, 3, 4, 5] + [0] * 196
    vocabulary = written["instruction_vocab"]
    assert vocabulary["word_list"] == vocabulary["itos"] == list(WORDS)
    assert vocabulary["word2idx_dict"] == vocabulary["stoi"] == {word: i for i, word in enumerate(WORDS)}
    assert (vocabulary["num_vocab"], vocabulary["UNK_INDEX"], vocabulary["PAD_INDEX"]) == (6, 1, 0)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_episodes(tmp_path / f"{name}.json.gz", [EPISODE], WORDS)
        write_ground_truth(tmp_path / f"{name}_gt.json.gz", {"1": TRUTH})
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert (tmp_path / "a_gt.json.gz").read_bytes() == (tmp_path / "b_gt.json.gz").read_bytes()


def test_yaw_is_to_the_left_of_ahead() -> None:
    assert EPISODE.yaw == pytest.approx(1.0)
    assert replace(EPISODE, start_rotation=(0.0, 0.0, 0.0, 1.0)).yaw == 0.0
    # As published files have it, with both signs turned round: it is the same rotation.
    assert replace(EPISODE, start_rotation=(0.0, -math.sin(0.5), 0.0, -math.cos(0.5))).yaw == pytest.approx(1.0)
    assert replace(EPISODE, start_rotation=(0.0, 1.0, 0.0, 0.0)).yaw == pytest.approx(math.pi)


def test_keys_of_other_releases_are_kept_where_they_stood(tmp_path: Path) -> None:
    def other(entry: dict[str, Any]) -> None:
        entry["episode_id"] = "7"
        entry["start_room"] = None
        entry["instruction"] |= {"language": "en-US", "instruction_id": "0"}

    file = changed(tmp_path, other)
    episode = read_episodes(file).episodes[0]
    assert (episode.id, episode.trajectory_id) == ("7", "37")
    write_episodes(tmp_path / "again.json", [episode], WORDS)
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(file.read_text())


def test_a_test_split_may_keep_its_goals_to_itself(tmp_path: Path) -> None:
    def hidden(entry: dict[str, Any]) -> None:
        del entry["goals"], entry["info"], entry["reference_path"], entry["instruction"]["instruction_tokens"]

    file = changed(tmp_path, hidden)
    episode = read_episodes(file).episodes[0]
    assert episode.goal is NOWHERE
    assert not episode.goal_known
    assert EPISODE.goal_known
    assert math.isnan(episode.geodesic_distance)
    assert (episode.tokens, episode.reference_path) == ((), ())
    write_episodes(tmp_path / "again.json", [episode])
    again = json.loads((tmp_path / "again.json").read_text())
    assert "goals" not in again["episodes"][0]
    assert "instruction_tokens" not in again["episodes"][0]["instruction"]
    assert read_episodes(tmp_path / "again.json").episodes == (episode,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("episode_id"), r"bad.json, episode 0 of the list: 'episode_id' is missing; expected a whole"),
        (lambda e: e.update(episode_id=1.5), "'episode_id' is 1.5"),
        (lambda e: e.update(trajectory_id=[]), r"episode 1: 'trajectory_id' is \[\]"),
        (lambda e: e.update(scene_id=""), "episode 1: 'scene_id' is ''; expected text"),
        (lambda e: e.pop("start_position"), "episode 1: 'start_position' is missing; expected 3 numbers"),
        (lambda e: e.update(start_position=[0, 1]), r"'start_position' is \[0, 1\]; expected 3 numbers"),
        (lambda e: e.update(start_position=[0, True, 1]), "'start_position' is True; expected a finite number"),
        (lambda e: e.update(start_position=[0, 10**400, 1]), "'start_position' is 1000.*expected a finite number"),
        (lambda e: e.update(start_rotation=[0, 0, 0, 0]), "'start_rotation' is .* of length 0; expected 1"),
        (lambda e: e.update(goals=[]), r"'goals' is \[\]; expected a list of one goal"),
        (lambda e: e.update(goals=e["goals"] * 2), "'goals' is .*; expected a list of one goal"),
        (lambda e: e["goals"][0].update(radius=0), r"goals\[0\], 'radius' is 0; expected a finite number above 0"),
        (lambda e: e["goals"][0].pop("position"), r"goals\[0\], 'position' is missing"),
        (lambda e: e["info"].pop("geodesic_distance"), "info, 'geodesic_distance' is missing"),
        (lambda e: e["info"].update(geodesic_distance=-1), "'geodesic_distance' is -1; expected .* of 0 or more"),
        (lambda e: e["info"].update(level=3), "info, 'level' is 3"),
        (lambda e: e["info"].update(goal_room="bed"), "info, 'goal_room' is 'bed'"),
        (lambda e: e.update(info=3), "'info' is 3; expected an object"),
        (lambda e: e["instruction"].update(instruction_text=" "), "'instruction_text' is ' '; expected text"),
        (lambda e: e["instruction"].update(instruction_tokens=[1, -1]), r"'instruction_tokens' is \[1, -1\]"),
        (lambda e: e["instruction"].update(instruction_tokens=[6]), "holds 6, and the file's word_list ends at 5"),
        (lambda e: e.update(reference_path=[]), r"'reference_path' is \[\]; expected a list of at least one point"),
        (lambda e: e.update(reference_path=[[0, 0, 0], [0, "x", 0]]), r"'reference_path'\[1\] is 'x'"),
    ],
)
def test_a_wrong_entry_is_named_by_file_episode_and_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_episodes(changed(tmp_path, change))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x1f\x8b\x08", "is damaged"),
        (gzip.compress(b'{"episodes": []}', mtime=0)[:-9], "is damaged"),  # the same name in each process
        (b"\x1f\x8bxxxxxxxxxxxxxxxxxxx", "is damaged"),
        (b"{", "is not valid JSON"),
        (b"\xff{}", "is not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "is no episode file"),
        (b'{"episodes": {}}', "is no episode file"),
        (b'{"episodes": [3]}', "episode 0 of the list is 3; expected an object"),
        (b'{"episodes": [{"episode_id": 1, "episode_id": 2}]}', "'episode_id' stands twice"),
        (b'{"episodes": [{"episode_id": NaN}]}', "NaN stands in the place of a number"),
        (b'{"episodes": [], "instruction_vocab": {}}', "has no 'word_list'"),
        (b'{"episodes": [], "instruction_vocab": {"word_list": [], "PAD_INDEX": "x"}}', "'PAD_INDEX' is 'x'"),
    ],
)
def test_a_broken_file_is_one_message(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.json.gz").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_episodes(tmp_path / "x.json.gz")


def test_ids_tell_episodes_apart(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a.json", [EPISODE, replace(EPISODE, quoted=("episode_id",))])
    with pytest.raises(UserError, match="two episodes have the episode_id 1; give each its own"):
        read_episodes(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "episode 5 is 3; expected locations"),
        ({}, "'actions' is missing"),
        ({"actions": [7]}, r"'actions' is \[7\]; expected a list of whole numbers from 0 to 5"),
        ({"actions": [True]}, r"'actions' is \[True\]"),
        ({"actions": [1]}, "'forward_steps' is missing"),
        ({"actions": [1], "forward_steps": 1}, "'locations' is missing"),
        ({"actions": [1], "forward_steps": 1, "locations": [[0, 0]]}, r"'locations'\[0\] is \[0, 0\]; expected 3"),
    ],
)
def test_a_wrong_demonstration_is_named(tmp_path: Path, entry: object, message: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"5": entry}))
    with pytest.raises(UserError, match=message):
        read_ground_truth(tmp_path / "x.json")


def test_episodes_are_no_demonstrations(tmp_path: Path) -> None:
    write_episodes(tmp_path / "a.json.gz", [EPISODE])
    with pytest.raises(UserError, match="name the one that ends in _gt.json.gz"):
        read_ground_truth(tmp_path / "a.json.gz")


def test_what_readers_would_not_take_is_not_written(tmp_path: Path) -> None:
    for tokens in ((1,) * 201, (6,)):
        with pytest.raises(UserError, match="readers take 200 tokens, and the vocabulary has 6 words"):
            write_episodes(tmp_path / "a.json.gz", [replace(EPISODE, tokens=tokens)], WORDS)
    with pytest.raises(UserError, match="a number in it is not finite"):
        write_episodes(tmp_path / "a.json.gz", [replace(EPISODE, start_position=(0.0, math.nan, 0.0))])
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_begins_with_padding_and_the_unknown_word() -> None:
    assert word_list([["go", "up"], ["<unk>", "down"]]) == ["<pad>", "<unk>", "down", "go", "up"]


def test_splits_are_found_in_every_published_layout(tmp_path: Path) -> None:
    layouts = {
        "train": tmp_path / "train" / "train.json.gz",
        "val_seen": tmp_path / "val_seen.json",
        "val_unseen": tmp_path / "R2R_VLNCE_v1-3_preprocessed" / "val_unseen" / "val_unseen.json.gz",
        "test": tmp_path / "R2R_VLNCE_v1-3" / "test.json.gz",
    }
    for file in layouts.values():
        write_episodes(file, [EPISODE])
    write_ground_truth(tmp_path / "train" / "train_gt.json.gz", {"1": TRUTH})
    (tmp_path / "houses.json").write_text("{}")
    for split, file in layouts.items():
        assert episode_file(tmp_path, split) == file
    assert ground_truth_file(tmp_path, "train") == tmp_path / "train" / "train_gt.json.gz"
    assert ground_truth_file(tmp_path, "test") is None
    assert splits(tmp_path) == ("test", "train", "val_unseen")
    assert episode_file(tmp_path / "train", "train") == layouts["train"]
    with pytest.raises(UserError, match="no val_unsee/val_unsee.json.gz. Did you mean 'val_unseen'"):
        episode_file(tmp_path, "val_unsee")
    with pytest.raises(UserError, match="Choose one of: test, train, val_unseen"):
        episode_file(tmp_path, "xyz")


def test_a_folder_without_splits_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No episode file is there"):
        episode_file(tmp_path, "train")
    with pytest.raises(UserError, match="is no folder"):
        ground_truth_file(tmp_path / "x", "train")
    with pytest.raises(UserError, match="there is no file"):
        read_episodes(tmp_path / "x")
    with pytest.raises(UserError, match="cannot be read"):
        read_episodes(tmp_path)


@pytest.mark.reference
def test_the_published_files_are_read_and_written_without_a_difference(reference: Path, tmp_path: Path) -> None:
    folder = reference / "r2r_ce"
    assert "val_seen" in splits(folder)
    file, truth = episode_file(folder, "val_seen"), ground_truth_file(folder, "val_seen")
    assert truth is not None
    read, demonstrations = read_episodes(file), read_ground_truth(truth)
    assert len(read.episodes) == len(demonstrations) == 778
    assert {episode.id for episode in read.episodes} == set(demonstrations)
    write_episodes(tmp_path / "e.json.gz", read.episodes, read.vocabulary)
    write_ground_truth(tmp_path / "t.json.gz", demonstrations)
    assert gzip.decompress((tmp_path / "e.json.gz").read_bytes()) == gzip.decompress(file.read_bytes())
    assert gzip.decompress((tmp_path / "t.json.gz").read_bytes()) == gzip.decompress(truth.read_bytes())
    # A demonstration begins where its episode does, and turning left adds to the yaw: its first step forward says so.
    agree = []
    for episode in read.episodes:
        shown = demonstrations[episode.id]
        assert shown.locations[0] == episode.start_position
        turns = shown.actions[: shown.actions.index(1)]
        yaw = episode.yaw + math.radians(15) * (turns.count(2) - turns.count(3))
        (x, _, z), (x2, _, z2) = shown.locations[:2]
        agree.append(math.cos(math.atan2(x - x2, z - z2) - yaw) > 0.99)
    assert sum(agree) > 0.95 * len(agree)  # the others slide along a wall
