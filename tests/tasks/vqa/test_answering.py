"""Models that answer, from questions to report, pictures and page; the same encoder in two tasks; a killed training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vlkit import report
from vlkit.cli import main
from vlkit.encoders.fusion import FUSIONS
from vlkit.envs.house.questions import Arguments, generate
from vlkit.errors import UserError
from vlkit.tasks.vqa.demo import answer, samples
from vlkit.tasks.vqa.evaluation import trained
from vlkit.tasks.vqa.examples import Example, chosen, installed_easy_vqa, read_examples
from vlkit.tasks.vqa.metrics import calibration_error, consistency
from vlkit.tasks.vqa.model import joined, within
from vlkit.tasks.vqa.probes import answer_prior, exchanged, question_prior
from vlkit.tasks.vqa.settings import Config, built_model
from vlkit.tasks.vqa.training import Answerable, answerable, scored
from vlkit.text import Tokenizer

SMALL = """
task = "vqa"
select_split = "val"
size = 16
dim = 16
word_dim = 8
image_dim = 8
answer_dim = 16
steps = 6
batch_size = 4
warmup_steps = 1
evaluate_every = 3
select_questions = 40
threads = 1
device = "cpu"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("questions") / "vqa"
    generate(Arguments(out=out, houses=8, views=8, size=32, questions=4, train_questions=4, processes=1))
    return out


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def experiment(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("experiment") / "small.toml"
    file.write_text(f'{SMALL}data = "{data}"\n', encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    arms = ["question_only", "answer_only", "image_only", "no_attention"]
    assert main(["train", str(experiment), "--output", str(folder), "--arms", *arms]) == 0
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors")


def test_a_report_has_its_probes_parts_and_predictions(run: Path, data: Path, tmp_path: Path) -> None:
    assert main(["eval", str(run), "--probes", "--output", str(tmp_path)]) == 0
    card = report.read(tmp_path / "report.json")
    assert {arm.name for arm in card.arms} == {
        *("question only (trained)", "answer only (trained)", "image only (trained)", "no attention (trained)"),
        *("shuffled image", "no image", "no question", "answer prior", "question prior"),
    }
    assert {part.by for part in card.parts} == {"type", "kind"}
    assert {row.name for row in card.metrics} == {"accuracy", "calibration_error", "consistency"}
    assert any(note.startswith("visual gain: ") for note in card.notes)
    assert any("guessing reaches 25.0%" in note for note in card.notes)
    words = ["--predictions", str(tmp_path / "predictions.json"), "--dataset", str(data), "--split", "test"]
    assert main(["judge", "visual7w", *words, "--output", str(tmp_path / "judged.json")]) == 0
    judged = json.loads((tmp_path / "judged.json").read_text(encoding="utf-8"))
    assert judged["accuracy"]["mean"] == pytest.approx(card.metrics[0].value), "the judge agrees with the report"


def test_seeds_give_mean_and_spread(run: Path, experiment: Path, tmp_path: Path) -> None:
    assert main(["train", str(experiment), "--seed", "1", "--output", str(tmp_path / "one")]) == 0
    assert main(["eval", str(run), str(tmp_path / "one"), "--output", str(tmp_path / "both")]) == 0
    card = report.read(tmp_path / "both" / "report.json")
    assert card.seeds == (0, 1)
    assert len(card.metrics[0].seeds) == 2
    assert (tmp_path / "both" / "predictions-seed1.json").is_file()


def test_a_killed_training_ends_in_the_same_weights(experiment: Path, tmp_path: Path) -> None:
    words = ["train", str(experiment), "--evaluate-every", "2", "--output"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        from vlkit.tasks.vqa import training

        def interrupted(model: Any, batch: Any, step: Any, **options: Any) -> Any:
            if step.index == 3:
                raise KeyboardInterrupt
            return answer_loss(model, batch, step, **options)

        answer_loss = training.answer_loss
        patch.setattr(training, "answer_loss", interrupted)
        assert main([*words, str(tmp_path / "stopped")]) == 130
    assert main([*words, str(tmp_path / "stopped")]) == 0
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("candidates", ["apart", "together"])
def test_every_fusion_scores_candidates(fusion: str, candidates: Any, data: Path, run: Path) -> None:
    known = trained(run, "cpu")
    settings = replace(known.settings, fusion=fusion, candidates=candidates)
    torch.manual_seed(0)
    model = built_model(settings, vocabulary=known.tokenizer.size, answers=0).eval()
    asked = few(data, known.settings, known.tokenizer)
    together = model(asked.batch(np.arange(5)))
    assert together.scores.shape == (5, 4)
    alone = model(asked.batch(np.arange(2, 3)))
    torch.testing.assert_close(alone.scores, together.scores[2:3], msg="who else is asked makes no difference")
    for name, each in together.weights.items():
        assert len(each) == 5, name
    loss = torch.nn.functional.cross_entropy(together.scores, torch.zeros(5, dtype=torch.int64))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is not None for each in model.fusion.parameters() if each.requires_grad)


def few(data: Path, settings: Config, tokenizer: Tokenizer, count: int = 8) -> Answerable:
    examples = read_examples(data, None, "val")
    return answerable(settings, replace(examples, examples=examples.examples[:count]), tokenizer, ())


def test_texts_are_joined_without_a_gap() -> None:
    words, mask = torch.tensor([[5, 6, 0], [7, 0, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    more, more_mask = torch.tensor([[8, 0], [9, 4]]), torch.tensor([[1, 0], [1, 1]]).bool()
    text, both = joined(words, mask, more, more_mask)
    assert text.tolist() == [[5, 6, 8], [7, 9, 4]]
    assert both.all()


def test_the_right_choice_is_found_whatever_its_place(data: Path, run: Path) -> None:
    known = trained(run, "cpu")
    asked = few(data, known.settings, known.tokenizer)
    scores = scored(known.model, asked)
    turned = replace(asked.source, examples=tuple(replace(e, choices=e.choices[::-1]) for e in asked.examples))
    again = scored(known.model, Answerable(turned, asked.images, known.tokenizer, 30, ()))
    for one, other in zip(scores, again, strict=True):
        np.testing.assert_allclose(one, other[::-1], atol=1e-5)


def test_blind_arms_do_not_look(run: Path, data: Path) -> None:
    for arm, changes in (("question_only", False), ("image_only", True)):
        known = trained(run / "arms" / arm, "cpu")
        asked = few(data, known.settings, known.tokenizer)
        own = scored(known.model, asked, known.settings.blank)
        other = scored(known.model, asked, known.settings.blank, image_of=exchanged(asked.image_rows))
        same = all(np.allclose(a, b) for a, b in zip(own, other, strict=True))
        assert same != changes, arm
    assert trained(run / "arms" / "no_attention", "cpu").settings.fusion == "product"


def test_an_image_encoder_goes_from_task_to_task(run: Path, experiment: Path, tmp_path: Path) -> None:
    from vlkit.envs.house.benchmark import Arguments as Walks
    from vlkit.envs.house.benchmark import generate as walks

    houses = tmp_path / "houses"
    walks(Walks(out=houses, houses=2, unseen=2, levels=("starter",), walks=3, processes=1))
    navigation = tmp_path / "navigation.toml"
    navigation.write_text(
        f'task = "navigation"\ndata = "{houses}"\nlevels = ["starter"]\nsize = 16\ndim = 16\nword_dim = 8\nimage_dim = 8\n'
        "depth_dim = 8\nsteps = 1\nwarmup_steps = 0\nbatch_size = 2\nround_episodes = 4\nselect_episodes = 2\n"
        'max_steps = 8\nreading_steps = 0\nseeing_steps = 2\nnum_envs = 4\nthreads = 1\nprecision = "no"\ndevice = "cpu"\n'
        f'learning_rate = 1e-12\noutput = "{tmp_path / "walker"}"\nimage_from = "{run}"\n',
        encoding="utf-8",
    )
    assert main(["train", str(navigation)]) == 0
    walker, own = weights(tmp_path / "walker"), load_file(run / "best" / "model.safetensors")
    names = [name for name in own if name.startswith("image.")]
    assert names
    for name in names:
        torch.testing.assert_close(walker[f"frames.{name}"], own[name], atol=1e-6, rtol=0)
    assert not (tmp_path / "walker" / "seeing").exists(), "it sees already"
    back = tmp_path / "back"
    words = [
        "--image-from",
        str(tmp_path / "walker"),
        "--learning-rate",
        "1e-12",
        "--steps",
        "2",
        "--output",
        str(back),
    ]
    assert main(["train", str(experiment), *words]) == 0
    for name in names:
        torch.testing.assert_close(weights(back)[name], own[name], atol=1e-6, rtol=0)


def test_an_encoder_of_another_kind_is_told(
    run: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--image-from", str(run), "--image-encoder", "small_cnn", "--output", str(tmp_path / "x")]
    assert main(["train", str(experiment), *words]) == 1
    assert "layers." in capsys.readouterr().err


def coloured(folder: Path, names: tuple[str, ...]) -> None:
    """A picture a name: on grey, a square of that colour."""
    for i, name in enumerate(names):
        picture = Image.new("RGB", (32, 32), (128, 128, 128))
        picture.paste(name, (8 * (i % 3), 16, 8 * (i % 3) + 8, 24))
        picture.save(folder / f"{i}.png")


def own(folder: Path, rows: list[dict[str, Any]], size: int) -> Answerable:
    """Questions of one's own, with a tokenizer that knows their words."""
    (folder / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    examples = read_examples(folder, None, "train")
    tokenizer = Tokenizer.train([text for each in examples.examples for text in (each.text, *each.choices)], minimum=1)
    return answerable(Config(size=size), examples, tokenizer, ())


def test_words_that_are_said_of_a_picture(tmp_path: Path) -> None:
    coloured(tmp_path, ("red", "blue"))
    rows = [
        {
            "image": "0.png",
            "question": "What colour is the box?",
            "choices": ["red", "blue", "no box"],
            "answer": "red",
        },
        {
            "image": "0.png",
            "question": "Is there a ball?",
            "choices": ["no, but a box", "a ball"],
            "answer": "no, but a box",
        },
        {"image": "1.png", "question": "What is it?", "choices": ["a ball", "nothing"], "answer": "a ball"},
    ]
    asked = own(tmp_path, rows, size=16)
    tokenizer = asked.tokenizer
    said = asked.batch(np.arange(3), tags=True).said
    assert said is not None
    told = [
        {word for word in ("red", "blue", "box", "ball", "what", "is") if row[tokenizer.encode(word)[0]] == 1}
        for row in said
    ]
    assert told == [{"red", "box"}, {"ball"}], "not the ball that is denied, nor words that are no answers"
    assert (said[:, tokenizer.encode("colour")[0]] == -1).all()
    assert (said[:, tokenizer.encode("blue")[0]] == 0).all()
    assert asked.batch(np.arange(3)).said is None


def test_a_mirrored_picture_has_left_on_the_right(tmp_path: Path) -> None:
    coloured(tmp_path, ("red", "blue"))
    rows = [
        {
            "image": "0.png",
            "question": "What is on the left?",
            "choices": ["a box", "left of it"],
            "answer": "left of it",
        },
        {"image": "1.png", "question": "Is it right?", "choices": ["right of it", "a box"], "answer": "a box"},
    ]
    asked = own(tmp_path, rows, size=32)
    tokenizer = asked.tokenizer
    plain, turned = asked.batch(np.arange(2), tags=True), asked.batch(np.arange(2), tags=True, mirror=1.0)
    torch.testing.assert_close(turned.images, plain.images.flip(2))
    read = [tokenizer.decode(row[mask].tolist()) for row, mask in zip(turned.words, turned.mask, strict=True)]
    assert read == ["what is on the right ?", "is it left ?"]
    texts = [
        tokenizer.decode(row[mask].tolist()) for row, mask in zip(turned.choices, turned.choices_mask, strict=True)
    ]
    assert [[texts[i] for i in row] for row in turned.choice] == [["a box", "right of it"], ["left of it", "a box"]]
    assert plain.said is not None
    assert turned.said is not None
    left, right = (tokenizer.encode(word)[0] for word in ("left", "right"))
    assert plain.said[0, [left, right]].tolist() == [1, 0]
    assert turned.said[0, [left, right]].tolist() == [0, 1]
    half = [asked.batch(np.arange(2), mirror=0.5).words[0].tolist() for _ in range(20)]
    assert {tuple(each) for each in half} == {tuple(plain.words[0].tolist()), tuple(turned.words[0].tolist())}


def test_a_mirror_needs_both_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coloured(tmp_path, ("red", "blue"))
    rows = [{"image": f"{i}.png", "question": "left?", "choices": ["yes", "no"], "answer": "yes"} for i in range(2)]
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "c.toml").write_text(f'{SMALL}data = "{tmp_path}"\nmirror = 0.5\n', encoding="utf-8")
    assert main(["train", str(tmp_path / "c.toml"), "--output", str(tmp_path / "x")]) == 1
    assert "of the two words train has left alone" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("candidates", ["apart", "together"])
def test_what_a_patch_is_called_answers_where_one_looks(candidates: Any, data: Path, run: Path) -> None:
    settings = Config(data=data, size=32, dim=16, tags=0.1, candidates=candidates, dropout=0.0)
    asked = few(data, settings, trained(run, "cpu").tokenizer)
    model = built_model(settings, vocabulary=asked.tokenizer.size, answers=0).eval()
    batch = asked.batch(np.arange(8), tags=True)
    before = model(batch)
    assert before.said is not None
    assert before.said.shape == (len(batch.images), asked.tokenizer.size)
    assert before.said.sigmoid().mean() < 0.1, "few words are said of a picture"
    with torch.no_grad():
        assert model.tagger is not None
        model.tagger.bias[asked.tokenizer.encode(asked.examples[0].choices[2])] += 100
    assert model(batch).scores[0].argmax() == 2


def test_tags_are_learned_beside_answers_and_by_no_arm_that_is_blind(experiment: Path, tmp_path: Path) -> None:
    words = [
        "--tags",
        "0.1",
        "--image-encoder",
        "nature_cnn_bn",
        "--size",
        "32",
        "--arms",
        "question_only",
        "no_attention",
    ]
    assert main(["train", str(experiment), *words, "--output", str(tmp_path)]) == 0
    for folder, tags in (
        (tmp_path, 0.1),
        (tmp_path / "arms" / "question_only", 0.0),
        (tmp_path / "arms" / "no_attention", 0.1),
    ):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        assert trained(folder, "cpu").settings.tags == tags
        assert any("tag_loss" in line for line in lines) == (tags > 0)
    assert main(["eval", str(tmp_path), "--probes"]) == 0
    assert main(["explain", str(tmp_path), "--split", "val"]) == 0


def test_open_answers_and_boxes_have_words_that_are_said_of_a_picture(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    coloured(tmp_path / "open", ("red", "blue"))
    rows = [{"image": f"{i}.png", "question": "what?", "answers": ["zebra"] * (1 + i)} for i in range(2)]
    for split in ("train", "val"):
        (tmp_path / "open" / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    boxes = pointing(tmp_path / "boxes")
    for data, word, other in ((tmp_path / "open", "zebra", "what"), (boxes, "red", "part")):
        file = tmp_path / "tags.toml"
        file.write_text(f'{SMALL}data = "{data}"\ntags = 0.1\n', encoding="utf-8")
        run = tmp_path / f"run-{data.name}"
        assert main(["train", str(file), "--steps", "2", "--output", str(run)]) == 0
        own = trained(run, "cpu")
        asked = answerable(own.settings, read_examples(data, None, "train"), own.tokenizer, own.vocabulary)
        said = asked.batch(np.arange(len(asked.examples)), tags=True).said
        assert said is not None
        assert (said[:, own.tokenizer.encode(word)[0]] == 1).all()
        assert (said[:, [own.tokenizer.unknown, own.tokenizer.pad]] == -1).all()
        assert (said[:, own.tokenizer.encode(other)[0]] == (-1 if word == "zebra" else 1)).all()


def test_a_transformers_text_model_reads_its_own_words(experiment: Path, tmp_path: Path, tiny_bert: Path) -> None:
    words = ["--text-encoder", f"hf:{tiny_bert}", "--steps", "2", "--output", str(tmp_path / "run")]
    assert main(["train", str(experiment), *words]) == 0
    own = trained(tmp_path / "run", "cpu")
    assert own.tokenizer.to_json() == Tokenizer.load(tiny_bert / "tokenizer.json").to_json()
    assert main(["eval", str(tmp_path / "run"), "--split", "val"]) == 0


def test_equal_scores_are_not_decided_by_the_place_of_the_right_choice() -> None:
    examples = [Example(str(i), "x", "which?", ("a", "b", "c", "d"), 0) for i in range(1000)]
    equal, better = np.zeros(4), np.array([0.0, 0.0, 1.0, 0.0])
    assert np.mean([chosen(example, equal) == 0 for example in examples]) == pytest.approx(0.25, abs=0.05)
    assert {chosen(example, better) for example in examples} == {2}
    assert [chosen(example, equal) for example in examples] == [chosen(example, equal) for example in examples]


def test_captions_that_differ_in_unknown_words_alone_are_guessed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = []
    for i in range(40):
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / f"{i}.png")
        rows.append({"filename": f"{i}.png", "caption": f"zzz{i}", "negative_caption": f"qqq{i}"})
    (tmp_path / "test.json").write_text(json.dumps(rows), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["eval", str(run), "--data", str(tmp_path), "--form", "own", "--output", str(out)]) == 0
    assert report.read(out / "report.json").metrics[0].value == pytest.approx(0.5, abs=0.25)


def test_questions_without_an_answer_are_answered_and_not_scored(run: Path, data: Path, tmp_path: Path) -> None:
    document = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    image, pair = next((image, pair) for image in document["images"] for pair in image["qa_pairs"])
    rows = [
        {"image": image["filename"], "question": pair["question"], "answer": pair["answer"]},
        {"image": image["filename"], "question": "what?"},
    ]
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "images").symlink_to(data / "images")
    file = tmp_path / "open.toml"
    file.write_text(f'{SMALL}data = "{tmp_path}"\n', encoding="utf-8")
    assert main(["train", str(file), "--steps", "2", "--output", str(tmp_path / "run")]) == 0
    assert main(["eval", str(tmp_path / "run"), "--split", "val", "--probes"]) == 0
    out = tmp_path / "run" / "eval" / "val"
    card = report.read(out / "report.json")
    assert card.items == 1
    assert "1 questions tell no answer, so they are answered and not scored" in card.notes
    assert len(json.loads((out / "predictions.json").read_text(encoding="utf-8"))) == 2


def test_open_answers_from_pixels_and_from_features(tmp_path: Path) -> None:
    colours = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}
    rows = []
    for i in range(12):
        name = list(colours)[i % 3]
        Image.new("RGB", (16, 16), colours[name]).save(tmp_path / f"{i}.png")
        np.save(tmp_path / f"{i}.npy", np.tile(np.eye(6, dtype=np.float32)[i % 3], (4, 1)))
        rows.append(f"{i}.png,What colour is it?,{name}\n")
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("image,question,answer\n" + "".join(rows), encoding="utf-8")
    file = tmp_path / "open.toml"
    file.write_text(f'{SMALL}data = "{tmp_path}"\n', encoding="utf-8")
    for name, more in (("pixels", []), ("features", ["--features", str(tmp_path)])):
        folder = tmp_path / name
        words = ["--steps", "60", "--evaluate-every", "60", "--learning-rate", "0.02", "--fusion", "attention"]
        assert main(["train", str(file), *words, *more, "--output", str(folder)]) == 0
        assert main(["eval", str(folder), "--split", "val", "--probes"]) == 0
        card = report.read(folder / "eval" / "val" / "report.json")
        assert card.metrics[0].value == 1.0, name
        assert any("was chosen on this very split" in note for note in card.notes)
        assert next(arm for arm in card.arms if arm.name == "answer prior").metrics[0].value == pytest.approx(1 / 3)
    assert json.loads((tmp_path / "pixels" / "eval" / "val" / "predictions.json").read_text(encoding="utf-8"))[0] == {
        "id": "0",
        "answer": "red",
    }


def pointing(folder: Path, count: int = 60) -> Path:
    """Pictures of four coloured quarters, and questions that point at one of them, in Visual7W's format."""
    colours = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250), "white": (250, 250, 250)}
    images, boxes = [], []
    (folder / "images").mkdir(parents=True)
    for i in range(count):
        order = torch.randperm(4, generator=torch.Generator().manual_seed(i)).tolist()
        picture = Image.new("RGB", (40, 20))
        for place, which in enumerate(order):
            x, y = place % 2 * 20, place // 2 * 10
            picture.paste(list(colours.values())[which], (x, y, x + 20, y + 10))
            boxes.append({"box_id": 4 * i + which, "name": "part", "x": x, "y": y, "width": 20, "height": 10})
        picture.save(folder / "images" / f"{i}.png")
        pairs = [
            {
                "qa_id": 4 * i + which,
                "question": f"Which part is {name}?",
                "answer": 4 * i + which,
                "multiple_choices": [4 * i + each for each in range(4) if each != which],
                "type": "which",
            }
            for which, name in enumerate(colours)
        ]
        images.append({"filename": f"{i}.png", "split": "train" if i % 2 else "val", "qa_pairs": pairs})
    document = {"dataset": "visual7w-pointing", "images": images, "boxes": boxes}
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_pointing_finds_the_part_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pointing(tmp_path / "data")
    file = tmp_path / "point.toml"
    text = SMALL
    for small, larger in (("size = 16", "size = 32"), ("dim = 16", "dim = 32"), ("image_dim = 8", "image_dim = 32")):
        text = text.replace(small, larger)
    file.write_text(f'{text}data = "{data}"\noutput = "{tmp_path / "run"}"\n', encoding="utf-8")
    words = ["--steps", "250", "--evaluate-every", "250", "--learning-rate", "0.003", "--fusion", "attention"]
    assert main(["train", str(file), *words]) == 0
    assert main(["eval", str(tmp_path / "run"), "--split", "val", "--probes"]) == 0
    out = tmp_path / "run" / "eval" / "val"
    card = report.read(out / "report.json")
    assert card.metrics[0].value > 0.8
    assert next(arm for arm in card.arms if arm.name == "no question").metrics[0].value < 0.5
    predictions = ["--predictions", str(out / "predictions.json"), "--dataset", str(data), "--split", "val"]
    assert main(["judge", "visual7w", *predictions]) == 0
    assert main(["explain", str(tmp_path / "run"), "--split", "val", "--examples", "1"]) == 0
    with pytest.raises(UserError, match="points at parts"):
        answer(trained(tmp_path / "run", "cpu"), None, data / "images" / "0.png", "Which part is red?", "a\nb")
    capsys.readouterr()
    np.save(tmp_path / "0.npy", np.ones((4, 2), np.float32))
    assert (
        main(["train", str(file), "--features", str(tmp_path), "--skip-missing", "--output", str(tmp_path / "x")]) == 1
    )
    assert "features" in capsys.readouterr().err


def test_a_box_that_is_not_there_is_told(tmp_path: Path) -> None:
    data = pointing(tmp_path / "data", count=2)
    document = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    for change, message in (
        ({"width": 0}, "0 by 10 pixels"),
        ({"x": "left"}, "expected box_id"),
        ({"box_id": 99}, "names the box 0"),
    ):
        changed = [box | change if box["box_id"] == 0 else box for box in document["boxes"]]
        (data / "dataset.json").write_text(json.dumps(document | {"boxes": changed}), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_examples(data, None, "val")


def test_what_is_within_a_box_is_weighed_by_its_overlap() -> None:
    grid = torch.arange(4.0).reshape(1, 4, 1)  # two rows of two
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 1.0, 0.5], [1.0, 1.0, 1.0, 1.0]]])
    found = within(grid, (2, 2), boxes)[0, :, 0].tolist()
    assert found == pytest.approx([0.0, 1.5, 2 / 3, 1.5], abs=1e-3)


def test_missing_and_damaged_pictures_stop_or_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    rows = "".join(f"{i}.png,What?,a|b,a\n" for i in range(6))
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text(f"image,question,choices,answer\n{rows}", encoding="utf-8")
    file = tmp_path / "own.toml"
    file.write_text(f'{SMALL}data = "{tmp_path}"\noutput = "{tmp_path / "run"}"\n', encoding="utf-8")
    assert main(["train", str(file)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "2 of 6 pictures" in told
    assert "skip_missing" in told
    assert main(["train", str(file), "--skip-missing"]) == 0
    assert main(["eval", str(tmp_path / "run")]) == 0
    notes = report.read(tmp_path / "run" / "eval" / "test" / "report.json").notes
    assert "2 questions whose picture is missing or damaged were left out" in notes


def test_explain_writes_a_page_and_a_sheet(run: Path, tmp_path: Path) -> None:
    assert main(["explain", str(run), "--examples", "2", "--output", str(tmp_path)]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 300
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert text.count("<section") == 4
    assert text.count("what its answer hangs on") == 4
    assert "look 2" in text
    assert "http" not in text, "one file that needs nothing else"


def test_questions_that_are_not_there_are_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(run), "--question", "none"]) == 1
    assert "has no question 'none'" in capsys.readouterr().err


def test_what_is_typed_is_answered_beside_what_is_said_without_looking(run: Path, tmp_path: Path) -> None:
    known, blind = trained(run, "cpu"), trained(run / "arms" / "question_only", "cpu")
    file = tmp_path / "cmyk.jpg"
    Image.new("CMYK", (40, 30), (0, 200, 200, 0)).save(file)
    found = answer(known, blind, file, " What  colour is it? ", "red\nblue\n\nred\n")
    assert set(found.chances) == {"red", "blue"}
    assert sum(found.chances.values()) == pytest.approx(1)
    assert "a model trained on questions alone" in found.told
    assert found.picture.shape[2] == 3
    assert len(answer(known, None, file, "What is a zyzzyva?").chances) == 5, "known choices where none are typed"
    assert "zyzzyva" in answer(known, None, file, "What is a zyzzyva").told


@pytest.mark.parametrize(
    ("question", "choices", "message"),
    [
        ("  ", "a\nb", "type a question"),
        ("x" * 50_000, "a\nb", "50000 letters"),
        ("What?", "a", "there is one choice"),
        ("What?", "\n".join(map(str, range(60))), "at most 50 choices"),
    ],
)
def test_what_cannot_be_asked_is_told(run: Path, tmp_path: Path, question: str, choices: str, message: str) -> None:
    file = tmp_path / "p.png"
    Image.new("RGB", (8, 8)).save(file)
    with pytest.raises(UserError, match=message):
        answer(trained(run, "cpu"), None, file, question, choices)
    with pytest.raises(UserError, match="choose or upload"):
        answer(trained(run, "cpu"), None, None, "What?", "a\nb")


def test_samples_do_not_tell_the_answer_by_its_place(run: Path) -> None:
    known = trained(run, "cpu")
    found = samples(known, "test")
    assert 1 < len(found) <= 13
    assert all(path.is_file() and list(choices) == sorted(choices) for path, _, choices in found)


def test_priors_say_what_was_right_most_often() -> None:
    train = [Example(str(i), "x", "what is it?", ("cat", "dog"), right=int(i > 2), answers=("y",)) for i in range(10)]
    train += [Example("q", "x", "who is it?", ("cat", "dog"), right=0, answers=("y",)) for _ in range(4)]
    asked = Example("t", "x", "who is it?", ("dog", "cat"), right=1)
    assert answer_prior(train[:10]).answer(asked) == "dog"
    assert question_prior(train).answer(asked) == "cat"
    assert question_prior(train).answer(replace(asked, text="what is it?")) == "dog"
    free = [Example(str(i), "x", "how many are there?", answers=("Two",)) for i in range(3)]
    assert question_prior(free).answer(Example("t", "x", "how many cats?")) == "2"


def test_each_question_meets_another_picture() -> None:
    rows = np.array([0, 0, 1, 2, 2, 5])
    other = exchanged(rows)
    assert (other != rows).all()
    assert len({(a, b) for a, b in zip(rows.tolist(), other.tolist(), strict=True)}) == 4


def test_calibration_and_consistency() -> None:
    sure, right = np.array([0.9] * 10 + [0.6] * 10), np.array([1.0] * 9 + [0.0] + [1.0] * 3 + [0.0] * 7)
    assert calibration_error(sure, right) == pytest.approx(0.5 * 0.0 + 0.5 * 0.3)
    assert calibration_error(np.ones(4), np.ones(4)) == 0
    assert consistency(["a", "a", "b", "b", "", ""], ["x", "x", "x", "y", "p", "q"]) == 0.5
    assert consistency(["", "a"], ["x", "y"]) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fusion", "stakced"], "expected one of"),
        (["--head", "choices", "--form", "easy-vqa"], "not every question"),
        (["--batch-size", "5", "--accumulate", "2"], "does not divide"),
        (["--features", "/nowhere", "--image-pretrained"], "features stand in the place"),
        (["--mirror", "2"], "mirror = 2.0, expected a share"),
        (["--mirror", "0.5", "--head", "open"], "leave it out for features and open answers"),
        (["--tags", "-1"], "tags = -1.0, expected a weight of 0 or more"),
        (["--tags", "0.1", "--blank", "image"], "tags are learned from pictures"),
    ],
)
def test_wrong_settings_are_told(
    words: list[str], message: str, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "easy-vqa" in words:
        words = [*words, "--data", str(installed_easy_vqa()), "--select-split", "test"]
    assert main(["train", str(experiment), "--output", str(tmp_path / "x"), *words]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.reference
def test_published_questions_on_real_pictures_run_end_to_end(reference: Path, tmp_path: Path) -> None:
    folder = reference / "vqa"
    for split in ("train", "val"):
        for what in ("questions", "annotations"):
            (tmp_path / f"{split}_{what}.json").write_bytes((folder / f"vqa2_{what}.json").read_bytes())
    file = tmp_path / "vqa.toml"
    file.write_text(f'{SMALL}data = "{tmp_path}"\nimages = "{folder / "images"}"\n', encoding="utf-8")
    words = ["--steps", "2", "--size", "32", "--output", str(tmp_path / "run")]
    assert main(["train", str(file), *words]) == 0
    assert main(["eval", str(tmp_path / "run"), "--split", "val", "--probes"]) == 0
    out = tmp_path / "run" / "eval" / "val"
    card = report.read(out / "report.json")
    assert card.items == 102
    judged = tmp_path / "judged.json"
    names = [
        "--questions",
        str(tmp_path / "val_questions.json"),
        "--annotations",
        str(tmp_path / "val_annotations.json"),
    ]
    assert main(["judge", "vqa", "--predictions", str(out / "predictions.json"), *names, "--output", str(judged)]) == 0
    mean = json.loads(judged.read_text(encoding="utf-8"))["accuracy"]["mean"]
    assert mean == pytest.approx(card.metrics[0].value)
