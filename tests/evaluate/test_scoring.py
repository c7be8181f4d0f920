from __future__ import annotations

import numpy as np
import pytest

from spin.core.statistics import frechet_distance_of_features
from spin.diffusion.pictures import encode_png
from spin.evaluate.held_out import HeldOutRow
from spin.evaluate.scorers import features, scorer
from spin.evaluate.scoring import Features, score_pictures, set_metrics
from spin.miniature.dataset import clean_reference
from spin.miniature.renderer import render
from spin.miniature.world import split_attributes

SHOWN = split_attributes("test")[:11]
IMAGES = render(SHOWN, np.full(11, 0.7), np.random.default_rng(0))
PICTURES = [encode_png(image) for image in IMAGES]
ROWS = [HeldOutRow(f"p{i}", a.caption, i, i) for i, a in enumerate(SHOWN)]
CAPTIONS = [a.caption for a in SHOWN]
JUDGES = [scorer("aesthetic"), scorer("attributes")]
SET = ("frechet", "frechet_clean", "diversity")


def metrics(count: int = 11, *, is_data: bool = False) -> dict[str, float]:
    """Of the pictures against themselves."""
    return measured(features(IMAGES[:count]), CAPTIONS[:count], real=None if is_data else features(IMAGES[:count]))


def measured(own: Features, captions: list[str], *, real: Features | None, batch_size: int = 4) -> dict[str, float]:
    given = None if real is None else lambda: real
    found = set_metrics(own, captions, SET, real=given, batch_size=batch_size)
    return {row["metric"]: row["value"] for row in found}


def test_every_picture_meets_every_judge_under_its_own_row() -> None:
    scored = score_pictures(PICTURES, ROWS, JUDGES, batch_size=4)
    assert [(row["scorer"], row["prompt_id"]) for row in scored.rows] == [
        (name, f"p{i}") for name in ("aesthetic", "attributes") for i in range(11)
    ]
    assert [(row["prompt"], row["seed"]) for row in scored.rows[:11]] == [(row.prompt, row.seed) for row in ROWS]


@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
def test_scores_do_not_depend_on_the_batch_or_its_padding(batch_size: int) -> None:
    scored = score_pictures(PICTURES, ROWS, JUDGES, batch_size=batch_size)
    expected = [judge.score(IMAGES, [row.prompt for row in ROWS]) for judge in JUDGES]
    assert [row["score"] for row in scored.rows] == pytest.approx(np.concatenate(expected).tolist(), abs=1e-4)
    assert scored.features == pytest.approx(features(IMAGES), abs=1e-4)


def test_the_first_prompts_score_the_same_in_a_longer_list() -> None:
    few, all_ = (score_pictures(PICTURES[:n], ROWS[:n], JUDGES[:1], batch_size=4).rows for n in (5, 11))
    assert few == all_[:5]


def test_real_against_real_has_no_frechet_distance() -> None:
    assert metrics()["frechet"] == pytest.approx(0, abs=1e-3)


def test_blurred_pictures_stand_further_off_than_real_ones() -> None:
    dull = render(SHOWN, np.full(11, 0.1), np.random.default_rng(0))
    found = measured(features(dull), CAPTIONS, real=features(IMAGES))
    assert found["frechet"] > 10
    assert found["frechet_clean"] > metrics()["frechet_clean"]


def test_the_row_of_the_data_has_no_distance_to_itself() -> None:
    assert set(metrics(is_data=True)) == {"frechet_clean", "diversity"}


def test_diversity_of_one_picture_many_times_is_0() -> None:
    same = features(IMAGES[:1].repeat(11, axis=0))
    found = measured(same, CAPTIONS, real=features(IMAGES))
    assert found["diversity"] == pytest.approx(0, abs=1e-4)
    assert all(np.isfinite(value) for value in found.values())


def test_a_single_picture_is_no_set() -> None:
    assert metrics(1) == {}
    assert set(metrics(2)) == set(SET)


@pytest.mark.parametrize("batch_size", [1, 7, 44, 64])
def test_numbers_of_the_set_do_not_depend_on_the_batch(batch_size: int) -> None:
    own = features(IMAGES)
    found = measured(own, CAPTIONS, real=own, batch_size=batch_size)
    assert found == pytest.approx(metrics(), rel=1e-4, abs=1e-3)
    clean = features(clean_reference(CAPTIONS))
    assert found["frechet_clean"] == pytest.approx(frechet_distance_of_features(own, clean), rel=1e-4)
