import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from vlkit.envs.simulator.batch import FORWARD, LEFT, RIGHT, Agent, BatchSimulator, Sensor
from vlkit.envs.simulator.camera import Camera
from vlkit.envs.simulator.navgrid import NavSettings
from vlkit.envs.simulator.noise import GaussianDepth, GaussianMotion
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

SMALL = Camera(height=16, width=16)
DEPTH = {"depth": Sensor("depth", SMALL)}


def simulator(*scenes: SceneData, num_envs: int = 4, **options: Any) -> BatchSimulator:
    settings: dict[str, Any] = {"sensors": DEPTH, "device": "cpu", "seed": 1} | options
    return BatchSimulator(scenes, num_envs, **settings)


def test_environments_are_spread_over_the_scenes_and_can_be_sent_to_others(hall: SceneData, yard: SceneData) -> None:
    both = simulator(hall, yard, num_envs=5)
    assert both.reset()["scene"].tolist() == [0, 1, 0, 1, 0]
    place = torch.tensor([[-2.0, 0.0, 0.0]])
    seen = both.reset(torch.tensor([2]), scene=torch.tensor([1]), position=place, yaw=torch.zeros(1))
    assert seen["scene"].tolist() == [0, 1, 1, 1, 0]
    inside = both.reset(torch.tensor([0]), position=place, yaw=torch.zeros(1))["depth"].clone()
    assert float(inside[0, 8, 8]) == pytest.approx(2.0, abs=0.02)  # the hall's wall
    assert float(inside[2, 8, 8]) != pytest.approx(2.0, abs=0.02)  # the yard has none


def test_an_environments_walk_depends_on_neither_the_number_of_others_nor_threads(hall: SceneData) -> None:
    noisy = Agent(noise=GaussianMotion())
    sensors = {"depth": Sensor("depth", SMALL, noise=GaussianDepth(share=0.05))}
    actions = torch.tensor([FORWARD, LEFT, FORWARD, RIGHT, FORWARD])
    ends = []
    for num_envs, threads in ((2, 1), (7, 2)):
        walks = simulator(hall, num_envs=num_envs, sensors=sensors, agent=noisy, threads=threads)
        walks.reset()
        for action in actions:
            observation = walks.step(action.expand(num_envs))
        ends.append({name: value[:2].clone() for name, value in observation.items()})
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=0, atol=0)


def test_another_seed_and_another_episode_begin_elsewhere(hall: SceneData) -> None:
    walks = simulator(hall)
    first, second = (walks.reset()["pose"].clone() for _ in range(2))
    assert not torch.equal(first, second)
    again = simulator(hall)
    torch.testing.assert_close(again.reset()["pose"], first, rtol=0, atol=0)
    assert not torch.equal(simulator(hall, seed=2).reset()["pose"], first)


def test_a_panorama_is_what_one_sees_by_turning(hall: SceneData) -> None:
    pans = (0.0, 90.0, 180.0, 270.0)
    sensors = {"around": Sensor("depth", SMALL, pans_deg=pans), "depth": Sensor("depth", SMALL)}
    walks = simulator(hall, sensors=sensors, agent=Agent(turn_deg=90.0))
    seen = walks.reset()
    around = seen["around"].clone()
    assert around.shape == (4, 4, 16, 16)
    for number in range(4):
        torch.testing.assert_close(seen["depth"], around[:, number], rtol=0, atol=2e-3)
        seen = walks.step(torch.full((4,), LEFT))


def test_sensors_of_one_camera_are_drawn_together_and_of_two_apart(
    hall: SceneData, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = replace(SMALL, width=32)
    sensors = {"rgb": Sensor("rgb", SMALL), "depth": Sensor("depth", SMALL), "wide": Sensor("depth", wide)}
    walks = simulator(hall, sensors=sensors)
    launches = []
    render = walks.engine.render

    def counted(camera: Camera, *rest: Any) -> None:
        launches.append((camera.width, tuple(rest[-1])))
        render(camera, *rest)

    monkeypatch.setattr(walks.engine, "render", counted)
    walks.reset()
    assert launches == [(16, ("rgb", "depth")), (32, ("depth",))]


def test_a_sensor_sits_where_its_camera_says(hall: SceneData) -> None:
    back = replace(SMALL, offset=(0.0, 1.25, 0.5))
    down = replace(SMALL, tilt_deg=-90.0)
    walks = simulator(hall, sensors={"back": Sensor("depth", back), "down": Sensor("depth", down)})
    seen = walks.reset(position=torch.tensor([-2.0, 0.0, 0.0]).expand(4, 3), yaw=torch.zeros(4))
    assert float(seen["back"][0, 8, 8]) == pytest.approx(2.5, abs=0.02)
    torch.testing.assert_close(seen["down"][:, 4:12, 4:12], torch.full((4, 8, 8), 1.25), rtol=0, atol=0.02)


def test_what_was_begun_in_inference_mode_goes_on_outside_of_it_and_no_gradient_flows(hall: SceneData) -> None:
    with torch.inference_mode():
        walks = simulator(hall)
        walks.reset()
        walks.step(torch.full((4,), FORWARD))
    walks.reset(torch.tensor([0]))
    place = torch.zeros(4, 3, requires_grad=True) + torch.tensor([-2.0, 0.0, 0.0])
    seen = walks.reset(position=place)
    assert not any(value.requires_grad or value.is_inference() for value in seen.values())


def test_two_cameras_have_noise_of_their_own_and_none_sees_beyond_its_range(hall: SceneData) -> None:
    near = replace(SMALL, far_m=2.5)
    noise = GaussianDepth(share=0.5)
    sensors = {"left": Sensor("depth", near, noise=noise), "right": Sensor("depth", near, noise=noise)}
    seen = simulator(hall, num_envs=64, sensors=sensors).reset()
    drawn = (seen["left"] > 0) & (seen["right"] > 0)
    both = torch.stack([seen["left"][drawn], seen["right"][drawn]])
    exact = simulator(hall, num_envs=64, sensors={"depth": Sensor("depth", near)}).reset()["depth"][drawn]
    assert abs(float(torch.corrcoef(both / exact)[0, 1])) < 0.1
    assert float(both.max()) <= 2.5


def test_categories_mean_the_same_in_every_scene_of_a_batch(hall: SceneData, yard: SceneData) -> None:
    renamed = replace(yard, categories=("unlabelled", "lawn"))
    both = simulator(renamed, hall, num_envs=2, sensors={"semantic": Sensor("semantic", SMALL)})
    place = torch.tensor([[-1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    seen = both.reset(position=place, yaw=torch.zeros(2))["semantic"]
    assert both.categories == ("unlabelled", "lawn", "floor", "wall", "block")
    assert {both.categories[i] for i in np.unique(seen[0].numpy())} == {"unlabelled", "lawn"}
    assert {"floor", "wall"} <= {both.categories[i] for i in np.unique(seen[1].numpy())}


def test_what_a_reader_noticed_is_told_and_one_scene_needs_no_list(tmp_path: Path, hall: SceneData) -> None:
    triangles = [*hall.faces.tolist(), [0, 0, 1]]
    file = tmp_path / "hall.ply"
    corners = "".join(f"{x} {y} {z}\n" for x, y, z in hall.vertices)
    faces = "".join(f"3 {a} {b} {c}\n" for a, b, c in triangles)
    header = "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face {}\nproperty list uchar int vertex_indices\nend_header\n"
    file.write_text(header.format(len(hall.vertices), len(triangles)) + corners + faces)
    with pytest.warns(UserWarning, match="hall.ply: 1 of 73 triangles have no area"):
        walks = BatchSimulator(file, 2, DEPTH, device="cpu")
    assert len(walks.scenes) == 1


def test_who_is_placed_anew_can_be_a_mask_and_can_be_nobody(hall: SceneData) -> None:
    walks = simulator(hall)
    before = walks.reset()["pose"].clone()
    torch.testing.assert_close(walks.reset(torch.tensor([])), walks.render(), rtol=0, atol=0)
    after = walks.reset(torch.tensor([True, False, False, True]))["pose"]
    assert [bool((one == other).all()) for one, other in zip(before, after, strict=True)] == [False, True, True, False]


def test_nothing_is_seen_before_everyone_was_placed(hall: SceneData) -> None:
    walks = simulator(hall)
    calls: list[Callable[[], object]] = [
        lambda: walks.step(torch.zeros(4, dtype=torch.int64)),
        walks.render,
        lambda: walks.reset(torch.tensor([1])),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="call reset"):
            call()


def test_any_whole_number_is_a_seed_and_any_default_type_does(hall: SceneData) -> None:
    for seed in (-(2**63), -1, 2**62, 10**30):
        assert simulator(hall, seed=seed).reset()["pose"].isfinite().all()
    torch.set_default_dtype(torch.float64)
    try:
        assert simulator(hall).reset()["pose"].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_refused_before_anything_else(hall: SceneData) -> None:
    with pytest.raises(UserError, match="torch finds 0 CUDA devices here"):
        simulator(hall, device="cuda")


def test_motion_noise_moves_otherwise_but_never_through_walls(hall: SceneData) -> None:
    exact, noisy = simulator(hall), simulator(hall, agent=Agent(noise=GaussianMotion(share=0.2, drift=0.2)))
    place = torch.tensor([-2.0, 0.0, 0.0]).expand(4, 3)
    for walks in (exact, noisy):
        walks.reset(position=place, yaw=torch.zeros(4))
    forward = torch.full((4,), FORWARD)
    there, elsewhere = exact.step(forward)["pose"], noisy.step(forward)["pose"]
    assert ((there - elsewhere).abs()[:, [0, 2, 3]] > 1e-4).any(dim=1).all()
    for _ in range(30):
        noisy.step(forward)
    assert (noisy.position[:, 0].abs() < 3).all()
    assert (noisy.position[:, 2].abs() < 2).all()


def test_ground_is_as_habitats_where_the_simulator_or_the_agent_asks_for_it(hall: SceneData) -> None:
    asked = Agent(navigation=NavSettings(habitat_compatible=True))
    for walks in (simulator(hall, agent=asked), simulator(hall, habitat_compatible=True)):
        assert walks.grids[0].settings.habitat_compatible
    assert not simulator(hall).grids[0].settings.habitat_compatible


def test_the_agents_body_decides_where_it_fits(hall: SceneData) -> None:
    wide = simulator(hall, agent=Agent(navigation=NavSettings(agent_radius=0.4)))
    wide.reset(position=torch.tensor([-2.0, 0.0, 0.0]).expand(4, 3), yaw=torch.full((4,), math.pi / 2))
    for _ in range(8):
        wide.step(torch.full((4,), FORWARD))
    assert (wide.position[:, 0] > -2.7).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda hall: BatchSimulator([]), "no scene; give it at least one"),
        (lambda hall: simulator(hall, num_envs=0), "num_envs is 0"),
        (lambda hall: simulator(hall, sensors={"pose": Sensor("depth")}), "called 'pose'"),
        (
            lambda hall: Sensor("colour"),  # type: ignore[arg-type]
            "kind is 'colour'",
        ),
        (lambda hall: Sensor("rgb", noise=GaussianDepth()), "give it to one of kind 'depth'"),
        (lambda hall: Sensor("depth", pans_deg=(0.0, math.nan)), "expected finite degrees"),
        (lambda hall: Sensor("depth", camera=(64, 64)), "give a Camera"),  # type: ignore[arg-type]
        (lambda hall: Camera(height=8.5), "height is 8.5 pixels; expected a whole number from 1 to 4096"),  # type: ignore[arg-type]
        (lambda hall: Camera(offset=(0.0, 1.0)), "offset that is no"),  # type: ignore[arg-type]
        (lambda hall: Camera(tilt_deg=math.inf), "not finite"),
        (lambda hall: Agent(turn_deg="15"), "turn_deg is '15'"),  # type: ignore[arg-type]
        (
            lambda hall: BatchSimulator(hall, 2.0),  # type: ignore[arg-type]
            "num_envs is 2.0; expected a whole number",
        ),
        (lambda hall: simulator(hall, num_envs=10**13), "num_envs is 10000000000000"),
        (lambda hall: simulator(hall, seed=1.5), "seed is 1.5"),
        (lambda hall: simulator(hall, sensors=["rgb"]), "expected names and Sensors"),
        (lambda hall: simulator(hall, sensors={"rgb": "rgb"}), "expected names and Sensors"),
        (lambda hall: simulator(hall, device="mps"), "cannot run; use cpu or cuda"),
        (lambda hall: simulator(hall, device="gpu"), "device is 'gpu'; known are cpu, cuda"),
        (lambda hall: BatchSimulator([hall, 3]), "a scene is 3; expected SceneData"),  # type: ignore[list-item]
        (lambda hall: Agent(forward_m=-1.0), "forward_m is -1.0; expected a number above 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused(hall: SceneData, make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(hall)


def test_more_environments_than_memory_are_refused_with_the_number_that_fits(hall: SceneData) -> None:
    each = 4096 * 4096 * 4
    many = psutil.virtual_memory().total // each + 1
    with pytest.raises(UserError, match=r"take .* GiB, and .* GiB are free on cpu; take at most \d+ environments"):
        simulator(hall, num_envs=many, sensors={"depth": Sensor("depth", Camera(height=4096, width=4096))})


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (torch.tensor([1, 1, 6, 1]), "action 6 of environment 2; expected 0 to 5"),
        (torch.tensor([1, -1, 1, 1]), "action -1 of environment 1"),
        (torch.ones(4), "torch.float32 of shape"),
        (torch.ones(3, dtype=torch.int64), "expected 4 integers"),
        (None, "actions are None; expected a tensor, an array or a list"),
        ("forward", "actions are 'forward'"),
    ],
)
def test_an_action_that_is_none_is_named(hall: SceneData, actions: Any, message: str) -> None:
    walks = simulator(hall)
    walks.reset()
    with pytest.raises(ValueError, match=message):
        walks.step(actions)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"ids": torch.tensor([4])}, "different numbers from 0 to 3"),
        ({"ids": torch.tensor([1, 1])}, "different numbers from 0 to 3"),
        ({"scene": torch.tensor([0, 0, 0, 1])}, "expected 4 whole numbers from 0 to 0"),
        ({"ids": torch.tensor([0.5])}, "integers, or a mask of 4 bool"),
        ({"scene": torch.tensor([0.0, 0.9, 0.0, 0.0])}, "expected 4 whole numbers"),
        ({"position": torch.full((4, 3), math.nan)}, "position is of shape"),
        ({"yaw": torch.zeros(3)}, "yaw is of shape"),
    ],
)
def test_a_place_that_is_none_is_named(hall: SceneData, places: dict[str, torch.Tensor], message: str) -> None:
    walks = simulator(hall)
    before = walks.reset()["pose"].clone()
    with pytest.raises(ValueError, match=message):
        walks.reset(**places)
    torch.testing.assert_close(walks.render()["pose"], before, rtol=0, atol=0)  # a call that raises changes nothing
    following = simulator(hall)
    following.reset()
    torch.testing.assert_close(walks.reset()["pose"], following.reset()["pose"], rtol=0, atol=0)
