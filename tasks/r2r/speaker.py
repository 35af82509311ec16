"""A speaker that tells how to walk a route, and back-translation: new routes with its instructions to learn from.

Fried et al. 2018 (arXiv:1806.02724): the speaker learns instruction given route from the navigator's own data, then
describes routes that nobody has described. Here it sees what the image-free navigator sees: the geometry of the choices.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from vlkit.attention import BilinearAttention, masked_softmax
from vlkit.batches import stream_seed
from vlkit.envs.graph import R2RVectorEnv, World
from vlkit.envs.r2r import Episode, Scan
from vlkit.files import write_atomic
from vlkit.generation import sample
from vlkit.rnn import RecurrentLayer
from vlkit.tasks.r2r.model import GEOMETRY, SIDEWAYS, candidate_geometry
from vlkit.text import Tokenizer

MAX_HOPS = 12  # R2R's longest route has 6; R4R's have 16, whose end is not told


@dataclass(frozen=True)
class Routes:
    """Walks as a speaker sees them: at each step the choices that were there and the one that was taken."""

    choices: Tensor  # (batch, steps, actions, 13), see candidate_geometry
    available: Tensor  # (batch, steps, actions), true where there is a choice
    taken: Tensor  # (batch, steps) int64
    mask: Tensor  # (batch, steps), true where a step is

    def select(self, rows: Tensor) -> "Routes":
        """The routes of these rows, cut to the longest of them."""
        steps = int(self.mask[rows].sum(dim=1).max())
        return Routes(*(value[rows, :steps] for value in (self.choices, self.available, self.taken, self.mask)))


@dataclass(frozen=True)
class Telling:
    """A speaker in the middle of a sentence."""

    steps: Tensor  # (batch, steps, dim), the route as read
    mask: Tensor  # (batch, steps)
    hidden: Tensor  # (batch, dim)
    cell: Tensor  # (batch, dim)


class Speaker(nn.Module):
    """A bidirectional LSTM over the route, an LSTM over the words, Luong attention between them."""

    def __init__(
        self, vocabulary: int, *, dim: int = 256, word_dim: int = 128, geometry_dim: int = 64, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.geometry = nn.Sequential(nn.Linear(GEOMETRY, geometry_dim), nn.ReLU())
        self.around = BilinearAttention(geometry_dim, geometry_dim)
        self.route = RecurrentLayer("lstm", 2 * geometry_dim, dim // 2, bidirectional=True)
        self.begin = nn.Linear(dim, dim)
        self.words = nn.Embedding(vocabulary, word_dim, padding_idx=0)
        self.tell = RecurrentLayer("lstm", word_dim, dim)
        self.query = nn.Linear(dim, dim, bias=False)
        self.read = nn.Linear(2 * dim, dim, bias=False)
        self.next_word = nn.Linear(dim, vocabulary)
        self.dropout = nn.Dropout(dropout)

    def begun(self, routes: Routes) -> Telling:
        """Reads the routes: the choice that was taken, and what else was there."""
        batch, steps = routes.mask.shape
        choices = self.geometry(routes.choices).flatten(0, 1)
        rows = torch.arange(batch * steps, device=choices.device)
        taken = choices[rows, routes.taken.flatten()]
        around, _ = self.around(taken, choices, routes.available.flatten(0, 1))
        read, last = self.route(self.dropout(torch.cat([taken, around], dim=1).reshape(batch, steps, -1)), routes.mask)
        hidden = torch.tanh(self.begin(last))
        return Telling(steps=self.dropout(read), mask=routes.mask, hidden=hidden, cell=torch.zeros_like(hidden))

    def step(self, words: Tensor, telling: Telling) -> tuple[Tensor, Telling]:
        """(batch,) the last word -> (batch, vocabulary) logits of the next; a step function of vlkit.generation"""
        state = ((telling.hidden, telling.cell),)
        output, ((hidden, cell),) = self.tell.step(self.dropout(self.words(words)), state)
        logits = self._logits(output[:, None], telling)[:, 0]
        return logits, replace(telling, hidden=hidden, cell=cell)

    def forward(self, routes: Routes, words: Tensor) -> Tensor:
        """Routes, (batch, words) with <start> first -> (batch, words, vocabulary) logits of the word behind each"""
        telling = self.begun(routes)
        states, _ = self.tell(self.dropout(self.words(words)), initial=((telling.hidden, telling.cell),))
        return self._logits(states, telling)

    def _logits(self, states: Tensor, telling: Telling) -> Tensor:
        """(batch, words, dim) -> (batch, words, vocabulary): Luong attention (2015, "general") of all words at once"""
        scores = self.query(self.dropout(states)) @ telling.steps.transpose(1, 2)
        context = masked_softmax(scores, telling.mask[:, None]) @ telling.steps
        return cast(Tensor, self.next_word(self.dropout(torch.tanh(self.read(torch.cat([context, states], dim=2))))))


def routes_of(world: World, batch_size: int = 512) -> Routes:
    """The annotated paths of all episodes, as the navigator would have seen them."""
    parts = [_routes(world, episodes) for episodes in torch.split(torch.arange(len(world.episodes)), batch_size)]
    return Routes(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Routes)))


def _routes(world: World, episodes: Tensor) -> Routes:
    """The annotated paths of these episodes (batch,), MAX_HOPS steps each."""
    blind = replace(world, features=None)
    env = R2RVectorEnv(
        len(episodes), world=blind, max_steps=MAX_HOPS, oracle="reference", measure=False, autoreset="Disabled"
    )
    observation, info = env.reset(options={"episodes": episodes})
    start, rows = observation["heading"], []
    for _ in range(MAX_HOPS):
        action, acting = info["oracle_action"], ~env.ended
        rows.append((candidate_geometry(observation, start), observation["action_mask"], action, acting))
        observation, _, _, _, info = env.step(action)
    return Routes(*(torch.stack(column, dim=1) for column in zip(*rows, strict=True)))


def mirrored(routes: Routes, flipped: Tensor) -> Routes:
    """The routes with left and right exchanged where flipped (batch,) is true, as data.Mirror does."""
    sign = torch.ones(GEOMETRY, device=routes.choices.device)
    sign[list(SIDEWAYS)] = -1.0
    return replace(routes, choices=torch.where(flipped[:, None, None, None], routes.choices * sign, routes.choices))


def speaker_loss(speaker: Speaker, routes: Routes, words: Tensor, mask: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Cross-entropy of each word and of the end, the mean over them; words (batch, words) without markers."""
    batch = len(words)
    start = words.new_full((batch, 1), tokenizer.start)
    behind = torch.cat([words, words.new_zeros(batch, 1)], dim=1)
    counts = mask.sum(dim=1)
    behind[torch.arange(batch, device=words.device), counts] = tokenizer.end
    logits = speaker(routes, torch.cat([start, words], dim=1))
    told = torch.arange(behind.shape[1], device=words.device) <= counts[:, None]
    return nn.functional.cross_entropy(logits[told], behind[told])


def new_paths(
    scans: Mapping[str, Scan], known: Sequence[Episode], *, count: int, seed: int
) -> list[tuple[str, tuple[str, ...], float]]:
    """Routes made as R2R's were: shortest paths of 4 to 6 hops and at least 5 m between viewpoints of these buildings.

    Returns (scan, path, heading at the start) of paths that are not among the known ones, drawn without repetition,
    each building as often as it has such paths; fewer than `count` where there are no more.
    """
    generator = np.random.default_rng(seed)
    taken = {(episode.scan, episode.path) for episode in known}
    names, pairs = [], []
    for name in sorted({episode.scan for episode in known}):
        scan = scans[name]
        hops = _hops(scan)
        fits = (hops >= 4) & (hops <= 6) & (scan.distances >= 5.0) & np.isfinite(scan.distances)
        found = np.argwhere(fits)
        names += [name] * len(found)
        pairs.append(found)
    every = np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)
    result: list[tuple[str, tuple[str, ...], float]] = []
    for i in generator.permutation(len(every)):
        if len(result) == count:
            break
        scan = scans[names[i]]
        path = scan.shortest_path(scan.viewpoints[every[i, 0]], scan.viewpoints[every[i, 1]])
        if (scan.name, path) not in taken:
            result.append((scan.name, path, float(generator.uniform(0, 2 * np.pi))))
    return result


def _hops(scan: Scan) -> np.ndarray:
    """(viewpoints, viewpoints) int64: hops of the shortest path in metres; ties may count either way"""
    size = len(scan.viewpoints)
    joined = np.where(scan.adjacency, scan.edges, np.inf)
    following = np.stack([(joined[at][:, None] + scan.distances).argmin(axis=0) for at in range(size)])
    at, goal = np.tile(np.arange(size)[:, None], size), np.tile(np.arange(size), (size, 1))
    hops = np.zeros((size, size), dtype=np.int64)
    for _ in range(7):
        moving = at != goal
        hops += moving
        at = np.where(moving, following[at, goal], at)
    return hops


@torch.inference_mode()
def told(
    speaker: Speaker, world: World, *, seed: int, max_words: int = 80, temperature: float = 1.0, batch_size: int = 256
) -> list[Episode]:
    """The world's episodes with what the speaker says for them, drawn word by word; evaluation mode is the caller's.

    Each episode has its own stream of random numbers. A route of which nothing is said has one unknown word.
    """
    tokenizer = world.tokenizer
    unsayable = torch.tensor(
        sorted({tokenizer.pad, tokenizer.unknown, tokenizer.start} - {tokenizer.end}), dtype=torch.int64
    )

    def step(words: Tensor, telling: Telling) -> tuple[Tensor, Telling]:
        logits, telling = speaker.step(words, telling)
        return logits.index_fill(1, unsayable.to(logits.device), -torch.inf), telling

    episodes: list[Episode] = []
    for rows in torch.split(torch.arange(len(world.episodes)), batch_size):
        routes, untold = _routes(world, rows), [world.episodes.episodes[i] for i in rows.tolist()]
        spoken = sample(
            step,
            torch.full((len(rows),), tokenizer.start, device=routes.mask.device),
            speaker.begun(routes.select(torch.arange(len(rows)))),
            end=tokenizer.end,
            steps=max_words,
            temperature=temperature,
            generator=[torch.Generator().manual_seed(stream_seed(seed, episode.id)) for episode in untold],
            pad=tokenizer.pad,
        )
        for episode, ids in zip(untold, spoken.ids.tolist(), strict=True):
            text = tokenizer.decode(ids).strip() or tokenizer.words[tokenizer.unknown]
            episodes.append(replace(episode, instruction=text))
    return episodes


def write_episodes(path: str | Path, episodes: Sequence[Episode]) -> None:
    """R2R's annotation format, the instructions of a path together where they follow each other; whole or not at all."""
    items = []
    for _, group in groupby(episodes, key=lambda episode: (episode.scan, episode.path_id)):
        told = list(group)
        items.append(
            {
                "path_id": told[0].path_id,
                "scan": told[0].scan,
                "heading": told[0].heading,
                "path": list(told[0].path),
                "language": told[0].language,
                "instructions": [episode.instruction for episode in told],
            }
        )
    with write_atomic(path) as temporary:
        temporary.write_text(json.dumps(items), encoding="utf-8")
