"""`conserver check`: is everything right that can be known before running?

1. Settings and configuration: every fault at once.
2. Links and storages: modules found, options valid, what they need installed.
3. With --connect: Redis and every storage answer. Opening a storage makes what it needs there (a
   table, a bucket, an index), exactly as a worker would.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from conserver.cli.base import Output, load_settings, note, redis_client
from conserver.config import settings
from conserver.config.environment import Environment
from conserver.config.file import located
from conserver.config.settings import Settings
from conserver.errors import (
    EXIT_CONFIG,
    EXIT_UNAVAILABLE,
    BootError,
    ConfigError,
    ConserverError,
    Problem,
)
from conserver.plugins import loader as plugins
from conserver.plugins.loader import LoadedStorage, Plugins
from conserver.supervisor import preload


@dataclass(frozen=True, slots=True)
class Connection:
    """Whether one server answered; `refused` if it did, and Redis does not let us in."""

    name: str
    ok: bool
    message: str
    duration_ms: float
    refused: bool = False


def check(output: Output, config_file: str = "", *, connect: bool = False) -> int:
    """Checks everything and returns the exit code: 0, 78 (wrong, or Redis refuses the login) or 69
    (a server is away).
    """
    problems: list[Problem] = []
    warnings: list[Problem] = settings.misspelt(os.environ)
    connections: list[Connection] = []
    chains: dict[str, list[str]] = {}
    source = ""
    try:
        found = load_settings(config_file)
        source = found.config_file
        config = preload.read(source, Environment(os.environ))
        warnings += [*config.warnings, *located(plugins.unused_problems(config), source)]
        chains = {name: chain.ingress_lists for name, chain in config.enabled_chains.items()}
        loaded = preload.load_plugins(config, source, prepare=True)
        connections = _connect(found, loaded) if connect else []
    except ConfigError as error:
        problems += error.problems
    away = [connection for connection in connections if not connection.ok]
    output.value(
        {
            "ok": not problems and not away,
            "problems": [asdict(problem) for problem in problems],
            "warnings": [asdict(warning) for warning in warnings],
            "connections": [asdict(connection) for connection in connections],
            "chains": chains,
        }
    )
    _tell(output, source, problems, warnings, connections, chains)
    if problems or any(connection.refused for connection in connections):
        return EXIT_CONFIG
    return EXIT_UNAVAILABLE if away else 0


def _tell(
    output: Output,
    source: str,
    problems: Sequence[Problem],
    warnings: Sequence[Problem],
    connections: Sequence[Connection],
    chains: dict[str, list[str]],
) -> None:
    if output.as_json:
        return
    for warning in warnings:
        note(f"warning: {warning}")
    for problem in problems:
        note(f"error: {problem}")
    for connection in connections:
        line = f"{connection.name}: {connection.message} ({connection.duration_ms:.0f} ms)"
        if connection.ok:
            output.line(line)
        else:
            note(f"error: {line}")
    away = sum(1 for connection in connections if not connection.ok)
    if problems or away:
        wrong = _count(len(problems), "error") if problems else ""
        silent = f"{_count(away, 'server')} away" if away else ""
        note(f"{source or 'settings'}: {', '.join(part for part in (wrong, silent) if part)}")
        return
    for name, lists in chains.items():
        output.line(f"chain {name} serves {', '.join(lists)}")
    told = f", with {_count(len(warnings), 'warning')}" if warnings else ""
    result = "everything is in order" if chains else "nothing is wrong, and nothing would be done"
    output.line(f"{result}{told}: {source}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _connect(found: Settings, loaded: Plugins) -> list[Connection]:
    """Asks all servers at the same time: one that hangs holds up none of the others."""
    storages = list(loaded.storages.values())
    with ThreadPoolExecutor(max_workers=len(storages) + 1) as pool:
        redis = pool.submit(_ask_redis, found)
        answers = [pool.submit(_ask_storage, storage) for storage in storages]
        return [redis.result(), *(answer.result() for answer in answers)]


def _ask_redis(found: Settings) -> Connection:
    began_s, refused = time.monotonic(), False
    try:
        with redis_client(found) as client:
            version = client.info("server").get("redis_version", "unknown")
            client.eval("return 1", 0)  # Every move of an item is a script.
        ok, message = True, f"answers, version {version}"
    except ConserverError as error:
        ok, message = False, str(error)
        refused = isinstance(error, BootError) and error.exit_code == EXIT_CONFIG
    return Connection("redis", ok, message, (time.monotonic() - began_s) * 1000, refused)


def _ask_storage(loaded: LoadedStorage) -> Connection:
    began_s = time.monotonic()
    try:
        storage = loaded.make()
        try:
            storage.open()
            storage.ready()
        finally:
            storage.close()
        ok, message = True, "ready"
    except BaseException as error:  # noqa: BLE001 - a storage may raise anything, SystemExit too.
        ok, message = False, f"{type(error).__name__}: {error}".strip()
    name = f"storages.{loaded.name}"
    return Connection(name, ok, message, (time.monotonic() - began_s) * 1000)
