"""An existing run as its record tells it: what single-stage flows start from."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.asking import Asked
from flows.requests import Model, Requests, ask_once
from flows.rounds import Round, models_of, noted_round
from spin.core.config import Config, load_config
from spin.core.config_identity import config_to_json
from spin.core.config_rules import check_run_name
from spin.core.environment import code_version
from spin.core.errors import ConfigError
from spin.core.layout import RunsRoot
from spin.core.plan import Plan
from spin.core.planning import read_plan
from spin.core.record import Record, read_record, recorded_config
from spin.diffusion.digest import model_digest
from spin.prepare.request import PrepareResult
from tasks.launching import device_of, find_device


@dataclass(frozen=True)
class PastRun:
    requests: Requests
    record: Record

    @classmethod
    def open(cls, root: str, run: str, overrides: Sequence[str] = (), *, here: bool = False) -> PastRun:
        """Read a run's record.

        Args:
            overrides: change its config for this call only.
            here: the work is done in this process, whoever its executor is.
        """
        try:
            check_run_name(run)
        except ValueError as error:
            raise ConfigError(str(error), where="run") from None
        path = Path(root).absolute()
        folder = RunsRoot(path).run(run)
        record = read_record(folder)
        config = _override(recorded_config(folder), overrides)
        config = config.model_copy(update={"run": config.run.model_copy(update={"root": str(path)})})
        _refuse_changed_base(record)
        device = find_device(config.execution.device) if here else device_of(config.execution)
        return cls(Requests(config, device), record)

    @classmethod
    def open_to_add(cls, root: str, run: str) -> PastRun:
        """Read a run's record in order to make a part of the run: only the code that began it may."""
        past = cls.open(root, run, here=True)
        refuse_other_code(run, past.record["code_version"])
        return past

    @property
    def prepared(self) -> PrepareResult:
        if "data_digest" not in self.record:
            fix = "run it once, or name a benchmark that brings its own prompts"
            raise ConfigError(f"run {self.record['run']!r} has no held-out data", fix=fix)
        return PrepareResult(
            prompts=self.requests.folder.prompts,
            real=self.requests.root.path / self.record["real"],
            data_digest=self.record["data_digest"],
            rows=self.record["prompts"],
            quarantined=self.record["quarantined"],
            encoded=0,
            seconds=0.0,
            dropped=self.record.get("dropped") or {},
            unsafe=self.record.get("unsafe") or {},
            buckets=self.record.get("buckets") or {},
        )

    def asked(self, benchmark: str | None) -> Asked:
        """The prompts of a benchmark; of the first one of the config where none is named."""
        first = self.requests.config.evaluation.benchmarks[0]
        return ask_once(self.requests, self.record, benchmark or first, lambda: self.prepared)

    @property
    def models(self) -> list[Model]:
        """Every model that the run has so far, base first."""
        return models_of(self.record, self.requests.root)

    def round_of(self, iteration: int) -> Round:
        """Who plays an iteration that was begun."""
        return noted_round(self.record, self.requests.folder.iteration(iteration), self.models)

    def model(self, name: str) -> Model | None:
        """A model by its stage's name or its label; None for `data`, the real held-out images."""
        if name == "data":
            return None
        for model in self.models:
            if name in (model.name, model.label):
                return model
        known = ", ".join(model.name for model in self.models) or "none yet"
        raise ConfigError(f"run {self.record['run']!r} has no model {name[:64]!r}", fix=f"models: {known}")

    def plan_of(self, iteration: int) -> Plan:
        """The plan of an iteration; an unknown one names those that are planned."""
        stage = self.requests.folder.iteration(iteration)
        if not stage.plan.exists():
            planned = ", ".join(self.planned_iterations()) or "none yet"
            raise ConfigError(
                f"run {self.record['run']!r} has no plan for iteration {iteration}", fix=f"planned: {planned}"
            )
        return read_plan(stage)

    def planned_iterations(self) -> list[str]:
        return [path.parent.name for path in sorted(self.requests.folder.path.glob("iteration-*/plan.json"))]


def refuse_other_code(run: str, wanted: str) -> None:
    """Refuse to mix what this code makes with what the wanted code makes."""
    if wanted != code_version():
        raise ConfigError(
            f"run {run!r} is made by other code than there is on {socket.gethostname()}:"
            f" code_version: {wanted} -> {code_version()}",
            fix="install that code here, or start a new run",
        )


def _refuse_changed_base(record: Record) -> None:
    """New scores under an old digest would be believed by every run that shares them."""
    base = record.get("base")
    if base is None:
        return
    if not Path(base["path"]).is_dir():
        raise ConfigError(
            f"the base model of the run is not on {socket.gethostname()}", where=base["path"],
            fix="put it there: all machines need it, and the runs root, under the same path",
        )  # fmt: skip
    if model_digest(Path(base["path"])) != base["digest"]:
        raise ConfigError("the base model has changed since the run", where=base["path"], fix="restore the model")


def _override(config: Config, overrides: Sequence[str]) -> Config:
    for text in overrides:
        key = text.partition("=")[0].strip()
        if not re.fullmatch(r"(evaluation|execution)\.\w+", key):
            raise ConfigError("only evaluation.* and execution.* can differ from the run", where=f"--set {key}")
    return load_config(config_to_json(config), overrides=overrides) if overrides else config
