"""Searches vCons by their words, in a storage with a full-text index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conserver.errors import InvalidArgumentError, OperationError
from conserver.operations.documents import StorageReader
from storage.contract import Hit

LIMIT_MAX = 100


@dataclass(frozen=True, slots=True)
class Found:
    """One page of search results, the newest first.

    Attributes:
        storage: the storage that has answered.
        cursor: of the next page in the same storage; "" if this is the last page.
        silent: storage that was asked before and did not answer -> its error.
    """

    storage: str
    hits: Sequence[Hit] = ()
    cursor: str = ""
    silent: Mapping[str, str] = field(default_factory=dict)


def storages(reader: StorageReader) -> list[str]:
    """The storages that can search, in the order of the configuration."""
    return [name for name in reader.names if reader.searches(name)]


def search(
    reader: StorageReader, text: str, *, storage: str = "", limit: int = 20, cursor: str = ""
) -> Found:
    """Find the vCons that contain every word and "quoted phrase" of a text.

    Args:
        storage: the storage to ask; "" for the first storage that can search and answers.
        cursor: of the previous page, which must come from the same storage; "" for the first page.

    Raises:
        InvalidArgumentError: the storage cannot search, or the cursor is not a cursor of this
            storage.
        OperationError: "not_found" if no storage can search, "unavailable" if none answers.
    """
    able = storages(reader)
    if storage and storage not in able:
        known = ", ".join(able) or "none"
        raise InvalidArgumentError("storage", f"`{storage}` cannot search; these can: {known}")
    if not able:
        what = "no storage of this configuration can search (docs/storages/README.md has those)"
        raise OperationError(what, "not_found")
    silent: dict[str, str] = {}
    for name in [storage] if storage else able:
        try:
            found = reader.search(name, text, limit, cursor)
        except ValueError as error:
            raise InvalidArgumentError("cursor", str(error)) from None
        except Exception as error:  # noqa: BLE001 - a client of any library may raise anything.
            silent[name] = reader.said(name, error)
            continue
        return Found(name, found.hits, found.cursor, silent)
    reasons = "; ".join(f"{name}: {error}" for name, error in silent.items())
    raise OperationError(f"the search got no answer: {reasons}", "unavailable")
