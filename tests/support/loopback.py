"""A guard for tests of the egress policy: a failing test must not connect to another machine."""

import socket
from typing import Any

import pytest

# `0.0.0.0` and `::` reach this machine, too.
LOOPBACK = ("127.", "0.0.0.0", "::1", "::ffff:127.")


def keep_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection of this process to another machine fail before it is made."""
    connect = socket.socket.connect

    def check_and_connect(self: socket.socket, address: Any) -> None:
        host = str(address[0])
        if self.family in {socket.AF_INET, socket.AF_INET6} and host != "::":
            assert host.startswith(LOOPBACK), f"The test tried to connect to {host}."
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", check_and_connect)
