"""`conserver submit`: puts vCons on a list, as any producer would.

1. Gathers documents: vCon files, folders of them, standard input, recordings made into vCons.
2. Puts each on the list, and prints those that were refused.
3. With --wait, follows the job of each until it has ended, and prints how.

The exit code is 1 if a document was refused, or with --wait if a job has failed, was cancelled, or
did not end in time.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, examples, seconds, typer_app
from conserver.cli.environment import actor, load_config, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.cli.tables import Marked, Style
from conserver.config.ages import age_s
from conserver.config.notifications import LIST as NOTIFICATIONS
from conserver.config.settings import Settings
from conserver.errors import EXIT_FAILURE, ConfigError, InvalidArgumentError, Rejected
from conserver.operations import callbacks, follow, recordings
from conserver.operations import submit as submission
from conserver.operations.callbacks import Callback
from conserver.operations.connection import Client
from conserver.operations.submit import Submitted

_NAMED = 10
"""So many files that were passed over are named."""
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
_BAR_MIN = 2  # of steps: one is no progress

_STYLES: dict[str, Style] = {
    "completed": "good",
    "filtered": "",
    "cancelled": "warning",
    "failed": "bad",
    "waiting": "warning",
}

CallbackText = Annotated[
    str,
    typer.Option(
        "--callback",
        metavar="URL",
        help="Who is told when a job ends: a URL, a JSON object, or @FILE with one of them.",
    ),
]

app = typer_app()


@app.command(
    epilog=examples(
        "submit --list calls call.vcon.json",
        "submit --list calls --wait recordings/",
        "submit --list calls --at 2h --priority low -",
    )
)
def submit(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="vCon or audio files, folders of them; - is stdin."),
    ],
    to: Annotated[
        str,
        typer.Option("--list", "-l", metavar="NAME", help="The list; needed if there are several."),
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each has ended.")] = False,
    timeout: Annotated[float, seconds("--timeout", "How long --wait waits.")] = 600,
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="Run it later: 2026-12-01T02:00, or in 2h.")
    ] = "",
    priority: Annotated[
        str, typer.Option("--priority", metavar="NAME", help="high, normal or low.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also to a list that nobody has ever served.")
    ] = False,
    callback: CallbackText = "",
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Put vCons and recordings on a list.

    They come from files, folders and standard input; audio files become vCons. A
    file holds one vCon, or several: one per line, or one after the other. Each
    vCon becomes a job, which `conserver jobs` shows. --wait follows each job to its
    end: completed (stored and passed on), filtered (by a link), cancelled or failed
    (a dead letter). A job that has not ended before --timeout is `waiting`. The exit
    code is 0 if all are completed or filtered.
    """
    output = Output(as_json=json)
    found = load_settings(config)
    if to:
        name = submission.check_name(to)
    else:
        name = submission.only_list(load_config(found), found.config_file)
    if priority:
        name = submission.prioritised(load_config(found), name, priority)
    due_ms = _due_ms(at)
    told = _callback(callback, found)
    sources = [source for path in paths for source in _sources(Path(path))]
    with redis_client(found) as client:
        submission.check_type(client, name)
        submission.check_served(client, name, _configured(found), force=force)
        results = _put(client, name, sources, found, told, due_ms)
        if any(result.uuid for result in results):
            _warn_of_silence(client, name)
            if told is not None:
                _warn_of_silence(client, NOTIFICATIONS)
        if wait:
            _wait(client, results, timeout)
    output.value({"list": name, "items": [asdict(result) for result in results]})
    _show(output, name, results, wait=wait)
    good = {"completed", "filtered"} if wait else {"submitted"}
    return 0 if all(result.outcome in good for result in results) else EXIT_FAILURE


def _configured(found: Settings) -> list[str]:
    """The lists of the configuration; empty if this machine has no usable configuration."""
    try:
        return list(load_config(found).ingress)
    except ConfigError:
        return []


def _due_ms(at: str) -> int:
    """The option --at in ms since 1970; 0: now. It is a time (ISO 8601; local time without a zone),
    or a wait. Raises InvalidArgumentError.
    """
    if not at:
        return 0
    try:
        with suppress(ValueError):
            due = datetime.now(UTC) + timedelta(seconds=age_s(at))
            return round(due.timestamp() * 1000)
        return round(datetime.fromisoformat(at).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError):  # The latter beyond the years 1 to 9999.
        what = f"{{}} {at}: neither a moment (2026-12-01T02:00) nor a wait (2h), or after 9999"
        raise InvalidArgumentError("at", what) from None


def _callback(text: str, found: Settings) -> Callback | None:
    """The callback that --callback names. Raises InvalidArgumentError if it can never arrive."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgumentError("callback", f"{{}}: cannot be read: {error}") from None
    if not text:
        return None
    callback = callbacks.read(text)
    try:
        callbacks.check(callback, found)
    except Rejected as refusal:
        raise InvalidArgumentError("callback", f"{{}}: {refusal.reason}") from None
    return callback


def _put(
    client: Client,
    name: str,
    sources: Sequence[Path],
    found: Settings,
    callback: Callback | None,
    due_ms: int,
) -> list[Submitted]:
    with _progress("submitting", len(sources)) as step:

        def documents() -> Iterator[tuple[str, bytes | Rejected]]:
            for source in sources:
                yield from _documents(source)
                step(1)

        return list(
            submission.submit(
                client,
                name,
                documents(),
                settings=found,
                actor=actor(),
                callback=callback,
                due_ms=due_ms,
            )
        )


def _wait(client: Client, results: list[Submitted], timeout_s: float) -> None:
    """Follows each job to its end, and puts what became of it into `results`."""
    jobs = sum(1 for result in results if result.job)
    if jobs and (jobs < _BAR_MIN or not sys.stderr.isatty()):
        note(f"waiting for {jobs} to end, for at most {timeout_s:g} s")
    with _progress("working", len(results)) as step:
        for position, result in follow.follow(client, results, timeout_s=timeout_s):
            results[position] = result
            step(1)


def _sources(path: Path) -> list[Path]:
    """The files to submit for a path: itself, or the vCons and recordings of a folder.

    It warns of a folder's other files. A folder without any vCon or recording stands for itself;
    `_documents` refuses it.
    """
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    others: list[str] = []
    for file in sorted(path.rglob("*")):
        if file.is_file() and not file.name.startswith("."):
            if _is_wanted(file):
                found.append(file)
            else:
                others.append(recordings.readable(str(file.relative_to(path))))
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        names = ", ".join(others[:_NAMED]) + more
        note(f"warning: {path}: passed over, neither vCon nor known audio: {names}")
    return found or [path]


def _is_wanted(file: Path) -> bool:
    if file.suffix.lower() in (".json", ".jsonl", ".vcon"):
        return True
    try:
        return bool(recordings.media_type_of(file))
    except OSError:
        return True  # It is refused later, with the reason.


def _documents(path: Path) -> Iterator[tuple[str, bytes | Rejected]]:
    """The documents of a source, each with a name for messages; Rejected if it cannot be read."""
    label = "standard input" if path == Path("-") else recordings.readable(str(path))
    try:
        if path.is_dir():
            yield label, Rejected("there is no vCon and no recording in this folder")
            return
        if path != Path("-") and recordings.media_type_of(path):
            yield label, recordings.vcon_of(path)
            return
        raw = sys.stdin.buffer.read() if path == Path("-") else path.read_bytes()
    except OSError as error:
        yield label, Rejected(f"cannot be read: {error.strerror}")
        return
    except Rejected as refusal:
        yield label, refusal
        return
    if raw.strip() and not raw.lstrip(_BEFORE_JSON).startswith((b"{", b"[")):
        yield label, Rejected(recordings.NO_KNOWN_AUDIO)
        return
    found = submission.split(raw)
    if len(found) == 1:
        yield label, raw
    else:
        yield from ((f"{label}:{n}", one) for n, one in enumerate(found, 1))


def _warn_of_silence(client: Client, name: str) -> None:
    """Warns if no worker takes items from the list."""
    state = submission.readiness(client, name)
    if not state.hosts:
        note("warning: no host is running: what was submitted waits until one does")
    elif not state.served:
        hint = f" ({state.hint})" if state.hint else ""
        note(f"warning: no host that runs serves {name}{hint}")
    elif state.paused:
        note(f"warning: {name} is paused: `conserver resume {name}` ends that")


def _show(output: Output, name: str, results: Sequence[Submitted], *, wait: bool) -> None:
    refused = [result for result in results if result.outcome == "refused"]
    for result in refused:
        note(f"refused: {result.source}: {result.detail}")
    output.line(f"{len(results) - len(refused)} submitted to {name}")
    taken = [result for result in results if result.outcome != "refused"]
    if not wait:
        output.table(("source", "uuid", "job"), [(one.source, one.uuid, one.job) for one in taken])
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
    if not sys.stderr.isatty() or total < _BAR_MIN:
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.update(task, advance=count)
