"""The open documents: those that adapted modules of vcon-server read and write as `vcon:<uuid>`.

A document is open while a module runs on it. The thread that runs the module finds its own open
document. If the module starts further threads, they find the document that was opened last with
the uuid.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from conserver.errors import Rejected

if TYPE_CHECKING:
    from conserver.links import LinkContext

_LISTS = ("parties", "dialog", "analysis", "attachments")


class OpenDocument:
    """One open document. Reads return copies; a write replaces the whole document.

    Attributes:
        context: the link's context, for effects (push, expire); None for a storage.
        changed: whether the module has changed the document.
    """

    def __init__(self, document: Mapping[str, Any], context: LinkContext | None) -> None:
        try:
            self._text = orjson.dumps(document)
        except TypeError as error:
            raise Rejected(f"the vCon cannot be written as JSON: {error}") from None
        self._absent = [name for name in _LISTS if name not in document]
        self.context = context
        self.changed = False

    @property
    def content(self) -> dict[str, Any]:
        """A copy of the document as it is now."""
        document: dict[str, Any] = orjson.loads(self._text)
        return document

    def replace(self, document: Mapping[str, Any]) -> None:
        """Replace the content by the module's.

        vcon-server's modules expect all four lists to exist. Lists that were added for the module
        and are still empty are removed again.
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
        context: the link's context, for effects; None for a storage.

    Raises:
        Rejected: the document is nested too deeply to be written.
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
    """The open document of `uuid`: this thread's, else the latest opened; None if none is open."""
    own: OpenDocument | None = getattr(_of_thread, "opened", {}).get(uuid)
    if own is not None:
        return own
    with _lock:
        opened = _of_process.get(uuid)
        return opened[-1] if opened else None
