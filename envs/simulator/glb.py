"""glTF 2.0, as .glb or as .gltf with its files: base colours, textures and vertex colours of every triangle."""

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlkit.envs.simulator.assemble import Part, joined, placed, rotation
from vlkit.envs.simulator.cache import Sources
from vlkit.envs.simulator.gltf_buffers import CONVERT, GltfBuffers, compressed
from vlkit.envs.simulator.json_fields import Fields, json_fields
from vlkit.envs.simulator.pictures import Picture, decoded, missing_picture
from vlkit.envs.simulator.scene import SMOOTH, Filter, Filters, Mips, SceneData, SceneObject, Wrap
from vlkit.envs.simulator.vlkit_extras import as_saved
from vlkit.errors import UserError

WRAPS: dict[int, Wrap] = {10497: "repeat", 33648: "mirror", 33071: "clamp"}
MAGNIFIED: dict[int, Filter] = {9728: "nearest", 9729: "linear"}
MINIFIED: dict[int, tuple[Filter, Mips]] = {
    9728: ("nearest", "none"),
    9729: ("linear", "none"),
    9984: ("nearest", "nearest"),
    9985: ("linear", "nearest"),
    9986: ("nearest", "linear"),
    9987: ("linear", "linear"),
}
TRIANGLES, FAN = 4, 6  # modes of a primitive; 5 is a strip, and what is below 4 are points and lines
WHITE, BLACK = (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0)

READ = (
    "KHR_texture_transform",
    "KHR_materials_pbrSpecularGlossiness",
    "KHR_mesh_quantization",
    "EXT_texture_webp",
    "EXT_mesh_gpu_instancing",
)
HARMLESS = ("KHR_materials_", "KHR_lights_", "KHR_animation_", "KHR_xmp", "EXT_lights_")  # change no base colour


def read_gltf(
    path: Path, sources: Sources, *, black_without_material: bool, missing_textures: bool, texel_budget: int
) -> SceneData:
    """The default scene of a file in the file's own axes, an object for each node that has a mesh.

    `black_without_material` draws a mesh that has none as habitat-sim does; glTF says white. `missing_textures` draws
    faces whose picture is not there in their colour alone. Raises UserError where the file is damaged, or asks for what
    is not read here.
    """
    data = sources.read(path)
    if data[:4] == b"glTF":
        document, binary = _chunks(data, path)
    elif path.suffix.lower() == ".glb":
        raise UserError(
            f"{path} is no GLB file, or a damaged one: it does not begin with 'glTF'; fetch or export it again"
        )
    else:
        document, binary = json_fields(data, path), memoryview(b"")
    version = document.fields("asset").text("version", "")
    if not version.startswith("2."):
        raise UserError(
            f"{path} is glTF {version or 'of no version'}; expected 2.0: convert it, for example by opening and "
            "exporting it in Blender"
        )
    _refuse(document, path)
    buffers = GltfBuffers(document, binary, path, sources)
    file = GltfFile(buffers, missing_textures)
    parts: list[Part] = []
    objects: list[SceneObject] = []
    for node in file.nodes():
        own = len(parts)
        parts += file.parts(node, WHITE if not black_without_material else BLACK, instance=len(objects) + 1)
        if len(parts) > own:
            objects.append(SceneObject(len(objects) + 1, node.name, node.category))
    pictures = {key: picture for key, picture in file.pictures.items() if picture is not None}
    textures, noticed = decoded(list(pictures.values()), texel_budget)
    scene = joined(
        path.name.partition(".")[0],
        parts,
        textures=textures,
        objects=tuple(objects),
        warnings=(*file.warnings(), *noticed),
    )
    extras = document.values.get("extras")
    if not isinstance(extras, dict) or "vlkit" not in extras:
        return scene
    return as_saved(scene, document.fields("extras").fields("vlkit"), [image for image, *_ in pictures], buffers.column)


@dataclass(frozen=True, eq=False)
class Node:
    """A node that has a mesh."""

    mesh: Fields
    matrix: np.ndarray  # (4, 4) from the mesh into the scene
    name: str
    category: str


class GltfFile:
    """What a document says of surfaces; it gathers the pictures that were asked for and what was passed over."""

    def __init__(self, buffers: GltfBuffers, missing_textures: bool) -> None:
        self.buffers, self.document, self.path = buffers, buffers.document, buffers.path
        self.missing_textures = missing_textures
        self.pictures: dict[
            tuple[int, Wrap, Wrap, Filters], Picture | None
        ] = {}  # in the order of their texture numbers
        self.noticed: dict[str, int] = {}

    def notice(self, what: str, count: int = 1) -> None:
        """Something that is passed over, counted for a warning."""
        self.noticed[what] = self.noticed.get(what, 0) + count

    def warnings(self) -> tuple[str, ...]:
        """What was passed over, with how often."""
        return tuple(f"{count} {what}" for what, count in self.noticed.items())

    def nodes(self) -> list[Node]:
        """The nodes that have a mesh, as they follow each other in the tree of the default scene."""
        scenes = self.document.listed("scenes")
        if scenes:
            at = self.document.integer("scene", 0)
            tops = _numbers(self.buffers.one("scenes", at, str(self.path)), "nodes")
        else:
            children = {child for node in self.document.listed("nodes") for child in _numbers(node, "children")}
            tops = [i for i in range(len(self.document.listed("nodes"))) if i not in children]
        found: list[Node] = []
        seen: set[int] = set()
        waiting = [(number, np.eye(4)) for number in reversed(tops)]
        while waiting:
            number, parent = waiting.pop()
            node = self.buffers.one("nodes", number, str(self.path))
            if number in seen:
                raise UserError(f"{node.where} is in the tree twice; a node has one parent: export the file again")
            seen.add(number)
            matrix = parent @ _local(node)
            waiting += [(child, matrix) for child in reversed(_numbers(node, "children"))]
            if "skin" in node:
                self.notice("meshes with a skeleton are drawn as they were modelled, not posed")
            if "mesh" in node:
                mesh = self.buffers.one("meshes", node.integer("mesh"), node.where)
                extras = node.values.get("extras", {})
                category = extras.get("category", "") if isinstance(extras, dict) else ""
                name = node.text("name", "") or mesh.text("name", "") or f"node_{number}"
                label = category if isinstance(category, str) else ""
                found += [Node(mesh, matrix @ own, name, label) for own in self._instances(node)]
        return found

    def _instances(self, node: Fields) -> list[np.ndarray]:
        """Where copies of a node's mesh stand about the node, (4, 4) each: one, unless an extension says more."""
        extensions = node.fields("extensions")
        if "EXT_mesh_gpu_instancing" not in extensions:
            return [np.eye(4)]
        attributes = extensions.fields("EXT_mesh_gpu_instancing").fields("attributes")
        given = {
            name: self.buffers.array(attributes.integer(name), width, attributes.where).astype(np.float64)
            for name, width in (("TRANSLATION", 3), ("ROTATION", 4), ("SCALE", 3))
            if name in attributes
        }
        counts = {len(values) for values in given.values()}
        if len(counts) != 1:
            raise UserError(
                f"{attributes.where}: they have {sorted(counts)} entries for the instances; expected as many each"
            )
        matrices = []
        for i in range(counts.pop()):
            matrix = np.eye(4)
            if "ROTATION" in given:
                x, y, z, w = given["ROTATION"][i].tolist()
                matrix[:3, :3] = rotation((w, x, y, z), attributes.where)
            if "SCALE" in given:
                matrix[:3, :3] *= given["SCALE"][i]
            if "TRANSLATION" in given:
                matrix[:3, 3] = given["TRANSLATION"][i]
            matrices.append(matrix)
        return matrices

    def parts(self, node: Node, without_material: tuple[float, ...], instance: int) -> list[Part]:
        """The node's triangles, a part for each primitive that has some."""
        parts = []
        for primitive in node.mesh.listed("primitives"):
            mode = primitive.integer("mode", TRIANGLES, high=FAN)
            if mode < TRIANGLES:
                self.notice("sets of points or lines are not drawn")
                continue
            attributes = primitive.fields("attributes")
            if "POSITION" not in attributes:
                continue
            stored = self.buffers.one("accessors", attributes.integer("POSITION"), primitive.where)
            for name in primitive.fields("extensions"):
                if name in CONVERT and "bufferView" not in stored:
                    raise UserError(compressed(name, self.path))
            positions = self.buffers.array(attributes.integer("POSITION"), 3, primitive.where)
            faces = self._faces(primitive, mode, len(positions))
            if not len(faces):
                continue
            if np.linalg.det(node.matrix[:3, :3]) < 0:  # a mirror; glTF says that it turns the front with it
                faces = faces[:, ::-1]
            used = np.zeros(len(positions), bool)
            used[faces] = True
            number = np.cumsum(used) - 1
            look = self._look(primitive, without_material)
            uv = None
            if look.texture >= 0:
                name = f"TEXCOORD_{look.uv_set}"
                if name not in attributes:
                    look = replace(look, texture=-1)
                    self.notice(f"textured primitives have no {name} and are drawn in their colour")
                else:
                    flat = self._attribute(attributes, name, 2, len(positions))
                    uv = (flat @ look.uv_matrix.T + look.uv_offset if look.uv_matrix is not None else flat)[faces]
            colours = None
            if "COLOR_0" in attributes:
                colours = _bytes(self._attribute(attributes, "COLOR_0", (3, 4), len(positions), always=True))[used]
            parts.append(
                Part(
                    placed(positions[used], node.matrix),
                    number[faces],
                    uv=uv,
                    vertex_colour=colours,
                    texture=look.texture,
                    colour=look.colour,
                    double_sided=look.double_sided,
                    instance=instance,
                )
            )
        return parts

    def _faces(self, primitive: Fields, mode: int, vertices: int) -> np.ndarray:
        if "indices" in primitive:
            corners = self.buffers.column(primitive.integer("indices"), primitive.where)
            if len(corners) and (corners.max() >= vertices or corners.min() < 0):
                raise UserError(
                    f"{primitive.where}: an index is {int(corners.max())}, but there are {vertices} vertices; "
                    "the file is damaged: export or fetch it again"
                )
        else:
            corners = np.arange(vertices)
        if mode == TRIANGLES:
            if len(corners) % 3:
                raise UserError(f"{primitive.where}: {len(corners)} indices do not divide into triangles")
            return corners.reshape(-1, 3)
        if len(corners) < 3:
            return np.zeros((0, 3), np.int64)
        if mode == FAN:
            return np.stack([corners[1:-1], corners[2:], np.broadcast_to(corners[0], len(corners) - 2)], axis=1)
        strip = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
        strip[1::2] = strip[1::2][:, [0, 2, 1]]  # every other triangle of a strip runs the other way round
        return strip

    def _attribute(
        self, attributes: Fields, name: str, width: int | tuple[int, ...], vertices: int, *, always: bool = False
    ) -> np.ndarray:
        values = self.buffers.array(attributes.integer(name), width, attributes.where, always=always)
        if len(values) != vertices:
            raise UserError(f"{attributes.where}: {name} has {len(values)} entries for {vertices} vertices")
        return values

    def _look(self, primitive: Fields, without_material: tuple[float, ...]) -> "Look":
        if "material" not in primitive:
            return Look(without_material)
        material = self.buffers.one("materials", primitive.integer("material"), primitive.where)
        alpha = material.text("alphaMode", "OPAQUE")
        if alpha != "OPAQUE":
            self.notice(f"primitives with alphaMode {alpha[:12]} are drawn as if they could not be seen through")
        double_sided = material.flag("doubleSided", default=False)
        glossy = material.fields("extensions")
        if "KHR_materials_pbrSpecularGlossiness" in glossy:
            shade = glossy.fields("KHR_materials_pbrSpecularGlossiness")
            factor, texture = "diffuseFactor", "diffuseTexture"
        else:
            shade = material.fields("pbrMetallicRoughness")
            factor, texture = "baseColorFactor", "baseColorTexture"
        colour = tuple(min(1.0, max(0.0, value)) for value in shade.numbers(factor, 4, WHITE))
        if texture not in shade:
            return Look(colour, double_sided)
        named = shade.fields(texture)
        number = self._texture(named.integer("index"), named.where)
        transform = named.fields("extensions").fields("KHR_texture_transform")
        uv_set = transform.integer("texCoord", named.integer("texCoord", 0))
        if not transform.values:
            return Look(colour, double_sided, number, uv_set)
        angle = transform.number("rotation", 0.0)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        matrix = turn * np.array(transform.numbers("scale", 2, (1.0, 1.0)))
        offset = np.array(transform.numbers("offset", 2, (0.0, 0.0)))
        return Look(colour, double_sided, number, uv_set, matrix, offset)

    def _texture(self, index: int, where: str) -> int:
        texture = self.buffers.one("textures", index, where)
        sampler = (
            self.buffers.one("samplers", texture.integer("sampler"), texture.where) if "sampler" in texture else None
        )
        wraps: list[Wrap] = ["repeat", "repeat"]
        for i, name in enumerate(("wrapS", "wrapT")):
            wrap = sampler.integer(name, 10497) if sampler else 10497
            if wrap not in WRAPS and sampler:
                sampler.wrong(name, f"one of {', '.join(map(str, WRAPS))}")
            wraps[i] = WRAPS[wrap]
        filters = self._filters(sampler)
        extensions = texture.fields("extensions")
        webp = extensions.fields("EXT_texture_webp")
        if "source" not in texture and "source" not in webp:
            for name in extensions:
                raise UserError(compressed(name, self.path))
            self.notice("textures have no picture and are drawn as white")
            return -1
        number = texture.integer("source") if "source" in texture else webp.integer("source")
        key = (number, wraps[0], wraps[1], filters)
        if key not in self.pictures:
            self.pictures[key] = self._picture(self.buffers.one("images", number, texture.where), wraps, filters)
        if self.pictures[key] is None:
            return -1
        return [each for each, picture in self.pictures.items() if picture is not None].index(key)

    def _filters(self, sampler: Fields | None) -> Filters:
        """Where the file leaves it open, smooth."""
        if sampler is None:
            return SMOOTH
        large, small = sampler.integer("magFilter", 9729), sampler.integer("minFilter", 9987)
        for name, value, known in (("magFilter", large, MAGNIFIED), ("minFilter", small, MINIFIED)):
            if value not in known:
                sampler.wrong(name, f"one of {', '.join(map(str, known))}")
        return (MAGNIFIED[large], *MINIFIED[small])

    def _picture(self, image: Fields, wraps: list[Wrap], filters: Filters) -> Picture | None:
        if "bufferView" in image:
            data = bytes(self.buffers.view(image.integer("bufferView"), image.where)[0])
        else:
            uri = image.text("uri")
            if not uri.startswith("data:") and not self.buffers.sources.exists(self.buffers.beside(uri)):
                if not self.missing_textures:
                    raise missing_picture(uri, self.path)
                self.notice("textures are not there: their faces are drawn in their colour alone")
                return None
            data = self.buffers.resource(uri, image.where)
        return Picture(data, (wraps[0], wraps[1]), image.where, filters)


@dataclass(frozen=True, eq=False)
class Look:
    """How a primitive's faces are coloured."""

    colour: tuple[float, ...]
    double_sided: bool = False
    texture: int = -1
    uv_set: int = 0
    uv_matrix: np.ndarray | None = None  # (2, 2)
    uv_offset: np.ndarray | None = None  # (2,)


def _chunks(data: bytes, path: Path) -> tuple[Fields, memoryview]:
    cut = UserError(f"{path} is cut off or damaged: fetch or export it again")
    if len(data) < 20:
        raise cut
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise UserError(
            f"{path} is version {version} of the GLB format; expected 2: convert it, for example by opening and "
            "exporting it in Blender"
        )
    if length > len(data):
        raise UserError(
            f"{path} says it has {length} bytes and has {len(data)}: it is cut off; fetch or export it again"
        )
    chunks: dict[bytes, memoryview] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, at)
        if at + 8 + size > length:
            raise cut
        chunks.setdefault(kind, memoryview(data)[at + 8 : at + 8 + size])
        at += 8 + size
    if b"JSON" not in chunks:
        raise cut
    # Some writers fill up with zeros what should be filled up with spaces.
    return json_fields(bytes(chunks[b"JSON"]).rstrip(b"\0"), path), chunks.get(b"BIN\0", memoryview(b""))


def _refuse(document: Fields, path: Path) -> None:
    for name in document.texts("extensionsRequired"):
        if name in CONVERT:
            raise UserError(compressed(name, path))
        if name not in READ and not name.startswith(HARMLESS):
            raise UserError(
                f"{path} requires the glTF extension {name}, which is not read here; export it without, "
                f"or convert it to one of: {', '.join(READ)}"
            )


def _local(node: Fields) -> np.ndarray:
    if "matrix" in node:
        return np.array(node.numbers("matrix", 16), dtype=np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = node.numbers("rotation", 4, (0.0, 0.0, 0.0, 1.0))
    matrix[:3, :3] = rotation((w, x, y, z), node.where) * np.array(node.numbers("scale", 3, (1.0, 1.0, 1.0)))
    matrix[:3, 3] = node.numbers("translation", 3, (0.0, 0.0, 0.0))
    return matrix


def _bytes(colours: np.ndarray) -> np.ndarray:
    whole = np.full((len(colours), 4), 255, np.uint8)
    finite = np.nan_to_num(colours, nan=1.0, posinf=1.0, neginf=0.0)
    whole[:, : colours.shape[1]] = np.round(np.clip(finite, 0, 1) * 255)
    return whole


def _numbers(fields: Fields, name: str) -> list[int]:
    values = fields.values.get(name, [])
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        fields.wrong(name, "a list of whole numbers")
    return values
