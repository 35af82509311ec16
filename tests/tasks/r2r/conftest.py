"""Three small buildings in R2R's file formats, and agents of 16 numbers to walk in them. Metres; north is up.

    house                h6          h5          farm, a ring       mill, of the splits val_unseen and test
                         |           |           f1 -- f2           m0 -- m1 -- m2
              h0 -- h1 -- h2 -- h3 -- h4 -- h7   |     |                        |
                                                 f0 -- f3           m5 -- m4 -- m3

Neighbours are 2 m apart in the house, and h7 lies 2 m higher; 3 m in the farm; in the mill 2 m and 2.5 m. `x`, beside h1,
is excluded.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vlkit.encoders.text import text_encoder
from vlkit.envs.graph import World
from vlkit.tasks.r2r.data import Splits, read_splits
from vlkit.tasks.r2r.model import PanoramicAgent, Seq2SeqAgent
from vlkit.text import Tokenizer

Places = Mapping[str, tuple[float, float, float]]
Paths = Sequence[tuple[str, str, float, tuple[str, ...]]]  # scan, viewpoints, heading, instructions

HOUSE = {f"h{i}": (2.0 * i, 0.0, 0.0) for i in range(5)} | {
    "h5": (8.0, 2.0, 0.0),
    "h6": (4.0, 2.0, 0.0),
    "h7": (10.0, 0.0, 2.0),
    "x": (2.0, -1.0, 0.0),
}
FARM = {"f0": (0.0, 0.0, 0.0), "f1": (0.0, 3.0, 0.0), "f2": (3.0, 3.0, 0.5), "f3": (3.0, 0.0, 0.0)}
MILL = {
    "m0": (0.0, 0.0, 0.0),
    "m1": (2.0, 0.0, 0.0),
    "m2": (4.0, 0.0, 0.0),
    "m3": (4.0, -2.5, 0.0),
    "m4": (2.0, -2.5, 0.0),
    "m5": (0.0, -2.5, 0.0),
}
BUILDINGS: dict[str, tuple[Places, str]] = {
    "house": (HOUSE, "h0 h1, h1 h2, h2 h3, h3 h4, h4 h5, h2 h6, h4 h7, h1 x"),
    "farm": (FARM, "f0 f1, f1 f2, f2 f3, f3 f0"),
    "mill": (MILL, "m0 m1, m1 m2, m2 m3, m3 m4, m4 m5"),
}
EAST = 1.5708
SPLITS: dict[str, Paths] = {
    "train": (
        ("house", "h0 h1 h2 h6", EAST, ("Go straight, then turn left.", "Walk past the door and turn left.")),
        (
            "house",
            "h0 h1 h2 h3 h4 h5",
            EAST,
            ("Go straight to the end of the long hall and turn left.", "Go on, left!"),
        ),
        ("house", "h6 h2 h3", 3.1416, ("Turn left and stop.", "Walk out, go left and wait.", "Left.")),
        ("farm", "f0 f1 f2", 0.0, ("Walk straight, then turn right and stop by the door.", "Straight and right.")),
        ("farm", "f0 f3", 0.3, ("Turn right and walk straight.",)),
    ),
    "val_seen": (("house", "h5 h4 h3 h2", 3.0, ("Go straight, turn right at the door and walk on.",)),),
    "val_unseen": (
        ("mill", "m0 m1 m2 m3 m4 m5", EAST, ("Go on and turn right, twice.", "Walk past two doors.")),
        ("mill", "m4 m3 m2", 2.0, ("Turn left and wait.",)),
    ),
    "test": (("mill", "m1", 0.5, ("Turn left and walk.",)), ("house", "h3", 2.0, ("Turn right and walk.",))),
}

WriteWorld = Callable[..., Path]
NewAgent = Callable[..., PanoramicAgent | Seq2SeqAgent]


def graph(places: Places, edges: str) -> list[dict[str, Any]]:
    joined = {frozenset(edge.split()) for edge in edges.split(",")}
    return [
        {
            "image_id": name,
            "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
            "included": name != "x",
            "visible": [other != name for other in places],
            "unobstructed": [frozenset((name, other)) in joined for other in places],
            "height": 1.5,
        }
        for name, (x, y, z) in places.items()
    ]


@pytest.fixture(scope="session")
def write_world() -> WriteWorld:
    """(folder, splits, buildings) -> the folder, with annotations/ and connectivity/"""

    def write(folder: Path, splits: Mapping[str, Paths], buildings: Mapping[str, tuple[Places, str]]) -> Path:
        for name in ("annotations", "connectivity"):
            (folder / name).mkdir()
        for name, (places, edges) in buildings.items():
            (folder / "connectivity" / f"{name}_connectivity.json").write_text(json.dumps(graph(places, edges)))
        path_id = 0
        for split, paths in splits.items():
            items = []
            for scan, path, heading, instructions in paths:
                path_id += 1
                items.append(
                    {
                        "path_id": path_id,
                        "scan": scan,
                        "path": path.split(),
                        "heading": heading,
                        "instructions": instructions,
                    }
                )
            (folder / "annotations" / f"R2R_{split}.json").write_text(json.dumps(items))
        return folder

    return write


@pytest.fixture(scope="session")
def village(tmp_path_factory: pytest.TempPathFactory, write_world: WriteWorld) -> Path:
    """The folder of the three buildings; it is only read."""
    return write_world(tmp_path_factory.mktemp("village"), SPLITS, BUILDINGS)


@pytest.fixture(scope="session")
def splits(village: Path) -> Splits:
    return read_splits(village / "annotations", village / "connectivity", list(SPLITS))


@pytest.fixture(scope="session")
def tokenizer(splits: Splits) -> Tokenizer:
    return Tokenizer.train([episode.instruction for episode in splits.episodes["train"]])


@pytest.fixture(scope="session")
def worlds(splits: Splits, tokenizer: Tokenizer) -> dict[str, World]:
    return splits.worlds(tokenizer)


@pytest.fixture(scope="session")
def new_agent(tokenizer: Tokenizer) -> NewAgent:
    """(kind, seed, text encoder's name, options of the agent) -> a small agent in evaluation mode"""

    def new(kind: str = "panoramic", seed: int = 0, text: str = "bilstm", **options: Any) -> Any:
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {} if ":" in text else {"dim": 16, "word_dim": 16}
        encoder = text_encoder(text, tokenizer.size, **sizes)
        if kind == "panoramic":
            return PanoramicAgent(encoder, dim=16, geometry_dim=16, view_dim=8, **options).eval()
        return Seq2SeqAgent(encoder, dim=16, action_dim=8, **options).eval()

    return new


@pytest.fixture(scope="session")
def path_of() -> Callable[[Iterable[tuple[str, float, float]]], str]:
    """A trajectory -> "h0 h1 h2", without repetitions"""

    def path(trajectory: Iterable[tuple[str, float, float]]) -> str:
        names = [viewpoint for viewpoint, _, _ in trajectory]
        return " ".join(name for i, name in enumerate(names) if i == 0 or name != names[i - 1])

    return path
