"""Text encoders behind one contract: ids and mask in, a state for each word and one vector for the text out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from vlkit.attention import masked_softmax
from vlkit.checkpoint import local_folder
from vlkit.errors import UserError
from vlkit.plugins import built, nearest, resolve
from vlkit.rnn import RecurrentLayer
from vlkit.text import Tokenizer

POOLINGS = ("last", "attention", "mean", "max")


@dataclass(frozen=True)
class TextStates:
    """A batch of texts as a text encoder gives it."""

    states: Tensor  # (batch, words, dim), zero at padding
    pooled: Tensor  # (batch, dim)


class RecurrentTextEncoder(nn.Module):
    """Word vectors and a recurrent layer; `dim` is the width of its states, halved for each of two directions.

    vocabulary: how many ids there are. vectors: a start for the word vectors (vocabulary, word_dim), as
    `vlkit.text.read_vectors` gives. word_dropout: in training, the share of words that become `<unk>`.
    pooling: "last" takes the state after the last word (and, backward, after the first); "attention" is a learned
    weighting of the states (Lin et al. 2017, arXiv:1703.03130, with one hop); "mean" and "max" are over the words.
    """

    def __init__(
        self,
        vocabulary: int,
        word_dim: int = 256,
        dim: int = 256,
        cell: str = "lstm",
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        vectors: Tensor | None = None,
        pooling: str = "last",
        orthogonal: bool = False,
        forget_bias: float | None = None,
        padding: int = 0,
        unknown: int = 1,
    ) -> None:
        super().__init__()
        if bidirectional and dim % 2:
            raise UserError(f"dim is {dim}; two directions need an even one, such as {dim + 1}")
        if vectors is not None and vectors.shape != (vocabulary, word_dim):
            raise UserError(
                f"the word vectors are {tuple(vectors.shape)}, but vocabulary and word_dim ask for "
                f"{(vocabulary, word_dim)}; read them for this tokenizer's words with this word_dim"
            )
        for name, share in (("dropout", dropout), ("word_dropout", word_dropout)):
            if not 0 <= share < 1:
                raise UserError(f"{name} is {share}; it is a share from 0 up to, not including, 1")
        if pooling not in POOLINGS:
            raise UserError(f"there is no pooling {pooling!r}.{nearest(pooling, POOLINGS)}")
        self.vocabulary = vocabulary
        self.dim = dim
        self.pooling = pooling
        self.unknown = unknown
        self.word_dropout = word_dropout
        self.words = nn.Embedding(vocabulary, word_dim, padding_idx=padding)
        if vectors is not None:
            with torch.no_grad():
                self.words.weight.copy_(vectors)
                self.words.weight[padding] = 0
        self.dropout = nn.Dropout(dropout)
        self.layer = RecurrentLayer(
            cell, word_dim, dim // 2 if bidirectional else dim, layers=layers, bidirectional=bidirectional,
            dropout=dropout, orthogonal=orthogonal, forget_bias=forget_bias,
        )  # fmt: skip
        self.weigh = nn.Linear(dim, 1) if pooling == "attention" else None

    def forward(self, ids: Tensor, mask: Tensor) -> TextStates:
        """(batch, words) int64, (batch, words) bool -> states (batch, words, dim), pooled (batch, dim)"""
        check_text(ids, mask, self.vocabulary)
        if self.training and self.word_dropout:
            ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.word_dropout, self.unknown)
        states, final = self.layer(self.dropout(self.words(ids)), mask)
        states, final = self.dropout(states), self.dropout(final)
        return TextStates(states=states, pooled=final if self.pooling == "last" else self._pooled(states, mask))

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.weigh is not None:
            return torch.bmm(masked_softmax(self.weigh(states)[:, :, 0], mask)[:, None], states)[:, 0]
        if self.pooling == "mean":
            return masked_mean(states, mask)
        lowest = states.masked_fill(~mask[:, :, None], torch.finfo(states.dtype).min)
        return lowest.amax(dim=1).masked_fill(~mask.any(dim=1)[:, None], 0)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """(batch, words, dim), (batch, words) -> (batch, dim), zero for a row without words"""
    return (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1).clamp(min=1)[:, None]


def check_text(ids: Tensor, mask: Tensor, vocabulary: int) -> None:
    """Raises ValueError, naming what is wrong, unless a text encoder with so many words can read these."""
    if ids.dim() != 2 or ids.is_floating_point():
        raise ValueError(f"ids are {tuple(ids.shape)} {ids.dtype}; a text encoder reads (batch, words) int64")
    if mask.shape != ids.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"mask is {tuple(mask.shape)} {mask.dtype}; these ids take {tuple(ids.shape)} bool, true for words"
        )
    # On an accelerator the look would wait for everything before it; there the embedding complains by itself.
    if ids.device.type == "cpu" and ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise ValueError(
            f"ids go from {int(ids.min())} to {int(ids.max())}, but the encoder was made for {vocabulary} words; "
            "use the tokenizer that it was made with"
        )


TEXT_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "rnn": partial(RecurrentTextEncoder, cell="rnn", bidirectional=False),
    "lstm": partial(RecurrentTextEncoder, cell="lstm", bidirectional=False),
    "gru": partial(RecurrentTextEncoder, cell="gru", bidirectional=False),
    "birnn": partial(RecurrentTextEncoder, cell="rnn", bidirectional=True),
    "bilstm": partial(RecurrentTextEncoder, cell="lstm", bidirectional=True),
    "bigru": partial(RecurrentTextEncoder, cell="gru", bidirectional=True),
    "recurrent": RecurrentTextEncoder,
}


def text_encoder(name: str, vocabulary: int, frozen: bool = False, **options: Any) -> nn.Module:
    """A text encoder for `vocabulary` ids by name.

    The name is one of `TEXT_ENCODERS`, `hf:MODEL_OR_FOLDER` (a transformers text model, read with its own tokenizer)
    or `module:function` of the user's own, which is called as `function(vocabulary, **options)`. frozen: nothing in
    it changes in training.
    """
    if name in TEXT_ENCODERS:
        encoder = built(name, TEXT_ENCODERS[name], vocabulary, **options)
    elif name.startswith("hf:"):
        encoder = built(name, hugging_face_encoder, name.removeprefix("hf:"), vocabulary, **options)
    elif ":" in name:
        encoder = built(name, resolve(name), vocabulary, **options)
    else:
        raise UserError(
            f"there is no text encoder {name!r}.{nearest(name, TEXT_ENCODERS)} Or name hf:MODEL_OR_FOLDER, or your own "
            "as module:function."
        )
    if frozen:
        from vlkit.encoders.pretrained import Frozen

        return Frozen(encoder)
    return cast(nn.Module, encoder)


def made_tokenizer(name: str, texts: Iterable[str], minimum: int = 1) -> Tokenizer:
    """What a text encoder of that name reads: words that occur in the texts; a transformers model brings its own."""
    if name.startswith("hf:"):
        return Tokenizer.load(local_folder(name.removeprefix("hf:")) / "tokenizer.json")
    return Tokenizer.train(texts, minimum=minimum)


def hugging_face_encoder(model: str, vocabulary: int, pretrained: bool = True) -> nn.Module:
    """A transformers text model."""
    from vlkit.encoders.pretrained import HuggingFaceTextEncoder

    return HuggingFaceTextEncoder(model, vocabulary, pretrained=pretrained)
