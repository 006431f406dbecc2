"""The figures of a chaos run: redeliveries, lateness, takeovers."""

from collections.abc import Iterator
from datetime import timedelta

from tests.chaos.evidence import Evidence
from tests.chaos.invariants import Case


def compute_figures(evidence: Evidence) -> dict[str, str]:
    """Return the values of the report by the names of its lines."""
    case = Case(evidence)
    executions = evidence.executions
    delivered = len(case.deliveries)
    redelivered = _redeliveries(case)
    lateness = sorted(
        min(d.received_at for d in deliveries) - deliveries[0].scheduled_for
        for id_, deliveries in case.deliveries.items()
        if case.by_id.get(id_, {}).get("kind") == "scheduled"
    )
    takeovers = sorted(_takeovers(case))
    statuses = sorted({e["status"] for e in executions})
    return {
        "faults": str(len(evidence.faults)),
        "executions": str(len(executions)),
        "by status": ", ".join(
            f"{sum(e['status'] == status for e in executions)} {status}" for status in statuses
        ),
        "slots due per second": f"{_rate(case):.1f}",
        "executions delivered": str(delivered),
        "redeliveries": f"{redelivered} ({100 * redelivered / max(1, delivered):.2f} %)",
        "of them with an earlier response": str(_responses_not_recorded(case)),
        "lateness p50, p95, p99, max": ", ".join(
            _at(lateness, part) for part in (0.5, 0.95, 0.99, 1)
        ),
        "first delivery after a new primary": ", ".join(_resumptions(evidence)) or "none",
        "takeovers, p50, p95, max": f"{len(takeovers)}, "
        + ", ".join(_at(takeovers, part) for part in (0.5, 0.95, 1)),
    }


def _redeliveries(case: Case) -> int:
    """Attempts that reached the receiver after an abandoned attempt that reached it too."""
    return sum(
        {attempt["number"], attempt["number"] + 1}
        <= {delivery.attempt for delivery in case.deliveries.get(execution["_id"], [])}
        for execution, attempt, _ in case.abandoned()
    )


def _responses_not_recorded(case: Case) -> int:
    """Abandoned attempts whose response left the receiver before the fault.

    No sender can know how the other attempts would have ended.
    """
    return sum(
        delivery.responded_at is not None and delivery.responded_at < fault.at
        for execution, attempt, fault in case.abandoned()
        for delivery in case.deliveries.get(execution["_id"], [])
        if fault is not None and delivery.attempt == attempt["number"]
    )


def _resumptions(evidence: Evidence) -> Iterator[str]:
    """The time to the first delivery after each election that a fault waited for."""
    received = sorted(delivery.received_at for delivery in evidence.deliveries)
    for fault in evidence.faults:
        later = [at for at in received if at > fault.at]
        if fault.name == "new primary" and later:
            yield f"{(later[0] - fault.at).total_seconds():.3f} s"


def _takeovers(case: Case) -> list[timedelta]:
    """For each abandoned attempt the time from the fault to the start of the next attempt."""
    times: list[timedelta] = []
    for execution, attempt, fault in case.abandoned():
        following = execution["attempts"][attempt["number"] :]
        if fault is not None and following:
            times.append(following[0]["started_at"] - fault.at)
    return times


def _rate(case: Case) -> float:
    slots = [slot for expected in case.expected.values() for slot in expected.must]
    if len(slots) < 2:
        return 0
    return len(slots) / max(1.0, (max(slots) - min(slots)).total_seconds())


def _at(ordered: list[timedelta], part: float) -> str:
    if not ordered:
        return "none"
    value = ordered[min(len(ordered) - 1, int(part * len(ordered)))]
    return f"{value.total_seconds():.3f} s"
