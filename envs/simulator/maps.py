"""Maps from above: what can be walked on, storey by storey, with rooms, objects, start, goal and paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlkit.envs.simulator.scene import SceneData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vlkit.envs.simulator.navgrid import NavGrid

ABOVE_M = 2.0  # what begins higher than this over a storey's floor belongs to the ceiling or the next storey
BELOW_M = 0.5  # and what ends lower than this under it to the storey below
INCHES = 5.0  # of a storey's map, along its longer side
WALKABLE, OBJECT, ROOM, INK = "#dbe7d3", "#c9b79c", "#6d6875", "#2b2d42"
# kind: colour, line width, dashes; wide below and narrow above, so that paths that agree are both seen
PATHS: dict[str, tuple[str, float, str]] = {"reference": ("#f4a259", 4.0, "-"), "executed": ("#1d4e89", 1.6, "-")}
MARKS: dict[str, tuple[str, str]] = {"start": ("o", "#2a9d8f"), "goal": ("*", "#d62828")}


@dataclass(frozen=True, eq=False)
class Storey:
    """What can be walked on about one height."""

    height_m: float  # of the floor
    walkable: np.ndarray  # (rows, columns) bool; a row further is `cell_m` further in z, a column in x
    origin: tuple[float, float]  # x and z of the first cell's outer corner, metres
    cell_m: float


def storeys_of(walk: "NavGrid") -> list[Storey]:
    """Those of a scene's largest island, lowest first."""
    ground = walk.ground
    origin = (float(ground.low[0]), float(ground.low[2]))
    return [Storey(height, walkable, origin, ground.cell_m) for height, walkable in walk.storeys()]


@dataclass(frozen=True, eq=False)
class Episode:
    """What is drawn over the map; heights choose the storey on which a point is drawn."""

    start: np.ndarray | None = None  # (3,) metres
    goal: np.ndarray | None = None  # (3,)
    reference: np.ndarray | None = None  # (points, 3)
    executed: np.ndarray | None = None  # (points, 3)


def top_down_map(
    storeys: Sequence[Storey], *, scene: SceneData | None = None, episode: Episode | None = None, title: str = ""
) -> "Figure":
    """One panel a storey, lowest first, north (-z) up, with a legend of what is drawn; a matplotlib figure to save."""
    from matplotlib.figure import Figure

    if not storeys:
        raise ValueError("a map of no storey; give at least one")
    low, high = _extent(storeys)
    size = high - low
    scale = INCHES / max(size.max(), 1e-6)
    width, height = np.maximum(size * scale, 1.6)
    figure = Figure(figsize=(width * len(storeys) + 1.9, height + 0.7), layout="constrained")
    panels = figure.subplots(1, len(storeys), squeeze=False)[0]
    drawn: dict[str, Any] = {}
    for number, (panel, storey) in enumerate(zip(panels, storeys, strict=True)):
        drawn |= _floor(panel, storey)
        between = _heights(storeys, number)
        if scene is not None:
            drawn |= _objects(panel, scene, storey.height_m) | _rooms(panel, scene, between)
        if episode is not None:
            drawn |= _episode(panel, episode, between)
        panel.set_xlim(low[0] - 0.2, high[0] + 0.2)
        panel.set_ylim(high[1] + 0.2, low[1] - 0.2)
        panel.set_aspect("equal")
        panel.set_xlabel("x, m")
        panel.set_ylabel("z, m")
        panel.set_title(f"storey at {storey.height_m:.1f} m", fontsize=9)
        panel.tick_params(labelsize=7)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
    panels[-1].legend(drawn.values(), drawn.keys(), fontsize=8, **beside)
    if title:
        figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    return figure


def _extent(storeys: Sequence[Storey]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest x and z, (2,) each"""
    lows = np.array([storey.origin for storey in storeys])
    sizes = [np.array(storey.walkable.shape[::-1]) * storey.cell_m for storey in storeys]
    return lows.min(axis=0), (lows + np.array(sizes)).max(axis=0)


def _heights(storeys: Sequence[Storey], number: int) -> tuple[float, float]:
    """From which height to which things are drawn on this storey's panel: half way to its neighbours."""
    heights = [storey.height_m for storey in storeys]
    low = -np.inf if number == 0 else (heights[number - 1] + heights[number]) / 2
    high = np.inf if number == len(heights) - 1 else (heights[number] + heights[number + 1]) / 2
    return float(low), float(high)


def _floor(panel: Any, storey: Storey) -> dict[str, Any]:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    rows, columns = storey.walkable.shape
    x, z = storey.origin
    panel.imshow(
        np.ma.masked_equal(storey.walkable, 0),
        cmap=ListedColormap([WALKABLE]),
        extent=(x, x + columns * storey.cell_m, z + rows * storey.cell_m, z),
        interpolation="nearest",
        zorder=1,  # above objects: steps are objects, and walked on
    )
    return {"walkable": Patch(facecolor=WALKABLE)}


def _objects(panel: Any, scene: SceneData, floor_m: float) -> dict[str, Any]:
    """The footprint of each named object that stands on the storey, as the triangles that it casts on the floor."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    corners = scene.vertices[scene.faces]
    lowest, highest = corners[:, :, 1].min(axis=1), corners[:, :, 1].max(axis=1)
    # What spans most of the plan is the building itself.
    plan = np.ptp(scene.vertices[:, [0, 2]], axis=0).max()
    small = np.zeros(len(scene.faces), dtype=bool)
    for each in scene.objects:
        own = scene.instance == each.id
        if own.any():
            spread = np.ptp(corners[own].reshape(-1, 3), axis=0)
            begins = corners[own][:, :, 1].min()
            small |= own & (spread[[0, 2]].max() < plan / 3) & (begins < floor_m + ABOVE_M)
    shown = small & (highest > floor_m - BELOW_M) & (lowest < floor_m + ABOVE_M)
    if not shown.any():
        return {}
    panel.add_collection(PolyCollection(corners[shown][:, :, [0, 2]], color=OBJECT, linewidth=0.5, zorder=0))
    return {"objects": Patch(facecolor=OBJECT)}


def _rooms(panel: Any, scene: SceneData, between: tuple[float, float]) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for room in scene.rooms:
        if between[0] <= room.low_m < between[1]:
            outline = np.array([*room.outline, room.outline[0]])
            drawn["rooms"] = panel.plot(*outline.T, color=ROOM, linewidth=0.8, zorder=2)[0]
            panel.text(*outline[:-1].mean(axis=0), room.name, fontsize=6, color=INK, ha="center", va="center")
    return drawn


def _episode(panel: Any, episode: Episode, between: tuple[float, float]) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for name, (colour, width, dashes) in PATHS.items():
        points = getattr(episode, name)
        if points is not None and len(points):
            here = (points[:, 1] >= between[0]) & (points[:, 1] < between[1])
            x, z = np.where(here, points[:, 0], np.nan), np.where(here, points[:, 2], np.nan)
            drawn[f"{name} path"] = panel.plot(x, z, dashes, color=colour, linewidth=width, solid_capstyle="round")[0]
    for name, (marker, colour) in MARKS.items():
        point = getattr(episode, name)
        if point is not None and between[0] <= point[1] < between[1]:
            drawn[name] = panel.plot(point[0], point[2], marker, color=colour, markersize=9, markeredgecolor="white")[0]
    return drawn
