"""Judging navigators: walks of trained runs and of agents that need no training, probes beside them, a report card."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from vlkit import checkpoint, config, report
from vlkit.envs.episodes import Episode
from vlkit.envs.navigation import METRICS, turn_of
from vlkit.errors import UserError
from vlkit.evaluation import Watch, check_seeds, trained_arms, trained_minutes, weights_folder, wrong_usage
from vlkit.processes import is_first, join, launched, side_by_side
from vlkit.progress import progress
from vlkit.tasks.navigation.data import Split, World, read_split, some
from vlkit.tasks.navigation.metrics import LABELS
from vlkit.tasks.navigation.model import NavigationPolicy
from vlkit.tasks.navigation.probes import (
    FIXED_AGENTS,
    ActionPrior,
    Probe,
    blanked,
    disorder,
    exchange,
    test_time_probes,
)
from vlkit.tasks.navigation.rollouts import Walk, fixed_walks, policy_walks
from vlkit.tasks.navigation.settings import LEVELS, Config, Level, built_policy
from vlkit.tasks.navigation.submission import write_submission
from vlkit.tasks.navigation.training import DEVICES, FREE, opened
from vlkit.text import Tokenizer
from vlkit.train import chosen_device

BLIND_PIXELS = 8  # of frames that nobody looks at
HEADLINE = ("success", "spl", "goal_room", "distance_to_goal", "oracle_success", "ndtw")
SPLIT = "val_unseen"  # where nothing else is said
PRIOR_SPLIT = "train"
SEEDS = 3  # of the agents beside the score that act by chance, at least
FIXED_LABELS = {"prior": "action prior", "shortest": "shortest path"}
MAY_DIFFER = (*FREE, "seed", "device", "begin_with")  # between runs that are seeds of one experiment
LENGTHS_M = (0.0, 4.0, 6.0, 8.0, 10.0, 14.0)  # bounds of the table by path length


@dataclass(frozen=True)
class EvalOptions:
    """Judge trained navigators, or an agent that needs no training, on a split."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders that `vlkit train` wrote; several are seeds of one experiment and give mean and spread"""
    agent: Literal["stop", "random", "shortest", "prior"] | None = None
    """an agent that needs no training, in the place of runs"""
    split: str = SPLIT
    """what is walked"""
    levels: tuple[Level, ...] | None = None
    """which of its episodes; those that the runs learned from"""
    probes: bool = False
    """also walk it with parts of the input taken away; agents that need no training stand beside the score always"""
    episodes: int | None = None
    """so many of them, drawn evenly; all where it is not given"""
    seeds: int = 1
    """how often agents that act by chance walk the split"""
    data: Path | None = None
    """where the episodes lie; runs know where they learned"""
    scenes: Path | None = None
    """folder of the scenes; DATA/scenes where it is not given"""
    output: Path | None = None
    """folder for report and submission; RUN/eval/SPLIT, or eval/AGENT-SPLIT"""
    num_envs: int = 64
    """environments that walk at once; no number depends on it"""
    processes: int = 1
    """CPU processes that share the walks; no number depends on it. torchrun and accelerate start their own"""
    skip: bool = False
    """leave out, and count, episodes that cannot be walked; else they are an error"""
    device: Literal["cpu", "cuda"] | None = None
    """where to run; the GPU where there is one"""

    def __post_init__(self) -> None:
        if (self.agent is None) == (not self.runs):
            raise ValueError("name the runs to judge, or an --agent, and not both")
        for name in ("seeds", "num_envs", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, expected at least 1")
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"episodes = {self.episodes}, expected at least 1")


@dataclass(frozen=True)
class Trained:
    """A run that can walk."""

    folder: Path
    settings: Config
    policy: NavigationPolicy
    tokenizer: Tokenizer
    minutes: float


def trained(folder: Path, device: str | None) -> Trained:
    """The run's best weights; its last ones where it chose none. UserError where the folder is no run."""
    config.run_file(folder)
    best = weights_folder(folder)
    values, tensors = checkpoint.load_weights(best)
    categories = values.pop("categories", [])
    settings = config.from_dict(Config, values, best / checkpoint.CONFIG)
    tokenizer = Tokenizer.load(best / "tokenizer.json")
    policy = built_policy(settings, vocabulary=tokenizer.size, categories=len(categories))
    checkpoint.restore(policy, tensors, best)
    return Trained(
        folder=folder,
        settings=settings,
        policy=policy.to(chosen_device(device, allowed=DEVICES)).eval(),
        tokenizer=tokenizer,
        minutes=trained_minutes(folder, folder / "reading", folder / "seeing"),
    )


@dataclass(eq=False)
class Test:
    """The split that is judged, and how it is walked."""

    split: Split
    data: Path
    settings: Config
    device: torch.device
    worlds: dict[str, World] = field(default_factory=dict)

    def world(self, tokenizer: Tokenizer | None = None) -> World:
        """The split in this tokenizer's words; without one, for agents that do not read, in the split's own."""
        key = "" if tokenizer is None else tokenizer.to_json()
        if key not in self.worlds:
            words = tokenizer or Tokenizer.train([episode.instruction for episode in self.split.episodes])
            settings = self.settings if tokenizer is not None else replace(self.settings, size=BLIND_PIXELS)
            self.worlds.clear()  # one environment at a time: scenes are large
            self.worlds = {key: opened(settings, self.split, words, self.device)}
            self.worlds[key].shared = launched()
        return self.worlds[key]


def evaluate(arguments: Sequence[str]) -> int:
    """`vlkit eval RUN ... --split val_unseen --probes`: writes report card and submission, prints the card."""
    options = config.load(EvalOptions, None, arguments, prog="vlkit eval")
    with side_by_side(options.processes, _evaluate, options):
        return _evaluate(options)


def _evaluate(options: EvalOptions) -> int:
    join()  # on gloo, whatever the device: it is walks that are gathered, no gradients
    if options.agent is not None and options.data is None:
        wrong_usage(
            "an agent without a run needs --data FOLDER of houses or VLN-CE's episodes, or --annotations FOLDER and "
            "--connectivity FOLDER of graphs"
        )
    runs = [trained(folder, options.device) for folder in options.runs]
    check_seeds(runs, MAY_DIFFER)
    test = tested(options, runs)
    card, walks = judged(options, runs, test) if test.split.goals else (None, unjudged(options, runs, test))
    if not is_first():
        return 0
    folder = options.output or output_folder(options)
    report.remove(folder)
    for name, each in walks.items():
        write_submission(folder / f"submission{name if len(walks) > 1 else ''}.json", each)
    if card is None:
        print(f"{test.split.name} has no goals, so there is nothing to score here")  # noqa: T201
    else:
        report.write(card, folder)
        report.show(card)
    print(f"written: {folder}")  # noqa: T201
    return 0


def unjudged(options: EvalOptions, runs: Sequence[Trained], test: Test) -> dict[str, list[Walk]]:
    """The walks in a split that keeps its goals to itself, by what a file of them is called."""
    if options.agent is not None:
        raise UserError(
            f"{test.split.file} has no goals; walk it with a trained run, or judge the agent on another split"
        )
    with progress(len(runs) * len(test.split.episodes), unit="walks") as bar:
        watch = Watch(bar, test.split.name)
        return {f"-seed{run.settings.seed}": run_walks(run, test, watch=watch) for run in runs}


def judged(options: EvalOptions, runs: Sequence[Trained], test: Test) -> tuple[report.Report, dict[str, list[Walk]]]:
    """The report card, and the walks behind its main result by what a file of them is called."""
    counted = action_prior(test)
    prior = None if isinstance(counted, str) else counted
    arms: list[report.Arm] = []
    if options.agent is not None:
        if options.agent == "prior" and prior is None:
            raise UserError(f"there is no action prior to walk by: {counted}")
        title = f"{options.agent} agent"
        walks = fixed_seeds(options.agent, test, options, prior)
        seeds = list(range(len(walks)))
    else:
        title = f"{runs[0].settings.policy} agent"
        walks, arms = policy_results(title, runs, test, options)
        seeds = [run.settings.seed for run in runs]
    notes = learned_notes(runs, test.split.name)
    if isinstance(counted, str):
        notes.append(f"the action prior is left out: {counted}")
    if runs:  # the last one's world is open
        notes.append(unknown_words(runs[-1].tokenizer, test.world(runs[-1].tokenizer)))
        if skipped := test.world(runs[-1].tokenizer).env.skipped:
            notes.append(f"{skipped} episodes that cannot be walked were left out")
    arms += fixed_arms(test, options, prior)
    episodes = [walk.episode for walk in walks[0]]
    minutes = [run.minutes for run in runs]
    if any(episode.level is not None for episode in episodes):
        notes.append("the houses and instructions are generated: these scores say nothing about R2R-CE")
    card = report.report(
        title,
        task="navigation",
        split=test.split.name,
        ids=[episode.id for episode in episodes],
        metrics=rows(walks),
        arms=arms,
        seeds=seeds,
        data=[report.data_file(test.split.file)],
        device=report.device_name(test.device),
        minutes=sum(minutes) / len(minutes) if minutes else None,
        notes=notes,
        headline=HEADLINE,
        resampled="trajectories",
        parts=parts(walks),
    )
    return card, {f"-seed{seed}": each for seed, each in zip(seeds, walks, strict=True)}


def learned_notes(runs: Sequence[Trained], split: str) -> list[str]:
    """What of the runs' training makes their score on this split look better, or worse, than it is."""
    notes = []
    for run in runs:
        if split in (run.settings.train_split, run.settings.select_split):
            how = "learned" if split == run.settings.train_split else "was chosen"
            notes.append(f"{run.folder.name} {how} on this very split")
        begun = run.settings.begin_with
        if begun is not None and (begun / "config.toml").is_file():
            before = config.load(Config, begun / "config.toml", [])
            if split in (before.train_split, before.select_split):
                notes.append(f"{begun.name}, whose weights {run.folder.name} began with, learned on this very split")
    return notes + [note for run in runs if (note := unfinished(run))]


def unfinished(run: Trained) -> str:
    """That a training has not come to its end, or nothing."""
    steps = checkpoint.steps_saved(run.folder / "checkpoints")
    if not steps or steps[-1] >= run.settings.steps or run.settings.patience is not None:
        return ""
    return f"{run.folder.name} has trained {steps[-1]} of its {run.settings.steps} steps"


def unknown_words(tokenizer: Tokenizer, walked: World) -> str:
    """How much of the instructions the agent reads as the unknown word."""
    words = walked.words[walked.mask]
    share = float((words == tokenizer.unknown).float().mean())
    return f"{share:.1%} of the instructions' words are unknown to the agent, which learned {tokenizer.size} words"


def output_folder(options: EvalOptions) -> Path:
    """Where results lie that were given no place: beside the first run."""
    levels = "" if options.levels is None else "-" + "-".join(options.levels)
    if options.agent is not None:
        return Path("eval") / f"{options.agent}-{options.split}{levels}"
    together = f"-{len(options.runs)}seeds" if len(options.runs) > 1 else ""
    return options.runs[0] / "eval" / f"{options.split}{levels}{together}"


def tested(options: EvalOptions, runs: Sequence[Trained]) -> Test:
    """Reads the split; UserError where it, or the data that a run learned from, is gone."""
    settings = runs[0].settings if runs else Config(data=options.data or Path())
    data = options.data or settings.data
    if not data.exists():
        where = f"{runs[0].folder} was trained with data = {data}, which" if runs else f"{data}"
        raise UserError(f"{where} does not exist; say where it is with --data")
    split = read_split(data, options.split, options.levels or settings.levels)
    turn_deg = settings.turn_deg or turn_of(split.episodes)
    if options.episodes is not None:
        split = some(split, options.episodes)
    scenes = options.scenes or (settings.scenes if options.data is None else None)
    num_envs = min(options.num_envs, len(split.episodes))
    settings = replace(
        settings, data=data, scenes=scenes, num_envs=num_envs, turn_deg=turn_deg, skip=options.skip or settings.skip
    )
    return Test(split, data, settings, chosen_device(options.device, allowed=DEVICES))


def run_walks(
    run: Trained,
    test: Test,
    probe: Probe | None = None,
    *,
    films: Sequence[int] = (),
    watch: Callable[[int], None] | None = None,
) -> list[Walk]:
    """The split walked by a run, with something taken away where a probe is given."""
    walked = test.world(run.tokenizer)
    if probe is not None and (probe.exchanged or probe.disordered):
        walked = changed(walked, probe)
    blank = (*run.settings.blank, *(probe.blank if probe else ()))
    transform = blanked(blank, run.tokenizer.unknown)
    try:
        return policy_walks(run.policy, walked, transform=transform, films=films, watch=watch)
    finally:
        walked.env.tell(test.world(run.tokenizer).words, test.world(run.tokenizer).mask)


def changed(walked: World, probe: Probe) -> World:
    """The world with each episode's instruction exchanged for another's, or its words in a random order."""
    words, mask = walked.words, walked.mask
    if probe.exchanged:
        source = exchange(walked.episodes)
        words, mask = words[source], mask[source]
    if probe.disordered:
        words = disorder(words, mask)
    walked.env.tell(words, mask)
    return walked


def policy_results(
    title: str, runs: Sequence[Trained], test: Test, options: EvalOptions
) -> tuple[list[list[Walk]], list[report.Arm]]:
    """The walks of each run, and where probes are wanted what remains without something."""
    settings = runs[0].settings
    blind = trained_arms(runs, lambda folder: trained(folder, options.device)) if options.probes else {}
    probes = test_time_probes(settings.rgb, settings.depth) if options.probes else ()
    count = len(runs) * (1 + len(probes)) + sum(map(len, blind.values()))
    arms = []
    with progress(count * len(test.split.episodes), unit="walks") as bar:
        watch = Watch(bar, title)
        walks = [run_walks(run, test, watch=watch) for run in runs]
        for name, each in blind.items():
            watch.arm = f"{name.replace('_', ' ')} (trained)"
            told = [] if len(each) == len(runs) else [f"trained for {len(each)} of {len(runs)} runs"]
            note = "; ".join([*told, *filter(None, map(unfinished, each))])
            found = rows([run_walks(run, test, watch=watch) for run in each])
            arms.append(report.Arm(watch.arm, "trained", found, note))
        for probe in probes:
            watch.arm = probe.name
            arms.append(
                report.Arm(probe.name, "test-time", rows([run_walks(run, test, probe, watch=watch) for run in runs]))
            )
    return walks, arms


def action_prior(test: Test) -> ActionPrior | str:
    """Of the training split's demonstrations of the levels that are walked, or why there is none."""
    levels = {episode.level for episode in test.split.episodes}
    try:
        train = read_split(test.data, PRIOR_SPLIT, [level for level in LEVELS if level in levels] or LEVELS)
    except UserError as error:  # the score stands without it, and the card says why it is not there
        return str(error).partition("\n")[0]
    walked = [train.demonstrations[each.id] for each in train.episodes if each.id in train.demonstrations]
    return ActionPrior.counted(walked) if walked else f"{train.file} comes without demonstrations"


def fixed_seeds(name: str, test: Test, options: EvalOptions, prior: ActionPrior | None) -> list[list[Walk]]:
    """The walks of an agent that needs no training, once for each seed where chance decides."""
    count = max(options.seeds, SEEDS) if name in ("random", "prior") else 1
    return [fixed_walks(name, test.world(), prior=prior, seed=seed) for seed in range(count)]


def fixed_arms(test: Test, options: EvalOptions, prior: ActionPrior | None) -> list[report.Arm]:
    """The agents that need no training, the judged one left out; the prior where there is one."""
    return [
        report.Arm(FIXED_LABELS.get(name, name), "fixed", rows(fixed_seeds(name, test, options, prior)))
        for name in FIXED_AGENTS
        if name != options.agent and (name != "prior" or prior is not None)
    ]


def rows(walks: Sequence[Sequence[Walk]]) -> tuple[report.Row, ...]:
    """A row for each metric, with intervals over trajectories, each drawn whole, and the spread over seeds."""
    tables = [[[walk.metrics[name] for name in METRICS] for walk in each] for each in walks]
    names = [walk.episode.trajectory_id for walk in walks[0]]
    return report.rows(tables, METRICS, groups=np.unique(names, return_inverse=True)[1], labels=LABELS)


def parts(walks: Sequence[Sequence[Walk]]) -> list[report.Part]:
    """The result by level, by length of the shortest path, by rooms that it passes, and by detail of the instruction."""
    episodes = [walk.episode for walk in walks[0]]
    by: dict[str, dict[str, list[int]]] = {"level": {}, "path length": {}, "rooms": {}, "instruction": {}}
    for i, episode in enumerate(episodes):
        if episode.level is not None:
            by["level"].setdefault(episode.level, []).append(i)
        by["path length"].setdefault(length_name(episode), []).append(i)
        for name, key in (("rooms", "rooms"), ("instruction", "detail")):
            if key in episode.info:
                by[name].setdefault(str(episode.info[key]), []).append(i)
    orders: dict[str, list[str]] = {
        "level": list(LEVELS),
        "path length": [length_label(i) for i in range(len(LENGTHS_M))],
        "rooms": sorted(by["rooms"], key=lambda name: (len(name), name)),
        "instruction": ["fine", "medium", "coarse"],
    }
    return [
        report.Part(name, label, len(own), rows([[each[i] for i in own] for each in walks]))
        for name, groups in by.items()
        for label, own in sorted(groups.items(), key=lambda item: orders[name].index(item[0]))
        if len(groups) > 1
    ]


def length_name(episode: Episode) -> str:
    """To which part an episode belongs by the length of its shortest path."""
    return length_label(sum(episode.geodesic_distance >= bound for bound in LENGTHS_M) - 1)


def length_label(number: int) -> str:
    """As the table calls the part between two bounds."""
    low = LENGTHS_M[number]
    return f"{low:g} to {LENGTHS_M[number + 1]:g} m" if number + 1 < len(LENGTHS_M) else f"{low:g} m and more"
