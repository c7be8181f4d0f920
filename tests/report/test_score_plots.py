import numpy as np
import pytest

from spin.report.boards import board
from spin.report.drawings import draw_all, images_used
from spin.report.reading import read_run
from spin.report.score_plots import histograms, judge_profiles, radar


def board_of(builder):
    run = read_run(runs_root=builder.root, run=builder.name)
    return run, board(run, run.key)


def test_profiles_are_means_in_standard_deviations_of_the_base(finished_run):
    _, found = board_of(finished_run)
    base, last = (finished_run.values(stage, "aesthetic") for stage in ("base", "iteration-03"))
    profiles = judge_profiles(found.subjects, ["aesthetic"])
    assert list(profiles) == ["base", "SFT", "SPIN 1", "SPIN 2", "SPIN 3"]
    assert profiles["base"]["aesthetic"] == pytest.approx(0)
    assert profiles["SPIN 3"]["aesthetic"] == pytest.approx((last.mean() - base.mean()) / base.std(ddof=1))


def test_two_judges_make_no_radar_and_three_do(builder, finished_run):
    _, three = board_of(finished_run)
    assert radar(three.subjects, three.columns).heading.startswith("Judges' means")
    builder.scorers = ("alignment", "aesthetic")
    builder.build()
    _, two = board_of(builder)
    assert radar(two.subjects, two.columns) is None


def test_histograms_are_of_judges_with_more_than_right_and_wrong(finished_run):
    _, found = board_of(finished_run)
    assert [plot.name for plot in histograms(found.subjects, found.columns)] == [
        "histogram-alignment", "histogram-aesthetic",
    ]  # fmt: skip


def test_images_add_up_along_the_line_of_models(finished_run):
    run, _ = board_of(finished_run)
    # SFT 360 steps of 32, then three iterations of 40 steps of 32
    assert images_used(run) == {
        "base": 0, "sft": 11520, "iteration-01": 12800, "iteration-02": 14080, "iteration-03": 15360,
    }  # fmt: skip


def test_a_model_trained_after_going_back_counts_its_own_ancestors_alone(builder):
    builder.build()
    record = builder.record()
    record["stages"][4]["opponent_digest"] = record["stages"][1]["digest"]
    builder.write_record(record)
    assert images_used(read_run(runs_root=builder.root, run=builder.name))["iteration-03"] == 11520 + 1280


def test_every_plot_has_a_name_of_its_own(finished_run):
    names = [plot.name for plot in draw_all(*board_of(finished_run))]
    assert len(names) == len(set(names)) > 20


def test_a_score_that_all_prompts_share_has_a_histogram(builder):
    builder.stages, builder.scorers = ("base", "sft"), ("aesthetic",)
    builder.build()
    for stage in ("data", "base", "sft"):
        builder.write_scores(stage, {"aesthetic": np.ones(16)})
    _, found = board_of(builder)
    assert len(histograms(found.subjects, found.columns)) == 1
