"""`plan`: what a run will do and cost, before anything is spent and without the network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from flows.entering import refuse_misfits
from flows.forecast_copy import Copy, copy_of
from flows.forecast_counts import Counts, count, count_trainings, seconds_by_probe, seconds_by_speed, tried_by_speed
from flows.forecast_rows import evaluated_pictures, rows_of
from flows.forecast_space import MICRO_BATCH, Need, disk_parts, needs, size_text
from flows.forecast_work import bucket_padding, evaluated_by, sampled_by, trained_by
from flows.requests import Requests
from spin.core.config import Config
from spin.core.errors import ConfigError
from spin.core.gpus import DRAWING_SHARE, TRAINING_SHARE, Gpu, named_gpu
from spin.core.outline import Rows, Task, Unit, outline
from spin.core.safety import DIFFUSERS
from spin.diffusion.architectures.known import KNOWN, Architecture, packaged_architecture
from spin.diffusion.attention import has_kernel
from spin.diffusion.families.registry import check_model
from spin.diffusion.optimizers import has_optimizer
from spin.prepare.base import local_base
from tasks.devices import visible_gpus
from tasks.launching import card_memory

if TYPE_CHECKING:
    from spin.core.counted import Drawn
    from spin.diffusion.probe import Rates

_LONGEST_PROBE: Final = 120.0  # seconds that `plan` may spend on measuring
_MUCH_PADDING: Final = 1.2  # times the images of squares, from which it is said
_ROOM: Final = 0.05  # share of a device's memory that should stay free


@dataclass(frozen=True)
class Base:
    """What is planned with: a model's folder, or a packaged architecture for one that was never downloaded."""

    name: str
    folder: Path
    architecture: Architecture | None


@dataclass(frozen=True)
class Machine:
    """What the run is planned for: one device, and how many of them."""

    name: str
    memory_bytes: int
    count: int
    kind: str  # cuda or cpu
    gpu: Gpu | None  # of the table, where one was named


@dataclass(frozen=True)
class Line:
    """A task with the time that it takes on all its devices, and the sum of theirs."""

    task: Task
    seconds: float
    device_seconds: float


@dataclass(frozen=True)
class Forecast:
    config: Config
    base: Base
    machine: Machine
    rows: Rows
    counts: Counts
    lines: tuple[Line, ...]
    disk: Mapping[str, int]
    copy: Copy | None  # of the data, where it lies elsewhere
    free_bytes: int
    memory: tuple[Need, ...]
    told: str  # how the times came about
    warnings: tuple[str, ...]

    @property
    def download_bytes(self) -> int:
        known = self.base.architecture
        return 0 if known is None else known.weight_bytes * self.counts.sizes.all_weights


def forecast(config: Config, *, gpu: str | None = None, gpus: int | None = None) -> Forecast:
    """Counts from the config, the data and the model's architecture; seconds from a probe, or from operations.

    Args:
        gpu: a card of `spin.core.gpus` that the run is planned for; None for this machine.
        gpus: how many of them; None for one of a named card, or for all that this machine has.
    """
    base, machine = find_planned(config.model.base), find_machine(config, gpu, gpus)
    refuse_misfits(config, base.folder)
    rows = rows_of(Requests(config, "cpu"))
    processes = train_processes(config, machine)
    counts = count(config, base.folder, processes=processes)
    seconds, told = unit_seconds(config, base, machine, counts, rows)
    tasks = outline(config, rows=rows, pictures=evaluated_pictures(config, rows))
    copy, memory = copy_of(config), needs(config, counts, processes=processes)
    copied = {} if copy is None else {"copy of the data": copy.missing_bytes or 0}
    disk = {**copied, **disk_parts(config, counts, rows, tasks)}
    recomputed = _recomputed(config, base, counts, processes) if _large(memory, machine) else {}
    padding = bucket_padding(config, side=counts.sizes.picture)
    root = Path(config.run.root).absolute()
    free = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free
    return Forecast(
        config=config, base=base, machine=machine, rows=rows, counts=counts,
        lines=tuple(_line(config, machine, task, seconds, processes) for task in tasks),
        disk=disk, copy=copy, free_bytes=free, memory=tuple(memory), told=told,
        warnings=tuple(
            _warnings(
                config, machine, memory, recomputed, disk_bytes=sum(disk.values()), free_bytes=free, padding=padding
            )
        ),
    )  # fmt: skip


def find_planned(name: str) -> Base:
    """A model on this machine, else its packaged architecture; nothing is downloaded."""
    folder = local_base(name)
    if folder is not None:
        check_model(folder)
        return Base(name, folder.absolute(), None)
    known = packaged_architecture(name)
    if known is not None:
        return Base(name, known.path, known)
    ids = ", ".join(architecture.hub_ids[0] for architecture in KNOWN)
    raise ConfigError(
        "is not on this machine, and its architecture is not known", where=f"model.base: {name}",
        fix=f"download it, or plan with one that is built alike: {ids}",
    )  # fmt: skip


def find_machine(config: Config, gpu: str | None, gpus: int | None) -> Machine:
    """A named card, else what this machine has."""
    if gpu is not None:
        card = named_gpu(gpu)
        return Machine(card.name, card.memory_bytes, gpus or 1, "cuda", card)
    here = None if config.execution.device == "cpu" else card_memory()
    if here is not None:
        return Machine(*here, gpus or len(visible_gpus()), "cuda", None)
    if gpus is not None:
        raise ConfigError("has no use on a machine without GPUs", where="--gpus", fix="name the card, too: --gpu a100")
    return Machine("this machine's CPU", psutil.virtual_memory().total, 1, "cpu", None)


def train_processes(config: Config, machine: Machine) -> int:
    """As the config says, or on as many of the devices as can share every batch evenly."""
    if config.execution.train_processes is not None:
        return config.execution.train_processes
    batches = [config.train.batch_size] * (config.iterations > 0) + [config.sft.batch_size] * (config.sft.steps > 0)
    return max(count for count in range(1, machine.count + 1) if not any(batch % count for batch in batches))


def unit_seconds(
    config: Config, base: Base, machine: Machine, counts: Counts, rows: Rows
) -> tuple[dict[Unit, float], str]:
    """Of one unit of each kind of work on one device, and how that came about."""
    from spin.diffusion.probe import matmul_speed  # torch: only this command pays for it here

    share = f"drawing is taken at {DRAWING_SHARE:.0%} of that, training at {TRAINING_SHARE:.0%}"
    if machine.gpu is not None:
        speed = machine.gpu.speed
        return seconds_by_speed(config, counts, rows, speed), f"operations counted; {speed.told}; {share}"
    speed = matmul_speed(machine.kind, threads=config.execution.threads)
    why = _why_not_probed(config, base, machine.kind, tried_by_speed(config, counts, speed))
    if why is None:
        rates = measured(config, base.folder, machine.kind)
        return seconds_by_probe(config, counts, rows, rates), f"{machine.name}, probed with one batch of each kind"
    return seconds_by_speed(config, counts, rows, speed), f"operations counted, for {why}; {speed.told}; {share}"


def measured(
    config: Config, base: Path, device: str, *, sampled: Drawn | None = None, evaluated: Drawn | None = None
) -> Rates:
    """One batch of each kind of work, as the config has it.

    Args:
        sampled, evaluated: how pictures are drawn, where the config is not asked.
    """
    from spin.diffusion.probe import measure  # torch: only this command and runs pay for it

    return measure(
        base,
        sampled=sampled or sampled_by(config),
        evaluated=evaluated or evaluated_by(config),
        sft=trained_by(config, config.sft, 1),
        pair=trained_by(config, config.train, 1),
        sft_batch=config.sft.batch_size,
        pair_batch=config.train.batch_size,
        optimizer=config.train.optimizer,
        attention=config.execution.attention,
        device=device,
        threads=config.execution.threads,
    )


def _why_not_probed(config: Config, base: Base, device: str, tried: Mapping[Unit, float]) -> str | None:
    """Why work of each kind is not tried here; None where it is."""
    if base.architecture is not None:
        return "the model is not here"
    if not has_optimizer(config.train.optimizer):
        return f"{config.train.optimizer} is not here"
    if not has_kernel(config.execution.attention, device=device, dtype=config.execution.dtype):
        return f"attention's {config.execution.attention} kernel is not here"
    return None if _probe_seconds(config, tried) < _LONGEST_PROBE else "a probe would take long"


def _probe_seconds(config: Config, seconds: Mapping[Unit, float]) -> float:
    """What a probe would take, by operations."""
    from spin.diffusion.probe import CALLS, MOST_PASSES

    sampled = config.sampling.batch_size * seconds["sampled"]
    evaluated = config.evaluation.batch_size * seconds["evaluated"]
    micro = config.train.micro_batch_size * MOST_PASSES
    learned = min(config.train.batch_size, micro) * seconds["pair"] + min(config.sft.batch_size, micro) * seconds["sft"]
    return CALLS * (sampled + evaluated + learned)


def _line(config: Config, machine: Machine, task: Task, seconds: Mapping[Unit, float], processes: int) -> Line:
    """Training shares its batches among processes; shards go to all devices where workers make them."""
    device = task.count * seconds[task.unit] if task.unit else 0.0
    shared = config.execution.executor == "workers" and task.kind in ("sample", "evaluate")
    return Line(task, device / (processes if task.kind == "train" else machine.count if shared else 1), device)


def _large(memory: list[Need], machine: Machine) -> bool:
    """Whether a training does not fit."""
    return any(need.knob == MICRO_BATCH and not _fits(need, machine) for need in memory)


def _recomputed(config: Config, base: Base, counts: Counts, processes: int) -> Mapping[str, Need]:
    """What trainings would need with gradient checkpointing, by their work; empty where they have it."""
    if config.train.gradient_checkpointing:
        return {}
    other = config.model_copy(update={"train": config.train.model_copy(update={"gradient_checkpointing": True})})
    sft, train = count_trainings(other, base.folder, processes=processes)
    found = needs(other, replace(counts, sft=sft, train=train), processes=processes)
    return {need.work: need for need in found if need.knob == MICRO_BATCH}


def _warnings(
    config: Config, machine: Machine, memory: list[Need], recomputed: Mapping[str, Need], *, disk_bytes: int,
    free_bytes: int, padding: float,
) -> Iterator[str]:  # fmt: skip
    for need in memory:
        if not _fits(need, machine):
            ways = list(_ways(config, machine, need, recomputed.get(need.work)))
            fix = f"set {', or '.join(ways)}" if ways else "take a device with more memory"
            yield f"{need.work}: {size_text(need.total)} leave too little of {size_text(machine.memory_bytes)}; {fix}"
    if disk_bytes > free_bytes:
        yield f"the disk lacks {size_text(disk_bytes - free_bytes)}; set run.root to another one"
    if machine.count > 1 and config.execution.executor == "local":
        yield f"pictures are drawn on 1 of {machine.count} devices; set execution.executor=workers"
    if config.safety.checker != DIFFUSERS and (config.safety.real, config.safety.generated) != ("off", "off"):
        yield f"nobody knows what {config.safety.checker} takes; its time and memory come on top"
    if padding >= _MUCH_PADDING:
        yield (
            f"in buckets shards of {config.sampling.shard_size} are drawn as {padding:.1f} times as many images; set "
            "sampling.shard_size higher, or sampling.batch_size lower"
        )
    if machine.kind == "cpu" and config.execution.device == "cuda":
        yield "no GPU here; name what the run is for: --gpu a100 --gpus 8"


def _fits(need: Need, machine: Machine) -> bool:
    return need.total <= (1 - _ROOM) * machine.memory_bytes


def _ways(config: Config, machine: Machine, need: Need, recomputed: Need | None) -> Iterator[str]:
    """Settings under which some work fits: a smaller batch, which changes no loss, comes first."""
    room = round((1 - _ROOM) * machine.memory_bytes)
    if fitting := need.fitting(room):
        yield f"{need.knob}={2 ** (fitting.bit_length() - 1)}"
    if recomputed is not None and recomputed.fitting(room):
        yield f"train.gradient_checkpointing=true with {need.knob}={min(recomputed.fitting(room), need.batch)}"
    if need.knob == MICRO_BATCH and config.train.lora_rank is None and config.iterations:
        yield "train.lora_rank=64 to train an adapter alone"
