"""Prompts of the test must not be captions of the training."""

from __future__ import annotations

import pytest

from spin.core.errors import DataError
from spin.core.leaks import plain, refuse_leaks


def test_other_prompts_pass() -> None:
    refuse_leaks(["a red circle"], ["a blue circle"], benchmark="test")


@pytest.mark.parametrize("copy", ["a red circle", "A  Red circle ", "a red\u00a0circle"])
def test_a_training_caption_among_the_prompts_is_refused(copy: str) -> None:
    with pytest.raises(DataError, match=r"prompts leak from training into the test: .* take these rows out"):
        refuse_leaks(["a red circle"], ["a blue circle", copy], benchmark="test")


def test_the_number_of_leaks_is_told() -> None:
    with pytest.raises(DataError, match="'a' and 1 more stand in the training rows too"):
        refuse_leaks(["a", "b"], ["a", "b", "c"], benchmark="mine.txt")


def test_full_width_letters_are_the_same_words() -> None:
    assert plain("\uff32ed  circle") == "red circle"
