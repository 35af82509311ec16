"""The one training loop: batches by step, gradients, schedules, evaluation, checkpoints, resume, progress."""

import importlib.util
import json
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from vlkit import checkpoint
from vlkit.batches import Batches, moved, seed_everything, stream_seed
from vlkit.errors import UserError
from vlkit.files import locked
from vlkit.plugins import nearest
from vlkit.progress import Progress, Timer, clock, progress

Model = TypeVar("Model", bound=nn.Module)
Batch = TypeVar("Batch")

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
SCHEDULES = ("constant", "cosine", "linear")
PRECISIONS = ("no", "bf16", "fp16")
DEVICES = ("cpu", "cuda", "mps")
# The loss scale halves at each overflow: after so many in a row it is the model that overflows, not the scale.
OVERFLOWS = 40
# Each with what to set instead.
AT_LEAST_1 = {
    "steps": "say how many steps to train",
    "accumulate": "1 does not split the batch",
    "evaluate_every": "set it to steps to evaluate at the end alone",
    "save_every": "set it to steps to save at the end alone",
    "stop_every": "1 stops after any step",
    "log_every": "set it to steps for one line at the end",
    "keep": "1 keeps the newest checkpoint alone",
}
NOT_NEGATIVE = {
    "weight_decay": "0 is none",
    "warmup_steps": "0 is none",
    "momentum": "0 is none",
    "final_fraction": "0 ends at a rate of zero",
    "seed": "take 0 or more",
}
# These may differ between a run and its continuation: none of them changes a weight.
FREE = ("keep", "save_every", "stop_every", "log_every", "patience", "device", "tensorboard", "workers")


class TrainingDiverged(UserError):  # noqa: N818 - it says what happened
    """The loss or a gradient is no finite number; the last checkpoint on disk is from before."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train: what the optimizer does, how often to look, and what to keep."""

    steps: int
    """optimizer steps of the whole run; a larger number later continues a finished run"""
    learning_rate: float = 3e-4
    """the highest learning rate, after the warm-up"""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"] = "adam"
    """sgd and rmsprop use `momentum`; adam and adamw use `betas`"""
    weight_decay: float = 0.0
    """on every trained tensor: decoupled in adamw, added to the gradient in the others"""
    betas: tuple[float, float] = (0.9, 0.999)
    """how long adam and adamw remember the gradient and its square"""
    momentum: float = 0.0
    """of sgd and rmsprop"""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """of the learning rate after the warm-up, until the last step"""
    warmup_steps: int = 0
    """steps in which the learning rate rises linearly from zero"""
    final_fraction: float = 0.0
    """part of the learning rate at which cosine and linear end"""
    clip_norm: float | None = None
    """largest norm of the gradient of all parameters together; None for no limit"""
    accumulate: int = 1
    """parts into which a batch is split to save memory; the gradient is the mean over the parts"""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """mixed precision; fp16 needs a GPU"""
    evaluate_every: int = 500
    """steps between evaluations; the last step is always evaluated"""
    save_every: int = 500
    """steps between checkpoints; the last step is always saved"""
    stop_every: int = 1
    """a run that is asked to stop does so at the next multiple of so many steps"""
    log_every: int = 50
    """steps over which a line of the log is the mean"""
    keep: int = 2
    """newest checkpoints kept on disk; the best weights are kept besides"""
    monitor: str | None = None
    """metric of the evaluation that decides which weights are the best, such as val_seen/spl"""
    higher_is_better: bool = True
    """whether the monitored metric should rise"""
    patience: int | None = None
    """evaluations without a better value of `monitor` after which training ends; None to use all steps"""
    seed: int = 0
    """of the order of the examples and of every random number in the loss"""
    device: Literal["cpu", "cuda", "mps"] | None = None
    """where to train; None takes the GPU where there is one"""
    tensorboard: bool = True
    """also write TensorBoard files, where that package is installed"""

    def __post_init__(self) -> None:
        _check_choices(self)
        for name, remedy in AT_LEAST_1.items():
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)} and must be at least 1; {remedy}")
        for name, remedy in NOT_NEGATIVE.items():
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)} and must not be negative; {remedy}")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate is {self.learning_rate} and must be above 0; 3e-4 is usual for adam")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"clip_norm is {self.clip_norm} and must be above 0; leave it out for no limit")
        if self.final_fraction > 1:
            raise UserError(
                f"final_fraction is {self.final_fraction} and must be from 0 to 1; 0 ends at a rate of zero"
            )
        if self.warmup_steps >= self.steps:
            raise UserError(
                f"warmup_steps is {self.warmup_steps} and must be below steps, which is {self.steps}; lower it or train longer"
            )
        if self.patience is not None and self.patience < 1:
            raise UserError(f"patience is {self.patience} and must be at least 1; leave it out to use all steps")
        if self.patience is not None and self.monitor is None:
            raise UserError("patience counts evaluations without a better `monitor`, which is not set; name a metric")


@dataclass(frozen=True)
class Step:
    """Where a loss function is in the run, so that it can follow a schedule of its own."""

    index: int  # of the optimizer step, from 0
    steps: int  # of the whole run
    seed: int  # of this part of this step; torch, numpy and random have just been seeded with it
    device: torch.device


class Stateful(Protocol):
    """Something beside the model that training changes: a running reward scale, an average of the weights."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and JSON values, nested in dicts with text keys and in lists."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Takes up what `state_dict` returned."""
        ...


@dataclass(frozen=True)
class FitResult:
    """How a run ended."""

    steps: int
    stopped: Literal["steps", "patience"]
    metrics: dict[str, float]
    """of the last evaluation"""
    best: Path | None
    """folder of the best weights, where there is a monitor"""
    best_step: int | None
    best_metrics: dict[str, float]
    resumed_from: int
    """step at which this call took over; 0 for a new run"""
    seconds: dict[str, float]
    """wall time of the whole run by section; on a GPU a section that waits is charged for the work it waits for"""

    @property
    def minutes(self) -> float:
        """Of the whole run, interrupted parts included."""
        return sum(self.seconds.values()) / 60


def fit(
    model: Model,
    loss: Callable[[Model, Batch, Step], tuple[Tensor, Mapping[str, float | Tensor]]],
    batches: Batches[Batch],
    *,
    options: TrainOptions,
    folder: str | Path,
    config: Mapping[str, Any] | None = None,
    may_change: Collection[str] = (),
    files: Mapping[str, str] | None = None,
    evaluate: Callable[[Model, int], Mapping[str, float]] | None = None,
    extra_state: Stateful | None = None,
    accepted: Callable[[], None] | None = None,
) -> FitResult:
    """Trains the model in place, and continues where the run in `folder` was interrupted, to the same weights.

    loss: (model, batch, step) -> (scalar mean over the batch, numbers to log). It may call any method of the model
        any number of times. Its random numbers come from torch, numpy or random, which are seeded anew for each
        step, or from a generator seeded with `step.seed`.
    config: JSON that rebuilds the model, saved beside its weights; a run with another config is not continued, but for
        the keys of `may_change` (paths, say; `model.dim` names a key in a table).
    files: small text files saved beside the weights (a tokenizer).
    evaluate: (model, step) -> metrics; called without gradients, in evaluation mode, in the main process alone.
    extra_state: saved and restored with the model.
    accepted: called once the folder is found to be new or of this run, before the first step, in the main process.

    The folder receives `log.jsonl`, `checkpoints/step-*` and `best` (weights with the best `options.monitor`). A line
    of the log has either the means over `options.log_every` steps and the seconds spent so far, by section, or the
    metrics of an evaluation. The model ends with the weights of the last step, not the best.
    With several processes (`accelerate launch`, `torchrun`) each takes its share of the batch, gradients are
    averaged, and `folder` must be on a disk that all of them see.

    Raises UserError for a device that is not there, for a folder with another run and for a monitor that the
    evaluation does not return; TrainingDiverged for a loss that is not finite; KeyboardInterrupt after Ctrl-C or
    SIGTERM, when the step is finished and saved.
    """
    if options.monitor is not None and evaluate is None:
        raise UserError(f"monitor is {options.monitor!r} but nothing is evaluated; give a split to evaluate on")
    parts = options.accumulate * (accelerator := _accelerator(options)).num_processes
    if batches.batch_size % parts:
        raise UserError(
            f"batch_size {batches.batch_size} does not divide into {parts} equal parts (accumulate "
            f"{options.accumulate} x {accelerator.num_processes} processes); make it a multiple of {parts}"
        )
    folder = Path(folder)
    if accelerator.device.type == "cpu":
        _keep_freed_memory()
    with locked(folder, "training") if accelerator.is_main_process else nullcontext(), _StopRequest() as stop:
        accelerator.wait_for_everyone()
        run = _Run(model, loss, batches, options, folder, config, may_change, files, evaluate, extra_state, accelerator)
        return run.fit(stop, accepted)


def chosen_device(name: str | None, allowed: tuple[str, ...] = DEVICES) -> torch.device:
    """The named device, or the best there is; UserError where the named one is missing.

    allowed: those that the task can compute on. Apple's mps has no float64, so a task that needs it leaves mps out.
    Where a launcher started one process for each GPU, each gets its own.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name is None:
        name = next(device for device in ("cuda", "mps", "cpu") if available[device] and device in allowed)
    if name not in available:
        raise UserError(f"device is {name!r} and must be one of {', '.join(allowed)}.{nearest(name, allowed)}")
    if name not in allowed:
        raise UserError(
            f"device {name} was asked for, but this task computes on {' or '.join(allowed)} alone; "
            f"name one of these, or leave it out"
        )
    if not available[name]:
        here = ", ".join(device for device in allowed if available[device])
        built = " (this torch was built without CUDA)" if name == "cuda" and torch.version.cuda is None else ""
        raise UserError(
            f"device {name} was asked for, but torch finds none here{built}; it finds: {here}. "
            f"Use --device cpu, or run `vlkit doctor` to see what is missing"
        )
    if name == "cuda" and (rank := int(os.environ.get("LOCAL_RANK", "-1"))) >= 0:
        # As accelerate counts: where each process is shown one GPU alone, that is number 0 in all of them.
        return torch.device("cuda", rank % torch.cuda.device_count())
    return torch.device(name)


def learning_rate(options: TrainOptions, step: int) -> float:
    """Of the update in `step`, counted from 0."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    done = min(1.0, (step - options.warmup_steps) / (options.steps - options.warmup_steps))
    left = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}[options.schedule]
    return options.learning_rate * (options.final_fraction + (1 - options.final_fraction) * left)


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """Over the parameters that require a gradient."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserError(f"no parameter of {type(model).__name__} is trained; unfreeze some, or only evaluate")
    rate, decay = options.learning_rate, options.weight_decay
    # The fused kernels save a loop over the parameters in Python; on CUDA torch chooses by itself.
    fused = True if all(p.device.type == "cpu" and p.is_floating_point() for p in parameters) else None
    match options.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, rate, options.betas, weight_decay=decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, options.betas, weight_decay=decay, fused=fused)
        case "sgd":
            return torch.optim.SGD(parameters, rate, options.momentum, weight_decay=decay, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, rate, weight_decay=decay, momentum=options.momentum)
        case "adagrad":
            return torch.optim.Adagrad(parameters, rate, weight_decay=decay, fused=fused)


@dataclass
class _Progress:
    """What a resumed run must know besides tensors; all of it is JSON."""

    step: int = 0  # steps done
    evaluated: int = 0  # step of the last evaluation
    metrics: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    evaluations_without_best: int = 0
    overflows: int = 0  # fp16 steps skipped in a row
    scaler: dict[str, Any] = field(default_factory=dict)
    window: dict[str, list[float]] = field(default_factory=dict)  # name -> [sum, count] since the last line of the log
    log_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        model: Any,
        loss: Callable[..., tuple[Tensor, Mapping[str, float | Tensor]]],
        batches: Batches[Any],
        options: TrainOptions,
        folder: Path,
        config: Mapping[str, Any] | None,
        may_change: Collection[str],
        files: Mapping[str, str] | None,
        evaluate: Callable[[Any, int], Mapping[str, float]] | None,
        extra_state: Stateful | None,
        accelerator: Any,
    ) -> None:
        self.model = model.to(accelerator.device)
        self.loss = loss
        self.batches = batches
        self.options = options
        self.folder = folder
        self.config = json.loads(json.dumps(dict(config or {})))
        self.may_change = may_change
        self.files = files
        self.evaluate = evaluate
        self.extra_state = extra_state
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.optimizer = make_optimizer(model, options)
        # The model is not prepared: its wrapper would force every loss through `forward`. Of the optimizer's wrapper
        # only fp16 has a use, and it costs a search for packages at each step.
        scaled = accelerator.scaler is not None
        self.stepper = (
            accelerator.prepare_optimizer(self.optimizer, device_placement=False) if scaled else self.optimizer
        )
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        data = {
            "batch_size": batches.batch_size,
            "examples": batches.examples,
            "by_length": batches.lengths is not None,
        }
        self.settings = json.loads(json.dumps(asdict(options) | data))
        self.progress = _Progress()
        self.timer = Timer(self.progress.seconds)
        self.pending: list[tuple[str, float | Tensor]] = []

    def fit(self, stop: "_StopRequest", accepted: Callable[[], None] | None) -> FitResult:
        resumed_from = self.resume()
        if accepted is not None and self.main:
            accepted()
        self.average_start()
        self.show = progress(self.options.steps, first=resumed_from) if self.main else Progress()
        self.tensorboard = self.open_tensorboard(resumed_from)
        stream = self.batches.stream(
            self.options.seed,
            first=resumed_from,
            steps=self.options.steps,
            accumulate=self.options.accumulate,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        self.model.train()
        with self.show, self.tensorboard or nullcontext():
            saved = resumed_from
            if resumed_from:
                self.show.line(f"continuing from step {resumed_from} in {self.folder}")
                if self.evaluate_if_due():
                    saved = 0
            while self.progress.step < self.options.steps and not self.out_of_patience():
                with self.timer("other"):
                    asked = self.step(stream, stop)
                    step = self.progress.step
                    interrupted = asked and step % self.options.stop_every == 0
                    if step % self.options.log_every == 0 or step == self.options.steps:
                        self.log_window()
                    if not interrupted:
                        self.evaluate_if_due()
                    if interrupted or step % self.options.save_every == 0 or self.at_end():
                        self.save()
                        saved = step
                if interrupted:
                    text = f"stopped after step {step} of {self.options.steps}; run the same command again to continue"
                    self.show.line(text)
                    raise KeyboardInterrupt(text)
            if saved != self.progress.step:
                self.save()
            self.show.line(self.summary())
        return FitResult(
            steps=self.progress.step,
            stopped="patience" if self.progress.step < self.options.steps else "steps",
            metrics=self.progress.metrics,
            best=self.folder / "best" if self.progress.best_step is not None else None,
            best_step=self.progress.best_step,
            best_metrics=self.progress.best_metrics,
            resumed_from=resumed_from,
            seconds=dict(self.progress.seconds),
        )

    def step(self, stream: Iterator[Any], stop: "_StopRequest") -> bool:
        """One update; true where somebody asked the run to stop."""
        index, accumulate = self.progress.step, self.options.accumulate
        rate = learning_rate(self.options, index)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        for micro in range(accumulate):
            with self.timer("data"):
                batch = moved(next(stream), self.accelerator.device)
            seed = stream_seed(self.options.seed, "loss", index, micro, self.accelerator.process_index)
            seed_everything(seed, self.accelerator.device)
            with self.timer("forward"), self.autocast():
                at = Step(index=index, steps=self.options.steps, seed=seed, device=self.accelerator.device)
                value, numbers = self.loss(self.model, batch, at)
            if value.ndim or not value.requires_grad:
                raise TypeError(f"the loss must be a scalar that depends on the parameters, not {value!r}")
            with self.timer("backward"):
                if accumulate > 1:
                    value = value / accumulate
                self.accelerator.backward(value)
            total = value.detach() if total is None else total + value.detach()
            self.pending += [(key, x.detach() if isinstance(x, Tensor) else float(x)) for key, x in numbers.items()]
        assert total is not None
        with self.timer("backward"):
            total, interrupted = self.average(total, stop.received is not None)
            # Without a limit this still measures the norm, in which a gradient that is not finite shows.
            limit = math.inf if self.options.clip_norm is None else self.options.clip_norm
            norm = self.accelerator.clip_grad_norm_(self.parameters, limit)
            # One transfer for both numbers: on a GPU each waits for the whole queue.
            mean, length = torch.stack([total.float(), norm.float()]).tolist()
        self.check_finite(index, mean, length)
        with self.timer("optimizer"):
            self.stepper.step()
        self.pending.append(("loss", mean))
        if math.isfinite(length):
            self.pending.append(("gradient_norm", length))
        if self.accelerator.scaler is not None:
            self.pending.append(("overflow", float(not math.isfinite(length))))
        self.progress.step += 1
        self.show.update(self.progress.step, "loss", mean)
        return interrupted

    def check_finite(self, index: int, mean: float, norm: float) -> None:
        scaled = self.accelerator.scaler is not None
        # With fp16 an overflowing gradient is part of the search for the loss scale: that update is skipped.
        self.progress.overflows = self.progress.overflows + 1 if scaled and not math.isfinite(norm) else 0
        if math.isfinite(mean) and (math.isfinite(norm) or (scaled and self.progress.overflows < OVERFLOWS)):
            return
        what = f"the loss is {mean}" if not math.isfinite(mean) else f"the gradient's norm is {norm} (loss {mean:.4g})"
        ids = [self.batches.name(i) for i in self.batches.indices(index, self.options.seed)]
        shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
        saved = checkpoint.steps_saved(self.folder / "checkpoints")
        raise TrainingDiverged(
            f"{what} at step {index} on the examples {shown}. Nothing was overwritten: the last checkpoint is "
            f"{f'of step {saved[-1]}' if saved else 'none yet'}. Look at these examples, or "
            f"start in a new folder with a learning_rate below {self.options.learning_rate:g} or a smaller clip_norm "
            f"({self.options.clip_norm})"
        )

    def average(self, value: Tensor, stop: bool) -> tuple[Tensor, bool]:
        """Makes gradients, loss, buffers and the wish to stop the same in all processes."""
        processes = self.accelerator.num_processes
        if processes == 1:
            return value, stop
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        used = torch.tensor([p.grad is not None for p in self.parameters], dtype=torch.float32)
        ends = torch.stack([value.float(), torch.tensor(float(stop), device=value.device)])
        flat = torch.cat([*(g.flatten().float() for g in gradients), used.to(value.device), ends])
        torch.distributed.all_reduce(flat)
        flat /= processes
        *pieces, used, ends = torch.split(flat, [*(g.numel() for g in gradients), len(gradients), 2])
        for parameter, gradient, piece, somewhere in zip(
            self.parameters, gradients, pieces, used.tolist(), strict=True
        ):
            # No gradient in any process: the optimizer leaves the parameter alone, as it does with one process.
            parameter.grad = gradient.copy_(piece.view_as(gradient)) if somewhere else None
        for buffer in self.model.buffers():
            torch.distributed.broadcast(buffer, src=0)
        return ends[0], bool(ends[1] > 0)

    def average_start(self) -> None:
        if self.accelerator.num_processes > 1:
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                torch.distributed.broadcast(tensor.detach(), src=0)

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.options.precision == "no" else self.accelerator.autocast()

    def at_end(self) -> bool:
        return self.progress.step >= self.options.steps or self.out_of_patience()

    def out_of_patience(self) -> bool:
        return self.options.patience is not None and self.progress.evaluations_without_best >= self.options.patience

    def evaluate_if_due(self) -> bool:
        step, progress, options = self.progress.step, self.progress, self.options
        due = step % options.evaluate_every == 0 or step == options.steps
        if self.evaluate is None or not due or progress.evaluated == step:
            return False
        try:
            with self.timer("evaluate"):
                metrics = self.metrics(step)
            better = self.is_better(metrics)
        except Exception:
            # A wrong metric name or a bug in an evaluation must not cost the steps before it.
            self.save()
            raise
        if options.monitor is not None:
            progress.evaluations_without_best = 0 if better else progress.evaluations_without_best + 1
        if better:
            progress.best_step, progress.best_value = step, metrics[options.monitor or ""]
            progress.best_metrics = metrics
        progress.metrics, progress.evaluated = metrics, step
        if self.main:
            if better:
                with self.timer("save"):
                    checkpoint.save_weights(self.model, self.folder / "best", self.config, self.files)
            self.write_log({"step": step, "evaluate": metrics} | ({"best": True} if better else {}))
            shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.show.line(f"step {step}: {shown}{'  (best so far)' if better else ''}")
            self.write_tensorboard(metrics, step)
        return True

    def metrics(self, step: int) -> dict[str, float]:
        """What the main process evaluates, in all processes; an error there is raised in all."""
        assert self.evaluate is not None
        metrics: dict[str, float] = {}
        failure: Exception | None = None
        if self.main:
            self.show.status(f"evaluating at step {step}")
            seed_everything(stream_seed(self.options.seed, "evaluate", step), self.accelerator.device)
            self.model.eval()
            try:
                with torch.no_grad():
                    metrics = {name: float(value) for name, value in self.evaluate(self.model, step).items()}
            except Exception as error:
                failure = error
            self.model.train()
        metrics, reason = self.from_main((metrics, None if failure is None else repr(failure)))
        if reason is not None:
            raise failure or RuntimeError(f"the evaluation failed in the main process: {reason}")
        return metrics

    def is_better(self, metrics: Mapping[str, float]) -> bool:
        monitor, best = self.options.monitor, self.progress.best_value
        if monitor is None:
            return False
        if monitor not in metrics:
            raise UserError(
                f"monitor is {monitor!r}, which the evaluation does not return.{nearest(monitor, metrics)} "
                f"It returns: {', '.join(metrics) or 'nothing'}"
            )
        value = metrics[monitor]
        if best is None:
            return not math.isnan(value)
        return value > best if self.options.higher_is_better else value < best

    def from_main(self, value: Any) -> Any:
        if self.accelerator.num_processes == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def log_window(self) -> None:
        self.fold()
        means = {name: total / count for name, (total, count) in sorted(self.progress.window.items())}
        self.progress.window = {}
        if not self.main:
            return
        step = self.progress.step
        epoch = step * self.batches.batch_size / self.batches.examples
        rate = learning_rate(self.options, step - 1)
        seconds = {name: round(value, 3) for name, value in self.progress.seconds.items()}
        self.write_log({"step": step, "epoch": round(epoch, 4), "learning_rate": rate, **means, "seconds": seconds})
        self.write_tensorboard({f"train/{name}": value for name, value in means.items()} | {"epoch": epoch}, step)

    def fold(self) -> None:
        """Adds the numbers of the last steps to the window, those of all processes to the main one's."""
        pending = [(name, float(value)) for name, value in self.pending]
        self.pending = []
        if self.accelerator.num_processes > 1:
            gathered: list[Any] = [None] * self.accelerator.num_processes
            torch.distributed.all_gather_object(gathered, pending)
            pending = [entry for entries in gathered for entry in entries]
        for name, value in pending:
            total, count = self.progress.window.get(name, (0.0, 0))
            self.progress.window[name] = [total + value, count + 1]

    def write_log(self, entry: Mapping[str, Any]) -> None:
        path = self.folder / "log.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_without_nan(entry)) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror}; free some space and run again to continue"
            ) from error

    def open_tensorboard(self, first: int) -> Any:
        if not (self.main and self.options.tensorboard and importlib.util.find_spec("tensorboard")):
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / "tensorboard"), purge_step=first + 1)

    def write_tensorboard(self, values: Mapping[str, float], step: int) -> None:
        if self.tensorboard is not None:
            for name, value in values.items():
                self.tensorboard.add_scalar(name, value, step)

    def save(self) -> None:
        self.fold()
        with self.timer("save"):
            if self.main:
                progress, checkpoints = self.progress, self.folder / "checkpoints"
                if self.accelerator.scaler is not None:
                    progress.scaler = self.accelerator.scaler.state_dict()
                log = self.folder / "log.jsonl"
                progress.log_bytes = log.stat().st_size if log.exists() else 0
                checkpoint.save_state(
                    checkpoint.step_folder(checkpoints, progress.step),
                    self.model,
                    self.optimizer,
                    config=self.config,
                    progress=asdict(progress) | {"settings": self.settings},
                    extra=self.extra_state.state_dict() if self.extra_state is not None else None,
                    files=self.files,
                )
                for step in checkpoint.steps_saved(checkpoints)[: -self.options.keep]:
                    checkpoint.remove(checkpoint.step_folder(checkpoints, step))
            self.accelerator.wait_for_everyone()

    def resume(self) -> int:
        """Loads the newest checkpoint where there is one; returns its step, or 0."""
        checkpoints, log = self.folder / "checkpoints", self.folder / "log.jsonl"
        saved = self.from_main(checkpoint.steps_saved(checkpoints) if self.main else None)
        if saved:
            folder = checkpoint.step_folder(checkpoints, saved[-1])
            config, progress = checkpoint.read_progress(folder)
            self.check_same(progress.pop("settings"), config, evaluated=progress["evaluated"] > 0)
            extra = checkpoint.load_state(folder, self.model, self.optimizer)
            self.progress = _Progress(**progress)
            self.timer = Timer(self.progress.seconds)
            if self.extra_state is not None:
                self.extra_state.load_state_dict(extra)
            if self.accelerator.scaler is not None and self.progress.scaler:
                self.accelerator.scaler.load_state_dict(self.progress.scaler)
            if not self.main:
                self.progress.window = {}
        if self.main and log.exists():
            # Lines after the checkpoint will be written again: the same, for the steps are the same.
            os.truncate(log, min(self.progress.log_bytes, log.stat().st_size))
        return self.progress.step

    def check_same(self, settings: dict[str, Any], config: Mapping[str, Any], evaluated: bool) -> None:
        # Before the first evaluation nothing has been chosen by the monitor: a wrong name can still be mended.
        free = {*FREE, *self.may_change, *(() if evaluated else ("monitor", "higher_is_better"))}
        before, now = _flat(config) | settings, _flat(self.config) | self.settings
        for key in [*now, *(key for key in before if key not in now)]:
            if key in free:
                continue
            old, new = before.get(key), now.get(key)
            if old == new and (key in before) == (key in now):
                continue
            if key == "steps" and self.options.steps >= settings["steps"]:
                continue
            remedy = "a finished run can only be made longer" if key == "steps" else f"set {key} back to {old!r}"
            raise UserError(
                f"{self.folder} holds a run with {key} = {old!r}, and now it is {new!r}; "
                f"{remedy}, or name a new folder to start afresh"
            )

    def summary(self) -> str:
        seconds = self.progress.seconds
        total = sum(seconds.values()) or 1.0
        shares = ", ".join(
            f"{name} {value / total:.0%}" for name, value in sorted(seconds.items(), key=lambda x: -x[1])
        )
        rate = self.progress.step / total
        best = ""
        if self.progress.best_step is not None:
            best = f"; best {self.options.monitor} {self.progress.best_value:.4g} at step {self.progress.best_step}"
        why = " (no better value within patience)" if self.progress.step < self.options.steps else ""
        return f"{self.progress.step} steps{why} in {clock(total)}, {rate:.3g} steps/s: {shares}{best}"


def _accelerator(options: TrainOptions) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import AutocastKwargs, DistributedType

    device = chosen_device(options.device)
    if options.precision == "fp16" and device.type != "cuda":
        raise UserError(f"precision fp16 needs a CUDA GPU and the device is {device.type}; use bf16 or no")
    # Accelerate keeps device and precision for the life of the process; each run here decides them for itself.
    several = PartialState._shared_state.get("num_processes", 1) > 1
    AcceleratorState._reset_state(reset_partial_state=not several)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=options.precision,
        kwargs_handlers=[AutocastKwargs(cache_enabled=_casts_keep_gradients())],
    )
    # `accelerate launch` may set a number of its own, by which each loss would be divided once more.
    accelerator.gradient_accumulation_steps = 1
    if accelerator.device.type != device.type or (accelerator.device.index or 0) != (device.index or 0):
        raise UserError(
            f"device {device} was asked for, but accelerate is set to {accelerator.device}; "
            "change its settings (`accelerate config`, ACCELERATE_USE_CPU) or the device"
        )
    known = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in known:
        raise UserError(
            f"accelerate is set to {accelerator.distributed_type}, and this loop averages gradients by itself; "
            "launch it as plain multi-GPU or multi-CPU"
        )
    return accelerator


def _keep_freed_memory() -> None:
    """Lets glibc keep large blocks that were freed, for a step asks for the same again.

    Else it hands them back to the system, and every page is zeroed anew: a sixth of the time of a small CNN's training.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 64 << 20)


@cache
def _casts_keep_gradients() -> bool:
    """Whether a weight that autocast has cast without gradients, in a rollout say, still gets one afterwards.

    In older releases of torch it does not, as long as autocast reuses its casts (pytorch issue 112583).
    """
    weight = torch.ones(1, 1, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            nn.functional.linear(torch.ones(1, 1), weight)
        return nn.functional.linear(torch.ones(1, 1), weight).requires_grad


class _StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop after the step; one more, a second later, stops at once."""

    def __init__(self) -> None:
        self.received: str | None = None
        self.at = 0.0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        # A launcher passes on the Ctrl-C that the terminal has sent to its processes already: that is no second one.
        if self.received is not None and time.monotonic() - self.at > 1:
            raise KeyboardInterrupt("stopped at once; the run continues from its last checkpoint")
        if self.received is None:
            self.received, self.at = signal.Signals(number).name, time.monotonic()


def _check_choices(options: TrainOptions) -> None:
    lists = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "precision": PRECISIONS, "device": (*DEVICES, None)}
    for name, choices in lists.items():
        value = getattr(options, name)
        if value not in choices:
            words = [choice for choice in choices if choice is not None]
            raise UserError(f"{name} is {value!r} and must be one of {', '.join(words)}.{nearest(str(value), words)}")


def _without_nan(entry: Any) -> Any:
    """JSON has no word for numbers that are not finite: they become null."""
    if isinstance(entry, Mapping):
        return {key: _without_nan(value) for key, value in entry.items()}
    return None if isinstance(entry, float) and not math.isfinite(entry) else entry


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """{"model": {"dim": 3}} -> {"model.dim": 3}"""
    result: dict[str, Any] = {}
    for key, value in config.items():
        result |= _flat(value, f"{path}{key}.") if isinstance(value, dict) and value else {f"{path}{key}": value}
    return result
