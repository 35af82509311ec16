"""Reading before walking: what a text tells is learned from the text, left and right may be exchanged, files go on."""

import json
from pathlib import Path

import pytest
import torch

from vlkit.batches import seed_everything
from vlkit.envs.episodes import Episode, read_episodes
from vlkit.envs.house.benchmark import Arguments, generate
from vlkit.tasks.navigation.reading import MEANING, NOTHING, learn_to_read, meanings, mirrored
from vlkit.tasks.navigation.settings import Config, built_policy
from vlkit.tasks.navigation.training import Worlds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "houses"
    generate(Arguments(out=folder, seed=4, houses=3, unseen=1, levels=("standard",), walks=20, processes=1))
    return folder


def episode(**meaning: str) -> Episode:
    return Episode(
        id="1",
        trajectory_id="1",
        scene="a.glb",
        start_position=(0.0, 0.0, 0.0),
        start_rotation=(0.0, 0.0, 0.0, 1.0),
        goal=(1.0, 0.0, 0.0),
        radius=1.0,
        geodesic_distance=1.0,
        instruction="Stop.",
        info={MEANING: meaning} if meaning else {},
    )


def test_a_field_that_a_text_leaves_open_holds_nothing() -> None:
    fields, told = meanings((episode(side="left", thing="bed"), episode(side="right"), episode()))
    assert fields == {"side": (NOTHING, "left", "right"), "thing": (NOTHING, "bed")}
    assert told.tolist() == [[1, 1], [2, 0], [0, 0]]
    assert [each.tolist() for each in mirrored(fields)] == [[0, 2, 1], [0, 1]]


def test_texts_without_a_meaning_have_no_fields() -> None:
    fields, told = meanings((episode(), episode()))
    assert not fields
    assert told.shape == (2, 0)


def test_what_a_text_tells_is_learned(data: Path, tmp_path: Path) -> None:
    settings = Config(
        data=data, levels=("standard",), size=16, dim=64, reading_steps=300, num_envs=2, select_episodes=2, device="cpu"
    )
    worlds = Worlds(settings)
    seed_everything(0)
    policy = built_policy(settings, vocabulary=worlds.tokenizer.size, categories=len(worlds.train.env.categories))
    before = {name: value.clone() for name, value in policy.text.state_dict().items()}
    learn_to_read(policy.text, settings, worlds.train, tmp_path)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    fields, told = meanings(worlds.train.episodes)
    for column, name in enumerate(fields):
        guessed = float(told[:, column].bincount().max()) / len(told)
        if name in ("relation", "side 1"):
            assert last[name] > guessed + 0.3 * (1 - guessed), f"{name} is guessed {guessed:.0%} of the time"
    assert any(not torch.equal(before[name], value) for name, value in policy.text.state_dict().items())
    again = built_policy(settings, vocabulary=worlds.tokenizer.size, categories=len(worlds.train.env.categories))
    learn_to_read(again.text, settings, worlds.train, tmp_path)
    for one, other in zip(policy.text.parameters(), again.text.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_generated_episodes_have_their_meaning(data: Path) -> None:
    episodes = read_episodes(data / "train" / "train.json.gz").episodes
    for each in episodes:
        told = (each.info or {})[MEANING]
        assert int(told["openings"]) == (each.info or {})["doors"]
        assert ("thing" in told) == (told["relation"] == "front")
        assert told["side 1"] in {"left", "right", "ahead", "behind"}
