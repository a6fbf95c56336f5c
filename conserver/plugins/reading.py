"""Reads a configuration together with the links and storages that it names.

`conserver check`, the start and a reload all use it, and so report the same faults, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conserver.config import model
from conserver.config.file import located
from conserver.config.model import Config
from conserver.errors import ConfigError, Problem
from conserver.plugins import loader, queries
from conserver.plugins.loader import Plugins


def read(config_file: str, environ: Mapping[str, str]) -> Config:
    """Reads the configuration, and registers its secrets so that no output shows them.

    Raises:
        ConfigError: with every fault of the file. It also has the faults of those links and
            storages that can be loaded in spite of the faults of the file.
    """
    try:
        config = model.load(config_file, environ)
    except ConfigError as error:
        problems = [*error.problems, *_plugin_problems(config_file, environ)]
        raise ConfigError(problems, config_file) from None
    model.hide_secrets_of(config)  # Before the code of a plugin can log them.
    return config


def load_plugins(config: Config, config_file: str, *, prepare: bool) -> Plugins:
    """Loads the links and storages that enabled chains use.

    Args:
        prepare: also call their `prepare`, which imports large packages.

    Raises:
        ConfigError: with every problem of the plugins, and its line in the file.
    """
    unasked = list(queries.problems(config))
    try:
        loaded = loader.load(config)
        if prepare:
            loaded.prepare()
    except ConfigError as error:
        every = dict.fromkeys([*error.problems, *unasked])
        problems = located(list(every), config_file)
        raise ConfigError(problems, config_file) from error.__cause__
    if unasked:
        raise ConfigError(located(unasked, config_file), config_file)
    return loaded


def _plugin_problems(config_file: str, environ: Mapping[str, str]) -> Sequence[Problem]:
    try:
        part = model.usable_part(config_file, environ)
    except ConfigError:
        return ()  # No part of the file is usable; `load` has reported why.
    model.hide_secrets_of(part)
    try:
        load_plugins(part, config_file, prepare=True)
    except ConfigError as error:
        return error.problems
    return ()
