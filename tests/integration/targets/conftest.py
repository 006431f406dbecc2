"""A receiver, and an http target that may connect to this machine."""

from collections.abc import AsyncIterator

import pytest

from app.targets.http import HttpTarget
from tests.support.http_target import open_target
from tests.support.receiver import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def target() -> AsyncIterator[HttpTarget]:
    async with open_target() as target:
        yield target
