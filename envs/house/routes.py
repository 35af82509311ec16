"""Walks through a house as people would tell them: rooms, the openings between, what one passes, and where to stop."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlkit.envs.house.catalogue import KINDS
from vlkit.envs.house.house import STOREY_M, Furniture, House, Opening, Plan, Point, Room

Side = Literal["left", "right", "ahead", "behind"]
Relation = Literal["front", "middle", "inside"]

REACH_M = 0.5  # from a thing's front to who stands before it
INSIDE_M = 0.8  # from an opening to who stands just inside
ENTRY_M = 0.3  # behind an opening one looks around
AHEAD_DEG, BEHIND_DEG = 32.0, 140.0  # up to which, and from which on, something is called that
CLEAR_DEG = 8.0  # an opening so near one of these bounds is of either side
PASSED_M = 1.6  # from the path to what one passes
SAMPLE_M = 0.05
BESIDE_M = 1.5  # from an opening to what stands beside it


@dataclass(frozen=True)
class Goal:
    """A place to end at that can be told in a few words."""

    position: Point
    room: int
    landmark: int | None  # id of the furniture in front of which it is
    relation: Relation
    opening: int | None = None  # of "inside": the opening through which one must have come


@dataclass(frozen=True)
class Stand:
    """Where one stands and how one faces when the next thing must be found."""

    place: Plan
    heading: float  # radians to the left of -z
    storey: int

    def angle_to(self, place: Plan) -> float:
        """Degrees to the left, from -180 to 180"""
        bearing = math.atan2(-(place[0] - self.place[0]), -(place[1] - self.place[1]))
        return math.degrees((bearing - self.heading + math.pi) % (2 * math.pi) - math.pi)

    def along(self, place: Plan) -> float:
        """Metres ahead"""
        return -math.sin(self.heading) * (place[0] - self.place[0]) - math.cos(self.heading) * (
            place[1] - self.place[1]
        )


@dataclass(frozen=True)
class Leg:
    """The way through one room to the opening by which it is left."""

    room: int
    stand: Stand  # at the start, or just inside the opening by which one came
    came: int | None  # that opening
    opening: int
    beyond: int  # the room behind it
    passed: tuple[tuple[int, Side], ...]  # furniture that one passes, on which side
    climb: int  # 1 where this leads up the stairs, -1 down


@dataclass(frozen=True)
class Route:
    """A walk and how it may be told."""

    start: Point
    yaw: float
    goal: Goal
    rooms: tuple[int, ...]
    openings: tuple[int, ...]
    legs: tuple[Leg, ...]
    last: Stand  # in the goal's room, where it was entered


def side_of(angle: float) -> Side:
    """How a direction is called, from degrees to the left."""
    if abs(angle) <= AHEAD_DEG:
        return "ahead"
    if abs(angle) >= BEHIND_DEG:
        return "behind"
    return "left" if angle > 0 else "right"


def sides_of(angle: float) -> frozenset[Side]:
    """All that it may be called: two near a bound between two."""
    return frozenset(side_of(max(min(angle + off, 180.0), -180.0)) for off in (-CLEAR_DEG, 0.0, CLEAR_DEG))


def goals(house: House) -> list[Goal]:
    """Places to end at: before things that cannot be mistaken, in the middle of rooms, just inside openings."""
    found: list[Goal] = []
    for room in house.rooms:
        if room.kind == "stairs":
            continue
        floor = room.storey * STOREY_M
        things = house.furniture_of[room.id]
        for thing in things:
            kind = KINDS[thing.kind]
            if not kind.landmark or kind.rule not in ("wall", "corner") or not told_apart(thing, things):
                continue
            front = before(thing)
            if room.contains(front, slack_m=-0.25):
                found.append(Goal((front[0], floor, front[1]), room.id, thing.id, "front"))
        x, z = room.centre
        if min(room.size) > 2.4:
            found.append(Goal((x, floor, z), room.id, None, "middle"))
        for opening in house.openings_of[room.id]:
            if opening.storey == room.storey and "stairs" not in [house.rooms[each].kind for each in opening.rooms]:
                inside = entered(opening, room, INSIDE_M)
                found.append(Goal((inside[0], floor, inside[1]), room.id, None, "inside", opening.id))
    return found


def told_apart(thing: Furniture, things: Sequence[Furniture]) -> bool:
    """Whether kind and colour are enough to know it among these."""
    return sum(other.kind == thing.kind and other.colour == thing.colour for other in things) == 1


def before(thing: Furniture) -> Plan:
    """Where one stands in front of a thing."""
    off = thing.size[2] / 2 + REACH_M
    return thing.centre[0] + thing.front[0] * off, thing.centre[2] + thing.front[1] * off


def entered(opening: Opening, room: Room, metres: float) -> Plan:
    """So far into the room from the middle of an opening."""
    x, z = opening.centre
    if opening.along == "x":
        return x, z + (metres if room.centre[1] > z else -metres)
    return x + (metres if room.centre[0] > x else -metres), z


def inward(opening: Opening, room: Room) -> float:
    """The heading of who enters the room by an opening, radians."""
    x, z = opening.centre
    if opening.along == "x":
        return math.pi if room.centre[1] > z else 0.0
    return -math.pi / 2 if room.centre[0] > x else math.pi / 2


def entry(opening: Opening, room: Room) -> Stand:
    """Where one looks around after entering the room."""
    return Stand(entered(opening, room, ENTRY_M), inward(opening, room), opening.storey)


def exits(house: House, room: Room, came: int | None, storey: int | None = None) -> list[Opening]:
    """The openings of a room but the one by which one came; of a staircase those of all storeys."""
    return [
        each for each in house.openings_of[room.id] if each.id != came and (storey is None or each.storey == storey)
    ]


def route_of(house: House, path: np.ndarray, yaw: float, goal: Goal) -> Route | None:
    """A walkable path (points, 3) as a route; None where it crosses a wall's end in a way that cannot be told."""
    points = sampled(path)
    sequence: list[tuple[int, int]] = []  # room, and the first sample in it
    for i, point in enumerate(points):
        room = house.room_at((float(point[0]), float(point[1]), float(point[2])))
        if room is not None and (not sequence or sequence[-1][0] != room.id):
            sequence.append((room.id, i))
    if not sequence or sequence[-1][0] != goal.room:
        return None
    openings: list[int] = []
    for (a, _), (b, i) in itertools.pairwise(sequence):
        x, y, z = points[i]
        between = [each for each in house.openings if {a, b} == set(each.rooms)]
        near = [each for each in between if math.dist(each.centre, (x, z)) < each.width_m / 2 + 0.3]
        near = [each for each in near if abs(y - each.storey * STOREY_M) < 1.0]
        if len(near) != 1:
            return None
        openings.append(near[0].id)
    rooms = [room for room, _ in sequence]
    if len(set(rooms)) < len(rooms) or (goal.opening is not None and (not openings or openings[-1] != goal.opening)):
        return None
    start: Point = (float(path[0][0]), float(path[0][1]), float(path[0][2]))
    stand = Stand((start[0], start[2]), yaw, house.rooms[rooms[0]].storey)
    legs: list[Leg] = []
    came: int | None = None
    bounds = [i for _, i in sequence] + [len(points)]
    for number, opening in enumerate(openings):
        room, beyond = house.rooms[rooms[number]], house.rooms[rooms[number + 1]]
        climb = 0
        if beyond.kind == "stairs" and number + 2 < len(rooms):
            climb = 1 if house.openings[openings[number + 1]].storey > house.openings[opening].storey else -1
        legs.append(
            Leg(
                room=room.id,
                stand=stand,
                came=came,
                opening=opening,
                beyond=beyond.id,
                passed=_passed(house, room, points[bounds[number] : bounds[number + 1]]),
                climb=climb,
            )
        )
        stand, came = entry(house.openings[opening], beyond), opening
    return Route(start, yaw, goal, tuple(rooms), tuple(openings), tuple(legs), stand)


def sampled(path: np.ndarray) -> np.ndarray:
    """(points, 3) -> the same path with a point every few centimetres"""
    parts = [path[:1]]
    for a, b in itertools.pairwise(path):
        count = max(int(np.linalg.norm(b - a) / SAMPLE_M), 1)
        parts.append(a + (b - a) * (np.arange(1, count + 1) / count)[:, None])
    return np.concatenate(parts)


def _passed(house: House, room: Room, points: np.ndarray) -> tuple[tuple[int, Side], ...]:
    """Things that stand beside the path, in the order in which one comes to them, where one does not stop at them."""
    if len(points) < 1.0 / SAMPLE_M:
        return ()
    found = []
    for thing in house.furniture_of[room.id]:
        if not KINDS[thing.kind].landmark or KINDS[thing.kind].rule in ("floor", "ceiling", "mounted"):
            continue
        if not told_apart(thing, house.furniture_of[room.id]):
            continue
        off = np.array([thing.centre[0], thing.centre[2]]) - points[:, [0, 2]]
        metres = np.hypot(off[:, 0], off[:, 1])
        i = int(metres.argmin())
        if metres[i] > PASSED_M or i < 6 or i > len(points) - 6:
            continue
        ahead = points[i + 4][[0, 2]] - points[i - 4][[0, 2]]
        cross = ahead[0] * off[i, 1] - ahead[1] * off[i, 0]
        if abs(cross) > 0.6 * np.hypot(*ahead) * metres[i]:
            # x to the right and z backwards: what turns from ahead towards +z of +x lies on the right.
            found.append((i, thing.id, "right" if cross > 0 else "left"))
    return tuple((number, "right" if side == "right" else "left") for _, number, side in sorted(found))
