"""Ids: UUIDv7 (RFC 9562) as 32 hex digits, created before the insert and ordered by time."""

import re
from collections.abc import Callable

NewId = Callable[[], str]
"""Creates a new id."""

_ID = re.compile(r"[0-9a-f]{32}\Z")


def uuid7(milliseconds: int, entropy: bytes) -> str:
    """Return the UUIDv7 of a Unix time and at least ten random bytes, as 32 hex digits."""
    random = int.from_bytes(entropy[:10], "big")
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (random >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    return f"{value:032x}"


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id. Other texts are treated like unknown ids."""
    return _ID.match(text) is not None
