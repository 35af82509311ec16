"""Walking: recording for the store, walks that are judged, and agents that need no training."""

import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlkit.batches import stream_seed
from vlkit.envs.episodes import Episode
from vlkit.envs.navigation import STOP, NavigationVectorEnv
from vlkit.tasks.navigation.data import World
from vlkit.tasks.navigation.model import ACTIONS, START, WORDS_TOGETHER, Memory, Observation, Policy, depth_bytes
from vlkit.tasks.navigation.probes import ActionPrior, random_chances
from vlkit.tasks.navigation.store import RoundWriter

Transform = Callable[[Observation], Observation]


@dataclass(frozen=True)
class Walk:
    """One finished walk, for tables, submission files and pictures."""

    episode: Episode
    locations: np.ndarray  # (steps + 1, 3) metres
    headings: np.ndarray  # (steps + 1,) radians
    actions: list[int]
    metrics: dict[str, float]
    reference: np.ndarray  # (points, 3) metres: the demonstration
    film: "Film | None" = None


@dataclass(frozen=True)
class Film:
    """What a policy saw, thought and looked at, a row a step."""

    rgb: np.ndarray  # (steps, height, width, 3) uint8
    probabilities: np.ndarray  # (steps, actions)
    attention: np.ndarray  # (steps, words)
    patches: np.ndarray  # (steps, patches)
    progress: np.ndarray  # (steps,)


# Recording


def record(
    env: NavigationVectorEnv,
    episodes: Tensor,
    writer: RoundWriter,
    *,
    policy: Policy | None,
    transform: Transform,
    expert_share: float,
    noise: float,
    most_steps: Tensor,
    seed: int,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Plays the episodes (walks,) and writes what was seen and what the expert would have done.

    Without a policy the expert walks, but for a share `noise` of random steps; with one, a share `expert_share` of the
    steps is the expert's and the others are drawn from the policy. A walk ends where the expert would stop (a policy
    that goes on from there leads to places that no instruction speaks of) or after most_steps (walks,). Each walk has
    random numbers of its own.
    """
    for rows in torch.split(torch.arange(len(episodes)), env.num_envs):
        _record(
            env,
            episodes[rows],
            writer,
            policy=policy,
            transform=transform,
            expert_share=expert_share,
            noise=noise,
            most_steps=most_steps[rows],
            seed=seed,
        )
        if watch is not None:
            watch(len(rows))


def _record(
    env: NavigationVectorEnv,
    episodes: Tensor,
    writer: RoundWriter,
    *,
    policy: Policy | None,
    transform: Transform,
    expert_share: float,
    noise: float,
    most_steps: Tensor,
    seed: int,
) -> None:
    count, device = len(episodes), env.device
    played = padded(episodes, env.num_envs)
    limit = padded(most_steps, env.num_envs).to(device)
    observation, info = env.reset(options={"episodes": played.to(device)})
    draws = torch.stack([_draws(seed, int(each), int(limit.max())) for each in played]).to(device)
    memory = None if policy is None else policy.start(*fitted(transform(observation)))
    start = info["distance"].clamp(min=0.1)
    acting = torch.ones(env.num_envs, dtype=torch.bool, device=device)
    acting[count:] = False
    rows: list[Tensor] = []  # of each step, who acts
    kept: list[list[Tensor]] = [[] for _ in range(7)]
    step = 0
    while bool(acting.any()):
        expert = info["oracle_action"]
        here = acting.nonzero()[:, 0]
        rows.append(here)
        values = (
            observation["rgb"],
            depth_bytes(observation["depth"]),
            named_parts(observation["semantic"], writer.store.parts),
            torch.where(observation["last_action"] < 0, START, observation["last_action"]),
            expert,
            (1 - info["distance"] / start).clamp(0, 1).float(),
            env.goal_offset(),
        )
        for column, value in zip(kept, values, strict=True):
            column.append(value[here])
        chance, which, pick = draws[:, step].unbind(1)
        if policy is None or memory is None:
            random = 1 + (pick * (ACTIONS - 1)).long().clamp(max=ACTIONS - 2)
            action = torch.where((chance < noise) & (expert != STOP), random, expert)
        else:
            logits, _, memory = policy(transform(observation), memory)
            own = drawn(logits.softmax(dim=1), pick)
            # A policy that stops too early goes on with the expert, or the rest of the way would not be learnt.
            own = torch.where(own == STOP, expert, own)
            action = torch.where(which < expert_share, expert, own)
        step += 1
        acting = acting & (expert != STOP) & (step < limit)
        observation, _, _, _, info = env.step(torch.where(acting, action, STOP))
    whose = torch.cat(rows)
    order, counts = whose.argsort(stable=True), torch.bincount(whose, minlength=env.num_envs).tolist()
    columns = []
    while kept:  # one after the other, for together they would be there twice
        columns.append(torch.split(torch.cat(kept.pop(0))[order], counts))
    for row in range(count):
        rgb, depth, categories, last_action, expert, done, goal = (column[row] for column in columns)
        writer.add(
            int(episodes[row]),
            rgb=rgb,
            depth=depth,
            categories=categories,
            last_action=last_action,
            expert=expert,
            progress=done,
            goal=goal,
        )


def padded(values: Tensor, count: int) -> Tensor:
    """(values,) -> (count,): the last one again and again, so that a vector environment is full"""
    return torch.cat([values, values[-1:].expand(count - len(values))])


def named_parts(semantic: Tensor, parts: int) -> Tensor:
    """(envs, height, width) category of each pixel -> (envs, parts, parts) uint8: of the middle of each part"""
    height, width = semantic.shape[1] // parts, semantic.shape[2] // parts
    return semantic[:, height // 2 :: height, width // 2 :: width].to(torch.uint8)


def _draws(seed: int, episode: int, steps: int) -> Tensor:
    """(steps, 3) in [0, 1): a walk's own random numbers"""
    return torch.rand(steps, 3, generator=torch.Generator().manual_seed(stream_seed(seed, "walk", episode)))


def drawn(chances: Tensor, draws: Tensor) -> Tensor:
    """(envs, actions) probabilities, (envs,) in [0, 1) -> (envs,): by inverting the cumulative distribution"""
    sums = chances.double().cumsum(dim=1)
    return torch.searchsorted(sums / sums[:, -1:], draws[:, None].double().contiguous(), right=True)[:, 0].clamp(
        max=chances.shape[1] - 1
    )


def fitted(observation: Observation) -> tuple[Tensor, Tensor]:
    """Words and mask of the instructions, cut to about the longest, which is what the encoder costs."""
    mask = observation["instruction_mask"]
    words = cut_to(mask)
    return observation["instruction"][:, :words], mask[:, :words]


def cut_to(mask: Tensor) -> int:
    """(texts, words) -> how many words hold the longest text, see `Walks.rounded`"""
    longest = max(int(mask.sum(dim=1).max()), 1)
    return longest + -longest % WORDS_TOGETHER


# Walks that are judged

TOGETHER = 4  # one of so many environments has ended before the next walks begin: what reads texts is costly for a few


def policy_walks(
    policy: Policy,
    world: World,
    *,
    transform: Transform = dict,
    films: Collection[int] = (),
    watch: Callable[[int], None] | None = None,
) -> list[Walk]:
    """Every episode of the world walked greedily, in their order; evaluation mode is the caller's.

    In full precision, so that how many environments there are makes no difference that shows. The
    walks of the episodes whose numbers are in `films` come with what the policy saw and thought.
    """
    words = cut_to(world.mask)

    def begin(observation: Observation) -> Memory:
        seen = transform(observation)
        return policy.start(seen["instruction"][:, :words], seen["instruction_mask"][:, :words])

    def act(observation: Observation, memory: Memory) -> tuple[Tensor, Memory, Shown | None]:
        logits, _, memory = policy(transform(observation), memory)
        shown = Shown(logits.softmax(1), memory.attention, memory.patches, memory.progress) if films else None
        return logits.argmax(dim=1), memory, shown

    return _walked(world, begin, act, Memory.renewed, films, watch, transform)


def fixed_walks(
    name: str,
    world: World,
    *,
    prior: ActionPrior | None = None,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> list[Walk]:
    """Every episode walked by an agent that needs no training; where chance decides, each has its own random numbers."""
    if name == "prior" and prior is None:
        raise ValueError("the prior agent needs the action prior of demonstrations")
    ids = [int(zlib.crc32(episode.id.encode())) for episode in world.episodes]

    def begin(observation: Observation) -> Tensor:
        rows = world.env.episode.tolist()
        return torch.stack([_draws(seed, ids[row], world.env.max_steps)[:, 0] for row in rows]).to(world.env.device)

    def act(observation: Observation, draws: Tensor) -> tuple[Tensor, Tensor, None]:
        last, steps = observation["last_action"], world.env.steps.clamp(max=draws.shape[1] - 1)
        if name == "stop":
            return torch.full_like(last, STOP), draws, None
        if name == "shortest":
            return world.env.oracle_action(), draws, None
        chances = random_chances(len(last), last.device) if prior is None or name == "random" else prior.of(steps, last)
        return drawn(chances, draws.gather(1, steps[:, None])[:, 0]), draws, None

    def renewed(draws: Tensor, starting: Tensor, others: Tensor) -> Tensor:
        return torch.where(starting[:, None], others, draws)

    return _walked(world, begin, act, renewed, (), watch)


@dataclass(frozen=True)
class Shown:
    """What a policy thought at a step, (envs, ...)."""

    probabilities: Tensor
    attention: Tensor
    patches: Tensor
    progress: Tensor


@torch.inference_mode()
def _walked(
    world: World,
    begin: Callable[[Observation], Any],
    act: Callable[[Observation, Any], tuple[Tensor, Any, Shown | None]],
    renewed: Callable[[Any, Tensor, Any], Any],
    films: Collection[int],
    watch: Callable[[int], None] | None,
    transform: Transform = dict,
) -> list[Walk]:
    """Every episode once: where some have ended, the next ones begin in their environments.

    begin: observation -> what an agent knows at the start; act: observation, that -> action, that afterwards, what it
    thought; renewed: that, (envs,) bool, that of others -> that with the others' where true.
    """
    env = world.env
    # The longest first, so that few environments wait for the last one to end.
    order = torch.tensor([world.steps_expected(i) for i in range(len(world.episodes))])
    waiting = order.argsort(stable=True, descending=True)[share_of(world)].tolist()
    advised, env.oracle = env.oracle, False  # nobody asks the expert here
    rows, waiting = waiting[: env.num_envs], waiting[env.num_envs :]
    walks: dict[int, Walk] = {}
    films_of: dict[int, list[tuple[Tensor, ...]]] = {row: [] for row in films}
    walking = torch.arange(env.num_envs, device=env.device) < len(rows)
    if rows:
        observation, _ = env.reset(options={"episodes": padded(torch.tensor(rows), env.num_envs).to(env.device)})
        state = begin(observation)
    while bool(walking.any()):
        # What has nothing to walk stands still, and so costs no more than its picture.
        filmed = [(i, row) for i, row in enumerate(rows) if row in films_of and not bool(env.ended[i])]
        seen = [transform(observation)["rgb"][i].clone() for i, _ in filmed] if filmed else []
        actions, state, shown = act(observation, state)
        if shown is not None:
            for (i, row), rgb in zip(filmed, seen, strict=True):
                thought = (shown.probabilities, shown.attention, shown.patches, shown.progress)
                films_of[row].append((rgb, *(column[i] for column in thought)))
        observation, *_ = env.step(torch.where(walking, actions, STOP))
        ended = env.ended & walking
        count, alive = int(ended.sum()), int(walking.sum())
        if count < (min(max(env.num_envs // TOGETHER, 1), alive) if waiting else alive):
            continue
        metrics, trajectories = env.metrics(ended), env.trajectories()
        places = ended.nonzero()[:, 0].tolist()
        for i in places:
            row, frames = rows[i], films_of.get(rows[i])
            walks[row] = Walk(
                episode=world.episodes[row],
                locations=trajectories[i].locations,
                headings=trajectories[i].headings,
                actions=trajectories[i].actions,
                metrics={name: float(column[i]) for name, column in metrics.items()},
                reference=env.reference(row),
                film=Film(*(torch.stack(column).cpu().numpy() for column in zip(*frames, strict=True)))
                if frames
                else None,
            )
        if watch is not None:
            watch(count)
        walking = walking & ~ended
        following, waiting = waiting[:count], waiting[count:]
        if following:
            starting = torch.zeros_like(ended)
            for i, row in zip(places, following, strict=False):
                rows[i] = row
                starting[i] = True
            told = torch.tensor(following, device=env.device)
            observation, _ = env.reset(options={"reset_mask": starting, "episodes": told})
            state = renewed(state, starting, begin(observation))
            walking = walking | starting
    env.oracle = advised
    if world.shared:
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, walks)
        walks = {row: walk for each in gathered for row, walk in each.items()}
    return [walks[i] for i in range(len(walks))]


def share_of(world: World) -> slice:
    """Which walks are this process's: every one, or every second of two."""
    if not world.shared:
        return slice(None)
    return slice(torch.distributed.get_rank(), None, torch.distributed.get_world_size())
