"""Settlements: how the end of a lease changes an execution. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from app.clock import count_milliseconds
from app.models.execution import (
    FINAL_STATUSES,
    ExecutionStatus,
    Reason,
    TargetResponse,
    Truncation,
    require_move,
)
from app.models.outcome import Outcome
from app.repositories.attempts import ABANDONED, end_open_attempts
from app.repositories.free_form import encode_response
from app.repositories.kept_responses import keep_last_responses, measure_responses
from app.repositories.lease_fence import AttemptsSeen, Lease
from app.repositories.mongo import Document, pick

_FIXED_BYTES = 512  # the id, which occurs three times, and the fields of a fixed size
_HEADER_BYTES = 48  # what BSON adds to a header


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a lease: the attempt's outcome, and the execution's next status.

    `attempts` is the number of attempts that the execution has. If `outcome` is given, the last of
    them has not ended, and ends with it. Any other open attempt ends `abandoned`. If the database
    has another number of attempts, or that attempt has ended, nothing is written.
    `delay` is the time until a queued execution may start again. If a cancel was requested, the
    status becomes `cancelled` instead of `status`.
    """

    lease: Lease
    status: ExecutionStatus
    attempts: int = 0
    outcome: Outcome | None = None
    reason: Reason | None = None
    delay: timedelta = timedelta(0)
    response_size: int = field(init=False, repr=False, compare=False)
    """About how many bytes the headers and the body of the response have; not fewer."""

    def __post_init__(self) -> None:
        require_move(ExecutionStatus.RUNNING, self.status)  # raises ValueError for other statuses
        response = None if self.outcome is None else self.outcome.response
        object.__setattr__(self, "response_size", _measure_response(response))

    @property
    def attempts_seen(self) -> AttemptsSeen:
        return AttemptsSeen(self.attempts, is_open=self.outcome is not None)

    @property
    def size(self) -> int:
        """About how many bytes it adds to a statement; not fewer."""
        error = "" if self.outcome is None else self.outcome.error or ""
        return _FIXED_BYTES + _count_bytes(error) + self.response_size

    def has_ended(self, document: Document | None) -> bool:
        """Whether a write under the token has ended the lease, as the execution is read now."""
        if document is None or document["lease_token"] != self.lease.token:
            return False
        return bool(document["status"] != ExecutionStatus.RUNNING)

    def has_ended_expired(self, document: Document | None) -> bool:
        """As `has_ended`, for a write that raised the token. Other writes that raise it leave
        another status."""
        if document is None or document["lease_token"] != self.lease.token + 1:
            return False
        cancelled = document.get("cancel_requested_at") is not None
        status = ExecutionStatus.CANCELLED if cancelled else self.status
        return bool(document["status"] == status)

    def without_response(self, reason: Truncation) -> "Settlement | None":
        """The same without the headers and the body of the response, marked as truncated; None if
        it has none of them."""
        outcome = self.outcome
        if outcome is None or outcome.response is None:
            return None
        if not outcome.response.headers and not outcome.response.body:
            return None
        status = outcome.response.status
        response = TargetResponse(status=status, truncated=True, truncated_reason=reason)
        return replace(self, outcome=replace(outcome, response=response))


def settlement_stages(settlements: Sequence[Settlement], now: Any) -> list[Document]:
    """The update that ends each of these leases by its settlement; `now` is an expression.

    The first stage adds the settlement of each document to it and the last one removes it, so that
    the server searches the list of settlements once for each document. A final execution gives up
    `live_for`.
    """
    ids = [settlement.lease.execution_id for settlement in settlements]
    cancelled = {"$gt": ["$cancel_requested_at", None]}
    final = {"$in": ["$status", sorted(FINAL_STATUSES)]}
    run_again = {"$add": [now, "$settlement.delay"]}
    return [
        {"$set": {"settlement": pick(ids, [_dump(settlement) for settlement in settlements])}},
        {
            "$set": {
                "status": {"$cond": [cancelled, ExecutionStatus.CANCELLED, "$settlement.status"]},
                "reason": {"$ifNull": ["$settlement.reason", "$reason"]},
                "attempts": end_open_attempts(_END, now),
            }
        },
        {
            "$set": {
                "finished_at": {"$cond": [final, now, "$$REMOVE"]},
                "live_for": {"$cond": [final, "$$REMOVE", "$live_for"]},
                "run_at": {"$cond": [final, "$run_at", run_again]},
            }
        },
        {"$set": {"attempts": keep_last_responses()}},
        {"$set": {"response_bytes": measure_responses()}},
        {"$unset": ["lease_owner", "lease_until", "settlement"]},
    ]


_END: Document = {
    "$cond": [
        {"$eq": ["$$attempt.number", "$settlement.attempts"]},
        "$settlement.end",
        {"$literal": ABANDONED},
    ]
}
"""The end of an open attempt. Before the last one only those of an earlier release are open."""


def _dump(settlement: Settlement) -> Document:
    return {
        "status": settlement.status,
        "reason": settlement.reason,
        "delay": count_milliseconds(settlement.delay),
        "attempts": settlement.attempts,
        "end": ABANDONED if settlement.outcome is None else _dump_end(settlement.outcome),
    }


def _dump_end(outcome: Outcome) -> Document:
    """The fields that the attempt gets at its end."""
    return {
        "outcome": outcome.outcome,
        "error": outcome.error,
        "response": _dump_response(outcome.response),
    }


def _dump_response(response: TargetResponse | None) -> Document | None:
    return encode_response(None if response is None else response.model_dump())


def _measure_response(response: TargetResponse | None) -> int:
    if response is None:
        return 0
    size = _count_bytes(response.body)
    for name, value in response.headers.items():
        size += _count_bytes(name) + _count_bytes(value) + _HEADER_BYTES
    return size


def _count_bytes(text: str) -> int:
    """The bytes of a text in BSON, also of one that BSON cannot store."""
    return len(text.encode(errors="surrogatepass"))
