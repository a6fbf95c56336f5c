"""The configuration at hand, and what is made ready for children before they are born.

Links and storages are checked here, in the supervisor, so that a wrong one is refused before any
child meets it. Under fork everything that all workers import is imported here as well, once, and
shared by all of them.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Sequence
from multiprocessing.context import BaseContext

from conserver import log, plugins
from conserver.config import Config
from conserver.errors import ConserverError
from conserver.process import open_descriptors
from conserver.settings import Settings

Reload = Callable[[], tuple[Settings, Config]]


class Preparation:
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
        self._prepare(config)
        self.from_before = open_descriptors()
        """Descriptors that are not the household's: libraries may need them in the children too.
        Nothing of the household may be open yet."""

    def reload(self) -> None:
        """Read the configuration again; a bad one is refused, and everything stays as it is."""
        before = open_descriptors()
        try:
            settings, config = self._load()
            self._prepare(config)
        except ConserverError as error:
            self._log.error("reload_refused", reason=str(error))
            return
        except Exception:  # noqa: BLE001 - a link's module may raise anything; the service goes on.
            self._log.exception("reload_refused")
            return
        self.from_before |= open_descriptors() - before
        self.settings, self.config = settings, config
        self.generation += 1
        self._log.info("reloaded", generation=self.generation)

    def _prepare(self, config: Config) -> None:
        loaded = plugins.load(config)
        method = self._context.get_start_method()
        if method == "forkserver":
            self._context.set_forkserver_preload(self._modules)
        elif method == "fork":
            for module in self._modules:
                importlib.import_module(module)
            loaded.prepare()
            gc.collect()
            gc.freeze()
