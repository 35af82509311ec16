"""A walk in words: what the agent did at each step, where it looked, and how it ended."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vlkit.envs.r2r import Scan
from vlkit.tasks.r2r.metrics import SUCCESS_M

if TYPE_CHECKING:  # importing the agents imports torch
    from vlkit.tasks.r2r.agents import Walk

UP_M = 0.5  # a hop that climbs as much is called "up"
STRAIGHT_DEG, BACK_DEG = 5.0, 170.0  # a smaller turn is called "ahead", a larger one "back"


@dataclass(frozen=True)
class Step:
    """One action of a walk: where the agent stood, and what it did."""

    number: int  # from 1
    before: tuple[str, float, float]  # viewpoint, heading, elevation
    after: tuple[str, float, float]
    words: str  # "left 60°, 2.1 m"


def steps(walk: "Walk", scan: Scan) -> list[Step]:
    """The walk's steps, one an action."""
    from vlkit.envs.graph import STOP

    if walk.episode.scan != scan.name:
        raise ValueError(f"episode {walk.episode.id} is in scan {walk.episode.scan}, not in {scan.name}")
    poses = walk.trajectory
    made = []
    for i, action in enumerate(walk.actions):
        # A trajectory may repeat its last place for the stop, or not.
        before, after = poses[min(i, len(poses) - 1)], poses[min(i + 1, len(poses) - 1)]
        words = "stop" if action == STOP else _words(before, after, scan)
        made.append(Step(number=i + 1, before=before, after=after, words=words))
    return made


def stopped(walk: "Walk") -> bool:
    """Whether the agent ended the walk itself, and was not cut off."""
    from vlkit.envs.graph import STOP

    return bool(walk.actions) and walk.actions[-1] == STOP


def outcome(walk: "Walk") -> str:
    """Success or failure, in words."""
    if not walk.metrics:
        return "not scored, for the goal is not known"
    if walk.metrics.get("success", 0.0) > 0:
        return "success"
    if walk.metrics.get("oracle_success", 0.0) > 0:
        return f"failure, though it came within {SUCCESS_M:g} m of the goal"
    return "failure"


def measured(walk: "Walk") -> str:
    """The measures that matter most, and how the walk ended, on one line."""
    forms = {
        "length": "walked {:.1f} m",
        "nav_error": "{:.1f} m from the goal",
        "spl": "SPL {:.2f}",
        "ndtw": "nDTW {:.2f}",
    }
    parts = [form.format(walk.metrics[name]) for name, form in forms.items() if name in walk.metrics]
    parts.append(f"{'stopped' if stopped(walk) else 'cut off'} after {_counted(len(walk.actions), 'step')}")
    return " · ".join(parts)


def attention(walk: "Walk", words: Sequence[str]) -> np.ndarray:
    """The walk's attention (steps, words), checked against its steps and `words`; ValueError where they do not fit."""
    if walk.attention is None:
        raise ValueError(f"the walk of episode {walk.episode.id} has no attention; roll out a policy that attends")
    weights = np.asarray(walk.attention, dtype=np.float64)
    if weights.shape != (len(walk.actions), len(words)) or not weights.size:
        raise ValueError(
            f"episode {walk.episode.id}: attention of shape {weights.shape}, but {len(walk.actions)} steps and "
            f"{len(words)} words; give the words that the model saw"
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"episode {walk.episode.id}: attention holds a number that is negative or not finite")
    return weights


def described(walk: "Walk", scan: Scan) -> str:
    """The map in a sentence or two, for those who do not see it."""
    reference = walk.episode.path
    length = sum(float(scan.edges[scan.index[a], scan.index[b]]) for a, b in pairwise(reference))
    actions = "; ".join(f"{step.number} {step.words}" for step in steps(walk, scan))
    error = walk.metrics.get("nav_error")
    away = "" if error is None else f", {error:.1f} m from the goal"
    demonstrated = f"The reference path has {_counted(len(reference), 'viewpoint')} and {length:.1f} m. "
    return (
        f"Map of building {scan.name} from above. {demonstrated if len(reference) > 1 else ''}"
        f"The agent {'stopped' if stopped(walk) else 'was cut off'} after {_counted(len(walk.actions), 'step')}{away}: "
        f"{outcome(walk)}. Its steps: {actions}."
    )


def _words(before: tuple[str, float, float], after: tuple[str, float, float], scan: Scan) -> str:
    here, there = scan.index[before[0]], scan.index[after[0]]
    turn = math.degrees(math.remainder(after[1] - before[1], 2 * math.pi))
    side = f"{'right' if turn > 0 else 'left'} {abs(turn):.0f}°"
    if here == there:
        tilt = math.degrees(after[2] - before[2])
        parts = [side] if abs(turn) >= 1 else []
        parts += [f"look {'up' if tilt > 0 else 'down'} {abs(tilt):.0f}°"] if abs(tilt) >= 1 else []
        return ", ".join(parts) or "stay"
    climb = scan.positions[there, 2] - scan.positions[here, 2]
    way = " up" if climb > UP_M else " down" if climb < -UP_M else ""
    metres = float(np.linalg.norm(scan.positions[there] - scan.positions[here]))
    course = "ahead" if abs(turn) < STRAIGHT_DEG else "back" if abs(turn) > BACK_DEG else side
    return f"{course}, {metres:.1f} m{way}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
