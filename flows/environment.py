"""Settings that Prefect reads when it is imported: set here, before any flow is.

Without a server asked for by PREFECT_API_URL, a run keeps its own PREFECT_HOME under the runs root, so a
user's profiles (and a cloud account in one) are never used unasked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from spin.core.layout import RunsRoot

_SETTINGS: Final = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 s, the default, is too short on a busy machine
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal shows our own lines, the UI Prefect's
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def prepare_environment(runs_root: Path) -> str:
    """Set Prefect up for this process; return a line that says which server it talks to."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("PREFECT_API_URL")
    if address:
        return f"Prefect server: {address}"
    home = RunsRoot(runs_root.absolute()).prefect_home
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    os.environ["PREFECT_PROFILES_PATH"] = str(home / "profiles.toml")
    return f"Prefect server: a temporary one, its history in {home}"
