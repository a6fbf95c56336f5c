"""Reads a configuration together with the links and storages that it names.

All faults are reported at once, whoever reads it: `conserver check`, the start, a reload.
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
    """The configuration; its secrets are registered to be hidden.

    Raises:
        ConfigError: with every fault of the file, and those of its links and storages that can be
            found although the file is wrong.
    """
    try:
        config = model.load(config_file, environ)
    except ConfigError as error:
        problems = [*error.problems, *_plugin_problems(config_file, environ)]
        raise ConfigError(problems, config_file) from None
    model.hide_secrets_of(config)  # Before any of its modules can log them.
    return config


def load_plugins(config: Config, config_file: str, *, prepare: bool) -> Plugins:
    """The links and storages that are used.

    Args:
        prepare: import what is heavy in them, too.

    Raises:
        ConfigError: with everything that is wrong with them, and its lines.
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
        return ()  # There is nothing to look at; `load` has said so.
    model.hide_secrets_of(part)
    try:
        load_plugins(part, config_file, prepare=True)
    except ConfigError as error:
        return error.problems
    return ()
