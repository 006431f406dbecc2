"""The executor: takes one started attempt through delivery, decision and record."""

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
from app.policies.retry import CUT_BY_SHUTDOWN, Decision, decide
from app.repositories.leases import Lease, Settlement
from app.targets.registry import Targets
from app.targets.target import Delivery

_log = structlog.get_logger(__name__)

_DEADLINE_GRACE = timedelta(seconds=0.5)
"""A target enforces the timeout itself. The executor cancels one that does not, this much later."""

_CANCEL_GRACE = timedelta(seconds=0.4)
"""How long the executor waits for a cancelled target. Both graces together stay below 1 s, because
no attempt may run longer than its timeout + 1 s."""

_SETTLE_RETRY_SECONDS = 0.25


class Cut(StrEnum):
    """Why a running attempt is cut."""

    CANCEL = "cancel"
    """Somebody asked for it."""
    LEASE_LOST = "lease_lost"
    """Another process may run it now: nothing more is written."""
    SHUTDOWN = "shutdown"
    """The process stops: the execution goes back to the queue."""


@dataclass(slots=True, eq=False)
class Run:
    """One attempt while it runs in this process."""

    execution: Execution
    job: Job
    attempt: int
    cut_by: Cut | None = None
    delivery: "asyncio.Task[Outcome] | None" = None

    @property
    def lease(self) -> Lease:
        return Lease(self.execution.id, self.execution.lease_token)

    def cut(self, reason: Cut) -> None:
        """Stop the delivery. A lost lease overrides other reasons; otherwise the first stands."""
        if self.cut_by is None or reason is Cut.LEASE_LOST:
            self.cut_by = reason
        if self.delivery is not None:
            self.delivery.cancel()


class Executor:
    """Runs attempts, any number at once. `pause_gone` pauses a job whose receiver said 410."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        targets: Targets,
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
        """Results that were not recorded, since the start: their lease was lost."""

    async def run(self, run: Run) -> bool:
        """Deliver, decide, record. False if the lease was lost: then nothing is recorded."""
        outcome = await self._deliver(run)
        earlier = run.execution.attempts[: run.attempt - 1]
        decision = decide(outcome, run.job.retry, earlier=earlier, chance=self._random.random())
        if not await self._settle(run, outcome, decision):
            self.dropped += 1
            _log.warning(
                "result_dropped", **_ids(run), outcome=outcome.outcome, dropped=self.dropped
            )
            return False
        _log.info("attempt_finished", **_ids(run), **_facts(outcome), status=decision.status)
        if outcome.gone:
            await self._pause(run)
        return True

    async def _deliver(self, run: Run) -> Outcome:
        """Return the target's outcome, or the one for an interruption, a timeout or a bug."""
        if run.cut_by is not None:
            return _outcome_of(run.cut_by)
        delivery = asyncio.ensure_future(self._targets.deliver(run.job.target, _delivery(run)))
        run.delivery = delivery
        limit = run.job.timeout + _DEADLINE_GRACE
        if not await self._wait(delivery, limit):
            delivery.cancel()
            if not await self._wait(delivery, _CANCEL_GRACE):
                _log.error("delivery_not_cancellable", **_ids(run))
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
            return _outcome_of(run.cut_by or Cut.SHUTDOWN)
        except Exception:  # a bug in a target is that attempt's failure, not the service's
            _log.exception("target_failed", **_ids(run))
            return Outcome(AttemptOutcome.FAILED, Failure.BUG, "internal error in the target")

    async def _wait(self, delivery: "asyncio.Task[Outcome]", limit: timedelta) -> bool:
        """Wait for the end of a delivery, at most for `limit`. Return whether it has ended."""
        with suppress(TimeoutError):
            async with self._clock.timeout(limit):
                await asyncio.wait({delivery})
        return delivery.done()

    async def _pause(self, run: Run) -> None:
        """After the end is recorded: who has lost the lease has no say. Where the process dies or
        the database fails in between, the next slot's 410 does it."""
        try:
            paused = await self._pause_gone(run.job)
        except (UnavailableError, ConflictError) as error:
            _log.warning("pause_failed", **_ids(run), error=error.detail)
        else:
            _log.warning("receiver_gone", **_ids(run), paused=paused)

    async def _settle(self, run: Run, outcome: Outcome, decision: Decision) -> bool:
        """Record the end; through an outage as long as the lease holds."""
        settlement = Settlement(
            lease=run.lease,
            status=decision.status,
            attempt=run.attempt,
            outcome=outcome,
            delay=decision.delay,
        )
        while run.cut_by is not Cut.LEASE_LOST:
            try:
                return await self._recorder.settle(run.execution, settlement)
            except UnavailableError:
                await asyncio.sleep(_SETTLE_RETRY_SECONDS)
        return False


def _outcome_of(cut: Cut) -> Outcome:
    match cut:
        case Cut.CANCEL:
            return Outcome(AttemptOutcome.CANCELLED, error="cancelled")
        case Cut.LEASE_LOST | Cut.SHUTDOWN:
            return CUT_BY_SHUTDOWN


def _delivery(run: Run) -> Delivery:
    execution, job = run.execution, run.job
    return Delivery(
        execution_id=execution.id,
        job_id=job.id,
        job_name=job.name,
        kind=execution.kind,
        scheduled_for=execution.scheduled_for,
        attempt=run.attempt,
        parameters=job.parameters if execution.parameters is None else execution.parameters,
        timeout=job.timeout,
    )


def _ids(run: Run) -> dict[str, object]:
    return {"execution_id": run.execution.id, "job_id": run.job.id, "attempt": run.attempt}


def _facts(outcome: Outcome) -> dict[str, object]:
    status = outcome.response.status if outcome.response else None
    facts = {"outcome": outcome.outcome, "error": outcome.error, "response_status": status}
    return {name: value for name, value in facts.items() if value is not None}
