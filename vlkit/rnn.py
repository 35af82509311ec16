"""Recurrent cells behind one interface, and layers of them over time in which padding changes nothing.

A cell is a module `(input (batch, input_dim), state) -> (output (batch, dim), state)` with the attributes `input_dim`
and `dim` and a method `initial(batch, device, dtype)`; its state is a tuple of tensors (batch, anything). A new cell
is one class and a line in `CELLS`, or a class of the user's own that a config names as `module:Class`.
"""

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vlkit.errors import UserError
from vlkit.plugins import built, nearest, resolve

State = tuple[Tensor, ...]  # each (batch, anything)
LayerState = tuple[
    State, ...
]  # a cell's state for each layer, from below; forward before backward where there are both


class Cell(Protocol):
    """What a layer asks of a cell."""

    input_dim: int
    dim: int

    def __call__(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        """(batch, input_dim), state -> (batch, dim), state"""
        ...

    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> State:
        """The state of `batch` rows before the first word."""
        ...


class RNNCell(nn.Module):
    """Elman's: h' = tanh(W x + U h + b)."""

    def __init__(self, input_dim: int, dim: int, orthogonal: bool = False) -> None:
        super().__init__()
        self.input_dim, self.dim = input_dim, dim
        self.cell = nn.RNNCell(input_dim, dim)
        _initialise(self.cell, dim, orthogonal, forget_bias=None)

    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> State:
        """The state before the first word: zeros."""
        return (torch.zeros(batch, self.dim, device=device, dtype=dtype),)

    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        """(batch, input_dim), ((batch, dim),) -> (batch, dim), ((batch, dim),)"""
        hidden = self.cell(input, state[0])
        return hidden, (hidden,)


class LSTMCell(nn.Module):
    """Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; the state is (hidden, memory)."""

    def __init__(self, input_dim: int, dim: int, orthogonal: bool = False, forget_bias: float | None = None) -> None:
        super().__init__()
        self.input_dim, self.dim = input_dim, dim
        self.cell = nn.LSTMCell(input_dim, dim)
        _initialise(self.cell, dim, orthogonal, forget_bias)

    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> State:
        """The state before the first word: zeros."""
        zeros = torch.zeros(batch, self.dim, device=device, dtype=dtype)
        return zeros, zeros

    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        """(batch, input_dim), ((batch, dim), (batch, dim)) -> (batch, dim), ((batch, dim), (batch, dim))"""
        hidden, memory = self.cell(input, (state[0], state[1]))
        return hidden, (hidden, memory)


class GRUCell(nn.Module):
    """Cho et al. 2014, in the form with one more bias that cuDNN and torch compute."""

    def __init__(self, input_dim: int, dim: int, orthogonal: bool = False) -> None:
        super().__init__()
        self.input_dim, self.dim = input_dim, dim
        self.cell = nn.GRUCell(input_dim, dim)
        _initialise(self.cell, dim, orthogonal, forget_bias=None)

    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> State:
        """The state before the first word: zeros."""
        return (torch.zeros(batch, self.dim, device=device, dtype=dtype),)

    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        """(batch, input_dim), ((batch, dim),) -> (batch, dim), ((batch, dim),)"""
        hidden = self.cell(input, state[0])
        return hidden, (hidden,)


CELLS: dict[str, Callable[..., nn.Module]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}

ROWS_TOGETHER = 16  # fewer rows leave a CPU's vector units idle
GROUPS_AT_MOST = 8
WORDS_TOGETHER = 8  # groups are as long as a multiple of it: oneDNN compiles a kernel for each new length

# The same cells with the loop over time inside one kernel.
FUSED: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def cell(name: str, input_dim: int, dim: int, **options: Any) -> nn.Module:
    """A cell by its name in `CELLS` or as `module:function` of the user's own."""
    return cast(nn.Module, built(name, _named(name), input_dim, dim, **options))


class RecurrentLayer(nn.Module):
    """Cells over time: `layers` on top of each other, in one direction or both, dropout between the layers.

    `dim` is the width of one direction; `output_dim` is that of the states. The named cells run in torch's fused
    kernels, one for each layer and direction; a user's cell is looped over. The backward direction reads each row's
    words in reverse and its padding where it was, so nothing is packed; but for an LSTM's final memory.

    orthogonal: recurrent weights start as orthogonal matrices, one for each gate (Saxe et al. 2014,
    arXiv:1312.6120). forget_bias: the LSTM's forget gate starts with this bias in all (Gers et al. 2000; Jozefowicz et
    al. 2015, section 2.2, recommend 1); None leaves torch's draw.
    """

    def __init__(
        self,
        cell: str,
        input_dim: int,
        dim: int,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        orthogonal: bool = False,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__()
        if layers < 1 or dim < 1 or input_dim < 1:
            raise UserError(f"a recurrent layer of {input_dim} -> {dim}, {layers} deep; each must be 1 or more")
        if forget_bias is not None and cell in FUSED and cell != "lstm":
            raise UserError(
                f"forget_bias is {forget_bias}, but a {cell!r} has no forget gate; leave it out or take 'lstm'"
            )
        self.name = cell
        self.input_dim = input_dim
        self.dim = dim
        self.layers = layers
        self.directions = 2 if bidirectional else 1
        self.output_dim = dim * self.directions
        self.dropout = nn.Dropout(dropout)
        self.runs = nn.ModuleList()  # layer after layer; forward before backward
        for i in range(layers * self.directions):
            below = input_dim if i < self.directions else self.output_dim
            if cell in FUSED:
                run: nn.Module = FUSED[cell](below, dim, batch_first=True)
                _initialise(run, dim, orthogonal, forget_bias)
            else:
                chosen: dict[str, Any] = {"orthogonal": True} if orthogonal else {}
                chosen |= {} if forget_bias is None else {"forget_bias": forget_bias}
                run = _one_cell(cell, below, dim, chosen)
            self.runs.append(run)

    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> LayerState:
        """The state before the first word."""
        if self.name not in FUSED:
            return tuple(cast(Cell, run).initial(batch, device, dtype) for run in self.runs)
        zeros = torch.zeros(batch, self.dim, device=device, dtype=dtype)
        return ((zeros, zeros) if self.name == "lstm" else (zeros,),) * len(self.runs)

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, initial: LayerState | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, words, input_dim) -> states (batch, words, output_dim), final (batch, output_dim)

        `mask` (batch, words) is true for the words, which come first, then padding; without it there is none. States
        are zero at padding. `final` is the top layer's output at each row's last word, beside it the backward
        direction's at the first; a row without words has its initial state there, zero unless one is given.
        """
        states, outputs, _ = self._over_time(inputs, mask, initial, full=False)
        return states, torch.cat(outputs, dim=1)

    def forward_with_state(
        self, inputs: Tensor, mask: Tensor | None = None, initial: LayerState | None = None
    ) -> tuple[Tensor, LayerState]:
        """(batch, words, input_dim) -> states (batch, words, output_dim), each cell's state after its last word"""
        states, _, state = self._over_time(inputs, mask, initial, full=True)
        return states, state

    def step(self, input: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """(batch, input_dim) -> output (batch, dim) and the new state: one word, for a decoder"""
        if self.directions == 2:
            raise ValueError("a bidirectional layer reads whole texts; it has no step")
        output, after = input, []
        for i, run in enumerate(self.runs):
            output, new = _one_step(self.name, run, self.dropout(output) if i else output, state[i])
            after.append(new)
        return output, tuple(after)

    def _over_time(
        self, inputs: Tensor, mask: Tensor | None, initial: LayerState | None, full: bool
    ) -> tuple[Tensor, list[Tensor], LayerState]:
        if inputs.dim() != 3 or inputs.shape[2] != self.input_dim:
            raise ValueError(f"inputs are {tuple(inputs.shape)}; the layer reads (batch, words, {self.input_dim})")
        if mask is None:
            mask = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        if mask.shape != inputs.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"mask is {tuple(mask.shape)} {mask.dtype}; these inputs take {tuple(inputs.shape[:2])} bool"
            )
        if not inputs.shape[1]:
            raise ValueError(f"inputs are {tuple(inputs.shape)}: no words; keep one column of padding at least")
        if mask.device.type == "cpu" and bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise ValueError("mask has padding before a word; words come first in each row, then padding")
        lengths = mask.sum(dim=1)
        # A CPU's time goes into the arithmetic, padding's too: rows of like length run together. With R2R's
        # instructions in batches of 64 to 256 that halves an LSTM's time. An accelerator would only wait for the host.
        groups = min(len(inputs) // ROWS_TOGETHER, GROUPS_AT_MOST)
        if inputs.device.type == "cpu" and groups > 1 and int(lengths.sum()) < 0.9 * mask.numel():
            return self._by_length(inputs, mask, lengths, initial, full=full, groups=groups)
        return self._together(inputs, mask, lengths, initial, full)

    def _by_length(
        self, inputs: Tensor, mask: Tensor, lengths: Tensor, initial: LayerState | None, full: bool, groups: int
    ) -> tuple[Tensor, list[Tensor], LayerState]:
        order = lengths.argsort(descending=True)
        parts = []
        for rows in order.chunk(groups):
            longest = max(int(lengths[rows[0]]), 1)
            words = min(longest + -longest % WORDS_TOGETHER, inputs.shape[1])
            start = None if initial is None else tuple(tuple(part[rows] for part in state) for state in initial)
            states, outputs, after = self._together(
                inputs[rows, :words], mask[rows, :words], lengths[rows], start, full
            )
            parts.append((F.pad(states, (0, 0, 0, inputs.shape[1] - words)), outputs, after))
        back = order.argsort()
        every_states, every_outputs, every_after = zip(*parts, strict=True)
        return (
            torch.cat(every_states)[back],
            [torch.cat(side)[back] for side in zip(*every_outputs, strict=True)],
            tuple(
                tuple(torch.cat(part)[back] for part in zip(*state, strict=True))
                for state in zip(*every_after, strict=True)
            ),
        )

    def _together(
        self, inputs: Tensor, mask: Tensor, lengths: Tensor, initial: LayerState | None, full: bool
    ) -> tuple[Tensor, list[Tensor], LayerState]:
        places = torch.arange(mask.shape[1], device=mask.device)
        reverse = torch.where(mask, lengths[:, None] - 1 - places, places)
        padding = ~mask[:, :, None]
        # Infinities in the padding would reach the weights' gradients as 0 * inf.
        below = inputs.masked_fill(padding, 0)
        outputs: list[Tensor] = []
        after: list[State] = []
        for i in range(0, len(self.runs), self.directions):
            if i:
                below = self.dropout(below)
            sides, outputs = [], []
            for j in range(i, i + self.directions):
                backward = j > i
                side, output, state = self._one_direction(
                    self.runs[j], _reordered(below, reverse) if backward else below, mask, lengths,
                    None if initial is None else initial[j], full,
                )  # fmt: skip
                sides.append(_reordered(side, reverse) if backward else side)
                outputs.append(output)
                after.append(state)
            below = (torch.cat(sides, dim=2) if len(sides) > 1 else sides[0]).masked_fill(padding, 0)
        return below, outputs, tuple(after)

    def _one_direction(
        self, run: nn.Module, inputs: Tensor, mask: Tensor, lengths: Tensor, initial: State | None, full: bool
    ) -> tuple[Tensor, Tensor, State]:
        """States, the output at each row's last word, and the state after it, whose memory is left out unless `full`."""
        if self.name not in FUSED:
            return _looped(run, inputs, mask, initial)
        # torch.nn wants (layers, batch, dim), and no tuple for the cells whose state is one tensor.
        before: Any = None if initial is None else tuple(part[None].contiguous() for part in initial)
        if before is not None and self.name != "lstm":
            before = before[0]
        if full and self.name == "lstm":
            return _packed(run, inputs, lengths, before, initial)
        states = run(inputs, before)[0]
        last = states[torch.arange(len(states), device=states.device), (lengths - 1).clamp(min=0)]
        none = torch.zeros_like(last) if initial is None else initial[0].to(last.dtype)
        output = torch.where(lengths[:, None] > 0, last, none)
        return states, output, (output,)


def _one_cell(name: str, input_dim: int, dim: int, options: dict[str, Any]) -> nn.Module:
    return cell(name, input_dim, dim, **options)


def _named(name: str) -> Callable[..., nn.Module]:
    if name in CELLS:
        return CELLS[name]
    if ":" in name:
        return resolve(name)
    raise UserError(f"there is no recurrent cell {name!r}.{nearest(name, CELLS)} Or name your own as module:function.")


def _reordered(states: Tensor, places: Tensor) -> Tensor:
    """(batch, words, dim), (batch, words) -> (batch, words, dim)"""
    return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))


def _packed(
    run: nn.Module, inputs: Tensor, lengths: Tensor, before: Any, initial: State | None
) -> tuple[Tensor, Tensor, State]:
    """The LSTM's memory after the last word is in no output, so a run that must give it packs the words."""
    words = pack_padded_sequence(inputs, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    packed, (hidden, memory) = run(words, before)
    states, _ = pad_packed_sequence(packed, batch_first=True, total_length=inputs.shape[1])
    state = []
    for i, part in enumerate((hidden[0], memory[0])):
        none = torch.zeros_like(part) if initial is None else initial[i].to(part.dtype)
        state.append(torch.where(lengths[:, None] > 0, part, none))
    return states, state[0], tuple(state)


def _looped(run: nn.Module, inputs: Tensor, mask: Tensor, initial: State | None) -> tuple[Tensor, Tensor, State]:
    one = cast(Cell, run)
    state = one.initial(len(inputs), inputs.device, inputs.dtype) if initial is None else initial
    last = torch.zeros(len(inputs), one.dim, device=inputs.device, dtype=inputs.dtype)
    if initial is not None and initial[0].shape == last.shape:
        last = initial[0]
    outputs = []
    for i in range(inputs.shape[1]):
        output, after = one(inputs[:, i], state)
        here = mask[:, i]
        state = tuple(torch.where(_like(here, new), new, old) for new, old in zip(after, state, strict=True))
        last = torch.where(here[:, None], output, last)
        outputs.append(output)
    return torch.stack(outputs, dim=1), last, state


def _like(mask: Tensor, part: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (part.dim() - 1))


def _one_step(name: str, run: nn.Module, input: Tensor, state: State) -> tuple[Tensor, State]:
    if name not in FUSED:
        return cast(Cell, run)(input, state)
    weights = [getattr(run, f"{part}_l0") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if name == "lstm":
        hidden, memory = torch.lstm_cell(input, [state[0], state[1]], *weights)
        return hidden, (hidden, memory)
    hidden = (torch.gru_cell if name == "gru" else torch.rnn_tanh_cell)(input, state[0], *weights)
    return hidden, (hidden,)


@torch.no_grad()
def _initialise(module: nn.Module, dim: int, orthogonal: bool, forget_bias: float | None) -> None:
    for name, parameter in module.named_parameters():
        if orthogonal and name.startswith("weight_hh"):
            for i in range(0, len(parameter), dim):
                nn.init.orthogonal_(parameter[i : i + dim])
        # torch's LSTM adds two biases; its gates are input, forget, candidate, output.
        if forget_bias is not None and name.startswith("bias_"):
            parameter[dim : 2 * dim].fill_(forget_bias if name.startswith("bias_ih") else 0.0)
