"""Walking in generated houses, and learning to: steps a second of the environment alone and of training, by its parts.

    vlkit bench houses [--envs 1 16 64 256] [--sizes 64 128 256] [--houses 1 8 32] [--repeats 5]

The environment takes random steps and begins anew where a walk ends; RGB and depth, no expert. Training is the default
policy's: `simulate` records demonstrations, `infer` lets the policy walk, `learn` is forward, backward and the optimizer's
step. `imitation` is what a run of teacher forcing learns from in a second when each frame is met as often as in the
quickstart; `PPO` simulates, infers and learns from every frame `epochs` times. Peers, where they are installed, take
random steps in a room of their own: MiniWorld, and habitat-sim in one of the houses.
"""

import importlib.util
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from render import MODULES, Row, peer_row, processor  # type: ignore[import-not-found]
from render import Options as Rendering
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vlkit.batches import seed_everything
from vlkit.config import load
from vlkit.envs.episodes import read_episodes
from vlkit.envs.house import benchmark
from vlkit.envs.house.house import Level
from vlkit.envs.navigation import NavigationVectorEnv
from vlkit.tasks.navigation.data import World
from vlkit.tasks.navigation.reinforcement import Reinforcement
from vlkit.tasks.navigation.rollouts import policy_walks
from vlkit.tasks.navigation.settings import Config, built_policy
from vlkit.tasks.navigation.training import Lessons, Worlds, batches
from vlkit.train import Step

MET = 6  # times that the quickstart learns from each frame that it records


@dataclass(frozen=True)
class Options:
    """Time walking and learning in generated houses."""

    envs: tuple[int, ...] = (1, 16, 64, 256)
    """environments that step at once"""
    sizes: tuple[int, ...] = (64, 128, 256)
    """pixels along a side of a frame"""
    houses: tuple[int, ...] = (1, 8, 32)
    """in which they walk"""
    level: Level = "standard"
    """of the houses"""
    batch_size: int = 32
    """walks a training step"""
    steps: int = 20
    """training steps that are timed, beside three that are not"""
    repeats: int = 5
    """times that each is measured; the median counts"""
    seconds: float = 1.0
    """of stepping in each measurement"""
    threads: int | None = None
    """CPU threads; all cores where it is not given"""
    seed: int = 0
    """of houses, steps and weights"""

    def __post_init__(self) -> None:
        for name in ("envs", "sizes", "houses"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise ValueError(f"{name} = {values}, expected one or more, each at least 1")
        if min(self.batch_size, self.steps, self.repeats) < 1 or self.seconds <= 0:
            raise ValueError("batch_size, steps and repeats must be at least 1, and seconds above 0")


def main(arguments: Sequence[str]) -> int:
    """Prints both tables."""
    options = load(Options, None, arguments, prog="vlkit bench houses")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{processor()}; torch {torch.__version__}; {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "houses"
        houses = max(options.houses)
        benchmark.generate(
            benchmark.Arguments(data, seed=options.seed, houses=houses, unseen=1, levels=(options.level,), walks=20)
        )
        console.print(walking(options, data))
        console.print(learning(options, data))
    return 0


# The environment alone


def walking(options: Options, data: Path) -> Table:
    """How steps a second grow with environments, pixels and houses, each around 64 environments of 64x64."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Environment alone, RGB-D, steps a second")
    for column in ("", "houses", "pixels", "environments", "steps/s", "of 64 x 64x64"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    most, usual = max(options.houses), (64, 64)
    wanted = [(most, count, 64) for count in options.envs]
    wanted += [(most, 64, size) for size in options.sizes] + [(houses, 64, 64) for houses in options.houses]
    reference = stepping(options, data, most, *usual)
    for houses, envs, size in dict.fromkeys(wanted):
        rate = reference if (houses, envs, size) == (most, *usual) else stepping(options, data, houses, envs, size)
        table.add_row("vlkit", str(houses), f"{size}x{size}", str(envs), f"{rate:,.0f}", f"{rate / reference:.2f}")
    for name in MODULES:
        shown = peer(name, data, options)
        table.add_row(*shown, f"{float(shown[4].replace(',', '')) / reference:.3f}" if shown[4][:1].isdigit() else "")
    return table


def stepping(options: Options, data: Path, houses: int, envs: int, size: int) -> float:
    """Median of steps a second."""
    episodes = read_episodes(data / "train" / "train.json.gz").episodes
    scenes = sorted({episode.scene for episode in episodes})[:houses]
    env = NavigationVectorEnv(
        envs,
        episodes=[episode for episode in episodes if episode.scene in scenes],
        scenes=data / "scenes",
        size=size,
        oracle=False,
        measure=False,
        threads=options.threads,
    )
    env.reset(seed=options.seed)
    # A STOP ends a walk, and begins the next: as often as demonstrations do.
    chances = torch.tensor([0.02, 0.6, 0.19, 0.19])
    generator = torch.Generator().manual_seed(options.seed)
    actions = itertools.cycle(torch.multinomial(chances.expand(64, -1), envs, True, generator=generator).to(env.device))

    def step() -> int:
        env.step(next(actions))
        return envs

    return rate_of(step, options)


def rate_of(work: Callable[[], int], options: Options) -> float:
    """Median over the repeats of what `work` says that it did, a second."""
    for _ in range(3):
        work()
    rates = []
    for _ in range(options.repeats):
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < options.seconds:
            done += work()
        rates.append(done / (time.perf_counter() - start))
    return statistics.median(rates)


def peer(name: str, data: Path, options: Options) -> tuple[str, str, str, str, str]:
    """A row for a peer, drawing 64x64 RGB-D of one environment; why not where it is not to be had."""
    if importlib.util.find_spec(MODULES[name]) is None:
        return name, "1", "64x64", "1", "not installed"
    scene = str(next((data / "scenes").glob("*/*.glb")))
    row = peer_row(name, 0, 64, "-", data, scene, Rendering(repeats=options.repeats, seconds=options.seconds))
    return (name, "1", "64x64", "1", f"{row.wall:,.0f}" if isinstance(row, Row) else row)


# Training


def learning(options: Options, data: Path) -> Table:
    """The default policy's training, by its parts."""
    settings = Config(
        data=data,
        levels=(options.level,),
        batch_size=options.batch_size,
        round_episodes=256,
        select_episodes=64,
        threads=options.threads,
        seed=options.seed,
        max_steps=250,
    )
    seed_everything(options.seed)
    worlds = Worlds(settings)
    policy = built_policy(settings, vocabulary=worlds.tokenizer.size, categories=len(worlds.train.env.categories))
    policy.to(worlds.device)
    optimizer = torch.optim.AdamW(policy.parameters(), settings.learning_rate, fused=True)
    with tempfile.TemporaryDirectory() as store:
        lessons = Lessons(settings, worlds.train, Path(store))
        start = time.perf_counter()
        lessons.prepare(None, 0)
        recorded = lessons.store.round(0).frame_count
        simulate = recorded / (time.perf_counter() - start)
        rows = batches(settings)

        def learn(loss_of: Lessons | Reinforcement) -> Callable[[int], int]:
            def step(index: int) -> int:
                at = Step(index=index, steps=10**6, seed=index, device=worlds.device)
                with torch.autocast(worlds.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                    loss, logged = loss_of(policy, rows.collate(rows.indices(index, options.seed)), at)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.clip_norm)
                optimizer.step()
                return int(logged["frames"])

            return step

        learned = timed(learn(lessons), options.steps)
        walked = inferred(policy, worlds.select)
        reinforced = Reinforcement(replace(settings, method="ppo", dropout=0.0, word_dropout=0.0), worlds.train)
        ppo = timed(learn(reinforced), options.steps) / settings.epochs
    infer = 1 / max(1 / walked - 1 / simulate, 1e-9)
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title=f"Training of the default policy, {options.level} houses, 64x64"
    )
    for column in ("part", "steps/s"):
        table.add_column(column, justify="left" if column == "part" else "right", no_wrap=True)
    for name, rate in (
        ("simulate, with the expert", simulate),
        ("infer", infer),
        ("learn", learned),
        ("imitation, end to end", 1 / (1 / learned + 1 / simulate / MET)),
        (f"PPO, end to end, {settings.epochs} epochs", ppo),
    ):
        table.add_row(name, f"{rate:,.0f}")
    return table


def timed(step: Callable[[int], int], count: int) -> float:
    """Frames a second of so many steps, behind three that are not timed."""
    for index in range(3):
        step(index)
    start, frames = time.perf_counter(), 0
    for index in range(3, 3 + count):
        frames += step(index)
    return frames / (time.perf_counter() - start)


def inferred(policy: torch.nn.Module, world: World) -> float:
    """Steps a second of greedy walks, simulation included."""
    policy.eval()
    start = time.perf_counter()
    walks = policy_walks(policy, world)  # type: ignore[arg-type]
    taken = sum(len(walk.actions) for walk in walks)
    policy.train()
    return taken / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
