"""A plot is drawn where its numbers are."""

from __future__ import annotations

from pathlib import Path

from spin.report.results.plots import drawings
from spin.report.results.study import Study
from tests.report.results.written import CHOSEN, ROWS, SCORES, write


def test_every_plot_of_the_recipe_is_drawn_once(tmp_path: Path) -> None:
    made = drawings(Study(write(tmp_path)))
    assert [drawing.name for drawing in made] == ["mine-progress", "mine-bars", "mine-cost"]
    assert made[1].heading == "Side by side"


def test_bars_name_their_rows_and_lines_their_arms(tmp_path: Path) -> None:
    progress, bars, cost = drawings(Study(write(tmp_path)))
    assert "SPIN, iteration 1" in bars
    assert "training images" in progress
    assert "device seconds" in cost
    assert "SFT" not in cost


def test_a_metric_that_nobody_measured_has_no_plot(tmp_path: Path) -> None:
    scores = {row: {"alignment": metrics["alignment"]} for row, metrics in SCORES.items()}
    assert [drawing.name for drawing in drawings(Study(write(tmp_path, scores)))] == ["mine-progress", "mine-cost"]


def test_what_other_prompts_chose_is_no_further_point_of_a_line(tmp_path: Path) -> None:
    scores = {**SCORES, CHOSEN.row: SCORES["spin/iteration-02"]}
    plain, with_choice = (
        drawings(Study(write(tmp_path / name, values, rows=rows)))
        for name, values, rows in (("a", SCORES, ROWS), ("b", scores, (*ROWS, CHOSEN)))
    )
    assert with_choice[0] == plain[0]
    assert "chosen on validation" in with_choice[1]
