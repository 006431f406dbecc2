"""Rules on the URL and the headers of an http target."""

import ipaddress
import re
from collections.abc import Mapping

from yarl import URL  # aiohttp sends with this parser; another parser could read another host

from app.errors import InvalidInputError
from app.models.execution import HOPS_HEADER
from app.models.target import FIRST_UNPRIVILEGED_PORT, is_allowed_port

MAX_URL_LENGTH = 2_048
MAX_SENT_HEADERS = 50
MAX_SENT_HEADER_VALUE_LENGTH = 4_096
MAX_SENT_HEADERS_BYTES = 8_192

MAX_HOST_LENGTH = 253
HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,62})", re.IGNORECASE)
# Resolvers accept 2130706433, 0x7f.1 and 127.1 for 127.0.0.1.
NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
UNSENDABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

RESERVED_HEADERS = frozenset(
    {
        # These frame the message or belong to one connection.
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept-encoding",
        # These identify the attempt.
        "idempotency-key",
        "x-job-id",
        "x-scheduled-for",
        "x-attempt",
        HOPS_HEADER.lower(),
    }
)
RESERVED_PREFIXES = ("proxy-", "webhook-")


def check_url(url: str) -> None:
    """Raise InvalidInputError for a URL that the service does not send to.

    The error has no pointer; the caller adds it. Whether the service may connect to the host is not
    checked here.
    """
    if len(url) > MAX_URL_LENGTH:
        raise InvalidInputError(f"the URL may have at most {MAX_URL_LENGTH} characters")
    if any(not char.isprintable() or char.isspace() or char == "\\" for char in url):
        raise InvalidInputError(
            "the URL must not contain spaces, control characters or backslashes;"
            " percent-encode them"
        )
    try:
        parsed = URL(url)
    except ValueError:
        raise InvalidInputError("the URL is not valid; an example: https://host/path") from None
    if parsed.scheme not in {"http", "https"}:
        raise InvalidInputError("the URL must begin with http:// or https://")
    authority = re.split("[/?#]", url.partition("//")[2], maxsplit=1)[0]
    if "@" in authority:  # in the text of the URL, because the parser drops an empty user
        raise InvalidInputError(
            "the URL must not contain a user name or password; use an Authorization header"
        )
    if not parsed.raw_host:
        raise InvalidInputError("the URL must name a host; an example: https://host/path")
    if "[" in authority:
        _check_ipv6(parsed.raw_host)
    else:
        _check_host(parsed.raw_host)
    _check_port(parsed.port or 0)


def read_host(url: str) -> str:
    """The host of a URL that `check_url` has accepted: a name, or an address without brackets."""
    return URL(url).raw_host or ""


def _check_ipv6(host: str) -> None:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise InvalidInputError("the brackets in the URL must hold an IPv6 address without a zone")


def _check_host(host: str) -> None:
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_HOST_LENGTH or not all(HOST_LABEL.fullmatch(label) for label in labels):
        raise InvalidInputError(
            "the URL's host is not a host name; use letters, digits and hyphens, at most 63"
            f" characters between dots and at most {MAX_HOST_LENGTH} in total"
        )
    if NUMERIC_LABEL.fullmatch(labels[-1]) and not _is_ipv4(host):
        raise InvalidInputError("write an IPv4 address as four decimal numbers, such as 192.0.2.1")


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _check_port(port: int) -> None:
    if not is_allowed_port(port):
        raise InvalidInputError(
            f"the URL's port must be 80, 443 or at least {FIRST_UNPRIVILEGED_PORT}"
        )


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise InvalidInputError for headers that cannot be sent or that the service sets itself.

    The error has no pointer; the caller adds it.
    """
    if len(headers) > MAX_SENT_HEADERS:
        raise InvalidInputError(f"there may be at most {MAX_SENT_HEADERS} headers")
    seen: set[str] = set()
    size = 0
    for name, value in headers.items():
        _check_header_name(name)
        if name.lower() in seen:
            raise InvalidInputError(
                "two headers have the same name, ignoring case; send one of them"
            )
        seen.add(name.lower())
        _check_header_value(name, value)
        size += len(name) + len(value.encode())
    if size > MAX_SENT_HEADERS_BYTES:
        raise InvalidInputError(
            f"the headers may have at most {MAX_SENT_HEADERS_BYTES} bytes in total, names and"
            " values"
        )


def _check_header_name(name: str) -> None:
    if not HEADER_NAME.fullmatch(name):
        raise InvalidInputError(
            "a header name consists of one or more letters, digits and any of !#$%&'*+-.^_`|~"
        )
    lower = name.lower()
    if lower in RESERVED_HEADERS or lower.startswith(RESERVED_PREFIXES):
        raise InvalidInputError(f"the header {lower} is set by the service")


def _check_header_value(name: str, value: str) -> None:
    if len(value) > MAX_SENT_HEADER_VALUE_LENGTH:
        raise InvalidInputError(
            f"a header value may have at most {MAX_SENT_HEADER_VALUE_LENGTH} characters"
        )
    if UNSENDABLE.search(value):
        raise InvalidInputError(
            f"the value of the header {name[:64]} must not contain line breaks, tabs or other"
            " control characters"
        )
