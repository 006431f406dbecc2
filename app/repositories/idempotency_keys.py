"""The `idempotency_keys` collection. A TTL index deletes what has expired."""

from datetime import datetime

from pymongo.errors import DuplicateKeyError

from app.models.idempotency import IdempotencyKey, StoredResponse
from app.repositories.documents import from_document, to_document
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
        """Store a key that nobody has used; False when somebody has."""
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
        """Store `key` if it is held as in `expected` and has no answer that `expected` lacks."""
        held: Document = {"_id": key.id, "holder": expected.holder}
        if expected.answer is None:
            held["answer"] = None
        return (await self._keys.replace_one(held, to_document(key))).matched_count == 1

    @database_call
    async def answer(self, key: IdempotencyKey, answer: StoredResponse) -> bool:
        """Store the answer, if the key is still held by the same request."""
        held = {"_id": key.id, "holder": key.holder}
        changes = {"answer": answer.model_dump()}
        return (await self._keys.update_one(held, {"$set": changes})).matched_count == 1

    @database_call
    async def delete(self, key: IdempotencyKey) -> bool:
        """Forget the key, if it is still held by the same request."""
        held = {"_id": key.id, "holder": key.holder}
        return (await self._keys.delete_one(held)).deleted_count == 1
