"""The types that values from outside have, before any model says what they are for.

They refuse what JSON or Python could express but the database, the API or arithmetic on times
could not take: NUL and lone surrogates, huge or endless numbers, deep nesting, far years.
"""

import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, NoReturn
from zoneinfo import available_timezones

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.clock import to_millisecond
from app.errors import InvalidInputError
from app.models.record import DOCUMENTED

MAX_JSON_DEPTH = 32
MAX_JSON_BYTES = 65_536
MAX_INTEGER = 2**63 - 1
"""What BSON holds; the least is one lower still."""

FIRST_YEAR = 2000
LAST_YEAR = 2100

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
# They name the machine's own setting, or nothing.
_NOT_ZONES = frozenset({"localtime", "Factory", "posixrules"})


class InputModel(BaseModel):
    """A body, or a part of one. Unknown fields are refused; nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OutputModel(BaseModel):
    """An answer, or a part of one. It always has all its fields."""

    model_config = ConfigDict(from_attributes=True, **DOCUMENTED)


def without_defaults(schema: dict[str, Any]) -> None:
    """For the document: in an edit a field that is left out stays as it is."""
    for field in schema["properties"].values():
        field.pop("default", None)


def refuse(detail: str, *below: str | int) -> NoReturn:
    """Refuse the value being validated. `below` leads from it to the part that is wrong."""
    raise PydanticCustomError("refused", "{detail}", {"detail": detail, "below": below})


def refuse_as(error: InvalidInputError) -> NoReturn:
    """Refuse the value being validated, for the reason that a rule of ours gave."""
    refuse(error.detail)


def check_text(text: str) -> str:
    """`text`, if the database can store it."""
    if _UNSTORABLE.search(text):
        refuse("the text must not contain NUL or lone surrogates")
    return text


def check_json(value: Any) -> Any:
    """`value`, if every part of it can be stored and read back unchanged."""
    _check_part(value, ())
    if len(orjson.dumps(value)) > MAX_JSON_BYTES:
        refuse(f"at most {MAX_JSON_BYTES} bytes as JSON are allowed")
    return value


def _check_part(value: Any, path: tuple[str | int, ...]) -> None:
    match value:
        case None | bool():
            return
        case str():
            if _UNSTORABLE.search(value):
                refuse("the text must not contain NUL or lone surrogates", *path)
        case int():
            if not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
                refuse("an integer must fit into 64 bits, signed", *path)
        case float():
            if not math.isfinite(value):
                refuse("a number must be finite", *path)
        case list() | dict():
            if len(path) >= MAX_JSON_DEPTH:
                refuse(f"at most {MAX_JSON_DEPTH} levels of nesting are allowed")
            _check_parts(value, path)
        case _:
            refuse("this is not a JSON value", *path)


def _check_parts(value: list[Any] | dict[Any, Any], path: tuple[str | int, ...]) -> None:
    if isinstance(value, list):
        for index, part in enumerate(value):
            _check_part(part, (*path, index))
        return
    for key, part in value.items():
        if not isinstance(key, str) or _UNSTORABLE.search(key):
            refuse("a key must not contain NUL or lone surrogates", *path)
        _check_part(part, (*path, key))


def _read_instant(value: Any) -> datetime:
    if isinstance(value, datetime):  # from within the service, not from JSON
        return value
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        refuse("an instant is written with its offset, like 2026-11-23T09:00:00Z or …T10:00+01:00")
    try:
        instant = datetime.fromisoformat(value.upper())
    except ValueError:
        refuse("there is no such date or time of day")
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        refuse(f"the year must be from {FIRST_YEAR} to {LAST_YEAR}")
    return to_millisecond(instant.astimezone(UTC))


@lru_cache(maxsize=1)
def time_zones() -> frozenset[str]:
    """Every IANA name that may be used."""
    return frozenset(available_timezones()) - _NOT_ZONES


def _check_zone(name: str) -> str:
    if name not in time_zones():
        refuse("this is not an IANA time zone; an example: Europe/Berlin")
    return name


def _whole(seconds: float) -> int | float:
    return int(seconds) if float(seconds).is_integer() else seconds


Text = Annotated[str, Strict(), AfterValidator(check_text)]
Flag = Annotated[bool, Strict()]
Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]

InputInstant = Annotated[datetime, BeforeValidator(_read_instant)]
"""RFC 3339 with an offset, from 2000 to 2100; in UTC and whole milliseconds from here on."""

TimeZone = Annotated[
    Text,
    Field(max_length=64, examples=["Europe/Berlin"]),
    AfterValidator(_check_zone),
]
"""An IANA name."""

JsonValue = Annotated[Any, AfterValidator(check_json)]
"""Any JSON, up to 64 KB and 32 levels deep."""

JsonObject = Annotated[dict[str, Any], AfterValidator(check_json)]
"""A JSON object, up to 64 KB and 32 levels deep."""

Seconds = Annotated[
    float,
    PlainSerializer(_whole, return_type=int | float),
    WithJsonSchema({"type": "number"}, mode="serialization"),
]
"""A duration in an answer: 60, not 60.0."""
