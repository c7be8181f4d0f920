"""Many workers on one server: with Postgres, as the README advises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.live.serving import Server, serving, wait
from tests.postgres import postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WORKERS = 4


def test_four_workers_play_without_a_lock_error(tmp_path: Path) -> None:
    """One shard a child: eight sampling children and four of each evaluation share four workers."""
    with postgres(tmp_path) as address:
        more = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": address}
        with serving(tmp_path / "runs", slots=WORKERS, more=more) as server:
            wait(lambda: len(server.post("/work_pools/spin-gpu/workers/filter")) == WORKERS, 120)
            settings = ("execution.shards_per_child=1", "sampling.shard_size=3", "evaluation.shard_size=2")
            run = server.play("crowded", *settings)
            ended = server.ended(run)
            assert ended["state_type"] == "COMPLETED", ended["state"]
            assert ended["state"]["message"] == "40 images sampled, 3 optimizer steps, 24 images scored"
            assert at_once([child for child in server.children() if child["work_pool_name"] == "spin-gpu"]) == WORKERS
            assert failed_children(server) == []
    assert not list((tmp_path / "runs" / ".prefect").glob("prefect.db*"))  # the history is in Postgres
    for log in (tmp_path / "postgres.log", *(tmp_path / "runs" / ".prefect" / "logs").rglob("*.log")):
        assert [line for line in log.read_text().splitlines() if re.search(r"\b(dead)?lock", line)] == [], log


def at_once(runs: list[dict[str, Any]]) -> int:
    """The largest number of these flow runs that ran at the same moment."""
    moments = sorted((moment, step) for run in runs for moment, step in ((run["start_time"], 1), (run["end_time"], -1)))
    running = [0]
    for _, step in moments:
        running.append(running[-1] + step)
    return max(running)


def failed_children(server: Server) -> list[str]:
    return [child["name"] for child in server.children() if child["state_type"] in ("FAILED", "CRASHED")]
