"""A run must contain what it was to test, because an empty run violates nothing else."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tests.chaos.evidence import Result
from tests.chaos.invariants.examination import Examination

_LEAST_SLOTS = 0.5
"""The least part of the planned slots that was due. Pauses and deletions take some away."""

_LEAST_DELIVERED = 0.2
"""The least part of the slots that reached the receiver. Overlap policies skip some."""


def check_floor(examination: Examination) -> tuple[int, Iterable[str]]:
    """The slots, calls, faults and behaviours that the load was to produce are there."""
    violations = [
        *_judge_slots(examination),
        *_judge_deliveries(examination),
        *_judge_calls(examination),
        *_judge_faults(examination),
    ]
    return len(examination.evidence.executions), violations


def _judge_slots(examination: Examination) -> Iterator[str]:
    load = examination.evidence.load
    due = sum(len(expected.must) for expected in examination.expected.values())
    if not due:
        yield "no slot was due"
    if load.jobs and (load.began_at is None or load.ended_at is None):
        yield "the load did not come to its end"
    if load.began_at is not None and load.ended_at is not None:
        planned = load.slots_per_second * (load.ended_at - load.began_at).total_seconds()
        planned = planned or load.jobs
        if due < _LEAST_SLOTS * planned:
            yield f"{due} slots were due, {planned:.0f} were planned"
    if load.jobs and not examination.evidence.changes:
        yield "there is no history of changes"


def _judge_deliveries(examination: Examination) -> Iterator[str]:
    due = sum(len(expected.must) for expected in examination.expected.values())
    delivered = sum(1 for id_ in examination.deliveries if _is_scheduled(examination, id_))
    if delivered < _LEAST_DELIVERED * due:
        yield f"only {delivered} of {due} slots reached the receiver"
    seen = {delivery.behaviour for delivery in examination.evidence.deliveries}
    for behaviour in examination.evidence.load.behaviours:
        if behaviour not in seen:
            yield f"no delivery met the behaviour {behaviour!r}"


def _is_scheduled(examination: Examination, execution_id: str) -> bool:
    return examination.by_id.get(execution_id, {}).get("kind") == "scheduled"


def _judge_calls(examination: Examination) -> Iterator[str]:
    load = examination.evidence.load
    verbs = Counter(c.verb for c in examination.evidence.calls if c.result is Result.OK)
    verbs["read"] = len(examination.evidence.reads)
    if verbs["create"] < load.jobs:
        yield f"{verbs['create']} jobs were created, {load.jobs} were planned"
    for verb in load.calls:
        if not verbs[verb]:
            yield f"no {verb} was acknowledged"


def _judge_faults(examination: Examination) -> Iterator[str]:
    applied = Counter(fault.name for fault in examination.evidence.faults)
    for name, least in examination.evidence.load.faults.items():
        if applied[name] < least:
            yield f"{applied[name]} faults {name!r} were applied, {least} were planned"
