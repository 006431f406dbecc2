"""Every status of an execution needs a cause outside the service: the receiver, a user, a fault."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from tests.chaos.evidence import UNRESOLVED, JobDefinition, ReceivedDelivery
from tests.chaos.invariants.examination import (
    CLOCK_TOLERANCE,
    Examination,
    count_attempts,
)
from tests.chaos.invariants.windows import RECOVERY, is_disturbing
from tests.support.changes import Document
from tests.support.history import Span
from tests.support.replay import UNFINISHED

_LOCKS = ("live_for", "place", "lease_owner", "lease_until", "waiting")

_SKIPPED_UNDER = {
    "overlap": {"skip", "terminate_other"},
    "buffer_full": {"skip", "buffer_one", "buffer_all", "cancel_other"},
}
"""The policies under which a slot may be skipped for each reason. Under `skip`, late slots of the
catch-up policy `all` wait for each other, so their positions may be taken."""

_POSITIONS = {"buffer_one": 1, "cancel_other": 1, "buffer_all": 100, "skip": 1_000}
"""How many executions wait when no position is free."""

_CANCELLED_UNDER = {
    "cancelled_by_overlap": "cancel_other",
    "replaced_by_newer": "cancel_other",
    "terminated_by_overlap": "terminate_other",
}

_LAST_OUTCOMES = {"failed": {"failed", "abandoned"}, "timed_out": {"timed_out"}}

_GONE = 410

_REQUEST_DELAY = timedelta(seconds=1)
"""A newer execution is recorded at most so long before the older one is cancelled."""


def check_stuck(examination: Examination) -> tuple[int, Iterable[str]]:
    executions = examination.evidence.executions
    stuck = [e for e in executions if e["status"] in UNFINISHED]
    return len(executions), [f"{e['_id']} is still {e['status']}" for e in stuck]


def check_locks(examination: Examination) -> tuple[int, Iterable[str]]:
    """A final record must not keep another execution from being live, waiting or claimed."""
    ended = [e for e in examination.evidence.executions if e["status"] not in UNFINISHED]
    violations = [
        f"{e['_id']} is {e['status']} and keeps {name}: {e[name]}"
        for e in ended
        for name in _LOCKS
        if e.get(name) is not None and e[name] is not False
    ]
    return len(ended), violations


def check_successes(examination: Examination) -> tuple[int, Iterable[str]]:
    succeeded = [e for e in examination.evidence.executions if e["status"] == "succeeded"]
    violations: list[str] = []
    for execution in succeeded:
        last = len(execution["attempts"])
        received = examination.deliveries.get(execution["_id"], [])
        if not any(d.attempt == last and _is_success(d) for d in received):
            violations.append(f"{execution['_id']}: no 2xx for attempt {last}")
        if not last or execution["attempts"][-1].get("outcome") != "succeeded":
            violations.append(f"{execution['_id']}: its last attempt did not succeed")
    return len(succeeded), violations


def check_accepted(examination: Examination) -> tuple[int, Iterable[str]]:
    """A 2xx of the receiver makes the execution succeed.

    Except: the attempt was abandoned (another invariant judges whether a fault explains that), a
    cancel was requested, or the response came after the timeout.
    """
    accepted = [d for d in examination.evidence.deliveries if _is_success(d)]
    violations: list[str] = []
    for delivery in accepted:
        execution = examination.by_id.get(delivery.execution_id)
        if execution is None or delivery.attempt > len(execution["attempts"]):
            continue  # "each delivery is recorded" reports it
        attempt = execution["attempts"][delivery.attempt - 1]
        outcome = attempt.get("outcome")
        if not _may_lose(examination, execution, attempt, delivery):
            violations.append(
                f"{delivery.execution_id}: the receiver accepted attempt {delivery.attempt}, "
                f"which is {outcome}; it is {execution['status']}"
            )
    return len(accepted), violations


def _may_lose(
    examination: Examination, execution: Document, attempt: Document, delivery: ReceivedDelivery
) -> bool:
    """Whether the execution may have this status although the receiver accepted the attempt."""
    match attempt.get("outcome"):
        case "succeeded":
            return bool(execution["status"] in {"succeeded", "cancelled"})
        case "abandoned":
            return True
        case "cancelled":
            return bool(execution["status"] == "cancelled")
        case "timed_out":
            since = (delivery.responded_at or delivery.received_at) - attempt["started_at"]
            definitions = examination.list_definitions(execution)
            return any(since > one.timeout - timedelta(seconds=0.5) for one in definitions)
    return False


def check_failures(examination: Examination) -> tuple[int, Iterable[str]]:
    """An execution fails only when its attempts are spent, or after an outcome that is not retried;
    and each failed attempt failed at the receiver, or during a fault."""
    failed = [e for e in examination.evidence.executions if e["status"] in {"failed", "timed_out"}]
    violations = [
        f"{e['_id']} is {e['status']} after {count_attempts(e)} attempts"
        for e in failed
        if not any(_may_fail(e, one) for one in examination.list_definitions(e))
    ]
    attempts = 0
    for execution in examination.evidence.executions:
        for attempt in execution["attempts"]:
            if attempt.get("outcome") in {"failed", "timed_out"}:
                attempts += 1
                violations += _find_causeless(examination, execution, attempt)
    return len(failed) + attempts, violations


def _may_fail(execution: Document, definition: JobDefinition) -> bool:
    """Whether no other attempt was due under this definition of the job."""
    if not execution["attempts"]:
        return False
    last = execution["attempts"][-1]
    outcome = last.get("outcome")
    if outcome not in _LAST_OUTCOMES[execution["status"]]:
        return False
    if count_attempts(execution) >= definition.max_attempts:
        return True
    return outcome in {"failed", "timed_out"} and not _is_retried(last, definition)


def _is_retried(attempt: Document, definition: JobDefinition) -> bool:
    status = (attempt.get("response") or {}).get("status")
    if status == _GONE:
        return False
    if definition.retry_on is None:
        return True
    reasons: set[str | int] = {"timeout" if attempt["outcome"] == "timed_out" else ""}
    reasons |= {status, f"{status // 100}xx"} if status else {"connection_error"}
    return not reasons.isdisjoint(definition.retry_on)


def _find_causeless(
    examination: Examination, execution: Document, attempt: Document
) -> Iterator[str]:
    """Yield a failed attempt of which the receiver knows nothing, unless a fault explains it, or
    the name of the receiver is not resolved."""
    definitions = examination.list_definitions(execution)
    if any(one.behaviour == UNRESOLVED for one in definitions):
        return
    if any(
        d.attempt == attempt["number"] for d in examination.deliveries.get(execution["_id"], [])
    ):
        return
    began, ended = attempt["started_at"], attempt.get("finished_at") or attempt["started_at"]
    disturbed = any(
        Span(fault.at, fault.ended_at + RECOVERY).meets(began, ended)
        for fault in examination.evidence.faults
        if is_disturbing(fault)
    )
    if not disturbed:
        yield f"{execution['_id']}: attempt {attempt['number']} never reached the receiver"


def check_skips(examination: Examination) -> tuple[int, Iterable[str]]:
    """A slot is skipped only if another execution of the job was live then, or as many waited as
    the policy allows."""
    skipped = [e for e in examination.evidence.executions if e["status"] == "skipped"]
    return len(skipped), [
        f"{e['_id']}, {e['scheduled_for']}: {violation}"
        for e in skipped
        for violation in _judge_skip(examination, e)
    ]


def _judge_skip(examination: Examination, execution: Document) -> Iterator[str]:
    reason = execution.get("reason")
    policies = examination.list_policies(execution) & _SKIPPED_UNDER.get(reason or "", set())
    if not policies:
        allowed = sorted(examination.list_policies(execution))
        yield f"skipped with the reason {reason} under {allowed}"
        return
    life = examination.lives.get(execution["_id"])
    created: datetime = execution.get("created_at") or execution["scheduled_for"]
    since = created - CLOCK_TOLERANCE
    until = (life.inserted_at if life else created) + CLOCK_TOLERANCE
    others = list(examination.list_others(execution))
    if reason == "overlap":
        if not any(span.meets(since, until) for one in others for span in one.live):
            yield "skipped, but no other execution was live"
        return
    waiting = sum(any(span.meets(since, until) for span in one.waiting) for one in others)
    if waiting < min(_POSITIONS[policy] for policy in policies):
        yield f"skipped for a lack of positions, but only {waiting} executions waited"


def check_cancels(examination: Examination) -> tuple[int, Iterable[str]]:
    """An execution is cancelled only by a user, by the deletion of its job, or by a newer one."""
    cancelled = [e for e in examination.evidence.executions if e["status"] == "cancelled"]
    violations: list[str] = []
    for execution in cancelled:
        at = execution.get("cancel_requested_at") or execution["finished_at"]
        if not _is_cancel_explained(examination, execution, at):
            violations.append(f"{execution['_id']}: nobody caused {execution.get('reason')}")
        if any(attempt["started_at"] > at for attempt in execution["attempts"]):
            violations.append(f"{execution['_id']} was attempted after its cancel")
    return len(cancelled), violations


def _is_cancel_explained(examination: Examination, execution: Document, at: datetime) -> bool:
    calls = examination.calls.get(examination.names.get(execution["job_id"], ""), [])
    sent = [call for call in calls if call.sent_at <= at + CLOCK_TOLERANCE]
    match execution.get("reason"):
        case "cancelled_by_user":
            id_ = execution["_id"]
            return any(c.verb == "cancel" and c.execution_id == id_ for c in sent)
        case "job_deleted":
            return any(call.verb == "delete" for call in sent)
        case str(reason) if reason in _CANCELLED_UNDER:
            policy = _CANCELLED_UNDER[reason]
            return any(
                policy in examination.list_policies(life.inserted)
                and life.inserted_at >= at - _REQUEST_DELAY
                for life in examination.list_others(execution)
            )
    return False


def _is_success(delivery: ReceivedDelivery) -> bool:
    return delivery.status is not None and delivery.status < 300
