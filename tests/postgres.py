"""Debian's PostgreSQL on loopback, for the slow tests: started for one test, stopped and removed after it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSTALLED = Path("/usr/lib/postgresql")
USER, DATABASE = "spin", "postgres"
START_SECONDS = 60.0
STOP_SECONDS = 30.0


@contextmanager
def postgres(folder: Path, *, password: str | None = None) -> Iterator[str]:
    """A new, empty server; gives its address `postgresql+asyncpg://...`. Its log stays in `folder`.

    Without a password everybody on 127.0.0.1 is trusted; with one it is asked for, and is not in the address.
    Its files lie beside the test's folder, not in it: they belong to another user where the tests run as root.
    """
    binaries = postgres_binaries()
    data = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        _make(binaries, data, password)
        port = _free_port()
        with (folder / "postgres.log").open("ab") as log:
            server = _start(binaries, data, port, log.fileno())
        try:
            _wait(binaries, server, port, folder / "postgres.log")
            yield f"postgresql+asyncpg://{USER}@127.0.0.1:{port}/{DATABASE}"
        finally:
            _stop(server)
    finally:
        shutil.rmtree(data)


def postgres_binaries(installed: Path = INSTALLED) -> Path:
    """The newest server that Debian's package installed; without one the test is skipped, loudly."""
    found = sorted(installed.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not found:
        reason = f"no PostgreSQL in {installed}: install Debian's package `postgresql` to run this test"
        warnings.warn(reason, stacklevel=2)
        pytest.skip(reason)
    return found[-1].parent


def _make(binaries: Path, data: Path, password: str | None) -> None:
    """Make an empty database; PostgreSQL refuses root, so root lends it to the package's own user."""
    secret = data / "password"
    secret.write_text(f"{password or 'unused'}\n")
    if os.getuid() == 0:
        for path in (data, secret):
            os.chown(path, _owner().pw_uid, _owner().pw_gid)
    method = "scram-sha-256" if password else "trust"
    subprocess.run(
        [
            *_as_owner(), binaries / "initdb", "--pgdata", data / "data", "--username", USER, "--auth", method,
            "--pwfile", secret, "--encoding", "UTF8", "--no-locale", "--no-sync",
        ],
        cwd=data, check=True, capture_output=True,
    )  # fmt: skip
    (data / "data" / "pg_hba.conf").write_text(f"host all all 127.0.0.1/32 {method}\n")


def _start(binaries: Path, data: Path, port: int, log: int) -> subprocess.Popen[bytes]:
    """Start the server on TCP only. The kernel stops it if the tests are killed."""
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "INT", *_as_owner()[1:], binaries / "postgres", "-D", data / "data", *options],
        cwd=data, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip


def _wait(binaries: Path, server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    ask = [binaries / "pg_isready", "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    while subprocess.run(ask, check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """A fast shutdown, which ends open sessions; then the hard way."""
    server.send_signal(2)
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _as_owner() -> list[str]:
    """The start of a command that runs as the package's user, where we are root."""
    if os.getuid() != 0:
        return ["setpriv"]
    owner = _owner()
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]


def _owner() -> pwd.struct_passwd:
    return pwd.getpwnam("postgres")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
