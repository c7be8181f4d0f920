"""Processes of flow runs on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil


def processes_of(*runs: str) -> list[psutil.Process]:
    """Every process that works for one of these flow runs, its rooms too: the worker marks their environment."""
    return [process for process in psutil.process_iter() if _variable(process, "PREFECT__FLOW_RUN_ID") in runs]


def processes_on(root: Path) -> list[psutil.Process]:
    """Every process that `serve` has started for a runs root, and what those have started."""
    home = str(root / ".prefect")
    return [process for process in psutil.process_iter() if _variable(process, "PREFECT_HOME") == home]


def named(processes: Iterable[psutil.Process], *words: str) -> list[psutil.Process]:
    """Those whose command holds all of these words, as `worker start`, `spin-gpu`."""
    return [each for each in processes if set(words) <= set(each.cmdline())]


def _variable(process: psutil.Process, name: str) -> str | None:
    """None also for one that has ended, or is ours no more than its name."""
    if process.pid == os.getpid():
        return None
    try:
        return process.environ().get(name)
    except (psutil.Error, OSError):
        return None
