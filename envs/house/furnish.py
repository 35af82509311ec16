"""Furniture in rooms: what a room of its kind holds, put where people put it, and never in the way.

Each thing is placed by the rule of its kind (catalogue.py). Nothing stands before an opening, and from every opening of a
room all others, and most of its floor, can be walked to; what would forbid it is taken out again.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlkit.envs.house.catalogue import HELD_OUT, KINDS, Kind
from vlkit.envs.house.house import CEILING_M, STOREY_M, Furniture, House, Level, Opening, Plan, Room
from vlkit.envs.house.plan import random_plan
from vlkit.errors import UserError

GAP_M = 0.015  # between a thing and the wall behind it
CLEAR_M = 0.9  # before an opening, on both sides
BESIDE_M = 0.3  # beside an opening, along the wall
APART_M = 0.12  # between things
CELL_M = 0.1
BODY_M = 0.25  # who walks between the furniture is this wide, from the middle
LEAST_FREE = 0.45  # of a room's floor
LARGE = ("wall", "corner", "centre")  # rules of what fills a room
TRIES = 24  # places that are tried for one thing
NEW_COLOURS = 0.5  # of the things that may have a held-out colour in a house that shows them
AREA_A_THING = 2.3  # m2 of floor, about
ATTEMPTS = 40

Box = tuple[float, float, float, float]  # low x, low z, high x, high z


def random_house(name: str, level: Level, seed: int, *, held_out: bool = False, split: str = "") -> House:
    """A furnished house; the same arguments give the same one. `held_out` shows colours that train never has.

    split: a house of that split alone, whatever its name, so that none comes back in another split of a larger set.
    """
    rng = random.Random(" ".join(["house", str(seed), *([split] if split else []), name, level]))
    for _ in range(ATTEMPTS):
        house = replace(random_plan(name, level, rng), seed=seed)
        made = furnished(house, rng, held_out=held_out)
        if all(
            any(KINDS[each.kind].landmark for each in things) or room.kind in ("stairs", "hallway")
            for room, things in zip(made.rooms, made.furniture_of, strict=True)
        ):
            return made
    raise UserError(f"{name}: no house of level {level} came out in {ATTEMPTS} attempts; take another seed than {seed}")


def furnished(house: House, rng: random.Random, *, held_out: bool = False) -> House:
    """The house with furniture in every room but staircases."""
    placed: list[Furniture] = []
    for room in house.rooms:
        if room.kind != "stairs":
            placed += _Room(house, room, rng, held_out, placed).filled()
    return replace(house, furniture=tuple(replace(each, id=i + 1) for i, each in enumerate(_renumbered(placed))))


def _renumbered(placed: Sequence[Furniture]) -> list[Furniture]:
    """Ids from 1 in order; what stands on something follows it."""
    numbers = {each.id: i + 1 for i, each in enumerate(placed)}
    return [replace(each, on=None if each.on is None else numbers[each.on]) for each in placed]


@dataclass(frozen=True)
class Wall:
    """A side of a room: `turn` is that of a thing which has it behind its back."""

    turn: int
    start: Plan
    end: Plan


class _Room:
    """A room while it is being filled."""

    def __init__(
        self, house: House, room: Room, rng: random.Random, held_out: bool, before: Sequence[Furniture]
    ) -> None:
        self.house, self.room, self.rng, self.held_out = house, room, rng, held_out
        self.floor = room.storey * STOREY_M
        self.openings = [each for each in house.openings_of[room.id] if each.storey == room.storey]
        self.clear = [_before(each, room) for each in self.openings]
        self.next_id = 1 + max((each.id for each in before), default=0)
        self.used: dict[str, list[str]] = {}  # kind: colours that it has in this house
        for each in before:
            self.used.setdefault(each.kind, []).append(each.colour)
        self.things: list[Furniture] = []
        (x0, z0), (x1, z1) = room.low, room.high
        self.walls = (
            Wall(0, (x0, z1), (x1, z1)),
            Wall(1, (x1, z0), (x1, z1)),
            Wall(2, (x0, z0), (x1, z0)),
            Wall(3, (x0, z0), (x0, z1)),
        )

    def filled(self) -> list[Furniture]:
        width, depth = self.room.size
        wanted = max(round(width * depth / AREA_A_THING), 3)
        for kind in self.kinds():
            large = sum(KINDS[each.kind].rule in LARGE for each in self.things)
            if large >= wanted and kind.rule in LARGE:
                continue
            for _ in range(self.count(kind)):
                self.place(kind)
        return self.things

    def kinds(self) -> list[Kind]:
        """What the room may hold: what tells its kind first, then large things, what belongs to others after them."""
        name = self.room.kind
        key = [kind for kind in KINDS.values() if kind.key and kind.rooms[0] == name]
        others = [kind for kind in KINDS.values() if name in kind.rooms and kind not in key]
        # Earlier in a kind's list of rooms means likelier there.
        others = [kind for kind in others if self.rng.random() < kind.likely * (1.0 if kind.rooms[0] == name else 0.75)]
        order = {"centre": 0, "wall": 1, "corner": 1, "around": 2, "floor": 3, "mounted": 4, "ceiling": 4, "on": 5}
        self.rng.shuffle(others)
        key.sort(key=lambda kind: -kind.width_m[1] * kind.depth_m[1])
        first = [kind for kind in key if order[kind.rule] < 2]
        rest = [kind for kind in key if order[kind.rule] >= 2] + others
        return first + sorted(rest, key=lambda kind: order[kind.rule])

    def count(self, kind: Kind) -> int:
        if kind.rule == "around":
            hosts = [each.kind for each in self.things if each.kind in kind.beside]
            if not hosts:
                return 0
            return 1 if hosts[0] == "desk" else self.rng.randint(2, kind.most) if kind.most > 2 else kind.most
        extra = sum(self.rng.random() < 0.35 for _ in range(kind.most - 1))
        return 1 + extra

    def colour(self, kind: Kind) -> str:
        """One that the kind does not have in this house yet, where there is one left."""
        new = [colour for colour in kind.colours if (kind.name, colour) in HELD_OUT]
        old = [colour for colour in kind.colours if colour not in new]
        if new and self.held_out and self.rng.random() < NEW_COLOURS:
            chosen = new
        else:
            chosen = old
        if kind.rule == "around":  # chairs of a table are alike
            alike = [each.colour for each in self.things if each.kind == kind.name]
            if alike:
                return alike[0]
        fresh = [colour for colour in chosen if colour not in self.used.get(kind.name, [])]
        return self.rng.choice(fresh or chosen)

    def place(self, kind: Kind) -> None:
        """Puts one thing of the kind where it fits, if it does."""
        size = tuple(round(self.rng.uniform(*side), 3) for side in (kind.width_m, kind.height_m, kind.depth_m))
        thing = Furniture(
            id=self.next_id,
            kind=kind.name,
            colour=self.colour(kind),
            room=self.room.id,
            centre=(0.0, self.floor, 0.0),
            turn=0,
            size=(size[0], size[1], size[2]),
            variant=self.rng.randrange(3),
        )
        places = {
            "wall": self.at_wall,
            "corner": self.in_corner,
            "centre": self.in_centre,
            "around": self.around,
            "on": self.on_top,
            "mounted": self.on_wall,
            "ceiling": self.at_ceiling,
            "floor": self.on_floor,
        }[kind.rule](thing, kind)
        for number, put in enumerate(places):
            if number >= TRIES:
                return
            if kind.rule in (*LARGE, "around") and not (self.free(put) and self.walkable(put)):
                continue
            self.things.append(put)
            self.used.setdefault(kind.name, []).append(put.colour)
            self.next_id += 1
            return

    # Where things of each rule may stand

    def at_wall(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        for _ in range(TRIES):
            yield self.against(thing, self.rng.choice(self.walls), self.rng.random(), self.floor)

    def against(self, thing: Furniture, wall: Wall, share: float, base: float) -> Furniture:
        """With its back to the wall, so far along it as its width allows."""
        width, _, depth = thing.size
        low, high = sorted((wall.start[0 if wall.turn % 2 == 0 else 1], wall.end[0 if wall.turn % 2 == 0 else 1]))
        along = low + width / 2 + 0.02 + share * max(high - low - width - 0.04, 0.0)
        off = depth / 2 + GAP_M
        x, z = {
            0: (along, wall.start[1] - off),
            2: (along, wall.start[1] + off),
            1: (wall.start[0] - off, along),
            3: (wall.start[0] + off, along),
        }[wall.turn]
        return replace(thing, centre=(round(x, 3), base, round(z, 3)), turn=wall.turn)

    def in_corner(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        corners = [(wall, share) for wall in self.walls for share in (0.0, 1.0)]
        self.rng.shuffle(corners)
        for wall, share in corners:
            yield self.against(thing, wall, share, self.floor)
        yield from self.at_wall(thing, kind)

    def in_centre(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        (x0, z0), (x1, z1) = self.room.low, self.room.high
        for number in range(TRIES):
            spread = 0.04 + 0.3 * number / TRIES
            x = self.rng.gauss((x0 + x1) / 2, spread * (x1 - x0))
            z = self.rng.gauss((z0 + z1) / 2, spread * (z1 - z0))
            turn = self.rng.randrange(2) if number > 3 else int(z1 - z0 > x1 - x0)
            yield replace(thing, centre=(round(x, 3), self.floor, round(z, 3)), turn=turn)

    def around(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        """Chairs face the table, nightstands stand beside the bed's head, a chair before the desk."""
        for host in [each for each in self.things if each.kind in kind.beside]:
            x, _, z = host.centre
            front, (width, _, depth) = host.front, host.size
            aside = (-front[1], front[0])  # to the right of the front
            seats: list[tuple[float, float, int]] = []  # along the front, along the side, turn
            if kind.name == "nightstand":
                back = -(depth / 2 - thing.size[2] / 2)
                off = width / 2 + thing.size[0] / 2 + 0.05
                seats = [(back, off, host.turn), (back, -off, host.turn)]
            elif host.kind == "desk":
                seats = [(depth / 2 + thing.size[2] / 2 + 0.05, 0.0, host.turn + 2)]
            else:
                off = depth / 2 + thing.size[2] / 2 - 0.02
                spots = (-width / 4, width / 4) if width > 1.15 else (0.0,)
                seats = [(off, spot, host.turn + 2) for spot in spots] + [(-off, spot, host.turn) for spot in spots]
                end = width / 2 + thing.size[2] / 2 - 0.02
                seats += [(0.0, end, host.turn + 1), (0.0, -end, host.turn + 3)]
            self.rng.shuffle(seats)
            for ahead, beside, turn in seats:
                place = (
                    round(x + front[0] * ahead + aside[0] * beside, 3),
                    self.floor,
                    round(z + front[1] * ahead + aside[1] * beside, 3),
                )
                yield replace(thing, centre=place, turn=turn % 4)

    def on_top(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        taken = {each.on for each in self.things if each.on is not None}
        hosts = [each for each in self.things if each.kind in kind.beside and each.id not in taken]
        self.rng.shuffle(hosts)
        for host in hosts:
            if thing.size[0] > host.size[0] or thing.size[2] > host.size[2]:
                continue
            slack = (host.size[0] - thing.size[0]) * 0.35
            shift = 0.0 if kind.name in ("television", "computer") else self.rng.uniform(-slack, slack)
            along = (-host.front[1], host.front[0])
            x, y, z = host.centre
            place = (round(x + along[0] * shift, 3), y + host.size[1], round(z + along[1] * shift, 3))
            yield replace(thing, centre=place, turn=host.turn, on=host.id)

    def on_wall(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        base = self.floor + kind.base_m
        for _ in range(TRIES):
            wall = self.rng.choice(self.walls)
            put = self.against(
                replace(thing, size=(thing.size[0], thing.size[1], thing.size[2])), wall, self.rng.random(), base
            )
            shift = GAP_M - 0.004
            x, y, z = put.centre
            put = replace(put, centre=(round(x - put.front[0] * shift, 3), y, round(z - put.front[1] * shift, 3)))
            box = footprint(put)
            behind = [each for each in self.things if overlap(grown(footprint(each), 0.05), box)]
            tall = any(each.centre[1] + each.size[1] > put.centre[1] - 0.03 for each in behind)
            doors = any(overlap(grown(each, 0.0), box) for each in self.clear)
            if not tall and not doors and put.centre[1] + put.size[1] < self.floor + CEILING_M - 0.05:
                yield put

    def at_ceiling(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        tables = [each for each in self.things if each.kind in ("dining table", "coffee table")]
        x, z = (tables[0].centre[0], tables[0].centre[2]) if tables else self.room.centre
        yield replace(thing, centre=(round(x, 3), round(self.floor + CEILING_M - thing.size[1], 3), round(z, 3)))

    def on_floor(self, thing: Furniture, kind: Kind) -> Iterator[Furniture]:
        (x0, z0), (x1, z1) = self.room.low, self.room.high
        tables = [each for each in self.things if each.kind in ("coffee table", "dining table", "play table")]
        turn = int(z1 - z0 > x1 - x0)
        width, depth = replace(thing, turn=turn).extent
        if width > x1 - x0 - 0.3 or depth > z1 - z0 - 0.3:
            return
        x, z = (tables[0].centre[0], tables[0].centre[2]) if tables else self.room.centre
        x = min(max(x, x0 + width / 2 + 0.05), x1 - width / 2 - 0.05)
        z = min(max(z, z0 + depth / 2 + 0.05), z1 - depth / 2 - 0.05)
        yield replace(thing, centre=(round(x, 3), self.floor, round(z, 3)), turn=turn)

    # Whether it may stay

    def solid(self) -> list[Furniture]:
        """What stands on the floor and cannot be walked over."""
        return [each for each in self.things if KINDS[each.kind].rule in (*LARGE, "around")]

    def free(self, put: Furniture) -> bool:
        """Within the room, clear of openings and of what stands there."""
        (x0, z0), (x1, z1) = self.room.low, self.room.high
        box = footprint(put)
        if box[0] < x0 or box[1] < z0 or box[2] > x1 or box[3] > z1:
            return False
        if any(overlap(box, each) for each in self.clear):
            return False
        close = KINDS[put.kind].rule == "around"
        for each in self.solid():
            # A chair may stand a little under its table.
            hosted = close and each.kind in KINDS[put.kind].beside
            if overlap(grown(box, -0.04 if hosted else 0.0 if close else APART_M), footprint(each)):
                return False
        if KINDS[put.kind].rule == "centre":
            return all(overlap(grown(box, 0.6), footprint(each)) is False for each in self.solid())
        return True

    def walkable(self, put: Furniture) -> bool:
        """Whether with it one still comes from each opening to all others and to most of the floor."""
        (x0, z0), (x1, z1) = self.room.low, self.room.high
        columns, rows = max(int((x1 - x0) / CELL_M), 1), max(int((z1 - z0) / CELL_M), 1)
        xs = x0 + (np.arange(columns) + 0.5) * (x1 - x0) / columns
        zs = z0 + (np.arange(rows) + 0.5) * (z1 - z0) / rows
        open_ = np.ones((rows, columns), bool)
        # The body stays off the walls too, but may stand in an opening.
        open_ &= ((xs > x0 + BODY_M) & (xs < x1 - BODY_M))[None] & ((zs > z0 + BODY_M) & (zs < z1 - BODY_M))[:, None]
        for box in self.clear:
            open_ |= ((xs > box[0] + BODY_M) & (xs < box[2] - BODY_M))[None] & (
                (zs > box[1] + BODY_M) & (zs < box[3] - BODY_M)
            )[:, None]
        taken = 0.0
        for each in [*self.solid(), put]:
            low_x, low_z, high_x, high_z = grown(footprint(each), BODY_M)
            hit = ((xs > low_x) & (xs < high_x))[None] & ((zs > low_z) & (zs < high_z))[:, None]
            open_ &= ~hit
            taken += each.extent[0] * each.extent[1]
        if taken > (1 - LEAST_FREE) * (x1 - x0) * (z1 - z0):
            return False
        regions = _regions(open_)
        doors = set()
        for opening in self.openings:
            x, z = _inside(opening, self.room, 0.35)
            row = min(max(int((z - z0) / (z1 - z0) * rows), 0), rows - 1)
            column = min(max(int((x - x0) / (x1 - x0) * columns), 0), columns - 1)
            near = regions[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            doors.add(int(near.max(initial=0)))
        if len(doors) > 1 or doors == {0}:
            return False
        free = int(open_.sum())
        return not free or bool((regions == next(iter(doors), 1)).sum() >= 0.8 * free)


def footprint(thing: Furniture) -> Box:
    """What a thing covers in plan."""
    x, _, z = thing.centre
    width, depth = thing.extent
    return x - width / 2, z - depth / 2, x + width / 2, z + depth / 2


def grown(box: Box, by: float) -> Box:
    """The box with so much more on each side."""
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have any area in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _before(opening: Opening, room: Room) -> Box:
    """What must stay clear in a room before an opening."""
    x, z = opening.centre
    half = opening.width_m / 2 + BESIDE_M
    if opening.along == "x":
        inward = 1 if room.centre[1] > z else -1
        end = z + inward * CLEAR_M
        return x - half, min(z, end), x + half, max(z, end)
    inward = 1 if room.centre[0] > x else -1
    end = x + inward * CLEAR_M
    return min(x, end), z - half, max(x, end), z + half


def _inside(opening: Opening, room: Room, metres: float) -> Plan:
    """So far into the room from the middle of an opening."""
    x, z = opening.centre
    if opening.along == "x":
        return x, z + (metres if room.centre[1] > z else -metres)
    return x + (metres if room.centre[0] > x else -metres), z


def _regions(open_: np.ndarray) -> np.ndarray:
    """(rows, columns) int: number of the region that a cell hangs together with, 0 where it is taken"""
    regions = np.zeros(open_.shape, np.int32)
    number = 0
    for row, column in zip(*np.nonzero(open_), strict=True):
        if regions[row, column]:
            continue
        number += 1
        regions[row, column] = number
        queue = deque([(int(row), int(column))])
        while queue:
            i, j = queue.popleft()
            for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= a < open_.shape[0] and 0 <= b < open_.shape[1] and open_[a, b] and not regions[a, b]:
                    regions[a, b] = number
                    queue.append((a, b))
    return regions
