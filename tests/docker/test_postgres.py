"""The database that the slow tests start: it answers, asks for its password, and is gone afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from tests.postgres import postgres, postgres_binaries

ROOT = Path(__file__).resolve().parents[2]


def query(address: str, statement: str, **options: str) -> list[asyncpg.Record]:
    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(address.replace("+asyncpg", ""), timeout=20, **options)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.mark.slow
def test_it_answers_a_query_and_listens_on_loopback_only(tmp_path: Path) -> None:
    with postgres(tmp_path) as address:
        (row,) = query(address, "SELECT sum(n) AS total FROM generate_series(1, 100) AS n")
        assert row["total"] == 5050
        port = urlsplit(address).port
        heard = [entry.laddr for entry in psutil.net_connections("tcp") if entry.laddr and entry.laddr.port == port]
        assert {at.ip for at in heard} == {"127.0.0.1"}
        (folder,) = query(address, "SHOW data_directory")
        assert Path(folder["data_directory"]).is_dir()
    assert not Path(folder["data_directory"]).exists()
    with pytest.raises(OSError, match="onnect"):
        query(address, "SELECT 1")
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


@pytest.mark.slow
def test_with_a_password_it_refuses_everybody_else(tmp_path: Path) -> None:
    with postgres(tmp_path, password="p@ss/w:rd$1") as address:
        assert "p@ss" not in address
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(address, "SELECT 1", password="wrong")
        (row,) = query(address, "SELECT 1 AS one", password="p@ss/w:rd$1")
        assert row["one"] == 1


@pytest.mark.slow
def test_two_servers_do_not_meet(tmp_path: Path) -> None:
    with postgres(tmp_path) as first, postgres(tmp_path) as second:
        query(first, "CREATE TABLE only_here (n integer)")
        (row,) = query(second, "SELECT count(*) AS n FROM pg_tables WHERE tablename = 'only_here'")
        assert row["n"] == 0


@pytest.mark.slow
def test_a_killed_test_leaves_no_server_behind(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom tests.postgres import postgres\n"
        f"with postgres(Path({str(tmp_path)!r})) as address:\n    print(address, flush=True)\n    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        address = holder.stdout.readline().strip()
        server = next(child for child in psutil.Process(holder.pid).children() if child.name() == "postgres")
        (row,) = query(address, "SHOW data_directory")
        os.kill(holder.pid, signal.SIGKILL)
    server.wait(timeout=30)
    deadline = time.monotonic() + 10
    while server.is_running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.is_running()
    subprocess.run(["rm", "-r", str(Path(row["data_directory"]).parent)], check=True)


def test_without_the_package_the_skip_says_what_to_install(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Debian's package"), pytest.raises(pytest.skip.Exception, match="postgresql"):
        postgres_binaries(tmp_path)


def test_the_newest_server_is_taken(tmp_path: Path) -> None:
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert postgres_binaries(tmp_path) == tmp_path / "17" / "bin"
