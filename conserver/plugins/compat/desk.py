"""Documents lent to old modules: what they see as `vcon:<uuid>` while they work on an item.

A document is lent to the thread that runs the module. A module that starts threads of its own is
served as well: they find what was lent last under that uuid.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from conserver.links import LinkContext

_LISTS = ("parties", "dialog", "analysis", "attachments")


class Lent:
    """One document on the desk. Reading gives copies, writing replaces it whole."""

    def __init__(self, document: Mapping[str, Any], context: LinkContext | None) -> None:
        self._text = orjson.dumps(document)
        self._absent = [name for name in _LISTS if name not in document]
        self.context = context
        self.changed = False

    @property
    def document(self) -> dict[str, Any]:
        """A copy of the document as it is now."""
        document: dict[str, Any] = orjson.loads(self._text)
        return document

    def replace(self, document: Mapping[str, Any]) -> None:
        """Takes what the module has made of it.

        Old modules want every list to be there; those that we made up for them and that are still
        empty are left out again.
        """
        made_up = {name for name in self._absent if not document.get(name)}
        kept = {name: value for name, value in document.items() if name not in made_up}
        text = orjson.dumps(kept, option=orjson.OPT_NON_STR_KEYS)
        self.changed = self.changed or text != self._text
        self._text = text


_mine = threading.local()
_shared: dict[str, list[Lent]] = {}
_lock = threading.Lock()


@contextmanager
def lend(uuid: str, document: Mapping[str, Any], context: LinkContext | None) -> Iterator[Lent]:
    """Lends a document for as long as a module runs.

    Args:
        context: the link's, for effects; None for a storage, which has none.
    """
    lent = Lent(document, context)
    before = getattr(_mine, "lent", {})
    _mine.lent = {**before, uuid: lent}
    with _lock:
        _shared.setdefault(uuid, []).append(lent)
    try:
        yield lent
    finally:
        _mine.lent = before
        with _lock:
            _shared[uuid].remove(lent)
            if not _shared[uuid]:
                del _shared[uuid]


def find(uuid: str) -> Lent | None:
    """The document lent under `uuid`: to this thread, else to the one that was served last."""
    mine: Lent | None = getattr(_mine, "lent", {}).get(uuid)
    if mine is not None:
        return mine
    with _lock:
        lent = _shared.get(uuid)
        return lent[-1] if lent else None
