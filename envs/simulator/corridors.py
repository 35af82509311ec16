"""Ways as habitat-sim finds them: a search over polygons, then a string pulled through the corridor that was found.

The rules are those that Detour describes. The search runs over the middles of polygons' sides, so the corridor is not
always the one with the shortest way in it: now and then its way is some per cent longer. Whoever compares with numbers
measured in habitat-sim wants just that; everybody else has `geodesics.py`.
"""

# ruff: noqa: SIM102
# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.moves import (
    Grounds,
    along_segment,
    contains,
    nearest_on_edges,
    spot_under,
    square_off,
)

OPEN, CLOSED = wp.constant(1), wp.constant(2)
HOPE = wp.constant(0.999)  # share of the straight line that is hoped for
MOST_TURNS = wp.constant(64)  # times that each door may be looked at again, so that no rounding can go round for ever
CLOSE = wp.constant(1.0e-6)  # squared metres: a start so near to a door stands in it


@wp.struct
class Search:
    """Room for searches, one row each."""

    flags: wp.array2d[wp.int32]  # (searches, polygons)
    before: wp.array2d[wp.int32]
    heap: wp.array2d[wp.int32]
    point: wp.array2d[wp.vec3]
    cost: wp.array2d[wp.float32]
    total: wp.array2d[wp.float32]


@wp.func
def rise(search: Search, row: int, place: int, node: int) -> None:
    """Moves a node up the heap to where it belongs."""
    at = int(place)
    going = wp.int32(1)
    while going == 1:
        parent = (at - 1) // 2
        going = 0
        if at > 0:
            if search.total[row, search.heap[row, parent]] > search.total[row, node]:
                search.heap[row, at] = search.heap[row, parent]
                at = parent
                going = 1
    search.heap[row, at] = node


@wp.func
def taken(search: Search, row: int, size: int) -> int:
    """Takes the best node off a heap of so many."""
    best = search.heap[row, 0]
    left = size - 1
    node = search.heap[row, left]
    at = wp.int32(0)
    child = wp.int32(1)
    while child < left:
        if child + 1 < left:
            if search.total[row, search.heap[row, child]] > search.total[row, search.heap[row, child + 1]]:
                child += 1
        search.heap[row, at] = search.heap[row, child]
        at = child
        child = 2 * at + 1
    rise(search, row, at, node)
    return best


@wp.func
def corridor(
    g: Grounds, search: Search, row: int, first: int, many: int, start: int, p: wp.vec3, end: int, q: wp.vec3
) -> int:
    """Searches from polygon `start` to `end`; the way's nodes are then linked by `before`. 1 where it was found."""
    for k in range(many):
        search.flags[row, k] = 0
    node = start - first
    goal = end - first
    search.point[row, node] = p
    search.cost[row, node] = 0.0
    search.total[row, node] = wp.length(q - p) * HOPE
    search.before[row, node] = -1
    search.flags[row, node] = OPEN
    search.heap[row, 0] = node
    size = wp.int32(1)
    found = wp.int32(0)
    while size > 0 and found == 0:
        best = taken(search, row, size)
        size -= 1
        search.flags[row, best] = CLOSED
        if best == goal:
            found = 1
        else:
            polygon = best + first
            n = g.count[polygon]
            for i in range(n):
                door = g.beyond[polygon, i]
                if door >= 0 and door - first != search.before[row, best]:
                    k = door - first
                    if search.flags[row, k] == 0:
                        a = g.corner[g.side[polygon, i]]
                        b = g.corner[g.side[polygon, (i + 1) % n]]
                        search.point[row, k] = (a + b) * 0.5
                    cost = search.cost[row, best] + wp.length(search.point[row, k] - search.point[row, best])
                    rest = wp.length(q - search.point[row, k])
                    total = cost + rest * HOPE
                    if k == goal:
                        cost = cost + rest
                        total = cost
                    if search.flags[row, k] == 0 or total < search.total[row, k]:
                        search.before[row, k] = best
                        search.cost[row, k] = cost
                        search.total[row, k] = total
                        if search.flags[row, k] == OPEN:
                            place = wp.int32(0)
                            while search.heap[row, place] != k:
                                place += 1
                            rise(search, row, place, k)
                        else:
                            search.flags[row, k] = OPEN
                            rise(search, row, size, k)
                            size += 1
    return found


@wp.func
def area(a: wp.vec3, b: wp.vec3, c: wp.vec3) -> float:
    """Twice the signed area of a triangle in plan."""
    return (c[0] - a[0]) * (b[2] - a[2]) - (b[0] - a[0]) * (c[2] - a[2])


@wp.func
def same(a: wp.vec3, b: wp.vec3) -> bool:
    """Whether two points are one."""
    away = a - b
    return wp.dot(away, away) < 3.7e-9


@wp.func
def door_between(g: Grounds, polygon: int, other: int) -> int:
    """Which side of the polygon leads to the other."""
    side = wp.int32(-1)
    for i in range(g.count[polygon]):
        if g.beyond[polygon, i] == other and side < 0:
            side = i
    return side


@wp.func
def on_polygon(g: Grounds, polygon: int, p: wp.vec3) -> wp.vec3:
    """The point itself where the polygon covers it, else the nearest on its sides."""
    at = p
    if not contains(g, polygon, p[0], p[2]):
        at = nearest_on_edges(g, polygon, p[0], p[2], True)
    return at


@wp.kernel(enable_backward=False)
def corridor_kernel(
    g: Grounds,
    search: Search,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    first_polygon: wp.array[wp.int32],
    starts: wp.array[wp.vec3],
    ends: wp.array[wp.vec3],
    most: wp.int32,
    corners: wp.array2d[wp.vec3],
    count: wp.array[wp.int32],
    metres: wp.array[wp.float32],
) -> None:
    """Each way's length and its points, both ends included; `count` says how many, also where `most` cut them off."""
    i = begin + wp.tid()
    here = scene[i]
    first = first_polygon[here]
    start = spot_under(g, here, starts[i], -1)
    end = spot_under(g, here, ends[i], -1)
    metres[i] = wp.inf
    count[i] = 0
    joined = wp.int32(0)
    if start.polygon >= 0 and end.polygon >= 0:
        if g.island[start.polygon] == g.island[end.polygon]:
            many = first_polygon[here + 1] - first
            joined = corridor(g, search, i, first, many, start.polygon, start.point, end.polygon, end.point)
    if joined == 1:
        # The polygons in their order, from the start: kept where the heap was.
        length = wp.int32(0)
        node = end.polygon - first
        while node >= 0:
            length += 1
            node = search.before[i, node]
        node = end.polygon - first
        for k in range(length):
            search.heap[i, length - 1 - k] = node + first
            node = search.before[i, node]
        apex = on_polygon(g, start.polygon, start.point)
        target = on_polygon(g, end.polygon, end.point)
        left = apex
        right = apex
        left_at = wp.int32(0)
        right_at = wp.int32(0)
        total = wp.float32(0.0)
        n = wp.int32(1)
        last = apex
        if most > 0:
            corners[i, 0] = apex
        k = wp.int32(0)
        steps = wp.int32(0)
        while length > 1 and k < length and steps < MOST_TURNS * length:
            steps += 1
            next_left = target
            next_right = target
            skip = wp.int32(0)
            if k + 1 < length:
                polygon = search.heap[i, k]
                side = door_between(g, polygon, search.heap[i, k + 1])
                next_left = g.corner[g.side[polygon, side]]
                next_right = g.corner[g.side[polygon, (side + 1) % g.count[polygon]]]
                if k == 0:
                    beside = next_left + (next_right - next_left) * along_segment(
                        apex[0], apex[2], next_left, next_right
                    )
                    if square_off(apex[0], apex[2], beside) < CLOSE:
                        skip = 1
            turn = wp.int32(0)  # 1: round the left corner, 2: round the right one
            if skip == 0:
                if area(apex, right, next_right) <= 0.0:
                    if same(apex, right) or area(apex, left, next_right) > 0.0:
                        right = next_right
                        right_at = k
                    else:
                        turn = 1
                if turn == 0:
                    if area(apex, left, next_left) >= 0.0:
                        if same(apex, left) or area(apex, right, next_left) < 0.0:
                            left = next_left
                            left_at = k
                        else:
                            turn = 2
            if turn > 0:
                if turn == 1:
                    apex = left
                    k = left_at
                else:
                    apex = right
                    k = right_at
                if not same(apex, last):
                    if n < most:
                        corners[i, n] = apex
                    n += 1
                    total += wp.length(apex - last)
                    last = apex
                left = apex
                right = apex
                left_at = k
                right_at = k
            k += 1
        if n == 1 or not same(target, last):
            if n < most:
                corners[i, n] = target
            n += 1
        total += wp.length(target - last)
        count[i] = n
        metres[i] = total
