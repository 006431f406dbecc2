"""Wake-ups tell the loops of every process immediately that there is work to do.

Within a process a wake-up is an asyncio event. Between processes it is a Redis pub/sub message.
Wake-ups are best effort: if one is lost, the work starts at the next poll.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = structlog.get_logger(__name__)

_CHANNEL = "carillon:wake"
_SCHEDULES = "schedules"
_EXECUTIONS = "executions"
_RECONNECT_AFTER = timedelta(seconds=1)


class Wake:
    """Announces changes, and sets the events that the loops wait for."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sender = secrets.token_hex(8)
        self._to_send: set[str] = set()
        self._must_send = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._interrupted = False
        self.schedules = asyncio.Event()
        """Set when a job may be due earlier than before."""
        self.executions = asyncio.Event()
        """Set when there may be an execution to claim."""

    def start(self) -> None:
        """Start to exchange wake-ups with other processes."""
        self._tasks = [
            asyncio.create_task(self._repeat(self._send), name="wake-send"),
            asyncio.create_task(self._repeat(self._receive), name="wake-receive"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake_schedulers(self) -> None:
        """Wake the scheduler loops, because a job may be due earlier than before."""
        self.schedules.set()
        self._announce(_SCHEDULES)

    def wake_workers(self) -> None:
        """Wake the worker loops, because there may be an execution to claim."""
        self.executions.set()
        self._announce(_EXECUTIONS)

    def _announce(self, topic: str) -> None:
        if self._tasks:
            self._to_send.add(topic)
            self._must_send.set()

    async def _repeat(self, exchange: Callable[[], Awaitable[None]]) -> None:
        """Run `exchange`, and run it again one second after each failure."""
        while True:
            try:
                await exchange()
            except (RedisError, OSError, TimeoutError) as error:
                self._log_interruption(error)
            await asyncio.sleep(_RECONNECT_AFTER.total_seconds())

    def _log_interruption(self, error: Exception) -> None:
        """Log once per outage, because the exchange is repeated every second."""
        if not self._interrupted:
            self._interrupted = True
            _log.warning("wake_ups_interrupted", error=type(error).__name__)

    async def _send(self) -> None:
        while True:
            await self._must_send.wait()
            self._must_send.clear()
            topics, self._to_send = self._to_send, set()
            for topic in sorted(topics):
                await self._redis.publish(_CHANNEL, f"{self._sender} {topic}")

    async def _receive(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(_CHANNEL)
            self._interrupted = False
            # Announcements made before the subscription are lost, so both loops look for work now.
            self.schedules.set()
            self.executions.set()
            while True:
                message = await channel.get_message(timeout=None)
                if message is not None:
                    self._handle(message["data"])

    def _handle(self, data: bytes | str) -> None:
        text = data if isinstance(data, str) else data.decode(errors="replace")
        sender, _, topic = text.partition(" ")
        if sender == self._sender:
            return
        with contextlib.suppress(KeyError):
            {_SCHEDULES: self.schedules, _EXECUTIONS: self.executions}[topic].set()
