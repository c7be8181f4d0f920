"""What the doctor proves about a runs root, and how it finds one that would lose work."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from flows import doctor_root
from flows.doctor import examine
from flows.doctor_root import links, machines, other_process


def test_the_doctor_looks_at_everything_and_leaves_only_its_mark(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in examine(tmp_path)}
    assert [finding for finding in found.values() if not finding.good] == []
    assert {"versions", "prefect's needs", "device", "runs root", "another process", "machines"} <= set(found)
    assert [path.name for path in tmp_path.iterdir()] == [".doctor"]


def test_another_process_sees_commits_and_cannot_undo_them(tmp_path: Path) -> None:
    assert "is refused a name that is taken and a lock that is held" in other_process(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_locks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network drive that was mounted with local locks: the lock is taken, and others do not see it."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(RuntimeError, match="given a lock that is held"):
        other_process(tmp_path)


def test_a_folder_that_shows_other_bytes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_root, "_digest", lambda _content: "what this machine wrote")
    with pytest.raises(RuntimeError, match="reads other bytes than were written"):
        other_process(tmp_path)


def test_a_folder_without_hard_links_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    found = {finding.name: finding for finding in examine(tmp_path)}
    assert not found["runs root"].good
    assert "Operation not permitted" in found["runs root"].detail


def test_machines_find_each_other_by_their_marks(tmp_path: Path) -> None:
    """The first, the second, and the first once more: then each has seen what the other wrote."""
    alone = machines(tmp_path, "one")
    assert f"only one has left a mark; for several machines run `spin-diffusion doctor --root {tmp_path}`" in alone
    assert "two sees the marks of one" in machines(tmp_path, "two")
    assert "not seen there yet" in machines(tmp_path, "two")
    both = machines(tmp_path, "one")
    assert both.startswith("one sees the marks of two")
    assert both.endswith("and is seen there")
    assert machines(tmp_path, "two").endswith("and is seen there")


def test_a_mark_of_another_place_is_not_ours(tmp_path: Path) -> None:
    """Two machines that share a host name's folder no more: what one has seen elsewhere does not count here."""
    machines(tmp_path, "one")
    machines(tmp_path, "two")
    (tmp_path / ".doctor" / "one.json").unlink()
    assert machines(tmp_path, "one").endswith("(not seen there yet: run doctor there again)")


def test_a_mark_that_shows_other_bytes_is_an_illness(tmp_path: Path) -> None:
    machines(tmp_path, "one")
    path = tmp_path / ".doctor" / "one.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"at": "1999-01-01 00:00"}))
    with pytest.raises(RuntimeError, match=r"mark of one does not show here as it was written: .*one\.json"):
        machines(tmp_path, "two")


def test_the_root_is_made_where_it_is_missing(tmp_path: Path) -> None:
    assert "link, fsync and read back work" in links(tmp_path / "deep" / "runs")
