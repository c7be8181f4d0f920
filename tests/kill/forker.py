"""Imports torch once, then forks a child for every run that may be killed: `python forker.py`, JSON lines in and out.

A process of its own, so that no test before it has started threads: forking would then hang the child.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 pyarrow imports it at its first comparison: 1 s a child
import torch

from spin.core.layout import RunsRoot
from spin.core.planning import write_plan
from spin.core.requests import from_json
from spin.prepare.request import PrepareRequest
from spin.prepare.room import run as prepare
from spin.sample.request import SampleRequest
from spin.sample.room import run as sample
from spin.train.request import TrainRequest
from spin.train.room import run as train


def play(order: dict[str, Any]) -> dict[str, Any]:
    """What a run makes of iteration 1: plan, two shards, a checkpoint."""
    if "prepare" in order:
        result = prepare(from_json(PrepareRequest, Path(order["prepare"])))
        return {"prompts": str(result.prompts), "real": str(result.real)}
    stage = RunsRoot(Path(order["root"])).run("try").iteration(1)
    request = from_json(SampleRequest, Path(order["sample"]))
    training = from_json(TrainRequest, Path(order["train"]))
    training = dataclasses.replace(
        training, settings=dataclasses.replace(training.settings, steps=order.get("steps", training.settings.steps))
    )
    plan = write_plan(
        stage, prompts=training.prompts, reads=training.settings.steps * training.settings.batch_size, draws=1,
        shard_size=8, batch_size=8, run_seed=0, config_hash="c", code_version="1", parent_digest=training.start_digest,
    )  # fmt: skip
    request = dataclasses.replace(request, stage=stage.path, shards=tuple(range(plan.shards)))

    def tell(done: int, total: int, note: str = "") -> None:
        if done == order.get("kill_at_step"):
            end()

    made = sample(request).made
    trained = train(dataclasses.replace(training, stage=stage.path), progress=tell)
    return {"made": list(made), "steps": trained.steps}


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch(order: dict[str, Any], events: list[tuple[str, str]]) -> None:
    """Note every step of the store, and kill at the `kill` = [point, artifact, n-th time]."""
    wanted = order.get("kill")
    left = wanted[2] if wanted else 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event != "spin.store":
            return
        point, artifact = arguments[0], Path(arguments[1]).relative_to(order["root"]).as_posix()
        events.append((point, artifact))
        if wanted and point == wanted[0] and artifact.endswith(wanted[1]):
            left -= 1
            if left == 0:
                end()

    sys.addaudithook(hook)


def in_child(order: dict[str, Any], answer: int) -> None:
    events: list[tuple[str, str]] = []
    if "root" in order:
        watch(order, events)
    try:
        said = {**play(order), "events": events}
    except BaseException:
        said = {"error": traceback.format_exc()}
    os.write(answer, json.dumps(said).encode())
    os._exit(0)


def fork(order: dict[str, Any]) -> dict[str, Any]:
    """Run an order in a child; how it ended and what it said."""
    reading, writing = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(reading)
        in_child(order, writing)
    os.close(writing)
    if "kill_after_seconds" in order:
        time.sleep(order["kill_after_seconds"])
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    answer = json.loads(said) if said else {}
    return {"code": code, "seconds": time.monotonic() - start, **answer}


def main() -> None:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(fork(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
