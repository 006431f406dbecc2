"""Headers of every response: what browsers may do with it, and whether they may store it."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.response_headers import NO_STORE, SECURITY_HEADERS


class SecurityHeaders:
    """Adds the headers to every response. Browsers may store only responses with an ETag."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                added = SECURITY_HEADERS if "etag" in headers else SECURITY_HEADERS | NO_STORE
                for name, value in added.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
