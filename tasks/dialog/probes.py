"""What ranks options without picture or past: priors, blind arms, and pasts that are somebody else's."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from vlkit.tasks.dialog.data import Dialog, Dialogs, Turn
from vlkit.tasks.dialog.settings import ARMS, Blank


@dataclass(frozen=True)
class Probe:
    """Something taken away from a model that had it in training."""

    name: str
    blank: tuple[Blank, ...] = ()
    shuffled: bool = False  # whether each dialog has another one's past


TEST_TIME = (
    Probe("no image", ARMS["no_image"]),
    Probe("no history", ARMS["no_history"]),
    Probe("shuffled history", shuffled=True),
    Probe("caption only", ARMS["caption_only"]),
    Probe("question only", ARMS["question_only"]),
)


def shuffled(dialogs: Sequence[Dialog]) -> dict[int, int]:
    """For each dialog another one, the same each time; itself where there is no other."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(dialogs)).tolist()
    return dict(zip(order, np.roll(order, 1).tolist(), strict=True))


@dataclass(frozen=True)
class Prior:
    """How often each text is the answer in training: anywhere, or behind the same question."""

    counts: dict[Hashable, Counter[str]]
    key: Callable[[Turn], Hashable]

    def scores(self, dialogs: Dialogs) -> list[np.ndarray]:
        """Of each dialog (rounds, options), -inf where there is none"""
        anywhere = self.counts[None]
        total = max(anywhere.values(), default=0) + 1
        found = []
        for dialog in dialogs.dialogs:
            own = np.full(dialog.options.shape, -np.inf)
            for i, turn in enumerate(dialog.turns):
                behind = self.counts.get(self.key(turn), Counter())
                for j, place in enumerate(dialog.options[i].tolist()):
                    if place >= 0:
                        text = dialogs.answers[place]
                        own[i, j] = behind[text] + anywhere[text] / total  # what is common elsewhere decides ties
            found.append(own)
        return found


def answer_prior(train: Dialogs) -> Prior:
    """How often each text is the answer."""
    return _counted(train, lambda turn: None)


def question_prior(train: Dialogs) -> Prior:
    """How often each text is the answer to the same question."""
    return _counted(train, lambda turn: tuple(turn.question.lower().split()))


def _counted(train: Dialogs, key: Callable[[Turn], Hashable]) -> Prior:
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for dialog in train.dialogs:
        for turn in dialog.turns:
            if turn.answer is not None:
                for each in {key(turn), None}:
                    counts[each][turn.answer] += 1
    counts[None] += Counter()
    return Prior(dict(counts), key)
