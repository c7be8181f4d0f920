"""What is worth a retry, and what never is."""

from __future__ import annotations

import errno
from typing import Any, Final

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from spin.core.errors import SpinError

_PASSING: Final = frozenset({errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.ECONNRESET})
_DEVICE: Final = ("CUDA error", "NCCL", "cuDNN", "out of memory")


def worth_a_retry(error: BaseException) -> bool:
    """True for what can pass: transient I/O and device trouble; never for our own errors or a full disk."""
    if isinstance(error, SpinError):  # a commit's error line stands before the I/O trouble that caused it
        return isinstance(error.__cause__, OSError) and worth_a_retry(error.__cause__)
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _DEVICE)


async def transient(task: Any, task_run: Any, state: State[Any]) -> bool:  # noqa: ARG001, ANN401 Prefect's signature
    """Prefect's retry condition for every task of this project."""
    try:
        await state.aresult()
    except BaseException as error:
        return worth_a_retry(error)
    return False


# Every door's frame: nothing cached or persisted by Prefect, because truth is in the manifests.
DOOR: Final[dict[str, Any]] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [5, 30],
    "retry_condition_fn": transient,
}
