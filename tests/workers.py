"""Workers for tests: the real parts of a worker on a real Redis, with links that are functions of
the test and storages in memory.

    SteppedWorker   no thread runs: the test claims, runs links, takes storages' answers and flushes
                    step by step, in the order that it wants
    RunningWorker   the worker loop in a thread of the test, with its chain threads and writers

The test has the other ends of the worker's sockets: it is the supervisor and the coordinator.
"""

from __future__ import annotations

import os
import threading
import uuid as uuidlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import orjson
import structlog

from conserver.config.model import ChainConfig, Config, LinkConfig, StorageConfig
from conserver.config.notifications import with_notifications
from conserver.config.settings import Settings
from conserver.plugins import loader
from conserver.plugins.loader import LoadedLink, LoadedStorage, Plugins
from conserver.process import wakeup
from conserver.process.boot import Boot
from conserver.process.messages import pair, receive, send
from conserver.process.shared_status import SharedStatus
from conserver.queue import clients as connection
from conserver.queue import host_calls, keys
from conserver.queue.retrying_connection import RetryingConnection
from conserver.vcon.document import Vcon
from conserver.worker.checkpoint import Checkpoint
from conserver.worker.inbox import StorageReport, WorkerInbox
from conserver.worker.item import Item
from conserver.worker.loop import WorkerLoop
from conserver.worker.parts import WorkerParts
from tests.daemon import vcon
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import Queue

Run = Callable[[Vcon, Any], Vcon | None]
FAST_S = 0.0005


def link(name: str, run: Run, **fields: Any) -> LoadedLink:
    """A link that is a function of (vcon, context)."""
    return LoadedLink(
        name=name,
        module="test",
        run=lambda vcon, _options, context: run(vcon, context),
        options=None,
        **fields,
    )


def tag(vcon: Vcon, _context: Any) -> Vcon:
    """A link that changes the vCon."""
    vcon.add_tag("seen", "yes")
    return vcon


def nothing(vcon: Vcon, _context: Any) -> Vcon:
    """A link that changes nothing."""
    return vcon


def storage(name: str, timeout_s: float = 30.0) -> LoadedStorage:
    """A storage in memory; memory.shelf(name) has its documents."""
    options = memory.Options(shelf=name, timeout_s=timeout_s)
    return LoadedStorage(
        name=name,
        module="tests.modules.memory",
        make=lambda: memory.Storage(name, options),
        options=options,
    )


def document(uuid: str, **members: Any) -> bytes:
    """A small vCon."""
    return orjson.dumps(vcon(uuid, **members))


class WorkerSetup:
    """What a supervisor gives to a worker, and the other ends of the sockets."""

    def __init__(
        self,
        url: str,
        chains: Mapping[str, Mapping[str, Any]] | None = None,
        links: Sequence[LoadedLink] = (),
        storages: Sequence[LoadedStorage] = (),
        *,
        delivers: bool = False,
        **settings: Any,
    ) -> None:
        """chains: as in a configuration; by default one, "main", from list "in" to "out", with all
        links and storages. delivers: with the built-in chain for callbacks, as real workers have.
        """
        everything = {
            "links": [one.name for one in links],
            "storages": [one.name for one in storages],
            "ingress_lists": ["in"],
            "egress_lists": ["out"],
        }
        chains = {"main": {}} if chains is None else chains
        config = Config(
            links={one.name: LinkConfig(module="test") for one in links},
            storages={one.name: StorageConfig(module="test") for one in storages},
            chains={
                name: ChainConfig.model_validate({**everything, **chain})
                for name, chain in chains.items()
            },
        )
        self.plugins = Plugins(
            {one.name: one for one in links}, {one.name: one for one in storages}
        )
        if delivers:
            given = Settings.model_validate(settings)
            built_in = loader.load(with_notifications(Config(), given))
            self.plugins = Plugins({**self.plugins.links, **built_in.links}, self.plugins.storages)
            config = with_notifications(config, given)
        self.stack = ExitStack()
        self.client: Any = self.stack.enter_context(connection.client(url))
        self.queue = Queue(self.client)
        self.supervisor, supervisor_end = pair()
        self.coordinator, coordinator_end = pair()
        lifeline, self.lifeline_end = os.pipe2(os.O_CLOEXEC)
        self.status = SharedStatus.create("test")
        self.boot = Boot(
            role="worker",
            slot=1,
            workers=1,
            host=os.urandom(8).hex(),
            consumer=os.urandom(8).hex(),
            config=config,
            settings=Settings.model_validate({"redis_url": url, **settings}),
            supervisor=supervisor_end,
            coordinator=coordinator_end,
            worker_ends=[],
            status=self.status,
            statuses=[],
            lifeline=lifeline,
        )
        for end in (self.supervisor, supervisor_end, self.coordinator, coordinator_end):
            self.stack.callback(end.close)
        self.stack.callback(self.cut_lifeline)
        self.stack.callback(os.close, lifeline)
        self.queue.run(host_calls.register(self.boot.host, self.boot.consumer, config.ingress))

    def cut_lifeline(self) -> None:
        """Close the pipe, as the death of the supervisor does."""
        if self.lifeline_end >= 0:
            os.close(self.lifeline_end)
            self.lifeline_end = -1

    @property
    def inflight(self) -> int:
        """How many items the worker holds, as Redis has it."""
        return int(self.client.hlen(keys.inflight(self.boot.consumer)))

    def supply(self, count: int, name: str = "in", **members: Any) -> list[str]:
        """Store so many documents and push their uuids on a list. Returns the uuids."""
        uuids = [str(uuidlib.uuid4()) for _ in range(count)]
        pipe = self.client.pipeline(transaction=False)
        for uuid in uuids:
            pipe.set(f"vcon:{uuid}", document(uuid, **members))
            pipe.rpush(name, uuid)
        pipe.execute()
        return uuids

    def sent_to_coordinator(self) -> list[bytes]:
        """The messages to the coordinator since the last call, one by one."""
        messages: list[bytes] = []
        while True:
            try:
                messages += [bytes((byte,)) for byte in self.coordinator.recv(64)]
            except BlockingIOError:
                return messages

    def out(self, name: str = "out") -> list[str]:
        """What an egress list has."""
        return [element.decode() for element in self.queue.waiting(name)]


class SteppedWorker(WorkerSetup):
    """A worker without its loop and its chain threads: each step is a method call of the test."""

    def __init__(
        self,
        url: str,
        *arguments: Any,
        before_command: Callable[[SteppedWorker, tuple[Any, ...]], None] | None = None,
        **settings: Any,
    ) -> None:
        """before_command: called before each command of the worker, to change Redis in between.

        `idle` is whether its chain thread, which is never started, counts as idle.
        """
        self.idle = True
        super().__init__(url, *arguments, **settings)
        self.redis = _WatchedConnection(url, self.status.beat, structlog.get_logger())
        self.redis.before = lambda words: before_command(self, words) if before_command else None
        self.stack.callback(self.redis.close)
        self.inbox = _SteppedInbox(self)
        self.stack.callback(os.close, self.inbox.fileno())
        self.stack.callback(self.status.close)
        parts = WorkerParts(self.boot, self.plugins, self.redis, self.inbox)
        self.held, self.work_queue, self.writers = parts.held, parts.queue, parts.writers
        self.documents, self.runner = parts.documents, parts.runner
        self.intake, self.outbox, self.outcomes = parts.intake, parts.outbox, parts.outcomes
        self.story_writer = parts.story_writer
        self.schedule, self.durations = parts.intake.schedule, parts.intake.prefetch.durations
        for name in self.work_queue.threads:
            self.durations.add(name, FAST_S)  # otherwise a busy thread gets no items ahead

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()

    def sent_to_coordinator(self) -> list[bytes]:
        """Those that wait to be sent are sent first."""
        self.schedule.sender.flush()
        return super().sent_to_coordinator()

    def receive(self, message: bytes = wakeup.WAKE) -> None:
        """The coordinator sends a message."""
        self.coordinator.send(message)
        self.schedule.receive()

    def claim(self) -> list[Item]:
        """Wake the worker and let it claim. Returns the items whose links are to be run."""
        self.receive()
        self.claim_if_due()
        return self.take_queued()

    def claim_if_due(self) -> None:
        """What the worker loop does in each turn."""
        self.work_queue._idle = int(self.idle)
        assert self.intake.claim()

    def take_queued(self) -> list[Item]:
        """Take the items that wait for a chain thread."""
        return self.work_queue.take_back(float("inf"), begun=True)[::-1]

    def claim_one(self) -> Item:
        """Claim exactly one item whose links are to be run."""
        [item] = self.claim()
        return item

    def run(self, *items: Item) -> None:
        """Run items through their links and let their outcomes be handled."""
        for item in items:
            self.runner.run(item)
            self.outcomes.chain_ended(item)

    def flush(self) -> None:
        """Send what the outbox has, until nothing follows from it any more."""
        self.outbox.flush()
        while self.outbox.waiting:
            self.outbox.flush()

    def store(self) -> None:
        """Send, hand over to the writers, handle one report of theirs, and send again."""
        self.flush()
        self.outcomes.flush()
        self.receive_report()
        self.flush()

    def receive_report(self) -> StorageReport:
        """Wait for one report of a writer and handle it."""
        eventually(lambda: self.inbox.reports)
        report = self.inbox.reports.popleft()
        if report.looked_up is not None:
            self.documents.storage_answered(report)
        else:
            self.outcomes.storage_answered(report)
        return report

    def run_queued(self) -> None:
        """Run and send all that has been claimed."""
        self.run(*self.take_queued())
        self.flush()

    def work(self) -> None:
        """Claim, run and send all that waits; without storages."""
        while items := self.claim():
            self.run(*items)
            self.flush()


class _SteppedInbox(WorkerInbox):
    """Writes checkpoints in the thread that asks for them, because no worker loop runs."""

    def __init__(self, worker: SteppedWorker) -> None:
        super().__init__(worker.status)
        self._worker = worker

    def checkpoint(self, item: Item) -> None:
        item.dump_vcon()
        checkpoint = Checkpoint(item)
        self._worker.outbox.write_checkpoint(checkpoint)
        self._worker.flush()
        while not checkpoint.finished.is_set():  # its document is looked up in the storages
            self._worker.receive_report()
            self._worker.flush()
        if checkpoint.error is not None:
            raise checkpoint.error


class _WatchedConnection(RetryingConnection):
    """Calls `before` with the words of each command and hint before it is sent."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.before: Callable[[tuple[Any, ...]], None] = lambda _words: None

    def _once(self, words: tuple[Any, ...], claims: bool) -> Any:
        self.before(words)
        return super()._once(words, claims)

    def hints(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        for words in commands:
            self.before(tuple(words))
        return super().hints(commands)


class RunningWorker(WorkerSetup):
    """A whole worker, whose loop runs in a thread of the test.

    Its SharedStatus and its inbox are never closed: its chain threads live as long as the process.
    """

    def __init__(self, url: str, *arguments: Any, **settings: Any) -> None:
        super().__init__(url, *arguments, **settings)
        self.loop = WorkerLoop(self.boot, self.plugins)
        self.failure: BaseException | None = None
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, name="worker-loop", daemon=True)

    def _run(self) -> None:
        try:
            self.code = self.loop.run()
        except BaseException as error:  # joined() raises it in the test  # noqa: BLE001
            self.failure = error

    def start(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                assert self.drain() == 0
        finally:
            self.close()

    def close(self) -> None:
        """End it as the death of its supervisor does, and close everything."""
        self.cut_lifeline()
        if self._thread.ident is not None:
            self._thread.join(60)
        self.loop._redis.close()
        self.stack.close()

    def send_drain(self) -> None:
        """The supervisor's message."""
        send(self.supervisor, {"type": "drain"})

    def drain(self) -> int | None:
        """Let it drain. Returns its exit code, or raises what its loop has raised."""
        self.send_drain()
        return self.joined()

    def joined(self) -> int | None:
        """Wait for its end. Returns its exit code, or raises what its loop has raised."""
        self.wait_for_end()
        if self.failure is not None:
            raise self.failure
        return self.code

    def wait_for_end(self) -> None:
        """Wait until the loop has ended in any way."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "it did not end"

    def sent_to_supervisor(self) -> list[str]:
        """The types of the messages to the supervisor since the last call."""
        return [message["type"] for message in receive(self.supervisor)]
