"""Schedules in `schedules`, in previews and on their own accept periods, and show their type."""

from typing import Any

import httpx2
import pytest

from tests.support.api import JsonBody, assert_problem, create_job

RUN_AT = "2027-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"cron_expression": "0 9 * * *"}, {"type": "cron", "cron_expression": "0 9 * * *"}),
        ({"interval": 60}, {"type": "interval", "interval_seconds": 60}),
        ({"interval": "10m"}, {"type": "interval", "interval_seconds": 600}),
        ({"interval": "PT10M", "max_runs": 3}, {"type": "interval", "interval_seconds": 600}),
        ({"type": "interval", "interval": "1h30m"}, {"interval_seconds": 5_400}),
        ({"schedule_type": "interval", "interval": "7 days"}, {"interval_seconds": 604_800}),
        ({"interval_seconds": 60, "interval": None}, {"type": "interval", "interval_seconds": 60}),
        ({"run_at": RUN_AT}, {"type": "one_time", "run_at": RUN_AT}),
    ],
)
async def test_an_entry_needs_no_type_and_takes_periods(
    alice: httpx2.AsyncClient, entry: JsonBody, expected: JsonBody
) -> None:
    job = await create_job(alice, schedules=[entry])
    assert expected.items() <= job["schedules"][0].items()
    added = await alice.post(f"/jobs/{job['id']}/schedules", json=entry)
    assert expected.items() <= added.json().items()
    preview = await alice.post("/schedules/preview", json=entry)
    assert preview.status_code == 200, preview.text


async def test_an_interval_changes_with_a_period_as_text(alice: httpx2.AsyncClient) -> None:
    job = await create_job(alice, schedules=[{"interval": 60}])
    path = f"/schedules/{job['schedules'][0]['id']}"
    assert (await alice.patch(path, json={"interval": "2h"})).json()["interval_seconds"] == 7_200
    edit = await alice.put(f"/jobs/{job['id']}", json={"schedules": [{"interval": "3h"}]})
    assert edit.json()["schedules"][0]["interval_seconds"] == 10_800


@pytest.mark.parametrize(
    ("entry", "pointer", "text"),
    [
        ({"interval": "10m", "interval_seconds": 600}, "/interval", "cannot be used together"),
        ({"interval": "10m", "schedule_config": {"hours": 1}}, "/interval", "cannot be used tog"),
        ({"interval": 60, "cron_expression": "0 9 * * *"}, "/interval", "cannot be used together"),
        ({"interval_seconds": 60, "run_at": RUN_AT}, "/run_at", "cannot be used together"),
        ({"type": "cron", "interval": 60}, "/interval", "belongs to the type interval"),
        ({"interval": "10 parsecs"}, "/interval", "a text such as 10m"),
        ({"interval": 0}, "/interval", "a period must be from 1"),
        (
            {"interval_seconds": "10m"},
            "/interval_seconds",
            "a whole number of seconds, such as 600;",
        ),
        ({"interval_seconds": "often"}, "/interval_seconds", "is sent as `interval`"),
        ({"type": "interval", "seconds": 600}, "/seconds", "send the period as `interval`"),
        ({"type": "interval", "minutes": 10}, "/minutes", "send the period as `interval`"),
        ({"max_runs": 3}, "/type", "one of: cron, interval, one_time"),
    ],
)
async def test_a_wrong_entry_is_told_what_to_send(
    alice: httpx2.AsyncClient, entry: dict[str, Any], pointer: str, text: str
) -> None:
    preview = await alice.post("/schedules/preview", json=entry)
    details = {e["pointer"]: e["detail"] for e in assert_problem(preview, 422)["errors"]}
    assert text in details[pointer]
    created = await alice.post("/jobs", json={"name": "x", "schedules": [entry]})
    details = {e["pointer"]: e["detail"] for e in assert_problem(created, 422)["errors"]}
    assert text in details[f"/schedules/0{pointer}"]
