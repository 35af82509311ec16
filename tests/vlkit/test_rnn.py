from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vlkit.errors import UserError
from vlkit.rnn import CELLS, FUSED, ROWS_TOGETHER, LayerState, RecurrentLayer, State, cell

LENGTHS = torch.tensor([3, 7, 1, 5])
MASK = torch.arange(7) < LENGTHS[:, None]
NAMES = sorted(FUSED)
WIDE = pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (1, True), (2, False), (3, True)])


class Decaying(nn.Module):
    """A user's cell: no weights of its own but one, and a state of two parts."""

    def __init__(self, input_dim: int, dim: int, rate: float = 0.5) -> None:
        super().__init__()
        self.input_dim, self.dim, self.rate = input_dim, dim, rate
        self.weight = nn.Linear(input_dim, dim)

    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> State:
        return torch.zeros(batch, self.dim, device=device, dtype=dtype), torch.zeros(batch, device=device, dtype=dtype)

    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, count = state
        hidden = self.rate * hidden + self.weight(input)
        return hidden, (hidden, count + 1)


DECAYING = f"{__name__}:Decaying"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def torch_layer(layer: RecurrentLayer, bidirectional: bool) -> nn.RNNBase:
    """torch's own, with the same weights."""
    peer = FUSED[layer.name](
        layer.input_dim, layer.dim, num_layers=layer.layers, bidirectional=bidirectional, batch_first=True
    )
    names = [f"l{i}{side}" for i in range(layer.layers) for side in ("", "_reverse")[: layer.directions]]
    for name, run in zip(names, layer.runs, strict=True):
        for part, value in run.named_parameters():
            dict(peer.named_parameters())[part.replace("l0", name)].data.copy_(value.data)
    return peer


@pytest.mark.parametrize("name", NAMES)
@WIDE
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_a_layer_equals_torchs_with_packed_words(
    name: str, layers: int, bidirectional: bool, full: bool, given: bool
) -> None:
    layer = RecurrentLayer(name, 5, 4, layers=layers, bidirectional=bidirectional)
    peer = torch_layer(layer, bidirectional)
    inputs = torch.randn(4, 7, 5, requires_grad=True)
    initial: LayerState | None = None
    theirs = None
    if given:
        initial = tuple(tuple(torch.randn_like(part) for part in state) for state in layer.initial(4))
        stacked = [torch.stack([state[i] for state in initial]) for i in range(len(initial[0]))]
        theirs = tuple(stacked) if name == "lstm" else stacked[0]
    packed, last = peer(pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False), theirs)
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    hidden = last[0] if name == "lstm" else last
    if full:
        states, after = layer.forward_with_state(inputs, MASK, initial)
        torch.testing.assert_close(torch.stack([state[0] for state in after]), hidden)
        if name == "lstm":
            torch.testing.assert_close(torch.stack([state[1] for state in after]), last[1])
    else:
        states, final = layer(inputs, MASK, initial)
        torch.testing.assert_close(final, hidden[-layer.directions :].transpose(0, 1).flatten(1))
        assert final.shape == (4, layer.output_dim)
    torch.testing.assert_close(states, expected)
    assert (states[~MASK] == 0).all()
    ours = torch.autograd.grad(states.square().sum(), inputs, retain_graph=True)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(expected.square().sum(), inputs)[0])


@pytest.mark.parametrize("name", [*NAMES, DECAYING])
@WIDE
def test_padding_changes_nothing_at_all(name: str, layers: int, bidirectional: bool) -> None:
    layer = RecurrentLayer(name, 5, 4, layers=layers, bidirectional=bidirectional).eval()
    inputs = torch.randn(4, 7, 5)
    states, final = layer(inputs, MASK)
    for rubbish in (1e30, float("nan"), float("inf")):
        dirty = inputs.masked_fill(~MASK[:, :, None], rubbish)
        torch.testing.assert_close(layer(dirty, MASK), (states, final), rtol=0, atol=0)
        grads = torch.autograd.grad(layer(dirty, MASK)[0].sum(), list(layer.parameters()))
        assert all(bool(torch.isfinite(grad).all()) for grad in grads)
    for i, length in enumerate(LENGTHS.tolist()):
        alone, its_final = layer(inputs[i : i + 1, :length])
        torch.testing.assert_close(states[i : i + 1, :length], alone)
        torch.testing.assert_close(final[i : i + 1], its_final)


@pytest.mark.parametrize("name", [*NAMES, DECAYING])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_rows_of_a_large_batch_come_back_in_their_places(name: str, bidirectional: bool, given: bool) -> None:
    rows = 2 * ROWS_TOGETHER + 3
    layer = RecurrentLayer(name, 5, 4, layers=2, bidirectional=bidirectional)
    lengths = torch.randint(0, 8, (rows,))
    mask = torch.arange(9) < lengths[:, None]  # two columns more than the longest row has
    inputs = torch.randn(rows, 9, 5)
    initial = tuple(tuple(torch.randn_like(part) for part in state) for state in layer.initial(rows))
    states, final = layer(inputs, mask, initial if given else None)
    full_states, after = layer.forward_with_state(inputs, mask, initial if given else None)
    torch.testing.assert_close(full_states, states)
    assert states.shape == (rows, 9, layer.output_dim)
    for i in range(rows):
        start = tuple(tuple(part[i : i + 1] for part in state) for state in initial) if given else None
        alone, its_final = layer(inputs[i : i + 1], mask[i : i + 1], start)
        torch.testing.assert_close(states[i : i + 1], alone)
        torch.testing.assert_close(final[i : i + 1], its_final)
        _, its_after = layer.forward_with_state(inputs[i : i + 1], mask[i : i + 1], start)
        torch.testing.assert_close(tuple(tuple(part[i : i + 1] for part in state) for state in after), its_after)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", [1, 2])
def test_steps_in_a_row_equal_the_whole_text(name: str, layers: int) -> None:
    layer = RecurrentLayer(name, 5, 4, layers=layers)
    inputs = torch.randn(2, 6, 5)
    states, state = layer.forward_with_state(inputs)
    now = layer.initial(2)
    outputs = []
    for i in range(6):
        output, now = layer.step(inputs[:, i], now)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs, dim=1), states)
    torch.testing.assert_close(now, state)


@pytest.mark.parametrize("name", [*NAMES, DECAYING])
def test_a_text_may_be_read_in_two_parts(name: str) -> None:
    layer = RecurrentLayer(name, 5, 4, layers=2)
    inputs = torch.randn(2, 6, 5)
    whole, state = layer.forward_with_state(inputs)
    first, between = layer.forward_with_state(inputs[:, :2])
    second, after = layer.forward_with_state(inputs[:, 2:], initial=between)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(after, state)


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_computes_what_its_layer_computes(name: str) -> None:
    one = cell(name, 5, 4)
    layer = RecurrentLayer(name, 5, 4)
    for part, value in one.cell.named_parameters():  # type: ignore[union-attr]
        dict(layer.runs[0].named_parameters())[f"{part}_l0"].data.copy_(value.data)
    inputs = torch.randn(3, 5)
    states, _ = layer(inputs[:, None])
    output, _ = one(inputs, one.initial(3))  # type: ignore[operator]
    torch.testing.assert_close(output, states[:, 0])


@pytest.mark.parametrize("name", [*NAMES, DECAYING])
@pytest.mark.parametrize("full", [False, True])
def test_a_row_without_words_keeps_its_initial_state(name: str, full: bool) -> None:
    layer = RecurrentLayer(name, 5, 4, bidirectional=True)
    mask = MASK.clone()
    mask[0] = False
    run: Any = layer.forward_with_state if full else layer
    states, last = run(torch.randn(4, 7, 5), mask)
    final = torch.cat([state[0] for state in last], dim=1) if full else last
    assert (states[0] == 0).all()
    assert (final[0] == 0).all()
    initial = tuple(tuple(torch.randn_like(part) for part in state) for state in layer.initial(4))
    _, last = run(torch.randn(4, 7, 5), mask, initial)
    final = torch.cat([state[0] for state in last], dim=1) if full else last
    torch.testing.assert_close(final[0], torch.cat([state[0] for state in initial], dim=1)[0])


def test_a_users_cell_is_looped_and_keeps_its_own_state() -> None:
    layer = RecurrentLayer(DECAYING, 5, 4)
    inputs = torch.randn(4, 7, 5)
    states, state = layer.forward_with_state(inputs, MASK)
    assert state[0][1].tolist() == LENGTHS.tolist()
    expected = torch.zeros(4)
    for i in range(7):
        expected = 0.5 * expected + cast(Decaying, layer.runs[0]).weight(inputs[1, i])
        torch.testing.assert_close(states[1, i], expected)


def test_dropout_acts_between_layers_in_training_only() -> None:
    layer = RecurrentLayer("gru", 5, 4, layers=2, dropout=0.5)
    inputs = torch.randn(4, 7, 5)
    assert not torch.equal(layer(inputs)[0], layer(inputs)[0])
    layer.eval()
    torch.testing.assert_close(layer(inputs)[0], layer(inputs)[0], rtol=0, atol=0)
    single = RecurrentLayer("gru", 5, 4, layers=1, dropout=0.5)
    torch.testing.assert_close(single(inputs)[0], single(inputs)[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_orthogonal_recurrent_weights_are_orthogonal_gate_by_gate(name: str) -> None:
    layer = RecurrentLayer(name, 5, 4, orthogonal=True)
    for gate in cast(Tensor, layer.runs[0].weight_hh_l0).split(4):  # type: ignore[no-untyped-call]
        torch.testing.assert_close(gate @ gate.T, torch.eye(4))
    assert cell(name, 5, 4, orthogonal=True) is not None


def test_the_forget_bias_is_the_sum_of_torchs_two() -> None:
    run = RecurrentLayer("lstm", 5, 4, forget_bias=1.0).runs[0]
    total = cast(Tensor, run.bias_ih_l0) + cast(Tensor, run.bias_hh_l0)
    assert total[4:8].tolist() == [1.0] * 4
    assert total[:4].tolist() != [1.0] * 4
    with pytest.raises(UserError, match="'gru' has no forget gate"):
        RecurrentLayer("gru", 5, 4, forget_bias=1.0)


def test_wrong_names_and_shapes_are_named() -> None:
    with pytest.raises(UserError, match="no recurrent cell 'lstn'. Did you mean 'lstm'"):
        RecurrentLayer("lstn", 5, 4)
    with pytest.raises(UserError, match="takes no option 'orthogonl'. Did you mean 'orthogonal'"):
        cell("gru", 5, 4, orthogonl=True)
    with pytest.raises(UserError, match="5 -> 4, 0 deep"):
        RecurrentLayer("gru", 5, 4, layers=0)
    layer = RecurrentLayer("gru", 5, 4, bidirectional=True)
    with pytest.raises(ValueError, match=r"inputs are \(2, 3, 6\)"):
        layer(torch.zeros(2, 3, 6))
    with pytest.raises(ValueError, match=r"mask is \(2, 3\) torch.int64"):
        layer(torch.zeros(2, 3, 5), torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="mask has padding before a word"):
        layer(torch.zeros(2, 3, 5), torch.tensor([[True, False, True], [True, True, True]]))
    with pytest.raises(ValueError, match=r"inputs are \(2, 0, 5\): no words"):
        layer(torch.zeros(2, 0, 5))
    with pytest.raises(ValueError, match="no step"):
        layer.step(torch.zeros(2, 5), layer.initial(2))


def test_every_named_cell_has_its_fused_layer() -> None:
    assert sorted(CELLS) == sorted(FUSED)


def test_a_layer_learns_to_remember_the_first_word() -> None:
    torch.manual_seed(1)
    layer, answer = RecurrentLayer("lstm", 2, 16, forget_bias=1.0), nn.Linear(16, 2)
    words = torch.randint(2, (64, 6))
    inputs = nn.functional.one_hot(words, 2).float()
    optimizer = torch.optim.Adam([*layer.parameters(), *answer.parameters()], lr=0.02)
    for _ in range(60):
        loss = nn.functional.cross_entropy(answer(layer(inputs)[1]), words[:, 0])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < 0.05
