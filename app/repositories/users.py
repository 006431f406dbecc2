"""The `users` collection."""

from pymongo.errors import DuplicateKeyError

from app.models.user import User
from app.repositories.documents import from_document, to_document
from app.repositories.mongo import Database, database_call


class UserRepository:
    """Reads and writes of users. Every method may raise UnavailableError."""

    def __init__(self, database: Database) -> None:
        self._users = database.collection("users")

    @database_call
    async def insert(self, user: User) -> bool:
        """Store a new user; False if the name is taken."""
        try:
            await self._users.insert_one(to_document(user))
        except DuplicateKeyError:
            return False
        return True

    @database_call
    async def find(self, user_id: str) -> User | None:
        document = await self._users.find_one({"_id": user_id})
        return None if document is None else from_document(User, document)

    @database_call
    async def find_by_username(self, username: str) -> User | None:
        document = await self._users.find_one({"username": username})
        return None if document is None else from_document(User, document)

    @database_call
    async def any_exists(self) -> bool:
        return await self._users.find_one({}, {"_id": True}) is not None

    @database_call
    async def set_password_hash(self, user_id: str, old_hash: str, new_hash: str) -> bool:
        """Store a hash of the same password with newer parameters; False if it has changed."""
        result = await self._users.update_one(
            {"_id": user_id, "password_hash": old_hash}, {"$set": {"password_hash": new_hash}}
        )
        return result.matched_count == 1
