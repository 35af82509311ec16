import random
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlkit.batches import WINDOW, Batches, moved, seed_everything, stream_seed
from vlkit.errors import UserError


def plain(examples: int, batch_size: int, workers: int = 0) -> Batches[list[int]]:
    return Batches(examples, batch_size, collate=list, workers=workers)


@settings(deadline=None, max_examples=60)
@given(examples=st.integers(1, 40), batch_size=st.integers(1, 50), epochs=st.integers(1, 4), seed=st.integers(0, 9))
def test_each_epoch_has_each_example_once(examples: int, batch_size: int, epochs: int, seed: int) -> None:
    batches = plain(examples, batch_size)
    steps = -(-examples * epochs // batch_size)
    stream = [i for step in range(steps) for i in batches.indices(step, seed)]
    for epoch in range(epochs):
        assert sorted(stream[epoch * examples : (epoch + 1) * examples]) == list(range(examples))


def test_epochs_and_seeds_differ_in_order() -> None:
    batches = plain(50, 50)
    orders = [tuple(batches.indices(step, seed)) for step in range(3) for seed in range(3)]
    assert len(set(orders)) == 9


def test_the_order_is_the_same_on_every_machine() -> None:
    assert plain(8, 8).indices(0, seed=0) == [3, 0, 5, 7, 1, 4, 6, 2]


@pytest.mark.parametrize(("accumulate", "processes"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_parts_and_processes_divide_each_batch(accumulate: int, processes: int) -> None:
    batches = plain(17, 12)
    streams = [
        list(batches.stream(5, steps=4, accumulate=accumulate, process=process, processes=processes))
        for process in range(processes)
    ]
    for step in range(4):
        parts = [part for stream in streams for part in stream[step * accumulate : (step + 1) * accumulate]]
        assert {len(part) for part in parts} == {12 // (accumulate * processes)}
        assert Counter(i for part in parts for i in part) == Counter(batches.indices(step, 5))


def test_a_stream_can_begin_anywhere() -> None:
    batches = plain(17, 5)
    whole = list(batches.stream(1, steps=9))
    assert list(batches.stream(1, first=4, steps=9)) == whole[4:]


def test_batches_by_length_waste_little_and_skip_nothing() -> None:
    lengths = [(7 * i) % 50 for i in range(100)]
    batches = Batches(100, 5, list, lengths=lengths)
    steps = [batches.indices(step, seed=1) for step in range(2 * WINDOW)]
    # 64 batches of 5 are three epochs and 20 more; a window ends in the middle of an epoch.
    assert set(Counter(i for step in steps for i in step).values()) == {3, 4}
    assert {len(step) for step in steps} == {5}
    ranges = [max(lengths[i] for i in step) - min(lengths[i] for i in step) for step in steps]
    assert max(ranges) <= 6
    longest = [max(lengths[i] for i in step) for step in steps]
    assert longest != sorted(longest)
    assert any(step != sorted(step, key=lengths.__getitem__) for step in steps)
    # A resumed run asks for its first step in the middle of a window.
    again = Batches(100, 5, list, lengths=lengths)
    assert [again.indices(step, seed=1) for step in range(40, 2 * WINDOW)] == steps[40:]
    assert again.indices(0, seed=2) != steps[0]


def test_lengths_are_one_an_example() -> None:
    with pytest.raises(ValueError, match="3 lengths for 4 examples"):
        Batches(4, 2, list, lengths=[1, 2, 3])


def drawn(indices: list[int]) -> tuple[list[int], float, float, float]:
    return indices, random.random(), float(np.random.rand()), float(torch.rand(()))


def test_workers_give_the_same_batches_and_random_numbers() -> None:
    alone = list(Batches(11, 4, drawn).stream(3, steps=6, accumulate=2))
    helped = list(Batches(11, 4, drawn, workers=2).stream(3, steps=6, accumulate=2))
    late = list(Batches(11, 4, drawn, workers=1).stream(3, first=2, steps=6, accumulate=2))
    assert [tuple(batch) for batch in helped] == alone
    assert [tuple(batch) for batch in late] == alone[4:]
    assert len({batch[3] for batch in alone}) == 12


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {stream_seed(seed, name, step) for seed in range(5) for name in ("data", "loss") for step in range(50)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeding_repeats_the_numbers_of_all_three_generators() -> None:
    seed_everything(2**62)
    first = drawn([])
    seed_everything(2**62)
    assert drawn([]) == first


class Pair(NamedTuple):
    left: Tensor
    right: int


@dataclass(frozen=True)
class Frozen:
    images: Tensor
    names: list[str]


def test_a_batch_moves_with_everything_in_it() -> None:
    device = torch.device("meta")
    one = torch.ones(2)
    batch = {"frozen": Frozen(one, ["a"]), "pair": Pair(one, 3), "list": [one, (one, "b")], "number": 4}
    result = moved(batch, device)
    assert result["frozen"].images.device == result["pair"].left.device == device
    assert result["list"][0].device == result["list"][1][0].device == device
    assert (result["frozen"].names, result["pair"].right, result["list"][1][1], result["number"]) == (["a"], 3, "b", 4)
    assert batch["frozen"].images.device == torch.device("cpu")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("examples", "batch_size", "workers", "message"),
    [
        (0, 4, 0, "no examples to train on"),
        (4, 0, 0, "batch_size is 0 and must be at least 1"),
        (4, 1, -1, "workers is -1 and must not be negative"),
    ],
)
def test_sizes_that_make_no_batch_are_refused(examples: int, batch_size: int, workers: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plain(examples, batch_size, workers)
