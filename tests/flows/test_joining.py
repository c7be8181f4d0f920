"""Child flow runs on a real server; their worker is a thread that does to each run what the test has ordered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterTags, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.deployments.runner import RunnerDeployment
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running

from flows import joining
from flows.joining import Call, Child, begin, join, online_workers, wait
from spin.core.errors import ArtifactError, ConfigError

Deed = Callable[["Batch", SyncPrefectClient, FlowRun], None]


class Batch:
    """Shards as files of a folder; what a child flow run is asked for."""

    def __init__(self, folder: Path, *shards: int) -> None:
        self.folder, self.shards = folder, shards

    def left(self) -> list[int]:
        return [shard for shard in self.shards if not (self.folder / str(shard)).exists()]

    def make(self, *shards: int) -> None:
        for shard in shards or self.left():
            (self.folder / str(shard)).touch()

    @property
    def child(self) -> Child:
        def call() -> Call:
            names = "-".join(map(str, self.left()))
            return Call(f"{self.folder.name} {names}", {"shards": self.left()}, (f"make {names}",))

        def missing() -> list[str]:
            return [f"shard {shard}" for shard in self.left()]

        return Child("batch/test", f"{self.folder} {self.shards}", missing, call)


@flow(name="batch")
def batch(shards: list[int]) -> None:
    """Is never run here."""


@flow(name="parent")
def parent(children: list[Any], max_attempts: int = 2) -> int:
    return join(children, max_attempts=max_attempts, tags=("of a test",))


def makes(batch: Batch, client: SyncPrefectClient, run: FlowRun) -> None:
    batch.make()
    client.set_flow_run_state(run.id, Completed(), force=True)


def fails(batch: Batch, client: SyncPrefectClient, run: FlowRun) -> None:
    client.set_flow_run_state(run.id, Failed(message="the disk is full\nand a traceback"), force=True)


def ends_in(state: State[Any]) -> Deed:
    return lambda batch, client, run: client.set_flow_run_state(run.id, state, force=True) and None


def makes_and_crashes(batch: Batch, client: SyncPrefectClient, run: FlowRun) -> None:
    batch.make()
    client.set_flow_run_state(run.id, Crashed(), force=True)


def is_deleted(batch: Batch, client: SyncPrefectClient, run: FlowRun) -> None:
    client.delete_flow_run(run.id)


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[None]:
    identity: Any = RunnerDeployment.from_flow(batch, "test").apply()
    yield
    with get_client(sync_client=True) as client:
        client.delete_deployment(identity)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_POLL_SECONDS", 0.05)


@contextmanager
def worker(*orders: tuple[Batch, Sequence[Deed]]) -> Iterator[list[str]]:
    """Takes the runs of each batch as they come, and does the next deed to each; names of the runs it took."""
    taken: list[str] = []
    over = threading.Event()
    left = {order.folder.name: (order, list(deeds)) for order, deeds in orders}

    def work() -> None:
        known: set[UUID] = set()
        with get_client(sync_client=True) as client:
            while not over.is_set():
                found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["of a test"])))
                for run in (run for run in found if run.id not in known and run.name.split()[0] in left):
                    known.add(run.id)
                    taken.append(run.name)
                    order, deeds = left[run.name.split()[0]]
                    deeds.pop(0)(order, client, run)
                time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def runs_of(batch: Batch) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_=f"{batch.folder.name} "))
        )
    return sorted(found, key=lambda run: run.created)


def attempts_of(batch: Batch) -> list[str]:
    return [tag for run in runs_of(batch) for tag in run.tags if tag.startswith("attempt")]


@pytest.fixture
def batches(tmp_path: Path) -> tuple[Batch, Batch]:
    found = tuple(Batch(tmp_path / f"{tmp_path.name}-{name}", *shards) for name, shards in (("a", (0, 1)), ("b", (2,))))
    for made in found:
        made.folder.mkdir()
    return found


def test_children_are_submitted_once_each_for_what_is_missing(batches: tuple[Batch, Batch]) -> None:
    one, other = batches
    one.make(0)
    with worker((one, [makes]), (other, [makes])):
        assert parent([one.child, other.child]) == 2
        assert parent([one.child, other.child]) == 0  # all stands
    (run,) = runs_of(one)
    assert (run.name, run.parameters) == (f"{one.folder.name} 1", {"shards": [1]})
    assert set(run.tags) == {"of a test", "attempt 1"}
    with get_client(sync_client=True) as client:
        entries = client.read_task_runs(
            task_run_filter=TaskRunFilter.model_validate({"id": {"any_": [run.parent_task_run_id]}})
        )
    assert [entry.name for entry in entries] == [run.name]  # and not a made-up one


def test_a_failure_names_shard_cause_button_and_command_when_all_others_are_done(batches: tuple[Batch, Batch]) -> None:
    one, other = batches

    def makes_the_first(batch: Batch, client: SyncPrefectClient, run: FlowRun) -> None:
        batch.make(0)
        fails(batch, client, run)

    with (
        worker((one, [makes_the_first, fails, fails]), (other, [fails, makes])),
        pytest.raises(ArtifactError) as caught,
    ):
        parent([one.child, other.child])
    assert other.left() == []
    runs = runs_of(one)
    name = f"{one.folder.name} 1"
    # The second carries what is left; the first made something, so only the next two are in vain.
    assert [run.parameters for run in runs] == [{"shards": [0, 1]}, {"shards": [1]}, {"shards": [1]}]
    line = str(caught.value)
    assert line.startswith(
        f"missing after 3 attempts: {name}: shard 1; cause: Failed: the disk is full; press Retry on "
    )
    assert f"press Retry on {name!r} (" in line
    assert str(runs[2].id) in line
    assert line.endswith(") and then on this run, or call: make 1")


def test_the_next_call_starts_the_next_attempt(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    with worker((one, [fails, makes])):
        with pytest.raises(ArtifactError, match="missing after 1 attempt: "):
            parent([one.child], 1)
        assert parent([one.child], 1) == 1
    assert attempts_of(one) == ["attempt 1", "attempt 2"]


def test_a_running_child_is_joined_and_not_repeated(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    key = one.child.key(1)
    run: Any = run_deployment(
        "batch/test", parameters={"shards": [0, 1]}, timeout=0, idempotency_key=key, flow_run_name="of before"
    )

    def end() -> None:
        time.sleep(1)
        with get_client(sync_client=True) as client:
            makes(one, client, run)

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Running(), force=True)
    with worker((one, [])):
        thread = threading.Thread(target=end)
        thread.start()
        assert parent([one.child]) == 0
        thread.join()
    assert runs_of(one) == []


def test_what_was_begun_is_waited_for_later_and_not_started_again(batches: tuple[Batch, Batch]) -> None:
    one, other = batches

    @flow(name="parent of both")
    def both() -> tuple[int, int]:
        begun = begin([one.child], tags=("of a test",))
        assert begin([one.child], tags=("of a test",), begun=begun) == begun
        first = wait(begin([other.child], tags=("of a test",)), max_attempts=2, tags=("of a test",), beside=begun)
        return first, wait(begun, max_attempts=2, tags=("of a test",))

    with worker((one, [makes]), (other, [makes])):
        assert both() == (1, 1)
    assert (attempts_of(one), attempts_of(other)) == (["attempt 1"], ["attempt 1"])


def test_what_failed_beside_is_tried_again_when_it_is_waited_for(batches: tuple[Batch, Batch]) -> None:
    """Nobody looks after it meanwhile; its first attempt counts."""
    one, other = batches

    @flow(name="parent of both")
    def both() -> None:
        begun = begin([one.child], tags=("of a test",))
        wait(begin([other.child], tags=("of a test",)), max_attempts=2, tags=("of a test",), beside=begun)
        wait(begun, max_attempts=2, tags=("of a test",))

    with (
        worker((one, [fails, fails]), (other, [makes])),
        pytest.raises(ArtifactError, match=r"missing after 2 attempts: .* cause: Failed: the disk is full"),
    ):
        both()
    assert attempts_of(one) == ["attempt 1", "attempt 2"]


def interrupted(shard: str) -> Callable[[], list[str]]:
    """What is missing at each of three looks; at the next one somebody presses Ctrl-C."""
    looks = iter(range(3))

    def missing() -> list[str]:
        if next(looks, None) is None:
            raise KeyboardInterrupt
        return [shard]

    return missing


def test_a_cancelled_parent_cancels_also_what_goes_on_beside(batches: tuple[Batch, Batch]) -> None:
    one, other = batches
    missing = interrupted("shard 2")

    @flow(name="parent of both")
    def both() -> None:
        begun = begin([one.child], tags=("of a test",))
        waited = begin([replace(other.child, missing=missing)], tags=("of a test",))
        wait(waited, max_attempts=2, tags=("of a test",), beside=begun)

    with pytest.raises(KeyboardInterrupt):
        both()
    for made in (one, other):
        (run,) = runs_of(made)
        assert run.state is not None
        assert run.state.name in ("Cancelling", "Cancelled")


def test_the_workers_of_a_pool_are_counted_while_they_are_online() -> None:
    assert online_workers("no such/deployment") == 0
    assert online_workers("batch/test") == 0  # without a pool
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="crowd", type="process"))
        identity: Any = RunnerDeployment.from_flow(batch, "crowd", work_pool_name="crowd").apply()
        try:
            assert online_workers("batch/crowd") == 0
            for name in ("a", "b", "c"):
                client.send_worker_heartbeat("crowd", name, 30)
            assert online_workers("batch/crowd") == 3
        finally:
            client.delete_deployment(identity)
            client.delete_work_pool("crowd")


def test_files_decide_and_not_the_state(batches: tuple[Batch, Batch]) -> None:
    one, other = batches
    with worker((one, [makes_and_crashes]), (other, [ends_in(Completed()), makes])):
        assert parent([one.child, other.child]) == 3
    assert attempts_of(one) == ["attempt 1"]
    assert attempts_of(other) == ["attempt 1", "attempt 2"]


def test_files_that_stay_away_point_at_the_shared_folder(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    with (
        worker((one, [ends_in(Completed())])),
        pytest.raises(ArtifactError, match="do all machines share the runs root"),
    ):
        parent([one.child], 1)


def test_a_deleted_flow_run_is_replaced(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    with worker((one, [is_deleted, makes])):
        assert parent([one.child]) == 2
    assert len(runs_of(one)) == 1


def test_an_attempt_that_stood_between_may_be_deleted(batches: tuple[Batch, Batch]) -> None:
    """The next number follows the newest run: an old key would only bring the old failure back."""
    one, _ = batches
    with worker((one, [fails, fails, makes])):
        with pytest.raises(ArtifactError):
            parent([one.child])
        with get_client(sync_client=True) as client:
            client.delete_flow_run(runs_of(one)[0].id)
        assert parent([one.child]) == 1
    assert attempts_of(one) == ["attempt 2", "attempt 3"]


def test_a_cancelled_child_is_not_started_again(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    with (
        worker((one, [ends_in(Cancelled())])),
        pytest.raises(ArtifactError, match=r"missing after 1 attempt: .*Cancelled"),
    ):
        parent([one.child])


def test_what_is_hopeless_is_not_started_again(batches: tuple[Batch, Batch]) -> None:
    one, other = batches
    message = "Flow run encountered an exception: HopelessError: train.lr: too large; make it smaller"
    with (
        worker((one, [ends_in(Failed(message=message))]), (other, [makes])),
        pytest.raises(ArtifactError, match=r"missing after 1 attempt: .*cause: Failed: train\.lr: too large"),
    ):
        parent([one.child, other.child])
    assert attempts_of(one) == ["attempt 1"]


def test_a_child_that_is_still_being_cancelled_is_started_again_when_it_has_ended(
    batches: tuple[Batch, Batch],
) -> None:
    """Ctrl-C, and the same command at once: that cancel was of the last call."""
    one, _ = batches
    run: Any = run_deployment("batch/test", parameters={"shards": [0, 1]}, timeout=0, idempotency_key=one.child.key(1))
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Cancelling(), force=True)

    def end() -> None:
        time.sleep(1)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, Cancelled(), force=True)

    thread = threading.Thread(target=end)
    with worker((one, [makes])):
        thread.start()
        assert parent([one.child]) == 1
        thread.join()
    assert attempts_of(one) == ["attempt 2"]


def test_a_server_that_is_away_is_asked_again(batches: tuple[Batch, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = batches
    answers = iter([httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])

    def sometimes(*words: Any, **options: Any) -> Any:
        for error in answers:
            raise error
        return run_deployment(*words, **options)

    monkeypatch.setattr(joining, "run_deployment", sometimes)
    with worker((one, [makes])):
        assert parent([one.child]) == 1
    assert attempts_of(one) == ["attempt 1"]


def test_a_run_that_does_more_than_its_own_work_is_waited_for(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    looks: list[bool] = []

    def busy() -> bool:
        looks.append(len(looks) < 5)
        return looks[-1]

    def makes_and_goes_on(batch: Batch, client: SyncPrefectClient, run: FlowRun) -> None:
        batch.make()

    with worker((one, [makes_and_goes_on])):
        assert parent([replace(one.child, busy=busy)]) == 1
    assert looks == [True] * 5 + [False]


def test_a_cancelled_parent_cancels_its_children(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    missing = interrupted("shard 0")

    with pytest.raises(KeyboardInterrupt):
        parent([Child("batch/test", str(one.folder), missing, one.child.call)])
    (run,) = runs_of(one)
    assert run.state is not None
    assert run.state.name in ("Cancelling", "Cancelled")


def test_an_unknown_deployment_names_the_command_that_registers(batches: tuple[Batch, Batch]) -> None:
    one, _ = batches
    with pytest.raises(ConfigError, match=r"knows no deployment 'nobody/test'.*spin-diffusion deploy"):
        parent([Child("nobody/test", "work", one.child.missing, one.child.call)])


def test_a_key_is_of_the_work_and_the_attempt(batches: tuple[Batch, Batch]) -> None:
    one, other = (made.child for made in batches)
    assert len({one.key(1), one.key(2), other.key(1)}) == 3
    assert one.key(1) == batches[0].child.key(1)
