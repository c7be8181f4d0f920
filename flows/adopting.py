"""Before anything is made: does it stand in another run of the root, made from the same things?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.requests import Requests
from spin.core.adopting import adopt
from spin.core.environment import bit_class, code_version
from spin.core.layout import StageFolder
from spin.train.identity import training_artifacts, training_identity
from spin.train.request import TrainRequest


def adopt_samples(
    requests: Requests, stage: StageFolder, missing: Sequence[int], identity: Mapping[str, Any]
) -> tuple[int, ...]:
    """Take what others drew of these shards; those that are still missing."""
    if not requests.config.execution.adopt:
        return tuple(missing)
    place = _place(requests, requests.config.sampling.batch_size)
    return tuple(shard for shard in missing if not _take(requests, (stage.samples(shard),), identity, place))


def adopt_training(requests: Requests, request: TrainRequest) -> bool:
    """Take a stage that others trained; whether it stands now."""
    if not requests.config.execution.adopt:
        return False
    *logs, checkpoint = training_artifacts(request)
    wanted = (*logs, StageFolder(request.stage).timing, checkpoint)
    place = _place(requests, min(request.settings.micro_batch_size, request.settings.batch_size))
    return _take(requests, wanted, training_identity(request), place)


def _take(requests: Requests, wanted: Sequence[Any], identity: Mapping[str, Any], place: Mapping[str, Any]) -> bool:
    return adopt(requests.folder, wanted, identity, place=place, code=code_version())


def _place(requests: Requests, batch_size: int) -> dict[str, object]:
    """The class of equal bits as far as a process without torch can tell it."""
    execution = requests.config.execution
    found = bit_class(device=requests.device, dtype=execution.dtype, batch_size=batch_size, threads=execution.threads)
    unknown = {"host", "compiled", *(() if requests.device == "cpu" else ("device", "batch_size"))}
    return {key: value for key, value in found.items() if key not in unknown}
