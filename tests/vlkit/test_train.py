import copy
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vlkit
from vlkit import checkpoint
from vlkit.batches import Batches, seed_everything
from vlkit.errors import UserError
from vlkit.train import FitResult, Step, TrainingDiverged, TrainOptions, chosen_device, fit, learning_rate

EXAMPLES = 30
INPUTS = torch.linspace(-1, 1, EXAMPLES * 3).reshape(EXAMPLES, 3)
TARGETS = (INPUTS**2).sum(1)
# For most tests: everything happens often, nothing is left to defaults that slow a test.
QUICK = TrainOptions(
    steps=12, learning_rate=0.01, evaluate_every=4, save_every=5, log_every=3, tensorboard=False, device="cpu"
)


class Net(nn.Module):
    """Dropout makes the weights depend on every random number, batch norm on every batch."""

    def __init__(self, dim: int = 6, dropout: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, dim), nn.BatchNorm1d(dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, 1)
        )

    def predict(self, inputs: Tensor) -> Tensor:
        """A method beside `forward`, as the losses of agents call several."""
        return self.layers(inputs)[:, 0]  # type: ignore[no-any-return]


def net(dim: int = 6, dropout: float = 0.3) -> Net:
    seed_everything(3)
    return Net(dim, dropout)


def weight(model: Net) -> Tensor:
    return model.get_parameter("layers.0.weight")


def collate(indices: list[int]) -> tuple[Tensor, Tensor]:
    return INPUTS[indices], TARGETS[indices]


def batches(batch_size: int = 8, workers: int = 0) -> Batches[tuple[Tensor, Tensor]]:
    return Batches(EXAMPLES, batch_size, collate, workers=workers, name=lambda i: f"example-{i}")


def loss(model: Net, batch: tuple[Tensor, Tensor], step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
    inputs, targets = batch
    # Random numbers of all three generators, as the rollouts of an agent may draw them.
    noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
    error = (model.predict(inputs) - targets - 0.1 * noise).square().mean()
    return error, {"noise": noise, "error": error}


def evaluate(model: Net, step: int) -> dict[str, float]:
    # Draws random numbers too: they must not disturb the training.
    return {"val/error": float((model.predict(INPUTS) - TARGETS).square().mean()), "val/luck": random.random()}


def run(folder: Path, options: TrainOptions = QUICK, model: Net | None = None, **others: Any) -> FitResult:
    arguments: dict[str, Any] = {"config": {"dim": 6}, "evaluate": evaluate, "batches": batches()} | others
    return fit(model or net(), options=options, folder=folder, **{"loss": loss, **arguments})


def final(folder: Path) -> dict[str, bytes]:
    """Every byte that the last checkpoint of a run holds, except for its times."""
    state = checkpoint.step_folder(folder / "checkpoints", checkpoint.steps_saved(folder / "checkpoints")[-1])
    files = {path.name: path.read_bytes() for path in state.iterdir()}
    progress = json.loads(files.pop("state.json"))
    for key in ("seconds", "log_bytes"):
        progress["progress"].pop(key)
    return files | {"state.json": json.dumps(progress).encode()}


def log(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_run(left: Path, right: Path) -> None:
    assert log(left) == log(right)
    assert final(left) == final(right)
    if (left / "best").exists() or (right / "best").exists():
        for name in ("model.safetensors", "config.json"):
            assert (left / "best" / name).read_bytes() == (right / "best" / name).read_bytes()


@contextmanager
def stopped_after(step: int) -> Iterator[Any]:
    """A loss that asks the process to stop in the middle of a step, as Ctrl-C does."""

    def interrupting(model: Net, batch: Any, at: Step) -> Any:
        if at.index == step:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(model, batch, at)

    with pytest.raises(KeyboardInterrupt, match=f"stopped after step {step + 1} of"):
        yield interrupting


# What a step does


def test_the_loop_does_what_the_same_loop_in_plain_torch_does(tmp_path: Path) -> None:
    options = replace(QUICK, clip_norm=0.5, optimizer="adamw", weight_decay=0.1, schedule="linear", warmup_steps=3)
    seed_everything(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    bare = copy.deepcopy(model)

    def plain_loss(model: nn.Module, batch: Any, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        return (model(batch[0])[:, 0] - batch[1]).square().mean(), {}

    fit(model, plain_loss, batches(), options=options, folder=tmp_path)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1.0, weight_decay=0.1)
    for step in range(options.steps):
        rate = 0.01 * (step + 1) / 3 if step < 3 else 0.01 * (1 - (step - 3) / 9)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        inputs, targets = collate(batches().indices(step, seed=0))
        (bare(inputs)[:, 0] - targets).square().mean().backward()
        nn.utils.clip_grad_norm_(bare.parameters(), 0.5)
        optimizer.step()
    for ours, theirs in zip(model.state_dict().values(), bare.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_lowers_the_loss(
    tmp_path: Path, optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
) -> None:
    run(tmp_path, replace(QUICK, optimizer=optimizer, learning_rate=0.03, steps=60, momentum=0.5, log_every=10))
    errors = [line["loss"] for line in log(tmp_path) if "loss" in line]
    assert errors[-1] < 0.7 * errors[0]


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    def plain_loss(model: nn.Module, batch: Any, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        error = (model(batch[0])[:, 0] - batch[1]).square().mean()
        return error, {"error": error}

    weights, lines = [], []
    for accumulate in (1, 2, 4):
        seed_everything(0)
        model = nn.Linear(3, 1)
        folder = tmp_path / str(accumulate)
        options = replace(QUICK, accumulate=accumulate, optimizer="sgd", clip_norm=1.0)
        fit(model, plain_loss, batches(), options=options, folder=folder)
        weights.append(model.weight.detach())
        lines.append(log(folder)[-1])
    torch.testing.assert_close(weights[1], weights[0])
    torch.testing.assert_close(weights[2], weights[0])
    for key in ("loss", "error", "gradient_norm"):
        assert lines[1][key] == pytest.approx(lines[0][key], rel=1e-4)


def test_the_norm_is_clipped_and_the_unclipped_one_is_logged(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)

    def steep(model: nn.Module, batch: Any, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        return (model(torch.tensor([[30.0, 40.0]]))).sum(), {}

    options = replace(QUICK, steps=3, optimizer="sgd", learning_rate=1.0, clip_norm=5.0)
    fit(model, steep, batches(), options=options, folder=tmp_path)
    # The gradient (30, 40) has norm 50; three steps of length 5 along it.
    assert model.weight.tolist()[0] == pytest.approx([-9.0, -12.0], rel=1e-4)
    assert log(tmp_path)[-1]["gradient_norm"] == 50.0


def test_the_loss_is_told_where_it_is(tmp_path: Path) -> None:
    seen = []

    def curious(model: Net, batch: Any, step: Step) -> Any:
        seen.append(step)
        return loss(model, batch, step)

    run(tmp_path, replace(QUICK, steps=3, accumulate=2), loss=curious)
    assert [(step.index, step.steps) for step in seen] == [(0, 3), (0, 3), (1, 3), (1, 3), (2, 3), (2, 3)]
    assert len({step.seed for step in seen}) == 6
    assert seen[0].device == torch.device("cpu")


def test_a_parameter_that_is_frozen_or_not_used_stays(tmp_path: Path) -> None:
    model = net()
    weight(model).requires_grad_(False)
    model.spare = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(tmp_path, model=model)
    after = model.state_dict()
    assert torch.equal(before["layers.0.weight"], after["layers.0.weight"])
    assert torch.equal(before["spare.weight"], after["spare.weight"])
    assert not torch.equal(before["layers.4.weight"], after["layers.4.weight"])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_schedules_have_their_closed_form(schedule: Literal["constant", "cosine", "linear"]) -> None:
    options = TrainOptions(steps=110, learning_rate=2.0, schedule=schedule, warmup_steps=10, final_fraction=0.25)
    rates = [learning_rate(options, step) for step in range(110)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    quarter, half = {
        "constant": (2.0, 2.0),
        "cosine": (0.5 + 1.5 * (1 + math.sqrt(0.5)) / 2, 1.25),
        "linear": (0.5 + 1.5 * 0.75, 1.25),
    }[schedule]
    assert rates[35] == pytest.approx(quarter)
    assert rates[60] == pytest.approx(half)
    assert learning_rate(options, 110) == pytest.approx(2.0 if schedule == "constant" else 0.5)


def test_bf16_computes_in_half_and_keeps_full_weights(tmp_path: Path) -> None:
    kinds = set()

    def typed(model: Net, batch: Any, step: Step) -> Any:
        # A rollout without gradients first: its casts must not cut the gradients of the second pass.
        with torch.no_grad():
            model.predict(batch[0])
        prediction = model.predict(batch[0])
        kinds.add(prediction.dtype)
        return (prediction.float() - batch[1]).square().mean(), {}

    model = net()
    before = weight(model).detach().clone()
    run(tmp_path, replace(QUICK, precision="bf16"), model=model, loss=typed)
    assert kinds == {torch.bfloat16}
    assert weight(model).dtype == torch.float32
    assert not torch.equal(weight(model), before)


def test_evaluation_runs_without_dropout_and_gradients_and_training_goes_on_with_them(tmp_path: Path) -> None:
    seen = []

    def curious(model: Net, step: int) -> dict[str, float]:
        seen.append((step, model.training, torch.is_grad_enabled()))
        return {}

    model = net()
    run(tmp_path, model=model, evaluate=curious)
    assert seen == [(4, False, False), (8, False, False), (12, False, False)]
    assert model.training


def test_how_often_one_looks_does_not_change_the_weights(tmp_path: Path) -> None:
    weights = []
    for every in (1, 5, 100):
        model = net()
        run(tmp_path / str(every), replace(QUICK, evaluate_every=every, save_every=every, log_every=every), model=model)
        weights.append(weight(model))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_workers_change_nothing(tmp_path: Path) -> None:
    run(tmp_path / "alone")
    run(tmp_path / "helped", batches=batches(workers=1))
    assert_same_run(tmp_path / "alone", tmp_path / "helped")


# What a run leaves


def test_the_log_has_means_over_its_window(tmp_path: Path) -> None:
    values = iter(range(12))

    def counting(model: Net, batch: Any, step: Step) -> Any:
        error, _ = loss(model, batch, step)
        numbers: dict[str, float] = {"count": float(next(values))}
        return error, numbers | ({"late": 7.0} if step.index == 11 else {})

    result = run(tmp_path, replace(QUICK, schedule="linear"), loss=counting)
    lines = [line for line in log(tmp_path) if "loss" in line]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert [line["count"] for line in lines] == [1.0, 4.0, 7.0, 10.0]
    assert [line.get("late") for line in lines] == [None, None, None, 7.0]
    assert lines[0]["epoch"] == pytest.approx(3 * 8 / EXAMPLES)
    assert lines[0]["learning_rate"] == pytest.approx(0.01 * (1 - 2 / 12))
    assert set(result.seconds) == {"data", "forward", "backward", "optimizer", "evaluate", "save", "other"}
    raw = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert raw["step"] == 12
    assert result.minutes == pytest.approx(sum(result.seconds.values()) / 60)


def test_the_summary_says_where_the_time_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, replace(QUICK, monitor="val/error", higher_is_better=False))
    text = capsys.readouterr().err
    assert "step 4: val/error" in text
    assert "(best so far)" in text
    assert "12 steps in 0:00:0" in text
    for section in ("forward", "backward", "optimizer", "data", "evaluate", "save"):
        assert section in text.splitlines()[-1]
    assert "best val/error" in text


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run(tmp_path, replace(QUICK, save_every=2, keep=3))
    assert checkpoint.steps_saved(tmp_path / "checkpoints") == [8, 10, 12]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoints", "log.jsonl"]


def test_the_best_weights_are_kept_apart(tmp_path: Path) -> None:
    scores = {4: 0.2, 8: 0.9, 12: 0.5}
    weights = {}

    def scripted(model: Net, step: int) -> dict[str, float]:
        weights[step] = weight(model).clone()
        return {"val/score": scores[step], "val/other": float(step)}

    result = run(tmp_path, replace(QUICK, monitor="val/score"), evaluate=scripted, files={"words.txt": "red"})
    assert (result.best_step, result.best_metrics) == (8, {"val/score": 0.9, "val/other": 8.0})
    assert result.metrics == {"val/score": 0.5, "val/other": 12.0}
    assert result.best == tmp_path / "best"
    config, tensors = checkpoint.load_weights(tmp_path / "best")
    assert config == {"dim": 6}
    assert torch.equal(tensors["layers.0.weight"], weights[8])
    assert (tmp_path / "best" / "words.txt").read_text() == "red"
    assert [line["step"] for line in log(tmp_path) if line.get("best")] == [4, 8]


def test_training_ends_when_patience_does(tmp_path: Path) -> None:
    scores = iter([5.0, 3.0, 4.0, 3.5, 2.0, 1.0])
    options = replace(QUICK, steps=24, monitor="val/loss", higher_is_better=False, patience=2)
    result = run(tmp_path, options, evaluate=lambda model, step: {"val/loss": next(scores)})
    assert (result.stopped, result.steps, result.best_step) == ("patience", 16, 8)
    assert checkpoint.steps_saved(tmp_path / "checkpoints")[-1] == 16
    again = run(tmp_path, options, evaluate=lambda model, step: {"val/loss": next(scores)})
    assert (again.stopped, again.steps, again.best_step, again.resumed_from) == ("patience", 16, 8, 16)
    longer = run(tmp_path, replace(options, patience=3), evaluate=lambda model, step: {"val/loss": next(scores)})
    assert (longer.stopped, longer.steps, longer.best_step) == ("steps", 24, 24)


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    scores = {4: math.nan, 8: 0.5, 12: math.nan}
    result = run(tmp_path, replace(QUICK, monitor="score"), evaluate=lambda model, step: {"score": scores[step]})
    assert (result.best_step, result.best_metrics) == (8, {"score": 0.5})
    assert [line["evaluate"]["score"] for line in log(tmp_path) if "evaluate" in line] == [None, 0.5, None]
    assert math.isnan(result.metrics["score"])


def test_tensorboard_files_are_written_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    run(tmp_path, replace(QUICK, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [3, 6, 9, 12]
    assert [event.step for event in events.Scalars("val/error")] == [4, 8, 12]


def test_no_tensorboard_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run(tmp_path, replace(QUICK, tensorboard=True))
    assert not (tmp_path / "tensorboard").exists()


# Interrupted and continued

HARD = replace(
    QUICK,
    steps=30,
    accumulate=2,
    schedule="cosine",
    warmup_steps=4,
    clip_norm=1.0,
    weight_decay=0.01,
    monitor="val/error",
    higher_is_better=False,
    patience=50,
    evaluate_every=4,
    save_every=5,
    log_every=3,
)


class Average:
    """A running mean of the noise that the loss subtracts: a state beside the model."""

    def __init__(self) -> None:
        self.mean = torch.zeros(())

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]


def hard(folder: Path, options: TrainOptions = HARD, loss: Any = loss, workers: int = 0) -> FitResult:
    average = Average()

    def centred(model: Net, batch: Any, step: Step) -> Any:
        error, numbers = loss(model, batch, step)
        average.mean = 0.9 * average.mean + 0.1 * numbers["noise"]
        return error * (1 + 0.1 * average.mean), numbers | {"mean": average.mean}

    return run(folder, options, loss=centred, extra_state=average, batches=batches(workers=workers))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    hard(folder)
    return folder


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path, uninterrupted: Path) -> None:
    hard(tmp_path / "same")
    hard(tmp_path / "other", replace(HARD, seed=1))
    assert_same_run(tmp_path / "same", uninterrupted)
    assert log(tmp_path / "other") != log(uninterrupted)


# Step 19 (from 0) ends with a save and an evaluation, 29 is the last one, 0 the first.
@pytest.mark.parametrize("steps", [(0,), (1, 2, 9), (19,), (11, 12, 25), (29,)])
def test_ctrl_c_saves_after_the_step_and_the_run_goes_on_to_the_same_weights(
    tmp_path: Path, uninterrupted: Path, steps: tuple[int, ...]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    for step in steps:
        with stopped_after(step) as interrupting:
            hard(tmp_path, loss=interrupting)
        assert checkpoint.steps_saved(tmp_path / "checkpoints")[-1] == step + 1
    assert signal.getsignal(signal.SIGINT) == before
    result = hard(tmp_path)
    assert (result.steps, result.resumed_from) == (30, steps[-1] + 1)
    assert_same_run(tmp_path, uninterrupted)
    finished = hard(tmp_path)
    assert (finished.resumed_from, finished.metrics) == (30, result.metrics)
    assert_same_run(tmp_path, uninterrupted)


def test_sigterm_stops_as_ctrl_c_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ended(model: Net, batch: Any, step: Step) -> Any:
        if step.index == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(model, batch, step)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, loss=ended)
    assert "stopped after step 7 of 12; run the same command again to continue" in capsys.readouterr().err


def test_a_process_that_is_killed_goes_on_to_the_same_weights(others: dict[str, Any], uninterrupted: Path) -> None:
    moments = others["killed"]
    assert not any(moment["failed"] for moment in moments)
    assert all(moment["killed"] for moment in moments[:8])  # at chosen places; the others may come to the end first
    assert not moments[-1]["killed"]
    folder = Path(others["folder"]) / "run"
    assert_same_run(folder, uninterrupted)
    left = [path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".old"))]
    assert not left


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    constant = replace(HARD, schedule="constant")
    hard(tmp_path / "short", replace(constant, steps=20))
    result = hard(tmp_path / "short", constant)
    hard(tmp_path / "long", constant)
    assert (result.resumed_from, result.steps) == (20, 30)
    short, long = (
        checkpoint.load_weights(folder / "checkpoints" / "step-000000030")[1]
        for folder in (tmp_path / "short", tmp_path / "long")
    )
    assert all(torch.equal(short[name], long[name]) for name in long)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate = 0.01, and now it is 0.5; set learning_rate back to 0.01"),
        ({"seed": 4}, "seed = 0, and now it is 4"),
        ({"steps": 11}, "steps = 12, and now it is 11; a finished run can only be made longer"),
        ({"accumulate": 2}, "accumulate = 1, and now it is 2"),
        ({"clip_norm": 1.0}, "clip_norm = None, and now it is 1.0"),
    ],
)
def test_options_that_would_change_the_run_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    run(tmp_path)
    before = final(tmp_path)
    with pytest.raises(UserError) as error:
        run(tmp_path, replace(QUICK, **changed))
    assert message in str(error.value)
    assert "or name a new folder to start afresh" in str(error.value)
    assert final(tmp_path) == before


def test_other_batches_and_another_config_are_refused(tmp_path: Path) -> None:
    run(tmp_path, config={"model": {"dim": 6, "kind": "lstm"}})
    with pytest.raises(UserError, match="batch_size = 8, and now it is 4"):
        run(tmp_path, config={"model": {"dim": 6, "kind": "lstm"}}, batches=batches(4))
    with pytest.raises(UserError, match="model.kind = 'lstm', and now it is 'gru'"):
        run(tmp_path, config={"model": {"dim": 6, "kind": "gru"}})
    with pytest.raises(UserError, match="model.layers = None, and now it is 2"):
        run(tmp_path, config={"model": {"dim": 6, "kind": "lstm", "layers": 2}})


def test_what_changes_no_weight_may_change(tmp_path: Path) -> None:
    run(tmp_path, replace(QUICK, steps=6), config={"dim": 6, "steps": 6, "data": {"folder": "here"}})
    result = run(
        tmp_path,
        replace(QUICK, keep=1, save_every=2, log_every=1),
        batches=batches(workers=1),
        config={"dim": 6, "steps": 12, "data": {"folder": "there"}},
        may_change=["data.folder"],
    )
    assert (result.resumed_from, result.steps) == (6, 12)


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "damaged")
    broken = tmp_path / "damaged" / "checkpoints" / "step-000000012"
    (broken / "state.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="step-000000012/state.safetensors cannot be read"):
        run(tmp_path / "damaged")
    for path in broken.iterdir():
        path.unlink()
    broken.rmdir()
    assert run(tmp_path / "damaged").resumed_from == 10
    assert_same_run(tmp_path / "damaged", tmp_path / "whole")


def test_two_processes_do_not_share_a_folder(others: dict[str, Any]) -> None:
    assert "another process is training in" in others["refused"]
    assert "wait for it or name another folder" in others["refused"]
    assert [line["step"] for line in log(Path(others["folder"]) / "shared")] == [3, 4, 6, 8, 9, 12, 12]


def test_two_processes_train_as_one_does(others: dict[str, Any]) -> None:
    """Gradients, numbers in the log and a stop are averaged over processes that see half of each batch."""
    folder = Path(others["folder"])
    _, one = checkpoint.load_weights(folder / "one" / "checkpoints" / "step-000000012")
    _, two = checkpoint.load_weights(folder / "two" / "checkpoints" / "step-000000012")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    for left, right in zip(log(folder / "one"), log(folder / "two"), strict=True):
        assert left.keys() == right.keys()
        assert left["step"] == right["step"]
        if "loss" in left:
            assert right["loss"] == pytest.approx(left["loss"], rel=1e-3)
            assert right["error"] == pytest.approx(left["error"], rel=1e-3)
    seen = [json.loads((folder / f"seen{rank}.json").read_text()) for rank in range(2)]
    for step, (mine, yours) in enumerate(zip(*seen, strict=True)):
        assert mine + yours == batches().indices(step, seed=0)


# What goes wrong


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_examples(tmp_path: Path) -> None:
    def diverging(model: Net, batch: Any, step: Step) -> Any:
        error, numbers = loss(model, batch, step)
        return error * (math.nan if step.index == 7 else 1.0), numbers

    model = net()
    with pytest.raises(TrainingDiverged) as error:
        run(tmp_path, model=model, loss=diverging)
    text = str(error.value)
    assert "the loss is nan at step 7 on the examples example-" in text
    assert f"example-{batches().indices(7, seed=0)[0]}, " in text
    assert "the last checkpoint is of step 5" in text
    assert "new folder with a learning_rate below 0.01" in text
    assert checkpoint.steps_saved(tmp_path / "checkpoints") == [5]
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    class Corner(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(context: Any, *gradients: Tensor) -> Tensor:
            return gradients[0] * math.inf

    model = nn.Linear(3, 1)
    before = model.weight.detach().clone()

    def cornered(model: nn.Module, batch: Any, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        return Corner.apply(model(batch[0]).mean()), {}

    with pytest.raises(TrainingDiverged, match="the gradient's norm is (inf|nan) .* at step 0 .* is none yet"):
        fit(model, cornered, batches(20), options=QUICK, folder=tmp_path)
    assert torch.equal(model.weight, before)


def test_many_examples_are_not_all_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="and 12 more"):
        run(tmp_path, batches=batches(20), loss=lambda model, batch, step: (loss(model, batch, step)[0] * math.inf, {}))


def test_a_monitor_that_is_not_evaluated_is_explained_and_the_steps_are_not_lost(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        run(tmp_path, replace(QUICK, monitor="val/eror", higher_is_better=False))
    assert "monitor is 'val/eror', which the evaluation does not return. Did you mean 'val/error'?" in str(error.value)
    assert "It returns: val/error, val/luck" in str(error.value)
    result = run(tmp_path, replace(QUICK, monitor="val/error", higher_is_better=False))
    assert result.resumed_from == 4
    assert result.best_step is not None


def test_an_evaluation_that_fails_does_not_cost_the_steps_before_it(tmp_path: Path) -> None:
    def broken(model: Net, step: int) -> dict[str, float]:
        raise ZeroDivisionError("nothing to divide")

    run(tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "broken", evaluate=broken)
    assert run(tmp_path / "broken").resumed_from == 4
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_full_disk_stops_the_run_and_it_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "whole")

    def full(*names: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:

        def filling(model: Net, batch: Any, step: Step) -> Any:
            if step.index == 8:
                patch.setattr(checkpoint, "save_file", full)
            return loss(model, batch, step)

        with pytest.raises(UserError, match="cannot write .*step-000000010: No space left on device"):
            run(tmp_path / "full", loss=filling)
    assert checkpoint.steps_saved(tmp_path / "full" / "checkpoints") == [5]
    assert run(tmp_path / "full").resumed_from == 5
    assert_same_run(tmp_path / "whole", tmp_path / "full")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 0}, "steps is 0 and must be at least 1; say how many steps to train"),
        ({"accumulate": 0}, "accumulate is 0 and must be at least 1; 1 does not split the batch"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0 and must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0 and must not be negative; 0 is none"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0 and must be above 0"),
        ({"final_fraction": 2.0}, "final_fraction is 2.0 and must be from 0 to 1; 0 ends at"),
        ({"warmup_steps": 12}, "warmup_steps is 12 and must be below steps, which is 12; lower it or train longer"),
        ({"patience": 0, "monitor": "a"}, "patience is 0 and must be at least 1"),
        ({"patience": 3}, "not set; name a metric"),
        ({"optimizer": "adan"}, "optimizer is 'adan' and must be one of adam, .* Did you mean 'adam'"),
        ({"schedule": "cosin"}, "schedule is 'cosin' .* Did you mean 'cosine'"),
        ({"precision": "bf8"}, "precision is 'bf8'"),
        ({"device": "gpu"}, "device is 'gpu' and must be one of cpu, cuda, mps"),
    ],
)
def test_options_that_cannot_be_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(QUICK, **changed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_where_there_is_none_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device cuda was asked for, but torch finds none here.* Use --device cpu"):
        run(tmp_path / "run", replace(QUICK, device="cuda"))
    assert not (tmp_path / "run").exists()
    assert chosen_device("cpu") == torch.device("cpu")
    assert chosen_device(None).type in ("cpu", "mps")
    with pytest.raises(UserError, match="precision fp16 needs a CUDA GPU and the device is cpu"):
        run(tmp_path / "run", replace(QUICK, precision="fp16"))


def test_a_task_can_leave_a_device_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert chosen_device(None).type == "mps"
    assert chosen_device(None, allowed=("cpu", "cuda")).type == "cpu"
    with pytest.raises(UserError, match="device mps was asked for, but this task computes on cpu or cuda alone"):
        chosen_device("mps", allowed=("cpu", "cuda"))
    with pytest.raises(UserError, match="it finds: cpu. Use --device cpu"):
        chosen_device("cuda", allowed=("cpu", "cuda"))
    with pytest.raises(UserError, match="device is 'gpu' and must be one of cpu, cuda"):
        chosen_device("gpu", allowed=("cpu", "cuda"))


@pytest.mark.parametrize(
    ("rank", "devices", "expected"),
    [(None, 4, "cuda"), ("0", 4, "cuda:0"), ("3", 4, "cuda:3"), ("3", 1, "cuda:0"), ("-1", 4, "cuda")],
)
def test_each_process_of_a_launcher_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, devices: int, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert chosen_device(None) == chosen_device("cuda") == torch.device(expected)
    assert chosen_device("cpu") == torch.device("cpu")


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size 8 does not divide into 3 equal parts .*make it a multiple of 3"):
        run(tmp_path, replace(QUICK, accumulate=3))


def test_a_monitor_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="monitor is 'val/error' but nothing is evaluated"):
        run(tmp_path, replace(QUICK, monitor="val/error"), evaluate=None)


def test_a_loss_that_is_no_scalar_of_the_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="scalar that depends on the parameters"):
        run(tmp_path, loss=lambda model, batch, step: (model.predict(batch[0]), {}))
    with pytest.raises(TypeError, match="scalar that depends on the parameters"):
        run(tmp_path, loss=lambda model, batch, step: (torch.zeros(()), {}))


def test_a_model_that_is_frozen_throughout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no parameter of Net is trained"):
        run(tmp_path, model=net().requires_grad_(False))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/run.*/file is a file, not a folder; name another folder"):
        run(tmp_path / "file" / "run")


# The other processes of the tests above: this file run as a program. It forks, so torch is imported once.


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("others")
    environment = os.environ | {"PYTHONPATH": str(Path(vlkit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def forked(work: Any) -> int:
    """Runs `work` in a child; returns the child's process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def killed(folder: Path) -> list[dict[str, Any]]:
    """Trains in `folder`, killed again and again: at chosen places of a save, then at any time."""

    def dying_in(name: str, call: int) -> Any:
        """Before this call of the named function of the module `os`, or of safetensors' writer, the process dies."""
        calls = 0
        owner: Any = checkpoint if name == "save_file" else os
        original = getattr(owner, name)

        def dying(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                if name == "save_file":
                    Path(arguments[1]).write_bytes(b"\x08\x00\x00\x00half")
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        def work() -> None:
            setattr(owner, name, dying)
            hard(folder / "run")

        return work

    def dying_soon(steps: int, seconds: float) -> Any:
        """So many steps after its start the process has so long to live."""
        begun = 0

        def mortal(model: Net, batch: Any, step: Step) -> Any:
            nonlocal begun
            begun += 1
            if begun == 2 * steps:  # a step has two parts
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            time.sleep(0.002)
            return loss(model, batch, step)

        # The workers of a killed process live on for a while: they must not keep the next one from the folder.
        return lambda: hard(folder / "run", loss=mortal, workers=steps % 2)

    # 1st save_file: the weights of `best` at step 4; 2nd: those of the state at step 5; 3rd: its optimizer.
    places = [("save_file", 1), ("save_file", 3), ("rename", 1), ("rename", 2), ("rename", 4), ("fsync", 9)]
    places += [("truncate", 1), ("rename", 3)]
    works = [dying_in(name, call) for name, call in places]
    generator = random.Random(0)
    works += [dying_soon(generator.randint(1, 8), generator.uniform(0, 0.03)) for _ in range(6)]
    moments = []
    for work in [*works, lambda: hard(folder / "run")]:
        _, status = os.waitpid(forked(work), 0)
        moments.append({"killed": os.WIFSIGNALED(status), "failed": os.WIFEXITED(status) and status != 0})
    return moments


def refused(folder: Path) -> str:
    """What a second process is told that trains in the folder of the first."""

    def second() -> None:
        with pytest.raises(UserError) as error:
            run(folder / "shared")
        (folder / "refused").write_text(str(error.value))

    def evaluating(model: Net, step: int) -> dict[str, float]:
        os.waitpid(forked(second), 0)
        return evaluate(model, step)

    run(folder / "shared", evaluate=evaluating)
    return (folder / "refused").read_text()


def processes(folder: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = replace(QUICK, optimizer="sgd", clip_norm=1.0)

    def plain(model: nn.Module, batch: Any, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        error = (model(batch[1])[:, 0] - batch[2]).square().mean()
        return error, {"error": error}

    def train(name: str, rank: int) -> None:
        seen: list[list[int]] = []

        def noted(indices: list[int]) -> tuple[list[int], Tensor, Tensor]:
            seen.append(indices)
            return indices, *collate(indices)

        seed_everything(rank)  # the weights of the first process are everybody's
        model = nn.Linear(3, 1)
        fit(
            model,
            plain,
            Batches(EXAMPLES, 8, noted),
            options=options,
            folder=folder / name,
            evaluate=lambda model, step: {"rank": float(rank)},
        )
        if name == "two":
            (folder / f"seen{rank}.json").write_text(json.dumps(seen))

    def member(rank: int) -> Any:
        def work() -> None:
            os.environ.update(
                {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
                | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            )
            train("two", rank)
            torch.distributed.destroy_process_group()

        return work

    children = [forked(member(rank)) for rank in range(2)] + [forked(lambda: train("one", 0))]
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    if failed:
        raise SystemExit("a process failed")


if __name__ == "__main__":
    # What `fit` imports on its way, once and not in every child; torch's optimizers bring in dynamo.
    import accelerate  # noqa: F401
    import rich.progress  # noqa: F401
    import torch._dynamo

    place = Path(sys.argv[1])
    processes(place)
    print(json.dumps({"folder": str(place), "killed": killed(place), "refused": refused(place)}))
