"""Decides which executions of a job's history may be deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.models.execution import ExecutionStatus
from app.models.finished_execution import FinishedExecution

MIN_AGE = timedelta(hours=24)
"""Younger executions are never deleted. A scheduler that was frozen after a read must still find
the record of a slot, otherwise it fires the slot again."""

KEPT_RESPONSES = 20
"""Of how many executions of a job the responses are kept, and of how many failures."""

_SUCCESSES = frozenset({ExecutionStatus.SUCCEEDED})
FAILURES = frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT})
"""The statuses that count as a failure of a job."""
KEPT_GROUPS = (_SUCCESSES, FAILURES)
"""The newest execution of each group is kept while its job exists, without a limit of age."""


@dataclass(frozen=True, slots=True)
class NewestOfGroup:
    """The newest execution of a job with these statuses in a page of old executions."""

    execution: FinishedExecution
    statuses: frozenset[ExecutionStatus]


def select_advanced(
    page: Sequence[FinishedExecution], next_runs: Mapping[str, datetime | None]
) -> list[FinishedExecution]:
    """Return the executions of a page whose slots precede the `next_run` of their jobs.

    If schedulers are down after the record of a slot and before the advance of `next_run`, then the
    record keeps the slot from being fired again when they are back.
    """
    advanced = []
    for execution in page:
        next_run = next_runs.get(execution.job_id)
        if next_run is None or execution.scheduled_for < next_run:
            advanced.append(execution)
    return advanced


def select_newest_of_groups(page: Sequence[FinishedExecution]) -> list[NewestOfGroup]:
    """Return the executions of a page that may be the last success or failure of their job."""
    newest: dict[tuple[str, frozenset[ExecutionStatus]], FinishedExecution] = {}
    for execution in page:
        for statuses in KEPT_GROUPS:
            if execution.status in statuses:
                key = (execution.job_id, statuses)
                if key not in newest or newest[key].scheduled_for < execution.scheduled_for:
                    newest[key] = execution
    return [NewestOfGroup(execution, statuses) for (_, statuses), execution in newest.items()]


def select_deletable(
    page: Sequence[FinishedExecution], superseded: Mapping[str, bool]
) -> list[str]:
    """Return the ids of the executions that may be deleted.

    `superseded` states for each id of `select_newest_of_groups` whether the job has a newer
    execution of the same group. If not, the execution is kept. All other executions of the page may
    be deleted, also all executions of jobs that do not exist any more.
    """
    return [execution.id for execution in page if superseded.get(execution.id, True)]
