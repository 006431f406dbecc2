"""The address of the client behind proxies."""

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app.middleware.client_address import ClientAddress
from app.networks import Networks, parse_networks


async def resolve(peer: Any, *headers: tuple[bytes, bytes]) -> Scope:
    """Return the scope that the application gets."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def trusted_of(scope: Scope) -> Networks:
        return parse_networks("10.0.0.0/8")

    scope = {"type": "http", "client": peer, "scheme": "http", "headers": list(headers)}
    await ClientAddress(app, trusted_of=trusted_of)(scope, None, None)  # type: ignore[arg-type]
    return seen[0]


async def test_a_trusted_proxy_names_the_address_and_the_scheme_of_its_client() -> None:
    scope = await resolve(
        ("10.0.0.1", 5000),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"x-forwarded-proto", b"https"),
    )
    assert scope["client"] == ("192.0.2.7", 0)
    assert scope["scheme"] == "https"


@pytest.mark.parametrize("peer", [("192.0.2.1", 5000), ("127.0.0.1", 5000), None])
async def test_the_headers_of_others_do_not_count(peer: Any) -> None:
    scope = await resolve(
        peer, (b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-proto", b"https")
    )
    assert scope["client"] == peer
    assert scope["scheme"] == "http"
