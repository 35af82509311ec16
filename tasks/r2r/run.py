"""Navigation on graphs from start to end: train an agent, judge it beside its probes, draw what it did.

The commands, in the order in which one uses them; each says where its work is done.
"""

from collections.abc import Sequence
from pathlib import Path

from vlkit import config
from vlkit.tasks.r2r import pictures
from vlkit.tasks.r2r.evaluation import evaluate
from vlkit.tasks.r2r.settings import Config
from vlkit.tasks.r2r.training import train_with_arms

__all__ = ["evaluate", "explain", "train"]


def train(arguments: Sequence[str]) -> int:
    """`vlkit train CONFIG.toml [--key value ...]`: trains the agent and the arms that the file names, or goes on."""
    file = Path(arguments[0])
    settings = config.load(Config, file, arguments[1:])
    folder = settings.output or Path("runs") / f"{file.stem}-{settings.seed}"
    train_with_arms(settings, folder)
    print(f"trained: {folder}; `vlkit eval {folder} --split val_unseen --probes` judges it")
    return 0


def explain(arguments: Sequence[str]) -> int:
    """`vlkit explain RUN ...`: maps, attention and a page of the best, the median and the worst walk."""
    return pictures.main(arguments)
