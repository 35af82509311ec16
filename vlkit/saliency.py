"""Which parts of a picture an answer hangs on, and how to show it."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GREY = 127  # what covers a part of a picture
GLOW = (244, 162, 89)  # RGB: what is looked at


@torch.inference_mode()
def occlusion(
    score: Callable[[Tensor], Tensor], image: Tensor, *, window: int, stride: int, at_once: int = 64
) -> Tensor:
    """How much a score falls where a grey window covers the picture (Zeiler and Fergus 2014, section 4.2).

    score: pictures (n, height, width, 3) uint8 -> (n,); image (height, width, 3) uint8; window, stride: pixels. Returns
    (rows, columns), one number for each place of the window, which also reaches beyond the edges, so that corners are covered
    as often as the middle. Negative where the score rises. ValueError for a window that covers nothing, or not all.
    """
    height, width = image.shape[:2]
    if not 1 <= stride <= window <= 2 * max(height, width):
        raise ValueError(
            f"window {window} and stride {stride} for a picture of {height}x{width}; expected a stride of 1 or more, a window "
            "at least as large and at most twice the picture"
        )
    tops, lefts = range(stride - window, height, stride), range(stride - window, width, stride)
    before = score(image[None])[0]
    covered = []
    for top in tops:
        for left in lefts:
            changed = image.clone()
            changed[max(top, 0) : max(top + window, 0), max(left, 0) : max(left + window, 0)] = GREY
            covered.append(changed)
    after = torch.cat([score(torch.stack(covered[i : i + at_once])) for i in range(0, len(covered), at_once)])
    return (before - after).reshape(len(tops), len(lefts))


def glowing(image: np.ndarray, weights: np.ndarray, *, width: int | None = None) -> np.ndarray:
    """A picture (height, width, 3) uint8 that glows where weights (rows, columns) are high and is dim where they are low.

    Weights below 0 count as 0; the highest glows fully. width: of the result in pixels; the picture's own if not given.
    """
    height, own = image.shape[:2]
    wide = width or own
    high = round(height * wide / own)
    shown = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float(), (high, wide), mode="nearest"
    )[0].permute(1, 2, 0)
    light = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32)).clamp(min=0)
    light = F.interpolate(light[None, None], (high, wide), mode="bilinear", align_corners=False)[0, 0]
    light = (light / light.max().clamp(min=1e-12))[..., None]
    mixed = shown * (0.35 + 0.35 * light) + torch.tensor(GLOW, dtype=torch.float32) * (0.3 * light) + 28 * (1 - light)
    return mixed.clamp(0, 255).to(torch.uint8).numpy()
