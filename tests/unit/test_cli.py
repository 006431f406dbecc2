"""The socket on which the service listens."""

import socket

from app.cli import _SEND_BUFFER_BYTES, _bind


def test_the_kernel_keeps_little_of_a_response_that_nobody_reads() -> None:
    with _bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
            size = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert size <= 2 * _SEND_BUFFER_BYTES  # Linux doubles it for its own data
