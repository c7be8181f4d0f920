"""Memory that ran out: one line that tells the setting to turn, by how much, and how full the device is.

No torch is imported here; where it is loaded it is asked.
"""

from __future__ import annotations

import errno
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from spin.core.errors import MemoryShortage

# Of CUDA, torch's allocator of a CPU, a mapped file, C++, and cuBLAS.
_SIGNS: Final = (
    "out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip
_TURNS: Final = 3  # settings in an error line
_OTHERS: Final = 0.05  # share of a device that is worth naming when other processes hold it
_CGROUP: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Knob:
    """A setting that takes less memory when it is turned."""

    key: str
    value: object
    less: object = None  # what to set it to; None where it is at its end


def halved(key: str, value: int) -> Knob:
    """A count that can be halved until it is 1."""
    return Knob(key, value, value // 2 or None)


def switched(key: str, value: object, to: object) -> Knob:
    """A choice of which one takes the least."""
    return Knob(key, value, None if value == to else to)


def advice(knobs: Sequence[Knob]) -> str:
    """`set train.micro_batch_size=4, or execution.shard=full`; empty where all are at their end."""
    turns = [knob for knob in knobs if knob.less is not None][:_TURNS]
    if not turns:
        return ""
    words = ", or ".join(f"{knob.key}={_word(knob.less)}" for knob in turns)
    other = any(not knob.key.startswith("execution.") for knob in turns)  # those may change in a run that stands
    return f"set {words}{', in a new run (--set run.name=NAME)' if other else ''}"


@contextmanager
def explaining_shortage(knobs: Sequence[Knob], *, device: str) -> Iterator[None]:
    """Turn what torch, numpy or Python raise for want of memory into a MemoryShortage.

    Args:
        knobs: the first is what the work that fails goes by, and is named with its value.
        device: cpu, or cuda.
    """
    try:
        yield
    except Exception as error:
        if not comes_of_shortage(error):
            raise
        asked = f" with {knobs[0].key}={_word(knobs[0].value)}" if knobs else ""
        fix = advice(knobs) or "take a larger device, or a smaller model"
        raise MemoryShortage(f"out of memory{asked}: {_usage(device)}", fix=fix) from error


def in_use(device: str) -> tuple[int, int]:
    """Bytes in use and in all, of the device, or of the least that this process may take of a machine."""
    used, total, _ = _cuda() if device.startswith("cuda") else _cpu()
    return used, total


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    told = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    return told or isinstance(error, MemoryError)


def comes_of_shortage(error: BaseException) -> bool:
    """Whether memory ran out, in an error or in one behind it."""
    return any(map(is_shortage, _behind(error)))


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised about: a library's own says that a file cannot be read, and means memory."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _usage(device: str) -> str:
    used, total, others = _cuda() if device.startswith("cuda") else _cpu()
    if not total:
        return f"the {device} device does not even tell how full it is"
    text = f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB in use"
    return f"{text}, {others / 2**30:.1f} GiB of it by other processes" if others > _OTHERS * total else text


def _cuda() -> tuple[int, int, int]:
    """Bytes in use, in all, and in the hands of other processes."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0, 0, 0
    try:
        free, total = torch.cuda.mem_get_info()
        return total - free, total, max(0, total - free - torch.cuda.memory_reserved())
    except RuntimeError:  # a device so full that it does not answer
        return 0, 0, 0


def _cpu() -> tuple[int, int, int]:
    """The same of this process's limit, of its container's, or of the machine: whichever is the least."""
    own = psutil.Process().memory_info()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    whole = psutil.virtual_memory()
    found = [(whole.total - whole.available, whole.total, whole.total - whole.available - own.rss)]
    if limit != resource.RLIM_INFINITY:
        found.append((own.vms, limit, 0))
    if contained := _container():
        found.append((contained[0], contained[1], contained[0] - own.rss))
    return min(found, key=lambda place: place[1])


def _container() -> tuple[int, int] | None:
    """Bytes in use and in all of this cgroup; None where it has no limit."""
    try:
        used, limit = ((_CGROUP / name).read_text("ascii").strip() for name in ("memory.current", "memory.max"))
    except (OSError, ValueError):
        return None
    return (int(used), int(limit)) if limit.isdecimal() else None
