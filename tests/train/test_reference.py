"""Stored errors of the opponent: the same bits as a live one, computed once for all runs of a sweep."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import StageFolder, manifest_path
from spin.core.schema import read_table, read_tensors
from spin.core.store import read_manifest
from spin.train.identity import training_identity
from spin.train.loop import Loop
from spin.train.processes import Processes
from spin.train.reference import errors_file, errors_identity
from spin.train.request import TrainRequest
from spin.train.room import run

MakeRequest = Callable[..., TrainRequest]
LOSSES = ("loss", "margin", "real_mse", "real_mse_opponent", "generated_mse_opponent", "gradient_norm")
SHORT = {"held_out_every_steps": 100, "state_every_steps": 100, "micro_batch_size": 4, "steps": 2}


@pytest.fixture
def asked() -> Iterator[list[int]]:
    """Latents of each pass without a gradient, but for those of held-out errors, which are 4."""
    found: list[int] = []

    def note(module: nn.Module, given: Any, _: object) -> None:
        if isinstance(module, UNet2DConditionModel) and not torch.is_grad_enabled() and len(given[0]) != 4:
            found.append(len(given[0]))

    hook = nn.modules.module.register_module_forward_hook(note)
    yield found
    hook.remove()


def log(request: TrainRequest) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = read_table(StageFolder(request.stage).training_log).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({}, "float32"),
        ({}, "bfloat16"),
        ({"timesteps_per_pair": 2, "safeguard": 0.5, "noise": "independent"}, "float32"),
        ({"lora_rank": 2, "lora_alpha": 4.0, "lr": 1e-3}, "float32"),
    ],
    ids=str,
)
def test_a_training_on_stored_errors_has_the_bits_of_a_live_one(
    make_request: MakeRequest, tmp_path: Path, asked: list[int], settings: dict[str, Any], dtype: str
) -> None:
    settings = {**SHORT, **settings}
    live = make_request("live", settings=settings, dtype=dtype)
    stored = make_request("stored", settings=settings, dtype=dtype, errors=tmp_path / "errors")
    results = []
    for request in (live, stored):
        asked.clear()
        results.append(run(request))
        assert asked == [8] * 2 * 2 * settings.get("timesteps_per_pair", 1)  # real and generated of 4 pairs, 2 passes
    assert log(stored) == log(live)
    assert results[0].digest == results[1].digest
    assert training_identity(live) == training_identity(stored)


def test_a_sweep_asks_the_opponent_once(make_request: MakeRequest, tmp_path: Path, asked: list[int]) -> None:
    shared: dict[str, Any] = {"errors": tmp_path / "errors"}
    run(make_request("first", settings=SHORT, **shared))
    asked.clear()
    adapter = {"lora_rank": 2, "lora_alpha": 2.0}
    for name, change in {"beta": {"beta": 77.0, "sft_weight": 0.5}, "lr": {"lr": 1e-3}, "lora": adapter}.items():
        settings = {**SHORT, **change}
        arm, live = make_request(name, settings=settings, **shared), make_request(f"live-{name}", settings=settings)
        run(arm)
        assert asked == []
        run(live)
        asked.clear()
        for stored, said in zip(log(arm), log(live), strict=True):
            assert {name: stored[name] for name in LOSSES} == pytest.approx(
                {name: said[name] for name in LOSSES}, abs=1e-6
            )
    assert len(list((tmp_path / "errors").glob("*.parquet"))) == 1


def test_the_opponent_is_not_loaded_where_its_errors_are_stored(make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(settings=SHORT, errors=tmp_path / "errors")
    run(request)
    with Loop(request, Processes("cpu")) as loop:
        assert loop.networks.opponent is None
        assert loop.step_of.opponent is None


def test_the_errors_are_an_artifact_with_all_that_they_are_made_from(make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(settings=SHORT, errors=tmp_path / "errors")
    run(request)
    manifest = read_manifest(errors_file(request))
    assert manifest is not None
    assert manifest.kind == "opponent-errors"
    assert manifest.identity["opponent"] == request.start_digest
    assert manifest.identity["stage"] == "iteration-01"
    assert {"prompts", "real", "text", "samples", "run_seed", "draws", "dtype", "class"} <= manifest.identity.keys()
    assert not {"beta", "lr", "lora_rank"} & manifest.identity["settings"].keys()
    assert {"caption_dropout", "flip", "noise", "timestep_law", "timesteps_per_pair", "posterior_sample", "batch_size",
            "micro_batch_size"} <= manifest.identity["settings"].keys()  # fmt: skip
    table = read_table(errors_file(request))
    assert read_tensors(table, "errors").shape == (16, 2)
    assert len(set(zip(table["row"].to_pylist(), table["visit"].to_pylist(), strict=True))) == 16


@pytest.mark.parametrize(
    "change",
    [{"run_seed": 1}, {"start_digest": "other"}, {"dtype": "bfloat16"}, {"threads": 2}, {"processes": 2}],
    ids=str,
)
def test_whatever_moves_an_error_makes_other_errors(make_request: MakeRequest, change: dict[str, Any]) -> None:
    request = make_request(errors=Path("errors"))
    other = replace(request, **change)
    assert errors_file(other) != errors_file(request)
    for name, value in {"caption_dropout": 0.5, "noise": "independent", "timesteps_per_pair": 2, "steps": 5}.items():
        assert errors_file(replace(request, settings=replace(request.settings, **{name: value}))) != errors_file(
            request
        )


def test_an_opponent_of_its_own_is_asked_wherever_the_training_begins(make_request: MakeRequest) -> None:
    request = make_request(errors=Path("errors"))
    other = replace(request, start_digest="later", reference=request.start, reference_digest=request.start_digest)
    assert errors_identity(other) == errors_identity(request)


def test_a_stop_while_they_are_computed_begins_anew_and_ends_the_same(
    make_request: MakeRequest, tmp_path: Path, asked: list[int]
) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if "stored" in note and done == 1:
            raise KeyboardInterrupt

    request = make_request(settings=SHORT, errors=tmp_path / "errors")
    with pytest.raises(KeyboardInterrupt):
        run(request, progress=stop)
    assert not manifest_path(errors_file(request)).exists()
    assert not StageFolder(request.stage).states.exists()
    asked.clear()
    digest = run(request).digest
    assert asked == [8] * 4
    assert digest == run(make_request("live", settings=SHORT)).digest


def test_errors_that_are_damaged_are_made_again(make_request: MakeRequest, tmp_path: Path, asked: list[int]) -> None:
    shared: dict[str, Any] = {"settings": SHORT, "errors": tmp_path / "errors"}
    digest = run(make_request("one", **shared)).digest
    request = make_request("two", **shared)
    path = errors_file(request)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    asked.clear()
    assert run(request).digest == digest
    assert asked == [8] * 4
    path.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Loop(request, Processes("cpu"))


def test_predictions_are_not_stored(make_request: MakeRequest, tmp_path: Path) -> None:
    request = make_request(settings={**SHORT, "trajectory": "reverse"}, errors=tmp_path / "errors")
    with pytest.raises(ConfigError, match=r"train\.reference: stored keeps errors.*; set it to live"):
        run(request)
