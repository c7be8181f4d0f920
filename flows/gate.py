"""The gate after each iteration: rules decide, or a person does while the run is suspended and no process waits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast, get_args
from uuid import UUID

import typer
from prefect import runtime
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.events.actions import ResumeFlowRun
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from pydantic import Field

from flows.requests import Requests
from spin.core.gate import Decision, Evidence, best, judge
from spin.core.record import Record, write_record
from spin.report.request import ReportResult
from tasks.showing import console

_MARGIN: Final = timedelta(days=1)  # Prefect's own limit comes after ours: it would fail the run
_ENDS: Final = ("Resuming", "Running", "Cancelling", "Cancelled", "Completed", "Failed", "Crashed")


class GateForm(RunInput):
    """What the page of a suspended run asks."""

    decision: Literal["go-on", "stop", "go-back"] = Field(
        default="go-on",
        title="Decision",
        description="go on from the new model, stop here, or go back one: the next iteration starts before it",
    )


def pass_gate(requests: Requests, record: Record, number: int, told: ReportResult) -> Decision:
    """Decide once about iteration `number`, and write it down; a decision that was made stands."""
    settings = requests.config.gate
    stage = next(s for s in record["stages"] if s["name"] == requests.folder.iteration(number).name)
    evidence = next((e for e in told.evidence if e.stage == stage["name"]), None)
    if settings.mode == "off" or evidence is None:
        return "go-on"
    seen = told.evidence[: told.evidence.index(evidence) + 1]
    known = stage.get("gate")
    if known is not None and known["model"] == stage["digest"]:
        return _write_down(requests, record, seen, cast(Decision, known["decision"]))
    verdict = judge(evidence, settings.metric)
    if settings.mode == "rules":
        decision, decider = verdict.decision, "rules"
    else:
        decision, decider = _ask(requests, number, evidence, verdict.reasons, told.story)
    stage["gate"] = {
        "decision": decision, "by": decider, "reasons": list(verdict.reasons), "model": stage["digest"],
    }  # fmt: skip
    get_run_logger().info("gate after %s: %s (%s)", evidence.label, decision, decider)
    console.print(f"gate after {evidence.label}: {decision} ({decider})", highlight=False)
    return _write_down(requests, record, seen, decision)


def _write_down(requests: Requests, record: Record, seen: Sequence[Evidence], decision: Decision) -> Decision:
    if decision == "stop":
        record["stopped"] = {"after": seen[-1].stage, "best": best(seen, requests.config.gate.metric)}
    write_record(requests.folder, record)
    return decision


def _ask(
    requests: Requests, number: int, evidence: Evidence, reasons: tuple[str, ...], story: str
) -> tuple[Decision, str]:
    """Suspend until somebody answers in the UI; on a terminal, ask there; else take the default."""
    settings = requests.config.gate
    if runtime.deployment.id is None:
        if not sys.stdin.isatty():
            warning = f"nobody can be asked here: {settings.default}, the default"
            get_run_logger().warning(warning)  # shown on the run's page; on a terminal the next line is
            typer.echo(f"gate after {evidence.label}: {warning}", err=True)
            return settings.default, "default"
        typer.echo("\n".join((f"{evidence.label}:", *reasons)))
        answer = ""
        while answer not in get_args(Decision):
            answer = typer.prompt("go-on, stop or go-back?", default=settings.default).strip().lower()
        return cast(Decision, answer), "a person"
    return _suspended(requests, number, "\n\n".join((*(f"- {reason}" for reason in reasons), story)))


def _suspended(requests: Requests, number: int, description: str) -> tuple[Decision, str]:
    """The first call suspends and does not come back; the run's next call finds the answer."""
    settings = requests.config.gate
    limit = timedelta(hours=settings.limit_hours)
    until = datetime.now(UTC) + limit
    note = f"**No answer by {until:%Y-%m-%d %H:%M} UTC means: {settings.default}.**\n\n"
    form = GateForm.with_initial_data(description=note + description, decision=settings.default)
    name = f"gate {requests.config.run.name} k={number} {runtime.flow_run.id}"
    if not _deadlines(name):
        _deadline(name, limit).create()
    answer = suspend_flow_run(wait_for_input=form, key=f"gate-{number}", timeout=int((limit + _MARGIN).total_seconds()))
    _forget(name)
    return answer.decision, "a person" if "decision" in answer.model_fields_set else "nobody in time"


def _deadline(name: str, limit: timedelta) -> Automation:
    """Resumes the run without an answer when its time is over."""
    return Automation(
        name=name,
        description="resumes a run at whose gate nobody answered",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=cast(Any, {"prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}"}),
            after={"prefect.flow-run.Suspended"},
            expect={f"prefect.flow-run.{state}" for state in _ENDS},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=limit,
        ),
        actions=[ResumeFlowRun()],
    )


def _deadlines(name: str) -> list[UUID]:
    with get_client(sync_client=True) as client:
        return [automation.id for automation in client.read_automations_by_name(name)]


def _forget(name: str) -> None:
    """Delete the deadline of a gate that is passed."""
    for identity in _deadlines(name):
        with get_client(sync_client=True) as client, suppress(ObjectNotFound):
            client.delete_automation(identity)
