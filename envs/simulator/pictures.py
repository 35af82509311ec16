"""Texture files into texels, and bounds on how many there may be, in all and along a side."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlkit.envs.simulator.layout import LARGEST_TEXTURE
from vlkit.envs.simulator.scene import SMOOTH, Filters, Texture, Wrap
from vlkit.errors import UserError

TEXEL_BUDGET = 2**28  # a gigabyte as RGBA
LARGEST_SIDE = 32_768
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # pillow's names for grey of that depth


@dataclass(frozen=True)
class Picture:
    """A texture as its file holds it, not yet decoded."""

    data: bytes
    wrap: tuple[Wrap, Wrap]
    where: str  # for the messages
    filters: Filters = SMOOTH


def decoded(pictures: Sequence[Picture], budget: int) -> tuple[tuple[Texture, ...], tuple[str, ...]]:
    """The textures, and what was noticed.

    Those with a side that no engine draws are halved; then, where all have more texels than `budget`, the largest are.
    Raises UserError where a picture cannot be decoded.
    """
    levels, noticed = _levels([_size(picture) for picture in pictures], budget)
    return tuple(_texture(picture, level) for picture, level in zip(pictures, levels, strict=True)), noticed


def within_budget(textures: Sequence[Texture], budget: int) -> tuple[tuple[Texture, ...], tuple[str, ...]]:
    """The same of textures that are decoded already."""
    levels, noticed = _levels([(texture.image.shape[1], texture.image.shape[0]) for texture in textures], budget)
    halved = [
        replace(texture, image=_halved(Image.fromarray(texture.image), level)) if level else texture
        for texture, level in zip(textures, levels, strict=True)
    ]
    return tuple(halved), noticed


def encoded(texture: Texture) -> bytes:
    """A PNG of the same texels."""
    image = Image.fromarray(texture.image)
    if (texture.image[:, :, 3] == 255).all():
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=4)
    return file.getvalue()


def missing_picture(name: str, path: Path) -> UserError:
    """What to tell a user whose scene names a picture that is not there."""
    return UserError(
        f"{path} names the picture {name}, which is not beside it; put it there, or pass missing_textures=True to draw "
        "its faces in their colour alone"
    )


def _levels(sizes: list[tuple[int, int]], budget: int) -> tuple[list[int], tuple[str, ...]]:
    levels = [_drawable(max(size)) for size in sizes]
    told = []
    if any(levels):
        told.append(
            f"{sum(level > 0 for level in levels)} of {len(sizes)} textures were halved: they have a side over "
            f"{LARGEST_TEXTURE} pixels, the longest that can be drawn"
        )
    texels = [
        max(1, width >> level) * max(1, height >> level) for (width, height), level in zip(sizes, levels, strict=True)
    ]
    before, drawable = sum(texels), list(levels)
    while sum(texels) > budget and max(texels) > 1:
        largest = max(texels)
        for i, (width, height) in enumerate(sizes):
            if texels[i] == largest:
                levels[i] += 1
                texels[i] = max(1, width >> levels[i]) * max(1, height >> levels[i])
    halved = sum(level > enough for level, enough in zip(levels, drawable, strict=True))
    if halved:
        told.append(
            f"{halved} of {len(sizes)} textures were halved, some more than once: {before} texels are over the budget "
            f"of {budget}, {sum(texels)} are left; raise texel_budget where there is memory for more (4 bytes a texel)"
        )
    return levels, tuple(told)


def _drawable(side: int) -> int:
    """How often a picture is halved until its longest side can be drawn."""
    level = 0
    while side >> level > LARGEST_TEXTURE:
        level += 1
    return level


def _size(picture: Picture) -> tuple[int, int]:
    width, height = _opened(picture).size
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise UserError(f"{picture.where} is {width}x{height} pixels; expected sides of 1 to {LARGEST_SIDE}: resize it")
    return width, height


def _texture(picture: Picture, level: int) -> Texture:
    image = _opened(picture)
    try:
        with _unwarned():
            if image.mode in SIXTEEN_BITS:  # pillow would clip, not scale
                image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
            return Texture(_halved(image.convert("RGBA"), level), picture.wrap, picture.filters)
    except Exception as error:  # pillow's decoders have no one kind of error for a damaged picture
        raise _damaged(picture, error) from error


def _halved(image: Image.Image, level: int) -> np.ndarray:
    if level:
        width, height = (max(1, side >> level) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)  # the mean of what each texel covers, as in a mip
    return np.array(image, dtype=np.uint8)


def _opened(picture: Picture) -> Image.Image:
    try:
        with _unwarned():
            return Image.open(io.BytesIO(picture.data))
    except Image.DecompressionBombError as error:
        raise UserError(f"{picture.where} has too many pixels ({error}); resize it") from error
    except Exception as error:  # as above
        raise _damaged(picture, error) from error


@contextmanager
def _unwarned() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures and odd metadata, of which our errors say what matters
        yield


def _damaged(picture: Picture, error: Exception) -> UserError:
    if picture.data[:8] == b"\xabKTX 20\xbb":
        return UserError(f"{picture.where} is a KTX2 (Basis) texture; convert it first: ktx extract IN.ktx2 OUT.png")
    reason = "an unknown format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
    return UserError(f"{picture.where} is not a picture that can be read ({reason}); save it as PNG or JPEG")
