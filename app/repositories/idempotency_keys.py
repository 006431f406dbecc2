"""The `idempotency_keys` collection. A TTL index deletes expired keys."""

from datetime import datetime

from pymongo.errors import DuplicateKeyError

from app.models.idempotency import IdempotencyKey, StoredResponse
from app.repositories.documents import from_document, known, to_document
from app.repositories.mongo import Database, Document, database_call


class IdempotencyKeyRepository:
    """Reservations by compare-and-set on `holder`. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = database.collection("idempotency_keys")

    async def now(self) -> datetime:
        """The database's present instant."""
        return await self._database.now()

    @database_call
    async def insert(self, key: IdempotencyKey) -> bool:
        """Store a key that nobody has used; False if somebody has."""
        try:
            await self._keys.insert_one(to_document(key))
        except DuplicateKeyError:
            return False
        return True

    @database_call
    async def find(self, key_id: str) -> IdempotencyKey | None:
        document = await self._keys.find_one({"_id": key_id})
        return None if document is None else from_document(IdempotencyKey, document)

    @database_call
    async def replace(self, key: IdempotencyKey, *, expected: IdempotencyKey) -> bool:
        """Replace the stored key by `key`, if its holder is still that of `expected` and if it has
        no response where `expected` has none."""
        unchanged = _held_as(expected)
        if expected.response is None:
            unchanged["response"] = None
        return (await self._keys.replace_one(unchanged, to_document(key))).matched_count == 1

    @database_call
    async def store_response(self, key: IdempotencyKey, response: StoredResponse) -> bool:
        """Store the response, if the same request still holds the key."""
        changes = {"response": response.model_dump()}
        result = await self._keys.update_one(_held_as(key), {"$set": changes})
        return result.matched_count == 1

    @database_call
    async def delete(self, key: IdempotencyKey) -> bool:
        """Delete the key, if the same request still holds it."""
        return (await self._keys.delete_one(_held_as(key))).deleted_count == 1


def _held_as(key: IdempotencyKey) -> Document:
    return known(IdempotencyKey) | {"_id": key.id, "holder": key.holder}
