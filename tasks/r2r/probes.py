"""Probes: what a navigator still reaches when something is taken from it.

A score says little by itself, for buildings have habits: an agent that never reads can follow corridors. Test-time
probes blind the trained agent, so they also measure its surprise; an arm that was trained blind does not suffer that.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from vlkit.envs.graph import World
from vlkit.errors import UserError
from vlkit.tasks.r2r.model import Observation

Value = TypeVar("Value")

# The parts of an observation; which actions there are is left, or there would be nothing to choose from.
POSE_PARTS = ("heading", "elevation", "moved", "ahead")
CANDIDATE_PARTS = ("candidate_heading", "candidate_elevation", "candidate_distance", "candidate_visited")
VISION_PARTS = ("views", "candidate_views", "view")


@dataclass(frozen=True)
class Probe:
    """What is changed in the episodes before a walk, and in each observation."""

    name: str
    world: Callable[[World], World]
    observation: Callable[[Observation], Observation]


def test_time_probes(with_vision: bool) -> tuple[Probe, ...]:
    """Those that apply to an agent with or without image features."""
    probes = [
        Probe("no instruction", unread, unchanged),
        Probe("shuffled instruction", exchanged, unchanged),
        Probe("words in random order", disordered, unchanged),
        Probe("no geometry", unchanged, blank(POSE_PARTS + CANDIDATE_PARTS)),
    ]
    if with_vision:
        probes.append(Probe("no vision", unchanged, blank(VISION_PARTS)))
    return tuple(probes)


def unread(world: World) -> World:
    """Every instruction is one unknown word."""
    words = torch.full_like(world.episodes.words[:, :1], world.tokenizer.unknown)
    return _with_words(world, words, torch.ones_like(words, dtype=torch.bool))


def exchanged(world: World, seed: int = 0) -> World:
    """Every episode has the instruction of another path.

    Each instruction is used once, unless one path has more than half of them: then some of the others are used again.
    Raises UserError where all are of one path.
    """
    paths = [(episode.scan, episode.path_id) for episode in world.episodes.episodes]
    count, most = len(paths), max(Counter(paths).values())
    place = {path: i for i, path in enumerate(dict.fromkeys(paths))}
    rank = torch.randperm(len(place), generator=torch.Generator().manual_seed(seed)).tolist()
    # With the paths in a random order and the episodes of a path together, so far ahead another path has begun.
    order = sorted(range(count), key=lambda i: rank[place[paths[i]]])
    source = torch.empty(count, dtype=torch.int64)
    for i, episode in enumerate(order):
        ahead = (order[(i + most + k) % count] for k in range(count))
        other = next((other for other in ahead if paths[other] != paths[episode]), None)
        if other is None:
            raise UserError(f"all {count} instructions are of one path; exchanging them takes a split of several paths")
        source[episode] = other
    source = source.to(world.episodes.words.device)
    return _with_words(world, world.episodes.words[source], world.episodes.mask[source])


def disordered(world: World, seed: int = 0) -> World:
    """The words of each instruction in a random order."""
    words, mask = world.episodes.words, world.episodes.mask
    keys = torch.rand(words.shape, generator=torch.Generator().manual_seed(seed)).to(words.device)
    order = keys.masked_fill(~mask, 2.0).argsort(dim=1, stable=True)
    return _with_words(world, words.gather(1, order), mask)


def blank(names: tuple[str, ...]) -> Callable[[Observation], Observation]:
    """Zeros in the place of these parts of an observation."""

    def blanked(observation: Observation) -> Observation:
        return {key: torch.zeros_like(value) if key in names else value for key, value in observation.items()}

    return blanked


def unchanged(value: Value) -> Value:
    """For what a probe leaves alone."""
    return value


def _with_words(world: World, words: Tensor, mask: Tensor) -> World:
    return replace(world, episodes=replace(world.episodes, words=words, mask=mask))
