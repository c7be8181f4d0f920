"""The tasks of a run, in order, with their counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spin.core.config import Config, load_config
from spin.core.outline import Rows, Task, benchmarks_of, looked_at_pictures, outline

PAPER_ROWS = Rows(train=920_000, all=929_293, prompts=None, told="")


def tasks(config: Config, rows: Rows = PAPER_ROWS, pictures: int = 7) -> list[Task]:
    return outline(config, rows=rows, pictures=pictures)


def paper(*overrides: str) -> Config:
    return load_config("sd15-paper", overrides=["data.path=/winners", *overrides])


def counts(found: list[Task], kind: str) -> list[int]:
    return [task.count for task in found if task.kind == kind]


def test_the_papers_run_draws_what_it_reads_and_at_most_one_image_of_each_row() -> None:
    found = tasks(paper())
    assert counts(found, "sample") == [102_400, 920_000, 409_600]
    assert counts(found, "train") == [50 * 2048, 500 * 2048, 200 * 2048]
    assert [task.work for task in found if task.kind in ("plan", "sample", "train")][:3] == [
        "102,400 images of 920,000 rows", "102,400 images in 200 shards", "50 steps x 2,048 pairs",
    ]  # fmt: skip


def test_where_nobody_knows_the_rows_an_image_is_drawn_for_each_reading() -> None:
    unknown = tasks(paper(), Rows(None, None, None, ""))
    assert counts(unknown, "sample") == [102_400, 1_024_000, 409_600]
    assert unknown[0].work == "the data's pictures and their captions, encoded once"
    assert unknown[2].work == "102,400 images"


def test_every_task_waits_for_one_that_stands_before_it() -> None:
    for config in (paper(), load_config("miniature"), load_config("sd15-fast", overrides=["data.path=x"])):
        found = tasks(config)
        names = [task.name for task in found]
        assert len(set(names)) == len(names)
        assert found[0].after == ""
        assert all(task.after in names[:place] for place, task in enumerate(found) if place)


def test_a_round_is_planned_sampled_trained_evaluated_and_passes_its_gate() -> None:
    found = tasks(paper("gate.mode=person", "gate.limit_hours=12"))
    assert [task.kind for task in found if task.stage == "iteration-02"] == [
        "plan", "sample", "train", "evaluate", "gate",
    ]  # fmt: skip
    gate = next(task for task in found if task.name == "iteration-01 gate")
    assert (gate.after, gate.work) == ("iteration-01 evaluate", "a person has 12 hours")
    assert next(task for task in found if task.name == "iteration-02 plan").after == gate.name


def test_labelled_losers_are_encoded_in_place_of_sampling() -> None:
    found = tasks(load_config("dpo", overrides=["data.path=x"]))
    assert counts(found, "sample") == counts(found, "plan") == []
    assert found[0].count == 929_293 + 920_000
    assert next(task for task in found if task.kind == "train").after == "base evaluate"


def test_train_pictures_are_encoded_a_second_time_where_training_flips() -> None:
    supervised = load_config("sft", overrides=["data.path=x", "train.flip=true"])
    first = tasks(supervised)[0]
    assert first.count == 929_293 + 920_000
    assert first.work == "1,849,293 pictures and their captions, encoded once, train pictures also mirrored"
    labelled = tasks(load_config("dpo", overrides=["data.path=x", "train.flip=true"]))[0]
    assert labelled.count == 929_293 + 3 * 920_000


def test_a_checker_sees_every_picture_of_the_source_once() -> None:
    def looked_at(preset: str, *overrides: str, source: int | None = None) -> int:
        config = load_config(preset, overrides=["data.path=x", *overrides])
        return looked_at_pictures(config, replace(PAPER_ROWS, source=source))

    assert looked_at("sd15-paper") == 0
    assert looked_at("sd15-paper", "safety.real=flag", "train.flip=true", source=959_040) == 959_040
    assert looked_at("dpo", "safety.real=drop") == 2 * 929_293  # winners and losers, held-out ones too
    assert looked_at_pictures(paper("safety.real=flag"), Rows(None, None, None, "")) == 0


def test_supervised_training_alone_ends_after_its_evaluation() -> None:
    found = tasks(load_config("sft", overrides=["data.path=x"]))
    assert [task.name for task in found] == [
        "data prepare", "base evaluate", "sft train", "sft evaluate", "run report",
    ]  # fmt: skip
    assert found[2].work == "2,000 steps x 512 images"


def test_several_time_steps_are_as_many_pairs_of_work() -> None:
    once, four = (counts(tasks(paper(f"train.timesteps_per_pair={k}")), "train") for k in (1, 4))
    assert four == [4 * count for count in once]


@pytest.mark.parametrize(("draws", "words"), [(1, "384 images of 384 rows"), (2, "768 images of 384 rows x 2")])
def test_draws_are_told(draws: int, words: str) -> None:
    small = Rows(384, 768, 768, "")
    found = tasks(load_config("miniature", overrides=[f"sampling.draws={draws}"]), small)
    assert next(task for task in found if task.kind == "plan").work == words


def test_held_out_pictures_are_judged_where_a_benchmark_has_them() -> None:
    assert "data evaluate" in [task.name for task in tasks(load_config("miniature"))]
    assert "data evaluate" not in [task.name for task in tasks(paper())]


def test_the_gates_prompts_are_asked_beside_the_reported_ones() -> None:
    assert benchmarks_of(paper("gate.mode=rules")) == ("pickapic_test", "validation")
    assert benchmarks_of(paper("gate.mode=rules", "gate.benchmark=pickapic_test")) == ("pickapic_test",)
    assert benchmarks_of(paper()) == ("pickapic_test",)
