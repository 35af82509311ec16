"""Texts a second through the bidirectional LSTM encoder, forward and backward, beside torch's packed LSTM.

    vlkit bench text [--annotations R2R_train.json] [--batches 64 128] [--rounds 15]

Both sides have the same weights and read the same batches, one after the other, with one thread; they must agree on
states and gradients. Without annotations the lengths are drawn as R2R's instructions have them: log-normal, 27 words in
the median and 29 in the mean, at most 80.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vlkit.config import load
from vlkit.encoders.text import RecurrentTextEncoder
from vlkit.envs.r2r import read_episodes
from vlkit.errors import UserError
from vlkit.text import Tokenizer

VOCABULARY = 1000
MEDIAN_WORDS, SPREAD = 27, 0.41


@dataclass(frozen=True)
class Options:
    """Time the text encoder beside packed LSTMs."""

    annotations: Path | None = None
    """R2R annotations file whose lengths are taken; drawn where it is not given"""
    batches: tuple[int, ...] = (64, 128)
    """texts a batch"""
    max_words: int = 80
    """longer texts are cut"""
    word_dim: int = 256
    """width of the word vectors"""
    dim: int = 256
    """width of the states, half of it each direction"""
    rounds: int = 15
    """batches that each side reads; the median counts"""
    threads: int = 1
    """of torch"""
    seed: int = 0
    """of weights and texts"""

    def __post_init__(self) -> None:
        for name in ("max_words", "rounds", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)} and must be at least 1; leave it out for the default")
        if not self.batches or min(self.batches) < 1:
            raise UserError(f"batches is {self.batches}; name one size or more, each at least 1")


class PackedEncoder(nn.Module):
    """The peer: torch's own bidirectional LSTM over packed texts, with the weights of `other`."""

    def __init__(self, other: RecurrentTextEncoder, word_dim: int, dim: int) -> None:
        super().__init__()
        self.words = nn.Embedding(other.vocabulary, word_dim, padding_idx=0)
        self.words.load_state_dict(other.words.state_dict())
        self.layer = nn.LSTM(word_dim, dim // 2, batch_first=True, bidirectional=True)
        both = zip(("", "_reverse"), other.layer.runs, strict=True)
        self.layer.load_state_dict({f"{k}{end}": v for end, run in both for k, v in run.state_dict().items()})

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, words), (batch, words) -> states (batch, words, dim), final (batch, dim)"""
        packed = pack_padded_sequence(self.words(ids), mask.sum(dim=1), batch_first=True, enforce_sorted=False)
        states, (final, _) = self.layer(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=ids.shape[1])[0], torch.cat([*final], dim=1)


def main(arguments: Sequence[str]) -> int:
    """Prints the table; 1 where the two sides disagree."""
    options = load(Options, None, arguments, prog="vlkit bench text")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    lengths = drawn_lengths(rng, options.max_words)
    if options.annotations is not None:
        episodes = read_episodes(options.annotations)
        rows = Tokenizer.train(episode.instruction for episode in episodes).encode_batch(
            [episode.instruction for episode in episodes]
        )
        lengths = [min(max(len(row), 1), options.max_words) for row in rows]
    encoder = RecurrentTextEncoder(VOCABULARY, word_dim=options.word_dim, dim=options.dim)
    peer = PackedEncoder(encoder, options.word_dim, options.dim)

    def ours(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        read = encoder(ids, mask)
        return read.states, read.pooled

    print(f"{statistics.mean(lengths):.0f} words a text in the mean, {max(lengths)} at most; torch {torch.__version__}")
    print(
        f"forward and backward, {options.threads} thread(s), median of {options.rounds} batches (fastest to slowest)\n"
    )
    print(f"{'batch':>5}  {'vlkit':<26}{'packed nn.LSTM (peer)':<26}{'times as fast':<24}")
    apart = 0.0
    for size in options.batches:
        mine, packed = [], []
        for i in range(options.rounds + 1):
            ids, mask = texts(rng.choices(lengths, k=size))
            first, second = turn(encoder, ours, ids, mask), turn(peer, peer, ids, mask)
            if i == 0:  # the first round warms up, and compares
                apart = max(apart, *(float((a - b).abs().max()) for a, b in zip(first[1], second[1], strict=True)))
                continue
            mine.append(1000 * first[0])
            packed.append(1000 * second[0])
        ratios = [slow / fast for slow, fast in zip(packed, mine, strict=True)]
        median, least, most = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{size:>5}  {shown(mine):<26}{shown(packed):<26}{median:.2f} ({least:.2f} to {most:.2f})")
    print(f"\nlargest difference between two states or gradients: {apart:.1e}")
    return 0 if apart < 1e-4 else 1


def drawn_lengths(rng: random.Random, max_words: int, count: int = 10_000) -> list[int]:
    """Numbers of words, as R2R's instructions have them."""
    return [min(max(round(MEDIAN_WORDS * rng.lognormvariate(0.0, SPREAD)), 5), max_words) for _ in range(count)]


def texts(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """ids (batch, words) and mask (batch, words) of random texts."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randint(4, VOCABULARY, mask.shape).masked_fill(~mask, 0), mask


def turn(
    module: nn.Module, read: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], ids: Tensor, mask: Tensor
) -> tuple[float, list[Tensor]]:
    """Seconds of one batch forward and backward; its states, and the gradient of the word vectors."""
    module.zero_grad()
    start = time.perf_counter()
    states, final = read(ids, mask)
    (states.square().sum() + final.sum()).div(len(ids)).backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    gradient = module.get_parameter("words.weight").grad
    assert gradient is not None
    return seconds, [states.detach(), final.detach(), gradient.clone()]


def shown(milliseconds: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(milliseconds):.1f} ms ({min(milliseconds):.1f} to {max(milliseconds):.1f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
