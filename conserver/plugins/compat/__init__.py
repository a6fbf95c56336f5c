"""Runs links and storages that were written for vcon-server, unchanged.

    run(vcon_uuid, link_name, opts) -> the uuid to go on, nothing to stop here
    save(vcon_uuid, opts); get(vcon_uuid, opts) -> dict; delete(vcon_uuid, opts)

They read and write vCons in Redis. Here an item's document is in memory while a link runs, and is
written once, fenced, when the links are done. So what such a module reads and writes as
`vcon:<uuid>` is that document in memory (desk.py), by whichever of the names it knows
(old_names.py); all else it does with Redis goes to Redis. Pushes of its own uuid and expiries
become effects of the item, applied when it is settled.

plugins.py decides who is adapted; nobody else knows of this package, and it is not imported unless
there is somebody.

What differs from vcon-server: options merge over `default_options`; a link cannot hand over to
another vCon; a storage that raises is asked again until the chain's `give_up_s`, and keeps no
revisions, so that of two writes close together the older may win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import orjson

from conserver.config.model import LinkConfig, StorageConfig
from conserver.errors import Rejected
from conserver.plugins.compat.desk import lend
from conserver.plugins.compat.old_names import install
from conserver.vcon.document import Vcon
from storage.contract import Document, Outcome, Stored, Unavailable

if TYPE_CHECKING:
    from conserver.links import LinkContext

__all__ = ["OldStorage", "install", "link_runner", "options_of"]


def options_of(module: ModuleType, config: LinkConfig | StorageConfig) -> dict[str, Any]:
    """What is given, over the module's own `default_options`."""
    defaults = getattr(module, "default_options", None)
    return {**(defaults if isinstance(defaults, Mapping) else {}), **config.options}


def link_runner(name: str, module: ModuleType) -> Callable[[Vcon, Any, LinkContext], Vcon | None]:
    """A `run` as ours are, around the module's."""
    old_run: Callable[[str, str, dict[str, Any]], Any] = module.run

    def run(vcon: Vcon, options: dict[str, Any], context: LinkContext) -> Vcon | None:
        with lend(vcon.uuid, vcon.view, context) as lent:
            answer = old_run(vcon.uuid, name, dict(options))
        if lent.changed:
            data = vcon.data
            data.clear()
            data.update(lent.document)
        if not answer:
            return None
        if answer is not True and str(answer) != vcon.uuid:
            raise Rejected(f"`{module.__name__}` wants to go on with another vCon, {answer}")
        return vcon

    return run


class OldStorage:
    """A storage as ours are, around a module's `save`, `get` and `delete`."""

    def __init__(self, name: str, module: ModuleType, options: dict[str, Any]) -> None:
        self.name = name
        self._module = module
        self._options = options

    def open(self) -> None:
        """Nothing: such modules connect anew for each document."""

    def close(self) -> None:
        """Nothing is kept open."""

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """One call of `save` for each document; one that raises does not harm the others."""
        return [self._save(document) for document in documents]

    def get(self, uuid: str) -> bytes | None:
        """What the module's `get` has."""
        get = getattr(self._module, "get", None)
        found = get(uuid, dict(self._options)) if get is not None else None
        return orjson.dumps(found) if found else None

    def delete(self, uuid: str) -> bool:
        """Whether the module's `delete` says that it did."""
        delete = getattr(self._module, "delete", None)
        return bool(delete(uuid, dict(self._options))) if delete is not None else False

    def ready(self) -> None:
        """Such modules cannot be asked."""

    def _save(self, document: Document) -> Outcome:
        try:
            with lend(document.uuid, document.data, None):
                self._module.save(document.uuid, dict(self._options))
        except Exception as error:  # noqa: BLE001 - whatever it raises, the document waits.
            return Unavailable(f"{type(error).__name__}: {error}")
        return Stored()
