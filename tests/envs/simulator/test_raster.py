import copy
import functools
import math
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlkit.envs.simulator.camera import Camera, Filtering, Frames, Kind, frames
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.golden import frame_figures, golden_scenes
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.raster import RasterEngine, _scratch, _Worker
from vlkit.envs.simulator.scene import SMOOTH, Filters, SceneData, Texture, Wrap
from vlkit.errors import UserError

KINDS: tuple[Kind, ...] = ("rgb", "depth", "semantic", "instance")
CAMERA = Camera(height=32, width=32)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quads(
    *corners: Sequence[Sequence[float]],
    image: np.ndarray | None = None,
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat"),
    filters: Filters = SMOOTH,
    uv: Sequence[Sequence[float]] = ((0, 1), (1, 1), (1, 0), (0, 0)),
    colours: Sequence[Sequence[float]] | None = None,
    double_sided: bool = False,
) -> SceneData:
    """Each of four corners, counter-clockwise from the lower left one; instances 1, 2, ..., categories the same."""
    count = len(corners)
    square = np.array([[0, 1, 2], [0, 2, 3]])
    faces = np.concatenate([square + 4 * i for i in range(count)])
    each = np.repeat(np.arange(count), 2)
    colour = np.ones((count, 4)) if colours is None else np.array([(*rgb, 1.0) for rgb in colours])
    return SceneData(
        name="quads",
        vertices=np.array(corners, np.float32).reshape(-1, 3),
        faces=faces.astype(np.int32),
        uv=np.tile(np.array(uv, np.float32)[square], (count, 1, 1)),
        texture=np.full(2 * count, -1 if image is None else 0, np.int32),
        colour=colour[each].astype(np.float32),
        vertex_colour=np.full((4 * count, 4), 255, np.uint8),
        double_sided=np.full(2 * count, double_sided),
        instance=(each + 1).astype(np.int32),
        semantic=(each + 1).astype(np.int32),
        textures=() if image is None else (Texture(image, wrap, filters),),
        categories=("unlabelled", *map(str, range(count))),
    )


def wall(z: float = -2.0, half: float = 1.0) -> list[list[float]]:
    """Before a camera at the origin, facing it."""
    return [[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]]


def turned(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """(3, 3), radians: to the left, up, and against the clock."""
    (a, b), (c, d), (e, f) = ((math.cos(x), math.sin(x)) for x in (yaw, pitch, roll))
    left = np.array([[a, 0, b], [0, 1, 0], [-b, 0, a]])
    up = np.array([[1, 0, 0], [0, c, -d], [0, d, c]])
    turn: np.ndarray = left @ up @ np.array([[e, -f, 0], [f, e, 0], [0, 0, 1]])
    return turn


def pose(position: Sequence[float] = (0, 0, 0), rotation: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    matrix = np.eye(3) if rotation is None else rotation
    return torch.tensor([position], dtype=torch.float32), torch.tensor(matrix, dtype=torch.float32)[None]


def draw(
    scene: SceneData | RasterEngine,
    camera: Camera = CAMERA,
    poses: tuple[Tensor, Tensor] | None = None,
    scenes: Sequence[int] | None = None,
    kinds: tuple[Kind, ...] = KINDS,
    **options: Any,
) -> Frames:
    engine = scene if isinstance(scene, RasterEngine) else RasterEngine([scene], threads=1, **options)
    position, rotation = poses or pose()
    out = frames(camera, kinds, len(position), engine.device)
    numbers = torch.zeros(len(position), dtype=torch.int64) if scenes is None else torch.tensor(scenes)
    engine.render(camera, numbers, position, rotation.contiguous(), out)
    return out


def many_quads(count: int, seed: int = 0) -> SceneData:
    """In a ball around the origin, every way round."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 1, 3)) * 4
    across = rng.normal(size=(count, 2, 3)) * 0.7
    corners = centres + np.stack([-across[:, 0], across[:, 1], across[:, 0], -across[:, 1]], axis=1)
    image = rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    return quads(*corners.tolist(), image=image, colours=rng.random((count, 3)).tolist(), double_sided=True)


@functools.cache
def fuzzed() -> RasterEngine:
    return RasterEngine([many_quads(60)], threads=1, filtering="trilinear", shading="lambert")


def many_poses(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    matrices = np.stack([turned(*rng.uniform(-3, 3, 3)) for _ in range(count)])
    return torch.tensor(rng.normal(size=(count, 3)), dtype=torch.float32), torch.tensor(matrices, dtype=torch.float32)


def test_a_wall_covers_exactly_its_pixels_at_its_depth() -> None:
    seen = draw(quads(wall(), colours=[(1.0, 0.5, 0.0)]))
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[8:24, 8:24] = True
    assert torch.equal(seen["depth"][0] > 0, inside)
    assert (seen["depth"][0][inside] - 2).abs().max() < 1e-6
    assert (seen["rgb"][0][inside] == torch.tensor([255, 128, 0])).all()
    assert (seen["rgb"][0][~inside] == 0).all()
    assert torch.equal(seen["instance"][0] == 1, inside)
    assert torch.equal(seen["semantic"][0], seen["instance"][0])


def test_depth_is_along_the_optical_axis_on_a_slanted_floor() -> None:
    floor = [[-50.0, -1.0, 0.0], [50.0, -1.0, 0.0], [50.0, -1.0, -100.0], [-50.0, -1.0, -100.0]]
    seen = draw(quads(floor), Camera(height=24, width=40, hfov_deg=70))
    focal = Camera(width=40, hfov_deg=70).focal
    for row in (14, 18, 23):
        expected = focal / (row + 0.5 - 12)
        assert (seen["depth"][0, row] - expected).abs().max() < 1e-4
    assert (seen["depth"][0, :12] == 0).all()


def test_the_nearer_wall_hides_the_farther_whatever_their_order() -> None:
    for order in ((-2.0, -4.0), (-4.0, -2.0)):
        seen = draw(quads(*(wall(z, half=5.0) for z in order)))
        assert (seen["depth"] == 2).all()
        assert (seen["instance"] == order.index(-2.0) + 1).all()


def test_a_picture_hangs_upright_and_unmirrored() -> None:
    image = np.array([[(*RED, 255), (*GREEN, 255)], [(*BLUE, 255), (*WHITE, 255)]], np.uint8)
    seen = draw(quads(wall(half=2.0), image=image), filtering="nearest")["rgb"][0]
    for (row, column), colour in {(3, 3): RED, (3, 28): GREEN, (28, 3): BLUE, (28, 28): WHITE}.items():
        assert seen[row, column].tolist() == list(colour)


@pytest.mark.parametrize(
    ("wrap", "expected"), [("repeat", "RBRB"), ("mirror", "RBBR"), ("clamp", "RBBB")], ids=lambda value: value
)
def test_a_texture_goes_on_as_its_wrap_says(wrap: Wrap, expected: str) -> None:
    image = np.array([[(*RED, 255), (*BLUE, 255)]], np.uint8)
    across = ((0, 1), (2, 1), (2, 0), (0, 0))
    seen = draw(quads(wall(half=2.0), image=image, wrap=(wrap, "repeat"), uv=across), filtering="nearest")["rgb"][0]
    letters = {RED: "R", BLUE: "B"}
    assert "".join(letters[tuple(seen[5, column].tolist())] for column in (4, 12, 20, 28)) == expected
    turned_image = image.transpose(1, 0, 2)
    along = ((0, 2), (1, 2), (1, 0), (0, 0))
    other = quads(wall(half=2.0), image=turned_image, wrap=("repeat", wrap), uv=along)
    assert torch.equal(draw(other, filtering="nearest")["rgb"][0].transpose(0, 1), seen)


def test_bilinear_filtering_is_a_ramp_between_texels() -> None:
    image = np.array([[(0, 0, 0, 255), (200, 100, 40, 255)]], np.uint8)
    seen = draw(quads(wall(half=2.0), image=image, wrap=("clamp", "clamp")))["rgb"][0, 16].float()
    share = ((torch.arange(32) + 0.5) / 16 - 0.5).clamp(0, 1)
    assert (seen - share[:, None] * torch.tensor([200.0, 100.0, 40.0])).abs().max() <= 0.51


@pytest.mark.parametrize("filtering", ["bilinear", "trilinear"])
def test_a_texture_that_asks_for_its_nearest_texel_shows_it_seen_large(filtering: Filtering) -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 8, 4), dtype=np.uint8)
    for filters in (("nearest", "linear", "linear"), ("linear", "nearest", "linear")):
        asked = quads(wall(half=2.0), image=image, filters=filters)
        sharp = draw(quads(wall(half=2.0), image=image), filtering="nearest")["rgb"]
        assert torch.equal(draw(asked, filtering=filtering)["rgb"], sharp) == (filters[0] == "nearest")


def test_a_texture_seen_small_mixes_levels_unless_it_asks_for_one_or_for_the_first() -> None:
    image = np.zeros((64, 64, 4), np.uint8)
    image[:, :32] = 255  # black and white in the first level, and in all smaller ones but the last: grey
    far = wall(z=-40.0, half=2.0)  # 1.6 pixels wide
    grey = {
        filters: draw(quads(far, image=image, filters=filters), filtering="trilinear")["rgb"].float().max()
        for filters in (("linear", "linear", "linear"), ("linear", "nearest", "none"))
    }
    assert grey["linear", "linear", "linear"] < 250
    assert grey["linear", "nearest", "none"] == 255


def test_repeating_and_bilinear_the_last_texel_meets_the_first() -> None:
    image = np.array([[(0, 0, 0, 255), (200, 200, 200, 255)]], np.uint8)
    seen = draw(quads(wall(half=2.0), image=image))["rgb"][0, 16, :, 0].float()
    place = (torch.arange(32) + 0.5) / 16 - 0.5
    expected = torch.where(place < 0, -place * 200, torch.where(place > 1, (2 - place) * 200, place * 200))
    assert (seen - expected).abs().max() <= 0.51


def stripes(size: int) -> np.ndarray:
    image = np.zeros((size, size, 4), np.uint8)
    image[:, ::2] = 255
    return image


@pytest.mark.parametrize("filtering", ["nearest", "bilinear", "trilinear"])
def test_far_away_stripes_become_their_mean_without_sparkle(filtering: Filtering) -> None:
    seen = draw(quads(wall(half=2.0), image=stripes(256)), filtering=filtering)["rgb"]
    assert (seen.int() - 128).abs().max() <= 1


def test_trilinear_mixes_the_two_levels_that_are_next() -> None:
    image = np.zeros((64, 64, 4), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255  # the first level is a chequer, all others 128
    closer = wall(z=-2.0, half=1.0)
    texels_a_pixel = 64 / 16
    seen = draw(quads(closer, image=image, uv=((0, 1 / 3), (1 / 3, 1 / 3), (1 / 3, 0), (0, 0))), filtering="trilinear")
    share = math.log2(texels_a_pixel / 3)
    spread = seen["rgb"][0, 8:24, 8:24].float()
    assert spread.max() <= 128 + (1 - share) * 127 + 1
    assert spread.max() > 128 + 5
    assert abs(float(spread.mean()) - 128) < 3


def test_colours_of_corners_are_mixed_in_perspective() -> None:
    floor = [[-1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [1.0, -1.0, -5.0], [-1.0, -1.0, -5.0]]
    scene = quads(floor, colours=[(1.0, 1.0, 0.5)])
    scene = replace(scene, vertex_colour=np.array([[0, 255, 200, 255]] * 2 + [[240, 255, 200, 255]] * 2, np.uint8))
    seen = draw(scene, Camera(height=64, width=64))
    middle = slice(28, 36)
    depth = seen["depth"][0, 40:63, middle]
    assert (depth > 0).all()
    colour = seen["rgb"][0, 40:63, middle].float()
    assert (colour[..., 0] - 240 * (depth - 1) / 4).abs().max() < 1
    assert (colour[..., 1] == 255).all()
    assert (colour[..., 2] == 100).all()


def test_lambert_follows_the_cosine_between_light_and_normal() -> None:
    flat = draw(quads(wall()), shading="flat")["rgb"][0, 16, 16]
    assert flat.tolist() == [255, 255, 255]
    cosine = 0.206 / math.sqrt(0.309**2 + 0.927**2 + 0.206**2)
    assert abs(int(draw(quads(wall()), shading="lambert")["rgb"][0, 16, 16, 0]) - 255 * (0.75 + 0.25 * cosine)) < 1.5
    behind = quads(wall()[::-1], double_sided=True)  # its back turned to the camera: lit as what is seen
    assert abs(int(draw(behind, shading="lambert")["rgb"][0, 16, 16, 0]) - 255 * (0.75 + 0.25 * cosine)) < 1.5
    turned_away = draw(quads(wall(z=2.0)[::-1]), poses=pose(rotation=turned(yaw=math.pi)), shading="lambert")
    assert abs(int(turned_away["rgb"][0, 16, 16, 0]) - 255 * (0.75 - 0.25 * cosine)) < 1.5


def test_a_back_is_seen_only_where_its_material_has_two_sides() -> None:
    away, both = quads(wall()[::-1]), quads(wall()[::-1], double_sided=True)
    assert (draw(away)["depth"] == 0).all()
    assert draw(both)["depth"][0, 16, 16] == 2
    assert (draw(both, cull_back_faces=True)["depth"] == 0).all()
    assert draw(away, cull_back_faces=False)["depth"].max() == 0
    assert (draw(both, habitat_compatible=True)["depth"] == 0).all()


def test_what_is_too_near_or_too_far_is_not_seen() -> None:
    scene = quads(wall(-2.0), wall(-4.0, half=9.0))
    near_cut = draw(scene, Camera(height=32, width=32, near_m=3.0))
    assert (near_cut["instance"] == 2).all()
    far_cut = draw(scene, Camera(height=32, width=32, far_m=3.0))
    assert set(far_cut["instance"].flatten().tolist()) == {0, 1}
    assert (far_cut["depth"][far_cut["instance"] == 0] == 0).all()
    assert (far_cut["rgb"][far_cut["instance"] == 0] == 0).all()


def test_a_floor_that_passes_under_the_camera_has_no_hole() -> None:
    floor = [[-30.0, -1.5, 30.0], [30.0, -1.5, 30.0], [30.0, -1.5, -30.0], [-30.0, -1.5, -30.0]]
    for yaw in np.linspace(0, 6, 7):
        for pitch in (-1.5, -0.9, -0.3):
            seen = draw(quads(floor), poses=pose(rotation=turned(yaw, pitch)), camera=Camera(height=40, width=56))
            rays = torch.tensor(turned(yaw, pitch), dtype=torch.float64)
            camera = Camera(height=40, width=56)
            x = (torch.arange(56) + 0.5 - 28) / camera.focal
            y = (20 - torch.arange(40) - 0.5) / camera.focal
            down = rays[1, 0] * x[None] + rays[1, 1] * y[:, None] - rays[1, 2]
            expected = torch.where(down < -1.5 / 30, -1.5 / down, torch.zeros(()))
            inside = expected > 0
            sideways = torch.linalg.vector_norm(
                torch.stack([x[None].expand(40, 56), y[:, None].expand(40, 56), torch.ones(40, 56)]), dim=0
            )
            close = inside & (expected * sideways < 29)
            assert (seen["depth"][0][close] - expected[close]).abs().max() < 1e-3


def closed_ball(rows: int = 24, columns: int = 32, radius: float = 3.0) -> SceneData:
    """Seen from inside; neighbours share their edges exactly."""
    up, around = np.meshgrid(np.linspace(0, np.pi, rows + 1), np.linspace(0, 2 * np.pi, columns + 1), indexing="ij")
    around[:, -1] = 0
    points = radius * np.stack([np.sin(up) * np.cos(around), np.cos(up), np.sin(up) * np.sin(around)], axis=-1)
    points[0], points[-1] = (0, radius, 0), (0, -radius, 0)
    corners = [
        [points[i, j], points[i, j + 1], points[i + 1, j + 1], points[i + 1, j]]
        for i in range(rows)
        for j in range(columns)
    ]
    return quads(*np.array(corners)[:, ::-1].tolist())


def test_triangles_that_share_edges_leave_no_pixel_out() -> None:
    engine = RasterEngine([closed_ball()], threads=1)
    holes = 0
    for seed in range(3):
        position, rotation = many_poses(24, seed)
        seen = draw(engine, Camera(height=96, width=96), (position.clamp(-1.5, 1.5), rotation), kinds=("depth",))
        holes += int((seen["depth"] == 0).sum())
    assert holes == 0


def test_every_shape_of_picture_shows_the_same_scene() -> None:
    scene = quads(wall(half=9.0), colours=[(0.2, 0.4, 0.6)])
    for height, width, hfov in ((1, 1, 90.0), (7, 33, 120.0), (50, 16, 20.0), (3, 129, 170.0)):
        camera = Camera(height=height, width=width, hfov_deg=hfov)
        seen = draw(scene, camera)
        x = (torch.arange(width) + 0.5 - width / 2) / camera.focal * 2
        y = (torch.arange(height) + 0.5 - height / 2) / camera.focal * 2
        inside = (x[None].abs() < 9) & (y[:, None].abs() < 9)
        assert torch.equal(seen["depth"][0] > 0, inside)
        assert (seen["rgb"][0][inside] == torch.tensor([51, 102, 153])).all()


def test_views_of_several_scenes_are_drawn_in_one_call() -> None:
    first, second = quads(wall(-2.0, half=5.0)), quads(wall(-3.0, half=9.0), wall(-1.0, half=0.1))
    engine = RasterEngine([first, second], threads=1)
    position, rotation = pose()
    seen = draw(engine, poses=(position.repeat(3, 1), rotation.repeat(3, 1, 1)), scenes=[1, 0, 1])
    assert seen["depth"][:, 0, 0].tolist() == pytest.approx([3, 2, 3])
    assert seen["instance"][:, 16, 16].tolist() == [2, 1, 2]
    assert torch.equal(seen["rgb"][0], seen["rgb"][2])


def test_neither_threads_nor_batch_nor_order_change_a_bit() -> None:
    scenes = [many_quads(200), many_quads(90, seed=5)]
    camera, poses = Camera(height=40, width=52), many_poses(256)
    numbers = [i % 2 for i in range(256)]
    one, two = RasterEngine(scenes, threads=1), RasterEngine(scenes, threads=2)
    expected = draw(one, camera, poses, numbers)
    for seen in (
        draw(two, camera, poses, numbers),
        draw(two, camera, poses, numbers),
        draw(one, camera, poses, numbers),
    ):
        assert all(torch.equal(seen[kind], expected[kind]) for kind in KINDS)
    for i in range(0, 256, 31):
        alone = draw(one, camera, (poses[0][i : i + 1], poses[1][i : i + 1]), numbers[i : i + 1])
        assert all(torch.equal(alone[kind][0], expected[kind][i]) for kind in KINDS)


def test_only_what_is_asked_for_is_written() -> None:
    engine = RasterEngine([many_quads(50)], threads=1)
    poses = many_poses(3)
    everything = draw(engine, poses=poses)
    for kind in KINDS:
        alone = draw(engine, poses=poses, kinds=(kind,))
        assert torch.equal(alone[kind], everything[kind])


def test_a_view_from_nowhere_or_of_no_scene_is_empty() -> None:
    engine = RasterEngine([quads(wall(half=9.0))], threads=1)
    position, rotation = pose()
    position, rotation = position.repeat(6, 1), rotation.repeat(6, 1, 1)
    position[0, 1], position[1, 2], rotation[2, 0, 0] = float("nan"), float("inf"), float("nan")
    seen = draw(engine, poses=(position, rotation), scenes=[0, 0, 0, -1, 1, 0])
    for kind in KINDS:
        assert (seen[kind][:5] == 0).all()
    assert (seen["depth"][5] > 0).all()


NUMBERS = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, -2.0, 1e-30, 3e38]), st.floats(-3, 3, width=32))


@given(numbers=st.lists(NUMBERS, min_size=12, max_size=12), height=st.integers(1, 20), width=st.integers(1, 40))
@settings(max_examples=60)
def test_any_pose_at_all_gives_a_valid_picture(numbers: list[float], height: int, width: int) -> None:
    poses = torch.tensor([numbers[:3]]), torch.tensor(numbers[3:]).view(1, 3, 3)
    camera = Camera(height=height, width=width, far_m=30.0)
    seen = draw(fuzzed(), camera, poses)
    assert ((seen["depth"] >= 0) & (seen["depth"] <= 30)).all()
    assert ((seen["instance"] >= 0) & (seen["instance"] <= 60)).all()
    assert (seen["rgb"][seen["depth"] == 0] == 0).all()
    assert torch.equal(seen["depth"] > 0, seen["instance"] > 0)


def test_a_camera_in_a_wall_sees_what_is_beyond_it() -> None:
    seen = draw(quads(wall(0.0, half=5.0), wall(-3.0, half=9.0)))
    assert (seen["depth"] - 3).abs().max() < 1e-5


def test_a_scene_without_a_triangle_is_empty_and_a_degenerate_one_is_not_seen() -> None:
    scene = quads(wall(half=9.0))
    bare = replace(
        scene,
        **{
            name: getattr(scene, name)[:0]
            for name in ("faces", "uv", "texture", "colour", "double_sided", "instance", "semantic")
        },
    )
    assert (draw(bare)["depth"] == 0).all()
    point = [[0.0, 0.0, -1.0]] * 4
    line = [[0.0, 0.0, -1.0], [1.0, 0.0, -1.0], [2.0, 0.0, -1.0], [3.0, 0.0, -1.0]]
    lost = [[float("nan")] * 3] * 4
    seen = draw(quads(point, line, lost, wall(half=9.0)))
    assert (seen["instance"] == 4).all()


def test_a_scene_written_to_a_glb_and_read_back_looks_the_same(tmp_path: Path) -> None:
    scene = many_quads(120)
    save_glb(scene, tmp_path / "scene.glb")
    back = load_scene(tmp_path / "scene.glb", cache=False)
    poses, camera = many_poses(8), Camera(height=40, width=60)
    before, after = draw(scene, camera, poses), draw(back, camera, poses)
    assert all(torch.equal(before[kind], after[kind]) for kind in KINDS)


def test_running_out_of_slots_changes_nothing() -> None:
    scene = many_quads(1500)
    engine = RasterEngine([scene], threads=1)
    camera = Camera(height=24, width=24)
    poses = many_poses(8)
    expected = draw(engine, camera, poses)
    scratch = _scratch(24, 24, engine.layout)
    scratch.slots = 24 * 24 + 40  # of which every pixel may hold one
    engine._workers[24, 24] = [_Worker(engine._scenes, scratch)]
    seen = draw(engine, camera, poses)
    assert all(torch.equal(seen[kind], expected[kind]) for kind in KINDS)


def test_tensors_that_are_drawn_from_again_show_what_stands_in_them_now() -> None:
    engine, (position, rotation) = RasterEngine([many_quads(80)], threads=1), many_poses(4)
    scene, out = torch.zeros(4, dtype=torch.int64), frames(CAMERA, KINDS, 4, engine.device)
    engine.render(CAMERA, scene, position, rotation, out)
    position += 0.3
    engine.render(CAMERA, scene, position, rotation, out)
    expected = draw(engine, CAMERA, (position.clone(), rotation.clone()))
    assert all(torch.equal(out[kind], expected[kind]) for kind in KINDS)
    position.set_(torch.zeros(4, 3).contiguous())  # type: ignore[call-overload]
    engine.render(CAMERA, scene, position, rotation, out)
    expected = draw(engine, CAMERA, (torch.zeros(4, 3), rotation))
    assert all(torch.equal(out[kind], expected[kind]) for kind in KINDS)
    with pytest.raises(ValueError, match="rgb is"):
        engine.render(CAMERA, scene, position, rotation, {**out, "rgb": out["rgb"][:, :8].contiguous()})


def test_a_second_call_allocates_nothing_and_starts_no_thread() -> None:
    engine = RasterEngine([many_quads(80)], threads=2)
    position, rotation = many_poses(16)
    scene, out = torch.zeros(16, dtype=torch.int64), frames(CAMERA, KINDS, 16, engine.device)
    engine.render(CAMERA, scene, position, rotation, out)
    addresses = [tensor.data_ptr() for tensor in out.values()]
    workers, threads = list(engine._workers[32, 32]), threading.active_count()
    position.add_(0.1)
    before = out["depth"].clone()
    engine.render(CAMERA, scene, position, rotation, out)
    assert not torch.equal(before, out["depth"])
    assert engine._workers[32, 32] == workers
    assert threading.active_count() <= threads + 1
    assert [tensor.data_ptr() for tensor in out.values()] == addresses


def test_threads_of_the_caller_draw_what_one_draws() -> None:
    engine = RasterEngine([many_quads(150), many_quads(90, seed=5)], threads=2)
    asked = [(Camera(32 + 8 * (i % 2), 40), many_poses(12, seed=i), [(i + k) % 2 for k in range(12)]) for i in range(4)]
    expected = [draw(engine, *each) for each in asked]
    seen: list[list[Frames]] = [[] for _ in asked]

    def work(i: int) -> None:
        seen[i].extend(draw(engine, *asked[i]) for _ in range(25))

    callers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for all_mine, right in zip(seen, expected, strict=True):
        assert len(all_mine) == 25
        assert all(torch.equal(mine[kind], right[kind]) for mine in all_mine for kind in KINDS)


FORKED = """
import os
import signal
import sys
import threading
import torch
from test_raster import Camera, RasterEngine, draw, many_poses, many_quads

engine, camera, poses = RasterEngine([many_quads(80)], threads=2), Camera(32, 40), many_poses(16)
expected = draw(engine, camera, poses)
held = threading.Thread(target=lambda: (engine._drawing().acquire(), None), daemon=True)
held.start()
held.join()
child = os.fork()
signal.alarm(30)  # of parent and child: who hangs is ended
if child == 0:
    again = draw(engine, camera, poses)
    os._exit(0 if all(torch.equal(again[kind], expected[kind]) for kind in expected) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_goes_on_with_an_engine_that_was_used() -> None:
    # In a process of its own: since Python 3.12 a process with threads is warned when it forks.
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run([sys.executable, "-c", FORKED], env=os.environ | {"PYTHONPATH": path}, timeout=60, check=True)


def test_an_engine_that_nobody_keeps_is_gone_at_once() -> None:
    engine = RasterEngine([many_quads(80)], threads=2)
    draw(engine, poses=many_poses(16))
    gone = weakref.ref(engine)
    del engine
    assert gone() is None, "its scenes may be as large as the memory"


def test_an_engine_is_not_pickled_and_says_what_to_pickle() -> None:
    with pytest.raises(TypeError, match="pickle its scenes"):
        copy.copy(fuzzed())


def test_tensors_of_another_shape_or_type_are_refused() -> None:
    engine = RasterEngine([quads(wall())], threads=1)
    position, rotation = pose()
    out = frames(CAMERA, ("depth",), 1, engine.device)
    scene = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="position is .* expected \\(1, 3\\)"):
        engine.render(CAMERA, scene, position.double(), rotation, out)
    with pytest.raises(ValueError, match="depth is .* expected \\(1, 32, 32\\)"):
        engine.render(CAMERA, scene, position, rotation, frames(Camera(16, 16), ("depth",), 1, engine.device))
    with pytest.raises(
        ValueError, match="'normal' is no picture that an engine draws; expected .* rgb, depth, semantic"
    ):
        engine.render(CAMERA, scene, position, rotation, {"normal": out["depth"]})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="not contiguous"):
        engine.render(CAMERA, scene, position, rotation.transpose(1, 2), out)


def test_wrong_options_are_named() -> None:
    scene = quads(wall())
    with pytest.raises(UserError, match="filtering is 'cubic'; expected one of nearest, bilinear, trilinear"):
        RasterEngine([scene], filtering="cubic")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="shading is 'phong'"):
        RasterEngine([scene], shading="phong")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="threads is 0"):
        RasterEngine([scene], threads=0)
    with pytest.raises(UserError, match="no scene"):
        RasterEngine([])


@pytest.mark.reference
def test_pictures_are_those_of_habitat(reference: Path) -> None:
    for folder in golden_scenes(reference / "scenes" / "habitat_golden"):
        missed = [figure for figure in frame_figures(folder) if not figure.met]
        assert not missed
