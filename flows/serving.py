"""`serve` and `worker`: starts a Prefect server and workers, watches over them, and stops all it started."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from flows.environment import prepare_environment, server_note
from spin.core.config import Config
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from tasks.devices import UNLISTED, Card, nvidia_cards, visible_gpus
from tasks.showing import console

SERVER: Final = "server"
CONTROL_LIMIT: Final = 16  # waiting runs on one machine; each is a process of about 200 MB
_START_SECONDS: Final = 120.0
_GRACE_SECONDS: Final = 8.0  # for a worker to end its runs, before it is killed with them
_AGAIN_SECONDS: Final = 5.0  # before something that ended by itself is started again
_POLL_SECONDS: Final = 0.5
_STOPS: Final = (signal.SIGTERM, signal.SIGHUP)  # of a service manager, of a closed terminal: as Ctrl-C


@dataclass(frozen=True, eq=False)
class Program:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def worker_programs(
    pools: Sequence[str], gpus: str, slots: int, *, listing: Callable[[], tuple[Card, ...]] = nvidia_cards
) -> list[Program]:
    """The workers of this machine.

    Args:
        pools: names of the pools to serve.
        gpus: all that this process may use, none, or a list such as 0,1.
        slots: workers in spin-gpu where there is no GPU.
    """
    owned = _owned_gpus(gpus, listing)
    given = _shown(*owned.values()) if owned or gpus == "none" else {}
    programs = []
    for pool in pools:
        if pool == "spin-control":
            programs.append(_worker(pool, "control", CONTROL_LIMIT, given))
        elif pool == "spin-train":
            programs.append(_worker(pool, "train", 1, given))
        elif owned:
            programs += [_worker(pool, f"gpu {gpu}", 1, _shown(name)) for gpu, name in owned.items()]
        else:
            programs += [_worker(pool, f"slot {slot}", 1, given) for slot in range(slots)]
    return programs


def serve(config: Config, port: int, programs: Sequence[Program]) -> None:
    """Run a server on 127.0.0.1 with everything registered, and its workers, until Ctrl-C."""
    root = RunsRoot(Path(config.run.root).absolute())
    address = f"http://127.0.0.1:{port}"
    _refuse_taken(port)
    os.environ["PREFECT_SERVER_UI_API_URL"] = f"{address}/api"
    os.environ["PREFECT_UI_URL"] = address  # in what the server tells of failed runs
    os.environ.pop("PREFECT_API_URL", None)  # of another server, perhaps
    prepare_environment(root.path)
    with _only_server(root), _kept_running(root) as keeper:
        server = Program(
            SERVER, _module("flows.calm_server", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        )
        keeper.start([server])
        _wait_for(f"{address}/api/health", keeper)
        os.environ["PREFECT_API_URL"] = f"{address}/api"
        names = _register(config)
        keeper.start([_told(program, address) for program in programs])
        server_note(root).write_text(f"{address}/api\n", "utf-8")
        try:
            console.print(
                f"[bold]{address}[/bold]  {len(names)} deployments, {len(programs)} workers; Ctrl-C stops all"
            )
            console.print(f"runs root {root.path}; logs in {keeper.logs}", highlight=False)
            keeper.watch()
        finally:
            server_note(root).unlink(missing_ok=True)


def work(root: RunsRoot, programs: Sequence[Program]) -> None:
    """Run workers for the server of PREFECT_API_URL until Ctrl-C."""
    with _kept_running(root) as keeper:
        keeper.start(programs)
        console.print(f"{len(programs)} workers: {', '.join(p.name for p in programs)}; Ctrl-C stops them")
        keeper.watch()


class _Keeper:
    """The programs that run, each in a process group of its own."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._running: dict[Program, subprocess.Popen[bytes]] = {}
        self._families: dict[Program, list[psutil.Process]] = {}  # as they were last seen
        self._ended: dict[Program, float] = {}

    def start(self, programs: Sequence[Program]) -> None:
        for program in programs:
            self.logs.mkdir(parents=True, exist_ok=True)
            with (self.logs / f"{program.name.replace(' ', '-')}.log").open("ab") as log:
                self._running[program] = subprocess.Popen(
                    program.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    env={**os.environ, **program.environment},
                )  # fmt: skip

    def watch(self) -> None:
        """Start again what ends by itself, until a signal ends this process."""
        while True:
            time.sleep(_POLL_SECONDS)
            self._look()
            for program in self.died():
                console.print(f"{program.name} ended; starting it again in {_AGAIN_SECONDS:.0f} s (see {self.logs})")
                self._ended[program] = time.monotonic()
            for program, ended in list(self._ended.items()):
                if time.monotonic() - ended >= _AGAIN_SECONDS:
                    del self._ended[program]
                    self.start([program])

    def died(self) -> list[Program]:
        """Programs that ended since the last call; what they had started is ended too."""
        dead = [program for program, process in self._running.items() if process.poll() is not None]
        for program in dead:
            _signal(self._running.pop(program), signal.SIGKILL)
            _kill(self._families.pop(program, ()))
        return dead

    def stop(self) -> None:
        """End all, workers first, so that they can still tell the server."""
        self._look()
        server = [process for program, process in self._running.items() if program.name == SERVER]
        workers = [process for program, process in self._running.items() if program.name != SERVER]
        for group in (workers, server):
            _end(group)
        for family in self._families.values():
            _kill(family)

    def _look(self) -> None:
        """A worker starts each flow run in a session of its own: nothing else finds them when it is gone."""
        for program, process in self._running.items():
            with suppress(psutil.NoSuchProcess):
                found = psutil.Process(process.pid).children(recursive=True)
                if process.poll() is None:  # a dead one has no family any more
                    self._families[program] = found


@contextmanager
def _kept_running(root: RunsRoot) -> Iterator[_Keeper]:
    keeper = _Keeper(root.prefect_home / "logs" / socket.gethostname())  # several machines share the root
    before = {number: signal.signal(number, _interrupt) for number in _STOPS}
    try:
        yield keeper
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        for number in (signal.SIGINT, *_STOPS):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave orphans
        keeper.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in processes:
        _signal(process, signal.SIGKILL)
        process.wait()


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # also where its number belongs to another process by now
            process.kill()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the whole group."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _register(config: Config) -> list[str]:
    from flows.deployments import register  # Prefect reads its settings when it is imported: now they are set

    return register(config)


def _worker(pool: str, name: str, limit: int, environment: Mapping[str, str]) -> Program:
    host = socket.gethostname()
    command = _module(
        "flows.patient_worker", "worker", "start", "--pool", pool, "--type", "process", "--limit", str(limit),
        "--name", f"{host} {name}",
    )  # fmt: skip
    return Program(f"{pool} {name}", command, environment)


def _shown(*gpus: str) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def _module(*words: str) -> tuple[str, ...]:
    """A module of Python's command line; nothing in the current folder can shadow it."""
    return (sys.executable, "-P", "-m", *words)


def _told(program: Program, address: str) -> Program:
    return Program(program.name, program.command, {**program.environment, "PREFECT_API_URL": f"{address}/api"})


def _owned_gpus(gpus: str, listing: Callable[[], tuple[Card, ...]]) -> dict[str, str]:
    """What people call each GPU, and its own name: CUDA counts cards in another order than nvidia-smi does."""
    if gpus == "none":
        return {}
    present = _present_gpus(listing())
    if gpus == "all":
        return present
    wanted = dict.fromkeys(part.strip() for part in gpus.split(","))
    unknown = [gpu for gpu in wanted if gpu not in present]
    if unknown:
        known = ", ".join(present) or "none"
        raise ConfigError(f"no GPU {unknown[0]!r} here", where="--gpus", fix=f"GPUs of this machine: {known}")
    return {gpu: present[gpu] for gpu in wanted}


def _present_gpus(cards: tuple[Card, ...]) -> dict[str, str]:
    """What CUDA_VISIBLE_DEVICES leaves of the cards, by index where nvidia-smi knows it: a share stays a share."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return {}
    index = {card.uuid: card.index for card in cards}
    return {index.get(name, name): name for name in visible_gpus(lambda: cards) if name != UNLISTED}


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} is taken: {error.strerror}",
                where="--port",
                fix="choose another, or end what listens there",
            ) from None


@contextmanager
def _only_server(root: RunsRoot) -> Iterator[None]:
    """One server for a runs root: its history is one SQLite file."""
    with (root.prefect_home / ".serve.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "is being served already", where=str(root.path), fix="use that server, or end it first"
            ) from None
        yield


def _wait_for(url: str, keeper: _Keeper) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with console.status("starting the Prefect server"):
        while time.monotonic() < deadline:
            try:
                with urlopen(url, timeout=2):  # noqa: S310 our own loopback address
                    return
            except (URLError, OSError):
                time.sleep(_POLL_SECONDS)
            if keeper.died():
                break
    raise ConfigError(
        "the Prefect server did not start", where=str(keeper.logs / "server.log"), fix="read its last lines"
    )
