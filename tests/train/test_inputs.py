"""What a pass reads, and that its work asks the device for nothing more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spin.core.layout import StageFolder
from spin.core.plan import visits
from spin.core.schema import read_table
from spin.sample.room import run as sample
from spin.train.loop import Loop
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.room import run
from tests.checkers import safety
from tests.train.test_loader import alive
from tests.world import World

MakeRequest = Callable[..., TrainRequest]
BATCH = list(visits(rows=24, count=5, draws=1, run_seed=0, stage="iteration-01"))


class _NoNumber(TorchDispatchMode):
    """Refuses what makes the host wait for a device: a tensor's number, or a shape that depends on numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in {"index", "index_put", "index_put_"} and any(
            isinstance(x, Tensor) and x.dtype == torch.bool for x in args[1]
        )
        if masked or name in {
            "_local_scalar_dense",
            "item",
            "nonzero",
            "masked_select",
            "is_nonzero",
            "equal",
            "unique_dim",
        }:
            raise AssertionError(f"the host waits for the device: {func}")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_question(monkeypatch: pytest.MonkeyPatch) -> Any:
    """On a CPU, where nothing waits, the same calls are errors: `torch.cuda.set_sync_debug_mode` without CUDA."""

    def refuse(tensor: Tensor, *_: Any, **__: Any) -> Any:
        raise AssertionError("the host waits for the device")

    with monkeypatch.context() as patched, _NoNumber():
        for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"):
            patched.setattr(Tensor, name, refuse)
        yield


def loop_of(request: TrainRequest) -> Loop:
    return Loop(request, Processes("cpu"))


def test_the_watch_sees_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.ones(2)
    asks: list[Callable[[Tensor], Any]] = [
        lambda v: v.sum().item(), lambda v: v.tolist(), lambda v: v.numpy(), lambda v: v.cpu(), lambda v: bool(v.any()),
        lambda v: float(v.sum()), lambda v: v[v > 0], lambda v: v.nonzero(), lambda v: torch.equal(v, v),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(AssertionError, match="waits for the device"), no_question(monkeypatch):
            ask(values)
    with no_question(monkeypatch):
        (values + values).mean()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"timesteps_per_pair": 2, "safeguard": 0.5, "timestep_weight": "h2", "noise": "independent"},
        {"lora_rank": 2, "lora_alpha": 2.0, "gradient_checkpointing": True},
        {"objective": "sft"},
        {"drop_unsafe": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_between_two_passes_asks_the_device(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], dtype: str
) -> None:
    stage = world.stage(tmp_path)
    sample(world.sample_request(stage, safety=safety("bright") if "drop_unsafe" in settings else None))
    request = world.train_request(stage, settings={"micro_batch_size": 3, **settings}, dtype=dtype)
    with loop_of(request) as loop:
        reader = loop.step_of.reader
        read = [reader.read(BATCH[:3]), reader.read(BATCH[3:])]
        assert (read[0].weights is not None) == ("drop_unsafe" in settings)
        with no_question(monkeypatch):
            for inputs in read:
                loop._learn(inputs)
        assert sum(float(p.grad.abs().sum()) for p in loop.networks.update.parameters if p.grad is not None) > 0


def test_a_pass_that_is_filled_up_measures_and_teaches_what_it_does_alone(make_request: MakeRequest) -> None:
    gradients, found = [], []
    for filled_to in (0, 8):
        with loop_of(make_request(settings={"timesteps_per_pair": 2})) as loop:
            with torch.no_grad():
                for weight in loop.networks.update.parameters:
                    weight.mul_(1.001)
            object.__setattr__(loop.step_of.reader, "filled_to", filled_to)
            inputs = loop.step_of.reader.read(BATCH)
            assert (len(inputs.real), inputs.count) == (filled_to or 5, 5)
            found.append(loop._learn(inputs))
            gradients.append([p.grad for p in loop.networks.update.parameters])
    assert found[1].loss.shape == found[1].real_opponent.shape == (5,)
    torch.testing.assert_close(found[0].loss, found[1].loss, rtol=1e-4, atol=1e-5)
    for alone, filled in zip(*gradients, strict=True):
        torch.testing.assert_close(alone, filled, rtol=1e-3, atol=1e-4)


def test_what_is_read_ahead_changes_nothing_and_the_thread_ends_with_the_training(make_request: MakeRequest) -> None:
    with loop_of(make_request()) as loop:
        reader, taken = loop.step_of.reader, loop._loader.next()
        assert len(alive()) == 1
        again = reader.read(taken.passes.by_process[0][0])
        assert torch.equal(taken.inputs.real, again.real)
        assert torch.equal(taken.inputs.at[0].noise, again.at[0].noise)
        assert torch.equal(taken.inputs.given.tensors["embedding"], again.given.tensors["embedding"])
    assert alive() == []


def test_a_stage_tells_how_long_it_waited_for_what_it_reads(make_request: MakeRequest) -> None:
    request = make_request()
    run(request)
    timing = read_table(StageFolder(request.stage).timing).to_pylist()
    assert len(timing) == 4
    assert all(0 <= row["stall_seconds"] < row["seconds"] for row in timing)
    assert alive() == []


def test_a_training_that_is_stopped_reads_no_more(make_request: MakeRequest) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make_request(), progress=stop)
    assert alive() == []
