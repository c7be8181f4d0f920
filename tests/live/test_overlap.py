"""Stages that overlap, on a live server with two slots for GPU work: the same weights, begun before the last image."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from spin.core.layout import RunFolder, RunsRoot, StageFolder, manifest_path
from spin.core.record import read_record
from spin.core.store import Manifest, read_manifest
from tests.live.processes import processes_of
from tests.live.serving import SCRIPT, TINY, Server, environment, serving, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SHARDS = 6  # of 4 images each; a step reads 8 pairs: two shards
# Enough solver steps for a test to look between two shards.
SETTINGS = ("iterations=2", "sampling.shard_size=4", "sampling.num_inference_steps=200")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("overlap") / "runs", slots=2) as found:
        yield found


@pytest.fixture(scope="module")
def over(server: Server) -> str:
    """A run of two rounds. Sampling of the first is held until a step of its training is over."""
    run = server.play("over", *SETTINGS, "execution.overlap=true")
    stage = folder_of(server, "over").iteration(1)
    wait(lambda: all(manifest_path(stage.samples(shard)).exists() for shard in (0, 1)), 300)
    held = processes_of(*(child["id"] for child in server.children(name="sample k=1")))
    try:
        for process in held:
            process.send_signal(signal.SIGSTOP)
        assert not manifest_path(stage.samples(SHARDS - 1)).exists()
        wait(lambda: steps_told(stage) >= 1, 300, lambda: str(server.children(name="train k=1")))
        assert not manifest_path(stage.samples(SHARDS - 1)).exists()
    finally:
        for process in held:
            process.send_signal(signal.SIGCONT)
    ended = server.ended(run)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    return run


def folder_of(server: Server, run: str) -> RunFolder:
    return RunsRoot(server.root).run(run)


def steps_told(stage: StageFolder) -> int:
    """Optimizer steps that the training has told its tracker of."""
    path = stage.trackers / "followed.json"
    return int(json.loads(path.read_text())["steps"].get("tensorboard", -1)) if path.exists() else -1


def manifest(server: Server, run: str, number: int) -> Manifest:
    found = read_manifest(folder_of(server, run).iteration(number).checkpoint(3))
    assert found is not None
    return found


def test_training_began_before_the_last_image_was_drawn(server: Server, over: str) -> None:
    assert manifest(server, "over", 1).environment["overlapped_steps"] >= 1
    # data 8 scored, base and both models 8 made and scored; 24 opponent images a round
    assert server.run(over)["state"]["message"] == "72 images sampled, 6 optimizer steps, 32 images scored"


def test_a_model_is_scored_while_the_next_is_made(server: Server, over: str) -> None:
    found = {run["name"]: run for run in server.children() if {"over", "attempt 1"} <= set(run["tags"])}
    rounds = [name for name in found if "SPIN" in name or "k=" in name]
    assert rounds.index("evaluate SPIN 1 shard 00/02") > rounds.index("train k=2") > rounds.index("train k=1")
    first, second = found["sample k=2 shards 00,02,04/06"], found["evaluate SPIN 1 shard 00/02"]
    assert first["created"] < second["created"] < found["train k=2"]["end_time"]
    assert {run["state_type"] for run in found.values()} == {"COMPLETED"}


def test_each_worker_loads_the_opponent_once(server: Server, over: str) -> None:
    children = server.children(name="sample k=")
    assert len(children) == 4  # two rounds, two workers
    loads = [len(re.findall(r", opponent loaded$", server.logs(child["id"]), re.MULTILINE)) for child in children]
    assert loads == [1, 1, 1, 1]


def test_one_thing_after_the_other_makes_the_same_run(server: Server, over: str) -> None:
    settings = (f"run.root={server.root}", "run.name=alone", *TINY, *SETTINGS)
    command = [str(SCRIPT), "run", "miniature", *(word for text in settings for word in ("--set", text))]
    done = subprocess.run(
        command, env=environment(server.fault), capture_output=True, text=True, timeout=900, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for number in (1, 2):
        one, other = (manifest(server, run, number) for run in ("over", "alone"))
        assert (one.content_digest, one.identity) == (other.content_digest, other.identity)
        logs = [folder_of(server, run).iteration(number).training_log.read_bytes() for run in ("over", "alone")]
        assert logs[0] == logs[1]
    assert noted(server, "over") == noted(server, "alone")


def noted(server: Server, run: str) -> dict[str, Any]:
    """What the record says of the run's work, in its order, without what it took."""
    record = read_record(folder_of(server, run))
    kept = {name: record[name] for name in ("stages", "rounds", "data_digest", "prompts")}
    kept["spent"] = [(row["stage"], row["task"], row["images"]) for row in record["stage_seconds"]]
    found: dict[str, Any] = json.loads(json.dumps(kept).replace(f'"{run}/', '"RUN/'))
    return found
