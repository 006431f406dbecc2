"""Which executions of a job's history may be deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.models.execution import ExecutionStatus
from app.models.past import Past

YOUNGEST = timedelta(hours=24)
"""Nothing younger is ever deleted: a record is what keeps its slot from being fired again by a
scheduler that was frozen with an old read."""

_SUCCESSES = frozenset({ExecutionStatus.SUCCEEDED})
_FAILURES = frozenset({ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT})
LASTING = (_SUCCESSES, _FAILURES)
"""Of each of these a job's newest execution is kept however old it is."""


@dataclass(frozen=True, slots=True)
class LastOf:
    """A job's newest execution among some old ones, of one lasting kind."""

    past: Past
    statuses: frozenset[ExecutionStatus]


def newest_lasting(page: Sequence[Past]) -> list[LastOf]:
    """Those of a page of old executions that may be their job's last success or failure."""
    newest: dict[tuple[str, frozenset[ExecutionStatus]], Past] = {}
    for past in page:
        for statuses in LASTING:
            if past.status in statuses:
                key = (past.job_id, statuses)
                if key not in newest or newest[key].scheduled_for < past.scheduled_for:
                    newest[key] = past
    return [LastOf(past, statuses) for (_, statuses), past in newest.items()]


def deletable(page: Sequence[Past], superseded: Mapping[str, bool]) -> list[str]:
    """The ids that may go. `superseded` says of each of `newest_lasting`, by id, whether the job
    has a newer one of its kind."""
    return [past.id for past in page if superseded.get(past.id, True)]
