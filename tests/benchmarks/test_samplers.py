"""The table of samplers: the judges' values as they are, distance to the reference, time against the fastest."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.samplers import JUDGES, Drawn, scores, told


def drawn(*, level: float, seconds: float) -> Drawn:
    pictures = {name: np.full((2, 2, 3), level) for name in ("a", "b")}
    return Drawn(pictures, {judge: {"a": level, "b": level + 1} for judge in JUDGES}, seconds)


FOUND = {("ddim", 50): drawn(level=10.0, seconds=0.3), ("unipc", 20): drawn(level=20.0, seconds=0.1)}


def test_a_distance_is_the_root_mean_square_in_levels() -> None:
    reference = drawn(level=0.0, seconds=1.0)
    reference.pictures["b"][0, 0] = 18.0  # type: ignore[index]
    found = scores(FOUND, reference)
    # b: one of 4 pixels is 8 levels away, the others 10: sqrt((64 + 3 * 100) / 4) = sqrt(91)
    assert found["ddim-50", "distance"] == {"a": 10.0, "b": pytest.approx(91**0.5)}


def test_scores_are_the_judges_own_by_prompt() -> None:
    found = scores(FOUND, drawn(level=0.0, seconds=1.0))
    assert found["unipc-20", "alignment"] == {"a": 20.0, "b": 21.0}
    assert found.keys() == {(key, name) for key in ("ddim-50", "unipc-20") for name in (*JUDGES, "distance")}


def test_every_sampler_is_told_with_its_time_against_the_fastest() -> None:
    measured = told(FOUND)
    assert [(row.row, row.label, row.also) for row in measured.rows] == [
        ("ddim-50", "DDIM 50", ("300", "3.0")), ("unipc-20", "UniPC 20", ("100", "1.0")),
    ]  # fmt: skip
    assert {column.metric for column in measured.columns} == {*JUDGES, "distance"}
