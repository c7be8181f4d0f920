"""Two configs are the same run exactly where nothing that moves a result differs."""

import json

import pytest

from spin.core.config import load_config
from spin.core.config_identity import ABSENT, FieldChange, config_hash, config_to_json, diff_configs


def mini(*overrides):
    return load_config("miniature", overrides=overrides)


def test_the_hash_is_16_hex_digits_and_never_moves_by_itself():
    assert config_hash(mini()) == config_hash(mini())
    assert len(config_hash(mini())) == 16
    int(config_hash(mini()), 16)


@pytest.mark.parametrize(
    "override", ["run.root=/elsewhere", "execution.device=cuda", "execution.room=process", "execution.executor=local"]
)
def test_where_the_work_runs_is_not_part_of_it(override):
    assert config_hash(mini(override)) == config_hash(mini())
    assert diff_configs(config_to_json(mini()), config_to_json(mini(override))) == []


@pytest.mark.parametrize(
    "override",
    ["execution.dtype=bfloat16", "execution.threads=2", "run.seed=1", "train.beta=2000", "sampling.batch_size=32"],
)
def test_what_moves_a_result_is_part_of_it(override):
    key = override.partition("=")[0]
    assert config_hash(mini(override)) != config_hash(mini())
    assert [change.key for change in diff_configs(config_to_json(mini()), config_to_json(mini(override)))] == [key]


def test_the_spelling_of_a_number_does_not_matter():
    assert config_hash(mini("train.beta=2000")) == config_hash(mini("train.beta=2e3"))


def test_a_change_says_both_values():
    (change,) = diff_configs(config_to_json(mini()), config_to_json(mini("train.steps=[1,2,3]")))
    assert change == FieldChange("train.steps", 120, [1, 2, 3])
    assert str(change) == "train.steps: 120 -> [1, 2, 3]"


def test_a_key_of_an_older_run_may_be_absent():
    old = config_to_json(mini())
    del old["train"]["flip"]
    assert diff_configs(old, config_to_json(mini())) == [FieldChange("train.flip", ABSENT, False)]
    assert str(diff_configs(old, config_to_json(mini()))[0]) == "train.flip: (absent) -> false"


def test_json_and_tuples_compare_alike():
    config = mini("train.steps=[1,2,3]")
    assert diff_configs(config.model_dump(), json.loads(json.dumps(config_to_json(config)))) == []
