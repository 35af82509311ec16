"""Many agents in many scenes at once: actions in, pictures and poses out, everything a tensor on one device.

    simulator = BatchSimulator([scene], num_envs=64, sensors={"rgb": Sensor("rgb"), "depth": Sensor("depth")})
    observation = simulator.reset()
    observation = simulator.step(torch.full((64,), FORWARD))

There is no episode here: what counts as success, and when it ends, is the environment's business.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor

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
        if self.kind not in KINDS:
            raise UserError(f"a sensor's kind is {self.kind!r}.{nearest(self.kind, KINDS)}")
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
            if not 0 < getattr(self, name) <= most:
                raise UserError(f"an agent's {name} is {getattr(self, name)}; expected above 0 and at most {most:g}")


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
    semantic and instance int32; pose (envs, 5) float32: x, y, z of the foot in metres, then yaw to the left and tilt up
    in radians; scene (envs,) int64; collided (envs,) bool, whether the last move was cut short. The tensors of the
    sensors are the simulator's own and are overwritten by the next call: clone what is to be kept.

    device: `cuda` draws with rays, `cpu` with the rasteriser on `threads` threads. An environment's random numbers (where
    it is placed, its noise) come from `seed` and its own number and episode: they do not depend on the others.
    Raises UserError where the pictures would not fit into memory, and ValueError for actions or places that are none.
    """

    def __init__(
        self,
        scenes: Sequence[SceneData | str | Path],
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
        if not scenes:
            raise UserError("a simulator was given no scene; give it at least one")
        if num_envs < 1:
            raise UserError(f"num_envs is {num_envs}; expected at least 1")
        self.sensors = dict(sensors if sensors is not None else {"rgb": Sensor("rgb"), "depth": Sensor("depth")})
        for name in self.sensors:
            if name in RESERVED:
                raise UserError(f"a sensor is called {name!r}, as something else in the observation is; rename it")
        self.agent = agent or Agent()
        self.num_envs = num_envs
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._groups = _groups(self.sensors, self.device)
        _check_memory(self._groups, num_envs, self.device)
        self.scenes = tuple(
            scene if isinstance(scene, SceneData) else load_scene(scene, habitat_compatible=habitat_compatible)
            for scene in scenes
        )
        settings = replace(self.agent.navigation, habitat_compatible=habitat_compatible)
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
        self.seed = seed
        self._pictures = [
            frames(group.camera, group.kinds, num_envs * group.views, self.device) for group in self._groups
        ]
        self._every = torch.arange(num_envs, device=self.device)
        self._places: Tensor | None = None  # (scenes, PLACES, 3), once a place is drawn
        self.scene = self._every % len(self.scenes)
        self.position = torch.zeros(num_envs, 3, device=self.device)
        self.yaw = torch.zeros(num_envs, device=self.device)
        self.tilt = torch.zeros(num_envs, device=self.device)
        self.collided = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self.episode = torch.full((num_envs,), -1, device=self.device)
        self.steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    def reset(
        self,
        ids: Tensor | None = None,
        *,
        scene: Tensor | None = None,
        position: Tensor | None = None,
        yaw: Tensor | None = None,
    ) -> Observation:
        """Places the environments `ids` (all) anew: in `scene` (theirs), at `position`, turned by `yaw` radians.

        What is not given is drawn: a place on the scene's largest island, and any direction.
        """
        chosen = self._chosen(ids)
        count = len(chosen)
        if scene is not None:
            scene = torch.as_tensor(scene, device=self.device).long()
            if scene.shape != (count,) or bool(((scene < 0) | (scene >= len(self.scenes))).any()):
                raise ValueError(
                    f"scene is {scene.tolist()}; expected {count} numbers from 0 to {len(self.scenes) - 1}"
                )
            self.scene[chosen] = scene
        self.episode[chosen] += 1
        self.steps[chosen] = 0
        drawn_position, drawn_yaw = self._drawn(chosen)
        self.position[chosen] = drawn_position if position is None else self._numbers(position, (count, 3), "position")
        self.yaw[chosen] = drawn_yaw if yaw is None else self._numbers(yaw, (count,), "yaw")
        self.tilt[chosen] = 0.0
        self.collided[chosen] = False
        return self.render()

    def step(self, actions: Tensor) -> Observation:
        """(envs,) integers: 0 STOP stays, 1 FORWARD, 2 LEFT, 3 RIGHT, 4 UP, 5 DOWN (the camera's tilt)."""
        chosen = torch.as_tensor(actions, device=self.device)
        if chosen.shape != (self.num_envs,) or chosen.is_floating_point() or chosen.dtype == torch.bool:
            raise ValueError(
                f"actions are {chosen.dtype} of shape {tuple(chosen.shape)}; expected {self.num_envs} integers"
            )
        if bool(((chosen < STOP) | (chosen > DOWN)).any()):
            wrong = int(((chosen < STOP) | (chosen > DOWN)).nonzero()[0])
            raise ValueError(f"action {int(chosen[wrong])} of environment {wrong}; expected {STOP} to {DOWN}")
        agent, nothing = self.agent, torch.zeros_like(self.yaw)
        ahead, aside = torch.where(chosen == FORWARD, agent.forward_m, nothing), nothing
        turn = ((chosen == LEFT).float() - (chosen == RIGHT).float()) * math.radians(agent.turn_deg)
        if agent.noise is not None:
            ahead, aside, turn = agent.noise(ahead, turn, self._streams())
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

    def render(self) -> Observation:
        """What is seen from where the agents are; nothing moves and no noise is drawn anew."""
        observation: Observation = {}
        for group, pictures in zip(self._groups, self._pictures, strict=True):
            self._draw(group, pictures)
            for name in group.names:
                observation[name] = self._seen(pictures, self.sensors[name])
        pose = torch.cat([self.position, self.yaw[:, None], self.tilt[:, None]], dim=1)
        return observation | {"pose": pose, "scene": self.scene.clone(), "collided": self.collided.clone()}

    def _draw(self, group: "Group", pictures: Frames) -> None:
        camera, views = group.camera, group.views
        body = rotations(self.yaw, torch.zeros_like(self.yaw))
        pinhole = self.position + (body * group.offset).sum(dim=2)
        yaw = self.yaw[:, None] + group.pans
        tilt = (self.tilt[:, None] + math.radians(camera.tilt_deg)).expand(-1, views)
        self.engine.render(
            camera,
            self.scene.repeat_interleave(views),
            pinhole.repeat_interleave(views, dim=0),
            rotations(yaw.flatten(), tilt.flatten()),
            pictures,
        )

    def _seen(self, pictures: Frames, sensor: Sensor) -> Tensor:
        picture = pictures[sensor.kind]
        if sensor.pans_deg:
            picture = picture.reshape(self.num_envs, len(sensor.pans_deg), *picture.shape[1:])
        return picture if sensor.noise is None else sensor.noise(picture, self._streams())

    def _streams(self, chosen: Tensor | None = None) -> Streams:
        """Every episode of every environment has its own; noise is drawn once a step."""
        seed = (self.seed * 1_000_003 + self._every) * 1_000_003 + self.episode
        return Streams(seed, self.steps) if chosen is None else Streams(seed[chosen], self.steps[chosen])

    def _chosen(self, ids: Tensor | None) -> Tensor:
        if ids is None:
            return self._every
        chosen = torch.as_tensor(ids, device=self.device)
        if chosen.dim() != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool:
            raise ValueError(f"ids are {chosen.dtype} of shape {tuple(chosen.shape)}; expected (ids,) integers")
        if bool(((chosen < 0) | (chosen >= self.num_envs)).any()) or len(set(chosen.tolist())) != len(chosen):
            raise ValueError(f"ids are {chosen.tolist()}; expected different numbers from 0 to {self.num_envs - 1}")
        return chosen.long()

    def _drawn(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """A place and a direction for each, (ids, 3) and (ids,)."""
        if self._places is None:
            places = [
                grid.random_points(PLACES, seed=self.seed * 1_000_003 + i, island=grid.largest_island)
                for i, grid in enumerate(self.grids)
            ]
            self._places = torch.stack(places).to(self.device)
        place, turn = uniform(self._streams(chosen), 2).unbind(dim=1)
        return self._places[self.scene[chosen], (place * PLACES).long()], (turn * 2 - 1) * math.pi

    def _numbers(self, values: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        numbers = torch.as_tensor(values, device=self.device, dtype=torch.float32)
        if numbers.shape != shape or not bool(numbers.isfinite().all()):
            raise ValueError(
                f"{name} is of shape {tuple(numbers.shape)}, or not finite; expected {shape} finite numbers"
            )
        return numbers


@dataclass(frozen=True, eq=False)
class Group:
    """Sensors that one launch draws."""

    camera: Camera
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    pans: Tensor  # (views,) radians to the left
    offset: Tensor  # (3,) metres from the foot

    @property
    def views(self) -> int:
        """Pictures an environment"""
        return len(self.pans)


def _groups(sensors: Mapping[str, Sensor], device: torch.device) -> list[Group]:
    """Sensors by camera, in the order of their first."""
    alike: dict[tuple[Camera, tuple[float, ...]], list[str]] = {}
    for name, sensor in sensors.items():
        alike.setdefault((sensor.camera, sensor.pans_deg), []).append(name)
    return [
        Group(
            camera=camera,
            kinds=tuple(dict.fromkeys(sensors[name].kind for name in names)),
            names=tuple(names),
            pans=torch.deg2rad(torch.tensor(pans or (0.0,), device=device) + camera.pan_deg),
            offset=torch.tensor(camera.offset, device=device),
        )
        for (camera, pans), names in alike.items()
    ]


def _check_memory(groups: Sequence[Group], num_envs: int, device: torch.device) -> None:
    """Before anything is allocated: a process that is killed for memory tells nobody why."""
    each = sum(
        group.views * group.camera.height * group.camera.width * KINDS[kind][0].itemsize * max(KINDS[kind][1], 1)
        for group in groups
        for kind in group.kinds
    )
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if each * num_envs > free:
        raise UserError(
            f"the pictures of {num_envs} environments take {each * num_envs / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB "
            f"are free on {device}; take at most {free // max(each, 1)} environments, or smaller pictures"
        )
