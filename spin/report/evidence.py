"""What the gate is shown: each model against the model before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spin.core.benchmarks import benchmark_name
from spin.core.gate import Evidence, opposite
from spin.core.statistics import Estimate
from spin.report.reading import Run
from spin.report.request import ScoreRow
from spin.report.scoring import convergence


def gate_benchmark(record: Mapping[str, Any]) -> str | None:
    """Name of the prompts that a run's gate decides by, as their evaluations bear it.

    None where it is off, and in records from before a gate had prompts of its own: those decided by the reported ones.
    """
    gate = (record.get("config") or {}).get("gate") or {}
    named = gate.get("benchmark")
    return None if gate.get("mode", "off") == "off" or named is None else benchmark_name(str(named))


def seen_by_gate(run: Run) -> Run:
    """The run on the prompts that its gate decides by; without scores where nobody scored those yet.

    Never on the reported ones in their place. Where no gate has prompts of its own, the run as it is.
    """
    name = gate_benchmark(run.record)
    if name is None:
        return run
    keys = (key for key in (run.key, *run.further) if key.rpartition(".")[0] == name)
    key = next(keys, "")
    return run if key == run.key else run.on(key)


def gather(run: Run, rows: Sequence[ScoreRow]) -> Iterator[Evidence]:
    """Evidence of every trained model that was measured together with the model before it, in order."""
    by_name = {row.name: row for row in rows}
    for stage in run.stages:
        before, gains, held_out = run.previous(stage), _gains(by_name[stage.name]), convergence(run, stage)
        if before is not None and (gains or held_out is not None):
            loss = None if held_out is None else held_out[2].difference
            yield Evidence(stage.name, stage.label, before.name, before.label, gains, loss)


def _gains(row: ScoreRow) -> dict[str, Estimate]:
    return {
        cell.column.metric: opposite(found.difference) if cell.column.lower_is_better else found.difference
        for cell in row.cells
        for found in cell.comparisons
        if found.against == "previous" and cell.column.kind == "judge"
    }
