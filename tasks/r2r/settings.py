"""What an experiment on graphs may change, and what is built from it: one flat file in configs/ sets these."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlkit.encoders.text import TEXT_ENCODERS, text_encoder
from vlkit.envs.graph import World
from vlkit.envs.measures import UNITS
from vlkit.plugins import nearest
from vlkit.tasks.r2r.model import PanoramicAgent, Seq2SeqAgent
from vlkit.text import Tokenizer, read_vectors
from vlkit.train import TrainOptions

COUNTS = (
    *("student_steps", "max_steps", "max_words", "min_count", "spoken_paths", "batch_size", "threads", "text_layers"),
    *("word_dim", "dim", "geometry_dim", "view_dim", "action_dim"),
)
MONITORED = [name for name, unit in UNITS.items() if unit == "fraction"] + ["nav_error", "oracle_error"]


@dataclass(frozen=True)
class Config:
    """Train a navigator on R2R, or on anything in its format."""

    annotations: Path
    """folder with R2R_train.json, R2R_val_seen.json and R2R_val_unseen.json (or R4R, RxR, REVERIE files)"""
    connectivity: Path
    """folder with <scan>_connectivity.json files"""
    task: Literal["r2r"] = "r2r"
    """the task that this file is for"""
    output: Path | None = None
    """the run's folder; runs/<name of the file>-<seed> where it is not given"""
    features: Path | None = None
    """image features (TSV, HDF5 or what `vlkit data features` wrote); without them the agent sees geometry alone"""
    train_split: str = "train"
    """what the agent learns from"""
    select_split: str = "val_seen"
    """what chooses between checkpoints; never the split that is reported"""

    agent: Literal["panoramic", "seq2seq"] = "panoramic"
    """panoramic chooses among viewpoints; seq2seq turns and steps as in 2018"""
    text_encoder: str = "bilstm"
    """rnn, lstm, gru, birnn, bilstm, bigru, hf:MODEL_OR_FOLDER, or module:function of your own"""
    text_layers: int = 1
    """recurrent layers of the text encoder, where it has some"""
    text_cell: str | None = None
    """cell of the `recurrent` text encoder: rnn, lstm, gru, or module:Class of your own"""
    text_frozen: bool = False
    """keep the text encoder as it is (for pretrained ones)"""
    vectors: Path | None = None
    """word vectors to start from (GloVe's text format, word_dim wide)"""
    word_dim: int = 128
    """width of the word vectors"""
    dim: int = 256
    """width of the instruction's states and of the agent's memory"""
    geometry_dim: int = 64
    """width of a candidate's geometry"""
    view_dim: int = 128
    """width of a candidate's view, where there are features"""
    action_dim: int = 32
    """width of the previous action (seq2seq)"""
    dropout: float = 0.3
    """share of hidden values dropped in training"""
    word_dropout: float = 0.15
    """share of words read as unknown in training"""
    environment_dropout: float = 0.0
    """share of image channels that a whole walk lacks in training"""
    max_words: int = 80
    """an instruction is cut behind so many"""
    min_count: int = 3
    """words that occur less often in training are unknown"""
    max_steps: int | None = None
    """actions until a walk is cut; 15 panoramic, 20 seq2seq"""

    teacher_forcing: float = 1.0
    """weight of the loss on walks that follow the demonstration"""
    student_forcing: float = 0.3
    """weight of the loss on the agent's own walks, against the shortest path from wherever it is"""
    student_steps: int = 10
    """actions until a training walk is cut; demonstrations are walked to their end"""
    oracle: Literal["goal", "reference"] = "goal"
    """what is imitated: the shortest path to the goal (R2R), or the annotated path (R4R and RxR, which wander)"""
    reinforce_from: float = 0.4
    """part of training after which own walks learn from the reward (A2C) and no longer from the shortest path; 1: never"""
    reinforce_teacher_forcing: float = 0.3
    """weight of the demonstrations from then on"""
    entropy: float = 0.01
    """weight of the entropy bonus of A2C"""
    progress: float = 0.0
    """weight of the progress monitor's loss"""
    mirror: float = 0.5
    """share of walks with left and right exchanged, in space and in words; only without image features"""
    speaker_steps: int = 0
    """training steps of a speaker that describes new routes in the training buildings; 0: none"""
    spoken_paths: int = 40000
    """how many routes it describes"""
    spoken_share: float = 0.5
    """share of batches made of these, falling to zero at the end"""
    instruction: Literal["given", "none"] = "given"
    """none trains the arm that never reads"""
    arms: tuple[Literal["no_instruction"], ...] = ()
    """probes that are trained with the same settings in RUN/arms"""

    steps: int = 6000
    """optimizer steps"""
    batch_size: int = 64
    """episodes a step"""
    learning_rate: float = 1e-3
    """at its highest"""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """of the learning rate"""
    warmup_steps: int = 100
    """in which it rises"""
    weight_decay: float = 0.0
    """of AdamW"""
    clip_norm: float = 5.0
    """largest norm of the gradient"""
    accumulate: int = 1
    """parts into which a batch is split to save memory"""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """mixed precision"""
    evaluate_every: int = 1000
    """steps between looks at the selection split"""
    monitor: str = "val_seen/spl"
    """what the best checkpoint has most of"""
    patience: int | None = None
    """looks without a better value until training ends"""
    seed: int = 0
    """of weights, order and every draw"""
    device: Literal["cpu", "cuda"] | None = None
    """where to train; the GPU where there is one"""
    threads: int | None = None
    """CPU threads; 1 lets two runs share two cores"""

    def __post_init__(self) -> None:
        for name in ("mirror", "spoken_share", "reinforce_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected a share from 0 to 1")
        for name in ("dropout", "word_dropout", "environment_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected a share from 0 up to, not including, 1")
        for name in ("teacher_forcing", "student_forcing", "reinforce_teacher_forcing", "entropy", "progress"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}, expected a weight of 0 or more")
        if self.teacher_forcing == self.student_forcing == 0 and self.reinforce_from > 0:
            raise ValueError("teacher_forcing and student_forcing are both 0: nothing is left to learn from")
        for name in COUNTS:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        if self.speaker_steps < 0:
            raise ValueError(f"speaker_steps = {self.speaker_steps}, expected 0 (no speaker) or more")
        if self.monitor not in (monitors := [f"{self.select_split}/{metric}" for metric in MONITORED]):
            raise ValueError(f"monitor = {self.monitor!r}.{nearest(self.monitor, monitors)}")
        if self.train_split == self.select_split:
            raise ValueError(f"train_split and select_split are both {self.train_split!r}; select on other episodes")
        if self.text_cell is not None and self.text_encoder != "recurrent":
            raise ValueError(
                f"text_cell = {self.text_cell!r} is for text_encoder = 'recurrent', not {self.text_encoder!r}"
            )
        if self.vectors is not None and self.text_encoder not in TEXT_ENCODERS:
            raise ValueError(
                f"vectors are for vlkit's own text encoders; {self.text_encoder!r} brings its words itself"
            )
        train_options(self)


def built_agent(
    settings: Config, tokenizer: Tokenizer, feature_dim: int, vectors: Path | None = None
) -> PanoramicAgent | Seq2SeqAgent:
    """The agent that the settings describe, untrained."""
    options: dict[str, Any] = {"frozen": True} if settings.text_frozen else {}
    if settings.text_encoder in TEXT_ENCODERS:
        options |= {
            "word_dim": settings.word_dim,
            "dim": settings.dim,
            "layers": settings.text_layers,
            "dropout": settings.dropout,
            "word_dropout": settings.word_dropout,
        }
        if settings.text_cell is not None:
            options["cell"] = settings.text_cell
        if vectors is not None:
            options["vectors"], found = read_vectors(vectors, tokenizer.words, settings.word_dim)
            print(f"word vectors: {found} of {tokenizer.size} words are in {vectors}", file=sys.stderr)  # noqa: T201
    text = text_encoder(settings.text_encoder, tokenizer.size, **options)
    if settings.agent == "seq2seq":
        return Seq2SeqAgent(
            text,
            dim=settings.dim,
            action_dim=settings.action_dim,
            feature_dim=feature_dim,
            dropout=settings.dropout,
        )
    return PanoramicAgent(
        text,
        dim=settings.dim,
        geometry_dim=settings.geometry_dim,
        feature_dim=feature_dim,
        view_dim=settings.view_dim,
        dropout=settings.dropout,
        environment_dropout=settings.environment_dropout,
    )


def train_options(settings: Config) -> TrainOptions:
    """What the training loop takes of the settings."""
    own = {field.name for field in dataclasses.fields(Config)}
    shared = [field.name for field in dataclasses.fields(TrainOptions) if field.name in own]
    return TrainOptions(
        **{name: getattr(settings, name) for name in shared},
        higher_is_better=not settings.monitor.endswith("_error"),
        optimizer="adamw",
        save_every=settings.evaluate_every,
    )


def action_space(settings: Config) -> Literal["panoramic", "egocentric"]:
    """Where the agent acts."""
    return "panoramic" if settings.agent == "panoramic" else "egocentric"


def mirrors(settings: Config) -> bool:
    """Whether walks are mirrored: geometry and words can be, pictures not."""
    return settings.mirror > 0 and settings.features is None and settings.agent == "panoramic"


def feature_dim(world: World) -> int:
    """Width of the image features; 0 where there are none."""
    return 0 if world.features is None else world.features.dim
