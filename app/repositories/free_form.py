"""The stored form of free-form values of users: JSON as text, headers as pairs.

BSON and the driver interpret some names: PyMongo decodes an object with `$ref` and `$id` as a
`DBRef`. So no name that a user or a receiver chooses is the name of a stored field.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from app.repositories.mongo import Document

FREE_FORM_SCHEMA = 3
"""From this schema number on free-form values have these forms. Documents with a lower number
contain them as they are."""


def encode_json(value: Any) -> str:
    """The text of a JSON value. Raises ValueError or TypeError for what is not JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decode_json(text: Any) -> Any:
    """The value of a stored text: the same keys in the same order, 1 and 1.0 distinct.

    Raises ValueError for what is not the text of JSON.
    """
    return orjson.loads(text)


def encode_headers(headers: Document) -> list[Document]:
    return [{"k": name, "v": value} for name, value in headers.items()]


def encode_response(response: Document | None) -> Document | None:
    """The stored form of the fields of a `TargetResponse`."""
    if response is None:
        return None
    return response | {"headers": encode_headers(response["headers"])}


def encode_job(document: Document) -> None:
    document["parameters"] = encode_json(document["parameters"])
    target = document["target"]
    if "headers" in target:
        target["headers"] = encode_headers(target["headers"])
    if target.get("body") is not None:
        target["body"] = encode_json(target["body"])


def encode_job_revision(document: Document) -> None:
    document["parameters"] = encode_json(document["parameters"])


def encode_execution(document: Document) -> None:
    if document["parameters"] is not None:
        document["parameters"] = encode_json(document["parameters"])
    for attempt in document["attempts"]:
        attempt["response"] = encode_response(attempt["response"])


def decode_job(document: Document, *, is_text: bool) -> None:
    """Replace the stored forms in a document, which may lack fields.

    Without `is_text` JSON is stored as it is. Raises ValueError or TypeError.
    """
    read = decode_json if is_text else _check_json
    _replace(document, "parameters", read)
    target = document.get("target")
    if isinstance(target, dict):
        target = document["target"] = dict(target)
        _replace(target, "headers", _decode_headers)
        _replace(target, "body", read)


def decode_execution(document: Document, *, is_text: bool) -> None:
    """As `decode_job`."""
    _replace(document, "parameters", decode_json if is_text else _check_json)
    _replace(document, "attempts", _decode_attempts)


def _decode_attempts(attempts: Sequence[Any]) -> list[Any]:
    """Attempts that are not objects stay as they are, for the validation."""
    return [_decode_attempt(one) if isinstance(one, dict) else one for one in attempts]


def _decode_attempt(attempt: Document) -> Document:
    response = attempt.get("response")
    if not isinstance(response, dict):
        return attempt
    response = dict(response)
    _replace(response, "headers", _decode_headers)
    return attempt | {"response": response}


def _decode_headers(headers: Any) -> Any:
    """Headers are an object in documents that were stored before `FREE_FORM_SCHEMA`."""
    return headers if isinstance(headers, dict) else {one["k"]: one["v"] for one in headers}


def _check_json(value: Any) -> Any:
    encode_json(value)
    return value


def _replace(document: Document, name: str, read: Callable[[Any], Any]) -> None:
    """Raises ValueError with the name of the field, without its value."""
    if document.get(name) is None:
        return
    try:
        document[name] = read(document[name])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{name} ({type(error).__name__})") from error
