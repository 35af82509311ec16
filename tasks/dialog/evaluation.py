"""Judging models that answer in dialogs: trained runs, priors and blind arms beside them, a report card, EvalAI's files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlkit import checkpoint, config, report
from vlkit.encoders.image import GridFeatures
from vlkit.errors import UserError
from vlkit.evaluation import Watch, check_seeds, learned_notes, trained_arms, trained_minutes, weights_folder
from vlkit.files import write_atomic
from vlkit.picture_tasks import PictureEvalOptions
from vlkit.progress import progress
from vlkit.statistics import paired_difference
from vlkit.tasks.dialog.data import OPTIONS, Dialogs, Format, read_dialogs, some, with_options
from vlkit.tasks.dialog.metrics import LABELS, METRICS, ndcg, ranks, retrieval, right_ranks
from vlkit.tasks.dialog.model import DialogModel
from vlkit.tasks.dialog.probes import TEST_TIME, Prior, Probe, answer_prior, question_prior, shuffled
from vlkit.tasks.dialog.settings import Config, built_model
from vlkit.tasks.dialog.training import FREE, Reading, Talks, ranked, splits, talks
from vlkit.text import Tokenizer
from vlkit.train import chosen_device

NDCG = {"ndcg": "fraction"}
MAY_DIFFER = (*FREE, "seed", "device", "processes")  # between runs that are seeds of one experiment
OWN_ENTRIES = ("known", "pool", "feature_dim", "feature_shape")  # of a run's config, beside the settings
HISTORY_NAMES = {True: "needs history", False: "needs none"}


@dataclass(frozen=True, kw_only=True)
class EvalOptions(PictureEvalOptions):
    """Judge models that answer questions in a dialog."""

    dialogs: int | None = None
    """so many of them, drawn evenly; all where it is not given"""
    form: Format | None = None
    """whose files they are; found out where it is not given"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dialogs is not None and self.dialogs < 1:
            raise ValueError(f"dialogs = {self.dialogs}, expected at least 1")


@dataclass(frozen=True)
class Trained:
    """A run that can answer."""

    folder: Path
    settings: Config
    model: DialogModel
    tokenizer: Tokenizer
    known: tuple[str, ...]  # common answers, for talks
    pool: tuple[str, ...]  # more of them, for dialogs that come without options
    minutes: float


def trained(folder: Path, device: str | None) -> Trained:
    """The run's best weights; its last ones where it chose none. UserError where the folder is no run."""
    config.run_file(folder)
    best = weights_folder(folder)
    values, tensors = checkpoint.load_weights(best)
    own = {name: values.pop(name, None) for name in OWN_ENTRIES}
    settings = config.from_dict(Config, values, best / checkpoint.CONFIG)
    tokenizer = Tokenizer.load(best / "tokenizer.json")
    shape = own["feature_shape"] or None
    model = built_model(
        settings,
        vocabulary=tokenizer.size,
        feature_dim=own["feature_dim"] or 0,
        shape=None if shape is None else (shape[0], shape[1]),
    )
    checkpoint.restore(model, tensors, best)
    return Trained(
        folder=folder,
        settings=settings,
        model=model.to(chosen_device(device)).eval(),
        tokenizer=tokenizer,
        known=tuple(own["known"] or ()),
        pool=tuple(own["pool"] or own["known"] or ()),
        minutes=trained_minutes(folder),
    )


def judged_dialogs(run: Trained, options: EvalOptions) -> Dialogs:
    """The dialogs that are judged; those that come without options get some of the answers that the run knows."""
    data = options.data or run.settings.data
    if data is not None and not data.exists():
        raise UserError(
            f"{run.folder} was trained with data = {data}, which does not exist; say where it is with --data"
        )
    form = options.form or (run.settings.form if options.data is None else None)
    found = with_options(read_dialogs(data, form, options.split, whatever=options.data is not None), run.pool)
    if options.dialogs is None or options.dialogs >= len(found.dialogs):
        return found
    generator = torch.Generator().manual_seed(0)
    kept = torch.randperm(len(found.dialogs), generator=generator)[: options.dialogs].sort().values.tolist()
    return some(found, [found.dialogs[i] for i in kept])


def asked_of(run: Trained, options: EvalOptions, dialogs: Dialogs) -> Talks:
    """The split that is judged, as a run reads it."""
    settings = replace(
        run.settings,
        features=options.features or run.settings.features,
        skip_missing=options.skip_missing or run.settings.skip_missing,
    )
    # Pictures of other data are not where those of the training are.
    images = options.images or (settings.images if options.data is None else dialogs.images)
    found = talks(settings, dialogs, run.tokenizer, images)
    learned = run.model.image if isinstance(run.model.image, GridFeatures) else None
    wanted = (
        "pictures" if learned is None else f"features of {learned.shape[0]}x{learned.shape[1]} patches of {learned.dim}"
    )
    shape = found.images.shape
    there = (
        "pictures" if shape is None else f"features of {shape[0]}x{shape[1]} patches of {found.images.values.shape[2]}"
    )
    if wanted != there:
        raise UserError(
            f"{run.folder} learned from {wanted}, and these are {there}; name such with --images or --features"
        )
    found.reading = Reading.of(settings)
    return found


def evaluate(arguments: Sequence[str]) -> int:
    """`vlkit eval RUN ... --split test --probes`: writes report card and ranks, prints the card."""
    options = config.load(EvalOptions, None, arguments, prog="vlkit eval")
    runs = [trained(folder, options.device) for folder in options.runs]
    check_seeds(runs, MAY_DIFFER)
    dialogs = judged_dialogs(runs[0], options)
    told = any(bool((dialog.right >= 0).any()) for dialog in dialogs.dialogs)
    folder = options.folder
    blind = trained_arms(runs, lambda place: trained(place, options.device)) if options.probes and told else {}
    probes = TEST_TIME if options.probes and told else ()
    count = dialogs.rounds * (len(runs) * (1 + len(probes)) + sum(map(len, blind.values())))
    with progress(count, unit="rounds") as bar:
        watch = Watch(bar, "the model")
        said = [answered(run, options, dialogs, watch=watch) for run in runs]
        arms: dict[str, tuple[report.Kind, list[Said]]] = {}
        for name, each in blind.items():
            watch.arm = f"{name.replace('_', ' ')} (trained)"
            arms[watch.arm] = "trained", [answered(run, options, dialogs, watch=watch) for run in each]
        for probe in probes:
            watch.arm = probe.name
            found = [answered(run, options, dialogs, probe, watch=watch) for run in runs]
            arms[probe.name] = "test-time", found
    report.remove(folder)
    for run, own in zip(runs, said, strict=True):
        name = f"ranks-seed{run.settings.seed}.json" if len(runs) > 1 else "ranks.json"
        write_ranks(folder / name, own)
    if told:
        for name, prior in priors(runs[0]).items():
            arms[name] = "fixed", [Said(said[0].asked, prior.scores(said[0].asked.source))]
        card = report_card(runs, options, said, arms)
        report.write(card, folder)
        report.show(card)
    else:
        print(f"{dialogs.name} keeps its answers, so there is nothing to score here")  # noqa: T201
    print(f"written: {folder}")  # noqa: T201
    return 0


@dataclass(frozen=True, eq=False)
class Said:
    """The scores of a split's options."""

    asked: Talks
    scores: list[np.ndarray]  # of each dialog (rounds, options), -inf where there is none

    def table(self) -> np.ndarray:
        """(rounds that are told, metrics), in the order of METRICS"""
        own = [
            right_ranks(each[told], dialog.right[told])
            for dialog, each in zip(self.asked.dialogs, self.scores, strict=True)
            if (told := dialog.right >= 0).any()
        ]
        return retrieval(np.concatenate(own))

    def gains(self) -> np.ndarray:
        """(rounds with dense relevance,) NDCG, in the order of the dialogs"""
        places = {dialog.id: i for i, dialog in enumerate(self.asked.dialogs)}
        found = [
            float(ndcg(self.scores[places[name]][[turn]], relevance[None])[0])
            for (name, turn), relevance in sorted(self.asked.source.relevance.items())
            if name in places
        ]
        return np.array([each for each in found if not np.isnan(each)])


def answered(
    run: Trained, options: EvalOptions, dialogs: Dialogs, probe: Probe | None = None, watch: Watch | None = None
) -> Said:
    """How a run ranks the options, with something taken away where a probe is given."""
    asked = asked_of(run, options, dialogs)
    blank = (*run.settings.blank, *(probe.blank if probe else ()))
    other = shuffled(asked.dialogs) if probe is not None and probe.shuffled else None
    return Said(asked, ranked(run.model, asked, blank, past_of=other, watch=watch))


def priors(run: Trained) -> dict[str, Prior]:
    """Counted in what the run learned from; none where that is gone."""
    try:
        train, _ = splits(run.settings)
    except UserError:
        return {}
    return {"answer prior": answer_prior(train), "question prior": question_prior(train)}


def report_card(
    runs: Sequence[Trained],
    options: EvalOptions,
    said: Sequence[Said],
    arms: Mapping[str, tuple[report.Kind, list[Said]]],
) -> report.Report:
    """Ranks with their intervals over dialogs, NDCG beside them, priors and blind arms, and what the past is good for."""
    asked = said[0].asked
    rounds = told_rounds(asked)
    groups = np.array([dialog for dialog, _ in rounds])

    def rows(each: Sequence[Said]) -> tuple[report.Row, ...]:
        found = report.rows([one.table() for one in each], METRICS, groups=groups, labels=LABELS)
        gains = [one.gains() for one in each]
        if len(gains[0]):
            found += report.rows([one[:, None] for one in gains], NDCG, labels=LABELS)
        return found

    notes = learned_notes(runs, options.split)
    past = history_note(said, arms, rounds)
    notes += [past] if past else []
    if asked.left_out:
        notes.append(f"{asked.left_out} dialogs whose picture is missing or damaged were left out")
    annotated = len(said[0].gains())
    if annotated:
        notes.append(f"NDCG is of the {annotated} rounds that tell how right each option is")
    minutes = [run.minutes for run in runs]
    settings = runs[0].settings
    return report.report(
        f"{settings.encoder} encoder, {settings.decoder} decoder",
        task="dialog",
        split=asked.source.name,
        ids=[f"{asked.dialogs[dialog].id} {turn + 1}" for dialog, turn in rounds],
        metrics=rows(said),
        arms=[report.Arm(name, kind, rows(each)) for name, (kind, each) in arms.items()],
        seeds=[run.settings.seed for run in runs],
        data=[report.data_file(file) for file in asked.source.files],
        device=report.device_name(chosen_device(options.device)),
        minutes=sum(minutes) / len(minutes),
        notes=notes,
        headline=("mrr", "r@1", *(["ndcg"] if annotated else [])),
        resampled="dialogs",
        parts=parts(said, rounds),
    )


def told_rounds(asked: Talks) -> list[tuple[int, int]]:
    """The rounds whose right option is known, each (dialog, round)."""
    return [(i, int(turn)) for i, dialog in enumerate(asked.dialogs) for turn in np.nonzero(dialog.right >= 0)[0]]


def needing(asked: Talks, rounds: Sequence[tuple[int, int]]) -> np.ndarray | None:
    """(rounds,) whether each needs the past; None where the set does not tell."""
    known = [asked.dialogs[dialog].turns[turn].needs_history for dialog, turn in rounds]
    return None if any(each is None for each in known) else np.array(known, bool)


def history_note(
    said: Sequence[Said],
    arms: Mapping[str, tuple[report.Kind, list[Said]]],
    rounds: Sequence[tuple[int, int]],
) -> str:
    """How much better R@1 is with the past than without it where it is needed, or nothing where that is not known."""
    need = needing(said[0].asked, rounds)
    name = next((each for each in ("no history (trained)", "no history") if each in arms), None)
    if need is None or name is None or not need.any():
        return ""
    column = list(METRICS).index("r@1")
    full, blind = (np.mean([one.table()[need, column] for one in each], axis=0) for each in (said, arms[name][1]))
    groups = np.array([dialog for dialog, _ in rounds])[need]
    found = paired_difference(full, blind, groups=groups)
    return (
        f"where the past is needed, R@1 is {100 * found.mean:+.1f} points above {name}: {100 * full.mean():.1f} beside "
        f"{100 * blind.mean():.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f}, p = {found.p_value:.2g})"
    )


def parts(said: Sequence[Said], rounds: Sequence[tuple[int, int]]) -> list[report.Part]:
    """The result by whether the past is needed, and by round."""
    asked = said[0].asked
    tables = [one.table() for one in said]
    groups = np.array([dialog for dialog, _ in rounds])
    need = needing(asked, rounds)
    by: list[tuple[str, list[str]]] = []
    if need is not None:
        by.append(("history", [HISTORY_NAMES[bool(each)] for each in need]))
    by.append(("round", [str(turn + 1) for _, turn in rounds]))
    found = []
    for title, names in by:
        for name in dict.fromkeys(sorted(names, key=lambda each: (len(each), each))):
            places = np.array([i for i, each in enumerate(names) if each == name])
            rows = report.rows([table[places] for table in tables], METRICS, groups=groups[places], labels=LABELS)
            found.append(report.Part(title, name, len(places), rows))
    return found


def write_ranks(file: Path, said: Said) -> None:
    """The ranks as EvalAI takes them, of every round that has options: [{image_id, round_id (from 1), ranks}]."""
    rows: list[dict[str, Any]] = []
    for dialog, scores in zip(said.asked.dialogs, said.scores, strict=True):
        for turn, own in enumerate(scores):
            there = dialog.options[turn] >= 0
            if not there.any():
                continue
            # EvalAI asks for whole numbers, each once: of options that are scored alike the first is ranked first.
            found = ranks(own[None, there], "compat")[0].astype(int).tolist()
            name = int(dialog.id) if dialog.id.isdigit() and len(found) == OPTIONS else dialog.id
            rows.append({"image_id": name, "round_id": turn + 1, "ranks": found})
    with write_atomic(file) as temporary:
        temporary.write_text(json.dumps(rows, separators=(",", ":")) + "\n", encoding="utf-8")
