"""Which slots must have a record and which may have one, computed from the driver's calls.

A slot of an interval is `start_at + n * period`. It must be recorded if it lies between the
response to a creation (or resume) and the sending of the next pause or deletion. It may be recorded
if it lies between the request that creates (or resumes) the job and the response to the next pause
or deletion. This module uses no code of the service.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.chaos.evidence import Call, Result

Span = tuple[datetime, datetime]

_BEGIN = {"create", "resume"}
_END = {"pause", "delete"}


@dataclass(frozen=True, slots=True)
class Expected:
    """The slots of one job."""

    must: frozenset[datetime]
    may: frozenset[datetime]


def compute_expected_slots(calls: Sequence[Call], *, until: datetime) -> dict[str, Expected]:
    """Return the expected slots by the name of the job.

    `until`: the end of the chaos run, for jobs that were never paused.
    """
    by_job: dict[str, list[Call]] = {}
    for call in calls:
        by_job.setdefault(call.job, []).append(call)
    return {job: _compute_expected(history, until) for job, history in by_job.items()}


def _compute_expected(calls: Sequence[Call], until: datetime) -> Expected:
    created = next((c for c in calls if c.verb == "create"), None)
    if created is None or created.definition is None:
        return Expected(frozenset(), frozenset())
    [schedule] = created.definition.schedules
    if schedule.anchor is None or schedule.period is None:
        return Expected(frozenset(), frozenset())
    ordered = sorted(calls, key=lambda call: call.sent_at)
    return Expected(
        frozenset(_list_slots(schedule.anchor, schedule.period, _list_certain(ordered, until))),
        frozenset(_list_slots(schedule.anchor, schedule.period, _list_possible(ordered, until))),
    )


def _list_certain(calls: Sequence[Call], until: datetime) -> Iterator[Span]:
    """Spans in which the schedule is active, whatever the unknown calls did."""
    since: datetime | None = None
    for call in calls:
        if call.verb in _BEGIN and call.result is Result.OK:
            since = call.ended_at if since is None else since
        elif call.verb in _END and call.result is not Result.FAILED:
            if since is not None:
                yield since, call.sent_at
            since = None
    if since is not None:
        yield since, until


def _list_possible(calls: Sequence[Call], until: datetime) -> Iterator[Span]:
    """Spans in which the schedule may be active."""
    since: datetime | None = None
    for call in calls:
        if call.verb in _BEGIN and call.result is not Result.FAILED:
            since = call.sent_at if since is None else since
        elif call.verb in _END and call.result is Result.OK:
            if since is not None:
                yield since, call.ended_at
            since = None
    if since is not None:
        yield since, until


def _list_slots(anchor: datetime, period: timedelta, spans: Iterator[Span]) -> Iterator[datetime]:
    for after, before in spans:
        n = max(0, (after - anchor) // period + 1)
        while anchor + n * period <= before:
            yield anchor + n * period
            n += 1
