"""What a stage reads, pass by pass: of all its readings those of one process, from any optimizer step on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from spin.core.layout import StageFolder
from spin.core.plan import Visit, visits
from spin.diffusion.checkpoint import latent_scaling
from spin.diffusion.schedules import Schedule
from spin.diffusion.text import TextEmbeddings
from spin.train.arriving import Arriving
from spin.train.batches import Passes, batch_shape
from spin.train.inputs import Inputs, Reader
from spin.train.pairs import read_pairs
from spin.train.processes import Processes
from spin.train.request import TrainRequest


@dataclass(frozen=True)
class Read:
    """What one pass reads, and the passes of the whole step that it belongs to."""

    passes: Passes[Visit]
    inputs: Inputs


def open_reader(request: TrainRequest, schedule: Schedule, *, to_come: bool = False) -> Reader:
    """The reader of a stage, without stored errors; its files are verified now.

    Args:
        to_come: whether the images are still being drawn.
    """
    stage, settings = StageFolder(request.stage), request.settings
    scaling, shift = latent_scaling(request.start)
    samples = None if settings.objective == "sft" or request.losers is not None else stage
    pairs = read_pairs(
        request.prompts, request.real, samples=samples, losers=request.losers, scaling=scaling, shift=shift,
        trajectories=settings.trajectory == "reverse", drop_unsafe=settings.drop_unsafe, to_come=to_come,
    )  # fmt: skip
    text = TextEmbeddings.read(request.text, device="cpu")
    filled_to = batch_shape(request).micro_batch_size if settings.compile else 0
    return Reader(pairs, text, schedule, settings, request.run_seed, stage.name, filled_to=filled_to)


def reads(
    request: TrainRequest, reader: Reader, processes: Processes, *, after: int, arriving: Arriving | None = None
) -> Iterator[Read]:
    """What this process reads behind `after` optimizer steps, pinned where it goes to a GPU; for a loader's thread.

    Args:
        arriving: opens the images as they come; each step waits for those that it reads.
    """
    pinned, batch_size, shape = processes.device != "cpu", request.settings.batch_size, batch_shape(request)
    if ":" in processes.device:
        torch.cuda.set_device(processes.device)  # a new thread begins with the first GPU, and would pin there
    upcoming = visits(
        rows=len(reader.pairs.sample_ids), count=request.settings.steps * batch_size, draws=request.draws,
        run_seed=request.run_seed, stage=reader.stage,
    )  # fmt: skip
    upcoming = islice(upcoming, after * batch_size, None)
    if arriving is not None:
        upcoming = arriving.in_time(upcoming, batch_size, reader.pairs)
    while batch := list(islice(upcoming, batch_size)):
        passes = shape.passes(batch, reader.pairs.shape_of)
        for micro in passes.by_process[processes.rank]:
            inputs = reader.read(micro)
            yield Read(passes, inputs.each(Tensor.pin_memory) if pinned else inputs)
