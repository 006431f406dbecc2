"""Wake-ups: the loops of every process learn at once that there is something to do.

Within a process by an event, across processes by Redis pub/sub. A wake-up is a hint: one that is
lost costs at most the poll interval.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = structlog.get_logger(__name__)

_CHANNEL = "carillon:wake"
_SCHEDULES = "schedules"
_EXECUTIONS = "executions"
_RECONNECT_SECONDS = 1.0


class Wake:
    """Announces changes, and sets the events that the loops wait on. `redis` None: this process."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._sender = secrets.token_hex(8)
        self._to_send: set[str] = set()
        self._must_send = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._interrupted = False
        self.schedules = asyncio.Event()
        """Set when a cursor may have moved forward in time."""
        self.executions = asyncio.Event()
        """Set when an execution may have become claimable."""

    def start(self) -> None:
        """Begin to exchange wake-ups with other processes."""
        if self._redis is not None:
            self._tasks = [
                asyncio.create_task(self._keep(self._send, self._redis), name="wake-send"),
                asyncio.create_task(self._keep(self._receive, self._redis), name="wake-receive"),
            ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def schedules_changed(self) -> None:
        """Some job may be due earlier than the scheduler loops think."""
        self.schedules.set()
        self._announce(_SCHEDULES)

    def executions_queued(self) -> None:
        """Something may be there to claim."""
        self.executions.set()
        self._announce(_EXECUTIONS)

    def _announce(self, topic: str) -> None:
        if self._tasks:
            self._to_send.add(topic)
            self._must_send.set()

    async def _keep(self, exchange: Callable[[Redis], Awaitable[None]], redis: Redis) -> None:
        while True:
            try:
                await exchange(redis)
            except (RedisError, OSError, TimeoutError) as error:
                self._note_interruption(error)
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _note_interruption(self, error: Exception) -> None:
        """Once an outage: it is tried again every second."""
        if not self._interrupted:
            self._interrupted = True
            _log.warning("wake_ups_interrupted", error=type(error).__name__)

    async def _send(self, redis: Redis) -> None:
        while True:
            await self._must_send.wait()
            self._must_send.clear()
            topics, self._to_send = self._to_send, set()
            for topic in sorted(topics):
                await redis.publish(_CHANNEL, f"{self._sender} {topic}")

    async def _receive(self, redis: Redis) -> None:
        async with redis.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(_CHANNEL)
            self._interrupted = False
            self.schedules.set()  # what was announced while nobody listened
            self.executions.set()
            while True:
                message = await channel.get_message(timeout=None)
                if message is not None:
                    self._take(message["data"])

    def _take(self, data: bytes | str) -> None:
        text = data if isinstance(data, str) else data.decode(errors="replace")
        sender, _, topic = text.partition(" ")
        if sender == self._sender:
            return
        with contextlib.suppress(KeyError):
            {_SCHEDULES: self.schedules, _EXECUTIONS: self.executions}[topic].set()
