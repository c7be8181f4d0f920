"""Runs a room here, or in a process group of its own: a crash there ends the child, never the flow."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from spin.core import errors
from spin.core.progress import Progress, silent
from spin.core.requests import from_json, to_json

Result = TypeVar("Result")


def launch(room: str, request: object, result: type[Result], *, inline: bool, progress: Progress = silent) -> Result:
    """Run `spin.<room>` on `request`.

    Args:
        room: prepare, sample, train, evaluate or report.
        result: type of the room's answer.
        inline: in this process; else as `python -m spin.<room>`.
    """
    if inline:
        answer = importlib.import_module(f"spin.{room}.room").run(request, progress=progress)
        assert isinstance(answer, result)
        return answer
    with tempfile.TemporaryDirectory(prefix=f"spin-{room}-") as folder:
        source, target = Path(folder) / "request.json", Path(folder) / "result.json"
        source.write_bytes(to_json(request))
        _run_process([sys.executable, "-P", "-m", f"spin.{room}", str(source), str(target)], progress)
        return from_json(result, target)


def _run_process(command: list[str], progress: Progress) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            assert child.stdout is not None
            failure = _listen(child.stdout, progress)
            code = child.wait()
        except BaseException:  # a cancel or Ctrl-C must not leave an orphan on the device
            _end(child)
            raise
    if failure is not None:
        raise failure
    if code:
        raise RuntimeError(f"{' '.join(command[1:3])} ended with {_reason(code)}")


def _listen(stream: Any, progress: Progress) -> Exception | None:  # noqa: ANN401 Popen's stream
    failure: Exception | None = None
    for line in stream:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):  # a library's own line
            sys.stderr.write(line)
        elif "error" in message:
            failure = getattr(errors, message["error"])(message["message"])
        else:
            progress(message["done"], message["total"], message["note"])
    return failure


def _end(child: subprocess.Popen[str]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
            child.wait(timeout=5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _reason(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def find_device(wanted: str) -> str:
    """cpu or cuda; `auto` takes CUDA where there is one."""
    import torch  # here, because only running flows pay for it

    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise errors.ConfigError("no CUDA device here", where="execution.device", fix="set it to auto or cpu")
    return "cuda" if has_cuda and wanted != "cpu" else "cpu"
