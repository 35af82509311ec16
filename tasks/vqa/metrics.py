"""VQA accuracy: an open answer against those of ten people (Antol et al. 2015, arXiv:1505.00468, section 3).

An answer counts in full where three of the other nine people gave it, a third for each: the mean over the ten ways to
leave one person out. Answers are compared as `normalised` writes them.

`fixed` follows the rules as they are meant. `compat` follows the evaluator that visualqa.org publishes to the letter:
answers stay as they are where all ten people gave the same one; only the first 32 periods go; contractions have its
table's slips; and people who gave the same answer under the same number count as one when they are left out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Mode = Literal["compat", "fixed"]

ENOUGH = 3  # people who agree make an answer right
NUMBERS = {"none": "0", "zero": "0"} | {
    word: str(i + 1)
    for i, word in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
}
ARTICLES = frozenset(("a", "an", "the"))
SIGNS = ';/[]"{}()=+\\_->@<`,?!'
PERIODS = 32  # that the published evaluator removes, for it hands a flag over where a count is expected
BETWEEN_DIGITS = re.compile(r"\d,\d")
LOOSE_PERIOD = re.compile(r"\.(?!\d)")
ANY_SIGN = re.compile(f"[.{re.escape(SIGNS)}]")
SPACES = str.maketrans("\n\t", "  ")
# A word that lacks one apostrophe of these gets it back.
CONTRACTIONS = [
    "ain't",
    "aren't",
    "can't",
    "could've",
    "couldn't",
    "couldn't've",
    "didn't",
    "doesn't",
    "don't",
    "hadn't",
    "hadn't've",
    "hasn't",
    "haven't",
    "he'd",
    "he'd've",
    "he's",
    "how'd",
    "how'll",
    "how's",
    "i'd've",
    "i'm",
    "i've",
    "isn't",
    "it'd",
    "it'd've",
    "it'll",
    "ma'am",
    "mightn't",
    "mightn't've",
    "might've",
    "mustn't",
    "must've",
    "needn't",
    "not've",
    "o'clock",
    "oughtn't",
    "'ow's'at",
    "shan't",
    "she'd've",
    "should've",
    "shouldn't",
    "shouldn't've",
    "somebody'd've",
    "somebody'll",
    "somebody's",
    "someone'd",
    "someone'd've",
    "someone'll",
    "someone's",
    "something'd",
    "something'd've",
    "something'll",
    "that's",
    "there'd",
    "there'd've",
    "there're",
    "there's",
    "they'd",
    "they'd've",
    "they'll",
    "they're",
    "they've",
    "'twas",
    "wasn't",
    "we'd've",
    "we've",
    "weren't",
    "what'll",
    "what're",
    "what's",
    "what've",
    "when's",
    "where'd",
    "where's",
    "where've",
    "who'd",
    "who'd've",
    "who'll",
    "who's",
    "who've",
    "why'll",
    "why're",
    "why's",
    "won't",
    "would've",
    "wouldn't",
    "wouldn't've",
    "y'all",
    "y'all'll",
    "y'all'd've",
    "you'd",
    "you'd've",
    "you'll",
    "you're",
    "you've",
]


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


APOSTROPHES = {short: word for word in CONTRACTIONS for short in _without_one_apostrophe(word)}
# The published table writes "I" large, which lower-case words never meet, and has these slips.
COMPAT_APOSTROPHES = {short: word for short, word in APOSTROPHES.items() if word not in ("i'd've", "i'm", "i've")} | {
    "couldn'tve": "couldnt've",
    "somebody'd": "somebodyd",
}


def normalised(answer: str, mode: Mode = "fixed") -> str:
    """An answer as it is compared: without punctuation and articles, numbers as digits, contractions with apostrophes.

    A sign goes where it stands beside a space somewhere, or where a comma groups digits; elsewhere it becomes a space.
    """
    text = _unpunctuated(_trimmed(answer), PERIODS if mode == "compat" else 0)
    table = COMPAT_APOSTROPHES if mode == "compat" else APOSTROPHES
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(table.get(word, word) for word in words if word not in ARTICLES)


def _trimmed(answer: str) -> str:
    return answer.translate(SPACES).strip()


def _unpunctuated(text: str, periods: int) -> str:
    """periods: how many go at most, 0 for all"""
    if ANY_SIGN.search(text) is None:
        return text
    grouped = BETWEEN_DIGITS.search(text) is not None
    plain = text
    for sign in SIGNS:
        if sign in plain:
            plain = plain.replace(sign, "" if grouped or f"{sign} " in text or f" {sign}" in text else " ")
    return LOOSE_PERIOD.sub("", plain, count=periods)


@dataclass(frozen=True)
class Asked:
    """A question with the answers that people gave."""

    id: int
    answers: tuple[str, ...]
    people: tuple[
        Any, ...
    ] = ()  # who gave each, as far as the file tells: what is equal is left out together in compat
    question_type: str = ""
    answer_type: str = ""


def accuracy(predictions: Sequence[str], asked: Sequence[Asked], mode: Mode = "fixed") -> NDArray[np.float64]:
    """(items,) from 0 to 1: what share of people's agreement each prediction meets.

    Raises ValueError for an item without answers, or where the numbers of items differ.
    """
    if len(predictions) != len(asked):
        raise ValueError(f"{len(predictions)} predictions for {len(asked)} questions")
    plain = _remembered(partial(normalised, mode=mode))
    scores = np.empty(len(asked))
    for i, (prediction, item) in enumerate(zip(predictions, asked, strict=True)):
        if not item.answers:
            raise ValueError(f"question {item.id} has no answers")
        scores[i] = _score(prediction, item, mode, plain)
    return scores


def _score(prediction: str, item: Asked, mode: Mode, plain: Callable[[str], str]) -> float:
    count = len(item.answers)
    if mode == "compat":
        answers: Sequence[str] = [_trimmed(answer) for answer in item.answers]
        said = _trimmed(prediction)
        if len(set(answers)) > 1:
            answers, said = [plain(answer) for answer in answers], plain(said)
    else:
        answers, said = [plain(answer) for answer in item.answers], plain(prediction)
    agree = answers.count(said)
    if not agree:
        return 0.0
    if mode == "compat" and len(set(item.people)) < len(item.people):
        return _score_of_doubles(answers, item.people, said)
    others = agree * min(1.0, (agree - 1) / ENOUGH) + (count - agree) * min(1.0, agree / ENOUGH)
    return others / count


def _score_of_doubles(answers: Sequence[str], people: Sequence[Any], said: str) -> float:
    """As the published evaluator counts where two entries are the same in all they say."""
    entries = list(zip(answers, people, strict=True))
    scores = []
    for entry in entries:
        agree = sum(other != entry and other[0] == said for other in entries)
        scores.append(min(1.0, agree / ENOUGH))
    return sum(scores) / len(scores)


def _remembered(function: Callable[[str], str]) -> Callable[[str], str]:
    """The same, but each text is worked on once: people repeat themselves, and two million answers are few texts."""
    known: dict[str, str] = {}

    def remembered(text: str) -> str:
        found = known.get(text)
        if found is None:
            found = known[text] = function(text)
        return found

    return remembered


def by_type(scores: NDArray[np.float64], types: Sequence[str]) -> Mapping[str, tuple[float, int]]:
    """For each type its mean, and of how many, in the order of the alphabet."""
    names, places = np.unique(np.array(types, dtype=object).astype(str), return_inverse=True)
    sums, counts = np.bincount(places, weights=scores), np.bincount(places)
    return {str(name): (float(sums[i] / counts[i]), int(counts[i])) for i, name in enumerate(names)}


def calibration_error(chances: NDArray[np.float64], right: NDArray[np.float64], bins: int = 15) -> float:
    """How far confidence is from accuracy: the mean distance over bins of equal width (Guo et al. 2017, equation 5).

    chances (items,): how sure an answer was; right (items,): how right it was, 0 to 1.
    """
    if not len(chances):
        raise ValueError("there are no answers, so nothing can be said of their confidence")
    place = np.minimum((chances * bins).astype(np.int64), bins - 1)
    sure, true = np.bincount(place, weights=chances), np.bincount(place, weights=right)
    return float(np.abs(sure - true).sum() / len(chances))


def consistency(wordings: Sequence[str], answers: Sequence[str]) -> float | None:
    """The share of questions asked in several wordings that got one answer in all of them; None where none was.

    wordings: for each item what is the same for all wordings of one question, empty where there is but one.
    """
    said: dict[str, list[str]] = {}
    for name, answer in zip(wordings, answers, strict=True):
        if name:
            said.setdefault(name, []).append(answer)
    several = [each for each in said.values() if len(each) > 1]
    return float(np.mean([len(set(each)) == 1 for each in several])) if several else None
