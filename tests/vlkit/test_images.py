import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlkit.errors import UserError
from vlkit.images import PIXELS_AT_MOST, center_crop, center_pad, fitted, fitted_box, image_batch, read_image, resized

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_a_picture_is_three_channels_in_zero_to_one(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(PIXELS)))
    assert (image.shape, image.dtype) == ((3, 4, 6), torch.float32)
    torch.testing.assert_close(image, torch.from_numpy(PIXELS).permute(2, 0, 1) / 255)
    assert image.is_contiguous()
    torch.testing.assert_close(read_image(str(tmp_path / "a.png")), image)
    torch.testing.assert_close(read_image(io.BytesIO((tmp_path / "a.png").read_bytes())), image)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(PIXELS[:, :, 0])))
    torch.testing.assert_close(image, (torch.from_numpy(PIXELS[:, :, 0]) / 255).expand(3, -1, -1))
    one_bit = read_image(saved(tmp_path / "b.png", Image.fromarray(PIXELS[:, :, 0] > 100)))
    assert set(one_bit.flatten().tolist()) == {0.0, 1.0}


def test_sixteen_bits_keep_their_precision(tmp_path: Path) -> None:
    grey = np.array([[0, 1, 256], [1000, 65534, 65535]], dtype=np.uint16)
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(grey)))
    torch.testing.assert_close(image[1], torch.from_numpy(grey.astype(np.float32) / 65535))


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = (0, 51, 255)
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    torch.testing.assert_close(image[0, 0], torch.tensor([1.0, 0.8, 0.0]))


def test_palettes_are_read_with_their_transparency(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    image = read_image(saved(tmp_path / "a.png", palette, transparency=1))
    assert image[:, 0].T.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_a_picture_stands_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(PIXELS), exif=exif))
    assert image.shape == (3, 6, 4)
    torch.testing.assert_close(image, (torch.from_numpy(np.rot90(PIXELS, -1).copy()).permute(2, 0, 1) / 255))


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    image = read_image(saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]))
    assert image[:, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LA", "HSV"])
def test_other_colour_spaces_are_converted(tmp_path: Path, mode: str) -> None:
    suffix = {"LA": "png", "YCbCr": "jpg"}.get(mode, "tiff")
    colour = Image.new("RGB", (3, 2), (200, 200, 200)).convert(mode)
    if mode == "HSV":
        colour = colour.convert("RGB")
    image = read_image(saved(tmp_path / f"a.{suffix}", colour))
    torch.testing.assert_close(image, torch.full((3, 2, 3), 200 / 255), rtol=0, atol=0.01)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    for name in ("text.jpg", "empty.png"):
        with pytest.raises(UserError, match=f"{name} is not a picture, or is damaged"):
            read_image(tmp_path / name)
    with pytest.raises(UserError, match="there is no picture .*none.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is not a picture"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp"])
def test_a_cut_file_is_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"a.{suffix} is not a picture, or is damaged"):
        read_image(path)


@given(
    place=st.integers(8, 400), byte=st.integers(0, 255), suffix=st.sampled_from(["png", "jpeg", "gif", "tiff", "webp"])
)
def test_a_damaged_byte_gives_a_picture_or_one_clear_error(place: int, byte: int, suffix: str) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format=suffix)
    damaged = bytearray(file.getvalue())
    damaged[place % len(damaged)] = byte
    try:
        image = read_image(io.BytesIO(bytes(damaged)))
    except UserError:
        return
    assert image.shape[0] == 3


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path, side: int) -> None:
    assert side * side > PIXELS_AT_MOST
    (tmp_path / "bomb.png").write_bytes(png_that_claims(side, side))
    with pytest.raises(UserError, match="bomb.png .* 80,000,000"):
        read_image(tmp_path / "bomb.png")


def test_resizing_keeps_a_constant_and_the_range() -> None:
    torch.testing.assert_close(resized(torch.full((3, 9, 7), 0.25), 4, 5), torch.full((3, 4, 5), 0.25))
    sharp = (torch.arange(64).reshape(1, 8, 8) % 2).float().expand(2, 3, 8, 8)
    smaller = resized(sharp, 4, 4)
    assert smaller.shape == (2, 3, 4, 4)
    # Smoothed: taking every second column would give all black or all white.
    torch.testing.assert_close(smaller[..., 1:-1], torch.full((2, 3, 4, 2), 0.5), rtol=0, atol=0.1)


def test_crop_and_pad_take_the_middle() -> None:
    image = torch.arange(24.0).reshape(1, 4, 6)
    assert center_crop(image, 2, 2).tolist() == [[[8, 9], [14, 15]]]
    padded = center_pad(image, 6, 6)
    assert torch.equal(padded[:, 1:5], image)
    assert padded[:, [0, 5]].sum() == 0
    with pytest.raises(ValueError, match="no 5x2 can be cut out of 4x6"):
        center_crop(image, 5, 2)
    with pytest.raises(ValueError, match="4x6 does not fit in 6x5"):
        center_pad(image, 6, 5)


@pytest.mark.parametrize("height", [1, 5, 8, 300])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_every_picture_fits(height: int, fit: str) -> None:
    image = fitted(torch.rand(3, height, 9), 8, fit)
    assert image.shape == (3, 8, 8)
    assert 0 <= image.min() <= image.max() <= 1


def test_padding_is_black_and_keeps_proportions() -> None:
    image = fitted(torch.ones(3, 4, 8), 8, "pad")
    assert image[0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="fit is 'cut'; it is one of crop, pad, stretch"):
        fitted(torch.ones(3, 4, 8), 8, "cut")


def test_pictures_of_several_sizes_are_one_batch(tmp_path: Path) -> None:
    paths = [
        saved(tmp_path / "a.png", Image.fromarray(PIXELS)),
        saved(tmp_path / "b.png", Image.fromarray(PIXELS[:, :2])),
    ]
    assert image_batch(paths, size=5).shape == (2, 3, 5, 5)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [("stretch", (0.25, 0.0, 0.5, 0.5)), ("crop", (0.0, 0.0, 0.5, 0.5)), ("pad", (0.25, 0.25, 0.5, 0.5))],
)
def test_a_box_goes_where_its_part_of_the_picture_goes(fit: str, expected: tuple[float, ...]) -> None:
    image = torch.zeros(3, 20, 40)
    image[:, 0:10, 10:20] = 1
    assert fitted_box((10, 0, 20, 10), 40, 20, fit) == pytest.approx(expected)
    x, y, x2, y2 = (round(each * 32) for each in expected)
    inside = fitted(image, 32, fit)[0, y:y2, x:x2]
    assert inside[2:-2, 2:-2].min() > 0.9
