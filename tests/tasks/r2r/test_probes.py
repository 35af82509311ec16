"""What probes take away, and that they take nothing else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import pytest
import torch

from vlkit.envs.graph import R2RVectorEnv, World
from vlkit.envs.r2r import Episode
from vlkit.errors import UserError
from vlkit.tasks.r2r import probes


def instructions(world: World) -> list[tuple[int, ...]]:
    """The words of each episode, as ids."""
    rows = zip(world.episodes.words.tolist(), world.episodes.mask.tolist(), strict=True)
    return [tuple(word for word, there in zip(words, mask, strict=True) if there) for words, mask in rows]


def of_paths(world: World, paths: Sequence[str]) -> World:
    """An episode for each letter, which is its path, each with an instruction of its own."""
    first = world.episodes.episodes[0]
    texts = ["go", "turn", "left", "walk", "door", "stop", "straight", "hall", "end"]
    return world.with_episodes(
        [
            Episode(f"{path}_{i}", path, first.scan, first.path, 0.0, f"{texts[i]} {texts[i]}", "en", i)
            for i, path in enumerate(paths)
        ]
    )


def test_nothing_is_read_but_an_unknown_word(worlds: dict[str, World]) -> None:
    world = worlds["train"]
    assert instructions(probes.unread(world)) == [(world.tokenizer.unknown,)] * len(world.episodes)
    assert probes.unread(world).episodes.word_counts.tolist() == [1] * len(world.episodes)


@pytest.mark.parametrize("paths", ["aabb", "aaabbbccc", "abcabcabc", "aaabcd", "abbbcc", "ab", "aabcbdaec"])
def test_instructions_are_exchanged_between_paths_each_used_once(paths: str, worlds: dict[str, World]) -> None:
    world = of_paths(worlds["train"], paths)
    before = instructions(world)
    orders = set()
    for seed in range(6):
        after = instructions(probes.exchanged(world, seed))
        source = [before.index(words) for words in after]
        assert sorted(source) == list(range(len(paths)))
        assert all(paths[i] != paths[other] for i, other in enumerate(source))
        assert instructions(probes.exchanged(world, seed)) == after
        orders.add(tuple(source))
    assert len(orders) > 1 or len(set(paths)) == 2


def test_where_one_path_has_most_instructions_the_others_are_used_again(worlds: dict[str, World]) -> None:
    paths = "aaaabaac"
    world = of_paths(worlds["train"], paths)
    before = instructions(world)
    for seed in range(4):
        source = [before.index(words) for words in instructions(probes.exchanged(world, seed))]
        assert all(paths[i] != paths[other] for i, other in enumerate(source))
        assert {paths[i] for i in source} == {"a", "b", "c"}


def test_one_path_has_none_to_exchange_with(worlds: dict[str, World]) -> None:
    with pytest.raises(UserError, match="all 3 instructions are of one path"):
        probes.exchanged(of_paths(worlds["train"], "aaa"))


def test_words_are_disordered_and_stay_where_they_are_said(worlds: dict[str, World]) -> None:
    world = worlds["train"]
    before, after = instructions(world), instructions(probes.disordered(world))
    assert [Counter(words) for words in before] == [Counter(words) for words in after]
    assert sum(one != other for one, other in zip(before, after, strict=True)) > 5
    changed = probes.disordered(world).episodes
    assert torch.equal(changed.mask, world.episodes.mask)
    assert torch.equal(changed.words[~changed.mask], world.episodes.words[~world.episodes.mask])
    assert after == instructions(probes.disordered(world))
    assert after != instructions(probes.disordered(world, seed=1))


@pytest.mark.parametrize("change", [probes.unread, probes.exchanged, probes.disordered])
def test_only_words_are_changed(change: probes.Probe, worlds: dict[str, World]) -> None:
    world = worlds["train"]
    words = world.episodes.words.clone()
    changed = change(world)  # type: ignore[operator]
    assert torch.equal(world.episodes.words, words)
    assert changed.tables is world.tables
    for field in fields(world.episodes):
        if field.name not in ("words", "mask"):
            assert getattr(changed.episodes, field.name) is getattr(world.episodes, field.name)


def test_blank_parts_are_zeros_and_the_others_as_they_were(worlds: dict[str, World]) -> None:
    env = R2RVectorEnv(2, world=worlds["train"])
    observation, _ = env.reset(options={"episodes": [0, 6]})
    seen = probes.blank(("heading", "candidate_visited"))(observation)
    assert set(seen) == set(observation)
    for name, value in observation.items():
        if name in ("heading", "candidate_visited"):
            assert seen[name].dtype == value.dtype
            assert seen[name].count_nonzero() == 0
        else:
            assert seen[name] is value


@pytest.mark.parametrize("space", ["panoramic", "egocentric"])
def test_an_observation_is_words_geometry_pictures_and_what_can_be_done(space: str, worlds: dict[str, World]) -> None:
    env = R2RVectorEnv(1, world=worlds["train"], action_space=space)  # type: ignore[arg-type]
    observation, _ = env.reset()
    left = {"instruction", "instruction_mask", "steps", "last_action", "action_mask"}
    assert set(observation) - left <= {*probes.POSE_PARTS, *probes.CANDIDATE_PARTS}


def test_vision_is_taken_from_those_who_have_it() -> None:
    blind, seeing = probes.test_time_probes(with_vision=False), probes.test_time_probes(with_vision=True)
    assert [probe.name for probe in seeing[: len(blind)]] == [probe.name for probe in blind]
    assert [probe.name for probe in seeing[len(blind) :]] == ["no vision"]
    views = {"views": torch.ones(1, 36, 2), "candidate_views": torch.ones(1, 4, 2), "view": torch.ones(1, 2)}
    assert all(not part.any() for part in seeing[-1].observation(views).values())
