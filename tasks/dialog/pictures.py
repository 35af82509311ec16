"""`vlkit explain` for dialogs: what a model answers turn by turn, which turns each answer hung on, and where it looked."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from vlkit import config
from vlkit.batches import moved
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.htmlpage import document, figure
from vlkit.plugins import nearest
from vlkit.saliency import glowing
from vlkit.tasks.dialog.data import Dialogs, some
from vlkit.tasks.dialog.evaluation import EvalOptions, Trained, asked_of, judged_dialogs, trained
from vlkit.tasks.dialog.metrics import right_ranks
from vlkit.tasks.dialog.model import Batch
from vlkit.tasks.dialog.training import Talks, Vectors

WIDE = 224  # pixels of a picture on the page


@dataclass(frozen=True)
class Options:
    """Show what a model that answers in dialogs hung each answer on, and where it looked."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `vlkit train` wrote; RUN/arms/no_history is one too"""
    split: str = "test"
    """whose dialogs are shown"""
    dialog: tuple[str, ...] = ()
    """ids of dialogs; without any some, drawn evenly"""
    examples: int = 8
    """so many of them"""
    data: Path | None = None
    """where the dialogs lie; the run knows where it learned"""
    images: Path | None = None
    """folder or zip file of the pictures; the run knows its own"""
    output: Path | None = None
    """folder to write to; RUN/explain/SPLIT where it is not given"""
    device: Literal["cpu", "cuda", "mps"] | None = None
    """where to run; the GPU where there is one"""

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ValueError(f"examples = {self.examples}, expected at least 1")


@dataclass(frozen=True)
class Shown:
    """One round and what is behind its answer."""

    question: str
    answer: str  # the best option
    right: str  # what was said; "" where nobody tells
    rank: float | None  # of what was said
    past: tuple[
        float, ...
    ]  # how much the caption and each turn before counted; none where the model does not weigh turns
    looked: np.ndarray | None  # (height, width, 3) uint8, glowing where the model looked
    needs_history: bool | None


def main(arguments: Sequence[str]) -> int:
    """`vlkit explain RUN [--split S] [--dialog ID ...]`"""
    options = config.load(Options, None, arguments, prog="vlkit explain")
    run = trained(options.run, options.device)
    judging = EvalOptions(
        runs=(options.run,), split=options.split, data=options.data, images=options.images, device=options.device
    )
    asked = asked_of(run, judging, chosen(judged_dialogs(run, judging), options))
    with torch.inference_mode():
        texts = Vectors.of(run.model, asked, next(run.model.parameters()).device)
    body = "\n".join(section(run, asked, texts, i) for i in range(len(asked.dialogs)))
    intro = (
        "Each answer is the best of the round's options, behind the true turns before it. Bars: how much the caption and each "
        "earlier turn counted. Bright is where the model looked."
    )
    page = (options.output or options.run / "explain" / options.split) / "index.html"
    with write_atomic(page) as temporary:
        temporary.write_text(document(f"{options.run.name} on {options.split}", intro, body), encoding="utf-8")
    print(page)  # noqa: T201
    return 0


def chosen(dialogs: Dialogs, options: Options) -> Dialogs:
    """The dialogs that are shown. UserError for an id that the split does not have."""
    every = {dialog.id: dialog for dialog in dialogs.dialogs}
    for name in options.dialog:
        if name not in every:
            raise UserError(f"{dialogs.name} has no dialog {name!r}.{nearest(name, every)}")
    if options.dialog:
        return some(dialogs, [every[name] for name in options.dialog])
    step = max(len(dialogs.dialogs) // options.examples, 1)
    return some(dialogs, dialogs.dialogs[::step][: options.examples])


@torch.inference_mode()
def rounds(run: Trained, asked: Talks, texts: Vectors, place: int) -> tuple[list[Shown], np.ndarray]:
    """What a model makes of each round of a dialog, and the picture as it sees it."""
    dialog = asked.dialogs[place]
    device = next(run.model.parameters()).device
    rows = [(place, turn) for turn in range(len(dialog.turns))]
    batch: Batch = moved(asked.batch(rows, run.settings.blank, options=False), device)
    encoded = run.model.encode(batch)
    scores = texts.scores(run.model, encoded.joint, batch.option, batch.there).cpu()
    shape = run.model.see(batch.images).shape
    picture = batch.images[0].cpu().numpy() if batch.images.dim() == 4 else None
    weights, look = encoded.weights.get("turns"), encoded.weights.get("patches")
    found = []
    for turn, said in enumerate(dialog.turns):
        own, right = scores[turn].numpy(), int(dialog.right[turn])
        glow = None
        if look is not None and picture is not None:
            glow = glowing(picture, look[turn].float().cpu().reshape(shape).numpy(), width=WIDE)
        there = batch.past_mask[turn].cpu()
        best = int(own.argmax()) if batch.there[turn].any() else -1
        found.append(
            Shown(
                said.question,
                "" if best < 0 else asked.source.answers[dialog.options[turn, best]],
                said.answer or "",
                float(right_ranks(own[None], [right])[0]) if right >= 0 else None,
                () if weights is None else tuple(weights[turn].float().cpu()[there].tolist()),
                glow,
                said.needs_history,
            )
        )
    return found, batch.images[0].cpu().numpy()


def section(run: Trained, asked: Talks, texts: Vectors, place: int) -> str:
    """A dialog as a part of the page."""
    dialog = asked.dialogs[place]
    shown, picture = rounds(run, asked, texts, place)
    figures = figure(picture, "what it sees") if picture.ndim == 3 else ""
    rows = "".join(_row(i, each) for i, each in enumerate(shown, start=1))
    return (
        f'<section id="{html.escape(dialog.id)}"><h2>{html.escape(dialog.id)}: {html.escape(dialog.caption)}</h2>'
        f'<div class="row">{figures}</div><table>{rows}</table></section>'
    )


def _row(number: int, each: Shown) -> str:
    good = each.rank is not None and each.rank <= 1
    verdict = "" if each.rank is None or good else f" (said: {html.escape(each.right)}, ranked {each.rank:g})"
    most = max(each.past, default=0.0) or 1.0
    bars = "".join(
        f'<span title="{"caption" if i == 0 else i}: {share:.0%}" style="display: inline-block; width: .7rem; margin-right: 2px; '
        f'vertical-align: bottom; height: {round(1 + 30 * share / most)}px; background: #f4a259"></span>'
        for i, share in enumerate(each.past)
    )
    look = "" if each.looked is None else f'<div class="words">{figure(each.looked, "")}</div>'
    needs = " &#8617;" if each.needs_history else ""
    return (
        f"<tr><td>{number}{needs}</td><td>{html.escape(each.question)}</td>"
        f'<td class="{"right" if good else "wrong"}">{html.escape(each.answer)}{verdict}</td><td>{bars}</td><td>{look}</td></tr>'
    )
