"""Seconds to load a mesh, by file format: parsed, from the cache, and by trimesh where that reads the same file.

    vlkit bench scenes [--triangles 500000] [--rounds 5]

The mesh is a rough floor with colours and one texture of 1024 x 1024, the same in every file. "parsed" is
`load_scene(..., cache=False)`; "cached" finds the scene on disk, which includes reading and hashing the file itself.
Sides take turns, one thread; trimesh does less (it neither looks for faults nor for what lies beside the file).
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vlkit.config import load
from vlkit.envs.simulator.assemble import Part, joined
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData, Texture
from vlkit.errors import UserError


@dataclass(frozen=True)
class Options:
    """Time the readers of scenes."""

    triangles: int = 500_000
    """of the mesh"""
    rounds: int = 5
    """loads of each file by each side; the median counts"""
    seed: int = 0
    """of heights and colours"""

    def __post_init__(self) -> None:
        for name in ("triangles", "rounds"):
            if getattr(self, name) < 2:
                raise UserError(f"{name} is {getattr(self, name)} and must be at least 2; leave it out for the default")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; expected 0 or more")


def main(arguments: Sequence[str]) -> int:
    """Prints the table; 1 where trimesh finds another number of triangles or another place."""
    try:
        return int(not table(load(Options, None, arguments, prog="vlkit bench scenes")))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1


def table(options: Options) -> bool:
    """A line for each format; whether trimesh reads the same meshes."""
    scene = floor(options.triangles, options.seed)
    trimesh = peer()
    print(f"{len(scene.faces)} triangles, {len(scene.vertices)} vertices; ", end="")
    print(f"median of {options.rounds} (fastest to slowest)\n")
    print(f"{'file':<14}{'megabytes':>9}  {'parsed':<24}{'cached':<24}{'trimesh (peer)':<24}")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for path in written(scene, Path(folder)):
            sides: list[Callable[[], object]] = [
                partial(load_scene, path, cache=False),
                partial(load_scene, path, cache=Path(folder) / "cache"),
            ]
            if trimesh:
                sides.append(partial(trimesh, path))
                failed |= not agree(load_scene(path, cache=False), trimesh(path))
            seconds: list[list[float]] = [[] for _ in sides]
            load_scene(path, cache=Path(folder) / "cache")
            for _ in range(options.rounds):
                for side, taken in zip(sides, seconds, strict=True):
                    start = time.perf_counter()
                    side()
                    taken.append(time.perf_counter() - start)
            row = "".join(f"{shown(taken):<24}" for taken in seconds)
            print(f"{path.name:<14}{path.stat().st_size / 1e6:>9.1f}  {row}{'' if trimesh else 'not installed'}")
    if failed:
        print("\ntrimesh reads another mesh from one of these files")
    return not failed


def floor(triangles: int, seed: int) -> SceneData:
    """A square of two triangles a cell, 2 cm each, of random heights and colours."""
    generator = np.random.default_rng(seed)
    side = max(1, round((triangles / 2) ** 0.5))
    x, z = (axis.reshape(-1) for axis in np.meshgrid(np.arange(side + 1), np.arange(side + 1), indexing="ij"))
    vertices = np.stack([x * 0.02, generator.random(len(x)) * 0.1, z * 0.02], axis=1)
    first = (np.arange(side)[:, None] * (side + 1) + np.arange(side)).reshape(-1)
    corners = [[first, first + 1, first + side + 1], [first + 1, first + side + 2, first + side + 1]]
    faces = np.concatenate([np.stack(each, axis=1) for each in corners])
    part = Part(
        vertices,
        faces,
        uv=vertices[faces][:, :, [0, 2]] / 10,
        vertex_colour=np.concatenate([generator.integers(0, 256, (len(x), 3)), np.full((len(x), 1), 255)], axis=1),
        texture=0,
    )
    image = generator.integers(0, 256, (1024, 1024, 4), dtype=np.uint8)
    image[:, :, 3] = 255
    return joined("floor", [part], textures=(Texture(image),))


def written(scene: SceneData, folder: Path) -> list[Path]:
    """The scene in each format that is read; a format holds of it what it can."""
    save_glb(scene, folder / "floor.glb")
    points, colours, faces = scene.vertices, scene.vertex_colour[:, :3], scene.faces
    header = ["element vertex " + str(len(points)), *(f"property float {axis}" for axis in "xyz")]
    header += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header\n"]
    rows = np.zeros(len(points), dtype=[("point", "<f4", 3), ("colour", "u1", 3)])
    rows["point"], rows["colour"] = points, colours
    polygons = np.zeros(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    polygons["count"], polygons["corners"] = 3, faces
    start = "\n".join(["ply", "format {} 1.0", *header])
    binary = start.format("binary_little_endian").encode() + rows.tobytes() + polygons.tobytes()
    (folder / "binary.ply").write_bytes(binary)
    with open(folder / "ascii.ply", "w", encoding="ascii") as file:
        file.write(start.format("ascii"))
        np.savetxt(file, np.concatenate([points, colours], axis=1), fmt="%.6g %.6g %.6g %d %d %d")
        np.savetxt(file, faces, fmt="3 %d %d %d")
    with open(folder / "floor.obj", "w", encoding="ascii") as file:
        np.savetxt(file, points, fmt="v %.6g %.6g %.6g")
        np.savetxt(file, points[:, [0, 2]] / 10, fmt="vt %.6g %.6g")
        np.savetxt(file, np.repeat(faces + 1, 2, axis=1), fmt="f %d/%d %d/%d %d/%d")
    return [folder / name for name in ("floor.glb", "binary.ply", "ascii.ply", "floor.obj")]


def peer() -> Callable[[Path], tuple[int, np.ndarray]] | None:
    """trimesh's loader: triangles, and lowest and highest corner (2, 3); None where it is not installed."""
    try:
        import trimesh
    except ImportError:
        return None

    def read(path: Path) -> tuple[int, np.ndarray]:
        loaded = trimesh.load_scene(path, process=False)
        return sum(len(mesh.faces) for mesh in loaded.geometry.values()), np.asarray(loaded.bounds)

    return read


def agree(scene: SceneData, found: tuple[int, np.ndarray]) -> bool:
    """Whether the two sides have as many triangles, in the same place to a tenth of a millimetre."""
    return len(scene.faces) == found[0] and bool(np.abs(np.stack(scene.bounds) - found[1]).max() < 1e-4)


def shown(seconds: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
