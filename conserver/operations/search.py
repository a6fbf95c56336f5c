"""Searching vCons by what was said in them, where a storage keeps an index of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conserver.errors import InvalidArgumentError, OperationError
from conserver.operations.documents import StorageReader
from storage.contract import Hit

LIMIT_MAX = 100


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what a storage has found, the newest first.

    Attributes:
        storage: the one that has answered; "" where none did.
        cursor: of the next page in the same storage; "" for the last.
        silent: storages that could not be asked before it, each with its error.
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
    """The vCons that hold every word and "quoted phrase" of a text.

    Args:
        storage: the one to ask; "" is the first that can search and answers.
        cursor: of the page before, which must have come from the same storage.

    Raises:
        InvalidArgumentError: such a storage cannot search, or the cursor is none of its.
        OperationError: "not_found" where none can search, "unavailable" where none answers.
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
