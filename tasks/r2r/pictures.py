"""`vlkit explain`: pictures of walks. Maps and attention as PNG, and a page that goes through the steps.

matplotlib draws without its `pyplot` and without settings of the process, so it needs no screen and no single thread.
Lengths are pixels of the picture at its normal size; the file has RESOLUTION times as many each way.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from vlkit.config import load
from vlkit.envs.r2r import Scan
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.tasks.r2r.drawing import (
    COLOURS,
    STYLES,
    WIDTH,
    Box,
    Disc,
    Label,
    Line,
    Point,
    Shape,
    drawing,
    rectangle,
)
from vlkit.tasks.r2r.narration import attention, measured, outcome, steps
from vlkit.tasks.r2r.page import write_page

if TYPE_CHECKING:  # importing the agents imports torch, and matplotlib is not light either
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vlkit.tasks.r2r.agents import Walk

RESOLUTION = 2  # sharp on fine screens and in print
DOTS_AN_INCH = 100.0
TALLEST = 20_000.0  # a picture that is taller opens nowhere

NO_GLYPH = "□"  # stands for a letter that DejaVu Sans lacks, the font that comes with matplotlib
LACKS = f"{NO_GLYPH} a letter that the font lacks"
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 19.0, 14.0, 13.0
LINE_HEIGHT = 21.0

EDGE = 14.0  # white round a picture
MAP_TOP = 66.0  # below it lies the map; above it the title

COLUMNS = 25  # words in a row of the attention's matrix, at most
STEPS_WIDTH, OVERHANG = 200.0, 90.0  # room for the steps' names, and for the last column's slanting word
CELL_HEIGHT, CELL_WIDTH = 24.0, 42.0  # the width at most
LETTERS = 16  # of a column's word, at most
SLANT_DEG = 50.0


@dataclass(frozen=True)
class Options:
    """Draw what a trained navigator did, and where it looked in the instruction: maps, attention, and a page."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder that `vlkit train` wrote. RUN/arms/no_instruction is one too."""
    split: str | None = None
    """Split whose episodes are walked; val_unseen, or what the annotations file is of."""
    episode: tuple[str, ...] = ()
    """Ids of episodes; without any: the best, the median and the worst of the split, by SPL and then nDTW."""
    annotations: Path | None = None
    """Where the split lies; the run knows where it learned."""
    connectivity: Path | None = None
    """Folder of the graphs; the run knows its own."""
    features: Path | None = None
    """Image features, for a run that was trained with some; the run knows its own."""
    output: Path | None = None
    """Folder to write to; RUN/explain/SPLIT where it is not given."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to walk; the GPU where there is one."""


def main(arguments: Sequence[str]) -> int:
    """`vlkit explain RUN [--split S] [--episode ID ...] [--output DIR]`: writes the pictures, prints where they are."""
    options = load(Options, None, arguments, prog="vlkit explain")
    from rich.console import Console

    from vlkit.tasks.r2r.evaluation import EvalOptions, walks_of

    console = Console(highlight=False, markup=False, soft_wrap=True)
    wanted = list(dict.fromkeys(options.episode))
    explained = walks_of(
        EvalOptions(
            runs=(options.run,),
            split=options.split,
            annotations=options.annotations,
            connectivity=options.connectivity,
            features=options.features,
            device=options.device,
        ),
        wanted,
    )
    walks = {walk.episode.id: walk for walk in explained.walks}
    if wanted:
        chosen, labels = {episode: walks[episode] for episode in wanted}, {}
    else:
        picked = pick(explained.walks)
        chosen = {walk.episode.id: walk for walk in picked.values()}
        labels = {walk.episode.id: f"{place} of {len(walks)}" for place, walk in picked.items()}
        if not all(walk.metrics for walk in explained.walks):
            console.print(f"{explained.split} has no goals, so nothing is best or worst: chosen by their ids")
    folder = options.output or options.run / "explain" / explained.split
    page = folder / "index.html"
    title = f"{options.run.resolve().name} on {explained.split}"
    write_page(list(chosen.values()), explained.scans, explained.tokens, page, title, labels=labels)
    console.print(f"page       {page}")
    for episode, walk in chosen.items():
        name = re.sub(r"[^\w.-]+", "_", episode)
        what = f"{labels[episode]}: {episode}" if labels else episode
        console.print(f"{what}, {outcome(walk)}")
        draw_map(walk, explained.scans[walk.episode.scan], folder / f"{name}_map.png")
        console.print(f"  map        {folder / f'{name}_map.png'}")
        if walk.attention is not None:
            words = explained.tokens(walk.episode)
            draw_attention(walk, explained.scans[walk.episode.scan], words, folder / f"{name}_attention.png")
            console.print(f"  attention  {folder / f'{name}_attention.png'}")
    return 0


def pick(walks: Sequence["Walk"]) -> dict[str, "Walk"]:
    """The best, the median and the worst walk: by SPL, then nDTW, then the episode's id.

    The median of an even number is the better of the two in the middle. Of two walks there is no median, of one the
    best alone. Where goals are not known, as in a test split, these are the first, the middle and the last by id.
    """
    if not walks:
        raise UserError("no walks to choose from; name a split that has episodes")
    if all(walk.metrics for walk in walks):
        best, median, worst = "best", "median", "worst"
        order = sorted(walks, key=lambda walk: (-walk.metrics["spl"], -walk.metrics["ndtw"], walk.episode.id))
    else:
        best, median, worst = "first", "middle", "last"
        order = sorted(walks, key=lambda walk: walk.episode.id)
    places = {best: 0, median: (len(order) - 1) // 2, worst: len(order) - 1}
    picked: dict[str, Walk] = {}
    for name in (best, worst, median):  # who counts where there are too few
        if not any(order[places[name]] is walk for walk in picked.values()):
            picked[name] = order[places[name]]
    return {name: picked[name] for name in places if name in picked}


def draw_map(walk: "Walk", scan: Scan, path: str | Path) -> None:
    """A PNG of the building's graph with the reference path and the agent's, the measures and the instruction.

    2000 pixels wide, legible at half of that. Letters that the font lacks are drawn as boxes. Raises ValueError where
    the walk is of another building, UserError where the file cannot be written.
    """
    picture = drawing(walk, scan)
    instruction = readable(f"“{walk.episode.instruction.strip()}”")
    lines = _wrapped(instruction, TEXT_SIZE, WIDTH)
    lacks = NO_GLYPH in instruction
    below = MAP_TOP + picture.height + 14
    figure, axes = _canvas(WIDTH + 2 * EDGE, below + LINE_HEIGHT * (len(lines) + lacks) + EDGE)
    episode = walk.episode
    _title(axes, f"Episode {episode.id} in building {episode.scan}: {outcome(walk)}")
    _write(axes, (EDGE, 49), measured(walk), TEXT_SIZE, colour="faint")
    _paint(axes, picture.inside, (EDGE, MAP_TOP), clip=picture.frame)
    _paint(axes, picture.outside, (EDGE, MAP_TOP))
    for i, line in enumerate(lines):
        _write(axes, (EDGE, below + LINE_HEIGHT * (i + 0.5)), line, TEXT_SIZE)
    if lacks:
        _write(axes, (EDGE, below + LINE_HEIGHT * (len(lines) + 0.5)), LACKS, SMALL_SIZE, colour="faint")
    _save(figure, path)


def draw_attention(walk: "Walk", scan: Scan, words: Sequence[str], path: str | Path) -> None:
    """A PNG of the attention: a row each step, with what the agent did; a column each word; each row's largest marked.

    Long instructions go on below. Raises ValueError where the walk has no attention, or for other words or steps.
    """
    weights = attention(walk, words)
    rows = steps(walk, scan)
    blocks = -(-len(words) // COLUMNS)
    columns = -(-len(words) // blocks)  # as many in each block but the last
    names = [readable(word) for word in words]
    names = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    slanted = max(_width(name, SMALL_SIZE) for name in names) * float(np.sin(np.radians(SLANT_DEG))) + 14
    left = EDGE + STEPS_WIDTH
    cell_width = min(CELL_WIDTH, (WIDTH + EDGE - OVERHANG - left) / columns)
    block_height = slanted + CELL_HEIGHT * len(rows) + 22
    height = MAP_TOP + blocks * block_height + 44
    if height > TALLEST:
        raise UserError(
            f"episode {walk.episode.id}: attention over {len(words)} words in {len(rows)} steps makes a picture of "
            f"{height:.0f} lines of pixels, at most {TALLEST:.0f} are drawn; the page shows it"
        )
    figure, axes = _canvas(WIDTH + 2 * EDGE, height)
    _title(axes, f"Episode {walk.episode.id}: where the agent looked in the instruction")
    _write(axes, (EDGE, 49), measured(walk), TEXT_SIZE, colour="faint")
    highest = max(float(weights.max()), 1e-12)
    marked = weights.argmax(axis=1)
    for block in range(blocks):
        first = block * columns
        part = weights[:, first : first + columns]
        top = MAP_TOP + block * block_height + slanted
        right, bottom = left + cell_width * part.shape[1], top + CELL_HEIGHT * len(rows)
        _matrix(axes, part, (left, top, right, bottom), highest)
        for column, name in enumerate(names[first : first + columns]):
            at = (left + cell_width * (column + 0.5) - 3, top - 5)
            _write(axes, at, name, SMALL_SIZE, turned_deg=SLANT_DEG)
        for row, step in enumerate(rows):
            middle = top + CELL_HEIGHT * (row + 0.5)
            _write(axes, (EDGE + 20, middle), str(step.number), SMALL_SIZE, side="right", colour="faint")
            _write(axes, (EDGE + 30, middle), step.words, SMALL_SIZE)
            if first <= marked[row] < first + part.shape[1]:
                x, y = left + cell_width * (marked[row] - first), top + CELL_HEIGHT * row
                cell = rectangle((x + 1.5, y + 1.5, x + cell_width - 1.5, y + CELL_HEIGHT - 1.5))
                _paint(axes, [Line("largest", cell, closed=True)])
    _key(axes, left, height - 34, highest)
    if any(NO_GLYPH in name for name in names):
        _write(axes, (WIDTH + EDGE, height - 27), LACKS, SMALL_SIZE, side="right", colour="faint")
    _save(figure, path)


def readable(text: str) -> str:
    """`text` in the letters that the font has: others become boxes, of a mark that has no glyph nothing stays."""
    glyphs = _glyphs()
    letters = []
    for letter in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(letter)
        if letter.isspace():
            letters.append(" ")
        elif kind in ("Cc", "Cf"):
            continue
        elif ord(letter) in glyphs:
            letters.append(letter)
        elif kind[0] != "M":
            letters.append(NO_GLYPH)
    return "".join(letters)


def _canvas(width: float, height: float) -> tuple["Figure", "Axes"]:
    """A white figure whose one axes has the picture's pixels as coordinates, y downwards."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DOTS_AN_INCH, height / DOTS_AN_INCH), dpi=DOTS_AN_INCH * RESOLUTION)
    figure.patch.set_facecolor(_colour("ground"))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure, axes


def _save(figure: "Figure", path: str | Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with write_atomic(path) as temporary:
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(str(temporary))


def _colour(name: str | None) -> str:
    return "none" if name is None else COLOURS[name][0]


def _points(pixels: float) -> float:
    """matplotlib's widths and letters are in points, 72 an inch."""
    return pixels * 72 / DOTS_AN_INCH


def _paint(axes: "Axes", shapes: Iterable[Shape], shift: Point = (0.0, 0.0), clip: Box | None = None) -> None:
    """The shapes, moved by `shift`, the first lowest; cut at `clip`."""
    from matplotlib.patches import Circle, PathPatch, Rectangle
    from matplotlib.path import Path as Outline

    frame = None
    if clip is not None:
        left, top, right, bottom = clip
        frame = Rectangle((left + shift[0], top + shift[1]), right - left, bottom - top, transform=axes.transData)
    for order, shape in enumerate(shapes):
        style = STYLES[shape.style]
        artist: Any
        if isinstance(shape, Label):
            side = "center" if shape.anchor == "middle" else "left"
            at = (shape.place[0] + shift[0], shape.place[1] + shift[1])
            artist = _write(axes, at, shape.text, style.size, bold=style.bold, side=side, colour=style.fill or "ink")
        else:
            looks: dict[str, Any] = {
                "facecolor": _colour(style.fill),
                "edgecolor": _colour(style.stroke),
                "linewidth": _points(style.width),
                "capstyle": "butt" if style.butt else "round",
                "joinstyle": "round",
                "alpha": style.opacity,
            }
            if style.dashes:  # counted in widths of the line
                looks["linestyle"] = (0.0, tuple(dash / style.width for dash in style.dashes))
            if isinstance(shape, Disc):
                artist = Circle((shape.centre[0] + shift[0], shape.centre[1] + shift[1]), shape.radius, **looks)
            else:
                points = [(x + shift[0], y + shift[1]) for x, y in shape.points]
                artist = PathPatch(Outline(points + points[:1] * shape.closed, closed=shape.closed), **looks)
            axes.add_patch(artist)
        artist.set_zorder(10 + order)
        if frame is not None:
            artist.set_clip_path(frame)


def _write(
    axes: "Axes",
    place: Point,
    text: str,
    size: float,
    *,
    bold: bool = False,
    side: str = "left",
    colour: str = "ink",
    turned_deg: float = 0.0,
) -> Any:
    """One line of text; `place` is at its left, its right or in its middle. What is turned begins at its foot."""
    return axes.text(
        *place,
        readable(text),
        fontproperties=_font(size, bold),
        color=_colour(colour),
        horizontalalignment=side,
        verticalalignment="bottom" if turned_deg else "center_baseline",
        rotation=turned_deg,
        rotation_mode="anchor",
        parse_math=False,  # an instruction's dollar is no formula
        usetex=False,
        zorder=1000,
    )


def _title(axes: "Axes", text: str) -> None:
    text = readable(text)
    _write(axes, (EDGE, 24), text, TITLE_SIZE * min(1.0, WIDTH / _width(text, TITLE_SIZE, bold=True)), bold=True)


def _matrix(axes: "Axes", weights: np.ndarray, box: Box, highest: float) -> None:
    """(steps, words) as cells"""
    left, top, right, bottom = box
    _shade(axes, weights, box, highest)
    rows, columns = weights.shape
    lines = [((x, top), (x, bottom)) for x in np.linspace(left, right, columns + 1).tolist()]
    lines += [((left, y), (right, y)) for y in np.linspace(top, bottom, rows + 1).tolist()]
    _paint(axes, [Line("frame", ends) for ends in lines])


def _shade(axes: "Axes", weights: np.ndarray, box: Box, highest: float) -> None:
    """From white, for 0, to dark blue, for `highest`."""
    left, top, right, bottom = box
    image = axes.imshow(
        weights,
        cmap="Blues",
        vmin=0.0,
        vmax=highest,
        extent=(left, right, bottom, top),
        aspect="auto",
        interpolation="nearest",
        origin="upper",
    )
    image.set_zorder(1)


def _key(axes: "Axes", left: float, top: float, highest: float) -> None:
    """What shades and marks mean."""
    right, bottom = left + 180, top + 14
    _shade(axes, np.linspace(0.0, highest, 180)[None], (left, top, right, bottom), highest)
    box = rectangle((left, top, right, bottom))
    mark = rectangle((right + 100, top - 2, right + 126, bottom + 2))
    _paint(axes, [Line("frame", box, closed=True), Line("largest", mark, closed=True)])
    _write(axes, (EDGE + 30, top + 7), "attention", SMALL_SIZE)
    _write(axes, (left - 8, top + 7), "0", SMALL_SIZE, side="right")
    _write(axes, (right + 8, top + 7), f"{highest:.2g}", SMALL_SIZE)
    _write(axes, (right + 136, top + 7), "the step's largest", SMALL_SIZE)


@cache
def _font(size: float, bold: bool) -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=_font_file(bold), size=_points(size))


def _font_file(bold: bool) -> str:
    import matplotlib

    return str(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    )


@cache
def _glyphs() -> frozenset[int]:
    """Code points that the font has, in both weights."""
    from matplotlib.font_manager import get_font

    plain, bold = (set(get_font(_font_file(bold)).get_charmap()) for bold in (False, True))
    return frozenset(plain & bold)


@lru_cache(maxsize=4096)
def _width(text: str, size: float, bold: bool = False) -> float:
    """Pixels"""
    from matplotlib.textpath import TextToPath

    width, _, _ = TextToPath().get_text_width_height_descent(text, _font(size, bold), ismath=False)
    return float(width) * DOTS_AN_INCH / 72


def _wrapped(text: str, size: float, width: float) -> list[str]:
    """Lines of at most `width` pixels; a word that is longer is broken."""
    lines, line, used = [], "", 0.0
    space = _width("n n", size) - _width("nn", size)
    for word in text.split():
        while (needed := _width(word, size)) > width:
            fits = max(1, int(len(word) * width / needed) - 1)
            lines += [each for each in (line, word[:fits]) if each]
            line, used, word = "", 0.0, word[fits:]
        if line and used + space + needed > width:
            lines.append(line)
            line, used = word, needed
        else:
            line, used = f"{line} {word}" if line else word, used + space * bool(line) + needed
    return [*lines, line] if line else lines
