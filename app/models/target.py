"""Where a job's attempts go, as stored with the job. `app/targets/` delivers to them."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from app.models.record import Record


class HttpMethod(StrEnum):
    """The methods an http target may use."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    HEAD = "HEAD"


BODILESS_METHODS = frozenset({HttpMethod.GET, HttpMethod.DELETE, HttpMethod.HEAD})
"""Methods that send a body only where the user gives one."""


class HttpTargetSpec(Record):
    """An HTTP request for each attempt."""

    type: Literal["http"] = "http"
    method: HttpMethod = HttpMethod.POST
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    """What is sent: a string as it is, anything else as JSON; None sends the standard envelope."""
    success_statuses: tuple[int, ...] | None = None
    """Status codes that count as success; None means 200 to 299."""


class LogTargetSpec(Record):
    """A line in the service's own log for each attempt."""

    type: Literal["log"] = "log"


TargetSpec = Annotated[HttpTargetSpec | LogTargetSpec, Field(discriminator="type")]

WELL_KNOWN_PORTS = frozenset({80, 443})
FIRST_UNPRIVILEGED_PORT = 1024
