"""Expressions on the attempts of an execution, for updates."""

from typing import Any

from app.models.execution import AttemptOutcome
from app.repositories.mongo import Document

ABANDONED: Document = {"outcome": AttemptOutcome.ABANDONED, "error": "abandoned"}
"""The end of an attempt of which nobody knows how it ended."""

WITHOUT_RESPONSES: Document = {"attempts.response": False}
"""The projection for reads that decide what follows. A response may have 64 KB, and an execution
50 of them."""


def end_open_attempts(end: Document, now: Any) -> Document:
    """`attempts`, with `end` and `finished_at` added to each attempt that has no outcome.

    `end` and `now` are expressions; `end` may refer to the attempt as `$$attempt`. Values of other
    types than the stored form stay as they are: an error would fail the update of all documents.
    """
    has_no_outcome = {"$eq": [{"$ifNull": ["$$attempt.outcome", None]}, None]}
    is_open = {"$and": [{"$eq": [{"$type": "$$attempt"}, "object"]}, has_no_outcome]}
    ended = {"$mergeObjects": ["$$attempt", end, {"finished_at": now}]}
    each = {"$cond": [is_open, ended, "$$attempt"]}
    mapped = {"$map": {"input": "$attempts", "as": "attempt", "in": each}}
    return {"$cond": [{"$isArray": "$attempts"}, mapped, "$attempts"]}
