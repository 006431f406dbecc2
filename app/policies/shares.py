"""Shares: how many slots of a process the executions of each owner may take. Owners take turns.

A slot here is a place for one running attempt (`WORKER_CONCURRENCY` of them in a process). A slot
that is taken cannot be taken back. So the rule does not ask who else waits: some slots stay free
for whoever comes next.
"""

from collections import deque
from collections.abc import Mapping, Sequence

_HELD_PER_FREE_SLOT = 4
"""One owner takes about 80 % of the slots at most, two that come at the same time 44 % each."""

_SLOTS_PER_RESERVED_SLOT = 10
"""The last tenth is for owners that hold no slot, one slot each. Without it, owners that come one
after the other take 80, 16 and 4 of 100 slots."""


def may_take(held: int, *, free: int, slots: int) -> bool:
    """Whether an owner that holds `held` of the `slots` of a process may take a free one."""
    is_reserved = free <= slots // _SLOTS_PER_RESERVED_SLOT
    return held < _HELD_PER_FREE_SLOT * free and not (is_reserved and held)


def divide_slots(
    owners: Sequence[str],
    *,
    held: Mapping[str, int],
    room: Mapping[str, int],
    free: int,
    slots: int,
    most: int,
    most_each: int,
) -> dict[str, int]:
    """How many of the free slots of a process with `slots` slots each owner may take, at most
    `most` in all.

    The owners take one slot at a time, in this order, again and again. The last key of the result
    is the owner whose turn was the last. `room`: how many more executions each may run in all
    processes.
    """
    given: dict[str, int] = {}
    waiting, taken = deque(owners), 0
    while waiting and taken < min(free, most):
        owner = waiting.popleft()
        has = given.get(owner, 0)
        allowed = may_take(held.get(owner, 0) + has, free=free - taken, slots=slots)
        if allowed and has < room[owner]:
            given.pop(owner, None)
            given[owner] = has + 1
            taken += 1
            if has + 1 < most_each:
                waiting.append(owner)
    return given
