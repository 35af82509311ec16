import hashlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import vlkit
from vlkit.errors import UserError
from vlkit.report import (
    Arm,
    Part,
    Report,
    Row,
    aggregated,
    compared,
    data_file,
    data_files,
    device_name,
    items_sha256,
    markdown,
    read,
    report,
    rows,
    show,
    this_code,
    this_command,
    versions,
    write,
)

UNITS = {"nav_error": "m", "success": "fraction", "spl": "fraction"}
LABELS = {"nav_error": "NE, navigation error", "success": "SR, success rate", "spl": "SPL"}


def metrics(success: float, seeds: tuple[float, ...] = ()) -> tuple[Row, ...]:
    return (
        Row("nav_error", 5.125, 5.0, 5.25, unit="m", label="NE, navigation error", seeds=(5.125,) * len(seeds)),
        Row("success", success, success - 0.02, success + 0.02, seeds=seeds, label="SR, success rate"),
        Row("spl", success - 0.05, seeds=tuple(seed - 0.05 for seed in seeds), label="SPL"),
    )


def card(title: str = "route agent", success: float = 0.463, seed: int = 0, **others: Any) -> Report:
    arguments: dict[str, Any] = {
        "task": "navigation",
        "split": "val_unseen",
        "ids": ["1_0", "1_1", "2_0"],
        "metrics": metrics(success),
        "arms": [Arm("no instruction", "trained", metrics(0.21)), Arm("random", "fixed", metrics(0.16)[:2])],
        "seeds": [seed],
        "device": "CPU, 2 threads",
        "minutes": 28.0,
        "command": "vlkit eval runs/route --split val_unseen",
    }
    return report(title, **arguments | others)


def printed(card: Report, width: int = 80) -> str:
    text = io.StringIO()
    show(card, Console(width=width, file=text, color_system=None))
    return text.getvalue()


def test_rows_are_means_over_items_and_seeds() -> None:
    first, second = [[1.0, 1.0], [3.0, 0.0]], [[3.0, 0.0], [5.0, 0.0]]
    error, success = rows([first, second], {"nav_error": "m", "success": "fraction"}, labels=LABELS)
    assert (error.value, error.seeds) == (3.0, (2.0, 4.0))
    assert (success.value, success.seeds) == (0.25, (0.5, 0.0))
    # The items' means over seeds are 2 and 4: the bounds of two draws out of these.
    assert (error.low, error.high) == (2.0, 4.0)
    assert error.deviation == pytest.approx(np.sqrt(2))
    assert (error.unit, error.label) == ("m", "NE, navigation error")


def test_rows_of_groups_have_wider_intervals() -> None:
    table = np.repeat(np.random.default_rng(0).random((40, 1)), 3, axis=0)
    (alone,) = rows([table], {"spl": "fraction"})
    (grouped,) = rows([table], {"spl": "fraction"}, groups=np.repeat(np.arange(40), 3))
    width_alone, width_grouped = (float(row.high or 0) - float(row.low or 0) for row in (alone, grouped))
    assert width_grouped > 1.3 * width_alone
    assert grouped.deviation is None


def test_a_table_with_a_column_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match="tables must be \\(items, 1\\) for spl, not \\(2, 2\\)"):
        rows([np.zeros((2, 2))], {"spl": "fraction"})


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("[]")
    original = card(
        data=[data_file(tmp_path / "split.json", count=3)],
        metrics=metrics(0.4, seeds=(0.41, 0.39)),
        notes=["a note"],
        headline=["spl"],
    )
    write(original, tmp_path / "eval")
    assert read(tmp_path / "eval") == original
    assert read(tmp_path / "eval" / "report.json") == original
    assert json.loads((tmp_path / "eval" / "report.json").read_text())["schema"] == 1
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == ["report.json", "report.md"]


def test_parts_stand_in_a_table_for_each_thing_that_items_are_told_apart_by(tmp_path: Path) -> None:
    parts = [
        Part("path length", "under 4 m", 2, metrics(0.6)),
        Part("path length", "4 m and more", 1, metrics(0.2)),
        Part("rooms", "3", 3, metrics(0.4)),
    ]
    original = card(parts=parts, headline=["spl"])
    write(original, tmp_path)
    assert read(tmp_path) == original
    for text in (printed(original, width=120), markdown(original)):
        assert [text.lower().count(f"by {by}") for by in ("path length", "rooms")] == [1, 1]
    lines = markdown(original).partition("## By path length")[2].splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:5]] == ["", "items", "SPL %", "NE m"]
    assert [cell.strip() for cell in lines[4].split("|")[1:4]] == ["under 4 m", "2", "55.0"]


def test_the_result_comes_first_then_the_probes_then_where_it_comes_from(tmp_path: Path) -> None:
    original = card(notes=["image-free"])
    for text in (printed(original), markdown(original)):
        places = [text.index(word) for word in ("46.3", "no instruction", "To get these numbers again", "files ")]
        assert places == sorted(places)
        assert "navigation, val_unseen: 3 items, seed 0" in text
        assert "vlkit eval runs/route --split val_unseen" in text
        assert "44.3 to 48.3" in text
        assert "5.12" in text
        assert "trained: an agent that was trained without it; fixed: needs no training." in text.replace("\n", " ")
        assert "28.0 minutes of training" in text
        assert "CPU, 2 threads" in text
        assert "image-free" in text


def test_the_probes_table_repeats_the_main_result() -> None:
    lines = markdown(card()).splitlines()
    start = lines.index("## Probes")
    assert lines[start + 2 : start + 7] == [
        "|  | kind | NE m | SR % | SPL % |",
        "| :-- | :-- | --: | --: | --: |",
        "| route agent |  | 5.12 | 46.3 | 41.3 |",
        "| no instruction | trained | 5.12 | 21.0 | 16.0 |",
        "| random | fixed | 5.12 | 16.0 |  |",
    ]


def test_a_result_of_several_seeds_shows_mean_and_spread() -> None:
    text = markdown(card(metrics=metrics(0.5, seeds=(0.49, 0.51)), seeds=[3, 4]))
    assert "3 items, 2 seeds: 3, 4" in text
    assert "| SR, success rate | 50.0 | 48.0 to 52.0 | 1.4 | % |" in text
    assert "| route agent |  | 5.12 ±0.00 | 50.0 ±1.4 | 45.0 ±1.4 |" in text
    assert "are over 2 seeds" in text


def test_a_result_without_intervals_or_probes_is_plain() -> None:
    text = markdown(card(metrics=[Row("answers", 3.0, unit="answers")], arms=[], seeds=[]))
    assert "| metric | mean | unit |\n| :-- | --: | :-- |\n| answers | 3.00 | answers |" in text
    assert "One run, without intervals." in text
    assert "Probes" not in text
    assert "navigation, val_unseen: 3 items\n" in text


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_shows_the_headline_and_says_what_it_leaves_out(width: int) -> None:
    many = [Row(f"metric_{i}", i / 100, label=f"metric {i}") for i in range(20)]
    original = card(metrics=many, arms=[Arm("blind", "test-time", tuple(many))], headline=["metric_17"])
    text = printed(original, width)
    assert max(len(line) for line in text.splitlines()) <= width
    probes = text[text.index("kind") :]
    assert probes.index("metric 17") < probes.index("metric 0")
    assert "Of the probes, metric " in text
    assert "are in report.md" in text.replace("\n", " ")
    for i in range(20):
        assert f"metric {i}" in probes
        assert f"metric {i} " in text[: text.index("kind")]
        assert f"| metric {i} %" in markdown(original)


def test_names_with_brackets_and_bars_are_printed_as_they_are() -> None:
    original = card(title="agent [red]|a|", arms=[Arm("no [bold]|x|", "fixed", metrics(0.1))])
    assert "agent [red]|a|" in printed(original)
    assert "no [bold]|x|" in printed(original)
    assert "| no [bold]\\|x\\| | fixed |" in markdown(original)


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="spl is nan .* a report holds finite numbers"):
        Row("spl", float("nan"))


def test_an_arm_of_another_kind_or_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="kind of blind is 'guessed' and must be one of trained, test-time, fixed"):
        Arm("blind", "guessed", ())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="arm blind has bleu, which the main result lacks"):
        card(arms=[Arm("blind", "fixed", (Row("bleu", 0.1),))])
    with pytest.raises(ValueError, match="headline names bleu"):
        card(headline=["bleu"])


def test_seeds_give_mean_and_spread_and_never_the_best() -> None:
    together = aggregated([card(success=success, seed=seed) for seed, success in enumerate((0.40, 0.50, 0.45))])
    success = together.metrics[1]
    assert success.value == pytest.approx(0.45)
    assert success.deviation == pytest.approx(0.05)
    assert success.seeds == (0.40, 0.50, 0.45)
    assert (success.low, success.high) == (None, None)
    assert together.seeds == (0, 1, 2)
    assert together.title == "route agent, 3 seeds"
    assert together.minutes == 28.0
    assert [(arm.name, arm.metrics[0].seeds) for arm in together.arms] == [
        ("no instruction", (5.125,) * 3),
        ("random", (5.125,) * 3),
    ]
    assert "| SR, success rate | 45.0 | 5.0 | % |" in markdown(together)


def test_an_arm_that_a_seed_lacks_has_no_mean() -> None:
    together = aggregated([card(seed=0), card(seed=1, arms=[Arm("random", "fixed", metrics(0.2))])])
    assert [arm.name for arm in together.arms] == ["random"]
    # `random` of seed 0 has no spl.
    assert [row.name for row in together.arms[0].metrics] == ["nav_error", "success"]


def test_the_same_seed_twice_is_no_spread() -> None:
    with pytest.raises(UserError, match="one report for each of several seeds, and these are of seeds 1, 1"):
        aggregated([card(seed=1), card(seed=1)])


def test_seeds_of_different_code_are_noted() -> None:
    other = card(seed=1)
    together = aggregated([card(seed=0), replace(other, code=replace(other.code, files_sha256="0" * 64))])
    assert together.notes == ("the seeds were run with 2 different versions of the code",)


def test_reports_on_the_same_items_are_compared() -> None:
    lines = compared([card(success=0.4), card("seq2seq", success=0.2, ids=["2_0", "1_1", "1_0"])]).splitlines()
    assert lines == [
        "|  | NE m | SR % | SPL % |",
        "| :-- | --: | --: | --: |",
        "| route agent | 5.12 | 40.0 | 35.0 |",
        "| seq2seq | 5.12 | 20.0 | 15.0 |",
    ]


def test_reports_on_other_items_are_not_compared() -> None:
    other = card("seq2seq", split="val_seen", ids=["1_0", "1_1"])
    with pytest.raises(UserError) as error:
        compared([card(), other])
    assert (
        "'route agent' was scored on 3 items of navigation val_unseen and 'seq2seq' on 2 items of navigation val_seen"
        in str(error.value)
    )
    assert "evaluate both on the same split" in str(error.value)
    with pytest.raises(UserError, match="not the same items"):
        aggregated([card(seed=0), replace(other, seeds=(1,))])
    with pytest.raises(UserError, match="two reports or more, and there are 1"):
        compared([card()])


def test_the_hash_of_items_knows_the_set_and_not_the_order() -> None:
    assert items_sha256(["b", "a"]) == items_sha256(["a", "b"])
    assert items_sha256(["ab", "c"]) != items_sha256(["a", "bc"])
    assert items_sha256(["a"]) != items_sha256(["a", "a"])


def test_a_data_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "R2R_val_seen.json"
    path.write_bytes(b"x" * 3_000_000)
    entry = data_file(path, count=7)
    assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (entry.name, entry.size, entry.count) == ("R2R_val_seen.json", 3_000_000, 7)
    with pytest.raises(UserError, match="cannot read .*absent.json: No such file"):
        data_file(tmp_path / "absent.json")


def test_many_files_have_one_hash_of_names_and_contents(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b.json", "a.json")]
    for path in paths:
        path.write_text(path.name)
    together = data_files(paths, "connectivity")
    assert (together.name, together.size, together.count) == ("connectivity", 12, 2)
    assert data_files(paths[::-1], "connectivity") == together
    paths[0].write_text("other!")
    assert data_files(paths, "connectivity").sha256 != together.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "no report of vlkit"),
        ('{"title": "x"}', "it has no schema number"),
        ('{"schema": 2}', "has schema 2, and this vlkit reads up to 1; update vlkit"),
        ('{"schema": 1, "title": "x"}', "is no whole report \\('metrics'\\)"),
    ],
)
def test_a_file_that_is_no_report_is_explained(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_a_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no report .*absent; name a folder"):
        read(tmp_path / "absent")


def test_the_hash_of_the_code_is_that_of_its_files_wherever_they_lie(tmp_path: Path) -> None:
    package = Path(vlkit.__file__).parent
    shutil.copytree(package, tmp_path / "vlkit", symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from vlkit.report import this_code; c = this_code(); print(c.files_sha256, c.commit, c.dirty)"

    def elsewhere() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert elsewhere() == [this_code().files_sha256, "None", "None"]
    (tmp_path / "vlkit" / "tasks" / "extra.py").write_text("")
    assert elsewhere()[0] != this_code().files_sha256


def test_a_checkout_gives_its_commit_and_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    (tmp_path / "vlkit").mkdir()
    own = tmp_path / "vlkit" / "__init__.py"
    own.write_text("")
    monkeypatch.setattr(vlkit, "__file__", str(own))
    git("init", "-q")
    # In a repository, but not tracked by it: an environment in some project's folder.
    assert (this_code().commit, this_code().dirty) == (None, None)
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert (this_code().commit, this_code().dirty) == (git("rev-parse", "HEAD"), False)
    own.write_text("changed = True\n")
    assert this_code().dirty is True
    assert "with changes" in markdown(card())


def test_the_command_can_be_pasted_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/vlkit", "eval", "my runs/route", "--split", "val_unseen"])
    assert this_command() == "vlkit eval 'my runs/route' --split val_unseen"
    monkeypatch.setattr(sys, "argv", ["train.py", "--seed", "3"])
    assert this_command() == "python train.py --seed 3"


def test_versions_and_device_are_named() -> None:
    assert {"python", "system", "torch", "numpy"} <= versions().keys()
    assert device_name("cpu").startswith("CPU, ")
    assert device_name("cpu").endswith(("thread", "threads"))


def test_the_report_says_what_the_bootstrap_drew(tmp_path: Path) -> None:
    drawn = card(resampled="paths")
    assert "The interval is a bootstrap over paths." in markdown(drawn)
    assert "The interval is a bootstrap over paths." in printed(drawn)
    write(drawn, tmp_path)
    assert read(tmp_path).resampled == "paths"
    assert "bootstrap over items" in markdown(card())
