"""Ports of the loopback address, where the embedded mongod listens."""

import socket

HOST = "127.0.0.1"


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def find_free_port(preferred: int) -> int:
    """Return `preferred` if it is free, otherwise a port that the system chooses (as for 0)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred))
        except OSError:
            probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
