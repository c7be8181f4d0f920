"""Evaluation on its own: every model of a run, perhaps with other settings than the run's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect import flow
from rich.table import Table

from flows.past_run import PastRun
from spin.core.layout import EvaluationFolder
from spin.core.schema import read_table
from spin.evaluate.request import EvaluateResult
from tasks.evaluating import evaluate
from tasks.showing import console


@dataclass(frozen=True)
class Scores:
    """Mean of each metric for one model."""

    label: str
    means: dict[str, float]
    images_scored: int


@flow(name="evaluate", flow_run_name="evaluate {run}", persist_result=False)
def evaluate_run(root: str, run: str, overrides: Sequence[str] = ()) -> list[Scores]:
    """Score the real held-out images and every model of a run; what stands is only read."""
    past = PastRun.open(root, run, overrides)
    found = []
    for model in (None, *past.models):
        label = "data" if model is None else model.label
        request = past.requests.evaluate(past.prepared, model)
        result: EvaluateResult = evaluate(request, label, past.requests.inline)
        found.append(Scores(label, _means(EvaluationFolder(result.folder)), result.images_scored))
    return found


def print_scores(scores: Sequence[Scores]) -> None:
    """Print one row per model."""
    names = list(dict.fromkeys(name for row in scores for name in row.means))
    table = Table("model", *names)
    for row in scores:
        table.add_row(row.label, *(f"{row.means[name]:.3f}" if name in row.means else "" for name in names))
    console.print(table)
    console.print(f"{sum(row.images_scored for row in scores)} images scored", highlight=False)


def _means(folder: EvaluationFolder) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in read_table(folder.scores(0)).to_pylist():
        values.setdefault(row["scorer"], []).append(row["score"])
    means = {name: sum(found) / len(found) for name, found in values.items()}
    means |= {row["metric"]: row["value"] for row in read_table(folder.set_metrics).to_pylist()}
    if folder.denoising.exists():
        errors = read_table(folder.denoising)["error"].to_pylist()
        means["denoising"] = sum(errors) / len(errors)
    return means
