"""Which examples each step sees and with which random numbers: both follow from the seed and the step alone."""

import copy
import dataclasses
import hashlib
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlkit.errors import UserError

Batch = TypeVar("Batch")

# Batches that exchange examples of unequal length: many enough to save padding, few enough to stay random.
WINDOW = 32


@dataclass(frozen=True)
class Batches(Generic[Batch]):
    """Full batches from shuffled epochs, as a pure function of the step: nothing to store, nothing lost on resume.

    The examples are shuffled anew in each epoch and the epochs follow one another without a gap, so each batch is
    full, each example comes once an epoch and none is skipped; a batch at the seam holds examples of both epochs.
    With `lengths` the examples of each `WINDOW` batches are dealt out anew among these, neighbours in length together.
    `batch_size` is what one optimizer step sees: accumulation and several processes only divide it.
    """

    examples: int
    batch_size: int
    collate: Callable[[list[int]], Batch]
    """indices of examples -> the batch that the loss receives; runs in the workers where there are some"""
    workers: int = 0
    """processes that prepare batches beside the training"""
    lengths: Sequence[int] | None = None
    """of the examples; batches are then of similar length, so that little of them is padding"""
    name: Callable[[int], str] = str
    """index of an example -> how an error message calls it"""
    _windows: dict[tuple[int, int], list[list[int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise UserError("there are no examples to train on; check the data file and the split")
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size} and must be at least 1")
        if self.workers < 0:
            raise UserError(f"workers is {self.workers} and must not be negative; 0 loads in the training process")
        if self.lengths is not None and len(self.lengths) != self.examples:
            raise ValueError(f"{len(self.lengths)} lengths for {self.examples} examples; give each its own")

    def indices(self, step: int, seed: int) -> list[int]:
        """The examples of a step, of all its parts and processes together."""
        if self.lengths is None:
            return self._examples(step * self.batch_size, self.batch_size, seed)
        window, place = divmod(step, WINDOW)
        if (window, seed) not in self._windows:
            self._windows.clear()
            self._windows[window, seed] = self._dealt(window, seed)
        return self._windows[window, seed][place]

    def _examples(self, first: int, count: int, seed: int) -> list[int]:
        """So many from this place in the sequence of all epochs."""
        result: list[int] = []
        while len(result) < count:
            epoch, position = divmod(first + len(result), self.examples)
            result += _order(self.examples, seed, epoch)[position : position + count - len(result)].tolist()
        return result

    def _dealt(self, window: int, seed: int) -> list[list[int]]:
        """The batches of a window, of similar length each, in random order."""
        assert self.lengths is not None
        count = WINDOW * self.batch_size
        examples = self._examples(window * count, count, seed)
        by_length = sorted(range(count), key=[self.lengths[i] for i in examples].__getitem__)
        # Within a batch the random order comes back, so that its parts are alike.
        dealt = [sorted(by_length[i : i + self.batch_size]) for i in range(0, count, self.batch_size)]
        turns = _order(WINDOW, stream_seed(seed, "window"), window)
        return [[examples[i] for i in dealt[turn]] for turn in turns]

    def stream(
        self,
        seed: int,
        *,
        first: int = 0,
        steps: int,
        accumulate: int = 1,
        process: int = 0,
        processes: int = 1,
        pin_memory: bool = False,
    ) -> Iterator[Batch]:
        """The batches of one process from step `first` to `steps`, `accumulate` of them a step."""
        parts = _Parts(self, seed, accumulate, process, processes)
        keys = ((step, micro) for step in range(first, steps) for micro in range(accumulate))
        if not self.workers:
            return (parts[key] for key in keys)
        loader: Any = torch.utils.data.DataLoader(
            parts,  # type: ignore[arg-type]
            sampler=keys,
            batch_size=None,
            num_workers=self.workers,
            # A forked worker needs no pickling, so that `collate` may be a closure; other systems cannot fork safely.
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            worker_init_fn=_ignore_interrupt,
        )
        return iter(loader)


class _Parts(Generic[Batch]):
    """(step, part of it) -> batch, in the training process or in a worker."""

    def __init__(self, batches: Batches[Batch], seed: int, accumulate: int, process: int, processes: int) -> None:
        self.batches, self.seed = batches, seed
        self.process, self.processes = process, processes
        self.size = batches.batch_size // (accumulate * processes)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        step, micro = key
        part = micro * self.processes + self.process
        seed_everything(stream_seed(self.seed, "data", step, part))
        indices = self.batches.indices(step, self.seed)
        return self.batches.collate(indices[part * self.size : (part + 1) * self.size])


def stream_seed(seed: int, *keys: int | str) -> int:
    """A seed for one purpose: the same for the same keys, unrelated for any others."""
    digest = hashlib.blake2b(repr((seed, *keys)).encode(), digest_size=8).digest()
    # Half of the range, because torch takes signed numbers on some devices.
    return int.from_bytes(digest, "little") >> 1


def seed_everything(seed: int, device: torch.device | None = None) -> None:
    """Seeds random, numpy and torch; call it before a model is built to start from the same weights."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that other people's code draws from
    # torch.manual_seed would do, but it also queues a call for devices that are not used: a hundred times slower.
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device is not None and device.type == "mps":
        torch.mps.manual_seed(seed)


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor in it on the device; dataclasses, dicts, lists and tuples are looked into."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        result = copy.copy(batch)
        for entry in dataclasses.fields(batch):
            # Frozen dataclasses refuse plain assignment, and `replace` would run their checks again.
            object.__setattr__(result, entry.name, moved(getattr(batch, entry.name), device))
        return result
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(moved(value, device) for value in batch)
    return batch


@lru_cache(maxsize=4)
def _order(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    # Raw bits are fixed by the definition of PCG64; numpy's `permutation` may change between releases.
    bits = np.random.PCG64(stream_seed(seed, "order", epoch)).random_raw(examples)
    return np.argsort(bits, kind="stable")


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_interrupt(worker: int) -> None:
    # Ctrl-C reaches the whole process group; the training process still needs batches to finish its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
