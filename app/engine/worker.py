"""The worker: claims what may run and keeps as many attempts running as it has room for."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from app.clock import Clock
from app.engine.executor import Cut, Executor, Run
from app.engine.lease import LeaseKeeper
from app.engine.loop import AT_ONCE
from app.engine.recorder import Recorder
from app.errors import UnavailableError
from app.models.execution import Execution, ExecutionStatus
from app.repositories.jobs import JobRepository
from app.repositories.leases import Lease, LeaseRepository, Settlement, Start
from app.wake import Wake

_log = structlog.get_logger(__name__)

_BATCH = 500
_A_MOMENT = timedelta(milliseconds=1)
_WATCH_INTERVAL = timedelta(seconds=1)
_LAST_WRITES_SECONDS = 5.0  # for the records of what was cut at a stop


class Worker:
    """Claims executions for this process and runs them side by side."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        leases: LeaseRepository,
        executor: Executor,
        keeper: LeaseKeeper,
        recorder: Recorder,
        wake: Wake,
        clock: Clock,
        concurrency: int,
        poll_interval: timedelta,
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._executor = executor
        self._keeper = keeper
        self._recorder = recorder
        self._wake = wake
        self._clock = clock
        self._concurrency = concurrency
        self._poll_interval = poll_interval
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._claims_in_doubt_since: float | None = None
        self._given_up: set[Lease] = set()
        """Leases under which an attempt was made here and not recorded: left to the reaper."""

    async def tick(self) -> timedelta:
        """One round: claim what is due, as far as there is room, and start it."""
        if self._claims_in_doubt_since is not None:
            await self._begin_in_doubt(self._claims_in_doubt_since)
        room = self._concurrency - len(self._runs)
        if room < 1:
            return self._poll_interval  # woken when a run ends
        peek = await self._leases.peek()
        if peek.run_at is None:
            return self._poll_interval
        if peek.run_at > peek.now:
            return min(peek.run_at - peek.now + _A_MOMENT, self._poll_interval)
        # Until the claims are started, an error leaves them held here but not running.
        self._claims_in_doubt_since = asked_at = self._clock.monotonic()
        claimed = await self._leases.claim(limit=min(room, _BATCH))
        await self._begin(claimed, since=asked_at)
        self._claims_in_doubt_since = None
        return AT_ONCE

    async def watch(self) -> timedelta:
        """One round of care for what runs: requested cancels, hints on jobs."""
        if self._runs:
            self._cut(await self._leases.list_cancel_requested(list(self._runs)), Cut.CANCEL)
        await self._recorder.write_hints()
        return _WATCH_INTERVAL

    async def guard(self) -> timedelta:
        """One round of cutting what could not be renewed in time.

        It never asks the database: an outage, which would make it wait, is what it is for.
        """
        self._cut(self._keeper.expiring(within=_WATCH_INTERVAL), Cut.LEASE_LOST)
        return _WATCH_INTERVAL

    def lose(self, execution_ids: set[str]) -> None:
        """Somebody else has taken these leases: abort."""
        self._cut(execution_ids, Cut.LEASE_LOST)

    async def drain(self, grace: timedelta) -> None:
        """Wait for what runs; after `grace` cut the rest and give it back. Call it once the
        loop has stopped."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        self._cut(list(self._runs), Cut.SHUTDOWN)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WRITES_SECONDS)
        await self._recorder.rest()
        try:
            await self._recorder.write_hints()
        except UnavailableError:
            _log.warning("hints_lost")

    async def _begin_in_doubt(self, since: float) -> None:
        """Start what an earlier round claimed without learning of it, or without getting on."""
        # Read before the answer: what ends while it is on its way still stands in it as running.
        running = {run.lease for run in self._runs.values()}
        owned = await self._leases.list_owned()
        self._given_up &= {_lease_of(execution) for execution in owned}
        begun = self._given_up | running
        await self._begin([e for e in owned if _lease_of(e) not in begun], since=since)
        self._claims_in_doubt_since = None

    async def _begin(self, claimed: Sequence[Execution], *, since: float) -> None:
        """Record that the attempts begin, and run them."""
        # What still runs here under an older lease slept past its end.
        self._cut([execution.id for execution in claimed], Cut.LEASE_LOST)
        claimed = self._hold(claimed, since=since)
        if not claimed:
            return
        jobs = await self._jobs.find_many([execution.job_id for execution in claimed])
        runs = [
            Run(execution, jobs[execution.job_id], _attempt_number(execution))
            for execution in claimed
            if execution.job_id in jobs
        ]
        orphans = [execution for execution in claimed if execution.job_id not in jobs]
        refused = await self._start([run for run in runs if not _is_started(run.execution)])
        for run in runs:
            if run.execution.id not in refused:
                self._spawn(run)
        await self._settle_unrun(orphans, reason="job_deleted")
        await self._settle_unrun([e for e in claimed if e.id in refused], reason=None)

    def _hold(self, claimed: Sequence[Execution], *, since: float) -> list[Execution]:
        """Have the leases renewed. Those that have nearly run out are left to the reaper: the
        answer to a claim may have taken longer than a lease lasts."""
        for execution in claimed:
            self._keeper.hold(_lease_of(execution), since=since)
        late = self._keeper.expiring(within=_WATCH_INTERVAL)
        for execution in claimed:
            if execution.id in late:
                self._keeper.release(_lease_of(execution))
        return [execution for execution in claimed if execution.id not in late]

    async def _start(self, runs: Sequence[Run]) -> set[str]:
        """Write the attempts' beginning; returns the executions that may not run any more."""
        if not runs:
            return set()
        starts = [Start(run.lease, run.attempt, run.job.revision) for run in runs]
        started = await self._leases.start(starts)
        return {run.execution.id for run, ok in zip(runs, started, strict=True) if not ok}

    async def _settle_unrun(self, executions: Sequence[Execution], *, reason: str | None) -> None:
        """End claims without an attempt: the job is gone, or a cancel came first."""
        if not executions:
            return
        cancelled = ExecutionStatus.CANCELLED
        for execution in executions:
            end = Settlement(_lease_of(execution), cancelled, reason=reason)
            await self._recorder.settle(execution, end)
            self._keeper.release(_lease_of(execution))
            _log.info("claim_cancelled", execution_id=execution.id, job_id=execution.job_id)

    def _spawn(self, run: Run) -> None:
        self._runs[run.execution.id] = run
        task = asyncio.create_task(self._run(run), name=f"run-{run.execution.id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _run(self, run: Run) -> None:
        recorded = False
        try:
            recorded = await self._executor.run(run)
        finally:
            if not recorded:
                self._given_up.add(run.lease)
            self._keeper.release(run.lease)
            if len(self._runs) == self._concurrency:
                self._wake.executions.set()  # there is room again
            if self._runs.get(run.execution.id) is run:  # and not a newer one of the same execution
                del self._runs[run.execution.id]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The execution stays leased; the reaper settles it.
            _log.error("run_failed", task=task.get_name(), exc_info=error)

    def _cut(self, execution_ids: Sequence[str] | set[str], reason: Cut) -> None:
        for id_ in execution_ids:
            if id_ in self._runs:
                self._runs[id_].cut(reason)


def _lease_of(execution: Execution) -> Lease:
    return Lease(execution.id, execution.lease_token)


def _is_started(execution: Execution) -> bool:
    """Whether the last attempt was started under the present lease, by a write in doubt."""
    return bool(execution.attempts) and execution.attempts[-1].outcome is None


def _attempt_number(execution: Execution) -> int:
    return len(execution.attempts) + (0 if _is_started(execution) else 1)
