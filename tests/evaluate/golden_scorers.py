"""The goldens that travel with the tests, and how far a judge is from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from spin.evaluate.goldens import Goldens, Scores, batched, one_by_one
from spin.evaluate.scorer import Scorer

FOLDER = Path(__file__).parents[1] / "data" / "goldens"


@cache
def goldens() -> Goldens:
    return Goldens.open(FOLDER)


def deviation(scorer: Scorer, expected: Scores) -> float:
    """Largest absolute deviation over every picture x prompt pair, batched."""
    known = ~np.isnan(expected)
    return float(np.abs(batched(scorer, goldens())[known] - expected[known]).max())


def deviation_alone(scorer: Scorer, expected: Scores) -> float:
    """The same, one picture under one prompt at a time."""
    known = ~np.isnan(expected)
    return float(np.abs(one_by_one(scorer, goldens())[known] - expected[known]).max())
