"""`conserver get`: prints a vCon as JSON: from Redis, a storage, or its pushed payload.

A pipe or file gets exactly the bytes that are stored. The exit code is 1 if no source has the vCon,
and 69 if none has it and one source could not be asked.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from typing import Annotated

import orjson
import typer

from conserver.cli.arguments import AsJson, ConfigFile, Uuid, examples, typer_app
from conserver.cli.environment import load_config, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE, EXIT_UNAVAILABLE, ConserverError
from conserver.operations import documents, items, lists
from conserver.operations.documents import REDIS, Found, StorageReader
from conserver.telemetry.redact import printable

app = typer_app()


@app.command(epilog=examples("get 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978 --from redis"))
def get(
    uuid: Uuid,
    config: ConfigFile = "",
    source: Annotated[
        str, typer.Option("--from", metavar="NAME", help="`redis`, or a storage's name.")
    ] = "",
    json: AsJson = False,
) -> int:
    """Print a vCon, from Redis or from a storage.

    Without --from it asks Redis first, then the storages in their order.
    """
    settings = load_settings(config)
    configured = load_config(settings)
    documents.check_source(configured, source, settings.config_file)
    with ExitStack() as stack:
        storages = stack.enter_context(StorageReader(configured))
        asks_redis = source in ("", REDIS)
        client = stack.enter_context(redis_client(settings)) if asks_redis else None
        found = documents.get(client, storages, uuid, source)
        places = [source] if source else [REDIS, *storages.names]
        # A document that was pushed whole may exist only in a list or a dead letter.
        queued: list[items.Entry] = []
        if found.text is None and client is not None and not source:
            names = {*lists.known(client), *configured.ingress}
            queued = items.find(client, sorted(names), [uuid])
    _warn(uuid, found)
    text = found.text or next((entry.document for entry in queued if entry.document), None)
    if text is None:
        note(f"conserver: {uuid} {_where_it_is_not(places, found)}{_its_items(queued, uuid)}")
        return EXIT_UNAVAILABLE if found.silent else EXIT_FAILURE
    if found.text is None:
        note(f"warning: {uuid} is stored nowhere yet{_its_items(queued, uuid)}")
    if json or sys.stdout.isatty():
        text = _indented(text, uuid, strict=json) + b"\n"
    Output().raw(text)
    return 0


def _warn(uuid: str, found: Found) -> None:
    if found.in_redis is not None and found.in_redis.strange:
        note(f"warning: vcon:{uuid} is a {found.in_redis.kind}, not a document")
    for name, error in found.silent.items():
        note(f"warning: storage {name} does not answer: {error}")


def _where_it_is_not(places: list[str], found: Found) -> str:
    silent = list(found.silent)
    asked = [place for place in places if place not in silent]
    if not silent:
        return f"is nowhere: not in {', '.join(asked)}"
    unknown = f"{', '.join(silent)} could not be asked"
    if not asked:
        return f"could not be looked for: {unknown}"
    return f"may be elsewhere: not in {', '.join(asked)}; {unknown}"


def _its_items(entries: list[items.Entry], uuid: str) -> str:
    """The end of a sentence that says where the vCon's items are; "" if there are none."""
    if not entries:
        return ""
    if all(entry.where == "dead" for entry in entries):
        shown = f"conserver dlq show {shlex.quote(uuid)}"
        return f"; it is a dead letter of {entries[0].list}: see {shown}"
    one = next(entry for entry in entries if entry.where != "dead")
    return f"; it is on the list {one.list} ({one.where})"


def _indented(text: bytes, uuid: str, *, strict: bool) -> bytes:
    """The document, indented. If it is not JSON: an error if `strict`, else a warning."""
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2)
    except orjson.JSONDecodeError as error:
        if strict:
            raise ConserverError(f"the document of {uuid} is not JSON: {error}") from None
        note(f"warning: this is not JSON: {error}")
        return printable(text.decode("utf-8", "replace"), keep="\n\t").encode()
