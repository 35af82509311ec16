import dataclasses
import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from vlkit.errors import UserError
from vlkit.generation import Generated, beam_search, greedy, mapped, sample, truncated

END, WORDS = 3, 5
TABLE = torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(3)) * 1.5


def markov(tokens: Tensor, state: None) -> tuple[Tensor, None]:
    """The next token depends on the last one alone."""
    return TABLE[tokens], state


def exhaustive(
    first: int, steps: int, table: Tensor = TABLE, penalty: float = 0.0
) -> list[tuple[float, float, list[int]]]:
    """Every sequence that ends within `steps` tokens or is cut there, the best first: score, log-probability, tokens."""
    log_probs = table.log_softmax(dim=1).tolist()
    found = []
    for length in range(1, steps + 1):
        for tokens in itertools.product(range(WORDS), repeat=length):
            if END in tokens[:-1] or (tokens[-1] != END and length < steps):
                continue
            total = sum(log_probs[a][b] for a, b in itertools.pairwise((first, *tokens)))
            found.append((total / ((5 + length) / 6) ** penalty, total, list(tokens)))
    return sorted(found, reverse=True)


def test_greedy_takes_the_likeliest_until_the_end() -> None:
    chain = torch.full((WORDS, WORDS), -2.0)
    for before, after in ((2, 4), (4, 1), (1, END), (END, 0), (0, 0)):
        chain[before, after] = 2.0
    generated = greedy(lambda tokens, state: (chain[tokens], state), torch.tensor([2, 1, 0]), None, end=END, steps=5)
    assert generated.ids.tolist() == [[4, 1, END, 0, 0], [END, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert generated.mask.tolist() == [[True] * 3 + [False] * 2, [True] + [False] * 4, [True] * 5]
    each = 2.0 - math.log(math.exp(2.0) + 4 * math.exp(-2.0))
    torch.testing.assert_close(generated.log_prob, torch.tensor([3 * each, each, 5 * each]))


def test_generation_stops_early_when_every_row_has_ended() -> None:
    generated = greedy(markov, torch.tensor([0]), None, end=int(TABLE[0].argmax()), steps=50)
    assert generated.ids.shape == (1, 1)


def test_state_is_passed_along() -> None:
    def counting(tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return torch.nn.functional.one_hot(state, WORDS).float() * 9, state + 1

    assert greedy(counting, torch.tensor([0, 0]), torch.tensor([0, 1]), end=END, steps=9).ids.tolist() == [
        [0, 1, 2, END],
        [1, 2, END, 0],
    ]


@pytest.mark.parametrize("penalty", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_wide_beam_finds_what_exhaustive_search_finds(penalty: float, steps: int) -> None:
    width = 5**4
    beams = beam_search(
        markov, torch.arange(WORDS), None, end=END, steps=steps, width=width, length_penalty=penalty, results=20
    )
    for first in range(WORDS):
        every = exhaustive(first, steps, penalty=penalty)
        by_tokens = {tuple(tokens): log_prob for _, log_prob, tokens in every}
        expected, once = every[:20], set()
        for i, (score, log_prob, _) in enumerate(expected):
            # Round trips through the table in another order have the same probability: any of them may stand here.
            found = beams.ids[first, i][beams.mask[first, i]].tolist()
            assert by_tokens[tuple(found)] == pytest.approx(log_prob, abs=1e-5)
            once.add(tuple(found))
            assert beams.log_probs[first, i].item() == pytest.approx(log_prob, abs=1e-5)
            assert beams.scores[first, i].item() == pytest.approx(score, abs=1e-5)
        assert len(once) == len(expected)
        assert (beams.log_probs[first, len(expected) :] == -torch.inf).all()
        assert not beams.mask[first, len(expected) :].any()


def test_a_beam_of_one_without_penalty_is_greedy_or_better() -> None:
    start = torch.arange(WORDS)
    one = beam_search(markov, start, None, end=END, steps=6, width=1)
    assert (one.log_probs[:, 0] >= greedy(markov, start, None, end=END, steps=6).log_prob - 1e-6).all()


def test_a_wider_beam_finds_what_greedy_misses() -> None:
    # Token 0 looks better at first, but nothing likely follows it.
    table = torch.tensor([[0.0, 0, 0, 0, 0], [0, 0, 0, 6, 0], [1.0, 0.8, -9, -9, -9], [0] * 5, [0] * 5])
    start = torch.tensor([2])

    def step(tokens: Tensor, state: None) -> tuple[Tensor, None]:
        return table[tokens], state

    assert greedy(step, start, None, end=END, steps=2).ids[0, 0] == 0
    beams = beam_search(step, start, None, end=END, steps=2, width=2)
    assert beams.ids[0, 0].tolist() == [1, END]


def test_finished_beams_are_kept_while_others_go_on() -> None:
    # From 2: the end at once has a probability of 0.3; going on through 0 for ever has 0.7 * 0.9^i.
    table = torch.full((WORDS, WORDS), -torch.inf)
    table[2, END], table[2, 0] = math.log(0.3), math.log(0.7)
    table[0, 0], table[0, END] = math.log(0.9), math.log(0.1)
    beams = beam_search(
        lambda tokens, state: (table[tokens], state), torch.tensor([2]), None, end=END, steps=12, width=2
    )
    assert beams.ids[0, 0, :2].tolist() == [END, 0]
    assert beams.log_probs[0].exp().tolist() == pytest.approx([0.3, 0.7 * 0.9**11])


class Pair(NamedTuple):
    history: Tensor
    note: str


@dataclasses.dataclass(frozen=True)
class Memory:
    pair: Pair
    nest: dict[str, list[Tensor]]


def test_every_kind_of_state_follows_its_beam() -> None:
    """A step that looks at its whole history finds the history of its own beam, in each part of a nested state."""

    def step(tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        history = torch.cat([state.pair.history, tokens[:, None]], dim=1)
        assert torch.equal(history[:, 1:].sum(dim=1), state.nest["sums"][0] + tokens)
        assert state.pair.note == "untouched"
        logits = TABLE[tokens] + 0.3 * TABLE[history.sum(dim=1) % WORDS]
        return logits, Memory(Pair(history, state.pair.note), {"sums": [history[:, 1:].sum(dim=1)]})

    zeros = torch.zeros(3, 1, dtype=torch.int64)
    state = Memory(Pair(zeros, "untouched"), {"sums": [zeros[:, 0]]})
    beams = beam_search(step, torch.tensor([0, 1, 2]), state, end=END, steps=5, width=4)
    for row in range(3):
        for i in range(4):
            tokens = [row, *beams.ids[row, i][beams.mask[row, i]].tolist()]
            total = 0.0
            for j in range(1, len(tokens)):
                logits = TABLE[tokens[j - 1]] + 0.3 * TABLE[sum(tokens[:j]) % WORDS]
                total += logits.log_softmax(dim=0)[tokens[j]].item()
            assert beams.log_probs[row, i].item() == pytest.approx(total, abs=1e-5)


def test_a_row_of_a_batch_is_searched_as_if_alone() -> None:
    together = beam_search(markov, torch.arange(WORDS), None, end=END, steps=6, width=3, length_penalty=1.0)
    for row in range(WORDS):
        alone = beam_search(markov, torch.tensor([row]), None, end=END, steps=6, width=3, length_penalty=1.0)
        assert torch.equal(alone.ids[0], together.ids[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row])


def test_mapped_leaves_what_is_no_tensor() -> None:
    assert mapped({"a": None, "b": (1, "x")}, torch.neg) == {"a": None, "b": (1, "x")}


def test_top_k_keeps_exactly_the_k_likeliest() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0, 0.0]])
    assert truncated(logits, top_k=2).tolist() == [[-math.inf, 3.0, -math.inf, 3.0, -math.inf]]
    assert truncated(logits, top_k=1).tolist() == [[-math.inf, 3.0, -math.inf, -math.inf, -math.inf]]
    assert torch.equal(truncated(logits, top_k=9), logits)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.05, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.69, [1, 3]),
        (0.71, [0, 1, 3]),
        (0.95, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_p(top_p: float, kept: list[int]) -> None:
    logits = torch.tensor([[0.2, 0.4, 0.1, 0.3]], dtype=torch.float64).log()
    assert truncated(logits, top_p=top_p).isfinite()[0].nonzero()[:, 0].tolist() == kept


def test_top_p_counts_shares_among_the_top_k() -> None:
    logits = torch.tensor([[0.2, 0.4, 0.1, 0.3]]).log()
    # Among the best two, shares are 4/7 and 3/7: 0.5 is reached by the first alone, 0.6 needs both.
    assert truncated(logits, top_k=2, top_p=0.5).isfinite()[0].tolist() == [False, True, False, False]
    assert truncated(logits, top_k=2, top_p=0.6).isfinite()[0].tolist() == [False, True, False, True]


def test_temperature_divides_the_logits_before_the_cut() -> None:
    logits = torch.tensor([[0.2, 0.4, 0.1, 0.3]]).log()
    torch.testing.assert_close(truncated(logits, temperature=2.0), logits / 2)
    assert truncated(logits, temperature=0.1, top_p=0.9).isfinite().sum() == 1


def test_tokens_are_drawn_as_often_as_their_shares_say() -> None:
    shares = torch.tensor([0.5, 0.0, 0.2, 0.0, 0.3])
    rows = 20_000
    generated = sample(
        lambda tokens, state: (shares.log().expand(len(tokens), -1), state), torch.zeros(rows, dtype=torch.int64), None,
        end=END, steps=1, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    counts = generated.ids[:, 0].bincount(minlength=WORDS) / rows
    assert counts[1] == counts[3] == 0
    # Four standard deviations of a share of a half.
    torch.testing.assert_close(counts, shares, rtol=0, atol=4 * (0.25 / rows) ** 0.5)
    torch.testing.assert_close(generated.log_probs[:, 0], shares.log()[generated.ids[:, 0]])


def test_the_same_generator_draws_the_same() -> None:
    def run(seed: int) -> Generated:
        return sample(
            markov, torch.arange(WORDS), None, end=END, steps=8, generator=torch.Generator().manual_seed(seed)
        )

    assert torch.equal(run(1).ids, run(1).ids)
    assert not torch.equal(run(1).ids, run(2).ids)


def test_with_a_generator_for_each_row_a_sequence_does_not_depend_on_its_batch() -> None:
    def run(rows: list[int]) -> list[list[int]]:
        streams = [torch.Generator().manual_seed(row) for row in rows]
        generated = sample(markov, torch.tensor(rows), None, end=END, steps=8, generator=streams)
        return [generated.ids[i][generated.mask[i]].tolist() for i in range(len(rows))]

    together = run([0, 1, 2, 4])
    assert run([4, 2]) == [together[3], together[2]]
    with pytest.raises(ValueError, match="1 generators for 2 rows"):
        sample(markov, torch.tensor([0, 1]), None, end=END, steps=8, generator=[torch.Generator()])


def test_gradients_flow_through_log_probabilities() -> None:
    table = TABLE.clone().requires_grad_()
    generated = sample(
        lambda tokens, state: (table[tokens], state), torch.arange(WORDS), None, end=END, steps=6, top_k=3,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    generated.log_prob.sum().backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    assert table.grad.isfinite().all()
    assert table.grad.abs().sum() > 0


def test_wrong_numbers_are_named() -> None:
    logits = torch.zeros(1, 4)
    for options, said in (
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ):
        with pytest.raises(UserError, match=said):
            truncated(logits, **options)
    with pytest.raises(UserError, match="width 2, 3 steps, 5 results"):
        beam_search(markov, torch.tensor([0]), None, end=END, steps=3, width=2, results=5)
    with pytest.raises(UserError, match="length_penalty is -1"):
        beam_search(markov, torch.tensor([0]), None, end=END, steps=3, length_penalty=-1.0)
    with pytest.raises(ValueError, match="steps is 0"):
        greedy(markov, torch.tensor([0]), None, end=END, steps=0)


def test_a_row_where_nothing_can_come_next_is_named() -> None:
    table = TABLE.clone()
    table[1] = -torch.inf
    with pytest.raises(ValueError, match="logits of row 1 are NaN, or minus infinity"):
        greedy(lambda tokens, state: (table[tokens], state), torch.tensor([0, 1]), None, end=END, steps=2)
