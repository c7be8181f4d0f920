"""Which stages overlap, as the config says."""

from __future__ import annotations

import pytest

from flows.overlapping import trains_early
from spin.core.config import load_config

OVERLAP = ("execution.overlap=true", "execution.executor=workers")


@pytest.mark.parametrize(
    ("overrides", "early"),
    [
        (OVERLAP, True),
        (OVERLAP[:1], False),
        (OVERLAP[1:], False),
        ((*OVERLAP, "train.reference=stored"), False),
    ],
)
def test_a_training_begins_early_where_workers_draw_and_its_opponent_is_asked_as_it_goes(
    overrides: tuple[str, ...], early: bool
) -> None:
    assert trains_early(load_config("miniature", overrides=list(overrides))) is early
