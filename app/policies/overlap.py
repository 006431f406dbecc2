"""Decides, for new executions of jobs that have a live one, which wait and which are replaced."""

from collections.abc import Iterable, Sequence

from app.models.execution import Execution
from app.models.policy import OverlapPolicy

MAX_WAITING = 100
"""The most executions of a job that wait under `buffer_all`."""


def count_positions(policy: OverlapPolicy, positions: int | None) -> int:
    """How many executions of a job may wait. `positions` replaces the number of the policy."""
    match policy:
        case OverlapPolicy.SKIP:
            return positions or 0
        case OverlapPolicy.BUFFER_ONE:
            return positions or 1
        case OverlapPolicy.BUFFER_ALL:
            return positions or MAX_WAITING
        case _:
            return 0


class Positions:
    """The positions of a job's waiting executions, while new executions take some of them."""

    def __init__(self, taken: Iterable[int] = ()) -> None:
        self._taken = set(taken)
        self._lowest = 0

    def take_lowest(self, limit: int) -> int | None:
        """Take the lowest free position; None if `limit` executions wait already.

        Waiting executions may have positions from `limit` on, from `buffer_all` before an edit or
        from a request with its own policy. They count too.
        """
        if len(self._taken) >= limit:
            return None
        while self._lowest in self._taken:
            self._lowest += 1
        self._taken.add(self._lowest)
        return self._lowest

    def take_spread(self, limit: int, number: int) -> int | None:
        """Take a free position that depends on `number`, so that processes that lost a position to
        each other take different ones."""
        if len(self._taken) >= limit:
            return None
        free = [position for position in range(limit) if position not in self._taken]
        position = free[number % len(free)]
        self._taken.add(position)
        return position


def split_newest(executions: Sequence[Execution]) -> tuple[list[Execution], list[Execution]]:
    """Return the last execution of each job, and the others. The order is that of the slots."""
    newest = {execution.job_id: execution for execution in executions}
    ids = {execution.id for execution in newest.values()}
    return list(newest.values()), [e for e in executions if e.id not in ids]
