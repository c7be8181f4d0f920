"""From the config to exact values."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.requests import Model, Requests
from spin.core.config import load_config
from spin.prepare.request import PrepareResult


@pytest.mark.parametrize(
    ("settings", "device", "batch_size", "processes"),
    [
        ((), "cuda", 33, 3),
        ((), "cuda", 32, 2),  # of three GPUs two can share it evenly
        ((), "cuda", 7, 1),
        ((), "cpu", 32, 1),
        (("execution.train_processes=4",), "cuda", 32, 4),
        (("execution.train_processes=2",), "cpu", 32, 2),
    ],
)
def test_a_training_takes_as_many_gpus_as_can_share_its_batch(
    settings: tuple[str, ...], device: str, batch_size: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.requests.visible_gpus", lambda: ("a", "b", "c"))
    assert Requests(load_config("miniature", overrides=settings), device).processes(batch_size) == processes


def test_without_a_rank_no_adapter_is_asked_for() -> None:
    settings = Requests(load_config("miniature", overrides=["train.lora_layers=all"]), "cpu").spin_settings(1)
    assert (settings.lora_rank, settings.lora_alpha, settings.lora_layers) == (None, 0.0, "attention")


@pytest.mark.parametrize(("alpha", "found"), [("null", 8.0), ("2", 2.0)])
def test_the_scale_of_an_adapter_is_its_rank_unless_it_is_given(alpha: str, found: float) -> None:
    overrides = [f"{s}.{k}={v}" for s in ("sft", "train") for k, v in (("lora_rank", 8), ("lora_alpha", alpha))]
    requests = Requests(load_config("miniature", overrides=overrides), "cpu")
    for settings in (requests.sft_settings(), requests.spin_settings(1)):
        assert (settings.lora_rank, settings.lora_alpha) == (8, found)


@pytest.mark.parametrize(("rows", "reads"), [("read", 120 * 32), ("all", 384 * 2)])
def test_a_plan_has_the_rows_that_are_read_or_all_of_them(tmp_path: Path, rows: str, reads: int) -> None:
    config = load_config("miniature", overrides=[f"sampling.rows={rows}", "sampling.draws=2"])
    counted = {"train": 384, "validation": 128, "test": 256}
    prepared = PrepareResult(tmp_path, tmp_path, "d", counted, {}, 0, 0.0)
    assert Requests(config, "cpu").plan(1, prepared, Model("base", "base", tmp_path, "b"))["reads"] == reads


@pytest.mark.parametrize(("written", "asked"), [("none", ()), ("[wandb, tensorboard]", ("wandb", "tensorboard"))])
def test_every_training_reports_to_the_trackers_of_the_config(
    tmp_path: Path, written: str, asked: tuple[str, ...]
) -> None:
    requests = Requests(load_config("miniature", overrides=[f"execution.report_to={written}"]), "cpu")
    prepared = PrepareResult(tmp_path, tmp_path, "d", {"train": 384}, {}, 0, 0.0)
    base = Model("base", "base", tmp_path, "b")
    assert requests.train_sft(prepared, base).report_to == asked
    assert requests.train_iteration(1, prepared, base).report_to == asked


@pytest.mark.parametrize(("written", "errors"), [("live", None), ("stored", "cache/errors")])
def test_errors_of_the_opponent_are_kept_in_the_cache_of_the_root_where_that_is_asked(
    tmp_path: Path, written: str, errors: str | None
) -> None:
    overrides = [f"train.reference={written}", f"run.root={tmp_path}", "train.compile=true"]
    requests = Requests(load_config("miniature", overrides=overrides), "cpu")
    prepared = PrepareResult(tmp_path, tmp_path, "d", {"train": 384}, {}, 0, 0.0)
    base = Model("base", "base", tmp_path, "b")
    assert requests.train_sft(prepared, base).errors is None
    assert requests.train_iteration(1, prepared, base).errors == (None if errors is None else tmp_path / errors)
    assert requests.sft_settings().compile
    assert requests.spin_settings(1).compile
