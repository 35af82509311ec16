"""Occlusion finds what a score hangs on; a picture glows where weights are high."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from vlkit.saliency import GREY, glowing, occlusion


def brightness(images: Tensor) -> Tensor:
    """Of one patch, which is all that this score hangs on."""
    return images[:, 8:12, 4:8].float().mean(dim=(1, 2, 3))


def pixel(images: Tensor, y: int, x: int) -> Tensor:
    """How red one pixel is."""
    return images[:, y, x, 0].float()


def test_occlusion_is_high_where_the_score_hangs_on_the_picture() -> None:
    image = torch.zeros(16, 24, 3, dtype=torch.uint8)
    image[8:12, 4:8] = 255
    found = occlusion(brightness, image, window=4, stride=4, at_once=5)
    assert found.shape == (4, 6)
    assert found[0].abs().max() == 0, "what is far away does not count"
    covered = (found > 0).nonzero().tolist()
    assert covered == [[2, 1]]
    assert found[2, 1] == pytest.approx(255 - GREY)


def test_a_score_that_rises_is_negative() -> None:
    image = torch.zeros(8, 8, 3, dtype=torch.uint8)
    found = occlusion(lambda images: images.float().mean(dim=(1, 2, 3)), image, window=4, stride=4)
    assert (found < 0).all()


def test_corners_are_covered_as_often_as_the_middle() -> None:
    image = torch.full((8, 8, 3), 255, dtype=torch.uint8)
    for y in (0, 4, 7):
        for x in (0, 4, 7):
            found = occlusion(partial(pixel, y=y, x=x), image, window=4, stride=2)
            assert int((found > 0).sum()) == 4


def test_windows_that_cover_nothing_are_refused() -> None:
    image = torch.zeros(8, 8, 3, dtype=torch.uint8)
    for window, stride in ((0, 1), (4, 0), (17, 1)):
        with pytest.raises(ValueError, match="expected a stride of 1 or more"):
            occlusion(brightness, image, window=window, stride=stride)


def test_a_picture_glows_where_it_is_looked_at() -> None:
    picture = np.full((8, 8, 3), 100, np.uint8)
    weights = np.zeros((2, 2), np.float32)
    weights[1, 0] = 0.7
    shown = glowing(picture, weights, width=32)
    assert shown.shape == (32, 32, 3)
    light = shown.mean(axis=2)
    assert light[24:, :8].mean() > 1.5 * light[:8, 24:].mean()
    nothing = glowing(picture, np.zeros((2, 2)))
    assert nothing.shape == (8, 8, 3)
    assert np.ptp(nothing) == 0
    assert (glowing(picture, np.array([[-5.0, 1.0]])) == glowing(picture, np.array([[0.0, 1.0]]))).all()
