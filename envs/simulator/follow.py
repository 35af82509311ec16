"""The expert: which action follows the shortest way, for an agent that steps forward and turns by fixed amounts."""

# Warp reads the types of kernels its own way, and may evaluate both sides of an `and`: hence the nested ifs.

from vlkit.envs.simulator.geodesics import Sights, way
from vlkit.envs.simulator.kernels import wp
from vlkit.envs.simulator.moves import Grounds, Spot, spot_under, standing, step_from

STOP, FORWARD, LEFT, RIGHT = (wp.constant(action) for action in range(4))  # VLN-CE's order
TURN_COST = wp.constant(0.01)  # metres that a turn must save, so that of two ways alike the one ahead is taken


@wp.kernel(enable_backward=False)
def follow_kernel(
    g: Grounds,
    s: Sights,
    begin: wp.int32,
    scene: wp.array[wp.int32],
    points: wp.array[wp.vec3],
    yaw: wp.array[wp.float32],
    slots: wp.array[wp.int32],
    goal: wp.array[wp.vec3],
    goal_polygon: wp.array[wp.int32],
    distance: wp.array2d[wp.float32],
    towards: wp.array2d[wp.int32],
    goal_radius: wp.float32,
    forward: wp.float32,
    turn: wp.float32,
    sliding: wp.int32,
    actions: wp.array[wp.int32],
) -> None:
    """Tries a step ahead after every number of turns, and begins what brings the goal nearest."""
    i = begin + wp.tid()
    here = scene[i]
    slot = slots[i]
    spot = spot_under(g, here, points[i], -1)
    now = way(g, s, here, spot, slot, goal, goal_polygon, distance)
    action = int(STOP)
    if now.metres < wp.inf and now.metres > goal_radius:
        start = Spot()
        start.polygon = spot.polygon
        start.point = spot.point
        start.over = spot.over
        origin = standing(g, here, spot)
        most = int(wp.ceil(3.14159265 / turn))
        best = float(-wp.inf)
        action = int(FORWARD)
        for k in range(2 * most + 1):
            turns = (k + 1) // 2
            side = wp.where(k % 2 == 1, 1, -1)
            heading = yaw[i] + float(side * turns) * turn
            wish = origin + wp.vec3(-wp.sin(heading), 0.0, -wp.cos(heading)) * forward
            end = step_from(g, here, start, wish, sliding)
            then = way(g, s, here, end, slot, goal, goal_polygon, distance)
            saved = now.metres - then.metres - float(turns) * TURN_COST
            if saved > best + 1.0e-4:
                best = saved
                if turns == 0:
                    action = FORWARD
                elif side == 1:
                    action = LEFT
                else:
                    action = RIGHT
    actions[i] = action
