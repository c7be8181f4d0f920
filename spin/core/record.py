"""run.json: the resolved config of a run, its versions, and what each stage has come to."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from spin.core.config import Config, config_from_mapping
from spin.core.config_identity import config_hash, config_to_json, diff_configs
from spin.core.draft import draft_path, fsync, sweep
from spin.core.environment import code_version, versions
from spin.core.errors import ArtifactError, ConfigError
from spin.core.layout import EvaluationFolder, RunFolder, RunsRoot, manifest_path

Record = dict[str, Any]
log = logging.getLogger(__name__)
COMPARISON: Final = "comparison"  # the kind of a record that compares models which no run of ours has made
_FIELDS: Final = frozenset({"run", "config", "config_hash", "seed", "versions", "code_version", "stages"})


class OtherRun(ConfigError):
    """A run of this name stands with another config, or was made by other code; `changes` has a line for each."""

    def __init__(self, message: str, *, changes: Sequence[str] = (), where: str | None = None) -> None:
        super().__init__(message, where=where)
        self.changes = tuple(changes)


def other_run(run: str, changes: Sequence[str], *, way: str) -> str:
    """What is said of such a run, and the way out of whoever asks."""
    return "\n".join((f"run {run!r} exists with another config or code:", *(f"  {line}" for line in (*changes, way))))


def open_record(folder: RunFolder, config: Config) -> Record:
    """The record of a run, new or resumed; a changed config against an existing run is refused."""
    if not folder.record.exists():
        return {
            "run": config.run.name,
            "config": config_to_json(config),
            "config_hash": config_hash(config),
            "seed": config.run.seed,
            "versions": versions(),
            "code_version": code_version(),
            "stages": [],
            "stage_seconds": [],
        }
    record = read_record(folder)
    changes = [str(change) for change in diff_configs(record["config"], config_to_json(config))]
    if record["code_version"] != code_version():
        changes.append(f"code_version: {record['code_version']} -> {code_version()}")
    if changes:
        way = "keep the old values, or start a new run with --set run.name=NAME"
        raise OtherRun(other_run(config.run.name, changes, way=way), changes=changes, where=str(folder.record))
    return record


def read_run_record(folder: RunFolder) -> Record:
    """The record of a run; a comparison of other people's models is none."""
    record = read_record(folder)
    if record.get("kind") == COMPARISON:
        raise ConfigError("compares models that no run here has made", where=folder.path.name, fix="name a run")
    return record


def read_record(folder: RunFolder) -> Record:
    """The record of an existing run; an unknown run names the ones that exist."""
    if not folder.path.is_dir() or not folder.record.exists():
        known = ", ".join(run_names(folder.root)) or "none yet"
        raise ConfigError(f"no run {folder.path.name!r} in {folder.root.path}", fix=f"runs there: {known}")
    try:
        record: Record = json.loads(folder.record.read_text("utf-8"))
        whole = isinstance(record, dict) and record.keys() >= _FIELDS
    except (ValueError, OSError):
        whole = False
    if not whole:
        raise ArtifactError("is damaged", where=str(folder.record), fix="restore it or start a new run")
    return record


def recorded_config(folder: RunFolder) -> Config:
    """The config that a run was started with."""
    return config_from_mapping(read_record(folder)["config"], where=str(folder.record))


def write_record(folder: RunFolder, record: Record) -> None:
    """Replace run.json in one step; the same record again leaves the file alone."""
    text = json.dumps(record, indent=1) + "\n"
    if folder.record.exists() and folder.record.read_text("utf-8") == text:
        return
    draft = draft_path(folder.record)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, "utf-8")
        fsync(draft)
        draft.replace(folder.record)
        fsync(folder.path)
    except OSError as error:
        raise ArtifactError(
            f"cannot write: {error.strerror}", where=str(folder.record), fix="free space or rights"
        ) from error
    finally:
        sweep(folder.record)


def note_evaluation(record: Record, stage: str, path: str, folder: EvaluationFolder) -> None:
    """Write an evaluation down; a stage's first one is what gate and verdict read.

    Args:
        stage: name of the stage, or `data` for the real images.
        path: of the folder, as the record keeps it.
    """
    if stage == "data":
        entry = record.setdefault("data", {"label": "data"})
    else:
        entry = next(found for found in record["stages"] if found["name"] == stage)
    known = entry.setdefault("evaluations", {})
    known[f"{folder.benchmark}.{folder.protocol}"] = path
    entry["evaluation"] = next(iter(known.values()))


def is_new_kind(record: Record, stage: str, folder: EvaluationFolder) -> bool:
    """Whether the stage has no evaluation of this benchmark and protocol yet, or this very one."""
    entry = record.get("data") if stage == "data" else next(s for s in record["stages"] if s["name"] == stage)
    known = ((entry or {}).get("evaluations") or {}).get(f"{folder.benchmark}.{folder.protocol}")
    return known is None or Path(known).name == folder.path.name


def run_names(root: RunsRoot) -> list[str]:
    """Names of the runs in a runs root, sorted."""
    if not root.path.is_dir():
        return []
    return sorted(path.name for path in root.path.iterdir() if (path / "run.json").is_file())


def newest_run(root: RunsRoot) -> str | None:
    """The run whose newest model was made last; None where no run has one."""

    def made(name: str) -> float:
        record = read_record(root.run(name))
        stages = [] if record.get("kind") == COMPARISON else record["stages"]
        checkpoints = [root.path / stage["checkpoint"] for stage in stages if stage.get("checkpoint")]
        manifests = [manifest_path(path) for path in checkpoints[1:]]  # the first is the base, which no run made
        return max((path.stat().st_mtime for path in manifests if path.exists()), default=0.0)

    times = {}
    for name in run_names(root):
        try:
            times[name] = made(name)
        except ArtifactError as error:  # an old run must not cost the others their night
            log.warning("passed over: %s", error)
    newest = max(times, key=lambda name: times[name], default=None)
    return newest if newest is not None and times[newest] else None


def relative(path: Path, root: RunsRoot) -> str:
    """A path as run.json keeps it: relative to the runs root, so that the folder can move."""
    try:
        return path.absolute().relative_to(root.path.absolute()).as_posix()
    except ValueError:
        return str(path)
