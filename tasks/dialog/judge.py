"""`vlkit judge visdial`: scores anybody's ranking of VisDial's options, strictly.

A predictions file is EvalAI's own: a JSON list of {image_id, round_id (from 1), ranks}, where ranks has the rank of each of the
100 options in the order of the dialogs file, 1 for the best. Options may share a rank; `fixed` and `compat` are those of
`metrics`. NDCG is of the rounds that have dense relevance, the others' metrics of all rounds that are told.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlkit import __version__
from vlkit.config import load
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.judging import CONFIDENCE, JudgeOptions, Problems, items_of, matched, refuse, sha256, shown, with_rows
from vlkit.statistics import bootstrap_intervals
from vlkit.tasks.dialog.data import OPTIONS, Dialogs, read_dense, read_visdial
from vlkit.tasks.dialog.metrics import LABELS, METRICS, Mode, ndcg, retrieval, right_ranks

SCHEMA = 1  # of the output file

KINDS = {
    "not_object": (
        "item is no object",
        "items are no objects",
        'write each as {"image_id": 185565, "round_id": 1, "ranks": [3, 1, 2, ...]}',
    ),
    "id": (
        "item has no usable image_id and round_id",
        "items have no usable image_id and round_id",
        "both are whole numbers, and rounds are counted from 1",
    ),
    "ranks": (
        "round has no usable ranks",
        "rounds have no usable ranks",
        f"give {OPTIONS} numbers from 1 to {OPTIONS}, one for each option in the dialogs' order, 1 for the best",
    ),
    "missing": (
        "round is not ranked",
        "rounds are not ranked",
        "rank each; --allow-missing scores the others, which is not the score of the split",
    ),
    "unknown": (
        "round is not among the dialogs",
        "rounds are not among the dialogs",
        "name the split that they are of (rounds are counted from 1); --allow-unknown ignores them",
    ),
    "duplicate": (
        "round is ranked more than once",
        "rounds are ranked more than once",
        "keep one ranking each; --allow-duplicates scores the first",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options(JudgeOptions):
    """Score a ranking of VisDial's options (v0.9, v1.0)."""

    predictions: Path
    """JSON list of {image_id, round_id, ranks}, plain or gzip"""
    dialogs: Path
    """VisDial's file of dialogs, plain or gzip"""
    dense: Path | None = None
    """VisDial's dense annotations, for NDCG"""
    mode: Mode = "fixed"
    """of options with one rank. fixed: the rank expected if their order is drawn. compat: in the dialogs' order"""


@dataclass(frozen=True)
class Judgement:
    """The scores of a ranking, in the dialogs' order."""

    mode: Mode
    rounds: tuple[tuple[str, int], ...]  # (items,) image and round, from 1
    table: NDArray[np.float64]  # (items, metrics), in the order of METRICS; nan where the answer is not told
    ndcg: NDArray[np.float64]  # (items,) nan where nobody tells how right options are
    counts: dict[str, int]

    @property
    def told(self) -> NDArray[np.bool_]:
        """(items,) whether the right option is known"""
        return ~np.isnan(self.table[:, 0])

    @property
    def summary(self) -> dict[str, float]:
        """Means, under the names of METRICS and `ndcg`."""
        found: dict[str, float] = {}
        if self.told.any():
            found.update(zip(METRICS, self.table[self.told].mean(axis=0).tolist(), strict=True))
        annotated = ~np.isnan(self.ndcg)
        return found | ({"ndcg": float(self.ndcg[annotated].mean())} if annotated.any() else {})

    def intervals(self, options: JudgeOptions) -> dict[str, tuple[float, float]]:
        """Bounds of each mean's 95 % bootstrap interval, over dialogs."""
        found: dict[str, tuple[float, float]] = {}
        images = np.array([image for image, _ in self.rounds])
        annotated = ~np.isnan(self.ndcg)
        for names, values, rows in (
            (tuple(METRICS), self.table, self.told),
            (("ndcg",), self.ndcg[:, None], annotated),
        ):
            if not rows.any():
                continue
            low, high = bootstrap_intervals(
                values[rows], groups=images[rows], resamples=options.resamples, confidence=CONFIDENCE, seed=options.seed
            )
            found.update({name: (float(low[i]), float(high[i])) for i, name in enumerate(names)})
        return found


def main(arguments: list[str]) -> int:
    """The command: prints the table, writes the output file, returns 0. Raises UserError where a file is refused."""
    options = load(Options, None, arguments, prog="vlkit judge visdial")
    options.check_output(options.predictions, options.dialogs, *([options.dense] if options.dense else []))
    dialogs = read_visdial(options.dialogs)
    relevance = read_dense(options.dense, dialogs) if options.dense else {}
    answers, problems = read_ranks(options.predictions)
    try:
        judgement = judge(answers, dialogs, relevance, options.mode, allow=options.allowed, problems=problems)
    except UserError as error:
        raise UserError(f"{options.predictions}, against {options.dialogs}, was {error}") from error
    intervals = judgement.intervals(options)
    _print(options, judgement, intervals)
    if options.output is not None:
        text = with_rows(_document(judgement, intervals, options), "per_round", _rows(judgement))
        with write_atomic(options.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 0


def read_ranks(path: str | Path) -> tuple[list[tuple[str, NDArray[np.float64]]], Problems]:
    """The usable ("image round", ranks (options,)) of a predictions file in its order, and what is wrong with the others."""
    problems = Problems(KINDS)
    found: list[tuple[str, NDArray[np.float64]]] = []
    for where, item in items_of(Path(path)):
        if not isinstance(item, dict):
            problems.add("not_object", f"{where}: {shown(item)}")
            continue
        image, number = item.get("image_id"), item.get("round_id")
        if type(image) is not int or type(number) is not int:
            problems.add("id", f"{where}: image_id {shown(image)}, round_id {shown(number)}")
            continue
        name = _name(str(image), number)
        ranks = item.get("ranks")
        trouble = _trouble(ranks)
        if trouble:
            problems.add("ranks", f"{where} ({name}): {trouble}", identifier=name)
            continue
        found.append((name, np.array(ranks, np.float64)))
    return found, problems


def _trouble(ranks: Any) -> str:
    """What is wrong with ranks, or nothing."""
    if not isinstance(ranks, list):
        return f"ranks is {shown(ranks)}"
    if len(ranks) != OPTIONS:
        return f"{len(ranks)} ranks"
    bad = [each for each in ranks if type(each) not in (int, float) or not 1 <= each <= OPTIONS]
    return f"the rank {shown(bad[0])}" if bad else ""


def judge(
    answers: Collection[tuple[str, NDArray[np.float64]]],
    dialogs: Dialogs,
    relevance: Mapping[tuple[str, int], NDArray[np.float64]],
    mode: Mode = "fixed",
    *,
    allow: Collection[str] = (),
    problems: Problems | None = None,
) -> Judgement:
    """Scores rankings, each ("image round", ranks (options,)). UserError that lists every problem that is not allowed."""
    problems = problems or Problems(KINDS)
    right = {
        (dialog.id, i): int(dialog.right[i])
        for dialog in dialogs.dialogs
        for i in range(len(dialog.turns))
        if dialog.options[i, 0] >= 0  # in a test split only the last round is ranked
    }
    scored = {key for key, place in right.items() if place >= 0 or key in relevance}
    if not scored:
        raise UserError(
            "not scored: the dialogs keep their answers, and there is no dense relevance; EvalAI scores such a split"
        )
    wanted = {_name(image, i + 1): (image, i) for image, i in right if (image, i) in scored}
    # Every round may be ranked, also those of a split that keeps its answers, of which only some can be scored here.
    known = [each for each in answers if each[0] in wanted or not _is_kept(each[0], right, scored)]
    found, counts = matched(known, wanted, problems, allow)
    counts = {"rounds": counts.pop("questions"), **counts}
    refuse(problems, {"questions": counts["rounds"], "scored": counts["scored"]})
    names = [name for name in wanted if name in found]
    keys = [wanted[name] for name in names]
    scores = -np.stack([found[name] for name in names])
    places = np.array([right[key] for key in keys])
    table = np.full((len(keys), len(METRICS)), np.nan)
    told = places >= 0
    if told.any():
        table[told] = retrieval(right_ranks(scores[told], places[told], mode))
    gains = np.full(len(keys), np.nan)
    annotated = np.array([key in relevance for key in keys])
    if annotated.any():
        how = np.stack([relevance[key] for key in keys if key in relevance])
        gains[annotated] = ndcg(scores[annotated], how, mode)
    return Judgement(mode, tuple((image, i + 1) for image, i in keys), table, gains, counts)


def _is_kept(name: str, right: Mapping[tuple[str, int], int], scored: Collection[tuple[str, int]]) -> bool:
    """Whether it is a round of the dialogs whose answer nobody tells."""
    image, _, number = name.rpartition(" round ")
    key = (image, int(number) - 1)
    return key in right and key not in scored


def _name(image: str, number: int) -> str:
    return f"{image} round {number}"


def _print(options: Options, judgement: Judgement, intervals: Mapping[str, tuple[float, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(f"predictions  {options.predictions.name}")
    console.print(f"dialogs      {options.dialogs.name}")
    console.print(f"dense        {options.dense.name if options.dense else '(none: no NDCG)'}")
    console.print(f"mode         {options.mode}")
    table = Table()
    table.add_column("VisDial")
    for title in ("mean", f"{CONFIDENCE:.0%} interval", "rounds"):
        table.add_column(title, justify="right")
    counts = {"ndcg": int((~np.isnan(judgement.ndcg)).sum())}
    for name, value in judgement.summary.items():
        scale, digits = (1.0, 2) if name == "mean_rank" else (100.0, 2)
        low, high = intervals[name]
        table.add_row(
            LABELS[name],
            f"{scale * value:.{digits}f}",
            f"{scale * low:.{digits}f} to {scale * high:.{digits}f}",
            str(counts.get(name, int(judgement.told.sum()))),
        )
    console.print(table)
    console.print("In per cent, mean rank in places; intervals: bootstrap over dialogs.")
    if judgement.counts["missing"]:
        console.print(
            f"PARTIAL: {judgement.counts['missing']} of {judgement.counts['rounds']} rounds are not ranked; this is not the score "
            "of the split.",
            style="bold",
        )
    if judgement.counts["unknown"]:
        console.print(f"Ignored: {judgement.counts['unknown']} of what is not among the dialogs.")
    if judgement.counts["duplicates"]:
        console.print(f"Ignored: {judgement.counts['duplicates']} of rounds that were ranked before.")


def _document(judgement: Judgement, intervals: Mapping[str, tuple[float, float]], options: Options) -> dict[str, Any]:
    inputs = {name: getattr(options, name) for name in ("predictions", "dialogs", "dense")}
    return {
        "schema": SCHEMA,
        "benchmark": "visdial",
        "vlkit": __version__,
        "mode": judgement.mode,
        "counts": judgement.counts | {"ndcg": int((~np.isnan(judgement.ndcg)).sum())},
        "summary": judgement.summary,
        "low": {name: low for name, (low, _) in intervals.items()},
        "high": {name: high for name, (_, high) in intervals.items()},
        "intervals": options.said() | {"method": "bootstrap over dialogs"},
        "inputs": {
            name: {"file": path.name, "sha256": sha256([path])} for name, path in inputs.items() if path is not None
        },
    }


def _rows(judgement: Judgement) -> list[dict[str, Any]]:
    rows = []
    for i, (image, number) in enumerate(judgement.rounds):
        row: dict[str, Any] = {"image_id": int(image), "round_id": number}
        if judgement.told[i]:
            row["rank"] = float(judgement.table[i, -1])
        if not np.isnan(judgement.ndcg[i]):
            row["ndcg"] = float(judgement.ndcg[i])
        rows.append(row)
    return rows
