"""LAION's aesthetic predictor against the reference's values, and the wrong choices that they must catch."""

import pytest
import torch
from torch import nn

from spin.core.errors import ArtifactError
from spin.evaluate import aesthetic as module
from spin.evaluate import preparing
from spin.evaluate.aesthetic import Aesthetic, transformers_names, vision_config
from spin.evaluate.goldens import aesthetic
from tests.evaluate.golden_scorers import deviation, deviation_alone, goldens

TOLERANCE = 1e-4


@pytest.fixture
def scorer() -> Aesthetic:
    return aesthetic(goldens())


@pytest.fixture(scope="module")
def expected():
    return goldens().expected("aesthetic")


def test_every_picture_equals_the_reference_batched_and_alone(scorer, expected):
    assert deviation(scorer, expected) <= TOLERANCE
    assert deviation_alone(scorer, expected) <= TOLERANCE


def test_both_references_agree(expected):
    assert (abs(expected - goldens().expected("aesthetic", "scores_simple_inference")) <= 1e-5).all()


def test_unit_vectors_are_the_reference_s(scorer):
    golden = goldens().config("aesthetic", "golden")["image_embeds_normalized"]
    for name, image in zip(goldens().image_names, goldens().images, strict=True):
        vector = scorer.judge(scorer.prepare(image)[None], [""]).embeddings[0]
        assert vector.tolist() == pytest.approx(golden[name], abs=1e-5)


@pytest.mark.parametrize("wrong", [
    preparing.rgb_then_floor_crop,
    lambda image: preparing.round_crop_then_rgb(image.convert("RGB")),
], ids=["floor crop", "rgb first"])  # fmt: skip
def test_the_transformers_processor_is_caught(scorer, expected, wrong):
    scorer.prepare = wrong
    assert deviation(scorer, expected) > 100 * TOLERANCE


def test_a_vector_that_is_not_normalised_is_caught(scorer, expected, monkeypatch):
    monkeypatch.setattr(module, "normalize", lambda vectors, dim: vectors)
    assert deviation(scorer, expected) > 1000 * TOLERANCE


def test_plain_gelu_is_caught(expected):
    config = {**goldens().config("aesthetic", "vision_config"), "quick_gelu": False}
    states = [goldens().state("aesthetic", name) for name in ("clip_visual_openai", "mlp")]
    assert deviation(Aesthetic(vision_config(config), *states), expected) > 10 * TOLERANCE


def test_activations_between_the_layers_are_caught(scorer, expected):
    layers = [nn.ReLU() if isinstance(layer, nn.Identity) else layer for layer in scorer.head]
    scorer.head = nn.Sequential(*layers)
    assert deviation(scorer, expected) > 100 * TOLERANCE


def test_weights_in_transformers_names_give_the_same_scores(scorer):
    config = goldens().config("aesthetic", "vision_config")
    visual = transformers_names(goldens().state("aesthetic", "clip_visual_openai"))
    text = {"text_model.final_layer_norm.bias": torch.zeros(3), "logit_scale": torch.tensor(1.0)}  # of a whole CLIP
    same = Aesthetic(vision_config(config), {**visual, **text}, goldens().state("aesthetic", "mlp"))
    images = list(goldens().images)
    assert torch.equal(same.score(images, [""] * 9), scorer.score(images, [""] * 9))


def test_weights_of_another_shape_are_named():
    config = {**goldens().config("aesthetic", "vision_config"), "width": 32}
    states = [goldens().state("aesthetic", name) for name in ("clip_visual_openai", "mlp")]
    with pytest.raises(ArtifactError, match="aesthetic: weights do not fit the model: size mismatch"):
        Aesthetic(vision_config(config), *states)
