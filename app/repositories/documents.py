"""Frozen records as MongoDB documents, and the schema numbers that this process knows.

Every document carries `schema`, the number of the last change of its stored shape. A process reads
documents whose number is at most its own and leaves newer ones alone.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from app.errors import NewerDocumentError
from app.models.execution import Execution
from app.models.idempotency import IdempotencyKey
from app.models.job import Job
from app.models.record import Record
from app.models.user import User
from app.repositories.mongo import Document

R = TypeVar("R", bound=Record)

SCHEMAS: Mapping[type[Record], int] = {Job: 2, Execution: 2, User: 2, IdempotencyKey: 2}
"""The schema number of each stored record. A change of a stored shape raises it and adds a step to
`migrations.py`. All collections use one sequence of numbers; the highest number is the schema
version of the database."""

SCHEMA_VERSION = max(SCHEMAS.values())

FIRST_SCHEMA = 1
"""The schema number of documents without the field `schema`."""


def to_document(record: Record, *, omit_none: bool = False) -> Document:
    """The document of a record: `id` becomes `_id`.

    `omit_none` omits fields that are None, because partial indexes with `$exists` would contain
    them.
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
    number: int = document.get("schema", FIRST_SCHEMA)
    return number <= SCHEMAS[kind]


def known(kind: type[Record]) -> Document:
    """The condition that excludes documents of newer releases."""
    return {"schema": {"$not": {"$gt": SCHEMAS[kind]}}}
