"""The checker reports wrong attempts, deliveries, times and takeovers."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.evidence import HANGING, Evidence, Fault, Load, Part
from tests.chaos.made_up import (
    CLAIM,
    JOB,
    at,
    attempt,
    change,
    creation,
    delivery,
    execution,
    insertion,
    list_violated,
    make_abandoned_evidence,
    make_evidence,
)


def test_a_delivery_without_a_record_is_reported() -> None:
    evidence = make_evidence()
    evidence.deliveries.append(replace(delivery(1), execution_id="unknown"))
    assert "each delivery is in its attempt" in list_violated(evidence)


@pytest.mark.parametrize("received", [0.9, 1.3], ids=["before", "after"])
def test_a_delivery_outside_its_attempt_is_reported(received: float) -> None:
    evidence = make_evidence()
    evidence.deliveries[0] = delivery(1, received_at=at(received))
    assert "each delivery is in its attempt" in list_violated(evidence)


def test_an_attempt_sent_twice_is_reported() -> None:
    evidence = make_evidence()
    evidence.deliveries.append(evidence.deliveries[0])
    assert list_violated(evidence) == {"no attempt sent twice"}


def test_a_delivery_before_its_slot_is_reported() -> None:
    evidence = make_evidence()
    evidence.executions[0] = execution(1, attempts=[attempt(0.8)])
    evidence.deliveries[0] = delivery(1, received_at=at(0.9))
    assert list_violated(evidence) == {"no delivery early"}


def test_an_attempt_too_soon_after_a_failed_one_is_reported() -> None:
    evidence = make_evidence()
    failed: dict[str, Any] = {
        "outcome": "failed",
        "finished_at": at(1),
        "response": {"status": 503},
    }
    attempts = [attempt(1, **failed), attempt(1.4, 2)]
    evidence.executions[0] = execution(1, attempts=attempts, lease_token=2)
    evidence.deliveries[0] = delivery(1, status=503, received_at=at(1))
    evidence.deliveries.append(delivery(1, 2, received_at=at(1.45)))
    assert list_violated(evidence) == {"attempts in bounds"}


@pytest.mark.parametrize(
    "changes",
    [{"lease_token": 0}, {"number": 2}, {"outcome": None}, {"finished_at": at(8)}],
    ids=str,
)
def test_an_attempt_out_of_bounds_is_reported(changes: dict[str, Any]) -> None:
    evidence = make_evidence()
    changes = dict(changes)
    token = changes.pop("lease_token", 1)
    evidence.executions[0] = execution(1, lease_token=token, attempts=[attempt(1, **changes)])
    assert "attempts in bounds" in list_violated(evidence)


def test_more_attempts_than_the_job_allows_are_reported() -> None:
    evidence = make_evidence(definition=replace(JOB, max_attempts=1))
    failed = attempt(1, outcome="failed", response={"status": 503})
    evidence.executions[0] = execution(1, attempts=[failed, attempt(2, 2)], lease_token=2)
    evidence.deliveries[0] = delivery(1, status=503)
    evidence.deliveries.append(delivery(1, 2, received_at=at(2.05)))
    assert list_violated(evidence) == {"attempts in bounds"}


@pytest.mark.parametrize("part", Part)
def test_a_long_attempt_is_reported_unless_the_database_had_a_fault(part: Part) -> None:
    evidence = make_evidence()
    evidence.executions[0] = execution(1, attempts=[attempt(1, finished_at=at(8))])
    evidence.faults = [Fault("a fault", at(2), 78, part)]
    assert ("attempts in bounds" in list_violated(evidence)) == (part is not Part.DATABASE)


@pytest.mark.parametrize("pid", [77, 78])
def test_a_long_attempt_is_reported_unless_its_process_had_a_fault(pid: int) -> None:
    evidence = make_abandoned_evidence()
    ended = attempt(1, outcome="cancelled", finished_at=at(8))
    evidence.executions[0] = execution(1, attempts=[ended])
    evidence.faults = [Fault("kill", at(2), pid)]
    assert ("attempts in bounds" in list_violated(evidence)) == (pid == 78)


def test_an_attempt_abandoned_without_a_fault_is_reported() -> None:
    evidence = make_abandoned_evidence()
    other = Fault("kill", at(1), pid=78)
    evidence.faults = [other, replace(other, name="term", pid=77)]
    assert list_violated(evidence) == {"abandoned only by a fault"}


@pytest.mark.parametrize(
    ("pid", "part"),
    [(77, Part.SERVICE), (None, Part.DATABASE)],
    ids=["its process", "the database"],
)
def test_an_attempt_abandoned_by_a_fault_is_allowed(pid: int | None, part: Part) -> None:
    evidence = make_abandoned_evidence()
    evidence.faults = [Fault("a fault", at(1), pid, part)]
    assert not list_violated(evidence)


def test_a_fault_that_began_before_the_attempt_and_lasted_explains_it() -> None:
    evidence = make_abandoned_evidence()
    evidence.faults = [Fault("freeze", at(-5), 77)]
    assert "abandoned only by a fault" in list_violated(evidence)
    evidence.faults = [Fault("freeze", at(-5), 77, until=at(1))]
    assert "abandoned only by a fault" not in list_violated(evidence)


def test_a_fault_of_redis_does_not_explain_an_abandoned_attempt() -> None:
    evidence = make_abandoned_evidence()
    evidence.faults = [Fault("redis killed", at(1), part=Part.REDIS)]
    assert list_violated(evidence) == {"abandoned only by a fault"}


def make_late_takeover() -> Evidence:
    """Make evidence in which a takeover took 15 s instead of 10."""
    evidence = make_abandoned_evidence()
    first = evidence.executions[0]["attempts"][0]
    evidence.executions[0]["attempts"] = [first, attempt(16, 2)]
    evidence.deliveries[-1] = delivery(1, 2, received_at=at(16.05))
    evidence.faults = [Fault("kill", at(1), 77)]
    return evidence


def test_a_takeover_after_lease_plus_5_s_is_reported() -> None:
    assert list_violated(make_late_takeover()) == {"takeovers in time"}


@pytest.mark.parametrize(("pid", "allowed"), [(78, True), (79, False)])
def test_a_takeover_may_take_longer_if_the_successor_was_hit_too(
    pid: int, *, allowed: bool
) -> None:
    evidence = make_late_takeover()
    successor = {"status": "running", "lease_token": 3, "lease_owner": "a-b-78-c0ffee"}
    evidence.changes += [
        change("e1", second=6, status="queued", lease_token=2),
        change("e1", second=6.1, **successor),
        change("e1", second=15, status="queued", lease_token=4),
        change("e1", second=15.9, **(CLAIM | {"lease_token": 5})),
    ]
    evidence.faults.append(Fault("kill", at(6.5), pid))
    assert ("takeovers in time" not in list_violated(evidence)) == allowed


def test_a_takeover_may_take_longer_while_the_database_is_down() -> None:
    evidence = make_late_takeover()
    evidence.faults.append(Fault("primary killed", at(3), None, Part.DATABASE, until=at(9)))
    assert not list_violated(evidence)


def test_a_takeover_may_take_longer_while_every_process_is_down() -> None:
    evidence = make_late_takeover()
    evidence.faults = [Fault("kill", at(1), pid, until=at(8)) for pid in (77, 78, 79)]
    assert not list_violated(evidence)
    evidence.faults[2] = replace(evidence.faults[2], until=at(2))
    assert list_violated(evidence) == {"takeovers in time"}


def make_slow(delay: float, slots: int = 3) -> Evidence:
    """Make evidence in which the second slot starts late."""
    evidence = make_evidence(slots)
    evidence.executions[1] = execution(2, attempts=[attempt(2 + delay)])
    evidence.deliveries[1] = delivery(2, received_at=at(2 + delay))
    return evidence


def test_one_slow_start_of_a_hundred_is_allowed() -> None:
    assert list_violated(make_slow(1.1, slots=99)) == {"starts in time"}
    assert not list_violated(make_slow(1.1, slots=100))


@pytest.mark.parametrize("part", Part)
def test_only_faults_of_the_service_and_the_database_delay_a_start(part: Part) -> None:
    evidence = make_slow(16.5)  # due at 2 s, begun at 18.5 s
    evidence.faults = [Fault("a fault", at(1), None, part, until=at(4))]
    disturbing = part in {Part.SERVICE, Part.DATABASE}
    assert ("starts in time" not in list_violated(evidence)) == disturbing


@pytest.mark.parametrize(("delay", "in_time"), [(1.5, True), (2.5, False)])
def test_without_redis_a_start_may_take_a_poll_interval_longer(
    delay: float, *, in_time: bool
) -> None:
    evidence = make_slow(delay)
    evidence.faults = [Fault("redis killed", at(1), part=Part.REDIS, until=at(4))]
    assert ("starts in time" not in list_violated(evidence)) == in_time


def test_a_wrong_wall_clock_delays_no_start() -> None:
    evidence = make_slow(5)
    evidence.faults = [Fault("clock +1h", at(1), 77, until=at(4))]
    assert list_violated(evidence) == {"starts in time"}


def test_the_jobs_of_receivers_that_never_respond_may_wait_for_their_owners_share() -> None:
    evidence = make_slow(5)
    evidence.calls[0] = creation(definition=replace(JOB, behaviour=HANGING))
    assert "starts in time" not in list_violated(evidence)


def test_a_start_15_s_after_the_end_of_all_faults_is_too_late() -> None:
    evidence = make_slow(18)
    evidence.faults = [Fault("freeze", at(1), 77, until=at(4))]
    assert list_violated(evidence) == {"starts in time"}
    evidence.faults.append(Fault("freeze", at(21), 78, until=at(22)))
    assert list_violated(evidence) == {"starts in time"}
    evidence.faults.append(Fault("freeze", at(5), 79, until=at(9)))
    assert not list_violated(evidence)


def test_what_is_due_just_before_or_after_a_fault_may_be_delayed_by_it() -> None:
    evidence = make_slow(14)
    evidence.faults = [Fault("freeze", at(2.5), 77, until=at(4))]
    assert not list_violated(evidence)
    evidence.faults = [Fault("freeze", at(1), 77, until=at(1.5))]
    assert not list_violated(evidence)
    evidence.faults = [Fault("freeze", at(3.5), 77, until=at(4))]
    assert list_violated(evidence) == {"starts in time"}


def test_a_herd_starts_at_300_a_second_or_faster() -> None:
    evidence = make_slow(20)
    evidence.load = Load(jobs=1_500)
    assert "starts in time" not in list_violated(evidence)
    evidence.load = Load(jobs=1_200)
    assert "starts in time" in list_violated(evidence)


@pytest.mark.parametrize(("promoted", "in_time"), [(2.5, True), (3.5, False)])
def test_a_waiting_execution_is_promoted_when_the_live_one_has_ended(
    promoted: float, *, in_time: bool
) -> None:
    evidence = make_evidence()
    waiting = {"live_for": None, "waiting": True, "place": 0}
    evidence.changes = [
        insertion("e1", 1),
        insertion("e2", 1.5, **waiting),
        change("e1", second=2, status="cancelled", live_for=None),
        change("e2", second=promoted, waiting=False, live_for="j"),
    ]
    evidence.executions[1] = execution(2, attempts=[attempt(promoted)])
    evidence.deliveries[1] = delivery(2, received_at=at(promoted))
    assert ("starts in time" not in list_violated(evidence)) == in_time


def test_a_stop_interrupts_no_attempt_before_the_grace_period() -> None:
    evidence = make_evidence()
    stopped = attempt(1, outcome="abandoned", error="shutdown", finished_at=at(1.9))
    evidence.executions[0] = execution(1, attempts=[stopped, attempt(2, 2)], lease_token=2)
    evidence.deliveries.append(delivery(1, 2, received_at=at(2.05)))
    assert list_violated(evidence) == {"abandoned only by a fault"}
