import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlkit.envs.simulator.maps import OBJECT, WALKABLE, Episode, Storey, top_down_map
from vlkit.envs.simulator.scene import Room, SceneData, SceneObject

CELL = 0.1


def storey(height_m: float) -> Storey:
    walkable = np.zeros((40, 60), dtype=bool)
    walkable[2:38, 2:58] = True
    walkable[:, 29:31] = False
    walkable[10:20, 10:20] = False  # a table
    return Storey(height_m=height_m, walkable=walkable, origin=(0.0, -4.0), cell_m=CELL)


def table() -> SceneData:
    """A floor of 6 x 4 m, which belongs to the building, and a table top of one square metre on it."""
    floor = [[0, 0, 0], [6, 0, 0], [6, 0, -4], [0, 0, -4]]
    top = [[1, 0.7, -2], [2, 0.7, -2], [2, 0.7, -3], [1, 0.7, -3]]
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], dtype=np.int32)
    return SceneData(
        name="table",
        vertices=np.array(floor + top, dtype=np.float32),
        faces=faces,
        uv=np.zeros((4, 3, 2), dtype=np.float32),
        texture=np.full(4, -1, dtype=np.int32),
        colour=np.ones((4, 4), dtype=np.float32),
        vertex_colour=np.full((8, 4), 255, dtype=np.uint8),
        double_sided=np.zeros(4, dtype=bool),
        instance=np.array([1, 1, 2, 2], dtype=np.int32),
        semantic=np.zeros(4, dtype=np.int32),
        objects=(SceneObject(id=1, name="floor"), SceneObject(id=2, name="table")),
        rooms=(Room(id=1, name="kitchen", level=0, outline=((0, 0), (3, 0), (3, -4), (0, -4)), low_m=0.0, high_m=2.6),),
    )


def walk() -> Episode:
    path = np.array([[0.5, 0, -0.5], [2.0, 0, -1.0], [2.5, 3.0, -3.0]])
    return Episode(start=path[0], goal=path[-1], reference=path, executed=path[:2])


def picture(figure: object) -> np.ndarray:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)  # type: ignore[attr-defined]
    return np.asarray(Image.open(data).convert("RGB"))


def share(pixels: np.ndarray, colour: str) -> float:
    """Of pixels near a colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(pixels.astype(int) - wanted).max(axis=2) < 6).mean())


def named(figure: Any) -> list[str]:
    """What the legend names."""
    return [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]


def test_a_map_shows_walkable_ground_objects_and_paths_with_a_legend_of_just_what_it_shows() -> None:
    figure = top_down_map([storey(0.0)], scene=table(), episode=walk(), title="a walk")
    assert named(figure) == ["walkable", "objects", "rooms", "reference path", "executed path", "start", "goal"]
    pixels = picture(figure)
    assert share(pixels, WALKABLE) > 0.2
    assert share(pixels, OBJECT) > 0.005
    bare = top_down_map([storey(0.0)])
    assert named(bare) == ["walkable"]
    assert share(picture(bare), OBJECT) == 0


def test_each_storey_shows_what_lies_on_it() -> None:
    figure = top_down_map([storey(0.0), storey(3.0)], scene=table(), episode=walk())
    lower, upper = figure.axes
    assert [len(panel.collections) for panel in (lower, upper)] == [1, 0]
    assert [text.get_text() for text in lower.texts] == ["kitchen"]
    assert not upper.texts
    markers = [[line.get_marker() for line in panel.lines if line.get_marker() != "None"] for panel in (lower, upper)]
    assert markers == [["o"], ["*"]]


def test_the_plan_lies_as_the_agent_walks_it_with_minus_z_up_and_x_to_the_right() -> None:
    panel = top_down_map([storey(0.0)]).axes[0]
    assert panel.get_xlim()[0] < panel.get_xlim()[1]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]
    assert tuple(panel.images[0].get_extent()) == pytest.approx((0.0, 6.0, 0.0, -4.0))


def test_a_map_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        top_down_map([])
