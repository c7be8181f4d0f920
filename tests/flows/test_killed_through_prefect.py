"""kill -9 to a whole run, Prefect and its server with it; the same command then ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from spin.core.layout import RunFolder, RunsRoot, manifest_path
from spin.core.store import is_intact, is_whole, read_manifest
from tests.flows.command_line import ENVIRONMENT, SCRIPT, start_script

pytestmark = pytest.mark.slow

STEPS = 30
TINY = (
    "data.rows=24", "iterations=1", "sft.steps=4", "sft.batch_size=4", f"train.steps={STEPS}", "train.batch_size=4",
    "train.micro_batch_size=4", "train.state_every_steps=2", "train.held_out_every_steps=30",
    "sampling.num_inference_steps=4", "sampling.batch_size=4", "sampling.shard_size=8",
    "evaluation.num_inference_steps=2", "evaluation.prompts=4", "evaluation.batch_size=4",
    "evaluation.denoising_draws=1",
)  # fmt: skip
COMMAND = ("demo", *(word for text in TINY for word in ("--set", text)))
SHARDS = 3
Moment = Callable[[RunFolder], bool]


@dataclass(frozen=True)
class Digests:
    """Content of all that a run makes; none of it may depend on a kill."""

    samples: tuple[str, ...]
    checkpoints: tuple[str, ...]
    logs: tuple[bytes, ...]
    evaluations: dict[str, str]


def run_folder(folder: Path) -> RunFolder:
    return RunsRoot(folder / "runs").run("miniature")


def digests(folder: Path) -> Digests:
    run = run_folder(folder)
    stage = run.iteration(1)
    shards = [stage.samples(shard) for shard in range(SHARDS)]
    checkpoints = [run.sft.checkpoint(4), stage.checkpoint(STEPS)]
    evaluations = sorted((folder / "runs" / "evaluations").rglob("*.parquet"))
    for artifact in [*shards, *checkpoints, *evaluations]:
        assert is_intact(artifact), artifact
    return Digests(
        tuple(content(path) for path in shards),
        tuple(content(path) for path in checkpoints),
        tuple(path.read_bytes() for path in (run.sft.training_log, stage.training_log, stage.held_out_log)),
        {path.relative_to(folder).as_posix(): content(path) for path in evaluations},
    )


def content(artifact: Path) -> str:
    manifest = read_manifest(artifact)
    assert manifest is not None
    return manifest.content_digest


def half_written(folder: Path) -> list[Path]:
    """Artifacts that look whole and are not."""
    manifests = [path for path in folder.rglob("*.manifest.json") if path.name[0] != "."]
    named = [path.with_name(path.name.removesuffix(".manifest.json")) for path in manifests]
    return [path for path in named if is_whole(path) and not is_intact(path)]


def drafts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*.tmp-*") if ".prefect" not in path.parts]


def start_and_kill(folder: Path, moment: Moment, *, timeout_seconds: float = 300) -> None:
    """Start the command in a group of its own; when the moment has come, kill it and whatever it started."""
    with subprocess.Popen(
        [str(SCRIPT), *COMMAND],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        end = time.monotonic() + timeout_seconds
        while not moment(run_folder(folder)):
            assert process.poll() is None, "ended before the moment came"
            assert time.monotonic() < end, "the moment never came"
            time.sleep(0.002)
        started = psutil.Process(process.pid).children(recursive=True)  # Prefect's server has a session of its own
        os.killpg(process.pid, signal.SIGKILL)
        for child in started:
            if child.is_running():
                child.kill()
    assert process.returncode == -signal.SIGKILL
    psutil.wait_procs(started, timeout=30)


def first_shard_stands(run: RunFolder) -> bool:
    return manifest_path(run.iteration(1).samples(0)).exists()


def second_shard_is_being_made(run: RunFolder) -> bool:
    return any(run.iteration(1).samples(0).parent.glob(".shard-00001*"))


def training_has_a_state(run: RunFolder) -> bool:
    return run.iteration(1).states.exists() and any(run.iteration(1).states.glob("step-*.manifest.json"))


def checkpoint_is_being_written(run: RunFolder) -> bool:
    folder = run.iteration(1).checkpoint(STEPS).parent
    return folder.exists() and any(folder.iterdir())


def pictures_are_being_encoded(run: RunFolder) -> bool:
    return manifest_path(run.prompts).exists()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Digests:
    folder = tmp_path_factory.mktemp("undisturbed")
    answer = start_script(folder, *COMMAND)
    assert (answer.code, answer.err) == (0, "")
    return digests(folder)


@pytest.mark.parametrize(
    "moments",
    [
        (training_has_a_state,),
        (
            pictures_are_being_encoded,
            first_shard_stands,
            second_shard_is_being_made,
            training_has_a_state,
            checkpoint_is_being_written,
        ),
    ],
    ids=["once", "five times"],
)
def test_a_run_killed_with_its_server_ends_with_the_digests_of_an_undisturbed_one(
    undisturbed: Digests, tmp_path: Path, moments: tuple[Moment, ...]
) -> None:
    for moment in moments:
        start_and_kill(tmp_path, moment)
        assert half_written(tmp_path) == []
    answer = start_script(tmp_path, *COMMAND)
    assert (answer.code, answer.err) == (0, "")
    assert digests(tmp_path) == undisturbed
    assert half_written(tmp_path) == []
    assert drafts(tmp_path) == []
    record = json.loads(run_folder(tmp_path).record.read_text())
    assert [stage["name"] for stage in record["stages"]] == ["base", "sft", "iteration-01"]
    again = start_script(tmp_path, *COMMAND)
    assert "0 images sampled, 0 optimizer steps, 0 images scored" in again.out
