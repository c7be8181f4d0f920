"""One shard again, in all ways: exactly its images, to the bytes of an undisturbed run; no other file is touched."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from spin.core.store import discard
from tests.live.serving import SCRIPT, Server, environment
from tests.live.shards import SHARDS, Seen, look, sampled, stage_of

Files = dict[int, Seen]


def sampling_child(server: Server, run: str, name: str, attempt: int = 1) -> dict[str, Any]:
    """The child flow run of `run` with this name, at this attempt."""
    (found,) = (c for c in server.children(name=name) if {run, f"attempt {attempt}"} <= set(c["tags"]))
    return found


def assert_made_again(before: Files, after: Files, shard: int) -> None:
    """The remade file has the bytes of before; the others are the same files."""
    assert after[shard] != before[shard]
    assert after[shard].sha256 == before[shard].sha256
    assert {other: seen for other, seen in after.items() if other != shard} == {
        other: seen for other, seen in before.items() if other != shard
    }


def test_retry_on_a_completed_child_makes_exactly_what_is_missing(server: Server, live: str) -> None:
    stage, child = stage_of(server.root, "live"), sampling_child(server, "live", "sample k=1 shards 00-02/03")
    before = look(stage)
    discard(stage.samples(1))
    assert server.retry(child["id"])["state"]["message"] == "8 images sampled"
    assert_made_again(before, look(stage), 1)
    executions = server.run(child["id"])["run_count"]
    assert sampled(server, child["id"], SHARDS * executions) == {0: 8, 1: 16, 2: 8}


@pytest.mark.slow
def test_retry_on_a_completed_child_makes_nothing_where_all_stands(server: Server, live: str) -> None:
    stage, child = stage_of(server.root, "live"), sampling_child(server, "live", "sample k=1 shards 00-02/03")
    before = look(stage)
    for force in (True, False):  # as the newer and the older UI send it
        assert server.retry(child["id"], force=force)["state"]["message"] == "0 images sampled"
    assert look(stage) == before
    # pressed while the last process is still ending, it would take Prefect's own worker down
    assert "starting it again" not in (server.root.parent / "serve.log").read_text()


@pytest.mark.slow
def test_run_of_sample_shard_makes_exactly_that_shard(server: Server, live: str) -> None:
    stage = stage_of(server.root, "live")
    before = look(stage)
    stage.samples(2).unlink()  # its manifest stays: a file without one, or one without a file, does not exist
    run = server.start("sample-shard/gpu", run="live", iteration=1, shard=2)
    ended = server.ended(run)
    assert (ended["name"], ended["state"]["message"]) == ("sample live k=1 shard 2", "8 images sampled")
    assert {"live", "k=1"} <= set(ended["tags"])
    assert sampled(server, run, 1) == {2: 8}
    assert_made_again(before, look(stage), 2)
    run = server.start("sample-shard/gpu", run="live", iteration=1, shard=2, check_images=3)
    assert server.ended(run)["state"]["message"] == "0 images sampled; 0 of 3 checked images differ"


@pytest.mark.slow
def test_retry_on_a_completed_parent_repairs(server: Server, live: str) -> None:
    """The child carries the one shard and nothing else."""
    stage = stage_of(server.root, "live")
    before, known = look(stage), {run["id"] for run in server.children()}
    whole = stage.samples(0).read_bytes()
    stage.samples(0).write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])  # one bit: only a hash tells
    assert server.retry(live)["state"]["message"] == "8 images sampled, 0 optimizer steps, 0 images scored"
    new = [run for run in server.children() if run["id"] not in known and run["deployment_id"] and run["start_time"]]
    assert [(run["name"], run["parameters"]["shards"]) for run in new] == [("sample k=1 shard 00/03", [0])]
    assert sampled(server, new[0]["id"], 1) == {0: 8}
    assert_made_again(before, look(stage), 0)


@pytest.mark.slow
def test_a_shard_that_fails_is_named_with_both_ways_out(server: Server, live: str, tmp_path: Path) -> None:
    """Batches of two; shard 1 cannot be written, and a full disk is not tried twice. Then both buttons."""
    stage, undisturbed = stage_of(server.root, "broken"), look(stage_of(server.root, "live"))
    server.fault.write_text("broken/iteration-01/samples/shard-00001")
    try:
        parent = server.play("broken", "execution.shards_per_child=2", "train.steps=400", "train.state_every_steps=400")
        failed = server.ended(parent)
    finally:
        server.fault.unlink()
    first = sampling_child(server, "broken", "sample k=1 shards 00-01/03")
    other = sampling_child(server, "broken", "sample k=1 shard 02/03")
    assert [child["state_type"] for child in (first, other)] == ["FAILED", "COMPLETED"]
    assert not [run for run in server.children() if {"broken", "attempt 2"} <= set(run["tags"])]
    assert sampled(server, first["id"], 1) == {0: 8}
    whole = look(stage)
    assert {shard: seen.sha256 for shard, seen in whole.items()} == {
        shard: undisturbed[shard].sha256 for shard in (0, 2)
    }
    command = f"spin-diffusion sample-shard broken 1 1 --root {server.root}"
    line = failed["state"]["message"]
    assert (failed["state_type"], line.count("\n")) == ("FAILED", 0)
    assert "missing after 1 attempt: sample k=1 shards 00-01/03: shard 1; cause: Failed: " in line
    assert "cannot write: No space left on device" in line
    page = f"{server.address}/runs/flow-run/{first['id']}"
    assert f"press Retry on 'sample k=1 shards 00-01/03' ({page}) and then on this run, or call: {command}" in line
    assert_command_works(command, server, tmp_path, undisturbed)

    assert server.retry(first["id"], force=False)["state"]["message"] == "8 images sampled"
    assert sampled(server, first["id"], 3) == {0: 8, 1: 8}
    repaired = look(stage)
    assert {shard: repaired[shard] for shard in (0, 2)} == whole
    assert repaired[1].sha256 == undisturbed[1].sha256
    known = {run["id"] for run in server.children()}
    assert server.retry(parent)["state"]["message"] == "8 images sampled, 400 optimizer steps, 8 images scored"
    new = [run["name"] for run in server.children() if run["id"] not in known and run["deployment_id"]]
    assert [name for name in new if name.startswith("sample")] == []
    assert "train k=1" in new
    assert look(stage) == repaired
    bars = server.post("/artifacts/filter", {"artifacts": {"type": {"any_": ["progress"]}}})
    assert [bar["data"] for bar in bars if bar["description"] == "train k=1"] == [100.0]  # it took long enough for one


def assert_command_works(command: str, server: Server, folder: Path, undisturbed: Files) -> None:
    """The command of the message, on a copy of the runs root that no server serves."""
    root = folder / "runs"
    shutil.copytree(server.root, root, ignore=shutil.ignore_patterns(".prefect"), copy_function=os.link)
    words = shlex.split(command.replace(str(server.root), str(root)))
    before = look(stage_of(root, "broken"))
    done = subprocess.run(
        [str(SCRIPT), *words[1:], "--verify", "3"],
        env=environment(server.fault), capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"\d+ images sampled|0 of 3 images differ", done.stdout) == [
        "8 images sampled", "0 of 3 images differ",
    ]  # fmt: skip
    after = look(stage_of(root, "broken"))
    assert after[1].sha256 == undisturbed[1].sha256
    assert {shard: after[shard] for shard in (0, 2)} == before
