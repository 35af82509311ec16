"""Seeing before walking: the image encoder learns to name what patches show, from recorded frames one by one.

Walking alone teaches it walls, floors and doors; what a stove looks like it then learns from the few walks that end at one.
"""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlkit.batches import Batches
from vlkit.encoders.image import ImageGrid
from vlkit.processes import processes
from vlkit.tasks.navigation.learning import NAMED_PATCHES, at_patches, of_patches
from vlkit.tasks.navigation.model import NavigationPolicy, pixels
from vlkit.tasks.navigation.settings import Config, early_options
from vlkit.tasks.navigation.store import Round
from vlkit.train import Step, fit

FRAMES = 64  # a step


class Seer(nn.Module):
    """The policy's image encoder with its layer that names patches."""

    def __init__(self, policy: NavigationPolicy) -> None:
        super().__init__()
        self.image, self.name_patches = cast(nn.Module, policy.frames.image), cast(nn.Module, policy.name_patches)


def learn_to_see(
    policy: NavigationPolicy, settings: Config, source: Round, rarity: Tensor, device: torch.device, folder: Path
) -> None:
    """Trains the image encoder in place on a round's frames, or takes up what `folder` holds."""

    def loss(model: Seer, rows: Tensor, step: Step) -> tuple[Tensor, dict[str, float | Tensor]]:
        places = rows.cpu().sort().values.numpy()
        rgb = torch.from_numpy(source.frames["rgb"][places]).to(step.device)
        seen: ImageGrid = model.image(pixels(rgb))
        shown = at_patches(torch.from_numpy(source.frames["categories"][places]).to(step.device), *seen.shape)
        asked = torch.multinomial(rarity.to(step.device)[shown], min(NAMED_PATCHES, shown.shape[1]))
        named = model.name_patches(of_patches(seen.grid, asked)).float().flatten(0, 1)
        right = shown.gather(1, asked).flatten()
        return F.cross_entropy(named, right), {"named": (named.argmax(dim=1) == right).float().mean()}

    options = early_options(settings, steps=settings.seeing_steps, learning_rate=3e-3, device=device)
    batches: Batches[Tensor] = Batches(source.frame_count, -(-FRAMES // processes()) * processes(), torch.tensor)
    fit(Seer(policy), loss, batches, options=options, folder=folder, config={"frames": source.frame_count})
