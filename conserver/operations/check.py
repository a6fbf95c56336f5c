"""Checks settings, configuration, plugins and connections before the daemon starts.

1. The configuration file, the secrets that sign webhooks, and the API tokens: all faults are
   reported together.
2. Links and storages: whether their modules exist, their options are valid, and the packages that
   they need are installed.
3. If the caller wants it: whether Redis and every storage answer, and then whether storages accept
   the query of each schedule. Opening a storage creates its table, bucket or index, as in a worker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from conserver.config import settings
from conserver.config.environment import Environment
from conserver.config.file import located
from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import ConfigError, ConserverError, OperationError, Problem, Rejected
from conserver.operations import callbacks, tokens
from conserver.operations.connection import redis_client, server_version
from conserver.operations.documents import StorageReader
from conserver.plugins import loader, reading, returns
from conserver.plugins.loader import LoadedStorage, Plugins
from conserver.telemetry.redact import redact_text
from storage.contract import place_of, with_place


@dataclass(frozen=True, slots=True)
class Connection:
    """The result of asking one server.

    ok: whether it can be used. refused: Redis answered, but refuses the login.
    """

    name: str
    ok: bool
    message: str
    duration_ms: float
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check.

    Attributes:
        ok: there are no problems, and every server that was asked can be used.
        chains: enabled chain -> the lists that it serves.
    """

    ok: bool
    problems: list[Problem]
    warnings: list[Problem]
    connections: list[Connection] = field(default_factory=list)
    chains: dict[str, list[str]] = field(default_factory=dict)


def check_environment(environ: Mapping[str, str], error: ConfigError) -> Checked:
    """The result if the settings could not be loaded. error: the error of the load."""
    return Checked(False, list(error.problems), settings.misspelt(environ))


def check(found: Settings, environ: Mapping[str, str], *, connect: bool = False) -> Checked:
    """Check the configuration that the settings name, and its plugins.

    Args:
        environ: the environment variables to which the configuration may refer.
        connect: ask Redis and every storage, too, if the plugins could be loaded.
    """
    problems: list[Problem] = []
    warnings = [*settings.misspelt(environ), *loader.environment_warnings()]
    connections: list[Connection] = []
    chains: dict[str, list[str]] = {}
    source = found.config_file
    try:
        callbacks.secrets(found)
    except Rejected as refusal:
        problems.append(Problem("CONSERVER_WEBHOOK_SECRET", refusal.reason))
    try:
        tokens.keyring_of(found)
    except ConfigError as error:
        problems += error.problems
    try:
        config = reading.read(source, Environment(environ))
        warnings += [*config.warnings, *located(loader.unused_problems(config), source)]
        chains = {name: chain.ingress_lists for name, chain in config.enabled_chains.items()}
        plugins = reading.load_plugins(config, source, prepare=True)
        warnings += located(returns.doubts(plugins), source)
        connections = _connect(found, plugins) if connect else []
        if all(connection.ok for connection in connections):
            connections += _ask_queries(config) if connect else []
    except ConfigError as error:
        problems += error.problems
    ok = not problems and all(connection.ok for connection in connections)
    return Checked(ok, problems, warnings, connections, chains)


def _connect(found: Settings, loaded: Plugins) -> list[Connection]:
    """Ask all servers at the same time, so that a hanging server does not delay the others."""
    storages = list(loaded.storages.values())
    with ThreadPoolExecutor(max_workers=len(storages) + 1) as pool:
        redis = pool.submit(_ask_redis, found)
        answers = [pool.submit(_ask_storage, storage) for storage in storages]
        return [redis.result(), *(answer.result() for answer in answers)]


def _ask_redis(found: Settings) -> Connection:
    began_s, refused = time.monotonic(), False
    try:
        with redis_client(found) as client:
            name, version = server_version(client.info("server"))
            client.eval("return 1", 0)  # the queue needs scripts
            client.delete("conserver:nothing")  # a replica answers, but refuses writes
        ok, message = True, f"answers, {name} {version}"
    except ConserverError as error:
        ok, message = False, str(error)
        refused = isinstance(error, OperationError) and error.kind == "denied"
    return Connection("redis", ok, message, (time.monotonic() - began_s) * 1000, refused)


def _ask_queries(config: Config) -> list[Connection]:
    """Send the query of each enabled schedule with a `find` to its storage, for one vCon."""
    found = []
    with StorageReader(config) as reader:
        for name, schedule in config.enabled_schedules.items():
            if schedule.find is None:
                continue
            began_s = time.monotonic()
            try:
                reader.find(schedule.find.storage, schedule.find.query, 1, "")
                ok, message = True, "its query is understood"
            except Exception as error:  # noqa: BLE001 - a client of any library may raise anything.
                what = redact_text(str(error)).strip()
                ok, message = False, f"{schedule.find.storage} does not answer its query: {what}"
            duration_ms = (time.monotonic() - began_s) * 1000
            found.append(Connection(f"schedules.{name}.find", ok, message, duration_ms))
    return found


def _ask_storage(loaded: LoadedStorage) -> Connection:
    began_s, place = time.monotonic(), ""
    try:
        storage = loaded.make()
        place = place_of(storage)
        try:
            storage.open()
            storage.ready()
        finally:
            storage.close()
        ok, message = True, "ready"
    except BaseException as error:  # noqa: BLE001 - a storage may raise anything, SystemExit too.
        ok, message = False, f"{type(error).__name__}: {error}".strip()
        message = with_place(message, place)
    name = f"storages.{loaded.name}"
    return Connection(name, ok, message, (time.monotonic() - began_s) * 1000)
