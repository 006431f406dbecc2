"""The executor: delivers a started attempt, decides what follows, and records it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import structlog

from app.clock import Clock
from app.engine.recorder import Recorder
from app.errors import ConflictError, UnavailableError
from app.models.execution import AttemptOutcome, Execution
from app.models.job import Job
from app.models.outcome import Failure, Outcome
from app.models.target import TargetSpec
from app.policies.retry import STOPPED_BY_SHUTDOWN, Decision, decide
from app.repositories.lease_fence import Lease
from app.repositories.settlements import Settlement
from app.targets.target import Delivery, Target

_log = structlog.get_logger(__name__)

_DEADLINE_GRACE = timedelta(seconds=0.5)
"""A target enforces the timeout itself. If a target does not end at the timeout, the executor
cancels it after this additional time."""

_CANCEL_GRACE = timedelta(seconds=0.4)
"""How long the executor waits for a cancelled target. Both graces together stay below 1 s, because
no attempt may run longer than its timeout + 1 s."""

_SETTLE_RETRY_INTERVAL = timedelta(seconds=0.25)


class StopReason(StrEnum):
    """Why a running attempt is stopped."""

    CANCEL = "cancel"
    """A cancel was requested."""
    LEASE_LOST = "lease_lost"
    """Another process may run the execution now: nothing more is written."""
    SHUTDOWN = "shutdown"
    """The process stops: the execution is queued again."""


@dataclass(slots=True, eq=False)
class RunningAttempt:
    """One attempt while it is running in this process."""

    execution: Execution
    job: Job
    number: int
    stop_reason: StopReason | None = None
    delivery: "asyncio.Task[Outcome] | None" = None

    @property
    def lease(self) -> Lease:
        return Lease(self.execution.id, self.execution.lease_token)

    def stop(self, reason: StopReason) -> None:
        """Stop the delivery. The first reason is kept, but a lost lease replaces the others."""
        if self.stop_reason is None or reason is StopReason.LEASE_LOST:
            self.stop_reason = reason
        if self.delivery is not None:
            self.delivery.cancel()


class Executor:
    """Runs any number of attempts at once.

    `pause_for_gone_receiver` pauses a job whose receiver responded 410.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        targets: Target[TargetSpec],
        pause_for_gone_receiver: Callable[[Job], Awaitable[bool]],
        randomness: random.Random,
        clock: Clock,
        max_timeout_seconds: float,
    ) -> None:
        self._recorder = recorder
        self._targets = targets
        self._pause_for_gone_receiver = pause_for_gone_receiver
        self._random = randomness
        self._clock = clock
        self._max_timeout_seconds = max_timeout_seconds
        self._stuck: set[asyncio.Task[Outcome]] = set()
        """Deliveries that did not end when they were cancelled. asyncio keeps only weak references
        to tasks, so this set keeps them from being collected while they run."""

    async def run(self, attempt: RunningAttempt) -> bool:
        """Deliver, decide, record. False if the lease was lost: then nothing is recorded."""
        outcome = await self._deliver(attempt)
        job, earlier = attempt.job, attempt.execution.attempts[: attempt.number - 1]
        decision = decide(outcome, job.retry, earlier=earlier, chance=self._random.random())
        ids = _ids(attempt)
        if not await self._settle(attempt, outcome, decision):
            _log.warning("result_dropped", **ids, outcome=outcome.outcome)
            return False
        _log.info("attempt_finished", **ids, **_facts(outcome), status=decision.status)
        if outcome.gone:
            await self._pause_job(attempt)
        return True

    async def _deliver(self, attempt: RunningAttempt) -> Outcome:
        """Deliver the attempt and return its outcome.

        A stop, a missed deadline and a bug in the target also give an outcome.
        """
        if attempt.stop_reason is not None:
            return _outcome_of(attempt.stop_reason)
        timeout = attempt.job.limit_timeout(self._max_timeout_seconds)
        delivery = asyncio.ensure_future(
            self._targets.deliver(attempt.job.target, _delivery(attempt, timeout))
        )
        attempt.delivery = delivery
        if not await self._wait(delivery, timeout + _DEADLINE_GRACE):
            delivery.cancel()
            if not await self._wait(delivery, _CANCEL_GRACE):
                _log.error("delivery_not_cancellable", **_ids(attempt))
                self._stuck.add(delivery)
                delivery.add_done_callback(self._stuck.discard)
            return Outcome(
                AttemptOutcome.TIMED_OUT,
                Failure.TIMEOUT,
                f"the target did not end within the timeout of {timeout.total_seconds():g} s",
            )
        try:
            return delivery.result()
        except asyncio.CancelledError:
            return _outcome_of(attempt.stop_reason or StopReason.SHUTDOWN)
        except Exception:  # a bug in a target is that attempt's failure, not the service's
            _log.exception("target_failed", **_ids(attempt))
            return Outcome(AttemptOutcome.FAILED, Failure.BUG, "internal error in the target")

    async def _wait(self, delivery: "asyncio.Task[Outcome]", limit: timedelta) -> bool:
        """Wait for the end of a delivery, at most for `limit`. Return whether it has ended."""
        with suppress(TimeoutError):
            async with self._clock.timeout(limit):
                await asyncio.wait({delivery})
        return delivery.done()

    async def _pause_job(self, attempt: RunningAttempt) -> None:
        """Pause the job, because its receiver is gone.

        A worker without the lease must not pause the job, so this runs after the recording. If it
        fails, the next slot's 410 pauses the job.
        """
        try:
            paused = await self._pause_for_gone_receiver(attempt.job)
        except (UnavailableError, ConflictError) as error:
            _log.warning("pause_failed", **_ids(attempt), error=error.detail)
        else:
            _log.warning("receiver_gone", **_ids(attempt), paused=paused)

    async def _settle(self, attempt: RunningAttempt, outcome: Outcome, decision: Decision) -> bool:
        """Record the end. During an outage it tries again until the lease is lost."""
        settlement = Settlement(
            lease=attempt.lease,
            status=decision.status,
            attempts=attempt.number,
            outcome=outcome,
            delay=decision.delay,
        )
        while attempt.stop_reason is not StopReason.LEASE_LOST:
            try:
                return await self._recorder.settle(attempt.execution, settlement)
            except UnavailableError:
                await asyncio.sleep(_SETTLE_RETRY_INTERVAL.total_seconds())
        return False


def _outcome_of(reason: StopReason) -> Outcome:
    match reason:
        case StopReason.CANCEL:
            return Outcome(AttemptOutcome.CANCELLED, error="cancelled")
        case StopReason.LEASE_LOST | StopReason.SHUTDOWN:  # after a lost lease nothing is recorded
            return STOPPED_BY_SHUTDOWN


def _delivery(attempt: RunningAttempt, timeout: timedelta) -> Delivery:
    execution, job = attempt.execution, attempt.job
    return Delivery(
        execution_id=execution.id,
        job_id=job.id,
        owner_id=job.owner_id,
        job_name=job.name,
        kind=execution.kind,
        scheduled_for=execution.scheduled_for,
        attempt=attempt.number,
        parameters=job.parameters if execution.parameters is None else execution.parameters,
        timeout=timeout,
        hops=execution.hops,
    )


def _ids(attempt: RunningAttempt) -> dict[str, object]:
    return {
        "execution_id": attempt.execution.id,
        "job_id": attempt.job.id,
        "attempt": attempt.number,
    }


def _facts(outcome: Outcome) -> dict[str, object]:
    status = outcome.response.status if outcome.response else None
    facts = {"outcome": outcome.outcome, "error": outcome.error, "response_status": status}
    return {name: value for name, value in facts.items() if value is not None}
