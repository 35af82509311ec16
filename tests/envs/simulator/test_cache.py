import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlkit.envs.simulator import cache as cache_module
from vlkit.envs.simulator import mesh_files
from vlkit.envs.simulator.cache import scene_cache
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.obj import read_obj
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError

TEXT = "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 1\nusemtl m\no chair\nf 1/1 2/2 3/1\nf 1 1 2\n"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The mesh files that were parsed, one entry each time."""
    paths: list[Path] = []

    def counted(path: Path, *arguments: object, **options: object) -> SceneData:
        paths.append(path)
        return read_obj(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mesh_files, "read_obj", counted)
    return paths


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "a.obj").write_text(TEXT)
    (folder / "a.mtl").write_text("newmtl m\nKd 1 0.5 0\nmap_Kd a.png\n")
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(folder / "a.png")
    return folder / "a.obj"


def assert_same(first: SceneData, second: SceneData) -> None:
    for name in cache_module.ARRAYS:
        assert getattr(first, name).dtype == getattr(second, name).dtype
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert [(texture.image.tolist(), texture.wrap, texture.filters) for texture in first.textures] == [
        (texture.image.tolist(), texture.wrap, texture.filters) for texture in second.textures
    ]
    for name in ("name", "categories", "objects", "rooms", "warnings"):
        assert getattr(first, name) == getattr(second, name), name


def test_a_second_load_does_not_parse_and_returns_the_same(
    scene_file: Path, parsed: list[Path], tmp_path: Path
) -> None:
    first = load_scene(scene_file, cache=tmp_path / "cache")
    second = load_scene(scene_file, cache=tmp_path / "cache")
    assert len(parsed) == 1
    assert_same(first, second)
    assert first.warnings == ("1 of 2 triangles have no area and were left out",)
    load_scene(scene_file, cache=False)
    assert len(parsed) == 2


def test_any_file_that_was_read_makes_another_entry_when_it_changes(
    scene_file: Path, parsed: list[Path], tmp_path: Path
) -> None:
    load_scene(scene_file, cache=tmp_path / "cache")
    Image.fromarray(np.full((2, 2, 3), 9, np.uint8)).save(scene_file.with_name("a.png"))
    assert load_scene(scene_file, cache=tmp_path / "cache").textures[0].image[0, 0, 0] == 9
    assert len(parsed) == 2
    scene_file.with_name("a.mtl").write_text("newmtl m\nKd 0 0 1\n")
    assert load_scene(scene_file, cache=tmp_path / "cache").colour[0].tolist() == [0, 0, 1, 1]
    scene_file.write_text(TEXT.replace("v 0 1 0", "v 0 2 0"))
    assert load_scene(scene_file, cache=tmp_path / "cache").bounds[1][1] == 2
    assert len(parsed) == 4
    # A file that was looked for and was not there counts as well.
    config = '{"render_asset": "a.obj", "up": [0, 0, 1], "front": [0, 1, 0]}'
    scene_file.with_name("a.stage_config.json").write_text(config)
    assert load_scene(scene_file, cache=tmp_path / "cache").bounds[0][2] == -2
    scene_file.with_name("a.stage_config.json").unlink()
    assert load_scene(scene_file, cache=tmp_path / "cache").bounds[0][2] == 0
    assert len(parsed) == 5


def test_arguments_and_the_readers_version_make_other_entries(
    scene_file: Path, parsed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_scene(scene_file, cache=tmp_path / "cache")
    assert load_scene(scene_file, cache=tmp_path / "cache", scale=2.0).bounds[1][0] == 2
    assert load_scene(scene_file, cache=tmp_path / "cache").bounds[1][0] == 1
    assert len(parsed) == 2
    monkeypatch.setattr(cache_module, "READER_VERSION", cache_module.READER_VERSION + 1)
    load_scene(scene_file, cache=tmp_path / "cache")
    assert len(parsed) == 3


def test_a_copy_of_the_files_elsewhere_is_known(scene_file: Path, parsed: list[Path], tmp_path: Path) -> None:
    load_scene(scene_file, cache=tmp_path / "cache")
    (tmp_path / "moved").mkdir()
    for path in scene_file.parent.iterdir():
        path.rename(tmp_path / "moved" / path.name)
    load_scene(tmp_path / "moved" / "a.obj", cache=tmp_path / "cache")
    assert len(parsed) == 1


def test_two_scenes_with_one_main_file_have_an_entry_each(scene_file: Path, parsed: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.obj").write_text(TEXT)
    (other / "a.mtl").write_text("newmtl m\nKd 0 1 0\n")
    for _ in range(2):
        assert load_scene(scene_file, cache=tmp_path / "cache").colour[0].tolist() == [1, 0.5, 0, 1]
        assert load_scene(other / "a.obj", cache=tmp_path / "cache").colour[0].tolist() == [0, 1, 0, 1]
    assert len(parsed) == 2


def test_a_damaged_entry_is_made_anew(scene_file: Path, parsed: list[Path], tmp_path: Path) -> None:
    whole = load_scene(scene_file, cache=tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    content = entry.read_bytes()
    generator = np.random.default_rng(0)
    for i in range(60):
        damaged = bytearray(content)
        if i % 3:
            damaged[int(generator.integers(len(content)))] ^= 1 << int(generator.integers(8))
        else:
            damaged = damaged[: int(generator.integers(len(content)))]
        entry.write_bytes(bytes(damaged))
        assert_same(load_scene(scene_file, cache=tmp_path / "cache"), whole)
    assert len(parsed) > 20


def test_the_users_folder_is_the_one_of_xdg(
    scene_file: Path, parsed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert scene_cache() == tmp_path / "xdg" / "vlkit" / "scenes"
    load_scene(scene_file)
    load_scene(scene_file)
    assert len(parsed) == 1
    assert len(list((tmp_path / "xdg" / "vlkit" / "scenes").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert scene_cache() == tmp_path / "home" / ".cache" / "vlkit" / "scenes"


def test_a_folder_that_cannot_be_written_costs_a_warning(scene_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    scene = load_scene(scene_file, cache=tmp_path / "file" / "cache")
    assert "is not kept for the next run" in scene.warnings[-1]


def test_an_error_is_not_kept(scene_file: Path, tmp_path: Path) -> None:
    scene_file.with_name("a.png").unlink()
    with pytest.raises(UserError):
        load_scene(scene_file, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_threads_and_processes_may_load_the_same_scene_at_once(scene_file: Path, tmp_path: Path) -> None:
    scenes: list[SceneData] = []

    def load() -> None:
        scenes.append(load_scene(scene_file, cache=tmp_path / "cache"))

    code = "import sys; from vlkit.envs.simulator.load import load_scene; load_scene(sys.argv[1], cache=sys.argv[2])"
    command = [sys.executable, "-W", "error", "-c", code, str(scene_file), str(tmp_path / "cache")]
    children = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(2)]
    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait() for child in children] == [0, 0]
    assert len(scenes) == 8
    for scene in scenes:
        assert_same(scene, scenes[0])
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npz"]


def test_the_least_used_entries_make_room(
    scene_file: Path, parsed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    load_scene(scene_file, cache=folder)
    (first,) = folder.iterdir()
    load_scene(scene_file, cache=folder, scale=2.0)
    os.utime(first, (10**9, 10**9))
    monkeypatch.setattr(cache_module, "LARGEST_CACHE", int(2.5 * first.stat().st_size))
    load_scene(scene_file, cache=folder, scale=3.0)
    assert not first.exists()
    load_scene(scene_file, cache=folder, scale=2.0)
    assert len(parsed) == 3
