"""Reads that the cache may answer: users see their own writes at once, and what the service changes
after at most a minute."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from tests.chaos.evidence import Call, Part, Read, Result
from tests.chaos.invariants.examination import CLOCK_TOLERANCE, Examination
from tests.support.history import JobVersion, Span

_LONGEST_AGE = timedelta(seconds=60)
"""How old the fields may be that the service changes: docs/api-rules.md."""

_SLACK = timedelta(seconds=1)
"""Between the query of the database and the storing of its response in the cache."""

_ACTIVE_AFTER = {"create": True, "resume": True, "pause": False}

_NOT_FOUND = 404


def check_reads(examination: Examination) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    reads = [read for read in examination.evidence.reads if read.status in {200, _NOT_FOUND}]
    ids = {name: id_ for id_, name in examination.names.items()}
    for read in reads:
        calls = [c for c in examination.calls.get(read.job, []) if c.sent_at <= read.ended_at]
        told = [
            call
            for call in calls
            if call.result is Result.OK
            and call.ended_at <= read.sent_at
            and not _may_be_cached(examination, call, read)
        ]
        versions = examination.replay.history.jobs.get(ids.get(read.job, ""), [])
        wrong = [*_judge_content(read, calls, told)]
        if versions and not _has_lost_writes(examination, read):
            wrong += _judge_age(read, versions)
        violations += [f"{read.job}, read at {read.sent_at}: {one}" for one in wrong]
    return len(reads), violations


def _may_be_cached(examination: Examination, call: Call, read: Read) -> bool:
    """Whether an earlier response may still be cached, because Redis could not drop it."""
    dropped = Span(call.sent_at, call.ended_at)
    return read.sent_at <= call.ended_at + _LONGEST_AGE and any(
        fault.part is Part.REDIS and dropped.meets(fault.at - _SLACK, fault.ended_at + _SLACK)
        for fault in examination.evidence.faults
    )


def _has_lost_writes(examination: Examination, read: Read) -> bool:
    """Whether the read may have seen a write that the loss of a primary has undone."""
    return any(
        fault.part is Part.DATABASE
        and Span(fault.at, fault.ended_at + _LONGEST_AGE).meets(read.sent_at, read.ended_at)
        for fault in examination.evidence.faults
    )


def _judge_content(read: Read, calls: Iterable[Call], told: Iterable[Call]) -> Iterator[str]:
    """Compare a read with the calls that were acknowledged before it was sent."""
    deletes = any(call.verb == "delete" for call in calls)
    if read.status == _NOT_FOUND:
        if not deletes and any(call.verb == "create" for call in told):
            yield "the job was not found"
        return
    if any(call.verb == "delete" for call in told):
        yield "the job was found after its acknowledged deletion"
    newest = max((call.revision for call in told if call.revision is not None), default=0)
    if read.revision is None or read.revision < newest:
        yield f"revision {read.revision} after the acknowledged revision {newest}"
    for call in calls:
        if call.revision is None or call.revision != read.revision:
            continue
        active = _ACTIVE_AFTER.get(call.verb)
        if active is not None and read.active not in {None, active}:
            yield f"active is {read.active} after {call.verb} made its revision"
        if call.description is not None and read.description != call.description:
            yield f"{read.description!r} is not the description of its revision"


def _judge_age(read: Read, versions: Iterable[JobVersion]) -> Iterator[str]:
    """Compare the fields that the service changes with those of the last minute."""
    if read.status == _NOT_FOUND or read.revision is None:
        return
    seen = list(_list_seen(read, versions))
    if not seen:
        yield f"revision {read.revision} is older than a minute, or was never stored"
        return
    for name, value in (("next_run", read.next_run), ("last_run", read.last_run)):
        stored: set[datetime | None] = {version.document.get(name) for version in seen}
        if value not in stored:
            yield f"{name} {value} is older than a minute, or was never stored"


def _list_seen(read: Read, versions: Iterable[JobVersion]) -> Iterator[JobVersion]:
    """The versions of the read's revision that were stored at most a minute before the read."""
    since = read.sent_at - _LONGEST_AGE - _SLACK
    before: JobVersion | None = None
    for version in versions:
        if version.at > read.ended_at + CLOCK_TOLERANCE:
            break
        if version.at < since:
            before = version
        else:
            if before is not None:
                if before.revision == read.revision:
                    yield before
                before = None
            if version.revision == read.revision:
                yield version
    if before is not None and before.revision == read.revision:
        yield before
