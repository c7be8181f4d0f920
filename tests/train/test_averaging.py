from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spin.core.errors import ConfigError, MemoryShortage
from spin.core.store import read_manifest
from spin.diffusion.checkpoint import load_denoiser, write_checkpoint
from spin.diffusion.digest import model_digest
from spin.train import averaging
from spin.train.averaging import average_opponent
from spin.train.request import AverageRequest
from tests.world import World, fingerprint


@pytest.fixture
def request_of(world: World, tmp_path: Path) -> AverageRequest:
    """The base as opponent, an iterate of twice its weights."""
    unet = load_denoiser(world.base, device="cpu")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(2)
    write_checkpoint(tmp_path / "iterate", base=world.base, denoiser=unet)
    return AverageRequest(
        target=tmp_path / "iteration-02" / "opponent", opponent=world.base, opponent_digest=world.base_digest,
        iterate=tmp_path / "iterate", iterate_digest=model_digest(tmp_path / "iterate"), decay=0.75,
    )  # fmt: skip


def test_the_average_by_hand(request_of: AverageRequest, world: World) -> None:
    digest = average_opponent(request_of)
    base, average = (load_denoiser(f, device="cpu").state_dict() for f in (world.base, request_of.target))
    for name, weight in base.items():
        torch.testing.assert_close(average[name], 1.25 * weight)  # 0.75 * 1 + 0.25 * 2
    manifest = read_manifest(request_of.target)
    assert manifest is not None
    assert digest == manifest.content_digest == model_digest(request_of.target)
    assert manifest.identity["decay"] == 0.75


def test_without_decay_the_opponent_is_the_iterate(request_of: AverageRequest) -> None:
    average_opponent(replace(request_of, decay=0.0))
    iterate, average = (load_denoiser(f, device="cpu").state_dict() for f in (request_of.iterate, request_of.target))
    assert all(torch.equal(average[name], weight) for name, weight in iterate.items())


def test_a_standing_average_is_kept_and_another_one_replaces_it(request_of: AverageRequest) -> None:
    first = average_opponent(request_of)
    before = fingerprint(request_of.target)
    assert average_opponent(request_of) == first
    assert fingerprint(request_of.target) == before
    assert average_opponent(replace(request_of, decay=0.5)) != first


def test_a_damaged_average_is_made_again_with_the_same_bytes(request_of: AverageRequest) -> None:
    first = average_opponent(request_of)
    weights = request_of.target / "unet" / "diffusion_pytorch_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert average_opponent(request_of) == first
    assert weights.read_bytes() == data


def test_a_model_that_is_gone_is_named(request_of: AverageRequest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a diffusers pipeline"):
        average_opponent(replace(request_of, iterate=tmp_path / "nothing"))


def test_memory_that_runs_out_names_the_setting_that_averages(
    request_of: AverageRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(folder: Path, *, device: str) -> torch.Tensor:
        return torch.empty(2**60, device=device)

    monkeypatch.setattr(averaging, "load_denoiser", too_large)
    with pytest.raises(MemoryShortage) as caught:
        average_opponent(request_of)
    assert str(caught.value).startswith("out of memory with train.opponent=average: ")
    assert str(caught.value).endswith("; set train.opponent=previous, in a new run (--set run.name=NAME)")
    assert not request_of.target.exists()
