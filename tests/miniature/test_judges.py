from __future__ import annotations

import numpy as np
import pytest
import torch

from spin.miniature.build import to_images
from spin.miniature.judges import FEATURES, AlignmentJudge, load_aesthetic_judge, load_alignment_judge
from spin.miniature.renderer import render
from spin.miniature.world import all_attributes, split_attributes

SHOWN = all_attributes()[::6]
QUALITY = np.random.default_rng(1).uniform(0, 1, len(SHOWN))
IMAGES = to_images(render(SHOWN, QUALITY, np.random.default_rng(2)))


def test_the_aesthetic_judge_reads_quality_off_a_picture() -> None:
    scores = load_aesthetic_judge()(IMAGES)
    assert scores.shape == (len(SHOWN),)
    assert np.corrcoef(scores.numpy(), QUALITY)[0, 1] > 0.9
    assert (scores.numpy() - 10 * QUALITY).mean() == pytest.approx(0, abs=0.7)


def test_the_aesthetic_judge_has_features_for_the_frechet_distance() -> None:
    features = load_aesthetic_judge().features(IMAGES)
    assert features.shape == (len(SHOWN), FEATURES)
    assert (features.std(dim=0) > 0).all()


def test_the_alignment_judge_finds_the_caption_of_a_picture() -> None:
    judge, captions = load_alignment_judge(), [a.caption for a in all_attributes()]
    clean = to_images(render(SHOWN, np.full(len(SHOWN), 0.8), np.random.default_rng(3)))
    found = (judge.encode_images(clean) @ judge.encode_captions(captions).T).argmax(dim=1)
    right = [captions[i] == a.caption for i, a in zip(found.tolist(), SHOWN, strict=True)]
    assert np.mean(right) > 0.9


def test_alignment_falls_with_every_wrong_word() -> None:
    judge, shown = load_alignment_judge(), split_attributes("test")[:64]
    clean = to_images(render(shown, np.full(64, 0.8), np.random.default_rng(3)))
    own, other = judge(clean, [a.caption for a in shown]), judge(clean, [a.caption for a in reversed(shown)])
    assert own.mean() > other.mean() + 20
    assert own.max() <= 100.001


def test_words_of_other_worlds_are_passed_over() -> None:
    judge = load_alignment_judge()
    plain, strange = judge.encode_captions(["a red star", "a splendid red star"])
    assert torch.equal(plain, strange)
    assert judge.encode_captions(["nothing known here", ""]).isfinite().all()


def test_a_batch_does_not_change_a_score() -> None:
    judge = load_aesthetic_judge()
    torch.testing.assert_close(judge(IMAGES)[5:6], judge(IMAGES[5:6]), atol=1e-4, rtol=0)


def test_judges_are_frozen_float32_and_loaded_once() -> None:
    assert load_alignment_judge() is load_alignment_judge()
    for judge in (load_alignment_judge(), load_aesthetic_judge()):
        assert not judge.training
        assert {p.dtype for p in judge.parameters()} == {torch.float32}
        assert not any(p.requires_grad for p in judge.parameters())
    assert isinstance(load_alignment_judge(), AlignmentJudge)
