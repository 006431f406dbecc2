"""A guard for tests of the egress check: should the check fail, nothing leaves the machine."""

import socket
from typing import Any

import pytest

LOOPBACK = ("127.", "0.0.0.0", "::1", "::ffff:127.")


def keep_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connect of this process to another machine fail before it is made."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = str(address[0])
        if self.family in {socket.AF_INET, socket.AF_INET6} and host != "::":
            assert host.startswith(LOOPBACK), f"a connection to {host} was about to be made"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
