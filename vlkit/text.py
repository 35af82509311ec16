"""Text to ids and back: a tokenizer that is trained on the task's own words, batches with masks, word vectors."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from vlkit.errors import UserError
from vlkit.files import write_atomic

SPECIALS = ("<pad>", "<unk>", "<start>", "<end>")  # ids 0 to 3 of every tokenizer that is trained here

# A number with a decimal point is one word ("3.5"), letters and digits stay together ("2nd"), every other visible
# character is a word by itself; spaces and control characters separate words and are dropped.
WORD = r"\d+\.\d+|[\p{L}\p{M}\p{N}]+|[^\s\p{C}\p{L}\p{M}\p{N}]"

# What other people's tokenizer files call the four, tried in this order.
PADDING_NAMES = ("<pad>", "[PAD]", "<|pad|>", "</s>", "[SEP]", "<|endoftext|>")
UNKNOWN_NAMES = ("<unk>", "[UNK]", "<|endoftext|>", "<pad>")
START_NAMES = ("<start>", "<s>", "[CLS]", "<|startoftext|>", "<bos>", "<|endoftext|>", "<pad>")
END_NAMES = ("<end>", "</s>", "[SEP]", "<|endoftext|>", "<eos>", "<pad>")

MIRRORED_WORDS = (
    *(("left", "right"), ("left-hand", "right-hand"), ("leftmost", "rightmost"), ("lefts", "rights")),
    *(("leftward", "rightward"), ("leftwards", "rightwards"), ("clockwise", "counterclockwise")),
)


class Tokenizer:
    """Words of a text as ids, and a batch of texts as `ids` and `mask`.

    `Tokenizer.train` makes a word-level one: Unicode NFKC, lower case, split on whitespace and punctuation.
    `Tokenizer.load` reads what `save` wrote, or any Hugging Face `tokenizer.json` (the markers that such a file adds
    round a text are kept). A special such as `<end>` that is typed in a text is read as plain characters.
    """

    pad: int
    unknown: int
    start: int
    end: int
    words: tuple[str, ...]  # by id; "" where a file leaves an id unused

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # Otherwise a text could end itself, or hide its words as padding.
        tokenizer.encode_special_tokens = True
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        words = [""] * (max(vocabulary.values(), default=-1) + 1)
        for word, i in vocabulary.items():
            words[i] = word
        self.words = tuple(words)
        self.pad = _special(vocabulary, PADDING_NAMES)
        self.unknown = _special(vocabulary, UNKNOWN_NAMES)
        self.start = _special(vocabulary, START_NAMES)
        self.end = _special(vocabulary, END_NAMES)

    @staticmethod
    def train(texts: Iterable[str], vocabulary: int | None = None, minimum: int = 1) -> "Tokenizer":
        """The words that occur at least `minimum` times, the most frequent `vocabulary` ids (specials included)."""
        if vocabulary is not None and vocabulary <= len(SPECIALS):
            raise UserError(
                f"vocabulary of {vocabulary} has no room for a word beside the {len(SPECIALS)} specials; "
                f"take {len(SPECIALS) + 1} or more, or none for all words"
            )
        if minimum < 1:
            raise UserError(f"minimum of {minimum} occurrences; a word that is kept occurs 1 time or more")
        tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.normalizer = cast(Any, normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]))
        tokenizer.pre_tokenizer = cast(
            Any, pre_tokenizers.Split(tokenizers.Regex(WORD), behavior="removed", invert=True)
        )
        trainer = trainers.WordLevelTrainer(
            vocab_size=2**31 if vocabulary is None else vocabulary,
            min_frequency=minimum,
            special_tokens=list(SPECIALS),
            show_progress=False,
        )
        tokenizer.train_from_iterator((_readable(text) for text in texts), trainer)
        return Tokenizer(tokenizer)

    @property
    def size(self) -> int:
        """How many ids there are, specials included: the `vocabulary` of an encoder."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; an empty text has none."""
        return self._tokenizer.encode(_readable(text)).ids

    def pieces(self, text: str) -> list[tuple[str, bool]]:
        """What each of a text's ids stands for, as it was typed, and whether it is a word that is known."""
        readable = _readable(text)
        found = self._tokenizer.encode(readable)
        return [
            (readable[first:last], i != self.unknown) for i, (first, last) in zip(found.ids, found.offsets, strict=True)
        ]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast([_readable(text) for text in texts])]

    def batch(self, texts: Sequence[str], max_words: int) -> tuple[Tensor, Tensor]:
        """ids (batch, words) int64 and mask (batch, words) bool, true where a word is.

        A text is cut after `max_words`; an end marker that a tokenizer of Hugging Face's adds stays. A text without a word becomes one `<unk>`, for attention over no word at all
        has no answer.
        """
        rows = self.encode_batch(texts)
        # Of a tokenizer that is trained here no text ends in `end`: that is typed by no one and added by nothing.
        cut = [
            [*row[: max_words - 1], self.end] if len(row) > max_words and row[-1] == self.end else row for row in rows
        ]
        return self.pad_batch(cut, max_words)

    def pad_batch(self, rows: Sequence[Sequence[int]], max_words: int) -> tuple[Tensor, Tensor]:
        """`batch` for texts that are ids already."""
        if max_words < 1:
            raise ValueError(f"max_words is {max_words}; a text keeps 1 word or more")
        kept = [row[:max_words] if row else (self.unknown,) for row in rows]
        lengths = np.array([len(row) for row in kept], dtype=np.int64)
        mask = np.arange(max(lengths.max(initial=0), 1)) < lengths[:, None]
        ids = np.full(mask.shape, self.pad, dtype=np.int64)
        ids[mask] = [i for row in kept for i in row]
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids: a first `<start>` is left out, `<pad>` too, and `<end>` ends it; words joined by a space."""
        kept = [int(i) for i in ids]
        if kept and kept[0] == self.start:
            kept = kept[1:]
        if self.end in kept:
            kept = kept[: kept.index(self.end)]
        return self._tokenizer.decode([i for i in kept if i != self.pad], skip_special_tokens=False)

    def to_json(self) -> str:
        """What `save` writes; the same tokenizer gives the same bytes."""
        return self._tokenizer.to_str(pretty=False)

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """Raises ValueError where the text is no tokenizer."""
        try:
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exception, whatever is wrong
            raise ValueError(str(error)) from error
        return Tokenizer(tokenizer)

    def save(self, path: str | Path) -> None:
        """One JSON file, in Hugging Face's form."""
        with write_atomic(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @staticmethod
    def load(path: str | Path) -> "Tokenizer":
        """What `save` wrote, or a Hugging Face `tokenizer.json`."""
        try:
            return Tokenizer.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"cannot read the tokenizer {path}: {error.strerror or error}; name a file that exists"
            ) from error
        except ValueError as error:
            raise UserError(
                f"{path} is not a tokenizer, or is damaged ({error}); copy it again from the run that wrote it, "
                "or name a Hugging Face tokenizer.json"
            ) from error

    def __reduce__(self) -> tuple[Callable[[str], "Tokenizer"], tuple[str]]:
        # The library's own pickle forgets encode_special_tokens.
        return Tokenizer.from_json, (self.to_json(),)


def mirrored_words(words: Sequence[str]) -> Tensor:
    """(words,) int64: what each of a tokenizer's words becomes in a mirror, where left is right"""
    index = {word: i for i, word in enumerate(words)}
    table = torch.arange(len(words))
    for one, other in MIRRORED_WORDS:
        if one in index and other in index:
            table[[index[one], index[other]]] = torch.tensor([index[other], index[one]])
    return table


def read_vectors(path: str | Path, words: Sequence[str], dim: int, seed: int = 0) -> tuple[Tensor, int]:
    """Word vectors (vocabulary, dim) from a text file in GloVe's form, and how many of `words` it had.

    A line is a word and `dim` numbers, separated by single spaces; word2vec's first line with two counts is passed
    over; a name that ends in `.gz` is unpacked. The first line for a word counts. A word that the file lacks keeps a
    draw from N(0, 0.1^2) that depends on `seed` and its place alone. Raises UserError with the line number for a
    line of another width, a number that is none, and a file that ends early.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"the file of word vectors {path} {what}; name a text file in GloVe's form, or its .gz")
    vectors = torch.randn(len(words), dim, generator=torch.Generator().manual_seed(seed)) * 0.1
    wanted = {word.encode(): i for i, word in enumerate(words)}
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                fields = line.rstrip(b" \r\n").split(b" ")
                if number == 1 and len(fields) == 2 and dim != 1:
                    continue
                # Some of GloVe's words have spaces in them ("at name@domain.com"): the numbers are the last `dim`.
                if len(fields) <= dim or (len(fields) > dim + 1 and (number <= 2 or _is_number(fields[-dim - 1]))):
                    raise UserError(
                        f"{path} line {number} has {len(fields) - 1} numbers, but the word vectors here have {dim}; "
                        "set the word dimension to the file's, or fetch the file again if it was cut"
                    )
                i = wanted.pop(b" ".join(fields[:-dim]), None)
                if i is not None:
                    vectors[i] = torch.from_numpy(_numbers(fields[-dim:], f"{path} line {number}"))
    except PermissionError as error:
        raise UserError(f"the file of word vectors {path} may not be read; change its permissions") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"cannot read word vectors from {path} after line {number}: {error}; fetch the file again"
        ) from error
    return vectors, len(words) - len(wanted)


def _special(vocabulary: dict[str, int], names: Sequence[str]) -> int:
    for name in names:
        if name in vocabulary:
            return vocabulary[name]
    raise ValueError(f"it has none of the special words {', '.join(names)}")


def _readable(text: str) -> str:
    """Half a surrogate pair, which JSON can spell, is no Unicode text: it becomes a question mark."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb")


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _numbers(fields: list[bytes], place: str) -> np.ndarray:
    try:
        numbers = np.array([float(field) for field in fields], dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{place} is not a word and numbers ({error}); fetch the file again") from error
    if not np.isfinite(numbers).all():
        raise UserError(f"{place} has a number that is not finite; fetch the file again")
    return numbers
