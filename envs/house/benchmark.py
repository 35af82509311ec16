"""`vlkit data houses`: generated houses, and walks through them with instructions, in VLN-CE's file formats.

    DIR/scenes/<house>/<house>.glb             the meshes, which any viewer and habitat-sim open
    DIR/houses/<house>.json                    rooms, openings and furniture of each
    DIR/<split>/<split>.json.gz, _gt.json.gz   episodes and demonstrations of train, val_seen, val_unseen, test
    DIR/README.md, houses.json                 that it is synthetic, and how it was made

val_seen walks in the houses of train; val_unseen and test each have houses of their own, in which some things have
colours that they never have in train. The same seed and numbers give the same files, byte for byte.
"""

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlkit.envs.episodes import Episode, GroundTruth, word_list, write_episodes, write_ground_truth
from vlkit.envs.house.follower import follow
from vlkit.envs.house.furnish import random_house
from vlkit.envs.house.house import LEVELS, House, Level, Opening, Point
from vlkit.envs.house.language import Detail, can_be_told, instruction, tokens
from vlkit.envs.house.mesh import house_scene
from vlkit.envs.house.routes import Goal, Route, exits, goals, route_of, side_of
from vlkit.envs.simulator.glb_writer import save_glb
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings, nav_grid
from vlkit.errors import UserError
from vlkit.files import check_replaceable, replace_folder
from vlkit.processes import cores
from vlkit.progress import progress

FORMAT = "vlkit houses"
VERSION = 5  # raise it when the same seed yields other files
MARKER = "houses.json"
OWN = ("scenes", "houses", "README.md", MARKER, "train", "val_seen", "val_unseen", "test")  # what the folder holds
MOST_HOUSES = 9999  # four digits in a house's name
FEWEST_FOR_PROCESSES = 24  # houses: fewer are made before other processes have started
RADIUS_M = 0.2  # of the agent's body
FORWARD_M = 0.25
STOP_M = 0.2  # demonstrations stop so near the goal
CLEAR_M = 0.15  # a start is so far from what one could bump into, beside the body
REFERENCE_STEPS = 8  # between the points of a reference path: 2 m, as R2R's viewpoints
RIVALS = 4  # places to stop, at least, that lie behind the opening that a start faces
TOLD_LEGS = 3  # whose openings an episode's "meaning" has
TRIES = 60  # starts and goals that are tried for one walk
DETAILS: tuple[Detail, ...] = ("fine", "medium", "coarse")
DETAIL_CHANCES = (0.4, 0.4, 0.2)

Groups = list[list[tuple[Goal, np.ndarray]]]  # goals with the place on the floor, those near each other together
Targets = dict[int, list[tuple[Goal, np.ndarray]]]  # by room


@dataclass(frozen=True)
class LevelRules:
    """What a walk of a level is."""

    turn_deg: float
    radius_m: float  # within which, and within the goal's room, a stop succeeds
    openings: tuple[int, int]  # that it passes, at least and at most
    along: bool  # whether it starts facing along the route
    metres: tuple[float, float]  # of the shortest way
    actions: tuple[int, int]  # of the demonstration


RULES: dict[Level, LevelRules] = {
    "starter": LevelRules(30.0, 1.5, (1, 2), along=True, metres=(2.0, 14.0), actions=(6, 80)),
    "standard": LevelRules(15.0, 1.0, (1, 4), along=False, metres=(2.5, 20.0), actions=(10, 150)),
    "long": LevelRules(15.0, 1.0, (2, 5), along=False, metres=(8.0, 40.0), actions=(40, 300)),
}

README = """# Generated houses

Made by `vlkit data houses --seed {seed} --houses {houses}`. Houses, furniture and instructions come from a random
generator, in the file formats of VLN-CE; nobody lives in them and nobody wrote the texts. A score on them says nothing
about R2R-CE.

| split | houses | trajectories | episodes |
|---|---|---|---|
{rows}

A symbolic follower that reads only the text and the tables of rooms and furniture reaches the goal in {follower} of the
episodes.
"""


@dataclass(frozen=True)
class Arguments:
    """Generate houses, and walks through them with instructions, in VLN-CE's file formats."""

    out: Path
    """folder to write; it is made, or replaced if it holds nothing but such houses"""
    seed: int = 0
    """the same seed and numbers give the same files, byte for byte"""
    houses: int = 120
    """houses of the splits train and val_seen, spread over the levels"""
    unseen: int | None = None
    """houses of val_unseen, and as many of test; a quarter of HOUSES where it is not given"""
    levels: tuple[Level, ...] = LEVELS
    """starter: 3 to 4 rooms; standard: 6 to 8; long: up to 12, on two storeys at times"""
    walks: int = 40
    """trajectories a house in train; val_seen has 4 a house, val_unseen and test 20"""
    instructions: int = 3
    """of each trajectory, each in an episode of its own"""
    spelling_noise: float = 0.0
    """share of words with a slip of the pen, in train alone"""
    processes: int | None = None
    """houses made at once; one a core where it is not given"""

    def __post_init__(self) -> None:
        for name in ("houses", "walks", "instructions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        if self.unseen is not None and self.unseen < 1:
            raise ValueError(f"unseen = {self.unseen}, expected at least 1")
        if self.houses + 2 * self.unseen_houses > MOST_HOUSES:
            raise ValueError(f"{self.houses} + 2 x {self.unseen_houses} houses; at most {MOST_HOUSES} have a name")
        if not 0 <= self.spelling_noise < 1:
            raise ValueError(f"spelling_noise = {self.spelling_noise}, expected a share from 0 up to, not including, 1")
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels = {self.levels}, expected one or more different ones of {', '.join(LEVELS)}")
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes = {self.processes}, expected at least 1")

    @property
    def unseen_houses(self) -> int:
        """Of val_unseen, and of test."""
        return self.unseen if self.unseen is not None else max(self.houses // 4, len(self.levels))


def main(arguments: Sequence[str]) -> int:
    """`vlkit data houses --out DIR [--seed S] [--houses N] ...`"""
    from rich.console import Console

    from vlkit.config import load

    chosen = load(Arguments, None, arguments, prog="vlkit data houses")
    made = generate(chosen)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for split, row in made.splits.items():
        console.print(
            f"{split:10}  {row['houses']:4} houses  {row['trajectories']:6} trajectories  {row['episodes']:6} episodes"
            "  (synthetic)"
        )
    console.print(
        f"{made.words} different words; a follower of the text alone reaches {made.followed:.1%} of the goals"
    )
    console.print(f"written: {chosen.out}")
    return 0


@dataclass(frozen=True)
class Job:
    """One house to make: what it is called and how many walks each split takes from it."""

    name: str
    level: Level
    seed: int
    held_out: bool
    split: str  # whose houses are of it alone; empty for those of train and val_seen
    walks: tuple[tuple[str, int], ...]  # split, trajectories
    instructions: int
    spelling_noise: float


@dataclass(frozen=True)
class Walk:
    """A start, a goal and the demonstration between them."""

    start: Point
    yaw: float
    goal: Goal
    route: Route
    metres: float
    demonstration: GroundTruth
    reference: tuple[Point, ...]


@dataclass(frozen=True)
class MadeHouse:
    """What a job leaves beside its files."""

    name: str
    episodes: dict[str, list[tuple[Episode, GroundTruth]]]  # by split; episodes of a trajectory have its number
    followed: int  # episodes in which the follower of the text reaches the goal


@dataclass(frozen=True)
class Made:
    """What was generated."""

    splits: dict[str, dict[str, int]]
    words: int
    followed: float


def is_there(arguments: Arguments) -> bool:
    """Whether the folder holds just what these arguments would write."""
    try:
        marker = json.loads((arguments.out / MARKER).read_text(encoding="utf-8"))
        return bool(marker["format"] == FORMAT and marker["arguments"] == _written(arguments))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _written(arguments: Arguments) -> list[Any]:
    """What decides what is written."""
    numbers = [arguments.seed, arguments.houses, arguments.unseen_houses, list(arguments.levels), arguments.walks]
    return [VERSION, *numbers, arguments.instructions, arguments.spelling_noise]


def generate(arguments: Arguments) -> Made:
    """Writes the houses and returns what each split holds. The folder appears whole or not at all.

    Raises UserError where it holds anything but earlier houses, where it cannot be written, and where a house has too
    few walks.
    """
    check_replaceable(arguments.out, OWN, MARKER, "houses")
    every = list(jobs(arguments))
    with replace_folder(arguments.out) as folder, progress(len(every), unit="houses") as shown:
        made = []
        for number, house in enumerate(_made(every, folder, arguments.processes), start=1):
            made.append(house)
            shown.update(number, house.name)
        splits, words = _write_splits(folder, made)
        episodes = sum(row["episodes"] for row in splits.values())
        followed = sum(house.followed for house in made) / episodes
        rows = "\n".join(f"| {split} | {' | '.join(map(str, row.values()))} |" for split, row in splits.items())
        text = README.format(seed=arguments.seed, houses=arguments.houses, rows=rows, follower=f"{followed:.1%}")
        (folder / "README.md").write_text(text, encoding="utf-8")
        marker = {"format": FORMAT, "arguments": _written(arguments), "splits": splits, "followed": followed}
        (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    return Made(splits, words, followed)


def _made(every: Sequence[Job], folder: Path, processes: int | None) -> Iterable[MadeHouse]:
    """The houses in order, made in a few processes where there are many."""
    count = min(processes or cores(), len(every))
    if count < 2 or len(every) < FEWEST_FOR_PROCESSES:
        yield from (made_house(job, folder) for job in every)
        return
    # Not forked: Warp and torch have threads by now.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(made_house, every, [folder] * len(every))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _write_splits(folder: Path, made: Sequence[MadeHouse]) -> tuple[dict[str, dict[str, int]], int]:
    """Numbers the episodes, writes each split's two files; returns what each holds, and how many words occur."""
    splits: dict[str, list[tuple[str, Episode, GroundTruth]]] = {}
    for house in made:
        for split, episodes in house.episodes.items():
            splits.setdefault(split, []).extend((house.name, *each) for each in episodes)
    vocabulary = word_list(tokens(episode.instruction) for _, episode, _ in splits["train"])
    place = {word: i for i, word in enumerate(vocabulary)}
    words: set[str] = set()
    rows: dict[str, dict[str, int]] = {}
    number = trajectory = 0
    for split, entries in splits.items():
        numbered: list[Episode] = []
        truth: dict[str, GroundTruth] = {}
        before: tuple[str, str] | None = None
        for name, episode, demonstration in entries:
            number += 1
            trajectory += (name, episode.trajectory_id) != before
            before = name, episode.trajectory_id
            said = tokens(episode.instruction)
            words.update(said)
            ids = tuple(place.get(word, 1) for word in said)
            numbered.append(replace(episode, id=str(number), trajectory_id=str(trajectory), tokens=ids))
            truth[str(number)] = demonstration
        write_episodes(folder / split / f"{split}.json.gz", numbered, vocabulary)
        write_ground_truth(folder / split / f"{split}_gt.json.gz", truth)
        rows[split] = {
            "houses": len({name for name, _, _ in entries}),
            "trajectories": len({episode.trajectory_id for episode in numbered}),
            "episodes": len(numbered),
        }
    return rows, len(words)


def jobs(arguments: Arguments) -> Iterator[Job]:
    """Every house of every split."""
    levels = arguments.levels
    groups = (
        ("train", arguments.houses, False, (("train", arguments.walks), ("val_seen", max(arguments.walks // 10, 1)))),
        ("val_unseen", arguments.unseen_houses, True, (("val_unseen", max(arguments.walks // 2, 1)),)),
        ("test", arguments.unseen_houses, True, (("test", max(arguments.walks // 2, 1)),)),
    )
    number = 0
    for split, count, held_out, walks in groups:
        for i in range(count):
            number += 1
            yield Job(
                name=f"house_{number:04d}",
                level=levels[i % len(levels)],
                seed=arguments.seed,
                held_out=held_out,
                split=split if held_out else "",
                walks=walks,
                instructions=arguments.instructions,
                spelling_noise=arguments.spelling_noise if not held_out else 0.0,
            )


def walks(house: House, grid: NavGrid, count: int, rng: random.Random) -> list[Walk]:
    """So many walks of the house's level, no two with the same start and goal; UserError where there are too few."""
    rules = RULES[house.level]
    places = grid.random_points(600, seed=rng.randrange(2**31), island=grid.largest_island).numpy()
    places = places[grid.distance_to_closest_obstacle(places) >= CLEAR_M]
    rooms = [house.room_at(tuple(place)) for place in places.tolist()]
    targets = _targets(house, grid)
    ahead = _ahead(house, targets, rules.radius_m) if rules.along else {}
    found: list[Walk] = []
    known: set[tuple[Point, Point]] = set()
    for _ in range(count * TRIES):
        if len(found) == count:
            return found
        pending: list[tuple[Point, float, Goal, Route, float]] = []
        for _ in range(2 * (count - len(found)) + 4):
            drawn = _drawn(house, grid, rules, places, rooms, targets, ahead, rng)
            if drawn is not None:
                pending.append(drawn)
        for walk in _demonstrated(grid, rules, house, pending):
            ends = walk.start, walk.goal.position
            fits = rules.actions[0] <= len(walk.demonstration.actions) <= rules.actions[1]
            if len(found) < count and fits and ends not in known:
                known.add(ends)
                found.append(walk)
    raise UserError(
        f"{house.name} ({house.level}, seed {house.seed}) has {len(found)} walks that fit its level, and {count} were "
        "asked for; ask for fewer walks and more houses"
    )


def _targets(house: House, grid: NavGrid) -> Targets:
    """Goals that can be stood at, by room."""
    every = goals(house)
    wished = np.array([goal.position for goal in every], np.float32).reshape(-1, 3)
    snapped = np.asarray(grid.snap(wished, grid.largest_island))
    near = np.linalg.norm((snapped - wished)[:, [0, 2]], axis=1) < 0.15
    by_room: Targets = {}
    for goal, place, fits in zip(every, snapped, near.tolist(), strict=True):
        room = house.room_at(tuple(place.tolist())) if fits else None
        if room is not None and room.id == goal.room:
            by_room.setdefault(goal.room, []).append((goal, place))
    return by_room


def _drawn(
    house: House,
    grid: NavGrid,
    rules: LevelRules,
    places: np.ndarray,
    rooms: Sequence[Any],
    targets: Targets,
    ahead: dict[int, list[Groups]],
    rng: random.Random,
) -> tuple[Point, float, Goal, Route, float] | None:
    """A start and a goal with the route between them, or nothing where they do not fit the level."""
    i = rng.randrange(len(places))
    if rooms[i] is None or rooms[i].kind == "stairs":
        return None
    if rules.along:
        if rooms[i].id not in ahead:
            return None
        goal, place = rng.choice(rng.choice(rng.choice(ahead[rooms[i].id])))
    else:
        goal, place = rng.choice(targets[rng.choice(sorted(targets))])
    if rooms[i].id == goal.room:
        return None
    metres = float(grid.geodesic(places[i : i + 1], place[None])[0])
    if not rules.metres[0] <= metres <= rules.metres[1]:
        return None
    path = np.asarray(grid.path(places[i : i + 1], place[None])[0])
    if rules.along:
        begin = path[1] - path[0]
        yaw = math.atan2(-float(begin[0]), -float(begin[2])) + math.radians(rng.uniform(-10, 10))
    else:
        yaw = rng.uniform(-math.pi, math.pi)
    start = _rounded(places[i])
    standing = replace(goal, position=_rounded(place))
    route = route_of(house, path, yaw, standing)
    if route is None or not rules.openings[0] <= len(route.openings) <= rules.openings[1]:
        return None
    if not can_be_told(house, route):
        return None
    return start, round(yaw, 4), standing, route, metres


def _ahead(house: House, targets: Targets, radius_m: float) -> dict[int, list[Groups]]:
    """By room, and by opening that leads out of it: the goals one or two openings away, in groups of those that one stop
    would serve together; openings behind which there are too few such groups are left out.

    Who starts facing along the route sees by which opening it goes. Were it not for several places to stop behind it,
    the way could be guessed without reading.
    """
    every = {
        (room.id, opening.id): _groups(house, opening, room.id, targets, radius_m)
        for room in house.rooms
        for opening in exits(house, room, None)
    }
    least = min(RIVALS, max(map(len, every.values())))
    by_room: dict[int, list[Groups]] = {}
    for (room_id, _), groups in every.items():
        if len(groups) >= least:
            by_room.setdefault(room_id, []).append(groups)
    return by_room


def _groups(house: House, opening: Opening, room: int, targets: Targets, radius_m: float) -> Groups:
    """The goals behind an opening, one or two openings away."""
    beyond = opening.other(room)
    entered = {beyond: opening.id}
    for each in exits(house, house.rooms[beyond], opening.id):
        entered.setdefault(each.other(beyond), each.id)
    groups: Groups = []
    for number, by in entered.items():
        for goal, place in targets.get(number, ()) if number != room else ():
            if goal.opening not in (None, by):
                continue
            for group in groups:
                first, where = group[0]
                if first.room == number and float(np.linalg.norm(where - place)) < radius_m:
                    group.append((goal, place))
                    break
            else:
                groups.append([(goal, place)])
    return groups


def _demonstrated(
    grid: NavGrid, rules: LevelRules, house: House, pending: Sequence[tuple[Point, float, Goal, Route, float]]
) -> list[Walk]:
    """The shortest-path expert walks all of them; what does not arrive is left out."""
    if not pending:
        return []
    at = torch.tensor([each[0] for each in pending])
    yaw = torch.tensor([each[1] for each in pending])
    goal = torch.tensor([each[2].position for each in pending])
    slots = grid.world.goals(None, goal)
    turn = math.radians(rules.turn_deg)
    steps: list[np.ndarray] = []
    places = [at.numpy()]
    going = torch.ones(len(pending), dtype=torch.bool)
    while bool(going.any()) and len(steps) < rules.actions[1] + 1:
        action = grid.world.next_actions(
            None, at, yaw, slots, goal_radius=STOP_M, forward_m=FORWARD_M, turn_deg=rules.turn_deg
        )
        action = torch.where(going, action, 0)
        going = action != 0
        moved, _ = grid.world.step(None, at, yaw=yaw, forward_m=FORWARD_M)
        at = torch.where((action == 1)[:, None], moved, at)
        yaw = yaw + turn * ((action == 2).float() - (action == 3).float())
        steps.append(action.numpy())
        places.append(at.numpy())
    left = grid.world.distance(None, at, slots)
    made = []
    for row, (start, heading, target, route, metres) in enumerate(pending):
        actions = [int(action[row]) for action in steps]
        room = house.room_at(tuple(at[row].tolist()))
        if bool(going[row]) or float(left[row]) > RADIUS_M + STOP_M or room is None or room.id != target.room:
            continue
        actions = actions[: actions.index(0) + 1]
        stood = [0, *(step + 1 for step, action in enumerate(actions) if action == 1)]  # VLN-CE lists no turns
        locations = tuple(_rounded(places[step][row]) for step in stood)
        made.append(
            Walk(
                start=start,
                yaw=heading,
                goal=target,
                route=route,
                metres=metres,
                demonstration=GroundTruth(locations, tuple(actions), forward_steps=len(stood) - 1),
                reference=(*locations[:-1:REFERENCE_STEPS], target.position),
            )
        )
    return made


def _rounded(point: np.ndarray) -> Point:
    x, y, z = (round(float(each), 4) for each in point)
    return x, y, z


def made_house(job: Job, folder: Path) -> MadeHouse:
    """Makes one house, writes its mesh and its tables into the folder, and returns its walks."""
    house = random_house(job.name, job.level, job.seed, held_out=job.held_out, split=job.split)
    scene = house_scene(house)
    grid = nav_grid(scene, NavSettings(agent_radius=RADIUS_M))
    place = folder / "scenes" / job.name / f"{job.name}.glb"
    place.parent.mkdir(parents=True, exist_ok=True)
    save_glb(scene, place)
    tables = folder / "houses" / f"{job.name}.json"
    tables.parent.mkdir(parents=True, exist_ok=True)
    tables.write_text(house.to_json() + "\n", encoding="utf-8")
    rng = random.Random(f"walks {job.seed} {job.name}")
    drawn = walks(house, grid, sum(count for _, count in job.walks), rng)
    episodes: dict[str, list[tuple[Episode, GroundTruth]]] = {}
    followed, number = 0, 0
    for split, count in job.walks:
        for walk in drawn[number : number + count]:
            for detail, text in _texts(house, walk, job, rng, split):
                end = follow(house, text, walk.start, walk.yaw)
                followed += _arrived(house, grid, walk, end)
                episode = _episode(house, walk, text, detail, trajectory=number)
                episodes.setdefault(split, []).append((episode, walk.demonstration))
            number += 1
    return MadeHouse(job.name, episodes, followed)


def _texts(house: House, walk: Walk, job: Job, rng: random.Random, split: str) -> list[tuple[str, str]]:
    """Different instructions for a walk, each with its level of detail."""
    noise = job.spelling_noise if split == "train" else 0.0
    texts: list[tuple[str, str]] = []
    for _ in range(20 * job.instructions):
        detail = rng.choices(DETAILS, DETAIL_CHANCES)[0]
        text = instruction(house, walk.route, rng, detail=detail, spelling_noise=noise)
        if all(text != other for _, other in texts):
            texts.append((detail, text))
            if len(texts) == job.instructions:
                return texts
    raise UserError(f"{house.name}: a walk can be told in {len(texts)} ways, not {job.instructions}; ask for fewer")


def _arrived(house: House, grid: NavGrid, walk: Walk, end: Point) -> bool:
    """Whether stopping there succeeds."""
    room = house.room_at(end)
    stood = np.asarray(grid.snap(np.array([end], np.float32), grid.largest_island))
    goal = np.array([walk.goal.position], np.float32)
    return (
        room is not None
        and room.id == walk.goal.room
        and bool(np.isfinite(stood).all())
        and float(grid.geodesic(stood, goal)[0]) < RULES[house.level].radius_m
    )


def _episode(house: House, walk: Walk, text: str, detail: str, *, trajectory: int) -> Episode:
    """As the files have it, but for the numbers and tokens, which the whole split decides."""
    return Episode(
        id="",
        trajectory_id=str(trajectory),
        scene=f"{house.name}/{house.name}.glb",
        start_position=walk.start,
        start_rotation=(0.0, math.sin(walk.yaw / 2), 0.0, math.cos(walk.yaw / 2)),
        goal=walk.goal.position,
        radius=RULES[house.level].radius_m,
        geodesic_distance=walk.metres,
        instruction=text,
        tokens=(),
        reference_path=walk.reference,
        level=house.level,
        room=walk.goal.room,
        info={
            "detail": detail,
            "rooms": sum(room.kind != "stairs" for room in house.rooms),
            "doors": len(walk.route.openings),
            "storeys": house.storeys,
            "meaning": _meaning(house, walk),
        },
    )


def _meaning(house: House, walk: Walk) -> dict[str, str]:
    """What an instruction may tell, field by field: where to stop, and the side and room of the first openings."""
    goal, route = walk.goal, walk.route
    told = {"relation": goal.relation, "room": house.rooms[goal.room].kind, "openings": str(len(route.openings))}
    if goal.landmark is not None:
        thing = house.furniture[goal.landmark - 1]
        told |= {"thing": thing.kind, "colour": thing.colour}
    for number, leg in enumerate(route.legs[:TOLD_LEGS], start=1):
        told[f"side {number}"] = side_of(leg.stand.angle_to(house.openings[leg.opening].centre))
        told[f"room {number}"] = house.rooms[leg.beyond].kind
    return told
