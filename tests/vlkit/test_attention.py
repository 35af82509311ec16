from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vlkit.attention import (
    ATTENTIONS,
    AdditiveAttention,
    BilinearAttention,
    CrossAttention,
    DotAttention,
    LuongAttention,
    MultiHeadAttention,
    attention,
    masked_softmax,
)
from vlkit.errors import UserError

MASK = torch.arange(5) < torch.tensor([[3], [5], [1]])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def query_and_keys() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 6), torch.randn(3, 5, 8)


EVERY: list[tuple[str, Any]] = [
    *((name, lambda name=name: attention(name, 6, 8)) for name in sorted(ATTENTIONS)),
    ("dot of equal dims", lambda: nn.Sequential()),
    *((f"luong over {name}", lambda name=name: LuongAttention(6, 8, attention=name)) for name in sorted(ATTENTIONS)),
]
EACH = pytest.mark.parametrize("made", [made for name, made in EVERY if name != "dot of equal dims"])


@EACH
def test_weights_sum_to_one_over_the_words_and_vanish_at_padding(made: Any) -> None:
    query, keys = query_and_keys()
    context, weights = made()(query, keys, MASK)
    assert context.shape[0] == 3
    assert weights.shape == (3, 5)
    assert (weights[~MASK] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))


@EACH
def test_what_stands_at_padding_changes_nothing(made: Any) -> None:
    query, keys = query_and_keys()
    module = made()
    torch.testing.assert_close(
        module(query, keys, MASK), module(query, keys.masked_fill(~MASK[:, :, None], 1e4), MASK), rtol=0, atol=0
    )


@EACH
def test_a_row_without_words_has_zero_weights_and_finite_gradients(made: Any) -> None:
    query, keys = query_and_keys()
    module, mask = made(), MASK.clone()
    mask[0] = False
    query.requires_grad_()
    context, weights = module(query, keys, mask)
    assert (weights[0] == 0).all()
    if not isinstance(module, LuongAttention):
        assert (context[0] == 0).all()
    context.square().sum().backward()
    assert query.grad is not None
    assert query.grad.isfinite().all()
    assert all(part.grad is None or part.grad.isfinite().all() for part in module.parameters())


@EACH
def test_projected_keys_give_the_same_as_keys(made: Any) -> None:
    query, keys = query_and_keys()
    module = made()
    projected = module.project(keys)
    torch.testing.assert_close(module(query, keys, MASK, projected), module(query, keys, MASK))


@EACH
def test_without_a_mask_every_word_counts(made: Any) -> None:
    query, keys = query_and_keys()
    module = made()
    torch.testing.assert_close(module(query, keys), module(query, keys, torch.ones(3, 5, dtype=torch.bool)))


def test_additive_attention_is_bahdanaus_sum() -> None:
    query, keys = query_and_keys()
    module = AdditiveAttention(6, 8, dim=4)
    scores = torch.stack(
        [module.score(torch.tanh(module.query(query) + module.key(keys[:, i])))[:, 0] for i in range(5)], dim=1
    )
    torch.testing.assert_close(module(query, keys)[1], scores.softmax(dim=1))


def test_dot_attention_of_equal_dims_has_no_weights_to_learn() -> None:
    keys = torch.randn(3, 5, 8)
    module = DotAttention(8, 8, scaled=False)
    assert not list(module.parameters())
    context, weights = module(keys[:, 0], keys)
    torch.testing.assert_close(weights, torch.einsum("bd,bwd->bw", keys[:, 0], keys).softmax(dim=1))
    torch.testing.assert_close(context, torch.einsum("bw,bwd->bd", weights, keys))
    scaled = DotAttention(8, 8)(keys[:, 0], keys)[1]
    torch.testing.assert_close(scaled, (torch.einsum("bd,bwd->bw", keys[:, 0], keys) / 8**0.5).softmax(dim=1))


def test_bilinear_attention_is_luongs_general() -> None:
    query, keys = query_and_keys()
    module = BilinearAttention(6, 8)
    expected = torch.einsum("bq,kq,bwk->bw", query, module.query.weight, keys).softmax(dim=1)
    torch.testing.assert_close(module(query, keys)[1], expected)


def test_multi_head_attention_equals_torchs() -> None:
    query, keys = query_and_keys()
    module = MultiHeadAttention(6, 8, dim=8, heads=2)
    peer = nn.MultiheadAttention(8, 2, batch_first=True)
    peer.in_proj_weight.data = torch.cat([torch.eye(8), module.key_and_value.weight])
    peer.in_proj_bias.data = torch.cat([torch.zeros(8), module.key_and_value.bias])
    peer.out_proj.load_state_dict(module.output.state_dict())
    expected, weights = peer(module.query(query)[:, None], keys, keys, key_padding_mask=~MASK)
    torch.testing.assert_close(module(query, keys, MASK), (expected[:, 0], weights[:, 0]))
    heads = module.head_weights(query, module.project(keys), MASK)
    assert heads.shape == (3, 2, 5)
    torch.testing.assert_close(heads.mean(dim=1), weights[:, 0])


def test_luongs_output_is_tanh_of_context_and_query() -> None:
    query, keys = query_and_keys()
    module = LuongAttention(6, 8, dim=4)
    output, weights = module(query, keys, MASK)
    context, inner = module.attention(query, keys, MASK)
    torch.testing.assert_close(weights, inner)
    torch.testing.assert_close(output, torch.tanh(torch.cat([context, query], dim=1) @ module.output.weight.T))
    assert output.shape == (3, 4)


def test_a_masked_softmax_in_half_precision_is_finite() -> None:
    weights = masked_softmax(
        torch.tensor([[60000.0, -60000.0, 3.0]], dtype=torch.float16), torch.tensor([[0, 1, 0]]).bool()
    )
    assert weights.tolist() == [[0, 1, 0]]


def test_wrong_names_and_heads_are_named() -> None:
    with pytest.raises(UserError, match="no attention 'addditive'. Did you mean 'additive'"):
        attention("addditive", 6, 8)
    with pytest.raises(UserError, match="dim 8 does not divide into 3 heads"):
        attention("multihead", 6, 8, heads=3)
    with pytest.raises(UserError, match="takes no option 'head'. Did you mean 'heads'"):
        attention("multihead", 6, 8, head=3)


def test_a_query_gives_what_it_gives_among_others() -> None:
    torch.manual_seed(0)
    attend = CrossAttention(query_dim=6, key_dim=5, dim=8, heads=2)
    queries, words = torch.randn(3, 4, 6), torch.randn(3, 7, 5)
    mask = torch.arange(7) < torch.tensor([[7], [3], [1]])
    projected = attend.project(words)
    contexts, weights = attend(queries, mask, projected)
    assert contexts.shape == (3, 4, 8)
    assert weights.shape == (3, 4, 7)
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 4))
    assert not weights[1, :, 3:].any()
    alone, alone_weights = attend(queries[:, 2:3], mask, projected)
    torch.testing.assert_close(alone, contexts[:, 2:3])
    torch.testing.assert_close(alone_weights, weights[:, 2:3])


def test_cross_attention_does_not_see_padding() -> None:
    torch.manual_seed(0)
    attend = CrossAttention(query_dim=6, key_dim=5, dim=8)
    queries, words = torch.randn(2, 4, 6), torch.randn(2, 3, 5)
    mask = torch.ones(2, 3, dtype=torch.bool)
    contexts, _ = attend(queries, mask, attend.project(words))
    longer = torch.cat([words, torch.full((2, 2, 5), 9.0)], dim=1)
    padded, _ = attend(queries, torch.nn.functional.pad(mask, (0, 2)), attend.project(longer))
    torch.testing.assert_close(padded, contexts)


def test_cross_attention_says_which_heads_do_not_fit() -> None:
    with pytest.raises(UserError, match="dim 8 does not divide into 3 heads"):
        CrossAttention(query_dim=6, key_dim=5, dim=8, heads=3)
