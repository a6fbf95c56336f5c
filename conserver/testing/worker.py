"""SteppedWorker: a worker without its loop and its threads.

The calling thread does the work of the worker loop, the chain threads and the writers, in this
order: it claims, runs the links, writes the documents, saves to the storages, and settles. So a
breakpoint in a link stops the test's own thread, and no thread is left behind. Storages are called
without a circuit breaker: an unavailable one is called again in the next round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.plugins import loader
from conserver.plugins.loader import LoadedStorage, Plugins
from conserver.process import wakeup
from conserver.process.boot import Boot
from conserver.process.messages import pair
from conserver.process.shared_status import SharedStatus
from conserver.queue import host_calls
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.worker.checkpoint import Checkpoint
from conserver.worker.inbox import StorageReport, WorkerInbox
from conserver.worker.item import Item
from conserver.worker.parts import WorkerParts
from storage.contract import Document, Outcome, Storage, Unavailable

_FAST_S = 0.001


class SteppedWorker:
    """One registered worker. `close` ends it."""

    def __init__(self, config: Config, settings: Settings) -> None:
        """Loads the links and storages. Raises ConfigError."""
        plugins = loader.load(config)
        plugins.prepare()
        self._stack = ExitStack()
        self._boot, self._wake = self._make_boot(config, settings)
        redis_url = settings.redis_url.get_secret_value()
        self._redis = RetryingConnection(redis_url, self._boot.status.beat, log.get_logger())
        self._stack.callback(self._redis.close)
        self._inbox = _Inbox(self._boot.status, self._write_checkpoint)
        self._stack.callback(os.close, self._inbox.fileno())
        # No storages here, because WorkerParts would start a writer thread for each of them.
        self._parts = WorkerParts(self._boot, Plugins(plugins.links, {}), self._redis, self._inbox)
        writers: dict[str, Any] = self._parts.writers
        for name, loaded in plugins.storages.items():
            writer = _Writer(loaded, self._inbox)
            writers[name] = writer
            self._stack.callback(writer.close)
        for name in self._parts.queue.threads:
            # Pretend that links are fast, because a busy worker claims ahead only for fast chains.
            self._parts.intake.prefetch.durations.add(name, _FAST_S)
        self._register(config)

    def close(self) -> None:
        """Close the worker's storages and connections."""
        self._stack.close()

    def work(self) -> int:
        """Claim and run items until no list has one left. Returns the number of run items."""
        count = 0
        while items := self._claim():
            count += len(items)
            for item in items:
                self._parts.runner.run(item)
                self._parts.outcomes.chain_ended(item)
            self._finish()
        return count

    def _make_boot(self, config: Config, settings: Settings) -> tuple[Boot, Callable[[bytes], int]]:
        supervisor, supervisor_end = pair()
        coordinator, coordinator_end = pair()
        lifeline, lifeline_end = os.pipe2(os.O_CLOEXEC)
        for end in (supervisor, supervisor_end, coordinator, coordinator_end):
            self._stack.callback(end.close)
        for descriptor in (lifeline, lifeline_end):
            self._stack.callback(os.close, descriptor)
        status = SharedStatus.create("stepped-worker")
        self._stack.callback(status.close)
        boot = Boot(
            role="worker",
            slot=1,
            workers=1,
            host=os.urandom(8).hex(),
            consumer=os.urandom(8).hex(),
            config=config,
            settings=settings,
            supervisor=supervisor_end,
            coordinator=coordinator_end,
            worker_ends=[],
            status=status,
            statuses=[],
            lifeline=lifeline,
        )
        return boot, coordinator.send

    def _register(self, config: Config) -> None:
        boot = self._boot
        self._redis.call(host_calls.register(boot.host, boot.consumer, config.ingress))

    def _claim(self) -> list[Item]:
        """Claim. Items that only owe storages are stored at once; returns the items with links to
        run.
        """
        parts = self._parts
        self._wake(wakeup.WAKE)
        parts.intake.schedule.receive()
        parts.queue._idle = 1  # As if a chain thread waited in take().
        parts.intake.claim()
        self._finish()
        return parts.queue.take_back(float("inf"), begun=True)[::-1]

    def _finish(self) -> None:
        """Send to Redis and save to storages until no report and no call is left."""
        parts, reports = self._parts, self._inbox.reports
        answered = True
        while answered or parts.outbox.waiting:
            parts.outbox.flush()
            parts.outcomes.flush()
            answered = bool(reports)
            while reports:
                report = reports.popleft()
                if report.looked_up is not None:
                    parts.documents.storage_answered(report)
                else:
                    parts.outcomes.storage_answered(report)

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._parts.outbox.write_checkpoint(checkpoint)
        while not checkpoint.finished.is_set():
            self._finish()


class _Inbox(WorkerInbox):
    """Lets the calling thread write its checkpoints."""

    def __init__(self, status: SharedStatus, write: Callable[[Checkpoint], None]) -> None:
        super().__init__(status)
        self._write = write

    def checkpoint(self, item: Item) -> None:
        item.dump_vcon()
        checkpoint = Checkpoint(item)
        self._write(checkpoint)
        if checkpoint.error is not None:
            raise checkpoint.error


class _Writer:
    """Calls a storage in the calling thread, and reports as worker.writers.Writer does."""

    has_hung_calls = has_too_many_hung_calls = is_away = False

    def __init__(self, loaded: LoadedStorage, inbox: WorkerInbox) -> None:
        self.name = loaded.name
        self._loaded = loaded
        self._inbox = inbox
        self._storage: Storage | None = None

    def save(self, items: Sequence[Item]) -> None:
        """Save the documents of these items."""
        # Of several items with one uuid, keep the one with the highest revision.
        rows = {item.uuid: item for item in sorted(items, key=lambda item: item.revision)}
        documents = [self._document(rows[uuid]) for uuid in sorted(rows)]
        outcomes: dict[str, Outcome] = {}
        try:
            answers = self._opened().save_many(documents)
            outcomes = {d.uuid: answer for d, answer in zip(documents, answers, strict=True)}
        except Exception as error:  # noqa: BLE001 - any exception means Unavailable
            self.close()
            outcomes = dict.fromkeys(rows, Unavailable(f"{type(error).__name__}: {error}"))
        self._inbox.report(StorageReport(self.name, [(i, outcomes[i.uuid]) for i in items]))

    def look_up(self, item: Item) -> None:
        """Ask the storage for the item's document."""
        try:
            report = StorageReport(self.name, [], item, self._opened().get(item.uuid))
        except Exception as error:  # noqa: BLE001 - as above
            self.close()
            away = Unavailable(f"{type(error).__name__}: {error}")
            report = StorageReport(self.name, [(item, away)], item)
        self._inbox.report(report)

    def close(self) -> None:
        """Close the storage; the next call opens it again."""
        storage, self._storage = self._storage, None
        if storage is not None:
            storage.close()

    def _opened(self) -> Storage:
        if self._storage is None:
            storage = self._loaded.make()
            storage.open()
            self._storage = storage
        return self._storage

    def _document(self, item: Item) -> Document:
        etag = item.progress.etags.get(self.name) or item.claimed.etags.get(self.name)
        return Document(item.uuid, item.text, item.revision, etag)
