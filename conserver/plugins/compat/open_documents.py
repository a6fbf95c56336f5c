"""The documents that vcon-server modules are working on: what they see as `vcon:<uuid>`.

A document is open while a module runs. It is looked up by the thread that runs the module first. A
module that starts threads of its own is served as well: they find the document that was opened last
under that uuid.
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


class OpenDocument:
    """One open document. Reads return copies; a write replaces the whole document.

    Attributes:
        context: the link's context, for effects (push, expire); None for a storage.
        changed: whether the module wrote other content than it was given.
    """

    def __init__(self, document: Mapping[str, Any], context: LinkContext | None) -> None:
        self._text = orjson.dumps(document)
        self._absent = [name for name in _LISTS if name not in document]
        self.context = context
        self.changed = False

    @property
    def content(self) -> dict[str, Any]:
        """A copy of the document as it is now."""
        document: dict[str, Any] = orjson.loads(self._text)
        return document

    def replace(self, document: Mapping[str, Any]) -> None:
        """Store what the module has written.

        vcon-server's modules expect all four lists to exist. Lists that were added for them and
        are still empty are removed again.
        """
        added = {name for name in self._absent if not document.get(name)}
        kept = {name: value for name, value in document.items() if name not in added}
        text = orjson.dumps(kept, option=orjson.OPT_NON_STR_KEYS)
        self.changed = self.changed or text != self._text
        self._text = text


_of_thread = threading.local()
_of_process: dict[str, list[OpenDocument]] = {}
_lock = threading.Lock()


@contextmanager
def open_document(
    uuid: str, document: Mapping[str, Any], context: LinkContext | None
) -> Iterator[OpenDocument]:
    """Make a document visible to a module while the module runs.

    Args:
        context: the link's, for effects; None for a storage, which has none.
    """
    opened = OpenDocument(document, context)
    before = getattr(_of_thread, "opened", {})
    _of_thread.opened = {**before, uuid: opened}
    with _lock:
        _of_process.setdefault(uuid, []).append(opened)
    try:
        yield opened
    finally:
        _of_thread.opened = before
        with _lock:
            _of_process[uuid].remove(opened)
            if not _of_process[uuid]:
                del _of_process[uuid]


def find(uuid: str) -> OpenDocument | None:
    """The open document of `uuid`: this thread's, else the one that was opened last, else None."""
    own: OpenDocument | None = getattr(_of_thread, "opened", {}).get(uuid)
    if own is not None:
        return own
    with _lock:
        opened = _of_process.get(uuid)
        return opened[-1] if opened else None
