from pathlib import Path

import pytest

from vlkit.cli import main
from vlkit.envs.simulator import check
from vlkit.envs.simulator.golden import Figure


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
