"""Splits of one world, and left and right exchanged."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vlkit.envs.graph import R2RVectorEnv, World
from vlkit.errors import UserError
from vlkit.tasks.r2r.agents import rollout, teacher
from vlkit.tasks.r2r.data import MIRRORED, Mirror, Splits, read_splits
from vlkit.text import Tokenizer


def test_the_splits_of_a_folder_share_their_graphs(village: Path, worlds: dict[str, World], splits: Splits) -> None:
    assert {split: len(world.episodes) for split, world in worlds.items()} == {
        "train": 10, "val_seen": 1, "val_unseen": 3, "test": 2
    }  # fmt: skip
    assert set(splits.scans) == {"house", "farm", "mill"}
    assert splits.files["val_seen"] == village / "annotations" / "R2R_val_seen.json"
    assert all(world.tables is worlds["train"].tables for world in worlds.values())
    assert [episode.id for episode in worlds["val_unseen"].episodes.episodes] == ["7_0", "7_1", "8_0"]


def test_one_file_is_one_split(village: Path) -> None:
    file = village / "annotations" / "R2R_val_seen.json"
    assert len(read_splits(file, village / "connectivity", ["val_seen"]).episodes["val_seen"]) == 1
    with pytest.raises(UserError, match=r"R2R_val_seen.json is one file, but the splits train, val_seen are wanted"):
        read_splits(file, village / "connectivity", ["train", "val_seen"])


def test_what_is_not_there_is_named(village: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file of split 'val'; it holds test, train, val_seen, val_unseen"):
        read_splits(village / "annotations", village / "connectivity", ["train", "val"])
    with pytest.raises(UserError, match="no annotations at"):
        read_splits(village / "nowhere", village / "connectivity", ["train"])
    with pytest.raises(UserError, match="no graph for scan 'farm'"):
        read_splits(village / "annotations", tmp_path, ["train"])


def test_features_of_other_buildings_are_refused(splits: Splits, tokenizer: Tokenizer, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.zeros((1, 36, 4), dtype=np.float32))
    (tmp_path / "index.json").write_text(
        '{"format": "vlkit image features", "version": 1, "dtype": "float32", "dim": 4, "rows": [["house", "h0"]], '
        '"source": {}}'
    )
    with pytest.raises(UserError, match=r"no features for 17 of 18 viewpoints in 3 scans"):
        splits.worlds(tokenizer, features=tmp_path)


def test_instructions_are_cut_at_max_words(splits: Splits, tokenizer: Tokenizer) -> None:
    assert splits.worlds(tokenizer, max_words=4)["train"].episodes.words.shape == (10, 4)


WORDS = "turn left then right , or go clockwise past the lefthand door , leftmost and rightmost"


def test_left_and_right_change_places() -> None:
    tokenizer = Tokenizer.train([WORDS])
    exchanged = Mirror(tokenizer).exchanged
    said = tokenizer.decode(exchanged[tokenizer.encode(WORDS)].tolist())
    # counterclockwise and righthand are no words of this tokenizer, so their pairs stay.
    assert said == "turn right then left , or go clockwise past the lefthand door , rightmost and leftmost"
    assert exchanged[exchanged].tolist() == list(range(tokenizer.size))


def test_a_word_belongs_to_one_pair() -> None:
    words = [word for pair in MIRRORED for word in pair]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("text", ["vas-y tout droit", "left alone"])
def test_words_without_left_and_right_cannot_be_mirrored(text: str) -> None:
    with pytest.raises(UserError, match="no words 'left' and 'right' to exchange; set mirror to 0"):
        Mirror(Tokenizer.train([text]))


def test_pictures_cannot_be_mirrored(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="image features cannot be mirrored"):
        Mirror(tokenizer)({"candidate_views": torch.zeros(1, 2, 3)}, torch.tensor([True]))


def test_what_is_mirrored_twice_is_what_it_was(worlds: dict[str, World], tokenizer: Tokenizer) -> None:
    env = R2RVectorEnv(3, world=worlds["train"], autoreset="Disabled", measure=False)
    env.reset(options={"episodes": [0, 4, 7]})
    observation, *_ = env.step([1, 1, 1])
    mirror, flipped = Mirror(tokenizer), torch.tensor([True, False, True])
    once = mirror(observation, flipped)
    twice = mirror(once, flipped)
    changed = {name for name in observation if not torch.equal(once[name], observation[name])}
    assert changed == {"instruction", "heading", "moved", "candidate_heading"}
    assert set(once) == set(observation)
    for name, value in observation.items():
        assert torch.equal(twice[name], value), name
        assert torch.equal(once[name][1], value[1]), name


def test_a_mirrored_walk_is_a_walk_in_the_mirrored_building(
    tmp_path: Path, write_world: Callable[..., Path], worlds: dict[str, World], tokenizer: Tokenizer, new_agent: Any
) -> None:
    world = worlds["train"]
    house = world.scans["house"]
    places = {name: (-x, y, z) for name, (x, y, z) in zip(house.viewpoints, house.positions.tolist(), strict=True)}
    names = house.viewpoints
    edges = ", ".join(f"{names[a]} {names[b]}" for a, b in np.argwhere(np.triu(house.adjacency)))
    exchange = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    own = [episode for episode in world.episodes.episodes if episode.scan == "house"]
    paths = []
    for episode in own:
        text = "".join(exchange.get(part, part) for part in _parts(episode.instruction))
        paths.append(("house", " ".join(episode.path), 2 * math.pi - episode.heading, (text,)))
    folder = write_world(tmp_path, {"train": paths}, {"house": (places, edges)})
    other = read_splits(folder / "annotations", folder / "connectivity", ["train"]).worlds(tokenizer)["train"]

    agent, count = new_agent(), len(own)
    mirror, every = Mirror(tokenizer), torch.ones(count, dtype=torch.bool)
    # The farm takes the first numbers of the world in which both are.
    numbers = torch.tensor([i for i, episode in enumerate(world.episodes.episodes) if episode.scan == "house"])
    transformed = rollout(agent, _env(world, count), numbers, teacher, lambda seen: mirror(seen, every))
    mirrored = rollout(agent, _env(other, count), torch.arange(count), teacher)
    plain = rollout(agent, _env(world, count), numbers, teacher)
    assert transformed.actions.tolist() == mirrored.actions.tolist()
    torch.testing.assert_close(transformed.log_probs, mirrored.log_probs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(transformed.values, mirrored.values, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(plain.log_probs[0], mirrored.log_probs[0], atol=1e-3).all()


def _parts(text: str) -> list[str]:
    return re.split(r"(\w+)", text)


def _env(world: World, envs: int) -> R2RVectorEnv:
    return R2RVectorEnv(envs, world=world, measure=False, autoreset="Disabled")
