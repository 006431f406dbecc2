"""`schedule_config`: the rule of a schedule in parts, beside `schedule_type`."""

import re
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from app.models.schedule import MAX_INTERVAL_SECONDS
from app.schemas.json_types import InputModel, Integer, Text, TimeZone, reject
from app.schemas.periods import SECONDS_OF, check_period
from app.triggers.cron_dialect import DAY, HOUR, MINUTE, MONTH, CronField

_LOWEST_VALUES = {"minute": "0", "hour": "0", "day_of_week": "*", "day": "1", "month": "*"}
"""The fields of a cron expression, the finest first, and the value of an absent field that is finer
than all given ones."""
_CRON_FIELD = re.compile(r"[0-9A-Za-z*,/#-]{1,60}", re.ASCII)
_WEEKDAY_NUMBER = re.compile(r"(?<![#/])\d", re.ASCII)
_IN_EXPRESSION = ("minute", "hour", "day", "month", "day_of_week")

_Count = Annotated[Integer, Field(ge=0, le=MAX_INTERVAL_SECONDS)]


def _read_field(field: CronField, value: Any) -> str:
    if type(value) is int and field.low <= value <= field.high:
        return str(value)
    if not isinstance(value, str) or not _CRON_FIELD.fullmatch(value):
        reject(
            f"send a number from {field.low} to {field.high}, or one field of a cron expression as "
            "text, such as */2"
        )
    return value


def _read_day_names(value: Any) -> str:
    is_field = isinstance(value, str) and _CRON_FIELD.fullmatch(value)
    if not is_field or _WEEKDAY_NUMBER.search(value):
        reject("send names, such as MON or MON-FRI")
    return str(value)


_TEXT_SCHEMA = {"type": "string", "pattern": f"^{_CRON_FIELD.pattern}$"}


def _check(field: CronField) -> BeforeValidator:
    return BeforeValidator(partial(_read_field, field))


def _describe(field: CronField) -> WithJsonSchema:
    number = {"type": "integer", "minimum": field.low, "maximum": field.high}
    return WithJsonSchema({"anyOf": [number, _TEXT_SCHEMA]})


_Minute = Annotated[str, _check(MINUTE), _describe(MINUTE)]
_Hour = Annotated[str, _check(HOUR), _describe(HOUR)]
_Day = Annotated[str, _check(DAY), _describe(DAY)]
_Month = Annotated[str, _check(MONTH), _describe(MONTH)]
_DayNames = Annotated[str, BeforeValidator(_read_day_names), WithJsonSchema(_TEXT_SCHEMA)]


class ScheduleConfig(InputModel):
    """The period of an interval, which is the sum of its parts, or the rule of a cron schedule: an
    expression, or its fields one by one."""

    seconds: _Count | None = Field(default=None, examples=[10])
    minutes: _Count | None = None
    hours: _Count | None = None
    days: _Count | None = None
    weeks: _Count | None = None
    cron_expression: Text | None = Field(default=None, examples=["0 9 * * MON"])
    minute: _Minute | None = Field(
        default=None,
        description="Cron: this field of the expression; requires `schedule_type`. Absent fields "
        "are `*`, and their lowest value if they are finer than all given ones.",
    )
    hour: _Hour | None = None
    day: _Day | None = None
    month: _Month | None = None
    day_of_week: _DayNames | None = Field(
        default=None,
        description="Names, such as MON-FRI: programs number the days in different ways.",
    )
    timezone: TimeZone | None = None

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        units, fields = self._given(tuple(SECONDS_OF)), self._given(_IN_EXPRESSION)
        rules = [*fields[:1], *units[:1]]
        rules += ["cron_expression"] if self.cron_expression is not None else []
        if not rules:
            reject("set seconds, minutes, hours, days or weeks, or the fields of a cron schedule")
        if len(rules) > 1:
            reject(
                f"{rules[0]} and {rules[1]} cannot be used together: send the parts of a period "
                "(seconds, minutes, hours, days, weeks), a cron_expression, or its fields "
                "(minute, hour, day, month, day_of_week)",
                rules[0],
            )
        if units:
            check_period(self._seconds(), *(units if len(units) == 1 else ()))
        return self

    @property
    def schedule_type(self) -> Literal["cron", "interval"]:
        """The type of schedule that the rule describes."""
        return "interval" if self._given(tuple(SECONDS_OF)) else "cron"

    def schedule_fields(self) -> dict[str, Any]:
        """The fields of the full form that the config gives, without `type`."""
        fields: dict[str, Any] = {} if self.timezone is None else {"timezone": self.timezone}
        if self.schedule_type == "interval":
            return fields | {"interval_seconds": self._seconds()}
        return fields | {"cron_expression": self.cron_expression or self._join_fields()}

    def check_type(self, given: str | None) -> None:
        """Reject a config that does not describe a schedule of the given type. Fields of a cron
        expression require the type, because `minute` may be a mistake for `minutes`."""
        if given == self.schedule_type:
            return
        fields = self._given(_IN_EXPRESSION)
        if fields:
            reject(
                f"{fields[0]} is a field of a cron schedule and requires the type cron; a period "
                f"has {', '.join(SECONDS_OF)}",
                fields[0],
            )
        if given is not None:
            reject(f"this describes a schedule of the type {self.schedule_type}, not {given}")

    def _given(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    def _seconds(self) -> int:
        return sum((getattr(self, unit) or 0) * size for unit, size in SECONDS_OF.items())

    def _join_fields(self) -> str:
        values, is_finer = {}, True
        for name, lowest in _LOWEST_VALUES.items():
            value = getattr(self, name)
            is_finer = is_finer and value is None
            values[name] = value or (lowest if is_finer else "*")
        return " ".join(values[name] for name in _IN_EXPRESSION)
