"""The small pictures that patterns are drawn with: grey, so that a face's colour, which multiplies them, is what one sees."""

from collections.abc import Callable
from functools import cache

import numpy as np

from vlkit.envs.house.house import Pattern
from vlkit.envs.simulator.scene import Texture

SIDE = 64  # pixels of each picture
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE]


@cache
def textures() -> tuple[Texture, ...]:
    """Those of `PATTERNS`, in its order: always the same objects, so that many houses in one simulator share them."""
    return tuple(_texture(number, draw) for number, (draw, _) in enumerate(DRAWN.values()))


def _texture(seed: int, draw: Callable[[np.random.Generator], np.ndarray]) -> Texture:
    shade = draw(np.random.default_rng(seed))
    image = np.full((SIDE, SIDE, 4), 255, dtype=np.uint8)
    image[..., :3] = np.round(shade * 255).clip(0, 255).astype(np.uint8)[..., None]
    image.setflags(write=False)  # one picture for all houses
    return Texture(image)


def _noise(rng: np.random.Generator, pixels: int) -> np.ndarray:
    """(SIDE, SIDE) in [0, 1], blotches of so many pixels that repeat without a seam"""
    coarse = rng.random((SIDE // pixels, SIDE // pixels))
    place = np.arange(SIDE) / pixels
    low, share = place.astype(int), place % 1
    high = (low + 1) % len(coarse)
    across = coarse[:, low] * (1 - share) + coarse[:, high] * share
    blotches: np.ndarray = across[low] * (1 - share[:, None]) + across[high] * share[:, None]
    return blotches


def _wood(rng: np.random.Generator) -> np.ndarray:
    bend = 0.6 * _noise(rng, 16) + 0.5 * _noise(rng, 32)
    grain = 0.5 + 0.5 * np.sin((COLUMNS * 5 / SIDE + bend) * 2 * np.pi)
    return np.asarray(1 - 0.1 * grain - 0.06 * rng.random((1, SIDE)))


def _planks(rng: np.random.Generator) -> np.ndarray:
    board, along = ROWS // 16, (COLUMNS + 24 * (ROWS // 16)) % SIDE
    shade = np.array([1.0, 0.86, 0.95, 0.8])[board] - 0.06 * rng.random((SIDE, 1))
    return np.where((ROWS % 16 == 0) | (along == 0), 0.55, shade)


def _tiles(rng: np.random.Generator) -> np.ndarray:
    shade = np.array([[1.0, 0.95], [0.93, 0.99]])[ROWS // 32, COLUMNS // 32]
    return np.where((ROWS % 32 < 2) | (COLUMNS % 32 < 2), 0.68, shade - 0.02 * rng.random((SIDE, SIDE)))


def _carpet(rng: np.random.Generator) -> np.ndarray:
    return 0.78 + 0.14 * rng.random((SIDE, SIDE)) + 0.08 * _noise(rng, 16)


def _stripes(rng: np.random.Generator) -> np.ndarray:
    return np.where(COLUMNS % 32 < 16, 1.0, 0.78) - 0.02 * rng.random((SIDE, SIDE))


def _checks(rng: np.random.Generator) -> np.ndarray:
    return np.where((ROWS // 32 + COLUMNS // 32) % 2 == 0, 1.0, 0.62) - 0.03 * rng.random((SIDE, SIDE))


def _dots(rng: np.random.Generator) -> np.ndarray:
    """Two to a picture, one in its middle and one in its corners."""
    near = [np.hypot((ROWS - at + 32) % SIDE - 32, (COLUMNS - at + 32) % SIDE - 32) for at in (0, 32)]
    return np.where(np.minimum(*near) < 11, 0.62, 1.0) - 0.02 * rng.random((SIDE, SIDE))


def _marble(rng: np.random.Generator) -> np.ndarray:
    vein = np.abs(np.sin((COLUMNS + ROWS) / SIDE * 2 * np.pi + 5 * _noise(rng, 16)))
    return np.asarray(0.8 + 0.2 * vein**0.5 - 0.04 * _noise(rng, 4))


def _brick(rng: np.random.Generator) -> np.ndarray:
    course = ROWS // 8
    along = (COLUMNS + 16 * (course % 2)) % SIDE
    shade = 0.78 + 0.14 * rng.random((8, 2))[course, along // 32]
    return np.where((ROWS % 8 == 0) | (along % 32 == 0), 1.0, shade)


def _plaster(rng: np.random.Generator) -> np.ndarray:
    return 0.93 + 0.05 * _noise(rng, 16) + 0.02 * rng.random((SIDE, SIDE))


# Each but "plain", which has no picture, with the metres after which it repeats.
DRAWN: dict[Pattern, tuple[Callable[[np.random.Generator], np.ndarray], float]] = {
    "wood": (_wood, 0.6),
    "planks": (_planks, 0.72),
    "tiles": (_tiles, 0.5),
    "carpet": (_carpet, 0.5),
    "stripes": (_stripes, 0.4),
    "checks": (_checks, 0.8),
    "dots": (_dots, 0.6),
    "marble": (_marble, 0.8),
    "brick": (_brick, 0.6),
    "plaster": (_plaster, 1.2),
}
PATTERNS: tuple[Pattern, ...] = tuple(DRAWN)
REPEAT_M: tuple[float, ...] = tuple(repeat_m for _, repeat_m in DRAWN.values())
