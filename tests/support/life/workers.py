"""What workers do: claim, deliver, finish, renew, die; and the reaper after them."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from app.models.execution import AttemptOutcome
from app.models.outcome import Failure, Outcome
from app.repositories.leases import Lease as HeldLease
from app.repositories.leases import Start
from tests.support.engine import SUCCEEDED
from tests.support.life.records import LEASE, Execution, Lease
from tests.support.life.stage import Run, Stage, picks
from tests.support.waiting import run_other_tasks

OUTCOMES = {
    "succeeded": SUCCEEDED,
    "failed": Outcome(AttemptOutcome.FAILED, Failure.STATUS, "answered 500"),
    "timed_out": Outcome(AttemptOutcome.TIMED_OUT, Failure.TIMEOUT, "no end"),
    "refused": Outcome(AttemptOutcome.FAILED, Failure.REFUSED, "never sent"),
}
workers = st.integers(0, 1)


class Workers(Stage):
    """Two that live, and any number that die with what they have claimed."""

    @precondition(lambda self: self._any("queued"))
    @rule(worker=workers)
    def claim(self, worker: int) -> None:
        process = self.processes[worker]
        expected = self.model.claimable()
        self.bench.run(process.worker.tick())
        leases = []
        for execution in expected:
            self.model.claim(execution, f"process-{self.world.processes.index(process) + 1}")
            leases.append(self.model.begin(execution))
        claimed = {execution.key for execution in expected}
        self._ended([run for run in self._runs_of(worker) if run.lease.key in claimed])
        begun = [lease for lease in leases if lease is not None]
        self.runs += self.bench.run(self._begun(worker, begun))

    def _any(self, status: str) -> bool:
        return any(e.status == status for e in self.model.executions.values())

    async def _begun(self, worker: int, leases: Sequence[Lease]) -> list[Run]:
        """Wait until the attempts are on their way."""
        known = {run.task for run in self.runs}
        tasks = {
            task.get_name().removeprefix("run-"): task
            for task in self.processes[worker].worker._tasks - known
        }
        runs: list[Run] = []
        for lease in leases:
            id_ = self._id(lease.key)
            place = (id_, len(self.model.executions[lease.key].attempts))
            for _ in range(100):
                if place in self.answers:
                    break
                await run_other_tasks()
            until = self.model.now + LEASE
            runs.append(Run(worker, id_, lease, until, self.answers[place], tasks[id_]))
        return runs

    @precondition(lambda self: self.model.claimable())
    @rule(begins=st.booleans())
    def worker_dies(self, begins: bool) -> None:
        """A process claims one execution, perhaps begins it, and is never seen again."""
        (claimed,) = self.bench.run(self.ghost.leases.claim(limit=1))
        execution = self._model_of(claimed.model_dump())
        claimable = self.model.claimable()
        assert execution in claimable, f"{execution} was claimed"
        assert execution.run_at == min(e.run_at for e in claimable), "another one was first"
        self.model.claim(execution, "process-3")
        if begins and execution.job_id in self.model.jobs:
            lease = HeldLease(claimed.id, claimed.lease_token)
            number = len(claimed.attempts) + 1
            assert self.bench.run(self.ghost.leases.start([Start(lease, number, 1)])) == [True]
            self.model.begin(execution)

    @precondition(lambda self: self.runs)
    @rule(pick=picks)
    def succeed(self, pick: int) -> None:
        self._finish(self.runs[pick % len(self.runs)], "succeeded")

    @precondition(lambda self: self.runs)
    @rule(pick=picks, outcome=st.sampled_from(["failed", "timed_out", "refused"]))
    def fail(self, pick: int, outcome: str) -> None:
        self._finish(self.runs[pick % len(self.runs)], outcome)

    def _finish(self, run: Run, outcome: str) -> None:
        """What the worker writes counts only while its lease holds."""
        run.answer.set_result(OUTCOMES[outcome])
        self._ended([run])
        again = outcome in {"failed", "timed_out"}
        self.model.finish(run.lease, "failed" if outcome == "refused" else outcome, again=again)

    def _ended(self, runs: Sequence[Run]) -> None:
        async def wait() -> None:
            await asyncio.gather(*(run.task for run in runs))
            for process in self.processes:
                await process.worker._recorder.rest()

        self.bench.run(wait())
        self.runs = [run for run in self.runs if not run.task.done()]

    @precondition(lambda self: self.runs)
    @rule(round_=st.sampled_from(["renew", "guard", "watch", "stop"]), pick=picks)
    def tend(self, round_: str, pick: int) -> None:
        """One of a worker's other rounds."""
        worker = self.runs[pick % len(self.runs)].worker
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
        keeper._answer()
        keeper.renew()
        for run in self._runs_of(worker):
            if self.model.renew(run.lease):
                run.until = self.model.now + LEASE

    def _runs_of(self, worker: int) -> list[Run]:
        return [run for run in self.runs if run.worker == worker]

    def _guard(self, worker: int) -> None:
        """A worker cuts what it could not renew in time, and records nothing of it."""
        self.bench.run(self.processes[worker].worker.guard())
        limit = self.model.now + timedelta(seconds=1)
        self._ended([run for run in self._runs_of(worker) if run.until <= limit])

    def _watch(self, worker: int) -> None:
        """A worker cuts what somebody has asked to stop."""
        self.bench.run(self.processes[worker].worker.watch())
        runs = [r for r in self._runs_of(worker) if self._of(r).cancel_requested]
        self._ended([run for run in runs if self.model.holds(run.lease)])
        for run in runs:
            self.model.finish(run.lease, "cancelled", again=False)

    def _of(self, run: Run) -> Execution:
        return self.model.executions[run.lease.key]

    def _stop(self, worker: int) -> None:
        """A process gives back what it runs and ends; another one starts."""
        self.bench.run(self.processes[worker].worker.drain(timedelta(0)))
        runs = self._runs_of(worker)
        self._ended(runs)
        for run in runs:
            again = Lease(run.lease.key, run.lease.token, 1_000, timedelta(0))
            self.model.finish(again, "abandoned", again=True, counted=False)
        self.processes[worker] = self.world.process()

    @precondition(
        lambda self: self._any("running") or any(map(self.model.waiting, self.model.jobs))
    )
    @rule()
    def reap(self) -> None:
        self.bench.run(self.ghost.reaper.tick())
        self.model.reap()
