"""The shape of every kind of thing: few triangles, but of an outline that tells what it is.

Each function below is one kind's. It takes width, height, depth (metres) and a variant from 0 on, and gives the parts in
the thing's own frame: x across, y up from its base, z in depth, its front towards -z. Paint without a colour has the
thing's own, and most of what one sees of a thing has it.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from vlkit.envs.house.house import Pattern, Point
from vlkit.envs.house.solids import Paint, Part, ball, bar, basin, box, disc, facing, lathe, lying, panel
from vlkit.errors import UserError
from vlkit.plugins import nearest

Parts = Iterator[Part]
Shape = Callable[[float, float, float, int], Parts]

MAIN, LIGHT, DEEP, DARKER = Paint(), Paint(tone=1.12), Paint(tone=0.82), Paint(tone=0.6)
GRAIN, DEEP_GRAIN = Paint(pattern="wood"), Paint(tone=0.8, pattern="wood")
CHROME, DARK, RUBBER = Paint((200, 204, 210)), Paint((52, 54, 60)), Paint((30, 30, 32))
TIMBER, CARDBOARD, CLAY = Paint((150, 104, 64), pattern="wood"), Paint((190, 152, 106)), Paint((178, 92, 58))
WHITE, CREAM, STONE = Paint((246, 246, 242)), Paint((240, 230, 208)), Paint((208, 206, 200), pattern="marble")
GOLD, GLASS, SCREEN, FLAME = Paint((208, 170, 74)), Paint((188, 214, 226)), Paint((34, 44, 74)), Paint((246, 140, 40))
BOOKS = tuple(
    Paint(colour) for colour in ((160, 62, 54), (62, 92, 132), (206, 188, 142), (84, 112, 82), (120, 84, 110))
)
Patterns = tuple[Pattern, Pattern, Pattern]  # one for each variant
HEARTHS: Patterns = ("brick", "plain", "marble")
RUGS: Patterns = ("stripes", "checks", "dots")
BED_COVERS: Patterns = ("plain", "stripes", "checks")
BOARD_COVERS: Patterns = ("plain", "dots", "stripes")
WEAVES: Patterns = ("checks", "plain", "stripes")


def parts(kind: str, size: Point, variant: int = 0) -> list[Part]:
    """What a thing is made of, without the undersides that it stands on.

    Raises UserError for a kind that is not in the catalogue.
    """
    if kind not in SHAPES:
        raise UserError(f"there is no shape for a thing of kind {kind!r}.{nearest(kind, SHAPES)}")
    width, height, depth = size
    made = []
    for part in SHAPES[kind](width, height, depth, variant):
        seen = part.quads[..., 1].max(axis=1) > 1e-6
        made.append(part if seen.all() else Part(part.quads[seen], part.paint, part.double_sided))
    return made


def legs(w: float, d: float, height: float, thick: float, paint: Paint, *, inset: float = 0.0) -> Parts:
    """Four posts at the corners, from the floor up."""
    for x in (-w / 2 + inset, w / 2 - inset - thick):
        for z in (-d / 2 + inset, d / 2 - inset - thick):
            yield box((x, 0, z), (x + thick, height, z + thick), paint, without="-y+y")


def fronts(
    x: tuple[float, float], y: tuple[float, float], z: float, columns: int, rows: int, paint: Paint, *, upright: bool
) -> Parts:
    """Drawers, or doors where their handles are `upright`, on a front that lies at `z` + 2 cm."""
    across, up = (x[1] - x[0]) / columns, (y[1] - y[0]) / rows
    for column in range(columns):
        left, right = x[0] + column * across + 0.012, x[0] + (column + 1) * across - 0.012
        for row in range(rows):
            low, high = y[0] + row * up + 0.012, y[0] + (row + 1) * up - 0.012
            yield box((left, low, z + 0.006), (right, high, z + 0.02), paint, without="+z")
            if upright:  # doors open from where they meet
                middle = right - 0.05 if column % 2 == 0 and columns > 1 else left + 0.05
                half_width, half_height, centre = 0.012, min(0.09, (high - low) / 4), (low + high) / 2
            else:
                middle, centre = (left + right) / 2, (low + 2 * high) / 3
                half_width, half_height = min(0.08, (right - left) / 4), 0.012
            a, b = middle - half_width, middle + half_width
            low, high = centre - half_height, centre + half_height
            yield facing((a, b), (low, high), z, CHROME)


def case(w: float, h: float, d: float, columns: int, rows: int, *, upright: bool, leg: float = 0.08) -> Parts:
    """A cupboard or a chest of drawers: what sideboards, dresser, wardrobes and cabinets are."""
    if leg:
        yield box((-w / 2 + 0.04, 0, -d / 2 + 0.06), (w / 2 - 0.04, leg, d / 2 - 0.02), DARK, without="-y+y")
    yield box((-w / 2, leg, -d / 2 + 0.02), (w / 2, h - 0.03, d / 2), DEEP_GRAIN, without="+y")
    yield box((-w / 2, h - 0.03, -d / 2), (w / 2, h, d / 2), GRAIN)
    yield from fronts(
        (-w / 2, w / 2), (leg, h - 0.03), -d / 2, columns, rows, Paint(tone=1.06, pattern="wood"), upright=upright
    )


def couch(w: float, h: float, d: float, variant: int, cushions: int) -> Parts:
    """A sofa or an armchair."""
    arm, foot, seat = (0.2, 0.13, 0.17)[variant % 3], 0.07, 0.44
    top = min(0.62, h - 0.1)
    yield from legs(w, d, foot, 0.06, TIMBER, inset=0.03)
    yield box((-w / 2, foot, -d / 2 + 0.02), (w / 2, 0.3, d / 2), DEEP)
    yield box((-w / 2 + 0.02, 0.3, d / 2 - 0.2), (w / 2 - 0.02, h, d / 2), MAIN, without="-y")
    for side in (-1, 1):
        x = sorted((side * w / 2, side * (w / 2 - arm)))
        if variant % 3 == 2:
            yield box((x[0], 0.3, -d / 2), (x[1], top - arm / 2, d / 2 - 0.05), MAIN, without="-y+y")
            centre = (side * (w - arm) / 2, top - arm / 2, 0)
            yield disc(arm / 2 / math.cos(math.pi / 8), -d / 2, d / 2 - 0.05, MAIN, at=centre, axis="z")
        else:
            yield box((x[0], 0.3, -d / 2), (x[1], top, d / 2 - 0.05), MAIN, without="-y")
    inner = w - 2 * arm
    for i in range(cushions):
        left, right = -inner / 2 + i * inner / cushions + 0.008, -inner / 2 + (i + 1) * inner / cushions - 0.008
        yield box((left, 0.3, -d / 2 + 0.01), (right, seat, d / 2 - 0.2), LIGHT, without="-y+z")
        yield box((left, seat, d / 2 - 0.34), (right, h - 0.05, d / 2 - 0.2), Paint(tone=1.06), without="-y+z")


def _sofa(w: float, h: float, d: float, variant: int) -> Parts:
    yield from couch(w, h, d, variant, 3 if w > 1.95 else 2)


def _armchair(w: float, h: float, d: float, variant: int) -> Parts:
    yield from couch(w, h, d, variant, 1)


def board_on_legs(w: float, h: float, d: float, thick: float, leg: float) -> Parts:
    """A plain table."""
    yield box((-w / 2, h - thick, -d / 2), (w / 2, h, d / 2), GRAIN)
    yield box((-w / 2 + 0.06, h - thick - 0.07, -d / 2 + 0.06), (w / 2 - 0.06, h - thick, d / 2 - 0.06), DEEP_GRAIN,
              without="-y+y")  # fmt: skip
    yield from legs(w, d, h - thick, leg, DEEP_GRAIN, inset=0.03)


def _coffee_table(w: float, h: float, d: float, variant: int) -> Parts:
    if variant % 3 == 1:  # oval, on a column
        yield lathe([(0, h - 0.05), (w / 2, h - 0.05), (w / 2, h), (0, h)], MAIN, sides=12, squash=d / w)
        yield disc(0.06, 0.03, h - 0.05, DEEP, at=(0, 0, 0))
        yield lathe([(w * 0.3, 0), (w * 0.3, 0.03), (0, 0.03)], DEEP, sides=12, squash=d / w)
        return
    yield from board_on_legs(w, h, d, 0.05, 0.06)
    if variant % 3 == 2:
        yield box((-w / 2 + 0.05, 0.1, -d / 2 + 0.05), (w / 2 - 0.05, 0.13, d / 2 - 0.05), DEEP_GRAIN)


def _television(w: float, h: float, d: float, variant: int) -> Parts:
    foot = 0.07
    yield box((-w / 2, foot, -0.02), (w / 2, h, 0.02), LIGHT)
    edge, z = 0.03, -0.024
    low, high = foot + edge, h - edge
    left, right = -w / 2 + edge, w / 2 - edge
    yield facing((left, right), (low, high), z, Paint(tone=0.72))
    gleam = (right - left) * 0.12
    a, b = right - 3.4 * gleam, right - 2.4 * gleam
    z -= 0.003
    yield panel((a, low, z), (b, high, z), (b + gleam, high, z), (a + gleam, low, z), paint=SCREEN)
    if variant % 3 == 0:
        yield box((-0.05, 0.015, -0.015), (0.05, foot, 0.015), MAIN, without="-y+y")
        yield box((-w / 5, 0, -d / 2), (w / 5, 0.015, d / 2), LIGHT)
    else:
        reach = w * (0.33 if variant % 3 == 1 else 0.46)
        for x in (-reach, reach):
            yield box((x - 0.015, 0, -d / 2), (x + 0.015, foot, d / 2), LIGHT, without="+y")


def _tv_stand(w: float, h: float, d: float, variant: int) -> Parts:
    if variant % 3 == 0:
        yield from case(w, h, d, 3, 1, upright=False)
        return
    middle = 0.08 + (h - 0.11) * 0.55
    yield from legs(w, d, 0.08, 0.05, DARK, inset=0.02)
    yield box((-w / 2, 0.08, -d / 2 + 0.02), (w / 2, middle, d / 2), DEEP_GRAIN)
    yield from fronts((-w / 2, w / 2), (0.08, middle), -d / 2, 2, 1, GRAIN, upright=variant % 3 == 1)
    yield box((-w / 2, middle, d / 2 - 0.02), (w / 2, h - 0.03, d / 2), DARKER)
    for x in (-w / 2, -0.015, w / 2 - 0.03):
        yield box((x, middle, -d / 2 + 0.02), (x + 0.03, h - 0.03, d / 2 - 0.02), GRAIN, without="-y+y")
    yield box((-w / 2, h - 0.03, -d / 2), (w / 2, h, d / 2), GRAIN)


def _bookshelf(w: float, h: float, d: float, variant: int) -> Parts:
    shelves = 5 if h > 1.8 else 4
    thick, step = 0.035, (h - 0.06) / shelves
    yield box((-w / 2, 0, d / 2 - 0.02), (w / 2, h, d / 2), DARKER)
    for x in (-w / 2, w / 2 - thick):
        yield box((x, 0, -d / 2), (x + thick, h, d / 2 - 0.02), GRAIN, without="+z")
    for i in range(shelves + 1):
        y = 0.06 - thick + i * step
        yield box((-w / 2 + thick, y, -d / 2), (w / 2 - thick, y + thick, d / 2 - 0.02), GRAIN, without="-x+x+z")
    inner = w - 2 * thick
    for i in range(shelves):
        y, at = 0.06 + i * step, -inner / 2 + 0.01
        for j in range(3):  # blocks of books with gaps between them; a variant has them elsewhere
            turn = (7 * i + 3 * j + 5 * variant) % 11
            wide = inner * (0.1 + 0.014 * turn)
            tall = (step - thick) * (0.62 + 0.028 * (turn % 7))
            low, high = (at, y, -d / 2 + 0.06), (at + wide, y + tall, d / 2 - 0.03)
            yield box(low, high, BOOKS[(i + 2 * j + variant) % len(BOOKS)], without="-y+z")
            at += wide + inner * 0.06 * (turn % 3)


def _fireplace(w: float, h: float, d: float, variant: int) -> Parts:
    brick, shelf = Paint(pattern=HEARTHS[variant % 3]), 0.08
    half, top = w * 0.27, h * 0.58
    front = -d / 2 + 0.06
    for side in (-1, 1):
        left, right = sorted((side * (w / 2 - 0.03), side * half))
        yield box((left, 0, front), (right, h - shelf, d / 2), brick, without="+y")
    yield box((-half, top, front), (half, h - shelf, d / 2), brick, without="-x+x+y")
    yield box((-half, 0, d / 2 - 0.06), (half, top, d / 2 - 0.01), DARK, without="-x+x+y")
    yield box((-half, 0, front - 0.04), (half, 0.04, d / 2 - 0.06), DARK)
    yield box((-w / 2, h - shelf, -d / 2), (w / 2, h, d / 2), LIGHT)
    for z in (-0.06, 0.03):
        yield disc(0.05, -half * 0.7, half * 0.7, TIMBER, at=(0, 0.1, z), axis="x", sides=6)
    for x, tall in ((-half * 0.4, 0.26), (half * 0.05, 0.36), (half * 0.45, 0.22)):
        yield lathe([(0.02, 0.12), (0.075, 0.2), (0, 0.12 + tall)], FLAME, at=(x, 0, 0), sides=6)


def _piano(w: float, h: float, d: float, variant: int) -> Parts:
    key, back = h * 0.6, d * 0.08
    yield box((-w / 2, 0, back), (w / 2, h - 0.03, d / 2), MAIN, without="+y")
    yield box((-w / 2, h - 0.03, back - 0.03), (w / 2, h, d / 2), LIGHT)
    yield box((-w / 2, key - 0.1, -d / 2), (w / 2, key - 0.02, back), DEEP, without="+z")
    for side in (-1, 1):
        left, right = sorted((side * w / 2, side * (w / 2 - 0.06)))
        yield box((left, key - 0.02, -d / 2), (right, key + 0.06, back), MAIN, without="-y+z")
        yield box((left, 0, -d / 2 + 0.03), (right, key - 0.1, -d / 2 + 0.1), MAIN, without="-y+y")
    left, right, z, z2 = -w / 2 + 0.07, w / 2 - 0.07, -d / 2 + 0.01, -d / 2 + 0.16
    yield box((left, key - 0.02, z), (right, key + 0.01, z2), WHITE, without="-y")
    count = 14
    for i in range(count):
        if i % 7 in (2, 6):  # as on a keyboard: groups of two and of three
            continue
        x = left + (right - left) * (i + 1) / (count + 1)
        yield box((x - 0.014, key + 0.01, z + 0.06), (x + 0.014, key + 0.022, z2), RUBBER, without="-y")
    yield box((-w / 5, key + 0.16, back - 0.03), (w / 5, key + 0.36, back - 0.012), (DEEP, CREAM, TIMBER)[variant % 3])


def _floor_lamp(w: float, h: float, d: float, variant: int) -> Parts:
    r, shade = w / 2, h * 0.26
    top = (r * 0.62, r * 0.98, r * 0.3)[variant % 3]
    yield lathe([(r * 0.75, 0), (r * 0.75, 0.02), (0.03, 0.05), (0.014, 0.06), (0.014, h - shade * 0.6)], DARK)
    yield lathe([(r, h - shade), (top, h), (0, h)], LIGHT, sides=10)
    under = lathe([(0, h - shade + 0.03), (r * 0.93, h - shade + 0.03)], CREAM, sides=10)
    yield Part(under.quads[:, ::-1], CREAM)
    yield Part(lathe([(r, h - shade), (r * 0.93, h - shade + 0.03)], DEEP, sides=10).quads[:, ::-1], DEEP)


def _potted_plant(w: float, h: float, d: float, variant: int) -> Parts:
    r, pot = w / 2, min(0.3, h * 0.3)
    yield lathe([(r * 0.42, 0), (r * 0.6, pot), (r * 0.5, pot), (0, pot - 0.03)], CLAY, sides=8)
    if variant % 3 == 0:  # a small tree
        yield disc(0.022, pot - 0.03, h * 0.55, TIMBER, at=(0, 0, 0), sides=6)
        crown = (h - h * 0.42) / 2
        flat = crown / r
        yield ball(r, MAIN, at=(0, h - crown, 0), sides=9, rings=5, squash=flat)
        return
    if variant % 3 == 1:  # a fir
        tiers = 3
        for i in range(tiers):
            low = pot + (h - pot) * (0.06 + 0.27 * i)
            wide, high = r * (1 - 0.26 * i), low + (h - pot) * 0.4
            tone = Paint(tone=(0.84, 0.96, 1.1)[i])
            yield lathe([(0, low), (wide, low), (0, min(high, h))], tone, sides=8)
        return
    for i in range(9):  # long leaves that bend outwards
        turn, far = 2 * math.pi * i / 9, r * (1.0, 0.7, 0.45)[i % 3]
        tip = pot + (h - pot) * (0.55, 0.8, 1.0)[i % 3]
        ahead, aside = np.array([math.cos(turn), 0, math.sin(turn)]), np.array([-math.sin(turn), 0, math.cos(turn)])
        base, bend = np.array([0, pot - 0.03, 0]), ahead * far * 0.55 + np.array([0, tip * 0.86 + pot * 0.14, 0])
        broad, end = aside * w * 0.13, ahead * far * 0.95 + np.array([0, tip, 0])
        blade = [base - aside * 0.015, base + aside * 0.015, bend + broad, bend - broad]
        leaf = np.array([blade, [bend - broad, bend + broad, end, end]])
        yield Part(leaf, Paint(tone=(0.8, 0.95, 1.12)[i % 3]), double_sided=True)


def _rug(w: float, h: float, d: float, variant: int) -> Parts:
    yield box((-w / 2, 0, -d / 2), (w / 2, h - 0.003, d / 2), DEEP)
    x, z = w / 2 - 0.1, d / 2 - 0.1
    yield lying((-x, x), h, (-z, z), Paint(tone=1.08, pattern=RUGS[variant % 3]))


def _painting(w: float, h: float, d: float, variant: int) -> Parts:
    edge, z = 0.05, -d / 2 + 0.01
    yield box((-w / 2, 0, z), (w / 2, h, d / 2), (GOLD, TIMBER, DARK)[variant % 3], without="+z")
    x, y, z = w / 2 - edge, h - edge, z - 0.003
    yield facing((-x, x), (edge, y), z, MAIN)
    z -= 0.003
    if variant % 3 == 0:  # hills under a sun
        yield panel((-x, edge, z), (-x, h * 0.45, z), (x * 0.3, h * 0.3, z), (x, edge, z), paint=DARKER)
        yield lathe([(h * 0.13, 0), (0, 0)], CREAM, at=(x * 0.45, h * 0.68, z), axis="-z")
    elif variant % 3 == 1:  # bars
        for left, right, tone in ((-0.7, -0.35, 0.65), (-0.1, 0.1, 1.25), (0.4, 0.85, 0.8)):
            yield facing((x * left, x * right), (edge, y), z, Paint(tone=tone))
    else:  # a square that stands on its corner, and one in it
        for share, paint in ((0.8, Paint(tone=0.65)), (0.4, CREAM)):
            a, c = share * min(x, h / 2 - edge), h / 2
            yield panel((-a, c, z), (0, c + a, z), (a, c, z), (0, c - a, z), paint=paint)
            z -= 0.003


def _mirror(w: float, h: float, d: float, variant: int) -> Parts:
    """An oval or a square glass in a broad frame."""
    z, centre = -d / 2 + 0.012, (0.0, h / 2, 0.0)
    if variant % 3 == 0:
        rim, bed = h / 2, d / 2 - 0.012
        profile = [(rim, -d / 2), (rim, bed), (rim * 0.72, d / 2), (rim * 0.68, bed)]
        yield lathe(profile, MAIN, at=centre, axis="-z", sides=12, squash=w / h)
        yield lathe([(rim * 0.68, bed), (0, bed)], GLASS, at=centre, axis="-z", sides=12, squash=w / h)
        reach = w * 0.2
    else:
        reach, edge = w * 0.32, w * 0.18
        yield box((-w / 2, 0, z), (w / 2, h, d / 2), GRAIN if variant % 3 == 1 else MAIN, without="+z")
        z -= 0.003
        yield facing((-reach, reach), (edge, h - edge), z, GLASS)
    z -= 0.003
    a, b, low, high = -reach * 0.75, -reach * 0.2, h * 0.38, h * 0.66
    yield panel((a, low, z), (b, high, z), (b + 0.06, high, z), (a + 0.06, low, z), paint=WHITE)


def _wall_clock(w: float, h: float, d: float, variant: int) -> Parts:
    r, sides = h / 2, (12, 8, 4)[variant % 3]
    if sides == 4:  # a square reaches out in its corners
        r *= math.sqrt(2)
    face, bed = r * 0.66, d / 2 - 0.016
    rim = [(r, -d / 2), (r, d / 2 - 0.012), (face, d / 2 - 0.004), (face, bed)]
    for profile, paint in ((rim, MAIN), ([(face, bed), (0, bed)], WHITE)):
        yield lathe(profile, paint, at=(0, h / 2, 0), axis="-z", sides=sides, squash=w / h)
    yield from hands(h / 2, h * 0.33, -d / 2 + 0.012)


def hands(centre: float, reach: float, z: float) -> Parts:
    """Of a clock: it is nine."""
    yield facing((-0.008, 0.008), (centre, centre + reach * 0.8), z, RUBBER)
    yield facing((0, reach * 0.55), (centre - 0.011, centre + 0.011), z, RUBBER)


def _kitchen_counter(w: float, h: float, d: float, variant: int) -> Parts:
    top, foot = 0.04, 0.09
    yield box((-w / 2, 0, -d / 2 + 0.08), (w / 2, foot, d / 2), DARK, without="-y+y")
    yield box((-w / 2, foot, -d / 2 + 0.03), (w / 2, h - top, d / 2), DEEP, without="+y")
    columns = 4 if w > 1.8 else 3
    yield from fronts((-w / 2, w / 2), (foot, h - top - 0.17), -d / 2 + 0.01, columns, 1, MAIN, upright=True)
    yield from fronts((-w / 2, w / 2), (h - top - 0.17, h - top), -d / 2 + 0.01, columns, 1, MAIN, upright=False)
    if variant % 3 == 2:
        yield box((-w / 2, h - top, -d / 2), (w / 2, h, d / 2), STONE)
        return
    low, high = (-w / 2, h - top, -d / 2), (w / 2, h, d / 2)
    yield box(low, high, STONE if variant % 3 else TIMBER)
    x, z = w * 0.2, d * 0.28  # a sink: a dark panel with a rim, and its tap
    yield box((x - 0.2, h - 0.012, -z), (x + 0.2, h - 0.001, z), CHROME, without="-y")
    y = h - 0.0005
    yield lying((x - 0.17, x + 0.17), y, (-z + 0.03, z - 0.03), DARK)  # fmt: skip


def _stove(w: float, h: float, d: float, variant: int) -> Parts:
    front, top = -d / 2 + 0.04, h - 0.06
    yield box((-w / 2, 0, front), (w / 2, top, d / 2), MAIN, without="+y")
    yield box((-w / 2, top, -d / 2 + 0.01), (w / 2, top + 0.015, d / 2), DARK)
    for x in (-w / 4, w / 4):
        for z in (-d / 5, d / 5):
            yield lathe([(0.085, top + 0.02), (0.05, top + 0.02)], CHROME, at=(x, 0, z), sides=8)
    yield box((-w / 2, top + 0.015, d / 2 - 0.05), (w / 2, h, d / 2), MAIN, without="-y")
    for i in range(4):
        x = -w / 2 + w * (i + 1) / 5
        yield box((x - 0.02, top - 0.09, front - 0.02), (x + 0.02, top - 0.05, front), CHROME, without="+z")
    yield box((-w / 2 + 0.03, 0.12, front - 0.012), (w / 2 - 0.03, top - 0.15, front), LIGHT, without="+z")
    z = front - 0.016
    a, low, high = w / 2 - 0.11, 0.2 + 0.05 * (variant % 3), top - 0.25
    yield facing((-a, a), (low, high), z, SCREEN)
    yield box((-w / 2 + 0.06, top - 0.2, front - 0.035), (w / 2 - 0.06, top - 0.18, front - 0.012), CHROME)


def _refrigerator(w: float, h: float, d: float, variant: int) -> Parts:
    front, foot = -d / 2 + 0.03, 0.05
    yield box((-w / 2 + 0.02, 0, front + 0.06), (w / 2 - 0.02, foot, d / 2), DARK, without="-y+y")
    yield box((-w / 2, foot, front + 0.05), (w / 2, h, d / 2), DEEP)
    split = (h * 0.66, h * 0.36, h * 0.5)[variant % 3]
    if variant % 3 == 2:  # two doors side by side
        spans = [((-w / 2, -0.005), (foot, h)), ((0.005, w / 2), (foot, h))]
    else:
        spans = [((-w / 2, w / 2), (foot, split - 0.006)), ((-w / 2, w / 2), (split + 0.006, h))]
    for i, ((left, right), (low, high)) in enumerate(spans):
        yield box((left, low, front), (right, high, front + 0.05), MAIN, without="+z")
        x = right - 0.09 if variant % 3 != 2 or i == 0 else left + 0.05
        lower, upper = (low + 0.08, high - 0.08) if high - low < 0.8 else (split - 0.3, split + 0.3)
        if variant % 3 != 2 and high - low >= 0.8:
            lower, upper = (high - 0.5, high - 0.08) if i == 0 else (low + 0.08, low + 0.5)
        yield box((x, lower, front - 0.03), (x + 0.035, upper, front), CHROME, without="+z")


def _dining_table(w: float, h: float, d: float, variant: int) -> Parts:
    if variant % 3 == 1:  # oval, on two feet
        yield lathe([(0, h - 0.04), (w / 2, h - 0.04), (w / 2, h), (0, h)], MAIN, sides=12, squash=d / w)
        for x in (-w / 4, w / 4):
            yield disc(0.06, 0.04, h - 0.04, DEEP, at=(x, 0, 0), sides=6)
            yield box((x - 0.05, 0, -d / 3), (x + 0.05, 0.05, d / 3), DEEP)
        return
    yield from board_on_legs(w, h, d, 0.045, 0.08 if variant % 3 == 0 else 0.055)


def _chair(w: float, h: float, d: float, variant: int) -> Parts:
    seat, leg = min(0.46, h * 0.5), 0.04
    yield from legs(w, d, seat - 0.04, leg, DEEP, inset=0.01)
    yield box((-w / 2, seat - 0.05, -d / 2), (w / 2, seat, d / 2), LIGHT)
    for x in (-w / 2 + 0.01, w / 2 - 0.01 - leg):
        yield box((x, seat, d / 2 - 0.05), (x + leg, h, d / 2 - 0.01), MAIN, without="-y")
    inner, z = w / 2 - 0.01, (d / 2 - 0.045, d / 2 - 0.015)
    if variant % 3 == 0:
        yield box((-inner, seat + 0.12, z[0]), (inner, h - 0.01, z[1]), MAIN)
    elif variant % 3 == 1:
        for low in (0.35, 0.75):
            y = seat + (h - seat) * low
            yield box((-inner, y, z[0]), (inner, y + (h - seat) * 0.22, z[1]), MAIN)
    else:
        yield box((-inner, h - 0.1, z[0]), (inner, h - 0.005, z[1]), MAIN)
        for x in (-inner * 0.45, inner * 0.15):
            yield box((x, seat, z[0]), (x + inner * 0.3, h - 0.1, z[1]), MAIN, without="-y+y")


def _sideboard(w: float, h: float, d: float, variant: int) -> Parts:
    columns, rows = ((3, 1), (2, 2), (4, 1))[variant % 3]
    yield from case(w, h, d, columns, rows, upright=variant % 3 != 1, leg=0.12)


def _chandelier(w: float, h: float, d: float, variant: int) -> Parts:
    r, arms, low = w / 2, (6, 5, 4)[variant % 3], h * 0.12
    yield lathe([(0.06, h - 0.03), (0.06, h)], MAIN)
    yield lathe([(0, 0), (0.07, low), (0.02, low * 2.2), (0.012, h - 0.03), (0.06, h - 0.03)], MAIN)
    ring = r * 0.86
    profile = [(ring - 0.03, low), (ring, low), (ring, low + 0.05), (ring - 0.03, low + 0.05), (ring - 0.03, low)]
    yield lathe(profile, MAIN, sides=2 * arms)
    for i in range(arms):
        turn = 2 * math.pi * (i + 0.5) / arms
        x, z = ring * 0.96 * math.cos(turn), ring * 0.96 * math.sin(turn)
        yield bar((0, low * 1.5, 0), (x, low + 0.025, z), 0.02, MAIN, ends=False)
        yield lathe([(0.03, low + 0.05), (0.03, low + 0.15), (0, low + 0.19)], CREAM, at=(x, 0, z), sides=4)


def _fruit_bowl(w: float, h: float, d: float, variant: int) -> Parts:
    r, rim = w / 2, h * 0.66
    profile = [(r * 0.5, 0), (r * 0.4, 0.015), (r, rim), (r * 0.92, rim), (r * 0.3, 0.04), (0, 0.04)]
    yield lathe(profile, MAIN, sides=10)
    colours = [Paint((222, 44, 40)), Paint((240, 190, 50)), Paint((120, 178, 60)), Paint((240, 140, 40))]
    small = r * 0.34
    for i in range(3):
        turn = 2 * math.pi * i / 3 + variant
        at = (0.42 * r * math.cos(turn), rim * 0.72, 0.42 * r * math.sin(turn))
        yield ball(small, colours[(i + variant) % 4], at=at, sides=6, rings=4)
    yield ball(small, colours[(3 + variant) % 4], at=(0, h - small, 0), sides=6, rings=4)


def _vase(w: float, h: float, d: float, variant: int) -> Parts:
    r, tall = w / 2, h * 0.68
    profiles = (
        [(r * 0.5, 0), (r * 0.85, tall * 0.45), (r * 0.35, tall * 0.8), (r * 0.5, tall), (r * 0.3, tall * 0.9)],
        [(r * 0.4, 0), (r * 0.8, tall * 0.7), (r * 0.6, tall), (r * 0.4, tall * 0.9)],
        [(r * 0.45, 0), (r * 0.8, tall * 0.25), (r * 0.3, tall * 0.55), (r * 0.35, tall), (r * 0.2, tall * 0.9)],
    )
    yield lathe(profiles[variant % 3], MAIN, sides=8)
    stem = Paint((62, 120, 58))
    petals = Paint((248, 214, 226))
    for i in range(3):
        turn = 2 * math.pi * i / 3 + 0.5
        x, z, y = 0.6 * r * math.cos(turn), 0.6 * r * math.sin(turn), h - 0.03 - 0.03 * i
        yield bar((0, tall * 0.9, 0), (x, y, z), 0.01, stem, ends=False)
        yield ball(min(0.03, 0.35 * r), petals, at=(x, y, z), sides=5, rings=3)


def _trash_can(w: float, h: float, d: float, variant: int) -> Parts:
    r = w / 2
    if variant % 3 == 0:  # with a dome to push
        yield lathe([(r * 0.8, 0), (r * 0.95, h * 0.75)], MAIN, sides=10)
        yield lathe([(r, h * 0.75), (r, h * 0.8), (r * 0.7, h * 0.95), (0, h)], DARKER, sides=10)
        return
    inner = [(r, h), (r * 0.9, h), (r * 0.7, h * 0.25), (0, h * 0.25)]
    yield lathe([(r * 0.75, 0), *inner[:2]], MAIN, sides=10)
    yield lathe(inner[1:], DARKER, sides=10)
    if variant % 3 == 2:
        yield lathe(
            [(r * 0.82, h * 0.28), (r * 0.92, h * 0.3), (r * 0.97, h * 0.5), (r * 0.86, h * 0.52)], DEEP, sides=10
        )


def _bed(w: float, h: float, d: float, variant: int) -> Parts:
    mattress, frame, head = 0.5, 0.3, d / 2 - 0.07
    boards = Paint(tone=0.75) if variant % 3 == 2 else TIMBER  # one is covered with cloth
    yield box((-w / 2, 0.3 if variant % 3 == 1 else 0.12, head), (w / 2, h, d / 2), boards)
    for x in (-w / 2, w / 2 - 0.07):
        for z in (-d / 2, d / 2 - 0.07):
            yield box((x, 0, z), (x + 0.07, frame, z + 0.07), boards, without="-y+y")
    yield box((-w / 2, 0.16, -d / 2), (w / 2, frame, head), boards, without="+z")
    foot = -d / 2 + 0.02
    if variant % 3 == 2:
        foot += 0.04
        yield box((-w / 2, frame, -d / 2), (w / 2, 0.6, foot), boards, without="-y")
    yield box((-w / 2 + 0.03, frame, foot + 0.01), (w / 2 - 0.03, mattress, head), WHITE, without="+z-y")
    fold, x = head - 0.55, w / 2 - 0.005
    cover = Paint(pattern=BED_COVERS[variant % 3])
    yield box((-x, frame - 0.08, foot), (x, mattress + 0.03, fold), cover, without="-y")
    yield box((-x, frame + 0.02, fold), (x, mattress + 0.035, fold + 0.14), LIGHT, without="-y")
    for x in (-w / 4, w / 4):
        low, high = (x - w * 0.19, mattress, head - 0.36), (x + w * 0.19, mattress + 0.13, head - 0.03)
        yield box(low, high, CREAM, without="-y")


def _nightstand(w: float, h: float, d: float, variant: int) -> Parts:
    yield from case(w, h, d, 1, (2, 1, 3)[variant % 3], upright=False, leg=(0.12, 0.2, 0.05)[variant % 3])


def _table_lamp(w: float, h: float, d: float, variant: int) -> Parts:
    r, shade = w / 2, h * 0.5
    foot = h - shade
    bodies = (
        [(r * 0.55, 0), (r * 0.55, 0.02), (0.015, 0.03), (0.015, foot + 0.05)],
        [(r * 0.35, 0), (r * 0.6, foot * 0.4), (0.02, foot * 0.9), (0.015, foot + 0.05)],
        [(r * 0.5, 0), (0.02, foot * 0.5), (r * 0.3, foot * 0.7), (0.015, foot + 0.05)],
    )
    yield lathe(bodies[variant % 3], (DARK, GOLD, TIMBER)[variant % 3], sides=8)
    yield lathe([(r, foot), (r * (0.55, 0.75, 0.95)[variant % 3], h), (0, h)], LIGHT, sides=10)


def _wardrobe(w: float, h: float, d: float, variant: int) -> Parts:
    if variant % 3 == 2:  # doors over two drawers
        yield box((-w / 2, 0, -d / 2 + 0.02), (w / 2, h - 0.04, d / 2), DEEP_GRAIN, without="+y")
        yield from fronts((-w / 2, w / 2), (0.06, 0.36), -d / 2, 2, 1, GRAIN, upright=False)
        yield from fronts((-w / 2, w / 2), (0.36, h - 0.05), -d / 2, 2, 1, GRAIN, upright=True)
        yield box((-w / 2, h - 0.04, -d / 2), (w / 2, h, d / 2), GRAIN)
        return
    yield from case(w, h, d, 2 + variant % 3, 1, upright=True)


def _dresser(w: float, h: float, d: float, variant: int) -> Parts:
    columns, rows = ((2, 3), (1, 4), (2, 4))[variant % 3]
    yield from case(w, h, d, columns, rows, upright=False)


def _bathtub(w: float, h: float, d: float, variant: int) -> Parts:
    foot = (0.0, 0.08, 0.0)[variant % 3]
    outside, inside = basin((-w / 2, foot, -d / 2), (w / 2, h - 0.04, d / 2), MAIN, DEEP, rim_m=0.08, floor_m=0.14)
    yield outside
    yield inside
    if foot:
        yield from legs(w, d, foot, 0.07, GOLD, inset=0.03)
    water = h - 0.2
    x, z = w / 2 - 0.08, d / 2 - 0.08
    if variant % 3 == 0:
        yield lying((-x, x), water, (-z, z), Paint((128, 190, 214)))
    yield box((w / 2 - 0.07, h - 0.04, -0.03), (w / 2 - 0.01, h, 0.03), CHROME, without="-y")
    yield box((w / 2 - 0.2, h - 0.02, -0.02), (w / 2 - 0.07, h, 0.02), CHROME)


def _shower(w: float, h: float, d: float, variant: int) -> Parts:
    yield from basin((-w / 2, 0, -d / 2), (w / 2, 0.1, d / 2), MAIN, DEEP, rim_m=0.06, floor_m=0.04)
    tiles = Paint(pattern="tiles")
    yield box((-w / 2, 0.1, d / 2 - 0.02), (w / 2, h, d / 2), tiles)
    for x in (-w / 2, w / 2 - 0.03):
        yield box((x, 0.1, -d / 2), (x + 0.03, h, -d / 2 + 0.03), CHROME, without="-y")
        yield box((x, h - 0.03, -d / 2 + 0.03), (x + 0.03, h, d / 2 - 0.02), CHROME)
    yield box((-w / 2 + 0.03, h - 0.03, -d / 2), (w / 2 - 0.03, h, -d / 2 + 0.03), CHROME)
    folds, reach = 6, w * (0.55, 0.4, 0.7)[variant % 3]  # a curtain, drawn to one side
    for i in range(folds):
        a, b = (-w / 2 + 0.03 + reach * k / folds for k in (i, i + 1))
        z, z2 = (-d / 2 + (0.055 if k % 2 else 0.01) for k in (i, i + 1))
        yield panel((a, 0.14, z), (a, h - 0.03, z), (b, h - 0.03, z2), (b, 0.14, z2),
                    paint=LIGHT if i % 2 else DEEP, double_sided=True)  # fmt: skip
    yield box((w / 5, 1.0, d / 2 - 0.05), (w / 5 + 0.03, h - 0.12, d / 2 - 0.02), CHROME, without="+z")
    yield lathe([(0.02, h - 0.12), (0.08, h - 0.18), (0, h - 0.18)][::-1], CHROME, at=(w / 5, 0, d / 2 - 0.13), sides=6)


def _toilet(w: float, h: float, d: float, variant: int) -> Parts:
    seat, tank = 0.42, d * 0.28
    r = w * 0.47
    middle = -d / 2 + (d - tank) / 2
    squash = (d - tank) / 2 / r
    at = (0.0, 0.0, middle)
    foot = (0.6, 0.75, 0.66)[variant % 3]
    yield lathe(
        [(r * foot, 0), (r * foot, 0.12), (r * 0.96, seat - 0.06), (r, seat - 0.04)],
        MAIN,
        at=at,
        sides=10,
        squash=squash,
    )
    yield lathe(
        [(r, seat - 0.04), (r, seat), (r * 0.62, seat), (r * 0.5, seat - 0.1)], LIGHT, at=at, sides=10, squash=squash
    )
    yield lathe([(r * 0.5, seat - 0.1), (0, seat - 0.14)], Paint((120, 170, 196)), at=at, sides=10, squash=squash)
    yield box((-w * 0.3, 0, d / 2 - tank), (w * 0.3, seat, d / 2), DEEP, without="+y")
    yield box((-w / 2, seat, d / 2 - tank), (w / 2, h - 0.035, d / 2), MAIN, without="+y")
    yield box((-w / 2, h - 0.035, d / 2 - tank - 0.01), (w / 2, h - 0.01, d / 2), LIGHT)
    yield box((-0.04, h - 0.01, d / 2 - tank / 2 - 0.03), (0.04, h, d / 2 - tank / 2 + 0.03), CHROME, without="-y")
    lid = (h - seat) * 0.46  # half of its height: it is put up
    yield lathe([(0, 0), (lid, 0), (lid, 0.02), (0, 0.02)], LIGHT, at=(0, seat + lid, d / 2 - tank - 0.03), axis="z",
                sides=10, squash=r / lid)  # fmt: skip


def _sink(w: float, h: float, d: float, variant: int) -> Parts:
    top = h - 0.1
    if variant % 3 == 0:  # on a column
        yield lathe([(0.13, 0), (0.09, 0.1), (0.09, top - 0.2), (0.16, top - 0.16)], MAIN, at=(0, 0, d * 0.1), sides=8)
    else:
        yield box((-w / 2 + 0.03, 0, -d / 2 + 0.06), (w / 2 - 0.03, top - 0.16, d / 2), DEEP, without="+y")
        yield from fronts(
            (-w / 2 + 0.03, w / 2 - 0.03), (0.04, top - 0.18), -d / 2 + 0.04, variant % 3, 1, MAIN, upright=True
        )
    yield from basin((-w / 2, top - 0.16, -d / 2), (w / 2, top, d / 2), MAIN, DEEP, rim_m=0.05, floor_m=0.05)
    yield box((-0.02, top, d / 2 - 0.05), (0.02, h, d / 2 - 0.015), CHROME, without="-y")
    yield box((-0.02, h - 0.03, d / 2 - 0.19), (0.02, h, d / 2 - 0.05), CHROME, without="+z")
    for x in (-0.12, 0.1):
        yield box((x, top, d / 2 - 0.045), (x + 0.03, top + 0.05, d / 2 - 0.015), CHROME, without="-y")


def front_loader(w: float, h: float, d: float, glass: Paint, ring: Paint, panel_at: float) -> Parts:
    """A washing machine or a dryer."""
    front = -d / 2 + 0.03
    yield box((-w / 2, 0, front), (w / 2, h, d / 2), MAIN)
    z = front - 0.004
    low, high = h - 0.13, h - 0.02
    yield facing((-w / 2 + 0.02, w / 2 - 0.02), (low, high), z, DEEP)
    x = w * panel_at
    z -= 0.003
    yield facing(
        (x - 0.09, x + 0.09),
        (low + 0.03, high - 0.03),
        z,
        SCREEN,
    )
    yield disc(0.032, 0, 0.02, CHROME, at=(-x, h - 0.075, front), axis="-z", sides=6)
    r = w * 0.31
    for profile, paint in (([(r, 0), (r, 0.02), (r * 0.72, 0.028)], ring), ([(r * 0.72, 0.028), (0, 0.015)], glass)):
        yield lathe(profile, paint, at=(0, h * 0.44, front), axis="-z", sides=12)


def _washing_machine(w: float, h: float, d: float, variant: int) -> Parts:
    yield from front_loader(w, h, d, Paint((96, 140, 176)), CHROME, (0.22, -0.22, 0.05)[variant % 3])


def _dryer(w: float, h: float, d: float, variant: int) -> Parts:
    """Its door is square, where a washing machine's is a round window."""
    front = -d / 2 + 0.03
    yield box((-w / 2, 0, front), (w / 2, h, d / 2), MAIN)
    z = front - 0.004
    low, high, x = h - 0.13, h - 0.02, w / 2 - 0.02
    yield facing((-x, x), (low, high), z, DARKER)
    for knob in (-0.3, 0.0, 0.3)[: 3 - variant % 3]:
        yield box(
            (w * knob - 0.025, low + 0.03, front - 0.02), (w * knob + 0.025, high - 0.03, z), CHROME, without="+z"
        )
    yield box((-w * 0.34, 0.14, front - 0.02), (w * 0.34, h - 0.2, front), LIGHT, without="+z")
    z = front - 0.023
    a, low, high = w * 0.19, h * 0.34, h * 0.58
    yield facing((-a, a), (low, high), z, DARK)
    for i in range(3):  # slits for the air
        y = 0.03 + 0.03 * i
        yield facing(
            (-a, a),
            (y, y + 0.012),
            front - 0.004,
            DARK,
        )


def _laundry_basket(w: float, h: float, d: float, variant: int) -> Parts:
    r, rim = w / 2, h - 0.08
    weave = Paint(pattern=WEAVES[variant % 3])
    yield lathe([(r * 0.78, 0), (r * 0.95, rim - 0.06)], weave, sides=10)
    yield lathe(
        [(r * 0.95, rim - 0.06), (r, rim - 0.06), (r, rim), (r * 0.88, rim), (r * 0.84, rim - 0.1)], DEEP, sides=10
    )
    yield lathe([(r * 0.86, rim - 0.05), (r * 0.6, h - 0.03), (0.0, h)], WHITE, sides=7)
    yield ball(r * 0.3, Paint((120, 160, 206)), at=(r * 0.35, rim - 0.01, -r * 0.25), sides=6, rings=4, squash=0.8)


def _ironing_board(w: float, h: float, d: float, variant: int) -> Parts:
    top = h - 0.13 if variant % 3 == 0 else h
    x, z = w / 2, d / 2
    outline = [(-x, -z), (-x, z), (x * 0.55, z), (x, z * 0.3), (x, -z * 0.3), (x * 0.55, -z)]  # turning left
    low, high = top - 0.06, top
    cover = Paint(pattern=BOARD_COVERS[variant % 3])
    upper = np.array([(a, high, b) for a, b in outline])
    lower = np.array([(a, low, b) for a, b in outline])
    sides = [np.stack([lower[i], lower[i - 5], upper[i - 5], upper[i]]) for i in range(6)]
    caps = [upper[[0, 1, 2, 5]], upper[[2, 3, 4, 5]], lower[[0, 5, 2, 1]], lower[[2, 5, 4, 3]]]
    yield Part(np.stack(caps), cover)
    yield Part(np.stack(sides), MAIN)
    for side in (-1, 1):
        for deep in (-z * 0.6, z * 0.6):
            yield bar((side * x * 0.6, 0.02, deep), (-side * x * 0.5, low, deep * 0.5), 0.022, CHROME, ends=False)
        yield box((side * x * 0.6 - 0.015, 0, -z), (side * x * 0.6 + 0.015, 0.03, z), CHROME)
    if variant % 3 == 0:  # an iron
        at = -x * 0.55
        yield box((at - 0.1, top, -0.05), (at + 0.12, top + 0.06, 0.05), DARK, without="-y")
        yield box((at - 0.08, top + 0.09, -0.02), (at + 0.09, h, 0.02), DARK)
        yield box((at - 0.08, top + 0.06, -0.02), (at - 0.04, top + 0.09, 0.02), DARK)


def _desk(w: float, h: float, d: float, variant: int) -> Parts:
    yield box((-w / 2, h - 0.04, -d / 2), (w / 2, h, d / 2), GRAIN)
    yield box((-w / 2 + 0.04, h * 0.45, d / 2 - 0.05), (w / 2 - 0.04, h - 0.04, d / 2 - 0.03), DEEP_GRAIN)
    drawers = {0: (1,), 1: (-1,), 2: (-1, 1)}[variant % 3]
    for side in (-1, 1):
        x = sorted((side * (w / 2 - 0.02), side * (w / 2 - 0.4)))
        if side in drawers:
            yield box((x[0], 0.04, -d / 2 + 0.04), (x[1], h - 0.04, d / 2 - 0.05), DEEP_GRAIN, without="+y")
            yield from fronts((x[0], x[1]), (0.04, h - 0.04), -d / 2 + 0.02, 1, 3, GRAIN, upright=False)
        else:
            low = side * (w / 2 - 0.02)
            a, b = sorted((low, low - side * 0.06))
            yield box((a, 0, -d / 2 + 0.03), (b, h - 0.04, d / 2 - 0.03), GRAIN, without="+y")


def _computer(w: float, h: float, d: float, variant: int) -> Parts:
    low, z = h * 0.26, d / 2 - 0.07
    glow = Paint(((70, 140, 206), (90, 170, 130), (60, 70, 110))[variant % 3])
    yield box((-w / 2, low, z), (w / 2, h, z + 0.035), MAIN)
    a, y, y2 = w / 2 - 0.045, low + 0.09, h - 0.04
    yield facing((-a, a), (y, y2), z - 0.004, glow)
    yield box((-0.04, 0.02, z + 0.01), (0.04, low, z + 0.03), DEEP, without="-y+y")
    yield box((-0.12, 0, z - 0.04), (0.12, 0.02, d / 2), MAIN)
    yield box((-w / 2 + 0.03, 0, -d / 2), (w / 2 - 0.1, 0.02, -d / 2 + 0.09), LIGHT)
    yield box((w / 2 - 0.06, 0, -d / 2 + 0.01), (w / 2 - 0.01, 0.025, -d / 2 + 0.08), DEEP)


def _filing_cabinet(w: float, h: float, d: float, variant: int) -> Parts:
    yield box((-w / 2, 0, -d / 2 + 0.02), (w / 2, h, d / 2), DEEP)
    rows = (4 if h > 1.2 else 3) - (variant % 3 == 2)
    for i in range(rows):
        low, high = 0.04 + (h - 0.06) * i / rows + 0.012, 0.04 + (h - 0.06) * (i + 1) / rows - 0.012
        yield box((-w / 2 + 0.02, low, -d / 2 + 0.006), (w / 2 - 0.02, high, -d / 2 + 0.02), MAIN, without="+z")
        y, z = high - 0.06, -d / 2 + 0.002
        yield facing((-0.07, 0.07), (y, y + 0.02), z, CHROME)
        if variant % 3 != 1:  # a label
            y -= 0.09
            yield facing((-0.05, 0.05), (y, y + 0.05), z, CREAM)


def _globe(w: float, h: float, d: float, variant: int) -> Parts:
    r = min(w / 2 * 0.94, (h - 0.08) / 2)
    centre = (0.0, h - r - 0.012, 0.0)
    sphere = ball(r, MAIN, at=centre, sides=12, rings=7)
    land = np.zeros((7, 12), dtype=bool)  # rings from below, sides: continents of no world in particular
    for ring, sides in ((1, (2, 8)), (2, (2, 8)), (3, (1, 2, 7, 8)), (4, (1, 7, 11)), (5, (0, 1, 6, 7, 8))):
        land[ring, [(side + 2 * variant) % 12 for side in sides]] = True
    yield Part(sphere.quads[~land.reshape(-1)], MAIN)
    yield Part(sphere.quads[land.reshape(-1)], Paint((206, 184, 120)))
    yield lathe([(w * 0.3, 0), (w * 0.3, 0.015), (0.02, 0.03), (0.015, centre[1] - r)], TIMBER, sides=8)
    out = w / 2 - 0.012
    bow = [(out * math.sin(turn), centre[1] - (r + 0.006) * math.cos(turn)) for turn in (0.0, 0.8, 1.57, 2.34, 3.14)]
    for (x, y), (x2, y2) in itertools.pairwise(bow):
        yield bar((x, y, 0), (x2, y2, 0), 0.012, GOLD, ends=False)


def _coat_rack(w: float, h: float, d: float, variant: int) -> Parts:
    r = w / 2
    yield lathe([(0.035, 0.02), (0.03, h - 0.06), (0.045, h - 0.05), (0, h)], MAIN, sides=8)
    for i in range(4):
        turn = math.pi * (i + 0.5) / 2
        x, z = math.cos(turn), math.sin(turn)
        yield bar((0, 0.14, 0), (x * (r - 0.02), 0.02, z * (r - 0.02)), 0.04, DEEP)
        for y, reach in ((h - 0.16, r * 0.75), (h - 0.45, r * 0.6))[: 1 if variant % 3 == 1 else 2]:
            out = (x * reach, y + 0.09, z * reach)
            yield bar((0, y, 0), out, 0.028, MAIN)
    if variant % 3 != 1:  # a hat on top of one peg
        at = r * 0.5 * math.cos(math.pi / 4)
        hat = Paint((86, 66, 52) if variant % 3 == 0 else (72, 92, 132))
        yield lathe([(0.11, 0), (0.055, 0.008), (0.05, 0.08), (0, 0.09)], hat, at=(at, h - 0.09, at))


def _shoe_rack(w: float, h: float, d: float, variant: int) -> Parts:
    for x in (-w / 2, w / 2 - 0.035):
        yield box((x, 0, -d / 2), (x + 0.035, h, d / 2), GRAIN)
    tiers = 3 if h > 0.48 else 2
    step = (h - 0.05) / tiers
    for i in range(tiers + 1):
        y = 0.02 + i * step
        yield box((-w / 2 + 0.035, y, -d / 2), (w / 2 - 0.035, y + 0.03, d / 2), GRAIN, without="-x+x")
    yield box((-w / 2 + 0.035, 0.02, d / 2 - 0.02), (w / 2 - 0.035, h - 0.02, d / 2 - 0.005), DARKER)
    shoes = (Paint((60, 60, 70)), Paint((214, 208, 200)), Paint((168, 62, 52)), Paint((74, 104, 150)))
    for i in range(tiers):
        y = 0.05 + i * step
        for j in range(2):
            x = -w / 2 + 0.1 + (w - 0.34) * j + 0.05 * ((i + variant) % 2)
            for k in (0, 1):
                left = x + 0.1 * k
                yield box(
                    (left, y, -d / 2 + 0.03),
                    (left + 0.075, y + 0.045, 0.06),
                    shoes[(i + j + variant) % 4],
                    without="-y",
                )
                yield box(
                    (left, y + 0.045, -0.04), (left + 0.075, y + 0.09, 0.06), shoes[(i + j + variant) % 4], without="-y"
                )


def _console_table(w: float, h: float, d: float, variant: int) -> Parts:
    yield box((-w / 2, h - 0.035, -d / 2), (w / 2, h, d / 2), GRAIN)
    yield from legs(w, d, h - 0.035, 0.05, GRAIN, inset=0.02)
    if variant % 3 == 1:
        yield box((-w / 2 + 0.03, 0.14, -d / 2 + 0.03), (w / 2 - 0.03, 0.17, d / 2 - 0.03), GRAIN)
        apron = 0.07
    else:
        apron = 0.17
    yield box((-w / 2 + 0.03, h - 0.035 - apron, -d / 2 + 0.04), (w / 2 - 0.03, h - 0.035, d / 2 - 0.03), DEEP_GRAIN,
              without="+y")  # fmt: skip
    if apron > 0.1:
        yield from fronts(
            (-w / 2 + 0.03, w / 2 - 0.03),
            (h - 0.2, h - 0.035),
            -d / 2 + 0.02,
            2 + variant % 3 // 2,
            1,
            GRAIN,
            upright=False,
        )


def _bench(w: float, h: float, d: float, variant: int) -> Parts:
    yield box((-w / 2, h - 0.12, -d / 2), (w / 2, h, d / 2), MAIN)
    if variant % 3 == 2:
        yield box((-w / 2 + 0.03, 0, -d / 2 + 0.03), (w / 2 - 0.03, h - 0.12, d / 2 - 0.03), DEEP)
        return
    yield from legs(w, d, h - 0.12, 0.05, TIMBER if variant % 3 == 0 else DARK, inset=0.03)
    yield box((-w / 2 + 0.06, 0.1, -0.02), (w / 2 - 0.06, 0.14, 0.02), TIMBER if variant % 3 == 0 else DARK)


def _grandfather_clock(w: float, h: float, d: float, variant: int) -> Parts:
    waist, base, head = w * 0.4, h * 0.2, h * 0.72
    front = -d / 2 + 0.03
    yield box((-w / 2, 0, front), (w / 2, base, d / 2), GRAIN)
    yield box((-waist, base, front + 0.03), (waist, head, d / 2), GRAIN, without="-y+y")
    yield box((-w / 2, head, front), (w / 2, h - 0.12, d / 2), GRAIN)
    yield box((-w / 2 + 0.01, h - 0.12, -d / 2), (w / 2 - 0.01, h - 0.08, d / 2), DEEP_GRAIN)
    if variant % 3:
        x = w / 3 if variant % 3 == 1 else w * 0.45
        yield box((-x, h - 0.08, front + 0.03), (x, h, d / 2), GRAIN, without="-y")
    else:  # a gable
        z, z2, y = front + 0.02, d / 2, h - 0.08
        a = w / 2 - 0.02
        yield panel((-a, y, z), (0, h, z), (a, y, z), paint=GRAIN)
        yield panel((a, y, z2), (0, h, z2), (-a, y, z2), paint=GRAIN)
        yield panel((-a, y, z2), (0, h, z2), (0, h, z), (-a, y, z), paint=DEEP_GRAIN)
        yield panel((0, h, z2), (a, y, z2), (a, y, z), (0, h, z), paint=DEEP_GRAIN)
    z, centre = front - 0.005, (head + h - 0.12) / 2
    r = min(w * 0.36, (h - 0.12 - head) * 0.42)
    yield lathe([(r, 0), (0, 0)], CREAM, at=(0, centre, z), axis="-z", sides=12)
    yield from hands(centre, r, z - 0.004)
    z = front + 0.025
    a, low, high = waist * 0.55, base + 0.14, head - 0.1
    yield facing((-a, a), (low, high), z, DARK)
    z -= 0.004
    yield facing((-0.008, 0.008), (low + 0.14, high), z, GOLD)
    yield lathe([(0.06, 0), (0, 0)], GOLD, at=(0, low + 0.12, z - 0.002), axis="-z")


def _play_table(w: float, h: float, d: float, variant: int) -> Parts:
    yield box((-w / 2, h - 0.05, -d / 2), (w / 2, h - 0.02, d / 2), MAIN)
    yield from legs(w, d, h - 0.05, 0.08, (DEEP, CREAM, TIMBER)[variant % 3], inset=0.02)
    y = h - 0.018
    x, z = w * 0.36, d * 0.34  # a board for games
    yield lying((-x, x), y, (-z, z), Paint(tone=1.15, pattern="checks"))
    for i, (a, b) in enumerate(((-0.25, 0.1), (0.1, -0.15), (0.28, 0.2))):
        side = 0.03
        yield box(
            (w * a - side, y, d * b - side), (w * a + side, h, d * b + side), BOOKS[(i + variant) % 5], without="-y"
        )


def _toy_chest(w: float, h: float, d: float, variant: int) -> Parts:
    yield box((-w / 2, 0, -d / 2 + 0.02), (w / 2, h - 0.08, d / 2), Paint(pattern="wood"), without="+y")
    yield box((-w / 2, h - 0.08, -d / 2), (w / 2, h, d / 2), LIGHT)
    z = -d / 2 + 0.015
    blocks = (CREAM, Paint((230, 190, 60)), Paint((70, 130, 200)), Paint((206, 70, 60)))
    for i, x in enumerate((-0.3, 0.0, 0.3)):  # on its front three toys: a square, a ball and a roof
        a, c = w * x, (h - 0.08) / 2
        side = min(0.09, h * 0.17)
        paint = blocks[(i + variant) % 4]
        if i == 1:
            yield lathe([(side, 0), (0, 0)], paint, at=(a, c, z), axis="-z")
        elif i == 0:
            yield facing(
                (a - side, a + side),
                (c - side, c + side),
                z,
                paint,
            )
        else:
            yield panel((a - side, c - side, z), (a, c + side, z), (a + side, c - side, z), paint=paint)


def _dollhouse(w: float, h: float, d: float, variant: int) -> Parts:
    roof, front = h * 0.68, -d / 2 + 0.03
    x = w / 2 - 0.04
    yield box((-x, 0, front), (x, roof, d / 2 - 0.02), MAIN, without="+y")
    for z, flip in ((front, False), (d / 2 - 0.02, True)):
        gable = [(-x, roof, z), (0.0, h - 0.03, z), (x, roof, z)]
        yield panel(*(gable[::-1] if flip else gable), paint=MAIN)
    tiles = Paint(((150, 70, 58), (92, 98, 112), (120, 84, 60))[variant % 3])
    for side in (-1, 1):
        low, top = roof - 0.03, h
        outer = [(side * w / 2, low, -d / 2), (side * w / 2, low, d / 2), (0, top, d / 2), (0, top, -d / 2)]
        inner = [(side * (w / 2 - 0.01), low - 0.01, -d / 2), (0, top - 0.05, -d / 2), (0, top - 0.05, d / 2),
                 (side * (w / 2 - 0.01), low - 0.01, d / 2)]  # fmt: skip
        edge = [outer[0], outer[3], inner[1], inner[0]]
        for corners in (outer, inner, edge):
            yield panel(*(corners if side < 0 else corners[::-1]), paint=tiles, double_sided=True)
    z = front - 0.004
    for row in range(2):
        for column in (-1, 0, 1):
            if row == 0 and column == 0:
                continue
            a, b = x * 0.62 * column, roof * (0.27 + 0.47 * row)
            half, tall = x * 0.2, roof * 0.14
            yield facing((a - half, a + half), (b - tall, b + tall), z, (GLASS, CREAM, DARK)[variant % 3])  # fmt: skip
    half = x * 0.2
    yield facing((-half, half), (0.01, roof * 0.4), z, TIMBER)


def _rocking_horse(w: float, h: float, d: float, variant: int) -> Parts:
    saddle, belly = h * 0.62, h * 0.4
    for side in (-1, 1):
        x = side * (w / 2 - 0.03)
        bend = [(-0.5, 0.1), (-0.27, 0.02), (0.0, 0.0), (0.27, 0.02), (0.5, 0.1)]
        for (z, y), (z2, y2) in itertools.pairwise(bend):
            yield bar((x, y * h + 0.03, z * (d - 0.06)), (x, y2 * h + 0.03, z2 * (d - 0.06)), 0.05, TIMBER)
        for z, spread in ((-d * 0.2, -d * 0.3), (d * 0.2, d * 0.3)):
            yield bar((side * w * 0.2, belly + 0.05, z), (x, 0.07, spread), 0.055, MAIN, ends=False)
    for z in (-d * 0.3, d * 0.3):
        yield box((-w / 2 + 0.03, 0.05, z - 0.02), (w / 2 - 0.03, 0.075, z + 0.02), TIMBER)
    r = (saddle - belly) / 2
    yield lathe([(0, -d * 0.29), (r * 0.9, -d * 0.27), (r, 0), (r * 0.9, d * 0.27), (0, d * 0.29)], MAIN,
                at=(0, (belly + saddle) / 2, 0), axis="z", sides=8, squash=w * 0.3 / r)  # fmt: skip
    yield box(
        (-w * 0.31, saddle - 0.06, -d * 0.1), (w * 0.31, saddle + 0.03, d * 0.1), (TIMBER, CREAM, DARK)[variant % 3]
    )
    yield bar((0, saddle - 0.06, -d * 0.2), (0, h * 0.9, -d * 0.33), 0.13, MAIN)
    yield bar((0, h * 0.93, -d * 0.28), (0, h * 0.76, -d * 0.47), 0.105, MAIN)
    yield bar((0, saddle + 0.04, -d * 0.14), (0, h * 0.95, -d * 0.255), 0.05, CREAM)
    for x in (-0.035, 0.035):
        yield box((x - 0.012, h * 0.94, -d * 0.29), (x + 0.012, h, -d * 0.26), MAIN)
    yield disc(0.014, -w * 0.36, w * 0.36, TIMBER, at=(0, h * 0.82, -d * 0.3), axis="x", sides=6)
    yield bar((0, saddle - 0.05, d * 0.27), (0, belly - 0.02, d * 0.4), 0.05, CREAM)


def _beach_ball(w: float, h: float, d: float, variant: int) -> Parts:
    r = h / 2
    sphere = ball(r, MAIN, at=(0, r, 0), sides=12, rings=6)
    white = (np.arange(12) % (3, 4, 3)[variant % 3] == variant % 3)[None, :].repeat(6, axis=0).reshape(-1)
    yield Part(sphere.quads[~white], MAIN)
    yield Part(sphere.quads[white], WHITE)


def _treadmill(w: float, h: float, d: float, variant: int) -> Parts:
    deck, rail = 0.16, w * 0.2
    back, hood = d / 2, -d / 2 + d * 0.3
    for side in (-1, 1):
        x = sorted((side * w / 2, side * (w / 2 - rail)))
        yield box((x[0], 0.04, hood), (x[1], deck, back), MAIN)
        a, b = sorted((side * w / 2, side * (w / 2 - 0.07)))
        yield bar(((a + b) / 2, deck, -d * 0.3), ((a + b) / 2, h - 0.12, -d * 0.4), 0.065, MAIN)
        yield box((a, h - 0.36, -d * 0.4), (b, h - 0.3, -d * 0.02), (DARK, DEEP, CHROME)[variant % 3])
    yield box((-w / 2 + rail, 0.04, hood), (w / 2 - rail, deck - 0.02, back), RUBBER)
    yield box((-w / 2, 0, -d / 2), (w / 2, deck + 0.09, hood), DEEP)
    low, high = h - 0.26, h
    z = -d * 0.47
    yield box((-w / 2, low, z), (w / 2, high, z + 0.07), MAIN)
    a = w * 0.26
    z += 0.074  # the runner's side
    yield facing((a, -a), (low + 0.06, high - 0.05), z, Paint((90, 170, 140)))


def _exercise_bike(w: float, h: float, d: float, variant: int) -> Parts:
    for z in (-d / 2 + 0.04, d / 2 - 0.04):
        yield box((-w / 2, 0, z - 0.04), (w / 2, 0.06, z + 0.04), DARK)
    yield bar((0, 0.05, -d / 2 + 0.06), (0, 0.05, d / 2 - 0.06), 0.07, MAIN)
    r, wheel = min(0.27, h * 0.24), (0.0, 0.34, -d * 0.2)
    yield disc(r, -0.06, 0.06, MAIN, at=wheel, axis="x", sides=12)
    for x in (-0.064, 0.064):
        hub = disc(r * 0.3, -0.003, 0.003, CHROME, at=(x, wheel[1], wheel[2]), axis="x")
        yield hub
    yield bar((0, 0.1, d * 0.25), (0, h * 0.7, d * 0.3), 0.075, MAIN)
    yield bar((0, 0.3, -d * 0.02), (0, 0.42, d * 0.28), 0.09, MAIN)
    yield bar((0, 0.4, -d * 0.25), (0, h * 0.86, -d * 0.28), 0.075, MAIN)
    yield box((-0.12, h * 0.7, d * 0.18), (0.12, h * 0.7 + 0.07, d * 0.42), RUBBER)
    yield bar((-w / 2 + 0.04, h * 0.88, -d * 0.22), (w / 2 - 0.04, h * 0.88, -d * 0.22), 0.045, RUBBER)
    yield box((-0.1, h * 0.86, -d * 0.36), (0.1, h, -d * 0.28), (MAIN, DARK, CHROME)[variant % 3])
    for side in (-1, 1):
        a, b = sorted((side * 0.09, side * 0.2))
        yield box((a, 0.24 + 0.12 * (side > 0), 0.0), (b, 0.27 + 0.12 * (side > 0), 0.09), DARK)
        yield bar((side * 0.08, 0.33, 0.03), (side * 0.09, 0.255 + 0.12 * (side > 0), 0.045), 0.03, CHROME)


def _punching_bag(w: float, h: float, d: float, variant: int) -> Parts:
    r = w / 2
    yield lathe([(r, 0), (r, 0.07), (r * 0.5, 0.14), (0.05, 0.16), (0.05, h * 0.36)], DARK, sides=10)
    low, high, bag = h * 0.34, h, r * 0.82
    yield lathe([(0.05, low), (bag * 0.9, low + 0.03), (bag, low + 0.12), (bag, high - 0.12), (bag * 0.9, high - 0.04), (0, high)], MAIN,
                sides=10)  # fmt: skip
    for share in ((0.5,), (0.35, 0.7), ())[variant % 3]:
        y = low + (high - low) * share
        yield lathe([(bag, y - 0.03), (bag * 1.02, y - 0.03), (bag * 1.02, y + 0.03), (bag, y + 0.03)], WHITE, sides=10)


def _weight_rack(w: float, h: float, d: float, variant: int) -> Parts:
    for side in (-1, 1):
        x = side * (w / 2 - 0.035)
        yield bar((x, 0.03, -d / 2 + 0.05), (x, h - 0.02, d / 2 - 0.06), 0.07, MAIN)
        yield bar((x, 0.03, d / 2 - 0.05), (x, h - 0.04, d / 2 - 0.06), 0.07, MAIN)
        yield box((x - 0.035, 0, -d / 2), (x + 0.035, 0.05, d / 2), MAIN)
    tiers = 2 if variant % 3 == 1 else 3
    for i in range(tiers):
        share = 0.2 + 0.68 * i / max(tiers - 1, 1)
        y, z = h * share, -d / 2 + 0.05 + (d - 0.12) * share
        front, back = max(z - 0.15, -d / 2), min(z + 0.08, d / 2)
        yield panel((-w / 2 + 0.07, y - 0.06, front), (-w / 2 + 0.07, y, back), (w / 2 - 0.07, y, back), (w / 2 - 0.07, y - 0.06, front),
                    paint=LIGHT, double_sided=True)  # fmt: skip
        yield box((-w / 2 + 0.07, y - 0.11, front), (w / 2 - 0.07, y - 0.055, front + 0.02), MAIN)
        for j in range(3):
            x = (w - 0.3) * (j - 1) / 3
            r, out = 0.05, 0.1 - 0.012 * i
            at, deep = y + 0.03, (front + back) / 2
            for a in (x - out, x + out - 0.05):
                yield box(
                    (a, at - r, deep - r),
                    (a + 0.05, at + r, deep + r),
                    CHROME if variant % 3 == 2 else DARK,
                    without="-y",
                )
            low, high = (x - out + 0.05, at - 0.015, deep - 0.015), (x + out - 0.05, at + 0.015, deep + 0.015)
            yield box(low, high, CHROME, without="-x+x-y")


def _metal_shelf(w: float, h: float, d: float, variant: int) -> Parts:
    yield from legs(w, d, h, 0.045, MAIN)
    shelves = 4
    for i in range(shelves):
        y = 0.1 + (h - 0.16) * i / (shelves - 1)
        yield box((-w / 2, y, -d / 2), (w / 2, y + 0.05, d / 2), MAIN)
    for a, b in ((-1, 1), (1, -1)):  # braces behind
        yield bar(
            (a * (w / 2 - 0.03), 0.15, d / 2 - 0.012),
            (b * (w / 2 - 0.03), h - 0.1, d / 2 - 0.012),
            0.022,
            DEEP,
            ends=False,
        )
    step = (h - 0.16) / (shelves - 1)
    for i in range(shelves - 1):
        y = 0.15 + step * i
        for j in range(2):
            turn = (3 * i + 5 * j + 2 * variant) % 7
            if turn == 0:
                continue
            x, wide, tall = -w / 2 + 0.08 + j * w * 0.46, w * (0.2 + 0.025 * turn), (step - 0.05) * (0.4 + 0.07 * turn)
            low, high = (x, y, -d / 2 + 0.05), (x + wide, y + tall, d / 2 - 0.06)
            yield box(low, high, CARDBOARD if (i + j) % 3 else Paint((120, 140, 160)), without="-y")


def _barrel(w: float, h: float, d: float, variant: int) -> Parts:
    r = w / 2
    staves = Paint(pattern="wood")
    profile = [(r * 0.8, 0), (r * 0.93, h * 0.25), (r * 0.985, h * 0.5), (r * 0.93, h * 0.75), (r * 0.8, h)]
    yield lathe(profile, staves, sides=12)
    yield lathe([(r * 0.8, h), (r * 0.74, h), (r * 0.74, h - 0.03), (0, h - 0.03)], DEEP, sides=12)
    hoops = ((0.1, 0.32, 0.68, 0.9), (0.25, 0.75), (0.07, 0.5, 0.93))[variant % 3]
    for share in hoops:
        y, wide = h * share, float(np.interp(share, (0, 0.25, 0.5, 0.75, 1), (0.8, 0.93, 0.985, 0.93, 0.8))) * r
        wide = min(wide * 1.025, r)
        yield lathe([(wide, y - 0.022), (wide, y + 0.022)], DARK, sides=12)


def _crate(w: float, h: float, d: float, variant: int) -> Parts:
    inset, slats = 0.025, 3 + variant % 2
    yield box((-w / 2 + inset, 0, -d / 2 + inset), (w / 2 - inset, h - 0.02, d / 2 - inset), DARKER)
    step = h / slats
    for i in range(slats):
        low, high = i * step, (i + 1) * step - 0.03
        for z in (-d / 2 + 0.005, d / 2 - inset):
            yield box((-w / 2 + 0.005, low, z), (w / 2 - 0.005, high, z + inset - 0.005), GRAIN, without="-y")
        for x in (-w / 2 + 0.005, w / 2 - inset):
            yield box((x, low, -d / 2 + inset), (x + inset - 0.005, high, d / 2 - inset), GRAIN, without="-y")
    for i in range(slats):
        a = -w / 2 + w * i / slats
        yield box((a, h - 0.02, -d / 2), (a + w / slats - 0.03, h, d / 2), GRAIN)
    if variant % 3 == 2:
        for z in (-d / 2, d / 2):
            yield bar((-w / 2 + 0.04, 0.04, z * 0.985), (w / 2 - 0.04, h - 0.05, z * 0.985), 0.012, DEEP)


def _bicycle(w: float, h: float, d: float, variant: int) -> Parts:
    r = min(h * 0.34, w * 0.22)
    back, front, axle = -w / 2 + r, w / 2 - r, r
    for x in (back, front):
        tread = lathe([(r, -0.022), (r, 0.022)], RUBBER, at=(x, axle, 0), axis="z", sides=10)
        yield Part(tread.quads, RUBBER, double_sided=True)
        for z, side in ((0.022, 1), (-0.022, -1)):
            for outer, inner, paint in ((1.0, 0.92, RUBBER), (0.92, 0.75, MAIN)):
                ring = lathe([(r * outer, z), (r * inner, z)], paint, at=(x, axle, 0), axis="z", sides=10)
                yield Part(ring.quads if side > 0 else ring.quads[:, ::-1], paint)
        for turn in (0.3, 1.87):
            a, b = r * 0.8 * math.cos(turn), r * 0.8 * math.sin(turn)
            yield bar((x - a, axle - b, 0), (x + a, axle + b, 0), 0.012, CHROME, ends=False)
    seat, head, crank = (back + w * 0.13, h * 0.78), (front - w * 0.07, h * 0.8), (-w * 0.05, axle * 0.9)
    tubes = [
        (crank, seat), (crank, (head[0], head[1] - 0.08)), ((seat[0] + 0.01, seat[1] - 0.08), head), ((back, axle), crank),
        ((back, axle), (seat[0] + 0.015, seat[1] - 0.1)), (head, (front, axle)),
    ]  # fmt: skip
    if variant % 3 == 1:  # one may step through
        tubes[2] = ((crank[0] - 0.05, crank[1] + 0.16), (head[0], head[1] - 0.03))
    for (x, y), (x2, y2) in tubes:
        yield bar((x, y, 0), (x2, y2, 0), 0.05, MAIN, ends=False)
    yield box((seat[0] - 0.13, seat[1], -0.07), (seat[0] + 0.11, seat[1] + 0.06, 0.07), RUBBER)
    yield bar((head[0], head[1], 0), (head[0] - 0.03, h - 0.03, 0), 0.04, CHROME, ends=False)
    yield box((head[0] - 0.06, h - 0.05, -d / 2), (head[0], h, d / 2), RUBBER)
    yield disc(0.09, -0.035, 0.035, CHROME, at=(crank[0], crank[1], 0), axis="z", sides=6)
    for side in (-1, 1):
        x = crank[0] + side * 0.14
        yield box((x - 0.05, crank[1] - 0.02 - side * 0.05, sorted((side * 0.05, side * 0.14))[0]),
                  (x + 0.05, crank[1] + 0.01 - side * 0.05, sorted((side * 0.05, side * 0.14))[1]), RUBBER)  # fmt: skip
    if variant % 3 == 2:  # a basket
        low, high = (front - 0.06, h * 0.62, -0.14), (min(front + 0.22, w / 2), h * 0.86, 0.14)
        yield from basin(low, high, DEEP, DARKER, rim_m=0.015, floor_m=0.02)


def _tool_cabinet(w: float, h: float, d: float, variant: int) -> Parts:
    foot = 0.1
    for x in (-w / 2 + 0.06, w / 2 - 0.06):
        for z in (-d / 2 + 0.08, d / 2 - 0.08):
            yield disc(0.05, -0.02, 0.02, RUBBER, at=(x, 0.05, z), axis="x", sides=6)
    yield box((-w / 2, foot, -d / 2 + 0.02), (w / 2, h - 0.03, d / 2), DEEP, without="+y")
    yield box((-w / 2, h - 0.03, -d / 2), (w / 2, h, d / 2), (RUBBER, MAIN, DARK)[variant % 3])
    if variant % 3 == 2:
        yield from fronts((-w / 2, w / 2), (foot, h * 0.55), -d / 2, 2, 1, MAIN, upright=True)
        yield from fronts((-w / 2, w / 2), (h * 0.55, h - 0.03), -d / 2, 1, 3, MAIN, upright=False)
    else:
        yield from fronts((-w / 2, w / 2), (foot, h - 0.03), -d / 2, 1, 5, MAIN, upright=False)


SHAPES: dict[str, Shape] = {
    "sofa": _sofa, "armchair": _armchair, "coffee table": _coffee_table, "television": _television, "tv stand": _tv_stand,
    "bookshelf": _bookshelf, "fireplace": _fireplace, "piano": _piano, "floor lamp": _floor_lamp,
    "potted plant": _potted_plant, "rug": _rug, "painting": _painting, "wall clock": _wall_clock,
    "kitchen counter": _kitchen_counter, "stove": _stove, "refrigerator": _refrigerator, "dining table": _dining_table,
    "chair": _chair, "sideboard": _sideboard, "chandelier": _chandelier, "fruit bowl": _fruit_bowl, "vase": _vase,
    "trash can": _trash_can, "bed": _bed, "nightstand": _nightstand, "table lamp": _table_lamp, "wardrobe": _wardrobe,
    "dresser": _dresser, "mirror": _mirror, "bathtub": _bathtub, "shower": _shower, "toilet": _toilet, "sink": _sink,
    "bathroom mirror": _mirror, "washing machine": _washing_machine, "dryer": _dryer,
    "laundry basket": _laundry_basket, "ironing board": _ironing_board, "desk": _desk, "computer": _computer,
    "filing cabinet": _filing_cabinet, "globe": _globe, "coat rack": _coat_rack, "shoe rack": _shoe_rack,
    "console table": _console_table, "bench": _bench, "grandfather clock": _grandfather_clock, "play table": _play_table,
    "toy chest": _toy_chest, "dollhouse": _dollhouse, "rocking horse": _rocking_horse, "beach ball": _beach_ball,
    "treadmill": _treadmill, "exercise bike": _exercise_bike, "punching bag": _punching_bag, "weight rack": _weight_rack,
    "metal shelf": _metal_shelf, "barrel": _barrel, "crate": _crate, "bicycle": _bicycle, "tool cabinet": _tool_cabinet,
}  # fmt: skip
