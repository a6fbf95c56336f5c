"""The configuration in use, and the modules that the supervisor imports before it starts a child.

The supervisor loads and checks links and storages, so that a faulty configuration is refused before
a child gets it. Under fork the supervisor also imports everything that all workers import, so that
the workers share the memory of these modules.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

from conserver.config.doubts import serves_nothing
from conserver.config.model import Config
from conserver.config.notifications import with_notifications
from conserver.config.settings import Settings
from conserver.errors import ConfigError, ConserverError, Problem
from conserver.plugins.reading import load_plugins
from conserver.plugins.returns import doubts
from conserver.process.descriptors import open_descriptors
from conserver.process.imports import cheap_imports
from conserver.telemetry import log

Reload = Callable[[], tuple[Settings, Config]]

REASON_CHARS_MAX = 1500
"""The faults in one log line are cut to about this length, after a whole fault."""


def log_warnings(warnings: Iterable[Problem]) -> None:
    """Log the parts of a configuration that are valid but probably a mistake."""
    logger = log.get_logger()
    for warning in warnings:
        logger.warning("configuration_warning", path=warning.path, warning=str(warning))


class LastReload(NamedTuple):
    """The result of the last reload, for the status.

    Attributes:
        request: the id of the last operator's request that was answered; "" if there was none.
        at: when the reload ended, in seconds since the epoch.
        refused: why the configuration was refused; "" if it was accepted.
    """

    request: str
    at: float
    refused: str


class Preload:
    """The settings and the configuration that the next child gets."""

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
            modules: the modules that every child imports.

        Raises:
            ConfigError: a link or storage is missing, or its options are wrong.
        """
        self.settings = settings
        self.config = config
        self.generation = 1
        """The number of the configuration: 1 at the start, plus 1 for every accepted reload."""
        self.speech_links: dict[str, Any] = {}
        """The links that use a transcriber: name -> speech model."""
        self.reads_pages = False
        """Whether a link hands documents to page readers."""
        self.accepted_at = time.time()
        """When the configuration in use was accepted, in seconds since the epoch."""
        self.last_reload: LastReload | None = None
        self._load = load
        self._context = context
        self._modules = list(modules)
        self._log = log.get_logger()
        self._prepare(settings, config)
        self.preexisting = open_descriptors()
        """The descriptors that children keep, because libraries may need them there. The supervisor
        therefore opens its own descriptors only after this."""

    @property
    def served(self) -> Config:
        """The configuration for workers and coordinators, with the chain for notifications."""
        return with_notifications(self.config, self.settings)

    def reload(self, request: str = "") -> None:
        """Read the configuration again. If it is faulty, log the faults and keep the present one.

        Args:
            request: the id of the operator's request (operations/reload.py); "" after a SIGHUP.
        """
        before, began_s = open_descriptors(), time.monotonic()
        refused = self._refused()
        answered = max(request, self.last_reload.request if self.last_reload else "")
        self.last_reload = LastReload(answered, round(time.time(), 3), refused)
        # Children keep what imported modules have opened, also for a refused configuration. First
        # close what only an exception still holds: the supervisor may reuse such a number.
        gc.collect()
        self.preexisting |= open_descriptors() - before
        if not refused:
            took_ms = round((time.monotonic() - began_s) * 1000)
            self._log.info("reloaded", generation=self.generation, duration_ms=took_ms)

    def _refused(self) -> str:
        """Read the configuration, and accept it if it is valid. Returns why not; "" if accepted."""
        try:
            settings, config = self._load()
            if not config.ingress:
                raise ConfigError([_nothing_served(config)], settings.config_file)
            self._prepare(settings, config)
        except ConfigError as error:
            faults, reason = len(error.problems), _as_reason(error)
            self._log.error("reload_refused", faults=faults, reason=reason)
            return reason
        except ConserverError as error:
            self._log.error("reload_refused", reason=str(error))
            return str(error)[:REASON_CHARS_MAX] or type(error).__name__
        except Exception as error:  # noqa: BLE001 - a bug must not stop the running service
            self._log.exception("reload_refused")
            return f"{type(error).__name__}; the log has more under `reload_refused`"
        log_warnings([*config.warnings, *_no_longer_served(self.config, config)])
        self.settings, self.config = settings, config
        self.generation += 1
        self.accepted_at = time.time()
        return ""

    def _prepare(self, settings: Settings, config: Config) -> None:
        method = self._context.get_start_method()
        if method == "forkserver":
            self._context.set_forkserver_preload(self._modules)
        elif method == "fork":
            # These come before the plugins, which may start threads.
            with cheap_imports():
                for module in self._modules:
                    importlib.import_module(module)
        loaded = load_plugins(config, settings.config_file, prepare=method == "fork")
        log_warnings(doubts(loaded))
        self.speech_links = {
            name: link.speech_model
            for name, link in loaded.links.items()
            if link.speech_model is not None
        }
        self.reads_pages = any(link.reads_pages for link in loaded.links.values())
        if method == "fork":
            if self.speech_links or self.reads_pages:
                # Otherwise the first transcriber or page reader would start the tracker later. Then
                # forked children would close the tracker's pipe as one of the supervisor's
                # descriptors, but still use its number.
                resource_tracker.ensure_running()
            gc.collect()
            gc.freeze()


def _nothing_served(config: Config) -> Problem:
    found = serves_nothing(config)
    instead = "to take nothing more, `conserver pause`, or stop the daemon"
    return Problem(found.path, found.message, f"{found.hint}; {instead}")


def _no_longer_served(before: Config, after: Config) -> list[Problem]:
    """A warning that names the lists that `after` no longer serves: even a file that was cut short
    may be valid.
    """
    gone = [name for name in before.ingress if name not in after.ingress]
    names = ", ".join(f"`{name}`" for name in gone)
    return [Problem("chains", f"no longer served: {names}")] if gone else []


def _as_reason(error: ConfigError) -> str:
    """All faults; or as many as fit into a log line, and how to see the others."""
    text = str(error)
    if len(text) <= REASON_CHARS_MAX:
        return text
    head, *lines = text.split("\n")
    kept: list[str] = []
    while lines and (not kept or sum(map(len, [*kept, lines[0]])) <= REASON_CHARS_MAX):
        kept.append(lines.pop(0))
    head = f"{head} `conserver check` shows all {len(error.problems)} faults, the first are"
    return "\n".join([head, *kept])
