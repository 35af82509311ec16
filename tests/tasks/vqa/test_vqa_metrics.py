"""VQA accuracy: rules by hand, and every real question beside a second implementation that goes answer by answer."""

import copy
import gzip
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlkit.tasks.vqa.data import read_annotations
from vlkit.tasks.vqa.metrics import Asked, Mode, accuracy, by_type, normalised

TEN = ("red",) * 2 + ("dark red",) * 3 + ("maroon",) * 5


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("Two", "2"),
        ("None", "0"),
        ("a  red   bus", "red bus"),
        ("The Beatles", "beatles"),
        ("yes!", "yes"),
        ("black-and-white", "black and white"),
        ("black - white", "black white"),
        ("1,000", "1000"),
        ("1,000 and/or 2", "1000 andor 2"),  # a comma between digits: every sign goes
        ("u.s.", "us"),
        ("3.5", "3.5"),
        ("3.", "3"),
        ("dont know", "don't know"),
        ("wouldnt've", "wouldn't've"),
        ("Im", "i'm"),
        ("  yes\n", "yes"),
        ("yes\tno", "yes no"),
        ("what? who", "what who"),
        ("", ""),
        ("a", ""),
    ],
)
def test_answers_are_compared_in_one_spelling(said: str, plain: str) -> None:
    assert normalised(said) == plain


def test_the_published_evaluator_slips_where_the_rules_do_not() -> None:
    assert normalised("im", "compat") == "im"
    assert normalised("im") == "i'm"
    assert normalised("somebody'd", "compat") == "somebodyd"
    assert normalised("somebody'd") == "somebody'd"
    assert normalised("x." * 40, "compat") == "x" * 32 + "x." * 8
    assert normalised("x." * 40) == "x" * 40


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("maroon", 1.0),
        ("dark red", (3 * 2 / 3 + 7 * 1) / 10),  # who is left out, of those who agree, leaves two
        ("red", (2 * 1 / 3 + 8 * 2 / 3) / 10),
        ("blue", 0.0),
        ("The Maroon.", 1.0),
    ],
)
def test_three_other_people_make_an_answer_right(said: str, score: float) -> None:
    for mode in ("fixed", "compat"):
        assert accuracy([said], [Asked(1, TEN, tuple(range(10)))], mode)[0] == pytest.approx(score)


def test_where_all_agree_the_published_evaluator_changes_no_spelling() -> None:
    all_say = Asked(1, ("2 dogs",) * 10, tuple(range(10)))
    assert accuracy(["two dogs"], [all_say], "compat")[0] == 0
    assert accuracy(["two dogs"], [all_say], "fixed")[0] == 1
    assert accuracy([" 2 dogs\n"], [all_say], "compat")[0] == 1


def test_people_with_one_number_are_left_out_together_in_compat() -> None:
    doubles = Asked(1, ("yes", "yes", "yes", "no"), (1, 1, 1, 2))
    assert accuracy(["yes"], [doubles], "compat")[0] == pytest.approx(1 / 4)
    assert accuracy(["yes"], [doubles], "fixed")[0] == pytest.approx((3 * 2 / 3 + 1) / 4)


def test_types_have_their_own_means() -> None:
    assert by_type(np.array([1.0, 0.0, 0.5]), ["b", "a", "b"]) == {"a": (0.0, 1), "b": (0.75, 2)}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 predictions for 0 questions"):
        accuracy(["yes"], [])
    with pytest.raises(ValueError, match="question 3 has no answers"):
        accuracy(["yes"], [Asked(3, ())])


@given(st.text(max_size=40))
def test_any_text_has_a_spelling_that_stays(said: str) -> None:
    once = normalised(said)
    assert once == once.strip()
    assert "  " not in once


# A second implementation, answer by answer over the file's own entries


def plainly(text: str, short_forms: dict[str, str], periods: int) -> str:
    signs = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]
    result = text
    for sign in signs:
        beside_space = (sign + " ") in text or (" " + sign) in text
        grouped = any(
            text[i] == "," and text[i - 1 : i].isdecimal() and text[i + 1 : i + 2].isdecimal() for i in range(len(text))
        )
        result = result.replace(sign, "") if beside_space or grouped else result.replace(sign, " ")
    kept, gone = "", 0
    for i, letter in enumerate(result):
        if letter == "." and not result[i + 1 : i + 2].isdecimal() and gone < periods:
            gone += 1
        else:
            kept += letter
    digits = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}
    digits |= {"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
    words = []
    for word in kept.lower().split():
        word = digits.get(word, word)
        if word not in ("a", "an", "the"):
            words.append(short_forms.get(word, word))
    return " ".join(words)


def scored(entry: dict[str, Any], said: str, mode: Mode) -> float:
    # The short forms that occur in the data; the whole table is tried above.
    short = {"dont": "don't", "cant": "can't", "its": "its", "isnt": "isn't", "doesnt": "doesn't", "wont": "won't"}
    short |= {"didnt": "didn't", "youre": "you're", "thats": "that's", "oclock": "o'clock", "arent": "aren't"}
    short |= {"whats": "what's", "theyre": "they're", "hes": "he's", "couldnt": "couldn't", "wasnt": "wasn't"}
    short |= {"im": "i'm", "ive": "i've"} if mode == "fixed" else {}
    periods = 32 if mode == "compat" else 10**9
    people = copy.deepcopy(entry["answers"])
    for person in people:
        person["answer"] = person["answer"].replace("\n", " ").replace("\t", " ").strip()
    said = said.replace("\n", " ").replace("\t", " ").strip()
    if mode == "fixed" or len({person["answer"] for person in people}) > 1:
        for person in people:
            person["answer"] = plainly(person["answer"], short, periods)
        said = plainly(said, short, periods)
    total = 0.0
    for i, person in enumerate(people):
        if mode == "compat":
            others = [other for other in people if other != person]
        else:
            others = people[:i] + people[i + 1 :]
        total += min(sum(other["answer"] == said for other in others) / 3, 1)
    return total / len(people)


@pytest.mark.reference
@pytest.mark.parametrize("mode", ["fixed", "compat"])
def test_every_real_question_agrees_with_a_second_implementation(mode: Mode) -> None:
    if "VLKIT_REFERENCE" not in os.environ:
        pytest.skip("VLKIT_REFERENCE is not set")
    file = Path(os.environ["VLKIT_REFERENCE"]) / "vqa" / "vqa_annotatons_valid.gzip"
    entries = json.loads(gzip.decompress(file.read_bytes()))["annotations"]
    asked = read_annotations(file)
    assert len(entries) == len(asked) == 8977
    draw = random.Random(0)
    every = [person["answer"] for entry in entries for person in entry["answers"]]
    said = []
    for entry in entries:
        answer = draw.choice(entry["answers"])["answer"] if draw.random() < 0.8 else draw.choice(every)
        said.append(draw.choice([answer, answer.upper(), f"the {answer}.", f" {answer}\n", re.sub(" ", "  ", answer)]))
    found = accuracy(said, [asked[entry["question_id"]] for entry in entries], mode)
    expected = np.array([scored(entry, answer, mode) for entry, answer in zip(entries, said, strict=True)])
    assert 0.3 < expected.mean() < 0.95
    assert np.abs(found - expected).max() < 1e-12
