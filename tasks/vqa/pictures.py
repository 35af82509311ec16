"""`vlkit explain` for questions: where a model looked, which parts of the picture its answer hangs on, rights and wrongs."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw

from vlkit import config
from vlkit.batches import moved
from vlkit.errors import UserError
from vlkit.evaluation import Watch
from vlkit.files import write_atomic
from vlkit.htmlpage import document, figure
from vlkit.plugins import nearest
from vlkit.progress import progress
from vlkit.saliency import glowing, occlusion
from vlkit.tasks.vqa.evaluation import EvalOptions, Said, Trained, answered, test_examples, trained
from vlkit.tasks.vqa.model import Batch
from vlkit.tasks.vqa.training import Answerable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDE = 224  # pixels of a picture on the page
WINDOWS = 8  # that cover the width of a picture, in twice as many places
RIGHT, WRONG, OTHER = (
    "#3fae5a",
    "#e0483e",
    "#f4f4f4",
)  # boxes: the right one, one that was chosen and is not, the others
MOST_CHOICES = 6  # shown of the answers


@dataclass(frozen=True)
class Options:
    """Show what a model that answers looked at, and which parts of the picture its answers hang on."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `vlkit train` wrote; RUN/arms/question_only is one too"""
    split: str = "test"
    """whose questions are asked"""
    question: tuple[str, ...] = ()
    """ids of questions; without any: some right and some wrong ones, drawn evenly"""
    examples: int = 12
    """so many right and so many wrong ones"""
    data: Path | None = None
    """where the questions lie; the run knows where it learned"""
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
    """One answer and what is behind it."""

    id: str
    picture: np.ndarray  # (height, width, 3) uint8
    text: str
    words: tuple[str, ...]  # of the question, as the model reads them
    answers: tuple[tuple[str, float], ...]  # with how sure it is, the surest first
    right: str
    verdict: float  # how right the first one is
    looked: dict[str, np.ndarray]  # what each look is called -> (rows, columns)
    hangs: np.ndarray | None  # (rows, columns): by how much the answer's score falls where that is covered


def main(arguments: Sequence[str]) -> int:
    """`vlkit explain RUN [--split S] [--question ID ...]`"""
    options = config.load(Options, None, arguments, prog="vlkit explain")
    run = trained(options.run, options.device)
    judging = EvalOptions(
        runs=(options.run,), split=options.split, data=options.data, images=options.images, device=options.device
    )
    examples = test_examples(run, judging)
    if options.question:
        every = {example.id: i for i, example in enumerate(examples.examples)}
        for name in options.question:
            if name not in every:
                raise UserError(f"{examples.name} has no question {name!r}.{nearest(name, every)}")
        kept = tuple(examples.examples[every[name]] for name in options.question)
        examples = replace(examples, examples=kept, asked=())
    with progress(len(examples.examples), unit="questions") as bar:
        said = answered(run, judging, examples, watch=Watch(bar, options.run.name))
    places = list(range(len(said.answers))) if options.question else drawn(said, options.examples)
    with progress(len(places), unit="questions") as bar:
        shown = []
        for i, place in enumerate(places):
            shown.append(looked_at(run, said, place))
            bar.update(i + 1, "covering parts of pictures")
    folder = options.output or options.run / "explain" / options.split
    for file in written(shown, folder, title=f"{options.run.name} on {options.split}"):
        print(file)  # noqa: T201
    return 0


def drawn(said: Said, count: int) -> list[int]:
    """So many questions that were answered right and so many that were not, drawn evenly and the same ones each time."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(said.right)).tolist()
    right = [i for i in order if said.right[i] >= 0.5][:count]
    wrong = [i for i in order if said.right[i] < 0.5][:count]
    return right + wrong or order[:count]


def looked_at(run: Trained, said: Said, place: int) -> Shown:
    """What the model looked at for one question, and what its answer hangs on."""
    asked = said.asked
    example = asked.examples[place]
    device = next(run.model.parameters()).device
    batch: Batch = moved(asked.batch(np.array([place]), run.settings.blank), device)
    with torch.inference_mode():
        seen = run.model.see(batch.images)
        found = run.model.answer(seen, batch)
    scores = found.scores[0]
    chances = (scores.sigmoid() if run.vocabulary else scores.softmax(0)).cpu()
    names = run.vocabulary or example.choices
    order = chances.argsort(descending=True).tolist()
    answers = tuple((names[i], float(chances[i])) for i in order[:MOST_CHOICES])
    words = tuple(asked.tokenizer.words[i] for i in asked.words[place][: asked.max_words])
    hangs = None
    if batch.images.dim() == 4 and "image" not in run.settings.blank:
        best = order[0]

        def score(images: torch.Tensor) -> torch.Tensor:
            one = replace(batch, images=images.to(device), **_repeated(batch, len(images)))
            scores = run.model(one).scores
            sure = scores if run.vocabulary else scores.log_softmax(dim=1)
            return cast(torch.Tensor, sure)[:, best].cpu()

        window = max(batch.images.shape[1] // WINDOWS * 2, 2)
        hangs = occlusion(score, batch.images[0].cpu(), window=window, stride=max(window // 2, 1)).numpy()
    return Shown(
        id=example.id,
        picture=_picture(asked, place, answers[0][0]),
        text=example.text,
        words=words,
        answers=answers,
        right=example.choices[example.right]
        if example.right is not None
        else ", ".join(dict.fromkeys(example.answers)),
        verdict=float(said.right[place]),
        looked=_looks(found.weights, seen.shape, words),
        hangs=hangs,
    )


def _repeated(batch: Batch, count: int) -> dict[str, torch.Tensor]:
    """A batch's one question, asked of several pictures."""
    names = ["words", "mask", "choice", "there", "right", "targets", *([] if batch.boxes is None else ["boxes"])]
    many = {name: getattr(batch, name).expand(count, *getattr(batch, name).shape[1:]) for name in names}
    return many | {"image": torch.arange(count, device=batch.image.device)}


def _looks(every: Mapping[str, torch.Tensor], shape: tuple[int, int], words: Sequence[str]) -> dict[str, np.ndarray]:
    """Each look at the picture, by name: one for each word, one for each of several looks, or the only one."""
    found: dict[str, np.ndarray] = {}
    if "patches of words" in every:
        for word, each in zip(words, every["patches of words"][0], strict=False):
            found[f"{len(found) + 1}. {word}"] = each.float().cpu().reshape(shape).numpy()
        return found
    looks = sorted(name for name in every if name.startswith("patches of look"))
    for name in looks or [name for name in every if name == "patches"]:
        label = name.removeprefix("patches of ") if looks else "attention"
        found[label] = every[name][0].float().cpu().reshape(shape).numpy()
    return found


def _picture(asked: Answerable, place: int, said: str) -> np.ndarray:
    """The picture as the model sees it, with the boxes that it chooses among; grey where it sees features."""
    row = asked.images.read(asked.image_rows[[place]])[0]
    if row.dim() != 3:
        return np.full((WIDE, WIDE, 3), 160, np.uint8)
    example = asked.examples[place]
    if not example.boxes:
        return row.numpy()
    shown = Image.fromarray(row.numpy()).resize((WIDE, WIDE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(shown)
    for i, box in enumerate(asked.boxes_of(np.array([place]), len(example.boxes))[0].tolist()):
        x, y, x2, y2 = (each * WIDE for each in box)
        colour = RIGHT if i == example.right else WRONG if example.choices[i] == said else OTHER
        draw.rectangle((x, y, max(x2, x + 1), max(y2, y + 1)), outline=colour, width=3 if colour != OTHER else 1)
        draw.text((x + 4, y + 3), example.choices[i], fill=colour)
    return np.array(shown)


def written(shown: Sequence[Shown], folder: Path, title: str) -> list[Path]:
    """Writes the page and a sheet of all pictures; returns the files."""
    page, sheet = folder / "index.html", folder / "sheet.png"
    with write_atomic(page) as temporary:
        temporary.write_text(_page(shown, title), encoding="utf-8")
    with write_atomic(sheet) as temporary:
        _sheet(shown).savefig(temporary, format="png", dpi=110)
    return [page, sheet]


def _sheet(shown: Sequence[Shown]) -> "Figure":
    """Pictures with question, answer and what is right, four a row."""
    import textwrap

    from matplotlib.figure import Figure

    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.1 * columns, 3.9 * rows), layout="constrained")
    for i, each in enumerate(shown):
        axes = figure.add_subplot(rows, columns, i + 1)
        look = next(reversed(each.looked.values()), None)
        axes.imshow(each.picture if look is None else glowing(each.picture, look, width=WIDE))
        axes.set_axis_off()
        good = each.verdict >= 0.5
        answer, chance = each.answers[0]
        told = f"{answer} ({chance:.0%})" + ("" if good else f", not {each.right}")
        text = "\n".join([*textwrap.wrap(each.text, 34), *textwrap.wrap(told, 34)])
        axes.set_title(text, fontsize=9, color="#1d6b34" if good else "#a3241d", loc="left", parse_math=False)
    return figure


def _page(shown: Sequence[Shown], title: str) -> str:
    good = sum(each.verdict >= 0.5 for each in shown)
    intro = (
        f"{good} right and {len(shown) - good} wrong answers, drawn evenly from each, so this is no score. Bright is where the "
        "model looked, or where covering the picture makes its answer less sure."
    )
    return document(title, intro, "\n".join(map(_section, shown)))


def _section(each: Shown) -> str:
    good = each.verdict >= 0.5
    rows = "".join(
        f"<tr><td>{html.escape(answer)}</td><td>{chance:.1%}</td>"
        f"<td>{'right' if answer == each.right else ''}</td></tr>"
        for answer, chance in each.answers
    )
    figures = [figure(each.picture, "what it sees")]
    if each.hangs is not None:
        figures.append(figure(glowing(each.picture, each.hangs, width=WIDE), "what its answer hangs on (occlusion)"))
    looks = [figure(glowing(each.picture, look, width=WIDE), name) for name, look in each.looked.items()]
    return (
        f'<section id="{html.escape(each.id)}"><h2>{html.escape(each.text)} '
        f'<span class="{"right" if good else "wrong"}">{html.escape(each.answers[0][0])}</span></h2>'
        f"<p>Right: {html.escape(each.right) or 'not told'}. Read as: {html.escape(' '.join(each.words))}</p>"
        f"<table>{rows}</table>"
        f'<div class="row">{"".join(figures)}</div><div class="row words">{"".join(looks)}</div></section>'
    )
