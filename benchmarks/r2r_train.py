"""Training of the route agent: environment steps a second with backward, on one core, and where the time goes.

The limit beside it is what the same core does in plain matrix products of the agent's sizes in the same run.

    vlkit bench r2r-train [--annotations DIR --connectivity DIR] [--batch-size 64] [--steps 40]

Without a data folder a generated world is used.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from vlkit.batches import Batches
from vlkit.config import load
from vlkit.envs import buildings
from vlkit.envs.graph import R2RVectorEnv
from vlkit.tasks.r2r.data import read_splits
from vlkit.tasks.r2r.settings import Config, built_agent
from vlkit.tasks.r2r.training import Losses
from vlkit.text import Tokenizer
from vlkit.train import Step


@dataclass(frozen=True)
class Options:
    """Time the training of the image-free route agent."""

    annotations: Path | None = None
    """folder with R2R_train.json; a generated world where it is not given"""
    connectivity: Path | None = None
    """folder of the graphs"""
    batch_size: int = 64
    """episodes a step; each is walked twice, after the demonstration and by the agent itself"""
    steps: int = 40
    """training steps that are timed, in four rounds"""
    threads: int = 1
    """of torch"""
    seed: int = 0
    """of weights and order"""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.steps, self.threads) < 1:
            raise ValueError(
                f"batch_size {self.batch_size}, steps {self.steps}, threads {self.threads}: each must be at least 1"
            )


class Sections:
    """Seconds spent inside wrapped functions, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return timed


def main(arguments: Sequence[str]) -> int:
    """Times on the data that was named, or on a generated world."""
    options = load(Options, None, arguments, prog="vlkit bench r2r-train")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        annotations, connectivity, data = options.annotations, options.connectivity, "R2R"
        if annotations is None or connectivity is None:
            buildings.generate(Path(folder) / "world", seed=options.seed)
            annotations, connectivity = Path(folder) / "world/annotations", Path(folder) / "world/connectivity"
            data = "generated world"
        measure(options, annotations, connectivity, data)
    return 0


def measure(options: Options, annotations: Path, connectivity: Path, data: str) -> None:
    """Trains for a moment in each phase and prints the table."""
    settings = Config(annotations, connectivity, batch_size=options.batch_size, seed=options.seed, device="cpu")
    splits = read_splits(annotations, connectivity, ["train"])
    tokenizer = Tokenizer.train(
        [episode.instruction for episode in splits.episodes["train"]], minimum=settings.min_count
    )
    world = splits.worlds(tokenizer, max_words=settings.max_words)["train"]
    torch.manual_seed(options.seed)
    agent = built_agent(settings, tokenizer, 0)
    losses = Losses(settings, world, None)
    optimizer = torch.optim.AdamW(agent.parameters(), 1e-3, fused=True)
    lengths = world.episodes.word_counts.tolist()
    batches: Batches[torch.Tensor] = Batches(len(lengths), options.batch_size, torch.tensor, lengths=lengths)
    sections = Sections()
    agent.text.forward = sections.wrapped("text encoder, forward", agent.text.forward)
    for name in ("step", "reset"):
        setattr(R2RVectorEnv, name, sections.wrapped("environment", getattr(R2RVectorEnv, name)))

    def train(first: int, count: int, total: int) -> tuple[int, float]:
        """Environment steps and seconds of `count` steps from `first` on."""
        taken, start = 0, time.perf_counter()
        for index in range(first, first + count):
            episodes = batches.collate(batches.indices(index, options.seed))
            step = Step(index=index, steps=total, seed=index, device=torch.device("cpu"))
            loss, logged = forward(agent, episodes, step)
            optimizer.zero_grad()
            backward(loss)
            torch.nn.utils.clip_grad_norm_(agent.parameters(), 5.0)
            optimizer.step()
            taken += int(logged["env_steps"])
        return taken, time.perf_counter() - start

    forward = sections.wrapped("forward", losses)
    backward = sections.wrapped("backward", torch.autograd.backward)
    rounds, count = 4, max(options.steps // 4, 1)
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=f"Route agent, {data}, batch {options.batch_size} x 2 walks, {options.threads} thread(s)",
    )
    for name in ("phase", "env steps/s", "text", "env", "policy", "backward", "rest", "GFLOP/s", "of matmul"):
        table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    for phase, first in (("imitation", 0), ("A2C", 10**6)):
        total = 10**7 if first == 0 else first + 10**4  # the second half of a run learns from the reward
        train(first, 2, total)
        counter: AbstractContextManager[Any] = FlopCounterMode(display=False)
        with counter as flops:
            counted, _ = train(first, 2, total)
        per_step = flops.get_total_flops() / counted
        sections.seconds.clear()
        rates, limits, spent = [], [], 0.0
        for i in range(rounds):
            taken, seconds = train(first + 2 + i * count, count, total)
            rates.append(taken / seconds)
            limits.append(matmul_rate())
            spent += seconds
        parts = sections.seconds
        inside = parts["forward"] - parts["text encoder, forward"] - parts["environment"]
        rest = spent - parts["forward"] - parts["backward"]
        shares = (parts["text encoder, forward"], parts["environment"], inside, parts["backward"], rest)
        rate = statistics.median(rates)
        ratio = statistics.median(r * per_step / limit for r, limit in zip(rates, limits, strict=True))
        cells = [f"{share / spent:.0%}" for share in shares]
        table.add_row(phase, f"{rate:,.0f}", *cells, f"{rate * per_step / 1e9:.1f}", f"{ratio:.0%}")
    Console().print(table)


def matmul_rate(rows: int = 128, dim: int = 256) -> float:
    """Floating-point operations a second in products (rows, dim) x (dim, 4 dim), the agent's own size."""
    a, b = torch.randn(rows, dim), torch.randn(dim, 4 * dim)
    start, count = time.perf_counter(), 200
    with torch.no_grad():
        for _ in range(count):
            a @ b
    return count * 2 * rows * dim * 4 * dim / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
