import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from vlkit.envs.features import DATA, FORMAT, INDEX, VERSION, VIEWS, Features
from vlkit.envs.graph import (
    DOWN,
    FORWARD,
    LEFT,
    METRICS,
    RIGHT,
    STOP,
    UP,
    R2REnv,
    R2RVectorEnv,
    ToNumpy,
    World,
    read_world,
)
from vlkit.envs.graph_tables import HEADINGS, TURN
from vlkit.envs.measures import scores
from vlkit.envs.r2r import Episode
from vlkit.errors import UserError

SPACES = ("panoramic", "egocentric")
MODES = ("NextStep", "SameStep", "Disabled")


@pytest.fixture(scope="module")
def world(small_world: Path) -> World:
    return read_world(small_world / "annotations", small_world / "connectivity", "train")


def files(small_world: Path, split: str = "train") -> dict[str, Any]:
    return {
        "annotations": small_world / "annotations",
        "connectivity": small_world / "connectivity",
        "split": split,
    }


def at(world: World, names: str) -> Tensor:
    """The numbers of the viewpoints named."""
    scan = {"a": "alpha", "b": "beta"}
    return torch.tensor([world.tables.index[scan[name[0]], name] for name in names.split()])


def hop(env: R2RVectorEnv, target: str) -> Tensor:
    """The panoramic action that goes there, for every environment."""
    neighbours = env.tables.neighbours[env.viewpoint]
    return (neighbours == at(env.world, target)).long().argmax(dim=1) + 1


def walked(env: R2RVectorEnv, path: str) -> dict[str, Tensor]:
    """Walks along the path, then stops; the last info."""
    for viewpoint in path.split():
        env.step(hop(env, viewpoint))
    return dict(env.step(torch.zeros(env.num_envs, dtype=torch.int64))[-1])


def randomly(env: R2RVectorEnv, rng: np.random.Generator, stop: float = 0.1) -> np.ndarray:
    """An action for each environment, whether it leads somewhere or not; STOP now and then."""
    count = int(env.single_action_space.n)  # type: ignore[attr-defined]
    actions = rng.integers(1, count, size=env.num_envs)
    return np.where(rng.random(env.num_envs) < stop, STOP, actions)


def equal(a: Any, b: Any) -> bool:
    """Whether two observations or infos hold the same, NaN included."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return (
        torch.equal(torch.nan_to_num(a, nan=-7.0), torch.nan_to_num(b, nan=-7.0)) if isinstance(a, Tensor) else a == b
    )


# Gymnasium's contract.


@pytest.mark.parametrize("space", SPACES)
def test_gymnasiums_checker_has_nothing_to_say(small_world: Path, space: str) -> None:
    env = gymnasium.make("vlkit.envs:vlkit/R2R-v0", action_space=space, **files(small_world))
    check_env(env.unwrapped)


@pytest.mark.parametrize("space", SPACES)
def test_observations_of_one_walk_lie_in_their_space(small_world: Path, space: str) -> None:
    env = gymnasium.make("vlkit/R2R-v0", action_space=space, **files(small_world))
    env.action_space.seed(3)
    observation, info = env.reset(seed=3)
    assert observation in env.observation_space
    for _ in range(150):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        if terminated or truncated:
            assert set(METRICS) <= set(info)
            observation, info = env.reset()
            assert observation in env.observation_space
            assert observation["last_action"] == -1


@pytest.mark.parametrize("space", SPACES)
def test_observations_of_many_walks_lie_in_their_space(small_world: Path, space: str) -> None:
    env = gymnasium.make_vec("vlkit/R2R-v0", num_envs=5, action_space=space, **files(small_world))
    assert isinstance(env, R2RVectorEnv)
    wrapped = ToNumpy(env)
    wrapped.action_space.seed(4)
    observation, _ = wrapped.reset(seed=4)
    for _ in range(150):
        for name, values in observation.items():
            assert values.dtype == wrapped.observation_space[name].dtype  # type: ignore[index]
        assert observation in wrapped.observation_space
        observation, reward, terminated, truncated, info = wrapped.step(wrapped.action_space.sample())
        assert reward.dtype == np.float32
        assert terminated.dtype == truncated.dtype == np.bool_
        assert isinstance(info["distance"], np.ndarray)


def test_a_mask_of_one_walk_is_what_sampling_wants(small_world: Path) -> None:
    env = R2REnv(**files(small_world), action_space="egocentric")
    observation, _ = env.reset(seed=0, options={"episode": 12})  # b3, heading 4.5: nothing ahead
    space = env.action_space
    assert isinstance(space, spaces.Discrete)
    drawn = {int(space.sample(mask=observation["action_mask"])) for _ in range(60)}
    assert drawn == set(np.flatnonzero(observation["action_mask"]))


def test_to_numpy_shares_memory_with_the_tensors(world: World) -> None:
    env = R2RVectorEnv(3, world=world)
    tensors, _ = env.reset(seed=0, options={"episodes": [0, 5, 9]})
    arrays = ToNumpy(env)._plain(tensors)
    for name, values in tensors.items():
        assert arrays[name].ctypes.data == values.data_ptr()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasiums_own_vectors_take_the_single_environment(small_world: Path, mode: str) -> None:
    # Over shared memory Gymnasium hands no text on.
    options = {"vector_kwargs": {"shared_memory": False}} if mode == "async" else {}
    env = gymnasium.make_vec("vlkit/R2R-v0", 2, mode, **options, **files(small_world))  # type: ignore[arg-type]
    observation, info = env.reset(seed=[5, 6])  # type: ignore[arg-type]
    alone = [R2REnv(**files(small_world)).reset(seed=seed) for seed in (5, 6)]
    assert observation["instruction"] == tuple(each["instruction"] for each, _ in alone)
    assert info["instr_id"].tolist() == [each["instr_id"] for _, each in alone]
    _, _, terminated, _, _ = env.step(np.array([0, 1]))
    assert terminated.tolist() == [True, False]
    env.close()


@pytest.mark.parametrize("vector", [False, True])
def test_gymnasiums_statistics_can_be_taken(small_world: Path, vector: bool) -> None:
    if vector:
        env: Any = gymnasium.wrappers.vector.RecordEpisodeStatistics(ToNumpy(R2RVectorEnv(1, **files(small_world))))
    else:
        env = gymnasium.wrappers.RecordEpisodeStatistics(R2REnv(**files(small_world)))
    env.reset(seed=0)
    env.step([1] if vector else 1)
    *_, info = env.step([0] if vector else 0)
    assert int(np.squeeze(info["episode"]["l"])) == 2


# Autoreset, beside Gymnasium's SyncVectorEnv over single environments.


class Played(gymnasium.Wrapper[dict[str, Any], int, dict[str, Any], int]):
    """An environment that takes its next episode from a list that several share."""

    def __init__(self, env: R2REnv, episodes: Iterator[int]) -> None:
        super().__init__(env)
        self.episodes = episodes

    def reset(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the next of them."""
        return self.env.reset(options={"episode": next(self.episodes)})


def stream(seed: int, total: int) -> Iterator[int]:
    """The episodes that a seed plays."""
    generator, _ = seeding.np_random(seed)
    return chain.from_iterable(generator.permutation(total).tolist() for _ in repeat(None))


def agree(world: World, ours: Any, theirs: Any, rows: np.ndarray) -> None:
    """Observation and info of the vector environment are those of the single ones, in these rows."""
    (observation, info), (expected, details) = ours, theirs
    for name, values in expected.items():
        if name != "instruction":
            np.testing.assert_array_equal(observation[name].numpy()[rows], values[rows], err_msg=name)
    episodes = [world.episodes.episodes[i] for i in info["episode_index"].tolist()]
    for i in np.flatnonzero(rows):
        assert expected["instruction"][i] == episodes[i].instruction
        assert details["instr_id"][i] == episodes[i].id
        assert details["viewpoint"][i] == world.tables.names[info["viewpoint"][i]]
    for name in ("position", "distance", "oracle_action"):
        np.testing.assert_array_equal(info[name].numpy()[rows], details[name][rows], err_msg=name)


def metrics_agree(info: Any, details: Any, ended: np.ndarray) -> None:
    assert ("metrics" in info) == ended.any()
    if ended.any():
        np.testing.assert_array_equal(info["_metrics"].numpy(), ended)
        for name in METRICS:
            np.testing.assert_array_equal(info["metrics"][name].numpy()[ended], details[name][ended], err_msg=name)
            assert np.isnan(info["metrics"][name].numpy()[~ended]).all()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mode", MODES)
def test_each_autoreset_mode_is_gymnasiums(world: World, mode: str, space: Any) -> None:
    envs, seed = 4, 11
    episodes = stream(seed, len(world.episodes))
    made = [lambda: Played(R2REnv(world=world, action_space=space, max_steps=7), episodes) for _ in range(envs)]
    theirs = SyncVectorEnv(made, autoreset_mode=mode)
    ours = R2RVectorEnv(envs, world=world, action_space=space, max_steps=7, autoreset=mode)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    every, rng = np.ones(envs, dtype=bool), np.random.default_rng(2)
    agree(world, ours.reset(seed=seed), theirs.reset(), every)
    ends = 0
    for _ in range(60):
        actions = randomly(ours, rng, stop=0.15)
        observation, reward, terminated, truncated, info = ours.step(torch.from_numpy(actions))
        expected, *numbers, details = theirs.step(actions)
        for values, theirs_values in zip((reward, terminated, truncated), numbers, strict=True):
            np.testing.assert_array_equal(values.numpy(), theirs_values)
        agree(world, (observation, info), (expected, details), every)
        ended = (terminated | truncated).numpy()
        ends += int(ended.sum())
        if mode == "SameStep":
            assert ("final_obs" in info) == ended.any()
            if ended.any():
                finals = details["final_obs"]  # None where nothing ended: there any other stands in
                some = next(each for each in finals if each is not None)
                batched = {name: np.array([(each or some)[name] for each in finals]) for name in some}
                agree(world, (info["final_obs"], info["final_info"]), (batched, details["final_info"]), ended)
                metrics_agree(info["final_info"], details["final_info"], ended)
                assert equal(info["metrics"], info["final_info"]["metrics"])
                assert info["_final_obs"].tolist() == info["_final_info"].tolist() == ended.tolist()
        else:
            metrics_agree(info, details, ended)
        if mode == "Disabled" and ended.any():
            after = ours.reset(options={"reset_mask": torch.from_numpy(ended)})
            agree(world, after, theirs.reset(options={"reset_mask": ended}), ended)
    assert ends > 20


def test_the_step_after_an_end_starts_the_next_episode_whatever_the_action(world: World) -> None:
    env = R2RVectorEnv(2, world=world)
    env.reset(seed=0)
    _, _, terminated, _, _ = env.step([0, 1])
    assert terminated.tolist() == [True, False]
    observation, reward, terminated, truncated, info = env.step([1, 1])
    assert observation["steps"].tolist() == [0, 2]
    assert observation["last_action"].tolist()[0] == -1
    assert (reward[0].item(), terminated[0].item(), truncated[0].item()) == (0.0, False, False)
    assert int(info["viewpoint"][0]) == int(world.episodes.start[info["episode_index"][0]])


def test_disabled_a_walk_that_ended_stays_as_it_is(world: World) -> None:
    env = R2RVectorEnv(2, world=world, autoreset=AutoresetMode.DISABLED)
    env.reset(options={"episodes": [0, 0]})
    before, *_ = env.step([0, 1])
    after, reward, terminated, truncated, info = env.step([1, 0])
    assert (reward[0].item(), terminated[0].item(), truncated[0].item()) == (0.0, False, False)
    assert terminated[1]
    assert all(torch.equal(before[name][0], after[name][0]) for name in before)
    assert info["_metrics"].tolist() == [False, True]
    assert env.ended.all()


def test_the_single_environment_is_not_stepped_after_its_end(world: World) -> None:
    env = R2REnv(world=world)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(RuntimeError, match="after the end of the episode; call reset"):
        env.step(0)


# Seeds, and what a result does not depend on.


def test_a_seed_plays_the_same_episodes_whatever_the_number_of_environments(world: World) -> None:
    expected = stream(7, len(world.episodes))
    first = [next(expected) for _ in range(24)]
    for envs in (1, 3, 8):
        env = R2RVectorEnv(envs, world=world, autoreset="SameStep")
        _, info = env.reset(seed=7)
        played = info["episode_index"].tolist()
        while len(played) < 24:
            played += env.step([STOP] * envs)[-1]["episode_index"].tolist()
        assert played[:24] == first
    assert sorted(first[:15]) == list(range(15))  # each episode once before any comes again


def test_a_reset_with_the_same_seed_starts_the_stream_again_and_one_without_goes_on(world: World) -> None:
    env = R2RVectorEnv(4, world=world)
    first = [env.reset(seed=1)[1]["episode_index"].tolist(), env.reset()[1]["episode_index"].tolist()]
    again = [env.reset(seed=1)[1]["episode_index"].tolist(), env.reset()[1]["episode_index"].tolist()]
    assert first == again
    assert first[0] != first[1]
    assert env.reset(seed=2)[1]["episode_index"].tolist() != first[0]


def test_without_a_seed_two_environments_play_different_episodes(world: World) -> None:
    streams = [[R2REnv(world=world).reset()[1]["episode_index"]] for _ in range(30)]
    assert len({tuple(played) for played in streams}) > 1


def test_a_walk_does_not_depend_on_what_is_walked_beside_it(world: World) -> None:
    rng = np.random.default_rng(0)
    for space in SPACES:
        actions = np.stack([randomly(R2RVectorEnv(15, world=world, action_space=space), rng) for _ in range(12)])  # type: ignore[arg-type]
        outcomes: dict[tuple[int, int], list[Any]] = {}
        for envs in (1, 3, 16):
            order = rng.permutation(15)
            for episodes in np.split(order, range(envs, 15, envs)):
                padded = np.resize(episodes, envs)
                env = R2RVectorEnv(envs, world=world, action_space=space, autoreset="Disabled", max_steps=9)  # type: ignore[arg-type]
                results = [env.reset(options={"episodes": padded})]
                for step in range(12):
                    observation, reward, terminated, truncated, info = env.step(actions[step][padded])
                    info.pop("metrics", None), info.pop("_metrics", None)  # only where some walk has just ended
                    results.append((observation | {"r": reward, "e": terminated | truncated}, info))
                for row, episode in enumerate(episodes):
                    mine = [[{k: v[row] for k, v in part.items()} for part in result] for result in results]
                    outcomes.setdefault((SPACES.index(space), int(episode)), []).append(mine)
        for each in outcomes.values():
            assert len(each) >= 3
            for other in each[1:]:
                assert all(
                    equal(a, b) for one, two in zip(each[0], other, strict=True) for a, b in zip(one, two, strict=True)
                )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("space", SPACES)
def test_no_tensor_that_was_handed_out_changes_later(world: World, space: Any, mode: str) -> None:
    def tensors(value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | tuple):
            for each in value.values() if isinstance(value, dict) else value:
                yield from tensors(each)

    env = R2RVectorEnv(4, world=world, action_space=space, autoreset=mode, max_steps=5)
    rng = np.random.default_rng(1)
    kept: list[tuple[Tensor, Tensor]] = []
    result: Any = env.reset(seed=0)
    for step in range(25):
        # The public attributes are handed out too.
        attributes = tuple(value for name, value in vars(env).items() if isinstance(value, Tensor) and name[0] != "_")
        kept += [(value, value.clone()) for value in tensors((result, attributes))]
        if step == 12:
            env.select(torch.tensor([1, 1, 0, 3]))
        result = env.reset() if mode == "Disabled" and bool(env.ended.all()) else env.step(randomly(env, rng))
    assert all(equal(value, copy) for value, copy in kept)


def test_what_is_handed_out_can_be_changed_without_harm(world: World) -> None:
    env, other = R2RVectorEnv(3, world=world), R2RVectorEnv(3, world=world)
    for each in (env, other):
        each.reset(seed=0)
    for _ in range(8):
        results = [each.step([1, 1, 1]) for each in (env, other)]
        assert equal(results[0][0], results[1][0])
        assert equal(results[0][-1], results[1][-1])
        for value in (*results[0][0].values(), *results[0][1:4]):
            value.zero_()
        for name in ("viewpoint", "distance", "position", "episode_index", "oracle_action"):
            results[0][-1][name].zero_()


def test_walks_begun_in_inference_mode_go_on_outside_it(world: World) -> None:
    env = R2RVectorEnv(2, world=world)
    with torch.inference_mode():
        env.reset(seed=0)
        env.step(torch.tensor([1, 1]))
        env.select(torch.tensor([1, 0]))
        observation, *_ = env.step(torch.tensor([1, 1]))
    weight = torch.ones(1, requires_grad=True)
    (observation["heading"] * weight).sum().backward()  # type: ignore[no-untyped-call]
    env.step(torch.tensor([1, 1]))
    env.reset()


# What an agent sees and what its actions do.


def test_panoramic_candidates_are_seen_from_the_agents_heading(world: World) -> None:
    env = R2RVectorEnv(1, world=world)
    observation, info = env.reset(options={"episodes": [0]})  # a0, heading 0.1
    assert observation["action_mask"].tolist() == [[True, True, True, False]]
    torch.testing.assert_close(observation["candidate_heading"], torch.tensor([[-0.1, -0.1, 0.0]]))
    assert observation["candidate_distance"].tolist() == [[3.0, 6.0, 0.0]]
    assert observation["candidate_visited"].tolist() == [[False, False, False]]
    assert info["position"].tolist() == [[0.0, 0.0, 1.5]]
    env.step(hop(env, "a1"))
    observation, reward, *_, info = env.step(hop(env, "a3"))
    assert observation["heading"].item() == pytest.approx(math.pi / 2)
    behind, left, straight = observation["candidate_heading"][0].tolist()
    assert (abs(behind), left, straight) == pytest.approx((math.pi, -math.pi / 2, 0.0), abs=1e-6)
    assert observation["candidate_visited"].tolist() == [[True, False, False]]
    assert reward.tolist() == [1.0]
    env.step(hop(env, "a5"))
    observation, *_, info = env.step(hop(env, "a6"))
    assert observation["elevation"].item() == pytest.approx(math.pi / 2)
    assert info["distance"].item() == 0.0
    right, ahead, up = observation["moved"][0].tolist()  # (6, 3, 3) seen from heading 0.1
    expected = (6 * math.cos(0.1) - 3 * math.sin(0.1), 6 * math.sin(0.1) + 3 * math.cos(0.1), 3.0)
    assert (right, ahead, up) == pytest.approx(expected, abs=1e-5)


def test_egocentric_actions_turn_tilt_and_go(world: World) -> None:
    env = R2RVectorEnv(1, world=world, action_space="egocentric")
    observation, _ = env.reset(options={"episodes": [0]})  # a0, heading 0.1: the nearest of the twelve is north
    assert (observation["heading"].item(), observation["elevation"].item()) == (0.0, 0.0)
    assert observation["ahead"].tolist() == [[0.0, 0.0, 3.0]]

    def poses(actions: list[int]) -> list[tuple[str, int, int]]:
        seen = []
        for action in actions:
            found, *_, info = env.step([action])
            degrees = [round(math.degrees(found[name].item())) for name in ("heading", "elevation")]
            seen.append((world.tables.names[int(info["viewpoint"])], degrees[0], degrees[1]))
        return seen

    assert poses([FORWARD, LEFT, RIGHT, RIGHT]) == [("a1", 0, 0), ("a1", 330, 0), ("a1", 0, 0), ("a1", 30, 0)]
    assert poses([UP, UP, DOWN, DOWN, DOWN]) == [("a1", 30, t) for t in (30, 30, 0, -30, -30)]
    assert poses([RIGHT, RIGHT, FORWARD]) == [("a1", 60, -30), ("a1", 90, -30), ("a3", 90, -30)]


def test_egocentric_ahead_is_where_forward_leads_seen_from_the_image_centre(world: World) -> None:
    env = R2RVectorEnv(1, world=world, action_space="egocentric")
    env.reset(options={"episodes": [3]})  # a2, heading 6.28: north
    for _ in range(5):
        observation, *_ = env.step([RIGHT])
    aside, above, metres = observation["ahead"][0].tolist()  # heading 150; a0 lies at 180
    assert (aside, above, metres) == pytest.approx((math.radians(30), 0.0, 6.0), abs=1e-6)
    observation, *_ = env.step([UP])
    assert observation["ahead"][0].tolist() == pytest.approx([math.radians(30), -math.radians(30), 6.0], abs=1e-6)


@pytest.mark.parametrize(
    ("space", "episode", "action"),
    [("panoramic", 0, 3), ("egocentric", 3, FORWARD), ("egocentric", 0, UP), ("egocentric", 0, DOWN)],
)
def test_an_action_that_leads_nowhere_does_nothing_and_takes_a_step(
    world: World, space: Any, episode: int, action: int
) -> None:
    env = R2RVectorEnv(1, world=world, action_space=space)
    before, info = env.reset(options={"episodes": [episode]})
    if action in (UP, DOWN) and space == "egocentric":
        before, *_, info = env.step([action])
    assert not before["action_mask"][0, action]
    after, reward, terminated, truncated, later = env.step([action])
    assert after["steps"].item() == before["steps"].item() + 1
    assert after["last_action"].item() == action
    for name in set(before) - {"steps", "last_action"}:
        assert torch.equal(before[name], after[name])
    assert equal(info, later)
    assert (reward.item(), terminated.item(), truncated.item()) == (0.0, False, False)


@pytest.mark.parametrize("space", SPACES)
def test_the_action_mask_is_true_where_an_action_changes_something(world: World, space: Any) -> None:
    env = R2RVectorEnv(16, world=world, action_space=space, autoreset="Disabled", max_steps=40)
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    for _ in range(30):
        actions = randomly(env, rng, stop=0.0)
        mask = observation["action_mask"][torch.arange(16), torch.from_numpy(actions)]
        before = torch.stack([env.viewpoint.float(), env.heading, env.elevation])
        observation, *_ = env.step(actions)
        moved = (torch.stack([env.viewpoint.float(), env.heading, env.elevation]) != before).any(dim=0)
        assert torch.equal(moved, mask)


@pytest.mark.parametrize("space", SPACES)
def test_from_a_viewpoint_that_is_joined_to_nothing_one_can_only_stop(world: World, space: Any) -> None:
    alone = replace(world.episodes.episodes[0], scan="beta", path=("b5",))
    env = R2RVectorEnv(1, world=world.with_episodes([alone]), action_space=space)
    observation, _ = env.reset()
    hops = observation["action_mask"][0, 1:] if space == "panoramic" else observation["action_mask"][0, [FORWARD]]
    assert not hops.any()
    ways = ("candidate_heading", "candidate_elevation", "candidate_distance") if space == "panoramic" else ("ahead",)
    assert all(observation[name].eq(0).all() for name in ways)
    env.step([1])
    assert torch.equal(env.viewpoint, at(world, "b5"))


def test_an_episode_is_cut_after_max_steps_and_not_when_it_stops_then(world: World) -> None:
    env = R2RVectorEnv(2, world=world, max_steps=2)
    env.reset(options={"episodes": [0, 0]})
    _, _, terminated, truncated, _ = env.step([1, 1])
    assert not (terminated | truncated).any()
    _, _, terminated, truncated, info = env.step([1, STOP])
    assert (terminated.tolist(), truncated.tolist()) == ([False, True], [True, False])
    assert info["_metrics"].tolist() == [True, True]


def test_a_reward_is_for_coming_nearer_and_for_stopping_within_three_metres(world: World) -> None:
    env = R2RVectorEnv(1, world=world)
    env.reset(options={"episodes": [3]})  # a2 to a3 by a1

    def reward(action: Tensor | list[int]) -> float:
        return float(env.step(action)[1])

    assert reward(hop(env, "a1")) == 1.0
    assert reward(hop(env, "a0")) == -1.0
    assert reward(hop(env, "a1")) == 1.0
    assert reward([STOP]) == -2.0  # 3.0 m is not under 3 m
    env.reset(options={"episodes": [9]})  # b0 to b2 by b1
    assert reward(hop(env, "b1")) == 1.0
    assert reward([STOP]) == 2.0  # 2.8 m


def test_the_instruction_is_cut_at_max_words_and_its_mask_ends_with_it(small_world: Path) -> None:
    world = read_world(small_world / "annotations", small_world / "connectivity", "train", max_words=4)
    observation, _ = R2RVectorEnv(2, world=world).reset(options={"episodes": [0, 1]})
    assert observation["instruction"].shape == observation["instruction_mask"].shape == (2, 4)
    assert world.tokenizer.decode(observation["instruction"][1].tolist()) == "walk past the door"
    assert observation["instruction_mask"].all()
    assert world.episodes.word_counts.tolist() == [4] * 15


# The oracles.


def followed(env: R2RVectorEnv, episodes: Tensor) -> tuple[list[list[str]], dict[str, Tensor]]:
    """The viewpoints of each walk that the oracle leads, turns left out, and the metrics at its end."""
    _, info = env.reset(options={"episodes": episodes})
    metrics = {name: torch.full((len(episodes),), math.nan, dtype=torch.float64) for name in METRICS}
    while not env.ended.all():
        *_, info = env.step(torch.where(env.ended, STOP, info["oracle_action"]))
        for name, values in info.get("metrics", {}).items():
            metrics[name] = torch.where(info["_metrics"], values, metrics[name])
    names = [[viewpoint for viewpoint, _, _ in walk] for walk in env.trajectories()]
    return [[here for here, after in pairwise([*walk, ""]) if here != after] for walk in names], metrics


@pytest.mark.parametrize("space", SPACES)
def test_the_oracle_leads_to_the_goal_and_stops(world: World, space: Any) -> None:
    every = torch.arange(15)
    env = R2RVectorEnv(15, world=world, action_space=space, max_steps=40, autoreset="Disabled")
    walks, metrics = followed(env, every)
    for walk, episode in zip(walks, world.episodes.episodes, strict=True):
        if space == "panoramic":
            assert walk == list(world.scans[episode.scan].shortest_path(episode.start, episode.goal))
    assert metrics["nav_error"].eq(0).all()
    torch.testing.assert_close(metrics["spl"], torch.ones(15, dtype=torch.float64))


@pytest.mark.parametrize("space", SPACES)
def test_the_reference_oracle_follows_the_annotated_path(world: World, space: Any) -> None:
    every = torch.arange(15)
    env = R2RVectorEnv(15, world=world, action_space=space, max_steps=40, autoreset="Disabled", oracle="reference")
    walks, metrics = followed(env, every)
    for walk, episode in zip(walks, world.episodes.episodes, strict=True):
        # Between a0, a1 and a2, which lie on a line, forward takes other hops than the path.
        passed = iter(walk)
        assert walk == list(episode.path) or (space == "egocentric" and all(place in passed for place in episode.path))
    assert metrics["nav_error"].eq(0).all()
    if space == "panoramic":
        assert metrics["ndtw"].eq(1).all()


def test_the_reference_oracle_leads_back_to_the_path_it_was_left_on(world: World) -> None:
    env = R2RVectorEnv(1, world=world, oracle="reference")
    _, info = env.reset(options={"episodes": [0]})  # a0 a1 a3 a5 a6
    *_, info = env.step(hop(env, "a2"))
    assert torch.equal(info["oracle_action"], hop(env, "a1"))
    env.step(hop(env, "a4"))
    *_, info = env.step(hop(env, "a3"))  # a1 was left out: back to it
    assert torch.equal(info["oracle_action"], hop(env, "a1"))
    env.step(hop(env, "a1"))
    *_, info = env.step(hop(env, "a3"))
    assert torch.equal(info["oracle_action"], hop(env, "a5"))


def test_the_reference_oracle_passes_a_goal_that_lies_on_the_way_but_stops_where_a_shortcut_led(world: World) -> None:
    path = ("a1", "a3", "a4", "a2", "a1", "a3")
    episode = Episode("r_0", "r", "alpha", path, heading=0.0, instruction="Go round.", language="en", number=0)
    env = R2RVectorEnv(1, world=world.with_episodes([episode]), oracle="reference", max_steps=20, autoreset="Disabled")
    walks, metrics = followed(env, torch.tensor([0]))
    assert walks == [list(path)]
    assert metrics["ndtw"].item() == 1.0
    shortcut = replace(episode, path=("a0", "a2", "a4", "a3"))
    env = R2RVectorEnv(1, world=world.with_episodes([shortcut]), oracle="reference")
    env.reset(options={"episodes": [0]})
    env.step(hop(env, "a1"))
    *_, info = env.step(hop(env, "a3"))
    assert info["oracle_action"].tolist() == [STOP]


# Metrics.


def by_hand(distances: np.ndarray, path: list[int], reference: list[int]) -> dict[str, float]:
    """The rules of the papers, written out for one walk."""
    metres = [[distances[r, p] for p in path] for r in reference]
    warp = {(-1, -1): 0.0}
    for i, row in enumerate(metres):
        for j, cost in enumerate(row):
            best = min(warp.get(cell, math.inf) for cell in ((i - 1, j), (i, j - 1), (i - 1, j - 1)))
            warp[i, j] = cost + best
    length = sum(distances[a, b] for a, b in pairwise(path))
    expected = sum(distances[a, b] for a, b in pairwise(reference))
    shortest, error, nearest = distances[reference[0], reference[-1]], metres[-1][-1], min(metres[-1])
    success = float(error < 3)
    ndtw = math.exp(-warp[len(reference) - 1, len(path) - 1] / (3 * len(reference)))
    coverage = sum(math.exp(-min(row) / 3) for row in metres) / len(reference)
    return {
        "length": length,
        "nav_error": error,
        "oracle_error": nearest,
        "steps": len(path) - 1,
        "success": success,
        "oracle_success": float(nearest < 3),
        "spl": success * shortest / max(length, shortest),
        "ndtw": ndtw,
        "sdtw": success * ndtw,
        "cls": coverage * (coverage * expected) / (coverage * expected + abs(coverage * expected - length)),
    }


@pytest.mark.parametrize("space", SPACES)
def test_the_metrics_at_the_end_are_those_of_the_judge_and_of_the_papers(world: World, space: Any) -> None:
    env = R2RVectorEnv(15, world=world, action_space=space, max_steps=12, autoreset="Disabled")
    env.reset(options={"episodes": range(15)})
    rng = np.random.default_rng(5)
    seen = 0
    while not env.ended.all():
        *_, info = env.step(randomly(env, rng, stop=0.2))
        walks = env.trajectories()
        for i in info.get("_metrics", torch.empty(0)).nonzero()[:, 0].tolist():
            episode = world.episodes.episodes[i]
            scan = world.scans[episode.scan]
            path = [scan.index[viewpoint] for viewpoint, _, _ in walks[i]]
            reference = [scan.index[viewpoint] for viewpoint in episode.path]
            found = {name: float(info["metrics"][name][i]) for name in METRICS}
            columns = scores(scan.distances, [path], [reference])
            assert found == pytest.approx({name: float(column[0]) for name, column in columns.items()}, abs=1e-12)
            assert found == pytest.approx(by_hand(scan.distances, path, reference), abs=1e-12)
            assert float(env.length[i]) == pytest.approx(found["length"], abs=1e-12)
            assert float(env.nearest[i]) == found["oracle_error"]
            seen += 1
    assert seen == 15


def test_metrics_can_be_left_out(world: World) -> None:
    env = R2RVectorEnv(2, world=world, measure=False)
    env.reset(seed=0)
    *_, info = env.step([STOP, STOP])
    assert set(info) == {"episode_index", "viewpoint", "position", "distance", "oracle_action"}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mode", MODES)
def test_where_the_goal_is_not_known_nothing_is_made_up(small_world: Path, space: Any, mode: str) -> None:
    world = read_world(small_world / "annotations", small_world / "connectivity", "test")
    assert not world.episodes.goal_known.any()
    env = R2RVectorEnv(3, world=world, action_space=space, max_steps=3, autoreset=mode)
    _, info = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(9):
        assert info["distance"].isnan().all()
        assert info["oracle_action"].eq(-1).all()
        _, reward, _, _, info = env.step(randomly(env, rng))
        assert reward.eq(0).all()
        assert "metrics" not in info
    single = R2REnv(world=world, action_space=space)
    single.reset(seed=0)
    *_, details = single.step(STOP)
    assert not set(METRICS) & set(details)


def test_known_and_unknown_goals_can_be_mixed(world: World) -> None:
    known, unknown = world.episodes.episodes[0], replace(world.episodes.episodes[0], id="t_0", path=("a0",))
    env = R2RVectorEnv(2, world=world.with_episodes([known, unknown]))
    _, info = env.reset(options={"episodes": [0, 1]})
    assert equal(info["distance"], torch.tensor([12.0, math.nan], dtype=torch.float64))
    _, reward, *_ = env.step(hop(env, "a1"))
    assert reward.tolist() == [1.0, 0.0]
    *_, info = env.step([STOP, STOP])
    assert info["_metrics"].tolist() == [True, False]
    assert info["metrics"]["length"].isnan().tolist() == [False, True]


# Image features.


def features_of(world: World, dim: int = 3) -> np.ndarray:
    """(viewpoints, 36, dim): the viewpoint's number, the view's, and 1"""
    rows, views = np.meshgrid(np.arange(len(world.tables.names)), np.arange(VIEWS), indexing="ij")
    return np.stack([rows, views, np.ones_like(rows)], axis=-1).astype(np.float16)[..., :dim]


@pytest.fixture
def seeing(world: World, tmp_path: Path) -> World:
    # The file's order is not the graphs'.
    names = list(world.tables.index)[::-1]
    rows = [world.tables.index[name] for name in names]
    return replace(
        world, features=Features(tmp_path, {name: i for i, name in enumerate(names)}, features_of(world)[rows])
    )


def test_a_candidates_view_is_the_one_nearest_its_direction(seeing: World) -> None:
    env = R2RVectorEnv(2, world=seeing, all_views=True)
    env.reset(options={"episodes": [0, 9]})  # a0, b0
    observation, *_ = env.step([int(hop(env, "a1")[0]), int(hop(env, "b1")[1])])
    views = observation["candidate_views"]
    assert (views.shape, views.dtype) == ((2, 3, 3), torch.float32)
    north, east, south = 12, 12 + 3, 12 + 6  # level: row 1 of 3
    expected = [[float(at(seeing, "a1")), view, 1.0] for view in (south, north, east)]  # to a0, a2, a3
    assert views[0].tolist() == expected
    to_b0 = math.atan2(-2, -1.5) % (2 * math.pi)
    to_b2 = math.atan2(-1, 2.5) % (2 * math.pi)
    columns = [round(heading / TURN) % HEADINGS for heading in (to_b0, to_b2)]
    elevations = [round(math.atan2(rise, flat) / TURN) for rise, flat in ((-0.1, 2.5), (0.8, math.hypot(1, 2.5)))]
    assert elevations == [0, 1]
    beta = [[float(at(seeing, "b1")), (1 + row) * 12.0 + c, 1.0] for c, row in zip(columns, elevations, strict=True)]
    assert views[1].tolist() == [*beta, [0.0, 0.0, 0.0]]  # nothing in the slot without a candidate
    every = torch.from_numpy(features_of(seeing)).float()
    assert torch.equal(observation["views"], every[env.viewpoint])
    assert "views" not in R2RVectorEnv(1, world=seeing).reset()[0]


def test_the_egocentric_view_is_that_of_the_pose(seeing: World) -> None:
    env = R2RVectorEnv(1, world=seeing, action_space="egocentric")
    observation, _ = env.reset(options={"episodes": [0]})
    assert observation["view"].tolist() == [[float(at(seeing, "a0")), 12.0, 1.0]]
    for action, viewpoint, view in ((FORWARD, "a1", 12), (LEFT, "a1", 23), (UP, "a1", 35), (RIGHT, "a1", 24)):
        observation, *_ = env.step([action])
        assert observation["view"].tolist() == [[float(at(seeing, viewpoint)), view, 1.0]]


@pytest.mark.parametrize("space", SPACES)
def test_features_are_read_from_their_file_and_lie_in_the_space(
    small_world: Path, world: World, tmp_path: Path, space: Any
) -> None:
    names = list(world.tables.index)
    np.save(tmp_path / DATA, features_of(world))
    index = {"format": FORMAT, "version": VERSION, "dtype": "float16", "dim": 3, "source": {}, "rows": names}
    (tmp_path / INDEX).write_text(json.dumps(index))
    env = ToNumpy(R2RVectorEnv(3, **files(small_world), features=tmp_path, action_space=space, all_views=True))
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        assert observation in env.observation_space
        observation, *_ = env.step(env.action_space.sample())
    check_env(gymnasium.make("vlkit/R2R-v0", **files(small_world), features=tmp_path, action_space=space).unwrapped)
    np.save(tmp_path / DATA, features_of(world)[1:])
    (tmp_path / INDEX).write_text(json.dumps(index | {"rows": names[1:]}))
    with pytest.raises(UserError, match="no features for 1 of 13 viewpoints in 1 scans, first alpha a0"):
        read_world(**files(small_world), features=tmp_path)


# Mistakes.


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        ("panoramic", [1, 4], "action 4 of environment 1 is none of the integers 0 to 3"),
        ("panoramic", [-1, 0], "action -1 of environment 0 is none of the integers 0 to 3"),
        ("egocentric", [0, 6], "action 6 of environment 1 is none of the integers 0 to 5"),
        ("egocentric", np.array([math.nan, 0.0]), "action nan of environment 0 is none of the integers 0 to 5"),
        ("panoramic", np.array([1.0, 1.0]), r"action 1.0 of environment 0 .* \(actions are torch.float64\)"),
        ("panoramic", [True, False], r"action True of environment 0 .*torch.bool"),
        ("panoramic", [1], r"actions have shape \(1,\); expected \(2,\), one an environment"),
        ("panoramic", [[1, 1]], r"actions have shape \(1, 2\)"),
        ("panoramic", 1, r"actions have shape \(\); expected \(2,\)"),
    ],
)
def test_an_action_that_is_none_is_named_with_its_environment_and_the_limit(
    world: World, space: Any, actions: Any, message: str
) -> None:
    env = R2RVectorEnv(2, world=world, action_space=space)
    env.reset(options={"episodes": [0, 0]})
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.steps.tolist() == [0, 0]  # nothing was done by halves


@pytest.mark.parametrize("action", [4, -1, 1.5, math.nan, True, [1], None])
def test_the_single_environment_refuses_what_is_no_action(world: World, action: Any) -> None:
    env = R2REnv(world=world)
    env.reset(seed=0)
    with pytest.raises((ValueError, TypeError)):
        env.step(action)


def test_a_step_before_the_first_reset_is_refused(world: World) -> None:
    with pytest.raises(RuntimeError, match="step was called before reset; call reset first"):
        R2RVectorEnv(2, world=world).step([0, 0])
    with pytest.raises(RuntimeError, match="before the first reset"):
        R2RVectorEnv(2, world=world).reset(options={"reset_mask": [True, False]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": [0, 15]}, r"options\['episodes'\] holds 15; the split has episodes 0 to 14"),
        ({"episodes": [-1, 0]}, "holds -1"),
        ({"episodes": [0]}, r"shape \(1,\); expected 2 integers"),
        ({"episodes": [0.0, 1.0]}, "torch.float32 of shape"),
        ({"episode": 3}, "options has the key 'episode'. Did you mean 'episodes'"),
        ({"reset_mask": [1, 0]}, r"torch.int64 of shape \(2,\) with 1 true; expected bool of shape \(2,\)"),
        ({"reset_mask": [True]}, r"of shape \(1,\)"),
        ({"reset_mask": np.zeros(2, dtype=bool)}, "with 0 true"),
        ({"reset_mask": [True, False], "episodes": [1, 2]}, r"of shape \(2,\); expected 1 integers"),
    ],
)
def test_a_wrong_reset_option_is_named_with_its_limit(world: World, options: dict[str, Any], message: str) -> None:
    env = R2RVectorEnv(2, world=world)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


def test_the_single_environment_names_a_wrong_episode(world: World) -> None:
    env = R2REnv(world=world)
    with pytest.raises(ValueError, match="holds 99; the split has episodes 0 to 14"):
        env.reset(options={"episode": 99})
    with pytest.raises(ValueError, match="Did you mean 'episode'"):
        env.reset(options={"episodes": [0]})


def test_a_reset_mask_starts_those_alone_anew(world: World) -> None:
    env = R2RVectorEnv(3, world=world)
    env.reset(options={"episodes": [0, 1, 2]})
    env.step(hop(env, "a1"))
    observation, info = env.reset(options={"reset_mask": np.array([False, True, False]), "episodes": [9]})
    assert info["episode_index"].tolist() == [0, 9, 2]
    assert observation["steps"].tolist() == [1, 0, 1]
    assert [world.tables.names[i] for i in info["viewpoint"].tolist()] == ["a1", "b0", "a1"]
    assert observation["candidate_visited"][1].any().item() is False
    assert [len(walk) for walk in env.trajectories()] == [2, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_space": "panoramc"}, "action_space is 'panoramc'. Did you mean 'panoramic'"),
        ({"oracle": "path"}, "oracle is 'path'; known: goal"),
        ({"autoreset": "SameStop"}, "autoreset is 'SameStop'. Did you mean 'SameStep'"),
        ({"num_envs": 0}, "num_envs is 0; at least 1"),
        ({"max_steps": 0}, "max_steps is 0; at least 1"),
        ({"device": "gpu"}, "device is 'gpu'; known are cpu, cuda"),
        ({"device": "meta"}, "device is 'meta', on which this environment cannot run; use cpu or cuda"),
        ({"split": "train"}, "a world= holds its annotations, graphs"),
        ({"world": None}, "R2R needs annotations=FILE_OR_FOLDER and connectivity=FOLDER"),
    ],
)
def test_a_wrong_argument_is_named(world: World, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        R2RVectorEnv(**{"world": world, **options})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_that_is_not_there_is_refused_with_a_remedy(small_world: Path, world: World) -> None:
    message = "device cuda.* was asked for, but torch finds 0 CUDA devices here; use device='cpu'"
    with pytest.raises(UserError, match=message):
        read_world(**files(small_world), device="cuda")
    with pytest.raises(UserError, match=message):
        R2RVectorEnv(1, **files(small_world), device="cuda:1")
    with pytest.raises(UserError, match=message):
        R2RVectorEnv(1, world=world, device=torch.device("cuda"))
    assert R2RVectorEnv(1, world=world, device="cpu").device == torch.device("cpu")


def test_a_path_that_does_not_fit_its_graph_is_refused(world: World) -> None:
    episode = world.episodes.episodes[0]
    for path in (("a0", "x"), ("a0", "b1"), ("nowhere",)):
        message = f"episode 10_0: viewpoint '{path[-1]}' is not in the graph of scan 'alpha', or is excluded there"
        with pytest.raises(UserError, match=message):
            world.with_episodes([replace(episode, path=path)])
    with pytest.raises(UserError, match="episode 10_0: scan 'beta' has no way from b0 to b5"):
        world.with_episodes([replace(episode, scan="beta", path=("b0", "b5"))])
    with pytest.raises(UserError, match="no episode to play"):
        world.with_episodes([])


def test_a_starting_heading_outside_a_turn_is_brought_into_it(world: World) -> None:
    episodes = [replace(world.episodes.episodes[0], id=f"{i}_0", heading=h) for i, h in enumerate((-1.0, 7.0, 100.0))]
    env = ToNumpy(R2RVectorEnv(3, world=world.with_episodes(episodes)))
    observation, _ = env.reset(options={"episodes": [0, 1, 2]})
    assert observation in env.observation_space
    assert observation["heading"].tolist() == pytest.approx([h % (2 * math.pi) for h in (-1.0, 7.0, 100.0)])


# Handing walks on.


def test_trajectories_are_what_a_submission_wants(world: World) -> None:
    env = R2RVectorEnv(2, world=world, action_space="egocentric")
    env.reset(options={"episodes": [0, 3]})
    env.step([FORWARD, LEFT])
    env.step([RIGHT, UP])
    first, second = env.trajectories()
    assert [viewpoint for viewpoint, _, _ in first] == ["a0", "a1", "a1"]
    assert [value for _, *pose in second for value in pose] == pytest.approx(
        [0.0, 0.0, 11 * TURN, 0.0, 11 * TURN, TURN], abs=1e-6
    )
    json.dumps([first, second])


def test_selected_walks_go_on_as_the_ones_they_copy(world: World) -> None:
    env = R2RVectorEnv(4, world=world, autoreset="Disabled")
    env.reset(options={"episodes": [0, 1, 9, 12]})
    env.step([1, 2, 1, 1])
    before = env.trajectories()
    env.select(torch.tensor([2, 0, 0, 1]))
    assert env.trajectories() == [before[2], before[0], before[0], before[1]]
    *_, info = env.step([1, 1, 2, 1])
    assert info["episode_index"].tolist() == [9, 0, 0, 1]
    assert len({tuple(map(tuple, walk)) for walk in env.trajectories()}) == 4
    with pytest.raises(ValueError, match=r"rows has shape \(2,\); expected \(4,\)"):
        env.select(torch.tensor([0, 1]))


def test_a_world_can_be_sent_to_another_process(world: World) -> None:
    copied = cloudpickle.loads(cloudpickle.dumps(world))
    results = [R2RVectorEnv(3, world=each, action_space="egocentric").reset(seed=5) for each in (world, copied)]
    assert equal(results[0][0], results[1][0])
    assert world.to("cpu").tables is world.tables


# The published data.


@pytest.fixture(scope="module")
def val_unseen(reference: Path) -> World:
    return read_world(reference / "r2r" / "annotations", reference / "r2r" / "connectivity", "val_unseen")


@pytest.mark.reference
def test_the_shortest_agents_published_length_is_met(val_unseen: World) -> None:
    total = len(val_unseen.episodes)
    env = R2RVectorEnv(total, world=val_unseen, max_steps=30, autoreset="Disabled")
    _, metrics = followed(env, torch.arange(total))
    assert round(float(metrics["length"].mean()), 2) == 9.48
    assert metrics["nav_error"].eq(0).all()
    torch.testing.assert_close(metrics["spl"], torch.ones(total, dtype=torch.float64))


@pytest.mark.reference
def test_the_reference_oracle_walks_every_published_path(val_unseen: World) -> None:
    total = len(val_unseen.episodes)
    env = R2RVectorEnv(total, world=val_unseen, oracle="reference", max_steps=30, autoreset="Disabled")
    walks, metrics = followed(env, torch.arange(total))
    assert walks == [list(episode.path) for episode in val_unseen.episodes.episodes]
    assert round(100 * float(metrics["spl"].mean()), 2) == 99.84


@pytest.mark.reference
def test_the_classic_oracle_reaches_every_published_goal_within_sixty_steps(val_unseen: World) -> None:
    total = len(val_unseen.episodes)
    env = R2RVectorEnv(total, world=val_unseen, action_space="egocentric", max_steps=60, autoreset="Disabled")
    _, metrics = followed(env, torch.arange(total))
    assert metrics["nav_error"].eq(0).all()


@pytest.mark.reference
@pytest.mark.parametrize("space", SPACES)
def test_observations_in_published_graphs_lie_in_their_space(val_unseen: World, space: Any) -> None:
    env = ToNumpy(R2RVectorEnv(64, world=val_unseen, action_space=space))
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        assert observation in env.observation_space
        observation, *_ = env.step(randomly(env.unwrapped, rng))  # type: ignore[arg-type]
    check_env(R2REnv(world=val_unseen, action_space=space), skip_render_check=True)
