"""Entity tags: `"<revision>-<hash>"` of one thing, `"<hash>"` of a list; and conditions on them."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel

from app.errors import InvalidInputError, PreconditionError

_HASH_DIGITS = 16
_MAX_LENGTH = 4_000
# RFC 9110, 8.8.3: quoted, without spaces, controls or quotes inside; W/ makes it a weak one.
_TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"')
_REVISION = re.compile(r"([1-9][0-9]{0,17})-[0-9a-f]+", re.ASCII)


def etag_of(body: bytes, revision: int | None = None) -> str:
    """The strong tag of an answer; with a revision, the tag of one thing."""
    digest = hashlib.sha256(body).hexdigest()[:_HASH_DIGITS]
    return f'"{digest}"' if revision is None else f'"{revision}-{digest}"'


@dataclass(frozen=True, slots=True)
class View:
    """What an answer shows: JSON, and its entity tag."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, shown: BaseModel, revision: int | None = None) -> Self:
        """`shown` as JSON; `revision` where it is one thing, that of the job it belongs to."""
        body = shown.model_dump_json().encode()
        return cls(body, etag_of(body, revision))


@dataclass(frozen=True, slots=True)
class Revisions:
    """Which revisions a write accepts: what `If-Match` names. None means any."""

    accepted: frozenset[int] | None = None

    def check(self, revision: int) -> None:
        """Raise PreconditionError unless the present revision is accepted."""
        if self.accepted is not None and revision not in self.accepted:
            raise PreconditionError(
                f"If-Match does not name the present revision, which is {revision}; "
                "read again, and decide again."
            )


ANY_REVISION = Revisions()


def read_if_match(header: str | None) -> Revisions:
    """The revisions that `If-Match` names; without the header, and with `*`, any.

    Only the revision of a tag counts, not its hash. A weak tag and a tag that is not of ours
    match nothing (RFC 9110, 13.1.1). Raises InvalidInputError for what is no list of tags.
    """
    if header is None or header.strip() == "*":
        return ANY_REVISION
    tags = _tags(header)
    if tags is None:
        raise InvalidInputError.at(
            "/header/If-Match", 'send the ETag of an earlier answer with its quotes, or "*" bare'
        )
    found = (_REVISION.fullmatch(opaque) for weak, opaque in tags if not weak)
    return Revisions(frozenset(int(match[1]) for match in found if match))


def is_unchanged(etag: str, if_none_match: str | None) -> bool:
    """Whether `If-None-Match` names the tag, by weak comparison; what is no list names none."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return any(f'"{opaque}"' == etag for _, opaque in _tags(if_none_match) or [])


def _tags(header: str) -> list[tuple[bool, str]] | None:
    """(weak, opaque part) of each tag; None if the header is no list of tags."""
    text = header.strip(" \t,")
    tags: list[tuple[bool, str]] = []
    place = 0
    if len(text) > _MAX_LENGTH:
        return None
    while place < len(text):
        match = _TAG.match(text, place)
        if match is None:
            return None
        tags.append((match["weak"] is not None, match["opaque"]))
        rest = text[match.end() :]
        following = rest.lstrip(" \t,")
        if following and "," not in rest[: len(rest) - len(following)]:
            return None
        place = len(text) - len(following)
    return tags or None
