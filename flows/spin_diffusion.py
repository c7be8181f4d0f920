"""The whole run: prepare -> SFT start -> for each iteration (plan -> sample -> train -> evaluate) -> report.

The hall of the house: the order of things, no work. Every task checks what stands and makes only what
is missing, so the same flow starts, resumes and repeats a run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefect import flow

from flows.requests import Model, Requests
from spin.core.config import config_from_mapping
from spin.core.errors import ConfigError
from spin.core.layout import EvaluationFolder, RealCache, StageFolder
from spin.core.plan import Plan
from spin.core.record import Record, open_record, relative
from spin.core.store import read_manifest
from spin.evaluate.request import EvaluateResult
from spin.prepare.request import PrepareResult
from spin.report.request import ReportRequest, ReportResult
from spin.train.request import TrainRequest, TrainResult
from tasks.evaluating import evaluate
from tasks.preparing import find_base, plan, prepare
from tasks.reporting import record as write_down
from tasks.reporting import report
from tasks.sampling import sample
from tasks.training import train


@dataclass
class Totals:
    """What this call did; all zero where everything stood."""

    images_sampled: int = 0
    optimizer_steps: int = 0
    images_scored: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.images_sampled} images sampled, {self.optimizer_steps} optimizer steps, "
            f"{self.images_scored} images scored"
        )


@dataclass
class RunState:
    """What the flows of one run share: its requests, its record, what was done."""

    requests: Requests
    record: Record
    prepared: PrepareResult
    totals: Totals = field(default_factory=Totals)

    def stage(self, name: str) -> dict[str, Any]:
        """The record of a stage, made at its first use."""
        stages: list[dict[str, Any]] = self.record["stages"]
        for found in stages:
            if found["name"] == name:
                return found
        stages.append({"name": name})
        return stages[-1]

    def spent(self, stage: str, task: str, artifacts: Iterable[Path]) -> None:
        """Note what the artifacts cost as their manifests tell it, whichever call made them."""
        made = [manifest.environment for path in artifacts if (manifest := read_manifest(path)) is not None]
        row = {
            "stage": stage,
            "task": task,
            "seconds": sum(float(environment.get("seconds", 0.0)) for environment in made),
            "images": _count(task, [int(environment.get("images", 0)) for environment in made]),
        }
        kept = [r for r in self.record["stage_seconds"] if (r["stage"], r["task"]) != (stage, task)]
        self.record["stage_seconds"] = [*kept, row]


def _count(task: str, images: list[int]) -> int:
    """Shards add up; the artifacts of one evaluation tell of the same pictures."""
    return sum(images) if task == "sample" else max(images, default=0)


@dataclass(frozen=True)
class RunSummary:
    """What the caller of a run gets: the report and what was done."""

    report: ReportResult
    totals: Totals


@flow(name="spin-diffusion", flow_run_name="{config[run][name]}", persist_result=False, validate_parameters=False)
def spin_diffusion(config: dict[str, Any], device: str) -> RunSummary:
    """Run, resume or repeat a run described by a config (`config_to_json`)."""
    start = time.perf_counter()
    requests = Requests(config_from_mapping(config, where="config"), device)
    state, base = prepare_run(requests)
    evaluate_model(state, None)
    evaluate_model(state, base)
    model = supervised_start(state, base) if requests.config.sft.steps else base
    for number in range(1, requests.config.iterations + 1):
        model = iteration(state, number, model)
    result: ReportResult = report(ReportRequest(requests.root.path, requests.config.run.name), requests.inline)
    state.totals.seconds = time.perf_counter() - start
    return RunSummary(result, state.totals)


def prepare_run(requests: Requests) -> tuple[RunState, Model]:
    """Check the config against the run, find the base, prepare the data."""
    record = open_record(requests.folder, requests.config)
    folder, digest = find_base(requests.config.model.base)
    _refuse_other_base(record, digest)
    prepared: PrepareResult = prepare(requests.prepare(folder, digest), requests.inline)
    record |= {
        "base": {"path": str(folder), "digest": digest},
        "data_digest": prepared.data_digest,
        "real": relative(prepared.real, requests.root),
        "prompts": prepared.rows,
        "quarantined": prepared.quarantined,
    }
    state = RunState(requests, record, prepared)
    cache = RealCache(prepared.real)
    state.spent("data", "prepare", (cache.latents, cache.text, cache.held_out_images))
    base = Model("base", "base", folder, digest)
    _note_model(state, base, opponent=None)
    return state, base


def supervised_start(state: RunState, base: Model) -> Model:
    """The optional SFT stage; its model is then where iteration 1 starts."""
    request = state.requests.train_sft(state.prepared, base)
    trained: TrainResult = train(request, state.requests.inline)
    model = Model("sft", "SFT", trained.checkpoint, trained.digest)
    _note_training(state, model, base, request, trained)
    evaluate_model(state, model)
    return model


@flow(name="iteration", flow_run_name="iteration {number}", persist_result=False, validate_parameters=False)
def iteration(state: RunState, number: int, opponent: Model) -> Model:
    """One round of self-play: the opponent's images, a training against them, an evaluation."""
    requests, prepared = state.requests, state.prepared
    stage = requests.folder.iteration(number)
    written: Plan = plan(stage, **requests.plan(number, prepared, opponent))
    sample_shards(state, number, written, opponent)
    request = requests.train_iteration(number, prepared, opponent)
    trained: TrainResult = train(request, requests.inline)
    model = Model(stage.name, f"SPIN {number}", trained.checkpoint, trained.digest)
    state.stage(stage.name)["samples"] = {"images": written.images, "plan_hash": written.plan_hash}
    _note_training(state, model, opponent, request, trained)
    evaluate_model(state, model)
    return model


def sample_shards(state: RunState, number: int, written: Plan, opponent: Model) -> None:
    """Every shard a task; in a process of its own, all shards one task, so that the model loads once."""
    requests = state.requests
    stage = requests.folder.iteration(number)
    each = [(shard,) for shard in range(written.shards)]
    groups = each if requests.inline else [tuple(range(written.shards))]
    for group in groups:
        label = f"shard {group[0] + 1:02d}/{written.shards:02d}" if len(group) == 1 else f"{written.shards} shards"
        result = sample(requests.sample(stage, group, state.prepared, opponent), label, requests.inline)
        state.totals.images_sampled += result.images
    state.spent(stage.name, "sample", (stage.samples(shard) for shard in range(written.shards)))


def evaluate_model(state: RunState, model: Model | None) -> None:
    """Score a model, or the real held-out images (None), and write the result down."""
    requests = state.requests
    name, label = ("data", "data") if model is None else (model.name, model.label)
    result: EvaluateResult = evaluate(requests.evaluate(state.prepared, model), label, requests.inline)
    state.totals.images_sampled += result.images_made
    state.totals.images_scored += result.images_scored
    made = EvaluationFolder(result.folder)
    state.spent(name, "evaluate", (made.images(0), made.scores(0), made.set_metrics, made.denoising))
    folder = relative(result.folder, requests.root)
    if model is None:
        state.record["data"] = {"label": "data", "evaluation": folder}
    else:
        state.stage(name)["evaluation"] = folder
    write_down(requests.folder, state.record)


def _note_model(state: RunState, model: Model, *, opponent: Model | None) -> None:
    state.stage(model.name).update(
        label=model.label,
        checkpoint=relative(model.folder, state.requests.root),
        digest=model.digest,
        opponent_digest=None if opponent is None else opponent.digest,
    )
    for name in ("evaluation", "samples", "training"):
        state.stage(model.name).setdefault(name, None)


def _note_training(state: RunState, model: Model, start: Model, request: TrainRequest, trained: TrainResult) -> None:
    _note_model(state, model, opponent=start)
    stage = StageFolder(request.stage)
    state.stage(model.name)["training"] = {
        "steps": request.settings.steps,
        "pairs": request.settings.steps * request.settings.batch_size,
        "settings": asdict(request.settings),
        "log": relative(stage.training_log, state.requests.root),
        "held_out": relative(stage.held_out_log, state.requests.root),
        "timing": relative(stage.timing, state.requests.root),
    }
    state.totals.optimizer_steps += trained.steps
    state.spent(model.name, "train", (trained.checkpoint,))
    write_down(state.requests.folder, state.record)


def _refuse_other_base(record: Record, digest: str) -> None:
    known = record.get("base", {}).get("digest")
    if known is not None and known != digest:
        raise ConfigError(
            f"the base model has changed since this run began: {known[:12]} -> {digest[:12]}",
            where="model.base",
            fix="restore the model, or start a new run with --set run.name=NAME",
        )
