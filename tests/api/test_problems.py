"""The problem details of errors that the framework or the middleware raises by status."""

import httpx2
import pytest
from fastapi import FastAPI, HTTPException

from app.errors import CarillonError, ConfigurationError, ConflictError
from app.routers.problems import install_handlers


async def get_problem(error: Exception) -> httpx2.Response:
    """Return the response of an application whose only route raises `error`."""
    app = FastAPI()
    install_handlers(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://carillon.test") as client:
        return await client.get("/")


@pytest.mark.parametrize(
    ("status", "code", "title"),
    [
        (401, "not_authenticated", "Not authenticated"),
        (403, "forbidden", "Not allowed"),
        (409, ConflictError.code, ConflictError.title),
        (412, "precondition_failed", "Changed by somebody else"),
        (413, "too_large", "Too large"),
        (422, "invalid_input", "The request is not valid"),
        (500, CarillonError.code, CarillonError.title),
        (503, "unavailable", "Temporarily unavailable"),
        (418, "im_a_teapot", "I'm a Teapot"),
    ],
)
async def test_a_status_has_one_code_and_title(status: int, code: str, title: str) -> None:
    body = (await get_problem(HTTPException(status, "detail"))).json()
    assert body["type"] == f"urn:carillon:problem:{code}"
    assert body["title"] == title
    assert body["status"] == status


async def test_an_unexpected_exception_is_an_internal_error_without_its_text() -> None:
    response = await get_problem(ValueError("a secret"))
    assert response.status_code == 500
    assert response.json()["type"] == f"urn:carillon:problem:{CarillonError.code}"
    assert "secret" not in response.text


async def test_a_configuration_error_has_the_code_configuration_error() -> None:
    body = (await get_problem(ConfigurationError("detail"))).json()
    assert body["type"] == "urn:carillon:problem:configuration_error"
