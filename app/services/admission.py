"""Admission: inserts executions, subject to the overlap policy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.models.execution import Execution, Reason
from app.models.policy import OverlapPolicy
from app.policies.overlap import Positions, count_positions, split_newest
from app.repositories.executions import ExecutionRepository, InsertResult
from app.repositories.overlaps import OverlapRepository
from app.repositories.promotions import PromotionRepository

_MAX_TRIES = 5  # a try fails if another execution becomes live or takes the position in between

_MAX_POSITION_TRIES = 10
"""With as many free positions as executions that compete for them, a third of these lose a try."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A new execution, and what decides if another execution of its job is live."""

    execution: Execution
    policy: OverlapPolicy
    positions: int | None = None
    """How many executions of the job may wait. With a number the execution also waits under `skip`.
    None means the number of the policy. `cancel_other` and `terminate_other` ignore it."""

    @property
    def may_wait_or_replace(self) -> bool:
        """Whether it waits, or replaces a waiting one, if another execution is live."""
        is_buffered = count_positions(self.policy, self.positions) > 0
        return is_buffered or self.policy is OverlapPolicy.CANCEL_OTHER


@dataclass(slots=True)
class _Batch:
    """What becomes of the executions of one call."""

    now: datetime
    inserted: dict[str, Execution] = field(default_factory=dict)
    """By id: the records as inserted."""
    recorded: list[Execution] = field(default_factory=list)
    """Those whose slots have records of other processes."""
    skipped: list[Execution] = field(default_factory=list)
    """Records that are to be inserted."""

    def list_settled_ids(self) -> set[str]:
        records = (*self.inserted.values(), *self.recorded, *self.skipped)
        return {record.id for record in records}

    def skip(self, executions: Iterable[Execution], reason: Reason) -> None:
        self.skipped += [execution.skip(reason, self.now) for execution in executions]


class Admission:
    """Inserts executions so that at most one of a job is live (see `repositories/overlaps.py`)."""

    def __init__(
        self,
        *,
        executions: ExecutionRepository,
        overlaps: OverlapRepository,
        promotions: PromotionRepository,
    ) -> None:
        self._executions = executions
        self._overlaps = overlaps
        self._promotions = promotions

    async def admit(
        self, execution: Execution, policy: OverlapPolicy, now: datetime
    ) -> InsertResult:
        """Insert a new execution as the policy allows. The caller wakes the workers afterwards.

        The result INSERTED means that `execution` was stored unchanged. `execution` must have
        `live_for`, unless the policy is `allow_all`. If its slot already has a record, nothing is
        changed.
        """
        records = await self.admit_many([Candidate(execution, policy)], now)
        record = records.get(execution.id)
        if record is None:
            return InsertResult.ALREADY_RECORDED
        return InsertResult.INSERTED if record is execution else InsertResult.OVERLAP

    async def admit_many(
        self, candidates: Sequence[Candidate], now: datetime
    ) -> dict[str, Execution]:
        """As `admit`, for at most about 1,000 executions, in the order of their slots.

        The number of round trips is bounded. Returns by execution id the record as inserted, or
        what `apply_policies` returns. There is no entry if the slot already had a record.
        """
        waiting = await self._find_waiting_jobs(candidates)
        executions = [e for one in candidates if (e := one.execution).job_id not in waiting]
        results = await self._executions.insert_many(executions)
        by_id = {e.id: result for e, result in zip(executions, results, strict=True)}
        stored = {e.id: e for e in executions if by_id[e.id] is InsertResult.INSERTED}
        behind = [one.execution for one in candidates if one.execution.job_id in waiting]
        recorded = await self._executions.list_recorded(behind)
        by_id |= {e.id: InsertResult.OVERLAP for e in behind if e.id not in recorded}
        overlapping = [
            one for one in candidates if by_id.get(one.execution.id) is InsertResult.OVERLAP
        ]
        return stored | await self.apply_policies(overlapping, now)

    async def _find_waiting_jobs(self, candidates: Sequence[Candidate]) -> set[str]:
        """The jobs in which executions wait already. The new ones must not overtake these, also if
        no execution is live: a process may have ended before it promoted.

        One read if nothing waits. Otherwise it makes the first waiting execution live, which may
        give the new ones room to wait. Under `cancel_other` the new ones replace it.
        """
        policies = {
            one.execution.job_id: one.policy for one in candidates if one.may_wait_or_replace
        }
        if not policies:
            return set()
        waiting = await self._promotions.list_waiting_jobs(policies)
        buffering = {id_ for id_ in waiting if policies[id_] is not OverlapPolicy.CANCEL_OTHER}
        if buffering:
            await self._promotions.promote(buffering)
        return waiting

    async def apply_policies(
        self, overlapping: Sequence[Candidate], now: datetime
    ) -> dict[str, Execution]:
        """Insert executions whose jobs have a live one or a waiting one. At most about 1,000.

        The executions of a job are treated in the order of their slots, and all have the same
        policy. The number of round trips is bounded, whatever the number of executions and jobs.

        Returns by execution id the record as inserted, or the record of its slot that another
        process inserted in between (without its attempts). There is no entry if a newer release
        wrote that record.
        """
        batch, by_policy = _Batch(now), dict[OverlapPolicy, list[Execution]]()
        waiting: list[tuple[Execution, int]] = []
        for one in sorted(overlapping, key=lambda one: one.execution.scheduled_for):
            if positions := count_positions(one.policy, one.positions):
                waiting.append((one.execution, positions))
            else:
                by_policy.setdefault(one.policy, []).append(one.execution)
        cancelling = by_policy.pop(OverlapPolicy.CANCEL_OTHER, [])
        await self._buffer(batch, waiting)
        await self._cancel_others(batch, cancelling)
        await self._terminate_others(batch, by_policy.pop(OverlapPolicy.TERMINATE_OTHER, []))
        for executions in by_policy.values():  # `skip`; under `allow_all` no execution overlaps
            batch.skip(executions, Reason.OVERLAP)
        await self._insert(batch, batch.skipped)
        # The live ones may have ended in between.
        may_wait = {e.job_id for e in cancelling} | {e.job_id for e, _ in waiting}
        if may_wait:
            await self._promotions.promote(may_wait)
        return batch.inserted | await self._executions.list_recorded(batch.recorded)

    async def _buffer(self, batch: _Batch, waiting: Sequence[tuple[Execution, int]]) -> None:
        """Insert each execution at a free position. Each has the number of positions that count."""
        for attempt in range(_MAX_POSITION_TRIES):
            if not waiting:
                return
            taken = await self._overlaps.list_positions({e.job_id for e, _ in waiting})
            placed, full = _place(waiting, taken, spread=attempt > 0)
            await self._insert(batch, placed)
            # If one of them was not inserted, its position may be free for another one of the job.
            open_jobs = {e.job_id for e in placed if e.id not in batch.inserted}
            batch.skip([e for e in full if e.job_id not in open_jobs], Reason.BUFFER_FULL)
            settled = batch.list_settled_ids()
            waiting = [(e, limit) for e, limit in waiting if e.id not in settled]
        batch.skip([e for e, _ in waiting], Reason.BUFFER_FULL)

    async def _cancel_others(self, batch: _Batch, executions: Sequence[Execution]) -> None:
        """Cancel the live execution of each job. The newest new one waits at the first position;
        the older new ones are stored as cancelled."""
        if not executions:
            return
        waiting, older = split_newest(executions)
        running = await self._overlaps.cancel_live(waiting)
        found = await self._overlaps.list_waiting_slots({e.job_id for e in older}, 0)
        batch.skip([e for e in older if _is_newer(found, e)], Reason.BUFFER_FULL)
        replaced = [
            _replace(e, e.job_id in running, batch.now) for e in older if not _is_newer(found, e)
        ]
        newest = waiting
        for _ in range(_MAX_TRIES):
            # The replaced ones come first. If a crash follows, the next firing inserts the others.
            records = [*replaced, *(e.wait_at(0) for e in waiting)]
            lost = {e.id for e in await self._insert(batch, records)}
            waiting, replaced = [e for e in waiting if e.id in lost], []
            if not waiting:
                break
            found = await self._overlaps.cancel_older_waiting(waiting, 0)
            batch.skip([e for e in waiting if _is_newer(found, e)], Reason.BUFFER_FULL)
            waiting = [e for e in waiting if not _is_newer(found, e)]
        batch.skip(waiting, Reason.BUFFER_FULL)
        # An older waiting one may have become live before the new ones took its position.
        if placed := [e for e in newest if e.id in batch.inserted]:
            await self._overlaps.cancel_live(placed)

    async def _terminate_others(self, batch: _Batch, executions: Sequence[Execution]) -> None:
        """End the live execution of each job. The newest new one is live; the older new ones are
        stored as cancelled. If the live one is newer than all of them, they are skipped."""
        new, older = split_newest(executions)
        for _ in range(_MAX_TRIES):
            if not new:
                return
            newer = await self._overlaps.terminate_live(new)
            batch.skip([e for e in (*older, *new) if e.job_id in newer], Reason.OVERLAP)
            replaced = [
                e.cancel(Reason.TERMINATED_BY_OVERLAP, batch.now)
                for e in older
                if e.job_id not in newer
            ]
            new = [e for e in new if e.job_id not in newer]
            new, older = await self._insert(batch, [*replaced, *new]), []
        batch.skip(new, Reason.OVERLAP)

    async def _insert(self, batch: _Batch, executions: Sequence[Execution]) -> list[Execution]:
        """Insert the records. Returns those that overlap another one or whose position is taken."""
        rejected: list[Execution] = []
        results = await self._executions.insert_many(executions)
        for execution, result in zip(executions, results, strict=True):
            match result:
                case InsertResult.INSERTED:
                    batch.inserted[execution.id] = execution
                case InsertResult.ALREADY_RECORDED:
                    batch.recorded.append(execution)
                case InsertResult.OVERLAP | InsertResult.FULL:
                    rejected.append(execution)
        return rejected


def _place(
    waiting: Sequence[tuple[Execution, int]], taken: Mapping[str, set[int]], *, spread: bool
) -> tuple[list[Execution], list[Execution]]:
    """Return the executions at free positions, and those that find none.

    `spread`: other processes have taken the lowest positions in between.
    """
    free = {job_id: Positions(positions) for job_id, positions in taken.items()}
    placed: list[Execution] = []
    full: list[Execution] = []
    for execution, limit in waiting:
        positions = free.setdefault(execution.job_id, Positions())
        position = (
            positions.take_spread(limit, int(execution.id, 16))
            if spread
            else positions.take_lowest(limit)
        )
        if position is None:
            full.append(execution)
        else:
            placed.append(execution.wait_at(position))
    return placed, full


def _is_newer(found: Mapping[str, datetime], execution: Execution) -> bool:
    """Whether the waiting execution that was found for the job has a later slot."""
    slot = found.get(execution.job_id)
    return slot is not None and slot > execution.scheduled_for


def _replace(execution: Execution, behind_running: bool, now: datetime) -> Execution:
    """Return an execution as it is after a newer one of its batch, under `cancel_other`.

    It would have waited behind a running execution. Otherwise it would have been live.
    """
    reason = Reason.REPLACED_BY_NEWER if behind_running else Reason.CANCELLED_BY_OVERLAP
    return execution.cancel(reason, now)
