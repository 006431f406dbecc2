"""The figures of a chaos run: redeliveries, lateness, takeovers."""

from collections.abc import Iterator
from datetime import timedelta

from tests.chaos.evidence import Evidence
from tests.chaos.invariants.examination import Examination
from tests.chaos.invariants.times import list_starts, list_takeovers


def compute_figures(evidence: Evidence) -> dict[str, str]:
    """Return the values of the report by the names of its lines."""
    examination = Examination(evidence)
    executions = evidence.executions
    delivered = len(examination.deliveries)
    redelivered = _count_redeliveries(examination)
    lateness = sorted(start.delay for start in list_starts(examination))
    takeovers = sorted(takeover.delay for takeover in list_takeovers(examination))
    statuses = sorted({e["status"] for e in executions})
    return {
        "faults": str(len(evidence.faults)),
        "executions": str(len(executions)),
        "by status": ", ".join(
            f"{sum(e['status'] == status for e in executions)} {status}" for status in statuses
        ),
        "slots due per second": f"{_compute_rate(examination):.1f}",
        "executions delivered": str(delivered),
        "redeliveries": f"{redelivered} ({100 * redelivered / max(1, delivered):.2f} %)",
        "redeliveries after a response": str(_count_responses_not_recorded(examination)),
        "lateness p50, p95, p99, max": ", ".join(
            _format_percentile(lateness, part) for part in (0.5, 0.95, 0.99, 1)
        ),
        "first delivery after a new primary": ", ".join(_list_resumptions(evidence)) or "none",
        "takeovers, p50, p95, max": f"{len(takeovers)}, "
        + ", ".join(_format_percentile(takeovers, part) for part in (0.5, 0.95, 1)),
    }


def _count_redeliveries(examination: Examination) -> int:
    """Count the attempts that reached the receiver after an abandoned attempt that also did."""
    return sum(
        {attempt["number"], attempt["number"] + 1}
        <= {delivery.attempt for delivery in examination.deliveries.get(execution["_id"], [])}
        for execution, attempt, _ in examination.list_abandoned()
    )


def _count_responses_not_recorded(examination: Examination) -> int:
    """Count the abandoned attempts whose response the receiver had sent before the fault."""
    return sum(
        delivery.responded_at is not None and delivery.responded_at < fault.at
        for execution, attempt, fault in examination.list_abandoned()
        for delivery in examination.deliveries.get(execution["_id"], [])
        if fault is not None and delivery.attempt == attempt["number"]
    )


def _list_resumptions(evidence: Evidence) -> Iterator[str]:
    """For each fault `new primary`: the time until the next delivery."""
    received = sorted(delivery.received_at for delivery in evidence.deliveries)
    for fault in evidence.faults:
        later = [at for at in received if at > fault.at]
        if fault.name == "new primary" and later:
            yield f"{(later[0] - fault.at).total_seconds():.3f} s"


def _compute_rate(examination: Examination) -> float:
    slots = [slot for expected in examination.expected.values() for slot in expected.must]
    if len(slots) < 2:
        return 0
    return len(slots) / max(1.0, (max(slots) - min(slots)).total_seconds())


def _format_percentile(ordered: list[timedelta], part: float) -> str:
    if not ordered:
        return "none"
    value = ordered[min(len(ordered) - 1, int(part * len(ordered)))]
    return f"{value.total_seconds():.3f} s"
