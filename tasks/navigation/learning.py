"""What a navigator is trained on: the expert's actions, how far it is, what its frames show, and the reward of arriving."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlkit.envs.navigation import CAMERA_M
from vlkit.tasks.navigation.model import DEPTH_STEP_M, NavigationPolicy, Outcome, Walks

NEAREST_M = 0.3  # a goal nearer than this is not pointed at
HIDDEN_M = 0.5  # what is seen in its direction is at most so much nearer than the goal
PADDING = -100  # stands for a category where there is no frame
NAMED_PATCHES = 12  # of each frame, drawn anew each time: naming all costs as much as the rest of the loss together


def imitation_loss(outcome: Outcome, walks: Walks) -> Tensor:
    """Cross-entropy with the expert's actions, weighted where these change (Wijmans et al. 2019, arXiv:1904.03461)."""
    each = F.cross_entropy(outcome.logits[walks.acting], walks.expert[walks.acting], reduction="none")
    weight = walks.weight[walks.acting]
    return (each * weight).sum() / weight.sum()


def progress_loss(outcome: Outcome, walks: Walks) -> Tensor:
    """Cross-entropy of the progress monitor with the share of the way that is done (Ma et al. 2019, arXiv:1901.03035)."""
    return F.binary_cross_entropy_with_logits(outcome.progress[walks.acting], walks.progress[walks.acting])


def semantics_loss(policy: NavigationPolicy, outcome: Outcome, walks: Walks, rarity: Tensor) -> Tensor:
    """Cross-entropy of what some patches of each frame show, with what the simulator knows.

    rarity (categories,): how likely a patch of each is to be asked for; else walls and floors are most of what is asked.
    """
    assert policy.name_patches is not None
    rows, columns = outcome.shape
    shown = at_patches(walks.categories, rows, columns)
    asked = torch.multinomial(rarity.to(shown.device)[shown], min(NAMED_PATCHES, rows * columns))
    named = policy.name_patches(of_patches(outcome.frames, asked))
    right = shown.gather(1, asked)
    right[int(walks.acting.sum()) :] = PADDING
    return F.cross_entropy(named.float().flatten(0, 1), right.flatten(), ignore_index=PADDING)


def at_patches(categories: Tensor, rows: int, columns: int) -> Tensor:
    """(frames, parts, parts) uint8 -> (frames, rows * columns) int64: the category in the middle of each patch"""
    # An encoder's patches need not be as large as the parts that are kept.
    down = ((torch.arange(rows, device=categories.device) + 0.5) * categories.shape[1] / rows).long()
    across = ((torch.arange(columns, device=categories.device) + 0.5) * categories.shape[2] / columns).long()
    return categories[:, down][:, :, across].flatten(1).long()


def of_patches(patches: Tensor, asked: Tensor) -> Tensor:
    """(frames, patches, dim), (frames, asked) -> (frames, asked, dim)"""
    return patches.gather(1, asked[:, :, None].expand(-1, -1, patches.shape[2]))


def rarity(categories: Tensor) -> Tensor:
    """uint8 of any shape -> (256,): one over the root of how often each category occurs, as if each occurred a little"""
    counts = torch.bincount(categories.flatten().long(), minlength=256)
    return (counts + 50).float().rsqrt()


def pointing_loss(outcome: Outcome, walks: Walks) -> Tensor:
    """-log of the share of attention on and around the patch where the goal is, over the frames in which it is in sight.

    Zero where the policy does not look at patches, and where no frame shows the goal.
    """
    if outcome.looked is None:
        return outcome.logits.new_zeros(())
    rows, columns = outcome.shape
    ahead, left, up = walks.goal.unbind(dim=1)
    near = ahead.clamp(min=0.1)
    across, down = (
        0.5 - 0.5 * left / near,
        0.5 + 0.5 * (CAMERA_M - up) / near,
    )  # shares of the frame, which sees 90 degrees
    column, row = (across * columns).long(), (down * rows).long().clamp(0, rows - 1)
    height, width = walks.depth.shape[1:3]
    pixel = (row.float() + 0.5) / rows * height, across.clamp(0, 1 - 1e-6) * width
    depth = walks.depth[torch.arange(len(near), device=near.device), pixel[0].long(), pixel[1].long(), 0] * DEPTH_STEP_M
    seen = (ahead > NEAREST_M) & (across >= 0) & (across < 1) & (up.abs() < CAMERA_M) & (depth > ahead - HIDDEN_M)
    if not bool(seen.any()):
        return outcome.logits.new_zeros(())
    away = torch.arange(rows * columns, device=near.device)
    beside = ((away // columns)[None] - row[seen, None]).abs().le(1) & (
        (away % columns)[None] - column[seen, None]
    ).abs().le(1)
    return -((outcome.looked[seen] * beside).sum(dim=1) + 1e-4).log().mean()


def weights(walks_expert: Tensor, last_action: Tensor, inflection: float) -> Tensor:
    """(...,), (...,) -> (...,): `inflection` where the expert does something else than was done before, 1 elsewhere"""
    return torch.where(walks_expert != last_action, inflection, 1.0)


def advantages(
    rewards: Tensor, values: Tensor, ended: Tensor, after: Tensor, *, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438): advantages and returns, (steps, envs).

    `ended` (steps, envs) is true where the episode ended with the step; `after` (envs,) is the value behind the last.
    """
    advantage = torch.zeros_like(after)
    columns = []
    for reward, value, end in zip(rewards.flip(0), values.flip(0), ended.flip(0), strict=True):
        going = (~end).float()
        delta = reward + discount * after * going - value
        advantage = delta + discount * gae_lambda * going * advantage
        columns.append(advantage)
        after = value
    every = torch.stack(columns[::-1])
    return every, every + values


def ppo_loss(log_probs: Tensor, before: Tensor, advantage: Tensor, *, clip: float) -> Tensor:
    """The clipped objective (Schulman et al. 2017, arXiv:1707.06347, equation 7), (steps,) each -> ()"""
    ratio = (log_probs - before).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
