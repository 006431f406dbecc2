"""Every short form becomes one schedule."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from tests.support.api import Api, JsonBody, assert_names, assert_problem, create_job
from tests.support.clock import START

MONDAY_9 = "0 9 * * MON"


def get_only_schedule(job: JsonBody) -> JsonBody:
    [schedule] = job["schedules"]
    assert isinstance(schedule, dict)
    return schedule


async def test_a_cron_short_form_may_name_its_type(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, schedule_type="cron", cron_expression=MONDAY_9)
    schedule = get_only_schedule(job)
    assert schedule["type"] == "cron"
    assert schedule["cron_expression"] == MONDAY_9
    assert schedule["timezone"] == "UTC"
    assert job["next_run"] == "2026-11-23T09:00:00Z"


async def test_a_cron_short_form_may_have_seconds(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, cron_expression="*/20 * * * * *", seconds=True)
    schedule = get_only_schedule(job)
    assert (schedule["cron_expression"], schedule["seconds"]) == ("*/20 * * * * *", True)
    assert job["next_run"] == format_instant(START + timedelta(seconds=20))


async def test_a_short_form_changes_whether_the_expression_has_seconds(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice, cron_expression=MONDAY_9)
    path, six = f"/jobs/{job['id']}", {"cron_expression": "0 0 9 * * MON", "seconds": True}
    schedule = get_only_schedule((await alice.patch(path, json=six)).json())
    assert schedule["seconds"] is True
    edited = (await alice.patch(path, json={"timezone": "Europe/Berlin"})).json()
    assert get_only_schedule(edited)["seconds"] is True
    edited = (await alice.patch(path, json={"cron_expression": MONDAY_9})).json()
    assert get_only_schedule(edited)["seconds"] is False


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ({"seconds": 10}, 10),
        ({"minutes": 2}, 120),
        ({"hours": 1}, 3_600),
        ({"days": 1}, 86_400),
        ({"weeks": 1}, 604_800),
        ({"hours": 1, "minutes": 30}, 5_400),
    ],
)
async def test_an_interval_short_form_may_be_a_config(
    alice: httpx2.AsyncClient, config: JsonBody, seconds: int
) -> None:
    job = await create_job(alice, schedule_type="interval", schedule_config=config)
    assert get_only_schedule(job)["interval_seconds"] == seconds
    assert job["next_run"] == format_instant(START + timedelta(seconds=seconds))


async def test_a_cron_short_form_accepts_a_past_start_time(alice: httpx2.AsyncClient) -> None:
    job = await create_job(
        alice,
        cron_expression=MONDAY_9,
        start_time="2025-07-01T09:00:00Z",
        parameters={"action": "send_email"},
    )
    assert get_only_schedule(job)["start_at"] == "2025-07-01T09:00:00Z"
    assert job["parameters"] == {"action": "send_email"}
    assert job["next_run"] == "2026-11-23T09:00:00Z"


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        (600, 600),
        ("10m", 600),
        ("1h30m", 5_400),
        ("7 days", 604_800),
        ("PT10M", 600),
        ("P1DT1H", 90_000),
        ("P1W", 604_800),
        ("PT1H30M5S", 5_405),
    ],
)
async def test_an_interval_may_be_a_number_or_a_duration(
    alice: httpx2.AsyncClient, interval: int | str, seconds: int
) -> None:
    job = await create_job(alice, interval=interval)
    assert get_only_schedule(job)["interval_seconds"] == seconds


async def test_next_run_with_an_interval_is_its_start(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, interval=600, next_run="2026-11-23T12:00:05Z")
    assert get_only_schedule(job)["start_at"] == "2026-11-23T12:00:05Z"
    assert job["next_run"] == "2026-11-23T12:00:05Z"


async def test_a_past_start_of_an_interval_is_its_anchor(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, interval=600, next_run="2026-11-23T07:55:30Z")
    assert job["next_run"] == "2026-11-23T08:05:30Z"


async def test_a_short_form_accepts_a_time_zone(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, cron_expression=MONDAY_9, timezone="Europe/Berlin")
    assert job["next_run"] == format_instant(
        datetime(2026, 11, 30, 8, tzinfo=UTC)
    )  # strictly after 8:00


async def test_nulls_in_a_short_form_count_as_absent(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, interval=600, cron_expression=None, next_run=None)
    assert get_only_schedule(job)["type"] == "interval"


WRONG: list[tuple[JsonBody, str]] = [
    ({"schedule_type": "cron"}, "/cron_expression"),
    ({"schedule_type": "interval"}, "/schedule_config"),
    ({"schedule_type": "weekly"}, "/schedule_type"),
    ({"schedule_type": "cron", "interval": 5}, "/interval"),
    ({"schedule_type": "interval", "cron_expression": MONDAY_9}, "/cron_expression"),
    ({"cron_expression": MONDAY_9, "interval": 5}, "/interval"),
    ({"interval": 5, "schedule_config": {"seconds": 5}}, "/interval"),
    ({"interval": 5, "schedules": []}, "/interval"),
    ({"cron_expression": MONDAY_9, "schedules": []}, "/cron_expression"),
    ({"timezone": "Europe/Berlin"}, "/timezone"),
    ({"start_time": "2026-12-01T00:00:00Z"}, "/start_time"),
    ({"next_run": "2026-12-01T00:00:00Z"}, "/next_run"),
    ({"cron_expression": MONDAY_9, "next_run": "2026-12-01T00:00:00Z"}, "/next_run"),
    ({"cron_expression": "61 * * * *"}, "/cron_expression"),
    ({"cron_expression": "0 0 30 2 *"}, "/cron_expression"),
    ({"cron_expression": "* * * * * *"}, "/cron_expression"),
    ({"cron_expression": "* * * * * *", "seconds": False}, "/cron_expression"),
    ({"cron_expression": MONDAY_9, "seconds": True}, "/cron_expression"),
    ({"cron_expression": "* * * * * *", "seconds": 1}, "/seconds"),
    ({"seconds": True}, "/seconds"),
    ({"interval": 5, "seconds": True}, "/seconds"),
    ({"seconds": True, "schedules": []}, "/seconds"),
    ({"interval": 0}, "/interval"),
    ({"interval": -5}, "/interval"),
    ({"interval": 31_536_001}, "/interval"),
    ({"interval": 1.5}, "/interval"),
    ({"interval": True}, "/interval"),
    ({"interval": "10"}, "/interval"),
    ({"interval": "P1M"}, "/interval"),
    ({"interval": "PT"}, "/interval"),
    ({"interval": "P1Y"}, "/interval"),
    ({"interval": {"$gt": ""}}, "/interval"),
    ({"interval": "1 month"}, "/interval"),
    ({"schedule_type": "one_time"}, "/run_at"),
    ({"schedule_type": "one_time", "interval": 5}, "/interval"),
    ({"schedule_type": "cron", "run_at": "2026-12-01T00:00:00Z"}, "/run_at"),
    ({"run_at": "2026-12-01T00:00:00Z", "interval": 5}, "/run_at"),
    ({"run_at": "2026-12-01T00:00:00Z", "schedules": []}, "/run_at"),
    ({"run_at": "2020-01-01T00:00:00Z"}, "/run_at"),
    ({"schedule_type": "cron", "schedule_config": {"minutes": 5}}, "/schedule_config"),
    ({"schedule_type": "one_time", "schedule_config": {"minutes": 5}}, "/schedule_config"),
    ({"schedule_config": {"minute": 5}}, "/schedule_config/minute"),
    ({"schedule_type": "interval", "schedule_config": {"hour": 5}}, "/schedule_config/hour"),
    ({"schedule_type": "cron", "schedule_config": {"hour": [5]}}, "/schedule_config/hour"),
    ({"schedule_type": "cron", "schedule_config": {"hour": 25}}, "/schedule_config/hour"),
    ({"schedule_type": "cron", "schedule_config": {"hour": "25"}}, "/schedule_config"),
    ({"schedule_config": {"cron_expression": "61 * * * *"}}, "/schedule_config/cron_expression"),
    ({"schedule_config": {"day_of_week": "1"}}, "/schedule_config/day_of_week"),
    (
        {"timezone": "UTC", "schedule_config": {"seconds": 5, "timezone": "UTC"}},
        "/schedule_config/timezone",
    ),
    ({"schedules": [{"schedule_type": "weekly"}]}, "/schedules/0/schedule_type"),
    ({"schedules": [{"schedule_type": "interval"}]}, "/schedules/0/interval_seconds"),
    ({"schedules": [{"schedule_config": {"minutes": 0}}]}, "/schedules/0/schedule_config/minutes"),
    ({"schedules": [{"schedule_config": {"minute": 5}}]}, "/schedules/0/schedule_config/minute"),
    (
        {"schedules": [{"type": "interval", "schedule_type": "interval", "interval_seconds": 5}]},
        "/schedules/0/schedule_type",
    ),
    (
        {"schedules": [{"schedule_config": {"seconds": 5}, "interval_seconds": 5}]},
        "/schedules/0/interval_seconds",
    ),
    (
        {"schedules": [{"type": "cron", "schedule_config": {"seconds": 5}}]},
        "/schedules/0/schedule_config",
    ),
    ({"schedule_config": {}}, "/schedule_config"),
    ({"schedule_config": {"seconds": 0}}, "/schedule_config/seconds"),
    ({"schedule_config": {"seconds": "10"}}, "/schedule_config/seconds"),
    ({"schedule_config": {"weeks": 53}}, "/schedule_config/weeks"),
    ({"schedule_config": {"months": 1}}, "/schedule_config/months"),
    ({"interval": 5, "timezone": "localtime"}, "/timezone"),
    ({"interval": 5, "timezone": "../../etc/passwd"}, "/timezone"),
]


async def test_a_wrong_short_form_names_the_field_that_was_sent(alice: httpx2.AsyncClient) -> None:
    for body, pointer in WRONG:
        assert_names(await alice.post("/jobs", json={"name": "a job", **body}), pointer)


async def test_a_one_time_short_form_has_one_slot(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, schedule_type="one_time", run_at="2026-12-01T09:00:00+01:00")
    schedule = get_only_schedule(job)
    assert (schedule["type"], schedule["run_at"]) == ("one_time", "2026-12-01T08:00:00Z")
    assert job["next_run"] == "2026-12-01T08:00:00Z"
    response = await alice.patch(f"/jobs/{job['id']}", json={"run_at": "2026-12-02T08:00:00Z"})
    assert get_only_schedule(response.json())["id"] == schedule["id"]
    assert response.json()["next_run"] == "2026-12-02T08:00:00Z"


async def test_schedules_may_have_a_schedule_type_and_a_schedule_config(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(
        alice,
        schedules=[
            {"schedule_type": "interval", "schedule_config": {"minutes": 10}, "max_runs": 3},
            {
                "schedule_type": "cron",
                "schedule_config": {"cron_expression": MONDAY_9, "timezone": "Europe/Berlin"},
                "dst": "skip",
            },
            {"schedule_type": "cron", "schedule_config": {"hour": 9, "minute": 30}},
            {
                "schedule_type": "cron",
                "seconds": True,
                "schedule_config": {"cron_expression": "0 0 9 * * *"},
            },
            {"schedule_type": "one_time", "run_at": "2026-12-01T09:00:00Z"},
        ],
    )
    period, monday, half_past, six_fields, once = job["schedules"]
    assert (period["interval_seconds"], period["max_runs"]) == (600, 3)
    assert (monday["cron_expression"], monday["timezone"]) == (MONDAY_9, "Europe/Berlin")
    assert monday["dst"] == "skip"
    assert half_past["cron_expression"] == "30 9 * * *"
    assert (six_fields["cron_expression"], six_fields["seconds"]) == ("0 0 9 * * *", True)
    assert (once["type"], once["run_at"]) == ("one_time", "2026-12-01T09:00:00Z")
    assert not any("schedule_config" in schedule for schedule in job["schedules"])


async def test_a_single_schedule_may_have_a_schedule_type_and_a_schedule_config(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice)
    body = {"schedule_type": "interval", "schedule_config": {"hours": 1}}
    schedule = (await alice.post(f"/jobs/{job['id']}/schedules", json=body)).json()
    assert schedule["interval_seconds"] == 3_600
    preview = (await alice.post("/schedules/preview", json=body)).json()
    assert preview["description"] == "Every hour"
    change = {"schedule_config": {"minutes": 5}}
    changed = (await alice.patch(f"/schedules/{schedule['id']}", json=change)).json()
    assert (changed["id"], changed["interval_seconds"]) == (schedule["id"], 300)


async def test_a_period_alone_changes_the_interval(api: Api, alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, schedule_type="interval", schedule_config={"seconds": 10})
    before = get_only_schedule(job)
    api.clock.advance(timedelta(seconds=5))
    response = await alice.put(f"/jobs/{job['id']}", json={"schedule_config": {"seconds": 20}})
    after = get_only_schedule(response.json())
    assert after["interval_seconds"] == 20
    assert after["id"] == before["id"]
    assert after["anchor_at"] == before["anchor_at"]
    assert after["next_run"] == format_instant(START + timedelta(seconds=20))


async def test_an_expression_alone_changes_the_cron_schedule(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, cron_expression=MONDAY_9, timezone="Europe/Berlin")
    response = await alice.patch(f"/jobs/{job['id']}", json={"cron_expression": "30 10 * * *"})
    schedule = get_only_schedule(response.json())
    assert schedule["id"] == get_only_schedule(job)["id"]
    assert schedule["timezone"] == "Europe/Berlin"
    assert schedule["next_run"] == "2026-11-23T09:30:00Z"


async def test_a_time_zone_alone_changes_the_cron_schedule(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, cron_expression="0 12 * * *")
    response = await alice.patch(f"/jobs/{job['id']}", json={"timezone": "America/New_York"})
    assert get_only_schedule(response.json())["next_run"] == "2026-11-23T17:00:00Z"


async def test_a_short_form_of_another_type_replaces_the_schedule(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice, cron_expression=MONDAY_9, timezone="Europe/Berlin")
    response = await alice.patch(f"/jobs/{job['id']}", json={"interval": 60})
    schedule = get_only_schedule(response.json())
    assert schedule["type"] == "interval"
    assert schedule["id"] != get_only_schedule(job)["id"]
    assert schedule["timezone"] == "Europe/Berlin"


async def test_a_short_form_gives_a_job_without_schedules_its_first(
    alice: httpx2.AsyncClient,
) -> None:
    job = await create_job(alice)
    assert job["schedules"] == []
    assert job["next_run"] is None
    response = await alice.patch(f"/jobs/{job['id']}", json={"timezone": "Europe/Berlin"})
    assert_problem(response, 422)
    response = await alice.patch(f"/jobs/{job['id']}", json={"interval": 60})
    assert get_only_schedule(response.json())["interval_seconds"] == 60


async def test_a_short_form_to_a_job_with_several_schedules_is_a_conflict(
    alice: httpx2.AsyncClient,
) -> None:
    two = [{"type": "interval", "interval_seconds": seconds} for seconds in (60, 90)]
    job = await create_job(alice, schedules=two)
    response = await alice.patch(f"/jobs/{job['id']}", json={"interval": 60})
    assert_problem(response, 409)


async def test_a_partial_short_form_must_fit_the_type(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, interval=60)
    response = await alice.patch(
        f"/jobs/{job['id']}", json={"schedule_type": "interval", "cron_expression": MONDAY_9}
    )
    assert_names(response, "/cron_expression")


def format_instant(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
