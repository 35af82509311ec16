"""Steps a second of the R2R environment on one core, beside environments written plainly in Python.

    vlkit bench r2r-step [--annotations DIR --connectivity DIR] [--repeats 5]

Both sides walk the same episodes with default settings: observations, oracle action, reward, every metric at the end,
the next episode at the step after it. Only `step` is timed; actions are drawn among those that lead somewhere. The
plain side keeps a dictionary graph with all shortest paths and gives each environment's observation as a dictionary with
a list of candidates, as the public R2R environments do; that an agent must then pad and stack those is not counted.
Without data a generated world is used. First, both sides must agree on observations, rewards and metrics.
"""

import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import networkx
import torch

from vlkit.envs.graph import DOWN, FORWARD, LEFT, RIGHT, STEPS, STOP, UP, R2RVectorEnv, World, read_world
from vlkit.envs.r2r import Episode, Scan

Space = Literal["panoramic", "egocentric"]
SPACES: tuple[Space, ...] = ("panoramic", "egocentric")
TURN = math.pi / 6
HALF_VIEW = math.radians(40)
SUCCESS_M = 3.0


@dataclass(frozen=True)
class Options:
    """Time the R2R environment beside plain Python environments."""

    annotations: Path | None = None
    """annotations file, or folder of R2R_<split>.json; a generated world where it is not given"""
    connectivity: Path | None = None
    """folder of <scan>_connectivity.json files"""
    split: str = "train"
    """split of the folder"""
    envs: tuple[int, ...] = (1, 256, 1024)
    """numbers of environments"""
    repeats: int = 5
    """times that each is measured; the median counts"""
    seconds: float = 1.0
    """of stepping in each measurement"""
    seed: int = 0
    """of the episodes' order and the actions"""

    def __post_init__(self) -> None:
        if not self.envs or min(self.envs) < 1 or self.repeats < 1 or self.seconds <= 0:
            raise ValueError(
                f"envs {self.envs}, repeats {self.repeats}, seconds {self.seconds:g}: give one number of environments or "
                "more, and each number above 0"
            )


def main(arguments: Sequence[str]) -> int:
    """Prints the table; 1 where the two sides disagree."""
    from vlkit.config import load
    from vlkit.errors import UserError

    options = load(Options, None, arguments, prog="vlkit bench r2r-step")
    torch.set_num_threads(1)
    try:
        world, data = the_world(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    graphs = {name: plain_graph(scan) for name, scan in world.scans.items()}
    compared = sum(differences(world, graphs, space, options.seed) for space in SPACES)
    print(
        f"{data}: {len(world.scans)} buildings, {len(world.episodes)} instructions; torch {torch.__version__}, one thread"
    )
    print(
        f"median of {options.repeats} x {options.seconds:g} s (slowest to fastest), thousands of environment steps/s\n"
    )
    print(f"{'action space':<13}{'envs':>5}   {'vlkit':<24}{'plain Python':<24}{'times as fast':>13}")
    for space in SPACES:
        for envs in options.envs:
            ours, peer = rates(world, graphs, space, envs, options)
            ratio = statistics.median(ours) / statistics.median(peer)
            print(f"{space:<13}{envs:>5}   {shown(ours):<24}{shown(peer):<24}{ratio:>13.2f}")
    print(f"\nobservations, rewards and metrics that differ between the two: {compared}")
    return 0 if compared == 0 else 1


def the_world(options: Options) -> tuple[World, str]:
    """The world to walk in, and what to call it."""
    if options.annotations is not None and options.connectivity is not None:
        return read_world(options.annotations, options.connectivity, options.split), f"R2R {options.split}"
    from vlkit.envs.buildings import generate

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "world"
        generate(made, seed=options.seed, buildings_unseen=1)
        return read_world(made / "annotations", made / "connectivity", "train"), "generated world"


def shown(rates: list[float]) -> str:
    """Median and range, in thousands."""
    return f"{statistics.median(rates) / 1e3:7.1f} ({min(rates) / 1e3:.1f} to {max(rates) / 1e3:.1f})"


def rates(
    world: World, graphs: dict[str, "PlainGraph"], space: Space, envs: int, options: Options
) -> tuple[list[float], list[float]]:
    """Environment steps a second of both sides, which take turns so that a busy moment hits both."""
    ours, peer = [], []
    for repeat in range(options.repeats):
        seed = options.seed + repeat
        ours.append(our_rate(world, space, envs, seed, options.seconds))
        peer.append(plain_rate(world, graphs, space, envs, seed, options.seconds))
    return ours, peer


def our_rate(world: World, space: Space, envs: int, seed: int, seconds: float) -> float:
    """Of the vector environment."""
    env = R2RVectorEnv(envs, world=world, action_space=space)
    observation, _ = env.reset(seed=seed)
    generator = torch.Generator().manual_seed(seed)

    def step() -> Callable[[], None]:
        actions = torch.multinomial(observation["action_mask"].float(), 1, generator=generator)[:, 0]

        def act() -> None:
            nonlocal observation
            observation = env.step(actions)[0]

        return act

    return envs * calls_a_second(step, seconds)


def plain_rate(
    world: World, graphs: dict[str, "PlainGraph"], space: Space, envs: int, seed: int, seconds: float
) -> float:
    """Of the plain environments, one after the other."""
    rng = random.Random(seed)
    order = list(world.episodes.episodes)
    rng.shuffle(order)
    words = dict(zip(world.episodes.episodes, world.episodes.words.tolist(), strict=True))
    walks = [PlainEnv(graphs, words, space, STEPS[space]) for _ in range(envs)]
    played = 0

    def anew(walk: PlainEnv) -> dict[str, Any]:
        nonlocal played
        played += 1
        return walk.reset(order[played % len(order)])

    observations = [anew(walk) for walk in walks]

    def step() -> Callable[[], None]:
        actions = [rng.choice(observation["actions"]) for observation in observations]

        def act() -> None:
            for i, walk in enumerate(walks):
                observations[i] = anew(walk) if walk.ended else walk.step(actions[i])[0]

        return act

    return envs * calls_a_second(step, seconds)


def calls_a_second(made: Callable[[], Callable[[], None]], seconds: float) -> float:
    """Calls a second of what `made` returns; making it is not timed."""
    for _ in range(3):
        made()()
    calls, spent = 0, 0.0
    while spent < seconds:
        call = made()
        start = time.perf_counter()
        call()
        spent += time.perf_counter() - start
        calls += 1
    return calls / spent


def differences(world: World, graphs: dict[str, "PlainGraph"], space: Space, seed: int, envs: int = 64) -> int:
    """How many numbers differ by more than 1e-4 when both sides walk the same episodes with the same actions."""
    rng = random.Random(seed)
    episodes = [rng.randrange(len(world.episodes)) for _ in range(envs)]
    words = dict(zip(world.episodes.episodes, world.episodes.words.tolist(), strict=True))
    env = R2RVectorEnv(envs, world=world, action_space=space, autoreset="Disabled")
    observation, info = env.reset(options={"episodes": episodes})
    walks = [PlainEnv(graphs, words, space, STEPS[space]) for _ in range(envs)]
    seen = [walk.reset(world.episodes.episodes[i]) for walk, i in zip(walks, episodes, strict=True)]
    wrong = 0

    def differ(name: str, row: int, other: Sequence[float]) -> bool:
        ours = (info if name == "distance" else observation)[name][row].flatten().tolist()
        turns = "heading" in name  # -pi and pi are one direction
        apart = [math.remainder(a - b, 2 * math.pi) if turns else a - b for a, b in zip(ours, other, strict=False)]
        return any(abs(each) > 1e-4 for each in apart)

    while not all(walk.ended for walk in walks):
        live = [i for i, walk in enumerate(walks) if not walk.ended]
        for i in live:
            numbers = {name: [seen[i][name]] for name in ("heading", "elevation", "distance", "steps")}
            numbers["moved"] = seen[i]["moved"]
            if space == "panoramic":
                for name in ("heading", "elevation", "distance", "visited"):
                    numbers[f"candidate_{name}"] = [float(each[name]) for each in seen[i]["candidates"]]
            else:
                numbers["ahead"] = seen[i]["ahead"]
            wrong += sum(differ(name, i, values) for name, values in numbers.items())
            wrong += observation["action_mask"][i].nonzero()[:, 0].tolist() != seen[i]["actions"]
        actions = [rng.choice(seen[i]["actions"]) if i in live else STOP for i in range(envs)]
        observation, reward, _, _, info = env.step(actions)
        for i in live:
            seen[i], plain_reward, ended, metrics = walks[i].step(actions[i])
            wrong += plain_reward != float(reward[i])
            wrong += ended != bool(env.ended[i])
            wrong += sum(abs(value - float(info["metrics"][name][i])) > 1e-9 for name, value in metrics.items())
    return wrong


# The plain side.


@dataclass
class PlainGraph:
    """One building."""

    positions: dict[str, tuple[float, float, float]]
    neighbours: dict[str, list[str]]
    distances: dict[str, dict[str, float]]
    paths: dict[str, dict[str, list[str]]]


def plain_graph(scan: Scan) -> PlainGraph:
    """With all shortest paths, as the public environments prepare them."""
    graph = networkx.Graph()
    positions = dict(zip(scan.viewpoints, map(tuple, scan.positions.tolist()), strict=True))
    graph.add_nodes_from(scan.viewpoints)
    for a, here in enumerate(scan.viewpoints):
        for b, there in enumerate(scan.viewpoints):
            if scan.adjacency[a, b]:
                graph.add_edge(here, there, weight=math.dist(positions[here], positions[there]))
    return PlainGraph(
        positions=positions,
        neighbours={here: sorted(graph[here], key=scan.index.__getitem__) for here in scan.viewpoints},
        distances=dict(networkx.all_pairs_dijkstra_path_length(graph)),
        paths=dict(networkx.all_pairs_dijkstra_path(graph)),
    )


class PlainEnv:
    """One walk."""

    def __init__(
        self, graphs: dict[str, PlainGraph], words: dict[Episode, list[int]], space: Space, max_steps: int
    ) -> None:
        self.graphs, self.words, self.space, self.max_steps = graphs, words, space, max_steps

    def reset(self, episode: Episode) -> dict[str, Any]:
        """The observation at its start."""
        self.episode, self.graph = episode, self.graphs[episode.scan]
        self.viewpoint, self.path = episode.start, [episode.start]
        self.heading, self.elevation = episode.heading, 0.0
        if self.space == "egocentric":
            self.heading = round(episode.heading / TURN) % 12 * TURN
        self.last_action, self.steps, self.ended = -1, 0, False
        return self.observation()

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, dict[str, float]]:
        """Observation, reward, whether the walk ended, and then its metrics."""
        before = self.distance()
        if self.space == "panoramic":
            if action != STOP:
                self.go(self.graph.neighbours[self.viewpoint][action - 1], turn=True)
        elif action == FORWARD:
            ahead = self.ahead()
            if ahead is not None:
                self.go(ahead, turn=False)
        elif action in (LEFT, RIGHT):
            turns = round(self.heading / TURN) + (1 if action == RIGHT else -1)
            self.heading = turns % 12 * TURN
        elif action in (UP, DOWN):
            self.elevation = min(max(self.elevation + (TURN if action == UP else -TURN), -TURN), TURN)
        if action != STOP:  # to stop adds no entry
            self.path.append(self.viewpoint)
        self.last_action = action
        self.steps += 1
        self.ended = action == STOP or self.steps >= self.max_steps
        after = self.distance()
        if action == STOP:
            reward = 2.0 if after < SUCCESS_M else -2.0
        else:
            reward = 1.0 if after < before else -1.0 if after > before else 0.0
        return self.observation(), reward, self.ended, self.metrics() if self.ended else {}

    def go(self, viewpoint: str, turn: bool) -> None:
        """Hops there; panoramic agents then look the way they came."""
        if turn:
            self.heading, self.elevation, _ = self.direction(viewpoint)
        self.viewpoint = viewpoint

    def distance(self) -> float:
        """Metres to the goal."""
        return self.graph.distances[self.viewpoint][self.episode.goal]

    def direction(self, viewpoint: str) -> tuple[float, float, float]:
        """Heading, elevation and metres from here."""
        x, y, z = self.graph.positions[self.viewpoint]
        u, v, w = self.graph.positions[viewpoint]
        heading = math.atan2(u - x, v - y) % (2 * math.pi)
        elevation = math.atan2(w - z, math.hypot(u - x, v - y))
        return heading, elevation, math.dist((x, y, z), (u, v, w))

    def ahead(self) -> str | None:
        """The viewpoint nearest the image centre."""
        best, nearest = None, math.inf
        for viewpoint in self.graph.neighbours[self.viewpoint]:
            heading, elevation, _ = self.direction(viewpoint)
            aside = math.remainder(heading - self.heading, 2 * math.pi)
            off_centre = aside**2 + (elevation - self.elevation) ** 2
            if abs(aside) <= HALF_VIEW and off_centre < nearest:
                best, nearest = viewpoint, off_centre
        return best

    def observation(self) -> dict[str, Any]:
        """What the agent is told."""
        x, y, z = self.graph.positions[self.episode.start]
        u, v, w = self.graph.positions[self.viewpoint]
        sine, cosine = math.sin(self.episode.heading), math.cos(self.episode.heading)
        told: dict[str, Any] = {
            "instruction": self.words[self.episode],
            "episode": self.episode.id,
            "viewpoint": self.viewpoint,
            "position": (u, v, w),
            "heading": self.heading,
            "elevation": self.elevation,
            "moved": [(u - x) * cosine - (v - y) * sine, (u - x) * sine + (v - y) * cosine, w - z],
            "steps": self.steps,
            "last_action": self.last_action,
            "distance": self.distance(),
        }
        if self.space == "panoramic":
            candidates = []
            for viewpoint in self.graph.neighbours[self.viewpoint]:
                heading, elevation, metres = self.direction(viewpoint)
                candidates.append(
                    {
                        "viewpoint": viewpoint,
                        "heading": math.remainder(heading - self.heading, 2 * math.pi),
                        "elevation": elevation,
                        "distance": metres,
                        "visited": viewpoint in self.path,
                    }
                )
            told["candidates"] = candidates
            told["actions"] = list(range(len(candidates) + 1))
            told["oracle_action"] = self.panoramic_oracle()
        else:
            ahead = self.ahead()
            told["ahead"] = [0.0, 0.0, 0.0]
            if ahead is not None:
                heading, elevation, metres = self.direction(ahead)
                aside = math.remainder(heading - self.heading, 2 * math.pi)
                told["ahead"] = [aside, elevation - self.elevation, metres]
            tilt = round(self.elevation / TURN)
            available = [True, ahead is not None, True, True, tilt < 1, tilt > -1]
            told["actions"] = [action for action, there in enumerate(available) if there]
            told["oracle_action"] = self.egocentric_oracle(ahead)
        return told

    def panoramic_oracle(self) -> int:
        """The first hop of a shortest path."""
        if self.viewpoint == self.episode.goal:
            return STOP
        following = self.graph.paths[self.viewpoint][self.episode.goal][1]
        return 1 + self.graph.neighbours[self.viewpoint].index(following)

    def egocentric_oracle(self, ahead: str | None) -> int:
        """Turns and tilts towards that hop."""
        if self.viewpoint == self.episode.goal:
            return STOP
        following = self.graph.paths[self.viewpoint][self.episode.goal][1]
        if following == ahead:
            return FORWARD
        heading, elevation, _ = self.direction(following)
        aside = math.remainder(heading - self.heading, 2 * math.pi)
        if abs(aside) > TURN / 2:
            return RIGHT if aside > 0 else LEFT
        return UP if elevation > self.elevation else DOWN

    def metrics(self) -> dict[str, float]:
        """Of the walk that just ended."""
        distances, path, reference = self.graph.distances, self.path, self.episode.path
        goal = reference[-1]
        length = sum(distances[a][b] for a, b in pairwise(path))
        error = distances[path[-1]][goal]
        oracle_error = min(distances[viewpoint][goal] for viewpoint in path)
        success = float(error < SUCCESS_M)
        shortest = distances[path[0]][goal]
        table = [[math.inf] * (len(path) + 1) for _ in range(len(reference) + 1)]
        table[0][0] = 0.0
        for i, wanted in enumerate(reference):
            for j, viewpoint in enumerate(path):
                best = min(table[i][j], table[i][j + 1], table[i + 1][j])
                table[i + 1][j + 1] = distances[wanted][viewpoint] + best
        ndtw = math.exp(-table[-1][-1] / (len(reference) * SUCCESS_M))
        coverage = 0.0
        for wanted in reference:
            coverage += math.exp(-min(distances[wanted][viewpoint] for viewpoint in path) / SUCCESS_M)
        coverage /= len(reference)
        expected = coverage * sum(distances[a][b] for a, b in pairwise(reference))
        return {
            "length": length,
            "nav_error": error,
            "oracle_error": oracle_error,
            "steps": float(len(path) - 1),
            "success": success,
            "oracle_success": float(oracle_error < SUCCESS_M),
            "spl": success * shortest / max(length, shortest),
            "ndtw": ndtw,
            "sdtw": success * ndtw,
            "cls": coverage * expected / (expected + abs(expected - length)),
        }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
