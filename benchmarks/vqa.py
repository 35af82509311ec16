"""Visual question answering: scoring many answers beside the same rules written plainly, and pictures a second in training.

    vlkit bench vqa [--questions 200000] [--pictures 2000] [--steps 30]

Questions are made here: ten people answer each from a small world of answers, spelt in several ways. The plain scorer does
what the published evaluator does: it goes question by question and answer by answer, and brings each text into the common
spelling as it meets it. Training is that of configs/house_vqa.toml, from pixels of two sizes and from grid features as wide
as ResNet-18's (7x7 patches of 512), on pictures of noise: what is timed does not depend on what they show.
"""

import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vlkit.batches import Batches, moved, seed_everything
from vlkit.config import load
from vlkit.image_sets import ImageSet
from vlkit.tasks.vqa.examples import Example, Examples
from vlkit.tasks.vqa.metrics import Asked, Mode, accuracy
from vlkit.tasks.vqa.settings import Config, built_model
from vlkit.tasks.vqa.training import Answerable, answer_loss, scored
from vlkit.text import Tokenizer
from vlkit.train import Step

ENOUGH = 3
NAMES = ("cat", "dog", "bus", "tree", "table", "umbrella", "skate board", "man", "woman", "frisbee", "pizza", "kite")
WORDS = ("what", "colour", "is", "the", "how", "many", "left", "of", "next", "to", *NAMES)
SIGNS = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
DIGITS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "ten": "10",
}
SHORT = {"dont": "don't", "isnt": "isn't", "cant": "can't", "wont": "won't", "im": "I'm"}  # no text here has one
WARM_UP = 3
MODES: tuple[Mode, ...] = ("fixed", "compat")


@dataclass(frozen=True)
class Options:
    """Time scoring of answers, and training of a model that answers."""

    questions: int = 200_000
    """answers that are scored"""
    pictures: int = 2000
    """pictures in training, with six questions each"""
    steps: int = 30
    """training steps that are timed, beside three that are not"""
    repeats: int = 3
    """times that each is run; the median counts"""
    threads: int | None = None
    """CPU threads; all cores where it is not given"""
    seed: int = 0
    """of questions and pictures"""


def main(arguments: list[str]) -> int:
    """Prints the times; 1 where the two scorers do not agree."""
    options = load(Options, None, arguments, prog="vlkit bench vqa")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    agreed = scoring(options)
    training(options)
    return 0 if agreed else 1


# Scoring


def scoring(options: Options) -> bool:
    """Prints seconds for all answers, vlkit's and plain; whether the two agree."""
    asked, said = questions(options.questions, random.Random(options.seed))
    agreed = True
    print(
        f"{len(said)} answers scored against ten people each, seconds (vlkit: median of {options.repeats}; plainly: once)"
    )
    for mode in MODES:
        fast = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            own = accuracy(said, asked, mode)
            fast.append(time.perf_counter() - start)
        start = time.perf_counter()
        plain = plain_scores(said, asked, mode)
        slow, quick = time.perf_counter() - start, statistics.median(fast)
        difference = float(np.abs(own - np.array(plain)).max())
        print(
            f"  {mode:7} vlkit {quick:6.2f}  plainly {slow:7.2f}  {slow / quick:5.1f} times as fast, largest difference "
            f"{difference:.1e}"
        )
        agreed &= difference < 1e-9
    return agreed


def questions(count: int, rng: random.Random) -> tuple[list[Asked], list[str]]:
    """Questions with ten answers each, and an answer to each that is right now and then."""

    def spelt(answer: str) -> str:
        return rng.choice(
            (answer, answer, answer, f"a {answer}", f"{answer}.", answer.upper(), f"the {answer}!", f"{answer}s")
        )

    asked, said = [], []
    for i in range(count):
        few = [*rng.sample(NAMES, 3), rng.choice(("yes", "no")), rng.choice(("two", "1,000", "3.5"))]
        weights = [rng.random() ** 3 for _ in few]
        answers = tuple(spelt(each) for each in rng.choices(few, weights, k=10))
        asked.append(Asked(i, answers, tuple(range(10))))
        said.append(spelt(rng.choice(few)))
    return asked, said


def plain_scores(said: list[str], asked: list[Asked], mode: Mode) -> list[float]:
    """Each answer's accuracy, by the rules and step by step."""
    scores = []
    for answer, question in zip(said, asked, strict=True):
        people = [each.replace("\n", " ").replace("\t", " ").strip() for each in question.answers]
        own = answer.replace("\n", " ").replace("\t", " ").strip()
        if mode == "fixed" or len(set(people)) > 1:
            for i, each in enumerate(people):
                people[i] = plain_words(plain_signs(each, mode))
            own = plain_words(plain_signs(own, mode))
        accuracies = []
        for i in range(len(people)):
            others = [each for j, each in enumerate(people) if j != i]
            matching = [each for each in others if each == own]
            accuracies.append(min(1.0, len(matching) / ENOUGH))
        scores.append(sum(accuracies) / len(accuracies))
    return scores


def plain_signs(text: str, mode: Mode) -> str:
    """Without punctuation, sign by sign."""
    result = text
    for sign in SIGNS:
        if f"{sign} " in text or f" {sign}" in text or re.search(r"(\d)(,)(\d)", text) is not None:
            result = result.replace(sign, "")
        else:
            result = result.replace(sign, " ")
    return re.sub(r"(?!<=\d)(\.)(?!\d)", "", result, count=32 if mode == "compat" else 0)


def plain_words(text: str) -> str:
    """Numbers as digits, no articles, word by word; none of the texts here has a contraction."""
    words = []
    for word in text.lower().split():
        word = DIGITS.get(word, word)
        if word not in ("a", "an", "the"):
            words.append(word)
    for i, word in enumerate(words):
        if word in SHORT:
            words[i] = SHORT[word]
    return " ".join(words)


def timed(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# Training


def training(options: Options) -> None:
    """Prints pictures and questions a second, and where the time goes."""
    print(f"training, {torch.get_num_threads()} threads: pictures/s, questions/s; evaluation: questions/s (median)")
    settings = Config(data=Path())
    for name, size, features in (
        ("pixels 64x64", 64, False),
        ("pixels 128x128", 128, False),
        ("features 7x7x512", 0, True),
    ):
        asked = noise(options, size, features)
        rows = [one_run(replace(settings, size=size or 64), asked, options) for _ in range(options.repeats)]
        pictures, per_second, data, forward, backward, judged = np.median(np.array(rows), axis=0)
        total = data + forward + backward
        print(
            f"  {name:17} {pictures:7.0f} {per_second:7.0f}   data {data / total:4.0%}  forward {forward / total:4.0%}  "
            f"backward and optimizer {backward / total:4.0%}   evaluation {judged:7.0f}"
        )


def noise(options: Options, size: int, features: bool) -> Answerable:
    """Pictures of noise with six questions each, four choices a question."""
    rng = random.Random(options.seed)
    generator = np.random.default_rng(options.seed)
    examples = []
    for i in range(6 * options.pictures):
        choices = tuple(rng.sample(NAMES, 4))
        text = " ".join(rng.choices(WORDS, k=rng.randint(4, 9))) + "?"
        examples.append(Example(str(i), str(i // 6), text, choices, rng.randrange(4), (choices[0],)))
    names = tuple(str(i) for i in range(options.pictures))
    if features:
        values = generator.standard_normal((options.pictures, 49, 512)).astype(np.float16)
        images = ImageSet(names, values, (7, 7), {})
    else:
        images = ImageSet(names, generator.integers(0, 256, (options.pictures, size, size, 3), np.uint8), None, {})
    tokenizer = Tokenizer.train(example.text for example in examples)
    return Answerable(Examples("noise", (), tuple(examples), Path()), images, tokenizer, 30, ())


def one_run(settings: Config, asked: Answerable, options: Options) -> list[float]:
    """Pictures and questions a second of training, its parts in seconds, questions a second of evaluation."""
    seed_everything(options.seed)
    shape = asked.images.shape
    width = asked.images.values.shape[2] if shape else 0
    model = built_model(settings, vocabulary=asked.tokenizer.size, answers=0, feature_dim=width, shape=shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    own = asked.of_image
    batches = Batches(
        len(own), settings.batch_size, lambda places: asked.batch(np.concatenate([own[i] for i in places]))
    )
    stream = batches.stream(0, steps=options.steps + WARM_UP)
    device = torch.device("cpu")
    parts, pictures, questions_met = [0.0, 0.0, 0.0], 0, 0
    for index in range(options.steps + WARM_UP):
        start = time.perf_counter()
        batch = moved(next(stream), device)
        loaded = time.perf_counter()
        loss, _ = answer_loss(model, batch, Step(index, options.steps, 0, device))
        through = time.perf_counter()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if index >= WARM_UP:
            for i, seconds in enumerate((loaded - start, through - loaded, time.perf_counter() - through)):
                parts[i] += seconds
            pictures += len(batch.images)
            questions_met += len(batch.right)
    model.eval()
    few = Answerable(
        replace(asked.source, examples=asked.examples[:3000]), asked.images, asked.tokenizer, asked.max_words, ()
    )
    seconds = timed(lambda: scored(model, few))
    return [pictures / sum(parts), questions_met / sum(parts), *parts, len(few.examples) / seconds]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
