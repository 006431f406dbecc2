"""The machine: everybody on one stage, in any order."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.integration.engine.life.schedulers import Schedulers
from tests.integration.engine.life.stage import picks
from tests.integration.engine.life.users import Users
from tests.integration.engine.life.workers import Workers


class LifeMachine(Users, Schedulers, Workers):
    """Jobs of all kinds, two workers, processes that die, and impatient users."""

    @rule(pick=picks, worker=st.sampled_from([None, 0, 1]))
    def slots_come_due(self, pick: int, worker: int | None) -> None:
        """And are fired, perhaps claimed."""
        cursors = sorted(cursor for cursor in self._cursors() if cursor)
        if cursors:
            until = cursors[pick % len(cursors)]
            self.wait(max(timedelta(0), until - self.model.now))
        self.bench.run(self.ghost.schedule())
        for job in self.model.due():
            self.model.fire_all(job)
        self.all_is_well()  # and it is known when each may start
        if worker is not None:
            self.claim(worker)
