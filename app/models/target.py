"""The target of a job, as stored with the job. `app/targets/` delivers to it."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from app.models.record import Record


class HttpMethod(StrEnum):
    """The methods that an http target may use."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    HEAD = "HEAD"


BODILESS_METHODS = frozenset({HttpMethod.GET, HttpMethod.DELETE, HttpMethod.HEAD})
"""Methods that send a body only if the user gives one."""


class HttpTargetSpec(Record):
    """An HTTP request for each attempt."""

    type: Literal["http"] = "http"
    method: HttpMethod = HttpMethod.POST
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    """A string is sent unchanged, any other value as JSON; None sends the standard envelope."""
    success_statuses: tuple[int, ...] | None = None
    """Status codes that count as success; None means 200 to 299."""


class LogTargetSpec(Record):
    """A line in the service's own log for each attempt."""

    type: Literal["log"] = "log"


TargetSpec = Annotated[HttpTargetSpec | LogTargetSpec, Field(discriminator="type")]

FIRST_STATUS_CODE = 100
LAST_STATUS_CODE = 599

FIRST_UNPRIVILEGED_PORT = 1024
_WELL_KNOWN_PORTS = frozenset({80, 443})


def is_allowed_port(port: int) -> bool:
    """Whether the service connects to this port of a receiver."""
    return port in _WELL_KNOWN_PORTS or port >= FIRST_UNPRIVILEGED_PORT
