import numpy as np

from spin.report.boards import board
from spin.report.reading import read_run


def matrices(builder):
    run = read_run(runs_root=builder.root, run=builder.name)
    return board(run, run.key).matrices


def test_every_model_and_the_real_images_play_every_other_on_the_average_first(finished_run):
    found = matrices(finished_run)
    assert [matrix.column.metric for matrix in found] == ["average", "z_average", *finished_run.scorers]
    assert found[0].labels == ("data", "base", "SFT", "SPIN 1", "SPIN 2", "SPIN 3")
    for row, cells in enumerate(found[0].cells):
        assert [column for column, cell in enumerate(cells) if cell is None] == [row]


def test_cells_count_the_prompts_on_which_the_row_scores_above_the_column(finished_run):
    judged = next(matrix for matrix in matrices(finished_run) if matrix.column.metric == "attributes")
    a, b = finished_run.values("sft", "attributes"), finished_run.values("base", "attributes")
    cell, mirrored = judged.cells[2][1], judged.cells[1][2]
    assert (cell.wins, cell.ties, cell.losses) == ((a > b).sum(), (a == b).sum(), (a < b).sum())
    assert (mirrored.wins, mirrored.ties, mirrored.losses) == (cell.losses, cell.ties, cell.wins)


def test_the_average_of_raw_scores_decides_as_in_the_paper(builder):
    builder.stages, builder.scorers = ("base", "sft"), ("alignment", "aesthetic")
    builder.build()
    even = np.arange(16.0)
    builder.write_scores("base", {"alignment": even, "aesthetic": even})
    # prompt 0: +3 - 1 wins, prompt 1: +1 - 1 ties, prompt 2: +1 - 3 loses, the others tie
    up, down = np.zeros(16), np.zeros(16)
    up[:3], down[:3] = (3, 1, 1), (1, 1, 3)
    builder.write_scores("sft", {"alignment": even + up, "aesthetic": even - down})
    cell = matrices(builder)[0].cells[2][1]
    assert (cell.wins, cell.ties, cell.losses) == (1, 14, 1)


def test_a_model_alone_has_no_matrix(builder):
    builder.stages, builder.scorers = ("base",), ()
    builder.build()
    assert matrices(builder) == ()
