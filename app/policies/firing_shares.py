"""Shares of a firing: in which order due jobs are fired, and how many slots of each are decided.

The owners take turns. So a job waits for a few jobs of each other owner at most, however many due
jobs or slots that owner has.
"""

from collections import Counter
from collections.abc import Sequence

from app.models.coverage import Coverage
from app.models.job import Job

MAX_DECISIONS = 1_000
"""About the most decisions on one owner's jobs that are on time in one firing, and on all late jobs
together; each job has at least `_MIN_DECISIONS`. The next firing continues. So neither one owner
nor the backlog of an outage delays the other jobs that are on time."""

_MIN_DECISIONS = 20  # of a job, so that a firing makes progress with each job that it reads


def divide_decisions(
    jobs: Sequence[Job], coverage: Coverage
) -> tuple[list[tuple[Job, int]], list[tuple[Job, int]]]:
    """The jobs that are on time, and those that are late, each with the most decisions in this
    firing."""
    ordered = _interleave_jobs(jobs)
    on_time = [job for job in ordered if not coverage.is_before_gap_end(job.next_run)]
    late = [job for job in ordered if coverage.is_before_gap_end(job.next_run)]
    counts = Counter(job.owner_id for job in on_time)
    return (
        [(job, _divide(counts[job.owner_id])) for job in on_time],
        [(job, _divide(len(late))) for job in late],
    )


def _divide(jobs: int) -> int:
    return max(_MIN_DECISIONS, MAX_DECISIONS // jobs)


def _interleave_jobs(jobs: Sequence[Job]) -> list[Job]:
    """The first job of each owner, then the second of each, and so on, each time in the given
    order."""
    turns: Counter[str] = Counter()
    numbered = []
    for job in jobs:
        turns[job.owner_id] += 1
        numbered.append((turns[job.owner_id], job))
    return [job for _, job in sorted(numbered, key=lambda pair: pair[0])]
