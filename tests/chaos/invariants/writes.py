"""What users were told: acknowledged writes are kept, with their content."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta

from tests.chaos.evidence import Call, JobDefinition, Result, ScheduleType
from tests.chaos.invariants.examination import Examination
from tests.chaos.limits import RESPONSE_SECONDS
from tests.chaos.schedule_keys import make_cron_expression
from tests.support.changes import Document
from tests.support.history import Span

_LONGEST_CALL = timedelta(seconds=RESPONSE_SECONDS)

_ACTIVE_AFTER = {"create": True, "resume": True, "pause": False}
"""Calls that decide whether the job is active."""


def check_acknowledged(examination: Examination) -> tuple[int, Iterable[str]]:
    acknowledged = [call for call in examination.evidence.calls if call.result is Result.OK]
    violations: list[str] = []
    for call in acknowledged:
        execution = examination.by_id.get(call.execution_id or "")
        if call.verb in {"execute", "cancel"} and execution is None:
            violations.append(f"{call.job}: execution {call.execution_id} is lost")
        elif call.verb == "cancel" and execution and execution["status"] != "cancelled":
            violations.append(
                f"{call.execution_id} is {execution['status']} after an acknowledged cancel"
            )
        if call.verb == "create" and call.job not in examination.names.values():
            violations.append(f"{call.job}: its creation is lost")
    violations += _find_wrong_states(examination)
    return len(acknowledged), violations


def _find_wrong_states(examination: Examination) -> Iterator[str]:
    """Find the jobs whose state differs from the result of their last call."""
    for name, history in examination.calls.items():
        calls = [c for c in history if c.verb in _ACTIVE_AFTER or c.verb == "delete"]
        if not calls or calls[-1].result is not Result.OK:
            continue
        last = calls[-1]
        job = examination.jobs.get(name)
        if (job is None) != (last.verb == "delete"):
            yield f"{name}: {last.verb} was acknowledged, but the job is there: {job is not None}"
        elif job is not None and job["active"] != _ACTIVE_AFTER[last.verb]:
            yield f"{name}: {last.verb} was acknowledged, active is {job['active']}"


def check_revisions(examination: Examination) -> tuple[int, Iterable[str]]:
    """Each revision is acknowledged to one edit, and no job has an earlier revision."""
    edits = Counter(
        (call.job, call.revision)
        for call in examination.evidence.calls
        if call.revision is not None and call.verb == "edit"
    )
    violations = [f"{job}: revision {n} was made twice" for (job, n), k in edits.items() if k > 1]
    violations += [
        f"{name}: revision {n} was acknowledged, but it has {examination.jobs[name]['revision']}"
        for name, n in edits
        if name in examination.jobs and examination.jobs[name]["revision"] < n
    ]
    return len(edits), violations


def check_content(examination: Examination) -> tuple[int, Iterable[str]]:
    """An acknowledged creation or edit is stored as it was sent.

    Compares each with the stored version of its revision, and the last one with the job at the end,
    unless a later call without a response may have changed it.
    """
    violations: list[str] = []
    examined = 0
    versions = {
        (examination.names.get(id_, ""), version.revision): version.document
        for id_, history in examination.replay.history.jobs.items()
        for version in history
    }
    for name, calls in examination.calls.items():
        told = [c for c in calls if c.result is Result.OK and _has_content(c)]
        examined += len(told)
        for call in told:
            stored = versions.get((name, call.revision or 0))
            if stored is not None:
                violations += _find_differences(call, stored)
        last = max(told, key=lambda call: call.revision or 0, default=None)
        job = examination.jobs.get(name)
        if last is not None and job is not None and not _may_be_replaced(last, calls):
            violations += _find_differences(last, job)
    return examined, violations


def _has_content(call: Call) -> bool:
    return call.verb in {"create", "edit"} and (
        call.definition is not None or call.description is not None
    )


def _may_be_replaced(last: Call, calls: Iterable[Call]) -> bool:
    """Whether a call without a response may have changed the job after `last`."""
    return any(
        call.result is Result.UNKNOWN and call.ended_at > last.sent_at and _has_content(call)
        for call in calls
    )


def _find_differences(call: Call, stored: Document) -> Iterator[str]:
    if call.description is not None and stored.get("description") != call.description:
        yield (
            f"{call.job}: {call.verb} set {call.description!r}, "
            f"stored is {stored.get('description')!r}"
        )
    if call.definition is not None and call.schedule_ids and "schedules" in stored:
        for path, sent, found in _compare_schedules(call, call.definition, stored):
            if sent != found:
                yield f"{call.job}: {call.verb} set {path} to {sent}, stored is {found}"


def _compare_schedules(
    call: Call, definition: JobDefinition, stored: Document
) -> Iterator[tuple[str, object, object]]:
    """Yield what was sent and what is stored."""
    by_id = {schedule["id"]: schedule for schedule in stored.get("schedules", ())}
    sent_ids = [call.schedule_ids.get(schedule.key) for schedule in definition.schedules]
    yield "its schedules", sorted(filter(None, sent_ids)), sorted(by_id)
    yield "overlap_policy", definition.overlap_policy, stored.get("overlap_policy")
    for schedule, id_ in zip(definition.schedules, sent_ids, strict=True):
        found = by_id.get(id_)
        if found is None:
            continue
        yield "active", schedule.active, found.get("active")
        yield "max_runs", schedule.max_runs, found.get("max_runs")
        yield "jitter_seconds", schedule.jitter.total_seconds(), found.get("jitter_seconds")
        match schedule.type:
            case ScheduleType.INTERVAL if schedule.period is not None:
                seconds = schedule.period.total_seconds()
                yield "interval_seconds", seconds, found.get("interval_seconds")
            case ScheduleType.CRON if schedule.period is not None:
                yield (
                    "cron_expression",
                    make_cron_expression(schedule.period),
                    found.get("cron_expression"),
                )
            case ScheduleType.ONE_TIME:
                yield "run_at", schedule.run_at, found.get("run_at")


def check_call_times(examination: Examination) -> tuple[int, Iterable[str]]:
    """A call may take longer only if the process that was called was frozen.

    If the journal does not name the process, any frozen process explains the time.
    """
    frozen = [fault for fault in examination.evidence.faults if fault.name == "freeze"]
    violations = [
        f"{call.verb} of {call.job} took {call.ended_at - call.sent_at}"
        for call in examination.evidence.calls
        if call.ended_at - call.sent_at > _LONGEST_CALL
        and not any(
            call.pid in {None, fault.pid}
            and Span(fault.at, fault.ended_at).meets(call.sent_at - _LONGEST_CALL, call.ended_at)
            for fault in frozen
        )
    ]
    return len(examination.evidence.calls), violations
