"""Training a model that answers: questions come picture by picture, so that each picture is seen once for all of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlkit import config
from vlkit.batches import Batches, moved, seed_everything
from vlkit.encoders.text import made_tokenizer
from vlkit.errors import UserError
from vlkit.evaluation import begin_image_encoder
from vlkit.image_sets import ImageSet, features, missing, pixels
from vlkit.images import fitted_box
from vlkit.processes import every_core, join, side_by_side
from vlkit.tags import known_words, tag_loss, tagged, words_of
from vlkit.tasks.vqa.examples import (
    Example,
    Examples,
    chosen,
    common_answers,
    common_choices,
    read_examples,
    set_aside,
    soft_score,
)
from vlkit.tasks.vqa.metrics import normalised
from vlkit.tasks.vqa.model import Answered, Batch, VQAModel
from vlkit.tasks.vqa.settings import ARMS, PLAIN, Config, built_model, train_options
from vlkit.text import Tokenizer, mirrored_words
from vlkit.train import FitResult, Step, chosen_device, fit

# These may differ when a run goes on: none of them changes what it learns. Questions and pictures must be the same ones.
FREE = ("data", "images", "features", "output", "threads", "arms", "skip_missing")
QUESTIONS_AT_ONCE = 512  # in judging
KNOWN_CHOICES = 200  # kept with a run, for questions that come without


@dataclass(eq=False)
class Answerable:
    """Questions of a split with their pictures, as tensors."""

    source: Examples
    images: ImageSet
    tokenizer: Tokenizer
    max_words: int
    vocabulary: tuple[str, ...]  # common answers, of the head for open ones; none for candidates
    left_out: int = 0  # questions whose picture is missing
    fit: str = "stretch"  # how pictures became squares

    @property
    def examples(self) -> tuple[Example, ...]:
        """The questions."""
        return self.source.examples

    @cached_property
    def words(self) -> list[list[int]]:
        """Of each question, as ids."""
        return self.tokenizer.encode_batch([example.text for example in self.examples])

    @cached_property
    def texts(self) -> dict[str, int]:
        """Every candidate's text, with its number."""
        return {text: i for i, text in enumerate(dict.fromkeys(c for each in self.examples for c in each.choices))}

    @cached_property
    def text_words(self) -> list[list[int]]:
        """Of each candidate's text, as ids."""
        return self.tokenizer.encode_batch(list(self.texts))

    @cached_property
    def exchanged(self) -> dict[int, int]:
        """Words that are others in a mirror."""
        return {i: other for i, other in enumerate(mirrored_words(self.tokenizer.words).tolist()) if i != other}

    @cached_property
    def sided(self) -> set[int]:
        """Candidates with such words."""
        return {i for i, words in enumerate(self.text_words) if any(word in self.exchanged for word in words)}

    def turned(self, words: list[int], mirrored: bool) -> list[int]:
        """Words of a text, about the picture or about its mirror image."""
        return [self.exchanged.get(word, word) for word in words] if mirrored else words

    @cached_property
    def image_rows(self) -> np.ndarray:
        """(questions,) the place of each one's picture"""
        rows = self.images.rows
        return np.array([rows[example.image] for example in self.examples], np.int64)

    @cached_property
    def of_image(self) -> list[np.ndarray]:
        """For each picture that something is asked about, its questions that can be learned from."""
        told = np.array([i for i, example in enumerate(self.examples) if example.told], np.int64)
        if not len(told):
            return []
        order = told[np.argsort(self.image_rows[told], kind="stable")]
        return np.split(order, np.nonzero(np.diff(self.image_rows[order]))[0] + 1)

    @cached_property
    def answer_words(self) -> Tensor:
        """(vocabulary,) bool: words that occur in an answer or a candidate; where these are boxes, in a question"""
        texts = [
            text for each in self.examples for text in ([each.text] if each.boxes else (*each.choices, *each.answers))
        ]
        return known_words(self.tokenizer, texts)

    @cached_property
    def said(self) -> list[Tensor]:
        """Of each picture the words that its right answers and its questions say of it."""
        said: list[set[int]] = [set() for _ in self.images.names]
        told = [i for i, example in enumerate(self.examples) if example.told]
        texts = ["" if self.examples[i].boxes else self.examples[i].said for i in told]
        for i, text, right in zip(told, texts, self.tokenizer.encode_batch(texts), strict=True):
            said[self.image_rows[i]].update(words_of(self.words[i], right, text))
        return [torch.tensor(sorted(each), dtype=torch.int64) for each in said]

    @cached_property
    def said_mirrored(self) -> list[Tensor]:
        """The same of their mirror images."""
        return [torch.tensor(self.turned(each.tolist(), mirrored=True), dtype=torch.int64) for each in self.said]

    @cached_property
    def soft(self) -> list[list[tuple[int, float]]]:
        """For each question the common answers that are right, with how right they are."""
        places = {answer: i for i, answer in enumerate(self.vocabulary)}
        found = []
        for example in self.examples:
            said = [normalised(answer) for answer in example.answers]
            counts = {answer: said.count(answer) for answer in dict.fromkeys(said) if answer in places}
            found.append([(places[answer], soft_score(count, len(said))) for answer, count in counts.items()])
        return found

    def batch(
        self,
        questions: np.ndarray,
        blank: tuple[str, ...] = (),
        image_of: np.ndarray | None = None,
        tags: bool = False,
        mirror: float = 0.0,
    ) -> Batch:
        """Some questions, each picture once.

        blank: inputs that are empty; image_of (all questions,): the place of another picture for each, in its own one's stead;
        tags: with the words that are said of each picture; mirror: share of pictures with left and right exchanged.
        """
        rows = (self.image_rows if image_of is None else image_of)[questions]
        said = None
        mirrored = np.zeros(len(questions), bool)
        if "image" in blank:  # one black picture stands for all
            shown = torch.zeros_like(self.images.read(rows[:1]))
            image = torch.zeros(len(questions), dtype=torch.int64)
        else:
            own, places = np.unique(rows, return_inverse=True)
            shown, image = self.images.read(own), torch.from_numpy(places)
            turned = torch.rand(len(own)) < mirror if mirror else torch.zeros(len(own), dtype=torch.bool)
            if turned.any():
                shown = torch.where(turned[:, None, None, None], shown.flip(2), shown)
                mirrored = turned[image].numpy()
            if tags:
                told = [(self.said_mirrored if turn else self.said)[row] for row, turn in zip(own, turned, strict=True)]
                said = tagged(told, self.answer_words)
        unknown = [[self.tokenizer.unknown]] * len(questions)
        asked = unknown
        if "question" not in blank:
            asked = [self.turned(self.words[i], turn) for i, turn in zip(questions, mirrored, strict=True)]
        words, mask = self.tokenizer.pad_batch(asked, self.max_words)
        given = [
            [(self.texts[text], bool(turn) and self.texts[text] in self.sided) for text in self.examples[i].choices]
            for i, turn in zip(questions, mirrored, strict=True)
        ]
        every = sorted({text for each in given for text in each}) if not self.vocabulary else []
        place = {text: i for i, text in enumerate(every)}
        read = [self.turned(self.text_words[i], turn) for i, turn in every]
        choices, choices_mask = self.tokenizer.pad_batch(read or [[]], self.max_words)
        most = max((len(each) for each in given), default=0) if every else 0
        choice = torch.zeros(len(questions), most, dtype=torch.int64)
        there = torch.zeros(len(questions), most, dtype=torch.bool)
        for row, each in enumerate(given if every else []):
            choice[row, : len(each)] = torch.tensor([place[text] for text in each])
            there[row, : len(each)] = True
        right = [self.examples[i].right for i in questions]
        targets = torch.zeros(len(questions), len(self.vocabulary))
        if self.vocabulary:
            for row, i in enumerate(questions):
                for answer, score in self.soft[i]:
                    targets[row, answer] = score
        return Batch(
            images=shown,
            image=image,
            words=words,
            mask=mask,
            choices=choices,
            choices_mask=choices_mask,
            choice=choice,
            there=there,
            right=torch.tensor([-1 if each is None else each for each in right]),
            targets=targets,
            said=said,
            boxes=self.boxes_of(questions, most) if self.source.pointing and every else None,
        )

    def boxes_of(self, questions: np.ndarray, most: int) -> Tensor:
        """(questions, most, 4): the parts of the picture that each one's candidates are, as shares of it"""
        assert self.images.sizes is not None
        boxes = torch.zeros(len(questions), most, 4)
        for row, i in enumerate(questions):
            width, height = self.images.sizes[self.image_rows[i]].tolist()
            own = [fitted_box(box, width, height, self.fit) for box in self.examples[i].boxes]
            boxes[row, : len(own)] = torch.tensor(own)
        return boxes


def answerable(
    settings: Config,
    examples: Examples,
    tokenizer: Tokenizer,
    vocabulary: tuple[str, ...],
    images: Path | None = None,
) -> Answerable:
    """A split with its pictures. UserError where some are missing, unless they are to be skipped."""
    names = [example.image for example in examples.examples]
    if settings.features is not None:
        source = settings.features
        found = features(source, names)
    else:
        source = images or settings.images or examples.images
        found = pixels(source, names, size=settings.size, fit=settings.fit)
    if not settings.skip_missing:
        missing(found, source, "skip_missing")
    kept = [i for i, example in enumerate(examples.examples) if example.image not in found.troubles]
    left_out = len(examples.examples) - len(kept)
    if not kept:
        raise UserError(f"none of the {len(found.troubles)} pictures of {examples.name} can be read from {source}")
    if left_out:
        asked = tuple(examples.asked[i] for i in kept) if examples.asked else ()
        examples = replace(examples, examples=tuple(examples.examples[i] for i in kept), asked=asked)
    if examples.pointing and found.sizes is None:
        raise UserError(
            f"the candidates of {examples.name} are boxes in pixels of the pictures, whose sizes features do not tell; leave out "
            "features and name the pictures"
        )
    return Answerable(examples, found, tokenizer, settings.max_words, vocabulary, left_out, settings.fit)


def splits(settings: Config) -> tuple[Examples, Examples]:
    """The questions to learn from, and those to choose checkpoints on."""
    train = read_examples(settings.data, settings.form, settings.train_split)
    if settings.select_split is None:
        return set_aside(train, aside=False), set_aside(train, aside=True)
    return train, read_examples(settings.data, settings.form, settings.select_split)


def some(examples: Examples, count: int) -> Examples:
    """So many questions that can be scored, drawn evenly and the same ones each time; all where there are no more."""
    told = [i for i, example in enumerate(examples.examples) if example.told]
    if not told:
        raise UserError(
            f"{examples.name} tells no answers, so no checkpoint can be chosen on it; name another select_split"
        )
    order = torch.randperm(len(told), generator=torch.Generator().manual_seed(0))[:count].sort().values.tolist()
    kept = [told[i] for i in order]
    asked = tuple(examples.asked[i] for i in kept) if examples.asked else ()
    return replace(examples, examples=tuple(examples.examples[i] for i in kept), asked=asked)


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
    select = some(select, settings.select_questions)
    head = settings.head or ("choices" if train.multiple_choice and select.multiple_choice else "open")
    if head == "choices" and not (train.multiple_choice and select.multiple_choice):
        raise UserError(
            f"head is choices, but not every question of {train.name} and {select.name} has some; set head to open"
        )
    settings = replace(settings, head=head)
    vocabulary = common_answers(train.examples, settings.answers) if head == "open" else ()
    # Open answers are ranked, not read; tags learn their words all the same.
    answers = [text for each in train.examples for text in each.answers] if head == "open" and settings.tags else []
    texts = [text for each in train.examples for text in (each.text, *(() if each.boxes else each.choices))] + answers
    tokenizer = made_tokenizer(settings.text_encoder, texts, settings.min_count)
    if settings.mirror and (head == "open" or train.pointing):
        raise UserError(
            f"mirror exchanges left and right in candidates, and those of {train.name} are no words; set mirror to 0"
        )
    sides = {"left", "right"} & set(tokenizer.words)
    if settings.mirror and len(sides) == 1:
        raise UserError(
            f"mirror exchanges left and right, and of the two words {train.name} has {sides.pop()} alone; set mirror to 0"
        )
    worlds = [answerable(settings, each, tokenizer, vocabulary) for each in (train, select)]
    result = training(settings, folder, *worlds)
    for arm in settings.arms:
        fusion = PLAIN if arm == "no_attention" else settings.fusion
        tags = 0.0 if "image" in ARMS[arm] else settings.tags
        blank = tuple(dict.fromkeys((*settings.blank, *ARMS[arm])))
        blind = replace(settings, blank=blank, fusion=fusion, tags=tags, arms=(), output=folder / "arms" / arm)
        training(blind, folder / "arms" / arm, *worlds)
    return result


def training(settings: Config, folder: Path, train: Answerable, select: Answerable) -> FitResult:
    """Trains one model into `folder`, or continues there."""
    seed_everything(settings.seed)
    pictures = train.images
    built: dict[str, Any] = {
        "vocabulary": train.tokenizer.size,
        "answers": len(train.vocabulary),
        "feature_dim": 0 if pictures.shape is None else pictures.values.shape[2],
        "shape": pictures.shape,
        "pointing": train.source.pointing and not train.vocabulary,
    }
    model = built_model(settings, **built)
    if settings.image_from is not None:
        begin_image_encoder(model.image, settings.image_from)
    pictures_asked = train.of_image
    if not pictures_asked:
        raise UserError(
            f"{train.source.name} tells no answers, so nothing can be learned from it; name another train_split"
        )

    def collate(places: list[int]) -> Batch:
        asked = []
        for place in places:
            own = pictures_asked[place]
            if len(own) > settings.questions_per_image:
                own = own[torch.randperm(len(own))[: settings.questions_per_image].numpy()]
            asked.append(own)
        return train.batch(np.concatenate(asked), settings.blank, tags=settings.tags > 0, mirror=settings.mirror)

    batches = Batches(len(pictures_asked), settings.batch_size, collate, name=lambda i: f"picture {pictures.names[i]}")
    values = config.as_dict(settings) | {
        "answer_list": list(train.vocabulary),
        "choice_list": common_choices(train.examples, KNOWN_CHOICES)
        if not (train.vocabulary or built["pointing"])
        else [],
        "feature_dim": built["feature_dim"],
        "feature_shape": list(pictures.shape or ()),
        "pointing": built["pointing"],
    }
    return fit(
        model,
        partial(answer_loss, tags=settings.tags),
        batches,
        options=train_options(settings),
        folder=folder,
        config=values,
        may_change=FREE,
        files={"tokenizer.json": train.tokenizer.to_json()},
        accepted=lambda: config.save(settings, folder / "config.toml"),
        evaluate=lambda model, step: {"select/accuracy": float(selection(model, settings, select))},
    )


def answer_loss(
    model: VQAModel, batch: Batch, step: Step, tags: float = 0.0
) -> tuple[Tensor, Mapping[str, float | Tensor]]:
    """Cross-entropy over candidates; over common answers, binary cross-entropy with how right each is (Teney et al. 2018).

    tags: weight of the words that are said of a picture, as binary cross-entropy of each.
    """
    batch = moved(batch, step.device)
    answered: Answered = model(batch)
    scores = answered.scores
    logged: dict[str, float | Tensor] = {"questions": float(len(batch.right)), "pictures": float(len(batch.images))}
    if batch.targets.shape[1]:
        loss = F.binary_cross_entropy_with_logits(scores, batch.targets, reduction="none").sum(dim=1).mean()
        right = batch.targets.gather(1, scores.detach().argmax(dim=1, keepdim=True)).mean()
    else:
        known = batch.right >= 0
        loss = F.cross_entropy(scores[known], batch.right[known])
        right = (scores.detach()[known].argmax(dim=1) == batch.right[known]).float().mean()
    if answered.said is not None and batch.said is not None:
        unlike = tag_loss(answered.said, batch.said)
        logged["tag_loss"] = unlike.detach()
        loss = loss + tags * unlike
    return loss, logged | {"accuracy": right}


def selection(model: VQAModel, settings: Config, select: Answerable) -> float:
    """Mean accuracy on the questions that choose."""
    with every_core():
        scores = scored(model, select, settings.blank)
    if select.vocabulary:
        rights = [dict(each) for each in select.soft]
        return float(np.mean([right.get(int(each.argmax()), 0.0) for right, each in zip(rights, scores, strict=True)]))
    rows = zip(select.examples, scores, strict=True)
    return float(np.mean([float(chosen(example, each) == example.right) for example, each in rows]))


@torch.inference_mode()
def scored(
    model: VQAModel,
    asked: Answerable,
    blank: tuple[str, ...] = (),
    *,
    image_of: np.ndarray | None = None,
    watch: Any = None,
) -> list[np.ndarray]:
    """The scores of each question's candidates, or of the common answers; evaluation mode is the caller's."""
    device = next(model.parameters()).device
    order = np.argsort((asked.image_rows if image_of is None else image_of), kind="stable")  # each picture is seen once
    found: list[np.ndarray] = [np.zeros(0)] * len(order)
    for part in np.split(order, range(QUESTIONS_AT_ONCE, len(order), QUESTIONS_AT_ONCE)):
        answered: Answered = model(moved(asked.batch(part, blank, image_of), device))
        for i, row in zip(part, answered.scores.float().cpu().numpy(), strict=True):
            found[i] = row if asked.vocabulary else row[: len(asked.examples[i].choices)]
        if watch is not None:
            watch(len(part))
    return found
