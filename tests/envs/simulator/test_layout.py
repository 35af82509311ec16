from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vlkit.envs.simulator.layout import LANES, Layout, lay_out, mip_levels, mip_picture
from vlkit.envs.simulator.scene import SceneData, Texture
from vlkit.errors import UserError


def soup(faces: int, seed: int = 0, textures: tuple[Texture, ...] = ()) -> SceneData:
    """Small triangles anywhere in a cube of ten metres."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-5, 5, (faces, 1, 3)) + rng.normal(size=(faces, 3, 3)) * 0.1
    return SceneData(
        name="soup",
        vertices=corners.reshape(-1, 3).astype(np.float32),
        faces=np.arange(3 * faces, dtype=np.int32).reshape(-1, 3),
        uv=rng.uniform(-3, 3, (faces, 3, 2)).astype(np.float32),
        texture=rng.integers(-1, len(textures), faces).astype(np.int32),
        colour=rng.random((faces, 4)).astype(np.float32),
        vertex_colour=np.full((3 * faces, 4), 255, np.uint8),
        double_sided=rng.random(faces) < 0.5,
        instance=np.arange(faces, dtype=np.int32) + 1000,
        semantic=np.arange(faces, dtype=np.int32) % 5,
        textures=textures,
        categories=("unlabelled", "a", "b", "c", "d"),
    )


def placed_corners(layout: Layout) -> np.ndarray:
    return layout.corners.transpose(0, 2, 1).reshape(-1, 3, 3)


@pytest.mark.parametrize("faces", [0, 1, 15, 16, 17, 100, 1000])
def test_every_face_has_one_place_and_keeps_what_belongs_to_it(faces: int) -> None:
    scene = soup(faces, textures=(Texture(np.zeros((4, 4, 4), np.uint8)),))
    layout = lay_out([scene])
    filled = layout.source >= 0
    source = layout.source[filled]
    assert sorted(source.tolist()) == list(range(faces))
    assert len(layout.source) == layout.clusters[0] * LANES
    np.testing.assert_array_equal(placed_corners(layout)[filled], scene.vertices[scene.faces][source])
    np.testing.assert_array_equal(layout.instance[filled], scene.instance[source])
    np.testing.assert_array_equal(layout.semantic[filled], scene.semantic[source])
    np.testing.assert_array_equal(layout.double_sided[filled], scene.double_sided[source])
    np.testing.assert_array_equal(layout.texture[filled] == 0, scene.texture[source] == -1)
    moved = layout.uv[filled].reshape(-1, 3, 2) - scene.uv[source]
    np.testing.assert_allclose(moved, 2 * np.round(moved[:, :1] / 2) + np.zeros((1, 3, 1)), atol=1e-5)
    assert layout.uv.min(initial=0) >= 0


def test_clusters_are_full_small_and_inside_their_boxes() -> None:
    layout = lay_out([soup(4096)])
    boxes = layout.boxes.transpose(0, 2, 1).reshape(-1, 6)
    filled = (layout.source >= 0).reshape(-1, LANES)
    assert (filled.all(axis=1) | ~filled.any(axis=1)).all()
    used = filled.any(axis=1)
    assert np.isnan(boxes[~used]).all()
    points = placed_corners(layout).reshape(-1, LANES * 3, 3)[used]
    centre, half = boxes[used, None, :3], boxes[used, None, 3:]
    assert (np.abs(points - centre) <= half).all()
    # A cube of 10 m has room for 256 cubes of 1.6 m; the triangles' own size comes on top.
    assert np.median(half * 2) < 2.2


def test_scenes_lie_behind_one_another_and_share_textures() -> None:
    texture = Texture(np.full((8, 8, 4), 7, np.uint8))
    first, second = soup(40, 0, (texture,)), soup(70, 1, (texture, Texture(np.zeros((3, 5, 4), np.uint8))))
    layout = lay_out([first, second])
    begin = layout.first_cluster[1] * LANES
    assert layout.first_cluster.tolist() == [0, layout.clusters[0]]
    assert sorted(i for i in layout.source[begin:].tolist() if i >= 0) == list(range(70))
    assert len(layout.texture_base) == 3  # white, the shared one, the other
    assert layout.first_cluster[1] % LANES == 0


def test_a_face_that_is_not_finite_is_left_out() -> None:
    scene = soup(30)
    scene.vertices[5, 1] = np.nan
    scene.vertices[60, 0] = np.inf
    assert set(range(30)) - set(lay_out([scene]).source.tolist()) == {1, 20}


def test_vertex_colours_are_kept_only_where_one_is_not_white() -> None:
    scene = soup(20)
    assert lay_out([scene]).vertex_colour.shape == (1, 3)
    assert lay_out([scene]).coloured.tolist() == [0]
    colours = scene.vertex_colour.copy()
    colours[3] = (1, 2, 3, 255)
    layout = lay_out([scene, replace(scene, vertex_colour=colours)])
    assert layout.coloured.tolist() == [0, 1]
    assert (layout.vertex_colour == 1 + 2 * 256 + 3 * 65536 + 255 * 256**3).sum() == 1


def test_mip_levels_are_means_of_two_by_two_rounded_half_up() -> None:
    image = np.zeros((2, 4, 4), np.uint8)
    image[..., 0] = [[0, 1, 10, 20], [0, 1, 30, 41]]
    levels = mip_levels(image)
    assert [level.shape[:2] for level in levels] == [(2, 4), (1, 2), (1, 1)]
    assert levels[1][0, :, 0].tolist() == [1, 25]  # 0.5 and 25.25
    assert levels[2][0, 0, 0] == 13


def test_odd_sides_are_halved_as_linear_filtering_does() -> None:
    image = np.repeat(np.array([[0, 50, 100, 150, 200]], np.uint8)[..., None], 4, axis=2)
    assert mip_levels(image)[1][0, :, 0].tolist() == [38, 163]  # at 0.75 and 3.25


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (16, 16), (5, 37), (64, 3), (100, 100)])
def test_levels_in_the_picture_do_not_touch_and_lie_where_the_kernel_looks(size: tuple[int, int]) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    picture = mip_picture(Texture(image, ("repeat", "clamp")))
    covered = np.zeros(picture.shape, bool)
    for k, level in enumerate(mip_levels(image)):
        packed = level.astype(np.uint32) @ (256 ** np.arange(4, dtype=np.uint32))
        top = 0 if k == 0 else 2 * (height // 2 - (height >> k)) + 3 * (k - 1)
        left = 0 if k == 0 else width + 2
        rows, columns = packed.shape
        framed = picture[top : top + rows + 2, left : left + columns + 2]
        np.testing.assert_array_equal(framed[1:-1, 1:-1], packed)
        np.testing.assert_array_equal(framed[1:-1, 0], packed[:, -1])
        np.testing.assert_array_equal(framed[1:-1, -1], packed[:, 0])
        np.testing.assert_array_equal(framed[0, 1:-1], packed[0])
        np.testing.assert_array_equal(framed[-1, 1:-1], packed[-1])
        assert not covered[top : top + rows + 2, left : left + columns + 2].any()
        covered[top : top + rows + 2, left : left + columns + 2] = True


def test_a_texture_that_is_too_large_is_refused() -> None:
    wide = Texture(np.lib.stride_tricks.as_strided(np.zeros(4, np.uint8), (1, 20_000, 4), (0, 0, 1)))
    with pytest.raises(UserError, match="20000x1 pixels; expected 1 to 16384 a side"):
        lay_out([soup(3, textures=(wide,))])


def test_a_clamped_texture_keeps_its_coordinates() -> None:
    scene = soup(50, textures=(Texture(np.zeros((4, 4, 4), np.uint8), ("clamp", "repeat")),))
    scene = replace(scene, texture=np.zeros(50, np.int32))
    layout = lay_out([scene])
    filled = layout.source >= 0
    kept = layout.uv.reshape(-1, 3, 2)[filled]
    np.testing.assert_array_equal(kept[..., 0], scene.uv[layout.source[filled]][..., 0])
    assert kept[..., 1].min() >= 0


PICTURE = Texture(np.zeros((2, 2, 4), np.uint8))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"faces": np.full((4, 3), 12, np.int32)}, "made: faces has 12; expected 0 to 11"),
        ({"faces": np.full((4, 3), -1, np.int32)}, "made: faces has -1; expected 0 to 11"),
        ({"texture": np.full(4, 1, np.int32)}, "made: texture has 1; expected -1 to 0"),
        ({"texture": np.full(4, -2, np.int32)}, "made: texture has -2; expected -1 to 0"),
        ({"semantic": np.full(4, 5, np.int32)}, "made: semantic has 5; expected 0 to 4"),
        ({"semantic": np.full(4, -1, np.int32)}, "made: semantic has -1; expected 0 to 4"),
        ({"semantic": np.zeros(3, np.int32)}, "made: semantic has 3 rows; expected 4, one for each face"),
        (
            {"vertex_colour": np.zeros((3, 4), np.uint8)},
            "made: vertex_colour has 3 rows; expected 12, one for each vertex",
        ),
        (
            {"textures": (replace(PICTURE, wrap=("repeat", "border")),)},  # type: ignore[arg-type]
            "made: a texture's wrap is 'border'; expected one",
        ),
        (
            {"textures": (replace(PICTURE, filters=("linear", "cubic", "linear")),)},  # type: ignore[arg-type]
            "made: a texture's filters are .*'cubic'.*; expected",
        ),
        ({"textures": (Texture(np.zeros((2, 2, 3), np.uint8)),)}, "made: a texture's image is .*; expected"),
    ],
)
def test_a_scene_that_does_not_hang_together_is_refused(changes: dict[str, Any], told: str) -> None:
    scene = replace(soup(4, textures=(PICTURE,)), name="made")
    lay_out([scene])
    with pytest.raises(UserError, match=told):
        lay_out([replace(scene, **changes)])
