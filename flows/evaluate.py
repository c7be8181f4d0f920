"""Evaluation on its own: on demand for every model of a run, and every night for the newest checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from prefect import flow
from prefect.states import Completed
from pydantic import BaseModel, Field
from rich.table import Table

from flows.executors import executor_of
from flows.forms import root_field
from flows.naming import named, tag_run
from flows.past_run import PastRun
from flows.requests import Model
from spin.core.layout import RunsRoot
from spin.core.nights import Night, append_nights, night_of, read_nights, trend
from spin.core.record import newest_run
from spin.core.schema import read_table
from spin.core.statistics import mean_interval
from spin.evaluate.request import EvaluateRequest
from spin.evaluate.shards import evaluation_folder, shard_count
from tasks.showing import console
from tasks.telling import show_table

_PROTOCOL: Final = "single"  # one picture for each prompt


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
    benchmarks: list[Literal["test", "validation"]] | None = Field(
        default=None,
        title="Benchmarks",
        description="held-out prompts to score (empty: the run's own)",
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

    label: str
    benchmark: str
    means: dict[str, float]
    images_scored: int
    noted: int = 0  # rows that are new in the history of the nights


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
    for benchmark in benchmarks or (None,):
        found += score_models(root, name, checkpoint, benchmark, settings or [], keep=keep)
    if keep:
        rows = trend(read_nights(RunsRoot(Path(root).absolute())))
        show_table("nights", rows, "nightly evaluations: means, and the change since the night before")
    labels = ", ".join(dict.fromkeys(scores.label for scores in found))
    return Completed(message=f"{_done(found)}; {name}: {labels}", data=found)


def score_models(
    root: str, run: str, checkpoint: str, benchmark: str | None, settings: Sequence[str], *, keep: bool
) -> Iterator[Scores]:
    """Score each chosen model on one benchmark."""
    overrides = [*settings, *([] if benchmark is None else [f"evaluation.split={benchmark}"])]
    past = PastRun.open(root, run, overrides)
    executor = executor_of(past.requests, overrides)
    for model in _chosen(past, checkpoint):
        result = executor.evaluate(past.prepared, model)
        request = past.requests.evaluate(past.prepared, model)
        noted = 0 if model is None or not keep else _note(past, model, request)
        label = "data" if model is None else model.label
        yield Scores(label, request.split, _means(request), result.images_scored, noted)


def print_scores(scores: Sequence[Scores]) -> None:
    """Print one row per model."""
    names = list(dict.fromkeys(name for row in scores for name in row.means))
    table = Table("model", *names)
    for row in scores:
        table.add_row(row.label, *(f"{row.means[name]:.3f}" if name in row.means else "" for name in names))
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


def _note(past: PastRun, model: Model, request: EvaluateRequest) -> int:
    """Add an evaluation to the history unless it is there, whoever scored it: mostly the run itself did."""
    config = evaluation_folder(request).path.name
    wanted = (past.requests.config.run.name, request.split, _PROTOCOL, config)
    if any((row.series, row.checkpoint) == (wanted, model.digest) for row in read_nights(past.requests.root)):
        return 0
    rows = list(_nights(past, model, request, config))
    append_nights(past.requests.root, rows)
    return len(rows)


def _nights(past: PastRun, model: Model, request: EvaluateRequest, config: str) -> Iterator[Night]:
    """Rows of the history: one for each number of an evaluation."""
    now = datetime.now(UTC)
    values = _values(request)
    intervals = {name: mean_interval(found, seed=0) for name, found in values.items()}
    for name, mean in _means(request).items():
        interval = intervals.get(name)
        yield Night(
            night=night_of(now, past.requests.config.nightly.timezone),
            evaluated_at=now.isoformat(timespec="seconds"),
            run=past.requests.config.run.name,
            stage=model.name,
            label=model.label,
            checkpoint=model.digest,
            benchmark=request.split,
            protocol=_PROTOCOL,
            metric=name,
            mean=mean,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            images=sum(map(len, values.values())) // max(1, len(values)),
            config=config,
        )


def _values(request: EvaluateRequest) -> dict[str, list[float]]:
    folder = evaluation_folder(request)
    values: dict[str, list[float]] = {}
    for shard in range(shard_count(request)):
        for row in read_table(folder.scores(shard)).to_pylist():
            values.setdefault(row["scorer"], []).append(row["score"])
    return values


def _means(request: EvaluateRequest) -> dict[str, float]:
    folder = evaluation_folder(request)
    means = {name: _mean(found) for name, found in _values(request).items()}
    means |= {row["metric"]: row["value"] for row in read_table(folder.set_metrics).to_pylist()}
    if request.subject is not None:
        tables = (read_table(folder.denoising(shard), ["error"]) for shard in range(shard_count(request)))
        means["denoising"] = _mean([error for table in tables for error in table["error"].to_pylist()])
    return means


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
