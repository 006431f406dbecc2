"""Made-up evidence for the tests of the checker: correct as it is, and easy to damage."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.chaos.evidence import (
    Call,
    Evidence,
    JobDefinition,
    ReceivedDelivery,
    Result,
    ScheduleDefinition,
)
from tests.chaos.invariants import judge
from tests.support.changes import Change, Document

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

EVERY_SECOND = ScheduleDefinition(anchor=NOON - SECOND, period=SECOND)
JOB = JobDefinition(schedules=(EVERY_SECOND,), max_attempts=2, retry_delay=0.5 * SECOND)


def at(seconds: float) -> datetime:
    return NOON + seconds * SECOND


def call(verb: str, sent: float, result: Result = Result.OK, **changes: Any) -> Call:
    return Call(verb, "job", result, at(sent), at(sent + 0.2), **changes)


def creation(
    result: Result = Result.OK, *, definition: JobDefinition = JOB, **changes: Any
) -> Call:
    return call("create", 0.5, result, definition=definition, **changes)


def attempt(began: float, number: int = 1, **changes: Any) -> Document:
    """An attempt that began at this second and succeeded 0.1 s later."""
    fields = {
        "number": number,
        "started_at": at(began),
        "finished_at": at(began + 0.1),
        "outcome": "succeeded",
    }
    return fields | changes


def execution(n: int, **changes: Any) -> Document:
    """The execution of the slot at second n."""
    fields = {
        "_id": f"e{n}",
        "job_id": "j",
        "schedule_id": "s",
        "kind": "scheduled",
        "scheduled_for": at(n),
        "status": "succeeded",
        "lease_token": 1,
        "attempts": [attempt(n)],
        "created_at": at(n),
        "finished_at": at(n + 0.1),
    }
    return fields | changes


def unstarted(n: int, status: str, **changes: Any) -> Document:
    """The record of the slot at second n, which never ran."""
    return execution(n, status=status, lease_token=0, attempts=[], **changes)


def delivery(n: int, number: int = 1, status: int | None = 200, **changes: Any) -> ReceivedDelivery:
    """The request of an attempt at second n."""
    received = changes.pop("received_at", at(n + 0.05))
    return ReceivedDelivery(f"e{n}", number, at(n), received, status, **changes)


def make_evidence(slots: int = 3, *, definition: JobDefinition = JOB) -> Evidence:
    """Make evidence of a job with slots at 1, 2, 3 s and so on: created at 0.7 s, paused after the
    last slot."""
    numbers = range(1, slots + 1)
    return Evidence(
        jobs=[{"_id": "j", "name": "job", "active": False}],
        executions=[execution(n) for n in numbers],
        deliveries=[delivery(n) for n in numbers],
        calls=[creation(definition=definition), call("pause", slots + 0.5)],
    )


def list_violated(evidence: Evidence) -> set[str]:
    return {finding.name for finding in judge(evidence) if finding.violations}


def change(id_: str, operation: str = "update", /, second: float = 0, **fields: Any) -> Change:
    """A change of the job "j" or of an execution. In names of fields `__` stands for a dot."""
    collection = "jobs" if id_ == "j" else "executions"
    named = {name.replace("__", "."): value for name, value in fields.items()}
    removed = tuple(name for name, value in named.items() if value is REMOVED)
    kept = {name: value for name, value in named.items() if value is not REMOVED}
    return Change(collection, id_, at(second), operation, kept, removed)


REMOVED = object()
"""The value of a field that a change removes."""


def insertion(id_: str, second: float = 0, **changes: Any) -> Change:
    """The insertion of a live execution, which may run at once."""
    fields = {
        "job_id": "j",
        "schedule_id": "s",
        "kind": "scheduled",
        "scheduled_for": at(second),
        "run_at": at(second),
        "status": "queued",
        "lease_token": 0,
        "live_for": "j",
    }
    return change(id_, "insert", second, **(fields | changes))


CLAIM: dict[str, Any] = {"status": "running", "lease_token": 1, "lease_owner": "a-b-77-c0ffee"}


def live_from_to(id_: str, since: float, until: float) -> list[Change]:
    """The changes of an execution that was live during this time."""
    ended = {"status": "succeeded", "live_for": REMOVED, "lease_owner": REMOVED}
    return [
        insertion(id_, since),
        change(id_, second=since, **CLAIM),
        change(id_, second=since, attempts=[{}]),
        change(id_, second=until, **ended),
    ]


def make_abandoned_evidence() -> Evidence:
    """Make evidence in which process 77 abandoned the first attempt of the first execution."""
    evidence = make_evidence()
    abandoned = attempt(1, outcome="abandoned", error="abandoned")
    evidence.executions[0] = execution(1, attempts=[abandoned, attempt(7, 2)], lease_token=2)
    evidence.changes = [
        insertion("e1", 1),
        change("e1", second=1, **CLAIM),
        change("e1", second=1, attempts=[{}]),
    ]
    evidence.deliveries.append(delivery(1, 2, received_at=at(7.05)))
    return evidence
