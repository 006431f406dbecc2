"""Targets in requests."""

from typing import Annotated, Any, Literal

from pydantic import Field, Strict, field_validator

from app.errors import InvalidInputError
from app.models.policy import StatusCode
from app.models.target import HttpMethod, LogTargetSpec
from app.schemas.json_types import AtMost, InputModel, JsonValue, OutputModel, Text, reject_as
from app.schemas.target_rules import MAX_SENT_HEADERS, check_headers, check_url

_StrictStatusCode = Annotated[StatusCode, Strict()]


class _HttpFields(InputModel):
    """The fields of an http target."""

    method: HttpMethod = HttpMethod.POST
    headers: Annotated[dict[Text, Text], AtMost(MAX_SENT_HEADERS)] = Field(
        default_factory=dict, examples=[{"Authorization": "Bearer …"}]
    )
    body: JsonValue = Field(
        default=None,
        description="A string is sent unchanged, any other value as JSON; null sends the standard "
        "envelope.",
    )
    success_statuses: (
        Annotated[tuple[_StrictStatusCode, ...], Field(min_length=1), AtMost(50)] | None
    ) = Field(default=None, description="Status codes that count as success; null: 200 to 299.")

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        try:
            check_headers(headers)
        except InvalidInputError as error:
            reject_as(error)
        return headers


def _check_url(url: str) -> str:
    try:
        check_url(url)
    except InvalidInputError as error:
        reject_as(error)
    return url


class HttpTargetIn(_HttpFields):
    """An HTTP request for each attempt."""

    type: Literal["http"]
    url: Text = Field(examples=["https://example.com/hook"])

    _url = field_validator("url")(_check_url)


class LogTargetIn(InputModel):
    """A line in the service's own log for each attempt."""

    type: Literal["log"]


TargetIn = Annotated[HttpTargetIn | LogTargetIn, Field(discriminator="type")]


class TargetChange(_HttpFields):
    """The fields to change of a target. Another `type` replaces the target."""

    type: Literal["http", "log"] = Field(default="http", description="Without it the type stays.")
    url: Text = Field(default="", examples=["https://example.com/hook"])

    _url = field_validator("url")(_check_url)

    def given_fields(self) -> dict[str, Any]:
        """The fields that the body names, without `type`."""
        return self.model_dump(exclude_unset=True, exclude={"type"})

    @property
    def given_type(self) -> str | None:
        return self.type if "type" in self.model_fields_set else None


class PartialHttpTarget(OutputModel):
    """An http target without `headers` and `body`."""

    type: Literal["http"]
    method: HttpMethod
    url: str
    success_statuses: tuple[int, ...] | None = Field(
        description="Status codes that count as success; null: 200 to 299."
    )


PartialTarget = Annotated[PartialHttpTarget | LogTargetSpec, Field(discriminator="type")]
