"""Finds schedules whose `find` cannot be asked: the storage has no language for queries, or the
query is none of it. Nothing is connected for that.
"""

from __future__ import annotations

from collections.abc import Iterator

from conserver.config.model import Config
from conserver.config.validation import join_path
from conserver.errors import ConfigError, Problem
from conserver.plugins import loader
from storage.contract import Findable


def problems(config: Config) -> Iterator[Problem]:
    """One for each enabled schedule whose `find` fails whatever is stored."""
    for name, schedule in config.enabled_schedules.items():
        find = schedule.find
        if find is None:
            continue
        try:
            storage = loader.load_storage(find.storage, config.storages[find.storage]).make()
        except ConfigError as error:
            # Also told as a fault of the storage, where a chain has it.
            yield from error.problems
            continue
        if not isinstance(storage, Findable):
            module = config.storages[find.storage].module
            what = f"`{find.storage}` ({module}) has no language for queries"
            hint = "postgres, sqlite and elasticsearch have one"
            yield Problem(join_path("schedules", [name, "find", "storage"]), what, hint)
            continue
        try:
            getattr(storage, "check_query", _any)(find.query)
        except ValueError as error:
            yield Problem(join_path("schedules", [name, "find", "query"]), str(error))


def _any(_query: object) -> None:
    """Of a storage that can tell only when it is asked."""
