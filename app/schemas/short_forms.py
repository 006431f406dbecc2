"""Short forms: a single schedule, described by fields of the job itself.

In an edit a short form may be partial: it changes the job's only schedule. It cannot be combined
with `schedules`. A null means that the field is absent.
"""

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from app.schemas.json_types import Flag, InputInstant, InputModel, Text, TimeZone, reject
from app.schemas.periods import Period
from app.schemas.schedule_entries import FittingConfig, ScheduleType, check_cron


class ShortFormIn(InputModel):
    """The fields of the short forms."""

    schedule_type: ScheduleType | None = Field(
        default=None,
        description="Short form: the type. The rule is in `cron_expression`, `schedule_config` or "
        "`run_at`.",
    )
    timezone: TimeZone | None = Field(
        default=None, description="Short form: the IANA name of the time zone."
    )
    seconds: Flag | None = Field(
        default=None,
        description="Short form: whether `cron_expression` starts with a sixth field, seconds.",
    )
    cron_expression: Text | None = Field(
        default=None, description="Short form: the expression.", examples=["0 9 * * MON"]
    )
    schedule_config: FittingConfig | None = Field(
        default=None,
        description="Short form: the period of an interval, or the fields of a cron schedule.",
    )
    interval: Period | None = Field(
        default=None,
        description="Short form: the period in seconds, as a text such as `1h30m`, or as an ISO "
        "8601 duration.",
        examples=[600],
    )
    run_at: InputInstant | None = Field(
        default=None, description="Short form: the instant of a one-time schedule."
    )
    start_time: InputInstant | None = Field(
        default=None,
        description="Short form: no slot is before this instant. It may be in the past.",
    )
    next_run: InputInstant | None = Field(
        default=None,
        description="Short form: another name of `start_time`, only beside `interval`.",
    )

    @field_validator("cron_expression")
    @classmethod
    def _check_expression(cls, expression: str | None, info: ValidationInfo) -> str | None:
        return None if expression is None else check_cron(expression, info.data)

    def given_short_fields(self) -> list[str]:
        """The names of the short-form fields that have a value in the body."""
        return [name for name in ShortFormIn.model_fields if getattr(self, name) is not None]

    def short_form_pointers(self) -> dict[str, str]:
        """JSON pointers of the schedule's fields that have another name in the body."""
        pointers = {
            "start_at": "/start_time" if self.next_run is None else "/next_run",
            "interval_seconds": "/interval",
        }
        in_config = {} if self.schedule_config is None else self.schedule_config.schedule_fields()
        return pointers | dict.fromkeys(in_config, "/schedule_config")

    def short_form_rule(self) -> dict[str, Any]:
        """The field of the full form that names the slots; empty if the body has no rule."""
        fields = {
            "cron_expression": self.cron_expression,
            "interval_seconds": self.interval,
            "run_at": self.run_at,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        if self.schedule_config is not None:
            given |= self.schedule_config.schedule_fields()
        return {name: given[name] for name in fields if name in given}

    def short_form_bounds(self) -> dict[str, Any]:
        zone = self.timezone or (self.schedule_config and self.schedule_config.timezone)
        fields = {"timezone": zone, "start_at": self.next_run or self.start_time}
        return {name: value for name, value in fields.items() if value is not None}


_EXCLUDES = {
    "cron_expression": ("interval", "schedule_config", "run_at"),
    "schedule_config": ("interval", "run_at"),
    "interval": ("run_at",),
    "next_run": ("start_time",),
}
_WRONG_FOR_TYPE = {
    "cron": ("interval", "run_at"),
    "interval": ("cron_expression", "run_at"),
    "one_time": ("cron_expression", "interval"),
}


def check_combination(body: ShortFormIn) -> None:
    """Reject short-form fields that contradict each other."""
    given = body.given_short_fields()
    for field, others in _EXCLUDES.items():
        for other in others:
            if field in given and other in given:
                reject(f"{other} and {field} cannot be used together", other)
    for other in _WRONG_FOR_TYPE.get(body.schedule_type or "", ()):
        if other in given:
            reject(f"{other} cannot be used with schedule_type {body.schedule_type}", other)
    if "seconds" in given and "cron_expression" not in body.short_form_rule():
        reject("send cron_expression too; seconds says whether it has six fields", "seconds")
    if "next_run" in given and "interval" not in given:
        reject("next_run can be set only together with interval, as its start", "next_run")


def check_completeness(body: ShortFormIn) -> None:
    """Reject a short form without a cron expression, a period or an instant, because a new job has
    no schedule that could complete it."""
    given = body.given_short_fields()
    if not given or body.short_form_rule():
        return
    match body.schedule_type:
        case "cron":
            reject("schedule_type cron requires cron_expression", "cron_expression")
        case "interval":
            reject("schedule_type interval requires schedule_config", "schedule_config")
        case "one_time":
            reject("schedule_type one_time requires run_at", "run_at")
        case _:
            reject(
                f"{given[0]} requires cron_expression, schedule_config, interval or run_at",
                given[0],
            )
