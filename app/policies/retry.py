"""Decides an execution's next status after an attempt, and the delay until the next attempt."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.models.execution import Attempt, AttemptOutcome, ExecutionStatus
from app.models.outcome import Failure, Outcome
from app.models.policy import RetryPolicy, RetryStrategy

SHUTDOWN = "shutdown"
"""The error of an attempt that stopped with its process. It does not count for `max_attempts`."""

LEASE_EXPIRED = Outcome(AttemptOutcome.ABANDONED, error="abandoned")
"""The outcome of an attempt whose lease ran out."""

STOPPED_BY_SHUTDOWN = Outcome(AttemptOutcome.ABANDONED, error=SHUTDOWN)
"""The outcome of an attempt that stopped with its process."""

RETRY_AFTER_LIMIT = timedelta(hours=1)
"""A receiver may ask for a longer delay only if `max_delay_seconds` allows it. Otherwise a wrong
`Retry-After` could stop a job for days."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The execution's next status, and for `queued` the delay before the next attempt."""

    status: ExecutionStatus
    delay: timedelta = timedelta(0)


def decide(
    outcome: Outcome, policy: RetryPolicy, *, earlier: Sequence[Attempt], chance: float
) -> Decision:
    """Decide what follows `outcome`.

    `earlier`: the previous attempts of the execution; `chance`: a random number in [0, 1), from
    which the delay is computed.
    """
    counted = 1 + sum(attempt.error != SHUTDOWN for attempt in earlier)
    match outcome.outcome:
        case AttemptOutcome.SUCCEEDED:
            return Decision(ExecutionStatus.SUCCEEDED)
        case AttemptOutcome.CANCELLED:
            return Decision(ExecutionStatus.CANCELLED)
        case AttemptOutcome.ABANDONED:
            if outcome.error == SHUTDOWN or counted < policy.max_attempts:
                return Decision(ExecutionStatus.QUEUED)
            return Decision(ExecutionStatus.FAILED)
        case AttemptOutcome.FAILED | AttemptOutcome.TIMED_OUT:
            if counted < policy.max_attempts and is_retriable(outcome, policy):
                delay = max(
                    backoff(policy, failed_attempts=counted, chance=chance),
                    _limit_retry_after(outcome.retry_after or timedelta(0), policy),
                )
                return Decision(ExecutionStatus.QUEUED, delay)
            return Decision(_final_status(outcome.outcome))


def is_retriable(outcome: Outcome, policy: RetryPolicy) -> bool:
    """Whether `retry_on` allows another attempt after this outcome."""
    if outcome.gone or outcome.failure is Failure.REFUSED:
        return False
    if policy.retry_on is None:
        return True
    reasons: set[str | int] = set()
    if outcome.failure is not None:
        reasons.add(outcome.failure.value)
    if outcome.response is not None and outcome.response.status is not None:
        status = outcome.response.status
        reasons |= {status, f"{status // 100}xx"}
    return not reasons.isdisjoint(policy.retry_on)


def backoff(policy: RetryPolicy, *, failed_attempts: int, chance: float) -> timedelta:
    """Return the delay after this number of failed attempts, at most `max_delay_seconds`.

    Fixed: `delay_seconds`. Exponential: full jitter, evenly distributed between zero and
    `delay_seconds` doubled for each earlier attempt ("Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015).
    """
    match policy.strategy:
        case RetryStrategy.FIXED:
            return min(policy.delay, policy.max_delay)
        case RetryStrategy.EXPONENTIAL:
            doublings = min(failed_attempts - 1, 64)  # a larger exponent overflows a timedelta
            limit = min(policy.delay_seconds * 2.0**doublings, policy.max_delay_seconds)
            return timedelta(seconds=limit * chance)


def _limit_retry_after(asked: timedelta, policy: RetryPolicy) -> timedelta:
    return min(asked, max(policy.max_delay, RETRY_AFTER_LIMIT))


def _final_status(outcome: AttemptOutcome) -> ExecutionStatus:
    if outcome is AttemptOutcome.TIMED_OUT:
        return ExecutionStatus.TIMED_OUT
    return ExecutionStatus.FAILED
