"""What an experiment in continuous navigation may change, and the policy that it describes; one flat file sets these."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vlkit.encoders.image import PATCHED, image_encoder
from vlkit.encoders.text import TEXT_ENCODERS, text_encoder
from vlkit.envs.navigation import METRICS
from vlkit.plugins import nearest
from vlkit.processes import processes
from vlkit.tasks.navigation.model import CrossModal, DepthCNN, FrameEncoder, NavigationPolicy, Seq2Seq
from vlkit.train import TrainOptions

Level = Literal["starter", "standard", "long"]
LEVELS: tuple[Level, ...] = ("starter", "standard", "long")  # the easiest first
# arm: the inputs that it finds empty
ARMS: dict[str, tuple[Literal["rgb", "depth", "instruction"], ...]] = {
    "no_instruction": ("instruction",),
    "no_vision": ("rgb", "depth"),
    "no_depth": ("depth",),
}
COUNTS = (
    *("size", "max_words", "min_count", "word_dim", "image_dim", "depth_dim", "dim", "action_dim", "attention_heads"),
    *(
        "batch_size",
        "rounds",
        "round_episodes",
        "policy_episodes",
        "store_frames",
        "num_envs",
        "max_steps",
        "select_episodes",
    ),
    *("candidates", "processes", "epochs", "critic_steps"),
)
SHARES = (
    *("expert_share", "expert_decay", "noise", "mirror", "start_levels_until", "easiest_share"),
    *("discount", "gae_lambda"),
)
WEIGHTS = (
    *("inflection", "progress", "semantics", "pointing"),
    *("entropy", "value_weight", "intrinsic", "imitation_weight", "clip"),
)


@dataclass(frozen=True)
class Config:
    """Train a navigator in houses that it sees, from instructions."""

    data: Path
    """folder that `vlkit data houses` wrote, or of VLN-CE's episodes with their scenes in `scenes`"""
    task: Literal["navigation"] = "navigation"
    """the task that this file is for"""
    output: Path | None = None
    """the run's folder; runs/<name of the file>-<seed> where it is not given"""
    scenes: Path | None = None
    """folder of the scenes; DATA/scenes where it is not given"""
    levels: tuple[Level, ...] = ("starter", "standard", "long")
    """which of the generated episodes; VLN-CE's have no level and are all taken"""
    train_split: str = "train"
    """what the agent learns from"""
    select_split: str = "val_seen"
    """what chooses between checkpoints; never the split that is reported"""
    select_episodes: int = 200
    """so many of them, drawn evenly"""

    policy: Literal["cma", "seq2seq"] = "cma"
    """cma: two LSTMs, attention from state to instruction and from instruction to frame; seq2seq: one LSTM"""
    size: int = 64
    """pixels along a side of a frame"""
    rgb: bool = True
    """whether the agent sees colour"""
    depth: bool = True
    """whether it sees depth"""
    image_encoder: str = "nature_cnn"
    """small_cnn, nature_cnn, nature_cnn_bn, resnet18, torchvision:NAME, hf:MODEL_OR_FOLDER, or module:function of your own"""
    image_dim: int = 64
    """width of the patches of small_cnn, nature_cnn and nature_cnn_bn"""
    image_pretrained: bool = False
    """begin with published weights (torchvision and Hugging Face models)"""
    image_frozen: bool = False
    """keep the image encoder as it is"""
    image_from: Path | None = None
    """run folder, of this task or another, whose image encoder this one begins with; it then need not learn to see first"""
    depth_dim: int = 32
    """width of the depth patches"""
    text_encoder: str = "bilstm"
    """rnn, lstm, gru, birnn, bilstm, bigru, hf:MODEL_OR_FOLDER, or module:function of your own"""
    word_dim: int = 128
    """width of the word vectors"""
    max_words: int = 80
    """an instruction is cut behind so many"""
    min_count: int = 2
    """words that occur less often in training are unknown"""
    dim: int = 256
    """width of the instruction's states and of each LSTM"""
    action_dim: int = 32
    """width of the previous action"""
    attention_heads: int = 4
    """of the attention over words and patches"""
    dropout: float = 0.1
    """share of hidden values dropped in training"""
    word_dropout: float = 0.05
    """share of words read as unknown in training"""

    method: Literal["imitation", "ppo", "rcm", "sil"] = "imitation"
    """imitation of the shortest path (teacher forcing, student forcing and DAgger, by the numbers below); reward (ppo,
    rcm); or sil: imitation of its own walks that fit their instruction, in houses whose ways nobody knows"""
    rounds: int = 1
    """of recording: the first holds demonstrations, each later one walks of the policy, evenly spread over the steps"""
    round_episodes: int = 4000
    """demonstrations recorded in the first round, at most all trajectories"""
    policy_episodes: int = 1600
    """walks recorded in each later round; the policy takes four times as long for one as the expert"""
    expert_share: float = 0.5
    """in the rounds behind the first, chance that a walk's step is the expert's (beta of DAgger); 0 is student forcing"""
    expert_decay: float = 1.0
    """factor on it from round to round"""
    replace_rounds: bool = False
    """learn from the newest round alone (student forcing), and not from all that the store keeps (DAgger)"""
    noise: float = 0.1
    """chance that a demonstration takes a random step, from which the expert's next ones lead back"""
    patience_factor: float = 1.5
    """a recorded walk is cut at so many times the demonstration's steps, so that it does not fill the store lost"""
    store_frames: int = 400_000
    """bound of the store on disk; a frame of 64x64 takes 16 KB"""
    stop_m: float = 0.5
    """the expert stops so near the goal"""
    turn_deg: float | None = None
    """of a turn, in training and ever after; 30 where all that is learned from are starters and 15 else, if not given"""
    skip: bool = False
    """leave out, and count, episodes that cannot be walked; else they are an error"""
    inflection: float = 3.2
    """weight of steps at which the demonstration changes its action (Wijmans et al. 2019)"""
    progress: float = 0.5
    """weight of the progress monitor's loss"""
    semantics: float = 0.2
    """weight of naming what each patch shows"""
    pointing: float = 0.1
    """weight of looking at the goal where it is in sight (cma)"""
    reading_steps: int = 400
    """steps, before all others, in which the instruction encoder learns to say what is told: the thing to stop at, its
    colour, the rooms, the sides (generated houses, whose episodes have it; 0 for none)"""
    seeing_steps: int = 1500
    """steps, before all others, in which the image encoder learns to name what patches show; 0 for none, and for one that is
    frozen or comes with published weights"""
    mirror: float = 0.5
    """share of walks with left and right exchanged, in frames, words and actions"""
    start_levels_until: float = 0.0
    """part of the training that sees the easiest level alone: the curriculum; 0 for none"""
    easiest_share: float | None = None
    """share of the batches behind it that are of the easiest level; as many as were recorded if not given"""
    blank: tuple[Literal["rgb", "depth", "instruction"], ...] = ()
    """inputs that the agent finds empty, in training and ever after: how the arms below are trained"""
    arms: tuple[Literal["no_instruction", "no_vision", "no_depth"], ...] = ()
    """probes that are trained with the same settings in RUN/arms; no_vision is the blind LSTM"""

    begin_with: Path | None = None
    """run folder whose weights PPO, RCM and SIL begin with; SIL takes its matching critic too"""
    epochs: int = 2
    """times that PPO goes over a rollout"""
    clip: float = 0.2
    """how far PPO lets a probability move"""
    discount: float = 0.99
    """of later rewards"""
    gae_lambda: float = 0.95
    """of generalised advantage estimation"""
    entropy: float = 0.01
    """weight of the entropy bonus (ppo, rcm)"""
    value_weight: float = 0.5
    """weight of the critic's loss"""
    intrinsic: float = 0.5
    """weight of the matching critic's reward (rcm)"""
    imitation_weight: float = 0.2
    """weight of imitation beside the reward (ppo, rcm)"""
    critic_steps: int = 400
    """training steps of the matching critic (rcm)"""
    candidates: int = 8
    """walks of an instruction, of which the matching critic chooses one to imitate (sil)"""

    steps: int = 6000
    """optimizer steps, which the rounds divide: a finished run of several is not to be made longer"""
    batch_size: int = 16
    """walks a step"""
    learning_rate: float = 2e-3
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
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    """mixed precision"""
    num_envs: int = 64
    """environments that walk at once"""
    max_steps: int = 500
    """actions until a walk is cut"""
    evaluate_every: int = 1000
    """steps between looks at the selection split"""
    monitor: str = "val_seen/success"
    """what the best checkpoint has most of"""
    patience: int | None = None
    """looks without a better value until training ends"""
    seed: int = 0
    """of weights, order and every draw"""
    device: Literal["cpu", "cuda"] | None = None
    """where to simulate, infer and learn; the GPU where there is one"""
    threads: int | None = None
    """CPU threads; all cores where it is not given"""

    processes: int = 1
    """CPU processes that learn side by side, each from its share of the batch; GPUs are for torchrun or accelerate"""

    def __post_init__(self) -> None:
        for name in SHARES:
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} = {share}, expected a share from 0 to 1")
        for name in ("dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected a share from 0 up to, not including, 1")
        for name in WEIGHTS:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}, expected a weight of 0 or more")
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        for name in ("reading_steps", "seeing_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}, expected 0 or more")
        if self.size % 8:
            raise ValueError(f"size = {self.size}, expected a multiple of 8 pixels")
        if self.stop_m <= 0 or self.patience_factor < 1:
            raise ValueError("stop_m must be above 0, and patience_factor at least 1")
        if self.turn_deg is not None and not 0 < self.turn_deg <= 180:
            raise ValueError(f"turn_deg = {self.turn_deg}, expected degrees above 0 and at most 180")
        if self.image_from is not None and not self.rgb:
            raise ValueError(
                "image_from is set and rgb is off; an agent without colour has no image encoder to begin with"
            )
        if not (self.rgb or self.depth):
            raise ValueError(
                "rgb and depth are both off, and the agent would see nothing; to train a blind one, see arms"
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads = {self.threads}, expected at least 1")
        if self.batch_size % (self.accumulate * self.processes):
            raise ValueError(
                f"batch_size = {self.batch_size} does not divide into accumulate = {self.accumulate} parts for each of "
                f"processes = {self.processes}; take a multiple of {self.accumulate * self.processes}"
            )
        if self.method != "imitation" and self.accumulate > 1:
            raise ValueError(
                f"accumulate = {self.accumulate} with method {self.method}: take a smaller batch_size instead"
            )
        if self.method in ("ppo", "rcm") and (self.dropout or self.word_dropout):
            raise ValueError(
                f"dropout = {self.dropout} and word_dropout = {self.word_dropout} with method {self.method}, which compares "
                "a policy with itself; set both to 0"
            )
        if self.rounds > self.steps:
            raise ValueError(f"rounds = {self.rounds} and steps = {self.steps}: a round lasts at least one step")
        if self.method == "sil" and self.begin_with is None:
            raise ValueError(
                "method sil needs begin_with: a run of method rcm, whose policy and matching critic it takes"
            )
        if self.method == "sil" and self.candidates > self.num_envs:
            raise ValueError(f"candidates = {self.candidates} of an instruction, but num_envs is {self.num_envs}")
        if not self.levels:
            raise ValueError("levels is empty; name at least one of starter, standard, long")
        monitors = [f"{self.select_split}/{metric}" for metric in METRICS]
        if self.monitor not in monitors:
            raise ValueError(f"monitor = {self.monitor!r}.{nearest(self.monitor, monitors)}")
        if self.train_split == self.select_split:
            raise ValueError(f"train_split and select_split are both {self.train_split!r}; select on other episodes")
        train_options(self)

    @property
    def round_steps(self) -> int:
        """Optimizer steps between two recordings."""
        return self.steps // self.rounds


SAVE_EVERY = 500  # steps at most between checkpoints, where a round can be divided so


def train_options(settings: Config) -> TrainOptions:
    """What the training loop takes of the settings; a checkpoint stands at the beginning of each round."""
    own = {field.name for field in dataclasses.fields(Config)}
    shared = [field.name for field in dataclasses.fields(TrainOptions) if field.name in own]
    return TrainOptions(
        **{name: getattr(settings, name) for name in shared},
        higher_is_better=settings.monitor.rpartition("/")[2] not in ("distance_to_goal", "steps", "collisions"),
        optimizer="adamw",
        save_every=save_every(settings),
        stop_every=cycle_steps(settings),
    )


def early_options(settings: Config, *, steps: int, learning_rate: float, device: torch.device) -> TrainOptions:
    """How a part of an agent learns something before the agent walks: short, and begun anew where it was killed."""
    return TrainOptions(
        steps=steps,
        learning_rate=learning_rate,
        schedule="cosine",
        warmup_steps=min(50, steps // 4),
        clip_norm=settings.clip_norm,
        precision=settings.precision,
        save_every=steps,
        seed=settings.seed,
        device="cuda" if device.type == "cuda" else "cpu",
    )


def save_every(settings: Config) -> int:
    """Steps between checkpoints: one stands where each round begins, for what is recorded there has no other trace; of
    rewards, never in the middle of what was recorded with one set of weights.
    """
    if settings.method == "imitation":
        whole = settings.round_steps if settings.rounds > 1 else settings.evaluate_every
        part = max(steps for steps in range(1, min(SAVE_EVERY, whole) + 1) if whole % steps == 0)
        return part if part > SAVE_EVERY // 5 else whole
    return -(-settings.evaluate_every // cycle_steps(settings)) * cycle_steps(settings)


def cycle_steps(settings: Config) -> int:
    """Steps that learn from the same walks of the policy, between which nothing can be taken up again."""
    if settings.method == "imitation":
        return 1
    return settings.epochs * (1 if settings.method == "sil" else walk_parts(settings, processes()))


def walk_parts(settings: Config, count: int) -> int:
    """Steps in which one of `count` processes goes over all its walks once."""
    return max(settings.num_envs * count // settings.batch_size, 1)


def built_frames(settings: Config) -> FrameEncoder:
    """The frame encoder that the settings describe, untrained."""
    image = None
    if settings.rgb:
        image_options: dict[str, Any] = {}
        if settings.image_encoder in PATCHED:
            image_options = {"dim": settings.image_dim}
        elif settings.image_pretrained:
            image_options = {"pretrained": True}
        image = image_encoder(settings.image_encoder, frozen=settings.image_frozen, **image_options)
    depth = DepthCNN(settings.depth_dim) if settings.depth else None
    return FrameEncoder(image, depth, size=settings.size, dim=settings.dim)


def built_policy(settings: Config, *, vocabulary: int, categories: int) -> NavigationPolicy:
    """The policy that the settings describe, untrained, for a tokenizer of so many words."""
    text_options: dict[str, Any] = {}
    if settings.text_encoder in TEXT_ENCODERS:
        text_options = {"word_dim": settings.word_dim, "dim": settings.dim, "dropout": settings.dropout}
        text_options["word_dropout"] = settings.word_dropout
    text = text_encoder(settings.text_encoder, vocabulary, **text_options)
    frames = built_frames(settings)
    text_dim = int(getattr(text, "dim"))  # noqa: B009 - nn.Module has it by contract, not by type
    if settings.policy == "seq2seq":
        walker: Seq2Seq | CrossModal = Seq2Seq(frames, text_dim, dim=settings.dim, action_dim=settings.action_dim)
    else:
        walker = CrossModal(
            frames,
            text_dim,
            dim=settings.dim,
            action_dim=settings.action_dim,
            heads=settings.attention_heads,
            dropout=settings.dropout,
        )
    return NavigationPolicy(text, frames, walker, categories=categories if settings.semantics else 0)
