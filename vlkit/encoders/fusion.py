"""A text and a picture into one vector, with the weights that attention gave to patches and words.

Each is `(question: TextStates, image: ImageGrid, mask (batch, words) or None) -> Fused`, made from the two encoders'
dims and the width of the result.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from vlkit.attention import attention, masked_softmax
from vlkit.encoders.image import ImageGrid
from vlkit.encoders.text import TextStates
from vlkit.errors import UserError
from vlkit.plugins import built, nearest, resolve


@dataclass(frozen=True)
class Fused:
    """A text and a picture as one vector, and what was looked at for it."""

    joint: Tensor  # (batch, dim)
    weights: dict[str, Tensor] = field(default_factory=dict)  # "patches": (batch, patches), "words": (batch, words)


class ConcatFusion(nn.Module):
    """relu(W [text; image]) of the two pooled vectors."""

    def __init__(self, text_dim: int, image_dim: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.join = nn.Sequential(nn.Linear(text_dim + image_dim, dim), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """pooled (batch, text_dim), pooled (batch, image_dim) -> joint (batch, dim)"""
        return Fused(joint=self.join(torch.cat([question.pooled, image.pooled], dim=1)))


class GatedTanh(nn.Module):
    """tanh(W x) * sigmoid(V x) (Teney et al. 2018, equations 1 to 3)."""

    def __init__(self, input_dim: int, dim: int) -> None:
        super().__init__()
        self.content = nn.Linear(input_dim, dim)
        self.gate = nn.Linear(input_dim, dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """(..., input_dim) -> (..., dim)"""
        return torch.tanh(self.content(vectors)) * torch.sigmoid(self.gate(vectors))


class ProductFusion(nn.Module):
    """tanh(W text) * tanh(V image), element by element (Antol et al. 2015, section 4); gated on request."""

    def __init__(self, text_dim: int, image_dim: int, dim: int, gated: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.text = GatedTanh(text_dim, dim) if gated else nn.Sequential(nn.Linear(text_dim, dim), nn.Tanh())
        self.image = GatedTanh(image_dim, dim) if gated else nn.Sequential(nn.Linear(image_dim, dim), nn.Tanh())
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """pooled (batch, text_dim), pooled (batch, image_dim) -> joint (batch, dim)"""
        return Fused(joint=self.dropout(self.text(question.pooled) * self.image(image.pooled)))


class AttentionFusion(nn.Module):
    """The text attends over the patches; the joint vector is its gated product with what it saw (Anderson et al. 2018)."""

    def __init__(
        self, text_dim: int, image_dim: int, dim: int, attention: str = "additive", dropout: float = 0.0, **options: Any
    ) -> None:
        super().__init__()
        self.dim = dim
        self.attention = _attention(attention, text_dim, image_dim, options)
        self.text = GatedTanh(text_dim, dim)
        self.image = GatedTanh(image_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """pooled (batch, text_dim), grid (batch, patches, image_dim) -> joint (batch, dim), weights of patches"""
        seen, weights = self.attention(question.pooled, image.grid)
        return Fused(self.dropout(self.text(question.pooled) * self.image(seen)), {"patches": weights})


class StackedAttention(nn.Module):
    """The question looks again, each time with what it saw before added to it (Yang et al. 2016, equations 15 to 21).

    weights: "patches" are the last look's, "patches of look 1" and on are each one's.
    """

    def __init__(self, text_dim: int, image_dim: int, dim: int, looks: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        if looks < 1:
            raise UserError(f"stacked attention with {looks} looks; take 1 or more (the paper's best has 2)")
        self.dim = dim
        self.text = nn.Linear(text_dim, dim)
        self.image = nn.Sequential(nn.Linear(image_dim, dim), nn.Tanh())
        self.looks = nn.ModuleList(_attention("additive", dim, dim, {}) for _ in range(looks))
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """pooled (batch, text_dim), grid (batch, patches, image_dim) -> joint (batch, dim), weights of patches"""
        joint = self.text(question.pooled)
        patches = self.image(image.grid)
        weights: dict[str, Tensor] = {}
        for i, look in enumerate(self.looks, start=1):
            seen, weights[f"patches of look {i}"] = look(joint, patches)
            joint = joint + seen
        weights["patches"] = weights[f"patches of look {len(self.looks)}"]
        return Fused(self.dropout(joint), weights)


class CoAttention(nn.Module):
    """Words weigh patches and patches weigh words, at once (Lu et al. 2016, parallel co-attention, equations 3 to 5)."""

    def __init__(self, text_dim: int, image_dim: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.affinity = nn.Linear(text_dim, image_dim, bias=False)
        self.words = nn.Linear(text_dim, dim, bias=False)
        self.patches = nn.Linear(image_dim, dim, bias=False)
        self.word_score = nn.Linear(dim, 1, bias=False)
        self.patch_score = nn.Linear(dim, 1, bias=False)
        self.text = nn.Linear(text_dim, dim)
        self.image = nn.Linear(image_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """states (batch, words, text_dim), grid (batch, patches, image_dim) -> joint (batch, dim), both weights"""
        states = question.states if mask is None else question.states.masked_fill(~mask[:, :, None], 0)
        affinity = torch.tanh(torch.bmm(self.affinity(states), image.grid.transpose(1, 2)))  # (batch, words, patches)
        words, patches = self.words(states), self.patches(image.grid)
        seen = torch.tanh(patches + torch.bmm(affinity.transpose(1, 2), words))
        read = torch.tanh(words + torch.bmm(affinity, patches))
        patch_weights = self.patch_score(seen)[:, :, 0].softmax(dim=1)
        word_weights = masked_softmax(self.word_score(read)[:, :, 0], mask)
        text = torch.bmm(word_weights[:, None], states)[:, 0]
        picture = torch.bmm(patch_weights[:, None], image.grid)[:, 0]
        joint = torch.tanh(self.text(text) + self.image(picture))
        return Fused(self.dropout(joint), {"patches": patch_weights, "words": word_weights})


FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "concat": ConcatFusion,
    "product": ProductFusion,
    "attention": AttentionFusion,
    "stacked": StackedAttention,
    "coattention": CoAttention,
}


def fusion(name: str, text_dim: int, image_dim: int, dim: int, **options: Any) -> nn.Module:
    """A fusion by its name in `FUSIONS` or as `module:function` of the user's own."""
    if name not in FUSIONS and ":" not in name:
        raise UserError(f"there is no fusion {name!r}.{nearest(name, FUSIONS)} Or name your own as module:function.")
    function = FUSIONS[name] if name in FUSIONS else resolve(name)
    return cast(nn.Module, built(name, function, text_dim, image_dim, dim, **options))


def _attention(name: str, query_dim: int, key_dim: int, options: dict[str, Any]) -> nn.Module:
    return attention(name, query_dim, key_dim, **options)
