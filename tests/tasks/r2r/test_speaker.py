"""The speaker: what it sees of a route, what it says, and the new routes that it is asked about."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vlkit.envs.graph import R2RVectorEnv, World
from vlkit.envs.r2r import Episode, read_episodes
from vlkit.generation import greedy
from vlkit.tasks.r2r.agents import rollout, teacher
from vlkit.tasks.r2r.data import Mirror, read_splits
from vlkit.tasks.r2r.model import GEOMETRY, candidate_geometry
from vlkit.tasks.r2r.speaker import (
    MAX_HOPS,
    Routes,
    Speaker,
    mirrored,
    new_paths,
    routes_of,
    speaker_loss,
    told,
    write_episodes,
)
from vlkit.text import Tokenizer


@pytest.fixture(scope="module")
def world(worlds: dict[str, World]) -> World:
    return worlds["train"]


@pytest.fixture(scope="module")
def routes(world: World) -> Routes:
    return routes_of(world, batch_size=4)


def new_speaker(tokenizer: Tokenizer, **options: Any) -> Speaker:
    torch.manual_seed(0)
    return Speaker(tokenizer.size, dim=16, word_dim=16, geometry_dim=16, **options).eval()


def batch(world: World, *rows: int) -> tuple[Tensor, Tensor]:
    """Words and mask of these episodes, cut to the longest."""
    longest = int(world.episodes.word_counts[list(rows)].max())
    return world.episodes.words[list(rows), :longest], world.episodes.mask[list(rows), :longest]


def test_a_route_is_the_annotated_path_as_the_navigator_sees_it(world: World, routes: Routes, new_agent: Any) -> None:
    episodes = world.episodes
    assert routes.choices.shape == (len(episodes), MAX_HOPS, world.tables.slots + 1, GEOMETRY)
    assert routes.mask.sum(dim=1).tolist() == [len(episode.path) for episode in episodes.episodes]
    env = R2RVectorEnv(len(episodes), world=world, max_steps=MAX_HOPS, measure=False, autoreset="Disabled")
    walks = rollout(new_agent(), env, torch.arange(len(episodes)), teacher)  # these paths are the shortest ones
    steps = len(walks.acting)
    assert torch.equal(routes.mask[:, :steps].T, walks.acting)
    assert torch.equal(routes.taken[:, :steps].T, walks.actions)
    observation, _ = env.reset(options={"episodes": list(range(len(episodes)))})
    torch.testing.assert_close(routes.choices[:, 0], candidate_geometry(observation, observation["heading"]))
    assert torch.equal(routes.available[:, 0], observation["action_mask"])
    whole = routes_of(world)
    assert all(torch.equal(getattr(whole, name), getattr(routes, name)) for name in ("choices", "taken", "mask"))


def test_a_route_follows_its_path_where_another_is_shorter(world: World) -> None:
    way_round = replace(world.episodes.episodes[9], path=("f0", "f1", "f2", "f3"))
    assert routes_of(world.with_episodes([way_round])).mask.sum() == 4


def test_a_path_that_is_too_long_is_cut(world: World) -> None:
    there_and_back = replace(world.episodes.episodes[0], path=("h0", "h1") * 10)
    routes = routes_of(world.with_episodes([there_and_back]))
    assert routes.mask.sum() == MAX_HOPS
    assert bool((routes.taken > 0).all())


def test_selected_routes_are_cut_to_the_longest(routes: Routes) -> None:
    some = routes.select(torch.tensor([9, 0]))  # one hop, and three
    assert some.choices.shape[:2] == some.available.shape[:2] == some.taken.shape == some.mask.shape == (2, 4)
    assert torch.equal(some.taken[1], routes.taken[0, :4])
    assert some.mask.tolist() == [[True, True, False, False], [True, True, True, True]]


def test_mirrored_routes_are_those_of_a_mirrored_walk(world: World, routes: Routes, tokenizer: Tokenizer) -> None:
    flipped = torch.arange(len(world.episodes)) % 2 == 0
    env = R2RVectorEnv(len(flipped), world=world, oracle="reference", measure=False, autoreset="Disabled")
    observation, info = env.reset(options={"episodes": list(range(len(flipped)))})
    mirror, start, other = Mirror(tokenizer), observation["heading"], mirrored(routes, flipped)
    for step in range(4):
        seen = mirror(observation, flipped)
        # Of walks that have ended the geometry goes on, and is masked out.
        expected = candidate_geometry(seen, torch.where(flipped, -start, start))
        torch.testing.assert_close(other.choices[:, step], expected)
        observation, _, _, _, info = env.step(info["oracle_action"])
    assert not torch.isclose(other.choices[0], routes.choices[0]).all()
    assert torch.equal(mirrored(other, flipped).choices, routes.choices)


def test_the_speaker_scores_every_word_at_every_place(world: World, routes: Routes, tokenizer: Tokenizer) -> None:
    speaker, words = new_speaker(tokenizer), torch.ones(3, 5, dtype=torch.int64)
    telling = speaker.begun(routes.select(torch.arange(3)))
    assert telling.steps.shape == (3, 6, 16)
    assert speaker(routes.select(torch.arange(3)), words).shape == (3, 5, tokenizer.size)
    logits, after = speaker.step(words[:, 0], telling)
    assert logits.shape == (3, tokenizer.size)
    assert after.hidden.shape == after.cell.shape == (3, 16)


def test_telling_word_by_word_is_telling_at_once(world: World, routes: Routes, tokenizer: Tokenizer) -> None:
    speaker, some = new_speaker(tokenizer), routes.select(torch.tensor([0, 9]))
    words, _ = batch(world, 0, 9)
    at_once, telling = speaker(some, words), speaker.begun(some)
    for i in range(words.shape[1]):
        logits, telling = speaker.step(words[:, i], telling)
        torch.testing.assert_close(logits, at_once[:, i])


def test_padding_does_not_change_what_is_said(world: World, routes: Routes, tokenizer: Tokenizer) -> None:
    speaker = new_speaker(tokenizer)
    alone = speaker(routes.select(torch.tensor([9])), torch.tensor([[2, 5, 6]]))
    together = speaker(routes.select(torch.tensor([9, 2])), torch.tensor([[2, 5, 6, 0, 0], [2, 7, 8, 9, 4]]))
    torch.testing.assert_close(together[:1, :3], alone)
    some = routes.select(torch.tensor([9]))
    choices, available = some.choices[:, :, :2], some.available[:, :, :2]
    slots = replace(
        some,
        choices=torch.cat([some.choices, torch.ones_like(choices)], dim=2),
        available=torch.cat([some.available, torch.zeros_like(available)], dim=2),
    )
    torch.testing.assert_close(speaker(slots, torch.tensor([[2, 5, 6]])), alone)
    losses = [speaker_loss(speaker, routes.select(torch.tensor([i])), *batch(world, i), tokenizer) for i in (9, 2)]
    both = speaker_loss(speaker, routes.select(torch.tensor([9, 2])), *batch(world, 9, 2), tokenizer)
    counts = world.episodes.word_counts[[9, 2]] + 1  # and the end
    torch.testing.assert_close(both, (losses[0] * counts[0] + losses[1] * counts[1]) / counts.sum())


def test_the_loss_is_that_of_each_word_and_of_the_end(world: World, routes: Routes, tokenizer: Tokenizer) -> None:
    speaker, route = new_speaker(tokenizer), routes.select(torch.tensor([9]))
    words, mask = batch(world, 9)
    log_probs = speaker(route, torch.cat([torch.tensor([[tokenizer.start]]), words], dim=1)).log_softmax(dim=2)[0]
    expected = -sum(log_probs[i, word] for i, word in enumerate([*words[0].tolist(), tokenizer.end])) / len(log_probs)
    torch.testing.assert_close(speaker_loss(speaker, route, words, mask, tokenizer), torch.as_tensor(expected))


def test_a_gradient_reaches_every_weight(world: World, routes: Routes, tokenizer: Tokenizer) -> None:
    speaker = new_speaker(tokenizer).train()
    every = torch.arange(len(world.episodes))
    speaker_loss(speaker, routes.select(every), *batch(world, *range(len(every))), tokenizer).backward()  # type: ignore[no-untyped-call]
    for name, parameter in speaker.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.fixture(scope="module")
def taught(world: World, tokenizer: Tokenizer) -> tuple[Speaker, World]:
    """A speaker that knows two routes by heart, and these."""
    two = world.with_episodes([world.episodes.episodes[0], world.episodes.episodes[7]])
    speaker, routes = new_speaker(tokenizer, dropout=0.0), routes_of(two)
    optimizer = torch.optim.Adam(speaker.parameters(), lr=0.02)
    for _ in range(50):
        loss = speaker_loss(speaker, routes.select(torch.arange(2)), *batch(two, 0, 1), tokenizer)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.05
    return speaker, two


def test_a_speaker_learns_two_routes(taught: tuple[Speaker, World], tokenizer: Tokenizer) -> None:
    speaker, two = taught
    start = torch.full((2,), tokenizer.start)
    with torch.inference_mode():
        said = greedy(speaker.step, start, speaker.begun(routes_of(two)), end=tokenizer.end, steps=20)
    expected = [tokenizer.decode(tokenizer.encode(episode.instruction)) for episode in two.episodes.episodes]
    assert [tokenizer.decode(ids) for ids in said.ids.tolist()] == expected
    cold = told(speaker, two, seed=0, temperature=0.05)
    assert [episode.instruction for episode in cold] == expected
    for before, after in zip(two.episodes.episodes, cold, strict=True):
        assert replace(after, instruction=before.instruction) == before


def test_what_is_told_depends_on_seed_and_episode_alone(world: World, tokenizer: Tokenizer) -> None:
    speaker = new_speaker(tokenizer)
    episodes = told(speaker, world, seed=1, max_words=12)
    assert told(speaker, world, seed=1, max_words=12, batch_size=3) == episodes
    backwards = world.with_episodes(world.episodes.episodes[::-1])
    assert told(speaker, backwards, seed=1, max_words=12)[::-1] == episodes
    assert told(speaker, world, seed=2, max_words=12) != episodes
    assert episodes[0].path == episodes[1].path
    assert episodes[0].instruction != episodes[1].instruction
    assert all(len(tokenizer.encode(episode.instruction)) <= 12 for episode in episodes)


def test_only_words_are_told(world: World, tokenizer: Tokenizer) -> None:
    speaker = new_speaker(tokenizer)
    with torch.no_grad():
        speaker.next_word.bias[[tokenizer.pad, tokenizer.unknown, tokenizer.start]] = 50.0
    for episode in told(speaker, world, seed=0, max_words=12):
        assert set(episode.instruction.split()) <= set(tokenizer.words[4:])


def test_a_route_of_which_nothing_is_said_has_one_unknown_word(
    world: World, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    speaker = new_speaker(tokenizer)
    with torch.no_grad():
        speaker.next_word.bias[tokenizer.end] = 50.0
    episodes = told(speaker, world, seed=0)
    assert {episode.instruction for episode in episodes} == {"<unk>"}
    write_episodes(tmp_path / "spoken.json", episodes)
    assert read_episodes(tmp_path / "spoken.json") == episodes


def test_what_is_written_is_read_again(world: World, tmp_path: Path) -> None:
    episodes = list(world.episodes.episodes)
    write_episodes(tmp_path / "R2R_spoken.json", episodes)
    assert read_episodes(tmp_path / "R2R_spoken.json") == episodes
    assert [path.name for path in tmp_path.iterdir()] == ["R2R_spoken.json"]


def hall(length: int, apart: float, write_world: Callable[..., Path], folder: Path) -> World:
    """A straight hall, and a second one beside it in which there are no episodes."""
    places = {f"v{i}": (apart * i, 0.0, 0.0) for i in range(length)}
    edges = ", ".join(f"v{i} v{i + 1}" for i in range(length - 1))
    train = [("hall", "v0 v1 v2 v3 v4", 0.0, ("go",)), ("hall", "v0 v1", 0.0, ("go",))]
    world = write_world(
        folder,
        {"train": train, "val_unseen": [("other", "v0 v1", 0.0, ("go",))]},
        {"hall": (places, edges), "other": (places, edges)},
    )
    splits = read_splits(world / "annotations", world / "connectivity", ["train", "val_unseen"])
    return splits.worlds(Tokenizer.train(["go"]))["train"]


def test_new_paths_are_r2r_s_kind_of_paths_in_the_training_buildings(
    tmp_path: Path, write_world: Callable[..., Path]
) -> None:
    world = hall(9, 1.5, write_world, tmp_path)
    known = world.episodes.episodes
    found = new_paths(world.scans, known, count=1000, seed=0)
    # In a hall of 9 there are 5, 4 and 3 pairs four, five and six hops apart, each in two directions; one is known.
    assert len(found) == 2 * (5 + 4 + 3) - 1
    assert len({path for _, path, _ in found}) == len(found)
    assert not {(scan, path) for scan, path, _ in found} & {(episode.scan, episode.path) for episode in known}
    scan = world.scans["hall"]
    for name, path, heading in found:
        assert name == "hall"
        assert 4 <= len(path) - 1 <= 6
        assert path == scan.shortest_path(path[0], path[-1])
        assert scan.distances[scan.index[path[0]], scan.index[path[-1]]] >= 5
        assert 0 <= heading < 2 * np.pi


def test_new_paths_follow_from_the_seed(tmp_path: Path, write_world: Callable[..., Path]) -> None:
    world = hall(9, 1.5, write_world, tmp_path)
    known = world.episodes.episodes
    few = new_paths(world.scans, known, count=6, seed=3)
    assert few == new_paths(world.scans, known, count=20, seed=3)[:6]
    assert few != new_paths(world.scans, known, count=6, seed=4)


def test_paths_shorter_than_5_metres_are_no_new_ones(tmp_path: Path, write_world: Callable[..., Path]) -> None:
    world = hall(8, 1.1, write_world, tmp_path)  # four hops are 4.4 m
    found = new_paths(world.scans, world.episodes.episodes, count=1000, seed=0)
    assert {len(path) - 1 for _, path, _ in found} == {5, 6}
    assert len(found) == 2 * (3 + 2)


def test_buildings_without_such_paths_have_no_new_ones(world: World) -> None:
    farm = [episode for episode in world.episodes.episodes if episode.scan == "farm"]
    assert new_paths(world.scans, farm, count=5, seed=0) == []
    assert new_paths(world.scans, [], count=5, seed=0) == []
    both = new_paths(world.scans, world.episodes.episodes, count=1000, seed=0)
    assert {scan for scan, _, _ in both} == {"house"}


def test_new_paths_can_be_walked_and_told(world: World, tokenizer: Tokenizer) -> None:
    found = new_paths(world.scans, world.episodes.episodes, count=3, seed=0)
    new = world.with_episodes([Episode(f"new{i}_0", f"new{i}", *path, "?", "en", 0) for i, path in enumerate(found)])
    assert routes_of(new).mask.sum(dim=1).tolist() == [len(path) for _, path, _ in found]
    assert [episode.path for episode in told(new_speaker(tokenizer), new, seed=0)] == [path for _, path, _ in found]
