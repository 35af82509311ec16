"""A follower that reads nothing but the text: it parses an instruction by the lexicon and carries it out on the tables
of rooms, openings and furniture. What it reaches shows that the instructions say enough.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from vlkit.envs.house import lexicon
from vlkit.envs.house.house import STOREY_M, Furniture, House, Opening, Plan, Point, Room
from vlkit.envs.house.routes import BESIDE_M, INSIDE_M, Side, Stand, before, entered, entry, exits, sides_of

CONNECTORS = sorted({*lexicon.THEN, *lexicon.LAST}, key=len, reverse=True)


@dataclass(frozen=True)
class Told:
    """What a clause says of the opening to take."""

    beyond: str | None = None  # kind of the room behind it
    side: Side | None = None
    ordinal: int | None = None  # of its side, from 1 for the nearest
    beside: tuple[str, str | None] | None = None  # kind and colour of a thing next to it


def matching(house: House, stand: Stand, room: Room, came: int | None, told: Told) -> list[Opening]:
    """The openings of a room that fit what is said, for one who stands there."""
    found = exits(house, room, came)
    if told.ordinal is not None and told.side is not None:
        alike = sorted(
            (each for each in found if told.side in sides_of(stand.angle_to(each.centre))),
            key=lambda each: math.dist(each.centre, stand.place),
        )
        if told.beyond is not None and not any(house.rooms[each.other(room.id)].kind == told.beyond for each in alike):
            return []
        return alike[told.ordinal - 1 : told.ordinal]
    if told.side is not None:
        found = [each for each in found if told.side in sides_of(stand.angle_to(each.centre))]
    if told.beyond is not None:
        found = [each for each in found if house.rooms[each.other(room.id)].kind == told.beyond]
    if told.beside is not None:
        kind, colour = told.beside
        things = [
            thing
            for thing in house.furniture_of[room.id]
            if thing.kind == kind and (colour is None or thing.colour == colour)
        ]
        near = [nearest_opening(thing, exits(house, room, came)) for thing in things]
        found = [each for each in found if each in near]
    return found


def nearest_opening(thing: Furniture, openings: Sequence[Opening]) -> Opening | None:
    """The opening next to which a thing stands, if it stands next to one."""
    metres = sorted((math.dist((thing.centre[0], thing.centre[2]), each.centre), each.id, each) for each in openings)
    if not metres or metres[0][0] > BESIDE_M + max(thing.extent) / 2:
        return None
    if len(metres) > 1 and metres[1][0] < metres[0][0] + 0.4:
        return None
    return metres[0][2]


def follow(house: House, text: str, start: Point, yaw: float) -> Point:
    """Where the text leads from the start; a guess where it cannot be followed, never an error."""
    walker = _Walker(house, start, yaw)
    clauses = _clauses(text)
    for words in clauses:
        if _stops(words):
            return walker.stopped(words)
        walker.carry_out(words)
    return walker.here()


def _clauses(text: str) -> list[list[str]]:
    """The words of each clause."""
    pattern = "|".join(
        re.escape(each.strip()) if each.strip() in (".", ";") else re.escape(each.rstrip()) for each in CONNECTORS
    )
    parts = re.split(f"(?:{pattern})(?:\\s+|$)", text.lower())
    made = [re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", part) for part in parts]
    return [words for words in made if words]


class _Walker:
    """Where the follower stands."""

    def __init__(self, house: House, start: Point, yaw: float) -> None:
        self.house = house
        room = house.room_at(start) or house.rooms[0]
        self.room = room
        self.came_by: int | None = None
        self.stand = Stand((start[0], start[2]), yaw, room.storey)

    def here(self) -> Point:
        return self.stand.place[0], self.stand.storey * STOREY_M, self.stand.place[1]

    def carry_out(self, words: list[str]) -> None:
        """One clause that is no stop: an opening, stairs, or nothing that moves one on."""
        if _any(words, lexicon.PAST) and not _any(words, lexicon.THROUGH):
            return
        climb = _climb(words)
        if climb:
            self.climb(climb)
            return
        if _any(words, lexicon.LEAVE) and not _any(words, lexicon.THROUGH):
            return
        through = _any(words, lexicon.THROUGH) or _any(words, (*lexicon.DOORS, *lexicon.PASSAGES))
        room = _named(words, _room_words())
        if not through and room is None:
            return
        told = Told(
            beyond=None if room is None else room,
            side=_side(words),
            ordinal=next((i + 1 for i, each in enumerate(lexicon.ORDINALS) if each in words and _side(words)), None),
            beside=_beside(words),
        )
        found = matching(self.house, self.stand, self.room, self.came_by, told)
        if len(found) != 1:
            found = self.search(told, through)
        if found:
            self.take(found[0])

    def search(self, told: Told, through: bool) -> list[Opening]:
        """Where no single opening fits: a room that is named may lie farther; else whatever fits best."""
        if told.beyond is not None and (
            not through or not matching(self.house, self.stand, self.room, self.came_by, Told(beyond=told.beyond))
        ):
            way = self.way_to(told.beyond)
            for opening in way[:-1]:
                self.take(opening)
            if way:
                return way[-1:]
        for weaker in (
            Told(beyond=told.beyond, side=told.side),
            Told(beyond=told.beyond, beside=told.beside),
            Told(beyond=told.beyond),
            Told(side=told.side),
        ):
            found = matching(self.house, self.stand, self.room, self.came_by, weaker)
            if found and weaker != Told():
                return found
        return []

    def way_to(self, kind: str) -> list[Opening]:
        """Openings on the way to the nearest room of a kind, by the number of rooms."""
        queue: deque[tuple[int, list[Opening]]] = deque([(self.room.id, [])])
        seen = {self.room.id}
        while queue:
            number, way = queue.popleft()
            if self.house.rooms[number].kind == kind and way:
                return way
            for opening in self.house.openings_of[number]:
                other = opening.other(number)
                if other not in seen:
                    seen.add(other)
                    queue.append((other, [*way, opening]))
        return []

    def take(self, opening: Opening) -> None:
        """Goes through an opening of the room."""
        self.room = self.house.rooms[opening.other(self.room.id)]
        self.came_by = opening.id
        self.stand = entry(opening, self.room)

    def climb(self, climb: int) -> None:
        """To the other end of the stairs, and out of them."""
        flights = {flight.room for flight in self.house.flights}
        if self.room.id not in flights:
            way = self.way_to("stairs")
            for opening in way:
                self.take(opening)
        if self.room.id not in flights:
            return
        storey = self.room.storey + (climb > 0)
        for opening in self.house.openings_of[self.room.id]:
            if opening.storey == storey:
                self.take(opening)
                return

    def stopped(self, words: list[str]) -> Point:
        """Where the last clause says."""
        floor = self.room.storey * STOREY_M
        if _any(words, lexicon.MIDDLE):
            x, z = self.room.centre
            return x, floor, z
        if _any(words, lexicon.INSIDE) and _named(words, _room_words()) is not None and self.came_by is not None:
            x, z = entered(self.house.openings[self.came_by], self.room, INSIDE_M)
            return x, floor, z
        thing = _named(words, _thing_words())
        if thing is None:
            return self.here()
        found = [each for each in self.house.furniture_of[self.room.id] if each.kind == thing]
        colour = _named(words, _colour_words())
        coloured = [each for each in found if each.colour == colour]
        chosen = coloured or found
        if not chosen:
            return self.here()
        place: Plan = before(chosen[0])
        return place[0], floor, place[1]


# Words


def _stops(words: list[str]) -> bool:
    """Whether a clause is about where to stop."""
    # Things may be called "stand" or "rest" too, but no clause begins with them.
    return any(tuple(words[: len(_split(phrase))]) == _split(phrase) for phrase in lexicon.STOP)


def _climb(words: list[str]) -> int:
    if not _any(words, lexicon.STAIRS):
        return 0
    return -1 if _any(words, lexicon.DOWN) else 1 if _any(words, lexicon.UP) else 0


def _side(words: list[str]) -> Side | None:
    for side, names in lexicon.SIDES.items():
        if _any(words, names):
            return side  # type: ignore[return-value]
    turns: tuple[tuple[Side, tuple[str, ...]], ...] = (
        ("left", lexicon.TURN_LEFT),
        ("right", lexicon.TURN_RIGHT),
        ("behind", lexicon.TURN_AROUND),
        ("ahead", lexicon.AHEAD),
    )
    return next((side for side, names in turns if _any(words, names)), None)


def _beside(words: list[str]) -> tuple[str, str | None] | None:
    """Kind and colour of the thing next to which an opening is."""
    for phrase in lexicon.BESIDE:
        place = _find(words, phrase)
        if place is not None:
            rest = words[place + len(phrase.split()) :]
            kind = _named(rest, _thing_words())
            if kind is not None:
                return kind, _named(rest, _colour_words())
    return None


def _any(words: list[str], phrases: Iterable[str]) -> bool:
    return any(_find(words, phrase) is not None for phrase in phrases)


def _find(words: list[str], phrase: str) -> int | None:
    """Where a phrase stands among the words."""
    parts = _split(phrase)
    return next((i for i in range(len(words) - len(parts) + 1) if tuple(words[i : i + len(parts)]) == parts), None)


def _named(words: list[str], table: dict[tuple[str, ...], str]) -> str | None:
    """What the first, and of these the longest, name among the words stands for."""
    longest = max(map(len, table))
    for i in range(len(words)):
        for length in range(longest, 0, -1):
            if i + length <= len(words) and tuple(words[i : i + length]) in table:
                return table[tuple(words[i : i + length])]
    return None


@cache
def _split(phrase: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", phrase))


def _table(names: dict[str, tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    return {_split(name): thing for thing, each in names.items() for name in each}


@cache
def _thing_words() -> dict[tuple[str, ...], str]:
    return _table(lexicon.THINGS)


@cache
def _room_words() -> dict[tuple[str, ...], str]:
    return _table(lexicon.ROOMS)


@cache
def _colour_words() -> dict[tuple[str, ...], str]:
    return _table(lexicon.COLOURS)
