"""What is worth a retry, and what never is."""

from __future__ import annotations

import errno

import pytest

from spin.core.errors import ArtifactError, ConfigError, DataError, TrainingError
from tasks.retrying import worth_a_retry


@pytest.mark.parametrize("error", [ConfigError("x"), DataError("x"), ArtifactError("x"), TrainingError("nan")])
def test_our_own_errors_are_never_retried(error: Exception) -> None:
    assert not worth_a_retry(error)


def test_a_commit_is_retried_where_its_cause_can_pass() -> None:
    for number, worth in ((errno.EIO, True), (errno.ENOSPC, False)):
        error = ArtifactError("cannot write")
        error.__cause__ = OSError(number, "trouble")
        assert worth_a_retry(error) is worth


@pytest.mark.parametrize(("number", "worth"), [(errno.EIO, True), (errno.ESTALE, True), (errno.ENOSPC, False)])
def test_passing_io_trouble_is_retried_but_a_full_disk_is_not(number: int, worth: bool) -> None:
    assert worth_a_retry(OSError(number, "trouble")) is worth


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (RuntimeError("CUDA error: an illegal memory access"), True),
        (RuntimeError("NCCL timeout"), True),
        (RuntimeError("shape mismatch"), False),
        (KeyError("x"), False),
    ],
)
def test_device_trouble_is_retried_but_a_bug_is_not(error: Exception, worth: bool) -> None:
    assert worth_a_retry(error) is worth
