"""Models that answer in dialogs: they learn, they use the past, and how a batch is put together changes nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vlkit.tasks.dialog.model
from vlkit.cli import main
from vlkit.errors import UserError
from vlkit.tasks.dialog.data import read_dialogs
from vlkit.tasks.dialog.evaluation import EvalOptions, Said, asked_of, judged_dialogs, trained
from vlkit.tasks.dialog.metrics import right_ranks
from vlkit.tasks.dialog.probes import answer_prior, question_prior, shuffled
from vlkit.tasks.dialog.settings import Config, built_model
from vlkit.tasks.dialog.training import Talks, ranked, splits, talks
from vlkit.text import Tokenizer

SMALL = {
    "size": 16,
    "dim": 32,
    "word_dim": 16,
    "image_dim": 16,
    "option_dim": 32,
    "batch_size": 8,
    "warmup_steps": 1,
    "select_split": "val",
    "learning_rate": 5e-3,
    "threads": 1,
    "device": "cpu",
    "dropout": 0.0,
}
ENCODERS = ("lf", "hre", "mn", "transformer")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def settings(data: Path, **more: Any) -> Config:
    return Config(**{**SMALL, "data": data, **more})


def world(chosen: Config) -> Talks:
    train, _ = splits(chosen)
    texts = [text for each in train.dialogs for text in (each.caption, *(turn.question for turn in each.turns))]
    return talks(chosen, train, Tokenizer.train([*texts, *train.answers]))


def model_of(chosen: Config, asked: Talks) -> Any:
    torch.manual_seed(0)
    return built_model(chosen, vocabulary=asked.tokenizer.size).eval()


def train(data: Path, folder: Path, *words: str, **more: Any) -> Path:
    file = folder / "talk.toml"
    values: dict[str, Any] = {**SMALL, "task": "dialog", "data": str(data), "output": str(folder / "run"), **more}
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None))
    assert main(["train", str(file), *words]) == 0
    return folder / "run"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("decoder", "tags"), [("discriminative", 0.0), ("discriminative", 0.1), ("generative", 0.1)])
def test_a_round_is_scored_alike_alone_and_among_others(
    small_visdial: Path, encoder: str, decoder: str, tags: float
) -> None:
    chosen = settings(small_visdial, encoder=encoder, decoder=decoder, tags=tags)
    asked = world(chosen)
    model = model_of(chosen, asked)
    together = ranked(model, asked)
    batch = asked.batch([(3, 4)])
    with torch.inference_mode():
        joint = model.encode(batch).joint
        if decoder == "generative":
            alone = model.decoder.scores(joint, batch.options, batch.options_mask, batch.option, batch.there)
        else:
            alone = model(batch).scores
    np.testing.assert_allclose(alone[0], together[3][4], rtol=0, atol=2e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_comes_later_is_not_known_and_what_was_said_is(small_visdial: Path, encoder: str) -> None:
    chosen = settings(small_visdial, encoder=encoder)
    asked = world(chosen)
    model = model_of(chosen, asked)
    before = ranked(model, asked)[0]
    dialog = asked.dialogs[0]
    turns = list(dialog.turns)
    turns[5] = replace(turns[5], answer="answer number 50")
    other = Talks(
        replace(asked.source, dialogs=(replace(dialog, turns=tuple(turns)), *asked.dialogs[1:])),
        asked.images,
        asked.tokenizer,
        asked.reading,
    )
    after = ranked(model, other)[0]
    np.testing.assert_allclose(after[:6], before[:6], rtol=0, atol=1e-6)
    assert (np.abs(after[6:] - before[6:]).max(axis=1) > 1e-5).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_is_taken_away_is_not_missed(small_visdial: Path, encoder: str) -> None:
    chosen = settings(small_visdial, encoder=encoder)
    asked = world(chosen)
    model = model_of(chosen, asked)
    other = shuffled(asked.dialogs)
    assert all(mine != theirs for mine, theirs in other.items())
    nothing = ("caption", "turns")
    np.testing.assert_array_equal(
        np.stack(ranked(model, asked, nothing)), np.stack(ranked(model, asked, nothing, past_of=other))
    )
    own, theirs = ranked(model, asked), ranked(model, asked, past_of=other)
    assert max(np.abs(a - b).max() for a, b in zip(own, theirs, strict=True)) > 1e-5
    caption = ranked(model, asked, ("turns",))
    np.testing.assert_allclose(caption[0][0], own[0][0], rtol=0, atol=1e-5)  # nothing else was said by then
    assert np.abs(caption[0][5] - own[0][5]).max() > 1e-5
    blind = ranked(model, asked, ("image",))
    assert np.abs(blind[0] - own[0]).max() > 1e-5


@pytest.mark.parametrize("encoder", ENCODERS)
def test_only_the_newest_turns_are_remembered_where_there_is_a_limit(small_visdial: Path, encoder: str) -> None:
    chosen = settings(small_visdial, encoder=encoder, max_turns=2)
    asked = world(chosen)
    model = model_of(chosen, asked)
    dialog = asked.dialogs[0]
    turns = (replace(dialog.turns[0], answer="answer number 50"), *dialog.turns[1:])
    other = Talks(
        replace(asked.source, dialogs=(replace(dialog, turns=turns), *asked.dialogs[1:])),
        asked.images,
        asked.tokenizer,
        asked.reading,
    )
    before, after = ranked(model, asked)[0], ranked(model, other)[0]
    assert (np.abs(after[1:3] - before[1:3]).max(axis=1) > 1e-6).all()
    np.testing.assert_allclose(after[3:], before[3:], rtol=0, atol=1e-6)


def test_late_fusion_reads_a_past_once_as_it_would_read_each_by_itself(small_visdial: Path) -> None:
    chosen = settings(small_visdial, encoder="lf")
    asked = world(chosen)
    model = model_of(chosen, asked)
    rows = [(0, turn) for turn in range(10)]
    shared = asked.batch(rows)
    assert len(shared.history) == 1, "one text serves ten rounds"
    asked.reading = replace(asked.reading, causal=False)
    apart = asked.batch(rows)
    assert len(apart.history) == 10
    with torch.inference_mode():
        once = model.past(shared).history
        model.causal = False
        torch.testing.assert_close(model.past(apart).history, once)


def test_words_of_captions_answers_and_questions_are_said_of_a_picture(small_visdial: Path) -> None:
    asked = world(settings(small_visdial))
    dialog = asked.dialogs[0]
    turns = (replace(dialog.turns[0], question="is there a ball?", answer="no box"), *dialog.turns[1:])
    source = replace(asked.source, dialogs=(replace(dialog, caption="a table", turns=turns), *asked.dialogs[1:]))
    tokenizer = Tokenizer.train([*asked.source.answers, "ball box table", *(turn.question for turn in turns)])
    other = Talks(source, asked.images, tokenizer, asked.reading)
    words = {word: tokenizer.encode(word)[0] for word in ("ball", "box", "table", "answer")}
    assert {word for word in words if words[word] in other.told[0]} >= {"box", "table"}
    assert words["ball"] not in other.told[0], "a no denies what its question says"
    said = other.batch([(0, 1), (0, 2), (1, 0)], tags=True).said
    assert said is not None
    assert said.shape == (2, tokenizer.size)
    assert said[0, words["table"]] == -1, "no answer has that word"
    assert said[0, words["answer"]] >= 0
    assert other.batch([(0, 1)]).said is None


def test_tags_are_learned_by_no_arm_that_is_blind(small_visdial: Path, tmp_path: Path) -> None:
    run = train(small_visdial, tmp_path, "--arms", "no_image", tags=0.1, steps=60, evaluate_every=60)
    for folder, tags in ((run, 0.1), (run / "arms" / "no_image", 0.0)):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        losses = [line["tag_loss"] for line in lines if "tag_loss" in line]
        assert trained(folder, "cpu").settings.tags == tags
        assert bool(losses) == (tags > 0)
    assert main(["eval", str(run), "--probes"]) == 0


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_past_is_learned_from(small_visdial: Path, tmp_path: Path, encoder: str) -> None:
    # "and now" is answered as "what color is the picture" was; no picture tells it to a model that has none.
    run = train(small_visdial, tmp_path, "--arms", "question_only", encoder=encoder, steps=120, evaluate_every=60)
    found = {}
    for name, folder in (("full", run), ("blind", run / "arms" / "question_only")):
        one = trained(folder, "cpu")
        options = EvalOptions(runs=(folder,), split="test")
        asked = asked_of(one, options, judged_dialogs(one, options))
        scores = ranked(one.model, asked, one.settings.blank)
        found[name] = np.mean(
            [right_ranks(each[[1]], d.right[[1]])[0] == 1 for each, d in zip(scores, asked.dialogs, strict=True)]
        )
    assert found["full"] == 1
    assert found["blind"] < 0.6


@pytest.mark.parametrize("decoder", ["discriminative", "generative"])
def test_a_transformers_text_model_reads_its_own_words(
    small_visdial: Path, tmp_path: Path, tiny_bert: Path, decoder: str
) -> None:
    more = {"decoder": decoder, "text_encoder": f"hf:{tiny_bert}", "steps": 2, "evaluate_every": 2}
    run = train(small_visdial, tmp_path, **more)
    one = trained(run, "cpu")
    assert one.tokenizer.to_json() == Tokenizer.load(tiny_bert / "tokenizer.json").to_json()
    assert main(["eval", str(run)]) == 0
    if decoder == "generative":
        options = EvalOptions(runs=(run,), split="test")
        asked = asked_of(one, options, judged_dialogs(one, options))
        start, end = one.tokenizer.start, one.tokenizer.end
        (said,) = asked.said([asked.tokenizer.encode("red")])
        assert said == [start, *one.tokenizer.encode("red")[1:-1], end], "markers once"


def test_arms_begin_with_a_run_that_has_tags(small_visdial: Path, tmp_path: Path) -> None:
    first = train(small_visdial, tmp_path, steps=2, tags=0.1)
    (tmp_path / "more").mkdir()
    run = train(small_visdial, tmp_path / "more", "--arms", "question_only", steps=2, tags=0.1, begin_with=str(first))
    assert trained(run / "arms" / "question_only", "cpu").settings.tags == 0


def test_an_arm_takes_away_more_than_its_run(small_visdial: Path, tmp_path: Path) -> None:
    run = train(small_visdial, tmp_path, "--arms", "no_history", steps=2, blank=["question"])
    assert trained(run / "arms" / "no_history", "cpu").settings.blank == ("question", "caption", "turns")


def test_a_split_whose_ranked_rounds_tell_nothing_chooses_no_checkpoint(small_visdial: Path, tmp_path: Path) -> None:
    turns = [{"question": "what color is it", "answer": "red"}, {"question": "and now", "options": ["red", "blue"]}]
    rows = [{"image": f"VisualDialog_train2018_{1:012d}.png", "caption": "it", "turns": turns}]
    learned = [{**rows[0], "turns": turns[:1]}]
    (tmp_path / "train.json").write_text(json.dumps(learned), encoding="utf-8")
    (tmp_path / "val.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "images").symlink_to(small_visdial / "images")
    with pytest.raises(UserError, match="gives options only where it does not tell which is right"):
        splits(settings(tmp_path, select_split="val"))


def test_dialogs_without_options_are_ranked_among_the_same_answers_in_training_and_judging(
    small_visdial: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "image": f"VisualDialog_train2018_{i + 1:012d}.png",
            "caption": "",
            "turns": [{"question": "what color is it", "answer": f"answer {i}"}],
        }
        for i in range(24)
    ]
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "images").symlink_to(small_visdial / "images")
    run = train(tmp_path, tmp_path, steps=2, known_answers=2)
    one = trained(run, "cpu")
    assert len(one.known) == 2
    _, select = splits(one.settings)
    judged = judged_dialogs(one, EvalOptions(runs=(run,), split="val"))

    def offered(dialogs: Any) -> list[list[str]]:
        return [sorted(dialogs.answers[i] for i in each.options[0] if i >= 0) for each in dialogs.dialogs]

    assert offered(select) == offered(judged)


def test_one_black_picture_stands_for_all(small_visdial: Path, tmp_path: Path) -> None:
    one = trained(train(small_visdial, tmp_path, steps=2), "cpu")
    options = EvalOptions(runs=(one.folder,), split="test")
    asked = asked_of(one, options, judged_dialogs(one, options))
    rows = [(dialog, turn) for dialog in range(3) for turn in range(2)]
    seen, blind = asked.batch(rows), asked.batch(rows, ("image",))
    assert (len(seen.images), len(blind.images)) == (3, 1)
    with torch.inference_mode():
        black = one.model(replace(seen, images=torch.zeros_like(seen.images))).scores
        assert not torch.equal(one.model(seen).scores, black)
        torch.testing.assert_close(one.model(blind).scores, black)


@pytest.mark.parametrize("tags", [0.0, 0.3])
def test_options_are_scored_alike_one_by_one_and_all_at_once(
    small_visdial: Path, monkeypatch: pytest.MonkeyPatch, tags: float
) -> None:
    chosen = settings(small_visdial, tags=tags)
    asked = world(chosen)
    model, batch = model_of(chosen, asked), asked.batch([(0, 0), (1, 1)])
    every = model(batch).scores
    assert len(batch.options) <= vlkit.tasks.dialog.model.MANY * batch.option.shape[1]
    monkeypatch.setattr(vlkit.tasks.dialog.model, "MANY", 0)
    torch.testing.assert_close(model(batch).scores, every)


def test_a_decoder_that_says_answers_learns_too(small_visdial: Path, tmp_path: Path) -> None:
    run = train(small_visdial, tmp_path, decoder="generative", encoder="mn", steps=150, evaluate_every=75)
    one = trained(run, "cpu")
    options = EvalOptions(runs=(run,), split="test")
    asked = asked_of(one, options, judged_dialogs(one, options))
    own = Said(asked, ranked(one.model, asked))
    assert own.table()[:, 0].mean() > 0.9


def test_dense_relevance_is_learned_from(small_visdial: Path, tmp_path: Path) -> None:
    run = train(small_visdial, tmp_path, encoder="mn", steps=60, evaluate_every=30)
    (tmp_path / "more").mkdir()
    more = train(
        small_visdial,
        tmp_path / "more",
        encoder="mn",
        steps=60,
        evaluate_every=60,
        targets="dense",
        begin_with=str(run),
        learning_rate=1e-3,
    )
    found = []
    for folder in (run, more):
        one = trained(folder, "cpu")
        options = EvalOptions(runs=(folder,), split="train")
        asked = asked_of(one, options, judged_dialogs(one, options))
        found.append(Said(asked, ranked(one.model, asked)).gains().mean())
    assert found[1] > found[0] + 0.02, "the answer behind the right one is half as right, which only these files tell"


def test_the_card_has_priors_arms_and_what_the_past_is_good_for(small_visdial: Path, tmp_path: Path) -> None:
    run = train(small_visdial, tmp_path, "--arms", "no_history", steps=60, evaluate_every=30)
    assert main(["eval", str(run), "--probes"]) == 0
    card = json.loads((run / "eval" / "test" / "report.json").read_text())
    names = [arm["name"] for arm in card["arms"]]
    assert names[:2] == ["no history (trained)", "no image"]
    assert names[-2:] == ["answer prior", "question prior"]
    assert {"mrr", "r@1", "r@5", "r@10", "mean_rank", "ndcg"} == {row["name"] for row in card["metrics"]}
    assert any("where the past is needed, R@1 is" in note for note in card["notes"])
    assert {part["name"] for part in card["parts"] if part["by"] == "history"} == {"needs history", "needs none"}
    output = tmp_path / "scores.json"
    words = ["--dialogs", str(small_visdial / "visdial_1.0_test.json")]
    words += ["--dense", str(small_visdial / "visdial_1.0_test_dense_annotations.json")]
    ranks = run / "eval" / "test" / "ranks.json"
    assert main(["judge", "visdial", "--predictions", str(ranks), *words, "--output", str(output)]) == 0
    judge = json.loads(output.read_text())["summary"]
    own = {row["name"]: row["value"] for row in card["metrics"]}
    assert judge == pytest.approx(own, abs=1e-9)


def test_a_split_that_keeps_its_answers_is_ranked_in_its_last_rounds(
    small_visdial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(small_visdial, tmp_path, steps=2, evaluate_every=2)
    document = json.loads((small_visdial / "visdial_1.0_test.json").read_text())
    for dialog in document["data"]["dialogs"]:
        del dialog["dialog"][4:]
        for turn in dialog["dialog"][:-1]:
            del turn["answer_options"], turn["gt_index"]
        for name in ("answer", "gt_index"):
            del dialog["dialog"][-1][name]
    (tmp_path / "visdial_1.0_test.json").write_text(json.dumps(document))
    words = ["--data", str(tmp_path / "visdial_1.0_test.json"), "--images", str(small_visdial / "images")]
    assert main(["eval", str(run), *words]) == 0
    assert "keeps its answers" in " ".join(capsys.readouterr().out.split())
    ranks = json.loads((run / "eval" / "test" / "ranks.json").read_text())
    assert [(each["image_id"], each["round_id"]) for each in ranks] == [(number, 4) for number in range(33, 41)]
    assert all(sorted(each["ranks"]) == list(range(1, 101)) for each in ranks)
    assert not (run / "eval" / "test" / "report.json").exists()


@pytest.mark.parametrize(
    ("encoder", "fusion"),
    [
        *(
            (encoder, fusion)
            for encoder in ("lf", "hre", "mn")
            for fusion in ("concat", "product", "attention", "lxmert")
        ),
        *(("transformer", fusion) for fusion in ("coattention", "lxmert")),
    ],
)
def test_every_fusion_that_is_allowed_knows_the_past(small_visdial: Path, encoder: str, fusion: str) -> None:
    chosen = settings(small_visdial, encoder=encoder, fusion=fusion)
    asked = world(chosen)
    model = model_of(chosen, asked)
    own, without = ranked(model, asked)[0], ranked(model, asked, ("caption", "turns"))[0]
    assert np.abs(own[5] - without[5]).max() > 1e-6


def test_priors_count_what_is_said(small_visdial: Path) -> None:
    train = read_dialogs(small_visdial, None, "train")
    test = read_dialogs(small_visdial, None, "test")
    anywhere, behind = answer_prior(train).scores(test), question_prior(train).scores(test)
    mrr = []
    for scores in (anywhere, behind):
        rank = np.concatenate([right_ranks(each, d.right) for each, d in zip(scores, test.dialogs, strict=True)])
        mrr.append(np.mean(1 / rank))
    assert 0.02 < mrr[0] < mrr[1] - 0.2, "to know the question helps; to know what is common, a little"
    own = np.concatenate([right_ranks(each[2:], d.right[2:]) for each, d in zip(behind, test.dialogs, strict=True)])
    assert (own == 1).all(), "each later question always has the same answer"


def test_a_killed_run_goes_on_to_the_same_weights(small_visdial: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = train(small_visdial, tmp_path / "a", steps=8, evaluate_every=4)
    part = train(small_visdial, tmp_path / "b", steps=8, evaluate_every=4)
    import shutil

    for each in sorted((part / "checkpoints").iterdir())[1:]:
        shutil.rmtree(each)
    shutil.rmtree(part / "best")
    train(small_visdial, tmp_path / "b", steps=8, evaluate_every=4)
    for name, value in trained(whole, "cpu").model.state_dict().items():
        torch.testing.assert_close(trained(part, "cpu").model.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--decoder", "generative", "--targets", "dense"], "weighs given options"),
        (["--max-turns", "0"], "max_turns = 0, expected at least 1"),
        (["--fusion", "glue"], "fusion = 'glue', expected one of concat"),
        (["--fusion", "coattention"], "would not see what the encoder hre makes of the past"),
        (["--encoder", "transformer", "--fusion", "stacked"], "take one of coattention, visualbert, lxmert"),
        (["--encoder", "transformer", "--dim", "33"], "does not divide into the 4 heads"),
        (["--select-split", "train"], "select on another split"),
    ],
)
def test_settings_that_cannot_be_are_told(
    small_visdial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    file = tmp_path / "talk.toml"
    file.write_text(f'task = "dialog"\ndata = "{small_visdial}"\n')
    assert main(["train", str(file), *words]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_missing_picture_is_counted(small_visdial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    data = tmp_path / "data"
    shutil.copytree(small_visdial, data)
    (data / "images" / "VisualDialog_train2018_000000000003.png").unlink()
    (data / "images" / "VisualDialog_train2018_000000000005.png").write_bytes(b"no picture")
    chosen = settings(data)
    with pytest.raises(UserError, match="2 of 24"):
        world(chosen)
    asked = world(replace(chosen, skip_missing=True))
    assert (asked.left_out, len(asked.dialogs)) == (2, 22)
    assert "3" not in {key[0] for key in asked.source.relevance}


@pytest.mark.reference
def test_real_dialogs_are_read_trained_on_ranked_and_judged(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    folder = reference / "visdial"
    document = json.loads((folder / "visdial_1.0_val_crowdsourced.json").read_text())
    images = tmp_path / "images"
    images.mkdir()
    for dialog in document["data"]["dialogs"]:
        number = dialog["image_id"]
        colour = (number % 251, number % 241, number % 239)
        Image.new("RGB", (32, 24), colour).save(images / f"VisualDialog_val2018_{number:012d}.jpg")
    run = train(
        folder,
        tmp_path,
        images=str(images),
        train_split="val",
        select_split=None,
        steps=2,
        evaluate_every=1,
        warmup_steps=0,
        batch_size=4,
    )
    assert main(["eval", str(run), "--split", "val", "--output", str(tmp_path / "eval")]) == 0
    assert "learned on this very split" in " ".join(capsys.readouterr().out.split())
    words = ["--predictions", str(tmp_path / "eval" / "ranks.json")]
    words += ["--dialogs", str(folder / "visdial_1.0_val_crowdsourced.json")]
    words += ["--dense", str(folder / "visdial_1.0_val_dense_annotations_crowdsourced.json")]
    assert main(["judge", "visdial", *words, "--mode", "compat", "--output", str(tmp_path / "scores.json")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["counts"]["scored"] == 970


def test_a_page_shows_what_answers_hang_on(
    small_visdial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(small_visdial, tmp_path, encoder="mn", steps=20, evaluate_every=20)
    assert main(["explain", str(run), "--examples", "2", "--dialog", "33"]) == 0
    page = Path(capsys.readouterr().out.split()[-1]).read_text(encoding="utf-8")
    assert page.count("<section") == 1
    assert page.count("<tr>") == 10
    assert page.count('title="caption: ') == 10
    assert page.count('title="9: ') == 1, "only the last round has nine turns before it"
    assert "data:image/png;base64," in page
    assert main(["explain", str(run), "--dialog", "99"]) == 1
    assert "has no dialog '99'" in capsys.readouterr().err
