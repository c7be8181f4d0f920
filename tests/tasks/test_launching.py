"""A room in a process of its own gives what it gives inline; its errors and its end are told."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from spin.core.errors import DataError
from spin.prepare.request import PrepareRequest, PrepareResult
from tasks import launching
from tasks.launching import find_device, launch


@pytest.fixture
def request_of(tmp_path: Path) -> PrepareRequest:
    from spin.miniature.pipeline import packaged_pipeline_path

    return PrepareRequest(
        runs_root=tmp_path, run="tiny", source="miniature", path=None, image_column="image", caption_column="text",
        target="winners", rows=8, held_out_share=0.1, max_bad_share=0.1, max_image_pixels=10**8, resolution=None,
        base=packaged_pipeline_path(), base_digest="0" * 64, seed=0, device="cpu", threads=1,
    )  # fmt: skip


def test_a_process_gives_the_same_result_as_inline_and_tells_progress(request_of: PrepareRequest) -> None:
    told: list[tuple[int, int]] = []
    made = launch(
        "prepare", request_of, PrepareResult, inline=False, progress=lambda d, t, note="": told.append((d, t))
    )
    stood = launch("prepare", request_of, PrepareResult, inline=True)
    assert made.rows == stood.rows == {"train": 8, "validation": 128, "test": 256}
    assert (made.encoded, stood.encoded) == (392, 0)
    assert told[-1] == (392, 392)


def test_an_error_of_the_child_is_raised_with_its_kind_and_line(request_of: PrepareRequest) -> None:
    missing = dataclasses.replace(request_of, source="imagefolder", path=Path("/nowhere/pictures"))
    with pytest.raises(DataError, match="/nowhere/pictures"):
        launch("prepare", missing, PrepareResult, inline=False)


def test_a_killed_child_is_named_with_its_signal() -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with pytest.raises(RuntimeError, match="SIGKILL"):
        launching._run_process(command, lambda *_, **__: None)


def test_an_interrupt_ends_the_whole_process_group(tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    program = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )

    def interrupt() -> None:
        while not note.exists() or not note.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    # a shell's background job starts with SIGINT ignored; a flow on a terminal does not
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        launching._run_process([sys.executable, "-c", program], lambda *_, **__: None)
    signal.signal(signal.SIGINT, before)
    grandchild = int(note.read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(grandchild) and psutil.Process(grandchild).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_auto_takes_the_cpu_where_there_is_no_gpu() -> None:
    import torch

    assert find_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == "cpu"
