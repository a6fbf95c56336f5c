"""`conserver submit`: vCons onto a list, as any producer would put them there.

1. Gathers documents: vCon files, folders of them, standard input, recordings made into vCons.
2. Refuses here what a worker would make a dead letter of: no vCon, or too large.
3. SET vcon:<uuid>, RPUSH <list> <uuid>, both at once.
4. With --wait, follows each until it is done or dead, and tells what became of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conserver.commands import audio, census
from conserver.commands.base import (
    Client,
    Output,
    load_config,
    load_settings,
    note,
    redis_client,
)
from conserver.commands.documents import read_document
from conserver.commands.letters import Filter, described, select
from conserver.errors import EXIT_FAILURE, EXIT_USAGE, BootError, Rejected
from conserver.settings import Settings
from conserver.vcon import Vcon

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_S = 0.25
# An item can evade one look while it moves from place to place; it does not evade so many in a row.
_ABSENCES = 3


@dataclass(slots=True)
class Submitted:
    """One document and what became of it: `refused`, `submitted`, `done`, `dead` or `waiting`."""

    source: str
    uuid: str = ""
    outcome: str = "submitted"
    detail: str = ""
    duration_s: float | None = None
    analyses: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


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
        0, or 1 if a document was refused, is dead, or is not done at the end of the time.
    """
    found = load_settings(config_file)
    name = to or _only_list(found)
    results: list[Submitted] = []
    sources = list(_sources(paths))
    with redis_client(found) as client:
        with _progress("submitting", len(sources)) as step:
            for source in sources:
                results += [
                    _put(client, found, name, label, raw) for label, raw in _documents(source)
                ]
                step(1)
        if wait:
            _follow(client, name, results, timeout_s)
    output.value({"list": name, "items": [asdict(result) for result in results]})
    _tell(output, name, results, wait=wait)
    good = {"done"} if wait else {"submitted"}
    return 0 if all(result.outcome in good for result in results) else EXIT_FAILURE


def _only_list(found: Settings) -> str:
    names = list(load_config(found).ingress)
    if len(names) != 1:
        text = ", ".join(names) or "none"
        raise BootError(f"say which list with --list: {found.config_file} has {text}", EXIT_USAGE)
    return names[0]


def _sources(paths: Iterable[Path]) -> Iterator[Path]:
    wanted = {".json", ".vcon", *audio.MEDIA_TYPES}
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in wanted)
        else:
            yield path


def _documents(path: Path) -> Iterator[tuple[str, bytes | Rejected]]:
    """What a source holds, each with a name to call it by, or why it cannot be read."""
    label = "standard input" if path == Path("-") else str(path)
    try:
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


def _follow(client: Client, name: str, results: Sequence[Submitted], timeout_s: float) -> None:
    """Looks for the submitted ones until they are nowhere any more, or among the dead letters."""
    began_s = time.monotonic()
    pending = {result.uuid: result for result in results if result.uuid}
    absences = dict.fromkeys(pending, 0)
    with _progress("working", len(pending)) as step:
        while pending and time.monotonic() - began_s < timeout_s:
            time.sleep(_LOOK_S)
            names = census.all_names(client, [name])
            places = {e.uuid: e for e in census.find(client, names, pending.keys())}
            for uuid, result in list(pending.items()):
                entry = places.get(uuid)
                absences[uuid] = absences[uuid] + 1 if entry is None else 0
                dead = entry is not None and entry.where == "dead"
                if not dead and absences[uuid] < _ABSENCES:
                    continue
                result.outcome = "dead" if dead else "done"
                result.duration_s = round(time.monotonic() - began_s, 2)
                result.detail = _why_dead(client, entry) if dead and entry is not None else ""
                _describe(client, result)
                del pending[uuid]
                step(1)
    for result in pending.values():
        result.outcome = "waiting"


def _why_dead(client: Client, entry: census.Entry) -> str:
    wanted = Filter(names=(entry.list,), uuids=(entry.uuid,))
    letter = next(select(client, wanted), None)
    return described(letter) if letter is not None else f"in DLQ:{entry.list}"


def _describe(client: Client, result: Submitted) -> None:
    """Adds what the document in Redis has by now."""
    text = read_document(client, result.uuid)
    if text is None:
        return
    try:
        vcon = Vcon.parse(text)
    except Rejected as refusal:
        result.detail = refusal.reason
        return
    result.analyses = [str(entry.get("type", "")) for entry in vcon.analysis]
    result.tags = vcon.tags


def _tell(output: Output, name: str, results: Sequence[Submitted], *, wait: bool) -> None:
    refused = [result for result in results if result.outcome == "refused"]
    for result in refused:
        note(f"refused: {result.source}: {result.detail}")
    output.line(f"{len(results) - len(refused)} submitted to {name}")
    if not wait:
        return
    output.table(
        "",
        ("source", "uuid", "outcome", "seconds", "analyses", "tags"),
        [
            (
                result.source,
                result.uuid,
                " ".join(part for part in (result.outcome, result.detail) if part),
                result.duration_s,
                ", ".join(result.analyses),
                ", ".join(f"{key}:{value}" for key, value in result.tags.items()),
            )
            for result in results
            if result.outcome != "refused"
        ],
    )


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
