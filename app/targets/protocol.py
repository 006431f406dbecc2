"""The protocol of a connection to a receiver: limits how many bytes of a response are parsed.

aiohttp limits single lines and the number of headers, but not the number of interim responses, of
empty lines, of chunks, or of characters in the header of a chunk. A receiver that sends them
without end would use the processor until the timeout of each attempt.
"""

import asyncio
import re
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from app.targets.http_message import MAX_BODY_BYTES

MAX_HEAD_BYTES = 65_536
"""The most bytes before the end of the final head, with all interim responses."""
MAX_INTERIM_RESPONSES = 10
MAX_FRAMING_BYTES = 65_536
"""The most bytes after the head that are not content: sizes and extensions of chunks, trailers."""

TURN_BYTES = 4_096
"""The most bytes of a connection that are parsed in one turn of the event loop. They take about
half a millisecond if they are chunks of one byte. The limits may be exceeded by as much."""

_END_OF_HEAD = re.compile(rb"[^\r\n]\r?\n\r?\n")
_END_OF_HEAD_BYTES = 5

TOO_MUCH_BEFORE_THE_HEAD = (
    f"no response within the first {MAX_HEAD_BYTES // 1_024} KB"
    f" or {MAX_INTERIM_RESPONSES} interim responses"
)
TOO_MUCH_FRAMING = (
    f"the body has more than {MAX_FRAMING_BYTES // 1_024} KB of chunk headers and trailers"
)


class ResponseError(aiohttp.ClientPayloadError):
    """The response cannot be read to its end. The text is for the job's owner."""


class LimitedResponseHandler(ResponseHandler):
    """Parses the response of one attempt within the limits of this module, counted from zero for
    each request of the connection.

    Beyond a limit, the attempt fails with a ResponseError. The content beyond `MAX_BODY_BYTES` is
    not parsed, because nobody reads it. Over TLS, the bytes are counted after decryption.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._unparsed = b""
        """What was received and has to wait for the next turn. Meanwhile reading is paused."""
        self._paused_by_reader = False
        self._dropping = False
        """More than the response was received. The connection is not used again."""
        self._content: StreamReader | None = None
        """Set when the final head is complete."""
        self._start_counting()

    @property
    def should_close(self) -> bool:
        return bool(self._unparsed) or super().should_close

    def set_response_params(self, **params: Any) -> None:
        self._start_counting()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            self._unparsed += data
        elif len(data) <= TURN_BYTES:
            self._parse(data)
        else:
            self._unparsed = data
            self._set_reading(on=False)
            self._parse_in_turn()

    def pause_reading(self) -> None:
        self._paused_by_reader = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls this for each chunk that is read, also if it has not paused.
        if self._paused_by_reader:
            self._paused_by_reader = False
            super().resume_reading(resume_parser)
            if self._unparsed:
                self._set_reading(on=False)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """The parser calls this for each complete head."""
        message, content = data
        if 100 <= message.code <= 199 and message.code != 101:
            self._interim_responses += 1
            if self._interim_responses > MAX_INTERIM_RESPONSES:
                self._fail(TOO_MUCH_BEFORE_THE_HEAD)
        elif self._content is None:
            self._content = content
        if self.exception() is None:
            super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        # A receiver may respond and then reset the connection. Its response is complete.
        while self._unparsed and self.transport is not None:
            self._parse_part()
        super().connection_lost(exc)

    def _start_counting(self) -> None:
        self._parsed = 0
        self._interim_responses = 0
        self._head_bytes: int | None = None
        """Set when the final head is complete. Includes the framing of the same turn."""
        self._content = None
        self._end_of_parsed = b""
        """The last bytes of a head of which the rest has not been received."""

    def _parse_in_turn(self) -> None:
        if self.transport is None:  # closed: nobody waits for the response any more
            self._unparsed = b""
            return
        self._parse_part()
        if self._unparsed:
            self._loop.call_soon(self._parse_in_turn)
        elif not self._paused_by_reader and not self._dropping:
            self._set_reading(on=True)

    def _parse_part(self) -> None:
        part, self._unparsed = self._unparsed[:TURN_BYTES], self._unparsed[TURN_BYTES:]
        self._parse(part)

    def _parse(self, data: bytes) -> None:
        while data and self.exception() is None:
            if self._is_complete():
                self._drop_the_rest()
                return
            end = self._find_end_of_head(data)
            part, data = data[:end], data[end:]
            super().data_received(part)
            self._parsed += len(part)
            self._check()

    def _find_end_of_head(self, data: bytes) -> int:
        """Return where a head ends in the data, otherwise the length of the data.

        Each head is parsed alone. If the parser finds an error, it drops the heads of the same
        data, but bytes after a response are no error.
        """
        if self._content is not None:
            return len(data)
        known = self._end_of_parsed
        found = _END_OF_HEAD.search(known + data)
        end = len(data) if found is None else found.end() - len(known)
        self._end_of_parsed = (known + data[:end])[1 - _END_OF_HEAD_BYTES :]
        return end

    def _drop_the_rest(self) -> None:
        self._unparsed, self._dropping = b"", True
        self.force_close()
        self._set_reading(on=False)

    def _is_complete(self) -> bool:
        """Whether further bytes are not part of what is read of the response."""
        content = self._content
        return content is not None and (content.is_eof() or content.total_bytes > MAX_BODY_BYTES)

    def _check(self) -> None:
        """Fail if the parser found an error or a limit is exceeded."""
        content = self._content
        if self.exception() is not None and self._is_complete():
            self._drop_the_rest()
        elif self.exception() is not None:
            self._fail("the response is not valid HTTP")
        elif content is None:
            if self._parsed > MAX_HEAD_BYTES:
                self._fail(TOO_MUCH_BEFORE_THE_HEAD)
        elif not self._is_complete():
            overhead = self._parsed - content.total_bytes
            if self._head_bytes is None:
                self._head_bytes = overhead
            elif overhead - self._head_bytes > MAX_FRAMING_BYTES:
                self._fail(TOO_MUCH_FRAMING)

    def _fail(self, text: str) -> None:
        """Close the connection, and report the error to who waits for the head or the content."""
        self._unparsed = b""
        if self.exception() is None:
            self.set_exception(ResponseError(text))
        if self._content is not None and not self._content.is_eof():
            # aiohttp reports an error of the parser only to who waits for the head. Who waits for
            # the content would wait until the timeout.
            self._content.set_exception(ResponseError(text))
        if self.transport is not None:
            self.transport.abort()

    def _set_reading(self, *, on: bool) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()


class LimitedConnector(aiohttp.TCPConnector):
    """Opens connections that have a LimitedResponseHandler."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no public option for the class of the protocol. A unit test fails if this name
        # or its meaning changes.
        protocol: type[ResponseHandler] = LimitedResponseHandler
        self._factory = partial(protocol, loop=self._loop)
