"""What hostile receivers send without end: bytes that the http target must not read for long."""

from dataclasses import dataclass

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Flood:
    """A receiver sends `start` once, and then `repeated` until the connection breaks."""

    start: bytes
    repeated: bytes

    def make_block(self, size: int = 65_536) -> bytes:
        """Return about `size` bytes of repetitions, to be sent at once."""
        return self.repeated * (size // len(self.repeated))


BEFORE_THE_HEAD = {
    "interim responses": Flood(b"", b"HTTP/1.1 100 C\r\n\r\n"),
    "interim responses with headers": Flood(b"", b"HTTP/1.1 103 C\r\na: b\r\nc: d\r\n\r\n"),
    "empty lines": Flood(b"", b"\r\n"),
    "line feeds": Flood(b"", b"\n"),
    "spaces before a header's value": Flood(b"HTTP/1.1 200 OK\r\na:", b" "),
    "empty folded lines": Flood(b"HTTP/1.1 200 OK\r\na: b\r\n", b" \r\n"),
    "the body of an interim response": Flood(
        b"HTTP/1.1 103 C\r\nContent-Length: 4000000000\r\n\r\n", b"x"
    ),
}
"""No final head ends."""

IN_THE_BODY = {
    "a chunk extension": Flood(CHUNKED + b"1;", b"a"),
    "a chunk extension's value": Flood(CHUNKED + b'1;a="', b"b"),
    "leading zeros of a chunk's size": Flood(CHUNKED, b"0"),
    "spaces after a chunk's size": Flood(CHUNKED + b"1", b" "),
    "chunks of one byte": Flood(CHUNKED, b"1\r\nx\r\n"),
    "chunks of one byte with extensions": Flood(CHUNKED, b"1;a\r\nx\r\n"),
    "spaces before a trailer's value": Flood(CHUNKED + b"0\r\na:", b" "),
    "empty folded trailers": Flood(CHUNKED + b"0\r\na: b\r\n", b" \r\n"),
}
"""The body has (almost) no content and does not end."""

INVALID = {
    "header lines": Flood(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "a header's value": Flood(b"HTTP/1.1 200 OK\r\na: ", b"b"),
    "a header's name": Flood(b"HTTP/1.1 200 OK\r\n", b"a"),
    "folded lines": Flood(b"HTTP/1.1 200 OK\r\na: b\r\n", b" c\r\n"),
    "a reason": Flood(b"HTTP/1.1 200 ", b"a"),
    "digits of a status": Flood(b"HTTP/1.1 200", b"0"),
    "trailers": Flood(CHUNKED + b"0\r\n", b"a: b\r\n"),
    "one trailer": Flood(CHUNKED + b"0\r\na: ", b"b"),
    "digits of a chunk's size": Flood(CHUNKED, b"1"),
    "text that is not HTTP": Flood(b"", b"a"),
}
"""The parser itself has a limit for these."""

HELLO_REQUESTS = Flood(b"", b"\x16\x03\x03\x40\x00" + bytes(16_384))
"""TLS records of 4,096 HelloRequests each. Clients skip them, even before the certificate."""
