from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

POINTS = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [1, 2, 0]], dtype=np.float32)
COLOURS = np.arange(15, dtype=np.uint8).reshape(5, 3) * 10
QUAD, TRIANGLE, PENTAGON = [0, 1, 2, 3], [3, 2, 4], [0, 1, 2, 4, 3]
ENCODINGS = ("ascii", "binary_little_endian", "binary_big_endian")


def ply(
    encoding: str, polygons: list[list[int]], ids: list[int] | None = None, *, wide: bool = False, comment: str = ""
) -> bytes:
    """A file of POINTS with COLOURS; `wide` has doubles, an int for each list's length, and a property more."""
    real, count = ("double", "int") if wide else ("float", "uchar")
    header = ["ply", f"format {encoding} 1.0", "comment made by a test", *([comment] if comment else [])]
    header += [f"element vertex {len(POINTS)}", *(f"property {real} {axis}" for axis in "xyz")]
    header += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
    header += [f"element face {len(polygons)}"]
    header += ["property short flags"] if wide else []
    header += [f"property list {count} int vertex_indices"]
    header += ["property int object_id"] if ids is not None else []
    start = ("\n".join([*header, "end_header"]) + "\n").encode()
    if encoding == "ascii":
        lines = [
            " ".join(map(str, [*point, *colour]))
            for point, colour in zip(POINTS.tolist(), COLOURS.tolist(), strict=True)
        ]
        for i, polygon in enumerate(polygons):
            row = [*([7] if wide else []), len(polygon), *polygon, *([ids[i]] if ids is not None else [])]
            lines.append(" ".join(map(str, row)))
        return start + ("\n".join(lines) + "\n").encode()
    order = "<" if encoding == "binary_little_endian" else ">"
    body = b""
    for point, colour in zip(POINTS, COLOURS, strict=True):
        body += point.astype(order + ("f8" if wide else "f4")).tobytes() + colour.tobytes()
    for i, polygon in enumerate(polygons):
        body += np.array([7], order + "i2").tobytes() if wide else b""
        body += np.array([len(polygon)], order + ("i4" if wide else "u1")).tobytes()
        body += np.array(polygon, order + "i4").tobytes()
        body += np.array([ids[i]], order + "i4").tobytes() if ids is not None else b""
    return start + body


def loaded(data: bytes, folder: Path, **arguments: Any) -> SceneData:
    (folder / "scan.ply").write_bytes(data)
    return load_scene(folder / "scan.ply", cache=False, **arguments)


def refused(data: bytes, folder: Path) -> str:
    with pytest.raises(UserError, match=r"scan\.ply") as error:
        loaded(data, folder)
    return str(error.value)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_polygons_become_fans_in_every_encoding(encoding: str, wide: bool, tmp_path: Path) -> None:
    for polygons, expected in (
        ([QUAD, QUAD], [[0, 1, 2], [0, 2, 3]] * 2),
        ([QUAD, TRIANGLE, PENTAGON], [[0, 1, 2], [0, 2, 3], [3, 2, 4], [0, 1, 2], [0, 2, 4], [0, 4, 3]]),
    ):
        scene = loaded(ply(encoding, polygons, wide=wide), tmp_path)
        assert scene.vertices[scene.faces].tolist() == POINTS[np.array(expected)].tolist()
        assert scene.vertex_colour[scene.faces][:, :, :3].tolist() == COLOURS[np.array(expected)].tolist()
        assert (scene.vertex_colour[:, 3] == 255).all()
        assert scene.double_sided.all()
        assert scene.objects == ()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_object_ids_of_faces_become_instances(encoding: str, tmp_path: Path) -> None:
    scene = loaded(ply(encoding, [QUAD, TRIANGLE, TRIANGLE], [12, 0, -1]), tmp_path)
    assert scene.instance.tolist() == [12, 12, 0, 0]
    assert [(each.id, each.name) for each in scene.objects] == [(12, "object_12")]


def test_category_ids_become_categories(tmp_path: Path) -> None:
    data = ply("ascii", [QUAD, TRIANGLE], [5, 6]).replace(b"object_id", b"category_id")
    scene = loaded(data, tmp_path)
    assert [scene.categories[number] for number in scene.semantic] == ["category 5"] * 2 + ["category 6"]


def test_colours_of_faces_and_colours_as_fractions(tmp_path: Path) -> None:
    data = b"""ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
property float r
property float g
property float b
element face 1
property list uchar int vertex_index
property uchar red
property uchar green
property uchar blue
end_header
0 0 0 0.2 0.4 1
1 0 0 0.2 0.4 1
0 1 0 0.2 0.4 1
3 0 1 2 51 0 255
"""
    scene = loaded(data, tmp_path)
    assert scene.vertex_colour[0].tolist() == [51, 102, 255, 255]
    assert scene.colour[0].tolist() == pytest.approx([0.2, 0, 1, 1])


def test_a_picture_that_a_comment_names_is_drawn(tmp_path: Path) -> None:
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(tmp_path / "wall.png")
    data = b"""ply
format ascii 1.0
comment TextureFile wall.png
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
property list uchar float texcoord
end_header
0 0 0
1 0 0
0 1 0
3 0 1 2 6 0 0 1 0 0 1
"""
    scene = loaded(data, tmp_path)
    assert scene.texture.tolist() == [0]
    assert scene.uv[0].tolist() == [[0, 1], [1, 1], [0, 0]]  # (0, 0) is their lower left corner and our upper left one
    (tmp_path / "wall.png").unlink()
    assert "wall.png" in refused(data, tmp_path)
    assert loaded(data, tmp_path, missing_textures=True).texture.tolist() == [-1]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_cut_off_at_any_byte_is_an_error(encoding: str, tmp_path: Path) -> None:
    whole = ply(encoding, [QUAD, TRIANGLE], [1, 2])
    end = len(whole) - (2 if encoding == "ascii" else 0)  # the last digit of an ascii file may be a shorter number
    for length in range(0, end, 3):
        refused(whole[:length], tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"3 3 2 4", b"3 3 2 9", "names vertex 9"),
        (b"3 3 2 4", b"3 3 2 -4", "names vertex -4"),
        (b"3 3 2 4", b"3 3 2 1.5", "not whole"),
        (b"3 3 2 4", b"3 3 2 x", "a word among its numbers"),
        (b"3 3 2 4", b"300 3 2 4", "not all there"),
        (b"float x", b"float w", "no vertices with x"),
        (b"vertex_indices", b"corners", "no polygons"),
        (b"format ascii", b"format morse", "no PLY"),
        (b"element face 2", b"element face two", "no PLY"),
        (b"0.0 0.0 0.0", b"0.0 nan 0.0", "not finite"),
        (b"0.0 0.0 0.0", b"0.0 1e99 0.0", "too large for float32"),
        (b"ply\n", b"plyx\n", "does not begin"),
    ],
)
def test_what_is_wrong_is_told(old: bytes, new: bytes, told: str, tmp_path: Path) -> None:
    data = ply("ascii", [QUAD, TRIANGLE])
    assert old in data
    assert told in refused(data.replace(old, new, 1), tmp_path)


def test_points_alone_are_refused(tmp_path: Path) -> None:
    data = ply("ascii", [QUAD])
    cloud = data[: data.index(b"element face")] + b"end_header\n" + data[data.index(b"end_header\n") + 11 :]
    assert "no polygons" in refused(cloud, tmp_path)
    assert "no triangles" in refused(ply("ascii", []), tmp_path)
