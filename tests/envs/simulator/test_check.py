import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlkit.cli import main
from vlkit.envs.simulator import check
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.golden import Figure, frame_figures
from vlkit.envs.simulator.golden_navigation import navigation_figures
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError


@pytest.mark.reference
def test_every_bound_is_met_on_a_scene_of_habitats_own(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = reference / "scenes" / "habitat_golden" / "simple_room"
    assert main(["check", "simulator", "--golden", str(golden)]) == 0
    said = capsys.readouterr().out
    assert "every bound is met" in said
    assert "MISSED" not in said


def test_a_missed_bound_is_shown_and_fails_and_a_figure_without_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "golden.npz").touch()
    kept, missed = Figure("depth", 99.999, 99.99, "at least"), Figure("moves", 98.0, 99.0, "at least")
    unbounded = Figure("islands", 3.0, float("inf"), "at most")
    for measured, code, verdict in (
        ([kept, unbounded], 0, "every bound is met"),
        ([kept, missed], 1, "1 bounds are missed"),
    ):
        monkeypatch.setattr(check, "figures", lambda folder, measured=measured: measured)
        assert main(["check", "simulator", "--golden", str(tmp_path)]) == code
        assert verdict in capsys.readouterr().out


def test_a_folder_without_golden_data_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "simulator", "--golden", str(tmp_path)]) == 1
    assert "name a folder of golden data" in capsys.readouterr().err


def golden_folder(folder: Path, hall: SceneData, **changed: object) -> Path:
    """A golden scene that was measured with one small camera."""
    save_glb(hall, folder / "scene.glb", stage_config=True)
    sensor = {"near": 0.01, "far": 1000.0, "resolutions_hw_hfov": [[8, 8, 90]]}
    (folder / "golden.json").write_text(json.dumps({"sensor": sensor}))
    arrays: dict[str, Any] = {
        "pose_camera_position": np.array([[0.0, 1.25, 1.5]]),
        "pose_rotation_wxyz": np.array([[1.0, 0.0, 0.0, 0.0]]),
        "rgb_8": np.zeros((1, 8, 8, 3), np.uint8),
        "depth_8": np.zeros((1, 8, 8), np.float32),
    }
    np.savez(folder / "golden.npz", **{name: each for name, each in (arrays | changed).items() if each is not None})
    return folder


@pytest.mark.parametrize("measured", [frame_figures, navigation_figures])
def test_a_damaged_golden_folder_is_an_error_that_names_the_file_and_what_it_lacks(
    measured: Callable[[Path], list[Figure]], hall: SceneData, tmp_path: Path
) -> None:
    golden_folder(tmp_path, hall)
    whole = (tmp_path / "golden.npz").read_bytes()
    told = (tmp_path / "golden.json").read_text()
    (tmp_path / "golden.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="golden.npz is cut off or damaged"):
        measured(tmp_path)
    (tmp_path / "golden.npz").write_bytes(whole)
    (tmp_path / "golden.json").write_text(told[:20])
    with pytest.raises(UserError, match="golden.json: this is not valid JSON"):
        measured(tmp_path)
    (tmp_path / "golden.json").write_text("{}")
    missing = "sensor: 'resolutions_hw_hfov'" if measured is frame_figures else "navmesh_r01, settings: 'agent_height'"
    with pytest.raises(UserError, match=f"golden.json, {missing} is missing"):
        measured(tmp_path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rgb_8": None}, "golden.npz has no array 'rgb_8'"),
        ({"pose_camera_position": None}, "golden.npz has no array 'pose_camera_position'"),
        ({"depth_8": np.zeros((2, 8, 8), np.float32)}, r"depth_8 is of shape \(2, 8, 8\); expected \(1, 8, 8\)"),
        ({"pose_index_8": np.array([3])}, "pose_index_8 names poses 3 to 3, and there are 1"),
        ({"depth_512": np.zeros((1, 512, 512))}, "golden.npz has depth_512, for which .* lists no resolution"),
    ],
)
def test_arrays_that_do_not_fit_golden_json_are_named(
    changed: dict[str, Any], told: str, hall: SceneData, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        frame_figures(golden_folder(tmp_path, hall, **changed))


def test_a_folder_with_all_that_belongs_to_it_is_compared(hall: SceneData, tmp_path: Path) -> None:
    assert len(frame_figures(golden_folder(tmp_path, hall))) == 3
