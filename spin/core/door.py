"""A room as a process of its own: `python -m spin.<room> request.json result.json`.

Progress goes to stdout as JSON lines; a SpinError goes there too and ends the process with its exit code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from spin.core.errors import ConfigError, SpinError
from spin.core.requests import from_json, to_json

Request = TypeVar("Request")


def serve(kind: type[Request], run: Callable[..., object], arguments: list[str]) -> int:
    """Read the request, run the room, write the result; returns the exit code."""
    try:
        source, target = _paths(arguments)
        result = run(from_json(kind, source), progress=_tell)
    except SpinError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)  # noqa: T201
        return error.exit_code
    target.write_bytes(to_json(result))
    return 0


def _paths(arguments: list[str]) -> tuple[Path, Path]:
    if len(arguments) != 2:
        raise ConfigError(f"expected a request and a result file, got {len(arguments)} arguments")
    return Path(arguments[0]), Path(arguments[1])


def _tell(done: int, total: int, note: str = "") -> None:
    sys.stdout.write(json.dumps({"done": done, "total": total, "note": note}) + "\n")
    sys.stdout.flush()
