"""What questions and answers say of a picture."""

import pytest

from vlkit.envs.house.dialogs import NO, NOTHING
from vlkit.envs.house.questions import NUMBERS
from vlkit.tags import words_of

DENIALS = (
    *NO,
    *NOTHING,
    NUMBERS[0],
    "No, but there is a sofa",
    "0",
    "I don't see any",
    "there isn't",
    "I can not tell",
)


@pytest.mark.parametrize("text", DENIALS)
def test_a_question_that_is_denied_says_nothing_of_a_picture(text: str) -> None:
    assert list(words_of([1, 2], [3], text)) == [3]


@pytest.mark.parametrize("text", ["yes", "a red one", "north", "notebook", "one", "there is one", "it is white", "02"])
def test_a_question_that_is_answered_says_what_it_is_about(text: str) -> None:
    assert list(words_of([1, 2], [3], text)) == [1, 2, 3]
