import json
from pathlib import Path

import numpy as np
import pytest

from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData

pytestmark = pytest.mark.reference

TRIANGLES = {"simple_room": 84, "house_a": 3678, "two_storey": 598}
NAMES = sorted(TRIANGLES)


def golden(reference: Path, name: str) -> SceneData:
    path = reference / "scenes" / "habitat_golden" / name / "scene.glb"
    return load_scene(path, cache=False, habitat_compatible=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_scenes_have_their_triangles_and_their_place(reference: Path, name: str) -> None:
    scene = golden(reference, name)
    assert len(scene.faces) == TRIANGLES[name]
    assert scene.warnings == ()
    with np.load(reference / "scenes" / "habitat_golden" / name / "golden.npz") as arrays:
        assert np.array_equal(np.stack(scene.bounds), arrays["scene_aabb"])


@pytest.mark.parametrize("name", NAMES)
def test_the_file_to_world_matrix_is_the_one_that_was_measured(reference: Path, name: str) -> None:
    folder = reference / "scenes" / "habitat_golden" / name
    measured = np.array(json.loads((folder / "golden.json").read_text())["file_to_world"], dtype=np.float64)
    as_filed = load_scene(folder / "scene.glb", cache=False, up=(0, 1, 0))
    world = as_filed.vertices.astype(np.float64) @ measured[:3, :3].T + measured[:3, 3]
    np.testing.assert_allclose(golden(reference, name).vertices, world, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_colours_are_those_that_habitat_drew(reference: Path, name: str) -> None:
    """The colour model at pixels where the texture is magnified, or is none, by brute force over all triangles."""
    scene = golden(reference, name)
    with np.load(reference / "scenes" / "habitat_golden" / name / "golden.npz") as arrays:
        pixels, positions, yaws, depths = (
            arrays[field] for field in ("rgb_128", "pose_camera_position", "pose_yaw", "depth_128")
        )
    generator = np.random.default_rng(0)
    corners = scene.vertices[scene.faces].astype(np.float64)
    compared, agreed = 0, 0
    while compared < 60:
        view, row, column = generator.integers(48), generator.integers(128), generator.integers(128)
        depth = float(depths[view, row, column])
        if not depth:
            continue
        sine, cosine = np.sin(yaws[view]), np.cos(yaws[view])
        x, y = 2 * (column + 0.5) / 128 - 1, 1 - 2 * (row + 0.5) / 128
        direction = np.array([-sine + cosine * x, y, -cosine - sine * x])
        face, weights = nearest_front(corners, positions[view].astype(np.float64), direction)
        shown = scene.colour[face, :3] * (weights @ scene.vertex_colour[scene.faces[face], :3]) / 255
        if scene.texture[face] >= 0:
            # Only where a texel covers a pixel or more, and its neighbours are alike: there any filter shows the same.
            image = scene.textures[scene.texture[face]].image[..., :3].astype(np.float64)
            height, width = image.shape[:2]
            uv = scene.uv[face].astype(np.float64)
            texels = np.abs(np.linalg.det(uv[1:] - uv[0])) * height * width
            normal = np.cross(corners[face, 1] - corners[face, 0], corners[face, 2] - corners[face, 0])
            facing = abs(normal @ direction) / np.linalg.norm(direction)
            u, v = (weights @ uv) % 1
            rows, columns = (int(v * height) + np.arange(-1, 2)) % height, (int(u * width) + np.arange(-1, 2)) % width
            patch = image[rows][:, columns].reshape(-1, 3)
            if texels * (depth / 64) ** 2 > facing or np.ptp(patch, axis=0).max() > 12:
                continue
            shown = shown * patch.mean(axis=0) / 255
        compared += 1
        agreed += int(np.abs(shown * 255 - pixels[view, row, column]).max() <= 8)
    assert agreed >= 0.98 * compared, f"{agreed} of {compared}"


def nearest_front(corners: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> tuple[int, np.ndarray]:
    """The face that a ray meets first from its front, and the weights of its corners."""
    a, b, c = corners[:, 0] - origin, corners[:, 1] - origin, corners[:, 2] - origin
    weights = np.stack([np.cross(b, c) @ direction, np.cross(c, a) @ direction, np.cross(a, b) @ direction], axis=1)
    inside = (weights < 0).all(axis=1)
    total = weights.sum(axis=1)
    distance = np.where(inside, np.einsum("ij,ij->i", a, np.cross(b - a, c - a)) / np.where(inside, total, -1), np.inf)
    face = int(np.argmin(np.where(distance > 0, distance, np.inf)))
    return face, weights[face] / total[face]


def test_a_mesh_without_a_material_is_black_for_habitat_and_white_by_default(reference: Path) -> None:
    scene = golden(reference, "simple_room")
    black = {scene.objects[i - 1].name for i in np.unique(scene.instance[scene.colour[:, 0] == 0])}
    assert black == {"Cube.002"}
    path = reference / "scenes" / "habitat_golden" / "simple_room" / "scene.glb"
    default = load_scene(path, cache=False)
    assert set(default.colour[:, 0].round(3).tolist()) == {np.float32(0.8).round(3).item(), 1.0}
    assert default.double_sided.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_scene_comes_back_from_the_writer(reference: Path, name: str, tmp_path: Path) -> None:
    scene = golden(reference, name)
    save_glb(scene, tmp_path / "scene.glb", stage_config=True)
    again = load_scene(tmp_path / "scene.glb", cache=False, habitat_compatible=True)
    for field in (
        "vertices",
        "faces",
        "uv",
        "texture",
        "colour",
        "vertex_colour",
        "double_sided",
        "instance",
        "semantic",
    ):
        assert np.array_equal(getattr(scene, field), getattr(again, field)), field
    assert all(np.array_equal(a.image, b.image) for a, b in zip(scene.textures, again.textures, strict=True))
    assert (scene.name, scene.objects) == (again.name, again.objects)


def test_every_model_of_the_kenney_folder_loads(reference: Path) -> None:
    models = sorted((reference / "scenes" / "kenney_furniture").glob("*.glb"))
    assert len(models) == 366
    for model in models:
        scene = load_scene(model, cache=False)
        assert len(scene.faces) >= 2, model
        assert scene.objects, model
        assert 0.04 < (scene.bounds[1] - scene.bounds[0]).max() < 20, model
