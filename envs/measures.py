"""The measures of navigation on a graph, from shortest-path distances and paths of viewpoint numbers.

`scores` computes all of them for many trajectories of one building; the functions below it are one measure each.
Distances are metres along the graph, never straight lines through walls, and rates are fractions.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

SUCCESS_M = 3.0  # Anderson et al. 2018 (R2R); also the scale on which nDTW and CLS forget

# Every column that `scores` returns, in the order in which tables print them, with its unit.
UNITS = {
    "length": "m",
    "nav_error": "m",
    "oracle_error": "m",
    "steps": "entries",
    "success": "fraction",
    "oracle_success": "fraction",
    "spl": "fraction",
    "ndtw": "fraction",
    "sdtw": "fraction",
    "cls": "fraction",
}

CELLS_AT_ONCE = 2_000_000  # of the table (items, reference steps, steps): 16 MB, whatever one item's length


def scores(
    distances: Floats, paths: Sequence[Sequence[int]], references: Sequence[Sequence[int]]
) -> dict[str, NDArray[Any]]:
    """Every measure of each item: the columns of `UNITS`, each (items,).

    `distances` (viewpoints, viewpoints) holds the metres between the viewpoints of one building, `paths` where the
    agent was, `references` where it should have been, goal last. A viewpoint may be repeated (an agent that turns on
    the spot): it adds nothing to the length, but is one more element of the path for nDTW, as in the published code.
    Raises ValueError for an empty path, or lists of unequal number.
    """
    if len(paths) != len(references):
        raise ValueError(f"{len(paths)} paths and {len(references)} references; give one reference a path")
    if not all(map(len, paths)) or not all(map(len, references)):
        raise ValueError("an empty path; a path has at least the viewpoint where the agent starts")
    columns: dict[str, NDArray[Any]] = {
        name: np.zeros(len(paths), dtype=np.int64 if unit == "entries" else np.float64) for name, unit in UNITS.items()
    }
    for items in _chunks(paths, references):
        for name, column in _scores(distances, [paths[i] for i in items], [references[i] for i in items]).items():
            columns[name][items] = column
    return columns


def _scores(
    distances: Floats, paths: Sequence[Sequence[int]], references: Sequence[Sequence[int]]
) -> dict[str, NDArray[Any]]:
    path, counts = padded(paths)
    reference, reference_counts = padded(references)
    return scores_of(
        distances[reference[:, :, None], path[:, None, :]],
        counts=counts,
        reference_counts=reference_counts,
        length=lengths(distances, path),
        reference_length=lengths(distances, reference),
        shortest=distances[reference[:, 0], reference[:, -1]],
    )


def scores_of(
    apart: Floats,
    *,
    counts: Numbers,
    reference_counts: Numbers,
    length: Floats,
    reference_length: Floats,
    shortest: Floats,
) -> dict[str, NDArray[Any]]:
    """Every measure from distances that were looked up already, so that items may be of different buildings.

    `apart` (items, reference steps, steps) metres between reference and path, both padded by repeating their last
    viewpoint; the others (items,): true steps of both, metres of both, metres of the shortest path.
    """
    to_goal = apart[:, -1, :]  # the padding repeats the goal, so it is the last row of every item
    nav_error = to_goal[:, -1]
    oracle_error = to_goal.min(axis=1)
    success = succeeded(nav_error)
    warped = ndtw(dtw(apart, reference_counts, counts), reference_counts)
    return {
        "length": length,
        "nav_error": nav_error,
        "oracle_error": oracle_error,
        "steps": counts - 1,
        "success": success,
        "oracle_success": succeeded(oracle_error),
        "spl": spl(success, length, shortest),
        "ndtw": warped,
        "sdtw": success * warped,
        "cls": cls(apart, reference_counts, length, reference_length),
    }


def padded(paths: Sequence[Sequence[int]]) -> tuple[Numbers, Numbers]:
    """Paths of several lengths -> (items, steps), the last viewpoint repeated, and how many are true (items,).

    Repeating the last viewpoint changes neither length, nor nearest distance, nor coverage; only DTW must be told.
    """
    counts = np.array([len(path) for path in paths], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(paths), dtype=np.int64, count=int(counts.sum()))
    steps = np.minimum(np.arange(counts.max(initial=0)), counts[:, None] - 1)
    return flat[(np.cumsum(counts) - counts)[:, None] + steps], counts


def lengths(distances: Floats, paths: Numbers) -> Floats:
    """TL: metres from each viewpoint to the following one, summed; (items, steps) -> (items,)"""
    return summed(distances[paths[:, :-1], paths[:, 1:]])


def succeeded(error: Floats) -> Floats:
    """SR: 1 where the metres to the goal are under 3, strictly (Anderson et al. 2018, arXiv:1711.07280); any shape"""
    return (error < SUCCESS_M).astype(np.float64)


def spl(success: Floats, length: Floats, shortest: Floats) -> Floats:
    """Success weighted by path length, S * l / max(p, l) (Anderson et al. 2018, arXiv:1807.06757, eq. 1); -> (items,)

    `length` p and `shortest` l (start to goal) in metres. Where both are 0 the agent rightly stayed: S.
    """
    longest = np.maximum(length, shortest)
    return success * np.divide(shortest, longest, out=np.ones_like(longest), where=longest > 0)


def dtw(apart: Floats, reference_counts: Numbers, counts: Numbers) -> Floats:
    """Dynamic time warping: the least sum of metres over all alignments (Ilharco et al. 2019, arXiv:1907.05446).

    total(i, j) = apart(i, j) + min(total(i - 1, j), total(i, j - 1), total(i - 1, j - 1))

    `apart` (items, reference steps, steps) holds the metres between the elements of reference and path, of which the
    first `reference_counts` and `counts` (items,) are true -> (items,) metres.
    """
    items, reference_steps, steps = apart.shape
    total = np.full((reference_steps + 1, steps + 1, items), np.inf)
    total[0, 0] = 0.0
    cost = np.ascontiguousarray(apart.transpose(1, 2, 0))  # items last: each of the small steps below is one vector
    # Along a diagonal no cell waits for another, so that each is one step for numpy.
    for diagonal in range(reference_steps + steps - 1):
        i = np.arange(max(diagonal - steps + 1, 0), min(diagonal + 1, reference_steps))
        j = diagonal - i
        best = np.minimum(np.minimum(total[i, j], total[i, j + 1]), total[i + 1, j])
        total[i + 1, j + 1] = best + cost[i, j]
    return total[reference_counts, counts, np.arange(items)]


def ndtw(warping: Floats, reference_counts: Numbers, radius: Floats | float = SUCCESS_M) -> Floats:
    """exp(-DTW / (|R| * radius of success)) (Ilharco et al. 2019, arXiv:1907.05446); metres (items,) -> (items,)

    Success times this is SDTW, of the same paper.
    """
    return np.exp(-warping / (reference_counts * radius))


def summed(values: Floats) -> Floats:
    """(items, steps) -> (items,): one after the other, so that zeros behind them, which are padding, do not change a bit"""
    every: Floats = np.cumsum(values, axis=1)
    return every[:, -1] if values.shape[1] else np.zeros(len(values))


def cls(
    apart: Floats,
    reference_counts: Numbers,
    length: Floats,
    reference_length: Floats,
    radius: Floats | float = SUCCESS_M,
) -> Floats:
    """Coverage weighted by length score, PC * EPL / (EPL + |EPL - PL(P)|) (Jain et al. 2019, arXiv:1905.12255)

    Path coverage PC is the mean of exp(-d / radius of success) over the *reference* (the public code's doctest passes its two paths
    the other way round), and the expected length EPL is PC * PL(R). Metres -> (items,) fractions.
    """
    true = np.arange(apart.shape[1]) < reference_counts[:, None]
    near = np.exp(-apart.min(axis=2) / np.reshape(radius, (-1, 1)))
    coverage = summed(np.where(true, near, 0.0)) / reference_counts
    expected = coverage * reference_length
    both = expected + np.abs(expected - length)
    # Where both are 0 the path is as long as expected, and the equation's limit is 1.
    weighted: Floats = coverage * np.divide(expected, both, out=np.ones_like(both), where=both > 0)
    return weighted


def _chunks(paths: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> Iterator[Numbers]:
    """Item numbers, short items first, in groups whose padded tables stay small."""
    cells = np.array([len(path) * len(reference) for path, reference in zip(paths, references, strict=True)])
    order = np.argsort(cells, kind="stable")
    start = 0
    while start < len(order):
        end, steps, reference_steps = start, 0, 0
        while end < len(order):
            steps = max(steps, len(paths[order[end]]))
            reference_steps = max(reference_steps, len(references[order[end]]))
            if end > start and (end + 1 - start) * steps * reference_steps > CELLS_AT_ONCE:
                break
            end += 1
        yield order[start:end]
        start = end
