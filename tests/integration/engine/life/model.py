"""A model of jobs and executions, written from the documentation, without I/O.

It shares no code with the application, so a comparison finds errors of both. Where the
documentation leaves a choice (which of two equal slots is executed first, when exactly a late slot
may start), the model states what is allowed and learns what the engine chose.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import datetime, timedelta

from tests.integration.engine.life.records import (
    LATE_POSITIONS,
    LEASE,
    PLACES,
    STALE,
    Decision,
    Key,
    ModelCoverage,
    ModelExecution,
    ModelGap,
    ModelJob,
    ModelLease,
    ModelSchedule,
)


class Model:
    """All jobs and executions. `choose` returns which of several equal slots was promoted."""

    def __init__(
        self, now: datetime, choose: Callable[[Sequence[ModelExecution]], ModelExecution]
    ) -> None:
        self.now = now
        self.jobs: dict[str, ModelJob] = {}
        self.executions: dict[Key, ModelExecution] = {}
        self.coverage = ModelCoverage()
        self._choose = choose

    # Requests of users.

    def create(self, job: ModelJob) -> None:
        for schedule in job.schedules:
            schedule.set_next_run(self.now)
        self.jobs[job.id] = job

    def pause(self, job: ModelJob) -> None:
        if job.active:
            self.fire_all(job)
            job.active = False
            job.revision += 1
            for schedule in job.schedules:
                schedule.next_run = None

    def resume(self, job: ModelJob) -> None:
        if not job.active:
            job.active = True
            job.revision += 1
            for schedule in job.schedules:
                schedule.set_next_run(self.now)

    def set_policy(self, job: ModelJob, policy: str) -> None:
        job.policy = policy
        job.revision += 1

    def set_period(self, job: ModelJob, index: int, period: timedelta) -> None:
        if job.schedules[index].trigger.period != period:
            self.fire_all(job)
            job.schedules[index].trigger.period = period
            if job.active:
                job.schedules[index].set_next_run(self.now)
        job.revision += 1

    def delete(self, job: ModelJob) -> None:
        self.fire_all(job)
        del self.jobs[job.id]
        for execution in self._list_executions(job.id):
            self._request_cancel(execution, "job_deleted")

    def request_execution(
        self, execution_id: str, job: ModelJob, policy: str, slot: datetime
    ) -> None:
        """Queue a manual execution, or a retry of a slot."""
        new = ModelExecution(
            execution_id, job.id, slot, self.now, self.now, exclusive=policy != "allow_all"
        )
        self.executions[new.key] = new
        self._admit(new, policy)

    def cancel(self, execution: ModelExecution) -> None:
        was_live = execution.is_live
        self._request_cancel(execution, "cancelled_by_user")
        if was_live:
            self.promote(execution.job_id)

    def _request_cancel(self, execution: ModelExecution, reason: str) -> None:
        if execution.status == "queued":
            execution.end("cancelled", reason)
        elif execution.status == "running" and not execution.cancel_requested:
            execution.cancel_requested, execution.reason = True, reason

    # Slots.

    def list_due(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.is_due(self.now)]

    def fire_all(self, job: ModelJob) -> None:
        while job.is_due(self.now):
            self.fire(deepcopy(job), self.now)

    def fire(
        self,
        seen: ModelJob,
        now: datetime,
        *,
        delay: timedelta = timedelta(0),
        killed_before_advance: bool = False,
    ) -> None:
        """Fire the slots of `seen` that are due at `now`. `seen` is the job as read `delay` ago."""
        self.coverage.keep(self.now)
        if delay > STALE:
            return
        decisions = [(s, self._decide(seen, s, now)) for s in _list_due(seen, now)]
        for schedule, decision in decisions:
            self._record_missed(seen, schedule, decision)
        planned = [e for s, decision in decisions for e in self._plan(seen, s, decision)]
        new = [(e, positions) for e, positions in planned if e.key not in self.executions]
        overlapping = [(e, positions) for e, positions in new if not self._insert(e)]
        in_order = sorted(overlapping, key=lambda pair: pair[0].slot)
        if seen.policy in {"cancel_other", "terminate_other"}:
            self._replace_older([execution for execution, _ in in_order], seen)
            in_order = in_order[-1:]
        for execution, positions in in_order:
            self.executions[execution.key] = execution
            self._apply_overlap_policy(execution, seen.policy, positions)
        advanced_schedules = self._advance_schedules(seen, decisions)
        job = self.jobs.get(seen.id)
        unchanged = job and (job.revision, job.next_run()) == (seen.revision, seen.next_run())
        if job is not None and unchanged and not killed_before_advance:
            job.schedules = advanced_schedules

    def _decide(self, job: ModelJob, schedule: ModelSchedule, now: datetime) -> Decision:
        """Decide on the due slots that `max_runs` allows, each gap as a whole."""
        decision = Decision(schedule.next_run)
        left = schedule.runs_left()
        while (slot := decision.next_run) is not None and slot <= now:
            if left is not None and len(decision.runs) >= left:
                break
            gap = self.coverage.find_gap(slot)
            if gap is None:
                decision.runs.append((slot, None))
                decision.next_run = schedule.trigger.next_after(slot)
            else:
                self._decide_gap(decision, job, schedule, gap)
        return decision

    @staticmethod
    def _decide_gap(
        decision: Decision, job: ModelJob, schedule: ModelSchedule, gap: ModelGap
    ) -> None:
        assert decision.next_run is not None
        slots = schedule.trigger.list_slots(decision.next_run, gap.until)
        within = [slot for slot in slots if slot >= gap.found_at - job.window]
        late = {"all": within, "one": [s for s in within if s == slots[-1]], "none": []}
        executed = late[job.catch_up]
        missed = [slot for slot in slots if slot not in executed]
        if missed:
            decision.missed.append(missed)
        left = schedule.runs_left()
        room = len(executed) if left is None else left - len(decision.runs)
        decision.runs += [(slot, gap) for slot in executed[:room]]
        rest = executed[room:]
        decision.next_run = rest[0] if rest else schedule.trigger.next_after(gap.until)

    def _record_missed(self, job: ModelJob, schedule: ModelSchedule, decision: Decision) -> None:
        for missed in decision.missed:
            key = (schedule.id, missed[0])
            record = ModelExecution(key, job.id, missed[0], missed[0], missed[0], exclusive=False)
            record.missed = (missed[-1], len(missed))
            record.end("missed", "catch_up")
            self.executions.setdefault(key, record)

    def _plan(
        self, job: ModelJob, schedule: ModelSchedule, decision: Decision
    ) -> list[tuple[ModelExecution, int | None]]:
        """Return the executions, and how many may wait if not as many as the policy says."""
        return [
            (
                self._make_scheduled(job, schedule, slot, gap),
                LATE_POSITIONS if gap and job.catch_up == "all" else None,
            )
            for slot, gap in decision.runs
        ]

    def _make_scheduled(
        self, job: ModelJob, schedule: ModelSchedule, slot: datetime, gap: ModelGap | None
    ) -> ModelExecution:
        first, last = slot, slot + schedule.jitter
        if gap is not None:
            first, last = gap.found_at, gap.found_at + timedelta(minutes=5)
        exclusive = job.policy != "allow_all"
        return ModelExecution((schedule.id, slot), job.id, slot, first, last, exclusive=exclusive)

    def _advance_schedules(
        self, seen: ModelJob, decisions: list[tuple[ModelSchedule, Decision]]
    ) -> list[ModelSchedule]:
        """Return the schedules with `next_run` at the first slot without a record."""
        schedules = deepcopy(seen.schedules)
        decided = {schedule.id: decision for schedule, decision in decisions}
        for schedule in schedules:
            if schedule.id in decided:
                decision = decided[schedule.id]
                records = [self.executions[schedule.id, slot] for slot, _ in decision.runs]
                schedule.runs += sum(e.status not in {"skipped", "missed"} for e in records)
                exhausted = schedule.runs_left() == 0
                schedule.next_run = None if exhausted else decision.next_run
        return schedules

    # Overlap.

    def find_live(self, job_id: str) -> ModelExecution | None:
        return next((e for e in self._list_executions(job_id) if e.is_live), None)

    def list_waiting(self, job_id: str) -> list[ModelExecution]:
        return [e for e in self._list_executions(job_id) if e.waiting]

    def _list_executions(self, job_id: str) -> Iterable[ModelExecution]:
        return [e for e in self.executions.values() if e.job_id == job_id]

    def _insert(self, new: ModelExecution) -> bool:
        """Record an execution, unless it is exclusive and its job has a live one."""
        if new.exclusive and self.find_live(new.job_id) is not None:
            return False
        self.executions[new.key] = new
        return True

    def _admit(self, new: ModelExecution, policy: str) -> None:
        others = [e for e in self._list_executions(new.job_id) if e.is_live and e is not new]
        if new.exclusive and others:
            self._apply_overlap_policy(new, policy)

    def _apply_overlap_policy(
        self, new: ModelExecution, policy: str, late_positions: int | None = None
    ) -> None:
        """Apply the overlap policy to an execution whose job has a live one. Late slots of the
        catch-up policy `all` wait for each other."""
        new.waiting = True  # It is not live until the policy is applied.
        live = self.find_live(new.job_id)
        is_spared = _is_newer(live, new)
        occupied = {e.place for e in self.list_waiting(new.job_id) if e is not new}
        positions = late_positions or PLACES.get(policy, 0)
        match policy:
            case "skip" | "buffer_one" | "buffer_all" if len(occupied) < positions:
                new.place = min(set(range(positions)) - occupied)
            case "buffer_one" | "buffer_all":
                new.end("skipped", "buffer_full")
            case "cancel_other":
                if live and not is_spared:
                    self._request_cancel(live, "cancelled_by_overlap")
                self._replace(new)
            case "terminate_other" if is_spared:
                new.end("skipped", "overlap")
            case "terminate_other":
                if live:
                    self._end_attempt(live, "cancelled")
                    live.token += 1
                    live.end("cancelled", "terminated_by_overlap")
                new.waiting = False
            case _:
                new.end("skipped", "overlap")
        self.promote(new.job_id)

    def _replace_older(self, new: Sequence[ModelExecution], seen: ModelJob) -> None:
        """End the executions that a newer one of the same batch replaces. They were never live."""
        live, waiting = self.find_live(seen.id), self.list_waiting(seen.id)
        first = next((e for e in waiting if e.place == 0), None)
        is_spared = bool(new) and _is_newer(live, new[-1])
        for execution in new[:-1]:
            self.executions[execution.key] = execution
            if seen.policy == "terminate_other" and is_spared:
                execution.end("skipped", "overlap")
            elif seen.policy == "terminate_other":
                execution.end("cancelled", "terminated_by_overlap")
            elif first is not None and first.slot > execution.slot:
                execution.end("skipped", "buffer_full")
            elif live is not None and (is_spared or live.status == "running"):
                execution.end("cancelled", "replaced_by_newer")
            else:
                execution.end("cancelled", "cancelled_by_overlap")

    def _replace(self, new: ModelExecution) -> None:
        """Replace the execution at place 0, unless it is newer than `new`."""
        old = next((e for e in self.list_waiting(new.job_id) if e.place == 0), None)
        if old is not None and old.slot > new.slot:
            new.end("skipped", "buffer_full")
            return
        if old is not None:
            old.end("cancelled", "replaced_by_newer")
        new.place = 0

    def promote(self, job_id: str) -> None:
        """Make the waiting execution with the oldest slot live, if the job has no live one."""
        waiting = self.list_waiting(job_id)
        if not waiting or self.find_live(job_id):
            return
        first = min(e.slot for e in waiting)
        candidates = [e for e in waiting if e.slot == first]
        promoted = candidates[0] if len(candidates) == 1 else self._choose(candidates)
        promoted.waiting, promoted.place = False, None

    # Leases.

    def list_claimable(self) -> list[ModelExecution]:
        queued = [e for e in self.executions.values() if e.status == "queued" and not e.waiting]
        return [e for e in queued if e.run_at <= self.now]

    def claim(self, execution: ModelExecution, lease_owner: str) -> None:
        execution.status, execution.lease_owner = "running", lease_owner
        execution.token += 1
        execution.lease_until = self.now + LEASE

    def begin(self, execution: ModelExecution) -> ModelLease | None:
        """Start an attempt. If the job was deleted, the claim ends the execution instead."""
        job = self.jobs.get(execution.job_id)
        if job is None:
            self._end(execution, "cancelled", "job_deleted")
            return None
        execution.attempts.append(None)
        return ModelLease(execution.key, execution.token, job.max_attempts, job.delay)

    def has_lease(self, lease: ModelLease) -> bool:
        execution = self.executions[lease.key]
        return execution.status == "running" and execution.token == lease.token

    def renew(self, lease: ModelLease) -> bool:
        if self.has_lease(lease):
            self.executions[lease.key].lease_until = self.now + LEASE
        return self.has_lease(lease)

    def finish(
        self, lease: ModelLease, outcome: str, *, retry_allowed: bool, counted: bool = True
    ) -> None:
        """Record the end of an attempt, unless its lease is lost or has run out.

        `counted`: it counts towards `max_attempts`.
        """
        execution = self.executions[lease.key]
        if not self.has_lease(lease) or self._is_expired(execution):
            return
        execution.uncounted += not counted
        self._settle(execution, outcome, retry_allowed, lease.max_attempts, lease.delay)

    def reap(self) -> None:
        """Settle the expired leases, then promote waiting executions."""
        running = [e for e in self.executions.values() if e.status == "running"]
        for execution in running:
            if self._is_expired(execution):
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

    def _is_expired(self, execution: ModelExecution) -> bool:
        return execution.lease_until is not None and execution.lease_until <= self.now

    def _settle(
        self,
        execution: ModelExecution,
        outcome: str,
        retry_allowed: bool,
        max_attempts: int,
        delay: timedelta,
    ) -> None:
        self._end_attempt(execution, outcome)
        counted = len(execution.attempts) - execution.uncounted
        if retry_allowed and counted < max_attempts:
            self._requeue(execution, delay)
        else:
            self._end(execution, "failed" if outcome == "abandoned" else outcome)

    def _requeue(self, execution: ModelExecution, delay: timedelta) -> None:
        if execution.cancel_requested:
            self._end(execution, "cancelled")
            return
        execution.status, execution.lease_owner, execution.lease_until = "queued", None, None
        execution.run_at = execution.run_by = self.now + delay

    def _end(self, execution: ModelExecution, status: str, reason: str | None = None) -> None:
        was_live = execution.is_live
        execution.end("cancelled" if execution.cancel_requested else status, reason)
        if was_live:
            self.promote(execution.job_id)

    @staticmethod
    def _end_attempt(execution: ModelExecution, outcome: str) -> None:
        if execution.attempts and execution.attempts[-1] is None:
            execution.attempts[-1] = outcome


def _list_due(job: ModelJob, now: datetime) -> list[ModelSchedule]:
    """Return the due schedules, the most overdue first."""
    due = [(s.next_run, s) for s in job.schedules if s.next_run is not None and s.next_run <= now]
    return [schedule for _, schedule in sorted(due, key=lambda pair: pair[0])]


def _is_newer(live: ModelExecution | None, new: ModelExecution) -> bool:
    """Whether the live execution has a later slot than the new one of a schedule."""
    return live is not None and isinstance(new.key, tuple) and live.slot > new.slot
