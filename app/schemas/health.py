"""Responses on the state of the service."""

from typing import Literal

from pydantic import Field

from app.schemas.json_types import OutputModel


class Pong(OutputModel):
    """The response to a ping."""

    message: Literal["pong"] = "pong"


class Liveness(OutputModel):
    """The process responds."""

    status: Literal["live"] = "live"


class Readiness(OutputModel):
    """Every part of the service works."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str] = Field(
        description="The state of each part.", examples=[{"database": "ok", "redis": "ok"}]
    )
    warnings: dict[str, str] = Field(
        description="What needs the attention of an operator although the service works, for "
        "example `slots`: due executions have waited for slots of the worker for 10 s."
    )
