"""Losses by hand, on a table of two walks: the first stops at step 1, the second is cut behind step 2."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlkit.tasks.r2r.agents import Rollout
from vlkit.tasks.r2r.learning import Reward, actor_critic_loss, imitation_loss, progress_loss

INF = math.inf
# Probabilities (steps, envs, actions); the second walk has two actions at its last step.
CHANCES = [
    [[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]],
    [[0.25, 0.25, 0.5], [0.1, 0.1, 0.8]],
    [[1.0, 0.0, 0.0], [0.75, 0.25, 0.0]],
]
VALUES = [[1.0, 0.5], [2.0, -1.0], [7.0, 0.25]]
DISTANCE = [[6.0, 5.0], [2.5, 8.0], [2.5, 8.0], [2.5, 4.0]]


def walks(log_probs: Tensor | None = None, values: Tensor | None = None) -> Rollout:
    return Rollout(
        log_probs=torch.tensor(CHANCES).log() if log_probs is None else log_probs,
        values=torch.tensor(VALUES) if values is None else values,
        progress=torch.tensor([[0.25, 0.5], [0.5, 0.5], [0.9, 0.5]]),
        actions=torch.tensor([[1, 2], [0, 1], [0, 1]]),
        oracle=torch.tensor([[2, 0], [0, 2], [1, 1]]),
        acting=torch.tensor([[True, True], [True, True], [False, True]]),
        distance=torch.tensor(DISTANCE, dtype=torch.float64),
        final_value=torch.tensor([0.0, 3.0]),
    )


# First: nearer, then a stop within 3 m. Second: away, no change, nearer.
REWARDS = [[0.8, -1.2], [2.0, -0.2], [0.0, 0.8]]
# From the end, with a discount of 0.9; what the critic expects behind the cut counts.
LAST = 0.8 + 0.9 * 3.0
RETURNS = [[0.8 + 0.9 * 2.0, -1.2 + 0.9 * (-0.2 + 0.9 * LAST)], [2.0, -0.2 + 0.9 * LAST], [0.0, LAST]]


def entropy(*chances: float) -> float:
    return -sum(chance * math.log(chance) for chance in chances)


def test_the_reward_by_hand() -> None:
    torch.testing.assert_close(Reward().of(walks()), torch.tensor(REWARDS))
    other = Reward(progress=2.0, step=-0.5, stop=3.0).of(walks())
    torch.testing.assert_close(other, torch.tensor([[1.5, -2.5], [3.0, -0.5], [0.0, 1.5]]))


def test_stopping_at_3_metres_is_too_far() -> None:
    distance = torch.tensor([[3.0, 2.999], [3.0, 2.999]], dtype=torch.float64)
    stops = torch.zeros(1, 2, dtype=torch.int64)
    both = replace(walks(), distance=distance, actions=stops, acting=torch.ones(1, 2, dtype=torch.bool))
    assert Reward().of(both).tolist() == [[-2.0, 2.0]]


def test_imitation_by_hand() -> None:
    first = -(math.log(0.25) + math.log(0.25))
    second = -(math.log(0.2) + math.log(0.8) + math.log(0.25))
    assert float(imitation_loss(walks())) == pytest.approx((first + second) / 5)
    assert float(imitation_loss(walks(), slice(0, 1))) == pytest.approx(first / 2)
    assert float(imitation_loss(walks(), slice(1, None))) == pytest.approx(second / 3)


def test_progress_by_hand() -> None:
    # Done: 0 and 1 - 2.5 / 6 of the first; 0, then farther than the start, which is 0 too, of the second.
    first = [(0.25 - 0.0) ** 2, (0.5 - (1 - 2.5 / 6)) ** 2]
    second = [0.5**2, 0.5**2, 0.5**2]
    assert float(progress_loss(walks())) == pytest.approx(sum(first + second) / 5)
    assert float(progress_loss(walks(), slice(0, 1))) == pytest.approx(sum(first) / 2)


def test_a_walk_that_starts_at_its_goal_has_a_finite_progress_loss() -> None:
    there = replace(walks(), distance=torch.zeros(4, 2, dtype=torch.float64))
    # Nothing is left: all is done from the start.
    errors = [0.75**2, 0.5**2, 0.5**2, 0.5**2, 0.5**2]
    assert float(progress_loss(there)) == pytest.approx(sum(errors) / 5)


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1), slice(1, None)])
@pytest.mark.parametrize("entropy_weight", [0.0, 0.1])
def test_actor_critic_by_hand(rows: slice, entropy_weight: float) -> None:
    taken = [[0.25, 0.4], [0.25, 0.1], [1.0, 0.25]]
    spread = [
        [entropy(0.5, 0.25, 0.25), entropy(0.2, 0.4, 0.4)],
        [entropy(0.25, 0.25, 0.5), entropy(0.1, 0.1, 0.8)],
        [0.0, entropy(0.75, 0.25)],
    ]
    total, steps, starts = 0.0, 0, []
    for env in range(2)[rows]:
        starts.append(RETURNS[0][env])
        for step in range(3 - (env == 0)):
            advantage = RETURNS[step][env] - VALUES[step][env]
            total += -math.log(taken[step][env]) * advantage + advantage**2 / 2 - entropy_weight * spread[step][env]
            steps += 1
    loss, mean = actor_critic_loss(walks(), Reward(), entropy_weight=entropy_weight, rows=rows)
    assert float(loss) == pytest.approx(total / steps)
    assert float(mean) == pytest.approx(sum(starts) / len(starts))


def test_the_actor_critic_gradient_by_hand() -> None:
    logits = torch.tensor(CHANCES).log().requires_grad_()
    values = torch.tensor(VALUES, requires_grad=True)
    loss, _ = actor_critic_loss(walks(logits.log_softmax(dim=2), values), Reward(), entropy_weight=0.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert values.grad is not None
    for step, env, taken in ((0, 0, 1), (2, 1, 1)):
        advantage = RETURNS[step][env] - VALUES[step][env]
        # Of a softmax: the probability, less 1 for what was taken, times the advantage; five steps were taken.
        expected = [advantage * (chance - (i == taken)) / 5 for i, chance in enumerate(CHANCES[step][env])]
        assert logits.grad[step, env].tolist() == pytest.approx(expected, abs=1e-6)
        assert float(values.grad[step, env]) == pytest.approx(-advantage / 5)
    assert logits.grad[2, 0].tolist() == [0, 0, 0]
    assert float(values.grad[2, 0]) == 0


def test_actions_that_are_not_there_leave_gradients_finite() -> None:
    logits = torch.tensor(CHANCES).log().requires_grad_()
    loss, _ = actor_critic_loss(walks(logits.log_softmax(dim=2)), Reward(), entropy_weight=0.5)
    (loss + imitation_loss(walks(logits.log_softmax(dim=2)))).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert logits.grad[2, 1, 2] == 0


def test_what_follows_the_end_of_a_walk_counts_nothing() -> None:
    plain = walks()
    log_probs, values = plain.log_probs.clone(), plain.values.clone()
    log_probs[2, 0], values[2, 0] = torch.tensor([0.2, 0.3, 0.5]).log(), -40.0
    other = replace(plain, log_probs=log_probs, values=values, progress=plain.progress.clone())
    other.progress[2, 0] = 0.0
    for one, two in (
        (imitation_loss(plain), imitation_loss(other)),
        (progress_loss(plain), progress_loss(other)),
        (
            actor_critic_loss(plain, Reward(), entropy_weight=0.1)[0],
            actor_critic_loss(other, Reward(), entropy_weight=0.1)[0],
        ),
    ):
        assert torch.equal(one, two)
