"""Visual question answering from start to end: train a model, judge it beside its probes, show what it looked at.

The commands, in the order in which one uses them; each says where its work is done.
"""

from collections.abc import Sequence
from pathlib import Path

from vlkit import config
from vlkit.tasks.vqa.evaluation import evaluate
from vlkit.tasks.vqa.settings import Config
from vlkit.tasks.vqa.training import train_with_arms

__all__ = ["evaluate", "explain", "train"]


def train(arguments: Sequence[str]) -> int:
    """`vlkit train CONFIG.toml [--key value ...]`: trains the model and the arms that the file names, or goes on."""
    file = Path(arguments[0])
    settings = config.load(Config, file, arguments[1:])
    folder = settings.output or Path("runs") / f"{file.stem}-{settings.seed}"
    train_with_arms(settings, folder)
    print(f"trained: {folder}; `vlkit eval {folder} --probes` judges it")
    return 0


def explain(arguments: Sequence[str]) -> int:
    """`vlkit explain RUN ...`: what it looked at, which parts of the picture it needed, right and wrong answers."""
    from vlkit.tasks.vqa import pictures

    return pictures.main(arguments)
