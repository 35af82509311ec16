"""Furniture: in its room, clear of doors and of one another, where people put it, in colours that a split may show."""

from itertools import combinations

import pytest

from vlkit.envs.house.catalogue import HELD_OUT, KINDS
from vlkit.envs.house.furnish import footprint, overlap, random_house
from vlkit.envs.house.house import LEVELS, STOREY_M, House, Level, layout_key, plan_key

STANDING = ("wall", "corner", "centre", "around")


def houses(level: Level, count: int = 12, *, held_out: bool = False) -> list[House]:
    return [random_house(f"h{i}", level, 3, held_out=held_out) for i in range(count)]


@pytest.mark.parametrize("level", LEVELS)
def test_things_stand_in_their_rooms_and_not_in_one_another(level: Level) -> None:
    for house in houses(level):
        for room in house.rooms:
            things = house.furniture_of[room.id]
            for thing in things:
                box = footprint(thing)
                assert room.low[0] - 0.01 <= box[0] <= box[2] <= room.high[0] + 0.01, (house.name, thing)
                assert room.low[1] - 0.01 <= box[1] <= box[3] <= room.high[1] + 0.01
                assert thing.kind in KINDS
                assert room.kind in KINDS[thing.kind].rooms
                assert thing.colour in KINDS[thing.kind].colours
            standing = [thing for thing in things if KINDS[thing.kind].rule in STANDING]
            for a, b in combinations(standing, 2):
                tucked = a.kind in KINDS[b.kind].beside or b.kind in KINDS[a.kind].beside
                x0, z0, x1, z1 = footprint(a)
                less = 0.05 if tucked else 0.0
                assert not overlap((x0 + less, z0 + less, x1 - less, z1 - less), footprint(b)), (house.name, a, b)


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_stands_in_front_of_an_opening(level: Level) -> None:
    for house in houses(level):
        for opening in house.openings:
            x, z = opening.centre
            half = opening.width_m / 2
            along = opening.along == "x"
            way = (x - half, z - 0.9, x + half, z + 0.9) if along else (x - 0.9, z - half, x + 0.9, z + half)
            for thing in house.furniture:
                if KINDS[thing.kind].rule in STANDING and house.rooms[thing.room].storey == opening.storey:
                    assert not overlap(way, footprint(thing)), (house.name, opening, thing)


def test_beds_stand_with_their_heads_to_a_wall_and_chairs_face_their_table() -> None:
    for house in houses("standard"):
        for thing in house.furniture:
            room = house.rooms[thing.room]
            if KINDS[thing.kind].rule == "wall":
                back = [
                    at - front * thing.size[2] / 2 for at, front in zip(thing.centre[::2], thing.front, strict=True)
                ]
                gaps = [abs(back[i] - side[i]) for i in (0, 1) if thing.front[i] for side in (room.low, room.high)]
                assert min(gaps) < 0.03, thing
            if thing.kind == "chair":
                tables = [each for each in house.furniture_of[thing.room] if each.kind in KINDS["chair"].beside]
                towards = [
                    sum(
                        (b - a) * front
                        for a, b, front in zip(thing.centre[::2], t.centre[::2], thing.front, strict=True)
                    )
                    for t in tables
                ]
                assert max(towards) > 0, thing


def test_what_stands_on_something_stands_on_its_top() -> None:
    found = 0
    for house in houses("standard"):
        for thing in house.furniture:
            if thing.on is not None:
                host = house.furniture[thing.on - 1]
                assert host.kind in KINDS[thing.kind].beside
                assert thing.centre[1] == pytest.approx(host.centre[1] + host.size[1])
                found += 1
            else:
                assert thing.centre[1] >= house.rooms[thing.room].storey * STOREY_M
    assert found > 10


def test_held_out_colours_are_shown_where_they_may_be_and_nowhere_else() -> None:
    seen = {(thing.kind, thing.colour) for house in houses("standard") for thing in house.furniture}
    assert not seen & HELD_OUT
    unseen = {(thing.kind, thing.colour) for house in houses("standard", held_out=True) for thing in house.furniture}
    assert len(unseen & HELD_OUT) > 8


def test_houses_hold_most_kinds_and_no_two_are_alike() -> None:
    every = [house for level in LEVELS for house in houses(level, 20)]
    assert len({thing.kind for house in every for thing in house.furniture}) >= 55
    assert len({layout_key(house) for house in every}) == len({plan_key(house) for house in every}) == len(every)


def test_a_house_is_made_by_its_arguments_alone() -> None:
    assert random_house("h", "long", 5) == random_house("h", "long", 5)
    assert random_house("h", "long", 5) != random_house("h", "long", 6)
    house = random_house("h", "long", 5)
    assert House.from_json(house.to_json()) == house
