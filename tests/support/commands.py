"""Counts the commands that a client sends to MongoDB."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from app.repositories.mongo import client_options


@dataclass
class CommandCounter(CommandListener):
    """The commands of the clients that it opens, one per round trip."""

    names: list[str] = field(default_factory=list)

    def open_client(self, uri: str, *, timeout: timedelta) -> Any:
        """Open a client for `open_world`."""
        return AsyncMongoClient(uri, **client_options(timeout), event_listeners=[self])

    @contextmanager
    def count(self) -> Iterator[list[str]]:
        """The names of the commands that are sent while the context is open."""
        counted: list[str] = []
        self.names = counted
        yield counted
        self.names = []

    def started(self, event: CommandStartedEvent) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass
