"""What schedulers do while time passes: fire, be killed between two writes, continue late."""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.integration.engine.life.checked_engine import CheckedEngine, picks
from tests.integration.engine.life.records import MILLISECOND, Job

SKIPS = [MILLISECOND, *(timedelta(seconds=s) for s in (1, 4, 9, 10, 31, 60, 600))]


class Killed(BaseException):
    """Stands for kill -9 inside the process."""


class Schedulers(CheckedEngine):
    """One process fires all slots. Only where it is killed or delayed makes a difference."""

    @rule(by=st.sampled_from(SKIPS))
    def wait(self, by: timedelta) -> None:
        self.world.clock.advance(by)
        self.model.now += by

    @rule(pick=picks, before=st.booleans())
    def wait_until(self, pick: int, before: bool) -> None:
        """Wait until an instant at which something changes, or until just before it."""
        coming: set[datetime | None] = set()
        for e in self.model.executions.values():
            coming |= {e.lease_until, e.run_at if e.status == "queued" else None}
        instants = sorted(i for i in coming | self._next_runs() if i and i > self.model.now)
        if instants:
            instant = instants[pick % len(instants)]
            self.wait(instant - self.model.now - before * MILLISECOND)

    def _next_runs(self) -> set[datetime | None]:
        return {s.next_run for job in self.model.jobs.values() for s in job.schedules}

    @precondition(lambda self: self.model.due())
    @rule(at=st.sampled_from(["insert_many", "advance"]))
    def kill_scheduler(self, at: str) -> None:
        """Before the records are written, or between the records and `next_run`."""
        due = self.model.due()
        if not all(self._fits(job) for job in due):
            return
        repositories = self.third_process.runtime.repositories
        broken: Any = repositories.executions if at == "insert_many" else repositories.jobs
        with patch.object(broken, at, side_effect=Killed):
            try:
                self.session.run(self.third_process.scheduler.tick())
            except Killed:
                pass
            else:
                raise AssertionError("the process did not reach the write at which it is killed")
        if at == "advance":
            for job in due:
                self.model.fire(job, self.model.now, dies=True)

    def _fits(self, job: Job) -> bool:
        """Whether one firing records everything: `max_runs` excludes no slot that is due."""
        return all(
            s.max_runs is None
            or s.next_run is None
            or len(s.rule.through(s.next_run, self.model.now)) <= s.max_runs - s.runs
            for s in job.schedules
        )

    @precondition(lambda self: self.read_jobs is None and self.model.due())
    @rule()
    def read_due_jobs(self) -> None:
        """A scheduler reads what is due and is then delayed."""
        if all(self._fits(job) for job in self.model.due()):
            now = self.model.now
            jobs = self.session.run(self.world.jobs.list_due(now, limit=500))
            self.read_jobs = jobs, deepcopy(self.model.due()), now

    @precondition(lambda self: self.read_jobs is not None)
    @rule()
    def fire_read_jobs(self) -> None:
        """It fires what it read, whatever happened since."""
        assert self.read_jobs is not None
        (jobs, seen, now), self.read_jobs = self.read_jobs, None
        delay = self.model.now - now
        read_at = self.world.clock.monotonic() - delay.total_seconds()
        self.session.run(self.third_process.firing.fire(jobs, now, read_at=read_at))
        for job in seen:
            self.model.fire(job, now, late=delay)
