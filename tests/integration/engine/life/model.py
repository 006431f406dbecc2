"""What executions do by the documentation, in plain Python without I/O.

The model shares no code with the application, so that the database can be compared with it. Where
the documentation leaves a choice (which of two equal slots runs first, when exactly a late slot may
start), the model states what is allowed and learns what the engine chose.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import datetime, timedelta

from tests.integration.engine.life.records import (
    LEASE,
    ON_TIME,
    PLACES,
    STALE,
    Execution,
    Job,
    Key,
    Lease,
    Schedule,
)


class Model:
    """All jobs and executions. `choose` returns which of several equal slots was promoted."""

    def __init__(self, now: datetime, choose: Callable[[Sequence[Execution]], Execution]) -> None:
        self.now = now
        self.jobs: dict[str, Job] = {}
        self.executions: dict[Key, Execution] = {}
        self._choose = choose

    # What users ask for.

    def create(self, job: Job) -> None:
        for schedule in job.schedules:
            schedule.set_next_run(self.now)
        self.jobs[job.id] = job

    def pause(self, job: Job) -> None:
        if job.active:
            self.fire_all(job)
            job.active = False
            job.revision += 1
            for schedule in job.schedules:
                schedule.next_run = None

    def resume(self, job: Job) -> None:
        if not job.active:
            job.active = True
            job.revision += 1
            for schedule in job.schedules:
                schedule.set_next_run(self.now)

    def set_policy(self, job: Job, policy: str) -> None:
        job.policy = policy
        job.revision += 1

    def set_period(self, job: Job, index: int, period: timedelta) -> None:
        if job.schedules[index].rule.period != period:
            self.fire_all(job)
            job.schedules[index].rule.period = period
            if job.active:
                job.schedules[index].set_next_run(self.now)
        job.revision += 1

    def delete(self, job: Job) -> None:
        self.fire_all(job)
        del self.jobs[job.id]
        for execution in self._executions_of(job.id):
            self._request_cancel(execution, "job_deleted")

    def run(self, execution_id: str, job: Job, policy: str, slot: datetime) -> None:
        """A manual execution, or a retry of a slot."""
        new = Execution(
            execution_id, job.id, slot, self.now, self.now, exclusive=policy != "allow_all"
        )
        self.executions[new.key] = new
        self._admit(new, policy)

    def cancel(self, execution: Execution) -> None:
        was_live = execution.is_live
        self._request_cancel(execution, "cancelled_by_user")
        if was_live:
            self.promote(execution.job_id)

    def _request_cancel(self, execution: Execution, reason: str) -> None:
        if execution.status == "queued":
            execution.end("cancelled", reason)
        elif execution.status == "running" and not execution.cancel_requested:
            execution.cancel_requested, execution.reason = True, reason

    # Slots.

    def due(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.is_due(self.now)]

    def fire_all(self, job: Job) -> None:
        while job.is_due(self.now):
            self.fire(deepcopy(job), self.now)

    def fire(
        self, seen: Job, now: datetime, *, late: timedelta = timedelta(0), dies: bool = False
    ) -> None:
        """Record what was due at `now` of a job that was read `late` ago, then advance `next_run`.

        A process that `dies` recorded everything and advanced nothing.
        """
        due = [s for s in seen.schedules if s.next_run is not None and s.next_run <= now]
        runs = {s.id: self._decide(seen, s, now) for s in due}
        if late > STALE:
            return
        born = [e for s in due for e in runs[s.id] if e.key not in self.executions]
        overlapping = [e for e in born if not self._insert(e)]
        for execution in overlapping:
            self.executions[execution.key] = execution
            self._overlap(execution, seen.policy)
        moved = self._advance_schedules(seen, now, runs)
        job = self.jobs.get(seen.id)
        unchanged = job and (job.revision, job.next_run()) == (seen.revision, seen.next_run())
        if job is not None and unchanged and not dies:
            job.schedules = moved

    def _decide(self, job: Job, schedule: Schedule, now: datetime) -> list[Execution]:
        """Executions for the slots of the schedule; also records the missed slots."""
        assert schedule.next_run is not None
        due = schedule.rule.through(schedule.next_run, now)
        due = [slot for slot in due if self._record_of(schedule, slot) is None]
        late = [slot for slot in due if slot < now - ON_TIME]
        within = [slot for slot in late if slot >= now - job.window]
        late_runs = {"all": within, "one": [s for s in within if s == late[-1]], "none": []}
        not_late = [slot for slot in due if slot not in late]
        runs = [*late_runs[job.catch_up], *not_late]
        missed = [slot for slot in late if slot not in runs]
        if missed:
            key = (schedule.id, missed[0])
            record = Execution(key, job.id, missed[0], missed[0], missed[0], exclusive=False)
            record.missed = (missed[-1], len(missed))
            record.end("missed", "catch_up")
            self.executions[key] = record
        left = schedule.runs_left()
        if left is not None:
            runs = runs[: max(0, left - self._count_recorded(schedule, now))]
        return [self._make_scheduled(job, schedule, slot, now, slot in late) for slot in runs]

    def _make_scheduled(
        self, job: Job, schedule: Schedule, slot: datetime, now: datetime, is_late: bool
    ) -> Execution:
        first, last = (now, now + timedelta(minutes=5)) if is_late else (slot, slot)
        last += schedule.jitter
        exclusive = job.policy != "allow_all"
        return Execution((schedule.id, slot), job.id, slot, first, last, exclusive=exclusive)

    def _advance_schedules(
        self, seen: Job, now: datetime, runs: dict[str, list[Execution]]
    ) -> list[Schedule]:
        """The schedules with `next_run` after what was recorded."""
        schedules = deepcopy(seen.schedules)
        for schedule in schedules:
            if schedule.id not in runs:
                continue
            passed = self._count_recorded(schedule, now)
            after = next(
                (
                    slot
                    for slot in schedule.rule.through(schedule.next_run or now, now)
                    if self._record_of(schedule, slot) is None
                ),
                schedule.rule.next_after(now),
            )
            schedule.runs += passed
            schedule.next_run = None if schedule.runs_left() == 0 else after
        return schedules

    def _count_recorded(self, schedule: Schedule, now: datetime) -> int:
        """How many slots from `next_run` on are recorded as executions that run."""
        assert schedule.next_run is not None
        slots = schedule.rule.through(schedule.next_run, now)
        records = [self.executions.get((schedule.id, slot)) for slot in slots]
        return sum(e is not None and e.status not in {"skipped", "missed"} for e in records)

    def _record_of(self, schedule: Schedule, slot: datetime) -> Execution | None:
        """The record of a slot, or the one that counts it as missed."""
        for e in self.executions.values():
            if isinstance(e.key, tuple) and e.key[0] == schedule.id:
                last = e.missed[0] if e.missed else e.slot
                if e.slot <= slot <= last:
                    return e
        return None

    # Overlap.

    def find_live(self, job_id: str) -> Execution | None:
        return next((e for e in self._executions_of(job_id) if e.is_live), None)

    def list_waiting(self, job_id: str) -> list[Execution]:
        return [e for e in self._executions_of(job_id) if e.waiting]

    def _executions_of(self, job_id: str) -> Iterable[Execution]:
        return [e for e in self.executions.values() if e.job_id == job_id]

    def _insert(self, new: Execution) -> bool:
        """Record an execution that may run, unless another one is live."""
        if new.exclusive and self.find_live(new.job_id) is not None:
            return False
        self.executions[new.key] = new
        return True

    def _admit(self, new: Execution, policy: str) -> None:
        others = [e for e in self._executions_of(new.job_id) if e.is_live and e is not new]
        if new.exclusive and others:
            self._overlap(new, policy)

    def _overlap(self, new: Execution, policy: str) -> None:
        """Apply the overlap policy to an execution whose job has a live one."""
        new.waiting = True  # it is not live until the policy is applied
        live = self.find_live(new.job_id)
        taken = {e.place for e in self.list_waiting(new.job_id) if e is not new}
        match policy:
            case "buffer_one" | "buffer_all" if len(taken) < PLACES[policy]:
                new.place = min(set(range(PLACES[policy])) - taken)
            case "buffer_one" | "buffer_all":
                new.end("skipped", "buffer_full")
            case "cancel_other":
                if live:
                    self._request_cancel(live, "cancelled_by_overlap")
                self._replace(new)
            case "terminate_other":
                if live:
                    self._end_attempt(live, "cancelled")
                    live.token += 1
                    live.end("cancelled", "terminated_by_overlap")
                new.waiting = False
            case _:
                new.end("skipped", "overlap")
        self.promote(new.job_id)

    def _replace(self, new: Execution) -> None:
        """Replace the waiting execution, unless that one is newer."""
        old = next((e for e in self.list_waiting(new.job_id) if e.place == 0), None)
        if old is not None and old.slot > new.slot:
            new.end("skipped", "buffer_full")
            return
        if old is not None:
            old.end("cancelled", "replaced_by_newer")
        new.place = 0

    def promote(self, job_id: str) -> None:
        """Make the first waiting execution live, if no other one is."""
        waiting = self.list_waiting(job_id)
        if not waiting or self.find_live(job_id):
            return
        first = min(e.slot for e in waiting)
        chosen = [e for e in waiting if e.slot == first]
        one = chosen[0] if len(chosen) == 1 else self._choose(chosen)
        one.waiting, one.place = False, None

    # Leases.

    def claimable(self) -> list[Execution]:
        waiting = [e for e in self.executions.values() if e.status == "queued" and not e.waiting]
        return [e for e in waiting if e.run_at <= self.now]

    def claim(self, execution: Execution, lease_owner: str) -> None:
        execution.status, execution.lease_owner = "running", lease_owner
        execution.token += 1
        execution.lease_until = self.now + LEASE

    def begin(self, execution: Execution) -> Lease | None:
        """Start an attempt. If the job was deleted, the claim ends the execution instead."""
        job = self.jobs.get(execution.job_id)
        if job is None:
            self._end(execution, "cancelled", "job_deleted")
            return None
        execution.attempts.append(None)
        return Lease(execution.key, execution.token, job.max_attempts, job.delay)

    def holds(self, lease: Lease) -> bool:
        execution = self.executions[lease.key]
        return execution.status == "running" and execution.token == lease.token

    def renew(self, lease: Lease) -> bool:
        if self.holds(lease):
            self.executions[lease.key].lease_until = self.now + LEASE
        return self.holds(lease)

    def finish(self, lease: Lease, outcome: str, *, again: bool, counted: bool = True) -> None:
        """Record the end of an attempt; `again`: another attempt is allowed."""
        if not self.holds(lease):
            return
        execution = self.executions[lease.key]
        execution.uncounted += not counted
        self._settle(execution, outcome, again, lease.max_attempts, lease.delay)

    def reap(self) -> None:
        """Settle the leases that ran out."""
        running = [e for e in self.executions.values() if e.status == "running"]
        for execution in running:
            if execution.lease_until is not None and execution.lease_until <= self.now:
                execution.token += 1
                job = self.jobs.get(execution.job_id)
                if job is None:
                    self._end_attempt(execution, "abandoned")
                    self._end(execution, "cancelled", "job_deleted")
                elif execution.attempts and execution.attempts[-1] is None:
                    self._settle(execution, "abandoned", True, job.max_attempts, timedelta(0))
                else:
                    self._requeue(execution, timedelta(0))
        for job_id in {e.job_id for e in self.executions.values() if e.waiting}:
            self.promote(job_id)

    def _settle(
        self, execution: Execution, outcome: str, again: bool, most: int, delay: timedelta
    ) -> None:
        self._end_attempt(execution, outcome)
        counted = len(execution.attempts) - execution.uncounted
        if again and counted < most:
            self._requeue(execution, delay)
        else:
            self._end(execution, "failed" if outcome == "abandoned" else outcome)

    def _requeue(self, execution: Execution, delay: timedelta) -> None:
        if execution.cancel_requested:
            self._end(execution, "cancelled")
            return
        execution.status, execution.lease_owner, execution.lease_until = "queued", None, None
        execution.run_at = execution.run_by = self.now + delay

    def _end(self, execution: Execution, status: str, reason: str | None = None) -> None:
        was_live = execution.is_live
        execution.end("cancelled" if execution.cancel_requested else status, reason)
        if was_live:
            self.promote(execution.job_id)

    @staticmethod
    def _end_attempt(execution: Execution, outcome: str) -> None:
        if execution.attempts and execution.attempts[-1] is None:
            execution.attempts[-1] = outcome
