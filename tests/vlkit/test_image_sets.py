"""Sets of pictures: found by any of their names, decoded once, and what is missing or damaged is told."""

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from vlkit import image_sets
from vlkit.errors import UserError
from vlkit.image_sets import features, missing, pixels
from vlkit.images import read_image


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "p" / "val2014" / "COCO_val2014_000000000042.png", (255, 0, 0))
    picture(tmp_path / "p" / "train" / "sofa.png", (0, 255, 0))
    picture(tmp_path / "p" / "7.png", (0, 0, 255))
    (tmp_path / "p" / "notes.txt").write_text("no picture", encoding="utf-8")
    return tmp_path / "p"


def zipped(folder: Path) -> Path:
    file = folder.parent / "p.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for each in sorted(folder.rglob("*.png")):
            archive.write(each, each.relative_to(folder))
    return file


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_are_found_by_path_name_stem_and_number(folder: Path, tmp_path: Path, packed: bool) -> None:
    source = zipped(folder) if packed else folder
    names = ["42", "train/sofa.png", "sofa", "7.png", "000000000042", "elsewhere/7.png"]
    found = pixels(source, names, size=4, cache=tmp_path / "cache")
    assert found.names == tuple(names)
    assert not found.troubles
    shown = found.read([found.rows[name] for name in names])
    assert shown.shape == (6, 4, 4, 3)
    assert shown[:, 0, 0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 255, 0], [0, 0, 255], [255, 0, 0], [0, 0, 255]]
    missing(found, source, "skip_missing")


def test_pictures_are_decoded_once_and_again_where_one_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []

    def counting(path: Any) -> Tensor:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(image_sets, "read_image", counting)
    for _ in range(2):
        pixels(folder, ["7", "sofa"], size=4, cache=tmp_path / "cache")
    assert len(read) == 2
    pixels(folder, ["7", "sofa"], size=6, cache=tmp_path / "cache")
    assert len(read) == 4
    picture(folder / "7.png", (9, 9, 9))
    again = pixels(folder, ["7", "sofa"], size=4, cache=tmp_path / "cache")
    assert again.read([0])[0, 0, 0].tolist() == [9, 9, 9]


def test_what_is_missing_or_damaged_is_counted_and_told(folder: Path, tmp_path: Path) -> None:
    (folder / "cut.png").write_bytes((folder / "7.png").read_bytes()[:40])
    Image.new("L", (20_000, 20_000)).save(folder / "huge.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(folder / "cmyk.jpg")
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(folder / "deep.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    names = ["7", "cut", "gone", "huge", "cmyk", "deep", "moving"]
    found = pixels(folder, names, size=4, cache=tmp_path / "cache")
    assert found.names == ("7", "cmyk", "deep", "moving")
    assert list(found.troubles) == ["cut", "gone", "huge"]
    assert "damaged" in found.troubles["cut"]
    assert "more than 80,000,000 pixels" in found.troubles["huge"]
    shown = found.read(range(4))[:, 0, 0]
    assert shown[2].tolist() == [255, 255, 255]
    assert shown[3].tolist() == [255, 0, 0], "the first frame"
    assert shown[1, 0] > 180 > 60 > shown[1, 1], "CMYK is red"
    with pytest.raises(UserError, match="3 of 7 pictures in .* cannot be read .*cut.*skip_missing"):
        missing(found, folder, "skip_missing")


def test_a_full_disk_leaves_nothing_behind(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
        with pytest.raises(UserError, match="GiB are free; free some"):
            pixels(folder, ["7"], size=4, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_source_that_is_none_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no"):
        pixels(tmp_path / "nowhere", ["7"], size=4)
    with pytest.raises(UserError, match="no folder and no zip file"):
        pixels(folder / "notes.txt", ["7"], size=4)


def test_a_damaged_entry_of_a_zip_is_told(folder: Path, tmp_path: Path) -> None:
    file = zipped(folder)
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        start = archive.getinfo("7.png").header_offset
    data[start + 50 : start + 60] = b"0123456789"
    file.write_bytes(bytes(data))
    found = pixels(file, ["7", "sofa"], size=4, cache=tmp_path / "cache")
    assert found.names == ("sofa",)
    assert "cannot be unpacked" in found.troubles["7"]


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_features_are_read_by_name(tmp_path: Path, kind: str) -> None:
    grids = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.ones((2, 3, 4), np.float32)}
    source = tmp_path / "features"
    if kind == "npy":
        source.mkdir()
        for name, grid in grids.items():
            np.save(source / f"{name}.npy", grid)
    else:
        import h5py

        with h5py.File(source, "w") as file:
            for name, grid in grids.items():
                file[name] = grid
    found = features(source, ["b", "a.jpg", "c"])
    assert found.shape == (2, 3)
    assert found.names == ("b", "a.jpg")
    assert list(found.troubles) == ["c"]
    assert found.read([1])[0].flatten().tolist() == list(range(24))


def test_features_that_are_none_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 2), np.float32))
    np.save(tmp_path / "b.npy", np.ones((3, 2), np.float32))
    np.save(tmp_path / "c.npy", np.full((4, 2), np.nan))
    (tmp_path / "d.npy").write_bytes(b"nonsense")
    assert features(tmp_path, ["a"]).shape == (2, 2)
    with pytest.raises(UserError, match="of b .* are \\(3, 2\\), earlier ones \\(4, 2\\)"):
        features(tmp_path, ["a", "b"])
    with pytest.raises(UserError, match="of c .* not finite"):
        features(tmp_path, ["c"])
    assert "damaged" in features(tmp_path, ["a", "d"]).troubles["d"]
    with pytest.raises(UserError, match="none of the 1 pictures"):
        features(tmp_path, ["x"])
