"""The module names that vcon-server's links and storages import, and what they get here.

A finder at the end of the import system's list: a module of that name that is really installed goes
first. It is installed when a plugin's import fails for one of these names, and not before.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import logging
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def _nothing(*_arguments: Any, **_options: Any) -> None:
    """Metrics and error tracking of vcon-server: accepted, and counted by Conserver itself."""


def _vcon() -> dict[str, Any]:
    from conserver.plugins.compat.old_vcon import Vcon

    return {"Vcon": Vcon}


def _redis() -> dict[str, Any]:
    from conserver.plugins.compat import old_redis

    names = ("redis", "get_client", "get_key", "set_key", "delete_key", "show_keys", "json_get",
             "json_set")  # fmt: skip
    return {name: getattr(old_redis, name) for name in names}


def _vcon_redis() -> dict[str, Any]:
    from conserver.plugins.compat.old_redis import VconRedis

    return {"VconRedis": VconRedis}


def _settings() -> dict[str, Any]:
    """Every variable by its name, empty where it is not set; two have defaults."""

    return {
        "REDIS_URL": os.environ.get("REDIS_URL") or "redis://localhost:6379",
        "VCON_REDIS_EXPIRY": int(os.environ.get("VCON_REDIS_EXPIRY") or 3600),
        "__getattr__": _any_name(lambda name: os.environ.get(name, "")),
    }


def _metrics() -> dict[str, Any]:
    return {"__getattr__": _any_name(lambda _name: _nothing)}


def _any_name(value: Callable[[str], Any]) -> Callable[[str], Any]:
    """A module's __getattr__ that knows every name but those by which Python itself asks what a
    module is: whoever looks through sys.modules for files must not be given a function.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - it becomes one
        if name.startswith("__"):
            raise AttributeError(name)
        return value(name)

    return __getattr__


_CONTENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "vcon": _vcon,
    "redis_mgr": _redis,
    "settings": _settings,
    "lib": lambda: {"__path__": []},
    "lib.vcon_redis": _vcon_redis,
    "lib.logging_utils": lambda: {"init_logger": logging.getLogger},
    "lib.error_tracking": lambda: {"init_error_tracker": _nothing},
    "lib.metrics": _metrics,
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Ours, if it is one of the names."""
        if fullname not in _CONTENTS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname == "lib")

    def exec_module(self, module: ModuleType) -> None:
        """Fills the module."""
        vars(module).update(_CONTENTS[module.__name__]())


def install() -> bool:
    """Makes the names importable; False if they were already."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return False
    sys.meta_path.append(_Finder())
    return True
