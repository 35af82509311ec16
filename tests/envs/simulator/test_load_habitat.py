import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlkit.envs.simulator.assemble import Part, joined
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.scene import SceneData, Texture
from vlkit.errors import UserError

# A triangle from (0, 0, 0) to (2, 4, 0), whose box has its middle at (1, 2, 0).
TRIANGLE = np.array([[0, 0, 0], [2, 0, 0], [0, 4, 0]], dtype=np.float32)


def mesh(path: Path, points: np.ndarray = TRIANGLE, shade: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = Texture(np.full((2, 2, 4), shade, np.uint8))
    part = Part(points, np.array([[0, 1, 2]]), uv=np.zeros((1, 3, 2)), texture=0)
    save_glb(joined(path.stem, [part], textures=(texture,)), path)


def write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def dataset(folder: Path, *instances: dict[str, Any], **scene: Any) -> Path:
    """A dataset of one stage, two objects and the scene `flat`, whose file is returned."""
    mesh(folder / "stages" / "hall.glb", shade=1)
    mesh(folder / "objects" / "chair.glb", shade=2)
    write(folder / "stages" / "hall.stage_config.json", {"render_asset": "hall.glb"})
    write(folder / "objects" / "chair.object_config.json", {"render_asset": "chair.glb", "semantic_id": 3})
    write(folder / "objects" / "ball.object_config.json", {"render_asset": "icosphereSolid"})
    write(folder / "words.json", {"classes": [{"id": 3, "name": "chair"}]})
    write(
        folder / "all.scene_dataset_config.json",
        {
            "stages": {"paths": {".json": ["stages/*"]}},
            "objects": {"paths": {".json": ["objects"]}},
            "scene_instances": {"paths": {".json": ["scenes/*.json"]}},
            "semantic_scene_descriptor_instances": {"paths": {".json": ["words.json"]}},
        },
    )
    layout = {"stage_instance": {"template_name": "stages/hall"}, "object_instances": list(instances), **scene}
    return write(folder / "scenes" / "flat.scene_instance.json", layout)


def loaded(path: Path, **arguments: Any) -> SceneData:
    return load_scene(path, cache=False, **arguments)


def test_a_stage_turns_its_mesh_and_scales_it_once(tmp_path: Path) -> None:
    mesh(tmp_path / "hall.glb")
    config = {"render_asset": "hall.glb", "up": [0, 0, 1], "front": [0, 1, 0], "scale": [2, 2, 2]}
    path = write(tmp_path / "hall.stage_config.json", config)
    scene = loaded(path)
    assert scene.name == "hall"
    expected = 2 * np.stack([TRIANGLE[:, 0], TRIANGLE[:, 2], -TRIANGLE[:, 1]], axis=1)
    assert scene.vertices[scene.faces[0]].tolist() == expected.tolist()
    assert np.array_equal(loaded(tmp_path / "hall.glb").vertices, scene.vertices)


def test_an_object_is_loaded_about_its_own_origin(tmp_path: Path) -> None:
    mesh(tmp_path / "chair.glb")
    path = write(tmp_path / "chair.object_config.json", {"render_asset": "chair.glb", "scale": [1, 0.5, 1]})
    scene = loaded(path)
    assert scene.vertices[scene.faces[0]].tolist() == (TRIANGLE * (1, 0.5, 1)).tolist()


def test_objects_are_placed_by_the_middle_of_their_box(tmp_path: Path) -> None:
    turned = {"translation": [5, 2, 0], "rotation": [0.5**0.5, 0, 0.5**0.5, 0]}  # a quarter turn to the left
    path = dataset(tmp_path, {"template_name": "chair", **turned})
    scene = loaded(path)
    assert len(scene.faces) == 2
    assert scene.vertices[scene.faces[0]].tolist() == TRIANGLE.tolist()
    centred = TRIANGLE - (1, 2, 0)
    expected = np.stack([5 + centred[:, 2], 2 + centred[:, 1], -centred[:, 0]], axis=1)
    np.testing.assert_allclose(scene.vertices[scene.faces[1]], expected, atol=1e-6)


@pytest.mark.parametrize("where", ["scene", "instance"])
def test_objects_are_placed_by_their_origin_where_that_is_said(where: str, tmp_path: Path) -> None:
    origin = {"translation_origin": "asset_local"}
    instance = {"template_name": "objects/chair", "translation": [5, 0, 1], "non_uniform_scale": [2, 1, 1]}
    path = dataset(
        tmp_path,
        instance | (origin if where == "instance" else {}),
        **(origin if where == "scene" else {"translation_origin": "COM"}),
    )
    scene = loaded(path)
    assert scene.vertices[scene.faces[1]].tolist() == (TRIANGLE * (2, 1, 1) + (5, 0, 1)).tolist()


def test_a_centre_of_mass_that_is_named_counts(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"template_name": "chair", "translation": [5, 0, 0], "uniform_scale": 2})
    write(
        tmp_path / "objects" / "chair.object_config.json",
        {"render_asset": "chair.glb", "COM": [0, 1, 0], "scale": [1, 1, 3]},
    )
    scene = loaded(path)
    assert scene.vertices[scene.faces[1]].tolist() == ((TRIANGLE - (0, 1, 0)) * 2 + (5, 0, 0)).tolist()


def test_each_instance_is_an_object_with_its_category_and_shares_its_textures(tmp_path: Path) -> None:
    chair = {"template_name": "chair"}
    path = dataset(tmp_path, chair, {"template_name": "chair", "translation": [5, 0, 0]})
    scene = loaded(path)
    assert scene.name == "flat"
    assert [each.name for each in scene.objects] == ["chair_001", "chair_002"]
    assert scene.instance.tolist() == [0, *(each.id for each in scene.objects)]
    assert [scene.categories[number] for number in scene.semantic] == ["unlabelled", "chair", "chair"]
    assert [int(texture.image[0, 0, 0]) for texture in scene.textures] == [1, 2]
    assert scene.texture.tolist() == [0, 1, 1]


def test_what_has_no_mesh_is_counted(tmp_path: Path) -> None:
    path = dataset(
        tmp_path,
        {"template_name": "ball"},
        {"template_name": "cubeSolid"},
        articulated_object_instances=[{"template_name": "door"}],
    )
    scene = loaded(path)
    assert len(scene.faces) == 1
    assert "2 objects are shapes" in scene.warnings[0]
    assert "1 articulated objects" in scene.warnings[1]


def test_a_dataset_gives_its_only_scene_or_the_one_that_is_named(tmp_path: Path) -> None:
    flat = dataset(tmp_path, {"template_name": "chair"})
    config = tmp_path / "all.scene_dataset_config.json"
    assert loaded(config).name == "flat"
    write(tmp_path / "scenes" / "house.scene_instance.json", json.loads(flat.read_text()) | {"object_instances": []})
    with pytest.raises(UserError, match=r"has 2 scenes; name one with scene=\.\.\.: flat, house"):
        loaded(config)
    assert len(loaded(config, scene="house").faces) == 1
    assert len(loaded(config, scene="scenes/flat").faces) == 2
    assert loaded(config, scene="stages/hall").name == "hall"
    with pytest.raises(UserError, match="Did you mean 'house'"):
        loaded(config, scene="hoose")


def test_a_dataset_adds_to_its_files_and_replaces_what_they_say(tmp_path: Path) -> None:
    dataset(tmp_path)
    write(
        tmp_path / "all.scene_dataset_config.json",
        {
            "stages": {
                "default_attributes": {"scale": [3, 3, 3], "up": [0, 0, 1], "front": [0, 1, 0]},
                "paths": {".json": ["stages/*.stage_config.json"], ".glb": ["stages/*.glb"]},
                "configs": [
                    {
                        "original_file": "stages/hall.stage_config.json",
                        "template_handle": "small_hall",
                        "attributes": {"scale": [0.5, 0.5, 0.5]},
                    },
                    {"template_handle": "new_hall", "attributes": {"render_asset": "stages/hall.glb"}},
                ],
            }
        },
    )
    config = tmp_path / "all.scene_dataset_config.json"
    for name, size in (("small_hall", 0.5), ("new_hall", 3), ("stages/hall.glb", 3), ("stages/hall", 3)):
        assert loaded(config, scene=name).bounds[0].tolist() == [0, 0, -4 * size], name


def test_without_a_dataset_the_files_above_are_looked_through(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"template_name": "chair"})
    (tmp_path / "all.scene_dataset_config.json").unlink()
    assert len(loaded(path).faces) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stage_instance": {}}, "'template_name' is missing"),
        ({"stage_instance": {"template_name": "hal_"}}, "Did you mean 'hall'"),
        ({"object_instances": [{"template_name": "stool"}]}, "the object 'stool', which is not there"),
        ({"object_instances": [{"template_name": "chair", "rotation": [1, 0, 0]}]}, "4 numbers"),
        ({"object_instances": [{"template_name": "chair", "rotation": [0, 0, 0, 0]}]}, "no quaternion"),
        ({"object_instances": [{"template_name": "chair", "translation": "here"}]}, "3 numbers"),
        ({"object_instances": "chair"}, "a list"),
    ],
)
def test_what_is_wrong_in_a_scene_is_told(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = dataset(tmp_path, **change)
    with pytest.raises(UserError, match=r"flat\.scene_instance\.json") as error:
        loaded(path)
    assert told in str(error.value)


def test_a_stage_whose_mesh_is_not_there_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "hall.stage_config.json", {"render_asset": "gone.glb"})
    with pytest.raises(UserError, match=r"there is no file .*gone\.glb"):
        loaded(path)
    with pytest.raises(UserError, match="'render_asset' is missing"):
        loaded(write(tmp_path / "hall.stage_config.json", {}))
    (tmp_path / "hall.stage_config.json").write_text('{"render_asset": ')
    with pytest.raises(UserError, match="not valid JSON"):
        loaded(path)
