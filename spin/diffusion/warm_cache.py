"""A folder of compiled graphs for this process alone, warm from the processes that had it before.

Inductor keeps what it compiles by the content of a graph, so a worker that starts again compiles nothing anew. Two
living processes never share a folder: one that is killed in the middle leaves files that only its successor clears.
"""

from __future__ import annotations

import fcntl
import logging
import os
from itertools import count
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

FOLDER: Final = "TORCHINDUCTOR_CACHE_DIR"
_TRITON: Final = "TRITON_CACHE_DIR"
_held: dict[int, Path] = {}  # open lock, for as long as this process lives -> its folder


def keep_warm() -> Path | None:
    """Take the first folder that no other process has, once; None where the environment names one, or none can be.

    They lie in the user's cache folder, `spin-diffusion/compiled/0` and on: by machine, not by run, as compiled code
    is.
    """
    if _held:
        return next(iter(_held.values()))
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spin-diffusion" / "compiled"
    named = os.environ.get(FOLDER)
    if named and Path(named).parent != base:  # one of ours was taken by the process that started this one
        return None
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = next(folder for number in count() if _take(folder := base / str(number)))
        folder.mkdir(exist_ok=True)
    except OSError as error:
        log.warning("%s: cannot be used: %s; torch keeps compiled graphs elsewhere", base, error.strerror)
        return None
    os.environ[FOLDER] = str(folder)
    os.environ[_TRITON] = str(folder / "triton")
    return folder


def _take(folder: Path) -> bool:
    """Whether nobody else has the folder; from now on it is this process's."""
    lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _held[lock] = folder
    return True
