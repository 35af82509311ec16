"""How well options are ranked: recall at 1, 5 and 10, mean reciprocal rank, mean rank (Das et al. 2017), and NDCG (VisDial
2018), of all rounds at once.

Options that are scored alike have no order of their own, so a policy gives them one:

    fixed   each has the rank that is expected if their order is drawn: two that share the best score are both 1.5th. NDCG is
            the mean over all orders. A model that scores everything alike gains nothing by it.
    compat  the one that stands first in the file is ranked first, as the published code's sort does.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mode = Literal["fixed", "compat"]
Array = NDArray[np.float64]
RECALLS = (1, 5, 10)
METRICS = {"mrr": "fraction", **{f"r@{k}": "fraction" for k in RECALLS}, "mean_rank": "places"}
LABELS = {"mrr": "MRR", **{f"r@{k}": f"R@{k}" for k in RECALLS}, "mean_rank": "mean rank", "ndcg": "NDCG"}


def ranks(scores: ArrayLike, mode: Mode = "fixed") -> Array:
    """Scores (rounds, options), higher is better -> the rank of each option, from 1; what is -inf is ranked last.

    ValueError where a score is no number.
    """
    values = _checked(scores)
    rows = np.arange(len(values))[:, None]
    order = np.argsort(-values, axis=1, kind="stable")
    found = np.empty(values.shape)
    places = np.broadcast_to(np.arange(1.0, values.shape[1] + 1), values.shape)
    if mode == "compat":
        found[rows, order] = places
        return found
    ordered = np.take_along_axis(values, order, axis=1)
    first, last = _ties(ordered)
    found[rows, order] = (first + last) / 2 + 1
    return found


def right_ranks(scores: ArrayLike, right: ArrayLike, mode: Mode = "fixed") -> Array:
    """Scores (rounds, options), places of the right options (rounds,) -> their ranks (rounds,), as `ranks` has them."""
    values = _checked(scores)
    places = np.asarray(right)
    own = np.take_along_axis(values, places[:, None], axis=1)
    above, alike = (values > own).sum(axis=1), values == own
    if mode == "compat":
        before = np.arange(values.shape[1]) < places[:, None]
        first: Array = (1 + above + (alike & before).sum(axis=1)).astype(np.float64)
        return first
    expected: Array = 1 + above + (alike.sum(axis=1) - 1) / 2
    return expected


def retrieval(own_ranks: ArrayLike) -> Array:
    """Ranks of the right options (rounds,) -> (rounds, metrics), in the order of METRICS"""
    found = np.asarray(own_ranks, dtype=np.float64)
    return np.stack([1 / found, *(found <= k for k in RECALLS), found], axis=1)


def ndcg(scores: ArrayLike, relevance: ArrayLike, mode: Mode = "fixed") -> Array:
    """Scores (rounds, options), how right each option is (rounds, options) -> (rounds,), 0 to 1; nan where none is right.

    The gains of the first k options over log2(place + 1), k being how many are right at all, by what the best order has.
    """
    values, gains = _checked(scores), np.asarray(relevance, dtype=np.float64)
    if values.shape != gains.shape:
        raise ValueError(f"scores are {values.shape} and relevance {gains.shape}; one for each option")
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(gains, order, axis=1)
    if mode == "fixed":
        ordered = _shared(ordered, *_ties(np.take_along_axis(values, order, axis=1)))
    discount = 1 / np.log2(np.arange(values.shape[1]) + 2)
    counted = np.arange(values.shape[1]) < (gains != 0).sum(axis=1)[:, None]
    best = (-np.sort(-gains, axis=1) * discount * counted).sum(axis=1)
    reached = (ordered * discount * counted).sum(axis=1)
    found: Array = np.divide(reached, best, out=np.full(len(best), np.nan), where=best > 0)
    return found


def summary(own_ranks: ArrayLike, gains: ArrayLike = ()) -> Mapping[str, float]:
    """Ranks of the right options (rounds,), NDCG of some rounds -> the mean of each, under the names of METRICS."""
    table = retrieval(own_ranks).mean(axis=0)
    found = dict(zip(METRICS, table.tolist(), strict=True))
    values = np.asarray(gains, dtype=np.float64)
    return found | ({"ndcg": float(np.nanmean(values))} if np.isfinite(values).any() else {})


def _checked(scores: ArrayLike) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"scores are {values.shape}; expected (rounds, options)")
    if np.isnan(values).any():
        row, column = np.argwhere(np.isnan(values))[0].tolist()
        raise ValueError(f"the score of option {column} in row {row} is no number")
    return values


def _ties(ordered: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Scores in order (rounds, options) -> the first and last place of those that each is tied with."""
    count = ordered.shape[1]
    places = np.broadcast_to(np.arange(count), ordered.shape)
    new = np.ones(ordered.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.ones(ordered.shape, bool)
    ends[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(ends, places, count)[:, ::-1], axis=1)[:, ::-1]
    return first, last


def _shared(gains: Array, first: NDArray[np.int64], last: NDArray[np.int64]) -> Array:
    """Gains in order (rounds, options) -> each that of the mean of those it is tied with."""
    sums = np.concatenate([np.zeros((len(gains), 1)), gains.cumsum(axis=1)], axis=1)
    total = np.take_along_axis(sums, last + 1, axis=1) - np.take_along_axis(sums, first, axis=1)
    return np.asarray(total / (last - first + 1), np.float64)
