from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spin.core.rejecting import NOT_FINITE
from spin.core.statistics import frechet_distance_of_features
from spin.diffusion.pictures import encode_png
from spin.evaluate.asked import Picture, Prompt
from spin.evaluate.miniature import Alignment, AttributeCheck, MiniatureAesthetic
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.scorer import Judgement
from spin.evaluate.scoring import Features, features_of, score_pictures, set_metrics
from spin.miniature.dataset import clean_reference
from spin.miniature.judge_weights import judges_digest
from spin.miniature.renderer import render
from spin.miniature.world import split_attributes
from tests.evaluate.conftest import Ask

SHOWN = split_attributes("test")[:11]
IMAGES = render(SHOWN, np.full(11, 0.7), np.random.default_rng(0))
PICTURES = [encode_png(image) for image in IMAGES]
CAPTIONS = [a.caption for a in SHOWN]
ASKED = [Picture(Prompt(f"p{i}", caption, i, category=f"c{i % 2}"), 0) for i, caption in enumerate(CAPTIONS)]
SET = ("frechet", "frechet_clean", "diversity")


@pytest.fixture
def request_(ask: Ask) -> EvaluateRequest:
    return ask(scorers=("aesthetic", "attributes", *SET))


def metrics(request: EvaluateRequest, count: int = 11, *, is_data: bool = False) -> dict[str, float]:
    """Of the pictures against themselves."""
    own = features_of(request, PICTURES[:count])
    return measured(request, own, CAPTIONS[:count], real=None if is_data else own)


def measured(
    request: EvaluateRequest, own: Features, captions: list[str], *, real: Features | None
) -> dict[str, float]:
    found = set_metrics(request, own, captions, real=None if real is None else lambda: real)
    return {row["metric"]: row["value"] for row in found}


def test_every_picture_meets_every_judge_under_its_own_row(request_: EvaluateRequest) -> None:
    scored = score_pictures(request_, ASKED, PICTURES)
    assert [(row["scorer"], row["prompt_id"]) for row in scored.rows] == [
        (name, f"p{i}") for name in ("aesthetic", "attributes") for i in range(11)
    ]
    first = {name: value for name, value in scored.rows[3].items() if name != "score"}
    assert first == {
        "prompt_id": "p3", "prompt": CAPTIONS[3], "category": "c1", "challenge": None, "seed": 3, "draw": 0,
        "checkpoint": request_.subject_digest, "scorer": "aesthetic", "version": judges_digest(),
        "settings": json.dumps({"dtype": "float32"}),
    }  # fmt: skip
    assert scored.rejected == []


@pytest.mark.parametrize("batch_size", [1, 4, 11, 64])
def test_scores_do_not_depend_on_the_batch_or_its_padding(request_: EvaluateRequest, batch_size: int) -> None:
    scored = score_pictures(replace(request_, batch_size=batch_size), ASKED, PICTURES)
    images = [Image.fromarray(image) for image in IMAGES]
    expected = [judge().score(images, CAPTIONS) for judge in (MiniatureAesthetic, AttributeCheck)]
    assert [row["score"] for row in scored.rows] == pytest.approx(np.concatenate(expected).tolist(), abs=1e-4)
    assert scored.features == pytest.approx(features_of(request_, PICTURES), abs=1e-4)


def test_the_first_prompts_score_the_same_in_a_longer_list(request_: EvaluateRequest) -> None:
    few, all_ = (score_pictures(request_, ASKED[:n], PICTURES[:n]).rows for n in (5, 11))
    assert few[:5] == all_[:5]


def test_pictures_that_cannot_be_judged_are_told_and_cost_the_others_nothing(request_: EvaluateRequest) -> None:
    whole = {(r["scorer"], r["prompt_id"]): r["score"] for r in score_pictures(request_, ASKED, PICTURES).rows}
    drawn = [None if i == 2 else PICTURES[i][:200] if i == 7 else PICTURES[i] for i in range(11)]
    scored = score_pictures(request_, ASKED, drawn)
    assert [(row["origin"], row["reason"]) for row in scored.rejected] == [
        ("p2 picture 0", NOT_FINITE), ("p7 picture 0", "unreadable"),
    ]  # fmt: skip
    left = {(r["scorer"], r["prompt_id"]): r["score"] for r in scored.rows}
    assert left.keys() == {key for key in whole if key[1] not in ("p2", "p7")}
    assert left == pytest.approx({key: whole[key] for key in left}, abs=1e-5)
    assert len(scored.features) == 9


def test_a_shard_of_bad_pictures_has_no_scores(request_: EvaluateRequest) -> None:
    scored = score_pictures(request_, ASKED[:3], [b"", b"x", None])
    assert (scored.rows, len(scored.rejected), len(scored.features)) == ([], 3, 0)


def test_diversity_is_the_mean_cosine_distance_of_the_pictures_of_a_prompt(request_: EvaluateRequest) -> None:
    prompt, other = Prompt("p", CAPTIONS[0], 5, draws=3), Prompt("q", CAPTIONS[1], 6, draws=2)
    asked = [Picture(prompt, draw) for draw in range(3)] + [Picture(other, draw) for draw in range(2)]
    drawn = [PICTURES[0], PICTURES[1], PICTURES[2], PICTURES[3], PICTURES[3]]
    rows = [row for row in score_pictures(request_, asked, drawn).rows if row["scorer"] == "diversity"]
    judge = Alignment()
    pixels = [judge.prepare(Image.fromarray(image)) for image in IMAGES[:3]]
    vectors = np.stack([judge.judge(p[None], [""]).embeddings[0].numpy() for p in pixels])  # type: ignore[index]
    cosines = [vectors[0] @ vectors[1], vectors[0] @ vectors[2], vectors[1] @ vectors[2]]
    assert [row["prompt_id"] for row in rows] == ["p", "q"]
    assert rows[0]["score"] == pytest.approx(1 - np.mean(cosines), abs=1e-5)
    assert rows[1]["score"] == pytest.approx(0, abs=1e-6)
    assert json.loads(rows[0]["settings"]) == {"vectors": "alignment", "images": 3}


def test_no_diversity_is_told_of_single_pictures_or_where_nobody_asks(request_: EvaluateRequest) -> None:
    rows = score_pictures(request_, ASKED, PICTURES).rows
    assert not [row for row in rows if row["scorer"] == "diversity"]
    asked = [Picture(ASKED[0].asked, draw) for draw in range(2)]
    rows = score_pictures(replace(request_, scorers=("aesthetic",)), asked, PICTURES[:2]).rows
    assert {row["scorer"] for row in rows} == {"aesthetic"}


def test_real_against_real_has_no_frechet_distance(request_: EvaluateRequest) -> None:
    assert metrics(request_)["frechet"] == pytest.approx(0, abs=1e-3)


def test_blurred_pictures_stand_further_off_than_real_ones(request_: EvaluateRequest) -> None:
    dull = [encode_png(image) for image in render(SHOWN, np.full(11, 0.1), np.random.default_rng(0))]
    found = measured(request_, features_of(request_, dull), CAPTIONS, real=features_of(request_, PICTURES))
    assert found["frechet"] > 10
    assert found["frechet_clean"] > metrics(request_)["frechet_clean"]


def test_the_row_of_the_data_has_no_distance_to_itself(request_: EvaluateRequest) -> None:
    assert set(metrics(request_, is_data=True)) == {"frechet_clean"}


def test_a_single_picture_is_no_set(request_: EvaluateRequest) -> None:
    assert metrics(request_, 1) == {}
    assert set(metrics(request_, 2)) == {"frechet", "frechet_clean"}


@pytest.mark.parametrize("batch_size", [1, 7, 44, 64])
def test_numbers_of_the_set_do_not_depend_on_the_batch(request_: EvaluateRequest, batch_size: int) -> None:
    found = metrics(replace(request_, batch_size=batch_size))
    assert found == pytest.approx(metrics(request_), rel=1e-4, abs=1e-3)
    own = features_of(request_, PICTURES)
    clean = features_of(request_, [encode_png(picture) for picture in clean_reference(CAPTIONS)])
    assert found["frechet_clean"] == pytest.approx(frechet_distance_of_features(own, clean), rel=1e-4)


def test_a_score_that_is_no_number_sets_its_picture_aside(
    request_: EvaluateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = MiniatureAesthetic.judge

    def failing(self: MiniatureAesthetic, pixels: torch.Tensor, prompts: list[str]) -> Judgement:
        found = judge(self, pixels, prompts)
        return Judgement(
            torch.where(torch.tensor([p == CAPTIONS[4] for p in prompts]), torch.nan, found.scores), found.embeddings
        )

    monkeypatch.setattr(MiniatureAesthetic, "judge", failing)
    scored = score_pictures(request_, ASKED, PICTURES)
    assert [(row["origin"], row["reason"]) for row in scored.rejected] == [("p4 picture 0", NOT_FINITE)]
    assert len(scored.rows) == 2 * 10
    assert np.isfinite([row["score"] for row in scored.rows]).all()


def test_pictures_that_cannot_be_read_have_no_features(request_: EvaluateRequest) -> None:
    assert len(features_of(request_, [PICTURES[0], b"no picture", PICTURES[1]])) == 2
