"""Turns: which owners may take the free slots of this process.

The owners take turns in the order of their ids, beginning after the owner whose turn was the last.
So each owner's turn comes, whatever the `run_at` of the others, and however many they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from app.clock import Clock
from app.engine.loop import AT_ONCE, rest_until
from app.engine.saturation import Saturation
from app.policies.shares import divide_slots, may_take
from app.repositories.queue import DueOwners, QueueRepository

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Turn:
    """How many executions of each owner may be claimed now."""

    rest: timedelta
    """The time until the next round, if nothing is claimed."""
    slots: Mapping[str, int] = field(default_factory=dict)


class OwnerTurns:
    """Gives free slots to the owners of due executions."""

    def __init__(
        self,
        *,
        queue: QueueRepository,
        saturation: Saturation,
        clock: Clock,
        concurrency: int,
        most_per_owner: int,
        poll_interval: timedelta,
    ) -> None:
        self._queue = queue
        self._saturation = saturation
        self._clock = clock
        self._concurrency = concurrency
        self._most_per_owner = most_per_owner
        self._poll_interval = poll_interval
        self._last = ""
        """The owner whose turn was the last."""
        self._turns_since_claim = 0
        """How many owners have had their turn since the last claim or rest."""
        self._unread: DueOwners | None = None
        """The owners of the last read whose turn has not come, if there were more than one read
        returns. They have the next turns, because each read costs as much as there are owners."""
        self._read_at = 0.0
        self.has_waiting = False
        """Whether a due execution waits for the end of another one, although slots are free."""

    async def grant(self, held: Mapping[str, int], *, free: int) -> Turn:
        """Give `free` slots to owners that hold `held` slots of this process.

        At most two round trips. Raises UnavailableError.
        """
        if free < 1:
            self._saturation.note_taken(sorted(held, key=lambda o: -held[o]))
            return Turn(self._poll_interval)  # woken when an attempt ends
        due = await self._find_due()
        most = min(free, _BATCH)
        at_share = {
            owner
            for owner in due.owners
            if not may_take(held.get(owner, 0), free=free, slots=self._concurrency)
        }
        counted = [owner for owner in due.owners if owner not in at_share][:_BATCH]
        running = await self._queue.count_running(counted) if counted else {}
        room = {owner: self._most_per_owner - running.get(owner, 0) for owner in counted}
        at_limit = {owner for owner in counted if room[owner] < 1}
        chosen = [owner for owner in counted if owner not in at_limit][:most]
        reached = len(due.owners)
        if len(chosen) == most:
            reached = due.owners.index(chosen[-1]) + 1
        elif len(counted) == _BATCH:
            reached = due.owners.index(counted[-1]) + 1
        slots = divide_slots(
            chosen,
            held=held,
            room=room,
            free=free,
            slots=self._concurrency,
            most=most,
            # While other owners have not had a turn, each takes one slot.
            most_each=most if reached == due.total else 1,
        )
        self._note_waiting(due, at_share.union(at_limit, chosen) - slots.keys())
        self._advance(due, reached, slots)
        return Turn(self._choose_rest(due, reached), slots)

    def restart(self) -> None:
        """Note that executions were claimed: every owner gets another turn before a rest."""
        self._turns_since_claim = 0

    async def _find_due(self) -> DueOwners:
        unread, self._unread = self._unread, None
        is_old = self._clock.monotonic() - self._read_at > self._poll_interval.total_seconds()
        if unread is not None and not is_old:
            return unread
        self._read_at = self._clock.monotonic()
        return await self._queue.list_due_owners(after=self._last)

    def _note_waiting(self, due: DueOwners, owners: set[str]) -> None:
        self.has_waiting = bool(owners)
        due_since = None
        if due.first_run_at is not None:
            due_since = self._read_at - (due.now - due.first_run_at).total_seconds()
        self._saturation.note_read(due_since=due_since, owners=sorted(owners))

    def _advance(self, due: DueOwners, reached: int, slots: dict[str, int]) -> None:
        if due.owners:
            self._last = next(reversed(slots), due.owners[reached - 1])
        if reached < len(due.owners) < due.total:
            self._unread = replace(due, owners=due.owners[reached:])

    def _choose_rest(self, due: DueOwners, reached: int) -> timedelta:
        self._turns_since_claim += reached
        if self._turns_since_claim < due.total:
            return AT_ONCE
        self._turns_since_claim = 0
        return rest_until(due.next_run_at, due.now, most=self._poll_interval)
