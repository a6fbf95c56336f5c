"""`conserver submit`: vCons onto a list, as any producer would put them there.

1. Gathers documents: vCon files, folders of them, standard input, recordings made into vCons.
2. Refuses here what a worker would make a dead letter of: no vCon, or too large.
3. SET vcon:<uuid>, RPUSH <list> <uuid>, both at once.
4. With --wait, follows each until it has left the queues or is dead, and tells which.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from conserver.cli import audio, census
from conserver.cli.base import Client, Output, load_config, load_settings, note, redis_client
from conserver.cli.follow import Submitted, dead_letters, follow
from conserver.cli.hosts import read_hosts
from conserver.cli.tables import Marked, Style
from conserver.config.settings import Settings
from conserver.config.validation import suggest
from conserver.errors import EXIT_FAILURE, EXIT_USAGE, BootError, ConserverError, Rejected
from conserver.vcon.document import Vcon

if TYPE_CHECKING:
    from collections.abc import Callable

_STYLES: dict[str, Style] = {"ended": "good", "dead": "bad", "waiting": "warning"}


def submit(
    output: Output,
    paths: Sequence[Path],
    to: str = "",
    config_file: str = "",
    *,
    wait: bool = False,
    timeout_s: float = 600,
) -> int:
    """Submits everything that `paths` lead to.

    Returns:
        0, or 1 if a document was refused, is dead, or waits or runs still at the end of the time.
    """
    found = load_settings(config_file)
    name = _checked(to) if to else _only_list(found)
    results: list[Submitted] = []
    sources = [source for path in paths for source in _sources(path)]
    with redis_client(found) as client:
        _check_type(client, name)
        dead_before = dead_letters(client, name) if wait else Counter()
        with _progress("submitting", len(sources)) as step:
            for source in sources:
                results += [
                    _put(client, found, name, label, raw) for label, raw in _documents(source)
                ]
                step(1)
        if any(result.uuid for result in results):
            _warn_of_silence(client, name)
        if wait:
            with _progress("working", len(results)) as step:
                follow(client, name, results, dead_before, timeout_s, step)
    output.value({"list": name, "items": [asdict(result) for result in results]})
    _tell(output, name, results, wait=wait)
    good = {"ended"} if wait else {"submitted"}
    return 0 if all(result.outcome in good for result in results) else EXIT_FAILURE


def _only_list(found: Settings) -> str:
    names = list(load_config(found).ingress)
    if len(names) != 1:
        text = ", ".join(names) or "none"
        raise BootError(f"say which list with --list: {found.config_file} has {text}", EXIT_USAGE)
    return names[0]


def _checked(name: str) -> str:
    """A name that the configuration would take for a list, too: others are Conserver's own keys."""
    from pydantic import TypeAdapter, ValidationError

    from conserver.config.model import ListName

    try:
        return TypeAdapter(ListName).validate_python(name)
    except ValidationError as error:
        reason = error.errors()[0]["ctx"]["error"]
        raise BootError(f"--list {name}: {reason}", EXIT_USAGE) from None


def _check_type(client: Client, name: str) -> None:
    """Before anything is SET: a document whose uuid cannot be pushed would lie there for ever."""
    kind = client.type(name).decode()
    if kind not in ("none", "list"):
        raise ConserverError(f"{name} is a {kind} in Redis, and no list")


def _sources(path: Path) -> list[Path]:
    """The files that a path leads to; an empty folder leads to itself, and is refused as such."""
    if not path.is_dir():
        return [path]
    wanted = {".json", ".vcon", *audio.MEDIA_TYPES}
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in wanted) or [path]


def _warn_of_silence(client: Client, name: str) -> None:
    """Says so where nobody takes from the list: a name that is misspelt waits for ever."""
    hosts = [host for host in read_hosts(client) if host.beats]
    served = {listed for host in hosts for listed in host.lists}
    if not hosts:
        note("warning: no host is running: what was submitted waits until one does")
    elif name not in served:
        hint = suggest(name, served)
        note(f"warning: no host that runs serves {name}" + (f" ({hint})" if hint else ""))
    elif name in census.paused_lists(client):
        note(f"warning: {name} is paused: `conserver resume {name}` ends that")


def _documents(path: Path) -> Iterator[tuple[str, bytes | Rejected]]:
    """What a source holds, each with a name to call it by, or why it cannot be read."""
    label = "standard input" if path == Path("-") else str(path)
    try:
        if path.is_dir():
            yield label, Rejected("there is no vCon and no recording in this folder")
            return
        if path.suffix.lower() in audio.MEDIA_TYPES:
            yield label, audio.vcon_of(path)
            return
        raw = sys.stdin.buffer.read() if path == Path("-") else path.read_bytes()
    except OSError as error:
        yield label, Rejected(f"cannot be read: {error.strerror}")
        return
    lines = [line for line in raw.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.lstrip().startswith(b"{") for line in lines):
        yield from ((f"{label}:{n}", line) for n, line in enumerate(lines, 1))
    else:
        yield label, raw


def _put(
    client: Client, found: Settings, name: str, label: str, raw: bytes | Rejected
) -> Submitted:
    try:
        if isinstance(raw, Rejected):
            raise raw
        uuid = Vcon.parse(raw).uuid
        if len(raw) > found.max_document_bytes:
            raise Rejected(
                f"{len(raw)} bytes are more than CONSERVER_MAX_DOCUMENT_BYTES"
                f" ({found.max_document_bytes})"
            )
    except Rejected as refusal:
        return Submitted(label, outcome="refused", detail=refusal.reason)
    pipe = client.pipeline(transaction=True)
    pipe.set(f"vcon:{uuid}", raw)
    pipe.rpush(name, uuid)
    pipe.execute()
    return Submitted(label, uuid)


def _tell(output: Output, name: str, results: Sequence[Submitted], *, wait: bool) -> None:
    refused = [result for result in results if result.outcome == "refused"]
    for result in refused:
        note(f"refused: {result.source}: {result.detail}")
    output.line(f"{len(results) - len(refused)} submitted to {name}")
    taken = [result for result in results if result.outcome != "refused"]
    if not wait or not taken:
        return
    columns = ("source", "uuid", "outcome", "seconds", "analyses", "tags", "why")
    rows = [
        (
            result.source,
            result.uuid,
            Marked(result.outcome, _STYLES[result.outcome]),
            result.duration_s,
            ", ".join(result.analyses),
            ", ".join(f"{key}:{value}" for key, value in result.tags.items()),
            result.detail,
        )
        for result in taken
    ]
    shown = len(columns) if any(result.detail for result in taken) else -1
    output.table(columns[:shown], [row[:shown] for row in rows])
    counts = Counter(result.outcome for result in taken)
    if len(taken) > 1:
        output.line(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts["waiting"]:
        note("--timeout is over; `conserver status` shows what is waited for")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere. It goes to standard error and leaves no trace."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)
