from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from spin.core.errors import ArtifactError
from spin.core.store import commit
from spin.diffusion.checkpoint import (
    latent_scaling,
    load_denoiser,
    load_schedule,
    load_vae,
    verify_checkpoint,
    write_checkpoint,
)
from spin.diffusion.digest import model_digest
from spin.diffusion.families.registry import check_model
from spin.diffusion.schedules import Diffusion
from tests.families import change
from tests.world import World, fingerprint


@pytest.fixture
def base(world: World, tmp_path: Path) -> Path:
    """A copy of the packaged pipeline, free to break."""
    return Path(shutil.copytree(world.base, tmp_path / "base"))


def test_networks_load_frozen_in_the_asked_dtype(base: Path) -> None:
    unet = load_denoiser(base, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in unet.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in unet.parameters())
    assert not load_vae(base, device="cpu").training


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_convolutions_of_half_precision_have_their_channels_last(base: Path, dtype: str) -> None:
    for network in (load_denoiser(base, device="cpu", dtype=dtype), load_vae(base, device="cpu", dtype=dtype)):
        last = network.dtype != torch.float32  # a VAE may be, whatever is asked for
        weights = [module.weight for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
        wide = [weight for weight in weights if min(weight.shape[1:]) > 1]  # else both layouts are one
        assert wide
        assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in wide} == {last}
        assert {weight.is_contiguous() for weight in wide} == {not last}


def test_the_layout_changes_a_prediction_by_less_than_half_precision_does(base: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noisy, text = torch.randn(2, 16, 4, 4, generator=generator), torch.randn(2, 16, 96, generator=generator)
    exact, half = (load_denoiser(base, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    contiguous = copy.deepcopy(half).to(memory_format=torch.contiguous_format)
    assert contiguous.conv_in.weight.is_contiguous()
    said = []
    for network in (exact, contiguous, half):
        with torch.no_grad():
            said.append(network(noisy.to(network.dtype), torch.tensor(500), text.to(network.dtype)).sample.float())
    torch.testing.assert_close(said[2], said[1], atol=2e-2, rtol=2e-2)  # eps of bfloat16 is 0.008
    assert (said[2] - said[0]).abs().mean() < 1.5 * (said[1] - said[0]).abs().mean()


def test_damaged_weights_are_one_clear_line(base: Path) -> None:
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match="unet: cannot load: ") as caught:
        load_denoiser(base, device="cpu")
    assert "\n" not in str(caught.value)


def test_the_latent_space_is_read_without_weights(base: Path) -> None:
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert latent_scaling(base) == (1.0, 0.0)
    change(base / "vae" / "config.json", scaling_factor=0.36, shift_factor=0.12)
    assert latent_scaling(base) == (0.36, 0.12)


def test_the_schedule_is_that_of_training(base: Path) -> None:
    schedule = load_schedule(base, "cpu")
    assert isinstance(schedule, Diffusion)
    assert (schedule.steps, schedule.prediction_type) == (1000, "epsilon")
    assert schedule.alphas_cumprod[0].item() == pytest.approx(1 - 0.00085)


def test_a_checkpoint_opens_in_plain_diffusers_with_the_new_unet(world: World, tmp_path: Path) -> None:
    unet = load_denoiser(world.base, device="cpu")
    unet.conv_in.bias.fill_(0.25)
    write_checkpoint(tmp_path / "new", base=world.base, denoiser=unet)
    check_model(tmp_path / "new")
    opened = DiffusionPipeline.from_pretrained(tmp_path / "new")
    assert (opened.unet.conv_in.bias == 0.25).all()
    assert opened.unet.dtype == torch.float32


def test_a_base_is_copied_and_left_alone(base: Path, tmp_path: Path) -> None:
    (base / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"another precision of the old weights")
    before = fingerprint(base)
    write_checkpoint(tmp_path / "new", base=base, denoiser=load_denoiser(base, device="cpu"))
    assert fingerprint(base) == before
    for part in ("vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"):
        assert (tmp_path / "new" / part).read_bytes() == (base / part).read_bytes()
        assert not (tmp_path / "new" / part).samefile(base / part)
    assert len(list((tmp_path / "new" / "unet").iterdir())) == 2


def test_unchanged_parts_are_hard_linked_between_our_own_checkpoints(base: Path, tmp_path: Path) -> None:
    unet = load_denoiser(base, device="cpu")
    commit(tmp_path / "one", lambda folder: write_checkpoint(folder, base=base, denoiser=unet), kind="checkpoint")
    write_checkpoint(tmp_path / "two", base=tmp_path / "one", denoiser=unet)
    for part in ("vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"):
        assert (tmp_path / "two" / part).samefile(tmp_path / "one" / part)
    for part in ("unet/config.json", "unet/diffusion_pytorch_model.safetensors"):
        assert not (tmp_path / "two" / part).samefile(tmp_path / "one" / part)


def test_a_checkpoint_leaves_out_what_is_not_the_model(base: Path, tmp_path: Path) -> None:
    (base / "v1-5-pruned.ckpt").write_bytes(b"somebody's other file")
    index = json.loads((base / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (base / "model_index.json").write_text(json.dumps(index | {"requires_safety_checker": True}))
    write_checkpoint(tmp_path / "new", base=base, denoiser=load_denoiser(base, device="cpu"))
    written = json.loads((tmp_path / "new" / "model_index.json").read_text())
    assert (written["safety_checker"], written["requires_safety_checker"]) == ([None, None], False)
    assert not (tmp_path / "new" / "v1-5-pruned.ckpt").exists()
    DiffusionPipeline.from_pretrained(tmp_path / "new")


def test_equal_weights_give_equal_files_wherever_they_come_from(base: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one", base=base, denoiser=load_denoiser(base, device="cpu"))
    write_checkpoint(tmp_path / "two", base=tmp_path / "one", denoiser=load_denoiser(tmp_path / "one", device="cpu"))
    assert model_digest(tmp_path / "one") == model_digest(tmp_path / "two")


def test_parts_are_copied_where_they_cannot_be_linked(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr("os.link", refuse)
    write_checkpoint(tmp_path / "new", base=base, denoiser=load_denoiser(base, device="cpu"))
    check_model(tmp_path / "new")
    assert not (tmp_path / "new" / "model_index.json").samefile(base / "model_index.json")


def test_a_checkpoint_of_ours_is_held_against_its_manifest_before_it_is_read(base: Path, tmp_path: Path) -> None:
    verify_checkpoint(base)  # a user's base has none
    checkpoint = tmp_path / "step-000004"
    commit(
        checkpoint,
        lambda folder: write_checkpoint(folder, base=base, denoiser=load_denoiser(base, device="cpu")),
        kind="checkpoint",
    )
    verify_checkpoint(checkpoint)
    weights = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match="bytes differ from the manifest"):
        verify_checkpoint(checkpoint)
