import pytest

from spin.core import store
from spin.report.costs import PAPER, cost_table
from spin.report.reading import read_run


def costs(builder):
    return cost_table(read_run(runs_root=builder.root, run=builder.name))


def test_seconds_for_2048_by_hand(finished_run):
    game, supervised = costs(finished_run)[:2]
    # three iterations: 384 images in 8 s and 1280 pairs in 7 s each
    assert game.label == "this run: SPIN, 3 iterations"
    assert game.sampling_seconds == pytest.approx(2048 * 8 / 384)
    assert game.training_seconds == pytest.approx(2048 * 7 / 1280)
    assert (game.sampling_hours, game.training_hours) == pytest.approx((8 / 3600, 7 / 3600))
    assert game.device_hours == pytest.approx(3 * (8 + 7) / 3600)
    assert game.labels == 0
    assert (supervised.label, supervised.sampling_seconds) == ("this run: SFT", None)
    assert supervised.device_hours == pytest.approx(7 / 3600)


def test_the_papers_rows_follow_in_the_rebuttals_layout(finished_run):
    assert costs(finished_run)[2:] == PAPER
    assert [row.sampling_seconds for row in PAPER] == [342, 136, 56, None]
    # 8 x 146 h and 8 x 38 h of A100
    assert [row.device_hours for row in PAPER] == [1168, None, 304, 160]
    # 0.92 M images an iteration: 920 000 / 2048 * 342 s = 42.7 h
    assert 920_000 / 2048 * PAPER[0].sampling_seconds / 3600 == pytest.approx(PAPER[0].sampling_hours, abs=0.5)


def test_each_process_of_a_training_costs_its_own_seconds(builder):
    builder.stages = ("base", "iteration-01")
    builder.build()
    record, checkpoint = builder.record(), builder.root / "miniature" / "weights"
    store.commit(checkpoint, lambda path: path.write_text("x"), kind="checkpoint", environment=lambda: {"processes": 4})
    record["stages"][1]["checkpoint"] = "miniature/weights"
    builder.write_record(record)
    game = costs(builder)[0]
    assert game.device_hours == pytest.approx((8 + 4 * 7) / 3600)
    assert game.label == "this run: SPIN, 1 iteration"


def test_diffusion_dpo_needs_a_label_for_every_pair(builder):
    builder.stages = ("base", "iteration-01")
    builder.build()
    record = builder.record()
    record["config"]["train"]["objective"] = "dpo"
    builder.write_record(record)
    assert (costs(builder)[0].label, costs(builder)[0].labels) == ("this run: Diffusion-DPO, 1 iteration", 384)


def test_a_run_without_recorded_time_has_no_cost_table(builder):
    builder.write_bare_record()
    assert costs(builder) == ()
