"""Opens a room: here, or in a process group of its own, where a crash ends the child and never the flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from spin.core.config_execution import ExecutionConfig
from spin.core.errors import ConfigError
from spin.core.progress import Progress, silent
from spin.diffusion.attention import refuse_missing_kernel
from tasks.devices import UNLISTED, lock_files, owned
from tasks.rooms import InlineRoom, ResidentRoom, Room, SharedRoom, program

__all__ = ["Room", "card_memory", "card_name", "device_of", "find_device", "launch", "open_room"]

Result = TypeVar("Result")


@contextmanager
def open_room(room: str, *, inline: bool, device: str = "cpu", processes: int = 1) -> Iterator[Room]:
    """A room that may be asked while the block runs; on CUDA its GPU is owned for as long.

    Args:
        room: prepare, sample, train, evaluate or report.
        inline: in this process; else as `python -m spin.<room>`, started at the first request.
        device: cpu or cuda; training owns all GPUs of this process, the other rooms the first.
        processes: more than 1 are always processes of their own, and new ones for each request.
    """
    needed = "cpu" if room == "report" else device
    with owned(needed, count=None if room == "train" else 1) as gpus:
        opened = _room(room, inline, gpus, processes)
        try:
            yield opened
        finally:
            opened.close()


def launch(room: str, request: object, result: type[Result], *, inline: bool, progress: Progress = silent) -> Result:
    """Run `spin.<room>` on one request."""
    device, processes = getattr(request, "device", "cpu"), getattr(request, "processes", 1)
    with open_room(room, inline=inline, device=device, processes=processes) as opened:
        return opened.ask(request, result, progress)


def _room(room: str, inline: bool, gpus: tuple[str, ...], processes: int) -> Room:
    if inline and processes == 1:
        return InlineRoom(room)
    shown = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus and UNLISTED not in gpus else {}
    start = program(room, environment=shown, files=lock_files(gpus))
    return ResidentRoom(f"spin.{room}", start) if processes == 1 else SharedRoom(f"spin.{room}", start, processes)


def device_of(execution: ExecutionConfig) -> str:
    """Device of a process that orders work: with the executor `workers` it computes nothing, and needs no GPU."""
    if execution.executor == "workers":
        return "cpu"
    device = find_device(execution.device)
    refuse_missing_kernel(execution.attention, device=device, dtype=execution.dtype)
    return device


def find_device(wanted: str) -> str:
    """cpu or cuda; `auto` takes CUDA where there is one."""
    if wanted == "cpu":
        return "cpu"
    import torch  # here, because only running flows pay for it

    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ConfigError("no CUDA device here", where="execution.device", fix="set it to auto or cpu")
    return "cuda" if has_cuda else "cpu"


def card_memory() -> tuple[str, int] | None:
    """Name of the first GPU here, and its bytes of memory; None where there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory


def card_name() -> str:
    """The card that a room of this process works on, as rooms name it; unknown where it could be one of several."""
    import torch

    names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    return names.pop() if len(names) == 1 else "unknown"
