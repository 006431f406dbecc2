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
"""A target enforces the timeout itself. The executor cancels one that does not, this much later."""

_CANCEL_GRACE = timedelta(seconds=0.4)
"""How long the executor waits for a cancelled target. Both graces together stay below 1 s, because
no attempt may run longer than its timeout + 1 s."""

_SETTLE_RETRY_SECONDS = 0.25


class StopReason(StrEnum):
    """Why a running attempt is stopped."""

    CANCEL = "cancel"
    """A cancel was requested."""
    LEASE_LOST = "lease_lost"
    """Another process may run the execution now: nothing more is written."""
    SHUTDOWN = "shutdown"
    """The process stops: the execution goes back to the queue."""


@dataclass(slots=True, eq=False)
class RunningAttempt:
    """One attempt while it runs in this process."""

    execution: Execution
    job: Job
    number: int
    stop_reason: StopReason | None = None
    delivery: "asyncio.Task[Outcome] | None" = None

    @property
    def lease(self) -> Lease:
        return Lease(self.execution.id, self.execution.lease_token)

    def stop(self, reason: StopReason) -> None:
        """Stop the delivery. The first reason stands, but a lost lease overrides the others."""
        if self.stop_reason is None or reason is StopReason.LEASE_LOST:
            self.stop_reason = reason
        if self.delivery is not None:
            self.delivery.cancel()


class Executor:
    """Runs any number of attempts at once. `pause_gone` pauses a job whose receiver responded
    410."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        targets: Target[TargetSpec],
        pause_gone: Callable[[Job], Awaitable[bool]],
        randomness: random.Random,
        clock: Clock,
    ) -> None:
        self._recorder = recorder
        self._targets = targets
        self._pause_gone = pause_gone
        self._random = randomness
        self._clock = clock
        self._stuck: set[asyncio.Task[Outcome]] = set()
        """Deliveries that did not end when they were cancelled. asyncio keeps only weak references
        to tasks, so this set keeps them from being collected while they run."""
        self.dropped = 0
        """How many results were not recorded, because their lease was lost."""

    async def run(self, running: RunningAttempt) -> bool:
        """Deliver, decide, record. False if the lease was lost: then nothing is recorded."""
        outcome = await self._deliver(running)
        job, earlier = running.job, running.execution.attempts[: running.number - 1]
        decision = decide(outcome, job.retry, earlier=earlier, chance=self._random.random())
        ids = _ids(running)
        if not await self._settle(running, outcome, decision):
            self.dropped += 1
            _log.warning("result_dropped", **ids, outcome=outcome.outcome, dropped=self.dropped)
            return False
        _log.info("attempt_finished", **ids, **_facts(outcome), status=decision.status)
        if outcome.gone:
            await self._pause_job(running)
        return True

    async def _deliver(self, running: RunningAttempt) -> Outcome:
        """The target's outcome, or that of a stop, a missed deadline or a bug."""
        if running.stop_reason is not None:
            return _outcome_of(running.stop_reason)
        delivery = asyncio.ensure_future(
            self._targets.deliver(running.job.target, _delivery(running))
        )
        running.delivery = delivery
        limit = running.job.timeout + _DEADLINE_GRACE
        if not await self._wait(delivery, limit):
            delivery.cancel()
            if not await self._wait(delivery, _CANCEL_GRACE):
                _log.error("delivery_not_cancellable", **_ids(running))
                self._stuck.add(delivery)
                delivery.add_done_callback(self._stuck.discard)
            return Outcome(
                AttemptOutcome.TIMED_OUT,
                Failure.TIMEOUT,
                f"no end after {limit.total_seconds():g} seconds",
            )
        try:
            return delivery.result()
        except asyncio.CancelledError:
            return _outcome_of(running.stop_reason or StopReason.SHUTDOWN)
        except Exception:  # a bug in a target is that attempt's failure, not the service's
            _log.exception("target_failed", **_ids(running))
            return Outcome(AttemptOutcome.FAILED, Failure.BUG, "internal error in the target")

    async def _wait(self, delivery: "asyncio.Task[Outcome]", limit: timedelta) -> bool:
        """Wait for the end of a delivery, at most for `limit`. Return whether it has ended."""
        with suppress(TimeoutError):
            async with self._clock.timeout(limit):
                await asyncio.wait({delivery})
        return delivery.done()

    async def _pause_job(self, running: RunningAttempt) -> None:
        """Pause the job of a receiver that is gone.

        A worker without the lease must not pause the job, so this runs after the recording. If it
        fails, the next slot's 410 pauses the job.
        """
        try:
            paused = await self._pause_gone(running.job)
        except (UnavailableError, ConflictError) as error:
            _log.warning("pause_failed", **_ids(running), error=error.detail)
        else:
            _log.warning("receiver_gone", **_ids(running), paused=paused)

    async def _settle(self, running: RunningAttempt, outcome: Outcome, decision: Decision) -> bool:
        """Record the end. During an outage it tries again as long as the lease holds."""
        settlement = Settlement(
            lease=running.lease,
            status=decision.status,
            attempt=running.number,
            outcome=outcome,
            delay=decision.delay,
        )
        while running.stop_reason is not StopReason.LEASE_LOST:
            try:
                return await self._recorder.settle(running.execution, settlement)
            except UnavailableError:
                await asyncio.sleep(_SETTLE_RETRY_SECONDS)
        return False


def _outcome_of(reason: StopReason) -> Outcome:
    match reason:
        case StopReason.CANCEL:
            return Outcome(AttemptOutcome.CANCELLED, error="cancelled")
        case StopReason.LEASE_LOST | StopReason.SHUTDOWN:
            return STOPPED_BY_SHUTDOWN


def _delivery(running: RunningAttempt) -> Delivery:
    execution, job = running.execution, running.job
    return Delivery(
        execution_id=execution.id,
        job_id=job.id,
        job_name=job.name,
        kind=execution.kind,
        scheduled_for=execution.scheduled_for,
        attempt=running.number,
        parameters=job.parameters if execution.parameters is None else execution.parameters,
        timeout=job.timeout,
    )


def _ids(running: RunningAttempt) -> dict[str, object]:
    return {
        "execution_id": running.execution.id,
        "job_id": running.job.id,
        "attempt": running.number,
    }


def _facts(outcome: Outcome) -> dict[str, object]:
    status = outcome.response.status if outcome.response else None
    facts = {"outcome": outcome.outcome, "error": outcome.error, "response_status": status}
    return {name: value for name, value in facts.items() if value is not None}
