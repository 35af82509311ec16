"""Submission files as VLN-CE's leaderboard takes them."""

import json
from collections.abc import Sequence
from pathlib import Path

from vlkit.files import write_atomic
from vlkit.tasks.navigation.rollouts import Walk


def write_submission(path: str | Path, walks: Sequence[Walk]) -> None:
    """Writes {episode_id: [{position, heading, stop}, ...]}: the start, then where each action led.

    Position in metres (x, y, z), heading in radians to the left of -z; `stop` is true at the entry after STOP alone.
    """
    every = {
        walk.episode.id: [
            {
                "position": [round(float(each), 5) for each in position],
                "heading": round(float(heading), 5),
                "stop": step > 0 and walk.actions[step - 1] == 0,
            }
            for step, (position, heading) in enumerate(zip(walk.locations, walk.headings, strict=True))
        ]
        for walk in walks
    }
    with write_atomic(path) as temporary:
        temporary.write_text(json.dumps(every) + "\n", encoding="utf-8")
