"""The shape of every error response: problem details, RFC 9457."""

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_JSON = "application/problem+json"


class FieldProblem(BaseModel):
    """One invalid part of the request."""

    pointer: str = Field(
        description="JSON pointer into the body. `/query/…`, `/path/…` and `/header/…` name "
        "parameters and headers.",
        examples=["/schedules/0/cron_expression"],
    )
    detail: str = Field(
        examples=[
            "cron expression: an expression has 5 fields (minute hour day-of-month month "
            "day-of-week), not 4"
        ]
    )


class Problem(BaseModel):
    """What is wrong, for people (`detail`) and for programs (`type`, `errors`)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:carillon:problem:not_found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such job."])
    instance: str = Field(description="The path of the request.", examples=["/jobs/42"])
    request_id: str | None = Field(
        default=None, description="The value of the X-Request-ID header."
    )
    errors: list[FieldProblem] | None = Field(
        default=None, description="In a 422: the invalid fields, at most 50."
    )
