"""`vlkit view SCENE`: a first look at a mesh. What is in it, what an agent would see in it, and where it could walk."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw

from vlkit import config
from vlkit.envs.simulator.camera import KINDS, Camera, frames, rotations
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.maps import storeys_of, top_down_map
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings, nav_grid
from vlkit.envs.simulator.raster import RasterEngine
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError
from vlkit.files import cannot_write, write_atomic

PLACES, PICTURE, GAP, CAPTION = 6, 192, 4, 16  # of the contact sheet: columns; pixels of a side, between, of a line
FRAMES, TURNTABLE = 36, (240, 320)  # of the turntable: pictures, and their height and width
LIFT_DEG = 40.0  # how far above the horizon the turntable's camera stands
CEILING_M = 1.9  # over the highest floor: what lies above is taken off for the turntable, or one would see a roof


@dataclass(frozen=True)
class Options:
    """Look at a mesh: a contact sheet of what an agent sees, a map of where it could walk, a turntable."""

    file: tyro.conf.Positional[Path]
    """.glb, .gltf, .ply, .obj, or habitat's stage, scene instance or dataset JSON"""
    out: Path | None = None
    """folder for contact.png, map.png and turntable.gif; view-NAME here where it is not given"""
    scene: str = ""
    """one of a dataset's scenes"""
    up: tuple[float, float, float] | None = None
    """the file's axis that points up, such as 0 0 1; see also front"""
    front: tuple[float, float, float] | None = None
    """the file's axis that an agent faces which has not turned"""
    scale: float = 1.0
    """metres a unit of the file, 0.01 for centimetres"""
    shading: Literal["flat", "lambert"] = "flat"
    """of the contact sheet: flat shows colours as they are; lambert darkens what is turned away from the light"""
    seed: int = 0
    """of the places in the contact sheet"""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}; expected 0 to {2**63 - 1}")


def main(arguments: Sequence[str]) -> int:
    """`vlkit view`"""
    options = config.load(Options, None, arguments, prog="vlkit view")
    scene = load_scene(options.file, scene=options.scene, up=options.up, front=options.front, scale=options.scale)
    folder = options.out or Path(f"view-{options.file.name.partition('.')[0]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder / "turntable.gif", error) from error
    # First of all what is known of the mesh: the ground of one in centimetres takes long, or more memory than there is.
    for line in facts(scene):
        print(line)  # noqa: T201
    for warning in scene.warnings:
        print(f"note: {warning.replace('pass scale=', 'pass --scale ')}", flush=True)  # noqa: T201
    walk: NavGrid | None
    try:
        walk = nav_grid(scene, NavSettings())
    except UserError as error:  # a chair is a scene too
        walk, nowhere = None, str(error)
    if walk is None:
        print(f"note: no map and no views from inside: {nowhere}")  # noqa: T201
    else:
        print(walkable(walk))  # noqa: T201
        with write_atomic(folder / "contact.png") as file:
            contact_sheet(scene, walk, shading=options.shading, seed=options.seed).save(file, format="PNG")
        with write_atomic(folder / "map.png") as file:
            top_down_map(storeys_of(walk), scene=scene, title=scene.name).savefig(file, format="png", dpi=130)
    with write_atomic(folder / "turntable.gif") as file:
        first, *others = turntable(scene, top_m=None if walk is None else top_floor_m(walk))
        first.save(file, format="GIF", save_all=True, append_images=others, duration=90, loop=0)
    print(f"written: {folder}")  # noqa: T201
    return 0


def facts(scene: SceneData) -> list[str]:
    """What there is to say about a mesh, a line each."""
    low, high = scene.bounds
    width, height, depth = high - low
    texels = sum(texture.image.shape[0] * texture.image.shape[1] for texture in scene.textures)
    textures = f"{len(scene.textures)} textures ({texels / 1e6:.1f} million texels)"
    categories = max(len(scene.categories) - 1, 0)
    return [
        f"{scene.name}: {len(scene.faces)} triangles, {textures}",
        f"size: {width:.2f} m wide, {depth:.2f} m deep, {height:.2f} m high",
        f"named: {len(scene.objects)} objects, {categories} categories, {len(scene.rooms)} rooms",
    ]


def walkable(walk: NavGrid) -> str:
    """How much ground there is, and its five largest islands."""
    areas = sorted((island.area_m2 for island in walk.islands), reverse=True)
    listed = ", ".join(f"{area:.1f}" for area in areas[:5]) + ", ..." * (len(areas) > 5)
    return f"walkable: {walk.area_m2:.1f} m2 in {len(areas)} islands ({listed} m2)"


def contact_sheet(scene: SceneData, walk: NavGrid, *, shading: Literal["flat", "lambert"], seed: int) -> Image.Image:
    """Colour, depth, objects and categories, a row each, from random places on the largest island."""
    engine = RasterEngine([scene], shading=shading)
    camera = Camera(height=PICTURE, width=PICTURE)
    feet = walk.random_points(PLACES, seed=seed, island=walk.largest_island)
    yaw = torch.arange(PLACES) * (2 * math.pi / PLACES)
    position = feet + torch.tensor(camera.offset)
    out = frames(camera, tuple(KINDS), PLACES, engine.device)
    engine.render(
        camera, torch.zeros(PLACES, dtype=torch.int64), position.float(), rotations(yaw, torch.zeros_like(yaw)), out
    )
    depth = out["depth"].numpy()
    far = max(float(depth.max()), 1e-6)
    rows: list[tuple[str, np.ndarray | None]] = [
        ("colour", out["rgb"].numpy()),
        (f"depth, white at 0, black at {far:.1f} m", grey(1 - depth / far, depth > 0)),
    ]
    for name, ids in (("objects", out["instance"].numpy()), ("categories", out["semantic"].numpy())):
        if ids.any():
            rows.append((name, painted(ids)))
        else:
            rows.append((f"{name}: the file names none of what is seen", None))
    heights = [CAPTION if pictures is None else CAPTION + PICTURE for _, pictures in rows]
    sheet = Image.new("RGB", (PLACES * (PICTURE + GAP), sum(heights)), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for (caption, pictures), height in zip(rows, heights, strict=True):
        pen.text((4, top + 2), caption, fill="black")
        if pictures is not None:
            for column, picture in enumerate(pictures):
                sheet.paste(Image.fromarray(picture), (column * (PICTURE + GAP), top + CAPTION))
        top += height
    return sheet


def turntable(scene: SceneData, *, top_m: float | None = None) -> list[Image.Image]:
    """The scene from all sides, without what is higher than `top_m`."""
    shown = scene if top_m is None else below(scene, top_m)
    height, width = TURNTABLE
    low, high = shown.bounds
    radius = float(np.linalg.norm(high - low)) / 2
    camera = Camera(height=height, width=width, hfov_deg=50.0, near_m=max(radius * 1e-3, 1e-4), far_m=radius * 20)
    yaw = torch.arange(FRAMES) * (2 * math.pi / FRAMES)
    turn = rotations(yaw, torch.full_like(yaw, -math.radians(LIFT_DEG)))
    corners = torch.tensor(list(itertools.product(*zip((low - high) / 2, (high - low) / 2, strict=True))))
    aside, above, towards = (corners.float() @ turn).unbind(dim=2)  # (views, corners) each, as the camera sees them
    # So far away every corner of the scene's box is inside every picture, with a margin.
    across, upwards = (0.95 * size / 2 / camera.focal for size in (width, height))
    away = float((towards + torch.maximum(aside.abs() / across, above.abs() / upwards)).max())
    position = torch.as_tensor((low + high) / 2, dtype=torch.float32) + turn[:, :, 2] * away
    engine = RasterEngine([shown], shading="lambert")
    out = frames(camera, ("rgb", "depth"), FRAMES, engine.device)
    engine.render(camera, torch.zeros(FRAMES, dtype=torch.int64), position, turn, out)
    pictures = torch.where(out["depth"][..., None] > 0, out["rgb"], 255).to(torch.uint8).numpy()
    return [Image.fromarray(picture) for picture in pictures]


def below(scene: SceneData, height_m: float) -> SceneData:
    """The scene without the faces that lie above a height; all of it where nothing would be left."""
    kept = scene.vertices[scene.faces][:, :, 1].min(axis=1) < height_m
    if not kept.any():
        return scene
    parts = {name: getattr(scene, name)[kept] for name in ("faces", "uv", "texture", "colour", "double_sided")}
    return replace(scene, **parts, instance=scene.instance[kept], semantic=scene.semantic[kept])


def top_floor_m(walk: NavGrid) -> float:
    """Where the turntable cuts: above the highest floor of some size."""
    return max(storey.height_m for storey in storeys_of(walk)) + CEILING_M


def grey(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(views, height, width) in [0, 1] -> uint8 RGB; what is not seen is dark blue"""
    picture = np.repeat((values * 255).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    picture[~seen] = (20, 24, 60)
    return picture


def painted(ids: np.ndarray) -> np.ndarray:
    """(views, height, width) ids -> uint8 RGB: to each id its colour, black for 0"""
    mixed = (ids.astype(np.uint64) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    picture = np.stack([(mixed >> np.uint64(shift)) & np.uint64(0xFF) for shift in (8, 16, 24)], axis=-1)
    picture = (picture * 3 // 4 + 63).astype(np.uint8)
    picture[ids == 0] = 0
    return picture
