import numpy as np
import pytest

from vlkit.envs.simulator.scene import SceneData, SceneObject


def boxes(name: str, *spans: tuple[tuple[float, float, float], tuple[float, float, float], str]) -> SceneData:
    """A scene of boxes, each from its lowest to its highest corner; each is an object of its name's colour and category."""
    vertices, faces, instance = [], [], []
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    for number, (low, high, _) in enumerate(spans):
        corners = np.array([[(low, high)[i >> k & 1][2 - k] for k in (2, 1, 0)] for i in range(8)], dtype=np.float32)
        centre = corners.mean(axis=0)
        for side in sides:
            for triangle in (side[:3], (side[0], side[2], side[3])):
                a, b, c = corners[list(triangle)]
                outwards = np.dot(np.cross(b - a, c - a), (a + b + c) / 3 - centre) > 0
                faces.append([8 * number + i for i in (triangle if outwards else triangle[::-1])])
                instance.append(number + 1)
        vertices.append(corners)
    count = len(faces)
    categories = ("unlabelled", *dict.fromkeys(kind for *_, kind in spans))
    colours = np.random.default_rng(0).uniform(0.2, 1, (len(spans), 4)).astype(np.float32)
    return SceneData(
        name=name,
        vertices=np.concatenate(vertices),
        faces=np.array(faces, dtype=np.int32),
        uv=np.zeros((count, 3, 2), dtype=np.float32),
        texture=np.full(count, -1, dtype=np.int32),
        colour=colours[np.array(instance) - 1],
        vertex_colour=np.full((8 * len(spans), 4), 255, dtype=np.uint8),
        double_sided=np.zeros(count, dtype=bool),
        instance=np.array(instance, dtype=np.int32),
        semantic=np.array([categories.index(spans[i - 1][2]) for i in instance], dtype=np.int32),
        categories=categories,
        objects=tuple(SceneObject(id=i + 1, name=f"{kind} {i}", category=kind) for i, (*_, kind) in enumerate(spans)),
    )


@pytest.fixture(scope="session")
def hall() -> SceneData:
    """6 x 4 m of floor with its top at 0, walls of 2.5 m round it, and a block in the middle."""
    return boxes(
        "hall",
        ((-3, -0.1, -2), (3, 0, 2), "floor"),
        ((-3.1, 0, -2.1), (3.1, 2.5, -2), "wall"),
        ((-3.1, 0, 2), (3.1, 2.5, 2.1), "wall"),
        ((-3.1, 0, -2), (-3, 2.5, 2), "wall"),
        ((3, 0, -2), (3.1, 2.5, 2), "wall"),
        ((-0.5, 0, -0.5), (0.5, 1.0, 0.5), "block"),
    )


@pytest.fixture(scope="session")
def yard() -> SceneData:
    """10 x 10 m of floor without walls."""
    return boxes("yard", ((-5, -0.2, -5), (5, 0, 5), "floor"))
