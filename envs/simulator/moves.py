"""Where a point stands on the polygons, and where a step from it ends: the questions of one moment, in batches.

The rules are those that Detour describes and habitat-sim asks: the nearest polygon within a box, a slide to the point of
the reachable border that is nearest to the wish, the distance to the nearest wall. One thread answers for one point and
reads nothing that another writes, so results depend on neither the batch nor the number of threads.
"""

# ruff: noqa: SIM102
# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlkit.envs.simulator.kernels import wp

BIN_M = 0.5  # side of the squares that say which polygons lie near
REACH = wp.constant(wp.vec3(2.0, 4.0, 2.0))  # half the box in which a point looks for a polygon, as in habitat-sim
VISITED = wp.constant(128)  # polygons that one step or one distance to a wall may look at
Visited = wp.types.vector(length=128, dtype=wp.int32)
FAR = wp.constant(3.0e38)


@dataclass(frozen=True, eq=False)
class Ground:
    """The polygons of one scene in metres, and the heights of its floors."""

    low: np.ndarray  # (3,) float32, where cells begin
    cell_m: float
    climb_m: float
    exact_heights: bool  # heights of the mesh; else those of the polygons
    corners: np.ndarray  # (corners, 3) float32
    sides: np.ndarray  # (polygons, 6) int32 into corners, -1 where there are fewer
    beyond: np.ndarray  # (polygons, 6) int32, polygon across each side, -1 at the border
    island: np.ndarray  # (polygons,) int32
    triangles: np.ndarray  # (triangles, 3, 3) float32, the surface
    edges: np.ndarray  # (triangles,) int32, bit k set where side k is the polygon's own
    first_triangle: np.ndarray  # (polygons + 1,) int32
    columns: int  # of cells
    rows: int
    first_place: np.ndarray  # (columns * rows + 1,) int32
    height: np.ndarray  # (places,) float32, metres
    place_island: np.ndarray  # (places,) int32


@wp.struct
class Grounds:
    """Several scenes in one pool; what belongs to scene s begins where its row of `head` and `origin` says."""

    head: wp.array2d[wp.int32]  # (scenes, 7): bins' columns, rows, first; cells' columns, rows, first; exact heights
    origin: wp.array[wp.vec3]
    size: wp.array2d[wp.float32]  # (scenes, 2): metres of a cell, of a climb
    corner: wp.array[wp.vec3]
    side: wp.array2d[wp.int32]
    beyond: wp.array2d[wp.int32]
    count: wp.array[wp.int32]
    low: wp.array[wp.vec3]
    high: wp.array[wp.vec3]
    island: wp.array[wp.int32]
    first_triangle: wp.array[wp.int32]
    triangle: wp.array[wp.vec3]
    edges: wp.array[wp.int32]
    first_in_bin: wp.array[wp.int32]
    in_bin: wp.array[wp.int32]
    first_place: wp.array[wp.int32]
    height: wp.array[wp.float32]
    place_island: wp.array[wp.int32]


def pooled(grounds: Sequence[Ground], device: str) -> tuple[Any, np.ndarray]:
    """The scenes' `Grounds` on the device, and the number of each one's first polygon."""
    head = np.zeros((len(grounds), 7), dtype=np.int32)
    parts: dict[str, list[np.ndarray]] = {}
    first_polygon = np.zeros(len(grounds) + 1, dtype=np.int32)
    corners = polygons = triangles = cells = places = bins = listed = 0

    def add(name: str, values: np.ndarray) -> None:
        parts.setdefault(name, []).append(values)

    for s, ground in enumerate(grounds):
        count = (ground.sides >= 0).sum(axis=1).astype(np.int32)
        low, high, bin_columns, bin_rows, first_in_bin, in_bin = _bins(ground)
        head[s] = [bin_columns, bin_rows, bins, ground.columns, ground.rows, cells, int(ground.exact_heights)]
        add("origin", ground.low[None])
        add("size", np.array([[ground.cell_m, ground.climb_m]], dtype=np.float32))
        add("corner", ground.corners)
        add("side", np.where(ground.sides >= 0, ground.sides + corners, -1))
        add("beyond", np.where(ground.beyond >= 0, ground.beyond + polygons, -1))
        add("count", count)
        add("low", low)
        add("high", high)
        add("island", ground.island)
        add("first_triangle", ground.first_triangle[:-1] + triangles)
        add("triangle", ground.triangles.reshape(-1, 3))
        add("edges", ground.edges)
        add("first_in_bin", first_in_bin + listed)
        add("in_bin", in_bin + polygons)
        add("first_place", ground.first_place + places)
        add("height", ground.height)
        add("place_island", ground.place_island)
        corners += len(ground.corners)
        polygons += len(ground.sides)
        triangles += len(ground.triangles)
        cells += len(ground.first_place)
        places += len(ground.height)
        bins += len(first_in_bin)
        listed += len(in_bin)
        first_polygon[s + 1] = polygons
    add("first_triangle", np.array([triangles], dtype=np.int32))
    pool = Grounds()
    pool.head = wp.from_numpy(head, dtype=wp.int32, device=device)
    for name, values in parts.items():
        whole = np.concatenate(values)
        if name in ("origin", "corner", "low", "high", "triangle"):
            made = wp.from_numpy(np.ascontiguousarray(whole, dtype=np.float32), dtype=wp.vec3, device=device)
        elif name in ("size", "height"):
            made = wp.from_numpy(np.ascontiguousarray(whole, dtype=np.float32), dtype=wp.float32, device=device)
        else:
            made = wp.from_numpy(np.ascontiguousarray(whole, dtype=np.int32), dtype=wp.int32, device=device)
        setattr(pool, name, made)
    return pool, first_polygon


def _bins(ground: Ground) -> tuple[np.ndarray, np.ndarray, int, int, np.ndarray, np.ndarray]:
    """Boxes of the polygons, and for each square of the plan the polygons whose box touches it."""
    polygons = len(ground.sides)
    low = np.full((polygons, 3), np.inf, dtype=np.float32)
    high = np.full((polygons, 3), -np.inf, dtype=np.float32)
    for i in range(ground.sides.shape[1]):
        used = ground.sides[:, i] >= 0
        points = ground.corners[ground.sides[used, i]]
        low[used], high[used] = np.minimum(low[used], points), np.maximum(high[used], points)
    of_triangle = np.repeat(np.arange(polygons), np.diff(ground.first_triangle))
    for i in range(3):  # the surface may be higher than the corners
        np.minimum.at(low, of_triangle, ground.triangles[:, i])
        np.maximum.at(high, of_triangle, ground.triangles[:, i])
    columns = int(ground.columns * ground.cell_m / BIN_M) + 1
    rows = int(ground.rows * ground.cell_m / BIN_M) + 1
    begin = np.clip(((low - ground.low) / BIN_M - 1e-3).astype(np.int64), 0, [columns - 1, 0, rows - 1])
    end = np.clip(((high - ground.low) / BIN_M + 1e-3).astype(np.int64), 0, [columns - 1, 0, rows - 1])
    where, who = [], []
    for polygon in range(polygons):
        x = np.arange(begin[polygon, 0], end[polygon, 0] + 1)
        z = np.arange(begin[polygon, 2], end[polygon, 2] + 1)
        squares = (z[:, None] * columns + x).ravel()
        where.append(squares)
        who.append(np.full(len(squares), polygon))
    squares, listed = np.concatenate(where), np.concatenate(who)
    order = np.argsort(squares, kind="stable")
    first = np.searchsorted(squares[order], np.arange(columns * rows + 1))
    return low, high, columns, rows, first, listed[order]


@wp.struct
class Spot:
    """A point on the polygons."""

    polygon: wp.int32  # -1 for none
    point: wp.vec3
    over: wp.int32  # 1 where the point asked for lies above or below the polygon


@wp.func
def contains(g: Grounds, polygon: int, x: float, z: float) -> bool:
    """Whether the polygon covers the point in plan."""
    n = g.count[polygon]
    inside = wp.int32(0)
    b = g.corner[g.side[polygon, n - 1]]
    for i in range(n):
        a = g.corner[g.side[polygon, i]]
        if (a[2] > z) != (b[2] > z):
            if x < (b[0] - a[0]) * (z - a[2]) / (b[2] - a[2]) + a[0]:
                inside = 1 - inside
        b = a
    return inside == 1


@wp.func
def along_segment(x: float, z: float, a: wp.vec3, b: wp.vec3) -> float:
    """Share of the way from a to b at which it comes nearest to the point in plan."""
    dx = b[0] - a[0]
    dz = b[2] - a[2]
    length = dx * dx + dz * dz
    share = dx * (x - a[0]) + dz * (z - a[2])
    if length > 0.0:
        share = share / length
    return wp.clamp(share, 0.0, 1.0)


@wp.func
def square_off(x: float, z: float, p: wp.vec3) -> float:
    """Squared distance in plan."""
    return (p[0] - x) * (p[0] - x) + (p[2] - z) * (p[2] - z)


@wp.func
def nearest_on_edges(g: Grounds, polygon: int, x: float, z: float, own_only: bool) -> wp.vec3:
    """The point on the edges of the polygon's surface that is nearest in plan."""
    least = float(FAR)
    best = wp.vec3(x, 0.0, z)
    for t in range(g.first_triangle[polygon], g.first_triangle[polygon + 1]):
        flags = g.edges[t]
        for i in range(3):
            if (not own_only) or (flags & (1 << i)) != 0:
                a = g.triangle[3 * t + i]
                b = g.triangle[3 * t + (i + 1) % 3]
                p = a + (b - a) * along_segment(x, z, a, b)
                off = square_off(x, z, p)
                if off < least:
                    least = off
                    best = p
    return best


@wp.func
def surface_height(g: Grounds, polygon: int, x: float, z: float) -> float:
    """Height of the polygon's surface over a point that it covers in plan."""
    found = wp.int32(0)
    height = wp.float32(0.0)
    for t in range(g.first_triangle[polygon], g.first_triangle[polygon + 1]):
        if found == 0:
            a = g.triangle[3 * t]
            v = g.triangle[3 * t + 2] - a
            w = g.triangle[3 * t + 1] - a
            px = x - a[0]
            pz = z - a[2]
            whole = v[0] * w[2] - v[2] * w[0]
            if wp.abs(whole) >= 1.0e-6:
                s = w[2] * px - w[0] * pz
                r = v[0] * pz - v[2] * px
                if whole < 0.0:
                    whole = -whole
                    s = -s
                    r = -r
                if s >= 0.0 and r >= 0.0 and s + r <= whole:
                    height = a[1] + (v[1] * s + w[1] * r) / whole
                    found = 1
    if found == 0:
        nearest = nearest_on_edges(g, polygon, x, z, False)
        height = nearest[1]
    return height


@wp.func
def nearest_on(g: Grounds, polygon: int, p: wp.vec3) -> Spot:
    """The polygon's point nearest to p: under or above it where it covers p."""
    spot = Spot()
    spot.polygon = polygon
    if contains(g, polygon, p[0], p[2]):
        spot.point = wp.vec3(p[0], surface_height(g, polygon, p[0], p[2]), p[2])
        spot.over = 1
    else:
        spot.point = nearest_on_edges(g, polygon, p[0], p[2], True)
        spot.over = 0
    return spot


@wp.func
def bin_of(g: Grounds, scene: int, p: float, axis: int) -> int:
    """Column (axis 0) or row (axis 2) of the square under the coordinate, the nearest one where it lies outside."""
    last = g.head[scene, axis // 2] - 1
    at = (p - g.origin[scene][axis]) / BIN_M
    return int(wp.clamp(at, 0.0, float(last)))


@wp.func
def off_box(g: Grounds, polygon: int, p: wp.vec3, climb: float) -> float:
    """Squared distance from the polygon's box, less a step up or down: no point of the polygon is nearer."""
    low = g.low[polygon]
    high = g.high[polygon]
    x = wp.max(wp.max(low[0] - p[0], p[0] - high[0]), 0.0)
    y = wp.max(wp.max(low[1] - p[1], p[1] - high[1]) - climb, 0.0)
    z = wp.max(wp.max(low[2] - p[2], p[2] - high[2]), 0.0)
    return 0.9999 * (x * x + y * y + z * z)


@wp.func
def spans_meet(low: float, high: float, middle: float, reach: float, cell: float) -> bool:
    """Whether a polygon's span along an axis meets the one round a point, in cells, rounded outwards as Detour does."""
    begin = int(wp.max(middle - reach, 0.0) / cell) & ~1
    end = (int(wp.max(middle + reach, 0.0) / cell) + 1) | 1
    return begin <= int(high / cell) and int(low / cell) <= end and middle + reach >= 0.0


@wp.func
def in_reach(g: Grounds, scene: int, polygon: int, p: wp.vec3) -> bool:
    """Whether the polygon's box meets the one in which p looks for a polygon."""
    origin = g.origin[scene]
    cell = g.size[scene, 0]
    low = g.low[polygon] - origin
    high = g.high[polygon] - origin
    at = p - origin
    on_x = spans_meet(low[0], high[0], at[0], REACH[0], cell)
    on_y = spans_meet(low[1], high[1], at[1], REACH[1], cell)
    on_z = spans_meet(low[2], high[2], at[2], REACH[2], cell)
    return on_x and on_y and on_z


@wp.func
def spot_under(g: Grounds, scene: int, p: wp.vec3, island: int) -> Spot:
    """The polygon that p stands on; else the nearest within reach, where there is one."""
    best = Spot()
    best.polygon = -1
    climb = g.size[scene, 1]
    exact = g.head[scene, 6]
    columns = g.head[scene, 0]
    bins = g.head[scene, 2]
    finite = p[0] - p[0] == 0.0 and p[1] - p[1] == 0.0 and p[2] - p[2] == 0.0
    if finite:
        here = bins + bin_of(g, scene, p[2], 2) * columns + bin_of(g, scene, p[0], 0)
        for k in range(g.first_in_bin[here], g.first_in_bin[here + 1]):
            q = g.in_bin[k]
            if best.polygon < 0 and (island < 0 or g.island[q] == island) and off_box(g, q, p, climb) == 0.0:
                if contains(g, q, p[0], p[2]):
                    height = surface_height(g, q, p[0], p[2])
                    if wp.abs(height - p[1]) <= climb:
                        best.polygon = q
                        best.point = wp.vec3(p[0], height, p[2])
                        best.over = 1
        if best.polygon < 0:
            least = float(FAR)
            margin = 3.0 * g.size[scene, 0]
            from_row = bin_of(g, scene, p[2] - REACH[2] - margin, 2)
            to_row = bin_of(g, scene, p[2] + REACH[2] + margin, 2)
            from_column = bin_of(g, scene, p[0] - REACH[0] - margin, 0)
            to_column = bin_of(g, scene, p[0] + REACH[0] + margin, 0)
            wide = to_column - from_column + 1
            many = wide * (to_row - from_row + 1)
            for n in range(-1, many):
                there = here  # the square under the point first: what is found there rules most others out
                if n >= 0:
                    there = bins + (from_row + n // wide) * columns + from_column + n % wide
                for k in range(g.first_in_bin[there], g.first_in_bin[there + 1]):
                    q = g.in_bin[k]
                    if (
                        off_box(g, q, p, climb) <= least
                        and in_reach(g, scene, q, p)
                        and (island < 0 or g.island[q] == island)
                    ):
                        spot = nearest_on(g, q, p)
                        away = spot.point - p
                        off = wp.dot(away, away)
                        if spot.over == 1 or exact == 1:  # a step up or down costs nothing
                            high = wp.max(wp.abs(away[1]) - climb, 0.0)
                            off = away[0] * away[0] + away[2] * away[2] + high * high
                        if off < least or (off == least and q < best.polygon):
                            least = off
                            best = spot
    return best


@wp.func
def floor_height(g: Grounds, scene: int, p: wp.vec3, island: int) -> float:
    """Height of the island's floor at p: between the middles of the cells around it where they are one floor."""
    columns = g.head[scene, 3]
    rows = g.head[scene, 4]
    first = g.head[scene, 5]
    cell = g.size[scene, 0]
    climb = g.size[scene, 1]
    u = (p[0] - g.origin[scene][0]) / cell - 0.5
    v = (p[2] - g.origin[scene][2]) / cell - 0.5
    x = int(wp.floor(u))
    z = int(wp.floor(v))
    u = u - float(x)
    v = v - float(z)
    total = wp.float32(0.0)
    weight = wp.float32(0.0)
    nearest = wp.float32(0.0)
    most = wp.float32(-1.0)
    lowest = float(FAR)
    highest = float(-FAR)
    for k in range(4):
        i = x + k % 2
        j = z + k // 2
        if i >= 0 and j >= 0 and i < columns and j < rows:
            share = wp.where(k % 2 == 1, u, 1.0 - u) * wp.where(k // 2 == 1, v, 1.0 - v)
            column = first + j * columns + i
            at = wp.float32(0.0)
            off = float(FAR)
            for n in range(g.first_place[column], g.first_place[column + 1]):
                if wp.abs(g.height[n] - p[1]) < off and g.place_island[n] == island:
                    off = wp.abs(g.height[n] - p[1])
                    at = g.height[n]
            if off <= 2.0 * climb + cell:
                total += share * at
                weight += share
                lowest = wp.min(lowest, at)
                highest = wp.max(highest, at)
                if share > most:
                    most = share
                    nearest = at
    height = p[1]
    if most >= 0.0:
        height = nearest
        if highest - lowest <= 1.5 * cell and weight > 0.0:  # a slope; on steps, the step itself
            height = total / weight
    return height


@wp.func
def standing(g: Grounds, scene: int, spot: Spot) -> wp.vec3:
    """The spot's point at the height that the scene's settings ask for."""
    p = spot.point
    if g.head[scene, 6] == 1 and spot.polygon >= 0:
        p = wp.vec3(p[0], floor_height(g, scene, p, g.island[spot.polygon]), p[2])
    return p


@wp.func
def crossing(p: wp.vec3, q: wp.vec3, a: wp.vec3, b: wp.vec3) -> float:
    """Share of the way from p to q at which it crosses a-b in plan; -1 where it does not."""
    dx = q[0] - p[0]
    dz = q[2] - p[2]
    ex = b[0] - a[0]
    ez = b[2] - a[2]
    across = dx * ez - dz * ex
    share = wp.float32(-1.0)
    if wp.abs(across) > 1.0e-12:
        fx = a[0] - p[0]
        fz = a[2] - p[2]
        first = (fx * ez - fz * ex) / across
        second = (fx * dz - fz * dx) / across
        if first >= 0.0 and first <= 1.0 and second >= 0.0 and second <= 1.0:
            share = first
    return share


@wp.func
def slide(g: Grounds, start: Spot, wish: wp.vec3, stop: int) -> Spot:
    """Where a step to `wish` ends that slides along walls: the wish, or the reachable border's point nearest to it.

    With `stop` a side of the border that the straight way meets stops it there, and from then on only another one
    that is nearer to the wish counts: habitat-sim's steps without sliding, which slip round some corners.
    """
    result = Spot()
    result.polygon = start.polygon
    result.point = start.point
    queue = Visited()
    queue[0] = start.polygon
    size = wp.int32(1)
    at = wp.int32(0)
    met = wp.int32(0)
    least = float(FAR)
    middle = (start.point + wish) * 0.5
    radius = wp.length(wish - start.point) * 0.5 + 0.001
    while at < size:
        q = queue[at]
        at += 1
        if met == 0 and contains(g, q, wish[0], wish[2]):
            result.polygon = q
            result.point = wish
            result.over = 1
            at = size
        else:
            n = g.count[q]
            for turn in range(n):
                i = (turn + n - 1) % n
                a = g.corner[g.side[q, i]]
                b = g.corner[g.side[q, (i + 1) % n]]
                door = g.beyond[q, i]
                if door < 0:
                    p = a + (b - a) * along_segment(wish[0], wish[2], a, b)
                    off = square_off(wish[0], wish[2], p)
                    if off < least:
                        share = wp.float32(-1.0)
                        if stop == 1:
                            share = crossing(start.point, wish, a, b)
                        if share >= 0.0:
                            met = 1
                            p = start.point + (wish - start.point) * share
                            p = wp.vec3(p[0], (a + (b - a) * along_segment(p[0], p[2], a, b))[1], p[2])
                        if met == 0 or share >= 0.0:
                            least = off
                            result.polygon = q
                            result.point = p
                else:
                    p = a + (b - a) * along_segment(middle[0], middle[2], a, b)
                    if square_off(middle[0], middle[2], p) <= radius * radius and size < VISITED:
                        seen = wp.int32(0)
                        for k in range(size):
                            if queue[k] == door:
                                seen = 1
                        if seen == 0:
                            queue[size] = door
                            size += 1
    return result


@wp.func
def halt(g: Grounds, start: Spot, wish: wp.vec3) -> Spot:
    """Where a step to `wish` ends that stops at the first wall."""
    result = Spot()
    result.polygon = start.polygon
    result.point = start.point
    q = start.polygon
    dx = wish[0] - start.point[0]
    dz = wish[2] - start.point[2]
    going = wp.int32(1)
    steps = wp.int32(0)
    while going == 1 and steps < VISITED:
        steps += 1
        result.polygon = q
        if contains(g, q, wish[0], wish[2]):
            result.point = wish
            result.over = 1
            going = 0
        else:
            n = g.count[q]
            turn = wp.float32(0.0)  # which way round the corners go
            for i in range(n):
                a = g.corner[g.side[q, i]]
                b = g.corner[g.side[q, (i + 1) % n]]
                turn += a[0] * b[2] - b[0] * a[2]
            turn = wp.where(turn > 0.0, 1.0, -1.0)
            leave = wp.float32(1.0)
            door = wp.int32(-1)
            for i in range(n):
                a = g.corner[g.side[q, i]]
                b = g.corner[g.side[q, (i + 1) % n]]
                ex = b[0] - a[0]
                ez = b[2] - a[2]
                outwards = (dx * ez - dz * ex) * turn
                inside = ((start.point[0] - a[0]) * ez - (start.point[2] - a[2]) * ex) * turn
                if outwards > 0.0:
                    share = wp.max(-inside / outwards, 0.0)
                    if share < leave:
                        leave = share
                        door = g.beyond[q, i]
            if leave >= 1.0:
                result.point = wish
                going = 0
            elif door < 0:
                result.point = wp.vec3(start.point[0] + dx * leave, wish[1], start.point[2] + dz * leave)
                going = 0
            else:
                q = door
    return result


@wp.func
def step_from(g: Grounds, scene: int, start: Spot, wish: wp.vec3, sliding: int) -> Spot:
    """Where a step from a spot to `wish` ends, on the polygons' surface."""
    exact = g.head[scene, 6]
    end = Spot()
    if sliding == 1 or exact == 0:
        end = slide(g, start, wish, 1 - sliding)
    else:
        end = halt(g, start, wish)
    if exact == 0:  # habitat-sim refuses a step whose wish is nearer to another island than to its own
        there = spot_under(g, scene, wish, -1)
        if there.polygon >= 0:
            if g.island[there.polygon] != g.island[start.polygon]:
                end = start
    q = end.polygon
    at = end.point
    if contains(g, q, at[0], at[2]):
        end.point = wp.vec3(at[0], surface_height(g, q, at[0], at[2]), at[2])
    elif exact == 1:
        edge = nearest_on_edges(g, q, at[0], at[2], True)
        end.point = wp.vec3(at[0], edge[1], at[2])
    if exact == 1:
        end = kept_apart(g, scene, start, end)
    return end


@wp.func
def on_island(g: Grounds, scene: int, spot: Spot, island: int) -> bool:
    """Whether who stands on the spot is found on that island."""
    there = spot_under(g, scene, standing(g, scene, spot), -1)
    result = wp.int32(-1)
    if there.polygon >= 0:
        result = g.island[there.polygon]
    return result == island


@wp.func
def kept_apart(g: Grounds, scene: int, start: Spot, end: Spot) -> Spot:
    """The end of a step, moved inwards where straightened borders of two islands overlap; else the start.

    Who ends there would be found on the other island, and could walk on through what keeps the two apart.
    """
    result = end
    if not on_island(g, scene, end, g.island[start.polygon]):
        q = end.polygon
        n = g.count[q]
        middle = wp.vec3()
        for i in range(n):
            middle = middle + g.corner[g.side[q, i]] / float(n)
        result = start
        found = wp.int32(0)
        share = wp.float32(0.01)
        for _ in range(7):
            if found == 0:
                inner = end
                x = end.point[0] + (middle[0] - end.point[0]) * share
                z = end.point[2] + (middle[2] - end.point[2]) * share
                inner.point = wp.vec3(x, surface_height(g, q, x, z), z)
                if on_island(g, scene, inner, g.island[start.polygon]):
                    result = inner
                    found = 1
            share = share * 2.0
    return result


@wp.kernel(enable_backward=False)
def snap_kernel(
    g: Grounds,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    island: wp.int32,
    points: wp.array[wp.vec3],
    out: wp.array[wp.vec3],
    polygon: wp.array[wp.int32],
) -> None:
    """The nearest point on the polygons; NaN and -1 where there is none within reach."""
    i = begin + wp.tid()
    spot = spot_under(g, scene[i], points[i], island)
    polygon[i] = spot.polygon
    if spot.polygon < 0:
        out[i] = wp.vec3(wp.nan, wp.nan, wp.nan)
    else:
        out[i] = standing(g, scene[i], spot)


@wp.kernel(enable_backward=False)
def step_kernel(
    g: Grounds,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    sliding: wp.int32,
    points: wp.array[wp.vec3],
    moves: wp.array[wp.vec3],
    out: wp.array[wp.vec3],
    collided: wp.array[wp.uint8],
) -> None:
    """One step of each: where it ends, and whether a wall shortened it."""
    i = begin + wp.tid()
    s = scene[i]
    p = points[i]
    wish = p + moves[i]
    out[i] = p
    collided[i] = wp.uint8(1)
    start = spot_under(g, s, p, -1)
    finite = wish[0] - wish[0] == 0.0 and wish[1] - wish[1] == 0.0 and wish[2] - wish[2] == 0.0
    if start.polygon >= 0 and finite:
        end = step_from(g, s, start, wish, sliding)
        at = standing(g, s, end)
        out[i] = at
        moved = at - p
        wanted = moves[i]
        if wp.dot(moved, moved) + 1.0e-5 >= wp.dot(wanted, wanted):
            collided[i] = wp.uint8(0)


@wp.kernel(enable_backward=False)
def wall_kernel(
    g: Grounds,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    farthest: wp.float32,
    points: wp.array[wp.vec3],
    out: wp.array[wp.float32],
) -> None:
    """Distance in plan from each point to the nearest border that can be reached; `farthest` where none is nearer."""
    i = begin + wp.tid()
    start = spot_under(g, scene[i], points[i], -1)
    least = farthest * farthest
    if start.polygon < 0:
        out[i] = wp.nan
    else:
        x = start.point[0]
        z = start.point[2]
        queue = Visited()
        queue[0] = start.polygon
        size = wp.int32(1)
        at = wp.int32(0)
        while at < size:
            q = queue[at]
            at += 1
            n = g.count[q]
            for k in range(n):
                a = g.corner[g.side[q, k]]
                b = g.corner[g.side[q, (k + 1) % n]]
                off = square_off(x, z, a + (b - a) * along_segment(x, z, a, b))
                door = g.beyond[q, k]
                if off < least:
                    if door < 0:
                        least = off
                    else:
                        seen = wp.int32(0)
                        for m in range(size):
                            if queue[m] == door:
                                seen = 1
                        if seen == 0 and size < VISITED:
                            queue[size] = door
                            size += 1
        out[i] = wp.sqrt(least)
