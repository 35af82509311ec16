import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vlkit.encoders.image import (
    IMAGE_ENCODERS,
    ImageGrid,
    SmallCNN,
    check_images,
    grid_of,
    grid_shape,
    image_encoder,
)
from vlkit.errors import UserError
from vlkit.testing import check_image_encoder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(32, 32), (16, 24), (17, 9), (1, 1)])
@pytest.mark.parametrize("halvings", [1, 3])
def test_the_small_cnn_keeps_the_contract(size: tuple[int, int], halvings: int) -> None:
    encoder = image_encoder("small_cnn", dim=16, halvings=halvings)
    image = encoder(torch.rand(2, 3, *size))
    assert isinstance(image, ImageGrid)
    rows, columns = (-(-side // 2**halvings) for side in size)
    assert image.shape == (rows, columns) == grid_shape(encoder, *size)
    assert image.grid.shape == (2, rows * columns, 16)
    assert image.pooled.shape == (2, 16)
    assert encoder.dim == 16


def test_the_grid_goes_row_after_row() -> None:
    features = torch.arange(12.0).reshape(1, 2, 2, 3)
    image = grid_of(features)
    assert image.shape == (2, 3)
    assert image.grid[0].tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]
    assert image.pooled[0].tolist() == [2.5, 8.5]


def test_a_patch_sees_its_own_place() -> None:
    encoder = SmallCNN(dim=16, halvings=2).eval()
    images = torch.full((1, 3, 64, 64), 0.5)
    changed = images.clone()
    changed[:, :, 56:, :8] = 1  # below, on the left
    # Group norm spreads a little of everything everywhere; the patches there change most.
    difference = (encoder(changed).grid - encoder(images).grid).abs().sum(dim=2).view(16, 16)
    row, column = divmod(int(difference.argmax()), 16)
    assert (row >= 13, column <= 2) == (True, True)


def test_the_small_cnn_learns_two_pictures_apart() -> None:
    encoder, answer = SmallCNN(dim=16, halvings=2), nn.Linear(16, 2)
    images = torch.rand(2, 3, 16, 16)
    optimizer = torch.optim.Adam([*encoder.parameters(), *answer.parameters()], lr=0.01)
    for _ in range(40):
        loss = nn.functional.cross_entropy(answer(encoder(images).pooled), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < 0.05


def test_a_frozen_encoder_does_not_move() -> None:
    encoder = image_encoder("resnet18", frozen=True)
    model = nn.ModuleDict({"image": encoder, "answer": nn.Linear(encoder.dim, 2)})  # type: ignore[arg-type]
    images = torch.rand(2, 3, 32, 32)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first = encoder(images)
    model.train()
    assert not any(each.training for each in encoder.modules())
    second = encoder(images)
    torch.testing.assert_close(first.grid, second.grid, rtol=0, atol=0)
    model["answer"](second.pooled).sum().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.step()
    assert not second.grid.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.dim == 512
    assert grid_shape(encoder, 64, 96) == (2, 3)


def test_a_frozen_encoder_still_shows_what_a_picture_did() -> None:
    encoder = image_encoder("small_cnn", dim=8, frozen=True)
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    encoder(images).pooled.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(3, 8, 8), r"images are \(3, 8, 8\); an image encoder reads \(batch, 3, height, width\)$"),
        (torch.zeros(1, 1, 8, 8), r"images are \(1, 1, 8, 8\)"),
        (torch.zeros(1, 8, 8, 3), "move the channels to the front"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "images are torch.uint8; .* divide bytes by 255"),
        (torch.full((1, 3, 8, 8), 200.0), "images go from 200 to 200; .*divide bytes by 255"),
        (torch.linspace(-2, 2, 192).reshape(1, 3, 8, 8), "images go from -2 to 2; .*normalises by itself"),
        (torch.full((1, 3, 8, 8), float("nan")), "images go from nan to nan"),
    ],
)
def test_wrong_pictures_are_named(images: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        image_encoder("small_cnn", dim=8)(images)


def test_an_empty_batch_and_half_precision_are_read() -> None:
    check_images(torch.zeros(0, 3, 8, 8))
    check_images(torch.ones(1, 3, 8, 8, dtype=torch.bfloat16))


def test_a_users_encoder_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_image_encoder.py").write_text(
        "from vlkit.encoders.image import SmallCNN\ndef small(dim=8):\n    return SmallCNN(dim=dim, halvings=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    encoder = image_encoder("own_image_encoder:small", dim=16, frozen=True)
    assert encoder(torch.rand(1, 3, 8, 8)).pooled.shape == (1, 16)
    with pytest.raises(UserError, match="takes no option 'pretrained'"):
        image_encoder("own_image_encoder:small", pretrained=True)


def test_wrong_names_and_options_are_named() -> None:
    with pytest.raises(UserError, match="no image encoder 'resnet81'. Did you mean 'resnet18'"):
        image_encoder("resnet81")
    with pytest.raises(UserError, match="'small_cnn' takes no option 'dims'. Did you mean 'dim'"):
        image_encoder("small_cnn", dims=16)
    with pytest.raises(UserError, match="'resnet18' takes no option 'dim'"):
        image_encoder("resnet18", dim=16)
    with pytest.raises(UserError, match="small_cnn has no pretrained weights"):
        image_encoder("small_cnn", pretrained=True)
    with pytest.raises(UserError, match="small_cnn of dim 12"):
        image_encoder("small_cnn", dim=12)
    assert {"small_cnn", "resnet18", "vgg16", "efficientnet_b0"} <= set(IMAGE_ENCODERS)


@pytest.mark.parametrize(("size", "patches"), [((64, 64), (8, 8)), ((60, 84), (7, 10)), ((16, 16), (2, 2))])
@pytest.mark.parametrize("name", ["nature_cnn", "nature_cnn_bn"])
def test_the_nature_cnn_keeps_the_contract(name: str, size: tuple[int, int], patches: tuple[int, int]) -> None:
    encoder = image_encoder(name, dim=16)
    check_image_encoder(encoder, size=size)
    assert grid_shape(encoder, *size) == patches


def test_the_nature_cnn_says_what_it_cannot_be() -> None:
    with pytest.raises(UserError, match="nature_cnn of dim 7; take an even number"):
        image_encoder("nature_cnn", dim=7)
    for name in ("nature_cnn", "nature_cnn_bn"):
        with pytest.raises(UserError, match=f"{name} has no pretrained weights"):
            image_encoder(name, pretrained=True)
