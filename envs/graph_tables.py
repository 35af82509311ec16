"""Navigation graphs of many buildings as one set of tensors, so that a step of many environments is a few look-ups.

Viewpoints of all buildings are numbered through; a row of `neighbours` lists those that a viewpoint is joined to, and
the place in that row (the slot) is the panoramic action that leads there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlkit.envs.r2r import Scan

HEADINGS = 12  # the classic simulator turns by 30 degrees
ELEVATIONS = 3  # and looks 30 degrees down, level, 30 degrees up
TURN = math.pi / 6
FAR = np.int8(99)  # more turns than lie between any two poses
HALF_VIEW = math.radians(40)  # half the horizontal field: 60 degrees vertically at 640x480, scaled by width / height


@dataclass(frozen=True, eq=False)
class GraphTables:
    """All graphs of a world. -1 (or inf, for lengths) fills the slots that a viewpoint does not have."""

    names: tuple[str, ...]  # (viewpoints,), ids as in the files
    scans: tuple[str, ...]  # (buildings,)
    index: Mapping[tuple[str, str], int]  # (scan, viewpoint id) -> number
    building: Tensor  # (viewpoints,) int64
    local: Tensor  # (viewpoints,) int64, number within the building
    positions: Tensor  # (viewpoints, 3) float32, metres
    neighbours: Tensor  # (viewpoints, slots) int64
    headings: Tensor  # (viewpoints, slots) float32, absolute heading of the hop, radians
    elevations: Tensor  # (viewpoints, slots) float32, radians, up is positive
    lengths: Tensor  # (viewpoints, slots) float32, metres
    row: Tensor  # (viewpoints,) int64: where the viewpoint's row starts in the two flat tables below
    distance_rows: Tensor  # (pairs,) float64: metres to every viewpoint of the same building
    next_rows: Tensor  # (pairs,) int16: slot of the first hop of a shortest path, -1 at the goal or where there is none

    @property
    def slots(self) -> int:
        return self.neighbours.shape[1]

    @property
    def device(self) -> torch.device:
        return self.neighbours.device

    @cached_property
    def forward(self) -> Tensor:
        """(viewpoints, headings, elevations) int64: see forward_slots"""
        return forward_slots(self)

    @cached_property
    def classic(self) -> "ClassicOracle":
        """See classic_oracle; computed once, for it takes as long as reading the graphs."""
        return classic_oracle(self, self.forward)

    def to(self, device: torch.device | str) -> "GraphTables":
        """The same tables on this device; themselves where they are there."""
        if torch.device(device) == self.device:
            return self
        tensors: dict[str, Any] = {
            field.name: getattr(self, field.name).to(device) for field in fields(self) if field.type is Tensor
        }
        return replace(self, **tensors)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Metres of the shortest path between viewpoints of one building: two shapes -> what they broadcast to, float64"""
        return self.distance_rows[self.row[a] + self.local[b]]

    def next_slot(self, a: Tensor, b: Tensor) -> Tensor:
        """Slot of the first hop from a towards b, -1 where they are the same or not connected; shapes as above, int64"""
        return self.next_rows[self.row[a] + self.local[b]].long()


def graph_tables(scans: Mapping[str, Scan]) -> GraphTables:
    """The tables of all these buildings, on the CPU."""
    if not scans:
        raise ValueError("no buildings to make tables of; give at least one")
    slots = max(1, *(int(scan.adjacency.sum(axis=1).max(initial=0)) for scan in scans.values()))
    parts = [_building_tables(scan, slots) for scan in scans.values()]
    sizes = [len(scan.viewpoints) for scan in scans.values()]
    first = np.concatenate([[0], np.cumsum(sizes)])
    local = np.concatenate([np.arange(size) for size in sizes])
    building = np.repeat(np.arange(len(sizes)), sizes)
    flat_start = np.concatenate([[0], np.cumsum([size * size for size in sizes])])
    neighbours = [np.where(part["neighbours"] < 0, -1, part["neighbours"] + first[i]) for i, part in enumerate(parts)]
    return GraphTables(
        names=tuple(viewpoint for scan in scans.values() for viewpoint in scan.viewpoints),
        scans=tuple(scans),
        index={
            (scan.name, viewpoint): int(first[i]) + k
            for i, scan in enumerate(scans.values())
            for k, viewpoint in enumerate(scan.viewpoints)
        },
        building=torch.from_numpy(building),
        local=torch.from_numpy(local),
        positions=torch.from_numpy(np.concatenate([scan.positions for scan in scans.values()]).astype(np.float32)),
        neighbours=torch.from_numpy(np.concatenate(neighbours)),
        headings=_joined(parts, "headings"),
        elevations=_joined(parts, "elevations"),
        lengths=_joined(parts, "lengths"),
        row=torch.from_numpy(flat_start[building] + local * np.array(sizes)[building]),
        distance_rows=torch.from_numpy(np.concatenate([scan.distances.ravel() for scan in scans.values()])),
        next_rows=torch.from_numpy(np.concatenate([part["next"].ravel() for part in parts])),
    )


def _building_tables(scan: Scan, slots: int) -> dict[str, np.ndarray]:
    size = len(scan.viewpoints)
    neighbours = np.full((size, slots), -1)
    for i in range(size):
        joined = np.flatnonzero(scan.adjacency[i])
        neighbours[i, : len(joined)] = joined
    there = neighbours >= 0
    offsets = scan.positions[neighbours] - scan.positions[:, None, :]
    lengths = np.where(there, scan.edges[np.arange(size)[:, None], neighbours], np.inf)
    through = lengths[:, :, None] + scan.distances[neighbours]  # (viewpoints, slots, goals)
    following = through.argmin(axis=1)
    at, slot = np.nonzero(there)
    following[at, neighbours[at, slot]] = slot  # straight there, even past a viewpoint that lies on the line
    following[~np.isfinite(scan.distances)] = -1
    np.fill_diagonal(following, -1)
    return {
        "neighbours": neighbours,
        "headings": np.where(there, np.arctan2(offsets[..., 0], offsets[..., 1]) % (2 * math.pi), 0.0),
        "elevations": np.where(there, np.arctan2(offsets[..., 2], np.hypot(offsets[..., 0], offsets[..., 1])), 0.0),
        "lengths": lengths,
        "next": following.astype(np.int16),
    }


def _joined(parts: list[dict[str, np.ndarray]], key: str) -> Tensor:
    return torch.from_numpy(np.concatenate([part[key] for part in parts]).astype(np.float32))


# The tables below are made in NumPy: torch's threads would hang a process that was forked from one that used them,
# as Gymnasium's AsyncVectorEnv does.


def forward_slots(tables: GraphTables) -> Tensor:
    """(viewpoints, headings, elevations) int64: where `forward` leads in the classic simulator, -1 where nowhere.

    It moves to the viewpoint nearest the image centre among those within the horizontal field of view
    (Matterport3DSimulator: 640x480, 60 degrees vertically; elevation bounds nothing).
    """
    headings, elevations, neighbours = (
        values.cpu().numpy()[:, None, None, :] for values in (tables.headings, tables.elevations, tables.neighbours)
    )
    looks, tilts = np.arange(HEADINGS)[:, None, None] * TURN, (np.arange(ELEVATIONS)[:, None] - 1) * TURN
    aside = (headings - looks + math.pi) % (2 * math.pi) - math.pi  # (viewpoints, headings, 1, slots)
    off_centre = aside**2 + (elevations - tilts) ** 2  # (viewpoints, headings, elevations, slots)
    seen = (neighbours >= 0) & (np.abs(aside) <= HALF_VIEW)
    best = np.where(seen, off_centre, math.inf).argmin(axis=-1)
    return torch.from_numpy(np.where(seen.any(axis=-1), best, -1)).to(tables.device)


def wrapped(angle: Tensor) -> Tensor:
    """The same angle between -pi and pi."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


@dataclass(frozen=True, eq=False)
class ClassicOracle:
    """The classic simulator's shortest-path actions: turn and tilt until `forward` takes the wanted hop, then go."""

    tables: GraphTables
    next_rows: Tensor  # (pairs,) int16, as GraphTables.next_rows, but over hops that `forward` can take
    towards: Tensor  # (viewpoints, slots, headings, elevations) int8, action that brings the hop nearer

    def actions(self, viewpoint: Tensor, target: Tensor, looks: Tensor, tilts: Tensor) -> Tensor:
        """(envs,) each -> (envs,) int64 egocentric actions; STOP (0) at the target, or where no `forward` leads there"""
        slot = self.next_rows[self.tables.row[viewpoint] + self.tables.local[target]].long()
        action = self.towards[viewpoint, slot.clamp(min=0), looks, tilts].long()
        return torch.where(slot >= 0, action, 0)


def classic_oracle(tables: GraphTables, forward: Tensor) -> ClassicOracle:
    """3 % of Matterport's hops are never nearest the image centre from any pose; the oracle walks around those.

    It stops where there is no way around, which Matterport's graphs have nowhere.
    """
    poses = forward.cpu().numpy().reshape(len(tables.names), 1, -1)
    reached = poses == np.arange(tables.slots)[:, None]  # (viewpoints, slots, poses)
    usable = reached.any(axis=-1) & (tables.neighbours.cpu().numpy() >= 0)
    turns, first = _pose_changes()
    towards, rows = [], []
    buildings = tables.building.cpu().numpy()
    for building in range(len(tables.scans)):
        own = np.flatnonzero(buildings == building)
        best = np.where(reached[own][:, :, None, :], turns, FAR).argmin(axis=-1)  # (viewpoints, slots, poses)
        towards.append(first[np.arange(len(turns)), best])
        rows.append(_next_over(tables, own, usable[own]))
    shape = (len(tables.names), tables.slots, HEADINGS, ELEVATIONS)
    return ClassicOracle(
        tables=tables,
        next_rows=torch.from_numpy(np.concatenate(rows)).to(tables.device),
        towards=torch.from_numpy(np.concatenate(towards).reshape(shape)).to(tables.device),
    )


def _pose_changes() -> tuple[np.ndarray, np.ndarray]:
    """(poses, poses) int8: number of turns from one pose to another, and the first action of the way there."""
    looks, tilts = np.divmod(np.arange(HEADINGS * ELEVATIONS), ELEVATIONS)
    right = (looks[None, :] - looks[:, None]) % HEADINGS
    up = tilts[None, :] - tilts[:, None]
    turns = np.minimum(right, HEADINGS - right) + np.abs(up)
    sideways = np.where(right <= HEADINGS // 2, 3, 2)  # RIGHT, LEFT
    first = np.where(right > 0, sideways, np.where(up > 0, 4, np.where(up < 0, 5, 1)))
    return turns.astype(np.int8), first.astype(np.int8)


def _next_over(tables: GraphTables, own: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The flat next-hop table of one building over its usable hops: slots, -1 where those do not lead there."""
    size = len(own)
    neighbours = tables.local.cpu().numpy()[np.maximum(tables.neighbours.cpu().numpy()[own], 0)]
    lengths = np.where(usable, tables.lengths.cpu().numpy()[own], math.inf).astype(np.float64)
    distances = np.full((size, size), math.inf)
    np.minimum.at(distances, (np.arange(size)[:, None], neighbours), lengths)
    np.fill_diagonal(distances, 0.0)
    for through in range(size):
        np.minimum(distances, distances[:, through, None] + distances[through], out=distances)
    onward = lengths[:, :, None] + distances[neighbours]  # (viewpoints, slots, goals)
    following = np.where(np.isfinite(onward.min(axis=1)), onward.argmin(axis=1), -1).astype(np.int16)
    np.fill_diagonal(following, -1)
    return following.ravel()
