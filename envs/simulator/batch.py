"""Many agents in many scenes at once: actions in, pictures and poses out, everything a tensor on one device.

    simulator = BatchSimulator([scene], num_envs=64, sensors={"rgb": Sensor("rgb"), "depth": Sensor("depth")})
    observation = simulator.reset()
    observation = simulator.step(torch.full((64,), FORWARD))

There is no episode here: what counts as success, and when it ends, is the environment's business.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from vlkit.envs.devices import present
from vlkit.envs.simulator.camera import KINDS, Camera, Engine, Filtering, Frames, Kind, Shading, frames, rotations
from vlkit.envs.simulator.load import load_scene
from vlkit.envs.simulator.navgrid import NavSettings, NavWorld, nav_grid
from vlkit.envs.simulator.noise import ActionNoise, DepthNoise, Streams, uniform
from vlkit.envs.simulator.raster import RasterEngine
from vlkit.envs.simulator.raycast import RayEngine
from vlkit.envs.simulator.scene import SceneData
from vlkit.errors import UserError
from vlkit.plugins import nearest

STOP, FORWARD, LEFT, RIGHT, UP, DOWN = range(6)  # the first four in VLN-CE's order
Observation = dict[str, Tensor]
RESERVED = ("pose", "scene", "collided")
PLACES = 4096  # from which a scene's random starts are taken
MOST_ENVS = 2**24
STATE_BYTES = 512  # of an environment beside its pictures: where it is, and what a step computes on the way
MIX = 1_000_003  # seeds that lie near one another are spread by it, and brought back into 62 bits


@dataclass(frozen=True)
class Sensor:
    """What one entry of the observation shows. Sensors with the same camera and pans are drawn together.

    With `pans_deg` it is a panorama: one picture for each angle to the left, in an axis behind `envs`.
    """

    kind: Kind = "rgb"
    camera: Camera = field(default_factory=Camera)
    pans_deg: tuple[float, ...] = ()
    noise: DepthNoise | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise UserError(f"a sensor's kind is {self.kind!r}.{nearest(str(self.kind), KINDS)}")
        if not isinstance(self.camera, Camera):
            raise UserError(f"a sensor's camera is {self.camera!r}; give a Camera(height=..., width=..., hfov_deg=...)")
        object.__setattr__(self, "pans_deg", tuple(self.pans_deg))
        if not all(isinstance(pan, int | float) and math.isfinite(pan) for pan in self.pans_deg):
            raise UserError(f"a sensor's pans_deg are {self.pans_deg}; expected finite degrees")
        if self.noise is not None and self.kind != "depth":
            raise UserError(f"depth noise on a sensor of kind {self.kind!r}; give it to one of kind 'depth'")


@dataclass(frozen=True)
class Agent:
    """A body and how it moves."""

    forward_m: float = 0.25
    turn_deg: float = 15.0
    tilt_deg: float = 15.0  # of UP and DOWN
    most_tilt_deg: float = 60.0
    sliding: bool = True  # along what blocks the way
    navigation: NavSettings = field(default_factory=NavSettings)
    noise: ActionNoise | None = None

    def __post_init__(self) -> None:
        for name, most in (("forward_m", 10.0), ("turn_deg", 180.0), ("tilt_deg", 90.0), ("most_tilt_deg", 90.0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= most:
                raise UserError(f"an agent's {name} is {value!r}; expected a number above 0 and at most {most:g}")


class Simulator(Protocol):
    """What navigation needs of a simulator; ours and habitat's adapter are two, and one test file tries any."""

    num_envs: int
    device: torch.device

    def reset(
        self,
        ids: Tensor | None = None,
        *,
        scene: Tensor | None = None,
        position: Tensor | None = None,
        yaw: Tensor | None = None,
    ) -> Observation:
        """Places the environments `ids` (all) anew; where nothing is given, at random."""

    def place(self, ids: Tensor, *, scene: Tensor, position: Tensor, yaw: Tensor) -> None:
        """The same without a picture: the next step draws one."""

    def step(self, actions: Tensor) -> Observation:
        """(envs,) integers -> what is seen and where it is seen from, after the actions"""

    def render(self) -> Observation:
        """The same without moving."""

    @property
    def nav(self) -> Any:
        """Snapping, distances and paths in the scenes."""


class BatchSimulator:
    """`num_envs` agents, each in one of the scenes. Environment i begins in scene i modulo their number.

    Observation: an entry for each sensor, (envs, [pans,] height, width, [3]): rgb uint8, depth float32 planar metres,
    semantic int32 into `categories`, which all scenes share, instance int32; pose (envs, 5) float32: x, y, z of the foot
    in metres, then yaw to the left and tilt up in radians; scene (envs,) int64; collided (envs,) bool, whether the last
    move was cut short. The pictures are the simulator's own and are overwritten by the next call, and two sensors of one
    kind and camera without noise are one tensor: clone what is to be kept or written to.

    scenes: one or several, loaded or as files. What a file's reader noticed is told as a Python warning.
    device: `cuda` draws with rays, `cpu` with the rasteriser on `threads` threads. An environment's random numbers (where
    it is placed, its noise) come from `seed`, its own number and its episode: they do not depend on the others.
    Raises UserError for what cannot be simulated or would not fit into memory, and ValueError for actions or places that
    are none. No gradient flows through it.
    """

    @torch.inference_mode(False)  # else what was begun while evaluating could not be gone on with in training
    @torch.no_grad()  # behind the line above, which switches gradients on
    def __init__(
        self,
        scenes: SceneData | str | Path | Sequence[SceneData | str | Path],
        num_envs: int = 1,
        sensors: Mapping[str, Sensor] | None = None,
        agent: Agent | None = None,
        *,
        device: torch.device | str | None = None,
        threads: int | None = None,
        filtering: Filtering | None = None,
        shading: Shading = "flat",
        habitat_compatible: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(num_envs, int) or not 1 <= num_envs <= MOST_ENVS:
            raise UserError(f"num_envs is {num_envs!r}; expected a whole number from 1 to {MOST_ENVS}")
        if not isinstance(seed, int):
            raise UserError(f"seed is {seed!r}; expected a whole number")
        self.sensors = _checked_sensors(sensors)
        self.agent = agent or Agent()
        self.num_envs = num_envs
        self.seed = seed
        self.device = present(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        _check_memory(self.sensors, num_envs, self.device)
        self._groups = _groups(self.sensors, num_envs, self.device)
        given = [scenes] if isinstance(scenes, SceneData | str | Path) else list(scenes)
        if not given:
            raise UserError("a simulator was given no scene; give it at least one")
        self.scenes, self.categories = _with_one_table(_loaded(given, habitat_compatible))
        ground = self.agent.navigation
        settings = replace(ground, habitat_compatible=habitat_compatible or ground.habitat_compatible)
        # Ground is cut up once a scene, though a scene may be there several times.
        grids = {id(scene): nav_grid(scene, settings) for scene in self.scenes}
        self.grids = tuple(grids[id(scene)] for scene in self.scenes)
        self.nav = NavWorld(self.grids, device=str(self.device), threads=threads)
        options: dict[str, Any] = {"filtering": filtering, "shading": shading, "habitat_compatible": habitat_compatible}
        self.engine: Engine = (
            RayEngine(self.scenes, device=str(self.device), **options)
            if self.device.type == "cuda"
            else RasterEngine(self.scenes, threads=threads, **options)
        )
        self._pictures = [
            frames(group.camera, group.kinds, num_envs * group.views, self.device) for group in self._groups
        ]
        self._every = torch.arange(num_envs, device=self.device)
        self._starts: Tensor | None = None  # (scenes, PLACES, 3), once a place is drawn
        self._started = False
        self.scene = self._every % len(self.scenes)
        self.position = torch.zeros(num_envs, 3, dtype=torch.float32, device=self.device)
        self.yaw = self.position[:, 0].clone()
        self.tilt = self.position[:, 0].clone()
        self.collided = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self.episode = torch.full((num_envs,), -1, dtype=torch.int64, device=self.device)
        self.steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    @torch.inference_mode(False)
    @torch.no_grad()
    def reset(
        self,
        ids: Tensor | None = None,
        *,
        scene: Tensor | None = None,
        position: Tensor | None = None,
        yaw: Tensor | None = None,
    ) -> Observation:
        """Places the environments `ids` (all) anew: in `scene` (theirs), at `position`, turned by `yaw` radians.

        `ids` are numbers, or a mask of all environments; at first all must be placed. What is not given is drawn: one of
        4096 places on the scene's largest island, and any direction. A call that raises changes nothing.
        """
        self.place(ids, scene=scene, position=position, yaw=yaw)
        return self.render()

    @torch.inference_mode(False)
    @torch.no_grad()
    def place(
        self,
        ids: Tensor | None = None,
        *,
        scene: Tensor | None = None,
        position: Tensor | None = None,
        yaw: Tensor | None = None,
    ) -> None:
        """What `reset` does, without a picture: the next step draws one."""
        chosen = self._checked_ids(ids)
        count = len(chosen)
        if not self._started and count < self.num_envs:
            raise RuntimeError(
                "reset was called for some environments before it was called for all; call reset() first"
            )
        scenes = self.scene[chosen] if scene is None else self._checked_scenes(scene, count)
        given_position = None if position is None else self._checked_numbers(position, (count, 3), "position")
        given_yaw = None if yaw is None else self._checked_numbers(yaw, (count,), "yaw")
        self._started = True
        self.scene[chosen] = scenes
        self.episode[chosen] += 1
        self.steps[chosen] = 0
        if given_position is None or given_yaw is None:
            drawn_position, drawn_yaw = self._random_starts(chosen)
        self.position[chosen] = drawn_position if given_position is None else given_position
        self.yaw[chosen] = drawn_yaw if given_yaw is None else given_yaw
        self.tilt[chosen] = 0.0
        self.collided[chosen] = False

    @torch.inference_mode(False)
    @torch.no_grad()
    def step(self, actions: Tensor) -> Observation:
        """(envs,) integers: 0 STOP stays, 1 FORWARD, 2 LEFT, 3 RIGHT, 4 UP, 5 DOWN (the camera's tilt).

        Of motion noise a turn counts under every action, a move under FORWARD alone.
        """
        if not self._started:
            raise RuntimeError("step was called before reset; call reset first")
        chosen = self._checked_actions(actions)
        agent, nothing = self.agent, torch.zeros_like(self.yaw)
        ahead, aside = torch.where(chosen == FORWARD, agent.forward_m, nothing), nothing
        turn = ((chosen == LEFT).float() - (chosen == RIGHT).float()) * math.radians(agent.turn_deg)
        if agent.noise is not None:
            ahead, aside, turn = agent.noise(ahead, turn, self._streams(0))
        sine, cosine = self.yaw.sin(), self.yaw.cos()
        wish = torch.stack([aside * cosine - ahead * sine, nothing, -aside * sine - ahead * cosine], dim=1)
        position, held_up = self.nav.step(self.scene, self.position, displacement=wish, sliding=agent.sliding)
        moving = chosen == FORWARD
        self.position = torch.where(moving[:, None], position, self.position)
        self.collided = held_up & moving
        turned = torch.remainder(self.yaw + turn + math.pi, 2 * math.pi) - math.pi
        self.yaw = torch.where(turn == 0, self.yaw, turned)  # or its last digit would change while one stands
        nod = ((chosen == UP).float() - (chosen == DOWN).float()) * math.radians(agent.tilt_deg)
        most = math.radians(agent.most_tilt_deg)
        self.tilt = (self.tilt + nod).clamp(-most, most)
        self.steps = self.steps + 1
        return self.render()

    @torch.inference_mode(False)
    @torch.no_grad()
    def render(self) -> Observation:
        """What is seen from where the agents are; nothing moves and no noise is drawn anew."""
        if not self._started:
            raise RuntimeError("render was called before reset; call reset first")
        observation: Observation = {}
        for group, pictures in zip(self._groups, self._pictures, strict=True):
            self._draw(group, pictures)
            for name in group.names:
                observation[name] = self._picture(pictures, name)
        pose = torch.cat([self.position, self.yaw[:, None], self.tilt[:, None]], dim=1)
        return observation | {"pose": pose, "scene": self.scene.clone(), "collided": self.collided.clone()}

    def _draw(self, group: "Group", pictures: Frames) -> None:
        camera, views = group.camera, group.views
        body = rotations(self.yaw, torch.zeros_like(self.yaw))
        pinhole = self.position + (body * group.offset).sum(dim=2)
        yaw = self.yaw[:, None] + group.pans
        tilt = (self.tilt[:, None] + math.radians(camera.tilt_deg)).expand(-1, views)
        group.scene.copy_(self.scene[:, None].expand(-1, views).reshape(-1))
        group.position.copy_(pinhole[:, None].expand(-1, views, 3).reshape(-1, 3))
        group.rotation.copy_(rotations(yaw.flatten(), tilt.flatten()))
        self.engine.render(camera, group.scene, group.position, group.rotation, pictures)

    def _picture(self, pictures: Frames, name: str) -> Tensor:
        """What a sensor shows"""
        sensor = self.sensors[name]
        picture = pictures[sensor.kind]
        if sensor.pans_deg:
            picture = picture.reshape(self.num_envs, len(sensor.pans_deg), *picture.shape[1:])
        if sensor.noise is None:
            return picture
        noisy = sensor.noise(picture, self._streams(1 + list(self.sensors).index(name)))
        return torch.where(noisy <= sensor.camera.far_m, noisy, 0.0)

    def _streams(self, purpose: int, chosen: Tensor | None = None) -> Streams:
        """Every episode of every environment has its own for each purpose; noise is drawn once a step."""
        seed = ((self.seed * MIX) % 2**40 + self._every) * MIX + self.episode
        seed = seed * MIX + purpose
        return Streams(seed, self.steps) if chosen is None else Streams(seed[chosen], self.steps[chosen])

    def _random_starts(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """A place and a direction for each, (ids, 3) metres and (ids,) radians."""
        if self._starts is None:
            places = {
                id(grid): grid.random_points(PLACES, seed=self.seed % 2**63, island=grid.largest_island)
                for grid in {id(grid): grid for grid in self.grids}.values()
            }
            self._starts = torch.stack([places[id(grid)] for grid in self.grids]).to(self.device)
        place, turn = uniform(self._streams(0, chosen), 2).unbind(dim=1)
        return self._starts[self.scene[chosen], (place * PLACES).long()], (turn * 2 - 1) * math.pi

    # What callers hand over

    def _checked_actions(self, actions: Any) -> Tensor:
        chosen = _tensor(actions, self.device, "actions")
        if chosen.shape != (self.num_envs,) or not _integral(chosen):
            raise ValueError(
                f"actions are {chosen.dtype} of shape {tuple(chosen.shape)}; expected {self.num_envs} integers"
            )
        wrong = (chosen < STOP) | (chosen > DOWN)
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise ValueError(f"action {int(chosen[first])} of environment {first}; expected {STOP} to {DOWN}")
        return chosen

    def _checked_ids(self, ids: Any) -> Tensor:
        if ids is None:
            return self._every
        chosen = _tensor(ids, self.device, "ids")
        if chosen.dtype == torch.bool and chosen.shape == (self.num_envs,):
            return chosen.nonzero()[:, 0]
        if chosen.shape == (0,):
            return self._every[:0]
        if chosen.dim() != 1 or not _integral(chosen):
            raise ValueError(
                f"ids are {chosen.dtype} of shape {tuple(chosen.shape)}; expected (ids,) integers, or a mask of "
                f"{self.num_envs} bool"
            )
        numbers = chosen.tolist()
        if not all(0 <= number < self.num_envs for number in numbers) or len(set(numbers)) < len(numbers):
            raise ValueError(f"ids are {numbers}; expected different numbers from 0 to {self.num_envs - 1}")
        return chosen.long()

    def _checked_scenes(self, scene: Any, count: int) -> Tensor:
        numbers = _tensor(scene, self.device, "scene")
        wrong = (numbers < 0) | (numbers >= len(self.scenes)) if _integral(numbers) else numbers == numbers
        if numbers.shape != (count,) or bool(wrong.any()):
            raise ValueError(
                f"scene is {numbers.tolist()}; expected {count} whole numbers from 0 to {len(self.scenes) - 1}"
            )
        return numbers.long()

    def _checked_numbers(self, values: Any, shape: tuple[int, ...], name: str) -> Tensor:
        numbers = _tensor(values, self.device, name)
        if numbers.shape != shape or numbers.is_complex() or not bool(numbers.isfinite().all()):
            raise ValueError(
                f"{name} is of shape {tuple(numbers.shape)}, or not finite; expected {shape} finite numbers"
            )
        return numbers.to(torch.float32)


def _tensor(values: Any, device: torch.device, name: str) -> Tensor:
    try:
        return torch.as_tensor(values, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} are {values!r:.200}; expected a tensor, an array or a list of numbers") from error


def _integral(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def _checked_sensors(sensors: Mapping[str, Sensor] | None) -> dict[str, Sensor]:
    if sensors is None:
        return {"rgb": Sensor("rgb"), "depth": Sensor("depth")}
    if not isinstance(sensors, Mapping) or not all(isinstance(sensor, Sensor) for sensor in sensors.values()):
        raise UserError(f'sensors are {sensors!r:.200}; expected names and Sensors, such as {{"rgb": Sensor("rgb")}}')
    for name in sensors:
        if name in RESERVED:
            raise UserError(f"a sensor is called {name!r}, as something else in the observation is; rename it")
    return dict(sensors)


def _loaded(scenes: Sequence[SceneData | str | Path], habitat_compatible: bool) -> list[SceneData]:
    """A file that is named twice is one scene."""
    files: dict[str | Path, SceneData] = {}
    for file in scenes:
        if not isinstance(file, SceneData | str | Path):
            raise UserError(f"a scene is {file!r:.200}; expected SceneData (of load_scene) or a file's path")
        if not isinstance(file, SceneData) and file not in files:
            files[file] = load_scene(file, habitat_compatible=habitat_compatible)
            for notice in files[file].warnings:
                warnings.warn(f"{file}: {notice}", stacklevel=4)
    return [scene if isinstance(scene, SceneData) else files[scene] for scene in scenes]


def _with_one_table(scenes: Sequence[SceneData]) -> tuple[tuple[SceneData, ...], tuple[str, ...]]:
    """The scenes with `semantic` into one table of categories, and the table: a number means the same in all of them."""
    table = tuple(dict.fromkeys(name for scene in scenes for name in (scene.categories or ("unlabelled",))))
    numbers = {name: number for number, name in enumerate(table)}
    one: dict[int, SceneData] = {}
    for scene in scenes:
        if id(scene) not in one:
            places = np.array([numbers[name] for name in scene.categories], dtype=np.int32)
            same = scene.categories == table[: len(scene.categories)]
            one[id(scene)] = scene if same else replace(scene, semantic=places[scene.semantic], categories=table)
    return tuple(one[id(scene)] for scene in scenes), table


@dataclass(frozen=True, eq=False)
class Group:
    """Sensors that one launch draws."""

    camera: Camera
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    pans: Tensor  # (views,) radians to the left
    offset: Tensor  # (3,) metres from the foot
    scene: Tensor  # (envs * views,) int64; these three are written anew at every step
    position: Tensor  # (envs * views, 3)
    rotation: Tensor  # (envs * views, 3, 3)

    @property
    def views(self) -> int:
        """Pictures an environment"""
        return len(self.pans)


def _groups(sensors: Mapping[str, Sensor], num_envs: int, device: torch.device) -> list[Group]:
    """Sensors by camera, in the order of their first."""
    alike: dict[tuple[Camera, tuple[float, ...]], list[str]] = {}
    for name, sensor in sensors.items():
        alike.setdefault((sensor.camera, sensor.pans_deg), []).append(name)
    return [
        Group(
            camera=camera,
            kinds=tuple(dict.fromkeys(sensors[name].kind for name in names)),
            names=tuple(names),
            pans=torch.deg2rad(torch.tensor(pans or (0.0,), dtype=torch.float32, device=device) + camera.pan_deg),
            offset=torch.tensor(camera.offset, dtype=torch.float32, device=device),
            scene=torch.zeros(num_envs * max(len(pans), 1), dtype=torch.int64, device=device),
            position=torch.zeros(num_envs * max(len(pans), 1), 3, dtype=torch.float32, device=device),
            rotation=torch.zeros(num_envs * max(len(pans), 1), 3, 3, dtype=torch.float32, device=device),
        )
        for (camera, pans), names in alike.items()
    ]


def _check_memory(sensors: Mapping[str, Sensor], num_envs: int, device: torch.device) -> None:
    """Before anything is allocated: a process that is killed for memory tells nobody why."""
    each = STATE_BYTES
    for sensor in sensors.values():
        dtype, channels = KINDS[sensor.kind]
        pixels = sensor.camera.height * sensor.camera.width * max(len(sensor.pans_deg), 1)
        each += pixels * dtype.itemsize * max(channels, 1) * (1 if sensor.noise is None else 3)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if each * num_envs > free:
        raise UserError(
            f"{num_envs} environments with these pictures take {each * num_envs / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free on {device}; take at most {free // each} environments, or smaller pictures"
        )
