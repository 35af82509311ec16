"""Visual dialog from start to end: train a model, judge it beside its probes, talk to it.

The commands, in the order in which one uses them; each says where its work is done.
"""

from collections.abc import Sequence
from pathlib import Path

from vlkit import config
from vlkit.tasks.dialog.evaluation import evaluate
from vlkit.tasks.dialog.settings import Config
from vlkit.tasks.dialog.training import train_with_arms

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
    """`vlkit explain RUN ...`: dialogs with what is answered, and which turns and patches were looked at."""
    from vlkit.tasks.dialog import pictures

    return pictures.main(arguments)
