"""What an experiment in visual question answering may change, and the model that it describes; one flat file sets these."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vlkit.encoders.fusion import FUSIONS, fusion
from vlkit.encoders.image import PLACE_DIM, GridFeatures, image_encoder
from vlkit.encoders.text import TEXT_ENCODERS, text_encoder
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
COUNTS = (
    *("size", "max_words", "min_count", "word_dim", "image_dim", "dim", "answer_dim", "answers", "batch_size"),
    *("questions_per_image", "select_questions"),
)
ATTENDING = ("attention", "stacked", "words")  # fusions in which the kind of attention can be chosen
PLAIN = "product"  # the fusion of the arm without attention: both vectors, element by element


@dataclass(frozen=True)
class Config:
    """Train a model that answers questions about pictures."""

    data: Path | None = None
    """folder of the questions: what `vlkit data house-vqa` wrote, Visual7W, VQA v1 and v2, VQA-CP, GQA, easy-VQA (the
    installed package where no folder is given), or CSV and JSON of one's own"""
    task: Literal["vqa"] = "vqa"
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
    """leave out, and count, questions whose picture is missing or damaged; else they are an error"""
    train_split: str = "train"
    """what the model learns from"""
    select_split: str | None = None
    """what chooses between checkpoints; without any, a tenth of the training pictures, from which it then does not learn"""
    select_questions: int = 4000
    """so many of its questions, drawn evenly"""

    head: Head | None = None
    """choices: scores each candidate; open: chooses among the commonest answers; choices where every question has some"""
    fusion: str = "stacked"
    """how question and picture meet: concat, product, attention (one look, gated), stacked (several looks), coattention, words
    (looks at each word, as Visual7W's LSTM), visualbert and lxmert (transformers), or module:function of your own"""
    attention: str = "bilinear"
    """of the fusions attention, stacked and words: additive (as published, and several times as slow), dot, bilinear, multihead"""
    candidates: Literal["apart", "together"] = "apart"
    """apart: each candidate is read by itself; together: behind the question, so that the model looks anew for each"""
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
    """width of the question's states and of what question and picture become together"""
    answer_dim: int = 256
    """width in which candidates are compared with that"""
    max_words: int = 30
    """a question is cut behind so many, and so is an answer"""
    min_count: int = 1
    """words that occur less often in training are unknown"""
    answers: int = 3000
    """of the head for open answers: so many of the commonest"""
    dropout: float = 0.1
    """share of hidden values dropped in training"""
    word_dropout: float = 0.0
    """share of words read as unknown in training"""
    places: bool = True
    """tell each patch where in the picture it is"""

    blank: tuple[Blank, ...] = ()
    """inputs that the model finds empty, in training and ever after: how the arms below are trained"""
    arms: tuple[Literal["question_only", "answer_only", "image_only", "no_attention"], ...] = ()
    """probes that are trained with the same settings in RUN/arms"""

    steps: int = 6000
    """optimizer steps"""
    batch_size: int = 32
    """pictures a step, each with its questions"""
    questions_per_image: int = 8
    """of a picture in one step, drawn anew each time"""
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
    evaluate_every: int = 1000
    """steps between looks at the questions that choose"""
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
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads = {self.threads}, expected at least 1")
        if self.train_split == self.select_split:
            raise ValueError(f"train_split and select_split are both {self.train_split!r}; select on other questions")
        if self.batch_size % (self.accumulate * self.processes):
            raise ValueError(
                f"batch_size = {self.batch_size} does not divide into accumulate = {self.accumulate} parts for each of "
                f"processes = {self.processes}; take a multiple of {self.accumulate * self.processes}"
            )
        if self.features is not None and (self.image_pretrained or self.image_from or self.images):
            raise ValueError(
                "features stand in the place of pictures and their encoder; leave out images, image_pretrained, image_from"
            )
        if self.fusion not in FUSIONS and ":" not in self.fusion:
            raise ValueError(f"fusion = {self.fusion!r}, expected one of {', '.join(FUSIONS)}, or module:function")
        train_options(self)


def train_options(settings: Config) -> TrainOptions:
    """What the training loop takes of the settings."""
    own = {field.name for field in dataclasses.fields(Config)}
    shared = [field.name for field in dataclasses.fields(TrainOptions) if field.name in own]
    return TrainOptions(
        **{name: getattr(settings, name) for name in shared},
        optimizer="adamw",
        monitor="select/accuracy",
        save_every=settings.evaluate_every,
    )


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
    text_options: dict[str, Any] = {}
    if settings.text_encoder in TEXT_ENCODERS:
        text_options = {"word_dim": settings.word_dim, "dim": settings.dim, "dropout": settings.dropout}
        text_options["word_dropout"] = settings.word_dropout
    text = text_encoder(settings.text_encoder, vocabulary, **text_options)
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
    text_dim = int(getattr(text, "dim"))  # noqa: B009 - nn.Module has it by contract, not by type
    image_dim = int(getattr(image, "dim"))  # noqa: B009
    seen_dim = image_dim + (PLACE_DIM if settings.places else 0)
    options: dict[str, Any] = {"attention": settings.attention} if settings.fusion in ATTENDING else {}
    met = fusion(settings.fusion, text_dim, seen_dim, settings.dim, dropout=settings.dropout, **options)
    joint_dim = int(getattr(met, "dim"))  # noqa: B009
    head: ChoiceHead | OpenHead
    if answers:
        head = OpenHead(joint_dim, settings.answer_dim, answers, dropout=settings.dropout)
    else:
        head = ChoiceHead(joint_dim, text_dim, settings.answer_dim, dropout=settings.dropout)
    region = nn.Linear(seen_dim + 4, text_dim) if pointing else None
    together = settings.candidates == "together"
    return VQAModel(text, image, met, head, places=settings.places, together=together, region=region)
