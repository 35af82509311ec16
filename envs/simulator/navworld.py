"""Many scenes' ground in one pool, so that one call answers for thousands of environments in any of them.

Every question takes the scene of each point, (points,) integers, or None where there is one scene. Points may be
tensors or arrays; the answer is of the same kind. On the CPU a call is cut into ranges for a few threads, whose number
changes no digit of an answer. Threads of the caller may share a NavWorld, and a process that is forked may go on with
its parent's, but on CUDA.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from vlkit.envs.devices import present
from vlkit.envs.simulator.corridors import Search, corridor_kernel
from vlkit.envs.simulator.follow import follow_kernel
from vlkit.envs.simulator.forks import PerProcess
from vlkit.envs.simulator.geodesics import distance_kernel, field_kernel, path_kernel, pooled_sights
from vlkit.envs.simulator.kernels import launch, lent, wp
from vlkit.envs.simulator.moves import pooled, snap_kernel, step_kernel, wall_kernel
from vlkit.errors import UserError
from vlkit.processes import cores

if TYPE_CHECKING:
    from vlkit.envs.simulator.navgrid import NavGrid

Points = Any  # a Tensor or a numpy array; what is asked in one is answered in it
FEWEST_PER_THREAD = 256  # a range this small costs less than starting a thread for it
GOALS = 4096  # distance fields that are kept
SEARCH_ROOM = 1 << 18  # polygons, of all searches of one launch together
_STARTING = PerProcess(threading.Lock)  # so that no two threads compile or load one kernel at the same time


class NavWorld:
    """The ground of several scenes on one device."""

    def __init__(
        self,
        grids: "Sequence[NavGrid]",
        *,
        device: str | torch.device = "cpu",
        threads: int | None = None,
        most_goals: int = GOALS,
    ) -> None:
        if not grids:
            raise UserError("a NavWorld of no scene; give at least one NavGrid")
        if threads is not None and threads < 1:
            raise UserError(f"threads is {threads}; expected 1 or more, or None for one a core")
        self.grids = tuple(grids)
        self.device = present(device)
        self.threads = 1 if self.device.type == "cuda" else threads or cores()
        self._pool = PerProcess(partial(ThreadPoolExecutor, self.threads))
        name = str(self.device)
        self._ground, first_polygon = pooled([grid.ground for grid in grids], name)
        self._sights, first_corner = pooled_sights([grid.sight for grid in grids], name)
        self._polygon_island = torch.from_numpy(
            np.concatenate([*(grid.ground.island for grid in grids), np.array([-1], dtype=np.int32)])
        ).to(self.device)
        self._first_polygon = torch.from_numpy(first_polygon).to(self.device)
        self._most_polygons = int(np.diff(first_polygon).max())
        compatible = [grid.settings.habitat_compatible for grid in grids]
        self._compatible = torch.tensor(compatible, device=self.device)
        self._most_corners = max(int(np.diff(first_corner).max()), 1)
        self.most_goals = most_goals
        self._slots: OrderedDict[bytes, int] = OrderedDict()
        self._filling = PerProcess(threading.Lock)
        self._started: set[str] = set()  # kernels that have run here
        self._make_room(16)

    def __getstate__(self) -> NoReturn:
        raise TypeError("a NavWorld has threads and a device's arrays; pickle its grids and make one of them again")

    # Where points stand

    def snap(self, scene: Points | None, points: Points, *, island: int | None = None) -> Points:
        """(points, 3): the nearest points on the ground, or on one island of it; NaN where none is within reach."""
        return self._like(points, self._snapped(scene, points, island)[0])

    def island_of(self, scene: Points | None, points: Points) -> Points:
        """(points,) int32, number of the island within its scene, -1 for none"""
        return self._like(points, self._polygon_island[self._snapped(scene, points, None)[1].long()])

    def is_navigable(self, scene: Points | None, points: Points, *, max_y_delta: float = 0.5) -> Points:
        """(points,) bool: within a centimetre of the ground in plan, and so many metres up or down."""
        snapped, _ = self._snapped(scene, points, None)
        off = snapped - self._points(points)
        near = (off[:, [0, 2]].norm(dim=1) <= 1e-2) & (off[:, 1].abs() <= max_y_delta)  # false where NaN
        return self._like(points, near)

    def distance_to_closest_obstacle(
        self, scene: Points | None, points: Points, *, max_distance: float = 2.0
    ) -> Points:
        """(points,) metres in plan to the border that can be reached; `max_distance` where none is nearer."""
        if not max_distance > 0:
            raise ValueError(f"max_distance is {max_distance}; expected metres above 0")
        at = self._points(points)
        metres = torch.empty(len(at), device=self.device)
        inputs = [self._scenes(scene, len(at)), float(max_distance), lent(at, wp.vec3), lent(metres)]
        self._launch(wall_kernel, len(at), [self._ground], inputs)
        return self._like(points, metres)

    def _snapped(self, scene: Points | None, points: Points, island: int | None) -> tuple[Tensor, Tensor]:
        at = self._points(points)
        out = torch.empty_like(at)
        polygon = torch.empty(len(at), dtype=torch.int32, device=self.device)
        chosen = -1 if island is None else int(island)
        inputs = [self._scenes(scene, len(at)), chosen, lent(at, wp.vec3), lent(out, wp.vec3), lent(polygon)]
        self._launch(snap_kernel, len(at), [self._ground], inputs)
        return out, polygon

    # Moves

    def step(
        self,
        scene: Points | None,
        position: Points,
        *,
        displacement: Points | None = None,
        yaw: Points | None = None,
        forward_m: float = 0.25,
        sliding: bool = True,
    ) -> tuple[Points, Points]:
        """Where each ends that wants to move by `displacement` (points, 3), or forward along `yaw` (points,) radians.

        Also whether it was held up, (points,) bool: squared, the way it went plus 1e-5 is less than the way it wanted.
        Who stands nowhere, or wants no finite thing, stays and is held up.
        """
        at = self._points(position)
        if (displacement is None) == (yaw is None):
            raise ValueError("step takes either a displacement or a yaw")
        if displacement is not None:
            wanted = self._points(displacement)
        else:
            turned = self._yaws(yaw, len(at))
            wanted = torch.stack([-turned.sin(), torch.zeros_like(turned), -turned.cos()], dim=1) * forward_m
        if len(wanted) != len(at):
            raise ValueError(f"{len(at)} positions and {len(wanted)} moves; expected one for each")
        out = torch.empty_like(at)
        collided = torch.empty(len(at), dtype=torch.uint8, device=self.device)
        scenes = self._scenes(scene, len(at))
        inputs = [scenes, int(sliding), lent(at, wp.vec3), lent(wanted, wp.vec3), lent(out, wp.vec3), lent(collided)]
        self._launch(step_kernel, len(at), [self._ground], inputs)
        return self._like(position, out), self._like(position, collided.bool())

    # Distances

    def goals(self, scene: Points | None, goals: Points) -> Tensor:
        """(points,) int32, the number of each goal's distance field; computed where it is not among those kept.

        The numbers hold until `most_goals` others have been asked for. Raises UserError for more different goals at
        once than that.
        """
        at = self._points(goals)
        scenes = torch.empty(len(at), dtype=torch.int32)
        scenes.copy_(self._scene_tensor(scene, len(at)))
        keys = np.empty((len(at), 16), dtype=np.uint8)
        keys[:, :4] = scenes.numpy().view(np.uint8).reshape(-1, 4)
        keys[:, 4:] = at.cpu().contiguous().numpy().view(np.uint8).reshape(-1, 12)
        distinct, first, inverse = np.unique(
            np.ascontiguousarray(keys).view("V16").ravel(), return_index=True, return_inverse=True
        )
        if len(distinct) > self.most_goals:
            raise UserError(
                f"{len(distinct)} different goals at once, and this NavWorld keeps {self.most_goals} distance fields; "
                "make it with a larger most_goals, or ask in parts"
            )
        with self._filling():
            numbers = self._numbers([key.tobytes() for key in distinct], scenes, at, first)
        return torch.from_numpy(numbers[inverse.ravel()]).to(self.device)

    def _numbers(self, keys: list[bytes], scenes: Tensor, goals: Tensor, first: np.ndarray) -> np.ndarray:
        """The number of each key's field; `first` is where its goal stands among the goals."""
        numbers = np.empty(len(keys), dtype=np.int32)
        fresh: list[int] = []
        for i, key in enumerate(keys):
            slot = self._slots.get(key)
            if slot is None:
                fresh.append(i)
            else:
                self._slots.move_to_end(key)
                numbers[i] = slot
        for i in fresh:
            if len(self._slots) < self.most_goals:
                slot = len(self._slots)
            else:
                _, slot = self._slots.popitem(last=False)
            self._slots[keys[i]] = slot
            numbers[i] = slot
        if fresh:
            self._make_room(int(numbers.max()) + 1)
            chosen = torch.from_numpy(first[fresh])
            self._fill(scenes[chosen], goals[chosen.to(self.device)], torch.from_numpy(numbers[fresh]))
        return numbers

    def distance(self, scene: Points | None, points: Points, goals: Tensor) -> Points:
        """(points,) metres from each point to the goal that `goals` numbers; infinite where no way leads.

        Raises ValueError for a number that `goals` has not handed out, or that stands for a goal in another scene.
        """
        at = self._points(points)
        here = self._scene_tensor(scene, len(at))
        slots = self._slots_of(goals, here)
        metres = torch.empty(len(at), device=self.device)
        inputs = [lent(here), lent(at, wp.vec3), lent(slots), *self._fields(), lent(metres)]
        self._launch(distance_kernel, len(at), [self._ground, self._sights], inputs)
        return self._like(points, metres)

    def geodesic(self, scene: Points | None, start: Points, end: Points) -> Points:
        """(points,) metres of the way from each start to its end; infinite where there is none.

        The shortest; under `habitat_compatible` the one that habitat-sim finds, which is some per cent longer at times.
        """
        a, b = self._ends(start, end)
        here = self._scene_tensor(scene, len(a))
        as_habitat = self._compatible[here.long()]
        own = ~as_habitat
        metres = torch.empty(len(here), device=self.device)
        if own.any():
            metres[own] = self.distance(here[own], a[own], self.goals(here[own], b[own]))
        if as_habitat.any():
            metres[as_habitat] = self._corridors(here[as_habitat], a[as_habitat], b[as_habitat], most=0)[0]
        return self._like(start, metres)

    def path(self, scene: Points | None, start: Points, end: Points) -> list[Points]:
        """For each start and end the points at which that way turns, (corners, 3), both included; none for no way."""
        a, b = self._ends(start, end)
        here = self._scene_tensor(scene, len(a))
        as_habitat = self._compatible[here.long()]
        paths: list[Points] = [None] * len(here)
        for chosen, ways in ((~as_habitat, self._ways), (as_habitat, self._habitat_ways)):
            numbers = chosen.nonzero()[:, 0]
            if len(numbers):
                corners, count = ways(here[numbers], a[numbers], b[numbers])
                for i, path, n in zip(numbers.tolist(), corners, count.tolist(), strict=True):
                    paths[i] = self._like(start, path[:n])
        return paths

    def _ways(self, scene: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Corners (points, most, 3) of the shortest ways, and how many each has."""
        slots = self.goals(scene, end)
        count = torch.empty(len(start), dtype=torch.int32, device=self.device)
        most = 32
        while True:
            corners = torch.zeros(len(start), most, 3, device=self.device)
            inputs = [lent(scene), lent(start, wp.vec3), lent(slots), *self._fields(), lent(self._towards)]
            inputs += [most, lent(corners, wp.vec3), lent(count)]
            self._launch(path_kernel, len(start), [self._ground, self._sights], inputs)
            if int(count.max()) <= most:
                return corners, count
            most = int(count.max())

    def _habitat_ways(self, scene: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        most = 32
        while True:
            _, corners, count = self._corridors(scene, start, end, most=most)
            if int(count.max()) <= most:
                return corners, count
            most = int(count.max())

    def _corridors(self, scene: Tensor, start: Tensor, end: Tensor, *, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Metres, corners (points, most, 3) and how many there are of the ways that habitat-sim finds."""
        metres, corners = torch.empty(len(start)), torch.zeros(len(start), most, 3)
        metres, corners = metres.to(self.device), corners.to(self.device)
        count = torch.empty(len(start), dtype=torch.int32, device=self.device)
        rows = max(min(len(start), SEARCH_ROOM // self._most_polygons), 1)
        search, kept = self._search_room(rows)
        for begin in range(0, len(start), rows):
            part = slice(begin, begin + rows)
            inputs = [lent(scene[part]), lent(self._first_polygon), lent(start[part], wp.vec3)]
            inputs += [lent(end[part], wp.vec3), most, lent(corners[part], wp.vec3), lent(count[part])]
            inputs.append(lent(metres[part]))
            self._launch(corridor_kernel, len(start[part]), [self._ground, search], inputs, fewest=16)
        del kept
        return metres, corners, count

    def _search_room(self, rows: int) -> tuple[Any, list[Tensor]]:
        """Scratch of so many searches, and the tensors that hold it."""
        shape = (rows, self._most_polygons)
        ints = [torch.empty(shape, dtype=torch.int32, device=self.device) for _ in range(3)]
        points = torch.empty(*shape, 3, device=self.device)
        floats = [torch.empty(shape, device=self.device) for _ in range(2)]
        search = Search()
        search.flags, search.before, search.heap = map(wp.from_torch, ints)
        search.point = wp.from_torch(points, dtype=wp.vec3)
        search.cost, search.total = map(wp.from_torch, floats)
        return search, [*ints, points, *floats]

    def next_actions(
        self,
        scene: Points | None,
        position: Points,
        yaw: Points,
        goals: Tensor,
        *,
        goal_radius: float = 0.25,
        forward_m: float = 0.25,
        turn_deg: float = 15.0,
        sliding: bool = True,
    ) -> Points:
        """(points,) int64, what an expert on the shortest way does: 0 stop, 1 forward, 2 turn left, 3 turn right.

        It stops within `goal_radius` of the goal, and where no way leads to it. Raises ValueError as `distance` does.
        """
        at = self._points(position)
        turned = self._yaws(yaw, len(at))
        if not 0 < turn_deg <= 180:
            raise ValueError(f"turn_deg is {turn_deg}; expected degrees above 0 and at most 180")
        here = self._scene_tensor(scene, len(at))
        slots = self._slots_of(goals, here)
        actions = torch.empty(len(at), dtype=torch.int32, device=self.device)
        radians = float(np.radians(turn_deg))
        numbers = [float(goal_radius), float(forward_m), radians, int(sliding)]
        inputs = [lent(here), lent(at, wp.vec3), lent(turned), lent(slots), *self._fields()]
        inputs += [lent(self._towards), *numbers, lent(actions)]
        self._launch(follow_kernel, len(at), [self._ground, self._sights], inputs)
        return self._like(position, actions.long())

    def _fields(self) -> list[Any]:
        return [lent(self._goal, wp.vec3), lent(self._goal_polygon), lent(self._distance)]

    def _make_room(self, fields: int) -> None:
        """Room for so many distance fields, doubled as they come; what is there stays."""
        old = len(self._goal) if hasattr(self, "_goal") else 0
        if fields <= old:
            return
        size = min(max(fields, 2 * old), max(self.most_goals, fields))

        def grown(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
            made = torch.zeros(size, *shape, dtype=dtype, device=self.device)
            if old:
                made[:old] = getattr(self, name)
            setattr(self, name, made)

        self._goal: Tensor
        self._goal_scene: Tensor
        self._goal_polygon: Tensor
        self._distance: Tensor
        self._towards: Tensor
        grown("_goal", (3,), torch.float32)
        grown("_goal_scene", (), torch.int32)
        grown("_goal_polygon", (), torch.int32)
        grown("_distance", (self._most_corners,), torch.float32)
        grown("_towards", (self._most_corners,), torch.int32)

    def _fill(self, scene: Tensor, goals: Tensor, slots: Tensor) -> None:
        many = len(goals)
        here = scene.to(self.device, torch.int32)
        goals, slots = goals.contiguous(), slots.to(self.device, torch.int32)
        self._goal_scene[slots.long()] = here
        settled = torch.empty(many, self._most_corners, dtype=torch.int32, device=self.device)
        inputs = [lent(here), lent(goals, wp.vec3), lent(slots), *self._fields(), lent(self._towards), lent(settled)]
        self._launch(field_kernel, many, [self._ground, self._sights], inputs, fewest=1)

    # How a call is made

    def _points(self, points: Points) -> Tensor:
        tensor = torch.as_tensor(points).to(self.device, torch.float32).contiguous()
        if tensor.dim() != 2 or tensor.shape[1] != 3:
            raise ValueError(f"points of shape {tuple(tensor.shape)}; expected (points, 3)")
        return tensor

    def _ends(self, start: Points, end: Points) -> tuple[Tensor, Tensor]:
        a, b = self._points(start), self._points(end)
        if len(a) != len(b):
            raise ValueError(f"{len(a)} starts and {len(b)} ends; expected one for each")
        return a, b

    def _yaws(self, yaw: Points, many: int) -> Tensor:
        tensor = torch.as_tensor(yaw).to(self.device, torch.float32).contiguous()
        if tensor.shape != (many,):
            raise ValueError(f"yaws of shape {tuple(tensor.shape)} for {many} points; expected one for each")
        return tensor

    def _integers(self, values: Points, many: int, name: str) -> Tensor:
        tensor = torch.as_tensor(values)
        if tensor.shape != (many,):
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} for {many} points; expected one for each")
        if many and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
            raise ValueError(f"{name} are {tensor.dtype}; expected integers")
        return tensor.to(self.device)

    def _scene_tensor(self, scene: Points | None, many: int) -> Tensor:
        if scene is None:
            if len(self.grids) > 1:
                raise ValueError(f"this NavWorld has {len(self.grids)} scenes; say which one each point is in")
            return torch.zeros(many, dtype=torch.int32, device=self.device)
        tensor = self._integers(scene, many, "scenes")
        if many and self.device.type == "cpu" and not 0 <= int(tensor.min()) <= int(tensor.max()) < len(self.grids):
            raise ValueError(f"a scene is not among 0 to {len(self.grids) - 1}")
        return tensor.to(torch.int32).contiguous()

    def _scenes(self, scene: Points | None, many: int) -> Any:
        return lent(self._scene_tensor(scene, many))

    def _slots_of(self, goals: Tensor, scene: Tensor) -> Tensor:
        """The goals' numbers, which the kernels take for places in the distance fields, for points in these scenes."""
        slots = self._integers(goals, len(scene), "goals")
        known = len(self._slots)
        unknown = (slots < 0) | (slots >= known)
        strange = unknown | (self._goal_scene[torch.where(unknown, 0, slots).long()] != scene)
        if bool(strange.any()):
            first = int(strange.nonzero()[0])
            slot = int(slots[first])
            if not 0 <= slot < known:
                raise ValueError(f"goal {slot} of point {first}; goals() has handed out {known} numbers, from 0 on")
            raise ValueError(
                f"goal {slot} of point {first} lies in scene {int(self._goal_scene[slot])} and the point in scene "
                f"{int(scene[first])}; ask goals() for one in the point's scene"
            )
        return slots.to(torch.int32).contiguous()

    def _like(self, asked: Points, answer: Tensor) -> Points:
        return answer if isinstance(asked, Tensor) else answer.cpu().numpy()

    def _launch(
        self, kernel: Any, many: int, pools: list[Any], inputs: list[Any], fewest: int = FEWEST_PER_THREAD
    ) -> None:
        """Runs the kernel over all points, in ranges on a few threads where there are many."""
        if many == 0:
            return
        if self.device.type == "cuda":
            launch(kernel, many, [*pools, 0, *inputs], self.device)
            return
        if kernel.key not in self._started:
            with _STARTING():
                launch(kernel, many, [*pools, 0, *inputs], self.device)
                self._started.add(kernel.key)
            return
        parts = min(self.threads, max(many // fewest, 1))
        if parts == 1:
            launch(kernel, many, [*pools, 0, *inputs], self.device)
            return
        bounds = [many * part // parts for part in range(parts + 1)]

        def run(part: int) -> None:
            begin, end = bounds[part], bounds[part + 1]
            launch(kernel, end - begin, [*pools, begin, *inputs], self.device)

        list(self._pool().map(run, range(parts)))
