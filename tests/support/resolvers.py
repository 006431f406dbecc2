"""Resolvers that ask no network."""

import asyncio
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult


class NumericResolver(AbstractResolver):
    """The system's resolver as far as it needs no network: every way to write an address."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return results(host, port, [str(info[4][0]) for info in infos])

    async def close(self) -> None:
        pass


class ListResolver(AbstractResolver):
    """Answers with the given lists of addresses, one a question, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.questions = 0
        self._answers = answers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self._answers[min(self.questions, len(self._answers) - 1)]
        self.questions += 1
        return results(host, port, answer)

    async def close(self) -> None:
        pass


def results(host: str, port: int, addresses: Sequence[str]) -> list[ResolveResult]:
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


class NoAnswerResolver(AbstractResolver):
    """Raises what it is given, or waits for ever."""

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
