"""What a navigator walks in: the episodes of a split with their words, their environment, and what a batch of them is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from vlkit.envs.episodes import Episode, GroundTruth, episode_file, ground_truth_file, read_episodes, read_ground_truth
from vlkit.envs.navigation import BODY, NavigationVectorEnv
from vlkit.envs.simulator.navgrid import NavSettings
from vlkit.errors import UserError
from vlkit.tasks.navigation.learning import weights
from vlkit.tasks.navigation.model import START, Walks
from vlkit.tasks.navigation.store import Recorded
from vlkit.text import Tokenizer, mirrored_words

# Left and right exchanged: STOP, FORWARD, RIGHT, LEFT, and what stands before the first action.
MIRRORED_ACTIONS = (0, 1, 3, 2, START)


@dataclass(frozen=True)
class Split:
    """Episodes of one split, of some levels."""

    name: str
    file: Path
    episodes: tuple[Episode, ...]
    demonstrations: dict[str, GroundTruth]  # by episode; empty where the split has no such file

    @property
    def goals(self) -> bool:
        """Whether walks can be scored; a test split may keep its goals to itself."""
        return all(episode.goal_known for episode in self.episodes)


def read_split(data: Path, name: str, levels: Sequence[str]) -> Split:
    """Reads a split's episodes of these levels; those without a level are of all. UserError where none is left."""
    file = episode_file(data, name)
    every = read_episodes(file).episodes
    chosen = tuple(episode for episode in every if episode.level is None or episode.level in levels)
    if not chosen:
        there = sorted({episode.level for episode in every if episode.level is not None})
        raise UserError(
            f"{file} has {len(every)} episodes and none of the levels {', '.join(levels)}; it has {', '.join(there)}"
        )
    truth = ground_truth_file(data, name)
    return Split(name, file, chosen, {} if truth is None else read_ground_truth(truth))


@dataclass(eq=False)
class World:
    """A split that can be walked."""

    split: Split
    tokenizer: Tokenizer
    env: NavigationVectorEnv
    words: Tensor  # (episodes, words) int64
    mask: Tensor  # (episodes, words)
    trajectory: Tensor  # (episodes,) int64
    alternatives: list[Tensor] = field(default_factory=list)  # for each trajectory its episodes
    shared: bool = False  # whether several processes divide the walks that are judged among them

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """What is walked."""
        return self.split.episodes

    def steps_expected(self, episode: int) -> int:
        """Actions of the demonstration; where there is none, about as many as the shortest way takes."""
        truth, metres = (
            self.split.demonstrations.get(self.episodes[episode].id),
            self.episodes[episode].geodesic_distance,
        )
        return len(truth.actions) if truth else 10 + (int(8 * metres) if math.isfinite(metres) else 0)


def some(split: Split, count: int) -> Split:
    """So many of its episodes, drawn evenly and the same ones each time, in their order; all where there are no more."""
    every = len(split.episodes)
    drawn = torch.randperm(every, generator=torch.Generator().manual_seed(0))[:count].sort().values
    return replace(split, episodes=tuple(split.episodes[i] for i in drawn.tolist()))


def world(
    split: Split,
    tokenizer: Tokenizer,
    *,
    scenes: Path,
    num_envs: int,
    size: int,
    max_words: int,
    max_steps: int,
    stop_m: float,
    turn_deg: float | None,
    skip: bool,
    semantic: bool,
    device: torch.device,
    threads: int | None,
) -> World:
    """The split in its scenes; UserError where a scene is missing or an episode cannot be walked."""
    generated = any(episode.level is not None for episode in split.episodes)
    env = NavigationVectorEnv(
        num_envs,
        episodes=split.episodes,
        ground_truth=split.demonstrations,
        scenes=scenes,
        size=size,
        semantic=semantic,
        tokenizer=tokenizer,
        max_words=max_words,
        max_steps=max_steps,
        stop_m=stop_m,
        turn_deg=turn_deg,
        body=BODY if generated else NavSettings(),  # VLN-CE's is 0.1 m in radius
        skip=skip,
        measure=False,  # walks are measured together when all have ended
        autoreset="Disabled",
        device=device,
        threads=threads,
    )
    split = replace(split, episodes=env.episodes)  # those that can be walked
    words, mask = tokenizer.batch([episode.instruction for episode in split.episodes], max_words)
    names = {name: i for i, name in enumerate(dict.fromkeys(each.trajectory_id for each in split.episodes))}
    trajectory = torch.tensor([names[each.trajectory_id] for each in split.episodes])
    order = torch.argsort(trajectory, stable=True)
    return World(
        split=split,
        tokenizer=tokenizer,
        env=env,
        words=words,
        mask=mask,
        trajectory=trajectory,
        alternatives=list(torch.split(order, torch.bincount(trajectory).tolist())),
    )


class Mirror:
    """Exchanges left and right in frames, words and actions: a mirrored walk is a new one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not {"left", "right"} <= set(tokenizer.words):
            raise UserError(
                "walks cannot be mirrored, for the tokenizer has no words 'left' and 'right' to exchange; set mirror to 0"
            )
        self.words = mirrored_words(tokenizer.words)
        self.actions = torch.tensor(MIRRORED_ACTIONS)


def batch(
    recorded: Recorded,
    world: World,
    *,
    inflection: float,
    mirror: Mirror | None,
    share: float,
    unknown: int | None,
    generator: torch.Generator,
) -> Walks:
    """Recorded walks with one instruction of each trajectory, a share of them mirrored.

    unknown: the id that stands for the whole instruction of an agent that does not read; None for one that does.
    """
    count, longest = len(recorded.steps), int(recorded.steps.max())
    acting = torch.arange(longest) < recorded.steps[:, None]
    flipped = torch.rand(count, generator=generator) < (share if mirror is not None else 0.0)
    told = torch.stack(
        [
            choices[int(torch.randint(len(choices), (), generator=generator))]
            for choices in (world.alternatives[int(i)] for i in world.trajectory[recorded.episodes])
        ]
    )
    words, mask = world.words[told], world.mask[told]
    words, mask = words[:, : int(mask.sum(1).max())], mask[:, : int(mask.sum(1).max())]
    if unknown is not None:
        words = torch.full((count, 1), unknown)
        mask = torch.ones(count, 1, dtype=torch.bool)
    last_action, expert = spread(recorded.last_action, acting), spread(recorded.expert, acting)
    rgb, depth, categories = recorded.rgb, recorded.depth, recorded.categories
    goal = recorded.goal
    if mirror is not None and bool(flipped.any()):
        words = torch.where(flipped[:, None], mirror.words[words], words)
        last_action = torch.where(flipped[:, None], mirror.actions[last_action], last_action)
        expert = torch.where(flipped[:, None], mirror.actions[expert], expert)
        frames = flipped.repeat_interleave(recorded.steps)
        rgb[frames] = rgb[frames].flip(2)
        depth[frames] = depth[frames].flip(2)
        categories[frames] = categories[frames].flip(2)
        goal = torch.where(frames[:, None], goal * goal.new_tensor([1.0, -1.0, 1.0]), goal)
    return Walks(
        words=words,
        mask=mask,
        rgb=rgb,
        depth=depth,
        categories=categories,
        last_action=last_action,
        acting=acting,
        expert=expert,
        weight=weights(expert, last_action, inflection),
        progress=spread(recorded.progress, acting),
        goal=goal,
    ).rounded()


def spread(values: Tensor, acting: Tensor) -> Tensor:
    """(frames,), (batch, steps) -> (batch, steps), zero where nobody acts"""
    places = values.new_zeros(acting.shape)
    places[acting] = values
    return places
