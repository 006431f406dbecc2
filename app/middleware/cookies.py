"""Removes cookies from requests. The service uses none, but the framework reads them."""

from starlette.types import ASGIApp, Receive, Scope, Send


class CookieRemover:
    """Removes the header `Cookie`.

    The framework parses it for every route by `http.cookies`, which needs quadratic time for
    escaped quotes (CVE-2024-7592, Python up to 3.11.9): 28 KB block the event loop for a second.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)
