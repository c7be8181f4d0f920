from spin.core.layout import RunsRoot
from spin.report.reading import read_run
from spin.report.stages import stage_states, unfinished


def states_of(builder):
    return {s.label: s.state for s in stage_states(read_run(runs_root=builder.root, run=builder.name))}


def configured(builder, **config):
    record = builder.record()
    builder.write_record(record | {"config": record["config"] | config})


def test_a_finished_run_has_every_stage_done(finished_run):
    assert states_of(finished_run) == dict.fromkeys(("base", "SFT", "SPIN 1", "SPIN 2", "SPIN 3"), "done")


def test_stages_of_the_config_are_named_before_they_begin(builder):
    builder.stages = ("base",)
    builder.build()
    configured(builder, iterations=2, sft={"steps": 360})
    assert states_of(builder) == {"base": "done", "SFT": "not begun", "SPIN 1": "not begun", "SPIN 2": "not begun"}


def test_without_steps_there_is_no_supervised_stage(builder):
    builder.stages = ("base",)
    builder.build()
    configured(builder, iterations=1, sft={"steps": 0})
    assert list(states_of(builder)) == ["base", "SPIN 1"]


def test_a_trained_model_without_scores_is_not_done(builder):
    builder.build()
    record = builder.record()
    record["stages"][-1]["evaluation"] = None
    builder.write_record(record)
    assert states_of(builder)["SPIN 3"] == "not scored yet"
    assert unfinished(read_run(runs_root=builder.root, run=builder.name)) == (
        "This run is not finished: 2 of 3 iterations have been scored."
    )


def test_a_stage_that_is_training_tells_its_last_state(builder):
    builder.stages = ("base",)
    builder.build()
    configured(builder, iterations=1)
    states = RunsRoot(builder.root).run(builder.name).iteration(1).states
    states.mkdir(parents=True)
    for step in (40, 80):
        (states / f"step-{step:06d}.manifest.json").write_text("{}")
    assert states_of(builder)["SPIN 1"] == "in training, last state at step 80"


def test_a_stage_that_is_sampled_counts_its_shards(builder, sampled, world):
    builder.stages = ("base",)
    builder.build()
    configured(builder, iterations=1)
    stage = world.stage(builder.root / builder.name, shard_size=8)
    assert states_of(builder)["SPIN 1"] == "0 of 3 shards sampled"
    shard = stage.samples(1)
    shard.parent.mkdir()
    shard.with_name(f"{shard.name}.manifest.json").write_text("{}")
    assert states_of(builder)["SPIN 1"] == "1 of 3 shards sampled"
    stage.plan.write_text("{}")
    assert states_of(builder)["SPIN 1"] == "plan damaged"


def test_a_record_without_a_config_shows_what_was_recorded(builder):
    builder.stages = ("base", "iteration-01")
    builder.build()
    builder.write_record(builder.record() | {"config": {}})
    assert states_of(builder) == {"base": "done", "SPIN 1": "done"}


def test_iterations_on_labelled_losers_are_named_so_before_they_begin(builder):
    builder.stages = ("base",)
    builder.build()
    configured(builder, iterations=2, train={"losers": "labelled"})
    assert list(states_of(builder)) == ["base", "DPO 1", "DPO 2"]
