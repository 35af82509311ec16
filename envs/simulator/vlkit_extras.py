"""What glTF has no words for, in the `extras` of a GLB that vlkit wrote: the order of faces and vertices, ids, rooms.

A program that edits such a file may keep the extras and change the rest. So they are used only where they still fit.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from vlkit.envs.simulator.json_fields import Fields
from vlkit.envs.simulator.scene import Room, SceneData, SceneObject
from vlkit.errors import UserError

VERSION = 1
LARGEST_ID = 2**31 - 1


def extras_of(scene: SceneData, instances: Sequence[int], accessors: dict[str, int]) -> dict[str, Any]:
    """The table that `as_saved` reads; `instances` are the objects' ids in the order of the nodes."""
    return {
        "version": VERSION,
        "name": scene.name,
        "categories": list(scene.categories),
        "objects": [asdict(each) for each in scene.objects],
        "rooms": [asdict(room) for room in scene.rooms],
        "instances": list(instances),
        "accessors": accessors,
    }


def as_saved(
    scene: SceneData, extras: Fields, images: Sequence[int], column: Callable[[int, str], np.ndarray]
) -> SceneData:
    """The scene with faces, vertices, textures, objects and rooms as they were before it was saved.

    `images` are the numbers of the textures' pictures in the file, `column` reads an accessor of whole numbers. Where
    the file was changed since, so that they do not fit, the scene stays as it was read and a warning says so.
    """
    try:
        return _restored(scene, extras, images, column)
    except UserError as error:
        noticed = f"the file was changed after vlkit wrote it, so its table of objects and rooms is not used ({error})"
        return replace(scene, warnings=(*scene.warnings, noticed))


def _restored(
    scene: SceneData, extras: Fields, images: Sequence[int], column: Callable[[int, str], np.ndarray]
) -> SceneData:
    if extras.integer("version") > VERSION:
        raise UserError(f"{extras.where} is of version {extras.integer('version')}; this vlkit reads {VERSION}")
    accessors = extras.fields("accessors")
    face = _column(accessors, "face", column, length=len(scene.faces), below=len(scene.faces))
    vertex = _column(accessors, "vertex", column, length=len(scene.vertices), below=len(scene.vertices))
    categories = tuple(extras.texts("categories")) or ("unlabelled",)
    semantic = _column(accessors, "semantic", column, length=len(face), below=len(categories))
    ids = _ids(extras, "instances")
    vertices = int(vertex.max()) + 1
    # Each is below its length, so that one of each count means a permutation.
    each_once = np.bincount(face).min() == 1 and len(np.bincount(face)) == len(face)
    if not each_once or np.bincount(vertex).min() == 0 or scene.instance.max() > len(ids):
        raise UserError(f"{accessors.where}: faces, vertices or objects are missing")
    order = np.empty_like(face)
    order[face] = np.arange(len(face))
    source = np.empty(vertices, np.int64)
    source[vertex] = np.arange(len(vertex))
    rank = np.argsort(images)  # the textures in their file's order, whatever face came first
    new_number = np.empty(len(images) + 1, np.int32)
    new_number[rank], new_number[-1] = np.arange(len(images)), -1
    colour, vertex_colour = scene.colour[order], scene.vertex_colour[source]
    if "colour" in accessors:  # there were too many for a material each
        bits = _column(accessors, "colour", column, length=4 * len(face), below=2**32)
        colour = bits.astype(np.uint32).view(np.float32).reshape(-1, 4)
        if not np.isfinite(colour).all():
            raise UserError(f"{accessors.where}: colours are no numbers")
        bits = _column(accessors, "vertex_colour", column, length=vertices, below=2**32)
        vertex_colour = bits.astype("<u4").view(np.uint8).reshape(-1, 4)
    return replace(
        scene,
        name=extras.text("name"),
        vertices=scene.vertices[source],
        faces=vertex[scene.faces[order]].astype(np.int32),
        uv=scene.uv[order],
        texture=new_number[scene.texture[order]],
        colour=colour,
        vertex_colour=vertex_colour,
        double_sided=scene.double_sided[order],
        instance=np.array([0, *ids], np.int32)[scene.instance[order]],
        semantic=semantic.astype(np.int32),
        textures=tuple(scene.textures[i] for i in rank),
        categories=categories,
        objects=tuple(_object(each) for each in extras.listed("objects")),
        rooms=tuple(_room(each) for each in extras.listed("rooms")),
    )


def _column(
    accessors: Fields, name: str, column: Callable[[int, str], np.ndarray], *, length: int, below: int
) -> np.ndarray:
    values = column(accessors.integer(name), accessors.where)
    if len(values) != length or not length or values.max() >= below or values.min() < 0:
        raise UserError(f"{accessors.where}: {name} does not fit {length} entries below {below}")
    return values


def _ids(fields: Fields, name: str) -> list[int]:
    values = fields.values.get(name)
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value <= LARGEST_ID for value in values):
        fields.wrong(name, "a list of ids")
    return values


def _object(fields: Fields) -> SceneObject:
    room = fields.values.get("room")
    return SceneObject(
        fields.integer("id", high=LARGEST_ID),
        fields.text("name"),
        fields.text("category"),
        None if room is None else fields.integer("room", high=LARGEST_ID),
    )


def _room(fields: Fields) -> Room:
    corners = fields.values.get("outline")
    if not isinstance(corners, list):
        fields.wrong("outline", "a list of corners")
    points = [Fields({"corner": corner}, fields.where).numbers("corner", 2) for corner in corners]
    return Room(
        fields.integer("id", high=LARGEST_ID),
        fields.text("name"),
        fields.integer("level", low=-LARGEST_ID, high=LARGEST_ID),
        tuple((x, z) for x, z in points),
        fields.number("low_m"),
        fields.number("high_m"),
    )
