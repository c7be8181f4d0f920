"""One value per prompt and metric: which picture it is of, and what the averages are made of."""

import numpy as np
import pytest

from spin.core import schema
from spin.report.pictures import decode, picture_grid
from spin.report.reading import read_run
from spin.report.subjects import averaged, subjects_of
from tests.report.conftest import PAPER, commit_rows


def subject(builder, name="base"):
    return next(s for s in subjects_of(read_run(runs_root=builder.root, run=builder.name)) if s.name == name)


@pytest.fixture
def base(builder):
    builder.stages = ("base",)
    return builder


def write(builder, rows):
    written = [builder.score_row(index, scorer, score, draw=draw) for index, scorer, draw, score in rows]
    commit_rows(builder.evaluation("base").scores(0), schema.SCORES, written, "scores")


def test_of_single_pictures_the_first_of_a_prompt_counts(base):
    base.build()
    write(base, [(0, "alignment", 0, 1.0), (0, "alignment", 1, 9.0), (1, "alignment", 0, 5.0)])
    assert subject(base).values["alignment"] == {base.prompt_ids[0]: 1.0, base.prompt_ids[1]: 5.0}


def test_of_several_pictures_the_one_with_the_highest_plain_mean_is_kept_with_all_its_scores(base):
    base.protocol = "best_of_n"
    base.scorers = PAPER
    base.build()
    scores = {  # draw: pickscore, hpsv2, image_reward, aesthetic -> mean
        0: (21.0, 0.30, 1.0, 5.0),  # 6.825
        1: (20.0, 0.20, 2.5, 6.0),  # 7.175, kept, though PickScore and HPS like the others more
        2: (22.0, 0.31, 0.2, 5.5),  # 7.0025
    }
    write(base, [(0, judge, draw, v) for draw, row in scores.items() for judge, v in zip(PAPER, row, strict=True)])
    found = {metric: values[base.prompt_ids[0]] for metric, values in subject(base).values.items() if metric in PAPER}
    assert found == dict(zip(PAPER, scores[1], strict=True))
    assert subject(base).values["average"][base.prompt_ids[0]] == pytest.approx(7.175)


def test_a_picture_without_all_scores_cannot_be_kept(base):
    base.protocol, base.scorers = "best_of_n", ("alignment", "aesthetic")
    base.build()
    rows = [(0, "alignment", 0, 10.0), (0, "aesthetic", 0, 1.0), (0, "alignment", 1, 99.0)]
    write(base, [*rows, (0, "aesthetic", 1, float("nan")), (1, "alignment", 0, 3.0)])
    assert subject(base).values["alignment"] == {base.prompt_ids[0]: 10.0}


def test_of_equal_pictures_the_first_is_kept(base):
    base.protocol, base.scorers = "best_of_n", ("alignment", "aesthetic")
    base.build()
    pairs = {1: (5.0, 3.0), 0: (3.0, 5.0)}
    write(base, [(0, j, d, v) for d, pair in pairs.items() for j, v in zip(base.scorers, pair, strict=True)])
    assert subject(base).values["alignment"] == {base.prompt_ids[0]: 3.0}


def test_the_picture_that_is_shown_is_the_one_that_is_judged(base):
    base.protocol = "best_of_n"
    base.build()
    write(base, [(i, "alignment", draw, float(draw == i % 5)) for i in range(16) for draw in range(5)])
    grid = picture_grid(read_run(runs_root=base.root, run=base.name), prompts=16)
    images = schema.read_table(base.evaluation("base").images(0)).to_pylist()
    drawn = {(row["prompt_id"], row["draw"]): decode(row["image"]) for row in images}
    for row in grid.rows:
        draw = base.prompt_ids.index(row.prompt_id) % 5
        assert row.pictures[1].image.tobytes() == drawn[row.prompt_id, draw].tobytes()
        assert dict(row.pictures[1].scores) == {"alignment": 1.0}


def test_the_average_is_of_the_papers_four_where_they_are_all_there():
    assert averaged(["clip", *PAPER]) == ("hpsv2", "aesthetic", "image_reward", "pickscore")
    assert averaged(["alignment", "aesthetic"]) == ("alignment", "aesthetic")
    assert averaged(["aesthetic"]) == ()


def test_averages_by_hand(builder):
    builder.stages = ("base", "sft")
    builder.scorers = ("alignment", "aesthetic")
    builder.build()
    # base: 1..16 and 10 x that; mean 8.5 and 85, sd s and 10 s with s^2 = 16 * 17 / 12
    builder.write_scores("base", {"alignment": np.arange(1.0, 17), "aesthetic": 10 * np.arange(1.0, 17)})
    builder.write_scores("sft", {"alignment": np.full(16, 8.5), "aesthetic": np.full(16, 105.0)})
    found, prompt = subject(builder, "sft"), builder.prompt_ids[3]
    assert found.values["average"][prompt] == pytest.approx((8.5 + 105) / 2)
    assert found.values["z_average"][prompt] == pytest.approx((0 + 2 / np.sqrt(16 * 17 / 12)) / 2)
    assert np.mean(list(subject(builder).values["z_average"].values())) == pytest.approx(0)


def test_a_prompt_without_one_judges_score_has_no_average(base):
    base.scorers = ("alignment", "aesthetic")
    base.build()
    write(base, [(0, "alignment", 0, 1.0), (0, "aesthetic", 0, 3.0), (1, "alignment", 0, 1.0)])
    assert subject(base).values["average"] == {base.prompt_ids[0]: 2.0}
    assert len(subject(base).prompts) == 2


def test_one_judge_makes_no_average(base):
    base.scorers = ("aesthetic",)
    base.build()
    assert not {"average", "z_average"} & set(subject(base).values)


def test_diversity_per_prompt_is_no_judge(builder):
    builder.stages = ("base", "sft")
    builder.build()
    for stage in builder.stages:
        values = {scorer: builder.values(stage, scorer) for scorer in builder.scorers}
        builder.write_scores(stage, values | {"diversity": np.full(16, 9.0)})
    found = subject(builder)
    assert found.values["average"][builder.prompt_ids[0]] == pytest.approx(
        np.mean([builder.values("base", scorer)[0] for scorer in builder.scorers])
    )


def test_the_diversity_of_a_prompt_stays_whichever_of_its_pictures_is_kept(base):
    base.protocol = "best_of_n"
    base.build()
    write(base, [(0, "alignment", 0, 1.0), (0, "alignment", 1, 2.0), (0, "diversity", 0, 0.3)])
    assert subject(base).values["diversity"] == {base.prompt_ids[0]: 0.3}
