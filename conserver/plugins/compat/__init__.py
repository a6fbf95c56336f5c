"""Runs links and storages that were written for vcon-server, unchanged.

    run(vcon_uuid, link_name, opts) -> the uuid to continue; anything false to stop the chain
    save(vcon_uuid, opts); get(vcon_uuid, opts) -> dict; delete(vcon_uuid, opts)

Such modules read and write vCons in Redis. Conserver keeps an item's document in memory while links
run, and writes it after the links, fenced by the claim's epoch. So a module's read or write of
`vcon:<uuid>` must reach the document in memory (open_documents.py). The stand-ins that the module
imports (old_names.py) do this. All other Redis commands go to Redis. A push of the vCon's own uuid
and an expiry become effects of the item, which are applied when the item is settled.

plugins/loader.py decides which modules are adapted, and imports this package only for them.

Differences from vcon-server: options are merged over `default_options`. A link cannot continue with
another vCon. A storage that raises is called again until the chain's `give_up_s`. Adapted storages
keep no revisions, so the older of two simultaneous writes may win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import orjson

from conserver.config.model import LinkConfig, StorageConfig
from conserver.errors import Rejected
from conserver.plugins.compat.old_names import install
from conserver.plugins.compat.open_documents import open_document
from conserver.vcon.document import Vcon
from storage import contract
from storage.contract import Document, Outcome, Stored, Unavailable

if TYPE_CHECKING:
    from conserver.links import LinkContext

__all__ = ["OldStorage", "install", "link_runner", "options_of"]


def options_of(module: ModuleType, config: LinkConfig | StorageConfig) -> dict[str, Any]:
    """The options of the configuration, merged over the module's `default_options`."""
    defaults = getattr(module, "default_options", None)
    return {**(defaults if isinstance(defaults, Mapping) else {}), **config.options}


def link_runner(name: str, module: ModuleType) -> Callable[[Vcon, Any, LinkContext], Vcon | None]:
    """A `run(vcon, options, context)` that calls the module's `run`."""
    old_run: Callable[[str, str, dict[str, Any]], Any] = module.run

    def run(vcon: Vcon, options: dict[str, Any], context: LinkContext) -> Vcon | None:
        with open_document(vcon.uuid, vcon.view, context) as opened:
            answer = old_run(vcon.uuid, name, dict(options))
        if opened.changed:
            data = vcon.data
            data.clear()
            data.update(opened.content)
        if not answer:
            return None
        if answer is not True and str(answer) != vcon.uuid:
            raise Rejected(f"`{module.__name__}` wants to go on with another vCon, {answer}")
        return vcon

    return run


class OldStorage:
    """A storage (storage/contract.py) that calls a module's `save`, `get` and `delete`."""

    def __init__(self, name: str, module: ModuleType, options: dict[str, Any]) -> None:
        self.name = name
        self._module = module
        self._options = options

    def open(self) -> None:
        """Does nothing: such modules connect anew for each document."""

    def close(self) -> None:
        """Does nothing: such modules keep nothing open."""

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Call `save` for each document; an exception concerns its document only."""
        return [self._save(document) for document in documents]

    def get(self, uuid: str) -> bytes | None:
        """The document that the module's `get` returns; None without one, or without a `get`."""
        get = getattr(self._module, "get", None)
        found = get(uuid, dict(self._options)) if get is not None else None
        return orjson.dumps(found) if found else None

    def delete(self, uuid: str) -> bool:
        """Call the module's `delete`; False without one."""
        delete = getattr(self._module, "delete", None)
        return bool(delete(uuid, dict(self._options))) if delete is not None else False

    def ready(self) -> None:
        """Does nothing: such modules offer no check."""

    def _save(self, document: Document) -> Outcome:
        try:
            with open_document(document.uuid, document.data, None):
                self._module.save(document.uuid, dict(self._options))
        except Rejected as refused:
            return contract.Rejected(refused.reason)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the document waits.
            return Unavailable(f"{type(error).__name__}: {error}")
        return Stored()
