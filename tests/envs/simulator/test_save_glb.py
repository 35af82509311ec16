import json
import struct
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlkit.envs.simulator.assemble import Part, joined
from vlkit.envs.simulator.glb_writer import MOST_MATERIALS, save_glb
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import Room, SceneData, SceneObject, Texture
from vlkit.errors import UserError


def house(faces: int = 200, colours: int = 5) -> SceneData:
    """A heap of triangles of three objects and of none, shuffled, with every field in use."""
    generator = np.random.default_rng(3)
    vertices = generator.uniform(-5, 5, (60, 3)).astype(np.float32)
    triangles = np.stack([generator.permutation(60)[:3] for _ in range(faces)])
    texture = generator.integers(-1, 3, faces)
    uv = np.where((texture >= 0)[:, None, None], generator.uniform(-2, 2, (faces, 3, 2)), 0).astype(np.float32)
    instance = generator.choice([0, 4, 9, 7], faces)
    palette = generator.uniform(0, 1, (colours, 4))
    part = Part(
        vertices,
        triangles,
        uv=uv,
        vertex_colour=generator.integers(0, 256, (60, 4), dtype=np.uint8),
        texture=texture,
        colour=palette[generator.integers(0, colours, faces)],
        double_sided=generator.random(faces) < 0.5,
        instance=instance,
    )
    pictures = [generator.integers(0, 256, (4, 8 * (i + 1), 4), dtype=np.uint8) for i in range(3)]
    pictures[2][:, :, 3] = 255
    scene = joined(
        "heap",
        [part],
        textures=(
            Texture(pictures[0], ("repeat", "clamp"), ("nearest", "linear", "none")),
            Texture(pictures[1], ("mirror", "repeat"), ("nearest", "nearest", "nearest")),
            Texture(pictures[2]),
        ),
        objects=(
            SceneObject(4, "chair 1", "chair", 0),
            SceneObject(7, "Größe", ""),
            SceneObject(9, "lamp", "lamp", 1),
            SceneObject(11, "never seen", "ghost"),
        ),
        rooms=(Room(0, "kitchen", 0, ((0, 0), (1, 0), (1, 1)), 0, 2.5), Room(1, "attic", 1, (), 2.5, 4)),
    )
    semantic = scene.semantic.copy()
    semantic[:7] = 2  # a face may be of another category than its object
    return replace(scene, semantic=semantic)


def assert_same(first: SceneData, second: SceneData) -> None:
    for field in fields(SceneData):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            assert np.array_equal(a, b), field.name
        elif field.name == "textures":
            assert [(texture.wrap, texture.filters) for texture in a] == [
                (texture.wrap, texture.filters) for texture in b
            ]
            assert all(np.array_equal(x.image, y.image) for x, y in zip(a, b, strict=True))
        else:
            assert a == b, field.name


def document(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    table: dict[str, Any] = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    return table


def with_document(path: Path, table: dict[str, Any]) -> None:
    data = path.read_bytes()
    rest = data[20 + struct.unpack_from("<I", data, 12)[0] :]
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest)) + struct.pack("<I4s", len(text), b"JSON")
    path.write_bytes(head + text + rest)


@pytest.mark.parametrize("colours", [5, 5000])
def test_a_saved_scene_comes_back_with_every_field_equal(colours: int, tmp_path: Path) -> None:
    scene = house(faces=200 if colours == 5 else 6000, colours=colours)
    path = tmp_path / "heap.glb"
    save_glb(scene, path)
    assert_same(load_scene(path, cache=False), scene)
    assert len(document(path)["materials"]) <= MOST_MATERIALS


def test_another_program_sees_objects_as_nodes_and_the_same_surfaces(tmp_path: Path) -> None:
    scene = house()
    path = tmp_path / "heap.glb"
    save_glb(scene, path)
    table = document(path)
    assert [node["name"] for node in table["nodes"]] == ["surroundings", "chair 1", "Größe", "lamp"]
    assert table["nodes"][1]["extras"] == {"id": 4, "category": "chair", "room": 0}
    assert all("KHR_materials_unlit" in material["extensions"] for material in table["materials"])
    del table["extras"]
    with_document(path, table)
    plain = load_scene(path, cache=False)
    assert [each.name for each in plain.objects] == [node["name"] for node in table["nodes"]]

    def corners(of: SceneData) -> list[Any]:
        textured = [of.textures[t].image.sum() if t >= 0 else 0 for t in of.texture]
        rows = zip(
            of.vertices[of.faces].tolist(), of.uv.tolist(), textured, of.colour.tolist(), of.double_sided, strict=True
        )
        return sorted(rows)

    assert corners(plain) == corners(scene)


def test_extras_that_do_not_fit_any_more_are_left_alone_with_a_warning(tmp_path: Path) -> None:
    scene = house()
    path = tmp_path / "heap.glb"
    save_glb(scene, path)
    table = document(path)
    table["nodes"] = table["nodes"][:-1]
    table["scenes"][0]["nodes"].pop()
    with_document(path, table)
    edited = load_scene(path, cache=False)
    assert len(edited.faces) == (scene.instance != 9).sum()
    assert [each.name for each in edited.objects] == ["surroundings", "chair 1", "Größe"]
    assert "changed after vlkit wrote it" in edited.warnings[0]


def test_vertices_and_textures_that_no_face_uses_are_not_written(tmp_path: Path) -> None:
    scene = house()
    extra = replace(
        scene,
        vertices=np.concatenate([np.zeros((1, 3), np.float32), scene.vertices]),
        vertex_colour=np.concatenate([np.zeros((1, 4), np.uint8), scene.vertex_colour]),
        faces=scene.faces + np.int32(1),
        textures=(*scene.textures, Texture(np.zeros((1, 1, 4), np.uint8))),
    )
    save_glb(extra, tmp_path / "heap.glb")
    assert_same(load_scene(tmp_path / "heap.glb", cache=False), scene)


def test_a_stage_configuration_is_written_beside_it_where_asked_for(tmp_path: Path) -> None:
    scene = house()
    save_glb(scene, tmp_path / "heap.glb", stage_config=True)
    config = json.loads((tmp_path / "heap.stage_config.json").read_text())
    assert config["render_asset"] == "heap.glb"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heap.glb", "heap.stage_config.json"]
    again = load_scene(tmp_path / "heap.glb", cache=False, habitat_compatible=True)
    assert np.array_equal(again.vertices, scene.vertices)  # without it, its z would be taken as up


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    scene = house()
    for broken, name, told in (
        (scene, "heap.gltf", "ends in .glb"),
        (replace(scene, faces=scene.faces[:0]), "heap.glb", "no faces"),
        (replace(scene, vertices=scene.vertices * np.float32(np.nan)), "heap.glb", "not finite"),
    ):
        with pytest.raises(UserError, match=told):
            save_glb(broken, tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        save_glb(scene, tmp_path / "file" / "heap.glb")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_the_docstring_says_is_mended_is_mended_and_all_else_is_kept(tmp_path: Path) -> None:
    scene = house()
    colour, uv, faces = scene.colour.copy(), scene.uv.copy(), scene.faces.copy()
    colour[0], colour[1] = (-1, 0.5, 2, 1), (0, 0, 0, 3)
    uv[scene.texture < 0] = 7
    faces[5] = faces[5, 0]  # no area
    semantic = np.zeros_like(scene.semantic)
    odd = replace(
        scene, colour=colour, uv=uv, faces=faces, semantic=semantic, categories=(), warnings=("noticed by a reader",)
    )
    save_glb(odd, tmp_path / "heap.glb")
    left = np.arange(len(faces)) != 5
    by_face = {name: getattr(scene, name)[left] for name in ("faces", "uv", "texture", "double_sided", "instance")}
    mended = replace(
        scene,
        **by_face,
        colour=colour.clip(0, 1)[left],
        semantic=semantic[left],
        categories=("unlabelled",),
        warnings=("1 of 200 triangles have no area and were left out",),
    )
    assert_same(load_scene(tmp_path / "heap.glb", cache=False), mended)


def test_colours_beyond_1_come_back_alike_whether_they_stand_in_materials_or_in_vertices(tmp_path: Path) -> None:
    scene = house(faces=6000, colours=5000)
    save_glb(replace(scene, colour=scene.colour * np.float32(2)), tmp_path / "heap.glb")
    assert np.array_equal(
        load_scene(tmp_path / "heap.glb", cache=False).colour, (scene.colour * np.float32(2)).clip(0, 1)
    )


def changed(array: np.ndarray, value: float) -> np.ndarray:
    """The array with another first entry."""
    other = array.copy()
    other.reshape(-1)[0] = value
    return other


def test_a_scene_that_contradicts_itself_is_one_error_before_anything_is_written(tmp_path: Path) -> None:
    scene = house()
    chair, kitchen = scene.objects[0], scene.rooms[0]
    images = [texture.image for texture in scene.textures]
    textured = changed(scene.texture, 0)
    for broken, told in (
        (replace(scene, objects=(*scene.objects, replace(chair, name="twin"))), "two objects with the id 4"),
        (replace(scene, rooms=(kitchen, kitchen)), "two rooms with the id 0"),
        (replace(scene, objects=(replace(chair, id=-4),)), "the object 'chair 1' has the id -4; expected 0 to"),
        (replace(scene, objects=(replace(chair, room=-1),)), "the object 'chair 1' has the room -1; expected 0 to"),
        (replace(scene, rooms=(replace(kitchen, id=2**31),)), "the room 'kitchen' has the id 2147483648; expected 0"),
        (replace(scene, rooms=(replace(kitchen, level=-(2**40)),)), "the room 'kitchen' has the level"),
        (replace(scene, semantic=changed(scene.semantic, 4)), "semantic has 4; expected 0 to 3"),
        (replace(scene, semantic=changed(scene.semantic, -1)), "semantic has -1; expected 0 to 3"),
        (replace(scene, categories=()), "semantic has 3; expected 0 to 0"),
        (replace(scene, instance=changed(scene.instance, -1)), "instance has -1; expected 0 to"),
        (replace(scene, faces=changed(scene.faces, 60)), "faces has 60; expected 0 to 59"),
        (replace(scene, faces=changed(scene.faces, -1)), "faces has -1; expected 0 to 59"),
        (replace(scene, texture=changed(scene.texture, 3)), "texture has 3; expected -1 to 2"),
        (replace(scene, texture=changed(scene.texture, -2)), "texture has -2; expected -1 to 2"),
        (replace(scene, colour=changed(scene.colour, np.nan)), "colours that are not finite"),
        (replace(scene, texture=textured, uv=changed(scene.uv, np.inf)), "texture coordinates that are not finite"),
        (replace(scene, uv=scene.uv[1:]), r"uv is of shape \(199, 3, 2\); expected \(200, 3, 2\)"),
        (replace(scene, rooms=(replace(kitchen, high_m=float("inf")),)), "the room 'kitchen' has an outline or height"),
        (
            replace(scene, rooms=(replace(kitchen, outline=((0.0, float("nan")),)),)),
            "the room 'kitchen' has an outline",
        ),
        (
            replace(scene, textures=tuple(Texture(image[:, :, :3]) for image in images)),
            r"texture 0 is uint8 of shape \(4, 8, 3\); expected uint8 of \(height, width, 4\)",
        ),
    ):
        with pytest.raises(UserError, match=told) as error:
            save_glb(broken, tmp_path / "new" / "heap.glb", stage_config=True)
        assert str(error.value).startswith(f"cannot write {tmp_path / 'new' / 'heap.glb'}: the scene 'heap'")
    assert list(tmp_path.iterdir()) == []
