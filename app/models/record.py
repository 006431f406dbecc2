"""What every stored shape has in common."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

DOCUMENTED = ConfigDict(
    json_schema_serialization_defaults_required=True, use_attribute_docstrings=True
)
"""For the document: an answer has every field, and docstrings of fields describe them."""


class Record(BaseModel):
    """A frozen value. Unknown fields of a stored document are ignored, so that a document written
    by a newer release does not stop an older process during a rolling restart."""

    model_config = ConfigDict(frozen=True, extra="ignore", **DOCUMENTED)


def rfc3339(instant: datetime) -> str:
    """The one form of instants in answers: UTC, milliseconds only where there are any."""
    unit = "milliseconds" if instant.microsecond >= 1000 else "seconds"
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=unit) + "Z"


Instant = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""An instant that answers show."""
