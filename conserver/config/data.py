"""Checks of a configuration file's plain data, before the pydantic models validate it.

1. Removes entries that vcon-server has and Conserver does not use, with a warning for each.
2. Checks names that must be defined elsewhere in the file, or used only once.
3. Reads entries from data that may have the wrong type anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from conserver.config.validation import join_path, suggest
from conserver.errors import Problem

# Entries of vcon-server's files that Conserver does not use -> what to do instead.
_IGNORED_SECTIONS = {
    "tracers": "there are no tracers; a link can do their work",
    "imports": "nothing is imported or installed at run time; install what links need beforehand",
    "followers": "Conserver does not poll other servers; let them push to its lists",
}
_IGNORED_IN_CHAIN = {"tracers": "there are no tracers; a link can do their work"}
_IGNORED_IN_PLUGIN = {
    "pip_name": "nothing is installed at run time; install the package beforehand",
    "ingress-lists": "lists belong to chains",
    "egress-lists": "lists belong to chains",
}


def drop_ignored(data: dict[str, Any]) -> Iterator[Problem]:
    """Remove from `data` the entries that only vcon-server uses; yields a warning for each."""
    for key in _IGNORED_SECTIONS.keys() & data.keys():
        del data[key]
        yield Problem(key, "is not used", _IGNORED_SECTIONS[key])
    for section, ignored in (
        ("links", _IGNORED_IN_PLUGIN),
        ("storages", _IGNORED_IN_PLUGIN),
        ("chains", _IGNORED_IN_CHAIN),
    ):
        for name, entry in entries(data, section):
            for key in sorted(ignored.keys() & entry.keys()):
                del entry[key]
                yield Problem(join_path(section, [name, key]), "is not used", ignored[key])


def entries(data: Mapping[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, entry) of a section's entries that are mappings. The models report other entries."""
    found = data.get(section)
    if not isinstance(found, dict):
        return []
    return [(str(name), entry) for name, entry in found.items() if isinstance(entry, dict)]


def check_references(data: Mapping[str, Any]) -> list[Problem]:
    """Problems with names: undefined, used twice, or a list that two chains serve."""
    problems: list[Problem] = []
    served: dict[str, str] = {}
    for chain_name, chain in entries(data, "chains"):
        for key in ("links", "storages"):
            section = data.get(key)
            known = [str(name) for name in section] if isinstance(section, dict) else []
            for i, name in texts(chain, key):
                if name not in known:
                    path = join_path("chains", [chain_name, key, i])
                    problems.append(
                        Problem(path, f"`{name}` is not defined under {key}", suggest(name, known))
                    )
        for key in ("storages", "ingress_lists", "egress_lists"):
            counts = Counter(name for _, name in texts(chain, key))
            problems += [
                Problem(join_path("chains", [chain_name, key]), f"names `{name}` {count} times")
                for name, count in counts.items()
                if count > 1
            ]
        if chain.get("enabled", True) in (False, 0, "0", "false", "no", "off"):
            continue
        for i, name in texts(chain, "ingress_lists"):
            other = served.setdefault(name, chain_name)
            if other != chain_name:
                path = join_path("chains", [chain_name, "ingress_lists", i])
                problems.append(
                    Problem(
                        path,
                        f"`{name}` is already served by chain `{other}`",
                        "one list, one chain",
                    )
                )
    return [*problems, *_check_models(data), *_check_finds(data)]


def _check_models(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems with `models`: each must name a chain that has an ingress list."""
    chains = dict(entries(data, "chains"))
    models = data.get("models")
    for model, name in models.items() if isinstance(models, dict) else ():
        path = join_path("models", [str(model)])
        if not isinstance(name, str):
            continue
        if name not in chains:
            yield Problem(path, f"`{name}` is not defined under chains", suggest(name, chains))
        elif not chains[name].get("ingress_lists"):
            yield Problem(path, f"the chain `{name}` has no ingress_lists", "it can get no work")


def _check_finds(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems with the storages that the `find` of schedules names."""
    known = [name for name, _ in entries(data, "storages")]
    for name, schedule in entries(data, "schedules"):
        find = schedule.get("find")
        storage = find.get("storage") if isinstance(find, dict) else None
        if isinstance(storage, str) and storage not in known:
            path = join_path("schedules", [name, "find", "storage"])
            hint = suggest(storage, known)
            yield Problem(path, f"`{storage}` is not defined under storages", hint)


def texts(chain: Mapping[str, Any], key: str) -> list[tuple[int, str]]:
    """(index, text) of the texts in a list of an entry. The models report all other values."""
    items = chain.get(key)
    if not isinstance(items, list):
        return []
    return [(i, item) for i, item in enumerate(items) if isinstance(item, str)]
