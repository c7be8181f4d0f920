"""Who does the work of a run: this process, or child flow runs on the workers of the pools.

Both end in the same functions (`flows.work`) and leave the same files.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from flows.adopting import adopt_samples, adopt_training
from flows.asking import Asked
from flows.batches import Group, SampleBatch, ScoreBatch, groups
from flows.joining import Call, Child, Missing, Watched, begin, cancel, online_workers, wait
from flows.requests import Model, Requests
from flows.work import draw, learn, prepare_data, score
from spin.core.environment import code_version
from spin.core.layout import StageFolder, manifest_path
from spin.core.plan import Plan
from spin.core.planning import read_plan
from spin.core.store import discard, is_whole, stands
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


@dataclass(frozen=True)
class Meanwhile:
    """Work that may go on beside what is waited for; who asks for it later finds it begun, or done."""

    training: tuple[TrainRequest, str] | None = None
    scoring: tuple[tuple[Asked, Model | None], ...] = ()


NOTHING: Final = Meanwhile()


@runtime_checkable  # Prefect builds a validator for each parameter of a flow
class Executor(Protocol):
    """Does the four kinds of work; what stands is never made again."""

    def prepare(self, request: PrepareRequest) -> PrepareResult: ...

    def sample(self, number: int, prepared: PrepareResult, opponent: Model, meanwhile: Meanwhile = NOTHING) -> int:
        """Make every shard of a planned iteration; the images made."""

    def train(self, request: TrainRequest, name: str, meanwhile: Meanwhile = NOTHING) -> TrainResult: ...

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
    """Everything in this process, or in rooms of its own, one after the other: nothing is done meanwhile."""

    requests: Requests

    def prepare(self, request: PrepareRequest) -> PrepareResult:
        return prepare_data(self.requests, request)

    def sample(
        self,
        number: int,
        prepared: PrepareResult,
        opponent: Model,
        meanwhile: Meanwhile = NOTHING,  # noqa: ARG002
    ) -> int:
        stage = self.requests.folder.iteration(number)
        plan = read_plan(stage)
        identity = shard_identity(self.requests.sample(stage, (), prepared, opponent), plan)
        missing = adopt_samples(self.requests, stage, missing_samples(stage, plan, identity), identity)
        return sum(result.images for result in draw(self.requests, number, missing, prepared, opponent))

    def train(self, request: TrainRequest, name: str, meanwhile: Meanwhile = NOTHING) -> TrainResult:  # noqa: ARG002
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
class Scoring:
    """An evaluation as it was ordered: the shards that were missing then, and who makes them."""

    missing: tuple[int, ...]
    children: list[Child]


@dataclass(frozen=True)
class Workers:
    """Child flow runs, each with its own page and Retry button; the run's record is what they start from."""

    requests: Requests
    overrides: tuple[str, ...] = ()
    begun: list[Watched] = field(default_factory=list, compare=False)  # submitted, and not waited for yet
    ordered: dict[str, Scoring] = field(default_factory=dict, compare=False)  # evaluations among them, by their folder

    def prepare(self, request: PrepareRequest) -> PrepareResult:
        folder = self.requests.folder
        if is_prepared(folder, request):
            for path in prepared_files(folder, request):
                _show_damage(path)
        missing = lambda: () if is_prepared(folder, request) else ("data",)  # noqa: E731
        self._join([self._child(PREPARE, str(request), missing, lambda: Call("prepare data", {}))], "data")
        return read_prepared(folder)

    def sample(self, number: int, prepared: PrepareResult, opponent: Model, meanwhile: Meanwhile = NOTHING) -> int:
        stage = self.requests.folder.iteration(number)
        plan = read_plan(stage)
        identity = shard_identity(self.requests.sample(stage, (), prepared, opponent), plan)
        missing = adopt_samples(self.requests, stage, missing_samples(stage, plan, identity), identity)
        for shard in missing:
            _show_damage(stage.samples(shard), identity)
        children = []
        for group, shards in self._groups(missing):
            batch = SampleBatch(self.requests.config.run.name, number, stage, plan, identity, shards)
            children.append(self._child(SAMPLE_SHARDS, f"{identity} {group}", batch.missing, batch.call))
        if not missing:  # what stands may be taken from another run, trained
            meanwhile = replace(meanwhile, training=None)
        try:
            self._join(children, f"k={number}", meanwhile)
        except Exception:
            cancel([one for one in self.begun if one.child.deployment == TRAIN], "the shards that it waits for failed")
            raise
        return sum(len(plan.shard_range(shard)) for shard in missing)

    def train(self, request: TrainRequest, name: str, meanwhile: Meanwhile = NOTHING) -> TrainResult:
        child = self._training(request, name)
        begun = any(one.child.work == child.work for one in self.begun)
        stood = training_stands(request, check=stands) or (not begun and adopt_training(self.requests, request))
        if not stood:
            for path in training_artifacts(request):
                _show_damage(path, training_identity(request))
        self._join([child], name, meanwhile)
        return _standing(request, steps=0 if stood and not begun else request.settings.steps)

    def evaluate(self, asked: Asked, model: Model | None) -> EvaluateResult:
        request = self.requests.evaluate(asked, model)
        label = "data" if model is None else model.label
        scoring = self.ordered.pop(_place(request), None) or self._scoring(asked, model)
        self._join(scoring.children, label)
        # Where nobody measured it after the last shard:
        self._join([self._scores(asked, request, model, "whole", ())], label)
        scored = picture_count(request, scoring.missing)
        made = 0 if model is None else scored
        return EvaluateResult(evaluation_folder(request).path, made, scored, 0.0)

    def _training(self, request: TrainRequest, name: str) -> Child:
        checkpoint = StageFolder(request.stage).checkpoint(request.settings.steps)

        def missing() -> tuple[str, ...]:
            # The checkpoint first: thousands of shards are not to be looked at in each poll.
            stands_by_now = is_whole(checkpoint) and _has_samples(request) and training_stands(request)
            return () if stands_by_now else ("checkpoint",)

        work = f"{request.start_digest} {request.settings} {request.run_seed}"
        return self._child(TRAIN, work, missing, lambda: Call(f"train {name}", {"stage": request.stage.name}))

    def _scoring(self, asked: Asked, model: Model | None) -> Scoring:
        request = self.requests.evaluate(asked, model)
        missing = unscored_shards(request)
        found = self._groups(missing)
        return Scoring(missing, [self._scores(asked, request, model, group, shards) for group, shards in found])

    def _groups(self, missing: Sequence[int]) -> list[Group]:
        return groups(missing, self.requests.config.execution.shards_per_child, partial(online_workers, SAMPLE_SHARDS))

    def _scores(
        self, asked: Asked, request: EvaluateRequest, model: Model | None, group: str, shards: tuple[int, ...]
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

    def _join(self, children: Sequence[Child], tag: str, meanwhile: Meanwhile = NOTHING) -> None:
        """Submit the children, after them what may go on meanwhile, and wait for the children."""
        watched = begin(children, tags=self._tags(tag), begun=self.begun)
        asked = {child.work for child in children}
        self.begun[:] = [one for one in self.begun if one.child.work not in asked]
        self._begin(meanwhile)
        attempts = self.requests.config.execution.max_attempts
        wait(watched, max_attempts=attempts, tags=self._tags(tag), beside=self.begun)

    def _begin(self, meanwhile: Meanwhile) -> None:
        """Submit what may go on meanwhile; a stage with a checkpoint is none of it: once its samples stand, it may."""
        if meanwhile.training is not None:
            request, name = meanwhile.training
            if not is_whole(StageFolder(request.stage).checkpoint(request.settings.steps)):
                self.begun.extend(begin([self._training(request, name)], tags=self._tags(name), begun=self.begun))
        for asked, model in meanwhile.scoring:
            place = _place(self.requests.evaluate(asked, model))
            if place not in self.ordered:
                self.ordered[place] = scoring = self._scoring(asked, model)
                label = "data" if model is None else model.label
                self.begun.extend(begin(scoring.children, tags=self._tags(label), begun=self.begun))

    def _tags(self, tag: str) -> tuple[str, ...]:
        return ("spin-diffusion", self.requests.config.run.name, tag)


def _place(request: EvaluateRequest) -> str:
    return str(evaluation_folder(request).path)


def _has_samples(request: TrainRequest) -> bool:
    """Whether all images that a stage is trained on stand; by their manifests alone."""
    stage = StageFolder(request.stage)
    if request.losers is not None or request.settings.objective != "spin":
        return True
    return all(manifest_path(stage.samples(shard)).exists() for shard in range(read_plan(stage).shards))


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
    if is_whole(artifact, identity=identity) and not stands(artifact):
        discard(artifact)
