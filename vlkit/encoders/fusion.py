"""A text and a picture into one vector, with the weights that attention gave to patches and words.

Each is `(question: TextStates, image: ImageGrid, mask (batch, words) or None) -> Fused`, made from the two encoders'
dims and the width of the result. One that `asks_together` has `together(question, image, of)` too, for several questions of each
picture; `met` calls what there is.
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


def met(fusion: nn.Module, question: TextStates, image: ImageGrid, mask: Tensor | None, of: Tensor) -> Fused:
    """Each question (batch, ...) with its own one, of (batch,), among pictures (pictures, ...)."""
    if getattr(fusion, "asks_together", False) and len(of) > len(image.grid):
        return cast(Fused, cast(Any, fusion).together(question, image, of))
    own = ImageGrid(grid=image.grid[of], pooled=image.pooled[of], shape=image.shape)
    return cast(Fused, fusion(question, own, mask))


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

    attention: "additive" as published; "bilinear" costs a fraction of it where many questions are asked of a picture.

    weights: "patches" are the last look's, "patches of look 1" and on are each one's.
    """

    def __init__(
        self,
        text_dim: int,
        image_dim: int,
        dim: int,
        looks: int = 2,
        attention: str = "additive",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if looks < 1:
            raise UserError(f"stacked attention with {looks} looks; take 1 or more (the paper's best has 2)")
        self.dim = dim
        self.text = nn.Linear(text_dim, dim)
        self.image = nn.Sequential(nn.Linear(image_dim, dim), nn.Tanh())
        self.looks = nn.ModuleList(_attention(attention, dim, dim, {}) for _ in range(looks))
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

    @property
    def asks_together(self) -> bool:
        """Whether there is `together`."""
        return all(hasattr(look, "many") for look in self.looks)

    def together(self, question: TextStates, image: ImageGrid, of: Tensor) -> Fused:
        """The same for several questions of a picture, each of which is read once: grid (pictures, ...), of (batch,) whose."""
        order = of.argsort(stable=True)
        counts = torch.bincount(of, minlength=len(image.grid))
        slot = torch.empty_like(of)
        slot[order] = torch.arange(len(of), device=of.device) - (counts.cumsum(0) - counts)[of[order]]
        joint = self.text(question.pooled)
        asked = joint.new_zeros(len(counts), int(counts.max()), self.dim).index_put((of, slot), joint)
        patches = self.image(image.grid)
        weights: dict[str, Tensor] = {}
        for i, look in enumerate(self.looks, start=1):
            seen, looked = cast(Any, look).many(asked, patches)
            weights[f"patches of look {i}"] = looked[of, slot]
            asked = asked + seen
        weights["patches"] = weights[f"patches of look {len(self.looks)}"]
        return Fused(self.dropout(asked[of, slot]), weights)


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


class WordwiseFusion(nn.Module):
    """An LSTM that reads the words and looks at the picture before each (Zhu et al. 2016, section 4.1, equations 4 to 9).

    weights: "patches of words" (batch, words, patches) are each look's, "patches" those before the last word.
    """

    def __init__(
        self, text_dim: int, image_dim: int, dim: int, attention: str = "additive", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dim = dim
        self.attention = _attention(attention, dim, image_dim, {})
        self.begin = nn.Linear(image_dim, 2 * dim)
        self.cell = nn.LSTMCell(text_dim + image_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """states (batch, words, text_dim), grid (batch, patches, image_dim) -> joint (batch, dim), weights of each look"""
        hidden, memory = self.begin(image.pooled).tanh().chunk(2, dim=1)
        projected = cast(Any, self.attention).project(image.grid)
        looks = []
        for place, word in enumerate(question.states.unbind(dim=1)):
            seen, weights = self.attention(hidden, image.grid, None, projected)
            after = self.cell(torch.cat([word, seen], dim=1), (hidden, memory))
            if mask is not None:  # padding reads nothing
                reads = mask[:, place, None]
                after = tuple(torch.where(reads, new, old) for new, old in zip(after, (hidden, memory), strict=True))
            hidden, memory = after
            looks.append(weights)
        every = torch.stack(looks, dim=1)
        last = torch.full((len(every),), every.shape[1] - 1, device=every.device) if mask is None else mask.sum(1) - 1
        at_last = every[torch.arange(len(every), device=every.device), last.clamp(min=0)]
        return Fused(self.dropout(hidden), {"patches": at_last, "patches of words": every})


class VisualBertFusion(nn.Module):
    """One transformer over words and patches together (Li et al. 2019, VisualBERT), from transformers, untrained.

    Before the words stands the text's pooled vector, whose last state is the joint one.
    """

    def __init__(
        self, text_dim: int, image_dim: int, dim: int, layers: int = 2, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        from transformers import VisualBertConfig, VisualBertModel

        self.dim = dim
        self.text = nn.Linear(text_dim, dim)
        config = VisualBertConfig(
            vocab_size=4,
            hidden_size=dim,
            visual_embedding_dim=image_dim,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * dim,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        config._attn_implementation = "eager"  # the others do not tell where they looked
        self.model = _used(VisualBertModel(config, add_pooling_layer=False), without=("word_embeddings",))

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """states (batch, words, text_dim), grid (batch, patches, image_dim) -> joint (batch, dim), both weights"""
        words = torch.cat([question.pooled[:, None], question.states], dim=1)
        there = torch.ones(words.shape[:2], dtype=torch.long, device=words.device)
        if mask is not None:
            there[:, 1:] = mask
        seen = there.new_ones(image.grid.shape[:2])
        result = self.model(
            inputs_embeds=self.text(words),
            attention_mask=there,
            token_type_ids=torch.zeros_like(there),
            visual_embeds=image.grid,
            visual_attention_mask=seen,
            visual_token_type_ids=torch.ones_like(seen),
            output_attentions=True,
        )
        looked = result.attentions[-1][:, :, 0].mean(dim=1)
        count = words.shape[1]
        weights = {"words": _normal(looked[:, 1:count]), "patches": _normal(looked[:, count:])}
        return Fused(result.last_hidden_state[:, 0], weights)


class LxmertFusion(nn.Module):
    """Two transformers, of words and of patches, that attend to each other (Tan and Bansal 2019, LXMERT; as ViLBERT, Lu et
    al. 2019, does), from transformers, untrained. Patches come with the boxes that they are.
    """

    def __init__(
        self, text_dim: int, image_dim: int, dim: int, layers: int = 2, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        from transformers import LxmertConfig, LxmertModel

        self.dim = dim
        self.text = nn.Linear(text_dim, dim)
        config = LxmertConfig(
            vocab_size=4,
            hidden_size=dim,
            visual_feat_dim=image_dim,
            visual_pos_dim=4,
            num_attention_heads=heads,
            intermediate_size=4 * dim,
            l_layers=1,
            r_layers=1,
            x_layers=layers,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        last = f"x_layers.{layers - 1}.visn_"  # from which no word comes
        self.model = _used(LxmertModel(config), without=("word_embeddings", "pooler", last))

    def forward(self, question: TextStates, image: ImageGrid, mask: Tensor | None = None) -> Fused:
        """states (batch, words, text_dim), grid (batch, patches, image_dim) -> joint (batch, dim), weights of patches"""
        words = torch.cat([question.pooled[:, None], question.states], dim=1)
        there = torch.ones(words.shape[:2], device=words.device)
        if mask is not None:
            there[:, 1:] = mask.float()
        result = self.model(
            inputs_embeds=self.text(words),
            attention_mask=there,
            visual_feats=image.grid,
            visual_pos=_boxes(*image.shape, words.device).expand(len(words), -1, -1),
            output_attentions=True,
        )
        looked = result.cross_encoder_attentions[-1][:, :, 0].mean(dim=1)
        return Fused(result.language_output[:, 0], {"patches": _normal(looked)})


def _used(model: nn.Module, without: tuple[str, ...]) -> nn.Module:
    """The model without gradients for parts that nothing is asked of: training over several processes waits for all."""
    for name, parameter in model.named_parameters():
        if any(part in name for part in without):
            parameter.requires_grad_(False)
    return model


def _boxes(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, 4): left, top, right and bottom of each patch, as shares of the picture"""
    top = torch.arange(rows, device=device).repeat_interleave(columns)
    left = torch.arange(columns, device=device).repeat(rows)
    return torch.stack([left / columns, top / rows, (left + 1) / columns, (top + 1) / rows], dim=1)


def _normal(weights: Tensor) -> Tensor:
    """The part of an attention that fell on some, so that it sums to 1."""
    total = weights.sum(dim=1, keepdim=True)
    return weights / total.clamp(min=1e-9)


FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "concat": ConcatFusion,
    "product": ProductFusion,
    "attention": AttentionFusion,
    "stacked": StackedAttention,
    "coattention": CoAttention,
    "words": WordwiseFusion,
    "visualbert": VisualBertFusion,
    "lxmert": LxmertFusion,
}


def fusion(name: str, text_dim: int, image_dim: int, dim: int, **options: Any) -> nn.Module:
    """A fusion by its name in `FUSIONS` or as `module:function` of the user's own."""
    if name not in FUSIONS and ":" not in name:
        raise UserError(f"there is no fusion {name!r}.{nearest(name, FUSIONS)} Or name your own as module:function.")
    function = FUSIONS[name] if name in FUSIONS else resolve(name)
    return cast(nn.Module, built(name, function, text_dim, image_dim, dim, **options))


def _attention(name: str, query_dim: int, key_dim: int, options: dict[str, Any]) -> nn.Module:
    return attention(name, query_dim, key_dim, **options)
