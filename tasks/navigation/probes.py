"""Probes: what a navigator still reaches when something is taken from it, and agents that need no training.

A score says little by itself: houses have habits, and an agent that never reads can follow corridors. Test-time probes
blind the trained agent, so they also measure its surprise; an arm that was trained blind does not suffer that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlkit.envs.episodes import Episode, GroundTruth
from vlkit.envs.navigation import FORWARD, LEFT, RIGHT, STOP
from vlkit.errors import UserError
from vlkit.tasks.navigation.model import ACTIONS, START, Observation

Input = Literal["rgb", "depth", "instruction"]
FIXED_AGENTS = ("stop", "random", "prior", "shortest")
RANDOM = {FORWARD: 0.68, LEFT: 0.15, RIGHT: 0.15, STOP: 0.02}  # VLN-CE's random agent
PRIOR_STEPS = 200  # from which on demonstrations are too few to tell steps apart


@dataclass(frozen=True)
class Probe:
    """What is changed in each observation, and whose instruction each episode has."""

    name: str
    blank: tuple[Input, ...] = ()
    exchanged: bool = False  # each episode has the instruction of another trajectory
    disordered: bool = False  # its words stand in a random order


def test_time_probes(rgb: bool, depth: bool) -> tuple[Probe, ...]:
    """Those that apply to an agent with these inputs."""
    probes = [
        Probe("no instruction", blank=("instruction",)),
        Probe("shuffled instruction", exchanged=True),
        Probe("words in random order", disordered=True),
        Probe("no vision", blank=("rgb", "depth")),
    ]
    if rgb and depth:
        probes += [Probe("no colour", blank=("rgb",)), Probe("no depth", blank=("depth",))]
    return tuple(probes)


def blanked(names: Sequence[Input], unknown: int) -> Callable[[Observation], Observation]:
    """Black frames, no depth, and an instruction of one unknown word in the place of these inputs."""

    def without(observation: Observation) -> Observation:
        changed = dict(observation)
        for name in names:
            if name == "instruction":
                changed["instruction"] = torch.full_like(observation["instruction"][:, :1], unknown)
                changed["instruction_mask"] = torch.ones_like(observation["instruction_mask"][:, :1])
            else:
                changed[name] = torch.zeros_like(observation[name])
        return changed

    return without


def exchange(episodes: Sequence[Episode], seed: int = 0) -> Tensor:
    """(episodes,) int64: for each an episode of another trajectory, whose instruction it gets.

    With the trajectories in a random order and the episodes of each together, so far ahead another one has begun.
    Raises UserError where all are of one trajectory.
    """
    names = [episode.trajectory_id for episode in episodes]
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(place) < 2:
        raise UserError(f"all {len(episodes)} instructions are of one trajectory; exchanging them takes several")
    rank = torch.randperm(len(place), generator=torch.Generator().manual_seed(seed)).tolist()
    order = sorted(range(len(names)), key=lambda i: rank[place[names[i]]])
    most = max(names.count(name) for name in place)
    source = torch.empty(len(names), dtype=torch.int64)
    for i, episode in enumerate(order):
        ahead = (order[(i + most + k) % len(order)] for k in range(len(order)))
        source[episode] = next(other for other in ahead if names[other] != names[episode])
    return source


def disorder(words: Tensor, mask: Tensor, seed: int = 0) -> Tensor:
    """(episodes, words), (episodes, words) -> (episodes, words): the words of each instruction in a random order"""
    keys = torch.rand(words.shape, generator=torch.Generator().manual_seed(seed)).to(words.device)
    return words.gather(1, keys.masked_fill(~mask, 2.0).argsort(dim=1, stable=True))


@dataclass(frozen=True)
class ActionPrior:
    """How demonstrations go on average: what comes at a step behind what came before, blind to all else."""

    chances: Tensor  # (steps, actions + 1, actions)

    @staticmethod
    def counted(demonstrations: Sequence[GroundTruth]) -> "ActionPrior":
        """From demonstrations; where one has ended, the longer ones alone count."""
        counts = torch.zeros(PRIOR_STEPS, ACTIONS + 1, ACTIONS, dtype=torch.float64)
        for each in demonstrations:
            before = START
            for step, action in enumerate(each.actions):
                counts[min(step, PRIOR_STEPS - 1), before, action] += 1
                before = action
        every = counts.sum(dim=0) + 1e-6
        # A step that few demonstrations reach leans on all steps.
        smoothed = counts + 5 * (every / every.sum(dim=1, keepdim=True))
        return ActionPrior(smoothed / smoothed.sum(dim=2, keepdim=True))

    def of(self, steps: Tensor, last_action: Tensor) -> Tensor:
        """(envs,), (envs,) -> (envs, actions) probabilities"""
        before = torch.where(last_action < 0, START, last_action)
        return self.chances.to(before.device)[steps.clamp(max=PRIOR_STEPS - 1), before]


def random_chances(envs: int, device: torch.device) -> Tensor:
    """(envs, actions): VLN-CE's random agent"""
    return torch.tensor([RANDOM[action] for action in range(ACTIONS)], device=device).expand(envs, -1)
