"""Scenes from files: GLB, glTF, PLY, OBJ, habitat's JSON, with Matterport3D's, HM3D's and Replica's labels."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from vlkit.envs.simulator.assemble import Vector, checked, moved
from vlkit.envs.simulator.cache import Sources, cached, scene_cache
from vlkit.envs.simulator.habitat_files import (
    DATASET,
    OBJECT,
    SCENE,
    STAGE,
    beside,
    read_dataset,
    read_object,
    read_scene_instance,
    read_stage,
)
from vlkit.envs.simulator.mesh_files import MESHES, Reading, read_mesh
from vlkit.envs.simulator.pictures import TEXEL_BUDGET, within_budget
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError


def load_scene(
    path: str | Path,
    *,
    scene: str = "",
    up: Vector | None = None,
    front: Vector | None = None,
    scale: float = 1.0,
    habitat_compatible: bool = False,
    semantics: bool = True,
    missing_textures: bool = False,
    texel_budget: int = TEXEL_BUDGET,
    cache: str | Path | Literal[False] | None = None,
) -> SceneData:
    """The scene of a mesh (.glb, .gltf, .ply, .obj) or of habitat's JSON (stage, object, scene instance, dataset).

    `scene` names one of a dataset's. `up` and `front` are the file's axes; without them, those of
    NAME.stage_config.json beside the mesh count, then z up for scans with Matterport3D's, HM3D's or Replica's label
    files beside them, then y up and -z to the front. `scale` multiplies all lengths, 0.01 for a file in centimetres.

    `habitat_compatible` draws as habitat-sim does where that is an artefact: a mesh without a material black, no back
    faces though a material asks for them, a bare GLB with z up. `semantics` puts the labels that lie beside a scan on
    its faces. `missing_textures` draws faces whose picture is not there in their colour alone, with a warning.
    `texel_budget` bounds the texels of all textures together; the largest are halved until they fit, and so is one with
    a side that is longer than can be drawn.

    `cache` is the folder in which loaded scenes are kept, the user's own by default; False keeps none. Triangles
    without an area are left out; this, and all else that was noticed, is told in the scene's `warnings`.

    Raises UserError, naming the file, the value and what to do, for anything that cannot be read.
    """
    path = Path(path)
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(f"scale is {scale}; expected a number above 0, such as 0.01 for a file in centimetres")
    if texel_budget < 1:
        raise UserError(f"texel_budget is {texel_budget}; expected 1 or more, such as {TEXEL_BUDGET}")
    reading = Reading(
        None if up is None else _vector(up, "up"),
        None if front is None else _vector(front, "front"),
        habitat_compatible,
        semantics,
        missing_textures,
        texel_budget,
    )

    def load(sources: Sources) -> SceneData:
        # What overflows is not finite afterwards, and told with its place.
        with np.errstate(all="ignore"):
            return _finished(_read(path, scene, sources, reading), path, reading, scale)

    if cache is False:
        return load(Sources(path))
    arguments = {
        "scene": scene,
        "up": reading.up,
        "front": reading.front,
        "scale": scale,
        "habitat_compatible": habitat_compatible,
        "semantics": semantics,
        "missing_textures": missing_textures,
        "texel_budget": texel_budget,
    }
    return cached(Sources(path), arguments, scene_cache() if cache is None else Path(cache), load)


def _read(path: Path, scene: str, sources: Sources, reading: Reading) -> SceneData:
    name = path.name
    if name.endswith(DATASET):
        return read_dataset(path, scene, sources, reading)
    if scene:
        raise UserError(f"scene={scene!r} names one of a dataset's scenes, and {path} is one scene; leave it out")
    if name.endswith(SCENE):
        return read_scene_instance(path, sources, reading)
    if name.endswith(STAGE):
        return read_stage(path, sources, reading)
    if name.endswith(OBJECT):
        return read_object(path, sources, reading)
    if path.suffix.lower() not in MESHES:
        raise UserError(
            f"{path} ends in {path.suffix or 'nothing'}; a scene is a mesh ({', '.join(MESHES)}) or one of habitat's "
            f"files (*{STAGE}, *{OBJECT}, *{SCENE}, *{DATASET})"
        )
    sources.read(path)  # that it is not there is said before anything else is looked for
    config = beside(path, sources) if reading.up is None else None
    return read_stage(config, sources, reading) if config else read_mesh(path, sources, reading, None)


def _finished(scene: SceneData, path: Path, reading: Reading, scale: float) -> SceneData:
    scene = checked(moved(scene, np.diag([scale, scale, scale, 1.0])), path)
    textures, noticed = within_budget(scene.textures, reading.texel_budget)  # of all meshes of a scene together
    if reading.habitat_compatible:
        scene = replace(scene, double_sided=np.zeros_like(scene.double_sided))
    return replace(scene, textures=textures, warnings=tuple(dict.fromkeys((*scene.warnings, *noticed))))


def _vector(values: Vector, name: str) -> Vector:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise UserError(f"{name} is {values}; expected three numbers, such as (0, 0, 1)")
    return numbers[0], numbers[1], numbers[2]
