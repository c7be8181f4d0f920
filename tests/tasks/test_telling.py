"""Keys of artifacts, and that telling never stops the work."""

from __future__ import annotations

import pytest

from tasks import telling
from tasks.telling import ProgressArtifact, artifact_key


@pytest.mark.parametrize(
    ("name", "starts"),
    [("tiny", "tiny"), ("my-run-2", "my-run-2"), ("My.Run_2", "my-run-2-"), ("a.b", "a-b-"), ("a_b", "a-b-")],
)
def test_a_key_has_only_letters_digits_and_dashes(name: str, starts: str) -> None:
    key = artifact_key(name)
    assert key.startswith(starts)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_names_that_would_share_a_key_are_told_apart() -> None:
    assert len({artifact_key(name) for name in ("a-b", "a.b", "a_b", "A-b")}) == 4


def test_a_bar_outside_of_prefect_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_EVERY_SECONDS", 0.0)
    bar = ProgressArtifact("sample")
    bar(1, 2)
    bar.end()
    assert bar._artifact is None


def test_trouble_of_the_server_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> None:
        raise ConnectionError("no server")

    assert telling._told(away) is None
    assert "could not be written" in caplog.text
