"""The tiny world's held-out rows, and models that differ from its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spin.diffusion.checkpoint import load_denoiser, write_checkpoint
from spin.diffusion.digest import model_digest
from spin.evaluate import subject
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.room import run
from spin.evaluate.subject import Subject
from tests.world import World

Ask = Callable[..., EvaluateRequest]
ALL = ("alignment", "aesthetic", "attributes", "frechet", "frechet_clean", "diversity")


def request_for(world: World, folder: Path) -> EvaluateRequest:
    """The base on six test prompts, two solver steps, batches of four, all in one shard."""
    return EvaluateRequest(
        runs_root=folder / "runs", subject=world.base, subject_digest=world.base_digest, benchmark="test",
        prompts=None, real=world.cache.path, data_digest="d" * 64, max_prompts=6, protocol="single",
        images_per_prompt=3, diversity_prompts=0, diversity_images=3, scheduler="dpmsolver++", guidance_scale=3.0,
        num_inference_steps=2, seed=5, batch_size=4, shard_size=1000, shards=None, finish=True, judges="miniature",
        scorers=ALL, scorers_folder=None, hps_version="v2.0", hps_antialias=True, scorer_dtype="float32",
        max_bad_share=0.5, denoising_draws=3, device="cpu", dtype="float32", threads=1,
    )  # fmt: skip


@contextmanager
def counted_loads() -> Iterator[list[Path | None]]:
    """Starts from an empty slot; the folders of the models loaded while it runs."""
    loads: list[Path | None] = []
    load = Subject.load

    def counted(request: EvaluateRequest) -> Subject:
        loads.append(request.subject)
        return load(request)

    subject._resident.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Subject, "load", counted)
        yield loads


@pytest.fixture
def ask(world: World, tmp_path: Path) -> Ask:
    """That request in a runs root of the test's own, with changes."""
    request = request_for(world, tmp_path)
    return lambda **changes: replace(request, **changes)


@pytest.fixture
def ask_data(ask: Ask) -> Ask:
    """The same for the real held-out images."""
    return lambda **changes: ask(**{"subject": None, "subject_digest": "data-" + "d" * 64, **changes})


def changed_model(world: World, folder: Path, change: Callable[[torch.nn.Module], Any]) -> dict[str, Any]:
    """Subject and digest of the base with a changed UNet."""
    unet = load_denoiser(world.base, device="cpu")
    change(unet)
    write_checkpoint(folder, base=world.base, denoiser=unet)
    return {"subject": folder, "subject_digest": model_digest(folder)}


@pytest.fixture(scope="session")
def other(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A second model: the base with a shifted output."""
    return changed_model(world, tmp_path_factory.mktemp("other") / "model", lambda unet: unet.conv_out.bias.add_(0.05))


@pytest.fixture(scope="session")
def broken(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model that predicts NaN."""
    return changed_model(
        world, tmp_path_factory.mktemp("broken") / "model", lambda unet: unet.conv_out.bias.fill_(float("nan"))
    )


@pytest.fixture(scope="session")
def evaluated(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluateRequest, EvaluateResult]:
    """The base, evaluated once; nobody writes there."""
    request = request_for(world, tmp_path_factory.mktemp("evaluated"))
    return request, run(request)
