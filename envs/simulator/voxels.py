"""Triangles -> the places where an agent can stand, and which of them follow on one another.

The room is cut into columns of cells, and each column into solid spans; a place is the top of a span with an agent's
height of air above it. The stages are those that Recast describes (rasterise, filter, compact, erode). Under `faithful`
they round as Recast does, so that its voxel artefacts come out as well; else a floor is where the middle of a cell has
one, and its height is that of the mesh.
"""

# mypy: disable-error-code="valid-type, index"
# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

from dataclasses import dataclass

import numpy as np

from vlkit.envs.simulator.kernels import wp

OPEN = wp.constant(1 << 20)  # voxels of air over the topmost span
MOST_CORNERS = 12  # of a triangle cut by four planes: seven, with room to spare
Corners = wp.types.vector(length=3 * MOST_CORNERS, dtype=wp.float32)
SIDE_X = (-1, 0, 1, 0)  # the four neighbours, in the order in which links are kept
SIDE_Z = (0, 1, 0, -1)


@dataclass(frozen=True)
class Voxels:
    """How the stages cut and filter."""

    cell_m: float
    height_m: float  # of a voxel
    clearance: int  # voxels of air that an agent needs
    climb: int  # voxels that it steps up or down
    radius: int  # cells between its middle and what stops it
    slope_deg: float
    faithful: bool  # to Recast's rounding


@dataclass(frozen=True, eq=False)
class Places:
    """Where an agent can stand. A place belongs to one column; column (x, z) is number z * columns + x."""

    low: np.ndarray  # (3,) float32, lowest corner of the mesh: where the first cell and voxel begin
    columns: int  # along x
    rows: int  # along z
    first: np.ndarray  # (columns * rows + 1,) int32, first place of each column
    column: np.ndarray  # (places,) int32
    level: np.ndarray  # (places,) int32, voxels
    height: np.ndarray  # (places,) float32, metres, of the mesh itself
    links: np.ndarray  # (places, 4) int32, the place next door to -x, +z, +x, -z; -1 where there is none
    kept: np.ndarray  # (places,) int32, 0 where erosion took it


def places(vertices: np.ndarray, faces: np.ndarray, voxels: Voxels) -> Places:
    """vertices (vertices, 3) float32 and faces (faces, 3) int32 -> places, eroded by the agent's radius."""
    corners = np.ascontiguousarray(vertices[faces], dtype=np.float32)  # (faces, 3, 3)
    low, high = (np.array([ends(corners[:, :, axis]) for axis in range(3)]) for ends in (np.min, np.max))
    cell = np.float32(voxels.cell_m)
    columns, rows = (max(int((high[axis] - low[axis]) / cell + np.float32(0.5)), 1) for axis in (0, 2))
    sides = corners[:, 1:] - corners[:, :1]
    normals = np.cross(sides[:, 0], sides[:, 1])
    length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    with np.errstate(invalid="ignore", divide="ignore"):
        upright = normals[:, 1] * (np.float32(1) / length)
    walkable = (upright > np.float32(np.cos(np.radians(voxels.slope_deg)))).astype(np.int32)
    box = [wp.vec3(*low.tolist()), float(high[1] - low[1]), float(cell), float(np.float32(voxels.height_m))]
    inputs = [wp.from_numpy(corners.reshape(-1, 3), dtype=wp.vec3, device="cpu"), _ints(walkable)]
    inputs += [*box, columns, rows, int(voxels.faithful)]
    extent = np.abs(sides[:, :, ::2]).sum()
    room = int(0.6 * np.abs(normals[:, 1]).sum() / cell**2 + 3 * extent / cell) + 2 * len(faces)
    while True:  # once as a rule: the estimate is a generous one
        counts = wp.zeros(columns * rows, dtype=wp.int32, device="cpu")
        total = wp.zeros(1, dtype=wp.int32, device="cpu")
        loose = [wp.empty(room, dtype=wp.int32, device="cpu") for _ in range(4)]
        loose_height = wp.empty(room, dtype=wp.float32, device="cpu")
        outputs = [room, total, counts, *loose, loose_height]
        wp.launch(cut_triangles, dim=len(faces), inputs=[*inputs, *outputs], device="cpu")
        pieces = int(total.numpy()[0])
        if pieces <= room:
            break
        room = pieces
    starts = np.concatenate([[0], np.cumsum(counts.numpy(), dtype=np.int64)]).astype(np.int32)
    counts.zero_()
    begins = _ints(starts)
    bottom, top, area = (wp.empty(max(pieces, 1), dtype=wp.int32, device="cpu") for _ in range(3))
    height = wp.empty(max(pieces, 1), dtype=wp.float32, device="cpu")
    sorting = [pieces, *loose, loose_height, begins, counts, bottom, top, area, height]
    wp.launch(sort_pieces, dim=1, inputs=sorting, device="cpu")
    spans = [begins, counts, bottom, top, area]
    cells = columns * rows
    wp.launch(merge_spans, dim=cells, inputs=[*spans, height, voxels.climb, int(voxels.faithful)], device="cpu")
    wp.launch(keep_low_obstacles, dim=cells, inputs=[*spans, voxels.climb], device="cpu")
    if voxels.faithful:
        sizes = [voxels.clearance, voxels.climb, columns, rows]
        wp.launch(drop_ledges, dim=cells, inputs=[*spans, *sizes], device="cpu")
    found = wp.zeros(cells, dtype=wp.int32, device="cpu")
    wp.launch(drop_low_ceilings, dim=cells, inputs=[*spans, voxels.clearance, found], device="cpu")
    first = np.concatenate([[0], np.cumsum(found.numpy(), dtype=np.int64)]).astype(np.int32)
    many = int(first[-1])
    column, level, air = (wp.zeros(max(many, 1), dtype=wp.int32, device="cpu") for _ in range(3))
    floor = wp.zeros(max(many, 1), dtype=wp.float32, device="cpu")
    firsts = _ints(first)
    wp.launch(gather_places, dim=cells, inputs=[*spans, height, firsts, column, level, air, floor], device="cpu")
    links = wp.zeros((max(many, 1), 4), dtype=wp.int32, device="cpu")
    sizes = [voxels.clearance, voxels.climb, columns, rows]
    wp.launch(link_places, dim=many, inputs=[firsts, column, level, air, *sizes, links], device="cpu")
    kept = wp.full(max(many, 1), 1, dtype=wp.int32, device="cpu")
    distance = wp.zeros(max(many, 1), dtype=wp.int32, device="cpu")
    wp.launch(chamfer, dim=1, inputs=[many, links, kept, distance], device="cpu")
    wp.launch(erode, dim=many, inputs=[distance, 2 * voxels.radius, kept], device="cpu")
    return Places(
        low=low,
        columns=columns,
        rows=rows,
        first=first,
        column=column.numpy()[:many],
        level=level.numpy()[:many],
        height=floor.numpy()[:many],
        links=links.numpy()[:many],
        kept=kept.numpy()[:many],
    )


def _ints(values: np.ndarray) -> wp.array:
    return wp.from_numpy(np.ascontiguousarray(values, dtype=np.int32), dtype=wp.int32, device="cpu")


@wp.struct
class Piece:
    """A convex polygon and how many corners it has."""

    corners: Corners
    count: wp.int32


@wp.func
def split(piece: Piece, axis: int, at: float) -> tuple[Piece, Piece]:
    """What of the polygon lies at most, and what at least, at `at` along the axis. A corner on the cut is in both."""
    low = Piece()
    high = Piece()
    lows = wp.int32(0)
    highs = wp.int32(0)
    previous = piece.count - 1
    before = at - piece.corners[3 * previous + axis]
    for i in range(piece.count):
        here = at - piece.corners[3 * i + axis]
        crossed = (before >= 0.0) != (here >= 0.0)
        if crossed:
            share = before / (before - here)
            for k in range(3):
                a = piece.corners[3 * previous + k]
                value = a + (piece.corners[3 * i + k] - a) * share
                low.corners[3 * lows + k] = value
                high.corners[3 * highs + k] = value
            lows += 1
            highs += 1
        if here > 0.0 or (here == 0.0 and not crossed):
            for k in range(3):
                low.corners[3 * lows + k] = piece.corners[3 * i + k]
            lows += 1
        if here < 0.0 or (here == 0.0 and not crossed):
            for k in range(3):
                high.corners[3 * highs + k] = piece.corners[3 * i + k]
            highs += 1
        previous = i
        before = here
    low.count = lows
    high.count = highs
    return low, high


@wp.func
def least(piece: Piece, axis: int) -> float:
    """Least coordinate of its corners."""
    value = piece.corners[axis]
    for i in range(1, piece.count):
        value = wp.min(value, piece.corners[3 * i + axis])
    return value


@wp.func
def most(piece: Piece, axis: int) -> float:
    """Greatest coordinate of its corners."""
    value = piece.corners[axis]
    for i in range(1, piece.count):
        value = wp.max(value, piece.corners[3 * i + axis])
    return value


@wp.func
def edge_side(a: wp.vec3, b: wp.vec3, x: float, z: float) -> float:
    """On which side of the line a-b, in plan, the point lies."""
    return (b[0] - a[0]) * (z - a[2]) - (b[2] - a[2]) * (x - a[0])


@wp.kernel(enable_backward=False)
def cut_triangles(
    triangles: wp.array[wp.vec3],
    walkable: wp.array[wp.int32],
    low: wp.vec3,
    tallest: wp.float32,
    cell: wp.float32,
    voxel: wp.float32,
    columns: wp.int32,
    rows: wp.int32,
    faithful: wp.int32,
    room: wp.int32,
    total: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    column_of: wp.array[wp.int32],
    bottom: wp.array[wp.int32],
    top: wp.array[wp.int32],
    area: wp.array[wp.int32],
    height: wp.array[wp.float32],
) -> None:
    """Cuts each triangle to the columns it crosses, and lists the pieces in the triangles' order as far as there is room."""
    face = wp.tid()
    a = triangles[3 * face]
    b = triangles[3 * face + 1]
    c = triangles[3 * face + 2]
    rest = Piece()
    for k in range(3):
        rest.corners[k] = a[k]
        rest.corners[3 + k] = b[k]
        rest.corners[6 + k] = c[k]
    rest.count = 3
    one_cell = 1.0 / cell
    one_voxel = 1.0 / voxel
    normal = wp.cross(b - a, c - a)
    from_row = wp.clamp(int((least(rest, 2) - low[2]) * one_cell), -1, rows - 1)
    to_row = wp.clamp(int((most(rest, 2) - low[2]) * one_cell), 0, rows - 1)
    strip = rest
    for row in range(from_row, to_row + 1):
        if from_row < to_row:
            strip, rest = split(rest, 2, low[2] + float(row) * cell + cell)
        if strip.count >= 3 and row >= 0:
            from_column = int((least(strip, 0) - low[0]) * one_cell)
            to_column = int((most(strip, 0) - low[0]) * one_cell)
            if to_column >= 0 and from_column < columns:
                from_column = wp.clamp(from_column, -1, columns - 1)
                to_column = wp.clamp(to_column, 0, columns - 1)
                piece = strip
                for column in range(from_column, to_column + 1):
                    if from_column < to_column:
                        piece, strip = split(strip, 0, low[0] + float(column) * cell + cell)
                    lowest = least(piece, 1) - low[1]
                    highest = most(piece, 1) - low[1]
                    if piece.count >= 3 and column >= 0 and highest >= 0.0 and lowest <= tallest:
                        slot = wp.atomic_add(total, 0, 1)
                        if slot < room:
                            place = row * columns + column
                            wp.atomic_add(counts, place, 1)
                            column_of[slot] = place
                            begins = int(wp.floor(wp.clamp(lowest, 0.0, tallest) * one_voxel))
                            ends = int(wp.ceil(wp.clamp(highest, 0.0, tallest) * one_voxel))
                            bottom[slot] = begins
                            top[slot] = wp.max(ends, begins + 1)
                            floor = walkable[face]
                            at = highest + low[1]
                            if floor == 1:
                                x = low[0] + (float(column) + 0.5) * cell
                                z = low[2] + (float(row) + 0.5) * cell
                                plane = a[1] - (normal[0] * (x - a[0]) + normal[2] * (z - a[2])) / normal[1]
                                at = wp.clamp(plane, lowest + low[1], at)
                                if faithful == 0:
                                    u = edge_side(a, b, x, z)
                                    v = edge_side(b, c, x, z)
                                    w = edge_side(c, a, x, z)
                                    if (u < 0.0 or v < 0.0 or w < 0.0) and (u > 0.0 or v > 0.0 or w > 0.0):
                                        floor = 0
                            area[slot] = floor
                            height[slot] = at


@wp.kernel(enable_backward=False)
def sort_pieces(
    pieces: wp.int32,
    column_of: wp.array[wp.int32],
    loose_bottom: wp.array[wp.int32],
    loose_top: wp.array[wp.int32],
    loose_area: wp.array[wp.int32],
    loose_height: wp.array[wp.float32],
    starts: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    bottom: wp.array[wp.int32],
    top: wp.array[wp.int32],
    area: wp.array[wp.int32],
    height: wp.array[wp.float32],
) -> None:
    """Puts the pieces of each column together, still in the triangles' order; one thread."""
    for k in range(pieces):
        column = column_of[k]
        slot = starts[column] + counts[column]
        counts[column] = counts[column] + 1
        bottom[slot] = loose_bottom[k]
        top[slot] = loose_top[k]
        area[slot] = loose_area[k]
        height[slot] = loose_height[k]


@wp.kernel(enable_backward=False)
def merge_spans(
    starts: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    bottom: wp.array[wp.int32],
    top: wp.array[wp.int32],
    area: wp.array[wp.int32],
    height: wp.array[wp.float32],
    climb: wp.int32,
    faithful: wp.int32,
) -> None:
    """Joins the pieces of a column, in the triangles' order, to spans that do not touch, sorted upwards, in place."""
    column = wp.tid()
    start = starts[column]
    spans = wp.int32(0)
    for k in range(start, starts[column + 1]):
        low = bottom[k]
        high = top[k]
        floor = area[k]
        at = height[k]
        before = wp.int32(0)  # spans that end below this piece
        while before < spans and top[start + before] < low:
            before += 1
        after = int(before)  # the first span that begins above it
        while after < spans and bottom[start + after] <= high:
            i = start + after
            low = wp.min(low, bottom[i])
            if faithful == 1:
                high = wp.max(high, top[i])
                if wp.abs(high - top[i]) <= climb:
                    floor = wp.max(floor, area[i])
            else:
                if wp.abs(high - top[i]) <= climb:
                    if area[i] > 0:
                        at = wp.where(floor > 0, wp.max(at, height[i]), height[i])
                    floor = wp.max(floor, area[i])
                elif top[i] > high:
                    floor = area[i]
                    at = height[i]
                high = wp.max(high, top[i])
            after += 1
        if after == before:  # touches none: the later ones move up by one
            for back in range(spans - before):
                i = start + spans - back
                bottom[i] = bottom[i - 1]
                top[i] = top[i - 1]
                area[i] = area[i - 1]
                height[i] = height[i - 1]
            spans += 1
        else:
            shift = after - before - 1
            if shift > 0:
                for i in range(start + after, start + spans):
                    bottom[i - shift] = bottom[i]
                    top[i - shift] = top[i]
                    area[i - shift] = area[i]
                    height[i - shift] = height[i]
                spans -= shift
        i = start + before
        bottom[i] = low
        top[i] = high
        area[i] = floor
        height[i] = at
    counts[column] = spans


@wp.kernel(enable_backward=False)
def keep_low_obstacles(
    starts: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    bottom: wp.array[wp.int32],
    top: wp.array[wp.int32],
    area: wp.array[wp.int32],
    climb: wp.int32,
) -> None:
    """An obstacle no higher than a step above a floor is floor as well: kerbs, steps, rails on the ground."""
    column = wp.tid()
    was_floor = wp.int32(0)
    for k in range(starts[column], starts[column] + counts[column]):
        floor = area[k]
        if floor == 0 and was_floor == 1 and top[k] - top[k - 1] <= climb:
            area[k] = 1
        was_floor = floor


@wp.func
def air_above(
    starts: wp.array[wp.int32], counts: wp.array[wp.int32], bottom: wp.array[wp.int32], k: int, column: int
) -> int:
    """Where the air over span k ends."""
    ceiling = OPEN
    if k + 1 < starts[column] + counts[column]:
        ceiling = bottom[k + 1]
    return ceiling


@wp.func
def side_x(side: int) -> int:
    """Step along x of each of the four sides."""
    step = wp.int32(0)
    if side == 0:
        step = -1
    elif side == 2:
        step = 1
    return step


@wp.func
def side_z(side: int) -> int:
    """Step along z of each of the four sides."""
    step = wp.int32(0)
    if side == 1:
        step = 1
    elif side == 3:
        step = -1
    return step


@wp.kernel(enable_backward=False)
def drop_ledges(
    starts: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    bottom: wp.array[wp.int32],
    top: wp.array[wp.int32],
    area: wp.array[wp.int32],
    clearance: wp.int32,
    climb: wp.int32,
    columns: wp.int32,
    rows: wp.int32,
) -> None:
    """A place beside a drop deeper than a step, or whose neighbours differ by more than one, is no floor."""
    column = wp.tid()
    x = column % columns
    z = column // columns
    for k in range(starts[column], starts[column] + counts[column]):
        if area[k] == 1:
            floor = top[k]
            ceiling = air_above(starts, counts, bottom, k, column)
            drop = int(OPEN)
            lowest = int(floor)
            highest = int(floor)
            for side in range(4):
                u = x + side_x(side)
                v = z + side_z(side)
                if u < 0 or v < 0 or u >= columns or v >= rows:
                    drop = wp.min(drop, -climb - floor)
                else:
                    other = v * columns + u
                    begin = starts[other]
                    end = begin + counts[other]
                    first = int(OPEN)
                    if end > begin:
                        first = bottom[begin]
                    if wp.min(ceiling, first) - wp.max(floor, -climb) > clearance:
                        drop = wp.min(drop, -climb - floor)
                    for n in range(begin, end):
                        if (
                            wp.min(ceiling, air_above(starts, counts, bottom, n, other)) - wp.max(floor, top[n])
                            > clearance
                        ):
                            drop = wp.min(drop, top[n] - floor)
                            if wp.abs(top[n] - floor) <= climb:
                                lowest = wp.min(lowest, top[n])
                                highest = wp.max(highest, top[n])
            if drop < -climb or highest - lowest > climb:
                area[k] = 0


@wp.kernel(enable_backward=False)
def drop_low_ceilings(
    starts: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    bottom: wp.array[wp.int32],
    top: wp.array[wp.int32],
    area: wp.array[wp.int32],
    clearance: wp.int32,
    found: wp.array[wp.int32],
) -> None:
    """Under less air than an agent's height there is no floor; counts the floors that are left."""
    column = wp.tid()
    left = wp.int32(0)
    for k in range(starts[column], starts[column] + counts[column]):
        if air_above(starts, counts, bottom, k, column) - top[k] < clearance:
            area[k] = 0
        left += area[k]
    found[column] = left


@wp.kernel(enable_backward=False)
def gather_places(
    starts: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    bottom: wp.array[wp.int32],
    top: wp.array[wp.int32],
    area: wp.array[wp.int32],
    height: wp.array[wp.float32],
    first: wp.array[wp.int32],
    column_of: wp.array[wp.int32],
    level: wp.array[wp.int32],
    air: wp.array[wp.int32],
    floor: wp.array[wp.float32],
) -> None:
    """Lists the floors of all columns."""
    column = wp.tid()
    place = first[column]
    for k in range(starts[column], starts[column] + counts[column]):
        if area[k] == 1:
            column_of[place] = column
            level[place] = top[k]
            air[place] = air_above(starts, counts, bottom, k, column)
            floor[place] = height[k]
            place += 1


@wp.kernel(enable_backward=False)
def link_places(
    first: wp.array[wp.int32],
    column_of: wp.array[wp.int32],
    level: wp.array[wp.int32],
    air: wp.array[wp.int32],
    clearance: wp.int32,
    climb: wp.int32,
    columns: wp.int32,
    rows: wp.int32,
    links: wp.array2d[wp.int32],
) -> None:
    """Next door is who is within a step, with an agent's height of air over both."""
    place = wp.tid()
    x = column_of[place] % columns
    z = column_of[place] // columns
    for side in range(4):
        u = x + side_x(side)
        v = z + side_z(side)
        door = wp.int32(-1)
        if u >= 0 and v >= 0 and u < columns and v < rows:
            other = v * columns + u
            for n in range(first[other], first[other + 1]):
                if door < 0:
                    room = wp.min(air[place], air[n]) - wp.max(level[place], level[n])
                    if room >= clearance and wp.abs(level[n] - level[place]) <= climb:
                        door = n
        links[place, side] = door


@wp.kernel(enable_backward=False)
def chamfer(
    many: wp.int32, links: wp.array2d[wp.int32], kept: wp.array[wp.int32], distance: wp.array[wp.int32]
) -> None:
    """Distance to the border in half cells, a diagonal counted as three of them; one thread, two sweeps."""
    for i in range(many):
        distance[i] = 0
        if kept[i] == 1:
            doors = wp.int32(0)
            for side in range(4):
                if links[i, side] >= 0:
                    doors += kept[links[i, side]]
            if doors == 4:
                distance[i] = 65535
    for i in range(many):
        d = distance[i]
        if d > 0:
            for turn in range(2):  # to -x and from there to -z; to -z and from there to +x
                side = 0
                next_side = 3
                if turn == 1:
                    side = 3
                    next_side = 2
                n = links[i, side]
                if n >= 0:
                    d = wp.min(d, distance[n] + 2)
                    m = links[n, next_side]
                    if m >= 0:
                        d = wp.min(d, distance[m] + 3)
            distance[i] = d
    for back in range(many):
        i = many - 1 - back
        d = distance[i]
        if d > 0:
            for turn in range(2):  # to +x and from there to +z; to +z and from there to -x
                side = 2
                next_side = 1
                if turn == 1:
                    side = 1
                    next_side = 0
                n = links[i, side]
                if n >= 0:
                    d = wp.min(d, distance[n] + 2)
                    m = links[n, next_side]
                    if m >= 0:
                        d = wp.min(d, distance[m] + 3)
            distance[i] = d


@wp.kernel(enable_backward=False)
def erode(distance: wp.array[wp.int32], within: wp.int32, kept: wp.array[wp.int32]) -> None:
    """Takes away what is nearer to the border than that."""
    place = wp.tid()
    if distance[place] < within:
        kept[place] = 0
