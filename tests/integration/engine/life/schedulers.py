"""Steps of the clock and of the scheduler: wait, be killed between two writes, fire late."""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.integration.engine.life.checked_engine import CheckedEngine, picks
from tests.integration.engine.life.records import MILLISECOND, ModelJob
from tests.support.crash import Killed

WAITS = [MILLISECOND, *(timedelta(seconds=s) for s in (1, 4, 9, 10, 31, 60, 600))]


class Schedulers(CheckedEngine):
    """Steps of the scheduler: fire, be killed between two writes, fire late.

    One process does all of them, because the result does not depend on which one fires.
    """

    @rule(by=st.sampled_from(WAITS))
    def wait(self, by: timedelta) -> None:
        self.world.clock.advance(by)
        self.model.now += by

    @rule(pick=picks, before=st.booleans())
    def wait_until(self, pick: int, before: bool) -> None:
        """Wait until an instant at which something changes, or until just before it."""
        instants: set[datetime | None] = set()
        for e in self.model.executions.values():
            instants |= {e.lease_until, e.run_at if e.status == "queued" else None}
        later = sorted(i for i in instants | self._list_next_runs() if i and i > self.model.now)
        if later:
            instant = later[pick % len(later)]
            self.wait(instant - self.model.now - before * MILLISECOND)

    def _list_next_runs(self) -> set[datetime | None]:
        return {s.next_run for job in self.model.jobs.values() for s in job.schedules}

    @precondition(lambda self: self.model.list_due())
    @rule(at=st.sampled_from(["insert_many", "advance"]))
    def kill_scheduler(self, at: str) -> None:
        """Kill the scheduler before it writes the records, or before it writes `next_run`."""
        due = self.model.list_due()
        if not all(self._is_within_max_runs(job) for job in due):
            return
        repositories = self.third_process.runtime.repositories
        repository: Any = repositories.executions if at == "insert_many" else repositories.jobs
        with patch.object(repository, at, side_effect=Killed):
            try:
                self.session.run(self.third_process.scheduler.tick())
            except Killed:
                pass
            else:
                raise AssertionError("the process did not reach the write at which it is killed")
        self.model.coverage.keep(self.model.now)
        if at == "advance":
            for job in due:
                self.model.fire(job, self.model.now, killed_before_advance=True)

    def _is_within_max_runs(self, job: ModelJob) -> bool:
        """Whether `max_runs` excludes no due slot, so that one firing records all of them."""
        return all(
            s.max_runs is None
            or s.next_run is None
            or len(s.trigger.list_slots(s.next_run, self.model.now)) <= s.max_runs - s.runs
            for s in job.schedules
        )

    @precondition(lambda self: self.delayed_batch is None and self.model.list_due())
    @rule()
    def read_due_jobs(self) -> None:
        """Read the due jobs for a scheduler that is then delayed."""
        if all(self._is_within_max_runs(job) for job in self.model.list_due()):
            now = self.model.now
            jobs = self.session.run(self.world.jobs.list_due(now, limit=500))
            self.delayed_batch = jobs, deepcopy(self.model.list_due()), now

    @precondition(lambda self: self.delayed_batch is not None)
    @rule()
    def fire_read_jobs(self) -> None:
        """The delayed scheduler fires the jobs that it read before."""
        assert self.delayed_batch is not None
        (jobs, seen, now), self.delayed_batch = self.delayed_batch, None
        delay = self.model.now - now
        read_at = self.world.clock.monotonic() - delay.total_seconds()
        self.session.run(self.third_process.firing.fire(jobs, now, read_at=read_at))
        for job in seen:
            self.model.fire(job, now, delay=delay)
