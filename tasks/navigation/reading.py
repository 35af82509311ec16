"""Reading before walking: the instruction encoder learns to say what is told, from the text alone.

A step costs a hundredth of one with frames, and who looks for "the easy chair" need not learn from walks what that is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlkit.attention import masked_softmax
from vlkit.batches import Batches
from vlkit.encoders.text import TextStates
from vlkit.envs.episodes import Episode
from vlkit.processes import processes
from vlkit.tasks.navigation.data import Mirror, World
from vlkit.tasks.navigation.rollouts import cut_to
from vlkit.tasks.navigation.settings import Config, early_options
from vlkit.train import Step, fit

MEANING = "meaning"  # where generated episodes have, in `info`, what their text tells: a value for each field
NOTHING = ""  # what a field holds of which nothing is told
MIRRORED = {"left": "right", "right": "left"}
TEXTS = 64  # a step


class Reader(nn.Module):
    """A question to the words for each field, and a layer that tells its value from the answer."""

    def __init__(self, text: nn.Module, fields: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        dim = int(getattr(text, "dim"))  # noqa: B009 - nn.Module has it by contract, not by type
        self.text = text
        self.ask = nn.Linear(dim, len(fields))
        self.say = nn.ModuleList(nn.Linear(dim, len(values)) for values in fields.values())

    def forward(self, words: Tensor, mask: Tensor) -> list[Tensor]:
        """(texts, words) ids and mask -> for each field the scores of its values (texts, values)"""
        states = cast(TextStates, self.text(words, mask)).states
        weights = masked_softmax(self.ask(states).transpose(1, 2), mask[:, None])
        answers = weights.to(states.dtype) @ states
        return [say(answers[:, field]).float() for field, say in enumerate(self.say)]


def meanings(episodes: tuple[Episode, ...]) -> tuple[dict[str, tuple[str, ...]], Tensor]:
    """Fields with the values that occur, and (episodes, fields) int64 which; no fields where no episode has any."""
    every = [cast(Mapping[str, str], (episode.info or {}).get(MEANING) or {}) for episode in episodes]
    names = sorted({name for each in every for name in each})
    fields = {name: tuple(sorted({NOTHING, *(each.get(name, NOTHING) for each in every)})) for name in names}
    places = {name: {value: i for i, value in enumerate(values)} for name, values in fields.items()}
    rows = [[places[name][each.get(name, NOTHING)] for name in names] for each in every]
    return fields, torch.tensor(rows, dtype=torch.int64).reshape(len(every), len(names))


def mirrored(fields: Mapping[str, tuple[str, ...]]) -> list[Tensor]:
    """For each field, (values,) int64: which value stands for each where left and right are exchanged"""
    return [
        torch.tensor(
            [
                values.index(other) if (other := MIRRORED.get(each, each)) in values else i
                for i, each in enumerate(values)
            ]
        )
        for values in fields.values()
    ]


def learn_to_read(text: nn.Module, settings: Config, walked: World, folder: Path) -> None:
    """Trains the instruction encoder in place, or takes up what `folder` holds; does nothing for texts without a meaning."""
    fields, told = meanings(walked.episodes)
    if not fields:
        return
    mirror = Mirror(walked.tokenizer) if settings.mirror else None
    other = mirrored(fields)

    def loss(model: Reader, rows: Tensor, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = rows.cpu()
        words, mask, values = walked.words[rows], walked.mask[rows], told[rows]
        longest = cut_to(mask)
        words, mask = words[:, :longest], mask[:, :longest]
        if mirror is not None:
            flipped = torch.rand(len(rows)) < settings.mirror
            words = torch.where(flipped[:, None], mirror.words[words], words)
            exchanged = torch.stack([table[column] for table, column in zip(other, values.T, strict=True)], dim=1)
            values = torch.where(flipped[:, None], exchanged, values)
        words, mask, values = (each.to(step.device) for each in (words, mask, values))
        said = model(words, mask)
        each = [F.cross_entropy(scores, right) for scores, right in zip(said, values.T, strict=True)]
        right = [(scores.argmax(dim=1) == value).float().mean() for scores, value in zip(said, values.T, strict=True)]
        return torch.stack(each).mean(), dict(zip(fields, right, strict=True))

    device = walked.env.device
    options = early_options(settings, steps=settings.reading_steps, learning_rate=2e-3, device=device)
    batches: Batches[Tensor] = Batches(len(walked.episodes), -(-TEXTS // processes()) * processes(), torch.tensor)
    config = {"fields": {name: list(values) for name, values in fields.items()}}
    fit(Reader(text, fields), loss, batches, options=options, folder=folder, config=config)
