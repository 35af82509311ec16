"""Whatever bytes a reader is given, it returns a scene or raises UserError."""

import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlkit.envs.simulator.assemble import Part, joined
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneObject, Texture
from vlkit.errors import UserError

POINTS = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], dtype=np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]])
PLY = b"""ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face 2
property list uchar int vertex_indices
property int object_id
end_header
0 0 0 1 2 3
2 0 0 1 2 3
2 1 0 1 2 3
0 1 0 1 2 3
3 0 1 2 1
4 0 1 2 3 2
"""
OBJ = b"v 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nvt 0 0\nvt 1 1\nusemtl m\no a\nf 1/1 2/2 3/1\nf 1//1 3//1 -1//1\n"
SCENE = {
    "translation_origin": "asset_local",
    "stage_instance": {"template_name": "hall"},
    "object_instances": [
        {"template_name": "chair", "translation": [1, 2, 3], "rotation": [1, 0, 0, 0], "uniform_scale": 2}
    ],
}
STAGE = {"render_asset": "hall.glb", "up": [0, 0, 1], "front": [0, 1, 0], "scale": [1, 1, 1], "units_to_meters": 1}
DATASET = {
    "stages": {"paths": {".json": ["*"]}, "default_attributes": {"scale": [1, 1, 1]}},
    "objects": {"paths": {".json": ["."]}, "configs": [{"template_handle": "x", "attributes": {"render_asset": "y"}}]},
    "scene_instances": {"paths": {".json": ["*.json"]}},
}
HOUSE = b"ASCII 1.1\nR 0 0 0 0 b  0.5 0.5 1  0 0 0  1 1 2.5\nS 0 0 0 -\nV 0 0 - 0 0 0\nC 0 7 bed 5 bed\nO 0 0 0 1\n"
WORDS = b'HM3D Semantic Annotations\n1,FF0000,"wall",0\n'


def binary_ply() -> bytes:
    header = PLY[: PLY.index(b"end_header")].replace(b"ascii", b"binary_little_endian") + b"end_header\n"
    body = b"".join(point.tobytes() + b"abc" for point in POINTS)
    return header + body + struct.pack("<B3ii", 3, 0, 1, 2, 7) + struct.pack("<B4ii", 4, 0, 1, 2, 3, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one valid file of each kind, which refer to each other."""
    made = tmp_path_factory.mktemp("fuzz")
    part = Part(POINTS, FACES, uv=np.ones((2, 3, 2)), texture=0, instance=np.array([1, 2]))
    texture = Texture(np.full((2, 2, 4), 200, np.uint8))
    for name in ("hall", "chair", "b.semantic"):
        objects = (SceneObject(1, "a", "chair"), SceneObject(2, "b"))
        save_glb(joined(name, [part], textures=(texture,), objects=objects), made / f"{name}.glb")
    save_glb(joined("b", [part], textures=(texture,)), made / "b.glb")
    for name, content in {
        "m.ply": PLY,
        "n.ply": binary_ply(),
        "o.obj": b"mtllib o.mtl\n" + OBJ,
        "o.mtl": b"newmtl m\nKd 1 0 0\nmap_Kd -s 1 2 -clamp on gone.png\n",
        "hall.stage_config.json": json.dumps(STAGE).encode(),
        "chair.object_config.json": json.dumps({"render_asset": "chair.glb", "COM": [0, 1, 0]}).encode(),
        "s.scene_instance.json": json.dumps(SCENE).encode(),
        "d.scene_dataset_config.json": json.dumps(DATASET).encode(),
        "a_semantic.ply": PLY,
        "a.house": HOUSE,
        "b.semantic.txt": WORDS,
    }.items():
        (made / name).write_bytes(content)
    return made


# The file that is damaged, and the one that is loaded.
KINDS = (
    ("hall.glb", "hall.glb"),
    ("m.ply", "m.ply"),
    ("n.ply", "n.ply"),
    ("o.obj", "o.obj"),
    ("o.mtl", "o.obj"),
    ("hall.stage_config.json", "hall.glb"),
    ("chair.object_config.json", "chair.object_config.json"),
    ("s.scene_instance.json", "s.scene_instance.json"),
    ("d.scene_dataset_config.json", "s.scene_instance.json"),
    ("d.scene_dataset_config.json", "d.scene_dataset_config.json"),
    ("a.house", "a_semantic.ply"),
    ("b.semantic.txt", "b.semantic.glb"),
)


def load(folder: Path, damaged: str, main: str, data: bytes) -> None:
    whole = (folder / damaged).read_bytes()
    (folder / damaged).write_bytes(data)
    try:
        with suppress(UserError):
            scene = load_scene(folder / main, cache=False, missing_textures=True)
            assert len(scene.faces)
            assert scene.faces.min() >= 0
            assert scene.faces.max() < len(scene.vertices)
            assert scene.texture.max() < len(scene.textures)
            assert np.isfinite(scene.vertices).all()
            assert np.isfinite(scene.uv).all()
            assert scene.semantic.max() < len(scene.categories)
    finally:
        (folder / damaged).write_bytes(whole)


fuzz = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.mark.parametrize(("damaged", "main"), KINDS)
def test_the_files_are_valid_as_they_are(damaged: str, main: str, folder: Path) -> None:
    scene = load_scene(folder / main, cache=False, missing_textures=True, scene="hall" if main[:2] == "d." else "")
    assert len(scene.faces) >= 2


@pytest.mark.parametrize(("damaged", "main"), KINDS)
@fuzz
@given(data=st.data())
def test_flipped_bits_and_cut_ends(damaged: str, main: str, folder: Path, data: st.DataObject) -> None:
    content = bytearray((folder / damaged).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4), label="places"):
        content[place] = data.draw(st.sampled_from([0, 45, 48, 57, 101, 255, content[place] ^ 1, content[place] ^ 128]))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))), label="end")
    load(folder, damaged, main, bytes(content[:end]))


@pytest.mark.parametrize(("damaged", "main"), KINDS)
@settings(fuzz, max_examples=15)
@given(content=st.binary(max_size=200), head=st.sampled_from([b"", b"glTF\2\0\0\0", b"ply\n", b"v 0 0 0\nf ", b"{"]))
def test_random_bytes(damaged: str, main: str, folder: Path, content: bytes, head: bytes) -> None:
    load(folder, damaged, main, head + content)


VALUES: list[Any] = [None, True, -1, 0, 1, 3, 10**9, 2**70, 1.5, 1e300, "", "x", [], [0], [1e300] * 3, {}, {"x": 1}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


@pytest.mark.parametrize(("damaged", "main"), [kind for kind in KINDS if kind[0].endswith(("glb", "json"))])
@settings(fuzz, max_examples=60)
@given(data=st.data())
def test_json_with_other_values_in_it(damaged: str, main: str, folder: Path, data: st.DataObject) -> None:
    content = (folder / damaged).read_bytes()
    is_glb = damaged.endswith(".glb")
    length = struct.unpack_from("<I", content, 12)[0] if is_glb else len(content)
    table = json.loads(content[20 : 20 + length] if is_glb else content)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(list(places(table))))
        target = table
        for step in place[:-1]:
            target = target[step]
        if data.draw(st.booleans()):
            target[place[-1]] = data.draw(st.sampled_from(VALUES))
        else:
            del target[place[-1]]
    text = json.dumps(table).encode()
    if is_glb:
        text += b" " * (-len(text) % 4)
        rest = content[20 + length :]
        head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest)) + struct.pack("<I4s", len(text), b"JSON")
        text = head + text + rest
    load(folder, damaged, main, text)
