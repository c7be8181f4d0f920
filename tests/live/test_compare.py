"""A comparison whose runs are played by workers: what two arms share is made once there, too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spin.core.layout import RunsRoot
from spin.report.results.facts import read_facts
from tests.flows.test_compare import RECIPE
from tests.live.serving import SCRIPT, Server, environment

pytestmark = pytest.mark.slow


def test_workers_play_the_arms_and_the_shared_start_is_trained_once(server: Server, tmp_path: Path) -> None:
    recipe = tmp_path / "versus.yaml"
    recipe.write_text(RECIPE)
    before = {run["id"] for run in server.children()}
    command = [
        str(SCRIPT), "compare", str(recipe), "--root", str(server.root), "--set", "execution.executor=workers",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment(server.fault), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "3 runs; " in done.stdout
    new = [run["name"] for run in server.children() if run["id"] not in before]
    # the measure's 30 steps, the start of 3 steps that two arms share, a round of each arm
    assert sorted(name for name in new if name.startswith("train")) == [
        "train k=1",
        "train k=1",
        "train sft",
        "train sft",
    ]
    assert [name for name in new if name.startswith("sample")] == ["sample k=1 shards 00-02/03"]
    facts = read_facts(RunsRoot(server.root).comparison("versus").path)
    assert [run.failed for run in facts.runs] == [None, None, None]
