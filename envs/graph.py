"""R2R as Gymnasium environments: walk a building's graph of panoramas to where an instruction leads.

    gymnasium.make("vlkit/R2R-v0", annotations=..., connectivity=..., split="val_unseen")
    gymnasium.make_vec("vlkit/R2R-v0", num_envs=256, annotations=..., connectivity=..., split="train")

Two action spaces. `panoramic`: 0 stops, k goes to the k-th candidate viewpoint. `egocentric`, the classic simulator:
0 stop, 1 forward (to the viewpoint nearest the image centre), 2 left, 3 right (30 degrees each), 4 up, 5 down.
An action that leads nowhere (no such candidate, nothing ahead, no further up) does nothing and takes a step.
The vector environment holds everything in tensors prepared once; its step has no loop over environments.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from torch import Tensor

from vlkit.envs.devices import present
from vlkit.envs.features import VIEWS, Features, nearest_view, open_features
from vlkit.envs.graph_tables import ELEVATIONS, HEADINGS, TURN, GraphTables, graph_tables, wrapped
from vlkit.envs.measures import SUCCESS_M, UNITS, scores_of
from vlkit.envs.r2r import Episode, Scan, annotations_file, read_episodes, read_scans
from vlkit.envs.single import SingleEnv
from vlkit.errors import UserError
from vlkit.plugins import nearest
from vlkit.text import Tokenizer

STOP, FORWARD, LEFT, RIGHT, UP, DOWN = range(6)
METRICS = tuple(UNITS)
STEPS = {"panoramic": 15, "egocentric": 20}  # episodes' limits in the literature's agents
FAR_M = 1e6  # bounds the observation spaces: farther than any two viewpoints that the reader lets in

# What belongs to each walk, and moves with it in `select`.
POSE = ("viewpoint", "heading", "elevation", "looks", "tilts")
PROGRESS = ("steps", "last_action", "waypoint", "length", "distance", "nearest", "ended")
WALK = ("episode", "goal", *POSE, *PROGRESS, "_visited", "_path", "_poses")

Observation = dict[str, Tensor]
Info = dict[str, Any]


@dataclass(frozen=True, eq=False)
class EpisodeTables:
    """Episodes as tensors, in the order of `episodes`."""

    episodes: tuple[Episode, ...]
    words: Tensor  # (episodes, words) int64
    mask: Tensor  # (episodes, words) bool, true where a word is
    paths: Tensor  # (episodes, path) int64 viewpoint numbers, -1 behind the end
    goal: Tensor  # (episodes,) int64, the end of the path
    goal_known: Tensor  # (episodes,) bool, false for a path of one viewpoint: a test split gives the start alone
    heading: Tensor  # (episodes,) float32, radians from 0 to 2 pi

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def start(self) -> Tensor:
        return self.paths[:, 0]

    @cached_property
    def word_counts(self) -> Tensor:
        return self.mask.sum(dim=1)

    def to(self, device: torch.device | str) -> "EpisodeTables":
        """The same episodes on this device."""
        tensors: dict[str, Any] = {
            field.name: getattr(self, field.name).to(device) for field in fields(self) if field.type is Tensor
        }
        return replace(self, **tensors)


def episode_tables(
    episodes: Sequence[Episode], tables: GraphTables, tokenizer: Tokenizer, max_words: int = 80
) -> EpisodeTables:
    """Checks every path against the graphs; longer instructions are cut at `max_words` words."""
    if not episodes:
        raise UserError("there is no episode to play; give a split that has some")
    paths = np.full((len(episodes), max(len(episode.path) for episode in episodes)), -1)
    for i, episode in enumerate(episodes):
        for k, viewpoint in enumerate(episode.path):
            number = tables.index.get((episode.scan, viewpoint))
            if number is None:
                raise UserError(
                    f"episode {episode.id}: viewpoint {viewpoint!r} is not in the graph of scan {episode.scan!r}, "
                    "or is excluded there; use annotations and connectivity of the same release"
                )
            paths[i, k] = number
    lengths = np.array([len(episode.path) for episode in episodes])
    goal = torch.from_numpy(paths[np.arange(len(episodes)), lengths - 1])
    metres = tables.distance(torch.from_numpy(paths[:, 0]).to(tables.device), goal.to(tables.device))
    if bool(metres.isinf().any()):
        episode = episodes[int(metres.isinf().nonzero()[0])]
        raise UserError(
            f"episode {episode.id}: scan {episode.scan!r} has no way from {episode.start} to {episode.goal}; use "
            "annotations and connectivity of the same release"
        )
    words, mask = tokenizer.batch([episode.instruction for episode in episodes], max_words)
    headings = np.array([episode.heading for episode in episodes]) % (2 * math.pi)
    return EpisodeTables(
        episodes=tuple(episodes),
        words=words,
        mask=mask,
        paths=torch.from_numpy(paths),
        goal=goal,
        goal_known=torch.from_numpy(lengths > 1),
        heading=torch.from_numpy(headings.astype(np.float32)),
    )


@dataclass(frozen=True, eq=False)
class World:
    """What environments share: graphs, episodes and image features, read once."""

    tables: GraphTables
    episodes: EpisodeTables
    tokenizer: Tokenizer
    scans: Mapping[str, Scan]
    features: Features | None = None

    @cached_property
    def feature_rows(self) -> Tensor:
        """(viewpoints,) int64: where each viewpoint's features are; UserError where it has none"""
        if self.features is None:
            raise UserError("this world was read without image features; read it with features=PATH")
        return self.features.rows(self.tables.index).to(self.tables.device)

    def with_episodes(self, episodes: Sequence[Episode], max_words: int = 80) -> "World":
        """The same buildings with other episodes in them."""
        told = episode_tables(episodes, self.tables, self.tokenizer, max_words)
        return replace(self, episodes=told.to(self.tables.device))

    def to(self, device: torch.device | str) -> "World":
        """The same world on this device; UserError where there is no such device."""
        device = present(device)
        return replace(self, tables=self.tables.to(device), episodes=self.episodes.to(device))


def read_world(
    annotations: str | Path,
    connectivity: str | Path,
    split: str | None = None,
    *,
    features: str | Path | None = None,
    tokenizer: Tokenizer | None = None,
    max_words: int = 80,
    device: torch.device | str = "cpu",
) -> World:
    """Reads a split's annotations, its graphs and, where given, image features. Without a tokenizer one is made here.

    Raises UserError for a missing file, scan, viewpoint or device.
    """
    device = present(device)
    file = annotations_file(annotations, split)
    episodes = read_episodes(file)
    scans = read_scans(connectivity, (episode.scan for episode in episodes))
    tables = graph_tables(scans)
    tokenizer = tokenizer or Tokenizer.train([episode.instruction for episode in episodes])
    world = World(
        tables=tables.to(device),
        episodes=episode_tables(episodes, tables, tokenizer, max_words).to(device),
        tokenizer=tokenizer,
        scans=scans,
        features=None if features is None else open_features(features),
    )
    if world.features is not None:
        world.feature_rows  # noqa: B018 - names the panoramas that are missing, before anything runs
    return world


class R2RVectorEnv(VectorEnv[Observation, Tensor, Tensor]):
    """Many walks at once. Observations, rewards and flags are torch tensors on `device`; ToNumpy makes them arrays.

    Observation (every tensor has a leading `envs` axis):
        instruction (envs, words) int64, instruction_mask (envs, words) bool; heading, elevation (envs,) float32 rad;
        moved (envs, 3) float32: metres right, ahead and up of the start, seen from the starting pose;
        steps, last_action (envs,) int64, -1 before the first; action_mask (envs, actions) bool, true where an action
        does something. Egocentric: ahead (envs, 3), where `forward` leads: aside and above of the image centre, rad,
        and metres, zeros where nowhere. Panoramic: candidate_heading (relative to the agent's), candidate_elevation
        (of the hop) rad, candidate_distance m, and candidate_visited bool, each (envs, slots). With features:
        candidate_views (envs, slots, dim), and with all_views=True views (envs, 36, dim); egocentric: view (envs, dim).
    Reward: 1 for a hop that brings the goal nearer, -1 for one that leads away; at STOP 2 within 3 m, else -2
    (Tan et al. 2019). Truncated after `max_steps` actions.
    Info: viewpoint (envs,) int64, position (envs, 3) m, distance (envs,) m to the goal, oracle_action (envs,),
    episode_index (envs,) into `world.episodes`; `metrics`, with mask `_metrics`, of the episodes that just ended.
    `measure=False` leaves the metrics out, which saves a training loop their time. Where only the start of a path is
    known (a test split), distance is NaN, oracle_action -1, the reward 0, and there are no metrics.
    `reset(options={"episodes": indices})` plays given episodes; else a stream shuffled by the seed is played,
    the same for any number of environments. `reset(options={"reset_mask": mask})` starts some anew.
    `autoreset` is Gymnasium's: NextStep, SameStep or Disabled. Disabled, a walk that has ended stays as it is: its
    actions do nothing, its reward is 0 and its flags are false until it is reset.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    # The walks, from the first reset on. These are replaced and never written to, so that whoever keeps one of them
    # keeps its values.
    episode: Tensor  # (envs,) int64, index into world.episodes
    goal: Tensor  # (envs,) int64
    viewpoint: Tensor  # (envs,) int64
    heading: Tensor  # (envs,) float32, radians
    elevation: Tensor  # (envs,) float32, radians
    looks: Tensor  # (envs,) int64, egocentric: the heading in turns of 30 degrees
    tilts: Tensor  # (envs,) int64, egocentric: 0 down, 1 level, 2 up
    steps: Tensor  # (envs,) int64
    last_action: Tensor  # (envs,) int64, -1 before the first
    waypoint: Tensor  # (envs,) int64: how far along the annotated path the walk has come
    length: Tensor  # (envs,) float64: metres walked
    distance: Tensor  # (envs,) float64: metres to the goal
    nearest: Tensor  # (envs,) float64: the least of them so far
    ended: Tensor  # (envs,) bool

    def __init__(
        self,
        num_envs: int = 1,
        annotations: str | Path | None = None,
        connectivity: str | Path | None = None,
        split: str | None = None,
        *,
        world: World | None = None,
        action_space: Literal["panoramic", "egocentric"] = "panoramic",
        features: str | Path | None = None,
        all_views: bool = False,
        tokenizer: Tokenizer | None = None,
        max_words: int = 80,
        max_steps: int | None = None,
        oracle: Literal["goal", "reference"] = "goal",
        measure: bool = True,
        autoreset: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        device: torch.device | str | None = None,
    ) -> None:
        if action_space not in STEPS:
            raise UserError(f"action_space is {action_space!r}.{nearest(action_space, STEPS)}")
        if oracle not in ("goal", "reference"):
            raise UserError(
                f"oracle is {oracle!r}; known: goal (shortest path), reference (back to the annotated path)"
            )
        if num_envs < 1:
            raise UserError(f"num_envs is {num_envs}; at least 1")
        if max_steps is not None and max_steps < 1:
            raise UserError(f"max_steps is {max_steps}; at least 1")
        modes = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset, AutoresetMode) and autoreset not in modes:
            raise UserError(f"autoreset is {autoreset!r}.{nearest(autoreset, modes)}")
        if world is None:
            if annotations is None or connectivity is None:
                raise UserError("R2R needs annotations=FILE_OR_FOLDER and connectivity=FOLDER (or a world=)")
            world = read_world(
                annotations,
                connectivity,
                split,
                features=features,
                tokenizer=tokenizer,
                max_words=max_words,
                device=device or "cpu",
            )
        elif any(given is not None for given in (annotations, connectivity, split, features, tokenizer)):
            raise UserError("a world= holds its annotations, graphs, features and tokenizer: give it or them, not both")
        elif device is not None:
            world = world.to(device)
        self.world = world
        self.tables = world.tables
        self.num_envs = num_envs
        self.device = world.tables.device
        self.panoramic = action_space == "panoramic"
        self.max_steps = max_steps or STEPS[action_space]
        self.oracle = oracle
        self.all_views = all_views
        self.measure = measure
        self.autoreset = AutoresetMode(autoreset)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset}
        actions = self.tables.slots + 1 if self.panoramic else 6
        self.single_action_space = spaces.Discrete(actions)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.single_observation_space = self._space(actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._every = torch.arange(num_envs, device=self.device)
        self._every_goal_known = bool(world.episodes.goal_known.all())
        self._queue = np.empty(0, dtype=np.int64)
        self._started = False

    @torch.inference_mode(False)  # else a walk begun while evaluating could not be gone on with in training
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """(observation, info) at the start of the next episodes of the stream, or of those named in the options."""
        options = options or {}
        for name in options:
            if name not in ("episodes", "reset_mask"):
                raise ValueError(f"options has the key {name!r}.{nearest(name, ('episodes', 'reset_mask'))}")
        starting = self._mask(options.get("reset_mask"))
        count = int(starting.sum())
        chosen = None if options.get("episodes") is None else self._checked(options["episodes"], count)
        super().reset(seed=seed)
        if seed is not None:
            self._queue = np.empty(0, dtype=np.int64)
        if not self._started:
            self._allocate()
        self._begin(starting, self._next(count) if chosen is None else chosen)
        self._record()
        return self._observation(), self._info()

    @torch.inference_mode(False)
    def step(self, actions: Tensor | np.ndarray | Sequence[int]) -> tuple[Observation, Tensor, Tensor, Tensor, Info]:
        """(envs,) integers -> observation, reward (envs,) float32, terminated, truncated (envs,) bool, info"""
        if not self._started:
            raise RuntimeError("step was called before reset; call reset first")
        chosen = self._available(actions)
        acting = ~self.ended
        if self.autoreset is AutoresetMode.NEXT_STEP:
            self._begin_anew(self.ended)
        self.last_action = torch.where(acting, chosen, self.last_action)
        stop = acting & (chosen == STOP)
        before = self.distance
        self._move(chosen, acting & ~stop)
        self.steps = self.steps + acting
        self._record()
        reward = torch.where(acting, torch.sign(before - self.distance), 0.0)
        reward = torch.where(stop, torch.where(self.distance < SUCCESS_M, 2.0, -2.0), reward).float()
        if not self._every_goal_known:
            reward = torch.where(self.world.episodes.goal_known[self.episode], reward, 0.0)
        truncated = acting & ~stop & (self.steps >= self.max_steps)
        ended = stop | truncated
        self.ended = self.ended | ended
        observation, info = self._observation(), self._info()
        if self.measure:
            info |= self._metrics(ended)
        if self.autoreset is AutoresetMode.SAME_STEP and bool(ended.any()):
            final = {"final_obs": observation, "_final_obs": ended, "final_info": info, "_final_info": ended.clone()}
            self._begin_anew(ended)
            self._record()
            metrics = {name: value for name, value in info.items() if name in ("metrics", "_metrics")}
            observation, info = self._observation(), self._info() | metrics | final
        return observation, reward, stop, truncated, info

    def trajectories(self) -> list[list[tuple[str, float, float]]]:
        """For each environment [(viewpoint, heading, elevation), ...] since its start, as a submission wants them.

        To stop adds no entry, as in published submissions.
        """
        counts, viewpoints, poses = self._entries().tolist(), self._path.tolist(), self._poses.tolist()
        names = self.tables.names
        return [[(names[viewpoints[i][t]], *poses[i][t]) for t in range(counts[i])] for i in range(self.num_envs)]

    def _entries(self) -> Tensor:
        """(envs,): how many entries the trajectories have"""
        return self.steps + 1 - (self.last_action == STOP).long()

    @torch.inference_mode(False)
    def select(self, rows: Tensor) -> None:
        """Continues each walk i from where rows[i] stands now: (envs,) int64; for search and resampling."""
        if rows.shape != (self.num_envs,):
            raise ValueError(f"rows has shape {tuple(rows.shape)}; expected ({self.num_envs},)")
        for name in WALK:
            setattr(self, name, getattr(self, name)[rows])

    def _allocate(self) -> None:
        envs, device = self.num_envs, self.device
        integers = torch.zeros(envs, dtype=torch.int64, device=device)
        numbers = torch.zeros(envs, dtype=torch.float64, device=device)
        self.episode = self.viewpoint = self.goal = self.steps = self.last_action = integers
        self.waypoint = self.looks = self.tilts = integers
        self.heading = self.elevation = numbers.float()
        self.length = self.distance = self.nearest = numbers
        self.ended = torch.zeros(envs, dtype=torch.bool, device=device)
        self._visited = torch.zeros(envs, int(self.tables.local.max()) + 1, dtype=torch.bool, device=device)
        self._path = torch.zeros(envs, self.max_steps + 1, dtype=torch.int64, device=device)
        self._poses = torch.zeros(envs, self.max_steps + 1, 2, device=device)
        self._started = True

    def _mask(self, mask: Any) -> Tensor:
        """(envs,) bool: which environments a reset starts anew"""
        if mask is None:
            return torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        starting = torch.as_tensor(mask, device=self.device)
        if starting.shape != (self.num_envs,) or starting.dtype != torch.bool or not bool(starting.any()):
            raise ValueError(
                f"options['reset_mask'] is {starting.dtype} of shape {tuple(starting.shape)} with "
                f"{int(starting.count_nonzero())} true; expected bool of shape ({self.num_envs},), at least one true"
            )
        if not self._started:
            raise RuntimeError("options['reset_mask'] was given before the first reset; call reset without it first")
        return starting

    def _checked(self, episodes: Any, count: int) -> Tensor:
        """(count,) int64: the episodes that a reset asks for"""
        chosen = torch.as_tensor(episodes, device=self.device)
        total = len(self.world.episodes)
        if chosen.shape != (count,) or not _integral(chosen):
            raise ValueError(
                f"options['episodes'] is {chosen.dtype} of shape {tuple(chosen.shape)}; expected {count} integers, one "
                "for each environment that starts anew"
            )
        wrong = chosen[(chosen < 0) | (chosen >= total)]
        if len(wrong):
            raise ValueError(f"options['episodes'] holds {int(wrong[0])}; the split has episodes 0 to {total - 1}")
        return chosen.long()

    def _next(self, count: int) -> Tensor:
        """The next `count` episodes of the shuffled stream; a new shuffle begins when one is used up."""
        total = len(self.world.episodes)
        while len(self._queue) < count:
            self._queue = np.concatenate([self._queue, self.np_random.permutation(total)])
        chosen, self._queue = self._queue[:count], self._queue[count:]
        return torch.from_numpy(chosen).to(self.device)

    def _begin_anew(self, ended: Tensor) -> None:
        count = int(ended.sum())
        if count:
            self._begin(ended, self._next(count))

    def _begin(self, starting: Tensor, episodes: Tensor) -> None:
        """starting (envs,) bool, episodes (of the starting ones,) int64"""
        data = self.world.episodes
        self.episode = self.episode.masked_scatter(starting, episodes)
        start, heading = data.start[self.episode], data.heading[self.episode]
        self.goal = data.goal[self.episode]
        self.viewpoint = torch.where(starting, start, self.viewpoint)
        self.steps = self.steps.masked_fill(starting, 0)
        self.last_action = self.last_action.masked_fill(starting, -1)
        self.waypoint = self.waypoint.masked_fill(starting, 0)
        if not self.panoramic:
            looks = torch.round(heading / TURN).long() % HEADINGS
            heading = (looks * TURN).float()
            self.looks = torch.where(starting, looks, self.looks)
            self.tilts = self.tilts.masked_fill(starting, 1)
        self.heading = torch.where(starting, heading, self.heading)
        self.elevation = self.elevation.masked_fill(starting, 0.0)
        self.length = self.length.masked_fill(starting, 0.0)
        self.nearest = self.nearest.masked_fill(starting, math.inf)
        self.ended = self.ended & ~starting
        self._visited.masked_fill_(starting[:, None], False)

    def _move(self, actions: Tensor, moving: Tensor) -> None:
        tables, viewpoint = self.tables, self.viewpoint
        if self.panoramic:
            slot = (actions - 1).clamp(min=0)
            following = tables.neighbours[viewpoint, slot]
            hopping = moving & (following >= 0)
            self.heading = torch.where(hopping, tables.headings[viewpoint, slot], self.heading)
            self.elevation = torch.where(hopping, tables.elevations[viewpoint, slot], self.elevation)
        else:
            turn = (actions == RIGHT).long() - (actions == LEFT).long()
            tilt = (actions == UP).long() - (actions == DOWN).long()
            slot = tables.forward[viewpoint, self.looks, self.tilts]
            following = tables.neighbours[viewpoint, slot]
            hopping = moving & (actions == FORWARD) & (slot >= 0)
            self.looks = torch.where(moving, (self.looks + turn) % HEADINGS, self.looks)
            self.tilts = torch.where(moving, (self.tilts + tilt).clamp(0, ELEVATIONS - 1), self.tilts)
            self.heading, self.elevation = (self.looks * TURN).float(), ((self.tilts - 1) * TURN).float()
        self.viewpoint = torch.where(hopping, following, viewpoint)
        self.length = self.length + tables.distance(viewpoint, self.viewpoint)
        paths = self.world.episodes.paths
        further = (self.waypoint + 1).clamp(max=paths.shape[1] - 1)
        reached = hopping & (paths[self.episode, further] == self.viewpoint)
        self.waypoint = torch.where(reached, further, self.waypoint)

    def _record(self) -> None:
        """Notes where the walks are."""
        tables = self.tables
        self.distance = tables.distance(self.viewpoint, self.goal)
        if not self._every_goal_known:
            self.distance = torch.where(self.world.episodes.goal_known[self.episode], self.distance, math.nan)
        self.nearest = torch.minimum(self.nearest, self.distance)
        self._visited[self._every, tables.local[self.viewpoint]] = True
        self._path[self._every, self.steps] = self.viewpoint
        self._poses[self._every, self.steps] = torch.stack([self.heading, self.elevation], dim=1)

    def _available(self, actions: Any) -> Tensor:
        """The actions as (envs,) int64; ValueError for what is none."""
        chosen, count = torch.as_tensor(actions, device=self.device), int(self.single_action_space.n)  # type: ignore[attr-defined]
        if chosen.shape != (self.num_envs,):
            raise ValueError(
                f"actions have shape {tuple(chosen.shape)}; expected ({self.num_envs},), one an environment"
            )
        whole = chosen.long() if _integral(chosen) else torch.full_like(self.steps, -1)
        wrong = (whole < 0) | (whole >= count)
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            raise ValueError(
                f"action {chosen[i].item()} of environment {i} is none of the integers 0 to {count - 1} "
                f"(actions are {chosen.dtype})"
            )
        return whole

    # What the agent sees.

    def _observation(self) -> Observation:
        tables, data = self.tables, self.world.episodes
        observation = {
            "instruction": data.words[self.episode],
            "instruction_mask": data.mask[self.episode],
            "heading": self.heading.clone(),
            "elevation": self.elevation.clone(),
            "moved": self._moved(),
            "steps": self.steps.clone(),
            "last_action": self.last_action.clone(),
        }
        if self.panoramic:
            neighbours = tables.neighbours[self.viewpoint]
            there = neighbours >= 0
            heading = wrapped(tables.headings[self.viewpoint] - self.heading[:, None])
            visited = self._visited[self._every[:, None], tables.local[neighbours]]
            observation["action_mask"] = torch.cat([torch.ones_like(there[:, :1]), there], dim=1)
            observation["candidate_heading"] = torch.where(there, heading, 0.0)
            observation["candidate_elevation"] = tables.elevations[self.viewpoint]
            observation["candidate_distance"] = torch.where(there, tables.lengths[self.viewpoint], 0.0)
            observation["candidate_visited"] = visited & there
        else:
            slot = tables.forward[self.viewpoint, self.looks, self.tilts]
            ever = torch.ones_like(slot, dtype=torch.bool)
            mask = [ever, slot >= 0, ever, ever, self.tilts < ELEVATIONS - 1, self.tilts > 0]
            observation["action_mask"] = torch.stack(mask, dim=1)
            observation["ahead"] = self._ahead(slot)
        if self.world.features is not None:
            observation |= self._seen(self.world.features)
        return observation

    def _ahead(self, slot: Tensor) -> Tensor:
        """(envs,) slots -> (envs, 3): where they lead, zeros for -1"""
        tables, place = self.tables, (self.viewpoint, slot)
        aside = wrapped(tables.headings[place] - self.heading)
        above = tables.elevations[place] - self.elevation
        return torch.where((slot >= 0)[:, None], torch.stack([aside, above, tables.lengths[place]], dim=1), 0.0)

    def _moved(self) -> Tensor:
        """(envs, 3): metres right, ahead and up of the start, seen from the starting pose"""
        data = self.world.episodes
        offset = self.tables.positions[self.viewpoint] - self.tables.positions[data.start[self.episode]]
        heading = data.heading[self.episode]
        sine, cosine = torch.sin(heading), torch.cos(heading)
        right = offset[:, 0] * cosine - offset[:, 1] * sine
        ahead = offset[:, 0] * sine + offset[:, 1] * cosine
        return torch.stack([right, ahead, offset[:, 2]], dim=1)

    def _info(self) -> Info:
        return {
            "episode_index": self.episode.clone(),
            "viewpoint": self.viewpoint.clone(),
            "position": self.tables.positions[self.viewpoint],
            "distance": self.distance.clone(),
            "oracle_action": self._oracle_actions(),
        }

    def _oracle_actions(self) -> Tensor:
        """(envs,): the shortest path's next action; with the `reference` oracle that of the annotated path."""
        target = self.goal if self.oracle == "goal" else self._next_waypoint()
        if self.panoramic:
            actions = self.tables.next_slot(self.viewpoint, target) + 1
        else:
            actions = self.tables.classic.actions(self.viewpoint, target, self.looks, self.tilts)
        if self._every_goal_known:
            return actions
        return torch.where(self.world.episodes.goal_known[self.episode], actions, -1)

    def _next_waypoint(self) -> Tensor:
        """(envs,): the annotated path's next viewpoint; its goal at the end, or where a shortcut led there"""
        paths = self.world.episodes.paths
        further = paths[self.episode, (self.waypoint + 1).clamp(max=paths.shape[1] - 1)]
        # R4R's paths may pass their goal on the way: one that is on the path goes on.
        astray = paths[self.episode, self.waypoint] != self.viewpoint
        return torch.where((further < 0) | (astray & (self.viewpoint == self.goal)), self.goal, further)

    def _seen(self, features: Features) -> Observation:
        """The image features of the view towards each candidate (zeros where none is), or of the view ahead."""
        rows = self.world.feature_rows[self.viewpoint]
        if not self.panoramic:
            ahead = (self.tilts * HEADINGS + self.looks)[:, None]
            return {"view": features.gather(rows, ahead, torch.float32)[:, 0]}
        towards = nearest_view(self.tables.headings[self.viewpoint], self.tables.elevations[self.viewpoint])
        towards = torch.where(self.tables.neighbours[self.viewpoint] >= 0, towards, -1)
        seen = {"candidate_views": features.gather(rows, towards, torch.float32)}
        if self.all_views:
            seen["views"] = features.panoramas(rows, torch.float32)
        return seen

    def _metrics(self, ended: Tensor) -> Info:
        """Every measure of the episodes that just ended, NaN elsewhere, each (envs,) float64; nothing if none did."""
        data = self.world.episodes
        if not self._every_goal_known:
            ended = ended & data.goal_known[self.episode]
        which = ended.nonzero()[:, 0]
        if not len(which):
            return {}
        counts, episode = self._entries()[which], self.episode[which]
        step = torch.arange(int(counts.max()), device=self.device)
        path = self._path[which[:, None], torch.minimum(step, counts[:, None] - 1)]
        reference = data.paths[episode]
        reference_counts = (reference >= 0).sum(dim=1)
        reference = torch.where(reference >= 0, reference, data.goal[episode][:, None])
        columns = scores_of(
            self.tables.distance(reference[:, :, None], path[:, None, :]).cpu().numpy(),
            length=self.length[which].cpu().numpy(),
            reference_length=self.tables.distance(reference[:, :-1], reference[:, 1:]).sum(dim=1).cpu().numpy(),
            shortest=self.tables.distance(reference[:, 0], reference[:, -1]).cpu().numpy(),
            counts=counts.cpu().numpy(),
            reference_counts=reference_counts.cpu().numpy(),
        )
        table = torch.full((len(METRICS), self.num_envs), math.nan, dtype=torch.float64, device=self.device)
        table[:, which] = torch.from_numpy(np.stack([columns[name] for name in METRICS])).to(self.device)
        return {"metrics": dict(zip(METRICS, table, strict=True)), "_metrics": ended.clone()}

    def _space(self, actions: int) -> spaces.Dict:
        words, slots = self.world.episodes.words.shape[1], self.tables.slots
        size = self.world.tokenizer.size
        boxes: dict[str, spaces.Space[Any]] = {
            "instruction": spaces.Box(0, size - 1, (words,), np.int64),
            "instruction_mask": spaces.MultiBinary(words),
            "heading": spaces.Box(0.0, 2 * math.pi, (), np.float32),
            "elevation": spaces.Box(-math.pi / 2, math.pi / 2, (), np.float32),
            "moved": spaces.Box(-FAR_M, FAR_M, (3,), np.float32),
            "steps": spaces.Box(0, self.max_steps, (), np.int64),
            "last_action": spaces.Box(-1, actions - 1, (), np.int64),
            "action_mask": spaces.MultiBinary(actions),
        }
        if not self.panoramic:
            boxes["ahead"] = spaces.Box(-FAR_M, FAR_M, (3,), np.float32)
        else:
            boxes["candidate_heading"] = spaces.Box(-math.pi, math.pi, (slots,), np.float32)
            boxes["candidate_elevation"] = spaces.Box(-math.pi / 2, math.pi / 2, (slots,), np.float32)
            boxes["candidate_distance"] = spaces.Box(0.0, FAR_M, (slots,), np.float32)
            boxes["candidate_visited"] = spaces.MultiBinary(slots)
        if self.world.features is not None:
            dim, most = self.world.features.dim, float(np.finfo(np.float32).max)
            shapes: dict[str, tuple[int, ...]] = (
                {"candidate_views": (slots, dim)} if self.panoramic else {"view": (dim,)}
            )
            if self.all_views and self.panoramic:
                shapes["views"] = (VIEWS, dim)
            for name, shape in shapes.items():
                boxes[name] = spaces.Box(-most, most, shape, np.float32)
        return spaces.Dict(boxes)


def _integral(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


class ToNumpy(VectorWrapper[dict[str, Any], np.ndarray, Observation, Tensor, Any]):
    """An R2RVectorEnv for NumPy code: every tensor as an array, on the CPU without a copy.

    Gymnasium's own ArrayConversion does as much for any two libraries, but needs another package.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], Info]:
        """See R2RVectorEnv.reset"""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._plain(observation), _arrays(info)

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, Info]:
        """See R2RVectorEnv.step"""
        observation, *rest, info = self.env.step(torch.as_tensor(actions))
        if "final_obs" in info:
            info = info | {"final_obs": self._plain(info["final_obs"])}
        reward, terminated, truncated = (value.cpu().numpy() for value in rest)
        return self._plain(observation), reward, terminated, truncated, _arrays(info)

    def _plain(self, observation: Observation) -> dict[str, Any]:
        """The arrays, a mask as the 0 and 1 of one byte that Gymnasium's spaces declare."""
        return {
            name: array.view(np.int8) if array.dtype == np.bool_ else array
            for name, array in _arrays(observation).items()
        }


def _arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with an array in place of each tensor."""
    return {
        name: value.cpu().numpy() if isinstance(value, Tensor) else _arrays(value) if isinstance(value, dict) else value
        for name, value in values.items()
    }


class R2REnv(SingleEnv):
    """One walk, in NumPy: the vector environment's data sheet without the leading axis.

    `instruction` is the text itself, and there is no instruction_mask; a mask is int8, as `action_space.sample(mask)`
    wants it. In `info`, viewpoint is the id in the files, `scan` and `instr_id` are added, and every metric stands in
    the last info of an episode under its name. Arguments are those of R2RVectorEnv, but for num_envs and autoreset.
    Gymnasium's AsyncVectorEnv loses text in shared memory: make_vec(..., vector_kwargs={"shared_memory": False}).
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, *args: Any, **options: Any) -> None:
        vector = R2RVectorEnv(1, *args, **options, autoreset=AutoresetMode.DISABLED)
        super().__init__(vector, vector.world.episodes.episodes)

    def _details(self, info: Info) -> dict[str, Any]:
        episode = self.vector.world.episodes.episodes[int(info["episode_index"][0])]
        return {
            "instr_id": episode.id,
            "scan": episode.scan,
            "episode_index": int(info["episode_index"][0]),
            "viewpoint": self.vector.tables.names[int(info["viewpoint"][0])],
            "position": info["position"][0].cpu().numpy(),
            "distance": float(info["distance"][0]),
            "oracle_action": int(info["oracle_action"][0]),
        }
