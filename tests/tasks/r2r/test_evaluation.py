"""What is judged, under which name, and where it is written: two runs in the small world of conftest, never trained."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vlkit import checkpoint, config, report
from vlkit.batches import seed_everything
from vlkit.cli import main
from vlkit.errors import UserError
from vlkit.progress import Progress
from vlkit.tasks.r2r import evaluation
from vlkit.tasks.r2r.data import Splits, read_splits
from vlkit.tasks.r2r.evaluation import EvalOptions, walks_of
from vlkit.tasks.r2r.settings import Config, built_agent
from vlkit.tasks.r2r.splits import split_name
from vlkit.text import Tokenizer


def made_run(folder: Path, settings: Config, tokenizer: Tokenizer) -> Path:
    """A run as training leaves it, its weights still those of the beginning."""
    seed_everything(settings.seed)
    agent = built_agent(settings, tokenizer, feature_dim=0)
    config.save(settings, folder / "config.toml")
    values = config.as_dict(settings) | {"feature_dim": 0}
    checkpoint.save_weights(agent, folder / "best", values, files={"tokenizer.json": tokenizer.to_json()})
    return folder


@pytest.fixture(scope="module")
def settings(village: Path) -> Config:
    return Config(
        village / "annotations", village / "connectivity", dim=8, word_dim=8, geometry_dim=8, min_count=1, device="cpu"
    )


@pytest.fixture(scope="module")
def runs(settings: Config, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    first, second = (made_run(folder / f"r{i}", replace(settings, seed=i), tokenizer) for i in range(2))
    made_run(first / "arms" / "no_instruction", replace(settings, instruction="none"), tokenizer)
    return first, second


@pytest.fixture
def data(village: Path) -> list[str]:
    return ["--annotations", str(village / "annotations"), "--connectivity", str(village / "connectivity")]


def complaint(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    assert main(words) == code
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors


# The split.


@pytest.mark.parametrize(
    ("file", "asked", "told"),
    [
        ("R2R_val_unseen.json", None, "val_unseen"),
        ("R2R_val_unseen.json", "val_unseen", "val_unseen"),
        ("R2R_val_unseen_small.json", "val_unseen_small", "val_unseen_small"),
        ("REVERIE_val_train_seen.json", None, "val_train_seen"),
        ("rxr_val_seen_guide.jsonl.gz", None, "val_seen"),
        ("latest.json", None, None),
        ("latest.json", "val_seen", "val_seen"),
    ],
)
def test_a_files_name_tells_its_split(file: str, asked: str | None, told: str | None) -> None:
    assert split_name(Path(file), asked) == told


@pytest.mark.parametrize(("file", "asked"), [("R2R_val_unseen.json", "val_seen"), ("R2R_train.json", "val_train_seen")])
def test_a_file_of_another_split_is_refused(file: str, asked: str) -> None:
    with pytest.raises(UserError, match=f"--split {asked} does not fit .*{re.escape(file)}.*leave --split out"):
        split_name(Path(file), asked)


def test_one_file_is_scored_under_its_own_name(
    village: Path, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "--agent", "stop", "--annotations", str(village / "annotations" / "R2R_val_seen.json"), *data[2:]]
    assert "does not fit" in complaint([*words, "--split", "val_unseen"], capsys)
    assert main([*words, "--output", str(tmp_path)]) == 0
    card = report.read(tmp_path)
    assert card.split == "val_seen"
    assert "action prior" not in [arm.name for arm in card.arms]
    assert any("the action prior is left out" in note for note in card.notes)


# Several runs.


def test_the_same_seed_twice_is_refused(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "both have seed 0" in complaint(["eval", str(runs[0]), str(runs[0])], capsys)


def test_runs_of_different_experiments_are_refused_with_key_and_values(
    runs: tuple[Path, Path], settings: Config, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = made_run(tmp_path / "other", replace(settings, seed=2, steps=7000, threads=1), tokenizer)
    errors = complaint(["eval", str(runs[0]), str(other)], capsys)
    assert "differ in steps (6000 and 7000)" in errors
    assert "evaluate them one by one" in errors
    assert main(["eval", str(runs[0]), str(other), "--ensemble", "--output", str(tmp_path / "out")]) == 0


def test_only_those_who_read_and_do_the_same_decide_together(
    runs: tuple[Path, Path], settings: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = made_run(tmp_path / "strange", replace(settings, seed=1), Tokenizer.train(["Some other words."]))
    assert "differ in words" in complaint(["eval", str(runs[0]), str(strange), "--ensemble"], capsys)
    blind = runs[0] / "arms" / "no_instruction"
    assert "differ in instruction" in complaint(["eval", str(runs[0]), str(blind), "--ensemble"], capsys)
    assert "named twice" in complaint(["eval", str(runs[0]), str(runs[0]), "--ensemble"], capsys)
    assert "there is one" in complaint(["eval", str(runs[0]), "--ensemble"], capsys, code=2)


# Where results are written.


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ([], "r0/eval/val_unseen"),
        (["--decoding", "beam", "--beam-width", "3"], "r0/eval/val_unseen-beam3"),
        (["--decoding", "sample"], "r0/eval/val_unseen-sample"),
        (["r1"], "r0/eval/val_unseen-2seeds"),
        (["r1", "--ensemble"], "r0/eval/val_unseen-ensemble2"),
        (["r1", "--ensemble", "--decoding", "beam"], "r0/eval/val_unseen-ensemble2-beam5"),
    ],
)
def test_each_variant_has_a_folder_of_its_own(
    words: list[str], folder: str, runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in runs:
        shutil.copytree(run, tmp_path / run.name)
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "r0", *words]) == 0
    assert [file.parent for file in Path().glob("*/**/report.json")] == [Path(folder)]


def test_submissions_are_named_by_seed_and_stale_ones_removed(runs: tuple[Path, Path], tmp_path: Path) -> None:
    def names() -> list[str]:
        return sorted(file.name for file in tmp_path.glob("submission*"))

    (tmp_path / "submission-of-mine.json").write_text("[]")
    assert main(["eval", *map(str, runs), "--output", str(tmp_path)]) == 0
    assert names() == ["submission-of-mine.json", "submission-seed0.json", "submission-seed1.json"]
    words = ["--decoding", "sample", "--seeds", "2", "--output", str(tmp_path)]
    assert main(["eval", str(runs[1]), *words]) == 0
    assert names() == ["submission-of-mine.json", "submission-seed1-draw0.json", "submission-seed1-draw1.json"]
    assert main(["eval", str(runs[0]), "--output", str(tmp_path)]) == 0
    assert names() == ["submission-of-mine.json", "submission.json"]


def test_rxr_annotations_give_a_submission_in_rxrs_format(
    runs: tuple[Path, Path], splits: Splits, tmp_path: Path
) -> None:
    lines = [
        {
            "path_id": i,
            "instruction_id": i,
            "scan": episode.scan,
            "path": episode.path,
            "heading": episode.heading,
            "instruction": episode.instruction,
            "language": "en-US",
        }
        for i, episode in enumerate(splits.episodes["val_unseen"])
    ]
    file = tmp_path / "rxr_val_unseen_guide.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["eval", str(runs[0]), "--annotations", str(file), "--output", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "submission.json").exists()
    written = [json.loads(line) for line in (tmp_path / "out" / "submission.jsonl").read_text().splitlines()]
    assert [item["instruction_id"] for item in written] == list(range(len(lines)))
    assert written[0].keys() == {"instruction_id", "path"}


# What stands beside the score.


def test_agents_without_training_stand_beside_every_score(runs: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(["eval", str(runs[0]), "--output", str(tmp_path)]) == 0
    card = report.read(tmp_path)
    assert [arm.name for arm in card.arms] == ["stop", "random", "shortest path", "action prior"]
    assert card.resampled == "paths"


def test_a_card_without_a_training_split_says_so(runs: tuple[Path, Path], village: Path, tmp_path: Path) -> None:
    shutil.copy(village / "annotations" / "R2R_val_unseen.json", tmp_path)
    assert main(["eval", str(runs[0]), "--annotations", str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    card = report.read(tmp_path / "out")
    assert [arm.name for arm in card.arms] == ["stop", "random", "shortest path"]
    assert any("no file of split 'train'" in note for note in card.notes)


def test_one_bar_counts_the_walks_of_every_arm(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bar(Progress):
        def update(self, done: int, text: str, value: float | None = None) -> None:
            seen.append((done, text))

    seen: list[tuple[int, str]] = []
    totals = []

    def bar(total: int, unit: str) -> Bar:
        totals.append(total)
        return Bar()

    monkeypatch.setattr(evaluation, "progress", bar)
    assert main(["eval", *map(str, runs), "--probes", "--output", str(tmp_path)]) == 0
    assert totals == [seen[-1][0]]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert list(dict.fromkeys(text for _, text in seen)) == [
        "panoramic agent",
        "no instruction (trained)",
        "no instruction",
        "shuffled instruction",
        "words in random order",
        "no geometry",
    ]


# What cannot be typed.


@pytest.mark.parametrize("words", [["--ensemble"], ["--decoding", "greedy"], ["--beam-width", "5"], ["--beam_width=5"]])
def test_what_is_for_runs_is_refused_beside_an_agent(
    words: list[str], data: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    errors = complaint(["eval", "--agent", "random", *data, *words], capsys, code=2)
    assert f"{words[0].partition('=')[0].replace('_', '-')} is for trained runs" in errors


def test_only_what_is_missing_is_asked_for(data: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    errors = complaint(["eval", "--agent", "random", *data[:2]], capsys, code=2)
    assert "needs --connectivity FOLDER\n" in errors
    assert "--annotations" not in errors
    assert "--annotations FOLDER and --connectivity FOLDER" in complaint(["eval", "--agent", "stop"], capsys, code=2)


@pytest.mark.parametrize("command", ["eval", "explain"])
def test_data_that_is_gone_is_asked_for_by_its_option(
    command: str, settings: Config, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = made_run(tmp_path / "run", replace(settings, annotations=tmp_path / "gone"), tokenizer)
    errors = complaint([command, str(gone)], capsys)
    assert f"{tmp_path / 'gone'}, which does not exist; say where it is with --annotations" in errors


@pytest.mark.parametrize("command", ["eval", "explain"])
def test_what_is_no_run_is_named_alike(
    command: str, runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no run: it has no config.toml" in complaint([command, str(tmp_path)], capsys)
    errors = complaint([command, str(runs[0].parent / "r00")], capsys)
    assert "there is no run" in errors
    assert "Did you mean 'r0'" in errors


# Explained walks.


def test_an_arm_that_never_reads_is_shown_without_words(runs: tuple[Path, Path]) -> None:
    explained = walks_of(EvalOptions(runs=(runs[0] / "arms" / "no_instruction",), split="val_seen"))
    walk = explained.walks[0]
    assert walk.attention is not None
    assert explained.tokens(walk.episode) == ["(no instruction)"]
    assert walk.attention.shape[1] == 1


def test_a_reading_agent_is_shown_with_the_words_of_its_instruction(runs: tuple[Path, Path]) -> None:
    explained = walks_of(EvalOptions(runs=(runs[0],), split="val_seen"))
    for walk in explained.walks:
        assert walk.attention is not None
        assert walk.attention.shape[1] == len(explained.tokens(walk.episode)) > 1


def test_arms_and_splits_without_goals_can_be_explained(
    runs: tuple[Path, Path], village: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = json.loads((village / "annotations" / "R2R_val_unseen.json").read_text())
    (tmp_path / "R2R_test.json").write_text(json.dumps([{**item, "path": item["path"][:1]} for item in items]))
    words = ["--annotations", str(tmp_path / "R2R_test.json"), "--output", str(tmp_path / "out")]
    assert main(["explain", str(runs[0] / "arms" / "no_instruction"), *words]) == 0
    assert "test has no goals" in capsys.readouterr().out
    assert (tmp_path / "out" / "index.html").is_file()


def test_an_unknown_episode_is_named_with_the_nearest(runs: tuple[Path, Path], splits: Splits) -> None:
    first = splits.episodes["val_seen"][0].id
    with pytest.raises(UserError, match=f"val_seen has no episode '{first}0'"):
        walks_of(EvalOptions(runs=(runs[0],), split="val_seen"), [f"{first}0"])


def test_reading_one_file_checks_what_is_asked_of_it(village: Path) -> None:
    with pytest.raises(UserError, match="does not fit"):
        read_splits(village / "annotations" / "R2R_val_seen.json", village / "connectivity", ["val_unseen"])
