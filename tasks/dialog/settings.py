"""What an experiment in visual dialog may change, and the model that it describes; one flat file sets these."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from torch import nn

from vlkit.picture_tasks import PictureSettings, check_fusion, width
from vlkit.tags import Tagger
from vlkit.tasks.dialog.data import Format
from vlkit.tasks.dialog.model import (
    DialogModel,
    Discriminative,
    Generative,
    HierarchicalRecurrent,
    LateFusion,
    MemoryNetwork,
    TurnTransformer,
)
from vlkit.train import TrainOptions

Blank = Literal["image", "question", "caption", "turns"]
ARMS: dict[str, tuple[Blank, ...]] = {  # arm: the inputs that it finds empty
    "no_image": ("image",),
    "no_history": ("caption", "turns"),
    "question_only": ("image", "caption", "turns"),
    "caption_only": ("turns",),
}
CAUSAL = ("rnn", "lstm", "gru")  # text encoders whose states know only the words before them
# Fusions that read what an encoder makes of question and past: one vector, or turns and words side by side.
OF_VECTORS = ("concat", "product", "attention", "stacked", "visualbert", "lxmert")
OF_TURNS = ("coattention", "visualbert", "lxmert")
HEADS = 4  # of the transformers
TURNS = 10  # that a transformer sees where no limit is set, as many as VisDial has


@dataclass(frozen=True, kw_only=True)
class Config(PictureSettings):
    """Train a model that answers questions in a dialog about a picture."""

    data: Path | None = None
    """folder of the dialogs: what `vlkit data house-dialogs` wrote, VisDial v0.9 or v1.0, GuessWhat, or JSON of one's own"""
    task: Literal["dialog"] = "dialog"
    """the task that this file is for"""
    form: Format | None = None
    """whose files they are; found out where it is not given"""
    select_dialogs: int = 300
    """so many of its dialogs, drawn evenly"""

    encoder: Literal["lf", "hre", "mn", "transformer"] = "hre"
    """how the past is taken up. lf: as one long text; hre: turn by turn, with attention over turns; mn: as a memory that is
    looked up; transformer: turns, words and patches together"""
    decoder: Literal["discriminative", "generative"] = "discriminative"
    """discriminative: scores given options; generative: says an answer word by word, and ranks options by their likelihood"""
    fusion: str | None = None
    """how question and picture meet: concat, product, attention, stacked, visualbert, lxmert, or module:function of your own;
    for the transformer coattention, visualbert or lxmert. stacked where it is not given, visualbert for the transformer"""
    max_turns: int | None = None
    """so many of the newest turns are remembered, beside the caption; all where it is not given"""
    max_history: int = 400
    """of the past as one text (lf), so many of the newest words"""
    option_dim: int = 256
    """width in which options are compared with that"""
    known_answers: int = 500
    """so many of the commonest answers are kept with the run, for talks without options"""
    targets: Literal["right", "dense"] = "right"
    """right: the option that was the answer; dense: how right each is, of the rounds where people said so (VisDial's dense
    annotations), to finetune a run"""
    begin_with: Path | None = None
    """run folder whose weights this one begins with"""
    blank: tuple[Blank, ...] = ()
    """inputs that the model finds empty, in training and ever after: how the arms below are trained"""
    arms: tuple[Literal["no_image", "no_history", "question_only", "caption_only"], ...] = ()
    """probes that are trained with the same settings in RUN/arms"""

    steps: int = 4000
    """optimizer steps"""
    evaluate_every: int = 500
    """steps between looks at the dialogs that choose"""

    COUNTS: ClassVar[tuple[str, ...]] = (
        *PictureSettings.COUNTS,
        *("max_history", "max_turns", "option_dim", "select_dialogs", "known_answers"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets == "dense" and self.decoder == "generative":
            raise ValueError("targets = dense weighs given options; take the discriminative decoder for it")
        check_fusion(self.meets_by)
        fitting = OF_TURNS if self.encoder == "transformer" else OF_VECTORS
        if ":" not in self.meets_by and self.meets_by not in fitting:
            raise ValueError(
                f"fusion = {self.meets_by} would not see what the encoder {self.encoder} makes of the past; take one of "
                f"{', '.join(fitting)}"
            )
        if self.meets_by in ("visualbert", "lxmert") and self.dim % HEADS:
            raise ValueError(
                f"dim = {self.dim} does not divide into the {HEADS} heads of {self.meets_by}; take a multiple"
            )
        train_options(self)

    @property
    def remembered(self) -> int | None:
        """So many turns are remembered; None for all."""
        return TURNS if self.max_turns is None and self.encoder == "transformer" else self.max_turns

    @property
    def meets_by(self) -> str:
        """The fusion."""
        return self.fusion or ("visualbert" if self.encoder == "transformer" else "stacked")


def train_options(settings: Config) -> TrainOptions:
    """What the training loop takes of the settings."""
    return settings.train_options("select/mrr", settings.evaluate_every)


def built_model(
    settings: Config, *, vocabulary: int, feature_dim: int = 0, shape: tuple[int, int] | None = None
) -> DialogModel:
    """The model that the settings describe, untrained.

    vocabulary: of the tokenizer; feature_dim, shape: of grid features, where these stand in the place of pictures.
    """
    image = settings.built_image(feature_dim, shape)
    asking, told = settings.built_text(vocabulary), settings.built_text(vocabulary)
    text_dim, image_dim = width(asking), settings.seen_dim(image)
    met = settings.built_fusion(settings.meets_by, text_dim, image_dim)
    joint_dim = width(met)
    encoder: nn.Module
    if settings.encoder == "lf":
        encoder = LateFusion(text_dim, met, settings.dropout)
    elif settings.encoder == "hre":
        encoder = HierarchicalRecurrent(text_dim, met, settings.dropout)
    elif settings.encoder == "mn":
        encoder = MemoryNetwork(text_dim, image_dim, met, settings.dropout)
    else:
        encoder = TurnTransformer(text_dim, met, slots=1 + (settings.remembered or TURNS))
    tagger = Tagger(image_dim, vocabulary) if settings.tags else None
    decoder: Discriminative | Generative
    if settings.decoder == "discriminative":
        decoder = Discriminative(joint_dim, settings.built_text(vocabulary), settings.option_dim, tagger)
    else:
        decoder = Generative(joint_dim, vocabulary, settings.word_dim, settings.dim, settings.dropout, tagger)
    causal = settings.text_encoder in CAUSAL
    return DialogModel(asking, told, image, encoder, decoder, places=settings.places, causal=causal)
