"""What a shared server needs to know about one kind of server."""

from typing import Protocol


class Program(Protocol):
    """How one kind of server is started, addressed and checked."""

    def choose_port(self, previous: int) -> int:
        """Return `previous` if it is free, otherwise another port; 0 for a server without one."""
        ...

    def build_command(self, port: int) -> list[str]: ...

    def build_uri(self, port: int) -> str:
        """Return the URI with which clients connect. It contains a password."""
        ...

    def describe_address(self, port: int) -> str:
        """Return where the server listens, for logs and messages."""
        ...

    def make_ready(self, port: int) -> int | None:
        """Configure the server at `port` as far as necessary and return its pid.

        Returns None if the server is not ready yet, or if its data are in another folder.
        """
        ...
