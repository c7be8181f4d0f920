"""Tables of what was measured say what stands in it, and nothing of a speed whose output is another."""

from __future__ import annotations

from benchmarks.measuring import Check
from benchmarks.tables import number, short_table, table
from tests.benchmarks.test_measuring import measured


def test_a_row_tells_median_spread_rate_ratio_and_share() -> None:
    lines = table(measured())
    assert "| slow | 10 (8.4 to 11.6) | 0.1 | 1 | 0.4 | 10% |" in lines
    assert "| ours | 2 (2 to 2) | 0.5 | 5.00 [4.00, 6.00] | 2 | 50% |" in lines


def test_the_ceilings_stand_below_the_table() -> None:
    lines = table(measured())
    assert "- matmul bfloat16 4 TFLOP/s" in lines
    assert not any(line.startswith("| matmul") for line in lines)


def test_an_output_that_differs_takes_the_speed_away() -> None:
    lines = table(measured(checks=[Check("latents", 0.2, 0.1), Check("scores", 0.0, 0.1)]))
    assert "- latents: 2.0e-01, allowed 1e-01: DOES NOT HOLD, its speed does not count" in lines
    assert "- scores: 0.0e+00, allowed 1e-01" in lines


def test_other_work_is_told_at_the_ratio() -> None:
    assert any("[4.00, 6.00] noisy" in line for line in table(measured(load=[5.0])))


def test_the_short_table_has_ours_against_each_baseline() -> None:
    assert short_table([measured()])[2:] == ["| sampling | ours | 0.5 images a second | slow | 5.00 [4.00, 6.00] |"]


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0.012345, 12.345, 12345.6)] == ["0.0123", "12.3", "12,346"]
