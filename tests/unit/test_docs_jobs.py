"""docs/jobs.md has each field of a job, with the type, unit, bounds and default of the schemas."""

import json
from typing import Any

import pytest

from app.models.execution import HOPS_HEADER
from app.models.policy import RetryPolicy, RetryStrategy
from app.models.target import FIRST_UNPRIVILEGED_PORT
from app.policies.retry import backoff
from app.schemas.jobs import CatchUpPolicyIn, JobCreate, JobOut, RetryPolicyIn
from app.schemas.json_types import FIRST_YEAR, LAST_YEAR, MAX_JSON_BYTES, MAX_JSON_DEPTH, InputModel
from app.schemas.schedule_config import ScheduleConfig
from app.schemas.schedules import (
    CronScheduleIn,
    CronScheduleOut,
    IntervalScheduleIn,
    IntervalScheduleOut,
    OneTimeScheduleIn,
    OneTimeScheduleOut,
)
from app.schemas.schedules_to_write import read_job_schedules
from app.schemas.short_forms import ShortFormIn
from app.schemas.target_rules import (
    MAX_SENT_HEADER_VALUE_LENGTH,
    MAX_SENT_HEADERS_BYTES,
    MAX_URL_LENGTH,
    RESERVED_HEADERS,
    RESERVED_PREFIXES,
)
from app.schemas.targets import HttpTargetIn, LogTargetIn
from app.triggers.cron_dialect import MAX_LENGTH
from tests.support.documents import DOCS, read_code, read_table

PAGE = DOCS / "jobs.md"
Schema = dict[str, Any]

_SHORT_FORM_FIELDS = set(ShortFormIn.model_fields)
_COMMON_FIELDS = set(CronScheduleIn.model_fields) & set(IntervalScheduleIn.model_fields) - {"type"}
_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}

TABLES: list[tuple[str, type[InputModel], set[str]]] = [
    ("Fields of a job", JobCreate, _SHORT_FORM_FIELDS),
    ("HTTP target", HttpTargetIn, set()),
    ("Log target", LogTargetIn, set()),
    ("Retry", RetryPolicyIn, set()),
    ("Catch-up", CatchUpPolicyIn, set()),
    ("Fields of every schedule", CronScheduleIn, set(CronScheduleIn.model_fields) - _COMMON_FIELDS),
    ("Cron schedule", CronScheduleIn, _COMMON_FIELDS),
    ("Interval schedule", IntervalScheduleIn, _COMMON_FIELDS),
    ("One-time schedule", OneTimeScheduleIn, _COMMON_FIELDS),
    ("Fields of the short forms", ShortFormIn, set()),
    ("Fields of schedule_config", ScheduleConfig, set()),
]


def describe_fields(model: type[InputModel], left_out: set[str]) -> list[dict[str, str]]:
    """Return the cells that the table of a model must have."""
    schema = model.model_json_schema()
    return [
        {
            "field": f"`{name}`",
            "type": describe_type(field, schema.get("$defs", {})),
            "unit": "seconds" if name.endswith("_seconds") or name == "interval" else "",
            "bounds": describe_bounds(field),
            "default": describe_default(field, name in schema.get("required", ())),
        }
        for name, field in schema["properties"].items()
        if name not in left_out
    ]


def describe_type(field: Schema, definitions: Schema) -> str:
    match field:
        case {"$ref": ref}:
            return describe_type(definitions[ref.rpartition("/")[2]], definitions)
        case {"anyOf": members}:
            return " or ".join(dict.fromkeys(describe_type(m, definitions) for m in members))
        case {"oneOf": _} | {"type": "object"}:
            return "object"
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return " or ".join(f"`{value}`" for value in values)
        case {"format": "date-time"}:
            return "instant"
        case {"type": "array", "items": items}:
            of = describe_type(items, definitions)
            return f"list of {of}{'s' if ' ' not in of and of != 'text' else ''}"
        case {"type": "null"}:
            return "null"
        case {"type": kind}:
            return _TYPES[kind]
    return "any JSON"


def describe_bounds(field: Schema) -> str:
    found = [
        describe_range(field.get("minLength"), field.get("maxLength"), " characters"),
        describe_range(field.get("minimum"), field.get("maximum"), ""),
        describe_range(field.get("minItems"), field.get("maxItems"), " items"),
        describe_range(None, field.get("maxProperties"), " members"),
        *(describe_bounds(member) for member in field.get("anyOf", ())),
    ]
    if "items" in field and (each := describe_bounds(field["items"])):
        found.append(f"each {each}")
    return "; ".join(text for text in found if text)


def describe_range(low: float | None, high: float | None, what: str) -> str:
    if high is None:
        return ""
    return f"at most {high:,}{what}" if low is None else f"{low:,} to {high:,}{what}"


def describe_default(field: Schema, required: bool) -> str:
    if required:
        return "required"
    default = field.get("default", {})  # a field without it in the schema has a factory: `dict`
    return "`{}`" if isinstance(default, dict) else f"`{json.dumps(default)}`"


@pytest.mark.parametrize(
    ("heading", "model", "left_out"), TABLES, ids=[table[0] for table in TABLES]
)
def test_a_table_has_the_type_unit_bounds_and_default_of_each_field(
    heading: str, model: type[InputModel], left_out: set[str]
) -> None:
    rows = read_table(PAGE, heading)
    expected = describe_fields(model, left_out)
    assert sorted(row["field"] for row in rows) == sorted(row["field"] for row in expected)
    by_field = {row["field"]: row for row in rows}
    for cells in expected:
        row = by_field[cells["field"]]
        assert row["meaning"], cells
        bounds, _, _ = row["bounds"].partition("; also ")
        shown = {name: row[name] for name in cells} | {"bounds": bounds.removeprefix("also ")}
        if not cells["bounds"]:
            del shown["bounds"], cells["bounds"]  # the schema has none; see the next test
        assert shown == cells


EXTRA_BOUNDS = {
    ("Fields of a job", "parameters"): f"{MAX_JSON_BYTES:,} bytes as JSON, {MAX_JSON_DEPTH} levels",
    ("HTTP target", "url"): f"at most {MAX_URL_LENGTH:,} characters; port 80, 443 or at least "
    f"{FIRST_UNPRIVILEGED_PORT:,}",
    ("HTTP target", "headers"): f"values at most {MAX_SENT_HEADER_VALUE_LENGTH:,} characters; "
    f"{MAX_SENT_HEADERS_BYTES:,} bytes in total",
    ("HTTP target", "body"): f"{MAX_JSON_BYTES:,} bytes as JSON, {MAX_JSON_DEPTH} levels",
    ("Cron schedule", "cron_expression"): f"at most {MAX_LENGTH:,} characters",
    ("One-time schedule", "run_at"): f"years {FIRST_YEAR} to {LAST_YEAR}",
    ("Fields of every schedule", "start_at"): f"years {FIRST_YEAR} to {LAST_YEAR}",
    ("Fields of every schedule", "end_at"): f"years {FIRST_YEAR} to {LAST_YEAR}",
}


def test_bounds_that_no_schema_contains_are_those_of_the_code() -> None:
    for (heading, field), bounds in EXTRA_BOUNDS.items():
        (row,) = [row for row in read_table(PAGE, heading) if row["field"] == f"`{field}`"]
        assert bounds in row["bounds"], (heading, field)


def test_the_reserved_headers_are_named() -> None:
    text = PAGE.read_text()
    names = {*RESERVED_HEADERS, *(f"{prefix}*" for prefix in RESERVED_PREFIXES)}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    assert HOPS_HEADER.lower() in names


def test_every_field_that_only_responses_have_is_explained() -> None:
    rows = read_table(PAGE, "Fields of a job in responses")
    only = set(JobOut.model_fields) - set(JobCreate.model_fields) | {"next_run"}
    assert {read_code(row["field"]) for row in rows} == only
    rows = read_table(PAGE, "Fields of a schedule in responses")
    pairs = (
        (CronScheduleOut, CronScheduleIn),
        (IntervalScheduleOut, IntervalScheduleIn),
        (OneTimeScheduleOut, OneTimeScheduleIn),
    )
    only = {name for out, sent in pairs for name in set(out.model_fields) - set(sent.model_fields)}
    assert {read_code(row["field"]) for row in rows} == only | {"id"}


def test_each_short_form_of_the_table_equals_its_full_form() -> None:
    rows = read_table(PAGE, "Short forms")
    assert len(rows) >= 10
    for row in rows:
        short = {"name": "a job"} | json.loads(read_code(row["short form"]))
        full = {"name": "a job", "schedules": [json.loads(read_code(row["full form"]))]}
        assert read_fields(short) == read_fields(full), row


def test_the_delays_of_the_retry_example_are_those_of_the_policy() -> None:
    lines = PAGE.read_text().splitlines()
    for strategy in RetryStrategy:
        policy = RetryPolicy(
            max_attempts=4, strategy=strategy, delay_seconds=10, max_delay_seconds=30
        )
        longest = [
            round(backoff(policy, failed_attempts=n, chance=1).total_seconds()) for n in (1, 2, 3)
        ]
        from_zero = "0 to " if strategy is RetryStrategy.EXPONENTIAL else ""
        cells = " | ".join(f"{from_zero}{seconds} s" for seconds in longest)
        assert f"| `{strategy}` | {cells} |" in lines


def test_the_table_of_short_forms_has_every_field_of_them() -> None:
    text = "".join(row["short form"] for row in read_table(PAGE, "Short forms"))
    assert [name for name in ShortFormIn.model_fields if f'"{name}"' not in text] == []


def read_fields(body: dict[str, Any]) -> list[dict[str, Any]]:
    to_write = read_job_schedules(JobCreate.model_validate(body), ())
    assert to_write is not None
    return [one.fields.model_dump() for one in to_write]
