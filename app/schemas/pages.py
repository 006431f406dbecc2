"""Pages of a listing, and the cursors between them.

A cursor is opaque to clients. It contains the position of the last item of a page, and a checksum
that only detects mistakes. A forged cursor is harmless, because each query also filters by owner.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import Field

from app.errors import InvalidInputError
from app.schemas.json_types import InputModel, OutputModel, Text

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_MAX_CURSOR_LENGTH = 2_000
"""A cursor in the order of names contains a name: 200 characters of at most 6 bytes each in JSON,
and base64 makes 4 characters of 3 bytes."""
# Only for the OpenAPI document: the check of the cursor has a clearer error message.
_BASE64: Any = {"json_schema_extra": {"pattern": "^[A-Za-z0-9_-]*$"}}

Item = TypeVar("Item")


class ItemFields(StrEnum):
    """Which fields the items of a listing have."""

    PARTIAL = "partial"
    """All fields but those that may be large."""
    FULL = "full"
    """The fields of an item that is read by its id."""


class PageQuery(InputModel):
    """The size and the position of a page, and the fields of its items."""

    limit: int = Field(
        default=DEFAULT_LIMIT,
        ge=1,
        le=MAX_LIMIT,
        description="The maximum number of items. A page has fewer if it would be larger than "
        "about 4 MB.",
    )
    cursor: Annotated[Text, Field(max_length=_MAX_CURSOR_LENGTH, **_BASE64)] | None = Field(
        default=None, description="The `next_cursor` of the previous page."
    )
    fields: ItemFields = Field(
        default=ItemFields.PARTIAL,
        description="`full`: items with all fields. `partial`: items without the large fields.",
    )


PARTIAL = (
    "The item lacks its large fields. They are not null: read the item by its id, or list with "
    "`fields=full`."
)
"""The description of the field `partial`."""

NOT_IN_CURSOR = frozenset({"limit", "cursor", "fields"})
"""The parameters that may differ between the pages of a listing."""


class Page(OutputModel, Generic[Item]):
    """A page of a listing."""

    items: list[Item]
    next_cursor: str | None = Field(
        description="Send it as `cursor` to get the next page; null on the last page. Only this "
        "says which page is the last one, not the number of items."
    )


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """The items of a page in order, and how the listing continues."""

    items: Sequence[Item]
    has_more: bool
    cursor_after: Callable[[Item], str]

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page; None on the last page."""
        return self.cursor_after(self.items[-1]) if self.has_more else None

    def cut(self, count: int) -> "Listing[Item]":
        """The page with only its first items."""
        if count >= len(self.items):
            return self
        return Listing(self.items[:count], True, self.cursor_after)


def encode_cursor(query: str, position: list[str]) -> str:
    """The cursor of the page after `position`, valid only for `query` (its order and filters)."""
    return _encode_base64([_checksum(query, position), *position])


def decode_cursor(query: str, cursor: str) -> list[str]:
    """The position. Raises InvalidInputError, also for the cursor of another query.

    The checksum only detects mistakes, see the docstring of this module.
    """
    match _decode_base64(cursor):
        case [str(checksum), *position] if all(isinstance(part, str) for part in position):
            if checksum == _checksum(query, position):
                return position
    raise make_cursor_error()


def _checksum(query: str, position: list[str]) -> str:
    return hashlib.sha256(orjson.dumps([query, *position])).hexdigest()[:16]


def _encode_base64(position: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def _decode_base64(cursor: str) -> Any:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise make_cursor_error() from None


def make_cursor_error() -> InvalidInputError:
    """The error for a text that is not a cursor of this listing."""
    return InvalidInputError.at(
        "/query/cursor",
        "this is not a cursor of this listing; send the next_cursor of the previous page "
        "unchanged, with the same filters and sort",
    )
