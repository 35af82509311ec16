"""Noise of sensors and of motion. Every environment has its own stream: what is drawn for it depends on its seed and its
step, never on the batch it is in, on threads or on the device.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vlkit.envs.simulator.kernels import launch, lent, wp
from vlkit.errors import UserError


@dataclass(frozen=True)
class Streams:
    """Where the random numbers of a batch of environments stand."""

    seed: Tensor  # (envs,) int64, of the episode that is played
    step: Tensor  # (envs,) int64


class DepthNoise(Protocol):
    """What a depth camera gets wrong."""

    def __call__(self, depth: Tensor, streams: Streams) -> Tensor:
        """(envs, ..., height, width) float32 metres -> the same shape; where nothing was hit (0) it stays 0"""


class ActionNoise(Protocol):
    """What motors get wrong."""

    def __call__(self, forward_m: Tensor, turn_rad: Tensor, streams: Streams) -> tuple[Tensor, Tensor, Tensor]:
        """What was wished, (envs,) each -> metres ahead, metres to the right, radians to the left, (envs,) each"""


@dataclass(frozen=True)
class GaussianDepth:
    """Independent noise in every pixel, whose standard deviation is `share` of the depth."""

    share: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError(f"depth noise of a share of {self.share}; expected 0 to 1 of the depth")

    def __call__(self, depth: Tensor, streams: Streams) -> Tensor:
        """See DepthNoise"""
        flat = depth.flatten(1).contiguous()
        noisy = torch.empty_like(flat)
        inputs = [lent(flat), lent(_seeds(streams, purpose=1)), self.share]
        launch(_gaussian, tuple(flat.shape), [*inputs, lent(noisy)], noisy.device)
        return noisy.reshape(depth.shape)


@dataclass(frozen=True)
class RedwoodDepth:
    """A structured-light camera, after Choi et al. 2015 (arXiv:1505.04758, section 5), without its lens distortion.

    Each pixel looks up to a pixel or two beside itself, which frays edges; its disparity, `baseline_focal` / depth, is
    blurred by Gaussian noise and then rounded to eighths of a pixel, so that far walls come in steps. Nothing is seen
    beyond `far_m`. `strength` multiplies all that is random.
    """

    baseline_focal: float = 35.13  # metres times pixels
    blur: float = 1 / 36  # pixels of disparity
    far_m: float = 10.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not (self.baseline_focal > 0 and self.far_m > 0 and self.blur >= 0 and self.strength >= 0):
            raise UserError(f"{self}: expected lengths above 0, and a blur and a strength of 0 or more")

    def __call__(self, depth: Tensor, streams: Streams) -> Tensor:
        """See DepthNoise"""
        height, width = depth.shape[-2:]
        flat = depth.flatten(1).contiguous()
        noisy = torch.empty_like(flat)
        inputs = [lent(flat), lent(_seeds(streams, purpose=2)), height, width]
        inputs += [self.baseline_focal, self.blur, self.far_m, self.strength]
        launch(_redwood, tuple(flat.shape), [*inputs, lent(noisy)], noisy.device)
        return noisy.reshape(depth.shape)


@dataclass(frozen=True)
class GaussianMotion:
    """What is wished is multiplied by 1 + `share` times a normal number; a hop also strays aside and turns by `drift`."""

    share: float = 0.1
    drift: float = 0.05  # radians, and metres a metre

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 <= self.drift <= 1):
            raise UserError(f"{self}: expected shares from 0 to 1")

    def __call__(self, forward_m: Tensor, turn_rad: Tensor, streams: Streams) -> tuple[Tensor, Tensor, Tensor]:
        """See ActionNoise"""
        numbers = torch.empty(len(forward_m), 3, dtype=torch.float32, device=forward_m.device)
        launch(_normal, tuple(numbers.shape), [lent(_seeds(streams, purpose=3)), lent(numbers)], numbers.device)
        scale, aside, turn = numbers.unbind(dim=1)
        moving = (forward_m != 0).float()
        turned = turn_rad * (1 + self.share * scale) + moving * self.drift * turn
        return forward_m * (1 + self.share * scale), forward_m * self.drift * aside, turned


def uniform(streams: Streams, count: int) -> Tensor:
    """(envs, count) float32 in [0, 1), for what an episode begins with."""
    numbers = torch.empty(len(streams.seed), count, dtype=torch.float32, device=streams.seed.device)
    launch(_uniform, tuple(numbers.shape), [lent(_seeds(streams, purpose=4)), lent(numbers)], numbers.device)
    return numbers


@wp.kernel(enable_backward=False)
def _uniform(seeds: wp.array[int], numbers: wp.array2d[float]) -> None:
    env, i = wp.tid()
    state = wp.rand_init(seeds[env], i)
    numbers[env, i] = wp.randf(state)


@wp.kernel(enable_backward=False)
def _gaussian(depth: wp.array2d[float], seeds: wp.array[int], share: float, noisy: wp.array2d[float]) -> None:
    env, pixel = wp.tid()
    state = wp.rand_init(seeds[env], pixel)
    metres = depth[env, pixel]
    if metres > 0.0:
        metres = wp.max(metres * (1.0 + share * wp.randn(state)), 1.0e-3)
    noisy[env, pixel] = metres


@wp.kernel(enable_backward=False)
def _redwood(
    depth: wp.array2d[float],
    seeds: wp.array[int],
    height: int,
    width: int,
    baseline_focal: float,
    blur: float,
    far_m: float,
    strength: float,
    noisy: wp.array2d[float],
) -> None:
    env, pixel = wp.tid()
    state = wp.rand_init(seeds[env], pixel)
    picture = pixel // (height * width)
    row = (pixel // width) % height + int(wp.round(0.5 * strength * wp.randn(state)))
    column = pixel % width + int(wp.round(0.5 * strength * wp.randn(state)))
    beside = (picture * height + wp.clamp(row, 0, height - 1)) * width + wp.clamp(column, 0, width - 1)
    metres = depth[env, beside]
    seen = 0.0
    if metres > 0.0:
        disparity = baseline_focal / metres + blur * strength * wp.randn(state)
        disparity = wp.round(disparity * 8.0) / 8.0
        if disparity * far_m > baseline_focal:
            seen = baseline_focal / disparity
    noisy[env, pixel] = seen


@wp.kernel(enable_backward=False)
def _normal(seeds: wp.array[int], numbers: wp.array2d[float]) -> None:
    env, i = wp.tid()
    state = wp.rand_init(seeds[env], i)
    numbers[env, i] = wp.randn(state)


def _seeds(streams: Streams, *, purpose: int) -> Tensor:
    """(envs,) int32: one for each environment, step and purpose, far apart where these are near"""
    mixed = streams.seed * 0x9E3779B97F4A7C1 + streams.step * 0x2545F4914F6CDD1 + purpose * 0x27D4EB2F165667C
    mixed = mixed ^ (mixed >> 29)
    mixed = mixed * 0x1B03738712FAD5C
    return (mixed >> 31).to(torch.int32)
