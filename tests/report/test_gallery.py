import numpy as np
import pytest

from spin.report.boards import board
from spin.report.gallery import compared, extremes, gains, gallery, ranking
from spin.report.pictures import choose_prompts, picture_grid
from spin.report.reading import read_run


def board_of(builder):
    run = read_run(runs_root=builder.root, run=builder.name)
    return board(run, run.key)


@pytest.fixture
def ranked(builder):
    builder.stages, builder.scorers = ("base", "sft"), ("aesthetic",)
    builder.build()
    builder.write_scores("base", {"aesthetic": np.zeros(16)})
    builder.write_scores("sft", {"aesthetic": np.arange(16.0) - 1})  # prompt 0 loses, 1 stays, the others gain
    return builder


def test_gains_are_of_the_last_model_over_its_start(finished_run):
    found = board_of(finished_run)
    a, b = finished_run.values("iteration-03", "aesthetic"), finished_run.values("sft", "aesthetic")
    assert compared(found) == "SPIN 3 minus SFT"
    assert list(gains(found)) == ["alignment", "aesthetic", "attributes", "average", "z_average"]
    for index, prompt in enumerate(finished_run.prompt_ids):
        assert gains(found)["aesthetic"][prompt] == pytest.approx(a[index] - b[index])


def test_pictures_are_ranked_by_the_average_in_which_every_judge_counts_alike(finished_run, ranked):
    assert ranking(board_of(finished_run)).metric == "z_average"
    assert ranking(board_of(ranked)).metric == "aesthetic"


def test_extremes_are_true_gains_and_true_losses(ranked):
    found = extremes(board_of(ranked), count=3)
    named = {ranked.prompt_ids.index(prompt): why for prompt, why in found.items()}
    assert named == dict.fromkeys((15, 14, 13), "among the largest gains") | {0: "among the largest losses"}


def test_extremes_stand_behind_the_prompts_that_the_hash_picked(ranked):
    run = read_run(runs_root=ranked.root, run=ranked.name)
    grid = picture_grid(run, prompts=4, also=extremes(board_of(ranked)))
    captions = dict(zip(ranked.prompt_ids, ranked.captions, strict=True))
    assert [row.prompt_id for row in grid.rows[:4]] == choose_prompts(captions, 4)
    assert all(row.why == "" for row in grid.rows[:4])
    assert all(row.why for row in grid.rows[4:])
    ids = [row.prompt_id for row in grid.rows]
    assert len(ids) == len(set(ids)) > 4


def test_the_gallery_shows_the_last_models_best_pictures_first(ranked):
    found = gallery(board_of(ranked), count=3)
    assert (found.model, found.column.metric, found.prompts) == ("SFT", "aesthetic", 16)
    assert [exhibit.value for exhibit in found.exhibits] == [14.0, 13.0, 12.0]
    assert [exhibit.caption for exhibit in found.exhibits] == ranked.captions[15:12:-1]
    assert dict(found.exhibits[0].picture.scores) == {"aesthetic": 14.0}


def test_without_judges_there_are_no_gains_and_no_gallery(builder):
    builder.stages, builder.scorers = ("base", "sft"), ()
    builder.build()
    found = board_of(builder)
    assert (gains(found), extremes(found), gallery(found)) == ({}, {}, None)


def test_a_base_alone_has_a_gallery_and_no_gains(builder):
    builder.stages = ("base",)
    builder.build()
    found = board_of(builder)
    assert (gains(found), compared(found)) == ({}, "")
    assert gallery(found).model == "base"
