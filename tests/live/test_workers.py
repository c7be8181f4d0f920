"""A whole run whose work is done by child flow runs, on a live server with exactly one slot for GPU work."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise

from spin.core.layout import RunsRoot
from spin.core.store import read_manifest
from tests.live.serving import SCRIPT, TINY, Server, environment
from tests.live.shards import SHARDS, look, stage_of


def test_a_whole_run_ends_with_one_gpu_slot(server: Server, live: str) -> None:
    assert server.run(live)["state"]["type"] == "COMPLETED", server.run(live)["state"]["message"]
    # data 8 scored, base and SPIN 1 8 made and scored; 24 opponent images
    assert server.run(live)["state"]["message"] == "40 images sampled, 3 optimizer steps, 24 images scored"
    workers = server.post("/work_pools/spin-gpu/workers/filter")
    assert len(workers) == 1
    on_gpu = [run for run in children(server) if run["work_pool_name"] == "spin-gpu"]
    spans = sorted((run["start_time"], run["end_time"]) for run in on_gpu)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_children_have_readable_names_tags_and_a_batch_each(server: Server, live: str) -> None:
    found = {run["name"]: run for run in children(server)}
    assert list(found) == [
        "prepare data", "evaluate data shards 00-01/02", "evaluate base shards 00-01/02", "sample k=1 shards 00-02/03",
        "train k=1", "evaluate SPIN 1 shards 00-01/02",
    ]  # fmt: skip
    assert {run["state_type"] for run in found.values()} == {"COMPLETED"}
    assert server.run(live)["name"] == "live"
    assert set(server.run(live)["tags"]) == {"spin-diffusion", "live"}
    sample = found["sample k=1 shards 00-02/03"]
    assert set(sample["tags"]) == {"spin-diffusion", "live", "k=1", "attempt 1"}
    assert sample["state"]["message"] == "24 images sampled"
    assert server.tasks(sample["id"]) == [f"sample k=1 shard {shard:02d}/{SHARDS:02d}" for shard in range(SHARDS)]
    told = re.findall(r"^k=1 shard .*: 8 images in .* s(, opponent loaded)?$", server.logs(sample["id"]), re.MULTILINE)
    assert told == [", opponent loaded", "", ""]
    # Prefect would give the entries of child runs in their parent a made-up name
    assert {"prepare data", "evaluate base shards 00-01/02"} < set(server.tasks(live))


def test_the_story_the_scores_and_the_pictures_are_artifacts(server: Server, live: str) -> None:
    found = {artifact["key"]: artifact for artifact in server.post("/artifacts/latest/filter")}
    assert {"live-story": "markdown", "live-scores": "table", "live-sheet": "markdown"}.items() <= {
        key: artifact["type"] for key, artifact in found.items()
    }.items()
    assert found["live-story"]["data"].startswith("# Run live\n\n**Finished.** 2 of 2 stages are done")
    assert '"model": "SPIN 1"' in found["live-scores"]["data"]
    assert "](data:image/png;base64," in found["live-sheet"]["data"]


def test_a_local_run_on_the_served_root_makes_the_same_bytes(server: Server, live: str) -> None:
    """Given on a command line while `serve` runs: the server is told of it, and does none of the work."""
    before = {run["id"] for run in server.children()}
    settings = (f"run.root={server.root}", "run.name=alone", *TINY)
    command = [str(SCRIPT), "run", "miniature", *(word for text in settings for word in ("--set", text))]
    done = subprocess.run(
        command, env=environment(server.fault), capture_output=True, text=True, timeout=900, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Prefect server: {server.address}/api, as spin-diffusion serve runs it here" in done.stdout
    # nothing is scored: evaluations are shared by models with the same digest
    assert "24 images sampled, 3 optimizer steps, 0 images scored" in done.stdout
    new = [run["name"] for run in server.children() if run["id"] not in before and run["start_time"]]
    assert new == ["alone", "k=1"]
    ours, theirs = (look(stage_of(server.root, run)) for run in ("alone", "live"))
    assert [seen.sha256 for seen in ours.values()] == [seen.sha256 for seen in theirs.values()]
    root = RunsRoot(server.root)
    weights = [read_manifest(root.run(run).iteration(1).checkpoint(3)) for run in ("alone", "live")]
    assert weights[0] is not None
    assert weights[1] is not None
    assert weights[0].content_digest == weights[1].content_digest


def test_a_second_run_starts_no_child_and_makes_nothing(server: Server, live: str) -> None:
    before, files = {run["id"] for run in server.children()}, look(stage_of(server.root, "live"))
    again = server.play("live")
    assert server.ended(again)["state"]["message"] == "0 images sampled, 0 optimizer steps, 0 images scored"
    new = [run["name"] for run in server.children() if run["id"] not in before and run["start_time"]]
    assert new == ["live", "k=1"]
    assert look(stage_of(server.root, "live")) == files


def children(server: Server) -> list[dict]:
    """Child flow runs of the first run, in the order of their start."""
    return [run for run in server.children() if {"live", "attempt 1"} <= set(run["tags"])]
