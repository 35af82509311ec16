"""Walkable ground on scenes made by hand, whose distances can be worked out on paper."""

import math
import os
import pickle  # noqa: TID251, what is written here is read here
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlkit.envs.simulator import navgrid
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings, NavWorld, nav_grid
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

Corner = tuple[float, float, float]
Quad = tuple[Corner, Corner, Corner, Corner]


def scene(quads: list[Quad], name: str = "made") -> SceneData:
    vertices = np.array([corner for quad in quads for corner in quad], dtype=np.float32).reshape(-1, 3)
    first = 4 * np.arange(len(quads), dtype=np.int32)[:, None]
    faces = np.concatenate([first + np.array([0, 1, 2]), first + np.array([0, 2, 3])]).astype(np.int32)
    count = len(faces)
    return SceneData(
        name=name,
        vertices=vertices,
        faces=faces,
        uv=np.zeros((count, 3, 2), np.float32),
        texture=np.full(count, -1, np.int32),
        colour=np.ones((count, 4), np.float32),
        vertex_colour=np.full((len(vertices), 4), 255, np.uint8),
        double_sided=np.ones(count, bool),
        instance=np.zeros(count, np.int32),
        semantic=np.zeros(count, np.int32),
    )


def floor(x0: float, x1: float, z0: float, z1: float, y: float = 0.0) -> Quad:
    return ((x0, y, z0), (x0, y, z1), (x1, y, z1), (x1, y, z0))


def slope(x0: float, x1: float, z0: float, z1: float, y0: float, y1: float) -> Quad:
    """Rises from y0 at x0 to y1 at x1."""
    return ((x0, y0, z0), (x0, y0, z1), (x1, y1, z1), (x1, y1, z0))


def block(x0: float, x1: float, z0: float, z1: float, y0: float, y1: float) -> list[Quad]:
    """A box: top, bottom and four sides."""
    return [
        floor(x0, x1, z0, z1, y1),
        ((x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)),
        ((x0, y0, z0), (x0, y1, z0), (x1, y1, z0), (x1, y0, z0)),
        ((x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)),
        ((x0, y0, z0), (x0, y0, z1), (x0, y1, z1), (x0, y1, z0)),
        ((x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)),
    ]


def wall_and_door() -> SceneData:
    """6 x 4 m; a wall 10 cm thick at x = 3 leaves a door from z = 0 to 1."""
    return scene([floor(0, 6, 0, 4), *block(2.95, 3.05, 1, 4, 0, 2.5)])


def two_storeys() -> SceneData:
    """Ground floor 4 x 4 m, stairs of 12 steps (rise 0.25 in two parts of 0.125) up to a floor at 3 m."""
    quads = [floor(0, 4, 0, 4), floor(8.8, 12, 0, 4, 3.0)]
    for step in range(24):
        quads += block(4 + 0.2 * step, 4.2 + 0.2 * step, 1.5, 2.5, 0.125 * step - 0.2, 0.125 * (step + 1))
    return scene(quads)


def room_with_table() -> SceneData:
    """6 x 4 m with a table 2 x 2 m whose top is 0.75 m up on a leg in its middle."""
    return scene([floor(0, 6, 0, 4), *block(2, 4, 1, 3, 0.70, 0.75), *block(2.9, 3.1, 1.9, 2.1, 0, 0.70)])


@pytest.fixture(scope="module")
def grids() -> dict[str, NavGrid]:
    made = {"door": wall_and_door(), "storeys": two_storeys(), "table": room_with_table()}
    return {name: nav_grid(each, cache=False) for name, each in made.items()}


def points(*each: Corner) -> torch.Tensor:
    return torch.tensor(each, dtype=torch.float32)


def test_a_straight_way_is_as_long_as_the_line(grids: dict[str, NavGrid]) -> None:
    metres = grids["door"].geodesic(points((0.5, 0, 3)), points((2.5, 0, 1.5)))
    assert float(metres[0]) == pytest.approx(2.5, abs=1e-4)


def test_a_way_round_a_wall_turns_at_the_door_s_corners(grids: dict[str, NavGrid]) -> None:
    start, end = points((2, 0, 3)), points((4, 0, 3))
    # Between the wall's bare end, half the radius off (a straightened border cuts corners), and square corners at the
    # radius and two cells.
    near, far = ((2.90, 0.95), (3.10, 0.95)), ((2.75, 0.8), (3.25, 0.8))
    shortest, longest = (math.dist((2, 3), a) + math.dist(a, b) + math.dist(b, (4, 3)) for a, b in (near, far))
    metres = float(grids["door"].geodesic(start, end)[0])
    assert shortest <= metres <= longest
    path = grids["door"].path(start, end)[0]
    assert len(path) >= 4
    torch.testing.assert_close(path[[0, -1]], torch.cat([start, end]))
    assert float((path[1:] - path[:-1]).norm(dim=1).sum()) == pytest.approx(metres, abs=1e-3)


def test_a_way_back_is_as_long_as_the_way_there(grids: dict[str, NavGrid]) -> None:
    for grid in grids.values():
        start, end = (grid.random_points(100, seed=seed) for seed in (0, 1))
        torch.testing.assert_close(grid.geodesic(start, end), grid.geodesic(end, start), rtol=0, atol=1e-3)


def test_no_way_is_shorter_than_the_line_or_than_a_detour_saves(grids: dict[str, NavGrid]) -> None:
    for grid in grids.values():
        a, b, c = (grid.random_points(200, seed=seed, island=grid.largest_island) for seed in (2, 3, 4))
        ab, bc, ac = grid.geodesic(a, b), grid.geodesic(b, c), grid.geodesic(a, c)
        assert bool((ab >= (a - b)[:, [0, 2]].norm(dim=1) - 1e-3).all())
        assert bool((ac <= ab + bc + 0.15).all()), "the surface leaves the stairs by up to 0.1 m"
        assert bool(torch.isfinite(torch.stack([ab, bc, ac])).all())


def test_stairs_join_two_storeys(grids: dict[str, NavGrid]) -> None:
    grid = grids["storeys"]
    start, end = points((2, 0, 2)), points((10, 3, 2))
    assert float(grid.geodesic(start, end)[0]) == pytest.approx(math.hypot(8, 3), rel=0.02)
    snapped = grid.snap(points((6.1, 1.2, 2.0)))
    assert float(snapped[0, 1]) == pytest.approx(1.375, abs=0.02), "the eleventh step, as high as the mesh has it"
    assert [round(height) for height, _ in grid.storeys()] == [0, 3]


def test_a_point_above_another_storey_stands_on_the_nearer_one() -> None:
    grid = nav_grid(scene([floor(0, 4, 0, 4), floor(0, 4, 0, 4, 3.0)]), cache=False)
    snapped = grid.snap(points((2, 0.4, 2), (2, 2.4, 2)))
    assert snapped[:, 1].tolist() == pytest.approx([0, 3], abs=1e-3)
    assert grid.geodesic(points((2, 0, 2)), points((2, 3, 2))).tolist() == [math.inf]


def test_a_table_s_top_is_an_island_of_its_own(grids: dict[str, NavGrid]) -> None:
    grid = grids["table"]
    assert len(grid.islands) == 2
    top = points((3, 0.75, 2))
    assert int(grid.island_of(top)[0]) != grid.largest_island
    assert float(grid.snap(top)[0, 1]) == pytest.approx(0.75, abs=1e-3)
    assert grid.geodesic(points((0.5, 0, 0.5)), top).tolist() == [math.inf]
    assert not grid.is_navigable(points((3.5, 0, 2.5))).any(), "no headroom under it"


@pytest.mark.parametrize(("degrees", "climbs"), [(40.0, True), (50.0, False)])
def test_a_ramp_is_climbed_up_to_45_degrees(degrees: float, climbs: bool) -> None:
    rise = 2 * math.tan(math.radians(degrees))
    ramp = scene([floor(0, 3, 0, 2), slope(3, 5, 0, 2, 0, rise), floor(5, 8, 0, 2, rise)])
    for compatible in (False, True):
        # At 0.2 m a voxel two neighbouring cells of 40 degrees can differ by more than a step, as in habitat-sim.
        wide = NavSettings(habitat_compatible=compatible, agent_max_climb=0.4 if compatible else 0.2)
        metres = float(nav_grid(ramp, wide, cache=False).geodesic(points((1, 0, 1)), points((7, rise, 1)))[0])
        assert math.isfinite(metres) == climbs
        if climbs:
            assert metres == pytest.approx(math.hypot(6, rise), rel=0.05)


@pytest.mark.parametrize(("gap_m", "passes"), [(0.15, False), (0.25, False), (0.45, True)])
def test_a_gap_narrower_than_the_agent_is_closed(gap_m: float, passes: bool) -> None:
    walls = block(2.9, 3.1, 0, 2, 0, 2) + block(2.9, 3.1, 2 + gap_m, 4, 0, 2)
    grid = nav_grid(scene([floor(0, 6, 0, 4), *walls]), cache=False)
    metres = float(grid.geodesic(points((1, 0, 2)), points((5, 0, 2)))[0])
    assert math.isfinite(metres) == passes


@pytest.mark.parametrize(("height_m", "passes"), [(0.15, True), (0.19, True), (0.25, False)])
def test_a_step_is_climbed_up_to_its_height(height_m: float, passes: bool) -> None:
    grid = nav_grid(scene([floor(0, 3, 0, 2), *block(3, 6, 0, 2, 0, height_m)]), cache=False)
    metres = float(grid.geodesic(points((1, 0, 1)), points((5, height_m, 1)))[0])
    assert math.isfinite(metres) == passes


@pytest.mark.parametrize(
    ("lowest_m", "height_m", "passes"), [(0.0, 0.39, True), (0.0, 0.41, False), (-0.1, 0.28, True), (-0.1, 0.30, False)]
)
def test_habitat_s_voxels_let_a_step_pass_by_where_the_mesh_begins(
    lowest_m: float, height_m: float, passes: bool
) -> None:
    quads = [floor(0, 3, 0, 2), *block(3, 6, 0, 2, 0, height_m), floor(0, 6, 0, 2, lowest_m)]
    grid = nav_grid(scene(quads), NavSettings(habitat_compatible=True), cache=False)
    metres = float(grid.geodesic(points((1, 0.1, 1)), points((5, height_m + 0.1, 1)))[0])
    assert math.isfinite(metres) == passes


def test_the_ground_keeps_the_radius_from_walls_and_ledges() -> None:
    grid = nav_grid(scene([floor(0, 6, 0, 4)]), NavSettings(agent_radius=0.3), cache=False)
    assert grid.area_m2 == pytest.approx(5.4 * 3.4, rel=0.02)
    metres = grid.distance_to_closest_obstacle(points((1, 0, 2), (3, 0, 2)), max_distance=1.5)
    assert metres.tolist() == pytest.approx([0.7, 1.5], abs=0.051)


def test_an_agent_slides_along_a_wall_or_stops_there(grids: dict[str, NavGrid]) -> None:
    grid, start = grids["door"], points((2.75, 0, 2))
    wish = points((0.2, 0, 0.15))
    slid, held_up = grid.step(start, displacement=wish)
    assert float(slid[0, 2]) == pytest.approx(2.15, abs=1e-4)
    assert 2.75 <= float(slid[0, 0]) <= 2.85 + 1e-3
    assert held_up.tolist() == [True]
    stopped, held_up = grid.step(start, displacement=wish, sliding=False)
    share = (stopped - start)[0] / wish[0]
    assert float(share[0]) == pytest.approx(float(share[2]), abs=1e-4), "on the way that it wanted"
    assert float(stopped[0, 0]) == pytest.approx(float(slid[0, 0]), abs=1e-4)
    assert held_up.tolist() == [True]


def test_a_free_step_forward_goes_where_the_yaw_points(grids: dict[str, NavGrid]) -> None:
    start = points((1, 0, 2), (1, 0, 2), (1, 0, 2))
    end, held_up = grids["door"].step(start, yaw=torch.tensor([0.0, math.pi / 2, -math.pi / 2]))
    torch.testing.assert_close(end, points((1, 0, 1.75), (0.75, 0, 2), (1.25, 0, 2)))
    assert not held_up.any()


def test_points_that_stand_nowhere_are_told_so_and_stay(grids: dict[str, NavGrid]) -> None:
    grid, nan = grids["door"], math.nan
    lost = points((nan, 0, 1), (1, nan, 1), (math.inf, 0, 1), (500, 0, 2), (1, 80, 1))
    assert bool(grid.snap(lost).isnan().all())
    assert not grid.is_navigable(lost).any()
    assert grid.island_of(lost).tolist() == [-1] * 5
    assert grid.geodesic(lost, points((1, 0, 1)).expand(5, 3)).tolist() == [math.inf] * 5
    assert grid.geodesic(points((1, 0, 1)).expand(5, 3), lost).tolist() == [math.inf] * 5
    assert [len(path) for path in grid.path(lost, points((1, 0, 1)).expand(5, 3))] == [0] * 5
    end, held_up = grid.step(lost, yaw=torch.zeros(5))
    torch.testing.assert_close(end, lost, equal_nan=True)
    assert held_up.all()
    stays, held_up = grid.step(points((1, 0, 2)), yaw=torch.tensor([nan]))
    assert stays.tolist() == [[1, 0, 2]]
    assert held_up.all()
    assert grid.world.next_actions(None, lost, torch.zeros(5), grid.world.goals(None, lost)).tolist() == [0] * 5


def test_a_point_beside_the_ground_is_snapped_to_it(grids: dict[str, NavGrid]) -> None:
    snapped = grids["door"].snap(points((-1, 0.5, 2)))
    assert snapped[0].tolist() == pytest.approx([0.1, 0, 2], abs=0.051)
    assert grids["door"].is_navigable(points((-1, 0.5, 2), (1, 0.4, 2), (1, 0.6, 2))).tolist() == [False, True, False]


def test_arrays_are_answered_with_arrays(grids: dict[str, NavGrid]) -> None:
    start = np.array([[1.0, 0, 2]])
    for answer in (grids["door"].snap(start), grids["door"].geodesic(start, start), *grids["door"].path(start, start)):
        assert isinstance(answer, np.ndarray)
    end, held_up = grids["door"].step(start, yaw=np.zeros(1))
    assert isinstance(end, np.ndarray)
    assert held_up.dtype == bool


def test_random_points_spread_evenly_and_follow_the_seed(grids: dict[str, NavGrid]) -> None:
    grid = grids["table"]
    drawn = grid.random_points(4000, seed=7)
    torch.testing.assert_close(drawn, grid.random_points(4000, generator=torch.Generator().manual_seed(7)))
    assert bool(grid.is_navigable(drawn, max_y_delta=0.01).all())
    shares = np.bincount(grid.island_of(drawn).numpy(), minlength=2) / 4000
    areas = np.array([island.area_m2 for island in grid.islands])
    np.testing.assert_allclose(shares, areas / areas.sum(), atol=0.03)
    assert set(grid.island_of(grid.random_points(50, seed=1, island=1)).tolist()) == {1}


def test_the_expert_reaches_every_goal(grids: dict[str, NavGrid]) -> None:
    for grid in grids.values():
        position, goal = (grid.random_points(40, seed=seed, island=grid.largest_island) for seed in (5, 6))
        goals, yaw = grid.world.goals(None, goal), torch.linspace(-3, 3, 40)
        straight = grid.geodesic(position, goal)
        walked = torch.zeros(40)
        for _ in range(150):
            actions = grid.world.next_actions(None, position, yaw, goals)
            moved, _ = grid.step(position, yaw=yaw)
            forward = actions == 1
            walked += forward * 0.25
            position = torch.where(forward[:, None], moved, position)
            yaw = yaw + ((actions == 2).float() - (actions == 3).float()) * math.radians(15)
        assert not actions.any()
        assert bool((grid.world.distance(None, position, goals) <= 0.25).all())
        assert bool((walked <= straight * 1.15 + 0.5).all())


def test_settings_say_what_is_wrong_with_them() -> None:
    with pytest.raises(UserError, match="agent_radius is -1; expected 0 to 10"):
        NavSettings(agent_radius=-1)
    with pytest.raises(UserError, match="agent_max_slope is nan"):
        NavSettings(agent_max_slope=math.nan)
    with pytest.raises(UserError, match="more than 100 cells"):
        NavSettings(agent_radius=3, cell_size=0.02)


def test_a_scene_without_ground_names_the_settings() -> None:
    with pytest.raises(UserError, match="made has no walkable ground for agent_radius 0.1, agent_height 1.5"):
        nav_grid(scene([((0, 0, 0), (0, 3, 0), (4, 3, 0), (4, 0, 0))]), cache=False)
    with pytest.raises(UserError, match="no walkable ground for agent_radius 2.5"):
        nav_grid(scene([floor(0, 4, 0, 4)]), NavSettings(agent_radius=2.5), cache=False)
    with pytest.raises(UserError, match="no triangles"):
        nav_grid(scene([]), cache=False)
    with pytest.raises(UserError, match="not finite"):
        nav_grid(scene([floor(0, math.nan, 0, 4)]), cache=False)
    with pytest.raises(UserError, match="4e\\+04 x 4e\\+04 cells of 0.05 m, more than"):
        nav_grid(scene([floor(0, 2000, 0, 2000)]), cache=False)


def test_ground_is_computed_once_and_read_ever_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = nav_grid(wall_and_door(), cache=tmp_path)
    (file,) = tmp_path.glob("*.npz")

    def never(*_: object) -> NavGrid:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(navgrid, "_built", never)
        read = nav_grid(wall_and_door(), cache=tmp_path)
        with pytest.raises(AssertionError, match="computed again"):
            nav_grid(wall_and_door(), NavSettings(agent_radius=0.2), cache=tmp_path)
        with pytest.raises(AssertionError, match="computed again"):
            nav_grid(two_storeys(), cache=tmp_path)
    start, end = made.random_points(50, seed=0), made.random_points(50, seed=1)
    torch.testing.assert_close(read.geodesic(start, end), made.geodesic(start, end), rtol=0, atol=0)
    assert read.islands == made.islands

    whole = file.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-200] + bytes(200)):
        file.write_bytes(damaged)
        again = nav_grid(wall_and_door(), cache=tmp_path)
        assert again.islands == made.islands
        assert file.read_bytes() == whole, "a damaged file is replaced"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken"):
        nav_grid(wall_and_door(), cache=tmp_path / "taken" / "inner")


def test_many_scenes_answer_in_one_call_as_each_does_alone(grids: dict[str, NavGrid]) -> None:
    each = list(grids.values())
    world = NavWorld(each)
    scenes = torch.arange(90) % 3
    start, end = torch.zeros(90, 3), torch.zeros(90, 3)
    for i, grid in enumerate(each):
        start[scenes == i], end[scenes == i] = (grid.random_points(30, seed=seed) for seed in (8, 9))
    yaw = torch.linspace(-3, 3, 90)
    moved, held_up = world.step(scenes, start, yaw=yaw)
    metres, goals = world.geodesic(scenes, start, end), world.goals(scenes, end)
    actions, border = world.next_actions(scenes, start, yaw, goals), world.distance_to_closest_obstacle(scenes, start)
    for i, grid in enumerate(each):
        here = scenes == i
        alone, alone_held_up = grid.step(start[here], yaw=yaw[here])
        assert torch.equal(moved[here], alone)
        assert torch.equal(held_up[here], alone_held_up)
        assert torch.equal(metres[here], grid.geodesic(start[here], end[here]))
        assert torch.equal(border[here], grid.distance_to_closest_obstacle(start[here]))
        own = grid.world.goals(None, end[here])
        assert torch.equal(actions[here], grid.world.next_actions(None, start[here], yaw[here], own))
    with pytest.raises(ValueError, match="say which one"):
        world.snap(None, start)
    with pytest.raises(ValueError, match="not among 0 to 2"):
        world.snap(scenes + 1, start)


def test_neither_the_batch_nor_the_threads_change_a_digit(grids: dict[str, NavGrid]) -> None:
    grid = grids["storeys"]
    start, end = grid.random_points(1024, seed=10), grid.random_points(1024, seed=11)
    yaw = torch.linspace(-3, 3, 1024)

    def answers(world: NavWorld, chosen: slice) -> list[torch.Tensor]:
        moved, held_up = world.step(None, start[chosen], yaw=yaw[chosen])
        return [moved, held_up, world.geodesic(None, start[chosen], end[chosen]), world.snap(None, end[chosen] + 0.3)]

    one, two = NavWorld([grid], threads=1), NavWorld([grid], threads=2)
    whole = answers(one, slice(None))
    for again in (answers(two, slice(None)), answers(one, slice(None))):
        assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    for i in (0, 511, 1023):
        alone = answers(one, slice(i, i + 1))
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(whole, alone, strict=True))


def test_threads_of_the_caller_do_not_disturb_one_another(grids: dict[str, NavGrid]) -> None:
    grid = grids["door"]
    start = grid.random_points(2000, seed=12)
    expected, found = grid.snap(start + 0.2), []
    workers = [threading.Thread(target=lambda: found.append(grid.snap(start + 0.2))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    assert all(torch.equal(each, expected) for each in found)


def test_distance_fields_come_and_go_without_a_trace(grids: dict[str, NavGrid]) -> None:
    grid = grids["door"]
    world = NavWorld([grid], most_goals=8)
    start, end = grid.random_points(40, seed=13), grid.random_points(40, seed=14)
    expected = grid.geodesic(start, end)
    for begin in (0, 8, 16, 24, 32, 0):
        part = slice(begin, begin + 8)
        assert torch.equal(world.geodesic(None, start[part], end[part]), expected[part])
    with pytest.raises(UserError, match="40 different goals at once, and this NavWorld keeps 8"):
        world.goals(None, end)
    same = world.goals(None, end[:1].expand(500, 3))
    assert len(set(same.tolist())) == 1


def test_a_goal_s_number_is_refused_where_it_was_not_handed_out_or_means_another_scene(
    grids: dict[str, NavGrid],
) -> None:
    world = NavWorld([grids["door"], grids["table"]])
    start, yaw, scenes = points((1, 0, 2), (1, 0, 1)), torch.zeros(2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="goal 0 of point 0; goals\\(\\) has handed out 0 numbers"):
        world.distance(scenes, start, torch.tensor([0, 0]))
    goals = world.goals(scenes, start + 0.3)
    assert bool(world.distance(scenes, start, goals).isfinite().all())

    def refused(numbers: torch.Tensor, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            world.distance(scenes, start, numbers)
        with pytest.raises(ValueError, match=match):
            world.next_actions(scenes, start, yaw, numbers)

    for number in (-1, 2, 16, 10**6, 2**32):
        refused(
            torch.tensor([int(goals[0]), number]), f"goal {number} of point 1; goals\\(\\) has handed out 2 numbers"
        )
    refused(goals.flip(0), "goal .* of point 0 lies in scene 1 and the point in scene 0")
    refused(goals.float(), "goals are torch.float32; expected integers")
    refused(goals[:1], "goals of shape \\(1,\\) for 2 points")


def test_a_goal_s_scene_is_that_of_whom_it_was_handed_to_last(grids: dict[str, NavGrid]) -> None:
    world = NavWorld([grids["door"], grids["table"]], most_goals=1)
    here, there, start = torch.tensor([0]), torch.tensor([1]), points((1, 0, 2))
    first = world.goals(here, start)
    second = world.goals(there, start)
    assert torch.equal(first, second)
    assert bool(world.distance(there, start, second).isfinite().all())
    with pytest.raises(ValueError, match="lies in scene 1 and the point in scene 0"):
        world.distance(here, start, first)


def test_what_cannot_be_asked_is_refused_with_its_value(grids: dict[str, NavGrid]) -> None:
    grid, three, two = grids["door"], points((1, 0, 1), (1, 0, 2), (1, 0, 3)), points((1, 0, 1), (1, 0, 2))
    for question in (grid.geodesic, grid.path):
        with pytest.raises(ValueError, match="3 starts and 2 ends"):
            question(three, two)
    with pytest.raises(ValueError, match="asked for -1 points"):
        grid.random_points(-1, seed=0)
    assert grid.random_points(0, seed=0).shape == (0, 3)
    for scene_number in ([0.5] * 3, [False] * 3):
        with pytest.raises(ValueError, match="scenes are .*; expected integers"):
            grid.world.snap(torch.tensor(scene_number), three)
    with pytest.raises(ValueError, match="scenes of shape \\(\\) for 3 points"):
        grid.world.snap(0.5, three)
    with pytest.raises(ValueError, match="not among 0 to 0"):
        grid.world.snap(torch.tensor([0, 0, 2**32]), three)
    for metres in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"max_distance is {metres}"):
            grid.distance_to_closest_obstacle(three, max_distance=metres)
    goals = grid.world.goals(None, three)
    with pytest.raises(ValueError, match="yaws of shape \\(2,\\) for 3 points"):
        grid.world.next_actions(None, three, torch.zeros(2), goals)
    with pytest.raises(ValueError, match="yaws of shape \\(3, 1\\) for 3 points"):
        grid.step(three, yaw=torch.zeros(3, 1))
    for degrees in (0.0, -15.0, math.nan):
        with pytest.raises(ValueError, match=f"turn_deg is {degrees}"):
            grid.world.next_actions(None, three, torch.zeros(3), goals, turn_deg=degrees)
    for device, told in (("foo", "'foo'"), ("mps", "'mps'"), ("cuda:99", "cuda:99")):
        with pytest.raises(UserError, match=f"device.*{told}"):
            NavWorld([grid], device=device)
    assert torch.equal(NavWorld([grid], device="cpu:0").snap(None, three), grid.snap(three))


def test_a_world_that_nobody_keeps_is_gone_at_once(grids: dict[str, NavGrid]) -> None:
    world = NavWorld([grids["door"]], threads=2)
    for _ in range(2):
        world.snap(None, grids["door"].random_points(1024, seed=0))
    gone = weakref.ref(world)
    del world
    assert gone() is None


def test_a_grid_is_pickled_and_a_world_says_why_not(grids: dict[str, NavGrid]) -> None:
    grid = grids["door"]
    start, end = grid.random_points(20, seed=0), grid.random_points(20, seed=1)
    again = pickle.loads(pickle.dumps(grid))
    assert torch.equal(again.geodesic(start, end), grid.geodesic(start, end))
    assert again.islands == grid.islands
    with pytest.raises(TypeError, match="pickle its grids"):
        pickle.dumps(grid.world)


FORKED = """
import os
import signal
import sys
import threading
import torch
from test_navgrid import NavWorld, nav_grid, wall_and_door

grid = nav_grid(wall_and_door(), cache=False)
world = NavWorld([grid], threads=2)
start, end = grid.random_points(1024, seed=0), grid.random_points(1024, seed=1)
for _ in range(2):  # the first one loads the kernels, in one thread
    expected = world.geodesic(None, start, end), world.snap(None, start)
held = threading.Thread(target=lambda: (world._filling().acquire(), None), daemon=True)
held.start()
held.join()
child = os.fork()
signal.alarm(30)  # of parent and child: who hangs is ended
again = (world.geodesic(None, start, end), world.snap(None, start)) if child == 0 else expected
same = all(torch.equal(a, b) for a, b in zip(again, expected))
if child == 0:
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_goes_on_with_a_world_that_was_used() -> None:
    # In a process of its own: since Python 3.12 a process with threads is warned when it forks.
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", FORKED], env=os.environ | {"PYTHONPATH": path}, timeout=60, check=True)


def cluttered(seed: int) -> SceneData:
    """10 x 10 m with blocks of all sizes, turned every way."""
    rng = np.random.default_rng(seed)
    quads = [floor(0, 10, 0, 10)]
    for _ in range(int(rng.integers(3, 25))):
        x, z, wide, deep, turn = rng.uniform((0, 0, 0.05, 0.05, 0), (10, 10, 2, 1, 6.28))
        sine, cosine = math.sin(turn), math.cos(turn)
        for quad in block(-wide, wide, -deep, deep, 0, 2):
            turned = [(x + u * cosine - w * sine, y, z + u * sine + w * cosine) for u, y, w in quad]
            quads.append((turned[0], turned[1], turned[2], turned[3]))
    return scene(quads)


@pytest.mark.parametrize("seed", range(4))
def test_among_obstacles_no_detour_is_shorter_than_the_shortest_way(seed: int) -> None:
    grid = nav_grid(cluttered(seed), cache=False)
    a, b, c = (grid.random_points(1000, seed=draw) for draw in (1, 2, 3))
    ab, bc, ac = grid.geodesic(a, b), grid.geodesic(b, c), grid.geodesic(a, c)
    joined = torch.isfinite(ab) & torch.isfinite(bc)
    assert bool((ac <= ab + bc + 2e-3)[joined].all())
    assert torch.equal(torch.isfinite(ab), grid.island_of(a) == grid.island_of(b))
    lengths = torch.tensor(
        [float((path[1:] - path[:-1]).norm(dim=1).sum()) if len(path) else math.inf for path in grid.path(a, b)]
    )
    torch.testing.assert_close(lengths, ab, rtol=0, atol=5e-3)


def test_habitat_s_ways_are_never_shorter_than_the_shortest() -> None:
    grid = nav_grid(cluttered(2), NavSettings(habitat_compatible=True), cache=False)
    start, end = grid.random_points(500, seed=1), grid.random_points(500, seed=2)
    metres, shortest = grid.geodesic(start, end), grid.world.distance(None, start, grid.world.goals(None, end))
    assert torch.equal(torch.isfinite(metres), torch.isfinite(shortest))
    joined = torch.isfinite(metres)
    assert bool((metres >= shortest - 1e-3)[joined].all())
    assert float((metres / shortest)[joined].median()) < 1.001
    for way, length, a, b in zip(grid.path(start, end), metres.tolist(), start, end, strict=True):
        if math.isfinite(length):
            torch.testing.assert_close(way[[0, -1]], torch.stack([a, b]), rtol=0, atol=1e-4)
            assert float((way[1:] - way[:-1]).norm(dim=1).sum()) == pytest.approx(length, abs=1e-3)
        else:
            assert len(way) == 0


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), thickness=st.sampled_from([0.0, 0.02, 0.2, 1.0]), compatible=st.booleans())
def test_any_triangles_make_ground_that_can_be_walked_or_a_clear_error(
    seed: int, thickness: float, compatible: bool
) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 120))
    middles = rng.uniform(-3, 3, (count, 1, 3)) * [1, thickness, 1]
    corners = middles + rng.normal(0, 1, (count, 3, 3)) * [1, thickness, 1]
    corners[: count // 8, 2] = corners[: count // 8, 1]  # triangles without an area
    quads: list[Quad] = [(tuple(a), tuple(b), tuple(c), tuple(c)) for a, b, c in corners.tolist()]
    try:
        grid = nav_grid(scene(quads), NavSettings(habitat_compatible=compatible), cache=False)
    except UserError as error:
        assert "no walkable ground" in str(error)  # noqa: PT017, either outcome is right
        return
    start, end = grid.random_points(64, seed=0), grid.random_points(64, seed=1)
    assert not start.isnan().any()
    assert bool((grid.geodesic(start, end) >= 0).all())
    moved, _ = grid.step(start, yaw=torch.linspace(-3, 3, 64))
    assert bool((grid.island_of(moved) >= 0).all())


SLACK_M = 2e-3  # by which rounding may carry a point over a border


@settings(max_examples=25)
@given(
    name=st.sampled_from(["door", "storeys", "table"]),
    seed=st.integers(0, 10_000),
    step_m=st.floats(0.01, 1.0),
    sliding=st.booleans(),
)
def test_no_walk_leaves_the_ground(name: str, seed: int, step_m: float, sliding: bool) -> None:
    grid = _ONCE(name)
    generator = torch.Generator().manual_seed(seed)
    position = grid.random_points(64, generator=generator)
    island = grid.island_of(position)
    for _ in range(8):
        yaw = torch.rand(64, generator=generator) * 2 * math.pi
        before = position
        position, held_up = grid.step(position, yaw=yaw, forward_m=step_m, sliding=sliding)
        off = (grid.snap(position) - position)[:, [0, 2]].norm(dim=1)
        assert float(off.max()) <= SLACK_M
        assert torch.equal(grid.island_of(position), island)
        assert float((position - before)[:, [0, 2]].norm(dim=1).max()) <= 2 * step_m + SLACK_M
        went = (position - before).pow(2).sum(dim=1)
        assert torch.equal(held_up, went + 1e-5 < step_m**2)


def _once() -> Callable[[str], NavGrid]:
    made: dict[str, NavGrid] = {}
    makers = {"door": wall_and_door, "storeys": two_storeys, "table": room_with_table}

    def grid(name: str) -> NavGrid:
        if name not in made:
            made[name] = nav_grid(makers[name](), cache=False)
        return made[name]

    return grid


_ONCE = _once()
