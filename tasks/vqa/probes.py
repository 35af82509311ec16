"""What remains of a score without looking: priors that are counted in training, inputs taken away from a trained model."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from vlkit.tasks.vqa.examples import Example, hash_of
from vlkit.tasks.vqa.metrics import normalised

LEADING_WORDS = 2  # of a question, behind which an open answer is guessed


@dataclass(frozen=True)
class Probe:
    """Something taken away from a trained model."""

    name: str
    blank: tuple[str, ...] = ()
    exchanged: bool = False  # whether each question meets another one's picture


TEST_TIME = (
    Probe("shuffled image", exchanged=True),
    Probe("no image", blank=("image",)),
    Probe("no question", blank=("question",)),
)
BLIND = ("answer prior", "question prior", "question only (trained)", "answer only (trained)")  # none of these looks


def exchanged(image_rows: np.ndarray) -> np.ndarray:
    """(questions,) places of pictures -> of another picture for each, the same one for questions about the same"""
    own = np.unique(image_rows)
    order = np.random.Generator(np.random.PCG64(0)).permutation(own)
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return np.array([other[row] for row in image_rows.tolist()], np.int64)


@dataclass(frozen=True)
class Prior:
    """The answer that is right most often in training: anywhere, or behind the same question."""

    right: dict[Hashable, Counter[str]]
    shown: dict[Hashable, Counter[str]]
    key: Callable[[Example], Hashable]

    def answer(self, example: Example) -> str:
        """What it says; of choices the one that is right most often where it is shown."""
        for key in (self.key(example), None):
            if key in self.right:
                right, shown = self.right[key], self.shown[key]
                if not example.choices:
                    return right.most_common(1)[0][0]
                rates = [(right[each] + 1) / (shown[each] + len(example.choices)) for each in example.choices]
                best = [i for i, rate in enumerate(rates) if rate == max(rates)]
                # Ties are not broken by place: files have the right choice first.
                return min((example.choices[i] for i in best), key=lambda each: (hash_of(example.id, each), each))
        return ""


def answer_prior(train: Sequence[Example]) -> Prior:
    """Which answer is right most often."""
    return _counted(train, lambda example: None)


def question_prior(train: Sequence[Example]) -> Prior:
    """Which answer is right most often behind the same question; behind its first words where answers are open."""

    def key(example: Example) -> Hashable:
        words = tuple(example.text.lower().split())
        return words if example.choices else words[:LEADING_WORDS]

    return _counted(train, key)


def _counted(train: Sequence[Example], key: Callable[[Example], Hashable]) -> Prior:
    right: dict[Hashable, Counter[str]] = defaultdict(Counter)
    shown: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for example in train:
        if not example.told:
            continue
        for each in {key(example), None}:
            if example.right is not None:
                right[each][example.choices[example.right]] += 1
            elif example.answers:
                right[each].update(normalised(answer) for answer in example.answers)
            shown[each].update(example.choices)
    return Prior(dict(right), dict(shown), key)
