"""The response to a sign-in."""

from typing import Literal

from pydantic import Field

from app.schemas.json_types import OutputModel


class TokenOut(OutputModel):
    """An access token, sent as `Authorization: Bearer …`."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds until it expires.", examples=[3600])
