"""Encoders of a question behind what was said before (late fusion, hierarchical recurrent, memory network, transformer) and
decoders that rank answers (discriminative) or say them (generative). Das et al. 2017, sections 5 and 6, arXiv:1611.08669.

Text and image encoders, and how a question meets its picture, are the core's. What each encoder adds is how the question
takes up the past; the picture is then looked at with a question that knows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlkit.attention import DotAttention
from vlkit.encoders.fusion import Fused, met
from vlkit.encoders.image import ImageGrid, seen
from vlkit.encoders.text import TextStates
from vlkit.rnn import RecurrentLayer
from vlkit.tags import Tagger, looked

MANY = 100  # times as many texts as options: from there on each round is compared with its own options alone
TOKENS_AT_ONCE = 1 << 26  # numbers that ranking by likelihood holds at once


@dataclass(frozen=True)
class Batch:
    """Rounds of some dialogs. Fact 0 of a dialog is its caption, fact k its k-th turn."""

    images: Tensor  # (dialogs, height, width, 3) uint8, or features (dialogs, patches, dim); a single black one for all
    dialog: Tensor  # (rounds,) int64: which of the images is its dialog's
    words: Tensor  # (rounds, words) int64: the question
    mask: Tensor  # (rounds, words) bool
    facts: Tensor  # (facts, words) int64: each text once
    facts_mask: Tensor  # (facts, words) bool
    past: Tensor  # (rounds, places) int64: which facts were said before, the oldest first
    past_mask: Tensor  # (rounds, places) bool
    history: Tensor  # (texts, words) int64: the same as one text, of a dialog or of each round
    history_mask: Tensor  # (texts, words) bool
    history_of: Tensor  # (rounds,) int64: whose text it is
    history_end: Tensor  # (rounds,) int64: how many of its words were said before
    options: Tensor  # (texts, words) int64: options, each text once
    options_mask: Tensor  # (texts, words) bool
    option: Tensor  # (rounds, options) int64: which text each option is
    there: Tensor  # (rounds, options) bool: whether there is such an option
    right: Tensor  # (rounds,) the right option; -1 where nobody tells
    relevance: Tensor  # (rounds, options) float32, how right each is; all zero where nobody tells
    answers: Tensor  # (rounds, words) int64: the right answer between <start> and <end>, for a decoder that says it
    answers_mask: Tensor  # (rounds, words) bool
    said: Tensor | None = None  # (dialogs, vocabulary) float32: as `vlkit.tags.tagged` gives it


@dataclass(frozen=True)
class Answered:
    """What a model learns from."""

    scores: Tensor  # (rounds, options); of a decoder that says answers, the loss of each (rounds,)
    said: Tensor | None = None  # (dialogs, vocabulary): scores of words, where the batch tells which are said


@dataclass(frozen=True)
class Past:
    """What was said before each question, as vectors."""

    facts: Tensor | None = None  # (rounds, places, dim)
    mask: Tensor | None = None  # (rounds, places) bool
    history: Tensor | None = None  # (rounds, dim), the whole as one


class LateFusion(nn.Module):
    """The past is one long text, whose vector joins the question's (LF)."""

    reads = "words"

    def __init__(self, text_dim: int, fusion: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.fusion = fusion
        self.join = nn.Linear(2 * text_dim, text_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, mask: Tensor, past: Past, image: ImageGrid, of: Tensor) -> Fused:
        """pooled (rounds, dim), history (rounds, dim), pictures, of (rounds,) whose -> joint (rounds, dim), what was looked at"""
        assert past.history is not None
        asked = torch.tanh(self.join(torch.cat([question.pooled, past.history], dim=1)))
        return _meet(self.fusion, question, self.dropout(asked), mask, image, of)


class HierarchicalRecurrent(nn.Module):
    """A recurrent layer over the turns' vectors, and attention over them (HRE, with attention: HREA)."""

    reads = "facts"

    def __init__(self, text_dim: int, fusion: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.fusion = fusion
        self.turns = RecurrentLayer("lstm", text_dim, text_dim)
        self.attention = DotAttention(text_dim, text_dim, dim=text_dim)
        self.join = nn.Linear(3 * text_dim, text_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, mask: Tensor, past: Past, image: ImageGrid, of: Tensor) -> Fused:
        """pooled (rounds, dim), facts (rounds, places, dim) -> joint (rounds, dim); weights "turns" (rounds, places)"""
        assert past.facts is not None
        assert past.mask is not None
        states, last = self.turns(past.facts, past.mask)
        context, weights = self.attention(question.pooled, states, past.mask)
        asked = torch.tanh(self.join(torch.cat([question.pooled, last, context], dim=1)))
        return _meet(self.fusion, question, self.dropout(asked), mask, image, of, {"turns": weights})


class MemoryNetwork(nn.Module):
    """The turns are a memory; question and picture look up what they need of it (MN)."""

    reads = "facts"

    def __init__(self, text_dim: int, image_dim: int, fusion: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.fusion = fusion
        self.query = nn.Linear(text_dim + image_dim, text_dim)
        self.attention = DotAttention(text_dim, text_dim, dim=text_dim)
        self.output = nn.Linear(text_dim, text_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: TextStates, mask: Tensor, past: Past, image: ImageGrid, of: Tensor) -> Fused:
        """pooled (rounds, dim), facts (rounds, places, dim) -> joint (rounds, dim); weights "turns" (rounds, places)"""
        assert past.facts is not None
        assert past.mask is not None
        query = torch.tanh(self.query(torch.cat([question.pooled, image.pooled[of]], dim=1)))
        context, weights = self.attention(query, past.facts, past.mask)
        asked = query + torch.tanh(self.output(context))
        return _meet(self.fusion, question, self.dropout(asked), mask, image, of, {"turns": weights})


class TurnTransformer(nn.Module):
    """A transformer over the turns' vectors, the question's words and the patches together (visualbert by default)."""

    reads = "facts"

    def __init__(self, text_dim: int, fusion: nn.Module, slots: int) -> None:
        super().__init__()
        self.fusion, self.slots = fusion, slots
        self.kind = nn.Parameter(torch.zeros(2, text_dim))  # told turns from words
        nn.init.normal_(self.kind, std=0.02)

    def forward(self, question: TextStates, mask: Tensor, past: Past, image: ImageGrid, of: Tensor) -> Fused:
        """states (rounds, words, dim), facts (rounds, places, dim) -> joint (rounds, dim); weights "turns" and "patches" """
        assert past.facts is not None
        assert past.mask is not None
        # A place of its own for each turn, whatever else is in the batch: the newest is the last.
        turns = question.states.new_zeros(len(mask), self.slots, question.states.shape[2])
        there = torch.zeros(turns.shape[:2], dtype=torch.bool, device=mask.device)
        count = past.mask.sum(dim=1, keepdim=True)
        rows, places = past.mask.nonzero(as_tuple=True)
        slot = places + self.slots - count[rows, 0]
        rows, places, slot = (each[slot >= 0] for each in (rows, places, slot))  # what is older has none
        turns = turns.index_put((rows, slot), past.facts[rows, places].to(turns.dtype))
        there[rows, slot] = True
        states = torch.cat([turns + self.kind[0], question.states + self.kind[1]], dim=1)
        every = TextStates(states=states, pooled=question.pooled)
        found = met(self.fusion, every, image, torch.cat([there, mask], dim=1), of)
        weights = dict(found.weights)
        if "words" in weights:
            words = weights.pop("words")
            own = torch.zeros_like(past.mask, dtype=words.dtype)
            own[rows, places] = words[rows, slot]
            weights |= {"words": words[:, self.slots :], "turns": own}
        return Fused(found.joint, weights)


def _meet(
    fusion: nn.Module,
    question: TextStates,
    asked: Tensor,
    mask: Tensor,
    image: ImageGrid,
    of: Tensor,
    weights: Mapping[str, Tensor] | None = None,
) -> Fused:
    """The question that knows the past meets its picture."""
    found = met(fusion, TextStates(states=question.states, pooled=asked), image, mask, of)
    return Fused(found.joint, {**found.weights, **(weights or {})})


class Discriminative(nn.Module):
    """Scores an option by how its vector agrees with what was asked; with a tagger, also by how much its words call what was
    looked at, which then stands behind the joint vector.
    """

    def __init__(self, joint_dim: int, text: nn.Module, dim: int, tagger: Tagger | None = None) -> None:
        super().__init__()
        self.text, self.tagger = text, tagger
        self.joint = nn.Linear(joint_dim, dim)
        self.option = nn.Linear(int(getattr(text, "dim")), dim)  # noqa: B009 - nn.Module has it by contract, not by type

    def vectors(self, words: Tensor, mask: Tensor) -> Tensor:
        """(texts, words) -> (texts, dim), and what each calls behind it"""
        read = cast(Tensor, self.option(cast(TextStates, self.text(words, mask)).pooled))
        return read if self.tagger is None else torch.cat([read, self.tagger.calls(words, mask)], dim=1)

    def scores(self, joint: Tensor, vectors: Tensor, option: Tensor, there: Tensor) -> Tensor:
        """(rounds, joint_dim), (texts, dim), which text each option is (rounds, options) -> (rounds, options)"""
        asked = self.joint(joint[:, : self.joint.in_features])
        if self.tagger is not None:
            asked = torch.cat([asked, joint[:, self.joint.in_features :]], dim=1)
        if len(vectors) <= MANY * option.shape[1]:
            found = (asked @ vectors.T).gather(1, option)
        else:
            found = torch.bmm(vectors[option], asked[:, :, None])[:, :, 0]
        return cast(Tensor, found.float().masked_fill(~there, -torch.inf))


@dataclass(frozen=True)
class Saying:
    """A decoder in the middle of an answer."""

    hidden: Tensor  # (batch, dim)
    memory: Tensor  # (batch, dim)
    asked: Tensor  # (batch, dim), what is to be answered


class Generative(nn.Module):
    """An LSTM that says the answer word by word; an option's score is its log-likelihood."""

    def __init__(
        self,
        joint_dim: int,
        vocabulary: int,
        word_dim: int,
        dim: int,
        dropout: float = 0.0,
        tagger: Tagger | None = None,
    ) -> None:
        super().__init__()
        self.tagger = tagger
        self.words = nn.Embedding(vocabulary, word_dim, padding_idx=0)
        self.begin = nn.Sequential(nn.LayerNorm(joint_dim), nn.Linear(joint_dim, 3 * dim))
        self.layer = RecurrentLayer("lstm", word_dim, dim)
        self.next_word = nn.Linear(dim, vocabulary)
        self.dropout = nn.Dropout(dropout)

    def begun(self, joint: Tensor) -> Saying:
        """(rounds, joint_dim) -> before the first word"""
        hidden, memory, asked = self.begin(joint).chunk(3, dim=1)
        return Saying(hidden.tanh(), memory.tanh(), asked)

    def step(self, words: Tensor, saying: Saying) -> tuple[Tensor, Saying]:
        """(batch,) the last word -> (batch, vocabulary) logits of the next; a step function of vlkit.generation"""
        output, ((hidden, memory),) = self.layer.step(self.words(words), ((saying.hidden, saying.memory),))
        logits = self._logits(output[:, None], saying.asked)[:, 0]
        return logits, Saying(hidden, memory, saying.asked)

    def log_probs(self, joint: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """(rows, joint_dim), (rows, words) from <start> to <end> -> (rows, words - 1) of each word behind the first"""
        saying = self.begun(joint)
        states, _ = self.layer(self.dropout(self.words(words[:, :-1])), initial=((saying.hidden, saying.memory),))
        logits = self._logits(self.dropout(states), saying.asked).float()
        found = logits.gather(2, words[:, 1:, None])[:, :, 0] - logits.logsumexp(dim=2)
        return found * mask[:, 1:]

    def _logits(self, states: Tensor, asked: Tensor) -> Tensor:
        """(batch, words, dim), (batch, dim) -> (batch, words, vocabulary); what is asked need not be carried along"""
        return cast(Tensor, self.next_word(torch.relu(states + asked[:, None])))

    def scores(self, joint: Tensor, words: Tensor, mask: Tensor, option: Tensor, there: Tensor) -> Tensor:
        """(rounds, joint_dim), texts between <start> and <end> (texts, words), (rounds, options) -> (rounds, options)"""
        rows, columns = there.nonzero(as_tuple=True)
        found = torch.full(there.shape, -torch.inf, device=joint.device)
        at_once = max(TOKENS_AT_ONCE // (words.shape[1] * self.next_word.out_features), 1)
        for first in range(0, len(rows), at_once):
            part = slice(first, first + at_once)
            own = option[rows[part], columns[part]]
            width = int(mask[own].sum(dim=1).max())
            likely = self.log_probs(joint[rows[part]], words[own, :width], mask[own, :width]).sum(dim=1)
            found[rows[part], columns[part]] = likely
        return found


class DialogModel(nn.Module):
    """Answers a question about a picture behind what was said before.

    text reads questions, told what was said. causal: whether a state of `told` knows only the words before it, so that one run
    over a dialog's words gives the past of each of its rounds.
    """

    def __init__(
        self,
        text: nn.Module,
        told: nn.Module,
        image: nn.Module,
        encoder: nn.Module,
        decoder: Discriminative | Generative,
        *,
        places: bool = True,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.text, self.told, self.image = text, told, image
        self.encoder, self.decoder = encoder, decoder
        self.places, self.causal = places, causal

    @property
    def reads(self) -> str:
        """How the encoder takes up the past: as "words", one text, or as "facts", a vector for each turn."""
        return cast(str, self.encoder.reads)

    def see(self, images: Tensor) -> ImageGrid:
        """Pixels (images, height, width, 3) uint8, or features (images, patches, dim) -> a grid that knows its places"""
        return seen(self.image, images, places=self.places)

    def past(self, batch: Batch) -> Past:
        """What was said before each question, read."""
        if self.reads == "facts":
            facts = cast(TextStates, self.told(batch.facts, batch.facts_mask)).pooled
            return Past(facts=facts[batch.past] * batch.past_mask[:, :, None], mask=batch.past_mask)
        read = cast(TextStates, self.told(batch.history, batch.history_mask))
        if not self.causal:
            return Past(history=read.pooled * batch.history_mask.any(dim=1, keepdim=True))
        end = batch.history_end
        last = read.states[batch.history_of, (end - 1).clamp(min=0)]
        return Past(history=last * (end > 0)[:, None])

    def meet(self, question: TextStates, mask: Tensor, past: Past, grid: ImageGrid, dialog: Tensor) -> Fused:
        """Each question with its past and its picture."""
        found = cast(Fused, self.encoder(question, mask, past, grid, dialog))
        if self.decoder.tagger is None or isinstance(self.decoder, Generative):
            return found
        return Fused(torch.cat([found.joint, looked(found, grid, dialog)], dim=1), found.weights)

    def encode(self, batch: Batch, grid: ImageGrid | None = None) -> Fused:
        """Batch, its pictures where they were seen already -> joint (rounds, dim), and what was looked at"""
        question = cast(TextStates, self.text(batch.words, batch.mask))
        grid = self.see(batch.images) if grid is None else grid
        return self.meet(question, batch.mask, self.past(batch), grid, batch.dialog)

    def forward(self, batch: Batch) -> Answered:
        """Batch -> what is learned from it"""
        grid = self.see(batch.images)
        joint = self.encode(batch, grid).joint
        tagger = self.decoder.tagger
        said = None if tagger is None or batch.said is None else tagger.said(grid)
        if isinstance(self.decoder, Generative):
            likely = self.decoder.log_probs(joint, batch.answers, batch.answers_mask)
            return Answered(-likely.sum(dim=1) / batch.answers_mask[:, 1:].sum(dim=1).clamp(min=1), said)
        vectors = self.decoder.vectors(batch.options, batch.options_mask)
        return Answered(self.decoder.scores(joint, vectors, batch.option, batch.there), said)


def soft_loss(scores: Tensor, relevance: Tensor) -> Tensor:
    """Cross-entropy with how right each option is: scores (rounds, options), relevance (rounds, options) -> ()"""
    target = relevance / relevance.sum(dim=1, keepdim=True).clamp(min=1e-9)
    likely = F.log_softmax(scores, dim=1).masked_fill(scores == -torch.inf, 0)
    return -(target * likely).sum(dim=1).mean()
