"""What houses and the things in them are built of: boxes, turned shapes, bars and panels, all as painted quads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlkit.envs.house.house import Pattern, Point

RGB = tuple[int, int, int]
Axis = Literal["x", "y", "z", "-z"]


@dataclass(frozen=True)
class Paint:
    """What a surface looks like."""

    colour: RGB | None = None  # None: the colour of the thing that it is on
    tone: float = 1.0  # a factor on the colour
    pattern: Pattern = "plain"


@dataclass(frozen=True, eq=False)
class Part:
    """Quads of one paint. A triangle is a quad that has one corner twice."""

    quads: np.ndarray  # (quads, 4, 3) float64, metres, corners counter-clockwise seen from the front
    paint: Paint
    double_sided: bool = False


SIDES = ("-x", "+x", "-y", "+y", "-z", "+z")
# (6, 4, 3): for each side its corners, each 0 at the lowest and 1 at the highest x, y, z.
CORNERS = np.array(
    [
        [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)],
        [(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)],
        [(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)],
        [(0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)],
        [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)],
        [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)],
    ],
    dtype=np.float64,
)


def box(low: Point, high: Point, paint: Paint, *, without: str = "") -> Part:
    """A box along the axes from its lowest to its highest corner, without the sides named, such as "+z-y"."""
    base = np.array(low)
    corners = CORNERS
    if without:
        corners = CORNERS[[i for i, side in enumerate(SIDES) if side not in without]]
    return Part(base + corners * (np.array(high) - base), paint)


def basin(low: Point, high: Point, paint: Paint, inside: Paint, *, rim_m: float, floor_m: float) -> tuple[Part, Part]:
    """An open box with walls of thickness `rim_m`, hollow down to `floor_m` over its base: its outside and its inside."""
    (x, y, z), (x2, y2, z2) = low, high
    inner_low, inner_high = (x + rim_m, y + floor_m, z + rim_m), (x2 - rim_m, y2, z2 - rim_m)
    outer = box(low, high, paint, without="+y").quads
    top = CORNERS[3, :, [0, 2]].T  # (4, 2)
    outer_rim = np.array([x, z]) + top * np.array([x2 - x, z2 - z])
    inner_rim = np.array([x + rim_m, z + rim_m]) + top * np.array([x2 - x - 2 * rim_m, z2 - z - 2 * rim_m])
    rim = np.empty((4, 4, 3))
    rim[..., 1] = y2
    for i, after in enumerate((1, 2, 3, 0)):
        rim[i][:, [0, 2]] = outer_rim[i], outer_rim[after], inner_rim[after], inner_rim[i]
    hollow = box(inner_low, inner_high, inside, without="+y").quads[:, ::-1]  # seen from within
    return Part(np.concatenate([outer, rim]), paint), Part(hollow, inside)


def lathe(
    profile: Sequence[tuple[float, float]],
    paint: Paint,
    *,
    at: Point = (0.0, 0.0, 0.0),
    sides: int = 8,
    axis: Axis = "y",
    squash: float = 1.0,
) -> Part:
    """What a profile of (radius, height) from bottom to top makes, turned round an axis through `at`.

    Radius 0 at an end closes it. A profile that goes down again on the inside makes a bowl. `squash` is a factor on one of
    the two radial directions: z for the axis y, x for z and -z, y for x.
    """
    angle = (np.arange(sides + 1) + 0.5) * (2 * math.pi / sides)
    angle[-1] = angle[0]  # so that the seam is closed to the last bit
    radius, height = np.array(profile, dtype=np.float64).T
    rings = np.empty((len(radius), sides + 1, 3))
    rings[..., 0] = radius[:, None] * np.cos(angle)
    rings[..., 1] = height[:, None]
    rings[..., 2] = radius[:, None] * (np.sin(angle) * squash)
    if axis != "y":
        rings = rings[..., (1, 2, 0) if axis == "x" else (2, 0, 1)]
    if axis == "-z":  # a half turn about y
        rings = rings * (-1, 1, -1)
    rings += np.array(at)
    quads = np.stack([rings[:-1, :-1], rings[1:, :-1], rings[1:, 1:], rings[:-1, 1:]], axis=2)
    return Part(quads.reshape(-1, 4, 3), paint)


def ball(radius: float, paint: Paint, *, at: Point, sides: int = 8, rings: int = 5, squash: float = 1.0) -> Part:
    """A sphere; `squash` is a factor on its height."""
    turn = [math.pi * i / rings for i in range(rings + 1)]
    profile = [(radius * math.sin(each), -radius * squash * math.cos(each)) for each in turn]
    profile[0], profile[-1] = (0.0, profile[0][1]), (0.0, profile[-1][1])
    return lathe(profile, paint, at=at, sides=sides)


def disc(radius: float, low: float, high: float, paint: Paint, *, at: Point, axis: Axis = "y", sides: int = 8) -> Part:
    """A cylinder between two heights along its axis, closed at both ends."""
    return lathe([(0, low), (radius, low), (radius, high), (0, high)], paint, at=at, sides=sides, axis=axis)


def bar(start: Point, end: Point, thickness_m: float, paint: Paint, *, ends: bool = True) -> Part:
    """A square beam between two points."""
    base, along = np.array(start), np.array(end) - np.array(start)
    aside = np.cross((0.0, 1.0, 0.0) if abs(along[1]) < 0.9 * math.dist(start, end) else (0.0, 0.0, 1.0), along)
    aside *= thickness_m / np.linalg.norm(aside)
    above = np.cross(along, aside)
    above *= thickness_m / np.linalg.norm(above)
    corners = CORNERS if ends else CORNERS[:4]
    return Part(base + (corners - (0.5, 0.5, 0.0)) @ np.stack([aside, above, along]), paint)


def panel(*corners: Point, paint: Paint, double_sided: bool = False) -> Part:
    """One flat quad, or a triangle, its corners counter-clockwise seen from the front."""
    return Part(np.array([corners if len(corners) == 4 else (*corners, corners[-1])]), paint, double_sided)


def facing(x: tuple[float, float], y: tuple[float, float], z: float, paint: Paint) -> Part:
    """A rectangle that looks to the front, towards -z."""
    return panel((x[0], y[0], z), (x[0], y[1], z), (x[1], y[1], z), (x[1], y[0], z), paint=paint)


def lying(x: tuple[float, float], y: float, z: tuple[float, float], paint: Paint) -> Part:
    """A rectangle that looks up."""
    return panel((x[0], y, z[0]), (x[0], y, z[1]), (x[1], y, z[1]), (x[1], y, z[0]), paint=paint)
