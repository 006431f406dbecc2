"""The checker reports executions whose status has no cause outside the service."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.evidence import UNRESOLVED, Evidence, Fault, JobDefinition, Part
from tests.chaos.made_up import (
    JOB,
    NOON,
    at,
    attempt,
    call,
    change,
    delivery,
    execution,
    insertion,
    list_violated,
    live_from_to,
    make_evidence,
    unstarted,
)
from tests.support.changes import Document


def test_an_execution_that_never_ends_is_stuck() -> None:
    evidence = make_evidence()
    evidence.executions[0] = unstarted(1, "queued")
    del evidence.deliveries[0]
    assert list_violated(evidence) == {"no execution stuck"}


@pytest.mark.parametrize(
    "lock",
    [
        {"live_for": "j"},
        {"place": 0},
        {"lease_owner": "a"},
        {"lease_until": NOON},
        {"waiting": True},
    ],
    ids=str,
)
def test_a_final_record_that_locks_is_reported(lock: Document) -> None:
    evidence = make_evidence()
    evidence.executions[0] |= lock
    assert list_violated(evidence) == {"no lock on a final record"}


def test_a_success_without_a_2xx_response_is_reported() -> None:
    evidence = make_evidence()
    evidence.deliveries[0] = replace(evidence.deliveries[0], status=None)
    assert list_violated(evidence) == {"each success was received"}


FAILED: dict[str, Any] = {"outcome": "failed", "response": {"status": 503}}
TIMED_OUT: dict[str, Any] = {"outcome": "timed_out", "finished_at": at(6)}


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (attempt(1, **FAILED), "failed"),
        (attempt(1, **TIMED_OUT), "timed_out"),
        (attempt(1, outcome="abandoned", error="abandoned"), "failed"),
        (attempt(1, outcome="failed"), "failed"),
    ],
    ids=["status", "timeout", "abandoned", "no response"],
)
def test_an_execution_that_fails_before_its_attempts_are_spent_is_reported(
    last: Document, status: str
) -> None:
    evidence = make_evidence()
    evidence.executions[0] = execution(1, status=status, attempts=[last])
    evidence.deliveries[0] = delivery(1, status=503)
    evidence.faults = [Fault("kill", at(1), part=Part.DATABASE)]
    assert list_violated(evidence) == {"each failure has a cause"}


def test_an_execution_may_fail_when_its_attempts_are_spent() -> None:
    evidence = make_evidence()
    attempts = [attempt(1, **FAILED), attempt(2, 2, **FAILED)]
    evidence.executions[0] = execution(1, status="failed", attempts=attempts, lease_token=2)
    evidence.deliveries[0] = delivery(1, status=503)
    evidence.deliveries.append(delivery(1, 2, 503, received_at=at(2.05)))
    assert not list_violated(evidence)


def test_attempts_that_a_shutdown_stopped_are_not_spent() -> None:
    evidence = make_evidence()
    stopped = attempt(1, outcome="abandoned", error="shutdown", finished_at=at(32))
    attempts = [stopped, attempt(33, 2, **FAILED)]
    evidence.executions[0] = execution(1, status="failed", attempts=attempts, lease_token=2)
    evidence.deliveries[0] = delivery(1, status=503)
    evidence.deliveries.append(delivery(1, 2, 503, received_at=at(33.05)))
    assert "each failure has a cause" in list_violated(evidence)


@pytest.mark.parametrize(
    ("retry_on", "status", "fails"),
    [(("5xx",), 400, True), (("5xx",), 503, False), ((503,), 500, True), (None, 410, True)],
    ids=str,
)
def test_an_outcome_that_is_not_retried_may_end_the_execution(
    retry_on: tuple[str | int, ...] | None, status: int, *, fails: bool
) -> None:
    evidence = make_evidence(definition=replace(JOB, retry_on=retry_on))
    last = attempt(1, outcome="failed", response={"status": status})
    evidence.executions[0] = execution(1, status="failed", attempts=[last])
    evidence.deliveries[0] = delivery(1, status=status)
    assert ("each failure has a cause" not in list_violated(evidence)) == fails


def make_unreceived(definition: JobDefinition = JOB) -> Evidence:
    """Make evidence in which a failed attempt has not reached the receiver."""
    evidence = make_evidence(definition=definition)
    attempts = [attempt(1, outcome="failed"), attempt(2, 2)]
    evidence.executions[0] = execution(1, attempts=attempts, lease_token=2)
    evidence.deliveries[0] = delivery(1, 2, received_at=at(2.05))
    return evidence


def test_a_failed_attempt_that_the_receiver_never_saw_needs_a_fault() -> None:
    evidence = make_unreceived()
    for part, explains in ((Part.REDIS, False), (Part.DATABASE, True)):
        evidence.faults = [Fault("killed", at(0), part=part, until=at(2))]
        assert ("each failure has a cause" not in list_violated(evidence)) == explains


def test_an_attempt_may_fail_if_the_name_of_the_receiver_is_not_resolved() -> None:
    evidence = make_unreceived(replace(JOB, behaviour=UNRESOLVED))
    assert "each failure has a cause" not in list_violated(evidence)


def test_a_2xx_that_is_recorded_as_a_failure_is_reported() -> None:
    evidence = make_evidence()
    attempts = [attempt(1, **FAILED), attempt(2, 2)]
    evidence.executions[0] = execution(1, attempts=attempts, lease_token=2)
    evidence.deliveries.append(delivery(1, 2, received_at=at(2.05)))
    assert list_violated(evidence) == {"each accepted attempt succeeds"}


def test_a_2xx_after_the_timeout_may_be_recorded_as_a_timeout() -> None:
    evidence = make_evidence()
    attempts = [attempt(1, **TIMED_OUT), attempt(7, 2)]
    evidence.executions[0] = execution(1, attempts=attempts, lease_token=2)
    evidence.deliveries.append(delivery(1, 2, received_at=at(7.05)))
    assert list_violated(evidence) == {"each accepted attempt succeeds"}
    evidence.deliveries[0] = delivery(1, responded_at=at(6))
    assert not list_violated(evidence)


def make_skipped(policy: str, reason: str) -> Evidence:
    """Make evidence in which the second slot was skipped."""
    evidence = make_evidence(definition=replace(JOB, overlap_policy=policy))
    evidence.executions[1] = unstarted(2, "skipped", reason=reason)
    del evidence.deliveries[1]
    return evidence


@pytest.mark.parametrize("until", [1.9, 2.5], ids=["ended before", "live"])
def test_a_skip_needs_a_live_execution_at_that_instant(until: float) -> None:
    evidence = make_skipped("skip", "overlap")
    evidence.changes = live_from_to("e1", 1, until)
    allowed = until > 2
    assert list_violated(evidence) == (set() if allowed else {"each skip has a cause"})


def test_an_execution_that_only_waits_does_not_explain_a_skip() -> None:
    evidence = make_skipped("skip", "overlap")
    evidence.changes = [insertion("e1", 1, live_for=None, waiting=True, place=0)]
    assert "each skip has a cause" in list_violated(evidence)


@pytest.mark.parametrize("reason", ["overlap", "buffer_full", None])
def test_a_slot_is_not_skipped_under_allow_all(reason: str) -> None:
    evidence = make_skipped("allow_all", reason)
    evidence.changes = live_from_to("e1", 1, 3)
    assert list_violated(evidence) == {"each skip has a cause"}


@pytest.mark.parametrize(
    ("policy", "waiting", "allowed"),
    [
        ("buffer_one", 0, False),
        ("buffer_one", 1, True),
        ("buffer_all", 99, False),
        ("buffer_all", 100, True),
    ],
)
def test_a_full_buffer_must_be_full(policy: str, waiting: int, *, allowed: bool) -> None:
    evidence = make_skipped(policy, "buffer_full")
    evidence.changes = [
        insertion(f"w{n}", 1, live_for=None, waiting=True, place=n) for n in range(waiting)
    ]
    assert ("each skip has a cause" not in list_violated(evidence)) == allowed


def make_cancelled(reason: str | None, policy: str = "skip") -> Evidence:
    """Make evidence in which the first execution was cancelled before it began."""
    evidence = make_evidence(definition=replace(JOB, overlap_policy=policy))
    evidence.executions[0] = unstarted(1, "cancelled", reason=reason)
    del evidence.deliveries[0]
    return evidence


REASONS = ["cancelled_by_user", "job_deleted", "cancelled_by_overlap", "replaced_by_newer"]


@pytest.mark.parametrize("reason", [*REASONS, "terminated_by_overlap", None])
def test_a_cancel_that_nobody_caused_is_reported(reason: str | None) -> None:
    assert list_violated(make_cancelled(reason)) == {"each cancel has a cause"}


@pytest.mark.parametrize(
    ("execution_id", "sent", "allowed"), [("e1", 0.9, True), ("e2", 0.9, False), ("e1", 1.5, False)]
)
def test_a_users_cancel_explains_only_the_execution_that_it_names(
    execution_id: str, sent: float, *, allowed: bool
) -> None:
    evidence = make_cancelled("cancelled_by_user")
    evidence.calls.append(call("cancel", sent, execution_id=execution_id))
    assert ("each cancel has a cause" not in list_violated(evidence)) == allowed


@pytest.mark.parametrize(
    ("reason", "policy", "allowed"),
    [
        ("cancelled_by_overlap", "cancel_other", True),
        ("replaced_by_newer", "cancel_other", True),
        ("terminated_by_overlap", "terminate_other", True),
        ("terminated_by_overlap", "cancel_other", False),
        ("cancelled_by_overlap", "skip", False),
    ],
)
def test_a_newer_execution_cancels_only_under_its_policy(
    reason: str, policy: str, *, allowed: bool
) -> None:
    evidence = make_cancelled(reason, policy)
    evidence.changes = [insertion("e2", 2)]
    assert ("each cancel has a cause" not in list_violated(evidence)) == allowed
    evidence.changes = [insertion("e0", 0), change("e0", second=0, status="cancelled")]
    assert "each cancel has a cause" in list_violated(evidence)


def test_an_attempt_after_a_cancel_is_reported() -> None:
    evidence = make_evidence()
    requested = {"reason": "cancelled_by_user", "cancel_requested_at": at(0.9)}
    evidence.calls.append(call("cancel", 0.8, execution_id="e1"))
    evidence.executions[0] = execution(1, status="cancelled", **requested)
    assert list_violated(evidence) == {"each cancel has a cause"}
