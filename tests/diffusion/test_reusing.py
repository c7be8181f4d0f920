"""Deep features reused between calls: what runs, what stays exact, how the error grows."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spin.core.approximation import EXACT, Approximation
from spin.diffusion.checkpoint import load_denoiser
from spin.diffusion.compiling import CompiledNetwork
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.families.facts import facts_of
from spin.diffusion.families.registry import family_of, read_configs
from spin.diffusion.noise import initial_noise
from spin.diffusion.reusing import reusing_deep_features
from spin.diffusion.sampler import sample_latents
from spin.diffusion.solvers import load_solver
from spin.miniature.packaged import packaged_pipeline_path

FolderOf = Callable[[str], Path]
KINDS = ("miniature", "sd-v", "sdxl")


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, folder_of: FolderOf) -> Path:
    return packaged_pipeline_path() if request.param == "miniature" else folder_of(request.param)


def draw(folder: Path, approximation: Approximation = EXACT, **changes: Any) -> Tensor:
    network = changes.pop("network", None) or load_denoiser(folder, device="cpu")
    shapes = family_of(folder).given_shapes(read_configs(folder))
    generator = torch.Generator().manual_seed(0)
    told = {name: torch.randn(3, *shape, generator=generator) for name, shape in shapes.items()}
    values: dict[str, Any] = {"guidance_scale": 3.0, "num_inference_steps": 10, **changes}
    return sample_latents(
        Denoiser(network, family_of(folder)), load_solver(folder), approximation=approximation,
        noise=initial_noise([1, 2], facts_of(folder).latent_shape),
        given=Conditioning({name: value[:2] for name, value in told.items()}),
        unconditional=Conditioning({name: value[2:] for name, value in told.items()}), **values,
    )  # fmt: skip


@contextmanager
def counted(*blocks: torch.nn.Module) -> Iterator[list[int]]:
    """Rows of each time that a resnet of a block runs; what is skipped never reaches it."""
    seen: list[int] = []
    hooks = [
        block.resnets[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))  # type: ignore[union-attr,index,operator]
        for block in blocks
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def test_deep_blocks_run_in_every_so_many_calls_and_the_outermost_in_all(folder: Path) -> None:
    network: Any = load_denoiser(folder, device="cpu")
    deep_blocks = [*network.down_blocks[1:], network.mid_block, *network.up_blocks[:-1]]
    with counted(*deep_blocks) as deep, counted(network.down_blocks[0], network.up_blocks[-1]) as outer:
        draw(folder, Approximation(reuse_every=4), network=network)
    assert deep == [4] * (3 * len(deep_blocks))  # calls 0, 4, 8 of 10, both halves of two pictures
    assert outer == [4] * 20


def test_a_change_of_the_batch_runs_the_deep_blocks_anew(folder: Path) -> None:
    network: Any = load_denoiser(folder, device="cpu")
    with counted(network.mid_block) as deep, counted(network.down_blocks[0]) as outer:
        draw(folder, Approximation((0.2, 0.7), 3), network=network)
    assert deep == [2, 4, 4, 2]  # calls 0, 2, 5, 7
    assert outer == [2, 2, 4, 4, 4, 4, 4, 2, 2, 2]


def test_the_network_is_as_it_was_afterwards(folder: Path) -> None:
    network: Any = load_denoiser(folder, device="cpu")
    before = draw(folder, network=network)
    draw(folder, Approximation(reuse_every=3), network=network)
    assert torch.equal(draw(folder, network=network), before)
    assert [name for name, module in network.named_modules() if "forward" in vars(module)] == []


def test_the_network_is_as_it_was_after_an_error() -> None:
    network: Any = load_denoiser(packaged_pipeline_path(), device="cpu")
    with pytest.raises(RuntimeError, match="stop"), reusing_deep_features(network):
        raise RuntimeError("stop")
    assert [name for name, module in network.named_modules() if "forward" in vars(module)] == []


def test_where_the_depth_says_always_the_same_reuse_is_exact(folder: Path) -> None:
    network: Any = load_denoiser(folder, device="cpu")
    last_deep = network.up_blocks[-2]
    run = last_deep.forward
    last_deep.forward = lambda *rest, **more: torch.full_like(run(*rest, **more), 0.3)
    exact = draw(folder, network=network)
    constant = vars(last_deep)["forward"]
    found = draw(folder, Approximation(reuse_every=5), network=network)
    assert torch.equal(found, exact)
    assert vars(last_deep)["forward"] is constant  # as a hook of accelerate gives a block one of its own


def test_remembered_features_are_those_of_the_last_call_that_had_them() -> None:
    folder = packaged_pipeline_path()
    network: Any = load_denoiser(folder, device="cpu")
    with reusing_deep_features(network) as features:
        noisy = torch.randn(2, *facts_of(folder).latent_shape, generator=torch.Generator().manual_seed(0))
        shapes = family_of(folder).given_shapes(read_configs(folder))
        given = Conditioning.zeros(shapes, 2, device="cpu", dtype=torch.float32)
        first = Denoiser(network, family_of(folder))(noisy, torch.tensor(500), given)
        features.computed = False
        again = Denoiser(network, family_of(folder))(noisy, torch.tensor(500), given)
        other = Denoiser(network, family_of(folder))(noisy, torch.tensor(100), given)
    assert torch.equal(first, again)  # the same input: the remembered features are the right ones
    assert not torch.equal(other, again)


def test_the_error_falls_with_what_is_left_out() -> None:
    folder = packaged_pipeline_path()
    exact = draw(folder, num_inference_steps=20)
    errors = [
        float((draw(folder, Approximation(reuse_every=every), num_inference_steps=20) - exact).square().mean().sqrt())
        for every in (2, 4, 8)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_an_eager_network_behind_the_compilers_door_is_reached() -> None:
    folder = packaged_pipeline_path()
    behind = CompiledNetwork(load_denoiser(folder, device="cpu"), enabled=False)
    approximation = Approximation(reuse_every=3)
    assert torch.equal(draw(folder, approximation, network=behind), draw(folder, approximation))
