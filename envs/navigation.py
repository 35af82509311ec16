"""Vision-language navigation in continuous space, in any simulator: many walks at once in tensors, or one in NumPy.

    envs = NavigationVectorEnv(64, data="data/houses", split="train", tokenizer=tokenizer)
    observation, info = envs.reset(seed=0)
    observation, reward, terminated, truncated, info = envs.step(info["oracle_action"])

Actions and measures are VLN-CE's (Krantz et al. 2020, arXiv:2004.02857).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from vlkit.envs import measures
from vlkit.envs.episodes import (
    Episode,
    GroundTruth,
    episode_file,
    ground_truth_file,
    read_episodes,
    read_ground_truth,
)
from vlkit.envs.simulator.batch import FORWARD, LEFT, RIGHT, STOP, Agent, BatchSimulator, Sensor, Simulator
from vlkit.envs.simulator.camera import Camera
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.navgrid import NavGrid, NavSettings
from vlkit.envs.simulator.scene import SceneData
from vlkit.envs.single import SingleEnv
from vlkit.errors import UserError
from vlkit.plugins import nearest
from vlkit.text import Tokenizer

__all__ = ["FORWARD", "LEFT", "METRICS", "RIGHT", "STOP", "HouseNavEnv", "NavigationVectorEnv", "Reward", "Trajectory"]

Observation = dict[str, Tensor]
Info = dict[str, Any]

ACTIONS = 4
# What is reported at the end of an episode, in the order in which tables print it, with its unit.
METRICS = {
    "path_length": "m",
    "distance_to_goal": "m",
    "success": "fraction",
    "oracle_success": "fraction",
    "spl": "fraction",
    "oracle_spl": "fraction",
    "ndtw": "fraction",
    "sdtw": "fraction",
    "cls": "fraction",
    "goal_room": "fraction",
    "steps": "actions",
    "collisions": "steps",
}
BODY = NavSettings(agent_radius=0.2)  # of generated houses; VLN-CE's is 0.1 m wide
TURN_DEG, STARTER_TURN_DEG = 15.0, 30.0
REACH_M = 1.0  # a start or a goal so far from the ground in plan, or more, is not on it
WALL_M = 0.12  # within a wall one counts as in either room
CAMERA_M = 1.25


@dataclass(frozen=True)
class Reward:
    """A metre nearer to the goal, the cost of an action, and stopping where one should (after habitat-lab)."""

    nearer: float = 1.0  # a metre
    action: float = -0.01
    success: float = 2.5


@dataclass(frozen=True)
class Trajectory:
    """What one environment has walked since its start."""

    locations: np.ndarray  # (steps + 1, 3) metres
    headings: np.ndarray  # (steps + 1,) radians
    actions: list[int]


def end_of(episode: Episode) -> tuple[float, float, float]:
    """The goal; of an episode that keeps it to itself the start, and no measure is taken from it."""
    return episode.goal if episode.goal_known else episode.start_position


def turn_of(episodes: Sequence[Episode]) -> float:
    """Degrees of a turn in these episodes, where nothing else is said: 30 in starters alone, 15 in all others."""
    return STARTER_TURN_DEG if all(episode.level == "starter" for episode in episodes) else TURN_DEG


class WalkedSimulator(Simulator, Protocol):
    """A simulator as this environment asks it: what it does, and where its agents are."""

    position: Tensor  # (envs, 3) metres, of the foot
    yaw: Tensor  # (envs,) radians to the left of -z
    scene: Tensor  # (envs,) int64, into `scenes`
    collided: Tensor  # (envs,) bool, whether the last move was cut short
    scenes: tuple[SceneData, ...]
    grids: tuple[NavGrid, ...]
    categories: tuple[str, ...]
    agent: Agent


class NavigationVectorEnv(VectorEnv[Observation, Tensor, Tensor]):
    """Many walks at once. Observations, rewards and flags are torch tensors on the simulator's device.

    Observation (a leading axis of environments): rgb (height, width, 3) uint8; depth (height, width, 1) float32 planar
    metres, 0 where nothing is hit; semantic (height, width) int32 into `categories`, where it was asked for;
    instruction (words,) int64 and instruction_mask (words,) bool; last_action () int64, -1 before the first. The
    pictures are the simulator's own and are overwritten by the next step: clone what is to be kept.
    Actions: 0 STOP, 1 FORWARD, 2 LEFT, 3 RIGHT. Terminated by STOP, truncated after `max_steps` actions.
    Reward: see `Reward`.
    Info: position (3,) m, yaw () radians to the left of -z, distance () geodesic m to the goal, oracle_action () of the
    shortest path's expert, which stops within `stop_m`; episode, steps () int64; collided () bool; `metrics`, with mask
    `_metrics`, of the episodes that just ended (`measure=False` leaves them out), NaN where a test split keeps its goals
    to itself, as the oracle's actions and distances mean nothing there. A stop succeeds where the geodesic
    distance is below the episode's radius and, where the episode names the goal's room, in that room.

    episodes: those to walk; or `data` and `split`, as `vlkit data houses` and VLN-CE have them.
    scenes: the folder below which the episodes' scenes lie (DATA/scenes), or scenes by their name in the episodes.
    ground_truth: demonstrations by episode, the reference of nDTW and CLS; without one it is the reference path.
    turn_deg: 15, and 30 where all episodes are of the level "starter". skip: leave out episodes that cannot be walked
    and count them in `skipped`, where they would be an error.
    `reset(options={"episodes": numbers})` plays given episodes, with `"reset_mask"` in some environments alone; else a
    stream shuffled by the seed is played, the same for any number of environments. `autoreset` is Gymnasium's: NextStep,
    SameStep or Disabled. Disabled, a walk that has ended stays as it is until it is reset. simulator: what makes the
    simulator, called as `BatchSimulator` is; any `WalkedSimulator` will do.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}

    # Replaced and never written to, so that whoever keeps one of them keeps its values.
    episode: Tensor  # (envs,) int64, into `episodes`
    last_action: Tensor  # (envs,) int64
    steps: Tensor  # (envs,) int64
    distance: Tensor  # (envs,) metres to the goal
    length: Tensor  # (envs,) metres walked
    collisions: Tensor  # (envs,) int64
    stopped: Tensor  # (envs,) bool
    ended: Tensor  # (envs,) bool
    _goals: Tensor  # (envs,) numbers of the goals' distance fields
    _shortest: Tensor  # (envs,) metres of the shortest way from the start

    def __init__(
        self,
        num_envs: int = 1,
        *,
        episodes: Sequence[Episode] | None = None,
        data: str | Path | None = None,
        split: str = "train",
        scenes: str | Path | Mapping[str, SceneData] | None = None,
        ground_truth: Mapping[str, GroundTruth] | None = None,
        tokenizer: Tokenizer | None = None,
        max_words: int = 80,
        size: int = 64,
        hfov_deg: float = 90.0,
        semantic: bool = False,
        forward_m: float = 0.25,
        turn_deg: float | None = None,
        body: NavSettings = BODY,
        max_steps: int = 500,
        stop_m: float = 0.25,
        oracle: bool = True,
        measure: bool = True,
        reward: Reward | None = None,
        skip: bool = False,
        autoreset: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        simulator: Callable[..., WalkedSimulator] = BatchSimulator,
        device: torch.device | str | None = None,
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        modes = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset, AutoresetMode) and autoreset not in modes:
            raise UserError(f"autoreset is {autoreset!r}.{nearest(str(autoreset), modes)}")
        if max_steps < 1:
            raise UserError(f"max_steps is {max_steps}; expected at least 1 action")
        if not stop_m > 0:
            raise UserError(f"stop_m is {stop_m}; expected metres above 0")
        given, scenes, ground_truth = _given(episodes, data, split, scenes, ground_truth)
        turn = turn_deg if turn_deg is not None else turn_of(given)
        names = sorted({episode.scene for episode in given})
        camera = Camera(size, size, hfov_deg, offset=(0.0, CAMERA_M, 0.0))
        sensors = {"rgb": Sensor("rgb", camera), "depth": Sensor("depth", camera)}
        if semantic:
            sensors["semantic"] = Sensor("semantic", camera)
        self.simulator = simulator(
            [_scene(name, scenes, given) for name in names],
            num_envs,
            sensors,
            Agent(forward_m=forward_m, turn_deg=turn, navigation=body),
            device=device,
            threads=threads,
            seed=seed,
        )
        self.num_envs, self.device = num_envs, self.simulator.device
        self.forward_m, self.turn_deg, self.stop_m = forward_m, turn, stop_m
        self.max_steps, self.oracle, self.measure = max_steps, oracle, measure
        self.reward = reward or Reward()
        self.categories = self.simulator.categories
        self.autoreset = AutoresetMode(autoreset)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset}
        self.render_mode = None
        self._scene_of = {name: i for i, name in enumerate(names)}
        self.episodes, self.skipped = self._walkable(given, skip)
        self.tokenizer = tokenizer or Tokenizer.train([episode.instruction for episode in self.episodes])
        self._tabulate(ground_truth, max_words)
        self._every = torch.arange(num_envs, device=self.device)
        self._np_random, self._np_random_seed = seeding.np_random(seed)
        self._queue = np.empty(0, dtype=np.int64)
        self._started = False
        self._path = torch.zeros(num_envs, max_steps + 1, 3, device=self.device)
        self._headings = torch.zeros(num_envs, max_steps + 1, device=self.device)
        self._actions = torch.zeros(num_envs, max_steps, dtype=torch.int64, device=self.device)
        self.single_observation_space = self._space(size, semantic)
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    # Walking

    @torch.inference_mode(False)  # else a walk begun while evaluating could not be gone on with in training
    @torch.no_grad()
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
        seen = self._begin(starting, self._next(count) if chosen is None else chosen)
        return self._observation(seen), self._info()

    @torch.inference_mode(False)
    @torch.no_grad()
    def step(self, actions: Tensor | np.ndarray | Sequence[int]) -> tuple[Observation, Tensor, Tensor, Tensor, Info]:
        """(envs,) integers -> observation, reward (envs,) float32, terminated, truncated (envs,) bool, info"""
        if not self._started:
            raise RuntimeError("step was called before reset; call reset first")
        chosen = self._available(actions)
        anew = self.ended if self.autoreset is AutoresetMode.NEXT_STEP else torch.zeros_like(self.ended)
        acting, starting = ~self.ended, bool(anew.any())
        if starting:  # before the others move, so that one picture shows both
            self._place(anew, self._next(int(anew.sum())))
        chosen = torch.where(acting, chosen, STOP)
        stop = acting & (chosen == STOP)
        before, stood = self.distance, self.simulator.position
        seen = self.simulator.step(chosen)
        self._actions[self._every, self.steps.clamp(max=self.max_steps - 1)] = torch.where(
            acting, chosen, self._actions[self._every, self.steps.clamp(max=self.max_steps - 1)]
        )
        self.last_action = torch.where(acting, chosen, self.last_action)
        self.steps = self.steps + acting
        self.length = self.length + (self.simulator.position - stood).norm(dim=1)
        self.collisions = self.collisions + (self.simulator.collided & acting)
        self.stopped = self.stopped | stop
        self._note(anew)
        arrived = stop & self.succeeded()
        reward = self.reward.nearer * (before - self.distance) + self.reward.action + self.reward.success * arrived
        reward = torch.where(acting, reward, 0.0).float()
        truncated = acting & ~stop & (self.steps >= self.max_steps)
        ended = stop | truncated
        self.ended = self.ended | ended
        info: Info = {}
        if self.measure and bool(ended.any()):
            info = self._measured(ended)
        observation, info = self._observation(seen), self._info() | info
        if self.autoreset is AutoresetMode.SAME_STEP and bool(ended.any()):
            kept = {name: value.clone() for name, value in observation.items()}
            final = {"final_obs": kept, "_final_obs": ended, "final_info": info, "_final_info": ended.clone()}
            seen = self._begin(ended, self._next(int(ended.sum())))
            measured = {name: value for name, value in info.items() if name in ("metrics", "_metrics")}
            observation, info = self._observation(seen), self._info() | measured | final
        return observation, reward, stop, truncated, info

    def tell(self, words: Tensor, mask: Tensor) -> None:
        """Gives the episodes other instructions: (episodes, words) ids and mask. From the next reset on."""
        if len(words) != len(self.episodes) or words.shape != mask.shape:
            raise ValueError(f"words {tuple(words.shape)}, mask {tuple(mask.shape)} for {len(self.episodes)} episodes")
        self._words, self._words_mask = words.to(self.device), mask.to(self.device)

    def oracle_action(self) -> Tensor:
        """(envs,) what the expert on the shortest path does next"""
        actions: Tensor = self.simulator.nav.next_actions(
            self.simulator.scene,
            self.simulator.position,
            self.simulator.yaw,
            self._goals,
            goal_radius=self.stop_m,
            forward_m=self.forward_m,
            turn_deg=self.turn_deg,
        )
        return actions

    def goal_offset(self) -> Tensor:
        """(envs, 3) metres from the agent to the goal: ahead, to the left, and up"""
        x, up, z = (self._goal[self.episode] - self.simulator.position).unbind(dim=1)
        sine, cosine = self.simulator.yaw.sin(), self.simulator.yaw.cos()
        return torch.stack([-sine * x - cosine * z, -cosine * x + sine * z, up], dim=1)

    def succeeded(self) -> Tensor:
        """(envs,) bool: whether to stop here would succeed"""
        return (self.distance < self._radius[self.episode]) & (self.in_goal_room() | (self._room[self.episode] < 0))

    def in_goal_room(self) -> Tensor:
        """(envs,) bool: whether it stands in the goal's room; where that is not known, whether it is near enough"""
        room = self._room[self.episode]
        low, high = self._rooms[self.simulator.scene, room.clamp(min=0)].unbind(dim=1)
        at = self.simulator.position
        inside = ((at >= low) & (at < high)).all(dim=1)
        return torch.where(room < 0, self.distance < self._radius[self.episode], inside)

    def trajectories(self) -> list[Trajectory]:
        """What each environment has walked since its start."""
        path, headings, actions = (each.cpu().numpy() for each in (self._path, self._headings, self._actions))
        return [
            Trajectory(path[i, : count + 1].copy(), headings[i, : count + 1].copy(), actions[i, :count].tolist())
            for i, count in enumerate(self.steps.tolist())
        ]

    def metrics(self, of: Tensor | None = None) -> dict[str, Tensor]:
        """Every measure of what each environment has walked so far, (envs,) float64 each; NaN where `of` (envs,) is false."""
        measured: dict[str, Tensor] = self._measured(torch.ones_like(self.ended) if of is None else of)["metrics"]
        return measured

    def scene_of(self, episode: Episode) -> tuple[SceneData, NavGrid]:
        """The scene in which an episode lies, and its ground."""
        number = self._scene_of[episode.scene]
        return self.simulator.scenes[number], self.simulator.grids[number]

    def reference(self, number: int) -> np.ndarray:
        """(points, 3) metres: what the path of an episode is compared with"""
        return self._reference[number, : int(self._reference_counts[number])]

    # What is known before the first step

    def _walkable(self, episodes: Sequence[Episode], skip: bool) -> tuple[tuple[Episode, ...], int]:
        """Those whose start and goal stand on ground that hangs together."""
        nav, device = self.simulator.nav, self.device
        scene = torch.tensor([self._scene_of[episode.scene] for episode in episodes], device=device)
        start = torch.tensor([episode.start_position for episode in episodes], dtype=torch.float32, device=device)
        goal = torch.tensor([end_of(episode) for episode in episodes], dtype=torch.float32, device=device)
        wrong: dict[int, str] = {}
        stands = []
        for what, points in (("starts at", start), ("has its goal at", goal)):
            snapped = nav.snap(scene, points)
            off = (snapped - points)[:, [0, 2]].norm(dim=1)
            stands.append(snapped)
            for i in (~(off < REACH_M)).nonzero()[:, 0].tolist():
                place = ", ".join(f"{each:.2f}" for each in points[i].tolist())
                wrong.setdefault(i, f"{what} ({place}), which is not on walkable ground")
        for i, (a, b) in enumerate(zip(*(nav.island_of(scene, each).tolist() for each in stands), strict=True)):
            if a != b:
                wrong.setdefault(i, "has no way from its start to its goal")
        if wrong and (not skip or len(wrong) == len(episodes)):
            first = min(wrong)
            raise UserError(
                f"episode {episodes[first].id} {wrong[first]} in {episodes[first].scene}; so it is with {len(wrong)} of "
                f"{len(episodes)} episodes. Check that these are the episodes' own scenes and the agent's radius "
                f"({self.simulator.agent.navigation.agent_radius} m), or skip such episodes (skip=True)"
            )
        return tuple(episode for i, episode in enumerate(episodes) if i not in wrong), len(wrong)

    def _tabulate(self, ground_truth: Mapping[str, GroundTruth], max_words: int) -> None:
        episodes, device = self.episodes, self.device

        def table(values: list[Any], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        self._scene = table([self._scene_of[episode.scene] for episode in episodes], torch.int64)
        self._start = table([episode.start_position for episode in episodes], torch.float32)
        self._yaw = table([episode.yaw for episode in episodes], torch.float32)
        self._goal = table([end_of(episode) for episode in episodes], torch.float32)
        self._known = table([episode.goal_known for episode in episodes], torch.bool)
        self._radius = table([episode.radius for episode in episodes], torch.float32)
        self._room = table([-1 if episode.room is None else episode.room for episode in episodes], torch.int64)
        words, mask = self.tokenizer.batch([episode.instruction for episode in episodes], max_words)
        self.tell(words, mask)
        references = [
            ground_truth[str(episode.id)].locations
            if str(episode.id) in ground_truth
            else episode.reference_path or (episode.start_position, end_of(episode))
            for episode in episodes
        ]
        longest = max(map(len, references))
        # Padded by the last point, which changes no nearest distance; DTW is told how many are true.
        self._reference = np.array([[*each, *[each[-1]] * (longest - len(each))] for each in references], np.float64)
        self._reference_counts = np.array([len(each) for each in references])
        self._rooms = _rooms(self.simulator.scenes).to(device)
        for episode in episodes:
            scene = self.simulator.scenes[self._scene_of[episode.scene]]
            if episode.room is not None and all(room.id != episode.room for room in scene.rooms):
                raise UserError(
                    f"episode {episode.id} has its goal in room {episode.room}, and {episode.scene} has no such room"
                )

    def _space(self, size: int, semantic: bool) -> spaces.Dict:
        words = self._words.shape[1]
        boxes: dict[str, spaces.Space[Any]] = {
            "rgb": spaces.Box(0, 255, (size, size, 3), np.uint8),
            "depth": spaces.Box(0.0, Camera.far_m, (size, size, 1), np.float32),
            "instruction": spaces.Box(0, self.tokenizer.size - 1, (words,), np.int64),
            "instruction_mask": spaces.MultiBinary(words),
            "last_action": spaces.Box(-1, ACTIONS - 1, (), np.int64),
        }
        if semantic:
            boxes["semantic"] = spaces.Box(0, len(self.categories) - 1, (size, size), np.int32)
        return spaces.Dict(boxes)

    # Inner workings of a step

    def _allocate(self) -> None:
        numbers = torch.zeros(self.num_envs, device=self.device)
        self.episode = self.steps = self.last_action = self.collisions = numbers.long()
        self.distance = self.length = self._shortest = numbers
        self.stopped = self.ended = numbers.bool()
        self._goals = numbers.int()
        self._reached, self._oracle_spl = numbers.bool(), numbers
        self._started = True

    def _begin(self, starting: Tensor, episodes: Tensor) -> Observation:
        """starting (envs,) bool, episodes (of the starting ones,) int64 -> what all see"""
        self._place(starting, episodes)
        seen = self.simulator.render()
        self._note(starting)
        return seen

    def _place(self, starting: Tensor, episodes: Tensor) -> None:
        """The same without a picture, and without the distance to the goal."""
        self.episode = self.episode.masked_scatter(starting, episodes)
        # Of all, for a field that is long not asked for makes room for others.
        self._goals = self.simulator.nav.goals(self._scene[self.episode], self._goal[self.episode])
        self.simulator.place(
            starting, scene=self._scene[episodes], position=self._start[episodes], yaw=self._yaw[episodes]
        )
        for name in ("steps", "length", "collisions", "stopped", "ended"):
            setattr(self, name, getattr(self, name).masked_fill(starting, 0))
        self.last_action = self.last_action.masked_fill(starting, -1)
        self._reached = self._reached & ~starting
        self._oracle_spl = self._oracle_spl.masked_fill(starting, 0.0)

    def _note(self, starting: Tensor) -> None:
        """Where the walks are; starting (envs,) bool: where they begin."""
        nav = self.simulator.nav
        self.distance = nav.distance(self.simulator.scene, self.simulator.position, self._goals)
        self._shortest = torch.where(starting, self.distance, self._shortest)
        # Who would have stopped here.
        here = self.succeeded()
        longest = torch.maximum(self.length, self._shortest)
        share = torch.where(longest > 0, self._shortest / longest, 1.0)
        self._oracle_spl = torch.where(here, torch.maximum(self._oracle_spl, share), self._oracle_spl)
        self._reached = self._reached | here
        self._path[self._every, self.steps] = self.simulator.position
        self._headings[self._every, self.steps] = self.simulator.yaw

    def _observation(self, seen: Observation) -> Observation:
        observation = {
            "rgb": seen["rgb"],
            "depth": seen["depth"][..., None],
            "instruction": self._words[self.episode],
            "instruction_mask": self._words_mask[self.episode],
            "last_action": self.last_action,
        }
        if "semantic" in seen:
            observation["semantic"] = seen["semantic"]
        return observation

    def _info(self) -> Info:
        info: Info = {
            "position": self.simulator.position.clone(),  # a reset writes into the simulator's own
            "yaw": self.simulator.yaw.clone(),
            "distance": self.distance,
            "episode": self.episode,
            "steps": self.steps,
            "collided": self.simulator.collided.clone(),
        }
        if self.oracle:
            info["oracle_action"] = self.oracle_action()
        return info

    def _measured(self, ended: Tensor) -> Info:
        """`metrics` and `_metrics` of these environments, NaN for the others."""
        rows = ended.nonzero()[:, 0]
        numbers = self.episode[rows].cpu().numpy()
        steps = self.steps[rows].cpu().numpy()
        path = self._path[rows, : int(steps.max()) + 1].cpu().double().numpy()
        success = (self.succeeded() & self.stopped)[rows].cpu().double().numpy()
        columns = path_measures(
            path,
            steps + 1,
            self._reference[numbers],
            self._reference_counts[numbers],
            success=success,
            oracle_success=self._reached[rows].cpu().double().numpy(),
            oracle_spl=self._oracle_spl[rows].cpu().double().numpy(),
            shortest=self._shortest[rows].cpu().double().numpy(),
            radius=self._radius[self.episode[rows]].cpu().double().numpy(),
        )
        columns["distance_to_goal"] = self.distance[rows].cpu().double().numpy()
        columns["goal_room"] = self.in_goal_room()[rows].cpu().double().numpy()
        columns["steps"] = steps.astype(np.float64)
        columns["collisions"] = self.collisions[rows].cpu().double().numpy()
        unknown = ~self._known[self.episode[rows]].cpu().numpy()
        for name in METRICS:
            if name not in ("path_length", "steps", "collisions"):
                columns[name] = np.where(unknown, math.nan, columns[name])
        table = torch.full((len(METRICS), self.num_envs), math.nan, dtype=torch.float64, device=self.device)
        table[:, rows] = torch.from_numpy(np.stack([columns[name] for name in METRICS])).to(self.device)
        return {"metrics": dict(zip(METRICS, table, strict=True)), "_metrics": ended.clone()}

    # What callers hand over

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
        if chosen.shape != (count,) or chosen.is_floating_point() or chosen.dtype == torch.bool:
            raise ValueError(
                f"options['episodes'] is {chosen.dtype} of shape {tuple(chosen.shape)}; expected {count} integers, one "
                "for each environment that starts anew"
            )
        wrong = chosen[(chosen < 0) | (chosen >= len(self.episodes))]
        if len(wrong):
            raise ValueError(
                f"options['episodes'] holds {int(wrong[0])}; the split has episodes 0 to {len(self.episodes) - 1}"
            )
        return chosen.long()

    def _available(self, actions: Any) -> Tensor:
        """The actions as (envs,) int64; ValueError for what is none."""
        chosen = torch.as_tensor(actions, device=self.device)
        if chosen.shape != (self.num_envs,):
            raise ValueError(
                f"actions have shape {tuple(chosen.shape)}; expected ({self.num_envs},), one an environment"
            )
        whole = chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool
        wrong = torch.ones_like(self.ended) if whole else (chosen < 0) | (chosen >= ACTIONS)
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            raise ValueError(
                f"action {chosen[i].item()} of environment {i} is none of the integers 0 to {ACTIONS - 1} "
                f"(actions are {chosen.dtype})"
            )
        return chosen.long()

    def _next(self, count: int) -> Tensor:
        """The next `count` episodes of the shuffled stream; a new shuffle begins when one is used up."""
        while len(self._queue) < count:
            self._queue = np.concatenate([self._queue, self.np_random.permutation(len(self.episodes))])
        chosen, self._queue = self._queue[:count], self._queue[count:]
        return torch.from_numpy(chosen).to(self.device)


def path_measures(
    path: np.ndarray,
    counts: np.ndarray,
    reference: np.ndarray,
    reference_counts: np.ndarray,
    *,
    success: np.ndarray,
    oracle_success: np.ndarray,
    oracle_spl: np.ndarray,
    shortest: np.ndarray,
    radius: np.ndarray,
) -> dict[str, np.ndarray]:
    """VLN-CE's measures of paths in space, straight distances between their points; (items,) each.

    path (items, steps, 3) metres, of which the first counts (items,) are true; reference likewise, padded by its last
    point. `shortest` (items,) geodesic metres from start to goal; `radius` (items,) metres of success, to which nDTW and
    CLS hold what is near. `oracle_spl` (items,) is what it was where it was most. A point that repeats the one before it (turns on the
    spot) counts once for nDTW and CLS.
    """
    steps = np.arange(path.shape[1])
    there = steps < counts[:, None]
    moved = np.linalg.norm(np.diff(path, axis=1), axis=2) * there[:, 1:]
    length = measures.summed(moved)
    fresh = there & np.concatenate([np.ones_like(there[:, :1]), (np.diff(path, axis=1) != 0).any(axis=2)], axis=1)
    # Points that count, moved to the front of each row; behind them the last one, which changes no least distance.
    order = np.argsort(~fresh, axis=1, kind="stable")
    kept = fresh.sum(axis=1)
    order = np.take_along_axis(order, np.minimum(steps, kept[:, None] - 1), axis=1)[:, : int(kept.max())]
    points = np.take_along_axis(path, order[:, :, None], axis=1)
    apart = np.linalg.norm(reference[:, :, None] - points[:, None], axis=3)
    reference_length = measures.summed(np.linalg.norm(np.diff(reference, axis=1), axis=2))
    warped = measures.ndtw(measures.dtw(apart, reference_counts, kept), reference_counts, radius)
    return {
        "path_length": length,
        "success": success,
        "oracle_success": oracle_success,
        "spl": measures.spl(success, length, shortest),
        "oracle_spl": oracle_spl,
        "ndtw": warped,
        "sdtw": success * warped,
        "cls": measures.cls(apart, reference_counts, length, reference_length, radius),
    }


def _given(
    episodes: Sequence[Episode] | None,
    data: str | Path | None,
    split: str,
    scenes: str | Path | Mapping[str, SceneData] | None,
    ground_truth: Mapping[str, GroundTruth] | None,
) -> tuple[Sequence[Episode], str | Path | Mapping[str, SceneData], Mapping[str, GroundTruth]]:
    """Episodes, scenes and demonstrations, read where a folder was named."""
    if (episodes is None) == (data is None):
        raise UserError("an environment takes either episodes or a folder (data) that holds them")
    if data is not None:
        episodes = read_episodes(episode_file(data, split)).episodes
        truth = ground_truth_file(data, split)
        ground_truth = ground_truth if truth is None or ground_truth is not None else read_ground_truth(truth)
        scenes = Path(data) / "scenes" if scenes is None else scenes
    if not episodes:
        raise UserError("there are no episodes to walk; check the file, the split and the levels")
    if scenes is None:
        raise UserError("an environment of episodes needs their scenes: a folder, or SceneData by name")
    return episodes, scenes, ground_truth or {}


def _scene(name: str, scenes: str | Path | Mapping[str, SceneData], episodes: Sequence[Episode]) -> SceneData:
    """A scene by its name in the episodes; UserError that says which episode wants it."""
    if isinstance(scenes, Mapping):
        if name in scenes:
            return scenes[name]
        where = "among the scenes that were given"
    else:
        file = Path(scenes) / name
        if file.is_file():
            return load_scene(file)
        where = f"at {file}"
    first = next(episode for episode in episodes if episode.scene == name)
    count = sum(episode.scene == name for episode in episodes)
    raise UserError(
        f"episode {first.id} (and {count - 1} more) walks in {name}, which is not {where}; name the folder of the scenes, "
        "or make the houses anew with `vlkit data houses`"
    )


def _rooms(scenes: Sequence[SceneData]) -> Tensor:
    """(scenes, rooms, 2, 3) metres: lowest and highest corner of each room, a place for each id"""
    most = max((room.id + 1 for scene in scenes for room in scene.rooms), default=1)
    table = torch.full((len(scenes), most, 2, 3), math.inf)
    for i, scene in enumerate(scenes):
        for room in scene.rooms:
            xs, zs = zip(*room.outline, strict=True)
            table[i, room.id, 0] = torch.tensor([min(xs) - WALL_M / 2, room.low_m - 0.5, min(zs) - WALL_M / 2])
            table[i, room.id, 1] = torch.tensor([max(xs) + WALL_M / 2, room.high_m, max(zs) + WALL_M / 2])
    return table


class HouseNavEnv(SingleEnv):
    """One walk, in NumPy: the vector environment's data sheet without the leading axis.

    `instruction` is the text itself, and there is no instruction_mask. In `info`, `episode_id` and `scene` are added, and
    every metric stands in the last info of an episode under its name. Arguments are those of NavigationVectorEnv, but
    for num_envs and autoreset. `render()` is what the agent sees.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, *, render_mode: str | None = None, **options: Any) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode is {render_mode!r}; expected 'rgb_array' or None")
        self.render_mode = render_mode
        vector = NavigationVectorEnv(1, **options, autoreset=AutoresetMode.DISABLED)
        super().__init__(vector, vector.episodes)
        self._rgb: np.ndarray | None = None

    def render(self) -> np.ndarray | None:
        """(height, width, 3) uint8, what the agent sees; nothing without render_mode="rgb_array"."""
        return self._rgb if self.render_mode == "rgb_array" else None

    def _plain(self, observation: Observation) -> dict[str, Any]:
        plain = super()._plain(observation)
        self._rgb = plain["rgb"]
        return plain

    def _details(self, info: Info) -> dict[str, Any]:
        episode = self.vector.episodes[int(info["episode"][0])]
        return {
            "episode_id": episode.id,
            "scene": episode.scene,
            "position": info["position"][0].cpu().numpy().copy(),
            **{name: float(info[name][0]) for name in ("yaw", "distance")},
            **{name: int(info[name][0]) for name in ("episode", "steps", "oracle_action") if name in info},
            "collided": bool(info["collided"][0]),
        }
