import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from spin.core.layout import RunsRoot
from spin.report.grid import grid_png
from spin.report.pictures import Grid, GridRow, Picture, picture_grid
from spin.report.reading import read_run
from spin.report.request import ReportRequest
from spin.report.room import run
from spin.report.sheet import LIMIT_BYTES, PROMPTS, sheet_png

HEAD, LEFT, CELL, GAP = 24 + 40, 24 + 232, 128, 8  # margins and sizes of grid.py


def noisy_grid(models, prompts=6, side=512):
    """Pictures that no format makes smaller."""
    rng = np.random.default_rng(0)
    pictures = [Picture(Image.fromarray(rng.integers(256, size=(side, side, 3), dtype=np.uint8)), 1, ()) for _ in "123"]
    headings = ("real image", *(f"model {n}" for n in range(models)))
    rows = [
        GridRow(str(n), "a caption of some length", tuple(pictures[i % 3] for i in range(len(headings))))
        for n in range(prompts)
    ]
    return Grid(headings, tuple(rows), True)


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_the_sheet_shows_the_first_prompts_by_the_models(finished_run):
    grid = picture_grid(read_run(runs_root=finished_run.root, run="miniature"))
    content = sheet_png(grid)
    sheet = opened(content)
    assert len(content) <= LIMIT_BYTES
    assert sheet.shape[:2] == (2 * 24 + 40 + PROMPTS * (CELL + GAP), 2 * 24 + 232 + 6 * (CELL + GAP) + GAP)
    top = HEAD + 2 * (CELL + GAP)
    cell = sheet[top : top + CELL, LEFT : LEFT + CELL]
    assert (cell[::4, ::4] == np.asarray(grid.rows[2].pictures[0].image)).all()
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000


def test_labels_stand_in_ink_above_and_beside_the_pictures(finished_run):
    sheet = opened(sheet_png(picture_grid(read_run(runs_root=finished_run.root, run="miniature"))))
    for column in range(6):
        left = LEFT + column * (CELL + GAP) + (GAP if column else 0)
        assert sheet[24:HEAD, left : left + CELL].min() < 60, column
    for row in range(PROMPTS):
        top = HEAD + row * (CELL + GAP)
        assert sheet[top : top + CELL, 24 : LEFT - GAP].min() < 120, row


@pytest.mark.parametrize("models", [5, 20])
def test_pictures_that_nothing_makes_smaller_still_fit(models):
    content = sheet_png(noisy_grid(models))
    assert len(content) <= LIMIT_BYTES
    assert len(grid_png(noisy_grid(models))) > LIMIT_BYTES
    assert opened(content).shape[0] >= 2 * 24 + 40 + 96


def test_of_many_models_the_first_and_the_last_are_shown():
    grid = noisy_grid(20, prompts=1, side=8)
    rows = (replace(grid.rows[0], pictures=tuple(flat(n) for n in range(21))),)
    sheet = opened(sheet_png(replace(grid, rows=rows)))
    shown = [int(sheet[HEAD + 64, LEFT + i * (CELL + GAP) + (GAP if i else 0) + 64, 0]) // 10 for i in range(8)]
    assert shown == [0, 1, 2, 16, 17, 18, 19, 20]


def flat(number):
    return Picture(Image.new("RGB", (8, 8), (10 * number, 0, 0)), 1, ())


@pytest.mark.system
def test_the_sheet_of_a_run_stands_beside_its_report_and_is_the_same_without_a_page(builder):
    builder.stages = ("base", "sft")
    builder.build()
    small = run(ReportRequest(builder.root, builder.name, page=False)).sheet
    before = small.read_bytes()
    whole = run(ReportRequest(builder.root, builder.name)).sheet
    assert small == whole == RunsRoot(builder.root).run(builder.name).contact_sheet
    assert whole.read_bytes() == before
    with Image.open(whole) as image:
        assert image.format == "PNG"
    assert [path.name for path in whole.parent.glob(".*tmp*")] == []


def test_where_nothing_is_evaluated_there_is_no_sheet(builder):
    builder.write_bare_record()
    assert run(ReportRequest(builder.root, builder.name, page=False)).sheet is None
    assert not RunsRoot(builder.root).run(builder.name).contact_sheet.exists()
