"""The checker reports slots without a record, with two, or with the wrong kind of record."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.evidence import Evidence, Fault, Gap, Part, ScheduleDefinition
from tests.chaos.made_up import (
    EVERY_SECOND,
    JOB,
    SECOND,
    at,
    call,
    creation,
    delivery,
    execution,
    insertion,
    list_violated,
    make_evidence,
    unstarted,
)
from tests.support.changes import Document


def test_a_slot_without_a_record_is_missing() -> None:
    evidence = make_evidence()
    del evidence.executions[1], evidence.deliveries[1]
    assert list_violated(evidence) == {"no slot missing"}


def missed(first: int, last: int, **changes: Any) -> Document:
    count = {"missed_until": at(last), "missed_count": last - first + 1}
    return unstarted(first, "missed", **(count | changes))


def test_a_slot_inside_a_missed_record_is_not_missing() -> None:
    evidence = make_evidence()
    evidence.executions[:2] = [missed(1, 2)]
    del evidence.deliveries[:2]
    assert not list_violated(evidence)


def test_a_slot_recorded_twice_is_reported() -> None:
    evidence = make_evidence()
    evidence.executions.append(unstarted(2, "missed", _id="other"))
    assert list_violated(evidence) == {"no slot recorded twice"}


def test_a_slot_recorded_and_counted_as_missed_is_reported() -> None:
    evidence = make_evidence()
    evidence.executions[0] = missed(1, 2)
    del evidence.deliveries[0]
    assert list_violated(evidence) == {"no slot recorded twice"}


@pytest.mark.parametrize("slot", [0, 2.5, 4], ids=["before", "between", "after the pause"])
def test_a_record_outside_the_schedule_is_invented(slot: float) -> None:
    evidence = make_evidence()
    evidence.executions.append(execution(1, _id="x", scheduled_for=at(slot)))
    evidence.deliveries.append(replace(delivery(1), execution_id="x", scheduled_for=at(slot)))
    assert "no slot invented" in list_violated(evidence)


GAP = Gap(at(0.9), at(12))
OUTAGE = Fault("kill all", at(0.9), None, Part.DATABASE, until=at(12))


def make_late_evidence(policy: str, *missed_slots: int) -> Evidence:
    """Make evidence of 13 slots, of which 1 to 12 lie in a gap and these are missed."""
    evidence = make_evidence(13, definition=replace(JOB, catch_up=policy))
    evidence.gaps, evidence.faults = [GAP], [OUTAGE]
    wanted = [n for n in range(1, 14) if n not in missed_slots]
    evidence.executions = [execution(n) for n in wanted]
    evidence.deliveries = [delivery(n) for n in wanted]
    if missed_slots:
        evidence.executions.append(missed(missed_slots[0], missed_slots[-1]))
    return evidence


@pytest.mark.parametrize(
    ("policy", "missed_slots"),
    [("all", ()), ("one", tuple(range(1, 12))), ("none", tuple(range(1, 13)))],
)
def test_late_slots_that_follow_the_policy_pass(policy: str, missed_slots: tuple[int, ...]) -> None:
    evidence = make_late_evidence(policy, *missed_slots)
    assert list_violated(evidence) <= {"enough was examined"}


@pytest.mark.parametrize(
    ("policy", "missed_slots"),
    [("all", (1, 2)), ("one", ()), ("one", tuple(range(1, 13))), ("none", ())],
)
def test_late_slots_that_do_not_follow_the_policy_are_reported(
    policy: str, missed_slots: tuple[int, ...]
) -> None:
    evidence = make_late_evidence(policy, *missed_slots)
    assert "late slots as the policy says" in list_violated(evidence)


def test_a_missed_slot_outside_a_gap_is_reported() -> None:
    evidence = make_evidence()
    evidence.gaps = []
    evidence.executions[1] = missed(2, 2)
    del evidence.deliveries[1]
    assert list_violated(evidence) == {"late slots as the policy says"}


def test_a_wrong_number_of_missed_slots_is_reported() -> None:
    evidence = make_late_evidence("none", *range(1, 13))
    evidence.executions[-1]["missed_count"] = 11
    assert "late slots as the policy says" in list_violated(evidence)


def test_two_missed_records_of_one_gap_are_reported() -> None:
    evidence = make_late_evidence("none", *range(1, 13))
    evidence.executions[-1:] = [missed(1, 5), missed(6, 12)]
    assert "late slots as the policy says" in list_violated(evidence)


@pytest.mark.parametrize(
    ("gap", "fault"),
    [
        (GAP, None),
        (GAP, replace(OUTAGE, at=at(2))),
        (replace(GAP, found_at=at(28)), OUTAGE),
        (Gap(at(0.9), at(8)), OUTAGE),
        (GAP, Fault("kill", at(0.9), 77, until=at(12))),
    ],
    ids=["no fault", "a later fault", "found late", "too short", "one process of three"],
)
def test_a_gap_without_a_cause_is_reported(gap: Gap, fault: Fault | None) -> None:
    evidence = make_evidence()
    evidence.gaps = [gap]
    evidence.faults = [] if fault is None else [fault]
    assert "each gap has a cause" in list_violated(evidence)


def test_the_gap_before_the_first_start_needs_no_cause() -> None:
    evidence = make_evidence()
    evidence.gaps = [Gap(at(-86_400), at(0))]
    assert not list_violated(evidence)


def test_a_gap_is_explained_by_a_fault_of_every_process() -> None:
    evidence = make_evidence()
    evidence.gaps = [Gap(at(10), at(21))]
    evidence.faults = [Fault("kill", at(8), pid, until=at(20)) for pid in (77, 78, 79)]
    assert not list_violated(evidence)


@pytest.mark.parametrize(("executions", "counted"), [(3, 3), (2, 1), (2, 3)], ids=str)
def test_wrong_counts_of_max_runs_are_reported(executions: int, counted: int) -> None:
    limited = replace(JOB, schedules=(replace(EVERY_SECOND, max_runs=2),))
    evidence = make_evidence(2, definition=limited)
    stored = {"id": "s", "type": "interval", "interval_seconds": 1, "anchor_at": at(-1)}
    evidence.jobs[0]["schedules"] = [stored | {"runs": 2}]
    assert not list_violated(evidence)
    evidence.jobs[0]["schedules"][0]["runs"] = counted
    evidence.executions = [execution(n) for n in range(1, executions + 1)]
    evidence.deliveries = [delivery(n) for n in range(1, executions + 1)]
    assert "max_runs kept" in list_violated(evidence)


@pytest.mark.parametrize(
    ("run_at", "jitter", "allowed"),
    [(1, 0, True), (0.9, 5, False), (1.5, 0, False), (1.5, 5, True), (2.5, 5, False)],
    ids=str,
)
def test_jitter_is_at_most_its_limit_and_the_period(
    run_at: float, jitter: float, *, allowed: bool
) -> None:
    delayed = replace(JOB, schedules=(replace(EVERY_SECOND, jitter=jitter * SECOND),))
    evidence = make_evidence(definition=delayed)
    evidence.changes = [insertion("e1", 1, run_at=at(run_at))]
    assert ("jitter in bounds" not in list_violated(evidence)) == allowed


def test_a_late_slot_may_start_later() -> None:
    evidence = make_evidence()
    evidence.changes = [insertion("e1", 1, run_at=at(13))]
    assert "jitter in bounds" in list_violated(evidence)
    evidence.gaps = [GAP]
    assert "jitter in bounds" not in list_violated(evidence)


def test_an_incomplete_backfill_is_reported() -> None:
    evidence = make_evidence()
    range_: dict[str, Any] = {"start": at(-0.5), "end": at(2), "backfill_id": "b", "count": 2}
    evidence.calls.append(call("backfill", 2.5, **range_))
    for n in (0, 1):
        fields = {"_id": f"b{n}", "kind": "backfill", "backfill_id": "b"}
        evidence.executions.append(execution(n, **fields))
        evidence.deliveries.append(replace(delivery(n), execution_id=f"b{n}"))
    assert not list_violated(evidence)
    del evidence.executions[-1], evidence.deliveries[-1]
    assert list_violated(evidence) == {"backfills are complete"}


def test_a_backfill_of_other_slots_is_reported() -> None:
    evidence = make_evidence()
    range_: dict[str, Any] = {"start": at(0), "end": at(2), "backfill_id": "b", "count": 1}
    evidence.calls.append(call("backfill", 2.5, **range_))
    evidence.executions.append(execution(0, _id="b0", kind="backfill", backfill_id="b"))
    evidence.deliveries.append(replace(delivery(0), execution_id="b0"))
    assert list_violated(evidence) == {"backfills are complete"}


def test_each_schedule_of_a_job_has_its_own_records() -> None:
    other = ScheduleDefinition(key="b", anchor=at(0.5), period=SECOND)
    both = replace(JOB, schedules=(EVERY_SECOND, other))
    evidence = make_evidence(definition=both)
    evidence.calls[0] = creation(definition=both, schedule_ids={"a": "s", "b": "t"})
    assert list_violated(evidence) == {"no slot missing"}
    for n in (1, 2, 3):
        slot = {"_id": f"f{n}", "schedule_id": "t", "scheduled_for": at(n + 0.5)}
        evidence.executions.append(execution(n, attempts=[], status="missed", **slot))
    assert not list_violated(evidence)
