"""The workers of a machine, and what `serve`, `worker` and `deploy` refuse before anything is started."""

from __future__ import annotations

import fcntl
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from flows.serving import _POLL_SECONDS, CONTROL_LIMIT, Program, worker_programs
from spin.core.errors import ConfigError
from tasks.devices import Card
from tests.flows.command_line import type_in

POOLS = ("spin-control", "spin-gpu", "spin-train")
CARDS = (Card("0", "GPU-aaaa-1"), Card("1", "GPU-bbbb-2"), Card("2", "GPU-cccc-3"))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def three() -> tuple[Card, ...]:
    return CARDS


def shown(programs: list[Program]) -> dict[str, Mapping[str, str]]:
    return {program.name: program.environment for program in programs}


def test_all_gpus_get_a_worker_each_and_training_gets_all_of_them() -> None:
    assert shown(worker_programs(POOLS, "all", 4, listing=three)) == {
        "spin-control control": {"CUDA_VISIBLE_DEVICES": "GPU-aaaa-1,GPU-bbbb-2,GPU-cccc-3"},
        "spin-gpu gpu 0": {"CUDA_VISIBLE_DEVICES": "GPU-aaaa-1"},
        "spin-gpu gpu 1": {"CUDA_VISIBLE_DEVICES": "GPU-bbbb-2"},
        "spin-gpu gpu 2": {"CUDA_VISIBLE_DEVICES": "GPU-cccc-3"},
        "spin-train train": {"CUDA_VISIBLE_DEVICES": "GPU-aaaa-1,GPU-bbbb-2,GPU-cccc-3"},
    }


def test_named_gpus_alone_are_used() -> None:
    assert shown(worker_programs(POOLS, "2, 0,2", 1, listing=three)) == {
        "spin-control control": {"CUDA_VISIBLE_DEVICES": "GPU-cccc-3,GPU-aaaa-1"},  # a local run works there
        "spin-gpu gpu 2": {"CUDA_VISIBLE_DEVICES": "GPU-cccc-3"},
        "spin-gpu gpu 0": {"CUDA_VISIBLE_DEVICES": "GPU-aaaa-1"},
        "spin-train train": {"CUDA_VISIBLE_DEVICES": "GPU-cccc-3,GPU-aaaa-1"},
    }


def test_none_hides_the_gpus_of_the_machine() -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    assert shown(worker_programs(POOLS, "none", 2, listing=three)) == {
        "spin-control control": hidden,
        "spin-gpu slot 0": hidden,
        "spin-gpu slot 1": hidden,
        "spin-train train": hidden,
    }


def test_without_gpus_there_are_slots() -> None:
    found = shown(worker_programs(POOLS, "all", 2, listing=lambda: ()))
    assert found == {"spin-control control": {}, "spin-gpu slot 0": {}, "spin-gpu slot 1": {}, "spin-train train": {}}


@pytest.mark.parametrize(
    ("visible", "workers"),
    [
        ("1,2", ["spin-gpu gpu 1", "spin-gpu gpu 2"]),
        ("GPU-cccc-3", ["spin-gpu gpu 2"]),
        ("", ["spin-gpu slot 0"]),
        ("-1", ["spin-gpu slot 0"]),
    ],
)
def test_a_share_of_the_machine_stays_a_share(
    visible: str, workers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a scheduler of a cluster gives it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(shown(worker_programs(["spin-gpu"], "all", 1, listing=three))) == workers


def test_an_unknown_gpu_names_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--gpus: no GPU '7' here; GPUs of this machine: 0, 1, 2"):
        worker_programs(POOLS, "0,7", 1, listing=three)
    with pytest.raises(ConfigError, match="no GPU '0' here; GPUs of this machine: none"):
        worker_programs(POOLS, "0", 1, listing=lambda: ())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(ConfigError, match="no GPU '0' here; GPUs of this machine: 1"):
        worker_programs(POOLS, "0", 1, listing=three)


def test_gpu_workers_do_one_thing_at_a_time_and_control_many() -> None:
    limits = {p.name: p.command[p.command.index("--limit") + 1] for p in worker_programs(POOLS, "none", 1)}
    assert limits == {"spin-control control": str(CONTROL_LIMIT), "spin-gpu slot 0": "1", "spin-train train": "1"}


@pytest.mark.parametrize("command", ["worker", "deploy"])
def test_a_command_that_needs_a_server_says_so(command: str, tmp_path: Path) -> None:
    line = type_in(tmp_path, command).line
    assert line == (
        "PREFECT_API_URL: no Prefect server is named; export PREFECT_API_URL=http://HOST:PORT/api, "
        "or start one with spin-diffusion serve"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_pool_names_those_that_are_there(tmp_path: Path) -> None:
    line = type_in(tmp_path, "worker", "--pool", "spin-cpu").line
    assert line == "--pool: no pool 'spin-cpu'; name spin-control, spin-gpu, spin-train"


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = type_in(tmp_path, "serve", "--port", port).line
    assert line == f"--port: port {port} is taken: Address already in use; choose another, or end what listens there"
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_served_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "runs" / ".prefect" / ".serve.lock"
    lock.parent.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        line = type_in(tmp_path, "serve", "--port", port).line
    assert line == f"{tmp_path / 'runs'}: is being served already; use that server, or end it first"


KEEPER = """
import sys
from pathlib import Path
from flows.serving import Program, work
from spin.core.layout import RunsRoot

child = "import os, sys, time; os.setsid(); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
root = Path(sys.argv[1])
work(RunsRoot(root), [Program("worker", (sys.executable, "-c", parent, str(root / "pid")))])
"""


@pytest.mark.system
@pytest.mark.parametrize("end", ["hang up", "the worker is killed"])
def test_a_flow_run_in_a_session_of_its_own_does_not_outlive_its_worker(tmp_path: Path, end: str) -> None:
    """As Prefect starts them: no signal to the group of the worker reaches it."""
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path)], stdout=subprocess.DEVNULL)
    pid = tmp_path / "pid"
    try:
        first = psutil.Process(int(until(lambda: pid.read_text() if pid.exists() else "")))
        time.sleep(2 * _POLL_SECONDS + 0.2)  # the keeper has looked
        if end == "hang up":
            keeper.send_signal(signal.SIGHUP)
            assert keeper.wait(30) == 0
        else:
            first.parent().kill()
            second = psutil.Process(int(until(lambda: pid.read_text().replace(str(first.pid), ""))))
            assert second.is_running()
        psutil.wait_procs([first], timeout=10)
        assert not first.is_running()
    finally:
        keeper.terminate()
        keeper.wait(30)


def until(found: Callable[[], str]) -> str:
    deadline = time.monotonic() + 60
    while not (text := found()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return text
