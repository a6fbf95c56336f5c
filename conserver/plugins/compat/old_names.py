"""Stand-ins for the modules of vcon-server that its links and storages import.

A finder at the end of `sys.meta_path` provides them, so that an installed module of the same name
takes precedence. The finder is installed only when the import of a plugin fails for one of these
names.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import logging
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def _nothing(*_arguments: Any, **_options: Any) -> None:
    """Stands for vcon-server's metrics and error tracking: accepts any call and does nothing."""


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


def _from_lib(*names: str) -> Callable[[], dict[str, Any]]:
    """The contents of a module whose names are in old_lib."""

    def contents() -> dict[str, Any]:
        from conserver.plugins.compat import old_lib

        return {name: getattr(old_lib, name) for name in names}

    return contents


def _openai_client() -> dict[str, Any]:
    """The contents of lib.openai_client. Raises ModuleNotFoundError without the package openai."""
    importlib.import_module("openai")
    names = ("get_openai_client", "get_async_openai_client", "get_vendor_from_opts")
    return _from_lib(*names)()


def _settings() -> dict[str, Any]:
    """The environment variables by their names; "" where one is not set. Two have defaults."""

    return {
        "REDIS_URL": os.environ.get("REDIS_URL") or "redis://localhost:6379",
        "VCON_REDIS_EXPIRY": int(os.environ.get("VCON_REDIS_EXPIRY") or 3600),
        "__getattr__": _any_name(lambda name: os.environ.get(name, "")),
    }


def _metrics() -> dict[str, Any]:
    return {"__getattr__": _any_name(lambda _name: _nothing)}


def _any_name(value: Callable[[str], Any]) -> Callable[[str], Any]:
    """A module's __getattr__ that answers every name except dunder names.

    Python and its tools read dunder names such as `__file__` of every module in sys.modules, and
    must not get a stand-in for them.
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
    "lib.links": lambda: {"__path__": []},
    "lib.links.filters": _from_lib("is_included", "randomly_execute_with_sampling"),
    "lib.queue": _from_lib("VconQueue"),
    "lib.dialog_body": _from_lib("decode_inline_dialog_body"),
    "lib.vcon_egress_compat": _from_lib("to_legacy", "to_configured_legacy"),
    "lib.ai_usage": _from_lib("send_ai_usage_data_for_tracking"),
    "lib.openai_client": _openai_client,
    "dlq_utils": _from_lib("get_ingress_list_dlq_name"),
    "lib.logging_utils": lambda: {"init_logger": logging.getLogger},
    "lib.error_tracking": lambda: {"init_error_tracker": _nothing},
    "lib.metrics": _metrics,
}


_PACKAGES = ("lib", "lib.links")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec if `fullname` is one of our names, else None."""
        if fullname not in _CONTENTS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname in _PACKAGES)

    def exec_module(self, module: ModuleType) -> None:
        """Put the stand-ins into the module."""
        vars(module).update(_CONTENTS[module.__name__]())


def install() -> bool:
    """Make the names importable. False if that was done before."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return False
    sys.meta_path.append(_Finder())
    return True
