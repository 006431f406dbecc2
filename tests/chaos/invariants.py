"""The invariants of a chaos run: pure functions that return the violations."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.chaos.evidence import Evidence, Fault, Part, ReceivedDelivery, Result
from tests.chaos.limits import GRACE_SECONDS, RESPONSE_SECONDS
from tests.chaos.oracle import SlotKey, compute_expected_slots
from tests.chaos.schedule_keys import map_job_names, map_schedules
from tests.support.changes import Document
from tests.support.replay import UNFINISHED, Replay, judge_history, parse_pid

_CLOCK_TOLERANCE = timedelta(milliseconds=5)
"""Separate readings of one clock may differ by this much."""

_FAULT_DELAY = timedelta(seconds=1)
"""A process may continue this long after the fault is written to the journal."""

_GRACE = timedelta(seconds=GRACE_SECONDS)

_LONGEST_CALL = timedelta(seconds=RESPONSE_SECONDS)

_WITHOUT_EFFECT_ON_ACTIVE = {"execute", "edit"}
"""Calls that do not change whether a job is active."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one invariant."""

    name: str
    examined: int
    violations: tuple[str, ...]


Check = Callable[["Examination"], tuple[int, Iterable[str]]]


class Examination:
    """The evidence, and values that several invariants compute from it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.by_id = {e["_id"]: e for e in evidence.executions}
        self.names = map_job_names(evidence)
        self.keys = map_schedules(evidence)
        self.jobs = {job["name"]: job for job in evidence.jobs}
        self.deliveries: dict[str, list[ReceivedDelivery]] = {}
        for delivery in evidence.deliveries:
            self.deliveries.setdefault(delivery.execution_id, []).append(delivery)
        ends = [call.ended_at for call in evidence.calls]
        ends += [d.received_at for d in evidence.deliveries]
        self.expected = (
            compute_expected_slots(evidence.calls, until=max(ends), gaps=evidence.gaps)
            if ends
            else {}
        )
        self.replay = Replay(evidence.changes)

    def list_abandoned(self) -> Iterator[tuple[Document, Document, Fault | None]]:
        """Each abandoned attempt with its execution and the fault that explains it.

        That is a fault of the lease owner's process or of the database, from 1 s before the attempt
        until its end.
        """
        for execution in self.evidence.executions:
            for attempt in execution["attempts"]:
                stopped = attempt.get("error") == "shutdown"
                if attempt.get("outcome") == "abandoned" and not stopped:
                    yield execution, attempt, self._find_cause(execution, attempt)

    def _find_cause(self, execution: Document, attempt: Document) -> Fault | None:
        pid = parse_pid(self.replay.lease_owners.get((execution["_id"], attempt["number"]), ""))
        for fault in self.evidence.faults:
            affects_process = fault.part is Part.SERVICE and fault.pid == pid
            if not (affects_process or fault.part is Part.DATABASE) or fault.name == "term":
                continue
            if attempt["started_at"] - _FAULT_DELAY <= fault.at <= attempt["finished_at"]:
                return fault
        return None

    def count_records(self) -> dict[SlotKey, Counter[datetime]]:
        """Count the records of each slot of each schedule, including slots inside `missed`
        records."""
        recorded: dict[SlotKey, Counter[datetime]] = {}
        for execution in self.evidence.executions:
            if execution["kind"] == "scheduled":
                unknown = ("an unknown schedule", execution["schedule_id"])
                key = self.keys.get(execution["schedule_id"], unknown)
                recorded.setdefault(key, Counter()).update(self._list_covered(execution, key))
        return recorded

    def _list_covered(self, execution: Document, key: SlotKey) -> Iterator[datetime]:
        first: datetime = execution["scheduled_for"]
        yield first
        last = execution.get("missed_until")
        if last is not None and key in self.expected:
            yield from (slot for slot in self.expected[key].may if first < slot <= last)


def judge(evidence: Evidence) -> list[Finding]:
    """Check every invariant, in the order of the table."""
    examination = Examination(evidence)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        examined, violations = check(examination)
        findings.append(Finding(name, examined, tuple(violations)))
    for name, examined, violations in judge_history(examination.replay):
        findings.append(Finding(name, examined, tuple(violations)))
    return findings


def _check_duplicates(examination: Examination) -> tuple[int, Iterable[str]]:
    keys = Counter(
        (e["kind"], e.get("backfill_id"), e["schedule_id"], e["scheduled_for"])
        for e in examination.evidence.executions
        if e["kind"] in {"scheduled", "backfill"}
    )
    violations = [f"{n} records of {key}" for key, n in keys.items() if n > 1]
    for name, slots in examination.count_records().items():
        violations += [
            f"{name}: {slot} is recorded {n} times" for slot, n in slots.items() if n > 1
        ]
    return keys.total(), violations


def _check_missing_slots(examination: Examination) -> tuple[int, Iterable[str]]:
    recorded = examination.count_records()
    violations: list[str] = []
    for name, expected in examination.expected.items():
        missing = expected.must - recorded.get(name, Counter()).keys()
        violations += [f"{name}: {slot} has no record" for slot in sorted(missing)]
    return sum(len(expected.must) for expected in examination.expected.values()), violations


def _check_invented_slots(examination: Examination) -> tuple[int, Iterable[str]]:
    recorded = examination.count_records()
    violations: list[str] = []
    for name, slots in recorded.items():
        may = examination.expected[name].may if name in examination.expected else frozenset()
        violations += [f"{name}: {slot} is not a slot" for slot in sorted(slots.keys() - may)]
    return sum(map(len, recorded.values())), violations


def _check_stuck_executions(examination: Examination) -> tuple[int, Iterable[str]]:
    executions = examination.evidence.executions
    stuck = [e for e in executions if e["status"] in UNFINISHED]
    return len(executions), [f"{e['_id']} is still {e['status']}" for e in stuck]


def _check_successes(examination: Examination) -> tuple[int, Iterable[str]]:
    succeeded = [e for e in examination.evidence.executions if e["status"] == "succeeded"]
    violations: list[str] = []
    for execution in succeeded:
        last = len(execution["attempts"])
        received = examination.deliveries.get(execution["_id"], [])
        if not any(d.attempt == last and d.status is not None and d.status < 300 for d in received):
            violations.append(f"{execution['_id']}: no 2xx for attempt {last}")
        if not last or execution["attempts"][-1].get("outcome") != "succeeded":
            violations.append(f"{execution['_id']}: its last attempt did not succeed")
    return len(succeeded), violations


def _check_deliveries(examination: Examination) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    for delivery in examination.evidence.deliveries:
        execution = examination.by_id.get(delivery.execution_id)
        if execution is None:
            violations.append(f"{delivery.execution_id} was delivered but is not recorded")
        elif delivery.attempt > len(execution["attempts"]):
            violations.append(
                f"{delivery.execution_id}: attempt {delivery.attempt} is not recorded"
            )
        elif delivery.scheduled_for != execution["scheduled_for"]:
            violations.append(f"{delivery.execution_id}: delivered as {delivery.scheduled_for}")
    return len(examination.evidence.deliveries), violations


def _check_repeated_attempts(examination: Examination) -> tuple[int, Iterable[str]]:
    counts = Counter((d.execution_id, d.attempt) for d in examination.evidence.deliveries)
    return len(counts), [f"{key} was sent {n} times" for key, n in counts.items() if n > 1]


def _check_early_deliveries(examination: Examination) -> tuple[int, Iterable[str]]:
    deliveries = examination.evidence.deliveries
    early = [d for d in deliveries if d.received_at < d.scheduled_for - _CLOCK_TOLERANCE]
    return len(deliveries), [f"{d.execution_id} came at {d.received_at}" for d in early]


def _check_attempts(examination: Examination) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    attempts = 0
    for execution in examination.evidence.executions:
        attempts += len(execution["attempts"])
        job = examination.jobs.get(examination.names.get(execution["job_id"], ""))
        wrong = [*_find_wrong_attempts(execution, job)]
        if job is not None:
            wrong += _find_long_attempts(examination, execution["attempts"], job["timeout_seconds"])
        violations += [f"{execution['_id']}: {one}" for one in wrong]
    return attempts, violations


def _find_wrong_attempts(execution: Document, job: Document | None) -> Iterator[str]:
    attempts = execution["attempts"]
    if [a["number"] for a in attempts] != list(range(1, len(attempts) + 1)):
        yield "attempts are not numbered one by one"
    if execution["status"] not in UNFINISHED and any(not a.get("outcome") for a in attempts):
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
        yield from _find_short_delays(attempts, timedelta(seconds=job["retry"]["delay_seconds"]))


def _find_long_attempts(
    examination: Examination, attempts: Sequence[Document], timeout: float
) -> Iterator[str]:
    """Find attempts longer than their timeout, unless the database had a fault during the attempt.

    The end is recorded when the database accepts it.
    """
    for attempt in attempts:
        began, ended = attempt["started_at"], attempt.get("finished_at")
        if attempt.get("outcome") == "abandoned" or not ended:
            continue
        outage = any(
            fault.part is Part.DATABASE and began <= fault.at <= ended
            for fault in examination.evidence.faults
        )
        if ended - began > timedelta(seconds=timeout + 1) and not outage:
            yield f"attempt {attempt['number']} took {ended - began}"


def _find_short_delays(attempts: Sequence[Document], delay: timedelta) -> Iterator[str]:
    for one, following in itertools.pairwise(attempts):
        if not one.get("finished_at"):
            continue
        waited = following["started_at"] - one["finished_at"]
        least = delay if one["outcome"] in {"failed", "timed_out"} else timedelta(0)
        if waited < least:
            yield f"attempt {following['number']} began after {waited}"


def _check_abandoned_attempts(examination: Examination) -> tuple[int, Iterable[str]]:
    abandoned = list(examination.list_abandoned())
    violations = [
        f"{execution['_id']}: attempt {attempt['number']} was abandoned without a fault"
        for execution, attempt, fault in abandoned
        if fault is None
    ]
    for execution in examination.evidence.executions:
        for attempt in execution["attempts"]:
            if attempt.get("error") == "shutdown" and _measure(attempt) < _GRACE:
                violations.append(
                    f"{execution['_id']}: interrupted by a stop after {_measure(attempt)}"
                )
    return len(abandoned), violations


def _measure(attempt: Document) -> timedelta:
    length: timedelta = attempt["finished_at"] - attempt["started_at"]
    return length


def _check_cancelled_executions(examination: Examination) -> tuple[int, Iterable[str]]:
    cancelled = [e for e in examination.evidence.executions if e["status"] == "cancelled"]
    violations: list[str] = []
    for execution in cancelled:
        since = execution.get("cancel_requested_at") or execution["finished_at"]
        if any(a["started_at"] > since for a in execution["attempts"]):
            violations.append(f"{execution['_id']} was attempted after its cancel")
    return len(cancelled), violations


def _check_acknowledged_writes(examination: Examination) -> tuple[int, Iterable[str]]:
    acknowledged = [call for call in examination.evidence.calls if call.result is Result.OK]
    violations: list[str] = []
    for call in acknowledged:
        if call.verb == "execute" and call.execution_id not in examination.by_id:
            violations.append(f"{call.job}: execution {call.execution_id} is lost")
        if call.verb == "create" and call.job not in examination.names.values():
            violations.append(f"{call.job}: its creation is lost")
    violations += _find_wrong_states(examination)
    return len(acknowledged), violations


def _find_wrong_states(examination: Examination) -> Iterator[str]:
    """Find the jobs whose state differs from the result of their last call."""
    for name in {call.job for call in examination.evidence.calls}:
        calls = [
            c
            for c in examination.evidence.calls
            if c.job == name and c.verb not in _WITHOUT_EFFECT_ON_ACTIVE
        ]
        calls = [c for c in calls if c.result is not Result.FAILED]
        if not calls:
            continue
        last = max(calls, key=lambda call: call.sent_at)
        if last.result is not Result.OK:
            continue
        job = examination.jobs.get(name)
        if (job is None) != (last.verb == "delete"):
            yield f"{name}: {last.verb} was acknowledged, but the job is there: {job is not None}"
        elif job is not None and job["active"] != (last.verb in {"create", "resume"}):
            yield f"{name}: {last.verb} was acknowledged, active is {job['active']}"


def _check_edits(examination: Examination) -> tuple[int, Iterable[str]]:
    """Each revision is acknowledged to one edit, and no job has an earlier revision."""
    edits = Counter(
        (c.job, c.revision) for c in examination.evidence.calls if c.revision is not None
    )
    violations = [f"{job}: revision {n} was made twice" for (job, n), k in edits.items() if k > 1]
    violations += [
        f"{name}: revision {n} was acknowledged, but it has {examination.jobs[name]['revision']}"
        for name, n in edits
        if name in examination.jobs and examination.jobs[name]["revision"] < n
    ]
    return len(edits), violations


def _check_call_times(examination: Examination) -> tuple[int, Iterable[str]]:
    """A call may take longer if any process was frozen within 10 s of it.

    The journal does not say which process was called.
    """
    frozen = [fault.at for fault in examination.evidence.faults if fault.name == "freeze"]
    violations = [
        f"{call.verb} of {call.job} took {call.ended_at - call.sent_at}"
        for call in examination.evidence.calls
        if call.ended_at - call.sent_at > _LONGEST_CALL
        and not any(at - _LONGEST_CALL < call.sent_at < at + _LONGEST_CALL for at in frozen)
    ]
    return len(examination.evidence.calls), violations


CHECKS: dict[str, Check] = {
    "no slot recorded twice": _check_duplicates,
    "no slot missing": _check_missing_slots,
    "no slot invented": _check_invented_slots,
    "no execution stuck": _check_stuck_executions,
    "each success was received": _check_successes,
    "each delivery is recorded": _check_deliveries,
    "no attempt sent twice": _check_repeated_attempts,
    "no delivery early": _check_early_deliveries,
    "attempts in bounds": _check_attempts,
    "abandoned only by a fault": _check_abandoned_attempts,
    "no attempt after a cancel": _check_cancelled_executions,
    "acknowledged writes kept": _check_acknowledged_writes,
    "no edit lost": _check_edits,
    f"calls end within {RESPONSE_SECONDS} s": _check_call_times,
}
