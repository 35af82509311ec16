"""Pictures from inside a generated house, with tables of what each shows: what questions and dialogs are about."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vlkit.batches import stream_seed
from vlkit.envs.house.catalogue import KINDS
from vlkit.envs.house.house import LEVELS, Furniture, House, Level, Room
from vlkit.envs.house.mesh import house_scene
from vlkit.envs.simulator.batch import Agent, BatchSimulator, Sensor
from vlkit.envs.simulator.camera import Camera
from vlkit.envs.simulator.navgrid import NavSettings
from vlkit.processes import cores

EYE_M = 1.35
HFOV_DEG = 90.0
BODY_M = 0.3  # a camera stands so far from walls and furniture
CLEAR_SHARE = 0.004  # of the picture: what covers less may be too small to make out
HINT_SHARE = 0.0003  # what covers less cannot be seen
NEAR_PERCENT = 10  # of a thing's pixels are nearer than it is said to be
LEAST_CLEAR = 3  # things in a picture worth asking about
FEWEST_FOR_PROCESSES = 24  # houses: fewer are done before other processes have started
TRIES = 4  # pictures drawn for one that is kept


T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One house to take pictures of."""

    name: str
    level: Level
    split: str
    seed: int
    views: int
    size: int
    folder: Path  # where its pictures go


def in_houses(
    work: Callable[[Job], T],
    split: str,
    count: int,
    *,
    seed: int,
    views: int,
    size: int,
    folder: Path,
    processes: int | None,
) -> Iterator[T]:
    """What `work` gives for each house of a split, in order; in a few processes (one a core) where there are many."""
    jobs = [
        Job(f"house_{i + 1:04d}", LEVELS[i % len(LEVELS)], split, seed, views, size, folder / "images" / split)
        for i in range(count)
    ]
    together = min(processes or cores(), count)
    if together < 2 or count < FEWEST_FOR_PROCESSES:
        yield from map(work, jobs)
        return
    # Not forked: Warp and torch have threads by now.
    with ProcessPoolExecutor(together, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


@dataclass(frozen=True)
class Seen:
    """A thing in a picture."""

    thing: Furniture
    share: float  # of the picture that it covers
    left: float  # its edges and its middle, as shares of the picture's width
    middle: float
    right: float
    distance_m: float  # along the line of sight

    @property
    def clear(self) -> bool:
        """Whether it is large enough to be made out for sure."""
        return self.share >= CLEAR_SHARE


@dataclass(frozen=True, eq=False)
class View:
    """A picture and what it shows."""

    house: House
    room: Room  # where the camera stands
    pixels: np.ndarray  # (height, width, 3) uint8
    seen: tuple[Seen, ...]  # whatever covers more than a hint

    def of_kind(self, kind: str) -> list[Seen]:
        """The things of a kind, clear or not."""
        return [each for each in self.seen if each.thing.kind == kind]

    @property
    def clear(self) -> list[Seen]:
        """The things that can be made out for sure."""
        return [each for each in self.seen if each.clear]


def views(house: House, count: int, *, size: int, seed: int, threads: int | None = None) -> list[View]:
    """At most `count` pictures from places and in directions drawn at random, in each of which some things can be made out.

    size: pixels along a side. The same house, size and seed give the same pictures.
    """
    camera = Camera(size, size, hfov_deg=HFOV_DEG, offset=(0.0, EYE_M, 0.0))
    sensors = {name: Sensor(name, camera) for name in ("rgb", "depth", "instance")}
    simulator = BatchSimulator(
        house_scene(house),
        num_envs=count * TRIES,
        sensors=sensors,
        agent=Agent(navigation=NavSettings(agent_radius=BODY_M)),
        device="cpu",
        threads=threads,
        seed=stream_seed(seed, "views", house.name),
    )
    shown = simulator.reset()
    found: list[View] = []
    for i in range(count * TRIES):
        x, y, z = shown["pose"][i, :3].tolist()
        room = house.room_at((x, y, z))
        if room is None or room.kind == "stairs":
            continue
        seen = seen_in(house, shown["instance"][i], shown["depth"][i])
        if sum(each.clear for each in seen) >= LEAST_CLEAR and len(found) < count:
            found.append(View(house, room, shown["rgb"][i].numpy().copy(), seen))
    return found


def seen_in(house: House, instance: Tensor, depth: Tensor) -> tuple[Seen, ...]:
    """(height, width) ids and metres -> the things that can be seen, the largest first"""
    pixels, width = instance.numel(), instance.shape[1]
    counts = torch.bincount(instance.flatten().long(), minlength=len(house.furniture) + 1).tolist()
    found = []
    for thing in house.furniture:
        if counts[thing.id] < max(HINT_SHARE * pixels, 1):
            continue
        where = instance == thing.id
        columns = where.any(dim=0).nonzero()[:, 0]
        spread = where.sum(dim=0).float()
        middle = float((spread * torch.arange(width)).sum() / spread.sum())
        found.append(
            Seen(
                thing,
                share=counts[thing.id] / pixels,
                left=float(columns[0]) / width,
                middle=(middle + 0.5) / width,
                right=float(columns[-1] + 1) / width,
                distance_m=float(np.percentile(depth[where].numpy(), NEAR_PERCENT)),
            )
        )
    return tuple(sorted(found, key=lambda each: (-each.share, each.thing.id)))


def gap_m(one: Furniture, other: Furniture) -> float:
    """Metres between two things in plan, 0 where they touch or overlap."""
    away = []
    for axis, (a, b) in enumerate(zip(one.extent, other.extent, strict=True)):
        between = abs(one.centre[2 * axis] - other.centre[2 * axis])
        away.append(max(between - (a + b) / 2, 0.0))
    return math.hypot(*away)


def stands(thing: Furniture) -> bool:
    """Whether it stands on the floor, so that another one can be next to it."""
    return KINDS[thing.kind].rule in ("wall", "corner", "centre", "around")


def kinds_of(seen: Sequence[Seen]) -> set[str]:
    """The kinds of some things."""
    return {each.thing.kind for each in seen}
