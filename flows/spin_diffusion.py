"""The whole run: prepare -> SFT start -> for each iteration (plan -> sample -> train -> evaluate -> gate) -> report.

The hall of the house: the order of things, no work. Every task checks what stands and makes only what
is missing, so the same flow starts, resumes and repeats a run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from prefect import flow
from prefect.states import Completed

from flows.asking import Asked
from flows.entering import check_run, only_one, refuse_misfits
from flows.executors import Executor, Meanwhile, executor_of
from flows.forms import Advanced, config_of, filled
from flows.gate import pass_gate
from flows.naming import named, tag_run
from flows.requests import Model, Requests, ask_once
from flows.rounds import Round, note_round, play_against
from spin.core.config_identity import config_to_json
from spin.core.errors import ConfigError
from spin.core.labels import iteration_label
from spin.core.layout import EvaluationFolder, RealCache, StageFolder
from spin.core.plan import Plan
from spin.core.record import Record, note_evaluation, open_record, relative
from spin.core.store import read_manifest
from spin.evaluate.shards import is_measured, shard_count
from spin.prepare.request import PrepareResult
from spin.report.request import ReportRequest, ReportResult
from spin.train.request import TrainRequest, TrainResult
from tasks.launching import device_of
from tasks.preparing import find_base, plan
from tasks.reporting import record as write_down
from tasks.reporting import report
from tasks.telling import show_story


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
    executor: Executor
    record: Record
    prepared: PrepareResult
    totals: Totals = field(default_factory=Totals)
    unscored: list[Model | None] = field(default_factory=list)  # scored while the next one is made

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
            "device_seconds": sum(float(environment.get("device_seconds", 0.0)) for environment in made),
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
    stopped: dict[str, str] | None = None  # by the gate: after which stage, and the best one


def _title(given: dict[str, Any]) -> str:
    config = given.get("config") or {}
    return str(given.get("run_name") or config.get("run", {}).get("name") or given.get("preset"))


@flow(name="spin-diffusion", flow_run_name=named(_title), persist_result=False)
def spin_diffusion(
    preset: str = "miniature",
    run_name: str | None = None,
    data: str | None = None,
    base_model: str | None = None,
    iterations: int | None = None,
    seed: int | None = None,
    executor: Literal["local", "workers"] | None = None,
    root: str | None = None,
    advanced: Advanced | None = None,
    config: dict[str, Any] | None = None,
) -> Any:  # a state that carries a RunSummary, which Prefect hands to callers
    """Start, resume or repeat a run. Finished work is checked and skipped.

    `flows.forms` tells of the fields; `config` is a whole config for callers that have one.
    """
    form = filled(
        preset=preset, run_name=run_name, data=data, base_model=base_model, iterations=iterations, seed=seed,
        executor=executor, root=root, advanced=advanced,
    )  # fmt: skip
    settings = config_of(form, config)
    check_run(settings)
    start = time.perf_counter()
    requests = Requests(settings, device_of(settings.execution))
    tag_run("spin-diffusion", settings.run.name)
    with only_one(requests.folder):
        state, base = prepare_run(requests)
        play_rounds(state, base)
        page = settings.execution.report_page
        result: ReportResult = report(ReportRequest(requests.root.path, settings.run.name, page=page), requests.inline)
    state.totals.seconds = time.perf_counter() - start
    return Completed(message=str(state.totals), data=RunSummary(result, state.totals, state.record.get("stopped")))


def prepare_run(requests: Requests) -> tuple[RunState, Model]:
    """Check the config against the run, find the base, prepare the data."""
    record = open_record(requests.folder, requests.config)
    folder, digest = find_base(requests.config.model.base)
    refuse_misfits(requests.config, folder)
    _refuse_other_base(record, digest)
    record["config"] = config_to_json(requests.config)  # what only decides or looks on may have changed
    record["base"] = {"path": str(folder), "digest": digest}
    write_down(requests.folder, record)  # workers start from it
    executor = executor_of(requests)
    prepared = executor.prepare(requests.prepare(folder, digest))
    record |= {
        "data_digest": prepared.data_digest,
        "real": relative(prepared.real, requests.root),
        "prompts": prepared.rows,
        "quarantined": prepared.quarantined,
        "dropped": prepared.dropped,
        "unsafe": prepared.unsafe,
        "buckets": prepared.buckets,
    }
    state = RunState(requests, executor, record, prepared)
    encoded = RealCache(prepared.real).files(losers=requests.labelled, flips=requests.config.train.flip)
    state.spent("data", "prepare", encoded)
    base = Model("base", "base", folder, digest)
    _note_model(state, base, players=None)
    write_down(requests.folder, record)
    return state, base


def play_rounds(state: RunState, base: Model) -> None:
    """The supervised start, then round after round, as far as the gate lets it."""
    config = state.requests.config
    for scored in (None, base):
        score(state, scored)
    model = supervised_start(state, base) if config.sft.steps else base
    state.record.pop("stopped", None)
    for number in range(1, config.iterations + 1):
        played = iteration(state, number, model)
        decision = pass_gate(state.requests, state.record, number, tell(state))
        if decision == "stop":
            break
        model = model if decision == "go-back" else played
    score_late(state)


def supervised_start(state: RunState, base: Model) -> Model:
    """The optional SFT stage; its model is then where iteration 1 starts."""
    request = state.requests.train_sft(state.prepared, base)
    trained = state.executor.train(request, "sft", meanwhile(state))
    score_late(state)
    model = Model("sft", "SFT", trained.checkpoint, trained.digest)
    _note_training(state, model, Round(base, base), request, trained)
    score(state, model)
    return model


@flow(name="self-play iteration", flow_run_name="k={number}", persist_result=False, validate_parameters=False)
def iteration(state: RunState, number: int, start: Model) -> Model:
    """One round: the opponent's images, unless the data brings losers; a training against them; an evaluation."""
    requests, prepared = state.requests, state.prepared
    stage, players = requests.folder.iteration(number), play_against(requests, state.record, number, start)
    note_round(state.record, stage, players)
    write_down(requests.folder, state.record)  # workers start from it
    request = requests.train_iteration(number, prepared, players.start, players.opponent)
    samples = None if requests.labelled else draw_opponent(state, number, players.opponent, request)
    trained = state.executor.train(request, f"k={number}", meanwhile(state))
    score_late(state)
    label = iteration_label(number, labelled=requests.labelled, iterations=requests.config.iterations)
    model = Model(stage.name, label, trained.checkpoint, trained.digest)
    state.stage(stage.name)["samples"] = samples
    _note_training(state, model, players, request, trained)
    score(state, model, last=number == requests.config.iterations)
    return model


def draw_opponent(state: RunState, number: int, opponent: Model, request: TrainRequest) -> dict[str, Any]:
    """Plan and sample the opponent's images; what the record keeps of them. Where stages overlap, `request` begins."""
    stage = state.requests.folder.iteration(number)
    written: Plan = plan(stage, **state.requests.plan(number, state.prepared, opponent))
    beside = replace(meanwhile(state), training=(request, f"k={number}") if state.requests.overlaps else None)
    state.totals.images_sampled += state.executor.sample(number, state.prepared, opponent, beside)
    score_late(state)
    state.spent(stage.name, "sample", (stage.samples(shard) for shard in range(written.shards)))
    return {"images": written.images, "plan_hash": written.plan_hash}


def score(state: RunState, model: Model | None, *, last: bool = False) -> None:
    """Evaluate a model now, or, where stages overlap, while the next one is made."""
    if state.requests.scores_later and not last:
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


def tell(state: RunState) -> ReportResult:
    """The run's story so far, shown on its page in the UI."""
    request = ReportRequest(state.requests.root.path, state.requests.config.run.name, page=False)
    told: ReportResult = report(request, state.requests.inline)
    show_story(state.requests.config.run.name, told)
    return told


def _note_model(state: RunState, model: Model, *, players: Round | None) -> None:
    state.stage(model.name).update(
        label=model.label,
        checkpoint=relative(model.folder, state.requests.root),
        digest=model.digest,
        start_digest=None if players is None else players.start.digest,
        opponent_digest=None if players is None else players.opponent.digest,
    )
    for name in ("evaluation", "samples", "training"):
        state.stage(model.name).setdefault(name, None)


def _note_training(state: RunState, model: Model, players: Round, request: TrainRequest, trained: TrainResult) -> None:
    _note_model(state, model, players=players)
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
