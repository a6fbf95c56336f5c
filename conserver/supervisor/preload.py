"""The configuration at hand, and what is made ready for children before they are born.

Links and storages are checked here, in the supervisor, so that a wrong one is refused before any
child meets it. Under fork everything that all workers import is imported here as well, once, and
shared by all of them.

What is wrong is told all at once, whoever looks: `conserver check`, the start, a reload.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.context import BaseContext

from conserver.config import model as configuration
from conserver.config.file import located
from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import ConfigError, ConserverError, Problem
from conserver.plugins import loader as plugins
from conserver.process.descriptors import open_descriptors
from conserver.telemetry import log

Reload = Callable[[], tuple[Settings, Config]]

REASON_CHARS_MAX = 1500
"""How much of what is wrong goes into one line of the log, which would be cut at a random place."""


def read(config_file: str, environ: Mapping[str, str]) -> Config:
    """The configuration.

    Raises:
        ConfigError: with every fault of the file, and those of its links and storages besides, as
            far as they can be told from what is right of it.
    """
    try:
        config = configuration.load(config_file, environ)
    except ConfigError as error:
        problems = [*error.problems, *_plugin_problems(config_file, environ)]
        raise ConfigError(problems, config_file) from None
    configuration.keep_secrets(config)  # Before any module of it can tell them.
    return config


def _plugin_problems(config_file: str, environ: Mapping[str, str]) -> Sequence[Problem]:
    try:
        part = configuration.usable_part(config_file, environ)
    except ConfigError:
        return ()  # There is nothing to look at, and that has been told.
    configuration.keep_secrets(part)
    try:
        load_plugins(part, config_file, prepare=True)
    except ConfigError as error:
        return error.problems
    return ()


def load_plugins(config: Config, config_file: str, *, prepare: bool) -> plugins.Plugins:
    """The links and storages that are used.

    Args:
        prepare: import what is heavy in them, too.

    Raises:
        ConfigError: with everything that is wrong with them, and its lines.
    """
    try:
        loaded = plugins.load(config)
        if prepare:
            loaded.prepare()
    except ConfigError as error:
        problems = located(error.problems, config_file)
        raise ConfigError(problems, config_file) from error.__cause__
    return loaded


def tell_warnings(warnings: Iterable[Problem]) -> None:
    """Logs what is allowed and probably not meant."""
    logger = log.get_logger()
    for warning in warnings:
        logger.warning("configuration_warning", path=warning.path, warning=str(warning))


class Preload:
    """Settings and configuration of the children that are born now."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        load: Reload,
        context: BaseContext,
        modules: Sequence[str],
    ) -> None:
        """
        Args:
            load: reads settings and configuration again.
            context: the multiprocessing context of the start method.
            modules: what every child imports.

        Raises:
            ConfigError: a link or storage is missing, or its options are wrong.
        """
        self.settings = settings
        self.config = config
        self.generation = 1
        """Rises with every reload."""
        self._load = load
        self._context = context
        self._modules = list(modules)
        self._log = log.get_logger()
        self._prepare(settings, config)
        self.from_before = open_descriptors()
        """Descriptors that are not the household's: libraries may need them in the children too.
        Nothing of the household may be open yet."""

    def reload(self) -> None:
        """Read the configuration again; a bad one is refused, and everything stays as it is."""
        before, began_s = open_descriptors(), time.monotonic()
        accepted = self._accept()
        # Modules stay imported with what they have opened, also where another one is refused. What
        # an error still held is none of that: its number may be the household's next time.
        gc.collect()
        self.from_before |= open_descriptors() - before
        if accepted:
            took_ms = round((time.monotonic() - began_s) * 1000)
            self._log.info("reloaded", generation=self.generation, duration_ms=took_ms)

    def _accept(self) -> bool:
        """Whether what is read now is taken."""
        try:
            settings, config = self._load()
            if not config.ingress:
                raise ConfigError([_nothing_served(config)], settings.config_file)
            self._prepare(settings, config)
        except ConfigError as error:
            faults = len(error.problems)
            self._log.error("reload_refused", faults=faults, reason=_as_reason(error))
            return False
        except ConserverError as error:
            self._log.error("reload_refused", reason=str(error))
            return False
        except Exception:  # noqa: BLE001 - an error of ours must not end what runs well.
            self._log.exception("reload_refused")
            return False
        tell_warnings([*config.warnings, *_no_longer_served(self.config, config)])
        self.settings, self.config = settings, config
        self.generation += 1
        return True

    def _prepare(self, settings: Settings, config: Config) -> None:
        method = self._context.get_start_method()
        load_plugins(config, settings.config_file, prepare=method == "fork")
        if method == "forkserver":
            self._context.set_forkserver_preload(self._modules)
        elif method == "fork":
            for module in self._modules:
                importlib.import_module(module)
            gc.collect()
            gc.freeze()


def _nothing_served(config: Config) -> Problem:
    found = configuration.serves_nothing(config)
    instead = "to take nothing more, `conserver pause`, or stop the daemon"
    return Problem(found.path, found.message, f"{found.hint}; {instead}")


def _no_longer_served(before: Config, after: Config) -> list[Problem]:
    """A file that was cut short may be right in what is left of it."""
    gone = [name for name in before.ingress if name not in after.ingress]
    names = ", ".join(f"`{name}`" for name in gone)
    return [Problem("chains", f"no longer served: {names}")] if gone else []


def _as_reason(error: ConfigError) -> str:
    """All that is wrong, or as much as fits into a line of the log, and how to see the rest."""
    text = str(error)
    if len(text) <= REASON_CHARS_MAX:
        return text
    head, *lines = text.split("\n")
    kept: list[str] = []
    while lines and (not kept or sum(map(len, [*kept, lines[0]])) <= REASON_CHARS_MAX):
        kept.append(lines.pop(0))
    head = f"{head} `conserver check` shows all {len(error.problems)} faults, the first are"
    return "\n".join([head, *kept])
