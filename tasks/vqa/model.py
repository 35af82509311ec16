"""A text encoder, an image encoder and a fusion of the core around a head that scores candidates or knows common answers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from vlkit.encoders.fusion import Fused, met
from vlkit.encoders.image import ImageGrid, seen
from vlkit.encoders.text import TextStates
from vlkit.tags import Tagger, looked


@dataclass(frozen=True)
class Batch:
    """Questions about some pictures."""

    images: Tensor  # (images, height, width, 3) uint8, or features (images, patches, dim)
    image: Tensor  # (questions,) int64: which picture each is about
    words: Tensor  # (questions, words) int64
    mask: Tensor  # (questions, words) bool
    choices: Tensor  # (texts, words) int64: candidates, each text once; none where answers are open
    choices_mask: Tensor  # (texts, words) bool
    choice: Tensor  # (questions, candidates) int64: which text each candidate is
    there: Tensor  # (questions, candidates) bool: whether there is such a candidate
    right: Tensor  # (questions,) int64: the right candidate; -1 where nobody tells
    targets: Tensor  # (questions, answers) float32: how right each common answer is; none for candidates
    said: Tensor | None = None  # (images, vocabulary) float32: as `vlkit.tags.tagged` gives it
    boxes: Tensor | None = None  # (questions, candidates, 4) shares of the picture, where candidates are parts of it


@dataclass(frozen=True)
class Answered:
    """What a model says."""

    scores: Tensor  # (questions, candidates), -inf where there is no candidate, or (questions, answers)
    weights: Mapping[str, Tensor]  # what was looked at, (questions, ...), as `Fused` has it; of the best candidate
    said: Tensor | None = None  # (images, vocabulary): scores of words, where the batch tells which are said


class OpenHead(nn.Module):
    """A score for each of the common answers."""

    def __init__(self, joint_dim: int, dim: int, answers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.answers = answers
        self.layers = nn.Sequential(nn.Linear(joint_dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, answers))

    def forward(self, joint: Tensor) -> Tensor:
        """(questions, joint_dim) -> (questions, answers)"""
        return cast(Tensor, self.layers(joint))


class ChoiceHead(nn.Module):
    """Scores candidates beside question and picture: by how they agree, and by a layer over both (Jabri et al. 2016)."""

    def __init__(self, joint_dim: int, text_dim: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.joint, self.candidate = nn.Linear(joint_dim, dim), nn.Linear(text_dim, dim)
        self.agree_joint, self.agree_candidate = nn.Linear(joint_dim, dim), nn.Linear(text_dim, dim)
        self.score = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, 1))

    def forward(self, joint: Tensor, candidates: Tensor) -> Tensor:
        """(questions, [candidates,] joint_dim), (questions, candidates, text_dim) -> (questions, candidates)"""
        if joint.dim() == 2:
            joint = joint[:, None]
        agreed = self.agree_joint(joint) * self.agree_candidate(candidates)
        return cast(Tensor, self.score(self.joint(joint) + self.candidate(candidates) + agreed)[..., 0])


class VQAModel(nn.Module):
    """Answers questions about pictures.

    together: candidates are read behind their question and the picture is looked at for each of them anew; else once for
    the question. region: makes a candidate of what is in a box and where that is, (..., patch + 4) -> (..., text); None where
    candidates are texts. tagger: learns what patches are called, and scores candidates by that too; None for neither.
    """

    def __init__(
        self,
        text: nn.Module,
        image: nn.Module,
        fusion: nn.Module,
        head: ChoiceHead | OpenHead,
        *,
        places: bool = True,
        together: bool = False,
        region: nn.Module | None = None,
        tagger: Tagger | None = None,
    ) -> None:
        super().__init__()
        self.text, self.image, self.fusion, self.head = text, image, fusion, head
        self.places, self.together, self.region, self.tagger = places, together, region, tagger

    def see(self, images: Tensor) -> ImageGrid:
        """Pixels (images, height, width, 3) uint8, or features (images, patches, dim) -> a grid that knows its places"""
        return seen(self.image, images, places=self.places)

    def forward(self, batch: Batch) -> Answered:
        """Batch -> the score of each candidate, or of each common answer"""
        seen = self.see(batch.images)
        answered = self.answer(seen, batch)
        return answered if batch.said is None or self.tagger is None else replace(answered, said=self.tagger.said(seen))

    def answer(self, seen: ImageGrid, batch: Batch) -> Answered:
        """The same for pictures that were seen already."""
        if isinstance(self.head, OpenHead):
            question = cast(TextStates, self.text(batch.words, batch.mask))
            fused = self.meet(question, seen, batch.image, batch.mask)
            return Answered(self.head(fused.joint).float(), fused.weights)
        if self.together and self.region is None:
            return self._together(seen, batch)
        question = cast(TextStates, self.text(batch.words, batch.mask))
        fused = self.meet(question, seen, batch.image, batch.mask)
        if self.region is not None:
            assert batch.boxes is not None
            inside = within(seen.grid[batch.image], seen.shape, batch.boxes)
            candidates = self.region(torch.cat([inside, batch.boxes], dim=2))
        else:
            candidates = cast(TextStates, self.text(batch.choices, batch.choices_mask)).pooled[batch.choice]
        scores = self.head(fused.joint, candidates).float()
        if self.tagger is not None and self.region is None:
            called = looked(fused, seen, batch.image) @ self.tagger.calls(batch.choices, batch.choices_mask).T
            scores = scores + called.float().gather(1, batch.choice)
        return Answered(scores.masked_fill(~batch.there, -torch.inf), fused.weights)

    def _together(self, seen: ImageGrid, batch: Batch) -> Answered:
        assert isinstance(self.head, ChoiceHead)
        rows = batch.there.nonzero()  # (pairs, 2): question, candidate
        which = batch.choice[batch.there]
        words, mask = joined(
            batch.words[rows[:, 0]], batch.mask[rows[:, 0]], batch.choices[which], batch.choices_mask[which]
        )
        both = cast(TextStates, self.text(words, mask))
        fused = self.meet(both, seen, batch.image[rows[:, 0]], mask)
        candidates = cast(TextStates, self.text(batch.choices, batch.choices_mask)).pooled[which]
        score = self.head(fused.joint[:, None], candidates[:, None])[:, 0].float()
        if self.tagger is not None:
            calls = self.tagger.calls(batch.choices, batch.choices_mask)[which]
            score = score + (looked(fused, seen, batch.image[rows[:, 0]]) * calls).sum(dim=1).float()
        scores = score.new_full(batch.there.shape, -torch.inf).masked_scatter(batch.there, score)
        pair = torch.zeros_like(batch.choice)
        pair[batch.there] = torch.arange(len(rows), device=pair.device)
        best = pair.gather(1, scores.argmax(dim=1, keepdim=True))[:, 0]
        return Answered(scores, {name: each[best] for name, each in fused.weights.items()})

    def meet(self, question: TextStates, seen: ImageGrid, image: Tensor, mask: Tensor) -> Fused:
        """Each question with its own picture."""
        return met(self.fusion, question, seen, mask, image)


def within(grid: Tensor, shape: tuple[int, int], boxes: Tensor) -> Tensor:
    """(rows, patches, dim), boxes (rows, boxes, 4) -> (rows, boxes, dim): the mean over each box, patches by their overlap"""

    def overlap(low: Tensor, high: Tensor, count: int) -> Tensor:
        """(rows, boxes) each -> (rows, boxes, count): how much of each part between 0 and 1 lies between low and high"""
        edges = torch.arange(count + 1, device=low.device) / count
        covered = torch.minimum(edges[1:], high[..., None]) - torch.maximum(edges[:-1], low[..., None])
        # A box of no width, at the edge of what a crop left, counts where it is.
        return covered.clamp(min=1e-6 / count)

    down = overlap(boxes[..., 1], boxes[..., 3], shape[0])
    across = overlap(boxes[..., 0], boxes[..., 2], shape[1])
    weights = (down[..., :, None] * across[..., None, :]).flatten(2)
    return (weights / weights.sum(dim=2, keepdim=True)).to(grid.dtype) @ grid


def joined(words: Tensor, mask: Tensor, more: Tensor, more_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Two texts a row, (rows, words) each -> one behind the other without a gap, and its mask"""
    first, second = mask.sum(dim=1, keepdim=True), more_mask.sum(dim=1, keepdim=True)
    width = int((first + second).max())
    places = torch.arange(width, device=words.device)[None]
    behind = (places - first).clamp(0, more.shape[1] - 1)
    within = places.clamp(max=words.shape[1] - 1).expand(len(words), -1)
    text = torch.where(places < first, words.gather(1, within), more.gather(1, behind))
    both = places < first + second
    return text * both, both
