"""Training a navigator by imitation: demonstrations first, then rounds of its own walks with the expert's advice."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlkit import checkpoint, config
from vlkit.batches import Batches, moved, seed_everything, stream_seed
from vlkit.encoders.text import made_tokenizer
from vlkit.envs.navigation import turn_of
from vlkit.errors import UserError
from vlkit.evaluation import begin_image_encoder
from vlkit.processes import every_core, is_first, join, side_by_side, wait_for_all
from vlkit.progress import progress
from vlkit.tasks.navigation.critic import MatchingCritic, telling_loss
from vlkit.tasks.navigation.data import Mirror, Split, World, batch, read_split, some, world
from vlkit.tasks.navigation.learning import imitation_loss, pointing_loss, progress_loss, rarity, semantics_loss
from vlkit.tasks.navigation.model import NavigationPolicy, Walks
from vlkit.tasks.navigation.probes import blanked
from vlkit.tasks.navigation.reading import learn_to_read
from vlkit.tasks.navigation.reinforcement import Reinforcement, SelfImitation
from vlkit.tasks.navigation.rollouts import policy_walks, record
from vlkit.tasks.navigation.seeing import learn_to_see
from vlkit.tasks.navigation.settings import (
    ARMS,
    LEVELS,
    Config,
    built_frames,
    built_policy,
    early_options,
    train_options,
)
from vlkit.tasks.navigation.store import Store
from vlkit.text import Tokenizer
from vlkit.train import FitResult, Step, chosen_device, fit

DEVICES = ("cpu", "cuda")
# These may differ when a run goes on: none of them changes what it learns. Episodes in `data` must be the same ones.
FREE = ("data", "scenes", "output", "threads", "arms")
COUNTED_FRAMES = 4000  # in which it is counted how often each category is seen
PARTS = 8  # rows and columns of the parts of a frame whose category is kept


def train_with_arms(settings: Config, folder: Path) -> FitResult:
    """Trains the agent in `folder`, then the arms that the settings name, with the same settings, in `folder/arms`."""
    on_cpu = chosen_device(settings.device, allowed=DEVICES).type == "cpu"
    with side_by_side(settings.processes if on_cpu else 1, _train_with_arms, settings, folder):
        return _train_with_arms(settings, folder)


def _train_with_arms(settings: Config, folder: Path) -> FitResult:
    join(chosen_device(settings.device, allowed=DEVICES).type)
    worlds = Worlds(settings)
    settings = worlds.settings
    result = training(settings, folder, worlds)
    for arm in settings.arms:
        blind = replace(settings, blank=ARMS[arm], arms=(), output=folder / "arms" / arm)
        training(blind, folder / "arms" / arm, worlds, store=folder / "store")
    return result


class Worlds:
    """What a run walks in: the split that it learns from and, in the first process, the one that it is chosen on."""

    def __init__(self, settings: Config) -> None:
        self.device = chosen_device(settings.device, allowed=DEVICES)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        train = read_split(settings.data, settings.train_split, settings.levels)
        self.chosen_on = read_split(settings.data, settings.select_split, settings.levels)
        begun = None if settings.begin_with is None else begun_weights(settings.begin_with)
        # Who goes on with another run's weights goes on with its words.
        if begun is None:
            texts = [episode.instruction for episode in train.episodes]
            self.tokenizer = made_tokenizer(settings.text_encoder, texts, settings.min_count)
        else:
            self.tokenizer = Tokenizer.load(begun / "tokenizer.json")
        self.settings = replace(settings, turn_deg=settings.turn_deg or turn_of(train.episodes))
        self.train = opened(self.settings, train, self.tokenizer, self.device, semantic=True)
        self.categories: tuple[str, ...] = tuple(self.train.env.categories)
        if begun is not None:
            self.categories = tuple(checkpoint.load_weights(begun)[0].get("categories", self.categories))
        if is_first():
            assert self.select  # so that what is wrong with it is told before the training

    @cached_property
    def select(self) -> World:
        """Some episodes of the split that checkpoints are chosen on."""
        return opened(self.settings, some(self.chosen_on, self.settings.select_episodes), self.tokenizer, self.device)


def opened(
    settings: Config, split: Split, tokenizer: Tokenizer, device: torch.device, *, semantic: bool = False
) -> World:
    """The split as the settings have it walked; `semantic` where what is seen is recorded with its names."""
    return world(
        split,
        tokenizer,
        scenes=settings.scenes or settings.data / "scenes",
        num_envs=settings.num_envs,
        size=settings.size,
        max_words=settings.max_words,
        max_steps=settings.max_steps,
        stop_m=settings.stop_m,
        turn_deg=settings.turn_deg,
        skip=settings.skip,
        semantic=semantic,
        device=device,
        threads=settings.threads,
    )


def training(settings: Config, folder: Path, worlds: Worlds, store: Path | None = None) -> FitResult:
    """Trains one agent into `folder`, or continues there.

    `store` is the folder of another run whose first round, which no policy walked, serves this one too.
    """
    seed_everything(settings.seed)
    tokenizer, categories = worlds.tokenizer, worlds.categories
    policy = built_policy(settings, vocabulary=tokenizer.size, categories=len(categories))
    if settings.begin_with is not None:
        begin(policy, settings.begin_with, settings.blank)
    elif settings.image_from is not None and policy.frames.image is not None:
        begin_image_encoder(policy.frames.image, settings.image_from)
    lessons = Lessons(settings, worlds.train, folder / "store", first=store)
    if settings.begin_with is None:
        first_lessons(policy, settings, worlds, lessons, folder)
    loss: Lessons | Reinforcement | SelfImitation = lessons
    if settings.method == "sil":
        loss = SelfImitation(settings, worlds.train, begun_critic(settings, tokenizer, worlds.device))
    elif settings.method != "imitation":
        critic = trained_critic(settings, folder, worlds, lessons) if settings.method == "rcm" else None
        loss = Reinforcement(settings, worlds.train, critic)
    return fit(
        policy,
        loss,
        batches(settings),
        options=replace(train_options(settings), device="cuda" if worlds.device.type == "cuda" else "cpu"),
        folder=folder,
        config=config.as_dict(settings) | {"categories": list(categories)},
        may_change=(*FREE, "num_envs") if settings.method == "imitation" else FREE,
        files={"tokenizer.json": tokenizer.to_json()},
        accepted=lambda: config.save(settings, folder / "config.toml"),
        evaluate=lambda model, step: selection_scores(model, settings, worlds.select),  # in the first process alone
    )


def first_lessons(policy: NavigationPolicy, settings: Config, worlds: Worlds, lessons: "Lessons", folder: Path) -> None:
    """Reading and seeing, each with nothing but what it takes: before the agent walks, and many times as fast."""
    if settings.reading_steps and "instruction" not in settings.blank:
        learn_to_read(policy.text, settings, worlds.train, folder / "reading")
    seen = settings.image_pretrained or settings.image_frozen or settings.image_from is not None
    own = not seen and settings.method == "imitation"
    if (
        settings.seeing_steps
        and own
        and policy.name_patches is not None
        and settings.rgb
        and "rgb" not in settings.blank
    ):
        lessons.prepare(None, 0)
        learn_to_see(policy, settings, lessons.store.round(0), lessons.rarity, worlds.device, folder / "seeing")


def batches(settings: Config) -> Batches[Tensor]:
    """Places in a round, which the losses look up. Rounds are recorded in order of length: neighbours are alike, and a
    batch of neighbours takes half of the steps that the longest of a mixed one would.
    """
    return Batches(
        examples=settings.round_episodes,
        lengths=range(settings.round_episodes) if settings.method == "imitation" else None,
        batch_size=settings.batch_size,
        collate=torch.tensor,
        name=lambda i: f"walk {i} of a round",
    )


def begin(policy: NavigationPolicy, run: Path, blank: tuple[str, ...]) -> None:
    """Gives the policy the best weights of another run, of its arm where one without some input begins.

    UserError where they are of another model, and where they have learned with what this one is to do without.
    """
    arm = next((name for name, without in ARMS.items() if blank and without == blank), None)
    for place in [run, *([run / "arms" / arm] if arm else [])]:
        if (place / "best").is_dir():
            values, tensors = checkpoint.load_weights(place / "best")
            if tuple(values.get("blank", ())) == blank:
                checkpoint.restore(policy, tensors, place / "best")
                return
    without = f"without {', '.join(blank)}" if blank else "with all inputs"
    raise UserError(
        f"{run} holds no weights that learned {without}, as this agent does; begin with a run that has some"
    )


def begun_weights(run: Path) -> Path:
    """Where a run's best weights lie; UserError where it has none."""
    config.run_file(run)
    if not (run / "best").is_dir():
        raise UserError(f"{run} holds no best weights to begin with; train it until its first evaluation")
    return run / "best"


class Lessons:
    """One step's loss, on recorded walks; what must be recorded before it is, at the beginning of each round."""

    def __init__(self, settings: Config, walked: World, folder: Path, first: Path | None = None) -> None:
        self.settings, self.world = settings, walked
        source = source_of(settings, walked.split)
        lent = None if first is None else store_in(first, settings, source).path(0)
        self.store = store_in(folder, settings, source, lent)
        self.mirror = Mirror(walked.tokenizer) if settings.mirror else None
        self.unknown = walked.tokenizer.unknown if "instruction" in settings.blank else None
        self.ready = -1
        self.table = np.zeros((0, 2), np.int64)  # walks that are learned from: round, and place in it
        self.easy = self.hard = self.table  # those of the easiest level, and of the others
        self.rarity = torch.ones(256)  # of what frames show, by category

    def __call__(
        self, policy: NavigationPolicy, rows: Tensor, step: Step
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Places in a round (batch,) -> the loss, and what to log"""
        settings = self.settings
        number = min(step.index // settings.round_steps, settings.rounds - 1)
        if number != self.ready:
            self.prepare(policy, number)
            seed_everything(step.seed, step.device)  # which recording has drawn from
        walks = self.walks(rows, step, number)
        outcome = policy.over(walks)
        imitation = imitation_loss(outcome, walks)
        logged: dict[str, float | Tensor] = {"imitation": imitation.detach(), "frames": walks.acting.sum()}
        loss = imitation
        if settings.progress:
            monitored = progress_loss(outcome, walks)
            logged["progress"] = monitored.detach()
            loss = loss + settings.progress * monitored
        if policy.name_patches is not None and "rgb" not in settings.blank:
            named = semantics_loss(policy, outcome, walks, self.rarity)
            logged["semantics"] = named.detach()
            loss = loss + settings.semantics * named
        if settings.pointing and outcome.looked is not None:
            pointed = pointing_loss(outcome, walks)
            logged["pointing"] = pointed.detach()
            loss = loss + settings.pointing * pointed
        return loss, logged

    def walks(self, rows: Tensor, step: Step, number: int) -> Walks:
        """The walks of a step, on its device; `number` is the round that must be ready."""
        assert self.ready == number
        settings = self.settings
        rows, generator = rows.cpu(), torch.Generator().manual_seed(step.seed)
        table = self.drawn_from(step)
        # Rows come in shuffled epochs of a round's length: spread over all walks they still meet each equally often.
        places = (rows + torch.rand(len(rows), generator=generator)) / settings.round_episodes * len(table)
        recorded = self.store.read(table[places.long().clamp(max=len(table) - 1).numpy()])
        walks: Walks = moved(
            batch(
                recorded,
                self.world,
                inflection=settings.inflection,
                mirror=self.mirror,
                share=settings.mirror,
                unknown=self.unknown,
                generator=generator,
            ),
            step.device,
        )
        for name in settings.blank:
            if name != "instruction":
                getattr(walks, name).zero_()
        return walks

    def drawn_from(self, step: Step) -> np.ndarray:
        """The walks of which some are learned from in this step, by the curriculum; the same in each process."""
        if not (len(self.easy) and len(self.hard)):
            return self.table
        if step.index < self.settings.start_levels_until * step.steps:
            return self.easy
        share = self.settings.easiest_share
        if share is None:
            return self.table
        return self.easy if int((step.index + 1) * share) > int(step.index * share) else self.hard

    def prepare(self, policy: NavigationPolicy | None, number: int) -> None:
        """Records round `number` unless it is there already, makes room, and lists what is learned from."""
        settings = self.settings
        if is_first() and number not in self.store.numbers():
            with every_core():
                self.record(policy, number)
        wait_for_all()
        left_out = self.store.make_room()
        wait_for_all()
        if is_first():
            self.store.delete(left_out)
        shown = self.store.round(self.store.numbers()[0]).frames["categories"]
        self.rarity = rarity(torch.from_numpy(shown[:: max(len(shown) // COUNTED_FRAMES, 1)].copy()))
        levels = [episode.level for episode in self.world.episodes]
        easiest = next((level for level in LEVELS if level in levels), None)
        oldest = number if settings.replace_rounds else 0
        self.table = self.store.walks(oldest, number)
        episodes = self.store.episodes(self.table)
        easy = np.array([levels[int(episode)] == easiest for episode in episodes], bool)
        self.easy, self.hard = self.table[easy], self.table[~easy]
        self.ready = number

    def record(self, policy: NavigationPolicy | None, number: int) -> None:
        """Walks of the expert (round 0) or of the policy, with the expert's advice, into the store."""
        settings, walked = self.settings, self.world
        seed = stream_seed(settings.seed, "round", number)
        generator = torch.Generator().manual_seed(seed)
        count = min(settings.policy_episodes, settings.round_episodes) if number else settings.round_episodes
        trajectories = torch.randperm(len(walked.alternatives), generator=generator)[:count]
        told = [walked.alternatives[int(each)] for each in trajectories]
        episodes = torch.stack([each[int(torch.randint(len(each), (), generator=generator))] for each in told])
        expected = torch.tensor([walked.steps_expected(int(each)) for each in episodes])
        order = expected.argsort(stable=True)  # those of like length together, or most environments would wait
        episodes, expected = episodes[order], expected[order]
        most = ((expected * settings.patience_factor).long() + 5).clamp(max=settings.max_steps)
        share = settings.expert_share * settings.expert_decay ** (number - 1) if number else 1.0
        training = policy is not None and policy.training
        if policy is not None:
            policy.eval()
        with (
            self.store.writer(number, int(expected.sum())) as writer,
            progress(len(episodes), unit="walks") as bar,
            torch.inference_mode(),
        ):
            done = 0

            def watch(walks: int) -> None:
                nonlocal done
                done += walks
                bar.update(done, f"recording round {number + 1} of {settings.rounds}")

            record(
                walked.env,
                episodes,
                writer,
                policy=policy if number else None,
                transform=blanked(settings.blank, walked.tokenizer.unknown),
                expert_share=share,
                noise=settings.noise,
                most_steps=most,
                seed=seed,
                watch=watch,
            )
        if policy is not None:
            policy.train(training)


def store_in(folder: Path, settings: Config, source: str, lent: Path | None = None) -> Store:
    """The store of a run with these settings."""
    return Store(folder, size=settings.size, parts=PARTS, most_frames=settings.store_frames, source=source, lent=lent)


def source_of(settings: Config, split: Split) -> str:
    """What recorded walks depend on, beside the weights of who walked, as a hash."""
    names = ("stop_m", "turn_deg", "max_steps", "noise", "expert_share", "expert_decay", "patience_factor", "seed")
    counts = ("round_episodes", "policy_episodes")
    told = [[each.id, each.scene, each.start_position, each.instruction] for each in split.episodes]
    document = [[getattr(settings, name) for name in (*names, *counts)], told]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]


def trained_critic(settings: Config, folder: Path, worlds: Worlds, lessons: Lessons) -> MatchingCritic:
    """A critic that has learned to tell the instruction from a demonstration."""
    seed_everything(stream_seed(settings.seed, "critic"))
    critic = new_critic(settings, worlds.tokenizer)

    def loss(model: MatchingCritic, rows: Tensor, step: Step) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        return telling_loss(model, lessons.walks(rows, step, number=0)), {}

    options = early_options(
        settings, steps=settings.critic_steps, learning_rate=settings.learning_rate, device=worlds.device
    )
    lessons.prepare(None, 0)
    fit(
        critic,
        loss,
        batches(settings),
        options=options,
        folder=folder / "critic",
        config={"words": worlds.tokenizer.size},
    )
    return critic.eval()


def new_critic(settings: Config, tokenizer: Tokenizer) -> MatchingCritic:
    """A critic that has learned nothing yet."""
    return MatchingCritic(built_frames(settings), tokenizer.size, dim=settings.dim, word_dim=settings.word_dim)


def begun_critic(settings: Config, tokenizer: Tokenizer, device: torch.device) -> MatchingCritic:
    """The critic of the RCM run that this one begins with; UserError where it has none."""
    assert settings.begin_with is not None
    folder = settings.begin_with / "critic" / "checkpoints"
    steps = checkpoint.steps_saved(folder)
    if not steps:
        raise UserError(
            f"{settings.begin_with} has no matching critic to choose walks; name a run of method rcm in begin_with"
        )
    critic = new_critic(settings, tokenizer)
    newest = checkpoint.step_folder(folder, steps[-1])
    checkpoint.restore(critic, checkpoint.load_weights(newest)[1], newest)
    return critic.to(device).eval()


def selection_scores(policy: NavigationPolicy, settings: Config, walked: World) -> dict[str, float]:
    """Mean of every metric on the split that chooses checkpoints, as "val_seen/spl"."""
    with every_core():
        walks = policy_walks(policy, walked, transform=blanked(settings.blank, walked.tokenizer.unknown))
    return {
        f"{settings.select_split}/{metric}": float(np.mean([walk.metrics[metric] for walk in walks]))
        for metric in walks[0].metrics
    }
