"""HTTP messages of the http target: the request that is sent, and the response that is stored."""

import codecs
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from multidict import CIMultiDict

from app.models.execution import HOPS_HEADER, TargetResponse, Truncation
from app.models.record import rfc3339
from app.models.target import BODILESS_METHODS, HttpTargetSpec
from app.targets.envelope import build_envelope
from app.targets.target import Delivery

MAX_BODY_BYTES = 65_536
MAX_STORED_HEADERS = 50
MAX_STORED_HEADER_VALUE_LENGTH = 1_024
# An execution keeps up to 50 attempts in one document, and MongoDB limits documents to 16 MB.
MAX_STORED_HEADERS_BYTES = 16_384

# The characters of a token (RFC 9110, 5.6.2).
STORABLE_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
COOKIE_HEADERS = frozenset({"set-cookie", "set-cookie2"})

MAX_RETRY_AFTER = timedelta(days=7)
"""The largest `max_delay_seconds` of a job. The retry policy applies the job's own limit."""


def build_body(spec: HttpTargetSpec, delivery: Delivery) -> tuple[bytes | None, str | None]:
    """Return the body and its content type, or None for both if no body is sent."""
    if isinstance(spec.body, str):
        return spec.body.encode(), "text/plain; charset=utf-8"
    if spec.body is None and spec.method in BODILESS_METHODS:
        return None, None
    content: Any = build_envelope(delivery) if spec.body is None else spec.body
    return orjson.dumps(content), "application/json"


def build_headers(
    spec: HttpTargetSpec, delivery: Delivery, *, content_type: str | None, user_agent: str
) -> CIMultiDict[str]:
    """Return the user's headers with defaults added and with Carillon's own headers set.

    A default does not replace a user's header. Carillon's own headers do.
    """
    headers = CIMultiDict(spec.headers)
    headers.setdefault("User-Agent", user_agent)
    if content_type is not None:
        headers.setdefault("Content-Type", content_type)
    headers.update(
        {
            # A small compressed response can decompress to gigabytes.
            "Accept-Encoding": "identity",
            "Idempotency-Key": delivery.execution_id,
            "X-Job-Id": delivery.job_id,
            "X-Scheduled-For": rfc3339(delivery.scheduled_for),
            "X-Attempt": str(delivery.attempt),
            # The API rejects requests that come from a job by way of another job.
            HOPS_HEADER: str(delivery.hops + 1),
        }
    )
    return headers


async def read_response(received: aiohttp.ClientResponse) -> TargetResponse:
    """Read the part of a response that is stored. Reads no more of the body than the limit."""
    raw = bytearray()
    while len(raw) <= MAX_BODY_BYTES:
        chunk = await received.content.read(MAX_BODY_BYTES + 1 - len(raw))
        if not chunk:
            break
        raw += chunk
    body, truncated = _decode(bytes(raw))
    return TargetResponse(
        status=received.status,
        headers=_select_headers(received.raw_headers),
        body=body,
        truncated=truncated,
        truncated_reason=Truncation.TOO_LARGE if truncated else None,
    )


def _decode(raw: bytes) -> tuple[str, bool]:
    """Return `raw` as text of at most `MAX_BODY_BYTES` in UTF-8, and whether it was truncated."""
    truncated = len(raw) > MAX_BODY_BYTES
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    # `final` is false if truncated, so that a character whose end is missing is dropped.
    text = decoder.decode(raw[:MAX_BODY_BYTES], final=not truncated)
    encoded = text.encode()
    if len(encoded) <= MAX_BODY_BYTES:
        return text, truncated
    # Each invalid byte has become a replacement character of three bytes.
    return encoded[:MAX_BODY_BYTES].decode("utf-8", "ignore"), True


def _select_headers(raw_headers: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    """Return the headers to store, by lower-case name.

    The values of a repeated name are joined by a comma. Cookies and names that cannot be stored are
    omitted. At the first header over a limit the function stops, and the rest are omitted. A
    repeated name counts towards `MAX_STORED_HEADERS_BYTES` each time.
    """
    kept: dict[str, str] = {}
    size = 0
    for raw_name, raw_value in raw_headers:
        name = raw_name.decode("ascii", "replace").lower()
        if not STORABLE_NAME.fullmatch(name) or name in COOKIE_HEADERS:
            continue
        value = raw_value.decode("utf-8", "replace")
        if name in kept:
            value = f"{kept[name]}, {value}"
        value = value[:MAX_STORED_HEADER_VALUE_LENGTH]
        size += len(name) + len(value.encode())
        if size > MAX_STORED_HEADERS_BYTES or (
            name not in kept and len(kept) == MAX_STORED_HEADERS
        ):
            break
        kept[name] = value
    return kept


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Return the delay of a `Retry-After` header (seconds or an HTTP date), within 0 to 7 days.

    Returns None if the header is absent or has another format.
    """
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]+", value):
        # Limited before the conversions: Python converts no more than 4,300 digits, and a large
        # timedelta overflows.
        digits = value.lstrip("0")[:20] or "0"
        return timedelta(seconds=min(int(digits), int(MAX_RETRY_AFTER.total_seconds())))
    try:
        instant = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(timedelta(0), min(instant - now, MAX_RETRY_AFTER))
