"""The base class of frozen values, and the JSON form of instants."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
)

DOCUMENTED = ConfigDict(
    json_schema_serialization_defaults_required=True, use_attribute_docstrings=True
)
"""For the OpenAPI document: a response has every field, and the docstring of a field is its
description."""


class Record(BaseModel):
    """A frozen value. It ignores fields of a stored document that the class does not have, such as
    `schema`."""

    model_config = ConfigDict(frozen=True, extra="ignore", **DOCUMENTED)


def rfc3339(instant: datetime) -> str:
    """The form of instants in responses: UTC, with milliseconds only if they are not zero."""
    unit = "milliseconds" if instant.microsecond >= 1000 else "seconds"
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=unit) + "Z"


Instant = Annotated[
    AwareDatetime,
    Strict(),
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9000, 1, 1, tzinfo=UTC)),
    PlainSerializer(rfc3339, return_type=str, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""An instant, in the form of `rfc3339` in JSON. Its range leaves room for calculations."""
