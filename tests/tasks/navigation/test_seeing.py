"""Seeing before walking: patches are named after what the simulator knows, rare things as often as walls."""

import json
from pathlib import Path

import torch

from vlkit.batches import seed_everything
from vlkit.envs.house.benchmark import Arguments, generate
from vlkit.tasks.navigation.learning import at_patches, of_patches, rarity
from vlkit.tasks.navigation.settings import Config, built_policy
from vlkit.tasks.navigation.training import Lessons, Worlds, first_lessons


def test_a_patch_shows_what_is_in_its_middle() -> None:
    categories = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4)
    assert at_patches(categories, 4, 4).tolist() == [list(range(16))]
    assert at_patches(categories, 2, 2).tolist() == [[5, 7, 13, 15]]
    assert at_patches(categories, 8, 8).reshape(8, 8)[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_patches_that_are_asked_for_are_those() -> None:
    patches = torch.arange(12.0).reshape(1, 6, 2)
    assert of_patches(patches, torch.tensor([[5, 0]])).tolist() == [[[10.0, 11.0], [0.0, 1.0]]]


def test_what_is_rare_is_asked_for_more_often() -> None:
    often = rarity(torch.cat([torch.zeros(99950), torch.ones(50)]).to(torch.uint8))
    assert float(often[1] / often[0]) > 30
    assert float(often[2]) > float(often[1]), "what was never seen has a chance too"


def test_an_encoder_learns_to_name_what_it_sees_and_goes_on_from_there(tmp_path: Path) -> None:
    data = tmp_path / "houses"
    generate(Arguments(out=data, seed=5, houses=1, unseen=1, levels=("starter",), walks=10, processes=1))
    settings = Config(
        data=data,
        levels=("starter",),
        size=32,
        round_episodes=10,
        select_episodes=2,
        num_envs=2,
        reading_steps=0,
        seeing_steps=60,
        device="cpu",
    )
    worlds = Worlds(settings)

    def taught() -> tuple[torch.Tensor, torch.Tensor]:
        seed_everything(0)
        policy = built_policy(settings, vocabulary=worlds.tokenizer.size, categories=len(worlds.train.env.categories))
        before = next(policy.frames.parameters()).clone()
        first_lessons(policy, settings, worlds, Lessons(settings, worlds.train, tmp_path / "store"), tmp_path)
        return before, next(policy.frames.parameters())

    before, after = taught()
    assert not torch.equal(before, after)
    named = [json.loads(line)["named"] for line in (tmp_path / "seeing" / "log.jsonl").read_text().splitlines()]
    assert named[-1] > 0.4, "of some thirty kinds in one house"
    assert torch.equal(taught()[1], after), "what was learned is taken up"
