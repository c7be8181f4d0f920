"""The runs of a comparison -> its scores and facts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from spin.core.benchmarks import benchmark_name
from spin.core.comparison import z_average
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.recipe import BASE, CHOSEN, Recipe
from spin.core.store import Manifest, read_manifest
from spin.report.reading import Evaluation, Run, Stage, read_evaluation, read_run
from spin.report.results.facts import FACTS, Row, RunFacts, StageFacts
from spin.report.subjects import DENOISING, denoising_by_prompt, judges_of, values_by_prompt

LAST_STEPS: Final = 20  # of the log, averaged
_LOGGED: Final = ("accuracy", "margin", "real_mse", "jensen_gap", "loser_scale")
Score = tuple[str, int, str, str, float]  # row, seed, prompt, metric, value


@dataclass(frozen=True)
class Played:
    """One arm with one seed, as it was planned, and what this call knows of it."""

    arm: str
    seed: int
    run: str
    planned: Mapping[str, float]
    settings: Mapping[str, Any]
    stages: tuple[str, ...]  # that its config asks for, the last one last
    failed: str | None = None  # why it ended early in this call


@dataclass(frozen=True)
class Checkpoint:
    """An arm that somebody trained elsewhere, and its evaluation."""

    arm: str
    evaluation: EvaluationFolder


@dataclass
class Gathered:
    """What stands of a comparison."""

    benchmark: str = ""
    machine: str = ""
    set_metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # of the base and of checkpoints, by row
    rows: tuple[Row, ...] = ()
    runs: tuple[RunFacts, ...] = ()
    scores: list[Score] = field(default_factory=list)
    first: dict[str, Run] = field(default_factory=dict)  # of each arm the first run with a scored model

    @property
    def prompts(self) -> int:
        return len({prompt for _, _, prompt, _, _ in self.scores})


def gather(
    root: RunsRoot, folder: Path, recipe: Recipe, played: Sequence[Played], checkpoints: Sequence[Checkpoint]
) -> Gathered:
    """Read every run and checkpoint of a comparison.

    Args:
        folder: of the comparison; an earlier page there knows why runs ended early.
    """
    found, known = Gathered(rows=tuple(rows_of(recipe, played))), _known_failures(folder)
    facts = []
    for each in played:
        run = read_run(runs_root=root.path, run=each.run) if root.run(each.run).record.exists() else None
        facts.append(_run_facts(recipe, each, run, known))
        if run is not None and facts[-1].stages:
            found.first.setdefault(each.arm, run)
            found.scores += _scores_of(run, each, facts[-1].chosen)
    found.runs = tuple(facts)
    for run in list(found.first.values())[:1]:
        found.benchmark, found.machine = run.key, _machine(run)
        found.set_metrics[BASE] = _finite(run.stages[0].evaluation.set_metrics)
    for checkpoint in checkpoints:
        evaluation, row = read_evaluation(checkpoint.evaluation, root), f"{checkpoint.arm}/checkpoint"
        found.set_metrics[row] = _finite(evaluation.set_metrics)
        found.scores += [(row, seed, *values) for seed in recipe.seeds for values in _scores(evaluation)]
    shown = {row.row for row in found.rows}
    found.scores = sorted({score for score in found.scores if score[0] in shown})
    return found


def rows_of(recipe: Recipe, played: Sequence[Played]) -> list[Row]:
    """Lines of the tables: the base, then arm by arm as the recipe has them; the last model is the config's last."""
    stages = {each.arm: each.stages for each in played}
    rows = [Row(BASE, BASE, BASE, BASE, "", last=True)]
    for name, arm in recipe.arms.items():
        if arm.checkpoint is not None:
            rows.append(Row(f"{name}/checkpoint", name, "checkpoint", arm.label, "made elsewhere", last=True))
            continue
        *_, last = stages[name]
        budget = "the measure of the budgets" if name == recipe.measure else str(recipe.budget_of(name))
        shown = [last] if arm.rows == "last" else [stage for stage in stages[name] if stage != "sft"]
        for stage in shown:
            label = arm.label if arm.rows == "last" else f"{arm.label}, iteration {int(stage.rpartition('-')[2])}"
            rows.append(Row(f"{name}/{stage}", name, stage, label, budget, last=stage == last))
        if recipe.choose is not None and arm.rows == "all":
            label = f"{arm.label}, chosen on {benchmark_name(recipe.choose)}"
            rows.append(Row(f"{name}/{CHOSEN}", name, CHOSEN, label, budget, last=False))
    return rows


def choose(run: Run, recipe: Recipe) -> str | None:
    """The stage with the highest average on the prompts that choose, the start of the game among them.

    The average is the recipe's, of z-scores against the base. None where the recipe does not choose, or nobody scored.
    """
    if recipe.choose is None or run.start is None:
        return None
    found = {stage.name: _choosing(stage, recipe) for stage in run.stages}
    base = found[run.stages[0].name]
    played = [stage.name for stage in run.stages if stage is run.start or stage.plays]
    levels = {name: float(z_average(found[name], base).mean()) for name in played if found[name] and base}
    return max(levels, key=lambda name: levels[name], default=None)


def _choosing(stage: Stage, recipe: Recipe) -> dict[str, list[float]]:
    """Values of the recipe's judges on the prompts that choose; empty where one is missing."""
    name = benchmark_name(recipe.choose or "")
    kinds = [each for each in stage.further.values() if each.benchmark == name]
    values = values_by_prompt(kinds[0], recipe.average) if kinds else {}
    if not set(recipe.average) <= set(values):
        return {}
    return {judge: list(values[judge].values()) for judge in recipe.average}


def _run_facts(recipe: Recipe, each: Played, run: Run | None, known: Mapping[str, str]) -> RunFacts:
    stages = [stage for stage in run.stages[1:] if stage.evaluation.folder is not None] if run is not None else []
    reached = [stage.name for stage in stages]
    failed = None
    if each.stages[-1] not in reached:
        so_far = f"has come to {reached[-1]} so far" if reached else "not played yet"
        failed = each.failed or known.get(each.run) or so_far
    chooses = recipe.arms[each.arm].rows == "all"
    return RunFacts(
        arm=each.arm,
        seed=each.seed,
        run=each.run,
        planned=each.planned,
        settings=each.settings,
        stages=tuple(_stage_facts(run, stage) for stage in stages if run is not None),
        chosen=choose(run, recipe) if run is not None and failed is None and chooses else None,
        failed=failed,
    )


def _known_failures(folder: Path) -> dict[str, str]:
    """Why runs ended early, as an earlier call wrote it down."""
    try:
        runs = json.loads((folder / FACTS).read_text("utf-8"))["runs"]
        return {run["run"]: run["failed"] for run in runs if run["failed"] and run["stages"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _scores_of(run: Run, each: Played, chosen: str | None) -> Iterator[Score]:
    for stage in run.stages:
        rows = [BASE if stage is run.stages[0] else f"{each.arm}/{stage.name}"]
        rows += [f"{each.arm}/{CHOSEN}"] if stage.name == chosen else []
        for values in _scores(stage.evaluation):
            yield from ((row, each.seed, *values) for row in rows)


def _scores(evaluation: Evaluation) -> Iterator[tuple[str, str, float]]:
    values: dict[str, Mapping[str, float]] = {**values_by_prompt(evaluation, judges_of(evaluation.scores))}
    values[DENOISING] = denoising_by_prompt(evaluation)
    for metric, by_prompt in values.items():
        for prompt, value in by_prompt.items():
            if math.isfinite(value):
                yield prompt, metric, float(value)


def _stage_facts(run: Run, stage: Stage) -> StageFacts:
    spent = {row["task"]: row for row in run.record.get("stage_seconds", []) if row["stage"] == stage.name}
    log = stage.training.log if stage.training else {}
    peak = _peak(run, _manifest(run, stage.name))
    return StageFacts(
        stage=stage.name,
        label=stage.label,
        images=stage.training.pairs or 0 if stage.training else 0,
        sampled=int(spent.get("sample", {}).get("images", 0)),
        train_seconds=float(spent.get("train", {}).get("device_seconds", 0.0)),
        sample_seconds=float(spent.get("sample", {}).get("device_seconds", 0.0)),
        peak_bytes=peak,
        set_metrics=_finite(stage.evaluation.set_metrics),
        training={name: mean for name in _LOGGED if (mean := _mean_of_last(log.get(name, []))) is not None},
        held_out=_held_out(stage.training.held_out if stage.training else {}),
    )


def _peak(run: Run, manifest: Manifest | None) -> int | None:
    """Largest memory of a stage; of a process on a CPU that other stages share, it would tell how old that is."""
    if manifest is None or "peak_bytes" not in manifest.environment:
        return None
    on_cpu = str(manifest.environment.get("device", "")).startswith("cpu")
    shared = on_cpu and run.record["config"]["execution"]["room"] != "process"
    return None if shared else int(manifest.environment["peak_bytes"])


def _machine(run: Run) -> str:
    """The device that trained a run's last model, as its manifest tells it."""
    manifests = [manifest for stage in run.stages[1:] if (manifest := _manifest(run, stage.name)) is not None]
    return str(manifests[-1].environment.get("device", "")) if manifests else ""


def _manifest(run: Run, name: str) -> Manifest | None:
    raw = next(stage for stage in run.record["stages"] if stage["name"] == name)
    return read_manifest(run.folder.root.path / raw["checkpoint"]) if raw.get("checkpoint") else None


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _mean_of_last(values: Sequence[float | None]) -> float | None:
    last = [value for value in values[-LAST_STEPS:] if value is not None and math.isfinite(value)]
    return math.fsum(last) / len(last) if last else None


def _held_out(log: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Error after the last step over the error at the start, by timestep."""
    columns = [log.get(name, []) for name in ("step", "timestep", "error", "error_start")]
    last = columns[0][-1] if columns[0] else 0
    return {
        str(int(timestep)): error / start
        for step, timestep, error, start in zip(*columns, strict=True)
        if step == last and start
    }
