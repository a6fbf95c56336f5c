"""Warnings about a valid configuration: entries without effect, and probable mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from conserver.config.schedules import LettersAction
from conserver.config.validation import NEAR, join_path, suggest
from conserver.errors import Problem

if TYPE_CHECKING:
    from conserver.config.model import Config


def of(config: Config) -> list[Problem]:
    """All warnings. None of them prevents a start."""
    return [*_of_effects(config), *_of_keys(config), *_of_schedules(config)]


def serves_nothing(config: Config) -> Problem:
    """The problem to report for a configuration that serves no list."""
    if config.enabled_chains:
        return Problem("chains", "no chain has `ingress_lists`, so no list is served")
    why = "all are disabled" if config.chains else "there is none: is the file empty, or cut short?"
    return Problem("chains", "no chain is enabled, so no list is served", why)


def _of_effects(config: Config) -> list[Problem]:
    """Warnings for a chain that serves no list, and for egress that leads back to the chain."""
    if not config.ingress:
        return [serves_nothing(config)]
    found = [
        Problem(
            join_path("chains", [name, "ingress_lists"]),
            "names no list, so this chain serves nothing",
            "as in vcon-server, this is allowed",
        )
        for name, chain in config.enabled_chains.items()
        if not chain.ingress_lists
    ]
    follows = {
        name: {config.ingress[lst] for lst in chain.egress_lists if lst in config.ingress}
        for name, chain in config.enabled_chains.items()
    }
    for start, ahead in follows.items():
        reached: set[str] = set()
        frontier = set(ahead)
        while frontier:
            name = frontier.pop()
            reached.add(name)
            frontier |= follows[name] - reached
        if start in reached:
            path = join_path("chains", [start, "egress_lists"])
            found.append(
                Problem(path, "leads back to this chain's own lists", "items may go round for ever")
            )
    return found


def _of_keys(config: Config) -> list[Problem]:
    """Warnings for entries of `ingress_auth`: a list that no chain serves, or without a key."""
    found = []
    for name, keys in config.ingress_auth.items():
        path = join_path("ingress_auth", [name])
        if name not in config.ingress:
            hint = suggest(name, config.ingress)
            found.append(Problem(path, "is a list that no chain takes from", hint))
        if not keys:
            found.append(Problem(path, "has no key, so that nobody is let in"))
    return found


def _of_schedules(config: Config) -> Iterator[Problem]:
    """Warnings for schedules that name a list, link or storage which does not exist."""
    for name, schedule in config.enabled_schedules.items():
        action = schedule.requeue or schedule.purge
        if action is not None:
            yield from _of_letters(config, [name, schedule.action], action)
        pushed = schedule.push or schedule.find
        if pushed is not None and pushed.list not in config.ingress:
            # Another program may take from this list, so warn only if its name is nearly right.
            hint = suggest(pushed.list, config.ingress)
            if hint.startswith(NEAR):
                what = f"no chain takes from `{pushed.list}`"
                yield Problem(_at(name, schedule.action, "list"), what, hint)


def _of_letters(config: Config, path: list[str], action: LettersAction) -> Iterator[Problem]:
    for place, name in enumerate(action.lists):
        if name not in config.ingress:
            what = f"no chain takes from `{name}`"
            yield Problem(_at(*path, "lists", place), what, suggest(name, config.ingress))
    known = {*config.links, *config.storages}
    if action.where and action.where not in known:
        what = f"there is no link or storage `{action.where}`"
        yield Problem(_at(*path, "where"), what, suggest(action.where, known))


def _at(*path: str | int) -> str:
    return join_path("schedules", path)
