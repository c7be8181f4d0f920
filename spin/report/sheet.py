"""The contact sheet: a few prompts by models in one PNG, small enough to travel inside a text as a data URI."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from spin.report.grid import CELL, grid_png
from spin.report.pictures import Grid

PROMPTS: Final = 6
LIMIT_BYTES: Final = 200_000
COLUMNS: Final = 8
_FIRST: Final = 3  # real image, base and the start of the game stay; of many models the last ones follow
_SMALL_CELL: Final = 96  # the smallest in which a heading such as "real image" stands whole
_TRIES: Final = (  # prompts, cell in pixels, colours: what is given up first is seen least
    (6, CELL, None), (6, CELL, 256), (6, _SMALL_CELL, 256), (4, _SMALL_CELL, 256), (3, _SMALL_CELL, 256),
    (2, _SMALL_CELL, 256), (1, _SMALL_CELL, 256),
)  # fmt: skip


def sheet_png(grid: Grid) -> bytes:
    """The largest drawing of the grid's first prompts that keeps to LIMIT_BYTES; noise in one row of 8 takes 75 kB."""
    shown = _narrow(grid)
    drawn = b""
    for prompts, cell, colours in _TRIES:
        drawn = grid_png(replace(shown, rows=shown.rows[:prompts]), cell=cell, colours=colours)
        if len(drawn) <= LIMIT_BYTES:
            break
    return drawn


def _narrow(grid: Grid) -> Grid:
    """At most COLUMNS models."""
    count = len(grid.headings)
    kept = range(count) if count <= COLUMNS else (*range(_FIRST), *range(count - (COLUMNS - _FIRST), count))
    return Grid(
        tuple(grid.headings[i] for i in kept),
        tuple(replace(row, pictures=tuple(row.pictures[i] for i in kept)) for row in grid.rows),
        grid.has_real,
    )
