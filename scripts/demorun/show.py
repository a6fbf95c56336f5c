"""What the demo prints: its steps, each recording with what became of it, and what to try next."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from demorun.journey import Recording
from demorun.stage import EGRESS, INGRESS, ROOT, Stage
from storage.contract import Hit

_WIDTH_OF_FILES = 100
_WIDTH_MAX = 110
_SQL = """\
SELECT uuid, snippet(vcons_text, -1, '[', ']', '…', 12)
FROM vcons_text JOIN vcons ON vcons.id = vcons_text.rowid
WHERE vcons_text MATCH '{query}' ORDER BY rank"""


class Show:
    """A console, and how the demo speaks on it."""

    def __init__(self) -> None:
        on_terminal = sys.stdout.isatty()
        self._console = Console(width=None if on_terminal else _WIDTH_OF_FILES, highlight=False)
        if self._console.width > _WIDTH_MAX and on_terminal:
            self._console.width = _WIDTH_MAX

    def title(self) -> None:
        """What this is."""
        self._console.print("\n[bold]Conserver[/bold]: recordings in, transcripts stored\n")

    def step(self, text: str) -> None:
        """Something has been done."""
        self._console.print(Text.assemble((" ✓ ", "green"), text))

    def note(self, text: str) -> None:
        """Something that a person ought to know."""
        self._console.print(Text.assemble((" ! ", "yellow"), text))

    def error(self, text: str) -> None:
        """Why the demo failed; on standard error."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            Text.assemble(("demo: ", "red"), text)
        )

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[], None]]:
        """A bar that the yielded function moves on by one recording."""
        columns = (
            TextColumn(" … transcribing, tagging, storing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=total)
            yield lambda: bar.advance(task)

    def recordings(self, stage: Stage, recordings: Sequence[Recording]) -> None:
        """One box for each."""
        self._console.print()
        for recording in recordings:
            self._console.print(_panel(stage, recording))

    def death(self, stage: Stage, pid: int) -> None:
        """What the daemon has logged about the killed worker."""
        shown = {
            "child_died": "its death was noticed",
            "items_returned": "what it held went back to the queue",
            "child_ready": "its replacement was ready",
        }
        self.step(f"worker {pid} was killed (kill -9) while it worked; then, as the log has it,")
        seen_death = False
        for name, at, meaning in _merged(stage, shown):
            seen_death = seen_death or name == "child_died"
            if seen_death:
                self._console.print(f"     {at[11:23]}  {name:15} {meaning}")

    def search(self, path: Path, query: str, hits: Sequence[Hit]) -> None:
        """What was found, and how to ask it of the database itself."""
        title = Text.assemble("\nSearching ", (short(path), "bold"), " for ", (query, "bold"))
        self._console.print(title)
        for hit in hits:
            words = hit.snippet
            for begin, end in reversed(hit.marks):
                words = f"{words[:begin]}[{words[begin:end]}]{words[end:]}"
            line = Text(f"   {hit.uuid}  {hit.subject:12}  " + words.replace("\n", " "))
            self._console.print(line, no_wrap=True, overflow="ellipsis")
        if not hits:
            self._console.print("   nothing")
        sql = _SQL.format(query=query.replace("'", "''"))
        self._console.print(Padding(Text(sql, style="dim"), (1, 0, 0, 3)))

    def next_steps(self, stage: Stage) -> None:
        """What a newcomer may want to do now."""
        rows = (
            ("scripts/demo call.wav", "your own, in English; --model small for other languages"),
            ("scripts/demo --kill", "kill the worker at work: nothing is lost or doubled"),
            ("scripts/demo --stay", "leave it running, to look at from another terminal"),
            ("scripts/demo --search seven", "look for words in all that is stored"),
            (f"less {short(stage.config_file)}", "the configuration of this demo"),
            ("docs/quickstart.md", "your own configuration, on your own Redis"),
        )
        self._console.print("\n[bold]What next[/bold]")
        self._console.print(_grid(rows))
        self._console.print(f"\nAll data is in {short(stage.folder)}; nothing is left running.\n")

    def stay(self, stage: Stage) -> None:
        """How to reach the running demo from another terminal."""
        conserver = short(ROOT / ".venv" / "bin" / "conserver")
        rows = (
            ("where it is", f"export REDIS_URL={stage.redis_url}"),
            ("", f"export CONSERVER_CONFIG_FILE={short(stage.config_file)}"),
            ("lists, hosts, workers, and what they are at", f"{conserver} status --watch 1"),
            ("more recordings", f"{conserver} submit --wait {short(ROOT / 'scripts/data/calls')}"),
            ("kill the worker, then look at its status again", f"kill -9 {stage.worker_pid()}"),
            ("the uuids that have come out", f"redis-cli -p {stage.port} LRANGE {EGRESS} 0 -1"),
            ("the log", f"tail -f {short(stage.log_file)}"),
        )
        self._console.print("\n[bold]It is running.[/bold] In another terminal, from here:")
        for meaning, command in rows:
            if meaning:
                self._console.print(Text(f"\n   # {meaning}", style="dim"))
            self._console.print(Text(f"   {command}", style="cyan"), soft_wrap=True)
        self._console.print(f"\nThe list is `{INGRESS}`. Ctrl-C here ends it.")
        if stage.dashboard:
            self._console.print(f"[bold]The dashboard: {stage.dashboard}[/bold]")
        self._console.print()


def short(path: Path) -> str:
    """A path as it is typed from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("../..") else relative


def _panel(stage: Stage, recording: Recording) -> Panel:
    said = Table.grid(padding=(0, 2))
    for who, text in recording.lines:
        said.add_row(Text(who, style="cyan"), Text(text))
    if recording.in_sqlite and not recording.lines:
        said.add_row(Text("(nobody speaks)", style="dim"))
    facts = Table.grid(padding=(0, 2))
    if recording.outcome != "arrived":
        facts.add_row(Text(recording.outcome, style="red"), Text(recording.why))
    if recording.tags:
        tags = ", ".join(f"{name}:{value}" for name, value in recording.tags.items())
        facts.add_row(Text("tags", style="dim"), Text(tags))
    if recording.in_sqlite:
        where = f"{short(stage.database)}, uuid {recording.uuid}"
        facts.add_row(Text("stored", style="dim"), Text(where, overflow="fold"))
    if recording.file is not None:
        facts.add_row(Text("", style="dim"), Text(short(recording.file), overflow="fold"))
    length = "" if recording.duration_s is None else f" · {recording.duration_s:.1f} s"
    parties = f" · {recording.channels} parties" if recording.channels > 1 else ""
    title = Text.assemble((Path(recording.path).name, "bold"), length, parties)
    color = "green" if recording.arrived else "red"
    content = Group(said, Text(), facts) if said.rows else facts
    return Panel(content, title=title, title_align="left", border_style=color)


def _grid(rows: Sequence[tuple[str, str]]) -> Padding:
    grid = Table.grid(padding=(0, 3))
    # Commands are there to be copied: a narrow terminal shortens what is said of them instead.
    grid.add_column(min_width=max(len(command) for command, _ in rows))
    grid.add_column()
    for command, meaning in rows:
        grid.add_row(Text(command, style="cyan", no_wrap=True), Text(meaning))
    return Padding(grid, (1, 0, 0, 3))


def _merged(stage: Stage, shown: dict[str, str]) -> list[tuple[str, str, str]]:
    found = [
        (str(line["timestamp"]), name, meaning)
        for name, meaning in shown.items()
        for line in stage.events(name)
        if line.get("child", "worker 1") == "worker 1"
    ]
    return [(name, at, meaning) for at, name, meaning in sorted(found)]
