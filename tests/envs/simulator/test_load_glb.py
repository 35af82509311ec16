import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkit.envs.simulator.layout import LARGEST_TEXTURE, lay_out
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

SQUARE = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], dtype="<f4")
INDICES = np.array([0, 1, 2, 0, 2, 3])
CODES = {"|i1": 5120, "|u1": 5121, "<i2": 5122, "<u2": 5123, "<u4": 5125, "<f4": 5126}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class Document:
    """A glTF document while a test writes it."""

    def __init__(self) -> None:
        self.binary = b""
        self.json: dict[str, Any] = {"asset": {"version": "2.0"}, "bufferViews": [], "accessors": [], "buffers": [{}]}

    def view(self, data: bytes, **fields: Any) -> int:
        self.binary += bytes(-len(self.binary) % 4)
        self.json["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **fields}
        )
        self.binary += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, **fields: Any) -> int:
        rows = values.reshape(len(values), -1)
        self.json["accessors"].append(
            {
                "bufferView": self.view(rows.tobytes()),
                "componentType": CODES[values.dtype.str],
                "count": len(rows),
                "type": KINDS[rows.shape[1]],
                **fields,
            }
        )
        return len(self.json["accessors"]) - 1

    def picture(self, pixels: np.ndarray, kind: str = "png") -> int:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format=kind, quality=100)
        self.json.setdefault("images", []).append(
            {"bufferView": self.view(file.getvalue()), "mimeType": f"image/{kind}"}
        )
        return len(self.json["images"]) - 1

    def square(self, **primitive: Any) -> dict[str, Any]:
        """A primitive of two triangles."""
        attributes = {"POSITION": self.accessor(SQUARE), **primitive.pop("attributes", {})}
        return {"attributes": attributes, "indices": self.accessor(INDICES.astype("<u2")), **primitive}

    def show(self, *primitives: dict[str, Any], **node: Any) -> None:
        """One node with one mesh of the primitives."""
        self.json.setdefault("meshes", []).append({"primitives": list(primitives)})
        self.json.setdefault("nodes", []).append({"mesh": len(self.json["meshes"]) - 1, **node})

    def glb(self) -> bytes:
        self.json["buffers"][0]["byteLength"] = len(self.binary)
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + bytes(-len(self.binary) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def loaded(document: Document, folder: Path, **arguments: Any) -> SceneData:
    path = folder / "scene.glb"
    path.write_bytes(document.glb())
    return load_scene(path, cache=False, **arguments)


def corners(scene: SceneData) -> list[list[list[float]]]:
    triangles: list[list[list[float]]] = scene.vertices[scene.faces].tolist()
    return triangles


def refused(document: Document, folder: Path, **arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        loaded(document, folder, **arguments)
    return str(error.value)


def test_a_plain_square_is_two_white_one_sided_triangles_of_one_object(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(), name="table")
    scene = loaded(document, tmp_path)
    assert corners(scene) == SQUARE[INDICES].reshape(2, 3, 3).tolist()
    assert scene.name == "scene"
    assert scene.colour.tolist() == [[1, 1, 1, 1]] * 2
    assert (scene.vertex_colour == 255).all()
    assert scene.texture.tolist() == [-1, -1]
    assert not scene.double_sided.any()
    assert [(each.id, each.name) for each in scene.objects] == [(1, "table")]
    assert scene.instance.tolist() == [1, 1]
    assert scene.warnings == ()
    assert scene.vertices.dtype == np.float32
    assert scene.faces.dtype == np.int32


@pytest.mark.parametrize("kind", ["|u1", "<u2", "<u4", None])
def test_indices_of_every_width_and_none_at_all(kind: str | None, tmp_path: Path) -> None:
    document = Document()
    if kind:
        document.show(
            {"attributes": {"POSITION": document.accessor(SQUARE)}, "indices": document.accessor(INDICES.astype(kind))}
        )
    else:
        document.show({"attributes": {"POSITION": document.accessor(SQUARE[INDICES])}})
    assert corners(loaded(document, tmp_path)) == SQUARE[INDICES].reshape(2, 3, 3).tolist()


def test_strips_and_fans_keep_their_fronts(tmp_path: Path) -> None:
    row = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0]], dtype="<f4")
    for mode, expected in (
        (5, [[0, 1, 2], [1, 3, 2], [2, 3, 4]]),
        (6, [[1, 2, 0], [2, 3, 0], [3, 4, 0]]),
    ):
        document = Document()
        document.show({"attributes": {"POSITION": document.accessor(row)}, "mode": mode})
        assert corners(loaded(document, tmp_path)) == row[np.array(expected)].tolist()


def test_points_and_lines_are_counted_and_not_drawn(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(), document.square(mode=1), document.square(mode=0))
    scene = loaded(document, tmp_path)
    assert len(scene.faces) == 2
    assert scene.warnings == ("2 sets of points or lines are not drawn",)


def test_nodes_turn_scale_and_move_what_is_below_them(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(), rotation=[0, 0, 0.5**0.5, 0.5**0.5], scale=[3, 1, 1])
    document.json["nodes"].append({"children": [0], "translation": [0, 0, 5]})
    document.json |= {"scenes": [{"nodes": [1]}], "scene": 0}
    scene = loaded(document, tmp_path)
    # x is stretched, then turned onto y; y is turned onto -x.
    expected = np.stack([-SQUARE[:, 1], 3 * SQUARE[:, 0], SQUARE[:, 2] + 5], axis=1)
    np.testing.assert_allclose(scene.vertices[scene.faces], expected[INDICES].reshape(2, 3, 3), atol=1e-6)


def test_a_matrix_is_read_column_by_column(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(), matrix=[0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 0, 7, 8, 9, 1])
    scene = loaded(document, tmp_path)
    expected = np.stack([7 - SQUARE[:, 2], 8 + SQUARE[:, 1], 9 + SQUARE[:, 0]], axis=1)
    assert corners(scene) == expected[INDICES].reshape(2, 3, 3).tolist()


def test_a_mirror_keeps_fronts_to_the_front(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(), scale=[-1, 1, 1])
    scene = loaded(document, tmp_path)
    a, b, c = scene.vertices[scene.faces[0]]
    assert np.cross(b - a, c - a)[2] > 0
    assert scene.vertices[:, 0].min() == -2


def test_a_mesh_that_two_nodes_show_is_two_objects(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(), name="left")
    document.json["nodes"].append(
        {"mesh": 0, "name": "right", "translation": [5, 0, 0], "extras": {"category": "chair"}}
    )
    scene = loaded(document, tmp_path)
    assert scene.instance.tolist() == [1, 1, 2, 2]
    assert [each.name for each in scene.objects] == ["left", "right"]
    assert [scene.categories[number] for number in scene.semantic] == ["unlabelled"] * 2 + ["chair"] * 2


def test_a_mesh_is_drawn_once_for_each_of_its_instances(tmp_path: Path) -> None:
    document = Document()
    turns = np.array([[0, 0, 0, 127], [0, 0, 90, 90]], dtype="|i1")
    attributes = {
        "TRANSLATION": document.accessor(np.array([[0, 0, 0], [10, 0, 0]], "<f4")),
        "ROTATION": document.accessor(turns, normalized=True),
    }
    instancing = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    document.json["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    document.show(document.square(), translation=[0, 0, 3], extensions=instancing)
    scene = loaded(document, tmp_path)
    assert scene.instance.tolist() == [1, 1, 2, 2]
    expected = np.stack([10 - SQUARE[:, 1], SQUARE[:, 0], SQUARE[:, 2] + 3], axis=1)[INDICES].reshape(2, 3, 3)
    np.testing.assert_allclose(scene.vertices[scene.faces[2:]], expected, atol=1e-6)
    instancing["EXT_mesh_gpu_instancing"]["attributes"]["SCALE"] = document.accessor(np.ones((3, 3), "<f4"))
    assert "as many each" in refused(document, tmp_path)


def test_a_node_in_the_tree_twice_is_refused(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square())
    document.json["nodes"].append({"children": [1]})
    document.json["scenes"] = [{"nodes": [1]}]
    assert "twice" in refused(document, tmp_path)


def test_factor_texture_wrap_and_both_sides_come_from_the_material(tmp_path: Path) -> None:
    document = Document()
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype="<f4")
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    document.json |= {
        "samplers": [{"wrapS": 33071, "wrapT": 33648, "magFilter": 9728, "minFilter": 9985}],
        "textures": [{"source": document.picture(pixels), "sampler": 0}],
        "materials": [
            {
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.5, 0.25, 1, 0.75]},
                "doubleSided": True,
            }
        ],
    }
    document.show(document.square(attributes={"TEXCOORD_0": document.accessor(uv)}, material=0))
    scene = loaded(document, tmp_path)
    assert scene.colour.tolist() == [[0.5, 0.25, 1, 0.75]] * 2
    assert scene.double_sided.all()
    assert scene.texture.tolist() == [0, 0]
    assert scene.textures[0].wrap == ("clamp", "mirror")
    assert scene.textures[0].filters == ("nearest", "linear", "nearest")
    assert np.array_equal(scene.textures[0].image, pixels)
    assert scene.uv.tolist() == uv[INDICES].reshape(2, 3, 2).tolist()


def test_a_jpeg_and_a_picture_in_grey_are_decoded(tmp_path: Path) -> None:
    document = Document()
    uv = document.accessor(np.zeros((4, 2), "<f4"))
    document.picture(np.full((8, 8, 3), 200, np.uint8), "jpeg")
    document.picture(np.full((4, 4), 40_000, np.uint16))
    document.json |= {
        "textures": [{"source": 0}, {"source": 1}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": i}}} for i in range(2)],
    }
    document.show(*(document.square(attributes={"TEXCOORD_0": uv}, material=i) for i in range(2)))
    first, second = loaded(document, tmp_path).textures
    assert abs(first.image[..., :3].astype(int) - 200).max() <= 1
    assert (second.image[..., :3] == 40_000 // 256).all()


def test_a_texture_transform_scales_turns_and_moves(tmp_path: Path) -> None:
    # The example of the extension's text: the lower left quarter of the picture, turned clockwise.
    document = Document()
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype="<f4")
    transform = {"offset": [0, 1], "rotation": np.pi / 2, "scale": [0.5, 0.5], "texCoord": 1}
    document.json |= {
        "extensionsRequired": ["KHR_texture_transform"],
        "textures": [{"source": document.picture(np.zeros((2, 2, 3), np.uint8))}],
        "materials": [
            {
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0, "extensions": {"KHR_texture_transform": transform}}
                }
            }
        ],
    }
    document.show(document.square(attributes={"TEXCOORD_1": document.accessor(uv)}, material=0))
    scene = loaded(document, tmp_path)
    expected = np.stack([0.5 * uv[:, 1], 1 - 0.5 * uv[:, 0]], axis=1)
    np.testing.assert_allclose(scene.uv, expected[INDICES].reshape(2, 3, 2), atol=1e-6)
    assert scene.uv[..., 0].max() <= 0.5 <= scene.uv[..., 1].min() + 1e-6


def test_the_diffuse_colour_of_the_older_material_is_read(tmp_path: Path) -> None:
    document = Document()
    glossy = {"diffuseFactor": [0.25, 0.5, 0.75, 1]}
    document.json["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": glossy}}]
    document.show(document.square(material=0))
    assert loaded(document, tmp_path).colour[0].tolist() == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("|u1", [[0, 51, 255]], [0, 51, 255, 255]),
        ("<u2", [[0, 13107, 65535, 32768]], [0, 51, 255, 128]),
        ("<f4", [[0, 0.2, 1, 0.5]], [0, 51, 255, 128]),
    ],
)
def test_vertex_colours_of_every_kind(kind: str, values: list[Any], expected: list[int], tmp_path: Path) -> None:
    document = Document()
    colours = np.repeat(np.array(values, dtype=kind), 4, axis=0)
    document.show(document.square(attributes={"COLOR_0": document.accessor(colours, normalized=kind != "<f4")}))
    assert loaded(document, tmp_path).vertex_colour.tolist() == [expected] * 4


def test_interleaved_and_sparse_and_quantised_accessors(tmp_path: Path) -> None:
    document = Document()
    rows = np.zeros(4, dtype=[("position", "<f4", 3), ("uv", "<u2", 2)])
    rows["position"], rows["uv"] = SQUARE, [[0, 0], [65535, 0], [65535, 65535], [0, 65535]]
    view = document.view(rows.tobytes(), byteStride=16)
    document.json["accessors"] += [
        {"bufferView": view, "componentType": 5126, "count": 4, "type": "VEC3"},
        {"bufferView": view, "byteOffset": 12, "componentType": 5123, "normalized": True, "count": 4, "type": "VEC2"},
        {
            "bufferView": view,
            "componentType": 5126,
            "count": 4,
            "type": "VEC3",
            "sparse": {
                "count": 1,
                "indices": {"bufferView": document.view(bytes([2])), "componentType": 5121},
                "values": {"bufferView": document.view(np.array([9, 9, 9], "<f4").tobytes())},
            },
        },
    ]
    document.json |= {
        "textures": [{"source": document.picture(np.zeros((2, 2, 3), np.uint8))}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    }
    indices = document.accessor(INDICES.astype("|u1"))
    small = document.accessor(SQUARE.astype("<i2"))
    document.show(
        {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": indices, "material": 0},
        {"attributes": {"POSITION": 2}, "indices": indices},
        {"attributes": {"POSITION": small}, "indices": indices},
    )
    scene = loaded(document, tmp_path)
    assert scene.uv[0].tolist() == [[0, 0], [1, 0], [1, 1]]
    assert scene.vertices[scene.faces[2]].tolist() == [[0, 0, 0], [2, 0, 0], [9, 9, 9]]
    assert corners(scene)[4:] == corners(scene)[:2]


def test_a_gltf_with_files_and_one_with_data_addresses_are_the_same_scene(tmp_path: Path) -> None:
    document = Document()
    document.json |= {
        "textures": [{"source": document.picture(np.full((2, 2, 3), 77, np.uint8))}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    }
    document.show(document.square(attributes={"TEXCOORD_0": document.accessor(SQUARE[:, :2])}, material=0))
    whole = loaded(document, tmp_path)
    view = document.json["bufferViews"][document.json["images"][0]["bufferView"]]
    picture = document.binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    (tmp_path / "a picture.png").write_bytes(picture)
    (tmp_path / "data.bin").write_bytes(document.binary)
    document.json["images"] = [{"uri": "a%20picture.png"}]
    document.json["buffers"] = [{"uri": "data.bin", "byteLength": len(document.binary)}]
    (tmp_path / "scene.gltf").write_text(json.dumps(document.json))
    apart = load_scene(tmp_path / "scene.gltf", cache=False)
    coded = base64.b64encode(document.binary).decode()
    document.json["images"] = [{"uri": "data:image/png;base64," + base64.b64encode(picture).decode()}]
    document.json["buffers"] = [{"uri": f"data:application/octet-stream;base64,{coded}", "byteLength": 0}]
    (tmp_path / "inside.gltf").write_text(json.dumps(document.json))
    inside = load_scene(tmp_path / "inside.gltf", cache=False)
    for scene in (apart, inside):
        assert corners(scene) == corners(whole)
        assert np.array_equal(scene.textures[0].image, whole.textures[0].image)
        assert np.array_equal(scene.uv, whole.uv)


def test_a_picture_that_is_not_there_is_an_error_or_a_warning(tmp_path: Path) -> None:
    document = Document()
    document.json |= {
        "images": [{"uri": "gone.png"}],
        "textures": [{"source": 0}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0, 0, 1]}}],
    }
    document.show(document.square(attributes={"TEXCOORD_0": document.accessor(SQUARE[:, :2])}, material=0))
    message = refused(document, tmp_path)
    assert "gone.png" in message
    assert "missing_textures=True" in message
    scene = loaded(document, tmp_path, missing_textures=True)
    assert scene.texture.tolist() == [-1, -1]
    assert scene.colour[0].tolist() == [1, 0, 0, 1]
    assert "not there" in scene.warnings[0]


def test_without_a_material_white_and_black_as_habitat_draws_it(tmp_path: Path) -> None:
    document = Document()
    document.json["materials"] = [
        {"doubleSided": True, "pbrMetallicRoughness": {"baseColorFactor": [0.8, 0.8, 0.8, 1]}}
    ]
    document.show(document.square(), document.square(material=0))
    scene = loaded(document, tmp_path)
    assert scene.colour[:, 0].tolist() == pytest.approx([1, 1, 0.8, 0.8])
    habitat = loaded(document, tmp_path, habitat_compatible=True)
    assert habitat.colour[:, 0].tolist() == pytest.approx([0, 0, 0.8, 0.8])
    assert not habitat.double_sided.any()  # it culls back faces, whatever the material says


def test_axes_are_the_callers_or_the_stage_configurations_or_y_up(tmp_path: Path) -> None:
    document = Document()
    tall = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 3]], dtype="<f4")
    document.show({"attributes": {"POSITION": document.accessor(tall)}})
    z_up = np.stack([tall[:, 0], tall[:, 2], -tall[:, 1]], axis=1).tolist()
    assert corners(loaded(document, tmp_path))[0] == tall.tolist()
    assert corners(loaded(document, tmp_path, up=(0, 0, 1)))[0] == z_up
    assert corners(loaded(document, tmp_path, habitat_compatible=True))[0] == z_up
    config = {"render_asset": "scene.glb", "up": [0, 0, 1], "front": [0, 1, 0]}
    (tmp_path / "scene.stage_config.json").write_text(json.dumps(config))
    assert corners(loaded(document, tmp_path))[0] == z_up
    assert corners(loaded(document, tmp_path, up=(0, 1, 0)))[0] == tall.tolist()
    with pytest.raises(UserError, match="right angle"):
        loaded(document, tmp_path, up=(0, 1, 0), front=(0, 1, 1))
    with pytest.raises(UserError, match="without up"):
        loaded(document, tmp_path, front=(0, 1, 1))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("KHR_draco_mesh_compression", "gltf-transform copy"),
        ("EXT_meshopt_compression", "gltf-transform copy"),
        ("KHR_texture_basisu", "gltf-transform ktxdecompress"),
        ("ACME_unheard_of", "ACME_unheard_of"),
    ],
)
def test_a_required_extension_that_is_not_read_is_refused_by_name(name: str, command: str, tmp_path: Path) -> None:
    document = Document()
    document.show(document.square())
    document.json["extensionsRequired"] = [name]
    message = refused(document, tmp_path)
    assert name in message
    assert command in message


def test_compression_that_is_used_and_not_declared_is_refused_too(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(extensions={"KHR_draco_mesh_compression": {"bufferView": 0}}))
    assert len(loaded(document, tmp_path).faces) == 2  # the plain numbers are there as well
    del document.json["accessors"][0]["bufferView"]
    assert "KHR_draco_mesh_compression" in refused(document, tmp_path)
    document = Document()
    document.show(document.square())
    del document.json["accessors"][0]["bufferView"]
    assert "gltf-transform copy" in refused(document, tmp_path)
    document = Document()
    document.show(document.square())
    document.json["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    assert "EXT_meshopt_compression" in refused(document, tmp_path)
    document = Document()
    document.json |= {
        "textures": [{"extensions": {"KHR_texture_basisu": {"source": 0}}}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    }
    document.show(document.square(material=0))
    assert "ktxdecompress" in refused(document, tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("accessors", 1, "count"), 600, "damaged"),
        (("accessors", 0, "componentType"), 5124, "componentType"),
        (("accessors", 0, "type"), "VEC2", "numbers an entry"),
        (("bufferViews", 0, "byteLength"), 10**9, "cut off"),
        (("bufferViews", 0, "byteOffset"), -4, "byteOffset"),
        (("nodes", 0, "mesh"), 4, "no 4 among"),
        (("nodes", 0, "mesh"), "first", "whole number"),
        (("nodes", 0, "rotation"), [0, 0, 0, 0], "quaternion"),
        (("meshes", 0, "primitives"), {}, "a list"),
        (("asset", "version"), "1.0", "expected 2.0"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(place: tuple[Any, ...], value: Any, told: str, tmp_path: Path) -> None:
    document = Document()
    document.show(document.square())
    target: Any = document.json
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    message = refused(document, tmp_path)
    assert told in message
    assert str(tmp_path / "scene.glb") in message


def test_an_index_out_of_range_is_told(tmp_path: Path) -> None:
    document = Document()
    document.show(
        {
            "attributes": {"POSITION": document.accessor(SQUARE)},
            "indices": document.accessor(np.array([0, 1, 4], "<u4")),
        }
    )
    assert "an index is 4, but there are 4 vertices" in refused(document, tmp_path)


def test_a_file_cut_off_at_any_byte_is_an_error(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square())
    whole = document.glb()
    path = tmp_path / "cut.glb"
    for length in (*range(64), *range(64, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.glb"):
            load_scene(path, cache=False)


def test_an_empty_mesh_and_vertices_that_are_no_numbers_are_errors(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(mode=1))
    assert "no triangles" in refused(document, tmp_path)
    broken = SQUARE.copy()
    broken[2, 1] = np.nan
    document = Document()
    document.show(
        {"attributes": {"POSITION": document.accessor(broken)}, "indices": document.accessor(INDICES.astype("<u2"))}
    )
    assert "1 of 4 vertices are not finite" in refused(document, tmp_path)


def test_triangles_without_an_area_are_left_out_and_counted(tmp_path: Path) -> None:
    document = Document()
    faces = np.concatenate([INDICES, np.tile([1, 1, 2], 200_000)]).astype("<u4")
    document.show({"attributes": {"POSITION": document.accessor(SQUARE)}, "indices": document.accessor(faces)})
    scene = loaded(document, tmp_path)
    assert len(scene.faces) == 2
    assert scene.warnings == ("200000 of 200002 triangles have no area and were left out",)
    document = Document()
    document.show({"attributes": {"POSITION": document.accessor(SQUARE)}, "indices": document.accessor(faces[6:])})
    assert "none of its 200000 triangles" in refused(document, tmp_path)


def test_a_scene_in_centimetres_is_warned_of_and_one_in_millimetres_refused(tmp_path: Path) -> None:
    document = Document()
    document.show(document.square(), scale=[300, 260, 1])
    scene = loaded(document, tmp_path)
    assert "100x too large" in scene.warnings[0]
    assert "scale=0.01" in scene.warnings[0]
    smaller = loaded(document, tmp_path, scale=0.01)
    assert smaller.warnings == ()
    assert smaller.bounds[1].tolist() == pytest.approx([6, 2.6, 0])
    document.json["nodes"][0]["scale"] = [10_000, 2600, 1]
    assert "scale=0.01" in refused(document, tmp_path)


def test_a_scene_far_from_its_origin_and_wild_texture_coordinates_are_warned_of(tmp_path: Path) -> None:
    document = Document()
    uv = np.array([[0, 0], [1, 0], [np.nan, 1e30], [0, 1]], dtype="<f4")
    document.json |= {
        "textures": [{"source": document.picture(np.zeros((2, 2, 3), np.uint8))}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    }
    square = document.square(attributes={"TEXCOORD_0": document.accessor(uv)}, material=0)
    document.show(square, translation=[4e5, 0, 0])
    scene = loaded(document, tmp_path)
    assert scene.uv[0].tolist() == [[0, 0], [1, 0], [0, 0]]
    assert "400002 m from its origin" in scene.warnings[0]
    assert "2 faces have texture coordinates" in scene.warnings[1]


def test_textures_over_the_budget_are_halved_with_a_warning(tmp_path: Path) -> None:
    document = Document()
    uv = document.accessor(SQUARE[:, :2])
    rough = np.zeros((8, 8, 3), np.uint8)
    rough[::2, ::2] = 200
    document.picture(rough)
    document.picture(np.full((2, 2, 3), 9, np.uint8))
    document.json |= {
        "textures": [{"source": 0}, {"source": 1}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": i}}} for i in range(2)],
    }
    document.show(*(document.square(attributes={"TEXCOORD_0": uv}, material=i) for i in range(2)))
    scene = loaded(document, tmp_path, texel_budget=20)
    assert [texture.image.shape for texture in scene.textures] == [(4, 4, 4), (2, 2, 4)]
    assert (scene.textures[0].image[..., :3] == 50).all()
    assert "1 of 2 textures were halved" in scene.warnings[0]
    assert [texture.image.shape for texture in loaded(document, tmp_path, texel_budget=1).textures] == [(1, 1, 4)] * 2


def test_textures_with_a_side_that_cannot_be_drawn_are_halved_with_a_warning(tmp_path: Path) -> None:
    document = Document()
    uv = document.accessor(SQUARE[:, :2])
    document.picture(np.full((1, 20_000, 3), 70, np.uint8))
    document.picture(np.full((LARGEST_TEXTURE, 1, 3), 9, np.uint8))
    document.json |= {
        "textures": [{"source": 0}, {"source": 1}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": i}}} for i in range(2)],
    }
    document.show(*(document.square(attributes={"TEXCOORD_0": uv}, material=i) for i in range(2)))
    scene = loaded(document, tmp_path)
    assert [texture.image.shape for texture in scene.textures] == [(1, 10_000, 4), (LARGEST_TEXTURE, 1, 4)]
    assert (scene.textures[0].image[..., :3] == 70).all()
    assert scene.warnings == (
        "1 of 2 textures were halved: they have a side over 16384 pixels, the longest that can be drawn",
    )
    lay_out([scene])
    assert len(loaded(document, tmp_path, texel_budget=100).warnings) == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [("scene.blend", "ends in .blend"), ("scene", "ends in nothing"), ("gone.glb", "there is no file")],
)
def test_a_file_of_another_kind_or_none_is_told(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "scene.blend").touch()
    (tmp_path / "scene").touch()
    with pytest.raises(UserError, match=told):
        load_scene(tmp_path / name, cache=False)


def test_another_format_under_the_name_of_a_glb_is_told(tmp_path: Path) -> None:
    (tmp_path / "scene.glb").write_bytes(b"ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(UserError, match="is no GLB"):
        load_scene(tmp_path / "scene.glb", cache=False)


def test_arguments_without_sense_are_refused(tmp_path: Path) -> None:
    for arguments, told in (
        ({"scale": 0.0}, "scale is 0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"texel_budget": 0}, "texel_budget is 0"),
        ({"up": (0, 0, 0)}, "two directions"),
        ({"scene": "kitchen"}, "one scene"),
    ):
        document = Document()
        document.show(document.square())
        assert told in refused(document, tmp_path, **arguments)
