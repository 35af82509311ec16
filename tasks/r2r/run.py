"""Navigation on graphs from start to end: train an agent, judge it beside its probes, draw what it did.

The commands, in the order in which one uses them; each says where its work is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlkit import config
from vlkit.envs import buildings
from vlkit.tasks.r2r import pictures
from vlkit.tasks.r2r.evaluation import evaluate
from vlkit.tasks.r2r.settings import Config
from vlkit.tasks.r2r.training import train_with_arms

__all__ = ["evaluate", "quickstart", "train"]


@dataclass(frozen=True)
class QuickstartOptions:
    """Train and judge an image-free navigator in a small generated world: minutes on a laptop, no download."""

    output: Path = Path("runs/quickstart")
    """folder for the world, the run, the report and the pictures; an interrupted quickstart goes on there"""
    steps: int = 700
    """training steps"""
    seed: int = 0
    """of the world, of the training and of every draw"""
    device: Literal["cpu", "cuda"] | None = None
    """where to train; the GPU where there is one"""


def quickstart(arguments: Sequence[str]) -> int:
    """`vlkit quickstart`: a generated world, an agent trained in it, its report card and its pictures."""
    options = config.load(QuickstartOptions, None, arguments, prog="vlkit quickstart")
    world, run = options.output / "world", options.output / "run"
    if not (world / "annotations").is_dir():
        buildings.generate(world, seed=options.seed)
    settings = Config(
        annotations=world / "annotations",
        connectivity=world / "connectivity",
        output=run,
        steps=options.steps,
        evaluate_every=max(options.steps // 4, 1),
        warmup_steps=min(50, options.steps - 1),
        min_count=1,
        seed=options.seed,
        device=options.device,
        threads=1,  # so small a model gains little from a second, and on a busy machine waits for it at every operation
    )
    train_with_arms(settings, run)
    device = [] if options.device is None else ["--device", options.device]
    evaluate([str(run), "--split", "val_unseen", "--probes", *device])
    print("The buildings and the instructions of this world are generated: its scores say nothing about R2R.")
    return pictures.main([str(run), "--split", "val_unseen", *device])


def train(arguments: Sequence[str]) -> int:
    """`vlkit train CONFIG.toml [--key value ...]`: trains the agent and the arms that the file names, or goes on."""
    file = Path(arguments[0])
    settings = config.load(Config, file, arguments[1:])
    folder = settings.output or Path("runs") / f"{file.stem}-{settings.seed}"
    train_with_arms(settings, folder)
    print(f"trained: {folder}; `vlkit eval {folder} --split val_unseen --probes` judges it")
    return 0
