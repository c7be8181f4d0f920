"""The numbers of a comparison, each worked by hand."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from spin.core.recipe import AVERAGE
from spin.report.results.study import Study
from tests.report.results.written import CHOSEN, ROWS, SCORES, write


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(write(tmp_path))


def test_an_arms_name_is_its_last_model(study: Study) -> None:
    assert study.row("spin") == study.row("spin/iteration-02")
    assert study.row("base") is study.rows[0]
    assert study.row("dpo") is None


def test_the_mean_is_over_seeds_and_prompts_with_the_spread_over_seeds(study: Study) -> None:
    # seed 0: 55, seed 1: 45; sd with one degree of freedom: 10 / sqrt 2
    assert study.mean("spin/iteration-02", "aesthetic") == (50.0, pytest.approx(7.0711, abs=1e-4))
    assert study.mean("base", "aesthetic") == (25.0, 0.0)
    assert study.mean("base", "beauty") is None


def test_the_median_is_the_mean_over_seeds_of_the_median_over_prompts(study: Study) -> None:
    assert study.median("spin/iteration-02", "aesthetic") == 50.0  # 55 and 45
    assert study.median("spin/iteration-02", "alignment") == 4.5


def test_the_average_is_of_z_scores_against_the_base(study: Study) -> None:
    # alignment: mean 2.5, sd 1.29099; aesthetic: mean 25, sd 12.9099. SFT: 4.5 and 35: z 1.5492 and 0.7746
    found = study.mean("sft/sft", AVERAGE)
    assert found is not None
    assert found[0] == pytest.approx((1.5492 + 0.7746) / 2, abs=1e-4)
    assert study.mean("base", AVERAGE) == (pytest.approx(0.0, abs=1e-12), 0.0)


def test_only_the_judges_that_the_recipe_named_are_averaged(study: Study) -> None:
    assert study.averaged == ("alignment", "aesthetic")
    assert study.judges == ("alignment", "aesthetic", "attributes")


def test_a_difference_is_paired_over_prompts_and_seeds(study: Study) -> None:
    found = study.difference("spin", "sft/sft", "aesthetic")
    assert found is None  # an arm is not a row
    found = study.difference("spin/iteration-02", "sft/sft", "aesthetic")
    assert found is not None
    # 20 for seed 0 and 10 for seed 1 on every prompt: the prompts agree, so the interval is a point
    assert (found.estimate.value, found.estimate.low, found.estimate.high) == (15.0, 15.0, 15.0)
    assert found.by_seed == (20.0, 10.0)
    assert (found.largest, found.prompts) == (20.0, 4)


def test_every_seed_has_its_own_difference(study: Study) -> None:
    found = study.difference("spin/iteration-02", "sft/sft", "alignment")
    assert found is not None
    assert found.by_seed == (0.25, -0.25)
    assert (found.estimate.value, found.largest) == (0.0, 1.0)


def test_a_row_against_itself_is_zero(study: Study) -> None:
    found = study.difference("sft/sft", "sft/sft", AVERAGE)
    assert found is not None
    assert (found.estimate.value, found.estimate.low, found.estimate.high) == (0.0, 0.0, 0.0)


def test_a_tie_is_half_a_win(study: Study) -> None:
    # alignment of SPIN 2 over SFT: seed 0 ties, ties, ties, wins; seed 1 ties, ties, ties, loses
    found = study.wins("spin/iteration-02", "sft/sft", "alignment")
    assert found is not None
    assert found.value == 0.5
    assert study.wins("spin/iteration-02", "sft/sft", "aesthetic").value == 1.0  # type: ignore[union-attr]


def test_a_seed_that_is_missing_leaves_the_others(tmp_path: Path) -> None:
    scores = copy.deepcopy(SCORES)
    for metric in scores["spin/iteration-02"].values():
        del metric[1]
    study = Study(write(tmp_path, scores))
    found = study.difference("spin/iteration-02", "sft/sft", "aesthetic")
    assert found is not None
    assert found.by_seed == (20.0,)
    assert study.mean("spin/iteration-02", "aesthetic") == (55.0, 0.0)


def test_numbers_of_the_set_come_from_the_facts(study: Study) -> None:
    base, sft, *_ = study.rows
    assert study.set_metric(base, "frechet") == (9.0, 0.0)
    assert study.set_metric(sft, "frechet") == (3.0, 0.0)
    assert study.set_metric(sft, "fid") is None


def test_what_a_row_took_holds_all_that_came_before_it(study: Study) -> None:
    first, last = study.rows[2:]
    assert study.spent(first) == {
        "images": 40.0, "sampled": 8.0, "train_seconds": 2.0, "sample_seconds": 0.5, "peak_bytes": 50 * 2.0**20,
    }  # fmt: skip
    assert study.spent(last)["images"] == 64.0  # type: ignore[index]
    assert study.spent(study.rows[0]) is None


def test_what_was_chosen_cost_all_that_was_played(tmp_path: Path) -> None:
    study = Study(write(tmp_path, rows=(*ROWS, CHOSEN)))
    chosen = study.rows[-1]
    assert [stage.stage for stage in study.stages(chosen)] == ["iteration-01", "iteration-02"]  # seed by seed
    assert study.spent(chosen) == study.spent(study.rows[3])
