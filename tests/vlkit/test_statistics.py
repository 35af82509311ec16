import itertools
import math

import numpy as np
import pytest

from vlkit.statistics import bootstrap_interval, bootstrap_intervals, paired_difference, spread


def test_equal_values_have_an_interval_of_no_width() -> None:
    interval = bootstrap_interval([0.3] * 7)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.3, 0.3, 0.3))


def test_two_items_have_the_interval_counted_by_hand() -> None:
    # Two draws of {0, 1} have means 0, 1/2, 1/2, 1: the middle half of these is exactly 1/2 .. 1/2 and all is 0 .. 1.
    assert bootstrap_interval([0.0, 1.0], confidence=0.4).low == 0.5
    assert bootstrap_interval([0.0, 1.0], confidence=0.4).high == 0.5
    assert bootstrap_interval([0.0, 1.0], confidence=0.95).low == 0.0
    assert bootstrap_interval([0.0, 1.0], confidence=0.95).high == 1.0


def test_three_items_have_the_quantiles_of_all_27_draws() -> None:
    values = [0.0, 1.0, 5.0]
    means = [sum(draw) / 3 for draw in itertools.product(values, repeat=3)]
    expected = np.quantile(means, [0.05, 0.95])
    interval = bootstrap_interval(values, resamples=50_000, confidence=0.9)
    assert [interval.low, interval.high] == pytest.approx(expected, abs=1e-9)


def test_a_large_sample_has_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(10, 2, 4000)
    interval = bootstrap_interval(values, resamples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    inside = 0
    for trial in range(400):
        interval = bootstrap_interval(generator.normal(1.5, 1.0, 60), resamples=400, confidence=0.9, seed=trial)
        inside += interval.low <= 1.5 <= interval.high
    # 360 expected, standard deviation 6; the percentile interval is a little narrow at 60 items.
    assert 335 <= inside <= 375


def test_metrics_share_the_draws() -> None:
    values = np.random.default_rng(3).random(50)
    low, high = bootstrap_intervals(np.stack([values, 2 * values + 1], axis=1))
    assert low.shape == high.shape == (2,)
    assert low[1] == pytest.approx(2 * low[0] + 1)
    assert high[1] == pytest.approx(2 * high[0] + 1)


def test_the_interval_of_a_metric_does_not_depend_on_the_metrics_beside_it() -> None:
    table = np.random.default_rng(4).random((40, 3))
    low, high = bootstrap_intervals(table, seed=5)
    alone = bootstrap_interval(table[:, 1], seed=5)
    assert (alone.low, alone.high) == pytest.approx((low[1], high[1]))


def test_copies_of_an_item_in_one_group_are_worth_one_item() -> None:
    values = np.random.default_rng(6).random(30)
    alone = bootstrap_interval(values)
    tripled = bootstrap_interval(np.repeat(values, 3), groups=np.repeat(np.arange(30), 3))
    pretended = bootstrap_interval(np.repeat(values, 3))
    assert (tripled.low, tripled.high) == pytest.approx((alone.low, alone.high))
    assert pretended.high - pretended.low < 0.75 * (tripled.high - tripled.low)


def test_groups_of_unequal_size_weigh_by_their_items() -> None:
    # Draws of two from {a: three items of 1, b: one item of 0}: means 1, 3/4, 3/4, 0.
    interval = bootstrap_interval([1, 1, 1, 0], groups=["a", "a", "a", "b"], confidence=0.4)
    assert (interval.mean, interval.low, interval.high) == (0.75, 0.75, 0.75)


def test_groups_may_come_in_any_order_and_type() -> None:
    values = np.random.default_rng(7).random(12)
    named = bootstrap_interval(values, groups=[f"path {i % 4}" for i in range(12)])
    numbered = bootstrap_interval(values, groups=np.arange(12) % 4)
    assert named == numbered


def test_blocks_of_resamples_cover_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(8).random(20)
    whole = bootstrap_interval(values, resamples=101)
    monkeypatch.setattr("vlkit.statistics.BLOCK", 200)
    assert bootstrap_interval(values, resamples=101) == whole


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(9).random(20)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_three_equal_gains_have_the_p_value_of_eight_signs() -> None:
    # Of the 8 ways to flip three equal differences only +++ and --- are as large: 2 / 8.
    difference = paired_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert difference.mean == 1.0
    assert difference.p_value == 0.25


def test_the_p_value_of_unequal_gains_is_counted_over_all_signs() -> None:
    gains = np.array([0.1, 0.7, -0.2, 0.4, 0.9])
    flips = [np.dot(signs, gains) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean(np.abs(flips) >= gains.sum() - 1e-9)
    assert paired_difference(gains, np.zeros(5)).p_value == expected


def test_many_pairs_draw_signs_and_agree_with_the_normal_test() -> None:
    gains = np.random.default_rng(10).normal(0.2, 1.0, 100)
    z = gains.mean() / (np.sqrt((gains**2).mean()) / 10)
    expected = math.erfc(abs(z) / math.sqrt(2))
    assert paired_difference(gains, np.zeros(100), resamples=20_000).p_value == pytest.approx(expected, abs=0.01)


def test_no_difference_is_no_surprise_and_p_is_never_zero() -> None:
    same = np.random.default_rng(11).random(30)
    assert paired_difference(same, same).p_value == 1.0
    assert paired_difference(same + 1, same, resamples=99).p_value == pytest.approx(0.01)


def test_grouped_pairs_flip_together() -> None:
    # Six equal gains in three groups: again 2 of 8.
    assert paired_difference([1.0] * 6, [0.0] * 6, groups=[0, 0, 1, 1, 2, 2]).p_value == 0.25


def test_a_spread_over_seeds_is_the_sample_deviation() -> None:
    # (1, 2, 3): squares of deviations 1 + 0 + 1, over n - 1 = 2.
    assert spread([1.0, 2.0, 3.0]).mean == 2.0
    assert spread([1.0, 2.0, 3.0]).deviation == 1.0
    assert spread([4.0]).deviation is None


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (np.zeros((0, 2)), {}, "at least one item"),
        (np.zeros(3), {}, "must be \\(items, metrics\\)"),
        ([[0.0], [np.nan]], {}, "1 of 2 items have a value that is not finite, first item 1"),
        ([[0.0], [1.0]], {"groups": [1]}, "one group an item"),
        ([[0.0]], {"resamples": 0}, "at least 1"),
        ([[0.0]], {"confidence": 95}, "between 0 and 1"),
    ],
)
def test_a_table_that_has_no_interval_is_refused(table: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(table, **options)  # type: ignore[arg-type]


def test_pairs_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="score the same items"):
        paired_difference([1.0, 2.0], [1.0])


def test_an_empty_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="one number a seed"):
        spread([])
