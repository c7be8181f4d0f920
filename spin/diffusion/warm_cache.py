"""A folder of compiled graphs for this process alone, warm from the processes that had it before.

Inductor keeps what it compiles by the content of a graph, so a worker that starts again compiles nothing anew. Two
living processes never share a folder: one that is killed in the middle leaves files that only its successor clears.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from spin.core.environment import cpu_model, installed

log = logging.getLogger(__name__)

FOLDER: Final = "TORCHINDUCTOR_CACHE_DIR"
_TRITON: Final = "TRITON_CACHE_DIR"
_held: dict[int, Path] = {}  # open lock, for as long as this process lives -> its folder


def keep_warm() -> Path | None:
    """Take the first folder that no other process has, once; None where the environment names one, or none can be.

    They lie in the user's cache folder, `spin-diffusion/compiled/PROCESSOR/TORCH/0` and on: not by run, as compiled
    code is not, but by machine, for one home may be that of many, whose processors do not know each other's code.
    Those of other versions of torch that nobody has are emptied.
    """
    if _held:
        return next(iter(_held.values()))
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "spin-diffusion" / "compiled"
    try:
        place = place.expanduser()
        if not _ours(FOLDER, place):
            return None
        machine = place / hashlib.sha256(cpu_model().encode()).hexdigest()[:12]
        base = machine / installed("torch")
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = next(folder for number in count() if _take(folder := base / str(number)))
        folder.mkdir(exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home
        log.warning("%s: cannot be used: %s; torch keeps compiled graphs elsewhere", place, error)
        return None
    os.environ[FOLDER] = str(folder)
    if _ours(_TRITON, place):
        os.environ[_TRITON] = str(folder / "triton")
    _drop_others(machine, base)
    return folder


def _ours(variable: str, place: Path) -> bool:
    """Whether the user has named no folder; one in `place` was taken by the process that started this one."""
    named = os.environ.get(variable)
    return not named or place in Path(named).parents


def _drop_others(machine: Path, base: Path) -> None:
    """Remove what other versions of torch have compiled; their locks stay, or two could hold what is one."""
    for lock in machine.glob("*/*.lock"):
        folder = lock.with_suffix("")
        if lock.parent == base or not folder.exists():
            continue
        with suppress(OSError), lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


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
