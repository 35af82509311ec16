"""Heights over the polygons: triangles that follow the places under them.

A polygon's own corners make the first triangles; where the ground under it leaves them by more than an error, samples
along its sides and then inside are added, the worst first, and the triangles are made Delaunay again. Under `faithful`
the samples, the error and the heights are those of Recast's detail mesh, one voxel above the corners.
"""

# ruff: noqa: SIM102
# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

import math
from dataclasses import dataclass

import numpy as np

from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.navpolygons import Polygons
from vlkit.envs.simulator.voxels import Places, Voxels

SAMPLE_CELLS = 6.0  # between two samples
ERROR_M = 0.1  # by which the surface may leave the ground, where it need not be Recast's
MOST_POINTS = 127  # of one polygon's surface
MOST_ON_SIDE = 31
SAME = 1e-5  # share by which rounding may lift what is exactly the error
LOOK_ROUND = 2  # cells round a sample in which a height is looked for


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles over each polygon."""

    corners: np.ndarray  # (corners, 3) float32, of the polygons, metres
    triangles: np.ndarray  # (triangles, 3, 3) float32, metres
    edges: np.ndarray  # (triangles,) int32, bit k set where side k is the polygon's own
    first_triangle: np.ndarray  # (polygons + 1,) int32


@dataclass(frozen=True, eq=False)
class _Patch:
    """Heights round one polygon, in metres above the lowest corner of the mesh."""

    x: int  # first column
    z: int  # first row
    heights: np.ndarray  # (rows, columns) float32, NaN where there is nothing
    cell_m: float

    def height(self, x: float, y: float, z: float) -> float:
        """Under the point; where there is nothing, the one nearest to y in the nearest ring of cells with any."""
        rows, columns = self.heights.shape
        i = min(max(math.floor(x / self.cell_m + 0.01) - self.x, 0), columns - 1)
        j = min(max(math.floor(z / self.cell_m + 0.01) - self.z, 0), rows - 1)
        found = float(self.heights[j, i])
        for ring in range(1, LOOK_ROUND + 1):
            if found == found:
                break
            around = self.heights[max(j - ring, 0) : j + ring + 1, max(i - ring, 0) : i + ring + 1].ravel()
            around = around[~np.isnan(around)]
            if len(around):
                found = float(around[np.abs(around - y).argmin()])
        return found if found == found else y


def surface(places: Places, polygons: Polygons, voxels: Voxels) -> Surface:
    """The triangles over all polygons."""
    scale = np.array([voxels.cell_m, voxels.height_m, voxels.cell_m], dtype=np.float32)
    corners = places.low + polygons.corners.astype(np.float32) * scale
    patches = _patches(places, polygons, voxels)
    triangles: list[np.ndarray] = []
    edges: list[list[int]] = []
    first = [0]
    error = voxels.height_m if voxels.faithful else ERROR_M
    lift = voxels.height_m if voxels.faithful else 0.0
    for sides, patch in zip(polygons.sides, patches, strict=True):
        own = sides[sides >= 0]
        points = (
            polygons.corners[own].astype(np.float32) * scale
        )  # single precision decides between equals, as in Recast
        hull = [len(own) - 1, *range(len(own) - 1)]
        made = _fan(points, hull, len(own))
        if patch is not None:
            points, hull, made = _refined(points, patch, error, SAMPLE_CELLS * voxels.cell_m, voxels)
        metres = (points + places.low).astype(np.float32)
        metres[len(own) :, 1] += lift
        metres[: len(own)] = corners[own]
        triangles.append(metres[made])
        edges.append([_own_sides(triangle, hull) for triangle in made])
        first.append(first[-1] + len(made))
    return Surface(
        corners=corners,
        triangles=np.concatenate(triangles),
        edges=np.concatenate(edges).astype(np.int32),
        first_triangle=np.array(first, dtype=np.int32),
    )


def _own_sides(triangle: list[int], hull: list[int]) -> int:
    bits = 0
    for k in range(3):
        a, b = triangle[k], triangle[(k + 1) % 3]
        if a in hull and b in hull and (hull.index(a) - hull.index(b)) % len(hull) in (1, len(hull) - 1):
            bits |= 1 << k
    return bits


def _patches(places: Places, polygons: Polygons, voxels: Voxels) -> list[_Patch | None]:
    """Heights round each polygon; None where they are all the height of its corners."""
    corners = np.where(
        polygons.sides[:, :, None] >= 0, polygons.corners[polygons.sides], polygons.corners[polygons.sides[:, :1]]
    )
    low = np.maximum(corners[:, :, [0, 2]].min(axis=1) - 1, 0)
    high = np.minimum(corners[:, :, [0, 2]].max(axis=1) + 1, [places.columns, places.rows])
    size = high - low
    starts = np.concatenate([[0], np.cumsum(size.prod(axis=1))]).astype(np.int64)
    total = int(starts[-1])
    found = wp.full(total, -1, dtype=wp.int32, device="cpu")
    queue = wp.zeros(total, dtype=wp.int32, device="cpu")
    boxes = np.concatenate([low, size], axis=1)
    inputs = [places.columns, _ints(places.first), _ints(places.column), _ints(places.links)]
    inputs += [_ints(polygons.region_of_place), _ints(polygons.region), _ints(boxes), _ints(starts), queue, found]
    wp.launch(fill_patches, dim=len(polygons.sides), inputs=inputs, device="cpu")
    place = found.numpy()
    if voxels.faithful:
        metres = (places.level * np.float32(voxels.height_m)).astype(np.float32)
    else:
        metres = places.height - places.low[1]
    heights = np.where(place >= 0, metres[place], np.float32(np.nan))
    level = corners[:, :, 1].astype(np.float32) * np.float32(voxels.height_m)
    slack = 1e-3 if voxels.faithful else ERROR_M / 2
    patches: list[_Patch | None] = []
    for polygon, (a, b) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        here = heights[a:b]
        spread = np.abs(here - level[polygon, 0])
        flat = np.ptp(level[polygon]) <= slack and not (spread > slack).any()
        x, z, columns, rows = boxes[polygon].tolist()
        patches.append(None if flat else _Patch(x, z, here.reshape(rows, columns), voxels.cell_m))
    return patches


def _ints(values: np.ndarray) -> wp.array:
    return wp.from_numpy(np.ascontiguousarray(values, dtype=np.int32), dtype=wp.int32, device="cpu")


def _refined(
    corners: np.ndarray, patch: _Patch, error: float, apart: float, voxels: Voxels
) -> tuple[np.ndarray, list[int], list[list[int]]]:
    """Points (the corners first), the hull through them in order, and triangles of them."""
    points = list(corners)
    hull: list[int] = []
    many = len(corners)
    for i in range(many):
        j = (i - 1) % many
        hull.append(j)
        added = _along_side(corners[j], corners[i], patch, error, apart, MOST_POINTS - len(points))
        hull += range(len(points), len(points) + len(added))
        points += added
    triangles = _fan(np.array(points), hull, many)
    if _narrowest(corners) < 2 * apart:
        return np.array(points), hull, triangles
    samples = _inside(corners, patch, apart, voxels)
    mesh = np.array(points)
    left = np.ones(len(samples), dtype=bool)
    while left.any() and len(mesh) < MOST_POINTS:
        off = np.where(left, _off_surface(samples, mesh[np.array(triangles)]), -1.0)
        worst = int(off.argmax())
        if off[worst] <= error * (1 + SAME):
            break
        left[worst] = False
        mesh = np.concatenate([mesh, samples[worst : worst + 1]])
        _insert(mesh, triangles, len(mesh) - 1)
    return mesh, hull, triangles


def _along_side(a: np.ndarray, b: np.ndarray, patch: _Patch, error: float, apart: float, most: int) -> list[np.ndarray]:
    """Points between a and b that the ground there needs, from a to b."""
    turned = b[2] < a[2] if abs(a[0] - b[0]) < 1e-6 else b[0] < a[0]
    begin, end = (b, a) if turned else (a, b)  # both polygons beside the side sample it alike
    line = end - begin
    parts = 1 + int(np.sqrt(line[0] * line[0] + line[2] * line[2]) / np.float32(apart))
    parts = min(parts, MOST_ON_SIDE, max(most - 1, 1))
    samples = begin + line * (np.arange(parts + 1, dtype=np.float32) / np.float32(parts))[:, None]
    for sample in samples:
        sample[1] = patch.height(*sample)
    kept = [0, parts]
    k = 0
    while k < len(kept) - 1:
        first, last = kept[k], kept[k + 1]
        inner = samples[first + 1 : last]
        if len(inner):
            line = samples[last] - samples[first]
            share = np.clip((inner - samples[first]) @ line / max(float(line @ line), 1e-12), 0, 1)
            off = ((samples[first] + share[:, None] * line - inner) ** 2).sum(axis=1)
            if off.max() > error * error * (1 + SAME):
                kept.insert(k + 1, first + 1 + int(off.argmax()))
                continue
        k += 1
    chosen = [samples[i] for i in kept[1:-1]]
    return chosen[::-1] if turned else chosen


def _narrowest(corners: np.ndarray) -> float:
    """Least over the sides of how far the polygon reaches away from one."""
    plan = corners[:, [0, 2]]
    least = math.inf
    for i in range(len(plan)):
        a, b = plan[i], plan[(i + 1) % len(plan)]
        line = b - a
        share = np.clip((plan - a) @ line / max(float(line @ line), 1e-12), 0, 1)
        least = min(least, float(((a + share[:, None] * line - plan) ** 2).sum(axis=1).max()))
    return math.sqrt(least)


def _inside(corners: np.ndarray, patch: _Patch, apart: float, voxels: Voxels) -> np.ndarray:
    """Samples on a square grid inside the polygon, away from its sides, (samples, 3)."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    plan = corners[:, [0, 2]]
    xs = np.arange(math.floor(low[0] / apart), math.ceil(high[0] / apart)) * apart
    zs = np.arange(math.floor(low[2] / apart), math.ceil(high[2] / apart)) * apart
    points = np.stack(np.meshgrid(xs, zs), axis=-1).reshape(-1, 2)
    a, b = np.roll(plan, 1, axis=0), plan
    line = b - a
    share = np.einsum("pek,ek->pe", points[:, None] - a, line) / np.maximum((line**2).sum(axis=1), 1e-12)
    nearest = a + np.clip(share, 0, 1)[:, :, None] * line
    squares = ((nearest - points[:, None]) ** 2).sum(axis=2).min(axis=1)
    crossed = (a[:, 1] > points[:, 1:]) != (b[:, 1] > points[:, 1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        at = (a[:, 0] - b[:, 0]) * (points[:, 1:] - b[:, 1]) / (a[:, 1] - b[:, 1]) + b[:, 0]
    within = (crossed & (points[:, :1] < at)).sum(axis=1) % 2 == 1
    points = points[within & (squares >= apart / 2)]
    middle = (low[1] + high[1]) / 2
    heights = np.array([patch.height(x, middle, z) for x, z in points.tolist()])
    # Recast shakes each sample a little, so that no four lie on one circle; its own numbers give its own triangles.
    numbers = np.arange(len(points), dtype=np.int64)
    shake = np.stack([numbers * 0x8DA6B343, numbers * 0xD8163841], axis=1) & 0xFFFF
    points = points + (shake / 65535 * 2 - 1) * voxels.cell_m * 0.1
    return np.stack([points[:, 0], heights, points[:, 1]], axis=1) if len(points) else np.zeros((0, 3))


def _off_surface(samples: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """How far each sample is above or below the triangles, (samples,); -1 where it is over none."""
    a = triangles[:, 0]
    v, w = triangles[:, 2] - a, triangles[:, 1] - a
    p = samples[:, None] - a
    whole = v[:, 0] * w[:, 2] - v[:, 2] * w[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        s = (w[:, 2] * p[..., 0] - w[:, 0] * p[..., 2]) / whole
        t = (v[:, 0] * p[..., 2] - v[:, 2] * p[..., 0]) / whole
        inside = (s >= -1e-4) & (t >= -1e-4) & (s + t <= 1 + 1e-4)
        off = np.where(inside, np.abs(v[:, 1] * s + w[:, 1] * t - p[..., 1]), np.inf).min(axis=1)
    return np.where(np.isfinite(off), off, -1.0)


def _fan(points: np.ndarray, hull: list[int], corners: int) -> list[list[int]]:
    """Triangles of the hull: from its smallest ear on, always the shorter side; sides' own points are no ears."""

    plan = points[hull][:, [0, 2]]
    apart = np.sqrt(((plan[:, None] - plan) ** 2).sum(axis=2))
    many = len(hull)
    best, shortest = 0, np.inf
    for i in range(many):
        if hull[i] < corners:
            before, after = i - 1, (i + 1) % many
            round_ = apart[before, i] + apart[i, after] + apart[after, before]
            if round_ < shortest:
                best, shortest = i, round_
    left, right = (best + 1) % many, (best - 1) % many
    triangles = [[hull[best], hull[left], hull[right]]]
    while (left + 1) % many != right:
        next_left, next_right = (left + 1) % many, (right - 1) % many
        by_left = apart[left, next_left] + apart[next_left, right]
        by_right = apart[right, next_right] + apart[left, next_right]
        if by_left < by_right:
            triangles.append([hull[left], hull[next_left], hull[right]])
            left = next_left
        else:
            triangles.append([hull[left], hull[next_right], hull[right]])
            right = next_right
    return triangles


def _insert(points: np.ndarray, triangles: list[list[int]], new: int) -> None:
    """Adds a point inside the hull and makes the triangles Delaunay again: all whose circle holds it are redone."""
    plan = points[:, [0, 2]]
    p = plan[new]
    holding = []
    for number, (a, b, c) in enumerate(triangles):
        ax, az = plan[a] - p
        bx, bz = plan[b] - p
        cx, cz = plan[c] - p
        turn = (plan[b][0] - plan[a][0]) * (plan[c][1] - plan[a][1]) - (plan[b][1] - plan[a][1]) * (
            plan[c][0] - plan[a][0]
        )
        circle = (
            (ax * ax + az * az) * (bx * cz - cx * bz)
            - (bx * bx + bz * bz) * (ax * cz - cx * az)
            + (cx * cx + cz * cz) * (ax * bz - bx * az)
        )
        if circle * np.sign(turn) > 0:
            holding.append(number)
    sides = [(t[k], t[(k + 1) % 3]) for t in (triangles[number] for number in holding) for k in range(3)]
    # A side of two of them is gone; the ones that are left see the new point.
    outline = [(a, b) for a, b in sides if (b, a) not in sides]
    for number in reversed(holding):
        del triangles[number]
    triangles += [[a, b, new] for a, b in outline if abs(np.linalg.det([plan[a] - p, plan[b] - p])) > 1e-9]


@wp.kernel(enable_backward=False)
def fill_patches(
    columns: wp.int32,
    first: wp.array[wp.int32],
    column: wp.array[wp.int32],
    links: wp.array2d[wp.int32],
    region_of_place: wp.array[wp.int32],
    region: wp.array[wp.int32],
    boxes: wp.array2d[wp.int32],
    starts: wp.array[wp.int32],
    queue: wp.array[wp.int32],
    found: wp.array[wp.int32],
) -> None:
    """The place in each cell of a polygon's box: its region's own, and from its edge on those that can be walked to."""
    polygon = wp.tid()
    start = starts[polygon]
    x0 = boxes[polygon, 0]
    z0 = boxes[polygon, 1]
    wide = boxes[polygon, 2]
    high = boxes[polygon, 3]
    own = region[polygon]
    size = wp.int32(0)
    for z in range(high):
        for x in range(wide):
            at = (z0 + z) * columns + x0 + x
            for i in range(first[at], first[at + 1]):
                if region_of_place[i] == own and found[start + z * wide + x] < 0:
                    found[start + z * wide + x] = i
                    border = wp.int32(0)
                    for side in range(4):
                        n = links[i, side]
                        if n >= 0:
                            if region_of_place[n] != own:
                                border = 1
                    if border == 1:
                        queue[start + size] = i
                        size += 1
    head = wp.int32(0)
    while head < size:
        i = queue[start + head]
        head += 1
        for side in range(4):
            n = links[i, side]
            if n >= 0:
                x = column[n] % columns - x0
                z = column[n] // columns - z0
                if x >= 0 and z >= 0 and x < wide and z < high:
                    if found[start + z * wide + x] < 0:
                        found[start + z * wide + x] = n
                        queue[start + size] = n
                        size += 1
