"""What a generated house is: rooms, the openings between them, and what stands in them.

Everything that is said about a house (a mesh, an instruction, a question) is derived from these tables. Metres, y up, an
agent that has not turned looks along -z (north on maps), its right hand towards +x. Rooms and walls lie along the axes.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from vlkit.errors import UserError

Level = Literal["starter", "standard", "long"]
LEVELS: tuple[Level, ...] = ("starter", "standard", "long")
Plan = tuple[float, float]  # x and z, metres
Point = tuple[float, float, float]  # x, y, z, metres

STOREY_M = 2.8  # from floor to floor
CEILING_M = 2.6  # from floor to ceiling
WALL_M = 0.12  # thickness of every wall
DOOR_HEIGHT_M = 2.05

# A house's furniture may have these colours; the names are the words of instructions.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (196, 40, 36),
    "orange": (232, 126, 28),
    "yellow": (236, 204, 48),
    "green": (58, 142, 62),
    "blue": (42, 84, 188),
    "purple": (128, 58, 158),
    "pink": (238, 138, 176),
    "brown": (122, 78, 44),
    "black": (38, 38, 42),
    "white": (240, 238, 232),
    "gray": (136, 138, 142),
    "teal": (28, 148, 148),
}
Pattern = Literal[
    "plain", "wood", "planks", "tiles", "carpet", "stripes", "checks", "dots", "marble", "brick", "plaster"
]


@dataclass(frozen=True)
class Finish:
    """What a surface looks like."""

    pattern: Pattern
    colour: tuple[int, int, int]  # RGB, what the pattern is drawn in


@dataclass(frozen=True)
class Room:
    """A rectangle of floor between walls; `low` and `high` are its inner corners in plan.

    A staircase is a room of kind "stairs" that spans `storey` and the one above it.
    """

    id: int  # its place in House.rooms
    kind: str  # "kitchen", of ROOM_KINDS
    storey: int  # 0 is the lowest
    low: Plan
    high: Plan
    floor: Finish
    wall: Finish

    @property
    def centre(self) -> Plan:
        """Middle of its floor."""
        return (self.low[0] + self.high[0]) / 2, (self.low[1] + self.high[1]) / 2

    @property
    def size(self) -> Plan:
        """Metres along x and along z."""
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    def contains(self, place: Plan, slack_m: float = 0.0) -> bool:
        """Whether a place in plan lies in it, or at most so far outside."""
        return all(
            low - slack_m <= at <= high + slack_m for low, at, high in zip(self.low, place, self.high, strict=True)
        )


@dataclass(frozen=True)
class Opening:
    """Where one walks from room to room: a doorway, a wide passage, or one end of a staircase."""

    id: int  # its place in House.openings
    kind: Literal["door", "passage"]
    rooms: tuple[int, int]
    storey: int
    centre: Plan  # of the gap, in the middle of the wall
    along: Literal["x", "z"]  # the direction in which the wall runs
    width_m: float

    def other(self, room: int) -> int:
        """The room on the other side."""
        return self.rooms[1] if room == self.rooms[0] else self.rooms[0]


@dataclass(frozen=True)
class Furniture:
    """A thing that can be seen and named. Its id is its number in the `instance` sensor: from 1 on."""

    id: int
    kind: str  # of catalogue.KINDS
    colour: str  # of COLOURS: what the thing is called
    room: int
    centre: Point  # of its base
    turn: int  # quarter turns to the left; at 0 its front looks along -z
    size: Point  # width (along x at turn 0), height, depth (along z at turn 0), metres
    on: int | None = None  # id of the furniture that it stands on
    variant: int = 0  # which of the kind's shapes it has

    @property
    def extent(self) -> Plan:
        """Metres that it takes along x and along z as it stands."""
        width, _, depth = self.size
        return (depth, width) if self.turn % 2 else (width, depth)

    @property
    def front(self) -> Plan:
        """Where its front looks, a unit vector in plan."""
        return ((0.0, -1.0), (-1.0, 0.0), (0.0, 1.0), (1.0, 0.0))[self.turn % 4]


@dataclass(frozen=True)
class Flight:
    """The steps in a staircase: straight up through the room `room` from `foot` to `head`, both in plan."""

    room: int
    foot: Plan  # middle of the lowest step's front edge, on storey `storey`
    head: Plan  # middle of the landing's edge, one storey higher
    width_m: float
    steps: int


@dataclass(frozen=True)
class House:
    """A whole house."""

    name: str
    level: Level
    seed: int
    rooms: tuple[Room, ...]
    openings: tuple[Opening, ...]
    furniture: tuple[Furniture, ...]
    flights: tuple[Flight, ...] = ()

    @property
    def storeys(self) -> int:
        """How many there are."""
        return max(room.storey for room in self.rooms) + 1 if not self.flights else 2

    @cached_property
    def openings_of(self) -> tuple[tuple[Opening, ...], ...]:
        """For each room its openings."""
        return tuple(tuple(each for each in self.openings if room.id in each.rooms) for room in self.rooms)

    @cached_property
    def furniture_of(self) -> tuple[tuple[Furniture, ...], ...]:
        """For each room what stands in it, things on other things included."""
        return tuple(tuple(each for each in self.furniture if each.room == room.id) for room in self.rooms)

    def room_at(self, point: Point) -> Room | None:
        """The room in which a point lies; the gap in a wall counts to the nearer room. None outside."""
        x, y, z = point
        found: Room | None = None
        nearest = WALL_M
        for room in self.rooms:
            floor = room.storey * STOREY_M
            top = floor + (2 * STOREY_M if room.kind == "stairs" else STOREY_M)
            if not floor - 0.3 <= y < top - 0.3:
                continue
            outside = math.hypot(
                max(room.low[0] - x, 0.0, x - room.high[0]), max(room.low[1] - z, 0.0, z - room.high[1])
            )
            if outside < nearest or (outside == 0 and found is not None and found.kind == "stairs"):
                found, nearest = room, max(outside, 1e-9)
        return found

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives an equal house."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str, where: str = "a house") -> "House":
        """Reads what `to_json` wrote; UserError, with the file's name `where`, for anything else."""
        try:
            values: dict[str, Any] = json.loads(text)
            return House(
                name=str(values["name"]),
                level=values["level"],
                seed=int(values["seed"]),
                rooms=tuple(
                    Room(**_pairs(each) | {"floor": _finish(each["floor"]), "wall": _finish(each["wall"])})
                    for each in values["rooms"]
                ),
                openings=tuple(Opening(**_pairs(each)) for each in values["openings"]),
                furniture=tuple(Furniture(**_pairs(each)) for each in values["furniture"]),
                flights=tuple(Flight(**_pairs(each)) for each in values["flights"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{where} is no house of vlkit ({type(error).__name__}: {error}); make it anew with `vlkit data houses`"
            ) from error


def _pairs(values: dict[str, Any]) -> dict[str, Any]:
    """Lists become tuples again."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _finish(values: dict[str, Any]) -> Finish:
    return Finish(pattern=values["pattern"], colour=tuple(values["colour"]))


def plan_key(house: House) -> tuple[Any, ...]:
    """Equal for houses of one floor plan: rooms by kind and place, and openings, to a decimetre."""

    def rounded(values: Sequence[float]) -> tuple[int, ...]:
        return tuple(round(value * 10) for value in values)

    return (
        tuple((room.kind, room.storey, rounded(room.low), rounded(room.high)) for room in house.rooms),
        tuple((each.rooms, rounded(each.centre)) for each in house.openings),
    )


def layout_key(house: House) -> tuple[Any, ...]:
    """Equal for houses whose furniture is the same in the same places."""
    return tuple(
        (each.kind, each.colour, each.room, tuple(round(at * 10) for at in each.centre)) for each in house.furniture
    )
