"""`vlkit judge visdial`: EvalAI's files in, scores out, one message for everything that is wrong with a file."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.dialog.conftest import dense, visdial
from tests.tasks.dialog.test_dialog_metrics import plain_ndcg, plain_rank
from vlkit.cli import main
from vlkit.tasks.dialog.metrics import Mode


def ranking(document: dict[str, Any], *, alike: bool = False) -> list[dict[str, Any]]:
    rng = random.Random(1)
    found = []
    for dialog in document["data"]["dialogs"]:
        for i in range(len(dialog["dialog"])):
            ranks = [rng.randint(1, 9) for _ in range(100)] if alike else rng.sample(range(1, 101), 100)
            found.append({"image_id": dialog["image_id"], "round_id": i + 1, "ranks": ranks})
    return found


def run(folder: Path, predictions: Any, document: dict[str, Any], *more: str) -> tuple[int, Path]:
    for name, each in (("predictions", predictions), ("dialogs", document), ("dense", dense(document))):
        (folder / f"{name}.json").write_text(json.dumps(each))
    words = ["--predictions", str(folder / "predictions.json"), "--dialogs", str(folder / "dialogs.json")]
    output = folder / "scores.json"
    return main(["judge", "visdial", *words, "--output", str(output), "--resamples", "50", *more]), output


def plain(document: dict[str, Any], predictions: list[dict[str, Any]], mode: Mode) -> dict[str, float]:
    said = {(each["image_id"], each["round_id"]): [-float(rank) for rank in each["ranks"]] for each in predictions}
    own = []
    for dialog in document["data"]["dialogs"]:
        for i, turn in enumerate(dialog["dialog"]):
            own.append(plain_rank(said[dialog["image_id"], i + 1], turn["gt_index"], mode))
    how = document["mine"] if "mine" in document else dense(document)
    gains = [plain_ndcg(said[entry["image_id"], entry["round_id"]], entry["gt_relevance"], mode) for entry in how]
    found = {f"r@{k}": sum(rank <= k for rank in own) / len(own) for k in (1, 5, 10)}
    return found | {
        "mrr": sum(1 / rank for rank in own) / len(own),
        "mean_rank": sum(own) / len(own),
        "ndcg": sum(gains) / len(gains),
    }


@pytest.mark.parametrize("mode", ["fixed", "compat"])
@pytest.mark.parametrize("alike", [False, True])
def test_scores_are_those_of_plain_loops(tmp_path: Path, mode: Mode, alike: bool) -> None:
    document = visdial("val2018", 6)
    predictions = ranking(document, alike=alike)
    code, output = run(tmp_path, predictions, document, "--dense", str(tmp_path / "dense.json"), "--mode", mode)
    assert code == 0
    found = json.loads(output.read_text())
    assert found["summary"] == pytest.approx(plain(document, predictions, mode), abs=1e-9)
    assert found["counts"]["rounds"] == found["counts"]["scored"] == len(found["per_round"]) == 60
    assert found["counts"]["ndcg"] == 6
    assert all(found["low"][name] <= found["summary"][name] <= found["high"][name] for name in found["summary"])


@pytest.mark.reference
@pytest.mark.parametrize("mode", ["fixed", "compat"])
@pytest.mark.parametrize("alike", [False, True])
def test_real_dialogs_are_scored_as_plain_loops_score_them(
    reference: Path, tmp_path: Path, mode: Mode, alike: bool
) -> None:
    folder = reference / "visdial"
    dialogs, how = (folder / f"visdial_1.0_val{name}_crowdsourced.json" for name in ("", "_dense_annotations"))
    document = json.loads(dialogs.read_text())
    document["mine"] = json.loads(how.read_text())
    predictions = ranking(document, alike=alike)
    (tmp_path / "ranks.json").write_text(json.dumps(predictions))
    words = ["--predictions", str(tmp_path / "ranks.json"), "--dialogs", str(dialogs), "--dense", str(how)]
    output = tmp_path / "scores.json"
    assert main(["judge", "visdial", *words, "--mode", mode, "--output", str(output), "--resamples", "50"]) == 0
    found = json.loads(output.read_text())
    assert found["summary"] == pytest.approx(plain(document, predictions, mode), abs=1e-9)
    assert (found["counts"]["rounds"], found["counts"]["ndcg"]) == (970, 97)


CORRUPTIONS: list[tuple[Any, str]] = [
    (lambda rows: rows.pop(3), "1 round is not ranked 1 round 4"),
    (lambda rows: rows.append(rows[0]), "1 round is ranked more than once 1 round 1"),
    (lambda rows: rows[2]["ranks"].pop(), "1 round has no usable ranks item 2 (1 round 3): 99 ranks"),
    (lambda rows: rows[2]["ranks"].__setitem__(7, 101), "(1 round 3): the rank 101"),
    (lambda rows: rows[2]["ranks"].__setitem__(7, 0), "(1 round 3): the rank 0"),
    (lambda rows: rows[2].update(ranks="12"), "(1 round 3): ranks is 12"),
    (lambda rows: rows[0].update(round_id=0), "1 round is not among the dialogs 1 round 0"),
    (lambda rows: rows[0].update(image_id=99), "1 round is not among the dialogs 99 round 1"),
    (lambda rows: rows[0].pop("round_id"), "1 item has no usable image_id and round_id"),
    (lambda rows: rows.insert(0, [1]), "1 item is no object"),
]


@pytest.mark.parametrize(("corrupt", "message"), CORRUPTIONS)
def test_a_corrupt_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], corrupt: Any, message: str
) -> None:
    document = visdial("val2018", 2)
    predictions = ranking(document)
    corrupt(predictions)
    code, output = run(tmp_path, predictions, document)
    assert code == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not output.exists()


def test_what_is_allowed_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = visdial("val2018", 2)
    predictions = ranking(document)
    del predictions[5]
    predictions += [predictions[0], predictions[1] | {"image_id": 99}]
    allowed = ("--allow-missing", "--allow-unknown", "--allow-duplicates")
    code, output = run(tmp_path, predictions, document, *allowed)
    assert code == 0
    counts = json.loads(output.read_text())["counts"]
    assert counts == {"rounds": 20, "scored": 19, "missing": 1, "unknown": 1, "duplicates": 1, "ndcg": 0}
    assert "PARTIAL: 1 of 20 rounds are not ranked" in capsys.readouterr().out


def test_a_split_that_keeps_its_answers_needs_relevance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = visdial("test2018", 2)
    predictions = ranking(document)
    for dialog in document["data"]["dialogs"]:
        for turn in dialog["dialog"][:-1]:
            del turn["answer_options"], turn["gt_index"]
        for name in ("answer", "gt_index"):
            del dialog["dialog"][-1][name]
    for name, each in (("predictions", predictions), ("dialogs", document)):
        (tmp_path / f"{name}.json").write_text(json.dumps(each))
    words = ["--predictions", str(tmp_path / "predictions.json"), "--dialogs", str(tmp_path / "dialogs.json")]
    assert main(["judge", "visdial", *words]) == 1
    assert "the dialogs keep their answers, and there is no dense relevance" in " ".join(
        capsys.readouterr().err.split()
    )
