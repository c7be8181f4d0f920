"""What a runs root must be able to do, for the processes of one machine and for several machines that share it.

`python -m flows.doctor_root FOLDER` is the other process of the proof.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_SECONDS: Final = 60.0  # for a new process on a busy machine
_BYTES: Final = 1 << 20


def links(root: Path) -> str:
    """Hard link, fsync and read back: what a commit of an artifact needs."""
    with _folder(root) as folder:
        _put(folder / "first", b"spin")
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        if (folder / "first").read_bytes() != b"spin":
            raise RuntimeError(f"a linked file does not show its content on {root}")
    return f"{root.absolute()}: link, fsync and read back work"


def other_process(root: Path) -> str:
    """Another process sees what this one commits, takes neither its name nor its lock, and is seen in turn."""
    with _folder(root) as folder, (folder / "lock").open("w") as stream:
        content = os.urandom(_BYTES)
        _put(folder / "shown", content)
        fcntl.flock(stream, fcntl.LOCK_EX)
        command = [sys.executable, "-P", "-m", "flows.doctor_root", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode:
            raise RuntimeError(f"another process cannot work there: {(done.stderr.strip() or '?').splitlines()[-1]}")
        answer = json.loads((folder / "answer").read_bytes())
    if answer["digest"] != _digest(content):
        raise RuntimeError(f"another process reads other bytes than were written on {root}")
    for deed, wrong in (("name", "a name that is taken"), ("lock", "a lock that is held")):
        if answer[deed] != "refused":
            raise RuntimeError(f"another process was given {wrong} on {root}: two workers would undo each other's work")
    return "another process sees commits, and is refused a name that is taken and a lock that is held"


def machines(root: Path, host: str | None = None) -> str:
    """Leave a mark of this machine, read those of the others, and say which of them have read ours.

    Args:
        host: name of this machine; default, what it calls itself.
    """
    here = host or socket.gethostname()
    folder = root / ".doctor"
    folder.mkdir(parents=True, exist_ok=True)
    known = {path.stem: _mark(path) for path in sorted(folder.glob("*.json"))}
    mine = known.pop(here, None) or {"word": os.urandom(8).hex()}
    mine |= {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "seen": {name: mark["word"] for name, mark in known.items()}}
    _replace(folder / f"{here}.json", {**mine, "digest": _digest(_text(mine))})
    told = [f"{name} ({mark['at']} UTC) {_way(mark, here, mine['word'])}" for name, mark in known.items()]
    if not told:
        return (
            f"only {here} has left a mark; for several machines run `spin-diffusion doctor --root {root.absolute()}` "
            "on each, and then once more on the first"
        )
    return f"{here} sees the marks of {', '.join(told)}"


def _way(mark: dict[str, Any], here: str, word: str) -> str:
    return "and is seen there" if mark["seen"].get(here) == word else "(not seen there yet: run doctor there again)"


def _mark(path: Path) -> dict[str, Any]:
    try:
        mark: dict[str, Any] = json.loads(path.read_bytes())
        whole = mark.pop("digest") == _digest(_text(mark))
    except (ValueError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise RuntimeError(f"the mark of {path.stem} does not show here as it was written: {path}; delete it to retry")
    return mark


def _text(mark: dict[str, Any]) -> bytes:
    return json.dumps(mark, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _folder(root: Path) -> Iterator[Path]:
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".doctor-") as folder:
        yield Path(folder)


def _put(path: Path, content: bytes) -> None:
    """As an artifact is committed: the name must be free."""
    os.link(_draft(path, content), path)


def _replace(path: Path, mark: dict[str, Any]) -> None:
    _draft(path, _text(mark)).replace(path)


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.tmp-{socket.gethostname()}-{os.getpid()}")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return draft


def _answer(folder: Path) -> None:
    """The other process: look, try to take what is taken, and tell."""
    answer = {"digest": _digest((folder / "shown").read_bytes()), "name": "given", "lock": "given"}
    try:
        _put(folder / "shown", b"mine")
    except FileExistsError:
        answer["name"] = "refused"
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            answer["lock"] = "refused"
    _put(folder / "answer", _text(answer))


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
