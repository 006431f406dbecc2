"""The OpenAPI document has all texts, errors and examples that generated clients need."""

import re
from collections.abc import Iterator
from typing import Any

from openapi_spec_validator import validate

from app.main import create_app
from tests.api.update_openapi import SNAPSHOT, build_document

METHODS = {"get", "put", "post", "patch", "delete"}
CANNOT_FAIL = {"ping", "live"}


def list_operations() -> Iterator[tuple[str, dict[str, Any]]]:
    document = create_app().openapi()
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield f"{method.upper()} {path}", item[method]


def test_every_operation_has_a_unique_id_and_texts() -> None:
    names = [operation["operationId"] for _, operation in list_operations()]
    assert len(set(names)) == len(names)
    for where, operation in list_operations():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), where
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where


def test_every_error_is_documented_as_a_problem() -> None:
    for where, operation in list_operations():
        errors = {code: r for code, r in operation["responses"].items() if code >= "400"}
        assert errors or operation["operationId"] in CANNOT_FAIL, where
        for code, response in errors.items():
            assert set(response["content"]) == {"application/problem+json"}, f"{where} {code}"
    schemas = create_app().openapi()["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    assert schemas["Problem"]["properties"]["errors"]


def test_every_operation_that_needs_a_token_documents_401_and_503() -> None:
    for where, operation in list_operations():
        if operation.get("security"):
            assert {"401", "503"} <= set(operation["responses"]), where


def test_the_document_is_valid() -> None:
    validate(create_app().openapi())


def test_every_post_documents_the_errors_of_keys_and_bodies() -> None:
    for where, operation in list_operations():
        if where.startswith("POST") and operation.get("security"):
            assert {"408", "409", "413", "422"} <= set(operation["responses"]), where
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"408", "413", "415", "422"} <= set(operation["responses"]), where


def test_responses_201_and_304_document_their_headers() -> None:
    for where, operation in list_operations():
        for code, header in (("201", "Location"), ("201", "ETag"), ("304", "ETag")):
            if code in operation["responses"]:
                assert header in operation["responses"][code]["headers"], where


def test_every_body_has_a_real_example() -> None:
    for where, operation in list_operations():
        content = operation.get("requestBody", {}).get("content", {})
        for kind, body in content.items():
            assert body.get("examples") or body.get("example"), where
            if kind == "application/json" and operation["operationId"] != "sign_in":
                assert body.get("examples"), where


def test_every_parameter_is_described() -> None:
    for where, operation in list_operations():
        for parameter in operation.get("parameters", []):
            described = parameter.get("description") or parameter["schema"].get("description")
            assert described, f"{where} {parameter['name']}"


def test_the_document_changes_only_on_purpose() -> None:
    """To change it, run `python -m tests.api.update_openapi` and update the changelog."""
    assert SNAPSHOT.read_text() == build_document()
