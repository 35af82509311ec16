"""Pictures beside those that habitat-sim made of the same scene from the same places.

A golden folder holds scene.glb with its scene.stage_config.json, golden.json and golden.npz; their PROVENANCE.md says
how they were made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from vlkit.envs.simulator.camera import Camera, Engine, Frames, frames
from vlkit.envs.simulator.json_fields import Fields, json_fields
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

DEPTH_M, DEPTH_SHARE = 0.01, 99.99  # so many % of pixels within so many metres
COLOUR_LEVELS, COLOUR_SHARE = 8, 99.0  # so many % of pixels whose every channel is within so many of 255
COLOUR_MEAN = 2.0  # of 255, over channels and pixels
FILES = ("scene.glb", "golden.json", "golden.npz")
Asked = TypeVar("Asked")


@dataclass(frozen=True)
class Figure:
    """One number of a comparison. `bound` is the least value allowed, or the greatest."""

    name: str
    value: float
    bound: float
    side: Literal["at least", "at most"]

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.side == "at least" else self.value <= self.bound


class Golden:
    """What habitat-sim measured: `told` is golden.json, and golden[name] an array of golden.npz, read when asked for.

    Raises UserError, naming the file and what it lacks, where one is not there, is damaged or has no such array.
    """

    def __init__(self, folder: Path) -> None:
        for name in FILES:
            if not (folder / name).is_file():
                raise UserError(f"{folder} has no {name}; a golden folder holds {', '.join(FILES)}")
        self.told = json_fields((folder / "golden.json").read_bytes(), folder / "golden.json")
        self.file = folder / "golden.npz"
        self.names = frozenset(self._read(lambda arrays: arrays.files))

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise UserError(f"{self.file} has no array {name!r}; fetch the golden folder again")
        return self._read(lambda arrays: np.asarray(arrays[name]))

    def _read(self, ask: Callable[[np.lib.npyio.NpzFile], Asked]) -> Asked:
        try:
            with open(self.file, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                return ask(arrays)
        except Exception as error:  # a damaged zip, header or array can raise anything
            raise UserError(f"{self.file} is cut off or damaged ({error}); fetch the golden folder again") from error


def golden_scenes(folder: Path) -> list[Path]:
    """The folder itself where it is a golden scene, else those in it. Raises UserError where there are none."""
    if (folder / FILES[-1]).is_file():
        return [folder]
    found = sorted(inner for inner in folder.glob("*") if (inner / FILES[-1]).is_file()) if folder.is_dir() else []
    if not found:
        raise UserError(f"{folder} has no {FILES[-1]}, nor has a folder in it; name a folder of golden data")
    return found


def frame_figures(folder: Path, engine: Engine | None = None) -> list[Figure]:
    """How far depth and colour are from habitat-sim's, for each resolution of one golden scene.

    Drawn by `engine`, which holds the scene alone, or by a RasterEngine that draws as habitat does.
    """
    golden = Golden(folder)
    cameras = _cameras(golden)
    compared = {f"{kind}_{tag}" for kind in ("rgb", "depth") for tag in cameras}
    for name in sorted(golden.names):
        if name.startswith(("rgb_", "depth_")) and name not in compared:
            raise UserError(
                f"{golden.file} has {name}, for which {golden.told.where}, sensor, resolutions_hw_hfov lists no "
                "resolution; add its [height, width, hfov] there, or take the array out"
            )
    positions, quaternions = golden["pose_camera_position"], golden["pose_rotation_wxyz"]
    if engine is None:
        from vlkit.envs.simulator.raster import RasterEngine

        engine = RasterEngine([golden_scene(folder)], habitat_compatible=True)
    figures = []
    for tag, camera in cameras.items():
        poses = _poses(golden, tag, len(positions))
        drawn = _drawn(engine, camera, positions[poses], quaternions[poses])
        ours = {kind: pictures.cpu().numpy() for kind, pictures in drawn.items()}
        theirs = {kind: golden[f"{kind}_{tag}"] for kind in drawn}
        for kind, pictures in ours.items():
            if theirs[kind].shape != pictures.shape:
                raise UserError(
                    f"{golden.file}: {kind}_{tag} is of shape {theirs[kind].shape}; expected {pictures.shape} of its "
                    "poses and resolution: fetch the golden folder again"
                )
        shown = f"{camera.height}x{camera.width}, hfov {camera.hfov_deg:g}"
        figures += depth_figures(shown, ours["depth"], theirs["depth"])
        figures += colour_figures(shown, ours["rgb"], theirs["rgb"])
    return figures


def golden_scene(folder: Path) -> SceneData:
    """The scene as habitat-sim drew it."""
    return load_scene(folder / "scene.glb", habitat_compatible=True, cache=False)


def depth_figures(shown: str, ours: np.ndarray, theirs: np.ndarray) -> list[Figure]:
    """(poses, height, width) of both, metres."""
    within = 100 * float((np.abs(ours - theirs) <= DEPTH_M).mean())
    return [Figure(f"{shown}: % of depths within {100 * DEPTH_M:g} cm", within, DEPTH_SHARE, "at least")]


def colour_figures(shown: str, ours: np.ndarray, theirs: np.ndarray) -> list[Figure]:
    """(poses, height, width, 3) of both, uint8."""
    apart = np.abs(ours.astype(np.int16) - theirs.astype(np.int16))
    within = 100 * float((apart.max(axis=-1) <= COLOUR_LEVELS).mean())
    return [
        Figure(f"{shown}: % of colours within {COLOUR_LEVELS} of 255", within, COLOUR_SHARE, "at least"),
        Figure(f"{shown}: mean difference of colours, of 255", float(apart.mean()), COLOUR_MEAN, "at most"),
    ]


def matrices(quaternions: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """(n, 4) unit quaternions w, x, y, z -> (n, 3, 3) float32."""
    w, x, y, z = np.asarray(quaternions, np.float64).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.ascontiguousarray(np.moveaxis(np.array(rows), -1, 0), np.float32)


def _cameras(golden: Golden) -> dict[str, Camera]:
    """habitat's cameras by how the names of their arrays end: 128 of a square one of 90 degrees, or h48w64_hfov79."""
    sensor = golden.told.fields("sensor")
    listed = sensor.values.get("resolutions_hw_hfov")
    if not isinstance(listed, list) or not listed:
        sensor.wrong("resolutions_hw_hfov", "a list of [height, width, hfov]")
    near, far = sensor.number("near"), sensor.number("far")
    cameras = {}
    for i, resolution in enumerate(listed):
        name = f"resolutions_hw_hfov[{i}]"
        height, width, hfov = Fields({name: resolution}, sensor.where).numbers(name, 3)
        tag = f"{width:g}" if (height, hfov) == (width, 90) else f"h{height:g}w{width:g}_hfov{hfov:g}"
        cameras[tag] = Camera(height=int(height), width=int(width), hfov_deg=hfov, near_m=near, far_m=far)
    return cameras


def _poses(golden: Golden, tag: str, count: int) -> np.ndarray:
    """Which of the poses were drawn at a resolution: every one where the file does not choose."""
    chosen = f"pose_index_{tag.partition('_')[0]}"
    if chosen not in golden.names:
        return np.arange(count)
    poses = golden[chosen]
    if len(poses) and not 0 <= poses.min() <= poses.max() < count:
        raise UserError(
            f"{golden.file}: {chosen} names poses {poses.min()} to {poses.max()}, and there are {count}; fetch the "
            "golden folder again"
        )
    return poses


def _drawn(engine: Engine, camera: Camera, positions: np.ndarray, quaternions: np.ndarray) -> Frames:
    views = len(positions)
    out = frames(camera, ("rgb", "depth"), views, engine.device)
    engine.render(
        camera,
        torch.zeros(views, dtype=torch.int64, device=engine.device),
        torch.tensor(positions, dtype=torch.float32, device=engine.device),
        torch.tensor(matrices(quaternions), device=engine.device),
        out,
    )
    return out
