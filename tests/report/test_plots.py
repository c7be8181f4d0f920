import numpy as np
import pytest

from spin.report.plots import noise_bins, noise_curves, relative_errors
from spin.report.reading import Training, read_run
from spin.report.training_plots import held_out_changes, running_mean, training_curves


def test_relative_error_by_noise_level_by_hand():
    start = {("a", 0): (100, 2.0), ("a", 1): (900, 4.0), ("b", 0): (100, 2.0)}
    later = {("a", 0): (100, 1.0), ("a", 1): (900, 5.0), ("b", 0): (100, 2.0), ("b", 1): (900, 9.0)}
    # t 100: (1 + 2) / (2 + 2) - 1 = -25 %;  t 900: 5 / 4 - 1 = +25 %; the draw only one side has is left out
    assert relative_errors(later, start) == [(100.0, pytest.approx(-25)), (900.0, pytest.approx(25))]


def test_many_timesteps_are_gathered_into_five_levels():
    bins = noise_bins(np.arange(100.0))
    assert [len(rows) for rows in bins] == [20] * 5
    assert bins[0].max() < bins[1].min()


def test_held_out_changes_are_relative_to_the_start_of_the_stage():
    held = {"step": [0, 0, 40, 40], "timestep": [100, 900, 100, 900], "error": [2.0, 4.0, 1.9, 4.4]}
    levels = held_out_changes(Training({}, held | {"error_start": [2.0, 4.0, 2.0, 4.0]}, None, None, None))
    assert levels[0] == (100.0, [(0, 0.0), (40, pytest.approx(-5))])
    assert levels[1] == (900.0, [(0, 0.0), (40, pytest.approx(10))])


def test_a_running_mean_keeps_length_and_shrinks_at_the_ends():
    assert running_mean(np.array([1.0, 2.0, 6.0]), 3).tolist() == [1.5, 3.0, 4.0]
    assert running_mean(np.array([1.0, np.nan, 3.0]), 3).tolist() == [1.0, 2.0, 3.0]


def test_training_shows_the_supervised_stage_apart_from_the_game(finished_run):
    groups = training_curves(read_run(runs_root=finished_run.root, run="miniature").stages)
    assert [(heading, len(plots)) for heading, plots in groups] == [
        ("Supervised stage", 3),
        ("Self-play iterations", 7),
    ]


def test_noise_curves_need_two_measured_models(builder):
    builder.stages = ("base",)
    builder.build()
    assert noise_curves(read_run(runs_root=builder.root, run="miniature").stages) is None
