"""A training that waits for images holds no GPU that they are drawn on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.claims import apart_from_sampling
from tasks.devices import Card, owned

ROOT = Path(__file__).parents[2]
CARDS = (Card("0", "GPU-aaaa-1"), Card("1", "GPU-bbbb-2"))
WORKER = """
import sys
from tasks.claims import claim_for_sampling
claim_for_sampling(sys.argv[1:])
print("claimed", flush=True)
sys.stdin.readline()
"""


def two() -> tuple[Card, ...]:
    return CARDS


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIN_DIFFUSION_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def worker(*gpus: str) -> subprocess.Popen[str]:
    """A worker that samples on these, until it is told to end."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *gpus], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_gpus_are_apart_while_no_worker_samples_on_them() -> None:
    with apart_from_sampling("cuda", listing=two) as apart:
        assert apart
    process = worker("GPU-bbbb-2")
    try:
        assert said(process) == "claimed"
        with apart_from_sampling("cuda", listing=two) as apart:
            assert not apart
    finally:
        process.kill()  # a claim ends with its worker, however it ends
        process.communicate()
    with apart_from_sampling("cuda", listing=two) as apart:
        assert apart


def test_only_the_gpus_of_this_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    process = worker("GPU-bbbb-2")
    try:
        assert said(process) == "claimed"
        with apart_from_sampling("cuda", listing=two) as apart:
            assert apart
    finally:
        process.communicate("\n")


def test_several_workers_may_sample_on_one_gpu() -> None:
    workers = [worker("GPU-aaaa-1", "GPU-bbbb-2") for _ in range(2)]
    try:
        assert [said(process) for process in workers] == ["claimed", "claimed"]
    finally:
        for process in workers:
            process.communicate("\n")


def test_a_worker_that_comes_late_waits_for_the_end_of_the_training() -> None:
    """Else the images that the training waits for could be ordered from a worker that waits for the training."""
    with apart_from_sampling("cuda", listing=two) as apart:
        assert apart
        process = worker("GPU-aaaa-1")
        assert process.stderr is not None
        assert "this worker waits for the end of that" in process.stderr.readline()
        assert process.poll() is None
    try:
        assert said(process) == "claimed"
    finally:
        process.communicate("\n")


def test_a_training_that_is_not_apart_leaves_the_claims_of_its_other_gpus() -> None:
    one = worker("GPU-bbbb-2")
    try:
        assert said(one) == "claimed"
        with apart_from_sampling("cuda", listing=two) as apart:
            assert not apart
            other = worker("GPU-aaaa-1")
            try:
                assert said(other) == "claimed"
            finally:
                other.communicate("\n")
    finally:
        one.communicate("\n")


def test_a_claim_is_not_ownership() -> None:
    """A worker that waits for work leaves its GPU to others: an evaluation, or a training that does not overlap."""
    process = worker("GPU-aaaa-1", "GPU-bbbb-2")
    try:
        assert said(process) == "claimed"
        with owned("cuda", count=None, listing=two) as names:
            assert names == ("GPU-aaaa-1", "GPU-bbbb-2")
    finally:
        process.communicate("\n")


def test_on_a_cpu_nobody_is_in_anothers_way(tmp_path: Path) -> None:
    with apart_from_sampling("cpu", listing=two) as apart:
        assert apart
    assert not (tmp_path / "locks").exists()
