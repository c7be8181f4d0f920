"""The whole run: prepare -> SFT start -> for each iteration (plan -> sample -> train -> evaluate -> gate) -> report.

The hall of the house: the order of things, no work. Every task checks what stands and makes only what
is missing, so the same flow starts, resumes and repeats a run.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from prefect import flow
from prefect.states import Completed

from flows.entering import check_run, only_one, refuse_misfits
from flows.executors import executor_of
from flows.forms import Advanced, config_of, filled
from flows.gate import pass_gate
from flows.naming import named, tag_run
from flows.overlapping import trains_early
from flows.requests import Model, Requests
from flows.rounds import Round, note_round, play_against
from flows.run_state import RunState, Totals
from flows.scoring import meanwhile, score, score_late
from spin.core.config_identity import config_to_json
from spin.core.errors import ConfigError
from spin.core.labels import iteration_label
from spin.core.layout import RealCache, StageFolder
from spin.core.plan import Plan
from spin.core.record import Record, open_record, relative
from spin.report.request import ReportRequest, ReportResult
from spin.train.request import TrainRequest, TrainResult
from tasks.launching import device_of
from tasks.preparing import find_base, plan
from tasks.reporting import record as write_down
from tasks.reporting import report
from tasks.telling import show_story


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
    """Plan and sample the opponent's images; what the record keeps of them. `request` may begin meanwhile."""
    stage = state.requests.folder.iteration(number)
    written: Plan = plan(stage, **state.requests.plan(number, state.prepared, opponent))
    early = (request, f"k={number}") if trains_early(state.requests.config) else None
    beside = replace(meanwhile(state), training=early)
    state.totals.images_sampled += state.executor.sample(number, state.prepared, opponent, beside)
    score_late(state)
    state.spent(stage.name, "sample", (stage.samples(shard) for shard in range(written.shards)))
    return {"images": written.images, "plan_hash": written.plan_hash}


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
