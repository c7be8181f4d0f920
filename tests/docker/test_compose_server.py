"""compose.yaml's server and deploy services, started with their own commands and settings on a real Postgres."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import asyncpg
import pytest

from tests.docker.container_files import FOLDER, POOLS, compose, image_json, image_settings
from tests.postgres import DATABASE, postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PASSWORD = "p@ss/w:rd$1"
BIN = Path(sys.executable).parent
START_SECONDS = 240.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Composed:
    """The compose file on this machine: its host names become loopback addresses, its folders `folder`."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.port = folder, free_port()
        self.services: dict[str, Any] = compose({"POSTGRES_PASSWORD": PASSWORD, "PREFECT_PORT": str(self.port)})[
            "services"
        ]
        self._here = {
            "postgres:5432/prefect": f"{database.rpartition('@')[2].rpartition('/')[0]}/{DATABASE}",
            "server:4200": f"127.0.0.1:{self.port}",
            "127.0.0.1:4200": f"127.0.0.1:{self.port}",
            "0.0.0.0": "127.0.0.1",
            "/home/spin": str(folder / "home"),
            "run.root=/runs": f"run.root={folder / 'runs'}",
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def here(self, text: str) -> str:
        for there, place in self._here.items():
            text = text.replace(there, place)
        return str(self.port) if text == "4200" else text

    def environment(self, service: str) -> dict[str, str]:
        """The image's settings, then the service's, and nothing of this shell's but its path."""
        settings = {**image_settings(), **self.services[service]["environment"]}
        kept = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.folder / "home")}
        return {**{name: self.here(value) for name, value in settings.items()}, **kept}

    def command(self, service: str) -> list[str]:
        described = self.services[service]
        program, *words = [*described.get("entrypoint", image_json("ENTRYPOINT")), *described["command"]]
        return [str(BIN / program), *map(self.here, words)]

    def healthy(self) -> bool:
        _, *words = image_json("HEALTHCHECK")
        done = subprocess.run([sys.executable, *words], env=self.environment("server"), capture_output=True)
        return done.returncode == 0

    def get(self, path: str) -> str:
        with urlopen(f"{self.address}{path}", timeout=30) as answer:
            return answer.read().decode()

    def read_pools(self) -> dict[str, str]:
        return {name: json.loads(self.get(f"/api/work_pools/{name}"))["type"] for name in POOLS}


@contextmanager
def running(composed: Composed) -> Iterator[None]:
    with (composed.folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            composed.command("server"), cwd=composed.folder, env=composed.environment("server"),
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not composed.healthy():
            assert process.poll() is None, (composed.folder / "server.log").read_text()
            assert time.monotonic() < deadline, (composed.folder / "server.log").read_text()
            time.sleep(1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    folder = tmp_path_factory.mktemp("composed")
    (folder / "home").mkdir()
    with postgres(folder, password=PASSWORD) as database:
        made = Composed(folder, database)
        made.database = database  # type: ignore[attr-defined]
        with running(made):
            yield made


def run(composed: Composed, command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=composed.folder, env=composed.environment("deploy"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def count(composed: Composed, table: str) -> int:
    async def ask() -> int:
        address = composed.database.replace("+asyncpg", "")  # type: ignore[attr-defined]
        connection = await asyncpg.connect(address, password=PASSWORD)
        try:
            return await connection.fetchval(f"SELECT count(*) FROM {table}")
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_the_browser_is_sent_to_the_published_port_and_gets_its_pages(composed: Composed) -> None:
    assert json.loads(composed.get("/ui-settings"))["api_url"] == f"{composed.address}/api"
    assert "<!doctype html>" in composed.get("/").lower()
    assert (composed.folder / "home" / "prefect-pages").is_dir()


def test_the_server_s_state_is_in_postgres_and_not_in_a_file(composed: Composed) -> None:
    assert count(composed, "alembic_version") == 1
    assert not list(composed.folder.rglob("prefect.db"))


def test_deploy_registers_every_pool_and_leaves_a_kubernetes_pool_as_it_is(composed: Composed) -> None:
    template = FOLDER / "kubernetes-pool.json"
    words = ["work-pool", "create", "spin-gpu", "--type", "kubernetes", "--base-job-template", str(template)]
    run(composed, [str(BIN / "prefect"), *words])
    printed = run(composed, composed.command("deploy"))
    assert "spin-diffusion/run" in printed
    assert composed.read_pools() == {"spin-control": "process", "spin-gpu": "kubernetes", "spin-train": "process"}
    made = count(composed, "deployment")
    assert made >= 6
    run(composed, composed.command("deploy"))  # again: nothing is doubled
    assert count(composed, "deployment") == made
