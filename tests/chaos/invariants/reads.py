"""Reads that the cache may answer: users see their own writes at once, and what the service changes
after at most 3 s, or after at most a minute if a fault came between."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from tests.chaos.evidence import Call, Fault, Part, Read, Result
from tests.chaos.invariants.examination import CLOCK_TOLERANCE, Examination
from tests.support.history import JobVersion, Span

_LONGEST_AGE = timedelta(seconds=3)
"""How old the fields may be that the service changes: docs/api-rules.md."""

_CACHE_LIFETIME = timedelta(seconds=60)
"""How old they may be if a fault stopped the process or the call that drops cached responses."""

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
            wrong += _judge_age(read, versions, _compute_longest_age(examination, read))
        violations += [f"{read.job}, read at {read.sent_at}: {one}" for one in wrong]
    return len(reads), violations


def _may_be_cached(examination: Examination, call: Call, read: Read) -> bool:
    """Whether an earlier response may still be cached, because Redis could not drop it."""
    dropped = Span(call.sent_at, call.ended_at)
    return read.sent_at <= call.ended_at + _CACHE_LIFETIME and any(
        fault.part is Part.REDIS and dropped.meets(fault.at - _SLACK, fault.ended_at + _SLACK)
        for fault in examination.evidence.faults
    )


def _has_lost_writes(examination: Examination, read: Read) -> bool:
    """Whether the read may have seen a write that the loss of a primary has undone."""
    return any(
        fault.part is Part.DATABASE and _is_within_a_minute(fault, read)
        for fault in examination.evidence.faults
    )


def _compute_longest_age(examination: Examination, read: Read) -> timedelta:
    """How old the fields that the service changes may be in this read."""
    faults = examination.evidence.faults
    if any(_is_within_a_minute(fault, read) for fault in faults):
        return _CACHE_LIFETIME
    return _LONGEST_AGE


def _is_within_a_minute(fault: Fault, read: Read) -> bool:
    """Whether the read was sent during the fault, or at most a minute after it."""
    affected = Span(fault.at, fault.ended_at + _CACHE_LIFETIME + _SLACK)
    return affected.meets(read.sent_at, read.ended_at)


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


def _judge_age(read: Read, versions: Iterable[JobVersion], longest_age: timedelta) -> Iterator[str]:
    """Compare the fields that the service changes with those that may still be cached."""
    if read.status == _NOT_FOUND or read.revision is None:
        return
    seen = list(_list_seen(read, versions, read.sent_at - longest_age - _SLACK))
    too_old = f"is older than {longest_age.total_seconds():g} s, or was never stored"
    if not seen:
        yield f"revision {read.revision} {too_old}"
        return
    for name, value in (("next_run", read.next_run), ("last_run", read.last_run)):
        stored: set[datetime | None] = {version.document.get(name) for version in seen}
        if value not in stored:
            yield f"{name} {value} {too_old}"


def _list_seen(read: Read, versions: Iterable[JobVersion], since: datetime) -> Iterator[JobVersion]:
    """The versions of the read's revision that were current at some time from `since` to the end
    of the read."""
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
