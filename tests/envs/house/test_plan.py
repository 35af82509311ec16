"""Floor plans: rooms fill a footprint without overlap, openings stand in shared walls, and every room is reached."""

import math
import random
from itertools import combinations

import pytest

from vlkit.envs.house.catalogue import ROOM_KINDS
from vlkit.envs.house.house import LEVELS, WALL_M, House, Level, plan_key
from vlkit.envs.house.plan import ROOMS, random_plan

SEEDS = range(25)


def plans(level: Level) -> list[House]:
    return [random_plan(f"h{seed}", level, random.Random(seed)) for seed in SEEDS]


@pytest.mark.parametrize("level", LEVELS)
def test_a_plan_has_as_many_rooms_as_its_level_says(level: Level) -> None:
    low, high = ROOMS[level]
    for house in plans(level):
        kinds = [room.kind for room in house.rooms if room.kind != "stairs"]
        assert low <= len(kinds) <= high
        assert all(kinds.count(kind) <= max(ROOM_KINDS[kind].most, house.storeys) for kind in kinds)
        assert [room.id for room in house.rooms] == list(range(len(house.rooms)))


@pytest.mark.parametrize("level", LEVELS)
def test_rooms_of_a_storey_do_not_overlap(level: Level) -> None:
    for house in plans(level):
        for a, b in combinations(house.rooms, 2):
            if a.storey == b.storey or "stairs" in (a.kind, b.kind):
                apart = [max(a.low[i] - b.high[i], b.low[i] - a.high[i]) for i in (0, 1)]
                assert max(apart) > WALL_M - 0.02, (house.name, a, b)


@pytest.mark.parametrize("level", LEVELS)
def test_openings_stand_in_the_wall_between_their_rooms(level: Level) -> None:
    for house in plans(level):
        for opening in house.openings:
            across = 1 if opening.along == "x" else 0
            for number in opening.rooms:
                room = house.rooms[number]
                nearest = min(abs(side - opening.centre[across]) for side in (room.low[across], room.high[across]))
                assert nearest == pytest.approx(WALL_M / 2, abs=0.02)
                ends = room.low[1 - across], room.high[1 - across]
                half = opening.width_m / 2
                assert ends[0] <= opening.centre[1 - across] - half <= opening.centre[1 - across] + half <= ends[1]
        assert len({frozenset(each.rooms) for each in house.openings}) >= len(house.openings) - len(house.flights)


@pytest.mark.parametrize("level", LEVELS)
def test_every_room_is_reached_from_every_other(level: Level) -> None:
    for house in plans(level):
        reached, waiting = {0}, [0]
        while waiting:
            for opening in house.openings_of[waiting.pop()]:
                fresh = set(opening.rooms) - reached
                reached |= fresh
                waiting += fresh
        assert len(reached) == len(house.rooms)


def test_bathrooms_are_dead_ends() -> None:
    for house in plans("standard"):
        for room in house.rooms:
            if room.kind == "bathroom":
                assert len(house.openings_of[room.id]) == 1


def test_some_long_houses_have_stairs_to_a_second_storey() -> None:
    two = [house for house in plans("long") if house.flights]
    assert len(SEEDS) / 5 < len(two) < len(SEEDS)
    for house in two:
        (flight,) = house.flights
        assert house.rooms[flight.room].kind == "stairs"
        assert math.dist(flight.foot, flight.head) == pytest.approx(4.0, abs=0.01)
        assert {opening.storey for opening in house.openings_of[flight.room]} == {0, 1}


def test_a_plan_comes_from_its_generator_alone_and_no_two_are_alike() -> None:
    every = [plan_key(house) for level in LEVELS for house in plans(level)]
    assert len(set(every)) == len(every)
    assert every == [plan_key(house) for level in LEVELS for house in plans(level)]
