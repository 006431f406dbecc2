"""Renewal of leases with a client of its own, for the lease keeper's thread.

The client is synchronous, so that a busy event loop does not delay the renewals.
"""

from collections.abc import Sequence
from datetime import timedelta

import pymongo
from pymongo.errors import PyMongoError

from app.clock import Clock, count_milliseconds
from app.errors import UnavailableError
from app.repositories import lease_fence
from app.repositories.lease_fence import Lease
from app.repositories.mongo import CLOSE_SECONDS, Document, client_options

RENEWAL_BATCH = 1_000
"""With leases of 5 s a renewal must end within 1.25 s, also on a busy server."""


class HeartbeatRepository:
    """Renews the leases of one lease owner. For one thread."""

    def __init__(self, uri: str, name: str, *, clock: Clock, timeout: timedelta) -> None:
        self._client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            uri, maxPoolSize=1, **client_options(timeout)
        )
        self._executions = self._client[name]["executions"]
        self._clock = clock

    def renew(self, lease_owner: str, leases: Sequence[Lease], *, term: timedelta) -> set[str]:
        """Extend the leases by `term` from now; returns the executions that are still leased.

        A lease that has run out is lost, also if nobody has taken the execution over. Give it at
        most `RENEWAL_BATCH` leases: one statement, unless they have many different tokens. Raises
        UnavailableError for every driver error.
        """
        try:
            return {
                id_
                for part in lease_fence.split_by_groups(leases, lambda lease: lease.token)
                for id_ in self._renew_part(lease_owner, part, term)
            }
        except PyMongoError as error:
            raise UnavailableError("The leases could not be renewed.") from error

    def _renew_part(self, lease_owner: str, leases: Sequence[Lease], term: timedelta) -> list[str]:
        now = self._clock.now_expression
        owned = {"lease_owner": lease_owner} | lease_fence.is_valid(now)
        fence = lease_fence.build_fence(leases) | owned
        until = {"$add": [now, count_milliseconds(term)]}
        result = self._executions.update_many(fence, [{"$set": {"lease_until": until}}])
        if result.matched_count == len(leases):
            return [lease.execution_id for lease in leases]
        return [document["_id"] for document in self._executions.find(fence, {"_id": True})]

    def close(self) -> None:
        with pymongo.timeout(CLOSE_SECONDS):
            self._client.close()
