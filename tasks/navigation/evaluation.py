"""Judging navigators: walks of trained runs and of agents that need no training, probes beside them, a report card."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from vlkit import checkpoint, config, report
from vlkit.envs.graph import World
from vlkit.errors import UserError
from vlkit.tasks.navigation.agents import FIXED_AGENTS, Transform, Walk, fixed_agent, fixed_walks, policy_walks
from vlkit.tasks.navigation.data import Splits, read_splits
from vlkit.tasks.navigation.metrics import LABELS, UNITS
from vlkit.tasks.navigation.model import Ensemble, Policy
from vlkit.tasks.navigation.probes import test_time_probes, unread
from vlkit.tasks.navigation.settings import Config, action_space, built_agent
from vlkit.tasks.navigation.submission import Trajectory, write_submission
from vlkit.text import Tokenizer
from vlkit.train import chosen_device

HEADLINE = ("success", "spl", "nav_error", "length", "oracle_success", "ndtw")
PRIOR_SPLIT = "train"


@dataclass(frozen=True)
class EvalOptions:
    """Judge trained runs, or an agent that needs no training, on a split."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders that `vlkit train` wrote; several are seeds of one experiment and give mean and spread"""
    agent: Literal["stop", "random", "shortest", "prior"] | None = None
    """an agent that needs no training, in the place of runs"""
    split: str = "val_unseen"
    """what is walked"""
    probes: bool = False
    """also walk it with parts of the input taken away, and with the agents that need no training"""
    decoding: Literal["greedy", "sample", "beam"] = "greedy"
    """beam searches as if the agent could try its walks beforehand: not comparable with greedy scores"""
    beam_width: int = 5
    """walks kept by beam"""
    ensemble: bool = False
    """the runs decide together, by the mean of their probabilities, not each for itself"""
    seeds: int = 1
    """how often random agents and sampling walk the split"""
    annotations: Path | None = None
    """where the split lies; runs know where they learned"""
    connectivity: Path | None = None
    """folder of the graphs; runs know theirs"""
    features: Path | None = None
    """image features, for runs that were trained with some; runs know theirs"""
    output: Path | None = None
    """folder for report and submission; RUN/eval/SPLIT or eval/AGENT-SPLIT where it is not given"""
    device: Literal["cpu", "cuda", "mps"] | None = None
    """where to run; the GPU where there is one"""

    def __post_init__(self) -> None:
        if (self.agent is None) == (not self.runs):
            raise ValueError("name the runs to judge, or an --agent, and not both")
        for name in ("seeds", "beam_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True)
class Trained:
    """A run that can walk."""

    folder: Path
    settings: Config
    agent: Policy
    tokenizer: Tokenizer
    feature_dim: int
    minutes: float


@dataclass(frozen=True)
class Test:
    """The split that is judged, as each run reads it, and what else the probes need."""

    splits: Splits
    split: str
    features: Path | None
    device: torch.device
    worlds: dict[tuple[str, str], World] = field(default_factory=dict)

    def world(self, tokenizer: Tokenizer | None = None, split: str | None = None, max_words: int = 80) -> World:
        """The split in this tokenizer's words; without one, for agents that do not read, in the split's own."""
        split = split or self.split
        key = (split, f"{max_words} {'' if tokenizer is None else tokenizer.to_json()}")
        if key not in self.worlds:
            episodes = self.splits.episodes[split]
            tokenizer = tokenizer or Tokenizer.train([episode.instruction for episode in episodes])
            only = replace(self.splits, episodes={split: episodes})
            features = self.features if split == self.split else None
            made = only.worlds(tokenizer, features=features, max_words=max_words, device=self.device)
            self.worlds[key] = made[split]
        return self.worlds[key]


def evaluate(arguments: Sequence[str]) -> int:
    """`vlkit eval RUN ... --split val_unseen --probes`: writes report card and submission, prints the card."""
    options = config.load(EvalOptions, None, arguments, prog="vlkit eval")
    runs = [trained(folder, options.device) for folder in options.runs]
    test = tested(options, runs)
    if options.agent is not None:
        title, walks = f"{options.agent} agent", fixed_seeds(options.agent, test, options.seeds)
        seeds = list(range(len(walks)))
    elif options.ensemble:
        title, walks, seeds = f"ensemble of {len(runs)} runs", [walked(runs, test, options)], []
    else:
        drawn = range(options.seeds if options.decoding == "sample" else 1)
        walks = [walked([run], test, options, seed=seed) for run in runs for seed in drawn]
        title, seeds = f"{runs[0].settings.agent} agent", [run.settings.seed for run in runs for _ in drawn]
    folder = options.output or (
        options.runs[0] / "eval" / options.split if runs else Path("eval") / f"{options.agent}-{options.split}"
    )
    for i, each in enumerate(walks):
        name = "submission.json" if len(walks) == 1 else f"submission-{i}.json"
        write_submission(folder / name, map(trajectory, each), test.splits.episodes[options.split])
    if walks[0][0].metrics:
        arms = probe_arms(runs, test, options) if options.probes else []
        card = report_card(title, walks, arms, seeds=seeds, runs=runs, test=test, options=options)
        report.write(card, folder)
        report.show(card)
    else:
        print(f"{options.split} has no goals, so there is nothing to score here")  # noqa: T201
    print(f"written: {folder}")  # noqa: T201
    return 0


def trained(folder: Path, device: str | None) -> Trained:
    """The run's best weights; its last ones where it chose none."""
    best = folder / "best"
    if not best.is_dir():
        steps = checkpoint.steps_saved(folder / "checkpoints")
        if not steps:
            raise UserError(f"{folder} holds no weights yet; run `vlkit train` until its first checkpoint")
        best = checkpoint.step_folder(folder / "checkpoints", steps[-1])
    values, tensors = checkpoint.load_weights(best)
    feature_dim = int(values.pop("feature_dim", 0))
    settings = config.from_dict(Config, values, best / checkpoint.CONFIG)
    tokenizer = Tokenizer.load(best / "tokenizer.json")
    agent = built_agent(settings, tokenizer, feature_dim)
    checkpoint.restore(agent, tensors, best)
    return Trained(
        folder=folder,
        settings=settings,
        agent=agent.to(chosen_device(device)).eval(),
        tokenizer=tokenizer,
        feature_dim=feature_dim,
        minutes=trained_minutes(folder),
    )


def trained_minutes(folder: Path) -> float:
    """Minutes that the run took, its speaker included."""
    minutes = 0.0
    for part in (folder, folder / "speaker"):
        steps = checkpoint.steps_saved(part / "checkpoints")
        if steps:
            _, progress = checkpoint.read_progress(checkpoint.step_folder(part / "checkpoints", steps[-1]))
            minutes += sum(progress["seconds"].values()) / 60
    return minutes


def tested(options: EvalOptions, runs: Sequence[Trained]) -> Test:
    """Reads the split and, where the action prior is asked for, the training split beside it."""
    annotations, connectivity, features = options.annotations, options.connectivity, options.features
    if runs:
        learned = runs[0].settings
        annotations = annotations or learned.annotations
        connectivity = connectivity or learned.connectivity
        features = features or learned.features
    if annotations is None or connectivity is None:
        raise UserError("an agent without a run needs --annotations FOLDER and --connectivity FOLDER")
    names = [options.split]
    if options.agent == "prior" or (options.probes and annotations.is_dir()):
        names += [PRIOR_SPLIT] * (options.split != PRIOR_SPLIT)
    for run in runs:
        if run.feature_dim and features is None:
            raise UserError(f"{run.folder} was trained with image features; name them with --features")
    return Test(
        splits=read_splits(annotations, connectivity, names),
        split=options.split,
        features=features,
        device=chosen_device(options.device),
    )


def walked(
    runs: Sequence[Trained],
    test: Test,
    options: EvalOptions,
    *,
    seed: int = 0,
    change: Callable[[World], World] = lambda world: world,
    transform: Transform | None = None,
    attention: bool = False,
) -> list[Walk]:
    """The split walked by a run, or by several that decide together."""
    settings = runs[0].settings
    for run in runs[1:]:
        if run.tokenizer.words != runs[0].tokenizer.words or run.settings.agent != settings.agent:
            raise UserError(
                f"{run.folder} and {runs[0].folder} differ in words or agent; such runs cannot decide together"
            )
    world = test.world(runs[0].tokenizer, max_words=settings.max_words)
    check_features(runs[0], world)
    if settings.instruction == "none":
        world = unread(world)
    return policy_walks(
        runs[0].agent if len(runs) == 1 else Ensemble([run.agent for run in runs]),
        change(world),
        action_space=action_space(settings),
        max_steps=settings.max_steps,
        decoding=options.decoding,
        beam_width=options.beam_width,
        transform=transform,
        seed=seed,
        attention=attention,
    )


def check_features(run: Trained, world: World) -> None:
    """Raises UserError where the features are not as wide as those that the run learned from."""
    width = 0 if world.features is None else world.features.dim
    if run.feature_dim and width != run.feature_dim:
        raise UserError(
            f"{run.folder} was trained with image features of {run.feature_dim} numbers a view, these have {width}; "
            "name the features that it was trained with"
        )


def fixed_seeds(name: str, test: Test, seeds: int) -> list[list[Walk]]:
    """The walks of an agent that needs no training, once for each seed where chance decides."""
    agent = fixed_agent(name, test.world(split=PRIOR_SPLIT) if name == "prior" else None)
    return [fixed_walks(agent, test.world(), seed) for seed in range(seeds if name in ("random", "prior") else 1)]


def probe_arms(runs: Sequence[Trained], test: Test, options: EvalOptions) -> list[report.Arm]:
    """What remains when something is taken away, before, after or for want of training."""
    arms = []
    found = sorted({path.name for run in runs for path in (run.folder / "arms").glob("*") if (path / "best").is_dir()})
    for name in found:
        blind = [
            trained(run.folder / "arms" / name, options.device)
            for run in runs
            if (run.folder / "arms" / name / "best").is_dir()
        ]
        walks = [walked([run], test, options) for run in blind]
        note = "" if len(blind) == len(runs) else f"trained for {len(blind)} of {len(runs)} runs"
        arms.append(report.Arm(f"{name.replace('_', ' ')} (trained)", "trained", rows(walks), note))
    for probe in test_time_probes(with_vision=bool(runs and runs[0].feature_dim)):
        walks = [
            walked(group, test, options, change=probe.world, transform=probe.observation)
            for group in ([runs] if options.ensemble else [[run] for run in runs])
            if group
        ]
        if walks:
            arms.append(report.Arm(probe.name, "test-time", rows(walks)))
    for name in FIXED_AGENTS:
        if name != options.agent and (name != "prior" or PRIOR_SPLIT in test.splits.episodes):
            label = "action prior" if name == "prior" else "shortest path" if name == "shortest" else name
            arms.append(report.Arm(label, "fixed", rows(fixed_seeds(name, test, max(options.seeds, 5)))))
    return arms


def rows(walks: Sequence[Sequence[Walk]]) -> tuple[report.Row, ...]:
    """A row for each metric, with intervals over items and the spread over seeds; paths are resampled whole."""
    tables = [[[walk.metrics[name] for name in UNITS] for walk in each] for each in walks]
    paths = [f"{walk.episode.scan} {walk.episode.path_id}" for walk in walks[0]]
    return report.rows(tables, UNITS, groups=np.unique(paths, return_inverse=True)[1], labels=LABELS)


def report_card(
    title: str,
    walks: Sequence[Sequence[Walk]],
    arms: Sequence[report.Arm],
    *,
    seeds: Sequence[int],
    runs: Sequence[Trained],
    test: Test,
    options: EvalOptions,
) -> report.Report:
    """The whole card; what makes its numbers hard to compare stands in its notes."""
    notes = []
    if options.decoding == "beam":
        notes.append("beam search tries several walks before it takes one: do not compare with greedy scores")
    if options.decoding == "sample":
        notes.append("actions were drawn from the policy, not the most probable ones taken")
    if runs and runs[0].settings.agent == "seq2seq":
        notes.append(
            "this agent turns on the spot, and nDTW counts every entry: do not compare it with panoramic agents"
        )
    episodes, file = test.splits.episodes[options.split], test.splits.files[options.split]
    names = {episode.scan for episode in episodes}
    graphs = [test.splits.folder / f"{name}_connectivity.json" for name in names]
    minutes = [run.minutes for run in runs]
    return report.report(
        title,
        task="navigation",
        split=options.split,
        ids=[episode.id for episode in episodes],
        metrics=rows(walks),
        arms=arms,
        seeds=seeds,
        data=[report.data_file(file, len(episodes)), report.data_files(graphs, "graphs")],
        device=report.device_name(test.device),
        minutes=sum(minutes) / len(minutes) if minutes else None,
        notes=notes,
        headline=HEADLINE,
    )


def trajectory(walk: Walk) -> Trajectory:
    """The walk as a submission has it."""
    viewpoints, headings, elevations = zip(*walk.trajectory, strict=True)
    return Trajectory(walk.episode.id, viewpoints, headings, elevations)
