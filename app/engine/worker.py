"""The worker: claims executions that are due and runs their attempts, up to its slots."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import islice

import structlog

from app.clock import Clock
from app.engine.executor import Executor, RunningAttempt, StopReason
from app.engine.lease_keeper import LeaseKeeper
from app.engine.loop import AT_ONCE
from app.engine.recorder import Recorder
from app.engine.turns import OwnerTurns
from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus, Reason
from app.repositories.jobs import JobRepository
from app.repositories.lease_fence import Lease
from app.repositories.leases import AttemptStart, LeaseRepository
from app.repositories.settlements import Settlement
from app.wake import Wake

_log = structlog.get_logger(__name__)

_BATCH = 500
_WATCH_INTERVAL = timedelta(seconds=1)
_LAST_WRITES = timedelta(seconds=5)  # to record the attempts that a shutdown stopped
_NEWER_JOB_DELAY = timedelta(seconds=30)  # lets a process of the newer release claim the execution


class Worker:
    """Claims executions for this process and runs their attempts at the same time."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        turns: OwnerTurns,
        leases: LeaseRepository,
        executor: Executor,
        keeper: LeaseKeeper,
        recorder: Recorder,
        wake: Wake,
        clock: Clock,
        concurrency: int,
    ) -> None:
        self._jobs = jobs
        self._turns = turns
        self._leases = leases
        self._executor = executor
        self._keeper = keeper
        self._recorder = recorder
        self._wake = wake
        self._clock = clock
        self._concurrency = concurrency
        self._running: dict[str, RunningAttempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._claims_in_doubt_since: float | None = None
        self._given_up: dict[Lease, None] = {}
        """Leases that this process uses no more and did not settle, the oldest first. The reaper
        settles them."""

    async def tick(self) -> timedelta:
        """One round: claim what is due, as the free slots and the shares allow, and start it."""
        if self._claims_in_doubt_since is not None:
            await self._start_in_doubt(self._claims_in_doubt_since)
        free = self._concurrency - len(self._running)
        held = Counter(attempt.execution.owner_id for attempt in self._running.values())
        turn = await self._turns.grant(held, free=free)
        if not turn.slots:
            # An attempt that ended during the grant has set no wake-up.
            has_more_free = self._concurrency - len(self._running) > free
            return AT_ONCE if self._turns.has_waiting and has_more_free else turn.rest
        # If an error occurs before the starts are recorded, the executions stay claimed by this
        # process without an attempt. The next round starts them.
        self._claims_in_doubt_since = asked_at = self._clock.monotonic()
        claimed = await self._leases.claim(turn.slots)
        await self._start_claimed(claimed or (), since=asked_at)
        self._claims_in_doubt_since = None
        if claimed is None:
            return turn.rest
        self._turns.restart()
        return AT_ONCE

    async def watch(self) -> timedelta:
        """One round: stop the attempts that a cancel was requested for; write last run fields."""
        if self._running:
            cancelled = await self._leases.list_cancel_requested(list(self._running))
            self._stop(cancelled, StopReason.CANCEL)
        await self._forget_settled()
        await self._recorder.write_last_runs()
        return _WATCH_INTERVAL

    async def guard(self) -> timedelta:
        """One round: stop the attempts whose lease could not be renewed in time.

        It does not call the database, because it must work during an outage.
        """
        self._stop(self._keeper.list_expiring(within=_WATCH_INTERVAL), StopReason.LEASE_LOST)
        return _WATCH_INTERVAL

    def stop_lost(self, leases: Iterable[Lease]) -> None:
        """Stop the attempts under these leases, which somebody else has settled."""
        for lease in leases:
            attempt = self._running.get(lease.execution_id)
            if attempt is not None and attempt.lease == lease:
                attempt.stop(StopReason.LEASE_LOST)

    async def drain(self, grace: timedelta) -> None:
        """Wait up to `grace` for the running attempts, then stop the remaining ones and queue their
        executions again.

        Call it when the worker loop has stopped.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        self._stop(list(self._running), StopReason.SHUTDOWN)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WRITES.total_seconds())
        await self._recorder.finish()
        try:
            await self._recorder.write_last_runs()
        except UnavailableError:
            _log.warning("last_runs_lost")

    async def _start_in_doubt(self, since: float) -> None:
        """Start the executions that an earlier round claimed but did not start, also if the
        response to the claim was lost."""
        # Copied before the query: an attempt that ends during the query may still be `running` in
        # its result and must not be started again.
        running = {attempt.lease for attempt in self._running.values()}
        owned = await self._leases.list_owned()
        ended = running.union(self._given_up)
        in_doubt = [execution for execution in owned if _lease_of(execution) not in ended]
        for start in range(0, len(in_doubt), _BATCH):
            await self._start_claimed(in_doubt[start : start + _BATCH], since=since)
        self._claims_in_doubt_since = None

    async def _start_claimed(self, claimed: Sequence[Execution], *, since: float) -> None:
        """Record the start of the attempts, and run them."""
        # If an older attempt of the execution still runs here, its lease has expired.
        self._stop([execution.id for execution in claimed], StopReason.LEASE_LOST)
        claimed = self._hold(claimed, since=since)
        if not claimed:
            return
        found = await self._jobs.list_by_ids([execution.job_id for execution in claimed])
        attempts = [
            RunningAttempt(execution, found.jobs[execution.job_id], _attempt_number(execution))
            for execution in claimed
            if execution.job_id in found.jobs
        ]
        unstarted = await self._record_starts(attempts)
        for attempt in attempts:
            if attempt.execution.id not in unstarted:
                self._spawn(attempt)
        of_newer_jobs = [e for e in claimed if e.job_id in found.newer]
        of_unreadable_jobs = [e for e in claimed if e.job_id in found.unreadable]
        existing = found.jobs.keys() | found.newer | found.unreadable
        of_deleted_jobs = [e for e in claimed if e.job_id not in existing]
        await self._settle_unstarted(of_newer_jobs, ExecutionStatus.QUEUED, delay=_NEWER_JOB_DELAY)
        await self._settle_unstarted(
            of_unreadable_jobs, ExecutionStatus.FAILED, reason=Reason.UNREADABLE
        )
        await self._settle_unstarted(
            of_deleted_jobs, ExecutionStatus.CANCELLED, reason=Reason.JOB_DELETED
        )
        await self._end_unstarted([e for e in claimed if e.id in unstarted])

    def _hold(self, claimed: Sequence[Execution], *, since: float) -> list[Execution]:
        """Start to renew the leases, and return the executions whose lease lasts long enough to
        start.

        The reaper takes the others: the response to a claim may be slower than a lease.
        """
        for execution in claimed:
            self._keeper.hold(_lease_of(execution), since=since)
        expiring = self._keeper.list_expiring(within=_WATCH_INTERVAL)
        self._give_up([_lease_of(execution) for execution in claimed if execution.id in expiring])
        return [execution for execution in claimed if execution.id not in expiring]

    async def _record_starts(self, attempts: Sequence[RunningAttempt]) -> set[str]:
        """Record that these attempts start; returns the executions that must not be started.

        An attempt whose start is in the database already is confirmed: a read may have returned
        what a new primary does not have.
        """
        if not attempts:
            return set()
        starts = [AttemptStart(a.lease, a.number, a.job.revision) for a in attempts]
        started = await self._leases.start(starts)
        return {a.execution.id for a, ok in zip(attempts, started, strict=True) if not ok}

    async def _end_unstarted(self, executions: Sequence[Execution]) -> None:
        """End the claims whose start was refused because of a cancel. The leases of the others are
        lost."""
        if not executions:
            return
        ids = set(await self._leases.list_cancel_requested([e.id for e in executions]))
        cancelled = [execution for execution in executions if execution.id in ids]
        await self._settle_unstarted(cancelled, ExecutionStatus.CANCELLED)
        self._give_up([_lease_of(execution) for execution in executions if execution.id not in ids])

    async def _settle_unstarted(
        self,
        executions: Sequence[Execution],
        status: ExecutionStatus,
        *,
        reason: Reason | None = None,
        delay: timedelta = timedelta(0),
    ) -> None:
        """End claims that are not delivered: the job was deleted, was written by a newer release or
        cannot be read, or a cancel was requested before the start.

        An attempt whose start has lost its response ends `abandoned`.
        """
        settlements = [
            Settlement(
                _lease_of(execution),
                status,
                len(execution.attempts),
                reason=reason,
                delay=delay,
            )
            for execution in executions
        ]
        # At the same time, so that the recorder writes them in batches.
        settled = await asyncio.gather(*map(self._recorder.settle, executions, settlements))
        for execution, ok in zip(executions, settled, strict=True):
            if ok:
                self._keeper.release(_lease_of(execution))
            else:
                self._give_up([_lease_of(execution)])
        if ended := sum(settled):  # one line, because a deleted job may leave thousands
            _log.info("claims_ended", executions=ended, status=status, reason=reason)

    def _give_up(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            self._keeper.release(lease)
            self._given_up[lease] = None

    async def _forget_settled(self) -> None:
        """Forget given up leases that are settled now. Looks at the oldest ones, and puts those
        that are not settled behind the others."""
        oldest = list(islice(self._given_up, _BATCH))
        if not oldest:
            return
        held = await self._leases.list_held(oldest)
        for lease in oldest:
            del self._given_up[lease]
        self._given_up.update(dict.fromkeys(lease for lease in oldest if lease in held))

    def _spawn(self, attempt: RunningAttempt) -> None:
        self._running[attempt.execution.id] = attempt
        task = asyncio.create_task(self._run(attempt), name=f"attempt-{attempt.execution.id}")
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    async def _run(self, attempt: RunningAttempt) -> None:
        recorded = False
        try:
            recorded = await self._executor.run(attempt)
        finally:
            self._keeper.release(attempt.lease)
            if not recorded:
                self._give_up([attempt.lease])
            if self._turns.has_waiting or len(self._running) == self._concurrency:
                self._wake.executions.set()  # the worker loop may wait for a free slot
            # A newer attempt of the same execution may have taken the entry.
            if self._running.get(attempt.execution.id) is attempt:
                del self._running[attempt.execution.id]

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The execution stays leased; the reaper settles it.
            _log.error("attempt_failed", task=task.get_name(), exc_info=error)

    def _stop(self, execution_ids: Sequence[str] | set[str], reason: StopReason) -> None:
        for id_ in execution_ids:
            if id_ in self._running:
                self._running[id_].stop(reason)


def _lease_of(execution: Execution) -> Lease:
    return Lease(execution.id, execution.lease_token)


def _is_started(execution: Execution) -> bool:
    """Whether the last attempt is already recorded as started: an earlier `start` succeeded, but
    its response was lost."""
    return bool(execution.attempts) and execution.attempts[-1].outcome is None


def _attempt_number(execution: Execution) -> int:
    return len(execution.attempts) + (0 if _is_started(execution) else 1)
