from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import EEXIST
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import StageFolder
from spin.core.requests import from_json, to_json
from spin.core.schema import read_table
from spin.core.store import is_intact, read_manifest
from spin.sample.room import run as sample
from spin.train.identity import training_identity
from spin.train.networks import load_networks
from spin.train.processes import buckets, joined
from spin.train.request import TrainRequest, TrainResult
from spin.train.room import run
from tests.train.test_loop import poison
from tests.world import World, copy_stage

pytestmark = pytest.mark.system

MakeRequest = Callable[..., TrainRequest]
TWENTY = {"steps": 20, "warmup_steps": 10, "state_every_steps": 10, "held_out_every_steps": 10}
SUPERVISED = {"objective": "sft", "beta": 0.0, "sft_weight": 0.0}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@dataclass(frozen=True)
class Ended:
    """What a training of several processes left behind."""

    code: int
    lines: list[dict[str, Any]]  # what the processes told, as the launcher reads it
    result: Path
    stderr: str

    @property
    def answer(self) -> TrainResult:
        assert self.code == 0, self.stderr
        return from_json(TrainResult, self.result)

    @property
    def errors(self) -> set[tuple[str, str]]:
        return {(line["error"], line["message"]) for line in self.lines if "error" in line}


def launch(request: TrainRequest) -> Ended:
    """Train under torchrun, as many processes as the request asks for."""
    folder = request.stage.parent
    source, target = folder / "request.json", folder / "result.json"
    source.write_bytes(to_json(request))
    found = subprocess.run(
        [*TORCHRUN, str(request.processes), "-m", "spin.train", str(source), str(target)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    return Ended(found.returncode, lines, target, found.stderr)


def kill_at(step: int) -> Callable[..., None]:
    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def rows(request: TrainRequest, name: str = "training_log") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(getattr(StageFolder(request.stage), name)).to_pylist()
    return found


def losses(request: TrainRequest) -> list[float]:
    return [row["loss"] for row in rows(request)]


@pytest.fixture(scope="module")
def one(world: World, sampled: StageFolder, tmp_path_factory: pytest.TempPathFactory) -> TrainRequest:
    """Twenty steps of self-play by one process, in one pass a step."""
    request = world.train_request(copy_stage(sampled, tmp_path_factory.mktemp("one")), settings=TWENTY)
    run(request)
    return request


@pytest.fixture(scope="module")
def two(world: World, sampled: StageFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainRequest, Ended]:
    """The same by two processes; the state of step 10 is left there."""
    stage = copy_stage(sampled, tmp_path_factory.mktemp("two"))
    request = world.train_request(stage, settings=TWENTY, processes=2)
    return request, launch(request)


def test_two_processes_give_the_losses_of_one(one: TrainRequest, two: tuple[TrainRequest, Ended]) -> None:
    request, ended = two
    assert (ended.answer.steps, ended.answer.pairs) == (20, 160)
    assert len(set(losses(one))) == 20
    assert losses(request) == pytest.approx(losses(one), abs=1e-5, rel=0)
    for name in ("training_log", "held_out_log"):
        assert len(rows(request, name)) == len(rows(one, name)) > 10
        for mine, theirs in zip(rows(request, name), rows(one, name), strict=True):
            assert {name for name in mine if mine[name] is None} == {name for name in theirs if theirs[name] is None}
            told = [name for name in mine if mine[name] is not None]
            assert [mine[n] for n in told] == pytest.approx([theirs[n] for n in told], rel=1e-4, abs=1e-4)


def test_what_two_processes_leave_is_whole_and_says_so(two: tuple[TrainRequest, Ended]) -> None:
    request, ended = two
    stage, checkpoint = StageFolder(request.stage), ended.answer.checkpoint
    assert checkpoint == stage.checkpoint(20)
    assert all(is_intact(path) for path in (checkpoint, stage.training_log, stage.held_out_log, stage.state(10)))
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    assert manifest.content_digest == ended.answer.digest
    assert (manifest.environment["processes"], manifest.environment["batch_size"]) == (2, 4)
    assert manifest.environment["images"] == 160
    assert {row["step"] for row in rows(request, "timing")} == set(range(1, 21))


def test_two_processes_and_two_passes_of_one_give_the_same_bits(
    make_request: MakeRequest, two: tuple[TrainRequest, Ended]
) -> None:
    # a + b is b + a: of three and more, the order of adding shows in the last bits
    passes = make_request(settings={**TWENTY, "micro_batch_size": 4})
    assert run(passes).digest == two[1].answer.digest


def test_one_process_goes_on_from_the_state_of_two(
    one: TrainRequest, two: tuple[TrainRequest, Ended], make_request: MakeRequest
) -> None:
    request = make_request(settings=TWENTY)
    shutil.copytree(StageFolder(two[0].stage).states, StageFolder(request.stage).states)
    result = run(request)
    assert (result.steps, result.pairs) == (10, 80)
    assert losses(request) == pytest.approx(losses(one), abs=1e-5, rel=0)


@pytest.mark.slow
def test_two_processes_go_on_from_the_state_of_one_in_supervised_training_too(world: World, tmp_path: Path) -> None:
    settings = {**SUPERVISED, "lr": 3e-4, "ema_decay": 0.9, "micro_batch_size": 3, "steps": 6, "state_every_steps": 2}
    alone = world.train_request(StageFolder(tmp_path / "alone" / "sft"), settings=settings)
    begun = world.train_request(StageFolder(tmp_path / "shared" / "sft"), settings=settings)
    run(alone)
    with pytest.raises(KeyboardInterrupt):
        run(begun, progress=kill_at(3))
    shared = replace(begun, processes=2)
    ended = launch(shared)
    assert (ended.answer.steps, ended.answer.pairs) == (4, 32)
    assert len(set(losses(alone))) == 6
    assert losses(shared) == pytest.approx(losses(alone), abs=1e-5, rel=0)
    assert rows(shared)[:2] == rows(alone)[:2]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "optimizer", "full"])
def test_a_nan_in_one_share_stops_every_process_with_the_same_line(
    make_request: MakeRequest, tmp_path: Path, sharding: str
) -> None:
    from spin.core.plan import visits

    settings = {"batch_size": 4, "steps": 6, "state_every_steps": 100}
    order = [visit.row for visit in visits(rows=24, count=24, draws=1, run_seed=0, stage="iteration-01")]
    path, name = poison(make_request(), tmp_path, order[15])  # the last of step 4: the second process reads it
    request = make_request(settings=settings, real=path, processes=2, sharding=sharding)
    ended = launch(request)
    assert ended.code != 0
    ((kind, message),) = ended.errors
    assert kind == "TrainingError"
    assert "micro-batch 1 of 1 of process 1; their real latents hold NaN or infinity; " in message
    assert f"not finite at step 4; samples {name};" in message
    assert "the state of step 3 is kept" in message
    stage = StageFolder(request.stage)
    assert is_intact(stage.state(3))
    assert not stage.checkpoint(6).exists()


@pytest.mark.slow
def test_what_the_first_process_cannot_write_stops_every_process_with_the_same_line(make_request: MakeRequest) -> None:
    request = make_request(processes=2)
    StageFolder(request.stage).states.parent.mkdir(exist_ok=True)
    StageFolder(request.stage).states.write_text("in the way")
    ended = launch(request)
    assert ended.code != 0
    ((kind, message),) = ended.errors
    assert kind == "ArtifactError"
    assert "step-000002: cannot write: File exists" in message
    assert {line["cause"]["errno"] for line in ended.lines if "error" in line} == {EEXIST}


@pytest.mark.slow
def test_what_one_process_alone_cannot_do_ends_them_all(world: World, tmp_path: Path) -> None:
    stage = world.stage(tmp_path, reads=6)  # training reads 8: the last two are the second process's
    sample(world.sample_request(stage))
    ended = launch(world.train_request(stage, processes=2))
    assert ended.code != 0
    first = next(line for line in ended.lines if "error" in line)  # the other one only misses its neighbour
    assert first["error"] == "ArtifactError"
    assert "has no generated image 0" in first["message"]
    assert not ended.result.exists()


@pytest.fixture
def group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun sets for a single process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    for name, value in (address | started).items():
        monkeypatch.setenv(name, value)


@pytest.mark.filterwarnings("ignore:OMP_NUM_THREADS:UserWarning")
def test_a_group_of_one_gives_the_same_bits_and_is_taken_down(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    alone = run(make_request("alone"))
    request.getfixturevalue("group_of_one")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # accelerate then takes all cores
    found: list[bool] = []
    result = run(make_request("group"), progress=lambda *_: found.append(distributed.is_initialized()))
    assert result.digest == alone.digest
    assert found == [True] * 4
    assert not distributed.is_initialized()
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("group_of_one")
def test_accelerate_wraps_no_network_of_a_group(make_request: MakeRequest) -> None:
    request = make_request()
    with joined(1, device="cpu"):
        networks = load_networks(request)
    # no DistributedDataParallel, which would send gradients itself
    assert networks.policy.network is networks.tensors.denoiser
    assert networks.opponent is not None
    assert type(networks.opponent.network) is type(networks.policy.network)


@pytest.mark.parametrize(
    ("processes", "environment", "words"),
    [
        (2, {}, "asks for 2 processes, WORLD_SIZE is 1 without a LOCAL_RANK; start the room by torchrun --nproc"),
        (2, {"WORLD_SIZE": "2"}, "asks for 2 processes, WORLD_SIZE is 2 without a LOCAL_RANK; start the room"),
        (2, {"WORLD_SIZE": "4", "LOCAL_RANK": "1"}, "asks for 2 processes, WORLD_SIZE is 4; start the room"),
        (1, {"WORLD_SIZE": "4", "LOCAL_RANK": "1"}, "asks for 1 processes, WORLD_SIZE is 4; unset WORLD_SIZE"),
    ],
)
def test_another_number_of_processes_than_asked_for_is_refused(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch, processes: int, environment: dict[str, str], words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        run(make_request(processes=processes))
    assert f"execution.train_processes: training {words}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.cuda.device_count()
    for name, value in {"WORLD_SIZE": here + 1, "LOCAL_WORLD_SIZE": here + 1, "LOCAL_RANK": here}.items():
        monkeypatch.setenv(name, str(value))
    with (
        pytest.raises(ConfigError, match=f"{here + 1} processes are to train on {here} GPUs"),
        joined(here + 1, device="cuda"),
    ):
        pass


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_read(world: World, tmp_path: Path) -> None:
    stage = StageFolder(tmp_path / "sft")
    with pytest.raises(ConfigError, match=r"sft\.batch_size: a batch of 8 cannot be shared evenly by 3 processes"):
        run(world.train_request(stage, settings=SUPERVISED, processes=3, prompts=tmp_path / "none.parquet"))


def test_a_run_may_go_on_with_another_number_of_processes(make_request: MakeRequest) -> None:
    assert training_identity(make_request(processes=4)) == training_identity(make_request())


def test_a_process_alone_does_its_work_and_sends_nothing() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.sum().backward()
    before = parameter.grad
    with joined(1, device="cpu") as processes:
        assert (processes.rank, processes.count, processes.device) == (0, 1, "cpu")
        assert processes.once(lambda: 7) == 7
        processes.add_gradients([parameter])
        values = torch.ones(2, 3)
        assert processes.join(values) is values
        with pytest.raises(ArtifactError, match="not there"):
            processes.once(refuse)
    assert parameter.grad is before
    assert not distributed.is_initialized()


def refuse() -> None:
    raise ArtifactError("not there")


def test_gradients_travel_in_few_messages_and_in_their_order() -> None:
    tensors = [torch.zeros(count) for count in (1, 2, 3, 100, 4, 1)]  # of 4 bytes
    found = list(buckets(tensors, size_bytes=24))
    assert [[len(tensor) for tensor in bucket] for bucket in found] == [[1, 2, 3], [100], [4, 1]]
    assert [id(tensor) for bucket in found for tensor in bucket] == [id(tensor) for tensor in tensors]
    assert list(buckets([], size_bytes=24)) == []
