"""A talk: it answers as ranking does, reads nothing twice, and can be changed, replayed, saved and limited."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tasks.dialog.test_dialog_answering import train
from vlkit.cli import main
from vlkit.errors import UserError
from vlkit.tasks.dialog.evaluation import EvalOptions, Trained, asked_of, judged_dialogs, trained
from vlkit.tasks.dialog.state import MOST_LETTERS, MOST_TURNS, DialogState, Talker
from vlkit.tasks.dialog.training import ranked

ENCODERS = ("lf", "hre", "mn", "transformer")


@pytest.fixture(scope="module")
def runs(small_visdial: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        for name in ENCODERS:
            folder = tmp_path_factory.mktemp(name)
            found[name] = trained(train(small_visdial, folder, encoder=name, steps=40, evaluate_every=40), "cpu")
        folder = tmp_path_factory.mktemp("tags")
        found["tags"] = trained(train(small_visdial, folder, tags=0.1, steps=40, evaluate_every=40), "cpu")
        folder = tmp_path_factory.mktemp("says")
        run = train(small_visdial, folder, encoder="mn", decoder="generative", steps=150, evaluate_every=150)
        found["says"] = trained(run, "cpu")
    return found


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def begun(run: Trained, colour: tuple[int, int, int] = (30, 40, 220), caption: str = "", **limits: int) -> DialogState:
    pixels = torch.tensor(colour, dtype=torch.uint8).expand(16, 16, 3).contiguous()
    return DialogState(Talker(run), pixels, caption, **limits)


@pytest.mark.parametrize("name", [*ENCODERS, "tags", "says"])
def test_a_talk_answers_as_ranking_does(runs: dict[str, Trained], name: str) -> None:
    run = runs[name]
    options = EvalOptions(runs=(run.folder,), split="val")
    asked = asked_of(run, options, judged_dialogs(run, options))
    scores = ranked(run.model, asked)[0]
    dialog = asked.dialogs[0]
    state = DialogState(Talker(run), asked.images.read(asked.image_rows[:1])[0], dialog.caption)
    for i, turn in enumerate(dialog.turns):
        texts = [asked.source.answers[j] for j in dialog.options[i]]
        reply = state.ask(turn.question, texts)
        chances = torch.from_numpy(scores[i]).softmax(0)
        order = chances.argsort(descending=True)[:5].tolist()
        np.testing.assert_allclose([chance for _, chance in reply.candidates], chances[order], rtol=1e-3, atol=1e-6)
        assert reply.answer == texts[order[0]]
        assert turn.answer is not None
        state.edit(i, answer=turn.answer)  # as the true talk went on
        assert len(reply.past) == i + 1
        assert sum(reply.past) == pytest.approx(1, abs=1e-4) or sum(reply.past) == 0
    assert all(said.corrected for said in state.turns)


@pytest.mark.parametrize("name", ENCODERS)
def test_nothing_is_read_twice(runs: dict[str, Trained], name: str) -> None:
    state = begun(runs[name], caption="a blue picture")
    counts = []
    for _ in range(6):
        state.ask("question 3")
        counts.append(state.read_count)
    assert counts == [1, 2, 3, 4, 5, 6], "the caption first, then the turn before each question"


def test_a_changed_turn_changes_what_comes_behind_it(runs: dict[str, Trained]) -> None:
    state = begun(runs["hre"], caption="a blue picture")
    for question in ("what color is the picture", "and now", "question 2"):
        state.ask(question)
    before = [said.answer for said in state.turns]
    state.edit(1, question="question 5")
    assert [said.question for said in state.turns] == ["what color is the picture", "question 5", "question 2"]
    assert state.turns[0].answer == before[0]
    other = begun(runs["hre"], caption="a blue picture")
    for question in ("what color is the picture", "question 5", "question 2"):
        other.ask(question)
    assert [said.answer for said in state.turns] == [said.answer for said in other.turns]
    state.delete(1)
    state.edit(0, answer="red")
    assert (state.turns[0].answer, state.turns[0].corrected) == ("red", True)
    state.edit(0, question="and now")
    assert not state.turns[0].corrected, "another question is answered anew"
    state.clear()
    assert state.turns == []


def test_a_change_that_cannot_be_leaves_the_talk_as_it_was(runs: dict[str, Trained]) -> None:
    state = begun(runs["hre"])
    state.ask("question 1")
    before = list(state.turns)
    with pytest.raises(UserError, match="the question is empty"):
        state.edit(0, question="  ")
    with pytest.raises(UserError, match="there is no turn 2; the talk has 1"):
        state.edit(1, answer="x")
    with pytest.raises(UserError, match="there is no turn 0"):
        state.delete(-1)
    assert state.turns == before


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("", "the question is empty"),
        (" \n\t ", "the question is empty"),
        ("x" * 50_000, f"50,000 characters, and at most {MOST_LETTERS} are read"),
    ],
)
def test_messages_that_cannot_be_read_are_told(runs: dict[str, Trained], message: str, told: str) -> None:
    state = begun(runs["hre"])
    with pytest.raises(UserError, match=told):
        state.ask(message)
    assert state.turns == []


def test_markup_is_words_like_any_other(runs: dict[str, Trained]) -> None:
    state = begun(runs["hre"])
    reply = state.ask("<script>alert(1)</script> <b>and now</b>")
    assert reply.unknown
    assert state.turns[0].question == "<script>alert(1)</script> <b>and now</b>"


def test_a_talk_ends_somewhere(runs: dict[str, Trained]) -> None:
    state = begun(runs["mn"])
    for _ in range(MOST_TURNS):
        state.ask("question 1")
    with pytest.raises(UserError, match=f"has {MOST_TURNS} turns"):
        state.ask("question 1")


def test_only_so_much_is_remembered(runs: dict[str, Trained]) -> None:
    state = begun(runs["hre"], caption="a blue picture", max_turns=2)
    for _ in range(4):
        state.ask("question 3")
    assert state.remembered() == [0, 3, 4]
    words = begun(runs["hre"], caption="a blue picture", max_words=12)
    for _ in range(4):
        words.ask("question 3")
    kept = words.remembered()
    assert kept[0] == 0
    assert 1 not in kept
    assert sum(len(words._words(fact)) for fact in kept) <= 12
    with pytest.raises(UserError, match="max_turns = 0"):
        begun(runs["hre"], max_turns=0)


def test_two_talks_share_nothing_but_the_model(runs: dict[str, Trained]) -> None:
    talker = Talker(runs["hre"])
    pixels = torch.zeros(16, 16, 3, dtype=torch.uint8)
    one, two = DialogState(talker, pixels, "a red picture"), DialogState(talker, pixels)
    one.ask("question 1")
    assert (len(one.turns), len(two.turns)) == (1, 0)
    assert two.ask("question 1").past == (0.0,)


def test_an_exported_talk_is_replayed(runs: dict[str, Trained]) -> None:
    state = begun(runs["mn"], caption="a blue picture")
    for question in ("what color is the picture", "and now", "question 2"):
        state.ask(question)
    state.edit(1, answer="green")
    document = json.loads(json.dumps(state.to_json()))
    again = DialogState.from_json(state.talker, state.pixels, document)
    assert again.to_json() == state.to_json()
    assert document["turns"][1] | {"candidates": 0, "past": 0, "focus": 0} == {
        "question": "and now",
        "answer": "green",
        "corrected": True,
        "options": [],
        "candidates": 0,
        "past": 0,
        "focus": 0,
    }
    with pytest.raises(UserError, match="no talk that vlkit exported"):
        DialogState.from_json(state.talker, state.pixels, {"turns": []})


def test_options_are_kept_through_changes_and_files(runs: dict[str, Trained]) -> None:
    state = begun(runs["hre"])
    for _ in range(2):
        state.ask("question 1", ("yes", "no"))
    state.edit(0, answer="no")
    assert state.turns[1].answer in ("yes", "no")
    again = DialogState.from_json(state.talker, state.pixels, json.loads(json.dumps(state.to_json())))
    assert again.to_json() == state.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_turns": "3"}, "max_turns = '3', expected a whole number"),
        ({"max_words": True}, "max_words = True"),
        ({"caption": 7}, "the caption 7; expected a text"),
        ({"turns": [{"question": "x", "answer": "", "corrected": True}]}, "the answer is empty"),
        ({"turns": [{"question": "x", "answer": "y", "options": [1]}]}, "has turns that are none"),
    ],
)
def test_a_talk_that_is_none_is_told(runs: dict[str, Trained], change: dict[str, object], message: str) -> None:
    state = begun(runs["hre"])
    with pytest.raises(UserError, match=message):
        DialogState.from_json(state.talker, state.pixels, {**state.to_json(), **change})


def test_a_transformer_remembers_no_more_than_it_has_places_for(runs: dict[str, Trained]) -> None:
    with pytest.raises(UserError, match="max_turns = 30, and this model has places for 10 turns"):
        begun(runs["transformer"], max_turns=30)
    state = begun(runs["transformer"], caption="a blue picture")
    for _ in range(12):
        state.ask("question 1")
    assert state.remembered() == [0, *range(3, 13)]
    assert len([share for share in state.turns[-1].reply.past if share > 0]) == 11


@pytest.mark.parametrize("decoding", ["beam", "greedy", "sample"])
def test_answers_are_said(runs: dict[str, Trained], decoding: str) -> None:
    pixels = begun(runs["says"]).pixels
    found = [
        DialogState(Talker(runs["says"], decoding), pixels, "a blue picture").ask("what color is the picture")  # type: ignore[arg-type]
        for _ in range(2)
    ]
    assert found[0].answer == found[1].answer, "the same seed draws the same words"
    assert found[0].answer == "blue" or decoding == "sample"
    assert 0 < found[0].candidates[0][1] <= 1


def test_a_model_that_can_say_nothing_is_told(runs: dict[str, Trained]) -> None:
    from dataclasses import replace

    with pytest.raises(UserError, match="it has no decoder that says any"):
        Talker(replace(runs["hre"], known=()))


def test_chat_reads_questions_and_commands(
    runs: dict[str, Trained],
    small_visdial: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = small_visdial / "images" / "VisualDialog_val2018_000000000025.png"  # a blue one
    lines = [
        "what color is the picture",
        "",
        "and now",
        "x" * 600,
        "/answer 1 red",
        "/drop 2",
        "/drop seven",
        "/fly",
        f"/save {tmp_path / 'talk.json'}",
        "/quit",
        "never asked",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    words = [str(runs["says"].folder), str(picture), "--caption", "a blue picture"]
    assert main(["chat", *words, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("blue (")
    assert "has 600 characters" in out
    assert " 1 what color is the picture  red (put there)" in out
    assert "name a turn by its number" in out
    assert "there is no command /fly" in out
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert [(turn["question"], turn["answer"]) for turn in saved["turns"]] == [("what color is the picture", "red")]
    monkeypatch.setattr("sys.stdin", io.StringIO("/state\n"))
    assert main(["chat", *words[:2], "--replay", str(tmp_path / "talk.json"), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("red (put there)") == 2
