"""Walkable ground of a scene: settings, the file that keeps it, and every question about it.

    grid = nav_grid(scene, NavSettings())
    start = grid.random_points(1, seed=0)
    metres = grid.geodesic(start, goal)
    position, collided = grid.step(position, displacement=forward)

`NavGrid` is one scene; `NavWorld` holds many and takes, with every batch of points, the scene of each.
"""

import hashlib
import json
import math
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlkit.envs.simulator.cache import scene_cache
from vlkit.envs.simulator.geodesics import Sight, sight
from vlkit.envs.simulator.moves import Ground
from vlkit.envs.simulator.navpolygons import Outlines, Polygons, polygons
from vlkit.envs.simulator.navworld import NavWorld, Points
from vlkit.envs.simulator.scene import SceneData
from vlkit.envs.simulator.surface import surface
from vlkit.envs.simulator.voxels import Places, Voxels, places
from vlkit.errors import UserError
from vlkit.files import write_atomic

__all__ = ["Island", "NavGrid", "NavSettings", "NavWorld", "nav_grid"]
BUILDER_VERSION = 1  # raise it when the same mesh comes to be walked otherwise: older files are then left alone
MOST_CELLS, LONGEST_CELLS = 40_000_000, 30_000  # of a scene, and along one of its sides
_WRITING = threading.Lock()  # a temporary file is named for its process, so two threads of one may not write at once


@dataclass(frozen=True)
class NavSettings:
    """The agent's body and the cells that the ground is cut into; names and defaults are habitat-sim's.

    Under `habitat_compatible` the ground is the navmesh that habitat-sim computes, with its coarse heights, and moves,
    snaps and borders are its own. Otherwise heights are those of the mesh, and furniture, ledges and headroom are
    judged to `cell_height`.
    """

    agent_radius: float = 0.1  # metres
    agent_height: float = 1.5  # metres
    agent_max_climb: float = 0.2  # metres, of one step
    agent_max_slope: float = 45.0  # degrees
    cell_size: float = 0.05  # metres
    cell_height: float | None = None  # metres; None for 0.2 under habitat_compatible, else for 0.02
    region_min_size: float = 20.0  # cells; islands smaller than a square of that side are dropped
    region_merge_size: float = 20.0  # cells
    edge_max_len: float = 12.0  # metres, of a side along a wall
    edge_max_error: float = 1.3  # cells between the border and its straight sides
    habitat_compatible: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("agent_radius", 0.0, 10.0),
            ("agent_height", 0.01, 100.0),
            ("agent_max_climb", 0.0, 10.0),
            ("agent_max_slope", 0.0, 89.0),
            ("cell_size", 0.005, 10.0),
            ("cell_height", 0.005, 10.0),
            ("region_min_size", 0.0, 1e4),
            ("region_merge_size", 0.0, 1e4),
            ("edge_max_len", 0.0, 1e4),
            ("edge_max_error", 0.0, 100.0),
        ):
            value = getattr(self, name)
            if value is None and name == "cell_height":
                continue
            if not (isinstance(value, int | float) and low <= value <= high):
                raise UserError(f"{name} is {value}; expected {low:g} to {high:g}")
        if self.agent_radius > 100 * self.cell_size:
            raise UserError(
                f"agent_radius is {self.agent_radius}, more than 100 cells of {self.cell_size}; take a larger cell_size"
            )

    @property
    def voxel_m(self) -> float:
        """Height of a voxel."""
        if self.cell_height is not None:
            return self.cell_height
        return 0.2 if self.habitat_compatible else 0.02


@dataclass(frozen=True)
class Island:
    """Ground that hangs together."""

    number: int
    area_m2: float


class NavGrid:
    """The walkable ground of one scene.

    Points are (points, 3), metres, tensors or arrays, and so are the answers; NaN in, NaN or false out. A point is taken
    to stand on the ground nearest to it within 2 m, 4 m up or down.
    """

    def __init__(self, settings: NavSettings, ground: Ground, sight: Sight, name: str = "") -> None:
        self.settings, self.ground, self.sight, self.name = settings, ground, sight, name
        sides = (ground.triangles[:, 1:] - ground.triangles[:, :1]).astype(np.float64)
        self._triangle_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
        self._triangle_island = np.repeat(ground.island, np.diff(ground.first_triangle))
        areas = np.bincount(self._triangle_island, weights=self._triangle_area)
        self.islands = tuple(Island(number, float(area)) for number, area in enumerate(areas))
        self.largest_island = max(self.islands, key=lambda island: island.area_m2).number
        self._world: NavWorld | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_world": None}  # which has threads, and is made again where it is needed

    @property
    def area_m2(self) -> float:
        """Of all islands, slopes as they lie."""
        return sum(island.area_m2 for island in self.islands)

    @property
    def world(self) -> NavWorld:
        """This scene alone, on the CPU."""
        if self._world is None:
            self._world = NavWorld([self])
        return self._world

    def snap(self, points: Points, island: int | None = None) -> Points:
        """The nearest points on the ground, or on one of its islands; NaN where there is none within reach."""
        return self.world.snap(None, points, island=island)

    def island_of(self, points: Points) -> Points:
        """(points,) int32, number of the island each stands on, -1 for none"""
        return self.world.island_of(None, points)

    def is_navigable(self, points: Points, max_y_delta: float = 0.5) -> Points:
        """(points,) bool: within a centimetre of the ground in plan, and so many metres up or down."""
        return self.world.is_navigable(None, points, max_y_delta=max_y_delta)

    def random_points(
        self,
        count: int,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        island: int | None = None,
    ) -> Tensor:
        """(count, 3) float32, evenly spread over the ground or one of its islands."""
        if (seed is None) == (generator is None):
            raise ValueError("random_points takes either a seed or a generator")
        if count < 0:
            raise ValueError(f"random_points was asked for {count} points; expected 0 or more")
        if generator is None:
            generator = torch.Generator().manual_seed(int(seed))  # type: ignore[arg-type]
        weights = self._triangle_area
        if island is not None:
            if not 0 <= island < len(self.islands):
                raise UserError(
                    f"island {island}: {self.name or 'this scene'} has islands 0 to {len(self.islands) - 1}"
                )
            weights = np.where(self._triangle_island == island, weights, 0.0)
        bounds = torch.from_numpy(np.cumsum(weights))
        draws = torch.rand(count, 3, generator=generator, dtype=torch.float64)
        chosen = torch.searchsorted(bounds, draws[:, 0] * bounds[-1], right=True).clamp_(max=len(bounds) - 1)
        root = draws[:, 1].sqrt()
        shares = torch.stack([1 - root, root * (1 - draws[:, 2]), root * draws[:, 2]], dim=1)
        corners = torch.from_numpy(self.ground.triangles)[chosen].double()
        points = (shares[:, :, None] * corners).sum(dim=1).float()
        snapped = self.world.snap(None, points, island=island)
        assert isinstance(snapped, Tensor)
        return snapped

    def distance_to_closest_obstacle(self, points: Points, max_distance: float = 2.0) -> Points:
        """(points,) metres in plan to the ground's border, the agent's radius already taken off it."""
        return self.world.distance_to_closest_obstacle(None, points, max_distance=max_distance)

    def geodesic(self, start: Points, end: Points) -> Points:
        """(points,) metres of the way from each start to its end; infinite where there is none.

        The shortest; under `habitat_compatible` the one that habitat-sim finds, which is some per cent longer at times.
        """
        return self.world.geodesic(None, start, end)

    def distances(self, points: Points, goal: Points) -> Points:
        """(points,) metres of the shortest way from each point to one goal (3,)."""
        return self.world.distance(None, points, self.world.goals(None, goal[None, :]).expand(len(points)))

    def path(self, start: Points, end: Points) -> list[Points]:
        """For each start and end the points at which that way turns, (corners, 3), both included; none for no way."""
        return self.world.path(None, start, end)

    def step(
        self,
        position: Points,
        *,
        displacement: Points | None = None,
        yaw: Points | None = None,
        forward_m: float = 0.25,
        sliding: bool = True,
    ) -> tuple[Points, Points]:
        """Where each ends that wants to move by `displacement`, or forward along `yaw`; and whether it was held up."""
        return self.world.step(None, position, displacement=displacement, yaw=yaw, forward_m=forward_m, sliding=sliding)

    def storeys(self, apart_m: float = 1.0) -> list[tuple[float, np.ndarray]]:
        """The largest island by height, lowest first: metres of the floor, and its cells, (rows, columns) bool.

        A storey is a height about which at least a tenth of the largest storey's cells lie, so far from any other; what
        lies between two, such as stairs, counts to the nearer one.
        """
        ground = self.ground
        own = ground.place_island == self.largest_island
        cells = np.repeat(np.arange(len(ground.first_place) - 1), np.diff(ground.first_place))[own]
        heights = ground.height[own]
        steps = np.round(heights / (apart_m / 4)).astype(np.int64)
        lowest = int(steps.min())
        counts = np.bincount(steps - lowest)
        largest = int(counts.max())
        floors: list[float] = []
        while counts.max() >= max(0.1 * largest, 1):
            top = int(counts.argmax())
            near = np.abs(steps - lowest - top) <= 1
            floors.append(float(np.median(heights[near])))
            counts[max(top - 4, 0) : top + 5] = 0
        floors.sort()
        nearest = np.abs(heights[:, None] - np.array(floors)).argmin(axis=1)
        storeys = []
        for number, floor in enumerate(floors):
            walkable = np.zeros(ground.rows * ground.columns, dtype=bool)
            walkable[cells[nearest == number]] = True
            storeys.append((floor, walkable.reshape(ground.rows, ground.columns)))
        return storeys


def nav_grid(
    scene: SceneData, settings: NavSettings | None = None, *, cache: str | Path | Literal[False] | None = None
) -> NavGrid:
    """The scene's ground, from the file that keeps it; computed, and kept, where there is none.

    The file is named for the mesh and the settings, so that neither can change unnoticed; a damaged one is replaced.
    `cache` is its folder, the user's own by default; False keeps none. Raises UserError where there is nothing to stand
    on, the mesh is empty or not finite, or the cells would be too many.
    """
    settings = settings or NavSettings()
    if cache is False:
        return _built(scene, settings)
    told = json.dumps([BUILDER_VERSION, asdict(settings)], sort_keys=True).encode()
    digest = hashlib.sha256(told)
    for part in (scene.vertices, scene.faces):
        digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    folder = scene_cache().parent / "navigation" if cache is None else Path(cache)
    file = folder / f"{digest.hexdigest()[:32]}.npz"
    kept = _kept(file, settings, scene.name)
    if kept is not None:
        return kept
    grid = _built(scene, settings)
    try:
        _keep(grid, file)
    except UserError:  # a folder that cannot be written costs the next run its time and nothing else
        if cache is not None:
            raise
    return grid


GROUND_NUMBERS = ("cell_m", "climb_m", "exact_heights", "columns", "rows")
GROUND_ARRAYS = (
    "low",
    "corners",
    "sides",
    "beyond",
    "island",
    "triangles",
    "edges",
    "first_triangle",
    "first_place",
    "height",
    "place_island",
)
SIGHT_ARRAYS = ("corner", "first_edge", "to", "length", "first_view", "seer", "view")


def _kept(file: Path, settings: NavSettings, name: str) -> NavGrid | None:
    if not file.is_file():
        return None
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            numbers = json.loads(arrays["numbers"].tobytes())
            ground = Ground(**{key: arrays[f"ground.{key}"] for key in GROUND_ARRAYS}, **numbers)
            view = Sight(**{key: arrays[f"sight.{key}"] for key in SIGHT_ARRAYS})
    except Exception:  # a damaged zip, header or table can raise anything: the ground is then computed again
        return None
    return NavGrid(settings, ground, view, name)


def _keep(grid: NavGrid, file: Path) -> None:
    numbers = {key: getattr(grid.ground, key) for key in GROUND_NUMBERS}
    arrays = {f"ground.{key}": getattr(grid.ground, key) for key in GROUND_ARRAYS}
    arrays |= {f"sight.{key}": getattr(grid.sight, key) for key in SIGHT_ARRAYS}
    arrays["numbers"] = np.frombuffer(json.dumps(numbers).encode(), dtype=np.uint8)
    with _WRITING, write_atomic(file) as temporary, open(temporary, "wb") as opened:
        np.savez(opened, **arrays)


def _built(scene: SceneData, settings: NavSettings) -> NavGrid:
    name = scene.name or "the scene"
    if not len(scene.faces):
        raise UserError(f"{name} has no triangles, so nothing to walk on; load a mesh with a floor")
    used = np.zeros(len(scene.vertices), dtype=bool)
    used[scene.faces] = True
    corners = scene.vertices[used]
    if not np.isfinite(corners).all():
        raise UserError(f"{name} has corners that are not finite numbers; repair the mesh")
    span = corners.max(axis=0) - corners.min(axis=0)
    across, along = (float(side / settings.cell_size + 1) for side in (span[0], span[2]))
    if across * along > MOST_CELLS or max(across, along) > LONGEST_CELLS:
        raise UserError(
            f"{name} is {span[0]:.0f} x {span[2]:.0f} m: {across:.3g} x {along:.3g} cells of {settings.cell_size} m, more "
            f"than {MOST_CELLS:.0e} or {LONGEST_CELLS} along a side; take a larger cell_size, or a smaller scale where its "
            "units are not metres"
        )
    voxels = _voxels(settings)
    found = places(scene.vertices, scene.faces, voxels)
    shapes = polygons(found, _outlines(settings))
    if not len(shapes.sides):
        raise UserError(
            f"{name} has no walkable ground for agent_radius {settings.agent_radius}, agent_height "
            f"{settings.agent_height}, agent_max_climb {settings.agent_max_climb}, agent_max_slope "
            f"{settings.agent_max_slope} and islands of at least {_least_m2(settings):.2g} m2 (region_min_size "
            f"{settings.region_min_size:g} cells); check that y is up and lengths are metres, or change them"
        )
    ground = _ground(found, shapes, voxels, settings)
    return NavGrid(settings, ground, sight(ground), scene.name)


def _least_m2(settings: NavSettings) -> float:
    return (settings.region_min_size * settings.cell_size) ** 2


def _voxels(settings: NavSettings) -> Voxels:
    """How many cells and voxels the body fills; what is not whole is rounded to the safe side, as Recast does."""
    cell, voxel = np.float32(settings.cell_size), np.float32(settings.voxel_m)
    slack = 0.0 if settings.habitat_compatible else 1e-4
    return Voxels(
        cell_m=settings.cell_size,
        height_m=settings.voxel_m,
        clearance=math.ceil(np.float32(settings.agent_height) / voxel - slack),
        climb=math.floor(np.float32(settings.agent_max_climb) / voxel + slack),
        radius=math.ceil(np.float32(settings.agent_radius) / cell - slack),
        slope_deg=settings.agent_max_slope,
        faithful=settings.habitat_compatible,
    )


def _outlines(settings: NavSettings) -> Outlines:
    return Outlines(
        error_cells=settings.edge_max_error,
        longest_cells=int(np.float32(settings.edge_max_len) / np.float32(settings.cell_size)),
        least_cells=int(settings.region_min_size**2),
        merge_cells=int(settings.region_merge_size**2),
    )


def _ground(found: Places, shapes: Polygons, voxels: Voxels, settings: NavSettings) -> Ground:
    heights = surface(found, shapes, voxels)
    island = _islands(shapes.beyond)
    of_region = np.full(max(int(shapes.region.max()), int(shapes.region_of_place.max())) + 1, -1, dtype=np.int32)
    of_region[shapes.region] = island
    place_island = np.where(shapes.region_of_place > 0, of_region[shapes.region_of_place], -1).astype(np.int32)
    own = place_island >= 0  # the ground that the polygons stand for; the rest no question needs
    column = found.column[own]
    first_place = np.searchsorted(column, np.arange(found.columns * found.rows + 1)).astype(np.int32)
    return Ground(
        low=found.low,
        cell_m=settings.cell_size,
        climb_m=settings.agent_max_climb,
        exact_heights=not settings.habitat_compatible,
        corners=heights.corners,
        sides=shapes.sides,
        beyond=shapes.beyond,
        island=island,
        triangles=heights.triangles,
        edges=heights.edges,
        first_triangle=heights.first_triangle,
        columns=found.columns,
        rows=found.rows,
        first_place=first_place,
        height=found.height[own],
        place_island=place_island[own],
    )


def _islands(beyond: np.ndarray) -> np.ndarray:
    """Number of the island of each polygon, in the order of their first polygons."""
    island = np.full(len(beyond), -1, dtype=np.int32)
    links, count = beyond.tolist(), 0
    for polygon in range(len(beyond)):
        if island[polygon] >= 0:
            continue
        stack = [polygon]
        island[polygon] = count
        while stack:
            for other in links[stack.pop()]:
                if other >= 0 and island[other] < 0:
                    island[other] = count
                    stack.append(other)
        count += 1
    return island
