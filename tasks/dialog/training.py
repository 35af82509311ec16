"""Training a model that answers in a dialog: all rounds of a dialog at once, each behind the true turns before it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlkit import checkpoint, config
from vlkit.batches import Batches, moved, seed_everything
from vlkit.encoders.text import made_tokenizer
from vlkit.errors import UserError
from vlkit.evaluation import begin_image_encoder, weights_folder
from vlkit.image_sets import ImageSet, features, missing, pixels
from vlkit.processes import every_core, join, side_by_side
from vlkit.tags import known_words, tag_loss, tagged, words_of
from vlkit.tasks.dialog.data import Dialog, Dialogs, messages, read_dialogs, set_aside, some, with_options
from vlkit.tasks.dialog.metrics import right_ranks
from vlkit.tasks.dialog.model import Answered, Batch, DialogModel, Discriminative, Generative, soft_loss
from vlkit.tasks.dialog.settings import ARMS, CAUSAL, Config, built_model, train_options
from vlkit.text import Tokenizer
from vlkit.train import FitResult, Step, chosen_device, fit

# These may differ when a run goes on: none of them changes what it learns. Dialogs and pictures must be the same ones.
FREE = ("data", "images", "features", "output", "threads", "arms", "skip_missing")
DIALOGS_AT_ONCE = 32  # in judging
MORE = 10  # times as many common answers as a talk knows are drawn from where dialogs come without options
TEXTS_AT_ONCE = 4096  # options read at once, in judging


@dataclass(frozen=True)
class Reading:
    """How much of a dialog a model reads."""

    max_words: int
    max_history: int
    max_turns: int | None  # None for all
    causal: bool  # whether one run over a dialog's words gives the past of each of its rounds
    spoken: bool  # whether answers are said, between <start> and <end>

    @staticmethod
    def of(settings: Config) -> "Reading":
        """As the settings say."""
        return Reading(
            settings.max_words,
            settings.max_history,
            settings.remembered,
            settings.text_encoder in CAUSAL,
            settings.decoder == "generative",
        )


@dataclass(eq=False)
class Talks:
    """Dialogs of a split with their pictures, as tensors."""

    source: Dialogs
    images: ImageSet
    tokenizer: Tokenizer
    reading: Reading
    left_out: int = 0  # dialogs whose picture is missing

    @property
    def dialogs(self) -> tuple[Dialog, ...]:
        """The dialogs."""
        return self.source.dialogs

    @cached_property
    def answers(self) -> list[list[int]]:
        """Of each text among the options, as ids."""
        return self.tokenizer.encode_batch(list(self.source.answers))

    @cached_property
    def image_rows(self) -> np.ndarray:
        """(dialogs,) the place of each one's picture"""
        rows = self.images.rows
        return np.array([rows[dialog.image] for dialog in self.dialogs], np.int64)

    @cached_property
    def words(self) -> list[tuple[list[int], list[tuple[list[int], list[int]]]]]:
        """Of each dialog its caption, and of each turn question and answer, as ids."""
        texts = [
            [d.caption, *(text for turn in d.turns for text in (turn.question, turn.answer or ""))]
            for d in self.dialogs
        ]
        encoded = iter(self.tokenizer.encode_batch([text for each in texts for text in each]))
        most = self.reading.max_words
        found = []
        for each in texts:
            caption = next(encoded)
            turns = [(next(encoded)[:most], next(encoded)[:most]) for _ in range((len(each) - 1) // 2)]
            found.append((caption, turns))
        return found

    @cached_property
    def answer_words(self) -> Tensor:
        """(vocabulary,) bool: words that occur in an answer"""
        return known_words(self.tokenizer, self.source.answers)

    @cached_property
    def told(self) -> list[Tensor]:
        """Of each dialog the words that its caption, its questions and its answers say of the picture."""
        found = []
        for dialog, (caption, turns) in zip(self.dialogs, self.words, strict=True):
            every = set(caption)
            for turn, (question, answer) in zip(dialog.turns, turns, strict=True):
                every.update(words_of(question, answer, turn.answer) if turn.answer else ())
            found.append(torch.tensor(sorted(every), dtype=torch.int64))
        return found

    def batch(
        self,
        rows: Sequence[tuple[int, int]],
        blank: Sequence[str] = (),
        past_of: Mapping[int, int] | None = None,
        options: bool = True,
        tags: bool = False,
    ) -> Batch:
        """Some rounds, each (dialog, round), with their pictures and with what was said before.

        blank: inputs that are empty; past_of: the dialog whose past stands in the stead of a dialog's own; options: whether
        the texts of the options are read, or only their places among all answers told; tags: with the words that are said of
        each picture.
        """
        dialogs = list(dict.fromkeys(dialog for dialog, _ in rows))
        place = {dialog: i for i, dialog in enumerate(dialogs)}
        if "image" in blank:  # one black picture stands for all
            place = dict.fromkeys(dialogs, 0)
            shown = torch.zeros_like(self.images.read(self.image_rows[dialogs[:1]]))
        else:
            shown = self.images.read(self.image_rows[dialogs])
        pad = self.tokenizer.pad_batch
        unknown = [self.tokenizer.unknown]
        asked = [unknown if "question" in blank else self.words[dialog][1][turn][0] for dialog, turn in rows]
        words, mask = pad(asked, self.reading.max_words)
        own = {"facts": self._facts(rows, blank, past_of), "text": self._text(rows, blank, past_of)}
        return Batch(
            images=shown,
            dialog=torch.tensor([place[dialog] for dialog, _ in rows]),
            words=words,
            mask=mask,
            **own["facts"],
            **own["text"],
            **self._answers(rows, options=options),
            said=tagged([self.told[dialog] for dialog in dialogs], self.answer_words) if tags else None,
        )

    def _past(
        self, dialog: int, turn: int, blank: Sequence[str], past_of: Mapping[int, int] | None
    ) -> tuple[int, list[int]]:
        """Whose facts were said before a round, and which of them: 0 is the caption, k the k-th turn."""
        other = dialog if past_of is None else past_of[dialog]
        last = min(turn, len(self.words[other][1]))
        first = 1 if self.reading.max_turns is None else max(1, last - self.reading.max_turns + 1)
        told = [0] if "caption" not in blank and self.words[other][0] else []
        return other, told + ([] if "turns" in blank else list(range(first, last + 1)))

    def _fact(self, dialog: int, fact: int) -> list[int]:
        caption, turns = self.words[dialog]
        if fact == 0:
            return caption
        question, answer = turns[fact - 1]
        return [*question, *answer]

    def _facts(
        self, rows: Sequence[tuple[int, int]], blank: Sequence[str], past_of: Mapping[int, int] | None
    ) -> dict[str, Tensor]:
        """Each text once, and which of them were said before each round."""
        place: dict[tuple[int, ...], int] = {}
        past = []
        for dialog, turn in rows:
            other, facts = self._past(dialog, turn, blank, past_of)
            past.append([place.setdefault(tuple(self._fact(other, fact)), len(place)) for fact in facts])
        texts, mask = self.tokenizer.pad_batch(list(place) or [[]], 2 * self.reading.max_words)
        table = np.zeros((len(rows), max(max(map(len, past)), 1)), np.int64)
        there = np.zeros(table.shape, bool)
        for i, each in enumerate(past):
            table[i, : len(each)] = each
            there[i, : len(each)] = True
        return {
            "facts": texts,
            "facts_mask": mask,
            "past": torch.from_numpy(table),
            "past_mask": torch.from_numpy(there),
        }

    def _text(
        self, rows: Sequence[tuple[int, int]], blank: Sequence[str], past_of: Mapping[int, int] | None
    ) -> dict[str, Tensor]:
        """The past as one text. Rounds of a dialog share it where each is what the next one begins with."""
        most = self.reading.max_history
        place: dict[tuple[int, ...], int] = {}
        texts = []
        for dialog, turn in rows:
            other, facts = self._past(dialog, turn, blank, past_of)
            own = [word for fact in facts for word in self._fact(other, fact)]
            texts.append(own[-most:])
        order = sorted(range(len(rows)), key=lambda i: -len(texts[i]))
        owner = [0] * len(rows)
        longest: dict[int, list[list[int]]] = {}
        for i in order:
            known = longest.setdefault(rows[i][0], [])
            whole = next((each for each in known if each[: len(texts[i])] == texts[i]), None)
            if whole is None or not self.reading.causal:
                whole = texts[i]
                known.append(whole)
            owner[i] = place.setdefault(tuple(whole), len(place))
        history, mask = self.tokenizer.pad_batch(list(place), most)
        if not self.reading.causal:  # a text for each round
            chosen = torch.tensor(owner)
            history, mask = history[chosen], mask[chosen] & (torch.tensor([len(each) > 0 for each in texts])[:, None])
            owner = list(range(len(rows)))
        return {
            "history": history,
            "history_mask": mask,
            "history_of": torch.tensor(owner),
            "history_end": torch.tensor([len(each) for each in texts]),
        }

    def _answers(self, rows: Sequence[tuple[int, int]], *, options: bool) -> dict[str, Tensor]:
        """What each round's answer is chosen among."""
        pad, most = self.tokenizer.pad_batch, self.reading.max_words
        own = [self.dialogs[dialog].options[turn] for dialog, turn in rows]
        width = max(len(each) for each in own)
        table = np.full((len(rows), width), -1, np.int64)
        for i, each in enumerate(own):
            table[i, : len(each)] = each
        there = table >= 0
        if options:
            every, inverse = np.unique(table[there], return_inverse=True)
            texts, texts_mask = pad(self.said([self.answers[i] for i in every]) or [[]], most + 2)
            table[there] = inverse
        else:
            texts, texts_mask = pad([[]], most)
        table[~there] = 0
        relevance = torch.zeros(table.shape)
        right = []
        for i, (dialog, turn) in enumerate(rows):
            one = self.dialogs[dialog]
            right.append(int(one.right[turn]))
            known = self.source.relevance.get((one.id, turn))
            if known is not None:
                relevance[i, : len(known)] = torch.from_numpy(known)
        spoken = [self.words[dialog][1][turn][1] for dialog, turn in rows] if self.reading.spoken else [[]]
        answers, answers_mask = pad(self.said(spoken), most + 2)
        return {
            "options": texts,
            "options_mask": texts_mask,
            "option": torch.from_numpy(table),
            "there": torch.from_numpy(there),
            "right": torch.tensor(right),
            "relevance": relevance,
            "answers": answers,
            "answers_mask": answers_mask,
        }

    def said(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Texts as the decoder reads them: cut, and between <start> and <end> where it says them."""
        most, start, end = self.reading.max_words, self.tokenizer.start, self.tokenizer.end
        if not self.reading.spoken:
            return [list(each[:most]) for each in texts]
        bare = [[word for word in each if word not in (start, end)] for each in texts]  # Hugging Face's add both
        return [[start, *each[:most], end] for each in bare]


def talks(settings: Config, dialogs: Dialogs, tokenizer: Tokenizer, images: Path | None = None) -> Talks:
    """A split with its pictures. UserError where some are missing, unless they are to be skipped."""
    names = [dialog.image for dialog in dialogs.dialogs]
    if settings.features is not None:
        source = settings.features
        found = features(source, names)
    else:
        source = images or settings.images or dialogs.images
        found = pixels(source, names, size=settings.size, fit=settings.fit)
    if not settings.skip_missing:
        missing(found, source, "skip_missing")
    kept = [dialog for dialog in dialogs.dialogs if dialog.image not in found.troubles]
    left_out = len(dialogs.dialogs) - len(kept)
    if not kept:
        raise UserError(f"none of the {len(found.troubles)} pictures of {dialogs.name} can be read from {source}")
    return Talks(some(dialogs, kept) if left_out else dialogs, found, tokenizer, Reading.of(settings), left_out)


def splits(settings: Config) -> tuple[Dialogs, Dialogs]:
    """The dialogs to learn from, and those to choose checkpoints on, with options where answers are ranked."""
    train = read_dialogs(settings.data, settings.form, settings.train_split)
    if settings.select_split is None:
        select = set_aside(train, aside=True)
        train = set_aside(train, aside=False)
    else:
        select = read_dialogs(settings.data, settings.form, settings.select_split)
    told = [each for each in select.dialogs if bool(each.told.any())]
    if not told:
        raise UserError(
            f"{select.name} tells no answers, so no checkpoint can be chosen on it; name another select_split"
        )
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(told), generator=generator)[: settings.select_dialogs].sort().values.tolist()
    pool = common_answers(train, MORE * settings.known_answers)
    select = with_options(some(select, [told[i] for i in order]), pool)
    if not any((each.right >= 0).any() for each in select.dialogs):
        raise UserError(
            f"{select.name} gives options only where it does not tell which is right, so no checkpoint can be chosen on it; name "
            "another select_split"
        )
    return with_options(train, pool), select


def common_answers(dialogs: Dialogs, count: int) -> tuple[str, ...]:
    """What is answered most often."""
    said = Counter(turn.answer for each in dialogs.dialogs for turn in each.turns if turn.answer)
    return tuple(answer for answer, _ in sorted(said.items(), key=lambda item: (-item[1], item[0]))[:count])


def train_with_arms(settings: Config, folder: Path) -> FitResult:
    """Trains the model in `folder`, then the arms that the settings name, with the same settings, in `folder/arms`."""
    on_cpu = chosen_device(settings.device).type == "cpu"
    with side_by_side(settings.processes if on_cpu else 1, _train_with_arms, settings, folder):
        return _train_with_arms(settings, folder)


def _train_with_arms(settings: Config, folder: Path) -> FitResult:
    join(chosen_device(settings.device).type)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    train, select = splits(settings)
    if settings.begin_with is not None:
        config.run_file(settings.begin_with)
        tokenizer = Tokenizer.load(weights_folder(settings.begin_with) / "tokenizer.json")
    else:
        texts = [*messages(train.dialogs), *train.answers]
        tokenizer = made_tokenizer(settings.text_encoder, texts, settings.min_count)
    worlds = [talks(settings, each, tokenizer) for each in (train, select)]
    result = training(settings, folder, *worlds)
    for arm in settings.arms:
        tags = 0.0 if "image" in ARMS[arm] else settings.tags
        blank = tuple(dict.fromkeys((*settings.blank, *ARMS[arm])))
        blind = replace(settings, blank=blank, tags=tags, arms=(), output=folder / "arms" / arm)
        training(blind, folder / "arms" / arm, *worlds)
    return result


def training(settings: Config, folder: Path, train: Talks, select: Talks) -> FitResult:
    """Trains one model into `folder`, or continues there."""
    seed_everything(settings.seed)
    pictures = train.images
    built: dict[str, Any] = {
        "vocabulary": train.tokenizer.size,
        "feature_dim": 0 if pictures.shape is None else pictures.values.shape[2],
        "shape": pictures.shape,
    }
    model = built_model(settings, **built)
    if settings.image_from is not None:
        begin_image_encoder(model.image, settings.image_from)
    if settings.begin_with is not None:
        place = weights_folder(settings.begin_with)
        _, tensors = checkpoint.load_weights(place)
        if "image" in settings.blank:  # then there is nothing to call by a name
            tensors = {name: each for name, each in tensors.items() if not name.startswith("decoder.tagger.")}
        checkpoint.restore(model, tensors, place)
    rounds = learned_rounds(settings, train)

    def collate(places: list[int]) -> Batch:
        return train.batch([each for place in places for each in rounds[place]], settings.blank, tags=settings.tags > 0)

    batches = Batches(
        len(rounds), settings.batch_size, collate, name=lambda i: f"dialog {train.dialogs[rounds[i][0][0]].id}"
    )
    values = config.as_dict(settings) | {
        "known": list(common_answers(train.source, settings.known_answers)),
        "pool": list(common_answers(train.source, MORE * settings.known_answers)),
        "feature_dim": built["feature_dim"],
        "feature_shape": list(pictures.shape or ()),
    }
    return fit(
        model,
        partial(answer_loss, dense=settings.targets == "dense", tags=settings.tags),
        batches,
        options=train_options(settings),
        folder=folder,
        config=values,
        may_change=FREE,
        files={"tokenizer.json": train.tokenizer.to_json()},
        accepted=lambda: config.save(settings, folder / "config.toml"),
        evaluate=lambda model, step: {"select/mrr": selection(model, settings, select)},
    )


def learned_rounds(settings: Config, train: Talks) -> list[list[tuple[int, int]]]:
    """For each dialog that something can be learned from, its rounds, each (dialog, round)."""
    found = []
    for i, dialog in enumerate(train.dialogs):
        known = [
            turn
            for turn in range(len(dialog.turns))
            if (
                (dialog.id, turn) in train.source.relevance
                if settings.targets == "dense"
                else dialog.turns[turn].answer is not None
                if settings.decoder == "generative"
                else dialog.right[turn] >= 0
            )
        ]
        if known:
            found.append([(i, turn) for turn in known])
    if not found:
        what = "has no dense relevance" if settings.targets == "dense" else "tells no answers"
        raise UserError(f"{train.source.name} {what}, so nothing can be learned from it; name another train_split")
    return found


def answer_loss(
    model: DialogModel, batch: Batch, step: Step, *, dense: bool = False, tags: float = 0.0
) -> tuple[Tensor, Mapping[str, float | Tensor]]:
    """Cross-entropy over the options, with the right one or with how right each is; of the words where answers are said.

    tags: weight of the words that are said of a picture, as binary cross-entropy of each.
    """
    batch = moved(batch, step.device)
    logged: dict[str, float | Tensor] = {"rounds": float(len(batch.words)), "pictures": float(len(batch.images))}
    answered: Answered = model(batch)
    found = answered.scores
    known = batch.right >= 0
    if found.dim() == 1:  # a decoder that says answers
        loss = found.mean()
    else:
        loss = soft_loss(found, batch.relevance) if dense else F.cross_entropy(found[known], batch.right[known])
        if known.any():
            right = found.detach()[known].argmax(dim=1) == batch.right[known]
            logged["r@1"] = right.float().mean()
    if answered.said is not None and batch.said is not None:
        unlike = tag_loss(answered.said, batch.said)
        logged["tag_loss"] = unlike.detach()
        loss = loss + tags * unlike
    return loss, logged


def selection(model: DialogModel, settings: Config, select: Talks) -> float:
    """Mean reciprocal rank on the dialogs that choose."""
    with every_core():
        scores = ranked(model, select, settings.blank)
    own = [
        right_ranks(each[told], dialog.right[told])
        for dialog, each in zip(select.dialogs, scores, strict=True)
        if (told := dialog.right >= 0).any()
    ]
    return float(np.mean(1 / np.concatenate(own)))


@torch.inference_mode()
def ranked(
    model: DialogModel,
    asked: Talks,
    blank: Sequence[str] = (),
    *,
    past_of: Mapping[int, int] | None = None,
    watch: Any = None,
) -> list[np.ndarray]:
    """Of each dialog the scores (rounds, options), -inf where there is none; evaluation mode is the caller's.

    Each picture, each turn and each text among the options is read once.
    """
    device = next(model.parameters()).device
    texts = Vectors.of(model, asked, device)
    found = []
    for part in np.split(np.arange(len(asked.dialogs)), range(DIALOGS_AT_ONCE, len(asked.dialogs), DIALOGS_AT_ONCE)):
        rows = [(int(i), turn) for i in part for turn in range(len(asked.dialogs[i].turns))]
        batch: Batch = moved(asked.batch(rows, blank, past_of, options=False), device)
        scores = texts.scores(model, model.encode(batch).joint, batch.option, batch.there).cpu().numpy()
        start = 0
        for i in part:
            dialog = asked.dialogs[i]
            found.append(scores[start : start + len(dialog.turns), : dialog.options.shape[1]])
            start += len(dialog.turns)
        if watch is not None:
            watch(len(rows))
    return found


@dataclass(frozen=True)
class Vectors:
    """Texts that may be answers, read once: as vectors for a decoder that compares, as words for one that says them."""

    vectors: Tensor | None
    words: Tensor
    mask: Tensor
    place: Tensor  # (answers,) of the set: which of these texts each is

    @staticmethod
    def of(model: DialogModel, asked: Talks, device: torch.device) -> "Vectors":
        """All texts among the options of some dialogs."""
        options = [dialog.options[dialog.options >= 0] for dialog in asked.dialogs]
        used = np.unique(np.concatenate(options)).tolist()
        place = torch.zeros(max(len(asked.answers), 1), dtype=torch.long, device=device)
        place[torch.tensor(used, dtype=torch.long, device=device)] = torch.arange(len(used), device=device)
        texts = asked.said([asked.answers[i] for i in used])
        words, mask = asked.tokenizer.pad_batch(texts or [[]], asked.reading.max_words + 2)
        words, mask = words.to(device), mask.to(device)
        if isinstance(model.decoder, Generative):
            return Vectors(None, words, mask, place)
        decoder: Discriminative = model.decoder
        lengths = mask.sum(dim=1)
        order = lengths.argsort()  # short texts need not wait for long ones
        parts = []
        for first in range(0, len(order), TEXTS_AT_ONCE):
            part = order[first : first + TEXTS_AT_ONCE]
            width = max(int(lengths[part].max()), 1)
            parts.append(decoder.vectors(words[part, :width], mask[part, :width]))
        vectors = torch.cat(parts)
        return Vectors(torch.empty_like(vectors).index_copy(0, order, vectors), words, mask, place)

    def scores(self, model: DialogModel, joint: Tensor, option: Tensor, there: Tensor) -> Tensor:
        """(rounds, joint_dim), places among the texts (rounds, options) -> (rounds, options)"""
        own = self.place[option]
        if isinstance(model.decoder, Generative):
            return model.decoder.scores(joint, self.words, self.mask, own, there)
        assert self.vectors is not None
        return model.decoder.scores(joint, self.vectors, own, there)
