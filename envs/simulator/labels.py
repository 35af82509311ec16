"""What a scan's own label files say of its objects and rooms: Matterport .house, HM3D semantic text, Replica's JSON."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlkit.envs.simulator.assemble import placed, with_categories
from vlkit.envs.simulator.json_fields import json_fields
from vlkit.envs.simulator.scene import Room, SceneData, SceneObject
from vlkit.errors import UserError

# Matterport's letters for the use of a region.
REGIONS = {
    "a": "bathroom", "b": "bedroom", "c": "closet", "d": "dining room", "e": "entryway", "f": "family room",
    "g": "garage", "h": "hallway", "i": "library", "j": "laundry room", "k": "kitchen", "l": "living room",
    "m": "meeting room", "n": "lounge", "o": "office", "p": "porch", "r": "recreation room", "s": "stairs",
    "t": "toilet", "u": "utility room", "v": "television room", "w": "gym", "x": "outdoors", "y": "balcony",
    "z": "other room", "B": "bar", "C": "classroom", "D": "dining booth", "S": "spa", "Z": "junk", "-": "unlabelled",
}  # fmt: skip

CLASS_NAMES = ("class_name", "class_", "category")  # Replica's and two of Gibson's


@dataclass(frozen=True)
class Labels:
    """Objects and rooms; `colours` are those that stand for objects in HM3D's semantic mesh, 0xRRGGBB to id."""

    objects: tuple[SceneObject, ...]
    rooms: tuple[Room, ...] = ()
    colours: tuple[tuple[int, int], ...] = ()


def read_house(data: bytes, path: Path, matrix: np.ndarray) -> Labels:
    """A Matterport .house; `matrix` (4, 4) takes its coordinates, those of the scan's mesh, to the scene's.

    An object's id is one more than its number in the file, since that begins with 0. Its name is habitat-sim's,
    LEVEL_REGION_OBJECT, and its category that of the 40 Matterport categories. Raises UserError where it is damaged.
    """
    lines = data.decode("utf-8", errors="replace").splitlines()
    if not lines or not lines[0].startswith("ASCII 1."):
        raise UserError(f"{path} is no Matterport house: its first line is not 'ASCII 1.1'")
    categories: dict[int, str] = {}
    surfaces: dict[int, int] = {}
    outlines: dict[int, dict[int, list[tuple[float, float]]]] = {}
    regions: dict[int, tuple[int, str, list[float]]] = {}
    objects: list[tuple[int, int, int]] = []
    for number, line in enumerate(lines[1:], start=2):
        words = line.split()
        try:
            match words:
                case ["C", index, _, raw, _, common, *_]:
                    categories[int(index)] = (common if common != "-" else raw).replace("#", " ")
                case ["R", index, level, _, _, label, _, _, _, *bounds] if len(bounds) >= 6:
                    use = REGIONS.get(label[:1], label)
                    regions[int(index)] = int(level), use, [_number(word) for word in bounds[:6]]
                case ["S", index, region, *_]:
                    surfaces[int(index)] = int(region)
                case ["V", _, surface, _, x, y, *_]:
                    polygons = outlines.setdefault(surfaces.get(int(surface), -1), {})
                    polygons.setdefault(int(surface), []).append((_number(x), _number(y)))
                case ["O", index, region, category, *_]:
                    objects.append((int(index), int(region), int(category)))
                case [("C" | "R" | "S" | "V" | "O"), *_]:
                    raise ValueError("too short")
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: {line[:60]!r} is damaged ({error}); fetch the file again"
            ) from error
    rooms = []
    for place, (storey, name, box) in sorted(regions.items()):
        drawn = [polygon for polygon in outlines.get(place, {}).values() if len(polygon) >= 3]
        outline = drawn[0] if drawn else [(box[0], box[1]), (box[3], box[1]), (box[3], box[4]), (box[0], box[4])]
        rooms.append(_room(place, name, storey, outline, box[2], box[5], matrix))
    return Labels(
        tuple(
            SceneObject(
                each + 1,
                f"{regions[place][0] if place in regions else -1}_{place}_{each}",
                categories.get(kind, ""),
                place if place in regions else None,
            )
            for each, place, kind in objects
            if 0 <= each < 2**31 - 1
        ),
        tuple(rooms),
    )


def read_hm3d_text(data: bytes, path: Path) -> Labels:
    """An HM3D `*.semantic.txt`: id, colour, category and region of each object. Rooms have no outline yet."""
    lines = data.decode("utf-8", errors="replace").splitlines()
    if not lines or "Semantic Annotations" not in lines[0]:
        raise UserError(f"{path} is no HM3D semantic text: its first line is not 'HM3D Semantic Annotations'")
    objects: dict[int, SceneObject] = {}
    colours: dict[int, int] = {}
    for number, row in enumerate(csv.reader(line.replace("\0", "") for line in lines[1:]), start=2):
        if not row:
            continue
        if len(row) != 4 or not re.fullmatch(r"\d{1,9}", row[0]) or not re.fullmatch(r"[0-9A-Fa-f]{6}", row[1]):
            raise UserError(f"{path}, line {number}: {','.join(row)[:60]!r} is not id,colour,category,region")
        if not re.fullmatch(r"-?\d{1,9}", row[3]):
            raise UserError(f"{path}, line {number}: the region is {row[3][:20]!r}; expected a whole number")
        object_id, region = int(row[0]), int(row[3])
        if object_id == 0:
            continue
        colours[int(row[1], 16)] = object_id
        name = f"{row[2].strip()}_{object_id}"
        objects[object_id] = SceneObject(object_id, name, row[2].strip(), region if region >= 0 else None)
    return Labels(tuple(objects.values()), colours=tuple(colours.items()))


def read_replica_json(data: bytes, path: Path) -> Labels:
    """Replica's `info_semantic.json` or Gibson's `.scn`; an id is one more than in the file where that has an object 0."""
    objects = []
    entries = json_fields(data, path).listed("objects")
    shift = int(has_object_zero(data, path))
    for entry in entries:
        number = entry.integer("id", high=2**31 - 2)
        named = next((name for name in CLASS_NAMES if name in entry), CLASS_NAMES[0])
        name = entry.text(named, "")
        objects.append(SceneObject(number + shift, f"{name or 'object'}_{number}", name))
    return Labels(tuple(objects))


def has_object_zero(data: bytes, path: Path) -> bool:
    """Whether one of the objects of an `info_semantic.json` has the id 0, which is elsewhere no object."""
    return any(entry.integer("id", high=2**31 - 2) == 0 for entry in json_fields(data, path).listed("objects"))


def labelled(scene: SceneData, labels: Labels) -> SceneData:
    """The scene with the objects and rooms of the labels; its faces' `instance` are ids of them already.

    Ids that the labels do not know keep the object that the mesh gave them. A room of which only the number is known
    gets the rectangle in plan that its objects lie in.
    """
    known = {each.id for each in labels.objects}
    present = set(np.unique(scene.instance).tolist())
    extra = [each for each in scene.objects if each.id in present and each.id not in known]
    rooms = {room.id: room for room in labels.rooms}
    for number in sorted({each.room for each in labels.objects if each.room is not None} - rooms.keys()):
        ids = [each.id for each in labels.objects if each.room == number]
        faces = scene.faces[np.isin(scene.instance, ids)]
        if len(faces):
            corners = scene.vertices[faces.reshape(-1)]
            low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
            outline = ((low[0], low[2]), (high[0], low[2]), (high[0], high[2]), (low[0], high[2]))
            rooms[number] = Room(number, f"region {number}", 0, outline, low[1], high[1])
    objects = tuple(
        each if each.room is None or each.room in rooms else replace(each, room=None) for each in labels.objects
    )
    return with_categories(replace(scene, objects=(*objects, *extra), rooms=tuple(rooms.values())))


def by_colour(scene: SceneData, labels: Labels) -> SceneData:
    """The semantic mesh of HM3D with each face in the object whose colour it has, in its texture or its vertices."""
    shown = (scene.vertex_colour[scene.faces[:, 0], :3] * scene.colour[:, :3]).round().astype(np.uint8)
    middle = scene.uv.mean(axis=1, dtype=np.float64)
    for number, texture in enumerate(scene.textures):
        faces = np.flatnonzero(scene.texture == number)
        height, width = texture.image.shape[:2]
        inside = middle[faces] - np.floor(middle[faces])
        column = np.minimum((inside[:, 0] * width).astype(np.int64), width - 1)
        row = np.minimum((inside[:, 1] * height).astype(np.int64), height - 1)
        shown[faces] = texture.image[row, column, :3]
    code = (shown.astype(np.int64) * (65536, 256, 1)).sum(axis=1)
    colours = np.array(sorted(labels.colours), dtype=np.int64).reshape(-1, 2)
    if not len(colours):
        return replace(scene, instance=np.zeros_like(scene.instance))
    at = np.minimum(np.searchsorted(colours[:, 0], code), len(colours) - 1)
    instance = np.where(colours[at, 0] == code, colours[at, 1], 0).astype(np.int32)
    return replace(scene, instance=instance, objects=())


def _number(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is not finite")
    return number


def _room(
    number: int,
    name: str,
    level: int,
    polygon: Sequence[tuple[float, float]],
    low: float,
    high: float,
    matrix: np.ndarray,
) -> Room:
    floor = placed(np.array([(x, y, low) for x, y in polygon]), matrix)
    top = placed(np.array([(x, y, high) for x, y in polygon]), matrix)
    heights = np.concatenate([floor[:, 1], top[:, 1]])
    outline = tuple((float(x), float(z)) for x, _, z in floor)
    return Room(number, name, level, outline, float(heights.min()), float(heights.max()))
