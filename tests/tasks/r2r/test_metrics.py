"""The measures, by hand on a graph of five viewpoints, against published numbers, and against a plain implementation."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.r2r_judge import item_scores
from vlkit.envs import measures
from vlkit.envs.r2r import read_scan
from vlkit.tasks.r2r.metrics import LABELS, PUBLISHED, UNITS, scores

A, B, C, D, E = range(5)
# A --3-- B --4-- C --3-- D, and C --2-- E: the shortest paths are sums along these four edges.
DISTANCES = np.array(
    [
        [0, 3, 7, 10, 9],
        [3, 0, 4, 7, 6],
        [7, 4, 0, 3, 2],
        [10, 7, 3, 0, 5],
        [9, 6, 2, 5, 0],
    ],
    dtype=np.float64,
)
NAMES = ("length", "nav_error", "oracle_error", "steps", "success", "oracle_success", "spl", "ndtw", "sdtw", "cls")

# The path to follow is A B C: goal C, shortest 7 m, |R| = 3, so nDTW = exp(-DTW / 9).
STILL = (1 + math.exp(-3 / 3) + math.exp(-7 / 3)) / 3  # coverage of A B C from A alone
HALF_WAY = (1 + 1 + math.exp(-4 / 3)) / 3  # coverage from A and B
TABLE = {
    # The path itself: nothing to warp, all covered, as long as expected.
    "follows": ((A, B, C), (7, 0, 0, 2, 1, 1, 1, 1, 1, 1)),
    # 2 m past the goal is a success. DTW: C to E, 2 m. CLS: expected 7 m, walked 9 m, so 7 / (7 + 2).
    "goes past": ((A, B, C, E), (9, 2, 0, 3, 1, 1, 7 / 9, math.exp(-2 / 9), math.exp(-2 / 9), 7 / 9)),
    # Exactly 3 m past it is none, though the goal was passed. DTW 3 m. CLS: 7 / (7 + 3).
    "goes 3 m past": ((A, B, C, D), (10, 3, 0, 3, 0, 1, 0, math.exp(-3 / 9), 0, 0.7)),
    # Never moves. DTW: 0 + 3 + 7. CLS: nothing walked, so the length score is EPL / (EPL + EPL).
    "stays": ((A,), (0, 7, 7, 0, 0, 0, 0, math.exp(-10 / 9), 0, STILL / 2)),
    # Turns on the spot twice, stops at B. DTW: A A and B B cost nothing, C to B 4 m.
    "turns": (
        (A, A, B, B),
        (3, 4, 4, 3, 0, 0, 0, math.exp(-4 / 9), 0, HALF_WAY * 7 * HALF_WAY / (7 * HALF_WAY + (7 * HALF_WAY - 3))),
    ),
    # Goes back and forth, ends at the goal. DTW: A 0, B 0, then A again and B again beside B (3 + 0), C 0.
    "wavers": ((A, B, A, B, C), (13, 0, 0, 4, 1, 1, 7 / 13, math.exp(-3 / 9), math.exp(-3 / 9), 7 / 13)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_measures_are_those_worked_out_by_hand(name: str) -> None:
    path, expected = TABLE[name]
    row = scores(DISTANCES, [path], [(A, B, C)])
    assert {measure: float(row[measure][0]) for measure in NAMES} == pytest.approx(
        dict(zip(NAMES, expected, strict=True)), rel=0, abs=1e-12
    )


def test_where_the_goal_is_the_start_staying_is_perfect_and_a_round_trip_worth_nothing() -> None:
    both = scores(DISTANCES, [(A,), (A, B, A)], [(A,), (A,)])
    assert both["success"].tolist() == [1, 1]
    assert both["spl"].tolist() == [1, 0]
    assert both["cls"].tolist() == [1, 0]
    assert both["ndtw"].tolist() == pytest.approx([1, math.exp(-1)])  # DTW 0 + 3 + 0, |R| = 1


def test_items_scored_together_are_scored_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [path for path, _ in TABLE.values()] + [(A, B, C)]
    references = [(A, B, C)] * len(TABLE) + [(A, B, C, D, C, E)]
    alone = [scores(DISTANCES, [path], [reference]) for path, reference in zip(paths, references, strict=True)]
    for cells in (1, 40, 10_000):
        monkeypatch.setattr(measures, "CELLS_AT_ONCE", cells)
        together = scores(DISTANCES, paths, references)
        for measure in UNITS:
            assert together[measure].tolist() == [row[measure][0] for row in alone]


def test_an_agent_on_another_island_gets_zeros_and_no_warning() -> None:
    apart = np.array([[0, 3, np.inf], [3, 0, np.inf], [np.inf, np.inf, 0]])
    row = scores(apart, [(2,)], [(0, 1)])
    assert math.isinf(row["nav_error"][0])
    assert [row[name][0] for name in ("success", "oracle_success", "spl", "ndtw", "sdtw", "cls")] == [0] * 6


def test_no_items_give_empty_columns() -> None:
    assert {name: column.shape for name, column in scores(DISTANCES, [], []).items()} == dict.fromkeys(UNITS, (0,))


def test_an_empty_path_and_a_missing_reference_are_refused() -> None:
    with pytest.raises(ValueError, match="empty path"):
        scores(DISTANCES, [()], [(A,)])
    with pytest.raises(ValueError, match="2 paths and 1 references"):
        scores(DISTANCES, [(A,), (B,)], [(A,)])


def test_every_measure_has_a_label_and_every_published_name_a_measure() -> None:
    assert list(LABELS) == list(UNITS) == list(scores(DISTANCES, [(A,)], [(A,)]))
    assert set(PUBLISHED.values()) <= set(UNITS)


@given(seed=st.integers(0, 2**32 - 1), viewpoints=st.integers(2, 12), items=st.integers(1, 8))
def test_the_measures_agree_with_a_plain_implementation(seed: int, viewpoints: int, items: int) -> None:
    rng = random.Random(seed)
    graph = networkx.Graph()
    for node in range(1, viewpoints):  # a tree first, so that all are joined
        graph.add_edge(str(node), str(rng.randrange(node)), weight=rng.uniform(0.3, 4))
    for _ in range(viewpoints):
        a, b = rng.sample(range(viewpoints), 2)
        graph.add_edge(str(a), str(b), weight=rng.uniform(0.3, 4))
    distances = dict(networkx.all_pairs_dijkstra_path_length(graph))
    matrix = np.array([[distances[str(a)][str(b)] for b in range(viewpoints)] for a in range(viewpoints)])
    # A hop is as long as its edge, and an edge may be longer than the shortest path between its ends in this graph,
    # which real ones rule out: take the edges at the length of the shortest path.
    for a, b in graph.edges:
        graph[a][b]["weight"] = distances[a][b]

    def walk(start: int) -> list[int]:
        path = [start]
        for _ in range(rng.randrange(15)):
            path.append(path[-1] if rng.random() < 0.2 else int(rng.choice(sorted(graph[str(path[-1])]))))
        return path

    starts = [rng.randrange(viewpoints) for _ in range(items)]
    paths, references = [walk(start) for start in starts], [walk(start) for start in starts]
    columns = scores(matrix, paths, references)
    for i in range(items):
        plain = item_scores(graph, distances, list(map(str, paths[i])), list(map(str, references[i])))
        assert {name: float(columns[name][i]) for name in plain} == pytest.approx(plain, rel=0, abs=1e-9)


@pytest.mark.reference
def test_the_measures_are_those_of_the_public_fixture(reference: Path) -> None:
    fixture = json.loads((reference / "r2r/metrics/eval_metric_fixture.json").read_text())
    scan = read_scan(reference / "r2r/connectivity", fixture["scan"])
    positions = np.array([fixture["positions"][viewpoint] for viewpoint in scan.viewpoints])
    edges = np.where(scan.adjacency, np.linalg.norm(positions[:, None] - positions[None], axis=-1), np.inf)
    np.fill_diagonal(edges, 0)
    distances = np.array([_dijkstra(edges, start) for start in range(len(edges))])
    number = dict(zip(sorted(fixture["positions"]), range(1, 9), strict=True))  # the fixture's own names, 1 to 8

    def apart(a: int, b: int) -> float:
        index = {number[viewpoint]: i for i, viewpoint in enumerate(scan.viewpoints)}
        return float(distances[index[a], index[b]])

    predicted = [scan.index[viewpoint] for viewpoint in fixture["predicted_path"]]
    golden = [scan.index[viewpoint] for viewpoint in fixture["golden_path"]]
    columns = scores(distances, [predicted, predicted[:4]], [golden, golden])
    expected = fixture["expected"]
    ndtw = math.exp(-(apart(1, 3) + apart(4, 7) + apart(6, 5)) / (3 * 4))
    assert apart(1, 2) == pytest.approx(expected["shortest_path_1_to_2"], rel=0, abs=1e-9)
    assert columns["nav_error"].tolist() == pytest.approx(
        [expected["navigation_error_full"], expected["navigation_error_stop_at_third_action(1,3,7,5)"]], rel=0, abs=1e-9
    )
    assert {name: columns[name][0] for name in ("length", "success", "oracle_success", "spl", "cls")} == pytest.approx(
        {
            "length": expected["path_length"],
            "success": expected["success"],
            "oracle_success": expected["oracle_success"],
            "spl": expected["spl"],
            "cls": expected["cls"],
        },
        rel=0,
        abs=1e-9,
    )
    assert columns["ndtw"][0] == columns["sdtw"][0] == pytest.approx(ndtw, rel=0, abs=1e-9)


def _dijkstra(edges: np.ndarray, start: int) -> Sequence[float]:
    lengths = networkx.single_source_dijkstra_path_length(
        networkx.from_numpy_array(np.where(np.isfinite(edges), edges, 0)), start
    )
    return [lengths[i] for i in range(len(edges))]
