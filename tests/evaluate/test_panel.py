"""Judges at work together: what they share, what they do not, and pictures that cannot be judged."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from spin.core.rejecting import TOO_MANY_PIXELS, UNREADABLE
from spin.evaluate import panel as module
from spin.evaluate import preparing
from spin.evaluate.goldens import aesthetic, hpsv2, image_reward, pickscore
from spin.evaluate.panel import Panel
from spin.evaluate.scorer import Scorer
from tests.evaluate.golden_scorers import goldens


@pytest.fixture(scope="module")
def judges() -> list[Scorer]:
    return [build(goldens()) for build in (pickscore, hpsv2, image_reward, aesthetic)]


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


PICTURES = [encoded(image) for image in goldens().images]
PROMPTS = [goldens().prompts[i % 3] for i in range(len(PICTURES))]


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Modes of the pictures that a preparation was called for."""
    seen: list[str] = []
    real: Callable[[Image.Image], torch.Tensor] = getattr(preparing, name)
    monkeypatch.setattr(preparing, name, lambda image: seen.append(image.mode) or real(image))
    return seen


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_every_judge_scores_as_it_does_alone(judges: list[Scorer], batch_size: int) -> None:
    found = list(Panel(judges, batch_size).judge(PICTURES, PROMPTS))
    assert [i for i, _, _ in found] == list(range(9))
    for judge in judges:
        alone = judge.score(goldens().images, PROMPTS)
        together = torch.stack([judgements[judge.name].scores for _, judgements, _ in found])
        assert torch.allclose(alone, together, atol=1e-4), judge.name


def test_square_rgb_pictures_are_prepared_twice_for_four_judges(judges: list[Scorer]) -> None:
    """PickScore, ImageReward and Aesthetic take one tensor; HPSv2 needs its own."""
    panel = Panel(judges, 4)
    square, wide = goldens().images[0], goldens().images[1]
    assert len(panel._preparations(square)) == 2
    assert len(panel._preparations(wide)) == 3
    assert len(panel._preparations(square.convert("RGBA"))) == 3


def test_the_shared_tensor_is_exactly_the_one_that_each_judge_would_make() -> None:
    shared = 0
    for image in [*goldens().images, *(Image.new("RGB", (side, side), "teal") for side in (1, 223, 224, 225, 600))]:
        preparation = preparing.shared(preparing.round_crop_then_rgb, image)
        assert torch.equal(preparation(image), preparing.round_crop_then_rgb(image))
        shared += preparation is preparing.rgb_then_floor_crop
    assert shared == 7  # sq512, exact224 and the five


def test_a_prompt_goes_through_each_text_tower_once(judges: list[Scorer]) -> None:
    fresh = [pickscore(goldens()), hpsv2(goldens())]
    panel = Panel(fresh, 2)
    for _ in range(3):
        list(panel.judge(PICTURES, PROMPTS))
    assert [(judge.text.encoded, judge.text.passes) for judge in fresh] == [(3, 1), (3, 1)]


def test_prompts_that_are_new_at_the_time_do_not_change_a_score(judges: list[Scorer]) -> None:
    early, late = (pickscore(goldens()) for _ in range(2))
    list(Panel([late], 4).judge(PICTURES[:3], ["x", "y", "z"]))
    found = [
        [j["pickscore"].scores.item() for _, j, _ in Panel([one], 4).judge(PICTURES, PROMPTS)] for one in (early, late)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_picture_is_rejected_and_its_neighbours_are_not(
    judges: list[Scorer], kind: str, share: float
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    pictures = [data, data[: int(share * len(data))], data]
    found = list(Panel(judges[3:], 2).judge(pictures, ["a"] * 3))
    assert [rejected and rejected.reason for _, _, rejected in found] == [None, UNREADABLE, None]
    assert found[0][1]["aesthetic"].scores == found[2][1]["aesthetic"].scores


def test_a_decompression_bomb_is_rejected_by_its_header(judges: list[Scorer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGE_PIXELS", 100_000)
    before = Image.MAX_IMAGE_PIXELS
    found = list(Panel(judges[3:], 2).judge([PICTURES[0], PICTURES[4]], ["a", "b"]))  # 512 x 512 and 224 x 224
    assert [rejected and rejected.reason for _, _, rejected in found] == [TOO_MANY_PIXELS, None]
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_batch_of_nothing_but_bad_pictures_is_rejected(judges: list[Scorer]) -> None:
    found = list(Panel(judges, 2).judge([b"", b"no", b"picture"], ["a"] * 3))
    assert [rejected.reason for _, _, rejected in found if rejected] == [UNREADABLE] * 3
    assert list(Panel(judges, 2).judge([], [])) == []


def test_no_more_than_three_batches_are_prepared_ahead(judges: list[Scorer], monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    real = Panel._prepared
    monkeypatch.setattr(Panel, "_prepared", lambda self, data: prepared.append(1) or real(self, data))
    answers = Panel(judges[3:], 2).judge([PICTURES[4]] * 40, ["a"] * 40)
    next(answers)
    assert len(prepared) <= 8  # the batch at work, two ahead of it, and the one that its place was given to
    assert len(list(answers)) == 39
    assert len(prepared) == 40


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"])
def test_pictures_of_every_mode_are_judged(judges: list[Scorer], mode: str) -> None:
    image = goldens().images[5].convert("L" if mode in ("I;16", "I", "F") else "RGB")
    image = Image.new(mode, image.size) if mode in ("LAB", "I;16", "I", "F") else image.convert(mode)
    for judge in judges:
        assert torch.isfinite(judge.score([image], ["a"])).all(), judge.name
