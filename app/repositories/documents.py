"""Frozen records as MongoDB documents, and the schema numbers that this process knows.

Every document carries `schema`, the number of the last change of its stored shape. A process reads
documents whose number is at most its own and leaves newer ones alone.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from app.errors import UnavailableError
from app.models.execution import Execution
from app.models.idempotency import IdempotencyKey
from app.models.job import Job
from app.models.record import Record
from app.models.user import User
from app.repositories.mongo import Document

R = TypeVar("R", bound=Record)

SCHEMAS: Mapping[type[Record], int] = {Job: 2, Execution: 2, User: 2, IdempotencyKey: 2}
"""The schema number of each stored record. A change of a stored shape raises it and adds a step to
`migrations.py`; numbers are shared by all collections, so the highest is the database's."""

SCHEMA_VERSION = max(SCHEMAS.values())


class NewerDocumentError(UnavailableError):
    """A newer release wrote the document; this process must not interpret it."""

    code = "newer_document"
    title = "Written by a newer release"


def to_document(record: Record, *, omit_none: bool = False) -> Document:
    """The document of a record: `id` is `_id`.

    `omit_none` leaves unset fields out, as partial indexes on existence need it.
    """
    document: dict[str, Any] = record.model_dump()
    document["_id"] = document.pop("id")
    document["schema"] = SCHEMAS[type(record)]
    if omit_none:
        return {key: value for key, value in document.items() if value is not None}
    return document


def from_document(kind: type[R], document: Document) -> R:
    """The record of a document; the document is consumed. Raises NewerDocumentError."""
    if not is_known(kind, document):
        raise NewerDocumentError(
            f"The {kind.__name__.lower()} was written by a newer release of the service; "
            "send the request to a process of that release."
        )
    document["id"] = document.pop("_id")
    return kind.model_validate(document)


def is_known(kind: type[Record], document: Document) -> bool:
    """Whether this process knows the document's schema."""
    number: int = document.get("schema", 1)
    return number <= SCHEMAS[kind]


def known(kind: type[Record]) -> Document:
    """The condition that leaves out documents of newer releases."""
    return {"schema": {"$not": {"$gt": SCHEMAS[kind]}}}
