"""Floor plans of generated buildings, and the viewpoints in them.

A storey is a grid of cells of about 2.2 m, each of which belongs to a room, to a hallway or to nothing. A hallway
crosses the storey, side hallways leave it, and what remains is split into rooms. Walls stand between cells of
different rooms, with gaps for doors. A viewpoint stands in each cell, as a camera on a tripod would; two are joined
where a person can walk straight from one to the other.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from random import Random
from typing import Literal, TypeVar

import numpy as np

Cell = tuple[int, int]  # column, row
Point = tuple[float, float]  # metres, in the plan
Place = TypeVar("Place", Cell, int)
Doors = dict[tuple[int, frozenset[Cell]], float]  # storey and the two cells -> metres of the gap in their wall

CELL_M = (1.9, 2.5)  # a column's or a row's width; R2R's joined viewpoints are 2.2 m apart on average
REACH_M = 3.4  # longest edge: a diagonal within a room, never two cells ahead
DOOR_M = 0.9
STAIRCASE_M = 1.2
BODY_M = 0.4  # who walks along an edge is this wide
CAMERA_M = 1.5
VIEWPOINTS = (30, 90)  # included ones in a building

ROOM_NAMES = {  # by the number of cells that the room has at most
    1: ("bathroom", "closet", "pantry", "laundry room", "cloakroom", "storage room"),
    2: ("study", "nursery", "bathroom", "office", "dressing room", "breakfast room"),
    4: ("bedroom", "kitchen", "guest room", "workshop", "gym", "sewing room", "playroom", "sunroom"),
    99: ("living room", "dining room", "library", "master bedroom", "music room", "family room", "game room"),
}


@dataclass(frozen=True)
class Room:
    """Cells between walls; hallways and the staircase count as rooms."""

    name: str
    kind: Literal["room", "hallway", "stairs"]
    storeys: tuple[int, ...]  # one, or both for the staircase
    cells: frozenset[Cell]


@dataclass(frozen=True)
class Viewpoint:
    """A place to stand, in the plan and in the world, where the building is turned and moved."""

    id: str  # 32 hexadecimal digits
    room: int
    plan: Point
    position: tuple[float, float, float]  # metres, z up
    heading: float  # radians, where the camera looked
    height: float  # metres from the floor to the camera
    included: bool


@dataclass(frozen=True, eq=False)
class Building:
    """A floor plan, its viewpoints and which of them are joined."""

    name: str
    xs: tuple[float, ...]  # metres of the lines between columns, both outer walls included
    ys: tuple[float, ...]  # the same between rows
    rooms: tuple[Room, ...]
    doors: Doors
    viewpoints: tuple[Viewpoint, ...]

    @cached_property
    def room_at(self) -> dict[tuple[int, Cell], int]:
        """(storey, cell) -> number of the room"""
        return {
            (storey, cell): i for i, room in enumerate(self.rooms) for storey in room.storeys for cell in room.cells
        }

    @cached_property
    def visible(self) -> np.ndarray:
        """(viewpoints, viewpoints) bool: no wall between the two"""
        return self._pairs(lambda a, b: self._sees(a, b, width=0.0))

    @cached_property
    def unobstructed(self) -> np.ndarray:
        """(viewpoints, viewpoints) bool: near each other, with room for a person all the way"""
        return self._pairs(lambda a, b: math.dist(a.position, b.position) <= REACH_M and self._sees(a, b, width=BODY_M))

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """The included viewpoints that each one is joined to."""
        included = np.array([viewpoint.included for viewpoint in self.viewpoints])
        return tuple(tuple(np.flatnonzero(row & included).tolist()) for row in self.unobstructed)

    @property
    def connected(self) -> bool:
        """Whether one can walk from each included viewpoint to each other."""
        included = [i for i, viewpoint in enumerate(self.viewpoints) if viewpoint.included]
        return len(_reached(included[0], lambda i: self.neighbours[i])) == len(included)

    def room(self, viewpoint: int) -> Room:
        """The room that this viewpoint stands in."""
        return self.rooms[self.viewpoints[viewpoint].room]

    def _pairs(self, joined: Callable[[Viewpoint, Viewpoint], bool]) -> np.ndarray:
        matrix = np.zeros((len(self.viewpoints), len(self.viewpoints)), dtype=bool)
        for i, j in combinations(range(len(self.viewpoints)), 2):
            matrix[i, j] = matrix[j, i] = joined(self.viewpoints[i], self.viewpoints[j])
        return matrix

    def _sees(self, a: Viewpoint, b: Viewpoint, *, width: float) -> bool:
        storeys = set(self.rooms[a.room].storeys) & set(self.rooms[b.room].storeys)
        lines = _parallels(a.plan, b.plan, width)
        return any(all(self._free(storey, start, end) for start, end in lines) for storey in storeys)

    def _free(self, storey: int, start: Point, end: Point) -> bool:
        """Whether the line from start to end meets no wall of the storey; the gaps of doors are none."""
        cell = (bisect_right(self.xs, start[0]) - 1, bisect_right(self.ys, start[1]) - 1)
        for step, where in _crossings(self.xs, self.ys, start, end):
            following = (cell[0] + step[0], cell[1] + step[1])
            here, there = self.room_at.get((storey, cell)), self.room_at.get((storey, following))
            if here is None or there is None:
                return False
            if here != there:
                gap = self.doors.get((storey, frozenset((cell, following))), 0.0)
                lines, at = (self.ys, cell[1]) if step[0] else (self.xs, cell[0])
                if abs(where - (lines[at] + lines[at + 1]) / 2) > gap / 2:
                    return False
            cell = following
        return True


def random_building(name: str, rng: Random) -> Building:
    """A building of one or two storeys, in which one can walk from each viewpoint to each other."""
    while True:
        building = _attempt(name, rng)
        count = sum(viewpoint.included for viewpoint in building.viewpoints)
        if VIEWPOINTS[0] <= count <= VIEWPOINTS[1] and building.connected:
            return building


def _attempt(name: str, rng: Random) -> Building:
    rooms: list[Room] = []
    doors: Doors = {}
    if rng.random() < 0.5:
        columns, rows = rng.randint(7, 10), rng.randint(5, 8)
        storeys = [(rng.randint(1, rows - 2), frozenset[Cell]())]
    else:
        # The stairs lead from the hallway of the ground floor across one row to that of the upper floor.
        columns, rows = rng.randint(6, 8), rng.randint(5, 6)
        low, high = rng.choice([(a, b) for a in range(1, rows - 1) for b in (a - 2, a + 2) if 1 <= b <= rows - 2])
        column = rng.randint(1, columns - 2)
        bottom, middle, top = (column, low), (column, (low + high) // 2), (column, high)
        rooms.append(Room("stairs", "stairs", storeys=(0, 1), cells=frozenset([middle])))
        doors[0, frozenset((bottom, middle))] = doors[1, frozenset((middle, top))] = STAIRCASE_M
        storeys = [(low, frozenset((middle, top))), (high, frozenset((middle,)))]
    for storey, (row, stairwell) in enumerate(storeys):
        hallway, pieces = _partition(columns, rows, row, stairwell, rng)
        made = [Room("hallway", "hallway", storeys=(storey,), cells=frozenset(hallway))]
        for cells in pieces:
            taken = {room.name for room in rooms + made}
            made.append(Room(_room_name(len(cells), taken, rng), "room", storeys=(storey,), cells=frozenset(cells)))
        rooms += made
        doors |= _doors(storey, made, rng)
    xs, ys = _lines(columns, rng), _lines(rows, rng)
    return Building(name, xs, ys, tuple(rooms), doors, _viewpoints(rooms, doors, xs, ys, rng))


def _partition(
    columns: int, rows: int, row: int, stairwell: frozenset[Cell], rng: Random
) -> tuple[set[Cell], list[set[Cell]]]:
    """One storey's hallway cells, and the cells of each of its rooms."""
    hallway = {(column, row) for column in range(columns)}
    pieces: list[set[Cell]] = []
    for low, high in ((0, row), (row + 1, rows)):
        # A side hallway in the stairs' column would be cut off by them.
        middle = [x for x in range(2, columns - 2) if all(x != cell[0] for cell in stairwell)]
        if high - low >= 2 and middle and rng.random() < 0.6:
            side = rng.choice(middle)
            hallway |= {(side, y) for y in range(low, high)}
            pieces += _split((0, side), (low, high), rng) + _split((side + 1, columns), (low, high), rng)
        else:
            pieces += _split((0, columns), (low, high), rng)
    for end in (0, columns - 1):  # a hallway may lead straight into a room
        beside = [piece for piece in pieces if (end, row + 1) in piece or (end, row - 1) in piece]
        if rng.random() < 0.4:
            hallway.discard((end, row))
            rng.choice(beside).add((end, row))
    parts: list[set[Cell]] = []
    for piece in pieces:
        left = piece - stairwell
        while left:
            part = _first_part(left)
            parts.append(part)
            left = left - part
    return hallway, parts


def _split(xs: tuple[int, int], ys: tuple[int, int], rng: Random) -> list[set[Cell]]:
    """A rectangle of cells cut into rooms of at most six."""
    width, height = xs[1] - xs[0], ys[1] - ys[0]
    if max(width, height) <= 3 and (width * height <= 3 or (width * height <= 6 and rng.random() < 0.6)):
        return [{(x, y) for x in range(*xs) for y in range(*ys)}]
    length = max(width, height)
    cut = rng.randint(2, length - 2) if length > 3 else rng.randint(1, length - 1)
    if width >= height:
        return _split((xs[0], xs[0] + cut), ys, rng) + _split((xs[0] + cut, xs[1]), ys, rng)
    return _split(xs, (ys[0], ys[0] + cut), rng) + _split(xs, (ys[0] + cut, ys[1]), rng)


def _room_name(size: int, taken: Collection[str], rng: Random) -> str:
    names = next(names for most, names in ROOM_NAMES.items() if size <= most)
    return rng.choice([name for name in names if name not in taken] or names)


def _doors(storey: int, rooms: list[Room], rng: Random) -> Doors:
    """Doors that connect a storey's rooms, the first of which is the hallway; a few more than are needed."""
    at = {cell: i for i, room in enumerate(rooms) for cell in room.cells}
    walls: dict[tuple[int, int], list[frozenset[Cell]]] = {}
    for cell in sorted(at):
        for near in _beside(cell):
            if near in at and at[cell] < at[near]:
                walls.setdefault((at[cell], at[near]), []).append(frozenset((cell, near)))
    chosen: list[frozenset[Cell]] = []
    reached = {0}
    for i, room in enumerate(rooms):
        if (0, i) in walls:
            twice = len(room.cells) > 4 and len(walls[0, i]) > 2 and rng.random() < 0.4
            chosen += rng.sample(walls[0, i], 2 if twice else 1)
            reached.add(i)
    while ways := [pair for pair in sorted(walls) if (pair[0] in reached) != (pair[1] in reached)]:
        pair = rng.choice(ways)
        chosen.append(rng.choice(walls[pair]))
        reached |= set(pair)
    for pair in sorted(walls):
        if pair[0] != 0 and not set(walls[pair]) & set(chosen) and rng.random() < 0.15:
            chosen.append(rng.choice(walls[pair]))
    return {(storey, wall): DOOR_M for wall in chosen}


def _lines(cells: int, rng: Random) -> tuple[float, ...]:
    lines = [0.0]
    for _ in range(cells):
        lines.append(round(lines[-1] + rng.uniform(*CELL_M), 3))
    return tuple(lines)


def _viewpoints(
    rooms: list[Room], doors: Doors, xs: tuple[float, ...], ys: tuple[float, ...], rng: Random
) -> tuple[Viewpoint, ...]:
    """A viewpoint in each cell that no furniture fills, and a few excluded ones, as in real files."""
    storey_height = rng.uniform(2.8, 3.2)
    turned = rng.uniform(0.0, 2 * math.pi)
    sine, cosine = math.sin(turned), math.cos(turned)
    centre = (xs[-1] / 2 + rng.uniform(-5, 5), ys[-1] / 2 + rng.uniform(-5, 5))

    def viewpoint(room: int, plan: Point, *, included: bool) -> Viewpoint:
        x, y = plan[0] - centre[0], plan[1] - centre[1]
        height = CAMERA_M + rng.uniform(-0.05, 0.05)
        floor = storey_height * sum(rooms[room].storeys) / len(rooms[room].storeys)
        position = (cosine * x - sine * y, sine * x + cosine * y, floor + height)
        return Viewpoint(
            id=f"{rng.getrandbits(128):032x}",
            room=room,
            plan=plan,
            position=(round(position[0], 5), round(position[1], 5), round(position[2], 5)),
            heading=rng.uniform(0.0, 2 * math.pi),
            height=round(height, 5),
            included=included,
        )

    stands = [(i, cell) for i, room in enumerate(rooms) for cell in _standable(room, doors, rng)]
    made = []
    for i, (x, y) in stands:
        plan = (xs[x] + xs[x + 1]) / 2 + rng.uniform(-0.15, 0.15), (ys[y] + ys[y + 1]) / 2 + rng.uniform(-0.15, 0.15)
        made.append(viewpoint(i, plan, included=True))
    for i, (x, y) in rng.sample(stands, rng.randint(1, 4)):
        plan = rng.uniform(xs[x] + 0.4, xs[x + 1] - 0.4), rng.uniform(ys[y] + 0.4, ys[y + 1] - 0.4)
        made.append(viewpoint(i, plan, included=False))
    rng.shuffle(made)
    return tuple(made)


def _standable(room: Room, doors: Doors, rng: Random) -> list[Cell]:
    """The room's cells without those that a piece of furniture fills; it never parts a room, nor stands by a door."""
    by_a_door = {cell for storey, wall in doors if storey in room.storeys for cell in wall}
    free = set(room.cells)
    if room.kind == "room" and len(room.cells) >= 4:
        for cell in sorted(room.cells - by_a_door):
            left = free - {cell}
            if rng.random() < 0.25 and _first_part(left) == left:
                free = left
    return sorted(free)


def _crossings(xs: tuple[float, ...], ys: tuple[float, ...], start: Point, end: Point) -> list[tuple[Cell, float]]:
    """The lines between cells that one crosses from start to end: the step to the next cell, and where along the line."""
    found: list[tuple[float, Cell, float]] = []
    for axis, lines in enumerate((xs, ys)):
        way, across = end[axis] - start[axis], end[1 - axis] - start[1 - axis]
        for line in lines:
            if min(start[axis], end[axis]) < line < max(start[axis], end[axis]):
                share = (line - start[axis]) / way
                forward = 1 if way > 0 else -1
                found.append((share, (0, forward) if axis else (forward, 0), start[1 - axis] + share * across))
    return [(step, where) for _, step, where in sorted(found)]


def _parallels(start: Point, end: Point, width: float) -> list[tuple[Point, Point]]:
    """The line from start to end, and where there is a width, its two edges."""
    lines = [(start, end)]
    if width:
        length = math.dist(start, end) or 1.0
        x, y = (end[1] - start[1]) / length * width / 2, (start[0] - end[0]) / length * width / 2
        lines += [((start[0] + k * x, start[1] + k * y), (end[0] + k * x, end[1] + k * y)) for k in (-1, 1)]
    return lines


def _beside(cell: Cell) -> list[Cell]:
    return [(cell[0] + x, cell[1] + y) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]


def _first_part(cells: set[Cell]) -> set[Cell]:
    """The cells that one reaches from the first of them, side by side."""
    return _reached(min(cells), lambda cell: [near for near in _beside(cell) if near in cells])


def _reached(start: Place, onwards: Callable[[Place], Iterable[Place]]) -> set[Place]:
    reached, waiting = {start}, [start]
    while waiting:
        new = {place for place in onwards(waiting.pop()) if place not in reached}
        reached |= new
        waiting += new
    return reached
