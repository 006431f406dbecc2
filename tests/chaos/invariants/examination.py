"""The evidence of a run, and what several invariants compute from it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from tests.chaos.evidence import (
    Call,
    Evidence,
    Fault,
    JobDefinition,
    Part,
    ReceivedDelivery,
    Result,
)
from tests.chaos.invariants.windows import is_disturbing
from tests.chaos.oracle import Expected, SlotKey, compute_expected_slots
from tests.chaos.schedule_keys import map_job_names, map_schedules
from tests.support.changes import Document
from tests.support.history import ExecutionLife, Span
from tests.support.replay import Replay, parse_pid

CLOCK_TOLERANCE = timedelta(milliseconds=5)
"""Separate readings of one clock may differ by this much."""

FAULT_DELAY = timedelta(seconds=1)
"""A process may continue this long after the fault is written to the journal."""


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
        for delivery in sorted(evidence.deliveries, key=lambda one: one.received_at):
            self.deliveries.setdefault(delivery.execution_id, []).append(delivery)
        self.calls: dict[str, list[Call]] = {}
        """The calls that may have had an effect, by the name of the job."""
        for call in sorted(evidence.calls, key=lambda one: one.sent_at):
            if call.result is not Result.FAILED:
                self.calls.setdefault(call.job, []).append(call)
        ends = [call.ended_at for call in evidence.calls]
        ends += [d.received_at for d in evidence.deliveries]
        self.expected: dict[SlotKey, Expected] = (
            compute_expected_slots(evidence.calls, until=max(ends), gaps=evidence.gaps)
            if ends
            else {}
        )
        self.replay = Replay(evidence.changes)
        self.lives = self.replay.history.executions

    def list_definitions(self, execution: Document) -> list[JobDefinition]:
        """Every definition that the job of an execution may have had."""
        calls = self.calls.get(self.names.get(execution["job_id"], ""), [])
        return [call.definition for call in calls if call.definition is not None]

    def list_policies(self, execution: Document) -> set[str]:
        """The overlap policies under which an execution may have been recorded."""
        if execution["kind"] != "scheduled":
            return {execution.get("overlap_policy") or ""}
        return {one.overlap_policy for one in self.list_definitions(execution)}

    def list_others(self, execution: Document) -> Iterator[ExecutionLife]:
        """The other executions of the same job, as the history has them."""
        for life in self.replay.history.by_job.get(execution["job_id"], []):
            if life.id != execution["_id"]:
                yield life

    def list_abandoned(self) -> Iterator[tuple[Document, Document, Fault | None]]:
        """Each abandoned attempt with its execution and the fault that explains it."""
        for execution in self.evidence.executions:
            for attempt in execution["attempts"]:
                stopped = attempt.get("error") == "shutdown"
                if attempt.get("outcome") == "abandoned" and not stopped:
                    yield execution, attempt, self.find_cause(execution, attempt)

    def find_cause(self, execution: Document, attempt: Document) -> Fault | None:
        """The fault, if any, of the attempt's process or of the database, from 1 s before the
        attempt until its end."""
        pid = parse_pid(self.replay.lease_owners.get((execution["_id"], attempt["number"]), ""))
        for fault in self.evidence.faults:
            if not affects(fault, pid) or fault.name == "term" or not is_disturbing(fault):
                continue
            lasts = Span(fault.at, fault.ended_at)
            if lasts.meets(attempt["started_at"] - FAULT_DELAY, attempt["finished_at"]):
                return fault
        return None


def affects(fault: Fault, pid: int | None) -> bool:
    """Whether a fault affects the executions of this process of the service."""
    return fault.part is Part.DATABASE or (fault.part is Part.SERVICE and fault.pid == pid)


def count_attempts(execution: Document) -> int:
    """Count the attempts that count towards `max_attempts`."""
    return sum(attempt.get("error") != "shutdown" for attempt in execution["attempts"])
