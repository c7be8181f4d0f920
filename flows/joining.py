"""Child flow runs: submit those whose work is missing, wait until it stands, submit again what failed.

Manifests decide, Prefect's states only explain: a child whose work stands is done whatever its state says, and
a lost server costs nothing. The idempotency key of a child names its work and the attempt, so that a parent
that is run again joins a child that still works in place of repeating it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelling
from prefect.utilities.urls import url_for

from spin.core.errors import ArtifactError, ConfigError
from spin.core.plan import identity_hash
from tasks.retrying import HopelessError

_POLL_SECONDS: Final = 1.0
_MANY_ATTEMPTS: Final = 20  # keys that one look-up asks for
_PAGE: Final = 100  # runs that one look-up asks for
_NAMED: Final = 8  # things that a message lists
Missing = Callable[[], Sequence[str]]  # names of what is not there yet: shard 3, shard 7


@dataclass(frozen=True)
class Call:
    """How a child flow run is started for what is missing now."""

    label: str  # the run's name: sample k=2 shards 00-07/32
    parameters: Mapping[str, Any]
    commands: tuple[str, ...] = ()  # what makes it without a server, where there is such a thing


@dataclass(frozen=True)
class Child:
    """The work of one child flow run, and how its absence shows on disk."""

    deployment: str  # sample-shards/gpu
    work: str  # identity of what it makes
    missing: Missing
    call: Callable[[], Call]
    busy: Callable[[], bool] = lambda: False  # whether its run may do more that is wanted, when its work stands

    def key(self, attempt: int) -> str:
        return f"{identity_hash(self.deployment, self.work)[:32]}-{attempt}"


@dataclass
class Watched:
    """A child, and the newest of its flow runs."""

    child: Child
    unsent: bool = False  # no flow run yet: the server was away
    fresh: int = 0  # attempts that this call submitted
    left: int = 0  # things that were missing when it submitted the newest
    fruitless: int = 0  # of them, those in a row that made nothing
    run: FlowRun | None = None
    met_cancelling: bool = False  # the run was being cancelled when this call met it
    causes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.child.call().label if self.run is None else self.run.name


def join(children: Iterable[Child], *, max_attempts: int, tags: Sequence[str]) -> int:
    """`begin` and `wait`."""
    return wait(begin(children, tags=tags), max_attempts=max_attempts, tags=tags)


def begin(children: Iterable[Child], *, tags: Sequence[str], begun: Sequence[Watched] = ()) -> list[Watched]:
    """Submit the children whose work is missing, and go on: what is returned is waited for by `wait`.

    Args:
        begun: children that were begun before; one whose work is among theirs is not submitted again.
    """
    known = {(one.child.deployment, one.child.work): one for one in begun}
    found: list[Watched] = []
    try:
        for child in children:
            one = known.get((child.deployment, child.work))
            if one is not None and (child.missing() or child.busy()):
                found.append(one)
            elif one is None and child.missing():
                found.append(Watched(child))
                _try_to_submit(found[-1], tags)
    except BaseException as error:
        if not isinstance(error, Exception):  # a cancel or Ctrl-C ends the children too
            cancel([*found, *begun])
        raise
    return found


def wait(watched: Sequence[Watched], *, max_attempts: int, tags: Sequence[str], beside: Sequence[Watched] = ()) -> int:
    """Return when the work of all children stands; the number of child flow runs that were submitted.

    Args:
        beside: children that go on meanwhile; nobody looks after them, but a cancel ends them too.

    Raises:
        ArtifactError: after `max_attempts` in a row that made nothing, when all others are done; names what is missing,
            why, and both ways out.
    """
    waiting = list(watched)
    try:
        while waiting := [one for one in waiting if not _finished(one, max_attempts, tags)]:
            time.sleep(_POLL_SECONDS)
            _refresh(waiting)
    except BaseException as error:
        if not isinstance(error, Exception):
            cancel([*waiting, *beside])
        raise
    failed = [one for one in watched if one.child.missing()]
    if failed:
        raise _failure(failed)
    return sum(one.fresh for one in watched)


def online_workers(deployment: str) -> int:
    """How many workers the pool of a deployment has that are online; 0 also where nobody can tell."""
    try:
        with get_client(sync_client=True) as client:
            pool = client.read_deployment_by_name(deployment).work_pool_name
            found = client.read_workers_for_work_pool(pool) if pool else []
    except (httpx.HTTPError, OSError, ObjectNotFound) as error:
        logging.getLogger(__name__).warning("workers cannot be counted: %s", error)
        return 0
    return sum(worker.status == WorkerStatus.ONLINE for worker in found)


def _try_to_submit(one: Watched, tags: Sequence[str]) -> None:
    """A server that is away now is asked again at the next look."""
    one.unsent = True
    try:
        _submit(one, tags)
    except (httpx.HTTPError, OSError) as error:
        _pass_over(error)


def _submit(one: Watched, tags: Sequence[str]) -> None:
    """Join the newest run of this work if it is still going, else start the next attempt."""
    child = one.child
    attempt, newest = _newest_attempt(child)
    if newest is not None and not _ended(newest):
        one.run, one.unsent = newest, False
        one.met_cancelling = newest.state_type == StateType.CANCELLING
        return
    attempt, call = attempt + 1, child.call()
    try:
        started: Any = run_deployment(
            child.deployment,
            parameters=dict(call.parameters),
            flow_run_name=call.label,
            idempotency_key=child.key(attempt),
            tags=[*tags, f"attempt {attempt}"],
            timeout=0,
        )
    except ObjectNotFound:
        raise ConfigError(
            f"the Prefect server knows no deployment {child.deployment!r}",
            where="execution.executor: workers",
            fix="register it with spin-diffusion deploy, or set execution.executor to local",
        ) from None
    one.run, one.unsent, one.met_cancelling = started, False, False
    one.fresh, one.left = one.fresh + 1, len(child.missing())
    if started.parent_task_run_id is not None:
        with get_client(sync_client=True) as client:  # Prefect gives the parent's entry a made-up name
            client.set_task_run_name(started.parent_task_run_id, call.label)


def _newest_attempt(child: Child) -> tuple[int, FlowRun | None]:
    """Number and run of the newest attempt at this work, (0, None) before the first; older ones may be deleted."""
    newest: tuple[int, FlowRun | None] = (0, None)
    with get_client(sync_client=True) as client:
        while True:
            keys = {child.key(attempt): attempt for attempt in range(newest[0] + 1, newest[0] + 1 + _MANY_ATTEMPTS)}
            found = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=list(keys)))
            )
            if not found:
                return newest
            newest = max(((keys[run.idempotency_key or ""], run) for run in found), key=lambda pair: pair[0])


def _finished(one: Watched, max_attempts: int, tags: Sequence[str]) -> bool:
    """True where the work stands, or where nothing more is tried."""
    missing = one.child.missing()
    going = one.run is not None and not _ended(one.run)
    if not missing:
        return not (going and one.child.busy())
    if going:
        return False
    if not one.unsent:
        one.causes.append(_cause(one.run))
        get_run_logger().warning("%s: %s missing: %s", one.label, _listed(missing), one.causes[-1])
        one.fruitless = one.fruitless + 1 if one.fresh and len(missing) >= one.left else 0
        if one.fruitless >= max_attempts or _settled(one):
            return True
    _try_to_submit(one, tags)
    return False


def _settled(one: Watched) -> bool:
    """Whether another attempt would be against somebody's will, or to no end."""
    if one.run is None or one.run.state is None:
        return False
    if one.run.state_type == StateType.CANCELLED:
        return not one.met_cancelling
    return f"{HopelessError.__name__}: " in (one.run.state.message or "")


def _refresh(waiting: Sequence[Watched]) -> None:
    """Read the states anew; what is not known to the server any more counts as ended."""
    by_id = {one.run.id: one for one in waiting if one.run is not None}
    try:
        for ids in _pages(list(by_id)):
            with get_client(sync_client=True) as client:
                runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
            for run in runs:
                by_id.pop(run.id).run = run
        for one in by_id.values():
            one.run = None  # deleted on the server
    except (httpx.HTTPError, OSError) as error:
        _pass_over(error)


def _pass_over(error: Exception) -> None:
    """A server that is away now may be back at the next look; one that refuses what it is asked will go on so."""
    if isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error:
        raise error
    logging.getLogger(__name__).warning("server away: %s", error)


def _pages(ids: list[UUID]) -> Iterator[list[UUID]]:
    return (ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE))


def _ended(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _cause(run: FlowRun | None) -> str:
    if run is None or run.state is None:
        return "its flow run is gone"
    if run.state.is_completed():
        return "Completed, but its files are not here: do all machines share the runs root?"
    message = (run.state.message or "").strip().removeprefix("Flow run encountered an exception: ")
    message = message.removeprefix(f"{HopelessError.__name__}: ")
    name = str(run.state.name)
    return f"{name}: {message.splitlines()[0]}" if message else name


def cancel(watched: Sequence[Watched], message: str = "its parent was cancelled") -> None:
    """End the runs of children that still go."""
    for one in watched:
        if one.run is None or _ended(one.run):
            continue
        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(one.run.id, Cancelling(message=message))
        except Exception:  # on the way out already: the others must still hear of it
            logging.getLogger(__name__).warning("could not cancel %s", one.label, exc_info=True)


def _failure(failed: Sequence[Watched]) -> ArtifactError:
    """What is missing, why, and both ways out: the button, and what makes the first child's work without a server."""
    first = failed[0]
    names = _listed([f"{one.label}: {_listed(one.child.missing())}" for one in failed], "; ")
    cause = first.causes[-1] if first.causes else "it was made, and is gone again"
    attempts = "1 attempt" if first.fresh == 1 else f"{first.fresh} attempts"
    fix = "press Retry on this run"
    if first.run is not None:
        page = url_for("flow-run", obj_id=first.run.id) or first.run.id
        fix = f"press Retry on {first.run.name!r} ({page}) and then on this run"
    if commands := first.child.call().commands:
        fix += f", or call: {' && '.join(commands)}"
    return ArtifactError(f"missing after {attempts}: {names}; cause: {cause}", fix=fix)


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    """The first of many names; a state's message is one line."""
    more = [] if len(names) <= _NAMED else [f"{len(names) - _NAMED} more"]
    return separator.join([*names[:_NAMED], *more])
