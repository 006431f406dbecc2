"""Every form of a schedule in a request becomes the same `ScheduleToWrite`."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from app.errors import ConflictError, InvalidInputError
from app.models.schedule import CronSchedule, IntervalSchedule, OneTimeSchedule
from app.schemas.jobs import JobCreate, JobUpdate
from app.schemas.schedules import ScheduleChange, ScheduleIn
from app.schemas.schedules_to_write import (
    ScheduleToWrite,
    read_job_schedules,
    read_new_schedule,
    read_schedule_edit,
)
from app.triggers.cron import Dst

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
CRON = CronSchedule(
    id="cron", cron_expression="0 9 * * MON", timezone="Europe/Berlin", dst=Dst.TWICE, max_runs=5
)
SIX_FIELDS = CRON.model_copy(update={"cron_expression": "0 0 9 * * MON", "seconds": True})
INTERVAL = IntervalSchedule(
    id="interval", interval_seconds=60, anchor_at=START, jitter_seconds=7, active=False
)
ONE_TIME = OneTimeSchedule(id="one_time", run_at=START)


def read(
    body: dict[str, Any], *existing: CronSchedule | IntervalSchedule | OneTimeSchedule
) -> list[ScheduleToWrite] | None:
    return read_job_schedules(JobUpdate.model_validate(body), existing)


def read_one(
    body: dict[str, Any], *existing: CronSchedule | IntervalSchedule | OneTimeSchedule
) -> dict[str, Any]:
    """Return the fields of the only schedule that the body describes."""
    to_write = read(body, *existing)
    assert to_write is not None
    (one,) = to_write
    return one.fields.model_dump()


def read_full_form(**fields: Any) -> ScheduleIn:
    adapter: TypeAdapter[ScheduleIn] = TypeAdapter(ScheduleIn)
    return adapter.validate_python(fields)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ({"interval": 600}, {"type": "interval", "interval_seconds": 600}),
        ({"interval": "PT10M"}, {"type": "interval", "interval_seconds": 600}),
        (
            {"schedule_type": "interval", "schedule_config": {"minutes": 10}},
            {"type": "interval", "interval_seconds": 600},
        ),
        (
            {"interval": 600, "next_run": "2027-01-01T00:00:00Z"},
            {"type": "interval", "interval_seconds": 600, "start_at": "2027-01-01T00:00:00Z"},
        ),
        (
            {
                "cron_expression": "0 9 * * *",
                "timezone": "Europe/Berlin",
                "start_time": "2027-01-01T00:00:00Z",
            },
            {
                "type": "cron",
                "cron_expression": "0 9 * * *",
                "timezone": "Europe/Berlin",
                "start_at": "2027-01-01T00:00:00Z",
            },
        ),
        (
            {"run_at": "2027-01-01T00:00:00Z"},
            {"type": "one_time", "run_at": "2027-01-01T00:00:00Z"},
        ),
        (
            {"schedule_type": "one_time", "run_at": "2027-01-01T01:00:00+01:00"},
            {"type": "one_time", "run_at": "2027-01-01T00:00:00Z"},
        ),
        (
            {
                "schedule_type": "cron",
                "schedule_config": {"cron_expression": "0 9 * * MON", "timezone": "Europe/Berlin"},
            },
            {"type": "cron", "cron_expression": "0 9 * * MON", "timezone": "Europe/Berlin"},
        ),
        (
            {"schedule_type": "cron", "schedule_config": {"hour": 9, "day_of_week": "MON-FRI"}},
            {"type": "cron", "cron_expression": "0 9 * * MON-FRI"},
        ),
    ],
)
def test_a_short_form_equals_its_full_form(short: dict[str, Any], full: dict[str, Any]) -> None:
    for body in (
        JobCreate.model_validate({"name": "x", **short}),
        JobUpdate.model_validate(short),
    ):
        to_write = read_job_schedules(body, ())
        assert to_write is not None
        assert [one.fields for one in to_write] == [
            read_new_schedule(read_full_form(**full)).fields
        ]
    listed = read({"schedules": [full]})
    assert listed is not None
    assert listed[0].fields.model_dump() == read_full_form(**full).model_dump()


def test_absent_schedules_stay_and_an_empty_list_removes_them() -> None:
    assert read({"name": "x"}, CRON) is None
    assert read({"schedules": []}, CRON) == []


@pytest.mark.parametrize(
    ("body", "field", "pointer"),
    [
        ({"interval": 60}, "interval_seconds", "/interval"),
        ({"schedule_config": {"seconds": 60}}, "interval_seconds", "/schedule_config"),
        (
            {"schedule_config": {"cron_expression": "0 9 * * *"}},
            "cron_expression",
            "/schedule_config",
        ),
        ({"run_at": "2027-01-01T00:00:00Z"}, "run_at", "/run_at"),
        ({"cron_expression": "0 9 * * *"}, "cron_expression", "/cron_expression"),
        (
            {"interval": 60, "start_time": "2027-01-01T00:00:00Z"},
            "start_at",
            "/start_time",
        ),
        ({"interval": 60, "next_run": "2027-01-01T00:00:00Z"}, "start_at", "/next_run"),
        (
            {"schedules": [{"type": "interval", "interval_seconds": 60}]},
            "interval_seconds",
            "/schedules/0/interval_seconds",
        ),
    ],
)
def test_a_pointer_names_the_field_of_the_body(
    body: dict[str, Any], field: str, pointer: str
) -> None:
    to_write = read(body)
    assert to_write is not None
    assert to_write[0].pointer(field) == pointer


def test_a_short_form_of_the_same_type_keeps_all_other_fields() -> None:
    assert read_one({"interval": 90}, INTERVAL) == {
        "type": "interval",
        "id": "interval",
        "interval_seconds": 90,
        "timezone": "UTC",
        "start_at": None,
        "end_at": None,
        "active": False,
        "max_runs": None,
        "jitter_seconds": 7,
    }
    changed = read_one({"cron_expression": "0 8 * * *"}, CRON)
    assert (changed["id"], changed["cron_expression"]) == ("cron", "0 8 * * *")
    assert (changed["timezone"], changed["dst"], changed["max_runs"]) == (
        "Europe/Berlin",
        Dst.TWICE,
        5,
    )


@pytest.mark.parametrize("existing", [CRON, INTERVAL, ONE_TIME])
def test_a_time_zone_alone_changes_only_the_time_zone(
    existing: CronSchedule | IntervalSchedule | OneTimeSchedule,
) -> None:
    fields = read_one({"timezone": "Asia/Tokyo"}, existing)
    kept = existing.model_dump(include=set(fields) - {"timezone"})
    assert fields == {**kept, "timezone": "Asia/Tokyo"}


def test_a_new_expression_has_five_fields_even_if_the_present_one_has_six() -> None:
    assert read_one({"timezone": "UTC"}, SIX_FIELDS)["seconds"] is True
    assert read_one({"cron_expression": "0 9 * * *"}, SIX_FIELDS)["seconds"] is False


@pytest.mark.parametrize(
    ("body", "existing"),
    [
        ({"interval": 60}, CRON),
        ({"cron_expression": "0 9 * * *"}, INTERVAL),
        ({"interval": 60}, ONE_TIME),
        ({"run_at": "2027-01-01T00:00:00Z"}, CRON),
        ({"run_at": "2027-01-01T00:00:00Z"}, INTERVAL),
        ({"schedule_config": {"cron_expression": "0 9 * * *"}}, INTERVAL),
    ],
)
def test_a_short_form_of_another_type_replaces_the_schedule_but_keeps_its_bounds(
    body: dict[str, Any], existing: CronSchedule | IntervalSchedule | OneTimeSchedule
) -> None:
    fields = read_one(body, existing)
    assert fields["id"] is None
    assert fields["type"] != existing.type
    bounds = {"timezone", "start_at", "end_at", "active", "max_runs", "jitter_seconds"}
    assert {name: fields[name] for name in bounds} == existing.model_dump(include=bounds)


def test_a_type_alone_does_not_change_the_type_of_the_present_schedule() -> None:
    assert read_one({"schedule_type": "cron"}, CRON)["id"] == "cron"
    with pytest.raises(InvalidInputError) as rejected:
        read({"schedule_type": "one_time"}, CRON)
    assert rejected.value.errors[0].pointer == "/schedule_type"


def test_an_instant_alone_changes_the_one_time_schedule() -> None:
    changed = read_one({"run_at": "2027-01-01T00:00:00Z"}, ONE_TIME)
    assert (changed["id"], changed["run_at"]) == ("one_time", datetime(2027, 1, 1, tzinfo=UTC))


def test_a_short_form_conflicts_with_several_schedules() -> None:
    with pytest.raises(ConflictError):
        read({"interval": 60}, CRON, INTERVAL)


def test_a_partial_short_form_needs_a_present_schedule() -> None:
    with pytest.raises(InvalidInputError):
        read({"timezone": "Asia/Tokyo"})


def test_a_new_schedule_has_no_id() -> None:
    with pytest.raises(InvalidInputError) as raised:
        read_new_schedule(read_full_form(type="interval", interval_seconds=60, id="x"))
    assert [error.pointer for error in raised.value.errors] == ["/id"]
    to_write = read_new_schedule(read_full_form(type="interval", interval_seconds=60, id=None))
    assert to_write.fields.id is None
    assert to_write.pointer("interval_seconds") == "/interval_seconds"


def test_an_edit_of_a_schedule_keeps_the_fields_that_it_does_not_name() -> None:
    fields = read_schedule_edit(ScheduleChange(max_runs=3), CRON).fields.model_dump()
    kept = CRON.model_dump(include=set(fields) - {"max_runs"})
    assert fields == {**kept, "max_runs": 3}


def test_an_edit_of_the_type_requires_the_fields_of_the_new_type() -> None:
    change = ScheduleChange(type="interval")
    with pytest.raises(InvalidInputError) as rejected:
        read_schedule_edit(change, CRON)
    assert rejected.value.errors[0].pointer == "/interval_seconds"
    change = ScheduleChange(type="interval", interval_seconds=60)
    fields = read_schedule_edit(change, CRON).fields
    assert (fields.id, fields.type, fields.timezone) == ("cron", "interval", "Europe/Berlin")
