from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from spin.core.errors import ArtifactError, ConfigError, TrainingError
from spin.core.layout import StageFolder
from spin.core.schema import (
    HELD_OUT_LOG,
    TRAINING_LOG,
    content_digest,
    read_table,
    read_tensors,
    tensor_column,
    write_table,
)
from spin.core.store import commit, is_intact, read_manifest
from spin.diffusion.checkpoint import load_solver, load_unet, model_digest
from spin.diffusion.noise import initial_noise
from spin.diffusion.sampler import sample_latents
from spin.train import loop as loops
from spin.train.request import TrainRequest, TrainResult
from spin.train.room import run
from tests.world import World, copy_stage, fingerprint

MakeRequest = Callable[..., TrainRequest]


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def make_request(world: World, sampled: StageFolder, tmp_path: Path) -> MakeRequest:
    """A training request in a folder of its own for each name."""

    def make(name: str = "one", *, settings: dict[str, Any] | None = None, **changes: Any) -> TrainRequest:
        folder = tmp_path / name
        own = StageFolder(folder / sampled.name) if folder.exists() else copy_stage(sampled, folder)
        return world.train_request(own, settings=settings, **changes)

    return make


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return load_file(result.checkpoint / "unet" / "diffusion_pytorch_model.safetensors")


def log_of(request: TrainRequest, column: str) -> list[Any]:
    values: list[Any] = read_table(StageFolder(request.stage).training_log)[column].to_pylist()
    return values


def kill_at(step: int) -> Callable[..., None]:
    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise Killed

    return progress


def test_a_stage_leaves_a_checkpoint_and_its_logs(make_request: MakeRequest, world: World) -> None:
    request = make_request()
    heard: list[tuple[int, int, str]] = []
    result = run(request, progress=lambda done, total, note="": heard.append((done, total, note)))
    stage = StageFolder(request.stage)
    assert (result.steps, result.pairs, result.checkpoint) == (4, 32, stage.checkpoint(4))
    assert result.digest == model_digest(result.checkpoint) != world.base_digest
    assert [(done, total) for done, total, _ in heard] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert heard[0][2].startswith("loss ")
    assert "accuracy" in heard[0][2]
    assert all(is_intact(path) for path in (stage.training_log, stage.held_out_log, result.checkpoint))
    log, held_out = read_table(stage.training_log), read_table(stage.held_out_log)
    assert log.schema.names == TRAINING_LOG.names
    assert held_out.schema.names == HELD_OUT_LOG.names
    assert not any("second" in name or "time" in name for name in log.schema.names)
    assert log["step"].to_pylist() == [1, 2, 3, 4]
    assert held_out["step"].to_pylist() == [0] * 5 + [4] * 5
    timing = read_table(stage.training_log.with_name("timing.parquet"))
    assert min(timing["images_per_second"].to_pylist()) > 0


def test_the_first_step_is_where_policy_and_opponent_agree(make_request: MakeRequest) -> None:
    request = make_request(settings={"sft_weight": 0.0, "steps": 1})
    run(request)
    (row,) = read_table(StageFolder(request.stage).training_log).to_pylist()
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert (row["margin"], row["accuracy"]) == (0.0, 0.0)
    assert row["real_mse"] == row["real_mse_opponent"]
    assert row["generated_mse"] == row["generated_mse_opponent"]


def test_every_micro_batch_gives_the_same_losses(make_request: MakeRequest) -> None:
    losses = []
    for micro in (1, 2, 4, 8):
        request = make_request(
            f"micro-{micro}", settings={"steps": 20, "micro_batch_size": micro, "held_out_every_steps": 100}
        )
        run(request)
        losses.append(log_of(request, "loss"))
    assert len(losses[0]) == 20
    assert len(set(losses[0])) == 20
    assert np.abs(np.array(losses) - losses[0]).max() <= 1e-5


def test_a_micro_batch_that_does_not_divide_the_batch_is_fine(make_request: MakeRequest) -> None:
    one, two = make_request("one"), make_request("two", settings={"micro_batch_size": 3})
    run(one)
    run(two)
    assert log_of(two, "loss") == pytest.approx(log_of(one, "loss"), abs=1e-5)
    assert log_of(two, "gradient_norm") == pytest.approx(log_of(one, "gradient_norm"), rel=1e-4)


def test_a_warm_up_longer_than_the_run_just_ends(make_request: MakeRequest) -> None:
    request = make_request(settings={"warmup_steps": 200, "lr": 2e-5, "lr_schedule": "linear"})
    run(request)
    assert log_of(request, "lr") == pytest.approx([2e-5 * step / 200 for step in (1, 2, 3, 4)])


def test_the_logged_norm_is_before_clipping_and_the_step_after_it(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[float] = []
    advance = torch.optim.AdamW.step

    def step(optimizer: torch.optim.AdamW, *arguments: Any) -> Any:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        applied.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
        return advance(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    clipped, free = make_request("clipped", settings={"max_grad_norm": 0.01}), make_request("free")
    run(clipped)
    assert applied == pytest.approx([0.01] * 4, rel=1e-3)
    run(make_request("free", settings={"max_grad_norm": 1e9}))
    assert log_of(clipped, "gradient_norm")[0] == pytest.approx(log_of(free, "gradient_norm")[0], rel=1e-6)
    assert log_of(clipped, "gradient_norm")[0] > 0.1


def test_the_gradient_is_the_mean_over_the_whole_batch(make_request: MakeRequest) -> None:
    # one step of plain gradient size: AdamW without decay moves every weight by lr * g / (|g| + eps)
    request = make_request(settings={"steps": 1, "warmup_steps": 0, "weight_decay": 0.0, "lr": 1e-4})
    before, after = load_unet(request.start, device="cpu").state_dict(), weights(run(request))
    moved = torch.cat([(after[name] - before[name]).flatten() for name in after])
    assert moved.abs().max().item() == pytest.approx(1e-4, rel=0.01)


def test_the_checkpoint_holds_the_average(make_request: MakeRequest) -> None:
    request = make_request(settings={"ema_decay": 0.5, "lr": 1e-3, "steps": 3, "state_every_steps": 1})
    trail: list[dict[str, torch.Tensor]] = [load_unet(request.start, device="cpu").state_dict()]
    stage = StageFolder(request.stage)

    def follow(done: int, total: int, note: str = "") -> None:
        if done < total:
            trail.append(load_file(stage.state(done) / "unet.safetensors"))

    found = weights(run(request, progress=follow))
    last = weights(run(make_request("raw", settings={"lr": 1e-3, "steps": 3})))
    trail.append(last)
    # EMAModel's decay is min(0.5, (1 + n) / (10 + n)) with n = steps - 1, and 0 at its first step
    average = {name: values.clone() for name, values in trail[1].items()}
    for n, decay in ((1, 2 / 11), (2, 3 / 12)):
        for name in average:
            average[name] = decay * average[name] + (1 - decay) * trail[n + 1][name]
    for name, values in found.items():
        torch.testing.assert_close(values, average[name], rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(found[name], last[name]) for name in found)


@pytest.mark.parametrize("change", [{}, {"ema_decay": 0.9, "objective": "sft", "beta": 0.0, "sft_weight": 0.0}])
def test_a_killed_run_resumes_to_the_same_bytes(make_request: MakeRequest, change: dict[str, Any]) -> None:
    settings = {"steps": 8, "state_every_steps": 2, "held_out_every_steps": 3, **change}
    whole, broken = make_request("whole", settings=settings), make_request("broken", settings=settings)
    undisturbed = run(whole)
    with pytest.raises(Killed):
        run(broken, progress=kill_at(5))
    resumed = run(broken)
    assert resumed.steps == 4  # from the state of step 4
    assert resumed.pairs == 32
    assert resumed.digest == undisturbed.digest
    for path in ("train/log.parquet", "train/held_out.parquet"):
        assert (broken.stage / path).read_bytes() == (whole.stage / path).read_bytes()
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (resumed.checkpoint / name).read_bytes() == (undisturbed.checkpoint / name).read_bytes()


def test_equal_runs_give_equal_bytes_and_another_seed_does_not(make_request: MakeRequest) -> None:
    one, two, other = (run(make_request(name, run_seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert one.digest == two.digest != other.digest


def poison(request: TrainRequest, folder: Path, row: int) -> tuple[Path, str]:
    """A copy of the real latents with NaN in one row; its path and that row's sample id."""
    table = read_table(request.real)
    means = read_tensors(table, "latent_mean").copy()
    means[row] = np.nan
    place = table.schema.get_field_index("latent_mean")
    table = table.set_column(place, table.schema.field(place), tensor_column(means))
    commit(folder / "real.parquet", lambda path: write_table(path, table), kind="latents", digest=content_digest)
    return folder / "real.parquet", table["sample_id"][row].as_py()


def test_a_nan_stops_with_the_sample_named_and_the_last_good_state_kept(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    from spin.core.plan import visits

    settings = {"batch_size": 4, "micro_batch_size": 2, "steps": 6, "state_every_steps": 100}
    request = make_request(settings=settings)
    order = [visit.row for visit in visits(rows=24, count=24, draws=1, run_seed=0, stage="iteration-01")]
    path, name = poison(request, tmp_path, order[13])  # read in step 4 of 6
    broken = make_request(settings=settings, real=path)
    with pytest.raises(TrainingError) as caught:
        run(broken)
    assert f"not finite at step 4; samples {name};" in str(caught.value)
    assert "the state of step 3 is kept" in str(caught.value)
    assert "\n" not in str(caught.value)
    stage = StageFolder(broken.stage)
    assert is_intact(stage.state(3))
    assert all(values.isfinite().all() for values in load_file(stage.state(3) / "unet.safetensors").values())
    assert read_table(stage.state(3) / "log.parquet")["step"].to_pylist() == [1, 2, 3]
    assert not stage.checkpoint(6).exists()
    with pytest.raises(TrainingError, match="step 4"):  # resumes there, and says so again
        run(broken)


def test_a_nan_in_the_first_step_names_it_too(make_request: MakeRequest, tmp_path: Path) -> None:
    path, name = poison(make_request(), tmp_path, 0)
    with pytest.raises(TrainingError, match=name):
        run(make_request(settings={"batch_size": 24, "steps": 2}, real=path))


def test_a_finished_stage_is_not_trained_again_and_loads_no_model(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request()
    first = run(request)
    before = fingerprint(request.stage)

    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loops, "load_networks", refuse)
    again = run(request)
    assert (again.steps, again.pairs, again.digest, again.checkpoint) == (0, 0, first.digest, first.checkpoint)
    assert fingerprint(request.stage) == before


@pytest.mark.parametrize("changed", [{"lr": 1e-4}, {"beta": 500.0}, {"batch_size": 4}, {"link": "hinge"}])
def test_changed_settings_train_again(make_request: MakeRequest, changed: dict[str, Any]) -> None:
    first = run(make_request())
    second = run(make_request(settings=changed))
    assert second.steps == 4
    assert second.checkpoint == first.checkpoint
    assert second.digest != first.digest
    assert second.digest == model_digest(second.checkpoint)
    fresh = run(make_request("fresh", settings=changed))
    assert fresh.digest == second.digest
    assert log_of(make_request(), "loss") == log_of(make_request("fresh"), "loss")


def test_a_state_of_other_settings_is_not_resumed(make_request: MakeRequest) -> None:
    with pytest.raises(Killed):
        run(make_request(), progress=kill_at(3))
    assert run(make_request(settings={"beta": 500.0})).steps == 4


def test_how_often_states_are_kept_changes_nothing(make_request: MakeRequest) -> None:
    run(make_request())
    assert run(make_request(settings={"state_every_steps": 1, "held_out_every_steps": 1})).steps == 0


def test_a_damaged_checkpoint_is_made_again_with_the_same_bytes(make_request: MakeRequest) -> None:
    first = run(make_request())
    file = first.checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    second = run(make_request())
    assert second.digest == first.digest
    assert file.read_bytes() == data
    assert is_intact(second.checkpoint)


@pytest.mark.parametrize(
    "change",
    [
        {"link": "hinge"},
        {"link": "correlation"},
        {"noise": "independent"},
        {"timestep_weight": "h2"},
        {"flip": True},
        {"posterior_sample": False},
        {"gradient_checkpointing": True},
        {"max_grad_norm": 0.1, "lr_schedule": "linear"},
    ],
)
def test_every_option_trains_and_matters(make_request: MakeRequest, change: dict[str, Any]) -> None:
    request = make_request(settings={"steps": 3, **change})
    result = run(request)
    assert np.isfinite(log_of(request, "loss")).all()
    assert all(values.isfinite().all() for values in weights(result).values())
    plain = run(make_request("plain", settings={"steps": 3}))
    assert change == {"gradient_checkpointing": True} or plain.digest != result.digest


def test_bfloat16_trains_float32_weights(make_request: MakeRequest) -> None:
    request = make_request(dtype="bfloat16", settings={"sft_weight": 0.0})
    result = run(request)
    assert {values.dtype for values in weights(result).values()} == {torch.float32}
    assert log_of(request, "loss")[0] == pytest.approx(math.log(2), abs=1e-7)
    assert run(make_request("again", settings={"sft_weight": 0.0})).digest != result.digest


def test_float16_on_a_cpu_is_refused(make_request: MakeRequest) -> None:
    with pytest.raises(ConfigError, match=r"execution\.dtype: float16 does not train on a CPU; set it to float32"):
        run(make_request(dtype="float16"))


def test_supervised_training_needs_no_samples(world: World, tmp_path: Path) -> None:
    stage = StageFolder(tmp_path / "sft")
    request = world.train_request(stage, settings={"objective": "sft", "beta": 0.0, "sft_weight": 0.0, "lr": 3e-4})
    result = run(request)
    rows = read_table(stage.training_log).to_pylist()
    assert all(row["loss"] == row["real_mse"] for row in rows)
    assert all(row["margin"] is None and row["accuracy"] is None for row in rows)
    assert result.health == ()


def test_self_play_without_samples_is_one_clear_line(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path)
    with pytest.raises(ArtifactError, match=r"shard-00000\.parquet: is not there, or was never finished; run again"):
        run(world.train_request(stage))


def test_a_checkpoint_opens_in_diffusers_and_gives_our_images(make_request: MakeRequest, world: World) -> None:
    result = run(make_request())
    pipeline = DiffusionPipeline.from_pretrained(result.checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    noise = initial_noise([5], (16, 4, 4))
    theirs = pipeline(
        world.captions[0], latents=noise, guidance_scale=3.0, num_inference_steps=8, output_type="latent"
    ).images
    text, empty = pipeline.encode_prompt(world.captions[0], "cpu", 1, True)
    ours = sample_latents(
        load_unet(result.checkpoint, device="cpu"), load_solver(result.checkpoint), noise=noise, text=text,
        unconditional=empty, guidance_scale=3.0, num_inference_steps=8,
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_unchanged_parts_are_hard_links_and_the_base_is_not_touched(make_request: MakeRequest, world: World) -> None:
    before = fingerprint(world.base)
    result = run(make_request())
    assert fingerprint(world.base) == before
    part = Path("vae") / "diffusion_pytorch_model.safetensors"
    linked = (result.checkpoint / part).stat()
    if linked.st_dev == (world.base / part).stat().st_dev:
        assert linked.st_ino == (world.base / part).stat().st_ino
        assert linked.st_nlink > 1
    manifest = read_manifest(result.checkpoint)
    assert manifest is not None
    assert manifest.environment["images"] == 32
