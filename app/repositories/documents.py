"""Between frozen records and MongoDB documents."""

from typing import Any, TypeVar

from app.models.record import Record
from app.repositories.mongo import Document

R = TypeVar("R", bound=Record)


def to_document(record: Record, *, omit_none: bool = False) -> Document:
    """The document of a record: `id` is `_id`.

    `omit_none` leaves unset fields out, as partial indexes on existence need it.
    """
    document: dict[str, Any] = record.model_dump()
    document["_id"] = document.pop("id")
    if omit_none:
        return {key: value for key, value in document.items() if value is not None}
    return document


def from_document(kind: type[R], document: Document) -> R:
    """The record of a document. The document is used up."""
    document["id"] = document.pop("_id")
    return kind.model_validate(document)
