"""Cameras, and the pictures that an engine makes of a scene."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from vlkit.errors import UserError

Kind = Literal["rgb", "depth", "semantic", "instance"]
Filtering = Literal["nearest", "bilinear", "trilinear"]
Shading = Literal["flat", "lambert"]
KINDS: dict[Kind, tuple[torch.dtype, int]] = {  # type, and numbers a pixel
    "rgb": (torch.uint8, 3),
    "depth": (torch.float32, 0),
    "semantic": (torch.int32, 0),
    "instance": (torch.int32, 0),
}


@dataclass(frozen=True)
class Camera:
    """A pinhole with square pixels, their centres at +0.5; row 0 is the top one, column 0 the left one.

    It sits `offset` (right, up, back: x, y, z of the agent) from the agent's foot, turned to the left by `pan`, then up
    by `tilt`. Depth is planar metres along the optical axis; beyond `far`, and where nothing is hit, it is 0. What is
    nearer than `near` is not seen.
    """

    height: int = 128
    width: int = 128
    hfov_deg: float = 90.0
    offset: tuple[float, float, float] = (0.0, 1.25, 0.0)
    pan_deg: float = 0.0
    tilt_deg: float = 0.0
    near_m: float = 0.01
    far_m: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            pixels = getattr(self, name)
            if not isinstance(pixels, int) or not 1 <= pixels <= 4096:
                raise UserError(f"a camera's {name} is {pixels!r} pixels; expected a whole number from 1 to 4096")
        object.__setattr__(self, "offset", tuple(self.offset))  # a list may be given, but cannot be told apart by hash
        numbers = (*self.offset, self.pan_deg, self.tilt_deg, self.hfov_deg, self.near_m, self.far_m)
        if len(self.offset) != 3 or not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
            raise UserError(
                f"{self} has an offset that is no (x, y, z), or a number that is not finite; give metres, degrees"
            )
        if not 1 <= self.hfov_deg <= 170:
            raise UserError(f"a camera's hfov_deg is {self.hfov_deg}; expected 1 to 170 degrees")
        if not 0 < self.near_m < self.far_m:
            raise UserError(f"a camera's near_m is {self.near_m} and far_m {self.far_m}; expected 0 < near_m < far_m")

    @property
    def focal(self) -> float:
        """Pixels from the pinhole to the picture."""
        return self.width / 2 / math.tan(math.radians(self.hfov_deg) / 2)


Frames = dict[Kind, Tensor]  # rgb (views, height, width, 3) uint8; the others (views, height, width)


class Engine(Protocol):
    """What draws: `raster.RasterEngine` on the CPU, `raycast.RayEngine` on CUDA. The same pictures from both."""

    device: torch.device

    def render(self, camera: Camera, scene: Tensor, position: Tensor, rotation: Tensor, out: Frames) -> None:
        """Draws each view into row i of the tensors in `out`, whose keys say what is wanted.

        scene (views,) int64 into the engine's scenes; position (views, 3) float32 m of the pinhole; rotation
        (views, 3, 3) float32, whose columns are the camera's right, up and back in the world.
        """


def frames(camera: Camera, kinds: tuple[Kind, ...], views: int, device: torch.device) -> Frames:
    """Room for the pictures of so many views."""
    made: Frames = {}
    for kind in kinds:
        dtype, channels = KINDS[kind]
        shape = (views, camera.height, camera.width) + ((channels,) if channels else ())
        made[kind] = torch.zeros(shape, dtype=dtype, device=device)
    return made


def rotations(yaw: Tensor, tilt: Tensor) -> Tensor:
    """(views,) radians to the left and up -> (views, 3, 3): columns are the camera's right, up and back"""
    sine, cosine, down, level = yaw.sin(), yaw.cos(), tilt.sin(), tilt.cos()
    nothing = torch.zeros_like(yaw)
    right = torch.stack([cosine, nothing, -sine], dim=1)
    up = torch.stack([sine * down, level, cosine * down], dim=1)
    back = torch.stack([sine * level, -down, cosine * level], dim=1)
    return torch.stack([right, up, back], dim=2).float()
