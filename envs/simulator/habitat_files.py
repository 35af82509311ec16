"""habitat's JSON files: a stage, an object, a scene that places objects on a stage, a dataset that names them all."""

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vlkit.envs.simulator.assemble import Vector, merged, moved, rotation, with_categories
from vlkit.envs.simulator.cache import Sources
from vlkit.envs.simulator.json_fields import Fields, json_fields
from vlkit.envs.simulator.mesh_files import Y_UP, LabelFiles, Reading, label_files, read_mesh
from vlkit.envs.simulator.scene import SceneData, SceneObject
from vlkit.errors import UserError
from vlkit.plugins import nearest

STAGE, OBJECT, SCENE, DATASET = (
    ".stage_config.json",
    ".object_config.json",
    ".scene_instance.json",
    ".scene_dataset_config.json",
)
LISTED_AT_MOST = 10
FILES = ("render_asset", "semantic_asset", "semantic_descriptor_filename", "house_filename")
OWN_NAME = "%%CONFIG_NAME_AS_ASSET_FILENAME%%"  # in a dataset's defaults: each file's own name without its endings
# Shapes that habitat makes itself, not from a file.
PRIMITIVES = ("capsule3D", "cone", "cube", "cylinder", "icosphere", "uvSphere")


Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Template:
    """A stage or object that can be placed: its file, if any, and what a dataset says beside it."""

    path: Path | None
    before: Mapping[str, Any]  # attributes that the file's own replace
    after: Mapping[str, Any]  # attributes that replace the file's own


@dataclass(frozen=True)
class Dataset:
    """What may be placed, by name."""

    folder: Path
    stages: Mapping[str, Template]
    objects: Mapping[str, Template]
    scenes: Mapping[str, Path]
    categories: Mapping[int, str]


def read_stage(path: Path, sources: Sources, reading: Reading) -> SceneData:
    """The stage that a `*.stage_config.json` describes, with its axes, scale and labels.

    `scale` counts once; habitat-sim 0.3.3 draws it twice and walks without it, which no one mesh can show.
    """
    return _stage(Template(path, {}, {}), sources, reading)


def read_object(path: Path, sources: Sources, reading: Reading) -> SceneData:
    """The object that a `*.object_config.json` describes, with its own origin."""
    scene, _ = _object(Template(path, {}, {}), sources, reading)
    return scene


def read_scene_instance(path: Path, sources: Sources, reading: Reading) -> SceneData:
    """The stage of a `*.scene_instance.json` with its objects in their places.

    Names are looked up in the dataset's configuration that lies in a folder above, or else among the files there.
    Articulated objects and shapes without a file are left out, and a warning counts them.
    """
    return _scene(path, _dataset_above(path, sources), sources, reading)


def read_dataset(path: Path, name: str, sources: Sources, reading: Reading) -> SceneData:
    """One scene of a `*.scene_dataset_config.json`: the scene instance or stage of that name, or the only one."""
    dataset = _dataset(path, sources)
    choices = sorted(dataset.scenes or dataset.stages)
    if not name and len(choices) != 1:
        shown = ", ".join(_short(choice) for choice in choices[:LISTED_AT_MOST])
        more = f" and {len(choices) - LISTED_AT_MOST} more" if len(choices) > LISTED_AT_MOST else ""
        raise UserError(f"{path} has {len(choices)} scenes; name one with scene=...: {shown}{more}")
    if not choices:
        raise UserError(f"{path} has no scenes: its paths name no files in {path.parent}")
    name = name or choices[0]
    if _matches(name, dataset.scenes):
        return _scene(_found(name, dataset.scenes, path, "scene"), dataset, sources, reading)
    if not _matches(name, dataset.stages):
        raise UserError(f"{path} has no scene {name!r}.{nearest(name, map(_short, choices))}")
    return _stage(_found(name, dataset.stages, path, "stage"), sources, reading)


def beside(path: Path, sources: Sources) -> Path | None:
    """The stage's configuration that belongs to a mesh: NAME.stage_config.json, as habitat-sim looks for it."""
    config = path.with_name(path.stem + STAGE)
    return config if sources.exists(config) else None


def _scene(path: Path, dataset: Dataset, sources: Sources, reading: Reading) -> SceneData:
    layout = json_fields(sources.read(path), path)
    placed_from_origin = layout.text("translation_origin", "unknown").lower() == "asset_local"
    stage = layout.fields("stage_instance")
    template = _found(stage.text("template_name"), dataset.stages, path, "stage")
    scenes = [moved(_stage(template, sources, reading), _place(stage, np.zeros(3)))]
    loaded: dict[str, tuple[SceneData, np.ndarray, str] | None] = {}
    seen: dict[str, int] = {}
    left_out = 0
    for instance in layout.listed("object_instances"):
        name = instance.text("template_name")
        if name not in loaded:
            loaded[name] = _object_asset(name, dataset, path, sources, reading)
        asset = loaded[name]
        if asset is None:
            left_out += 1
            continue
        scene, centre, category = asset
        origin = instance.text("translation_origin", "").lower()
        at_origin = origin == "asset_local" if origin in ("asset_local", "com") else placed_from_origin
        scene = moved(scene, _place(instance, np.zeros(3) if at_origin else centre))
        seen[name] = seen.get(name, 0) + 1
        objects = (SceneObject(1, f"{_short(name)}_{seen[name]:03d}", category),)
        scenes.append(with_categories(replace(scene, instance=np.ones_like(scene.instance), objects=objects)))
    result = merged(path.name.removesuffix(SCENE), scenes)
    warnings = list(result.warnings)
    if left_out:
        warnings.append(f"{left_out} objects are shapes without a mesh file and were left out")
    articulated = len(layout.listed("articulated_object_instances"))
    if articulated:
        warnings.append(f"{articulated} articulated objects (URDF) were left out")
    return replace(result, warnings=tuple(warnings))


def _object_asset(
    name: str, dataset: Dataset, path: Path, sources: Sources, reading: Reading
) -> tuple[SceneData, np.ndarray, str] | None:
    if not _matches(name, dataset.objects) and name.startswith(PRIMITIVES):
        return None
    template = _found(name, dataset.objects, path, "object")
    attributes = _attributes(template, sources)
    if attributes.text("render_asset").startswith(PRIMITIVES):
        return None
    scene, centre = _object(template, sources, reading)
    number = attributes.integer("semantic_id", 0, low=-1)
    return scene, centre, dataset.categories.get(number, f"semantic {number}" if number > 0 else "")


def _stage(template: Template, sources: Sources, reading: Reading) -> SceneData:
    attributes = _attributes(template, sources)
    path = _asset(attributes, "render_asset")
    mesh = _asset(attributes, "semantic_asset") if "semantic_asset" in attributes else None
    table = next(
        (_asset(attributes, name) for name in ("semantic_descriptor_filename", "house_filename") if name in attributes),
        None,
    )
    files = label_files(path, sources)
    if mesh is not None and sources.exists(mesh):
        files = LabelFiles(mesh, table if table is not None and sources.exists(table) else files.table)
    frame = _frame(attributes)
    if (
        frame is None
        and reading.habitat_compatible
        and (template.path is None or template.path != path or template.before)
    ):
        frame = Y_UP  # only a GLB that nobody says anything of is taken for one of Matterport3D's
    scene = read_mesh(path, sources, reading, frame, files, _frame(attributes, "semantic_"))
    origin = attributes.numbers("origin", 3, (0.0, 0.0, 0.0))
    if any(origin):
        scene = replace(
            scene, warnings=(*scene.warnings, f"the stage's origin {origin} is not used, as habitat-sim does not")
        )
    scene = moved(scene, _scale(attributes))
    return replace(scene, name=(template.path or path).name.partition(".")[0])


def _object(template: Template, sources: Sources, reading: Reading) -> tuple[SceneData, np.ndarray]:
    """The object about its own origin, and where habitat takes its centre to be: its COM, or its box's middle."""
    attributes = _attributes(template, sources)
    path = _asset(attributes, "render_asset")
    # What the caller says of axes is said of the stage; an object's default is y up, whatever the stage's is.
    own = replace(reading, up=None, front=None)
    frame = _frame(attributes) or Y_UP
    scale = _scale(attributes)
    scene = moved(read_mesh(path, sources, own, frame, LabelFiles()), scale)
    if not len(scene.faces) or not np.isfinite(scene.vertices).all():
        raise UserError(f"{path} holds no triangles, or vertices that are not finite; repair the mesh")
    if "COM" in attributes:
        return scene, scale[:3, :3] @ np.array(attributes.numbers("COM", 3))
    low, high = scene.bounds
    return scene, (low.astype(np.float64) + high) / 2


def _place(instance: Fields, centre: np.ndarray) -> np.ndarray:
    """The matrix (4, 4) from an asset into the scene; `centre` (3,) of the asset comes to the instance's translation."""
    uniform = instance.number("uniform_scale", 1.0)
    scale = np.array(instance.numbers("non_uniform_scale", 3, (1.0, 1.0, 1.0))) * uniform
    matrix = np.eye(4)
    if "rotation" in instance:  # (w, x, y, z)
        matrix[:3, :3] = rotation(instance.numbers("rotation", 4), instance.where)
    matrix[:3, :3] = matrix[:3, :3] * scale
    matrix[:3, 3] = np.array(instance.numbers("translation", 3, (0.0, 0.0, 0.0))) - matrix[:3, :3] @ centre
    return matrix


def _scale(attributes: Fields) -> np.ndarray:
    scale = attributes.numbers("scale", 3, (1.0, 1.0, 1.0))
    units = attributes.number("units_to_meters", 1.0)
    return np.diag([*(np.array(scale) * units), 1.0])


def _frame(attributes: Fields, of: str = "") -> tuple[Vector, Vector] | None:
    if f"{of}up" not in attributes and f"{of}front" not in attributes:
        return None
    up = attributes.numbers(f"{of}up", 3, (0.0, 1.0, 0.0))
    front = attributes.numbers(f"{of}front", 3, (0.0, 0.0, -1.0))
    return (up[0], up[1], up[2]), (front[0], front[1], front[2])


def _asset(attributes: Fields, name: str) -> Path:
    return Path(attributes.text(name))


def _attributes(template: Template, sources: Sources) -> Fields:
    """What is known of a template, the names of its files made paths."""
    own: Mapping[str, Any] = {}
    where = "the dataset's configuration"
    if template.path is not None:
        where = str(template.path)
        if template.path.suffix == ".json":
            own = _with_paths(json_fields(sources.read(template.path), template.path), template.path.parent)
        else:
            own = {"render_asset": str(template.path)}
    values = {**template.before, **own, **template.after}
    beside = template.path or Path(str(values.get("render_asset", "")))
    for name in FILES:
        if OWN_NAME in str(values.get(name)):
            values[name] = str(beside.parent / str(values[name]).replace(OWN_NAME, beside.name.partition(".")[0]))
    fields = Fields(values, where)
    if not fields.text("render_asset"):
        fields.wrong("render_asset", "the name of a mesh file")
    return fields


def _with_paths(attributes: Fields, folder: Path) -> dict[str, Any]:
    values = dict(attributes.values)
    for name in FILES:
        named = values.get(name)
        if isinstance(named, str) and named and not named.startswith(PRIMITIVES) and OWN_NAME not in named:
            values[name] = os.path.normpath(folder / named)
    return values


def _dataset(path: Path, sources: Sources) -> Dataset:
    config = json_fields(sources.read(path), path)
    scenes = {
        _handle(found, path.parent): found for found in _listed(config.fields("scene_instances"), SCENE, path, sources)
    }
    return Dataset(
        path.parent,
        _templates(config.fields("stages"), STAGE, path, sources),
        _templates(config.fields("objects"), OBJECT, path, sources),
        scenes,
        _categories(config, path, sources),
    )


def _templates(section: Fields, ending: str, path: Path, sources: Sources) -> dict[str, Template]:
    defaults = _with_paths(section.fields("default_attributes"), path.parent)
    templates = {
        _handle(found, path.parent): Template(found, defaults, {}) for found in _listed(section, ending, path, sources)
    }
    for config in section.listed("configs"):
        attributes = _with_paths(config.fields("attributes"), path.parent)
        if "original_file" in config:
            original = path.parent / config.text("original_file")
            templates[config.text("template_handle", _handle(original, path.parent))] = Template(
                original, defaults, attributes
            )
        else:
            templates[config.text("template_handle")] = Template(None, defaults, attributes)
    return templates


def _listed(section: Fields, ending: str, path: Path, sources: Sources) -> list[Path]:
    found: dict[Path, None] = {}
    paths = section.fields("paths")
    for suffix in paths:
        wanted = ending if suffix == ".json" else suffix
        for pattern in paths.texts(suffix):
            # A pattern may name files, or folders that hold them.
            plain = posixpath.normpath(pattern)
            for each in (plain, f"{plain}/*{wanted}") if plain != "." else (f"*{wanted}",):
                found |= dict.fromkeys(file for file in sources.glob(path.parent, each) if file.name.endswith(wanted))
    return list(found)


def _categories(config: Fields, path: Path, sources: Sources) -> dict[int, str]:
    section = config.values.get("semantic_scene_descriptor_instances", {})
    if not isinstance(section, dict):
        return {}
    fields = Fields(section, f"{path}, semantic_scene_descriptor_instances")
    files = _listed(fields, ".json", path, sources) if "paths" in fields else []
    for name, value in section.items():
        if name != "paths" and isinstance(value, str) and sources.exists(path.parent / value):
            files.append(path.parent / value)
    categories: dict[int, str] = {}
    for file in files:
        for each in json_fields(sources.read(file), file).listed("classes"):
            categories[each.integer("id", low=-1)] = each.text("name")
    return categories


def _dataset_above(path: Path, sources: Sources) -> Dataset:
    folder = Path(os.path.abspath(path)).parent
    for above in (folder, *list(folder.parents)[:3]):
        configs = sources.glob(above, f"*{DATASET}")
        datasets = [_dataset(config, sources) for config in configs]
        own = [dataset for dataset in datasets if any(_same(path, scene) for scene in dataset.scenes.values())]
        if own or datasets:
            return (own or datasets)[0]
    # No dataset: what lies in the folder of the scenes' folder can be placed.
    top = folder.parent
    stages = {_handle(found, top): Template(found, {}, {}) for found in sources.glob(top, f"**/*{STAGE}")}
    objects = {_handle(found, top): Template(found, {}, {}) for found in sources.glob(top, f"**/*{OBJECT}")}
    return Dataset(top, stages, objects, {}, {})


def _same(path: Path, other: Path) -> bool:
    return os.path.abspath(path) == os.path.abspath(other)


def _handle(path: Path, folder: Path) -> str:
    name = os.path.relpath(path, folder)
    for ending in (STAGE, OBJECT, SCENE):
        name = name.removesuffix(ending)
    return Path(name).as_posix()


def _short(handle: str) -> str:
    return handle.rpartition("/")[2]


def _matches(name: str, choices: Mapping[str, Any]) -> list[str]:
    """The handles that a name may mean: itself, else the end of a path, else a part of one, as habitat-sim looks."""
    for ending in (STAGE, OBJECT, SCENE):
        name = name.removesuffix(ending)
    if name in choices:
        return [name]
    ends = [each for each in choices if each.endswith(name) and f"/{each}".endswith(f"/{name}")]
    return ends or [each for each in choices if name in each]


def _found(name: str, choices: Mapping[str, Choice], path: Path, what: str) -> Choice:
    found = _matches(name, choices)
    if len(found) == 1:
        return choices[found[0]]
    if not found:
        raise UserError(f"{path} names the {what} {name!r}, which is not there.{nearest(name, map(_short, choices))}")
    raise UserError(f"{path} names the {what} {name!r}, which may be any of {', '.join(found[:LISTED_AT_MOST])}")
