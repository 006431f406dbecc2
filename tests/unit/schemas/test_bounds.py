"""The bounds of numbers and lengths (the last valid value and the first invalid one), and types."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.schemas.jobs import JobCreate, JobUpdate

EVERY_SECOND = {"type": "interval", "interval_seconds": 1}
BOUNDS: list[tuple[str, Any, Any]] = [
    ("name", "x" * 200, "x" * 201),
    ("name", "x", ""),
    ("description", "x" * 2_000, "x" * 2_001),
    ("tags", [str(i) for i in range(20)], [str(i) for i in range(21)]),
    ("tags", ["x" * 50], ["x" * 51]),
    ("timeout_seconds", 0.1, 0.099),
    ("timeout_seconds", 86_400, 86_400.1),
    ("schedules", [EVERY_SECOND] * 20, [EVERY_SECOND] * 21),
    ("interval", 1, 0),
    ("interval", 31_536_000, 31_536_001),
    ("interval", "P365D", "P366D"),
    ("schedule_config", {"days": 365}, {"days": 366}),
    ("parameters", {"a": "x" * 65_528}, {"a": "x" * 65_529}),
    ("retry", {"max_attempts": 1}, {"max_attempts": 0}),
    ("retry", {"max_attempts": 50}, {"max_attempts": 51}),
    ("retry", {"delay_seconds": 86_400}, {"delay_seconds": 86_401}),
    ("retry", {"max_delay_seconds": 604_800}, {"max_delay_seconds": 604_801}),
    ("retry", {"retry_on": [100]}, {"retry_on": [99]}),
    ("retry", {"retry_on": [599]}, {"retry_on": [600]}),
    ("retry", {"retry_on": ["4xx"] * 50}, {"retry_on": ["4xx"] * 51}),
    ("catch_up", {"window_seconds": 31_536_000}, {"window_seconds": 31_536_001}),
]
SCHEDULE_BOUNDS: list[tuple[str, Any, Any]] = [
    ("interval_seconds", 1, 0),
    ("interval_seconds", 31_536_000, 31_536_001),
    ("max_runs", 1, 0),
    ("max_runs", 1_000_000_000, 1_000_000_001),
    ("jitter_seconds", 0, -1),
    ("jitter_seconds", 86_400, 86_401),
    ("end_at", "2027-01-01T00:00:00Z", "2026-12-31T23:59:59Z"),
]


TYPES: list[tuple[str, Any, Any]] = [
    ("overlap_policy", "buffer_all", "buffer_some"),
    ("retry", {"retry_on": ["4xx"]}, {"retry_on": ["6xx"]}),
    ("schedules", [EVERY_SECOND | {"max_runs": None}], [EVERY_SECOND | {"max_runs": "1"}]),
]


@pytest.mark.parametrize(("field", "inside", "outside"), BOUNDS)
def test_a_field_of_a_job_is_limited_to_its_bounds(field: str, inside: Any, outside: Any) -> None:
    JobCreate.model_validate({"name": "x", field: inside})
    JobUpdate.model_validate({field: inside})
    with pytest.raises(ValidationError):
        JobCreate.model_validate({"name": "x", field: outside})
    with pytest.raises(ValidationError):
        JobUpdate.model_validate({field: outside})


@pytest.mark.parametrize(("field", "valid", "invalid"), TYPES)
def test_a_field_of_a_job_accepts_only_values_of_its_type(
    field: str, valid: Any, invalid: Any
) -> None:
    JobCreate.model_validate({"name": "x", field: valid})
    JobUpdate.model_validate({field: valid})
    with pytest.raises(ValidationError):
        JobCreate.model_validate({"name": "x", field: invalid})
    with pytest.raises(ValidationError):
        JobUpdate.model_validate({field: invalid})


@pytest.mark.parametrize(("field", "inside", "outside"), SCHEDULE_BOUNDS)
def test_a_field_of_a_schedule_is_limited_to_its_bounds(
    field: str, inside: Any, outside: Any
) -> None:
    schedule = {"type": "interval", "interval_seconds": 5, "start_at": "2027-01-01T00:00:00Z"}
    JobCreate.model_validate({"name": "x", "schedules": [{**schedule, field: inside}]})
    with pytest.raises(ValidationError):
        JobCreate.model_validate({"name": "x", "schedules": [{**schedule, field: outside}]})


def test_an_edit_has_only_the_fields_that_its_body_contains() -> None:
    body = JobUpdate.model_validate({"retry": {"max_attempts": 2}, "target": {"url": "http://x/"}})
    assert body.model_fields_set == {"retry", "target"}
    assert body.retry.model_dump(exclude_unset=True) == {"max_attempts": 2}
    assert body.target.given_fields() == {"url": "http://x/"}
    assert body.target.given_type is None


def test_the_schema_of_an_edit_has_no_defaults() -> None:
    properties = JobUpdate.model_json_schema()["properties"]
    assert not [name for name, field in properties.items() if "default" in field]
