"""Training a navigator: demonstrations, its own walks, a speaker's new routes, and then the reward of arriving."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vlkit import config, report
from vlkit.batches import Batches, seed_everything, stream_seed
from vlkit.encoders.text import made_tokenizer
from vlkit.envs.graph import R2RVectorEnv, World
from vlkit.envs.r2r import Episode, read_episodes
from vlkit.errors import UserError
from vlkit.tasks.r2r.agents import Transform, policy_walks, rollout, sampled, teacher
from vlkit.tasks.r2r.data import Mirror, read_splits
from vlkit.tasks.r2r.learning import Reward, actor_critic_loss, imitation_loss, progress_loss
from vlkit.tasks.r2r.model import Policy
from vlkit.tasks.r2r.probes import unread
from vlkit.tasks.r2r.settings import (
    Config,
    action_space,
    built_agent,
    feature_dim,
    mirrors,
    train_options,
)
from vlkit.tasks.r2r.speaker import (
    Speaker,
    mirrored,
    new_paths,
    routes_of,
    speaker_loss,
    told,
    write_episodes,
)
from vlkit.train import FitResult, Step, TrainOptions, chosen_device, fit

TEMPERATURE = 0.8  # below 1, so that the speaker keeps to likelier words
DEVICES = ("cpu", "cuda")  # the graphs' distances are float64, which mps lacks
# These may differ when a run goes on: none of them changes what it learns.
FREE = ("annotations", "connectivity", "features", "output", "threads", "vectors", "arms")


def train_with_arms(settings: Config, folder: Path) -> FitResult:
    """Trains the agent in `folder`, then the arms that the settings name, with the same settings, in `folder/arms`."""
    result = training(settings, folder)
    for arm in settings.arms:
        blind = replace(settings, instruction="none", arms=(), output=folder / "arms" / arm)
        training(blind, folder / "arms" / arm, speaker=folder)
    return result


def training(settings: Config, folder: Path, speaker: Path | None = None) -> FitResult:
    """Trains one agent into `folder`, or continues there; the speaker, where one is wanted, comes first.

    `speaker` is the folder of the run whose speaker and routes serve this one; its own where it is not given.
    """
    device = chosen_device(settings.device, allowed=DEVICES)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    splits = read_splits(settings.annotations, settings.connectivity, [settings.train_split, settings.select_split])
    tokenizer = made_tokenizer(
        settings.text_encoder,
        [episode.instruction for episode in splits.episodes[settings.train_split]],
        settings.min_count,
    )
    worlds = splits.worlds(tokenizer, features=settings.features, max_words=settings.max_words, device=device)
    demonstrations, selection = worlds[settings.train_split], worlds[settings.select_split]
    spoken = spoken_world(settings, speaker or folder, demonstrations) if settings.speaker_steps else None
    if settings.instruction == "none":
        demonstrations, selection = unread(demonstrations), unread(selection)
        spoken = spoken and unread(spoken)
    seed_everything(settings.seed)
    agent = built_agent(settings, tokenizer, feature_dim(demonstrations), vectors=settings.vectors)
    return fit(
        agent,
        Losses(settings, demonstrations, spoken),
        Batches(
            examples=len(demonstrations.episodes),
            batch_size=settings.batch_size,
            collate=torch.tensor,
            lengths=demonstrations.episodes.word_counts.tolist(),
            name=lambda i: demonstrations.episodes.episodes[i].id,
        ),
        options=replace(train_options(settings), device=kind(device)),
        folder=folder,
        config=config.as_dict(settings) | {"feature_dim": feature_dim(demonstrations)},
        may_change=FREE,
        files={"tokenizer.json": tokenizer.to_json()},
        accepted=lambda: config.save(settings, folder / "config.toml"),
        evaluate=lambda model, step: selection_scores(model, settings, selection),
    )


def kind(device: torch.device) -> Literal["cpu", "cuda"]:
    """What the training loop is told; with several GPUs it finds each process's own."""
    return "cuda" if device.type == "cuda" else "cpu"


class Losses:
    """One step's loss: walks that follow the demonstration beside the agent's own, in one batch of environments."""

    def __init__(self, settings: Config, demonstrations: World, spoken: World | None) -> None:
        self.settings = settings
        self.spoken = spoken
        self.by_length = None if spoken is None else torch.argsort(spoken.episodes.word_counts, stable=True)
        self.mirror = Mirror(demonstrations.tokenizer) if mirrors(settings) else None
        self.reward = Reward()
        self.worlds = {"train": demonstrations} | ({} if spoken is None else {"spoken": spoken})
        self.english = {
            name: torch.tensor([episode.language.startswith("en") for episode in world.episodes.episodes])
            for name, world in self.worlds.items()
        }
        self.envs: dict[tuple[str, int], R2RVectorEnv] = {}

    def __call__(self, agent: Policy, episodes: Tensor, step: Step) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Episode numbers (batch,) -> the loss, and what to log"""
        settings, done = self.settings, step.index / step.steps
        which = "train"
        if self.by_length is not None and float(torch.rand(())) < settings.spoken_share * (1 - done):
            # Neighbours in length, so that little of the batch is padding.
            order = self.by_length
            first = int(torch.randint(max(len(order) - len(episodes), 0) + 1, ()))
            which, episodes = "spoken", order[first : first + len(episodes)]
        reinforced = done >= settings.reinforce_from
        follow = settings.reinforce_teacher_forcing if reinforced else settings.teacher_forcing
        explore = 1.0 if reinforced else settings.student_forcing
        repeat = (follow > 0) + (explore > 0)
        env = self.env(which, repeat * len(episodes))
        choice = half_teacher if repeat == 2 else teacher if follow else sampled
        walks = rollout(agent, env, episodes, choice, self.seen(which, episodes), repeat=repeat)
        # Where both are walked, the demonstrations come first.
        demonstrated = slice(0, len(episodes))
        own = slice(len(episodes) * (repeat - 1), None)
        logged: dict[str, float | Tensor] = {"env_steps": float(walks.steps)}
        loss = torch.zeros((), device=env.device)
        if follow:
            imitation = imitation_loss(walks, demonstrated)
            logged["imitation"] = imitation.detach()
            loss = loss + follow * imitation
        if reinforced:
            reinforce, logged["return"] = actor_critic_loss(
                walks, self.reward, entropy_weight=settings.entropy, rows=own
            )
            loss = loss + reinforce
        elif explore:
            loss = loss + explore * imitation_loss(walks, own)
        if settings.progress:
            loss = loss + settings.progress * progress_loss(walks)
        return loss, logged

    def env(self, which: str, count: int) -> R2RVectorEnv:
        if (which, count) not in self.envs:
            self.envs[which, count] = R2RVectorEnv(
                count,
                world=self.worlds[which],
                action_space=action_space(self.settings),
                max_steps=self.limit(which),
                oracle=self.settings.oracle,
                measure=False,
                autoreset="Disabled",
            )
        return self.envs[which, count]

    def limit(self, which: str) -> int:
        """Steps until a walk is cut: no panoramic demonstration is, with its last step, to stop."""
        longest = self.worlds[which].episodes.paths.shape[1] if self.settings.agent == "panoramic" else 1
        return max(self.settings.student_steps, longest)

    def seen(self, which: str, episodes: Tensor) -> Transform | None:
        """Mirrors some English episodes for as long as they last, in all walks of them."""
        if self.mirror is None:
            return None
        chance = torch.rand(len(episodes)) < self.settings.mirror
        flipped = (chance & self.english[which][episodes.cpu()]).to(episodes.device).repeat(2)
        mirror = self.mirror
        return lambda observation: mirror(observation, flipped[: len(observation["heading"])])


def half_teacher(logits: Tensor, oracle: Tensor) -> Tensor:
    """The oracle's actions in the first half of the environments, the policy's own in the second."""
    half = len(oracle) // 2
    return torch.cat([oracle[:half], sampled(logits[half:], oracle[half:])])


def selection_scores(agent: Policy, settings: Config, world: World) -> dict[str, float]:
    """Mean of every metric on the split that chooses checkpoints, as "val_seen/spl"."""
    walks = policy_walks(agent, world, action_space=action_space(settings), max_steps=settings.max_steps)
    return {
        f"{settings.select_split}/{metric}": sum(walk.metrics[metric] for walk in walks) / len(walks)
        for metric in walks[0].metrics
    }


def spoken_world(settings: Config, folder: Path, demonstrations: World) -> World:
    """New routes in the training buildings with a speaker's instructions; trained and told once, then read back."""
    speaker = trained_speaker(settings, folder / "speaker", demonstrations)
    file = folder / "speaker" / f"spoken-{settings.spoken_paths}.json"
    if not file.is_file():
        paths = new_paths(
            demonstrations.scans,
            demonstrations.episodes.episodes,
            count=settings.spoken_paths,
            seed=stream_seed(settings.seed, "paths"),
        )
        language = demonstrations.episodes.episodes[0].language
        unsaid = [
            Episode(f"spoken{i}_0", f"spoken{i}", scan, path, heading, "to be said", language, 0)
            for i, (scan, path, heading) in enumerate(paths)
        ]
        world = demonstrations.with_episodes(unsaid, settings.max_words)
        episodes = told(
            speaker.eval(),
            world,
            seed=stream_seed(settings.seed, "told"),
            max_words=settings.max_words,
            temperature=TEMPERATURE,
        )
        write_episodes(file, episodes)
    return demonstrations.with_episodes(read_episodes(file), settings.max_words)


def trained_speaker(settings: Config, folder: Path, demonstrations: World) -> Speaker:
    """A speaker that learned from the demonstrations; UserError where they are in several languages."""
    languages = sorted({episode.language for episode in demonstrations.episodes.episodes})
    if len(languages) > 1:
        raise UserError(
            f"the speaker tells routes in one language, and {settings.train_split} has {', '.join(languages)}; "
            "train on a file of one language, or set speaker_steps to 0"
        )
    seed_everything(stream_seed(settings.seed, "speaker"))
    tokenizer, episodes = demonstrations.tokenizer, demonstrations.episodes
    speaker = Speaker(tokenizer.size, dim=settings.dim, word_dim=settings.word_dim)
    routes, mirror = routes_of(demonstrations), Mirror(tokenizer) if mirrors(settings) else None

    def loss(model: Speaker, rows: Tensor, step: Step) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        words, mask = trimmed(episodes.words[rows], episodes.mask[rows])
        seen = routes.select(rows)
        if mirror is not None:
            flipped = (torch.rand(len(rows)) < settings.mirror).to(words.device)
            words = torch.where(flipped[:, None], mirror.exchanged.to(words.device)[words], words)
            seen = mirrored(seen, flipped)
        return speaker_loss(model, seen, words, mask, tokenizer), {}

    options = TrainOptions(
        steps=settings.speaker_steps,
        learning_rate=2e-3,
        schedule="cosine",
        warmup_steps=min(50, settings.speaker_steps - 1),
        clip_norm=settings.clip_norm,
        save_every=settings.evaluate_every,
        seed=settings.seed,
        device=kind(demonstrations.tables.device),
    )
    batches = Batches(
        examples=len(episodes),
        batch_size=settings.batch_size,
        collate=torch.tensor,
        lengths=episodes.word_counts.tolist(),
    )
    learned = {name: getattr(settings, name) for name in ("dim", "word_dim", "mirror", "max_words", "min_count")}
    ids = report.items_sha256(f"{each.id} {each.instruction}" for each in demonstrations.episodes.episodes)
    fit(speaker, loss, batches, options=options, folder=folder, config=learned | {"demonstrations": ids})
    return speaker


def trimmed(words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both without the columns that are padding in every row."""
    longest = int(mask.sum(dim=1).max())
    return words[:, :longest], mask[:, :longest]
