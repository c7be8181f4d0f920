"""Who owns which GPU of this machine: one file lock per card, gone with the process that holds it.

The folder of the locks is the same for every process of this user, whatever its environment: a worker started by
systemd and one started in a shell exclude each other. Containers that share cards share a folder by
SPIN_DIFFUSION_LOCKS. One process holds a card once, however often it asks: a room's lock is also its flow's.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from spin.core.errors import ConfigError

UNLISTED: Final = "unlisted"  # the one lock of a machine whose cards nobody names
_LOOK_SECONDS: Final = 0.2
_REMIND_SECONDS: Final = 60.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """A GPU as nvidia-smi names it."""

    index: str
    uuid: str


@dataclass
class _Lock:
    file: int
    folder: int  # locked for sharing: systemd-tmpfiles, which clears /tmp of old files, passes locked folders by
    holders: int = 1


_held: dict[str, _Lock] = {}
_guard = threading.Lock()


def nvidia_cards() -> tuple[Card, ...]:
    """The GPUs of this machine; none where nvidia-smi is not there or does not answer."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = (line.split(",") for line in found.stdout.splitlines())
    return tuple(Card(row[0].strip(), row[1].strip()) for row in rows if len(row) == 2)


def visible_gpus(listing: Callable[[], tuple[Card, ...]] = nvidia_cards) -> tuple[str, ...]:
    """The GPUs that this process may use, in CUDA's order; one name per card, by index or by UUID alike."""
    cards, allowed = listing(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return tuple(card.uuid for card in cards) or (UNLISTED,)
    words = takewhile(lambda word: word not in ("", "-1"), map(str.strip, allowed.split(",")))  # CUDA stops there too
    names = tuple(dict.fromkeys(_name(word, cards) for word in words))
    if not names:
        raise ConfigError("shows no GPU", where="CUDA_VISIBLE_DEVICES", fix="unset it, or set execution.device to cpu")
    return names


@contextmanager
def owned(
    device: str, *, count: int | None = 1, listing: Callable[[], tuple[Card, ...]] = nvidia_cards
) -> Iterator[tuple[str, ...]]:
    """Own GPUs of this process while the block runs; their names, as CUDA_VISIBLE_DEVICES takes them.

    Args:
        device: nothing is locked for "cpu".
        count: how many, from the first; None for all that this process may use.
    """
    if not device.startswith("cuda"):
        yield ()
        return
    names = visible_gpus(listing)[:count]
    with ExitStack() as locks:
        for name in sorted(names):  # one order for everybody: no two wait for each other
            locks.enter_context(_locked(name))
        yield names


def lock_files(names: tuple[str, ...]) -> tuple[int, ...]:
    """Open files of held locks: a child that inherits them keeps the card owned until it, too, has ended."""
    with _guard:
        return tuple(_held[name].file for name in names)


def lock_folder() -> Path:
    """The folder of the locks, this user's own."""
    folder = Path(os.environ.get("SPIN_DIFFUSION_LOCKS") or f"/tmp/spin-diffusion-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise ConfigError("is not a folder of this user", where=str(folder), fix="set SPIN_DIFFUSION_LOCKS")
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"cannot be used: {error.strerror}", where=str(folder), fix="set SPIN_DIFFUSION_LOCKS"
        ) from error
    return folder


def _name(word: str, cards: tuple[Card, ...]) -> str:
    """One name per card: its UUID, of which CUDA also takes the beginning; MIG ids are names already."""
    same = [card.uuid for card in cards if word == card.index or (word[:4] == "GPU-" and card.uuid.startswith(word))]
    return same[0] if len(same) == 1 else word


@contextmanager
def _locked(name: str) -> Iterator[None]:
    path = lock_folder() / f"gpu-{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.lock"
    start = told = time.monotonic()
    while not _take(name, path):
        now = time.monotonic()
        if told == start or now - told >= _REMIND_SECONDS:
            log.warning("waiting for GPU %s, held by pid %s", name, _holder(path))
            told = now
        time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        _release(name)


def _take(name: str, path: Path) -> bool:
    """One try to own a card; at once where this process owns it already."""
    with _guard:
        if name in _held:
            _held[name].holders += 1
            return True
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(folder, fcntl.LOCK_SH)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            os.close(folder)
            return False
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        _held[name] = _Lock(file, folder)
        return True


def _release(name: str) -> None:
    with _guard:
        lock = _held[name]
        lock.holders -= 1
        if lock.holders == 0:
            del _held[name]
            fcntl.flock(lock.file, fcntl.LOCK_UN)  # closing alone would leave it to a child that inherited it
            os.close(lock.file)
            os.close(lock.folder)


def _holder(path: Path) -> str:
    try:
        return path.read_text("ascii") or "unknown"
    except (OSError, ValueError):
        return "unknown"
