"""kill -9 at random moments: wherever it strikes, nothing half-written is believed and resuming gives equal bytes."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.kill.conftest import Forker, Undisturbed, half_written, outcome

pytestmark = pytest.mark.system


def fractions(count: int, *, seed: int) -> list[float]:
    """One moment in each of `count` equal parts of a run."""
    rng = random.Random(seed)
    return [(part + rng.random()) / count for part in range(count)]


def kill_and_resume(forker: Forker, undisturbed: Undisturbed, root: Path, fraction: float) -> None:
    killed = forker.ask(root=str(root), kill_after_seconds=fraction * undisturbed.seconds)
    assert killed["code"] in (0, -signal.SIGKILL)  # 0: it was faster this time
    assert half_written(root) == []
    assert forker.ask(root=str(root))["code"] == 0
    assert outcome(root) == undisturbed.outcome


@pytest.mark.parametrize("fraction", fractions(5, seed=0))
def test_a_run_killed_at_a_random_moment_and_resumed_equals_the_undisturbed_one(
    forker: Forker, undisturbed: Undisturbed, root: Path, fraction: float
) -> None:
    kill_and_resume(forker, undisturbed, root, fraction)


@pytest.mark.slow
@pytest.mark.parametrize("fraction", fractions(20, seed=1))
def test_a_run_killed_at_one_of_twenty_more_moments_equals_the_undisturbed_one(
    forker: Forker, undisturbed: Undisturbed, root: Path, fraction: float
) -> None:
    kill_and_resume(forker, undisturbed, root, fraction)


@pytest.mark.slow
def test_a_run_killed_every_half_second_ends_all_the_same(forker: Forker, undisturbed: Undisturbed, root: Path) -> None:
    for _ in range(50):
        answer = forker.ask(root=str(root), kill_after_seconds=0.7 * undisturbed.seconds)
        assert half_written(root) == []
        if answer["code"] == 0:
            break
    assert forker.ask(root=str(root))["code"] == 0
    assert outcome(root) == undisturbed.outcome
