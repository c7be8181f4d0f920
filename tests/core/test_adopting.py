"""Equal work of another run is linked, anything else is left alone."""

from __future__ import annotations

import json
from pathlib import Path

from spin.core.adopting import adopt
from spin.core.layout import RunFolder, RunsRoot
from spin.core.store import commit, read_manifest, stands

IDENTITY = {"seed": 0}
PLACE = {"torch": "2", "threads": 1}


def begin(root: Path, name: str, *, code: str = "one") -> RunFolder:
    run = RunsRoot(root).run(name)
    run.path.mkdir(parents=True)
    run.record.write_text(json.dumps({"code_version": code}))
    return run


def make(run: RunFolder, text: str = "weights", *, place: dict[str, object] | None = None) -> tuple[Path, Path]:
    """A log and a checkpoint folder."""
    log, folder = run.sft.training_log, run.sft.checkpoint(3)

    def fill(path: Path) -> None:
        (path / "unet").mkdir(parents=True)
        (path / "unet" / "weights").write_text(text)

    environment = lambda: {**(place or PLACE), "seconds": 5.0}  # noqa: E731
    commit(
        log,
        lambda path: path.write_bytes(text.encode() + b"PAR1") and None,
        kind="log",
        identity=IDENTITY,
        environment=environment,
    )
    commit(folder, fill, kind="checkpoint", identity=IDENTITY, environment=environment)
    return log, folder


def take(run: RunFolder) -> bool:
    wanted = (run.sft.training_log, run.sft.checkpoint(3))
    return adopt(run, wanted, IDENTITY, place=PLACE, code="one")


def test_equal_work_is_linked_with_what_it_cost(tmp_path: Path) -> None:
    _, theirs = make(begin(tmp_path, "first"))
    run = begin(tmp_path, "second")
    assert take(run)
    mine = run.sft.checkpoint(3)
    assert stands(mine, IDENTITY)
    assert (mine / "unet" / "weights").samefile(theirs / "unet" / "weights")
    manifest = read_manifest(mine)
    assert manifest is not None
    assert manifest.environment["seconds"] == 5.0


def test_a_deleted_donor_leaves_what_was_taken(tmp_path: Path) -> None:
    _, theirs = make(begin(tmp_path, "first"))
    run = begin(tmp_path, "second")
    take(run)
    (theirs / "unet" / "weights").unlink()
    assert stands(run.sft.checkpoint(3), IDENTITY)


def test_nothing_is_taken_where_a_part_is_missing(tmp_path: Path) -> None:
    log, _ = make(begin(tmp_path, "first"))
    log.unlink()
    assert not take(begin(tmp_path, "second"))


def test_other_work_is_not_taken(tmp_path: Path) -> None:
    make(begin(tmp_path, "first"))
    run = begin(tmp_path, "second")
    assert not adopt(run, (run.sft.training_log,), {"seed": 1}, place=PLACE, code="one")
    assert not run.sft.training_log.exists()


def test_work_of_other_code_is_not_taken(tmp_path: Path) -> None:
    make(begin(tmp_path, "first", code="two"))
    assert not take(begin(tmp_path, "second"))


def test_work_of_another_class_of_bits_is_not_taken(tmp_path: Path) -> None:
    make(begin(tmp_path, "first"), place={**PLACE, "torch": "3"})
    assert not take(begin(tmp_path, "second"))


def test_damaged_work_is_not_taken(tmp_path: Path) -> None:
    log, _ = make(begin(tmp_path, "first"))
    log.write_bytes(b"weightzPAR1")  # the size is right
    assert not take(begin(tmp_path, "second"))


def test_a_whole_donor_behind_a_damaged_one_is_found(tmp_path: Path) -> None:
    log, _ = make(begin(tmp_path, "first"))
    log.write_bytes(b"weightzPAR1")
    make(begin(tmp_path, "other"))
    assert take(begin(tmp_path, "second"))


def test_a_run_is_not_its_own_donor(tmp_path: Path) -> None:
    run = begin(tmp_path, "only")
    make(run)
    assert not adopt(run, (run.sft.checkpoint(4),), IDENTITY, place=PLACE, code="one")
