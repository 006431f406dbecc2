"""Addresses of stores, without credentials."""

from urllib.parse import urlsplit


def describe_store(uri: str) -> str:
    """The hosts of the URI of a store, or the path of its socket: no user, password or option."""
    parts = urlsplit(uri)
    rest = f"{parts.path}{parts.query}{parts.fragment}"
    if "@" in rest:  # an unescaped / ? or # in the password, part of which would be the host
        return "the host in its URI"
    return parts.netloc.rpartition("@")[2] or parts.path
