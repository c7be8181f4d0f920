"""Every room runs out of memory once, by the allocator's own refusal, and says which setting to turn."""

from __future__ import annotations

import spin.diffusion.torchvision_guard  # noqa: F401  isort: skip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from spin.core.errors import MemoryShortage
from spin.core.layout import StageFolder
from spin.core.requests import to_json
from spin.evaluate.room import run as evaluate
from spin.prepare.request import PrepareRequest
from spin.sample.room import run as sample
from spin.train.room import run as train
from tests.evaluate.conftest import request_for
from tests.world import World

pytestmark = pytest.mark.system

SUPERVISED: dict[str, Any] = {"objective": "sft", "beta": 0.0, "sft_weight": 0.0}
MANY = 2048


@contextmanager
def little_memory(size_bytes: int) -> Iterator[None]:
    """No more address space than the process has now, and `size_bytes`.

    Without oneDNN: where it is the kernel of a convolution that finds no room, and not a tensor, oneDNN says only that
    it could not create a primitive, and makes no new one in this thread from then on.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    with torch.backends.mkldnn.flags(enabled=False):
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + size_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)


def shortage(run: Any, request: Any, size_bytes: int = 2**27) -> str:
    with little_memory(size_bytes), pytest.raises(MemoryShortage) as caught:
        run(request)
    return str(caught.value)


def test_training_names_its_passes(world: World, tmp_path: Path) -> None:
    settings = {**SUPERVISED, "batch_size": 2 * MANY, "micro_batch_size": MANY, "steps": 1}
    request = world.train_request(StageFolder(tmp_path / "sft"), settings=settings)
    assert shortage(train, request).startswith(f"out of memory with train.micro_batch_size={MANY}: ")
    assert (
        f"; set train.micro_batch_size={MANY // 2}, or train.gradient_checkpointing=true, or "
        "train.optimizer=adamw_8bit, in a new run (--set run.name=NAME)"
    ) in shortage(train, request)
    turned = replace(request.settings, micro_batch_size=1, gradient_checkpointing=True, optimizer="adamw_8bit")
    assert [knob.less for knob in replace(request, settings=turned).memory_knobs] == [None, None, None, 16]


def test_sampling_names_its_batch(world: World, tmp_path: Path) -> None:
    many = 8 * MANY  # earlier tests of the process may have kept as much as a batch of `MANY` takes
    stage = world.stage(tmp_path, batch_size=many)
    line = shortage(sample, world.sample_request(stage, batch_size=many))
    assert line.startswith(f"out of memory with sampling.batch_size={many}: ")
    assert f"; set sampling.batch_size={many // 2}, in a new run" in line
    assert not stage.samples(0).exists()


def test_evaluation_names_its_batch(world: World, tmp_path: Path) -> None:
    request = replace(request_for(world, tmp_path), batch_size=MANY)
    line = shortage(evaluate, request)
    assert f"out of memory with evaluation.batch_size={MANY}: " in line
    assert f"; set evaluation.batch_size={MANY // 2}, in a new run" in line


def preparing(world: World, folder: Path) -> PrepareRequest:
    return PrepareRequest(
        runs_root=folder, run="world", source="miniature", path=None, image_column="image", caption_column="text",
        target="winners", rows=24, held_out_share=0.1, max_bad_share=0.1, max_image_pixels=89_478_485,
        resolution=None, base=world.base, base_digest=world.base_digest, seed=0, device="cpu", threads=1,
    )  # fmt: skip


def test_preparing_on_a_device_can_turn_to_the_cpu(world: World, tmp_path: Path) -> None:
    assert [knob.less for knob in replace(preparing(world, tmp_path), device="cuda").memory_knobs] == ["cpu"]
    assert [knob.less for knob in preparing(world, tmp_path).memory_knobs] == [None]


OWN_PROCESS = """
import sys
import psutil, resource
import spin.{room}.{heaviest}
from spin.core.door import serve
from spin.{room}.__main__ import run
from spin.{room}.request import {request}
limit = psutil.Process().memory_info().vms + {size_bytes}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(serve({request}, run, sys.argv[1:]))
"""


def told_by(program: str, request: Any, folder: Path) -> dict[str, Any]:
    """The error of a room in a process of its own, which little memory is left to."""
    source = folder / "request.json"
    source.write_bytes(to_json(request))
    done = subprocess.run(
        [sys.executable, "-c", program, str(source), str(folder / "result.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},  # a thread's own arena takes as much
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (told,) = [json.loads(line) for line in done.stdout.splitlines() if '"error"' in line]
    assert told["error"] == "MemoryShortage"
    return dict(told)


@pytest.mark.slow
def test_preparing_has_nothing_to_turn_on_a_cpu(world: World, tmp_path: Path) -> None:
    """In a process of its own: another one may have kept as much from earlier work as encoding takes."""
    program = OWN_PROCESS.format(
        room="prepare", heaviest="encoding, spin.prepare.room", request="PrepareRequest", size_bytes=2**22
    )
    line = told_by(program, preparing(world, tmp_path), tmp_path)["message"]
    assert line.startswith("out of memory with execution.device=cpu: ")
    assert line.endswith("; take a larger device, or a smaller model")
    assert list(tmp_path.rglob("real.parquet*")) == []


@pytest.mark.slow
def test_a_room_in_its_own_process_ends_with_the_same_line_and_code_2(world: World, tmp_path: Path) -> None:
    settings = {**SUPERVISED, "batch_size": MANY, "micro_batch_size": MANY, "steps": 1}
    program = OWN_PROCESS.format(room="train", heaviest="room", request="TrainRequest", size_bytes=2**27)
    told = told_by(program, world.train_request(StageFolder(tmp_path / "sft"), settings=settings), tmp_path)
    assert told["message"].startswith(f"out of memory with train.micro_batch_size={MANY}: ")
