"""Resolvers that use no network."""

import asyncio
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult


class NumericResolver(AbstractResolver):
    """Resolves only IP addresses, in every notation that the system's resolver accepts."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return _build_results(host, port, [str(info[4][0]) for info in infos])

    async def close(self) -> None:
        pass


class ListResolver(AbstractResolver):
    """Returns the given lists of addresses one after another, and then always the last one."""

    def __init__(self, *address_lists: Sequence[str]) -> None:
        self.calls = 0
        self._address_lists = address_lists

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._address_lists[min(self.calls, len(self._address_lists) - 1)]
        self.calls += 1
        return _build_results(host, port, addresses)

    async def close(self) -> None:
        pass


def _build_results(host: str, port: int, addresses: Sequence[str]) -> list[ResolveResult]:
    return [
        ResolveResult(
            hostname=host,
            host=address,
            port=port,
            family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_NUMERICHOST,
        )
        for address in addresses
    ]


class FailingResolver(AbstractResolver):
    """Raises the given error, or never returns if there is none."""

    def __init__(self, error: OSError | None) -> None:
        self._error = error

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._error is None:
            await asyncio.Event().wait()
        raise self._error or AssertionError

    async def close(self) -> None:
        pass
