"""Picture files as tensors (3, height, width) in [0, 1], and pictures of several sizes as one batch."""

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from vlkit.errors import UserError

PIXELS_AT_MOST = 80_000_000  # a file of a few kilobytes may unpack to more than the memory holds
FITS = ("crop", "pad", "stretch")


def read_image(path: str | Path | BinaryIO) -> Tensor:
    """A picture file (or an open one) -> (3, height, width) float32 in [0, 1].

    Upright as its EXIF says; grey becomes three equal channels; what is transparent lies on white; 16 bits keep
    their precision; of an animation, the first frame. Raises UserError for a file that is missing, cut, no picture,
    or of more than `PIXELS_AT_MOST` pixels.
    """
    name = path if isinstance(path, str | Path) else getattr(path, "name", "the picture")
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged remarks beside the pixels, which many cameras write, and of sizes that are
            # judged below.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > PIXELS_AT_MOST:
                    raise UserError(
                        f"{name} is {image.width}x{image.height} pixels, more than {PIXELS_AT_MOST:,}; make it smaller"
                    )
                return _tensor(ImageOps.exif_transpose(image), name)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no picture {name}; name a file that exists") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} has more than {PIXELS_AT_MOST:,} pixels; make it smaller") from error
    # Pillow's readers raise all of these for damaged files, depending on the format.
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, KeyError, struct.error) as error:
        raise UserError(f"{name} is not a picture, or is damaged ({error}); fetch the file again") from error


def image_batch(paths: Sequence[str | Path | BinaryIO], size: int, fit: str = "crop") -> Tensor:
    """Picture files -> (batch, 3, size, size) in [0, 1]; `fit` as in `fitted`."""
    return torch.stack([fitted(read_image(path), size, fit) for path in paths])


def fitted(image: Tensor, size: int, fit: str = "crop") -> Tensor:
    """(3, height, width) -> (3, size, size).

    "crop" scales the short side to `size` and keeps the middle; "pad" scales the long side and adds black bars;
    "stretch" changes the proportions.
    """
    if fit not in FITS:
        raise ValueError(f"fit is {fit!r}; it is one of {', '.join(FITS)}")
    height, width = image.shape[-2:]
    if fit == "stretch":
        return resized(image, size, size)
    scale = size / (min if fit == "crop" else max)(height, width)
    image = resized(image, max(round(height * scale), 1), max(round(width * scale), 1))
    return center_crop(image, size, size) if fit == "crop" else center_pad(image, size, size)


def fitted_box(
    box: tuple[float, float, float, float], width: int, height: int, fit: str = "crop"
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in the pixels of a picture -> shares of what `fitted` makes of it, from 0 to 1."""
    if fit not in FITS:
        raise ValueError(f"fit is {fit!r}; it is one of {', '.join(FITS)}")
    side = min(width, height) if fit == "crop" else max(width, height)
    across, down = (width, height) if fit == "stretch" else (side, side)
    left, top = ((width - across) / 2, (height - down) / 2)
    shares = [(box[0] - left) / across, (box[1] - top) / down, (box[2] - left) / across, (box[3] - top) / down]
    x, y, x2, y2 = (min(max(each, 0.0), 1.0) for each in shares)
    return x, y, x2, y2


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """(..., 3, any height, any width) -> (..., 3, height, width): bilinear, smoothed when it shrinks"""
    if images.shape[-2:] == (height, width):
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    flat = F.interpolate(flat, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return flat.reshape(*images.shape[:-2], height, width).clamp(0, 1)


def center_crop(images: Tensor, height: int, width: int) -> Tensor:
    """(..., at least height, at least width) -> (..., height, width): the middle"""
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    if top < 0 or left < 0:
        raise ValueError(
            f"no {height}x{width} can be cut out of {images.shape[-2]}x{images.shape[-1]}; resize it first"
        )
    return images[..., top : top + height, left : left + width]


def center_pad(images: Tensor, height: int, width: int) -> Tensor:
    """(..., at most height, at most width) -> (..., height, width): black round it"""
    rows, columns = height - images.shape[-2], width - images.shape[-1]
    if rows < 0 or columns < 0:
        raise ValueError(f"{images.shape[-2]}x{images.shape[-1]} does not fit in {height}x{width}; resize it first")
    return F.pad(images, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def _tensor(image: Image.Image, name: object) -> Tensor:
    if image.mode.startswith(("I", "F")):  # one channel of 16 or 32 bits
        grey = np.asarray(image).astype(np.float32)
        if image.mode.startswith("I"):
            grey /= 65535
        if not (grey.size and 0 <= grey.min() <= grey.max() <= 1):
            raise UserError(
                f"{name} holds numbers from {grey.min():g} to {grey.max():g} of its full scale, which no picture does; "
                "save it with 8 or 16 bits"
            )
        return torch.from_numpy(grey).expand(3, -1, -1).contiguous()
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return pixels.permute(2, 0, 1).to(torch.float32).contiguous() / 255
