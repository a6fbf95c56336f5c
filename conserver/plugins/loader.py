"""Loads links and storages by their module names, and rejects invalid ones before anything runs.

1. Resolves names: `links.tag` is conserver.links.tag, `storage.postgres` is in the package storage;
   any other dotted name is imported as it is written. Nothing is ever installed.
2. Checks that a module has the required names, and validates its options with its own model.
3. Adapts modules written for vcon-server, which the loader recognizes by their signatures. Only
   this module imports the package compat, and only for such modules.

The loader reports all problems of all plugins together, each with its path in the configuration. An
exception of a plugin's code, even `sys.exit()`, becomes a problem of that plugin, because a plugin
must not end the daemon. No other module imports links or storages.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from conserver.config.model import Config, LinkConfig, StorageConfig
from conserver.config.validation import join_path, problems_of
from conserver.errors import ConfigError, Problem
from conserver.plugins.faults import FOREIGN_MODULES, broken, missing
from conserver.plugins.module_names import resolve, suggestion
from storage.network import NetworkSettingsError, unreadable_exclusions

if TYPE_CHECKING:
    from conserver.links import LinkContext
    from conserver.vcon.document import Vcon
    from storage.contract import Storage

Section = TypeVar("Section", LinkConfig, StorageConfig)
Loaded = TypeVar("Loaded", "LoadedLink", "LoadedStorage")

# Names of parameters by which a link of vcon-server is recognized.
_FOREIGN_PARAMETERS = frozenset({"vcon_uuid", "vcon_id", "link_name"})
# Exceptions that a plugin's code did not cause: Ctrl-C, the end of a generator.
_NOT_ITS_OWN = (KeyboardInterrupt, GeneratorExit)


@dataclass(frozen=True, slots=True)
class LoadedLink:
    """A link with validated options, ready to run."""

    name: str
    module: str
    run: Callable[[Vcon, Any, LinkContext], Vcon | None]
    options: Any = field(repr=False)
    costly: bool = False
    soft_timeout_s: float | None = None
    hard_timeout_s: float | None = None
    prepare_module: Callable[[Any], None] | None = None
    speech_model: Any = None
    """The speech model that transcribers load for this link; None for most links."""
    reads_pages: bool = False
    """Whether the link hands documents to the host's page readers."""

    def prepare(self) -> None:
        """Call the module's `prepare`, which imports large packages. Raises ConfigError."""
        _prepare(self.prepare_module, self.options, join_path("links", [self.name]), self.module)


@dataclass(frozen=True, slots=True)
class LoadedStorage:
    """A storage with validated options. Each process calls `make` once for the storage's client."""

    name: str
    module: str
    make: Callable[[], Storage]
    options: Any = field(repr=False)
    prepare_module: Callable[[Any], None] | None = None

    @property
    def timeout_s(self) -> float:
        """The longest time of one call of the storage, in seconds."""
        return float(getattr(self.options, "timeout_s", 30.0))

    def prepare(self) -> None:
        """Call the module's `prepare`, which imports large packages. Raises ConfigError."""
        _prepare(self.prepare_module, self.options, join_path("storages", [self.name]), self.module)


@dataclass(frozen=True, slots=True)
class Plugins:
    """The loaded links and storages of a configuration, by their names."""

    links: Mapping[str, LoadedLink]
    storages: Mapping[str, LoadedStorage]

    def prepare(self) -> None:
        """Prepare all links and storages.

        Raises:
            ConfigError: with every missing package and every failure of a `prepare`.
        """
        problems = self.missing()
        if problems:
            raise ConfigError(problems)

    def missing(self) -> list[Problem]:
        """Prepare all links and storages, and return the problems."""
        problems: list[Problem] = []
        plugins: list[LoadedLink | LoadedStorage] = [*self.links.values(), *self.storages.values()]
        for plugin in plugins:
            try:
                plugin.prepare()
            except ConfigError as error:
                problems += error.problems
        # Several plugins can report the same fault of the environment.
        return list(dict.fromkeys(problems))


class PluginError(ConfigError):
    """One plugin cannot be used. `load` collects these into one ConfigError."""


def load(config: Config) -> Plugins:
    """Load the links and storages that enabled chains name. Other plugins are not imported.

    Raises:
        ConfigError: with all problems of all plugins. To find them, the valid plugins are prepared,
            too. Its cause is the first exception that a plugin's code raised.
    """
    links, link_faults = _load_all("links", config.used_links, load_link)
    storages, storage_faults = _load_all("storages", config.used_storages, load_storage)
    plugins, faults = Plugins(links, storages), link_faults + storage_faults
    if faults:
        causes = [fault.__cause__ for fault in faults if fault.__cause__]
        problems = [problem for fault in faults for problem in fault.problems]
        problems += plugins.missing()
        raise ConfigError(problems) from (causes[0] if causes else None)
    return plugins


def unused_problems(config: Config) -> list[Problem]:
    """Problems of plugins that no enabled chain names. The caller reports them as warnings."""
    links = {name: link for name, link in config.links.items() if name not in config.used_links}
    storages = {
        name: storage
        for name, storage in config.storages.items()
        if name not in config.used_storages
    }
    _, link_faults = _load_all("links", links, load_link)
    _, storage_faults = _load_all("storages", storages, load_storage)
    return [problem for fault in link_faults + storage_faults for problem in fault.problems]


def environment_warnings() -> list[Problem]:
    """A warning for each part of the proxy variables (NO_PROXY) that cannot be read."""
    return [Problem(fault.name, *fault.said) for fault in unreadable_exclusions()]


def _load_all(
    section: str, entries: Mapping[str, Section], loader: Callable[[str, Section], Loaded]
) -> tuple[dict[str, Loaded], list[PluginError]]:
    loaded: dict[str, Loaded] = {}
    faults: list[PluginError] = []
    for name, entry in entries.items():
        try:
            loaded[name] = _load(section, name, entry, loader)
        except PluginError as fault:
            faults.append(fault)
    return loaded, faults


def _load(
    section: str, name: str, entry: Section, loader: Callable[[str, Section], Loaded]
) -> Loaded:
    try:
        return loader(name, entry)
    except (PluginError, *_NOT_ITS_OWN):
        raise
    except BaseException as error:
        # The plugin's own code raised while it was loaded, mostly a validator of its options.
        path = join_path(section, [name])
        raise PluginError([broken(error, path, entry.module, "cannot be used")]) from error


def load_link(name: str, config: LinkConfig) -> LoadedLink:
    """Import a link's module, check its `run` and validate its options. Raises PluginError."""
    path = join_path("links", [name])
    module = _import(config.module, path)
    run = getattr(module, "run", None)
    if not callable(run):
        message = f"`{config.module}` is no link: it has no `run`"
        raise PluginError([Problem(f"{path}.module", message)])
    if is_foreign(run):
        return _adapt_link(name, config, module)
    _check_run(run, config.module, path)
    options = _options(module, config.options, path)
    speech_model = getattr(module, "speech_model", None)
    return LoadedLink(
        name=name,
        module=config.module,
        run=run,
        options=options,
        speech_model=speech_model(options) if speech_model else None,
        reads_pages=bool(getattr(module, "READS_PAGES", False)),
        costly=bool(getattr(module, "COSTLY", False)),
        soft_timeout_s=config.soft_timeout_s,
        hard_timeout_s=config.hard_timeout_s,
        prepare_module=getattr(module, "prepare", None),
    )


def load_storage(name: str, config: StorageConfig) -> LoadedStorage:
    """Import a storage's module and validate its options. It connects to no server. Raises
    PluginError.
    """
    path = join_path("storages", [name])
    module = _import(config.module, path)
    maker = getattr(module, "Storage", None)
    if maker is None and callable(getattr(module, "save", None)):
        return _adapt_storage(name, config, module)
    if not callable(maker) or not hasattr(maker, "save_many"):
        message = f"`{config.module}` is no storage: it has no class `Storage`"
        raise PluginError([Problem(f"{path}.module", message)])
    options = _options(module, config.options, path)
    return LoadedStorage(
        name=name,
        module=config.module,
        make=lambda: maker(name, options),
        options=options,
        prepare_module=getattr(module, "prepare", None),
    )


def _adapt_link(name: str, config: LinkConfig, module: ModuleType) -> LoadedLink:
    from conserver.plugins import compat

    return LoadedLink(
        name=name,
        module=config.module,
        run=compat.link_runner(name, module),
        options=compat.options_of(module, config),
        soft_timeout_s=config.soft_timeout_s,
        hard_timeout_s=config.hard_timeout_s,
    )


def _adapt_storage(name: str, config: StorageConfig, module: ModuleType) -> LoadedStorage:
    from conserver.plugins import compat

    options = compat.options_of(module, config)
    return LoadedStorage(
        name=name,
        module=config.module,
        make=lambda: compat.OldStorage(name, module, options),
        options=options,
    )


def _import(name: str, path: str) -> ModuleType:
    full = resolve(name)
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in FOREIGN_MODULES and _install_old_names():
            return _import(name, path)
        if error.name and (full == error.name or full.startswith(f"{error.name}.")):
            hint = suggestion(name) or "it must be installed where Conserver runs"
            raise PluginError(
                [Problem(f"{path}.module", f"there is no module `{name}`", hint)]
            ) from None
        raise PluginError([missing(error, f"{path}.module", name)]) from error
    except _NOT_ITS_OWN:
        raise
    except BaseException as error:
        problem = broken(error, f"{path}.module", name, "cannot be imported")
        raise PluginError([problem]) from error


def _install_old_names() -> bool:
    from conserver.plugins import compat

    return compat.install()


def _prepare(prepare: Callable[[Any], None] | None, options: Any, path: str, module: str) -> None:
    if prepare is None:
        return
    try:
        prepare(options)
    except ModuleNotFoundError as error:
        raise ConfigError([missing(error, path, module)]) from error
    except ConfigError as error:
        # A plugin names its own options; their path in the configuration is added here.
        inside = [
            Problem(f"{path}.options.{found.path}".rstrip("."), found.message, found.hint)
            for found in error.problems
        ]
        raise ConfigError(inside) from error
    except NetworkSettingsError as error:
        # A fault of an environment variable is reported under the variable's name.
        found = [
            Problem(f"{path}.options.{fault.name}" if fault.is_option else fault.name, *fault.said)
            for fault in error.faults
        ]
        raise ConfigError(found) from error
    except _NOT_ITS_OWN:
        raise
    except BaseException as error:
        raise ConfigError([broken(error, path, module, "cannot be prepared")]) from error


def _options(module: ModuleType, given: Mapping[str, Any], path: str) -> Any:
    """The options as an instance of the module's model; a plain dict if it has no model."""
    model = getattr(module, "Options", None)
    if model is None:
        return dict(given)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise PluginError([Problem(f"{path}.module", "its `Options` is no pydantic model")])
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise PluginError(problems_of(error, model, given, f"{path}.options")) from None


def is_foreign(run: Callable[..., object]) -> bool:
    """Whether a link was written for vcon-server, by the names of the parameters of its `run`."""
    return bool(_FOREIGN_PARAMETERS & set(list(_parameters(run))[:2]))


def _check_run(run: Callable[..., object], module: str, path: str) -> None:
    parameters = _parameters(run)
    if inspect.iscoroutinefunction(run):
        raise PluginError([Problem(f"{path}.module", f"`{module}.run` must not be async")])
    if not parameters:
        return  # The signature cannot be read (a C function): nothing to check.
    try:
        inspect.Signature(list(parameters.values())).bind(None, None, None)
    except TypeError:
        found = ", ".join(parameters)
        message = f"`{module}.run` must take (vcon, options, context), not ({found})"
        raise PluginError([Problem(f"{path}.module", message)]) from None


def _parameters(run: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(run).parameters
    except (TypeError, ValueError):
        return {}
