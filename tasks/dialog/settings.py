"""What an experiment in visual dialog may change, and the model that it describes; one flat file sets these."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vlkit.encoders.fusion import FUSIONS, fusion
from vlkit.encoders.image import PLACE_DIM, GridFeatures, image_encoder
from vlkit.encoders.text import TEXT_ENCODERS, text_encoder
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
COUNTS = (
    *("size", "max_words", "max_history", "min_count", "word_dim", "image_dim", "dim", "option_dim", "batch_size"),
    *("select_dialogs", "known_answers"),
)
ATTENDING = ("attention", "stacked", "words")  # fusions in which the kind of attention can be chosen
CAUSAL = ("rnn", "lstm", "gru")  # text encoders whose states know only the words before them
TURNS = 10  # that a transformer sees where no limit is set, as many as VisDial has


@dataclass(frozen=True)
class Config:
    """Train a model that answers questions in a dialog about a picture."""

    data: Path | None = None
    """folder of the dialogs: what `vlkit data house-dialogs` wrote, VisDial v0.9 or v1.0, GuessWhat, or JSON of one's own"""
    task: Literal["dialog"] = "dialog"
    """the task that this file is for"""
    output: Path | None = None
    """the run's folder; runs/<name of the file>-<seed> where it is not given"""
    form: Format | None = None
    """whose files they are; found out where it is not given"""
    images: Path | None = None
    """folder or zip file of the pictures; DATA/images where it is not given"""
    features: Path | None = None
    """grid features in the place of pictures: a folder of .npy files, or an HDF5 file"""
    skip_missing: bool = False
    """leave out, and count, dialogs whose picture is missing or damaged; else they are an error"""
    train_split: str = "train"
    """what the model learns from"""
    select_split: str | None = None
    """what chooses between checkpoints; without any, a tenth of the training pictures, from which it then does not learn"""
    select_dialogs: int = 300
    """so many of its dialogs, drawn evenly"""

    encoder: Literal["lf", "hre", "mn", "transformer"] = "hre"
    """how the past is taken up. lf: as one long text; hre: turn by turn, with attention over turns; mn: as a memory that is
    looked up; transformer: turns, words and patches together"""
    decoder: Literal["discriminative", "generative"] = "discriminative"
    """discriminative: scores given options; generative: says an answer word by word, and ranks options by their likelihood"""
    fusion: str | None = None
    """how question and picture meet: concat, product, attention, stacked, coattention, words, visualbert, lxmert, or
    module:function of your own; stacked where it is not given, visualbert for the transformer"""
    attention: str = "bilinear"
    """of the fusions attention, stacked and words: additive, dot, bilinear, multihead"""
    max_turns: int | None = None
    """so many of the newest turns are remembered, beside the caption; all where it is not given"""
    max_history: int = 400
    """of the past as one text (lf), so many of the newest words"""
    size: int = 64
    """pixels along a side of a picture"""
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    """how a picture becomes a square"""
    image_encoder: str = "nature_cnn"
    """small_cnn, nature_cnn, resnet18, torchvision:NAME, hf:MODEL_OR_FOLDER, or module:function of your own"""
    image_dim: int = 64
    """width of the patches of small_cnn and nature_cnn"""
    image_pretrained: bool = False
    """begin with published weights (torchvision and Hugging Face models)"""
    image_frozen: bool = False
    """keep the image encoder as it is"""
    image_from: Path | None = None
    """run folder, of this task or another, whose image encoder this one begins with"""
    text_encoder: str = "lstm"
    """rnn, lstm, gru, birnn, bilstm, bigru, hf:MODEL_OR_FOLDER, or module:function of your own"""
    word_dim: int = 128
    """width of the word vectors"""
    dim: int = 256
    """width of the texts' states and of what question, past and picture become together"""
    option_dim: int = 256
    """width in which options are compared with that"""
    max_words: int = 30
    """a question, an answer and a turn are cut behind so many"""
    min_count: int = 1
    """words that occur less often in training are unknown"""
    known_answers: int = 500
    """so many of the commonest answers are kept with the run, for talks without options"""
    dropout: float = 0.1
    """share of hidden values dropped in training"""
    word_dropout: float = 0.0
    """share of words read as unknown in training"""
    places: bool = True
    """tell each patch where in the picture it is"""

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
    batch_size: int = 32
    """dialogs a step, each with all its rounds"""
    learning_rate: float = 1e-3
    """at its highest"""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """of the learning rate"""
    warmup_steps: int = 100
    """in which it rises"""
    weight_decay: float = 1e-4
    """of AdamW"""
    clip_norm: float = 5.0
    """largest norm of the gradient"""
    accumulate: int = 1
    """parts into which a batch is split to save memory"""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """mixed precision"""
    evaluate_every: int = 500
    """steps between looks at the dialogs that choose"""
    patience: int | None = None
    """looks without a better value until training ends"""
    seed: int = 0
    """of weights, order and every draw"""
    device: Literal["cpu", "cuda", "mps"] | None = None
    """where to train; the GPU where there is one"""
    threads: int | None = None
    """CPU threads; all cores where it is not given"""
    processes: int = 1
    """CPU processes that learn side by side, each from its share of the batch; GPUs are for torchrun or accelerate"""

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        for name in ("dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected a share from 0 up to, not including, 1")
        for name in ("threads", "max_turns"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        if self.train_split == self.select_split:
            raise ValueError(f"train_split and select_split are both {self.train_split!r}; select on other dialogs")
        if self.batch_size % (self.accumulate * self.processes):
            raise ValueError(
                f"batch_size = {self.batch_size} does not divide into accumulate = {self.accumulate} parts for each of "
                f"processes = {self.processes}; take a multiple of {self.accumulate * self.processes}"
            )
        if self.features is not None and (self.image_pretrained or self.image_from or self.images):
            raise ValueError(
                "features stand in the place of pictures and their encoder; leave out images, image_pretrained, image_from"
            )
        if self.targets == "dense" and self.decoder == "generative":
            raise ValueError("targets = dense weighs given options; take the discriminative decoder for it")
        if self.fusion is not None and self.fusion not in FUSIONS and ":" not in self.fusion:
            raise ValueError(f"fusion = {self.fusion!r}, expected one of {', '.join(FUSIONS)}, or module:function")
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
    own = {field.name for field in dataclasses.fields(Config)}
    shared = [field.name for field in dataclasses.fields(TrainOptions) if field.name in own]
    return TrainOptions(
        **{name: getattr(settings, name) for name in shared},
        optimizer="adamw",
        monitor="select/mrr",
        save_every=settings.evaluate_every,
    )


def built_model(
    settings: Config, *, vocabulary: int, feature_dim: int = 0, shape: tuple[int, int] | None = None
) -> DialogModel:
    """The model that the settings describe, untrained.

    vocabulary: of the tokenizer; feature_dim, shape: of grid features, where these stand in the place of pictures.
    """

    def text() -> nn.Module:
        options: dict[str, Any] = {}
        if settings.text_encoder in TEXT_ENCODERS:
            options = {"word_dim": settings.word_dim, "dim": settings.dim, "dropout": settings.dropout}
            options["word_dropout"] = settings.word_dropout
        return text_encoder(settings.text_encoder, vocabulary, **options)

    image: nn.Module
    if shape is not None:
        image = GridFeatures(feature_dim, shape)
    else:
        image_options: dict[str, Any] = {}
        if settings.image_encoder in ("small_cnn", "nature_cnn"):
            image_options = {"dim": settings.image_dim}
        elif settings.image_pretrained:
            image_options = {"pretrained": True}
        image = image_encoder(settings.image_encoder, frozen=settings.image_frozen, **image_options)
    asking, told = text(), text()
    text_dim = int(getattr(asking, "dim"))  # noqa: B009 - nn.Module has it by contract, not by type
    image_dim = int(getattr(image, "dim")) + (PLACE_DIM if settings.places else 0)  # noqa: B009
    options: dict[str, Any] = {"attention": settings.attention} if settings.meets_by in ATTENDING else {}
    met = fusion(settings.meets_by, text_dim, image_dim, settings.dim, dropout=settings.dropout, **options)
    joint_dim = int(getattr(met, "dim"))  # noqa: B009
    encoder: nn.Module
    if settings.encoder == "lf":
        encoder = LateFusion(text_dim, met, settings.dropout)
    elif settings.encoder == "hre":
        encoder = HierarchicalRecurrent(text_dim, met, settings.dropout)
    elif settings.encoder == "mn":
        encoder = MemoryNetwork(text_dim, image_dim, met, settings.dropout)
    else:
        encoder = TurnTransformer(text_dim, met, slots=1 + (settings.remembered or TURNS))
    decoder: Discriminative | Generative
    if settings.decoder == "discriminative":
        decoder = Discriminative(joint_dim, text(), settings.option_dim)
    else:
        decoder = Generative(joint_dim, vocabulary, settings.word_dim, settings.dim, settings.dropout)
    causal = settings.text_encoder in CAUSAL
    return DialogModel(asking, told, image, encoder, decoder, places=settings.places, causal=causal)
