"""ImageReward against the reference's values, and the wrong choices that they must catch."""

import numpy as np
import pytest
from transformers import BertTokenizer

from spin.core.errors import ArtifactError
from spin.evaluate import image_reward as module
from spin.evaluate import preparing
from spin.evaluate.goldens import image_reward
from spin.evaluate.image_reward import ImageReward, read_vocabulary
from tests.evaluate.golden_scorers import FOLDER, deviation, deviation_alone, goldens

TOLERANCE = 1e-3


@pytest.fixture
def scorer() -> ImageReward:
    return image_reward(goldens())


@pytest.fixture(scope="module")
def expected():
    return goldens().expected("imagereward")


def test_every_pair_equals_the_reference_batched_and_alone(scorer, expected):
    assert not np.isnan(expected).any()
    assert deviation(scorer, expected) <= TOLERANCE
    assert deviation_alone(scorer, expected) <= TOLERANCE


def test_ranks_are_the_reference_s(scorer):
    golden = goldens().config("imagereward", "golden")
    images = list(goldens().images)
    for name, prompt in zip(golden["prompts"], goldens().prompts, strict=True):
        scores = scorer.score(images, [prompt] * len(images))
        ranks = (-scores).argsort().argsort() + 1
        assert ranks.tolist() == golden["ranks"][name]


def test_token_ids_are_the_reference_s(scorer):
    golden = goldens().config("imagereward", "golden")
    for name, text in zip(golden["prompts"], goldens().prompts, strict=True):
        tokens = scorer.tokenizer([text], padding="max_length", truncation=True, max_length=35)
        assert tokens.input_ids[0] == golden["tokens"][name]["input_ids"], name
        assert tokens.attention_mask[0] == golden["tokens"][name]["attention_mask"], name


def test_the_two_added_tokens_follow_the_vocabulary(scorer):
    size = len(read_vocabulary(FOLDER / "imagereward" / "vocab.txt"))
    assert scorer.tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [size, size + 1]


def test_transformers_default_epsilon_of_the_vision_tower_is_caught(expected):
    configs = [goldens().config("imagereward", name) for name in ("med_config", "vit_config")]
    wrong = {**configs[1], "layer_norm_eps": 1e-5}
    vocabulary = read_vocabulary(FOLDER / "imagereward" / "vocab.txt")
    scorer = ImageReward(configs[0], wrong, goldens().state("imagereward", "ImageReward"), vocabulary)
    assert deviation(scorer, expected) > 1000 * TOLERANCE


def test_rgb_before_the_resize_is_caught(scorer, expected):
    scorer.prepare = lambda image: preparing.round_crop_then_rgb(image.convert("RGB"))
    assert deviation(scorer, expected) > 100 * TOLERANCE


def test_a_floor_crop_is_caught(scorer, expected):
    scorer.prepare = preparing.rgb_then_floor_crop
    assert deviation(scorer, expected) > 100 * TOLERANCE


def test_a_causal_text_encoder_is_caught(scorer, expected, monkeypatch):
    forward = scorer.text_encoder.forward
    monkeypatch.setattr(scorer.text_encoder, "forward", lambda **given: forward(**{**given, "is_decoder": True}))
    assert deviation(scorer, expected) > 10 * TOLERANCE


@pytest.mark.parametrize("constant", ["_MEAN", "_STD"])
def test_a_reward_that_is_not_normalised_is_caught(scorer, expected, monkeypatch, constant):
    monkeypatch.setattr(module, constant, {"_MEAN": 0.0, "_STD": 1.0}[constant])
    assert deviation(scorer, expected) > 10 * TOLERANCE


def test_longer_prompts_than_35_tokens_are_caught(scorer, expected, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST_PROMPT", 64)
    assert deviation(scorer, expected) > TOLERANCE


def test_a_cased_vocabulary_is_caught(scorer, expected):
    scorer.tokenizer = BertTokenizer(vocab=read_vocabulary(FOLDER / "imagereward" / "vocab.txt"), do_lower_case=False)
    assert deviation(scorer, expected) > TOLERANCE


def test_a_vocabulary_keeps_tokens_with_unicode_line_separators(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\na\u2028b\nc\x85\n", "utf-8")
    assert read_vocabulary(path) == {"[PAD]": 0, "a\u2028b": 1, "c\x85": 2}


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"vocab\.txt: cannot be read"):
        read_vocabulary(tmp_path / "vocab.txt")
