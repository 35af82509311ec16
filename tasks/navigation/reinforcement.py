"""Learning from the reward of arriving: PPO, and RCM with a critic that says how well a walk fits its instruction.

Where nobody knows the way, in houses of which there are instructions alone, the critic chooses: self-supervised imitation.
Rollouts are whole walks, so that nothing is left of one update in the next and a killed run goes on to the same numbers.
With several processes (`accelerate launch`, `torchrun`) each walks in its own environments and gradients are averaged:
decentralised PPO (Wijmans et al. 2020, arXiv:1911.00357).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlkit.batches import stream_seed
from vlkit.envs.navigation import STOP
from vlkit.processes import processes
from vlkit.tasks.navigation.critic import MatchingCritic
from vlkit.tasks.navigation.data import World
from vlkit.tasks.navigation.learning import advantages, imitation_loss, ppo_loss, weights
from vlkit.tasks.navigation.model import START, NavigationPolicy, Walks, depth_bytes
from vlkit.tasks.navigation.probes import blanked
from vlkit.tasks.navigation.rollouts import drawn, fitted, padded
from vlkit.tasks.navigation.settings import Config, walk_parts
from vlkit.train import Step


@dataclass(frozen=True)
class Experience:
    """Walks of the policy, with what it got for them."""

    walks: Walks
    taken: Tensor  # (batch, steps)
    log_probs: Tensor  # (batch, steps), when they were taken
    advantage: Tensor  # (batch, steps)
    returns: Tensor  # (batch, steps)
    success: float
    reward: float


class Reinforcement:
    """One step's loss: a part of the last walks; new walks where all parts have been gone over `epochs` times."""

    def __init__(self, settings: Config, walked: World, critic: MatchingCritic | None = None) -> None:
        self.settings, self.world, self.critic = settings, walked, critic
        self.experience: Experience | None = None
        self.cycle = -1

    def __call__(
        self, policy: NavigationPolicy, rows: Tensor, step: Step
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Rows say how many walks a step learns from -> the loss, and what to log"""
        settings, count = self.settings, len(rows)
        parts = walk_parts(settings, processes())
        cycle, place = divmod(step.index, parts * settings.epochs)
        if cycle != self.cycle or self.experience is None:
            episodes, limit = random_episodes(self.world, settings, step.seed)
            self.experience = experienced(
                policy, self.world, settings, self.critic, step.seed, step.device, episodes, limit
            )
            self.cycle = cycle
        order = torch.randperm(settings.num_envs, generator=torch.Generator().manual_seed(step.index // parts))
        part = chosen(self.experience, order[place % parts * count : (place % parts + 1) * count])
        walks = part.walks
        outcome = policy.over(walks)
        acting = walks.acting
        logs = outcome.logits.log_softmax(dim=2)
        taken = logs.gather(2, part.taken[:, :, None])[:, :, 0][acting]
        advantage = part.advantage[acting]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        actor = ppo_loss(taken, part.log_probs[acting], advantage, clip=settings.clip)
        value = F.mse_loss(outcome.value[acting], part.returns[acting])
        entropy = -(logs.exp() * logs).sum(dim=2)[acting].mean()
        loss = actor + settings.value_weight * value - settings.entropy * entropy
        logged: dict[str, float | Tensor] = {
            "actor": actor.detach(),
            "value": value.detach(),
            "entropy": entropy.detach(),
            "walk_success": self.experience.success,
            "walk_reward": self.experience.reward,
            "frames": walks.acting.sum(),
        }
        if settings.imitation_weight:
            imitation = imitation_loss(outcome, walks)
            logged["imitation"] = imitation.detach()
            loss = loss + settings.imitation_weight * imitation
        return loss, logged


class SelfImitation:
    """One step's loss: imitation of the policy's own walks that fit their instructions best (Wang et al. 2019, arXiv:
    1811.10092, section 3.4). Neither goals nor demonstrations are looked at: of `candidates` walks of an instruction the
    matching critic chooses.
    """

    def __init__(self, settings: Config, walked: World, critic: MatchingCritic) -> None:
        self.settings, self.world, self.critic = settings, walked, critic
        self.chosen: Walks | None = None
        self.fit = 0.0
        self.cycle = -1

    def __call__(
        self, policy: NavigationPolicy, rows: Tensor, step: Step
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """A step's rows only say how many -> the loss, and what to log"""
        cycle = step.index // self.settings.epochs
        if cycle != self.cycle or self.chosen is None:
            self.chosen, self.fit = self.explored(policy, step)
            self.cycle = cycle
        loss = imitation_loss(policy.over(self.chosen), self.chosen)
        return loss, {"imitation": loss.detach(), "fit": self.fit, "frames": self.chosen.acting.sum()}

    def explored(self, policy: NavigationPolicy, step: Step) -> tuple[Walks, float]:
        """The best walk of each of some instructions, as a demonstration; and how well these fit on average."""
        settings, env = self.settings, self.world.env
        generator = torch.Generator().manual_seed(step.seed)
        told = torch.randint(len(self.world.episodes), (env.num_envs // settings.candidates,), generator=generator)
        episodes = padded(told.repeat_interleave(settings.candidates), env.num_envs)
        limit = torch.full_like(episodes, settings.max_steps)
        own = experienced(policy, self.world, settings, None, step.seed, step.device, episodes, limit)
        with torch.no_grad():
            fit = self.critic.fit_of(own.walks)[: len(told) * settings.candidates].reshape(len(told), -1)
        best = torch.arange(len(told), device=fit.device) * settings.candidates + fit.argmax(dim=1)
        part = chosen(own, best)
        walks = replace(
            part.walks,
            expert=part.taken,
            weight=weights(part.taken, part.walks.last_action, settings.inflection),
        )
        return walks, float(fit.amax(dim=1).mean())


def random_episodes(walked: World, settings: Config, seed: int) -> tuple[Tensor, Tensor]:
    """(envs,) one to walk in each environment, and (envs,) after how many steps the walk is cut"""
    generator = torch.Generator().manual_seed(seed)
    episodes = torch.randint(len(walked.episodes), (walked.env.num_envs,), generator=generator)
    expected = torch.tensor([walked.steps_expected(int(each)) for each in episodes])
    return episodes, ((expected * settings.patience_factor).long() + 5).clamp(max=settings.max_steps)


@torch.no_grad()
def experienced(
    policy: NavigationPolicy,
    walked: World,
    settings: Config,
    critic: MatchingCritic | None,
    seed: int,
    device: torch.device,
    episodes: Tensor,
    limit: Tensor,
) -> Experience:
    """Lets the policy walk an episode in each environment (envs,), its actions drawn, to the end or the limit (envs,)."""
    env, generator = walked.env, torch.Generator().manual_seed(stream_seed(seed, "actions"))
    limit = limit.to(device)
    transform = blanked(settings.blank, walked.tokenizer.unknown)
    training = policy.training
    policy.eval()
    observation, info = env.reset(options={"episodes": episodes.to(env.device)})
    words, mask = fitted(transform(observation))
    memory = policy.start(words, mask)
    acting = torch.ones(env.num_envs, dtype=torch.bool, device=device)
    start = info["distance"].clamp(min=0.1)
    kept: list[tuple[Tensor, ...]] = []
    draws = torch.rand(env.num_envs, int(limit.max()), generator=generator).to(device)
    while bool(acting.any()):
        step = len(kept)
        seen = transform(observation)
        expert = info["oracle_action"]
        frame = seen["rgb"].clone(), depth_bytes(seen["depth"]), env.goal_offset()
        last = torch.where(observation["last_action"] < 0, START, observation["last_action"])
        logits, value, memory = policy(seen, memory)
        action = torch.where(acting, drawn(logits.softmax(dim=1), draws[:, min(step, draws.shape[1] - 1)]), STOP)
        log_prob = logits.log_softmax(dim=1).gather(1, action[:, None])[:, 0]
        before = info["distance"]
        observation, reward, terminated, _, info = env.step(action)
        cut = acting & ~terminated & (step + 1 >= limit)
        arrived = acting & terminated & env.succeeded()
        done = (1 - before / start).clamp(0, 1).float()
        kept.append((*frame, last, expert, done, action, log_prob, value, reward, acting, terminated | cut, arrived))
        acting = acting & ~terminated & ~cut
    policy.train(training)
    columns = [torch.stack(column) for column in zip(*kept, strict=True)]  # (steps, envs, ...)
    rgb, depth, goal, last, expert, done, action, log_prob, value, reward, live, ended, arrived = columns
    by_walk = live.T
    walks = Walks(
        words=words,
        mask=mask,
        rgb=rgb.transpose(0, 1)[by_walk],
        depth=depth.transpose(0, 1)[by_walk],
        categories=rgb.new_zeros(int(live.sum()), 1, 1),
        last_action=last.T,
        acting=by_walk,
        expert=expert.T,
        weight=weights(expert.T, last.T, settings.inflection),
        progress=done.T,
        goal=goal.transpose(0, 1)[by_walk],
    )
    if critic is not None:
        final = live & ended
        reward = reward + settings.intrinsic * critic.fit_of(walks)[None] * final
    advantage, returns = advantages(
        reward,
        value,
        ended,
        torch.zeros(env.num_envs, device=device),
        discount=settings.discount,
        gae_lambda=settings.gae_lambda,
    )
    return Experience(
        walks=walks,
        taken=action.T,
        log_probs=log_prob.T,
        advantage=advantage.T,
        returns=returns.T,
        success=float(arrived.any(dim=0).float().mean()),
        reward=float((reward * live).sum(dim=0).mean()),
    )


def chosen(experience: Experience, rows: Tensor) -> Experience:
    """The walks of some environments alone, cut to the longest of them."""
    walks = experience.walks
    rows = rows.to(walks.acting.device)
    counts = walks.acting.sum(dim=1)
    steps = int(counts[rows].max())
    first = counts.cumsum(0) - counts
    frames = torch.cat([torch.arange(int(first[i]), int(first[i] + counts[i]), device=rows.device) for i in rows])
    columns = ("last_action", "acting", "expert", "weight", "progress")
    own = replace(
        walks,
        words=walks.words[rows],
        mask=walks.mask[rows],
        rgb=walks.rgb[frames],
        depth=walks.depth[frames],
        categories=walks.categories[frames],
        goal=walks.goal[frames],
        **{name: getattr(walks, name)[rows, :steps] for name in columns},
    )
    own = own.rounded()
    numbers: dict[str, Any] = {
        name: F.pad(getattr(experience, name)[rows, :steps], (0, own.acting.shape[1] - steps))
        for name in ("taken", "log_probs", "advantage", "returns")
    }
    return replace(experience, walks=own, **numbers)
