"""The names of modules in a configuration: which module each stands for, and which of our links and
storages a mistyped one may mean.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from conserver.config.validation import suggest

# Names that vcon-server uses for modules that have another name here.
_OLD_NAMES = {"links.jq_link": "links.jq", "storage.redis_storage": "storage.redis"}

# What a module of ours has that is a link or a storage.
_MARKS = {"links": "\ndef run(", "storage": "\nclass Storage:"}


def resolve(name: str) -> str:
    """The full name of the module that a name in the configuration stands for."""
    name = _OLD_NAMES.get(name, name)
    return f"conserver.{name}" if name.startswith("links.") else name


def suggestion(name: str) -> str:
    """Which of our links and storages a name that is none of them may mean; "" for none."""
    package = name.rpartition(".")[0]
    if package in _MARKS:
        return suggest(name, _ours(package))
    known = [*_ours("links"), *_ours("storage")]
    alone = [found for found in known if found.rpartition(".")[2] == name.rpartition(".")[2]]
    # `link.tag` and `storages.file` are near; of a stranger's name, a list of ours says nothing.
    near = suggest(name, alone or known) if package or not alone else f"did you mean `{alone[0]}`?"
    return near if near.startswith("did you mean") else ""


def _ours(package_name: str) -> list[str]:
    """The names of all our links or all our storages."""
    package = importlib.import_module(resolve(f"{package_name}.")[:-1])
    files = [Path(found) for folder in package.__path__ for found in Path(folder).glob("*.py")]
    mark = _MARKS[package_name]
    return [f"{package_name}.{f.stem}" for f in files if mark in f.read_text(encoding="utf-8")]
