from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlkit.cli import main
from vlkit.envs.simulator import view
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.navgrid import nav_grid
from vlkit.envs.simulator.scene import SceneData
from vlkit.envs.simulator.view import below, contact_sheet, turntable


def test_a_mesh_is_looked_at_from_inside_from_above_and_from_all_sides(
    hall: SceneData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_glb(hall, tmp_path / "hall.glb")
    assert main(["view", str(tmp_path / "hall.glb"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "hall: 72 triangles" in said
    assert "6.20 m wide, 4.20 m deep, 2.60 m high" in said
    assert "6 objects, 3 categories" in said
    assert "walkable: 2" in said  # 5.8 x 3.8 m without 1.2 x 1.2 m: 20.6
    with Image.open(tmp_path / "out" / "contact.png") as sheet, Image.open(tmp_path / "out" / "map.png") as plan:
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 20
        assert plan.width > 400
    with Image.open(tmp_path / "out" / "turntable.gif") as turning:
        assert turning.n_frames > 20  # type: ignore[attr-defined]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["contact.png", "map.png", "turntable.gif"]


def test_what_cannot_be_walked_on_is_turned_and_the_rest_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corners = ["v 0 0 0", "v 0.2 0 0", "v 0 0.2 0", "v 0 0 0.2"]
    (tmp_path / "chip.obj").write_text("\n".join([*corners, "f 1 2 3", "f 1 4 2", "f 1 3 4", "f 2 4 3"]) + "\n")
    assert main(["view", str(tmp_path / "chip.obj"), "--out", str(tmp_path / "out")]) == 0
    assert "no map and no views from inside: chip has no walkable ground" in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["turntable.gif"]


def test_a_file_that_is_no_mesh_is_one_message_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.glb").write_bytes(b"glTF\x02\x00\x00\x00 and no more")
    assert main(["view", str(tmp_path / "broken.glb"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("vlkit: ")
    assert "broken.glb" in said
    assert not (tmp_path / "out").exists()


def test_the_turntable_shows_the_whole_scene_from_every_side(hall: SceneData) -> None:
    for picture in turntable(hall):
        drawn = (np.asarray(picture) != 255).any(axis=2)
        assert 0.1 < drawn.mean() < 0.9
        assert not drawn[0].any()
        assert not drawn[-1].any()
        assert not drawn[:, 0].any()
        assert not drawn[:, -1].any()


def test_what_is_above_the_floor_can_be_taken_off(hall: SceneData) -> None:
    low = below(hall, 0.5)
    assert len(low.faces) == len(hall.faces) - 5 * 2  # the tops of four walls and of the block
    assert below(hall, -5.0) is hall


def test_a_seed_that_is_too_large_is_one_message(
    hall: SceneData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_glb(hall, tmp_path / "hall.glb")
    for seed in ("99999999999999999999999", "-1"):
        assert main(["view", str(tmp_path / "hall.glb"), "--out", str(tmp_path / "out"), "--seed", seed]) == 1
        assert capsys.readouterr().err == f"vlkit: seed is {seed}; expected 0 to {2**63 - 1}\n"
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_named_with_what_to_do(
    hall: SceneData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_glb(hall, tmp_path / "hall.glb")
    (tmp_path / "taken").touch()
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        assert main(["view", str(tmp_path / "hall.glb"), "--out", str(out)]) == 1
        captured = capsys.readouterr()
        assert f"{tmp_path / 'taken'} is a file, not a folder; name another folder" in captured.err
        assert captured.out == ""  # before the work is done


def test_a_room_in_centimetres_is_told_with_the_remedy_before_anything_is_refused(
    hall: SceneData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_glb(replace(hall, vertices=hall.vertices * np.float32(100)), tmp_path / "hall.glb")
    assert main(["view", str(tmp_path / "hall.glb"), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (hint,) = (i for i, line in enumerate(lines) if "about 100x too large" in line)
    (refused,) = (i for i, line in enumerate(lines) if "no map and no views from inside" in line)
    assert hint < refused
    assert "--scale 0.01" in lines[hint]


def test_warnings_are_printed_although_the_ground_takes_more_memory_than_there_is(
    hall: SceneData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object, **named: object) -> None:
        raise MemoryError

    save_glb(replace(hall, vertices=hall.vertices * np.float32(100)), tmp_path / "hall.glb")
    monkeypatch.setattr(view, "nav_grid", refused)
    assert main(["view", str(tmp_path / "hall.glb"), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "about 100x too large" in captured.out
    assert captured.err.startswith("vlkit: out of memory")


def test_a_contact_sheet_has_a_line_for_what_is_not_named(hall: SceneData) -> None:
    walk = nav_grid(hall, cache=False)
    named = contact_sheet(hall, walk, shading="flat", seed=0)
    nothing = np.zeros_like(hall.instance)
    bare = contact_sheet(replace(hall, instance=nothing, semantic=nothing), walk, shading="flat", seed=0)
    assert named.size == (6 * 196, 4 * (16 + 192))
    assert bare.size == (6 * 196, 4 * 16 + 2 * 192)
