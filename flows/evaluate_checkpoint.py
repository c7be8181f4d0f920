"""Evaluation of any checkpoints, whoever made them: the same prompts, seeds and judges for all, and one report.

A comparison stands in the runs root like a run, with a record and a report of its own, but nothing is trained in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prefect import flow
from prefect.states import Completed
from pydantic import BaseModel, Field

from flows.entering import evaluation_sections, only_one
from flows.executors import executor_of
from flows.forms import root_field
from flows.naming import named, tag_run
from flows.requests import Model, Requests, ask_once
from spin.core.config import Config, config_from_mapping, load_config
from spin.core.config_identity import config_to_json
from spin.core.environment import code_version
from spin.core.errors import ConfigError
from spin.core.layout import EvaluationFolder, RunsRoot
from spin.core.plan import identity_hash
from spin.core.record import COMPARISON, OtherRun, Record, note_evaluation, open_record, relative, write_record
from spin.report.request import ReportRequest, ReportResult
from tasks.launching import device_of
from tasks.preparing import find_base
from tasks.reporting import report
from tasks.telling import show_story

PRESET: Final = "sd15-paper"  # whose evaluation is taken where nobody names another


class CheckpointForm(BaseModel):
    """What the page of `evaluate-checkpoint` asks."""

    checkpoint: str = Field(
        title="Checkpoint", description="a diffusers folder or a hub id", min_length=1,
        json_schema_extra={"position": 0},
    )  # fmt: skip
    against: list[str] | None = Field(
        default=None, title="Against", description="other checkpoints, the first is the base of every comparison",
        json_schema_extra={"position": 1},
    )  # fmt: skip
    benchmarks: list[str] | None = Field(
        default=None, title="Benchmarks",
        description="pickapic_test, partiprompts, hpsv2, paper_figures, or a file of prompts (empty: paper_figures)",
        json_schema_extra={"position": 2},
    )  # fmt: skip
    name: str | None = Field(
        default=None, title="Name", description="of the folder with the report (empty: from the checkpoints)",
        json_schema_extra={"position": 3},
    )  # fmt: skip
    preset: str = Field(
        default=PRESET, title="Preset", description="whose evaluation settings are taken",
        json_schema_extra={"position": 4},
    )  # fmt: skip
    settings: list[str] | None = Field(
        default=None, title="Other settings", description="KEY=VALUE each, of evaluation.* and execution.*",
        json_schema_extra={"position": 5},
    )  # fmt: skip
    root: str = root_field(6)


@dataclass(frozen=True)
class Comparison:
    """The report of a comparison, and what was done for it."""

    name: str
    report: ReportResult
    images_scored: int


@flow(
    name="evaluate-checkpoint",
    flow_run_name=named(lambda given: f"evaluate {given['checkpoint']}"),
    persist_result=False,
)
def evaluate_checkpoint(
    checkpoint: str,
    against: list[str] | None = None,
    benchmarks: list[str] | None = None,
    name: str | None = None,
    preset: str = PRESET,
    settings: list[str] | None = None,
    root: str = "runs",
) -> Any:  # a state that carries a Comparison, which Prefect hands to callers
    """Score checkpoints on the same prompts from the same seeds; what is scored already is only read."""
    models = _models([*(against or ()), checkpoint])
    config = comparison_config(models, benchmarks or ["paper_figures"], name, preset, settings or [], root)
    requests = Requests(config, device_of(config.execution))
    tag_run("spin-diffusion", config.run.name)
    with only_one(requests.folder):
        record = _open(requests)
        _begin(record, models, requests.root)
        write_record(requests.folder, record)  # workers start from it
        scored = _score(requests, record, models, settings or [])
        result: ReportResult = report(ReportRequest(requests.root.path, config.run.name), True)
    show_story(config.run.name, result)
    done = f"{scored} images scored" if scored else "nothing to do: 0 images"
    return Completed(message=f"{done}; {config.run.name}", data=Comparison(config.run.name, result, scored))


def comparison_config(
    models: Sequence[Model],
    benchmarks: Sequence[str],
    name: str | None,
    preset: str,
    settings: Sequence[str],
    root: str,
) -> Config:
    """The preset's evaluation; its data and training have no part in a comparison."""
    wanted = evaluation_sections(preset, benchmarks, settings)
    plain = config_to_json(load_config("miniature"))
    if wanted["evaluation"]["judges"] == "auto":
        wanted["evaluation"]["judges"] = "miniature" if preset == "miniature" else "published"
    run = {**plain["run"], "name": name or _name(models, wanted), "root": root}
    base = {"base": str(models[0].folder)}
    return config_from_mapping({**plain, **wanted, "run": run, "model": base, "iterations": 0}, where="evaluate")


def _models(checkpoints: Iterable[str]) -> list[Model]:
    """The checkpoints as models of a run: the first one is what all are compared with."""
    found: list[Model] = []
    for number, checkpoint in enumerate(dict.fromkeys(checkpoints)):
        folder, digest = find_base(checkpoint)
        label = _label(checkpoint)
        twins = sum(model.label.split(" #")[0] == label for model in found)
        found.append(Model(f"model-{number:02d}", f"{label} #{twins + 1}" if twins else label, folder, digest))
    return found


def _label(checkpoint: str) -> str:
    """`run/iteration-03` for a checkpoint of ours, a folder's name, a hub id as it is."""
    path = Path(checkpoint).expanduser()
    if path.parent.name == "checkpoints" and len(path.absolute().parts) > 4:
        return "/".join(path.absolute().parts[-4:-2])
    return path.absolute().name if path.is_dir() else checkpoint


def _name(models: Sequence[Model], wanted: dict[str, Any]) -> str:
    """One for each set of models, settings and code: the same question finds its answer again."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", models[-1].label).strip("-_")[:40] or "model"
    asked = json.dumps(wanted["evaluation"], sort_keys=True)
    return f"compare-{stem}-{identity_hash(*(model.digest for model in models), asked, code_version())[:8]}"


def _open(requests: Requests) -> Record:
    try:
        return open_record(requests.folder, requests.config)
    except OtherRun as error:
        raise ConfigError(
            f"comparison {requests.config.run.name!r} stands with other checkpoints, settings or code:"
            f" {'; '.join(error.changes)}", fix="choose another --name",
        ) from None  # fmt: skip


def _begin(record: Record, models: Sequence[Model], root: RunsRoot) -> None:
    record |= {"kind": COMPARISON, "base": {"path": str(models[0].folder), "digest": models[0].digest}}
    known = {stage["digest"]: stage for stage in record["stages"]}
    record["stages"] = [made_elsewhere(model, root, known=known.get(model.digest, {})) for model in models]


def made_elsewhere(model: Model, root: RunsRoot, *, known: Mapping[str, Any]) -> dict[str, Any]:
    """The stage that a record holds of a model that no run here has made, with what it knew of it before."""
    nothing = {"evaluation": None, "samples": None, "training": None, "opponent_digest": None}
    own = {"name": model.name, "label": model.label, "digest": model.digest}
    return {**nothing, **known, **own, "checkpoint": relative(model.folder, root)}


def _score(requests: Requests, record: Record, models: Sequence[Model], settings: Sequence[str]) -> int:
    """Score every model on every benchmark, each written down when it is done; the pictures scored."""
    executor, scored = executor_of(requests, settings), 0
    for benchmark in requests.config.evaluation.benchmarks:
        asked = ask_once(requests, record, benchmark, _no_data)
        for model in models:
            result = executor.evaluate(asked, model)
            scored += result.images_scored
            note_evaluation(record, model.name, relative(result.folder, requests.root), EvaluationFolder(result.folder))
            write_record(requests.folder, record)
    return scored


def _no_data() -> Any:
    raise ConfigError(
        "test and validation are rows held out of a run's data, and a checkpoint brings none", where="--benchmark",
        fix="evaluate the run, or name another benchmark or a file of prompts",
    )  # fmt: skip
