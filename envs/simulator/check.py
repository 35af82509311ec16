"""`vlkit check simulator`: pictures, distances, snaps, moves and rollouts beside what habitat-sim itself measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vlkit import config
from vlkit.envs.simulator.golden import Figure, frame_figures, golden_scenes
from vlkit.envs.simulator.golden_navigation import navigation_figures


@dataclass(frozen=True)
class Options:
    """Compare the embedded simulator with habitat-sim's measurements of the same scenes."""

    golden: Path
    """one golden scene (scene.glb, golden.json, golden.npz), or a folder of several"""


def figures(folder: Path) -> list[Figure]:
    """Every figure of one golden scene."""
    return [*frame_figures(folder), *navigation_figures(folder)]


def main(arguments: Sequence[str]) -> int:
    """`vlkit check simulator --golden DIR`: a table of each scene; exit code 1 where a bound is missed."""
    options = config.load(Options, None, arguments, prog="vlkit check simulator")
    console, missed = Console(highlight=False), 0
    for folder in golden_scenes(options.golden):
        table = Table("figure", "value", "bound", "", title=folder.name, title_justify="left")
        for figure in figures(folder):
            missed += not figure.met
            bounded = math.isfinite(figure.bound)
            bound, verdict = f"{figure.side} {figure.bound:g}", "met" if figure.met else "MISSED"
            table.add_row(figure.name, f"{figure.value:.4f}", bound if bounded else "", verdict if bounded else "")
        console.print(table)
    console.print("every bound is met" if not missed else f"{missed} bounds are missed")
    return 1 if missed else 0
