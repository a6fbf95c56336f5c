"""Finds schedules whose `find` cannot work: the storage has no query language, or cannot run the
query. It connects to no server.
"""

from __future__ import annotations

from collections.abc import Iterator

from conserver.config.model import Config
from conserver.config.validation import join_path
from conserver.errors import ConfigError, Problem
from conserver.plugins import loader
from storage.contract import Findable


def problems(config: Config) -> Iterator[Problem]:
    """A problem for each enabled schedule whose `find` would always fail."""
    for name, schedule in config.enabled_schedules.items():
        find = schedule.find
        if find is None:
            continue
        try:
            storage = loader.load_storage(find.storage, config.storages[find.storage]).make()
        except ConfigError as error:
            # `load` reports the same problems if a chain uses the storage.
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
    """Accepts every query, for a storage without `check_query`."""
