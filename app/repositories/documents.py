"""Frozen records as MongoDB documents, and the schema numbers that this process knows.

Every document carries `schema`, the number of the last change of its stored shape. A process reads
documents whose number is at most its own and leaves newer ones alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from bson import Code, DatetimeMS, MaxKey, Regex, Timestamp
from pydantic import ValidationError

from app.errors import NewerDocumentError, UnreadableDocumentError
from app.models.execution import Execution
from app.models.idempotency import IdempotencyKey
from app.models.job import Job
from app.models.job_revision import JobRevision
from app.models.record import Record
from app.models.user import User
from app.repositories import free_form
from app.repositories.free_form import FREE_FORM_SCHEMA
from app.repositories.mongo import Document

R = TypeVar("R", bound=Record)

SCHEMAS: Mapping[type[Record], int] = {
    Job: 4,
    Execution: 4,
    JobRevision: 4,
    User: 2,
    IdempotencyKey: 2,
}
"""The schema number of each stored record. A change of a stored shape raises it and adds a step to
`migrations.py`. All collections use one sequence of numbers; the highest number is the schema
version of the database."""

SCHEMA_VERSION = max(SCHEMAS.values())

FIRST_SCHEMA = 1
"""The schema number of documents without the field `schema`."""

_ALWAYS_STORED: Mapping[type[Record], frozenset[str]] = {
    Execution: frozenset({"attempts", "lease_token"}),
    Job: frozenset({"revision", "schedules"}),
}
"""Fields that the class has a default for, but that conditions of writes use."""

_FIRST_KEY = datetime(1970, 1, 1, tzinfo=UTC)
_AFTER_DATES = (Timestamp, Regex, Code, MaxKey)
"""The types that MongoDB sorts after dates."""

_MALFORMED = (ValueError, TypeError, KeyError, ArithmeticError)
"""What reading a malformed document raises. ValidationError is a ValueError."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored document that is not a valid record. `problem` names the fields, not the values."""

    document: Document
    problem: str


@dataclass(frozen=True, slots=True)
class Decoded(Generic[R]):
    """What many documents contain: one odd document does not affect the others."""

    records: list[R]
    unreadable: list[Unreadable]
    newer: list[Document]
    """Documents of a newer release, which this process must leave alone."""


def to_document(record: Record, *, omit_none: bool = False) -> Document:
    """The document of a record: `id` becomes `_id`.

    `omit_none` omits fields that are None, because partial indexes with `$exists` would contain
    them.
    """
    document: dict[str, Any] = record.model_dump()
    if isinstance(record, Job):
        free_form.encode_job(document)
    elif isinstance(record, Execution):
        free_form.encode_execution(document)
    elif isinstance(record, JobRevision):
        free_form.encode_job_revision(document)
    document["_id"] = document.pop("id")
    document["schema"] = SCHEMAS[type(record)]
    if omit_none:
        return {key: value for key, value in document.items() if value is not None}
    return document


def from_document(kind: type[R], document: Document) -> R:
    """The record of a document. Raises NewerDocumentError and UnreadableDocumentError."""
    decoded = decode_many(kind, [document])
    name = _name(kind)
    if decoded.newer:
        raise NewerDocumentError(
            f"The {name} was written by a newer release of the service; "
            "send the request to a process of that release."
        )
    for unreadable in decoded.unreadable:
        raise UnreadableDocumentError.of(name, document.get("_id"), unreadable.problem)
    return decoded.records[0]


def decode_many(kind: type[R], documents: Iterable[Document]) -> Decoded[R]:
    """Decode each document by itself."""
    decoded: Decoded[R] = Decoded([], [], [])
    for document in documents:
        try:
            if is_known(kind, document):
                decoded.records.append(_decode(kind, document))
            else:
                decoded.newer.append(document)
        except _MALFORMED as error:
            decoded.unreadable.append(Unreadable(document, _describe(error)))
    return decoded


def is_known(kind: type[Record], document: Document) -> bool:
    """Whether this process knows the document's schema. Raises TypeError if it is no number."""
    number = document.get("schema", FIRST_SCHEMA)
    if not isinstance(number, int):  # NaN, for example, is neither newer nor known
        raise TypeError("schema")
    return number <= SCHEMAS[kind]


def known(kind: type[Record]) -> Document:
    """The condition that excludes documents of newer releases."""
    return {"schema": {"$not": {"$gt": SCHEMAS[kind]}}}


def read_key(document: Document, name: str) -> datetime | None:
    """The instant of the first index key, where the stored value may be no instant.

    What sorts before all dates counts as due now, so that it is read and found to be unreadable.
    `document` also has the database's `now`.
    """
    value, now = document.get(name), document["now"]
    if isinstance(value, datetime):
        return max(value, _FIRST_KEY)
    if isinstance(value, DatetimeMS):  # out of the range of Python
        return None if int(value) > 0 else now
    return None if isinstance(value, _AFTER_DATES) else now


def _decode(kind: type[R], document: Document) -> R:
    absent = _ALWAYS_STORED.get(kind, frozenset()) - document.keys()
    if absent:
        raise KeyError(*sorted(absent))
    fields = dict(document)
    fields["id"] = fields.pop("_id")
    is_text = fields.get("schema", FIRST_SCHEMA) >= FREE_FORM_SCHEMA
    if kind is Job:
        free_form.decode_job(fields, is_text=is_text)
    elif kind is Execution:
        free_form.decode_execution(fields, is_text=is_text)
    return kind.model_validate(fields)


def _describe(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    # Only the first part of a location: the others may be names that a user has chosen.
    fields = {str(one["loc"][0]): one["type"] for one in error.errors() if one["loc"]}
    return ", ".join(f"{field}: {kind}" for field, kind in fields.items())


def _name(kind: type[Record]) -> str:
    return "idempotency key" if kind is IdempotencyKey else kind.__name__.lower()
