"""What the counting and the probe are asked for."""

from __future__ import annotations

import pytest

from flows.forecast_work import evaluated_by, micro_batch, opponent_of, sampled_by, trained_by
from spin.core.config import load_config


def test_a_pass_holds_no_more_than_a_processs_share() -> None:
    config = load_config("miniature", overrides=["train.batch_size=8", "train.micro_batch_size=4"])
    assert [micro_batch(config, config.train, processes) for processes in (1, 2, 4, 8)] == [4, 4, 2, 1]
    assert micro_batch(config, config.sft, 1) == 4


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ((), "own"),
        (("train.lora_rank=4",), "shared"),
        (("train.lora_rank=4", "train.opponent=earlier"), "own"),
        (("train.lora_rank=4", "train.opponent=earlier", "iterations=1"), "shared"),
        (("train.lora_rank=4", "train.reference=stored"), "stored"),
        (("train.reference=stored",), "stored"),
    ],
)
def test_the_opponent_is_another_network_the_policy_without_its_adapter_or_stored(
    overrides: tuple[str, ...], kind: str
) -> None:
    assert opponent_of(load_config("miniature", overrides=list(overrides))) == kind


def test_a_probe_and_the_counting_are_asked_for_what_the_config_trains() -> None:
    config = load_config(
        "miniature", overrides=["train.lora_rank=4", "train.lora_layers=all", "train.gradient_checkpointing=true"]
    )
    found = trained_by(config, config.train, 1)
    assert (found.lora_rank, found.lora_layers, found.recompute, found.opponent) == (4, "all", True, "shared")
    supervised = trained_by(config, config.sft, 1)
    assert (supervised.lora_rank, supervised.recompute, supervised.pairs) == (None, True, False)


@pytest.mark.parametrize(
    ("overrides", "decoded", "encodings"),
    [
        ((), False, 0),
        (("sampling.store_images=true",), True, 0),
        (("safety.generated=flag",), True, 0),
        (("sampling.loser_source=roundtrip",), True, 1),
        (("sampling.loser_source=roundtrip", "train.flip=true"), True, 2),
    ],
)
def test_what_becomes_of_a_drawn_picture(overrides: tuple[str, ...], decoded: bool, encodings: int) -> None:
    config = load_config("miniature", overrides=list(overrides))
    found = sampled_by(config)
    assert (found.decoded, found.encodings) == (decoded, encodings)
    assert (evaluated_by(config).decoded, evaluated_by(config).encodings) == (True, 0)
