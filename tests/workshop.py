"""A worker in the hands of a test: real parts, a real Redis, storages in memory, links of straw.

    Bench       the parts without their threads: a test claims, runs, stores and flushes by hand,
                so that everything happens in the order that the test says
    Workshop    the whole keeper in a thread of the test, with its chain threads and writers

Links are functions of the test: link("name", function). The supervisor and the coordinator are the
other ends of the worker's sockets.
"""

from __future__ import annotations

import os
import threading
import uuid as uuidlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import orjson
import structlog

from conserver.config.model import ChainConfig, Config, LinkConfig, StorageConfig
from conserver.config.settings import Settings
from conserver.plugins.loader import LoadedLink, LoadedStorage, Plugins
from conserver.process import wakeup
from conserver.process.boot import Boot
from conserver.process.messages import pair, receive, send
from conserver.process.shared_status import SharedStatus
from conserver.queue import calls
from conserver.queue import clients as connection
from conserver.queue.retrying_connection import RetryingConnection
from conserver.vcon.document import Vcon
from conserver.worker.chain import ChainRunner, Checkpoint
from conserver.worker.documents import Documents
from conserver.worker.intake import Intake
from conserver.worker.item import Item
from conserver.worker.loop import WorkerLoop
from conserver.worker.outbox import Outbox
from conserver.worker.outcomes import OutcomeHandler
from conserver.worker.pool import Backlog, ChainPool
from conserver.worker.routes import Routes
from conserver.worker.writers import Report, Writer
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
        module="straw",
        run=lambda vcon, _options, context: run(vcon, context),
        options=None,
        **fields,
    )


def tag(vcon: Vcon, _context: Any) -> Vcon:
    """A link that changes something."""
    vcon.add_tag("seen", "yes")
    return vcon


def nothing(vcon: Vcon, _context: Any) -> Vcon:
    """A link that changes nothing."""
    return vcon


def storage(name: str, timeout_s: float = 30.0) -> LoadedStorage:
    """A storage in memory on a shelf of its own name."""
    options = memory.Options(shelf=name, timeout_s=timeout_s)
    return LoadedStorage(
        name=name,
        module="tests.modules.memory",
        make=lambda: memory.Storage(name, options),
        options=options,
    )


class Parts:
    """What a worker is born with, and the other ends of it."""

    def __init__(
        self,
        url: str,
        chains: Mapping[str, Mapping[str, Any]] | None = None,
        links: Sequence[LoadedLink] = (),
        storages: Sequence[LoadedStorage] = (),
        **settings: Any,
    ) -> None:
        """chains: as in a configuration; by default one, "main", from list "in" to "out", with all
        links and storages.
        """
        everything = {
            "links": [one.name for one in links],
            "storages": [one.name for one in storages],
            "ingress_lists": ["in"],
            "egress_lists": ["out"],
        }
        chains = {"main": {}} if chains is None else chains
        config = Config(
            links={one.name: LinkConfig(module="straw") for one in links},
            storages={one.name: StorageConfig(module="straw") for one in storages},
            chains={
                name: ChainConfig.model_validate({**everything, **chain})
                for name, chain in chains.items()
            },
        )
        self.plugins = Plugins(
            {one.name: one for one in links}, {one.name: one for one in storages}
        )
        self.stack = ExitStack()
        self.client: Any = self.stack.enter_context(connection.client(url))
        self.queue = Queue(self.client)
        self.supervisor, supervisor_end = pair()
        self.coordinator, coordinator_end = pair()
        lifeline, self.lifeline_end = os.pipe2(os.O_CLOEXEC)
        self.status = SharedStatus.create(
            "straw"
        )  # never closed: chain threads live as long as the process
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
        self.queue.run(calls.register(self.boot.host, self.boot.consumer, config.ingress))

    def cut_lifeline(self) -> None:
        """The supervisor is gone."""
        if self.lifeline_end >= 0:
            os.close(self.lifeline_end)
            self.lifeline_end = -1

    @property
    def held(self) -> int:
        """How many items Redis says that the worker holds."""
        return int(self.client.hlen(calls.inflight_key(self.boot.consumer)))

    def supply(self, count: int, name: str = "in", **members: Any) -> list[str]:
        """Store documents and push their uuids. Answers the uuids."""
        uuids = [str(uuidlib.uuid4()) for _ in range(count)]
        pipe = self.client.pipeline(transaction=False)
        for uuid in uuids:
            pipe.set(f"vcon:{uuid}", document(uuid, **members))
            pipe.rpush(name, uuid)
        pipe.execute()
        return uuids

    def words_to_coordinator(self) -> list[bytes]:
        """What the worker has told the coordinator since the last time, word by word."""
        words: list[bytes] = []
        while True:
            try:
                words += [bytes((word,)) for word in self.coordinator.recv(64)]
            except BlockingIOError:
                return words

    def out(self, name: str = "out") -> list[str]:
        """An egress list."""
        return [element.decode() for element in self.queue.waiting(name)]


class Bench(Parts):
    """A worker's parts; nothing happens but what the test does. `claim` takes all that waits."""

    def __init__(
        self,
        url: str,
        *arguments: Any,
        before_command: Callable[[Bench, tuple[Any, ...]], None] | None = None,
        **settings: Any,
    ) -> None:
        """before_command: what others do to Redis just before the worker sends these words.

        `idle` says whether its one thread, which is never started, counts as idle.
        """
        self.idle = True
        super().__init__(url, *arguments, **settings)
        self.line = _Line(url, self.status.beat, structlog.get_logger())
        self.line.before = lambda words: before_command(self, words) if before_command else None
        self.stack.callback(self.line.close)
        self.reports: deque[Report] = deque()
        self.writers = {
            name: Writer(loaded, self.reports.append)
            for name, loaded in self.plugins.storages.items()
        }
        self.cancelled: set[str] = set()
        self.runner = ChainRunner(
            self.status, self.checkpoint, lambda item: item.token in self.cancelled
        )
        most_bytes = self.boot.settings.max_document_bytes
        routes = Routes(self.boot.config, self.plugins, most_bytes)
        self.backlog = Backlog({route.name: 1 for route in routes.all}, lambda: None)
        pool = ChainPool(1, self.backlog, self.runner, lambda: None)
        self.documents = Documents(self.line, self.status, self.writers, most_bytes)
        self.intake = Intake(self.boot, routes, self.line, pool, self.documents)
        for route in routes.all:
            self.intake.meter.add(route.name, FAST_S)  # its thread is not started, so never idle
        self.outbox = Outbox(
            self.boot.consumer,
            self.line,
            self.status,
            self.boot.settings.dlq_expiry_s,
            restart=lambda item: self.backlog.put([item]),
            ended=self.intake.forget,
            look_up=self.documents.look_up,
        )
        self.settling = OutcomeHandler(self.outbox, self.status, self.boot.settings, self.writers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()

    def words_to_coordinator(self) -> list[bytes]:
        """What the worker has told it, or is about to."""
        self.intake.wakeups.flush()
        return super().words_to_coordinator()

    def claim(self) -> list[Item]:
        """Claim what waits. Answers what is to be run; what resumes is with its storages."""
        self.coordinator.send(wakeup.WAKE)
        self.intake.hear_the_bell()
        self.look()
        return self.waiting()

    def look(self) -> None:
        """What the keeper does each time around: claim if it is time and there is room."""
        self.backlog._idle = int(self.idle)
        assert self.intake.claim(self.settling)

    def waiting(self) -> list[Item]:
        """Take what waits for a thread."""
        found = self.backlog.take_back(float("inf"))
        return found[::-1]

    def one(self) -> Item:
        """Claim exactly one item that is to be run."""
        [item] = self.claim()
        return item

    def run(self, *items: Item) -> None:
        """Run items through their links and hand them back."""
        for item in items:
            self.runner.run(item)
            self.settling.finished(item)

    def flush(self) -> None:
        """Send what waits, as often as one thing follows from another."""
        self.outbox.flush()
        while self.outbox.waiting:
            self.outbox.flush()

    def store(self) -> None:
        """Hand over to the writers, and take in one answer of theirs; then send what follows."""
        self.flush()
        self.settling.flush()
        self.hear()
        self.flush()

    def hear(self) -> Report:
        """Take in one report."""
        eventually(lambda: self.reports)
        report = self.reports.popleft()
        if report.looked_up is not None:
            self.documents.looked_up(report)
        else:
            self.settling.reported(report)
        return report

    def work_off(self) -> None:
        """Run and send all that has been claimed."""
        self.run(*self.waiting())
        self.flush()

    def work(self) -> None:
        """Claim, run and send all that waits, without storages."""
        while items := self.claim():
            self.run(*items)
            self.flush()

    def checkpoint(self, item: Item) -> None:
        """What the keeper does for a chain thread, in this one."""
        item.pack()
        checkpoint = Checkpoint()
        self.settling.checkpoint(item, checkpoint)
        self.flush()
        while not checkpoint.done.is_set():  # its document is looked up
            self.hear()
            self.flush()
        if checkpoint.error is not None:
            raise checkpoint.error


class _Line(RetryingConnection):
    """The worker's line, with a moment before each command."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.before: Callable[[tuple[Any, ...]], None] = lambda _words: None

    def _once(self, words: tuple[Any, ...]) -> Any:
        self.before(words)
        return super()._once(words)


class Workshop(Parts):
    """The keeper at work, in a thread."""

    def __init__(self, url: str, *arguments: Any, **settings: Any) -> None:
        super().__init__(url, *arguments, **settings)
        self.loop = WorkerLoop(self.boot, self.plugins)
        self.failure: BaseException | None = None
        self.code: int | None = None
        self._thread = threading.Thread(target=self._live, name="keeper", daemon=True)

    def _live(self) -> None:
        try:
            self.code = self.loop.run()
        except BaseException as error:  # handed to the test by `end`  # noqa: BLE001
            self.failure = error

    def start(self) -> Self:
        """Let it work."""
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
                assert self.end() == 0
        finally:
            self.leave()

    def leave(self) -> None:
        """End it, whatever state it is in, and give everything back."""
        self.cut_lifeline()
        if self._thread.ident is not None:
            self._thread.join(10)
        self.loop._line.close()
        self.stack.close()

    def tell_to_drain(self) -> None:
        """The supervisor's order."""
        send(self.supervisor, {"type": "drain"})

    def end(self) -> int | None:
        """Order it to drain and wait for its end. Raises what it died of."""
        self.tell_to_drain()
        return self.joined()

    def joined(self) -> int | None:
        """Wait for its end. Answers its exit code, or raises what it died of."""
        self.joined_or_gone()
        if self.failure is not None:
            raise self.failure
        return self.code

    def joined_or_gone(self) -> None:
        """Wait for its end, however it comes."""
        self._thread.join(20)
        assert not self._thread.is_alive(), "it did not end"

    @contextmanager
    def beside(self, url: str) -> Iterator[Any]:
        """An operator's connection of its own."""
        with connection.client(url) as client:
            yield client

    def told(self) -> list[str]:
        """What it has told the supervisor since the last time."""
        return [message["type"] for message in receive(self.supervisor)]


def document(uuid: str, **members: Any) -> bytes:
    """A small vCon."""
    return orjson.dumps(vcon(uuid, **members))
