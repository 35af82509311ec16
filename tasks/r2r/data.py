"""What a navigator learns from: the splits of a benchmark in one world, and left and right exchanged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vlkit.envs.features import open_features
from vlkit.envs.graph import World, episode_tables
from vlkit.envs.graph_tables import graph_tables
from vlkit.envs.r2r import Episode, Scan, annotations_file, read_episodes, read_scans
from vlkit.errors import UserError
from vlkit.tasks.r2r.model import Observation
from vlkit.tasks.r2r.splits import split_name
from vlkit.text import Tokenizer

MIRRORED = (("left", "right"), ("clockwise", "counterclockwise"), ("leftmost", "rightmost"), ("lefthand", "righthand"))


@dataclass(frozen=True)
class Splits:
    """Episodes by split, and the graphs of all of them."""

    episodes: dict[str, Sequence[Episode]]
    scans: Mapping[str, Scan]
    files: Mapping[str, Path]  # where each split was read
    folder: Path  # of the graphs

    def worlds(
        self,
        tokenizer: Tokenizer,
        *,
        features: str | Path | None = None,
        max_words: int = 80,
        device: torch.device | str = "cpu",
    ) -> dict[str, World]:
        """One world a split; graphs and features are shared. UserError where a viewpoint has no features."""
        tables = graph_tables(self.scans).to(device)
        opened = None if features is None else open_features(features)
        if opened is not None:
            opened.rows(tables.index)  # names the panoramas that are missing, before anything runs
        return {
            split: World(
                tables=tables,
                episodes=episode_tables(episodes, tables, tokenizer, max_words).to(device),
                tokenizer=tokenizer,
                scans=self.scans,
                features=opened,
            )
            for split, episodes in self.episodes.items()
        }


def read_splits(annotations: str | Path, connectivity: str | Path, splits: Sequence[str]) -> Splits:
    """Reads the named splits of a folder of annotations, or one file for the one split named; UserError where it is of another."""
    if len(splits) > 1 and Path(annotations).is_file():
        raise UserError(f"{annotations} is one file, but the splits {', '.join(splits)} are wanted; give its folder")
    files = {split: annotations_file(annotations, split) for split in splits}
    if Path(annotations).is_file():
        for split in splits:
            split_name(Path(annotations), split)
    episodes: dict[str, Sequence[Episode]] = {split: read_episodes(file) for split, file in files.items()}
    names = {episode.scan for each in episodes.values() for episode in each}
    scans = read_scans(connectivity, names)
    return Splits(episodes=episodes, scans=scans, files=files, folder=Path(connectivity))


class Mirror:
    """Exchanges left and right in what some of the walks see and read.

    Geometry is symmetric and so is the language about it, so a mirrored walk is a new one: "turn left" to a viewpoint
    on the left becomes "turn right" to one on the right. ("Right before the door" becomes "left before the door",
    which is rare.) `exchanged` (vocabulary,) int64 holds the id that each word's becomes. Raises UserError for a
    tokenizer that does not have left and right among its words: geometry alone must not be mirrored.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        index = {word: i for i, word in enumerate(tokenizer.words)}
        self.exchanged = torch.arange(tokenizer.size)
        for one, other in MIRRORED:
            if one in index and other in index:
                self.exchanged[[index[one], index[other]]] = torch.tensor([index[other], index[one]])
            elif one == "left":
                raise UserError(
                    "walks cannot be mirrored, for the tokenizer has no words 'left' and 'right' to exchange; set "
                    "mirror to 0"
                )

    def __call__(self, observation: Observation, flipped: Tensor) -> Observation:
        """The panoramic observation, mirrored where flipped (envs,) is true; pictures, which cannot be, are refused."""
        if "candidate_views" in observation:
            raise ValueError("image features cannot be mirrored; mirror walks without them")
        sign = torch.where(flipped, -1.0, 1.0)[:, None]
        words, moved = observation["instruction"], observation["moved"]
        return {
            **observation,
            "instruction": torch.where(flipped[:, None], self.exchanged.to(words.device)[words], words),
            "heading": observation["heading"] * sign[:, 0],
            "moved": torch.cat([moved[:, :1] * sign, moved[:, 1:]], dim=1),
            "candidate_heading": observation["candidate_heading"] * sign,
        }
