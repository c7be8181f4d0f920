"""HPSv2 against the reference's values, against the hpsv2 package itself, and the wrong choices they must catch."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import center_crop

from spin.evaluate import preparing
from spin.evaluate.goldens import hpsv2
from spin.evaluate.hpsv2 import HPSv2
from tests.evaluate.golden_scorers import deviation, deviation_alone, goldens

TOLERANCE = 1e-5


@pytest.fixture
def scorer() -> HPSv2:
    return hpsv2(goldens())


@pytest.fixture(scope="module")
def expected():
    return goldens().expected("hpsv2")


def test_every_pair_equals_the_reference_batched_and_alone(scorer, expected):
    assert not np.isnan(expected).any()  # RGBA, on which the reference raises, has its converted scores
    assert deviation(scorer, expected) <= TOLERANCE
    assert deviation_alone(scorer, expected) <= TOLERANCE


def test_without_antialias_it_equals_the_reference_of_old_torchvisions():
    scorer = hpsv2(goldens(), antialias=False)
    expected = goldens().expected("hpsv2", "scores_antialias_false")
    assert np.isnan(expected).sum() == 8  # RGBA
    assert deviation(scorer, expected) <= TOLERANCE
    assert scorer.settings == {"hps_version": "v2.0", "hps_antialias": False}


def test_token_ids_are_the_reference_s(scorer):
    golden = goldens().config("hpsv2", "golden")
    for name, text in zip(golden["prompts"], goldens().prompts, strict=True):
        assert scorer.tokenizer([text])[0].tolist() == golden["input_ids"][name], name


def test_antialias_off_is_caught(scorer, expected):
    scorer.prepare = lambda image: preparing.longest_side_padded(image, antialias=False)
    assert deviation(scorer, expected) > 100 * TOLERANCE


def test_a_resize_of_whole_numbers_is_caught(scorer, expected):
    def by_pil(image: Image.Image) -> torch.Tensor:
        rgb = image.convert("RGB")
        size = tuple(round(side * 224 / max(rgb.size)) for side in rgb.size)
        return preparing.longest_side_padded(rgb.resize(size, Image.Resampling.BICUBIC), antialias=True)

    scorer.prepare = by_pil
    assert deviation(scorer, expected) > 10 * TOLERANCE


def test_a_centre_crop_is_caught(scorer, expected):
    scorer.prepare = preparing.rgb_then_floor_crop
    assert deviation(scorer, expected) > 1000 * TOLERANCE


def test_padding_after_normalising_is_caught(scorer, expected):
    def late(image: Image.Image) -> torch.Tensor:
        inside = preparing.longest_side_padded(image, antialias=True)
        scale = 224 / max(image.size)
        width, height = (round(side * scale) for side in image.size)
        return center_crop(center_crop(inside, [height, width]), [224, 224])  # zeros in normalised space

    scorer.prepare = late
    assert deviation(scorer, expected) > 100 * TOLERANCE


def test_a_logit_scale_is_caught(scorer, expected):
    plain = scorer.score([goldens().images[0]], [goldens().prompts[0]]).item()
    assert plain == pytest.approx(expected[0, 0], abs=TOLERANCE)
    assert abs(plain * scorer.model.logit_scale.exp().item() - expected[0, 0]) > 0.01


def test_quick_gelu_is_caught(expected):
    config = {**goldens().config("hpsv2", "open_clip_config"), "quick_gelu": True}
    wrong = HPSv2(config, goldens().state("hpsv2", "state_dict"))
    assert deviation(wrong, expected) > 10 * TOLERANCE


@pytest.mark.parametrize("size", [(224, 100), (100, 224), (224, 224), (3, 500), (1, 1)])
def test_sizes_on_which_the_reference_crashes_are_padded_as_all_others(scorer, size):
    pixels = scorer.prepare(Image.new("RGB", size, "white"))
    assert pixels.shape == (3, 224, 224)
    if size == (224, 100):
        black = (0 - torch.tensor(preparing.CLIP_MEAN)) / torch.tensor(preparing.CLIP_STD)
        assert pixels[:, 0, 0].tolist() == pytest.approx(black.tolist())
        assert pixels[:, 112, 0].tolist() != pytest.approx(black.tolist())


def test_a_prompt_is_encoded_once_however_many_pictures_it_has(scorer):
    scorer.score(list(goldens().images), ["a fox"] * 9)
    scorer.score(list(goldens().images), ["a fox"] * 9)
    assert scorer.text.encoded == 1
