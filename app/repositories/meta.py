"""The `meta` collection: facts about the whole database."""

from pymongo.errors import DuplicateKeyError

from app.repositories.documents import FIRST_SCHEMA
from app.repositories.mongo import Database, Document, database_call

_SCHEMA = "schema"


class MetaRepository:
    """The database's schema version. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._meta = database.collection("meta")

    async def get_schema_version(self) -> int:
        """The highest schema number that a document may have."""
        return await self._read("schema_version")

    async def get_migrated_version(self) -> int:
        """The schema number that every document has at least."""
        return await self._read("migrated_version")

    async def raise_schema_version(self, number: int) -> None:
        """Announce documents of this schema number. Call it before the first one is written."""
        await self._raise("schema_version", number)

    async def raise_migrated_version(self, number: int) -> None:
        """Note that no document has a lower number."""
        await self._raise("migrated_version", number)

    @database_call
    async def _read(self, field: str) -> int:
        document: Document = await self._meta.find_one({"_id": _SCHEMA}) or {}
        number = document.get(field)
        return number if isinstance(number, int) else FIRST_SCHEMA

    @database_call
    async def _raise(self, field: str, number: int) -> None:
        # A value that is not a number counts as absent: `$max` ignores null.
        present = {"$cond": [{"$isNumber": f"${field}"}, f"${field}", None]}
        change = [{"$set": {field: {"$max": [number, present]}}}]
        try:
            await self._meta.update_one({"_id": _SCHEMA}, change, upsert=True)
        except DuplicateKeyError:  # another process has inserted it meanwhile
            await self._meta.update_one({"_id": _SCHEMA}, change)
