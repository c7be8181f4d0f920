"""The processes that train one stage together, and the few things they tell each other.

torchrun starts them and names each in its environment (RANK, LOCAL_RANK, WORLD_SIZE); a process that was
started otherwise is alone. All hold the same weights and take the same steps; each reads its share of the
batch. Gradients travel over NCCL between GPUs and over gloo between CPUs; small words always over gloo.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from spin.core.environment import bit_class
from spin.core.errors import ConfigError, SpinError
from spin.train.batches import batch_shape
from spin.train.identity import steps_class
from spin.train.request import TrainRequest

Answer = TypeVar("Answer")

# The others wait while the first writes; a process that dies is torchrun's to notice, which ends them at once.
# SDXL's state with an average: 2.6e9 parameters x 4 tensors x 4 bytes = 41 GB, 7 minutes at 100 MB/s.
_PATIENCE: Final = timedelta(minutes=20)
_BUCKET_BYTES: Final = 64 * 2**20  # of gradients in one message: few messages, little memory beside the gradients


@dataclass(frozen=True)
class _Failed:
    """What the first process met; the cause decides about a retry, and is lost where only the error travels."""

    error: SpinError
    cause: OSError | None


@dataclass(frozen=True)
class Processes:
    """This process among those that train the stage; alone where `count` is 1, and then nothing is sent."""

    device: str  # this process's own
    rank: int = 0
    count: int = 1

    def once(self, work: Callable[[], Answer]) -> Answer:
        """Do `work` in the first process only, the others waiting; its answer, or its SpinError, is everybody's."""
        if self.count == 1:
            return work()
        said: list[Any] = [None]
        if self.rank == 0:
            try:
                said[0] = work()
            except SpinError as error:
                said[0] = _Failed(error, error.__cause__ if isinstance(error.__cause__, OSError) else None)
        dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        if isinstance(said[0], _Failed):
            raise said[0].error from said[0].cause
        answer: Answer = said[0]
        return answer

    def join(self, values: Tensor) -> Tensor:
        """(K, share) values of every process, one behind the other: (K, batch), the same on all."""
        if self.count == 1:
            return values
        found = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(found, values)
        return torch.cat(found, dim=1)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes: the same bits on all of them.

        A gradient that the processes divide was added up when it was divided.
        """
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
        for bucket in buckets(gradients, size_bytes=_BUCKET_BYTES):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, total in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(total.view_as(gradient))


@contextmanager
def joined(count: int, *, device: str) -> Iterator[Processes]:
    """Meet the other `count - 1` processes; on CUDA each has the device of its local rank.

    A group is also made for one process under torchrun: accelerate would make its own there and keep it.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    launched = "LOCAL_RANK" in os.environ
    if world != count or (world > 1 and not launched):
        raise ConfigError(
            f"training asks for {count} processes, WORLD_SIZE is {world}{'' if launched else ' without a LOCAL_RANK'}",
            where="execution.train_processes",
            fix=f"start the room by torchrun --nproc-per-node {count}" if count > 1 else "unset WORLD_SIZE",
        )
    if not launched:
        yield Processes(device)
        return
    own = _own_device(device)
    dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl", timeout=_PATIENCE)
    yield Processes(own, dist.get_rank(), world)
    dist.destroy_process_group()  # after an error never: it waits for processes that may be gone


def class_of(request: TrainRequest) -> dict[str, object]:
    """The class within which what these processes train has equal bits."""
    place = bit_class(
        device=request.device if request.device == "cpu" else f"{request.device} {torch.cuda.get_device_name()}",
        dtype=request.dtype,
        batch_size=batch_shape(request).micro_batch_size,
        threads=request.threads,
        compiled=request.settings.compile,
        attention=request.attention,
    )
    return {**place, **steps_class(request), "processes": request.processes}


def buckets(tensors: Sequence[Tensor], *, size_bytes: int) -> Iterator[list[Tensor]]:
    """Neighbours together as long as they stay within `size_bytes`; a larger tensor is alone."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.nbytes for t in [*bucket, tensor]) > size_bytes:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _own_device(device: str) -> str:
    if device == "cpu":
        return device
    here, wanted = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    if wanted > here:
        raise ConfigError(
            f"{wanted} processes are to train on {here} GPUs",
            where="execution.train_processes",
            fix="set it to null for one on each GPU, or execution.device to cpu",
        )
    own = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(own)
    return own
