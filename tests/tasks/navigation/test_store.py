"""The store of recorded walks: whole rounds or none, bounded, and clear about a disk that is full."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vlkit.errors import UserError
from vlkit.tasks.navigation.store import MARKER, Store


def store(folder: Path, most_frames: int = 100, lent: Path | None = None, source: str = "") -> Store:
    return Store(folder, size=8, parts=2, most_frames=most_frames, lent=lent, source=source)


def walk(steps: int, shade: int) -> dict[str, Tensor]:
    return {
        "rgb": torch.full((steps, 8, 8, 3), shade, dtype=torch.uint8),
        "depth": torch.full((steps, 8, 8, 1), shade + 1, dtype=torch.uint8),
        "categories": torch.full((steps, 2, 2), shade + 2, dtype=torch.uint8),
        "last_action": torch.arange(steps) % 5,
        "expert": torch.arange(steps) % 4,
        "progress": torch.arange(steps) / steps,
        "goal": torch.arange(3 * steps).reshape(steps, 3) / 2,
    }


def recorded(kept: Store, number: int, *steps: int) -> None:
    with kept.writer(number, sum(steps)) as writer:
        for i, count in enumerate(steps):
            writer.add(10 * number + i, **walk(count, shade=10 * number + i))


def test_walks_come_back_as_they_were_written(tmp_path: Path) -> None:
    kept = store(tmp_path)
    recorded(kept, 0, 3, 5)
    recorded(kept, 1, 2)
    table = kept.walks(0, 1)
    assert table.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert kept.episodes(table).tolist() == [0, 1, 10]
    read = kept.read(table[[2, 0]])
    assert read.episodes.tolist() == [10, 0]
    assert read.steps.tolist() == [2, 3]
    assert read.rgb[:, 0, 0, 0].tolist() == [10, 10, 0, 0, 0]
    assert read.depth[:, 0, 0, 0].tolist() == [11, 11, 1, 1, 1]
    assert read.categories[:, 1, 1].tolist() == [12, 12, 2, 2, 2]
    assert read.last_action.tolist() == [0, 1, 0, 1, 2]
    assert read.expert.tolist() == [0, 1, 0, 1, 2]
    assert read.progress.tolist() == pytest.approx([0, 0.5, 0, 1 / 3, 2 / 3])
    assert read.goal[:, 1].tolist() == [0.5, 2.0, 0.5, 2.0, 3.5]


def test_what_is_read_may_be_written_to(tmp_path: Path) -> None:
    kept = store(tmp_path)
    recorded(kept, 0, 3)
    kept.read([[0, 0]]).rgb.zero_()
    recorded(kept, 1, 3)
    kept.read([[1, 0]]).rgb.fill_(7)
    assert set(kept.read([[1, 0]]).rgb.flatten().tolist()) == {10}


def test_an_interrupted_round_leaves_nothing(tmp_path: Path) -> None:
    kept = store(tmp_path)

    def interrupted() -> None:
        with kept.writer(0, 3) as writer:
            writer.add(0, **walk(3, 0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert kept.numbers() == []
    assert list(tmp_path.glob("*round*")) == []


def test_what_a_killed_recording_left_is_recorded_anew(tmp_path: Path) -> None:
    kept = store(tmp_path)
    (tmp_path / ".round-0000.tmp").mkdir(parents=True)
    (tmp_path / ".round-0000.tmp" / "rgb").write_bytes(b"half")
    recorded(kept, 0, 3)
    assert kept.numbers() == [0]
    assert sorted(each.name for each in tmp_path.glob("*round*")) == ["round-0000"]


def test_the_oldest_rounds_make_room(tmp_path: Path) -> None:
    kept = store(tmp_path, most_frames=10)
    for number in range(3):
        recorded(kept, number, 4)
    assert kept.make_room() == [0]
    assert kept.numbers() == [1, 2]
    kept.delete([0])
    assert not kept.path(0).exists()
    assert kept.walks(0, 2)[:, 0].tolist() == [1, 2]


def test_what_another_run_lends_does_not_come_back_behind_a_gap(tmp_path: Path) -> None:
    recorded(store(tmp_path / "other"), 0, 1)
    kept = store(tmp_path / "own", most_frames=8, lent=tmp_path / "other" / "round-0000")
    recorded(kept, 1, 7)
    recorded(kept, 2, 5)
    assert kept.make_room() == [0, 1]
    kept.delete([0, 1])
    again = store(tmp_path / "own", most_frames=8, lent=tmp_path / "other" / "round-0000")
    assert again.make_room() == [0]
    assert again.numbers() == [2]
    assert (tmp_path / "other" / "round-0000").is_dir(), "what is lent is not the borrower's to delete"


def test_a_round_of_other_episodes_is_refused(tmp_path: Path) -> None:
    recorded(store(tmp_path, source="these"), 0, 3)
    with pytest.raises(
        UserError, match=r"round-0000 was recorded from other episodes or with other settings; delete it"
    ):
        store(tmp_path, source="those").walks(0, 0)


def test_two_processes_cannot_record_in_one_folder(tmp_path: Path) -> None:
    with store(tmp_path).writer(0, 3) as writer:
        code = (
            "from pathlib import Path; from vlkit.tasks.navigation.store import Store\n"
            f"with Store(Path({str(tmp_path)!r}), size=8, parts=2, most_frames=9).writer(0, 3): pass"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process is recording walks in" in other.stderr
        writer.add(0, **walk(3, 0))
    assert store(tmp_path).numbers() == [0]


def test_a_round_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="about 11 frames does not fit into a store of 10; record fewer episodes"):
        store(tmp_path, most_frames=10).writer(0, 11)


def test_a_disk_without_room_is_told_before_a_round_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"a round of 50 frames takes .* GiB in .*, where 0.0 GiB are free; free some"):
        store(tmp_path).writer(0, 50)


def test_a_disk_that_fills_up_loses_the_round_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store(tmp_path)
    recorded(kept, 0, 3)

    class Full:
        def write(self, part: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def filled() -> None:
        with kept.writer(1, 6) as writer:
            writer.add(1, **walk(3, 0))
            writer.files["rgb"] = Full()  # type: ignore[assignment]
            writer.add(2, **walk(3, 0))

    with pytest.raises(UserError, match=r"no space left on the disk for the walks of .*round-0001 after 3 frames"):
        filled()
    assert [each.name for each in tmp_path.glob("*round*")] == ["round-0000"]


@pytest.mark.parametrize("file", ["rgb", "walks", "steps", MARKER])
def test_a_damaged_round_is_told(tmp_path: Path, file: str) -> None:
    recorded(store(tmp_path), 0, 3, 4)
    path = tmp_path / "round-0000" / file
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"round-0000 is damaged \(.*\); delete it, and the round is recorded anew"):
        store(tmp_path).round(0)


def test_a_round_is_lent_to_another_run(tmp_path: Path) -> None:
    lender = store(tmp_path / "one")
    recorded(lender, 0, 3)
    borrower = store(tmp_path / "two", most_frames=5, lent=lender.path(0))
    assert borrower.numbers() == [0]
    recorded(borrower, 1, 4)
    assert borrower.make_room() == [0]
    assert borrower.numbers() == [1]
    assert lender.numbers() == [0], "what was lent is not the borrower's to remove"


def test_a_store_may_be_on_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        store(tmp_path / "file" / "store").writer(0, 3)


def test_the_marker_says_what_the_frames_are(tmp_path: Path) -> None:
    recorded(store(tmp_path), 0, 3)
    said = json.loads((tmp_path / "round-0000" / MARKER).read_text())
    assert (said["size"], said["parts"], said["frames"]) == (8, 2, 3)
    assert np.fromfile(tmp_path / "round-0000" / "rgb", np.uint8).size == 3 * 8 * 8 * 3
