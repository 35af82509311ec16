"""A real browser and a served page, for tests of the demos."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
WAIT_S = 90
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to open a page with")


@contextmanager
def served(task: str, run: Path, cache: Path, *more: str) -> Iterator[str]:
    """The address at which `vlkit demo TASK RUN` serves, until it is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vlkit", "demo", task, str(run), "--port", str(port), "--device", "cpu", *more]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "no_proxy": "127.0.0.1,localhost"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert server.stdout is not None
        told = server.stdout.readline()
        assert f"http://127.0.0.1:{port} shows" in told, told + (
            server.stdout.read() if server.poll() is not None else ""
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        if server.stdout is not None:
            server.stdout.close()


def opened(browser: Any, address: str, width: int = 1280) -> Any:
    """A new visitor's page, with nothing of another one's."""
    page = browser.new_page(viewport={"width": width, "height": 1000})
    page.set_default_timeout(WAIT_S * 1000)
    page.goto(address)
    return page


def until(page: Any, true: Callable[[], bool], what: str) -> None:
    """Waits until something holds."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, f"in {WAIT_S} s there was no {what}"
        page.wait_for_timeout(100)


def kept(page: Any, name: str) -> None:
    """A picture of the page, where somebody wants to look at it."""
    if folder := os.environ.get("VLKIT_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
