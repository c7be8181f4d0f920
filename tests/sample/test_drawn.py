"""A batch on its way to the host."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from spin.core.errors import SamplingError
from spin.sample.drawn import Drawn, finite_rows
from tests.world import World

NAMES = ["a", "b", "c"]


def batch(device: str = "cpu") -> Drawn:
    latents = torch.arange(4 * 2 * 3 * 3, dtype=torch.float32, device=device).reshape(4, 2, 3, 3)
    return Drawn(latents, unsafe=torch.tensor([True, False, True, False]), finite={"latents": finite_rows(latents)})


def test_the_first_rows_land_as_they_are_and_what_nobody_asked_for_does_not() -> None:
    landing = batch().landing(NAMES)
    assert landing.is_here
    landed = landing.wait()
    assert torch.equal(landed.latents, batch().latents[:3])
    assert landed.unsafe is not None
    assert landed.unsafe.tolist() == [True, False, True]
    assert landed.pictures is None
    assert {what: flags.tolist() for what, flags in landed.finite.items()} == {"latents": [True] * 3}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_named_and_padding_is_not(world: World, tmp_path: Path, value: float) -> None:
    latents = batch().latents
    latents[1, 0, 2, 1] = latents[3, 0, 0, 0] = value
    assert finite_rows(latents).tolist() == [True, False, True, False]
    landing = Drawn(latents, finite={"latents": finite_rows(latents)}).landing(NAMES)
    with pytest.raises(SamplingError, match="latents of 1 images hold NaN or infinity; samples b; none of the shard"):
        landing.refuse_not_finite(world.sample_request(world.stage(tmp_path)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_batch_lands_in_pinned_memory_without_being_waited_for() -> None:
    landing = batch("cuda").landing(NAMES)
    landed = landing.wait()
    assert landing.is_here
    assert landed.latents.is_pinned()
    assert torch.equal(landed.latents, batch().latents[:3])
