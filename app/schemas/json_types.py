"""The types of values in requests, and the base classes of request and response models.

The types reject values that JSON or Python can express but that the database, the API or
arithmetic with times cannot handle: NUL and lone surrogates, huge and infinite numbers, deep
nesting, years outside 2000 to 2100.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NoReturn
from zoneinfo import available_timezones

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.clock import truncate_to_milliseconds
from app.errors import InvalidInputError
from app.models.record import DOCUMENTED
from app.schemas.suggestions import advise_on_zone

MAX_JSON_DEPTH = 32
MAX_JSON_BYTES = 65_536
MAX_INTEGER = 2**63 - 1
"""The largest integer in BSON. The smallest one is -MAX_INTEGER - 1."""

FIRST_YEAR = 2000
LAST_YEAR = 2100

MAX_MEMBERS = 50
"""The largest number of members of an object with fixed fields, unknown ones included. It is more
than any of them has fields."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
UNSTORABLE_TEXT = "the text must not contain NUL or lone surrogates"
_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
# These names stand for the setting of the machine, or for no time zone.
_NOT_ZONES = frozenset({"localtime", "Factory", "posixrules"})


class InputModel(BaseModel):
    """A request body or a part of one. It rejects unknown fields.

    The field types Text, Flag, Integer and Number do not convert values. A field that is a list or
    an object has a length (`AtMost`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that only responses have. They are rejected with a text of their own."""

    @model_validator(mode="before")
    @classmethod
    def _check_number_of_members(cls, value: Any) -> Any:
        return _check_length(value, MAX_MEMBERS)


class EditModel(InputModel):
    """An edit, or a part of one. It ignores the fields that only responses have, so that what was
    read can be sent back."""

    ignored_fields: ClassVar[frozenset[str]]

    @model_validator(mode="before")
    @classmethod
    def _drop_ignored_fields(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if name not in cls.ignored_fields}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        shown = handler(schema)
        properties = handler.resolve_ref_schema(shown)["properties"]
        for name in sorted(cls.ignored_fields):
            properties[name] = {"description": "Ignored. Only responses have this field."}
        return shown


class OutputModel(BaseModel):
    """A response body or a part of one. It always has all its fields."""

    model_config = ConfigDict(from_attributes=True, **DOCUMENTED)


def without_defaults(schema: dict[str, Any]) -> None:
    """Remove the defaults from the OpenAPI schema of an edit, where an absent field stays."""
    for field in schema["properties"].values():
        field.pop("default", None)


def _check_length(value: Any, most: int) -> Any:
    match value:
        case dict() if len(value) > most:
            reject(f"an object here may have at most {most} members, not {len(value)}")
        case list() | tuple() if len(value) > most:
            reject(f"a list here may have at most {most} items, not {len(value)}")
    return value


@dataclass(frozen=True, slots=True)
class AtMost:
    """Annotation: the largest number of items of a list, or of members of an object.

    The number is checked before the items. pydantic's `max_length` is checked after them: then each
    wrong item has cost time and memory for an error already.
    """

    most: int

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def check(value: Any) -> Any:
            return _check_length(value, self.most)

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        shown = handler(schema)
        keyword = "maxProperties" if shown["type"] == "object" else "maxItems"
        return {**shown, keyword: self.most}


def reject(detail: str, *below: str | int) -> NoReturn:
    """Reject the value being validated. `below` is the path from it to the wrong part."""
    raise PydanticCustomError("rejected", "{detail}", {"detail": detail, "below": below})


def reject_as(error: InvalidInputError) -> NoReturn:
    """Reject the value being validated, with the detail of `error`."""
    reject(error.detail)


def check_text(text: str) -> str:
    """Return `text` if the database can store it."""
    if _UNSTORABLE.search(text):
        reject(UNSTORABLE_TEXT)
    return text


def check_json(value: Any) -> Any:
    """Return `value` if every part of it can be stored and read back unchanged."""
    _check_part(value, ())
    if len(orjson.dumps(value)) > MAX_JSON_BYTES:
        reject(f"the value must have at most {MAX_JSON_BYTES} bytes as JSON")
    return value


def _check_part(value: Any, path: tuple[str | int, ...]) -> None:
    match value:
        case None | bool():
            return
        case str():
            if _UNSTORABLE.search(value):
                reject(UNSTORABLE_TEXT, *path)
        case int():
            if not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
                reject("an integer must fit into 64 bits with sign", *path)
        case float():
            if not math.isfinite(value):
                reject("a number must be finite", *path)
        case list() | dict():
            if len(path) >= MAX_JSON_DEPTH:
                reject(f"the value must have at most {MAX_JSON_DEPTH} levels of nesting")
            _check_parts(value, path)
        case _:
            reject("this is not a JSON value", *path)


def _check_parts(value: list[Any] | dict[Any, Any], path: tuple[str | int, ...]) -> None:
    if isinstance(value, list):
        for index, part in enumerate(value):
            _check_part(part, (*path, index))
        return
    for key, part in value.items():
        if not isinstance(key, str) or _UNSTORABLE.search(key):
            reject("a key must not contain NUL or lone surrogates", *path)
        _check_part(part, (*path, key))


def _read_instant(value: Any) -> datetime:
    if isinstance(value, datetime):  # from the service itself, not from JSON
        return value
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        reject("send RFC 3339 with an offset: 2026-11-23T09:00:00Z or 2026-11-23T10:00:00+01:00")
    try:
        instant = datetime.fromisoformat(value.upper())
    except ValueError:
        reject("this date or time of day does not exist")
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        reject(f"the year must be from {FIRST_YEAR} to {LAST_YEAR}")
    return truncate_to_milliseconds(instant.astimezone(UTC))


@lru_cache(maxsize=1)
def time_zones() -> frozenset[str]:
    """Every IANA name that a request may use."""
    return frozenset(available_timezones()) - _NOT_ZONES


def _check_zone(name: str) -> str:
    if name not in time_zones():
        reject(f"this is not an IANA time zone; {advise_on_zone(name, time_zones())}")
    return name


def _drop_zero_fraction(seconds: float) -> int | float:
    return int(seconds) if float(seconds).is_integer() else seconds


Text = Annotated[str, Strict(), AfterValidator(check_text)]
Flag = Annotated[bool, Strict()]
Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]

InputInstant = Annotated[datetime, BeforeValidator(_read_instant)]
"""An RFC 3339 instant with an offset, from 2000 to 2100. Its value is in UTC and in whole
milliseconds."""

TimeZone = Annotated[
    Text,
    Field(max_length=64, examples=["Europe/Berlin"]),
    AfterValidator(_check_zone),
]
"""The IANA name of a time zone."""

JsonValue = Annotated[Any, AfterValidator(check_json)]
"""Any JSON, up to 64 KB and 32 levels deep."""

JsonObject = Annotated[dict[str, Any], AfterValidator(check_json)]
"""A JSON object, up to 64 KB and 32 levels deep."""

Seconds = Annotated[
    float,
    PlainSerializer(_drop_zero_fraction, return_type=int | float),
    WithJsonSchema({"type": "number"}, mode="serialization"),
]
"""A duration in a response: 60, not 60.0."""
