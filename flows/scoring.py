"""Evaluates a run's models: each when it is made, or, where stages overlap, while the next one is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.asking import Asked
from flows.executors import Meanwhile
from flows.overlapping import scores_later
from flows.requests import Model, ask_once
from flows.run_state import RunState
from spin.core.layout import EvaluationFolder
from spin.core.record import note_evaluation, relative
from spin.evaluate.shards import is_measured, shard_count
from tasks.reporting import record as write_down


def score(state: RunState, model: Model | None, *, last: bool = False) -> None:
    """Evaluate a model now, or, where stages overlap, while the next one is made."""
    if scores_later(state.requests.config) and not last:
        state.unscored.append(model)
    else:
        evaluate_model(state, model)


def score_late(state: RunState) -> None:
    """Evaluate what was left for later; the record is written in the order in which models were made."""
    while state.unscored:
        evaluate_model(state, state.unscored.pop(0))


def meanwhile(state: RunState) -> Meanwhile:
    """Evaluations that may go on beside what is made now."""
    return Meanwhile(scoring=tuple((asked, model) for model in state.unscored for asked in _asked(state, model)))


def _asked(state: RunState, model: Model | None) -> Iterator[Asked]:
    """What a model is asked, benchmark by benchmark; the real images only where there are some."""
    for benchmark in state.requests.benchmarks:
        asked = ask_once(state.requests, state.record, benchmark, lambda: state.prepared)
        if model is not None or asked.real is not None:
            yield asked


def evaluate_model(state: RunState, model: Model | None) -> None:
    """Score a model, or the real held-out images (None), on every benchmark, and write the results down."""
    requests, name = state.requests, "data" if model is None else model.name
    made: list[Path] = []
    for asked in _asked(state, model):
        result = state.executor.evaluate(asked, model)
        state.totals.images_sampled += result.images_made
        state.totals.images_scored += result.images_scored
        request = requests.evaluate(asked, model)
        folder = EvaluationFolder(result.folder)
        made += folder.artifacts(shard_count(request), measured=is_measured(request))
        note_evaluation(state.record, name, relative(result.folder, requests.root), folder)
    state.spent(name, "evaluate", made)
    write_down(requests.folder, state.record)
