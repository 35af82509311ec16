"""A scene as one GLB file: for habitat-sim, Blender or a viewer, and read back face by face as it was."""

import itertools
import json
import struct
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlkit.envs.simulator.assemble import chosen
from vlkit.envs.simulator.pictures import encoded
from vlkit.envs.simulator.scene import Filter, Mips, SceneData, Texture, Wrap
from vlkit.envs.simulator.vlkit_extras import LARGEST_ID, extras_of
from vlkit.errors import UserError
from vlkit.files import write_atomic

MOST_MATERIALS = 4096  # beyond it colours are written per corner instead
LARGEST_FILE = 2**32 - 1  # what the header of a GLB can say
WRAPS: dict[Wrap, int] = {"repeat": 10497, "mirror": 33648, "clamp": 33071}
MAGNIFIED: dict[Filter, int] = {"nearest": 9728, "linear": 9729}
MINIFIED: dict[tuple[Filter, Mips], int] = {
    ("nearest", "none"): 9728,
    ("linear", "none"): 9729,
    ("nearest", "nearest"): 9984,
    ("linear", "nearest"): 9985,
    ("nearest", "linear"): 9986,
    ("linear", "linear"): 9987,
}
VERTICES, INDICES = 34962, 34963
FLOAT, BYTE, INTEGER = 5126, 5121, 5125


def save_glb(scene: SceneData, path: str | Path, *, stage_config: bool = False) -> None:
    """Writes the scene to `path`: unlit materials, textures as PNG, a node for each object, all else as `extras`.

    `load_scene` reads it back with the same names, objects, rooms, categories and textures, and each face in its place
    with the same numbers, but for what is of no use: vertices and textures that no face uses, texture coordinates of
    faces without a texture (then 0), and `warnings`. Colours are brought into [0, 1], and no categories are written as
    the one of what nobody labelled. What it mends in any file it mends here too: it leaves out faces without an area
    and halves textures that are too large.

    With `stage_config`, NAME.stage_config.json is written beside it, without which habitat-sim takes a GLB's z axis as
    up. Raises UserError, before anything is written, where a part of the scene is out of range or not finite.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise UserError(f"cannot write {path}: the name of a GLB file ends in .glb")
    wrong = _fault(scene)
    if wrong:
        raise UserError(f"cannot write {path}: the scene {scene.name!r} {wrong}")
    colour = scene.colour.clip(0, 1).astype(np.float32)
    scene = replace(scene, colour=colour, categories=scene.categories or ("unlabelled",))
    content = _glb(chosen(scene, np.ones(len(scene.faces), bool)))
    if len(content) > LARGEST_FILE:
        raise UserError(f"cannot write {path}: {len(content)} bytes are over a GLB's limit of {LARGEST_FILE}")
    with write_atomic(path) as temporary:
        temporary.write_bytes(content)
    if stage_config:
        config = {"render_asset": path.name, "up": [0, 1, 0], "front": [0, 0, -1], "shader_type": "flat"}
        with write_atomic(path.with_suffix(".stage_config.json")) as temporary:
            temporary.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _fault(scene: SceneData) -> str:
    """What keeps a scene from being written, or nothing."""
    faces, vertices = len(scene.faces), len(scene.vertices)
    if not faces:
        return "has no faces"
    shapes = {"vertices": (vertices, 3), "faces": (faces, 3), "uv": (faces, 3, 2), "colour": (faces, 4)}
    shapes |= {"vertex_colour": (vertices, 4), "texture": (faces,), "double_sided": (faces,)}
    for name, shape in (shapes | {"instance": (faces,), "semantic": (faces,)}).items():
        found = getattr(scene, name).shape
        if found != shape:
            return f"contradicts itself: {name} is of shape {found}; expected {shape}"
    for name, low, high in (
        ("faces", 0, vertices - 1),
        ("texture", -1, len(scene.textures) - 1),
        ("instance", 0, LARGEST_ID),
        ("semantic", 0, max(len(scene.categories), 1) - 1),
    ):
        for value in (int(getattr(scene, name).min()), int(getattr(scene, name).max())):
            if not low <= value <= high:
                return f"contradicts itself: {name} has {value}; expected {low} to {high}"
    uv = scene.uv[scene.texture >= 0]
    for values, what in ((scene.vertices, "vertices"), (scene.colour, "colours"), (uv, "texture coordinates")):
        if not np.isfinite(values).all():
            return f"has {what} that are not finite; repair it"
    for i, texture in enumerate(scene.textures):
        image = texture.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 4 or not image.size:
            found = f"{image.dtype} of shape {image.shape}"
            return f"contradicts itself: texture {i} is {found}; expected uint8 of (height, width, 4)"
    return _named_fault(scene)


def _named_fault(scene: SceneData) -> str:
    """The same of what its objects and rooms say."""
    for kind, ids in (("objects", [each.id for each in scene.objects]), ("rooms", [room.id for room in scene.rooms])):
        twice = [number for number, count in Counter(ids).items() if count > 1]
        if twice:
            return f"has two {kind} with the id {twice[0]}; give each its own"
    numbers = [(f"object {each.name!r}", "id", each.id, 0) for each in scene.objects]
    numbers += [(f"object {each.name!r}", "room", each.room, 0) for each in scene.objects if each.room is not None]
    numbers += [(f"room {room.name!r}", "id", room.id, 0) for room in scene.rooms]
    numbers += [(f"room {room.name!r}", "level", room.level, -LARGEST_ID) for room in scene.rooms]
    for what, field, value, low in numbers:
        if not low <= value <= LARGEST_ID:
            return f"cannot be read again: the {what} has the {field} {value}; expected {low} to {LARGEST_ID}"
    for room in scene.rooms:
        if not np.isfinite([room.low_m, room.high_m, *itertools.chain.from_iterable(room.outline)]).all():
            return f"cannot be read again: the room {room.name!r} has an outline or heights that are not finite"
    return ""


@dataclass(frozen=True, eq=False)
class Looks:
    """The materials that a scene needs."""

    texture: np.ndarray  # (looks,) int64 into the scene's textures, -1 for none
    colour: np.ndarray  # (looks, 4) float32
    double_sided: np.ndarray  # (looks,) bool
    of_face: np.ndarray  # (faces,) int64, the look of each face
    colour_of_face: np.ndarray  # (faces,) int64, which of the different colours it has
    baked: bool  # the colours are too many for a material each, and stand in the vertices


@dataclass(frozen=True, eq=False)
class Primitives:
    """The faces in runs of one object and one look, and the vertices of each run, as glTF has them.

    A vertex of glTF has one uv; ours has one in each face that it is a corner of. Where those differ it is written as
    several.
    """

    face: np.ndarray  # (faces,) int64, the faces in the order of the runs
    first_face: np.ndarray  # (runs + 1,) int64, where in `face` each begins
    vertex: np.ndarray  # (written,) int64, the scene's vertex that each written one is
    first_vertex: np.ndarray  # (runs + 1,) int64, where in `vertex` each begins
    corner: np.ndarray  # (written,) int64, one corner, of the 3 a face in the order of `face`, that each is
    indices: np.ndarray  # (3 * faces,) int64, from the first vertex of the run


class _Buffer:
    """The binary chunk while it grows, with the document's lists of what lies where."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.length = 0
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, **fields: int) -> int:
        """A new bufferView of the bytes."""
        padded = data + bytes(-len(data) % 4)
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": len(data), **fields})
        self.pieces.append(padded)
        self.length += len(padded)
        return len(self.views) - 1

    def accessor(self, view: int, *, component: int, kind: str, count: int, **fields: Any) -> int:
        """A new accessor of a bufferView."""
        self.accessors.append({"bufferView": view, "componentType": component, "type": kind, "count": count, **fields})
        return len(self.accessors) - 1

    def column(self, values: np.ndarray) -> int:
        """A new accessor of whole numbers, one an entry."""
        view = self.view(values.astype("<u4").tobytes())
        return self.accessor(view, component=INTEGER, kind="SCALAR", count=len(values))


def _glb(scene: SceneData) -> bytes:
    looks = _looks(scene)
    primitives = _primitives(scene, looks)
    buffer = _Buffer()
    meshes, instances = _meshes(scene, looks, primitives, buffer)
    accessors = {
        "face": buffer.column(primitives.face),
        "vertex": buffer.column(primitives.vertex),
        "semantic": buffer.column(scene.semantic),
    }
    if looks.baked:
        accessors["colour"] = buffer.column(np.ascontiguousarray(scene.colour).view(np.uint32).reshape(-1))
        accessors["vertex_colour"] = buffer.column(np.ascontiguousarray(scene.vertex_colour).view("<u4").reshape(-1))
    used = np.unique(looks.texture[looks.texture >= 0]).tolist()
    document = {
        "asset": {"version": "2.0", "generator": "vlkit"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": _nodes(scene, instances),
        "meshes": meshes,
        "materials": _materials(looks, used),
        **_textures([scene.textures[number] for number in used], buffer),
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": buffer.length}],
        "extras": {"vlkit": extras_of(scene, instances, accessors)},
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + buffer.length
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, min(length, LARGEST_FILE)),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", min(buffer.length, LARGEST_FILE), b"BIN\0"),
            *buffer.pieces,
        ]
    )


def _looks(scene: SceneData) -> Looks:
    rows = np.ascontiguousarray(scene.colour, dtype=np.float32)
    different, colour = np.unique(rows.view("V16").reshape(-1), return_inverse=True)
    colours = np.frombuffer(different.tobytes(), np.float32).reshape(-1, 4)
    columns = np.stack([scene.texture + 1, scene.double_sided, colour], axis=1).astype(np.int64)
    first, of_face = _numbered(columns)
    baked = len(first) > MOST_MATERIALS
    if baked:
        first, of_face = _numbered(columns[:, :2])
    return Looks(
        scene.texture[first].astype(np.int64),
        np.ones((len(first), 4), np.float32) if baked else colours[colour[first]],
        scene.double_sided[first],
        of_face,
        colour,
        baked,
    )


def _primitives(scene: SceneData, looks: Looks) -> Primitives:
    face = np.lexsort((looks.of_face, scene.instance))
    first_face = _starts(scene.instance[face], looks.of_face[face])
    run = np.repeat(np.arange(len(first_face)), np.diff(first_face, append=len(face)) * 3)
    vertex = scene.faces[face].reshape(-1).astype(np.int64)
    uv = _written_uv(scene)[face].reshape(-1, 2).view(np.int64).reshape(-1)
    colour = np.repeat(looks.colour_of_face[face], 3) if looks.baked else np.zeros_like(vertex)
    keys = (colour, uv, vertex, run)
    order = np.lexsort(keys)
    first = _starts(*(key[order] for key in keys))
    number = np.empty(len(order), np.int64)
    number[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    corner = order[first]
    first_vertex = _starts(run[corner])
    return Primitives(
        face,
        np.append(first_face, len(face)),
        vertex[corner],
        np.append(first_vertex, len(corner)),
        corner,
        number - first_vertex[run],
    )


def _meshes(
    scene: SceneData, looks: Looks, primitives: Primitives, buffer: _Buffer
) -> tuple[list[dict[str, Any]], list[int]]:
    """A mesh for each object, with its primitives, and the ids of the objects."""
    positions = scene.vertices[primitives.vertex].astype("<f4")
    uv = _written_uv(scene)[primitives.face].reshape(-1, 2)[primitives.corner]
    tint = scene.vertex_colour[primitives.vertex]
    if looks.baked:
        shade = scene.colour[primitives.face][primitives.corner // 3]
        tint = (shade * (tint / np.float32(255))).astype("<f4")
    tinted = looks.baked or bool((tint != 255).any())
    position_view = buffer.view(positions.tobytes(), target=VERTICES, byteStride=12)
    uv_view = buffer.view(uv.tobytes(), target=VERTICES, byteStride=8) if (looks.texture >= 0).any() else -1
    tint_view = buffer.view(tint.tobytes(), target=VERTICES, byteStride=4 * tint.itemsize) if tinted else -1
    index_view = buffer.view(primitives.indices.astype("<u4").tobytes(), target=INDICES)
    lows = np.minimum.reduceat(positions, primitives.first_vertex[:-1]).tolist()
    highs = np.maximum.reduceat(positions, primitives.first_vertex[:-1]).tolist()
    tint_kind = {"component": FLOAT} if looks.baked else {"component": BYTE, "normalized": True}

    instances: list[int] = []
    meshes: list[dict[str, Any]] = []
    for run, (low, high) in enumerate(zip(lows, highs, strict=True)):
        start, end = (int(place) for place in primitives.first_vertex[run : run + 2])
        face, next_face = (int(place) for place in primitives.first_face[run : run + 2])
        look = int(looks.of_face[primitives.face[face]])
        place = {"count": end - start, "component": FLOAT}
        attributes = {
            "POSITION": buffer.accessor(position_view, kind="VEC3", byteOffset=12 * start, min=low, max=high, **place)
        }
        if looks.texture[look] >= 0:
            attributes["TEXCOORD_0"] = buffer.accessor(uv_view, kind="VEC2", byteOffset=8 * start, **place)
        if tinted:
            offset = 4 * tint.itemsize * start
            attributes["COLOR_0"] = buffer.accessor(tint_view, kind="VEC4", byteOffset=offset, **{**place, **tint_kind})
        index = buffer.accessor(
            index_view, kind="SCALAR", byteOffset=12 * face, component=INTEGER, count=3 * (next_face - face)
        )
        instance = int(scene.instance[primitives.face[face]])
        if not instances or instances[-1] != instance:
            instances.append(instance)
            meshes.append({"primitives": []})
        meshes[-1]["primitives"].append({"attributes": attributes, "indices": index, "material": look})
    return meshes, instances


def _written_uv(scene: SceneData) -> np.ndarray:
    """(faces, 3, 2), zero where no texture makes use of it, so that it splits no vertex there."""
    return np.where((scene.texture >= 0)[:, None, None], scene.uv, np.float32(0)).astype("<f4")


def _nodes(scene: SceneData, instances: list[int]) -> list[dict[str, Any]]:
    by_id = {each.id: each for each in scene.objects}
    nodes: list[dict[str, Any]] = []
    for i, instance in enumerate(instances):
        each = by_id.get(instance)
        node: dict[str, Any] = {"mesh": i, "name": each.name if each else "surroundings"}
        if each:
            node["extras"] = {"id": each.id, "category": each.category, "room": each.room}
        nodes.append(node)
    return nodes


def _materials(looks: Looks, used: list[int]) -> list[dict[str, Any]]:
    materials = []
    for texture, colour, double_sided in zip(
        looks.texture.tolist(), looks.colour.tolist(), looks.double_sided.tolist(), strict=True
    ):
        shade: dict[str, Any] = {"baseColorFactor": colour, "metallicFactor": 0.0, "roughnessFactor": 1.0}
        if texture >= 0:
            shade["baseColorTexture"] = {"index": used.index(texture)}
        unlit: dict[str, Any] = {"KHR_materials_unlit": {}}
        materials.append({"pbrMetallicRoughness": shade, "doubleSided": double_sided, "extensions": unlit})
    return materials


def _textures(textures: list[Texture], buffer: _Buffer) -> dict[str, Any]:
    if not textures:  # glTF allows no empty lists
        return {}
    samplers = sorted({(texture.wrap, texture.filters) for texture in textures})
    return {
        "images": [{"bufferView": buffer.view(encoded(texture)), "mimeType": "image/png"} for texture in textures],
        "samplers": [
            {
                "magFilter": MAGNIFIED[filters[0]],
                "minFilter": MINIFIED[filters[1:]],
                "wrapS": WRAPS[wrap[0]],
                "wrapT": WRAPS[wrap[1]],
            }
            for wrap, filters in samplers
        ],
        "textures": [
            {"source": i, "sampler": samplers.index((texture.wrap, texture.filters))}
            for i, texture in enumerate(textures)
        ],
    }


def _numbered(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of rows of small whole numbers, where each different one first stands, and for each row which of them it is."""
    code = np.zeros(len(rows), np.int64)
    for column in rows.T:
        code = code * (int(column.max()) + 1) + column
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return first, inverse


def _starts(*keys: np.ndarray) -> np.ndarray:
    """Where each run of equal keys begins, in keys that are sorted."""
    new = np.zeros(len(keys[0]), bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(new)
