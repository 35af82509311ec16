"""Walks: rollouts of policies for training; greedy, sampled and beam decoding; agents that need no training."""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from vlkit.envs.graph import FORWARD, RIGHT, STOP, Info, R2RVectorEnv, World
from vlkit.envs.graph_tables import HEADINGS
from vlkit.envs.measures import scores
from vlkit.envs.r2r import Episode
from vlkit.errors import UserError
from vlkit.plugins import nearest
from vlkit.tasks.r2r.model import Observation, Policy

ActionSpace = Literal["panoramic", "egocentric"]
SHRINK = 0.6  # walks that ended are left out once so few are left; each time costs a copy of the memory

Transform = Callable[[Observation], Observation]
Choice = Callable[[Tensor, Tensor], Tensor]  # logits (envs, actions), oracle actions (envs,) -> actions (envs,)


@dataclass(frozen=True)
class Rollout:
    """What losses need of a batch of walks; the first axis is time. Where a walk is not acting, nothing is meant."""

    log_probs: Tensor  # (steps, envs, actions)
    values: Tensor  # (steps, envs)
    progress: Tensor  # (steps, envs), the agent's own estimate
    actions: Tensor  # (steps, envs), STOP where a walk has ended
    oracle: Tensor  # (steps, envs)
    acting: Tensor  # (steps, envs), true until the walk ended
    distance: Tensor  # (steps + 1, envs) metres to the goal, before each step and after the last
    final_value: Tensor  # (envs,), of the state behind the last step; zero where the agent stopped

    @property
    def steps(self) -> int:
        """How many environment steps were taken."""
        return int(self.acting.sum())


@dataclass(frozen=True)
class Walk:
    """One finished walk, for submission files, tables and pictures."""

    episode: Episode
    trajectory: list[
        tuple[str, float, float]
    ]  # viewpoint, heading, elevation: at the start, and after each action but STOP
    metrics: dict[str, float]
    actions: list[int]
    attention: np.ndarray | None  # (steps, words), where a policy looked in the instruction


# Training.


def teacher(logits: Tensor, oracle: Tensor) -> Tensor:
    """The oracle's action: teacher forcing."""
    return oracle


def greedy(logits: Tensor, oracle: Tensor) -> Tensor:
    """The most probable action."""
    return logits.argmax(dim=1)


def sampled(logits: Tensor, oracle: Tensor) -> Tensor:
    """An action drawn from the policy, with torch's random numbers: student forcing."""
    return torch.multinomial(logits.detach().softmax(dim=1), 1)[:, 0]


def rollout(
    policy: Policy,
    env: R2RVectorEnv,
    episodes: Tensor,
    choice: Choice,
    transform: Transform | None = None,
    repeat: int = 1,
) -> Rollout:
    """Plays the episodes (envs / repeat,) with gradients, each `repeat` times: walk i is of episode i modulo their number.

    An instruction is read once for all its walks. `env` must not reset by itself (autoreset Disabled).
    """
    if env.autoreset is not AutoresetMode.DISABLED:
        raise ValueError(f"the environment's autoreset is {env.autoreset.value}; a rollout ends, so make it Disabled")
    see = transform or _as_it_is
    observation, info = env.reset(options={"episodes": episodes.repeat(repeat)})
    count = len(episodes)
    memory = policy.start({name: value[:count] for name, value in see(fitted(observation)).items()})
    if repeat > 1:
        memory = memory.select(torch.arange(count, device=env.device).repeat(repeat))
    acting = ~env.ended
    rows = torch.arange(env.num_envs, device=env.device)  # the walks that the policy still follows
    distances = [info["distance"]]
    steps: list[tuple[Tensor, ...]] = []
    final_value = torch.zeros(env.num_envs, device=env.device)
    while bool(acting.any()):
        if int(acting.sum()) <= SHRINK * len(rows):
            going = acting[rows].nonzero()[:, 0]
            rows, memory = rows[going], memory.select(going)
        logits, value, memory = policy(_of(see(observation), rows), memory)
        full = [
            like.new_zeros(env.num_envs, *like.shape[1:]).index_copy(0, rows, like)
            for like in (logits.log_softmax(dim=1), value, memory.progress)
        ]
        actions = torch.where(acting, choice(full[0], info["oracle_action"]), STOP)
        steps.append((*full, actions, info["oracle_action"], acting))
        observation, _, _, truncated, info = env.step(actions)
        distances.append(info["distance"])
        if bool(truncated.any()):
            with torch.no_grad():  # the walk was cut, not ended: what the critic still expects stands for the rest
                ahead = policy(_of(see(observation), rows), memory)[1].float()
                final_value = torch.where(truncated, final_value.index_copy(0, rows, ahead), 0.0)
        acting = ~env.ended
    log_probs, values, progress, chosen, oracle, live = (torch.stack(column) for column in zip(*steps, strict=True))
    return Rollout(
        log_probs=log_probs,
        values=values,
        progress=progress,
        actions=chosen,
        oracle=oracle,
        acting=live,
        distance=torch.stack(distances),
        final_value=final_value,
    )


def fitted(observation: Observation) -> Observation:
    """The observation with its instructions cut to the longest of the batch, which is what the encoder costs."""
    words = int(observation["instruction_mask"].sum(dim=1).max())
    return {
        **observation,
        "instruction": observation["instruction"][:, :words],
        "instruction_mask": observation["instruction_mask"][:, :words],
    }


def _of(observation: Observation, rows: Tensor) -> Observation:
    """The observation of these walks alone."""
    if len(rows) == len(observation["steps"]):
        return observation
    return {name: value[rows] for name, value in observation.items()}


def _as_it_is(observation: Observation) -> Observation:
    return observation


# Walking with a trained policy.


def policy_walks(
    policy: Policy,
    world: World,
    *,
    action_space: ActionSpace,
    max_steps: int | None = None,
    decoding: Literal["greedy", "sample", "beam"] = "greedy",
    beam_width: int = 5,
    transform: Transform | None = None,
    batch_size: int = 128,
    seed: int = 0,
    attention: bool = False,
    watch: Callable[[int], None] | None = None,
) -> list[Walk]:
    """Every episode of the world walked by the policy, in their order; no gradients, evaluation mode is the caller's.

    `sample` draws from each episode's own stream of random numbers, so nothing depends on `batch_size`. `beam` keeps
    the most probable walks as if the agent could try them all: say so beside its scores. `watch` is told how many
    walks each batch had.
    """
    see = transform or _as_it_is
    width = beam_width if decoding == "beam" else 1
    walks: dict[int, Walk] = {}
    for episodes in _batches(world, batch_size):
        env = _env(world, len(episodes) * width, action_space, max_steps)
        observation, _ = env.reset(options={"episodes": episodes.repeat_interleave(width)})
        with torch.inference_mode():
            memory = policy.start(see(fitted(observation)))
            if decoding == "beam":
                actions, looks = _beams(policy, env, observation, memory, see, width)
            else:
                draws = _draws(env, seed) if decoding == "sample" else None
                actions, looks = _forth(policy, env, observation, memory, see, draws)
        walks |= _walks(env, actions, looks if attention else None, width)
        if watch is not None:
            watch(len(episodes))
    return scored([walks[i] for i in range(len(walks))], world)


def _forth(
    policy: Policy, env: R2RVectorEnv, observation: Observation, memory: Any, see: Transform, draws: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Walks to the end: actions (steps, envs), attention (steps, envs, words); greedy without draws (envs, steps)"""
    actions: list[Tensor] = []
    looks: list[Tensor] = []
    while not bool(env.ended.all()):
        logits, _, memory = policy(see(observation), memory)
        likeliest = logits.argmax(dim=1)
        actions.append(likeliest if draws is None else drawn(logits.softmax(dim=1), draws[:, len(actions)]))
        looks.append(memory.attention)
        observation, *_ = env.step(actions[-1])
    return torch.stack(actions), torch.stack(looks)


def _beams(
    policy: Policy, env: R2RVectorEnv, observation: Observation, memory: Any, see: Transform, width: int
) -> tuple[Tensor, Tensor]:
    """As `_forth`: environments i * width to (i + 1) * width - 1 hold the likeliest walks of an episode, best first."""
    # At first all walks of an episode are the same, and one of them goes on.
    score = torch.full((env.num_envs // width, width), -math.inf, device=env.device)
    score[:, 0] = 0.0
    first = torch.arange(len(score), device=env.device)[:, None] * width
    actions = torch.zeros(0, env.num_envs, dtype=torch.int64, device=env.device)
    looks = torch.zeros(0, *memory.attention.shape, device=env.device)
    while not bool(env.ended.all()):
        logits, _, memory = policy(see(observation), memory)
        log_probs = logits.log_softmax(dim=1)
        # A walk that has ended goes on in one way only, at no cost.
        staying = torch.full_like(log_probs, -math.inf)
        staying[:, STOP] = 0.0
        log_probs = torch.where(env.ended[:, None], staying, log_probs)
        total = (score[:, :, None] + log_probs.reshape(*score.shape, -1)).flatten(1)
        score, best = total.topk(width, dim=1)
        rows = (first + best // logits.shape[1]).flatten()
        # Where there are fewer walks than beams, the others do what cannot be done, and stay behind all that can.
        action = (best % logits.shape[1]).flatten()
        env.select(rows)
        memory = memory.select(rows)
        observation, *_ = env.step(action)
        actions = torch.cat([actions[:, rows], action[None]])
        looks = torch.cat([looks[:, rows], memory.attention[None]])
    return actions, looks


def _env(world: World, envs: int, action_space: ActionSpace, max_steps: int | None) -> R2RVectorEnv:
    return R2RVectorEnv(
        envs, world=world, action_space=action_space, max_steps=max_steps, measure=False, autoreset="Disabled"
    )


def _batches(world: World, size: int) -> Iterator[Tensor]:
    """Episode numbers, those with instructions of like length together."""
    yield from torch.split(torch.argsort(world.episodes.word_counts, stable=True), size)


def _draws(env: R2RVectorEnv, seed: int) -> Tensor:
    """(envs, steps) float64: random numbers for the episodes that are played"""
    ids = [env.world.episodes.episodes[i].id for i in env.episode.tolist()]
    return torch.from_numpy(streams(seed, ids, env.max_steps)).to(env.device)


def _walks(env: R2RVectorEnv, actions: Tensor, looks: Tensor | None, width: int = 1) -> dict[int, Walk]:
    """The walks that the environments hold, by the number of their episode; the first of each `width`."""
    world, trajectories, played, taken = env.world, env.trajectories(), env.episode.tolist(), env.steps.tolist()
    walks = {}
    for row in range(0, env.num_envs, width):
        i, steps = played[row], taken[row]
        words = int(world.episodes.word_counts[i])
        walks[i] = Walk(
            episode=world.episodes.episodes[i],
            trajectory=trajectories[row],
            metrics={},
            actions=actions[:steps, row].tolist(),
            attention=None if looks is None else looks[:steps, row, :words].cpu().numpy(),
        )
    return walks


def scored(walks: Sequence[Walk], world: World) -> list[Walk]:
    """The walks with every metric, computed as the judge does; an episode without a known goal has none."""
    by_scan: dict[str, list[int]] = {}
    for i, walk in enumerate(walks):
        if len(walk.episode.path) > 1:
            by_scan.setdefault(walk.episode.scan, []).append(i)
    result = list(walks)
    for name, rows in by_scan.items():
        scan = world.scans[name]
        paths = [[scan.index[viewpoint] for viewpoint, _, _ in walks[i].trajectory] for i in rows]
        references = [[scan.index[viewpoint] for viewpoint in walks[i].episode.path] for i in rows]
        columns = scores(scan.distances, paths, references)
        for k, i in enumerate(rows):
            result[i] = replace(walks[i], metrics={metric: float(column[k]) for metric, column in columns.items()})
    return result


def streams(seed: int, ids: Sequence[str], count: int) -> np.ndarray:
    """(ids, count) float64 in [0, 1): each episode's own random numbers, whatever is played beside it."""
    keys = [[seed, zlib.crc32(name.encode())] for name in ids]
    return np.stack([np.random.Generator(np.random.Philox(key=key)).random(count) for key in keys])


def drawn(chances: Tensor, draws: Tensor) -> Tensor:
    """(envs, actions) probabilities, (envs,) in [0, 1) -> (envs,): by inverting the cumulative distribution"""
    sums = chances.double().cumsum(dim=1)
    # To the right of equal sums, so that an action without a chance is never met; over the last, which rounding may
    # leave beside 1.
    return torch.searchsorted(sums / sums[:, -1:], draws[:, None].contiguous(), right=True)[:, 0]


# Agents that need no training.


@dataclass(frozen=True)
class FixedAgent:
    """An agent that needs no training: where it acts, how long at most, and what it does."""

    action_space: ActionSpace
    max_steps: int
    act: Callable[[Observation, Info, Tensor, Tensor], Tensor]
    """observation, info, draws (envs, steps) in [0, 1), hops made so far (envs,) -> actions (envs,)"""


def stop_action(observation: Observation, info: Info, draws: Tensor, hops: Tensor) -> Tensor:
    """Stops where it stands."""
    return torch.full_like(hops, STOP)


def shortest_action(observation: Observation, info: Info, draws: Tensor, hops: Tensor) -> Tensor:
    """Follows the shortest path: the upper bound."""
    oracle: Tensor = info["oracle_action"]
    if bool((oracle < 0).any()):
        raise UserError("the shortest agent is led to the goal, which is not known of every episode here")
    return oracle


def random_action(observation: Observation, info: Info, draws: Tensor, hops: Tensor) -> Tensor:
    """Turns right to a random heading, then goes straight ahead for five hops (Anderson et al. 2018, section 5.1).

    Where the view shows no way it turns right until it does.
    """
    turns = (draws[:, 0] * HEADINGS).long()
    forward = (observation["steps"] >= turns) & observation["action_mask"][:, FORWARD]
    return torch.where(hops < 5, torch.where(forward, FORWARD, RIGHT), STOP)


@dataclass(frozen=True)
class ActionPrior:
    """How demonstrations go on average: when they stop and in which direction they go, blind to all else."""

    stop: Tensor  # (steps,): the share of walks that stop at each step, among those that got there
    directions: Tensor  # (bins,): the share of hops that lead ahead (bin 0), or clockwise of it

    def chances(self, observation: Observation) -> Tensor:
        """(envs, actions): the probability of each"""
        there = observation["action_mask"][:, 1:]
        stop = self.stop.to(there.device)[observation["steps"].clamp(max=len(self.stop) - 1), None]
        weights = self.directions.to(there.device)[_bins(observation, len(self.directions))] * there
        # Where there is no way at all, stopping is what is left.
        return torch.cat([stop, (1 - stop) * weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)], dim=1)

    def act(self, observation: Observation, info: Info, draws: Tensor, hops: Tensor) -> Tensor:
        """(envs,) actions"""
        now = observation["steps"].clamp(max=draws.shape[1] - 1)
        return drawn(self.chances(observation), draws.gather(1, now[:, None])[:, 0])


def action_prior(demonstrations: World, max_steps: int = 15, bins: int = 12) -> ActionPrior:
    """Counts the shortest paths of a split; each thing counts as seen once more than it was (Laplace)."""
    stops, goes, directions = torch.ones(max_steps), torch.ones(max_steps), torch.ones(bins)
    blind = replace(demonstrations, features=None)
    for episodes in _batches(blind, 512):
        env = _env(blind, len(episodes), "panoramic", max_steps)
        observation, info = env.reset(options={"episodes": episodes})
        for step in range(max_steps):
            acting, action = ~env.ended, info["oracle_action"]
            stops[step] += int((acting & (action == STOP)).sum())
            going = acting & (action != STOP)
            goes[step] += int(going.sum())
            ways = _bins(observation, bins)[going, action[going] - 1]
            directions += torch.bincount(ways, minlength=bins).cpu()
            observation, _, _, _, info = env.step(action)
    return ActionPrior(stop=stops / (stops + goes), directions=directions / directions.sum())


def _bins(observation: Observation, bins: int) -> Tensor:
    """(envs, slots): in which direction each candidate lies"""
    return torch.round(observation["candidate_heading"] / (2 * math.pi / bins)).long() % bins


FIXED_AGENTS = ("stop", "random", "shortest", "prior")


def fixed_agent(name: str, demonstrations: World | None = None) -> FixedAgent:
    """One of FIXED_AGENTS; the action prior is counted on `demonstrations`, the training split."""
    if name == "stop":
        return FixedAgent("panoramic", 1, stop_action)
    if name == "random":
        return FixedAgent("egocentric", 30, random_action)
    if name == "shortest":
        return FixedAgent("panoramic", 50, shortest_action)
    if name == "prior":
        if demonstrations is None:
            raise UserError("the action prior is counted on the training split: have it beside the evaluated one")
        prior = action_prior(demonstrations)
        return FixedAgent("panoramic", len(prior.stop), prior.act)
    raise UserError(f"there is no agent {name!r}.{nearest(name, FIXED_AGENTS)}")


def fixed_walks(agent: FixedAgent, world: World, seed: int = 0, batch_size: int = 512) -> list[Walk]:
    """Every episode of the world walked by such an agent, in their order, each with its own random numbers."""
    walks: dict[int, Walk] = {}
    blind = replace(world, features=None)  # pictures would be read for nobody
    for episodes in _batches(blind, batch_size):
        env = _env(blind, len(episodes), agent.action_space, agent.max_steps)
        observation, info = env.reset(options={"episodes": episodes})
        draws, hops, actions = _draws(env, seed), torch.zeros_like(env.steps), []
        while not bool(env.ended.all()):
            actions.append(agent.act(observation, info, draws, hops))
            before = info["viewpoint"]
            observation, _, _, _, info = env.step(actions[-1])
            hops = hops + (info["viewpoint"] != before)
        walks |= _walks(env, torch.stack(actions), None)
    return scored([walks[i] for i in range(len(walks))], world)
