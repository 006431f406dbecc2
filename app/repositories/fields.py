"""Typed reads of fields of stored documents that are not parsed."""

from typing import TypeVar

from app.repositories.mongo import Document

_T = TypeVar("_T")


def read_field(document: Document, name: str, kind: type[_T]) -> _T | None:
    """The value of the field; None if it has another type.

    A condition such as `{"job_id": {"$in": ids}}` also matches an array that contains one of the
    ids, and an array cannot be the key of a dictionary.
    """
    value = document.get(name)
    return value if isinstance(value, kind) else None
