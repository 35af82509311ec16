"""How far a mean can be trusted: bootstrap intervals over episodes, spread over seeds, paired comparison."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Resamples are drawn in blocks of about so many numbers: a few tens of megabytes whatever the size of the table.
BLOCK = 4_000_000
# Up to so many groups the paired test goes through all signs instead of drawing some.
EXACT_GROUPS = 14


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that hold the true one with the asked confidence."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The mean of `first - second` over pairs, its interval, and how probable so large a difference is by chance."""

    mean: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and the sample standard deviation, which one seed alone does not have."""

    mean: float
    deviation: float | None


def bootstrap_intervals(
    table: ArrayLike,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """(items, metrics) -> lower and upper bounds (metrics,) of each metric's mean.

    The percentile bootstrap (Efron 1979): items are drawn with replacement, the same draw for all metrics.
    `groups` (items,) has equal entries where items are not independent, such as the instructions of one path: whole
    groups are drawn then. A table of one group has bounds equal to its mean, which say nothing.
    """
    sums, sizes = _group_sums(table, groups)
    _check(resamples, confidence)
    weights = np.concatenate([sums, sizes[:, None]], axis=1)
    generator = np.random.default_rng(seed)

    def block(count: int) -> Array:
        drawn = generator.integers(0, len(sizes), (count, len(sizes)))
        drawn += np.arange(count)[:, None] * len(sizes)
        times = np.bincount(drawn.ravel(), minlength=count * len(sizes)).reshape(count, len(sizes))
        totals = times.astype(np.float64) @ weights
        return np.asarray(totals[:, :-1] / totals[:, -1:], dtype=np.float64)

    means = _blocks(block, resamples, len(sizes))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high


def bootstrap_interval(
    values: ArrayLike,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Interval:
    """(items,) -> the mean and its interval, as `bootstrap_intervals` finds it."""
    column = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    low, high = bootstrap_intervals(column, resamples=resamples, confidence=confidence, seed=seed, groups=groups)
    return Interval(mean=float(column.mean()), low=float(low[0]), high=float(high[0]))


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Difference:
    """Two agents' scores (items,) on the same items -> the mean of first - second, its interval and p-value.

    The p-value is two-sided, from flipping the sign of each group's difference (Fisher's randomisation test): all
    signs up to 14 groups, `resamples` drawn ones above.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a pair needs both scores, but there are {a.shape} and {b.shape}; score the same items")
    interval = bootstrap_interval(a - b, resamples=resamples, confidence=confidence, seed=seed, groups=groups)
    sums = _group_sums((a - b).reshape(-1, 1), groups)[0][:, 0]
    # A flip leaves the number of items as it is, so sums stand for means. The margin is for sums in another order.
    limit = abs(sums.sum()) * (1 - 1e-12)
    if len(sums) <= EXACT_GROUPS:
        codes = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        p_value = float(np.mean(np.abs((1.0 - 2.0 * codes) @ sums) >= limit))
    else:
        generator = np.random.default_rng(seed)

        def block(count: int) -> Array:
            signs = generator.integers(0, 2, (count, len(sums)), dtype=np.int8)
            return np.abs((1.0 - 2.0 * signs) @ sums)

        # The observed signs count as one of the draws, so that p is never 0.
        p_value = float((1 + np.sum(_blocks(block, resamples, len(sums)) >= limit)) / (1 + resamples))
    return Difference(mean=interval.mean, low=interval.low, high=interval.high, p_value=p_value)


def spread(values: Sequence[float]) -> Spread:
    """One number a seed -> their mean and sample standard deviation."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"a spread needs one number a seed, but the shape is {numbers.shape}")
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
    return Spread(mean=float(numbers.mean()), deviation=deviation)


def _group_sums(table: ArrayLike, groups: ArrayLike | None) -> tuple[Array, Array]:
    """(items, metrics) -> sums (groups, metrics) and sizes (groups,)"""
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"the table must be (items, metrics) with at least one item, but its shape is {values.shape}")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} of {len(values)} items have a value that is not finite, first item {bad[0]}")
    if groups is None:
        return values, np.ones(len(values))
    labels: NDArray[Any] = np.asarray(groups)
    if labels.shape != (len(values),):
        raise ValueError(f"groups must name one group an item, ({len(values)},), but the shape is {labels.shape}")
    _, index = np.unique(labels, return_inverse=True)
    sums = np.stack([np.bincount(index, weights=column) for column in values.T], axis=1).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


def _check(resamples: int, confidence: float) -> None:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples} and must be at least 1; 2000 is usual")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence} and must lie between 0 and 1; 0.95 is usual")


def _blocks(block: Callable[[int], Array], resamples: int, width: int) -> Array:
    size = max(1, BLOCK // width)
    return np.concatenate([block(min(size, resamples - start)) for start in range(0, resamples, size)])
