"""Shares: how many slots of a process the executions of each owner may take. Owners take turns.

A slot here is a place for one running attempt (`WORKER_CONCURRENCY` of them in a process). A slot
that is taken cannot be taken back. So the rule does not ask who else waits: some slots stay free
for whoever comes next.
"""

from collections import deque
from collections.abc import Mapping, Sequence

_HELD_PER_FREE_SLOT = 4
"""One owner takes at most 80 % of the slots, two 44 % each, five 19 % each."""


def may_take(held: int, *, free: int) -> bool:
    """Whether an owner that holds `held` slots of a process may take one of its free slots."""
    return held < _HELD_PER_FREE_SLOT * free


def divide(
    owners: Sequence[str],
    *,
    held: Mapping[str, int],
    room: Mapping[str, int],
    free: int,
    most: int,
    most_each: int,
) -> dict[str, int]:
    """How many of the free slots each owner may take, at most `most` in all.

    The owners take one slot at a time, in this order, again and again. The last key of the result
    is the owner whose turn was the last. `room`: how many more executions each may run in all
    processes.
    """
    slots: dict[str, int] = {}
    waiting, taken = deque(owners), 0
    while waiting and taken < min(free, most):
        owner = waiting.popleft()
        has = slots.get(owner, 0)
        if may_take(held.get(owner, 0) + has, free=free - taken) and has < room[owner]:
            slots.pop(owner, None)
            slots[owner] = has + 1
            taken += 1
            if has + 1 < most_each:
                waiting.append(owner)
    return slots
