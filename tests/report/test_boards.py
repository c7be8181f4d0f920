from spin.report.boards import board, further_boards
from spin.report.reading import read_run


def test_each_benchmark_and_protocol_has_a_board_of_its_own(builder):
    builder.further = ("partiprompts.single", "partiprompts.best_of_n")
    builder.build()
    run = read_run(runs_root=builder.root, run=builder.name)
    found = [board(run, run.key), *further_boards(run)]
    assert [(each.benchmark, each.protocol) for each in found] == [
        ("test", "single"), ("partiprompts", "single"), ("partiprompts", "best_of_n"),
    ]  # fmt: skip
    # of five pictures the best is kept, so its mean is above that of the first pictures
    single, best = (next(row for row in each.rows if row.name == "base").cells[0].mean.value for each in found[1:])
    assert best > single


def test_old_runs_have_one_board(finished_run):
    run = read_run(runs_root=finished_run.root, run="miniature")
    assert (run.key, list(further_boards(run))) == ("test.single", [])


def test_a_story_does_not_read_the_further_evaluations(builder):
    builder.further = ("partiprompts.single",)
    builder.build()
    assert read_run(runs_root=builder.root, run=builder.name, further=False).further == ()


def test_evaluations_with_other_settings_share_no_table_though_benchmark_and_protocol_are_equal(builder):
    builder.stages, builder.further = ("base", "sft", "iteration-01"), ()
    builder.build()
    record = builder.record()
    stage = record["stages"][2]
    moved = builder.root / stage["evaluation"].replace(".0f3a", ".beef")
    (builder.root / stage["evaluation"]).rename(moved)
    stage["evaluation"] = stage["evaluation"].replace(".0f3a", ".beef")
    builder.write_record(record)
    run = read_run(runs_root=builder.root, run=builder.name)
    assert run.notices == ("evaluation of SPIN 1: test.single.beef has other settings than test.single.0f3a",)
    assert [bool(stage.evaluation.scores) for stage in run.stages] == [True, True, False]


def test_an_evaluation_of_another_protocol_is_kept_out_of_the_table_and_named(builder):
    builder.stages, builder.further = ("base", "sft"), ("test.best_of_n",)
    builder.build()
    record = builder.record()
    stage = record["stages"][1]
    stage["evaluation"] = stage["evaluations"]["test.best_of_n"]
    builder.write_record(record)
    run = read_run(runs_root=builder.root, run=builder.name)
    line = "evaluation of SFT: test.best_of_n.0f3a has other settings than test.single.0f3a"
    assert run.notices == (line,)
    assert not run.stages[1].evaluation.scores
