"""Visual dialog: ranking all of VisDial's val beside the architecture written plainly, metrics, training, and a chat's answer.

    vlkit bench dialog [--dialogs 2064] [--plain-rounds 10]

Dialogs are made here, of VisDial v1.0 val's size: ten rounds, a hundred options a round, from a pool of as many answers as val
has (34 821), on pictures of noise: what is timed does not depend on what they show. The model is late fusion with the
discriminative decoder, at its default widths, untrained. Its plain peers have the same weights and give the same scores:
`options one by one` reads each round's history, question and picture anew, and each of its options by itself; `options of a
round at once` reads these together, as public code does.
"""

import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vlkit.batches import Batches, seed_everything
from vlkit.config import load
from vlkit.encoders.text import TextStates
from vlkit.image_sets import ImageSet
from vlkit.tasks.dialog.data import OPTIONS, ROUNDS, Dialog, Dialogs, Turn
from vlkit.tasks.dialog.evaluation import Trained
from vlkit.tasks.dialog.metrics import Mode, ndcg, retrieval, right_ranks
from vlkit.tasks.dialog.model import Batch, DialogModel, Discriminative, Past
from vlkit.tasks.dialog.settings import Config, built_model
from vlkit.tasks.dialog.state import DialogState, Talker
from vlkit.tasks.dialog.training import Reading, Talks, answer_loss, ranked
from vlkit.text import Tokenizer
from vlkit.train import Step

POOL = 34_821  # different answers in VisDial v1.0 val
VOCABULARY = 8_000
WARM_UP = 2
MODES: tuple[Mode, ...] = ("fixed", "compat")
CHATS = 20


@dataclass(frozen=True)
class Options:
    """Time ranking, metrics, training and chat."""

    dialogs: int = 2064
    """dialogs that are ranked; VisDial v1.0 val has 2064"""
    plain_rounds: int = 10
    """rounds that the plain peers rank"""
    steps: int = 10
    """training steps that are timed, beside two that are not"""
    repeats: int = 3
    """times that metrics are taken; the median counts"""
    threads: int | None = None
    """CPU threads; all cores where it is not given"""
    seed: int = 0
    """of dialogs and pictures"""


def main(arguments: list[str]) -> int:
    """Prints the times; 1 where vlkit and its plain peers do not agree."""
    options = load(Options, None, arguments, prog="vlkit bench dialog")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    settings = Config(encoder="lf", device="cpu")
    asked = made(options, settings)
    model = built_model(settings, vocabulary=asked.tokenizer.size).eval()
    agreed = ranking(options, model, asked)
    agreed &= metrics(options)
    training(options, settings, model, asked)
    chat(settings, asked)
    return 0 if agreed else 1


def made(options: Options, settings: Config) -> Talks:
    """Dialogs of val's size with pictures of noise."""
    rng = random.Random(options.seed)
    words = [f"w{i}" for i in range(VOCABULARY)]

    def text(low: int, high: int) -> str:
        # Common words are common, as in any language.
        places = [
            min(int(math.exp(rng.random() * math.log(VOCABULARY))), VOCABULARY - 1)
            for _ in range(rng.randint(low, high))
        ]
        return " ".join(words[place] for place in places)

    answers = [text(1, 5) for _ in range(POOL)]
    dialogs = []
    for number in range(options.dialogs):
        table = np.stack(
            [
                np.random.Generator(np.random.PCG64(number * ROUNDS + i)).choice(POOL, OPTIONS, replace=False)
                for i in range(ROUNDS)
            ]
        )
        right = np.array([rng.randrange(OPTIONS) for _ in range(ROUNDS)], np.int16)
        turns = tuple(Turn(text(4, 8), answers[table[i, right[i]]]) for i in range(ROUNDS))
        dialogs.append(Dialog(str(number), str(number), text(8, 14), turns, table.astype(np.int32), right))
    noise = np.random.Generator(np.random.PCG64(options.seed)).integers(
        0, 256, (options.dialogs, settings.size, settings.size, 3), np.uint8
    )
    names = tuple(str(i) for i in range(options.dialogs))
    source = Dialogs("made", (), tuple(dialogs), tuple(answers), Path())
    return Talks(source, ImageSet(names, noise, None, {}), Tokenizer.train([" ".join(words)]), Reading.of(settings))


# Ranking


@torch.inference_mode()
def ranking(options: Options, model: DialogModel, asked: Talks) -> bool:
    """Prints rounds a second, vlkit's and plainly; whether the scores agree."""
    start = time.perf_counter()
    scores = ranked(model, asked)
    quick = asked.source.rounds / (time.perf_counter() - start)
    print(
        f"{asked.source.rounds} rounds of {OPTIONS} options ranked, late fusion, discriminative: {quick:7.0f} rounds/s"
    )
    agreed = True
    peers: tuple[tuple[str, Callable[[DialogModel, Talks, int, int], Tensor]], ...] = (
        ("options one by one", one_by_one),
        ("options of a round at once", at_once),
    )
    for name, peer in peers:
        rounds = [(i % len(asked.dialogs), i % ROUNDS) for i in range(options.plain_rounds)]
        start = time.perf_counter()
        plain = [peer(model, asked, dialog, turn) for dialog, turn in rounds]
        slow = len(rounds) / (time.perf_counter() - start)
        difference = max(
            float(np.abs(own.numpy() - scores[dialog][turn]).max())
            for own, (dialog, turn) in zip(plain, rounds, strict=True)
        )
        print(
            f"  plainly, {name:27} {slow:7.1f} rounds/s, {quick / slow:6.1f} times as fast, largest difference {difference:.1e}"
        )
        agreed &= difference < 1e-3
    return agreed


def one_by_one(model: DialogModel, asked: Talks, dialog: int, turn: int) -> Tensor:
    """A round's scores: each option by itself, beside everything else anew."""
    decoder = cast(Discriminative, model.decoder)
    found = []
    for place in asked.dialogs[dialog].options[turn].tolist():
        joint = plainly_encoded(model, asked, dialog, turn)
        words, mask = asked.tokenizer.pad_batch([asked.answers[place]], asked.reading.max_words)
        found.append((decoder.joint(joint) * decoder.vectors(words, mask)).sum())
    return torch.stack(found)


def at_once(model: DialogModel, asked: Talks, dialog: int, turn: int) -> Tensor:
    """A round's scores: its options together."""
    decoder = cast(Discriminative, model.decoder)
    joint = plainly_encoded(model, asked, dialog, turn)
    rows = [asked.answers[place] for place in asked.dialogs[dialog].options[turn].tolist()]
    words, mask = asked.tokenizer.pad_batch(rows, asked.reading.max_words)
    return cast(Tensor, (decoder.vectors(words, mask) @ decoder.joint(joint)[0]).float())


def plainly_encoded(model: DialogModel, asked: Talks, dialog: int, turn: int) -> Tensor:
    """(1, joint_dim) of one round: its picture, its question and its whole history."""
    caption, turns = asked.words[dialog]
    history = [*caption, *(word for question, answer in turns[:turn] for word in (*question, *answer))]
    read = cast(TextStates, model.told(*asked.tokenizer.pad_batch([history], asked.reading.max_history)))
    words, mask = asked.tokenizer.pad_batch([turns[turn][0]], asked.reading.max_words)
    question = cast(TextStates, model.text(words, mask))
    grid = model.see(asked.images.read(asked.image_rows[[dialog]]))
    return model.meet(question, mask, Past(history=read.pooled), grid, torch.zeros(1, dtype=torch.long)).joint


# Metrics


def metrics(options: Options) -> bool:
    """Prints seconds for all of val's ranks and gains, vlkit's and in a double loop; whether they agree."""
    rng = np.random.Generator(np.random.PCG64(options.seed))
    rounds = options.dialogs * ROUNDS
    scores = rng.standard_normal((rounds, OPTIONS)).round(2)
    right = rng.integers(0, OPTIONS, rounds)
    relevance = np.where(rng.random((options.dialogs, OPTIONS)) < 0.1, rng.random((options.dialogs, OPTIONS)), 0.0)
    print(
        f"metrics of {rounds} rounds and NDCG of {options.dialogs}, seconds (vlkit: median of {options.repeats}; plainly: once)"
    )
    agreed = True
    for mode in MODES:
        fast = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            table = retrieval(right_ranks(scores, right, mode)).mean(axis=0)
            gains = ndcg(scores[::ROUNDS], relevance, mode).mean()
            fast.append(time.perf_counter() - start)
        start = time.perf_counter()
        rank = [plain_rank(row, place, mode) for row, place in zip(scores.tolist(), right.tolist(), strict=True)]
        own = [
            plain_ndcg(row, how, mode) for row, how in zip(scores[::ROUNDS].tolist(), relevance.tolist(), strict=True)
        ]
        slow, quick = time.perf_counter() - start, statistics.median(fast)
        difference = max(
            abs(table[0] - statistics.fmean(1 / each for each in rank)), abs(gains - statistics.fmean(own))
        )
        print(
            f"  {mode:7} vlkit {quick:6.3f}  plainly {slow:6.2f}  {slow / quick:5.0f} times as fast, largest difference {difference:.1e}"
        )
        agreed &= difference < 1e-9
    return agreed


def plain_rank(scores: list[float], right: int, mode: Mode) -> float:
    """The right option's rank, option by option."""
    above, alike = 0, 0.0
    for place, score in enumerate(scores):
        if score > scores[right]:
            above += 1
        elif score == scores[right] and place != right:
            alike += 0.5 if mode == "fixed" else float(place < right)
    return 1 + above + alike


def plain_ndcg(scores: list[float], relevance: list[float], mode: Mode) -> float:
    """A round's NDCG, place by place."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    gains = [relevance[i] for i in order]
    if mode == "fixed":
        first = 0
        while first < len(order):
            last = first
            while last + 1 < len(order) and scores[order[last + 1]] == scores[order[first]]:
                last += 1
            mean = sum(gains[first : last + 1]) / (last + 1 - first)
            for place in range(first, last + 1):
                gains[place] = mean
            first = last + 1
    count = sum(1 for each in relevance if each > 0)
    best = sorted(relevance, reverse=True)
    ideal = sum(best[i] / math.log2(i + 2) for i in range(count))
    return sum(gains[i] / math.log2(i + 2) for i in range(count)) / ideal


# Training and chat


def training(options: Options, settings: Config, model: DialogModel, asked: Talks) -> None:
    """Prints rounds a second in training, and how the time is divided."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def collate(places: list[int]) -> Batch:
        return asked.batch([(place, turn) for place in places for turn in range(ROUNDS)])

    batches = Batches(len(asked.dialogs), settings.batch_size, collate)
    loading = learning = 0.0
    device = torch.device("cpu")
    for index in range(WARM_UP + options.steps):
        start = time.perf_counter()
        batch = collate(batches.indices(index, 0))
        loaded = time.perf_counter()
        loss, _ = answer_loss(model, batch, Step(index, options.steps, 0, device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if index >= WARM_UP:
            loading += loaded - start
            learning += time.perf_counter() - loaded
    rounds = options.steps * settings.batch_size * ROUNDS
    print(
        f"training, {settings.batch_size} dialogs a step: {rounds / (loading + learning):.0f} rounds/s, of which loading takes "
        f"{loading / (loading + learning):.0%}"
    )


def chat(settings: Config, asked: Talks) -> None:
    """Prints milliseconds until an answer, behind ever more turns."""
    for decoder in ("discriminative", "generative"):
        own = replace(settings, decoder=decoder, encoder="hre")
        model = built_model(own, vocabulary=asked.tokenizer.size).eval()
        known = asked.source.answers[:500]
        run = Trained(Path("made"), own, model, asked.tokenizer, known=known, pool=known, minutes=0.0)
        state = DialogState(Talker(run), asked.images.read([0])[0], asked.dialogs[0].caption)
        times = []
        for turn in range(CHATS):
            start = time.perf_counter()
            state.ask(asked.dialogs[turn % len(asked.dialogs)].turns[0].question)
            times.append(1000 * (time.perf_counter() - start))
        print(f"chat, {decoder}: an answer in {statistics.median(times):.0f} ms (the slowest {max(times):.0f})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
