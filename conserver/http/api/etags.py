"""ETags and the conditions on them (RFC 9110, section 13)."""

from __future__ import annotations

import hashlib

from conserver.http.api.problems import ProblemError


def of(raw: bytes) -> str:
    """The ETag of a document: a hash of its bytes, the same from Redis and from a storage."""
    return f'"{hashlib.sha256(raw).hexdigest()[:32]}"'


def matches(header: str | None, tag: str | None, *, weak: bool = True) -> bool:
    """Whether a header If-Match or If-None-Match names the ETag.

    Args:
        tag: None if the document does not exist.
        weak: whether W/"x" counts as "x"; for If-None-Match it does.
    """
    if header is None or tag is None:
        return False
    named = [part.strip() for part in header.split(",")]
    if weak:
        named = [part.removeprefix("W/") for part in named]
    return "*" in named or tag in named


def check(if_match: str | None, if_none_match: str | None, tag: str | None) -> None:
    """Check the conditions of a request that changes a document. Raises ProblemError: 412."""
    if if_match is not None and not matches(if_match, tag, weak=False):
        raise ProblemError(412, "the document is not the one that If-Match names", "changed")
    if matches(if_none_match, tag):
        raise ProblemError(412, "the document is one that If-None-Match excludes", "exists")
