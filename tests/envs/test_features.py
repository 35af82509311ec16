import base64
import copy
import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vlkit
from vlkit.envs.feature_files import convert
from vlkit.envs.features import VIEWS, Features, main, nearest_view, open_features
from vlkit.errors import UserError

DIM = 8
Rows = list[tuple[str, str, np.ndarray]]


def panoramas(count: int, dim: int = DIM, seed: int = 0) -> Rows:
    values = np.random.default_rng(seed).standard_normal((count, VIEWS, dim)).astype(np.float32)
    return [(f"scan_{i // 4}", f"{i:032x}", values[i]) for i in range(count)]


def line(scan: str, viewpoint: str, values: np.ndarray) -> bytes:
    encoded = base64.b64encode(values.astype("<f4").tobytes()).decode()
    return "\t".join([scan, viewpoint, "640", "480", "60", encoded]).encode() + b"\n"


def write_tsv(path: Path, rows: Rows) -> Path:
    path.write_bytes(b"".join(line(*row) for row in rows))
    return path


def write_hdf5(path: Path, rows: Rows) -> Path:
    h5py = pytest.importorskip("h5py", reason="needs vlkit[hdf5]")
    with h5py.File(path, "w") as file:
        for scan, viewpoint, values in rows:
            file[f"{scan}_{viewpoint}"] = values
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def raised(source: Path, folder: Path, dtype: str = "float32") -> str:
    with pytest.raises(UserError) as caught:
        convert(source, folder, dtype=dtype)
    return str(caught.value)


@pytest.fixture
def features(tmp_path: Path) -> Features:
    convert(write_tsv(tmp_path / "f.tsv", panoramas(5)), tmp_path / "out", dtype="float32")
    return open_features(tmp_path / "out")


# reading


def test_the_three_formats_hold_the_same_features(tmp_path: Path) -> None:
    rows = panoramas(6)
    tsv, hdf5 = write_tsv(tmp_path / "f.tsv", rows), write_hdf5(tmp_path / "f.hdf5", rows)
    convert(tsv, tmp_path / "from_tsv", dtype="float32")
    convert(hdf5, tmp_path / "from_hdf5", dtype="float32")
    for path in (tsv, hdf5, tmp_path / "from_tsv", tmp_path / "from_hdf5", tmp_path / "from_tsv" / "features.npy"):
        features = open_features(path)
        assert (len(features), features.views, features.dim) == (6, 36, DIM)
        for scan, viewpoint, values in rows:
            np.testing.assert_array_equal(features.array[features.index[scan, viewpoint]], values)


def test_the_data_file_is_what_numpy_loads(tmp_path: Path) -> None:
    rows = panoramas(3)
    convert(write_tsv(tmp_path / "f.tsv", rows), tmp_path / "out")
    loaded = np.load(tmp_path / "out" / "features.npy")
    assert loaded.dtype == np.float16
    np.testing.assert_array_equal(loaded, np.stack([values for *_, values in rows]).astype(np.float16))
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["rows"] == [[scan, viewpoint] for scan, viewpoint, _ in rows]
    assert (index["dtype"], index["dim"], index["version"]) == ("float16", DIM, 1)
    digest = subprocess.run(["sha256sum", tmp_path / "f.tsv"], capture_output=True, text=True, check=True).stdout
    assert index["source"]["sha256"] == digest.split()[0]
    assert sorted(contents(tmp_path / "out")) == ["features.npy", "index.json"]


def test_the_official_writer_s_lines_are_read_however_long(tmp_path: Path) -> None:
    # Written as R2R's own script does, with \r\n; one field is beyond the csv module's limit of 131072 characters.
    rows = panoramas(2, dim=1024)
    with open(tmp_path / "f.tsv", "w", newline="") as file:
        names = ["scanId", "viewpointId", "image_w", "image_h", "vfov", "features"]
        writer = csv.DictWriter(file, delimiter="\t", fieldnames=names)
        for scan, viewpoint, values in rows:
            encoded = base64.b64encode(values.tobytes()).decode()
            assert len(encoded) > 131072
            writer.writerow(dict(zip(names, [scan, viewpoint, 640, 480, 60, encoded], strict=True)))
    features = open_features(tmp_path / "f.tsv")
    np.testing.assert_array_equal(features.array, np.stack([values for *_, values in rows]))


def test_a_line_with_the_fields_names_may_order_them(tmp_path: Path) -> None:
    scan, viewpoint, values = panoramas(1)[0]
    encoded = base64.b64encode(values.tobytes()).decode()
    text = "viewpointId\tscanId\tfeatures\timage_w\timage_h\tvfov\n" + f"{viewpoint}\t{scan}\t{encoded}\t640\t480\t60\n"
    (tmp_path / "f.tsv").write_text(text)
    np.testing.assert_array_equal(open_features(tmp_path / "f.tsv").array[0], values)


def test_hdf5_rows_with_class_scores_are_cut_to_dim(tmp_path: Path) -> None:
    rows = panoramas(3, dim=12)
    path = write_hdf5(tmp_path / "f.hdf5", rows)
    convert(path, tmp_path / "out", dtype="float32", dim=8)
    assert open_features(path).dim == 12
    for opened in (open_features(path, dim=8), open_features(tmp_path / "out", dim=8)):
        np.testing.assert_array_equal(opened.array, np.stack([values[:, :8] for *_, values in rows]))


def test_missing_viewpoints_are_counted_and_the_first_named(features: Features) -> None:
    assert features.rows([("scan_1", f"{4:032x}"), ("scan_0", f"{1:032x}")]).tolist() == [4, 1]
    wanted = [("scan_0", f"{0:032x}"), *(("elsewhere", f"v{i}") for i in range(7))]
    with pytest.raises(
        UserError, match=r"7 of 8 viewpoints in 1 scans, first elsewhere v0, elsewhere v1, elsewhere v2;"
    ):
        features.rows(iter(wanted))


def test_gather_takes_the_views_asked_for_and_zeros_for_none(features: Features) -> None:
    rows, views = torch.tensor([4, 0, 4]), torch.tensor([[0, 35, -1], [7, -1, 7], [3, 2, 1]])
    taken = features.gather(rows, views)
    assert taken.shape == (3, 3, DIM)
    assert taken.dtype == torch.float32
    for env in range(3):
        for k in range(3):
            view = int(views[env, k])
            expected = np.zeros(DIM) if view < 0 else features.array[int(rows[env]), view]
            np.testing.assert_array_equal(taken[env, k].numpy(), expected)
    torch.testing.assert_close(features.panoramas(rows), features.gather(rows, torch.arange(VIEWS).expand(3, -1)))


def test_half_precision_files_give_the_dtype_asked_for(tmp_path: Path) -> None:
    rows = panoramas(2)
    convert(write_tsv(tmp_path / "f.tsv", rows), tmp_path / "out")
    features, at = open_features(tmp_path / "out"), torch.tensor([1])
    assert features.panoramas(at).dtype == torch.float16
    single = features.panoramas(at, torch.float32)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single[0].numpy(), rows[1][2], atol=2e-3)
    assert features.gather(at, torch.tensor([[3]]), torch.float64).dtype == torch.float64


def test_features_cannot_be_written_to_and_are_shared_by_path(features: Features) -> None:
    assert not features.array.flags.writeable
    assert len(ForkingPickler.dumps(features)) < 1000
    np.testing.assert_array_equal(copy.copy(features).array, features.array)


def test_nearest_view_is_that_with_the_smallest_angles() -> None:
    generator = torch.Generator().manual_seed(0)
    headings = torch.rand(500, generator=generator) * 4 * torch.pi - 2 * torch.pi
    elevations = (torch.rand(500, generator=generator) - 0.5) * torch.pi
    centres = torch.deg2rad(torch.arange(12) * 30.0), torch.deg2rad(torch.tensor([-30.0, 0.0, 30.0]))
    aside = torch.cos(headings[:, None] - centres[0]).argmax(dim=1)
    above = (elevations[:, None] - centres[1]).abs().argmin(dim=1)
    assert torch.equal(nearest_view(headings, elevations), above * 12 + aside)
    table = {(0, 0): 12, (-1, 0): 12, (359, 10): 12, (30, 0): 13, (344, 0): 23, (90, -30): 3, (180, 60): 30}
    for (heading, elevation), view in table.items():
        assert nearest_view(torch.tensor(heading * torch.pi / 180), torch.tensor(elevation * torch.pi / 180)) == view


# conversion that stops and goes on


def test_a_killed_conversion_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "f.tsv", panoramas(1500))
    convert(source, tmp_path / "whole")
    folder = tmp_path / "killed"
    program = (
        f"from vlkit.envs.feature_files import convert\nconvert({str(source)!r}, {str(folder)!r}, checkpoint_rows=1)"
    )
    root = Path(vlkit.__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and rows_done(folder) < 5:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 5 <= rows_done(folder) < 1500
    with pytest.raises(UserError, match="did not finish; run the same"):
        open_features(folder)
    convert(source, folder)
    assert contents(folder) == contents(tmp_path / "whole")


def rows_done(folder: Path) -> int:
    try:
        return len(json.loads((folder / "incomplete.json").read_text())["rows"])
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("kept", [1, 7])
def test_what_was_written_behind_the_last_checkpoint_is_written_anew(tmp_path: Path, kept: int) -> None:
    rows = panoramas(9)
    source = write_tsv(tmp_path / "f.tsv", rows)
    convert(source, tmp_path / "whole")
    cut = tmp_path / "f_cut.tsv"
    cut.write_bytes(b"".join(line(*row) for row in rows[:kept]) + line(*rows[kept])[:500])
    folder = tmp_path / "out"
    assert f"line {kept + 1}" in raised(cut, folder, dtype="float16")
    with open(folder / "features.npy", "ab") as data:
        data.write(b"half a row")
    (folder / ".incomplete.json.123.tmp").write_text("{")
    convert(source, folder)
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_truncated_file_names_its_last_line_and_can_be_mended(tmp_path: Path) -> None:
    rows = panoramas(4)
    whole = b"".join(line(*row) for row in rows)
    source, folder = tmp_path / "f.tsv", tmp_path / "out"
    source.write_bytes(whole[:-100])
    message = raised(source, folder)
    assert "line 4" in message
    assert rows[3][1] in message
    assert "ends in the middle of this line" in message
    source.write_bytes(whole)
    convert(source, folder, dtype="float32")
    np.testing.assert_array_equal(open_features(folder).array, np.stack([values for *_, values in rows]))


def test_hdf5_conversion_goes_on_too(tmp_path: Path) -> None:
    rows = panoramas(5)
    rows[3][2][0, 0] = np.nan
    source, folder = write_hdf5(tmp_path / "f.hdf5", rows), tmp_path / "out"
    assert "1 of 288 numbers are not finite" in raised(source, folder)
    assert rows_done(folder) == 3
    rows[3][2][0, 0] = 1.0
    source.unlink()
    write_hdf5(source, rows)
    assert "is not the file with which the conversion" in raised(source, folder)
    convert(source, folder, dtype="float32", resume=False)
    np.testing.assert_array_equal(open_features(folder).array, np.stack([values for *_, values in rows]))


def test_another_source_or_dtype_does_not_go_on(tmp_path: Path) -> None:
    rows, folder = panoramas(3), tmp_path / "out"
    source = tmp_path / "f.tsv"
    source.write_bytes(line(*rows[0]) + line(*rows[1])[:-9])
    raised(source, folder)
    assert "conversion to float32 with dim 8 was begun there" in raised(source, folder, dtype="float16")
    write_tsv(source, panoramas(3, seed=1))
    assert "--restart" in raised(source, folder)
    convert(source, folder, dtype="float16", resume=False)
    assert open_features(folder).array.dtype == np.float16


def test_a_finished_folder_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, folder = write_tsv(tmp_path / "f.tsv", panoramas(3)), tmp_path / "out"
    convert(source, folder)
    before = (folder / "features.npy").stat().st_mtime_ns
    convert(source, folder)
    assert "already holds" in capfd.readouterr().err
    assert (folder / "features.npy").stat().st_mtime_ns == before
    assert "already holds features: of f.tsv, float16, dim 8" in raised(source, folder, dtype="float32")
    other = write_tsv(tmp_path / "g.tsv", panoramas(2))
    assert "name another folder" in raised(other, folder, dtype="float16")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "f.tsv", panoramas(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "features.npy").write_text("mine")
    assert "holds 1 files that are not of a conversion (features.npy)" in raised(source, tmp_path / "out")
    assert (tmp_path / "out" / "features.npy").read_text() == "mine"
    assert "is a file" in raised(source, source)


def test_a_full_disk_is_one_message_and_leaves_what_can_go_on(tmp_path: Path) -> None:
    source, folder = write_tsv(tmp_path / "f.tsv", panoramas(40)), tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        message = raised(source, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write" in message
    assert "free some space" in message
    assert not (folder / "index.json").exists()
    convert(source, folder, dtype="float32")
    assert len(open_features(folder)) == 40


# damaged sources


WRONG: dict[str, tuple[Callable[[str, str, np.ndarray], bytes], str]] = {
    "another width": (lambda s, v, x: line(s, v, x[:, :7]), "expected 36 x 8 x 4 bytes of features, found 1008, which is 36 x 7 x 4"),
    "a wrong length": (lambda s, v, x: line(s, v, x.ravel()[:-1]), "expected 36 x 8 x 4 bytes of features, found 1148, no multiple"),
    "no base64": (lambda s, v, x: line(s, v, x).replace(b"\t60\t", b"\t60\t!"), "not base64"),
    "no features": (lambda s, v, x: line(s, v, x[:0]), "found 0"),
    "too few fields": (lambda s, v, x: line(s, v, x).replace(b"\t480", b""), "line 3: 5 fields, expected 6 (scanId, viewpointId,"),
    "no viewpoint": (lambda s, v, x: line(s, "", x), "line 3: viewpointId is ''"),
    "no scan": (lambda s, v, x: line("a b", v, x), "line 3: scanId is 'a b'"),
    "not a number": (lambda s, v, x: line(s, v, np.where(x > 2, np.nan, x)), "numbers are not finite"),
    "infinity": (lambda s, v, x: line(s, v, np.where(x == x.max(), np.inf, x)), "1 of 288 numbers are not finite"),
    "a second copy": (lambda s, v, x: line(s, f"{0:032x}", x), "there twice, first in line 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_is_named_with_what_was_expected(tmp_path: Path, case: str) -> None:
    rows = panoramas(4)
    wrong, expected = WRONG[case]
    lines = [line(*row) for row in rows]
    lines[2] = wrong("scan_0", rows[2][1], rows[2][2])
    (tmp_path / "f.tsv").write_bytes(b"".join(lines))
    message = raised(tmp_path / "f.tsv", tmp_path / "out")
    assert expected in message
    assert "line 3" in message
    if "field" not in case and "no viewpoint" not in case and "no scan" not in case:
        assert "scan_0" in message
        assert (rows[0][1] if case == "a second copy" else rows[2][1]) in message
    with pytest.raises(UserError, match="line 3"):
        open_features(tmp_path / "f.tsv")
    with pytest.raises(UserError, match="did not finish"):
        open_features(tmp_path / "out")


def test_where_the_first_line_is_wrong_nothing_is_left_behind(tmp_path: Path) -> None:
    source, folder, empty = tmp_path / "f.tsv", tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    source.write_text("scan\tviewpoint\t640\t480\t60\tnot base64\n")
    for place in (folder, empty):
        with pytest.raises(UserError, match="line 1 .*not base64"):
            convert(source, place)
    assert sorted(tmp_path.iterdir()) == [empty, source]
    assert not list(empty.iterdir())


def test_a_number_too_large_for_half_precision_is_refused(tmp_path: Path) -> None:
    rows = panoramas(2)
    rows[1][2][5, 5] = 7e4
    source = write_tsv(tmp_path / "f.tsv", rows)
    message = raised(source, tmp_path / "out", dtype="float16")
    assert "line 2" in message
    assert "7e+04 is too large for float16" in message


def test_hdf5_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs vlkit[hdf5]")
    cases = {
        "a_b": (np.zeros((35, 8), np.float32), "floats of shape (36, dim), found f (35, 8)"),
        "c_d": (np.zeros((36, 8), np.int64), "found i (36, 8)"),
        "nounderscore": (np.zeros((36, 8), np.float32), "<scan>_<viewpoint>"),
    }
    for i, (key, (values, expected)) in enumerate(cases.items()):
        with h5py.File(tmp_path / f"{i}.hdf5", "w") as file:
            file[key] = values
        assert expected in raised(tmp_path / f"{i}.hdf5", tmp_path / f"out{i}")
    with h5py.File(tmp_path / "group.hdf5", "w") as file:
        file.create_group("a_b")
    assert "found none ()" in raised(tmp_path / "group.hdf5", tmp_path / "out")
    rows = panoramas(3)
    path = write_hdf5(tmp_path / "widths.hdf5", [rows[0], (rows[1][0], rows[1][1], rows[1][2][:, :7])])
    assert "expected 8 numbers a view, found 7" in raised(path, tmp_path / "out_a")
    path.write_bytes(path.read_bytes()[:3000])
    assert "not readable as HDF5" in raised(path, tmp_path / "out_b")


def test_hdf5_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_hdf5(tmp_path / "f.hdf5", panoramas(1))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r'pip install "vlkit\[hdf5\]"'):
        open_features(path)


def test_what_is_no_file_of_features_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.zip").write_bytes(b"PK\x03\x04 and so on")
    (tmp_path / "f.txt").write_text("hello")
    (tmp_path / "empty.tsv").write_text("")
    (tmp_path / "folder").mkdir()
    cases = {
        "f.zip": "unzip it",
        "f.txt": "neither a TSV",
        "nowhere": "no image features at",
        "folder": "has no index.json",
    }
    for name, expected in cases.items():
        with pytest.raises(UserError, match=expected):
            open_features(tmp_path / name)
    assert "holds no panorama" in raised(tmp_path / "empty.tsv", tmp_path / "out")
    with pytest.raises(UserError, match="holds no panorama"):
        open_features(tmp_path / "empty.tsv")


def test_a_file_beyond_the_memory_limit_asks_to_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "large.tsv"
    path.write_text("\n")
    os.truncate(path, 4 * 2**30)
    with pytest.raises(UserError, match=r"about 3\.0 GiB of memory.*vlkit data features"):
        open_features(path)


def test_another_dim_than_the_model_s_is_refused(features: Features) -> None:
    with pytest.raises(UserError, match="has 8 numbers a view and 2048 are expected"):
        open_features(features.path, dim=2048)


def test_a_damaged_folder_is_named(features: Features, tmp_path: Path) -> None:
    text = (features.path / "index.json").read_text()
    index = json.loads(text)
    cases = {
        "cut": (text[:-20], "not an index of image features"),
        "version": (json.dumps(index | {"version": 9}), "version 9, and this vlkit reads 1"),
        "format": (json.dumps(index | {"format": "x"}), "its format is 'x'"),
        "dtype": (json.dumps(index | {"dtype": "float16"}), r"holds float32 \(5, 36, 8\), and index.json says float16"),
        "rows": (json.dumps(index | {"rows": index["rows"][1:]}), r"index.json says float32 \(4, 36, 8\)"),
        "pairs": (json.dumps(index | {"rows": [[1, 2]]}), "are not as they should be"),
        "list": ("[1]", "not an index"),
    }
    for name, (damaged, expected) in cases.items():
        folder = tmp_path / name
        shutil.copytree(features.path, folder)
        (folder / "index.json").write_text(damaged)
        with pytest.raises(UserError, match=expected):
            open_features(folder)
    damaged_header = (features.path / "features.npy").read_bytes().replace(b"(5, 36, 8)", b"(5, 36, 8(")
    shutil.copytree(features.path, tmp_path / "header")
    (tmp_path / "header" / "features.npy").write_bytes(damaged_header)
    with pytest.raises(UserError, match=r"features.npy: cannot be read"):
        open_features(tmp_path / "header")
    os.truncate(features.path / "features.npy", 3000)
    with pytest.raises(UserError, match=r"features.npy: cannot be read"):
        open_features(features.path)


def mutations() -> Iterator[st.SearchStrategy[bytes]]:
    whole = b"".join(line(*row) for row in panoramas(2))
    short_line = line(*panoramas(1, dim=1)[0])
    yield st.binary(max_size=300)
    yield st.text(alphabet="ab\t\n\r=+/ 0\x00é", max_size=80).map(str.encode)
    yield st.integers(0, len(whole)).map(lambda end: whole[:end])
    places = st.tuples(st.integers(0, len(short_line) - 1), st.integers(0, 40), st.binary(max_size=6))
    yield places.map(lambda place: short_line[: place[0]] + place[2] + short_line[place[0] + place[1] :])
    fields = st.lists(st.binary(max_size=12), min_size=4, max_size=7)
    yield fields.map(lambda items: b"\t".join(items) + b"\n")
    yield st.binary(max_size=400).map(lambda data: b"s\tv\t1\t1\t1\t" + base64.b64encode(data) + b"\n")


@settings(max_examples=300, deadline=None)
@given(st.one_of(*mutations()), st.sampled_from([None, 1, 8]))
def test_no_tsv_whatever_its_bytes_raises_anything_but_our_error(data: bytes, dim: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.tsv"
        path.write_bytes(data)
        try:
            features = open_features(path, dim)
        except UserError:
            return
        assert features.array.shape == (len(features.index), VIEWS, features.dim)
        assert np.isfinite(features.array).all()


# the command


def test_the_command_shows_its_progress_and_its_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tsv(tmp_path / "f.tsv", panoramas(4))
    assert main([str(source), "--out", str(tmp_path / "out")]) == 0
    assert "4 panoramas, 36 x 8 float16, 0.0 MiB" in capfd.readouterr().err
    assert open_features(tmp_path / "out").array.dtype == np.float16
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main([str(source), "--out", str(tmp_path / "bar"), "--dtype", "float32"]) == 0
    assert open_features(tmp_path / "bar").array.dtype == np.float32
    wrong_usages: list[list[str]] = [
        [],
        [str(source)],
        [str(source), "--out", "x", "--dtype", "int8"],
        [str(source), "--ouut", "x"],
    ]
    for wrong in wrong_usages:
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
    assert "unknown option --ouut. Did you mean '--out'?" in capfd.readouterr().err
