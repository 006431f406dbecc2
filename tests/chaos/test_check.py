"""The checker itself: correct evidence passes, and each kind of damage is reported."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.evidence import (
    Call,
    Evidence,
    Fault,
    JobDefinition,
    Part,
    ReceivedDelivery,
    Result,
    ScheduleDefinition,
)
from tests.chaos.figures import compute_figures
from tests.chaos.invariants import judge
from tests.chaos.oracle import compute_expected_slots
from tests.support.changes import Change, Document

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def call(verb: str, at: float, result: Result = Result.OK, **changes: Any) -> Call:
    sent = NOON + at * SECOND
    return Call(verb, "job", result, sent, sent + 0.2 * SECOND, **changes)


def creation(result: Result = Result.OK) -> Call:
    schedule = ScheduleDefinition(anchor=NOON - SECOND, period=SECOND)
    return call("create", 0.5, result, definition=JobDefinition(schedules=(schedule,)))


def execution(n: int, **changes: Any) -> Document:
    slot = NOON + n * SECOND
    attempt = {
        "number": 1,
        "started_at": slot,
        "finished_at": slot + 0.1 * SECOND,
        "outcome": "succeeded",
    }
    fields = {
        "_id": f"e{n}",
        "job_id": "j",
        "schedule_id": "s",
        "kind": "scheduled",
        "scheduled_for": slot,
        "status": "succeeded",
        "lease_token": 1,
        "attempts": [attempt],
        "finished_at": slot + 0.1 * SECOND,
    }
    return fields | changes


def make_evidence() -> Evidence:
    """Make evidence of a job with slots at 1, 2 and 3 s: created at 0.7 s, paused at 3.5 s."""
    return Evidence(
        jobs=[
            {
                "_id": "j",
                "name": "job",
                "active": False,
                "timeout_seconds": 5,
                "retry": {"max_attempts": 2, "strategy": "fixed", "delay_seconds": 0.5},
            }
        ],
        executions=[execution(n) for n in (1, 2, 3)],
        deliveries=[
            ReceivedDelivery(f"e{n}", 1, NOON + n * SECOND, NOON + (n + 0.05) * SECOND, 200)
            for n in (1, 2, 3)
        ],
        calls=[creation(), call("pause", 3.5)],
    )


def list_violated(evidence: Evidence) -> set[str]:
    return {finding.name for finding in judge(evidence) if finding.violations}


def test_sound_evidence_passes() -> None:
    findings = judge(make_evidence())
    assert not list_violated(make_evidence())
    assert {f.name: f.examined for f in findings}["no slot missing"] == 3


def test_a_slot_without_a_record_is_missing() -> None:
    evidence = make_evidence()
    del evidence.executions[1], evidence.deliveries[1]
    assert list_violated(evidence) == {"no slot missing"}


def test_a_slot_inside_a_missed_record_is_not_missing() -> None:
    evidence = make_evidence()
    missed = {"status": "missed", "missed_until": NOON + 3 * SECOND, "attempts": []}
    evidence.executions = [execution(1, **missed)]
    evidence.deliveries = []
    assert not list_violated(evidence)


def test_a_slot_recorded_twice_is_reported() -> None:
    evidence = make_evidence()
    evidence.executions.append(execution(2, _id="other", status="skipped", attempts=[]))
    assert list_violated(evidence) == {"no slot recorded twice"}


def test_a_slot_recorded_and_counted_as_missed_is_reported() -> None:
    evidence = make_evidence()
    until = NOON + 2 * SECOND
    missed = {"status": "missed", "missed_until": until, "attempts": []}
    evidence.executions[0] = execution(1, **missed)
    del evidence.deliveries[0]
    assert list_violated(evidence) == {"no slot recorded twice"}


@pytest.mark.parametrize("slot", [0, 2.5, 4], ids=["before", "between", "after the pause"])
def test_a_record_outside_the_schedule_is_invented(slot: float) -> None:
    evidence = make_evidence()
    at = NOON + slot * SECOND
    invented = {"_id": "x", "scheduled_for": at, "status": "skipped", "attempts": []}
    evidence.executions.append(execution(1, **invented))
    assert list_violated(evidence) == {"no slot invented"}


def test_an_execution_that_never_ends_is_stuck() -> None:
    evidence = make_evidence()
    evidence.executions[0] = execution(1, status="queued")
    assert list_violated(evidence) == {"no execution stuck"}


def test_a_success_without_a_2xx_response_is_reported() -> None:
    evidence = make_evidence()
    evidence.deliveries[0] = replace(evidence.deliveries[0], status=None)
    assert list_violated(evidence) == {"each success was received"}


def test_a_delivery_without_a_record_is_reported() -> None:
    evidence = make_evidence()
    evidence.deliveries.append(replace(evidence.deliveries[0], execution_id="unknown"))
    assert list_violated(evidence) == {"each delivery is recorded"}


def test_an_attempt_sent_twice_is_reported() -> None:
    evidence = make_evidence()
    evidence.deliveries.append(evidence.deliveries[0])
    assert list_violated(evidence) == {"no attempt sent twice"}


def test_a_delivery_before_its_slot_is_reported() -> None:
    evidence = make_evidence()
    evidence.deliveries[0] = replace(evidence.deliveries[0], received_at=NOON + 0.9 * SECOND)
    assert list_violated(evidence) == {"no delivery early"}


def test_an_attempt_too_soon_after_a_failed_one_is_reported() -> None:
    evidence = make_evidence()
    [second] = execution(1)["attempts"]
    first = second | {"outcome": "failed", "finished_at": second["started_at"]}
    second = second | {"number": 2, "started_at": second["started_at"] + 0.4 * SECOND}
    evidence.executions[0] = execution(1, attempts=[first, second], lease_token=2)
    evidence.deliveries[0] = replace(evidence.deliveries[0], attempt=2)
    assert list_violated(evidence) == {"attempts in bounds"}


@pytest.mark.parametrize(
    "changes", [{"lease_token": 0}, {"number": 2}, {"outcome": None}, {"seconds": 7}], ids=str
)
def test_an_attempt_out_of_bounds_is_reported(changes: dict[str, Any]) -> None:
    evidence = make_evidence()
    one = evidence.executions[0]
    attempt = one["attempts"][0]
    changes = dict(changes)
    one["lease_token"] = changes.pop("lease_token", 1)
    attempt["finished_at"] = attempt["started_at"] + changes.pop("seconds", 0) * SECOND
    attempt.update(changes)
    assert "attempts in bounds" in list_violated(evidence)


def test_an_attempt_after_a_cancel_is_reported() -> None:
    evidence = make_evidence()
    cancel = {"status": "cancelled", "cancel_requested_at": NOON}
    evidence.executions[0] = execution(1, **cancel)
    assert list_violated(evidence) == {"no attempt after a cancel"}


@pytest.mark.parametrize(
    "lost",
    [call("execute", 2, execution_id="nowhere"), call("resume", 3.8), call("delete", 3.8)],
    ids=lambda lost: lost.verb,
)
def test_a_lost_acknowledged_write_is_reported(lost: Call) -> None:
    evidence = make_evidence()
    evidence.calls.append(lost)
    assert "acknowledged writes kept" in list_violated(evidence)


def test_a_lost_edit_is_reported() -> None:
    for lost in ([2, 2], [3]):
        evidence = make_evidence()
        evidence.jobs[0]["revision"] = 2
        evidence.calls += [call("edit", 2, revision=revision) for revision in lost]
        assert list_violated(evidence) == {"no edit lost"}
    evidence.jobs[0]["revision"] = 3
    assert not list_violated(evidence)


def test_a_lost_creation_is_reported() -> None:
    evidence = make_evidence()
    evidence.jobs, evidence.executions, evidence.deliveries = [], [], []
    assert list_violated(evidence) == {"acknowledged writes kept", "no slot missing"}


def test_a_long_call_is_reported_unless_a_process_was_frozen() -> None:
    evidence = make_evidence()
    evidence.calls[0] = replace(creation(), sent_at=NOON - 10 * SECOND)
    assert list_violated(evidence) == {"calls end within 10 s"}
    evidence.faults = [Fault("freeze", NOON - 9 * SECOND, 77)]
    assert not list_violated(evidence)


def test_slots_after_an_unknown_call_may_or_may_not_have_a_record() -> None:
    calls = [creation(), call("pause", 2.5, Result.UNKNOWN), call("pause", 4.5)]
    expected = compute_expected_slots(calls, until=NOON + 9 * SECOND)["job", "a"]
    assert expected.must == {NOON + n * SECOND for n in (1, 2)}
    assert expected.may == {NOON + n * SECOND for n in (1, 2, 3, 4)}


def test_a_slot_during_a_call_may_or_may_not_have_a_record() -> None:
    calls = [creation(), call("pause", 1.9), call("resume", 2.9), call("pause", 4.5)]
    expected = compute_expected_slots(calls, until=NOON + 9 * SECOND)["job", "a"]
    assert expected.must == {NOON + n * SECOND for n in (1, 4)}
    assert expected.may == {NOON + n * SECOND for n in (1, 2, 3, 4)}


def test_a_job_of_an_unknown_creation_needs_no_record_but_may_have_some() -> None:
    expected = compute_expected_slots([creation(Result.UNKNOWN)], until=NOON + 3 * SECOND)[
        "job", "a"
    ]
    assert not expected.must
    assert len(expected.may) == 3


def change(id_: str, operation: str = "update", /, **fields: Any) -> Change:
    collection = "jobs" if id_ == "j" else "executions"
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return Change(collection, id_, NOON, operation, named)


def insertion(id_: str, **changes: Any) -> Change:
    fields = {"job_id": "j", "status": "queued", "lease_token": 0, "live_for": "j"}
    return change(id_, "insert", **(fields | changes))


CLAIM: dict[str, Any] = {"status": "running", "lease_token": 1, "lease_owner": "a"}

HISTORIES = {
    "only legal moves": [insertion("e"), change("e", status="succeeded")],
    "tokens grow, and each has at most one attempt": [
        insertion("e"),
        change("e", **CLAIM),
        change("e", attempts=[{}]),
        change("e", attempts__1={}),
    ],
    "one live lease per job": [
        insertion("e"),
        insertion("f"),
        change("e", **CLAIM),
        change("f", **CLAIM),
    ],
    "next_run never moves back": [
        change("j", "insert", name="job", revision=1, next_run=NOON),
        change("j", next_run=NOON - SECOND),
    ],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_that_breaks_a_rule_is_reported(name: str) -> None:
    assert list_violated(Evidence(changes=HISTORIES[name])) == {name}


@pytest.mark.parametrize(
    "wrong",
    [{"lease_token": 0}, {"lease_owner": "b"}, {"status": "running", "lease_token": 1}],
    ids=str,
)
def test_a_wrong_change_of_a_lease_is_reported(wrong: dict[str, Any]) -> None:
    changes = [insertion("e"), change("e", **CLAIM)]
    if "status" in wrong:
        changes.append(change("e", status="queued"))
    changes.append(change("e", **wrong))
    assert list_violated(Evidence(changes=changes)) == {
        "tokens grow, and each has at most one attempt"
    }


def test_a_sound_history_passes() -> None:
    changes = [
        insertion("e"),
        insertion("f", live_for=None),
        change("f", **CLAIM),
        change("e", **CLAIM),
        change("e", attempts=[{}]),
        change("e", status="queued", lease_token=2),
        change("e", **(CLAIM | {"lease_token": 3})),
        change("e", attempts__1={}),
        change("e", status="succeeded"),
        change("j", "insert", name="job", revision=1, next_run=NOON),
        change("j", next_run=None),
        change("j", revision=2, next_run=NOON - SECOND),
    ]
    assert not list_violated(Evidence(changes=changes))


def make_abandoned_evidence() -> Evidence:
    """Make evidence in which process 77 abandoned the first attempt of the first execution."""
    evidence = make_evidence()
    one = evidence.executions[0]
    [last] = one["attempts"]
    first = last | {"outcome": "abandoned", "error": "abandoned"}
    second = last | {"number": 2, "started_at": last["started_at"] + 6 * SECOND}
    one["attempts"] = [first, second | {"finished_at": second["started_at"]}]
    one["lease_token"] = 2
    claim = CLAIM | {"lease_owner": "a-b-77-c0ffee"}
    evidence.changes = [insertion("e1"), change("e1", **claim), change("e1", attempts=[{}])]
    evidence.deliveries.append(replace(evidence.deliveries[0], attempt=2))
    return evidence


def test_an_attempt_abandoned_without_a_fault_is_reported() -> None:
    evidence = make_abandoned_evidence()
    other = Fault("kill", evidence.executions[0]["scheduled_for"], pid=78)
    own_stop = replace(other, name="term", pid=77)
    evidence.faults = [other, own_stop]
    assert list_violated(evidence) == {"abandoned only by a fault"}


@pytest.mark.parametrize(
    ("pid", "part"),
    [(77, Part.SERVICE), (None, Part.DATABASE)],
    ids=["its process", "the database"],
)
def test_an_attempt_abandoned_by_a_fault_is_allowed(pid: int | None, part: Part) -> None:
    evidence = make_abandoned_evidence()
    evidence.faults = [Fault("a fault", evidence.executions[0]["scheduled_for"], pid, part)]
    assert not list_violated(evidence)


def test_a_fault_of_redis_does_not_explain_an_abandoned_attempt() -> None:
    evidence = make_abandoned_evidence()
    slot = evidence.executions[0]["scheduled_for"]
    evidence.faults = [Fault("redis killed", slot, part=Part.REDIS)]
    assert list_violated(evidence) == {"abandoned only by a fault"}


@pytest.mark.parametrize("part", Part)
def test_a_long_attempt_is_reported_unless_the_database_had_a_fault(part: Part) -> None:
    evidence = make_evidence()
    attempt = evidence.executions[0]["attempts"][0]
    attempt["finished_at"] = attempt["started_at"] + 7 * SECOND
    evidence.faults = [Fault("a fault", attempt["started_at"] + SECOND, part=part)]
    assert ("attempts in bounds" in list_violated(evidence)) == (part is not Part.DATABASE)


def test_redeliveries_and_takeovers_are_counted() -> None:
    evidence = make_abandoned_evidence()
    evidence.faults = [Fault("kill", evidence.executions[0]["scheduled_for"], 77)]
    reported = compute_figures(evidence)
    assert reported["redeliveries"] == "1 (33.33 %)"
    assert reported["takeovers, p50, p95, max"] == "1, 6.000 s, 6.000 s, 6.000 s"
    assert reported["lateness p50, p95, p99, max"] == "0.050 s, 0.050 s, 0.050 s, 0.050 s"
