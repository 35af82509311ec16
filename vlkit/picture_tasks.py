"""What tasks that say something about pictures share: settings of pictures, texts and the training, and what these build."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro
from torch import nn

from vlkit.encoders.fusion import FUSIONS, fusion
from vlkit.encoders.image import PATCHED, PLACE_DIM, GridFeatures, image_encoder
from vlkit.encoders.text import TEXT_ENCODERS, text_encoder
from vlkit.train import TrainOptions

ATTENDING = ("attention", "stacked", "words")  # fusions in which the kind of attention can be chosen


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """What an experiment with texts about pictures may change, whatever its task."""

    output: Path | None = None
    """the run's folder; runs/<name of the file>-<seed> where it is not given"""
    images: Path | None = None
    """folder or zip file of the pictures; DATA/images where it is not given"""
    features: Path | None = None
    """grid features in the place of pictures: a folder of .npy files, or an HDF5 file"""
    skip_missing: bool = False
    """leave out, and count, what is about a picture that is missing or damaged; else that is an error"""
    train_split: str = "train"
    """what the model learns from"""
    select_split: str | None = None
    """what chooses between checkpoints; without any, a tenth of the training pictures, from which it then does not learn"""

    attention: str = "bilinear"
    """of the fusions attention, stacked and words: additive (as published, and several times as slow), dot, bilinear, multihead"""
    size: int = 64
    """pixels along a side of a picture"""
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    """how a picture becomes a square"""
    image_encoder: str = "nature_cnn"
    """small_cnn, nature_cnn, nature_cnn_bn, resnet18, torchvision:NAME, hf:MODEL_OR_FOLDER, or module:function of your own"""
    image_dim: int = 64
    """width of the patches of small_cnn, nature_cnn and nature_cnn_bn"""
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
    """width of the texts' states and of what text and picture become together"""
    max_words: int = 30
    """a question is cut behind so many, and so is an answer"""
    min_count: int = 1
    """words that occur less often in training are unknown"""
    dropout: float = 0.1
    """share of hidden values dropped in training"""
    word_dropout: float = 0.0
    """share of words read as unknown in training"""
    tags: float = 0.0
    """weight of a second thing to learn: which words questions, answers and captions of training say of a picture, each somewhere
    in it. An image encoder that begins from nothing learns from it what things look like long before questions could teach it"""
    places: bool = True
    """tell each patch where in the picture it is"""

    batch_size: int = 32
    """pictures a step, each with what is asked about it"""
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

    # Numbers that are 1 or more, where they are given at all.
    COUNTS: ClassVar[tuple[str, ...]] = (
        *("size", "max_words", "min_count", "word_dim", "image_dim", "dim", "batch_size", "threads"),
    )

    def __post_init__(self) -> None:
        for name in self.COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}, expected at least 1")
        for name in ("dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected a share from 0 up to, not including, 1")
        if not 0 <= self.tags < float("inf"):
            raise ValueError(f"tags = {self.tags}, expected a weight of 0 or more")
        if self.tags and "image" in getattr(self, "blank", ()):
            raise ValueError("tags are learned from pictures, and blank takes these away; leave one of them out")
        if self.train_split == self.select_split:
            raise ValueError(f"train_split and select_split are both {self.train_split!r}; select on another split")
        if self.batch_size % (self.accumulate * self.processes):
            raise ValueError(
                f"batch_size = {self.batch_size} does not divide into accumulate = {self.accumulate} parts for each of "
                f"processes = {self.processes}; take a multiple of {self.accumulate * self.processes}"
            )
        if self.features is not None and (self.image_pretrained or self.image_from or self.images):
            raise ValueError(
                "features stand in the place of pictures and their encoder; leave out images, image_pretrained, image_from"
            )

    def train_options(self, monitor: str, save_every: int) -> TrainOptions:
        """What the training loop takes of the settings."""
        own = {field.name for field in dataclasses.fields(self)}
        shared = [field.name for field in dataclasses.fields(TrainOptions) if field.name in own]
        values = {name: getattr(self, name) for name in shared}
        return TrainOptions(**values, optimizer="adamw", monitor=monitor, save_every=save_every)

    def built_text(self, vocabulary: int) -> nn.Module:
        """A text encoder, untrained."""
        options: dict[str, Any] = {}
        if self.text_encoder in TEXT_ENCODERS:
            options = {"word_dim": self.word_dim, "dim": self.dim, "dropout": self.dropout}
            options["word_dropout"] = self.word_dropout
        return text_encoder(self.text_encoder, vocabulary, **options)

    def built_image(self, feature_dim: int = 0, shape: tuple[int, int] | None = None) -> nn.Module:
        """The image encoder; what takes its place where there are features, of this width and these rows and columns."""
        if shape is not None:
            return GridFeatures(feature_dim, shape)
        options: dict[str, Any] = {}
        if self.image_encoder in PATCHED:
            options = {"dim": self.image_dim}
        elif self.image_pretrained:
            options = {"pretrained": True}
        return image_encoder(self.image_encoder, frozen=self.image_frozen, **options)

    def seen_dim(self, image: nn.Module) -> int:
        """The width of a patch, with where it is."""
        return width(image) + (PLACE_DIM if self.places else 0)

    def built_fusion(self, name: str, text_dim: int, image_dim: int) -> nn.Module:
        """How text and picture meet."""
        options: dict[str, Any] = {"attention": self.attention} if name in ATTENDING else {}
        return fusion(name, text_dim, image_dim, self.dim, dropout=self.dropout, **options)


def check_fusion(name: str) -> None:
    """ValueError for what is no fusion."""
    if name not in FUSIONS and ":" not in name:
        raise ValueError(f"fusion = {name!r}, expected one of {', '.join(FUSIONS)}, or module:function")


def width(module: nn.Module) -> int:
    """The `dim` that an encoder or a fusion has by contract."""
    return int(getattr(module, "dim"))  # noqa: B009 - by contract, not by type


@dataclass(frozen=True, kw_only=True)
class PictureEvalOptions:
    """What `vlkit eval` can be told of runs that say something about pictures."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders that `vlkit train` wrote; several are seeds of one experiment and give mean and spread"""
    split: str = "test"
    """what is judged"""
    probes: bool = False
    """also judge with something taken away, and the arms that were trained; priors stand beside the score always"""
    data: Path | None = None
    """where the data lies; runs know where they learned"""
    images: Path | None = None
    """folder or zip file of the pictures; runs know theirs"""
    features: Path | None = None
    """grid features, for runs that learned from some"""
    skip_missing: bool = False
    """leave out, and count, what is about a picture that is missing or damaged; else that is an error"""
    output: Path | None = None
    """folder for report and answers; RUN/eval/SPLIT where it is not given"""
    device: Literal["cpu", "cuda", "mps"] | None = None
    """where to run; the GPU where there is one"""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("name at least one run to judge")

    @property
    def folder(self) -> Path:
        """Where results go: beside the first run where no place was given."""
        together = f"-{len(self.runs)}seeds" if len(self.runs) > 1 else ""
        return self.output or self.runs[0] / "eval" / f"{self.split}{together}"
