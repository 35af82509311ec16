"""Ground, distances, snaps, moves and rollouts beside those that habitat-sim measured in the same scene.

The folder is that of `golden.py`; the ground is computed from its mesh, under `habitat_compatible` and with the
settings that golden.json names. Without a bound, for comparison: areas, flags, borders, our own expert, how much longer
habitat's ways are than the shortest ones over the same ground, and the ground with its true heights.
"""

import math
from pathlib import Path

import numpy as np
import torch

from vlkit.envs.simulator.golden import Figure, Golden, golden_scene
from vlkit.envs.simulator.json_fields import Fields
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings, nav_grid

MEDIAN, PERCENTILE_95, CONNECTED = 0.5, 2.5, 2.0  # %, of geodesic distances
SNAP_M, SNAP_SHARE = 0.05, 95.0
MOVE_M, MOVE_SHARE = 0.02, 99.0
ROLLOUT_M, ROLLOUT_SHARE = 0.1, 90.0
SETTINGS = ("agent_height", "agent_max_climb", "agent_max_slope", "agent_radius", "cell_size", "cell_height")
OUTLINES = ("edge_max_error", "edge_max_len", "region_min_size", "region_merge_size")
FORWARD, LEFT, RIGHT = 1, 2, 3
FORWARD_M, TURN_DEG = 0.25, 15.0


def navigation_figures(folder: Path) -> list[Figure]:
    """How far the ground of one golden scene, and what happens on it, is from habitat-sim's.

    Raises UserError where a file or a part of one is missing or damaged, or habitat's settings are none of ours.
    """
    golden = Golden(folder)
    settings = [_settings(golden.told.fields(name)) for name in ("navmesh_r01", "navmesh_r02")]
    scene = golden_scene(folder)
    narrow, wide = (nav_grid(scene, each, cache=False) for each in settings)
    figures = [
        *_ground(narrow, golden, "", "island_area"),
        *_geodesics(narrow, golden, "geo", ""),
        *_ground(wide, golden, ", radius 0.2", "island_area_r02"),
        *_geodesics(wide, golden, "geo02", ", radius 0.2"),
        *_snaps(narrow, golden),
        *_moves(narrow, golden, "move", "sliding moves", sliding=True),
        *_moves(narrow, golden, "move_nosliding", "moves without sliding", sliding=False),
        *_rollouts(narrow, golden),
    ]
    true = nav_grid(scene, NavSettings(agent_radius=narrow.settings.agent_radius), cache=False)
    figures += _shortest(narrow, golden)
    figures += _unbounded(_ground(true, golden, ", true heights", "island_area"))
    figures += _unbounded(_geodesics(true, golden, "geo", ", true heights"))
    return figures


def _settings(navmesh: Fields) -> NavSettings:
    """habitat's settings, written out as single precision, in our names."""
    told = navmesh.fields("settings")
    named = [*SETTINGS, *(name for name in OUTLINES if name in told)]
    return NavSettings(**{name: round(told.number(name), 6) for name in named}, habitat_compatible=True)


def _unbounded(figures: list[Figure]) -> list[Figure]:
    return [Figure(each.name, each.value, math.inf, "at most") for each in figures]


def _ground(grid: NavGrid, golden: Golden, label: str, key: str) -> list[Figure]:
    area, islands = float(golden[key].sum()), len(golden[key])
    return [
        Figure(f"walkable area, % off{label}", 100 * abs(grid.area_m2 - area) / area, math.inf, "at most"),
        Figure(f"islands too many or too few{label}", abs(len(grid.islands) - islands), math.inf, "at most"),
    ]


def _geodesics(grid: NavGrid, golden: Golden, key: str, label: str) -> list[Figure]:
    ours = np.asarray(grid.geodesic(golden[f"{key}_start"], golden[f"{key}_end"]), dtype=np.float64)
    theirs = golden[f"{key}_dist"].astype(np.float64)
    joined = np.isfinite(ours) & np.isfinite(theirs)
    off = 100 * np.abs(ours[joined] - theirs[joined]) / np.maximum(theirs[joined], 1e-6)
    if not len(off):
        off = np.array([math.inf])
    apart = 100 * float((np.isfinite(ours) != np.isfinite(theirs)).mean())
    return [
        Figure(f"geodesic distance, median % off{label}", float(np.median(off)), MEDIAN, "at most"),
        Figure(
            f"geodesic distance, 95th percentile % off{label}", float(np.percentile(off, 95)), PERCENTILE_95, "at most"
        ),
        Figure(f"pairs connected differently, %{label}", apart, CONNECTED, "at most"),
    ]


def _shortest(grid: NavGrid, golden: Golden) -> list[Figure]:
    """Over the same ground, from the distance fields that environments ask in every step."""
    world = grid.world
    ours = np.asarray(world.distance(None, golden["geo_start"], world.goals(None, golden["geo_end"])))
    theirs = golden["geo_dist"]
    joined = np.isfinite(ours) & np.isfinite(theirs) & (theirs > 0)
    off = 100 * (theirs[joined] / np.maximum(ours[joined], 1e-6) - 1)
    return [
        Figure(
            "habitat's ways, 95th percentile % longer than the shortest",
            float(np.percentile(off, 95)),
            math.inf,
            "at most",
        )
    ]


def _snaps(grid: NavGrid, golden: Golden) -> list[Figure]:
    ours, theirs = np.asarray(grid.snap(golden["snap_query"])), golden["snap_result"]
    nowhere = np.isnan(ours).any(axis=1) & np.isnan(theirs).any(axis=1)
    near = np.nan_to_num(np.linalg.norm(ours - theirs, axis=1), nan=np.inf) <= SNAP_M
    agreed = np.asarray(grid.is_navigable(golden["snap_query"])) == golden["snap_query_navigable"]
    walls = np.abs(np.asarray(grid.distance_to_closest_obstacle(golden["obstacle_point"])) - golden["obstacle_dist"])
    return [
        Figure("snaps within 5 cm, %", 100 * float((near | nowhere).mean()), SNAP_SHARE, "at least"),
        Figure("is_navigable alike, %", 100 * float(agreed.mean()), 0.0, "at least"),
        Figure("distances to the border within 2 cm, %", 100 * float((walls <= MOVE_M).mean()), 0.0, "at least"),
    ]


def _moves(grid: NavGrid, golden: Golden, key: str, label: str, *, sliding: bool) -> list[Figure]:
    end, collided = grid.step(golden[f"{key}_start"], yaw=golden[f"{key}_yaw"], forward_m=FORWARD_M, sliding=sliding)
    near = np.linalg.norm(np.asarray(end) - golden[f"{key}_end"], axis=1) <= MOVE_M
    flags = np.asarray(collided) == golden[f"{key}_collided"]
    return [
        Figure(f"{label} that end within 2 cm, %", 100 * float(near.mean()), MOVE_SHARE, "at least"),
        Figure(f"{label}, collided alike, %", 100 * float(flags.mean()), 0.0, "at least"),
    ]


def _rollouts(grid: NavGrid, golden: Golden) -> list[Figure]:
    """habitat's actions from habitat's starts; then our expert's own way to the same goals."""
    position, yaw = (
        torch.from_numpy(golden["roll_start"]),
        torch.from_numpy(golden["roll_yaw"][:, 0].astype(np.float32)),
    )
    for actions in torch.from_numpy(golden["roll_actions"].astype(np.int64)).T:
        position, yaw = _acted(grid, position, yaw, actions)
    last = golden["roll_length"].astype(np.int64) - 1
    theirs = golden["roll_positions"][np.arange(len(last)), last]
    near = np.linalg.norm(position.numpy() - theirs, axis=1) <= ROLLOUT_M

    position, yaw = (
        torch.from_numpy(golden["roll_start"]),
        torch.from_numpy(golden["roll_yaw"][:, 0].astype(np.float32)),
    )
    goals = grid.world.goals(None, golden["roll_goal"])
    for _ in range(500):
        actions = grid.world.next_actions(None, position, yaw, goals)
        if not actions.any():
            break
        position, yaw = _acted(grid, position, yaw, actions)
    arrived = np.asarray(grid.world.distance(None, position, goals)) <= 0.25
    return [
        Figure(
            "rollouts of habitat's actions that end within 10 cm, %",
            100 * float(near.mean()),
            ROLLOUT_SHARE,
            "at least",
        ),
        Figure("goals that the expert reaches, %", 100 * float(arrived.mean()), 0.0, "at least"),
    ]


def _acted(
    grid: NavGrid, position: torch.Tensor, yaw: torch.Tensor, actions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    moved, _ = grid.step(position, yaw=yaw, forward_m=FORWARD_M)
    turn = (actions == LEFT).float() - (actions == RIGHT).float()
    return torch.where((actions == FORWARD)[:, None], moved, position), yaw + turn * math.radians(TURN_DEG)
