"""The page on which one talks about pictures, in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import kept, needs_chromium, opened, served, until
from tests.tasks.dialog.test_dialog_answering import train

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def run(small_visdial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return train(small_visdial, folder, encoder="hre", steps=150, evaluate_every=75, learning_rate=3e-3)


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with served("dialog", run, run.parent / "cache") as found:
        yield found


def begun(browser: Any, address: str, picture: Path, width: int = 1280) -> Any:
    """A visitor's page with a picture on it."""
    page = opened(browser, address, width)
    page.wait_for_selector("#question textarea, #question input")
    page.set_input_files("input[type=file]", str(picture))
    page.wait_for_selector(f"img[src*='{picture.name}']")
    until(page, lambda: "nothing yet" in page.input_value("#tracked textarea"), "talk")
    return page


def said(page: Any) -> list[str]:
    """The messages of the chat."""
    return [each.strip() for each in page.locator("#chat .message-content").all_inner_texts()]


def ask(page: Any, question: str) -> list[str]:
    """What was said once a question is answered."""
    before = len(said(page))
    page.fill("#question textarea, #question input", question)
    page.click("#ask")
    until(page, lambda: len(said(page)) == before + 2, "answer")
    return said(page)


def picture(data: Path, colour: str) -> Path:
    """A picture of the test split."""
    document = json.loads((data / "visdial_1.0_test.json").read_text())
    number = next(each["image_id"] for each in document["data"]["dialogs"] if colour in each["caption"])
    return data / "images" / f"VisualDialog_test2018_{number:012d}.png"


@pytest.mark.parametrize("width", [1280, 400])
def test_a_talk_of_three_turns_in_which_one_is_changed(
    browser: Any, address: str, small_visdial: Path, width: int
) -> None:
    page = begun(browser, address, picture(small_visdial, "blue"), width)
    ask(page, "what color is the picture")
    ask(page, "and now")
    found = ask(page, "question 3")
    assert found[1] == "blue"
    assert found[3] == "blue", "the second question means something only behind the first"
    assert "%" in page.inner_text("#chances")
    assert "what color is the picture blue" in page.inner_text("#past")
    assert "remembers turns 1 to 3" in page.input_value("#tracked textarea")
    kept(page, f"dialog-{width}")
    page.fill("#new-answer textarea, #new-answer input", "yellow")
    page.click("#turn input")
    page.click("text=1. what color is the picture")
    page.click("#change")
    until(page, lambda: "yellow" in said(page)[1], "changed turn")
    assert len(said(page)) == 6, "what came behind it was asked again"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing reaches beyond the edge"
    page.click("#turn input")
    page.click("text=2. and now")
    page.click("#drop")
    until(page, lambda: len(said(page)) == 4, "shorter talk")
    with page.expect_download() as download:
        page.click("#export")
    talk = json.loads(Path(download.value.path()).read_text())
    assert (talk["turns"][0]["answer"], len(talk["turns"])) == ("yellow", 2)
    page.close()


def test_two_visitors_do_not_see_each_other(browser: Any, address: str, small_visdial: Path) -> None:
    pages = [begun(browser, address, picture(small_visdial, colour)) for colour in ("red", "green")]
    found = [ask(page, "what color is the picture") for page in pages]
    assert [each[1] for each in found] == ["red", "green"]
    ask(pages[0], "and now")
    assert len(said(pages[1])) == 2
    for page in pages:
        page.close()


def test_what_cannot_be_said_is_told(browser: Any, address: str, small_visdial: Path, tmp_path: Path) -> None:
    page = opened(browser, address)
    page.wait_for_selector("#question textarea, #question input")
    page.fill("#question textarea, #question input", "and now")
    page.click("#ask")
    page.wait_for_selector("text=choose or upload a picture first")
    page.close()
    page = begun(browser, address, picture(small_visdial, "red"))
    page.click("#ask")
    page.wait_for_selector("text=the question is empty")
    page.fill("#question textarea, #question input", "x" * 50_000)
    page.click("#ask")
    page.wait_for_selector("text=50,000 characters, and at most 500 are read")
    assert said(page) == []
    found = ask(page, "<b onclick='alert(1)'>and now</b><script>window.hurt = true</script>")
    assert found[0].startswith("<b onclick"), "markup is shown as it was typed"
    assert page.evaluate("window.hurt === undefined")
    page.close()
    page = opened(browser, address)
    page.wait_for_selector("#question textarea, #question input")
    big = tmp_path / "big.png"
    big.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(12 << 20))
    page.set_input_files("input[type=file]", str(big))
    page.wait_for_selector("text=/exceeds|maximum|too large/i")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    page = opened(browser, address)
    page.wait_for_selector("#question textarea, #question input")
    page.set_input_files("input[type=file]", str(text))
    page.wait_for_selector("text=/is not a picture|cannot identify image/i")
    page.close()
