"""Tiny workers and a tiny coordinator without Redis: real processes for tests of the supervisor.

As a program this is a supervisor with these children:

    python -m tests.process.children FOLDER

FOLDER/scenario.json tells the children what to do (`Scenario`). They append what they have done to
FOLDER/journal.jsonl, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conserver.config.model import ChainConfig, Config, LinkConfig
from conserver.config.settings import Settings
from conserver.errors import BootError, ConfigError, Problem
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import Phase, State
from conserver.supervisor.entries import Entries
from conserver.supervisor.supervisor import run

BEAT_S = 0.05
ENTRIES = Entries("tests.process.children:worker", "tests.process.children:coordinator")


@dataclass(frozen=True)
class Scenario:
    """What the children of one test do, and with which settings."""

    worker: str = "idle"
    """What the first worker of a slot does."""
    later: str = "idle"
    """What every later worker of a slot does."""
    coordinator: str = "busy"
    mark: str = ""
    """Written to the journal by every child: which scenario it was started with."""
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it for the start of the supervisor, or for its next reload."""
        fresh = folder / "scenario.new"
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(folder / "scenario.json")


def load(folder: Path) -> tuple[Settings, Config]:
    """The scenario as settings, and as a configuration that transports it to the children."""
    try:
        scenario = Scenario(**json.loads((folder / "scenario.json").read_text()))
    except ValueError as error:
        raise ConfigError([Problem("scenario.json", str(error))]) from None
    options = {**asdict(scenario), "folder": str(folder)}
    config = Config(
        # No chain uses this link, so its module is not imported.
        links={"scenario": LinkConfig(module="scenario", options=options)},
        chains={"chain": ChainConfig(ingress_lists=["calls", "chats"])},
    )
    return Settings(log_format="json", **scenario.settings), config


class Journal:
    """The file in which a child notes what it does."""

    def __init__(self, boot: Boot) -> None:
        self.options = boot.config.links["scenario"].options
        self._path = Path(self.options["folder"]) / "journal.jsonl"
        self._who = f"worker-{boot.slot}" if boot.role == "worker" else boot.role

    def write(self, event: str, **fields: Any) -> None:
        line = {"who": self._who, "event": event, "pid": os.getpid(), "at": time.monotonic()}
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps({**line, **fields}).encode() + b"\n")

    def starts(self) -> int:
        """How many children were started in this slot so far."""
        events = complete_lines(self._path)
        return sum(event["who"] == self._who and event["event"] == "started" for event in events)


def complete_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file that others append to; a half-written last line is left out."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1] if line.startswith("{")]


def descriptors() -> list[str]:
    """The open descriptors of this process, as the paths that /proc shows."""
    links = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(path.readlink()))
        except OSError:
            continue  # the descriptor of the listing itself
    return sorted(links)


def worker(boot: Boot) -> int:
    """One worker that behaves as the scenario says."""
    journal = Journal(boot)
    first = journal.starts() == 0
    does = journal.options["worker" if first else "later"]
    journal.write(
        "started",
        consumer=boot.consumer,
        descriptors=descriptors(),
        mark=journal.options["mark"],
        does=does,
        imported="typer" in sys.modules or "pytest" in sys.modules,
    )
    if does == "misconfigured":
        raise BootError("links.nonsense: there is no such module", 78)
    if does == "broken":
        raise RuntimeError("a bug at the start")
    if does == "dies before it is ready":
        os._exit(5)
    _show_items(boot, does)  # before it is ready: tests kill it once it is
    if does != "never ready":
        boot.send("ready")
        boot.status.state = State.IDLE
    if does == "dies":
        os._exit(3)
    if does == "void":
        boot.send("void")
        return 0
    if does == "breaks the protocol":
        boot.send("failed")  # without its fields, which the supervisor does not expect
    if does == "retires":
        boot.status.count(done=1)
        boot.send("retiring", reason="enough done")
        return 0
    return _wait(boot, journal, does)


def _show_items(boot: Boot, does: str) -> None:
    status = boot.status
    if does in ("holds items", "stalls", "does not drain"):
        status.hold(0, "token-held", 1, "uuid-held", "chain")
        status.hold(1, "token-running", 2, "uuid-running", "chain")
        status.start_link(1, "links.slow")
        status.hold(2, "token-storing", 3, "uuid-storing", "chain")
        status.set_phase(2, Phase.FINISHING)
    if does in ("slow link", "slow chain"):
        status.hold(0, "token-held", 1, "uuid-held", "chain")
        status.hold(1, "token-running", 2, "uuid-running", "chain")
        status.start_link(1, "links.other")
        status.hold(2, "token-slow", 3, "uuid-slow", "chain")
        link_s, chain_s = (0.4, 0.0) if does == "slow link" else (0.0, 0.4)
        status.start_link(2, "links.endless", link_s, chain_s)
    if does == "works":
        status.count(done=90, failed=10)
    if does == "grows":
        status.count(done=1)
        status.set_memory(1 << 40)


def _wait(boot: Boot, journal: Journal, does: str) -> int:
    """Beat until asked to drain."""
    stop = boot.stop
    assert stop is not None
    poll = select.poll()
    for descriptor in (boot.supervisor.fileno(), boot.lifeline, stop.fileno()):
        poll.register(descriptor, select.POLLIN)
    while True:
        if does != "stalls":
            boot.status.beat()
        ready = {descriptor for descriptor, _ in poll.poll(BEAT_S * 1000)}
        if boot.lifeline in ready:
            journal.write("orphaned")
            return 0
        stop.clear()
        asked = "signal" if stop.requested else ""
        if any(message["type"] == "drain" for message in receive(boot.supervisor)):
            asked = "order"
        if asked and does not in ("does not drain", "stalls"):
            for item in boot.status.read().items:
                boot.status.free(item.slot)  # finished or released
            journal.write("drained", by=asked)
            return 0


def coordinator(boot: Boot) -> int:
    """A coordinator that notes and acknowledges every order."""
    journal = Journal(boot)
    first = journal.starts() == 0
    does = journal.options["coordinator"] if first else "busy"
    journal.write("started", descriptors=descriptors(), mark=journal.options["mark"], does=does)
    if does == "misconfigured":
        raise BootError("Redis does not answer at redis://nowhere", 69)
    if does == "never ready":
        poll = select.poll()
        poll.register(boot.lifeline, select.POLLIN)
        while not poll.poll(BEAT_S * 1000):
            boot.status.beat()
        return 0
    boot.send("ready")
    poll = select.poll()
    poll.register(boot.supervisor.fileno(), select.POLLIN)
    poll.register(boot.lifeline, select.POLLIN)
    while True:
        boot.status.beat()
        ready = {descriptor for descriptor, _ in poll.poll(BEAT_S * 1000)}
        if boot.lifeline in ready:
            journal.write("orphaned")
            return 0
        for message in receive(boot.supervisor):
            journal.write("received", message=message)
            if message["type"] == "drain":
                return 0
            if does == "keeps the last orders" and message["type"] == "return":
                continue
            if "order" in message and does != "acknowledges nothing":
                if does == "dies with the first return" and message["type"] == "return":
                    os._exit(9)
                boot.send("acknowledged", order=message["order"])


def main(folder: Path) -> int:
    """Run a supervisor with the children above."""
    settings, config = load(folder)
    return run(settings, config, lambda: load(folder), ENTRIES)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
