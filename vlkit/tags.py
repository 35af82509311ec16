"""Words for what a picture shows, learned from what is said about it; for image encoders that begin from nothing.

Nobody tells where in the picture a word belongs, so it is learned as multiple instances are: what is said of a picture holds for
some patch of it, by a soft maximum over the patches (Pinheiro and Collobert 2015, CVPR). An answer is then scored by
whether its words call the patches that the question made the model look at.
"""

import math
import re
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlkit.encoders.fusion import Fused
from vlkit.encoders.image import ImageGrid
from vlkit.text import Tokenizer

RARE = -3.0  # a word's score before anything is learned: few words are said of a picture
# How an answer begins that denies what the question speaks of.
DENIAL = re.compile(
    r"(no|nope|not|none|nothing|nobody|never|zero|0|(i|it|there) (\w+n't|cannot|(\w+ )?(no|not|none|nothing)))\b",
    re.IGNORECASE,
)


class Tagger(nn.Linear):
    """Scores each word of a vocabulary at each patch: (..., image_dim) -> (..., vocabulary)"""

    def __init__(self, image_dim: int, vocabulary: int) -> None:
        super().__init__(image_dim, vocabulary)
        nn.init.constant_(self.bias, RARE)

    def said(self, image: ImageGrid) -> Tensor:
        """grid (images, patches, image_dim) -> (images, vocabulary): the score of each word somewhere in the picture"""
        scores = self(image.grid).float()
        return torch.logsumexp(scores, dim=1) - math.log(scores.shape[1])

    def calls(self, words: Tensor, mask: Tensor) -> Tensor:
        """(texts, words) -> (texts, image_dim + 1), whose products with `looked` are how much a text's words call it, in the mean"""
        share = mask.to(self.weight.dtype)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
        both = torch.cat([self.weight, self.bias[:, None]], dim=1)
        return (both[words] * share[:, :, None]).sum(dim=1)


def looked(fused: Fused, image: ImageGrid, of: Tensor) -> Tensor:
    """(questions, image_dim + 1): what was looked at of its own picture, of (questions,), and a one; all alike without attention"""
    weights = fused.weights.get("patches")
    if weights is None:
        found = image.pooled[of]
    else:
        found = torch.bmm(weights[:, None].to(image.grid.dtype), image.grid[of])[:, 0]
    return torch.cat([found, found.new_ones(len(found), 1)], dim=1)


def words_of(question: Sequence[int], answer: Sequence[int], text: str) -> Iterable[int]:
    """What a question and its right answer, whose text is given, say of a picture: where that denies, the answer alone."""
    return answer if DENIAL.match(text.strip()) else (*question, *answer)


def known_words(tokenizer: Tokenizer, texts: Iterable[str]) -> Tensor:
    """(vocabulary,) bool: words of the texts, which a picture may be called; no special word is"""
    known = torch.zeros(tokenizer.size, dtype=torch.bool)
    known[sorted({word for own in tokenizer.encode_batch(list(dict.fromkeys(texts))) for word in own})] = True
    known[[tokenizer.pad, tokenizer.unknown, tokenizer.start, tokenizer.end]] = False
    return known


def tagged(said: Sequence[Tensor], known: Tensor) -> Tensor:
    """Words of some pictures, known (vocabulary,) bool -> (images, vocabulary): 1 said, 0 not, -1 no such word as answers have"""
    found = torch.zeros(len(said), len(known))
    for row, words in enumerate(said):
        found[row, words] = 1
    return found.masked_fill(~known, -1)


def tag_loss(scores: Tensor, said: Tensor) -> Tensor:
    """Scores (images, vocabulary), as `tagged` gives it (images, vocabulary) -> (): binary cross-entropy, summed over words"""
    every = F.binary_cross_entropy_with_logits(scores, said.clamp(min=0), reduction="none")
    return every[said >= 0].sum() / len(said)
