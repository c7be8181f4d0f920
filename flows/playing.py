"""Plays a run in this process and shows what came of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from flows.spin_diffusion import spin_diffusion
from spin.core.config import Config
from spin.core.config_identity import config_to_json
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.record import open_record
from spin.report.terminal import print_table
from tasks.launching import find_device
from tasks.showing import console

_SMALLEST_FREE_BYTES: Final = 200 * 2**20  # the miniature's demo writes about 100 MB


def play(config: Config, server: str) -> None:
    """Run, resume or repeat; print the table, the report's path and what was done."""
    root = RunsRoot(Path(config.run.root).absolute())
    open_record(root.run(config.run.name), config)  # a changed config is refused before a server starts
    _check_space(root)
    console.print(f"[dim]{server}[/dim]")
    console.print(f"run {config.run.name!r}: {config.iterations} iterations, data {config.data.source}")
    summary = spin_diffusion(config_to_json(config), find_device(config.execution.device))
    print_table(summary.report, console)
    console.print(f"{summary.totals} in {summary.totals.seconds:.0f} s", highlight=False)


def _check_space(root: RunsRoot) -> None:
    try:
        root.path.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root.path).free
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", where=str(root.path), fix="set run.root") from error
    if free < _SMALLEST_FREE_BYTES:
        raise ConfigError(f"only {free / 2**20:.0f} MiB free", where=str(root.path), fix="free space or set run.root")
