"""What a navigator is trained on: imitation of the oracle, its own mistakes, and the reward of arriving."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlkit.envs.graph import STOP
from vlkit.envs.measures import SUCCESS_M
from vlkit.tasks.r2r.agents import Rollout


@dataclass(frozen=True)
class Reward:
    """A hop nearer to the goal or away from it, and stopping within 3 m or beyond (Tan et al. 2019, arXiv:1904.04195).

    The cost of a step is ours: without it a walk in circles loses nothing.
    """

    progress: float = 1.0
    step: float = -0.2
    stop: float = 2.0
    discount: float = 0.9

    def of(self, walks: Rollout) -> Tensor:
        """(steps, envs), zero where a walk has ended"""
        before, after = walks.distance[:-1], walks.distance[1:]
        hop = self.progress * torch.sign(before - after).float() + self.step
        stop = torch.where(after < SUCCESS_M, self.stop, -self.stop)
        return torch.where(walks.actions == STOP, stop, hop) * walks.acting


def imitation_loss(walks: Rollout, rows: slice = slice(None)) -> Tensor:
    """Cross-entropy with the oracle's actions, the mean over the steps taken in these environments."""
    picked = walks.log_probs[:, rows].gather(2, walks.oracle[:, rows, None])[:, :, 0]
    return -_mean(picked, walks.acting[:, rows])


def progress_loss(walks: Rollout, rows: slice = slice(None)) -> Tensor:
    """Squared error of the progress monitor: 1 - distance left / distance at the start (Ma et al. 2019).

    Below 0, which is farther away than the start, counts as 0: the estimate is a share.
    """
    start = walks.distance[0].clamp(min=1.0)  # a walk that starts at its goal has nothing to divide by
    done = (1 - walks.distance[:-1] / start).clamp(min=0).float()
    return _mean((walks.progress - done)[:, rows] ** 2, walks.acting[:, rows])


def actor_critic_loss(
    walks: Rollout, reward: Reward, *, entropy_weight: float, rows: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """Advantage actor-critic (Mnih et al. 2016, with returns to the end): loss, and the mean return at the start.

    A walk that was cut goes on in the critic's mind: what it expects of the state behind counts as the rest.
    """
    ahead, returns = walks.final_value.float(), []
    for rewards in reward.of(walks).flip(0):
        ahead = rewards + reward.discount * ahead
        returns.append(ahead)
    expected = torch.stack(returns[::-1])[:, rows]
    log_probs, values, acting = walks.log_probs[:, rows], walks.values[:, rows], walks.acting[:, rows]
    chosen = log_probs.gather(2, walks.actions[:, rows, None])[:, :, 0]
    actor = -chosen * (expected - values).detach()
    critic = (expected - values) ** 2 / 2
    # Choices that are not there have probability 0 and log-probability -inf, whose product would be NaN.
    there = log_probs.masked_fill(log_probs.isinf(), 0.0)
    entropy = -(there.exp() * there).sum(dim=2)
    return _mean(actor + critic - entropy_weight * entropy, acting), expected[0].mean()


def _mean(values: Tensor, acting: Tensor) -> Tensor:
    """(steps, envs) -> (): over the steps that were taken; what stands elsewhere, infinities too, is left out"""
    return torch.where(acting, values, 0.0).sum() / acting.sum()
