"""The fence of a lease: the condition that every write on a leased execution carries.

The condition contains the token of the lease. Each claim raises the token, so the writes of a
worker that lost its lease match nothing.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from app.models.execution import ExecutionStatus
from app.repositories.mongo import Document

_T = TypeVar("_T")

MAX_GROUPS = 100
"""The most groups of equal values in one fence: the server compares each document with each."""

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


def is_valid(now: Any) -> Document:
    """The condition that a lease has not run out at the instant of the expression `now`."""
    return {"$expr": {"$gt": ["$lease_until", now]}}


def has_expired(now: Any) -> Document:
    return {"$expr": {"$lte": ["$lease_until", now]}}


def split_by_groups(
    items: Sequence[_T], group_of: Callable[[_T], Hashable]
) -> Iterator[Sequence[_T]]:
    """Consecutive parts with at most `MAX_GROUPS` groups each, for one fence a part."""
    groups: set[Hashable] = set()
    start = 0
    for end, item in enumerate(items):
        group = group_of(item)
        if group not in groups and len(groups) == MAX_GROUPS:
            yield items[start:end]
            start, groups = end, set()
        groups.add(group)
    if start < len(items):
        yield items[start:]


def build_fence(leases: Sequence[Lease], seen: Sequence[AttemptsSeen] | None = None) -> Document:
    """The condition on these executions that each is running under the token of its lease, and, if
    `seen` is given, that its attempts are as seen.

    Executions with equal values share one `$in`: most tokens and counts are small numbers, so there
    are few groups. An expression that searches a list of values for each document would cost the
    square of the number of leases, and so would many groups: see `split_by_groups`.
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
