"""A talk as a trained model follows it: what was said, what each answer looked at. Turns can be changed, dropped and replayed.

A picture is seen once and a turn is read once, however long the talk is. A changed turn is read anew, and what was said behind
it is asked again. Where a model does not weigh turns (late fusion), how much each counted is found by leaving it out, for the
newest ones: those pasts are read for it.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from vlkit.encoders.image import ImageGrid
from vlkit.encoders.text import RecurrentTextEncoder, TextStates
from vlkit.errors import UserError
from vlkit.generation import beam_search, greedy, sample
from vlkit.tasks.dialog.evaluation import Trained
from vlkit.tasks.dialog.model import Discriminative, Generative, Past
from vlkit.tasks.dialog.training import Reading

MOST_LETTERS = 500  # of a message
MOST_TURNS = 100  # of a talk
SHOWN = 5  # answers with their chances
BEAMS = 8
LEFT_OUT = 10  # facts that are left out one by one, where a model does not weigh them
FORMAT = "vlkit dialog"

Decoding = Literal["beam", "greedy", "sample"]


@dataclass(frozen=True, eq=False)
class Reply:
    """An answer, and what is behind it."""

    answer: str
    candidates: tuple[tuple[str, float], ...]  # the likeliest answers with their chances, the likeliest first
    past: tuple[float, ...]  # how much the caption and each turn before counted; all zero where nothing was said
    patches: np.ndarray | None  # (rows, columns), where in the picture it looked; None where the model does not tell
    unknown: tuple[str, ...] = ()  # words of the question that the model does not know

    @property
    def focus(self) -> int | None:
        """What counted most: 0 for the caption, k for the k-th turn; None where nothing was said before."""
        return int(np.argmax(self.past)) if any(self.past) else None


@dataclass(frozen=True, eq=False)
class Said:
    """A turn of a talk."""

    question: str
    answer: str
    reply: Reply
    corrected: bool = False  # whether a person put the answer there
    options: tuple[str, ...] = ()  # that it was chosen among; none where the model might answer anything


@dataclass(eq=False)
class Talker:
    """A trained model that several talks share; none of them changes it.

    decoding: how a generative decoder chooses its words; temperature: of sampling.
    """

    run: Trained
    decoding: Decoding = "beam"
    temperature: float = 1.0
    seed: int = 0
    _known: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.run.settings.features is not None:
            raise UserError("this model reads features, not pictures; name a run that was trained from pixels")
        if isinstance(self.run.model.decoder, Discriminative) and not self.run.known:
            raise UserError(
                f"{self.run.folder} scores given answers and knows none, and it has no decoder that says any; train one with "
                "--decoder generative, or with more --known-answers"
            )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.run.model.parameters()).device

    @torch.inference_mode()
    def see(self, pixels: Tensor) -> ImageGrid:
        """(height, width, 3) uint8 -> the picture as the model sees it"""
        shown = torch.zeros_like(pixels) if "image" in self.run.settings.blank else pixels
        return self.run.model.see(shown[None].to(self.device))

    def read(self, text: str) -> list[int]:
        """A question or an answer as ids, cut as in training."""
        return self.run.tokenizer.encode(text)[: self.run.settings.max_words]

    @torch.inference_mode()
    def fact(self, words: Sequence[int]) -> Tensor:
        """The words of a caption or a turn -> (dim,)"""
        ids, mask = self.run.tokenizer.pad_batch([words], 2 * self.run.settings.max_words)
        read = cast(TextStates, self.run.model.told(ids.to(self.device), mask.to(self.device)))
        return read.pooled[0]

    @torch.inference_mode()
    def vectors(self) -> Tensor:
        """(answers, dim) of the answers that the model knows, read once"""
        if self._known is None:
            self._known = self._read_options(self.run.known)
        return self._known

    def _read_options(self, texts: Sequence[str]) -> Tensor:
        ids, mask = self.run.tokenizer.batch(texts, self.run.settings.max_words)
        decoder = cast(Discriminative, self.run.model.decoder)
        return decoder.vectors(ids.to(self.device), mask.to(self.device))

    @torch.inference_mode()
    def answers(self, joint: Tensor, options: Sequence[str] = ()) -> list[tuple[str, float]]:
        """(1, joint_dim) -> answers with their chances, the likeliest first; among some where options are given"""
        decoder = self.run.model.decoder
        if isinstance(decoder, Generative) and not options:
            return self._said(decoder, joint)
        texts = list(options or self.run.known)
        scores = self.scores(joint, texts, known=not options)[0]
        order = scores.argsort(descending=True).tolist()
        chances = scores.softmax(0)
        return [(texts[i], float(chances[i])) for i in order[:SHOWN]]

    @torch.inference_mode()
    def scores(self, joint: Tensor, texts: Sequence[str], *, known: bool = False) -> Tensor:
        """(rows, joint_dim) -> (rows, texts), log-likelihoods where the model says answers"""
        decoder = self.run.model.decoder
        option = torch.arange(len(texts), device=joint.device).expand(len(joint), -1)
        there = torch.ones_like(option, dtype=torch.bool)
        if isinstance(decoder, Generative):
            tokenizer = self.run.tokenizer
            rows = [[tokenizer.start, *self.read(text), tokenizer.end] for text in texts]
            words, mask = tokenizer.pad_batch(rows, self.run.settings.max_words + 2)
            return decoder.scores(joint, words.to(joint.device), mask.to(joint.device), option, there)
        vectors = self.vectors() if known else self._read_options(texts)
        return decoder.scores(joint, vectors, option, there)

    @torch.inference_mode()
    def likely(self, joint: Tensor, answer: str) -> Tensor:
        """(rows, joint_dim) -> (rows,) how likely an answer is, as a log; among those that are known where options are scored"""
        if isinstance(self.run.model.decoder, Generative):
            return self.scores(joint, [answer])[:, 0]
        own = self.scores(joint, [answer])
        known = self.scores(joint, self.run.known, known=True)
        return own[:, 0] - torch.cat([own, known], dim=1).logsumexp(dim=1)

    def _said(self, decoder: Generative, joint: Tensor) -> list[tuple[str, float]]:
        """What a decoder says, likeliest first: several ways by beam search, or one word after the other."""
        tokenizer, steps = self.run.tokenizer, self.run.settings.max_words
        start = torch.full((1,), tokenizer.start, device=joint.device)
        begun = decoder.begun(joint)
        if self.decoding == "beam":
            beams = beam_search(decoder.step, start, begun, tokenizer.end, steps, BEAMS, pad=tokenizer.pad)
            rows = zip(beams.ids[0].tolist(), beams.log_probs[0].exp().tolist(), strict=True)
            found: dict[str, float] = {}
            for ids, chance in rows:
                text = tokenizer.decode(ids)
                found[text] = found.get(text, 0.0) + chance
            return sorted(found.items(), key=lambda each: -each[1])[:SHOWN]
        if self.decoding == "greedy":
            said = greedy(decoder.step, start, begun, tokenizer.end, steps, tokenizer.pad)
        else:
            generator = torch.Generator(joint.device).manual_seed(self.seed)
            said = sample(
                decoder.step,
                start,
                begun,
                tokenizer.end,
                steps,
                self.temperature,
                generator=generator,
                pad=tokenizer.pad,
            )
        return [(tokenizer.decode(said.ids[0].tolist()), float(said.log_prob[0].exp()))]


@dataclass(frozen=True)
class Read:
    """The words of a caption or a turn, and what they became; of a running text, what comes behind them begins there."""

    words: tuple[int, ...]
    vector: Tensor | None = None  # (dim,), for encoders that take the past turn by turn
    after: Any = None  # the recurrent state, for those that take it as one text


Again = tuple[str, str | None, tuple[str, ...]]  # a question, the answer that a person put there, its options


class DialogState:
    """A talk about one picture. Nothing in it is shared with another talk but the model, which no talk changes.

    max_turns, max_words: so many of the newest turns are remembered beside the caption, and so many words, of which the caption's
    are some; as much as in training where they are not given.
    """

    def __init__(
        self,
        talker: Talker,
        pixels: Tensor,
        caption: str = "",
        max_turns: int | None = None,
        max_words: int | None = None,
    ) -> None:
        for name, value in (("max_turns", max_turns), ("max_words", max_words)):
            if value is not None and (type(value) is not int or value < 1):
                raise UserError(f"{name} = {value!r}, expected a whole number, at least 1")
        slots = getattr(talker.run.model.encoder, "slots", None)  # of a transformer, one for the caption
        if slots is not None and max_turns is not None and max_turns >= slots:
            raise UserError(f"max_turns = {max_turns}, and this model has places for {slots - 1} turns")
        self.talker, self.pixels = talker, pixels
        self.lock = threading.RLock()  # for whoever shows a talk to several threads
        self.caption = checked(caption, "caption") if caption.strip() else ""
        self.max_turns, self.max_words = max_turns or talker.run.settings.remembered, max_words
        self.turns: list[Said] = []
        self.read_count = 0  # captions and turns that were read
        self._grid = talker.see(pixels)
        self._facts: list[Read] = []  # of the caption and each turn
        self._running: list[Read] = []  # the same as one text, from the first that is remembered on

    def ask(self, question: str, options: Sequence[str] = ()) -> Reply:
        """Asks behind all that was said; the answer becomes part of it."""
        text = checked(question, "question")
        given = tuple(checked(option, "option") for option in options)
        if len(self.turns) >= MOST_TURNS:
            raise UserError(f"this talk has {MOST_TURNS} turns, and no more are kept; drop some, or begin a new one")
        reply = self._reply(text, given)
        self.turns.append(Said(text, reply.answer, reply, options=given))
        return reply

    def edit(self, place: int, question: str | None = None, answer: str | None = None) -> None:
        """Changes the question of a turn, or puts an answer there, and asks again what was said behind it.

        Answers that a person put there stay; those of the model are given anew.
        """
        own = self._turn(place)
        text = own.question if question is None else checked(question, "question")
        put = own.answer if answer is None and own.corrected and question is None else answer
        self._again(place, [(text, put, own.options if question is None else ()), *self._behind(place)])

    def delete(self, place: int) -> None:
        """Drops a turn, and asks again what was said behind it."""
        self._turn(place)
        self._again(place, self._behind(place))

    def clear(self) -> None:
        """Drops all turns; the picture stays."""
        self._again(0, [])

    def remembered(self) -> list[int]:
        """What a question asked now would hang on: 0 for the caption, k for the k-th turn."""
        blank = self.talker.run.settings.blank
        first = 1 if self.max_turns is None else max(1, len(self.turns) - self.max_turns + 1)
        kept = [] if "turns" in blank else list(range(first, len(self.turns) + 1))
        own = [0] if self.caption and "caption" not in blank else []
        if self.max_words is not None:
            while kept and sum(len(self._words(fact)) for fact in own + kept) > self.max_words:
                kept.pop(0)
        return own + kept

    def told(self, fact: int) -> str:
        """The caption (0), or the k-th turn, in words."""
        return self.caption if fact == 0 else f"{self.turns[fact - 1].question} {self.turns[fact - 1].answer}"

    def to_json(self) -> dict[str, Any]:
        """The talk with what is behind each answer, as JSON values."""
        return {
            "format": FORMAT,
            "run": self.talker.run.folder.name,
            "caption": self.caption,
            "max_turns": self.max_turns,
            "max_words": self.max_words,
            "turns": [
                {
                    "question": said.question,
                    "answer": said.answer,
                    "corrected": said.corrected,
                    "options": list(said.options),
                    "candidates": [{"answer": text, "chance": chance} for text, chance in said.reply.candidates],
                    "past": list(said.reply.past),
                    "focus": said.reply.focus,
                }
                for said in self.turns
            ],
        }

    @staticmethod
    def from_json(talker: Talker, pixels: Tensor, document: Mapping[str, Any]) -> "DialogState":
        """A talk replayed: its questions are asked again, and answers that a person put there stay."""
        turns = document.get("turns")
        if document.get("format") != FORMAT or not isinstance(turns, list):
            raise UserError(f"this is no talk that vlkit exported: expected format {FORMAT!r} and turns")
        caption = document.get("caption") or ""
        if not isinstance(caption, str):
            raise UserError(f"the talk has the caption {caption!r}; expected a text")
        state = DialogState(talker, pixels, caption, document.get("max_turns"), document.get("max_words"))
        if len(turns) > MOST_TURNS or not all(map(_is_turn, turns)):
            raise UserError(f"the talk has turns that are none; expected at most {MOST_TURNS} of question and answer")
        state._again(
            0,
            [
                (each["question"], each["answer"] if each.get("corrected") else None, tuple(each.get("options", ())))
                for each in turns
            ],
        )
        return state

    def _turn(self, place: int) -> Said:
        if not 0 <= place < len(self.turns):
            raise UserError(f"there is no turn {place + 1}; the talk has {len(self.turns)}")
        return self.turns[place]

    def _behind(self, place: int) -> list["Again"]:
        return [
            (said.question, said.answer if said.corrected else None, said.options) for said in self.turns[place + 1 :]
        ]

    def _again(self, place: int, asked: Sequence["Again"]) -> None:
        """Everything from a turn on is said anew; all or nothing."""
        before = self.turns
        self.turns = self.turns[:place]
        try:
            for question, answer, options in asked:
                text = checked(question, "question")
                reply = self._reply(text, options)
                said = Said(text, reply.answer, reply, options=options)
                if answer is not None:
                    said = replace(said, answer=checked(answer, "answer"), corrected=True)
                self.turns.append(said)
        except BaseException:
            self.turns = before
            raise

    def _words(self, fact: int) -> tuple[int, ...]:
        """The caption (0), or the k-th turn, as the model reads it."""
        if fact == 0:
            return tuple(self.talker.run.tokenizer.encode(self.caption))
        said = self.turns[fact - 1]
        return (*self.talker.read(said.question), *self.talker.read(said.answer))

    @torch.inference_mode()
    def _reply(self, question: str, options: Sequence[str] = ()) -> Reply:
        talker = self.talker
        run, tokenizer, device = talker.run, talker.run.tokenizer, talker.device
        words = [tokenizer.unknown] if "question" in run.settings.blank else talker.read(question)
        ids, mask = tokenizer.pad_batch([words], run.settings.max_words)
        ids, mask = ids.to(device), mask.to(device)
        asked = cast(TextStates, run.model.text(ids, mask))
        facts = self.remembered()
        found = run.model.meet(
            asked, mask, self._past([facts]), self._grid, torch.zeros(1, dtype=torch.long, device=device)
        )
        candidates = talker.answers(found.joint, options)
        answer = candidates[0][0]
        weights = found.weights.get("turns")
        past = [0.0] * (len(self.turns) + 1)
        if weights is not None:
            own = weights[0, : len(facts)].float()
            shares = (own / own.sum().clamp(min=1e-9)).cpu().tolist()
        else:
            shares = self._needed(asked, mask, facts, found.joint, answer)
        for fact, share in zip(facts, shares, strict=True):
            past[fact] = float(share)
        look = found.weights.get("patches")
        patches = None if look is None else look[0].float().cpu().reshape(self._grid.shape).numpy()
        unknown = tuple(dict.fromkeys(word for word in question.split() if tokenizer.unknown in tokenizer.encode(word)))
        return Reply(answer, tuple(candidates), tuple(past), patches, unknown)

    def _needed(self, asked: TextStates, mask: Tensor, facts: Sequence[int], joint: Tensor, answer: str) -> list[float]:
        """How much less likely the answer is without each of the facts, as shares: for encoders that do not weigh turns."""
        if not facts:
            return []
        model, device = self.talker.run.model, self.talker.device
        newest = facts[-LEFT_OUT:]
        without = [[other for other in facts if other != fact] for fact in newest]
        many = TextStates(states=asked.states.expand(len(newest), -1, -1), pooled=asked.pooled.expand(len(newest), -1))
        past = self._past(without)
        dialog = torch.zeros(len(newest), dtype=torch.long, device=device)
        found = model.meet(many, mask.expand(len(newest), -1), past, self._grid, dialog)
        every = self.talker.likely(torch.cat([joint, found.joint]), answer)
        lost = (every[0] - every[1:]).clamp(min=0)
        shares = cast(list[float], (lost / lost.sum().clamp(min=1e-9)).cpu().tolist())
        return [0.0] * (len(facts) - len(newest)) + shares

    def _past(self, rows: Sequence[Sequence[int]]) -> Past:
        """What was said, for each row of facts."""
        model, device = self.talker.run.model, self.talker.device
        if model.reads == "words":
            return Past(history=torch.stack([self._text(row) for row in rows]))
        width = max(max(map(len, rows)), 1)
        dim = int(getattr(model.told, "dim"))  # noqa: B009 - nn.Module has it by contract, not by type
        facts = torch.zeros(len(rows), width, dim, device=device)
        mask = torch.zeros(len(rows), width, dtype=torch.bool, device=device)
        for i, row in enumerate(rows):
            for j, fact in enumerate(row):
                facts[i, j] = self._vector(fact)
                mask[i, j] = True
        return Past(facts=facts, mask=mask)

    def _vector(self, fact: int) -> Tensor:
        """(dim,) of the caption or a turn, which is read when it is new or was changed"""
        words = self._words(fact)
        del self._facts[len(self.turns) + 1 :]
        while len(self._facts) <= fact:
            self._facts.append(Read(()))
        kept = self._facts[fact]
        if kept.vector is None or kept.words != words:
            kept = self._facts[fact] = Read(words, self.talker.fact(words))
            self.read_count += 1
        assert kept.vector is not None
        return kept.vector

    def _text(self, facts: Sequence[int]) -> Tensor:
        """(dim,) of some facts as one text; what is as it was is not read again"""
        talker = self.talker
        told, settings = talker.run.model.told, talker.run.settings
        words = [self._words(fact) for fact in facts]
        every = [word for each in words for word in each]
        dim = int(getattr(told, "dim"))  # noqa: B009
        if not every:
            return torch.zeros(dim, device=talker.device)
        whole = list(facts) == self.remembered() and len(every) <= settings.max_history
        if not whole or not isinstance(told, RecurrentTextEncoder) or not Reading.of(settings).causal:
            cut = every[-settings.max_history :]
            ids, mask = talker.run.tokenizer.pad_batch([cut], settings.max_history)
            return cast(TextStates, told(ids.to(talker.device), mask.to(talker.device))).pooled[0]
        same = 0
        while same < min(len(words), len(self._running)) and self._running[same].words == words[same]:
            same += 1
        del self._running[same:]
        for each in words[same:]:
            before = self._running[-1] if self._running else None
            ids = torch.tensor([each], dtype=torch.long, device=talker.device)
            if not each:
                self._running.append(Read(each, None if before is None else before.vector, before and before.after))
                continue
            mask = torch.ones_like(ids, dtype=torch.bool)
            initial = None if before is None else before.after
            states, after = told.layer.forward_with_state(told.words(ids), mask, initial)
            self._running.append(Read(each, states[0, -1], after))
            self.read_count += 1
        last = self._running[-1].vector
        return torch.zeros(dim, device=talker.device) if last is None else last


def _is_turn(entry: Any) -> bool:
    options = entry.get("options", []) if isinstance(entry, dict) else None
    texts = [entry.get("question"), entry.get("answer")] if isinstance(entry, dict) else [None]
    return isinstance(options, list) and all(isinstance(each, str) for each in (*texts, *options))


def checked(text: str, what: str) -> str:
    """A message without the spaces around it. UserError where there is none, or too much of it."""
    found = " ".join(str(text).split())
    if not found:
        raise UserError(f"the {what} is empty; type some words")
    if len(found) > MOST_LETTERS:
        raise UserError(
            f"the {what} has {len(found):,} characters, and at most {MOST_LETTERS} are read; say it shorter"
        )
    return found
