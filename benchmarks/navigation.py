"""Walkable ground and what is asked of it, on one core: build, distance fields, paths, lookups, moves, the expert.

    vlkit bench navigation [--scene FILE] [--repeats 7]

Without a scene, a made building is used as it is and cut into half a million triangles that are a few millimetres out
of place, as a scan's are. Where habitat_sim can be imported, its pathfinder does the same on the same mesh in the same
run, first of all one call for one agent, which is all it offers. Kernels are compiled before the clock starts.
"""

import importlib.util
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vlkit.envs.simulator.batch import FORWARD, RIGHT, Agent, BatchSimulator
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings, NavWorld, nav_grid
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

Rates = dict[str, float]  # what: seconds for one
FIELDS, PATHS = 256, 512  # in one measurement, or as many as there are agents


@dataclass(frozen=True)
class Options:
    """Time the walkable ground, with habitat-sim's beside it where that is installed."""

    scene: Path | None = None
    """mesh, stage or scene to build the ground of; a made building where it is not given"""
    triangles: int = 500_000
    """of the made building's second, finer form"""
    agents: int = 4096
    """that move in one call"""
    repeats: int = 7
    """times that each is measured; the median counts"""
    threads: int = 1
    """of the batched calls"""
    seed: int = 0
    """of points and headings"""

    def __post_init__(self) -> None:
        for name in ("triangles", "agents", "repeats", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}; expected 0 to {2**63 - 1}")


def main(arguments: Sequence[str]) -> int:
    """Prints one table a scene."""
    from vlkit.config import load

    torch.set_num_threads(1)
    try:
        options = load(Options, None, arguments, prog="vlkit bench navigation")
        scenes = the_scenes(options)
        print(f"torch {torch.__version__}, {options.threads} thread(s), cells of 5 cm, agent radius 0.1 m")
        print(f"median of {options.repeats}; moves, snaps, lookups and the expert in batches of {options.agents}")
        for scene in scenes:
            table(scene, options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def the_scenes(options: Options) -> list[SceneData]:
    """What to build the ground of."""
    if options.scene is not None:
        from vlkit.envs.simulator.load import load_scene

        return [load_scene(options.scene)]
    plain = building(rooms=4, seed=options.seed)
    return [plain, finer(plain, triangles=options.triangles, seed=options.seed)]


def table(scene: SceneData, options: Options) -> None:
    """One scene's figures: true heights, habitat's heights, and habitat itself."""
    columns: dict[str, Rates] = {}
    for name, settings in (("true heights", NavSettings()), ("as habitat", NavSettings(habitat_compatible=True))):
        columns[name] = our_figures(scene, settings, options)
    peer = habitat_figures(scene, options)
    if peer is not None:
        columns["habitat_sim"] = peer
    grid = nav_grid(scene, cache=False)
    corners = len(grid.sight.corner)
    print(
        f"\n{scene.name}: {len(scene.faces)} triangles, {grid.area_m2:.0f} m2 of ground, {len(grid.ground.sides)} "
        f"polygons, {corners} turning corners"
    )
    print(f"{'':<34}" + "".join(f"{name:>22}" for name in columns))
    for what in columns["true heights"]:
        cells = [shown(rates[what]) if what in rates else "-" for rates in columns.values()]
        print(f"{what:<34}" + "".join(f"{cell:>22}" for cell in cells))
    if peer is None:
        print("habitat_sim is not installed here: no column of its own")


def shown(seconds: float) -> str:
    """A time for one and how many that is a second."""
    factor, unit = next(((f, u) for f, u in ((1.0, "s"), (1e3, "ms")) if seconds * f >= 1), (1e6, "us"))
    rate = 1 / seconds
    return f"{seconds * factor:.3g} {unit}" + (f" ({rate / 1e6:.2f} M/s)" if rate > 1e5 else "")


def median_seconds(act: Callable[[], object], repeats: int) -> float:
    """Of one call."""
    act()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        act()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def our_figures(scene: SceneData, settings: NavSettings, options: Options) -> Rates:
    """Of this package."""
    repeats, agents = options.repeats, options.agents
    rates: Rates = {"build": median_seconds(lambda: nav_grid(scene, settings, cache=False), min(repeats, 3))}
    with tempfile.TemporaryDirectory() as folder:
        grid = nav_grid(scene, settings, cache=folder)
        rates["read from the kept file"] = median_seconds(lambda: nav_grid(scene, settings, cache=folder), repeats)
    start, goal, yaw = the_points(grid, agents, options.seed)
    world = NavWorld([grid], threads=options.threads, most_goals=max(agents, FIELDS))
    wish = torch.stack([-yaw.sin(), torch.zeros_like(yaw), -yaw.cos()], dim=1) * 0.25

    some, paths = min(FIELDS, agents), min(PATHS, agents)

    def fields() -> None:
        NavWorld([grid], threads=options.threads).goals(None, goal[:some])

    empty = median_seconds(lambda: NavWorld([grid], threads=options.threads), repeats)
    rates["distance field"] = max(median_seconds(fields, repeats) - empty, 1e-9) / some
    goals = world.goals(None, goal)
    one = goal[:1].expand(paths, 3)
    rates["path"] = median_seconds(lambda: world.path(None, start[:paths], one), repeats) / paths
    calls: dict[str, Callable[[], object]] = {
        "distance from a kept field": lambda: world.distance(None, start, goals),
        "snap": lambda: world.snap(None, start),
        "distance to the border": lambda: world.distance_to_closest_obstacle(None, start),
        "sliding move": lambda: world.step(None, start, displacement=wish),
        "move without sliding": lambda: world.step(None, start, displacement=wish, sliding=False),
        "expert's action": lambda: world.next_actions(None, start, yaw, goals),
    }
    whole = BatchSimulator(
        [scene],
        agents,
        sensors={},
        agent=Agent(navigation=settings),
        device="cpu",
        threads=options.threads,
        habitat_compatible=settings.habitat_compatible,
    )
    whole.reset()
    actions = torch.randint(FORWARD, RIGHT + 1, (agents,), generator=torch.Generator().manual_seed(options.seed))
    calls["BatchSimulator.step, no sensors"] = lambda: whole.step(actions)
    return rates | {what: median_seconds(call, repeats) / agents for what, call in calls.items()}


def the_points(grid: NavGrid, agents: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Starts, goals and headings."""
    generator = torch.Generator().manual_seed(seed)
    start, goal = (grid.random_points(agents, generator=generator, island=grid.largest_island) for _ in range(2))
    return start, goal, torch.rand(agents, generator=generator) * 2 * math.pi


def habitat_figures(scene: SceneData, options: Options) -> Rates | None:
    """Of habitat-sim's pathfinder, one agent at a time; None where it cannot be imported."""
    if importlib.util.find_spec("habitat_sim") is None:
        return None
    import habitat_sim

    from vlkit.envs.simulator.glb_writer import save_glb

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scene.glb"
        save_glb(scene, file, stage_config=True)
        simulator = habitat_sim.SimulatorConfiguration()
        simulator.scene_id, simulator.gpu_device_id = str(file), -1
        agent = habitat_sim.agent.AgentConfiguration(sensor_specifications=[])
        sim = habitat_sim.Simulator(habitat_sim.Configuration(simulator, [agent]))
        settings = habitat_sim.NavMeshSettings()
        settings.set_defaults()
        rates: Rates = {"build": median_seconds(lambda: sim.recompute_navmesh(sim.pathfinder, settings), 3)}
        finder = sim.pathfinder
        generator = np.random.default_rng(options.seed)
        starts = [finder.get_random_navigable_point() for _ in range(PATHS)]
        yaws = generator.uniform(0, 2 * math.pi, PATHS)
        ends = [a + 0.25 * np.array([-math.sin(yaw), 0, -math.cos(yaw)]) for a, yaw in zip(starts, yaws, strict=True)]
        path = habitat_sim.ShortestPath()

        def find() -> None:
            for a, b in zip(starts, reversed(starts), strict=True):
                path.requested_start, path.requested_end = a, b
                finder.find_path(path)

        calls: dict[str, Callable[[], object]] = {
            "path": find,
            "distance from a kept field": find,
            "snap": lambda: [finder.snap_point(a) for a in starts],
            "distance to the border": lambda: [finder.distance_to_closest_obstacle(a, 2.0) for a in starts],
            "sliding move": lambda: [finder.try_step(a, b) for a, b in zip(starts, ends, strict=True)],
            "move without sliding": lambda: [
                finder.try_step_no_sliding(a, b) for a, b in zip(starts, ends, strict=True)
            ],
        }
        return rates | {what: median_seconds(call, options.repeats) / PATHS for what, call in calls.items()}


def building(*, rooms: int, seed: int) -> SceneData:
    """rooms x rooms rooms of 4 x 4 m with doors of 0.9 m between all neighbours and blocks of furniture in each."""
    rng = np.random.default_rng(seed)
    side = 4.0 * rooms
    boxes = [(-0.1, side + 0.1, -0.2, 0.0, -0.1, side + 0.1)]  # x0, x1, y0, y1, z0, z1
    for i in range(rooms + 1):
        for j in range(rooms):
            walls = [(4.0 * j, 4.0 * j + 4)]
            if 0 < i < rooms:
                door = 4.0 * j + rng.uniform(0.3, 2.8)
                walls = [(4.0 * j, door), (door + 0.9, 4.0 * j + 4)]
            for a, b in walls:
                boxes.append((4.0 * i - 0.06, 4.0 * i + 0.06, 0.0, 2.6, a, b))
                boxes.append((a, b, 0.0, 2.6, 4.0 * i - 0.06, 4.0 * i + 0.06))
    for i in range(rooms):
        for j in range(rooms):
            for _ in range(5):
                x, z = 4.0 * i + rng.uniform(0.3, 2.6), 4.0 * j + rng.uniform(0.3, 2.6)
                boxes.append((x, x + rng.uniform(0.3, 1.1), 0.0, rng.uniform(0.4, 1.8), z, z + rng.uniform(0.3, 1.1)))
    corners: list[list[list[float]]] = []
    faces: list[np.ndarray] = []
    # Of a box whose corner k is at the high end of x where k & 1, of y where k & 2, of z where k & 4.
    sides = np.array([[0, 4, 6, 2], [1, 3, 7, 5], [0, 1, 5, 4], [2, 6, 7, 3], [0, 2, 3, 1], [4, 5, 7, 6]])
    for x0, x1, y0, y1, z0, z1 in boxes:
        first = 8 * len(corners)
        corners.append([[(x0, x1)[k & 1], (y0, y1)[k >> 1 & 1], (z0, z1)[k >> 2]] for k in range(8)])
        faces.append(first + np.concatenate([sides[:, [0, 1, 2]], sides[:, [0, 2, 3]]]))
    return bare(f"a made building of {rooms * rooms} rooms", np.array(corners).reshape(-1, 3), np.concatenate(faces))


def finer(scene: SceneData, *, triangles: int, seed: int) -> SceneData:
    """The same with its longest triangles halved until there are so many, and every corner moved by some 3 mm."""
    corners, faces = scene.vertices.astype(np.float64), scene.faces.astype(np.int64)
    points = corners[faces]
    while len(points) < triangles:
        lengths = ((points - np.roll(points, -1, axis=1)) ** 2).sum(axis=2)
        longest = lengths.argmax(axis=1)
        chosen = np.argsort(-lengths.max(axis=1), kind="stable")[: min(triangles - len(points), (len(points) + 1) // 2)]
        turned = np.stack([np.roll(points[i], -longest[i], axis=0) for i in chosen])
        middle = (turned[:, 0] + turned[:, 1]) / 2
        halves = [np.stack([turned[:, 0], middle, turned[:, 2]], 1), np.stack([middle, turned[:, 1], turned[:, 2]], 1)]
        rest = np.ones(len(points), dtype=bool)
        rest[chosen] = False
        points = np.concatenate([points[rest], *halves])
    flat = np.round(points.reshape(-1, 3), 5)
    shared, inverse = np.unique(flat, axis=0, return_inverse=True)
    shared = shared + np.random.default_rng(seed).normal(0, 0.003, shared.shape)
    return bare(f"{scene.name}, finer", shared, inverse.reshape(-1, 3))


def bare(name: str, vertices: np.ndarray, faces: np.ndarray) -> SceneData:
    """A scene of triangles alone."""
    count = len(faces)
    return SceneData(
        name=name,
        vertices=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        uv=np.zeros((count, 3, 2), np.float32),
        texture=np.full(count, -1, np.int32),
        colour=np.ones((count, 4), np.float32),
        vertex_colour=np.full((len(vertices), 4), 255, np.uint8),
        double_sided=np.zeros(count, bool),
        instance=np.zeros(count, np.int32),
        semantic=np.zeros(count, np.int32),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
