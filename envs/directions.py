"""Route instructions in English for a path through a generated building, true to its geometry.

A path is cut into legs: stretches that one walks straight ahead. Each leg yields a clause: how it begins (a turn, the
second door on the left), what one walks through, how far; the last one says where to stop. Doors and openings are
counted as one comes to them, the place where the leg begins left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from vlkit.envs.floor_plans import Building, Room

WORDS = (10, 40)  # in an instruction
STRAIGHT, SLIGHT, SIDEWAYS, SHARP = 22.5, 60.0, 120.0, 155.0  # degrees: up to which a turn is called that
ATTEMPTS = 60

NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
ORDINALS = ("no", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Leg:
    """A stretch of a path that leads straight ahead, and what one needs to tell someone who should walk it."""

    turn: float  # degrees clockwise from the heading before it, between -180 and 180
    slope: int  # 1 up the stairs, -1 down, 0 on the flat
    rooms: tuple[Room, ...]  # the one it begins in, then each one that it enters
    hops: int
    first_hops: int  # before it enters another room; all where it stays in one
    last_hops: int  # in the last room, after the hop that enters it; all where it stays in one
    last_metres: float  # the length of those
    ahead: str  # the kind of what one comes to when going straight on from its end: "" nothing, "same" room, "door"
    passed: dict[str, int]  # side -> doors between its two ends
    door: dict[str, int]  # side -> which door of that side is at its end, counted along the leg; 0 where none is
    opening: dict[str, int]  # the same for doors, hallways and stairs together

    @property
    def side(self) -> str:
        """Where its turn leads: left, right, or neither."""
        return "" if abs(self.turn) <= STRAIGHT or abs(self.turn) > SHARP else "left" if self.turn < 0 else "right"


def instructions(building: Building, path: Sequence[int], heading: float, rng: Random, count: int = 3) -> list[str]:
    """Different instructions for one path of viewpoints; fewer than `count` where it takes more words than WORDS.

    `heading` (radians) is where the walker looks at the start.
    """
    legs = path_legs(building, path, heading)
    made: list[str] = []
    for attempt in range(ATTEMPTS):
        text = _text(legs, rng, named=attempt % 3 != 1)
        if WORDS[0] <= len(text.split()) <= WORDS[1] and text not in made:
            made.append(text)
            if len(made) == count:
                break
    return made


def path_legs(building: Building, path: Sequence[int], heading: float) -> list[Leg]:
    """The stretches of a path; `heading` in radians."""
    stretches: list[tuple[float, int, list[int]]] = []
    before = math.degrees(heading)
    for here, there in pairwise(path):
        towards, slope = _bearing(building, here, there), _slope(building, here, there)
        turn = _wrapped(towards - before)
        if stretches and abs(turn) <= STRAIGHT and stretches[-1][1] == slope:
            stretches[-1][2].append(there)
        else:
            stretches.append((turn, slope, [here, there]))
        before = towards
    return [_leg(building, turn, slope, nodes) for turn, slope, nodes in stretches]


def _leg(building: Building, turn: float, slope: int, nodes: list[int]) -> Leg:
    numbers = [building.viewpoints[node].room for node in nodes]
    entered = [k for k in range(1, len(nodes)) if numbers[k] != numbers[k - 1]]
    doors, openings = _openings(building, nodes, doors_only=True), _openings(building, nodes, doors_only=False)
    return Leg(
        turn=turn,
        slope=slope,
        rooms=tuple(building.room(nodes[k]) for k in (0, *entered)),
        hops=len(nodes) - 1,
        first_hops=entered[0] - 1 if entered else len(nodes) - 1,
        last_hops=len(nodes) - 1 - entered[-1] if entered else len(nodes) - 1,
        last_metres=sum(
            math.dist(building.viewpoints[a].position, building.viewpoints[b].position)
            for a, b in pairwise(nodes[entered[-1] :] if entered else nodes)
        ),
        ahead=_ahead(building, nodes),
        passed={side: sum(found[:-1]) for side, found in doors.items()},
        door={side: sum(found) if found[-1] else 0 for side, found in doors.items()},
        opening={side: sum(found) if found[-1] else 0 for side, found in openings.items()},
    )


def _ahead(building: Building, nodes: list[int]) -> str:
    last, onwards = nodes[-1], _bearing(building, nodes[-2], nodes[-1])
    for near in building.neighbours[last]:
        straight = abs(_wrapped(_bearing(building, last, near) - onwards)) <= STRAIGHT
        if straight and not _slope(building, last, near):
            return "same" if building.room(near) is building.room(last) else "door"
    return ""


def _openings(building: Building, nodes: list[int], *, doors_only: bool) -> dict[str, list[bool]]:
    """For each viewpoint of a leg but the first: whether something leads out of the hallway on this side."""
    found: dict[str, list[bool]] = {"left": [], "right": []}
    for before, node in pairwise(nodes):
        onwards, here = _bearing(building, before, node), building.room(node)
        for side, sign in (("left", -1), ("right", 1)):
            beside = [
                building.room(near)
                for near in building.neighbours[node]
                if SLIGHT < sign * _wrapped(_bearing(building, node, near) - onwards) <= SIDEWAYS
            ]
            kinds = ("room",) if doors_only else ("room", "hallway", "stairs")
            found[side].append(here.kind == "hallway" and any(room.kind in kinds for room in beside))
    return found


def _bearing(building: Building, here: int, there: int) -> float:
    """Degrees clockwise from +y."""
    a, b = building.viewpoints[here].position, building.viewpoints[there].position
    return math.degrees(math.atan2(b[0] - a[0], b[1] - a[1]))


def _slope(building: Building, here: int, there: int) -> int:
    kinds = (building.room(here).kind, building.room(there).kind)
    up = building.viewpoints[there].position[2] - building.viewpoints[here].position[2]
    return 0 if "stairs" not in kinds else 1 if up > 0 else -1


def _wrapped(degrees: float) -> float:
    return (degrees + 180.0) % 360.0 - 180.0


# From here on words. An anchor is how one knows where a leg ends and the next begins: "count" (the second door),
# "past" (past one door, then the next), "end" (of the hallway), "wall", "metres", "stairs", or "" (nothing is said).


def _text(legs: list[Leg], rng: Random, *, named: bool) -> str:
    """An instruction; rooms are called by their names or passed over."""
    clauses: list[list[str]] = []
    before, anchor = None, ""
    for leg, after in zip(legs, [*legs[1:], None], strict=True):
        start, through = _start(leg, before, anchor, rng, named=named)
        anchor = _anchor(leg, after, rng)
        clauses.append([*([start] if start else []), *_walk(leg, after, anchor, rng, through=through, named=named)])
        before = leg
    stop = f"{rng.choice(['stop', 'stop', 'wait'])} {_stop(legs[-1], rng, named=named)}"
    clauses = rng.choice([[*clauses, [stop]], [*clauses[:-1], [*clauses[-1], stop]]])
    text = _joined(clauses[0])
    for clause in clauses[1:]:
        text += rng.choice([". ", ". ", ". ", ", then ", ", and "]) + _joined(clause)
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in text.split(". "))


def _joined(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def _anchor(leg: Leg, after: Leg | None, rng: Random) -> str:
    """What tells where this leg ends; one of those that fit."""
    if after is None or leg.slope:
        return ""
    if after.slope:
        return "stairs"
    if leg.rooms[-1].kind == "hallway":
        fitting = []
        if after.side and leg.opening[after.side]:
            fitting += ["count", "count"]
            if leg.door[after.side] > 1 and after.first_hops == 0:
                fitting.append("past")
        if leg.last_hops:
            fitting += ["end"] if not leg.ahead else []
            fitting += ["metres"]
        return rng.choice(fitting) if fitting else ""
    if leg.last_hops:
        return rng.choice(["wall", "metres"]) if not leg.ahead else "metres"
    return ""


def _start(leg: Leg, before: Leg | None, anchor: str, rng: Random, *, named: bool) -> tuple[str, bool]:
    """How a leg begins, and whether that already leads through its first door."""
    turn = _turn(leg, rng)
    if before is None:
        straight = ["go straight ahead", "head straight on", "walk straight ahead"]
        return (turn or (rng.choice(straight) if leg.slope == 0 else "")), False
    if before.slope:
        place = (
            ("at the top", "at the top of the stairs")
            if before.slope > 0
            else ("at the bottom", "at the foot of the stairs")
        )
        return f"{rng.choice(place)} {turn or rng.choice(['go straight on', 'keep straight on'])}", False
    if leg.slope and not leg.side:
        return "", False
    if anchor in ("count", "past"):
        yours = rng.choice(["the", "your"])
        if leg.first_hops == 0 and leg.rooms[1].kind == "room":
            nth = "next" if anchor == "past" else ORDINALS[before.door[leg.side]]
            verb = rng.choice(["take", "go through", "walk through"])
            into = f" into the {leg.rooms[1].name}" if named else ""
            return f"{verb} the {nth} door on {yours} {leg.side}{into}", True
        if before.last_hops:
            nth = ORDINALS[before.opening[leg.side]]
            return rng.choice(
                [f"take the {nth} {leg.side}", f"turn {leg.side} at the {nth} opening on {yours} {leg.side}"]
            ), False
    if anchor == "end":
        return rng.choice(
            [f"at the end {turn}", f"{turn} at the end of the hallway", f"{turn} where the hallway ends"]
        ), False
    if anchor == "wall":
        return rng.choice([f"at the wall {turn}", f"{turn} at the wall"]), False
    if before.rooms[-1].kind == "room" and len(before.rooms) > 1 and before.last_hops == 0:
        return rng.choice([turn, f"just inside {turn}", f"{turn} as soon as you are inside"]), False
    return turn, False


def _turn(leg: Leg, rng: Random) -> str:
    """The turn at a leg's beginning, nothing where it goes straight on."""
    angle, side = abs(leg.turn), leg.side
    if angle <= STRAIGHT:
        return ""
    if angle <= SLIGHT:
        return rng.choice([f"bear {side}", f"veer {side}", f"turn slightly {side}"])
    if angle <= SIDEWAYS:
        return rng.choice([f"turn {side}", f"turn {side}", f"go {side}", f"make a {side}"])
    if angle <= SHARP:
        return rng.choice([f"turn sharply {side}", f"make a sharp {side}"])
    return rng.choice(["turn around", "turn around", "turn back"])


def _walk(leg: Leg, after: Leg | None, anchor: str, rng: Random, *, through: bool, named: bool) -> list[str]:
    """What one does on a leg, up to its end; nothing where the stop says it all."""
    if leg.slope:
        verbs = ("go up", "climb", "walk up") if leg.slope > 0 else ("go down", "descend", "walk down")
        return [f"{rng.choice(verbs)} the stairs"]
    parts: list[str] = []
    if leg.first_hops and len(leg.rooms) > 1 and leg.rooms[0].kind == "hallway":
        parts.append(rng.choice(["walk to the end of the hallway", "follow the hallway to its end"]))
    elif leg.first_hops > 1 and len(leg.rooms) > 1:
        parts.append(f"cross the {_called(leg.rooms[0], named)}")
    for here, there in list(pairwise(leg.rooms))[1 if through else 0 :]:
        parts.append(rng.choice([phrase for phrase in _crossings(here, there, named=named) if phrase not in parts]))
    rest = _rest(leg, after, anchor, rng)
    return [*parts, rest] if rest else parts


def _crossings(here: Room, there: Room, *, named: bool) -> list[str]:
    """Ways to say that one goes from here to there."""
    if there.kind == "hallway":
        if named:
            return [f"leave the {here.name}", f"go out of the {here.name}", f"exit the {here.name} into the hallway"]
        return ["go out into the hallway", "leave the room", "walk out through the door"]
    if named:
        return [f"enter the {there.name}", f"go into the {there.name}", f"go through the door to the {there.name}"]
    return ["go through the door", "walk through the doorway", "enter the next room"]


def _rest(leg: Leg, after: Leg | None, anchor: str, rng: Random) -> str:
    """The hops of a leg after the last door."""
    if not leg.last_hops:
        return ""
    entered, room = len(leg.rooms) > 1, leg.rooms[-1]
    metres = f"about {NUMBERS[max(2, round(leg.last_metres))]} metres"
    if room.kind == "hallway":
        walk = rng.choice(["walk down", "go along", "follow", "continue down"]) + " the hallway"
        if anchor == "metres":
            return f"{walk} for {metres}"
        if anchor == "stairs":
            return walk + rng.choice([" to the stairs", " until you reach the stairs"])
        if anchor == "past" and after is not None:
            doors = leg.passed[after.side]
            return f"{walk} past {NUMBERS[doors]} {'door' if doors == 1 else 'doors'} on the {after.side}"
        return walk
    if after is None and entered:
        return ""
    if after is None or anchor == "wall":
        return rng.choice(["walk on", "keep going", "go forward"])
    if entered or leg.hops > 1:
        return rng.choice(["walk on for ", "go on for ", "continue for "]) + metres
    return rng.choice(["take a few steps", f"walk {metres}", "walk forward a little"])


def _called(room: Room, named: bool) -> str:
    return room.name if named or room.kind == "hallway" else "room"


def _stop(leg: Leg, rng: Random, *, named: bool) -> str:
    """Where the last leg ends."""
    room, entered = leg.rooms[-1], len(leg.rooms) > 1
    if leg.slope:
        end = "top" if leg.slope > 0 else "bottom"
        return rng.choice([f"at the {end}", f"at the {end} of the stairs", f"when you reach the {end}"])
    metres = f"about {NUMBERS[max(2, round(leg.last_metres))]} metres"
    if room.kind == "room":
        name = _called(room, named)
        if entered and not leg.last_hops:
            return rng.choice(
                ["just inside", f"just inside the {name}", "as soon as you are inside", "just past the door"]
            )
        if leg.ahead == "door":
            return rng.choice(
                ["in front of the next door", "at the next door", f"before the door at the end of the {name}"]
            )
        if entered:
            wall = ["at the wall", f"at the far end of the {name}", "when you reach the wall"]
            return rng.choice([f"in the middle of the {name}", f"{metres} inside"] if leg.ahead else wall)
        return rng.choice([f"after {metres}"] if leg.ahead else ["at the wall", "when you reach the wall"])
    if entered and not leg.last_hops:
        return rng.choice(["in the hallway", "just outside", f"right outside the {_called(leg.rooms[-2], named)}"])
    places = [f"after {metres}"]
    if not leg.ahead:
        places += ["at the end", "at the end of the hallway"] * 2
    for side, nth in leg.door.items():
        if nth:
            places += [
                f"at the {ORDINALS[nth]} door on the {side}",
                f"next to the {ORDINALS[nth]} door on your {side}",
            ] * 2
    return rng.choice(places)
