"""The fence of a lease: the condition that every write on a leased execution carries.

The condition contains the token of the lease. Each claim raises the token, so the writes of a
worker that lost its lease match nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.models.execution import ExecutionStatus
from app.repositories.mongo import Document, pick

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


def build_fence(leases: Sequence[Lease]) -> Document:
    """The condition on these executions that each is running under the token of its lease."""
    ids = [lease.execution_id for lease in leases]
    tokens = pick(ids, [lease.token for lease in leases])
    return {
        "_id": {"$in": ids},
        "status": ExecutionStatus.RUNNING,
        "$expr": {"$eq": ["$lease_token", tokens]},
    }
