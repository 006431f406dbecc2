"""What a request may have meant by a field that does not exist."""

from typing import Any

import pytest
from pydantic import BaseModel

from app.schemas.executions import AllExecutionsQuery, BackfillIn
from app.schemas.jobs import JobCreate, JobQuery, JobUpdate, RetryPolicyIn
from app.schemas.schedules import (
    CronScheduleIn,
    IntervalScheduleIn,
    OneTimeScheduleIn,
    ScheduleIn,
)
from app.schemas.suggestions import _SYNONYMS
from app.schemas.targets import HttpTargetIn
from app.schemas.unknown_fields import explain_missing_type, explain_unknown_field

UNKNOWN = "this field does not exist"
IN_CRON = ("schedules", 0, "cron")
IN_TARGET = ("target", "http")


@pytest.mark.parametrize(
    ("kind", "location", "meant"),
    [
        (JobCreate, ("cron",), "`cron_expression`"),
        (JobCreate, ("url",), "`target.url`"),
        (JobCreate, ("headers",), "`target.headers`"),
        (JobCreate, ("retries",), "`retry.max_attempts`"),
        (JobCreate, ("max_attempts",), "`retry.max_attempts`"),
        (JobCreate, ("timeout",), "`timeout_seconds`"),
        *(
            (JobCreate, (name,), "`active`, with the opposite value")
            for name in ("paused", "disabled", "is_paused", "isPaused")
        ),
        (JobCreate, ("enabled",), "`active`"),
        (JobCreate, (*IN_CRON, "disabled"), "`active`, with the opposite value"),
        (JobCreate, ("attemptDeadline",), "`timeout_seconds`"),
        (JobCreate, ("attempt_deadline",), "`timeout_seconds`"),
        (JobCreate, ("deadline",), "`timeout_seconds`"),
        (JobCreate, ("retryConfig",), "`retry`"),
        (JobCreate, ("retry_config",), "`retry`"),
        (JobCreate, ("retry_policy",), "`retry`"),
        (JobCreate, ("maxRetries",), "`retry.max_attempts`"),
        (JobCreate, ("retry", "max_retries"), "`max_attempts`"),
        (JobCreate, ("timeZone",), "`timezone`"),
        (JobCreate, ("time_zone",), "`timezone`"),
        (JobCreate, ("httpTarget",), "`target`"),
        (JobCreate, ("http_target",), "`target`"),
        (JobCreate, ("schedule",), "`schedules`"),
        (JobCreate, ("tz",), "`timezone`"),
        (JobCreate, ("payload",), "`parameters`"),
        (JobCreate, ("end_time",), "`schedules[].end_at`"),
        (JobCreate, ("max_runs",), "`schedules[].max_runs`"),
        (JobCreate, ("nmae",), "`name`"),
        (JobCreate, ("cronExpression",), "`cron_expression`"),
        (JobCreate, ("Timeout-Seconds",), "`timeout_seconds`"),
        (JobUpdate, ("cron",), "`cron_expression`"),
        (JobUpdate, ("retry", "retries"), "`max_attempts`"),
        (JobUpdate, ("target", "uri"), "`url`"),
        (JobCreate, (*IN_CRON, "cron"), "`cron_expression`"),
        (JobCreate, (*IN_CRON, "end_time"), "`end_at`"),
        (JobCreate, (*IN_CRON, "schedule_type"), "`type`"),
        (JobUpdate, (*IN_CRON, "time_zone"), "`timezone`"),
        (JobCreate, (*IN_TARGET, "uri"), "`url`"),
        (JobCreate, (*IN_TARGET, "payload"), "`body`"),
        (JobCreate, (*IN_TARGET, "timeout"), "`timeout_seconds` at the top level"),
        (JobCreate, ("retry", "timeout_seconds"), "`timeout_seconds` at the top level"),
        (ScheduleIn, ("interval", "every"), "`interval_seconds`"),
        (JobQuery, ("page",), "`cursor`"),
        (JobQuery, ("offset",), "`cursor`"),
        (JobQuery, ("per_page",), "`limit`"),
        (AllExecutionsQuery, ("since",), "`from`"),
        (BackfillIn, ("from",), "`start`"),
    ],
)
def test_a_field_that_does_not_exist_gets_the_name_that_was_meant(
    kind: Any, location: tuple[str | int, ...], meant: str
) -> None:
    assert explain_unknown_field(kind, location) == f"{UNKNOWN}; did you mean {meant}?"


@pytest.mark.parametrize(
    ("kind", "location"), [(JobCreate, ("schedule",)), (JobCreate, (*IN_CRON, "schedule"))]
)
def test_a_schedule_as_text_is_a_cron_expression(kind: Any, location: tuple[str | int]) -> None:
    detail = explain_unknown_field(kind, location, "0 9 * * *")
    assert detail == f"{UNKNOWN}; did you mean `cron_expression`?"


@pytest.mark.parametrize(
    ("kind", "location"),
    [
        (JobCreate, ("lease",)),
        (JobCreate, ("x" * 100_000,)),
        (JobCreate, ("\ud800",)),
        (JobCreate, (*IN_CRON, "months")),
        (None, ("cron",)),
    ],
)
def test_a_name_that_is_similar_to_none_gets_no_suggestion(
    kind: Any, location: tuple[str | int, ...]
) -> None:
    assert explain_unknown_field(kind, location) == UNKNOWN


@pytest.mark.parametrize(
    ("kind", "location", "other"),
    [
        (JobCreate, (*IN_CRON, "interval_seconds"), "interval"),
        (JobCreate, (*IN_CRON, "run_at"), "one_time"),
        (JobCreate, ("target", "log", "url"), "http"),
        (ScheduleIn, ("interval", "cron_expression"), "cron"),
    ],
)
def test_a_field_of_another_type_names_this_type(
    kind: Any, location: tuple[str | int, ...], other: str
) -> None:
    detail = explain_unknown_field(kind, location)
    assert detail == f"{UNKNOWN} here; it belongs to the type {other}"


@pytest.mark.parametrize(
    ("kind", "location"),
    [(JobCreate, ("owner_id",)), (JobCreate, (*IN_CRON, "runs")), (ScheduleIn, ("cron", "job_id"))],
)
def test_a_field_that_only_responses_have_is_called_so(
    kind: Any, location: tuple[str | int, ...]
) -> None:
    assert explain_unknown_field(kind, location).startswith("only responses have this field")


@pytest.mark.parametrize(
    ("kind", "location", "value", "detail"),
    [
        (JobCreate, ("target",), {"url": "x"}, "this is required, one of: http, log"),
        (
            JobCreate,
            ("schedules", 0),
            {"kind": "cron"},
            "this is required, one of: cron, interval, one_time; you sent it as `kind`",
        ),
        (ScheduleIn, (), {}, "this is required, one of: cron, interval, one_time"),
        (None, (), {}, "this is required"),
    ],
)
def test_a_missing_type_names_the_types(
    kind: Any, location: tuple[str | int, ...], value: Any, detail: str
) -> None:
    assert explain_missing_type(kind, location, value) == detail


def test_each_field_with_synonyms_is_a_field_of_a_request() -> None:
    models: list[type[BaseModel]] = [
        *(JobCreate, RetryPolicyIn, HttpTargetIn, JobQuery, AllExecutionsQuery, BackfillIn),
        *(CronScheduleIn, IntervalScheduleIn, OneTimeScheduleIn),
    ]
    fields = {f.alias or name for model in models for name, f in model.model_fields.items()}
    assert set(_SYNONYMS) <= fields
