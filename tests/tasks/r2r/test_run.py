"""Training and judging through the commands, on a world of two small generated buildings."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlkit import checkpoint, report
from vlkit.cli import main
from vlkit.envs import buildings
from vlkit.tasks.r2r import judge

SMALL = """
task = "r2r"
dim = 16
word_dim = 8
geometry_dim = 8
min_count = 1
steps = 6
batch_size = 4
warmup_steps = 1
evaluate_every = 3
threads = 1
device = "cpu"
"""

THIRD_PARTY = '''
import torch
from torch import nn
from vlkit.encoders.text import TextStates

class Bag(nn.Module):
    """Embeddings, and their mean over the true words."""

    def __init__(self, vocabulary):
        super().__init__()
        self.dim = 12
        self.words = nn.Embedding(vocabulary, self.dim, padding_idx=0)

    def forward(self, ids, mask):
        states = self.words(ids) * mask[:, :, None]
        return TextStates(states=states, pooled=states.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))

def bag(vocabulary):
    return Bag(vocabulary)
'''


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "world"
    buildings.generate(
        folder, seed=3, buildings_train=1, buildings_unseen=1, paths_train=8, paths_seen=2, paths_unseen=4
    )
    return folder


@pytest.fixture(scope="module")
def experiment(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("configs") / "small.toml"
    places = f'annotations = "{world / "annotations"}"\nconnectivity = "{world / "connectivity"}"\n'
    file.write_text(places + SMALL)
    return file


@pytest.fixture(scope="module")
def run(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main(["train", str(experiment), "--output", str(folder), "--arms", "no_instruction"]) == 0
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors")


def test_a_submission_has_the_numbers_of_its_report(run: Path, world: Path, tmp_path: Path) -> None:
    assert main(["eval", str(run), "--split", "val_unseen", "--output", str(tmp_path)]) == 0
    card = {row.name: row.value for row in report.read(tmp_path).metrics}
    scores = tmp_path / "scores.json"
    words = ["--predictions", str(tmp_path / "submission.json"), "--annotations", str(world / "annotations")]
    words += ["--split", "val_unseen", "--connectivity", str(world / "connectivity"), "--output", str(scores)]
    assert judge.main(words) == 0
    judged = json.loads(scores.read_text())["metrics"]
    assert {name: judged[name]["mean"] for name in card} == pytest.approx(card, abs=1e-12)


def test_probes_stand_beside_the_score(run: Path, tmp_path: Path) -> None:
    assert main(["eval", str(run), "--probes", "--output", str(tmp_path)]) == 0
    arms = {arm.name: arm.kind for arm in report.read(tmp_path).arms}
    assert arms == {
        "no instruction (trained)": "trained",
        "no instruction": "test-time",
        "shuffled instruction": "test-time",
        "words in random order": "test-time",
        "no geometry": "test-time",
        "stop": "fixed",
        "random": "fixed",
        "shortest path": "fixed",
        "action prior": "fixed",
    }


def test_a_killed_training_ends_in_the_same_weights(experiment: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlkit", "train", str(experiment), "--steps", "40", "--evaluate-every", "5"]
    command += ["--speaker-steps", "3", "--spoken-paths", "6", "--output"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], env=environment, check=True, capture_output=True)
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    subprocess.run([*command, str(tmp_path / "killed")], env=environment, check=True, capture_output=True)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_text_encoder_of_ones_own_trains_by_its_name(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlkit.plugins import resolve
    from vlkit.testing import check_text_encoder

    (tmp_path / "third_party_text.py").write_text(THIRD_PARTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    check_text_encoder(resolve("third_party_text:bag")(50), vocabulary=50)
    words = ["--text-encoder", "third_party_text:bag", "--output", "run"]
    assert main(["train", str(experiment), *words]) == 0
    assert weights(tmp_path / "run")["text.words.weight"].shape[1] == 12
    assert main(["eval", "run"]) == 0


def test_the_2018_agent_trains_with_either_forcing(experiment: Path, tmp_path: Path) -> None:
    words = ["--agent", "seq2seq", "--text-encoder", "lstm", "--reinforce-from", "1", "--student-steps", "8"]
    for name, follow, explore in (("teacher", "1", "0"), ("student", "0", "1")):
        forcing = ["--teacher-forcing", follow, "--student-forcing", explore, "--output", str(tmp_path / name)]
        assert main(["train", str(experiment), *words, *forcing]) == 0
    log = (tmp_path / "student" / "log.jsonl").read_text()
    assert "imitation" not in log
    assert "loss" in log


def test_an_error_is_better_where_it_is_smaller(experiment: Path, tmp_path: Path) -> None:
    words = ["--monitor", "val_seen/nav_error", "--evaluate-every", "1", "--output", str(tmp_path)]
    assert main(["train", str(experiment), *words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    errors = {line["step"]: line["evaluate"]["val_seen/nav_error"] for line in lines if "evaluate" in line}
    assert len(errors) == 6
    _, progress = checkpoint.read_progress(sorted((tmp_path / "checkpoints").glob("step-*"))[-1])
    assert progress["best_step"] == min(errors, key=lambda step: errors[step])


def test_a_demonstration_is_the_annotated_path_where_the_oracle_is_the_reference(world: Path) -> None:
    from vlkit.batches import seed_everything
    from vlkit.tasks.r2r.data import read_splits
    from vlkit.tasks.r2r.settings import Config, built_agent
    from vlkit.tasks.r2r.training import Losses
    from vlkit.text import Tokenizer
    from vlkit.train import Step

    annotations, connectivity = world / "annotations", world / "connectivity"
    settings = Config(
        annotations,
        connectivity,
        dim=16,
        word_dim=8,
        min_count=1,
        student_forcing=0.0,
        student_steps=1,
        oracle="reference",
        mirror=0.0,
    )
    splits = read_splits(annotations, connectivity, ["train"])
    episodes = splits.episodes["train"]
    # There and back again, as R4R's paths may be: the shortest path is to stop at once.
    round_trips = [replace(each, path=each.path + each.path[-2::-1]) for each in episodes[:3]]
    splits.episodes["train"] = round_trips
    tokenizer = Tokenizer.train([each.instruction for each in round_trips])
    demonstrations = splits.worlds(tokenizer)["train"]
    seed_everything(0)
    agent = built_agent(settings, tokenizer, 0)
    step = Step(index=0, steps=10, seed=0, device=torch.device("cpu"))
    _, logged = Losses(settings, demonstrations, None)(agent, torch.tensor([0, 1, 2]), step)
    assert logged["env_steps"] == sum(len(each.path) for each in round_trips)


def test_the_blind_arm_of_a_run_with_a_speaker_learns_from_its_routes_too(experiment: Path, tmp_path: Path) -> None:
    words = ["--speaker-steps", "3", "--spoken-paths", "6", "--arms", "no_instruction", "--output", str(tmp_path)]
    assert main(["train", str(experiment), *words]) == 0
    arm = (tmp_path / "arms" / "no_instruction" / "config.toml").read_text()
    assert "speaker_steps = 3" in arm
    assert f'output = "{tmp_path / "arms" / "no_instruction"}"' in arm
    assert not (tmp_path / "arms" / "no_instruction" / "speaker").exists()
    assert (tmp_path / "speaker" / "spoken-6.json").is_file()


def test_layers_and_cell_of_the_text_encoder_are_settings(experiment: Path, tmp_path: Path) -> None:
    words = ["--text-encoder", "recurrent", "--text-cell", "gru", "--text-layers", "2", "--output", str(tmp_path)]
    assert main(["train", str(experiment), *words]) == 0
    gates = [
        value for name, value in weights(tmp_path).items() if name.startswith("text.layer") and "weight_hh" in name
    ]
    assert [tuple(value.shape) for value in gates] == [(24, 8)] * 4


def test_several_runs_give_mean_and_spread_or_decide_together(run: Path, experiment: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    assert main(["train", str(experiment), "--seed", "1", "--output", str(second)]) == 0
    assert main(["eval", str(run), str(second), "--output", str(tmp_path / "spread")]) == 0
    spread = report.read(tmp_path / "spread")
    assert spread.seeds == (0, 1)
    assert all(len(row.seeds) == 2 for row in spread.metrics)
    assert main(["eval", str(run), str(second), "--ensemble", "--probes", "--output", str(tmp_path / "together")]) == 0
    assert "ensemble of 2" in report.read(tmp_path / "together").title


def test_beam_search_says_that_it_is_not_comparable(run: Path, tmp_path: Path) -> None:
    assert main(["eval", str(run), "--decoding", "beam", "--beam-width", "3", "--output", str(tmp_path)]) == 0
    assert any("do not compare" in note for note in report.read(tmp_path).notes)


def test_a_split_without_goals_gets_a_submission_and_no_scores(run: Path, world: Path, tmp_path: Path) -> None:
    items = json.loads((world / "annotations" / "R2R_val_unseen.json").read_text())
    (tmp_path / "R2R_test.json").write_text(json.dumps([{**item, "path": item["path"][:1]} for item in items]))
    words = ["--annotations", str(tmp_path), "--split", "test", "--output", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")  # of an earlier evaluation, with another submission
    assert main(["eval", str(run), *words]) == 0
    assert len(json.loads((tmp_path / "out" / "submission.json").read_text())) == 3 * len(items)
    assert not (tmp_path / "out" / "report.json").exists()


def test_an_agent_without_training_needs_no_run(world: Path, tmp_path: Path) -> None:
    words = ["--annotations", str(world / "annotations"), "--connectivity", str(world / "connectivity")]
    assert main(["eval", "--agent", "shortest", *words, "--output", str(tmp_path / "shortest")]) == 0
    rows = {row.name: row.value for row in report.read(tmp_path / "shortest").metrics}
    assert (rows["success"], rows["nav_error"]) == (1.0, 0.0)
    assert main(["eval", "--agent", "random", *words, "--seeds", "3", "--output", str(tmp_path / "random")]) == 0
    assert all(len(row.seeds) == 3 for row in report.read(tmp_path / "random").metrics)


def test_pictures_and_a_page_of_a_run(run: Path, tmp_path: Path) -> None:
    assert main(["explain", str(run), "--split", "val_seen", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").is_file()
    assert len(list(tmp_path.glob("*_map.png"))) == len(list(tmp_path.glob("*_attention.png"))) >= 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--agent", "panoramik"], "panoramik"),
        (["--text-encoder", "bilsmt"], "Did you mean 'bilstm'"),
        (["--dropout", "1.5"], "dropout = 1.5"),
        (["--select-split", "train", "--monitor", "train/spl"], "select on other episodes"),
        (["--train-split", "train2"], "train2"),
        (["--teacher-forcing", "0", "--student-forcing", "0"], "nothing is left to learn"),
        (["--monitor", "val_seen/splat"], "Did you mean 'val_seen/spl'"),
        (["--monitor", "val_seen/length"], "val_seen/length"),
        (["--steps", "0"], "steps is 0"),
        (["--patience", "0"], "patience is 0"),
        (["--accumulate", "3"], "batch_size 4 does not divide into 3"),
        (["--precision", "fp16"], "fp16 needs a CUDA GPU"),
        (["--geometry-dim", "0"], "geometry_dim = 0"),
        (["--max-steps", "0"], "max_steps = 0"),
        (["--text-cell", "gru"], "text_encoder = 'recurrent'"),
        (["--features", "nowhere.tsv"], "nowhere.tsv"),
        (["--vectors", "nowhere.txt"], "nowhere.txt"),
        pytest.param(
            ["--device", "cuda"],
            "--device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(
    words: list[str], complaint: str, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(experiment), "--output", str(tmp_path / "run"), *words]) in (1, 2)
    errors = capsys.readouterr().err
    assert complaint in errors
    assert "Traceback" not in errors
    left = [path.name for path in (tmp_path / "run").rglob("*") if path.name != ".lock"]
    assert left == []


def test_an_unknown_key_in_the_file_names_the_nearest(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "typo.toml"
    file.write_text(experiment.read_text() + "learning_rat = 1e-3\n")
    assert main(["train", str(file)]) == 1
    assert "unknown key 'learning_rat'. Did you mean 'learning_rate'" in capsys.readouterr().err


def test_a_run_is_not_continued_with_another_model(
    run: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, record = weights(run), (run / "config.toml").read_text()
    assert main(["train", str(experiment), "--output", str(run), "--dim", "32"]) == 1
    assert "dim = 16, and now it is 32" in capsys.readouterr().err
    assert (run / "config.toml").read_text() == record
    assert all(torch.equal(before[name], value) for name, value in weights(run).items())


def test_weights_of_another_model_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    header = broken / "best" / "config.json"
    header.write_text(header.read_text().replace('"dim": 16', '"dim": 24'))
    assert main(["eval", str(broken)]) == 1
    assert "not of this model" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(tmp_path)]) == 1
    assert "is no run" in capsys.readouterr().err
