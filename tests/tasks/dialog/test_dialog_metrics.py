"""Metrics of ranked options agree with plain loops, and ties are what the mode says."""

import math
import random

import numpy as np
import pytest

from vlkit.tasks.dialog.metrics import METRICS, Mode, ndcg, ranks, retrieval, right_ranks, summary


def plain_rank(scores: list[float], option: int, mode: Mode) -> float:
    above = sum(each > scores[option] for each in scores)
    if mode == "compat":
        return 1 + above + sum(each == scores[option] for each in scores[:option])
    return 1 + above + (sum(each == scores[option] for each in scores) - 1) / 2


def plain_ndcg(scores: list[float], relevance: list[float], mode: Mode) -> float:
    count = sum(each != 0 for each in relevance)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    gains = [relevance[i] for i in order]
    if mode == "fixed":
        for value in set(scores):
            tied = [place for place, i in enumerate(order) if scores[i] == value]
            mean = sum(gains[place] for place in tied) / len(tied)
            for place in tied:
                gains[place] = mean
    reached = sum(gains[i] / math.log2(i + 2) for i in range(count))
    best = sum(gain / math.log2(i + 2) for i, gain in enumerate(sorted(relevance, reverse=True)[:count]))
    return reached / best


@pytest.mark.parametrize("mode", ["fixed", "compat"])
@pytest.mark.parametrize("levels", [2, 7, 10_000])
def test_ranks_and_gains_are_those_of_plain_loops(mode: Mode, levels: int) -> None:
    rng = random.Random(levels)
    scores = [[float(rng.randrange(levels)) for _ in range(30)] for _ in range(40)]
    relevance = [[rng.choice((0.0, 0.0, 0.0, 0.4, 1.0)) for _ in range(29)] + [0.8] for _ in range(40)]
    right = [rng.randrange(30) for _ in range(40)]
    every = [[plain_rank(row, i, mode) for i in range(30)] for row in scores]
    np.testing.assert_array_equal(ranks(scores, mode), every)
    own = [row[i] for row, i in zip(every, right, strict=True)]
    np.testing.assert_array_equal(right_ranks(scores, right, mode), own)
    gains = [plain_ndcg(row, how, mode) for row, how in zip(scores, relevance, strict=True)]
    np.testing.assert_allclose(ndcg(scores, relevance, mode), gains, rtol=0, atol=1e-12)
    found = summary(own, gains)
    assert found["mrr"] == pytest.approx(sum(1 / rank for rank in own) / 40, abs=1e-12)
    assert found["r@5"] == sum(rank <= 5 for rank in own) / 40
    assert found["mean_rank"] == pytest.approx(sum(own) / 40)
    assert found["ndcg"] == pytest.approx(sum(gains) / 40, abs=1e-12)


def test_scoring_everything_alike_gains_nothing() -> None:
    scores = np.zeros((1, 100))
    assert right_ranks(scores, [0])[0] == 50.5
    assert right_ranks(scores, [0], "compat")[0] == 1, "the first of the file, as a sort leaves it"
    relevance = np.zeros((1, 100))
    relevance[0, 0] = 1
    assert ndcg(scores, relevance)[0] == pytest.approx(0.01)
    assert ndcg(scores, relevance, "compat")[0] == 1


def test_the_mean_over_all_orders_of_ties_is_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    scores, relevance = np.array([3.0, 1, 1, 1, 0]), np.array([0.0, 1, 0.5, 0, 0.2])
    drawn = [ndcg((scores + 1e-6 * rng.permutation(5))[None], relevance[None])[0] for _ in range(4000)]
    assert ndcg(scores[None], relevance[None])[0] == pytest.approx(np.mean(drawn), abs=0.01)


def test_a_round_in_which_nothing_is_right_has_no_gain() -> None:
    assert np.isnan(ndcg([[1.0, 2.0]], [[0.0, 0.0]])[0])
    assert "ndcg" not in summary([1, 2], [math.nan])
    assert list(summary([1, 2])) == list(METRICS)
    assert retrieval([1, 4]).tolist() == [[1, 1, 1, 1, 1], [0.25, 0, 1, 1, 4]]


def test_what_is_no_score_is_told() -> None:
    with pytest.raises(ValueError, match="the score of option 1 in row 0 is no number"):
        ranks([[1.0, math.nan]])
    with pytest.raises(ValueError, match=r"expected \(rounds, options\)"):
        right_ranks([1.0, 2.0], [0])
    with pytest.raises(ValueError, match="one for each option"):
        ndcg([[1.0, 2.0]], [[1.0]])


def test_what_is_not_there_is_ranked_last() -> None:
    assert ranks([[1.0, -math.inf, 3.0]]).tolist() == [[2, 3, 1]]
