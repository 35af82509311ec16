"""Shortest ways over the polygons: exact in plan, from corner to corner.

A shortest way runs straight and turns only where the border juts out. So each scene keeps its turning corners, which of
them see one another, and which part of which polygon each one sees; only directions in which a taut string would leave
a corner count (the rest no shortest way uses). A distance field is then one number a corner, by Dijkstra's algorithm
from the goal, and a lookup the least over the corners that see the point. Lengths are three-dimensional between the
turning points, as habitat-sim measures them.
"""

# ruff: noqa: SIM102
# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.moves import FAR, Ground, Grounds, Spot, floor_height, spot_under

NEAR = wp.constant(wp.float64(2.0e-5))  # metres beside a line of sight that still count as on it
SLIM = wp.constant(wp.float64(1.0e-9))  # sine of the narrowest view that is followed
AT_ONCE = 256  # turning corners that look round in one launch
DEEP = wp.constant(1024)  # polygons that wait while one corner looks round
MOST_CROSSED = wp.constant(4096)  # polygons that one straight line may cross
BESIDE = wp.constant(1.0e-4)  # metres: the same as NEAR, for lookups in single precision


@dataclass(frozen=True, eq=False)
class Sight:
    """Turning corners of one scene and what they see."""

    corner: np.ndarray  # (corners, 3) float32, metres
    first_edge: np.ndarray  # (corners + 1,) int32
    to: np.ndarray  # (edges,) int32, corner at the other end
    length: np.ndarray  # (edges,) float32, metres
    first_view: np.ndarray  # (polygons + 1,) int32
    seer: np.ndarray  # (views,) int32, the corner that sees a part of the polygon
    view: np.ndarray  # (views, 4) float32, the two unit directions in plan between which it sees it


@wp.struct
class Sights:
    """Several scenes' turning corners in one pool."""

    first_corner: wp.array[wp.int32]  # (scenes + 1,)
    corner: wp.array[wp.vec3]
    first_edge: wp.array[wp.int32]
    to: wp.array[wp.int32]  # corner within its scene
    length: wp.array[wp.float32]
    first_view: wp.array[wp.int32]
    seer: wp.array[wp.int32]  # corner within its scene
    view: wp.array[wp.vec4]


def sight(ground: Ground) -> Sight:
    """Looks round from every turning corner of the border."""
    polygons = len(ground.sides)
    corners, slots, zones, owner = _turning_corners(ground)
    many = len(corners)
    empty = np.zeros(0, dtype=np.int32)
    if many == 0:
        nothing = np.zeros(1, dtype=np.int32)
        views = np.zeros(polygons + 1, dtype=np.int32)
        return Sight(
            np.zeros((0, 3), np.float32),
            nothing,
            empty,
            np.zeros(0, np.float32),
            views,
            empty,
            np.zeros((0, 4), np.float32),
        )
    first_slot = np.concatenate([[0], np.cumsum([len(each) for each in slots])]).astype(np.int32)
    slot_table = np.concatenate(slots).astype(np.int32)
    inputs = [
        wp.from_numpy(ground.corners, dtype=wp.vec3, device="cpu"),
        _ints(ground.sides),
        _ints(ground.beyond),
        _ints((ground.sides >= 0).sum(axis=1)),
        _ints(owner),
        _ints(corners),
        _ints(first_slot),
        _ints(slot_table),
        wp.from_numpy(zones, dtype=wp.vec4d, device="cpu"),
        _winding(ground),
        wp.zeros((AT_ONCE, 1024), dtype=wp.int32, device="cpu"),
        wp.zeros((AT_ONCE, 1024), dtype=wp.vec4d, device="cpu"),
    ]

    def look(*outputs: Any) -> None:
        for begin in range(0, many, AT_ONCE):
            wp.launch(look_round, dim=min(AT_ONCE, many - begin), inputs=[begin, *inputs, *outputs], device="cpu")

    seen, views = (wp.zeros(many, dtype=wp.int32, device="cpu") for _ in range(2))
    none, none_cone = wp.zeros(1, dtype=wp.int32, device="cpu"), wp.zeros(1, dtype=wp.vec4, device="cpu")
    counts = [seen, views]
    look(*counts, none, none, none, none, none_cone, 0)
    starts = [np.concatenate([[0], np.cumsum(count.numpy(), dtype=np.int64)]).astype(np.int32) for count in counts]
    to = wp.zeros(max(int(starts[0][-1]), 1), dtype=wp.int32, device="cpu")
    where = wp.zeros(max(int(starts[1][-1]), 1), dtype=wp.int32, device="cpu")
    cone = wp.zeros(max(int(starts[1][-1]), 1), dtype=wp.vec4, device="cpu")
    begins = [_ints(start) for start in starts]
    look(*counts, *begins, to, where, cone, 1)

    points = ground.corners[corners]
    a = np.repeat(np.arange(many), np.diff(starts[0]))
    b = to.numpy()[: starts[0][-1]]
    pairs = np.unique(a.astype(np.int64) * many + b)
    mutual = np.isin(pairs % many * many + pairs // many, pairs)  # taut at both ends
    pairs = pairs[mutual]
    a, b = pairs // many, pairs % many
    length = np.linalg.norm(points[a].astype(np.float64) - points[b], axis=1).astype(np.float32)
    polygon = where.numpy()[: starts[1][-1]]
    seer = np.repeat(np.arange(many), np.diff(starts[1]))
    order = np.argsort(polygon, kind="stable")
    return Sight(
        corner=points,
        first_edge=np.searchsorted(a, np.arange(many + 1)).astype(np.int32),
        to=b.astype(np.int32),
        length=length,
        first_view=np.searchsorted(polygon[order], np.arange(polygons + 1)).astype(np.int32),
        seer=seer[order].astype(np.int32),
        view=cone.numpy()[: starts[1][-1]][order],
    )


def _winding(ground: Ground) -> float:
    """1 where the polygons' corners go from +x to +z, else -1; all go the same way round."""
    if not len(ground.sides):
        return 1.0
    a, b, c = (ground.corners[ground.sides[:, i]] for i in range(3))
    turn = (b[:, 0] - a[:, 0]) * (c[:, 2] - a[:, 2]) - (b[:, 2] - a[:, 2]) * (c[:, 0] - a[:, 0])
    return 1.0 if float(turn.sum()) > 0 else -1.0


def _turning_corners(ground: Ground) -> tuple[np.ndarray, list[list[tuple[int, int]]], np.ndarray, np.ndarray]:
    """Where the border juts out.

    Returns the corner of each, the (polygon, corner number) pairs around it, its two zones as pairs of unit directions
    (turning corners, 2, 4), and which turning corner, or -1, stands at each corner of each polygon.
    """
    winding = _winding(ground)
    plan = ground.corners[:, [0, 2]].astype(np.float64)
    sides, beyond = ground.sides.tolist(), ground.beyond.tolist()
    sides = [[corner for corner in corners if corner >= 0] for corners in sides]
    owner = np.full_like(ground.sides, -1)
    corners: list[int] = []
    slots: list[list[tuple[int, int]]] = []
    zones: list[list[np.ndarray]] = []
    for polygon, own in enumerate(sides):
        for number, corner in enumerate(own):
            if beyond[polygon][number] >= 0:
                continue
            out = plan[own[(number + 1) % len(own)]] - plan[corner]
            around, total, here, at = [], 0.0, polygon, number
            previous = out
            while True:
                around.append((here, at))
                ring = sides[here]
                back = plan[ring[at - 1]] - plan[corner]
                cross = (previous[0] * back[1] - previous[1] * back[0]) * winding
                total += float(np.arctan2(cross, previous @ back)) % (2 * np.pi)
                previous = back
                here = beyond[here][(at - 1) % len(ring)]
                if here < 0:
                    break
                at = sides[here].index(corner)
            if total <= np.pi + 1e-6:
                continue
            out, back = out / np.linalg.norm(out), previous / np.linalg.norm(previous)
            for where in around:
                owner[where] = len(corners)
            corners.append(corner)
            slots.append(around)
            zones.append([np.concatenate([out, -back]), np.concatenate([-out, back])])
    return np.array(corners, dtype=np.int32), slots, np.array(zones, dtype=np.float64).reshape(-1, 2, 4), owner


def pooled_sights(sights: Sequence[Sight], device: str) -> tuple[Any, np.ndarray]:
    """The scenes' `Sights` on the device, and the number of each one's first corner."""
    first = np.concatenate([[0], np.cumsum([len(each.corner) for each in sights])]).astype(np.int32)
    edges = np.concatenate([[0], np.cumsum([len(each.to) for each in sights])])
    views = np.concatenate([[0], np.cumsum([len(each.seer) for each in sights])])
    pool = Sights()

    def joined(parts: list[np.ndarray], last: int | None = None) -> np.ndarray:
        return np.concatenate([*parts, *([] if last is None else [np.array([last])])])

    first_edge = joined([each.first_edge[:-1] + edges[i] for i, each in enumerate(sights)], int(edges[-1]))
    first_view = joined([each.first_view[:-1] + views[i] for i, each in enumerate(sights)], int(views[-1]))
    pool.first_corner = _ints(first, device)
    pool.corner = _vectors(joined([each.corner for each in sights]), wp.vec3, device)
    pool.first_edge = _ints(first_edge, device)
    pool.to = _ints(joined([each.to for each in sights]), device)
    pool.length = wp.from_numpy(joined([each.length for each in sights]), dtype=wp.float32, device=device)
    pool.first_view = _ints(first_view, device)
    pool.seer = _ints(joined([each.seer for each in sights]), device)
    pool.view = _vectors(joined([each.view for each in sights]), wp.vec4, device)
    return pool, first


def _ints(values: np.ndarray, device: str = "cpu") -> wp.array:
    return wp.from_numpy(np.ascontiguousarray(values, dtype=np.int32), dtype=wp.int32, device=device)


def _vectors(values: np.ndarray, dtype: Any, device: str) -> wp.array:
    return wp.from_numpy(np.ascontiguousarray(values, dtype=np.float32), dtype=dtype, device=device)


@wp.func
def plan_of(corner: wp.array[wp.vec3], i: int) -> wp.vec2d:
    """A corner in plan."""
    p = corner[i]
    return wp.vec2d(wp.float64(p[0]), wp.float64(p[2]))


@wp.func
def cross(a: wp.vec2d, b: wp.vec2d) -> wp.float64:
    """Sine of the turn from a to b, times their lengths."""
    return a[0] * b[1] - a[1] * b[0]


@wp.func
def narrowed(view: wp.vec4d, a: wp.vec2d, b: wp.vec2d, winding: wp.float64) -> wp.vec4d:
    """The part of a view that passes between a and b, both seen from the view's corner; zeros where there is none."""
    first = wp.vec2d(view[0], view[1])
    last = wp.vec2d(view[2], view[3])
    result = wp.vec4d()
    if cross(a, b) * winding > SLIM:
        a1 = wp.normalize(a)
        b1 = wp.normalize(b)
        ahead = (
            wp.dot(first, b1) > wp.float64(0.0)
            or wp.dot(last, a1) > wp.float64(0.0)
            or wp.dot(first, a1) > wp.float64(0.0)
        )
        if ahead:
            if cross(first, a1) * winding > wp.float64(0.0):
                first = a1
            if cross(b1, last) * winding > wp.float64(0.0):
                last = b1
            if cross(first, last) * winding > SLIM and wp.dot(first, last) > wp.float64(-0.9999999):
                if cross(first, b1) * winding > wp.float64(0.0) and cross(a1, last) * winding > wp.float64(0.0):
                    result = wp.vec4d(first[0], first[1], last[0], last[1])
    return result


@wp.func
def in_view(view: wp.vec4d, p: wp.vec2d, winding: wp.float64) -> bool:
    """Whether a point, seen from the view's corner, lies in the view."""
    first = wp.vec2d(view[0], view[1])
    last = wp.vec2d(view[2], view[3])
    within = cross(first, p) * winding >= -NEAR and cross(p, last) * winding >= -NEAR
    return within and wp.dot(first, p) + wp.dot(last, p) > wp.float64(0.0)


@wp.kernel(enable_backward=False)
def look_round(
    begin: wp.int32,
    corner: wp.array[wp.vec3],
    sides: wp.array2d[wp.int32],
    beyond: wp.array2d[wp.int32],
    count: wp.array[wp.int32],
    owner: wp.array2d[wp.int32],
    sources: wp.array[wp.int32],
    first_slot: wp.array[wp.int32],
    slots: wp.array2d[wp.int32],
    zones: wp.array2d[wp.vec4d],
    winding_: wp.float64,
    waiting: wp.array2d[wp.int32],
    waiting_view: wp.array2d[wp.vec4d],
    seen: wp.array[wp.int32],
    views: wp.array[wp.int32],
    first_seen: wp.array[wp.int32],
    first_view: wp.array[wp.int32],
    out_seen: wp.array[wp.int32],
    out_polygon: wp.array[wp.int32],
    out_view: wp.array[wp.vec4],
    emit: wp.int32,
) -> None:
    """Follows each turning corner's two zones through the polygons; counts what it sees, or writes it."""
    row = wp.tid()
    me = begin + row
    source = plan_of(corner, sources[me])
    winding = winding_
    found = wp.int32(0)
    parts = wp.int32(0)
    for slot in range(first_slot[me], first_slot[me + 1]):
        start = slots[slot, 0]
        number = slots[slot, 1]
        for zone in range(2):
            view = zones[me, zone]
            # The polygon that the corner is part of, and whatever lies behind its other sides.
            waiting[row, 0] = start
            waiting_view[row, 0] = view
            size = wp.int32(1)
            own = wp.int32(1)
            while size > 0:
                size -= 1
                q = waiting[row, size]
                view = waiting_view[row, size]
                n = count[q]
                if emit == 1:
                    out_polygon[first_view[me] + parts] = q
                    out_view[first_view[me] + parts] = wp.vec4(
                        float(view[0]), float(view[1]), float(view[2]), float(view[3])
                    )
                parts += 1
                for i in range(n):
                    a = plan_of(corner, sides[q, i]) - source
                    other = owner[q, i]
                    if other >= 0 and other != me:
                        if in_view(view, a, winding):
                            if emit == 1:
                                out_seen[first_seen[me] + found] = other
                            found += 1
                    touches = own == 1 and (i == number or (i + 1) % n == number)
                    if beyond[q, i] >= 0 and not touches and size < DEEP:
                        b = plan_of(corner, sides[q, (i + 1) % n]) - source
                        part = narrowed(view, a, b, winding)
                        if part[0] != wp.float64(0.0) or part[1] != wp.float64(0.0):
                            waiting[row, size] = beyond[q, i]
                            waiting_view[row, size] = part
                            size += 1
                own = 0
    seen[me] = found
    views[me] = parts


@wp.func
def seen_from(s: Sights, view: int, scene: int, p: wp.vec3, winding: float) -> float:
    """Metres from the corner of a view to p where p lies in the view; else -1."""
    corner = s.corner[s.first_corner[scene] + s.seer[view]]
    cone = s.view[view]
    dx = p[0] - corner[0]
    dz = p[2] - corner[2]
    first = (cone[0] * dz - cone[1] * dx) * winding
    last = (dx * cone[3] - dz * cone[2]) * winding
    metres = wp.float32(-1.0)
    if first >= -BESIDE and last >= -BESIDE and dx * (cone[0] + cone[2]) + dz * (cone[1] + cone[3]) >= -BESIDE:
        metres = wp.length(p - corner)
    return metres


@wp.func
def sees(g: Grounds, from_polygon: int, p: wp.vec3, to_polygon: int, target: wp.vec3) -> bool:
    """Whether the straight line from p to the target stays on the polygons."""
    q = int(from_polygon)
    dx = target[0] - p[0]
    dz = target[2] - p[2]
    going = wp.int32(1)
    before = wp.int32(-1)
    result = wp.int32(0)
    steps = wp.int32(0)
    while going == 1 and steps < MOST_CROSSED:
        steps += 1
        if q == to_polygon:
            result = 1
            going = 0
        else:
            n = g.count[q]
            v0 = g.corner[g.side[q, 0]]
            v1 = g.corner[g.side[q, 1]]
            v2 = g.corner[g.side[q, 2]]
            turn = (v1[0] - v0[0]) * (v2[2] - v0[2]) - (v1[2] - v0[2]) * (v2[0] - v0[0])
            sign = wp.where(turn > 0.0, 1.0, -1.0)
            leave = float(FAR)
            door = wp.int32(-1)
            for i in range(n):
                following = g.beyond[q, i]
                if following != before or following < 0:
                    a = g.corner[g.side[q, i]]
                    b = g.corner[g.side[q, (i + 1) % n]]
                    ex = b[0] - a[0]
                    ez = b[2] - a[2]
                    outwards = (dx * ez - dz * ex) * sign
                    if outwards > 0.0:
                        share = -((p[0] - a[0]) * ez - (p[2] - a[2]) * ex) * sign / outwards
                        closer = share < leave - 1.0e-5 or (share < leave + 1.0e-5 and door < 0 and following >= 0)
                        if closer:
                            leave = share
                            door = following
            if door < 0 or leave > 1.0 + 1.0e-5:
                going = 0
            else:
                before = q
                q = door
    return result == 1


@wp.func
def winding_of(g: Grounds, polygon: int) -> float:
    """1 where the polygon's corners go from +x to +z, else -1."""
    a = g.corner[g.side[polygon, 0]]
    b = g.corner[g.side[polygon, 1]]
    c = g.corner[g.side[polygon, 2]]
    turn = (b[0] - a[0]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[0] - a[0])
    return wp.where(turn > 0.0, 1.0, -1.0)


@wp.kernel(enable_backward=False)
def field_kernel(
    g: Grounds,
    s: Sights,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    goals: wp.array[wp.vec3],
    slots: wp.array[wp.int32],
    goal: wp.array[wp.vec3],
    goal_polygon: wp.array[wp.int32],
    distance: wp.array2d[wp.float32],
    towards: wp.array2d[wp.int32],
    settled: wp.array2d[wp.int32],
) -> None:
    """Each goal's distance field, into its slot: metres from every turning corner, and the next corner on the way."""
    i = begin + wp.tid()
    slot = slots[i]
    here = scene[i]
    spot = spot_under(g, here, goals[i], -1)
    first = s.first_corner[here]
    many = s.first_corner[here + 1] - first
    goal[slot] = spot.point
    goal_polygon[slot] = spot.polygon
    for k in range(many):
        distance[slot, k] = wp.inf
        towards[slot, k] = -1
        settled[i, k] = 0
    if spot.polygon >= 0:
        winding = winding_of(g, spot.polygon)
        for view in range(s.first_view[spot.polygon], s.first_view[spot.polygon + 1]):
            metres = seen_from(s, view, here, spot.point, winding)
            if metres >= 0.0 and metres < distance[slot, s.seer[view]]:
                distance[slot, s.seer[view]] = metres
        going = wp.int32(1)
        while going == 1:
            best = wp.int32(-1)
            least = float(wp.inf)
            for k in range(many):
                if settled[i, k] == 0 and distance[slot, k] < least:
                    least = distance[slot, k]
                    best = k
            if best < 0:
                going = 0
            else:
                settled[i, best] = 1
                for e in range(s.first_edge[first + best], s.first_edge[first + best + 1]):
                    k = s.to[e]
                    if least + s.length[e] < distance[slot, k]:
                        distance[slot, k] = least + s.length[e]
                        towards[slot, k] = best


@wp.struct
class Way:
    """How far it is, and over which turning corner the way begins."""

    metres: wp.float32
    corner: wp.int32  # -1 for straight to the goal


@wp.func
def way(
    g: Grounds,
    s: Sights,
    scene: int,
    spot: Spot,
    slot: int,
    goal: wp.array[wp.vec3],
    goal_polygon: wp.array[wp.int32],
    distance: wp.array2d[wp.float32],
) -> Way:
    """The shortest way from a spot to the goal of a slot; infinite where there is none."""
    result = Way()
    result.metres = wp.inf
    result.corner = -1
    target = goal_polygon[slot]
    if spot.polygon >= 0 and target >= 0:
        if g.island[spot.polygon] == g.island[target]:
            if sees(g, spot.polygon, spot.point, target, goal[slot]):
                result.metres = wp.length(goal[slot] - spot.point)
            else:
                winding = winding_of(g, spot.polygon)
                for view in range(s.first_view[spot.polygon], s.first_view[spot.polygon + 1]):
                    rest = distance[slot, s.seer[view]]
                    if rest < result.metres:
                        metres = seen_from(s, view, scene, spot.point, winding)
                        if metres >= 0.0 and metres + rest < result.metres:
                            result.metres = metres + rest
                            result.corner = s.seer[view]
    return result


@wp.kernel(enable_backward=False)
def distance_kernel(
    g: Grounds,
    s: Sights,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    points: wp.array[wp.vec3],
    slots: wp.array[wp.int32],
    goal: wp.array[wp.vec3],
    goal_polygon: wp.array[wp.int32],
    distance: wp.array2d[wp.float32],
    out: wp.array[wp.float32],
) -> None:
    """Metres from each point to its slot's goal."""
    i = begin + wp.tid()
    spot = spot_under(g, scene[i], points[i], -1)
    out[i] = way(g, s, scene[i], spot, slots[i], goal, goal_polygon, distance).metres


@wp.kernel(enable_backward=False)
def path_kernel(
    g: Grounds,
    s: Sights,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    points: wp.array[wp.vec3],
    slots: wp.array[wp.int32],
    goal: wp.array[wp.vec3],
    goal_polygon: wp.array[wp.int32],
    distance: wp.array2d[wp.float32],
    towards: wp.array2d[wp.int32],
    most: wp.int32,
    corners: wp.array2d[wp.vec3],
    count: wp.array[wp.int32],
) -> None:
    """The points of each way, both ends included; `count` says how many there are, also where `most` cut them off."""
    i = begin + wp.tid()
    here = scene[i]
    slot = slots[i]
    spot = spot_under(g, here, points[i], -1)
    found = way(g, s, here, spot, slot, goal, goal_polygon, distance)
    exact = g.head[here, 6]
    n = wp.int32(0)
    if found.metres < wp.inf:
        if most > 0:
            corners[i, 0] = spot.point
        n = wp.int32(1)
        k = int(found.corner)
        while k >= 0:
            if n < most:
                corners[i, n] = s.corner[s.first_corner[here] + k]
            n += 1
            k = towards[slot, k]
        if n < most:
            corners[i, n] = goal[slot]
        n += 1
        if exact == 1:
            for j in range(wp.min(n, most)):
                p = corners[i, j]
                corners[i, j] = wp.vec3(p[0], floor_height(g, here, p, g.island[spot.polygon]), p[2])
    count[i] = n
