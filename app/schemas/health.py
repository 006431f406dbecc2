"""The answers about the service itself."""

from typing import Literal

from pydantic import Field

from app.schemas.json_types import OutputModel


class Pong(OutputModel):
    """The answer to a ping."""

    message: Literal["pong"] = "pong"


class Live(OutputModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(OutputModel):
    """Every part works."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str] = Field(
        description="Each part and how it is.", examples=[{"database": "ok", "redis": "ok"}]
    )
