"""Questions of every set's files as training reads them; what is wrong with a file is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlkit.errors import UserError
from vlkit.tasks.vqa.examples import Example, common_answers, found_form, read_examples, set_aside, soft_score


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def people(*answers: str) -> list[dict[str, Any]]:
    return [{"answer": each, "answer_id": i, "answer_confidence": "yes"} for i, each in enumerate(answers, start=1)]


def vqa(folder: Path, split: str = "val2014", *, lists: bool = False, choices: bool = False) -> Path:
    questions = [
        {"question_id": 420, "image_id": 42, "question": "Is it red?"}
        | ({"multiple_choices": ["no", "yes", "two"]} if choices else {}),
        {"question_id": 421, "image_id": 42, "question": "How many?"}
        | ({"multiple_choices": ["1", "2", "red"]} if choices else {}),
    ]
    annotations = [
        {"question_id": 421, "answers": people(*["two"] * 10), "question_type": "how many", "answer_type": "number"},
        {
            "question_id": 420,
            "answers": people(*["yes"] * 7, *["no"] * 3),
            "question_type": "is it",
            "answer_type": "yes/no",
        },
    ]
    write(folder / f"v2_{split}_questions.json", questions if lists else {"questions": questions})
    write(folder / f"v2_{split}_annotations.json", annotations if lists else {"annotations": annotations})
    return folder


@pytest.mark.parametrize("lists", [False, True])
def test_vqa_and_vqa_cp(tmp_path: Path, lists: bool) -> None:
    found = read_examples(vqa(tmp_path, lists=lists), None, "val2014")
    assert [example.id for example in found.examples] == ["420", "421"]
    first = found.examples[0]
    assert (first.image, first.text, first.type, first.kind) == ("42", "Is it red?", "is it", "yes/no")
    assert first.answers.count("yes") == 7
    assert [each.id for each in found.asked] == [420, 421], "in the questions' order"
    assert not found.multiple_choice


def test_vqa_with_choices_has_the_commonest_answer_right(tmp_path: Path) -> None:
    found = read_examples(vqa(tmp_path, choices=True), "vqa", "val2014")
    assert found.multiple_choice
    assert [example.right for example in found.examples] == [1, 1]


def test_a_split_that_keeps_its_answers_is_read_without(tmp_path: Path) -> None:
    write(tmp_path / "test_questions.json", {"questions": [{"question_id": 1, "image_id": 2, "question": "Why?"}]})
    found = read_examples(tmp_path, "vqa", "test")
    assert not found.examples[0].told
    assert not found.asked


def test_gqa(tmp_path: Path) -> None:
    entry = {
        "question": "What is it?",
        "imageId": "n1",
        "answer": "a dog",
        "types": {"structural": "query", "semantic": "cat"},
    }
    write(tmp_path / "val_balanced_questions.json", {"7": entry})
    assert found_form(tmp_path) == "gqa"
    (example,) = read_examples(tmp_path, None, "val").examples
    assert example == Example("7", "n1", "What is it?", answers=("a dog",), type="query", kind="cat")


def test_easy_vqa(tmp_path: Path) -> None:
    write(tmp_path / "train" / "questions.json", [["what color is the shape?", "blue", 0], ["is it red?", "no", 1]])
    (tmp_path / "train" / "images").mkdir()
    found = read_examples(tmp_path, None, "train")
    assert [(each.id, each.image, each.kind) for each in found.examples] == [
        ("train-0", "0", "colour"),
        ("train-1", "1", "yes/no"),
    ]
    assert found.images == tmp_path / "train" / "images"
    with pytest.raises(UserError, match="no split 'dev'.*train"):
        read_examples(tmp_path, "easy-vqa", "dev")


def test_the_installed_easy_vqa_is_read() -> None:
    found = read_examples(None, "easy-vqa", "test")
    assert len(found.examples) == 9673
    assert len({example.image for example in found.examples}) == 1000


def test_own_files_with_choices_and_without(tmp_path: Path) -> None:
    write(
        tmp_path / "train.csv",
        "id,image,question,choices,answer\na,x.png,Which?,red|blue,blue\nb,y.png,Which?,1|2|3,0\n",
    )
    write(tmp_path / "val.json", [{"image": 7, "question": "What?", "answers": ["A cat", "cat", "dog"]}])
    train = read_examples(tmp_path, None, "train")
    assert [(each.id, each.right, each.answers) for each in train.examples] == [("a", 1, ("blue",)), ("b", 0, ("1",))]
    assert train.multiple_choice
    (example,) = read_examples(tmp_path, None, "val").examples
    assert (example.id, example.image, example.answers) == ("0", "7", ("A cat", "cat", "dog"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([{"image": "x", "question": ""}], "question ''"),
        ([{"image": "x", "question": " "}], "expected a text"),
        ([{"question": "What?"}], "expected the name of a picture"),
        ([{"image": "x", "question": "What?", "answer": 3}], "answer 3"),
        (
            [{"id": 1, "image": "x", "question": "a?"}, {"id": 1, "image": "x", "question": "b?"}],
            "1 ids that come twice",
        ),
        ([{"image": "x", "question": "a?", "choices": ["red"], "answer": "red"}], "two texts or more"),
        ([{"image": "x", "question": "a?", "choices": ["red", "red"], "answer": "red"}], "choice red more than once"),
        ([{"image": "x", "question": "a?", "choices": ["red", "blue"], "answer": "green"}], "none of its choices"),
        ([], "holds no question"),
    ],
)
def test_what_is_wrong_with_own_files_is_told(tmp_path: Path, document: Any, message: str) -> None:
    write(tmp_path / "train.json", document)
    with pytest.raises(UserError, match=message):
        read_examples(tmp_path, "own", "train")


def test_a_cell_that_should_hold_choices_is_told(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("image,question,choices,answer\nx,a?,red|blue,red\ny,b?,,red\n")
    with pytest.raises(UserError, match=r"line 3 has choices \[''\]; expected two texts or more"):
        read_examples(tmp_path, "own", "train")


def test_files_of_the_wrong_form_are_told(tmp_path: Path) -> None:
    write(tmp_path / "dataset.json", [1])
    with pytest.raises(UserError, match="entry|images"):
        read_examples(tmp_path, "visual7w", "train")
    write(tmp_path / "dataset.json", {"images": [], "boxes": 5})
    with pytest.raises(UserError, match="has boxes 5; expected a list"):
        read_examples(tmp_path, "visual7w", "train")
    with pytest.raises(UserError, match="is a file, and questions of form vqa lie in a folder"):
        read_examples(tmp_path / "dataset.json", "vqa", "train")
    write(tmp_path / "easy" / "train" / "questions.json", [[" ", "red", 1]])
    with pytest.raises(UserError, match="entry 0 has question"):
        read_examples(tmp_path / "easy", "easy-vqa", "train")


def test_a_split_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a file with 'test' and 'questions'.*v2_val2014"):
        read_examples(vqa(tmp_path), "vqa", "test")
    with pytest.raises(UserError, match="there is no .*nowhere"):
        read_examples(tmp_path / "nowhere", None, "train")
    write(tmp_path / "own" / "val.csv", "question,image,answer\nWhat?,x,y\n")
    with pytest.raises(UserError, match=r"called train.csv or train.json; it has val.csv"):
        read_examples(tmp_path / "own", None, "train")


def test_questions_without_their_annotations_are_told(tmp_path: Path) -> None:
    vqa(tmp_path)
    write(tmp_path / "v2_val2014_annotations.json", {"annotations": []})
    with pytest.raises(UserError, match="no answers to 2 of the 2 questions"):
        read_examples(tmp_path, "vqa", "val2014")


def test_a_tenth_of_the_pictures_is_set_aside_whole(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,What?,{i % 3}\n{i}.png,Why?,x\n" for i in range(200))
    write(tmp_path / "train.csv", f"image,question,answer\n{rows}")
    examples = read_examples(tmp_path, None, "train")
    kept, aside = (set_aside(examples, aside=each) for each in (False, True))
    assert len(kept.examples) + len(aside.examples) == 400
    assert not {each.image for each in kept.examples} & {each.image for each in aside.examples}
    assert 20 <= len(aside.examples) <= 70


@pytest.mark.parametrize(
    ("count", "people_asked", "score"),
    [
        (0, 10, 0.0),
        (1, 10, 0.3),
        (2, 10, 0.6),
        (3, 10, 0.9),
        (4, 10, 1.0),
        (10, 10, 1.0),
        (1, 1, 1.0),
        (1, 3, 1.0),
        (0, 2, 0.0),
    ],
)
def test_an_answer_is_as_right_as_people_agree(count: int, people_asked: int, score: float) -> None:
    assert soft_score(count, people_asked) == pytest.approx(score)


def test_common_answers_are_normalised() -> None:
    examples = [Example("1", "x", "?", answers=("A dog.", "dog", "two")), Example("2", "x", "?", answers=("2",))]
    assert common_answers(examples, 5) == ("2", "dog")
    assert common_answers(examples, 1) == ("2",)
