"""Pictures drawn by the renderer: what they show and how good they are is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from spin.core.errors import DataError
from spin.evaluate.miniature import Alignment, AttributeCheck, MiniatureAesthetic, refuse_strangers
from spin.evaluate.scorer import Scorer
from spin.miniature.renderer import Pixels, render
from spin.miniature.world import Attributes, split_attributes

SHOWN = split_attributes("test")[:32]
CAPTIONS = [attributes.caption for attributes in SHOWN]
JUDGES: dict[str, type[Scorer]] = {
    "alignment": Alignment, "aesthetic": MiniatureAesthetic, "attributes": AttributeCheck,
}  # fmt: skip


def scored(name: str, images: Pixels, captions: list[str]) -> np.ndarray:
    return JUDGES[name]().score([Image.fromarray(image) for image in images], captions).numpy()


def drawn(quality: float, shown: list[Attributes] = SHOWN) -> Pixels:
    return render(shown, np.full(len(shown), quality), np.random.default_rng(0))


def enlarged(images: Pixels, times: int) -> Pixels:
    return images.repeat(times, axis=1).repeat(times, axis=2)


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_says_its_name_and_gives_one_score_a_picture(name: str) -> None:
    scores = scored(name, drawn(0.9), CAPTIONS)
    assert (JUDGES[name].name, JUDGES[name].higher_is_better) == (name, True)
    assert (scores.shape, scores.dtype) == ((32,), np.float32)
    assert np.isfinite(scores).all()


def test_clean_pictures_under_their_own_captions_score_high_on_all() -> None:
    images = drawn(0.95)
    assert scored("alignment", images, CAPTIONS).mean() > 85  # 100 x cosine
    assert scored("aesthetic", images, CAPTIONS).mean() > 8.5  # 10 x quality: 9.5
    assert scored("attributes", images, CAPTIONS).mean() > 0.95


def test_a_wrong_caption_lowers_alignment_and_gives_attributes_0() -> None:
    images, moved = drawn(0.95), CAPTIONS[1:] + CAPTIONS[:1]
    right, wrong = (scored("alignment", images, captions) for captions in (CAPTIONS, moved))
    assert (right > wrong).all()
    assert right.mean() > wrong.mean() + 20
    assert scored("attributes", images, moved).sum() == 0


def test_one_wrong_word_is_enough_to_lose_the_attributes() -> None:
    shown = Attributes("large", "red", "circle", "navy")
    assert scored("attributes", drawn(0.95, [shown]), [shown.caption]).tolist() == [1.0]
    for other in ("small red circle", "large green circle", "large red square"):
        assert scored("attributes", drawn(0.95, [shown]), [f"a {other} on a navy background"]).tolist() == [0.0]


def test_the_aesthetic_score_rises_with_quality_and_knows_no_caption() -> None:
    means = [scored("aesthetic", drawn(quality), CAPTIONS).mean() for quality in (0.1, 0.35, 0.6, 0.85)]
    assert means == sorted(means)
    assert means[-1] - means[0] > 5
    assert np.array_equal(scored("aesthetic", drawn(0.6), CAPTIONS), scored("aesthetic", drawn(0.6), ["anything"] * 32))


@pytest.mark.parametrize("name", ["attributes", "frechet_clean"])
def test_captions_of_another_world_are_one_clear_line(name: str) -> None:
    with pytest.raises(
        DataError, match=f"not a caption of the miniature: 'a digit seven'; leave `{name}` out"
    ) as error:
        refuse_strangers(("alignment", name), [*CAPTIONS, "a digit seven"])
    assert "\n" not in str(error.value)
    refuse_strangers(("alignment", "frechet", "diversity"), ["a digit seven"])
    refuse_strangers((name,), CAPTIONS)


def test_the_attributes_judge_itself_refuses_foreign_captions_and_sizes() -> None:
    with pytest.raises(DataError, match="not a caption of the miniature: 'a cat'"):
        scored("attributes", drawn(0.9)[:2], [CAPTIONS[0], "a cat"])
    with pytest.raises(DataError, match="at 32 x 32 pixels, not at 96 x 96; leave"):
        scored("attributes", enlarged(drawn(0.9), 3), CAPTIONS)


@pytest.mark.parametrize("name", ["alignment", "aesthetic"])
@pytest.mark.parametrize("times", [2, 3])
def test_learned_judges_resize_pictures_of_other_sizes(name: str, times: int) -> None:
    images = drawn(0.8)
    small, large = (scored(name, found, CAPTIONS) for found in (images, enlarged(images, times)))
    # resizing smooths a little: a point of 100, or of 10 for the aesthetic one
    assert np.abs(small - large).mean() < {"alignment": 5, "aesthetic": 1.5}[name]


def test_features_are_what_sets_are_measured_in() -> None:
    judge = MiniatureAesthetic()
    for images in (drawn(0.8), enlarged(drawn(0.8), 2)):
        pixels = torch.stack([judge.prepare(Image.fromarray(image)) for image in images])
        found = judge.judge(pixels, CAPTIONS)
        assert found.embeddings is not None
        assert found.embeddings.shape == (32, 64)
        assert torch.equal(found.scores, judge.tower(pixels)) or images.shape[1] != 32


def test_vectors_of_the_alignment_judge_are_unit_vectors() -> None:
    judge = Alignment()
    found = judge.judge(torch.stack([judge.prepare(Image.fromarray(image)) for image in drawn(0.8)]), CAPTIONS)
    assert found.embeddings is not None
    assert found.embeddings.norm(dim=1).tolist() == pytest.approx([1.0] * 32)


def test_pictures_and_prompts_of_other_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="32 pictures but 31 prompts"):
        scored("alignment", drawn(0.8), CAPTIONS[:-1])


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_picture_gets_a_finite_score(name: str, value: int) -> None:
    images = np.full((2, 32, 32, 3), value, np.uint8)
    assert np.isfinite(scored(name, images, CAPTIONS[:2])).all()


def test_a_caption_without_a_known_word_gets_a_finite_alignment() -> None:
    assert np.isfinite(scored("alignment", drawn(0.8)[:2], ["", "zebra"])).all()


def test_scoring_leaves_the_pictures_alone() -> None:
    images = drawn(0.8)
    before = images.copy()
    for name in JUDGES:
        scored(name, images, CAPTIONS)
    assert np.array_equal(images, before)
