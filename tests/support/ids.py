"""Ids for documents of tests, made like those of the application."""

import secrets

from app.clock import Clock
from app.models.ids import uuid7


def make_id(clock: Clock) -> str:
    """Return a new id with the time of this clock."""
    return uuid7(int(clock.now().timestamp() * 1000), secrets.token_bytes(10))
