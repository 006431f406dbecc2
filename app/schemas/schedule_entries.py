"""The rule of a schedule in a request: its type, its cron expression, and its short forms, which
become the full form."""

from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, ConfigDict, ValidationInfo

from app.errors import InvalidInputError
from app.schemas.cron_advice import advise_on_cron
from app.schemas.json_types import Flag, InputModel, TimeZone, reject
from app.schemas.periods import Period
from app.schemas.schedule_config import ScheduleConfig
from app.triggers import CronTrigger
from app.triggers.cron import Dst

_SHORT_FIELDS = frozenset({"schedule_type", "schedule_config", "interval"})
_TYPES_BY_RULE = {
    "cron_expression": "cron",
    "interval": "interval",
    "interval_seconds": "interval",
    "run_at": "one_time",
}

ScheduleType = Literal["cron", "interval", "one_time"]


def check_cron(expression: str, valid_fields: dict[str, Any], *below: str) -> str:
    """Return `expression` if it is valid and fires. `valid_fields` are the fields beside it that
    passed validation; `below` is the path to the expression."""
    try:
        CronTrigger.parse(
            expression,
            zone=ZoneInfo(valid_fields.get("timezone") or "UTC"),
            seconds=valid_fields.get("seconds") or False,
            dst=valid_fields.get("dst", Dst.DEBIAN),
        )
    except InvalidInputError as error:
        reject(advise_on_cron(expression) or error.detail, *below)
    return expression


def _check_config(config: ScheduleConfig, info: ValidationInfo) -> ScheduleConfig:
    """Return `config` if it fits the type beside it, and its cron expression is valid and fires."""
    valid_fields = info.data
    config.check_type(valid_fields.get("schedule_type") or valid_fields.get("type"))
    fields = config.schedule_fields()
    if "timezone" in fields and valid_fields.get("timezone") is not None:
        reject("send the timezone once, beside schedule_config or in it", "timezone")
    if config.schedule_type == "cron":
        below = [] if config.cron_expression is None else ["cron_expression"]
        check_cron(fields["cron_expression"], valid_fields | fields, *below)
    return config


FittingConfig = Annotated[ScheduleConfig, AfterValidator(_check_config)]
"""A `schedule_config` that fits the fields beside it."""


class _ShortEntry(InputModel):
    """A schedule whose rule is in `schedule_config`. Its other fields are checked later."""

    model_config = ConfigDict(extra="allow")

    type: ScheduleType | None = None
    schedule_type: ScheduleType | None = None
    timezone: TimeZone | None = None
    seconds: Flag = False
    schedule_config: FittingConfig | None = None
    interval: Period | None = None


def expand_short_entry(entry: Any) -> Any:
    """The schedule in its full form. `schedule_type` is another name of `type`,
    `interval` is one of `interval_seconds`, and `schedule_config` gives the fields of the rule."""
    if not isinstance(entry, dict) or not entry.keys() & _SHORT_FIELDS:
        return entry
    short = _ShortEntry.model_validate(entry)
    full = {name: value for name, value in entry.items() if name not in _SHORT_FIELDS}
    if short.schedule_type is not None:
        if "type" in full:
            reject("type and schedule_type cannot be used together; send type", "schedule_type")
        full["type"] = short.schedule_type
    if short.schedule_config is not None:
        fields = short.schedule_config.schedule_fields()
        for name in full.keys() & fields.keys():
            reject(f"{name} cannot be used together with schedule_config, which sets it", name)
        full = {"type": short.schedule_config.schedule_type} | full | fields
    if short.interval is not None:
        _check_interval(entry, full.get("type", "interval"))
        full["interval_seconds"] = short.interval
    return full


def _check_interval(entry: dict[str, Any], schedule_type: Any) -> None:
    """Reject `interval` beside another rule. `entry` is the schedule in the request."""
    for name in ("interval_seconds", "schedule_config"):
        if entry.get(name) is not None:
            reject(f"interval and {name} cannot be used together; send one of them", "interval")
    if schedule_type != "interval":
        reject("interval belongs to the type interval; send this type, or none", "interval")


def complete_entry(entry: Any) -> Any:
    """The schedule in its full form, with the type that its rule shows if it has no `type`."""
    full = expand_short_entry(entry)
    if not isinstance(full, dict) or "type" in full:
        return full
    rules = [name for name in _TYPES_BY_RULE if full.get(name) is not None]
    if len(rules) > 1:
        sent = [name for name in _TYPES_BY_RULE if entry.get(name) is not None]
        reject(f"{sent[0]} and {sent[1]} cannot be used together; send one of them", sent[1])
    return full | {"type": _TYPES_BY_RULE[rules[0]]} if rules else full
