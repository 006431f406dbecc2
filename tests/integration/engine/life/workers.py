"""Steps of workers (claim, deliver, finish, renew, be killed) and of the reaper."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.repositories.lease_fence import Lease
from app.repositories.leases import AttemptStart
from tests.integration.engine.life.checked_engine import CheckedEngine, RunningAttempt, picks
from tests.integration.engine.life.records import LEASE, ModelExecution, ModelLease
from tests.support.engine import SUCCEEDED, claim_due

OUTCOMES = {
    "succeeded": SUCCEEDED,
    "failed": Outcome(AttemptOutcome.FAILED, Failure.STATUS, "status 500"),
    "timed_out": Outcome(AttemptOutcome.TIMED_OUT, Failure.TIMEOUT, "no end"),
    "refused": Outcome(AttemptOutcome.FAILED, Failure.REFUSED, "never sent"),
}
workers = st.integers(0, 1)


class Workers(CheckedEngine):
    """Steps of workers: two processes that execute attempts, and a third.

    The third process is killed after a claim.
    """

    @precondition(lambda self: self._has_execution_with("queued"))
    @rule(worker=workers)
    def claim(self, worker: int) -> None:
        process = self.processes[worker]
        expected = self.model.list_claimable()
        self.session.run(process.worker.tick())
        leases = []
        for execution in expected:
            self.model.claim(execution, f"process-{self.world.processes.index(process) + 1}")
            leases.append(self.model.begin(execution))
        claimed = {execution.key for execution in expected}
        self._wait_for_end(
            [attempt for attempt in self._list_running(worker) if attempt.lease.key in claimed]
        )
        started = [lease for lease in leases if lease is not None]
        self.running += self.session.run(self._wait_for_start(worker, started))

    def _has_execution_with(self, status: str) -> bool:
        return any(e.status == status for e in self.model.executions.values())

    async def _wait_for_start(
        self, worker: int, leases: Sequence[ModelLease]
    ) -> list[RunningAttempt]:
        """Wait until the attempts are delivered to the target."""
        known = {attempt.task for attempt in self.running}
        tasks = {
            task.get_name().removeprefix("attempt-"): task
            for task in self.processes[worker].worker._tasks - known
        }
        attempts: list[RunningAttempt] = []
        for lease in leases:
            id_ = self._read_id(lease.key)
            key = (id_, len(self.model.executions[lease.key].attempts))
            while key not in self.outcomes:
                self.delivery_began.clear()
                await self.delivery_began.wait()
            until = self.model.now + LEASE
            attempts.append(
                RunningAttempt(worker, id_, lease, until, self.outcomes[key], tasks[id_])
            )
        return attempts

    @precondition(lambda self: self.model.list_claimable())
    @rule(begins=st.booleans())
    def kill_worker(self, begins: bool) -> None:
        """Claim one execution, begin an attempt if `begins`, and never continue."""
        (claimed,) = self.session.run(claim_due(self.third_process.leases, limit=1))
        execution = self._get_prediction(claimed.model_dump())
        claimable = self.model.list_claimable()
        assert execution in claimable, f"{execution} was claimed"
        assert execution.run_at == min(e.run_at for e in claimable), "another one was due earlier"
        self.model.claim(execution, "process-3")
        if begins and execution.job_id in self.model.jobs:
            lease = Lease(claimed.id, claimed.lease_token)
            number = len(claimed.attempts) + 1
            assert self.session.run(
                self.third_process.leases.start([AttemptStart(lease, number, 1)])
            ) == [True]
            self.model.begin(execution)

    @precondition(lambda self: self.running)
    @rule(pick=picks)
    def succeed(self, pick: int) -> None:
        self._finish(self.running[pick % len(self.running)], "succeeded")

    @precondition(lambda self: self.running)
    @rule(pick=picks, outcome=st.sampled_from(["failed", "timed_out", "refused"]))
    def fail(self, pick: int, outcome: str) -> None:
        self._finish(self.running[pick % len(self.running)], outcome)

    def _finish(self, attempt: RunningAttempt, outcome: str) -> None:
        """End an attempt. The result is recorded only if the worker still holds the lease."""
        attempt.outcome.set_result(OUTCOMES[outcome])
        self._wait_for_end([attempt])
        recorded = "failed" if outcome == "refused" else outcome
        retry_allowed = outcome in {"failed", "timed_out"}
        self.model.finish(attempt.lease, recorded, retry_allowed=retry_allowed)

    def _wait_for_end(self, attempts: Sequence[RunningAttempt]) -> None:
        async def wait() -> None:
            await asyncio.gather(*(attempt.task for attempt in attempts))
            for process in self.processes:
                await process.worker._recorder.finish()

        self.session.run(wait())
        self.running = [attempt for attempt in self.running if not attempt.task.done()]

    @precondition(lambda self: self.running)
    @rule(task=st.sampled_from(["renew", "guard", "watch", "stop"]), pick=picks)
    def run_periodic_task(self, task: str, pick: int) -> None:
        """Run one of the periodic tasks of a worker that has attempts."""
        worker = self.running[pick % len(self.running)].worker
        match task:
            case "renew":
                self._renew(worker)
            case "guard":
                self._guard(worker)
            case "watch":
                self._watch(worker)
            case "stop":
                self._stop(worker)

    def _renew(self, worker: int) -> None:
        keeper = self.processes[worker].keeper
        keeper._note_response()
        keeper.renew()
        for attempt in self._list_running(worker):
            if self.model.renew(attempt.lease):
                attempt.until = self.model.now + LEASE

    def _list_running(self, worker: int) -> list[RunningAttempt]:
        return [attempt for attempt in self.running if attempt.worker == worker]

    def _guard(self, worker: int) -> None:
        """Stop the attempts whose leases the worker could not renew in time.

        It records no result of them.
        """
        self.session.run(self.processes[worker].worker.guard())
        limit = self.model.now + timedelta(seconds=1)
        self._wait_for_end(
            [attempt for attempt in self._list_running(worker) if attempt.until <= limit]
        )

    def _watch(self, worker: int) -> None:
        """Stop the attempts of executions that a user cancelled."""
        self.session.run(self.processes[worker].worker.watch())
        attempts = [
            attempt
            for attempt in self._list_running(worker)
            if self._get_execution(attempt).cancel_requested
        ]
        self._wait_for_end([attempt for attempt in attempts if self.model.has_lease(attempt.lease)])
        for attempt in attempts:
            self.model.finish(attempt.lease, "cancelled", retry_allowed=False)

    def _get_execution(self, attempt: RunningAttempt) -> ModelExecution:
        return self.model.executions[attempt.lease.key]

    def _stop(self, worker: int) -> None:
        """A process returns its executions to the queue and ends; another process starts."""
        self.session.run(self.processes[worker].worker.drain(timedelta(0)))
        attempts = self._list_running(worker)
        self._wait_for_end(attempts)
        for attempt in attempts:
            # After a stop another attempt is always allowed; 1,000 stands for no limit.
            unlimited_lease = ModelLease(
                attempt.lease.key, attempt.lease.token, 1_000, timedelta(0)
            )
            self.model.finish(unlimited_lease, "abandoned", retry_allowed=True, counted=False)
        self.processes[worker] = self.world.compose_process()

    @precondition(
        lambda self: (
            self._has_execution_with("running")
            or any(map(self.model.list_waiting, self.model.jobs))
        )
    )
    @rule()
    def reap(self) -> None:
        self.session.run(self.third_process.reaper.tick())
        self.model.reap()
