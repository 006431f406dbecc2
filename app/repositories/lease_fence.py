"""The fence of a lease: the condition that every write on a leased execution carries.

The condition contains the token of the lease. Each claim raises the token, so the writes of a
worker that lost its lease match nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.models.execution import ExecutionStatus
from app.repositories.mongo import Document

RAISE_TOKEN: Document = {
    # A token that is not a number stays, so that the execution is found to be unreadable.
    "$cond": [{"$isNumber": "$lease_token"}, {"$add": ["$lease_token", 1]}, "$lease_token"]
}
"""The next token of an execution."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run one execution."""

    execution_id: str
    token: int


@dataclass(frozen=True, slots=True)
class AttemptsSeen:
    """The attempts of an execution as a caller knows them: how many, and whether the last one has
    not ended."""

    count: int
    is_open: bool


def build_fence(leases: Sequence[Lease], seen: Sequence[AttemptsSeen] | None = None) -> Document:
    """The condition on these executions that each is running under the token of its lease, and, if
    `seen` is given, that its attempts are as seen.

    Executions with equal values share one `$in`: most tokens and counts are small numbers, so there
    are few groups. An expression that searches a list of values for each document would cost the
    square of the number of leases.
    """
    groups: dict[tuple[int, AttemptsSeen | None], list[str]] = {}
    all_seen: Sequence[AttemptsSeen | None] = seen or [None] * len(leases)
    for lease, attempts in zip(leases, all_seen, strict=True):
        groups.setdefault((lease.token, attempts), []).append(lease.execution_id)
    return {
        "_id": {"$in": [lease.execution_id for lease in leases]},
        "status": ExecutionStatus.RUNNING,
        "$or": [
            {"_id": {"$in": ids}, "lease_token": token} | _build_attempts_condition(attempts)
            for (token, attempts), ids in groups.items()
        ],
    }


def _build_attempts_condition(seen: AttemptsSeen | None) -> Document:
    if seen is None:
        return {}
    condition: Document = {"$size": seen.count}
    if seen.is_open:  # null matches a missing field, too
        condition["$elemMatch"] = {"number": seen.count, "outcome": None}
    return {"attempts": condition}
