"""Pictures a second of the embedded simulator's engines, beside habitat-sim and MiniWorld where they are installed.

    vlkit bench render [--resolutions 64 128 256] [--filterings bilinear] [--repeats 5]

Views from standing height in two generated houses: one of boxes, about 4000 triangles, and the same one cut small and
uneven like a scan, about 100000, twelve textures of 256x256 each. Every view has its own place and direction, which are
written into the engine's tensors before each call, and that is timed too. A core's rate is pictures by second of
processor time, which other work on the machine disturbs least; the wall's is pictures by second on the clock. The
median of the repeats counts.
"""

import contextlib
import importlib
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlkit.envs.simulator.camera import Camera, Engine, Filtering, Kind, frames
from vlkit.envs.simulator.scene import SceneData, Texture
from vlkit.errors import UserError

ROOM_M, HEIGHT_M, WALL_M, DOOR_M = 4.0, 2.6, 0.1, 0.9
ROOMS = (4, 2)  # along x and z
SENSORS: tuple[Kind, ...] = ("rgb", "depth")
POSES = 256


@dataclass(frozen=True)
class Options:
    """Time the embedded simulator's engines."""

    triangles: tuple[int, ...] = (4_000, 100_000)
    """about how many the houses have"""
    resolutions: tuple[int, ...] = (64, 128, 256)
    """pixels a side"""
    batches: tuple[int, ...] = (1, 256)
    """views in a call, on the CPU"""
    cuda_batches: tuple[int, ...] = (256, 1024, 4096)
    """views in a call, where there is a CUDA device"""
    filterings: tuple[Filtering, ...] = ("bilinear",)
    """of textures: nearest, bilinear, trilinear"""
    threads: tuple[int, ...] = (1, 0)
    """of the rasteriser; 0 for as many as there are cores"""
    rays_on_cpu: bool = False
    """time the ray engine on the CPU too, where it is only good for comparing"""
    repeats: int = 5
    """times that each is measured"""
    seconds: float = 0.5
    """of drawing in each measurement"""

    def __post_init__(self) -> None:
        for name, least in (("triangles", 1), ("batches", 1), ("cuda_batches", 1), ("threads", 0)):
            values = getattr(self, name)
            if not values or min(values) < least:
                raise UserError(f"{name} is {values}; expected one or more, each {least} or more")
        for name in ("resolutions", "filterings"):
            if not getattr(self, name):
                raise UserError(f"{name} is empty; name one or more, or leave it out for the default")
        for resolution in self.resolutions:
            Camera(height=resolution, width=resolution)  # which says what it can be
        if self.repeats < 1:
            raise UserError(f"repeats is {self.repeats}; expected 1 or more")
        if not 0 < self.seconds < math.inf:
            raise UserError(f"seconds is {self.seconds}; expected a number above 0")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    engine: str
    triangles: int
    resolution: int
    filtering: str
    batch: int
    threads: int
    per_core: float | None  # pictures by second of processor time; None where another processor draws
    wall: float
    megabytes: float | None  # arrays of the scene and of the engine's own
    first_call: float  # seconds from the scene in memory to the first picture


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    from vlkit.config import load

    if arguments and arguments[0] in PEERS:  # this file started itself for a peer, see peer_row
        print(json.dumps(PEERS[arguments[0]](arguments[1], int(arguments[2]), float(arguments[3]))))
        return 0
    try:
        tables(load(Options, None, arguments, prog="vlkit bench render"))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def tables(options: Options) -> None:
    """A line for each engine, size of house, resolution and batch; then what could not be measured here."""
    torch.set_num_threads(1)
    print(f"{processor()}; torch {torch.__version__}; RGB and depth; {POSES} views, hfov 90, standing height")
    print(f"median of {options.repeats} x {options.seconds:g} s; pictures a second\n")
    print(
        f"{'engine':<12}{'triangles':>10}{'pixels':>9} {'filtering':<10}{'batch':>6}{'threads':>8}"
        f"{'per core':>10}{'wall':>10}{'MB':>8}{'first call':>12}"
    )
    absent = [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]
    for triangles in options.triangles:
        scene = house(triangles)
        for resolution in options.resolutions:
            for row in our_rows(scene, resolution, options):
                show(row)
            if "habitat-sim" not in absent:
                show(habitat_row(scene, resolution, options))
    if "MiniWorld" not in absent:
        for resolution in options.resolutions:
            show(peer_row("MiniWorld", 0, resolution, "-", Path.cwd(), "", options))
    if not torch.cuda.is_available():
        absent.append("a CUDA device")
    if absent:
        print(f"\nnot here, so not measured: {', '.join(dict.fromkeys(absent))}")


def show(row: Row | str) -> None:
    """One line; a peer that could not be measured says why."""
    if isinstance(row, str):
        print(row, flush=True)
        return
    per_core = "-" if row.per_core is None else f"{row.per_core:.0f}"
    megabytes = "-" if row.megabytes is None else f"{row.megabytes:.0f}"
    pixels = f"{row.resolution}x{row.resolution}"
    print(
        f"{row.engine:<12}{row.triangles:>10}{pixels:>9} {row.filtering:<10}{row.batch:>6}"
        f"{row.threads:>8}{per_core:>10}{row.wall:>10.0f}{megabytes:>8}{row.first_call:>10.2f} s",
        flush=True,
    )


def processor() -> str:
    """What this machine calls its own."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{os.cpu_count()} cores"


def our_rows(scene: SceneData, resolution: int, options: Options) -> list[Row]:
    """Of the rasteriser, and of the ray engine where there is a CUDA device or it was asked for."""
    from vlkit.envs.simulator.raster import RasterEngine
    from vlkit.envs.simulator.raycast import RayEngine
    from vlkit.processes import cores

    rows = []
    for filtering in options.filterings:
        for threads in dict.fromkeys(threads or cores() for threads in options.threads):
            for batch in options.batches:
                if batch >= threads:  # a view is drawn by one thread

                    def raster(threads: int = threads, filtering: Filtering = filtering) -> Engine:
                        return RasterEngine([scene], threads=threads, filtering=filtering)

                    rows.append(our_row("raster", raster, scene, resolution, filtering, batch, threads, options))
        devices: list[tuple[str, tuple[int, ...]]] = [("cpu", options.batches)] if options.rays_on_cpu else []
        if torch.cuda.is_available():
            devices.append(("cuda", options.cuda_batches))
        for device, batches in devices:

            def rays(device: str = device, filtering: Filtering = filtering) -> Engine:
                return RayEngine([scene], device=device, filtering=filtering)

            name = "ray" if device == "cpu" else "ray, CUDA"
            rows += [our_row(name, rays, scene, resolution, filtering, batch, 1, options) for batch in batches]
    if not rows:
        raise UserError(
            f"batches is {options.batches} and threads {options.threads}: a view is drawn by one thread, so a batch "
            "has as many views as there are threads, or more"
        )
    return rows


def our_row(
    name: str,
    make: Callable[[], Any],
    scene: SceneData,
    resolution: int,
    filtering: str,
    batch: int,
    threads: int,
    options: Options,
) -> Row:
    """Of the engine that `make` returns; a first call on a machine compiles kernels too, which are kept on the disk."""
    start = time.perf_counter()
    engine = make()
    draw = drawer(engine, Camera(height=resolution, width=resolution), batch)
    draw()
    first_call = time.perf_counter() - start
    if batch < POSES:
        draw()
    per_core, wall = rates(draw, batch, options.repeats, options.seconds)
    drawn_here = per_core if engine.device.type == "cpu" else None
    faces = len(scene.faces)
    return Row(name, faces, resolution, filtering, batch, threads, drawn_here, wall, engine.bytes / 1e6, first_call)


def drawer(engine: Engine, camera: Camera, batch: int) -> Callable[[], None]:
    """Draws the next so many views at each call."""
    out = frames(camera, SENSORS, batch, engine.device)
    scene = torch.zeros(batch, dtype=torch.int64, device=engine.device)
    positions, rotations = (each.to(engine.device) for each in poses())
    rounds = -(-batch // POSES) + 1
    positions, rotations = positions.repeat(rounds, 1), rotations.repeat(rounds, 1, 1)
    begins = range(0, POSES, batch)
    steps = itertools.cycle([(positions[i : i + batch], rotations[i : i + batch]) for i in begins])
    position, rotation = positions[:batch].clone(), rotations[:batch].clone()

    def draw() -> None:
        places, turns = next(steps)
        position.copy_(places)
        rotation.copy_(turns)
        engine.render(camera, scene, position, rotation, out)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()

    return draw


def rates(draw: Callable[[], None], pictures: int, repeats: int, seconds: float) -> tuple[float, float]:
    """Medians of pictures by second of processor time and by second on the clock."""
    per_core, wall = [], []
    for _ in range(repeats):
        calls = 0
        start, start_cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            draw()
            calls += 1
        per_core.append(calls * pictures / (time.process_time() - start_cpu))
        wall.append(calls * pictures / (time.perf_counter() - start))
    return statistics.median(per_core), statistics.median(wall)


def poses() -> tuple[torch.Tensor, torch.Tensor]:
    """(POSES, 3) m and (POSES, 3, 3): in the middle of a room, looking anywhere level."""
    rng = np.random.default_rng(0)
    rooms = rng.integers((0, 0), ROOMS, (POSES, 2)) + 0.5
    plan = rooms * ROOM_M + rng.uniform(-0.9, 0.9, (POSES, 2))
    yaw = rng.uniform(0, 2 * math.pi, POSES)
    zero, one, sine, cosine = np.zeros(POSES), np.ones(POSES), np.sin(yaw), np.cos(yaw)
    turns = np.array([[cosine, zero, sine], [zero, one, zero], [-sine, zero, cosine]]).transpose(2, 0, 1)
    places = np.stack([plan[:, 0], np.full(POSES, 1.4), plan[:, 1]], axis=1)
    return torch.tensor(places, dtype=torch.float32), torch.tensor(turns, dtype=torch.float32).contiguous()


# The houses.


@dataclass(frozen=True)
class Box:
    """A block with its sides along the axes."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    look: int  # which texture
    colour: tuple[float, float, float]


def house(triangles: int) -> SceneData:
    """About so many: boxes where few are wanted; else each cut into squares, and bent by millimetres as scans are."""
    boxes = furnished_rooms()
    cell = math.inf
    if triangles > 1.5 * 12 * len(boxes):
        fine, coarse = 0.001, 10.0
        for _ in range(40):
            cell = math.sqrt(fine * coarse)
            fine, coarse = (cell, coarse) if 2 * sum(squares(box, cell) for box in boxes) > triangles else (fine, cell)
    corners, uv, looks, colours, ids = [], [], [], [], []
    for number, box in enumerate(boxes):
        patches, coordinates = surface(box, cell)
        corners.append(patches)
        uv.append(coordinates)
        looks += [box.look] * len(patches) * 2
        colours += [(*box.colour, 1.0)] * len(patches) * 2
        ids += [number + 1] * len(patches) * 2
    vertices = np.concatenate(corners).reshape(-1, 3)
    if math.isfinite(cell):
        vertices = vertices + 0.004 * np.sin(vertices @ np.random.default_rng(1).normal(size=(3, 3)) * 9)
    each = 4 * np.arange(len(vertices) // 4)[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])
    count = each.shape[0] * 2
    return SceneData(
        name="house",
        vertices=vertices.astype(np.float32),
        faces=each.reshape(-1, 3).astype(np.int32),
        uv=np.concatenate(uv)[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2).astype(np.float32),
        texture=np.array(looks, np.int32),
        colour=np.array(colours, np.float32),
        vertex_colour=np.full((len(vertices), 4), 255, np.uint8),
        double_sided=np.zeros(count, bool),
        instance=np.array(ids, np.int32),
        semantic=np.array(looks, np.int32) % 8,
        textures=tuple(Texture(pattern(i)) for i in range(12)),
        categories=tuple(f"kind {i}" for i in range(8)),
    )


def furnished_rooms() -> list[Box]:
    """Rooms in a grid, doors between neighbours, a table with chairs, a bed, a shelf of books and a picture in each."""
    rng = np.random.default_rng(0)
    boxes = []

    def add(x: float, y: float, z: float, dx: float, dy: float, dz: float, look: int) -> None:
        red, green, blue = rng.uniform(0.5, 1.0, 3)
        boxes.append(Box((x, y, z), (x + dx, y + dy, z + dz), look, (red, green, blue)))

    across, along = ROOMS
    add(0, -0.1, 0, across * ROOM_M, 0.1, along * ROOM_M, 0)
    add(0, HEIGHT_M, 0, across * ROOM_M, 0.1, along * ROOM_M, 1)
    side, door_m = (ROOM_M - DOOR_M) / 2, 2.1
    for i in range(across + 1):  # walls with a door are two pieces and what is above the door
        for j in range(along):
            x, z, outer = i * ROOM_M, j * ROOM_M, i in (0, across)
            if outer:
                add(x, 0, z, WALL_M, HEIGHT_M, ROOM_M, 2)
            else:
                add(x, 0, z, WALL_M, HEIGHT_M, side, 3)
                add(x, 0, z + side + DOOR_M, WALL_M, HEIGHT_M, side, 3)
                add(x, door_m, z + side, WALL_M, HEIGHT_M - door_m, DOOR_M, 3)
    for i in range(across):
        for j in range(along + 1):
            x, z, outer = i * ROOM_M, j * ROOM_M, j in (0, along)
            if outer:
                add(x, 0, z, ROOM_M, HEIGHT_M, WALL_M, 4)
            else:
                add(x, 0, z, side, HEIGHT_M, WALL_M, 5)
                add(x + side + DOOR_M, 0, z, side, HEIGHT_M, WALL_M, 5)
                add(x + side, door_m, z, DOOR_M, HEIGHT_M - door_m, WALL_M, 5)
    for i in range(across):
        for j in range(along):
            x, z = i * ROOM_M, j * ROOM_M
            table(add, x + 0.3, z + 0.2, 0.9, 0.6, 0.72)
            for chair in range(2):
                table(add, x + 0.3 + 0.5 * chair, z + 0.8, 0.35, 0.35, 0.45)
                add(x + 0.3 + 0.5 * chair, 0.45, z + 1.12, 0.35, 0.45, 0.03, 7)
            add(x + 2.7, 0, z + 0.2, 1.1, 0.4, 1.9 / 2, 8)
            add(x + 2.8, 0.4, z + 0.25, 0.9, 0.12, 0.3, 9)
            for board in range(4):
                add(x + 2.8, 0.4 + 0.4 * board, z + 3.55, 1.0, 0.03, 0.3, 6)
                for book in range(4):
                    add(
                        x + 2.85 + 0.11 * book, 0.43 + 0.4 * board, z + 3.6, 0.07, float(rng.uniform(0.2, 0.3)), 0.2, 10
                    )
            add(x + 0.4, 1.4, z + ROOM_M - 0.03, 0.8, 0.5, 0.03, 11)
    return boxes


def table(add: Callable[..., None], x: float, z: float, width: float, depth: float, height: float) -> None:
    """A board on four legs."""
    add(x, height - 0.04, z, width, 0.04, depth, 6)
    for right in (0.0, width - 0.05):
        for back in (0.0, depth - 0.05):
            add(x + right, 0, z + back, 0.05, height - 0.04, 0.05, 7)


def squares(box: Box, cell: float) -> int:
    """How many patches its six sides have."""
    counts = [max(1, math.ceil((high - low) / cell)) for low, high in zip(box.low, box.high, strict=True)]
    return 2 * (counts[0] * counts[1] + counts[1] * counts[2] + counts[2] * counts[0])


def surface(box: Box, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Its patches: corners (patches, 4, 3), counter-clockwise seen from outside, and uv (patches, 4, 2) in metres."""
    low, high = np.array(box.low), np.array(box.high)
    counts = [max(1, math.ceil((b - a) / cell)) for a, b in zip(box.low, box.high, strict=True)]
    ticks = [np.linspace(a, b, count + 1) for a, b, count in zip(low, high, counts, strict=True)]
    corners, uv = [], []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        i, j = (grid.reshape(-1) for grid in np.meshgrid(range(counts[first]), range(counts[second]), indexing="ij"))
        for at, outward in ((low[axis], False), (high[axis], True)):
            steps = ((0, 0), (1, 0), (1, 1), (0, 1)) if outward else ((0, 0), (0, 1), (1, 1), (1, 0))
            patch = np.empty((len(i), 4, 3))
            patch[..., axis] = at
            for corner, (a, b) in enumerate(steps):
                patch[:, corner, first] = ticks[first][i + a]
                patch[:, corner, second] = ticks[second][j + b]
            corners.append(patch)
            upright = (first, second) if second == 1 else (second, first)  # v runs down walls
            uv.append(np.stack([patch[..., upright[0]], -patch[..., upright[1]]], axis=-1))
    return np.concatenate(corners), np.concatenate(uv)


def pattern(number: int, size: int = 256) -> np.ndarray:
    """(size, size, 4) uint8 that repeats: grain of several sizes, with joints of bricks or boards on every other."""
    rng = np.random.default_rng(number)
    grain = np.zeros((size, size))
    for coarseness in (4, 16, 64):
        coarse = rng.normal(size=(size // coarseness, size // coarseness))
        grain += np.kron(coarse, np.ones((coarseness, coarseness))) * coarseness**0.5
    shade = 170 + 30 * grain / np.abs(grain).max()
    if number % 2:
        shade[:: size // 8] -= 70
        shade[:, :: size // 4] -= 70
    tint = rng.uniform(0.7, 1.0, 3)
    picture = np.concatenate([shade[..., None] * tint, np.full((size, size, 1), 255)], axis=-1)
    return picture.clip(0, 255).astype(np.uint8)


# The peers.


def habitat_row(scene: SceneData, resolution: int, options: Options) -> Row | str:
    """habitat-sim, unlit, on the same views."""
    from vlkit.envs.simulator.glb_writer import save_glb

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "house.glb"
        save_glb(scene, file, stage_config=True)
        # Else it bakes an environment map for many seconds, which unlit drawing has no use for.
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data" / "default.pbr_config.json").write_text(json.dumps({"enable_ibl": False}))
        return peer_row("habitat-sim", len(scene.faces), resolution, "trilinear", Path(folder), str(file), options)


def peer_row(
    name: str, triangles: int, resolution: int, filtering: str, folder: Path, scene: str, options: Options
) -> Row | str:
    """Measured in a process of its own, since some can be started only once in each."""
    seconds = str(options.seconds * options.repeats)
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), name, scene, str(resolution), seconds],
        cwd=folder,
        env={**os.environ, "MAGNUM_LOG": "quiet", "HABITAT_SIM_LOG": "quiet"},
        check=False,
        capture_output=True,
        text=True,
    )
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or ["nothing"])[-1]
        return f"{name:<12}ended with {ran.returncode}, saying: {last}"
    measured = json.loads(ran.stdout.strip().splitlines()[-1])
    return Row(
        name,
        triangles,
        resolution,
        filtering,
        batch=1,
        threads=1,
        per_core=measured["per_core"],
        wall=measured["wall"],
        megabytes=None,
        first_call=measured["first_call"],
    )


def habitat_rate(file: str, resolution: int, seconds: float) -> dict[str, float]:
    """Pictures by second of processor time, with all threads of its renderer, and on the clock."""
    habitat: Any = importlib.import_module("habitat_sim")
    made = time.perf_counter()
    simulator = habitat.SimulatorConfiguration()
    simulator.scene_id = file
    simulator.gpu_device_id = 0 if torch.cuda.is_available() else -1
    simulator.enable_physics = False
    simulator.scene_light_setup = "no_lights"
    simulator.override_scene_light_defaults = True
    sensors = []
    for name, kind in (("rgb", habitat.SensorType.COLOR), ("depth", habitat.SensorType.DEPTH)):
        sensor = habitat.CameraSensorSpec()
        sensor.uuid, sensor.sensor_type, sensor.resolution = name, kind, [resolution, resolution]
        sensor.position, sensor.hfov = [0.0, 0.0, 0.0], 90.0
        sensors.append(sensor)
    agent = habitat.agent.AgentConfiguration(sensor_specifications=sensors)
    with habitat.Simulator(habitat.Configuration(simulator, [agent])) as sim:
        places, turns = poses()
        states = []
        for place, turn in zip(places.tolist(), turns, strict=True):
            yaw = math.atan2(float(turn[0, 2]), float(turn[0, 0]))
            rotation = habitat.utils.common.quat_from_coeffs([0.0, math.sin(yaw / 2), 0.0, math.cos(yaw / 2)])
            states.append(habitat.AgentState(place, rotation))
        number = 0

        def draw() -> None:
            nonlocal number
            sim.get_agent(0).set_state(states[number % POSES], reset_sensors=True)
            sim.get_sensor_observations()
            number += 1

        draw()
        first_call = time.perf_counter() - made
        for _ in range(POSES // 4):
            draw()
        per_core, wall = rates(draw, 1, 5, seconds / 5)
    return {"per_core": per_core, "wall": wall, "first_call": first_call}


def miniworld_rate(scene: str, resolution: int, seconds: float) -> dict[str, float]:
    """MiniWorld's own four rooms, tens of squares, seen by an agent that turns; it takes no other `scene`."""
    gymnasium: Any = importlib.import_module("gymnasium")
    importlib.import_module("miniworld")
    made = time.perf_counter()
    env = gymnasium.make("MiniWorld-FourRooms-v0", obs_width=resolution, obs_height=resolution).unwrapped
    env.reset(seed=0)

    def draw() -> None:
        env.agent.dir += 0.3
        env.render_obs()
        env.render_depth(env.obs_fb)

    draw()
    first_call = time.perf_counter() - made
    per_core, wall = rates(draw, 1, 5, seconds / 5)
    return {"per_core": per_core, "wall": wall, "first_call": first_call}


MODULES = {"habitat-sim": "habitat_sim", "MiniWorld": "miniworld"}
PEERS: dict[str, Callable[[str, int, float], dict[str, float]]] = {
    "habitat-sim": habitat_rate,
    "MiniWorld": miniworld_rate,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
