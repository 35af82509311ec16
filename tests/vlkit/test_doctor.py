import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlkit import doctor

REPOSITORY = Path(__file__).parents[2]

# As much of PyTorch as the doctor asks for.
TORCH = """
__version__ = "2.15.0+cpu"
class version: cuda = None
class cuda: is_available = staticmethod(lambda: False)
class backends:
    class mps: is_available = staticmethod(lambda: False)
class tensor:
    def __init__(self, values): self.values = values
    def numpy(self): return self.values
    def tolist(self): return self.values
ones = tensor
def get_num_threads(): return 1
"""
TORCHVISION = """
import torch
__version__ = "0.30.0"
class ops: nms = staticmethod(lambda boxes, scores, threshold: torch.tensor([0]))
"""
H100 = {
    "name": "NVIDIA H100",
    "memory": 80 * 2**30,
    "free": 60 * 2**30,
    "bf16": True,
    "capability": "9.0",
    "worked": True,
}


def doctored(folder: Path, *words: str, **modules: str) -> "subprocess.CompletedProcess[str]":
    """`vlkit doctor` in an empty working folder, where `modules` stand in front of the installed ones."""
    for name, text in ({"torch": TORCH, "torchvision": TORCHVISION} | modules).items():
        (folder / f"{name}.py").write_text(text)
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "vlkit", "doctor", *words],
        cwd=work,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(run: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, str]]:
    assert "Traceback" not in run.stderr
    return {row["name"]: row for row in json.loads(run.stdout)["rows"]}


def only(found: Any) -> doctor.Row:
    (row,) = found
    assert isinstance(row, doctor.Row)
    return row


def test_a_working_installation_is_reported_within_80_columns(tmp_path: Path) -> None:
    run = doctored(tmp_path)
    assert run.returncode == 0, run.stdout
    assert "All that vlkit needs is here." in run.stdout
    table = run.stdout.split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80
    for words in ("2.15.0+cpu, built for CPU only", "0.30.0, matches torch", "cores", "GiB", "[hdf5]", "habitat-sim"):
        assert words in table


def test_the_installed_pytorch_and_torchvision_match() -> None:
    tried = doctor.probe()
    assert [row.status for row in doctor.pytorch(tried)] == ["ok", "ok"], tried


def test_a_torchvision_that_does_not_match_is_a_problem_with_the_fix(tmp_path: Path) -> None:
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    run = doctored(tmp_path, "--json", torchvision=broken)
    row = rows(run)["torchvision"]
    assert run.returncode == 1
    assert row["status"] == "problem"
    assert "does not work with torch 2.15.0+cpu: RuntimeError: operator torchvision::nms" in row["found"]
    assert "-m pip uninstall -y torch torchvision && " in row["fix"]


@pytest.mark.parametrize(
    ("torch", "found", "fix"),
    [
        ("raise ModuleNotFoundError(\"No module named 'torch'\")", "not installed", "-m pip install torch torchvision"),
        ("raise ImportError('libcudnn.so.9: cannot open')", "ImportError: libcudnn.so.9: cannot open", "uninstall -y"),
        ("import os; os.abort()", "importing it ended the process with code -6", "uninstall -y"),
        ("raise SystemExit(3)", "importing it ended the process with code 3", "uninstall -y"),
    ],
)
def test_a_pytorch_that_does_not_import_is_a_problem_and_ends_no_doctor(
    tmp_path: Path, torch: str, found: str, fix: str
) -> None:
    run = doctored(tmp_path, "--json", torch=torch)
    row = rows(run)["torch"]
    assert run.returncode == 1
    assert row["status"] == "problem"
    assert found in row["found"]
    assert fix in row["fix"]


def test_a_file_called_torch_in_the_working_folder_is_not_pytorch(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "torch.py").write_text("raise ImportError('not me')")
    assert rows(doctored(tmp_path, "--json"))["torch"]["status"] == "ok"


def test_a_pytorch_without_numpy_is_a_problem() -> None:
    row, _ = doctor.pytorch(
        {"torch": "2.6.0", "numpy_error": "RuntimeError: Numpy is not available", "torchvision": "0.21"}
    )
    assert row.status == "problem"
    assert "install --upgrade numpy" in row.fix


def test_a_broken_rich_leaves_plain_text(tmp_path: Path) -> None:
    run = doctored(tmp_path, rich="raise ImportError('half installed')")
    assert run.returncode == 0, run.stdout
    assert "ok       torch" in run.stdout
    assert "Traceback" not in run.stderr


def test_old_and_damaged_packages_are_problems_with_the_fix(tmp_path: Path) -> None:
    old, damaged = tmp_path / "tyro-0.1.dist-info", tmp_path / "safetensors-0.9.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: tyro\nVersion: 0.1\n")
    damaged.mkdir()
    (damaged / "METADATA").write_text("")
    run = doctored(tmp_path, "--json")
    found = rows(run)
    assert run.returncode == 1
    assert found["tyro"]["found"].startswith("0.1 is older than")
    assert '-m pip install --upgrade "tyro>=' in found["tyro"]["fix"]
    assert found["safetensors"]["status"] == "problem"


def test_a_check_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr(doctor, "folders", broken)
    monkeypatch.setattr(doctor, "probe", lambda: {"torch_error": "none here"})
    found = [row for row in doctor.report() if row.name == "check"]
    assert [(row.group, row.status, row.found) for row in found] == [
        ("Folders", "warning", "could not be made: OSError: the disk is gone")
    ]


@pytest.mark.parametrize(
    ("driver", "tried", "status", "found", "fix"),
    [
        ("", {"torch": "2.15.0", "cuda": []}, "note", "no NVIDIA driver", ""),
        (
            "550.54",
            {"torch": "2.15.0", "cuda": [H100]},
            "ok",
            "60 of 80 GiB free, compute 9.0, bf16, driver 550.54",
            "",
        ),
        ("550.54", {"torch": "2.15.0", "cuda": [H100 | {"worked": False}]}, "problem", "wrong product", "restart"),
        (
            "550.54",
            {"torch": "2.15.0", "cuda": []},
            "warning",
            "this PyTorch is built for CPU only",
            "uninstall -y torch",
        ),
        (
            "470.10",
            {"torch": "2.15.0", "cuda": [], "cuda_build": "13.2"},
            "warning",
            "too old",
            "update the NVIDIA driver",
        ),
        ("550.54", {"torch": "2.15.0", "cuda_error": "RuntimeError: CUDA error"}, "problem", "CUDA error", "update"),
    ],
)
def test_every_state_of_a_graphics_card_has_its_row(
    driver: str, tried: dict[str, Any], status: str, found: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "nvidia_driver", lambda: driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    row = next(iter(doctor.accelerators(tried)))
    assert (row.name, row.status) == ("CUDA", status)
    assert found in row.found
    assert fix in row.fix


def test_hidden_devices_are_told_apart_from_an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "nvidia_driver", lambda: "550.54")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    row = next(iter(doctor.accelerators({"torch": "2.15.0", "cuda": [], "cuda_build": "13.2"})))
    assert row.fix == "unset CUDA_VISIBLE_DEVICES"


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_the_driver_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.nvidia_driver() == ""
    program.write_text("#!/bin/sh\necho 550.54\necho 550.54\n")
    program.chmod(0o755)
    assert doctor.nvidia_driver() == "550.54"
    program.write_text("#!/bin/sh\necho has failed because it could not reach the driver\nexit 9\n")
    assert doctor.nvidia_driver() == ""


def test_more_threads_than_cores_are_a_warning_with_the_number_to_set() -> None:
    row = next(iter(doctor.processors(10_000)))
    assert row.status == "warning"
    assert row.fix.startswith("export OMP_NUM_THREADS=")


def scans(folder: Path, annotated: list[str], graphs: list[str]) -> Path:
    (folder / "annotations").mkdir(parents=True)
    (folder / "connectivity").mkdir()
    (folder / "annotations" / "R2R_train.json").write_text(json.dumps([{"scan": scan} for scan in annotated]))
    for scan in graphs:
        (folder / "connectivity" / f"{scan}_connectivity.json").write_text("[]")
    return folder


def test_complete_data_is_counted(tmp_path: Path) -> None:
    annotations, graphs = doctor.r2r_data(scans(tmp_path, ["a", "b", "a"], ["a", "b", "c"]))
    assert annotations.status == graphs.status == "ok"
    assert annotations.found.startswith("train 3 paths")
    assert graphs.found == "3 graphs; 2 of them of annotated buildings, and none is missing"


def test_the_other_datasets_on_the_same_graphs_are_counted_too(tmp_path: Path) -> None:
    folder = scans(tmp_path, ["a"], ["a", "b"])
    (folder / "reverie").mkdir()
    (folder / "reverie" / "REVERIE_val_unseen.json").write_text('[{"scan": "b"}]')
    (folder / "annotations" / "R4R_train.json").write_text('[{"scan": "a"}, {"scan": "b"}]')
    with gzip.open(folder / "annotations" / "rxr_val_seen_guide.jsonl.gz", "wt") as file:
        file.write('{"scan": "a"}\n{"scan": "c"}\n')
    (folder / "annotations" / "scans.json").write_text("{}")  # a file of nobody's
    *annotations, graphs = doctor.r2r_data(folder)
    told = {row.name: row.found.partition(" in ")[0] for row in annotations}
    assert told == {
        "R2R annotations": "train 1 paths",
        "R4R annotations": "train 2 paths",
        "RxR annotations": "val_seen 2 instructions",
        "REVERIE annotations": "val_unseen 1 paths",
    }
    assert graphs.found == "2 graphs; 1 of 3 annotated buildings have none: c"


def test_graphs_without_annotations_are_counted(tmp_path: Path) -> None:
    folder = scans(tmp_path, [], ["a"])
    (folder / "annotations" / "R2R_train.json").unlink()
    assert [row.found for row in doctor.r2r_data(folder)][1] == "1 graph"


def test_a_building_without_its_graph_is_a_problem_that_names_it(tmp_path: Path) -> None:
    _, graphs = doctor.r2r_data(scans(tmp_path, ["a", "b", "c", "d", "e"], ["a"]))
    assert graphs.status == "problem"
    assert graphs.found == "1 graph; 4 of 5 annotated buildings have none: b, c, d, ..."


def test_truncated_annotations_are_a_problem(tmp_path: Path) -> None:
    folder = scans(tmp_path, ["a"], ["a"])
    (folder / "annotations" / "R2R_val_seen.json").write_text('[{"scan": "a"')
    row = next(iter(doctor.r2r_data(folder)))
    assert row.status == "problem"
    assert row.fix == "fetch R2R_val_seen.json again"


def test_a_data_folder_that_was_named_must_hold_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.status for row in doctor.r2r_data(tmp_path)] == ["problem", "problem"]
    assert only(doctor.r2r_data(tmp_path / "nowhere")).status == "problem"
    monkeypatch.chdir(tmp_path)
    assert only(doctor.r2r_data(None)).status == "note"


@pytest.mark.reference
def test_the_published_data_is_complete(reference: Path) -> None:
    annotations, graphs = doctor.r2r_data(reference)
    assert annotations.found.startswith("train 4675, val_seen 340, val_unseen 783 paths")
    assert graphs.found == "90 graphs; 72 of them of annotated buildings, and none is missing"


def test_requirements_of_a_wheel_are_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    written = [(extra, name) for extra, name, _ in doctor.requirements()]
    assert ("", "torch") in written
    assert ("hdf5", "h5py") in written
    lines = ["torch>=2.6", 'h5py>=3.12; extra == "hdf5"', 'vlkit[hdf5,track]; extra == "dev"']
    monkeypatch.setattr(doctor, "_project", lambda: None)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    assert list(doctor.requirements()) == [("", "torch", "2.6"), ("hdf5", "h5py", "3.12"), ("dev", "vlkit", "")]
