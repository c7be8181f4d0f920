"""Every key explains itself, in words and with the source of its default."""

import pytest

from spin.core.config_explain import explain
from spin.core.config_messages import config_keys
from spin.core.errors import ConfigError


def test_every_key_has_meaning_type_default_and_source():
    assert len(config_keys()) > 70
    for key in config_keys():
        told = explain(key)
        assert told.key == key
        assert told.meaning
        assert told.type
        assert told.type == "section" or (told.default and told.source)


def test_a_number_per_iteration_is_told():
    told = explain("train.beta")
    assert told.type == "number or list with one for each iteration"
    assert told.limits == "above 0, at most 1000000000"
    assert (told.default, told.source) == ("300", "measured in the miniature")


@pytest.mark.parametrize(
    ("key", "type_", "default", "limits"),
    [
        ("sampling.loser_source", "one of latents, roundtrip", "latents", ""),
        ("data.resolution", "whole number or null", "null", "at least 8, at most 8192, a multiple of 8"),
        ("train.adam_beta1", "number", "0.9", "at least 0, below 1"),
        ("train.flip", "true or false", "false", ""),
        (
            "evaluation.scorers",
            "auto or list of alignment, aesthetic, attributes, pickscore, hpsv2, image_reward, frechet, frechet_clean,"
            " diversity",
            "auto",
            "",
        ),
        ("preset", "text or null", "null", "the name of a preset"),
    ],
)
def test_type_default_and_limits_are_in_words(key, type_, default, limits):
    told = explain(key)
    assert (told.type, told.default, told.limits) == (type_, default, limits)


def test_a_section_lists_its_keys():
    told = explain("run")
    assert (told.type, told.limits, told.meaning) == (
        "section",
        "keys: name, seed, root",
        "The run's name, seed and place.",
    )


@pytest.mark.parametrize(("key", "near"), [("train.bta", "beta"), ("trian", "train"), ("beta", "train.beta")])
def test_an_unknown_key_is_met_with_the_nearest(key, near):
    with pytest.raises(ConfigError, match=rf"^{key}: unknown key; did you mean '{near}'\?$"):
        explain(key)
