"""What an experiment in visual question answering may change, and the model that it describes; one flat file sets these."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import nn

from vlkit.picture_tasks import PictureSettings, check_fusion, width
from vlkit.tags import Tagger
from vlkit.tasks.vqa.examples import Format
from vlkit.tasks.vqa.model import ChoiceHead, OpenHead, VQAModel
from vlkit.train import TrainOptions

Blank = Literal["image", "question"]
Head = Literal["choices", "open"]
# arm: the inputs that it finds empty; no_attention sees all of them
ARMS: dict[str, tuple[Blank, ...]] = {
    "question_only": ("image",),
    "answer_only": ("image", "question"),
    "image_only": ("question",),
    "no_attention": (),
}
PLAIN = "product"  # the fusion of the arm without attention: both vectors, element by element


@dataclass(frozen=True, kw_only=True)
class Config(PictureSettings):
    """Train a model that answers questions about pictures."""

    data: Path | None = None
    """folder of the questions: what `vlkit data house-vqa` wrote, Visual7W, VQA v1 and v2, VQA-CP, GQA, easy-VQA (the
    installed package where no folder is given), or CSV and JSON of one's own"""
    task: Literal["vqa"] = "vqa"
    """the task that this file is for"""
    form: Format | None = None
    """whose files they are; found out where it is not given"""
    select_questions: int = 4000
    """so many of its questions, drawn evenly"""

    head: Head | None = None
    """choices: scores each candidate; open: chooses among the commonest answers; choices where every question has some"""
    fusion: str = "stacked"
    """how question and picture meet: concat, product, attention (one look, gated), stacked (several looks), coattention, words
    (looks at each word, as Visual7W's LSTM), visualbert and lxmert (transformers), or module:function of your own"""
    candidates: Literal["apart", "together"] = "apart"
    """apart: each candidate is read by itself; together: behind the question, so that the model looks anew for each"""
    answer_dim: int = 256
    """width in which candidates are compared with that"""
    answers: int = 3000
    """of the head for open answers: so many of the commonest"""
    mirror: float = 0.0
    """share of pictures that are learned from with left and right exchanged, in pixels and in words; of pictures whose questions
    have candidates in words"""
    blank: tuple[Blank, ...] = ()
    """inputs that the model finds empty, in training and ever after: how the arms below are trained"""
    arms: tuple[Literal["question_only", "answer_only", "image_only", "no_attention"], ...] = ()
    """probes that are trained with the same settings in RUN/arms"""

    steps: int = 6000
    """optimizer steps"""
    questions_per_image: int = 8
    """of a picture in one step, drawn anew each time"""
    evaluate_every: int = 1000
    """steps between looks at the questions that choose"""

    COUNTS: ClassVar[tuple[str, ...]] = (
        *PictureSettings.COUNTS,
        *("answer_dim", "answers", "questions_per_image", "select_questions"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fusion(self.fusion)
        if not 0 <= self.mirror <= 1:
            raise ValueError(f"mirror = {self.mirror}, expected a share from 0 to 1")
        if self.mirror and (self.features is not None or self.head == "open"):
            raise ValueError(
                "mirror exchanges left and right in pixels and in candidates; leave it out for features and open answers"
            )
        train_options(self)


def train_options(settings: Config) -> TrainOptions:
    """What the training loop takes of the settings."""
    return settings.train_options("select/accuracy", settings.evaluate_every)


def built_model(
    settings: Config,
    *,
    vocabulary: int,
    answers: int,
    feature_dim: int = 0,
    shape: tuple[int, int] | None = None,
    pointing: bool = False,
) -> VQAModel:
    """The model that the settings describe, untrained.

    vocabulary: of the tokenizer; answers: of the head for open answers, 0 for one that scores candidates; feature_dim, shape:
    of grid features, where these stand in the place of pictures; pointing: whether candidates are parts of the picture.
    """
    text, image = settings.built_text(vocabulary), settings.built_image(feature_dim, shape)
    text_dim, seen_dim = width(text), settings.seen_dim(image)
    met = settings.built_fusion(settings.fusion, text_dim, seen_dim)
    joint_dim = width(met)
    head: ChoiceHead | OpenHead
    if answers:
        head = OpenHead(joint_dim, settings.answer_dim, answers, dropout=settings.dropout)
    else:
        head = ChoiceHead(joint_dim, text_dim, settings.answer_dim, dropout=settings.dropout)
    region = nn.Linear(seen_dim + 4, text_dim) if pointing else None
    tagger = Tagger(seen_dim, vocabulary) if settings.tags else None
    together = settings.candidates == "together"
    return VQAModel(text, image, met, head, places=settings.places, together=together, region=region, tagger=tagger)
