"""PickScore against the reference's values, and the wrong choices that they must catch."""

import math

import numpy as np
import pytest
import torch
from open_clip import SimpleTokenizer
from PIL import Image
from transformers import CLIPImageProcessor

from spin.diffusion.remembering import Remembered
from spin.evaluate import preparing
from spin.evaluate.goldens import pickscore
from spin.evaluate.pickscore import PickScore
from tests.evaluate.golden_scorers import deviation, deviation_alone, goldens

TOLERANCE = 1e-3


@pytest.fixture
def scorer() -> PickScore:
    return pickscore(goldens())


@pytest.fixture(scope="module")
def expected():
    return goldens().expected("pickscore")


def test_every_pair_equals_the_reference_batched_and_alone(scorer, expected):
    assert expected.shape == (8, 9)
    assert not np.isnan(expected).any()
    assert deviation(scorer, expected) <= TOLERANCE
    assert deviation_alone(scorer, expected) <= TOLERANCE


def test_token_ids_are_the_reference_s(scorer):
    golden = goldens().config("pickscore", "golden")
    for name, text in zip(golden["prompts"], goldens().prompts, strict=True):
        ids = scorer.tokenizer([text], truncation=True, max_length=77).input_ids[0]
        assert ids == golden["input_ids"][name], name


def test_image_vectors_and_pixels_are_the_reference_s(scorer):
    golden = goldens().config("pickscore", "golden")
    for name, image in zip(goldens().image_names, goldens().images, strict=True):
        pixels = scorer.prepare(image)
        found = [pixels.mean().item(), pixels.square().mean().item()]
        assert found == pytest.approx(golden["pixel_mean_and_mean_square"][name], abs=1e-5)
        vector = scorer.judge(pixels[None], [""]).embeddings[0]
        assert vector.tolist() == pytest.approx(golden["image_embeds"][name], abs=1e-5)


def test_the_torchvision_processor_is_caught(scorer, expected):
    processor = CLIPImageProcessor()
    scorer.prepare = lambda image: processor(image.convert("RGB"), return_tensors="pt").pixel_values[0]
    assert deviation(scorer, expected) > 2 * TOLERANCE


def test_a_rounded_crop_is_caught(scorer, expected):
    scorer.prepare = lambda image: preparing.round_crop_then_rgb(image.convert("RGB"))
    assert deviation(scorer, expected) > 100 * TOLERANCE


def test_a_resize_before_rgb_is_caught(scorer, expected):
    def late(image: Image.Image) -> torch.Tensor:
        short = min(image.size)
        size = tuple(int(224 * side / short) for side in image.size)
        return preparing.rgb_then_floor_crop(image.resize(size, Image.Resampling.BICUBIC))

    scorer.prepare = late
    assert deviation(scorer, expected) > TOLERANCE


def test_open_clip_s_tokenizer_is_caught(scorer, expected):
    tokenizer = SimpleTokenizer(context_length=77)

    def encode(prompts):
        features = scorer.model.get_text_features(input_ids=tokenizer(list(prompts))).pooler_output
        return torch.nn.functional.normalize(features, dim=1)

    scorer.text = Remembered(encode)
    assert deviation(scorer, expected) > 1000 * TOLERANCE


def test_a_scale_of_100_is_caught(scorer, expected):
    scorer.scale = 100.0
    assert deviation(scorer, expected) > 1000 * TOLERANCE


def test_a_softmax_or_a_plain_cosine_is_caught(scorer, expected):
    assert not math.isclose(scorer.scale, 1.0)
    scorer.scale = 1.0
    assert deviation(scorer, expected) > 1000 * TOLERANCE


def test_a_prompt_is_encoded_once_however_many_pictures_it_has(scorer):
    images = list(goldens().images)
    scorer.score(images, ["a fox"] * len(images))
    scorer.score(images[:2], ["a fox", "a cat"])
    assert scorer.text.encoded == 2
