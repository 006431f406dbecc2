"""Counts the commands that a client sends to the database."""

from datetime import timedelta
from typing import Any

import bson
from pymongo import AsyncMongoClient, monitoring

from app.repositories.mongo import client_options

_BY_THE_DRIVER = frozenset({"hello", "endSessions", "isMaster", "ping"})


class CommandLog(monitoring.CommandListener):
    """The commands of one client, in order, as (name, collection)."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []
        self._replies: list[Any] = []

    def open_client(self, uri: str, *, timeout: timedelta) -> Any:
        """Open a client whose commands are logged."""
        return AsyncMongoClient(uri, **client_options(timeout), event_listeners=[self])

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in _BY_THE_DRIVER:
            self.commands.append((event.command_name, str(event.command[event.command_name])))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name not in _BY_THE_DRIVER:
            self._replies.append(event.reply)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass

    def clear(self) -> None:
        self.commands.clear()
        self._replies.clear()

    def count(self, name: str | None = None) -> int:
        """Return the number of commands with this name, or of all commands."""
        return sum(name in (None, command) for command, _ in self.commands)

    def count_received_bytes(self) -> list[int]:
        """Return the size of the response to each command, in BSON."""
        return [len(bson.encode(reply)) for reply in self._replies]
