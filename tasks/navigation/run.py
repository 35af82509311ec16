"""Navigation in houses from start to end: generate houses, train an agent, judge it beside its probes, show what it did.

The commands, in the order in which one uses them; each says where its work is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlkit import config
from vlkit.envs.house import benchmark
from vlkit.errors import UserError
from vlkit.tasks.navigation import pictures
from vlkit.tasks.navigation.evaluation import evaluate
from vlkit.tasks.navigation.settings import Config
from vlkit.tasks.navigation.training import DEVICES, train_with_arms
from vlkit.train import chosen_device

HOUSES, WALKS, UNSEEN_HOUSES, STEPS, EPISODES = 240, 20, 24, 1400, 400  # of twelve minutes on two cores
READING_STEPS, SEEING_STEPS = 300, 1500

__all__ = ["evaluate", "explain", "quickstart", "train"]


@dataclass(frozen=True)
class QuickstartOptions:
    """Generate houses, train a navigator that sees them, judge it in houses it never saw, and show what it did."""

    output: Path = Path("runs/quickstart")
    """folder for the houses, the run, the report and the pictures; an interrupted quickstart goes on there"""
    minutes: float = 12.0
    """about how long it may take on two cores; fewer minutes mean fewer houses and training steps"""
    seed: int = 0
    """of the houses, of the training and of every draw"""
    device: Literal["cpu", "cuda"] | None = None
    """where to train; the GPU where there is one"""

    def __post_init__(self) -> None:
        if not 1 <= self.minutes <= 600:
            raise ValueError(f"minutes = {self.minutes}, expected 1 to 600")


def quickstart(arguments: Sequence[str]) -> int:
    """`vlkit quickstart`: generated houses, an agent trained in them, its report card and its pictures."""
    options = config.load(QuickstartOptions, None, arguments, prog="vlkit quickstart")
    share = options.minutes / 12
    data, run = options.output / "houses", options.output / "run"
    houses = benchmark.Arguments(
        out=data,
        seed=options.seed,
        houses=max(round(HOUSES * min(share, 4)), 4),
        unseen=max(round(UNSEEN_HOUSES * min(share, 1)), 2),
        levels=("starter",),
        walks=WALKS,
    )
    if not benchmark.is_there(houses):
        if (run / "config.toml").is_file():
            raise UserError(
                f"{run} learned in other houses than --seed {options.seed} --minutes {options.minutes:g} makes, and they "
                f"would be lost; name a new folder with --output, or delete {options.output}"
            )
        benchmark.generate(houses)
    steps = max(round(STEPS * share), 12)
    settings = Config(
        data=data,
        output=run,
        levels=("starter",),
        steps=steps,
        warmup_steps=min(100, steps // 4),
        reading_steps=max(round(READING_STEPS * min(share, 1)), 4),
        seeing_steps=max(round(SEEING_STEPS * min(share, 1)), 4),
        evaluate_every=max(steps // 2, 1),
        select_episodes=100,
        rounds=2,
        round_episodes=houses.houses * houses.walks,
        max_steps=100,
        num_envs=128,
        seed=options.seed,
        device=options.device,
    )
    train_with_arms(settings, run)
    device = [] if options.device is None else ["--device", options.device]
    shared = ["--processes", "2"] if chosen_device(options.device, allowed=DEVICES).type == "cpu" else []
    evaluate([str(run), "--split", "val_unseen", "--probes", "--episodes", str(EPISODES), *shared, *device])
    code = pictures.main([str(run), "--split", "val_unseen", "--episodes", str(EPISODES // 4), *device])
    print(
        f"\nThe houses and instructions are generated: these scores say nothing about R2R-CE.\n"
        f"Report:   {run / 'eval' / 'val_unseen' / 'report.md'}\n"
        f"Pictures: {run / 'explain' / 'val_unseen'}\n"
        f"Houses:   {data / 'scenes'} (GLB; `vlkit view` shows one)\n"
        "Next: `vlkit data houses --out data/houses --houses 480 --walks 20`, then `vlkit train configs/house_cma.toml --processes 2`."
    )
    return code


def train(arguments: Sequence[str]) -> int:
    """`vlkit train CONFIG.toml [--key value ...]`: trains the agent and the arms that the file names, or goes on."""
    file = Path(arguments[0])
    settings = config.load(Config, file, arguments[1:])
    folder = settings.output or Path("runs") / f"{file.stem}-{settings.seed}"
    train_with_arms(settings, folder)
    print(f"trained: {folder}; `vlkit eval {folder} --split val_unseen --probes` judges it")
    return 0


def explain(arguments: Sequence[str]) -> int:
    """`vlkit explain RUN ...`: maps and films of the best, the median and the worst walk."""
    return pictures.main(arguments)
