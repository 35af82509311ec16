from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vlkit.encoders.image import ImageGrid, SmallCNN, grid_of, image_encoder
from vlkit.encoders.text import POOLINGS, TEXT_ENCODERS, TextStates, masked_mean, text_encoder
from vlkit.rnn import CELLS, LSTMCell, State, cell
from vlkit.testing import ConformanceError, check_cell, check_image_encoder, check_text_encoder

WORDS = 12


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# ---- everything of our own passes


@pytest.mark.parametrize("name", sorted(TEXT_ENCODERS))
@pytest.mark.parametrize("pooling", POOLINGS)
def test_our_text_encoders_conform(name: str, pooling: str) -> None:
    check_text_encoder(
        text_encoder(name, WORDS, word_dim=6, dim=8, layers=2, dropout=0.5, word_dropout=0.5, pooling=pooling), WORDS
    )


def test_a_frozen_text_encoder_conforms() -> None:
    check_text_encoder(text_encoder("bilstm", WORDS, word_dim=6, dim=8, dropout=0.5, frozen=True), WORDS)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("size", [32, (24, 40), (17, 9)])
def test_our_small_image_encoder_conforms(frozen: bool, size: int | tuple[int, int]) -> None:
    check_image_encoder(image_encoder("small_cnn", dim=16, frozen=frozen), size=size)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_torchvision_encoder_conforms(frozen: bool) -> None:
    check_image_encoder(image_encoder("resnet18", frozen=frozen), size=64)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_our_cells_conform(name: str) -> None:
    check_cell(cell(name, 5, 4), input_dim=5)


def test_a_check_leaves_the_module_as_it_was() -> None:
    encoder = image_encoder("resnet18")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    random_state = torch.get_rng_state()
    check_image_encoder(encoder, size=32)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


# ---- what is wrong is found


class OwnText(nn.Module):
    """A bag of words that conforms; each subclass of the test breaks one rule."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 8
        self.words = nn.Embedding(WORDS, 8)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        states = self.words(ids) * mask[:, :, None]
        return TextStates(states=states, pooled=masked_mean(states, mask))


class MeanOverPadding(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, text.states.mean(dim=1))


class ReadsPadding(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, self.words(ids).sum(dim=1))


class BackwardThroughPadding(OwnText):
    """The draft that looks right: a bidirectional layer over padded words, zeroed afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(8, 4, bidirectional=True, batch_first=True)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        states = self.layer(super().forward(ids, mask).states)[0] * mask[:, :, None]
        return TextStates(states, masked_mean(states, mask))


class StatesAtPadding(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states + 1, text.pooled)


class NormalisedOverBatch(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, text.pooled - text.pooled.mean(dim=0) / 2)


class DropoutAlways(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, nn.functional.dropout(text.pooled, 0.5, training=True))


class WrongDim(OwnText):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 16


class NoDim(OwnText):
    def __init__(self) -> None:
        super().__init__()
        del self.dim


class TupleResult(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return text.states, text.pooled


class Deaf(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, text.pooled * 0 + 1)


class UnusedWeights(OwnText):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(2, 2)


class CutOff(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states.detach(), text.pooled.detach())


class FillsIds(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        return super().forward(ids.masked_fill_(~mask, 1), mask)


class NotANumber(OwnText):
    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, text.pooled / (text.pooled - text.pooled))


class FrozenInNameOnly(OwnText):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, self.dropout(text.pooled))


class SavesHalf(OwnText):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, text.pooled * self.scale)

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        return {name: value for name, value in super().state_dict().items() if name != "scale"}

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state, strict=False)


class PlainList(OwnText):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(8, 8)]

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        text = super().forward(ids, mask)
        return TextStates(text.states, self.layers[0](text.pooled))


def test_the_encoder_that_the_wrong_ones_are_made_from_conforms() -> None:
    check_text_encoder(OwnText(), WORDS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (MeanOverPadding, "padding changes pooled for a text of 3 words that is batched with one of 7; it is off by"),
        (ReadsPadding, "padding changes pooled: other ids at padded places"),
        (BackwardThroughPadding, "padding changes pooled for a text of 3 words"),
        (StatesAtPadding, "states at padding are not zero: the largest is 1"),
        (NormalisedOverBatch, "padding changes pooled|depends on the other rows"),
        (DropoutAlways, "gives another pooled the second time"),
        (WrongDim, r"states, for dim 16, is \(3, 7, 8\); it must be \(3, 7, 16\)"),
        (NoDim, "attribute dim None"),
        (TupleResult, "gives tuple without 'states'"),
        (Deaf, "gives the same pooled for other words"),
        (UnusedWeights, "no gradient reaches the parameter forgotten.weight"),
        (CutOff, "cut off from its parameters"),
        (FillsIds, "changes the ids or the mask"),
        (NotANumber, "pooled has 24 numbers of 24 that are not finite"),
        (FrozenInNameOnly, "is frozen, but pooled changes in training mode"),
        (SavesHalf, "state_dict does not hold all: pooled differs"),
        (PlainList, "keeps weights outside its state_dict: layers is a list of modules"),
    ],
)
def test_a_wrong_text_encoder_is_found(wrong: type[OwnText], said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        check_text_encoder(wrong(), WORDS)


class OwnImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 8
        self.layer = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, images: Tensor) -> Any:
        return grid_of(self.layer(images))


class Transposed(OwnImage):
    def forward(self, images: Tensor) -> Any:
        image = super().forward(images)
        return ImageGrid(image.grid.transpose(1, 2), image.pooled, image.shape)


class WrongShape(OwnImage):
    def forward(self, images: Tensor) -> Any:
        image = super().forward(images)
        return ImageGrid(image.grid, image.pooled, (1, image.shape[0]))


class BatchStatistics(OwnImage):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images - images.mean(dim=0))


class NormalisesInPlace(OwnImage):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images.sub_(0.5))


class DividesByContrast(OwnImage):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images / images.amax(dim=(1, 2, 3), keepdim=True))


class MovingFrozen(OwnImage):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Any:
        if self.training:
            self.norm(images)
        return super().forward(images)


class Blind(OwnImage):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images * 0)


def test_the_image_encoder_that_the_wrong_ones_are_made_from_conforms() -> None:
    check_image_encoder(OwnImage(), size=(16, 24))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Transposed, r"grid, for the shape \(4, 6\) and dim 8, is \(3, 8, 24\); it must be \(3, 24, 8\)"),
        (WrongShape, r"grid, for the shape \(1, 4\) and dim 8, is \(3, 24, 8\)"),
        (BatchStatistics, "grid of a row depends on the other rows"),
        (NormalisesInPlace, "changes the pictures"),
        (DividesByContrast, "grid has 576 numbers of 576 that are not finite"),
        (MovingFrozen, "its buffer norm.running_mean changes in training mode"),
        (Blind, "gives the same grid for another picture"),
    ],
)
def test_a_wrong_image_encoder_is_found(wrong: type[OwnImage], said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        check_image_encoder(wrong(), size=(16, 24))


class Remembers(LSTMCell):
    last: Tensor | None = None

    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        output, state = super().forward(input, state)
        before, self.last = self.last, output.detach()
        return output if before is None or before.shape != output.shape else output + before, state


class Forgets(LSTMCell):
    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        output, _ = super().forward(input, self.initial(len(input)))
        return output, state


class WritesState(LSTMCell):
    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        output, (hidden, memory) = super().forward(input, state)
        with torch.no_grad():
            state[0].copy_(hidden)
        return output, (hidden, memory)


class Grows(LSTMCell):
    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        output, after = super().forward(input, state)
        return output, (*after, output)


class BatchSecond(LSTMCell):
    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> State:
        return tuple(part[None] for part in super().initial(batch, device, dtype))


class SingleOnly(LSTMCell):
    def initial(self, batch: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> State:
        return super().initial(batch, device)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Remembers, "second time|remembers outside its state|depends on the other rows"),
        (Forgets, "forgets: the last output"),
        (WritesState, "changes the state that it is given"),
        (Grows, r"the state's shapes go from \[\(3, 4\), \(3, 4\)\] to \[\(3, 4\), \(3, 4\), \(3, 4\)\]"),
        (BatchSecond, r"initial\(3, ...\) gives \[\(1, 3, 4\)"),
        (SingleOnly, r"initial\(..., dtype=float64\) gives \[torch.float32"),
    ],
)
def test_a_wrong_cell_is_found(wrong: type[LSTMCell], said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        check_cell(wrong(5, 4), input_dim=5)


def test_a_cell_of_another_input_dim_is_found() -> None:
    with pytest.raises(ConformanceError, match="input_dim 6, but was made for 5"):
        check_cell(LSTMCell(6, 4), input_dim=5)


def test_a_vocabulary_of_specials_alone_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="vocabulary is 5"):
        check_text_encoder(OwnText(), 5)


def test_a_small_cnn_is_final_and_checked_in_place() -> None:
    encoder = SmallCNN(dim=8, halvings=1).eval()
    check_image_encoder(encoder, size=8)
    assert not encoder.training
