"""From houses to report and films through the commands, small; a killed training; what is wrong is one message."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vlkit import report
from vlkit.cli import main
from vlkit.envs.episodes import NOWHERE, read_episodes, write_episodes
from vlkit.envs.house.benchmark import Arguments, generate
from vlkit.tasks.navigation import evaluation, settings
from vlkit.tasks.navigation.evaluation import EvalOptions, trained
from vlkit.tasks.navigation.training import Lessons
from vlkit.train import Step

SMALL = """
task = "navigation"
levels = ["starter"]
size = 16
dim = 16
word_dim = 8
image_dim = 8
depth_dim = 8
steps = 6
batch_size = 4
warmup_steps = 1
round_episodes = 16
evaluate_every = 3
select_episodes = 4
max_steps = 12
reading_steps = 5
seeing_steps = 5
num_envs = 8
threads = 1
precision = "no"
device = "cpu"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "houses"
    generate(Arguments(out=folder, seed=2, houses=2, unseen=2, levels=("starter",), walks=10, processes=1))
    return folder


@pytest.fixture(scope="module")
def experiment(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("configs") / "small.toml"
    file.write_text(f'data = "{data}"\n{SMALL}')
    return file


@pytest.fixture(scope="module")
def run(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main(["train", str(experiment), "--output", str(folder), "--arms", "no_instruction", "no_vision"]) == 0
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors")


def test_a_report_has_its_probes_parts_and_submission(run: Path, tmp_path: Path) -> None:
    assert main(["eval", str(run), "--probes", "--output", str(tmp_path)]) == 0
    card = report.read(tmp_path)
    assert {arm.name: arm.kind for arm in card.arms} == {
        "no instruction (trained)": "trained",
        "no vision (trained)": "trained",
        "no instruction": "test-time",
        "shuffled instruction": "test-time",
        "words in random order": "test-time",
        "no vision": "test-time",
        "no colour": "test-time",
        "no depth": "test-time",
        "stop": "fixed",
        "random": "fixed",
        "action prior": "fixed",
        "shortest path": "fixed",
    }
    shortest = next(arm for arm in card.arms if arm.name == "shortest path")
    assert next(row.value for row in shortest.metrics if row.name == "oracle_success") >= 0
    assert {part.by for part in card.parts} >= {"path length", "instruction"}
    assert any("words are unknown to the agent" in note for note in card.notes)
    walks = json.loads((tmp_path / "submission.json").read_text())
    assert len(walks) == card.items
    for steps in walks.values():
        assert set(steps[0]) == {"position", "heading", "stop"}
        assert [step["stop"] for step in steps[:-1]] == [False] * (len(steps) - 1)


def test_numbers_do_not_depend_on_how_many_environments_and_processes_walk(run: Path, tmp_path: Path) -> None:
    ways = {"1": ("1", "1"), "8": ("8", "1"), "two processes": ("4", "2")}
    for name, (count, processes) in ways.items():
        words = ["eval", str(run), "--episodes", "10", "--output", str(tmp_path / name)]
        assert main([*words, "--num-envs", count, "--processes", processes]) == 0
    cards = [report.read(tmp_path / name) for name in ways]
    assert all(card.metrics == cards[0].metrics and card.parts == cards[0].parts for card in cards)
    assert len({(tmp_path / name / "submission.json").read_text() for name in ways}) == 1


def test_films_and_maps_of_the_best_median_and_worst(run: Path, tmp_path: Path) -> None:
    assert main(["explain", str(run), "--episodes", "6", "--output", str(tmp_path)]) == 0
    assert sorted(each.name.partition("-")[0] for each in tmp_path.glob("*.png")) == ["best", "median", "worst"]
    films = list(tmp_path.glob("*.gif"))
    assert len(films) == 3
    with Image.open(films[0]) as film:
        assert film.n_frames >= 1  # type: ignore[attr-defined]
        assert film.width == 606


def test_a_killed_training_ends_in_the_same_weights(experiment: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlkit", "train", str(experiment), "--steps", "24", "--rounds", "3"]
    command += ["--evaluate-every", "8", "--output"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    subprocess.run([*command, str(tmp_path / "killed")], env=environment, check=True, capture_output=True)
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_training_that_ends_within_a_round_goes_on_within_it(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SAVE_EVERY", 4)
    command = ["train", str(experiment), "--steps", "24", "--rounds", "3", "--evaluate-every", "24", "--output"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    lesson = Lessons.__call__

    def interrupted(lessons: Lessons, policy: Any, rows: Any, step: Any) -> Any:
        if step.index == 14:
            raise KeyboardInterrupt
        return lesson(lessons, policy, rows, step)

    with monkeypatch.context() as patch:
        patch.setattr(Lessons, "__call__", interrupted)
        assert main([*command, str(tmp_path / "stopped")]) == 130
    newest = sorted((tmp_path / "stopped" / "checkpoints").glob("step-*"))[-1]
    assert 8 < int(newest.name.rpartition("-")[2]) < 16  # the second of three rounds
    assert main([*command, str(tmp_path / "stopped")]) == 0
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_rounds_behind_the_first_are_walks_of_the_policy(experiment: Path, tmp_path: Path) -> None:
    words = ["--rounds", "2", "--expert-share", "0", "--output", str(tmp_path / "run")]
    assert main(["train", str(experiment), *words]) == 0
    assert sorted(each.name for each in (tmp_path / "run" / "store").glob("round-*")) == ["round-0000", "round-0001"]


def test_a_curriculum_draws_the_easiest_level_first_and_its_share_afterwards() -> None:
    lessons = object.__new__(Lessons)
    lessons.settings = settings.Config(data=Path("."), start_levels_until=0.1, easiest_share=0.25, steps=200)
    lessons.easy, lessons.hard, lessons.table = (np.zeros((n, 2), np.int64) for n in (2, 6, 8))

    def easy(share: float | None) -> list[bool]:
        lessons.settings = replace(lessons.settings, easiest_share=share)
        drawn = [lessons.drawn_from(Step(i, 100, 0, torch.device("cpu"))) for i in range(100)]
        assert all(len(each) in (2, 6 if share is not None else 8) for each in drawn)
        return [len(each) == 2 for each in drawn]

    assert all(easy(0.25)[:10])
    assert sum(easy(0.25)[20:]) == 20
    assert sum(easy(0.15)[20:]) == 12
    assert sum(easy(0.0)) == 10
    assert all(easy(1.0))
    assert sum(easy(None)) == 10, "all that was recorded is drawn alike"


@pytest.mark.parametrize("policy", ["seq2seq", "cma"])
@pytest.mark.parametrize("inputs", [["--no-rgb"], ["--no-depth"]])
def test_agents_without_colour_or_depth_train(experiment: Path, tmp_path: Path, policy: str, inputs: list[str]) -> None:
    words = ["--policy", policy, "--steps", "2", *inputs, "--output", str(tmp_path / "run")]
    assert main(["train", str(experiment), *words]) == 0


def test_an_agent_turns_as_it_learned_to(run: Path) -> None:
    assert trained(run, "cpu").settings.turn_deg == 30, "all that it learned from are starters"
    options = EvalOptions(runs=(run,), split="val_seen", device="cpu")
    known = trained(run, "cpu")
    assert evaluation.tested(options, [known]).world().env.turn_deg == 30
    other = replace(known, settings=replace(known.settings, turn_deg=15.0))  # as one that learned other levels too
    assert evaluation.tested(options, [other]).world().env.turn_deg == 15


def test_a_score_stands_without_a_prior_and_in_unfinished_training(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("scenes", "val_unseen"):
        (tmp_path / "data" / name).symlink_to(data / name)
    half = tmp_path / "half"
    shutil.copytree(run, half)
    newest = sorted((half / "checkpoints").glob("step-*"))[-1]
    shutil.rmtree(newest)
    words = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "eval")]
    assert main(["eval", str(half), *words]) == 0
    card = report.read(tmp_path / "eval")
    assert "action prior" not in {arm.name for arm in card.arms}
    assert any("the action prior is left out" in note for note in card.notes)
    assert any("half has trained 3 of its 6 steps" in note for note in card.notes)


def test_a_split_that_keeps_its_goals_is_walked_and_not_scored(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scenes").symlink_to(data / "scenes")
    every = read_episodes(data / "test" / "test.json.gz")
    secret = [replace(each, goal=NOWHERE, room=None, reference_path=()) for each in every.episodes[:5]]
    write_episodes(tmp_path / "data" / "test" / "test.json.gz", secret, every.vocabulary)
    words = ["--split", "test", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "eval")]
    assert main(["eval", str(run), *words]) == 0
    assert "test has no goals, so there is nothing to score here" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "eval" / "submission.json").read_text())) == 5
    assert not (tmp_path / "eval" / "report.json").exists()


def test_an_arm_does_not_begin_with_what_it_is_to_do_without(
    run: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--begin-with", str(run), "--blank", "depth", "--output", str(tmp_path / "run")]
    assert main(["train", str(experiment), *words]) == 1
    assert "holds no weights that learned without depth" in capsys.readouterr().err


def test_agents_without_a_run_are_judged(data: Path, tmp_path: Path) -> None:
    words = ["--agent", "shortest", "--data", str(data), "--levels", "starter", "--output", str(tmp_path)]
    assert main(["eval", *words]) == 0
    card = {row.name: row.value for row in report.read(tmp_path).metrics}
    assert card["success"] > 0.95
    assert card["spl"] > 0.9


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--policy", "cmaa"], "cmaa"),
        (["--noise", "2"], "noise = 2.0, expected a share"),
        (["--size", "20"], "size = 20, expected a multiple of 8"),
        (["--monitor", "val_seen/succes"], "Did you mean 'val_seen/success'"),
        (["--rounds", "7"], "a round lasts at least one step"),
        (["--image-encoder", "nature_cn"], "Did you mean 'nature_cnn'"),
        (["--data", "nowhere"], "nowhere"),
        (["--levels", "long"], "none of the levels long"),
        (["--select-split", "val", "--monitor", "val/success"], "val"),
        (["--store-frames", "10"], "does not fit into a store of 10"),
        (["--no-rgb", "--no-depth"], "the agent would see nothing"),
        (["--threads", "0"], "threads = 0, expected at least 1"),
        (["--epochs", "0"], "epochs = 0, expected at least 1"),
        (["--processes", "3"], "batch_size = 4 does not divide into accumulate = 1 parts for each of processes = 3"),
        (["--method", "ppo"], "set both to 0"),
        (["--turn-deg", "0"], "turn_deg = 0.0, expected degrees above 0"),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], complaint: str, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(experiment), "--output", str(tmp_path / "run"), *words]) in (1, 2)
    errors = capsys.readouterr().err
    assert complaint in errors
    assert "Traceback" not in errors


def test_a_scene_that_is_gone_is_told(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(experiment), "--output", str(tmp_path / "run"), "--scenes", str(tmp_path)]) == 1
    assert "walks in house_0001/house_0001.glb, which is not at" in capsys.readouterr().err


def test_quickstart_goes_from_nothing_to_report_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vlkit.tasks.navigation import run

    monkeypatch.setattr("vlkit.envs.house.benchmark.Arguments", partial(Arguments, walks=10))
    for name, value in (("HOUSES", 12), ("UNSEEN_HOUSES", 12), ("STEPS", 12), ("EPISODES", 12)):
        monkeypatch.setattr(run, name, value)
    assert main(["quickstart", "--output", str(tmp_path / "quick"), "--minutes", "1", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert main(["quickstart", "--output", str(tmp_path / "quick"), "--minutes", "1", "--seed", "1"]) == 1
    assert "learned in other houses than --seed 1 --minutes 1 makes" in capsys.readouterr().err
    assert (tmp_path / "quick" / "run" / "eval" / "val_unseen" / "report.md").is_file()
    assert len(list((tmp_path / "quick" / "run" / "explain" / "val_unseen").glob("*.gif"))) == 3
    assert "these scores say nothing about R2R-CE" in printed


@pytest.mark.parametrize("method", ["ppo", "rcm"])
def test_reward_trains_on_from_an_imitator(method: str, experiment: Path, run: Path, tmp_path: Path) -> None:
    words = ["--method", method, "--begin-with", str(run), "--critic-steps", "2", "--output", str(tmp_path / "run")]
    words += ["--dropout", "0", "--word-dropout", "0"]
    assert main(["train", str(experiment), *words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    logged = next(line for line in lines if "actor" in line)
    assert 0 <= logged["walk_success"] <= 1
    before, after = weights(run), weights(tmp_path / "run")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    if method == "rcm":
        imitates_itself(experiment, tmp_path / "run", tmp_path / "own")


def imitates_itself(experiment: Path, begun: Path, folder: Path) -> None:
    """In unseen houses, with the words of the run that it begins with, by what the critic says."""
    words = ["--method", "sil", "--train-split", "val_unseen", "--begin-with", str(begun), "--candidates", "4"]
    assert main(["train", str(experiment), *words, "--output", str(folder)]) == 0
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert 0 < next(line["fit"] for line in lines if "fit" in line) < 1
    assert (folder / "best" / "tokenizer.json").read_bytes() == (begun / "best" / "tokenizer.json").read_bytes()
    assert main(["eval", str(folder), "--episodes", "4", "--output", str(folder / "card")]) == 0
    assert any("own learned on this very split" in note for note in report.read(folder / "card").notes)
    before, after = weights(begun), weights(folder)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_self_imitation_needs_a_critic(
    experiment: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(experiment), "--method", "sil", "--output", str(tmp_path / "own")]
    assert main(words) == 1
    assert "method sil needs begin_with" in capsys.readouterr().err
    assert main([*words, "--begin-with", str(run), "--candidates", "4"]) == 1
    assert "has no matching critic" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--rounds", "2", "--steps", "4"], ["--method", "ppo", "--steps", "4", "--dropout", "0", "--word-dropout", "0"]],
)
def test_two_processes_train_together(experiment: Path, tmp_path: Path, words: list[str]) -> None:
    folder = tmp_path / "run"
    assert main(["train", str(experiment), *words, "--processes", "2", "--output", str(folder)]) == 0
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    logged = next(line for line in lines if "frames" in line)
    assert logged["frames"] > 2, "the mean over two processes of what each has seen"
    assert weights(folder)
    if "--rounds" in words:
        assert sorted(each.name for each in (folder / "store").glob("round-*")) == ["round-0000", "round-0001"]
