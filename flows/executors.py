"""Who does the work of a run: this process, or child flow runs on the workers of the pools.

Both end in the same functions (`flows.work`) and leave the same files.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from flows.adopting import adopt_samples, adopt_training
from flows.asking import Asked
from flows.batches import SampleBatch, ScoreBatch, groups
from flows.joining import Call, Child, Missing, join
from flows.requests import Model, Requests
from flows.work import draw, learn, prepare_data, score
from spin.core.environment import code_version
from spin.core.layout import StageFolder
from spin.core.plan import Plan
from spin.core.planning import read_plan
from spin.core.store import discard, is_sound, is_whole, stands
from spin.evaluate.request import EvaluateRequest, EvaluateResult
from spin.evaluate.shards import (
    evaluation_folder,
    missing_parts,
    missing_shards,
    part_identity,
    part_path,
    picture_count,
    shard_count,
)
from spin.prepare.prepared import is_prepared, prepared_files, read_prepared
from spin.prepare.request import PrepareRequest, PrepareResult
from spin.sample.identity import shard_identity
from spin.train.identity import manifest_of, training_artifacts, training_identity, training_stands
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

    def evaluate(self, asked: Asked, model: Model | None) -> EvaluateResult: ...


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
        identity = shard_identity(self.requests.sample(stage, (), prepared, opponent), plan)
        missing = adopt_samples(self.requests, stage, missing_samples(stage, plan, identity), identity)
        return sum(result.images for result in draw(self.requests, number, missing, prepared, opponent))

    def train(self, request: TrainRequest, name: str) -> TrainResult:
        if training_stands(request, check=stands) or adopt_training(self.requests, request):
            return _standing(request, steps=0)
        return learn(self.requests, request, name)

    def evaluate(self, asked: Asked, model: Model | None) -> EvaluateResult:
        request = self.requests.evaluate(asked, model)
        results = score(self.requests, asked, model, unscored_shards(request))
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
        if is_prepared(folder, request):
            for path in prepared_files(folder, request):
                _show_damage(path)
        missing = lambda: () if is_prepared(folder, request) else ("data",)  # noqa: E731
        self._join([self._child(PREPARE, str(request), missing, lambda: Call("prepare data", {}))], "data")
        return read_prepared(folder)

    def sample(self, number: int, prepared: PrepareResult, opponent: Model) -> int:
        stage = self.requests.folder.iteration(number)
        plan = read_plan(stage)
        identity = shard_identity(self.requests.sample(stage, (), prepared, opponent), plan)
        missing = adopt_samples(self.requests, stage, missing_samples(stage, plan, identity), identity)
        for shard in missing:
            _show_damage(stage.samples(shard), identity)
        children = []
        for group, shards in groups(missing, self.requests.config.execution.shards_per_child):
            batch = SampleBatch(self.requests.config.run.name, number, stage, plan, identity, shards)
            children.append(self._child(SAMPLE_SHARDS, f"{identity} {group}", batch.missing, batch.call))
        self._join(children, f"k={number}")
        return sum(len(plan.shard_range(shard)) for shard in missing)

    def train(self, request: TrainRequest, name: str) -> TrainResult:
        stage = StageFolder(request.stage)
        stood = training_stands(request, check=stands) or adopt_training(self.requests, request)
        if not stood:
            for path in training_artifacts(request):
                _show_damage(path, training_identity(request))
        missing = lambda: () if training_stands(request) else ("checkpoint",)  # noqa: E731
        work = f"{request.start_digest} {request.settings} {request.run_seed}"
        call = lambda: Call(f"train {name}", {"stage": stage.name})  # noqa: E731
        self._join([self._child(TRAIN, work, missing, call)], name)
        return _standing(request, steps=0 if stood else request.settings.steps)

    def evaluate(self, asked: Asked, model: Model | None) -> EvaluateResult:
        request = self.requests.evaluate(asked, model)
        missing = unscored_shards(request)
        label = "data" if model is None else model.label
        size = self.requests.config.execution.shards_per_child
        children = [self._scores(asked, request, model, group, shards) for group, shards in groups(missing, size)]
        self._join(children, label)
        # Where nobody measured it after the last shard:
        self._join([self._scores(asked, request, model, "whole", ())], label)
        scored = picture_count(request, missing)
        made = 0 if model is None else scored
        return EvaluateResult(evaluation_folder(request).path, made, scored, 0.0)

    def _scores(
        self, asked: Asked, request: EvaluateRequest, model: Model | None, group: int | str, shards: tuple[int, ...]
    ) -> Child:
        name, label = ("data", "data") if model is None else (model.name, model.label)
        batch = ScoreBatch(
            self.requests.config.run.name, name, label, asked.again, request, shard_count(request), shards
        )
        work = f"{evaluation_folder(request).path} {group}"
        return replace(self._child(EVALUATE_SHARDS, work, batch.missing, batch.call), busy=batch.busy)

    def _child(self, deployment: str, work: str, missing: Missing, call: Callable[[], Call]) -> Child:
        root, run = str(self.requests.root.path), self.requests.config.run.name
        more: dict[str, Any] = {"root": root, "run": run}
        options = ["--root", root]
        if deployment == EVALUATE_SHARDS:
            more |= {"settings": list(self.overrides), "code": code_version()}
            options += [word for override in self.overrides for word in ("--set", override)]

        def addressed() -> Call:
            made = call()
            commands = (f"spin-diffusion {words} {shlex.join(options)}" for words in made.commands)
            return replace(made, parameters={**more, **made.parameters}, commands=tuple(commands))

        return Child(deployment, f"{root} {run} {work}", missing, addressed)

    def _join(self, children: Sequence[Child], tag: str) -> None:
        config = self.requests.config
        join(children, max_attempts=config.execution.max_attempts, tags=("spin-diffusion", config.run.name, tag))


def _standing(request: TrainRequest, *, steps: int) -> TrainResult:
    """The answer about a stage that stands, after `steps` optimizer steps that somebody made."""
    checkpoint = StageFolder(request.stage).checkpoint(request.settings.steps)
    digest = manifest_of(checkpoint).content_digest
    return TrainResult(checkpoint, digest, steps, steps * request.settings.batch_size, 0.0, ())


def missing_samples(stage: StageFolder, plan: Plan, identity: dict[str, Any]) -> tuple[int, ...]:
    """Shards of an iteration that are missing or damaged; what was touched since it was hashed is hashed again."""
    return tuple(shard for shard in range(plan.shards) if not stands(stage.samples(shard), identity))


def unscored_shards(request: EvaluateRequest) -> tuple[int, ...]:
    """Shards of an evaluation that lack a part or have a damaged one; damaged files are gone."""
    folder, missing = evaluation_folder(request), missing_shards(request, check=stands)
    for shard in missing:
        for part in missing_parts(request, shard, check=stands):
            _show_damage(part_path(folder, shard, part), part_identity(request, shard, part))
    _show_damage(folder.set_metrics)
    return missing


def _show_damage(artifact: Path, identity: Mapping[str, Any] | None = None) -> None:
    """Take a damaged file away that looks whole: the quick looks of the joiner must see that it is missing."""
    if is_whole(artifact, identity=identity) and not is_sound(artifact):
        discard(artifact)
