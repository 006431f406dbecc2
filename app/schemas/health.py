"""The answers about the service itself."""

from typing import Literal

from pydantic import BaseModel, Field


class Pong(BaseModel):
    """The answer to a ping."""

    message: Literal["pong"] = "pong"


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Every part works."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str] = Field(
        description="Each part and how it is.", examples=[{"database": "ok", "redis": "ok"}]
    )
