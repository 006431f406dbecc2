"""A sign-in and its response."""

from typing import Annotated, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, Strict

from app.errors import InvalidInputError
from app.schemas.json_types import OutputModel


class SignIn(BaseModel):
    """A user name and a password. Other fields of OAuth2, such as `scope`, are ignored."""

    model_config = ConfigDict(frozen=True)

    grant_type: Literal["password"] | None = None
    username: Annotated[str, Strict()]
    password: Annotated[str, Strict()] = Field(repr=False, json_schema_extra={"format": "password"})


def parse_form(body: bytes) -> dict[str, str]:
    """The fields of a form. Raises InvalidInputError if the form has a field of `SignIn` twice."""
    fields: dict[str, str] = {}
    for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        if name in fields and name in SignIn.model_fields:
            raise InvalidInputError.at(f"/{name}", "the form has this field twice")
        fields[name] = value
    return fields


class TokenOut(OutputModel):
    """An access token, sent as `Authorization: Bearer …`."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds until it expires.", examples=[3600])
