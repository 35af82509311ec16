"""Places -> a mesh of convex polygons that covers them: what distances, snaps and moves are asked of.

The way that Recast describes: the outlines of the places' regions are straightened, cut into triangles by their shortest
diagonals and joined to polygons of at most six corners. Corners lie on the cells' corners. Where the order of things decides between equals (which diagonal, which
region), it is Recast's, so that under `habitat_compatible` the polygons are the ones that habitat-sim walks on.
"""

# ruff: noqa: SIM102
# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

from dataclasses import dataclass

import numpy as np

from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.navregions import OTHER_AREA, OUTSIDE, Loop, ints, loops, region_of_place
from vlkit.envs.simulator.voxels import Places

MOST_SIDES = 6
Six = wp.types.vector(length=6, dtype=wp.int32)


@dataclass(frozen=True)
class Outlines:
    """How outlines are straightened, and which regions are too small to keep."""

    error_cells: float  # how far a straightened outline may run beside the cells
    longest_cells: int  # a side along a wall that is longer is cut in two
    least_cells: int  # an island smaller than this is dropped
    merge_cells: int  # a region smaller than this joins a neighbour


@dataclass(frozen=True, eq=False)
class Polygons:
    """Convex polygons; corners in cells and voxels."""

    corners: np.ndarray  # (corners, 3) int32: cells along x, voxels, cells along z
    sides: np.ndarray  # (polygons, 6) int32 into corners, -1 where there are fewer
    beyond: np.ndarray  # (polygons, 6) int32, the polygon across each side, -1 for the border
    region: np.ndarray  # (polygons,) int32, of its places
    region_of_place: np.ndarray  # (places,) int32, 0 for none


def polygons(places: Places, outlines: Outlines) -> Polygons:
    """The polygons over what erosion left; none where there is nothing to stand on."""
    region = region_of_place(places, least_cells=outlines.least_cells, merge_cells=outlines.merge_cells)
    corners, sides, regions = _convex(_outlines(places, region, outlines))
    return Polygons(corners, sides, _beyond(sides), regions, region)


# Outlines: the loops of cell sides around each region, straightened


@dataclass(eq=False)
class _Outline:
    region: int
    points: np.ndarray  # (points, 3) int64


def _outlines(places: Places, region: np.ndarray, outlines: Outlines) -> list[_Outline]:
    """Each region's outline, its holes cut open and joined to it."""
    if not len(region):
        return []
    found = []
    for loop in loops(places, region, lonely=False):
        points = _straightened(loop, outlines)
        if len(points) >= 3:
            found.append(_Outline(int(region[loop.place[0]]), points))
    outer = [outline for outline in found if _turn(outline.points) >= 0]
    by_region = {outline.region: outline for outline in outer}
    holes: dict[int, list[_Outline]] = {}
    for outline in found:
        if _turn(outline.points) < 0:
            holes.setdefault(outline.region, []).append(outline)
    for number, inside in sorted(holes.items()):
        if number in by_region:
            _cut_open(by_region[number], inside)
    return outer


def _turn(points: np.ndarray) -> int:
    """Twice the signed area in plan: negative for a hole."""
    x, z = points[:, 0], points[:, 2]
    before_x, before_z = np.roll(x, 1), np.roll(z, 1)
    return int((x * before_z - before_x * z).sum())


def _straightened(loop: Loop, outlines: Outlines) -> np.ndarray:
    """The fewest of the loop's points that keep it within the error, (points, 3)."""
    points, beyond = loop.points, loop.beyond
    many = len(points)
    x, z = points[:, 0].tolist(), points[:, 2].tolist()
    plan = points[:, [0, 2]].astype(np.float32)
    chosen: list[int] = []
    if (beyond & (OTHER_AREA - 1)).any():  # keep where the neighbour changes, so that both sides agree
        chosen = np.flatnonzero(beyond != np.roll(beyond, -1)).tolist()
    if not chosen:
        lower_left = min(range(many), key=lambda i: (x[i], z[i]))
        upper_right = max(range(many), key=lambda i: (x[i], z[i], -i))
        chosen = [lower_left, upper_right]
    wall = (beyond & (OTHER_AREA - 1)) == OUTSIDE
    free = wall | (beyond >= OTHER_AREA)
    limit = np.float32(outlines.error_cells) * np.float32(outlines.error_cells)
    i = 0
    while i < len(chosen):
        a, b = chosen[i], chosen[(i + 1) % len(chosen)]
        # The same way along for both regions beside a border, so that both straighten it alike.
        forwards = (x[b], z[b]) > (x[a], z[a])
        between = _range(a + 1, b, many, 1) if forwards else _range(b - 1, a, many, -1)
        first = (a + 1) % many if forwards else (b - 1) % many
        if free[first] and len(between):
            begin, end = (plan[a], plan[b]) if forwards else (plan[b], plan[a])
            far = _squared_distances(plan[between], begin, end)
            worst = int(far.argmax())
            if far[worst] > limit:
                chosen.insert(i + 1, int(between[worst]))
                continue
        i += 1
    i = 0
    while i < len(chosen) and outlines.longest_cells > 0:
        a, b = chosen[i], chosen[(i + 1) % len(chosen)]
        steps = (b - a) % many
        if wall[(a + 1) % many] and steps > 1:
            dx, dz = x[b] - x[a], z[b] - z[a]
            if dx * dx + dz * dz > outlines.longest_cells**2:
                forwards = (x[b], z[b]) > (x[a], z[a])
                chosen.insert(i + 1, (a + (steps // 2 if forwards else (steps + 1) // 2)) % many)
                continue
        i += 1
    kept = points[chosen]
    i = 0
    while i < len(kept):  # a point that stands where the next one does
        following = kept[(i + 1) % len(kept)]
        if kept[i, 0] == following[0] and kept[i, 2] == following[2]:
            kept = np.delete(kept, i, axis=0)
        i += 1
    return kept


def _range(start: int, stop: int, many: int, step: int) -> np.ndarray:
    """Indices from `start` until before `stop`, round the loop."""
    count = (stop - start) * step % many
    return (start + step * np.arange(count)) % many


def _squared_distances(points: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(points,) float32, to the segment."""
    along = end - begin
    length = along[0] * along[0] + along[1] * along[1]
    share = along[0] * (points[:, 0] - begin[0]) + along[1] * (points[:, 1] - begin[1])
    if length > 0:
        share = share / length
    share = np.clip(share, np.float32(0), np.float32(1))
    off = begin + share[:, None] * along - points
    squares: np.ndarray = off[:, 0] * off[:, 0] + off[:, 1] * off[:, 1]
    return squares


def _cut_open(outline: _Outline, holes: list[_Outline]) -> None:
    """Joins each hole, from left to right, to the outline by its shortest free diagonal."""

    def leftmost(hole: _Outline) -> int:
        return int(np.lexsort((hole.points[:, 2], hole.points[:, 0]))[0])

    waiting = sorted(holes, key=lambda hole: tuple(hole.points[leftmost(hole)][[0, 2]].tolist()))
    while waiting:
        hole = waiting[0]
        plan = hole.points[:, [0, 2]]
        best = leftmost(hole)
        for turn in range(len(plan)):
            corner = (best + turn) % len(plan)
            ring = outline.points
            joint = _free_diagonal(ring[:, [0, 2]], plan[corner], [other.points[:, [0, 2]] for other in waiting])
            if joint is not None:
                inner = np.roll(hole.points, -corner, axis=0)
                outer = np.roll(ring, -joint, axis=0)
                outline.points = np.concatenate([outer, outer[:1], inner, inner[:1]])
                break
        waiting.pop(0)


def _free_diagonal(ring: np.ndarray, corner: np.ndarray, holes: list[np.ndarray]) -> int | None:
    """The nearest corner of the ring that sees `corner` past the ring and every hole."""
    before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
    sees = np.where(
        _area(before, ring, after) <= 0,
        (_area(ring, corner, before) < 0) & (_area(corner, ring, after) < 0),
        ~((_area(ring, corner, after) <= 0) & (_area(corner, ring, before) <= 0)),
    )
    candidates = np.flatnonzero(sees)
    squares = ((ring[candidates] - corner) ** 2).sum(axis=1)
    begins = np.concatenate([ring, *holes])
    ends = np.concatenate([after, *(np.roll(hole, -1, axis=0) for hole in holes)])
    for j in candidates[np.argsort(squares, kind="stable")].tolist():
        if not _crosses(ring[j], corner, begins, ends):
            return int(j)
    return None


def _area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles in plan."""
    first = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
    area: np.ndarray = first - (c[..., 0] - a[..., 0]) * (b[..., 1] - a[..., 1])
    return area


def _crosses(a: np.ndarray, b: np.ndarray, p: np.ndarray, q: np.ndarray) -> bool:
    """Whether segment a-b meets one of the segments p-q that does not begin or end where a or b is."""
    counted = ~((p == a).all(1) | (q == a).all(1) | (p == b).all(1) | (q == b).all(1))
    p, q = p[counted], q[counted]
    abp, abq, pqa, pqb = _area(a, b, p), _area(a, b, q), _area(p, q, a), _area(p, q, b)
    some = (abp == 0) | (abq == 0) | (pqa == 0) | (pqb == 0)
    proper = ~some & ((abp < 0) != (abq < 0)) & ((pqa < 0) != (pqb < 0))
    touches = (
        ((abp == 0) & _between(a, b, p))
        | ((abq == 0) & _between(a, b, q))
        | ((pqa == 0) & _between(p, q, a))
        | ((pqb == 0) & _between(p, q, b))
    )
    return bool((proper | touches).any())


def _between(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Whether c, on the line a-b, lies between them."""
    wide = a[..., 0] != b[..., 0]
    on_x = (np.minimum(a[..., 0], b[..., 0]) <= c[..., 0]) & (c[..., 0] <= np.maximum(a[..., 0], b[..., 0]))
    on_z = (np.minimum(a[..., 1], b[..., 1]) <= c[..., 1]) & (c[..., 1] <= np.maximum(a[..., 1], b[..., 1]))
    return np.where(wide, on_x, on_z)


# Polygons: triangles by the shortest diagonals, joined while they stay convex


def _convex(outlines: list[_Outline]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (corners, 3), polygons (polygons, 6) and their regions."""
    if not outlines:
        return np.zeros((0, 3), np.int32), np.zeros((0, MOST_SIDES), np.int32), np.zeros(0, np.int32)
    points = np.concatenate([outline.points for outline in outlines]).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum([len(outline.points) for outline in outlines])]).astype(np.int32)
    begins = ints(starts)
    ears, left = (wp.zeros(len(points), dtype=wp.int32, device="cpu") for _ in range(2))
    triangles = wp.zeros((len(points), 3), dtype=wp.int32, device="cpu")
    counts = wp.zeros(len(outlines), dtype=wp.int32, device="cpu")
    inputs = [ints(points[:, 0]), ints(points[:, 2]), begins, left, ears, triangles, counts]
    wp.launch(cut_ears, dim=len(outlines), inputs=inputs, device="cpu")
    corners, number = _shared_corners(points)
    made = counts.numpy().copy()
    table = np.full((len(points), MOST_SIDES), -1, dtype=np.int32)
    used = np.concatenate([np.arange(a, a + n) for a, n in zip(starts[:-1].tolist(), made.tolist(), strict=True)])
    table[used, :3] = number[triangles.numpy()[used]]
    pieces = wp.from_numpy(table, dtype=wp.int32, device="cpu")
    most = int(made.max())
    gains = wp.zeros(most * most, dtype=wp.int32, device="cpu")
    inputs = [len(outlines), begins, counts, ints(corners[:, 0]), ints(corners[:, 2]), pieces, gains]
    wp.launch(join_pieces, dim=1, inputs=inputs, device="cpu")
    made = counts.numpy()
    table = pieces.numpy()
    sides = np.concatenate([table[a : a + n] for a, n in zip(starts[:-1].tolist(), made.tolist(), strict=True)])
    regions = np.repeat(np.array([outline.region for outline in outlines], dtype=np.int32), made)
    return corners, sides, regions


def _shared_corners(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners without doubles, (corners, 3), and which one each point is; up to two voxels apart they are one."""
    number = np.zeros(len(points), dtype=np.int32)
    known: dict[tuple[int, int], list[int]] = {}
    corners: list[list[int]] = []
    for i, (x, level, z) in enumerate(points.tolist()):
        here = known.setdefault((x, z), [])
        for candidate in reversed(here):
            if abs(corners[candidate][1] - level) <= 2:
                number[i] = candidate
                break
        else:
            number[i] = len(corners)
            here.append(len(corners))
            corners.append([x, level, z])
    return np.array(corners, dtype=np.int32), number


def _beyond(sides: np.ndarray) -> np.ndarray:
    """The polygon across each side, (polygons, 6)."""
    beyond = np.full_like(sides, -1)
    edges = []
    for polygon, corners in enumerate(sides.tolist()):
        used = [corner for corner in corners if corner >= 0]
        edges += [(polygon, i, used[i], used[(i + 1) % len(used)]) for i in range(len(used))]
    waiting: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for polygon, i, a, b in edges:
        if a < b:
            waiting.setdefault((a, b), []).append((polygon, i))
    for polygon, i, a, b in edges:
        if a > b and waiting.get((b, a)):
            other, j = waiting[b, a].pop()
            beyond[polygon, i], beyond[other, j] = other, polygon
    return beyond


# Kernels


@wp.func
def turn_of(x: wp.array[wp.int32], z: wp.array[wp.int32], a: int, b: int, c: int) -> int:
    """Twice the signed area: negative where c lies to the left of a-b."""
    return (x[b] - x[a]) * (z[c] - z[a]) - (x[c] - x[a]) * (z[b] - z[a])


@wp.func
def on_segment(x: wp.array[wp.int32], z: wp.array[wp.int32], a: int, b: int, c: int) -> bool:
    """Whether c, known to be on the line, lies between a and b."""
    on_x = wp.min(x[a], x[b]) <= x[c] and x[c] <= wp.max(x[a], x[b])
    on_z = wp.min(z[a], z[b]) <= z[c] and z[c] <= wp.max(z[a], z[b])
    return (x[a] != x[b] and on_x) or (x[a] == x[b] and on_z)


@wp.func
def meet(x: wp.array[wp.int32], z: wp.array[wp.int32], a: int, b: int, c: int, d: int, loose: int) -> bool:
    """Whether segments a-b and c-d cross, or (unless loose) touch."""
    abc = turn_of(x, z, a, b, c)
    abd = turn_of(x, z, a, b, d)
    cda = turn_of(x, z, c, d, a)
    cdb = turn_of(x, z, c, d, b)
    some = abc == 0 or abd == 0 or cda == 0 or cdb == 0
    proper = (not some) and ((abc < 0) != (abd < 0)) and ((cda < 0) != (cdb < 0))
    touches = (
        (abc == 0 and on_segment(x, z, a, b, c))
        or (abd == 0 and on_segment(x, z, a, b, d))
        or (cda == 0 and on_segment(x, z, c, d, a))
        or (cdb == 0 and on_segment(x, z, c, d, b))
    )
    return proper or (loose == 0 and touches)


@wp.func
def is_diagonal(
    x: wp.array[wp.int32],
    z: wp.array[wp.int32],
    left: wp.array[wp.int32],
    start: int,
    n: int,
    i: int,
    j: int,
    loose: int,
) -> int:
    """1 where corner i of the polygon that is left sees corner j inside it."""
    a = left[start + i]
    b = left[start + j]
    after = left[start + (i + 1) % n]
    before = left[start + (i + n - 1) % n]
    sees = wp.int32(0)
    if turn_of(x, z, before, a, after) <= 0:
        if turn_of(x, z, a, b, before) < loose and turn_of(x, z, b, a, after) < loose:
            sees = 1
    elif turn_of(x, z, a, b, after) > 0 or turn_of(x, z, b, a, before) > 0:
        sees = 1
    if sees == 1:
        for k in range(n):
            following = (k + 1) % n
            if sees == 1 and k != i and following != i and k != j and following != j:
                p = left[start + k]
                q = left[start + following]
                at_end = (
                    (x[p] == x[a] and z[p] == z[a])
                    or (x[q] == x[a] and z[q] == z[a])
                    or (x[p] == x[b] and z[p] == z[b])
                    or (x[q] == x[b] and z[q] == z[b])
                )
                if not at_end:
                    if meet(x, z, a, b, p, q, loose):
                        sees = 0
    return sees


@wp.func
def square_of(x: wp.array[wp.int32], z: wp.array[wp.int32], a: int, b: int) -> int:
    """Squared distance in cells."""
    return (x[b] - x[a]) * (x[b] - x[a]) + (z[b] - z[a]) * (z[b] - z[a])


@wp.kernel(enable_backward=False)
def cut_ears(
    x: wp.array[wp.int32],
    z: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    left: wp.array[wp.int32],
    ears: wp.array[wp.int32],
    triangles: wp.array2d[wp.int32],
    counts: wp.array[wp.int32],
) -> None:
    """Cuts each polygon into triangles, always by the shortest diagonal."""
    loop = wp.tid()
    start = starts[loop]
    n = int(starts[loop + 1] - start)
    made = wp.int32(0)
    for i in range(n):
        left[start + i] = start + i
    for i in range(n):
        ears[start + (i + 1) % n] = is_diagonal(x, z, left, start, n, i, (i + 2) % n, 0)
    going = wp.int32(1)
    while n > 3 and going == 1:
        best = wp.int32(-1)
        shortest = wp.int32(0)
        for i in range(n):
            if ears[start + (i + 1) % n] == 1:
                square = square_of(x, z, left[start + i], left[start + (i + 2) % n])
                if best < 0 or square < shortest:
                    best = i
                    shortest = square
        if best < 0:  # sides on top of one another: take a diagonal that only touches
            for i in range(n):
                if is_diagonal(x, z, left, start, n, i, (i + 2) % n, 1) == 1:
                    square = square_of(x, z, left[start + i], left[start + (i + 3) % n])
                    if best < 0 or square < shortest:
                        best = i
                        shortest = square
        if best < 0:
            going = 0
        else:
            ear = (best + 1) % n
            triangles[start + made, 0] = left[start + best]
            triangles[start + made, 1] = left[start + ear]
            triangles[start + made, 2] = left[start + (best + 2) % n]
            made += 1
            n -= 1
            for k in range(ear, n):
                left[start + k] = left[start + k + 1]
                ears[start + k] = ears[start + k + 1]
            if ear >= n:
                ear = 0
            back = (ear + n - 1) % n
            ears[start + back] = is_diagonal(x, z, left, start, n, (back + n - 1) % n, ear, 0)
            ears[start + ear] = is_diagonal(x, z, left, start, n, back, (ear + 1) % n, 0)
    if going == 1 and n == 3:
        for k in range(3):
            triangles[start + made, k] = left[start + k]
        made += 1
    counts[loop] = made


@wp.func
def sides_of(pieces: wp.array2d[wp.int32], piece: int) -> int:
    """Corners of a polygon."""
    n = wp.int32(0)
    for i in range(6):
        if pieces[piece, i] >= 0:
            n += 1
    return n


@wp.func
def common_side(pieces: wp.array2d[wp.int32], a: int, b: int) -> wp.vec2i:
    """Which side of a is which side of b; -1 where they have none in common."""
    na = sides_of(pieces, a)
    nb = sides_of(pieces, b)
    side_a = wp.int32(-1)
    side_b = wp.int32(-1)
    for i in range(na):
        p = pieces[a, i]
        q = pieces[a, (i + 1) % na]
        found = wp.int32(-1)
        for j in range(nb):
            r = pieces[b, j]
            s = pieces[b, (j + 1) % nb]
            if found < 0 and ((p == r and q == s) or (p == s and q == r)):
                found = j
        if found >= 0:
            side_a = i
            side_b = found
    return wp.vec2i(side_a, side_b)


@wp.func
def gain(x: wp.array[wp.int32], z: wp.array[wp.int32], pieces: wp.array2d[wp.int32], a: int, b: int) -> int:
    """Squared length of the side that joining the two would remove; -1 where they may not be joined."""
    na = sides_of(pieces, a)
    nb = sides_of(pieces, b)
    value = wp.int32(-1)
    if na + nb - 2 <= 6:
        side = common_side(pieces, a, b)
        i = side[0]
        j = side[1]
        if i >= 0:
            first = turn_of(x, z, pieces[a, (i + na - 1) % na], pieces[a, i], pieces[b, (j + 2) % nb])
            second = turn_of(x, z, pieces[b, (j + nb - 1) % nb], pieces[b, j], pieces[a, (i + 2) % na])
            if first < 0 and second < 0:
                value = square_of(x, z, pieces[a, i], pieces[a, (i + 1) % na])
    return value


@wp.kernel(enable_backward=False)
def join_pieces(
    loops: wp.int32,
    starts: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    x: wp.array[wp.int32],
    z: wp.array[wp.int32],
    pieces: wp.array2d[wp.int32],
    gains: wp.array[wp.int32],
) -> None:
    """Joins two polygons of a region as long as a convex one results, the longest common side first; one thread."""
    for loop in range(loops):
        start = starts[loop]
        n = int(counts[loop])
        width = int(n)
        for a in range(n):
            for b in range(a + 1, n):
                gains[a * width + b] = gain(x, z, pieces, start + a, start + b)
        going = wp.int32(1)
        while going == 1:
            most = wp.int32(0)
            first = wp.int32(-1)
            second = wp.int32(-1)
            for a in range(n):
                for b in range(a + 1, n):
                    if gains[a * width + b] > most:
                        most = gains[a * width + b]
                        first = a
                        second = b
            if first < 0:
                going = 0
            else:
                pa = start + first
                pb = start + second
                side = common_side(pieces, pa, pb)
                na = sides_of(pieces, pa)
                nb = sides_of(pieces, pb)
                joined = Six()
                k = wp.int32(0)
                for i in range(na - 1):
                    joined[k] = pieces[pa, (side[0] + 1 + i) % na]
                    k += 1
                for i in range(nb - 1):
                    joined[k] = pieces[pb, (side[1] + 1 + i) % nb]
                    k += 1
                for i in range(6):
                    pieces[pa, i] = wp.where(i < k, joined[i], -1)
                n -= 1
                if second != n:
                    for i in range(6):
                        pieces[pb, i] = pieces[start + n, i]
                for other in range(n):
                    if other != first:
                        low = wp.min(other, first)
                        high = wp.max(other, first)
                        gains[low * width + high] = gain(x, z, pieces, start + low, start + high)
                    if other != second and second < n:
                        low = wp.min(other, second)
                        high = wp.max(other, second)
                        gains[low * width + high] = gain(x, z, pieces, start + low, start + high)
        counts[loop] = n
