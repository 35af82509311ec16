"""Greedy choice, sampling and beam search for any step function.

A step function is `(tokens (batch,), state) -> (logits (batch, vocabulary), state)`. The state is any nest of tuples,
lists, dicts and dataclasses of tensors with a leading batch axis (what is no tensor is left as it is); beam search
repeats and reorders it. Tokens that may not come next have logits of minus infinity.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from vlkit.errors import UserError

State = TypeVar("State")
Step = Callable[[Tensor, State], tuple[Tensor, State]]
Generators = torch.Generator | Sequence[torch.Generator] | None


@dataclasses.dataclass(frozen=True)
class Generated:
    """One sequence for each row."""

    ids: Tensor  # (batch, steps) int64, `<end>` among them where it came, padding after it
    mask: Tensor  # (batch, steps) bool, true up to `<end>`
    log_probs: Tensor  # (batch, steps), of each token where it was chosen, zero at padding; gradients flow

    @property
    def log_prob(self) -> Tensor:
        """(batch,): of the whole sequence"""
        return self.log_probs.sum(dim=1)


@dataclasses.dataclass(frozen=True)
class Beams:
    """Several sequences for each row, the best first."""

    ids: Tensor  # (batch, beams, steps) int64, `<end>` among them where it came, padding after it
    mask: Tensor  # (batch, beams, steps) bool, true up to `<end>`; all false where there was no further sequence
    log_probs: Tensor  # (batch, beams), of the whole sequence; minus infinity where there was no further one
    scores: Tensor  # (batch, beams), log_probs over the length penalty


def greedy(step: Step[State], start: Tensor, state: State, end: int, steps: int, pad: int = 0) -> Generated:
    """The likeliest token each time, until `end` or for `steps` tokens; start (batch,) is read first and not given back."""

    def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = _log_softmax(logits)
        return log_probs.argmax(dim=1), log_probs

    return _generated(step, start, state, end=end, steps=steps, pad=pad, choose=likeliest)


def sample(
    step: Step[State],
    start: Tensor,
    state: State,
    end: int,
    steps: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generators = None,
    pad: int = 0,
) -> Generated:
    """Draws each token from `truncated` logits; `log_probs` are of the distribution that was drawn from.

    With a generator for each row, a row's sequence does not depend on the others in its batch.
    """
    if isinstance(generator, Sequence) and len(generator) != len(start):
        raise ValueError(f"{len(generator)} generators for {len(start)} rows; give one, or one for each row")

    def drawn(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = _log_softmax(truncated(logits, temperature=temperature, top_k=top_k, top_p=top_p))
        return _draw(log_probs.detach(), generator), log_probs

    return _generated(step, start, state, end=end, steps=steps, pad=pad, choose=drawn)


def truncated(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """(batch, vocabulary) -> (batch, vocabulary): over the temperature, and minus infinity for what is cut off.

    top_k keeps the k likeliest; top_p then keeps the fewest of the likeliest whose share, among those kept so far,
    reaches p (Holtzman et al. 2020, section 3.1). Of equally likely tokens, the one with the lower id stays.
    """
    if not temperature > 0:
        raise UserError(
            f"temperature is {temperature}; it is above 0 (for the likeliest token each time, decode greedily)"
        )
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k is {top_k}; it keeps 1 token or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p is {top_p}; it is a share above 0, up to 1")
    logits = logits / temperature
    if top_k is None and top_p is None:
        return logits
    ordered, order = logits.sort(dim=1, descending=True, stable=True)
    kept = torch.ones_like(ordered, dtype=torch.bool)
    if top_k is not None:
        kept[:, top_k:] = False
    if top_p is not None and top_p < 1:
        # In double precision: a single one's sum of a large vocabulary errs by more than a rare token's share.
        shares = ordered.masked_fill(~kept, -torch.inf).double().softmax(dim=1)
        kept &= shares.cumsum(dim=1) - shares < top_p
    return logits.masked_fill(~torch.zeros_like(kept).scatter(1, order, kept), -torch.inf)


@torch.no_grad()
def beam_search(
    step: Step[State],
    start: Tensor,
    state: State,
    end: int,
    steps: int,
    width: int = 4,
    length_penalty: float = 0.0,
    results: int | None = None,
    pad: int = 0,
) -> Beams:
    """The best `results` (all `width` where it is not given) sequences of at most `steps` tokens.

    Each step continues the `width` likeliest unfinished sequences; finished ones are kept beside them and compete in
    the end, with those that `steps` cut off. Score: log-probability over ((5 + length) / 6) ** length_penalty (Wu et
    al. 2016, equation 14, arXiv:1609.08144); 0 compares plain log-probabilities.
    """
    results = width if results is None else results
    if width < 1 or steps < 1 or not 1 <= results <= width:
        raise UserError(f"beam search of width {width}, {steps} steps, {results} results; take 1 <= results <= width")
    if length_penalty < 0:
        raise UserError(f"length_penalty is {length_penalty}; it is 0 or more (more favours longer texts)")
    batch, device = len(start), start.device
    penalties = [((5 + length) / 6) ** length_penalty for length in range(steps + 1)]
    state = mapped(state, lambda tensor: tensor.repeat_interleave(width, dim=0))
    tokens = start.repeat_interleave(width)
    alive = torch.full((batch, width), -torch.inf, device=device)  # log-probabilities of the unfinished
    alive[:, 0] = 0  # at first all beams of a row are the same
    ids = torch.full((batch, width, steps), pad, dtype=torch.int64, device=device)
    done = Beams(
        ids=ids, mask=torch.zeros_like(ids, dtype=torch.bool), log_probs=torch.full_like(alive, -torch.inf),
        scores=torch.full_like(alive, -torch.inf),
    )  # fmt: skip
    rows = torch.arange(batch, device=device)[:, None]
    for i in range(steps):
        logits, state = step(tokens, state)
        vocabulary = logits.shape[1]
        log_probs = _log_softmax(logits).to(alive.dtype).view(batch, width, vocabulary)
        total = alive[:, :, None] + log_probs
        # Finished here: each beam may end once.
        ended = ids.clone()
        ended[:, :, i] = end
        done = _best(done, ended, total[:, :, end], length=i + 1, penalty=penalties[i + 1])
        total[:, :, end] = -torch.inf
        alive, chosen = total.flatten(1).topk(width, dim=1)
        source, tokens = chosen // vocabulary, chosen % vocabulary
        ids = ids[rows, source]
        ids[:, :, i] = tokens
        # The best that an unfinished one can still score: no further loss, and the longest text.
        hope = alive[:, 0] / penalties[steps]
        if bool((hope <= done.scores[:, results - 1]).all()):
            break
        if i == steps - 1:
            done = _best(done, ids, alive, length=steps, penalty=penalties[steps])
            break
        flat = (rows * width + source).flatten()
        state = mapped(state, partial(torch.index_select, dim=0, index=flat))
        tokens = tokens.flatten()
    return Beams(
        ids=done.ids[:, :results].masked_fill(~done.mask[:, :results], pad), mask=done.mask[:, :results],
        log_probs=done.log_probs[:, :results], scores=done.scores[:, :results],
    )  # fmt: skip


def mapped(state: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of tuples, lists, dicts and dataclasses with `function` of each tensor."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple):
        parts = [mapped(part, function) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if isinstance(state, list):
        return [mapped(part, function) for part in state]
    if isinstance(state, dict):
        return {key: mapped(part, function) for key, part in state.items()}
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        fields = [each.name for each in dataclasses.fields(state) if each.init]
        return dataclasses.replace(state, **{name: mapped(getattr(state, name), function) for name in fields})
    return state


def _generated(
    step: Step[State],
    start: Tensor,
    state: State,
    end: int,
    steps: int,
    pad: int,
    choose: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Generated:
    if steps < 1:
        raise ValueError(f"steps is {steps}; a sequence has 1 token or more")
    tokens, ended = start, torch.zeros_like(start, dtype=torch.bool)
    ids, mask, chosen = [], [], []
    for _ in range(steps):
        logits, state = step(tokens, state)
        tokens, log_probs = choose(logits)
        tokens = tokens.masked_fill(ended, pad)
        ids.append(tokens)
        mask.append(~ended)
        # gather before the fill: a padding token's own log-probability may be minus infinity
        chosen.append(log_probs.gather(1, tokens[:, None])[:, 0].masked_fill(ended, 0))
        ended = ended | (tokens == end)
        if bool(ended.all()):
            break
    return Generated(torch.stack(ids, dim=1), torch.stack(mask, dim=1), torch.stack(chosen, dim=1))


def _log_softmax(logits: Tensor) -> Tensor:
    log_probs = logits.float().log_softmax(dim=1)
    if bool(log_probs.isnan().any()):
        row = int(log_probs.isnan().any(dim=1).nonzero()[0])
        raise ValueError(
            f"the step's logits of row {row} are NaN, or minus infinity for every token: nothing can come next"
        )
    return log_probs


def _draw(log_probs: Tensor, generator: Generators) -> Tensor:
    """(batch, vocabulary) -> (batch,): one token of each row, by one uniform number and the running sum of the shares"""
    if isinstance(generator, Sequence):
        uniform = torch.stack(
            [torch.rand((), generator=each, dtype=torch.float64, device=each.device) for each in generator]
        )
    else:
        device = log_probs.device if generator is None else generator.device
        uniform = torch.rand(len(log_probs), generator=generator, dtype=torch.float64, device=device)
    shares = log_probs.double().exp()
    running = shares.cumsum(dim=1)
    # To the right of equal sums: a token with no share of its own is never met.
    place = torch.searchsorted(running, uniform.to(running.device)[:, None] * running[:, -1:], right=True)
    possible = torch.arange(shares.shape[1], device=shares.device) * (shares > 0)
    return torch.minimum(place, possible.amax(dim=1, keepdim=True))[:, 0]


def _best(done: Beams, ids: Tensor, log_probs: Tensor, length: int, penalty: float) -> Beams:
    """The best of those that were finished before and these, which all have `length` tokens."""
    width = log_probs.shape[1]
    mask = (torch.arange(ids.shape[2], device=ids.device) < length) & (log_probs > -torch.inf)[:, :, None]
    scores = torch.cat([done.scores, log_probs / penalty], dim=1)
    # Sorted, not topk: of equal scores the one that was found first stays first.
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :width]
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    return Beams(
        ids=torch.cat([done.ids, ids], dim=1)[rows, order],
        mask=torch.cat([done.mask, mask], dim=1)[rows, order],
        log_probs=torch.cat([done.log_probs, log_probs], dim=1)[rows, order],
        scores=scores[rows, order],
    )
