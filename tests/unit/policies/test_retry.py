"""The decision after an attempt: final status, or the delay until the next attempt."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.execution import Attempt, AttemptOutcome, ExecutionStatus, TargetResponse
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy, RetryStrategy
from app.policies.retry import LEASE_EXPIRED, STOPPED_BY_SHUTDOWN, backoff, decide, is_retriable

AT = datetime(2026, 11, 23, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
TIMEOUT = Outcome(AttemptOutcome.TIMED_OUT, Failure.TIMEOUT)


def make_status_failure(status: int, **changes: Any) -> Outcome:
    response = TargetResponse(status=status)
    return Outcome(AttemptOutcome.FAILED, Failure.STATUS, response=response, **changes)


def make_attempts(count: int, error: str | None = None) -> list[Attempt]:
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
    return decide(outcome, retry, earlier=make_attempts(earlier), chance=0.5).status


def test_a_success_is_final() -> None:
    assert status_after(Outcome(AttemptOutcome.SUCCEEDED)) is ExecutionStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("outcome", "final"),
    [
        (make_status_failure(500), ExecutionStatus.FAILED),
        (TIMEOUT, ExecutionStatus.TIMED_OUT),
        (LEASE_EXPIRED, ExecutionStatus.FAILED),
    ],
)
def test_the_last_attempt_decides_the_final_status(
    outcome: Outcome, final: ExecutionStatus
) -> None:
    assert status_after(outcome, 0, max_attempts=2) is ExecutionStatus.QUEUED
    assert status_after(outcome, 1, max_attempts=2) is final


def test_attempts_interrupted_by_a_shutdown_do_not_count() -> None:
    retry = RetryPolicy(max_attempts=1)
    interrupted = make_attempts(5, error="shutdown")
    assert decide(STOPPED_BY_SHUTDOWN, retry, earlier=interrupted, chance=0).status == "queued"
    assert decide(make_status_failure(500), retry, earlier=interrupted, chance=0).status == "failed"
    assert decide(
        make_status_failure(500), RetryPolicy(max_attempts=2), earlier=interrupted, chance=0
    ).status == ("queued")


def test_only_the_failures_in_retry_on_are_retried() -> None:
    retry = RetryPolicy(retry_on=("timeout", "5xx", 429))
    assert is_retriable(TIMEOUT, retry)
    assert is_retriable(make_status_failure(503), retry)
    assert is_retriable(make_status_failure(429), retry)
    assert not is_retriable(make_status_failure(400), retry)
    assert not is_retriable(Outcome(AttemptOutcome.FAILED, Failure.CONNECTION_ERROR), retry)


@pytest.mark.parametrize(
    "outcome",
    [make_status_failure(410, gone=True), Outcome(AttemptOutcome.FAILED, Failure.REFUSED)],
)
def test_a_gone_receiver_or_an_unusable_target_is_not_retried(outcome: Outcome) -> None:
    assert status_after(outcome, 0, max_attempts=10) is ExecutionStatus.FAILED


def test_retry_after_applies_if_it_is_longer_than_the_delay() -> None:
    retry = RetryPolicy(strategy=RetryStrategy.FIXED, delay_seconds=5)
    outcome = make_status_failure(503, retry_after=timedelta(seconds=60))
    assert decide(outcome, retry, earlier=[], chance=0).delay == timedelta(seconds=60)
    outcome = make_status_failure(503, retry_after=timedelta(seconds=1))
    assert decide(outcome, retry, earlier=[], chance=0).delay == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("max_delay", "asked", "delay"),
    [
        (HOUR / 2, HOUR, HOUR),
        (HOUR / 2, HOUR + SECOND, HOUR),
        (HOUR / 2, 24 * HOUR, HOUR),
        (2 * HOUR, 2 * HOUR, 2 * HOUR),
        (2 * HOUR, 24 * HOUR, 2 * HOUR),
        (168 * HOUR, 168 * HOUR, 168 * HOUR),
    ],
)
def test_retry_after_delays_by_at_most_the_maximum_of_the_job_or_one_hour(
    max_delay: timedelta, asked: timedelta, delay: timedelta
) -> None:
    retry = RetryPolicy(delay_seconds=5, max_delay_seconds=max_delay.total_seconds())
    outcome = make_status_failure(503, retry_after=asked)
    assert decide(outcome, retry, earlier=[], chance=0).delay == delay


def test_exponential_delays_double_up_to_the_maximum() -> None:
    retry = RetryPolicy(delay_seconds=10, max_delay_seconds=35)
    longest = [backoff(retry, failed_attempts=n, chance=1).total_seconds() for n in range(1, 5)]
    assert longest == [10, 20, 35, 35]


def test_a_fixed_delay_is_at_most_the_maximum() -> None:
    retry = RetryPolicy(strategy=RetryStrategy.FIXED, delay_seconds=60, max_delay_seconds=35)
    assert backoff(retry, failed_attempts=1, chance=0) == timedelta(seconds=35)


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
            timedelta(0)
            <= backoff(retry, failed_attempts=failed, chance=chance)
            <= timedelta(seconds=most)
        )
