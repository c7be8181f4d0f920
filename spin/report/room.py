"""Scores -> report: reads the files of a run, writes the page, its numbers and its pictures, and tells the story."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spin.core.draft import replace_file
from spin.core.layout import RunFolder, RunsRoot
from spin.core.progress import Progress, silent
from spin.core.record import read_record
from spin.report import sheet
from spin.report.boards import Board, board, further_boards
from spin.report.costs import cost_table
from spin.report.evidence import gate_benchmark, gather, seen_by_gate
from spin.report.gallery import extremes, gallery
from spin.report.grid import grid_png
from spin.report.pictures import PROMPTS, Grid, picture_grid
from spin.report.reading import Run, read_run
from spin.report.request import ReportRequest, ReportResult
from spin.report.story import tell
from spin.report.tables import csv_text, flat_rows, write_metrics
from spin.report.verdict import verdict

if TYPE_CHECKING:
    from spin.report.exports import Export


def run(request: ReportRequest, *, progress: Progress = silent) -> ReportResult:
    """Write runs/<run>/report/; equal inputs give equal bytes.

    Always contact-sheet.png, the story and the gate's evidence; with `page` also index.html, metrics.parquet,
    table.csv, grid.png, and a file for each table and each plot.
    """
    folder = RunsRoot(request.runs_root).run(request.run)
    further = request.page or gate_benchmark(read_record(folder)) is not None
    found = read_run(runs_root=request.runs_root, run=request.run, further=further)
    progress(1, 4, "scores")
    first = board(found, found.key)
    rows = first.rows
    gate, sentence = seen_by_gate(found), verdict(found, rows)
    evidence = tuple(gather(gate, rows if gate is found else board(gate, gate.key).rows))
    progress(2, 4, "pictures")
    grid = picture_grid(found, prompts=PROMPTS if request.page else sheet.PROMPTS)
    if grid is not None:
        replace_file(folder.contact_sheet, sheet.sheet_png(grid))
    progress(3, 4, "page" if request.page else "story")
    if request.page:
        _write_page(folder, found, first, sentence, grid)
    result = ReportResult(
        page=folder.report if request.page else None,
        metrics=folder.metrics if request.page else None,
        table=_table(folder) if request.page else None,
        grid=_grid(folder) if request.page and grid is not None else None,
        verdict=sentence,
        rows=rows,
        story=tell(run=found, rows=rows, evidence=evidence, verdict=sentence),
        scores=flat_rows(rows) if any(row.cells for row in rows) else (),
        sheet=folder.contact_sheet if grid is not None else None,
        evidence=evidence,
    )
    progress(4, 4, sentence)
    return result


def _write_page(folder: RunFolder, found: Run, first: Board, sentence: str, grid: Grid | None) -> None:
    from spin.report.drawings import draw_all  # plots: half a second that a story does not pay
    from spin.report.exports import exports
    from spin.report.page import render_page

    write_metrics(folder.metrics, first.rows, run=folder.path.name)
    replace_file(_table(folder), csv_text(first.rows).encode())
    if grid is not None:
        replace_file(_grid(folder), grid_png(grid))
    every, drawings = [first, *further_boards(found)], draw_all(found, first)
    files = exports(found, every, cost_table(found), drawings)
    _write_files(folder, files)
    page = render_page(
        run=found, boards=every, drawings=drawings, verdict=sentence, grid=_shown(found, first, grid),
        gallery=gallery(first) if grid is not None else None, files=files,
    )  # fmt: skip
    replace_file(folder.report, page.encode())


def _write_files(folder: RunFolder, files: Sequence[Export]) -> None:
    """Tables and plots beside the page; those of an earlier report that this one does not have are removed."""
    root = folder.report.parent
    for file in files:
        replace_file(root / file.path, file.text.encode())
    kept = {root / file.path for file in files}
    for path in (path for name in ("tables", "plots") for path in (root / name).glob("*") if path not in kept):
        path.unlink(missing_ok=True)


def _shown(found: Run, first: Board, grid: Grid | None) -> Grid | None:
    """The page's grid: behind the prompts that the hash picked stand those of the largest gains and losses."""
    return picture_grid(found, also=extremes(first)) if grid is not None else None


def _table(folder: RunFolder) -> Path:
    return folder.report.with_name("table.csv")


def _grid(folder: RunFolder) -> Path:
    return folder.report.with_name("grid.png")
