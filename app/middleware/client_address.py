"""The address of the client in `request.client`, also behind trusted proxies."""

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.addresses import find_client_address, is_trusted
from app.networks import Networks

_SCHEMES = frozenset({"http", "https"})


class ClientAddress:
    """Replaces the address of a trusted proxy by that of its client, and the scheme likewise.

    `trusted_of` returns the networks of the trusted proxies.
    """

    def __init__(self, app: ASGIApp, *, trusted_of: Callable[[Scope], Awaitable[Networks]]) -> None:
        self._app = app
        self._trusted_of = trusted_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client is not None:
            trusted = await self._trusted_of(scope)
            if is_trusted(client[0], trusted):
                scope = {**scope, **_find_client(client, Headers(scope=scope), trusted)}
        await self._app(scope, receive, send)


def _find_client(peer: tuple[str, int], headers: Headers, trusted: Networks) -> Scope:
    address = find_client_address(peer[0], headers.getlist("x-forwarded-for"), trusted)
    found: Scope = {"client": peer if address == peer[0] else (address, 0)}
    scheme = headers.get("x-forwarded-proto", "").strip().lower()
    if scheme in _SCHEMES:
        found["scheme"] = scheme
    return found
