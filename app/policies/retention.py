"""Which executions of a job's history may be deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.models.execution import ExecutionStatus
from app.models.finished_execution import FinishedExecution

YOUNGEST = timedelta(hours=24)
"""Younger executions are never deleted: the record of a slot keeps a scheduler that was frozen
with an old read from firing the slot again."""

_SUCCESSES = frozenset({ExecutionStatus.SUCCEEDED})
_FAILURES = frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT})
KEPT_GROUPS = (_SUCCESSES, _FAILURES)
"""A job's newest execution of each group is kept, however old it is."""


@dataclass(frozen=True, slots=True)
class NewestOfGroup:
    """The newest execution of one job and one kept group, among some old ones."""

    execution: FinishedExecution
    statuses: frozenset[ExecutionStatus]


def newest_of_groups(page: Sequence[FinishedExecution]) -> list[NewestOfGroup]:
    """The executions of a page that may be their job's last success or failure."""
    newest: dict[tuple[str, frozenset[ExecutionStatus]], FinishedExecution] = {}
    for execution in page:
        for statuses in KEPT_GROUPS:
            if execution.status in statuses:
                key = (execution.job_id, statuses)
                if key not in newest or newest[key].scheduled_for < execution.scheduled_for:
                    newest[key] = execution
    return [NewestOfGroup(execution, statuses) for (_, statuses), execution in newest.items()]


def deletable(page: Sequence[FinishedExecution], superseded: Mapping[str, bool]) -> list[str]:
    """The ids of the executions that may be deleted. `superseded` says for each of
    `newest_of_groups`, by id, whether the job has a newer one of its group."""
    return [execution.id for execution in page if superseded.get(execution.id, True)]
