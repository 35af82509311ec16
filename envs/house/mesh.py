"""A house as triangles: rooms, doorways, stairs and furniture, for the simulator and for GLB files.

Walls are seen from the rooms that they are the walls of, and have no outside: one looks into a house from anywhere.
Sheets that meet (wall and floor, wall and wall) reach some way into each other, so that rounding opens no crack.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vlkit.envs.house.catalogue import KINDS
from vlkit.envs.house.house import (
    CEILING_M,
    COLOURS,
    DOOR_HEIGHT_M,
    STOREY_M,
    WALL_M,
    Flight,
    House,
    Opening,
    Plan,
    Point,
    Room,
)
from vlkit.envs.house.shapes import parts
from vlkit.envs.house.solids import RGB, Paint, Part, bar, box, lying, panel
from vlkit.envs.house.textures import PATTERNS, REPEAT_M, textures
from vlkit.envs.simulator.scene import Room as SceneRoom
from vlkit.envs.simulator.scene import SceneData, SceneObject

BUILT = ("unlabelled", "wall", "floor", "ceiling", "door frame", "stairs", "railing")
CATEGORIES: tuple[str, ...] = (*BUILT, *sorted(KINDS))  # of every house
PASSAGE_HEIGHT_M = 2.3
FRAME_M = {"door": 0.08, "passage": 0.03}  # width of the trim around an opening
PROUD_M = 0.015  # how far it stands out of the wall
OVERLAP_M = 0.02  # how far a wall reaches behind the floor, the ceiling and the next wall
SILL_M = 0.004  # a threshold over the floors that meet under it
SLAB_M = STOREY_M - CEILING_M
RAILING_M, RAIL_M, POST_M = 0.95, 0.05, 0.03  # height of a railing, thickness of its rail and of its posts
POSTS_M = 0.28  # from post to post
NOSE_M = 0.05  # of a step's edge that is darker than the rest of it
OPEN_M = 0.05  # a flight that comes nearer to a wall is joined to it
LEAST_M2 = 1e-10  # twice the area of a triangle that is none
CEILING, RISER, SILL = Paint((238, 236, 230)), Paint((236, 230, 216)), Paint((92, 64, 44), pattern="wood")
DARK_TRIM, LIGHT_TRIM, RAIL, POST = (62, 38, 26), (244, 240, 230), Paint((104, 66, 40)), Paint((244, 240, 230))
LIGHT_WALL = 330  # sum of its colour's red, green and blue, over which trim is dark
SHADE = {"x": 0.86, "z": 0.93, "up": 1.0, "down": 0.7}  # baked light, by where a surface looks

Rectangle = tuple[float, float, float, float]  # from and to along a wall, from and to in height


@dataclass(frozen=True, eq=False)
class Placed:
    """Parts that belong to one thing, and where it is put: at `at`, its x axis along `along` in plan."""

    parts: Sequence[Part]
    category: int
    instance: int = 0
    colour: RGB = (255, 255, 255)  # of paint that has none of its own
    at: Point = (0.0, 0.0, 0.0)
    along: Plan = (1.0, 0.0)


def house_scene(house: House) -> SceneData:
    """Its triangles, coloured as lit from above; `instance` is the furniture's id, 0 for the building."""
    placed = [each for room in house.rooms for each in _shell(house, room)]
    placed += [each for opening in house.openings for each in _frame(house, opening)]
    placed += [each for flight in house.flights for each in _stairs(house.rooms[flight.room], flight)]
    for thing in house.furniture:
        placed.append(
            Placed(
                parts(thing.kind, thing.size, thing.variant),
                CATEGORIES.index(thing.kind),
                instance=thing.id,
                colour=COLOURS[thing.colour],
                at=thing.centre,
                along=(-thing.front[1], thing.front[0]),
            )
        )
    objects = tuple(
        SceneObject(thing.id, f"{thing.colour} {thing.kind}", thing.kind, thing.room) for thing in house.furniture
    )
    return placed_scene(house.name, placed, objects, tuple(_named(room) for room in house.rooms))


def _named(room: Room) -> SceneRoom:
    (x, z), (x2, z2) = room.low, room.high
    low = room.storey * STOREY_M
    return SceneRoom(room.id, room.kind, room.storey, ((x, z), (x2, z), (x2, z2), (x, z2)), low, _ceiling(room))


def _ceiling(room: Room) -> float:
    return (room.storey + (room.kind == "stairs")) * STOREY_M + CEILING_M


def _shell(house: House, room: Room) -> Iterator[Placed]:
    """Floor, ceiling and walls of a room."""
    (x, z), (x2, z2) = room.low, room.high
    under = WALL_M / 2  # floors meet in the middle of the walls
    x, z, x2, z2 = x - under, z - under, x2 + under, z2 + under
    floor = Paint(room.floor.colour, pattern=room.floor.pattern)
    y = room.storey * STOREY_M
    yield Placed([panel((x, y, z), (x, y, z2), (x2, y, z2), (x2, y, z), paint=floor)], BUILT.index("floor"))
    y = _ceiling(room)
    yield Placed([panel((x, y, z), (x2, y, z), (x2, y, z2), (x, y, z2), paint=CEILING)], BUILT.index("ceiling"))
    quads = []
    for axis in (0, 1):
        for side in (0, 1):
            line = (room.low, room.high)[side][1 - axis]
            for low, high, bottom, top in _rectangles(house, room, axis, side):
                corners = [(low, bottom), (high, bottom), (high, top), (low, top)]
                if axis != side:  # there they are clockwise, seen from the room
                    corners.reverse()
                quads.append([(at, y, line) if axis == 0 else (line, y, at) for at, y in corners])
    wall = Paint(room.wall.colour, pattern=room.wall.pattern)
    yield Placed([Part(np.array(quads), wall)], BUILT.index("wall"))


def _rectangles(house: House, room: Room, axis: int, side: int) -> list[Rectangle]:
    """The wall on one side of a room, around its openings, cut so that no corner lies on another one's edge."""
    gaps = [
        _gap(each)
        for each in house.openings_of[room.id]
        if "xz".index(each.along) == axis and _side(room, each) == side
    ]
    bottom, top = room.storey * STOREY_M - OVERLAP_M, _ceiling(room) + OVERLAP_M
    gaps = [(low, high, bottom if y <= bottom + 2 * OVERLAP_M else y, y2) for low, high, y, y2 in gaps]
    across = {room.low[axis] - OVERLAP_M, room.high[axis] + OVERLAP_M, *(at for gap in gaps for at in gap[:2])}
    up = {bottom, top, *(y for gap in gaps for y in gap[2:])}
    columns, rows = sorted(across), sorted(up)
    return [
        (low, high, y, y2)
        for low, high in itertools.pairwise(columns)
        for y, y2 in itertools.pairwise(rows)
        if not any(gap[0] <= low and high <= gap[1] and gap[2] <= y and y2 <= gap[3] for gap in gaps)
    ]


def _gap(opening: Opening) -> Rectangle:
    """The hole that an opening is in its wall."""
    middle, floor = opening.centre["xz".index(opening.along)], opening.storey * STOREY_M
    height = DOOR_HEIGHT_M if opening.kind == "door" else PASSAGE_HEIGHT_M
    return middle - opening.width_m / 2, middle + opening.width_m / 2, floor, floor + height


def _side(room: Room, opening: Opening) -> int:
    """On which of its two walls that run so a room has an opening: 0 the one at its low corner, 1 at its high one."""
    axis = 1 - "xz".index(opening.along)
    at = opening.centre[axis]
    return int(abs(room.high[axis] - at) < abs(room.low[axis] - at))


def _frame(house: House, opening: Opening) -> Iterator[Placed]:
    """Trim around an opening, in each room in what stands out from its wall, and the threshold."""
    axis = "xz".index(opening.along)
    low, high, floor, top = _gap(opening)
    half, height, trim = (high - low) / 2, top - floor, FRAME_M[opening.kind]
    for number in opening.rooms:
        room = house.rooms[number]
        side = _side(room, opening)
        deep = abs((room.low, room.high)[side][1 - axis] - opening.centre[1 - axis]) + PROUD_M
        # In a frame whose z axis points into the room: at its low side the room lies towards higher numbers.
        forwards = 1.0 if (side == 0) == (axis == 0) else -1.0
        along = (forwards, 0.0) if axis == 0 else (0.0, forwards)
        placed = partial(Placed, at=(opening.centre[0], floor, opening.centre[1]), along=along)
        paint = Paint(DARK_TRIM if sum(room.wall.colour) > LIGHT_WALL else LIGHT_TRIM)
        left = box((-half - trim, -OVERLAP_M, 0), (-half, height, deep), paint, without="-y+y-z")
        right = box((half, -OVERLAP_M, 0), (half + trim, height, deep), paint, without="-y+y-z")
        lintel = box((-half - trim, height, 0), (half + trim, height + trim, deep), paint, without="-z")
        yield placed([left, right, lintel], BUILT.index("door frame"))
        yield placed([lying((-half, half), SILL_M, (0.0, deep), SILL)], BUILT.index("floor"))


def _stairs(room: Room, flight: Flight) -> Iterator[Placed]:
    """Steps, the landing at their head, and railings wherever one could fall.

    In the flight's own frame: x from foot to head, y up from the lower floor, z to the right of who climbs.
    """
    length = math.dist(flight.foot, flight.head)
    ahead = ((flight.head[0] - flight.foot[0]) / length, (flight.head[1] - flight.foot[1]) / length)
    corners = [
        (x * ahead[0] + z * ahead[1], z * ahead[0] - x * ahead[1])
        for x, z in ((corner[0] - flight.foot[0], corner[1] - flight.foot[1]) for corner in (room.low, room.high))
    ]
    end = max(corner[0] for corner in corners)
    left, right = sorted(corner[1] for corner in corners)
    placed = partial(Placed, at=(flight.foot[0], room.storey * STOREY_M, flight.foot[1]), along=ahead)
    run, rise, half = length / flight.steps, STOREY_M / flight.steps, flight.width_m / 2
    open_left, open_right = -half - left > OPEN_M, right - half > OPEN_M
    low, high = -half if open_left else left - OVERLAP_M, half if open_right else right + OVERLAP_M

    tread, riser = Paint(room.floor.colour, pattern=room.floor.pattern), RISER
    edge = Paint(room.floor.colour, tone=0.6)  # of a step, or from above one would see a slope
    steps = []
    for step in range(flight.steps):
        x, y = step * run, step * rise
        steps.append(lying((x, x + NOSE_M), y + rise, (low, high), edge))
        steps.append(lying((x + NOSE_M, x + run), y + rise, (low, high), tread))
        # Each reaches a little down behind the one below it.
        joined = ("" if open_left else "-z") + ("" if open_right else "+z")
        steps.append(box((x, y - OVERLAP_M, low), (length, y + rise, high), riser, without="+x-y+y" + joined))
    back = box((0, -OVERLAP_M, low), (length, STOREY_M, high), riser, without="-x-y+y-z+z")
    yield placed([*steps, back], BUILT.index("stairs"))

    under = WALL_M / 2
    near, far = (length, STOREY_M - SLAB_M, left - under), (end + under, STOREY_M, right + under)
    yield placed([box(near, far, tread, without="-x+x-y-z+z")], BUILT.index("floor"))
    yield placed([box(near, far, CEILING, without="+x+y-z+z")], BUILT.index("ceiling"))

    rails: list[Part] = []
    for is_open, wall, side in ((open_left, left, -half), (open_right, right, half)):
        if is_open:
            inwards = math.copysign(RAIL_M / 2, -side)
            rails += _railing((0.0, rise, side + inwards), (length, STOREY_M, side + inwards))
            rails += _railing((length + RAIL_M / 2, STOREY_M, side), (length + RAIL_M / 2, STOREY_M, wall))
    if rails:
        yield placed(rails, BUILT.index("railing"))


def _railing(start: Point, end: Point) -> Iterator[Part]:
    """Posts from the ground up and a rail on them."""
    (x, y, z), (x2, y2, z2) = start, end
    count = max(round(math.hypot(x2 - x, z2 - z) / POSTS_M), 1)
    for post in range(count + 1):
        share = post / count
        at, base, deep = x + (x2 - x) * share, y + (y2 - y) * share, z + (z2 - z) * share
        low, high = (
            (at - POST_M / 2, base - 0.15, deep - POST_M / 2),
            (at + POST_M / 2, base + RAILING_M, deep + POST_M / 2),
        )
        yield box(low, high, POST, without="-y+y")
    yield bar((x, y + RAILING_M, z), (x2, y2 + RAILING_M, z2), RAIL_M, RAIL)
    yield bar((x, y + RAILING_M / 2, z), (x2, y2 + RAILING_M / 2, z2), POST_M, POST, ends=False)


def placed_scene(
    name: str, placed: Sequence[Placed], objects: tuple[SceneObject, ...] = (), rooms: tuple[SceneRoom, ...] = ()
) -> SceneData:
    """All parts in their places, with shade, texture coordinates and labels, as triangles."""
    rows: list[tuple[float, ...]] = []  # of each part: number of quads, colour, pattern, double-sided, labels, place
    local = []
    for each in placed:
        for part in each.parts:
            paint = part.paint
            red, green, blue = paint.colour or each.colour
            pattern = PATTERNS.index(paint.pattern) if paint.pattern != "plain" else -1
            tinted = (red * paint.tone, green * paint.tone, blue * paint.tone)
            labels = (pattern, part.double_sided, each.instance, each.category)
            rows.append((len(part.quads), *tinted, *labels, *each.at, *each.along))
            local.append(part.quads)
    quads = np.concatenate(local)
    table = np.array(rows)
    of_quad = np.repeat(table[:, 1:], table[:, 0].astype(np.int64), axis=0)
    base, patterns = of_quad[:, :3], of_quad[:, 3].astype(np.int32)
    at, along = of_quad[:, None, 7:10], of_quad[:, None, 10:12]
    corners = at + np.stack(
        [
            quads[..., 0] * along[..., 0] - quads[..., 2] * along[..., 1],
            quads[..., 1],
            quads[..., 0] * along[..., 1] + quads[..., 2] * along[..., 0],
        ],
        axis=-1,
    )
    uv = _texture_coordinates(quads, patterns)
    normals = _normals(corners)
    colour = np.ones((len(quads), 4), dtype=np.float32)
    # As a file stores it: then equal colours stay equal, and there are few of them.
    colour[:, :3] = np.round((base * _shade(normals)[:, None]).clip(0, 255)) / np.float32(255)
    colour[of_quad[:, 6] == BUILT.index("ceiling"), :3] = np.array(CEILING.colour, np.float32) / 255

    triangles = np.arange(4 * len(quads), dtype=np.int32).reshape(-1, 4)[:, [[0, 1, 2], [0, 2, 3]]]
    sides = corners[:, [[1, 2], [2, 3]]] - corners[:, None, :1]
    areas = np.linalg.norm(np.cross(sides[:, :, 0], sides[:, :, 1]), axis=-1)  # (quads, 2)
    kept = areas > LEAST_M2
    quad = np.nonzero(kept)[0]
    return SceneData(
        name=name,
        vertices=corners.reshape(-1, 3).astype(np.float32),
        faces=triangles[kept],
        uv=uv[:, [[0, 1, 2], [0, 2, 3]]][kept],
        texture=patterns[quad],
        colour=colour[quad],
        vertex_colour=np.full((4 * len(quads), 4), 255, dtype=np.uint8),
        double_sided=of_quad[quad, 4] > 0,
        instance=of_quad[quad, 5].astype(np.int32),
        semantic=of_quad[quad, 6].astype(np.int32),
        textures=textures(),
        categories=CATEGORIES,
        objects=objects,
        rooms=rooms,
    )


def _normals(corners: np.ndarray) -> np.ndarray:
    """(quads, 4, 3) -> (quads, 3) unit normals"""
    normals: np.ndarray = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals


def _shade(normals: np.ndarray) -> np.ndarray:
    """(quads, 3) -> (quads,) factor of the light that falls on each"""
    x, y, z = (normals**2).T
    shade: np.ndarray = SHADE["x"] * x + SHADE["z"] * z + np.where(normals[:, 1] > 0, SHADE["up"], SHADE["down"]) * y
    return shade


def _texture_coordinates(quads: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """(quads, 4, 3) -> (quads, 4, 2) float32: patterns fall on surfaces along the axis that these look along most"""
    looks = np.abs(_normals(quads)).argmax(axis=1)
    chosen = np.array([[2, 1], [0, 2], [0, 1]])[looks]
    metres = np.take_along_axis(quads, chosen[:, None, :].repeat(4, axis=1), axis=2)
    repeat_m = np.array([*REPEAT_M, 1.0])[pattern]  # -1, no pattern, takes the last one
    uv: np.ndarray = (metres / repeat_m[:, None, None]).astype(np.float32)
    uv[pattern < 0] = 0
    return uv
