"""A step of each objective on a tiny real pipeline of every family, from pictures to a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spin.core.layout import StageFolder
from spin.core.schema import read_table, read_tensors
from spin.diffusion.families.registry import check_model
from spin.sample.room import run as sample
from spin.train.request import TrainResult
from spin.train.room import run as train
from tests.families import BUILDERS, build
from tests.world import World, copy_stage, make_world

pytestmark = pytest.mark.system

OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "spin": {},
    "spin with an adapter": {"lora_rank": 2, "lora_alpha": 2.0, "lr": 1e-2},
    "spin over all layers": {"lora_rank": 2, "lora_alpha": 2.0, "lora_layers": "all", "lr": 1e-2},
    "dpo": {},
    "sft": {"objective": "sft", "beta": 0.0, "sft_weight": 0.0},
}


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, StageFolder]:
    """A world encoded by the family's own model, and a first iteration of its pictures."""
    root = tmp_path_factory.mktemp(request.param)
    build(request.param).save_pretrained(root / "base")
    world = make_world(root / "runs", root / "base")
    stage = world.stage(root / "stage")
    sample(world.sample_request(stage, num_inference_steps=2))
    return world, stage


def test_the_opponents_pictures_are_latents_of_its_family(played: tuple[World, StageFolder]) -> None:
    world, stage = played
    latents = read_tensors(read_table(stage.samples(0)), "latent")
    assert latents.shape == (24, 4, 8, 8)
    assert math.isfinite(latents.sum())
    real = read_tensors(read_table(world.cache.latents), "latent_mean")
    assert real.shape[1:] == (4, 8, 8)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_every_family(played: tuple[World, StageFolder], objective: str, tmp_path: Path) -> None:
    world, sampled = played
    stage = copy_stage(sampled, tmp_path)
    settings = {"steps": 2, "warmup_steps": 0, "sft_weight": 0.0, "lr": 1e-3, **OBJECTIVES[objective]}
    losers = world.cache.losers if objective == "dpo" else None
    result: TrainResult = train(world.train_request(stage, settings=settings, losers=losers))
    first, second = read_table(stage.training_log).to_pylist()
    check_model(result.checkpoint)
    assert result.digest != world.base_digest
    assert first["gradient_norm"] > 0
    if objective == "sft":
        assert first["loss"] == first["real_mse"] > 0
        return
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)  # policy and opponent agree
    assert first["margin"] == 0
    assert first["real_mse"] == first["real_mse_opponent"]
    assert second["margin"] != 0
