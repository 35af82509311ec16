"""The ground, moves and distances that habitat-sim measured, on every golden scene."""

from pathlib import Path

import pytest

from vlkit.envs.simulator.golden_navigation import navigation_figures
from vlkit.errors import UserError


@pytest.mark.reference
@pytest.mark.parametrize("name", ["simple_room", "house_a", "two_storey"])
def test_navigation_agrees_with_habitat(reference: Path, name: str) -> None:
    figures = navigation_figures(reference / "scenes" / "habitat_golden" / name)
    missed = [f"{each.name}: {each.value:.4g}, {each.side} {each.bound:g}" for each in figures if not each.met]
    assert not missed
    # Far inside the bounds: the polygons are habitat's own, and whatever comes to differ was a mistake of ours.
    alike = [each for each in figures if "true heights" not in each.name and "longer" not in each.name]
    assert len(alike) == 19
    worse = [
        f"{each.name}: {each.value:.4g}"
        for each in alike
        if (each.value < 99.7 if each.side == "at least" else each.value > 0.001)
    ]
    assert not worse


def test_a_folder_that_is_no_golden_scene_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no scene.glb"):
        navigation_figures(tmp_path)
