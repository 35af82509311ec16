"""Instructions for routes, in the manner of R2R: clauses for turns, openings, rooms and what one passes, then the stop.

What is said is enough to find the way: wherever an opening could be mistaken for another, more is said of it until it
cannot, by the follower's own rules (follower.py). How it is said varies.
"""

import itertools
import math
import random
import re
from collections.abc import Sequence
from typing import Literal

from vlkit.envs.house import lexicon
from vlkit.envs.house.follower import Told, matching
from vlkit.envs.house.house import COLOURS, Furniture, House, Opening, Room
from vlkit.envs.house.routes import Leg, Route, exits, side_of, sides_of

Detail = Literal["coarse", "medium", "fine"]
WORDS = (15, 60)
ATTEMPTS = 40
COUNTED_M = 0.5  # "first" and "second" differ so much in how near they are
ADJECTIVE, OTHER_NAME, OTHER_COLOUR, COLOURED = 0.25, 0.45, 0.3, 0.55  # chances


def instruction(
    house: House, route: Route, rng: random.Random, *, detail: Detail = "medium", spelling_noise: float = 0.0
) -> str:
    """A text of 15 to 60 words that leads along the route.

    coarse tells rooms and the goal, where that is enough; medium turns and openings too; fine also what one passes.
    spelling_noise is the share of words with a slip of the pen.
    """
    shortest = ""
    for attempt in range(ATTEMPTS):
        clauses = _coarse(house, route, rng) if detail == "coarse" else []
        short = attempt > ATTEMPTS // 2
        if not clauses:
            for leg in route.legs:
                clauses += _leg(house, leg, rng, fine=detail == "fine" and not short, terse=short)
        clauses.append(_goal(house, route, rng))
        remarks = lexicon.CLOSERS + lexicon.REMARKS[house.rooms[route.goal.room].kind]
        text = _joined(clauses, remarks, rng, wanted=WORDS[0], spare=not short)
        if WORDS[0] <= len(tokens(text)) <= WORDS[1]:
            return _misspelt(text, rng, spelling_noise) if spelling_noise else text
        if not shortest or len(tokens(text)) < len(tokens(shortest)):
            shortest = text
    raise ValueError(f"a route of {len(route.legs)} rooms takes more than {WORDS[1]} words: {shortest}")


def tokens(text: str) -> list[str]:
    """Lower-case words; what is between letters and digits parts them, an apostrophe or hyphen within a word does not."""
    return re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", text.lower())


# Clauses


def _coarse(house: House, route: Route, rng: random.Random) -> list[str]:
    """Rooms alone; nothing where the goal's room is not the only one of its kind, or where one must know by which way to come."""
    kind = house.rooms[route.goal.room].kind
    if sum(room.kind == kind for room in house.rooms) > 1 or route.goal.relation == "inside":
        return []
    start = house.rooms[route.rooms[0]]
    clauses = []
    if rng.random() < 0.6 and start.kind != "stairs":
        clauses.append(f"{rng.choice(lexicon.LEAVE)} the {_room_name(start, rng)}")
    clauses.append(f"{rng.choice(lexicon.ENTER)} the {_room_name(house.rooms[route.goal.room], rng)}")
    return clauses


def _leg(house: House, leg: Leg, rng: random.Random, *, fine: bool, terse: bool) -> list[str]:
    """The way through one room."""
    room, beyond, opening = house.rooms[leg.room], house.rooms[leg.beyond], house.openings[leg.opening]
    if room.kind == "stairs":
        return []  # the clause before has led over the stairs
    clauses: list[str] = []
    things = house.furniture_of[room.id]
    if fine and leg.passed and rng.random() < 0.8:
        number, side = rng.choice(leg.passed)
        thing = _thing(house, number)
        told = f"{rng.choice(lexicon.PAST)} the {_thing_name(thing, things, rng)}"
        clauses.append(f"{told} {rng.choice(lexicon.SIDES[side])}" if rng.random() < 0.7 else told)
    elif fine and rng.random() < 0.25:
        clauses.append(rng.choice(lexicon.AHEAD) if side_of(leg.stand.angle_to(opening.centre)) == "ahead" else "")
    if beyond.kind == "stairs" and leg.climb:
        clauses.append(_stairs(leg, rng))
        return [clause for clause in clauses if clause]
    clauses.append(_exit(house, leg, room, beyond, opening, rng, terse=terse))
    return [clause for clause in clauses if clause]


def _stairs(leg: Leg, rng: random.Random) -> str:
    way, where = (lexicon.UP, lexicon.UPSTAIRS) if leg.climb > 0 else (lexicon.DOWN, lexicon.DOWNSTAIRS)
    text = f"{rng.choice(way)} {rng.choice(lexicon.STAIRS)}"
    return f"{text} {rng.choice(where)}" if rng.random() < 0.5 else text


def _exit(
    house: House, leg: Leg, room: Room, beyond: Room, opening: Opening, rng: random.Random, *, terse: bool
) -> str:
    """Through one opening, said so that it cannot be another."""
    fitting = tellings(house, leg)
    likely = [told for told in fitting if told.side is not None]
    told = rng.choice(likely if likely and rng.random() < 0.85 else fitting)
    return _exit_text(house, told, opening, beyond, room, rng, terse=terse)


def can_be_told(house: House, route: Route) -> bool:
    """Whether no opening of the route can only be told in words that fit another one too."""
    return all(leg.climb or tellings(house, leg) for leg in route.legs)


def tellings(house: House, leg: Leg) -> list[Told]:
    """What may be said of a leg's opening, from little to much, so that a reader can only take this one."""
    room, beyond, opening = house.rooms[leg.room], house.rooms[leg.beyond], house.openings[leg.opening]
    if room.kind == "stairs":
        return [Told()]  # the clause before has led over the stairs
    side = side_of(leg.stand.angle_to(opening.centre))
    others = exits(house, room, leg.came)
    beside = _beside(house, room, opening, others)
    ordinal = _ordinal(leg, opening, others)
    ways: list[Told] = [
        Told(beyond=beyond.kind),
        Told(beyond=beyond.kind, side=side),
        Told(side=side),
        Told(beyond=beyond.kind, beside=beside),
        Told(beyond=beyond.kind, side=side, ordinal=ordinal),
        Told(side=side, ordinal=ordinal),
        Told(beyond=beyond.kind, side=side, beside=beside),
    ]
    distinct = list(dict.fromkeys(ways))
    return [told for told in distinct if matching(house, leg.stand, room, leg.came, told) == [opening]]


def _ordinal(leg: Leg, opening: Opening, others: Sequence[Opening]) -> int | None:
    """Which one it is of its side, counted from the nearest; None where one who looks may count otherwise."""
    side = side_of(leg.stand.angle_to(opening.centre))
    alike = [each for each in others if side in sides_of(leg.stand.angle_to(each.centre))]
    if side == "behind" or len(alike) < 2:
        return None
    alike.sort(key=lambda each: math.dist(each.centre, leg.stand.place))
    for near, far in itertools.pairwise(alike):
        closer = math.dist(far.centre, leg.stand.place) - math.dist(near.centre, leg.stand.place)
        if closer < COUNTED_M or leg.stand.along(near.centre) > leg.stand.along(far.centre) + COUNTED_M:
            return None
    return alike.index(opening) + 1


def _beside(house: House, room: Room, opening: Opening, others: Sequence[Opening]) -> tuple[str, str] | None:
    """Kind and colour of a thing that stands nearer to this opening than to any other, if one stands near."""
    from vlkit.envs.house.follower import nearest_opening
    from vlkit.envs.house.routes import told_apart

    things = house.furniture_of[room.id]
    near = [
        thing
        for thing in things
        if nearest_opening(thing, others) == opening and told_apart(thing, things) and thing.on is None
    ]
    near.sort(key=lambda thing: (thing.centre[0] - opening.centre[0]) ** 2 + (thing.centre[2] - opening.centre[1]) ** 2)
    return (near[0].kind, near[0].colour) if near else None


def _exit_text(
    house: House, told: Told, opening: Opening, beyond: Room, room: Room, rng: random.Random, *, terse: bool
) -> str:
    noun = rng.choice(lexicon.DOORS if opening.kind == "door" else lexicon.PASSAGES)
    turn = ""
    side = told.side
    if side in ("left", "right") and told.ordinal is None and rng.random() < 0.4:
        turn = f"{rng.choice(lexicon.TURN_LEFT if side == 'left' else lexicon.TURN_RIGHT)} and "
    elif side == "behind" and rng.random() < 0.7:
        turn = f"{rng.choice(lexicon.TURN_AROUND)} and "
    elif side == "ahead" and rng.random() < 0.3:
        turn = f"{rng.choice(lexicon.AHEAD)} and "
    where = f" {rng.choice(lexicon.SIDES[side])}" if side and (not turn or rng.random() < 0.2) else ""
    ordinal = f"{lexicon.ORDINALS[told.ordinal - 1]} " if told.ordinal else ""
    near = ""
    if told.beside is not None:
        kind, colour = told.beside
        thing = next(each for each in house.furniture_of[room.id] if (each.kind, each.colour) == (kind, colour))
        near = f" {rng.choice(lexicon.BESIDE)} the {_thing_name(thing, house.furniture_of[room.id], rng)}"
    name = _room_name(beyond, rng)
    if terse and told.beyond is not None and not ordinal and not near:
        return f"{turn}enter the {name}" if turn else f"enter the {name}{where}"
    if told.beyond is None:
        return f"{turn}{rng.choice(lexicon.THROUGH)} the {ordinal}{noun}{near}{where}"
    if not ordinal and not near and rng.random() < 0.25:
        return f"{turn}{rng.choice(lexicon.ENTER)} the {name}{where}"
    floor = (
        f" {rng.choice(lexicon.FLOORS[beyond.floor.pattern])}"
        if rng.random() < 0.12 and beyond.floor.pattern in lexicon.FLOORS
        else ""
    )
    return f"{turn}{rng.choice(lexicon.THROUGH)} the {ordinal}{noun}{near}{where} {rng.choice(lexicon.INTO)} the {name}{floor}"


def _goal(house: House, route: Route, rng: random.Random) -> str:
    """Where to stop."""
    goal, room = route.goal, house.rooms[route.goal.room]
    verb = rng.choice(lexicon.STOP)
    if goal.relation == "front":
        assert goal.landmark is not None
        thing = _thing(house, goal.landmark)
        return f"{verb} {rng.choice(lexicon.FRONT)} the {_thing_name(thing, house.furniture_of[room.id], rng)}"
    if goal.relation == "middle":
        return f"{verb} {rng.choice(lexicon.MIDDLE)} the {_room_name(room, rng)}"
    return f"{verb} {rng.choice(lexicon.INSIDE)} the {_room_name(room, rng)}"


# Names


def _thing(house: House, number: int) -> Furniture:
    return house.furniture[number - 1]


def _thing_name(thing: Furniture, things: Sequence[Furniture], rng: random.Random) -> str:
    """What a thing is called: with its colour where another of its kind is there, and at times all the same."""
    names = lexicon.THINGS[thing.kind]
    name = rng.choice(names[1:]) if rng.random() < OTHER_NAME else names[0]
    alone = sum(other.kind == thing.kind for other in things) == 1
    colour = ""
    if not alone or rng.random() < COLOURED:
        colours = lexicon.COLOURS[thing.colour]
        colour = f"{rng.choice(colours[1:]) if rng.random() < OTHER_COLOUR else colours[0]} "
    manner = ""
    if rng.random() < ADJECTIVE:
        fitting = [words for kinds, words in lexicon.MANNERS.values() if thing.kind in kinds]
        if fitting:
            manner = f"{rng.choice(rng.choice(fitting))} "
    return f"{manner}{colour}{name}"


def _room_name(room: Room, rng: random.Random) -> str:
    names = lexicon.ROOMS[room.kind]
    return rng.choice(names[1:]) if rng.random() < OTHER_NAME * 0.7 else names[0]


# Sentences


def _joined(clauses: Sequence[str], remarks: Sequence[str], rng: random.Random, *, wanted: int, spare: bool) -> str:
    """The clauses as sentences; short texts get a word of how to walk and a remark on where they lead."""
    parts = list(clauses)
    count = sum(len(tokens(part)) for part in parts)
    if rng.random() < 0.25 or count < wanted - 5:
        opener = rng.choice(lexicon.OPENERS)
        parts[0] = f"{opener} {parts[0]}" if opener.endswith(": ") else f"{opener}, {parts[0]}"
    if spare and (rng.random() < 0.15 or count < wanted - 3):
        i = rng.randrange(len(parts))
        parts[i] = (
            f"{parts[i]}, {rng.choice(lexicon.MANNER)}"
            if i == len(parts) - 1
            else f"{parts[i]} {rng.choice(lexicon.MANNER)}"
        )
    text = parts[0]
    for number, part in enumerate(parts[1:], start=1):
        last = number == len(parts) - 1
        text += (rng.choice(lexicon.LAST if last else lexicon.THEN) if spare else ". ") + part
    text += "."
    count = len(tokens(text))
    while count < wanted or (spare and rng.random() < 0.25 and count < 45):
        text += f" {rng.choice(remarks)}."
        count = len(tokens(text))
    style = rng.random()
    if style < 0.75:
        text = re.sub(r"(^|[.!] +)([a-z])", lambda match: match[1] + match[2].upper(), text)
    return text if style < 0.9 else text.rstrip(".")


def _misspelt(text: str, rng: random.Random, share: float) -> str:
    """Slips of the pen in a share of the longer words: letters exchanged, dropped or doubled."""

    def slip(match: re.Match[str]) -> str:
        word = match[0]
        if len(word) < 4 or rng.random() >= share:
            return word
        i = rng.randrange(1, len(word) - 1)
        return rng.choice(
            (word[:i] + word[i + 1] + word[i] + word[i + 2 :], word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:])
        )

    return re.sub(r"[A-Za-z]+", slip, text)


assert set(lexicon.COLOURS) == set(COLOURS)
