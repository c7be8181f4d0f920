"""Equal work of another run is linked, anything else is left alone."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from spin.core.adopting import Place, adopt, class_of, common_class
from spin.core.layout import RunFolder, RunsRoot
from spin.core.store import COMMIT_POINTS, commit, read_manifest, stands

IDENTITY = {"seed": 0}
BITS = {"device": "cpu one", "torch": "2", "threads": 1}
PLACE = Place(BITS)


def begin(root: Path, name: str, *, code: str = "one") -> RunFolder:
    run = RunsRoot(root).run(name)
    run.path.mkdir(parents=True)
    run.record.write_text(json.dumps({"code_version": code}))
    return run


def write(path: Path, text: str, bits: Mapping[str, object] = BITS) -> Path:
    """A file such as a log or a shard."""
    commit(
        path, lambda draft: draft.write_bytes(text.encode() + b"PAR1") and None, kind="log", identity=IDENTITY,
        environment=lambda: bits,
    )  # fmt: skip
    return path


def make(run: RunFolder, text: str = "weights", *, bits: Mapping[str, object] = BITS) -> tuple[Path, Path]:
    """A log, durations and a checkpoint folder."""
    log, folder = write(run.sft.training_log, text, {}), run.sft.checkpoint(3)
    write(run.sft.timing, f"{run.path.name} took long", {})

    def fill(path: Path) -> None:
        (path / "unet").mkdir(parents=True)
        (path / "unet" / "weights").write_text(text)

    commit(folder, fill, kind="checkpoint", identity=IDENTITY, environment=lambda: {**bits, "seconds": 5.0})
    return log, folder


def take(run: RunFolder, *, place: Place = PLACE) -> bool:
    wanted = (run.sft.training_log, run.sft.checkpoint(3))
    return adopt(run, wanted, IDENTITY, place=place, code="one", beside=(run.sft.timing,))


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
    assert not adopt(run, (run.sft.checkpoint(3),), {"seed": 1}, place=PLACE, code="one")
    assert not run.sft.checkpoint(3).exists()


def test_work_of_other_code_is_not_taken(tmp_path: Path) -> None:
    make(begin(tmp_path, "first", code="two"))
    assert not take(begin(tmp_path, "second"))


@pytest.mark.parametrize(
    "bits",
    [{**BITS, "torch": "3"}, {**BITS, "device": "cpu two"}, {"device": "cpu one", "torch": "2"}, {}],
    ids=["other torch", "other processor", "threads unknown", "nothing known"],
)
def test_work_of_another_class_of_bits_is_not_taken(tmp_path: Path, bits: dict[str, object]) -> None:
    make(begin(tmp_path, "first"), bits=bits)
    assert not take(begin(tmp_path, "second"))


@pytest.mark.parametrize(("device", "taken"), [("", True), ("cpu", True), ("cuda", False)])
def test_where_the_device_is_not_known_its_kind_decides(tmp_path: Path, device: str, *, taken: bool) -> None:
    make(begin(tmp_path, "first"))
    assert take(begin(tmp_path, "second"), place=Place({"torch": "2"}, device)) is taken


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


def test_what_an_own_killed_attempt_left_is_kept_and_the_rest_taken(tmp_path: Path) -> None:
    """Its durations differ from the donor's, which are no function of the identity."""
    make(begin(tmp_path, "first"))
    run = begin(tmp_path, "second")
    write(run.sft.training_log, "weights", {})
    write(run.sft.timing, "second was killed", {})
    assert take(run)
    assert run.sft.timing.read_bytes() == b"second was killedPAR1"
    assert stands(run.sft.checkpoint(3), IDENTITY)


def test_a_conflict_is_no_error_and_nothing_is_taken(tmp_path: Path) -> None:
    make(begin(tmp_path, "first"))
    run = begin(tmp_path, "second")
    write(run.sft.training_log, "other bits", {})
    assert not take(run)
    assert run.sft.training_log.read_bytes() == b"other bitsPAR1"
    assert not run.sft.checkpoint(3).exists()
    assert not run.sft.timing.exists()


def test_a_donor_that_agrees_behind_one_that_conflicts_is_found(tmp_path: Path) -> None:
    make(begin(tmp_path, "first"), "other bits")
    make(begin(tmp_path, "other"))
    run = begin(tmp_path, "second")
    write(run.sft.training_log, "weights", {})
    assert take(run)
    assert (run.sft.checkpoint(3) / "unet" / "weights").read_text() == "weights"


def test_a_donor_that_cannot_be_linked_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(begin(tmp_path, "first"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert not take(begin(tmp_path, "second"))


@pytest.mark.parametrize("point", COMMIT_POINTS)
@pytest.mark.parametrize("artifact", ["timing", "training_log", "checkpoint"])
def test_a_killed_adopter_leaves_nothing_half(tmp_path: Path, artifact: str, point: str) -> None:
    first = begin(tmp_path, "first")
    make(first)
    run = begin(tmp_path, "second")
    target = run.sft.checkpoint(3) if artifact == "checkpoint" else getattr(run.sft, artifact)

    assert killed(run, target, point) == signal.SIGKILL
    whole = stands(run.sft.checkpoint(3), IDENTITY)
    assert whole == (artifact == "checkpoint" and point == "after-manifest")
    if whole:
        assert stands(run.sft.training_log, IDENTITY)
    assert take(run)
    assert names(run.sft.path) == names(first.sft.path)
    assert stands(first.sft.checkpoint(3), IDENTITY)


def killed(run: RunFolder, target: Path, point: str) -> int:
    """Adopt in a child that dies at this point of this artifact's commit; the signal that ended it."""
    child = os.fork()
    if child == 0:

        def kill(event: str, args: tuple[object, ...]) -> None:
            if event == "spin.store" and args == (point, str(target)):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        take(run)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) * -1


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def shards(run: RunFolder, classes: Sequence[str | None]) -> list[Path]:
    """Shards of an iteration, each drawn on a device, or not at all."""
    stage = run.iteration(1)
    paths = [stage.samples(number) for number in range(len(classes))]
    for path, device in zip(paths, classes, strict=True):
        if device is not None:
            write(path, path.name, {**BITS, "device": device})
    return paths


@pytest.mark.parametrize(
    ("first", "other", "found"),
    [
        (["cuda A", "cuda A"], [None, None], "cuda A"),
        (["cuda A", "cuda B"], [None, None], None),
        (["cuda A", None], [None, "cuda B"], None),
        (["cuda A", None], ["cuda B", "cuda B"], "cuda B"),
        (["cuda A", None], ["cuda B", "cuda A"], "cuda A"),
        (["cpu one", "cpu one"], [None, None], None),
    ],
)
def test_a_common_class_is_one_of_which_every_part_stands(
    tmp_path: Path, first: list[str | None], other: list[str | None], found: str | None
) -> None:
    shards(begin(tmp_path, "first"), first)
    shards(begin(tmp_path, "other"), other)
    run = begin(tmp_path, "second")
    wanted = shards(run, [None, None])
    place = Place({"torch": "2"}, "cuda")
    common = common_class(run, wanted, IDENTITY, place=place, code="one")
    assert common == (None if found is None else {**BITS, "device": found})


def test_what_does_not_stand_is_of_no_class(tmp_path: Path) -> None:
    run = begin(tmp_path, "first")
    assert class_of(run.sft.training_log, IDENTITY) == {}
