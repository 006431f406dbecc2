"""Takes ports of 127.0.0.1."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def occupy_port(port: int) -> Iterator[None]:
    """Run a server at `port` that closes every connection."""
    with socketserver.TCPServer(
        ("127.0.0.1", port), socketserver.BaseRequestHandler, False
    ) as server:
        server.allow_reuse_address = True
        server.server_bind()
        server.server_activate()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()
