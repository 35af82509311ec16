import json
from pathlib import Path

import numpy as np
import pytest

from vlkit.envs.simulator.assemble import Part, joined
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData, SceneObject, Texture
from vlkit.errors import UserError

# Two squares of the floor, z up, 2 x 1 m together; the left one is of one object, the right one of another.
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [1, 1, 0], [2, 1, 0]], dtype=np.float32)
FACES = np.array([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]])

HOUSE = """ASCII 1.1
H a - 0 0 8 2 0 3 2 2 0 1  0 0 0 0 0  0 0 0  2 1 3  0 0 0 0 0
L 0 2 level  0 0 0  0 0 0  2 1 3  0 0 0 0 0
R 0 0 0 0 b  0.5 0.5 1  0 0 0  1 1 2.5  2.5 0 0 0 0
R 1 0 0 0 k  1.5 0.5 1  1 0 0  2 1 2.5  2.5 0 0 0 0
S 0 0 0 -  0 0 0  0 0 1  0 0 0  1 1 0  0 0 0 0 0
V 0 0 -  0 0 0  0 0 1  0 0 0
V 1 0 -  1 0 0  0 0 1  0 0 0
V 2 0 -  1 1 0  0 0 1  0 0 0
C 0 7 dining#table 5 table 0 0 0 0 0
C 1 8 bed 11 bed 0 0 0 0 0
O 0 0 1  0 0 0  1 0 0  0 1 0  1 1 1  0 0 0 0 0 0 0 0
O 1 1 0  0 0 0  1 0 0  0 1 0  1 1 1  0 0 0 0 0 0 0 0
O 2 -1 -1  0 0 0  1 0 0  0 1 0  1 1 1  0 0 0 0 0 0 0 0
E 0 0 12 1 0 0 0 0 0 0 1 1 1 0 0 0 0 0
"""


def ply(ids: list[int]) -> bytes:
    rows = [" ".join(map(str, point)) for point in CORNERS.tolist()]
    rows += [f"3 {a} {b} {c} {i}" for (a, b, c), i in zip(FACES.tolist(), ids, strict=True)]
    header = [
        "ply",
        "format ascii 1.0",
        f"element vertex {len(CORNERS)}",
        *(f"property float {axis}" for axis in "xyz"),
    ]
    header += [f"element face {len(FACES)}", "property list uchar int vertex_indices", "property int object_id"]
    return ("\n".join([*header, "end_header", *rows]) + "\n").encode()


def matterport(folder: Path) -> Path:
    (folder / "a.house").write_text(HOUSE)
    (folder / "a_semantic.ply").write_bytes(ply([0, 0, 1, 1]))
    save_glb(joined("a", [Part(CORNERS + np.float32(0.01), FACES[::-1])]), folder / "a.glb")
    return folder


def named(scene: SceneData) -> list[str]:
    """What each face is, from its object and from its category, which have to agree."""
    by_id = {each.id: each for each in scene.objects}
    names = [by_id[number].category if number in by_id else "" for number in scene.instance.tolist()]
    assert names == [scene.categories[number] if number else "" for number in scene.semantic]
    return names


def test_a_matterport_house_names_the_objects_of_its_semantic_mesh(tmp_path: Path) -> None:
    scene = load_scene(matterport(tmp_path) / "a_semantic.ply", cache=False)
    assert named(scene) == ["bed", "bed", "table", "table"]
    assert scene.objects == (
        SceneObject(1, "0_0_0", "bed", 0),
        SceneObject(2, "0_1_1", "table", 1),
        SceneObject(3, "-1_-1_2", "", None),
    )
    bedroom, kitchen = scene.rooms
    assert (bedroom.name, bedroom.level) == ("bedroom", 0)
    assert (bedroom.low_m, bedroom.high_m) == (0, 2.5)
    assert list(bedroom.outline) == [
        (0, 0),
        (1, 0),
        (1, -1),
    ]  # the corners that the file draws, with z up turned to y up
    assert list(kitchen.outline) == [(1, 0), (2, 0), (2, -1), (1, -1)]  # it draws none: the box
    assert scene.bounds[0].tolist() == [0, 0, -1]


def test_the_drawn_mesh_of_a_scan_gets_the_labels_of_what_lies_nearest(tmp_path: Path) -> None:
    folder = matterport(tmp_path)
    scene = load_scene(folder / "a.glb", cache=False)
    assert named(scene) == ["table", "table", "bed", "bed"]
    assert [room.name for room in scene.rooms] == ["bedroom", "kitchen"]
    assert scene.bounds[0].tolist() == pytest.approx([0.01, 0.01, -1.01])
    plain = load_scene(folder / "a.glb", cache=False, semantics=False)
    assert plain.rooms == ()
    assert np.array_equal(plain.vertices, scene.vertices)  # a scan has z up, whether its labels are asked for or not
    (folder / "a_semantic.ply").unlink()
    assert load_scene(folder / "a.glb", cache=False).rooms == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("ASCII 1.1", "BINARY", "no Matterport house"),
        ("O 1 1 0 ", "O one 1 0 ", "line 13"),
        ("C 0 7 dining#table 5 table 0 0 0 0 0", "C 0 7", "line 10"),
        ("R 0 0 0 0 b  0.5 0.5 1  0 0 0", "R 0 0 0 0 b  0.5 0.5 1  nan 0 0", "line 4"),
    ],
)
def test_a_damaged_house_is_told_with_its_line(old: str, new: str, told: str, tmp_path: Path) -> None:
    matterport(tmp_path)
    assert old in HOUSE
    (tmp_path / "a.house").write_text(HOUSE.replace(old, new))
    with pytest.raises(UserError, match=told):
        load_scene(tmp_path / "a_semantic.ply", cache=False)


def hm3d(folder: Path, *, textured: bool) -> Path:
    (folder / "b.semantic.txt").write_text(
        'HM3D Semantic Annotations\n1,FF0000,"wall, painted",0\n2,00FF00,"chair",3\n3,0000FF,"lamp",-1\n'
    )
    red, green, blue = (255, 0, 0, 255), (0, 255, 0, 255), (1, 2, 3, 255)  # the last is nobody's
    if textured:
        picture = np.array([[red, green, blue, blue]], dtype=np.uint8)
        uv = np.array([[[column / 4, 0.1], [column / 4, 0.9], [(column + 0.9) / 4, 0.5]] for column in (0, 0, 1, 2)])
        part = Part(CORNERS, FACES, uv=uv, texture=0)
        save_glb(joined("b", [part], textures=(Texture(picture),)), folder / "b.semantic.glb")
    else:
        colours = np.array([red, red, green, blue], dtype=np.uint8).repeat(3, axis=0)
        part = Part(CORNERS[FACES.reshape(-1)], np.arange(12).reshape(4, 3), vertex_colour=colours)
        save_glb(joined("b", [part]), folder / "b.semantic.glb")
    save_glb(joined("b", [Part(CORNERS, FACES)]), folder / "b.glb")
    return folder


@pytest.mark.parametrize("textured", [True, False])
@pytest.mark.parametrize("name", ["b.semantic.glb", "b.glb"])
def test_the_colours_of_hm3d_are_objects(textured: bool, name: str, tmp_path: Path) -> None:
    scene = load_scene(hm3d(tmp_path, textured=textured) / name, cache=False, texel_budget=2)
    assert scene.instance.tolist() == [1, 1, 2, 0]
    assert named(scene) == ["wall, painted", "wall, painted", "chair", ""]
    assert [(each.name, each.room) for each in scene.objects] == [
        ("wall, painted_1", 0),
        ("chair_2", 3),
        ("lamp_3", None),
    ]
    assert [(room.id, room.name) for room in scene.rooms] == [(0, "region 0"), (3, "region 3")]
    assert scene.rooms[0].outline == ((0, -1), (1, -1), (1, 0), (0, 0))


@pytest.mark.parametrize("line", ["1,FF0000,wall", "x,FF0000,wall,0", "1,red,wall,0", "1,FF0000,wall,here"])
def test_a_damaged_line_of_hm3d_is_told(line: str, tmp_path: Path) -> None:
    hm3d(tmp_path, textured=False)
    (tmp_path / "b.semantic.txt").write_text(f"HM3D Semantic Annotations\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        load_scene(tmp_path / "b.glb", cache=False)


@pytest.mark.parametrize("first", [0, 1])
def test_replica_names_its_objects(first: int, tmp_path: Path) -> None:
    (tmp_path / "habitat").mkdir()
    names = [{"id": first, "class_name": "rug"}, {"id": first + 1, "class_name": "sofa"}]
    (tmp_path / "habitat" / "info_semantic.json").write_text(json.dumps({"objects": names}))
    (tmp_path / "habitat" / "mesh_semantic.ply").write_bytes(ply([first, first, first + 1, first + 1]))
    (tmp_path / "mesh.ply").write_bytes(ply([0] * 4).replace(b"property int object_id", b"property int nothing"))
    for path in (tmp_path / "habitat" / "mesh_semantic.ply", tmp_path / "mesh.ply"):
        scene = load_scene(path, cache=False)
        assert named(scene) == ["rug", "rug", "sofa", "sofa"]
        assert scene.instance.tolist() == [1, 1, 2, 2]
        assert [each.name for each in scene.objects] == [f"rug_{first}", f"sofa_{first + 1}"]


def test_a_datasets_defaults_name_label_files_after_each_mesh(tmp_path: Path) -> None:
    hm3d(tmp_path, textured=True)
    (tmp_path / "c").mkdir()
    for name, new in (("b.semantic.glb", "b_words.glb"), ("b.semantic.txt", "b_words.txt"), ("b.glb", "b.basis.glb")):
        (tmp_path / name).rename(tmp_path / "c" / new)
    defaults = {
        "up": [0, 0, 1],
        "front": [0, 1, 0],
        "semantic_asset": "%%CONFIG_NAME_AS_ASSET_FILENAME%%_words.glb",
        "semantic_descriptor_filename": "%%CONFIG_NAME_AS_ASSET_FILENAME%%_words.txt",
    }
    config = tmp_path / "all.scene_dataset_config.json"
    stages = {"default_attributes": defaults, "paths": {".glb": ["*/*.basis.glb"]}}
    config.write_text(json.dumps({"stages": stages}))
    scene = load_scene(config, cache=False)
    assert scene.instance.tolist() == [1, 1, 2, 0]
    # A labelled mesh may have axes of its own; with y up it stands where no face of the drawn one is near.
    defaults |= {"semantic_up": [0, 1, 0], "semantic_front": [0, 0, -1]}
    config.write_text(json.dumps({"stages": stages}))
    assert load_scene(config, cache=False).instance.tolist() != scene.instance.tolist()


def test_a_stage_may_name_its_label_files(tmp_path: Path) -> None:
    hm3d(tmp_path, textured=False)
    (tmp_path / "labels").mkdir()
    for name in ("b.semantic.glb", "b.semantic.txt"):
        (tmp_path / name).rename(tmp_path / "labels" / name)
    config = {
        "render_asset": "b.glb",
        "semantic_asset": "labels/b.semantic.glb",
        "semantic_descriptor_filename": "labels/b.semantic.txt",
        "up": [0, 0, 1],
        "front": [0, 1, 0],
    }
    (tmp_path / "b.stage_config.json").write_text(json.dumps(config))
    assert load_scene(tmp_path / "b.glb", cache=False).instance.tolist() == [1, 1, 2, 0]
