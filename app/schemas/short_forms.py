"""Short forms: one schedule written as a few fields of the job itself.

They may be partial in an edit, where they change the job's one schedule, and may not be mixed
with `schedules`. A null counts as left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from app.schemas.json_types import InputInstant, InputModel, Integer, Text, TimeZone, refuse
from app.schemas.schedules import (
    MAX_INTERVAL_SECONDS,
    CronScheduleIn,
    IntervalScheduleIn,
    ScheduleIn,
    check_cron,
)

_ISO_DURATION = re.compile(
    r"P(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9})S)?)?",
    re.ASCII,
)
_SECONDS_OF = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}

_Count = Annotated[Integer, Field(ge=0, le=MAX_INTERVAL_SECONDS)]


class IntervalConfig(InputModel):
    """A period, as the sum of its parts."""

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
            refuse("a duration is a number of seconds or ISO 8601 in W, D, H, M, S, like PT10M")
        value = sum(int(n) * _SECONDS_OF[unit] for unit, n in match.groupdict(default="0").items())
    if isinstance(value, bool) or not isinstance(value, int):
        refuse("an interval is a whole number of seconds or an ISO 8601 duration, like PT10M")
    _check_interval(value)
    return value


def _check_interval(seconds: int, *below: str) -> None:
    if not 1 <= seconds <= MAX_INTERVAL_SECONDS:
        refuse(f"an interval must be from 1 to {MAX_INTERVAL_SECONDS} seconds", *below)


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


@dataclass(frozen=True, slots=True)
class ShortForm:
    """What a short form says; None where it says nothing."""

    cron_expression: str | None
    interval_seconds: int | None
    timezone: str | None
    start_at: datetime | None
    pointers: Mapping[str, str]
    """Where in the body each field of the schedule stands."""

    @property
    def bounds(self) -> dict[str, Any]:
        """The fields given that any type of schedule has."""
        fields = {"timezone": self.timezone, "start_at": self.start_at}
        return {name: value for name, value in fields.items() if value is not None}

    def schedule(self) -> ScheduleIn:
        """The schedule of a complete short form."""
        if self.cron_expression is not None:
            return CronScheduleIn(type="cron", cron_expression=self.cron_expression, **self.bounds)
        return IntervalScheduleIn(
            type="interval", interval_seconds=self.interval_seconds or 1, **self.bounds
        )


class ShortFormIn(InputModel):
    """The fields of the short forms."""

    schedule_type: Literal["cron", "interval"] | None = Field(
        default=None, description="Short form: with `cron_expression` or `schedule_config`."
    )
    timezone: TimeZone | None = Field(default=None, description="Short form: the IANA name.")
    cron_expression: Text | None = Field(
        default=None, description="Short form.", examples=["0 9 * * MON"]
    )
    schedule_config: IntervalConfig | None = Field(
        default=None, description="Short form: the period of an interval."
    )
    interval: Interval | None = Field(
        default=None, description="Short form: seconds, or an ISO 8601 duration.", examples=[600]
    )
    start_time: InputInstant | None = Field(
        default=None, description="Short form: no slot before it; it may be past."
    )
    next_run: InputInstant | None = Field(
        default=None, description="Short form: with `interval` alone, and then `start_time`."
    )

    @field_validator("cron_expression")
    @classmethod
    def _is_cron(cls, expression: str | None, info: ValidationInfo) -> str | None:
        return None if expression is None else check_cron(expression, info.data)

    @field_validator("schedule_config")
    @classmethod
    def _is_period(cls, config: IntervalConfig | None) -> IntervalConfig | None:
        if config is not None:
            units = list(config.parts)
            if not units:
                refuse("a period names seconds, minutes, hours, days or weeks")
            _check_interval(config.interval_seconds, *(units if len(units) == 1 else ()))
        return config

    def short_fields(self) -> list[str]:
        """The fields of short forms that the body gives a value."""
        return [name for name in ShortFormIn.model_fields if getattr(self, name) is not None]

    def short_form(self) -> ShortForm | None:
        """What the body says in short form, if it does."""
        if not self.short_fields():
            return None
        pointers = {"start_at": "/start_time", "interval_seconds": "/interval"}
        if self.next_run is not None:
            pointers["start_at"] = "/next_run"
        seconds = self.interval
        if self.schedule_config is not None:
            seconds = self.schedule_config.interval_seconds
            pointers["interval_seconds"] = "/schedule_config"
        return ShortForm(
            cron_expression=self.cron_expression,
            interval_seconds=seconds,
            timezone=self.timezone,
            start_at=self.next_run or self.start_time,
            pointers=pointers,
        )


_EXCLUDES = {
    "cron_expression": ("interval", "schedule_config"),
    "schedule_config": ("interval",),
    "next_run": ("start_time",),
}
_WRONG_FOR_TYPE = {
    "cron": ("interval", "schedule_config"),
    "interval": ("cron_expression",),
}


def check_short_form(body: ShortFormIn) -> None:
    """Refuse fields that contradict each other."""
    given = body.short_fields()
    for field, others in _EXCLUDES.items():
        for other in others:
            if field in given and other in given:
                refuse(f"{other} and {field} cannot stand together", other)
    for other in _WRONG_FOR_TYPE.get(body.schedule_type or "", ()):
        if other in given:
            refuse(f"{other} does not go with schedule_type {body.schedule_type}", other)
    if "next_run" in given and "interval" not in given:
        refuse("next_run is computed; only with interval may it be given, as its start", "next_run")


def check_complete(body: ShortFormIn) -> None:
    """Refuse a short form that does not say when: in a new job there is nothing to complete it."""
    given = body.short_fields()
    if not given or {"cron_expression", "interval", "schedule_config"} & set(given):
        return
    match body.schedule_type:
        case "cron":
            refuse("schedule_type cron needs a cron_expression", "cron_expression")
        case "interval":
            refuse("schedule_type interval needs a schedule_config", "schedule_config")
        case _:
            refuse(f"{given[0]} goes with cron_expression, schedule_config or interval", given[0])
