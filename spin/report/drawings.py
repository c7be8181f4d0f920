"""Every plot of a report, drawn once: for the page, and as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spin.report.boards import Board
from spin.report.plots import noise_curves, score_curves, win_bars
from spin.report.reading import Run
from spin.report.score_plots import histograms, image_curves, radar
from spin.report.svg import Drawing
from spin.report.training_plots import held_out_curves, training_curves


@dataclass(frozen=True)
class Drawings:
    curves: list[Drawing]  # metric over models
    images: list[Drawing]  # score over training images
    bars: list[Drawing]
    radar: Drawing | None
    histograms: list[Drawing]
    noise: Drawing | None
    training: list[tuple[str, list[Drawing]]]
    held_out: list[Drawing]

    def __iter__(self) -> Iterator[Drawing]:
        yield from (*self.curves, *self.images, *self.bars, *self.histograms, *self.held_out)
        yield from (plot for plot in (self.radar, self.noise) if plot is not None)
        yield from (plot for _, plots in self.training for plot in plots)


def draw_all(run: Run, board: Board) -> Drawings:
    """Plots of the evaluation that the verdict is made from, and of the training."""
    return Drawings(
        curves=score_curves(board.rows),
        images=image_curves(board.rows, images_used(run)),
        bars=win_bars(board.rows),
        radar=radar(board.subjects, board.columns),
        histograms=histograms(board.subjects, board.columns),
        noise=noise_curves(run.stages),
        training=training_curves(run.stages),
        held_out=held_out_curves(run.stages),
    )


def images_used(run: Run) -> dict[str, int]:
    """By stage: images, or pairs, that it and every model before it were trained on; none where one is unknown."""
    used: dict[str, int] = {}
    for stage in run.stages:
        before, training = run.previous(stage), stage.training
        start = used.get(before.name) if before is not None else 0
        if training is None and before is None:
            used[stage.name] = 0
        elif training is not None and training.pairs and start is not None:
            used[stage.name] = start + training.pairs
    return used
