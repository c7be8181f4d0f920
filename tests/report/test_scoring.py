"""Numbers of the table against numbers worked by hand or straight from the scores that were written."""

import numpy as np
import pytest

from spin.core import schema
from spin.core.statistics import paired_difference
from spin.report.reading import read_run
from spin.report.scoring import convergence, score_rows
from tests.report.conftest import commit_rows


def rows_of(builder):
    return score_rows(read_run(runs_root=builder.root, run=builder.name))


def cell(rows, label, metric):
    row = next(row for row in rows if row.label == label)
    return next(cell for cell in row.cells if cell.column.metric == metric)


def compared(rows, label, metric, against):
    return next(c for c in cell(rows, label, metric).comparisons if c.against == against)


def test_the_real_images_come_first_and_models_follow_in_order(finished_run):
    assert [row.label for row in rows_of(finished_run)] == ["data", "base", "SFT", "SPIN 1", "SPIN 2", "SPIN 3"]


def test_columns_stand_in_a_fixed_order_and_know_their_direction(finished_run):
    columns = [cell.column for cell in rows_of(finished_run)[0].cells]
    assert [column.metric for column in columns] == [
        "alignment", "aesthetic", "attributes", "average", "z_average", "frechet", "diversity", "denoising",
    ]  # fmt: skip
    assert [column.metric for column in columns if column.kind == "judge"] == ["alignment", "aesthetic", "attributes"]
    assert [column.metric for column in columns if column.lower_is_better] == ["frechet", "denoising"]


def test_means_and_medians_are_those_of_the_scores(finished_run):
    values = finished_run.values("sft", "aesthetic")
    found = cell(rows_of(finished_run), "SFT", "aesthetic")
    assert found.mean.value == pytest.approx(values.mean())
    assert found.median == pytest.approx(np.median(values))
    assert found.mean.low < found.mean.value < found.mean.high


def test_a_difference_by_hand(builder):
    # base 1..16, SFT one more on every prompt: +1 [1, 1], all won
    builder.stages = ("base", "sft")
    builder.build()
    scores = np.arange(1.0, 17.0)
    builder.write_scores("base", {"alignment": scores})
    builder.write_scores("sft", {"alignment": scores + 1})
    found = compared(rows_of(builder), "SFT", "alignment", "base")
    assert (found.difference.value, found.difference.low, found.difference.high) == (1.0, 1.0, 1.0)
    assert (found.wins.wins, found.wins.ties, found.wins.losses, found.wins.share.value) == (16, 0, 0, 1.0)


def test_differences_are_paired_against_base_previous_and_start(finished_run):
    rows = rows_of(finished_run)
    for against, stage in (("base", "base"), ("previous", "iteration-02"), ("start", "sft")):
        expected = finished_run.values("iteration-03", "alignment") - finished_run.values(stage, "alignment")
        assert compared(rows, "SPIN 3", "alignment", against).difference.value == pytest.approx(expected.mean())


def test_the_base_and_the_real_images_are_compared_with_nobody(finished_run):
    rows = rows_of(finished_run)
    assert cell(rows, "base", "alignment").comparisons == cell(rows, "data", "alignment").comparisons == ()


def test_win_rates_count_prompts(finished_run):
    a, b = finished_run.values("iteration-03", "attributes"), finished_run.values("base", "attributes")
    wins = compared(rows_of(finished_run), "SPIN 3", "attributes", "base").wins
    assert (wins.wins, wins.ties, wins.losses) == ((a > b).sum(), (a == b).sum(), (a < b).sum())
    assert wins.ties > 0
    assert wins.share.value == pytest.approx(((a > b).sum() + (a == b).sum() / 2) / len(a))


def test_the_best_of_a_column_is_a_model_and_follows_the_direction(finished_run):
    rows = rows_of(finished_run)
    best = {cell.column.metric: row.label for row in rows for cell in row.cells if cell.best}
    assert best["frechet"] == "SPIN 3"  # 13.1; the real images' 1.2 take no part
    assert best["denoising"] == "SFT"


def test_numbers_of_a_whole_set_have_no_interval_and_no_comparison(finished_run):
    found = cell(rows_of(finished_run), "SPIN 1", "frechet")
    assert found.mean.low == found.mean.high == found.mean.value == 15.5
    assert found.comparisons == ()
    assert found.median is None


def test_scores_that_are_not_finite_are_left_out(builder):
    builder.stages = ("base", "sft")
    builder.build()
    scores = np.arange(16.0)
    scores[3] = np.nan
    builder.write_scores("sft", {"alignment": scores})
    found = cell(rows_of(builder), "SFT", "alignment")
    assert found.mean.value == pytest.approx((120 - 3) / 15)
    assert found.comparisons[0].missing == 1
    assert found.comparisons[0].wins.prompts == found.comparisons[0].size.prompts == 15


def test_convergence_pairs_the_same_draws_with_the_opponent(finished_run):
    run = read_run(runs_root=finished_run.root, run="miniature")
    stage, opponent = run.stages[3], run.stages[2]
    label, level, comparison = convergence(run, stage)
    mine = np.array([stage.evaluation.denoising[draw][1] for draw in sorted(stage.evaluation.denoising)])
    theirs = np.array([opponent.evaluation.denoising[draw][1] for draw in sorted(opponent.evaluation.denoising)])
    assert label == "SPIN 1" or opponent.label == label
    assert level == pytest.approx(theirs.mean())
    assert comparison.difference.value == pytest.approx((mine - theirs).mean())


def test_convergence_needs_both_models_measured(builder):
    builder.build()
    builder.evaluation("sft").denoising(0).unlink()
    run = read_run(runs_root=builder.root, run="miniature")
    assert convergence(run, run.stages[2]) is None
    assert convergence(run, run.stages[0]) is None


def test_intervals_do_not_depend_on_the_order_of_rows(builder):
    builder.stages = ("base", "sft")
    builder.build()
    before = compared(rows_of(builder), "SFT", "alignment", "base")
    shuffled = list(reversed(builder.prompt_ids))
    values = builder.values("sft", "alignment")[::-1]
    rows = [
        builder.score_row(builder.prompt_ids.index(p), "alignment", v) for p, v in zip(shuffled, values, strict=True)
    ]
    commit_rows(builder.evaluation("sft").scores(0), schema.SCORES, rows, "scores")
    assert compared(rows_of(builder), "SFT", "alignment", "base") == before


def test_the_interval_is_the_bootstrap_of_the_written_scores(finished_run):
    # Another seed moves the ends a little, not the picture.
    a, b = finished_run.values("iteration-03", "aesthetic"), finished_run.values("sft", "aesthetic")
    expected = paired_difference(a, b, seed=99)
    found = compared(rows_of(finished_run), "SPIN 3", "aesthetic", "start").difference
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_diversity_is_asked_of_the_few_prompts_that_have_it(builder):
    builder.stages = ("base", "sft")
    builder.build()
    for stage, value in (("base", 0.5), ("sft", 0.4)):
        rows = [builder.score_row(i, "alignment", builder.values(stage, "alignment")[i]) for i in range(16)]
        rows += [builder.score_row(i, "diversity", value + i / 100) for i in range(4)]
        commit_rows(builder.evaluation(stage).scores(0), schema.SCORES, rows, "scores")
    found = cell(rows_of(builder), "SFT", "diversity")
    assert (found.column.kind, found.column.per_prompt) == ("measure", True)
    assert found.comparisons[0].difference.value == pytest.approx(-0.1)
    assert (found.comparisons[0].size.prompts, found.comparisons[0].missing) == (4, 0)
    assert found.mean.value == pytest.approx(0.415)  # of the prompts, not the 9.3 of the whole set


def test_prompts_without_real_images_have_no_row_for_them(builder):
    builder.stages = ("base",)
    builder.build()
    builder.write_record(builder.record() | {"data": {"label": "data", "evaluation": None}})
    assert [row.label for row in rows_of(builder)] == ["base"]
