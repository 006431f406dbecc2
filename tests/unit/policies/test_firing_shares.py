"""In which order due jobs are fired, and how many slots of each are decided."""

from datetime import UTC, datetime, timedelta

from app.models.coverage import Coverage, Gap
from app.models.job import Job
from app.models.target import LogTargetSpec
from app.policies.firing_shares import divide_decisions

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NO_GAP = Coverage(NOW)


def make_jobs(owner_id: str, count: int, *, next_run: datetime = NOW) -> list[Job]:
    return [
        Job(
            id=f"{owner_id}{n}",
            owner_id=owner_id,
            name="a job",
            target=LogTargetSpec(),
            schedules=(),
            next_run=next_run,
            created_at=NOW,
            updated_at=NOW,
        )
        for n in range(count)
    ]


def test_the_owners_take_turns() -> None:
    jobs = [*make_jobs("a", 3), *make_jobs("b", 1), *make_jobs("c", 2)]
    on_time, late = divide_decisions(jobs, NO_GAP)
    assert [job.id for job, _ in on_time] == ["a0", "b0", "c0", "a1", "c1", "a2"]
    assert late == []


def test_the_jobs_of_an_owner_share_its_decisions() -> None:
    jobs = [*make_jobs("a", 1), *make_jobs("b", 4), *make_jobs("c", 400)]
    on_time, _ = divide_decisions(jobs, NO_GAP)
    assert {job.owner_id: most for job, most in on_time} == {"a": 1_000, "b": 250, "c": 20}


def test_late_jobs_share_the_decisions_of_all_late_jobs() -> None:
    gap = Gap(after=NOW - 5 * MINUTE, until=NOW - MINUTE, found_at=NOW)
    jobs = [
        *make_jobs("a", 3, next_run=NOW - 2 * MINUTE),
        *make_jobs("b", 1, next_run=NOW - 2 * MINUTE),
        *make_jobs("a", 1),
    ]
    on_time, late = divide_decisions(jobs, Coverage(NOW, (gap,)))
    assert [(job.id, most) for job, most in on_time] == [("a0", 1_000)]
    assert [(job.id, most) for job, most in late] == [
        ("a0", 250),
        ("b0", 250),
        ("a1", 250),
        ("a2", 250),
    ]
