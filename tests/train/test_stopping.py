"""Training that left the finite numbers: what is said, and what is kept."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from spin.core.errors import TrainingError
from spin.core.layout import StageFolder
from spin.core.plan import visits
from spin.core.schema import read_table
from spin.core.store import is_intact
from spin.diffusion import policy
from spin.diffusion.checkpoint import load_denoiser
from spin.train import networks
from spin.train.loop import Loop
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.room import run
from tests.train.test_loop import poison

MakeRequest = Callable[..., TrainRequest]
# Loss 1e37, of which float32 holds 34 times as much; its gradient's norm is beyond.
HUGE = {"beta": 1e38, "sft_weight": 1.0}
ORDER = [visit.row for visit in visits(rows=24, count=24, draws=1, run_seed=0, stage="iteration-01")]


def scaled(monkeypatch: pytest.MonkeyPatch, *, start: float) -> None:
    """Train in float32 as float16 trains: with torch's own loss scaler, which works on a CPU too."""
    plain = networks._accelerator

    def with_scaler(request: TrainRequest) -> Accelerator:
        accelerator = plain(replace(request, dtype="float32"))
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=start)
        return accelerator

    monkeypatch.setattr(networks, "_accelerator", with_scaler)


def norms(stage: StageFolder) -> list[float]:
    found: list[float] = read_table(stage.training_log)["gradient_norm"].to_pylist()
    return found


@pytest.mark.parametrize(
    "more", [{}, {"lora_rank": 2, "lora_alpha": 2.0, "ema_decay": 0.9}, {"ema_decay": 0.9}], ids=str
)
def test_a_row_of_the_cache_that_is_not_finite_is_named_with_its_file_and_pass(
    make_request: MakeRequest, tmp_path: Path, more: dict[str, Any]
) -> None:
    settings = {"batch_size": 4, "micro_batch_size": 2, "steps": 6, "state_every_steps": 100, **more}
    path, name = poison(make_request(), tmp_path, ORDER[14])  # the third of the fourth batch
    request = make_request("broken", settings=settings, real=path)
    with pytest.raises(TrainingError) as caught:
        run(request)
    assert caught.value.message == (
        f"loss or gradient is not finite at step 4; samples {name}; micro-batch 2 of 2; "
        "their real latents hold NaN or infinity"
    )
    assert caught.value.fix == f"the state of step 3 is kept; delete {path}, it is made again"
    state = StageFolder(request.stage).state(3)
    assert is_intact(state)
    for file in state.glob("*.safetensors"):
        assert all(values.isfinite().all() for values in load_file(file).values())
    assert (state / "average.safetensors").exists() == ("ema_decay" in more)


def test_a_gradient_that_overflows_behind_a_finite_loss_names_its_pass(make_request: MakeRequest) -> None:
    request = make_request(settings={**HUGE, "micro_batch_size": 2})
    with pytest.raises(TrainingError) as caught:
        run(request)
    names = read_table(request.prompts)["sample_id"].to_pylist()
    first = [visit.row for visit in visits(rows=24, count=8, draws=1, run_seed=0, stage="iteration-01")]
    assert f"not finite at step 1; samples {', '.join(names[row] for row in first)}; micro-batch 1 of 4" in str(
        caught.value
    )
    assert "; there is no state yet; start a new run (--set run.name=NAME) with a lower lr" in str(caught.value)
    assert "their" not in str(caught.value)


def test_weights_that_are_not_finite_are_no_state_to_keep(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []

    def load(*arguments: Any, **named: Any) -> Any:
        loaded.append(load_denoiser(*arguments, **named))
        return loaded[-1]

    def damage(done: int, total: int, note: str = "") -> None:
        if done == 3:
            loaded[0].conv_in.weight.data.fill_(math.inf)

    monkeypatch.setattr(policy, "load_denoiser", load)
    request = make_request(settings={"steps": 6, "state_every_steps": 2})
    with pytest.raises(TrainingError, match=r"not finite at step 4; .*; the state of step 2 is kept; start a new run"):
        run(request, progress=damage)
    assert not StageFolder(request.stage).state(3).exists()


@pytest.mark.system
@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.9}], ids=str)
def test_overflows_under_a_scale_skip_steps_and_the_scaler_resumes_with_the_rest(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    scaled(monkeypatch, start=2.0**127)
    settings = {"steps": 12, "state_every_steps": 2, "held_out_every_steps": 100, **more}
    whole, broken = make_request("whole", settings=settings), make_request("broken", settings=settings)
    digest = run(whole).digest
    finite = [math.isfinite(norm) for norm in norms(StageFolder(whole.stage))]
    assert finite[0] is False
    assert finite[-1] is True

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken, progress=stop)
    assert (StageFolder(broken.stage).state(2) / "scaler.pt").exists()
    assert run(broken).digest == digest


def test_a_skipped_step_leaves_the_average_where_it_is(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled(monkeypatch, start=2.0**127)
    request = make_request(settings={"steps": 12, "held_out_every_steps": 100, "ema_decay": 0.9})
    loop = Loop(request, Processes("cpu"))
    average = loop.networks.tensors.average
    assert average is not None
    for _ in range(12):
        moved = average.optimization_step
        loop.advance()
        assert average.optimization_step - moved == math.isfinite(loop.done.log[-1]["gradient_norm"])
    assert 0 < average.optimization_step < 12


def test_a_scale_that_comes_to_nothing_stops_with_the_weights_as_they_were(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(*arguments: Any, **named: Any) -> Any:
        network = load_denoiser(*arguments, **named)
        network.conv_out.register_full_backward_pre_hook(lambda _, gradients: (gradients[0] * math.inf,))
        return network

    scaled(monkeypatch, start=2.0)
    monkeypatch.setattr(policy, "load_denoiser", overflowing)
    request = make_request(settings={"steps": 8, "state_every_steps": 100}, dtype="float16")
    with pytest.raises(TrainingError) as caught:
        run(request)
    # 2 and 1 are of use; the third step in a row finds a scale of a half
    assert "float16's gradients overflow at every loss scale down to 1, the last time at step 3; samples " in str(
        caught.value
    )
    assert "; micro-batch 1 of 1; the state of step 2 is kept; start a new run" in str(caught.value)
    assert str(caught.value).endswith("with a lower lr, or execution.dtype=bfloat16")
    start = load_denoiser(request.start, device="cpu").state_dict()
    kept = load_file(StageFolder(request.stage).state(2) / "denoiser.safetensors")
    assert all(torch.equal(kept[name], start[name]) for name in kept)
