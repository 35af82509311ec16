from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

CORNERS = "v 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nv 1 2 0\n"
POINTS = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [1, 2, 0]], dtype=np.float32)


def loaded(text: str, folder: Path, **arguments: Any) -> SceneData:
    (folder / "house.obj").write_text(text, newline="")
    return load_scene(folder / "house.obj", cache=False, **arguments)


def refused(text: str, folder: Path, **arguments: Any) -> str:
    with pytest.raises(UserError, match=r"house\.") as error:
        loaded(text, folder, **arguments)
    return str(error.value)


@pytest.mark.parametrize(
    "faces",
    [
        "f 1 2 3 4\nf 4 3 5\n",
        "f -5 -4 -3 -2\nf -2 -3 -1\n",
        "f 1//1 2//1 3//1 4//1\nf 4 3 5\n",
        "vt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 3/1/1 4/1/1\nf 4/1 3/1 5/1 # a comment\n",
        "  f 1 2 \\\n 3 4\r\n\tf 4 3 5",
        "g a\r\ng b\r\nf 1/ 2/ 3/ 4/\r\nf 4 3 5\r\n",
    ],
)
def test_polygons_become_fans_however_their_corners_are_written(faces: str, tmp_path: Path) -> None:
    scene = loaded("# made by a test\n" + CORNERS + faces, tmp_path)
    assert scene.vertices[scene.faces].tolist() == POINTS[np.array([[0, 1, 2], [0, 2, 3], [3, 2, 4]])].tolist()
    assert scene.colour.tolist() == [[1, 1, 1, 1]] * 3
    assert scene.double_sided.all()


def test_a_negative_index_counts_back_from_its_own_line(tmp_path: Path) -> None:
    scene = loaded("v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 5 0 0\nv 6 0 0\nv 5 1 0\nf -3 -2 -1\n", tmp_path)
    assert scene.vertices[scene.faces[:, 0], 0].tolist() == [0, 5]


def test_materials_colours_pictures_and_their_options(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "brick wall.png")
    (tmp_path / "house.mtl").write_text(
        "newmtl red paint\nKd 1 0.5 0\nd 0.25\n\nnewmtl brick#1\nKd 0 0 0\n"
        "map_Kd -s 2 3 1 -o 0.5 0 0 -clamp on pictures\\brick wall.png\n"
    )
    text = (
        f"mtllib house.mtl\n{CORNERS}vt 0 0\nvt 1 0\nvt 1 1\nf 1 2 3\nusemtl red paint\nf 1/1 2/2 3/3\n"
        "usemtl brick#1\nf 1/1 2/2 3/3\nf 1 3 4\nusemtl red paint\nf 1 3 4\n"
    )
    scene = loaded(text, tmp_path)
    assert scene.texture.tolist() == [-1, -1, 0, -1, -1]
    assert scene.colour.tolist() == [[1, 1, 1, 1], [1, 0.5, 0, 0.25], [1, 1, 1, 1], [1, 1, 1, 1], [1, 0.5, 0, 0.25]]
    assert scene.textures[0].wrap == ("clamp", "clamp")
    assert np.array_equal(scene.textures[0].image[..., :3], pixels)
    # v goes up in OBJ and down here; scale and offset come before that.
    assert scene.uv[2].tolist() == [[0.5, 1], [2.5, 1], [2.5, -2]]
    assert not scene.uv[[0, 1, 3, 4]].any()


def test_objects_are_named_and_groups_are_where_there_are_none(tmp_path: Path) -> None:
    text = f"{CORNERS}f 1 2 3\no table\ng top\nf 1 2 3\no chair\nf 1 2 3\no table\nf 1 2 3\n"
    scene = loaded(text, tmp_path)
    assert scene.instance.tolist() == [0, 1, 2, 1]
    assert [(each.id, each.name) for each in scene.objects] == [(1, "table"), (2, "chair")]
    groups = loaded(text.replace("o table\n", "").replace("o chair", "g leg of it"), tmp_path)
    assert [each.name for each in groups.objects] == ["top", "leg of it"]


def test_colours_behind_a_vertex_are_read(tmp_path: Path) -> None:
    scene = loaded("v 0 0 0 1 0 0.2\nv 1 0 0 1 0 0.2\nv 0 1 0 1 0 0.2\nf 1 2 3\n", tmp_path)
    assert scene.vertex_colour.tolist() == [[255, 0, 51, 255]] * 3
    mixed = loaded("v 0 0 0 1 0 0.2\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", tmp_path)
    assert (mixed.vertex_colour == 255).all()


def test_what_is_missing_is_an_error_or_a_warning(tmp_path: Path) -> None:
    text = f"mtllib gone.mtl\n{CORNERS}usemtl red\nf 1 2 3\n"
    assert "gone.mtl" in refused(text, tmp_path)
    assert "missing_textures=True" in refused(text, tmp_path)
    scene = loaded(text, tmp_path, missing_textures=True)
    assert scene.colour.tolist() == [[1, 1, 1, 1]]
    assert len(scene.warnings) == 2
    assert "'red'" in refused(text.replace("mtllib gone.mtl\n", ""), tmp_path)
    (tmp_path / "gone.mtl").write_text("newmtl red\nmap_Kd gone.png\nKd 1 0 0\n")
    assert "gone.png" in refused(text, tmp_path)
    assert loaded(text, tmp_path, missing_textures=True).colour.tolist() == [[1, 0, 0, 1]]
    (tmp_path / "gone.mtl").write_text("newmtl red\nKd one 0 0\n")
    (tmp_path / "house.mtl").write_text("newmtl red\nKd one 0 0\n")
    assert "no number" in refused(text.replace("gone.mtl", "house.mtl"), tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no vertices"),
        (CORNERS, "no faces"),
        (CORNERS + "f 1 2\n", "no triangles"),
        (CORNERS + "f 1 2 6\n", "names vertex 6"),
        (CORNERS + "f 0 1 2\n", "vertex 0"),
        (CORNERS + "f 1 2 -6\n", "names vertex -6"),
        (CORNERS + "f 1/1 2/1 3/1\n", "texture coordinate 1"),
        (CORNERS + "f 1 2 x\n", "a word among"),
        (CORNERS + "f 1/1/1/1 2 3\n", "are not written as"),
        (CORNERS + "f 1 2 3.5\n", "not whole"),
        ("v 0 0\nf 1 1 1\n", "has 2 numbers"),
        ("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str, tmp_path: Path) -> None:
    assert told in refused(text, tmp_path)
