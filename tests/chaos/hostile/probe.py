"""Asks `/health/live` again and again, from a process of its own: `python -m
tests.chaos.hostile.probe URL`. It prints a JSON line for each response until it is ended.

In the process of the attacks it would also measure how busy these are.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

_PERIOD_SECONDS = 0.2
_LONGEST_SECONDS = 60.0


def ask(host: str, port: int) -> int | str:
    """Return the status, or the name of the error. Each request has a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=_LONGEST_SECONDS)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def main(url: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    while True:
        asked_at, began = time.time(), time.monotonic()
        status = ask(parts.hostname, parts.port)
        seconds = time.monotonic() - began
        line = {"asked_at": asked_at, "seconds": seconds, "status": status}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        time.sleep(max(0.0, _PERIOD_SECONDS - seconds))


if __name__ == "__main__":
    main(sys.argv[1])
