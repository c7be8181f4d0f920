from __future__ import annotations

import pytest

from spin.core.labels import iteration_label


@pytest.mark.parametrize(
    ("number", "labelled", "iterations", "label"),
    [
        (1, False, 1, "SPIN 1"),
        (3, False, 3, "SPIN 3"),
        (1, True, 1, "DPO"),
        (1, True, 2, "DPO 1"),
        (2, True, 2, "DPO 2"),
    ],
)
def test_an_iteration_is_called_after_what_it_learns_from(
    number: int, labelled: bool, iterations: int, label: str
) -> None:
    assert iteration_label(number, labelled=labelled, iterations=iterations) == label
