import json
import math
from itertools import pairwise
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch

from vlkit.envs.graph_tables import (
    ELEVATIONS,
    HEADINGS,
    TURN,
    GraphTables,
    forward_slots,
    graph_tables,
    wrapped,
)
from vlkit.envs.r2r import Scan, read_episodes, read_scans

STOP, FORWARD, LEFT, RIGHT, UP, DOWN = range(6)


@pytest.fixture(scope="module")
def scans(small_world: Path) -> dict[str, Scan]:
    return read_scans(small_world / "connectivity", ["alpha", "beta"])


@pytest.fixture(scope="module")
def tables(scans: dict[str, Scan]) -> GraphTables:
    return graph_tables(scans)


def number(tables: GraphTables, viewpoint: str) -> int:
    return tables.index["alpha" if viewpoint.startswith("a") else "beta", viewpoint]


def ahead(tables: GraphTables, viewpoint: str, degrees: int, tilt: int = 0) -> str | None:
    """Where `forward` leads from this pose."""
    at = number(tables, viewpoint)
    slot = int(tables.forward[at, degrees // 30, 1 + tilt // 30])
    return None if slot < 0 else tables.names[int(tables.neighbours[at, slot])]


def test_the_rows_of_the_tables_are_the_scans_viewpoints(tables: GraphTables, scans: dict[str, Scan]) -> None:
    assert tables.scans == ("alpha", "beta")
    assert tables.names == scans["alpha"].viewpoints + scans["beta"].viewpoints
    for (scan, viewpoint), row in tables.index.items():
        assert tables.names[row] == viewpoint
        assert tables.scans[int(tables.building[row])] == scan
        assert int(tables.local[row]) == scans[scan].index[viewpoint]


def test_the_slots_hold_each_neighbour_once_and_minus_one_behind(tables: GraphTables, scans: dict[str, Scan]) -> None:
    assert tables.slots == 3  # a1, a2 and a3 have three
    for (name, viewpoint), row in tables.index.items():
        scan = scans[name]
        here = scan.index[viewpoint]
        expected = [scan.viewpoints[i] for i in np.flatnonzero(scan.adjacency[here])]
        found = [tables.names[i] for i in tables.neighbours[row].tolist() if i >= 0]
        assert found == expected
        assert tables.neighbours[row, len(expected) :].eq(-1).all()
        assert tables.lengths[row, len(expected) :].isinf().all()
        for slot, other in enumerate(expected):
            assert tables.lengths[row, slot] == pytest.approx(scan.edges[here, scan.index[other]])


def test_directions_are_clockwise_from_north_and_up_is_positive(tables: GraphTables) -> None:
    def direction(viewpoint: str, other: str) -> tuple[float, float]:
        at = number(tables, viewpoint)
        slot = tables.neighbours[at].tolist().index(number(tables, other))
        return math.degrees(tables.headings[at, slot]), math.degrees(tables.elevations[at, slot])

    assert direction("a1", "a2") == pytest.approx((0, 0))
    assert direction("a1", "a3") == pytest.approx((90, 0))
    assert direction("a1", "a0") == pytest.approx((180, 0))
    assert direction("a3", "a1") == pytest.approx((270, 0))
    assert direction("a5", "a6")[1] == pytest.approx(90)
    assert direction("a6", "a5")[1] == pytest.approx(-90)
    assert direction("b0", "b1") == pytest.approx(
        (math.degrees(math.atan2(2, 1.5)), math.degrees(math.atan2(0.1, 2.5)))
    )


def test_distances_are_the_scans_own(tables: GraphTables, scans: dict[str, Scan]) -> None:
    for name, scan in scans.items():
        rows = torch.tensor([tables.index[name, viewpoint] for viewpoint in scan.viewpoints])
        a, b = rows[:, None].expand(-1, len(rows)), rows[None, :].expand(len(rows), -1)
        np.testing.assert_array_equal(tables.distance(a, b).numpy(), scan.distances)


def test_the_next_slot_begins_a_shortest_path(tables: GraphTables, scans: dict[str, Scan]) -> None:
    for name, scan in scans.items():
        for start in scan.viewpoints:
            for goal in scan.viewpoints:
                a, b = torch.tensor([tables.index[name, start]]), torch.tensor([tables.index[name, goal]])
                slot = int(tables.next_slot(a, b))
                if start == goal or tables.distance(a, b).isinf():
                    assert slot == -1
                else:
                    onward = tables.distance(tables.neighbours[a, slot], b) + tables.lengths[a, slot]
                    assert float(onward) == pytest.approx(float(tables.distance(a, b)))


def test_the_next_slot_leads_straight_to_a_neighbour(tables: GraphTables) -> None:
    for row in range(len(tables.names)):
        for slot, neighbour in enumerate(tables.neighbours[row].tolist()):
            if neighbour >= 0:
                assert int(tables.next_slot(torch.tensor(row), torch.tensor(neighbour))) == slot


def test_forward_goes_to_the_viewpoint_nearest_the_image_centre(tables: GraphTables) -> None:
    assert ahead(tables, "a1", 0) == "a2"
    assert ahead(tables, "a1", 60) == "a3"
    assert ahead(tables, "a1", 120) == "a3"
    assert ahead(tables, "a3", 330) == "a4"
    assert ahead(tables, "a3", 300) == "a1"


def test_forward_leads_nowhere_where_no_viewpoint_is_within_40_degrees_sideways(tables: GraphTables) -> None:
    assert ahead(tables, "a1", 300) is None
    assert ahead(tables, "a0", 330) == "a1"
    assert ahead(tables, "a0", 60) is None
    assert [ahead(tables, "b5", degrees) for degrees in range(0, 360, 30)] == [None] * 12


def test_elevation_decides_among_viewpoints_but_hides_none(tables: GraphTables) -> None:
    assert ahead(tables, "a6", 0, tilt=30) == "a5"  # 90 degrees below: 120 degrees off the centre
    assert ahead(tables, "a5", 0, tilt=-30) == "a6"
    assert ahead(tables, "a5", 270, tilt=30) == "a3"  # a6 is straight up: its heading is north by convention


def test_a_viewpoint_behind_another_is_never_ahead(tables: GraphTables) -> None:
    everywhere = {ahead(tables, "a0", degrees, tilt) for degrees in range(0, 360, 30) for tilt in (-30, 0, 30)}
    assert everywhere == {"a1", None}


def test_the_classic_oracle_reaches_every_goal_around_hops_that_forward_never_takes(tables: GraphTables) -> None:
    for building in range(2):
        rows = (tables.building == building).nonzero()[:, 0]
        starts, goals = (each.flatten() for each in torch.meshgrid(rows, rows, indexing="ij"))
        joined = tables.distance(starts, goals).isfinite()
        viewpoint, goal = starts[joined], goals[joined]
        looks, tilts = torch.zeros_like(viewpoint), torch.ones_like(viewpoint)
        for _ in range(60):
            action = tables.classic.actions(viewpoint, goal, looks, tilts)
            slot = tables.forward[viewpoint, looks, tilts]
            assert (slot[action == FORWARD] >= 0).all()
            assert (tilts[action == UP] < ELEVATIONS - 1).all()
            assert (tilts[action == DOWN] > 0).all()
            viewpoint = torch.where(action == FORWARD, tables.neighbours[viewpoint, slot], viewpoint)
            looks = (looks + (action == RIGHT).long() - (action == LEFT).long()) % HEADINGS
            tilts = tilts + (action == UP).long() - (action == DOWN).long()
        assert torch.equal(viewpoint, goal)
        assert tables.classic.actions(viewpoint, goal, looks, tilts).eq(STOP).all()


def test_the_classic_oracle_turns_the_shorter_way_round(tables: GraphTables) -> None:
    def action(viewpoint: str, goal: str, degrees: int, tilt: int = 0) -> int:
        at, to = torch.tensor([number(tables, viewpoint)]), torch.tensor([number(tables, goal)])
        pose = torch.tensor([degrees // 30]), torch.tensor([1 + tilt // 30])
        return int(tables.classic.actions(at, to, *pose))

    assert action("a1", "a3", 0) == RIGHT
    assert action("a1", "a3", 60) == FORWARD
    assert action("a1", "a3", 210) == LEFT
    assert action("a1", "a1", 0) == STOP
    assert action("a0", "a2", 0) == FORWARD  # past a1: the hop to a2 itself cannot be taken
    assert action("a5", "a3", 180, tilt=30) == RIGHT


def test_the_classic_oracle_stops_where_forward_leads_nowhere_near(tmp_path: Path) -> None:
    # w lies behind v, and its only way in is past it.
    positions = {"u": 0.0, "v": 1.0, "w": 2.0}
    joined = {"u": "vw", "v": "u", "w": "u"}
    items = [
        {
            "image_id": name,
            "pose": [1, 0, 0, 0, 0, 1, 0, y, 0, 0, 1, 0, 0, 0, 0, 1],
            "included": True,
            "unobstructed": [other in joined[name] for other in positions],
        }
        for name, y in positions.items()
    ]
    (tmp_path / "s_connectivity.json").write_text(json.dumps(items))
    tables = graph_tables(read_scans(tmp_path, ["s"]))
    level, north = torch.tensor([1]), torch.tensor([0])
    assert int(tables.classic.actions(torch.tensor([0]), torch.tensor([1]), north, level)) == FORWARD
    assert int(tables.classic.actions(torch.tensor([0]), torch.tensor([2]), north, level)) == STOP


def test_tables_of_several_buildings_agree_with_those_of_each_alone(
    scans: dict[str, Scan], tables: GraphTables
) -> None:
    alone = graph_tables({"beta": scans["beta"]})
    first = len(scans["alpha"].viewpoints)
    own = alone.slots
    shifted = torch.where(tables.neighbours[first:, :own] >= 0, tables.neighbours[first:, :own] - first, -1)
    assert torch.equal(alone.neighbours, shifted)
    assert torch.equal(alone.headings, tables.headings[first:, :own])
    assert torch.equal(alone.forward, tables.forward[first:])
    assert torch.equal(alone.classic.towards, tables.classic.towards[first:, :own])


def test_tables_survive_pickling_and_moving(tables: GraphTables) -> None:
    assert tables.to("cpu") is tables
    copied = cloudpickle.loads(cloudpickle.dumps(tables))
    assert torch.equal(copied.neighbours, tables.neighbours)
    assert torch.equal(copied.forward, forward_slots(tables))


def test_no_buildings_are_refused() -> None:
    with pytest.raises(ValueError, match="no buildings"):
        graph_tables({})


def test_wrapped_angles_are_the_same_between_minus_pi_and_pi() -> None:
    angles = torch.linspace(-12, 12, steps=97)
    same = wrapped(angles)
    assert (same.abs() <= math.pi + 1e-6).all()
    torch.testing.assert_close(torch.sin(same), torch.sin(angles), rtol=0, atol=1e-5)


@pytest.mark.reference
def test_every_recorded_hop_of_the_2018_simulator_is_where_forward_leads(reference: Path) -> None:
    folder = reference / "r2r"
    episodes = {episode.id: episode for episode in read_episodes(folder / "agents" / "annotations_used", "val_seen")}
    tables = graph_tables(read_scans(folder / "connectivity", (episode.scan for episode in episodes.values())))
    runs = json.loads((folder / "agents" / "seq2seq_sample_imagenet_val_seen_iter_20000.json").read_text())
    hops = agreeing = 0
    for run in runs:
        episode = episodes[run["instr_id"]]
        assert wrapped(torch.tensor(round(episode.heading / TURN) * TURN - run["trajectory"][0][1])) == pytest.approx(
            0, abs=1e-4
        )
        for (here, heading, elevation), (there, _, _) in pairwise(run["trajectory"]):
            if here != there:
                at = tables.index[episode.scan, here]
                slot = int(tables.forward[at, round(heading / TURN) % HEADINGS, round(elevation / TURN) + 1])
                hops += 1
                agreeing += slot >= 0 and tables.names[int(tables.neighbours[at, slot])] == there
    assert (len(runs), hops, agreeing) == (1021, 5603, 5603)


@pytest.mark.reference
def test_three_percent_of_published_hops_are_never_ahead_and_each_has_a_way_around(reference: Path) -> None:
    folder = reference / "r2r" / "connectivity"
    tables = graph_tables(
        read_scans(folder, (file.name.removesuffix("_connectivity.json") for file in folder.glob("*.json")))
    )
    there = tables.neighbours >= 0
    taken = (tables.forward.flatten(1)[:, None, :] == torch.arange(tables.slots)[:, None]).any(dim=-1)
    assert (int(there.sum()), int((there & ~taken).sum())) == (42936, 1279)
    # The rows of both tables are of the same pairs.
    assert torch.equal(tables.classic.next_rows >= 0, tables.next_rows >= 0)
