import math

import numpy as np
import pytest
import torch

from vlkit.envs.house.catalogue import KINDS, Kind
from vlkit.envs.house.house import Point
from vlkit.envs.house.mesh import Placed, placed_scene
from vlkit.envs.house.shapes import SHAPES, parts
from vlkit.envs.house.solids import Paint, Part, ball, bar, basin, box, disc
from vlkit.envs.simulator.camera import Camera, frames, rotations
from vlkit.envs.simulator.raster import RasterEngine
from vlkit.errors import UserError

VARIANTS = range(3)
PLAIN = Paint()


def sizes(kind: Kind) -> tuple[Point, Point]:
    """The smallest and the largest that a thing of the kind may be."""
    (w, w2), (h, h2), (d, d2) = kind.width_m, kind.height_m, kind.depth_m
    return (w, h, d), (w2, h2, d2)


def quads(made: list[Part]) -> np.ndarray:
    return np.concatenate([part.quads for part in made])


def areas(corners: np.ndarray) -> np.ndarray:
    """(quads, 4, 3) -> (quads,)"""
    first = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    second = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 0])
    return np.asarray((np.linalg.norm(first, axis=1) + np.linalg.norm(second, axis=1)) / 2)


def volume(corners: np.ndarray) -> float:
    """Of what closed quads enclose; negative where they look inwards."""
    a, b, c, d = corners.transpose(1, 0, 2)
    return float((np.einsum("ij,ij->i", a, np.cross(b, c)) + np.einsum("ij,ij->i", a, np.cross(c, d))).sum() / 6)


def test_every_kind_of_the_catalogue_has_a_shape() -> None:
    assert set(SHAPES) == set(KINDS)


def test_a_kind_without_a_shape_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'soffa'\. Did you mean 'sofa'"):
        parts("soffa", (1.0, 1.0, 1.0))


@pytest.mark.parametrize("name", list(KINDS))
def test_a_thing_fills_its_size_and_stays_within_it(name: str) -> None:
    for size in sizes(KINDS[name]):
        for variant in VARIANTS:
            corners = quads(parts(name, size, variant))
            low, high = corners.reshape(-1, 3).min(axis=0), corners.reshape(-1, 3).max(axis=0)
            width, height, depth = size
            assert np.isfinite(corners).all()
            assert (low >= np.array([-width / 2, 0, -depth / 2]) - 0.01).all(), (variant, low)
            assert (high <= np.array([width / 2, height, depth / 2]) + 0.01).all(), (variant, high)
            assert high[1] > 0.92 * height
            assert high[0] - low[0] > 0.7 * width
            assert high[2] - low[2] > 0.7 * depth
            assert areas(corners).sum() > 0.05


def test_a_thing_has_few_triangles() -> None:
    counts = [
        2 * len(quads(parts(name, sizes(kind)[1], variant))) for name, kind in KINDS.items() for variant in VARIANTS
    ]
    assert min(counts) >= 12
    assert max(counts) < 500
    assert np.mean(counts) < 160


def test_the_variants_of_a_kind_differ() -> None:
    for name, kind in KINDS.items():
        made = [parts(name, sizes(kind)[0], variant) for variant in VARIANTS]
        looks = {(quads(each).tobytes(), tuple((part.paint, len(part.quads)) for part in each)) for each in made}
        assert len(looks) == len(VARIANTS), name


def test_most_of_what_one_sees_of_a_thing_has_its_colour() -> None:
    things = [(name, variant) for name in KINDS for variant in VARIANTS]
    scenes = []
    for name, variant in things:
        made = parts(name, sizes(KINDS[name])[1], variant)
        scenes.append(placed_scene(name, [Placed([part], 0, 1 + (part.paint.colour is not None)) for part in made]))
    engine = RasterEngine(scenes, threads=1)
    camera = Camera(height=48, width=48, hfov_deg=40.0)
    turn = rotations(math.pi + torch.tensor([-0.8, 0.0, 0.8]), torch.full((3,), -0.35)).float()  # from its front
    views = frames(camera, ("instance",), 3, engine.device)
    for i, (name, variant) in enumerate(things):
        size = sizes(KINDS[name])[1]
        away = math.dist((0, 0, 0), size) / 2 / math.sin(math.radians(20))
        position = torch.tensor([0.0, size[1] / 2, 0.0]) + away * turn[:, :, 2]
        engine.render(camera, torch.full((3,), i), position, turn, views)
        seen = np.bincount(views["instance"].numpy().reshape(-1), minlength=3)[1:]
        assert seen[0] > 0.5 * seen.sum(), (name, variant, seen)


def test_solids_look_outwards() -> None:
    assert volume(box((0, 0, 0), (1, 2, 3), PLAIN).quads) == pytest.approx(6)
    assert volume(ball(1.0, PLAIN, at=(5, 5, 5), sides=40, rings=40).quads) == pytest.approx(4 / 3 * math.pi, rel=0.02)
    for axis in ("x", "y", "z", "-z"):
        round_bar = disc(1.0, 0.5, 2.5, PLAIN, at=(3, 4, 5), axis=axis, sides=60).quads
        assert volume(round_bar) == pytest.approx(2 * math.pi, rel=0.01)
    for end in ((2.0, 3.0, 4.0), (1.0, 9.0, 1.0), (4.0, 1.0, 1.0), (1.0, 1.0, -6.0)):
        beam = bar((1.0, 1.0, 1.0), end, 0.5, PLAIN).quads
        assert volume(beam) == pytest.approx(0.25 * math.dist((1, 1, 1), end))
    outside, inside = basin((0, 0, 0), (1, 1, 1), PLAIN, PLAIN, rim_m=0.1, floor_m=0.2)
    assert volume(np.concatenate([outside.quads, inside.quads])) == pytest.approx(1 - 0.8 * 0.8 * 0.8)


def test_a_side_of_a_box_can_be_left_out() -> None:
    whole, open_box = box((0, 0, 0), (1, 2, 3), PLAIN), box((0, 0, 0), (1, 2, 3), PLAIN, without="+y-z")
    assert areas(whole.quads).sum() == pytest.approx(22)
    assert areas(open_box.quads).sum() == pytest.approx(22 - 3 - 2)
    assert (open_box.quads[..., 1].min(axis=1) < 2).all()
