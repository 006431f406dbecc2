"""The responses that the server sends by itself."""

import http
import json
from dataclasses import dataclass, field

from app.response_headers import NO_STORE, SECURITY_HEADERS


@dataclass(frozen=True, slots=True)
class Rejection:
    """A response to a connection whose request does not reach the application."""

    status: int
    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The whole response, as problem details (RFC 9457)."""
        phrase = http.HTTPStatus(self.status).phrase
        problem = {
            "type": f"urn:carillon:problem:{self.code}",
            "title": phrase,
            "status": self.status,
            "detail": self.detail,
        }
        body = json.dumps(problem).encode()
        headers = {
            **SECURITY_HEADERS,
            **NO_STORE,
            **self.headers,
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{n}: {v}" for n, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


MALFORMED = Rejection(400, "bad_request", "This is not a valid HTTP request.")
WRONG_HOST = Rejection(
    400, "bad_request", "A request has one Host header; HTTP/1.0 requests may have none."
)
TOO_MUCH_FRAMING = Rejection(
    400, "bad_request", "The body has too many bytes that are not data; send larger chunks."
)
TOO_SLOW = Rejection(408, "request_timeout", "The headers took too long to arrive.")
NO_ROOM = Rejection(
    503, "too_many_connections", "The service has too many connections.", {"Retry-After": "2"}
)


def make_header_rejection(max_bytes: int, max_fields: int) -> Rejection:
    """The response to a request with larger headers than the limits."""
    return Rejection(
        431,
        "headers_too_large",
        f"The request line and the headers may have at most {max_bytes} bytes and"
        f" {max_fields} fields together.",
    )
