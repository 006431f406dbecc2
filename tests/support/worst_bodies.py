"""Generates, from the OpenAPI document, the request bodies that cost the most to read.

At each place of a request body (every list, object and text), a value is as large as the limits of
a body allow.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

Schema = dict[str, Any]
Document = dict[str, Any]

_INSTANT = "2027-01-01T00:00:00Z"
_SAMPLE = 2_000
_TRIES = 20
_MAX_DEPTH = 30  # so that a value stays within the limit of nesting wherever it is


@dataclass(frozen=True, slots=True)
class Place:
    """A list, an object or a text in the bodies of an operation."""

    method: str
    path: str
    pointer: str
    schema: Schema
    put: Callable[[Any], Any]
    """Returns a body that is valid, except for the given value at this place."""

    @property
    def is_free(self) -> bool:
        """Whether any JSON is accepted below this place."""
        return "type" not in self.schema or self.schema.get("additionalProperties") is True

    @property
    def name(self) -> str:
        return f"{self.method} {self.path} {self.pointer or '/'}"

    @property
    def kind(self) -> str:
        return str(self.schema.get("type", "object"))


@dataclass(frozen=True, slots=True)
class WorstBody:
    """A body that is within the limits, and what it consists of."""

    place: Place
    filling: str
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.place.name}: {self.filling}"


def list_places(document: Document) -> Iterator[Place]:
    """Every list, object and text in the JSON bodies of the document's operations."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = content["application/json"]["schema"]
                start = partial(Place, method.upper(), path)
                yield from _walk(document, schema, "", lambda value: value, start)


def list_bodies(place: Place, *, max_bytes: int, max_values: int) -> Iterator[WorstBody]:
    """For each filling the largest body within the limits."""
    for name, fill in _list_fillings(place):
        yield WorstBody(place, name, _enlarge(place, fill, max_bytes, max_values))


def count_values(value: Any) -> int:
    """Return how many JSON values `value` consists of, itself included."""
    if isinstance(value, dict):
        return 1 + sum(map(count_values, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(count_values, value))
    return 1


def _walk(
    document: Document,
    schema: Schema,
    pointer: str,
    put: Callable[[Any], Any],
    start: Callable[..., Place],
) -> Iterator[Place]:
    for variant in _list_variants(document, schema):
        if variant.get("type", "object") in {"array", "object", "string"}:
            yield start(pointer, variant, put)
        items = variant.get("items")
        if items is not None:
            copies = variant.get("maxItems", 1)
            yield from _walk(document, items, f"{pointer}/*", _in_list(put, copies), start)
        valid = build_valid(document, variant) if "properties" in variant else {}
        for name, below in variant.get("properties", {}).items():
            yield from _walk(
                document, below, f"{pointer}/{name}", _in_object(put, valid, name), start
            )
        below = variant.get("additionalProperties")
        if isinstance(below, dict):
            yield from _walk(document, below, f"{pointer}/*", _in_object(put, {}, "X-A"), start)


def _in_list(put: Callable[[Any], Any], copies: int) -> Callable[[Any], Any]:
    return lambda value: put([value] * copies)


def _in_object(put: Callable[[Any], Any], valid: Schema, name: str) -> Callable[[Any], Any]:
    return lambda value: put({**valid, name: value})


def _list_variants(document: Document, schema: Schema) -> Iterator[Schema]:
    """Resolve references and unions."""
    if "$ref" in schema:
        target = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        yield from _list_variants(document, target)
        return
    for union in ("anyOf", "oneOf"):
        if union in schema:
            for variant in schema[union]:
                yield from _list_variants(document, variant)
            return
    yield schema


def build_valid(document: Document, schema: Schema) -> Any:
    """Return a small valid value."""
    variant = next(iter(_list_variants(document, schema)))
    for key in ("const", "default"):
        if key in variant:
            return variant[key]
    for key in ("examples", "enum"):
        if key in variant:
            return variant[key][0]
    match variant.get("type"):
        case "object":
            properties = variant.get("properties", {})
            return {
                name: build_valid(document, properties[name])
                for name in variant.get("required", ())
            }
        case "array":
            return [build_valid(document, variant["items"])] * variant.get("minItems", 0)
        case "string":
            return _INSTANT if variant.get("format") == "date-time" else "x"
        case "integer" | "number":
            return variant.get("minimum", 1)
        case "boolean":
            return False
    return None


def _list_fillings(place: Place) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """The ways to fill a place with a number of parts."""
    items: dict[str, Any] = {
        "integers": 7,
        "status codes": 500,
        "short texts": "4xx",
        "nulls": None,
        "empty lists": [],
        "empty objects": {},
    }
    match place.kind:
        case "string":
            yield "letters", lambda n: "x" * n
            yield "commas", lambda n: "1," * (n // 2)
            yield "control characters", lambda n: "\x01" * n
            yield "expanding letters", lambda n: "\ufdfa" * n
            return
        case "array":
            for name, item in items.items():
                yield f"a list of {name}", _list_of(item)
            yield "a list of nested lists", lambda n: [_nest(_MAX_DEPTH - 1)] * (n // _MAX_DEPTH)
            return
    for name, item in items.items():
        yield f"members that are {name}", _object_of(item)
    yield "members with long names", lambda n: {f"{i:0>250}": 1 for i in range(n // 50)}
    if place.is_free:
        for name, item in items.items():
            yield f"a list of {name}", _object_with_list_of(item)
        yield "nested lists", lambda n: {"k": [_nest(_MAX_DEPTH - 2)] * (n // _MAX_DEPTH)}
        yield "fractions", lambda n: {"k": [0.1] * n}
        yield "one text", lambda n: {"k": "\u00e9" * n}


def _list_of(item: Any) -> Callable[[int], Any]:
    return lambda n: [item] * n


def _object_of(item: Any) -> Callable[[int], Any]:
    return lambda n: {f"k{i}": item for i in range(n)}


def _object_with_list_of(item: Any) -> Callable[[int], Any]:
    return lambda n: {"k": [item] * n}


def _nest(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def _enlarge(place: Place, fill: Callable[[int], Any], max_bytes: int, max_values: int) -> bytes:
    """Return the body with about the largest number of parts that the limits allow."""

    def build(parts: int) -> tuple[bytes, float]:
        """The body, and its size in proportion to the limits."""
        body = place.put(fill(parts))
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return content, max(len(content) / max_bytes, count_values(body) / max_values)

    content, share = build(_SAMPLE)
    parts = _SAMPLE
    for _ in range(_TRIES):
        if 0.9 < share <= 1:
            break
        parts = int(parts / share * 0.97)
        content, share = build(parts)
    return content
