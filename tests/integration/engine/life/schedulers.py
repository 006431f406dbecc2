"""What schedulers do while time goes by: fire, die half-way, sleep too long."""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.integration.engine.life.records import MILLISECOND, Job
from tests.integration.engine.life.stage import Stage, picks

SKIPS = [MILLISECOND, *(timedelta(seconds=s) for s in (1, 4, 9, 10, 31, 60, 600))]


class Killed(BaseException):
    """kill -9, as seen from inside."""


class Schedulers(Stage):
    """All slots are fired by one process; it matters only where it dies or sleeps."""

    @rule(by=st.sampled_from(SKIPS))
    def wait(self, by: timedelta) -> None:
        self.world.clock.advance(by)
        self.model.now += by

    @rule(pick=picks, before=st.booleans())
    def wait_until(self, pick: int, before: bool) -> None:
        """To an instant at which something changes, or to just before it."""
        coming: set[datetime | None] = set()
        for e in self.model.executions.values():
            coming |= {e.lease_until, e.run_at if e.status == "queued" else None}
        instants = sorted(i for i in coming | self._cursors() if i and i > self.model.now)
        if instants:
            instant = instants[pick % len(instants)]
            self.wait(instant - self.model.now - before * MILLISECOND)

    def _cursors(self) -> set[datetime | None]:
        return {s.cursor for job in self.model.jobs.values() for s in job.schedules}

    @precondition(lambda self: self.model.due())
    @rule(at=st.sampled_from(["insert_many", "advance"]))
    def scheduler_dies(self, at: str) -> None:
        """Before it writes any record, or after the records and before the cursors."""
        due = self.model.due()
        if not all(self._fits(job) for job in due):
            return
        broken: Any = self.world.executions if at == "insert_many" else self.world.jobs
        with patch.object(broken, at, side_effect=Killed):
            try:
                self.bench.run(self.ghost.scheduler.tick())
            except Killed:
                pass
            else:
                raise AssertionError("there was nothing to die of")
        if at == "advance":
            for job in due:
                self.model.fire(job, self.model.now, dies=True)

    def _fits(self, job: Job) -> bool:
        """Whether one firing records everything: nothing waits for a run to count or not."""
        return all(
            s.max_runs is None
            or s.cursor is None
            or len(s.rule.through(s.cursor, self.model.now)) <= s.max_runs - s.runs
            for s in job.schedules
        )

    @precondition(lambda self: self.read is None and self.model.due())
    @rule()
    def scheduler_reads(self) -> None:
        """A scheduler reads what is due, and sleeps."""
        if all(self._fits(job) for job in self.model.due()):
            now = self.model.now
            jobs = self.bench.run(self.world.jobs.list_due(now, limit=500))
            self.read = jobs, deepcopy(self.model.due()), now

    @precondition(lambda self: self.read is not None)
    @rule()
    def scheduler_wakes(self) -> None:
        """It fires what it has read, whatever has happened since."""
        assert self.read is not None
        (jobs, seen, now), self.read = self.read, None
        slept = self.model.now - now
        read_at = self.world.clock.monotonic() - slept.total_seconds()
        self.bench.run(self.ghost.firing.fire(jobs, now, read_at=read_at))
        for job in seen:
            self.model.fire(job, now, late=slept)
