"""Which GPUs of this machine workers sample on: a training that waits for their images must not hold one of them.

A worker of the pool that samples claims its GPUs, each by a shared file lock, for as long as it lives. A training that
overlaps with sampling asks for the same locks for itself: where it gets them nobody samples there, nor begins to while
it trains; where it does not, it holds no GPU before all images stand. A worker that comes back meanwhile waits for the
end of the training; if nobody else draws its images, `execution.overlap_minutes` ends that, as it ends waiting beside
workers that were started otherwise and claim nothing.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from tasks.devices import Card, lock_folder, nvidia_cards, visible_gpus

log = logging.getLogger(__name__)
_claimed: Final[list[int]] = []  # open files: closing one would give its claim up


def claim_for_sampling(names: Sequence[str]) -> None:
    """Claim GPUs until this process ends; where a training overlaps on one just now, when it is over."""
    for name in sorted(names):
        file = _opened(name)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("GPU %s trains on images that others sample; this worker waits for the end of that", name)
            fcntl.flock(file, fcntl.LOCK_SH)
        _claimed.append(file)


@contextmanager
def apart_from_sampling(device: str, *, listing: Callable[[], tuple[Card, ...]] = nvidia_cards) -> Iterator[bool]:
    """Whether no worker samples on the GPUs of this process; none begins to while the block runs.

    Args:
        device: on "cpu" nobody is in another's way.
    """
    if not device.startswith("cuda"):
        yield True
        return
    with ExitStack() as files:
        apart = all(_taken(name, files) for name in sorted(visible_gpus(listing)))
        if not apart:
            files.close()
        yield apart


def _taken(name: str, files: ExitStack) -> bool:
    file = _opened(name)
    files.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(name: str) -> int:
    path = lock_folder() / f"sampling-{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.lock"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
