"""The limits of one request while it is parsed, and the slices in which bytes go to the parser."""

from collections.abc import Sequence

from app.http_server.rejections import (
    MALFORMED,
    TOO_MUCH_FRAMING,
    WRONG_HOST,
    Rejection,
    make_header_rejection,
)

MAX_HEAD_BYTES = 32_768
"""The most bytes of a request that are parsed before its headers are complete."""

MAX_FIELDS = 100
"""The most headers and trailers of a request."""

MAX_FRAMING_BYTES = 32_768
"""The bytes of a chunked body that are not data: at most these, and 8 for each byte of data."""

_FRAMING_PER_BYTE = 8
_CHUNKED_SLICE = 512
_HTTP_VERSIONS = {"1.0", "1.1"}
_END_OF_HEAD = b"\r\n\r\n"
_HEADERS_TOO_LARGE = make_header_rejection(MAX_HEAD_BYTES, MAX_FIELDS)

Headers = Sequence[tuple[bytes, bytes]]


class RejectedError(Exception):
    """The request breaks a limit. Nothing more of the connection is parsed."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.detail)
        self.rejection = rejection


class RequestLimits:
    """Counts what the parser of one connection has seen of the present request.

    A slice ends where the headers or the body end, so that each request on a connection has its own
    limits. Only the parser finds the end of a chunked body. What follows in that slice is not
    counted, so slices are small.
    """

    def __init__(self) -> None:
        self.in_head = True
        """Whether the headers of the present request are not complete yet."""
        self.head_bytes = 0
        self._last_bytes = b""
        self._fields = 0
        self._hosts = 0
        self._body_left: int | None = 0
        self._excess = 0
        """The bytes of a chunked body that are not data, minus those that its data allow."""

    def find_end_of_slice(self, data: bytes, start: int) -> int:
        """Where the slice that starts at `start` must end at the latest."""
        if not self.in_head:
            return start + (self._body_left or _CHUNKED_SLICE)
        if start == 0:  # one part of the end may have been received before
            found = (self._last_bytes + data[:3]).find(_END_OF_HEAD)
            if found >= 0:
                return found + len(_END_OF_HEAD) - len(self._last_bytes)
        limit = start + MAX_HEAD_BYTES - self.head_bytes
        found = data.find(_END_OF_HEAD, start, limit)
        return limit if found < 0 else found + len(_END_OF_HEAD)

    def count_head(self, piece: bytes) -> None:
        """Count a slice in which the headers did not end. Raises RejectedError."""
        self.head_bytes += len(piece)
        self._last_bytes = (self._last_bytes + piece[-3:])[-3:]
        if self.head_bytes >= MAX_HEAD_BYTES:
            raise RejectedError(_HEADERS_TOO_LARGE)

    def count_slice(self, size: int) -> None:
        """Count a slice in which the body did not end. Raises RejectedError."""
        if self._body_left is None:
            self._excess += size
            if self._excess > MAX_FRAMING_BYTES:
                raise RejectedError(TOO_MUCH_FRAMING)

    def count_field(self, name: bytes) -> None:
        """Count a header or a trailer. Raises RejectedError."""
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise RejectedError(_HEADERS_TOO_LARGE)
        if self.in_head and name.lower() == b"host":
            self._hosts += 1

    def end_head(self, headers: Headers, http_version: str, *, asks_for_upgrade: bool) -> None:
        """Raises RejectedError if the request is not HTTP/1, does not have one Host header, or asks
        for an upgrade and has a body: the parser would take this body for the next request."""
        if http_version not in _HTTP_VERSIONS:
            raise RejectedError(MALFORMED)
        if self._hosts > 1 or (self._hosts == 0 and http_version == "1.1"):
            raise RejectedError(WRONG_HOST)
        self.in_head = False
        self._body_left = _find_length(headers)
        if asks_for_upgrade and self._body_left != 0:
            raise RejectedError(MALFORMED)

    def count_data(self, size: int) -> None:
        """Count data of the body."""
        if self._body_left is None:
            self._excess -= (1 + _FRAMING_PER_BYTE) * size
        else:
            self._body_left -= size


def _find_length(headers: Headers) -> int | None:
    """The length of the body, or None if it is chunked. The parser has checked the headers."""
    length = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value)
    return length
