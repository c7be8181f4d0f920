"""The opponent's errors on all that a stage reads, computed once and kept: a sweep over beta or lr asks it once.

They are made by the very passes that would ask a live opponent, in the same class of equal bits: a training that
reads them gives the same bits. So it is not part of what trained weights are made from whether they were stored.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from spin.core.environment import class_in
from spin.core.errors import ConfigError
from spin.core.layout import StageFolder
from spin.core.layout_beside import errors_path
from spin.core.plan import Visit, identity_hash
from spin.core.progress import Progress, silent
from spin.core.schema import content_digest, read_batches, tensor_column, tensor_field, write_table
from spin.core.store import commit, stands, verify
from spin.core.tensor_rows import open_tensors
from spin.diffusion.checkpoint import load_schedule
from spin.train.batches import Passes
from spin.train.identity import training_identity
from spin.train.inputs import Errors
from spin.train.loader import Loader
from spin.train.networks import load_opponent
from spin.train.processes import Processes, class_of
from spin.train.reading import Read, open_reader, reads
from spin.train.request import TrainRequest
from spin.train.step import Step

_WITHOUT_EFFECT: Final = (  # on what the opponent says; what is not named here has one
    "beta", "lr", "warmup_steps", "lr_schedule", "link", "sft_weight", "timestep_weight", "over_timesteps", "safeguard",
    "drop_unsafe", "optimizer", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "ema_decay", "gradient_checkpointing", "lora_rank", "lora_alpha", "lora_layers",
)  # fmt: skip


def store_errors(request: TrainRequest, processes: Processes, *, progress: Progress = silent) -> None:
    """Compute the errors that a request wants stored, each process its share, unless they stand.

    The opponent is in memory only here; a training that reads them has room for larger passes. After a stop this begins
    anew: it is a quarter of a training's work (2 forward passes of 8, where a backward pass counts as two).
    """
    if request.errors is None:
        return
    _refuse_misfits(request)
    identity = errors_identity(request)
    path = errors_file(request)
    if processes.once(lambda: stands(path, identity)):
        return
    table, notes = _computed(request, processes, progress)
    gc.collect()  # a compiled network is part of a cycle, and would stay beside those that are loaded now

    def keep() -> None:
        commit(
            path, lambda target: write_table(target, table), kind="opponent-errors", digest=content_digest,
            identity=identity, environment=lambda: {**class_of(request), "notes": notes},
        )  # fmt: skip

    processes.once(keep)


def open_errors(request: TrainRequest, *, rows: int) -> Errors | None:
    """The errors of a request; None where it asks the opponent itself. Their bytes are verified now."""
    if request.errors is None:
        return None
    path = errors_file(request)
    verify(path)
    batches = list(read_batches(path, ["row", "visit"]))
    row, visit = (np.concatenate([batch[name].to_numpy() for batch in batches]) for name in ("row", "visit"))
    places = np.full((int(visit.max()) + 1, rows), -1, np.int64)
    places[visit, row] = np.arange(len(row))
    return Errors(open_tensors([path], "errors"), places)


def errors_file(request: TrainRequest) -> Path:
    assert request.errors is not None
    return errors_path(request.errors, identity_hash(json.dumps(errors_identity(request), sort_keys=True)))


def errors_identity(request: TrainRequest) -> dict[str, Any]:
    """What the errors are a function of: of what trained weights are made from, all but what only the policy meets.

    And the class of equal bits, which holds the micro-batch; so a stored error has the bits of a live one.
    """
    identity = training_identity(request)
    settings: Mapping[str, Any] = identity["settings"]
    start, reference = identity.pop("start"), identity.pop("reference", None)
    return {
        **identity,
        "settings": {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT},
        "opponent": reference or start,
        "stage": StageFolder(request.stage).name,
        "class": class_in(class_of(request)),
    }


def _refuse_misfits(request: TrainRequest) -> None:
    if request.settings.trajectory == "reverse":
        raise ConfigError(
            "stored keeps errors, and reverse trajectories need the opponent's predictions", where="train.reference",
            fix="set it to live",
        )  # fmt: skip


def _computed(request: TrainRequest, processes: Processes, progress: Progress) -> tuple[pa.Table, list[str]]:
    """Rows in the order in which the processes' shares are joined, step by step; and what went wrong with compiling."""
    accelerator, opponent = load_opponent(request, processes)
    schedule = load_schedule(request.start, processes.device, law=request.settings.timestep_law)
    step = Step(
        policy=opponent, opponent=opponent, reader=open_reader(request, schedule), schedule=schedule,
        settings=request.settings, device=processes.device, autocast=accelerator.autocast,
    )  # fmt: skip
    visits: list[Visit] = []
    errors: list[Tensor] = []
    loader = Loader(reads(request, step.reader, processes, after=0))
    try:
        for number in range(1, request.settings.steps + 1):
            passes, found = _step(step, loader, request, processes)
            visits += passes.batch
            errors.append(processes.join(torch.cat(found, dim=1)).T.cpu())
            progress(number, request.settings.steps, "errors of the opponent, stored")
    finally:
        loader.close()
    return _table(visits, torch.cat(errors).numpy()), list(getattr(opponent.network, "notes", ()))


def _step(
    step: Step, loader: Loader[Read], request: TrainRequest, processes: Processes
) -> tuple[Passes[Visit], list[Tensor]]:
    """What a step reads, and the errors of each pass of this process."""
    found: list[Tensor] = []
    while True:
        read = loader.next()
        found.append(step.theirs(read.inputs))
        if len(found) == len(read.passes.by_process[processes.rank]):
            for _ in range(read.passes.surplus(processes.rank) if request.sharding == "full" else 0):
                step.theirs(read.inputs)  # divided weights are put together by all processes at once
            return read.passes, found


def _table(visits: list[Visit], errors: np.ndarray[Any, Any]) -> pa.Table:
    fields = [("row", pa.int64()), ("visit", pa.int32()), tensor_field("errors", errors.shape[1:], "float32")]
    columns = [[visit.row for visit in visits], [visit.visit for visit in visits], tensor_column(errors)]
    return pa.table(columns, schema=pa.schema(fields))
