"""Pictures beside those that habitat-sim made of the same scene from the same places.

A golden folder holds scene.glb with its scene.stage_config.json, golden.json and golden.npz; their PROVENANCE.md says how
they were made.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from vlkit.envs.simulator.camera import Camera, Engine, Frames, frames
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

DEPTH_M, DEPTH_SHARE = 0.01, 99.99  # so many % of pixels within so many metres
COLOUR_LEVELS, COLOUR_SHARE = 8, 99.0  # so many % of pixels whose every channel is within so many of 255
COLOUR_MEAN = 2.0  # of 255, over channels and pixels
FILES = ("scene.glb", "golden.json", "golden.npz")


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
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; a golden folder holds {', '.join(FILES)}")
    settings = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    if engine is None:
        from vlkit.envs.simulator.raster import RasterEngine

        engine = RasterEngine([golden_scene(folder)], habitat_compatible=True)
    figures = []
    with np.load(folder / "golden.npz") as golden:
        for height, width, hfov in settings["sensor"]["resolutions_hw_hfov"]:
            tag = f"{width}" if (height, hfov) == (width, 90) else f"h{height}w{width}_hfov{hfov}"
            chosen = f"pose_index_{tag.partition('_')[0]}"  # where there is none, every pose was drawn
            poses = golden[chosen] if chosen in golden.files else np.arange(len(golden["pose_yaw"]))
            near, far = settings["sensor"]["near"], settings["sensor"]["far"]
            camera = Camera(height=height, width=width, hfov_deg=hfov, near_m=near, far_m=far)
            drawn = _drawn(engine, camera, golden["pose_camera_position"][poses], golden["pose_rotation_wxyz"][poses])
            shown = f"{height}x{width}, hfov {hfov:g}"
            figures += depth_figures(shown, drawn["depth"].cpu().numpy(), golden[f"depth_{tag}"])
            figures += colour_figures(shown, drawn["rgb"].cpu().numpy(), golden[f"rgb_{tag}"])
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
