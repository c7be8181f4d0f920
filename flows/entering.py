"""What is refused before Prefect is imported and a server starts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from spin.core.config import Config
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.record import open_record

_SMALLEST_FREE_BYTES: Final = 200 * 2**20  # the miniature's demo writes about 100 MB


def check_run(config: Config) -> None:
    """Refuse a changed config against an existing run, and a runs root that cannot hold it."""
    root = RunsRoot(Path(config.run.root).absolute())
    run = root.run(config.run.name)
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError("is a file, not the folder of a run", where=str(run.path), fix="choose another run.name")
    open_record(run, config)
    try:
        root.path.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root.path).free
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", where=str(root.path), fix="set run.root") from error
    if free < _SMALLEST_FREE_BYTES:
        raise ConfigError(f"only {free / 2**20:.0f} MiB free", where=str(root.path), fix="free space or set run.root")
