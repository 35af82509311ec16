"""Image encoders behind one contract: pictures in [0, 1] in, a vector for each patch and one for the whole out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vlkit.errors import UserError
from vlkit.plugins import built, nearest, resolve

RANGE_SLACK = 1e-3  # what resizing and half precision may add to [0, 1]
PLACE_DIM = 6  # numbers that tell where a patch is
PATCHED = ("small_cnn", "nature_cnn", "nature_cnn_bn")  # whose patches have a width of one's own


@dataclass(frozen=True)
class ImageGrid:
    """A batch of pictures as an image encoder gives it."""

    grid: Tensor  # (batch, patches, dim), row after row
    pooled: Tensor  # (batch, dim)
    shape: tuple[int, int]  # rows and columns of the grid: patches = rows * columns


class SmallCNN(nn.Module):
    """Convolutions that halve the picture `halvings` times: a patch is 2^halvings pixels wide. Quick to train anew."""

    def __init__(self, dim: int = 64, halvings: int = 3) -> None:
        super().__init__()
        if halvings < 1 or dim < 8 or dim % 8:
            raise UserError(f"small_cnn of dim {dim} with {halvings} halvings; take a multiple of 8, and 1 or more")
        self.dim = dim
        # Group norm: a picture's result does not depend on the others in its batch.
        layers: list[nn.Module] = []
        before = 3
        for i in reversed(range(halvings)):
            width = max(dim // 2**i // 8 * 8, 8)
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(width // 8, width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(dim, dim, 3, padding=1))

    def forward(self, images: Tensor) -> ImageGrid:
        """(batch, 3, height, width) in [0, 1] -> grid (batch, patches, dim), pooled (batch, dim), shape"""
        check_images(images)
        return grid_of(self.layers(images * 2 - 1).relu())


class NatureCNN(nn.Module):
    """The convolutions of Mnih et al. 2015 (Nature 518, DQN): 8x8 in steps of 4, 4x4 in steps of 2, 3x3.

    A patch is 8 pixels wide. Large steps make it the fastest to train on a CPU: 1.6 times as fast as `small_cnn`. Beside the
    published layers, pictures are centred and the last layer has a group norm: without these it takes many times the
    pictures until it tells things from each other.

    batch_norm: a batch norm behind each layer in the place of that. Where a batch has many different pictures it learns what
    they show in half as many steps; where pictures come one behind the other, as an agent sees them, leave it out.
    """

    def __init__(self, dim: int = 64, batch_norm: bool = False) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise UserError(f"nature_cnn of dim {dim}; take an even number")
        self.dim = dim
        layers: list[nn.Module] = []
        for before, width, size, step in ((3, dim // 2, 8, 4), (dim // 2, dim, 4, 2), (dim, dim, 3, 1)):
            norm = [nn.BatchNorm2d(width)] if batch_norm else []
            layers += [nn.Conv2d(before, width, size, stride=step, padding=(size - step + 1) // 2), *norm, nn.ReLU()]
        if not batch_norm:
            layers.insert(-1, nn.GroupNorm(dim // 8 if dim % 8 == 0 else 1, dim))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> ImageGrid:
        """(batch, 3, height, width) in [0, 1] -> grid (batch, patches, dim), pooled (batch, dim), shape"""
        check_images(images)
        return grid_of(self.layers(images * 2 - 1))


class GridFeatures(nn.Module):
    """Features that were computed beforehand, in the place of an image encoder."""

    def __init__(self, dim: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.dim, self.shape = dim, shape
        self.norm = nn.LayerNorm(dim)  # published features differ by orders of magnitude

    def forward(self, features: Tensor) -> ImageGrid:
        """(images, patches, dim) -> the same as a grid, normalised"""
        grid = self.norm(features.float())
        return ImageGrid(grid=grid, pooled=grid.mean(dim=1), shape=self.shape)


def seen(encoder: nn.Module, images: Tensor, *, places: bool = True) -> ImageGrid:
    """Pixels (images, height, width, 3) uint8, or features (images, patches, dim) -> a grid

    places: whether each patch is told where in the picture it is, by PLACE_DIM more numbers.
    """
    pixels = images if images.dim() == 3 else images.permute(0, 3, 1, 2).float().div_(255)
    found = cast(ImageGrid, encoder(pixels))
    if not places:
        return found
    where = places_of(*found.shape, found.grid.device).to(found.grid.dtype)
    grid = torch.cat([found.grid, where.expand(len(found.grid), -1, -1)], dim=2)
    return ImageGrid(grid=grid, pooled=grid.mean(dim=1), shape=found.shape)


def places_of(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, PLACE_DIM): of each patch how far down and across it is, -1 to 1, with sines of both"""
    down = torch.linspace(-1, 1, rows, device=device)[:, None].expand(rows, columns)
    across = torch.linspace(-1, 1, columns, device=device)[None].expand(rows, columns)
    both = torch.stack([down, across], dim=2).flatten(0, 1)
    return torch.cat([both, (torch.pi * both).sin(), (torch.pi * both).cos()], dim=1)


def grid_of(features: Tensor) -> ImageGrid:
    """(batch, dim, rows, columns) -> grid (batch, rows * columns, dim), pooled: the mean over the patches"""
    grid = features.flatten(2).transpose(1, 2)
    return ImageGrid(grid=grid, pooled=grid.mean(dim=1), shape=(features.shape[2], features.shape[3]))


def check_images(images: Tensor) -> None:
    """Raises ValueError, naming what is wrong, unless an image encoder can read these.

    The range is looked at where that is cheap: on an accelerator the look would wait for all that was asked before.
    """
    if images.dim() != 4 or images.shape[1] != 3:
        hint = "; move the channels to the front" if images.dim() == 4 and images.shape[-1] == 3 else ""
        raise ValueError(f"images are {tuple(images.shape)}; an image encoder reads (batch, 3, height, width){hint}")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; an image encoder reads floats in [0, 1]: divide bytes by 255")
    if images.device.type == "cpu" and images.numel():
        lowest, highest = (float(each) for each in torch.aminmax(images.detach()))
        if not -RANGE_SLACK <= lowest <= highest <= 1 + RANGE_SLACK:
            hint = "divide bytes by 255" if highest > 8 else "an encoder normalises by itself: leave that out"
            raise ValueError(f"images go from {lowest:g} to {highest:g}; an image encoder reads [0, 1] ({hint})")


def grid_shape(encoder: nn.Module, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the grid that an encoder gives for pictures of this size; nothing is computed for it."""
    return described(encoder, height, width).shape


def described(encoder: nn.Module, height: int, width: int) -> ImageGrid:
    """An encoder's result for one picture, with shapes and no numbers (on torch's meta device)."""
    tensors = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            images = torch.empty(1, 3, height, width, device="meta")
            return cast(ImageGrid, functional_call(encoder, empty, (images,)))
    finally:
        encoder.train(training)


def small_cnn(pretrained: bool = False, dim: int = 64, halvings: int = 3) -> nn.Module:
    """A `SmallCNN`, of which there are no trained weights."""
    if pretrained:
        raise UserError("small_cnn has no pretrained weights; pass pretrained=false, or take resnet18")
    return SmallCNN(dim=dim, halvings=halvings)


def nature_cnn(pretrained: bool = False, dim: int = 64) -> nn.Module:
    """A `NatureCNN`, of which there are no trained weights."""
    if pretrained:
        raise UserError("nature_cnn has no pretrained weights; pass pretrained=false, or take resnet18")
    return NatureCNN(dim=dim)


def nature_cnn_bn(pretrained: bool = False, dim: int = 64) -> nn.Module:
    """A `NatureCNN` with batch norm, of which there are no trained weights."""
    if pretrained:
        raise UserError("nature_cnn_bn has no pretrained weights; pass pretrained=false, or take resnet18")
    return NatureCNN(dim=dim, batch_norm=True)


def torchvision_encoder(model: str, pretrained: bool = False) -> nn.Module:
    """A torchvision classifier without its classifier."""
    from vlkit.encoders.pretrained import TorchvisionImageEncoder

    return TorchvisionImageEncoder(model, pretrained=pretrained)


def hugging_face_encoder(model: str, pretrained: bool = True) -> nn.Module:
    """A transformers vision model."""
    from vlkit.encoders.pretrained import HuggingFaceImageEncoder

    return HuggingFaceImageEncoder(model, pretrained=pretrained)


IMAGE_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn,
    "nature_cnn": nature_cnn,
    "nature_cnn_bn": nature_cnn_bn,
    "resnet18": partial(torchvision_encoder, "resnet18"),
    "resnet34": partial(torchvision_encoder, "resnet34"),
    "resnet50": partial(torchvision_encoder, "resnet50"),
    "resnet101": partial(torchvision_encoder, "resnet101"),
    "resnet152": partial(torchvision_encoder, "resnet152"),
    "vgg16": partial(torchvision_encoder, "vgg16"),
    "vgg19": partial(torchvision_encoder, "vgg19"),
    "efficientnet_b0": partial(torchvision_encoder, "efficientnet_b0"),
    "efficientnet_b3": partial(torchvision_encoder, "efficientnet_b3"),
    "efficientnet_v2_s": partial(torchvision_encoder, "efficientnet_v2_s"),
    "mobilenet_v3_small": partial(torchvision_encoder, "mobilenet_v3_small"),
    "convnext_tiny": partial(torchvision_encoder, "convnext_tiny"),
}


def image_encoder(name: str, pretrained: bool | None = None, frozen: bool = False, **options: Any) -> nn.Module:
    """An image encoder by name.

    The name is one of `IMAGE_ENCODERS`, `torchvision:NAME` (any of its classifiers that keeps a grid),
    `hf:MODEL_OR_FOLDER` (a transformers vision model) or `module:function` of the user's own, which is called with
    the options. pretrained: with the weights that were published; where it is not said, yes for `hf:` and no for the
    others. frozen: nothing in it changes in training, batch norm included.
    """
    if pretrained is not None:
        options["pretrained"] = pretrained
    if name in IMAGE_ENCODERS:
        encoder = built(name, IMAGE_ENCODERS[name], **options)
    elif name.startswith("torchvision:"):
        encoder = built(name, torchvision_encoder, name.removeprefix("torchvision:"), **options)
    elif name.startswith("hf:"):
        encoder = built(name, hugging_face_encoder, name.removeprefix("hf:"), **options)
    elif ":" in name:
        encoder = built(name, resolve(name), **options)
    else:
        raise UserError(
            f"there is no image encoder {name!r}.{nearest(name, IMAGE_ENCODERS)} Or name torchvision:NAME, "
            "hf:MODEL_OR_FOLDER, or your own as module:function."
        )
    if frozen:
        from vlkit.encoders.pretrained import Frozen

        return Frozen(encoder)
    return cast(nn.Module, encoder)
