"""What `vlkit eval` does alike for every task: runs that are seeds of one experiment, their arms, one bar for all."""

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from torch import nn

from vlkit import checkpoint, config
from vlkit.errors import UserError
from vlkit.progress import Progress


class Run(Protocol):
    """A run that can be judged."""

    @property
    def folder(self) -> Path:
        """Where `vlkit train` wrote it."""
        ...

    @property
    def settings(self) -> Any:
        """Its settings, a dataclass with a `seed`."""
        ...


R = TypeVar("R", bound=Run)

IMAGE_PREFIXES = ("image.", "frames.image.")  # where weights have their image encoder, in each task


class Watch:
    """Counts what several arms have done, for one bar."""

    def __init__(self, bar: Progress, arm: str) -> None:
        self.bar, self.arm, self.done = bar, arm, 0

    def __call__(self, count: int) -> None:
        """So many more are finished."""
        self.done += count
        self.bar.update(self.done, self.arm)


def wrong_usage(message: str) -> NoReturn:
    """Says what cannot be typed so; ends with code 2."""
    sys.stderr.write(f"vlkit eval: {message}\n")
    raise SystemExit(2)


def weights_folder(run: Path) -> Path:
    """Where a run's best weights lie, or its last ones where it chose none; UserError where it has neither."""
    if (run / "best").is_dir():
        return run / "best"
    steps = checkpoint.steps_saved(run / "checkpoints")
    if not steps:
        raise UserError(f"{run} holds no weights yet; run `vlkit train` until its first checkpoint")
    return checkpoint.step_folder(run / "checkpoints", steps[-1])


def begin_image_encoder(encoder: nn.Module, run: Path) -> None:
    """Gives an image encoder the weights of a run's, of whatever task. UserError where that has another one, or none."""
    config.run_file(run)
    folder = weights_folder(run)
    _, tensors = checkpoint.load_weights(folder)
    for prefix in IMAGE_PREFIXES:
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if own:
            checkpoint.restore(encoder, own, folder)
            return
    raise UserError(f"{run} has no image encoder to begin with; name a run that sees pictures")


def trained_minutes(*folders: Path) -> float:
    """Minutes that training took in these folders, those without a checkpoint left out."""
    minutes = 0.0
    for folder in folders:
        steps = checkpoint.steps_saved(folder / "checkpoints")
        if steps:
            _, progress = checkpoint.read_progress(checkpoint.step_folder(folder / "checkpoints", steps[-1]))
            minutes += sum(progress["seconds"].values()) / 60
    return minutes


def trained_arms(runs: Sequence[R], trained: Callable[[Path], R]) -> dict[str, list[R]]:
    """The arms that were trained beside the runs, by name; those of the runs that have them."""
    arms: dict[str, list[R]] = {}
    for run in runs:
        for folder in sorted((run.folder / "arms").glob("*")):
            if (folder / "best").is_dir():
                arms.setdefault(folder.name, []).append(trained(folder))
    return arms


def check_seeds(runs: Sequence[Run], may_differ: Collection[str]) -> None:
    """Raises UserError where the runs are not seeds of one experiment, each once; settings that `may_differ` left out."""
    for i, run in enumerate(runs):
        for other in runs[:i]:
            names = f"{other.folder} and {run.folder}"
            for each in fields(run.settings):
                values = getattr(other.settings, each.name), getattr(run.settings, each.name)
                if each.name not in may_differ and values[0] != values[1]:
                    raise UserError(
                        f"{names} differ in {each.name} ({values[0]!r} and {values[1]!r}), so they are not seeds of "
                        "one experiment; evaluate them one by one"
                    )
            if run.settings.seed == other.settings.seed:
                raise UserError(
                    f"{names} both have seed {run.settings.seed}, and the same thing twice has no spread; leave one out, "
                    "or evaluate them one by one"
                )


def learned_notes(runs: Sequence[Run], split: str) -> list[str]:
    """What of the runs' training makes their score on this split look better than it is."""
    notes = []
    for run in runs:
        if split in (run.settings.train_split, run.settings.select_split):
            how = "learned" if split == run.settings.train_split else "was chosen"
            notes.append(f"{run.folder.name} {how} on this very split")
        steps = checkpoint.steps_saved(run.folder / "checkpoints")
        if steps and steps[-1] < run.settings.steps and run.settings.patience is None:
            notes.append(f"{run.folder.name} has trained {steps[-1]} of its {run.settings.steps} steps")
    return notes
