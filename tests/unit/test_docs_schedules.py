"""The slots in the tables of docs/schedules.md are those that the service computes."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.errors import InvalidInputError
from app.models.coverage import Coverage, Gap
from app.models.job import Job
from app.models.policy import CatchUpMode, CatchUpPolicy, OverlapPolicy
from app.models.schedule import (
    MAX_INTERVAL_SECONDS,
    MAX_JITTER_SECONDS,
    MAX_RUNS,
    MAX_SCHEDULES,
    CronSchedule,
    IntervalSchedule,
    OneTimeSchedule,
    Schedule,
    first_slot,
    next_slot,
)
from app.models.target import LogTargetSpec
from app.policies.catch_up import LATE_START_INTERVAL, MAX_LATE_SLOTS, PlannedSlot, plan
from app.policies.overlap import MAX_WAITING
from app.services.due_schedules import _delay
from app.triggers import CronTrigger
from app.triggers.cron import Dst
from app.triggers.cron_dialect import _FIELDS, _NICKNAMES, _SECOND, MAX_LENGTH
from tests.support.documents import DOCS, read_code, read_table

PAGE = DOCS / "schedules.md"
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)  # a Friday
JOB = Job(
    id="j",
    owner_id="o",
    name="a job",
    target=LogTargetSpec(),
    created_at=NEW_YEAR,
    updated_at=NEW_YEAR,
)
BERLIN = "Europe/Berlin"
MINUTE = timedelta(minutes=1)
OUTAGE = Gap(
    datetime(2027, 1, 4, 9, 5, tzinfo=UTC),
    datetime(2027, 1, 4, 10, 1, 50, tzinfo=UTC),
    datetime(2027, 1, 4, 10, 2, tzinfo=UTC),
)
LATE_SLOTS = [datetime(2027, 1, 4, 9, tzinfo=UTC) + n * 10 * MINUTE for n in range(1, 7)]


def list_slots(schedule: Schedule, after: datetime, count: int = 3) -> list[datetime]:
    found: list[datetime] = []
    slot = next_slot(schedule, after)
    while slot is not None and len(found) < count:
        found.append(slot)
        slot = next_slot(schedule, slot)
    return found


def format_slots(slots: list[datetime]) -> str:
    return ", ".join(format_instant(slot) for slot in slots) or "none"


def format_instant(instant: datetime) -> str:
    return f"{instant:%a %Y-%m-%d %H:%M}" + (f":{instant:%S}" if instant.second else "")


def is_six_fields(expression: str) -> bool:
    return len(expression.split()) == 6


def compute_cron_slots(expression: str) -> str:
    schedule = CronSchedule(id="s", cron_expression=expression, seconds=is_six_fields(expression))
    return format_slots(list_slots(schedule, NEW_YEAR))


@pytest.mark.parametrize("heading", ["Examples", "Days of the month and days of the week"])
def test_the_slots_of_each_expression_are_those_of_the_service(heading: str) -> None:
    for row in read_table(PAGE, heading):
        assert row["first slots"] == compute_cron_slots(read_code(row["expression"])), row


def test_the_fields_of_an_expression_have_their_values_and_names() -> None:
    rows = {read_code(row["field"]): row for row in read_table(PAGE, "Fields")}
    assert list(rows) == [field.name for field in (_SECOND, *_FIELDS)]
    for field in (_SECOND, *_FIELDS):
        row = rows[field.name]
        assert row["values"] == f"{field.low} to {field.high}"
        names = field.names.split()
        assert row["names"] == (f"`{names[0]}` to `{names[-1]}`" if names else "")


def test_each_macro_is_listed_with_its_expression() -> None:
    rows = read_table(PAGE, "Macros")
    assert {read_code(row["macro"]): read_code(row["is"]) for row in rows} == _NICKNAMES


def test_each_expression_that_is_listed_as_refused_is_refused() -> None:
    rows = read_table(PAGE, "What is refused")
    assert len(rows) > 8
    for row in rows:
        expression = read_code(row["expression"])
        with pytest.raises(InvalidInputError):
            CronTrigger.parse(expression, zone=ZoneInfo("UTC"))
        if advised := re.fullmatch(r"`([^`{]+ [^`{]+)`", row["instead"]):
            CronTrigger.parse(advised[1], zone=ZoneInfo("UTC"))


def compute_interval_slots(created: str, start_at: str, seconds: str) -> str:
    start = None if start_at == "null" else datetime.fromisoformat(start_at)
    now = datetime.fromisoformat(created)
    schedule = IntervalSchedule(
        id="s", interval_seconds=int(seconds), anchor_at=start or now, start_at=start
    )
    first = first_slot(schedule, now)
    return format_slots([] if first is None else [first, *list_slots(schedule, first, 2)])


def test_the_slots_of_each_interval_are_those_of_the_service() -> None:
    for row in read_table(PAGE, "Intervals"):
        cells = [read_code(row[name]) for name in ("created", "`start_at`", "`interval_seconds`")]
        assert row["first slots"] == compute_interval_slots(*cells), row


def compute_bounded_slots(start_at: str, end_at: str) -> str:
    bounds = {
        name: None if text == "null" else datetime.fromisoformat(text)
        for name, text in (("start_at", start_at), ("end_at", end_at))
    }
    schedule = CronSchedule(id="s", cron_expression="0 * * * *", **bounds)
    return format_slots(list_slots(schedule, NEW_YEAR))


def test_the_slots_within_bounds_are_those_of_the_service() -> None:
    for row in read_table(PAGE, "Bounds"):
        bounds = [read_code(row[name]) for name in ("`start_at`", "`end_at`")]
        assert row["first slots"] == compute_bounded_slots(*bounds), row


def compute_night(expression: str, dst: Dst, night: str) -> str:
    """Return the slots from 01:00 until before 04:00 of the wall clock in Berlin."""
    zone = ZoneInfo(BERLIN)
    start = datetime.fromisoformat(f"{night}T01:00").replace(tzinfo=zone).astimezone(UTC)
    end = datetime.fromisoformat(f"{night}T04:00").replace(tzinfo=zone).astimezone(UTC)
    trigger = CronTrigger.parse(expression, zone=zone, dst=dst)
    found = []
    slot = trigger.next_after(start - timedelta(milliseconds=1))
    while slot is not None and slot < end:
        offset = slot.astimezone(zone).strftime("%z")
        found.append(f"{slot.astimezone(zone):%H:%M} {offset[:3]}:{offset[3:]}")
        slot = trigger.next_after(slot)
    return ", ".join(found) or "none"


@pytest.mark.parametrize(
    ("heading", "night"), [("A night in spring", "2027-03-28"), ("A night in autumn", "2027-10-31")]
)
def test_the_slots_of_a_night_with_a_change_of_the_clock(heading: str, night: str) -> None:
    rows = read_table(PAGE, heading)
    assert len(rows) >= 3
    assert night in PAGE.read_text()
    for row in rows:
        expression = read_code(row["expression"])
        for dst in Dst:
            assert row[f"`{dst}`"] == compute_night(expression, dst, night), row


def compute_late_slots(mode: CatchUpMode, window: int) -> dict[str, str]:
    """Return what happens to each slot of the outage, for a slot every ten minutes."""
    schedule = IntervalSchedule(
        id="s",
        interval_seconds=600,
        anchor_at=LATE_SLOTS[0] - 10 * MINUTE,
        next_run=LATE_SLOTS[0],
    )
    policy = CatchUpPolicy(policy=mode, window_seconds=window)
    coverage = Coverage(OUTAGE.found_at, (OUTAGE,))
    decided = plan(schedule, policy, OUTAGE.found_at, coverage, most=100)
    starts = {slot.at: slot.start_at for slot in decided.slots}
    cells = {}
    for slot in LATE_SLOTS:
        start = starts.get(slot)
        shown = "missed" if start is None else f"{start:%H:%M:%S}.{start.microsecond // 100_000}"
        cells[f"{slot:%H:%M}"] = shown
    return cells | {"`missed_count`": str(sum(span.count for span in decided.missed))}


def test_the_timeline_of_catch_up_is_what_the_policy_decides() -> None:
    rows = read_table(PAGE, "An outage")
    assert {read_code(row["`policy`"]) for row in rows} == set(CatchUpMode)
    for row in rows:
        mode, window = CatchUpMode(read_code(row["`policy`"])), int(row["`window_seconds`"])
        cells = compute_late_slots(mode, window)
        assert {name: row[name] for name in cells} == cells


def test_the_limits_of_jitter_are_those_of_the_service() -> None:
    for row in read_table(PAGE, "Jitter"):
        seconds, period = (int(row[name]) for name in ("`jitter_seconds`", "`interval_seconds`"))
        schedule = IntervalSchedule(
            id="s", interval_seconds=period, anchor_at=NEW_YEAR, jitter_seconds=seconds
        )
        slots = list_slots(schedule, NEW_YEAR, 200)
        longest = max(_delay(JOB, schedule, PlannedSlot(slot)) - slot for slot in slots)
        limit = timedelta(seconds=int(row["the delay is less than, seconds"]))
        assert 0.9 * limit < longest < limit, row


def test_the_timeline_of_overlap_has_each_policy() -> None:
    rows = read_table(PAGE, "Overlap")
    assert [read_code(row["policy"]) for row in rows] == list(OverlapPolicy)


def test_a_one_time_schedule_has_a_slot_only_at_its_instant() -> None:
    schedule = OneTimeSchedule(id="s", run_at=NEW_YEAR + MINUTE)
    assert list_slots(schedule, NEW_YEAR) == [NEW_YEAR + MINUTE]


def test_the_limits_in_the_text_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    per_second = timedelta(seconds=1) // LATE_START_INTERVAL
    for limit in (
        f"at most {MAX_LENGTH} characters",
        f"1 to {MAX_INTERVAL_SECONDS:,} seconds",
        f"at most {MAX_JITTER_SECONDS:,} seconds",
        f"1 to {MAX_RUNS:,}",
        f"at most {MAX_SCHEDULES} schedules",
        f"the latest {MAX_LATE_SLOTS:,}",
        f"{per_second} per second",
        f"At most {MAX_WAITING} executions wait",
    ):
        assert limit in text, limit
