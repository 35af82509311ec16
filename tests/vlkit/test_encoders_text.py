import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vlkit.encoders.text import POOLINGS, TEXT_ENCODERS, RecurrentTextEncoder, TextStates, masked_mean, text_encoder
from vlkit.errors import UserError
from vlkit.text import Tokenizer, read_vectors

TOKENIZER = Tokenizer.train(["walk past the sofa , then stop at the red door"])
IDS, MASK = TOKENIZER.batch(["walk past the sofa", "stop", "stop at the red door , then walk"], max_words=20)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", sorted(TEXT_ENCODERS))
def test_every_named_encoder_keeps_the_contract(name: str) -> None:
    encoder = text_encoder(name, TOKENIZER.size, word_dim=6, dim=8, layers=2)
    text = encoder(IDS, MASK)
    assert isinstance(text, TextStates)
    assert text.states.shape == (*IDS.shape, 8)
    assert text.pooled.shape == (3, 8)
    assert encoder.dim == 8


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ["lstm", "bigru"])
def test_padding_does_not_change_a_text(name: str, pooling: str) -> None:
    encoder = text_encoder(name, TOKENIZER.size, word_dim=6, dim=8, pooling=pooling).eval()
    together = encoder(IDS, MASK)
    noisy = encoder(IDS.masked_fill(~MASK, 5), MASK)
    torch.testing.assert_close(together.states, noisy.states, rtol=0, atol=0)
    torch.testing.assert_close(together.pooled, noisy.pooled, rtol=0, atol=0)
    alone = encoder(IDS[1:2, :1], MASK[1:2, :1])
    torch.testing.assert_close(together.states[1:2, :1], alone.states)
    torch.testing.assert_close(together.pooled[1:2], alone.pooled)
    assert (together.states[~MASK] == 0).all()


def test_mean_and_max_are_over_the_words() -> None:
    encoder = RecurrentTextEncoder(TOKENIZER.size, word_dim=6, dim=8, pooling="max").eval()
    text = encoder(IDS, MASK)
    torch.testing.assert_close(text.pooled[0], text.states[0, :4].amax(dim=0))
    torch.testing.assert_close(masked_mean(text.states, MASK)[0], text.states[0, :4].mean(dim=0))


def test_last_joins_the_two_ends() -> None:
    encoder = RecurrentTextEncoder(TOKENIZER.size, word_dim=6, dim=8).eval()
    text = encoder(IDS, MASK)
    torch.testing.assert_close(text.pooled[0], torch.cat([text.states[0, 3, :4], text.states[0, 0, 4:]]))


def test_word_dropout_replaces_words_in_training_only() -> None:
    encoder = RecurrentTextEncoder(TOKENIZER.size, word_dim=6, dim=8, word_dropout=0.5)
    plain = encoder.eval()(IDS, MASK).states
    torch.testing.assert_close(encoder(IDS, MASK).states, plain, rtol=0, atol=0)
    encoder.train()
    assert not torch.equal(encoder(IDS, MASK).states, plain)
    encoder.word_dropout = 1.0
    unknown = encoder(torch.full_like(IDS, TOKENIZER.unknown), MASK).states
    torch.testing.assert_close(encoder(IDS, MASK).states, unknown)


def test_vectors_start_the_words_and_padding_stays_zero(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("the 1 2 3\nsofa 4 5 6\n")
    vectors, found = read_vectors(tmp_path / "vectors.txt", TOKENIZER.words, dim=3)
    encoder = RecurrentTextEncoder(TOKENIZER.size, word_dim=3, dim=8, vectors=vectors)
    assert found == 2
    assert encoder.words.weight[TOKENIZER.words.index("sofa")].tolist() == [4, 5, 6]
    assert encoder.words.weight[TOKENIZER.pad].tolist() == [0, 0, 0]
    with pytest.raises(UserError, match=r"word vectors are \(15, 3\)".replace("15", str(TOKENIZER.size))):
        RecurrentTextEncoder(TOKENIZER.size, word_dim=4, dim=8, vectors=vectors)


def test_gradients_reach_every_parameter() -> None:
    encoder = text_encoder("bilstm", TOKENIZER.size, word_dim=6, dim=8, layers=2, pooling="attention")
    text = encoder(IDS, MASK)
    (text.states.square().sum() + text.pooled.square().sum()).backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in encoder.parameters())


def test_an_encoder_learns_two_texts_apart() -> None:
    encoder, answer = text_encoder("bilstm", TOKENIZER.size, word_dim=8, dim=16), nn.Linear(16, 2)
    ids, mask = TOKENIZER.batch(["walk past the sofa", "past the sofa walk"], max_words=9)
    optimizer = torch.optim.Adam([*encoder.parameters(), *answer.parameters()], lr=0.02)
    for _ in range(30):
        loss = nn.functional.cross_entropy(answer(encoder(ids, mask).pooled), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < 0.05


def test_a_users_encoder_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_text_encoder.py").write_text(
        "from vlkit.encoders.text import RecurrentTextEncoder\n"
        "def small(vocabulary, dim=4):\n"
        "    return RecurrentTextEncoder(vocabulary, word_dim=dim, dim=dim)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    encoder = text_encoder("own_text_encoder:small", TOKENIZER.size, dim=6)
    assert encoder(IDS, MASK).pooled.shape == (3, 6)
    with pytest.raises(UserError, match="'own_text_encoder:small' takes no option 'dims'. Did you mean 'dim'"):
        text_encoder("own_text_encoder:small", TOKENIZER.size, dims=6)


def test_wrong_names_and_options_are_named() -> None:
    with pytest.raises(UserError, match="no text encoder 'bilstn'. Did you mean 'bilstm'"):
        text_encoder("bilstn", 9)
    with pytest.raises(UserError, match="'bilstm' takes no option 'layer'. Did you mean 'layers'"):
        text_encoder("bilstm", 9, layer=2)
    with pytest.raises(UserError, match="no recurrent cell 'lstn'"):
        text_encoder("recurrent", 9, cell="lstn")
    with pytest.raises(UserError, match="dim is 7; two directions"):
        text_encoder("bilstm", 9, dim=7)
    with pytest.raises(UserError, match="dropout is 1"):
        text_encoder("bilstm", 9, dropout=1.0)
    with pytest.raises(UserError, match="no pooling 'lasst'. Did you mean 'last'"):
        text_encoder("bilstm", 9, pooling="lasst")


def test_wrong_ids_and_masks_are_named() -> None:
    encoder = text_encoder("gru", 9, word_dim=4, dim=4)
    with pytest.raises(ValueError, match="ids go from 0 to 9, but the encoder was made for 9 words"):
        encoder(torch.arange(10)[None], torch.ones(1, 10, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"ids are \(1, 3\) torch.float32"):
        encoder(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask is \(1, 3\) torch.float32"):
        encoder(torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 3))
