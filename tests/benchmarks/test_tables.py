"""Tables of what was measured say what stands in it, and nothing of a speed whose output is another."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.measuring import Check, Timed
from benchmarks.tables import compile_table, number, short_table, table
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


def test_what_compiling_takes_stands_with_the_units_that_pay_for_it() -> None:
    first, eager = Timed("N2", 8, 0.0, [4.0, 4.0], first_seconds=54.0, compiled=True), "N2, not compiled"
    for seconds, paid in (([8.0, 8.0], "100"), ([3.0, 3.0], "never")):
        found = replace(measured(), timed=[first, Timed(eager, 8, 0.0, seconds)])
        assert compile_table(found)[2] == f"| N2 | 50 | {paid} |"
    assert compile_table(replace(measured(), timed=[first]))[2] == "| N2 | 50 |  |"
    assert compile_table(measured()) == []


def test_the_short_table_has_ours_against_each_baseline() -> None:
    assert short_table([measured()])[2:] == ["| sampling | ours | 0.5 image/s | slow | 5.00 [4.00, 6.00] |"]


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0.012345, 12.345, 12345.6)] == ["0.0123", "12.3", "12,346"]
