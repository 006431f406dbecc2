"""The invariants of a chaos run: pure functions that return the violations."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.chaos.evidence import Delivery, Evidence, Fault, Result
from tests.chaos.oracle import expected_slots
from tests.support.changes import Document
from tests.support.replay import LIVE, Replay, judge_history, parse_pid

_CLOCK_TOLERANCE = timedelta(milliseconds=5)
"""Separate readings of one clock may differ by this much."""

_UNCERTAIN = timedelta(seconds=1)
"""A process may continue this long after the fault is written to the journal."""

_GRACE = timedelta(seconds=30)
"""The time that a stopping process gives to running attempts."""

_LONGEST_CALL = timedelta(seconds=10)

_WITHOUT_EFFECT_ON_ACTIVE = {"execute", "edit"}
"""Calls that do not change whether a job is active."""

NOT_RUN = {"skipped", "missed"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one invariant."""

    name: str
    examined: int
    violations: tuple[str, ...]


Check = Callable[["Case"], tuple[int, Iterable[str]]]


class Case:
    """The evidence, and values that several invariants compute from it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.by_id = {e["_id"]: e for e in evidence.executions}
        self.names = {job["_id"]: job["name"] for job in evidence.jobs}
        for change in evidence.changes:  # an insertion names a job that was deleted later
            if change.collection == "jobs" and change.operation == "insert":
                self.names[change.id] = change.fields["name"]
        self.jobs = {job["name"]: job for job in evidence.jobs}
        self.deliveries: dict[str, list[Delivery]] = {}
        for delivery in evidence.deliveries:
            self.deliveries.setdefault(delivery.execution_id, []).append(delivery)
        ends = [call.ended_at for call in evidence.calls]
        ends += [d.received_at for d in evidence.deliveries]
        self.expected = expected_slots(evidence.calls, until=max(ends)) if ends else {}
        self.replay = Replay(evidence.changes)
        self.periods = {c.job: c.period for c in evidence.calls if c.period is not None}

    def abandoned(self) -> Iterator[tuple[Document, Document, Fault | None]]:
        """Each abandoned attempt with its execution and the fault that explains it.

        Such a fault affected the process or the database during the attempt.
        """
        for execution in self.evidence.executions:
            for attempt in execution["attempts"]:
                stopped = attempt.get("error") == "shutdown"
                if attempt.get("outcome") == "abandoned" and not stopped:
                    yield execution, attempt, self._cause(execution, attempt)

    def _cause(self, execution: Document, attempt: Document) -> Fault | None:
        pid = parse_pid(self.replay.lease_owners.get((execution["_id"], attempt["number"]), ""))
        for fault in self.evidence.faults:
            if fault.pid not in {None, pid} or fault.name == "term":
                continue
            if attempt["started_at"] - _UNCERTAIN <= fault.at <= attempt["finished_at"]:
                return fault
        return None

    def recorded(self) -> dict[str, Counter[datetime]]:
        """Count the records of each slot of each job, including slots inside `missed` records."""
        recorded: dict[str, Counter[datetime]] = {}
        for execution in self.evidence.executions:
            if execution["kind"] == "scheduled":
                name = self.names.get(execution["job_id"], "")
                recorded.setdefault(name, Counter()).update(self._covered(execution, name))
        return recorded

    def _covered(self, execution: Document, name: str) -> Iterator[datetime]:
        slot: datetime = execution["scheduled_for"]
        last: datetime = execution.get("missed_until") or slot
        while slot <= last:
            yield slot
            slot += self.periods.get(name) or (last - slot + _CLOCK_TOLERANCE)


def judge(evidence: Evidence) -> list[Finding]:
    """Check every invariant, in the order of the table."""
    case = Case(evidence)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        examined, violations = check(case)
        findings.append(Finding(name, examined, tuple(violations)))
    for name, examined, violations in judge_history(case.replay):
        findings.append(Finding(name, examined, tuple(violations)))
    return findings


def _no_duplicate(case: Case) -> tuple[int, Iterable[str]]:
    keys = Counter(
        (e["kind"], e.get("backfill_id"), e["schedule_id"], e["scheduled_for"])
        for e in case.evidence.executions
        if e["kind"] in {"scheduled", "backfill"}
    )
    violations = [f"{n} records of {key}" for key, n in keys.items() if n > 1]
    for name, slots in case.recorded().items():
        violations += [
            f"{name}: {slot} is recorded {n} times" for slot, n in slots.items() if n > 1
        ]
    return keys.total(), violations


def _none_missing(case: Case) -> tuple[int, Iterable[str]]:
    recorded = case.recorded()
    violations: list[str] = []
    for name, expected in case.expected.items():
        missing = expected.must - recorded.get(name, Counter()).keys()
        violations += [f"{name}: {slot} has no record" for slot in sorted(missing)]
    return sum(len(expected.must) for expected in case.expected.values()), violations


def _none_invented(case: Case) -> tuple[int, Iterable[str]]:
    recorded = case.recorded()
    violations: list[str] = []
    for name, slots in recorded.items():
        may = case.expected[name].may if name in case.expected else frozenset()
        violations += [f"{name}: {slot} is no slot" for slot in sorted(slots.keys() - may)]
    return sum(map(len, recorded.values())), violations


def _none_stuck(case: Case) -> tuple[int, Iterable[str]]:
    executions = case.evidence.executions
    stuck = [e for e in executions if e["status"] in LIVE]
    return len(executions), [f"{e['_id']} is still {e['status']}" for e in stuck]


def _succeeded_was_received(case: Case) -> tuple[int, Iterable[str]]:
    succeeded = [e for e in case.evidence.executions if e["status"] == "succeeded"]
    violations: list[str] = []
    for execution in succeeded:
        last = len(execution["attempts"])
        received = case.deliveries.get(execution["_id"], [])
        if not any(d.attempt == last and d.status is not None and d.status < 300 for d in received):
            violations.append(f"{execution['_id']}: no 2xx for attempt {last}")
        if not last or execution["attempts"][-1].get("outcome") != "succeeded":
            violations.append(f"{execution['_id']}: its last attempt did not succeed")
    return len(succeeded), violations


def _deliveries_are_known(case: Case) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    for delivery in case.evidence.deliveries:
        execution = case.by_id.get(delivery.execution_id)
        if execution is None:
            violations.append(f"{delivery.execution_id} was delivered but is not recorded")
        elif delivery.attempt > len(execution["attempts"]):
            violations.append(
                f"{delivery.execution_id}: attempt {delivery.attempt} is not recorded"
            )
        elif delivery.scheduled_for != execution["scheduled_for"]:
            violations.append(f"{delivery.execution_id}: delivered as {delivery.scheduled_for}")
    return len(case.evidence.deliveries), violations


def _no_attempt_twice(case: Case) -> tuple[int, Iterable[str]]:
    counts = Counter((d.execution_id, d.attempt) for d in case.evidence.deliveries)
    return len(counts), [f"{key} was sent {n} times" for key, n in counts.items() if n > 1]


def _never_early(case: Case) -> tuple[int, Iterable[str]]:
    deliveries = case.evidence.deliveries
    early = [d for d in deliveries if d.received_at < d.scheduled_for - _CLOCK_TOLERANCE]
    return len(deliveries), [f"{d.execution_id} came at {d.received_at}" for d in early]


def _attempts_in_bounds(case: Case) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    attempts = 0
    for execution in case.evidence.executions:
        attempts += len(execution["attempts"])
        job = case.jobs.get(case.names.get(execution["job_id"], ""))
        wrong = [*_wrong_attempts(execution, job)]
        if job is not None:
            wrong += _too_long(case, execution["attempts"], job["timeout_seconds"])
        violations += [f"{execution['_id']}: {one}" for one in wrong]
    return attempts, violations


def _wrong_attempts(execution: Document, job: Document | None) -> Iterator[str]:
    attempts = execution["attempts"]
    if [a["number"] for a in attempts] != list(range(1, len(attempts) + 1)):
        yield "attempts are not numbered one by one"
    if execution["status"] not in LIVE and any(not a.get("outcome") for a in attempts):
        yield "it has ended, but one of its attempts has not"
    if execution["lease_token"] < len(attempts):
        yield "more attempts than leases"
    if [a.get("outcome") for a in attempts].count("succeeded") > 1:
        yield "it succeeded twice"
    if job is None:
        return
    counted = sum(a.get("error") != "shutdown" for a in attempts)
    if counted > job["retry"]["max_attempts"]:
        yield f"{counted} attempts"
    if job["retry"]["strategy"] == "fixed":
        yield from _wrong_back_offs(attempts, timedelta(seconds=job["retry"]["delay_seconds"]))


def _too_long(case: Case, attempts: Sequence[Document], timeout: float) -> Iterator[str]:
    """The end is recorded when the database accepts it, so an outage of the database is allowed."""
    for attempt in attempts:
        began, ended = attempt["started_at"], attempt.get("finished_at")
        if attempt.get("outcome") == "abandoned" or not ended:
            continue
        outage = any(f.pid is None and began <= f.at <= ended for f in case.evidence.faults)
        if ended - began > timedelta(seconds=timeout + 1) and not outage:
            yield f"attempt {attempt['number']} took {ended - began}"


def _wrong_back_offs(attempts: Sequence[Document], delay: timedelta) -> Iterator[str]:
    for one, following in itertools.pairwise(attempts):
        if not one.get("finished_at"):
            continue
        waited = following["started_at"] - one["finished_at"]
        least = delay if one["outcome"] in {"failed", "timed_out"} else timedelta(0)
        if waited < least:
            yield f"attempt {following['number']} began after {waited}"


def _abandoned_for_a_reason(case: Case) -> tuple[int, Iterable[str]]:
    abandoned = list(case.abandoned())
    violations = [
        f"{execution['_id']}: attempt {attempt['number']} was abandoned without a fault"
        for execution, attempt, fault in abandoned
        if fault is None
    ]
    for execution in case.evidence.executions:
        for attempt in execution["attempts"]:
            if attempt.get("error") == "shutdown" and _length(attempt) < _GRACE:
                violations.append(
                    f"{execution['_id']}: interrupted by a stop after {_length(attempt)}"
                )
    return len(abandoned), violations


def _length(attempt: Document) -> timedelta:
    length: timedelta = attempt["finished_at"] - attempt["started_at"]
    return length


def _cancelled_is_not_attempted(case: Case) -> tuple[int, Iterable[str]]:
    cancelled = [e for e in case.evidence.executions if e["status"] == "cancelled"]
    violations: list[str] = []
    for execution in cancelled:
        since = execution.get("cancel_requested_at") or execution["finished_at"]
        if any(a["started_at"] > since for a in execution["attempts"]):
            violations.append(f"{execution['_id']} was attempted after its cancel")
    return len(cancelled), violations


def _writes_are_kept(case: Case) -> tuple[int, Iterable[str]]:
    acknowledged = [call for call in case.evidence.calls if call.result is Result.OK]
    violations: list[str] = []
    for call in acknowledged:
        if call.verb == "execute" and call.execution_id not in case.by_id:
            violations.append(f"{call.job}: execution {call.execution_id} is lost")
        if call.verb == "create" and call.job not in case.names.values():
            violations.append(f"{call.job}: its creation is lost")
    violations += _wrong_ends(case)
    return len(acknowledged), violations


def _wrong_ends(case: Case) -> Iterator[str]:
    """Find the jobs whose state differs from the result of their last call."""
    for name in {call.job for call in case.evidence.calls}:
        calls = [
            c
            for c in case.evidence.calls
            if c.job == name and c.verb not in _WITHOUT_EFFECT_ON_ACTIVE
        ]
        calls = [c for c in calls if c.result is not Result.FAILED]
        if not calls:
            continue
        last = max(calls, key=lambda call: call.sent_at)
        if last.result is not Result.OK:
            continue
        job = case.jobs.get(name)
        if (job is None) != (last.verb == "delete"):
            yield f"{name}: {last.verb} was acknowledged, but the job is there: {job is not None}"
        elif job is not None and job["active"] != (last.verb in {"create", "resume"}):
            yield f"{name}: {last.verb} was acknowledged, active is {job['active']}"


def _no_edit_lost(case: Case) -> tuple[int, Iterable[str]]:
    """Each revision is acknowledged to one edit, and no job has an earlier revision."""
    edits = Counter((c.job, c.revision) for c in case.evidence.calls if c.revision is not None)
    violations = [f"{job}: revision {n} was made twice" for (job, n), k in edits.items() if k > 1]
    violations += [
        f"{name}: revision {n} was acknowledged, but it has {case.jobs[name]['revision']}"
        for name, n in edits
        if name in case.jobs and case.jobs[name]["revision"] < n
    ]
    return len(edits), violations


def _calls_end(case: Case) -> tuple[int, Iterable[str]]:
    """A frozen process cannot respond; every other process must."""
    frozen = [fault.at for fault in case.evidence.faults if fault.name == "freeze"]
    violations = [
        f"{call.verb} of {call.job} took {call.ended_at - call.sent_at}"
        for call in case.evidence.calls
        if call.ended_at - call.sent_at > _LONGEST_CALL
        and not any(at - _LONGEST_CALL < call.sent_at < at + _LONGEST_CALL for at in frozen)
    ]
    return len(case.evidence.calls), violations


CHECKS: dict[str, Check] = {
    "no slot recorded twice": _no_duplicate,
    "no slot missing": _none_missing,
    "no slot invented": _none_invented,
    "no execution stuck": _none_stuck,
    "each success was received": _succeeded_was_received,
    "each delivery is recorded": _deliveries_are_known,
    "no attempt sent twice": _no_attempt_twice,
    "no delivery early": _never_early,
    "attempts in bounds": _attempts_in_bounds,
    "abandoned only by a fault": _abandoned_for_a_reason,
    "no attempt after a cancel": _cancelled_is_not_attempted,
    "acknowledged writes kept": _writes_are_kept,
    "no edit lost": _no_edit_lost,
    "calls end within 10 s": _calls_end,
}
