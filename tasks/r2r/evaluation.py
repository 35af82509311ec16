"""Judging navigators: walks of trained runs and of agents that need no training, probes beside them, a report card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from vlkit import checkpoint, config, report
from vlkit.envs.graph import World
from vlkit.envs.r2r import Episode, Scan
from vlkit.errors import UserError
from vlkit.evaluation import Watch, check_seeds, trained_arms, trained_minutes, weights_folder, wrong_usage
from vlkit.plugins import nearest
from vlkit.progress import progress
from vlkit.tasks.r2r.agents import FIXED_AGENTS, Transform, Walk, fixed_agent, fixed_walks, policy_walks
from vlkit.tasks.r2r.data import Splits, read_splits
from vlkit.tasks.r2r.metrics import LABELS, UNITS
from vlkit.tasks.r2r.model import Ensemble, Policy
from vlkit.tasks.r2r.probes import test_time_probes, unread
from vlkit.tasks.r2r.settings import Config, action_space, built_agent
from vlkit.tasks.r2r.splits import split_name
from vlkit.tasks.r2r.submission import Trajectory, remove_submissions, write_submission
from vlkit.tasks.r2r.training import DEVICES, FREE
from vlkit.text import Tokenizer
from vlkit.train import chosen_device

HEADLINE = ("success", "spl", "nav_error", "length", "oracle_success", "ndtw")
SPLIT = "val_unseen"  # where nothing else is said
PRIOR_SPLIT = "train"
SEEDS = 5  # of the agents beside the score that act by chance, at least
FIXED_LABELS = {"prior": "action prior", "shortest": "shortest path"}
MAY_DIFFER = (*FREE, "seed", "device")  # between runs that are seeds of one experiment


@dataclass(frozen=True)
class EvalOptions:
    """Judge trained runs, or an agent that needs no training, on a split."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders that `vlkit train` wrote; several are seeds of one experiment and give mean and spread"""
    agent: Literal["stop", "random", "shortest", "prior"] | None = None
    """an agent that needs no training, in the place of runs"""
    split: str | None = None
    """what is walked; val_unseen, or what the annotations file is of"""
    probes: bool = False
    """also walk it with parts of the input taken away; agents that need no training stand beside the score always"""
    decoding: Literal["greedy", "sample", "beam"] = "greedy"
    """beam searches as if the agent could try its walks beforehand: not comparable with greedy scores"""
    beam_width: int = 5
    """walks kept by beam"""
    ensemble: bool = False
    """the runs decide together, by the mean of their probabilities, not each for itself"""
    seeds: int = 1
    """how often random agents and sampling walk the split"""
    annotations: Path | None = None
    """where the split lies, a folder or one file; runs know where they learned"""
    connectivity: Path | None = None
    """folder of the graphs; runs know theirs"""
    features: Path | None = None
    """image features, for runs that were trained with some; runs know theirs"""
    output: Path | None = None
    """folder for report and submission; RUN/eval/SPLIT, with what is not usual behind it, or eval/AGENT-SPLIT"""
    device: Literal["cpu", "cuda"] | None = None
    """where to run; the GPU where there is one"""

    def __post_init__(self) -> None:
        if (self.agent is None) == (not self.runs):
            raise ValueError("name the runs to judge, or an --agent, and not both")
        for name in ("seeds", "beam_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")

    @property
    def draws(self) -> int:
        """How often each run walks the split."""
        return self.seeds if self.decoding == "sample" else 1


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
    demonstrations: Splits | None = None  # of the training split, where the action prior is counted
    no_prior: str = ""  # why there are none
    worlds: dict[str, World] = field(default_factory=dict)

    @property
    def episodes(self) -> Sequence[Episode]:
        """What is walked."""
        return self.splits.episodes[self.split]

    @property
    def goals(self) -> bool:
        """Whether walks can be scored; a test split tells starts alone."""
        return all(len(episode.path) > 1 for episode in self.episodes)

    def world(self, tokenizer: Tokenizer | None = None, max_words: int = 80) -> World:
        """The split in this tokenizer's words; without one, for agents that do not read, in the split's own."""
        key = f"{max_words} {'' if tokenizer is None else tokenizer.to_json()}"
        if key not in self.worlds:
            tokenizer = tokenizer or Tokenizer.train([episode.instruction for episode in self.episodes])
            made = self.splits.worlds(tokenizer, features=self.features, max_words=max_words, device=self.device)
            self.worlds[key] = made[self.split]
        return self.worlds[key]

    def demonstrated(self) -> World | None:
        """The training split, for agents that do not read."""
        if self.demonstrations is None:
            return None
        words = Tokenizer.train([episode.instruction for episode in self.demonstrations.episodes[PRIOR_SPLIT]])
        return self.demonstrations.worlds(words, device=self.device)[PRIOR_SPLIT]


def evaluate(arguments: Sequence[str]) -> int:
    """`vlkit eval RUN ... --split val_unseen --probes`: writes report card and submission, prints the card."""
    options = config.load(EvalOptions, None, arguments, prog="vlkit eval")
    check_usage(options, {word.partition("=")[0].replace("_", "-") for word in arguments})
    runs = [trained(folder, options.device) for folder in options.runs]
    if options.ensemble:
        check_together(runs)
    else:
        check_seeds(runs, MAY_DIFFER)
    test = tested(options, runs)
    arms: list[report.Arm] = []
    if options.agent is not None:
        title, walks = f"{options.agent} agent", fixed_seeds(options.agent, test, options.seeds)
        seeds, names = list(range(len(walks))), [f"-seed{seed}" for seed in range(len(walks))]
    else:
        title = f"ensemble of {len(runs)} runs" if options.ensemble else f"{runs[0].settings.agent} agent"
        walks, arms = policy_results(title, runs, test, options)
        draws = range(options.draws)
        seeds = [] if options.ensemble else [run.settings.seed for run in runs for _ in draws]
        names = [
            f"-seed{run.settings.seed}{f'-draw{draw}' * (len(draws) > 1)}"
            for run in (runs[:1] if options.ensemble else runs)
            for draw in draws
        ]
    folder = options.output or output_folder(options, test.split)
    ending = ".jsonl" if ".jsonl" in test.splits.files[test.split].name else ".json"  # RxR has a format of its own
    remove_submissions(folder)
    report.remove(folder)
    for name, each in zip(names, walks, strict=True):
        file = folder / f"submission{name if len(walks) > 1 else ''}{ending}"
        write_submission(file, map(trajectory, each), test.episodes)
    if test.goals:
        arms += fixed_arms(test, options)
        card = report_card(title, walks, arms, seeds=seeds, runs=runs, test=test, options=options)
        report.write(card, folder)
        report.show(card)
    else:
        print(f"{test.split} has no goals, so there is nothing to score here")  # noqa: T201
    print(f"written: {folder}")  # noqa: T201
    return 0


def check_usage(options: EvalOptions, given: set[str]) -> None:
    """Ends with code 2 where the words that were typed do not go together."""
    if options.agent is not None:
        of_runs = sorted(given & {"--decoding", "--beam-width", "--ensemble"})
        if of_runs:
            wrong_usage(f"{', '.join(of_runs)} is for trained runs; leave it out beside --agent {options.agent}")
        needed = {"--annotations FOLDER": options.annotations, "--connectivity FOLDER": options.connectivity}
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            wrong_usage(f"an agent without a run needs {' and '.join(missing)}")
    elif options.ensemble and len(options.runs) == 1:
        wrong_usage("--ensemble is for several runs, and there is one; name more, or leave --ensemble out")


def output_folder(options: EvalOptions, split: str) -> Path:
    """Where results lie that were given no place: beside the first run, each variant in a folder of its own."""
    if options.agent is not None:
        return Path("eval") / f"{options.agent}-{split}"
    count = len(options.runs)
    together = f"-ensemble{count}" if options.ensemble else f"-{count}seeds" if count > 1 else ""
    decoding = {"greedy": "", "sample": "-sample", "beam": f"-beam{options.beam_width}"}[options.decoding]
    return options.runs[0] / "eval" / f"{split}{together}{decoding}"


def check_together(runs: Sequence[Trained]) -> None:
    """Raises UserError where the runs cannot decide together, for they read or do different things."""
    first = runs[0]
    for i, run in enumerate(runs[1:], start=1):
        if any(run.folder.resolve() == other.folder.resolve() for other in runs[:i]):
            raise UserError(f"{run.folder} is named twice; name each run of an ensemble once")
        same_words = run.tokenizer.to_json() == first.tokenizer.to_json()
        keys = [
            *([] if same_words else ["words"]),
            *([] if run.feature_dim == first.feature_dim else ["image features"]),
            *(
                name
                for name in ("agent", "instruction", "max_words", "max_steps")
                if getattr(run.settings, name) != getattr(first.settings, name)
            ),
        ]
        if keys:
            raise UserError(
                f"{first.folder} and {run.folder} differ in {' and '.join(keys)}, so they cannot decide together; "
                "evaluate them one by one"
            )


def trained(folder: Path, device: str | None) -> Trained:
    """The run's best weights; its last ones where it chose none. UserError where the folder is no run."""
    config.run_file(folder)
    best = weights_folder(folder)
    values, tensors = checkpoint.load_weights(best)
    feature_dim = int(values.pop("feature_dim", 0))
    settings = config.from_dict(Config, values, best / checkpoint.CONFIG)
    tokenizer = Tokenizer.load(best / "tokenizer.json")
    agent = built_agent(settings, tokenizer, feature_dim)
    checkpoint.restore(agent, tensors, best)
    return Trained(
        folder=folder,
        settings=settings,
        agent=agent.to(chosen_device(device, allowed=DEVICES)).eval(),
        tokenizer=tokenizer,
        feature_dim=feature_dim,
        minutes=trained_minutes(folder, folder / "speaker"),
    )


def tested(options: EvalOptions, runs: Sequence[Trained]) -> Test:
    """Reads the split and, for the action prior, the training split where it lies beside."""
    annotations, connectivity, features = options.annotations, options.connectivity, options.features
    if runs:
        run = runs[0]
        annotations = annotations or known(run, "annotations")
        connectivity = connectivity or known(run, "connectivity")
        if features is None and run.settings.features is not None:
            features = known(run, "features")
        for run in runs:
            if run.feature_dim and features is None:
                raise UserError(f"{run.folder} was trained with image features; name them with --features")
    if annotations is None or connectivity is None:
        raise ValueError("an agent without a run needs annotations and connectivity")
    split = options.split or SPLIT
    if options.split is None and annotations.is_file():
        split = split_name(annotations) or annotations.name.partition(".")[0]
    splits = read_splits(annotations, connectivity, [split])
    demonstrations, no_prior = None, ""
    if split == PRIOR_SPLIT:
        demonstrations = splits
    elif options.agent == "prior":
        demonstrations = read_splits(annotations, connectivity, [PRIOR_SPLIT])
    elif annotations.is_dir():
        try:
            demonstrations = read_splits(annotations, connectivity, [PRIOR_SPLIT])
        except UserError as error:  # the score stands without it, and the card says why it is not there
            no_prior = str(error).partition("\n")[0]
    else:
        no_prior = f"{annotations} is one file, without the split {PRIOR_SPLIT}"
    return Test(
        splits=splits,
        split=split,
        features=features,
        device=chosen_device(options.device, allowed=DEVICES),
        demonstrations=demonstrations,
        no_prior=no_prior,
    )


def known(run: Trained, name: Literal["annotations", "connectivity", "features"]) -> Path:
    """Where the run found its data; UserError where that is gone."""
    path: Path = getattr(run.settings, name)
    if not path.exists():
        raise UserError(
            f"{run.folder} was trained with {name} = {path}, which does not exist; say where it is with --{name} "
            "(a relative path starts at the folder in which the command runs)"
        )
    return path


def read_world(run: Trained, test: Test) -> World:
    """The split as the run reads it. UserError where the features are not as wide as those that it learned from."""
    world = test.world(run.tokenizer, max_words=run.settings.max_words)
    check_features(run, world)
    return unread(world) if run.settings.instruction == "none" else world


def walked(
    runs: Sequence[Trained],
    test: Test,
    options: EvalOptions,
    *,
    seed: int = 0,
    change: Callable[[World], World] = lambda world: world,
    transform: Transform | None = None,
    attention: bool = False,
    watch: Callable[[int], None] | None = None,
) -> list[Walk]:
    """The split walked by a run, or by several that decide together; `watch` is told how many walks are finished."""
    settings = runs[0].settings
    return policy_walks(
        runs[0].agent if len(runs) == 1 else Ensemble([run.agent for run in runs]),
        change(read_world(runs[0], test)),
        action_space=action_space(settings),
        max_steps=settings.max_steps,
        decoding=options.decoding,
        beam_width=options.beam_width,
        transform=transform,
        seed=seed,
        attention=attention,
        watch=watch,
    )


def check_features(run: Trained, world: World) -> None:
    """Raises UserError where the features are not as wide as those that the run learned from."""
    width = 0 if world.features is None else world.features.dim
    if run.feature_dim and width != run.feature_dim:
        raise UserError(
            f"{run.folder} was trained with image features of {run.feature_dim} numbers a view, these have {width}; "
            "name the features that it was trained with"
        )


def policy_results(
    title: str, runs: Sequence[Trained], test: Test, options: EvalOptions
) -> tuple[list[list[Walk]], list[report.Arm]]:
    """The walks of the runs, once for each run and draw, and where probes are wanted what remains without something."""
    groups = [runs] if options.ensemble else [[run] for run in runs]
    probing = options.probes and test.goals
    blind = trained_arms(runs, lambda folder: trained(folder, options.device)) if probing else {}
    probes = test_time_probes(with_vision=bool(runs[0].feature_dim)) if probing else ()
    count = len(groups) * (options.draws + len(probes)) + sum(map(len, blind.values()))
    arms = []
    with progress(count * len(test.episodes), unit="walks") as bar:
        watch = Watch(bar, title)
        walks = [
            walked(group, test, options, seed=draw, watch=watch) for group in groups for draw in range(options.draws)
        ]
        for name, each in blind.items():
            watch.arm = f"{name.replace('_', ' ')} (trained)"
            note = "" if len(each) == len(runs) else f"trained for {len(each)} of {len(runs)} runs"
            found = rows([walked([run], test, options, watch=watch) for run in each])
            arms.append(report.Arm(watch.arm, "trained", found, note))
        for probe in probes:
            watch.arm = probe.name
            changed = [
                walked(group, test, options, change=probe.world, transform=probe.observation, watch=watch)
                for group in groups
            ]
            arms.append(report.Arm(probe.name, "test-time", rows(changed)))
    return walks, arms


def fixed_seeds(name: str, test: Test, seeds: int) -> list[list[Walk]]:
    """The walks of an agent that needs no training, once for each seed where chance decides."""
    agent = fixed_agent(name, test.demonstrated() if name == "prior" else None)
    return [fixed_walks(agent, test.world(), seed) for seed in range(seeds if name in ("random", "prior") else 1)]


def fixed_arms(test: Test, options: EvalOptions) -> list[report.Arm]:
    """The agents that need no training, the judged one left out; the prior where there are demonstrations."""
    return [
        report.Arm(FIXED_LABELS.get(name, name), "fixed", rows(fixed_seeds(name, test, max(options.seeds, SEEDS))))
        for name in FIXED_AGENTS
        if name != options.agent and (name != "prior" or test.demonstrations is not None)
    ]


def rows(walks: Sequence[Sequence[Walk]]) -> tuple[report.Row, ...]:
    """A row for each metric, with intervals over paths, each drawn whole, and the spread over seeds."""
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
    if test.no_prior:
        notes.append(f"the action prior is left out: {test.no_prior}")
    episodes, file = test.episodes, test.splits.files[test.split]
    names = {episode.scan for episode in episodes}
    graphs = [test.splits.folder / f"{name}_connectivity.json" for name in names]
    minutes = [run.minutes for run in runs]
    return report.report(
        title,
        task="r2r",
        split=test.split,
        ids=[episode.id for episode in episodes],
        metrics=rows(walks),
        arms=arms,
        seeds=seeds,
        data=[report.data_file(file, len(episodes)), report.data_files(graphs, "graphs")],
        device=report.device_name(test.device),
        minutes=sum(minutes) / len(minutes) if minutes else None,
        notes=notes,
        headline=HEADLINE,
        resampled="paths",
    )


def trajectory(walk: Walk) -> Trajectory:
    """The walk as a submission has it."""
    viewpoints, headings, elevations = zip(*walk.trajectory, strict=True)
    return Trajectory(walk.episode.id, viewpoints, headings, elevations)


@dataclass(frozen=True)
class Explained:
    """Walks with what pictures of them need."""

    walks: Sequence[Walk]
    split: str
    scans: Mapping[str, Scan]
    tokens: Callable[[Episode], list[str]]  # what the agent read, a word for each column of the attention


def walks_of(options: EvalOptions, episodes: Sequence[str] = ()) -> Explained:
    """The walks of the first of the runs, with attention; of these episodes, or of the whole split."""
    run = trained(options.runs[0], options.device)
    test = tested(options, [run])
    if episodes:
        every = {episode.id: episode for episode in test.episodes}
        for name in episodes:
            if name not in every:
                raise UserError(f"{test.split} has no episode {name!r}.{nearest(name, every)}")
        test.splits.episodes[test.split] = [every[name] for name in episodes]
    read = read_world(run, test).episodes
    words = {
        episode.id: [run.tokenizer.words[i] for i in ids[mask].tolist()]
        for episode, ids, mask in zip(read.episodes, read.words, read.mask, strict=True)
    }
    if run.settings.instruction == "none":  # one unknown word, which is none of the instruction's
        words = {name: ["(no instruction)"] for name in words}
    with progress(len(read.episodes), unit="walks") as bar:
        walks = walked([run], test, options, attention=True, watch=Watch(bar, run.folder.name))
    return Explained(walks=walks, split=test.split, scans=test.splits.scans, tokens=lambda episode: words[episode.id])
