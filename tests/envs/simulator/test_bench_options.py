from collections.abc import Callable, Sequence

import pytest

from benchmarks import navigation, render, scene_files
from vlkit.envs.simulator.navgrid import NavSettings


@pytest.mark.parametrize(
    ("main", "words", "told"),
    [
        (render.main, ["--resolutions", "0"], "is 0 pixels; expected a whole number from 1 to 4096"),
        (render.main, ["--resolutions", "100000"], "is 100000 pixels"),
        (render.main, ["--threads", "-3"], "threads is (-3,); expected one or more, each 0 or more"),
        (render.main, ["--batches", "0"], "batches is (0,); expected one or more, each 1 or more"),
        (render.main, ["--cuda-batches", "0"], "cuda_batches is (0,)"),
        (render.main, ["--triangles", "-1"], "triangles is (-1,)"),
        (render.main, ["--repeats", "0"], "repeats is 0; expected 1 or more"),
        (render.main, ["--seconds", "0"], "seconds is 0.0; expected a number above 0"),
        (render.main, ["--seconds", "nan"], "seconds is nan"),
        (
            render.main,
            ["--batches", "2", "--threads", "4", "--triangles", "1", "--resolutions", "8"],
            "batches is (2,) and threads (4,): a view is drawn by one thread",
        ),
        (scene_files.main, ["--triangles", "1"], "triangles is 1 and must be at least 2"),
        (scene_files.main, ["--seed", "-1"], "seed is -1; expected 0 or more"),
        (navigation.main, ["--repeats", "0"], "repeats is 0; expected 1 or more"),
        (navigation.main, ["--agents", "0"], "agents is 0; expected 1 or more"),
        (navigation.main, ["--triangles", "0"], "triangles is 0; expected 1 or more"),
        (navigation.main, ["--threads", "-1"], "threads is -1; expected 1 or more"),
        (navigation.main, ["--seed", "-1"], "seed is -1; expected 0 to"),
        (navigation.main, ["--seed", str(2**70)], f"seed is {2**70}; expected 0 to"),
        (navigation.main, ["--scene", "nowhere.glb"], "there is no file nowhere.glb"),
    ],
)
def test_an_option_that_cannot_be_timed_is_one_line_and_exit_code_1(
    main: Callable[[Sequence[str]], int], words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1


def test_fewer_agents_than_paths_in_a_measurement_are_timed_too() -> None:
    scene = navigation.building(rooms=1, seed=0)
    rates = navigation.our_figures(scene, NavSettings(), navigation.Options(agents=3, repeats=1))
    assert all(seconds > 0 for seconds in rates.values())
