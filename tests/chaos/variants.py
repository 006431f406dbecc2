"""Broken variants of the engine: each gives up one of the rules that the promises rest on.

The checker must catch every one; a checker that passes them proves nothing.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from app.clock import Clock, SystemClock
from app.repositories import heartbeat, indexes, mongo
from app.repositories.indexes import INDEXES
from app.repositories.leases import Lease, LeaseRepository
from app.services import firing
from app.services.firing import Firing

Patch = Callable[[Any, str, Any], None]


def cursor_before_record(patch: Patch) -> None:
    """The cursors move first, then the records are written."""
    record = Firing._record

    async def cursor_first(
        self: Firing, due: Sequence[firing._Due], now: datetime, read_at: float
    ) -> int:
        moved = await self._jobs.advance(firing._moves(due, {one.schedule.id: 0 for one in due}))
        await record(self, due, now, read_at)
        return moved

    patch(Firing, "_record", cursor_first)


def no_fence(patch: Patch) -> None:
    """Writes on a lease name the execution, not the token."""

    def held(leases: Sequence[Lease]) -> dict[str, Any]:
        return {"_id": {"$in": [lease.execution_id for lease in leases]}, "$expr": True}

    patch(LeaseRepository, "_held", staticmethod(held))


def acknowledged_by_one(patch: Patch) -> None:
    """`w=1`: a write is acknowledged before a majority has it."""
    options = mongo.client_options

    def weaker(timeout: timedelta) -> dict[str, Any]:
        return options(timeout) | {"w": 1}

    patch(mongo, "client_options", weaker)
    patch(heartbeat, "client_options", weaker)


def no_slot_index(patch: Patch) -> None:
    """Nothing makes a second record of a slot impossible."""
    others = [index for index in INDEXES["executions"] if index.document["name"] != "slot"]
    patch(indexes, "INDEXES", INDEXES | {"executions": others})


def own_clock(patch: Patch, clock: type[Clock] = SystemClock) -> None:
    """What is due is decided by the process's clock, which is an hour ahead."""
    ahead = property(lambda self: {"$literal": self.now() + timedelta(hours=1)})
    patch(clock, "now_expression", ahead)


VARIANTS: dict[str, Callable[[Patch], None]] = {
    "cursor_before_record": cursor_before_record,
    "no_fence": no_fence,
    "acknowledged_by_one": acknowledged_by_one,
    "no_slot_index": no_slot_index,
    "own_clock": own_clock,
}
