import pytest

from vlkit.progress import Progress, Timer, clock, progress


def test_a_section_inside_another_is_charged_to_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 4.0, 6.0, 16.0, 18.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    seconds = {"save": 0.5}
    timer = Timer(seconds)
    with timer("step"), timer("save"):  # from 0 to 6, of which the save takes 1 to 4
        pass
    with timer("step"):  # from 16 to 18
        pass
    assert seconds == {"save": 3.5, "step": 5.0}


def test_an_error_ends_the_sections_it_leaves() -> None:
    timer = Timer({})
    with pytest.raises(ZeroDivisionError), timer("outer"), timer("inner"):
        raise ZeroDivisionError
    assert timer.seconds.keys() == {"outer", "inner"}
    assert not timer.open


def test_a_pipe_gets_plain_lines_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 10.0, 31.0, 40.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    with progress(1000, first=100) as shown:
        shown.update(200, "loss", 0.5)  # 10 s after the start: too early for a line
        shown.update(410, "loss", 0.123456)
        shown.update(500, "loss", 0.1)
        shown.status("evaluating")
        shown.line("step 500: val/spl 0.4 [best]")
    assert capsys.readouterr().err.splitlines() == [
        "410/1000  loss 0.1235  10 steps/s  0:00:59 left",
        "step 500: val/spl 0.4 [best]",
    ]


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "90")
    with progress(20, unit="files", every=0.0) as shown:
        shown.update(5, "house-3")
        shown.line("house-2 has no windows")
        shown.status("looking again")
    text = capsys.readouterr().err
    assert "━" in text
    assert "house-2 has no windows" in text
    assert "left" in text


def test_the_other_processes_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as shown:
        shown.update(1, "loss", 0.5)
        shown.line("a line")
        shown.status("a word")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3723.4, "1:02:03"), (4e5, "111:06:40")]
)
def test_a_time_is_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
