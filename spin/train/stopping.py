"""Training that left the finite numbers: whose samples did it, in which pass, and whether their data did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from spin.core.buckets import by_size
from spin.core.errors import TrainingError
from spin.core.layout import StageFolder
from spin.core.plan import Visit
from spin.train.batches import Passes
from spin.train.inputs import Reader
from spin.train.processes import Processes
from spin.train.request import TrainRequest
from spin.train.update import Update

_NAMED: Final = 8  # sample ids in an error line


def finite_gradients(
    passes: Passes[Visit], loss: Callable[[Sequence[Visit]], Tensor], update: Update, processes: Processes
) -> Tensor:
    """Whether the pass of each sample gives a finite gradient, (batch,) bool: every pass made again, each for itself.

    A loss may be finite and its gradient not; which pass it was is asked only where one was not.
    """
    found: list[float] = []
    mine = passes.by_process[processes.rank]
    for number in range(len(mine) + passes.surplus(processes.rank)):  # a norm over divided weights is everybody's
        micro = mine[min(number, len(mine) - 1)]
        update.forget()
        update.backward(loss(micro))
        finite = float(torch.isfinite(update.norm()))
        found += [finite] * len(micro) * (number < len(mine))
    update.forget()
    return processes.join(torch.tensor([found], device=processes.device))[0].bool().cpu()


def not_finite(
    request: TrainRequest, reader: Reader, passes: Passes[Visit], finite: Tensor, *, step: int, kept: int,
    lost_scale: bool = False,
) -> TrainingError:  # fmt: skip
    """The error of a step whose loss or gradient is not finite.

    Args:
        finite: (batch,) bool, by sample of the passes' batch; all true where only the sum over the batch is not.
        kept: step of the newest state; 0 for none.
        lost_scale: whether float16's gradients overflowed at every loss scale down to 1.
    """
    batch = passes.batch
    broken = [index for index, ok in enumerate(finite.tolist()) if not ok] or list(range(len(batch)))
    visits = [batch[index] for index in broken]
    names = [reader.pairs.sample_ids[visit.row] for visit in visits]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    what = "float16's gradients overflow at every loss scale down to 1" if lost_scale else "loss or gradient"
    what = f"{what}, the last time" if lost_scale else f"{what} is not finite"
    unsound = _unsound(request, reader, visits)
    parts = [f"{what} at step {step}", f"samples {', '.join(names[:_NAMED])}{more}", _pass_of(broken[0], passes)]
    return TrainingError(
        "; ".join([*parts, *([f"their {unsound[0]} hold NaN or infinity"] if unsound else [])]),
        where=str(request.stage),
        fix="; ".join([_kept(kept), f"delete {unsound[1]}, it is made again" if unsound else _advice(request)]),
    )


def _pass_of(index: int, passes: Passes[Visit]) -> str:
    process, number = passes.place_of(index)
    whose = f" of process {process}" if len(passes.by_process) > 1 else ""
    return f"micro-batch {number + 1} of {len(passes.by_process[process])}{whose}"


def _unsound(request: TrainRequest, reader: Reader, visits: Sequence[Visit]) -> tuple[str, str] | None:
    """What of the data itself is not finite, and the file that it is from."""
    generated = request.losers or StageFolder(request.stage).samples(0).parent
    files = {"real latents": request.real, "generated latents": generated}
    for alike in by_size(visits, reader.pairs.shape_of):
        for name, values in reader.read(alike).data.items():
            if not values.isfinite().all():
                return name, str(files.get(name, request.text))
    return None


def _kept(step: int) -> str:
    return f"the state of step {step} is kept" if step else "there is no state yet"


def _advice(request: TrainRequest) -> str:
    precise = ", or execution.dtype=bfloat16" if request.dtype == "float16" else ""
    return f"start a new run (--set run.name=NAME) with a lower lr{precise}"
