"""Times `vlkit judge r2r` beside the same rules written plainly with networkx, and compares every number of the two.

    vlkit bench r2r-judge --annotations R2R_val_unseen.json --connectivity connectivity

Predictions are made here: for each instruction the agent follows its path for a while, then walks at random. The
networkx side does what public evaluators do (all shortest paths first, then item by item), reads the same three inputs,
and checks edges and starts alone.
"""

import gc
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx
import numpy

MARGIN = 3.0  # metres
STEPS = 12  # viewpoints of the longest random walk


@dataclass(frozen=True)
class Options:
    """Time vlkit's judge beside networkx."""

    annotations: Path
    """R2R annotations file."""
    connectivity: Path
    """Folder of <scan>_connectivity.json files."""
    rounds: int = 5
    """Times that each is run; the fastest counts."""
    seed: int = 0
    """Seed of the walks."""


def main(arguments: list[str]) -> int:
    """Prints the times and the largest difference between two numbers; 1 where that is not below 1e-9."""
    from vlkit.config import load

    options = load(Options, None, arguments, prog="vlkit bench r2r-judge")
    every = sorted(file.name.removesuffix("_connectivity.json") for file in options.connectivity.glob("*.json"))
    needed = sorted({item["scan"] for item in json.loads(options.annotations.read_text())})
    with tempfile.TemporaryDirectory() as folder:
        predictions, output = Path(folder) / "predictions.json", Path(folder) / "scores.json"
        predictions.write_text(json.dumps(walks(options.annotations, options.connectivity, options.seed)))
        files = (predictions, options.annotations, options.connectivity)
        seconds: dict[str, float] = {}
        for _ in range(options.rounds):
            for scans in (needed, every):
                timed(seconds, f"networkx {len(scans)}", partial(reference_scores, *files, scans))
                timed(seconds, f"vlkit {len(scans)}", partial(vlkit_scores, *files, scans))
            timed(seconds, "command", partial(command, *files, output))
        peer = reference_scores(*files, needed)
        rows = json.loads(output.read_text())["per_instruction"]
    names = list(next(iter(peer.values())))
    difference = max(abs(row[name] - peer[row["instr_id"]][name]) for row in rows for name in names)
    print(f"{len(rows)} trajectories, {len(names)} measures, from files to scores; best of {options.rounds}, seconds")
    print("graphs              networkx   vlkit   times as fast")
    for what, scans in (("those needed", needed), ("all in the folder", every)):
        slow, fast = seconds[f"networkx {len(scans)}"], seconds[f"vlkit {len(scans)}"]
        print(f"{len(scans):3} {what:<17} {slow:6.2f}  {fast:6.2f}   {slow / fast:13.1f}")
    print(f"vlkit judge r2r with intervals, table and output file: {seconds['command']:.2f} s")
    print(f"largest difference between two numbers: {difference:.1e}")
    return 0 if difference < 1e-9 and len(rows) == len(peer) else 1


def timed(seconds: dict[str, float], name: str, function: Callable[[], object]) -> None:
    """Keeps the least wall-clock seconds that one call took."""
    # As timeit does: otherwise a collection falls into one side's call or the other's by chance.
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        function()
        seconds[name] = min(seconds.get(name, math.inf), time.perf_counter() - start)
    finally:
        gc.enable()


def vlkit_scores(predictions: Path, annotations: Path, connectivity: Path, scans: list[str]) -> Any:
    """What the command does before it computes intervals, with the graphs of `scans`."""
    from vlkit.envs.r2r import read_episodes, read_scans
    from vlkit.tasks.r2r.judge import judge
    from vlkit.tasks.r2r.submission import read_submission

    trajectories, problems = read_submission(predictions)
    graphs = read_scans(connectivity, scans)
    for graph in graphs.values():
        graph.distances  # noqa: B018 - a cached property, which the other side computes for every graph too
    return judge(trajectories, read_episodes(annotations), graphs, problems=problems)


def command(predictions: Path, annotations: Path, connectivity: Path, output: Path) -> None:
    """The command, its table not shown."""
    from vlkit.tasks.r2r import judge

    arguments = ["--predictions", predictions, "--annotations", annotations]
    arguments += ["--connectivity", connectivity, "--output", output]
    with redirect_stdout(StringIO()):
        judge.main([str(argument) for argument in arguments])


def walks(annotations: Path, connectivity: Path, seed: int) -> list[dict[str, Any]]:
    """A submission: part of the path, then a random walk, with a turn on the spot here and there."""
    rng = random.Random(seed)
    graphs: dict[str, networkx.Graph] = {}
    items = []
    for item in json.loads(annotations.read_text()):
        graph = graphs.setdefault(item["scan"], read_graph(connectivity, item["scan"]))
        for k in range(len(item["instructions"])):
            path = item["path"][: rng.randint(1, len(item["path"]))]
            for _ in range(rng.randint(0, STEPS)):
                path.append(path[-1] if rng.random() < 0.2 else rng.choice(sorted(graph[path[-1]]) or [path[-1]]))
            items.append({"instr_id": f"{item['path_id']}_{k}", "trajectory": [[node, 0.0, 0.0] for node in path]})
    return items


def reference_scores(
    predictions: Path, annotations: Path, connectivity: Path, scans: list[str]
) -> dict[str, dict[str, float]]:
    """Instruction id -> its scores, by the rules as published and without any of vlkit's code."""
    truth = {}
    for item in json.loads(annotations.read_text()):
        for k in range(len(item["instructions"])):
            truth[f"{item['path_id']}_{k}"] = item
    graphs = {scan: read_graph(connectivity, scan) for scan in scans}
    distances = {scan: dict(networkx.all_pairs_dijkstra_path_length(graph)) for scan, graph in graphs.items()}
    result = {}
    for prediction in json.loads(predictions.read_text()):
        item = truth[prediction["instr_id"]]
        path = [entry[0] for entry in prediction["trajectory"]]
        result[prediction["instr_id"]] = item_scores(graphs[item["scan"]], distances[item["scan"]], path, item["path"])
    return result


def read_graph(connectivity: Path, scan: str) -> networkx.Graph:
    """The included viewpoints of a scan, joined with their distance in metres."""
    nodes = json.loads((connectivity / f"{scan}_connectivity.json").read_text())
    graph = networkx.Graph()
    for node in nodes:
        if node["included"]:
            graph.add_node(node["image_id"])
            for other, free in zip(nodes, node["unobstructed"], strict=True):
                if free and other["included"]:
                    ends = [(each["pose"][3], each["pose"][7], each["pose"][11]) for each in (node, other)]
                    graph.add_edge(node["image_id"], other["image_id"], weight=math.dist(*ends))
    return graph


def item_scores(
    graph: networkx.Graph, distances: dict[str, dict[str, float]], path: list[str], reference: list[str]
) -> dict[str, float]:
    """All measures of one trajectory."""
    if path[0] != reference[0]:
        raise ValueError(f"starts at {path[0]}, not {reference[0]}")
    length = 0.0
    for here, there in pairwise(path):
        if here != there:
            length += graph[here][there]["weight"]
    goal = reference[-1]
    nav_error = distances[path[-1]][goal]
    oracle_error = min(distances[node][goal] for node in path)
    success = float(nav_error < MARGIN)
    shortest = distances[reference[0]][goal]

    table = numpy.full((len(reference) + 1, len(path) + 1), numpy.inf)
    table[0, 0] = 0.0
    for i, wanted in enumerate(reference, start=1):
        for j, node in enumerate(path, start=1):
            table[i, j] = distances[wanted][node] + min(table[i - 1, j], table[i, j - 1], table[i - 1, j - 1])
    ndtw = math.exp(-table[-1, -1] / (len(reference) * MARGIN))

    coverage = 0.0
    for wanted in reference:
        coverage += math.exp(-min(distances[wanted][node] for node in path) / MARGIN) / len(reference)
    reference_length = sum(distances[a][b] for a, b in pairwise(reference))
    expected = coverage * reference_length
    divisor = expected + abs(expected - length)
    return {
        "length": length,
        "nav_error": nav_error,
        "oracle_error": oracle_error,
        "success": success,
        "oracle_success": float(oracle_error < MARGIN),
        "spl": success * (shortest / max(length, shortest) if max(length, shortest) > 0 else 1.0),
        "ndtw": ndtw,
        "sdtw": success * ndtw,
        "cls": coverage * (expected / divisor if divisor > 0 else 1.0),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
