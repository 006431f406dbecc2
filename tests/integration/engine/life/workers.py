"""What workers do: claim, deliver, finish, renew, be killed; and what the reaper does then."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.repositories.lease_fence import Lease as StoredLease
from app.repositories.leases import AttemptStart
from tests.integration.engine.life.checked_engine import CheckedEngine, RunningAttempt, picks
from tests.integration.engine.life.records import LEASE, Execution, Lease
from tests.support.engine import SUCCEEDED

OUTCOMES = {
    "succeeded": SUCCEEDED,
    "failed": Outcome(AttemptOutcome.FAILED, Failure.STATUS, "status 500"),
    "timed_out": Outcome(AttemptOutcome.TIMED_OUT, Failure.TIMEOUT, "no end"),
    "refused": Outcome(AttemptOutcome.FAILED, Failure.REFUSED, "never sent"),
}
workers = st.integers(0, 1)


class Workers(CheckedEngine):
    """Two that run, and any number that are killed after a claim."""

    @precondition(lambda self: self._any("queued"))
    @rule(worker=workers)
    def claim(self, worker: int) -> None:
        process = self.processes[worker]
        expected = self.model.claimable()
        self.session.run(process.worker.tick())
        leases = []
        for execution in expected:
            self.model.claim(execution, f"process-{self.world.processes.index(process) + 1}")
            leases.append(self.model.begin(execution))
        claimed = {execution.key for execution in expected}
        self._wait_for_end([run for run in self._running_on(worker) if run.lease.key in claimed])
        started = [lease for lease in leases if lease is not None]
        self.running += self.session.run(self._wait_for_start(worker, started))

    def _any(self, status: str) -> bool:
        return any(e.status == status for e in self.model.executions.values())

    async def _wait_for_start(self, worker: int, leases: Sequence[Lease]) -> list[RunningAttempt]:
        """Wait until the attempts are delivered to the target."""
        known = {run.task for run in self.running}
        tasks = {
            task.get_name().removeprefix("attempt-"): task
            for task in self.processes[worker].worker._tasks - known
        }
        runs: list[RunningAttempt] = []
        for lease in leases:
            id_ = self._id(lease.key)
            attempt = (id_, len(self.model.executions[lease.key].attempts))
            while attempt not in self.outcomes:
                self.delivery_began.clear()
                await self.delivery_began.wait()
            until = self.model.now + LEASE
            runs.append(
                RunningAttempt(worker, id_, lease, until, self.outcomes[attempt], tasks[id_])
            )
        return runs

    @precondition(lambda self: self.model.claimable())
    @rule(begins=st.booleans())
    def kill_worker(self, begins: bool) -> None:
        """A process claims one execution, perhaps begins an attempt, and is killed."""
        (claimed,) = self.session.run(self.third_process.leases.claim(limit=1))
        execution = self._predicted(claimed.model_dump())
        claimable = self.model.claimable()
        assert execution in claimable, f"{execution} was claimed"
        assert execution.run_at == min(e.run_at for e in claimable), "another one was due earlier"
        self.model.claim(execution, "process-3")
        if begins and execution.job_id in self.model.jobs:
            lease = StoredLease(claimed.id, claimed.lease_token)
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

    def _finish(self, run: RunningAttempt, outcome: str) -> None:
        """The worker's write counts only while its lease holds."""
        run.outcome.set_result(OUTCOMES[outcome])
        self._wait_for_end([run])
        again = outcome in {"failed", "timed_out"}
        self.model.finish(run.lease, "failed" if outcome == "refused" else outcome, again=again)

    def _wait_for_end(self, runs: Sequence[RunningAttempt]) -> None:
        async def wait() -> None:
            await asyncio.gather(*(run.task for run in runs))
            for process in self.processes:
                await process.worker._recorder.finish()

        self.session.run(wait())
        self.running = [run for run in self.running if not run.task.done()]

    @precondition(lambda self: self.running)
    @rule(round_=st.sampled_from(["renew", "guard", "watch", "stop"]), pick=picks)
    def tend(self, round_: str, pick: int) -> None:
        """One of the worker's other periodic tasks."""
        worker = self.running[pick % len(self.running)].worker
        match round_:
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
        for run in self._running_on(worker):
            if self.model.renew(run.lease):
                run.until = self.model.now + LEASE

    def _running_on(self, worker: int) -> list[RunningAttempt]:
        return [run for run in self.running if run.worker == worker]

    def _guard(self, worker: int) -> None:
        """A worker stops what it could not renew in time, and records nothing about it."""
        self.session.run(self.processes[worker].worker.guard())
        limit = self.model.now + timedelta(seconds=1)
        self._wait_for_end([run for run in self._running_on(worker) if run.until <= limit])

    def _watch(self, worker: int) -> None:
        """A worker stops what a user cancelled."""
        self.session.run(self.processes[worker].worker.watch())
        runs = [r for r in self._running_on(worker) if self._execution_of(r).cancel_requested]
        self._wait_for_end([run for run in runs if self.model.holds(run.lease)])
        for run in runs:
            self.model.finish(run.lease, "cancelled", again=False)

    def _execution_of(self, run: RunningAttempt) -> Execution:
        return self.model.executions[run.lease.key]

    def _stop(self, worker: int) -> None:
        """A process returns its executions to the queue and ends; another process starts."""
        self.session.run(self.processes[worker].worker.drain(timedelta(0)))
        runs = self._running_on(worker)
        self._wait_for_end(runs)
        for run in runs:
            again = Lease(run.lease.key, run.lease.token, 1_000, timedelta(0))
            self.model.finish(again, "abandoned", again=True, counted=False)
        self.processes[worker] = self.world.process()

    @precondition(
        lambda self: self._any("running") or any(map(self.model.list_waiting, self.model.jobs))
    )
    @rule()
    def reap(self) -> None:
        self.session.run(self.third_process.reaper.tick())
        self.model.reap()
