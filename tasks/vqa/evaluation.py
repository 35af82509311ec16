"""Judging models that answer: trained runs, priors and blind arms beside them, a report card, files for the judges."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlkit import checkpoint, config, report
from vlkit.errors import UserError
from vlkit.evaluation import Watch, check_seeds, learned_notes, trained_arms, trained_minutes, weights_folder
from vlkit.files import write_atomic
from vlkit.picture_tasks import PictureEvalOptions
from vlkit.progress import progress
from vlkit.statistics import paired_difference
from vlkit.tasks.vqa.examples import Example, Examples, Format, chosen, found_form, read_examples, soft_score
from vlkit.tasks.vqa.metrics import accuracy, calibration_error, consistency, normalised
from vlkit.tasks.vqa.model import VQAModel
from vlkit.tasks.vqa.probes import BLIND, TEST_TIME, Prior, Probe, answer_prior, exchanged, question_prior
from vlkit.tasks.vqa.settings import Config, built_model
from vlkit.tasks.vqa.training import FREE, Answerable, answerable, scored, splits
from vlkit.text import Tokenizer
from vlkit.train import chosen_device

METRICS = {"accuracy": "fraction"}
LABELS = {"calibration_error": "calibration error", "consistency": "consistent over wordings"}
MAY_DIFFER = (*FREE, "seed", "device", "processes")  # between runs that are seeds of one experiment
OWN_ENTRIES = (
    "answer_list",
    "choice_list",
    "feature_dim",
    "feature_shape",
    "pointing",
)  # of a run's config, beside the settings


@dataclass(frozen=True, kw_only=True)
class EvalOptions(PictureEvalOptions):
    """Judge models that answer questions about pictures."""

    questions: int | None = None
    """so many of them, drawn evenly; all where it is not given"""
    form: Format | None = None
    """whose files they are; found out where it is not given"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.questions is not None and self.questions < 1:
            raise ValueError(f"questions = {self.questions}, expected at least 1")


@dataclass(frozen=True)
class Trained:
    """A run that can answer."""

    folder: Path
    settings: Config
    model: VQAModel
    tokenizer: Tokenizer
    vocabulary: tuple[str, ...]  # common answers; none for one that scores candidates
    known: tuple[str, ...]  # common candidates; none for one that knows common answers
    minutes: float


def trained(folder: Path, device: str | None) -> Trained:
    """The run's best weights; its last ones where it chose none. UserError where the folder is no run."""
    config.run_file(folder)
    best = weights_folder(folder)
    values, tensors = checkpoint.load_weights(best)
    own = {name: values.pop(name, None) for name in OWN_ENTRIES}
    settings = config.from_dict(Config, values, best / checkpoint.CONFIG)
    tokenizer = Tokenizer.load(best / "tokenizer.json")
    vocabulary = tuple(own["answer_list"] or ())
    shape = own["feature_shape"] or None
    model = built_model(
        settings,
        vocabulary=tokenizer.size,
        answers=len(vocabulary),
        feature_dim=own["feature_dim"] or 0,
        shape=None if shape is None else (shape[0], shape[1]),
        pointing=bool(own["pointing"]),
    )
    checkpoint.restore(model, tensors, best)
    return Trained(
        folder=folder,
        settings=settings,
        model=model.to(chosen_device(device)).eval(),
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        known=tuple(own["choice_list"] or ()),
        minutes=trained_minutes(folder),
    )


def asked_of(run: Trained, options: EvalOptions, examples: Examples | None = None) -> Answerable:
    """The split that is judged, as a run reads it."""
    settings = run.settings
    data = options.data or settings.data
    if data is not None and not data.exists():
        raise UserError(
            f"{run.folder} was trained with data = {data}, which does not exist; say where it is with --data"
        )
    examples = examples or test_examples(run, options)
    settings = replace(
        settings,
        features=options.features or settings.features,
        skip_missing=options.skip_missing or settings.skip_missing,
    )
    if (run.model.region is not None) != (examples.pointing and not run.vocabulary):
        kinds = "boxes", "texts"
        learned, there = kinds if run.model.region is not None else kinds[::-1]
        raise UserError(
            f"{run.folder} learned to choose among {learned}, and the choices of {examples.name} are {there}"
        )
    if not run.vocabulary and not examples.multiple_choice:
        raise UserError(f"{run.folder} scores candidates, and not every question of {examples.name} has some")
    # Pictures of other data are not where those of the training are.
    images = options.images or (settings.images if options.data is None else examples.images)
    return answerable(settings, examples, run.tokenizer, run.vocabulary, images)


def test_examples(run: Trained, options: EvalOptions) -> Examples:
    """The questions that are judged."""
    form = options.form or (run.settings.form if options.data is None else None)
    examples = read_examples(options.data or run.settings.data, form, options.split)
    if options.questions is None or options.questions >= len(examples.examples):
        return examples
    generator = torch.Generator().manual_seed(0)
    kept = torch.randperm(len(examples.examples), generator=generator)[: options.questions].sort().values.tolist()
    asked = tuple(examples.asked[i] for i in kept) if examples.asked else ()
    return replace(examples, examples=tuple(examples.examples[i] for i in kept), asked=asked)


def evaluate(arguments: Sequence[str]) -> int:
    """`vlkit eval RUN ... --split test --probes`: writes report card and predictions, prints the card."""
    options = config.load(EvalOptions, None, arguments, prog="vlkit eval")
    runs = [trained(folder, options.device) for folder in options.runs]
    check_seeds(runs, MAY_DIFFER)
    examples = test_examples(runs[0], options)
    told = any(example.told for example in examples.examples)
    folder = options.folder
    blind = trained_arms(runs, lambda place: trained(place, options.device)) if options.probes and told else {}
    probes = TEST_TIME if options.probes and told else ()
    count = len(examples.examples) * (len(runs) * (1 + len(probes)) + sum(map(len, blind.values())))
    with progress(count, unit="questions") as bar:
        watch = Watch(bar, "the model")
        said = [answered(run, options, examples, watch=watch) for run in runs]
        arms: dict[str, tuple[report.Kind, list[Said]]] = {}
        for name, each in blind.items():
            watch.arm = f"{name.replace('_', ' ')} (trained)"
            arms[watch.arm] = "trained", [answered(run, options, examples, watch=watch) for run in each]
        for probe in probes:
            watch.arm = probe.name
            found = [answered(run, options, examples, probe, watch=watch) for run in runs]
            arms[probe.name] = "test-time", found
    report.remove(folder)
    for run, own in zip(runs, said, strict=True):
        name = f"predictions-seed{run.settings.seed}.json" if len(runs) > 1 else "predictions.json"
        write_predictions(folder / name, own, form_of(runs[0], options))
    if told:
        for name, prior in priors(runs[0]).items():
            arms[name] = "fixed", [by_prior(prior, said[0].asked)]
        beside = {name: (kind, [told_of(one) for one in each]) for name, (kind, each) in arms.items()}
        card = report_card(runs, options, [told_of(one) for one in said], beside, len(examples.examples))
        report.write(card, folder)
        report.show(card)
    else:
        print(f"{examples.name} keeps its answers, so there is nothing to score here")  # noqa: T201
    print(f"written: {folder}")  # noqa: T201
    return 0


@dataclass(frozen=True, eq=False)
class Said:
    """The answers to the questions of a split."""

    asked: Answerable
    answers: list[str]
    chances: np.ndarray  # (questions,) how sure it was
    right: np.ndarray  # (questions,) 0 to 1; nan where nobody tells


def answered(
    run: Trained,
    options: EvalOptions,
    examples: Examples,
    probe: Probe | None = None,
    watch: Callable[[int], None] | None = None,
) -> Said:
    """What a run answers, with something taken away where a probe is given."""
    asked = asked_of(run, options, examples)
    blank = (*run.settings.blank, *(probe.blank if probe else ()))
    other = exchanged(asked.image_rows) if probe is not None and probe.exchanged else None
    scores = scored(run.model, asked, blank, image_of=other, watch=watch)
    if run.vocabulary:
        places = [int(each.argmax()) for each in scores]
        answers = [run.vocabulary[place] for place in places]
        chances = [1 / (1 + np.exp(-each[place])) for each, place in zip(scores, places, strict=True)]
    else:
        places = [chosen(example, each) for example, each in zip(asked.examples, scores, strict=True)]
        answers = [example.choices[place] for example, place in zip(asked.examples, places, strict=True)]
        chances = [1 / np.exp(each - each.max()).sum() for each in scores]
    return Said(asked, answers, np.array(chances), rights(asked, answers))


def told_of(said: Said) -> Said:
    """The answers to those questions whose right one is told."""
    source = said.asked.source
    kept = [i for i, example in enumerate(source.examples) if example.told]
    if len(kept) == len(source.examples):
        return said
    people = tuple(source.asked[i] for i in kept) if source.asked else ()
    told = replace(source, examples=tuple(source.examples[i] for i in kept), asked=people)
    return Said(replace(said.asked, source=told), [said.answers[i] for i in kept], said.chances[kept], said.right[kept])


def by_prior(prior: Prior, asked: Answerable) -> Said:
    """What a prior answers."""
    answers = [prior.answer(example) for example in asked.examples]
    return Said(asked, answers, np.zeros(len(answers)), rights(asked, answers))


def priors(run: Trained) -> dict[str, Prior]:
    """Counted in what the run learned from; none where that is gone."""
    try:
        train, _ = splits(run.settings)
    except UserError:
        return {}
    return {"answer prior": answer_prior(train.examples), "question prior": question_prior(train.examples)}


def rights(asked: Answerable, answers: Sequence[str]) -> np.ndarray:
    """(questions,) how right each answer is, by the rules of the set: the same choice, or agreement with people."""
    if asked.source.asked and not asked.source.multiple_choice:
        return accuracy(answers, asked.source.asked)
    return np.array([right(example, answer) for example, answer in zip(asked.examples, answers, strict=True)])


def right(example: Example, answer: str) -> float:
    """How right an answer is."""
    if example.right is not None:
        return float(answer == example.choices[example.right])
    if not example.answers:
        return float("nan")
    said = [normalised(each) for each in example.answers]
    return soft_score(said.count(normalised(answer)), len(said))


def report_card(
    runs: Sequence[Trained],
    options: EvalOptions,
    said: Sequence[Said],
    arms: Mapping[str, tuple[report.Kind, list[Said]]],
    count: int,
) -> report.Report:
    """Accuracy with its interval over pictures, calibration, consistency, priors and blind arms, and the visual gain.

    count: how many questions were asked.
    """
    asked = said[0].asked
    groups = asked.image_rows

    def rows(each: Sequence[Said]) -> tuple[report.Row, ...]:
        return report.rows([one.right[:, None] for one in each], METRICS, groups=groups)

    errors = [calibration_error(one.chances, one.right) for one in said]
    own = [
        report.Row("calibration_error", float(np.mean(errors)), seeds=tuple(errors), label=LABELS["calibration_error"])
    ]
    wordings = [example.same_as for example in asked.examples]
    agreeing = [consistency(wordings, one.answers) for one in said]
    if all(each is not None for each in agreeing):
        values = tuple(float(each) for each in agreeing if each is not None)
        own.append(report.Row("consistency", float(np.mean(values)), seeds=values, label=LABELS["consistency"]))
    notes = [note for note in (gain(said, arms, groups), *learned_notes(runs, options.split)) if note]
    if asked.left_out:
        notes.append(f"{asked.left_out} questions whose picture is missing or damaged were left out")
    if silent := count - asked.left_out - len(asked.examples):
        notes.append(f"{silent} questions tell no answer, so they are answered and not scored")
    chance = np.mean([1 / len(example.choices) for example in asked.examples]) if asked.source.multiple_choice else None
    if chance is not None:
        notes.append(f"guessing reaches {chance:.1%}")
    minutes = [run.minutes for run in runs]
    settings = runs[0].settings
    return report.report(
        f"{settings.fusion} model",
        task="vqa",
        split=asked.source.name,
        ids=[example.id for example in asked.examples],
        metrics=(*rows(said), *own),
        arms=[report.Arm(name, kind, rows(each)) for name, (kind, each) in arms.items()],
        seeds=[run.settings.seed for run in runs],
        data=[report.data_file(file) for file in asked.source.files],
        device=report.device_name(chosen_device(options.device)),
        minutes=sum(minutes) / len(minutes),
        notes=notes,
        headline=("accuracy",),
        resampled="pictures",
        parts=parts(said),
    )


def gain(said: Sequence[Said], arms: Mapping[str, tuple[report.Kind, list[Said]]], groups: np.ndarray) -> str:
    """How much better the model is than the best of those that do not look, or nothing where there is none."""
    blind = {name: np.mean([one.right for one in arms[name][1]], axis=0) for name in BLIND if name in arms}
    if not blind:
        return ""
    best = max(blind, key=lambda name: float(blind[name].mean()))
    full = np.mean([one.right for one in said], axis=0)
    found = paired_difference(full, blind[best], groups=groups)
    return (
        f"visual gain: {100 * found.mean:+.1f} points over {best}, the best of {len(blind)} that do not look "
        f"({100 * found.low:+.1f} to {100 * found.high:+.1f}, p = {found.p_value:.2g})"
    )


def parts(said: Sequence[Said]) -> list[report.Part]:
    """The result by type of question, and by kind where the set tells finer ones."""
    found = []
    groups = said[0].asked.image_rows
    for by in ("type", "kind"):
        own: dict[str, list[int]] = {}
        for i, example in enumerate(said[0].asked.examples):
            own.setdefault(getattr(example, by), []).append(i)
        for name, places in sorted(own.items()) if len(own) > 1 else ():
            table = report.rows([one.right[places, None] for one in said], METRICS, groups=groups[places])
            found.append(report.Part(by, name or "none", len(places), table))
    return found


def form_of(run: Trained, options: EvalOptions) -> Format:
    """Whose files the questions are."""
    data = options.data or run.settings.data
    form = options.form or run.settings.form
    return form or ("easy-vqa" if data is None else found_form(data))


def write_predictions(file: Path, said: Said, form: Format) -> None:
    """The answers as the set's own judge takes them: Visual7W's toolkit, EvalAI for VQA, `vlkit judge choices` for others."""
    rows: list[dict[str, Any]] = []
    for example, answer in zip(said.asked.examples, said.answers, strict=True):
        if form == "visual7w":
            said_as = int(answer) if example.boxes else answer
            rows.append({"qa_id": int(example.id), "candidates": [{"answer": said_as}]})
        elif form == "vqa":
            rows.append({"question_id": int(example.id), "answer": answer})
        elif form == "gqa":
            rows.append({"questionId": example.id, "prediction": answer})
        else:
            rows.append({"id": example.id, "answer": answer})
    with write_atomic(file) as temporary:
        temporary.write_text(json.dumps(rows) + "\n", encoding="utf-8")
