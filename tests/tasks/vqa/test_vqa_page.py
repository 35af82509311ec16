"""The page on which one asks about pictures, in a real browser."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser import WAIT_S, kept, needs_chromium, opened, served, until
from vlkit.cli import main

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "images").mkdir()
    colours = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
    rows = []
    for i in range(12):
        name = list(colours)[i % 3]
        Image.new("RGB", (16, 16), colours[name]).save(folder / "images" / f"{i}.png")
        rows.append(f"{i}.png,what colour is it?,red|green|blue,{name}\n")
    for split in ("train", "val", "test"):
        (folder / f"{split}.csv").write_text("image,question,choices,answer\n" + "".join(rows), encoding="utf-8")
    file = folder / "page.toml"
    file.write_text(
        f'task = "vqa"\ndata = "{folder}"\nselect_split = "val"\nsize = 16\ndim = 16\nword_dim = 8\nimage_dim = 8\nanswer_dim = 16\nsteps = 240\n'
        f'batch_size = 4\nwarmup_steps = 1\nevaluate_every = 240\nlearning_rate = 0.01\nthreads = 1\ndevice = "cpu"\n'
        f'fusion = "attention"\noutput = "{folder / "run"}"\n',
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main(["train", str(file), "--arms", "question_only"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served("vqa", run, run.parent / "cache") as found:
        yield found


def asked(page: Any, question: str, choices: str = "") -> str:
    """What the page tells after a question."""
    before = page.input_value("#told textarea")
    page.fill("#question textarea, #question input", question)
    page.fill("#choices textarea", choices)
    page.click("#ask")
    until(page, lambda: str(page.input_value("#told textarea")) != before, "answer")
    return str(page.input_value("#told textarea"))


@pytest.mark.parametrize("width", [1280, 400])
def test_a_picture_is_uploaded_asked_about_and_answered(browser: Any, address: str, run: Path, width: int) -> None:
    page = opened(browser, address, width)
    page.wait_for_selector("#question textarea, #question input")
    page.set_input_files("input[type=file]", str(run.parent / "images" / "2.png"))
    page.wait_for_selector("img[src*='2.png']")
    told = asked(page, "what colour is it?", "red\ngreen\nblue")
    assert told.startswith("blue ("), told
    assert "a model trained on questions alone" in told
    assert page.inner_text("#chances").split()[0] == "blue" or "blue" in page.inner_text("#chances")
    assert page.locator("#unseen").inner_text().count("%") == 3
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing reaches beyond the edge"
    kept(page, f"vqa-{width}")
    page.close()


def test_what_cannot_be_asked_is_told_on_the_page(browser: Any, address: str, run: Path) -> None:
    page = opened(browser, address)
    page.wait_for_selector("#question textarea, #question input")
    page.click("#ask")
    page.wait_for_selector("text=type a question first")
    page.fill("#question textarea, #question input", "what colour is it?")
    page.click("#ask")
    page.wait_for_selector("text=choose or upload a picture first")
    page.close()


def test_two_users_do_not_see_each_other(browser: Any, address: str, run: Path) -> None:
    pages = [opened(browser, address) for _ in range(2)]
    for i, page in enumerate(pages):
        page.wait_for_selector("#question textarea, #question input")
        page.set_input_files("input[type=file]", str(run.parent / "images" / f"{i}.png"))
        page.wait_for_selector(f"img[src*='{i}.png']")
    told = [asked(page, "what colour is it?", "red\ngreen\nblue") for page in pages]
    assert [each.split()[0] for each in told] == ["red", "green"]
    for page in pages:
        page.close()


def test_a_port_that_is_taken_is_told(run: Path, address: str) -> None:
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "vlkit", "demo", "vqa", str(run), "--port", port, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == 1
    assert "name another --port" in done.stderr
