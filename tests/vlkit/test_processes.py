"""Processes that train together: one result, clear words when one of them fails, and nothing left behind."""

import os
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vlkit.batches import Batches
from vlkit.errors import UserError
from vlkit.processes import every_core, is_first, launched, side_by_side, wait_for_all
from vlkit.train import Step, TrainOptions, fit

X = torch.arange(32.0)[:, None] / 32
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def loss(model: nn.Linear, rows: Tensor, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
    return (model(X[rows]) - 3 * X[rows] - 1).square().mean(), {"rows": float(len(rows))}


def trained(folder: Path) -> list[float]:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    options = TrainOptions(steps=20, learning_rate=0.1, device="cpu", log_every=5)
    fit(model, loss, Batches(len(X), 8, torch.tensor), options=options, folder=folder)
    return [model.weight.item(), model.bias.item()]


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    alone = trained(tmp_path / "one")
    threads = torch.get_num_threads()
    with side_by_side(2, trained, tmp_path / "two"):
        assert launched()
        assert is_first()
        together = trained(tmp_path / "two")
        with every_core():
            assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    assert together == pytest.approx(alone, abs=1e-5)
    assert '"rows": 4.0' in (tmp_path / "two" / "log.jsonl").read_text(), "each has half of the batch"
    assert not launched()
    assert torch.get_num_threads() == threads
    assert not any(name in os.environ for name in VARIABLES)
    assert trained(tmp_path / "after") == pytest.approx(alone, abs=1e-6), "alone again"


def failing(folder: Path, error: type[Exception]) -> None:
    if not is_first():
        raise error("no room for the second")
    trained(folder)


@pytest.mark.parametrize("error", [UserError, ZeroDivisionError])
def test_what_stopped_another_process_is_told(tmp_path: Path, error: type[Exception]) -> None:
    expected = UserError if error is UserError else RuntimeError
    with pytest.raises(expected, match="no room for the second"), side_by_side(2, failing, tmp_path, error):
        failing(tmp_path, error)
    assert not launched()


def waiting(folder: Path) -> None:
    wait_for_all()
    time.sleep(0 if is_first() else 60)


def test_one_process_needs_no_other(tmp_path: Path) -> None:
    with side_by_side(1, waiting, tmp_path):
        wait_for_all()
        assert not launched()
        assert is_first()
    with pytest.raises(ValueError, match="my own"), side_by_side(2, time.sleep, 60):
        raise ValueError("my own")
    assert not launched()
