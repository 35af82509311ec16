"""Attention of one query over the words, patches or candidates of its row. The weights always come back: they are shown.

Each is `(query (batch, query_dim), keys (batch, words, key_dim), mask) -> (context (batch, key_dim), weights)`, weights
(batch, words); mask (batch, words) is true where a word is. A row in which nothing is true has a context and weights of
zero. A decoder that attends over the same words at each step calls `project(keys)` once and passes the result as
`projected`. Some have `many(queries, keys)`, for several queries of each row: its words are then read once for all of them.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from vlkit.errors import UserError
from vlkit.plugins import built, nearest, resolve


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """(..., words), (..., words) bool -> (..., words): a softmax over the true ones, zeros where none is true"""
    if mask is None:
        return scores.softmax(dim=-1)
    # Minus infinity would do as well, but for rows in which nothing is true: there it gives NaN, in gradients too.
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights * mask


class AdditiveAttention(nn.Module):
    """score = v . tanh(W query + U key) (Bahdanau et al. 2015, appendix A.1.2)."""

    def __init__(self, query_dim: int, key_dim: int, dim: int | None = None) -> None:
        super().__init__()
        dim = key_dim if dim is None else dim
        self.query = nn.Linear(query_dim, dim)
        self.key = nn.Linear(key_dim, dim, bias=False)
        self.score = nn.Linear(dim, 1, bias=False)

    def project(self, keys: Tensor) -> Tensor:
        """(batch, words, key_dim) -> (batch, words, dim)"""
        return cast(Tensor, self.key(keys))

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None = None, projected: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, query_dim), (batch, words, key_dim) -> context (batch, key_dim), weights (batch, words)"""
        projected = self.project(keys) if projected is None else projected
        scores = self.score(torch.tanh(self.query(query)[:, None] + projected))[:, :, 0]
        return _attended(scores, keys, mask)


class DotAttention(nn.Module):
    """score = query . key, over sqrt(dim) when scaled (Luong et al. 2015, "dot"; Vaswani et al. 2017, section 3.2.1).

    Where `dim` is given or the two dims differ, query and keys are first projected, without bias, to `dim` (the keys'
    own where it is not given).
    """

    def __init__(self, query_dim: int, key_dim: int, dim: int | None = None, scaled: bool = True) -> None:
        super().__init__()
        projects = dim is not None or query_dim != key_dim
        dim = key_dim if dim is None else dim
        self.query = nn.Linear(query_dim, dim, bias=False) if projects else nn.Identity()
        self.key = nn.Linear(key_dim, dim, bias=False) if projects else nn.Identity()
        self.scale = 1 / math.sqrt(dim) if scaled else 1.0

    def project(self, keys: Tensor) -> Tensor:
        """(batch, words, key_dim) -> (batch, words, dim)"""
        return cast(Tensor, self.key(keys))

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None = None, projected: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, query_dim), (batch, words, key_dim) -> context (batch, key_dim), weights (batch, words)"""
        projected = self.project(keys) if projected is None else projected
        scores = torch.bmm(projected, (self.query(query) * self.scale)[:, :, None])[:, :, 0]
        return _attended(scores, keys, mask)

    def many(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, queries, query_dim), (batch, words, key_dim) -> contexts (batch, queries, key_dim), (batch, queries, words)"""
        return _many(self.query(queries) * self.scale, self.project(keys), keys)


def _many(turned: Tensor, projected: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Queries (batch, queries, dim) as their keys ask for them -> contexts (batch, queries, key_dim), weights."""
    weights = (turned @ projected.transpose(1, 2)).softmax(dim=2)
    return weights @ keys, weights


class BilinearAttention(nn.Module):
    """score = query W key (Luong et al. 2015, equation 8, "general")."""

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, key_dim, bias=False)

    def project(self, keys: Tensor) -> Tensor:
        """The keys themselves: the one matrix turns the query, which is the cheaper side."""
        return keys

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None = None, projected: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, query_dim), (batch, words, key_dim) -> context (batch, key_dim), weights (batch, words)"""
        projected = keys if projected is None else projected
        return _attended(torch.bmm(projected, self.query(query)[:, :, None])[:, :, 0], keys, mask)

    def many(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, queries, query_dim), (batch, words, key_dim) -> contexts (batch, queries, key_dim), (batch, queries, words)"""
        return _many(self.query(queries), keys, keys)


class MultiHeadAttention(nn.Module):
    """Several scaled dot attentions side by side (Vaswani et al. 2017, section 3.2.2), for one query a row.

    `weights` is the mean over the heads, so that it is shown like the others'; `head_weights` gives each head's.
    """

    def __init__(self, query_dim: int, key_dim: int, dim: int | None = None, heads: int = 4) -> None:
        super().__init__()
        dim = key_dim if dim is None else dim
        if heads < 1 or dim % heads:
            raise UserError(f"dim {dim} does not divide into {heads} heads; take a multiple")
        self.heads = heads
        self.query = nn.Linear(query_dim, dim)
        self.key_and_value = nn.Linear(key_dim, 2 * dim)
        self.output = nn.Linear(dim, key_dim)

    def project(self, keys: Tensor) -> Tensor:
        """(batch, words, key_dim) -> (batch, words, 2 * dim)"""
        return cast(Tensor, self.key_and_value(keys))

    def head_weights(self, query: Tensor, projected: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, query_dim), (batch, words, 2 * dim) -> (batch, heads, words)"""
        key = self._by_head(projected.chunk(2, dim=2)[0])
        turned = self._by_head(self.query(query))
        scores = torch.einsum("bhd,bwhd->bhw", turned, key) / math.sqrt(turned.shape[2])
        return masked_softmax(scores, None if mask is None else mask[:, None])

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None = None, projected: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, query_dim), (batch, words, key_dim) -> context (batch, key_dim), weights (batch, words)"""
        projected = self.project(keys) if projected is None else projected
        weights = self.head_weights(query, projected, mask)
        value = self._by_head(projected.chunk(2, dim=2)[1])
        context = self.output(torch.einsum("bhw,bwhd->bhd", weights, value).flatten(1))
        if mask is not None:
            context = (
                context * mask.any(dim=1)[:, None]
            )  # else the output's bias would stand for words that are not there
        return context, weights.mean(dim=1)

    def _by_head(self, states: Tensor) -> Tensor:
        """(..., dim) -> (..., heads, dim / heads)"""
        return states.reshape(*states.shape[:-1], self.heads, -1)


class CrossAttention(nn.Module):
    """Scaled dot attention of many queries of a row over its words, such as every step of a walk over its instruction.

    `project(keys)` comes first, once for all queries. With several heads (Vaswani et al. 2017, section 3.2.2) the weights
    that come back are their mean. A query gives what it gives among others.
    """

    def __init__(self, query_dim: int, key_dim: int, dim: int, heads: int = 1) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise UserError(f"dim {dim} does not divide into {heads} heads; take a multiple")
        self.heads = heads
        self.query = nn.Linear(query_dim, dim)
        self.key_and_value = nn.Linear(key_dim, 2 * dim)

    def project(self, keys: Tensor) -> Tensor:
        """(batch, words, key_dim) -> (batch, heads, 2, words, dim / heads): keys and values, laid out as they are used"""
        both = self.key_and_value(keys).reshape(*keys.shape[:2], 2, self.heads, -1)
        return cast(Tensor, both.permute(0, 3, 2, 1, 4).contiguous())

    def forward(self, queries: Tensor, mask: Tensor | None, projected: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, queries, query_dim), (batch, words), projected -> (batch, queries, dim), (batch, queries, words)"""
        key, value = projected.unbind(dim=2)
        query = self.query(queries).reshape(*queries.shape[:2], self.heads, -1).transpose(1, 2)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        weights = masked_softmax(scores, None if mask is None else mask[:, None, None])
        contexts = (weights @ value).transpose(1, 2).flatten(2)
        return contexts, weights.mean(dim=1)


class LuongAttention(nn.Module):
    """An attention of `ATTENTIONS` and the layer behind it: h~ = tanh(W [context; query]) (Luong et al. 2015, eq. 5)."""

    def __init__(
        self, query_dim: int, key_dim: int, dim: int | None = None, attention: str = "bilinear", **options: Any
    ) -> None:
        super().__init__()
        self.attention = _attention(attention, query_dim, key_dim, options)
        self.output = nn.Linear(key_dim + query_dim, query_dim if dim is None else dim, bias=False)

    def project(self, keys: Tensor) -> Tensor:
        """(batch, words, key_dim) -> what the inner attention wants"""
        return cast(Any, self.attention).project(keys)  # type: ignore[no-any-return]

    def forward(
        self, query: Tensor, keys: Tensor, mask: Tensor | None = None, projected: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, query_dim), (batch, words, key_dim) -> h~ (batch, dim), weights (batch, words)"""
        context, weights = self.attention(query, keys, mask, projected)
        return torch.tanh(self.output(torch.cat([context, query], dim=1))), weights


ATTENTIONS: dict[str, Callable[..., nn.Module]] = {
    "additive": AdditiveAttention,
    "dot": DotAttention,
    "bilinear": BilinearAttention,
    "multihead": MultiHeadAttention,
}


def attention(name: str, query_dim: int, key_dim: int, **options: Any) -> nn.Module:
    """An attention by its name in `ATTENTIONS` or as `module:function` of the user's own."""
    return _attention(name, query_dim, key_dim, options)


def _attention(name: str, query_dim: int, key_dim: int, options: dict[str, Any]) -> nn.Module:
    if name not in ATTENTIONS and ":" not in name:
        raise UserError(
            f"there is no attention {name!r}.{nearest(name, ATTENTIONS)} Or name your own as module:function."
        )
    function = ATTENTIONS[name] if name in ATTENTIONS else resolve(name)
    return cast(nn.Module, built(name, function, query_dim, key_dim, **options))


def _attended(scores: Tensor, keys: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    weights = masked_softmax(scores, mask)
    return torch.bmm(weights[:, None], keys)[:, 0], weights
