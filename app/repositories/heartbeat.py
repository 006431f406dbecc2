"""Renewal of leases with a client of its own, for the heartbeat's thread.

It is synchronous on purpose: a busy event loop must not be able to starve it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from app.clock import Clock
from app.errors import UnavailableError
from app.repositories.mongo import Document, client_options, pick


class Heartbeat:
    """Renews the leases of one owner. For one thread."""

    def __init__(self, uri: str, name: str, *, clock: Clock, timeout: timedelta) -> None:
        self._client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            uri, maxPoolSize=1, **client_options(timeout)
        )
        self._executions = self._client[name]["executions"]
        self._clock = clock

    def renew(self, owner: str, tokens: Mapping[str, int], *, lease: timedelta) -> set[str]:
        """Give the leases (execution id → token) a new term; returns the ids still held.

        Raises UnavailableError, or the driver's own error if the server refuses the request.
        """
        ids = list(tokens)
        held: dict[str, Any] = {
            "_id": {"$in": ids},
            "status": "running",
            "lease_owner": owner,
            "$expr": {"$eq": ["$lease_token", pick(ids, list(tokens.values()))]},
        }
        until = {"$add": [self._clock.now_expression, lease // timedelta(milliseconds=1)]}
        try:
            result = self._executions.update_many(held, [{"$set": {"lease_until": until}}])
            if result.matched_count == len(ids):
                return set(ids)
            return {document["_id"] for document in self._executions.find(held, {"_id": True})}
        except PyMongoError as error:
            raise UnavailableError("The leases could not be renewed.") from error

    def close(self) -> None:
        self._client.close()
