"""The continuous environment: actions, measures, streams of episodes, and clear words about what cannot be walked."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import vlkit.envs
from vlkit.envs import measures
from vlkit.envs.episodes import Episode, GroundTruth
from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.house import House
from vlkit.envs.house.mesh import house_scene
from vlkit.envs.navigation import (
    FORWARD,
    LEFT,
    METRICS,
    RIGHT,
    STOP,
    HouseNavEnv,
    NavigationVectorEnv,
    path_measures,
)
from vlkit.envs.simulator.batch import BatchSimulator
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError


def house(number: int = 0) -> House:
    return random_house(f"n{number}", "starter", 21)


SCENES: dict[str, SceneData] = {f"n{number}.glb": house_scene(house(number)) for number in (0, 1)}


def episode(name: str = "1", *, scene: int = 0, start: int = 0) -> Episode:
    """Straight through the first opening of a room, from 0.8 m before it to 0.8 m behind."""
    rooms = house(scene)
    opening = rooms.openings_of[start][0]
    x, z = opening.centre
    dx, dz = (0.0, 0.8) if opening.along == "x" else (0.8, 0.0)
    ends = ((x - dx, 0.0, z - dz), (x + dx, 0.0, z + dz))
    yaw = math.pi if opening.along == "x" else -math.pi / 2
    room = rooms.room_at(ends[1])
    assert room is not None
    return Episode(
        id=name,
        trajectory_id=name,
        scene=f"n{scene}.glb",
        start_position=ends[0],
        start_rotation=(0.0, math.sin(yaw / 2), 0.0, math.cos(yaw / 2)),
        goal=ends[1],
        radius=0.5,
        geodesic_distance=1.6,
        instruction="Go through the door and stop.",
        reference_path=ends,
        level="standard",
        room=room.id,
    )


def made(episodes: Sequence[Episode] | None = None, num_envs: int = 1, **options: Any) -> NavigationVectorEnv:
    chosen = [episode()] if episodes is None else list(episodes)
    defaults: dict[str, Any] = {"scenes": SCENES, "size": 16, "device": "cpu", "threads": 1, "autoreset": "Disabled"}
    return NavigationVectorEnv(num_envs, episodes=chosen, **defaults | options)


def walked(env: NavigationVectorEnv, *actions: int) -> dict[str, Any]:
    env.reset()
    info: dict[str, Any] = {}
    for action in actions:
        *_, info = env.step([action] * env.num_envs)
    return info


def test_walking_ahead_and_stopping_near_the_goal_succeeds() -> None:
    info = walked(made(), *[FORWARD] * 5, STOP)
    metrics = {name: float(value[0]) for name, value in info["metrics"].items()}
    assert list(metrics) == list(METRICS)
    assert metrics["path_length"] == pytest.approx(1.25, abs=1e-3)
    assert metrics["distance_to_goal"] == pytest.approx(0.35, abs=0.02)
    assert metrics["success"] == metrics["oracle_success"] == metrics["goal_room"] == 1
    assert metrics["spl"] == pytest.approx(1.0)  # the walk is shorter than the way to the goal itself
    assert (metrics["steps"], metrics["collisions"]) == (6, 0)


def test_success_takes_stop_and_the_goals_room() -> None:
    info = walked(made(max_steps=5), *[FORWARD] * 5)
    assert (float(info["metrics"]["success"][0]), float(info["metrics"]["oracle_success"][0])) == (0, 1)
    other = next(room.id for room in house().rooms if room.id != episode().room)
    info = walked(made([replace(episode(), room=other)]), *[FORWARD] * 5, STOP)
    assert float(info["metrics"]["success"][0]) == 0
    info = walked(made([replace(episode(), room=None)]), *[FORWARD] * 5, STOP)
    assert float(info["metrics"]["success"][0]) == 1


@pytest.mark.parametrize(("level", "degrees"), [("standard", 15), ("starter", 30), (None, 15)])
def test_turns_are_of_15_degrees_and_of_30_for_starters(level: str | None, degrees: float) -> None:
    env = made([replace(episode(), level=level)])
    _, info = env.reset()
    before = float(info["yaw"][0])
    *_, info = env.step([LEFT])
    turned = (float(info["yaw"][0]) - before + math.pi) % (2 * math.pi) - math.pi
    assert math.degrees(turned) == pytest.approx(degrees, abs=1e-3)
    *_, info = env.step([RIGHT])
    assert math.cos(float(info["yaw"][0]) - before) == pytest.approx(1.0, abs=1e-9)


def test_the_goal_lies_ahead_and_turns_with_the_agent() -> None:
    env = made()
    env.reset()
    assert env.goal_offset()[0].tolist() == pytest.approx([1.6, 0.0, 0.0], abs=0.02)
    env.step([FORWARD])
    assert env.goal_offset()[0].tolist() == pytest.approx([1.35, 0.0, 0.0], abs=0.02)
    for _ in range(6):
        env.step([LEFT])
    assert env.goal_offset()[0].tolist() == pytest.approx([0.0, -1.35, 0.0], abs=0.02), "it is to the right then"


def test_the_expert_reaches_every_goal() -> None:
    env = made([episode("1"), episode("2", scene=1)], num_envs=2)
    _, info = env.reset(options={"episodes": [0, 1]})
    for _ in range(60):
        *_, info = env.step(info["oracle_action"])
        if bool(env.ended.all()):
            break
    assert env.metrics()["success"].tolist() == [1, 1]
    assert [trajectory.actions[-1] for trajectory in env.trajectories()] == [STOP, STOP]


def test_nothing_depends_on_how_many_environments_there_are() -> None:
    episodes = [episode("1"), episode("2", scene=1), episode("3", start=1)]
    script = [FORWARD, LEFT, FORWARD, FORWARD, RIGHT, FORWARD, STOP]
    together = made(episodes, num_envs=3)
    observation, _ = together.reset(options={"episodes": [0, 1, 2]})
    reward = torch.zeros(3)
    for action in script:
        observation, reward, *_ = together.step([action] * 3)
    for number in range(3):
        alone = made(episodes)
        seen, _ = alone.reset(options={"episodes": [number]})
        own = torch.zeros(1)
        for action in script:
            seen, own, *_ = alone.step([action])
        assert torch.equal(seen["rgb"][0], observation["rgb"][number])
        assert torch.equal(seen["depth"][0], observation["depth"][number])
        assert torch.equal(own[0], reward[number])
        for name, value in alone.metrics().items():
            assert float(value[0]) == float(together.metrics()[name][number]), name


def test_the_oracle_stops_where_spl_was_most() -> None:
    env = made()
    env.reset()
    for action in [FORWARD] * 5:
        env.step([action])
    there = env.metrics()
    for action in [LEFT] * 12 + [FORWARD] * 8:
        env.step([action])
    away = env.metrics()
    assert float(there["oracle_success"][0]) == float(away["oracle_success"][0]) == 1
    assert float(away["oracle_spl"][0]) == float(there["oracle_spl"][0]) > 0.9, "longer ways behind it change nothing"
    assert float(away["success"][0]) == float(away["spl"][0]) == 0


def test_who_begins_anew_keeps_its_goal_while_others_come_and_go() -> None:
    env = made([episode("1"), episode("2", scene=1), episode("3", start=1)], num_envs=2, autoreset="Disabled")
    env.simulator.nav.most_goals = 2
    env.reset(options={"episodes": [0, 1]})
    for number in (2, 1, 2, 1):
        _, info = env.reset(options={"reset_mask": [False, True], "episodes": [number]})
        alone = made([episode("1"), episode("2", scene=1), episode("3", start=1)])
        _, own = alone.reset(options={"episodes": [0]})
        assert float(info["distance"][0]) == float(own["distance"][0])


def test_measures_are_those_of_the_judge_of_graphs() -> None:
    generator = np.random.default_rng(0)
    path = generator.normal(size=(1, 9, 3)).cumsum(axis=1)
    path[0, 4] = path[0, 3]  # a turn on the spot
    reference = generator.normal(size=(1, 6, 3)).cumsum(axis=1)
    found = path_measures(
        path,
        np.array([9]),
        reference,
        np.array([6]),
        success=np.ones(1),
        oracle_success=np.ones(1),
        oracle_spl=np.ones(1),
        shortest=np.array([2.0]),
        radius=np.full(1, 3.0),
    )
    moved = np.delete(path[0], 4, axis=0)
    length = np.linalg.norm(np.diff(moved, axis=0), axis=1).sum(keepdims=True)
    expected = measures.scores_of(
        np.linalg.norm(reference[0][:, None] - moved[None], axis=2)[None],
        counts=np.array([8]),
        reference_counts=np.array([6]),
        length=length,
        reference_length=np.linalg.norm(np.diff(reference[0], axis=0), axis=1).sum(keepdims=True),
        shortest=np.array([2.0]),
    )
    assert found["path_length"] == pytest.approx(length)
    assert found["ndtw"] == pytest.approx(expected["ndtw"])
    assert found["cls"] == pytest.approx(expected["cls"])
    assert found["spl"] == pytest.approx(measures.spl(np.ones(1), length, np.array([2.0])))


def test_ndtw_and_cls_of_a_path_known_by_heart() -> None:
    """Two of three points met: DTW is 0 + 0 + 1, so nDTW is exp(-1 / 9); coverage is (1 + 1 + exp(-1 / 3)) / 3."""
    reference = np.array([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]])
    found = path_measures(
        np.array([[[0.0, 0, 0], [1, 0, 0]]]),
        np.array([2]),
        reference,
        np.array([3]),
        success=np.ones(1),
        oracle_success=np.ones(1),
        oracle_spl=np.ones(1),
        shortest=np.array([2.0]),
        radius=np.full(1, 3.0),
    )
    assert found["ndtw"] == pytest.approx(math.exp(-1 / 9))
    coverage = (2 + math.exp(-1 / 3)) / 3
    expected = coverage * 2
    assert found["cls"] == pytest.approx(coverage * expected / (expected + abs(expected - 1)))


def test_a_demonstration_is_the_reference_where_there_is_one() -> None:
    locations = (episode().start_position, (0.0, 0.0, 0.0), episode().goal)
    env = made(ground_truth={"1": GroundTruth(locations, (1, 1, 0), 2)})
    np.testing.assert_allclose(env.reference(0), np.array(locations))


def test_next_step_autoreset_begins_the_next_episode_of_the_stream() -> None:
    env = made([episode("1"), episode("2", scene=1)], autoreset="NextStep")
    _, info = env.reset(seed=1)
    first = int(info["episode"][0])
    _, _, terminated, _, info = env.step([STOP])
    assert bool(terminated[0])
    assert bool(info["_metrics"][0])
    observation, reward, terminated, _, info = env.step([FORWARD])
    assert (int(info["episode"][0]), int(info["steps"][0]), int(observation["last_action"][0])) == (1 - first, 0, -1)
    assert (float(reward[0]), bool(terminated[0])) == (0.0, False)


def test_same_step_autoreset_keeps_the_last_observation() -> None:
    env = made([episode("1"), episode("2", scene=1)], autoreset="SameStep")
    before, _ = env.reset(seed=1)
    pictures = before["rgb"].clone()
    observation, _, _, _, info = env.step([STOP])
    assert torch.equal(info["final_obs"]["rgb"], pictures)
    assert not torch.equal(observation["rgb"], pictures)
    assert int(info["steps"][0]) == 0


def test_the_single_environment_passes_gymnasiums_checker() -> None:
    env = HouseNavEnv(episodes=[episode()], scenes=SCENES, size=16, device="cpu", threads=1)
    check_env(env, skip_render_check=True)


def test_the_ids_make_both() -> None:
    options: dict[str, Any] = {"episodes": [episode()], "scenes": SCENES, "size": 16, "device": "cpu"}
    env = gymnasium.make("vlkit/HouseNav-v0", render_mode="rgb_array", **options)
    observation, info = env.reset(seed=0)
    assert observation["instruction"] == "Go through the door and stop."
    assert info["episode_id"] == "1"
    shown: Any = env.render()
    assert np.array_equal(shown, observation["rgb"])
    envs = gymnasium.make_vec("vlkit/HouseNav-v0", num_envs=2, **options)
    assert envs.reset(seed=0)[0]["rgb"].shape == (2, 16, 16, 3)
    assert vlkit.envs.__doc__


def test_a_missing_scene_is_told_with_its_episode() -> None:
    with pytest.raises(UserError, match=r"episode 7 \(and 0 more\) walks in gone\.glb, which is not among the scenes"):
        made([replace(episode("7"), scene="gone.glb")])


def test_an_episode_off_the_ground_is_told_and_may_be_skipped_and_counted() -> None:
    bad = replace(episode("9"), start_position=(500.0, 0.0, 0.0))
    with pytest.raises(UserError, match=r"episode 9 starts at \(500\.00, 0\.00, 0\.00\), which is not on walkable"):
        made([episode(), bad])
    env = made([episode(), bad], skip=True)
    assert (env.skipped, [each.id for each in env.episodes]) == (1, ["1"])
    with pytest.raises(UserError, match="1 of 1 episodes"):
        made([bad], skip=True)


def test_a_room_that_the_scene_lacks_is_told() -> None:
    with pytest.raises(UserError, match=r"has its goal in room 99, and n0\.glb has no such room"):
        made([replace(episode(), room=99)])


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        ([4], "action 4 of environment 0"),
        ([1, 1], "expected \\(1,\\)"),
        ([1.0], "are torch.float"),
        ([-1], "action -1"),
    ],
)
def test_wrong_actions_are_told(actions: list[Any], complaint: str) -> None:
    env = made()
    env.reset()
    with pytest.raises(ValueError, match=complaint):
        env.step(actions)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"stop_m": 0}, "stop_m is 0"),
        ({"autoreset": "Never"}, "autoreset is 'Never'"),
        ({"scenes": None}, "needs their scenes"),
        ({"data": "there"}, "either episodes or a folder"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        made(**options)


def test_steps_before_a_reset_and_unknown_options_are_errors() -> None:
    env = made()
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step([STOP])
    with pytest.raises(ValueError, match="Did you mean 'episodes'"):
        env.reset(options={"episode": [0]})
    with pytest.raises(ValueError, match="the split has episodes 0 to 0"):
        env.reset(options={"episodes": [1]})


class FogSimulator:
    """A simulator that is none of ours, but for what it hands on: everything looks gray in it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.inner = BatchSimulator(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _fogged(self, seen: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return seen | {"rgb": torch.full_like(seen["rgb"], 128)}

    def render(self) -> dict[str, torch.Tensor]:
        return self._fogged(self.inner.render())

    def step(self, actions: torch.Tensor) -> dict[str, torch.Tensor]:
        return self._fogged(self.inner.step(actions))


def test_any_simulator_will_do() -> None:
    ours, other = made(), made(simulator=FogSimulator)
    ours.reset()
    observation, _ = other.reset()
    assert set(observation["rgb"].flatten().tolist()) == {128}
    for action in (FORWARD, LEFT, FORWARD):
        *_, info = ours.step([action])
        observation, *_, told = other.step([action])
        assert set(observation["rgb"].flatten().tolist()) == {128}
        torch.testing.assert_close(told["position"], info["position"])
        torch.testing.assert_close(told["distance"], info["distance"])
