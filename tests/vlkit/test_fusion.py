from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vlkit.attention import attention
from vlkit.encoders.fusion import FUSIONS, AttentionFusion, Fused, ProductFusion, StackedAttention, fusion, met
from vlkit.encoders.image import ImageGrid, image_encoder
from vlkit.encoders.text import TextStates, text_encoder
from vlkit.errors import UserError
from vlkit.text import Tokenizer

TOKENIZER = Tokenizer.train(["what colour is the sofa left of the red door ?"])
IDS, MASK = TOKENIZER.batch(["what colour is the sofa ?", "red", "is the door left of the sofa ?"], max_words=20)

EVERY: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in sorted(FUSIONS)),
    ("product", {"gated": True}),
    *(("attention", {"attention": name}) for name in ("additive", "dot", "bilinear", "multihead")),
    ("stacked", {"looks": 3, "attention": "bilinear"}),
]
EACH = pytest.mark.parametrize(("name", "options"), EVERY)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def encoded() -> tuple[TextStates, ImageGrid]:
    text = text_encoder("bilstm", TOKENIZER.size, word_dim=6, dim=8).eval()
    image = image_encoder("small_cnn", dim=16)
    return text(IDS, MASK), image(torch.rand(3, 3, 16, 24))


@EACH
def test_every_fusion_gives_a_vector_and_its_weights(name: str, options: dict[str, Any]) -> None:
    question, image = encoded()
    module = fusion(name, 8, 16, 12, **options)
    fused = module(question, image, MASK)
    assert isinstance(fused, Fused)
    assert fused.joint.shape == (3, 12)
    assert module.dim == 12
    for kind, weights in fused.weights.items():
        words = (IDS.shape[1],) if "words" in kind else ()
        assert weights.shape == (3, *words, *((6,) if kind.startswith("patches") else ()))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, *words[: weights.dim() - 2]))
    assert ("patches" in fused.weights) == (name not in ("concat", "product"))
    fused.joint.square().sum().backward()  # type: ignore[no-untyped-call]
    trained = [each for each in module.parameters() if each.requires_grad]
    assert all(each.grad is not None and bool(each.grad.isfinite().all()) for each in trained)


@EACH
def test_padding_does_not_change_what_is_fused(name: str, options: dict[str, Any]) -> None:
    question, image = encoded()
    module = fusion(name, 8, 16, 12, **options).eval()
    together = module(question, image, MASK)
    dirty = TextStates(question.states.masked_fill(~MASK[:, :, None], 7.0), question.pooled)
    torch.testing.assert_close(module(dirty, image, MASK).joint, together.joint)
    alone = module(
        TextStates(question.states[1:2, :1], question.pooled[1:2]),
        ImageGrid(image.grid[1:2], image.pooled[1:2], image.shape),
        MASK[1:2, :1],
    )
    torch.testing.assert_close(alone.joint, together.joint[1:2])


@EACH
def test_both_the_text_and_the_picture_count(name: str, options: dict[str, Any]) -> None:
    question, image = encoded()
    module = fusion(name, 8, 16, 12, **options).eval()
    joint = module(question, image, MASK).joint
    other_text = TextStates(question.states.flip(2), question.pooled.flip(1))
    other_image = ImageGrid(image.grid.flip(2), image.pooled.flip(1), image.shape)
    assert not torch.allclose(module(other_text, image, MASK).joint, joint)
    assert not torch.allclose(module(question, other_image, MASK).joint, joint)


def test_product_is_the_product_of_two_tanh() -> None:
    question, image = encoded()
    module = ProductFusion(8, 16, 12)
    text, picture = module.text[0], module.image[0]  # type: ignore[index]
    expected = torch.tanh(text(question.pooled)) * torch.tanh(picture(image.pooled))
    torch.testing.assert_close(module(question, image).joint, expected)


def test_attention_finds_the_patch_that_the_text_asks_for() -> None:
    """Patches are one-hot colours, the text is the colour: training finds the right patch, and the weights show it."""
    patches = torch.eye(4)[torch.stack([torch.randperm(4) for _ in range(64)])]  # (64, patches, 4)
    asked = torch.randint(4, (64,))
    places = torch.randint(4, (64, 4, 1)).float()  # what is to be read at the patch
    image = ImageGrid(torch.cat([patches, places], dim=2), torch.zeros(64, 5), (2, 2))
    question = TextStates(torch.eye(4)[asked][:, None], torch.eye(4)[asked])
    at = (patches.argmax(dim=2) == asked[:, None]).float().argmax(dim=1)
    answers = places[torch.arange(64), at, 0]
    module, answer = AttentionFusion(4, 5, 16, attention="bilinear"), nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*module.parameters(), *answer.parameters()], lr=0.05)
    for _ in range(150):
        fused = module(question, image)
        loss = nn.functional.mse_loss(answer(fused.joint)[:, 0], answers)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < 0.1
    assert (fused.weights["patches"].argmax(dim=1) == at).float().mean() > 0.95


def test_one_text_encoder_serves_two_consumers_unchanged() -> None:
    """The same instance feeds a fusion and, in another model, an agent's attention: shapes and numbers agree."""
    text = text_encoder("bilstm", TOKENIZER.size, word_dim=6, dim=8)
    before = {name: value.clone() for name, value in text.state_dict().items()}

    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text, self.image = text, image_encoder("small_cnn", dim=16)
            self.fuse = fusion("coattention", self.text.dim, self.image.dim, 12)  # type: ignore[arg-type]

        def forward(self, ids: Tensor, mask: Tensor, images: Tensor) -> Tensor:
            joint: Tensor = self.fuse(self.text(ids, mask), self.image(images), mask).joint
            return joint

    class Walking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text = text
            self.attend = attention("bilinear", 5, self.text.dim)  # type: ignore[arg-type]

        def forward(self, ids: Tensor, mask: Tensor, memory: Tensor) -> Tensor:
            instruction = self.text(ids, mask)
            context: Tensor = self.attend(memory, instruction.states, mask)[0]
            return context

    answering, walking = Answering(), Walking()
    answers = answering(IDS, MASK, torch.rand(3, 3, 16, 24))
    contexts = walking(IDS, MASK, torch.randn(3, 5))
    assert (answers.shape, contexts.shape) == ((3, 12), (3, 8))
    assert answering.text is walking.text
    (answers.sum() + contexts.sum()).backward()
    assert all(each.grad is not None for each in text.parameters())
    assert all(torch.equal(value, before[name]) for name, value in text.state_dict().items())


def test_wrong_names_and_numbers_are_named() -> None:
    with pytest.raises(UserError, match="no fusion 'stackd'. Did you mean 'stacked'"):
        fusion("stackd", 8, 16, 12)
    with pytest.raises(UserError, match="'product' takes no option 'gate'. Did you mean 'gated'"):
        fusion("product", 8, 16, 12, gate=True)
    with pytest.raises(UserError, match="with 0 looks"):
        fusion("stacked", 8, 16, 12, looks=0)
    with pytest.raises(UserError, match="no attention 'dots'"):
        fusion("attention", 8, 16, 12, attention="dots")


@pytest.mark.parametrize("attention", ["bilinear", "dot", "additive"])
def test_several_questions_of_a_picture_are_answered_as_each_by_itself(attention: str) -> None:
    torch.manual_seed(0)
    stacked = StackedAttention(12, 10, 8, attention=attention)
    of = torch.tensor([2, 0, 0, 3, 2, 2])  # nobody asks about picture 1
    grid = torch.randn(4, 9, 10, requires_grad=True)
    pooled = torch.randn(6, 12)
    question = TextStates(states=pooled[:, None], pooled=pooled)
    together = met(stacked, question, ImageGrid(grid, grid.mean(dim=1), (3, 3)), None, of)
    alone = stacked(question, ImageGrid(grid[of], grid[of].mean(dim=1), (3, 3)))
    assert set(together.weights) == set(alone.weights)
    torch.testing.assert_close(together.joint, alone.joint)
    torch.testing.assert_close(together.weights["patches"], alone.weights["patches"])
    for own, other in zip(
        torch.autograd.grad(together.joint.square().sum(), [grid, *stacked.parameters()]),
        torch.autograd.grad(alone.joint.square().sum(), [grid, *stacked.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(own, other)
