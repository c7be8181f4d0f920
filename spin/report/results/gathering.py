"""The runs of a comparison -> its scores and facts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spin.core.comparison import z_average
from spin.core.layout import EvaluationFolder, RunFolder, RunsRoot
from spin.core.recipe import BASE, CHOSEN, Recipe
from spin.core.record import read_record
from spin.core.store import read_manifest
from spin.report.reading import Evaluation, Run, Stage, read_evaluation, read_run
from spin.report.results.facts import Row, RunFacts, StageFacts
from spin.report.subjects import DENOISING, denoising_by_prompt, judges_of, values_by_prompt

LAST_STEPS: Final = 20  # of the log, averaged
_LOGGED: Final = ("accuracy", "margin", "real_mse", "jensen_gap", "loser_scale")
Score = tuple[str, int, str, str, float]  # row, seed, prompt, metric, value


@dataclass(frozen=True)
class Played:
    """One arm with one seed, as far as it came."""

    arm: str
    seed: int
    run: str
    planned: Mapping[str, float]
    settings: Mapping[str, Any]
    failed: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """An arm that somebody trained elsewhere, and its evaluation."""

    arm: str
    evaluation: EvaluationFolder


def gather_runs(
    root: RunsRoot, recipe: Recipe, played: Sequence[Played]
) -> tuple[list[RunFacts], list[Score], dict[str, Run]]:
    """Facts and scores of every run, and the first seed's runs by arm."""
    facts: list[RunFacts] = []
    scores: list[Score] = []
    first: dict[str, Run] = {}
    for each in played:
        if not root.run(each.run).record.exists():
            facts.append(RunFacts(each.arm, each.seed, each.run, each.planned, each.settings, (), None, each.failed))
            continue
        run = read_run(runs_root=root.path, run=each.run)
        first.setdefault(each.arm, run)
        stages = tuple(_stage_facts(run, stage) for stage in run.stages[1:] if stage.evaluation.folder is not None)
        chosen = choose(run, recipe)
        facts.append(RunFacts(each.arm, each.seed, each.run, each.planned, each.settings, stages, chosen, each.failed))
        for stage in run.stages:
            rows = [BASE if stage is run.stages[0] else f"{each.arm}/{stage.name}"]
            rows += [f"{each.arm}/{CHOSEN}"] if stage.name == chosen else []
            scores += [(row, each.seed, *rest) for rest in _scores(stage.evaluation) for row in rows]
    return facts, sorted(set(scores)), first


def choose(run: Run, recipe: Recipe) -> str | None:
    """The stage with the highest average on the prompts that choose, the start of the game among them.

    The average is the recipe's, of z-scores against the base. None where the recipe does not choose, or nobody scored.
    """
    if recipe.choose is None or run.start is None:
        return None
    found = {stage.name: _choosing(stage, recipe) for stage in (run.stages[0], run.start, *run.stages)}
    base = found[run.stages[0].name]
    played = [stage.name for stage in run.stages if stage is run.start or stage.plays]
    levels = {name: float(z_average(found[name], base).mean()) for name in played if found[name] and base}
    return max(levels, key=lambda name: levels[name], default=None)


def _choosing(stage: Stage, recipe: Recipe) -> dict[str, list[float]]:
    """Values of the recipe's judges on the prompts that choose; empty where one is missing."""
    kinds = [each for key, each in stage.further.items() if key.rpartition(".")[0] == recipe.choose]
    values = values_by_prompt(kinds[0], recipe.average) if kinds else {}
    if not set(recipe.average) <= set(values):
        return {}
    return {judge: list(values[judge].values()) for judge in recipe.average}


def gather_checkpoints(root: RunsRoot, checkpoints: Sequence[Checkpoint], seeds: Sequence[int]) -> list[Score]:
    """Scores of checkpoints: the same for every seed, as the pictures are."""
    found: list[Score] = []
    for checkpoint in checkpoints:
        rest = list(_scores(read_evaluation(checkpoint.evaluation, root)))
        found += [(f"{checkpoint.arm}/checkpoint", seed, *values) for seed in seeds for values in rest]
    return found


def rows_of(recipe: Recipe, runs: Mapping[str, Run]) -> list[Row]:
    """Lines of the tables: the base, then arm by arm as the recipe has them.

    The supervised model that arms share as their start is a line of its own, of the first arm that shows it.
    """
    rows = [Row(BASE, BASE, BASE, BASE, "", last=True)]
    for name, arm in recipe.arms.items():
        if arm.checkpoint is not None:
            rows.append(Row(f"{name}/checkpoint", name, "checkpoint", arm.label, "made elsewhere", last=True))
            continue
        stages = [stage for stage in runs[name].stages[1:] if stage.evaluation.folder] if name in runs else []
        shown = stages[-1:] if arm.rows == "last" else [s for s in stages if s.plays or s is stages[-1]]
        budget = recipe.budget_of(name)
        words = "the measure of the budgets" if name == recipe.measure else str(budget)
        for stage in shown:
            label = arm.label if arm.rows == "last" else f"{arm.label}, {_place(stage)}"
            rows.append(Row(f"{name}/{stage.name}", name, stage.name, label, words, last=stage is stages[-1]))
        if recipe.choose is not None and arm.rows == "all" and shown:
            label = f"{arm.label}, chosen on {recipe.choose}"
            rows.append(Row(f"{name}/{CHOSEN}", name, CHOSEN, label, words, last=False))
    return rows


def _place(stage: Stage) -> str:
    return f"iteration {int(stage.name.rpartition('-')[2])}" if stage.plays else stage.label


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
    checkpoint = _checkpoint(run, stage.name)
    manifest = read_manifest(checkpoint) if checkpoint is not None else None
    peak = None if manifest is None else manifest.environment.get("peak_bytes")
    return StageFacts(
        stage=stage.name,
        label=stage.label,
        images=stage.training.pairs or 0 if stage.training else 0,
        sampled=int(spent.get("sample", {}).get("images", 0)),
        train_seconds=float(spent.get("train", {}).get("device_seconds", 0.0)),
        sample_seconds=float(spent.get("sample", {}).get("device_seconds", 0.0)),
        peak_bytes=None if peak is None else int(peak),
        set_metrics={k: float(v) for k, v in stage.evaluation.set_metrics.items() if math.isfinite(v)},
        training={name: mean for name in _LOGGED if (mean := _mean_of_last(log.get(name, []))) is not None},
        held_out=_held_out(stage.training.held_out if stage.training else {}),
    )


def _checkpoint(run: Run, name: str) -> Path | None:
    raw = next(stage for stage in run.record["stages"] if stage["name"] == name)
    return run.folder.root.path / raw["checkpoint"] if raw.get("checkpoint") else None


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


def base_of(run: RunFolder) -> str:
    """Digest of the base model of a run."""
    return str(read_record(run)["base"]["digest"])
