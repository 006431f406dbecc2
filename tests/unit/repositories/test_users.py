"""Reads and writes of users.

They use mongomock, which is fast and sufficient for single reads and writes. Claims, leases and
batches are tested on a real mongod.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from mongomock_motor import AsyncMongoMockClient

from app.models.user import Role, User
from app.repositories.mongo import Database
from app.repositories.users import UserRepository
from tests.support.clock import ManualClock

AT = datetime(2026, 11, 23, tzinfo=UTC)
ALICE = User(
    id="a" * 32,
    username="alice",
    password_hash="old",
    role=Role.EDITOR,
    tokens_valid_from=AT,
    created_at=AT,
    updated_at=AT,
)


@pytest.fixture
async def users() -> UserRepository:
    client: Any = AsyncMongoMockClient(tz_aware=True)
    database = Database(client, "test", clock=ManualClock())
    await database.collection("users").create_index("username", unique=True)
    return UserRepository(database)


async def test_a_user_is_found_by_id_and_by_name(users: UserRepository) -> None:
    assert await users.insert(ALICE)
    assert await users.find(ALICE.id) == ALICE
    assert await users.find_by_username("alice") == ALICE
    assert await users.find("b" * 32) is None


async def test_a_username_is_unique(users: UserRepository) -> None:
    assert not await users.any_exists()
    assert await users.insert(ALICE)
    assert await users.any_exists()
    assert not await users.insert(ALICE.model_copy(update={"id": "b" * 32}))


async def test_a_password_hash_is_replaced_only_if_it_is_the_expected_one(
    users: UserRepository,
) -> None:
    await users.insert(ALICE)
    assert await users.set_password_hash(ALICE.id, "old", "new")
    assert not await users.set_password_hash(ALICE.id, "old", "newer")
    found = await users.find(ALICE.id)
    assert found is not None
    assert found.password_hash == "new"
