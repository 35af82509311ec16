"""What navigation takes for granted of any simulator. Another implementation joins by a line in `SIMULATORS`."""

import math
from collections.abc import Callable

import pytest
import torch

from vlkit.envs.simulator.batch import DOWN, FORWARD, LEFT, RIGHT, STOP, UP, Agent, BatchSimulator, Sensor, Simulator
from vlkit.envs.simulator.camera import Camera
from vlkit.envs.simulator.scene import SceneData

ENVS = 6
CAMERA = Camera(height=24, width=32, hfov_deg=79.0)
SENSORS = {"rgb": Sensor("rgb", CAMERA), "depth": Sensor("depth", CAMERA), "semantic": Sensor("semantic", CAMERA)}
Make = Callable[[SceneData, int], Simulator]


def embedded(scene: SceneData, num_envs: int) -> Simulator:
    return BatchSimulator([scene], num_envs, SENSORS, Agent(), device="cpu", seed=3)


SIMULATORS: dict[str, Make] = {"embedded": embedded}


@pytest.fixture(params=SIMULATORS)
def make(request: pytest.FixtureRequest) -> Make:
    return SIMULATORS[request.param]


def everyone(action: int) -> torch.Tensor:
    return torch.full((ENVS,), action)


def test_the_observation_has_the_contracts_shapes_and_types(make: Make, hall: SceneData) -> None:
    simulator = make(hall, ENVS)
    for observation in (simulator.reset(), simulator.step(everyone(LEFT)), simulator.render()):
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in observation.items()}
        assert shapes == {
            "rgb": ((ENVS, 24, 32, 3), torch.uint8),
            "depth": ((ENVS, 24, 32), torch.float32),
            "semantic": ((ENVS, 24, 32), torch.int32),
            "pose": ((ENVS, 5), torch.float32),
            "scene": ((ENVS,), torch.int64),
            "collided": ((ENVS,), torch.bool),
        }


def test_a_forward_step_goes_a_quarter_of_a_metre_where_the_agent_looks_and_turns_go_to_their_sides(
    make: Make, hall: SceneData
) -> None:
    simulator = make(hall, ENVS)
    yaw = torch.linspace(-3, 3, ENVS)
    place = torch.tensor([-1.8, 0.0, 0.0]).expand(ENVS, 3)
    start = simulator.reset(position=place, yaw=yaw)["pose"].clone()
    pose = simulator.step(everyone(FORWARD))["pose"]
    ahead = torch.stack([-yaw.sin(), torch.zeros(ENVS), -yaw.cos()], dim=1) * 0.25
    torch.testing.assert_close(pose[:, [0, 2]], (start[:, :3] + ahead)[:, [0, 2]], rtol=0, atol=1e-4)
    for action, turned in ((LEFT, 15.0), (RIGHT, 0.0), (RIGHT, -15.0)):
        difference = simulator.step(everyone(action))["pose"][:, 3] - yaw
        wrapped = torch.remainder(difference + math.pi, 2 * math.pi) - math.pi
        torch.testing.assert_close(wrapped, torch.full((ENVS,), math.radians(turned)), rtol=0, atol=1e-4)
    tilted = simulator.step(everyone(UP))["pose"][:, 4]
    torch.testing.assert_close(tilted, torch.full((ENVS,), math.radians(15.0)))
    assert simulator.step(everyone(DOWN))["pose"][:, 4].abs().max() < 1e-6


def test_depth_is_planar_metres_from_where_the_eyes_are(make: Make, hall: SceneData) -> None:
    simulator = make(hall, ENVS)
    place = torch.tensor([-1.8, 0.0, 0.0]).expand(ENVS, 3)
    seen = simulator.reset(position=place, yaw=torch.full((ENVS,), math.pi / 2))  # towards -x: a wall 1.2 m away
    torch.testing.assert_close(seen["depth"][:, 10:14], torch.full((ENVS, 4, 32), 1.2), rtol=0, atol=1e-2)
    assert (seen["semantic"][:, 12, 16] > 0).all()
    assert (seen["rgb"][:, 12, 16].sum(dim=1) > 0).all()


def test_walls_hold_the_agent_back_and_it_says_so(make: Make, hall: SceneData) -> None:
    simulator = make(hall, ENVS)
    simulator.reset(position=torch.tensor([2.0, 0.0, 0.0]).expand(ENVS, 3), yaw=torch.full((ENVS,), -math.pi / 2))
    for _ in range(6):
        observation = simulator.step(everyone(FORWARD))
    assert observation["collided"].all()
    assert (observation["pose"][:, 0] < 3.0 - 0.05).all()
    assert (observation["pose"][:, 0] > 2.7).all()
    assert not simulator.step(everyone(LEFT))["collided"].any()


def test_standing_still_changes_nothing(make: Make, hall: SceneData) -> None:
    simulator = make(hall, ENVS)
    first = {name: value.clone() for name, value in simulator.reset().items()}
    second = simulator.step(everyone(STOP))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)


def test_some_can_be_placed_anew_while_the_others_stay(make: Make, hall: SceneData) -> None:
    simulator = make(hall, ENVS)
    before = simulator.reset()["pose"].clone()
    after = simulator.reset(torch.tensor([1, 4]))["pose"]
    stayed = [0, 2, 3, 5]
    torch.testing.assert_close(after[stayed], before[stayed], rtol=0, atol=0)
    assert not torch.equal(after[[1, 4]], before[[1, 4]])


def test_starts_that_are_drawn_can_be_walked_from(make: Make, hall: SceneData) -> None:
    simulator = make(hall, ENVS)
    places = simulator.reset()["pose"][:, :3]
    scene = torch.zeros(ENVS, dtype=torch.int64)
    assert bool(torch.as_tensor(simulator.nav.is_navigable(scene, places)).all())
    goal = torch.tensor([[2.5, 0.0, 1.5]]).expand(ENVS, 3)
    metres = torch.as_tensor(simulator.nav.geodesic(scene, places, goal))
    assert bool(metres.isfinite().all())
    assert bool((metres >= (places - goal)[:, [0, 2]].norm(dim=1) - 0.05).all())
