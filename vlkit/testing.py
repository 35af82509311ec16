"""Conformance checks for encoders and cells of one's own: each raises ConformanceError saying which rule is broken.

    from vlkit.testing import check_text_encoder
    check_text_encoder(MyEncoder(vocabulary=100), vocabulary=100)

A checked module is left as it was: its weights, its buffers, its mode; no gradients are stored in it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FIRST_WORD = 4  # ids below it are specials
TOLERANCE = 1e-4  # of the largest number: kernels may add in another order when a batch has another size


class ConformanceError(AssertionError):
    """A module does not keep the contract; the message names the rule, and the shape or number that broke it."""


def check_image_encoder(encoder: nn.Module, size: int | tuple[int, int] = 64) -> None:
    """Checks an image encoder with pictures of `size` (height, width).

    (batch, 3, height, width) in [0, 1] -> `grid` (batch, patches, dim), `pooled` (batch, dim), `shape` (rows, columns)
    with rows * columns patches; attribute `dim`; finite, deterministic in evaluation mode; a picture's result does not
    depend on its batch; it depends on the picture; the pictures are left unchanged; gradients reach every parameter
    that wants them; a frozen encoder (no parameter wants any) does not change in training mode; state_dict round trip.
    """
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(0)).to(_device(encoder))
    with _left_as_it_was(encoder):
        dim = _dim(encoder)
        kept = images.clone()
        result = encoder(images)
        _same(images, kept, "changes the pictures that it is given", tolerance=0)
        for name in ("grid", "pooled", "shape"):
            _require(hasattr(result, name), f"gives {type(result).__name__} without {name!r}; see ImageGrid")
        shape = tuple(result.shape)
        _require(len(shape) == 2 and all(isinstance(each, int) for each in shape), f"shape is {shape}; (rows, columns)")
        patches = shape[0] * shape[1]
        _shaped(result.grid, (3, patches, dim), f"grid, for the shape {shape} and dim {dim},")
        _shaped(result.pooled, (3, dim), f"pooled, for dim {dim},")
        parts = _parts(result, ("grid", "pooled"))
        _finite(parts)
        for extreme in (0.0, 1.0):
            _finite(_parts(encoder(torch.full_like(images, extreme)), ("grid", "pooled")))

        def run(module: nn.Module = encoder, rows: Sequence[int] = (0, 1, 2)) -> dict[str, Tensor]:
            return _parts(module(images[list(rows)]), ("grid", "pooled"))

        _deterministic(run)
        _independent(run, parts)
        other = _parts(encoder(1 - images), ("grid", "pooled"))
        for name in parts:
            _require(not torch.equal(parts[name], other[name]), f"gives the same {name} for another picture")
        _gradients(encoder, run)
        _training(encoder, run)
        _round_trip(encoder, run)


def check_text_encoder(encoder: nn.Module, vocabulary: int) -> None:
    """Checks a text encoder that was made for `vocabulary` ids.

    ids (batch, words), mask (batch, words) true where a word is -> `states` (batch, words, dim), zero at padding, and
    `pooled` (batch, dim); attribute `dim`; finite, deterministic in evaluation mode; padding changes nothing: neither
    the ids that stand there, nor how much there is of it; a text's result does not depend on its batch; it depends on
    its words; ids and mask are left unchanged; gradients reach every parameter that wants them; a frozen encoder does
    not change in training mode; state_dict round trip.
    """
    if vocabulary <= FIRST_WORD + 1:
        raise ValueError(f"vocabulary is {vocabulary}; the checks need two words beside the {FIRST_WORD} specials")
    lengths = (3, 7, 1)
    draw = torch.Generator().manual_seed(0)
    device = _device(encoder)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    ids = torch.randint(FIRST_WORD, vocabulary, (3, 7), generator=draw).masked_fill(~mask, 0)
    # Another word, never the same one: what it is shifted by is no multiple of the number of words.
    shift = torch.randint(1, vocabulary - FIRST_WORD, (3, 7), generator=draw)
    changed = torch.where(mask, FIRST_WORD + (ids - FIRST_WORD + shift) % (vocabulary - FIRST_WORD), ids)
    ids, mask, changed = ids.to(device), mask.to(device), changed.to(device)
    with _left_as_it_was(encoder):
        dim = _dim(encoder)
        kept = ids.clone(), mask.clone()
        result = encoder(ids, mask)
        _require(
            torch.equal(ids, kept[0]) and torch.equal(mask, kept[1]), "changes the ids or the mask that it is given"
        )
        for name in ("states", "pooled"):
            _require(hasattr(result, name), f"gives {type(result).__name__} without {name!r}; see TextStates")
        _shaped(result.states, (3, 7, dim), f"states, for dim {dim},")
        _shaped(result.pooled, (3, dim), f"pooled, for dim {dim},")
        parts = _parts(result, ("states", "pooled"))
        _finite(parts)
        largest = float(result.states[~mask].detach().abs().max())
        _require(largest == 0, f"states at padding are not zero: the largest is {largest:.3g}")

        def run(module: nn.Module = encoder, rows: Sequence[int] = (0, 1, 2)) -> dict[str, Tensor]:
            return _parts(module(ids[list(rows)], mask[list(rows)]), ("states", "pooled"))

        _deterministic(run)
        for filler in (1, vocabulary - 1):
            noisy = _parts(encoder(ids.masked_fill(~mask, filler), mask), ("states", "pooled"))
            for name in parts:
                _same(
                    noisy[name], parts[name], f"padding changes {name}: other ids at padded places give another result"
                )
        for i, length in enumerate(lengths):
            alone = _parts(encoder(ids[i : i + 1, :length], mask[i : i + 1, :length]), ("states", "pooled"))
            said = f"for a text of {length} words that is batched with one of 7"
            _same(alone["pooled"], parts["pooled"][i : i + 1], f"padding changes pooled {said}")
            _same(alone["states"], parts["states"][i : i + 1, :length], f"padding changes states {said}")
        _independent(run, parts)
        other = _parts(encoder(changed, mask), ("states", "pooled"))
        for name in parts:
            for i in range(3):
                _require(not torch.equal(parts[name][i], other[name][i]), f"gives the same {name} for other words")
        _gradients(encoder, run)
        _training(encoder, run)
        _round_trip(encoder, run)


def check_cell(cell: nn.Module, input_dim: int) -> None:
    """Checks a recurrent cell that reads (batch, input_dim).

    (input, state) -> (output (batch, dim), state); attributes `input_dim` and `dim`; `initial(batch, device, dtype)`
    gives a tuple of tensors with a leading batch axis, and the state keeps their shapes and dtype; the state that is
    given is left unchanged, and nothing is remembered outside it; the output depends on earlier inputs; a row does not
    depend on its batch; deterministic in evaluation mode; gradients reach every parameter; state_dict round trip.
    """
    draw = torch.Generator().manual_seed(0)
    device = _device(cell)
    inputs = torch.randn(4, 3, input_dim, generator=draw).to(device)  # (steps, batch, input_dim)
    with _left_as_it_was(cell):
        dim = _dim(cell)
        said = getattr(cell, "input_dim", None)
        _require(said == input_dim, f"has the attribute input_dim {said}, but was made for {input_dim}")
        module: Any = cell
        start = module.initial(3, device, torch.float32)
        _require(
            isinstance(start, tuple) and bool(start) and all(isinstance(part, Tensor) for part in start),
            f"initial gives {type(start).__name__}; a state is a tuple of tensors",
        )
        shapes = [tuple(part.shape) for part in start]
        _require(
            all(shape[:1] == (3,) for shape in shapes), f"initial(3, ...) gives {shapes}; the first axis is the batch"
        )
        double = [part.dtype for part in module.initial(3, device, torch.float64)]
        _require(set(double) == {torch.float64}, f"initial(..., dtype=float64) gives {double}")
        kept = [part.clone() for part in start]
        output, state = cell(inputs[0], start)
        _shaped(output, (3, dim), f"output, for dim {dim},")
        _require(isinstance(state, tuple), f"gives a {type(state).__name__} for a state; a state is a tuple of tensors")
        after = [tuple(part.shape) for part in state]
        _require(after == shapes, f"the state's shapes go from {shapes} to {after}")
        for part, before in zip(state, start, strict=True):
            _require(part.dtype == before.dtype, f"the state's dtype goes from {before.dtype} to {part.dtype}")
        for part, before in zip(start, kept, strict=True):
            _same(part, before, "changes the state that it is given", tolerance=0)

        def run(module: nn.Module = cell, rows: Sequence[int] = (0, 1, 2), first: float = 1.0) -> dict[str, Tensor]:
            now = tuple(part[list(rows)] for part in start)
            outputs = []
            for i, each in enumerate(inputs[:, list(rows)]):
                output, now = module(each * first if i == 0 else each, now)
                outputs.append(output)
            return {"output": torch.stack(outputs, dim=1), **{f"state {i}": part for i, part in enumerate(now)}}

        parts = run()
        _finite(parts)
        _deterministic(run)
        _independent(run, parts)
        cell(inputs[1] * 5, tuple(part + 1 for part in start))
        for name, value in run().items():
            _same(value, parts[name], f"remembers outside its state: {name} changes after other inputs in between", 0)
        last = run(first=-2.0)["output"][:, -1]
        _require(
            not torch.equal(last, parts["output"][:, -1]), "forgets: the last output does not depend on the first input"
        )
        _gradients(cell, run)
        _training(cell, run)
        _round_trip(cell, run)


Run = Callable[..., dict[str, Tensor]]


def _require(kept: bool, said: str) -> None:
    if not kept:
        raise ConformanceError(said)


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


@contextmanager
def _left_as_it_was(module: nn.Module) -> Iterator[None]:
    modes = {each: each.training for each in module.modules()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.eval()
    # Dropout in training mode draws from the global generator, which is not ours to move.
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        for each, training in modes.items():
            each.training = training


def _dim(module: nn.Module) -> int:
    dim = getattr(module, "dim", None)
    _require(isinstance(dim, int) and dim > 0, f"has the attribute dim {dim!r}; it is the width of what it gives")
    return int(dim)  # type: ignore[arg-type]


def _parts(result: Any, names: Sequence[str]) -> dict[str, Tensor]:
    return {name: getattr(result, name) for name in names}


def _shaped(tensor: Any, shape: tuple[int, ...], name: str) -> None:
    _require(isinstance(tensor, Tensor), f"{name} is {type(tensor).__name__}, not a tensor")
    _require(tuple(tensor.shape) == shape, f"{name} is {tuple(tensor.shape)}; it must be {shape}")
    _require(tensor.is_floating_point(), f"{name} is {tensor.dtype}; it must be a float")


def _finite(parts: dict[str, Tensor]) -> None:
    for name, value in parts.items():
        wrong = int((~value.isfinite()).sum())
        _require(wrong == 0, f"{name} has {wrong} numbers of {value.numel()} that are not finite")


def _same(value: Tensor, expected: Tensor, said: str, tolerance: float = TOLERANCE) -> None:
    _require(value.shape == expected.shape, f"{said}: {tuple(value.shape)} instead of {tuple(expected.shape)}")
    if not value.numel():
        return
    value, expected = value.detach(), expected.detach()
    off = float((value - expected).abs().max())
    limit = tolerance * max(float(expected.abs().max()), 1e-3)
    _require(off <= limit, f"{said}; it is off by {off:.3g}, at most {limit:.3g} is allowed")


def _deterministic(run: Run) -> None:
    first, second = run(), run()
    for name, value in first.items():
        _same(second[name], value, f"gives another {name} the second time, in evaluation mode", tolerance=1e-6)


def _independent(run: Run, parts: dict[str, Tensor]) -> None:
    for rows in ((0,), (2, 1)):
        some = run(rows=rows)
        for name, value in some.items():
            _same(value, parts[name][list(rows)], f"{name} of a row depends on the other rows of its batch")


def _gradients(module: nn.Module, run: Run) -> None:
    for place, each in module.named_modules():
        for name, value in vars(each).items():
            held = list(value.values()) if isinstance(value, dict) else value
            if not name.startswith("_") and isinstance(held, list | tuple):
                _require(
                    not any(isinstance(part, nn.Module | nn.Parameter) for part in held),
                    f"keeps weights outside its state_dict: {f'{place}.{name}'.strip('.')} is a {type(value).__name__} of "
                    "modules; make it an nn.ModuleList, nn.ModuleDict or nn.ParameterList",
                )
    wanted = {name: each for name, each in module.named_parameters() if each.requires_grad}
    if not wanted:
        return
    # Weights of no pattern: a plain sum may have no gradient at all, behind a softmax or a normalisation.
    draw = torch.Generator().manual_seed(1)
    total = torch.zeros((), device=_device(module))
    for value in run().values():
        _require(value.requires_grad, "gives results that are cut off from its parameters, which want gradients")
        total = total + (value * torch.randn(value.shape, generator=draw).to(value.device)).sum()
    gradients = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    for name, gradient in zip(wanted, gradients, strict=True):
        _require(
            gradient is not None, f"no gradient reaches the parameter {name}; use it, or set requires_grad to false"
        )
        _require(bool(gradient.isfinite().all()), f"the gradient of the parameter {name} is not finite")


def _training(module: nn.Module, run: Run) -> None:
    """In training mode results keep their shapes; a frozen module with weights gives the same, and keeps its buffers."""
    frozen = any(True for _ in module.parameters()) and not any(each.requires_grad for each in module.parameters())
    before = run()
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.train()
    during = run()
    module.eval()
    for name, value in before.items():
        _require(during[name].shape == value.shape, f"{name} has another shape in training mode")
        if frozen:
            _same(during[name], value, f"is frozen, but {name} changes in training mode", tolerance=1e-6)
    if frozen:
        for name, buffer in module.named_buffers():
            _require(torch.equal(buffer, buffers[name]), f"is frozen, but its buffer {name} changes in training mode")
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])


def _round_trip(module: nn.Module, run: Run) -> None:
    state = module.state_dict()
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    _require(not wrong, f"state_dict holds {', '.join(wrong)}, which is no tensor: safetensors cannot keep it")
    before = {name: value.clone() for name, value in run().items()}
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    other.load_state_dict(state)
    for name, value in run(other).items():
        _same(value, before[name], f"state_dict does not hold all: {name} differs after a round trip", tolerance=1e-6)
