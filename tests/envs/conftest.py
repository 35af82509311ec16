"""A world of two buildings that is small enough to be known by heart, in R2R's file formats.

alpha, metres, north is up, every viewpoint 1.5 m high but a6, which lies 3 m above a5. a0 and a2 are joined too, past a1,
so that the classic simulator never goes from a0 to a2: a1 is in the way. x is excluded.

    a2 --- a4
    |      |
    a1 --- a3 --- a5 ... x
    |             (a6)
    a0

beta is a crooked ring b0 b1 b2 b3 b4, and b5 is joined to nothing.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ALPHA = {
    "a0": (0.0, 0.0, 1.5),
    "a1": (0.0, 3.0, 1.5),
    "a2": (0.0, 6.0, 1.5),
    "x": (9.0, 3.0, 1.5),
    "a3": (3.0, 3.0, 1.5),
    "a4": (3.0, 6.0, 1.5),
    "a5": (6.0, 3.0, 1.5),
    "a6": (6.0, 3.0, 4.5),
}
ALPHA_EDGES = ("a0 a1", "a1 a2", "a0 a2", "a1 a3", "a2 a4", "a3 a4", "a3 a5", "a5 a6", "a5 x")
BETA = {
    "b0": (0.0, 0.0, 1.0),
    "b1": (2.0, 1.5, 1.1),
    "b2": (1.0, 4.0, 1.9),
    "b3": (-2.5, 4.5, 2.0),
    "b4": (-2.0, 1.0, 1.2),
    "b5": (9.0, 9.0, 1.0),
}
BETA_EDGES = ("b0 b1", "b1 b2", "b2 b3", "b3 b4", "b4 b0")

TRAIN = (
    ("alpha", "a0 a1 a3 a5 a6", 0.1),
    ("alpha", "a2 a1 a3", 6.28),
    ("alpha", "a0 a2 a4 a3", 3.0),  # not a shortest path
    ("beta", "b0 b1 b2", 1.0),
    ("beta", "b3 b2 b1 b0", 4.5),
)
UNSEEN = (("beta", "b4 b3 b2", 0.7),)
TEST = (("alpha", "a1", 2.0), ("beta", "b2", 3.1))
WORDS = ("Go straight, then stop.", "Walk past the door and turn left.", "Leave the room; wait by the 2nd chair!")


def graph(positions: Mapping[str, Sequence[float]], edges: Sequence[str]) -> list[dict[str, Any]]:
    names = list(positions)
    joined = {frozenset(edge.split()) for edge in edges}
    return [
        {
            "image_id": name,
            "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
            "included": name != "x",
            "visible": [other != name for other in names],
            "unobstructed": [frozenset((name, other)) in joined for other in names],
            "height": 1.5,
        }
        for name, (x, y, z) in positions.items()
    ]


def items(paths: Sequence[tuple[str, str, float]], first: int) -> list[dict[str, Any]]:
    return [
        {
            "distance": 9.0,
            "scan": scan,
            "path_id": first + i,
            "path": path.split(),
            "heading": heading,
            "instructions": [f"{words} ({first + i})" for words in WORDS],
        }
        for i, (scan, path, heading) in enumerate(paths)
    ]


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, with annotations/ and connectivity/; tests that change a file copy it first."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "annotations").mkdir()
    (folder / "connectivity").mkdir()
    for name, positions, edges in (("alpha", ALPHA, ALPHA_EDGES), ("beta", BETA, BETA_EDGES)):
        (folder / "connectivity" / f"{name}_connectivity.json").write_text(json.dumps(graph(positions, edges)))
    for split, paths, first in (("train", TRAIN, 10), ("val_unseen", UNSEEN, 20), ("test", TEST, 30)):
        (folder / "annotations" / f"R2R_{split}.json").write_text(json.dumps(items(paths, first)))
    return folder
