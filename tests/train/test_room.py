from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from spin.core.environment import peak_bytes
from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder
from spin.core.schema import (
    HELD_OUT_LOG,
    TRAINING_LOG,
    read_table,
)
from spin.core.store import discard, is_intact, read_manifest
from spin.diffusion.checkpoint import load_denoiser, write_checkpoint
from spin.diffusion.conditioning import Conditioning
from spin.diffusion.denoiser import Denoiser
from spin.diffusion.digest import model_digest
from spin.diffusion.families.stable_diffusion import FAMILY
from spin.diffusion.noise import initial_noise
from spin.diffusion.sampler import sample_latents
from spin.diffusion.solvers import load_solver
from spin.sample.room import run as sample
from spin.train import loop as loops
from spin.train.networks import load_networks
from spin.train.request import TrainRequest
from spin.train.room import run
from tests.kernels import FLASH, heard
from tests.world import World, fingerprint

MakeRequest = Callable[..., TrainRequest]


def log_of(request: TrainRequest, column: str) -> list[Any]:
    values: list[Any] = read_table(StageFolder(request.stage).training_log)[column].to_pylist()
    return values


class Killed(Exception):
    """Stands for the end of a process."""


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


ADAPTER = {"lora_rank": 4, "lora_alpha": 8.0}
RESUMED: list[dict[str, Any]] = [
    {},
    {"ema_decay": 0.9, "objective": "sft", "beta": 0.0, "sft_weight": 0.0},
    {"ema_decay": 0.9, "lr": 1e-3, **ADAPTER},
    {"timesteps_per_pair": 2, "over_timesteps": "exact", "safeguard": 0.9},
]


@pytest.mark.system
@pytest.mark.parametrize("change", RESUMED)
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


@pytest.mark.system
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


def test_supervised_training_needs_no_samples(world: World, tmp_path: Path) -> None:
    stage = StageFolder(tmp_path / "sft")
    request = world.train_request(stage, settings={"objective": "sft", "beta": 0.0, "sft_weight": 0.0, "lr": 3e-4})
    result = run(request)
    rows = read_table(stage.training_log).to_pylist()
    assert all(row["loss"] == row["real_mse"] for row in rows)
    assert all(row["margin"] is None and row["accuracy"] is None for row in rows)
    assert result.digest == model_digest(result.checkpoint)


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
        Denoiser(load_denoiser(result.checkpoint, device="cpu"), FAMILY), load_solver(result.checkpoint), noise=noise,
        given=Conditioning({"embedding": text}), unconditional=Conditioning({"embedding": empty}), guidance_scale=3.0,
        num_inference_steps=8,
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_unchanged_parts_are_copied_and_the_base_is_not_touched(make_request: MakeRequest, world: World) -> None:
    before = fingerprint(world.base)
    result = run(make_request())
    assert fingerprint(world.base) == before
    part = Path("vae") / "diffusion_pytorch_model.safetensors"
    assert (result.checkpoint / part).read_bytes() == (world.base / part).read_bytes()
    assert not (result.checkpoint / part).samefile(world.base / part)
    manifest = read_manifest(result.checkpoint)
    assert manifest is not None
    assert manifest.environment["images"] == 32
    assert 50 * 2**20 < manifest.environment["peak_bytes"] < 64 * 2**30  # torch alone is more than the one


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="only Linux forgets a peak")
def test_a_peak_is_of_the_stage_and_not_of_what_the_process_held_before(make_request: MakeRequest) -> None:
    held = bytearray(2**30)
    carried = peak_bytes()
    del held
    manifest = read_manifest(run(make_request()).checkpoint)
    assert manifest is not None
    assert manifest.environment["peak_bytes"] < carried - 2**29


def test_labelled_losers_train_without_a_plan_and_without_samples(world: World, tmp_path: Path) -> None:
    stage = StageFolder(tmp_path / "iteration-01")
    request = world.train_request(stage, losers=world.cache.losers)
    result = run(request)
    assert result.steps == 4
    assert not stage.plan.exists()
    rows = read_table(stage.training_log).to_pylist()
    # before the first update policy and reference agree; the anchor adds sft_weight * beta * real_mse = 30 * real_mse
    assert rows[0]["loss"] - 30 * rows[0]["real_mse"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["margin"] == 0.0
    assert rows[-1]["margin"] != 0.0
    manifest = read_manifest(result.checkpoint)
    losers = read_manifest(world.cache.losers)
    assert manifest is not None
    assert losers is not None
    assert manifest.identity["losers"] == losers.content_digest
    assert "samples" not in manifest.identity
    assert run(request).steps == 0


def test_killed_training_on_labelled_losers_resumes_to_the_same_bytes(world: World, tmp_path: Path) -> None:
    requests = [
        world.train_request(StageFolder(tmp_path / name / "iteration-01"), losers=world.cache.losers)
        for name in ("whole", "broken")
    ]
    whole = run(requests[0])
    with pytest.raises(Killed):
        run(requests[1], progress=kill_at(3))
    resumed = run(requests[1])
    assert (resumed.steps, resumed.digest) == (2, whole.digest)


def test_an_adapter_leaves_a_plain_checkpoint_and_small_states(make_request: MakeRequest, world: World) -> None:
    request = make_request(settings={"lr": 1e-3, "state_every_steps": 3, **ADAPTER})
    result = run(request)
    before, after = (load_denoiser(folder, device="cpu").state_dict() for folder in (world.base, result.checkpoint))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".attn" in name and "to_" in name for name in moved)
    state = load_file(StageFolder(request.stage).state(3) / "denoiser.safetensors")
    assert len(state) == 16  # A and B of four projections in two attentions
    assert all(".lora_" in name for name in state)
    assert log_of(request, "margin")[0] == 0.0
    assert log_of(request, "margin")[-1] != 0.0


@pytest.mark.parametrize("damage", ["lost", "one bit"])
def test_an_adapter_that_is_damaged_is_made_again_with_the_same_bytes(make_request: MakeRequest, damage: str) -> None:
    request = make_request(settings={"ema_decay": 0.5, **ADAPTER})
    first = run(request)
    assert run(request).steps == 0
    folder = StageFolder(request.stage).adapter(4)
    file = folder / "pytorch_lora_weights.safetensors"
    data = file.read_bytes()
    if damage == "lost":
        discard(folder)
    else:
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again = run(request)
    assert (again.steps, again.digest) == (2, first.digest)  # from the state of step 2
    assert file.read_bytes() == data
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (manifest.kind, manifest.identity["start"]) == ("adapter", request.start_digest)


def test_where_all_weights_train_there_is_no_adapter(make_request: MakeRequest) -> None:
    request = make_request()
    run(request)
    assert not StageFolder(request.stage).adapter(4).parent.exists()


def test_another_seed_draws_another_adapter(make_request: MakeRequest) -> None:
    one, other = (
        load_networks(make_request(name, settings=ADAPTER, run_seed=seed)).tensors.trained
        for name, seed in (("a", 0), ("b", 1))
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) == (".lora_B." in name) for name in one)


def test_the_log_tells_of_several_time_steps_and_of_the_safeguard(make_request: MakeRequest) -> None:
    plain, full = make_request("plain"), make_request("full", settings={"timesteps_per_pair": 2, "safeguard": 0.9})
    run(plain)
    run(full)
    assert {*log_of(plain, "jensen_gap"), *log_of(plain, "loser_scale")} == {None}
    assert log_of(full, "jensen_gap")[0] == 0.0  # margins are all 0 there
    assert log_of(full, "jensen_gap")[-1] > 0
    assert all(0 <= scale <= 1 for scale in log_of(full, "loser_scale"))


@pytest.fixture
def iterate(world: World, tmp_path: Path) -> tuple[Path, str]:
    """A model a little away from the base, and its digest."""
    unet = load_denoiser(world.base, device="cpu")
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.01)
    write_checkpoint(tmp_path / "iterate", base=world.base, denoiser=unet)
    return tmp_path / "iterate", model_digest(tmp_path / "iterate")


@pytest.mark.parametrize("settings", [{}, ADAPTER])
def test_a_policy_starts_from_one_model_and_is_held_against_another(
    make_request: MakeRequest, iterate: tuple[Path, str], world: World, settings: dict[str, Any]
) -> None:
    folder, digest = iterate
    asked = {"start": folder, "start_digest": digest, "settings": settings}
    against = {"reference": world.base, "reference_digest": world.base_digest}
    plain, other = make_request("plain", **asked), make_request("other", **asked, **against)
    results = [run(plain), run(other)]
    assert results[0].digest != results[1].digest
    assert log_of(plain, "real_mse")[0] == log_of(other, "real_mse")[0]
    assert log_of(plain, "margin")[0] == 0.0 != log_of(other, "margin")[0]
    manifest = read_manifest(results[1].checkpoint)
    assert manifest is not None
    assert manifest.identity["reference"] == world.base_digest
    with pytest.raises(Killed):
        run(make_request("broken", **asked, **against), progress=kill_at(3))
    assert run(make_request("broken", **asked, **against)).digest == results[1].digest


def test_training_on_the_samplers_own_states_resumes_to_the_same_bytes(world: World, tmp_path: Path) -> None:
    stages = [world.stage(tmp_path / name) for name in ("whole", "broken")]
    requests = [world.train_request(stage, settings={"trajectory": "reverse"}) for stage in stages]
    for stage in stages:
        sample(world.sample_request(stage, store_trajectory=True))
    whole = run(requests[0])
    with pytest.raises(Killed):
        run(requests[1], progress=kill_at(3))
    assert run(requests[1]).digest == whole.digest
    assert log_of(requests[0], "generated_mse")[0] == 0.0
    assert set(log_of(requests[0], "generated_mse_opponent")) == {0.0}
    assert log_of(requests[0], "generated_mse")[-1] > 0


@pytest.mark.system
@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}])
def test_a_stage_trains_with_the_named_kernel_forward_and_backward(
    make_request: MakeRequest, settings: dict[str, Any]
) -> None:
    found = {}
    for attention in ("auto", "math"):
        with heard() as names:
            result = run(make_request(attention, settings=settings, attention=attention))
        manifest = read_manifest(result.checkpoint)
        found[attention] = (
            FLASH in names,
            f"{FLASH}_backward" in names,
            manifest and manifest.environment["attention"],
        )
    assert found == {"auto": (True, True, "auto"), "math": (False, False, "math")}
