"""What is refused before Prefect is imported and a server starts."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from flows.environment import prepare_environment, refuse_other_server
from flows.safety import check_safety
from spin.core.config import Config, load_config
from spin.core.config_identity import config_to_json
from spin.core.config_rules import scorers_of
from spin.core.errors import ConfigError
from spin.core.layout import RunFolder, RunsRoot
from spin.core.places import place_of
from spin.core.record import open_record, read_record
from spin.diffusion.attention import refuse_missing_kernel
from spin.diffusion.families.facts import picture_size
from spin.diffusion.families.fitting import refuse_misfit
from spin.diffusion.families.registry import check_model
from spin.diffusion.optimizers import require_optimizer
from spin.miniature.world import IMAGE_SIZE
from spin.prepare.base import local_base
from spin.train.batches import solve_batch

_SMALLEST_FREE_BYTES: Final = 200 * 2**20  # the miniature's demo writes about 100 MB


class BusyRun(ConfigError):
    """A run that another process works on."""


@contextmanager
def only_one(folder: RunFolder) -> Iterator[None]:
    """Hold the run's lock while the block runs: two commands on one run would undo each other's work."""
    busy = BusyRun(f"run {folder.path.name!r} is being worked on by another process", fix="wait for it, or end it")
    with locked(folder.path, otherwise=lambda: busy):
        yield


@contextmanager
def locked(folder: Path, *, otherwise: Callable[[], ConfigError | None]) -> Iterator[None]:
    """Hold a folder's lock while the block runs.

    Args:
        otherwise: asked where another process holds it: the refusal, or None to wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            refusal = otherwise()
            if refusal is not None:
                raise refusal from None
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def enter(root: Path, run: str) -> None:
    """Refuse an unknown run before Prefect is imported and a server starts."""
    read_record(RunsRoot(root.absolute()).run(run))
    use_prefect(root)


def use_prefect(root: Path) -> None:
    """Prefect's settings, before it is imported."""
    prepare_environment(root)
    refuse_other_server()


def check_sources(config: Config) -> None:
    """Refuse data and a local model folder that are not there."""
    data, base = config.data, config.model.base
    path = place_of(data.path, on_hub=data.source == "pickapic").path
    if path is not None and not path.exists() and not any(mark in str(path) for mark in "*?[{"):
        raise ConfigError("no such folder", where=str(path), fix="set data.path to the folder with the pictures")
    if base.startswith(("/", ".", "~")) and not (Path(base).expanduser() / "model_index.json").is_file():
        raise ConfigError("not a diffusers folder (no model_index.json)", where=f"model.base: {base}")
    check_safety(config)
    found = local_base(base)
    if found is not None:  # a hub id is looked into when it is downloaded
        check_model(found)
        refuse_misfits(config, found)


def refuse_misfits(config: Config, base: Path) -> None:
    """Refuse what the base model cannot do, before anything is spent."""
    refuse_misfit(
        base, trajectory=config.train.trajectory, timestep_weight=config.train.timestep_weight,
        solvers={
            "sampling.scheduler": config.sampling.scheduler, "evaluation.scheduler": config.evaluation.scheduler,
        },
        resolution=config.data.resolution,
        bucket_step=config.data.bucket_step if config.data.aspect_ratio == "buckets" else None,
        bucket_ratio=config.data.bucket_ratio, reuse_every=config.sampling.reuse_every,
    )  # fmt: skip
    side = picture_size(base, resolution=None)
    if side != IMAGE_SIZE and "attributes" in scorers_of(config.model_dump()):
        raise ConfigError(
            f"attributes are read at {IMAGE_SIZE} x {IMAGE_SIZE} pixels, the model draws {side} x {side}",
            where="evaluation.scorers", fix="name the others, for example [aesthetic, frechet]",
        )  # fmt: skip


def check_trackers(config: Config) -> None:
    """Refuse an experiment tracker that is not installed here."""
    missing = [name for name in config.execution.report_to if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{missing[0]} is not installed", where="execution.report_to",
            fix=f"pip install {missing[0].replace('_', '-')}, or leave it out (--set execution.report_to=none)",
        )  # fmt: skip


def check_training(config: Config) -> None:
    """Refuse an optimizer that is not installed, and a batch that the processes of a training cannot share evenly."""
    require_optimizer(config.train.optimizer)
    processes, micro = config.execution.train_processes or 1, config.train.micro_batch_size
    batches = {"train": config.train.batch_size} | ({"sft": config.sft.batch_size} if config.sft.steps else {})
    for section, batch in batches.items():
        solve_batch(batch, micro_batch_size=micro, processes=processes, setting=f"{section}.batch_size")


def check_attention(config: Config) -> None:
    """Refuse a kernel that a device named in the config does not have; what `auto` finds is asked when it is found."""
    asked = config.execution
    if asked.device != "auto":
        refuse_missing_kernel(asked.attention, device=asked.device, dtype=asked.dtype)


def check_run(config: Config) -> None:
    """Refuse a changed config against an existing run, and a runs root that cannot hold it."""
    check_training(config)
    check_attention(config)
    check_trackers(config)
    root = RunsRoot(Path(config.run.root).absolute())
    run = root.run(config.run.name)
    if run.path.exists() and not run.path.is_dir():
        raise ConfigError("is a file, not the folder of a run", where=str(run.path), fix="choose another run.name")
    open_record(run, config)
    try:
        root.path.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root.path).free
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", where=str(root.path), fix="set run.root") from error
    if free < _SMALLEST_FREE_BYTES:
        raise ConfigError(f"only {free / 2**20:.0f} MiB free", where=str(root.path), fix="free space or set run.root")


def evaluation_sections(preset: str, benchmarks: Sequence[str], settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How a preset evaluates, with benchmarks and settings laid over it; where the work is done is this machine's."""
    strange = [text for text in settings if not re.match(r"(evaluation|execution)\.\w+\s*=", text)]
    if strange:
        raise ConfigError("only evaluation.* and execution.* are part of a comparison", where=f"--set {strange[0]}")
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in benchmarks)  # a path may hold any character
    asked = [f"evaluation.benchmarks=[{quoted}]"] if benchmarks else []
    # some presets have no data of their own, some need losers of it
    nobodys = ["data.source=imagefolder", "data.path=.", "data.pairs=false", "train.losers=generated"]
    scored = config_to_json(load_config(preset, overrides=[*nobodys, *asked, *settings]))
    worked = config_to_json(load_config("miniature", overrides=[s for s in settings if s.startswith("execution.")]))
    return {"evaluation": scored["evaluation"], "execution": worked["execution"]}
