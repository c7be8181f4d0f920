"""Training while the opponent's images are still being drawn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from spin.core.errors import ArtifactError
from spin.core.layout import StageFolder, manifest_path
from spin.core.schema import UNSAFE, read_table
from spin.core.store import read_manifest
from spin.sample.room import run as sample
from spin.train import standing
from spin.train.request import Awaited, TrainRequest
from spin.train.room import run
from tests.checkers import safety
from tests.train.test_processes import launch
from tests.world import World, copy_stage

SHARDS = 3  # of 8 images each; a step reads 8 pairs, so step n needs shard n - 1, and from step 4 on all stand
STEPS = {"steps": 5, "state_every_steps": 1, "held_out_every_steps": 5}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "_LOOK_SECONDS", 0.01)


@dataclass
class Coming:
    """A stage whose shards stand under another manifest until they are released."""

    stage: StageFolder

    def hide(self, *shards: int) -> None:
        for shard in shards:
            manifest_path(self.stage.samples(shard)).rename(self.hidden(shard))

    def release(self, shard: int) -> None:
        self.hidden(shard).rename(manifest_path(self.stage.samples(shard)))

    def hidden(self, shard: int) -> Path:
        return self.stage.path / f"hidden-{shard}"


def awaiting(request: TrainRequest, *, seconds: float = 60) -> TrainRequest:
    """The request, of a training that need not wait for all."""
    manifest = read_manifest(StageFolder(request.stage).samples(0))
    assert manifest is not None
    return replace(request, awaited=Awaited(dict(manifest.identity), seconds))


class Heard:
    """Releases each shard that is waited for, a moment after so many steps are done; keeps what was waited for."""

    def __init__(self, coming: Coming, *, after: int = 0) -> None:
        self.coming, self.after, self.done = coming, after, 0
        self.waits: list[int] = []
        self.released: list[int] = []

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.done = max(self.done, done)
        if note.startswith("waiting"):  # the reader's thread says so, some steps ahead
            self.waits.append(int(note.split()[3]))
        if self.done >= self.after:
            for shard in [shard for shard in self.waits if shard not in self.released]:
                self.released.append(shard)
                Timer(0.2, self.coming.release, [shard]).start()


def equal(one: TrainRequest, other: TrainRequest) -> None:
    """Weights, logs and what they were made from."""
    stages = [StageFolder(request.stage) for request in (one, other)]
    for paths in zip(*(stage.training_artifacts(one.settings.steps, adapter=False) for stage in stages), strict=True):
        if paths[0].name == "timing.parquet":
            continue
        found = [read_manifest(path) for path in paths]
        assert found[0] is not None
        assert found[1] is not None
        assert found[0].content_digest == found[1].content_digest, paths[0].name
        assert found[0].identity == found[1].identity
    for log in ("log", "held_out"):
        files = [stage.path / "train" / f"{log}.parquet" for stage in stages]
        assert files[0].read_bytes() == files[1].read_bytes()


def waits_for_the_last_after_two_steps(whole: TrainRequest, late: TrainRequest) -> None:
    """The last shard alone is waited for; it comes when two steps are over, and the weights are the same."""
    run(whole)
    coming = Coming(StageFolder(late.stage))
    request = awaiting(late)
    coming.hide(2)
    heard = Heard(coming, after=2)
    run(request, progress=heard)
    assert heard.waits == [2]
    equal(whole, late)


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "reverse": ({"store_trajectory": True}, {"trajectory": "reverse"}),
    "mirrored": ({"loser_source": "roundtrip", "store_mirrored": True}, {"flip": True}),
    "safe": ({"safety": safety("bright", drop=True)}, {"drop_unsafe": True}),
}


@pytest.fixture(scope="module")
def make(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., StageFolder]:
    """A stage of several shards, all sampled, made once for each kind."""
    made: dict[str, StageFolder] = {}

    def of(kind: str) -> StageFolder:
        if kind not in made:
            stage = world.stage(tmp_path_factory.mktemp(kind), shard_size=8)
            sample(world.sample_request(stage, range(SHARDS), **KINDS[kind][0]))
            made[kind] = stage
        return made[kind]

    return of


@pytest.fixture
def copies(make: Callable[..., StageFolder], world: World, tmp_path: Path) -> Callable[..., list[TrainRequest]]:
    """Two equal requests in folders of their own."""

    def of(kind: str, **changes: Any) -> list[TrainRequest]:
        settings = {**STEPS, **KINDS[kind][1]}
        stages = [copy_stage(make(kind), tmp_path / name) for name in ("whole", "coming")]
        return [world.train_request(stage, settings=settings, **changes) for stage in stages]

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_late_trains_the_same_weights(copies: Callable[..., list[TrainRequest]], kind: str) -> None:
    whole, late = copies(kind)
    run(whole)
    coming = Coming(StageFolder(late.stage))
    request = awaiting(late)
    coming.hide(0, 1, 2)
    heard = Heard(coming)
    result = run(request, progress=heard)
    assert heard.waits == [0, 1, 2]
    equal(whole, late)
    manifest = read_manifest(result.checkpoint)
    assert manifest is not None
    assert manifest.environment["overlapped_steps"] == 2
    assert manifest.environment["waited_seconds"] > 0
    if kind == "safe":
        assert any(read_table(StageFolder(late.stage).samples(1))[UNSAFE].to_pylist())  # dropped in a shard that came


def test_a_step_waits_for_no_shard_that_it_does_not_read(copies: Callable[..., list[TrainRequest]]) -> None:
    """The last shard is read by the third step: it comes when two are over, and not before."""
    waits_for_the_last_after_two_steps(*copies("plain"))


def test_where_all_stand_nothing_is_waited_for(copies: Callable[..., list[TrainRequest]]) -> None:
    whole, other = copies("plain")
    run(whole)
    result = run(awaiting(other))
    equal(whole, other)
    manifest = read_manifest(result.checkpoint)
    assert manifest is not None
    assert "overlapped_steps" not in manifest.environment
    assert run(awaiting(other)).steps == 0  # it stands


def test_shards_that_no_step_reads_are_waited_for_in_the_end(copies: Callable[..., list[TrainRequest]]) -> None:
    """A plan of all rows may have more than training reads; they are part of what the weights are made from."""
    two = {"steps": 2, "held_out_every_steps": 2}
    waits_for_the_last_after_two_steps(
        *(replace(request, settings=replace(request.settings, **two)) for request in copies("plain"))
    )


def test_a_damaged_shard_that_comes_late_is_refused_as_ever(copies: Callable[..., list[TrainRequest]]) -> None:
    whole, late = copies("plain")
    damage = [StageFolder(request.stage).samples(1) for request in (whole, late)]
    request, coming = awaiting(late), Coming(StageFolder(late.stage))
    coming.hide(1, 2)
    for path in damage:
        path.write_bytes(path.read_bytes()[:-5] + b"xPAR1")
    lines = []
    for asked in (whole, request):
        with pytest.raises(ArtifactError, match=r"shard-00001\.parquet: bytes differ from the manifest") as error:
            run(asked, progress=Heard(coming))
        lines.append(str(error.value).replace(str(asked.stage), ""))
    assert lines[0] == lines[1]


def test_a_shard_that_was_made_from_something_else_is_not_read(copies: Callable[..., list[TrainRequest]]) -> None:
    """One of an earlier plan may stand in the place of the one that is being drawn."""
    _, late = copies("plain")
    request = awaiting(late, seconds=0.05)
    other = replace(request, awaited=Awaited({**request.awaited.identity, "opponent": "another"}, 0.05))  # type: ignore[union-attr]
    with pytest.raises(
        ArtifactError, match=r"shard 0 of 3 did not come within .* min; see why sampling stopped"
    ) as error:
        run(other)
    assert "spin-diffusion sample-shard" in str(error.value)
    assert not StageFolder(late.stage).states.exists()


def test_no_state_is_kept_before_the_last_shard_stands(copies: Callable[..., list[TrainRequest]]) -> None:
    """A state names all that it is made from. Stopped before, a training begins anew; after, it goes on."""
    whole, late = copies("plain")
    run(whole)
    stage, request = StageFolder(late.stage), awaiting(late, seconds=0.05)
    coming = Coming(stage)
    coming.hide(2)
    with pytest.raises(ArtifactError, match="shard 2 of 3 did not come"):
        run(request)
    assert not stage.states.exists()
    coming.release(2)
    with pytest.raises(KeyboardInterrupt):
        run(request, progress=stop_at(4))
    assert [path.name for path in sorted(stage.states.iterdir()) if path.is_dir()] == ["step-000003", "step-000004"]
    coming.hide(1)  # found damaged, say: it is waited for, and the states are still good
    heard = Heard(coming)
    assert run(awaiting(late), progress=heard).steps == 1
    assert heard.waits == [1]
    equal(whole, late)


def stop_at(step: int) -> Callable[..., None]:
    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.system
def test_processes_wait_each_for_itself_and_train_the_same(copies: Callable[..., list[TrainRequest]]) -> None:
    """The shards come while both processes are at work: the second as soon as the first step has been waited for."""
    whole, late = copies("plain", processes=2)
    launch(whole)
    coming = Coming(StageFolder(late.stage))
    request = awaiting(late)
    coming.hide(1, 2)
    waits: list[str] = []

    def release() -> None:
        for shard in (1, 2):
            time.sleep(1)
            waits.append(str(coming.hidden(shard).exists()))
            coming.release(shard)

    thread = threading.Thread(target=release)
    thread.start()
    ended = launch(request)
    thread.join()
    assert (ended.answer.steps, waits) == (5, ["True", "True"])
    equal(whole, late)
