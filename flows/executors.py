"""Who does the work of a run: this process, or child flow runs on the workers of the pools.

Both end in the same functions (`flows.work`) and leave the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from flows.joining import Child, Missing, join
from flows.requests import Model, Requests
from flows.work import draw, learn, prepare_data, score, shard_label
from spin.core.layout import StageFolder
from spin.core.plan import Plan
from spin.core.planning import read_plan
from spin.core.store import discard, is_whole, stands
from spin.evaluate.held_out import read_held_out
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.shards import (
    evaluation_folder,
    is_finished,
    missing_parts,
    missing_shards,
    part_identity,
    part_path,
    shard_count,
)
from spin.prepare.prepared import is_prepared, read_prepared
from spin.prepare.request import PrepareRequest, PrepareResult
from spin.sample.identity import shard_identity
from spin.train.identity import manifest_of, training_stands
from spin.train.request import TrainRequest, TrainResult

PREPARE: Final = "prepare/gpu"
SAMPLE_SHARDS: Final = "sample-shards/gpu"
EVALUATE_SHARDS: Final = "evaluate-shards/gpu"
TRAIN: Final = "train/gpu"


@runtime_checkable  # Prefect builds a validator for each parameter of a flow
class Executor(Protocol):
    """Does the four kinds of work; what stands is never made again."""

    def prepare(self, request: PrepareRequest) -> PrepareResult: ...

    def sample(self, number: int, prepared: PrepareResult, opponent: Model) -> int:
        """Make every shard of a planned iteration; the images made."""

    def train(self, request: TrainRequest, name: str) -> TrainResult: ...

    def evaluate(self, prepared: PrepareResult, model: Model | None) -> EvaluateResult: ...


def executor_of(requests: Requests, overrides: Sequence[str] = ()) -> Executor:
    """The executor that the config names.

    Args:
        overrides: settings in which the config differs from the run's own; children are told of them.
    """
    if requests.config.execution.executor == "workers":
        return Workers(requests, tuple(overrides))
    return Local(requests)


@dataclass(frozen=True)
class Local:
    """Everything in this process, or in rooms of its own."""

    requests: Requests

    def prepare(self, request: PrepareRequest) -> PrepareResult:
        return prepare_data(self.requests, request)

    def sample(self, number: int, prepared: PrepareResult, opponent: Model) -> int:
        stage = self.requests.folder.iteration(number)
        plan = read_plan(stage)
        missing = missing_samples(
            stage, plan, shard_identity(self.requests.sample(stage, (), prepared, opponent), plan)
        )
        return sum(result.images for result in draw(self.requests, number, missing, prepared, opponent))

    def train(self, request: TrainRequest, name: str) -> TrainResult:
        if training_stands(request, check=stands):
            return _standing(request, steps=0)
        return learn(self.requests, request, name)

    def evaluate(self, prepared: PrepareResult, model: Model | None) -> EvaluateResult:
        request = self.requests.evaluate(prepared, model)
        results = score(self.requests, prepared, model, unscored_shards(request))
        return EvaluateResult(
            folder=evaluation_folder(request).path,
            images_made=sum(result.images_made for result in results),
            images_scored=sum(result.images_scored for result in results),
            seconds=sum(result.seconds for result in results),
        )


@dataclass(frozen=True)
class Workers:
    """Child flow runs, each with its own page and Retry button; the run's record is what they start from."""

    requests: Requests
    overrides: tuple[str, ...] = ()

    def prepare(self, request: PrepareRequest) -> PrepareResult:
        folder = self.requests.folder
        command = "run with --set execution.executor=local once"
        missing = lambda: () if is_prepared(folder, request) else ("data",)  # noqa: E731
        self._join([self._child("prepare data", PREPARE, {}, str(request), missing, command)], "data")
        return read_prepared(folder)

    def sample(self, number: int, prepared: PrepareResult, opponent: Model) -> int:
        stage = self.requests.folder.iteration(number)
        plan = read_plan(stage)
        request = self.requests.sample(stage, (), prepared, opponent)
        identity = shard_identity(request, plan)
        missing = missing_samples(stage, plan, identity)
        for shard in missing:
            _show_damage(stage.samples(shard), identity)
        self._join(self._batches(number, stage, plan, identity, missing), f"k={number}")
        return sum(len(plan.shard_range(shard)) for shard in missing)

    def train(self, request: TrainRequest, name: str) -> TrainResult:
        stage = StageFolder(request.stage)
        stood = training_stands(request)
        missing = lambda: () if training_stands(request) else ("checkpoint",)  # noqa: E731
        command = "the run's own command with --set execution.executor=local"
        work = f"{request.start_digest} {request.settings} {request.run_seed}"
        self._join([self._child(f"train {name}", TRAIN, {"stage": stage.name}, work, missing, command)], name)
        return _standing(request, steps=0 if stood else request.settings.steps)

    def evaluate(self, prepared: PrepareResult, model: Model | None) -> EvaluateResult:
        request = self.requests.evaluate(prepared, model)
        name, label = ("data", "data") if model is None else (model.name, model.label)
        missing = unscored_shards(request)
        for shard in missing:
            _show_damaged_parts(request, shard)
        self._join(self._evaluation(request, name, label, missing), label)
        self._join(self._whole_set(request, name, label), label)
        rows = len(read_held_out(request))
        scored = sum(min(request.shard_size, rows - shard * request.shard_size) for shard in missing)
        made = 0 if model is None else scored
        return EvaluateResult(evaluation_folder(request).path, made, scored, 0.0)

    def _batches(
        self, number: int, stage: StageFolder, plan: Plan, identity: dict[str, Any], missing: Sequence[int]
    ) -> list[Child]:
        run = self.requests.config.run.name
        children = []
        for shards in _groups(missing, self.requests.config.execution.shards_per_child):
            children.append(
                self._child(
                    f"sample k={number} {_span(shards, plan.shards)}",
                    SAMPLE_SHARDS,
                    {"iteration": number, "shards": list(shards)},
                    f"{identity} {shards[0] // self.requests.config.execution.shards_per_child}",
                    partial(_unmade, stage, shards, identity),
                    f"spin-diffusion sample-shard {run} {number} {shards[0]}",
                )
            )
        return children

    def _evaluation(self, request: EvaluateRequest, name: str, label: str, missing: Sequence[int]) -> list[Child]:
        total = shard_count(request)
        return [
            self._child(
                f"evaluate {label} {_span(shards, total)}",
                EVALUATE_SHARDS,
                {"model": name, "shards": list(shards)},
                f"{evaluation_folder(request).path} {shards}",
                partial(_unscored, request, shards),
                f"spin-diffusion evaluate {self.requests.config.run.name}",
            )
            for shards in _groups(missing, self.requests.config.execution.shards_per_child)
        ]

    def _whole_set(self, request: EvaluateRequest, name: str, label: str) -> list[Child]:
        """For the case that nobody measured the whole set after the last shard."""
        missing = lambda: () if is_finished(request) else ("numbers of the whole set",)  # noqa: E731
        return [
            self._child(
                f"evaluate {label} whole set",
                EVALUATE_SHARDS,
                {"model": name, "shards": []},
                f"{evaluation_folder(request).path} whole",
                missing,
                f"spin-diffusion evaluate {self.requests.config.run.name}",
            )
        ]

    def _child(
        self, label: str, deployment: str, more: dict[str, Any], work: str, missing: Missing, command: str
    ) -> Child:
        root, run = str(self.requests.root.path), self.requests.config.run.name
        parameters = {"root": root, "run": run, **more}
        if self.overrides and deployment == EVALUATE_SHARDS:
            parameters["settings"] = list(self.overrides)
        return Child(label, deployment, parameters, f"{root} {run} {work}", missing, command)

    def _join(self, children: Sequence[Child], tag: str) -> None:
        config = self.requests.config
        join(children, max_attempts=config.execution.max_attempts, tags=("spin-diffusion", config.run.name, tag))


def _standing(request: TrainRequest, *, steps: int) -> TrainResult:
    """The answer about a stage that stands, after `steps` optimizer steps that somebody made."""
    checkpoint = StageFolder(request.stage).checkpoint(request.settings.steps)
    digest = manifest_of(checkpoint).content_digest
    return TrainResult(checkpoint, digest, steps, steps * request.settings.batch_size, 0.0, ())


def missing_samples(stage: StageFolder, plan: Plan, identity: dict[str, Any]) -> tuple[int, ...]:
    """Shards of an iteration that are missing or damaged, every byte hashed."""
    return tuple(shard for shard in range(plan.shards) if not stands(stage.samples(shard), identity))


def unscored_shards(request: EvaluateRequest) -> tuple[int, ...]:
    """Shards of an evaluation that lack a part or have a damaged one, every byte hashed."""
    return missing_shards(request, check=stands)


def _show_damage(artifact: Path, identity: dict[str, Any]) -> None:
    """Take a damaged file away that looks whole: the quick looks of the joiner must see that it is missing."""
    if is_whole(artifact, identity=identity):
        discard(artifact)


def _show_damaged_parts(request: EvaluateRequest, shard: int) -> None:
    for part in missing_parts(request, shard, check=stands):
        path = part_path(evaluation_folder(request), shard, part)
        _show_damage(path, part_identity(request, shard, part))


def _unmade(stage: StageFolder, shards: Sequence[int], identity: dict[str, Any]) -> list[str]:
    return [f"shard {shard}" for shard in shards if not is_whole(stage.samples(shard), identity=identity)]


def _unscored(request: EvaluateRequest, shards: Sequence[int]) -> list[str]:
    """Shards of one child; it is not done either while it measures the whole set after the last of all shards."""
    missing = [f"shard {shard}" for shard in shards if missing_parts(request, shard)]
    if missing or missing_shards(request) or is_finished(request):
        return missing
    return ["numbers of the whole set"]


def _groups(shards: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Shards that one child carries: neighbours of the plan, so that a group is the same whatever is missing."""
    groups: dict[int, list[int]] = {}
    for shard in shards:
        groups.setdefault(shard // size, []).append(shard)
    return [tuple(group) for group in groups.values()]


def _span(shards: Sequence[int], total: int) -> str:
    if len(shards) == 1:
        return shard_label(shards[0], total)
    return f"shards {shards[0]:02d}-{shards[-1]:02d}/{total:02d}"
