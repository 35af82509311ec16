"""What a long job shows while it runs: a bar with rate and time left, or a plain line now and then; and its timer."""

import time
from typing import Any, Self


class Timer:
    """Wall time by section, `with timer("data"):`; a section inside another is charged to itself alone."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.name = ""
        self.open: list[tuple[str, float]] = []
        self.inner: list[float] = []

    def __call__(self, name: str) -> Self:
        """Names the section that the `with` opens."""
        self.name = name
        return self

    def __enter__(self) -> None:
        self.open.append((self.name, time.perf_counter()))
        self.inner.append(0.0)

    def __exit__(self, *error: object) -> None:
        name, start = self.open.pop()
        taken = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + taken - self.inner.pop()
        if self.inner:
            self.inner[-1] += taken


class Progress:
    """Shows nothing: what a process shows beside the main one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, done: int, text: str, value: float | None = None) -> None:
        """So many steps are done; `text` is a few words, with the number behind them."""

    def line(self, text: str) -> None:
        """A line that stays."""

    def status(self, text: str) -> None:
        """A few words in the place of those of `update`, at once."""


def progress(total: int, *, first: int = 0, unit: str = "steps", every: float | None = None) -> Progress:
    """A bar on a terminal; elsewhere (a pipe, a log file) a plain line every 30 seconds or `every` so many."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        return _Bar(console, total, first, unit, 0.1 if every is None else every)
    return _Lines(console, total, first, unit, 30.0 if every is None else every)


class _Lines(Progress):
    def __init__(self, console: Any, total: int, first: int, unit: str, every: float) -> None:
        self.console, self.total, self.first, self.unit, self.every = console, total, first, unit, every
        self.start = self.shown = time.perf_counter()

    def update(self, done: int, text: str, value: float | None = None) -> None:
        now = time.perf_counter()
        if now - self.shown < self.every:
            return
        self.shown = now
        rate = (done - self.first) / (now - self.start)
        left = clock((self.total - done) / rate) if rate else "?"
        self.line(f"{done}/{self.total}  {_valued(text, value)}  {rate:.3g} {self.unit}/s  {left} left")

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Bar(Progress):
    def __init__(self, console: Any, total: int, first: int, unit: str, every: float) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (MofNCompleteColumn(), BarColumn(bar_width=None), TextColumn("{task.fields[text]}"))
        left = (TimeRemainingColumn(), TextColumn("left"))
        self.bar = RichProgress(*columns, *left, console=console, transient=True)
        self.task = self.bar.add_task("", total=total, completed=first, text="")
        self.first, self.unit, self.every = first, unit, every
        self.start = self.shown = time.perf_counter()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, done: int, text: str, value: float | None = None) -> None:
        now = time.perf_counter()
        if now - self.shown < self.every:
            return
        self.shown = now
        rate = (done - self.first) / (now - self.start)
        self.bar.update(self.task, completed=done, text=f"{_valued(text, value)}  {rate:.3g} {self.unit}/s")

    def line(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def status(self, text: str) -> None:
        self.bar.update(self.task, text=text)


def clock(seconds: float) -> str:
    """3723.4 -> 1:02:03"""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _valued(text: str, value: float | None) -> str:
    return text if value is None else f"{text} {value:.4g}"
