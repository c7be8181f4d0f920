"""Settings that Prefect reads when it is imported: set here, before any flow is.

Without a server asked for by PREFECT_API_URL, a run keeps its own PREFECT_HOME under the runs root, so a
user's profiles (and a cloud account in one) are never used unasked.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot

_SETTINGS: Final = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 s, the default, is too short on a busy machine
    "UVICORN_LOOP": "flows.calm_server:new_event_loop",  # of that server: it is Prefect that starts it
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # of runs; silence of three marks a run Crashed (flows.automations)
    "PREFECT_WORKER_QUERY_SECONDS": "2",  # 10 s, the default, is as long as a short stage
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal shows our own lines, the UI Prefect's
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks",  # what our doors say, such as who holds a GPU, is in a run's log too
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_ANSWER_SECONDS: Final = 10.0


def prepare_environment(runs_root: Path) -> str:
    """Set Prefect up for this process; return a line that says which server it talks to."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    root = RunsRoot(runs_root.absolute())
    address = os.environ.get("PREFECT_API_URL", "")
    if address:
        _reach(address)
        return f"Prefect server: {address}"
    home = root.prefect_home
    _make(home)
    os.environ["PREFECT_HOME"] = str(home)
    os.environ["PREFECT_PROFILES_PATH"] = str(home / "profiles.toml")
    os.environ["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = str(home / "ui")  # the default is shared by all servers
    served = _served(root)
    if served:
        os.environ["PREFECT_API_URL"] = served
        return f"Prefect server: {served}, as spin-diffusion serve runs it here"
    return f"Prefect server: a temporary one, its history in {home}"


def require_server() -> str:
    """The address of the server that PREFECT_API_URL names; it must answer."""
    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        raise ConfigError(
            "no Prefect server is named",
            where="PREFECT_API_URL",
            fix="export PREFECT_API_URL=http://HOST:PORT/api, or start one with spin-diffusion serve",
        )
    _reach(address)
    return address


def server_note(root: RunsRoot) -> Path:
    """Where `serve` writes its address while it runs."""
    return root.prefect_home / "server-url"


def _served(root: RunsRoot) -> str | None:
    """Address of the server that `serve` runs for this runs root; None where there is none, or it is gone."""
    try:
        address = server_note(root).read_text("utf-8").strip()
        _reach(address)
    except (OSError, ConfigError):
        return None
    return address


def _make(home: Path) -> None:
    """Make Prefect's folder; a runs root that cannot be written is met here, before a server starts."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not os.access(home, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ConfigError(
            f"cannot write: {error.strerror}", where=str(home), fix="give rights or set run.root"
        ) from error


def _reach(address: str) -> None:
    """Refuse a server that is not there; behind a proxy only Prefect itself can tell."""
    parts = urlsplit(address)
    if getproxies() and parts.hostname not in _LOOPBACK:
        return
    try:
        if not parts.hostname:
            raise ValueError("expected http://HOST:PORT/api")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Prefect server answers at {address}: {getattr(error, 'strerror', None) or error}",
            where="PREFECT_API_URL",
            fix="start it, or unset PREFECT_API_URL: a run then brings its own",
        ) from error


def refuse_other_server() -> None:
    """Refuse a Prefect server that a file in this folder names, unless PREFECT_API_URL asks for one."""
    from prefect.settings import get_current_settings

    address = get_current_settings().api.url
    if address and not os.environ.get("PREFECT_API_URL"):
        raise ConfigError(
            f"a settings file in this folder points Prefect at {address}",
            fix="set PREFECT_API_URL to use that server, or run in another folder",
        )
