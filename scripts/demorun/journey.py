"""The way of the demo's recordings: onto the list, to the egress list, and out of the storages.

Arrived means: its uuid came out at the egress list, which happens once everything is stored, and
both storages have it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conserver.operations import hosts
from conserver.operations.connection import Client
from conserver.operations.dead_letters import Filter, described, select
from conserver.queue import keys
from conserver.vcon.document import Vcon, decode_body
from demorun.stage import EGRESS, INGRESS, ROOT, Stage, StageError
from storage.contract import Hit
from storage.sqlite import Options, Storage

_LOOK_S = 0.25
_GLANCE_S = 0.005
_PATIENCE_S = 600
_HITS_MAX = 20
_TRIES = 3  # Where nothing has come out, a link that failed so often will not do better.
_COMMAND_TIMEOUT_S = 60


@dataclass(slots=True)
class Recording:
    """One recording, and what became of it."""

    path: str
    uuid: str
    outcome: str = "waiting"  # then "arrived" or "dead"; "refused" never went on its way
    why: str = ""
    times: int = 0  # how often its uuid came out
    duration_s: float | None = None
    channels: int = 1
    lines: list[tuple[str, str]] = field(default_factory=list)  # who, and what they said
    tags: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    in_sqlite: bool = False

    @property
    def arrived(self) -> bool:
        """Whether it is everywhere it should be, and came out once."""
        stored = self.file is not None and self.in_sqlite
        return self.outcome == "arrived" and self.times == 1 and stored


def submit(stage: Stage, paths: Sequence[Path]) -> list[Recording]:
    """`conserver submit`. Raises StageError if it cannot work at all."""
    words = [sys.executable, "-m", "conserver", "submit", "--list", INGRESS, "--json"]
    done = subprocess.run(
        [*words, *(str(path) for path in paths)],
        cwd=ROOT,
        env=stage.environment(),
        capture_output=True,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )
    if not done.stdout:
        raise StageError(f"conserver submit: {done.stderr.strip()}")
    recordings = []
    for item in json.loads(done.stdout)["items"]:
        recording = Recording(path=item["source"], uuid=item["uuid"])
        if item["outcome"] == "refused":
            recording.outcome, recording.why = "refused", item["detail"]
        recordings.append(recording)
    return recordings


@contextmanager
def held_back(stage: Stage) -> Iterator[None]:
    """Inside, nobody takes from the list (`conserver pause` does the same)."""
    field = keys.paused(INGRESS)
    stage.client.hset(keys.CONTROL, field, str(int(time.time() * 1000)))
    try:
        yield
    finally:
        stage.client.hdel(keys.CONTROL, field)


def wait_until_at_work(stage: Stage) -> None:
    """Returns as soon as a worker holds one of the recordings."""
    began_s = time.monotonic()
    while not hosts.in_flight(stage.client):
        if time.monotonic() - began_s > _PATIENCE_S:
            raise StageError("nobody takes the recordings")
        stage.check()
        time.sleep(_GLANCE_S)


def follow(
    stage: Stage,
    recordings: Sequence[Recording],
    step: Callable[[], None],
    told: Callable[[str], None],
) -> None:
    """Takes uuids from the egress list until each recording has come out or is a dead letter.

    `step` is called for each; `told` gets what is tried again, and why.
    Raises StageError if the daemon ends, if all that happens is that links fail again and again, or
    if nothing happens for ten minutes.
    """
    pending = {one.uuid: one for one in recordings if one.outcome == "waiting"}
    last_s = time.monotonic()
    failures: set[str] = set()
    while pending:
        stage.check()
        ended = dict.fromkeys(_come_out(stage, recordings, _LOOK_S), "arrived")
        dead: Client = stage.client.lrange(f"DLQ:{INGRESS}", 0, -1)
        ended |= {uuid.decode(): "dead" for uuid in dead if uuid.decode() in pending}
        for uuid, outcome in ended.items():
            recording = pending.pop(uuid, None)
            if recording is not None:
                recording.outcome, last_s = outcome, time.monotonic()
                step()
        for line in stage.events("attempt_failed"):
            if line["error"] not in failures:
                failures.add(line["error"])
                told(f"{line['link']} will be tried again: {line['error']}")
            if line["attempt"] >= _TRIES and all(one.outcome == "waiting" for one in recordings):
                raise StageError(f"{line['link']} has failed {_TRIES} times: {line['error']}")
        if time.monotonic() - last_s > _PATIENCE_S:
            raise StageError(f"nothing has happened for {_PATIENCE_S} s: see {stage.log_file}")


def collect(stage: Stage, recordings: Sequence[Recording]) -> None:
    """Ends the daemon, so that nothing more can come out, and fills in what the storages have."""
    for recording in recordings:
        if recording.outcome == "dead":
            wanted = Filter(names=(INGRESS,), uuids=(recording.uuid,))
            letter = next(select(stage.client, wanted), None)
            recording.why = described(letter) if letter is not None else "no reason was left"
    stage.stop_daemon()
    while _come_out(stage, recordings, 0.01):
        continue
    with database(stage.database) as sqlite:
        for recording in recordings:
            text = sqlite.get(recording.uuid)
            recording.in_sqlite = text is not None
            recording.file = next(stage.files.glob(f"*/*/*/{recording.uuid}.json"), None)
            if text is not None:
                _describe(recording, Vcon.parse(text))


def search(path: Path, query: str) -> Sequence[Hit]:
    """What the full-text index of sqlite finds."""
    with database(path) as sqlite:
        return sqlite.search(query, _HITS_MAX).hits


@contextmanager
def database(path: Path) -> Iterator[Storage]:
    """The demo's sqlite storage."""
    sqlite = Storage("sqlite", Options(path=path))
    sqlite.open()
    try:
        yield sqlite
    finally:
        sqlite.close()


def _come_out(stage: Stage, recordings: Sequence[Recording], timeout_s: float) -> list[str]:
    """Waits for a uuid at the egress list, and takes it; counts it if it is one of ours."""
    answer: Client = stage.client.blpop([EGRESS], timeout=timeout_s)
    if answer is None:
        return []
    uuid = answer[1].decode("utf-8", "replace")
    for recording in recordings:
        if recording.uuid == uuid:
            recording.times += 1
    return [uuid]


def _describe(recording: Recording, vcon: Vcon) -> None:
    recording.tags = vcon.tags
    for dialog in vcon.dialogs:
        parties = dialog.get("parties")
        recording.channels = len(parties) if isinstance(parties, list) else 1
        recording.duration_s = dialog.get("duration")
    for analysis in vcon.analysis:
        if analysis.get("type") == "transcript":
            recording.lines += _spoken(decode_body(analysis))


def _spoken(body: Any) -> Iterator[tuple[str, str]]:
    for paragraph in body["paragraphs"]["paragraphs"]:
        text = " ".join(sentence["text"] for sentence in paragraph["sentences"])
        yield str(paragraph.get("label", "")), text
