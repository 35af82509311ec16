"""A walk as a film: what the agent saw, which words it attended to, how sure it was, and where it was on the map."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlkit.envs.simulator.maps import INK, MARKS, PATHS, ROOM, WALKABLE, Storey
from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.tasks.navigation.rollouts import Film, Walk

ACTION_NAMES = ("stop", "forward", "left", "right")
PANEL, MARGIN, LINE, BAR = 288, 10, 22, 150  # pixels
PAPER, FAINT, GLOW, CHOSEN = "#ffffff", "#d8d8d4", "#f4a259", "#1d4e89"
MILLISECONDS = 220  # a step
LAST = 8  # steps for which the end stays
MP4_RATE = 5  # steps a second


@dataclass(frozen=True)
class Plan:
    """The map's background: walkable ground of the storeys, side by side, and where a point lies on it."""

    image: Image.Image
    scale: float  # pixels a metre
    origin: tuple[float, float]  # x and z of the picture's corner
    heights: tuple[float, ...]  # of the storeys' floors
    width: float  # pixels of one storey

    def storey(self, point: Sequence[float]) -> int:
        """On which panel a point (x, y, z) is drawn."""
        return int(np.abs(np.array(self.heights) - point[1]).argmin())

    def pixel(self, point: Sequence[float]) -> tuple[float, float]:
        """Where a point (x, y, z) is drawn."""
        return (
            self.storey(point) * self.width + (point[0] - self.origin[0]) * self.scale,
            (point[2] - self.origin[1]) * self.scale,
        )


def plan(storeys: Sequence[Storey], rooms: Sequence[Any] = ()) -> Plan:
    """Draws the storeys' ground and the rooms' outlines into a square panel."""
    low = np.min([each.origin for each in storeys], axis=0)
    high = np.max(
        [np.array(each.origin) + np.array(each.walkable.shape[::-1]) * each.cell_m for each in storeys], axis=0
    )
    margin = 0.3
    size = (high - low) + 2 * margin
    width = PANEL / len(storeys)
    scale = float(min(width / size[0], PANEL / size[1]))
    origin = (float(low[0] - margin), float(low[1] - margin))
    image = Image.new("RGB", (PANEL, PANEL), PAPER)
    made = Plan(image, scale, origin, tuple(each.height_m for each in storeys), width)
    draw = ImageDraw.Draw(image)
    for storey in storeys:
        mask = Image.fromarray((storey.walkable * 255).astype(np.uint8))
        shown = (round(mask.width * storey.cell_m * scale), round(mask.height * storey.cell_m * scale))
        left, top = made.pixel((storey.origin[0], storey.height_m, storey.origin[1]))
        ground = mask.resize((max(shown[0], 1), max(shown[1], 1)), Image.Resampling.BILINEAR)
        image.paste(Image.new("RGB", ground.size, WALKABLE), (round(left), round(top)), ground)
    for room in rooms:
        corners = [made.pixel((x, room.low_m + 0.1, z)) for x, z in room.outline]
        draw.line([*corners, corners[0]], fill=ROOM, width=1)
        middle = np.mean(corners, axis=0)
        draw.text(tuple(middle), room.name, fill=ROOM, font=_font(10), anchor="mm")
    return made


def film_frames(walk: Walk, film: Film, words: Sequence[str], background: Plan) -> Iterator[Image.Image]:
    """One picture for each step: frame and map side by side, action probabilities, and the instruction beneath."""
    lines = _wrapped(words, 2 * PANEL + MARGIN)
    height = PANEL + 3 * MARGIN + 4 * LINE + (len(lines) + 1) * LINE
    for step in range(len(film.rgb)):
        page = Image.new("RGB", (2 * PANEL + 3 * MARGIN, height), PAPER)
        draw = ImageDraw.Draw(page)
        page.paste(frame_panel(film.rgb[step], film.patches[step]), (MARGIN, MARGIN))
        page.paste(map_panel(walk, step, background), (PANEL + 2 * MARGIN, MARGIN))
        top = PANEL + 2 * MARGIN
        _actions(draw, film.probabilities[step], walk.actions[step], top)
        _state(draw, walk, film, step, top)
        _instruction(draw, lines, film.attention[step], top + 4 * LINE)
        yield page


def save_film(pages: Iterator[Image.Image], path: str | Path) -> None:
    """Writes a GIF, or an MP4 where the name says so and imageio with ffmpeg is installed (the extra `video`)."""
    path = Path(path)
    every = list(pages)
    if not every:
        raise ValueError("a film of no step; give at least one")
    every += [every[-1]] * LAST
    if path.suffix == ".gif":
        # One palette for all, or colours would flicker from step to step.
        palette = every[len(every) // 2].quantize(256, method=Image.Quantize.MAXCOVERAGE)
        drawn = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in every]
        with write_atomic(path) as temporary:
            drawn[0].save(
                temporary, format="GIF", save_all=True, append_images=drawn[1:], duration=MILLISECONDS, loop=0
            )
    elif path.suffix == ".mp4":
        import imageio.v3 as imageio

        # The codec wants even sides.
        even = [np.asarray(page)[: page.height // 2 * 2, : page.width // 2 * 2] for page in every]
        with write_atomic(path) as temporary:
            imageio.imwrite(temporary, np.stack(even), extension=".mp4", fps=MP4_RATE)
    else:
        raise UserError(f"{path}: a film's name ends in .gif or .mp4")


def frame_panel(rgb: np.ndarray, patches: np.ndarray) -> Image.Image:
    """What is seen, (height, width, 3) uint8, as a square panel with a frame around the patch that is looked at most."""
    panel = Image.fromarray(rgb).resize((PANEL, PANEL), Image.Resampling.NEAREST)
    side = round(len(patches) ** 0.5)
    # Where the agent looks at patches of as many rows as columns.
    if patches.any() and side * side == len(patches):
        row, column = divmod(int(patches.argmax()), side)
        x, y = column * PANEL / side, row * PANEL / side
        ImageDraw.Draw(panel).rectangle((x, y, x + PANEL / side, y + PANEL / side), outline=GLOW, width=2)
    return panel


def map_panel(walk: Walk, step: int, background: Plan) -> Image.Image:
    """The map with demonstration, start, goal, what was walked up to a step, and where the agent stands then."""
    panel = background.image.copy()
    draw = ImageDraw.Draw(panel)
    _path(draw, walk.reference, background, PATHS["reference"][0], 3)
    _path(draw, walk.locations[: step + 1], background, PATHS["executed"][0], 2)
    for name, point in (("start", walk.episode.start_position), ("goal", walk.episode.goal)):
        x, y = background.pixel(point)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=MARKS[name][1], outline=PAPER)
    x, y = background.pixel(walk.locations[step])
    yaw = float(walk.headings[step])
    ahead = np.array([-np.sin(yaw), -np.cos(yaw)])
    aside = np.array([-ahead[1], ahead[0]])
    corners = [ahead * 9, aside * 5 - ahead * 4, -aside * 5 - ahead * 4]
    draw.polygon([(x + dx, y + dy) for dx, dy in corners], fill=PATHS["executed"][0], outline=PAPER)
    return panel


def _path(draw: ImageDraw.ImageDraw, points: np.ndarray, background: Plan, colour: str, width: int) -> None:
    """A line on each storey's panel, none between them."""
    for _, part in groupby(points, key=background.storey):
        draw.line([background.pixel(point) for point in part], fill=colour, width=width)


def _actions(draw: ImageDraw.ImageDraw, probabilities: np.ndarray, taken: int, top: int) -> None:
    for i, (name, chance) in enumerate(zip(ACTION_NAMES, probabilities.tolist(), strict=True)):
        y = top + i * LINE
        draw.text((MARGIN, y), name, fill=INK, font=_font(14))
        draw.rectangle((MARGIN + 70, y + 3, MARGIN + 70 + BAR, y + LINE - 5), fill=FAINT)
        end = MARGIN + 70 + max(round(BAR * chance), 1)
        draw.rectangle((MARGIN + 70, y + 3, end, y + LINE - 5), fill=CHOSEN if i == taken else ROOM)
        draw.text((MARGIN + 78 + BAR, y), f"{100 * chance:.0f} %", fill=INK, font=_font(14))


def _state(draw: ImageDraw.ImageDraw, walk: Walk, film: Film, step: int, top: int) -> None:
    x = PANEL + 2 * MARGIN
    last = step + 1 == len(film.rgb)
    ended = "" if not last else "   reached the goal" if walk.metrics["success"] else "   missed the goal"
    told = f"step {step + 1} of {len(film.rgb)}{ended}"
    draw.text((x, top), told, fill=INK, font=_font(14))
    draw.text((x, top + LINE), f"believes to have done {100 * film.progress[step]:.0f} %", fill=INK, font=_font(14))
    for i, (name, colour) in enumerate(
        (("demonstration", PATHS["reference"][0]), ("walked", PATHS["executed"][0]), ("goal", MARKS["goal"][1]))
    ):
        left = x + 100 * i
        draw.rectangle((left, top + 2 * LINE + 5, left + 10, top + 2 * LINE + 15), fill=colour)
        draw.text((left + 14, top + 2 * LINE), name, fill=INK, font=_font(12))
    if film.patches[step].any():
        draw.rectangle((x, top + 3 * LINE + 5, x + 10, top + 3 * LINE + 15), outline=GLOW, width=2)
        draw.text((x + 14, top + 3 * LINE), "where it looks", fill=INK, font=_font(12))


def _instruction(
    draw: ImageDraw.ImageDraw, lines: list[list[tuple[int, str, float]]], attention: np.ndarray, top: int
) -> None:
    """The words, each the brighter the more the agent looks at it."""
    most = max(float(attention.max(initial=0.0)), 1e-6)
    for row, line in enumerate(lines):
        for number, word, x in line:
            weight = float(attention[number]) / most if number < len(attention) else 0.0
            y = top + row * LINE
            width = _font(15).getlength(word)
            if weight > 0.05:
                draw.rectangle((MARGIN + x - 2, y, MARGIN + x + width + 2, y + LINE - 3), fill=_mixed(GLOW, weight))
            draw.text((MARGIN + x, y), word, fill=INK, font=_font(15))


def _mixed(colour: str, share: float) -> tuple[int, int, int]:
    """A share of the colour over paper."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    red, green, blue = (round(255 + (part - 255) * share) for part in parts)
    return red, green, blue


def _wrapped(words: Sequence[str], width: float) -> list[list[tuple[int, str, float]]]:
    """Words with their number and place, line by line."""
    font, space = _font(15), _font(15).getlength(" ") + 2
    lines: list[list[tuple[int, str, float]]] = [[]]
    x = 0.0
    for number, word in enumerate(words):
        length = font.getlength(word)
        if x + length > width and lines[-1]:
            lines.append([])
            x = 0.0
        lines[-1].append((number, word, x))
        x += length + space
    return lines


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
