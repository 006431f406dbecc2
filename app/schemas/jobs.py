"""Jobs in requests and in responses."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    model_validator,
)

from app.models.execution import ExecutionStatus
from app.models.job import LONGEST_TIMEOUT_SECONDS, Job, PauseReason
from app.models.policy import (
    RETRY_REASONS,
    CatchUpMode,
    CatchUpPolicy,
    OverlapPolicy,
    RetryPolicy,
    RetryReason,
    RetryStrategy,
    StatusCode,
)
from app.models.record import Instant
from app.models.schedule import MAX_SCHEDULES, Schedule
from app.models.target import FIRST_STATUS_CODE, LAST_STATUS_CODE, TargetSpec
from app.schemas.json_types import (
    AtMost,
    EditModel,
    Flag,
    InputInstant,
    InputModel,
    Integer,
    JsonObject,
    Number,
    OutputModel,
    Seconds,
    Text,
    check_text,
    reject,
    without_defaults,
)
from app.schemas.pages import PARTIAL, Page, PageQuery
from app.schemas.schedules import ScheduleEdit, ScheduleIn
from app.schemas.short_forms import ShortFormIn, check_combination, check_completeness
from app.schemas.targets import PartialTarget, TargetChange, TargetIn

_ONLY_IN_RESPONSES = frozenset(
    {
        *("id", "owner_id", "revision", "created_at", "updated_at", "last_run", "last_status"),
        *("pause_reason", "effective_timeout_seconds"),
    }
)


def _check_retry_reason(value: Any) -> Any:
    is_status = type(value) is int and FIRST_STATUS_CODE <= value <= LAST_STATUS_CODE
    if not is_status and not (isinstance(value, str) and value in RETRY_REASONS):
        reject(f"send a status code or one of: {', '.join(sorted(RETRY_REASONS))}")
    return value


def _check_partial(value: Any) -> Any:
    if value is not True:
        reject("send true, as listings do, or omit this field; absent fields stay in any case")
    return value


def _remove_duplicates(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


# The length comes before the validator of `Text`, so that pydantic's message says "characters".
_JobName = Annotated[str, Strict(), Field(min_length=1, max_length=200), AfterValidator(check_text)]
_Tag = Annotated[str, Strict(), Field(min_length=1, max_length=50), AfterValidator(check_text)]
_RetryReason = Annotated[RetryReason | StatusCode, BeforeValidator(_check_retry_reason)]


class RetryPolicyIn(RetryPolicy, InputModel):
    """When another attempt follows a failed one. In an edit, absent fields stay."""

    model_config = ConfigDict(extra="forbid", strict=True)

    strategy: Annotated[RetryStrategy, Field(strict=False)] = RetryStrategy.EXPONENTIAL
    retry_on: Annotated[tuple[_RetryReason, ...], Field(strict=False), AtMost(50)] | None = Field(
        default=None,
        description="The failures after which the attempt is repeated; null: all. Status 410 and "
        "a request that cannot be sent are never retried.",
    )


class CatchUpPolicyIn(CatchUpPolicy, InputModel):
    """What happens to late slots: no process was scheduling at their time. In an edit, absent
    fields stay."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: Annotated[CatchUpMode, Field(strict=False)] = CatchUpMode.ONE


class JobFields(ShortFormIn):
    """The fields that a new job and an edit have in common."""

    description: Text = Field(default="", max_length=2_000)
    active: Flag = Field(default=True, description="False: the job is paused.")
    tags: Annotated[tuple[_Tag, ...], AtMost(20), AfterValidator(_remove_duplicates)] = Field(
        default=(), examples=[["reports"]]
    )
    parameters: JsonObject = Field(
        default_factory=dict, description="Sent with each attempt. Up to 64 KB of JSON."
    )
    schedules: Annotated[tuple[ScheduleIn, ...], AtMost(MAX_SCHEDULES)] = Field(
        default=(), description="When the job runs. Without schedules it runs only by `execute`."
    )
    retry: RetryPolicyIn = RetryPolicyIn()
    timeout_seconds: Annotated[Number, Field(ge=0.1, le=LONGEST_TIMEOUT_SECONDS)] = Field(
        default=60,
        description="The maximum duration of one attempt. The service may have a lower limit:"
        " `MAX_TIMEOUT_SECONDS`, by default 3600.",
    )
    overlap_policy: OverlapPolicy = Field(
        default=OverlapPolicy.SKIP,
        description="What happens to a slot while another execution of this job is live.",
    )
    catch_up: CatchUpPolicyIn = CatchUpPolicyIn()

    @model_validator(mode="after")
    def _check_short_form(self) -> Self:
        check_combination(self)
        short = self.given_short_fields()
        if short and "schedules" in self.model_fields_set:
            reject(f"{short[0]} cannot be combined with schedules", short[0])
        return self


class JobCreate(JobFields):
    """A new job."""

    output_fields = _ONLY_IN_RESPONSES

    name: _JobName = Field(examples=["weekly-report"])
    target: TargetIn | None = Field(
        default=None, description="Without it the job has the `log` target."
    )

    @model_validator(mode="before")
    @classmethod
    def _reject_partial(cls, body: Any) -> Any:
        if isinstance(body, dict) and "partial" in body:
            reject(
                "this is a partial item of a listing, which lacks fields; read the job by its id "
                "or with fields=full, and send it without this field",
                "partial",
            )
        return body

    @model_validator(mode="after")
    def _check_short_form_completeness(self) -> Self:
        check_completeness(self)
        return self


class JobUpdate(JobFields, EditModel):
    """The fields to change; the others stay."""

    ignored_fields = _ONLY_IN_RESPONSES

    # The defaults are never used: only given fields are read (`model_fields_set`).
    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: _JobName = ""
    target: TargetChange = TargetChange()
    partial: Annotated[Literal[True], BeforeValidator(_check_partial)] = Field(
        default=True,
        description="An item of a listing has this field. It is ignored: fields that the body does "
        "not have stay in any case.",
    )
    schedules: Annotated[tuple[ScheduleEdit, ...], AtMost(MAX_SCHEDULES)] = Field(
        default=(), description="When the job runs. They replace the present ones."
    )
    next_run: InputInstant | None = Field(
        default=None,
        description="Beside `interval`: another name of `start_time`. Otherwise ignored: responses "
        "have this field too.",
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_next_run_of_response(cls, body: Any) -> Any:
        if isinstance(body, dict) and body.get("interval") is None:
            return {name: value for name, value in body.items() if name != "next_run"}
        return body


class JobSort(StrEnum):
    """The orders of a listing. Each has an index. Fields that change with every firing are not
    among them, because their index would change with every firing too."""

    OLDEST = "created_at"
    NEWEST = "-created_at"
    NAME = "name"
    NAME_REVERSED = "-name"


class JobQuery(PageQuery):
    """The filters and the order of a listing of jobs."""

    active: bool | None = Field(default=None, description="False: paused jobs.")
    tag: _Tag | None = Field(default=None, description="Jobs with this tag.")
    target_type: Literal["http", "log"] | None = Field(
        default=None, description="Jobs with this type of target."
    )
    status: ExecutionStatus | None = Field(
        default=None, description="Jobs whose newest finished execution has this status."
    )
    q: Annotated[Text, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="Jobs whose name starts with this text, ignoring case."
    )
    sort: JobSort | None = Field(
        default=None, description="Default: `name` with `q`, else `-created_at`."
    )

    @property
    def order(self) -> JobSort:
        return self.sort or (JobSort.NAME if self.q else JobSort.NEWEST)


class RetryPolicyOut(RetryPolicy):
    """When another attempt follows a failed one."""

    model_config = ConfigDict(from_attributes=True)

    delay_seconds: Seconds
    max_delay_seconds: Seconds


class _JobOut(OutputModel):
    """The fields of a job in every response."""

    id: str
    owner_id: str
    name: str
    description: str
    active: bool
    pause_reason: PauseReason | None = Field(
        description="Why the service paused the job: `gone` after the receiver returned 410, "
        "`unreadable` after its stored document was found to be malformed. "
        "Null if a user paused it, and for an active job."
    )
    tags: tuple[str, ...]
    schedules: tuple[Schedule, ...]
    retry: RetryPolicyOut
    timeout_seconds: Seconds
    effective_timeout_seconds: Seconds = Field(
        description="The timeout of the attempts: `timeout_seconds`, but at most the limit of the "
        "service (`MAX_TIMEOUT_SECONDS`). It is smaller if the job was saved before the limit."
    )
    overlap_policy: OverlapPolicy
    catch_up: CatchUpPolicy
    next_run: Instant | None = Field(description="The next slot; null if there is none.")
    last_run: Instant | None = Field(
        description="The newest slot whose execution has finished; up to 60 s behind."
    )
    last_status: ExecutionStatus | None
    revision: Integer
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, job: Job, *, max_timeout_seconds: float) -> Self:
        timeout = job.limit_timeout(max_timeout_seconds).total_seconds()
        return cls.model_validate(dict(job) | {"effective_timeout_seconds": timeout})


class JobOut(_JobOut):
    """A job."""

    target: TargetSpec
    parameters: dict[str, Any]


class PartialJobOut(_JobOut):
    """A job in a listing: without `parameters`, and without `headers` and `body` of its target."""

    partial: Literal[True] = Field(default=True, description=PARTIAL)
    target: PartialTarget


class JobPage(Page[PartialJobOut | JobOut]):
    """A page of jobs: partial ones, or whole ones with `fields=full`."""
