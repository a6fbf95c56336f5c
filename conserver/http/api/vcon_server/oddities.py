"""Finds what vcon-server would have refused in a document. Conserver accepts the document, and
names the findings in headers of its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from conserver.operations.index import created_s
from conserver.vcon.document import Vcon, numbered

MOST = 20
"""The most findings for one document."""

_TEL = re.compile(r"[+\d(][\d\s\-().+xX#*]{4,}")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
_ALG = re.compile(r"SHA-(256|384|512)|(HS|RS|ES|PS)(256|384|512)")
_NO_TIME = -1e18


def oddities(document: Vcon) -> list[str]:
    """Findings such as "parties[0].tel: is no telephone number", at most MOST. A signed or
    encrypted document has none, because its content is not looked at.
    """
    if document.form != "unsigned":
        return []
    found = [*_head(document.view), *_parties(document), *_dialogs(document)]
    return found[:MOST]


def _head(view: dict[str, Any]) -> Iterator[str]:
    if not isinstance(view.get("vcon"), str):
        yield "vcon: is missing"
    if created_s(view.get("created_at"), _NO_TIME) == _NO_TIME:
        yield "created_at: is missing, or no moment"


def _parties(document: Vcon) -> Iterator[str]:
    for number, party in numbered(document.parties):
        tel = party.get("tel")
        if tel and not (isinstance(tel, str) and _TEL.fullmatch(tel)):
            yield f"parties[{number}].tel: is no telephone number"


def _dialogs(document: Vcon) -> Iterator[str]:
    for number, dialog in numbered(document.dialogs):
        for member, wrong in _wrong_members(dialog, len(document.parties)):
            yield f"dialog[{number}].{member}: {wrong}"


def _wrong_members(dialog: dict[str, Any], parties: int) -> Iterator[tuple[str, str]]:
    duration, url = dialog.get("duration"), dialog.get("url")
    if isinstance(duration, int | float) and duration < 0:
        yield "duration", "is negative"
    if url and not (isinstance(url, str) and "://" in url):
        yield "url", "has no scheme://"
    for name in ("mimetype", "mediatype"):
        kind = dialog.get(name)
        if kind and not (isinstance(kind, str) and _MEDIA_TYPE.fullmatch(kind)):
            yield name, "is no type/subtype without parameters"
    alg = dialog.get("alg")
    if alg and not (isinstance(alg, str) and _ALG.fullmatch(alg)):
        yield "alg", "is no known algorithm"
    named = dialog.get("parties")
    if named is not None and not isinstance(named, list):
        yield "parties", "is no list"
    elif any(not isinstance(one, int) or not 0 <= one < parties for one in named or ()):
        yield "parties", "names a party that there is not"
