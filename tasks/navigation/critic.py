"""The matching critic of RCM: how well a walk fits its instruction (Wang et al. 2019, arXiv:1811.10092, section 3.3).

It tells the instruction from the walk, word by word; the probability that it gives the true words is the reward.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlkit.attention import CrossAttention
from vlkit.rnn import RecurrentLayer
from vlkit.tasks.navigation.model import ACTIONS, FrameEncoder, Walks, places_of, spread

BEGIN = 1  # id of the unknown word, which no instruction begins with: it stands before the first word


class MatchingCritic(nn.Module):
    """An LSTM over the walk, and an LSTM with attention that tells the instruction from it."""

    def __init__(self, frames: FrameEncoder, vocabulary: int, *, dim: int = 256, word_dim: int = 128) -> None:
        super().__init__()
        self.frames = frames
        self.actions = nn.Embedding(ACTIONS + 1, 32)
        self.watch = RecurrentLayer("lstm", frames.dim + 32, dim)
        self.words = nn.Embedding(vocabulary, word_dim, padding_idx=0)
        self.tell = RecurrentLayer("lstm", word_dim, dim)
        self.look = CrossAttention(dim, dim, dim, heads=2)
        self.say = nn.Sequential(nn.Linear(2 * dim, word_dim), nn.Tanh(), nn.Linear(word_dim, vocabulary))

    def forward(self, walks: Walks) -> Tensor:
        """Walks -> log-probability of each word of the instruction, (batch, words), zero at padding"""
        summary = self.frames(walks.rgb, walks.depth).summary
        summary = spread(summary, places_of(walks.acting, len(summary)), walks.acting)
        walked, whole = self.watch(torch.cat([summary.float(), self.actions(walks.last_action)], dim=2), walks.acting)
        before = torch.cat([torch.full_like(walks.words[:, :1], BEGIN), walks.words[:, :-1]], dim=1)
        begin = whole.float()
        told, _ = self.tell(self.words(before), walks.mask, ((begin, torch.zeros_like(begin)),))
        seen, _ = self.look(told, walks.acting, self.look.project(walked))
        said = self.say(torch.cat([told, seen], dim=2)).float()
        each = -F.cross_entropy(said.transpose(1, 2), walks.words, reduction="none")
        return each * walks.mask

    def fit_of(self, walks: Walks) -> Tensor:
        """(batch,) in [0, 1]: how well each walk fits its instruction, the mean probability of a word (geometric)"""
        logs: Tensor = self(walks)
        return (logs.sum(dim=1) / walks.mask.sum(dim=1)).exp()


def telling_loss(critic: MatchingCritic, walks: Walks) -> Tensor:
    """Cross-entropy of the instruction given the walk, the mean over words."""
    logs: Tensor = critic(walks)
    return -logs.sum() / walks.mask.sum()
