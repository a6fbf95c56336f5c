"""Model and scripts side by side: what one says, the other does, step by step, on a real Redis.

Hypothesis plays producers, workers, supervisors, coordinators, other tools and a bad network. Every
call that was ever made may be made again at any time, also one that never arrived, also by the
dead. After each step all keys are compared with the model, and the model with its invariant: each
item in exactly one place. At the end everything that still lives is run to its end.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from conserver.process.messages import Blame, Blamed
from conserver.queue import calls, host_calls, operator_calls, script
from conserver.queue.calls import ClaimLimits, Demand, Move, Settlement, Write
from conserver.queue.operator_calls import Submission
from conserver.queue.record import Claimed, Source
from tests.property.queue_model import ENDS, VOID, Document, Host, Item, QueueModel
from tests.queues import Queue, as_record, opened, payloads

LISTS = ("a", "b")
HOSTS = ("h1", "h2")
MANY_JOBS = 10_000
UUIDS = ("u0", "u1", "u2")
MAX_DELIVERIES = 1
PARKED_CAP = 3
LIMITS = ClaimLimits(parked_cap=PARKED_CAP)
EXAMPLES = int(os.environ.get("CONSERVER_TEST_EXAMPLES", "40"))
STEPS = int(os.environ.get("CONSERVER_TEST_STEPS", "50"))

_FLAGS = re.compile(rb"\x01\S+ (\d+) \d+ (\S+) \d+ (\d+) (-?\d+) ")

lists = st.sampled_from(LISTS)
uuids = st.sampled_from(UUIDS)
pick = st.integers(0, 10**6)


@dataclass(eq=False)
class Worker:
    """What a worker knows. `outstanding`: a claim that was sent and not answered yet."""

    id: str
    host: str
    number: int = 0
    writes: int = 0
    word: dict[str, Item] = field(default_factory=dict)  # by token; copies, as claimed
    running: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    outstanding: Callable[[], Any] | None = None
    alive: bool = True


@dataclass(eq=False)
class Order:
    """A return that a coordinator has to see through."""

    host: str
    consumer: str
    blame: Blame


class QueueMachine(RuleBasedStateMachine):
    """See the module. A `_do_` method makes one call, of Redis and of the model, and compares."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self.queue = queue
        queue.client.flushall()
        self.model = QueueModel(LISTS, PARKED_CAP)
        self.workers: list[Worker] = []
        self.orders: list[Order] = []
        self.history: list[Callable[[], Any]] = []
        self.revisions: dict[str, int] = {}
        self.beats = dict.fromkeys(HOSTS, 0)
        self.bodies = 0
        self.consumers = 0
        self.jobs = 0

    # ---- calls -----------------------------------------------------------------------------

    def _send(self, do: Callable[..., Any], *args: Any) -> Any:
        """Make a call now; it may come again at any time."""
        call = partial(do, *args)
        self.history.append(call)
        return call()

    def _do_register(self, host: str, consumer: str) -> None:
        self.queue.run(host_calls.register(host, consumer, LISTS))
        self.model.register(host, consumer)

    def _do_beat(self, host: str, value: str) -> None:
        answer = host_calls.read_registrations(self.queue.run(host_calls.beat(host, value, {})))
        expected = self.model.beat(host, value)
        assert answer == {c: "void" if n == VOID else str(n) for c, n in expected.items()}

    def _do_claim(
        self, host: str, consumer: str, number: int, empty: bool, most: int
    ) -> list[Item] | None:
        """The items, None when void."""
        demands = [Demand(name, most) for name in LISTS]
        call = calls.claim(host, consumer, number, empty, demands, LIMITS)
        found = calls.read_claim(self.queue.run(call))
        kind, more, suspects, items = self.model.claim(
            host,
            consumer,
            number,
            empty,
            [(name, most) for name in LISTS],
            [item.token for item in found.items],
        )
        assert (found.void, found.late) == (kind == "void", kind == "late")
        assert (found.more, found.suspects) == (more, suspects)
        by_token = {item.token: item for item in items}
        assert {item.token for item in found.items} == set(by_token)
        for claimed in found.items:
            item = by_token[claimed.token]
            assert (claimed.payload, claimed.state) == (item.payload, item.state)
            assert (claimed.suspect, claimed.deaths) == (item.suspect, item.deaths)
            self._check_document(claimed, item)
        return None if found.void else [self._copy(item) for item in items]

    def _copy(self, item: Item) -> Item:
        document = self.model.documents.get(item.payload.decode(), Document())
        return Item(item.id, item.payload, item.token, epoch=item.epoch, revision=document.revision)

    def _check_document(self, claimed: Claimed, item: Item) -> None:
        if claimed.payload[:1] == b"{":
            assert claimed.source is Source.INLINE
            return
        uuid = claimed.payload.decode()
        document = self.model.documents.setdefault(uuid, Document())
        if document.body is None:
            assert claimed.source is Source.MISSING
            return
        assert (claimed.source, claimed.length) == (Source.STORED, len(document.body))
        assert claimed.text in (b"", document.body)
        self._learn(uuid, document, claimed.revision, bool(item.state))
        assert claimed.replaced == (bool(item.state) and document.replaced > item.revision)

    def _learn(
        self, uuid: str, document: Document, revision: int, seen_before: bool = False
    ) -> None:
        """A document that is not ours any more gets a new revision; one that is keeps its own."""
        if document.ours and document.revision:
            assert revision == document.revision
        else:
            assert revision > self.revisions.get(uuid, 0)
        if document.replaces or (not document.ours and (seen_before or uuid in self.revisions)):
            document.replaced = revision
        document.revision, document.ours, document.replaces = revision, True, False
        self.revisions[uuid] = revision

    def _do_begin(self, consumer: str, token: str, epoch: int) -> int:
        answer = int(self.queue.run(calls.begin(consumer, token, epoch)))
        assert answer == self.model.begin(consumer, token, epoch)
        return answer

    def _do_write(self, consumer: str, number: int, entry: Write) -> calls.Answer:
        [answer] = calls.read_answers(self.queue.run(calls.write(consumer, number, [entry])))
        assert answer.kind == self.model.write(consumer, number, entry)
        if answer.kind == "written":
            item = self.model.held[consumer][entry.token][1]
            if item.revision == 0 and entry.uuid:
                self._learn(entry.uuid, self.model.documents[entry.uuid], answer.revision)
                item.revision = answer.revision
            assert answer.revision == item.revision
        elif answer.kind == "conflict":
            self._check_conflict(entry.uuid, entry.base, answer)
        return answer

    def _check_conflict(self, uuid: str, base: int, answer: calls.Answer) -> None:
        """It says which revision is newer and whether that replaced ours, or that all has gone."""
        assert answer.text is None, "it is read with GET"
        document = self.model.documents[uuid]
        if document.body is None:
            assert answer.revision == calls.ABSENT
        else:
            self._learn(uuid, document, answer.revision, True)
            assert answer.replaced == (document.replaced > base)

    def _do_settle(self, consumer: str, entry: Settlement) -> calls.Answer:
        [answer] = calls.read_answers(self.queue.run(calls.settle(consumer, [entry])))
        assert answer.kind == self.model.settle(consumer, entry)
        document = self.model.documents.setdefault(entry.uuid, Document())
        if answer.kind == "conflict":
            self._check_conflict(entry.uuid, entry.base, answer)
        elif answer.kind == "settled" and entry.body:
            written = int(self.queue.revision(entry.uuid)[b"r"])
            self._learn(entry.uuid, document, written)
        return answer

    def _do_move(self, kind: str, consumer: str, move: Move) -> bytes:
        makers: dict[str, Callable[[], script.Call]] = {
            "release": lambda: calls.move("release", consumer, [move]),
            "park": lambda: calls.move("park", consumer, [move]),
            "dead": lambda: calls.move("dead", consumer, [move], 1000),
        }
        [answer] = self.queue.run(makers[kind]())
        assert answer == self.model.move(kind, consumer, move)
        return bytes(answer)

    def _do_return_items(self, host: str, consumer: str, blame: Blame, most: int) -> int:
        """How many are still held."""
        before = self._sent_back()
        answer = self.queue.run(host_calls.return_items(host, consumer, blame, most))
        order = self._tokens_since(before)
        expected = self.model.return_items(host, consumer, blame, order)
        assert host_calls.Returned(*answer) == host_calls.Returned(*expected)
        assert len(order) <= most
        return int(answer[1]) + int(answer[0])

    def _do_reap(self, host: str, seen_beat: str) -> set[str] | None:
        answer = self.queue.reap(host, seen_beat)
        found = None if answer is None else {consumer.decode() for consumer in answer}
        assert found == self.model.reap(host, seen_beat)
        return found

    def _do_stray(self, consumer: str, answered: int, known: list[str]) -> None:
        before = self._sent_back()
        went = int(self.queue.run(calls.stray(consumer, answered, known)))
        order = self._tokens_since(before)
        assert sorted(order) == sorted(self.model.stray(consumer, answered, known))
        assert went == len(order)
        self.model.strays_went(consumer, order)

    def _do_promote(self, name: str, most: int) -> None:
        before = self._sent_back()
        parked = len(self.model.places[name].parked)
        went = self.queue.promote(name, most)
        order = self._tokens_since(before)
        assert went == len(order) == min(most, parked)
        self.model.promote(name, order)

    def _do_hurry(self, name: str, text: bytes, due_ms: int) -> None:
        """It changes when a parked record is due, and nothing else: above all it parks none."""
        key = f"conserver:parked:{name}"
        before = self.queue.client.zscore(key, text)
        answer = self.queue.run(operator_calls.hurry(name, text, due_ms))
        assert answer == (before is not None and before > due_ms)
        assert self.queue.client.zscore(key, text) == (due_ms if answer else before)
        if answer:
            self.model.hurry(name, as_record(text).token)

    def _do_replay(self, name: str, record: Item, member: bytes) -> None:
        state = b'{"links":["replayed"]}'
        answer = self.queue.run(operator_calls.replay(name, member, record.payload, state))
        assert answer.decode() == self.model.replay(name, record, state)

    def _do_replay_bare(self, name: str, payload: bytes) -> None:
        answer = self.queue.run(operator_calls.replay(name, b"", payload))
        assert answer.decode() == self.model.replay_bare(name, payload)

    def _do_submit(self, entry: Submission) -> None:
        answer = self.queue.run(operator_calls.submit(entry))
        assert answer[0] == self.model.submit(entry)

    def _do_cancel(self, name: str, payload: bytes) -> None:
        answer = int(self.queue.run(operator_calls.cancel(name, payload)))
        assert answer == self.model.cancel(name, payload)

    def _sent_back(self) -> dict[str, list[str]]:
        """The tokens in returned and suspects, which grow at their ends."""
        return {
            key: [as_record(text).token for text in self.queue.client.lrange(key, 0, -1)]
            for name in LISTS
            for key in (f"conserver:returned:{name}", f"conserver:suspects:{name}")
        }

    def _tokens_since(self, before: dict[str, list[str]]) -> list[str]:
        after = self._sent_back()
        assert all(after[key][: len(before[key])] == before[key] for key in after)
        return [token for key in after for token in after[key][len(before[key]) :]]

    # ---- producers, bells, other tools -----------------------------------------------------

    def _body(self, uuid: str) -> bytes:
        self.bodies += 1
        return orjson.dumps({"uuid": uuid, "version": self.bodies})

    @initialize(names=st.lists(st.tuples(lists, uuids), min_size=2, max_size=8))
    def begin_with_some_work(self, names: list[tuple[str, str]]) -> None:
        for uuid in UUIDS[1:]:
            self._produce("a", uuid)
        for name, uuid in names:
            self._push(name, uuid)
        for host in (*HOSTS, HOSTS[0]):
            self._start_a_worker(host)

    @rule(
        what=st.sampled_from(["push", "push", "push_a_document", "produce", "delete", "ring"])
        | st.sampled_from(["another_tool_replays", "pause_or_resume", "resume"])
        | st.sampled_from(["push_a_job", "submit", "submit", "cancel", "job_expires"]),
        name=lists,
        uuid=uuids,
    )
    def the_world(self, what: str, name: str, uuid: str) -> None:
        """Producers, bells, other tools, operators."""
        getattr(self, f"_{what}")(name, uuid)

    def _push(self, name: str, uuid: str) -> None:
        self.queue.push(name, uuid)
        self.model.push(name, uuid.encode())

    def _push_a_job(self, name: str, uuid: str) -> None:
        """By hand; every third time under an id that was used before."""
        self.jobs += 1
        self._push(name, f"{uuid}#j{self.jobs - (self.jobs % 3 == 0)}")

    def _submit(self, name: str, uuid: str) -> None:
        """Two of three have a callback: for every end, or for failures only. Every second one is of
        a token that may have so many jobs at once only.
        """
        self.jobs += 1
        told = ("", "cancelled completed failed filtered", "failed")[self.jobs % 3]
        fields = [("callback_on", told)] if told else []
        most = self.jobs % 2 * MANY_JOBS
        entry = Submission(
            name,
            uuid,
            f"j{self.jobs}",
            self._body(uuid),
            fields=fields,
            api_token="t",
            most_jobs=most,
        )
        self._send(self._do_submit, entry)

    def _cancel(self, name: str, _: str) -> None:
        waiting = self.model.places[name].waiting
        if waiting:
            self._send(self._do_cancel, name, waiting[len(waiting) // 2].payload)

    def _job_expires(self, _: str, uuid: str) -> None:
        known = sorted(self.model.jobs)
        if known:
            job = known[UUIDS.index(uuid) % len(known)]
            self.queue.client.delete(f"conserver:job:{job}")
            self.model.expire_job(job)

    def _push_a_document(self, name: str, uuid: str) -> None:
        body = self._body(uuid)
        self.queue.push(name, body)
        self.model.push(name, body)

    def _produce(self, _: str, uuid: str) -> None:
        body = self._body(uuid)
        self.queue.store(uuid, body)
        self.model.set_document(uuid, body)

    def _delete(self, _: str, uuid: str) -> None:
        self.queue.client.delete(f"vcon:{uuid}")
        self.model.set_document(uuid, None)

    def _ring(self, name: str, _: str) -> None:
        self.queue.client.lmove(name, f"conserver:returned:{name}", "LEFT", "RIGHT")
        self.model.ring(name)

    def _another_tool_replays(self, name: str, _: str) -> None:
        self.queue.client.lmove(f"DLQ:{name}", name, "LEFT", "RIGHT")
        self.model.tool_replays(name)

    def _pause_or_resume(self, name: str, uuid: str) -> None:
        if name in self.model.paused:
            self._resume(name, uuid)
        else:
            self.queue.client.hset("conserver:control", f"paused:{name}", "now")
            self.model.paused.add(name)

    def _resume(self, name: str, _: str) -> None:
        self.queue.client.hdel("conserver:control", f"paused:{name}")
        self.model.paused.discard(name)

    # ---- supervisors and coordinators ----------------------------------------------------------

    @rule(host=st.sampled_from(HOSTS))
    def start_a_worker(self, host: str) -> None:
        if len(self._living()) < 3:
            self._start_a_worker(host)

    def _start_a_worker(self, host: str) -> None:
        self.consumers += 1
        worker = Worker(f"c{self.consumers}", host)
        self._send(self._do_register, host, worker.id)
        self.workers.append(worker)

    @rule(
        what=st.sampled_from(["beat", "reap", "reap_by_a_stale_beat", "compare", "promote"]),
        host=st.sampled_from(HOSTS),
    )
    def a_coordinator(self, what: str, host: str) -> None:
        """What coordinators do again and again."""
        getattr(self, f"_{what}")(host)

    def _beat(self, host: str) -> None:
        self.beats[host] += 1
        self._send(self._do_beat, host, f"beat-{self.beats[host]}")

    def _reap(self, host: str) -> None:
        """Rightly or wrongly: its workers may well live."""
        seen = self.model.hosts.get(host, Host()).beat
        consumers = self._send(self._do_reap, host, seen)
        for consumer in sorted(consumers or ()):
            self.orders.append(Order(host, consumer, Blame("everything")))

    def _reap_by_a_stale_beat(self, host: str) -> None:
        self._send(self._do_reap, host, "some other beat")

    def _compare(self, host: str) -> None:
        """Whoever is registered on a host and does not live is made void."""
        living = {worker.id for worker in self._living()}
        ordered = {order.consumer for order in self.orders}
        for consumer in sorted(self.model.hosts.get(host, Host()).registrations):
            if consumer not in living | ordered:
                self.orders.append(Order(host, consumer, Blame("everything")))

    def _promote(self, host: str) -> None:
        for name in LISTS:
            self._send(self._do_promote, name, 1 if host == HOSTS[0] else 10)

    @rule(which=pick, most=st.integers(1, 3))
    def a_return_goes_on(self, which: int, most: int) -> None:
        if not self.orders:
            return
        order = self.orders[which % len(self.orders)]
        if not self._send(self._do_return_items, order.host, order.consumer, order.blame, most):
            self.orders.remove(order)

    @rule(which=pick)
    def a_call_comes_again(self, which: int) -> None:
        self.history[which % len(self.history)]()

    @rule(back=st.integers(1, 3))
    def a_late_call_comes_again(self, back: int) -> None:
        self.history[-min(back, len(self.history))]()

    # ---- workers ---------------------------------------------------------------------------

    def _living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.alive]

    def _ready(self) -> list[Worker]:
        return [worker for worker in self._living() if worker.outstanding is None]

    def _holder(self, which: int, running: bool | None = None) -> tuple[Worker, Item] | None:
        """A worker and something that it holds by its own word."""
        found = [
            (worker, item)
            for worker in self._ready()
            for token, item in sorted(worker.word.items())
            if running is None or (token in worker.running) == running
        ]
        return found[which % len(found)] if found else None

    def _forget(self, worker: Worker, token: str) -> None:
        worker.word.pop(token, None)
        worker.running.discard(token)

    def _claimed(self, worker: Worker, items: list[Item] | None) -> None:
        worker.outstanding = None
        if items is None:
            self._die(worker, Blame())  # void: it ends, and is replaced under a new name
            return
        worker.word |= {item.token: item for item in items}

    @rule(which=pick, most=st.integers(0, 3), lost=st.integers(0, 5).map(lambda n: n == 5))
    def claim(self, which: int, most: int, lost: bool) -> None:
        living = self._living()
        if living:
            self._claim(living[which % len(living)], most, lost)

    def _claim(self, worker: Worker, most: int, lost: bool) -> None:
        if worker.outstanding is None:
            worker.number += 1
            empty = not worker.word
            call = partial(self._do_claim, worker.host, worker.id, worker.number, empty, most)
            self.history.append(call)
            worker.outstanding = call
        items = worker.outstanding()
        if not lost:
            self._claimed(worker, items)

    @rule(which=pick, count=st.integers(1, 4))
    def workers_go_on(self, which: int, count: int) -> None:
        for number in range(which, which + count):
            self._go_on(number)

    def _go_on(self, which: int) -> None:
        """A worker takes the next step of its way: claim, run, then write and settle."""
        living = self._living()
        if not living:
            return
        worker = living[which % len(living)]
        waiting = sorted(set(worker.word) - worker.running)
        if worker.outstanding is not None or not worker.word:
            self._claim(worker, 2, lost=False)
        elif waiting:
            self._run(worker, worker.word[waiting[0]])
        else:
            item = worker.word[min(worker.running)]
            if self._write(worker, item, True, item.revision).kind == "written":
                self._settle(worker, item, False, True)

    @rule(which=pick)
    def run(self, which: int) -> None:
        found = self._holder(which, running=False)
        if found is not None:
            self._run(*found)

    def _run(self, worker: Worker, item: Item) -> None:
        """Links begin; a suspect's only after Redis knows. What has died too often is given up."""
        held = self.model.held.get(worker.id, {}).get(item.token)
        if held is not None and held[1].deaths >= MAX_DELIVERIES:
            self._dead_letter(worker, item)
            return
        suspect = held is not None and held[1].suspect
        if suspect and not self._send(self._do_begin, worker.id, item.token, item.epoch):
            self._forget(worker, item.token)
            return
        worker.running.add(item.token)

    def _dead_letter(self, worker: Worker, item: Item) -> None:
        move = Move(item.token, item.epoch, why=b'{"reason":"poison"}')
        self._send(self._do_move, "dead", worker.id, move)
        self._forget(worker, item.token)

    def _write(self, worker: Worker, item: Item, with_document: bool, base: int) -> calls.Answer:
        uuid = item.payload.decode()
        if item.payload[:1] == b"{":
            uuid = orjson.loads(item.payload)["uuid"]
        worker.writes += 1
        state = b'{"links":["a"]}'
        body = self._body(uuid) if with_document else b""
        entry = Write(
            item.token, item.epoch, uuid if with_document else "", base, "chain", state, body
        )
        answer: calls.Answer = self._send(self._do_write, worker.id, worker.writes, entry)
        if answer.kind == "lost":
            self._forget(worker, item.token)
        elif with_document:
            item.revision = answer.revision
            if answer.kind == "written":
                item.payload = uuid.encode()
        return answer

    @rule(
        what=st.sampled_from(["write", "checkpoint", "settle", "write_and_settle", "filter"]),
        which=pick,
    )
    def work(self, what: str, which: int) -> None:
        """What follows when links have run."""
        found = self._holder(which, running=True)
        if found is None:
            self._go_on(which)
            return
        worker, item = found
        if what == "write":
            self._write(worker, item, True, item.revision)
        elif what == "checkpoint":
            self._write(worker, item, False, item.revision)
        else:
            self._settle(worker, item, what == "write_and_settle", what != "filter")

    def _settle(self, worker: Worker, item: Item, with_document: bool, pushes: bool) -> str:
        uuid = item.payload.decode()
        if item.payload[:1] == b"{":
            uuid, with_document = orjson.loads(item.payload)["uuid"], True
        body = self._body(uuid) if with_document else b""
        entry = Settlement(
            item.token, item.epoch, uuid, item.revision, "chain", body, 1000,
            [("out", uuid)] * pushes, {"s3": f"tag-{self.bodies}"},
            "completed" if pushes else "filtered",
        )  # fmt: skip
        answer: calls.Answer = self._send(self._do_settle, worker.id, entry)
        if answer.kind == "conflict":
            item.revision = answer.revision
        else:
            self._forget(worker, item.token)
        return answer.kind

    @rule(what=st.sampled_from(["release", "park", "dead"]), which=pick, keep=st.booleans())
    def give_up(self, what: str, which: int, keep: bool) -> None:
        found = self._holder(which)
        if found is None or (what == "release" and found[1].token in found[0].running):
            self._go_on(which)
            return
        worker, item = found
        state = b"=" if keep or what == "release" else b'{"attempts":1}'
        move = Move(item.token, item.epoch, state, item.revision, 0, b'{"reason":"broken"}')
        self._send(self._do_move, what, worker.id, move)
        self._forget(worker, item.token)

    @rule(which=pick)
    def forget_and_find(self, which: int) -> None:
        """As after a failover: an item lies under a worker that does not know it."""
        found = self._holder(which)
        if found is None:
            return
        worker, item = found
        self._forget(worker, item.token)
        self._send(self._do_stray, worker.id, worker.number, sorted(worker.word))

    # ---- deaths ----------------------------------------------------------------------------

    def _die(self, worker: Worker, blame: Blame | None) -> None:
        worker.alive = False
        if blame is not None:
            self.orders.append(Order(worker.host, worker.id, blame))

    @rule(
        which=pick, how=st.sampled_from(["crash", "shutdown", "over limit", "unseen", "its host"])
    )
    def die(self, which: int, how: str) -> None:
        living = self._living()
        if not living:
            return
        worker = living[which % len(living)]
        if how == "its host":
            for other in living:
                if other.host == worker.host:
                    self._die(other, None)
            return
        running = [
            Blamed(token, item.epoch)
            for token, item in sorted(worker.word.items())
            if token in worker.running
        ]
        blames = {
            "crash": Blame("items", running),
            "shutdown": Blame(),
            "over limit": Blame("items", [one._replace(counts=True) for one in running[:1]]),
        }
        self._die(worker, blames.get(how))

    @rule(which=pick)
    def crash_and_replace(self, which: int) -> None:
        """A poison: its worker dies of it, all goes back at once, the next worker starts."""
        found = self._holder(which, running=True)
        if found is None:
            self._go_on(which)
            return
        worker, item = found
        order = Order(worker.host, worker.id, Blame("items", [Blamed(item.token, item.epoch)]))
        self._die(worker, None)
        while self._send(self._do_return_items, order.host, order.consumer, order.blame, 64):
            pass
        self._start_a_worker(worker.host)

    @rule(which=pick, kind=st.sampled_from(["claim", "settle", "release", "park", "dead"]))
    def die_with_a_call_on_its_way(self, which: int, kind: str) -> None:
        """It arrives when it likes, or never."""
        ready = self._ready()
        if not ready:
            return
        worker = ready[which % len(ready)]
        if kind == "claim":
            call = partial(self._do_claim, worker.host, worker.id, worker.number + 1, True, 2)
            self.history.append(call)
        elif worker.word:
            item = worker.word[min(worker.word)]
            if kind == "settle" and item.payload[:1] != b"{":
                entry = Settlement(
                    item.token, item.epoch, item.payload.decode(), 0, "chain", b"", 1000,
                    [("out", item.payload.decode())], {},
                )  # fmt: skip
                self.history.append(partial(self._do_settle, worker.id, entry))
            elif kind != "settle":
                move = Move(item.token, item.epoch, b"=", 0, 0, b'{"reason":"late"}')
                self.history.append(partial(self._do_move, kind, worker.id, move))
        self._die(worker, Blame("items", [Blamed(t, worker.word[t].epoch) for t in worker.running]))

    # ---- dead letters ----------------------------------------------------------------------

    def _member(self, name: str, token: str) -> bytes:
        members = self.queue.client.zrange(f"conserver:dead:{name}", 0, -1)
        [found] = [m for m in members if as_record(m.partition(b"\n")[2]).token == token]
        return bytes(found)

    @rule(
        what=st.sampled_from(["replay", "replay", "replay_bare", "sweep", "hurry", "hurry"]),
        name=lists,
        which=pick,
    )
    def an_operator(self, what: str, name: str, which: int) -> None:
        getattr(self, f"_{what}")(name, which)

    def _replay(self, name: str, which: int) -> None:
        reasons = self.model.places[name].reasons
        if reasons:
            token = sorted(reasons)[which % len(reasons)]
            member = self._member(name, token)
            self._send(self._do_replay, name, replace(reasons[token]), member)

    def _replay_bare(self, name: str, which: int) -> None:
        there = self.model.places[name]
        told = Counter(item.payload for item in there.reasons.values())
        bare = sorted((Counter(payloads_of(there.dead)) - told).elements())
        if bare:
            self._send(self._do_replay_bare, name, bare[which % len(bare)])

    def _hurry(self, name: str, which: int) -> None:
        parked = self.queue.client.zrange(f"conserver:parked:{name}", 0, -1)
        if parked:
            self._send(self._do_hurry, name, parked[which % len(parked)], which % 3)

    def _sweep(self, name: str, which: int) -> None:
        """All but the newest reasons are too old."""
        key = f"conserver:dead:{name}"
        members = self.queue.client.zrange(key, 0, -1)
        old = members[: max(0, len(members) - which % 3)]
        went = self.queue.run(host_calls.sweep(name, -1000, len(old)))
        assert went == len(old)
        self.model.sweep(name, [as_record(m.partition(b"\n")[2]).token for m in old])

    # ---- what must hold --------------------------------------------------------------------

    @invariant()
    def each_item_is_in_one_place(self) -> None:
        self.model.check()

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        queue, model = self.queue, self.model
        for name, there in model.places.items():
            assert queue.waiting(name) == payloads_of(there.waiting)
            assert [seen(r) for r in queue.returned(name)] == [seen(i) for i in there.returned]
            assert [seen(r) for r in queue.suspects(name)] == [seen(i) for i in there.suspects]
            assert sorted(map(seen, queue.parked(name))) == sorted(map(seen, there.parked))
            assert queue.dead(name) == payloads_of(there.dead)
            reasons = {record.token: seen(record) for _, record in queue.reasons(name)}
            assert reasons == {token: seen(item) for token, item in there.reasons.items()}
        assert queue.waiting("out") == model.egress
        for worker in self.workers:
            self._compare_held(worker.id)
        for host in HOSTS:
            self._compare_host(host)
        assert queue.client.smembers("conserver:hosts") == {h.encode() for h in model.known_hosts}
        for uuid, document in model.documents.items():
            assert queue.client.get(f"vcon:{uuid}") == document.body
        found = {
            key.decode().removeprefix("conserver:job:"): queue.client.hget(key, "status").decode()
            for key in queue.client.scan_iter("conserver:job:*", count=1000)
        }
        assert found == model.jobs
        assert {
            job.decode() for job in queue.client.zrange("conserver:open:t", 0, -1)
        } == model.open
        told = [
            orjson.loads(payload)["notification"]
            for payload in queue.client.lrange("conserver:notifications", 0, -1)
        ]
        assert [(one["job"], one["status"]) for one in told] == model.notified

    def _compare_held(self, consumer: str) -> None:
        found = {}
        for token, text in self.queue.client.hgetall(f"conserver:inflight:{consumer}").items():
            match = _FLAGS.match(text)
            assert match is not None
            epoch, flags, write, revision = match.groups()
            found[token.decode()] = (
                seen(as_record(text)), int(epoch), b"b" in flags, int(write), int(revision)
            )  # fmt: skip
        expected = {
            token: (seen(item), item.epoch, item.begun, item.write, item.revision)
            for token, (_, item) in self.model.held.get(consumer, {}).items()
        }
        assert found == expected

    def _compare_host(self, host: str) -> None:
        found = self.queue.client.hgetall(f"conserver:host:{host}")
        there = self.model.hosts.get(host)
        if there is None:
            assert found == {}
            return
        expected = {f"consumer:{c}": number for c, number in there.registrations.items()}
        fields = {
            key.decode(): VOID if value == b"void" else int(value)
            for key, value in found.items()
            if key.startswith(b"consumer:")
        }
        assert fields == expected
        assert found.get(b"beat", b"").decode() == there.beat
        running = found.get(b"suspect", b"").decode()
        assert running == " ".join(there.suspect or ())

    def teardown(self) -> None:
        """Everybody dies, and one worker that lives finishes what there is."""
        for name in LISTS:
            self._resume(name, "")
        for worker in self._living():
            self._die(worker, None)
        for host in HOSTS:
            self._forget_host(host)
        for name in LISTS:
            self._do_promote(name, 1000)
        self.consumers += 1
        last = Worker(f"c{self.consumers}", "h3")
        self._do_register("h3", last.id)
        self.workers = [last]
        while self._finish_some(last):
            pass
        for there in self.model.places.values():
            assert there.everywhere() == there.dead
        assert set(self.model.jobs.values()) <= ENDS, "a job has not ended with its item"
        self.model.check()
        self.redis_is_as_the_model_says()

    def _forget_host(self, host: str) -> None:
        """As other hosts' coordinators do with a dead one."""
        while host in self.model.hosts:
            consumers = self._do_reap(host, self.model.hosts[host].beat)
            for consumer in sorted(consumers or ()):
                while self._do_return_items(host, consumer, Blame("everything"), 64):
                    pass

    def _finish_some(self, worker: Worker) -> bool:
        worker.number += 1
        items = self._do_claim(worker.host, worker.id, worker.number, True, 100)
        assert items is not None
        for item in items:
            held = self.model.held[worker.id][item.token][1]
            if held.deaths >= MAX_DELIVERIES:
                self._dead_letter(worker, item)
                continue
            if held.suspect:
                assert self._do_begin(worker.id, item.token, item.epoch) == 1
            while self._settle(worker, item, with_document=True, pushes=True) == "conflict":
                pass
        return bool(items)


def payloads_of(items: list[Item]) -> list[bytes]:
    """Their payloads."""
    return [item.payload for item in items]


def seen(record: Any) -> tuple[str, bytes, int, bool, bytes]:
    """What a record shows wherever it lies, of a record or of the model's item."""
    return (record.token, record.payload, record.deaths, record.suspect, record.state)


@pytest.mark.timeout(60 + 10 * EXAMPLES)  # a failure takes long to be made small
def test_model_and_scripts_agree(redis_url: str) -> None:
    with opened(redis_url) as queue:
        run_state_machine_as_test(
            cast("type[QueueMachine]", lambda: QueueMachine(queue)),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_a_retry_that_arrives_late_does_not_put_an_item_in_two_places(redis_url: str) -> None:
    with opened(redis_url) as queue:
        machine = QueueMachine(queue)
        machine._start_a_worker("h1")
        machine._push_a_job("a", "u0")
        machine._go_on(0)
        machine.give_up("park", 0, keep=False)
        machine._hurry("a", 2)
        machine._hurry("a", 1)
        machine._promote("h2")
        for call in machine.history[-4:-2]:  # Both retries again; the item is returned by now.
            call()
        machine.each_item_is_in_one_place()
        machine.redis_is_as_the_model_says()
        assert payloads(queue.returned("a")) == [b"u0"]


def test_the_model_starts_as_empty_as_redis(redis_url: str) -> None:
    with opened(redis_url) as queue:
        machine = QueueMachine(queue)
        machine.redis_is_as_the_model_says()
        assert payloads(queue.returned()) == []
