"""An opponent whose images are not finite is stopped before anything of it is kept."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from spin.core.errors import SamplingError
from spin.core.layout import StageFolder
from spin.core.planning import read_shard_rows
from spin.diffusion.checkpoint import load_denoiser, load_vae, write_checkpoint
from spin.diffusion.digest import model_digest
from spin.sample.opponent import Opponent
from spin.sample.room import run
from tests.world import World

MakeModel = Callable[..., dict[str, Any]]


@pytest.fixture
def broken(world: World, tmp_path: Path) -> MakeModel:
    """What a request names of an opponent whose network, or whose VAE's `side`, holds NaN."""

    def make(side: str) -> dict[str, Any]:
        folder, network = tmp_path / side, load_denoiser(world.base, device="cpu")
        if side == "network":
            spoil(network.conv_out.weight)
        write_checkpoint(folder, base=world.base, denoiser=network)
        if side != "network":
            vae: AutoencoderKL = load_vae(world.base, device="cpu")
            spoil(getattr(vae, side).conv_out.weight)
            vae.save_pretrained(folder / "vae")
        return {"opponent": folder, "opponent_digest": model_digest(folder)}

    return make


def spoil(weight: torch.Tensor) -> None:
    with torch.no_grad():
        weight.view(-1)[0] = math.nan


@pytest.mark.parametrize(
    ("side", "what", "more"),
    [
        ("network", "latents", {}),
        ("decoder", "pictures", {"store_images": True}),
        ("encoder", "posteriors", {"loser_source": "roundtrip"}),
    ],
)
def test_images_that_are_not_finite_are_named_and_none_of_their_shard_is_kept(
    world: World, tmp_path: Path, broken: MakeModel, side: str, what: str, more: dict[str, Any]
) -> None:
    stage = world.stage(tmp_path / "stage")
    with pytest.raises(SamplingError) as caught:
        run(world.sample_request(stage, **broken(side), **more))
    names = [row["sample_id"] for row in read_shard_rows(stage, 0)][:8]
    assert f"{what} of 8 images hold NaN or infinity; samples {', '.join(names)}; none of the shard is kept" in str(
        caught.value
    )
    assert str(caught.value).endswith("the model itself gives them: begin with another, or train it with a lower lr")
    assert list(StageFolder(stage.path).samples(0).parent.glob("*")) == []


def test_one_of_a_batch_is_named_alone(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spin.sample import opponent

    draw = opponent.initial_noise

    def noise(seeds: list[int], shape: tuple[int, ...]) -> torch.Tensor:
        values = draw(seeds, shape)
        values[2] = math.nan
        return values

    monkeypatch.setattr(opponent, "initial_noise", noise)
    stage = world.stage(tmp_path / "stage")
    name = read_shard_rows(stage, 0)[2]["sample_id"]
    with pytest.raises(SamplingError, match=f"latents of 1 images hold NaN or infinity; samples {name}; none of"):
        run(world.sample_request(stage))


def test_less_precision_has_more_as_a_way_out(world: World, tmp_path: Path, broken: MakeModel) -> None:
    stage = world.stage(tmp_path / "stage")
    with pytest.raises(SamplingError, match=r"; set execution\.dtype to float32$"):
        run(world.sample_request(stage, **broken("network"), dtype="bfloat16"))


def test_only_pictures_that_are_encoded_again_need_float32(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path / "stage")
    asked = partial(world.sample_request, stage, dtype="bfloat16", store_images=True)
    found = [Opponent.load(asked(loser_source=source)).vae for source in ("latents", "roundtrip")]
    assert [vae is not None and vae.dtype for vae in found] == [torch.bfloat16, torch.float32]
