"""`conserver get` and `cancel`: one vCon, by its uuid."""

from __future__ import annotations

import sys

import orjson

from conserver import plugins
from conserver.commands import census
from conserver.commands.base import Client, Output, load_config, load_settings, note, redis_client
from conserver.config import Config
from conserver.errors import EXIT_FAILURE, EXIT_UNAVAILABLE, ConserverError
from conserver.plugins import LoadedStorage

_ROUNDS_MAX = 5


def get(output: Output, uuid: str, config_file: str = "", source: str = "") -> int:
    """Prints a vCon as JSON, from Redis or from the first storage that has it.

    Args:
        source: `redis` or a storage's name: look only there.

    Returns:
        0, or 1 where nobody has it, or 69 where nobody has it and one could not be asked.
    """
    found = load_settings(config_file)
    config = load_config(found)
    if source and source != "redis" and source not in config.storages:
        raise ConserverError(f"there is no storage `{source}` in {found.config_file}")
    text: bytes | None = None
    if source in ("", "redis"):
        with redis_client(found) as client:
            text = read_document(client, uuid)
    silent = False
    if text is None and source != "redis":
        text, silent = _from_storages(config, uuid, source)
    if text is None:
        note(f"conserver: {uuid} is in none of the places that answered")
        return EXIT_UNAVAILABLE if silent else EXIT_FAILURE
    if output.as_json or sys.stdout.isatty():
        text = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2)
    output.raw(text + b"\n")
    return 0


def read_document(client: Client, uuid: str) -> bytes | None:
    """The document in Redis, whoever put it there; None where there is none."""
    key = f"vcon:{uuid}"
    kind = client.type(key)
    if kind == b"string":
        text: bytes | None = client.get(key)
        return text
    if kind == b"ReJSON-RL":
        document: bytes | None = client.execute_command("JSON.GET", key)
        return document
    if kind != b"none":
        note(f"warning: {key} is a {kind.decode()}, not a document")
    return None


def cancel(output: Output, uuid: str, config_file: str = "") -> int:
    """Takes every waiting copy of a uuid out of the queues. Dead letters stay: `dlq purge` is
    theirs.

    Returns:
        0 when something was taken out, 1 when there was nothing to take.
    """
    found = load_settings(config_file)
    configured = list(load_config(found).ingress)
    removed: list[dict[str, str]] = []
    with redis_client(found) as client:
        names = census.all_names(client, configured)
        entries = census.find(client, names, {uuid})
        # Copies move while we look, so we look until a look finds none that waits.
        for _ in range(_ROUNDS_MAX):
            waiting = [entry for entry in entries if entry.where not in ("running", "dead")]
            if not waiting:
                break
            removed += [
                {"list": entry.list, "where": entry.where}
                for entry in waiting
                if census.remove(client, entry)
            ]
            entries = census.find(client, names, {uuid})
    running = [entry.list for entry in entries if entry.where == "running"]
    output.value({"uuid": uuid, "removed": removed, "running": running})
    for copy in removed:
        output.line(f"taken out of {copy['list']} ({copy['where']})")
    for name in running:
        note(f"a copy of list {name} is running; it runs to its end")
    if not removed:
        note(f"no copy of {uuid} waits anywhere")
    return 0 if removed else EXIT_FAILURE


def _from_storages(config: Config, uuid: str, source: str) -> tuple[bytes | None, bool]:
    """What the first storage has that has it, and whether one could not be asked."""
    silent = False
    for name, entry in config.storages.items():
        if source in ("", name):
            try:
                text = _from_storage(plugins.load_storage(name, entry), uuid)
            except Exception as error:  # noqa: BLE001 - a client of any library may raise anything.
                note(f"warning: storage {name} does not answer: {error}")
                silent = True
                continue
            if text is not None:
                return text, silent
    return None, silent


def _from_storage(loaded: LoadedStorage, uuid: str) -> bytes | None:
    loaded.prepare()
    storage = loaded.make()
    try:
        storage.open()
        return storage.get(uuid)
    finally:
        storage.close()
