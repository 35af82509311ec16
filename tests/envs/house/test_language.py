"""Instructions: true to the geometry, enough for a follower that reads nothing else, and varied."""

import math
import random
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from vlkit.envs.house import lexicon
from vlkit.envs.house.benchmark import DETAILS, RULES, Walk, walks
from vlkit.envs.house.catalogue import KINDS, ROOM_KINDS
from vlkit.envs.house.follower import follow
from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.house import COLOURS, LEVELS, House, Level
from vlkit.envs.house.language import can_be_told, instruction, tellings, tokens
from vlkit.envs.house.mesh import house_scene
from vlkit.envs.house.routes import Stand, route_of, side_of
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings, nav_grid


@cache
def walked(level: Level, number: int) -> tuple[House, NavGrid, list[Walk]]:
    house = random_house(f"t{number}", level, 11)
    grid = nav_grid(house_scene(house), NavSettings(agent_radius=0.2), cache=False)
    return house, grid, walks(house, grid, 12, random.Random(number))


def told(level: Level) -> Iterator[tuple[House, NavGrid, Walk, str]]:
    rng = random.Random(0)
    for number in range(5):
        house, grid, every = walked(level, number)
        for walk in every:
            for detail in DETAILS:
                yield house, grid, walk, instruction(house, walk.route, rng, detail=detail)


@pytest.mark.parametrize("level", LEVELS)
def test_a_follower_of_the_text_alone_reaches_the_goal(level: Level) -> None:
    arrived = []
    for house, _, walk, text in told(level):
        end = follow(house, text, walk.start, walk.yaw)
        room = house.room_at(end)
        near = math.dist(end, walk.goal.position) < RULES[level].radius_m
        arrived.append(near and room is not None and room.id == walk.goal.room)
    assert np.mean(arrived) >= 0.97


def test_a_follower_of_another_text_does_not() -> None:
    arrived = []
    for level in LEVELS:
        every = [(house, walk, text) for house, _, walk, text in told(level)]
        for (house, walk, _), (_, _, other) in zip(every, every[40:] + every[:40], strict=True):
            end = follow(house, other, walk.start, walk.yaw)
            arrived.append(math.dist(end, walk.goal.position) < RULES[level].radius_m)
    assert np.mean(arrived) < 0.25


@pytest.mark.parametrize("level", LEVELS)
def test_instructions_have_15_to_60_words(level: Level) -> None:
    counts = [len(tokens(text)) for *_, text in told(level)]
    assert min(counts) >= 15
    assert max(counts) <= 60


def test_few_instructions_are_told_twice_and_many_words_are_used() -> None:
    texts = [text for level in LEVELS for *_, text in told(level)]
    assert len(set(texts)) > 0.99 * len(texts)
    assert len({word for text in texts for word in tokens(text)}) > 600  # of these few; of a whole data set over 800


def test_fine_instructions_say_more_than_coarse_ones() -> None:
    house, _, every = walked("standard", 0)
    rng = random.Random(1)
    counts = {
        detail: np.mean([len(tokens(instruction(house, walk.route, rng, detail=detail))) for walk in every * 4])
        for detail in DETAILS
    }
    assert counts["coarse"] < counts["medium"] < counts["fine"]


def test_sides_are_those_of_the_walker() -> None:
    north = Stand((0.0, 0.0), 0.0, 0)
    assert [side_of(north.angle_to(place)) for place in ((0, -2), (-2, 0), (2, 0), (0, 2))] == [
        "ahead",
        "left",
        "right",
        "behind",
    ]
    west = Stand((0.0, 0.0), math.pi / 2, 0)
    assert side_of(west.angle_to((-2, 0))) == "ahead"
    assert side_of(west.angle_to((0, -2))) == "right"


def test_a_word_of_side_is_where_the_walk_goes() -> None:
    """Of one-opening routes whose opening lies clearly aside, told with a side, the path itself turns there."""
    checked = 0
    for house, _, walk, text in told("standard"):
        leg = walk.route.legs[0]
        angle = leg.stand.angle_to(house.openings[leg.opening].centre)
        first = text.split(".")[0].lower()
        says = {side: any(phrase in first for phrase in lexicon.SIDES[side]) for side in ("left", "right")}
        passes = any(f"{past} the" in first for past in lexicon.PAST)  # then a side may be that of a thing
        if len(walk.route.legs) == 1 and 50 < abs(angle) < 130 and says["left"] != says["right"] and not passes:
            assert says["left" if angle > 0 else "right"], (text, angle)
            checked += 1
    assert checked > 3


def test_ordinals_count_from_the_nearest_and_leave_none_out() -> None:
    counted = 0
    for level in LEVELS:
        for number in range(5):
            house, _, every = walked(level, number)
            for walk in every:
                for leg in walk.route.legs:
                    for said in tellings(house, leg):
                        if said.ordinal is None:
                            continue
                        counted += 1
                        openings = [each for each in house.openings_of[leg.room] if each.id != leg.came]
                        same = [each for each in openings if side_of(leg.stand.angle_to(each.centre)) == said.side]
                        nearer = math.dist(house.openings[leg.opening].centre, leg.stand.place)
                        closer = [each for each in same if math.dist(each.centre, leg.stand.place) < nearer - 1e-6]
                        assert len(closer) in (said.ordinal - 1, said.ordinal - 2), "two sides may share an opening"
    assert counted > 20


def test_every_opening_of_a_walk_can_be_told_from_the_others() -> None:
    for level in LEVELS:
        for number in range(5):
            house, _, every = walked(level, number)
            assert all(can_be_told(house, walk.route) for walk in every)


def test_starters_cannot_be_guessed_from_where_they_face() -> None:
    goals = [
        len(
            {
                (round(other.goal.position[0], 1), round(other.goal.position[2], 1))
                for other in every
                if same(walk, other)
            }
        )
        for number in range(5)
        for _, _, every in [walked("starter", number)]
        for walk in every
    ]
    assert np.mean(goals) > 2, "of twelve walks, those through one opening end at several places"


def same(walk: Walk, other: Walk) -> bool:
    return walk.route.openings[0] == other.route.openings[0] and walk.route.rooms[0] == other.route.rooms[0]


def test_spelling_noise_changes_some_words_and_no_others() -> None:
    house, _, every = walked("starter", 0)
    clean = instruction(house, every[0].route, random.Random(2), detail="fine")
    noisy = instruction(house, every[0].route, random.Random(2), detail="fine", spelling_noise=0.3)
    pairs = list(zip(clean.split(), noisy.split(), strict=True))
    assert 0 < sum(a != b for a, b in pairs) < len(pairs)


def test_a_route_that_does_not_end_in_the_goals_room_is_none() -> None:
    house, _, every = walked("standard", 0)
    walk = every[0]
    path = np.array([walk.start, walk.start])
    assert route_of(house, path, 0.0, walk.goal) is None


def test_every_name_means_one_thing() -> None:
    for table, names in ((lexicon.THINGS, KINDS), (lexicon.ROOMS, ROOM_KINDS), (lexicon.COLOURS, COLOURS)):
        assert set(table) == set(names)
        every = [name for each in table.values() for name in each]
        assert len(set(every)) == len(every)
        assert all(name == name.lower() for name in every)


def test_a_text_that_says_nothing_leads_nowhere_and_is_no_error() -> None:
    house, _, every = walked("long", 0)
    for text in ("", ".", "sing a song", "stop", "go through the door", "climb the stairs. then stop at the moon"):
        assert len(follow(house, text, every[0].start, every[0].yaw)) == 3
