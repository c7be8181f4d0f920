"""The last model of every arm on the same prompts from the same noise, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from spin.core.draft import replace_file
from spin.report.grid import grid_png
from spin.report.pictures import picture_grid
from spin.report.reading import Run
from spin.report.results.facts import Row

PROMPTS: Final = 8
_CELL: Final = 96


def write_pictures(path: Path, runs: Mapping[str, Run], rows: Sequence[Row]) -> None:
    """One column for the base and for each arm's last model, of the first seed."""
    stages = []
    for row in rows:
        run = next(iter(runs.values())) if row.is_base else runs.get(row.arm)
        if run is not None and row.last:
            stages += [replace(stage, label=row.label) for stage in run.stages if stage.name == row.stage]
    if not stages:
        return
    grid = picture_grid(replace(next(iter(runs.values())), stages=tuple(stages)), prompts=PROMPTS)
    if grid is not None:
        replace_file(path, grid_png(grid, cell=_CELL, colours=128))
