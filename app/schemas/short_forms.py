"""Short forms: a single schedule, described by fields of the job itself.

In an edit a short form may be partial: it changes the job's only schedule. It cannot be combined
with `schedules`. A null means that the field is absent.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from app.models.schedule import MAX_INTERVAL_SECONDS
from app.schemas.json_types import Flag, InputInstant, InputModel, Integer, Text, TimeZone, reject
from app.schemas.schedules import check_cron

_ISO_DURATION = re.compile(
    r"P(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9})S)?)?",
    re.ASCII,
)
_SECONDS_OF = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}

_Count = Annotated[Integer, Field(ge=0, le=MAX_INTERVAL_SECONDS)]


class IntervalConfig(InputModel):
    """A period: the sum of its parts."""

    seconds: _Count | None = Field(default=None, examples=[10])
    minutes: _Count | None = None
    hours: _Count | None = None
    days: _Count | None = None
    weeks: _Count | None = None

    @property
    def parts(self) -> dict[str, int]:
        given = ((unit, getattr(self, unit)) for unit in _SECONDS_OF)
        return {unit: count for unit, count in given if count is not None}

    @property
    def interval_seconds(self) -> int:
        return sum(count * _SECONDS_OF[unit] for unit, count in self.parts.items())


def _read_interval(value: Any) -> int:
    """The seconds of a number or an ISO 8601 duration without months and years."""
    if isinstance(value, str):
        match = _ISO_DURATION.fullmatch(value)
        if match is None or not any(match.groupdict().values()):
            reject("send a number of seconds or an ISO 8601 duration in W, D, H, M and S: PT10M")
        value = sum(int(n) * _SECONDS_OF[unit] for unit, n in match.groupdict(default="0").items())
    if isinstance(value, bool) or not isinstance(value, int):
        reject("send a whole number of seconds or an ISO 8601 duration: PT10M")
    _check_interval(value)
    return value


def _check_interval(seconds: int, *below: str) -> None:
    if not 1 <= seconds <= MAX_INTERVAL_SECONDS:
        reject(f"a period must be from 1 to {MAX_INTERVAL_SECONDS} seconds", *below)


Interval = Annotated[
    int,
    BeforeValidator(_read_interval),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_INTERVAL_SECONDS},
                {"type": "string", "format": "duration", "examples": ["PT10M"]},
            ]
        }
    ),
]


class ShortFormIn(InputModel):
    """The fields of the short forms."""

    schedule_type: Literal["cron", "interval"] | None = Field(
        default=None,
        description="Short form: the type, beside `cron_expression` or `schedule_config`.",
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
    schedule_config: IntervalConfig | None = Field(
        default=None, description="Short form: the period of an interval."
    )
    interval: Interval | None = Field(
        default=None,
        description="Short form: the period in seconds or as an ISO 8601 duration.",
        examples=[600],
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

    @field_validator("schedule_config")
    @classmethod
    def _check_period(cls, config: IntervalConfig | None) -> IntervalConfig | None:
        if config is not None:
            units = list(config.parts)
            if not units:
                reject("set seconds, minutes, hours, days or weeks")
            _check_interval(config.interval_seconds, *(units if len(units) == 1 else ()))
        return config

    def given_short_fields(self) -> list[str]:
        """The names of the short-form fields that have a value in the body."""
        return [name for name in ShortFormIn.model_fields if getattr(self, name) is not None]

    def short_form_pointers(self) -> dict[str, str]:
        """JSON pointers of the schedule's fields that have another name in the body."""
        return {
            "start_at": "/start_time" if self.next_run is None else "/next_run",
            "interval_seconds": "/interval" if self.schedule_config is None else "/schedule_config",
        }

    def short_form_period(self) -> int | None:
        return self.schedule_config.interval_seconds if self.schedule_config else self.interval

    def short_form_bounds(self) -> dict[str, Any]:
        fields = {"timezone": self.timezone, "start_at": self.next_run or self.start_time}
        return {name: value for name, value in fields.items() if value is not None}


_EXCLUDES = {
    "cron_expression": ("interval", "schedule_config"),
    "schedule_config": ("interval",),
    "next_run": ("start_time",),
}
_WRONG_FOR_TYPE = {
    "cron": ("interval", "schedule_config"),
    "interval": ("cron_expression",),
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
    if "seconds" in given and "cron_expression" not in given:
        reject("send cron_expression too; seconds says whether it has six fields", "seconds")
    if "next_run" in given and "interval" not in given:
        reject("next_run can be set only together with interval, as its start", "next_run")


def check_completeness(body: ShortFormIn) -> None:
    """Reject a short form without a cron expression or a period, because a new job has no schedule
    that could complete it."""
    given = body.given_short_fields()
    if not given or {"cron_expression", "interval", "schedule_config"} & set(given):
        return
    match body.schedule_type:
        case "cron":
            reject("schedule_type cron requires cron_expression", "cron_expression")
        case "interval":
            reject("schedule_type interval requires schedule_config", "schedule_config")
        case _:
            reject(f"{given[0]} requires cron_expression, schedule_config or interval", given[0])
