"""The attempts of each execution, and the deliveries that belong to them."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from tests.chaos.evidence import JobDefinition
from tests.chaos.invariants.examination import CLOCK_TOLERANCE, Examination, count_attempts
from tests.chaos.limits import GRACE_SECONDS
from tests.support.changes import Document
from tests.support.replay import UNFINISHED

_GRACE = timedelta(seconds=GRACE_SECONDS)

_DELIVERED_LATER = {"abandoned", "cancelled"}
"""Outcomes that are recorded while the request may still be on its way to the receiver."""


def check_deliveries(examination: Examination) -> tuple[int, Iterable[str]]:
    """Each delivery belongs to an attempt, and reached the receiver during this attempt."""
    violations: list[str] = []
    for delivery in examination.evidence.deliveries:
        execution = examination.by_id.get(delivery.execution_id)
        if execution is None:
            violations.append(f"{delivery.execution_id} was delivered but is not recorded")
        elif delivery.attempt > len(execution["attempts"]):
            violations.append(
                f"{delivery.execution_id}: attempt {delivery.attempt} is not recorded"
            )
        elif delivery.scheduled_for != execution["scheduled_for"]:
            violations.append(f"{delivery.execution_id}: delivered as {delivery.scheduled_for}")
        else:
            attempt = execution["attempts"][delivery.attempt - 1]
            ended = attempt.get("finished_at")
            early = delivery.received_at < attempt["started_at"] - CLOCK_TOLERANCE
            late = (
                ended is not None
                and attempt.get("outcome") not in _DELIVERED_LATER
                and delivery.received_at > ended + CLOCK_TOLERANCE
            )
            if early or late:
                violations.append(
                    f"{delivery.execution_id}: attempt {delivery.attempt} came at "
                    f"{delivery.received_at}, but ran from {attempt['started_at']} to {ended}"
                )
    return len(examination.evidence.deliveries), violations


def check_repeated(examination: Examination) -> tuple[int, Iterable[str]]:
    counts = Counter((d.execution_id, d.attempt) for d in examination.evidence.deliveries)
    return len(counts), [f"{key} was sent {n} times" for key, n in counts.items() if n > 1]


def check_early(examination: Examination) -> tuple[int, Iterable[str]]:
    deliveries = examination.evidence.deliveries
    early = [d for d in deliveries if d.received_at < d.scheduled_for - CLOCK_TOLERANCE]
    return len(deliveries), [f"{d.execution_id} came at {d.received_at}" for d in early]


def check_attempts(examination: Examination) -> tuple[int, Iterable[str]]:
    violations: list[str] = []
    attempts = 0
    for execution in examination.evidence.executions:
        attempts += len(execution["attempts"])
        definitions = examination.list_definitions(execution)
        wrong = [*_find_wrong_attempts(execution)]
        if definitions:
            wrong += _find_out_of_bounds(examination, execution, definitions)
        violations += [f"{execution['_id']}: {one}" for one in wrong]
    return attempts, violations


def _find_wrong_attempts(execution: Document) -> Iterator[str]:
    attempts = execution["attempts"]
    if [a["number"] for a in attempts] != list(range(1, len(attempts) + 1)):
        yield "attempts are not numbered one by one"
    if execution["status"] not in UNFINISHED and any(not a.get("outcome") for a in attempts):
        yield "it has ended, but one of its attempts has not"
    if execution["lease_token"] < len(attempts):
        yield "more attempts than leases"
    if [a.get("outcome") for a in attempts].count("succeeded") > 1:
        yield "it succeeded twice"
    if any(a.get("outcome") == "succeeded" for a in attempts[:-1]):
        yield "another attempt followed a success"
    if any(
        one.get("finished_at") and following["started_at"] < one["finished_at"]
        for one, following in itertools.pairwise(attempts)
    ):
        yield "an attempt began before the end of the one before"


def _find_out_of_bounds(
    examination: Examination, execution: Document, definitions: Sequence[JobDefinition]
) -> Iterator[str]:
    """Yield what no definition of the job allows."""
    attempts = execution["attempts"]
    counted = count_attempts(execution)
    if counted > max(one.max_attempts for one in definitions):
        yield f"{counted} attempts"
    yield from _find_short_delays(attempts, min(one.retry_delay for one in definitions))
    yield from _find_long_attempts(examination, execution, max(one.timeout for one in definitions))


def _find_long_attempts(
    examination: Examination, execution: Document, timeout: timedelta
) -> Iterator[str]:
    """Find attempts longer than their timeout, unless their process or the database had a fault.

    The end is recorded when the database accepts it. The attempt of a process that was killed ends
    when its lease has run out, or before that by a newer execution under `terminate_other`.
    """
    for attempt in execution["attempts"]:
        began, ended = attempt["started_at"], attempt.get("finished_at")
        if attempt.get("outcome") == "abandoned" or not ended:
            continue
        is_long = ended - began > timeout + timedelta(seconds=1)
        if is_long and examination.find_cause(execution, attempt) is None:
            yield f"attempt {attempt['number']} took {ended - began}"


def _find_short_delays(attempts: Sequence[Document], delay: timedelta) -> Iterator[str]:
    for one, following in itertools.pairwise(attempts):
        if not one.get("finished_at"):
            continue
        waited = following["started_at"] - one["finished_at"]
        least = delay if one["outcome"] in {"failed", "timed_out"} else timedelta(0)
        if waited < least:
            yield f"attempt {following['number']} began after {waited}"


def check_abandoned(examination: Examination) -> tuple[int, Iterable[str]]:
    abandoned = list(examination.list_abandoned())
    violations = [
        f"{execution['_id']}: attempt {attempt['number']} was abandoned without a fault"
        for execution, attempt, fault in abandoned
        if fault is None
    ]
    for execution in examination.evidence.executions:
        for attempt in execution["attempts"]:
            if attempt.get("error") == "shutdown" and _measure(attempt) < _GRACE:
                violations.append(
                    f"{execution['_id']}: interrupted by a stop after {_measure(attempt)}"
                )
    return len(abandoned), violations


def _measure(attempt: Document) -> timedelta:
    length: timedelta = attempt["finished_at"] - attempt["started_at"]
    return length
