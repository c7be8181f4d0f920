"""Compiled training: one graph for each network and size, every pass of that size, and a way back."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spin.core.errors import ConfigError
from spin.core.layout import StageFolder
from spin.core.schema import read_table
from spin.core.store import read_manifest
from spin.diffusion.checkpoint import load_denoiser
from spin.diffusion.compiling import CompiledNetwork
from spin.train.identity import training_identity
from spin.train.loop import Loop
from spin.train.networks import furthest, load_networks
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.room import run

MakeRequest = Callable[..., TrainRequest]
SHORT = {"held_out_every_steps": 100, "state_every_steps": 100, "micro_batch_size": 3, "steps": 2}


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """torch.compile replaced by one that notes the latents of each call; an empty cache of its own."""
    asked: list[int] = []

    def compile_(network: nn.Module, **named: Any) -> Any:
        assert named == {"dynamic": False}

        def call(*given: Any, **more: Any) -> Any:
            asked.append(len(given[0]))
            return network(*given, **more)

        return call

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setattr(torch, "compile", compile_)
    return asked


def losses(request: TrainRequest) -> list[float]:
    found: list[float] = read_table(StageFolder(request.stage).training_log)["loss"].to_pylist()
    return found


def assert_eager(make_request: MakeRequest, reason: str) -> None:
    """A training that was to be compiled has the bits of one that was not, and says why."""
    plain, compiled = (
        make_request(str(on), settings={**SHORT, "micro_batch_size": 4, "compile": on}) for on in (False, True)
    )
    run(plain)
    result = run(compiled)
    note = f"compile failed, ran eager: {reason}"
    assert note in result.health
    assert losses(compiled) == losses(plain)
    manifest = read_manifest(result.checkpoint)
    assert manifest is not None
    assert (manifest.environment["compiled"], manifest.environment["notes"]) == (False, [note])


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2, "lora_alpha": 2.0}, {"objective": "sft"}], ids=str)
def test_every_pass_is_filled_up_to_one_size(
    make_request: MakeRequest, compiler: list[int], settings: dict[str, Any]
) -> None:
    plain, compiled = (make_request(str(on), settings={**SHORT, **settings, "compile": on}) for on in (False, True))
    run(plain)
    assert compiler == []
    run(compiled)
    # 8 pairs in passes of 3, 3 and 2, each asked as 3; one pass before the first step tries the compile out
    sides, networks = (1, 1) if settings.get("objective") == "sft" else (2, 2)
    assert compiler == [3 * sides] * networks * (1 + 2 * 3)
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)


def test_compiling_is_of_the_class_of_bits_and_not_of_the_identity(
    make_request: MakeRequest, compiler: list[int]
) -> None:
    plain, compiled = (make_request(str(on), settings={**SHORT, "compile": on}) for on in (False, True))
    assert training_identity(plain) == training_identity(compiled)
    found = []
    for request in (plain, compiled):
        manifest = read_manifest(run(request).checkpoint)
        assert manifest is not None
        found.append((manifest.environment["compiled"], manifest.environment["notes"]))
    assert found == [(False, []), (True, [])]
    assert len(compiler) == 2 * (1 + 2 * 3)


def test_a_backward_pass_that_cannot_be_compiled_is_found_before_the_first_step(
    make_request: MakeRequest, compiler: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoBackward(torch.autograd.Function):
        @staticmethod
        def forward(_: Any, values: Tensor) -> Tensor:
            return values.clone()

        @staticmethod
        def backward(_: Any, __: Tensor) -> Tensor:
            raise RuntimeError("cannot open shared object file\nmore")

    def compile_(network: nn.Module, **_: Any) -> Any:
        return lambda *given, **more: (NoBackward.apply(network(*given, **more)[0]),)

    monkeypatch.setattr(torch, "compile", compile_)
    assert_eager(make_request, "cannot open shared object file")


def test_a_compile_that_loses_part_of_the_gradient_is_not_used(
    make_request: MakeRequest, compiler: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch 2.13 does on a CPU, of all that lies below an upsampling."""

    def compile_(network: nn.Module, **_: Any) -> Any:
        lost = {name: value.detach() for name, value in network.named_parameters() if name.startswith("mid_block")}
        assert len(lost) > 10
        return lambda *given, **more: torch.func.functional_call(network, lost, given, more)

    monkeypatch.setattr(torch, "compile", compile_)
    assert_eager(make_request, "some weights have another gradient than eager, 1.00 of its length apart")


def test_noise_and_the_smallest_gradients_are_no_difference() -> None:
    whole, tiny, nothing = torch.tensor([3.0, 4.0]), torch.tensor([1e-3]), None
    assert furthest([whole, tiny], [whole, tiny]) == 0.0
    assert furthest([1.1 * whole, 2 * tiny], [whole, tiny]) == pytest.approx(0.1)
    assert furthest([whole, 100 * tiny], [whole, tiny]) == pytest.approx(0.099 / 0.05, rel=1e-3)
    assert furthest([0 * whole, tiny], [whole, tiny]) == 1.0
    assert furthest([nothing, tiny], [whole, tiny]) == 1.0
    assert furthest([whole, nothing], [whole, nothing]) == 0.0


def test_a_gradient_that_is_not_finite_is_another_unless_both_are_not() -> None:
    whole, lost = torch.tensor([3.0, 4.0]), torch.tensor([torch.nan, 4.0])
    assert furthest([whole, lost], [whole, whole]) == furthest([lost, whole], [whole, whole]) == float("inf")
    assert furthest([whole, lost], [whole, lost]) == furthest([whole, whole], [whole, lost]) == 0.0


def test_what_was_run_eager_for_comparison_does_not_come_back_compiled(compiler: list[int]) -> None:
    network = CompiledNetwork(nn.Linear(2, 2), enabled=True)
    with network.uncompiled(), pytest.raises(RuntimeError, match="shapes"):
        network(torch.zeros(1, 3))
    assert compiler == []
    network(torch.zeros(1, 2))
    assert (compiler, network.notes) == ([1], ())


def test_trying_out_leaves_no_gradient(make_request: MakeRequest, compiler: list[int]) -> None:
    request = make_request(settings={**SHORT, "compile": True})
    with Loop(request, Processes("cpu")) as loop:
        assert len(compiler) == 2
        assert [p.grad for p in loop.networks.update.parameters if p.grad is not None] == []


def test_divided_weights_are_not_compiled(make_request: MakeRequest) -> None:
    request = make_request(settings={"compile": True}, sharding="full", processes=2)
    with pytest.raises(ConfigError) as caught:
        load_networks(request)
    assert str(caught.value).startswith("execution.train_sharding: full does not go with train.compile")
    assert str(caught.value).endswith("set it to optimizer, or train.compile to false")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_and_moments_are_float32_and_lie_as_the_precision_wants(make_request: MakeRequest, dtype: str) -> None:
    request = make_request(settings={**SHORT, "ema_decay": 0.9}, dtype=dtype)
    with Loop(request, Processes("cpu")) as loop:
        loop.advance()
        tensors = loop.networks.tensors
        weights = list(tensors.denoiser.parameters())
        moments = [m for held in tensors.update.optimizer.state.values() for n, m in held.items() if n != "step"]
        assert tensors.average is not None
        kept = [*weights, *moments, *(p.grad for p in weights if p.grad is not None), *tensors.average.shadow_params]
        assert {values.dtype for values in kept} == {torch.float32}
        opponent = loop.networks.opponent
        assert opponent is not None
        last = dtype == "bfloat16"
        for network in (tensors.denoiser, opponent.network):
            wide = [p for p in network.parameters() if p.ndim == 4 and p.shape[2] > 1 and p.shape[1] > 1]
            assert len(wide) > 5
            assert {p.is_contiguous(memory_format=torch.channels_last) for p in wide} == {last}
            assert {p.is_contiguous() for p in wide} == {not last}
        for weight in weights:
            assert tensors.update.optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_weights_that_lay_channels_last_are_files_like_any_and_a_stop_changes_no_bit(make_request: MakeRequest) -> None:
    settings = {**SHORT, "steps": 4, "state_every_steps": 1, "lr": 1e-3, "ema_decay": 0.5}
    whole = run(make_request("whole", settings=settings, dtype="bfloat16"))

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 2:
            raise KeyboardInterrupt

    broken = make_request("broken", settings=settings, dtype="bfloat16")
    with pytest.raises(KeyboardInterrupt):
        run(broken, progress=stop)
    resumed = run(broken)
    assert (resumed.steps, resumed.digest) == (2, whole.digest)
    reloaded = load_denoiser(whole.checkpoint, device="cpu")
    again = load_networks(make_request("next", settings=settings, dtype="bfloat16", start=whole.checkpoint))
    for name, values in again.tensors.denoiser.named_parameters():
        assert torch.equal(values, reloaded.get_parameter(name))
        assert reloaded.get_parameter(name).is_contiguous()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("settings", "dtype", "graphs"),
    [
        pytest.param({}, "float32", [1, 1], marks=pytest.mark.system),
        pytest.param({}, "bfloat16", [1, 1], marks=pytest.mark.slow),
        pytest.param({"gradient_checkpointing": True}, "float32", [1, 1], marks=pytest.mark.slow),
        pytest.param({"lora_rank": 2, "lora_alpha": 2.0}, "float32", [2], marks=pytest.mark.slow),
        pytest.param({"objective": "sft"}, "bfloat16", [1], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_real_compile_has_the_losses_of_an_eager_training(
    make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], dtype: str,
    graphs: list[int],
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    found = []
    for on in (False, True):
        request = make_request(str(on), settings={**SHORT, **settings, "compile": on}, dtype=dtype)
        with Loop(request, Processes("cpu")) as loop:
            for _ in range(2):
                loop.advance()
            found.append([(row["loss"], row["gradient_norm"]) for row in loop.done.log])
            assert [network.compiles for network in loop.networks.compiled] == (graphs if on else [])
            assert loop.networks.notes == ()
    tolerance = 1e-4 if dtype == "float32" else 2e-2  # bfloat16 keeps 8 bits; fused kernels round less often
    torch.testing.assert_close(torch.tensor(found[1]), torch.tensor(found[0]), rtol=tolerance, atol=1e-5)
