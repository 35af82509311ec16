"""Floor plans: rooms as rectangles that fill a footprint, and the openings between them.

The rooms of a storey are drawn as a list of kinds with areas; the footprint is cut in two again and again, each part for
some of them, in proportion to their areas. Larger houses may have a hallway through the middle; two storeys share a
staircase along one side. Where a draw does not come out well, another is made.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

from vlkit.envs.house.catalogue import ROOM_KINDS
from vlkit.envs.house.house import WALL_M, Flight, House, Level, Opening, Plan, Room
from vlkit.errors import UserError

ROOMS: dict[Level, tuple[int, int]] = {"starter": (3, 4), "standard": (6, 8), "long": (8, 12)}
TWO_STOREYS = 0.5  # of the long houses
HALLWAY = 0.7  # of storeys with five rooms and more
LOOPS = 0.25  # of the doors that the house could do without
OPEN_PLAN = 0.5  # of the walls between living room, dining room and kitchen, and of those with a hallway
NARROWEST_M = {"bathroom": 1.5, "storage room": 1.5, "laundry room": 1.5, "hallway": 1.3, "stairs": 1.2}
NARROW_M = 2.2  # of any other room
SLENDER = 2.6  # longest side over shortest, at most, but for hallways
DOOR_M, PASSAGE_M = (0.85, 1.0), (1.4, 2.1)
CORNER_M = 0.25  # between an opening and the end of its wall
STAIRS_M, LANDING_M = 1.5, 1.0
STEPS, RISE_M, RUN_M = 16, 0.175, 0.25
ATTEMPTS = 400
DEAD_ENDS = ("bathroom", "storage room", "laundry room")
SOCIAL = ("living room", "dining room", "kitchen", "hallway")
FIRST = ("living room", "kitchen", "bedroom", "bathroom")  # what every house of some size has
SMALL = ("bathroom", "laundry room", "storage room")

Box = tuple[float, float, float, float]  # low x, low z, high x, high z, to the middle of the walls


def random_plan(name: str, level: Level, rng: random.Random) -> House:
    """A house without furniture. The same generator state gives the same house."""
    for _ in range(ATTEMPTS):
        made = _drawn(name, level, rng)
        if made is not None:
            return made
    raise UserError(f"{name}: no floor plan of level {level} came out in {ATTEMPTS} attempts; take another seed")


def _drawn(name: str, level: Level, rng: random.Random) -> House | None:
    count = rng.randint(*ROOMS[level])
    two = level == "long" and rng.random() < TWO_STOREYS
    kinds = _programme(count, level, rng)
    boxes: list[tuple[str, int, Box]] = []
    flights: tuple[Flight, ...] = ()
    if not two:
        cut = _storey(kinds, 0.0, 0.0, _side(kinds, rng), rng)
        if cut is None:
            return None
        boxes = [(kind, 0, box) for kind, box in cut]
    else:
        depth = STEPS * RUN_M + 2 * LANDING_M + WALL_M + rng.uniform(0.0, 0.5)
        lower, upper = _shared(kinds, rng)
        areas = [sum(area for _, area in part) for part in (lower, upper)]
        width = max(areas) / depth
        for storey, part in enumerate((lower, upper)):
            stretched = [(kind, area * width * depth / areas[storey]) for kind, area in part]
            cut = _storey(stretched, STAIRS_M, 0.0, (width, depth), rng)
            if cut is None:
                return None
            boxes += [(kind, storey, box) for kind, box in cut]
        boxes.append(("stairs", 0, (0.0, 0.0, STAIRS_M, depth)))
    rooms = [_room(i, kind, storey, box, rng) for i, (kind, storey, box) in enumerate(boxes)]
    low, high = ROOMS[level]
    if not low <= sum(room.kind != "stairs" for room in rooms) <= high or not all(_fits(room) for room in rooms):
        return None
    if two:
        stairs = rooms[-1]
        middle = stairs.centre[0]
        flights = (
            Flight(
                room=stairs.id,
                foot=(middle, stairs.low[1] + (stairs.size[1] - STEPS * RUN_M) / 2),
                head=(middle, stairs.low[1] + (stairs.size[1] + STEPS * RUN_M) / 2),
                width_m=stairs.size[0],
                steps=STEPS,
            ),
        )
    openings = _openings(rooms, flights, rng)
    if openings is None:
        return None
    house = House(name, level, 0, tuple(rooms), tuple(openings), (), flights)
    return _turned(house, rng)


def _programme(count: int, level: Level, rng: random.Random) -> list[tuple[str, float]]:
    """Kinds of rooms with their areas, each kind at most as often as a house has it."""
    kinds: list[str] = []
    if level == "starter":
        pool = [kind for kind in ROOM_KINDS if kind not in ("stairs", "hallway")]
        small = rng.random() < 0.3
        kinds = rng.sample([kind for kind in pool if kind not in DEAD_ENDS], count - small)
        kinds += rng.sample(DEAD_ENDS, int(small))
    else:
        kinds = list(FIRST)
        pool = [kind for kind in ROOM_KINDS if kind not in ("stairs", "hallway") for _ in range(ROOM_KINDS[kind].most)]
        for kind in kinds:
            pool.remove(kind)
        rng.shuffle(pool)
        for kind in pool:
            if len(kinds) == count:
                break
            if kind not in SMALL or sum(each in SMALL for each in kinds) < 1 + count // 4:
                kinds.append(kind)
    return [(kind, _area(kind, level, rng)) for kind in kinds]


def _area(kind: str, level: Level, rng: random.Random) -> float:
    """Few rooms are large ones: in each there are several places to stop at, too far apart to be taken for each other."""
    low, high = ROOM_KINDS[kind].area_m2
    share = (0.6, 1.0) if level == "starter" else (0.0, 0.6)
    return low + rng.uniform(*share) * (high - low)


def _side(kinds: Sequence[tuple[str, float]], rng: random.Random) -> Plan:
    area = sum(each for _, each in kinds)
    ratio = rng.uniform(1.0, 1.6)
    return (area * ratio) ** 0.5, (area / ratio) ** 0.5


def _shared(
    kinds: list[tuple[str, float]], rng: random.Random
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Living below, sleeping above, and so that both have about as much room."""
    order = {"living room": 0, "kitchen": 1, "dining room": 2, "hallway": 3, "office": 5, "bedroom": 9, "bathroom": 8}
    ranked = sorted(kinds, key=lambda each: order.get(each[0], 6) + rng.random())
    half, total, lower = sum(area for _, area in ranked) / 2, 0.0, 0
    while total + ranked[lower][1] / 2 <= half:
        total += ranked[lower][1]
        lower += 1
    lower = min(max(lower, 2), len(ranked) - 2)
    return ranked[:lower], ranked[lower:]


def _storey(
    kinds: Sequence[tuple[str, float]], x: float, z: float, size: Plan, rng: random.Random
) -> list[tuple[str, Box]] | None:
    """The rooms of a storey in a rectangle of this size, with a hallway through it at times."""
    width, depth = size
    if len(kinds) < 5 or rng.random() > HALLWAY:
        return _cut(list(kinds), (x, z, x + width, z + depth), rng)
    wide = rng.uniform(1.5, 2.0)
    # Along the longer side, and the house grows by what the hallway takes.
    along_x = width >= depth
    across = depth if along_x else width
    shuffled = list(kinds)
    rng.shuffle(shuffled)
    total = sum(area for _, area in shuffled)
    first: list[tuple[str, float]] = []
    while sum(area for _, area in first) < total * 0.42 and len(first) < len(shuffled) - 2:
        first.append(shuffled[len(first)])
    second = shuffled[len(first) :]
    share = sum(area for _, area in first) / total * across
    if along_x:
        parts = (x, z, x + width, z + share), (x, z + share + wide, x + width, z + across + wide)
        hallway: Box = (x, z + share, x + width, z + share + wide)
    else:
        parts = (x, z, x + share, z + depth), (x + share + wide, z, x + across + wide, z + depth)
        hallway = (x + share, z, x + share + wide, z + depth)
    rows = [_row(group, part, along_x) for group, part in zip((first, second), parts, strict=True)]
    return [*rows[0], *rows[1], ("hallway", hallway)]


def _row(kinds: Sequence[tuple[str, float]], box: Box, along_x: bool) -> list[tuple[str, Box]]:
    """Rooms side by side along a hallway."""
    x0, z0, x1, z1 = box
    total, at, made = sum(area for _, area in kinds), 0.0, []
    for kind, area in kinds:
        end = at + area / total
        made.append(
            (kind, (x0 + at * (x1 - x0), z0, x0 + end * (x1 - x0), z1))
            if along_x
            else (kind, (x0, z0 + at * (z1 - z0), x1, z0 + end * (z1 - z0)))
        )
        at = end
    return made


def _cut(kinds: list[tuple[str, float]], box: Box, rng: random.Random) -> list[tuple[str, Box]]:
    """Cuts the rectangle in two until each room has its part."""
    if len(kinds) == 1:
        return [(kinds[0][0], box)]
    rng.shuffle(kinds)
    total = sum(area for _, area in kinds)
    counts = range(1, len(kinds))
    # Near the middle most often, now and then elsewhere.
    split = min(counts, key=lambda n: abs(sum(area for _, area in kinds[:n]) / total - rng.gauss(0.5, 0.15)))
    first, second = kinds[:split], kinds[split:]
    share = sum(area for _, area in first) / total
    x0, z0, x1, z1 = box
    if (x1 - x0) * rng.uniform(0.8, 1.25) > z1 - z0:
        middle = x0 + share * (x1 - x0)
        boxes: tuple[Box, Box] = (x0, z0, middle, z1), (middle, z0, x1, z1)
    else:
        middle = z0 + share * (z1 - z0)
        boxes = (x0, z0, x1, middle), (x0, middle, x1, z1)
    return [*_cut(first, boxes[0], rng), *_cut(second, boxes[1], rng)]


def _room(number: int, kind: str, storey: int, box: Box, rng: random.Random) -> Room:
    half = WALL_M / 2
    x0, z0, x1, z1 = (round(each, 3) for each in box)
    return Room(
        id=number,
        kind=kind,
        storey=storey,
        low=(x0 + half, z0 + half),
        high=(x1 - half, z1 - half),
        floor=rng.choice(ROOM_KINDS[kind].floors),
        wall=rng.choice(ROOM_KINDS[kind].walls),
    )


def _fits(room: Room) -> bool:
    if room.kind == "stairs":
        return True
    short, long = sorted(room.size)
    low, high = ROOM_KINDS[room.kind].area_m2
    if short < NARROWEST_M.get(room.kind, NARROW_M):
        return False
    return room.kind == "hallway" or (long / short <= SLENDER and 0.8 * low <= short * long <= 1.3 * high)


def _openings(rooms: Sequence[Room], flights: Sequence[Flight], rng: random.Random) -> list[Opening] | None:
    """Doors and passages that join all rooms; None where they cannot be joined."""
    walls = {
        (a.id, b.id): wall
        for a, b in combinations(rooms, 2)
        if "stairs" not in (a.kind, b.kind) and a.storey == b.storey
        if (wall := _wall(a, b)) is not None and wall[3] - wall[2] >= DOOR_M[1] + 2 * CORNER_M
    }
    wanted: list[tuple[int, int, int, tuple[str, float, float, float]]] = []  # rooms, storey, wall
    joined = {room.id: room.id for room in rooms}

    def root(number: int) -> int:
        while joined[number] != number:
            number = joined[number]
        return number

    for flight in flights:
        stairs = rooms[flight.room]
        for storey, (low, high) in enumerate(((stairs.low[1], flight.foot[1]), (flight.head[1], stairs.high[1]))):
            beside = next(
                (
                    room
                    for room in rooms
                    if room.storey == storey
                    and room.kind not in (*DEAD_ENDS, "stairs", "bedroom")
                    and abs(room.low[0] - stairs.high[0] - WALL_M) < 0.02
                    and room.low[1] <= low + 0.05
                    and room.high[1] >= high - 0.05
                ),
                None,
            )
            if beside is None:
                return None
            wanted.append((stairs.id, beside.id, storey, ("z", stairs.high[0] + WALL_M / 2, low, high)))
            joined[root(beside.id)] = root(stairs.id)
    pairs = sorted(walls)
    dead = {room.id for room in rooms if room.kind in DEAD_ENDS}
    hub = {room.id for room in rooms if room.kind in ("hallway", "living room")}

    def rank(pair: tuple[int, int]) -> float:
        return rng.random() - 0.6 * len(hub & set(pair))

    def add(pair: tuple[int, int]) -> None:
        wanted.append((*pair, rooms[pair[0]].storey, walls[pair]))
        joined[root(pair[0])] = root(pair[1])

    extra = []
    for pair in sorted((pair for pair in pairs if not dead & set(pair)), key=rank):
        if root(pair[0]) != root(pair[1]):
            add(pair)
        else:
            extra.append(pair)
    for pair in extra:
        if rng.random() < LOOPS:
            add(pair)
    for number in sorted(dead):
        near = sorted((pair for pair in pairs if number in pair and len(dead & set(pair)) == 1), key=rank)
        if not near:
            return None
        add(near[0])
    if len({root(room.id) for room in rooms}) > 1:
        return None
    made: list[Opening] = []
    for a, b, storey, wall in wanted:
        opening = _opening(len(made), rooms[a], rooms[b], storey, wall, made, rng)
        if opening is None:
            return None
        made.append(opening)
    return made


def _wall(a: Room, b: Room) -> tuple[str, float, float, float] | None:
    """The wall between two rooms: its direction, where it stands, and from where to where it runs."""
    for axis, along in ((0, "z"), (1, "x")):
        for first, second in ((a, b), (b, a)):
            if abs(second.low[axis] - first.high[axis] - WALL_M) < 0.02:
                low = max(a.low[1 - axis], b.low[1 - axis])
                high = min(a.high[1 - axis], b.high[1 - axis])
                if high > low:
                    return along, first.high[axis] + WALL_M / 2, low, high
    return None


def _opening(
    number: int,
    a: Room,
    b: Room,
    storey: int,
    wall: tuple[str, float, float, float],
    others: Sequence[Opening],
    rng: random.Random,
) -> Opening | None:
    along, stands, low, high = wall
    social = a.kind in SOCIAL and b.kind in SOCIAL
    stairs = "stairs" in (a.kind, b.kind)
    wide = social and high - low >= PASSAGE_M[0] + 2 * CORNER_M + 0.4 and rng.random() < OPEN_PLAN
    corner = 0.0 if stairs else CORNER_M
    width = min(rng.uniform(*(PASSAGE_M if wide else DOOR_M)), high - low - 2 * corner - 0.02)
    for _ in range(20):
        at = rng.uniform(low + corner + width / 2, high - corner - width / 2)
        centre = (at, stands) if along == "x" else (stands, at)
        # Two doors of one room must not open into one another around a corner.
        if all(
            other.storey != storey
            or not {a.id, b.id} & set(other.rooms)
            or max(abs(centre[0] - other.centre[0]), abs(centre[1] - other.centre[1]))
            > width / 2 + other.width_m / 2 + 0.15
            for other in others
        ):
            return Opening(
                id=number,
                kind="passage" if wide else "door",
                rooms=(a.id, b.id),
                storey=storey,
                centre=(round(centre[0], 3), round(centre[1], 3)),
                along="x" if along == "x" else "z",
                width_m=round(width, 3),
            )
    return None


def _turned(house: House, rng: random.Random) -> House:
    """The house with its middle at the origin, mirrored and turned at random."""
    lows = [min(room.low[axis] for room in house.rooms) for axis in (0, 1)]
    highs = [max(room.high[axis] for room in house.rooms) for axis in (0, 1)]
    middle = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    flip, swap = (rng.choice((1.0, -1.0)), rng.choice((1.0, -1.0))), rng.random() < 0.5

    def moved(place: Plan) -> Plan:
        x, z = ((at - mid) * sign for at, mid, sign in zip(place, middle, flip, strict=True))
        return (round(z, 3), round(x, 3)) if swap else (round(x, 3), round(z, 3))

    def box(room: Room) -> Room:
        (x0, z0), (x1, z1) = moved(room.low), moved(room.high)
        return replace(room, low=(min(x0, x1), min(z0, z1)), high=(max(x0, x1), max(z0, z1)))

    other: dict[Literal["x", "z"], Literal["x", "z"]] = {"x": "z", "z": "x"}
    return replace(
        house,
        rooms=tuple(box(room) for room in house.rooms),
        openings=tuple(
            replace(each, centre=moved(each.centre), along=other[each.along] if swap else each.along)
            for each in house.openings
        ),
        flights=tuple(replace(each, foot=moved(each.foot), head=moved(each.head)) for each in house.flights),
    )
