"""Memory stays flat however many rows the data has.

Measured once with the same programs from 10 thousand to a million rows: judging +33 MiB, pairs +74 MiB; the floor is
100 MB. Before latents stayed on disk and rows in a ledger it was +1.5 GB and +8.4 GB. From 10 to 200 thousand a
fifth of it is seen, and the caches that 10 thousand rows do not fill.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.growth import growth_of, write_held_out_rows, write_pictures, write_stage

FEW, MANY = 10_000, 200_000
ALLOWED_MIB = 40


@pytest.mark.slow
def test_judging_two_hundred_thousand_rows_takes_the_memory_of_ten_thousand(tmp_path: Path) -> None:
    few, many = (write_pictures(tmp_path / str(rows), rows) for rows in (FEW, MANY))
    assert growth_of("judging", few, many).mib < ALLOWED_MIB


@pytest.mark.slow
def test_evaluating_the_held_out_tenth_of_two_hundred_thousand_takes_the_memory_of_ten_thousand(tmp_path: Path) -> None:
    few, many = (write_held_out_rows(tmp_path / str(rows), rows) for rows in (FEW, MANY))
    assert growth_of("evaluating", few, many).mib < ALLOWED_MIB


@pytest.mark.slow
def test_two_hundred_thousand_pairs_are_planned_and_read_in_the_memory_of_ten_thousand(tmp_path: Path) -> None:
    few, many = (write_stage(tmp_path / str(rows), rows) for rows in (FEW, MANY))
    assert growth_of("planning", few, many).mib < ALLOWED_MIB
    assert growth_of("pairs", few, many).mib < ALLOWED_MIB
