"""Places -> regions: parts of the ground without holes that turn back on themselves, grown from its widest spots.

A watershed on the distance to the border, as Recast describes it: regions grow from the places farthest from the border
downwards until they meet; islands that are too small are dropped, and small regions join a neighbour.
"""

# ruff: noqa: SIM102
# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

from dataclasses import dataclass

import numpy as np

from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.voxels import Places, chamfer

STACKS = wp.constant(8)  # levels of the watershed that are sorted at a time
Eight = wp.types.vector(length=8, dtype=wp.int32)
OUTSIDE = 0  # region of what no region took
OTHER_AREA = 1 << 16  # marks a neighbour that erosion took


def region_of_place(places: Places, *, least_cells: int, merge_cells: int) -> np.ndarray:
    """(places,) int32, 0 for none. Islands under `least_cells` are dropped, regions under `merge_cells` joined to others."""
    many = len(places.kept)
    if many == 0:
        return np.zeros(0, dtype=np.int32)
    links, kept = ints(places.links), ints(places.kept)
    sharp, smooth = (wp.zeros(many, dtype=wp.int32, device="cpu") for _ in range(2))
    wp.launch(chamfer, dim=1, inputs=[many, links, kept, sharp], device="cpu")
    wp.launch(soften, dim=many, inputs=[links, sharp, smooth], device="cpu")
    deepest = int(sharp.numpy().max())
    region, depth = (wp.zeros(many, dtype=wp.int32, device="cpu") for _ in range(2))
    stacks = wp.zeros((8, many), dtype=wp.int32, device="cpu")
    spare = [wp.zeros(many, dtype=wp.int32, device="cpu") for _ in range(4)]
    top = (deepest + 1) & ~1
    wp.launch(watershed, dim=1, inputs=[many, links, kept, smooth, top, region, depth, stacks, *spare], device="cpu")
    return _merged(places, region.numpy(), least_cells, merge_cells)


class _Region:
    """One region while small ones are merged."""

    def __init__(self, number: int, cells: int) -> None:
        self.id = number
        self.cells = cells
        self.around: list[int] = []  # regions along its outline, in order
        self.above: list[int] = []  # regions in the same columns
        self.overlaps = False  # lies above itself


def _merged(places: Places, region: np.ndarray, least_cells: int, merge_cells: int) -> np.ndarray:
    many = int(region.max()) + 1
    regions = [_Region(number, cells) for number, cells in enumerate(np.bincount(region, minlength=many).tolist())]
    _note_storeys(places, region, regions)
    for loop in loops(places, region, lonely=True):
        own = regions[int(region[loop.place[0]])]
        if not own.around:
            own.around = _without_repeats((loop.beyond & (OTHER_AREA - 1)).tolist())
    seen: set[int] = set()
    for one in regions[1:]:
        if one.cells == 0 or one.id in seen:
            continue
        seen.add(one.id)
        stack, together = [one.id], []
        while stack:
            here = regions[stack.pop()]
            together.append(here)
            for other in here.around:
                if other != OUTSIDE and other not in seen and regions[other].id:
                    seen.add(other)
                    stack.append(other)
        if sum(part.cells for part in together) < least_cells:
            for part in together:
                part.cells, part.id = 0, OUTSIDE
    while _merge_once(regions, merge_cells):
        pass
    numbers: dict[int, int] = {OUTSIDE: OUTSIDE}
    for one in regions[1:]:
        numbers.setdefault(one.id, len(numbers))
    renumbered: np.ndarray = np.array([numbers[one.id] for one in regions], dtype=np.int32)[region]
    return renumbered


def _note_storeys(places: Places, region: np.ndarray, regions: list[_Region]) -> None:
    """Notes which regions lie above which."""
    storeys = np.diff(places.first)
    for many in np.unique(storeys[storeys > 1]).tolist():
        columns = places.first[:-1][storeys == many]
        stacked = region[columns[:, None] + np.arange(many)]
        for here in np.unique(stacked, axis=0).tolist():
            for i, one in enumerate(here):
                for j, other in enumerate(here):
                    if i == j or one == OUTSIDE or other == OUTSIDE:
                        continue
                    if one == other:
                        regions[one].overlaps = True
                    if other not in regions[one].above:
                        regions[one].above.append(other)


def _merge_once(regions: list[_Region], merge_cells: int) -> bool:
    """One round of joining small or enclosed regions to their smallest neighbour; false when none was."""
    merged = False
    for one in regions:
        if one.id == OUTSIDE or one.overlaps or one.cells == 0:
            continue
        if one.cells > merge_cells and OUTSIDE in one.around:
            continue
        best = None
        for number in one.around:
            if number == OUTSIDE:
                continue
            other = regions[number]
            if other.id == OUTSIDE or other.overlaps or (best is not None and other.cells >= best.cells):
                continue
            if _may_merge(one, other) and _may_merge(other, one):
                best = other
        if best is None or best.id == one.id:
            continue
        old, new = one.id, best.id
        if not _merge(best, one):
            continue
        for other in regions:
            if other.id == OUTSIDE:
                continue
            if other.id == old:
                other.id = new
            if old in other.around or old in other.above:
                other.around = [new if number == old else number for number in other.around]
                other.above = [new if number == old else number for number in other.above]
                other.around = _without_repeats(other.around)
        merged = True
    return merged


def _may_merge(one: _Region, other: _Region) -> bool:
    return one.around.count(other.id) <= 1 and other.id not in one.above


def _merge(into: _Region, one: _Region) -> bool:
    """Joins `one` to `into` along their common side."""
    if one.id not in into.around or into.id not in one.around:
        return False
    a, b = into.around.index(one.id), one.around.index(into.id)
    joined = into.around[a + 1 :] + into.around[:a] + one.around[b + 1 :] + one.around[:b]
    into.around = _without_repeats(joined)
    into.above += [number for number in one.above if number not in into.above]
    into.cells += one.cells
    one.cells, one.around = 0, []
    return True


def _without_repeats(around: list[int]) -> list[int]:
    """The same loop of numbers without one that follows on itself."""
    shorter = [number for i, number in enumerate(around) if i + 1 == len(around) or number != around[i + 1]]
    if len(shorter) > 1 and shorter[-1] == shorter[0]:
        shorter.pop()
    return shorter


@dataclass(frozen=True, eq=False)
class Loop:
    """Cell sides round a region, or round a hole in it."""

    place: np.ndarray  # (sides,) the place on the inner side of each cell side
    points: np.ndarray  # (sides, 3) int64, corner where the side ends
    beyond: np.ndarray  # (sides,) region on the other side, with OTHER_AREA where erosion took it


def loops(places: Places, region: np.ndarray, lonely: bool) -> list[Loop]:
    """All loops of cell sides that bound regions, in the order of their first place.

    A place that is a region by itself has a loop only where `lonely` asks for it.
    """
    links = places.links
    linked = links >= 0
    beyond = np.where(linked, region[links], OUTSIDE)
    border = (beyond != region[:, None]) & (region != OUTSIDE)[:, None]
    flags = (border << np.arange(4)).sum(axis=1).astype(np.int32)
    if not lonely:
        flags[flags == 15] = 0
    total = int(border.sum())
    if total == 0:
        return []
    out_place, out_side, ends = (wp.zeros(total + 2, dtype=wp.int32, device="cpu") for _ in range(3))
    inputs = [len(region), ints(links), ints(flags), out_place, out_side, ends]
    wp.launch(trace, dim=1, inputs=inputs, device="cpu")
    loops = int(ends.numpy()[0])
    stops = ends.numpy()[1 : loops + 1]
    if loops == 0:
        return []
    place, side = out_place.numpy()[: stops[-1]], out_side.numpy()[: stops[-1]]
    other = beyond[place, side]
    other_area = linked[place, side] & (places.kept[links[place, side]] != places.kept[place])
    other = other + np.where(other_area, OTHER_AREA, 0)
    x, z = places.column[place] % places.columns, places.column[place] // places.columns
    corner_x, corner_z = x + ((side == 1) | (side == 2)), z + (side <= 1)
    points = np.stack([corner_x, _corner_levels(places)[place, side], corner_z], axis=1).astype(np.int64)
    spans = zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True)
    return [Loop(place[a:b], points[a:b], other[a:b]) for a, b in spans]


def _corner_levels(places: Places) -> np.ndarray:
    """Highest of the places around the corner after each side, (places, 4)."""
    links, level = places.links, places.level
    top = np.repeat(level[:, None], 4, axis=1)

    def highest(current: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.where(at >= 0, np.maximum(current, level[at]), current)

    for side in range(4):
        following = (side + 1) % 4
        for first, second in ((side, following), (following, side)):
            beside = links[:, first]
            top[:, side] = highest(top[:, side], beside)
            top[:, side] = highest(top[:, side], np.where(beside >= 0, links[beside, second], -1))
    return top


def ints(values: np.ndarray) -> wp.array:
    """The values for a kernel."""
    return wp.from_numpy(np.ascontiguousarray(values, dtype=np.int32), dtype=wp.int32, device="cpu")


@wp.kernel(enable_backward=False)
def soften(links: wp.array2d[wp.int32], sharp: wp.array[wp.int32], smooth: wp.array[wp.int32]) -> None:
    """Mean over the nine places around, so that the watershed finds fewer tops."""
    i = wp.tid()
    here = sharp[i]
    if here <= 2:
        smooth[i] = here
    else:
        total = int(here)
        for side in range(4):
            n = links[i, side]
            if n >= 0:
                total += sharp[n]
                m = links[n, (side + 1) % 4]
                if m >= 0:
                    total += sharp[m]
                else:
                    total += here
            else:
                total += 2 * here
        smooth[i] = (total + 5) // 9


@wp.func
def spread(
    links: wp.array2d[wp.int32],
    kept: wp.array[wp.int32],
    region: wp.array[wp.int32],
    depth: wp.array[wp.int32],
    stack: wp.array[wp.int32],
    size: int,
    rounds: int,
    new_place: wp.array[wp.int32],
    new_region: wp.array[wp.int32],
    new_depth: wp.array[wp.int32],
) -> None:
    """Grows the regions over the stacked places, all by one place a round; without a limit where rounds is 0."""
    done = wp.int32(0)
    going = wp.int32(1)
    if size == 0:
        going = 0
    while going == 1:
        failed = wp.int32(0)
        changed = wp.int32(0)
        for j in range(size):
            i = stack[j]
            if i < 0:
                failed += 1
            else:
                best = wp.int32(0)
                least = wp.int32(65535)
                for side in range(4):
                    n = links[i, side]
                    if n >= 0:
                        if kept[n] == 1 and region[n] > 0 and depth[n] + 2 < least:
                            best = region[n]
                            least = depth[n] + 2
                if best > 0:
                    stack[j] = -1
                    new_place[changed] = i
                    new_region[changed] = best
                    new_depth[changed] = least
                    changed += 1
                else:
                    failed += 1
        for j in range(changed):
            region[new_place[j]] = new_region[j]
            depth[new_place[j]] = new_depth[j]
        done += 1
        if failed == size or (rounds > 0 and done == rounds):
            going = 0


@wp.func
def flood(
    start: int,
    lowest: int,
    number: int,
    links: wp.array2d[wp.int32],
    kept: wp.array[wp.int32],
    height: wp.array[wp.int32],
    region: wp.array[wp.int32],
    depth: wp.array[wp.int32],
    stack: wp.array[wp.int32],
) -> int:
    """Fills a new region from `start` over places at least `lowest` deep; returns how many stayed its own."""
    stack[0] = start
    size = wp.int32(1)
    region[start] = number
    depth[start] = 0
    count = wp.int32(0)
    while size > 0:
        size -= 1
        i = stack[size]
        foreign = wp.int32(0)  # beside another region the border is left to `spread`
        for side in range(4):
            n = links[i, side]
            if n >= 0 and foreign == 0:
                if kept[n] == 1:
                    if region[n] != 0 and region[n] != number:
                        foreign = 1
                    m = links[n, (side + 1) % 4]
                    if m >= 0:
                        if kept[m] == 1 and region[m] != 0 and region[m] != number:
                            foreign = 1
        if foreign == 1:
            region[i] = 0
        else:
            count += 1
            for side in range(4):
                n = links[i, side]
                if n >= 0:
                    if kept[n] == 1 and height[n] >= lowest and region[n] == 0:
                        region[n] = number
                        depth[n] = 0
                        stack[size] = n
                        size += 1
    return count


@wp.kernel(enable_backward=False)
def watershed(
    many: wp.int32,
    links: wp.array2d[wp.int32],
    kept: wp.array[wp.int32],
    height: wp.array[wp.int32],
    top: wp.int32,
    region: wp.array[wp.int32],
    depth: wp.array[wp.int32],
    stacks: wp.array2d[wp.int32],
    spare: wp.array[wp.int32],
    new_place: wp.array[wp.int32],
    new_region: wp.array[wp.int32],
    new_depth: wp.array[wp.int32],
) -> None:
    """Regions grow from the places farthest from the border downwards, two half cells a level; one thread."""
    number = wp.int32(1)
    level = int(top)
    turn = wp.int32(-1)
    sizes = Eight()
    while level > 0:
        level = wp.max(level - 2, 0)
        turn = (turn + 1) % STACKS
        if turn == 0:
            for k in range(STACKS):
                sizes[k] = 0
            for i in range(many):
                if kept[i] == 1 and region[i] == 0:
                    k = level // 2 - height[i] // 2
                    if k < STACKS:
                        k = wp.max(k, 0)
                        stacks[k, sizes[k]] = i
                        sizes[k] = sizes[k] + 1
        else:
            for j in range(sizes[turn - 1]):
                i = stacks[turn - 1, j]
                if i >= 0:
                    if region[i] == 0:
                        stacks[turn, sizes[turn]] = i
                        sizes[turn] = sizes[turn] + 1
        for j in range(sizes[turn]):
            if region[stacks[turn, j]] != 0:
                stacks[turn, j] = -1
        rounds = wp.where(level > 0, 8, 0)
        spread(links, kept, region, depth, stacks[turn], sizes[turn], rounds, new_place, new_region, new_depth)
        for j in range(sizes[turn]):
            i = stacks[turn, j]
            if i >= 0:
                if region[i] == 0:
                    if flood(i, wp.max(level - 2, 0), number, links, kept, height, region, depth, spare) > 0:
                        number += 1
    size = wp.int32(0)
    for i in range(many):
        if kept[i] == 1 and region[i] == 0:
            spare[size] = i
            size += 1
    spread(links, kept, region, depth, spare, size, 0, new_place, new_region, new_depth)


@wp.kernel(enable_backward=False)
def trace(
    many: wp.int32,
    links: wp.array2d[wp.int32],
    flags: wp.array[wp.int32],
    out_place: wp.array[wp.int32],
    out_side: wp.array[wp.int32],
    ends: wp.array[wp.int32],
) -> None:
    """Walks round the flagged sides of cells; ends[0] loops, of which number k ends before ends[k]; one thread."""
    written = wp.int32(0)
    loops = wp.int32(0)
    for first in range(many):
        while flags[first] != 0:
            side = wp.int32(0)
            while (flags[first] & (1 << side)) == 0:
                side += 1
            begin = int(side)
            place = int(first)
            going = wp.int32(1)
            while going == 1:
                if (flags[place] & (1 << side)) != 0:
                    out_place[written] = place
                    out_side[written] = side
                    written += 1
                    flags[place] = flags[place] & ~(1 << side)
                    side = (side + 1) % 4
                else:
                    place = links[place, side]
                    side = (side + 3) % 4
                if place < 0 or (place == first and side == begin):
                    going = 0
            loops += 1
            ends[loops] = written
    ends[0] = loops
