"""Navigators: an instruction encoder, an LSTM that remembers the walk, attention, and a choice.

A policy is a module with `start(observation) -> memory` and `(observation, memory) -> (logits, value, memory)`. It
holds no state between calls: what it remembers is the memory, whose every tensor has a leading `envs` axis.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vlkit.attention import BilinearAttention, LuongAttention
from vlkit.encoders.text import TextStates

Observation = Mapping[str, Tensor]

GEOMETRY = 13  # numbers that describe a candidate, see candidate_geometry
SIDEWAYS = (0, 7, 11)  # those of them that change their sign when left and right are exchanged
ODOMETRY = 5  # numbers beside the candidates: the way come, how many steps it took, and the tilt
EGOCENTRIC = 11  # numbers that describe an egocentric pose, see egocentric_geometry
ACTIONS = 6  # of the egocentric space


@dataclass(frozen=True)
class Memory:
    """What a policy knows beside the present observation. A policy leaves what it does not use empty."""

    states: Tensor  # (envs, words, dim), the instruction as read
    mask: Tensor  # (envs, words)
    hidden: Tensor  # (envs, dim) of the LSTM
    cell: Tensor  # (envs, dim)
    candidates: Tensor  # (envs, actions, dim): the last step's choices, one of which was taken
    start_heading: Tensor  # (envs,) radians
    attention: Tensor  # (envs, words): where the last step looked in the instruction
    progress: Tensor  # (envs,): how much of the way the agent believes to have done, 0 to 1
    feature_mask: Tensor  # (envs, channels): of the image features, zero for those that this walk lacks

    def select(self, rows: Tensor) -> "Memory":
        """The memory of other environments: rows (envs,) int64 of this one's."""
        return Memory(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


class Policy(Protocol):
    """What rollouts ask of a navigator. Its memory is a `Memory`, or another thing with `select` and `attention`."""

    def start(self, observation: Observation) -> Any:
        """Reads the instruction: the memory of walks on which no step was taken."""
        ...

    def __call__(self, observation: Observation, memory: Any) -> tuple[Tensor, Tensor, Any]:
        """Observation, memory -> logits (envs, actions), value (envs,), memory"""
        ...


def candidate_geometry(observation: Observation, start_heading: Tensor) -> Tensor:
    """(envs, actions, 13): where each choice leads; the first is to stop.

    Direction seen from the agent, tilt, distance, whether it was visited, and whether it is the stop; then its place in
    the frame of the start: right, ahead, up, how far, and the direction in which one would walk there.
    """
    heading, elevation = observation["candidate_heading"], observation["candidate_elevation"]
    distance, moved = observation["candidate_distance"], observation["moved"]
    flat = distance * elevation.cos()
    bearing = (observation["heading"] - start_heading)[:, None] + heading
    right, ahead = moved[:, :1] + flat * bearing.sin(), moved[:, 1:2] + flat * bearing.cos()
    up = moved[:, 2:] + distance * elevation.sin()
    visited = observation["candidate_visited"].float()
    numbers = [heading.sin(), heading.cos(), elevation.sin(), elevation.cos(), distance / 3, visited]
    numbers += [torch.zeros_like(distance), right / 10, ahead / 10, up / 3, torch.hypot(right, ahead) / 10]
    numbers += [bearing.sin(), bearing.cos()]
    choices = torch.stack(numbers, dim=-1)
    stop = torch.zeros_like(choices[:, :1])
    stop[:, :, 6] = 1.0
    return torch.cat([stop, choices], dim=1)


class CandidateEncoder(nn.Module):
    """Each choice as one vector: its geometry and, with image features, the view towards it."""

    def __init__(self, geometry_dim: int, feature_dim: int, view_dim: int) -> None:
        super().__init__()
        self.dim = geometry_dim + (view_dim if feature_dim else 0)
        self.geometry = nn.Sequential(nn.Linear(GEOMETRY, geometry_dim), nn.ReLU())
        self.views = nn.Sequential(nn.Linear(feature_dim, view_dim), nn.ReLU()) if feature_dim else None

    def forward(self, observation: Observation, start_heading: Tensor, feature_mask: Tensor) -> Tensor:
        """Observation, (envs,), (envs, channels) -> (envs, actions, dim)"""
        choices = self.geometry(candidate_geometry(observation, start_heading))
        if self.views is None:
            return cast(Tensor, choices)
        views = self.views(observation["candidate_views"] * feature_mask[:, None])
        return torch.cat([choices, torch.cat([torch.zeros_like(views[:, :1]), views], dim=1)], dim=2)


class PanoramicAgent(nn.Module):
    """An LSTM over the walk that attends to the candidates, then to the instruction, and scores each candidate.

    After Fried et al. 2018 (arXiv:1806.02724, panoramic action space) and Ma et al. 2019 (arXiv:1901.03035, progress
    monitor), with the place of everything in the frame of the start as odometry. With image features, `feature_dim`
    wide, a share `environment_dropout` of their channels is missing on a whole walk (Tan et al. 2019,
    arXiv:1904.04195). `text` is any text encoder.
    """

    def __init__(
        self,
        text: nn.Module,
        *,
        dim: int = 256,
        geometry_dim: int = 64,
        feature_dim: int = 0,
        view_dim: int = 128,
        dropout: float = 0.3,
        environment_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.text = text
        self.feature_dim = feature_dim
        self.environment_dropout = environment_dropout
        text_dim = cast(int, text.dim)
        self.candidates = CandidateEncoder(geometry_dim, feature_dim, view_dim)
        self.begin = nn.Linear(text_dim, dim)
        self.look = BilinearAttention(dim, self.candidates.dim)
        self.walk = nn.LSTMCell(2 * self.candidates.dim + ODOMETRY, dim)
        self.read = LuongAttention(dim, text_dim)
        self.choose = nn.Linear(dim, self.candidates.dim, bias=False)
        self.value = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, 1))
        self.progress = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(dropout)

    def start(self, observation: Observation) -> Memory:
        """Reads the instruction; the LSTM starts from what it says as a whole."""
        text: TextStates = self.text(observation["instruction"], observation["instruction_mask"])
        every = text.states.new_ones(len(text.states), self.feature_dim)
        seen = nn.functional.dropout(every, self.environment_dropout, self.training)
        return begun(observation, text, hidden=torch.tanh(self.begin(text.pooled)), feature_mask=seen)

    def forward(self, observation: Observation, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """Observation, memory -> logits (envs, actions), value (envs,), memory"""
        mask = observation["action_mask"]
        candidates = self.candidates(observation, memory.start_heading, memory.feature_mask)
        seen, _ = self.look(memory.hidden, candidates, mask)
        odometry = [observation["moved"] / 10, observation["steps"][:, None] / 10, observation["elevation"][:, None]]
        taken = last_choice(memory.candidates, observation["last_action"], self.candidates.dim)
        inputs = torch.cat([self.dropout(seen), taken, *odometry], dim=1)
        hidden, cell = self.walk(inputs, (memory.hidden, memory.cell))
        state, attention = self.read(self.dropout(hidden), memory.states, memory.mask)
        logits = torch.bmm(candidates, self.choose(self.dropout(state))[:, :, None])[:, :, 0]
        memory = replace(
            memory,
            hidden=hidden,
            cell=cell,
            candidates=candidates,
            attention=attention,
            progress=torch.sigmoid(self.progress(state))[:, 0],
        )
        # The critic learns from the walk as it is, and must not bend it.
        return logits.masked_fill(~mask, -torch.inf), self.value(hidden.detach())[:, 0], memory


class Seq2SeqAgent(nn.Module):
    """The agent of Anderson et al. 2018 (arXiv:1711.07280): LSTM encoder, LSTM decoder, Luong attention, six actions.

    Beside the image features of the view, `feature_dim` wide, or without any, it knows where `forward` would lead, its
    own pose, and the way it came. `text` is any text encoder.
    """

    def __init__(
        self,
        text: nn.Module,
        *,
        dim: int = 512,
        action_dim: int = 32,
        feature_dim: int = 0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.text = text
        self.feature_dim = feature_dim
        text_dim = cast(int, text.dim)
        self.begin = nn.Linear(text_dim, dim)
        self.actions = nn.Embedding(ACTIONS + 1, action_dim)  # the last row stands before the first action
        self.walk = nn.LSTMCell(action_dim + EGOCENTRIC + feature_dim, dim)
        self.read = LuongAttention(dim, text_dim)
        self.choose = nn.Linear(dim, ACTIONS)
        self.value = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, 1))
        self.progress = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(dropout)

    def start(self, observation: Observation) -> Memory:
        """Reads the instruction; the decoder starts from the encoder's end."""
        text: TextStates = self.text(observation["instruction"], observation["instruction_mask"])
        none = text.states.new_ones(len(text.states), 0)
        return begun(observation, text, hidden=torch.tanh(self.begin(text.pooled)), feature_mask=none)

    def forward(self, observation: Observation, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """Observation, memory -> logits (envs, actions), value (envs,), memory"""
        last = observation["last_action"]
        taken = self.actions(torch.where(last < 0, ACTIONS, last))
        parts = [self.dropout(taken), egocentric_geometry(observation, memory.start_heading)]
        if self.feature_dim:
            parts.append(self.dropout(observation["view"]))
        hidden, cell = self.walk(torch.cat(parts, dim=1), (memory.hidden, memory.cell))
        state, attention = self.read(self.dropout(hidden), memory.states, memory.mask)
        logits = self.choose(state).masked_fill(~observation["action_mask"], -torch.inf)
        memory = replace(
            memory,
            hidden=hidden,
            cell=cell,
            attention=attention,
            progress=torch.sigmoid(self.progress(state))[:, 0],
        )
        return logits, self.value(hidden.detach())[:, 0], memory


@dataclass(frozen=True)
class Memories:
    """The memories of an ensemble, one of each member."""

    members: tuple[Memory, ...]

    def select(self, rows: Tensor) -> "Memories":
        """The memories of other environments: rows (envs,) int64 of these."""
        return Memories(tuple(memory.select(rows) for memory in self.members))

    @property
    def attention(self) -> Tensor:
        """(envs, words): the mean of where the members looked"""
        return torch.stack([memory.attention for memory in self.members]).mean(dim=0)


class Ensemble:
    """Several policies that decide together, by the mean of their probabilities."""

    def __init__(self, members: Sequence[Policy]) -> None:
        self.members = tuple(members)

    def start(self, observation: Observation) -> Memories:
        """Each reads the instruction."""
        return Memories(tuple(member.start(observation) for member in self.members))

    def __call__(self, observation: Observation, memory: Memories) -> tuple[Tensor, Tensor, Memories]:
        """Observation, memories -> log-probabilities (envs, actions), mean value (envs,), memories"""
        results = [member(observation, own) for member, own in zip(self.members, memory.members, strict=True)]
        log_probs = torch.stack([logits.log_softmax(dim=1) for logits, _, _ in results])
        mean = log_probs.logsumexp(dim=0) - math.log(len(results))
        values = torch.stack([value for _, value, _ in results]).mean(dim=0)
        return mean, values, Memories(tuple(after for _, _, after in results))


def begun(observation: Observation, text: TextStates, *, hidden: Tensor, feature_mask: Tensor) -> Memory:
    """The memory of walks on which no step was taken."""
    mask = observation["instruction_mask"]
    return Memory(
        states=text.states,
        mask=mask,
        hidden=hidden,
        cell=torch.zeros_like(hidden),
        candidates=hidden.new_zeros(len(mask), 0, 0),
        start_heading=observation["heading"],
        attention=hidden.new_zeros(mask.shape),
        progress=hidden.new_zeros(len(mask)),
        feature_mask=feature_mask,
    )


def egocentric_geometry(observation: Observation, start_heading: Tensor) -> Tensor:
    """(envs, 11): the pose as `Seq2SeqAgent` knows it.

    Heading since the start and tilt; where `forward` leads: aside, above, how far, and whether anywhere; the way come
    (right, ahead, up) and how many steps it took.
    """
    turned, tilt = observation["heading"] - start_heading, observation["elevation"]
    aside, above, metres = observation["ahead"].unbind(dim=1)
    numbers = [turned.sin(), turned.cos(), tilt, aside, above, metres / 3, (metres > 0).float()]
    return torch.stack([*numbers, *(observation["moved"] / 10).unbind(dim=1), observation["steps"] / 20], dim=1)


def last_choice(candidates: Tensor, action: Tensor, dim: int) -> Tensor:
    """(envs, actions, dim), (envs,) -> (envs, dim): the candidate that was taken, zeros before the first action"""
    if candidates.shape[1] == 0:
        return candidates.new_zeros(len(candidates), dim)
    taken = candidates[torch.arange(len(candidates), device=candidates.device), action.clamp(min=0)]
    return taken * (action >= 0)[:, None]
