"""Expressions on the responses of an execution, for updates: what is kept of them, and its size.

Values of other types than the stored form stay as they are, or count as nothing: an error would
fail the update of all documents.
"""

from typing import Any

from app.models.execution import Truncation
from app.repositories.mongo import Document

_WHOLE_ATTEMPTS = 3
"""The number of the last attempts that keep their responses."""
_EARLIER_BYTES = 16_384
"""What the earlier attempts of an execution keep together of their bodies."""

_MOST_BYTES_OF_A_CHARACTER = 4
_ATTEMPTS: Document = {"$cond": [{"$isArray": "$attempts"}, "$attempts", []]}


def measure_responses() -> Document:
    """`response_bytes`: the size of the responses that have headers or a body. Without one the
    field is removed."""
    size = {"$cond": [_has_content("$$one"), {"$bsonSize": "$$one.response"}, 0]}
    total = {"$sum": {"$map": {"input": _ATTEMPTS, "as": "one", "in": size}}}
    in_: Document = {"$cond": [{"$gt": ["$$total", 0]}, "$$total", "$$REMOVE"]}
    return {"$let": {"vars": {"total": total}, "in": in_}}


def drop_responses(reason: Truncation) -> Document:
    """`attempts` without the headers and the bodies of their responses."""
    dropped = {"$mergeObjects": ["$$one", {"response": _truncate("$$one", "", reason)}]}
    each = {"$cond": [_has_content("$$one"), dropped, "$$one"]}
    mapped = {"$map": {"input": "$attempts", "as": "one", "in": each}}
    return {"$cond": [{"$isArray": "$attempts"}, mapped, "$attempts"]}


def keep_last_responses() -> Document:
    """`attempts`, of which those before the last three have no headers and together at most 16 KB
    of their bodies, the first attempts before the others."""
    earlier = {"$slice": [_ATTEMPTS, {"$subtract": [{"$size": _ATTEMPTS}, _WHOLE_ATTEMPTS]}]}
    shortened: Document = {
        "$reduce": {
            "input": earlier,
            "initialValue": {"left": _EARLIER_BYTES, "attempts": []},
            "in": _shorten_next(),
        }
    }
    attempts = {
        "$concatArrays": ["$$earlier.attempts", {"$slice": ["$attempts", -_WHOLE_ATTEMPTS]}]
    }
    joined: Document = {"$let": {"vars": {"earlier": shortened}, "in": attempts}}
    has_earlier = {"$gt": [{"$size": _ATTEMPTS}, _WHOLE_ATTEMPTS]}
    return {"$cond": [has_earlier, joined, "$attempts"]}


def _shorten_next() -> Document:
    """One step of `$reduce`: `$$value` has the bytes that are left, and the attempts so far."""
    stored = "$$this.response.body"
    body: Document = {"$cond": [{"$eq": [{"$type": stored}, "string"]}, stored, ""]}
    fits = {"$lte": [{"$strLenBytes": "$$body"}, "$$value.left"]}
    is_ascii = {"$eq": [{"$strLenBytes": "$$body"}, {"$strLenCP": "$$body"}]}
    fewer = {"$floor": {"$divide": ["$$value.left", _MOST_BYTES_OF_A_CHARACTER]}}
    characters = {"$toInt": {"$cond": [is_ascii, "$$value.left", fewer]}}
    kept: Document = {"$cond": [fits, "$$body", {"$substrCP": ["$$body", 0, characters]}]}
    response = _truncate("$$this", "$$kept", Truncation.EARLIER_ATTEMPT)
    shortened = {"$mergeObjects": ["$$this", {"response": response}]}
    is_whole = {"$and": [{"$eq": ["$$kept", "$$body"]}, {"$not": [_has_headers("$$this")]}]}
    next_: Document = {
        "left": {"$subtract": ["$$value.left", {"$strLenBytes": "$$kept"}]},
        "attempts": {
            "$concatArrays": [
                "$$value.attempts",
                [{"$cond": [is_whole, "$$this", shortened]}],
            ]
        },
    }
    with_kept = {"$let": {"vars": {"kept": kept}, "in": next_}}
    return {"$let": {"vars": {"body": body}, "in": with_kept}}


def _truncate(attempt: str, body: Any, reason: Truncation) -> Document:
    """The response of an attempt without its headers, and with this body."""
    changes = {"headers": [], "body": body, "truncated": True, "truncated_reason": reason}
    return {"$mergeObjects": [f"{attempt}.response", changes]}


def _has_content(attempt: str) -> Document:
    body = f"{attempt}.response.body"
    has_body = {"$and": [{"$eq": [{"$type": body}, "string"]}, {"$ne": [body, ""]}]}
    is_object = {"$eq": [{"$type": f"{attempt}.response"}, "object"]}
    return {"$and": [is_object, {"$or": [has_body, _has_headers(attempt)]}]}


def _has_headers(attempt: str) -> Document:
    headers = f"{attempt}.response.headers"
    is_stored = {"$in": [{"$type": headers}, ["array", "object"]]}
    return {"$and": [is_stored, {"$ne": [headers, []]}, {"$ne": [headers, {"$literal": {}}]}]}
