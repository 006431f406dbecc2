"""The state machine: users, schedulers and workers act in any order."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.integration.engine.life.checked_engine import picks
from tests.integration.engine.life.schedulers import Schedulers
from tests.integration.engine.life.users import Users
from tests.integration.engine.life.workers import Workers


class LifeMachine(Users, Schedulers, Workers):
    """Jobs of all kinds, two workers, processes that are killed, and users who change jobs."""

    @rule(pick=picks, worker=st.sampled_from([None, 0, 1]))
    def fire_due_slots(self, pick: int, worker: int | None) -> None:
        """Wait until slots are due, fire them, and perhaps let a worker claim them."""
        next_runs = sorted(next_run for next_run in self._list_next_runs() if next_run)
        if next_runs:
            until = next_runs[pick % len(next_runs)]
            self.wait(max(timedelta(0), until - self.model.now))
        self.session.run(self.third_process.schedule())
        self.model.coverage.keep(self.model.now)
        for job in self.model.list_due():
            self.model.fire_all(job)
        self.learn_and_check()  # the claim needs the learned start times
        if worker is not None:
            self.claim(worker)
