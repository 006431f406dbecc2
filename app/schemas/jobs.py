"""Jobs as requests describe them and answers show them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from app.models.execution import ExecutionStatus
from app.models.job import Job, PauseReason
from app.models.policy import (
    CatchUp,
    CatchUpPolicy,
    OverlapPolicy,
    RetryPolicy,
    RetryReason,
    RetryStrategy,
)
from app.models.record import Instant
from app.models.schedule import Schedule
from app.models.target import TargetSpec
from app.schemas.json_types import (
    Flag,
    Integer,
    JsonObject,
    Number,
    OutputModel,
    Seconds,
    Text,
    refuse,
    without_defaults,
)
from app.schemas.pages import PageQuery
from app.schemas.schedules import ScheduleIn
from app.schemas.short_forms import ShortFormIn, check_complete, check_short_form
from app.schemas.targets import TargetChange, TargetIn

MAX_SCHEDULES = 20
_RETRY_WORDS = frozenset({"timeout", "connection_error", "4xx", "5xx"})


def _is_retry_reason(value: Any) -> Any:
    is_status = type(value) is int and 100 <= value <= 599
    if not is_status and not (isinstance(value, str) and value in _RETRY_WORDS):
        refuse(f"a reason is a status code or one of: {', '.join(sorted(_RETRY_WORDS))}")
    return value


def _without_repetition(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


_Tag = Annotated[Text, Field(min_length=1, max_length=50)]
_RetryReason = Annotated[
    RetryReason | Annotated[int, Field(ge=100, le=599)], BeforeValidator(_is_retry_reason)
]


class RetryIn(RetryPolicy):
    """When a failed attempt is tried again. In an edit, fields left out stay."""

    model_config = ConfigDict(extra="forbid", strict=True)

    strategy: Annotated[RetryStrategy, Field(strict=False)] = RetryStrategy.EXPONENTIAL
    retry_on: Annotated[tuple[_RetryReason, ...], Field(strict=False, max_length=50)] | None = (
        Field(default=None, description="Which failures are tried again; null: every failure.")
    )


class CatchUpIn(CatchUp):
    """How slots are treated that nobody recorded in time. In an edit, fields left out stay."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: Annotated[CatchUpPolicy, Field(strict=False)] = CatchUpPolicy.ONE


class _JobFields(ShortFormIn):
    """What both a new job and an edit may name."""

    description: Text = Field(default="", max_length=2_000)
    active: Flag = Field(default=True, description="False: paused.")
    tags: Annotated[tuple[_Tag, ...], Field(max_length=20), AfterValidator(_without_repetition)] = (
        Field(default=(), examples=[["reports"]])
    )
    parameters: JsonObject = Field(
        default_factory=dict, description="Sent with each attempt; up to 64 KB of JSON."
    )
    schedules: Annotated[tuple[ScheduleIn, ...], Field(max_length=MAX_SCHEDULES)] = Field(
        default=(), description="When it runs; without any it runs only when asked to."
    )
    retry: RetryIn = RetryIn()
    timeout_seconds: Annotated[Number, Field(ge=0.1, le=86_400)] = Field(
        default=60, description="Bounds one attempt."
    )
    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.SKIP,
        description="What happens to a slot while an execution of this job is still live.",
    )
    catch_up: CatchUpIn = CatchUpIn()

    @model_validator(mode="after")
    def _short_form_fits(self) -> Self:
        check_short_form(self)
        short = self.short_fields()
        if short and "schedules" in self.model_fields_set:
            refuse(f"{short[0]} may not be mixed with schedules", short[0])
        return self

    def wanted_schedules(self) -> "list[WantedSchedule]":
        """The schedules of a new job, or those that replace the present ones."""
        form = self.short_form()
        if form is not None:
            return [WantedSchedule(form.schedule(), "", form.pointers)]
        return [WantedSchedule(s, f"/schedules/{i}", {}) for i, s in enumerate(self.schedules)]


class JobCreate(_JobFields):
    """A new job."""

    name: Text = Field(min_length=1, max_length=200, examples=["weekly-report"])
    target: TargetIn | None = Field(default=None, description="Left out: the `log` target.")

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        check_complete(self)
        return self


class JobUpdate(_JobFields):
    """What is named is changed, what is left out stays."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: Text = Field(default="", min_length=1, max_length=200)
    target: TargetChange = TargetChange()


class JobSort(StrEnum):
    """The orders of a listing. Each is an index; what changes at every firing has none."""

    OLDEST = "created_at"
    NEWEST = "-created_at"
    NAME = "name"
    NAME_REVERSED = "-name"


class JobQuery(PageQuery):
    """Which jobs a listing shows."""

    active: bool | None = Field(default=None, description="False: paused ones.")
    tag: _Tag | None = Field(default=None, description="Jobs that carry this tag.")
    target_type: Literal["http", "log"] | None = Field(
        default=None, description="Jobs with this type of target."
    )
    status: ExecutionStatus | None = Field(
        default=None, description="Of the newest execution that has finished."
    )
    q: Annotated[Text, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="How the name begins; case does not matter."
    )
    sort: JobSort | None = Field(
        default=None, description="Left out: `name` with `q`, else `-created_at`."
    )

    @property
    def order(self) -> JobSort:
        return self.sort or (JobSort.NAME if self.q else JobSort.NEWEST)


@dataclass(frozen=True, slots=True)
class WantedSchedule:
    """A schedule as a body describes it, and where in the body it stands."""

    schedule: ScheduleIn
    prefix: str
    """The JSON pointer of the object whose fields describe it."""
    pointers: Mapping[str, str]
    """Of the fields that do not stand under their own name."""

    def pointer(self, field: str) -> str:
        return self.pointers.get(field, f"{self.prefix}/{field}")


class RetryOut(RetryPolicy):
    """When a failed attempt is tried again."""

    model_config = ConfigDict(from_attributes=True)

    delay_seconds: Seconds
    max_delay_seconds: Seconds


class JobOut(OutputModel):
    """A job."""

    id: str
    owner_id: str
    name: str
    description: str
    active: bool
    pause_reason: PauseReason | None = Field(
        description="Why the service has paused the job: `gone` after a 410 of its receiver. Null "
        "where a user has, and for an active job."
    )
    tags: tuple[str, ...]
    target: TargetSpec
    parameters: dict[str, Any]
    schedules: tuple[Schedule, ...]
    retry: RetryOut
    timeout_seconds: Seconds
    overlap_policy: OverlapPolicy
    catch_up: CatchUp
    next_run: Instant | None = Field(description="The coming slot; null if none is to come.")
    last_run: Instant | None = Field(
        description="The newest slot that has finished; up to 60 s behind."
    )
    last_status: ExecutionStatus | None
    revision: Integer
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls.model_validate(job)
