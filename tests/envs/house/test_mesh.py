import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vlkit.envs.house.catalogue import KINDS
from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.house import LEVELS, STOREY_M, House, Level, Opening
from vlkit.envs.house.mesh import CATEGORIES, house_scene
from vlkit.envs.house.textures import PATTERNS, textures
from vlkit.envs.simulator.camera import Camera, frames, rotations
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings, nav_grid
from vlkit.envs.simulator.raster import RasterEngine
from vlkit.envs.simulator.scene import SceneData

ARRAYS = ("vertices", "faces", "uv", "texture", "colour", "vertex_colour", "double_sided", "instance", "semantic")


@pytest.fixture(scope="module")
def scenes(cottage: House, town_house: House) -> tuple[SceneData, SceneData]:
    return house_scene(cottage), house_scene(town_house)


@pytest.fixture(scope="module")
def grids(scenes: tuple[SceneData, SceneData]) -> tuple[NavGrid, NavGrid]:
    settings = NavSettings(agent_radius=0.2)
    return nav_grid(scenes[0], settings, cache=False), nav_grid(scenes[1], settings, cache=False)


def either_side(opening: Opening) -> np.ndarray:
    """(2, 3): two points half a metre from it, in its two rooms."""
    (x, z), floor = opening.centre, opening.storey * STOREY_M
    out = (0.0, 0.5) if opening.along == "x" else (0.5, 0.0)
    return np.array([(x - out[0], floor, z - out[1]), (x + out[0], floor, z + out[1])], dtype=np.float32)


def holes(scene: SceneData, feet: torch.Tensor) -> int:
    """Pixels without depth or label in views from there to all sides, up and down too."""
    count, camera = len(feet), Camera(height=64, width=64)
    draws = torch.rand(count, 2, generator=torch.Generator().manual_seed(1))
    turn = rotations(draws[:, 0] * 2 * math.pi, (draws[:, 1] - 0.5) * 2.0)
    engine = RasterEngine([scene], threads=1)
    views = frames(camera, ("depth", "semantic"), count, engine.device)
    eyes = feet + torch.tensor(camera.offset)
    engine.render(camera, torch.zeros(count, dtype=torch.int64), eyes.float(), turn.float(), views)
    return int(((views["depth"] == 0) | (views["semantic"] == 0)).sum())


def test_one_walks_through_every_opening(cottage: House, town_house: House, grids: tuple[NavGrid, NavGrid]) -> None:
    for house, grid in zip((cottage, town_house), grids, strict=True):
        for opening in house.openings:
            start, end = either_side(opening)
            metres = float(grid.geodesic(start[None], end[None])[0])
            assert metres == pytest.approx(1.0, abs=0.1), (house.name, opening)


def test_the_largest_island_reaches_every_room_and_both_storeys(
    cottage: House, town_house: House, grids: tuple[NavGrid, NavGrid]
) -> None:
    for house, grid in zip((cottage, town_house), grids, strict=True):
        points = grid.random_points(400, seed=0, island=grid.largest_island)
        rooms = {room.id for x, y, z in points.tolist() if (room := house.room_at((x, y, z))) is not None}
        assert rooms == {room.id for room in house.rooms}
    heights = grids[1].random_points(400, seed=0, island=grids[1].largest_island)[:, 1]
    on_steps = ((heights > 0.3) & (heights < STOREY_M - 0.3)).sum()
    assert (heights < 0.05).sum() > 50
    assert (heights > STOREY_M - 0.05).sum() > 50
    assert on_steps > 5


@pytest.mark.parametrize("level", LEVELS)
def test_a_random_house_is_walkable_through_and_closed(level: Level) -> None:
    house = random_house(level, level, 0)
    scene = house_scene(house)
    grid = nav_grid(scene, NavSettings(agent_radius=0.2), cache=False)
    feet = grid.random_points(400, seed=0, island=grid.largest_island)
    rooms = {room.id for x, y, z in feet.tolist() if (room := house.room_at((x, y, z))) is not None}
    assert rooms == {room.id for room in house.rooms}
    for opening in house.openings:
        start, end = either_side(opening)
        assert float(grid.geodesic(start[None], end[None])[0]) < 1.5, opening
    assert holes(scene, feet) == 0
    assert len(scene.faces) < 15_000


def test_the_way_up_is_as_long_as_the_stairs(town_house: House, grids: tuple[NavGrid, NavGrid]) -> None:
    flight = town_house.flights[0]
    foot = np.array([[flight.foot[0], 0.0, flight.foot[1] + 0.3]], dtype=np.float32)
    head = np.array([[flight.head[0], STOREY_M, flight.head[1] - 0.3]], dtype=np.float32)
    length = math.hypot(math.dist(flight.foot, flight.head), STOREY_M) + 0.6
    assert float(grids[1].geodesic(foot, head)[0]) == pytest.approx(length, rel=0.06)


def test_nobody_walks_off_the_landing(town_house: House, grids: tuple[NavGrid, NavGrid]) -> None:
    grid, position = grids[1], np.array([[4.6, STOREY_M, 0.6]], dtype=np.float32)
    for _ in range(12):  # south, where beside the stairs there is no floor
        position, _ = grid.step(position, displacement=np.array([[0.0, 0.0, 0.25]], dtype=np.float32))
    assert float(position[0, 1]) == pytest.approx(STOREY_M, abs=0.02)
    assert float(position[0, 2]) < town_house.flights[0].head[1]


@pytest.mark.parametrize("number", [0, 1])
def test_from_inside_one_sees_no_hole(
    number: int, scenes: tuple[SceneData, SceneData], grids: tuple[NavGrid, NavGrid]
) -> None:
    assert holes(scenes[number], grids[number].random_points(240, seed=1, island=grids[number].largest_island)) == 0


def test_a_door_is_framed_on_both_sides(cottage: House, scenes: tuple[SceneData, SceneData]) -> None:
    camera = Camera(height=64, width=64)
    start, end = either_side(cottage.openings[0])
    eyes = torch.tensor(np.stack([start, end]) + np.array([[-1.5, 0, 0], [1.5, 0, 0]])) + torch.tensor(camera.offset)
    turn = rotations(torch.tensor([-math.pi / 2, math.pi / 2]), torch.zeros(2))  # each looks at the door
    engine = RasterEngine([scenes[0]], threads=1)
    views = frames(camera, ("rgb", "semantic"), 2, engine.device)
    engine.render(camera, torch.zeros(2, dtype=torch.int64), eyes.float(), turn.float(), views)
    for rgb, semantic in zip(views["rgb"].float(), views["semantic"], strict=True):
        frame, wall = semantic == CATEGORIES.index("door frame"), semantic == CATEGORIES.index("wall")
        assert frame.sum() > 40
        assert (rgb[frame].mean() - rgb[wall].mean()).abs() > 60


def test_every_thing_is_labelled_and_stands_where_the_house_says(
    cottage: House, town_house: House, scenes: tuple[SceneData, SceneData]
) -> None:
    for house, scene in zip((cottage, town_house), scenes, strict=True):
        assert [each.name for each in scene.objects] == [f"{each.colour} {each.kind}" for each in house.furniture]
        assert set(np.unique(scene.instance)) == {0, *(each.id for each in house.furniture)}
        for thing in house.furniture:
            own = scene.instance == thing.id
            assert {scene.categories[number] for number in np.unique(scene.semantic[own])} == {thing.kind}
            corners = scene.vertices[scene.faces[own]].reshape(-1, 3)
            for axis, middle, extent in ((0, thing.centre[0], thing.extent[0]), (2, thing.centre[2], thing.extent[1])):
                assert abs(corners[:, axis] - middle).max() <= extent / 2 + 0.01
                assert np.ptp(corners[:, axis]) > 0.7 * extent
            assert corners[:, 1].min() >= thing.centre[1] - 1e-6
            assert corners[:, 1].max() == pytest.approx(
                thing.centre[1] + thing.size[1], abs=0.03 * thing.size[1] + 0.01
            )


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_thing_turns_its_front_where_the_house_says(cottage: House, turn: int) -> None:
    bed = dataclasses.replace(cottage.furniture[6], turn=turn)
    scene = house_scene(dataclasses.replace(cottage, furniture=(bed,)))
    corners = scene.vertices[scene.faces[scene.instance == bed.id]].reshape(-1, 3)
    head_board = corners[corners[:, 1] > 0.9 * bed.size[1]].mean(axis=0)
    behind = (head_board[0] - bed.centre[0]) * bed.front[0] + (head_board[2] - bed.centre[2]) * bed.front[1]
    assert behind < -0.4 * bed.size[2]


def test_the_same_house_makes_the_same_scene(cottage: House, scenes: tuple[SceneData, SceneData]) -> None:
    again = house_scene(House.from_json(cottage.to_json()))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(scenes[0], name))
    assert again.objects == scenes[0].objects
    assert again.rooms == scenes[0].rooms


def test_all_houses_share_their_textures_and_categories(scenes: tuple[SceneData, SceneData]) -> None:
    first, second = scenes
    assert all(one is other for one, other in zip(first.textures, second.textures, strict=True))
    assert len(first.textures) == len(PATTERNS) == len({texture.image.tobytes() for texture in textures()})
    assert first.categories == second.categories == CATEGORIES
    assert set(KINDS) < set(CATEGORIES)


def test_textures_leave_most_of_a_colour_as_it_is() -> None:
    for pattern, texture in zip(PATTERNS, textures(), strict=True):
        grey = texture.image[..., :3] / 255
        assert (texture.image[..., 3] == 255).all()
        assert (np.ptp(grey, axis=2) == 0).all()
        assert 0.78 < grey.mean() <= 1, pattern


def test_a_house_survives_being_written_as_glb(tmp_path: Path, scenes: tuple[SceneData, SceneData]) -> None:
    scene = scenes[1]
    save_glb(scene, tmp_path / "house.glb")
    back = load_scene(tmp_path / "house.glb", cache=False)
    assert (back.objects, back.rooms, back.categories) == (scene.objects, scene.rooms, scene.categories)
    np.testing.assert_array_equal(back.vertices[back.faces], scene.vertices[scene.faces])
    for name in ("uv", "colour", "double_sided", "instance", "semantic"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scene, name))
    for mine, its in zip(scene.texture.tolist(), back.texture.tolist(), strict=True):
        assert (mine < 0) == (its < 0)
        assert mine < 0 or (scene.textures[mine].image == back.textures[its].image).all()


def test_stairs_have_one_step_for_each_that_the_house_says(
    town_house: House, scenes: tuple[SceneData, SceneData]
) -> None:
    scene, flight = scenes[1], town_house.flights[0]
    corners = scene.vertices[scene.faces[scene.semantic == CATEGORIES.index("stairs")]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    steps = np.arange(1, flight.steps + 1) / flight.steps
    treads, risers = corners[normals[:, 1] > 0.99 * lengths], corners[normals[:, 2] > 0.99 * lengths]
    np.testing.assert_allclose(np.unique(np.round(treads[:, :, 1], 3)), steps * STOREY_M, atol=1e-3)
    run = flight.foot[1] - flight.head[1]
    expected = flight.foot[1] - run * (steps - steps[0])  # the flight leads north: each riser lies further that way
    np.testing.assert_allclose(np.unique(np.round(risers[:, :, 2], 3)), np.sort(expected), atol=1e-3)


def test_a_railing_stands_beside_the_steps_and_where_the_landing_ends(
    town_house: House, scenes: tuple[SceneData, SceneData]
) -> None:
    scene, flight, room = scenes[1], town_house.flights[0], town_house.rooms[1]
    corners = scene.vertices[scene.faces[scene.semantic == CATEGORIES.index("railing")]].reshape(-1, 3)
    near_head = corners[abs(corners[:, 2] - flight.head[1]) < 0.1]
    left = flight.foot[0] - flight.width_m / 2
    over_void = near_head[near_head[:, 0] < left - 0.05]
    assert over_void[:, 0].min() == pytest.approx(room.low[0], abs=0.05)
    assert over_void[:, 1].max() == pytest.approx(STOREY_M + 0.95, abs=0.05)
    for side in (-1, 1):
        edge = flight.foot[0] + side * flight.width_m / 2
        beside = corners[abs(corners[:, 0] - edge) < 0.06]
        assert beside[:, 2].min() < flight.head[1] + 0.1
        assert beside[:, 2].max() > flight.foot[1] - 0.1
