"""One mesh file, whatever its format, into the scene's axes, with the labels that lie beside it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vlkit.envs.simulator.assemble import Vector, axes, chosen, moved
from vlkit.envs.simulator.cache import Sources
from vlkit.envs.simulator.glb import read_gltf
from vlkit.envs.simulator.labels import (
    by_colour,
    has_object_zero,
    labelled,
    read_hm3d_text,
    read_house,
    read_replica_json,
)
from vlkit.envs.simulator.obj import read_obj
from vlkit.envs.simulator.ply import read_ply
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

MESHES = (".glb", ".gltf", ".ply", ".obj")
Y_UP: tuple[Vector, Vector] = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
Z_UP: tuple[Vector, Vector] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
EVERY_TEXEL = 2**40  # a halved semantic texture would show colours that stand for nothing


@dataclass(frozen=True)
class Reading:
    """How files are to be read: the arguments of `load_scene` that hold for every mesh of a scene."""

    up: Vector | None = None
    front: Vector | None = None
    habitat_compatible: bool = False
    semantics: bool = True
    missing_textures: bool = False
    texel_budget: int = EVERY_TEXEL


@dataclass(frozen=True)
class LabelFiles:
    """A mesh that carries labels and the table that explains them."""

    mesh: Path | None = None
    table: Path | None = None


def read_mesh(
    path: Path,
    sources: Sources,
    reading: Reading,
    frame: tuple[Vector, Vector] | None,
    files: LabelFiles | None = None,
    label_frame: tuple[Vector, Vector] | None = None,
) -> SceneData:
    """The mesh with y up; `frame` are the up and front of the file's axes where a configuration names them.

    `label_frame` is that of the labelled mesh, where it has one of its own. Labels come from `files`, or from what lies beside the mesh under the names that Matterport3D, HM3D and Replica use.
    """
    files = files or label_files(path, sources)
    turn = axes(*_frame(path, files, reading, frame))
    if not reading.semantics:
        files = LabelFiles()
    is_labelled = files.mesh is not None and files.mesh == path
    if is_labelled:
        return _labelled_mesh(path, files.table, sources, reading, turn)
    scene = moved(_file(path, sources, reading), turn)
    if files.mesh is None:
        return scene
    label_turn = axes(*label_frame) if label_frame else turn
    labels = _labelled_mesh(files.mesh, files.table, sources, replace(reading, missing_textures=True), label_turn)
    if not len(labels.faces) or not len(scene.faces):
        return scene
    _finite(labels, files.mesh)
    _finite(scene, path)
    from vlkit.envs.simulator.nearest_labels import with_nearest_labels  # warp takes a second to import

    return with_nearest_labels(chosen(scene, np.ones(len(scene.faces), bool)), labels)


def label_files(path: Path, sources: Sources) -> LabelFiles:
    """The labelled mesh and its table that belong to a mesh by their names; the mesh itself where it is the labelled one."""
    stem = path.name.partition(".")[0]
    plain = stem.removesuffix("_semantic")
    beside = path.parent
    for mesh, table in (
        (beside / f"{plain}_semantic.ply", beside / f"{plain}.house"),
        (beside / f"{stem}.semantic.glb", beside / f"{stem}.semantic.txt"),
        (beside / "mesh_semantic.ply", beside / "info_semantic.json"),
        (beside / "habitat" / "mesh_semantic.ply", beside / "habitat" / "info_semantic.json"),
    ):
        if sources.exists(table):
            return LabelFiles(mesh if mesh == path or sources.exists(mesh) else None, table)
    return LabelFiles()


def _frame(
    path: Path, files: LabelFiles, reading: Reading, frame: tuple[Vector, Vector] | None
) -> tuple[Vector, Vector]:
    if reading.up is not None:
        along_z = reading.up[0] == reading.up[1] == 0
        return reading.up, reading.front or (Z_UP if along_z else Y_UP)[1]
    if reading.front is not None:
        raise UserError("front is given without up; name both, such as up=(0, 0, 1), front=(0, 1, 0)")
    if frame is not None:
        return frame
    if files.table is not None:  # Matterport3D, HM3D and Replica are scans with z up
        return Z_UP
    # habitat-sim takes a GLB that nobody describes for one of Matterport3D's.
    return Z_UP if reading.habitat_compatible and path.name.endswith((".glb", "mesh.ply")) else Y_UP


def _labelled_mesh(path: Path, table: Path | None, sources: Sources, reading: Reading, turn: np.ndarray) -> SceneData:
    if table is None:
        return moved(_file(path, sources, reading), turn)
    data = sources.read(table)
    if table.name.endswith(".txt"):
        scene = moved(_file(path, sources, replace(reading, texel_budget=EVERY_TEXEL)), turn)
        labels = read_hm3d_text(data, table)
        return labelled(by_colour(scene, labels), labels)
    if table.suffix == ".house":
        labels, ids_from_zero = read_house(data, table, turn), True
    else:
        labels, ids_from_zero = read_replica_json(data, table), has_object_zero(data, table)
    scene = _file(path, sources, reading, ids_from_zero)
    return labelled(moved(scene, turn), labels)


def _file(path: Path, sources: Sources, reading: Reading, ids_from_zero: bool = False) -> SceneData:
    missing, budget = reading.missing_textures, reading.texel_budget
    suffix = path.suffix.lower()
    if suffix == ".ply":
        return read_ply(path, sources, missing_textures=missing, texel_budget=budget, ids_from_zero=ids_from_zero)
    if suffix == ".obj":
        return read_obj(path, sources, missing_textures=missing, texel_budget=budget)
    if suffix in (".glb", ".gltf"):
        return read_gltf(
            path,
            sources,
            black_without_material=reading.habitat_compatible,
            missing_textures=missing,
            texel_budget=budget,
        )
    raise UserError(f"{path} ends in {suffix or 'nothing'}; a mesh is one of: {', '.join(MESHES)}")


def _finite(scene: SceneData, path: Path) -> None:
    if not np.isfinite(scene.vertices[scene.faces]).all():
        raise UserError(f"{path} has vertices that are not finite; repair the mesh, for example in Blender or MeshLab")
