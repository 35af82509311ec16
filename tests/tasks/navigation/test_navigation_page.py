"""The page on which one guides a navigator, in a real browser, and the walk behind it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import kept, needs_chromium, opened, served, until
from vlkit.cli import main
from vlkit.errors import UserError
from vlkit.tasks.navigation.evaluation import trained
from vlkit.tasks.navigation.guided import GuidedWalk


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guided")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        words = ["--houses", "4", "--unseen", "2", "--walks", "2", "--levels", "starter", "--processes", "1"]
        assert main(["data", "houses", "--out", str(folder / "houses"), *words]) == 0
        file = folder / "walker.toml"
        file.write_text(
            f'task = "navigation"\ndata = "{folder / "houses"}"\noutput = "{folder / "run"}"\nlevels = ["starter"]\nsize = 32\n'
            "dim = 32\nword_dim = 16\nimage_dim = 16\ndepth_dim = 16\nmin_count = 1\nsteps = 4\nevaluate_every = 4\nbatch_size = 2\n"
            "reading_steps = 2\nseeing_steps = 2\nround_episodes = 4\nnum_envs = 2\nselect_episodes = 2\nwarmup_steps = 1\n"
            'max_steps = 60\nthreads = 1\ndevice = "cpu"\n'
        )
        assert main(["train", str(file)]) == 0
    return folder / "run"


@pytest.fixture
def walk(run: Path, monkeypatch: pytest.MonkeyPatch) -> GuidedWalk:
    monkeypatch.setenv("XDG_CACHE_HOME", str(run.parent / "cache"))
    return GuidedWalk(trained(run, "cpu"), "val_unseen", 4)


def test_a_walk_is_driven_told_and_begun_again(walk: GuidedWalk) -> None:
    first = walk.shown()
    assert sum(first.chances.values()) == pytest.approx(1, abs=1e-5)
    assert "step 0" in first.told
    start = walk.env.simulator.position.clone()
    for action in ("left", "forward", "right"):
        walk.step(action)
    found = walk.shown()
    assert "step 3" in found.told
    assert walk.env.trajectories()[0].actions == [2, 1, 3]
    before = walk._memory.layers
    walk.tell("Walk into the quagga and stop")
    assert [word for word, _, _ in walk.shown().words] == ["Walk", "into", "the", "quagga", "and", "stop"]
    assert [word for word, _, known in walk.shown().words if not known] == ["quagga"]
    assert walk._memory.layers is before, "what was seen and done is remembered"
    walk.step("stop")
    assert "after 4 actions" in walk.shown().told
    with pytest.raises(UserError, match="the walk has ended"):
        walk.step()
    walk.begin(0)
    assert "step 0" in walk.shown().told
    assert walk.env.simulator.position.allclose(start)
    assert walk.instruction == walk.split.episodes[0].instruction


def test_by_itself_it_walks_as_it_is_judged(walk: GuidedWalk, run: Path) -> None:
    from vlkit.tasks.navigation.evaluation import EvalOptions, run_walks, tested

    one = trained(run, "cpu")
    judged = run_walks(one, tested(EvalOptions(runs=(run,), split="val_unseen", episodes=4, num_envs=2), [one]))
    for place in range(len(walk.split.episodes)):
        walk.begin(place)
        while not walk.ended and len(walk.env.trajectories()[0].actions) < 60:
            walk.step()
        assert walk.env.trajectories()[0].actions == judged[place].actions


def test_what_cannot_be_told_is_told(walk: GuidedWalk) -> None:
    for text, message in ((" ", "the instruction is empty"), ("x" * 1001, "1,001 characters, and at most 1000")):
        with pytest.raises(UserError, match=message):
            walk.tell(text)
    with pytest.raises(UserError, match="there is no action 'fly'"):
        walk.step("fly")
    with pytest.raises(UserError, match="there is no episode 9"):
        walk.begin(9)


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served("navigation", run, run.parent / "cache", "--episodes", "4") as found:
        yield found


def told(page: Any) -> str:
    """How the walk stands."""
    return str(page.input_value("#told textarea, #told input"))


def steps(page: Any) -> int:
    """Steps done so far."""
    words = told(page).replace(",", "").split()
    return int(words[words.index("step") + 1] if "step" in words else words[-2])


def ready(page: Any) -> None:
    until(page, lambda: "step 0" in told(page), "walk")


@needs_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_a_walk_on_the_page(browser: Any, address: str, width: int) -> None:
    page = opened(browser, address, width)
    page.wait_for_selector("#told")
    ready(page)
    page.fill("#instruction textarea", "go to the kitchen & stop <i>there</i>")
    page.click("#again")
    until(page, lambda: "kitchen" in page.inner_text("#read"), "new instruction")
    assert page.locator("#read i").count() == 0, "markup is shown as it was typed"
    page.locator("body").click(position={"x": 2, "y": 2})
    for count, key in enumerate(("ArrowLeft", "ArrowUp", "ArrowRight"), start=1):
        page.keyboard.press(key)
        until(page, lambda count=count: steps(page) == count, f"step by {key}")  # type: ignore[misc]
    page.click("#step")
    until(page, lambda: steps(page) == 4, "step of its own")
    kept(page, f"navigation-{width}")
    page.fill("#instruction textarea", "turn around")
    page.click("#tell")
    until(page, lambda: "turn around" in page.inner_text("#read"), "instruction on the way")
    assert steps(page) == 4
    page.fill("#instruction textarea", "")
    page.click("#tell")
    page.wait_for_selector("text=the instruction is empty")
    page.click("#play")
    until(page, lambda: steps(page) >= 6 or "goal:" in told(page), "steps by itself")
    if "goal:" not in told(page):
        page.click("#stop")
        until(page, lambda: "goal:" in told(page), "end")
    page.click("#forward")
    page.wait_for_selector("text=the walk has ended")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing reaches beyond the edge"
    page.close()


@needs_chromium
def test_two_visitors_walk_each_their_own_way(browser: Any, address: str) -> None:
    pages = [opened(browser, address) for _ in range(2)]
    for page in pages:
        page.wait_for_selector("#told")
        ready(page)
    pages[0].click("#left")
    until(pages[0], lambda: steps(pages[0]) == 1, "step")
    pages[1].wait_for_timeout(500)
    assert steps(pages[1]) == 0
    for page in pages:
        page.close()
