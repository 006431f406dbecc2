"""The session of all http targets. It connects by the egress policy and repeats no request."""

import socket

import aiohttp
from aiohttp.abc import AbstractResolver

from app.networks import Networks
from app.targets.egress import EgressPolicy
from app.targets.protocol import LimitedConnector
from app.targets.received_bytes import limit_received


class BrokenConnectionError(aiohttp.ClientConnectionError):
    """The connection broke after it was made. It is unknown whether the request was read."""


async def send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Stop aiohttp from sending a request a second time. This is a client middleware.

    aiohttp repeats GET, HEAD, PUT and DELETE requests when the connection breaks, even a new one.
    The receiver would then get the same attempt twice. aiohttp decides by the type of the error,
    so this raises an error of another type.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokenConnectionError(str(error)) from error


def open_session(
    *,
    allow_private_hosts: bool,
    limit: int,
    resolver: AbstractResolver,
    deny_networks: Networks = (),
) -> aiohttp.ClientSession:
    """Open the session that all http targets use. The caller closes it.

    `limit` is the largest number of simultaneous connections (0: no limit). Further requests wait
    for a connection; the wait counts towards their timeout. The session does not close `resolver`.
    It has no timeout, because the target has one. It uses no cookies, no proxy of the environment,
    and does not decompress responses.

    The connector does not cache names: it would let the requests of one owner wait for the same
    lookup of another owner, which may wait for a place. The resolver has a cache of its own.

    Each request gets a new connection. The receiver may close a reused connection at the same time
    as the next request is sent: a job that runs every 5 seconds coincides with the keep-alive
    timeout of 5 seconds that many servers have. The attempt would then fail or be sent twice.
    """
    policy = EgressPolicy(allow_private_hosts, deny_networks)

    def open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        opened = policy.open_socket(address)
        limit_received(opened)
        return opened

    connector = LimitedConnector(
        socket_factory=open_socket,
        resolver=resolver,
        use_dns_cache=False,
        limit=limit,
        force_close=True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        middlewares=(send_once,),
        auto_decompress=False,
        trust_env=False,
    )
