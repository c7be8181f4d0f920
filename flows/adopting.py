"""Before anything is made: does it stand in another run of the root, made from the same things?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.requests import Requests
from spin.core.adopting import Place, adopt, class_of, common_class
from spin.core.environment import bit_class, code_version
from spin.core.layout import StageFolder
from spin.core.planning import read_plan
from spin.train.batches import batch_shape
from spin.train.identity import steps_class, training_artifacts, training_identity
from spin.train.request import TrainRequest
from tasks.launching import card_name


def adopt_samples(
    requests: Requests, stage: StageFolder, missing: Sequence[int], identity: Mapping[str, Any]
) -> tuple[int, ...]:
    """Take what others drew of these shards; those that are still missing."""
    if not requests.config.execution.adopt or not missing:
        return tuple(missing)
    place = _one_class(requests, stage, missing, identity)
    if place is None:
        return tuple(missing)
    take = lambda shard: adopt(  # noqa: E731
        requests.folder, (stage.samples(shard),), identity, place=place, code=code_version()
    )
    return tuple(shard for shard in missing if not take(shard))


def adopt_training(requests: Requests, request: TrainRequest) -> bool:
    """Take a stage that others trained; whether it stands now."""
    if not requests.config.execution.adopt:
        return False
    place, timing = training_place(requests, request), StageFolder(request.stage).timing
    return adopt(
        requests.folder, training_artifacts(request), training_identity(request), place=place, code=code_version(),
        beside=(timing,),
    )  # fmt: skip


def samples_place(requests: Requests) -> Place:
    """The class in which the images of this run would be drawn."""
    sampling = requests.config.sampling
    return _place(requests, batch_size=sampling.batch_size, compiled=sampling.compile)


def training_place(requests: Requests, request: TrainRequest) -> Place:
    """The class in which a stage would be trained; how many GPUs a worker has, only the worker knows."""
    execution = requests.config.execution
    place = _place(requests, batch_size=batch_shape(request).micro_batch_size, compiled=request.settings.compile)
    known = {key: value for key, value in steps_class(request).items() if key != "fused" or "device" in place.bits}
    place = Place({**place.bits, **known}, place.device)
    if not _ordered(requests) or execution.device == "cpu" or execution.train_processes:
        return Place({**place.bits, "processes": request.processes}, place.device)
    return Place({key: value for key, value in place.bits.items() if key != "batch_size"}, place.device)


def _one_class(
    requests: Requests, stage: StageFolder, missing: Sequence[int], identity: Mapping[str, Any]
) -> Place | None:
    """Where the shards of a stage may come from, so that all of them are of one class; None: from nowhere.

    A worker's class is not known here. What is taken for it must be the whole stage, or of the class of what stands:
    the sampling room refuses to add shards of another class.
    """
    place = samples_place(requests)
    if requests.config.execution.mix_classes:
        return place
    standing = (shard for shard in range(read_plan(stage).shards) if shard not in missing)
    bits: Mapping[str, object] | None = next((class_of(stage.samples(shard), identity) for shard in standing), None)
    if bits is not None:
        return Place(bits, place.device) if place.holds(bits) else None
    if not _ordered(requests):
        return place
    wanted = [stage.samples(shard) for shard in missing]
    bits = common_class(requests.folder, wanted, identity, place=place, code=code_version())
    return None if bits is None else Place(bits)


def _ordered(requests: Requests) -> bool:
    """Whether others do the work, on devices that this process does not see."""
    return requests.config.execution.executor == "workers"


def _place(requests: Requests, *, batch_size: int, compiled: bool = False) -> Place:
    """The class as far as this process can tell it: all of it, but for the card of a worker."""
    execution = requests.config.execution
    unseen = _ordered(requests) and execution.device != "cpu"
    device = requests.device if unseen or requests.device == "cpu" else f"{requests.device} {card_name()}"
    bits = bit_class(
        device=device, dtype=execution.dtype, batch_size=batch_size, threads=execution.threads, compiled=compiled,
        attention=execution.attention,
    )  # fmt: skip
    left_out = {"host", *(("device",) if unseen else ())}
    known = {key: value for key, value in bits.items() if key not in left_out}
    return Place(known, "cuda" if unseen and execution.device == "cuda" else "")
