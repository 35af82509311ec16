"""Policies of continuous navigation: an image encoder, a depth encoder and an instruction encoder around LSTMs.

A policy is a module with `start(instruction, mask) -> memory` and `(observation, memory) -> (logits, value, memory)`. It
holds no state between calls: what it remembers is the memory, whose every tensor has a leading `envs` axis. Learning
goes over whole walks at once (`over`): no attention feeds back into the LSTM whose state asks it, so that each LSTM runs
through all steps in one call and gives the same numbers as step by step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlkit.attention import CrossAttention, masked_softmax
from vlkit.encoders.image import ImageGrid, grid_shape
from vlkit.encoders.text import TextStates
from vlkit.rnn import LayerState, RecurrentLayer

Observation = Mapping[str, Tensor]

ACTIONS = 4  # STOP, FORWARD, LEFT, RIGHT: VLN-CE's order
START = ACTIONS  # what stands before the first action
DEPTH_STEP_M = 0.04  # depth is kept as bytes: what lies beyond 10.2 m looks alike
PLACE = 16  # numbers that tell where a patch is
SOUGHT = 2  # words that say what is sought: a thing and its colour, say
COMPRESSED = 16  # channels of a patch in the summary of a frame
# Sizes of a batch are multiples of these, see `Walks.rounded`.
WORDS_TOGETHER = 8
STEPS_TOGETHER = 8
FRAMES_TOGETHER = 64


def depth_bytes(depth: Tensor) -> Tensor:
    """(..., height, width, 1) metres -> uint8, in steps of 4 cm; nothing hit stays 0"""
    return (depth / DEPTH_STEP_M).round_().clamp_(max=255).to(torch.uint8)


@dataclass(frozen=True)
class Walks:
    """A batch of recorded walks. Frames of all walks lie one behind the other; what follows them is padding."""

    words: Tensor  # (batch, words)
    mask: Tensor  # (batch, words)
    rgb: Tensor  # (frames, height, width, 3) uint8
    depth: Tensor  # (frames, height, width, 1) uint8, see depth_bytes
    last_action: Tensor  # (batch, steps), START at the first step
    acting: Tensor  # (batch, steps) bool: frame k of the batch belongs to its k-th true place; those beyond pad it
    expert: Tensor  # (batch, steps), what to do
    weight: Tensor  # (batch, steps), of that in the loss
    progress: Tensor  # (batch, steps), share of the way that is done, 0 to 1
    categories: Tensor  # (frames, rows, columns) uint8: what is seen in the middle of each part of the frame
    goal: Tensor  # (frames, 3): metres from there to the goal, ahead, to the left and up

    def rounded(self) -> "Walks":
        """The same walks, padded to sizes that come again: for each size that is new oneDNN compiles kernels anew, which
        took a third of a step's time on a CPU.
        """
        words, steps = -self.mask.shape[1] % WORDS_TOGETHER, -self.acting.shape[1] % STEPS_TOGETHER
        frames = -len(self.rgb) % FRAMES_TOGETHER
        by_word, by_frame = ("words", "mask"), ("rgb", "depth", "categories", "goal")
        longer = {
            field.name: F.pad(getattr(self, field.name), (0, words if field.name in by_word else steps))
            for field in fields(self)
            if field.name not in by_frame
        }
        more = {
            name: torch.cat([own := getattr(self, name), own.new_zeros(frames, *own.shape[1:])]) for name in by_frame
        }
        return Walks(**longer, **more)


@dataclass(frozen=True)
class Outcome:
    """What a policy says of recorded walks."""

    logits: Tensor  # (batch, steps, actions)
    value: Tensor  # (batch, steps)
    progress: Tensor  # (batch, steps), its own estimate, as a logit
    looked: Tensor | None  # (frames, patches): where it looked in each frame; None for one that does not look
    frames: Tensor  # (frames, patches, dim), as the image encoder saw them
    shape: tuple[int, int]  # rows and columns of the patches


@dataclass(frozen=True)
class Memory:
    """What a policy knows beside the present frame."""

    told: tuple[Tensor, ...]  # the instruction, each as the walker asks it: (envs, words, dim) or (envs, dim)
    mask: Tensor  # (envs, words)
    layers: tuple[LayerState, ...]  # the recurrent layers' states
    attention: Tensor  # (envs, words): where the last step looked in the instruction
    patches: Tensor  # (envs, patches): where it looked in the frame
    progress: Tensor  # (envs,): how much of the way it believes to have done, 0 to 1

    def renewed(self, starting: Tensor, others: "Memory") -> "Memory":
        """This memory, but for the environments that start anew, (envs,) bool, which have the others'."""

        def either(own: Tensor, other: Tensor) -> Tensor:
            return torch.where(starting.reshape(-1, *[1] * (own.dim() - 1)), other, own)

        nested = {"told", "layers"}
        plain = {
            field.name: either(getattr(self, field.name), getattr(others, field.name))
            for field in fields(self)
            if field.name not in nested
        }
        layers = tuple(
            tuple(tuple(map(either, *states)) for states in zip(*layer, strict=True))
            for layer in zip(self.layers, others.layers, strict=True)
        )
        return Memory(told=tuple(map(either, self.told, others.told)), layers=layers, **plain)


class Policy(Protocol):
    """What rollouts and losses ask of a navigator."""

    def start(self, instruction: Tensor, mask: Tensor) -> Memory:
        """Reads the instruction: the memory of walks on which no step was taken."""

    def __call__(self, observation: Observation, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """Observation, memory -> logits (envs, actions), value (envs,), memory"""

    def over(self, walks: Walks) -> Outcome:
        """All steps of recorded walks."""


class DepthCNN(nn.Module):
    """Depth as a grid: blocks of 4x4 pixels, then a convolution in steps of 2, so that a patch is 8 pixels wide."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.dim = dim
        self.blocks = nn.Conv2d(16, dim, 1)
        self.layers = nn.Sequential(nn.ReLU(), nn.Conv2d(dim, dim, 4, stride=2, padding=1), nn.ReLU())

    def forward(self, depth: Tensor) -> Tensor:
        """(frames, height, width, 1) uint8, see depth_bytes -> (frames, patches, dim)"""
        # Near things matter more than far ones: 0 at the eye, 0.5 at 2 m, 1 far away.
        near = depth.permute(0, 3, 1, 2).float().add_(2 / DEPTH_STEP_M).reciprocal_().mul_(-2 / DEPTH_STEP_M).add_(1)
        # A convolution of a single channel is slow; as channels of a block its pixels are not.
        blocks = F.pixel_unshuffle(near, 4).contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.layers(self.blocks(blocks)).flatten(2).transpose(1, 2))


@dataclass(frozen=True)
class Frames:
    """Frames as encoded."""

    grid: Tensor  # (frames, patches, dim) of the image
    depth: Tensor  # (frames, patches, dim) of the depth; none without it
    summary: Tensor  # (frames, dim), where things are included
    shape: tuple[int, int]  # rows and columns of the grid


class FrameEncoder(nn.Module):
    """RGB by any image encoder of the core, depth by a CNN, and both as one vector that knows left from right."""

    def __init__(self, image: nn.Module | None, depth: nn.Module | None, *, size: int, dim: int) -> None:
        super().__init__()
        self.image, self.depth = image, depth
        self.dim = dim
        self.image_dim = 0 if image is None else cast(int, image.dim)
        self.depth_dim = 0 if depth is None else cast(int, depth.dim)
        rows, columns = (size // 8, size // 8) if image is None else grid_shape(image, size, size)
        self.shape = rows, columns
        self.depth_patches = (size // 8) ** 2
        if image is not None:
            self.image_parts = nn.Linear(self.image_dim, COMPRESSED)
        if depth is not None:
            self.depth_parts = nn.Linear(self.depth_dim, COMPRESSED)
        parts = (rows * columns if image is not None else 0) + (self.depth_patches if depth is not None else 0)
        self.join = nn.Sequential(nn.ReLU(), nn.Linear(COMPRESSED * parts, dim), nn.ReLU())

    def forward(self, rgb: Tensor, depth: Tensor) -> Frames:
        """(frames, height, width, 3) uint8, (frames, height, width, 1) uint8 -> Frames"""
        parts: list[Tensor] = []
        grid = rgb.new_zeros(len(rgb), self.shape[0] * self.shape[1], 0, dtype=torch.float32)
        deep = rgb.new_zeros(len(rgb), 1, 0, dtype=torch.float32)
        if self.image is not None:
            seen: ImageGrid = self.image(pixels(rgb))
            grid = seen.grid
            parts.append(self.image_parts(grid).flatten(1))
        if self.depth is not None:
            deep = self.depth(depth)
            parts.append(self.depth_parts(deep).flatten(1))
        return Frames(grid=grid, depth=deep, summary=self.join(torch.cat(parts, dim=1)), shape=self.shape)


def pixels(rgb: Tensor) -> Tensor:
    """(frames, height, width, 3) uint8 -> (frames, 3, height, width) in [0, 1], half as wide where autocast is on"""
    device = rgb.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return rgb.permute(0, 3, 1, 2).to(dtype).div_(255)


class Look(nn.Module):
    """One question to each frame's patches: scores are bilinear, so that no patch is projected, and know its place."""

    def __init__(self, query_dim: int, patch_dim: int, patches: int, *, heads: int) -> None:
        super().__init__()
        self.heads, self.patch_dim = heads, patch_dim
        self.dim = heads * (patch_dim + PLACE)
        self.query = nn.Linear(query_dim, self.dim)
        self.places = nn.Parameter(torch.randn(patches, PLACE))

    def forward(self, question: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """(frames, query_dim), (frames, patches, patch_dim) -> (frames, dim), weights (frames, patches)"""
        query = self.query(question).reshape(len(question), self.heads, -1)
        what, where = query.split([self.patch_dim, PLACE], dim=2)
        places = self.places.to(where.dtype)
        scores = what @ grid.transpose(1, 2).to(what.dtype) / self.patch_dim**0.5 + where @ places.t() / PLACE**0.5
        weights = scores.float().softmax(dim=2).to(grid.dtype)
        found = torch.cat([weights @ grid, weights @ places.to(grid.dtype)], dim=2)
        return found.flatten(1), weights.mean(dim=1)


class Heads(nn.Module):
    """What a policy says at each step: actions, value, and how far it is on its way."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.act = nn.Sequential(nn.Linear(dim, 128), nn.ReLU(), nn.Linear(128, ACTIONS))
        self.value = nn.Sequential(nn.Linear(dim, 128), nn.ReLU(), nn.Linear(128, 1))
        self.progress = nn.Linear(dim, 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., dim) -> logits (..., actions), value (...), progress logit (...)"""
        # The critic learns from the walk as it is, and must not bend it.
        return self.act(state), self.value(state.detach())[..., 0], self.progress(state)[..., 0]


@dataclass(frozen=True)
class Steps:
    """What the recurrent part makes of some steps."""

    state: Tensor  # (batch, steps, dim), for the heads
    attention: Tensor  # (batch, steps, words)
    patches: Tensor  # (batch, steps, patches)
    looked: Tensor | None  # (frames, patches), the same without padding; None for what does not look at patches
    layers: tuple[LayerState, ...]


class NavigationPolicy(nn.Module):
    """Frame encoder, instruction encoder and heads around a recurrent part that decides how they meet.

    `walker` is a `Seq2Seq` or a `CrossModal`; `categories` is the width of the auxiliary head that names what each
    patch shows (0 for none).
    """

    def __init__(
        self, text: nn.Module, frames: FrameEncoder, walker: "Seq2Seq | CrossModal", *, categories: int = 0
    ) -> None:
        super().__init__()
        self.text, self.frames, self.walker = text, frames, walker
        self.heads = Heads(walker.dim)
        seen = frames.image_dim or frames.depth_dim
        self.name_patches = nn.Linear(seen, categories) if categories else None

    def start(self, instruction: Tensor, mask: Tensor) -> Memory:
        """Reads the instruction: the memory of walks on which no step was taken."""
        text: TextStates = self.text(instruction, mask)
        envs = len(mask)
        return Memory(
            told=self.walker.told(text, mask),
            mask=mask,
            layers=self.walker.initial(text),
            attention=text.states.new_zeros(mask.shape),
            patches=text.states.new_zeros(envs, self.frames.shape[0] * self.frames.shape[1]),
            progress=text.states.new_zeros(envs),
        )

    def forward(self, observation: Observation, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """Observation, memory -> logits (envs, actions), value (envs,), memory"""
        frames = self.frames(observation["rgb"], depth_bytes(observation["depth"]))
        last = observation["last_action"]
        taken = torch.where(last < 0, START, last)[:, None]
        every = torch.ones_like(taken, dtype=torch.bool)
        steps = self.walker(frames, taken, every, memory.told, memory.mask, memory.layers)
        logits, value, progress = self.heads(steps.state[:, 0])
        memory = replace(
            memory,
            layers=steps.layers,
            attention=steps.attention[:, 0].float(),
            patches=steps.patches[:, 0].float(),
            progress=progress.sigmoid().float(),
        )
        return logits.float(), value.float(), memory

    def over(self, walks: Walks) -> Outcome:
        """All steps of recorded walks, with gradients."""
        text: TextStates = self.text(walks.words, walks.mask)
        frames = self.frames(walks.rgb, walks.depth)
        told, initial = self.walker.told(text, walks.mask), self.walker.initial(text)
        steps = self.walker(frames, walks.last_action, walks.acting, told, walks.mask, initial)
        logits, value, progress = self.heads(steps.state)
        seen = frames.grid if self.frames.image is not None else frames.depth
        return Outcome(
            logits=logits.float(),
            value=value.float(),
            progress=progress.float(),
            looked=None if steps.looked is None else steps.looked.float(),
            frames=seen,
            shape=frames.shape,
        )


class Seq2Seq(nn.Module):
    """One LSTM over frame, previous action and the whole instruction (Krantz et al. 2020, arXiv:2004.02857, section 4.1)."""

    def __init__(self, frames: FrameEncoder, text_dim: int, *, dim: int = 256, action_dim: int = 32) -> None:
        super().__init__()
        self.dim = dim
        self.actions = nn.Embedding(ACTIONS + 1, action_dim)
        self.walk = RecurrentLayer("lstm", frames.dim + action_dim + text_dim, dim)

    def initial(self, text: TextStates) -> tuple[LayerState, ...]:
        """States before the first step."""
        return (self.walk.initial(len(text.pooled), text.pooled.device),)

    def told(self, text: TextStates, mask: Tensor) -> tuple[Tensor, ...]:
        """The instruction as it is asked at each step: as a whole."""
        return (text.pooled,)

    def forward(
        self, frames: Frames, taken: Tensor, acting: Tensor, told: tuple[Tensor, ...], mask: Tensor, layers: Any
    ) -> Steps:
        """Frames, (batch, steps), (batch, steps), instruction, (batch, words), states -> Steps"""
        summary = spread(frames.summary, places_of(acting, len(frames.summary)), acting)
        pooled = told[0][:, None].expand(-1, taken.shape[1], -1)
        states, after = recurrent(self.walk, [summary, self.actions(taken), pooled], acting, layers[0])
        return Steps(
            state=states,
            attention=states.new_zeros(*taken.shape, mask.shape[1]),
            patches=states.new_zeros(*taken.shape, frames.shape[0] * frames.shape[1]),
            looked=None,
            layers=(after,),
        )


class CrossModal(nn.Module):
    """Cross-modal attention (CMA; Krantz et al. 2020, arXiv:2004.02857, section 4.2).

    A first LSTM follows frames and actions; its state asks the instruction what to do, the answer asks the frame where;
    a second LSTM takes all of it, and its state looks into the instruction once more before the heads. Beside the published
    model, a few words of the instruction, the same all the way, ask each frame where the goal is (`spot`).
    """

    def __init__(
        self,
        frames: FrameEncoder,
        text_dim: int,
        *,
        dim: int = 256,
        action_dim: int = 32,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim = 2 * dim
        self.actions = nn.Embedding(ACTIONS + 1, action_dim)
        self.begin = nn.Linear(text_dim, dim)
        self.follow = RecurrentLayer("lstm", frames.dim + action_dim, dim)
        self.read = CrossAttention(dim, text_dim, dim, heads=heads)
        patches = frames.shape[0] * frames.shape[1]
        image, depth = frames.image_dim, frames.depth_dim
        self.look = Look(2 * dim, image, patches, heads=heads) if image else None
        self.reach = Look(2 * dim, depth, frames.depth_patches, heads=1) if depth else None
        self.sought = nn.Linear(text_dim, SOUGHT) if image else None
        self.spot = Look(SOUGHT * text_dim, image, patches, heads=SOUGHT) if image else None
        looked = sum(each.dim for each in (self.look, self.reach, self.spot) if each is not None)
        self.decide = RecurrentLayer("lstm", 2 * dim + looked + action_dim, dim)
        self.reread = CrossAttention(2 * dim, text_dim, dim, heads=heads)
        self.dropout = nn.Dropout(dropout)

    def initial(self, text: TextStates) -> tuple[LayerState, ...]:
        """States before the first step: the second LSTM begins with what the instruction says as a whole."""
        envs, device = len(text.pooled), text.pooled.device
        hidden = torch.tanh(self.begin(text.pooled)).float()
        return self.follow.initial(envs, device), ((hidden, torch.zeros_like(hidden)),)

    def told(self, text: TextStates, mask: Tensor) -> tuple[Tensor, ...]:
        """The words as the two attentions over them want them, and the words that say what is sought, asked only once."""
        projected = self.read.project(text.states), self.reread.project(text.states)
        if self.sought is None:
            return projected
        weights = masked_softmax(self.sought(text.states).transpose(1, 2), mask[:, None])
        return *projected, (weights.to(text.states.dtype) @ text.states).flatten(1)

    def forward(
        self, frames: Frames, taken: Tensor, acting: Tensor, told: tuple[Tensor, ...], mask: Tensor, layers: Any
    ) -> Steps:
        """Frames, (batch, steps), (batch, steps), instruction, (batch, words), states -> Steps"""
        action, places = self.actions(taken), places_of(acting, len(frames.summary))
        followed, first = recurrent(self.follow, [spread(frames.summary, places, acting), action], acting, layers[0])
        followed = self.dropout(followed)
        answer, _ = self.read(followed, mask, told[0])
        # In a frame only its own step looks.
        questions = gathered(torch.cat([followed, answer], dim=2), places)
        looked, where = [], None
        if self.look is not None:
            looked.append(self.look(questions, frames.grid)[0])
        if self.spot is not None:
            sought = told[2][:, None].expand(-1, acting.shape[1], -1)
            spotted, where = self.spot(gathered(sought, places), frames.grid)
            looked.append(spotted)
        if self.reach is not None:
            looked.append(self.reach(questions, frames.depth)[0])
        inputs = [followed, answer, action]
        if looked:
            inputs.append(spread(torch.cat([each.float() for each in looked], dim=1), places, acting))
        decided, second = recurrent(self.decide, inputs, acting, layers[1])
        decided = self.dropout(decided)
        reread, attention = self.reread(torch.cat([decided, answer], dim=2), mask, told[1])
        patches = frames.shape[0] * frames.shape[1]
        return Steps(
            state=torch.cat([decided, reread], dim=2),
            attention=attention,
            patches=answer.new_zeros(*taken.shape, patches) if where is None else spread(where, places, acting),
            looked=where,
            layers=(first, second),
        )


def places_of(acting: Tensor, frames: int) -> Tensor:
    """(batch, steps) -> (frames,) int64: where each frame's step is among all of them; padding has the place behind them"""
    if acting.shape[1] == 1:
        return torch.arange(frames, device=acting.device)
    places = acting.flatten().nonzero()[:, 0]
    return F.pad(places, (0, frames - len(places)), value=acting.numel())


def spread(values: Tensor, places: Tensor, acting: Tensor) -> Tensor:
    """(frames, dim), (frames,), (batch, steps) -> (batch, steps, dim): each frame's values at its step, zeros elsewhere"""
    if acting.shape[1] == 1:
        return values[:, None]
    steps = values.new_zeros(acting.numel() + 1, values.shape[1]).index_copy(0, places, values)
    return steps[:-1].reshape(*acting.shape, -1)


def gathered(steps: Tensor, places: Tensor) -> Tensor:
    """(batch, steps, dim), (frames,) -> (frames, dim): what each frame's step has; padding has another's"""
    return steps.flatten(0, 1).index_select(0, places.clamp(max=steps.shape[0] * steps.shape[1] - 1))


def recurrent(
    layer: RecurrentLayer, inputs: list[Tensor], acting: Tensor, state: LayerState
) -> tuple[Tensor, LayerState]:
    """All steps through a layer; one alone through its cell, which then gives the state behind it too."""
    joined = torch.cat([each.float() for each in inputs], dim=2)
    if joined.shape[1] == 1:
        output, after = layer.step(joined[:, 0], state)
        return output[:, None], after
    states, _ = layer(joined, acting, state)
    return states, state
