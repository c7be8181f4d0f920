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


def test_an_evaluation_of_another_protocol_is_kept_out_of_the_table_and_named(builder):
    builder.stages, builder.further = ("base", "sft"), ("test.best_of_n",)
    builder.build()
    record = builder.record()
    stage = record["stages"][1]
    stage["evaluation"] = stage["evaluations"]["test.best_of_n"]
    builder.write_record(record)
    run = read_run(runs_root=builder.root, run=builder.name)
    assert run.notices == ("evaluation of SFT: test.best_of_n is not test.single",)
    assert not run.stages[1].evaluation.scores
