"""The OpenAPI document and Swagger UI, which loads all its files from this service."""

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse

from app.routers.conditional import IfNoneMatch
from app.routers.token import OPENAPI_SCHEMAS
from app.schemas.etags import etag_of, is_unchanged
from app.schemas.problems import Problem

router = APIRouter(include_in_schema=False)

_STATIC = "/static"
_STATIC_FOLDER = Path(__file__).parents[1] / "web" / "static"
_ASSETS = f"{_STATIC}/swagger"
_OPENAPI = "/openapi.json"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{title}</title>
  <link rel="icon" type="image/png" href="{assets}/favicon-32x32.png">
  <link rel="stylesheet" href="{assets}/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui" data-openapi-url="{openapi}"
       data-oauth2-redirect-url="{assets}/oauth2-redirect.html"></div>
  <script src="{assets}/swagger-ui-bundle.js"></script>
  <script src="{assets}/start.js"></script>
</body>
</html>
"""


@router.get("/docs")
@router.get("/swagger")
async def swagger_ui(request: Request) -> HTMLResponse:
    """Swagger UI. Its Authorize button signs in at `/token`."""
    app: FastAPI = request.app
    root = escape(request.scope.get("root_path", "").rstrip("/"), quote=True)
    page = _PAGE.format(
        title=escape(app.title), assets=f"{root}{_ASSETS}", openapi=f"{root}{_OPENAPI}"
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


@router.get(_OPENAPI)
async def openapi(request: Request) -> Response:
    """The OpenAPI document. It is encoded once, because everybody may ask for it."""
    root = request.scope.get("root_path", "").rstrip("/")
    return Response(_encode(request.app, root), media_type="application/json")


@router.api_route(_STATIC + "/{path:path}", methods=["GET", "HEAD"])
async def static_file(path: str, if_none_match: IfNoneMatch) -> Response:
    """A file of the documentation."""
    file = _load_static_files().get(path)
    if file is None:
        raise HTTPException(404)
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    if is_unchanged(file.etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@dataclass(frozen=True, slots=True)
class _StaticFile:
    content: bytes
    media_type: str | None
    etag: str


@lru_cache(maxsize=1)
def _load_static_files() -> Mapping[str, _StaticFile]:
    """The files by path. They stay in memory: otherwise each client that does not read its response
    keeps a file open."""
    files = {}
    for path in sorted(_STATIC_FOLDER.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            media_type, _ = mimetypes.guess_type(path.name)
            name = path.relative_to(_STATIC_FOLDER).as_posix()
            files[name] = _StaticFile(content, media_type, etag_of(content))
    return files


@lru_cache(maxsize=4)
def _encode(app: FastAPI, root: str) -> bytes:
    schema = app.openapi()
    if root:
        schema = {**schema, "servers": [{"url": root}]}
    return bytes(JSONResponse(schema).body)


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with the schema of our errors. It is built once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
            license_info=app.license_info,
        )
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        shapes = problem.pop("$defs")
        schema["components"]["schemas"] |= {**shapes, **OPENAPI_SCHEMAS, "Problem": problem}
        _drop_generic_422(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _drop_generic_422(schema: dict[str, Any]) -> None:
    """Remove the 422 responses that FastAPI adds to every route with parameters. They have another
    schema than ours, and a route that can return 422 documents it itself."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
