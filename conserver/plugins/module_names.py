"""Resolves the module names of a configuration, and suggests a name for a mistyped one."""

from __future__ import annotations

import importlib
from pathlib import Path

from conserver.config.validation import suggest

# vcon-server's name of a module -> Conserver's name.
_OLD_NAMES = {"links.jq_link": "links.jq", "storage.redis_storage": "storage.redis"}

# Text that only modules of links, or of storages, contain.
_MARKS = {"links": "\ndef run(", "storage": "\nclass Storage:"}

# The link of the built-in chain (config/notifications.py). It is of no use in a configuration.
_BUILT_IN = "links.notify"


def resolve(name: str) -> str:
    """The full name of the module that a name in the configuration stands for."""
    name = _OLD_NAMES.get(name, name)
    return f"conserver.{name}" if name.startswith("links.") else name


def suggestion(name: str) -> str:
    """A hint for an unknown module name: the built-in link or storage that it may mean; else ""."""
    package = name.rpartition(".")[0]
    if package in _MARKS:
        return suggest(name, _ours(package))
    known = [*_ours("links"), *_ours("storage")]
    alone = [found for found in known if found.rpartition(".")[2] == name.rpartition(".")[2]]
    # Suggest for near names such as `link.tag`. For a foreign name, a list of all is no help.
    near = suggest(name, alone or known) if package or not alone else f"did you mean `{alone[0]}`?"
    return near if near.startswith("did you mean") else ""


def _ours(package_name: str) -> list[str]:
    """The names of all links or storages of Conserver that a configuration can use."""
    package = importlib.import_module(resolve(f"{package_name}.")[:-1])
    files = [Path(found) for folder in package.__path__ for found in Path(folder).glob("*.py")]
    mark = _MARKS[package_name]
    found = [f"{package_name}.{f.stem}" for f in files if mark in f.read_text(encoding="utf-8")]
    return [name for name in found if name != _BUILT_IN]
