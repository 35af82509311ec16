"""The map of a walk, as shapes in pixels that any format can draw.

It is the building's graph from above, with the reference path as a broad band, the agent's as numbered arrows.
Colours are Okabe and Ito's, which colour-blind people tell apart; and no colour says what a form does not say too.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from vlkit.envs.r2r import Scan
from vlkit.tasks.r2r.metrics import SUCCESS_M
from vlkit.tasks.r2r.narration import Step, steps, stopped

if TYPE_CHECKING:  # importing the agents imports torch
    from vlkit.tasks.r2r.agents import Walk

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom

WIDTH = 1000.0  # pixels of the map with its legend
LEGEND_WIDTH = 250.0
HEIGHTS = (400.0, 760.0)  # pixels of the drawing, at least and at most
MARGIN_M = 2.0  # round what the paths touch
THICKEST = 20.0  # pixels that a shape reaches beyond its points
PIXELS_A_METRE = 72.0  # at most, so that a path of two metres does not fill the picture

ARROW = ((0.0, 0.0), (-12.0, 6.5), (-9.0, 0.0), (-12.0, -6.5))  # its tip first, pointing right
SIGN = ((-2.5, 4.0), (1.5, 0.0), (-2.5, -4.0))

STOREY_M = 2.4  # from floor to floor it is seldom less; landings between two floors belong to the nearer one
SAME_STOREY_M = 0.75
STAIRS_SLOPE, STAIRS_M = 0.25, 0.3  # an edge steeper and higher than this is drawn as stairs
VIEW_RAD = math.radians(60)  # the simulator's field of view

# colour: (on white paper, on a dark screen)
COLOURS = {
    "ground": ("#ffffff", "#16181d"),
    "ink": ("#1c1e22", "#e8eaed"),
    "faint": ("#6b7078", "#a2a8b2"),
    "frame": ("#c9cdd3", "#3a3f48"),
    "edge": ("#c3c8cf", "#4b515c"),
    "edge-other": ("#e9ebee", "#262a31"),
    "stairs": ("#969ca6", "#727985"),
    "viewpoint": ("#7d838c", "#9aa1ac"),
    "viewpoint-other": ("#d9dce1", "#343943"),
    "reference": ("#a3d0ee", "#1d5a86"),
    "reference-sign": ("#0072b2", "#8ecbf5"),
    "walked": ("#d55e00", "#ff8f3f"),
    "on-walked": ("#ffffff", "#16181d"),
    "goal": ("#009e73", "#2fc79a"),
    "near-goal": ("#bde6d6", "#17513f"),
}


@dataclass(frozen=True)
class Style:
    """How a shape looks: names of COLOURS, and sizes in pixels."""

    fill: str | None = None
    stroke: str | None = None
    width: float = 0.0
    dashes: tuple[float, ...] = ()
    butt: bool = False  # lines end where they end; else round
    size: float = 0.0  # of text
    bold: bool = False
    opacity: float = 1.0


STYLES = {
    "frame": Style(stroke="frame", width=1),
    "edge": Style(stroke="edge", width=1.5),
    "edge-other": Style(stroke="edge-other", width=1.2),
    "stairs": Style(stroke="stairs", width=13, dashes=(1.8, 4.2), butt=True),  # the treads of a floor plan
    "viewpoint": Style(fill="viewpoint"),
    "viewpoint-storey": Style(fill="ground", stroke="viewpoint", width=1.8),
    "viewpoint-other": Style(fill="viewpoint-other"),
    "near-goal": Style(stroke="near-goal", width=20),
    "near-goal-viewpoint": Style(stroke="goal", width=2),
    "reference": Style(stroke="reference", width=13),
    "reference-sign": Style(stroke="reference-sign", width=2.2),
    "casing": Style(stroke="ground", width=6),
    "walked": Style(stroke="walked", width=2.8),
    "arrow": Style(fill="walked", stroke="ground", width=1),
    "number-ground": Style(fill="walked", stroke="ground", width=1.5),
    "number": Style(fill="on-walked", size=11, bold=True),
    "leader": Style(stroke="walked", width=1.2),
    "start-view": Style(fill="ink", opacity=0.3),
    "start": Style(fill="ink", stroke="ground", width=1.5),
    "goal": Style(fill="goal", stroke="ground", width=1.5),
    "stop": Style(stroke="walked", width=3),
    "stop-casing": Style(stroke="ground", width=7),
    "agent-view": Style(fill="walked", opacity=0.45),
    "agent": Style(fill="walked", stroke="ink", width=3),
    "legend": Style(fill="ink", size=13),
    "largest": Style(stroke="walked", width=2.4),
    "scale": Style(stroke="ink", width=2, butt=True),
}


@dataclass(frozen=True)
class Line:
    """A polyline, or a polygon."""

    style: str
    points: tuple[Point, ...]
    closed: bool = False


@dataclass(frozen=True)
class Disc:
    """A circle."""

    style: str
    centre: Point
    radius: float


@dataclass(frozen=True)
class Label:
    """Text; `place` is on its middle height."""

    style: str
    place: Point
    text: str
    anchor: Literal["start", "middle"] = "start"


Shape: TypeAlias = Line | Disc | Label


@dataclass(frozen=True)
class Drawing:
    """The map; y grows downwards, as in every picture format."""

    width: float
    height: float
    frame: Box  # `inside` is cut there
    scale: float  # pixels a metre
    centre: Point  # metres, in the middle of the frame
    inside: tuple[Shape, ...]  # what is drawn first lies lowest
    outside: tuple[Shape, ...]
    agents: tuple[tuple[Shape, ...], ...]  # the agent before each step, for the page that goes through them

    def pixel(self, position: Iterable[float]) -> Point:
        """Metres x, y (and z, which is not seen from above) -> pixels from the upper left corner"""
        return _pixel(position, self.frame, self.scale, self.centre)


def drawing(walk: "Walk", scan: Scan) -> Drawing:
    """The map of a walk, cropped to its neighbourhood. Raises ValueError where it is of another building."""
    every_step = steps(walk, scan)
    reference = [scan.index[viewpoint] for viewpoint in walk.episode.path]
    walked = [scan.index[viewpoint] for viewpoint, _, _ in walk.trajectory]
    goal_known = len(reference) > 1  # a test split tells the start alone
    to_goal = scan.distances[reference[-1]] if goal_known else np.full(len(scan.viewpoints), np.inf)
    near = [int(i) for i in np.flatnonzero(to_goal < SUCCESS_M)]
    frame, scale, centre = _fitted(scan.positions[[*reference, *walked, *near], :2])
    places = [_pixel(position, frame, scale, centre) for position in scan.positions]
    floors = storeys(scan.positions[:, 2])
    home = int(floors[walked[0]])
    shown = {int(floors[i]) for i in (*reference, *walked)}
    stop = places[walked[-1]]
    marks = [places[walked[0]], places[reference[-1]], stop]

    inside = [
        *_near_goal(scan, to_goal, places, scale),
        Line("reference", tuple(places[i] for i in reference)),
        *_edges(scan, floors, shown, places),
        *_directions_of([places[i] for i in reference]),
        *_viewpoints(floors, home, shown, places),
        *(Disc("near-goal-viewpoint", places[i], 7) for i in near),
        view("start-view", places[walked[0]], walk.trajectory[0][1], radius=36),
        *_walked(every_step, scan, places, marks, frame),
        Disc("start", places[walked[0]], 6.5),
        Line("stop-casing", _polygon(stop, 14, 8, math.pi / 8), closed=True),
        Line("stop", _polygon(stop, 14, 8, math.pi / 8), closed=True),
        *([Line("goal", _star(places[reference[-1]], 10.5), closed=True)] if goal_known else []),
    ]
    agents = tuple(
        (view("agent-view", at, step.before[1], radius=46), Disc("agent", at, 9.5))
        for step in every_step
        for at in (places[scan.index[step.before[0]]],)
    )
    seen = [i for i, (x, y) in enumerate(places) if frame[0] <= x <= frame[2] and frame[1] <= y <= frame[3]]
    on_show = {int(floors[i]) for i in seen}
    outside = [
        Line("frame", rectangle(frame), closed=True),
        *_legend(
            walk, frame[2] + 18, frame[1] + 24, scale, on_show - {home} & shown, on_show - shown, _climbs(scan, seen)
        ),
    ]
    return Drawing(
        width=WIDTH,
        height=frame[3] + 1,
        frame=frame,
        scale=scale,
        centre=centre,
        inside=tuple(shape for shape in inside if _in_sight(shape, frame)),
        outside=tuple(outside),
        agents=agents,
    )


def storeys(heights: np.ndarray) -> np.ndarray:
    """Metres (viewpoints,) -> storey (viewpoints,) int64, 0 the lowest.

    A storey is a height that many viewpoints share: the densest height is one, then the densest of those that are
    STOREY_M or more away from it, and so on. What lies between belongs to the nearest.
    """
    left = np.ones(len(heights), dtype=bool)
    levels = []
    while left.any():
        close = np.abs(heights[:, None] - heights) <= SAME_STOREY_M
        densest = int(np.where(left, (close & left).sum(axis=1), -1).argmax())
        levels.append(float(np.median(heights[close[densest] & left])))
        # The densest itself too: a median may lie farther from it than a storey only by rounding, but then for ever.
        left &= (np.abs(heights - levels[-1]) >= STOREY_M) & (np.arange(len(heights)) != densest)
    ordered = np.sort(levels)
    nearest: np.ndarray = np.abs(heights[:, None] - ordered).argmin(axis=1)
    return nearest


def view(style: str, place: Point, heading: float, radius: float) -> Line:
    """What somebody at `place` has in view: radians, 0 up and clockwise positive."""
    angles = [heading + VIEW_RAD * (k / 8 - 0.5) for k in range(9)]
    rim = tuple((place[0] + radius * math.sin(angle), place[1] - radius * math.cos(angle)) for angle in angles)
    return Line(style, (place, *rim), closed=True)


def _in_sight(shape: Shape, frame: Box) -> bool:
    """False for what surely lies outside; half the building does."""
    left, top, right, bottom = frame
    points = shape.points if isinstance(shape, Line) else [shape.centre if isinstance(shape, Disc) else shape.place]
    across, down = [point[0] for point in points], [point[1] for point in points]
    return (
        max(across) > left - THICKEST
        and min(across) < right + THICKEST
        and max(down) > top - THICKEST
        and min(down) < bottom + THICKEST
    )


def _fitted(places: np.ndarray) -> tuple[Box, float, Point]:
    """Metres (places, 2) that must be seen -> frame, pixels a metre, and what lies in the frame's middle."""
    low, high = places.min(axis=0) - MARGIN_M, places.max(axis=0) + MARGIN_M
    wide, high_m = (high - low).tolist()
    left, top, right = 1.0, 1.0, WIDTH - LEGEND_WIDTH
    scale = min((right - left) / wide, PIXELS_A_METRE)
    height = min(max(scale * high_m, HEIGHTS[0]), HEIGHTS[1])
    scale = min(scale, height / high_m)
    middle_x, middle_y = ((low + high) / 2).tolist()
    return (left, top, right, top + height), scale, (middle_x, middle_y)


def _pixel(position: Iterable[float], frame: Box, scale: float, centre: Point) -> Point:
    x, y, *_ = position
    return (
        float((frame[0] + frame[2]) / 2 + scale * (x - centre[0])),
        float((frame[1] + frame[3]) / 2 - scale * (y - centre[1])),
    )


def _climbs(scan: Scan, among: Sequence[int]) -> bool:
    """Whether there are stairs between some of these viewpoints."""
    return any(_is_stairs(scan, i, j) for i in among for j in among if scan.adjacency[i, j])


def _is_stairs(scan: Scan, i: int, j: int) -> bool:
    climb = abs(float(scan.positions[i, 2] - scan.positions[j, 2]))
    return climb > max(STAIRS_M, STAIRS_SLOPE * float(scan.edges[i, j]))


def _near_goal(scan: Scan, to_goal: np.ndarray, places: Sequence[Point], scale: float) -> Iterator[Shape]:
    """The parts of edges from which the way to the goal is short enough; measured along the graph, as success is."""
    for i in np.flatnonzero(to_goal < SUCCESS_M).tolist():
        for j in np.flatnonzero(scan.adjacency[i]).tolist():
            part = min(1.0, (SUCCESS_M - to_goal[i]) / scan.edges[i, j])
            (x, y), (to_x, to_y) = places[i], places[j]
            yield Line("near-goal", ((x, y), (x + part * (to_x - x), y + part * (to_y - y))))
        yield Disc("near-goal", places[i], 0.5)


def _edges(scan: Scan, floors: np.ndarray, shown: set[int], places: Sequence[Point]) -> Iterator[Shape]:
    """Faint where no path comes to that storey."""
    pairs = [(i, j) for i, j in np.argwhere(np.triu(scan.adjacency)).tolist()]
    styles = [
        "edge-other"
        if not {int(floors[i]), int(floors[j])} <= shown
        else "stairs"
        if _is_stairs(scan, i, j)
        else "edge"
        for i, j in pairs
    ]
    for wanted in ("edge-other", "stairs", "edge"):
        for (i, j), style in zip(pairs, styles, strict=True):
            if style == wanted:
                yield Line(style, (places[i], places[j]))


def _viewpoints(floors: np.ndarray, home: int, shown: set[int], places: Sequence[Point]) -> Iterator[Shape]:
    """Full on the start's storey, hollow on others of the paths, faint on the rest."""
    for floor in sorted(set(floors.tolist()), key=lambda floor: (floor in shown, floor == home)):
        style = "viewpoint" if floor == home else "viewpoint-storey" if floor in shown else "viewpoint-other"
        for i in np.flatnonzero(floors == floor).tolist():
            yield Disc(style, places[i], 2.8 if style == "viewpoint-other" else 3.8)


def _directions_of(path: Sequence[Point]) -> Iterator[Shape]:
    """A sign of the direction on every part of the reference path that is long enough."""
    for a, b in pairwise(path):
        length = math.dist(a, b)
        if length > 34:
            ahead, aside = _directions(a, b)
            yield Line("reference-sign", tuple(_moved(a, ahead, length / 4 + u, aside, v) for u, v in SIGN))


def _walked(
    every_step: Sequence[Step],
    scan: Scan,
    places: Sequence[Point],
    marks: Sequence[Point],
    frame: Box,
) -> Iterator[Shape]:
    """Arrows, each on the right of its edge so that there and back are two, and further right each time; numbers last."""
    times: dict[tuple[str, str], int] = {}
    taken = list(marks)
    numbers: list[Shape] = []
    for step in every_step:
        hop = (step.before[0], step.after[0])
        if hop[0] == hop[1]:
            continue
        a, b = (places[scan.index[viewpoint]] for viewpoint in hop)
        again = times[hop] = times.get(hop, -1) + 1
        ahead, aside = _directions(a, b)
        length, across = math.dist(a, b), 7.5 + 8.5 * again
        first, last = (min(16.0 if place in marks else 9.0, 0.2 * length) for place in (a, b))
        tail, tip = (_moved(a, ahead, along, aside, across) for along in (first, length - last))
        if length > 16:
            neck = _moved(a, ahead, length - last - 9, aside, across)
            yield Line("casing", (tail, neck))
            yield Line("walked", (tail, neck))
            yield Line("arrow", tuple(_moved(tip, ahead, u, aside, v) for u, v in ARROW), closed=True)
        on_line = [_moved(a, ahead, part * length, aside, across) for part in (0.45, 0.3, 0.6)]
        free = [
            _moved(place, ahead, 0.0, aside, beside) for beside in (0.0, 15.0, -15.0, 26.0, -26.0) for place in on_line
        ]
        roomy = max(range(len(free)), key=lambda k: (min(_room(free[k], taken), 24.0), -k))
        x, y = free[roomy]
        at = (min(max(x, frame[0] + 11), frame[2] - 11), min(max(y, frame[1] + 11), frame[3] - 11))
        if roomy >= len(on_line):
            yield Line("leader", (on_line[roomy % len(on_line)], at))
        taken.append(at)
        numbers += [Disc("number-ground", at, 9), Label("number", at, str(step.number), anchor="middle")]
    yield from numbers


def _room(place: Point, taken: Sequence[Point]) -> float:
    return min(math.dist(place, other) for other in taken)


def _directions(a: Point, b: Point) -> tuple[Point, Point]:
    """Unit vectors ahead and to the right on the way from a to b; those of going up where the two are one."""
    length = math.dist(a, b)
    ahead = ((b[0] - a[0]) / length, (b[1] - a[1]) / length) if length > 1e-6 else (0.0, -1.0)
    return ahead, (-ahead[1], ahead[0])


def _moved(place: Point, ahead: Point, along: float, aside: Point, across: float) -> Point:
    return (place[0] + along * ahead[0] + across * aside[0], place[1] + along * ahead[1] + across * aside[1])


def _polygon(centre: Point, radius: float, corners: int, turned: float) -> tuple[Point, ...]:
    angles = [turned + 2 * math.pi * k / corners for k in range(corners)]
    return tuple((centre[0] + radius * math.sin(angle), centre[1] - radius * math.cos(angle)) for angle in angles)


def _star(centre: Point, radius: float) -> tuple[Point, ...]:
    outer, inner = _polygon(centre, radius, 5, 0.0), _polygon(centre, radius * 0.45, 5, math.pi / 5)
    return tuple(point for pair in zip(outer, inner, strict=True) for point in pair)


def rectangle(box: Box) -> tuple[Point, ...]:
    """Its corners."""
    left, top, right, bottom = box
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _legend(
    walk: "Walk", x: float, y: float, scale: float, other_walked: set[int], faint: set[int], stairs: bool
) -> Iterator[Shape]:
    """What each sign means, of those that occur, and the scale bar."""
    band = ((-14.0, 0.0), (14.0, 0.0))
    octagon = _polygon((0.0, 0.0), 11, 8, math.pi / 8)
    goal: list[tuple[str, list[Shape]]] = [
        ("goal", [Line("goal", _star((0.0, 0.0), 10.5), closed=True)]),
        (
            f"less than {SUCCESS_M:g} m to walk to it",
            [Line("near-goal", band), Disc("near-goal-viewpoint", (0.0, 0.0), 7)],
        ),
        ("reference path", [Line("reference", band), Line("reference-sign", SIGN)]),
    ]
    rows: list[tuple[str, list[Shape]]] = [
        (
            "start, and where it looks",
            [view("start-view", (0.0, 0.0), walk.trajectory[0][1], radius=16), Disc("start", (0.0, 0.0), 6.5)],
        ),
        *(goal if len(walk.episode.path) > 1 else []),
        (
            "agent's path, step by step",
            [
                Line("walked", ((-18.0, 0.0), (9.0, 0.0))),
                Line("arrow", tuple((18 + u, v) for u, v in ARROW), closed=True),
                Disc("number-ground", (-6.0, 0.0), 9),
                Label("number", (-6.0, 0.0), "1", anchor="middle"),
            ],
        ),
        ("where it stopped" if stopped(walk) else "where it was cut off", [Line("stop", octagon, closed=True)]),
        ("viewpoint, start's storey" if other_walked else "viewpoint", [Disc("viewpoint", (0.0, 0.0), 3.8)]),
    ]
    if other_walked:
        rows.append(("viewpoint, another storey", [Disc("viewpoint-storey", (0.0, 0.0), 3.8)]))
    if faint:
        rows.append(("storey without a path", [Disc("viewpoint-other", (0.0, 0.0), 2.8)]))
    if stairs:
        rows.append(("stairs", [Line("stairs", band)]))
    for text, signs in rows:
        yield from (_shifted(sign, x + 18, y) for sign in signs)
        yield Label("legend", (x + 46, y), text)
        y += 27
    y += 10
    metres = max((m for m in (0.5, 1, 2, 5, 10, 20, 50, 100) if m * scale <= 180), default=0.5)
    end = x + metres * scale
    yield Line("scale", ((x, y - 5), (x, y), (end, y), (end, y - 5)))
    yield Label("legend", (x, y + 15), f"{metres:g} m")


def _shifted(shape: Shape, right: float, down: float) -> Shape:
    if isinstance(shape, Line):
        return replace(shape, points=tuple((x + right, y + down) for x, y in shape.points))
    if isinstance(shape, Disc):
        return replace(shape, centre=(shape.centre[0] + right, shape.centre[1] + down))
    return replace(shape, place=(shape.place[0] + right, shape.place[1] + down))
