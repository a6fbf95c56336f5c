"""`conserver get` and `cancel`: one vCon, by its uuid."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import orjson

from conserver.cli.base import Client, Output, load_config, load_settings, note, redis_client
from conserver.config.model import Config
from conserver.config.validation import suggest
from conserver.errors import EXIT_FAILURE, EXIT_UNAVAILABLE, EXIT_USAGE, BootError, ConserverError
from conserver.plugins import loader as plugins
from conserver.plugins.loader import LoadedStorage
from conserver.queue import cancellation
from conserver.telemetry.redact import printable


def get(output: Output, uuid: str, config_file: str = "", source: str = "") -> int:
    """Prints a vCon as JSON, from Redis or from the first storage that has it.

    Args:
        source: `redis` or a storage's name: look only there.

    Returns:
        0, or 1 where nobody has it, or 69 where nobody has it and one could not be asked.
    """
    found = load_settings(config_file)
    config = load_config(found)
    if source not in ("", "redis", *config.storages):
        hint = suggest(source, ["redis", *config.storages])
        raise BootError(
            f"there is no storage `{source}` in {found.config_file} ({hint})", EXIT_USAGE
        )
    text: bytes | None = None
    if source in ("", "redis"):
        with redis_client(found) as client:
            text = read_document(client, uuid)
    silent: list[str] = []
    if text is None and source != "redis":
        text, silent = _from_storages(config, uuid, source)
    if text is None:
        note(f"conserver: {uuid} {_where_it_is_not(config, source, silent)}")
        return EXIT_UNAVAILABLE if silent else EXIT_FAILURE
    if output.as_json or sys.stdout.isatty():
        text = _indented(text, uuid, strict=output.as_json)
    output.raw(text + b"\n")
    return 0


def _where_it_is_not(config: Config, source: str, silent: Sequence[str]) -> str:
    places = [source] if source else ["redis", *config.storages]
    asked = [place for place in places if place not in silent]
    if not silent:
        return f"is nowhere: not in {', '.join(asked)}"
    unknown = f"{', '.join(silent)} could not be asked"
    if not asked:
        return f"could not be looked for: {unknown}"
    return f"may be elsewhere: not in {', '.join(asked)}; {unknown}"


def _indented(text: bytes, uuid: str, *, strict: bool) -> bytes:
    """The document, easier to read. What is no JSON, people see as it is and programs do not."""
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2)
    except orjson.JSONDecodeError as error:
        if strict:
            raise ConserverError(f"the document of {uuid} is not JSON: {error}") from None
        note(f"warning: this is not JSON: {error}")
        return printable(text.decode("utf-8", "replace"), keep="\n\t").encode()


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


def cancel(output: Output, uuid: str) -> int:
    """Cancels every copy of a vCon that waits or runs. Dead letters stay: `dlq purge` is theirs.

    Returns:
        0 when there was something to cancel, 1 when there was nothing.
    """
    with redis_client(load_settings()) as client:
        found = cancellation.cancel(client, uuid)
        # Copies move while we look: what evaded the first look is found by the second.
        again = cancellation.cancel(client, uuid)
    counts = {
        "queued": found.queued + again.queued,
        "returned": found.returned + again.returned,
        "parked": found.parked + again.parked,
        "running": max(found.running, again.running),
    }
    output.value({"uuid": uuid, **counts})
    for where, count in counts.items():
        if count:
            what = "stops at its next link" if where == "running" else "taken out"
            output.line(f"{count} {where}: {what}")
    if not any(counts.values()):
        note(f"no copy of {uuid} waits or runs")
        return EXIT_FAILURE
    return 0


def _from_storages(config: Config, uuid: str, source: str) -> tuple[bytes | None, list[str]]:
    """What the first storage has that has it, and those that could not be asked."""
    silent: list[str] = []
    for name, entry in config.storages.items():
        if source in ("", name):
            try:
                text = _from_storage(plugins.load_storage(name, entry), uuid)
            except Exception as error:  # noqa: BLE001 - a client of any library may raise anything.
                note(f"warning: storage {name} does not answer: {error}")
                silent.append(name)
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
