"""An adapter apart from its network: what it adds, added up, and read by diffusers' own pipelines."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from spin.core.adapters import ADAPTER_FILE
from spin.diffusion.adapter import (
    Adapter,
    Factors,
    as_diffusers,
    summed,
    trained_adapter,
    write_weights,
)
from spin.diffusion.checkpoint import load_denoiser
from spin.diffusion.families.registry import family_of, read_configs
from spin.diffusion.kohya import as_kohya
from spin.diffusion.lora import add_adapter, merge_adapter
from tests.families import build, teach


def learned(folder: Path, *, layers: str = "attention", rank: int = 3, seed: int = 0, before: Any = None) -> Any:
    """The network, or the one `before`, with an adapter of alpha 6 that has learned something."""
    network = load_denoiser(folder, device="cpu") if before is None else before
    add_adapter(network, rank=rank, alpha=6.0, layers=layers, attention=family_of(folder).attention, seed=seed)
    teach(network, seed=seed)
    return network


def draw(pipeline: Any) -> Tensor:
    """Latents of two captions, guided, from the same noise."""
    generator = torch.Generator().manual_seed(1)
    pipeline.set_progress_bar_config(disable=True)
    found: Tensor = pipeline(
        ["a red circle", "a large square"], num_inference_steps=4, guidance_scale=3.0, generator=generator,
        output_type="latent",
    ).images  # fmt: skip
    return found


def merged(kind: str, network: Any) -> Any:
    """The pipeline with the adapter in its weights."""
    pipeline = build(kind)
    merge_adapter(network)
    setattr(pipeline, "unet" if hasattr(pipeline, "unet") else "transformer", network)
    return pipeline


def written(folder: Path, adapter: Adapter, form: str, target: Path) -> Path:
    family = family_of(folder)
    weights = as_diffusers(adapter, family) if form == "diffusers" else as_kohya(adapter, family, read_configs(folder))
    write_weights(target / ADAPTER_FILE, weights)
    return target


@pytest.mark.parametrize("layers", ["attention", "all"])
@pytest.mark.parametrize(
    ("kind", "form"),
    [("sd-v", "diffusers"), ("sdxl", "diffusers"), ("sd3", "diffusers"), ("sd-v", "kohya"), ("sdxl", "kohya")],
)
def test_a_fresh_pipeline_with_the_file_draws_what_the_merged_one_draws(
    folder_of: Callable[[str], Path], tmp_path: Path, kind: str, form: str, layers: str
) -> None:
    folder = folder_of(kind)
    network = learned(folder, layers=layers)
    file = written(folder, trained_adapter(network), form, tmp_path)
    fresh = build(kind)
    plain = draw(fresh)
    fresh.load_lora_weights(str(file))
    wanted = draw(merged(kind, network))
    assert (wanted - plain).abs().max() > 0.01
    torch.testing.assert_close(draw(fresh), wanted, atol=1e-5, rtol=1e-5)  # float32, latents of about 7


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_the_sum_of_two_adapters_of_other_ranks_and_layers_draws_what_both_merged_draw(
    folder_of: Callable[[str], Path], tmp_path: Path, form: str
) -> None:
    folder = folder_of("sdxl")
    network = learned(folder, layers="attention")
    first = trained_adapter(network)
    merge_adapter(network)
    learned(folder, layers="all", rank=2, seed=1, before=network)
    both = summed([first, trained_adapter(network)])
    assert {factors.rank for factors in both.values()} == {2, 5}
    fresh = build("sdxl")
    fresh.load_lora_weights(str(written(folder, both, form, tmp_path)))
    torch.testing.assert_close(draw(fresh), draw(merged("sdxl", network)), atol=1e-5, rtol=1e-5)


def test_a_sum_adds_what_each_adds() -> None:
    generator = torch.Generator().manual_seed(0)
    a1, a2, b1, b2 = (torch.randn(*shape, generator=generator) for shape in ((3, 5), (2, 5), (4, 3), (4, 2)))
    total = summed([{"x": Factors(a1, b1)}, {"x": Factors(a2, b2), "y": Factors(a2, b2)}])
    assert (total["x"].rank, total["y"].rank) == (5, 2)
    torch.testing.assert_close(total["x"].b @ total["x"].a, b1 @ a1 + b2 @ a2)
    assert torch.equal(total["y"].a, a2)


def test_the_scale_stands_in_b_and_a_is_as_it_trained(folder_of: Callable[[str], Path]) -> None:
    network = learned(folder_of("sd-v"))
    weights = dict(network.named_parameters())
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    found = trained_adapter(network)[name]
    assert torch.equal(found.a, weights[f"{name}.lora_A.default.weight"])
    assert torch.equal(found.b, 2.0 * weights[f"{name}.lora_B.default.weight"])  # alpha / rank = 6 / 3


def test_equal_adapters_are_equal_bytes(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    adapter, family = trained_adapter(learned(folder_of("sd3"))), family_of(folder_of("sd3"))
    files = [tmp_path / name for name in ("one.safetensors", "two.safetensors")]
    write_weights(files[0], as_diffusers(adapter, family))
    write_weights(files[1], as_diffusers(dict(reversed(adapter.items())), family))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert all(name.startswith("transformer.transformer_blocks.") for name in load_file(files[0]))
