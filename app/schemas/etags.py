"""Entity tags and conditions on them: `"<revision>-<hash>"` of one item, `"<hash>"` of a page."""

import hashlib
import re
from dataclasses import dataclass

from app.errors import InvalidInputError, PreconditionError

_HASH_DIGITS = 16
_MAX_LENGTH = 4_000
# RFC 9110, 8.8.3: quoted, without spaces, control characters or quotes; W/ marks a weak tag.
_TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"')
_REVISION = re.compile(r"([1-9][0-9]{0,17})-[0-9a-f]+", re.ASCII)


def etag_of(body: bytes, revision: int | None = None) -> str:
    """The strong entity tag of a response body. `revision` is given if the body is one item."""
    digest = hashlib.sha256(body).hexdigest()[:_HASH_DIGITS]
    return f'"{digest}"' if revision is None else f'"{revision}-{digest}"'


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revisions that a write accepts, from `If-Match`. None means any revision."""

    accepted: frozenset[int] | None = None

    def check(self, revision: int) -> None:
        """Raise PreconditionError unless the present revision is accepted."""
        if self.accepted is not None and revision not in self.accepted:
            raise PreconditionError(
                f"If-Match does not name the present revision, which is {revision}; "
                "read the present version and repeat the request with its ETag."
            )


ANY_REVISION = Revisions()


def read_if_match(header: str | None) -> Revisions:
    """The revisions that `If-Match` names; any revision without the header and for `*`.

    Only the revision of a tag counts, not its hash. Weak tags and tags of another form match
    nothing (RFC 9110, 13.1.1). Raises InvalidInputError if the header is not a list of tags.
    """
    if header is None or header.strip() == "*":
        return ANY_REVISION
    tags = _tags(header)
    if tags is None:
        raise InvalidInputError.at(
            "/header/If-Match",
            "send the ETag of an earlier response with its quotes, or * without quotes",
        )
    found = (_REVISION.fullmatch(opaque) for weak, opaque in tags if not weak)
    return Revisions(frozenset(int(match[1]) for match in found if match))


def is_unchanged(etag: str, if_none_match: str | None) -> bool:
    """Whether `If-None-Match` names the tag, by weak comparison. A header that is not a list of
    tags names no tag."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(f'"{opaque}"' == etag for _, opaque in _tags(if_none_match) or [])


def _tags(header: str) -> list[tuple[bool, str]] | None:
    """Each tag as (is weak, opaque part); None if the header is not a list of tags."""
    text = header.strip(" \t,")
    tags: list[tuple[bool, str]] = []
    start = 0
    if len(text) > _MAX_LENGTH:
        return None
    while start < len(text):
        match = _TAG.match(text, start)
        if match is None:
            return None
        tags.append((match["weak"] is not None, match["opaque"]))
        rest = text[match.end() :]
        following = rest.lstrip(" \t,")
        if following and "," not in rest[: len(rest) - len(following)]:
            return None
        start = len(text) - len(following)
    return tags or None
