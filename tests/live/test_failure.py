"""Failures on live servers: killed workers, cancelled runs, lost and stopped servers, and who hears of them."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from spin.core.layout import RunsRoot, StageFolder, manifest_path
from spin.core.store import is_intact
from tests.live.processes import named, processes_of, processes_on
from tests.live.serving import TINY, Server, serving, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

MINUTES = 900.0  # for anything that two busy cores do
OUTAGE_SECONDS = 120.0


@pytest.fixture(scope="module")
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web hook on loopback: its URL, with a secret in it, and the bodies that it was sent."""
    bodies: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/secret-token", bodies
        listening.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, hook: tuple[str, list[Any]]) -> Iterator[Server]:
    """With a web hook for failed runs."""
    root = tmp_path_factory.mktemp("failure") / "runs"
    with serving(root, "notification.webhook_variable=SPIN_TEST_HOOK", more={"SPIN_TEST_HOOK": hook[0]}) as found:
        yield found


def completed(server: Server, run: str) -> None:
    ended = server.ended(run)
    assert ended["state_type"] == "COMPLETED", ended["state"]


def started(server: Server) -> list[dict[str, Any]]:
    """All flow runs but the nights to come."""
    return [one for one in server.children() if one["start_time"]]


def stage(server: Server, name: str) -> StageFolder:
    return RunsRoot(server.root).run(name).iteration(1)


@contextmanager
def held(server: Server, artifact: Path) -> Iterator[None]:
    """Reach the moment before the commit of `artifact`; it stays until the block ends."""
    server.fault.write_text(f"hold {'/'.join(artifact.parts[-3:])}")
    try:
        wait(lambda: any(artifact.parent.glob(f".{artifact.name}*")), MINUTES)
        yield
    finally:
        server.fault.unlink()


def footprint(paths: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """What changes when a file is made again, even with the same bytes."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def made(root: Path) -> list[Path]:
    """Every artifact with a manifest."""
    manifests = [path for path in root.rglob("*.manifest.json") if ".prefect" not in path.parts]
    return [path.with_name(path.name.removesuffix(".manifest.json")) for path in manifests]


def kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def test_a_killed_workers_run_is_marked_crashed_and_its_missing_shards_are_made_by_another(server: Server) -> None:
    run = server.play("killed")
    shards = [stage(server, "killed").samples(number) for number in range(3)]
    with held(server, shards[1]):
        stood = footprint([shards[0], manifest_path(shards[0])])
        (child,) = server.children(name="sample k=1")
        (worker,) = named(processes_on(server.root), "worker", "spin-gpu")
        assert processes_of(child["id"])
        kill(family(worker))
    assert not manifest_path(shards[1]).exists()
    wait(lambda: server.state(child["id"]) == "CRASHED", MINUTES)
    assert server.run(child["id"])["state"]["message"] == "no heartbeat: its process is gone"
    completed(server, run)
    first, second = server.children(name="sample k=1")
    assert (first["id"], first["state_type"]) == (child["id"], "CRASHED")
    assert second["state_type"] == "COMPLETED"
    assert {"attempt 1", "attempt 2"} & set(second["tags"]) == {"attempt 2"}
    assert footprint([shards[0], manifest_path(shards[0])]) == stood
    assert all(is_intact(shard) for shard in shards)


def test_a_cancelled_run_cancels_its_children_and_leaves_no_process(server: Server) -> None:
    """The child works in a room of its own, which no signal of Prefect's reaches."""
    run = server.play("cancelled", "execution.room=process")
    with held(server, stage(server, "cancelled").samples(1)):
        (child,) = server.children(name="sample k=1")[-1:]
        found = processes_of(run, child["id"])
        assert any("spin.sample" in process.cmdline() for process in found)
        server.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        wait(lambda: not processes_of(run, child["id"]), 120, lambda: str(processes_of(run, child["id"])))
        _, alive = psutil.wait_procs(found, timeout=10)
        assert alive == []
    wait(lambda: {server.state(run), server.state(child["id"])} == {"CANCELLED"}, 120)
    iteration = server.children(name="k=1")
    assert {one["state_type"] for one in iteration if one["id"] in (run, child["id"])} <= {"CANCELLED"}
    assert all(is_intact(artifact) for artifact in made(server.root / "cancelled"))
    again = server.play("cancelled")  # one command goes on from here
    completed(server, again)


def test_a_failed_run_calls_the_webhook_once_with_its_name_and_message(
    server: Server, hook: tuple[str, list[dict[str, Any]]]
) -> None:
    bodies = hook[1]
    bodies.clear()
    run = server.start("spin-diffusion/run", run_name="hopeless", data='/no/such "folder"')
    failed = server.ended(run)
    assert failed["state_type"] == "FAILED"
    assert "no such folder on this machine" in failed["state"]["message"]
    wait(lambda: len(bodies) == 1, 120)
    message = failed["state"]["message"]
    assert {key: bodies[0][key] for key in ("run", "state", "message")} == {
        "run": "hopeless", "state": "Failed", "message": message,
    }  # fmt: skip
    assert bodies[0]["text"] == f"hopeless: Failed. {message}"
    assert bodies[0]["page"].endswith(run)
    for told in ("flow_runs", "task_runs", "artifacts", "logs", "deployments"):
        assert "secret-token" not in json.dumps(server.post(f"/{told}/filter")), told
    time.sleep(10)  # a second call would come at once
    assert len(bodies) == 1


def test_a_full_disk_and_a_wrong_setting_are_tried_once(server: Server) -> None:
    """Neither passes by waiting. What failed is made after it was mended, by Retry."""
    run = server.start("spin-diffusion/run", run_name="full", advanced={"settings": list(TINY)})
    server.fault.write_text("iteration-01/samples/shard-00001.parquet")
    ended = server.ended(run)
    server.fault.unlink()
    assert ended["state_type"] == "FAILED"
    assert "No space left on device" in ended["state"]["message"]
    inside = server.post("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}})
    wanted = {"flow_runs": {"id": {"any_": [run, *(one["id"] for one in inside)]}}}
    tasks = {task["name"]: task for task in server.post("/task_runs/filter", wanted)}
    failed = [task for task in tasks.values() if task["state_type"] == "FAILED"]
    assert failed
    assert {task["run_count"] for task in failed} == {1}
    assert server.retry(run)["state_type"] == "COMPLETED"


def test_a_lost_database_costs_nothing(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with serving(root) as server:
        completed(server, server.play("kept"))
        stood = footprint(made(root))
    assert len(stood) > 20
    lost = list((root / ".prefect").glob("prefect.db*"))
    assert lost
    for path in lost:
        path.unlink()
    with serving(root) as server:
        assert started(server) == []
        run = server.play("kept")
        completed(server, run)
        assert footprint(made(root)) == stood
        assert [one["name"] for one in started(server)] == ["kept", "k=1"]


@pytest.mark.parametrize("how", ["frozen", "gone"])
def test_a_server_that_is_stopped_for_two_minutes_loses_no_shard(tmp_path: Path, how: str) -> None:
    """Frozen, it takes calls and answers none; gone, it refuses them, until its keeper starts it again."""
    root = tmp_path / "runs"
    with serving(root) as server:
        run = server.play("outage")
        shards = [stage(server, "outage").samples(number) for number in range(3)]
        with held(server, shards[1]):
            stopped = named(processes_on(root), "server", "start")
            assert stopped
            if how == "gone":
                os.kill(server.process.pid, signal.SIGSTOP)
            for process in stopped:
                os.kill(process.pid, signal.SIGSTOP if how == "frozen" else signal.SIGKILL)
        try:
            wait(lambda: all(map(is_intact, shards)), 60)  # committed while nobody listens
            stood = footprint(shards)
            time.sleep(OUTAGE_SECONDS)
        finally:
            for process in stopped if how == "frozen" else [server.process]:
                os.kill(process.pid, signal.SIGCONT)
        ended = server.ended(run)
        print("after the outage:", ended["state"]["name"], ended["state"]["message"])
        print([(one["name"], one["state"]["name"], one["state"]["message"]) for one in server.children()])
        assert [one["name"] for one in server.children() if "no heartbeat" in (one["state"]["message"] or "")] == []
        if ended["state_type"] != "COMPLETED":
            run = server.play("outage")  # one command goes on from here
            completed(server, run)
        assert footprint(shards) == stood


def test_a_machine_that_goes_down_with_its_server_leaves_no_run_that_is_waited_for(tmp_path: Path) -> None:
    """Power off: nobody says a last word. The same name goes on when the server is back."""
    root = tmp_path / "runs"
    with serving(root) as server:
        run = server.play("power")
        shard = stage(server, "power").samples(1)
        with held(server, shard):
            stood = footprint([stage(server, "power").samples(0)])
            (child,) = server.children(name="sample k=1")
            kill([psutil.Process(server.process.pid), *processes_on(root)])
            wait(lambda: not processes_on(root), 60)
    with serving(root) as server:
        assert (server.state(run), server.state(child["id"])) == ("RUNNING", "RUNNING")
        again = server.play("power")
        completed(server, again)
        assert server.state(child["id"]) == "CRASHED"
        wait(lambda: server.state(run) == "CRASHED", MINUTES)
        assert {one["state_type"] for one in started(server)} == {"COMPLETED", "CRASHED"}
        assert footprint([stage(server, "power").samples(0)]) == stood
