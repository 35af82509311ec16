import math
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageColor

from vlkit.envs.graph import STOP
from vlkit.envs.r2r import Episode, Scan
from vlkit.errors import UserError
from vlkit.tasks.r2r import evaluation, pictures
from vlkit.tasks.r2r.agents import Walk
from vlkit.tasks.r2r.drawing import COLOURS, WIDTH, Disc, Drawing, Label, Line, drawing, storeys
from vlkit.tasks.r2r.evaluation import EvalOptions, Explained
from vlkit.tasks.r2r.metrics import scores
from vlkit.tasks.r2r.narration import attention, described, measured, outcome, steps
from vlkit.tasks.r2r.page import spans, write_page
from vlkit.tasks.r2r.pictures import draw_attention, draw_map, pick, readable

# Two storeys, stairs from b over the landing s to u. `behind` is near the goal e, but through a wall.
PLACES = {
    "a": (0.0, 0.0, 1.5),
    "b": (2.0, 0.0, 1.5),
    "c": (4.0, 0.0, 1.5),
    "d": (4.0, 2.0, 1.5),
    "e": (6.0, 2.0, 1.6),
    "f": (4.0, -1.7, 1.5),
    "behind": (6.8, 2.0, 1.5),
    "s": (2.0, 1.6, 2.7),
    "u": (2.0, 3.8, 4.5),
    "t": (4.4, 3.8, 4.5),
}
JOINED = ("a b", "b c", "c d", "d e", "c f", "f behind", "b s", "s u", "u t")
TEXT = "Walk past the couch, then stop."
WORDS = ["walk", "past", "the", "couch", ",", "then", "stop", "."]
REFERENCE = "a b c d e"
ASTRAY = "a b c b c d e"  # there and back, and there again


def building() -> Scan:
    names = list(PLACES)
    adjacency = np.zeros((len(names), len(names)), dtype=bool)
    for pair in JOINED:
        i, j = (names.index(name) for name in pair.split())
        adjacency[i, j] = adjacency[j, i] = True
    return Scan(
        name="house",
        viewpoints=tuple(names),
        positions=np.array(list(PLACES.values())),
        adjacency=adjacency,
        excluded=frozenset(),
    )


def walk(
    path: str = REFERENCE, *, name: str = "7_0", text: str = TEXT, words: Sequence[str] = WORDS, stops: bool = True
) -> Walk:
    """A walk along `path` that starts looking along +y; its attention goes through the words with the steps."""
    scan = building()
    trajectory = [(path.split()[0], 0.0, 0.0)]
    for here, there in pairwise(path.split()):
        east, north, _ = np.subtract(PLACES[there], PLACES[here])
        trajectory.append((there, math.atan2(east, north), 0.0))
    actions = [1] * (len(trajectory) - 1)
    if stops:
        actions.append(STOP)
        trajectory.append(trajectory[-1])
    weights = np.full((len(actions), len(words)), 0.1 / max(len(words) - 1, 1))
    weights[np.arange(len(actions)), np.arange(len(actions)) % len(words)] = 0.9
    episode = Episode(
        id=name,
        path_id="7",
        scan="house",
        path=tuple(REFERENCE.split()),
        heading=0.0,
        instruction=text,
        language="en",
        number=0,
    )
    columns = scores(
        scan.distances,
        [[scan.index[viewpoint] for viewpoint, _, _ in trajectory]],
        [[scan.index[viewpoint] for viewpoint in episode.path]],
    )
    return Walk(episode, trajectory, {key: float(value[0]) for key, value in columns.items()}, actions, weights)


# What the agent did, in words.


def test_steps_say_turn_distance_climb_and_stop() -> None:
    told = [step.words for step in steps(walk("a b c b s u"), building())]
    assert told == ["right 90°, 2.0 m", "ahead, 2.0 m", "back, 2.0 m", "right 90°, 2.0 m up", "ahead, 2.8 m up", "stop"]


def test_turns_and_tilts_on_the_spot_are_steps() -> None:
    turning = replace(
        walk(), trajectory=[("a", 0.0, 0.0), ("a", -0.5236, 0.0), ("a", -0.5236, 0.5236), ("a", -0.5236, 0.5236)]
    )
    told = [step.words for step in steps(replace(turning, actions=[2, 4, 1]), building())]
    assert told == ["left 30°", "look up 30°", "stay"]


def test_a_turn_is_told_the_short_way_round() -> None:
    round_north = replace(walk(), trajectory=[("a", 6.1087, 0.0), ("a", 0.3491, 0.0)], actions=[3])
    assert steps(round_north, building())[0].words == "right 30°"


def test_a_trajectory_may_leave_out_the_stop() -> None:
    whole = walk()
    assert steps(replace(whole, trajectory=whole.trajectory[:-1]), building()) == steps(whole, building())


def test_the_outcome_tells_apart_success_passing_by_and_missing() -> None:
    assert outcome(walk("a b c d e")) == "success"
    assert outcome(walk("a b c d e d c")) == "failure, though it came within 3 m of the goal"
    assert outcome(walk("a b c f")) == "failure"


def test_a_walk_that_was_cut_off_is_not_said_to_have_stopped() -> None:
    assert measured(walk()).endswith("stopped after 5 steps")
    assert measured(walk("a b", stops=False)).endswith("cut off after 1 step")
    assert "was cut off after 1 step, 6.0 m from the goal: failure" in described(walk("a b", stops=False), building())


def test_a_walk_in_another_building_is_refused() -> None:
    with pytest.raises(ValueError, match="episode 7_0 is in scan house, not in hut"):
        drawing(walk(), replace(building(), name="hut"))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, "no attention"),
        (np.ones((5, 7)), r"shape \(5, 7\), but 5 steps and 8 words"),
        (np.ones((4, 8)), r"shape \(4, 8\), but 5 steps"),
        (np.full((5, 8), np.nan), "not finite"),
        (np.full((5, 8), -1.0), "negative"),
    ],
)
def test_attention_that_does_not_fit_is_refused(weights: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention(replace(walk(), attention=weights), WORDS)


# The map as shapes.


def shapes_of(picture: Drawing, style: str) -> list[Line | Disc | Label]:
    return [shape for shape in picture.inside if shape.style == style]


def test_storeys_are_heights_that_many_viewpoints_share() -> None:
    landing = np.array([1.5, 1.4, 4.5, 2.7, 4.6, 1.6, -1.5])
    assert storeys(landing).tolist() == [1, 1, 2, 1, 2, 1, 0]
    assert storeys(np.array([1.5])).tolist() == [0]


@pytest.mark.parametrize("heights", [np.linspace(0, 9, 40), np.arange(4) * 2.4, np.zeros(3)])
def test_every_viewpoint_has_a_storey_and_higher_ones_no_lower_one(heights: np.ndarray) -> None:
    assert (np.diff(storeys(heights)) >= 0).all()


def test_north_is_up_and_metres_are_to_scale() -> None:
    picture = drawing(walk(), building())
    (ax, ay), (bx, by), (_, dy) = (picture.pixel(PLACES[name]) for name in ("a", "b", "d"))
    assert by == pytest.approx(ay)
    assert bx - ax == pytest.approx(2 * picture.scale)
    assert dy == pytest.approx(ay - 2 * picture.scale)


def test_all_of_both_paths_and_the_near_goal_is_in_the_frame() -> None:
    picture = drawing(walk("a b s u t"), building())
    left, top, right, bottom = picture.frame
    for name in "abcdesut":
        x, y = picture.pixel(PLACES[name])
        assert left + picture.scale < x < right - picture.scale
        assert top + picture.scale < y < bottom - picture.scale
    assert right < picture.width == WIDTH
    assert all(max(x for x, _ in line.points) < WIDTH for line in picture.outside if isinstance(line, Line))


def test_the_success_radius_is_measured_along_the_graph() -> None:
    picture = drawing(walk(), building())
    marked = [shape.centre for shape in shapes_of(picture, "near-goal-viewpoint") if isinstance(shape, Disc)]
    assert marked == [picture.pixel(PLACES["d"]), picture.pixel(PLACES["e"])]  # not `behind`, 0.8 m through the wall
    ends = [shape.points[1] for shape in shapes_of(picture, "near-goal") if isinstance(shape, Line)]
    assert any(math.dist(end, picture.pixel((4.0, 1.0))) < 1 for end in ends)  # 2 m to d, and 1 m of the way to c


def test_storeys_without_a_path_are_faint_and_stairs_are_marked() -> None:
    below, above = drawing(walk(), building()), drawing(walk("a b s u"), building())
    up = building().index["u"]
    assert len(shapes_of(below, "viewpoint-other")) == 2
    assert not shapes_of(above, "viewpoint-other")
    assert above.pixel(building().positions[up]) in [
        shape.centre for shape in shapes_of(above, "viewpoint-storey") if isinstance(shape, Disc)
    ]
    assert len(shapes_of(above, "stairs")) == 2
    legends = [{shape.text for shape in picture.outside if isinstance(shape, Label)} for picture in (below, above)]
    assert "storey without a path" in legends[0] - legends[1]
    assert "viewpoint, another storey" in legends[1] - legends[0]


def test_arrows_there_back_and_there_again_lie_apart() -> None:
    picture = drawing(walk(ASTRAY), building())
    tails = [shape.points[0] for shape in shapes_of(picture, "walked") if isinstance(shape, Line)]
    level = picture.pixel(PLACES["b"])[1]
    heights = [round(tails[i][1] - level, 1) for i in (1, 2, 3)]  # east is passed on the south side, west on the north
    assert heights[0] > 5
    assert heights[1] == -heights[0]
    assert heights[2] > heights[0] + 5


def test_hops_are_numbered_by_their_step_and_numbers_do_not_cover_each_other() -> None:
    picture = drawing(walk(ASTRAY), building())
    numbers = [shape for shape in shapes_of(picture, "number") if isinstance(shape, Label)]
    assert [number.text for number in numbers] == ["1", "2", "3", "4", "5", "6"]
    places = [number.place for number in numbers]
    assert all(math.dist(a, b) > 18 for i, a in enumerate(places) for b in places[:i])


def test_the_page_has_the_agent_before_every_step() -> None:
    picture = drawing(walk(), building())
    discs = [shape.centre for shapes in picture.agents for shape in shapes if isinstance(shape, Disc)]
    assert discs == [picture.pixel(PLACES[name]) for name in "abcde"]


def test_an_agent_that_stays_and_viewpoints_above_each_other_are_drawn() -> None:
    tower = Scan("house", ("a", "b"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]), ~np.eye(2, dtype=bool), frozenset())
    stays = walk("a")
    climbs = replace(stays, trajectory=[("a", 0.0, 0.0), ("b", 0.0, 1.57)], actions=[1])
    for each in (stays, climbs):
        here = replace(each, episode=replace(each.episode, path=("a",)))
        assert all(np.isfinite(tower.positions).all() for _ in drawing(here, tower).inside)


# The PNGs.


def colours(path: Path) -> np.ndarray:
    """(height, width, 3)"""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def is_colour(image: np.ndarray, place: tuple[float, float], name: str) -> bool:
    """Whether the map in the picture has the colour there; `place` is in the drawing's pixels."""
    x, y = (
        (value + start) * pictures.RESOLUTION
        for value, start in zip(place, (pictures.EDGE, pictures.MAP_TOP), strict=True)
    )
    return bool(np.abs(image[round(y), round(x)] - ImageColor.getrgb(COLOURS[name][0])).max() < 12)


def test_the_map_has_its_signs_where_things_are(tmp_path: Path) -> None:
    draw_map(walk("a b c"), building(), tmp_path / "map.png")
    image, picture = colours(tmp_path / "map.png"), drawing(walk("a b c"), building())
    assert image.shape[1] == pictures.RESOLUTION * (WIDTH + 2 * pictures.EDGE) > 2000

    def near(name: str, right: float = 0.0, down: float = 0.0) -> tuple[float, float]:
        x, y = picture.pixel(PLACES[name])
        return x + right, y + down

    metre = picture.scale
    assert is_colour(image, near("a"), "ink")
    assert is_colour(image, near("e"), "goal")
    assert is_colour(image, near("c", right=13.2), "walked")  # the octagon of the stop
    assert is_colour(image, near("d", down=-7), "goal")  # the ring of what is near enough
    assert not is_colour(image, near("behind", down=-7), "goal")
    assert is_colour(image, near("d", right=metre, down=-4), "reference")
    assert is_colour(image, near("b", right=0.7 * metre * 2, down=7.5), "walked")  # on the right of the edge
    assert is_colour(image, near("d", right=-metre), "ground")
    assert is_colour(image, near("t"), "viewpoint-other")
    assert is_colour(image, near("f"), "viewpoint")


def test_a_longer_instruction_makes_a_taller_map(tmp_path: Path) -> None:
    heights = []
    for times in (1, 40):
        draw_map(walk(text=f"{TEXT} " * times), building(), tmp_path / "map.png")
        heights.append(len(colours(tmp_path / "map.png")))
    assert heights[1] >= heights[0] + 8 * pictures.LINE_HEIGHT * pictures.RESOLUTION


def test_the_same_walk_gives_the_same_bytes_in_every_thread_without_pyplot(tmp_path: Path) -> None:
    settings, loaded = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    files = [tmp_path / f"{i}.png" for i in range(4)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda file: draw_map(walk(ASTRAY), building(), file), files))
    assert len({file.read_bytes() for file in files}) == 1
    assert dict(matplotlib.rcParams) == settings
    assert ("matplotlib.pyplot" in sys.modules) == loaded


HINDI, TELUGU = "दरवाज़े के पास रुकें।", "తలుపు దగ్గర ఆగండి."


@pytest.mark.parametrize(
    "text",
    [HINDI, TELUGU, "turn \ud800 at 😀", "pay $5 or $x_1", r"\frac{", "x" * 900, "a\x00b\tc\u202ed", "左转，然后停下"],
)
def test_every_text_can_be_drawn(text: str, tmp_path: Path) -> None:
    words = text.split()
    draw_map(walk(text=text), building(), tmp_path / "map.png")
    draw_attention(walk(text=text, words=words), building(), words, tmp_path / "attention.png")
    for name in ("map.png", "attention.png"):
        assert colours(tmp_path / name).min() < 60


def test_letters_without_a_glyph_become_boxes_and_their_marks_nothing() -> None:
    assert readable("Café naïve — 3°, Überraschung Ωμέγα") == "Café naïve — 3°, Überraschung Ωμέγα"
    assert readable("के पास\n\x07right") == "□ □□ right"


def test_each_steps_largest_weight_is_dark_and_marked(tmp_path: Path) -> None:
    told = walk(ASTRAY)
    assert told.attention is not None
    looks = [3, 0, 7, 5, 5, 1, 6]
    told.attention[:] = 0.0
    told.attention[np.arange(7), looks] = 1.0
    draw_attention(told, building(), WORDS, tmp_path / "attention.png")
    image = colours(tmp_path / "attention.png")
    dark = np.abs(image - (8, 48, 107)).max(axis=2) < 12  # the end of the scale
    marked = np.abs(image - ImageColor.getrgb(COLOURS["walked"][0])).max(axis=2) < 12
    assert image.shape[1] == pictures.RESOLUTION * (WIDTH + 2 * pictures.EDGE)
    rows = np.flatnonzero(dark.sum(axis=1) > 30)
    cells = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    assert len(cells) == 7
    for cell, word in zip(cells, looks, strict=True):
        line = int(cell.mean())
        x = float(np.flatnonzero(dark[line]).mean()) / pictures.RESOLUTION - pictures.EDGE - pictures.STEPS_WIDTH
        assert int(x / pictures.CELL_WIDTH) == word
        sides = np.flatnonzero(marked[line]) / pictures.RESOLUTION - pictures.EDGE - pictures.STEPS_WIDTH
        assert word * pictures.CELL_WIDTH < sides.min()
        assert sides.max() < (word + 1) * pictures.CELL_WIDTH


def test_many_words_go_on_below(tmp_path: Path) -> None:
    heights = []
    for count in (25, 26, 60):
        words = [f"word{i}" for i in range(count)]
        draw_attention(walk(words=words), building(), words, tmp_path / "attention.png")
        heights.append(len(colours(tmp_path / "attention.png")))
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=pictures.RESOLUTION)
    assert heights[1] - heights[0] > 5 * pictures.CELL_HEIGHT * pictures.RESOLUTION


def test_an_attention_that_no_viewer_opens_is_not_drawn(tmp_path: Path) -> None:
    words = ["on"] * 4000
    with pytest.raises(UserError, match="attention over 4000 words in 5 steps .* at most 20000"):
        draw_attention(walk(words=words), building(), words, tmp_path / "attention.png")
    assert not list(tmp_path.iterdir())


# The page.


class Page(HTMLParser):
    """What a browser would see: elements with their text, and whether all were closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: list[str] = []  # text of each
        self.words: dict[tuple[int, str], list[tuple[str, float]]] = {}  # (section, step's class) -> word, weight
        self.panel = ""
        self.weight: float | None = None
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in ("meta", "input"):
            self.open.append(tag)
        if tag == "section":
            self.sections.append("")
        if tag == "td":
            self.sections[-1] += " "
        classes = (attributes.get("class") or "").split()
        if tag == "div" and "panel" in classes:
            self.panel = classes[-1]
        if weight := attributes.get("data-weight"):
            self.weight = float(weight)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.sections:
            self.sections[-1] += data
        if self.weight is not None:
            self.words.setdefault((len(self.sections), self.panel), []).append((data, self.weight))
            self.weight = None


def page_of(walks: Sequence[Walk], path: Path, words: Sequence[str] = WORDS, **options: dict[str, str]) -> Page:
    write_page(walks, {"house": building()}, lambda episode: words, path, "A <run>", **options)
    return Page(path)


def test_the_page_has_a_section_an_episode_with_its_label(tmp_path: Path) -> None:
    walks = [walk(name="1_0"), walk("a b c", name="2_0")]
    page = page_of(walks, tmp_path / "page.html", labels={"1_0": "best of 9"})
    assert len(page.sections) == 2
    assert "best of 9" in page.sections[0]
    assert "Episode 1_0" in page.sections[0]
    assert "success" in page.sections[0]
    assert "Episode 2_0" in page.sections[1]
    assert "failure" in page.sections[1]
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["#episode-1", "#episode-2"]
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_the_page_shows_the_weights_that_it_was_given(tmp_path: Path) -> None:
    told = walk(ASTRAY)
    told = replace(told, attention=np.random.default_rng(0).dirichlet(np.ones(8), 7).astype(np.float32))
    page = page_of([told], tmp_path / "page.html")
    assert told.attention is not None
    for step in range(7):
        words, weights = zip(*page.words[1, f"s{step + 1}"], strict=True)
        assert words == ("Walk", "past", "the", "couch", ",", "then", "stop", ".")  # as written, not as read
        np.testing.assert_allclose(weights, told.attention[step], rtol=1e-4)
    shades = [float(shade) for shade in re.findall(r"--w:([\d.]+)\"", page.source)]
    assert max(shades) == 1
    assert min(shades) >= 0


def test_every_step_can_be_chosen_and_moves_the_agent(tmp_path: Path) -> None:
    page = page_of([walk(), walk(ASTRAY)], tmp_path / "page.html")
    radios = [attributes for tag, attributes in page.tags if tag == "input"]
    assert [radio["name"] for radio in radios] == ["step-1"] * 5 + ["step-2"] * 7
    assert ["checked" in radio for radio in radios] == [True] + [False] * 4 + [True] + [False] * 6
    agents = [attributes["class"] for tag, attributes in page.tags if "agent-at" in (attributes.get("class") or "")]
    assert agents == [f"agent-at s{k}" for k in (*range(1, 6), *range(1, 8))]
    for k in range(1, 8):
        assert f".episode:has(.s{k}:checked) .panel.s{k}" in page.source
        assert f".episode:has(.s{k}:checked) .agent-at.s{k}" in page.source
    assert ".s8" not in page.source


def test_the_page_has_every_metric_of_the_episode(tmp_path: Path) -> None:
    told = walk("a b c d e d")
    told.metrics["own_measure"] = 0.125
    text = " ".join(page_of([told], tmp_path / "page.html").sections[0].split())
    assert f"NE, navigation error {told.metrics['nav_error']:.2f} m" in text
    assert "SR, success rate yes" in text
    assert f"nDTW {told.metrics['ndtw']:.2f}" in text
    assert "own_measure 0.12" in text


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_of([walk()], tmp_path / "page.html")
    assert not re.search(r"https?:|//\w|@import|src=|\burl\((?!#)", page.source)
    assert not {"link", "img", "iframe", "object", "use"} & {tag for tag, _ in page.tags}
    policy = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]


def test_the_map_in_the_page_says_in_words_what_it_shows(tmp_path: Path) -> None:
    page = page_of([walk("a b c")], tmp_path / "page.html")
    (svg,) = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert svg["role"] == "img"
    assert svg["aria-label"] == described(walk("a b c"), building())
    assert "1 right 90°, 2.0 m; 2 ahead, 2.0 m; 3 stop." in str(svg["aria-label"])


def test_what_looks_like_markup_is_text(tmp_path: Path) -> None:
    text = '<script>alert("x")</script> & go'
    words = text.replace("<", " < ").replace(">", " > ").split()
    hostile = walk(text=text, words=words, name='"><img>')
    page = page_of([hostile], tmp_path / "page.html", words=words, labels={'"><img>': "<i>"})
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert not {"img", "i", "run"} & set(tags)
    assert text in page.sections[0]
    assert '"><img>' in page.sections[0]


@pytest.mark.parametrize("text", [HINDI, TELUGU, "half a pair: \ud800"])
def test_the_page_keeps_the_text_of_every_language(text: str, tmp_path: Path) -> None:
    told = walk(text=text)
    told = replace(told, episode=replace(told.episode, language="hi-IN"), attention=None)
    page = page_of([told], tmp_path / "page.html")
    assert text.replace("\ud800", "?") in page.sections[0]
    assert ("p", {"class": "read", "lang": "hi-IN", "dir": "auto"}) in page.tags


def test_words_are_found_in_the_instruction_as_it_was_written() -> None:
    text = "Go 3.5 m, ＰＡＳＴ the sofa\u200b; stop!"
    read = ["go", "3.5", "m", ",", "past", "<unk>", "sofa", ";"]
    found = spans(text, read)
    assert found is not None
    assert [text[start:end] for start, end in found] == ["Go", "3.5", "m", ",", "ＰＡＳＴ", "the", "sofa", ";"]
    assert [HINDI[start:end] for start, end in spans(HINDI, ["<unk>", "के", "<unk>", "<unk>", "<unk>"]) or []] == [
        *HINDI[:-1].split(),
        "।",
    ]
    assert spans(text, ["go", "on"]) is None
    assert spans("Go", ["go", "<unk>"]) is None
    assert spans(text, []) == []


def test_what_the_agent_did_not_read_is_shown_as_such(tmp_path: Path) -> None:
    page = page_of([walk(words=WORDS[:4])], tmp_path / "page.html", words=WORDS[:4])
    assert '<span class="unread" title="the agent reads no further">, then stop.</span>' in page.source


def test_words_that_are_not_in_the_instruction_are_shown_beside_it(tmp_path: Path) -> None:
    words = ["walk", "##ing", "on"]
    page = page_of([walk(words=words)], tmp_path / "page.html", words=words)
    assert [word for word, _ in page.words[1, "s1"]] == words
    assert TEXT in page.sections[0]


def test_a_page_without_attention_still_goes_through_the_steps(tmp_path: Path) -> None:
    def tokens_of(episode: Episode) -> list[str]:
        raise AssertionError("no words are needed")

    write_page([replace(walk(), attention=None)], {"house": building()}, tokens_of, tmp_path / "page.html", "x")
    page = Page(tmp_path / "page.html")
    assert not page.words
    assert page.sections[0].count(TEXT) == 5


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(UserError, match="no walks to show"):
        page_of([], path)
    with pytest.raises(ValueError, match="5 steps and 2 words"):
        page_of([walk()], path, words=["a", "b"])
    assert path.read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*folder"):
        page_of([walk()], tmp_path / "folder")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "page.html"]


# Which episodes, and the command.


def with_scores(name: str, spl: float, ndtw: float) -> Walk:
    told = walk(name=name)
    return replace(told, metrics={**told.metrics, "spl": spl, "ndtw": ndtw})


def test_the_pick_is_by_spl_then_ndtw_then_id_whatever_the_order() -> None:
    walks = [
        with_scores("5_0", 0.0, 0.3),
        with_scores("1_0", 1.0, 0.8),
        with_scores("2_0", 1.0, 0.9),
        with_scores("3_0", 0.0, 0.3),
        with_scores("4_0", 0.5, 0.1),
    ]
    for order in (walks, walks[::-1]):
        assert {name: each.episode.id for name, each in pick(order).items()} == {
            "best": "2_0",
            "median": "4_0",
            "worst": "5_0",
        }
    assert pick(walks[:4])["median"].episode.id == "1_0"
    assert list(pick(walks)) == ["best", "median", "worst"]


def test_of_few_walks_few_are_picked() -> None:
    one, two = with_scores("1_0", 1.0, 1.0), with_scores("2_0", 0.0, 0.0)
    assert pick([one]) == {"best": one}
    assert pick([two, one]) == {"best": one, "worst": two}
    with pytest.raises(UserError, match="no walks to choose from"):
        pick([])


def explained(split: str, episodes: Sequence[str] = (), attended: bool = True, goals: bool = True) -> Explained:
    paths = {"1_0": "a b c d e", "2_0": "a b c f", "3_1": "a b c", "4/x": "a b c d"}
    walks = [walk(path, name=name) for name, path in paths.items() if not episodes or name in episodes]
    if not attended:
        walks = [replace(each, attention=None) for each in walks]
    if not goals:
        walks = [replace(each, metrics={}, episode=replace(each.episode, path=each.episode.path[:1])) for each in walks]
    return Explained(walks=walks, split=split, scans={"house": building()}, tokens=lambda episode: WORDS)


def test_explain_draws_the_best_the_median_and_the_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def walks_of(options: EvalOptions, episodes: Sequence[str] = ()) -> Explained:
        asked.append((options, list(episodes)))
        return explained("val_unseen", episodes)

    monkeypatch.setattr(evaluation, "walks_of", walks_of)
    assert pictures.main([str(tmp_path / "route")]) == 0
    assert asked == [(EvalOptions(runs=(tmp_path / "route",)), [])]
    folder = tmp_path / "route" / "explain" / "val_unseen"
    names = [f"{name}_{what}.png" for name in ("1_0", "2_0", "4_x") for what in ("attention", "map")]
    assert sorted(file.name for file in folder.iterdir()) == sorted([*names, "index.html"])
    page = Page(folder / "index.html")
    labels = [label for section in page.sections for label in re.findall(r"((?:best|median|worst) of 4)\b", section)]
    assert labels == ["best of 4", "median of 4", "worst of 4"]
    assert "route on val_unseen" in page.source
    printed = capsys.readouterr().out
    assert str(folder / "index.html") in printed
    assert "best of 4: 1_0, success" in printed


def test_explain_draws_the_episodes_that_are_named_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        evaluation, "walks_of", lambda options, episodes: explained(options.split, episodes, attended=False)
    )
    words = ["route", "--split", "val_seen", "--episode", "3_1", "1_0", "3_1", "--output", str(tmp_path / "here")]
    assert pictures.main(words) == 0
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == ["1_0_map.png", "3_1_map.png", "index.html"]
    assert [section.split()[:2] for section in Page(tmp_path / "here" / "index.html").sections] == [
        ["Episode", "3_1"],
        ["Episode", "1_0"],
    ]
    assert "attention" not in capsys.readouterr().out


def test_without_goals_explain_draws_the_first_the_middle_and_the_last_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "walks_of", lambda options, episodes: explained(options.split, goals=False))
    assert pictures.main(["route", "--split", "test", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "test has no goals, so nothing is best or worst: chosen by their ids" in printed
    assert "first of 4: 1_0, not scored, for the goal is not known" in printed
    page = Page(tmp_path / "index.html")
    assert [re.findall(r"(first|middle|last) of 4", section)[0] for section in page.sections] == [
        "first",
        "middle",
        "last",
    ]
    assert "reference path" not in page.source
    assert "failure" not in "".join(page.sections)
    assert "unknown" in page.sections[0]


def test_a_map_without_a_goal_has_no_sign_of_one() -> None:
    told = walk()
    blind = replace(told, metrics={}, episode=replace(told.episode, path=("a",)))
    signs = {shape.style for picture in [drawing(blind, building())] for shape in picture.inside + picture.outside}
    assert not signs & {"goal", "near-goal", "near-goal-viewpoint"}
    assert "goal" in {shape.style for shape in drawing(told, building()).inside}


def test_explain_passes_on_where_the_data_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def walks_of(options: EvalOptions, episodes: Sequence[str] = ()) -> Explained:
        asked.append(options)
        return explained("val_seen", ["1_0"])

    monkeypatch.setattr(evaluation, "walks_of", walks_of)
    words = ["route", "--annotations", "a", "--connectivity", "c", "--features", "f", "--device", "cpu"]
    assert pictures.main([*words, "--output", str(tmp_path)]) == 0
    wanted = EvalOptions(runs=(Path("route"),), device="cpu", connectivity=Path("c"), features=Path("f"))
    assert asked == [replace(wanted, annotations=Path("a"))]


def test_explain_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        pictures.main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "RUN" in printed
    assert "Folder that `vlkit train` wrote." in printed
    with pytest.raises(SystemExit) as ended:
        pictures.main([])
    assert ended.value.code == 2
