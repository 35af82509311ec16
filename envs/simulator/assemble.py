"""Triangles from a reader into a scene: parts joined, scenes turned and put together, faults found and counted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlkit.envs.simulator.scene import LARGEST_M, Room, SceneData, SceneObject, Texture
from vlkit.errors import UserError

TALLEST_M = 100.0  # no building of these datasets is as tall; a room in centimetres is
SMALLEST_CROSS = 1e-12  # square metres, twice a triangle's area: a square micrometre shows in no picture
LARGEST_UV = 2**20  # float32 then tells apart an eighth of the picture; no surface repeats one as often
BLOCK = 2**20  # faces at once: in float64 a whole scan would take gigabytes
Vector = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Part:
    """Triangles that share a material and an object, as a reader hands them over."""

    vertices: np.ndarray  # (vertices, 3) float, metres
    faces: np.ndarray  # (faces, 3) integer, each in range
    uv: np.ndarray | None = None  # (faces, 3, 2) float
    vertex_colour: np.ndarray | None = None  # (vertices, 4) uint8
    texture: int | np.ndarray = -1  # one, or (faces,)
    colour: Sequence[float] | np.ndarray = (1.0, 1.0, 1.0, 1.0)  # one, or (faces, 4)
    double_sided: bool | np.ndarray = False  # one, or (faces,)
    instance: int | np.ndarray = 0  # one, or (faces,)


def joined(
    name: str,
    parts: Sequence[Part],
    *,
    textures: tuple[Texture, ...] = (),
    objects: tuple[SceneObject, ...] = (),
    rooms: tuple[Room, ...] = (),
    warnings: tuple[str, ...] = (),
) -> SceneData:
    """One scene of all parts, in their order; its faces' categories are those of their objects."""
    counts = [len(part.faces) for part in parts]
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces, vertices = sum(counts), int(starts[-1])
    scene = SceneData(
        name,
        vertices=np.zeros((vertices, 3), np.float32),
        faces=np.zeros((faces, 3), np.int32),
        uv=np.zeros((faces, 3, 2), np.float32),
        texture=np.zeros(faces, np.int32),
        colour=np.zeros((faces, 4), np.float32),
        vertex_colour=np.full((vertices, 4), 255, np.uint8),
        double_sided=np.zeros(faces, bool),
        instance=np.zeros(faces, np.int32),
        semantic=np.zeros(faces, np.int32),
        textures=textures,
        objects=objects,
        rooms=rooms,
        warnings=warnings,
    )
    first = 0
    for part, start, count in zip(parts, starts[:-1], counts, strict=True):
        own = slice(first, first + count)
        corners = slice(start, start + len(part.vertices))
        scene.vertices[corners] = part.vertices
        if part.vertex_colour is not None:
            scene.vertex_colour[corners] = part.vertex_colour
        scene.faces[own] = part.faces
        scene.faces[own] += start
        if part.uv is not None:
            scene.uv[own] = part.uv
        for field in ("texture", "colour", "double_sided", "instance"):
            getattr(scene, field)[own] = getattr(part, field)
        first += count
    return with_categories(scene)


def with_categories(scene: SceneData) -> SceneData:
    """The scene with each face in the category of its object."""
    names = sorted({each.category for each in scene.objects if each.category})
    categories = ("unlabelled", *(name for name in names if name != "unlabelled"))
    number = {name: i for i, name in enumerate(categories)}
    semantic = looked_up(scene.instance, {each.id: number.get(each.category, 0) for each in scene.objects})
    return replace(scene, categories=categories, semantic=semantic)


def looked_up(ids: np.ndarray, table: dict[int, int]) -> np.ndarray:
    """`table` of every id, 0 where it has none; ids of a file may be large or negative, so no array is indexed."""
    if not table:
        return np.zeros(ids.shape, np.int32)
    keys = np.array(sorted(table), dtype=np.int64)
    values = np.array([table[int(key)] for key in keys], dtype=np.int32)
    at = np.minimum(np.searchsorted(keys, ids), len(keys) - 1)
    return np.where(keys[at] == ids, values[at], 0).astype(np.int32)


def axes(up: Vector, front: Vector) -> np.ndarray:
    """The rotation (4, 4) that takes a file's `up` to y and its `front` to -z, as a stage's configuration says them.

    Raises UserError where they are no two directions at a right angle.
    """
    y, z = np.array(up, dtype=np.float64), -np.array(front, dtype=np.float64)
    lengths = np.linalg.norm(y), np.linalg.norm(z)
    if not all(np.isfinite(length) and length > 0 for length in lengths):
        raise UserError(f"up is {up} and front {front}; expected two directions such as (0, 0, 1) and (0, 1, 0)")
    y, z = y / lengths[0], z / lengths[1]
    if abs(y @ z) > 1e-3:
        raise UserError(f"up {up} and front {front} are at no right angle; name the file's axes, such as z up, y front")
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.cross(y, z), y, z])
    matrix[np.abs(matrix - np.round(matrix)) < 1e-12] = np.round(matrix[np.abs(matrix - np.round(matrix)) < 1e-12])
    return matrix


def rotation(wxyz: Sequence[float], where: str) -> np.ndarray:
    """The matrix (3, 3) of a quaternion of any length but zero."""
    w, x, y, z = wxyz
    squares = w * w + x * x + y * y + z * z
    if not 0 < squares < math.inf:
        raise UserError(
            f"{where}: the rotation (w, x, y, z) {tuple(wxyz)} is no quaternion; (1, 0, 0, 0) turns nothing"
        )
    double = 2 / squares
    return np.array(
        [
            [1 - double * (y * y + z * z), double * (x * y - z * w), double * (x * z + y * w)],
            [double * (x * y + z * w), 1 - double * (x * x + z * z), double * (y * z - x * w)],
            [double * (x * z - y * w), double * (y * z + x * w), 1 - double * (x * x + y * y)],
        ]
    )


def placed(vertices: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(vertices, 3) under a (4, 4) matrix, in float64; the same array where the matrix changes nothing."""
    if np.array_equal(matrix, np.eye(4)):
        return vertices
    return np.asarray(vertices.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3])


def moved(scene: SceneData, matrix: np.ndarray) -> SceneData:
    """The scene under a (4, 4) matrix; a mirror turns the faces round so that their fronts stay fronts."""
    if np.array_equal(matrix, np.eye(4)):
        return scene
    vertices = placed(scene.vertices, matrix).astype(np.float32)
    rooms = tuple(_moved_room(room, matrix) for room in scene.rooms)
    if np.linalg.det(matrix[:3, :3]) >= 0:
        return replace(scene, vertices=vertices, rooms=rooms)
    faces, uv = np.ascontiguousarray(scene.faces[:, ::-1]), np.ascontiguousarray(scene.uv[:, ::-1])
    return replace(scene, vertices=vertices, faces=faces, uv=uv, rooms=rooms)


def merged(name: str, scenes: Sequence[SceneData]) -> SceneData:
    """Several scenes in one; the ids of each one's objects and rooms follow those before it, a texture is kept once."""
    categories: dict[str, int] = {"unlabelled": 0}
    textures: dict[int, tuple[int, Texture]] = {}
    objects: list[SceneObject] = []
    rooms: list[Room] = []
    warnings: dict[str, None] = {}
    columns: dict[str, list[np.ndarray]] = {field: [] for field in ("faces", "texture", "instance", "semantic")}
    start = 0
    for scene in scenes:
        for texture in scene.textures:
            textures.setdefault(id(texture), (len(textures), texture))
        texture_numbers = [textures[id(texture)][0] for texture in scene.textures]
        category_numbers = [categories.setdefault(category, len(categories)) for category in scene.categories]
        next_object = max((each.id for each in objects), default=0)
        next_room = max((room.id for room in rooms), default=-1) + 1
        objects += [
            replace(each, id=each.id + next_object, room=None if each.room is None else each.room + next_room)
            for each in scene.objects
        ]
        rooms += [replace(room, id=room.id + next_room) for room in scene.rooms]
        columns["faces"].append(scene.faces + np.int32(start))
        columns["texture"].append(np.array([*texture_numbers, -1], dtype=np.int32)[scene.texture])
        columns["instance"].append(np.where(scene.instance > 0, scene.instance + np.int32(next_object), 0))
        columns["semantic"].append(np.array(category_numbers, dtype=np.int32)[scene.semantic])
        start += len(scene.vertices)
        warnings |= dict.fromkeys(scene.warnings)
    same = {
        field: np.concatenate([getattr(scene, field) for scene in scenes])
        for field in ("vertices", "uv", "colour", "vertex_colour", "double_sided")
    }
    return SceneData(
        name,
        **same,
        **{field: np.concatenate(arrays) for field, arrays in columns.items()},
        textures=tuple(texture for _, texture in textures.values()),
        categories=tuple(categories),
        objects=tuple(objects),
        rooms=tuple(rooms),
        warnings=tuple(warnings),
    )


def chosen(scene: SceneData, keep: np.ndarray) -> SceneData:
    """The scene with the faces that `keep` (faces,) is true of, and the vertices that they use."""
    if not keep.all():
        fields = ("faces", "uv", "texture", "colour", "double_sided", "instance", "semantic")
        scene = replace(scene, **{field: getattr(scene, field)[keep] for field in fields})
    used = np.zeros(len(scene.vertices), bool)
    used[scene.faces.reshape(-1)] = True
    if used.all():
        return scene
    number = np.cumsum(used, dtype=np.int32) - np.int32(1)
    return replace(
        scene, vertices=scene.vertices[used], vertex_colour=scene.vertex_colour[used], faces=number[scene.faces]
    )


def checked(scene: SceneData, path: Path) -> SceneData:
    """The scene without triangles that have no area, or UserError where it cannot be drawn; the rest is a warning."""
    warnings = list(scene.warnings)
    if not len(scene.faces):
        raise UserError(f"{path} holds no triangles; a scene is a surface: points and lines cannot be drawn")
    scene = chosen(scene, np.ones(len(scene.faces), bool))
    wrong = ~np.isfinite(scene.vertices).all(axis=1)
    if wrong.any():
        raise UserError(
            f"{path}: {np.count_nonzero(wrong)} of {len(wrong)} vertices are not finite or too large for float32, "
            f"the first of them {scene.vertices[wrong][0].tolist()}; repair the mesh, for example in Blender or MeshLab"
        )
    low, high = (np.array(ends, np.float64) for ends in (scene.vertices.min(axis=0), scene.vertices.max(axis=0)))
    size, farthest = high - low, max(np.abs(low).max(), np.abs(high).max())
    if size.max() > LARGEST_M:
        raise UserError(
            f"{path} spans {size[0]:.6g} x {size[1]:.6g} x {size[2]:.6g} m; expected at most {LARGEST_M:g} m: its unit is "
            "not the metre, so pass scale=0.01 for centimetres, 0.001 for millimetres"
        )
    if farthest > LARGEST_M:
        warnings.append(
            f"the scene lies {farthest:.0f} m from its origin, where float32 tells only {1000 * farthest * 2**-23:.0f} mm "
            "apart; move it to its origin"
        )
    if size[1] > TALLEST_M:
        warnings.append(
            f"the scene is {size[1]:.0f} m tall, about 100x too large: is its unit the centimetre? "
            "Then pass scale=0.01; or another `up`, where it lies on its side"
        )
    keep = _has_area(scene)
    dropped = len(keep) - int(np.count_nonzero(keep))
    if dropped == len(keep):
        raise UserError(f"{path}: none of its {dropped} triangles has an area; repair the mesh, or raise its scale")
    if dropped:
        warnings.append(f"{dropped} of {len(keep)} triangles have no area and were left out")
    lost = ~(np.abs(scene.uv) <= LARGEST_UV)  # neither is NaN
    if lost.any():
        faces = int(np.count_nonzero(lost.any(axis=(1, 2))))
        warnings.append(f"{faces} faces have texture coordinates that are no numbers or over {LARGEST_UV}: now 0")
        scene = replace(scene, uv=np.where(lost, np.float32(0), scene.uv))
    return replace(chosen(scene, keep), warnings=tuple(warnings))


def _has_area(scene: SceneData) -> np.ndarray:
    keep = np.empty(len(scene.faces), bool)
    for start in range(0, len(keep), BLOCK):
        corners = scene.vertices[scene.faces[start : start + BLOCK]].astype(np.float64)
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        keep[start : start + BLOCK] = np.einsum("ij,ij->i", cross, cross) > SMALLEST_CROSS**2
    return keep


def _moved_room(room: Room, matrix: np.ndarray) -> Room:
    middle = (room.low_m + room.high_m) / 2
    outline = placed(np.array([(x, middle, z) for x, z in room.outline], dtype=np.float64).reshape(-1, 3), matrix)
    ends = placed(
        np.array([(x, y, z) for x, z in room.outline for y in (room.low_m, room.high_m)]).reshape(-1, 3), matrix
    )
    heights = ends[:, 1] if len(ends) else np.array([room.low_m, room.high_m])
    corners = tuple((float(x), float(z)) for x, _, z in outline)
    return replace(room, outline=corners, low_m=float(heights.min()), high_m=float(heights.max()))
