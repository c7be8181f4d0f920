"""Evaluation on its own: on demand for every model of a run, and every night for the newest checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed
from pydantic import BaseModel, Field
from rich.table import Table

from flows.entering import only_one
from flows.executors import executor_of
from flows.forms import root_field
from flows.naming import named, tag_run
from flows.past_run import PastRun
from flows.requests import Model
from spin.core.errors import ConfigError
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.nights import Night, append_nights, night_of, read_nights, trend
from spin.core.record import is_new_kind, newest_run, note_evaluation, read_record, relative, write_record
from spin.core.statistics import mean_interval
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.shards import evaluation_folder, is_measured, picture_count, shard_count
from spin.report.reading import read_evaluation
from spin.report.subjects import judges_of, values_by_prompt
from tasks.showing import console
from tasks.telling import show_table


class EvaluateForm(BaseModel):
    """What the page of `evaluate` asks."""

    run: str | None = Field(
        default=None,
        title="Run",
        description="name of the run (empty: the one with the newest checkpoint)",
        json_schema_extra={"position": 0},
    )
    checkpoint: str = Field(
        default="all",
        title="Checkpoint",
        description="all, newest, or a stage: base, sft, iteration-02",
        min_length=1,
        json_schema_extra={"position": 1},
    )
    benchmarks: list[str] | None = Field(
        default=None,
        title="Benchmarks",
        description="test, validation, pickapic_test, partiprompts, hpsv2, paper_figures, or a file of prompts"
        " (empty: the run's own)",
        json_schema_extra={"position": 2},
    )
    settings: list[str] | None = Field(
        default=None,
        title="Other settings",
        description="KEY=VALUE each, of evaluation.* and execution.*",
        json_schema_extra={"position": 3},
    )
    keep: bool = Field(
        default=False,
        title="Keep in the history",
        description="add new scores to the table of the nights",
        json_schema_extra={"position": 4},
    )
    root: str = root_field(5)


@dataclass(frozen=True)
class Scores:
    """Means of one model on one benchmark."""

    stage: str
    label: str
    benchmark: str
    means: dict[str, float]
    images_scored: int
    folder: Path
    noted: int = 0  # rows that are new in the history of the nights


@dataclass(frozen=True)
class _Numbers:
    """What stands of one evaluation: a value per prompt of each scorer, by its protocol, and the mean of everything."""

    values: dict[str, list[float]]
    means: dict[str, float]


def _title(given: dict[str, Any]) -> str:
    return f"evaluate {given.get('run') or 'newest run'} {given.get('checkpoint') or 'all'}"


@flow(name="evaluate", flow_run_name=named(_title), persist_result=False)
def evaluate(
    run: str | None = None,
    checkpoint: str = "all",
    benchmarks: list[str] | None = None,
    settings: list[str] | None = None,
    keep: bool = False,
    root: str = "runs",
) -> Any:  # a state that carries list[Scores], which Prefect hands to callers
    """Score models of a run; what is scored already is only read, and a night without a new model does nothing."""
    name = run or newest_run(RunsRoot(Path(root).absolute()))
    if name is None:
        return Completed(message="nothing to do: 0 images, no run has a checkpoint yet", data=[])
    found: list[Scores] = []
    tag_run("spin-diffusion", name)
    past = PastRun.open(root, name, settings or [])
    for benchmark in benchmarks or past.requests.config.evaluation.benchmarks:
        found += score_models(past, checkpoint, benchmark, settings or [], keep=keep)
    if benchmarks and checkpoint == "all":
        _note_in_record(past, found)
    if keep:
        rows = trend(read_nights(RunsRoot(Path(root).absolute())))
        show_table("nights", rows, "nightly evaluations: means, and the change since the night before")
    labels = ", ".join(dict.fromkeys(scores.label for scores in found))
    return Completed(message=f"{_done(found)}; {name}: {labels}", data=found)


def score_models(
    past: PastRun, checkpoint: str, benchmark: str, settings: Sequence[str], *, keep: bool
) -> Iterator[Scores]:
    """Score each chosen model on one benchmark."""
    executor, asked = executor_of(past.requests, settings), past.asked(benchmark)
    for model in _chosen(past, checkpoint):
        if model is None and asked.real is None:
            continue
        result = executor.evaluate(asked, model)
        request = past.requests.evaluate(asked, model)
        numbers = _numbers(past, request)
        noted = 0 if model is None or not keep else _note(past, model, request, numbers)
        name, label = ("data", "data") if model is None else (model.name, model.label)
        yield Scores(name, label, request.benchmark, numbers.means, result.images_scored, result.folder, noted)


def _note_in_record(past: PastRun, found: Sequence[Scores]) -> None:
    """Write whole evaluations of a run's models down, so that its report shows them.

    What the run's own settings made stays: an evaluation with others is only printed.
    """
    try:
        with only_one(past.requests.folder):
            record = read_record(past.requests.folder)
            for scores in found:
                folder = EvaluationFolder(scores.folder)
                if is_new_kind(record, scores.stage, folder):
                    note_evaluation(record, scores.stage, relative(scores.folder, past.requests.root), folder)
            write_record(past.requests.folder, record)
    except ConfigError as error:  # the run goes on meanwhile: hours of scoring must not be lost for that
        console.print(f"not written into the run's report: {error}", highlight=False)


def print_scores(scores: Sequence[Scores]) -> None:
    """Print one row per model."""
    names = list(dict.fromkeys(name for row in scores for name in row.means))
    table = Table("benchmark", "model", *names)
    for row in scores:
        table.add_row(
            row.benchmark, row.label, *(f"{row.means[name]:.3f}" if name in row.means else "" for name in names)
        )
    console.print(table)
    console.print(f"{sum(row.images_scored for row in scores)} images scored", highlight=False)


def _chosen(past: PastRun, checkpoint: str) -> Sequence[Model | None]:
    if checkpoint == "all":
        return (None, *past.models)
    if checkpoint == "newest":
        return past.models[-1:]
    return (past.model(checkpoint),)


def _done(found: Sequence[Scores]) -> str:
    images, noted = sum(scores.images_scored for scores in found), sum(scores.noted for scores in found)
    if images:
        return f"{images} images scored"
    return "nothing to do: 0 images" + (f", {noted} standing scores added to the history" if noted else "")


def _note(past: PastRun, model: Model, request: EvaluateRequest, numbers: _Numbers) -> int:
    """Add an evaluation to the history unless it is there, whoever scored it: mostly the run itself did."""
    config = evaluation_folder(request).path.name
    wanted = (past.requests.config.run.name, request.benchmark, request.protocol, config)
    if any((row.series, row.checkpoint) == (wanted, model.digest) for row in read_nights(past.requests.root)):
        return 0
    rows = list(_nights(past, model, request, numbers, config))
    append_nights(past.requests.root, rows)
    return len(rows)


def _nights(past: PastRun, model: Model, request: EvaluateRequest, numbers: _Numbers, config: str) -> Iterator[Night]:
    """Rows of the history: one for each number of an evaluation."""
    now, values = datetime.now(UTC), numbers.values
    pictures = picture_count(request, range(shard_count(request)))
    for name, mean in numbers.means.items():
        interval = mean_interval(values[name], seed=0) if name in values else None
        yield Night(
            night=night_of(now, past.requests.config.nightly.timezone),
            evaluated_at=now.isoformat(timespec="seconds"),
            run=past.requests.config.run.name,
            stage=model.name,
            label=model.label,
            checkpoint=model.digest,
            benchmark=request.benchmark,
            protocol=request.protocol,
            metric=name,
            mean=mean,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            images=len(values[name]) if name in values else pictures,
            config=config,
        )


def _numbers(past: PastRun, request: EvaluateRequest) -> _Numbers:
    found = read_evaluation(evaluation_folder(request), past.requests.root)
    by_scorer = values_by_prompt(found, judges_of(found.scores))
    values = {name: list(by_prompt.values()) for name, by_prompt in by_scorer.items() if by_prompt}
    means = {name: _mean(of_prompts) for name, of_prompts in values.items()}
    means |= found.set_metrics
    if is_measured(request):
        means["denoising"] = _mean([error for _, error in found.denoising.values()])
    return _Numbers(values, means)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
