"""What follows an attempt."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.execution import Attempt, AttemptOutcome, ExecutionStatus, Response
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy, RetryStrategy
from app.policies.retry import ABANDONED, STOPPED_BY_SHUTDOWN, backoff, decide, is_retriable

AT = datetime(2026, 11, 23, tzinfo=UTC)
TIMEOUT = Outcome(AttemptOutcome.TIMED_OUT, Failure.TIMEOUT)


def answered(status: int, **changes: Any) -> Outcome:
    response = Response(status=status)
    return Outcome(AttemptOutcome.FAILED, Failure.STATUS, response=response, **changes)


def attempts(count: int, error: str | None = None) -> list[Attempt]:
    return [
        Attempt(
            number=n + 1,
            job_revision=1,
            started_at=AT,
            finished_at=AT,
            outcome=AttemptOutcome.FAILED,
            error=error,
        )
        for n in range(count)
    ]


def status_after(outcome: Outcome, earlier: int = 0, **policy: object) -> ExecutionStatus:
    retry = RetryPolicy(**policy)
    return decide(outcome, retry, earlier=attempts(earlier), chance=0.5).status


def test_a_success_is_final() -> None:
    assert status_after(Outcome(AttemptOutcome.SUCCEEDED)) is ExecutionStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("outcome", "final"),
    [
        (answered(500), ExecutionStatus.FAILED),
        (TIMEOUT, ExecutionStatus.TIMED_OUT),
        (ABANDONED, ExecutionStatus.FAILED),
    ],
)
def test_attempts_run_out(outcome: Outcome, final: ExecutionStatus) -> None:
    assert status_after(outcome, 0, max_attempts=2) is ExecutionStatus.QUEUED
    assert status_after(outcome, 1, max_attempts=2) is final


def test_attempts_cut_by_a_shutdown_do_not_count() -> None:
    retry = RetryPolicy(max_attempts=1)
    cut = attempts(5, error="shutdown")
    assert decide(STOPPED_BY_SHUTDOWN, retry, earlier=cut, chance=0).status == "queued"
    assert decide(answered(500), retry, earlier=cut, chance=0).status == "failed"
    assert decide(answered(500), RetryPolicy(max_attempts=2), earlier=cut, chance=0).status == (
        "queued"
    )


def test_retry_on_names_what_is_tried_again() -> None:
    retry = RetryPolicy(retry_on=("timeout", "5xx", 429))
    assert is_retriable(TIMEOUT, retry)
    assert is_retriable(answered(503), retry)
    assert is_retriable(answered(429), retry)
    assert not is_retriable(answered(400), retry)
    assert not is_retriable(Outcome(AttemptOutcome.FAILED, Failure.CONNECTION_ERROR), retry)


@pytest.mark.parametrize(
    "outcome", [answered(410, gone=True), Outcome(AttemptOutcome.FAILED, Failure.REFUSED)]
)
def test_what_no_retry_helps_is_final_at_once(outcome: Outcome) -> None:
    assert status_after(outcome, 0, max_attempts=10) is ExecutionStatus.FAILED


def test_retry_after_is_obeyed_where_it_is_longer() -> None:
    retry = RetryPolicy(strategy=RetryStrategy.FIXED, delay_seconds=5)
    asked = answered(503, retry_after=timedelta(seconds=60))
    assert decide(asked, retry, earlier=[], chance=0).delay == timedelta(seconds=60)
    asked = answered(503, retry_after=timedelta(seconds=1))
    assert decide(asked, retry, earlier=[], chance=0).delay == timedelta(seconds=5)


def test_exponential_delays_double_up_to_the_maximum() -> None:
    retry = RetryPolicy(delay_seconds=10, max_delay_seconds=35)
    longest = [backoff(retry, failed=n, chance=1).total_seconds() for n in range(1, 5)]
    assert longest == [10, 20, 35, 35]


@given(
    failed=st.integers(1, 10**9),
    chance=st.floats(0, 1, exclude_max=True),
    delay=st.floats(0, 86_400),
    most=st.floats(0, 604_800),
)
def test_a_delay_never_overflows_and_never_exceeds_the_maximum(
    failed: int, chance: float, delay: float, most: float
) -> None:
    for strategy in RetryStrategy:
        retry = RetryPolicy(strategy=strategy, delay_seconds=delay, max_delay_seconds=most)
        assert (
            timedelta(0) <= backoff(retry, failed=failed, chance=chance) <= timedelta(seconds=most)
        )
