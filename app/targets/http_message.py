"""HTTP messages of the http target: what is sent, and what is kept of the answer."""

import codecs
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from multidict import CIMultiDict

from app.models.execution import Response
from app.models.target import BODILESS_METHODS, HttpTargetSpec
from app.targets.envelope import envelope, rfc3339
from app.targets.target import Delivery

MAX_BODY_BYTES = 65_536
MAX_HEADERS = 50
MAX_HEADER_VALUE_LENGTH = 1_024
# An execution keeps up to 50 attempts in one document, which MongoDB bounds at 16 MB.
MAX_HEADERS_BYTES = 16_384

# Names become field names in MongoDB, where "." and a leading "$" have a meaning.
STORABLE_NAME = re.compile(r"[a-z0-9!#%&'*+^_`|~-]{1,128}")
COOKIE_HEADERS = frozenset({"set-cookie", "set-cookie2"})

MAX_RETRY_AFTER = timedelta(hours=24)


def request_body(spec: HttpTargetSpec, delivery: Delivery) -> tuple[bytes | None, str | None]:
    """The body and its content type, or twice None where no body is sent."""
    if isinstance(spec.body, str):
        return spec.body.encode(), "text/plain; charset=utf-8"
    if spec.body is None and spec.method in BODILESS_METHODS:
        return None, None
    content: Any = envelope(delivery) if spec.body is None else spec.body
    return orjson.dumps(content), "application/json"


def request_headers(
    spec: HttpTargetSpec, delivery: Delivery, *, content_type: str | None, user_agent: str
) -> CIMultiDict[str]:
    """The user's headers, defaults for what they leave out, and ours, which always win."""
    headers = CIMultiDict(spec.headers)
    headers.setdefault("User-Agent", user_agent)
    if content_type is not None:
        headers.setdefault("Content-Type", content_type)
    headers.update(
        {
            # Compressed answers would have to be unpacked, and a small one can unpack to gigabytes.
            "Accept-Encoding": "identity",
            "Idempotency-Key": delivery.execution_id,
            "X-Job-Id": delivery.job_id,
            "X-Scheduled-For": rfc3339(delivery.scheduled_for),
            "X-Attempt": str(delivery.attempt),
        }
    )
    return headers


async def read_response(answer: aiohttp.ClientResponse) -> Response:
    """What is kept of an answer. Nothing is read beyond the limit of the body."""
    raw = bytearray()
    while len(raw) <= MAX_BODY_BYTES:
        chunk = await answer.content.read(MAX_BODY_BYTES + 1 - len(raw))
        if not chunk:
            break
        raw += chunk
    body, truncated = _text(bytes(raw))
    return Response(
        status=answer.status,
        headers=_storable_headers(answer.raw_headers),
        body=body,
        truncated=truncated,
    )


def _text(raw: bytes) -> tuple[str, bool]:
    """`raw` as text of at most `MAX_BODY_BYTES` in UTF-8, and whether any of it was cut off."""
    truncated = len(raw) > MAX_BODY_BYTES
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    # Not final where truncated: the cut may go through a character, which is then dropped.
    text = decoder.decode(raw[:MAX_BODY_BYTES], final=not truncated)
    encoded = text.encode()
    if len(encoded) <= MAX_BODY_BYTES:
        return text, truncated
    # Each byte that is not UTF-8 became a replacement character of three bytes.
    return encoded[:MAX_BODY_BYTES].decode("utf-8", "ignore"), True


def _storable_headers(raw_headers: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    """Lower-cased names with their values, those of a repeated name joined by a comma. Cookies,
    names that cannot be stored, and what is beyond the limits are left out."""
    kept: dict[str, str] = {}
    size = 0
    for raw_name, raw_value in raw_headers:
        name = raw_name.decode("ascii", "replace").lower()
        if not STORABLE_NAME.fullmatch(name) or name in COOKIE_HEADERS:
            continue
        value = raw_value.decode("utf-8", "replace")
        if name in kept:
            value = f"{kept[name]}, {value}"
        value = value[:MAX_HEADER_VALUE_LENGTH]
        size += len(name) + len(value.encode())
        if size > MAX_HEADERS_BYTES or (name not in kept and len(kept) == MAX_HEADERS):
            break
        kept[name] = value
    return kept


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The `Retry-After` header, seconds or an HTTP date, clamped to 0..24 hours.

    None where the header is absent or says neither.
    """
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,20}", value):
        # Clamped before it is a timedelta, which overflows.
        return timedelta(seconds=min(int(value), int(MAX_RETRY_AFTER.total_seconds())))
    try:
        instant = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(timedelta(0), min(instant - now, MAX_RETRY_AFTER))
