"""What tests say to the queue: a Queue that runs calls and looks into every place, and Consumers.

A Consumer keeps what a worker keeps (its number, what it holds), so that a test reads as a story:
`one.claim()`, `one.settle(item)`, `queue.return_items(one)`. It remembers its last call, because
half
of the tests here are about the same call once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis

from conserver.process.messages import Blame
from conserver.queue import calls, host_calls, operator_calls, script
from conserver.queue import clients as connection
from conserver.queue.calls import Answer, Claim, ClaimLimits, Demand
from conserver.queue.host_calls import Returned
from conserver.queue.record import Claimed, parse
from conserver.queue.script import Call
from conserver.worker.item import ChainOutcome
from conserver.worker.refusals import refusal

FAR_MS = 7_258_118_400_000
NEWEST = 9_000_000_000_000_000  # a revision that no document will have
DEFAULT_LIMITS = ClaimLimits(etags=1)
NOBODY = Blame()


def document(uuid: str, **members: Any) -> bytes:
    """A small vCon with that uuid."""
    return orjson.dumps({"uuid": uuid, "vcon": "0.3.0", **members})


def as_record(text: bytes) -> Claimed:
    """A record, or a bare payload as a record without a token."""
    try:
        return parse(text)
    except ValueError:
        return Claimed("", 0, 0, False, 0, "", b"", text)


def payloads(records: Sequence[Claimed]) -> list[bytes]:
    """Their payloads, in order."""
    return [record.payload for record in records]


class Queue:
    """Runs calls, and looks into every place that an item can be in."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client

    def run(self, call: Call) -> Any:
        """Send one call and give its raw answer."""
        return script.run(self.client, call)

    def push(self, name: str, *items: bytes | str) -> None:
        """What a producer does."""
        self.client.rpush(name, *items)

    def store(self, uuid: str, body: bytes | None = None) -> bytes:
        """What a producer does before it pushes a uuid. Gives the document."""
        body = body or document(uuid)
        self.client.set(f"vcon:{uuid}", body)
        return body

    def make_key(self, key: str, kind: str) -> None:
        """A key of a type that should not be there."""
        words = {
            "string": ("SET", key, "text"),
            "hash": ("HSET", key, "field", "value"),
            "set": ("SADD", key, "member"),
            "zset": ("ZADD", key, 1, "member"),
            "stream": ("XADD", key, "*", "field", "value"),
            "list": ("RPUSH", key, "item"),
        }
        self.client.execute_command(*words[kind])

    def supply(self, name: str, *uuids: str) -> None:
        """Store a document for each uuid and push it."""
        for uuid in uuids:
            self.store(uuid)
        self.push(name, *uuids)

    def return_items(
        self,
        consumer: Consumer,
        blame: Blame = NOBODY,
        most: int = host_calls.RETURN_BATCH,
        keep_s: int = 0,
    ) -> Returned:
        """One call of return.lua for a consumer that is dead."""
        call = host_calls.return_items(consumer.host, consumer.id, blame, most, keep_s)
        return Returned(*self.run(call))

    def promote(self, name: str, most: int = 100, everything: bool = True) -> int:
        """Send parked records of a list back to work; how many."""
        return int(self.run(host_calls.promote(name, most, everything)))

    def reap(self, host: str, seen_beat: str = "") -> list[bytes] | None:
        """Declare a host dead; its consumers, or None while it lives."""
        answer = self.run(host_calls.reap(host, seen_beat))
        return None if answer is None else list(answer)

    def replay(self, name: str, state: bytes = b"") -> str:
        """Replay the oldest dead letter that has a record."""
        [member] = self.client.zrange(f"conserver:dead:{name}", 0, 0)
        return self.replay_member(name, member, state)

    def replay_member(
        self, name: str, member: bytes, state: bytes = b"", payload: bytes = b""
    ) -> str:
        """Replay one dead letter by its record."""
        payload = payload or parse(member.partition(b"\n")[2]).payload
        return bytes(self.run(operator_calls.replay(name, member, payload, state))).decode()

    def suspect(self, payload: str, name: str = "q", *, deaths: int = 0) -> None:
        """Put a suspect there, as return.lua would."""
        text = record(f"token-{payload}", payload, name, flags="s", deaths=deaths)
        self.client.rpush(f"conserver:suspects:{name}", text)

    # ---- looking ----

    def waiting(self, name: str = "q") -> list[bytes]:
        """The ingress list."""
        return list(self.client.lrange(name, 0, -1))

    def returned(self, name: str = "q") -> list[Claimed]:
        """What came back, in the order in which it is claimed."""
        return [as_record(text) for text in self.client.lrange(f"conserver:returned:{name}", 0, -1)]

    def suspects(self, name: str = "q") -> list[Claimed]:
        """What is run alone, in order."""
        return [as_record(text) for text in self.client.lrange(f"conserver:suspects:{name}", 0, -1)]

    def parked(self, name: str = "q") -> list[Claimed]:
        """What waits for its time, the earliest first."""
        return [as_record(text) for text in self.client.zrange(f"conserver:parked:{name}", 0, -1)]

    def dead(self, name: str = "q") -> list[bytes]:
        """The dead letters' payloads."""
        return list(self.client.lrange(f"DLQ:{name}", 0, -1))

    def reasons(self, name: str = "q") -> list[tuple[dict[str, Any], Claimed]]:
        """Why they died, with their records."""
        found = []
        for member in self.client.zrange(f"conserver:dead:{name}", 0, -1):
            why, _, record = member.partition(b"\n")
            found.append((orjson.loads(why), parse(record)))
        return found

    def held(self, consumer: str) -> list[Claimed]:
        """What a consumer has in flight."""
        found = self.client.hgetall(f"conserver:inflight:{consumer}")
        return [parse(text) for text in found.values()]

    def registration(self, consumer: Consumer) -> bytes | None:
        """The number of its last claim, b"void", or None."""
        value: bytes | None = self.client.hget(
            f"conserver:host:{consumer.host}", f"consumer:{consumer.id}"
        )
        return value

    def places(self, *names: str) -> Counter[tuple[str, bytes]]:
        """(place, payload) of every item of these lists; settled ones are gone."""
        found: Counter[tuple[str, bytes]] = Counter()
        for name in names or ("q",):
            for place, items in (
                ("waiting", self.waiting(name)),
                ("returned", payloads(self.returned(name))),
                ("suspects", payloads(self.suspects(name))),
                ("parked", payloads(self.parked(name))),
                ("dead", self.dead(name)),
            ):
                found.update((place, payload) for payload in items)
        for key in self.client.scan_iter("conserver:inflight:*"):
            for text in self.client.hvals(key):
                record = parse(text)
                if record.list in (names or ("q",)):
                    found[("held", record.payload)] += 1
        return found

    def revision(self, uuid: str) -> dict[bytes, bytes]:
        """The revision hash of a document."""
        return dict(self.client.hgetall(f"conserver:revision:{uuid}"))

    def expires_ms(self, uuid: str) -> int:
        """When a document expires, in ms since 1970; -1 never, -2 when it is not there."""
        return self.key_expires_ms(f"vcon:{uuid}")

    def key_expires_ms(self, key: str) -> int:
        """The same for any key; PEXPIRETIME came with Redis 7 only."""
        left: int = self.client.pttl(key)
        if left < 0:
            return left
        return self.now_ms() + left

    def now_ms(self) -> int:
        """Redis's clock, in ms since 1970."""
        seconds, microseconds = self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def everything(self) -> dict[bytes, Any]:
        """Every key and what it holds: two equal answers mean that nothing has happened."""
        readers = {
            b"string": self.client.get,
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"set": self.client.smembers,
            b"hash": self.client.hgetall,
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
        }
        return {
            key: readers[self.client.type(key)](key) for key in sorted(self.client.scan_iter("*"))
        }


@dataclass
class Consumer:
    """A worker's side of the protocol: its numbers, and what it holds by its own word."""

    queue: Queue
    id: str = "c1"
    host: str = "h1"
    lists: tuple[str, ...] = ("q",)
    max_deliveries: int = 3
    limits: ClaimLimits = DEFAULT_LIMITS
    number: int = 0
    writes: int = 0
    holds: dict[str, Claimed] = field(default_factory=dict)
    last: Call | None = None

    def __post_init__(self) -> None:
        self.queue.run(host_calls.register(self.host, self.id, self.lists))

    def send(self, call: Call) -> Any:
        """Run a call and remember it."""
        self.last = call
        return self.queue.run(call)

    def again(self) -> Any:
        """The last call once more, as after a lost answer."""
        assert self.last is not None
        return self.queue.run(self.last)

    def claim(
        self, most: int = 10, *, number: int | None = None, empty: bool | None = None
    ) -> Claim:
        """Claim up to `most` items of each list, under the next number unless one is given."""
        self.number = self.number + 1 if number is None else number
        call = calls.claim(
            self.host,
            self.id,
            self.number,
            not self.holds if empty is None else empty,
            [Demand(name, most) for name in self.lists],
            self.limits,
        )
        claim = calls.read_claim(self.send(call))
        self.holds |= {item.token: item for item in claim.items}
        return claim

    def take(self, count: int = 1) -> list[Claimed]:
        """Claim exactly `count` items."""
        items = self.claim(count).items
        assert len(items) == count
        return items

    def one(self) -> Claimed:
        """Claim exactly one item."""
        [item] = self.take()
        return item

    def write(
        self,
        item: Claimed,
        body: bytes = b"",
        *,
        uuid: str = "",
        base: int | None = None,
        chain: str = "chain",
        state: bytes = b"",
    ) -> Answer:
        """Write a document (if there is one) and the progress of one item."""
        self.writes += 1
        base = item.revision if base is None else base
        uuid = (uuid or item.payload.decode()) if body else uuid
        entry = calls.Write(item.token, item.epoch, uuid, base, chain, state, body)
        [answer] = calls.read_answers(self.send(calls.write(self.id, self.writes, [entry])))
        if answer.kind == "written" and body:
            item.revision, item.payload = answer.revision, uuid.encode()
        return answer

    def settlement(
        self,
        item: Claimed,
        *pushes: str,
        body: bytes = b"",
        uuid: str = "",
        expiry_s: int = 0,
        etags: Mapping[str, str] | None = None,
        status: str = "completed",
    ) -> calls.Settlement:
        """One item's end: its uuid goes to each of `pushes`."""
        uuid = uuid or item.payload.decode()
        pairs = [(name, uuid) for name in pushes]
        return calls.Settlement(
            item.token,
            item.epoch,
            uuid,
            item.revision,
            "chain",
            body,
            expiry_s,
            pairs,
            dict(etags or {}),
            status,
        )

    def settle(self, item: Claimed, *pushes: str, **rest: Any) -> Answer:
        """End one item."""
        return self.settle_all([self.settlement(item, *pushes, **rest)])[0]

    def settle_all(self, settlements: Sequence[calls.Settlement]) -> list[Answer]:
        """End several items in one call."""
        answers = calls.read_answers(self.send(calls.settle(self.id, settlements)))
        for entry, answer in zip(settlements, answers, strict=True):
            if answer.kind in ("settled", "lost"):
                self.holds.pop(entry.token, None)
        return answers

    def release(self, *items: Claimed) -> list[bytes]:
        """Give back; the last one named becomes the first of its list."""
        return self._moved(
            items, calls.move("release", self.id, [calls.Move(i.token, i.epoch) for i in items])
        )

    def park(self, *items: Claimed, after_ms: int = 60_000, state: bytes = b"=") -> list[bytes]:
        """Put aside."""
        moves = [calls.Move(i.token, i.epoch, state, i.revision, after_ms) for i in items]
        return self._moved(items, calls.move("park", self.id, moves))

    def dead_letter(
        self, *items: Claimed, why: str = "broken", keep_s: int = 0, state: bytes = b"="
    ) -> list[bytes]:
        """Dead-letter."""
        reason = orjson.dumps({"reason": why})
        moves = [calls.Move(i.token, i.epoch, state, i.revision, why=reason) for i in items]
        return self._moved(items, calls.move("dead", self.id, moves, keep_s))

    def refuse(self, item: Claimed) -> ChainOutcome:
        """Dead-letter an item that must not run, as a worker does. Says why."""
        refused = refusal(item, self.max_deliveries, self.limits.payload_bytes)
        assert refused is not None
        self.dead_letter(item, why=refused.reason)
        return refused

    def begin(self, item: Claimed) -> int:
        """Mark a suspect as begun."""
        return int(self.send(calls.begin(self.id, item.token, item.epoch)))

    def stray(self, answered: int | None = None) -> int:
        """Give back what Redis says is held and this consumer does not know."""
        answered = self.number if answered is None else answered
        return int(self.send(calls.stray(self.id, answered, list(self.holds))))

    def _moved(self, items: Sequence[Claimed], call: Call) -> list[bytes]:
        answers = list(self.send(call))
        for item, answer in zip(items, answers, strict=True):
            if answer in (b"moved", b"lost"):
                self.holds.pop(item.token, None)
        return answers


def record(
    token: str,
    payload: bytes | str,
    name: str = "q",
    *,
    flags: str = "-",
    deaths: int = 0,
    state: bytes = b"",
    revision: int = NEWEST,
) -> bytes:
    """A record's text, written by hand: what prelude.lua must understand. revision: of the document
    that state is about; NEWEST is whatever is there.
    """
    body = payload.encode() if isinstance(payload, str) else payload
    numbers = f"0 {revision} {len(state)}"
    header = f"\x01{token} 1 {deaths} {flags} 1700000000000 {numbers} {name}\n"
    return header.encode() + state + body


@contextmanager
def opened(url: str) -> Iterator[Queue]:
    """A Queue on a connection of its own."""
    client = connection.client(url)
    try:
        yield Queue(client)
    finally:
        client.close()
